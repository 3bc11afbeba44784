//! Arenas as the broker gives and takes them: a producer's own to write, others' to read.

use std::sync::Arc;

use ringway_shm_protocol::control::message::{RefusalCode, Reply, Request};
use ringway_shm_protocol::layout::PAGE_BYTES;
use ringway_shm_protocol::memory::arena::Arenas;
use ringway_shm_protocol::memory::mapped::{Access, Region};
use ringway_shm_protocol::partition::{RingIdentity, is_arena_size};
use ringway_shm_protocol::ring::Blocks;

use crate::connection::unexpected;
use crate::endpoint::{Endpoint, exactly, in_range};
use crate::error::{OpenError, ProtocolError, SendError};
use crate::session::{ANSWER_MAX, Answer};
use crate::space::Space;

/// A producer's first arena has so many bytes, unless the first block needs more.
const FIRST_BYTES: u64 = 1 << 20;
/// Arenas that a consumer keeps mapped: one that it has not come to for longer is unmapped, so that its memory can go.
const KEPT_MAX: usize = 4;

/// What has come of asking for a new arena.
pub(crate) enum Grown {
    /// It is there.
    Yes,
    /// The producer has as much as it may.
    No,
    /// The broker has not answered.
    Unanswered(OpenError),
}

/// Asks for a new arena with room for a block of `bytes`: twice as large as the largest so far, so that one soon
/// holds all.
pub(crate) fn grow(
    arenas: &Arenas,
    endpoint: &Endpoint,
    space: &Space,
    bytes: usize,
) -> Result<Grown, SendError> {
    let page = PAGE_BYTES as u64;
    let (all, largest) = arenas.bytes();
    let left = space.settings().arenas_bytes_max().saturating_sub(all) / page * page;
    let needed = Blocks::region_bytes(bytes).next_multiple_of(page);
    if needed > left {
        return Ok(Grown::No);
    }
    let wanted = needed.max(2 * largest).max(FIRST_BYTES).min(left);
    let request = Request::MakeArena { endpoint: endpoint.number(), bytes: wanted };
    match open(endpoint, space.ring(), &request, Access::Write) {
        Ok((arena, region)) => {
            arenas.add(arena, region);
            Ok(Grown::Yes)
        }
        // There may be other ways.
        Err(source @ (OpenError::Disconnected | OpenError::Ended { .. } | OpenError::NoAnswer { .. })) => {
            Ok(Grown::Unanswered(source))
        }
        Err(source) => Err(SendError::Memory { stream: space.stream().to_owned(), bytes, source }),
    }
}

/// Tells the broker which arenas are empty and not needed. One that does not hear it drops them when the producer ends.
pub(crate) fn retire(endpoint: &Endpoint, arenas: &[u32]) {
    for arena in arenas {
        let request = Request::RetireArena { endpoint: endpoint.number(), arena: *arena };
        let _ = endpoint.session().request(&request, ANSWER_MAX);
    }
}

fn open(
    endpoint: &Endpoint,
    ring: RingIdentity,
    request: &Request,
    access: Access,
) -> Result<(u32, Arc<Region>), OpenError> {
    let answer = endpoint.session().request(request, ANSWER_MAX)?;
    let Answer { reply: Reply::Arena { arena, bytes }, descriptors, .. } = answer else {
        return Err(unexpected("an arena").into());
    };
    if !is_arena_size(bytes) {
        return Err(ProtocolError::Range { field: "arena size", found: bytes, max: 0 }.into());
    }
    in_range("arena size", bytes, usize::MAX as u64)?;
    let [descriptor] = exactly("an arena", descriptors)?;
    let region = Region::open(&descriptor, ring.arena(bytes as usize), access)?;
    Ok((arena, Arc::new(region)))
}

/// The arenas that a consumer has mapped, the last used first.
#[derive(Debug)]
pub(crate) struct MappedArenas {
    ring: RingIdentity,
    mapped: Vec<(u32, Arc<Region>)>,
}

impl MappedArenas {
    pub(crate) fn new(ring: RingIdentity) -> Self {
        Self { ring, mapped: Vec::new() }
    }

    /// The arena's region; `None`: it is gone.
    #[inline]
    pub(crate) fn get(&mut self, endpoint: &Endpoint, arena: u32) -> Result<Option<&Arc<Region>>, OpenError> {
        if self.mapped.first().is_none_or(|(first, _)| *first != arena)
            && !self.bring_first(endpoint, arena)?
        {
            return Ok(None);
        }
        Ok(self.mapped.first().map(|(_, region)| region))
    }

    #[cold]
    fn bring_first(&mut self, endpoint: &Endpoint, arena: u32) -> Result<bool, OpenError> {
        if let Some(at) = self.mapped.iter().position(|(mapped, _)| *mapped == arena) {
            self.mapped[..=at].rotate_right(1);
            return Ok(true);
        }
        let request = Request::OpenArena { endpoint: endpoint.number(), arena };
        match open(endpoint, self.ring, &request, Access::Read) {
            Ok(opened) => {
                self.mapped.insert(0, opened);
                self.mapped.truncate(KEPT_MAX);
                Ok(true)
            }
            Err(error) if error.code() == Some(RefusalCode::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
