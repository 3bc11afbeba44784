//! Reading a ring in order, as the one reader of a `cursor` subscription.
//!
//! The reader polls the slot of its next position. What it has read it commits by moving the cursor word,
//! which is also its gate: the slots up to there are free for producers. A commit is a compare-and-exchange,
//! so that a reader whose subscription was taken from it notices instead of moving another's cursor.
//!
//! A reader that has caught up and looks at every slot while it is being written takes each line from the producer just
//! before it writes, which makes a fast stream several times slower. So one that again and again finds the next message soon
//! after it has caught up is told to give way: it pauses once, and leaves the producer alone for that time.
//!
//! Where the cursor is no gate (a stream that drops its oldest, or detaches who lags) a producer may overwrite what is
//! being read. There the reader *validates*: it copies, and then looks whether the slot's word is still the
//! same; if not, it goes on where the ring still holds messages, and counts what it missed. Where everything is in a journal, too, it
//! *stops* instead: its owner reads there what the ring has no longer, and moves the cursor all the while, which is no gate then but
//! says what the journal must keep.
//!
//! ```text
//! live ──shard: CAS, gate out of force──▶ detached (p) ──reader: CAS──▶ detached (p + n) ──shard, asked: gate in force──▶ live
//! ```

use std::sync::atomic::Ordering;

use thiserror::Error;

use super::claims::copy_out;
use super::message::Received;
use super::watermarks::{Visible, Watermarks};
use crate::layout::Geometry;
use crate::memory::{Memory, Slots, Word};
use crate::stops;
use crate::words::{CursorWord, SlotState, SlotWord};

/// A reader that was overtaken leaves this part of the ring to the producers, so that it is not overtaken again at once.
const OVERTAKEN_PART: u64 = 8;
/// A message that is there after so many looks came soon.
const LOOKS_SOON: u32 = 2;
/// So many messages in a row that came soon are a stream.
const STREAK_MIN: u32 = 16;
/// Processor hints that the reader of such a stream pauses for when it has caught up: some microseconds, in which a hundred
/// messages come. With a third of it the reader still meets the producer's lines.
const PAUSES: u32 = 96;

/// What the ring holds at a position cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The slot is of a later lap: the gate was not respected.
    #[error(
        "position {position} was overwritten: its slot is in lap {found}, expected {expected}; a producer of this stream ignores the gates"
    )]
    Overwritten {
        /// The position.
        position: u64,
        /// Lap found.
        found: u64,
        /// Lap expected.
        expected: u64,
    },
    /// Lengths or flags are impossible.
    #[error(
        "the message at position {position} is corrupt: header {header:#018x}, a slot holds {bytes_max} bytes"
    )]
    Corrupt {
        /// The position.
        position: u64,
        /// The header word.
        header: u64,
        /// Most bytes that a slot holds.
        bytes_max: usize,
    },
}

/// The cursor is no longer this reader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the cursor was taken over: it stands at {} (generation {}), this reader's is generation {generation}", .found.position, .found.generation)]
pub struct CursorLost {
    /// The cursor as it stands.
    pub found: CursorWord,
    /// The reader's generation.
    pub generation: u16,
}

/// The one reader of a `cursor` subscription.
pub struct CursorReader<M: Memory> {
    slots: M::Slots,
    geometry: Geometry,
    cursor: M::WordHandle,
    /// The cursor as this reader last left it.
    committed: CursorWord,
    /// Next position to read.
    position: u64,
    /// Word of the slot that was read last.
    last: u64,
    /// Producers may overwrite what is being read.
    validates: bool,
    /// It misses nothing that is overwritten: it stops there.
    stops: bool,
    /// It validates, or does not see everything. One look for both: a second one costs a tenth of what a message costs.
    checks: bool,
    /// Messages that were overwritten before they were read.
    missed: u64,
    visible: Visible<M>,
    courtesy: Courtesy,
}

/// When a reader that has caught up pauses before it looks again.
///
/// Only a stream whose messages follow each other closely is read so: one message and one answer at a time never is.
/// Measured on two machines of two cores, 64-byte messages of one shared producer: 92 to 123 ns a message without,
/// 26 to 37 with; 69 without, 51 with.
#[derive(Debug)]
struct Courtesy {
    wanted: bool,
    /// Looks in vain since the last message.
    looks: u32,
    /// How often in a row the next message was there soon after the reader had caught up.
    streak: u32,
    /// A pause is due.
    pauses: bool,
}

