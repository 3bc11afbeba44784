//! The bytes of every shared region; `LAYOUT.md` draws them and a test holds the two together.
//!
//! Invariants:
//!
//! 1. Every region opens with the same 64-byte [`RegionHeader`], so that a mixed-up descriptor is noticed.
//! 2. A region has one kind of writer; words that different parties write are [`LINE_PAIR_BYTES`] apart,
//!    because processors fetch lines in pairs.
//! 3. All integers are little-endian and naturally aligned. A region is a whole number of pages.

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::text::count;
use crate::words::{LAP_BITS, POSITION_BITS};

/// "RINGWAY1" in memory order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"RINGWAY1");
/// The version of everything drawn in `LAYOUT.md`.
pub const LAYOUT_VERSION: u32 = 1;
/// Distance of words that different parties write, in bytes.
pub const LINE_PAIR_BYTES: usize = 128;
/// A region is a multiple of this, in bytes.
pub const PAGE_BYTES: usize = 4096;
/// Most gates (attached subscriptions) of one partition.
pub const GATES_MAX: usize = 64;
/// Most partitions of a stream.
pub const PARTITIONS_MAX: u32 = 64;
/// Fewest slots of a ring.
pub const CAPACITY_MIN: u64 = 2;
/// Most slots of a ring.
pub const CAPACITY_MAX: u64 = 1 << 30;
/// Slots of a ring when nothing else is said.
pub const CAPACITY_DEFAULT: u64 = 16_384;
/// Smallest slot, in bytes.
pub const SLOT_BYTES_MIN: u32 = 64;
/// Largest slot, in bytes.
pub const SLOT_BYTES_MAX: u32 = 4096;
/// Bytes of a slot when nothing else is said.
pub const SLOT_BYTES_DEFAULT: u32 = 128;
/// Largest ring, in bytes of slots.
pub const RING_BYTES_MAX: u64 = 64 << 30;
/// Most slots of a feed.
pub const FEED_CAPACITY_MAX: u64 = 4096;
/// Words of a record of the feed: the message's position, and how often it was acquired and failed before.
pub const FEED_RECORD_WORDS: usize = 2;
/// Settlements that a member's ring holds.
pub const SETTLEMENTS: u64 = 1024;
/// Words of a settlement: position; attempt and verdict; argument.
pub const SETTLEMENT_WORDS: usize = 4;
/// Most messages of one reader that are held in place at the same time.
pub const HAZARDS_MAX: usize = 64;
/// Parts of a message's body begin at multiples of this, in bytes.
pub const PART_ALIGN_BYTES: usize = 16;
/// Bytes of a reference to a block of an arena.
pub const ARENA_REFERENCE_BYTES: usize = 16;
/// Blocks of an arena begin at multiples of this, in bytes.
pub const BLOCK_ALIGN_BYTES: u64 = 128;
/// Largest arena, in bytes of the region.
pub const ARENA_BYTES_MAX: u64 = 64 << 30;

/// Offsets inside a slot, in bytes.
pub mod slot {
    /// The slot word.
    pub const WORD: usize = 0;
    /// The message header word.
    pub const HEADER: usize = 8;
    /// References into arenas, attributes, payload.
    pub const BODY: usize = 16;
}

/// Offsets inside the `meta` region, in bytes.
pub mod meta {
    /// [`GeometryRecord`](super::GeometryRecord).
    pub const GEOMETRY: usize = 64;
    /// Bit set of the gates in force.
    pub const GATES_ACTIVE: usize = 512;
    /// How many arenas of its own the shard has made.
    pub const SHARD_ARENAS_MADE: usize = 576;
    /// Everything below this position was handed to the kernel.
    pub const WRITTEN: usize = 640;
    /// Everything below this position is on the device.
    pub const SYNCED: usize = 768;
    /// Whether messages can be journaled: a [`JournalState`](crate::ring::JournalState).
    pub const JOURNAL_STATE: usize = 896;
    /// Gate mirror: one gate word per gate.
    pub const GATES: usize = 1024;
    /// Bytes of the region.
    pub const BYTES: usize = 4096;
}

/// Offsets inside the `producers` region, in bytes.
pub mod producers {
    /// The limit word.
    pub const LIMIT: usize = 128;
    /// A position that the end of the log has reached: a hint, never trusted.
    pub const TAIL: usize = 256;
    /// Bytes of the region.
    pub const BYTES: usize = 4096;
}

