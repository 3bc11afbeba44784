//! What a message says about itself beside its payload: encoding and decoding.
//!
//! ```text
//! section  ├ timestamp u64 ┼ key u16 + bytes ┼ correlation u16 + bytes ┼ reply-to u16 + name ┼ map ──────────────────────┤
//! flag       bit 0           bit 1             bit 2                     bit 3                 bit 4, up to the end
//! entry of the map                                                                             ├ u8 + name ┼ type u8 ┼ value ┤
//! ```
//!
//! 1. The flags of the message's header say which parts there are; they come in this order, without padding, and end
//!    with the section. A message without attributes has no flags and no section: it costs nothing.
//! 2. [`AttributesView::parse`] checks everything once; what it returns cannot fail.
//! 3. Integers are little-endian. Names of attributes are UTF-8 of 1 to 255 bytes and occur once.

use std::borrow::Cow;

use thiserror::Error;

use crate::control::message::Durability;
use crate::name::{NAME_BYTES_MAX, Name, NameError};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest correlation id, in bytes.
pub const CORRELATION_BYTES_MAX: usize = 255;
/// Largest map of a message, in bytes of its encoding.
pub const MAP_BYTES_MAX: usize = 48 << 10;

/// Bytes of a timestamp.
const TIMESTAMP_BYTES: usize = size_of::<u64>();
/// Bytes of the length in front of a part that says its own.
const LENGTH_BYTES: usize = size_of::<u16>();

/// The flags of a message's header that say which attributes there are, and what is asked for it.
pub mod flag {
    /// A timestamp.
    pub const TIMESTAMP: u16 = 1 << 0;
    /// A key.
    pub const KEY: u16 = 1 << 1;
    /// A correlation id.
    pub const CORRELATION: u16 = 1 << 2;
    /// A stream to reply to.
    pub const REPLY_TO: u16 = 1 << 3;
    /// A map.
    pub const MAP: u16 = 1 << 4;
    /// Takes no place in the section: the message is to be synced, whatever its stream's durability.
    pub const SYNCED: u16 = 1 << 5;
    /// Who has sent it, and which one in its own count it is: the first part of the section.
    pub const PRODUCER: u16 = 1 << 6;
    /// All that there are; the others are reserved and zero.
    pub const ALL: u16 = TIMESTAMP | KEY | CORRELATION | REPLY_TO | MAP | SYNCED | PRODUCER;
}

/// A typed value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// Type 0: one byte, 0 or 1.
    Bool(bool),
    /// Type 1: 8 bytes.
    Integer(i64),
    /// Type 2: 8 bytes, IEEE 754.
    Float(f64),
    /// Type 3: u16 + UTF-8.
    Text(Cow<'a, str>),
    /// Type 4: u16 + bytes.
    Bytes(Cow<'a, [u8]>),
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Value<'_> {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value.into())
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(value.into())
    }
}

/// Why attributes cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AttributesError {
    /// A part is longer than it may be.
    #[error("the {part} has {bytes} bytes: {bytes_max} at the most")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its length.
        bytes: usize,
        /// Most bytes that it may have.
        bytes_max: usize,
    },
    /// The stream to reply to has no possible name.
    #[error("there can be no stream to reply to of this name: {0}")]
    ReplyTo(#[from] NameError),
    /// A name of an attribute is empty or too long.
    #[error("an attribute's name has {bytes} bytes: 1 to 255 are possible")]
    AttributeName {
        /// Its length.
        bytes: usize,
    },
    /// A name of an attribute occurs twice.
    #[error("there is an attribute {name:?} already")]
    Twice {
        /// The name.
        name: String,
    },
}

/// What came as attributes cannot be: its producer is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the attributes are corrupt: {what} at byte {at} of {bytes}")]
pub struct CorruptAttributes {
    /// What is wrong.
    pub what: &'static str,
    /// Where, in bytes from the start of the section.
    pub at: usize,
    /// Bytes of the section.
    pub bytes: usize,
}

/// Typed attributes of a message, by name. Encoded as they are inserted, so that a map that is used for many messages is
/// encoded once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeMap(Vec<u8>);