impl Courtesy {
    fn found_nothing(&mut self) {
        self.pauses = self.wanted && self.looks == 0 && self.streak >= STREAK_MIN;
        self.looks = self.looks.saturating_add(1);
    }

    #[inline]
    fn found_one(&mut self) {
        if self.looks > 0 {
            self.streak = if self.looks <= LOOKS_SOON { self.streak.saturating_add(1) } else { 0 };
            self.looks = 0;
        }
    }
}

impl CursorLost {
    /// Whether the subscription is still this reader's, and was detached because it lagged.
    pub fn is_detached(&self) -> bool {
        self.found.generation == self.generation && !self.found.live
    }

    /// Whether it is this reader's, and a gate: of one that takes itself for detached, it was attached, and the answer was lost.
    pub fn is_attached(&self) -> bool {
        self.found.generation == self.generation && self.found.live
    }
}

impl<M: Memory> CursorReader<M> {
    /// Reads on from `committed`, the cursor word as the shard gave it to this reader. `validates`: producers do
    /// not wait for this reader.
    pub fn new(slots: M::Slots, cursor: M::WordHandle, committed: CursorWord, validates: bool) -> Self {
        let (geometry, position) = (slots.geometry(), committed.position);
        // One that was detached before is taken for a live one, so that the first commit finds out.
        let committed = CursorWord { live: true, ..committed };
        Self {
            slots,
            geometry,
            cursor,
            committed,
            position,
            last: 0,
            validates,
            stops: false,
            checks: validates,
            missed: 0,
            visible: Visible::up_to(geometry.position_end()),
            courtesy: Courtesy { wanted: true, looks: 0, streak: 0, pauses: false },
        }
    }

    /// Lets the producer get ahead, if this look in vain was the first after a stream of messages (see the module). `true`:
    /// it has paused for some microseconds, and another look is worth it.
    #[inline]
    pub fn gives_way(&mut self) -> bool {
        let pauses = std::mem::take(&mut self.courtesy.pauses);
        if pauses {
            M::pause(PAUSES);
        }
        pauses
    }

    /// Whether it may give way (at first it may): without, a stream of many millions of messages a second is read with the
    /// least delay and a fraction of its throughput.
    pub fn set_courtesy(&mut self, wanted: bool) {
        self.courtesy.wanted = wanted;
    }

    /// Reads only what is on the device.
    pub fn wait_for_sync(&mut self, watermarks: Watermarks<M>) {
        (self.visible, self.checks) = (Visible::durable(watermarks), true);
    }

    /// Stops where it would miss something, with [`ReadError::Overwritten`]: that is in the journal. It begins as its `cursor` stands,
    /// live or detached.
    pub fn stop_when_overtaken(&mut self, cursor: CursorWord) {
        (self.stops, self.committed.live) = (true, cursor.live);
    }

    /// Whether it stops where it would miss something.
    #[inline]
    pub fn stops(&self) -> bool {
        self.stops
    }