/// Offsets inside the `doorbell` region, in bytes.
pub mod doorbell {
    /// Consumers that go to sleep count up here (64 bit).
    pub const DATA_ANNOUNCE: usize = 128;
    /// Futex that publishers ring (32 bit).
    pub const DATA_BELL: usize = 256;
    /// Producers that go to sleep count up here (64 bit).
    pub const SPACE_ANNOUNCE: usize = 384;
    /// Futex that consumers ring when a gate has risen (32 bit).
    pub const SPACE_BELL: usize = 512;
    /// Producers that go to sleep until their messages are confirmed count up here (64 bit).
    pub const CONFIRM_ANNOUNCE: usize = 640;
    /// Futex that the shard rings when a watermark has risen (32 bit).
    pub const CONFIRM_BELL: usize = 768;
    /// The shard counts up here when it stops looking for what is to be journaled (64 bit).
    pub const JOURNAL_ANNOUNCE: usize = 896;
    /// Futex that whoever waits for the journal rings (32 bit).
    pub const JOURNAL_BELL: usize = 1024;
    /// Bytes of the region.
    pub const BYTES: usize = 4096;
}

/// Offsets inside a `subscription` region, in bytes.
pub mod subscription {
    /// The cursor word; of a `shared` subscription its floor, in the same form.
    pub const CURSOR: usize = 128;
    /// Bit set of the hazards in use.
    pub const HAZARDS_ACTIVE: usize = 256;
    /// Hazards: one position each.
    pub const HAZARDS: usize = 512;
    /// Of a `shared` subscription: whether the shard watches its leases.
    pub const WATCH: usize = 1152;
    /// Of a `shared` subscription with a single active consumer: the member that may claim; 0: all may.
    pub const ACTIVE: usize = 1280;
    /// Of a `shared` subscription: whether the shard knows of all room in the feed that it could use; 0: who acks there
    /// calls.
    pub const REFILL: usize = 1408;
    /// Number of the last round in which the shard has begun to journal what is settled.
    pub const ROUND_BEGUN: usize = 1536;
    /// Number of the last such round whose findings are journaled.
    pub const ROUND_DONE: usize = 1664;
    /// Bytes of the region.
    pub const BYTES: usize = 4096;
}

/// Offsets inside the `slots` region, in bytes.
pub mod slots {
    /// Slot 0.
    pub const FIRST: usize = 4096;
}

/// Offsets inside a `claims` region, in bytes.
pub mod claims {
    /// The claim word of the ring's slot 0; behind those of the ring come those of the feed.
    pub const FIRST: usize = 4096;
}

/// Offsets inside a `feed` region, in bytes.
pub mod feed {
    /// Slot 0, as in a `slots` region; behind the slots come [`FEED_RECORD_WORDS`](super::FEED_RECORD_WORDS) words for each.
    pub const FIRST: usize = super::slots::FIRST;
}

/// Offsets inside a `member` region, in bytes.
pub mod member {
    /// Whether the member has called the shard since the shard last looked.
    pub const CALLED: usize = 128;
    /// Settlements that the member has written.
    pub const WRITTEN: usize = 256;
    /// Settlements that the shard has judged.
    pub const JUDGED: usize = 384;
    /// Settlements that were late: see [`Verdict`](crate::ring::settlements::Verdict).
    pub const LATE: usize = 512;
    /// The first settlement.
    pub const FIRST: usize = 4096;
    /// Bytes of the region.
    pub const BYTES: usize = FIRST + super::SETTLEMENTS as usize * super::SETTLEMENT_WORDS * 8;
}

/// Offsets inside an `arena` region, in bytes.
pub mod arena {
    /// The first block.
    pub const FIRST: usize = 4096;
}

/// Offsets inside a `page` region, in bytes.
pub mod page {
    /// The first message.
    pub const FIRST: usize = 4096;
}

