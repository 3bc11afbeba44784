//! The arenas of a ring: those of its producers, and the shard's own.
//!
//! 1. A producer's arena is written by that producer; the core numbers it.
//! 2. The shard's own hold one payload each, of a message that the shard delivers again or publishes itself. They are
//!    numbered from [`SHARD_ARENAS`] on, and a number is never used twice.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ringway_shm_protocol::layout::PAGE_BYTES;
use ringway_shm_protocol::memory::arena::{ArenaView, Arenas};
use ringway_shm_protocol::memory::mapped::{Access, OwnedRegion, RegionError};
use ringway_shm_protocol::partition::RingIdentity;
use ringway_shm_protocol::ring::{ArenaBlock, Blocks};

use crate::core::SHARD_ARENAS;

/// See the module.
pub(super) struct RingArenas {
    ring: RingIdentity,
    regions: BTreeMap<u32, OwnedRegion>,
    /// How many of the shard's own there were.
    own_made: u32,
}

impl RingArenas {
    /// A ring without arenas.
    pub(super) fn new(ring: RingIdentity) -> Self {
        Self { ring, regions: BTreeMap::new(), own_made: 0 }
    }

    /// Makes a producer's arena; returns the descriptor for it.
    pub(super) fn make(&mut self, arena: u32, bytes: u64) -> Result<OwnedFd, RegionError> {
        let region = OwnedRegion::create(self.ring.arena(bytes as usize))?;
        let descriptor = region.hand_over(Access::Write)?;
        self.regions.insert(arena, region);
        Ok(descriptor)
    }

    /// The descriptor of an arena for a reader, and its size in bytes; `None`: it is gone.
    pub(super) fn open(&self, arena: u32) -> Option<Result<(OwnedFd, u64), RegionError>> {
        let region = self.regions.get(&arena)?;
        let bytes = region.region().bytes() as u64;
        Some(region.hand_over(Access::Read).map(|descriptor| (descriptor, bytes)))
    }

    /// Drops an arena that nobody can come to any more.
    pub(super) fn drop(&mut self, arena: u32) {
        self.regions.remove(&arena);
    }

    /// Copies a part of a message that is in an arena; `None`: there are no such bytes.
    pub(super) fn copy(&self, block: ArenaBlock) -> Option<Vec<u8>> {
        let view = ArenaView::new(self.regions.get(&block.arena)?.region(), block)?;
        let mut bytes = vec![0; view.len()];
        view.read(0, &mut bytes);
        Some(bytes)
    }

    /// Puts these bytes into an arena of the shard's own.
    pub(super) fn lend(&mut self, bytes: &[u8]) -> Result<ArenaBlock, RegionError> {
        let size = Blocks::region_bytes(bytes.len()).next_multiple_of(PAGE_BYTES as u64);
        let region = OwnedRegion::create(self.ring.arena(size as usize))?;
        let arena = SHARD_ARENAS + self.own_made;
        // 2³¹ of them would take years; then the oldest number is long gone.
        self.own_made = (self.own_made + 1) % SHARD_ARENAS;
        let writing = Arenas::new();
        writing.add(arena, Arc::clone(region.region()));
        let mut block = writing.take(bytes.len()).expect("the region is made for a block of this size");
        block.copy_from_slice(bytes);
        let place = block.place(bytes.len());
        self.regions.insert(arena, region);
        Ok(place)
    }
}
