//! The bytes of a segment; `FORMAT.md` draws them and a test holds the two together.
//!
//! ```text
//! segment  ├ header, one block ┼ batch ┼ batch ┼ … ┼ what was there before ┤
//! batch    ├ header 128 ┼ records ┼ zeros up to a whole block ┤
//! ```
//!
//! 1. Everything begins at a multiple of [`BLOCK_BYTES`] and is a whole number of them: a batch is written once, and nothing
//!    that was written before is written again with it.
//! 2. Every byte of a header and of a batch is covered by a checksum (XXH3, 64 bits, seeded by the segment's salt), so that
//!    what another use of the file has left is never taken for a part of this one.
//! 3. Each batch holds the checksum of the one before: no batch can be missing, and none can be of another history.

use std::ops::Range;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "RINGSEG1" in file order.
pub(crate) const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"RINGSEG1");
/// "RINGBAT1" in file order.
pub(crate) const BATCH_MAGIC: u64 = u64::from_le_bytes(*b"RINGBAT1");
/// The version of everything drawn in `FORMAT.md`.
pub(crate) const FORMAT_VERSION: u32 = 4;
/// What is written at once is a multiple of this, in bytes: a device writes it whole or in parts of 512.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Bytes of a batch's header.
pub(crate) const BATCH_HEADER_BYTES: usize = 128;
/// Largest batch, in bytes.
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 20;
/// Segments begin with a header of one block.
pub(crate) const FIRST_BATCH: u64 = BLOCK_BYTES as u64;
/// Smallest segment, in bytes: its header and two batches of the largest size.
pub(crate) const SEGMENT_BYTES_MIN: u64 = FIRST_BATCH + 2 * BATCH_BYTES_MAX as u64;

/// Which journal a file belongs to: random, made with it.
pub(crate) type JournalId = [u8; 16];

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct SegmentHeader {
    /// [`SEGMENT_MAGIC`].
    pub(crate) magic: u64,
    /// Of the block behind this word.
    pub(crate) checksum: u64,
    /// [`FORMAT_VERSION`].
    pub(crate) version: u32,
    /// The shard's number.
    pub(crate) shard: u32,
    /// The journal.
    pub(crate) journal: JournalId,
    /// Which segment of the journal: from 1, never used twice.
    pub(crate) segment: u64,
    /// Which start of the broker has made it: from 1, one more with each.
    pub(crate) epoch: u64,
    /// Seeds the checksums of its batches: random.
    pub(crate) salt: u64,
    /// Bytes of the segment.
    pub(crate) bytes: u64,
    /// Where the log ended when the epoch began: the epoch before is valid up to here and not beyond.
    pub(crate) before_lsn: u64,
    /// The checksum of the last batch before.
    pub(crate) before_checksum: u64,
    /// The segment that it is in; 0: none, the log begins here.
    pub(crate) before_segment: u64,
}

/// The first bytes of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct BatchHeader {
    /// [`BATCH_MAGIC`].
    pub(crate) magic: u64,
    /// Of the header behind this word.
    pub(crate) checksum: u64,
    /// Of everything behind the header.
    pub(crate) body_checksum: u64,
    /// The checksum of the batch before.
    pub(crate) previous: u64,
    /// Number of its first record: records are numbered from 0, without gaps.
    pub(crate) first_lsn: u64,
    /// Every record below this was on the device when the batch was written.
    pub(crate) durable_lsn: u64,
    /// The segment that it is in.
    pub(crate) segment: u64,
    /// The epoch of that segment.
    pub(crate) epoch: u64,
    /// When it was written: nanoseconds since 1970.
    pub(crate) time_ns: u64,
    /// The shard's number.
    pub(crate) shard: u32,
    /// How many records there are; 0: it only says what is durable.
    pub(crate) records: u32,
    /// Bytes of its records.
    pub(crate) body_bytes: u32,
    /// Bytes of the whole batch.
    pub(crate) bytes: u32,
    /// Zero.
    pub(crate) reserved: [u64; 5],
}

