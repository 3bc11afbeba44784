//! What a batch holds: messages, and how things are.
//!
//! ```text
//! record    ├ kind 1 ┼ 0 0 0 ┼ bytes 4 ┼ content ┤
//! messages  ├ stream 8 ┼ first position 8 ┼ count 4 ┼ 0 4 ┼ message ┼ message ┼ … ┤
//! message   ├ header word 8 ┼ body ┤                  as in a slot all of whose parts are inline
//! part      ├ stream 8 ┼ position 8 ┼ header word 8 ┼ body bytes 4 ┼ offset 4 ┼ bytes of the body ┤
//! state     ├ postcard ┤
//! ```
//!
//! 1. The messages of one record follow each other without a gap. A position that none has is a tombstone's.
//! 2. A message that is too long for one batch is in several parts, in order; without the last one it is not there.
//! 3. A state record says how something is, not how it has changed: the last one about a thing counts.
//! 4. What was read is bounds-checked, whatever its checksum says.

use ringway_shm_protocol::control::message::{DeathReason, Sent};
use ringway_shm_protocol::ring::Received;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::core::{DeclaredStream, Gate, Grave, StreamId};

/// Kinds of records.
pub(crate) const MESSAGES: u8 = 1;
/// A part of a message.
pub(crate) const PART: u8 = 2;
/// How something is.
pub(crate) const STATE: u8 = 3;

/// In front of every record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Prefix {
    pub(crate) kind: u8,
    pub(crate) reserved: [u8; 3],
    /// Of the content.
    pub(crate) bytes: u32,
}

/// In front of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Run {
    pub(crate) stream: u64,
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) reserved: u32,
}

/// In front of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct PartHeader {
    pub(crate) stream: u64,
    pub(crate) position: u64,
    pub(crate) header: u64,
    /// Of the whole body.
    pub(crate) body_bytes: u32,
    /// Where in the body this part begins.
    pub(crate) offset: u32,
}

/// Bytes in front of every content.
pub(crate) const PREFIX_BYTES: usize = size_of::<Prefix>();
/// Bytes in front of the first message of a record.
pub(crate) const RUN_BYTES: usize = PREFIX_BYTES + size_of::<Run>();
/// Bytes in front of a part's own.
pub(crate) const PART_BYTES: usize = PREFIX_BYTES + size_of::<PartHeader>();
/// Bytes in front of a message's body.
pub(crate) const MESSAGE_HEADER_BYTES: usize = 8;

/// Positions from the first up to the second.
pub(crate) type Range = (u64, u64);

/// Where a message of a lot is: what of it outlives the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Waiting {
    /// It can be delivered.
    Ready,
    /// Not before this time: nanoseconds since 1970.
    Delayed { until_ns: u64 },
    /// Never again.
    Dead { reason: DeathReason },
}

/// A message of a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LotEntry {
    pub(crate) acquired: u32,
    pub(crate) failed: u32,
    pub(crate) waiting: Waiting,
}

/// How something is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StateRecord {
    /// How many streams there were, so that no number is used twice.
    StreamsMade(u64),
    /// A stream as it is declared, with its subscriptions; `None`: it is gone, with all that it had.
    Stream(StreamId, Option<Box<DeclaredStream>>),
    /// First position that a `cursor` subscription has not consumed.
    Cursor(StreamId, Gate, u64),
    /// What a `shared` subscription has settled: everything below the floor, and these, in order.
    Settled { stream: StreamId, gate: Gate, floor: u64, above: Vec<Range> },
    /// A message in the lot of a `shared` subscription; `None`: it is settled.
    Lot(StreamId, Gate, u64, Option<LotEntry>),
    /// How many messages of a `shared` subscription have died.
    DeadTotal(StreamId, Gate, u64),
    /// A dead letter that the stream has got, and where. One that is named again is forgotten where it was.
    Letter(StreamId, Grave, u64),
    /// Only in a snapshot: where messages are.
    Extent(StreamId, Extent),
    /// Only in a snapshot: one past the last position of a stream.
    End(StreamId, u64),
    /// The last message that a stream has got from the producer of this number.
    Sent(StreamId, u32, Sent),
}

/// Where messages that follow each other are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// The positions.
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// The segment that they begin in.
    pub(crate) segment: u64,
    /// Where the batch begins, in blocks from the beginning of the segment.
    pub(crate) block: u32,
    /// The segment that they end in: a later one, where a message is in parts.
    pub(crate) last_segment: u64,
}

/// What a body cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum RecordError {
    #[error("a record of kind {0} is none that this ringway knows")]
    Kind(u8),
    #[error("a record ends behind its batch")]
    Short,
    #[error("a message of stream {stream} at position {position} has lengths that cannot be")]
    Message { stream: u64, position: u64 },
    #[error("a state cannot be read: {0}")]
    State(String),
}

/// What was read of a batch.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    /// Messages that follow each other.
    Messages(Messages<'a>),
    /// A part of a message.
    Part(PartHeader, &'a [u8]),
    /// How something is.
    State(StateRecord),
}

/// Messages of one record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages<'a> {
    pub(crate) run: Run,
    bytes: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Each message with its body.
    pub(crate) fn iter(self) -> impl Iterator<Item = Result<(Received, &'a [u8]), RecordError>> {
        let (mut rest, Run { stream, first, count, .. }) = (self.bytes, self.run);
        (0..u64::from(count)).map(move |index| {
            let position = first.saturating_add(index);
            let wrong = RecordError::Message { stream, position };
            let (header, behind) = rest.split_first_chunk::<MESSAGE_HEADER_BYTES>().ok_or(wrong.clone())?;
            let received = Received::of_header(position, u64::from_le_bytes(*header), behind.len());
            let received = received.ok_or(wrong)?;
            let (body, behind) = behind.split_at(received.body_bytes());
            rest = behind;
            Ok((received, body))
        })
    }
}

/// The records of a batch's body, in order.
pub(crate) fn records(mut body: &[u8]) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let record = next(&mut body);
        if record.is_err() {
            body = &[];
        }
        Some(record)
    })
}

fn next<'a>(body: &mut &'a [u8]) -> Result<Record<'a>, RecordError> {
    let (prefix, behind) = Prefix::read_from_prefix(body).map_err(|_| RecordError::Short)?;
    let (content, behind) = behind.split_at_checked(prefix.bytes as usize).ok_or(RecordError::Short)?;
    *body = behind;
    match prefix.kind {
        MESSAGES => {
            let (run, bytes) = Run::read_from_prefix(content).map_err(|_| RecordError::Short)?;
            Ok(Record::Messages(Messages { run, bytes }))
        }
        PART => {
            let (part, bytes) = PartHeader::read_from_prefix(content).map_err(|_| RecordError::Short)?;
            Ok(Record::Part(part, bytes))
        }
        STATE => postcard::from_bytes(content)
            .map(Record::State)
            .map_err(|error| RecordError::State(error.to_string())),
        kind => Err(RecordError::Kind(kind)),
    }
}

/// A state record as it is written.
pub(crate) fn encode(record: &StateRecord) -> Vec<u8> {
    let prefix = Prefix { kind: STATE, reserved: [0; 3], bytes: 0 };
    let written = postcard::to_extend(record, prefix.as_bytes().to_vec());
    let mut bytes = written.expect("a record can be written to memory");
    let content = (bytes.len() - PREFIX_BYTES) as u32;
    bytes[4..PREFIX_BYTES].copy_from_slice(&content.to_le_bytes());
    bytes
}
