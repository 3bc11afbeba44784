//! Publishing by any number of producers.
//!
//! 1. One exchange takes a slot and records its owner: no taken slot is ever without one, so a death between
//!    taking and committing leaves nothing that nobody answers for.
//! 2. A producer takes a position only when it has seen everything below taken: taken slots are a prefix.
//! 3. The shared tail is a hint that saves looking at every slot in between. It is written now and then, and used only
//!    if the slot below it is taken indeed.
//! 4. Who finds that another has been there steps back for a moment: two producers that alternate on every slot
//!    pass its lines to and fro, two that alternate on stretches keep them.

use std::sync::atomic::Ordering;

use super::message::Outgoing;
use super::producer::{PublishError, check_size, fill};
use super::room::Room;
use crate::memory::{Memory, Slots, Word};
use crate::stops;
use crate::words::{SlotState, SlotWord};

/// A producer leaves the tail hint at every position that is a multiple of this.
const TAIL_EVERY: u64 = 32;
/// Processor hints that a producer steps back for after it met another.
const STEP_BACK_PAUSES: u32 = 64;

/// One of several producers of a partition.
pub struct SharedProducer<M: Memory> {
    slots: M::Slots,
    owner: u32,
    /// Everything below is taken.
    reached: u64,
    tail: M::WordHandle,
    room: Room<M>,
}

impl<M: Memory> SharedProducer<M> {
    /// Publishes as `owner`; the log has reached `position`.
    pub fn new(slots: M::Slots, room: Room<M>, tail: M::WordHandle, owner: u32, position: u64) -> Self {
        Self { slots, owner, reached: position, tail, room }
    }

    /// A position that the log's end has reached.
    pub fn position(&self) -> u64 {
        self.reached
    }

    pub(super) fn parts(&mut self) -> (&M::Slots, u32, &mut Room<M>) {
        (&self.slots, self.owner, &mut self.room)
    }

    /// Publishes one message and returns its position. Wakes nobody: ring the doorbell once per call of the user.
    #[inline]
    pub fn publish(&mut self, message: &Outgoing<'_>) -> Result<u64, PublishError> {
        self.publish_noted(message, |_| ())
    }

    /// The same; `note` is told the position when it is taken and nothing is written there yet.
    // Inlined in any case, with what writes the message: its description is then read where it was made, not from memory.
    #[inline(always)]
    pub fn publish_noted(
        &mut self,
        message: &Outgoing<'_>,
        note: impl FnOnce(u64),
    ) -> Result<u64, PublishError> {
        check_size(&self.slots, message)?;
        loop {
            let position = self.reached;
            self.room.allow(position)?;
            let lap = self.slots.geometry().lap(position);
            let word = self.slots.word(position);
            let found = word.load(Ordering::Relaxed);
            let before = SlotWord::unpack(found);
            if before.lap < lap {
                if before.state == SlotState::Reserved {
                    return Err(PublishError::Stalled { position, owner: before.owner });
                }
                let taken = SlotWord { lap, state: SlotState::Reserved, owner: self.owner };
                // Acquire: the producer of the lap before has finished (its release of `committed`). Release: whoever
                // sees this slot taken also sees the slots below taken, which this producer has seen.
                if word.compare_exchange(found, taken.pack(), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    stops::at("slot.taken");
                    note(position);
                    fill::<M>(&self.slots, position, taken, message);
                    self.reached = position + 1;
                    if self.reached.is_multiple_of(TAIL_EVERY) {
                        // A hint: whoever uses it looks whether it is true.
                        self.tail.store(self.reached, Ordering::Relaxed);
                        stops::at("tail.hinted");
                    }
                    return Ok(position);
                }
            }
            self.catch_up();
        }
    }

    /// Whether the next message could be published now.
    pub fn has_space(&mut self) -> bool {
        self.find_end();
        match self.room.allow(self.reached) {
            Err(PublishError::Full(_)) => false,
            Err(_) => true,
            Ok(()) => {
                let word = SlotWord::unpack(self.slots.word(self.reached).load(Ordering::Relaxed));
                word.lap >= self.slots.geometry().lap(self.reached) || word.state != SlotState::Reserved
            }
        }
    }

    /// Another producer was faster.
    #[cold]
    fn catch_up(&mut self) {
        M::pause(STEP_BACK_PAUSES);
        self.find_end();
    }

    /// Moves on to the first position that is not taken: from the hint if it is true, then in steps that double, then
    /// by bisection (taken slots are a prefix).
    fn find_end(&mut self) {
        let hint = self.tail.load(Ordering::Relaxed).min(self.slots.geometry().position_end());
        if hint > self.reached && self.is_taken(hint - 1) {
            self.reached = hint;
        }
        let mut step = 1;
        while self.is_taken(self.reached + step - 1) {
            self.reached += step;
            step *= 2;
        }
        // Not taken: `reached + step - 1`. Taken: everything below `reached`.
        let mut free = self.reached + step - 1;
        while self.reached < free {
            let middle = self.reached + (free - self.reached) / 2;
            if self.is_taken(middle) { self.reached = middle + 1 } else { free = middle }
        }
    }

    fn is_taken(&self, position: u64) -> bool {
        // Acquire: pairs with the release of the exchange that took it, so that everything below is seen taken.
        let word = SlotWord::unpack(self.slots.word(position).load(Ordering::Acquire));
        word.lap >= self.slots.geometry().lap(position)
    }
}
