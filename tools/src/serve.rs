//! `ringway serve`: runs a broker in this process until it is told to end.

use std::path::PathBuf;

use ringway_broker::config::{Config, ConfigError};
use ringway_broker::{Broker, DirectoryError, StartError};
use ringway_client::directory::default_directory;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::ServeArgs;
use crate::exit::{Exit, Failure};
use crate::output;

/// Runs the command.
pub(crate) fn run(args: &ServeArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    if let Some(parent) = args.end_with_parent {
        end_with_parent(parent, Signal::TERM)?;
    }
    let config = load(args, directory).map_err(|error| Failure::with(Exit::Usage, error))?;
    // Caught before the broker makes anything, so that no signal finds something that nobody removes.
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::new(format!("cannot catch signals: {error}")))?;
    let broker = Broker::start(config)?;

    let stopper = broker.stopper();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || signals.forever().for_each(|_| stopper.stop()))
        .map_err(|error| Failure::new(format!("cannot wait for signals: {error}")))?;
    let cores = broker.cores().iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let directory = broker.directory().display();
    let ready =
        format!("ringway: serving {directory} (pid {}, shards on cores {cores})\n", std::process::id());
    // The broker serves whether or not somebody reads this.
    let _ = output::print(&ready);
    broker.wait().map_err(Failure::new)
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

/// The directory: `--dir`, else the configuration's, else the one where clients look.
fn load(args: &ServeArgs, directory: Option<PathBuf>) -> Result<Config, ConfigError> {
    match Config::load(args.config.as_deref(), directory) {
        Err(ConfigError::NoDirectory) => Config::load(args.config.as_deref(), Some(default_directory())),
        loaded => loaded,
    }
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
