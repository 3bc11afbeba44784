//! Messages that a reader holds in place although its cursor has passed them.
//!
//! ```text
//! reader                                producers
//! hazard = position                     limit, gates        (acquire)
//! active |= bit                         active, hazards     (acquire)
//! cursor behind it      (release) ────▶ a block whose position no hazard names is free
//! … reads in place …
//! active &= !bit        (release) ────▶ now this one is, too
//! ```
//!
//! 1. A hazard is set before the cursor passes its message; a producer that sees the cursor there sees the hazard.
//! 2. It is cleared after the last read; a producer that finds it cleared writes behind those reads.
//! 3. One reader sets, from one thread at a time; anybody may clear what is set, once.

use std::sync::atomic::Ordering;

use crate::layout::HAZARDS_MAX;
use crate::memory::{Memory, Word};
use crate::stops;

/// The hazards of one subscription.
pub struct Hazards<M: Memory> {
    active: M::WordHandle,
    words: Vec<M::WordHandle>,
}

impl<M: Memory> Hazards<M> {
    /// Joins the bit set of the hazards in use and their words. Panics when there are more than [`HAZARDS_MAX`].
    pub fn new(active: M::WordHandle, words: Vec<M::WordHandle>) -> Self {
        assert!(words.len() <= HAZARDS_MAX, "a subscription has at most {HAZARDS_MAX} hazards");
        Self { active, words }
    }

    /// Names `position`, which the cursor has not passed; returns the hazard's number. `None`: all are in use.
    pub fn set(&self, position: u64) -> Option<usize> {
        let free = (!self.active.load(Ordering::Relaxed)).trailing_zeros() as usize;
        let word = self.words.get(free)?;
        word.store(position, Ordering::Relaxed);
        stops::at("hazard.named");
        // Release: who sees the bit sees the position. That the bit is seen in time is the cursor's release.
        self.active.fetch_or(1 << free, Ordering::Release);
        stops::at("hazard.set");
        Some(free)
    }

    /// Nobody reads that message any more.
    pub fn clear(&self, hazard: usize) {
        // Release: pairs with the acquire in `collect`; the reads are over.
        self.active.fetch_and(!(1 << hazard), Ordering::Release);
        stops::at("hazard.cleared");
    }

    /// The reader is gone, and with it all that it held. Only for one whose end is proven.
    pub fn clear_all(&self) {
        self.active.store(0, Ordering::Release);
        stops::at("hazards.cleared");
    }

    /// Adds the positions that are named to `positions`. The gates must have been loaded before, with acquire.
    pub(super) fn collect(&self, positions: &mut Vec<u64>) {
        // Acquire: pairs with the releases of `set` and `clear`.
        let mut active = self.active.load(Ordering::Acquire);
        while active != 0 {
            let hazard = active.trailing_zeros() as usize;
            active &= active - 1;
            if let Some(word) = self.words.get(hazard) {
                positions.push(word.load(Ordering::Relaxed));
            }
        }
    }
}
