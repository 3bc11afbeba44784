//! Reading a ring in order, as the one reader of a `cursor` subscription.
//!
//! The reader polls the slot of its next position. What it has read it commits by moving the cursor word,
//! which is also its gate: the slots up to there are free for producers. A commit is a compare-and-exchange,
//! so that a reader whose subscription was taken from it notices instead of moving another's cursor.

use std::sync::atomic::Ordering;

use thiserror::Error;

use crate::layout::Geometry;
use crate::memory::{Memory, Slots, Word};
use crate::words::{CursorWord, MessageHeader, SlotState, SlotWord};

/// A message that was copied out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its position.
    pub position: u64,
    /// Bytes of its payload, from the start of the buffer.
    pub payload_bytes: usize,
}

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
}

impl<M: Memory> CursorReader<M> {
    /// Reads on from `committed`, the cursor word as the shard gave it to this reader.
    pub fn new(slots: M::Slots, cursor: M::WordHandle, committed: CursorWord) -> Self {
        let geometry = slots.geometry();
        Self { slots, geometry, cursor, committed, position: committed.position }
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

    /// Whether there is something to read at the next position, a defect included.
    pub fn has_next(&self) -> bool {
        let word = SlotWord::unpack(self.slots.word(self.position).load(Ordering::Acquire));
        let lap = self.geometry.lap(self.position);
        word.lap > lap || word.lap == lap && word.state != SlotState::Reserved
    }

    /// Copies the next message into `buffer`, which must hold a slot's payload. `None`: nothing there yet.
    /// Tombstones are passed over. After an error the position is the same.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Received>, ReadError> {
        loop {
            let position = self.position;
            let expected = self.geometry.lap(position);
            // Acquire: pairs with the release store of `committed` in the producer.
            let word = SlotWord::unpack(self.slots.word(position).load(Ordering::Acquire));
            if word.lap != expected {
                if word.lap > expected {
                    return Err(ReadError::Overwritten { position, found: word.lap, expected });
                }
                return Ok(None);
            }
            match word.state {
                SlotState::Committed => {
                    let payload_bytes = self.copy_out(position, buffer)?;
                    self.position = position + 1;
                    return Ok(Some(Received { position, payload_bytes }));
                }
                SlotState::Tombstone => self.position = position + 1,
                SlotState::Reserved | SlotState::Empty => return Ok(None),
            }
        }
    }

    #[inline]
    fn copy_out(&self, position: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let bytes_max = self.geometry.payload_bytes_max();
        // Read once into a local: a hostile producer could change it between check and use.
        let header = self.slots.header(position).load(Ordering::Relaxed);
        let parts = MessageHeader::unpack(header);
        let payload_bytes = parts.payload_bytes as usize;
        if payload_bytes > bytes_max || parts.attributes_bytes != 0 || parts.flags != 0 {
            return Err(ReadError::Corrupt { position, header, bytes_max });
        }
        self.slots.read(position, &mut buffer[..payload_bytes]);
        Ok(payload_bytes)
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
        self.committed = moved;
        Ok(())
    }
}
