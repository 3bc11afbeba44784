//! Rounds in which the shard journals what a subscription has settled.
//!
//! ```text
//! settled; full fence; ticket = BEGUN + 1 ──▶ … ──▶ DONE ≥ ticket: journaled
//!                          shard: BEGUN += 1; full fence; looks; journals; DONE = BEGUN
//! ```
//!
//! 1. What was settled before a ticket was taken is seen by the round of that number: either the shard's count is seen, and the
//!    ticket is for the next round, or the shard's look is behind the settlement.
//! 2. Only the shard writes; both numbers only rise.

use std::sync::atomic::Ordering;

use crate::memory::{Memory, Word};
use crate::stops;

/// See the module.
pub struct Rounds<M: Memory> {
    begun: M::WordHandle,
    done: M::WordHandle,
}

impl<M: Memory> Rounds<M> {
    /// Joins the words.
    pub fn new(begun: M::WordHandle, done: M::WordHandle) -> Self {
        Self { begun, done }
    }

    /// The number of the round by whose end everything is journaled that the caller has settled so far.
    pub fn ticket(&self) -> u64 {
        // Orders the caller's settlements before the load; pairs with the fence in `begin`.
        M::full_fence();
        self.begun.load(Ordering::Acquire).saturating_add(1)
    }

    /// Whether the round of a ticket, or a later one, is done.
    pub fn is_done(&self, ticket: u64) -> bool {
        // Acquire: pairs with the release in `end`.
        self.done.load(Ordering::Acquire) >= ticket
    }

    /// The shard's: a round begins; look afterwards. Returns its number.
    pub fn begin(&self) -> u64 {
        // Only the shard stores. Relaxed: the fence orders it before the look.
        let round = self.begun.load(Ordering::Relaxed).saturating_add(1);
        self.begun.store(round, Ordering::Release);
        M::full_fence();
        stops::at("round.begun");
        round
    }

    /// The shard's: what was found in the round of this number, and before, is journaled.
    pub fn end(&self, round: u64) {
        if round > self.done.load(Ordering::Relaxed) {
            self.done.store(round, Ordering::Release);
            stops::at("round.ended");
        }
    }
}
