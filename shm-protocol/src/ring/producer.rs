//! Publishing: what both kinds of producers have in common, and the choice between them.
//!
//! | file | for a stream that was declared with | takes a slot by |
//! |---|---|---|
//! | [`exclusive`](super::exclusive) | one producer at a time | a store |
//! | [`shared`](super::shared) | any number of producers | a compare-and-exchange on the slot's word |

use std::sync::atomic::Ordering;

use thiserror::Error;

use super::blocks::{Blocks, Reclaim};
use super::exclusive::ExclusiveProducer;
use super::gates::{Gates, Lowest};
use super::message::Outgoing;
use super::shared::SharedProducer;
use crate::layout::slot;
use crate::memory::{Memory, Slots, Word};
use crate::stops;
use crate::words::{SlotState, SlotWord};

/// Most slots between the one that is written and the one that is fetched for writing.
const PREFETCH_SLOTS_MAX: u64 = 16;
/// Bytes that are fetched ahead at the same time, about.
const PREFETCH_BYTES: u64 = 2048;

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
    #[error("the ring is full: gate {} holds position {}, {} behind", .0.holder.gate, .0.holder.position, .0.position.saturating_sub(.0.holder.position))]
    Full(Full),
    /// The slot is still being written by a producer that has not gone on for a whole lap; try again later.
    #[error("the ring is stalled: producer {owner} has not finished its message of a lap before {position}")]
    Stalled {
        /// The position that could not be taken.
        position: u64,
        /// Owner id of that producer.
        owner: u32,
    },
    /// The message does not fit a slot.
    #[error("a message of {bytes} bytes does not fit a slot's body: {bytes_max} at the most")]
    TooLarge {
        /// Bytes that it takes in a body.
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

/// Checks that a message fits a body.
#[inline]
pub(super) fn check_size(slots: &impl Slots, message: &Outgoing<'_>) -> Result<(), PublishError> {
    let (bytes, bytes_max) = (message.body_bytes(), slots.geometry().body_bytes());
    if bytes > bytes_max { Err(PublishError::TooLarge { bytes, bytes_max }) } else { Ok(()) }
}

/// Writes a message into the slot that was taken as `taken`, and commits it.
#[inline(always)]
pub(super) fn fill<M: Memory>(slots: &M::Slots, position: u64, taken: SlotWord, message: &Outgoing<'_>) {
    // Keeps the message's stores behind the one that took the slot, so that nobody can take a half-written slot
    // for the message of the lap before: pairs with the acquire fence of a reader that validates.
    M::release_fence();
    // From the end of the slot to its beginning: readers poll the line of its word, so that is touched last, and only when
    // all others are there. Otherwise they take it away in between, and the commit has to wait for it.
    message.write(slots, position);
    stops::at("slot.written");
    slots.header(position).store(message.header().pack(), Ordering::Relaxed);
    stops::at("slot.headed");
    // Release: pairs with the acquire in CursorReader::read.
    slots.word(position).store(SlotWord { state: SlotState::Committed, ..taken }.pack(), Ordering::Release);
    stops::at("slot.committed");
    let bytes = message.body_bytes();
    slots.prefetch_for_write(position + prefetch_distance(bytes), bytes);
}

/// Which slot behind this one is fetched for writing: the larger the messages, the nearer, down to the next. A message
/// like this one then finds all its lines in the producer's cache.
#[inline]
fn prefetch_distance(body_bytes: usize) -> u64 {
    (PREFETCH_BYTES / (slot::BODY + body_bytes) as u64).clamp(1, PREFETCH_SLOTS_MAX)
}

/// A producer of either kind.
pub enum Producer<M: Memory> {
    /// The one producer of its partition.
    Exclusive(ExclusiveProducer<M>),
    /// One of several.
    Shared(SharedProducer<M>),
}

impl<M: Memory> Producer<M> {
    /// Publishes one message and returns its position. Wakes nobody: ring the doorbell once per call of the user.
    #[inline]
    pub fn publish(&mut self, message: &Outgoing<'_>) -> Result<u64, PublishError> {
        match self {
            Self::Exclusive(producer) => producer.publish(message),
            Self::Shared(producer) => producer.publish(message),
        }
    }

    /// The producer, if it is one of several.
    pub fn as_shared(&mut self) -> Option<&mut SharedProducer<M>> {
        match self {
            Self::Exclusive(_) => None,
            Self::Shared(producer) => Some(producer),
        }
    }

    /// A position that the log's end has reached. Of an exclusive producer: the position of its next message.
    pub fn position(&self) -> u64 {
        match self {
            Self::Exclusive(producer) => producer.position(),
            Self::Shared(producer) => producer.position(),
        }
    }

    /// The gates, to map a cursor.
    pub fn gates(&mut self) -> &mut Gates<M> {
        match self {
            Self::Exclusive(producer) => producer.parts().2.gates(),
            Self::Shared(producer) => producer.parts().2.gates(),
        }
    }

    /// Whether the next message could be published now.
    pub fn has_space(&mut self) -> bool {
        match self {
            Self::Exclusive(producer) => producer.has_space(),
            Self::Shared(producer) => producer.has_space(),
        }
    }

    /// Gives blocks back to `blocks` whose messages nobody can read any more: see [`Blocks`].
    pub fn reclaim(&mut self, blocks: &mut Blocks, how: Reclaim) -> Result<(), PublishError> {
        let end = self.position();
        let (slots, owner, room) = match self {
            Self::Exclusive(producer) => producer.parts(),
            Self::Shared(producer) => producer.parts(),
        };
        if how == Reclaim::Unheld && room.drops() {
            blocks.forget_oldest(|position| withdraw::<M>(slots, position, owner));
        }
        blocks.reclaim(room, end, how)
    }
}

/// Takes a message back that its producer committed at `position`, on a stream whose readers validate.
fn withdraw<M: Memory>(slots: &M::Slots, position: u64, owner: u32) {
    let lap = slots.geometry().lap(position);
    let committed = SlotWord { lap, state: SlotState::Committed, owner };
    // Owner 0: there was a message, which readers count as missed.
    let tombstone = SlotWord { state: SlotState::Tombstone, owner: 0, ..committed };
    // Where it fails the slot is taken by a later message. Either way a reader that looks again finds another word
    // (release fence: if it has copied anything that is written into the message's blocks from now on).
    let _ = slots.word(position).compare_exchange(
        committed.pack(),
        tombstone.pack(),
        Ordering::AcqRel,
        Ordering::Acquire,
    );
    M::release_fence();
}