/// Which region a descriptor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RegionKind {
    /// Geometry and gate mirror; written by the shard.
    Meta = 1,
    /// Limit word; written by producers and the shard.
    Producers = 2,
    /// Messages; written by producers and the shard.
    Slots = 3,
    /// Announcements and bells; written by everybody who may sleep or wake.
    Doorbell = 4,
    /// Cursor and hazards of one subscription; written by its consumers and the shard.
    Subscription = 5,
    /// Payloads that do not fit a slot; written by one producer.
    Arena = 6,
    /// Claim words of a `shared` subscription; written by its consumers and the shard.
    Claims = 7,
    /// Messages that the shard has taken over and delivers again; written by the shard.
    Feed = 8,
    /// Settlements of one consumer of a `shared` subscription; written by it and the shard.
    Member = 9,
    /// Messages of a journal for one consumer that is behind the ring; written by the shard.
    Page = 10,
}

/// The first 64 bytes of every region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionHeader {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`].
    pub version: u32,
    /// A [`RegionKind`].
    pub kind: u32,
    /// Names the ring for ever: random, new with each ring that is made.
    pub incarnation: u64,
    /// Feature bits that a user of the region must know.
    pub features_required: u64,
    /// Feature bits that a user of the region may ignore.
    pub features_optional: u64,
    /// Bytes of the region.
    pub bytes: u64,
    /// Zero.
    pub reserved: [u64; 2],
}

/// The geometry of a ring as it stands in `meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GeometryRecord {
    /// Slots of the ring.
    pub capacity: u64,
    /// Bytes of a slot.
    pub slot_bytes: u32,
    /// Number of the partition in its stream.
    pub partition: u32,
}

const _: () = {
    assert!(size_of::<RegionHeader>() == 64);
    assert!(size_of::<GeometryRecord>() == 16);
    assert!(meta::GEOMETRY >= size_of::<RegionHeader>());
    assert!(meta::GATES + GATES_MAX * 8 <= meta::BYTES);
    assert!(slots::FIRST.is_multiple_of(PAGE_BYTES));
    assert!(subscription::HAZARDS + HAZARDS_MAX * 8 <= subscription::WATCH);
    assert!(member::BYTES.is_multiple_of(PAGE_BYTES));
    assert!((arena::FIRST as u64).is_multiple_of(BLOCK_ALIGN_BYTES));
    // Both references fit into the smallest body.
    assert!(slot::BODY + 2 * ARENA_REFERENCE_BYTES <= SLOT_BYTES_MIN as usize);
};

/// The checked size of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    capacity: u64,
    slot_bytes: u32,
}

impl Geometry {
    /// Checks the numbers: both powers of two within their limits.
    pub fn new(capacity: u64, slot_bytes: u32) -> Result<Self, GeometryError> {
        if !capacity.is_power_of_two() || !(CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity) {
            return Err(GeometryError::Capacity {
                capacity,
                near: nearest(capacity, CAPACITY_MIN, CAPACITY_MAX),
            });
        }
        if !slot_bytes.is_power_of_two() || !(SLOT_BYTES_MIN..=SLOT_BYTES_MAX).contains(&slot_bytes) {
            let near = nearest(slot_bytes.into(), SLOT_BYTES_MIN.into(), SLOT_BYTES_MAX.into());
            return Err(GeometryError::SlotBytes { slot_bytes, near });
        }
        let bytes = capacity * u64::from(slot_bytes);
        if bytes > RING_BYTES_MAX {
            return Err(GeometryError::Ring { capacity, slot_bytes, bytes });
        }
        Ok(Self { capacity, slot_bytes })
    }

    /// Slots of the ring, a power of two.
    pub const fn capacity(self) -> u64 {
        self.capacity
    }

    /// Bytes of a slot, a power of two.
    pub const fn slot_bytes(self) -> u32 {
        self.slot_bytes
    }

    /// Bytes of a slot's body: the most that a message without attributes holds inline.
    pub const fn body_bytes(self) -> usize {
        self.slot_bytes as usize - slot::BODY
    }

    /// Bytes of the `slots` region.
    pub const fn slots_region_bytes(self) -> usize {
        let bytes = slots::FIRST + self.capacity as usize * self.slot_bytes as usize;
        bytes.next_multiple_of(PAGE_BYTES)
    }

    /// The feed of a `shared` subscription of a ring of this size: the same slots, at most 4096 of them.
    pub fn of_feed(self) -> Self {
        Self { capacity: self.capacity.min(FEED_CAPACITY_MAX), ..self }
    }

