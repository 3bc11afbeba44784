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
//! has a message ready to send. Where a case asks for payloads that are written in place, [`write_message`] writes every
//! word there instead.
//!
//! Where a stream has several producers, the sequence has the producer's number above it: see [`sequence_of`]. Where the
//! consumer wants to know when a message was sent, word 1 of line 0 holds that time.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::CompareError;

/// The size of a cache line, and the granule of payload sizes, in bytes.
pub(crate) const LINE_BYTES: usize = 64;
const WORD_BYTES: usize = 8;
const LINE_WORDS: usize = LINE_BYTES / WORD_BYTES;
/// The word that holds the time of sending, where there is one.
const TIME_WORD: usize = 1;
/// Where the producer's number begins in a sequence; messages of one producer stay below.
const PRODUCER_SHIFT: u32 = 48;
/// What consecutive words of a body differ by.
const BODY_STEP: u64 = 0x9E37_79B9_7F4A_7C15;

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

    /// Writes when it was sent, in nanoseconds.
    #[inline]
    pub(crate) fn stamp_time(&mut self, sent_at_ns: u64) {
        if let Some(first) = self.lines.first_mut() {
            first.0[TIME_WORD] = sent_at_ns;
        }
    }

    /// Makes this the message at position `sequence` by writing every word.
    #[inline]
    pub(crate) fn write(&mut self, sequence: u64) {
        write_message(self.lines.as_mut_bytes(), sequence);
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
    /// The position of the last message read, 0 before the first; that of all producers together.
    sequence: u64,
    /// What else is expected.
    kind: Kind,
    /// The first message that was wrong: its position and why.
    first_wrong: Option<(u64, String)>,
}

/// What a verifier expects beside the order.
#[derive(Debug)]
enum Kind {
    /// Nothing.
    Plain,
    /// Several producers' messages, each producer's in order; the position of each one's last, 0 before its first.
    Producers(Vec<u64>),
    /// The time of sending; that of the last message, in nanoseconds.
    Timed(u64),
}

impl Verifier {
    /// A check for messages of `bytes` bytes of `producers` producers.
    pub(crate) fn of_producers(bytes: usize, producers: u32) -> Self {
        Self { kind: Kind::Producers(vec![0; producers as usize]), ..Self::new(bytes) }
    }

