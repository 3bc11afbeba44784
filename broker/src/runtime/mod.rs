//! What a shard runs on: one thread pinned to one core, asleep until its eventfd is written to.
//!
//! glommio is named in [`glommio`] and nowhere else. A runtime knows nothing of shards: it is given a
//! function that does all there is to do and says whether to sleep or to stop.

mod glommio;

use thiserror::Error;

pub(crate) use self::glommio::{PinnedThread, probe, spawn};

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
    /// The kernel denies io_uring.
    #[error(
        "io_uring is denied here ({source}): allow it (sysctl kernel.io_uring_disabled=0; in a container, a \
         seccomp profile with io_uring_setup, io_uring_enter and io_uring_register)"
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
