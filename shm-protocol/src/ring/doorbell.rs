//! Sleeping and waking: one direction of a partition's doorbell.
//!
//! ```text
//!   sleeper                                   waker (after its store: a commit, a cursor)
//!   count = bell                              full fence
//!   announce += 1                             a = announce
//!   full fence                                if a ≠ the a it last rang for: bell += 1, wake all
//!   look again; wait while bell == count
//! ```
//!
//! 1. **No wake-up is lost.** Both sides store, fence, load: either the waker sees the announcement, or the
//!    sleeper sees the waker's store when it looks again. If the waker rings after `count` was read, the wait
//!    returns at once, because the bell differs.
//! 2. **Nobody asleep, no system call**: a waker whose last ring covers every announcement loads one word,
//!    which stays in its cache.
//! 3. All who share a partition may write its doorbell. Misuse can delay a wake-up, and only up to the
//!    bound that every sleeper gives; it can neither lose nor change a message.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::memory::{Bell, Memory, Word};
use crate::stops;

/// One direction: consumers that wait for data, or producers that wait for space.
pub struct Doorbell<M: Memory> {
    announce: M::WordHandle,
    bell: M::Bell,
}

impl<M: Memory> Doorbell<M> {
    /// Joins the announcement word and the bell of one direction.
    pub fn new(announce: M::WordHandle, bell: M::Bell) -> Self {
        Self { announce, bell }
    }

    /// Sleeps until the bell rings or `at_most` is over, unless `ready` says after the announcement that there
    /// is no need to. May return for no reason; the caller looks again.
    pub fn sleep_unless(&self, at_most: Duration, ready: impl FnOnce() -> bool) {
        let count = self.announce();
        if !ready() {
            self.bell.wait(count, at_most);
        }
    }

    /// Announces a sleep that lasts until the bell counts otherwise than what is returned: whoever sleeps looks again in
    /// between, and need not announce again before the bell was rung.
    pub fn announce(&self) -> u32 {
        let count = self.bell.count();
        // Relaxed: the fence below orders it before the second look, and pairs with the fence in Ringer::ring.
        self.announce.fetch_add(1, Ordering::Relaxed);
        stops::at("sleep.announced");
        M::full_fence();
        count
    }

    /// The bell, to wait for it among others.
    pub fn bell(&self) -> &M::Bell {
        &self.bell
    }

    /// Rings whether or not somebody has announced to sleep.
    pub fn ring_always(&self) {
        self.bell.ring();
        stops::at("bell.rung");
    }
}

/// A waker's side of a [`Doorbell`]: remembers which announcements it has answered.
#[derive(Debug, Default)]
pub struct Ringer {
    answered: u64,
}

impl Ringer {
    /// Wakes everybody who announced to sleep since the last call; without such, no system call. The store
    /// that makes it worth waking must come before.
    #[inline]
    pub fn ring<M: Memory>(&mut self, doorbell: &Doorbell<M>) -> bool {
        // Orders the caller's store before the load; pairs with the fence in Doorbell::sleep_unless.
        M::full_fence();
        let announced = doorbell.announce.load(Ordering::Relaxed);
        if announced == self.answered {
            return false;
        }
        self.wake(doorbell, announced);
        true
    }

    #[cold]
    fn wake<M: Memory>(&mut self, doorbell: &Doorbell<M>, announced: u64) {
        self.answered = announced;
        doorbell.bell.ring();
        stops::at("bell.rung");
    }
}
