//! The packed 64-bit words that broker, producers and consumers change with single atomic operations.
//!
//! ```text
//! slot     63 ──── lap 40 ──── 24 │ 23 state 2 22 │ 21 ──── owner 22 ──── 0
//! limit    63 ────── position 50 ────── 14 │ 13 ──── gate epoch 14 ──── 0
//! gate     63 ────── position 50 ────── 14 │ 13 ──── generation 14 ──── 0
//! cursor   63 ────── position 50 ────── 14 │ pinned 1 │ live 1 │ generation 12
//! claim    63 ──── lap 40 ──── 24 │ 23 state 3 21 │ 20 ─── member 21 ─── 0
//! header   63 ─ flags 16 ─ 48 │ 47 ─ attributes bytes 16 ─ 32 │ 31 ─ payload bytes 32 ─ 0
//! ```
//!
//! Invariants:
//!
//! 1. Packing loses nothing that is in range; out-of-range input is a bug of the caller and panics.
//! 2. Unpacking never fails: every 64-bit value means something, so a hostile writer cannot make a reader
//!    panic here. What it means is judged by the algorithms.
//! 3. The all-zero word is "never used": lap 0 belongs to no position.

/// Bits of a position: a partition holds at most 2⁵⁰ positions in its life.
pub const POSITION_BITS: u32 = 50;
/// Bits of a lap in a slot word.
pub const LAP_BITS: u32 = 40;
/// Bits of an owner in a slot word; owner 0 is the shard itself.
pub const OWNER_BITS: u32 = 22;
/// Bits of a member in a claim word; member 0 is nobody.
pub const MEMBER_BITS: u32 = 21;
/// Bits of the gate epoch in the limit word and of a gate's generation.
pub const EPOCH_BITS: u32 = 14;
/// Bits of a cursor's generation.
pub const GENERATION_BITS: u32 = 12;

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// What a slot holds, in two bits of its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Never taken (only in lap 0).
    Empty,
    /// Taken by its owner, who is writing.
    Reserved,
    /// Readable.
    Committed,
    /// Its owner died while writing, or (owner 0) a published message was taken back: readers skip it.
    Tombstone,
}

/// The first word of a slot: which position it holds, how far it is, and who took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotWord {
    /// `position / capacity + 1`; 0 in a slot that was never used. 40 bits.
    pub lap: u64,
    /// How far the slot is.
    pub state: SlotState,
    /// Who took it: a producer's owner id. 22 bits.
    pub owner: u32,
}

impl SlotWord {
    /// Packs the word. Panics when `lap` or `owner` is out of range.
    #[inline]
    pub const fn pack(self) -> u64 {
        assert!(self.lap <= mask(LAP_BITS), "lap exceeds 40 bits");
        assert!((self.owner as u64) <= mask(OWNER_BITS), "owner exceeds 22 bits");
        self.lap << 24 | (self.state as u64) << OWNER_BITS | self.owner as u64
    }

    /// Unpacks any value.
    #[inline]
    pub const fn unpack(word: u64) -> Self {
        let state = match word >> OWNER_BITS & 3 {
            0 => SlotState::Empty,
            1 => SlotState::Reserved,
            2 => SlotState::Committed,
            _ => SlotState::Tombstone,
        };
        Self { lap: word >> 24, state, owner: (word & mask(OWNER_BITS)) as u32 }
    }
}

/// How far producers may go: they take positions below [`position`](Self::position) only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitWord {
    /// First position that may not be taken yet. 50 bits.
    pub position: u64,
    /// Counts the gates that have joined, modulo 2¹⁴: a producer that computed a limit before a gate joined
    /// cannot store it afterwards.
    pub epoch: u16,
}

impl LimitWord {
    /// Packs the word. Panics when a part is out of range.
    #[inline]
    pub const fn pack(self) -> u64 {
        pack_position(self.position, self.epoch)
    }

    /// Unpacks any value.
    #[inline]
    pub const fn unpack(word: u64) -> Self {
        Self { position: word >> EPOCH_BITS, epoch: (word & mask(EPOCH_BITS)) as u16 }
    }

    /// The same limit after one more gate has joined.
    pub const fn next_epoch(self) -> Self {
        Self { position: self.position, epoch: next_epoch(self.epoch) }
    }
}

/// Where a gate stood when it joined, and which joining it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateWord {
    /// A position that the gate has never been below. 50 bits.
    pub position: u64,
    /// Tells the users of one gate index apart. 14 bits.
    pub generation: u16,
}

impl GateWord {
    /// Packs the word. Panics when a part is out of range.
    pub const fn pack(self) -> u64 {
        pack_position(self.position, self.generation)
    }

    /// Unpacks any value.
    #[inline]
    pub const fn unpack(word: u64) -> Self {
        Self { position: word >> EPOCH_BITS, generation: (word & mask(EPOCH_BITS)) as u16 }
    }
}

/// Where a `cursor` subscription stands: everything below its position has been consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorWord {
    /// First position that is not consumed. 50 bits.
    pub position: u64,
    /// The reader is copying messages out: the shard may not move the cursor.
    pub pinned: bool,
    /// Reads the live ring; otherwise the feed.
    pub live: bool,
    /// One more with each reader that ended; a reader of an older generation has lost the cursor. 12 bits.
    pub generation: u16,
}

