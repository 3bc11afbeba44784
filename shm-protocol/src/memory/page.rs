//! Pages: messages of a journal, copied by the shard for one consumer that is behind the ring.
//!
//! ```text
//! message ├ position 8 ┼ header word 8 ┼ body: all parts inline, filled up to a multiple of 16 ┤ the next message …
//! ```
//!
//! 1. Positions rise from message to message; one that is missing was never a message.
//! 2. The shard writes a page between the consumer's request for it and the answer. Meanwhile the consumer does not look at the
//!    region, so one is enough for all pages of a consumer.
//! 3. The consumer reads each word once into a local, and looks at no byte of a body before it has checked that all of the body lies
//!    inside of the page.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use thiserror::Error;

use super::mapped::{Access, OwnedRegion, Region, RegionError};
use crate::layout::{PART_ALIGN_BYTES, page};
use crate::partition::RingIdentity;
use crate::ring::Received;

/// Bytes of position and header word.
const HEAD_BYTES: usize = 16;

/// Bytes that a message with so many bytes of body takes.
const fn message_bytes(body_bytes: usize) -> usize {
    HEAD_BYTES + body_bytes.next_multiple_of(PART_ALIGN_BYTES)
}

/// What stands in a page cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the page of the journal is corrupt at byte {at} of {bytes}: position {position}, expected {from} to {end}; header {header:#018x}"
)]
pub struct CorruptPage {
    /// Where the message begins, in bytes from the first message.
    pub at: usize,
    /// Bytes of the page's messages.
    pub bytes: usize,
    /// The position found.
    pub position: u64,
    /// The first position that could come here.
    pub from: u64,
    /// One past the last.
    pub end: u64,
    /// The header word found.
    pub header: u64,
}

/// The shard's side: a region that it writes pages to.
#[derive(Debug)]
pub struct PageRegion {
    region: OwnedRegion,
    bytes: usize,
}

impl PageRegion {
    /// Makes a region for pages of the ring with this identity, with room for `bytes` of messages.
    pub fn create(ring: RingIdentity, bytes: usize) -> Result<Self, RegionError> {
        let identity = ring.page(page::FIRST + bytes);
        Ok(Self { region: OwnedRegion::create(identity)?, bytes: identity.bytes - page::FIRST })
    }

    /// Bytes of messages that fit: of a body of so many bytes alone.
    pub const fn bytes_for(body_bytes: usize) -> usize {
        message_bytes(body_bytes)
    }

    /// Bytes of the whole region.
    pub fn region_bytes(&self) -> usize {
        page::FIRST + self.bytes
    }

    /// The descriptor for the consumer.
    pub fn hand_over(&self) -> Result<OwnedFd, RegionError> {
        self.region.hand_over(Access::Read)
    }

    /// Writes a message behind the first `at` bytes of messages; `body` has all its parts inline. Returns how many bytes there are then;
    /// `None`: it does not fit.
    pub fn write(&self, at: usize, message: Received, body: &[u8]) -> Option<usize> {
        let end = at.checked_add(message_bytes(body.len()))?;
        if end > self.bytes {
            return None;
        }
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&message.position.to_le_bytes());
        head[8..].copy_from_slice(&message.header().to_le_bytes());
        let region = self.region.region();
        region.copy_in(page::FIRST + at, &head);
        region.copy_in(page::FIRST + at + HEAD_BYTES, body);
        Some(end)
    }
}

/// The consumer's side: the region of its pages, and how far it has read in the one that is there.
#[derive(Debug)]
pub struct Page {
    region: Arc<Region>,
    /// Bytes of messages, and of those that were read.
    bytes: usize,
    at: usize,
    /// The next position that may come, and one past the last.
    from: u64,
    end: u64,
}

impl Page {
    /// Checks and maps what [`PageRegion::hand_over`] gave: `region_bytes` in all. There is no page in it yet.
    pub fn open(ring: RingIdentity, descriptor: &OwnedFd, region_bytes: usize) -> Result<Self, RegionError> {
        let region = Region::open(descriptor, ring.page(region_bytes), Access::Read)?;
        Ok(Self { region: Arc::new(region), bytes: 0, at: 0, from: 0, end: 0 })
    }

    /// Bytes of messages that the region has room for.
    pub fn room(&self) -> u64 {
        self.region.bytes().saturating_sub(page::FIRST) as u64
    }

    /// Another page was written: `bytes` of messages, with positions from `from` up to `end`. Panics when there is no room for so much.
    pub fn turn(&mut self, bytes: u64, from: u64, end: u64) {
        assert!(bytes <= self.room(), "{bytes} bytes in a page of {}", self.room());
        (self.bytes, self.at, self.from, self.end) = (bytes as usize, 0, from, end);
    }

    /// Whether there is a message left.
    #[inline]
    pub fn has_next(&self) -> bool {
        self.at < self.bytes
    }

