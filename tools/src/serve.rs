//! `ringway serve`: a keeper in this process, and a broker in another, which it starts and succeeds until it is told to end.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use ringway_broker::config::{Config, Origin, Setting, Sources};
use ringway_broker::keeper::{self, GuardError, Notice};
use ringway_broker::{Broker, DirectoryError, Restoring, StartError};
use ringway_client::directory::{default_data_directory, default_directory};
use rustix::event::EventfdFlags;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::ServeArgs;
use crate::exit::{Exit, Failure};
use crate::logging;
use crate::output::{self, ProgressLine, count, is_screen, thousands};

/// How often it is shown how far a start is; one that is over before shows nothing.
const SHOW_EVERY: Duration = Duration::from_millis(300);

/// Runs the command.
pub(crate) fn run(args: &ServeArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    if let Some(parent) = args.end_with_parent {
        end_with_parent(parent, Signal::TERM)?;
    }
    let (config, settings) = load(args, directory)?;
    if args.check {
        return show(&settings, args.json);
    }
    // Caught before anything is made, so that no signal finds something that nobody removes.
    let stop = stop_by_signal()?;
    logging::begin(&config);
    Ok(keeper::serve(&config, &stop, |notice| tell(&notice, &config))?)
}

/// The broker of a keeper, which is at standard input.
pub(crate) fn run_broker() -> Result<(), Failure> {
    let mut signals = catch()?;
    let broker = {
        let restoring = Arc::default();
        let _shown = Shown::of(&restoring);
        Broker::succeed(standard_input()?, &restoring, logging::begin)?
    };
    let stopper = broker.stopper();
    on_signal(move || signals.forever().for_each(|_| stopper.stop()))?;
    broker.wait().map_err(Failure::new)
}

/// The keeper of a broker whose keeper has died; the broker is at standard input.
pub(crate) fn run_keeper() -> Result<(), Failure> {
    let stop = stop_by_signal()?;
    Ok(keeper::guard(standard_input()?, &stop, |notice| match notice {
        Notice::TookOver { config } => logging::begin(&config),
        Notice::Succeeded { ended, broker } => log_succeeded(&ended, broker),
        _ => {}
    })?)
}

fn tell(notice: &Notice, config: &Config) {
    match notice {
        Notice::Ready { .. } => {
            ProgressLine::end_of_another();
            let cores = config.cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
            let (directory, pid) = (config.directory.display(), std::process::id());
            // The broker serves whether or not somebody reads this.
            let _ = output::print(&format!(
                "ringway: serving {directory} (pid {pid}, shards on cores {cores})\n"
            ));
        }
        Notice::Succeeded { ended, broker } => log_succeeded(ended, *broker),
        _ => {}
    }
}

fn log_succeeded(ended: &str, broker: u32) {
    tracing::warn!(ended, pid = broker, "the broker has ended; its successor goes on with all that it held");
}

