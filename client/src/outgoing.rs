//! A message to be sent: a payload, and what it says about itself.

use ringway_shm_protocol::attributes::{AttributeMap, Attributes};
use ringway_shm_protocol::control::message::Durability;

/// A message to be sent. Made from anything that is bytes, so that `producer.send(b"text")` does; with attributes:
///
/// ```
/// use ringway_client::{AttributeMap, Outgoing};
///
/// # fn main() -> Result<(), ringway_client::AttributesError> {
/// let mut map = AttributeMap::new();
/// map.insert("urgent", true)?;
/// let message = Outgoing::new(b"one pizza").key(b"customer 7").reply_to("receipts").map(&map);
/// # let _ = message;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a message does nothing before it is sent"]
pub struct Outgoing<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) attributes: Attributes<'a>,
}

impl<'a> Outgoing<'a> {
    /// A message without attributes.
    #[inline]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { payload, attributes: Attributes::new() }
    }

    /// Takes these attributes instead of what it has.
    pub const fn attributes(self, attributes: Attributes<'a>) -> Self {
        Self { attributes, ..self }
    }

    /// See [`Attributes::timestamp_ns`].
    pub const fn timestamp_ns(self, timestamp_ns: u64) -> Self {
        Self { attributes: self.attributes.timestamp_ns(timestamp_ns), ..self }
    }

    /// See [`Attributes::key`].
    pub const fn key(self, key: &'a [u8]) -> Self {
        Self { attributes: self.attributes.key(key), ..self }
    }

    /// See [`Attributes::correlation`].
    pub const fn correlation(self, correlation: &'a [u8]) -> Self {
        Self { attributes: self.attributes.correlation(correlation), ..self }
    }

    /// See [`Attributes::reply_to`].
    pub const fn reply_to(self, stream: &'a str) -> Self {
        Self { attributes: self.attributes.reply_to(stream), ..self }
    }

    /// See [`Attributes::durability`].
    pub const fn durability(self, at_least: Durability) -> Self {
        Self { attributes: self.attributes.durability(at_least), ..self }
    }

    /// See [`Attributes::sequence`].
    pub const fn sequence(self, sequence: u64) -> Self {
        Self { attributes: self.attributes.sequence(sequence), ..self }
    }

    /// See [`Attributes::map`].
    pub const fn map(self, map: &'a AttributeMap) -> Self {
        Self { attributes: self.attributes.map(map), ..self }
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Outgoing<'a> {
    #[inline]
    fn from(payload: &'a T) -> Self {
        Self::new(payload.as_ref())
    }
}

impl<'a> From<&Outgoing<'a>> for Outgoing<'a> {
    #[inline]
    fn from(message: &Outgoing<'a>) -> Self {
        *message
    }
}