impl CursorWord {
    /// Packs the word. Panics when a part is out of range.
    #[inline]
    pub const fn pack(self) -> u64 {
        assert!((self.generation as u64) <= mask(GENERATION_BITS), "generation exceeds 12 bits");
        pack_position(
            self.position,
            (self.pinned as u16) << 13 | (self.live as u16) << GENERATION_BITS | self.generation,
        )
    }

    /// Unpacks any value.
    #[inline]
    pub const fn unpack(word: u64) -> Self {
        Self {
            position: word >> EPOCH_BITS,
            pinned: word >> 13 & 1 == 1,
            live: word >> GENERATION_BITS & 1 == 1,
            generation: (word & mask(GENERATION_BITS)) as u16,
        }
    }

    /// The generation of the reader after this one.
    pub const fn next_generation(self) -> u16 {
        (self.generation + 1) & mask(GENERATION_BITS) as u16
    }
}

/// How far the delivery of a position is, in three bits of its claim word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// Nobody has it. Only in an older lap: nothing returns to this state.
    Free,
    /// A member has it and has not settled it.
    Leased,
    /// Settled: it is never delivered again.
    Acked,
    /// The shard is taking it over.
    Moving,
    /// The shard has taken it over: whatever comes of it comes by the feed.
    Moved,
}

/// Who has a position of a `shared` subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimWord {
    /// Lap of the position that it speaks of; a word of an older lap says that nobody has claimed the position. 40 bits.
    pub lap: u64,
    /// How far it is.
    pub state: ClaimState,
    /// Who claimed it. 21 bits.
    pub member: u32,
}

impl ClaimWord {
    /// Packs the word. Panics when `lap` or `member` is out of range.
    #[inline]
    pub const fn pack(self) -> u64 {
        assert!(self.lap <= mask(LAP_BITS), "lap exceeds 40 bits");
        assert!((self.member as u64) <= mask(MEMBER_BITS), "member exceeds 21 bits");
        self.lap << 24 | (self.state as u64) << MEMBER_BITS | self.member as u64
    }

    /// Unpacks any value. States that do not exist count as moving: nobody touches such a word but the shard.
    #[inline]
    pub const fn unpack(word: u64) -> Self {
        let state = match word >> MEMBER_BITS & 7 {
            0 => ClaimState::Free,
            1 => ClaimState::Leased,
            2 => ClaimState::Acked,
            4 => ClaimState::Moved,
            _ => ClaimState::Moving,
        };
        Self { lap: word >> 24, state, member: (word & mask(MEMBER_BITS)) as u32 }
    }
}

/// The second word of a slot: how long the parts of its message are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageHeader {
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// Bytes of attributes.
    pub attributes_bytes: u16,
    /// Which attributes there are, and which parts are in an arena.
    pub flags: u16,
}

impl MessageHeader {
    /// Flag: the payload is in an arena, the body holds a reference to it.
    pub const PAYLOAD_IN_ARENA: u16 = 1 << 15;
    /// Flag: the attributes are in an arena, the body holds a reference to them.
    pub const ATTRIBUTES_IN_ARENA: u16 = 1 << 14;

    /// Packs the word.
    #[inline]
    pub const fn pack(self) -> u64 {
        (self.flags as u64) << 48 | (self.attributes_bytes as u64) << 32 | self.payload_bytes as u64
    }

    /// Unpacks any value.
    #[inline]
    pub const fn unpack(word: u64) -> Self {
        Self { payload_bytes: word as u32, attributes_bytes: (word >> 32) as u16, flags: (word >> 48) as u16 }
    }
}

/// The epoch or gate generation after `epoch`, modulo 2¹⁴.
pub const fn next_epoch(epoch: u16) -> u16 {
    (epoch + 1) & mask(EPOCH_BITS) as u16
}

#[inline]
const fn pack_position(position: u64, low: u16) -> u64 {
    assert!(position <= mask(POSITION_BITS), "position exceeds 50 bits");
    assert!(low as u64 <= mask(EPOCH_BITS), "low part exceeds 14 bits");
    position << EPOCH_BITS | low as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_word_unpacks_to_what_was_packed(word: u64) {
            prop_assert_eq!(SlotWord::unpack(word).pack(), word);
            prop_assert_eq!(LimitWord::unpack(word).pack(), word);
            prop_assert_eq!(GateWord::unpack(word).pack(), word);
            prop_assert_eq!(CursorWord::unpack(word).pack(), word);
            prop_assert_eq!(MessageHeader::unpack(word).pack(), word);
            // Three of the eight states do not exist.
            let claim = ClaimWord::unpack(word);
            prop_assert_eq!(ClaimWord::unpack(claim.pack()), claim);
            prop_assert!(claim.pack() == word || word >> MEMBER_BITS & 7 > 4);
        }
    }

    #[test]
    fn epochs_and_generations_wrap_inside_their_bits() {
        assert_eq!(
            LimitWord { position: 7, epoch: 0x3fff }.next_epoch(),
            LimitWord { position: 7, epoch: 0 }
        );
        let last = CursorWord { position: 0, pinned: false, live: true, generation: 0xfff };
        assert_eq!(last.next_generation(), 0);
    }

    #[test]
    fn the_zero_word_is_a_slot_that_no_position_owns() {
        assert_eq!(SlotWord::unpack(0), SlotWord { lap: 0, state: SlotState::Empty, owner: 0 });
    }
}
