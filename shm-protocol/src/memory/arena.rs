//! Arenas in this process: blocks to write into, and blocks of others to read in place.
//!
//! ```text
//! producer   Arenas ── take ──▶ Block (a loan: plain bytes, its own) ── publish ──▶ in flight … free
//! consumer   ArenaView ── the bytes of a message, read where they are
//! ```
//!
//! 1. The bytes of a [`Block`] belong to it alone: no other block overlaps it, no reader reads it before its
//!    message is published, and it is given out again only as [`Blocks`] allows. So it is safe to give them out as
//!    `&mut [u8]`. Other processes map an arena for reading only.
//! 2. The bytes behind an [`ArenaView`] are the producer's: what it does to them after publishing only a process that
//!    breaks the protocol would. So a view copies with [`copy`], and a plain slice is `unsafe`.
//! 3. A block that is dropped goes back to its arenas, from whatever thread.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::copy;
use super::mapped::{Access, Mapped, Region};
use crate::layout::{RegionKind, arena};
use crate::ring::{ArenaBlock, Blocks, Producer, PublishError, Reclaim, Taken};

/// A producer's arenas. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Arenas(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    blocks: Option<Blocks>,
    regions: Vec<(u32, Arc<Region>)>,
}

impl Inner {
    fn blocks(&mut self) -> &mut Blocks {
        self.blocks.get_or_insert_with(Blocks::new)
    }
}

impl Arenas {
    /// Without any arena yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an arena that was made for this producer. Panics when the region is no arena or not writable.
    pub fn add(&self, id: u32, region: Arc<Region>) {
        assert!(
            region.kind() == RegionKind::Arena && region.access() == Access::Write,
            "an arena to write into"
        );
        let mut inner = self.lock();
        inner.blocks().add_arena(id, region.bytes() as u64);
        inner.regions.push((id, region));
    }

    /// Takes a block of `bytes`; `None`: none is free. What stands in it is left over from earlier messages of this
    /// producer.
    pub fn take(&self, bytes: usize) -> Option<Block> {
        let mut inner = self.lock();
        let taken = inner.blocks().take(bytes)?;
        let place = taken.with(bytes);
        let (_, region) = inner.regions.iter().find(|(id, _)| *id == place.arena)?;
        let first = region.bytes_at(place.offset as usize, bytes);
        Some(Block { first, bytes, region: Arc::clone(region), taken: Some(taken), arenas: self.clone() })
    }

    /// Frees blocks whose messages nobody can read any more, and drops arenas that are not needed; returns the numbers
    /// of those. Fails as [`Producer::reclaim`].
    pub fn reclaim(&self, producer: &mut Producer<Mapped>, how: Reclaim) -> Result<Vec<u32>, PublishError> {
        let mut inner = self.lock();
        let reclaimed = producer.reclaim(inner.blocks(), how);
        let retired = inner.blocks().tidy();
        inner.regions.retain(|(id, _)| !retired.contains(id));
        // What was retired must be told in any case; what holds the rest shows again at the next attempt.
        if retired.is_empty() { reclaimed.map(|()| retired) } else { Ok(retired) }
    }

    /// The block holds a part of the message that was published at `position`.
    pub fn published(&self, position: u64, mut block: Block) {
        let taken = block.taken.take().expect("a block has its place until it is dropped or published");
        self.lock().blocks().published(position, taken);
    }

    /// Bytes of all arenas, and of the largest.
    pub fn bytes(&self) -> (u64, u64) {
        let mut inner = self.lock();
        (inner.blocks().arenas_bytes(), inner.blocks().largest_arena_bytes())
    }