const _: () = {
    assert!(size_of::<SegmentHeader>() == 96);
    assert!(size_of::<BatchHeader>() == BATCH_HEADER_BYTES);
    assert!(BATCH_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
    assert!((FIRST_BATCH as usize).is_multiple_of(BLOCK_BYTES));
};

/// Seeds the checksum of segment headers: their salt is inside.
const HEADER_SEED: u64 = SEGMENT_MAGIC;
/// Checksums begin behind the two first words.
const CHECKED_FROM: usize = 16;

/// Why a block is no segment header.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum HeaderError {
    #[error("it does not begin with a segment's header")]
    NoSegment,
    #[error("the checksum of its header does not match")]
    Checksum,
    #[error(
        "it has format version {found}, and this ringway reads version {FORMAT_VERSION}: use the one that wrote it"
    )]
    Version { found: u32 },
}

impl SegmentHeader {
    /// Whether an epoch begins with this segment.
    pub(crate) fn begins_epoch(&self) -> bool {
        self.before_lsn != u64::MAX
    }

    /// The block, with its checksum.
    pub(crate) fn to_block(mut self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        (self.magic, self.version) = (SEGMENT_MAGIC, FORMAT_VERSION);
        block[..size_of::<Self>()].copy_from_slice(self.as_bytes());
        let checksum = xxh3_64_with_seed(&block[CHECKED_FROM..], HEADER_SEED);
        block[8..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// Reads and checks a block.
    pub(crate) fn parse(block: &[u8]) -> Result<Self, HeaderError> {
        let (header, _) = Self::read_from_prefix(block).map_err(|_| HeaderError::NoSegment)?;
        if header.magic != SEGMENT_MAGIC {
            return Err(HeaderError::NoSegment);
        }
        if header.checksum != xxh3_64_with_seed(&block[CHECKED_FROM..], HEADER_SEED) {
            return Err(HeaderError::Checksum);
        }
        if header.version != FORMAT_VERSION {
            return Err(HeaderError::Version { found: header.version });
        }
        Ok(header)
    }
}

/// What a batch says about itself beside its records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchFrame {
    pub(crate) salt: u64,
    pub(crate) previous: u64,
    pub(crate) first_lsn: u64,
    pub(crate) durable_lsn: u64,
    pub(crate) segment: u64,
    pub(crate) epoch: u64,
    pub(crate) time_ns: u64,
    pub(crate) shard: u32,
    pub(crate) records: u32,
}

/// Bytes of a batch whose records take so many.
pub(crate) fn batch_bytes(body_bytes: usize) -> usize {
    (BATCH_HEADER_BYTES + body_bytes).next_multiple_of(BLOCK_BYTES)
}

/// Finishes a batch whose records stand behind the header's place in `buffer`: fills up with zeros, writes the header. Returns
/// the bytes of the batch and its checksum.
pub(crate) fn seal(buffer: &mut [u8], body_bytes: usize, frame: &BatchFrame) -> (usize, u64) {
    let bytes = batch_bytes(body_bytes);
    buffer[BATCH_HEADER_BYTES + body_bytes..bytes].fill(0);
    let mut header = BatchHeader {
        magic: BATCH_MAGIC,
        checksum: 0,
        body_checksum: xxh3_64_with_seed(&buffer[BATCH_HEADER_BYTES..bytes], frame.salt),
        previous: frame.previous,
        first_lsn: frame.first_lsn,
        durable_lsn: frame.durable_lsn,
        segment: frame.segment,
        epoch: frame.epoch,
        time_ns: frame.time_ns,
        shard: frame.shard,
        records: frame.records,
        body_bytes: body_bytes as u32,
        bytes: bytes as u32,
        reserved: [0; 5],
    };
    header.checksum = header.own_checksum(frame.salt);
    buffer[..BATCH_HEADER_BYTES].copy_from_slice(header.as_bytes());
    (bytes, header.checksum)
}

impl BatchHeader {
    fn own_checksum(&self, salt: u64) -> u64 {
        xxh3_64_with_seed(&self.as_bytes()[CHECKED_FROM..], salt)
    }

