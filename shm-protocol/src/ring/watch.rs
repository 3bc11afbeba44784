//! Whether the shard watches the leases of a `shared` subscription.
//!
//! ```text
//! member   claim (exchange) · full fence · WATCH = 0? then 0 → 1, and call the shard
//! shard    WATCH = 0 · full fence · any lease? then WATCH = 1, and look again later; else sleep
//! ```
//!
//! 1. Both sides store, fence, load: either the member finds that nobody watches, or the shard finds its lease. So no lease
//!    goes unwatched, and while there is none the shard sleeps.
//! 2. While the shard watches, a claim costs one load of a word that stays in the member's cache.

use std::sync::atomic::Ordering;

use crate::memory::{Memory, Word};
use crate::stops;

/// See the module.
pub struct Watch<M: Memory>(M::WordHandle);

impl<M: Memory> Watch<M> {
    /// The watch behind this word.
    pub fn new(word: M::WordHandle) -> Self {
        Self(word)
    }

    /// A member's, directly behind the exchange that claimed: whether it must call the shard.
    #[inline]
    pub fn must_call(&self) -> bool {
        // Orders the claim before the load; pairs with the fence in `end`.
        M::full_fence_behind_exchange();
        self.0.load(Ordering::Relaxed) == 0 && self.begin()
    }

    /// The shard watches from now on; `false`: it did already.
    #[cold]
    pub fn begin(&self) -> bool {
        let begun = self.0.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        stops::at("watch.begun");
        begun
    }

    /// The shard's: stops watching, unless there is a lease when it looks once more. Returns whether it has stopped.
    pub fn end(&self, has_lease: impl FnOnce() -> bool) -> bool {
        self.0.store(0, Ordering::Relaxed);
        stops::at("watch.ended");
        // Pairs with the fence in `must_call`.
        M::full_fence();
        let stopped = !has_lease();
        if !stopped {
            self.0.store(1, Ordering::Relaxed);
        }
        stopped
    }
}
