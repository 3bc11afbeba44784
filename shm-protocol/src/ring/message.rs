//! How a message lies in a slot's body, and where its parts are.
//!
//! ```text
//! body  ├ payload reference ┼ attributes reference ┼ attributes ┼ payload ┤
//!         16, if in an arena  16, if in an arena     inline       inline
//! reference  0       4          8            16
//!            ├ arena ┼ reserved ┼── offset ──┤
//! ```
//!
//! 1. Every part begins at a multiple of 16 bytes; what is not there takes no place.
//! 2. The header word says how long payload and attributes are, and which of them are in an arena. It is read once
//!    into a local, and every length computed from it is checked against the body before a byte is copied.
//! 3. A message without attributes that fits the body is one part at offset 0: one copy in, one out.

use crate::attributes::flag;
use crate::layout::{ARENA_REFERENCE_BYTES, PART_ALIGN_BYTES};
use crate::memory::Slots;
use crate::words::MessageHeader;

/// A block of an arena that holds a part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaBlock {
    /// The arena's number: never used twice in its ring.
    pub arena: u32,
    /// Where the block begins, from the start of the arena's region, in bytes.
    pub offset: u64,
    /// Bytes of the part.
    pub bytes: usize,
}

impl ArenaBlock {
    fn reference(self) -> [u8; ARENA_REFERENCE_BYTES] {
        let mut bytes = [0; ARENA_REFERENCE_BYTES];
        bytes[..4].copy_from_slice(&self.arena.to_le_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    fn of_reference(reference: &[u8], bytes: usize) -> Self {
        let word = |at: usize| {
            let word = reference[at..at + 8].try_into().expect("a reference has two words");
            u64::from_le_bytes(word)
        };
        Self { arena: word(0) as u32, offset: word(8), bytes }
    }
}

/// One part of a message, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// In the slot, or to be put there.
    Inline(&'a [u8]),
    /// In an arena.
    Arena(ArenaBlock),
}

impl Part<'_> {
    /// Its bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Arena(block) => block.bytes,
        }
    }

    /// Its block, if it is in an arena.
    pub fn block(&self) -> Option<ArenaBlock> {
        match self {
            Self::Inline(_) => None,
            Self::Arena(block) => Some(*block),
        }
    }

    #[inline]
    fn inline_bytes(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Arena(_) => 0,
        }
    }
}

/// A message to be published.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Which attributes there are: the low 14 flags of the header.
    pub flags: u16,
    /// The encoded attributes, at most 65,535 bytes.
    pub attributes: Part<'a>,
    /// The payload, less than 4 GiB.
    pub payload: Part<'a>,
}

impl<'a> Outgoing<'a> {
    /// A message without attributes.
    #[inline]
    pub fn inline(payload: &'a [u8]) -> Self {
        Self { flags: 0, attributes: Part::Inline(&[]), payload: Part::Inline(payload) }
    }

    /// A message without attributes whose payload is in an arena.
    pub fn in_arena(payload: ArenaBlock) -> Self {
        Self { flags: 0, attributes: Part::Inline(&[]), payload: Part::Arena(payload) }
    }

    /// The header word.
    #[inline]
    pub(super) fn header(&self) -> MessageHeader {
        let mut flags = self.flags;
        if matches!(self.payload, Part::Arena(_)) {
            flags |= MessageHeader::PAYLOAD_IN_ARENA;
        }
        if matches!(self.attributes, Part::Arena(_)) {
            flags |= MessageHeader::ATTRIBUTES_IN_ARENA;
        }
        let (attributes_bytes, payload_bytes) = (self.attributes.bytes() as u16, self.payload.bytes() as u32);
        MessageHeader { payload_bytes, attributes_bytes, flags }
    }

    /// A body that holds it, and its header word; for a message whose parts are all inline. Panics when one is not.
    pub fn to_body(&self) -> (u64, Vec<u8>) {
        let (Part::Inline(attributes), Part::Inline(payload)) = (self.attributes, self.payload) else {
            panic!("only inline parts can be written down");
        };
        let places = places(self.header(), attributes.len(), payload.len());
        let mut body = vec![0; places.end];
        body[places.attributes..][..attributes.len()].copy_from_slice(attributes);
        body[places.payload..][..payload.len()].copy_from_slice(payload);
        (self.header().pack(), body)
    }

    /// Bytes that it takes in a body.
    #[inline]
    pub fn body_bytes(&self) -> usize {
        places(self.header(), self.attributes.inline_bytes(), self.payload.inline_bytes()).end
    }