    /// A check for messages of `bytes` bytes that hold when they were sent.
    pub(crate) fn of_timed(bytes: usize) -> Self {
        Self { kind: Kind::Timed(0), ..Self::new(bytes) }
    }

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
            kind: Kind::Plain,
            first_wrong: None,
        }
    }

    /// Reads one message in full. What is wrong is kept for [`Verifier::finish`], so that the path stays short.
    #[inline]
    pub(crate) fn read(&mut self, payload: &[u8]) {
        self.sequence += 1;
        let head = first_word(payload);
        let tail = last_word(payload);
        let (expected, body_sum) = match &mut self.kind {
            Kind::Plain => (self.sequence, self.body_sum),
            Kind::Producers(sequences) => (next_of_its_producer(sequences, head), self.body_sum),
            Kind::Timed(sent_at_ns) => {
                *sent_at_ns = word(payload, TIME_WORD).unwrap_or_default();
                (self.sequence, self.body_sum.wrapping_sub(body_word(TIME_WORD)).wrapping_add(*sent_at_ns))
            }
        };
        let sum = body_sum.wrapping_add(self.stamped_words.wrapping_mul(expected));
        let right = payload.len() == self.bytes
            && head == Some(expected)
            && tail == Some(expected)
            && sum_words(payload) == sum;
        if !right {
            self.note_wrong(payload.len(), head, tail);
        }
    }

    /// How many messages were read; with one producer the position of the last.
    #[inline]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When the last message was sent, in nanoseconds; 0 if that is not expected of it.
    pub(crate) fn sent_at_ns(&self) -> u64 {
        if let Kind::Timed(sent_at_ns) = self.kind { sent_at_ns } else { 0 }
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
const fn body_word(index: usize) -> u64 {
    (index as u64 + 1).wrapping_mul(BODY_STEP)
}

/// The sequence of the message at position `sequence` of one of several producers, counted from 0.
#[inline]
pub(crate) fn sequence_of(producer: u32, sequence: u64) -> u64 {
    (u64::from(producer) << PRODUCER_SHIFT) | sequence
}

/// Writes every word of the message at position `sequence` into `target`: whole cache lines.
#[inline]
pub(crate) fn write_message(target: &mut [u8], sequence: u64) {
    let (lines, _) = target.as_chunks_mut::<LINE_BYTES>();
    let mut first_body_word = body_word(0);
    for line in lines {
        let (words, _) = line.as_chunks_mut::<WORD_BYTES>();
        for (index, word) in (0..).zip(words.iter_mut()) {
            *word = first_body_word.wrapping_add(BODY_STEP.wrapping_mul(index)).to_ne_bytes();
        }
        if let Some(head) = words.first_mut() {
            *head = sequence.to_ne_bytes();
        }
        first_body_word = first_body_word.wrapping_add(BODY_STEP.wrapping_mul(LINE_WORDS as u64));
    }
    if let Some(tail) = target.last_chunk_mut() {
        *tail = sequence.to_ne_bytes();
    }
}

/// The sequence that must follow where the message with this `head` comes from.
fn next_of_its_producer(sequences: &mut [u64], head: Option<u64>) -> u64 {
    let producer = head.unwrap_or_default() >> PRODUCER_SHIFT;
    let Some(sequence) = usize::try_from(producer).ok().and_then(|producer| sequences.get_mut(producer))
    else {
        return 0; // A producer that there is not: no sequence is right.
    };
    *sequence += 1;
    (producer << PRODUCER_SHIFT) | *sequence
}

fn word(payload: &[u8], index: usize) -> Option<u64> {
    let (words, _) = payload.as_chunks();
    words.get(index).map(|word| u64::from_ne_bytes(*word))
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

    #[test]
    fn a_message_written_in_place_is_the_same_as_a_stamped_one() {
        for bytes in [64, 1024, 65536] {
            let mut payload = Payload::new(bytes);
            payload.stamp(7);
            let mut in_place = vec![0xFF; bytes];
            write_message(&mut in_place, 7);
            assert_eq!(in_place, payload.bytes());
        }
    }

    #[test]
    fn messages_of_two_producers_may_come_in_any_order_but_each_ones_in_its_own() {
        let mut payload = Payload::new(64);
        let mut verifier = Verifier::of_producers(64, 2);
        for (producer, sequence) in [(1, 1), (0, 1), (1, 2), (1, 3), (0, 2)] {
            payload.stamp(sequence_of(producer, sequence));
            verifier.read(payload.bytes());
        }
        assert_eq!(verifier.sequence(), 5);
        verifier.finish().unwrap();
    }

    #[test]
    fn a_lost_message_of_one_of_two_producers_fails() {
        let mut payload = Payload::new(64);
        let mut verifier = Verifier::of_producers(64, 2);
        for (producer, sequence) in [(1, 1), (0, 2)] {
            payload.stamp(sequence_of(producer, sequence));
            verifier.read(payload.bytes());
        }
        assert!(matches!(verifier.finish(), Err(CompareError::Corrupt { sequence: 2, .. })));
    }

    #[test]
    fn the_time_of_sending_arrives_and_the_rest_is_still_checked() {
        let mut payload = Payload::new(128);
        let mut verifier = Verifier::of_timed(128);
        payload.stamp(1);
        payload.stamp_time(123_456);
        verifier.read(payload.bytes());
        assert_eq!(verifier.sent_at_ns(), 123_456);
        verifier.finish().unwrap();

        let mut verifier = Verifier::of_timed(128);
        let mut torn = payload.bytes().to_vec();
        torn[LINE_BYTES + WORD_BYTES] ^= 1;
        verifier.read(&torn);
        assert!(verifier.finish().is_err());
    }
}