    /// Whether its cursor is a gate, as far as it knows.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.committed.live
    }

    /// A commit has found out that it was detached.
    pub fn note_detached(&mut self) {
        self.committed.live = false;
    }

    /// Whether its cursor is a gate still, and was while everything was copied that it has copied so far.
    pub fn is_live_still(&self) -> bool {
        // The copies stay before the load: producers that reuse what was copied have seen the gate out of force, which the shard takes
        // out behind its exchange on the cursor.
        M::acquire_fence();
        self.committed.live && self.cursor.load(Ordering::Relaxed) == self.committed.pack()
    }

    /// Whether the ring has a later message where the next one was.
    pub fn is_overtaken(&self) -> bool {
        let word = SlotWord::unpack(self.slots.word(self.position).load(Ordering::Acquire));
        word.lap > self.geometry.lap(self.position)
    }

    /// What was read at `position`, as the last, was not: it is the next again. Panics when it was committed.
    pub fn unread(&mut self, position: u64) {
        assert!((self.committed.position..=self.position).contains(&position), "unread what was committed");
        self.position = position;
    }

    /// The size of the ring.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Next position to read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many positions were read and not committed.
    #[inline]
    pub fn uncommitted(&self) -> u64 {
        self.position - self.committed.position
    }

    /// Goes on at `position`, if that is further: what lies between was read before, or cannot be. It counts as read.
    pub fn skip_to(&mut self, position: u64) {
        self.position = self.position.max(position);
    }

    /// Whether there is something to read at the next position, a defect included.
    pub fn has_next(&self) -> bool {
        if !self.visible.is(self.position) {
            return false;
        }
        let word = SlotWord::unpack(self.slots.word(self.position).load(Ordering::Acquire));
        let lap = self.geometry.lap(self.position);
        word.lap > lap || word.lap == lap && word.state != SlotState::Reserved
    }

    /// Messages that were overwritten before they could be read; 0 for a reader that does not validate.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Whether producers may overwrite what is being read.
    pub fn validates(&self) -> bool {
        self.validates
    }

    /// Copies the body of the next message into `buffer`, which must hold a slot's body. `None`: nothing there yet.
    /// Tombstones are passed over. After an error the position is the same.
    // Inlined in any case: what it returns is as costly to hand on by memory as to find.
    #[inline(always)]
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Received>, ReadError> {
        loop {
            let position = self.position;
            let expected = self.geometry.lap(position);
            // Acquire: pairs with the release store of `committed` in the producer.
            let found = self.slots.word(position).load(Ordering::Acquire);
            let word = SlotWord::unpack(found);
            if word.lap != expected {
                if word.lap < expected {
                    self.courtesy.found_nothing();
                    return Ok(None);
                }
                self.overtaken(word.lap)?;
                continue;
            }
            match word.state {
                SlotState::Committed => {
                    let received = copy_out(&self.slots, self.geometry, position, buffer);
                    self.last = found;
                    if self.checks {
                        if !self.visible.is_or_has_become(position) {
                            self.courtesy.found_nothing();
                            return Ok(None);
                        }
                        if self.validates && !self.is_unchanged(position) {
                            continue;
                        }
                    }
                    let received = received?;
                    self.courtesy.found_one();
                    self.position = position + 1;
                    return Ok(Some(received));
                }
                SlotState::Tombstone => {
                    // Owner 0: there was a message, and its producer took it back.
                    self.missed += u64::from(word.owner == 0);
                    self.position = position + 1;
                }
                SlotState::Reserved | SlotState::Empty => {
                    self.courtesy.found_nothing();
                    return Ok(None);
                }
            }
        }
    }

    /// Whether the slot of the message that was read last, at `position`, is still as it was before it was read: what
    /// was copied since is then the message's own.
    #[inline]
    pub fn is_unchanged(&self, position: u64) -> bool {
        // The copies stay before the load: pairs with the release fence behind the store that takes a slot.
        M::acquire_fence();
        self.slots.word(position).load(Ordering::Relaxed) == self.last
    }

    /// What was read last turned out to be overwritten: it counts as missed.
    pub fn count_missed(&mut self) {
        self.missed += 1;
    }

    /// The subscription was detached and is attached again: reads on from `cursor`, or from where it is if that is later.
    /// What lies between is missed.
    pub fn attach(&mut self, cursor: CursorWord) {
        self.missed += cursor.position.saturating_sub(self.position);
        self.position = self.position.max(cursor.position);
        self.committed = cursor;
    }

    /// The slot of the next position is in `lap` already. Goes on with what the ring still holds, if that is in
    /// order here.
    #[cold]
    fn overtaken(&mut self, lap: u64) -> Result<(), ReadError> {
        let (position, expected) = (self.position, self.geometry.lap(self.position));
        if !self.validates || self.stops {
            return Err(ReadError::Overwritten { position, found: lap, expected });
        }
        let capacity = self.geometry.capacity();
        // The newest message known is a multiple of the capacity further; behind it the oldest begin.
        let newest = position.saturating_add((lap - expected).saturating_mul(capacity));
        let next = (newest - capacity + 1 + capacity / OVERTAKEN_PART).min(self.geometry.position_end());
        self.missed += next - position;
        self.position = next;
        Ok(())
    }

    /// Moves the cursor to `position`, which lies between the last commit and the next position to read.
    /// Panics when it does not.
    #[inline]
    pub fn commit(&mut self, position: u64) -> Result<(), CursorLost> {
        assert!((self.committed.position..=self.position).contains(&position), "commit of what was not read");
        let moved = CursorWord { position, ..self.committed };
        // Release: the loads of the slots below are over before a producer sees the cursor (its acquire is
        // in Gates::lowest).
        self.cursor
            .compare_exchange(self.committed.pack(), moved.pack(), Ordering::Release, Ordering::Relaxed)
            .map_err(|found| CursorLost {
                found: CursorWord::unpack(found),
                generation: self.committed.generation,
            })?;
        stops::at("cursor.committed");
        self.committed = moved;
        Ok(())
    }
}
