//! A pinned glommio executor that sleeps in its own ring until an eventfd is written to.
//!
//! What was found about glommio 0.9 decides the shape: an executor is made once and lives as long as the
//! broker (each leaks a descriptor when it ends); its registered memory is kept small, because the default
//! exceeds a usual memlock limit; the eventfd has one reader for life, because a cancelled read loses its wake;
//! denied io_uring panics inside, so it is probed for before.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};

use glommio::io::BufferedFile;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::process::Resource;

use super::{RuntimeError, Turn};

/// Memory that an executor registers for I/O, in bytes. Shards do no file I/O through glommio.
const IO_MEMORY_BYTES: usize = 1 << 20;
/// Memory that a shard on io_uring must be allowed to lock, in bytes: below this it does not start.
pub const LOCKED_MEMORY_BYTES_MIN: u64 = 512 << 10;

/// A thread made by [`spawn`].
pub(crate) struct PinnedThread {
    core: usize,
    handle: ExecutorJoinHandle<()>,
}

impl PinnedThread {
    /// Waits until the thread has left.
    pub(crate) fn join(self) -> Result<(), RuntimeError> {
        let core = self.core;
        self.handle.join().map_err(|error| RuntimeError::Failed { core, detail: error.to_string() })
    }
}

/// Checks what would make an executor panic.
pub(crate) fn probe() -> Result<(), RuntimeError> {
    // SAFETY: with a null pointer the call can only fail; the error tells whether it is allowed at all.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
    let error = io::Error::last_os_error();
    if result < 0 && !matches!(error.raw_os_error(), Some(libc::EFAULT | libc::EINVAL)) {
        return Err(RuntimeError::IoUring { source: error });
    }
    match rustix::process::getrlimit(Resource::Memlock).current {
        Some(limit) if limit < LOCKED_MEMORY_BYTES_MIN && !rustix::process::geteuid().is_root() => {
            Err(RuntimeError::LockedMemory { needed: LOCKED_MEMORY_BYTES_MIN, limit })
        }
        _ => Ok(()),
    }
}

/// Starts a thread on `core` that calls `turn` now and whenever `wake`, a blocking eventfd, was written to.
/// Returns when the executor runs.
pub(crate) fn spawn(
    core: usize,
    name: &str,
    wake: OwnedFd,
    turn: impl FnMut() -> Turn + Send + 'static,
) -> Result<PinnedThread, RuntimeError> {
    let failed = |detail: String| RuntimeError::Executor { core, detail };
    let (running, started) = channel();
    let handle = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .spawn(move || serve(wake, turn, running))
        .map_err(|error| failed(error.to_string()))?;
    match started.recv() {
        Ok(()) => Ok(PinnedThread { core, handle }),
        Err(_) => Err(failed(match handle.join() {
            Ok(()) => "it ended at once".to_owned(),
            Err(error) => error.to_string(),
        })),
    }
}

async fn serve(wake: OwnedFd, mut turn: impl FnMut() -> Turn, running: Sender<()>) {
    // SAFETY: the descriptor is ours and given away here; the file closes it.
    let wake = unsafe { BufferedFile::from_raw_fd(wake.into_raw_fd()) };
    if running.send(()).is_err() {
        return;
    }
    loop {
        match turn() {
            Turn::Again => rustix::thread::sched_yield(),
            // The one reader of this eventfd: it sleeps in the executor's ring until somebody writes.
            Turn::Sleep => drop(wake.read_at(0, 8).await.expect("an eventfd that is open can be read")),
            Turn::Stop => break,
        }
    }
    // An eventfd has no buffers to flush; closing it can only succeed.
    let _ = wake.close().await;
}
