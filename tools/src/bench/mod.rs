//! `ringway bench`: how long messages take, and how many there are in a second, between real processes.
//!
//! ```text
//! ringway bench ──starts──▶ ringway serve, unless --dir names a running broker
//!       │  └─────starts──▶ sweeper: removes what was made, however the bench ends
//!       ├────────starts──▶ consumers, producers; tells them when to begin
//!       ◀── what they sent and saw ──┘
//! ```
//!
//! 1. Open loop: when each message is due is known before the first is sent (`schedule`), and latencies count from there.
//! 2. Every message is accounted for; a bench that lost one, or got it twice or out of order, fails and gives no figures.
//! 3. Whatever ends the bench, its processes end, and what it made is removed (`ground`).

mod ground;
mod plan;
mod report;
mod roles;
mod schedule;
mod stamp;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use self::ground::Ground;
pub(crate) use self::ground::sweep;
use self::plan::{Amount, Case, Plan};
use self::report::Report;
pub(crate) use self::roles::run as run_role;
use self::roles::{END, GO, Part, READY, Received, Sent, Task, now_ns};
use crate::cli::{BenchArgs, BenchCommand, Common};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{self, ProgressLine, count, print, print_json};
use crate::plot::Style;
use crate::processes::{Input, Process};

/// How long a role may take to open the stream.
const OPENING_MAX: Duration = Duration::from_secs(20);
/// From the word to begin until the beginning: everybody has heard it by then.
const BEFORE_START_NS: u64 = 20_000_000;
/// How long each role is listened to in turn.
const LISTEN: Duration = Duration::from_millis(10);
/// How long consumers of a queue may go without acking anything, once all is sent.
const STALLED: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) fn run(args: &BenchArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    let plan = Plan::of(&args.command)?;
    let common = common(&args.command);
    // Before anything is measured: a file that cannot be written is no surprise at the end.
    let hdr = common.hdr.as_deref().map(report::HdrFile::create).transpose()?;
    let interrupt = Interrupt::catch()?;
    let ground = Ground::prepare(&plan, directory, &interrupt)?;
    let measured = measure(&plan, &ground, &interrupt);
    let (directory, is_own) = (ground.connection.directory().to_owned(), ground.is_own);
    let ended = ground.end();
    let (sent, received) = measured?;
    let report = Report::new(plan, (&directory, is_own), &sent, &received)?;
    if let Some(hdr) = hdr {
        hdr.write(&report)?;
    }
    if common.json {
        print_json(&report)?
    } else {
        print(&report.text(Style::of_terminal()))?
    }
    ended
}

fn common(command: &BenchCommand) -> &Common {
    match command {
        BenchCommand::Throughput { common, .. } | BenchCommand::Wake { common, .. } => common,
        BenchCommand::Latency { paced, .. }
        | BenchCommand::Fanout { paced, .. }
        | BenchCommand::Queue { paced, .. } => &paced.common,
    }
}

/// Starts everybody, has them work, and hears what they have to say.
fn measure(
    plan: &Plan,
    ground: &Ground,
    interrupt: &Interrupt,
) -> Result<(Vec<Sent>, Vec<Received>), Failure> {
    let start = |part, index| start(plan, ground, (part, index), interrupt);
    let mut consumers =
        (0..plan.consumers).map(|index| start(Part::Consumer, index)).collect::<Result<Vec<_>, _>>()?;
    let mut producers =
        (0..plan.producers).map(|index| start(Part::Producer, index)).collect::<Result<Vec<_>, _>>()?;
    for role in consumers.iter_mut().chain(&mut producers) {
        match role.line(Some(OPENING_MAX))? {
            line if line == READY => {}
            line => return Err(Failure::new(format!("the {} said: {line}", role.name()))),
        }
    }
    let go = format!("{GO}{}", now_ns() + BEFORE_START_NS);
    consumers.iter_mut().chain(&mut producers).for_each(|role| role.tell(&go));

    let mut progress = Progress::new(plan, ground);
    let sent: Vec<Sent> = gather(&mut producers, &mut consumers, || progress.show())?;
    progress.line.clear();
    let all: u64 = sent.iter().map(|sent| sent.messages).sum();
    let end = if plan.case == Case::Queue {
        settled(plan, ground, interrupt)?;
        0
    } else {
        all
    };
    consumers.iter_mut().for_each(|consumer| consumer.tell(&format!("{END}{end}")));
    let received = gather(&mut consumers, &mut [], || {})?;
    Ok((sent, received))
}

