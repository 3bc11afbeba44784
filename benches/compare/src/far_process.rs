//! The far end of a trial as a process of its own: this program started again with a hidden subcommand.
//!
//! What always holds:
//!
//! 1. The child dies with its parent, also when the parent is killed; and the parent ends it, by its handle, on
//!    every way out of a trial.
//! 2. The child is in its own process group: a Ctrl-C reaches the parent alone, which then ends in order.
//! 3. The child's standard output is the control channel; it writes nothing else there.
//! 4. Descriptors are handed over by number and owned by the child from then on; the parent keeps none of them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::control::{Control, FarChannel, Reporter};
use crate::error::CompareError;
use crate::gauge::Gauge;
use crate::pinning::pin_current_thread;
use crate::trial::Trial;

/// The hidden subcommand that the child is started with.
pub(crate) const SUBCOMMAND: &str = "far-end";

/// What a child is told, as one JSON argument.
#[derive(Debug, Serialize, Deserialize)]
struct Brief {
    trial: Trial,
    /// The process that must be the parent.
    parent: i32,
    gauge: RawFd,
    descriptors: Vec<RawFd>,
    directory: Option<PathBuf>,
}

/// What the parent hands to the far end so that it finds its transport.
#[derive(Debug, Default)]
pub(crate) struct Attachment {
    /// Open descriptors, in an order that the peer's two ends agree on.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// A private directory where the peer keeps its files.
    pub(crate) directory: Option<PathBuf>,
}

/// A running far end, ended when dropped.
#[derive(Debug)]
pub(crate) struct FarProcess {
    child: Child,
}

impl FarProcess {
    /// Starts the far end of `trial`; the control channel gives its steps.
    pub(crate) fn start(trial: &Trial, attachment: Attachment) -> Result<(Self, Control), CompareError> {
        let (control, FarChannel { writer, gauge }) = Control::channel()?;
        for descriptor in attachment.descriptors.iter().chain([&gauge]) {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())
                .map_err(CompareError::system("hand a descriptor to the far end"))?;
        }
        let brief = Brief {
            trial: trial.clone(),
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            gauge: gauge.as_raw_fd(),
            descriptors: attachment.descriptors.iter().map(AsRawFd::as_raw_fd).collect(),
            directory: attachment.directory,
        };
        let brief = serde_json::to_string(&brief)
            .map_err(|source| CompareError::Json { what: "the far end's brief", source })?;
        let program = std::env::current_exe().map_err(CompareError::system("find this program's file"))?;
        let child = Command::new(program)
            .arg(SUBCOMMAND)
            .arg(brief)
            .stdin(Stdio::null())
            .stdout(writer)
            .process_group(0)
            .spawn()
            .map_err(CompareError::system("start the far end"))?;
        Ok((Self { child }, control))
    }
}

impl Drop for FarProcess {
    fn drop(&mut self) {
        // After its last step the child only has its own files to close; one that has not finished is in the way.
        if !wait_briefly(&mut self.child) {
            // The handle has not been waited for, so its id still names this child and no other process.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Gives the child 200 ms to end by itself.
fn wait_briefly(child: &mut Child) -> bool {
    for _ in 0..200 {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    false
}

/// What the far end's process has at hand.
#[derive(Debug)]
pub(crate) struct FarSide {
    /// What is measured.
    pub(crate) trial: Trial,
    /// The descriptors of the [`Attachment`], in its order.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The directory of the [`Attachment`].
    pub(crate) directory: Option<PathBuf>,
}

impl FarSide {
    /// The directory, for a peer whose attachment has one.
    pub(crate) fn directory(&self) -> Result<&Path, CompareError> {
        self.directory.as_deref().ok_or_else(|| wrong_brief("a directory"))
    }

    /// The descriptors, for a peer whose attachment has `N`.
    pub(crate) fn take_descriptors<const N: usize>(&mut self) -> Result<[OwnedFd; N], CompareError> {
        std::mem::take(&mut self.descriptors).try_into().map_err(|_| wrong_brief("its descriptors"))
    }
}

fn wrong_brief(wanted: &'static str) -> CompareError {
    CompareError::Control { wanted, got: "a brief without it".to_owned() }
}

/// The child's whole life: `brief` is the argument after the subcommand.
pub(crate) fn run(brief: &str) -> Result<(), CompareError> {
    let brief: Brief = serde_json::from_str(brief)
        .map_err(|source| CompareError::Json { what: "the far end's brief", source })?;
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(CompareError::system("tie the far end's life to its parent's"))?;
    if getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(brief.parent) {
        return Ok(()); // The parent died before the tie held; nobody waits for this end.
    }
    pin_current_thread(brief.trial.cpus.far)?;
    let descriptors = brief.descriptors.iter().map(|number| own(*number)).collect();
    let mut side = FarSide { trial: brief.trial, descriptors, directory: brief.directory };
    let mut reporter = Reporter::new(std::io::stdout(), Gauge::open(&own(brief.gauge))?);
    let outcome = side.trial.peer.far_end(&mut side, &mut reporter);
    reporter.conclude(outcome)
}

fn own(number: RawFd) -> OwnedFd {
    // SAFETY: the parent left this number open across the start for this process alone, `run` is called once, and
    // nothing else in the process knows the number.
    unsafe { OwnedFd::from_raw_fd(number) }
}