    /// Writes the parts into the body of slot `index`. Panics when they do not fit.
    #[inline]
    pub(super) fn write(&self, slots: &impl Slots, index: u64) {
        let places = places(self.header(), self.attributes.inline_bytes(), self.payload.inline_bytes());
        match self.payload {
            Part::Inline(payload) => slots.write(index, places.payload, payload),
            Part::Arena(block) => slots.write(index, 0, &block.reference()),
        }
        match self.attributes {
            Part::Inline([]) => {}
            Part::Inline(attributes) => slots.write(index, places.attributes, attributes),
            Part::Arena(block) => slots.write(index, places.attributes_reference, &block.reference()),
        }
    }
}

/// A message that was copied out of its slot: what its body holds, to be looked up in the reader's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Its position.
    pub position: u64,
    /// Its header, which fits the body.
    header: MessageHeader,
}

impl Received {
    /// Checks flags and lengths against a body of `body_bytes`; `None` when they cannot be.
    #[inline]
    pub(super) fn check(position: u64, header: MessageHeader, body_bytes: usize) -> Option<Self> {
        let received = Self { position, header };
        let known = received.flags() & !flag::ALL == 0;
        (known && received.places().end <= body_bytes).then_some(received)
    }

    #[inline]
    fn places(&self) -> Places {
        let inline = |flag, bytes| if self.header.flags & flag == 0 { bytes } else { 0 };
        places(
            self.header,
            inline(MessageHeader::ATTRIBUTES_IN_ARENA, self.header.attributes_bytes.into()),
            inline(MessageHeader::PAYLOAD_IN_ARENA, self.header.payload_bytes as usize),
        )
    }

    /// A message whose body of all inline parts was written down behind this header word; `None`: it cannot be one.
    #[inline]
    pub fn of_header(position: u64, header: u64, body_bytes_max: usize) -> Option<Self> {
        Self::check(position, MessageHeader::unpack(header), body_bytes_max)
            .filter(|received| !received.is_in_arena())
    }

    /// Its header word.
    #[inline]
    pub fn header(&self) -> u64 {
        self.header.pack()
    }

    /// Bytes of the body that are in use.
    #[inline]
    pub fn body_bytes(&self) -> usize {
        self.places().end
    }

    /// Which attributes there are: the low 14 flags of the header.
    #[inline]
    pub fn flags(&self) -> u16 {
        self.header.flags & !(MessageHeader::PAYLOAD_IN_ARENA | MessageHeader::ATTRIBUTES_IN_ARENA)
    }

    /// Whether it is to be synced, whatever its stream's durability.
    #[inline]
    pub fn is_to_be_synced(&self) -> bool {
        self.header.flags & flag::SYNCED != 0
    }

    /// Whether there are attributes.
    #[inline]
    pub fn has_attributes(&self) -> bool {
        self.header.attributes_bytes > 0
    }

    /// Bytes of the payload.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        self.header.payload_bytes as usize
    }

    /// Whether a part of it is in an arena.
    #[inline]
    pub fn is_in_arena(&self) -> bool {
        self.header.flags & (MessageHeader::PAYLOAD_IN_ARENA | MessageHeader::ATTRIBUTES_IN_ARENA) != 0
    }

    /// The payload, `body` being the buffer that the message was read into.
    #[inline]
    pub fn payload<'a>(&self, body: &'a [u8]) -> Part<'a> {
        let bytes = self.payload_bytes();
        if self.header.flags & MessageHeader::PAYLOAD_IN_ARENA == 0 {
            let at = self.places().payload;
            Part::Inline(&body[at..at + bytes])
        } else {
            Part::Arena(ArenaBlock::of_reference(&body[..ARENA_REFERENCE_BYTES], bytes))
        }
    }

    /// The attributes, `body` being the buffer that the message was read into.
    pub fn attributes<'a>(&self, body: &'a [u8]) -> Part<'a> {
        let (bytes, places) = (usize::from(self.header.attributes_bytes), self.places());
        if self.header.flags & MessageHeader::ATTRIBUTES_IN_ARENA == 0 {
            Part::Inline(&body[places.attributes..places.attributes + bytes])
        } else {
            let at = places.attributes_reference;
            Part::Arena(ArenaBlock::of_reference(&body[at..at + ARENA_REFERENCE_BYTES], bytes))
        }
    }
}

/// Offsets of the parts in a body, in bytes. The payload's reference stands at 0.
#[derive(Clone, Copy, Debug)]
struct Places {
    attributes_reference: usize,
    attributes: usize,
    payload: usize,
    end: usize,
}

#[inline(always)]
fn places(header: MessageHeader, attributes_bytes: usize, payload_bytes: usize) -> Places {
    let reference = |flag| if header.flags & flag == 0 { 0 } else { ARENA_REFERENCE_BYTES };
    let attributes_reference = reference(MessageHeader::PAYLOAD_IN_ARENA);
    let attributes = attributes_reference + reference(MessageHeader::ATTRIBUTES_IN_ARENA);
    let payload = attributes + attributes_bytes.next_multiple_of(PART_ALIGN_BYTES);
    Places { attributes_reference, attributes, payload, end: payload + payload_bytes }
}