    /// Bytes of the `claims` region of a subscription of this ring.
    pub fn claims_region_bytes(self) -> usize {
        let words = self.capacity + self.of_feed().capacity;
        (claims::FIRST + words as usize * 8).next_multiple_of(PAGE_BYTES)
    }

    /// Bytes of a `feed` region whose slots are of this geometry.
    pub fn feed_region_bytes(self) -> usize {
        (self.feed_records() + self.capacity as usize * FEED_RECORD_WORDS * 8).next_multiple_of(PAGE_BYTES)
    }

    /// Where the records of a `feed` region begin whose slots are of this geometry.
    pub const fn feed_records(self) -> usize {
        feed::FIRST + self.capacity as usize * self.slot_bytes as usize
    }

    /// One past the last position that this ring can name: bounded by the bits of a position and of a lap.
    pub const fn position_end(self) -> u64 {
        let by_lap = ((1u128 << LAP_BITS) - 1) * self.capacity as u128;
        let by_position = (1u128 << POSITION_BITS) - 1;
        (if by_lap < by_position { by_lap } else { by_position }) as u64
    }

    /// The lap in which `position` is written: 1 for the first.
    #[inline]
    pub const fn lap(self, position: u64) -> u64 {
        (position >> self.capacity.trailing_zeros()) + 1
    }

    /// The slot that holds `position`.
    #[inline]
    pub const fn index(self, position: u64) -> u64 {
        position & (self.capacity - 1)
    }
}

fn nearest(value: u64, low: u64, high: u64) -> u64 {
    value.clamp(low, high).checked_next_power_of_two().map_or(high, |up| up.min(high))
}

/// Why a ring cannot have the size asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// Not a power of two, too small or too large.
    #[error(
        "a ring of {} cannot be made: the number must be a power of two from {CAPACITY_MIN} to {CAPACITY_MAX}; the nearest \
         is {near}", count(*.capacity, "slot")
    )]
    Capacity {
        /// What was asked for.
        capacity: u64,
        /// A number that would do.
        near: u64,
    },
    /// Not a power of two, too small or too large.
    #[error(
        "slots of {} cannot be made: the size must be a power of two from {SLOT_BYTES_MIN} to {SLOT_BYTES_MAX}; the nearest \
         is {near}", count((*.slot_bytes).into(), "byte")
    )]
    SlotBytes {
        /// What was asked for.
        slot_bytes: u32,
        /// A number that would do.
        near: u64,
    },
    /// Each part is right, the product is too large.
    #[error(
        "a ring of {} of {} would take {bytes} bytes: {RING_BYTES_MAX} at the most; take fewer or smaller slots",
        count(*.capacity, "slot"), count((*.slot_bytes).into(), "byte")
    )]
    Ring {
        /// Slots asked for.
        capacity: u64,
        /// Bytes of a slot asked for.
        slot_bytes: u32,
        /// Their product.
        bytes: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_and_indices_of_a_small_ring() {
        let geometry = Geometry::new(4, 64).unwrap();
        let seen: Vec<_> = (0..9).map(|p| (geometry.lap(p), geometry.index(p))).collect();
        assert_eq!(seen, [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0)]);
    }

    #[test]
    fn a_capacity_that_is_no_power_of_two_is_refused_with_the_next_one() {
        let error = Geometry::new(1000, 128).unwrap_err();
        assert_eq!(error, GeometryError::Capacity { capacity: 1000, near: 1024 });
        assert_eq!(
            Geometry::new(0, 128).unwrap_err(),
            GeometryError::Capacity { capacity: 0, near: CAPACITY_MIN }
        );
        assert_eq!(
            Geometry::new(u64::MAX, 128).unwrap_err(),
            GeometryError::Capacity { capacity: u64::MAX, near: CAPACITY_MAX }
        );
        assert_eq!(
            Geometry::new(1024, 100).unwrap_err(),
            GeometryError::SlotBytes { slot_bytes: 100, near: 128 }
        );
        assert!(matches!(Geometry::new(1 << 30, 4096), Err(GeometryError::Ring { .. })));
    }

    #[test]
    fn the_last_position_fits_the_words() {
        for shift in 1..=30 {
            let geometry = Geometry::new(1 << shift, 64).unwrap();
            let last = geometry.position_end() - 1;
            assert!(geometry.lap(last) < 1 << LAP_BITS);
            assert!(geometry.position_end() < 1 << POSITION_BITS);
        }
    }
}