impl AttributeMap {
    /// An empty map.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an attribute. Fails, without a change, when the name is impossible or there already, or when the map becomes
    /// larger than [`MAP_BYTES_MAX`].
    pub fn insert<'a>(&mut self, name: &str, value: impl Into<Value<'a>>) -> Result<(), AttributesError> {
        if !(1..=255).contains(&name.len()) {
            return Err(AttributesError::AttributeName { bytes: name.len() });
        }
        if self.iter().any(|(known, _)| known == name) {
            return Err(AttributesError::Twice { name: name.to_owned() });
        }
        let before = self.0.len();
        self.0.push(name.len() as u8);
        self.0.extend_from_slice(name.as_bytes());
        let long = |bytes: &[u8]| (bytes.len() as u64).to_le_bytes();
        match value.into() {
            Value::Bool(value) => self.0.extend([0, u8::from(value)]),
            Value::Integer(value) => {
                self.0.push(1);
                self.0.extend(value.to_le_bytes());
            }
            Value::Float(value) => {
                self.0.push(2);
                self.0.extend(value.to_le_bytes());
            }
            Value::Text(value) => {
                self.0.push(3);
                self.0.extend_from_slice(&long(value.as_bytes())[..2]);
                self.0.extend_from_slice(value.as_bytes());
            }
            Value::Bytes(value) => {
                self.0.push(4);
                self.0.extend_from_slice(&long(&value)[..2]);
                self.0.extend_from_slice(&value);
            }
        }
        let bytes = self.0.len();
        if bytes > MAP_BYTES_MAX {
            self.0.truncate(before);
            return Err(AttributesError::TooLong { part: "map", bytes, bytes_max: MAP_BYTES_MAX });
        }
        Ok(())
    }

    /// Whether there are no attributes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The attributes, in the order in which they were inserted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        entries(&self.0)
    }
}

/// The attributes of a message to be sent. Without any, a message costs nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[must_use = "attributes do nothing before they are sent"]
pub struct Attributes<'a> {
    timestamp_ns: Option<u64>,
    key: Option<&'a [u8]>,
    correlation: Option<&'a [u8]>,
    reply_to: Option<&'a str>,
    map: Option<&'a AttributeMap>,
    durability: Durability,
    sequence: Option<u64>,
    producer: u32,
}

impl<'a> Attributes<'a> {
    /// None yet.
    #[inline]
    pub const fn new() -> Self {
        Self {
            timestamp_ns: None,
            key: None,
            correlation: None,
            reply_to: None,
            map: None,
            durability: Durability::Memory,
            sequence: None,
            producer: 0,
        }
    }

    /// When the message came about, in nanoseconds since 1970-01-01 UTC.
    pub const fn timestamp_ns(self, timestamp_ns: u64) -> Self {
        Self { timestamp_ns: Some(timestamp_ns), ..self }
    }

    /// The key: messages of one key are in order, at most [`KEY_BYTES_MAX`] bytes.
    pub const fn key(self, key: &'a [u8]) -> Self {
        Self { key: Some(key), ..self }
    }

    /// What a reply has to name, at most [`CORRELATION_BYTES_MAX`] bytes.
    pub const fn correlation(self, correlation: &'a [u8]) -> Self {
        Self { correlation: Some(correlation), ..self }
    }

    /// The stream where a reply is expected.
    pub const fn reply_to(self, stream: &'a str) -> Self {
        Self { reply_to: Some(stream), ..self }
    }

    /// Typed attributes by name.
    pub const fn map(self, map: &'a AttributeMap) -> Self {
        Self { map: Some(map), ..self }
    }

    /// At least this durability, where the stream's is lower; on a stream of durability `memory` nothing higher can be had.
    pub const fn durability(self, at_least: Durability) -> Self {
        Self { durability: at_least, ..self }
    }

    /// Which message it is in its producer's own count, for a producer that has a name: higher than any that it has sent to the
    /// same partition. Without, the producer counts.
    pub const fn sequence(self, sequence: u64) -> Self {
        Self { sequence: Some(sequence), ..self }
    }

    /// Which message it is in its producer's own count, if that was said.
    #[inline]
    pub const fn sequence_number(&self) -> Option<u64> {
        self.sequence
    }

    /// The number by which the partition knows the name of its producer; 0: it has none. Producers say this by themselves.
    pub const fn producer(self, number: u32) -> Self {
        Self { producer: number, ..self }
    }

    /// The durability that is asked for; `memory` when nothing is.
    #[inline]
    pub const fn least_durability(&self) -> Durability {
        self.durability
    }

