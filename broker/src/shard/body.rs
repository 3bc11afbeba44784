//! Messages between rings and the shard's own memory.

use ringway_shm_protocol::memory::mapped::{Mapped, RegionError};
use ringway_shm_protocol::ring::{Claims, Outgoing, Part};

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

/// A message whose parts have a place, and the arenas of the shard's own that hold some of them.
pub(super) struct Placed<'a> {
    pub(super) message: Outgoing<'a>,
    pub(super) arenas: Vec<u32>,
}

/// Finds a place for each part of a message in a slot's body of so many bytes; what does not fit goes to arenas of the
/// shard's own, the payload first.
pub(super) fn place<'a>(
    body: &'a Body,
    body_bytes: usize,
    arenas: &mut RingArenas,
) -> Result<Placed<'a>, RegionError> {
    let (attributes, payload) = (Part::Inline(&body.attributes[..]), Part::Inline(&body.payload[..]));
    let mut message = Outgoing { flags: body.flags, attributes, payload };
    let mut lent = Vec::new();
    if message.body_bytes() > body_bytes {
        let block = arenas.lend(&body.payload)?;
        message.payload = Part::Arena(block);
        lent.push(block.arena);
    }
    // Both references fit into the smallest slot.
    if message.body_bytes() > body_bytes {
        match arenas.lend(&body.attributes) {
            Ok(block) => {
                message.attributes = Part::Arena(block);
                lent.push(block.arena);
            }
            Err(error) => {
                lent.into_iter().for_each(|arena| arenas.drop(arena));
                return Err(error);
            }
        }
    }
    Ok(Placed { message, arenas: lent })
}
