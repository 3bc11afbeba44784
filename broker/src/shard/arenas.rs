//! The arenas of a ring: those of its producers, and the shard's own.
//!
//! 1. A producer's arena is written by that producer; the core numbers it.
//! 2. The shard's own hold one payload each, of a message that the shard delivers again or publishes itself. They are
//!    numbered from [`SHARD_ARENAS`] on, and a number is never used twice: how many there were stands in the ring's memory.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringway_shm_protocol::layout::PAGE_BYTES;
use ringway_shm_protocol::memory::arena::{ArenaView, Arenas};
use ringway_shm_protocol::memory::mapped::{Access, MappedWord, OwnedRegion, RegionError};
use ringway_shm_protocol::partition::RingIdentity;
use ringway_shm_protocol::ring::{ArenaBlock, Blocks};
use ringway_shm_protocol::stops;

use super::body::Placement;
use super::home::{Home, InKeep};
use crate::core::{Body, SHARD_ARENAS};
use crate::keeper::Estate;

/// See the module.
pub(super) struct RingArenas {
    ring: RingIdentity,
    home: Home,
    regions: BTreeMap<u32, InKeep<OwnedRegion>>,
    /// How many of the shard's own there were.
    own_made: MappedWord,
}

impl RingArenas {
    /// A ring without arenas.
    pub(super) fn new(ring: RingIdentity, home: &Home, own_made: MappedWord) -> Self {
        Self { ring, home: home.clone(), regions: BTreeMap::new(), own_made }
    }

    /// Takes over the arena of a shard that is gone; `false`: it was being given up.
    pub(super) fn adopt(&mut self, arena: u32, bytes: u64, estate: &mut Estate) -> Result<bool, RegionError> {
        let Some((descriptors, kept)) = self.home.adopt(self.home.arena(arena), estate) else {
            return Ok(false);
        };
        let [descriptor] = descriptors;
        let region = OwnedRegion::adopt(descriptor, self.ring.arena(bytes as usize))?;
        self.regions.insert(arena, InKeep::new(region, kept));
        Ok(true)
    }

    /// Takes over all arenas of the shard's own of a shard that is gone; returns their numbers.
    pub(super) fn adopt_own(&mut self, estate: &mut Estate) -> Result<Vec<u32>, RegionError> {
        let own = self.home.arena(SHARD_ARENAS)..=self.home.arena(u32::MAX);
        let own: Vec<_> = estate.range(own).map(|(key, entry)| (*key, entry.bytes())).collect();
        let numbered = own.into_iter().filter_map(|(key, bytes)| Some((key.arena()?, bytes)));
        numbered.map(|(arena, bytes)| self.adopt(arena, bytes, estate).map(|_| arena)).collect()
    }

    fn insert(&mut self, arena: u32, region: OwnedRegion) {
        let kept = self.home.keep(self.home.arena(arena), Vec::new(), [region.descriptor().clone()]);
        self.regions.insert(arena, InKeep::new(region, kept));
    }

    /// Makes a producer's arena; returns the descriptor for it.
    pub(super) fn make(&mut self, arena: u32, bytes: u64) -> Result<OwnedFd, RegionError> {
        let region = OwnedRegion::create(self.ring.arena(bytes as usize))?;
        let descriptor = region.hand_over(Access::Write)?;
        self.insert(arena, region);
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
        let writing = self.make_own(Blocks::region_bytes(bytes.len()))?;
        Ok(put(&writing, bytes))
    }

    /// Finds places for what of these messages does not fit bodies of so many bytes: all in one arena of the shard's own.
    pub(super) fn lend_all(
        &mut self,
        messages: &BTreeMap<u64, Body>,
        body_bytes: usize,
    ) -> Result<BTreeMap<u64, Placement>, RegionError> {
        let mut size = 0;
        let mut measure = |bytes: &[u8]| {
            size += Blocks::region_bytes(bytes.len());
            Ok(ArenaBlock { arena: SHARD_ARENAS, offset: 0, bytes: bytes.len() })
        };
        for body in messages.values() {
            Placement::find_by(body, body_bytes, &mut measure)?;
        }
        if size == 0 {
            return Ok(messages.keys().map(|position| (*position, Placement::default())).collect());
        }
        let writing = self.make_own(size)?;
        let mut write = |bytes: &[u8]| Ok(put(&writing, bytes));
        let placed = messages.iter().map(|(position, body)| {
            Placement::find_by(body, body_bytes, &mut write).map(|placement| (*position, placement))
        });
        placed.collect()
    }

    /// Makes an arena of the shard's own, with room for so many bytes, to be written to.
    fn make_own(&mut self, bytes: u64) -> Result<Arenas, RegionError> {
        let region =
            OwnedRegion::create(self.ring.arena(bytes.next_multiple_of(PAGE_BYTES as u64) as usize))?;
        let made = self.own_made.load(Ordering::Relaxed);
        self.own_made.store(made + 1, Ordering::Relaxed);
        stops::at("arena.numbered");
        // 2³¹ of them would take years; then the oldest number is long gone.
        let arena = SHARD_ARENAS + (made % u64::from(SHARD_ARENAS)) as u32;
        let writing = Arenas::new();
        writing.add(arena, Arc::clone(region.region()));
        self.insert(arena, region);
        Ok(writing)
    }
}

/// Puts bytes into the next block of an arena that was made for them.
fn put(writing: &Arenas, bytes: &[u8]) -> ArenaBlock {
    let mut block = writing.take(bytes.len()).expect("the region is made for a block of this size");
    block.copy_from_slice(bytes);
    let place = block.place(bytes.len());
    // The message that it is for has it from now on.
    writing.published(0, block);
    place
}