/// How far a start is, on a terminal, once it takes a while; until it is dropped.
struct Shown {
    is_over: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Shown {
    fn of(restoring: &Arc<Restoring>) -> Self {
        let (is_over, over) = mpsc::channel();
        let restoring = Arc::clone(restoring);
        let show = move || {
            let mut bar = ProgressLine::default();
            while over.recv_timeout(SHOW_EVERY) == Err(RecvTimeoutError::Timeout) {
                bar.show(|| describe(&restoring));
            }
            bar.clear();
        };
        // A start that nobody can watch is a start all the same.
        let thread = is_screen(&std::io::stderr()).then(|| std::thread::spawn(show));
        Self { is_over, thread }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = self.is_over.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn describe(restoring: &Restoring) -> String {
    let ((bytes, of_bytes), (messages, of_messages)) = (restoring.log_bytes(), restoring.messages());
    let percent = |part: u64, of: u64| part * 100 / of.max(1);
    if of_messages > 0 {
        let percent = percent(messages, of_messages);
        format!("{} of {} restored ({percent} %)", thousands(messages), count(of_messages, "message"))
    } else {
        let percent = percent(bytes, of_bytes);
        format!(
            "{} of {} MiB of the journal read ({percent} %)",
            thousands(bytes >> 20),
            thousands(of_bytes >> 20)
        )
    }
}

fn standard_input() -> Result<OwnedFd, Failure> {
    let input = std::io::stdin().as_fd().try_clone_to_owned();
    input.map_err(|error| Failure::new(format!("cannot use standard input: {error}")))
}

fn catch() -> Result<Signals, Failure> {
    Signals::new([SIGINT, SIGTERM]).map_err(|error| Failure::new(format!("cannot catch signals: {error}")))
}

fn on_signal(wait: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
    thread.map(drop).map_err(|error| Failure::new(format!("cannot wait for signals: {error}")))
}

/// An eventfd that is written to when a signal says that this process shall end.
fn stop_by_signal() -> Result<OwnedFd, Failure> {
    let mut signals = catch()?;
    let failed = |error| Failure::new(format!("cannot make an eventfd: {error}"));
    let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|error| failed(error.into()))?;
    let written = stop.try_clone().map_err(failed)?;
    on_signal(move || {
        signals.forever().for_each(|_| {
            // Fails only when it has been written to often enough.
            let _ = rustix::io::write(&written, &1_u64.to_ne_bytes());
        });
    })?;
    Ok(stop)
}

impl From<GuardError> for Failure {
    fn from(error: GuardError) -> Self {
        match error {
            GuardError::Directory(error) => StartError::from(error).into(),
            GuardError::NotStarted { status } => {
                let code = ExitStatus::code(&status).and_then(|code| u8::try_from(code).ok());
                code.filter(|code| *code != 0).map_or_else(
                    || Self::new(format!("the broker did not start ({status})")),
                    |code| Self::Told { code },
                )
            }
            error => Self::new(error),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::Directory(DirectoryError::PathTooLong { .. }) => Exit::Usage,
            StartError::Directory(DirectoryError::Taken { .. } | DirectoryError::Unsafe { .. }) => {
                Exit::Refused
            }
            _ => Exit::Failure,
        };
        Self::with(exit, error)
    }
}

/// The settings, from all that says some.
fn load(args: &ServeArgs, directory: Option<PathBuf>) -> Result<(Config, Vec<Setting>), Failure> {
    let mut flags = args.settings.0.clone();
    flags.extend(directory.map(|directory| ("directory", directory.into_os_string())));
    let sources = Sources {
        file: args.config.clone(),
        variables: std::env::vars_os().collect(),
        flags,
        directory_default: Some(default_directory()),
        data_default: Some(default_data_directory()),
    };
    Config::load_from(&sources).map_err(|error| Failure::with(Exit::Usage, error))
}

/// `--check`: each setting and where it was said.
fn show(settings: &[Setting], json: bool) -> Result<(), Failure> {
    if json {
        let object = |Setting { key, value, origin }: &Setting| {
            let mut object = json!({"key": key.name, "value": value, "source": origin.source()});
            if *origin != Origin::Default {
                object["place"] = origin.to_string().into();
            }
            object
        };
        return output::print_json(&settings.iter().map(object).collect::<Vec<_>>());
    }
    let row = |Setting { key, value, origin }: &Setting| {
        vec![key.name.to_owned(), value.to_string(), origin.to_string()]
    };
    output::print(&output::table(&["KEY", "VALUE", "FROM"], &settings.iter().map(row).collect::<Vec<_>>()))
}

/// Has the kernel send `signal` to this process when process `parent`, which started it, ends.
pub(crate) fn end_with_parent(parent: u32, signal: Signal) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(signal))
        .map_err(|error| Failure::new(format!("cannot ask for the parent's death signal: {error}")))?;
    // It may have ended before the kernel was asked.
    if getppid().map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok()) == Some(parent) {
        Ok(())
    } else {
        Err(Failure::new(format!("process {parent}, which started this one, has ended")))
    }
}