    /// Parts of messages that are on their way: see [`Blocks::in_flight`].
    pub fn in_flight(&self) -> usize {
        self.lock().blocks().in_flight()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory of an arena that this process alone uses, to be written and published.
pub struct Block {
    first: NonNull<u8>,
    bytes: usize,
    // Keeps the mapping.
    region: Arc<Region>,
    taken: Option<Taken>,
    arenas: Arenas,
}

// SAFETY: the bytes are used through the one owner of the block only (invariant 1); the rest is Send.
unsafe impl Send for Block {}
// SAFETY: through a shared reference the bytes can only be read.
unsafe impl Sync for Block {}

impl Block {
    /// Whether it was taken from these arenas.
    pub fn is_of(&self, arenas: &Arenas) -> bool {
        Arc::ptr_eq(&self.arenas.0, &arenas.0)
    }

    /// Where it is, for the message that will hold it. `bytes`: how many of its bytes the message has.
    pub fn place(&self, bytes: usize) -> ArenaBlock {
        assert!(bytes <= self.bytes, "a block of {} bytes holds no {bytes}", self.bytes);
        self.taken.as_ref().expect("a block has its place until it is dropped or published").with(bytes)
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.region.check_fork();
        // SAFETY: the bytes lie inside the mapping (checked when it was taken), which the block keeps, and are
        // changed by nobody else (invariant 1).
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.region.check_fork();
        // SAFETY: as above; the region is writable (checked when it was added).
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.arenas.lock().blocks().give_back(taken);
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = self.region.access();
        formatter.debug_struct("Block").field("bytes", &self.bytes).field("access", &access).finish()
    }
}

/// The bytes of a block in another process's arena. They stay as they are while the message may not be passed, unless
/// its producer breaks the protocol.
#[derive(Clone, Debug)]
pub struct ArenaView {
    region: Arc<Region>,
    offset: usize,
    bytes: usize,
}

impl ArenaView {
    /// The bytes of `block` in the arena's `region`; `None` when they are not inside its blocks, or begin where no block can.
    pub fn new(region: &Arc<Region>, block: ArenaBlock) -> Option<Self> {
        let offset = usize::try_from(block.offset).ok()?;
        let end = offset.checked_add(block.bytes.checked_next_multiple_of(copy::GRAIN_BYTES)?)?;
        let inside = offset >= arena::FIRST && end <= region.bytes();
        let aligned = offset.is_multiple_of(copy::GRAIN_BYTES);
        (region.kind() == RegionKind::Arena && inside && aligned).then(|| Self {
            region: Arc::clone(region),
            offset,
            bytes: block.bytes,
        })
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Copies the bytes from `at` on into `into`. Panics when there are not so many.
    pub fn read(&self, at: usize, into: &mut [u8]) {
        let end = at.checked_add(into.len());
        assert!(end.is_some_and(|end| end <= self.bytes), "{} bytes from {at} on are not there", into.len());
        let (mut at, mut rest) = (at, into);
        let skip = at % copy::GRAIN_BYTES;
        if skip > 0 {
            let mut grain = [0; copy::GRAIN_BYTES];
            self.copy(at - skip, &mut grain);
            let here = rest.len().min(copy::GRAIN_BYTES - skip);
            let (first, behind) = rest.split_at_mut(here);
            first.copy_from_slice(&grain[skip..skip + here]);
            (at, rest) = (at + here, behind);
        }
        self.copy(at, rest);
    }

    /// `at` is a multiple of the grain, or there is nothing to copy; the bytes rounded up to it are inside the region.
    fn copy(&self, at: usize, into: &mut [u8]) {
        let from = self.region.bytes_at(self.offset + at, into.len().next_multiple_of(copy::GRAIN_BYTES));
        // SAFETY: `bytes_at` checked that the region, which the view keeps, has the bytes also when rounded up; offset
        // and `at` are multiples of the grain, and a region begins at a page.
        unsafe { copy::out_of_shared(from.as_ptr(), into) };
    }

    /// The bytes as a slice, without a copy.
    ///
    /// # Safety
    ///
    /// The producer of the message keeps to the protocol: it does not write to what it has published. A process that
    /// you do not trust with your own memory may break that, and change bytes that the compiler takes to be constant.
    pub unsafe fn as_slice(&self) -> &[u8] {
        let first = self.region.bytes_at(self.offset, self.bytes);
        // SAFETY: inside the mapping, which the view keeps; nobody writes there by the caller's promise.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), self.bytes) }
    }
}
