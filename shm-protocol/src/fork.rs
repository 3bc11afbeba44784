//! Noticing that a handle was inherited by a forked child.
//!
//! Mappings are not copied into a forked child (`MADV_DONTFORK`), so a child that used an inherited handle
//! would crash. A handle remembers the [`ForkMark`] it was made under and refuses clearly instead. The check
//! is one relaxed load of a private word: no system call, cheap enough for every publish.
//!
//! Not covered: a child made by a raw `clone` system call, for which libc runs no fork handlers.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static FORKS: AtomicU64 = AtomicU64::new(0);
static INSTALL: Once = Once::new();

extern "C" fn count_fork() {
    // Runs in the child, which has one thread: no ordering needed.
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Remembers in which process a handle was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkMark(u64);

impl ForkMark {
    /// The mark of this process.
    pub fn here() -> Self {
        INSTALL.call_once(|| {
            // SAFETY: count_fork touches one static atomic and is async-signal-safe, as a child handler
            // must be. A failure (out of memory) leaves the check without effect, nothing else.
            let _ = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        });
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this is still the process that made the mark.
    #[inline]
    pub fn is_here(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }
}
