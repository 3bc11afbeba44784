//! The feed of a `shared` subscription: what the shard has taken over, delivered again.
//!
//! A ring that only the shard writes; members claim its slots as they claim those of the live ring. Beside each slot a
//! record says which position the message has in its partition, and how often it was acquired and failed before.
//!
//! 1. A slot is used again only when its claim was harvested: acked, or taken over once more. Never is the shard
//!    blocked by a full feed: what does not fit stays in the lot.
//! 2. Record, body and header come before the commit, which releases.

use std::sync::atomic::Ordering;

use super::claims::Claims;
use super::message::{Outgoing, Received};
use super::reader::ReadError;
use crate::memory::{Memory, Slots, Word, Words};
use crate::stops;
use crate::words::{SlotState, SlotWord};

/// What the shard says about a message of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedRecord {
    /// Its position in its partition.
    pub position: u64,
    /// How often it was delivered before.
    pub acquired: u32,
    /// How many of these deliveries failed.
    pub failed: u32,
}

impl FeedRecord {
    /// As two words.
    pub fn pack(self) -> [u64; 2] {
        [self.position, u64::from(self.acquired) << 32 | u64::from(self.failed)]
    }

    /// From any two words.
    pub fn unpack([position, counts]: [u64; 2]) -> Self {
        Self { position, acquired: (counts >> 32) as u32, failed: counts as u32 }
    }
}

/// The shard's end of a feed.
pub struct Feed<M: Memory> {
    claims: Claims<M>,
    slots: M::Slots,
    records: M::Words,
    /// First position that is not harvested, and the next to be written.
    harvested: u64,
    next: u64,
}

impl<M: Memory> Feed<M> {
    /// An empty feed: its slots, their claim words, two words for each slot.
    pub fn new(claims: Claims<M>, slots: M::Slots, records: M::Words) -> Self {
        Self { claims, slots, records, harvested: 0, next: 0 }
    }

    /// Goes on where a shard that is gone has stopped: everything below `harvested`, or below the oldest that the feed can
    /// hold, is harvested; the end is where its slots say, which only shards write.
    pub fn resume(&mut self, harvested: Option<u64>) {
        let geometry = self.claims.geometry();
        let written = (0..geometry.capacity()).filter_map(|index| {
            let slot = SlotWord::unpack(self.slots.word(index).load(Ordering::Acquire));
            // What was only reserved is written anew.
            slot.lap.checked_sub(1).map(|laps| {
                laps * geometry.capacity() + index + u64::from(slot.state == SlotState::Committed)
            })
        });
        self.next = written.max().unwrap_or(0);
        let oldest = self.next.saturating_sub(geometry.capacity());
        self.harvested = harvested.unwrap_or(self.next).clamp(oldest, self.next);
    }

    /// Copies out what was written at a position that is in use.
    pub fn copy_out(&self, at: u64, buffer: &mut [u8]) -> Result<Received, ReadError> {
        self.claims.copy_out(at, buffer)
    }

    /// The claim words.
    pub fn claims(&self) -> &Claims<M> {
        &self.claims
    }

    /// Positions that are written and not harvested.
    pub fn in_use(&self) -> std::ops::Range<u64> {
        self.harvested..self.next
    }

    /// How many messages can be written.
    pub fn room(&self) -> u64 {
        self.claims.geometry().capacity() - (self.next - self.harvested)
    }

    /// Whether a message can be written.
    pub fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// Writes a message. Panics without room, or when it does not fit a slot. Returns the feed's position. Wakes nobody.
    pub fn write(&mut self, record: FeedRecord, message: &Outgoing<'_>) -> u64 {
        assert!(self.has_room(), "the feed is full");
        let (position, geometry) = (self.next, self.claims.geometry());
        let lap = geometry.lap(position);
        let word = SlotWord { lap, state: SlotState::Reserved, owner: 0 };
        self.slots.word(position).store(word.pack(), Ordering::Relaxed);
        stops::at("feed.reserved");
        // A member whose lease was taken away may still copy the slot's message of a lap before: if it copies anything
        // that is written from here on, its second look at the claim sees that.
        M::release_fence();
        for (index, value) in record.pack().into_iter().enumerate() {
            let at = geometry.index(position) * 2 + index as u64;
            self.records.at(at).store(value, Ordering::Relaxed);
        }
        stops::at("feed.recorded");
        message.write(&self.slots, position);
        stops::at("feed.written");
        self.slots.header(position).store(message.header().pack(), Ordering::Relaxed);
        stops::at("feed.headed");
        // Release: pairs with the acquire of a member's look.
        let committed = SlotWord { state: SlotState::Committed, ..word };
        self.slots.word(position).store(committed.pack(), Ordering::Release);
        stops::at("feed.committed");
        self.next = position + 1;
        position
    }

    /// Gives back the slots at the beginning that are settled.
    pub fn reuse(&mut self) {
        while self.harvested < self.next && self.claims.is_settled(self.harvested) {
            self.harvested += 1;
        }
    }
}
