//! Messages between rings and the shard's own memory.

use ringway_shm_protocol::memory::mapped::{Mapped, RegionError};
use ringway_shm_protocol::ring::{ArenaBlock, Claims, Outgoing, Part, Received};

use super::arenas::RingArenas;
use crate::core::Body;

/// Copies a message out. The caller knows that its slot is committed and stays as it is meanwhile. `None`: the slot or what
/// it refers to is no message.
pub(super) fn copy(
    claims: &Claims<Mapped>,
    position: u64,
    arenas: &RingArenas,
    buffer: &mut [u8],
) -> Option<Body> {
    let received = claims.copy_out(position, buffer).ok()?;
    let part = |part: Part<'_>| match part {
        Part::Inline(bytes) => Some(bytes.to_vec()),
        Part::Arena(block) => arenas.copy(block),
    };
    let (attributes, payload) = (part(received.attributes(buffer))?, part(received.payload(buffer))?);
    Some(Body { flags: received.flags(), attributes, payload })
}

/// A message as a log has it: all its parts are inline.
pub(super) fn of_log(received: Received, body: &[u8]) -> Body {
    let part = |part: Part<'_>| match part {
        Part::Inline(bytes) => bytes.to_vec(),
        Part::Arena(_) => Vec::new(),
    };
    let (attributes, payload) = (part(received.attributes(body)), part(received.payload(body)));
    Body { flags: received.flags(), attributes, payload }
}

/// Which parts of a message have a place in an arena of the shard's own; the others are in the slot.
#[derive(Clone, Copy, Default)]
pub(super) struct Placement {
    attributes: Option<ArenaBlock>,
    payload: Option<ArenaBlock>,
}

impl Placement {
    /// Finds a place for each part of a message in a slot's body of so many bytes; what does not fit goes to arenas of the
    /// shard's own, the payload first.
    pub(super) fn find(body: &Body, body_bytes: usize, arenas: &mut RingArenas) -> Result<Self, RegionError> {
        let mut lent = Vec::new();
        let found = Self::find_by(body, body_bytes, &mut |bytes| {
            let block = arenas.lend(bytes)?;
            lent.push(block.arena);
            Ok(block)
        });
        if found.is_err() {
            lent.into_iter().for_each(|arena| arenas.drop(arena));
        }
        found
    }

    /// The same; `lend` finds a place for each part that does not fit.
    pub(super) fn find_by(
        body: &Body,
        body_bytes: usize,
        lend: &mut impl FnMut(&[u8]) -> Result<ArenaBlock, RegionError>,
    ) -> Result<Self, RegionError> {
        let mut placement = Self::default();
        if placement.message(body).body_bytes() > body_bytes {
            placement.payload = Some(lend(&body.payload)?);
        }
        // Both references fit into the smallest slot.
        if placement.message(body).body_bytes() > body_bytes {
            placement.attributes = Some(lend(&body.attributes)?);
        }
        Ok(placement)
    }

    /// The message as it is to be written.
    pub(super) fn message(self, body: &Body) -> Outgoing<'_> {
        let attributes = self.attributes.map_or(Part::Inline(&body.attributes[..]), Part::Arena);
        let payload = self.payload.map_or(Part::Inline(&body.payload[..]), Part::Arena);
        Outgoing { flags: body.flags, attributes, payload }
    }

    /// The arenas of the shard's own that it takes.
    pub(super) fn arenas(self) -> impl Iterator<Item = u32> {
        [self.payload, self.attributes].into_iter().flatten().map(|block| block.arena)
    }
}
