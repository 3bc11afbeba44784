//! What a shard runs on: one thread pinned to one core, asleep until its eventfd is written to.
//!
//! | file | which |
//! |---|---|
//! | [`glommio`] | an executor that sleeps in its io_uring ring; glommio is named nowhere else |
//! | [`threads`] | a plain thread, where io_uring is denied |
//!
//! A runtime knows nothing of shards: it is given a function that does all there is to do and says whether to sleep or to stop.

mod glommio;
mod threads;

use std::os::fd::OwnedFd;

use thiserror::Error;

pub use self::glommio::LOCKED_MEMORY_BYTES_MIN;
pub(crate) use self::glommio::probe;

/// Which runtime: everything in the broker that waits for the kernel uses the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    IoUring,
    Threads,
}

/// A thread made by [`Runtime::spawn`].
pub(crate) enum PinnedThread {
    Glommio(glommio::PinnedThread),
    Plain(threads::PinnedThread),
}

impl Runtime {
    /// Starts a thread on `core` that calls `turn` now and whenever `wake`, a blocking eventfd, was written to. Returns when
    /// it runs.
    pub(crate) fn spawn(
        self,
        core: usize,
        name: &str,
        wake: OwnedFd,
        turn: impl FnMut() -> Turn + Send + 'static,
    ) -> Result<PinnedThread, RuntimeError> {
        match self {
            Self::IoUring => glommio::spawn(core, name, wake, turn).map(PinnedThread::Glommio),
            Self::Threads => threads::spawn(core, name, wake, turn).map(PinnedThread::Plain),
        }
    }
}

impl PinnedThread {
    /// Waits until the thread has left.
    pub(crate) fn join(self) -> Result<(), RuntimeError> {
        match self {
            Self::Glommio(thread) => thread.join(),
            Self::Plain(thread) => thread.join(),
        }
    }
}

/// What to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Give the processor away, and turn again.
    Again,
    /// Nothing left: sleep until the eventfd is written to.
    Sleep,
    /// Leave the thread.
    Stop,
}

/// Why the runtime cannot run here, or has failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The kernel denies io_uring, or lacks a part of it.
    #[error(
        "io_uring is denied here ({source}): allow it (sysctl kernel.io_uring_disabled=0; in a container, a \
         seccomp profile with io_uring_setup, io_uring_enter and io_uring_register), or do without: runtime = \"threads\""
    )]
    IoUring {
        /// The kernel's error.
        source: std::io::Error,
    },
    /// Too little memory may be locked.
    #[error(
        "a shard needs to lock {needed} bytes of memory and the limit is {limit}: raise it (ulimit -l, or \
         LimitMEMLOCK= in the service)"
    )]
    LockedMemory {
        /// Bytes needed per shard.
        needed: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The executor could not be started on its core.
    #[error("no executor could be started on core {core}: {detail}")]
    Executor {
        /// The core.
        core: usize,
        /// What the runtime said.
        detail: String,
    },
    /// The executor ended without being told to.
    #[error("the executor on core {core} failed: {detail}")]
    Failed {
        /// The core.
        core: usize,
        /// What it said.
        detail: String,
    },
}
