//! The floor of a `shared` subscription: everything below is settled, or has been taken over by the shard.
//!
//! 1. The floor is the subscription's gate, in the form of a cursor word: producers read it as they read a cursor.
//! 2. It rises over claims that are acked or moved and over tombstones, and stops at everything else: at what is unclaimed,
//!    leased, or moving. Whoever gets there raises it: every member, and the shard.
//! 3. It is raised by an exchange from what was read, so that a slow one never puts it back.
//! 4. Whoever has settled something raises it later. Both sides store, fence, load: of two that settle at the same time, the
//!    one whose fence is the later sees what the other has settled. So the floor is where it can be once all have raised it.

use std::sync::atomic::Ordering;

use super::claims::Claims;
use crate::memory::{Memory, Word};
use crate::stops;
use crate::words::CursorWord;

/// See the module.
pub struct Floor<M: Memory>(M::WordHandle);

impl<M: Memory> Floor<M> {
    /// The floor behind this word.
    pub fn new(word: M::WordHandle) -> Self {
        Self(word)
    }

    /// Where it is.
    pub fn position(&self) -> u64 {
        CursorWord::unpack(self.0.load(Ordering::Acquire)).position
    }

    /// Raises it as far as it goes; returns whether it rose. Producers that wait for space must be woken then.
    pub fn raise(&self, claims: &Claims<M>) -> bool {
        // Orders what the caller has settled before the loads of what others have; pairs with itself in the others.
        M::full_fence();
        // Acquire: behind what the one who raised it last has seen.
        let mut found = self.0.load(Ordering::Acquire);
        let mut rose = false;
        loop {
            let floor = CursorWord::unpack(found);
            let geometry = claims.geometry();
            let end = floor.position.saturating_add(geometry.capacity()).min(geometry.position_end());
            let mut position = floor.position;
            while position < end && claims.is_settled(position) {
                position += 1;
            }
            if position == floor.position {
                return rose;
            }
            let raised = CursorWord { position, ..floor }.pack();
            // Release: a producer that sees it (acquire in Gates::lowest) is behind all that was read below it, because
            // whoever settled released, and `is_settled` acquired.
            match self.0.compare_exchange(found, raised, Ordering::AcqRel, Ordering::Acquire) {
                // Settled meanwhile, by one that did not see the floor come: look once more.
                Ok(_) => {
                    stops::at("floor.raised");
                    (found, rose) = (raised, true);
                }
                Err(now) => found = now,
            }
        }
    }
}
