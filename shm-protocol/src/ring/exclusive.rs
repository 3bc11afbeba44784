//! Publishing by the one producer of an exclusive partition.
//!
//! The happy path is a copy and one store: message, committed. Only where readers may look at a slot while it is overwritten
//! does a store of *reserved* come before, so that they notice. Elsewhere it would do nothing but take the line from the
//! reader that polls it, who takes it back before the message is committed. If the producer dies in a message, nobody has
//! seen anything of it, and its successor writes the slot anew.
//!
//! The limit is cached; only when the cache is used up are the gates looked at and the shared limit word raised.

use std::sync::atomic::Ordering;

use super::message::Outgoing;
use super::producer::{PublishError, check_size, fill};
use super::room::Room;
use crate::memory::{Memory, Slots, Word};
use crate::stops;
use crate::words::{SlotState, SlotWord};

/// The one producer of an exclusive partition.
pub struct ExclusiveProducer<M: Memory> {
    slots: M::Slots,
    owner: u32,
    /// Next position to publish.
    position: u64,
    room: Room<M>,
}

impl<M: Memory> ExclusiveProducer<M> {
    /// Continues at `position`, the true end of the log, as `owner`.
    pub fn new(slots: M::Slots, room: Room<M>, owner: u32, position: u64) -> Self {
        Self { slots, owner, position, room }
    }

    /// The position that the next message gets.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn parts(&mut self) -> (&M::Slots, u32, &mut Room<M>) {
        (&self.slots, self.owner, &mut self.room)
    }

    /// Publishes one message and returns its position. Wakes nobody: ring the doorbell once per call of the user.
    #[inline]
    pub fn publish(&mut self, message: &Outgoing<'_>) -> Result<u64, PublishError> {
        check_size(&self.slots, message)?;
        let position = self.position;
        self.room.allow(position)?;
        let lap = self.slots.geometry().lap(position);
        let taken = SlotWord { lap, state: SlotState::Reserved, owner: self.owner };
        if self.room.overtakes() {
            self.slots.word(position).store(taken.pack(), Ordering::Relaxed);
            stops::at("slot.reserved");
        }
        fill::<M>(&self.slots, position, taken, message);
        self.position = position + 1;
        Ok(position)
    }

    /// Whether the next message could be published now.
    pub fn has_space(&mut self) -> bool {
        !matches!(self.room.allow(self.position), Err(PublishError::Full(_)))
    }
}