    /// Reads the header of a batch of this segment; `None`: there is none, or it is not whole.
    pub(crate) fn parse(block: &[u8], segment: &SegmentHeader) -> Option<Self> {
        let (header, _) = Self::read_from_prefix(block).ok()?;
        let is_one = header.magic == BATCH_MAGIC && header.checksum == header.own_checksum(segment.salt);
        let is_here = header.segment == segment.segment
            && header.epoch == segment.epoch
            && header.shard == segment.shard;
        (is_one && is_here && header.has_possible_sizes()).then_some(header)
    }

    fn has_possible_sizes(&self) -> bool {
        let (body, bytes) = (self.body_bytes as usize, self.bytes as usize);
        bytes <= BATCH_BYTES_MAX && batch_bytes(body) == bytes
    }

    /// Whether the batch is whole.
    pub(crate) fn covers(&self, batch: &[u8], salt: u64) -> bool {
        let body = batch.get(BATCH_HEADER_BYTES..self.bytes as usize);
        body.is_some_and(|body| self.body_checksum == xxh3_64_with_seed(body, salt))
    }

    /// Where its records are in the batch.
    pub(crate) fn body(&self) -> Range<usize> {
        BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + self.body_bytes as usize
    }

    /// One past its last record.
    pub(crate) fn end_lsn(&self) -> u64 {
        self.first_lsn.saturating_add(self.records.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> SegmentHeader {
        SegmentHeader {
            magic: 0,
            checksum: 0,
            version: 0,
            shard: 3,
            journal: [7; 16],
            segment: 5,
            epoch: 2,
            salt: 0x1234_5678,
            bytes: 64 << 20,
            before_lsn: 100,
            before_checksum: 9,
            before_segment: 4,
        }
    }

    fn batch() -> (Vec<u8>, SegmentHeader) {
        let segment = SegmentHeader::parse(&segment().to_block()).unwrap();
        let mut buffer = vec![0xee; 3 * BLOCK_BYTES];
        buffer[BATCH_HEADER_BYTES..][..5000].copy_from_slice(&[0x5a; 5000]);
        let frame = BatchFrame {
            salt: segment.salt,
            previous: 77,
            first_lsn: 10,
            durable_lsn: 8,
            segment: 5,
            epoch: 2,
            time_ns: 1,
            shard: 3,
            records: 4,
        };
        let (bytes, _) = seal(&mut buffer, 5000, &frame);
        assert_eq!(bytes, 2 * BLOCK_BYTES);
        buffer.truncate(bytes);
        (buffer, segment)
    }

    fn is_whole(bytes: &[u8], segment: &SegmentHeader) -> bool {
        BatchHeader::parse(bytes, segment).is_some_and(|header| header.covers(bytes, segment.salt))
    }

    #[test]
    fn a_batch_comes_back_as_it_was_sealed() {
        let (bytes, segment) = batch();
        let header = BatchHeader::parse(&bytes, &segment).unwrap();
        assert!(header.covers(&bytes, segment.salt));
        assert_eq!((header.previous, header.first_lsn, header.end_lsn()), (77, 10, 14));
        assert!(bytes[header.body()].iter().all(|byte| *byte == 0x5a));
        assert!(bytes[header.body().end..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn every_bit_of_a_batch_and_of_a_segment_header_counts() {
        let (mut bytes, segment) = batch();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_whole(&bytes, &segment), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(is_whole(&bytes, &segment));
        let mut block = segment.to_block();
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::parse(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_batch_of_another_use_of_the_file_is_none() {
        let (bytes, segment) = batch();
        for other in [
            SegmentHeader { salt: 1, ..segment },
            SegmentHeader { segment: 6, ..segment },
            SegmentHeader { epoch: 3, ..segment },
            SegmentHeader { shard: 0, ..segment },
        ] {
            assert!(!is_whole(&bytes, &other));
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut block = segment().to_block();
        let found = FORMAT_VERSION + 1;
        block[16..20].copy_from_slice(&found.to_le_bytes());
        let checksum = xxh3_64_with_seed(&block[CHECKED_FROM..], HEADER_SEED);
        block[8..16].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(SegmentHeader::parse(&block), Err(HeaderError::Version { found }));
    }
}