fn start(
    plan: &Plan,
    ground: &Ground,
    (part, index): (Part, u32),
    interrupt: &Interrupt,
) -> Result<Process, Failure> {
    let arguments: [OsString; 5] = [
        "bench-role".into(),
        "--parent".into(),
        std::process::id().to_string().into(),
        "--dir".into(),
        ground.connection.directory().into(),
    ];
    let kind = if part == Part::Producer { "producer" } else { "consumer" };
    let mut process = Process::start(&format!("{kind} {}", index + 1), &arguments, Input::Lines, interrupt)?;
    let task = Task { plan: plan.clone(), part, index };
    let task = serde_json::to_string(&task).map_err(|error| Failure::new(format!("no JSON: {error}")))?;
    process.tell(&task);
    Ok(process)
}

/// The record of each of `roles`, and an error as soon as one of them, or of `others`, has ended without one.
fn gather<T: DeserializeOwned>(
    roles: &mut [Process],
    others: &mut [Process],
    mut meanwhile: impl FnMut(),
) -> Result<Vec<T>, Failure> {
    let mut records: Vec<Option<T>> = roles.iter().map(|_| None).collect();
    while records.iter().any(Option::is_none) {
        meanwhile();
        for (role, record) in roles.iter_mut().zip(&mut records).filter(|(_, record)| record.is_none()) {
            if let Some(line) = role.line_within(LISTEN)? {
                let read = serde_json::from_str(&line);
                *record = Some(read.map_err(|_| Failure::new(format!("the {} said: {line}", role.name())))?);
            }
        }
        for other in &mut *others {
            if let Some(line) = other.line_within(Duration::ZERO)? {
                return Err(Failure::new(format!("the {} said too early: {line}", other.name())));
            }
        }
    }
    Ok(records.into_iter().flatten().collect())
}

/// Waits until every message of the queue has been acked.
fn settled(plan: &Plan, ground: &Ground, interrupt: &Interrupt) -> Result<(), Failure> {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let left = ground.unsettled(plan)?;
        if left == 0 {
            return Ok(());
        }
        if left < least {
            (least, since) = (left, Instant::now());
        } else if since.elapsed() > STALLED {
            return Err(Failure::new(format!("{} not acked within {STALLED:?}", count(left, "message"))));
        }
        if !interrupt.sleep_until(Instant::now() + LISTEN) {
            return Err(Failure::Interrupted);
        }
    }
}

/// How far it is, on a terminal.
struct Progress<'a> {
    line: ProgressLine,
    began: Instant,
    plan: &'a Plan,
    ground: &'a Ground,
    style: Style,
}

impl<'a> Progress<'a> {
    fn new(plan: &'a Plan, ground: &'a Ground) -> Self {
        Self {
            line: ProgressLine::default(),
            began: Instant::now(),
            plan,
            ground,
            style: Style::of_terminal(),
        }
    }

    fn show(&mut self) {
        let Self { line, began, plan, ground, style } = self;
        line.show(|| {
            let published = ground.published(plan).unwrap_or(0);
            let share = match (plan.duration_ns(), plan.amount) {
                (Some(duration), _) => began.elapsed().as_nanos() as f64 / duration as f64,
                (None, Amount::Messages(messages)) => published as f64 / messages as f64,
                (None, Amount::TimeNs(_)) => 0.0,
            };
            let (share, case) = (share.clamp(0.0, 1.0), plan.case.name());
            format!(
                "{case} {:>3.0} % {:<30} {}",
                share * 100.0,
                style.bar(share, 30),
                output::count(published, "message")
            )
        });
    }
}