    /// One past the last position that the page speaks of.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Copies the body of the next message into `buffer`, which grows as need be; `None`: there is none left. After an error it is the
    /// same again.
    pub fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Received>, CorruptPage> {
        let (at, rest) = (self.at, self.bytes - self.at);
        if rest == 0 {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        if rest >= HEAD_BYTES {
            self.region.copy_out(page::FIRST + at, &mut head);
        }
        let [position, header] = [0, 8].map(|at| {
            let word = head[at..at + 8].try_into().expect("a head has two words");
            u64::from_le_bytes(word)
        });
        let room = rest.saturating_sub(HEAD_BYTES);
        let received = Received::of_header(position, header, room).filter(|received| {
            let expected = (self.from..self.end).contains(&position);
            expected && message_bytes(received.body_bytes()) <= rest
        });
        let Some(received) = received else {
            let (bytes, from, end) = (self.bytes, self.from, self.end);
            return Err(CorruptPage { at, bytes, position, from, end, header });
        };
        let body_bytes = received.body_bytes();
        if buffer.len() < body_bytes {
            buffer.resize(body_bytes, 0);
        }
        self.region.copy_out(page::FIRST + at + HEAD_BYTES, &mut buffer[..body_bytes]);
        (self.at, self.from) = (at + message_bytes(body_bytes), position + 1);
        Ok(Some(received))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Geometry;
    use crate::ring::{Outgoing, Part};
    use crate::words::MessageHeader;

    fn ring() -> RingIdentity {
        RingIdentity { incarnation: 7, geometry: Geometry::new(16, 128).unwrap() }
    }

    fn message(position: u64, attributes: &[u8], payload: &[u8]) -> (Received, Vec<u8>) {
        let outgoing =
            Outgoing { flags: 0, attributes: Part::Inline(attributes), payload: Part::Inline(payload) };
        let (header, body) = outgoing.to_body();
        (Received::of_header(position, header, body.len()).unwrap(), body)
    }

    fn open(region: &PageRegion) -> Page {
        Page::open(ring(), &region.hand_over().unwrap(), region.region_bytes()).unwrap()
    }

    #[test]
    fn messages_come_out_of_a_page_as_they_went_in_and_it_is_written_again() {
        let region = PageRegion::create(ring(), 8000).unwrap();
        let (mut page, mut buffer) = (open(&region), Vec::new());
        for first in [3, 50] {
            let messages: Vec<_> = (0..40)
                .map(|n| message(first + 2 * n, &vec![1; n as usize % 3], &vec![n as u8; n as usize]))
                .collect();
            let mut at = 0;
            for (received, body) in &messages {
                at = region.write(at, *received, body).unwrap();
            }
            page.turn(at as u64, first, first + 90);
            for (received, body) in &messages {
                assert!(page.has_next());
                assert_eq!(page.next(&mut buffer).unwrap(), Some(*received));
                assert_eq!(buffer[..body.len()], body[..]);
            }
            assert!(!page.has_next());
            assert_eq!((page.next(&mut buffer).unwrap(), page.end()), (None, first + 90));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let (received, body) = message(0, b"", &[5; 100]);
        let bytes = PageRegion::bytes_for(body.len());
        let region = PageRegion::create(ring(), bytes).unwrap();
        let room = region.region_bytes() - page::FIRST;
        assert!((bytes..bytes + 4096).contains(&room), "{room}");
        assert_eq!(region.write(room - bytes, received, &body), Some(room));
        assert_eq!(region.write(room - bytes + 16, received, &body), None);
    }

    #[test]
    fn what_cannot_be_is_an_error_whatever_stands_there() {
        let region = PageRegion::create(ring(), 4096).unwrap();
        let (first, body) = message(5, b"", &[1; 40]);
        let (second, _) = message(6, b"", &[2; 40]);
        let one = region.write(0, first, &body).unwrap();
        let two = region.write(one, second, &body).unwrap();
        let mut buffer = Vec::new();
        // Less than a message, or than a head; positions that were passed, or are yet to come.
        for (bytes, from, end) in [
            (one - 16, 5, 7),
            (8, 5, 7),
            (one, 6, 7),
            (one, 0, 5),
            (two, 5, 6),
            (two + 8, 5, 7),
            (two + 16, 5, 7),
        ] {
            let mut page = open(&region);
            page.turn(bytes as u64, from, end);
            let read = std::iter::from_fn(|| page.next(&mut buffer).transpose()).take(3).last();
            assert!(matches!(read, Some(Err(_))), "{bytes} {from} {end}: {read:?}");
        }
        // A part in an arena, lengths that cannot be, flags that nobody knows.
        let headers = [
            MessageHeader { payload_bytes: 16, attributes_bytes: 0, flags: MessageHeader::PAYLOAD_IN_ARENA },
            MessageHeader { payload_bytes: u32::MAX, attributes_bytes: 0, flags: 0 },
            MessageHeader { payload_bytes: 0, attributes_bytes: u16::MAX, flags: 0 },
            MessageHeader { payload_bytes: 1, attributes_bytes: 1, flags: 1 << 13 },
        ];
        for header in headers {
            let mut head = [0; HEAD_BYTES];
            head[..8].copy_from_slice(&5_u64.to_le_bytes());
            head[8..].copy_from_slice(&header.pack().to_le_bytes());
            region.region.region().copy_in(page::FIRST, &head);
            let mut page = open(&region);
            page.turn(4096, 5, 6);
            let error = page.next(&mut buffer).unwrap_err();
            assert_eq!((error.at, error.position, error.header), (0, 5, header.pack()));
            assert_eq!(page.next(&mut buffer), Err(error), "after an error it is the same");
        }
    }
}