    /// The key, if there is one.
    #[inline]
    pub const fn key_bytes(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// Whether there is a timestamp already.
    #[inline]
    pub const fn has_timestamp(&self) -> bool {
        self.timestamp_ns.is_some()
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        let map = match self.map {
            Some(map) => !map.0.is_empty(),
            None => false,
        };
        self.timestamp_ns.is_none()
            && self.key.is_none()
            && self.correlation.is_none()
            && self.reply_to.is_none()
            && matches!(self.durability, Durability::Memory)
            && self.sequence.is_none()
            && !map
    }

    /// Writes the section to `into`, which is emptied before; returns the flags.
    pub fn encode(&self, into: &mut Vec<u8>) -> Result<u16, AttributesError> {
        into.clear();
        let mut flags = 0;
        if let (1.., Some(sequence)) = (self.producer, self.sequence) {
            flags |= flag::PRODUCER;
            into.extend(Stamp { sequence, producer: self.producer }.to_bytes());
        }
        if let Some(timestamp_ns) = self.timestamp_ns {
            flags |= flag::TIMESTAMP;
            into.extend(timestamp_ns.to_le_bytes());
        }
        let mut part = |flag, part, value: Option<&[u8]>, bytes_max| {
            let Some(value) = value else { return Ok(()) };
            let bytes = value.len();
            if bytes > bytes_max {
                return Err(AttributesError::TooLong { part, bytes, bytes_max });
            }
            flags |= flag;
            into.extend((bytes as u16).to_le_bytes());
            into.extend_from_slice(value);
            Ok(())
        };
        part(flag::KEY, "key", self.key, KEY_BYTES_MAX)?;
        part(flag::CORRELATION, "correlation id", self.correlation, CORRELATION_BYTES_MAX)?;
        if let Some(reply_to) = self.reply_to {
            Name::parse(reply_to)?;
        }
        part(flag::REPLY_TO, "stream to reply to", self.reply_to.map(str::as_bytes), NAME_BYTES_MAX)?;
        if let Some(map) = self.map.filter(|map| !map.is_empty()) {
            flags |= flag::MAP;
            into.extend_from_slice(&map.0);
        }
        if self.durability == Durability::Synced {
            flags |= flag::SYNCED;
        }
        Ok(flags)
    }
}

/// Who has sent a message, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// In the producer's own count.
    pub sequence: u64,
    /// The number by which the partition knows the producer's name.
    pub producer: u32,
}

impl Stamp {
    /// Bytes in a section.
    pub const BYTES: usize = 12;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..].copy_from_slice(&self.producer.to_le_bytes());
        bytes
    }

    /// The stamp of a message with these flags and this section, or its beginning; `None`: it has none.
    pub fn of(flags: u16, section: &[u8]) -> Option<Self> {
        let bytes = section.first_chunk::<{ Self::BYTES }>().filter(|_| flags & flag::PRODUCER != 0)?;
        let (sequence, producer) = bytes.split_at(8);
        Some(Self {
            sequence: u64::from_le_bytes(sequence.try_into().expect("8 bytes")),
            producer: u32::from_le_bytes(producer.try_into().expect("4 bytes")),
        })
    }
}

/// The attributes of a received message, checked: each part is looked up when it is asked for. It is small, because every message
/// is handed on with one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AttributesView<'a> {
    flags: u16,
    section: &'a [u8],
}

impl<'a> AttributesView<'a> {
    /// Checks a section against the flags of its message's header.
    pub fn parse(flags: u16, section: &'a [u8]) -> Result<Self, CorruptAttributes> {
        let mut rest = Rest { section, at: 0 };
        if flags & !flag::ALL != 0 {
            return Err(rest.corrupt("an unknown flag"));
        }
        if flags & flag::PRODUCER != 0 {
            rest.take(Stamp::BYTES)?;
        }
        if flags & flag::TIMESTAMP != 0 {
            rest.take(TIMESTAMP_BYTES)?;
        }
        if flags & flag::KEY != 0 {
            rest.part(KEY_BYTES_MAX)?;
        }
        if flags & flag::CORRELATION != 0 {
            rest.part(CORRELATION_BYTES_MAX)?;
        }
        if flags & flag::REPLY_TO != 0 {
            let name = rest.part(NAME_BYTES_MAX)?;
            let text = std::str::from_utf8(name).map_err(|_| rest.corrupt("no UTF-8"))?;
            Name::parse(text).map_err(|_| rest.corrupt("no name of a stream"))?;
        }
        if flags & flag::MAP != 0 {
            while rest.at < section.len() {
                rest.entry()?;
            }
        }
        if rest.at < section.len() {
            return Err(rest.corrupt("more than the flags say"));
        }
        Ok(Self { flags, section })
    }

    /// Bytes of a part that has always the same number of them, if it is there.
    #[inline]
    fn bytes_if_there(&self, flag: u16, bytes: usize) -> usize {
        if self.flags & flag == 0 { 0 } else { bytes }
    }

