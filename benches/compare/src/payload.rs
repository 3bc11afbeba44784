//! The message content and its check: the same bytes and the same work for every peer.
//!
//! ```text
//! line 0:    [ sequence | body | body | body | body | body | body | body     ]
//! line 1:    [ sequence | body | body | body | body | body | body | body     ]
//! last line: [ sequence | body | body | body | body | body | body | sequence ]
//! ```
//!
//! What always holds:
//!
//! 1. A payload is whole cache lines, aligned to one.
//! 2. Every line of a payload changes with each message; sequences start at 1 and rise by one.
//! 3. The consumer reads every word: head and tail must be the expected sequence, and the wrapping sum of all
//!    words the expected one. A lost, repeated, reordered, or half-written message fails the check.
//!
//! The producer stamps a buffer of its own and each peer copies it once into its transport, as a program does that
//! has a message ready to send.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::CompareError;

/// The size of a cache line, and the granule of payload sizes, in bytes.
pub(crate) const LINE_BYTES: usize = 64;
const WORD_BYTES: usize = 8;
const LINE_WORDS: usize = LINE_BYTES / WORD_BYTES;

/// One cache line of payload.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct Line([u64; LINE_WORDS]);

const _: () = assert!(size_of::<Line>() == LINE_BYTES);

/// The producer's own buffer, stamped anew for each message.
#[derive(Debug)]
pub(crate) struct Payload {
    /// One line or more.
    lines: Vec<Line>,
}

impl Payload {
    /// A payload of `bytes` bytes, a positive multiple of [`LINE_BYTES`].
    pub(crate) fn new(bytes: usize) -> Self {
        let line = |index: usize| Line(std::array::from_fn(|word| body_word(index * LINE_WORDS + word)));
        Self { lines: (0..bytes / LINE_BYTES).map(line).collect() }
    }

    /// Makes this the message at position `sequence`.
    #[inline]
    pub(crate) fn stamp(&mut self, sequence: u64) {
        for line in &mut self.lines {
            line.0[0] = sequence;
        }
        if let Some(last) = self.lines.last_mut() {
            last.0[LINE_WORDS - 1] = sequence;
        }
    }

    /// The content as lines, for transports with slots of whole lines.
    #[inline]
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The content as bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.lines.as_bytes()
    }
}

/// The consumer's check of every message, in order.
#[derive(Debug)]
pub(crate) struct Verifier {
    /// The size every message must have, in bytes.
    bytes: usize,
    /// The wrapping sum of the words that never change.
    body_sum: u64,
    /// How many words hold the sequence.
    stamped_words: u64,
    /// The position of the last message read, 0 before the first.
    sequence: u64,
    /// The first message that was wrong: its position and why.
    first_wrong: Option<(u64, String)>,
}

impl Verifier {
    /// A check for messages of `bytes` bytes, from position 1 on.
    pub(crate) fn new(bytes: usize) -> Self {
        let mut payload = Payload::new(bytes);
        payload.stamp(0);
        let body_sum = sum_words(payload.bytes());
        Self {
            bytes,
            body_sum,
            stamped_words: payload.lines().len() as u64 + 1,
            sequence: 0,
            first_wrong: None,
        }
    }

    /// Reads one message in full. What is wrong is kept for [`Verifier::finish`], so that the path stays short.
    #[inline]
    pub(crate) fn read(&mut self, payload: &[u8]) {
        self.sequence += 1;
        let head = first_word(payload);
        let tail = last_word(payload);
        let sum = self.body_sum.wrapping_add(self.stamped_words.wrapping_mul(self.sequence));
        let right = payload.len() == self.bytes
            && head == Some(self.sequence)
            && tail == Some(self.sequence)
            && sum_words(payload) == sum;
        if !right {
            self.note_wrong(payload.len(), head, tail);
        }
    }

    /// The position of the last message read, 0 before the first.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Fails if any message was wrong.
    pub(crate) fn finish(self) -> Result<(), CompareError> {
        match self.first_wrong {
            None => Ok(()),
            Some((sequence, detail)) => Err(CompareError::Corrupt { sequence, detail }),
        }
    }

    #[cold]
    fn note_wrong(&mut self, bytes: usize, head: Option<u64>, tail: Option<u64>) {
        let expected = self.bytes;
        self.first_wrong.get_or_insert_with(|| {
            (self.sequence, format!("{bytes} bytes of {expected}, head {head:?}, tail {tail:?}"))
        });
    }
}

/// The word that a payload holds at `index` where no sequence is stamped.
fn body_word(index: usize) -> u64 {
    (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn first_word(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|word| u64::from_ne_bytes(*word))
}

fn last_word(payload: &[u8]) -> Option<u64> {
    payload.last_chunk().map(|word| u64::from_ne_bytes(*word))
}

#[inline]
fn sum_words(payload: &[u8]) -> u64 {
    let (words, _) = payload.as_chunks::<WORD_BYTES>();
    words.iter().fold(0, |sum, word| u64::wrapping_add(sum, u64::from_ne_bytes(*word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_messages_pass() {
        for bytes in [64, 128, 1024] {
            let mut payload = Payload::new(bytes);
            let mut verifier = Verifier::new(bytes);
            for sequence in 1..=100 {
                payload.stamp(sequence);
                assert_eq!(payload.bytes().len(), bytes);
                verifier.read(payload.bytes());
            }
            assert_eq!(verifier.sequence(), 100);
            verifier.finish().unwrap();
        }
    }

    #[test]
    fn a_lost_message_fails() {
        let mut payload = Payload::new(64);
        let mut verifier = Verifier::new(64);
        payload.stamp(2);
        verifier.read(payload.bytes());
        assert!(matches!(verifier.finish(), Err(CompareError::Corrupt { sequence: 1, .. })));
    }

    #[test]
    fn a_stale_line_in_the_middle_fails() {
        let mut payload = Payload::new(1024);
        let mut verifier = Verifier::new(1024);
        payload.stamp(1);
        let mut torn = payload.bytes().to_vec();
        torn[5 * LINE_BYTES..][..WORD_BYTES].fill(0);
        verifier.read(&torn);
        assert!(verifier.finish().is_err());
    }

    #[test]
    fn a_short_message_fails() {
        let mut payload = Payload::new(128);
        let mut verifier = Verifier::new(128);
        payload.stamp(1);
        verifier.read(&payload.bytes()[..64]);
        assert!(verifier.finish().is_err());
    }
}
