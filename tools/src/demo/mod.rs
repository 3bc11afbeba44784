//! `ringway demo`: everything at work in one go, with real processes and a real file.
//!
//! ```text
//! ringway demo ──starts──▶ ringway serve          (in a directory of its own)
//!      │   └─────starts──▶ two consumers, one producer
//!      ├─────starts──▶ two consumers of a queue, and kills one of them, and the broker
//!      ◀── what they saw, at what times ──┘
//! ```
//!
//! The demo is a row of steps on one [`Scene`]; each adds what it proved. Whatever happens, Ctrl-C included, no
//! process and no directory is left behind.

mod input;
mod queue;
mod report;
pub(crate) mod roles;
mod topic;

use std::path::PathBuf;

use self::input::Input;
use self::report::{Place, Proof, Report, Source};
use crate::cli::DemoArgs;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{print, print_json};
use crate::plot::Style;
use crate::processes::{BrokerProcess, own_directory};

/// What the steps share.
struct Scene<'a> {
    input: &'a Input,
    broker: BrokerProcess,
    interrupt: &'a Interrupt,
    style: Style,
    proofs: Vec<Proof>,
}

/// Runs the command.
pub(crate) fn run(args: &DemoArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    let input = Input::read(args.input.as_deref())?;
    let interrupt = Interrupt::catch()?;
    let broker = BrokerProcess::start(directory.unwrap_or_else(|| own_directory("demo")), &interrupt)?;
    let place = Place { directory: broker.directory().display().to_string(), pid: broker.pid() };
    let source = Source { name: input.name.clone(), lines: input.lines, longest_bytes: input.longest_bytes };
    let style = if args.json { Style::OF_JSON } else { Style::of_terminal() };
    let mut scene = Scene { input: &input, broker, interrupt: &interrupt, style, proofs: Vec::new() };

    let topic = topic::plan(&scene);
    let opened = if args.json { Ok(()) } else { print(&report::opening(&source, &place, &topic, style)) };
    let subscribers = topic::run(&mut scene, &topic)?;
    // Where something is wrong already, the next step would only hide it.
    let all_held = scene.proofs.iter().all(|proof| proof.held);
    let queue = if all_held { Some(queue::run(&mut scene)?) } else { None };
    end(&mut scene);

    let proofs = scene.proofs;
    let held = proofs.iter().all(|proof| proof.held);
    let report = Report { held, input: source, broker: place, topic, subscribers, queue, proofs };
    let closed = if args.json { print_json(&report) } else { print(&report::closing(&report, style)) };
    // Whoever closed the output still learns from the exit code whether everything held.
    let broken = report.proofs.iter().filter(|proof| !proof.held).map(|proof| proof.text.as_str());
    match broken.collect::<Vec<_>>().join("; ") {
        none if none.is_empty() => opened.and(closed),
        broken => Err(Failure::new(format!("the demo failed: {broken}"))),
    }
}

/// The last step: nothing is left behind.
fn end(scene: &mut Scene<'_>) {
    scene.proofs.push(match scene.broker.end() {
        Ok(()) => Proof::held("the broker ended when it was told to and left nothing behind"),
        Err(reason) => Proof::failed(reason),
    });
}