    /// Where the timestamp begins.
    #[inline]
    fn timestamp_at(&self) -> usize {
        self.bytes_if_there(flag::PRODUCER, Stamp::BYTES)
    }

    /// Where the part of this flag begins, one that says its length, or the map.
    #[inline]
    fn part_at(&self, wanted: u16) -> usize {
        let mut at = self.timestamp_at() + self.bytes_if_there(flag::TIMESTAMP, TIMESTAMP_BYTES);
        for flag in [flag::KEY, flag::CORRELATION, flag::REPLY_TO] {
            if flag == wanted {
                break;
            }
            if self.flags & flag != 0 {
                at += LENGTH_BYTES + self.length_at(at);
            }
        }
        at
    }

    #[inline]
    fn length_at(&self, at: usize) -> usize {
        u16::from_le_bytes([self.section[at], self.section[at + 1]]).into()
    }

    /// The part of this flag, one that says its length.
    #[inline]
    fn part(&self, wanted: u16) -> Option<&'a [u8]> {
        if self.flags & wanted == 0 {
            return None;
        }
        let at = self.part_at(wanted);
        Some(&self.section[at + LENGTH_BYTES..][..self.length_at(at)])
    }

    /// What it was made of: the flags and the section.
    pub fn parts(&self) -> (u16, &'a [u8]) {
        (self.flags, self.section)
    }

    /// Who has sent it, and which one it is, if the producer has a name.
    pub fn stamp(&self) -> Option<Stamp> {
        Stamp::of(self.flags, self.section)
    }

    /// When the message came about, in nanoseconds since 1970-01-01 UTC, by its producer's word.
    pub fn timestamp_ns(&self) -> Option<u64> {
        let bytes = self.section[self.timestamp_at()..].first_chunk();
        bytes.filter(|_| self.flags & flag::TIMESTAMP != 0).copied().map(u64::from_le_bytes)
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.part(flag::KEY)
    }

    /// What a reply has to name.
    #[inline]
    pub fn correlation(&self) -> Option<&'a [u8]> {
        self.part(flag::CORRELATION)
    }

    /// The stream where a reply is expected.
    pub fn reply_to(&self) -> Option<&'a str> {
        self.part(flag::REPLY_TO).map(|name| std::str::from_utf8(name).expect("it was checked"))
    }

    /// The typed attributes, in the order in which they were inserted.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        entries(&self.section[self.part_at(flag::MAP)..])
    }

    /// The typed attribute of this name.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// The entries of a map that was checked, or made here.
fn entries(map: &[u8]) -> impl Iterator<Item = (&str, Value<'_>)> {
    let mut rest = Rest { section: map, at: 0 };
    std::iter::from_fn(move || (rest.at < rest.section.len()).then(|| rest.entry().ok()).flatten())
}

