//! Messages between rings and the shard's own memory.

use ringway_shm_protocol::memory::mapped::{Mapped, RegionError};
use ringway_shm_protocol::ring::{ArenaBlock, Claims, Outgoing, Part};

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
        let mut placement = Self::default();
        if placement.message(body).body_bytes() > body_bytes {
            placement.payload = Some(arenas.lend(&body.payload)?);
        }
        // Both references fit into the smallest slot.
        if placement.message(body).body_bytes() > body_bytes {
            match arenas.lend(&body.attributes) {
                Ok(block) => placement.attributes = Some(block),
                Err(error) => {
                    placement.arenas().for_each(|arena| arenas.drop(arena));
                    return Err(error);
                }
            }
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
