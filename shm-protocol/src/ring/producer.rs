//! Publishing by the one producer of an exclusive partition.
//!
//! The happy path is two stores around a copy: reserved, message, committed. The limit is cached; only when the
//! cache is used up are the gates looked at and the shared limit word raised. Without any gate the limit rises
//! by what is published and no more, so that the ring always holds the last *capacity* messages for
//! a subscription that joins.

use std::sync::atomic::Ordering;

use thiserror::Error;

use super::gates::{Gates, Lowest};
use crate::layout::Geometry;
use crate::memory::{Memory, Slots, Word};
use crate::words::{LimitWord, MessageHeader, SlotState, SlotWord};

/// How many slots ahead of the next one are fetched for writing.
const PREFETCH_SLOTS: u64 = 16;

/// No slot is free: a gate holds the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The gate that holds it.
    pub holder: Lowest,
    /// The position that could not be taken.
    pub position: u64,
}

/// Why a message was not published. The ring is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A gate holds the ring; try again when it has risen.
    #[error("the ring is full: gate {} holds position {}, {} behind", .0.holder.gate, .0.holder.position, .0.position - .0.holder.position)]
    Full(Full),
    /// The payload does not fit a slot.
    #[error("a payload of {bytes} bytes does not fit: {bytes_max} at the most")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// Most bytes that fit.
        bytes_max: usize,
    },
    /// The partition has used up its positions.
    #[error("the partition has used up all its {positions} positions")]
    Exhausted {
        /// How many positions it had.
        positions: u64,
    },
}

/// The one producer of an exclusive partition.
pub struct ExclusiveProducer<M: Memory> {
    slots: M::Slots,
    geometry: Geometry,
    owner: u32,
    /// Next position to publish.
    position: u64,
    /// Private copy of the limit: never above the shared one.
    allowed: u64,
    limit: M::WordHandle,
    gates: Gates<M>,
}

impl<M: Memory> ExclusiveProducer<M> {
    /// Continues at `position`, the true end of the log, as `owner`.
    pub fn new(slots: M::Slots, limit: M::WordHandle, gates: Gates<M>, owner: u32, position: u64) -> Self {
        let geometry = slots.geometry();
        Self { slots, geometry, owner, position, allowed: position, limit, gates }
    }

    /// The position that the next message gets.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The gates, to map a cursor.
    pub fn gates(&mut self) -> &mut Gates<M> {
        &mut self.gates
    }

    /// Publishes one message and returns its position. Wakes nobody: ring the doorbell once per call
    /// of the user.
    #[inline]
    pub fn publish(&mut self, payload: &[u8]) -> Result<u64, PublishError> {
        if payload.len() > self.geometry.payload_bytes_max() {
            let bytes_max = self.geometry.payload_bytes_max();
            return Err(PublishError::TooLarge { bytes: payload.len(), bytes_max });
        }
        let position = self.position;
        if position >= self.allowed {
            self.raise(position + 1)?;
        }
        let taken =
            SlotWord { lap: self.geometry.lap(position), state: SlotState::Reserved, owner: self.owner };
        let word = self.slots.word(position);
        // A plain store takes the slot: there is no other producer. The fence keeps the message's stores behind
        // it, so that nobody can take a half-written slot for the message of the lap before.
        word.store(taken.pack(), Ordering::Relaxed);
        M::release_fence();
        let header = MessageHeader { payload_bytes: payload.len() as u32, ..MessageHeader::default() };
        self.slots.header(position).store(header.pack(), Ordering::Relaxed);
        self.slots.write(position, payload);
        // Release: pairs with the acquire in CursorReader::poll.
        word.store(SlotWord { state: SlotState::Committed, ..taken }.pack(), Ordering::Release);
        self.slots.prefetch_for_write(position + PREFETCH_SLOTS);
        self.position = position + 1;
        Ok(position)
    }

    /// Whether the next message could be published now.
    pub fn has_space(&mut self) -> bool {
        self.position < self.allowed || !matches!(self.raise(self.position + 1), Err(PublishError::Full(_)))
    }

    /// Raises the shared limit to at least `wanted`, or as far as the gates allow.
    #[cold]
    fn raise(&mut self, wanted: u64) -> Result<(), PublishError> {
        let end = self.geometry.position_end();
        if wanted > end {
            return Err(PublishError::Exhausted { positions: end });
        }
        loop {
            // Acquire, before the gates are read: pairs with the release in the shard's join.
            let found = self.limit.load(Ordering::Acquire);
            let limit = LimitWord::unpack(found);
            if limit.position >= wanted {
                self.allowed = limit.position;
                return Ok(());
            }
            let lowest = self.gates.lowest();
            // A cursor is written by its consumers: one that claims to be ahead of the log must not carry the
            // limit away, because everything below limit − capacity counts as taken.
            let passed = |gate: Lowest| gate.position.min(self.position);
            let target = lowest.map_or(wanted, |gate| (passed(gate) + self.geometry.capacity()).min(end));
            if let Some(holder) = lowest
                && target < wanted
            {
                return Err(PublishError::Full(Full { holder, position: self.position }));
            }
            // Release: whoever acts on the new limit also sees that the gates have passed. Fails when a gate
            // joined meanwhile; then everything is looked at again.
            let raised = LimitWord { position: target, ..limit };
            let _ = self.limit.compare_exchange(found, raised.pack(), Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}
