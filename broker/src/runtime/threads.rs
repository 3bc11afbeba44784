//! A pinned thread that sleeps by reading an eventfd: for where io_uring is denied.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use rustix::thread::{CpuSet, sched_setaffinity};

use super::{RuntimeError, Turn};

/// A thread made by [`spawn`].
pub(crate) struct PinnedThread {
    core: usize,
    handle: JoinHandle<()>,
}

impl PinnedThread {
    /// Waits until the thread has left.
    pub(crate) fn join(self) -> Result<(), RuntimeError> {
        let core = self.core;
        self.handle.join().map_err(|panic| RuntimeError::Failed { core, detail: text(&*panic) })
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it has panicked").to_owned()
}

/// Starts a thread on `core` that calls `turn` now and whenever `wake`, a blocking eventfd, was written to. Returns when it
/// runs there.
pub(crate) fn spawn(
    core: usize,
    name: &str,
    wake: OwnedFd,
    mut turn: impl FnMut() -> Turn + Send + 'static,
) -> Result<PinnedThread, RuntimeError> {
    let failed = |detail: String| RuntimeError::Executor { core, detail };
    let (running, started) = channel();
    let pin_and_serve = move || {
        let mut cores = CpuSet::new();
        cores.set(core);
        let pinned = sched_setaffinity(None, &cores);
        let is_pinned = pinned.is_ok();
        if running.send(pinned).is_err() || !is_pinned {
            return;
        }
        loop {
            match turn() {
                Turn::Again => rustix::thread::sched_yield(),
                // Interrupted by a signal: it turns once more in vain.
                Turn::Sleep => drop(rustix::io::read(&wake, &mut [0_u8; 8])),
                Turn::Stop => break,
            }
        }
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(pin_and_serve);
    let handle = thread.map_err(|error| failed(error.to_string()))?;
    match started.recv() {
        Ok(Ok(())) => Ok(PinnedThread { core, handle }),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("it ended at once".to_owned())),
    }
}