/// What of a section is still to be read.
struct Rest<'a> {
    section: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn corrupt(&self, what: &'static str) -> CorruptAttributes {
        CorruptAttributes { what, at: self.at, bytes: self.section.len() }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], CorruptAttributes> {
        let taken = self.section[self.at..].get(..bytes).ok_or_else(|| self.corrupt("an early end"))?;
        self.at += bytes;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CorruptAttributes> {
        Ok(self.take(N)?.try_into().expect("as many were taken"))
    }

    fn part(&mut self, bytes_max: usize) -> Result<&'a [u8], CorruptAttributes> {
        let bytes = usize::from(u16::from_le_bytes(self.array()?));
        if bytes > bytes_max {
            return Err(self.corrupt("a length above the limit"));
        }
        self.take(bytes)
    }

    fn text(&mut self, bytes: usize) -> Result<&'a str, CorruptAttributes> {
        let at = self.at;
        let bytes = self.take(bytes)?;
        std::str::from_utf8(bytes).map_err(|_| CorruptAttributes { at, ..self.corrupt("no UTF-8") })
    }

    fn entry(&mut self) -> Result<(&'a str, Value<'a>), CorruptAttributes> {
        let [bytes] = self.array()?;
        if bytes == 0 {
            return Err(self.corrupt("an empty name"));
        }
        let name = self.text(bytes.into())?;
        let [kind] = self.array()?;
        let value = match kind {
            0 => match self.array()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [_] => return Err(self.corrupt("neither true nor false")),
            },
            1 => Value::Integer(i64::from_le_bytes(self.array()?)),
            2 => Value::Float(f64::from_le_bytes(self.array()?)),
            3 => {
                let bytes = u16::from_le_bytes(self.array()?);
                Value::Text(self.text(bytes.into())?.into())
            }
            4 => Value::Bytes(self.part(MAP_BYTES_MAX)?.into()),
            _ => return Err(self.corrupt("an unknown type")),
        };
        Ok((name, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sent_is_what_arrives_and_nothing_costs_nothing() {
        let mut map = AttributeMap::new();
        map.insert("urgent", true).unwrap();
        map.insert("count", -3_i64).unwrap();
        map.insert("share", 0.25).unwrap();
        map.insert("kind", "café").unwrap();
        map.insert("raw", &[0_u8, 255][..]).unwrap();
        let attributes = Attributes::new()
            .timestamp_ns(7)
            .key(b"customer 9")
            .correlation(b"\x01\x02")
            .reply_to("answers")
            .durability(Durability::Synced)
            .sequence(11)
            .producer(3)
            .map(&map);
        let mut section = vec![9; 3];
        let flags = attributes.encode(&mut section).unwrap();
        assert_eq!(flags, flag::ALL);
        let view = AttributesView::parse(flags, &section).unwrap();
        assert_eq!(view.stamp(), Some(Stamp { sequence: 11, producer: 3 }));
        assert_eq!(view.timestamp_ns(), Some(7));
        assert_eq!(view.key(), Some(&b"customer 9"[..]));
        assert_eq!(view.correlation(), Some(&b"\x01\x02"[..]));
        assert_eq!(view.reply_to(), Some("answers"));
        assert_eq!(view.get("kind"), Some(Value::from("café")));
        assert_eq!(view.get("none"), None);
        assert!(view.iter().eq(map.iter()));
        assert_eq!(view.iter().count(), 5);

        let empty = AttributeMap::new();
        assert!(Attributes::new().map(&empty).is_empty());
        assert_eq!(Attributes::new().map(&empty).encode(&mut section), Ok(0));
        // Which one it is says nothing without who has sent it.
        assert_eq!(Attributes::new().sequence(1).encode(&mut section), Ok(0));
        assert!(section.is_empty());
    }

    #[test]
    fn what_is_too_long_or_no_name_is_refused_with_its_length() {
        let mut section = Vec::new();
        let key = [0; KEY_BYTES_MAX + 1];
        let error = Attributes::new().key(&key).encode(&mut section).unwrap_err();
        assert_eq!(error.to_string(), "the key has 1025 bytes: 1024 at the most");
        assert!(matches!(
            Attributes::new().reply_to("a/b").encode(&mut section),
            Err(AttributesError::ReplyTo(_))
        ));
        let mut map = AttributeMap::new();
        assert_eq!(map.insert("", true), Err(AttributesError::AttributeName { bytes: 0 }));
        map.insert("a", true).unwrap();
        assert_eq!(map.insert("a", 1_i64), Err(AttributesError::Twice { name: "a".into() }));
        let long = vec![0_u8; MAP_BYTES_MAX];
        assert!(matches!(map.insert("b", &long[..]), Err(AttributesError::TooLong { part: "map", .. })));
        assert_eq!(map.iter().count(), 1, "a failed insertion changes nothing");
    }

    #[test]
    fn every_limit_together_fits_the_length_field() {
        let parts = Stamp::BYTES
            + 8
            + 2
            + KEY_BYTES_MAX
            + 2
            + CORRELATION_BYTES_MAX
            + 2
            + NAME_BYTES_MAX
            + MAP_BYTES_MAX;
        assert!(parts <= usize::from(u16::MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_are_attributes_or_an_error_and_what_parses_is_what_it_was_made_of(
            flags in 0_u16..256, section in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Ok(view) = AttributesView::parse(flags, &section) {
                let entries: Vec<_> = view.iter().collect();
                prop_assert!(entries.len() <= section.len() / 3);
            }
        }

        #[test]
        fn a_section_that_is_cut_or_grows_is_an_error(cut in 0_usize..33) {
            let mut map = AttributeMap::new();
            map.insert("a", 1_i64).unwrap();
            let attributes = Attributes::new().timestamp_ns(1).key(b"k").correlation(b"c").map(&map);
            let mut section = Vec::new();
            let flags = attributes.encode(&mut section).unwrap();
            // A cut between two entries of a map cannot be seen; here, that is the one before the only entry.
            let whole = section.len() - 11;
            if cut < section.len() && cut != whole {
                prop_assert!(AttributesView::parse(flags, &section[..cut]).is_err());
            }
            prop_assert!(AttributesView::parse(flags & !flag::MAP, &section).is_err());
        }
    }
}
