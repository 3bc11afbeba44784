//! A message outside of any ring.

use ringway_shm_protocol::attributes::{AttributeMap, Attributes, AttributesView, Stamp, Value, flag};
use serde::{Deserialize, Serialize};

/// Flags of the attributes, their section, the payload: as in a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Which attributes there are.
    pub flags: u16,
    /// The section of the attributes.
    pub attributes: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Body {
    /// The same message with more attributes; where its own leave no room for them, without. It does not say any more who has
    /// sent it: that is said in numbers of its stream.
    pub fn with(&self, more: &[(&str, Value<'_>)]) -> Self {
        self.try_with(more).unwrap_or_else(|| self.without_stamp())
    }

    fn without_stamp(&self) -> Self {
        let mut body = self.clone();
        if Stamp::of(body.flags, &body.attributes).is_some() {
            body.flags &= !flag::PRODUCER;
            body.attributes.drain(..Stamp::BYTES);
        }
        body
    }

    fn try_with(&self, more: &[(&str, Value<'_>)]) -> Option<Self> {
        let view = AttributesView::parse(self.flags, &self.attributes).ok()?;
        let mut map = AttributeMap::new();
        let is_new = |name: &str| !more.iter().any(|(other, _)| *other == name);
        for (name, value) in view.iter().filter(|(name, _)| is_new(name)).chain(more.iter().cloned()) {
            map.insert(name, value).ok()?;
        }
        let mut attributes = Attributes::new().map(&map);
        if let Some(timestamp_ns) = view.timestamp_ns() {
            attributes = attributes.timestamp_ns(timestamp_ns);
        }
        if let Some(key) = view.key() {
            attributes = attributes.key(key);
        }
        if let Some(correlation) = view.correlation() {
            attributes = attributes.correlation(correlation);
        }
        if let Some(stream) = view.reply_to() {
            attributes = attributes.reply_to(stream);
        }
        let mut section = Vec::new();
        let flags = attributes.encode(&mut section).ok()?;
        Some(Self { flags, attributes: section, payload: self.payload.clone() })
    }
}
