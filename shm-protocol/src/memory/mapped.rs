//! Regions as memfds mapped into this process: the only place that turns mapped bytes into words.
//!
//! Invariants:
//!
//! 1. A region's size never changes: it is allocated when made and sealed SHRINK, GROW and SEAL before anybody
//!    else sees it; [`Region::open`] refuses one that is not. So no access faults for a missing page.
//! 2. Every handle ([`MappedWord`], [`MappedBell`], [`MappedSlots`]) keeps its mapping alive, lies inside it and is
//!    aligned: checked when the handle is made, never again.
//! 3. Shared bytes are touched only by atomics and by [`copy`]; no reference to a plain byte of
//!    them is ever formed.
//! 4. A forked child does not inherit the mapping (`MADV_DONTFORK`), so it does not unmap it either: by then
//!    something of its own may lie there.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};
use thiserror::Error;
use zerocopy::{FromBytes, IntoBytes};

use super::bell::MappedBell;
use super::{Memory, Slots, Word, Words, copy};
use crate::fork::ForkMark;
use crate::layout::{
    self, Geometry, GeometryError, GeometryRecord, LAYOUT_VERSION, MAGIC, RegionHeader, RegionKind,
};

/// The seals that every region carries.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Feature bits that this build understands.
pub const FEATURES_KNOWN: u64 = 0;

/// What a holder of a descriptor may do with the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load only; a store would fault.
    Read,
    /// Load and store.
    Write,
}

/// What a region is expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its kind.
    pub kind: RegionKind,
    /// The incarnation of its ring.
    pub incarnation: u64,
    /// Its size in bytes.
    pub bytes: usize,
}

/// Why a region could not be made or mapped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The kernel refused.
    #[error("could not {action} the {kind:?} region of {bytes} bytes: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Which region.
        kind: RegionKind,
        /// Its size.
        bytes: usize,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The descriptor has the wrong size.
    #[error("the descriptor for the {kind:?} region has {found} bytes instead of {expected}: refused")]
    Size {
        /// Which region.
        kind: RegionKind,
        /// Size found, in bytes.
        found: u64,
        /// Size expected, in bytes.
        expected: u64,
    },
    /// The descriptor is not sealed, so its size could change under the mapping.
    #[error(
        "the descriptor for the {kind:?} region lacks the seals SHRINK, GROW and SEAL (it has {found:?}): refused"
    )]
    Seals {
        /// Which region.
        kind: RegionKind,
        /// Seals found; `None` where the descriptor cannot have any.
        found: Option<u32>,
    },
    /// The header is of something else.
    #[error(
        "the descriptor for the {kind:?} region holds something else: its {field} is {found:#x} instead of {expected:#x}"
    )]
    Header {
        /// Which region.
        kind: RegionKind,
        /// Field of the header.
        field: &'static str,
        /// Value found.
        found: u64,
        /// Value expected.
        expected: u64,
    },
    /// The region needs features that this build does not know.
    #[error(
        "the {kind:?} region requires features {unknown:#x} that this build does not know: use the broker's version of the client"
    )]
    Features {
        /// Which region.
        kind: RegionKind,
        /// The bits that are not known.
        unknown: u64,
    },
    /// `meta` holds an impossible geometry.
    #[error("the ring's geometry is impossible: {0}")]
    Geometry(#[from] GeometryError),
    /// `meta` holds another geometry than the broker announced.
    #[error("the ring has {found:?}, the broker announced {expected:?}: refused")]
    OtherGeometry {
        /// Geometry in `meta`.
        found: Geometry,
        /// Geometry announced.
        expected: Geometry,
    },
}

/// When the pages of a mapping are entered: all are there, but each costs a fault when it is first touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    Now,
    WhenTouched,
}

fn system(action: &'static str, identity: Identity) -> impl FnOnce(std::io::Error) -> RegionError {
    move |source| RegionError::System { action, kind: identity.kind, bytes: identity.bytes, source }
}

/// A mapped region.
#[derive(Debug)]
pub struct Region {
    map: ManuallyDrop<MmapRaw>,
    kind: RegionKind,
    access: Access,
    fork: ForkMark,
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.fork.is_here() {
            // SAFETY: dropped here only, and not used again.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}

/// A region together with the descriptor that it is handed over by.
#[derive(Debug)]
pub struct OwnedRegion {
    descriptor: Arc<OwnedFd>,
    region: Arc<Region>,
}

impl OwnedRegion {
    /// Makes a region of zeroes with its header: allocated, mode 0600, sealed, mapped for writing.
    pub fn create(identity: Identity) -> Result<Self, RegionError> {
        let name = format!("ringway-{:?}", identity.kind).to_lowercase();
        let io = |error: rustix::io::Errno| std::io::Error::from(error);
        let descriptor = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(io)
            .map_err(system("create", identity))?;
        rustix::fs::fchmod(&descriptor, Mode::RUSR | Mode::WUSR)
            .map_err(io)
            .map_err(system("set the mode of", identity))?;
        rustix::fs::fallocate(&descriptor, FallocateFlags::empty(), 0, identity.bytes as u64)
            .map_err(io)
            .map_err(system("allocate memory for", identity))?;
        let header = RegionHeader {
            magic: MAGIC,
            version: LAYOUT_VERSION,
            kind: identity.kind as u32,
            incarnation: identity.incarnation,
            features_required: 0,
            features_optional: 0,
            bytes: identity.bytes as u64,
            reserved: [0; 2],
        };
        rustix::io::pwrite(&descriptor, header.as_bytes(), 0)
            .map_err(io)
            .map_err(system("write the header of", identity))?;
        rustix::fs::fcntl_add_seals(&descriptor, SEALS).map_err(io).map_err(system("seal", identity))?;
        let region = Region::open(&descriptor, identity, Access::Write)?;
        Ok(Self { descriptor: Arc::new(descriptor), region: Arc::new(region) })
    }

    /// Takes a region over that another process has made and did not live to give up: checked as [`Region::open`] does, and
    /// mapped without touching its pages, so that it takes no time.
    pub fn adopt(descriptor: Arc<OwnedFd>, identity: Identity) -> Result<Self, RegionError> {
        let region = Region::map(&*descriptor, identity, Access::Write, Pages::WhenTouched)?;
        Ok(Self { descriptor, region: Arc::new(region) })
    }

    /// The descriptor itself.
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    /// Writes the geometry into a `meta` region that nobody else sees yet.
    pub fn record_geometry(&self, geometry: Geometry, partition: u32) -> Result<(), RegionError> {
        let record =
            GeometryRecord { capacity: geometry.capacity(), slot_bytes: geometry.slot_bytes(), partition };
        rustix::io::pwrite(&self.descriptor, record.as_bytes(), layout::meta::GEOMETRY as u64)
            .map_err(|error| system("write the geometry of", self.identity())(error.into()))?;
        Ok(())
    }

    /// The mapping.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// A descriptor to hand over, with no more access than `access`.
    pub fn hand_over(&self, access: Access) -> Result<OwnedFd, RegionError> {
        match access {
            Access::Write => self.descriptor.try_clone().map_err(system("duplicate", self.identity())),
            Access::Read => read_only(&*self.descriptor).map_err(system("open read-only", self.identity())),
        }
    }

    fn identity(&self) -> Identity {
        Identity { kind: self.region.kind, incarnation: 0, bytes: self.region.map.len() }
    }
}

/// A descriptor of the same memory by which nothing can be written: opening a memfd anew is what makes it so for good.
pub fn read_only(descriptor: impl AsFd) -> std::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

impl Region {
    /// Maps a descriptor after checking its size, seals and header.
    pub fn open(descriptor: impl AsFd, expected: Identity, access: Access) -> Result<Self, RegionError> {
        Self::map(descriptor, expected, access, Pages::Now)
    }

    /// The same for who only looks, and at little of it: for reading, without touching its pages.
    pub fn look(descriptor: impl AsFd, expected: Identity) -> Result<Self, RegionError> {
        Self::map(descriptor, expected, Access::Read, Pages::WhenTouched)
    }

    fn map(
        descriptor: impl AsFd,
        expected: Identity,
        access: Access,
        pages: Pages,
    ) -> Result<Self, RegionError> {
        let descriptor = descriptor.as_fd();
        let kind = expected.kind;
        let io = |error: rustix::io::Errno| std::io::Error::from(error);
        let status = rustix::fs::fstat(descriptor).map_err(io).map_err(system("inspect", expected))?;
        if status.st_size as u64 != expected.bytes as u64 {
            return Err(RegionError::Size {
                kind,
                found: status.st_size as u64,
                expected: expected.bytes as u64,
            });
        }
        let seals = rustix::fs::fcntl_get_seals(descriptor).ok();
        if !seals.is_some_and(|seals| seals.contains(SEALS)) {
            return Err(RegionError::Seals { kind, found: seals.map(|seals| seals.bits()) });
        }
        check_header(descriptor, expected)?;
        let file = File::from(descriptor.try_clone_to_owned().map_err(system("duplicate", expected))?);
        let mut options = MmapOptions::new();
        options.len(expected.bytes);
        if pages == Pages::Now {
            options.populate();
        }
        let map = match access {
            Access::Read => options.map_raw_read_only(&file),
            Access::Write => options.map_raw(&file),
        }
        .map_err(system("map", expected))?;
        map.advise(Advice::DontFork).map_err(system("keep from forked children", expected))?;
        Ok(Self { map: ManuallyDrop::new(map), kind, access, fork: ForkMark::here() })
    }

    /// A word at `offset`. Panics when it is not inside the region or not aligned.
    pub fn word(self: &Arc<Self>, offset: usize) -> MappedWord {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.map.len(), "word outside its region");
        // SAFETY: the assertion keeps the pointer inside the mapping, which is not null.
        let word = unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(offset).cast()) };
        MappedWord { word, _region: Arc::clone(self) }
    }

    /// A futex at `offset`. Panics when it is not inside the region or not aligned.
    pub fn bell(self: &Arc<Self>, offset: usize) -> MappedBell {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.map.len(), "bell outside its region");
        // SAFETY: the assertion keeps the pointer inside the mapping, which is not null.
        let word = unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(offset).cast()) };
        MappedBell::new(word, Arc::clone(self))
    }

    /// `count` words from `offset` on. Panics when they are not inside the region or not aligned, or their number is no
    /// power of two.
    pub fn words(self: &Arc<Self>, offset: usize, count: u64) -> MappedWords {
        let end = (count as usize).checked_mul(8).and_then(|bytes| bytes.checked_add(offset));
        assert!(
            offset.is_multiple_of(8) && end.is_some_and(|end| end <= self.map.len()),
            "words outside their region"
        );
        assert!(count.is_power_of_two(), "a row of {count} words");
        // SAFETY: the assertion keeps the pointer inside the mapping, which is not null.
        let first = unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(offset).cast()) };
        MappedWords { first, mask: count - 1, _region: Arc::clone(self) }
    }

    /// The slots of a `slots` or `feed` region. Panics when the region is not of this geometry.
    pub fn slots(self: &Arc<Self>, geometry: Geometry) -> MappedSlots {
        let bytes = match self.kind {
            RegionKind::Feed => geometry.feed_region_bytes(),
            _ => geometry.slots_region_bytes(),
        };
        assert!(matches!(self.kind, RegionKind::Slots | RegionKind::Feed), "{:?} has no slots", self.kind);
        assert_eq!(self.map.len(), bytes, "slots of another geometry");
        // SAFETY: a slots region is longer than the offset of its first slot, and not null.
        let first = unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(layout::slots::FIRST)) };
        MappedSlots {
            first,
            geometry,
            shift: geometry.slot_bytes().trailing_zeros(),
            region: Arc::clone(self),
        }
    }

    /// What this mapping may be used for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Its kind.
    pub fn kind(&self) -> RegionKind {
        self.kind
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Panics in a forked child, which has not inherited the mapping and would crash otherwise.
    pub(super) fn check_fork(&self) {
        assert!(
            self.fork.is_here(),
            "a forked child may not use the memory of its parent's streams: open its own"
        );
    }

    /// Where `bytes` begin from `offset` on. Panics when they are not inside the region.
    pub(super) fn bytes_at(&self, offset: usize, bytes: usize) -> NonNull<u8> {
        self.check_fork();
        let end = offset.checked_add(bytes);
        assert!(
            end.is_some_and(|end| end <= self.map.len()),
            "{bytes} bytes from {offset} outside their region"
        );
        // SAFETY: the assertion keeps the pointer inside the mapping, which is not null.
        unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(offset)) }
    }
}

impl Region {
    /// Copies the bytes from `offset` on, a multiple of 16. Panics when they, rounded up to 16, are not inside the region.
    pub(super) fn copy_out(&self, offset: usize, into: &mut [u8]) {
        let from = self.grains(offset, into.len());
        // SAFETY: `grains` checked that the mapping, which is there as long as this, has the bytes also when rounded up, and that they
        // begin at a multiple of 16.
        unsafe { copy::out_of_shared(from.as_ptr(), into) };
    }

    /// Copies bytes to `offset`, a multiple of 16; up to 15 bytes behind them become zero. Panics when they, rounded up to 16, are not
    /// inside the region, or it is mapped for reading only.
    pub(super) fn copy_in(&self, offset: usize, from: &[u8]) {
        assert_eq!(self.access, Access::Write, "a region to write into");
        let to = self.grains(offset, from.len());
        // SAFETY: as above; and the mapping is writable.
        unsafe { copy::into_shared(to.as_ptr(), from) };
    }

    fn grains(&self, offset: usize, bytes: usize) -> NonNull<u8> {
        assert!(offset.is_multiple_of(copy::GRAIN_BYTES), "bytes from {offset} on");
        self.bytes_at(offset, bytes.next_multiple_of(copy::GRAIN_BYTES))
    }
}

fn check_header(descriptor: impl AsFd, expected: Identity) -> Result<(), RegionError> {
    let kind = expected.kind;
    let mut bytes = [0; size_of::<RegionHeader>()];
    let length = rustix::io::pread(descriptor, &mut bytes, 0)
        .map_err(|error| system("read the header of", expected)(error.into()))?;
    let header = RegionHeader::read_from_bytes(&bytes).expect("the buffer has the header's size");
    let checks = [
        ("length", length as u64, bytes.len() as u64),
        ("magic", header.magic, MAGIC),
        ("layout version", header.version.into(), LAYOUT_VERSION.into()),
        ("kind", header.kind.into(), kind as u64),
        ("incarnation", header.incarnation, expected.incarnation),
        ("size", header.bytes, expected.bytes as u64),
    ];
    for (field, found, expected) in checks {
        if found != expected {
            return Err(RegionError::Header { kind, field, found, expected });
        }
    }
    match header.features_required & !FEATURES_KNOWN {
        0 => Ok(()),
        unknown => Err(RegionError::Features { kind, unknown }),
    }
}

/// Reads the geometry out of a `meta` region and checks that it is the one announced.
pub fn check_geometry(meta: impl AsFd, expected: Geometry) -> Result<(), RegionError> {
    let identity = Identity { kind: RegionKind::Meta, incarnation: 0, bytes: layout::meta::BYTES };
    let mut bytes = [0; size_of::<GeometryRecord>()];
    rustix::io::pread(meta, &mut bytes, layout::meta::GEOMETRY as u64)
        .map_err(|error| system("read the geometry of", identity)(error.into()))?;
    let record = GeometryRecord::read_from_bytes(&bytes).expect("the buffer has the record's size");
    let found = Geometry::new(record.capacity, record.slot_bytes)?;
    if found != expected {
        return Err(RegionError::OtherGeometry { found, expected });
    }
    Ok(())
}

/// A 64-bit word of a mapped region.
#[derive(Clone, Debug)]
pub struct MappedWord {
    word: NonNull<AtomicU64>,
    _region: Arc<Region>,
}

// SAFETY: the pointee is an atomic in a mapping that the handle keeps alive; any thread may use and drop it.
unsafe impl Send for MappedWord {}
// SAFETY: as above; all access is atomic.
unsafe impl Sync for MappedWord {}

impl Deref for MappedWord {
    type Target = AtomicU64;

    #[inline]
    fn deref(&self) -> &AtomicU64 {
        // SAFETY: inside the mapping and aligned (checked by Region::word); the mapping lives as long as the
        // handle; only atomics touch these bytes, in this process and by protocol in the others.
        unsafe { self.word.as_ref() }
    }
}

/// A row of words of a mapped region.
#[derive(Clone, Debug)]
pub struct MappedWords {
    first: NonNull<AtomicU64>,
    mask: u64,
    _region: Arc<Region>,
}

// SAFETY: the pointees are atomics in a mapping that the handle keeps alive; any thread may use and drop it.
unsafe impl Send for MappedWords {}
// SAFETY: as above; all access is atomic.
unsafe impl Sync for MappedWords {}

impl Words for MappedWords {
    type Word = AtomicU64;

    #[inline]
    fn at(&self, index: u64) -> &AtomicU64 {
        // SAFETY: the mask keeps the index below the number of words that Region::words has checked to be inside the
        // mapping; only atomics touch them.
        unsafe { self.first.add((index & self.mask) as usize).as_ref() }
    }
}

/// The slots of a mapped ring.
#[derive(Clone, Debug)]
pub struct MappedSlots {
    first: NonNull<u8>,
    geometry: Geometry,
    shift: u32,
    region: Arc<Region>,
}

// SAFETY: the pointee is shared memory kept alive by the handle and touched by atomics and `copy` only.
unsafe impl Send for MappedSlots {}
// SAFETY: as above.
unsafe impl Sync for MappedSlots {}

impl MappedSlots {
    #[inline]
    fn slot(&self, index: u64) -> *mut u8 {
        let offset = (self.geometry.index(index) as usize) << self.shift;
        // SAFETY: the index is taken modulo the capacity, so the slot lies inside the region, whose length was
        // checked against the geometry.
        unsafe { self.first.as_ptr().add(offset) }
    }

    #[inline]
    fn slot_word(&self, index: u64, offset: usize) -> &AtomicU64 {
        // SAFETY: both words lie in the first 16 bytes of a slot.
        let word = unsafe { self.slot(index).add(offset) };
        // SAFETY: slots are aligned to their size, at least 64; only atomics touch these bytes.
        unsafe { &*word.cast() }
    }

    /// Where `bytes` of a body begin, from `offset` on.
    #[inline]
    fn body(&self, index: u64, offset: usize, bytes: usize) -> *mut u8 {
        let end = offset.checked_add(bytes);
        assert!(
            offset.is_multiple_of(layout::PART_ALIGN_BYTES)
                && end.is_some_and(|end| end <= self.geometry.body_bytes()),
            "a body holds no {bytes} bytes from {offset} on"
        );
        // SAFETY: the body begins inside the slot, and the offset lies inside the body.
        unsafe { self.slot(index).add(layout::slot::BODY + offset) }
    }
}

impl Slots for MappedSlots {
    type Word = AtomicU64;

    #[inline]
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[inline]
    fn word(&self, index: u64) -> &AtomicU64 {
        self.slot_word(index, layout::slot::WORD)
    }

    #[inline]
    fn header(&self, index: u64) -> &AtomicU64 {
        self.slot_word(index, layout::slot::HEADER)
    }

    #[inline]
    fn write(&self, index: u64, offset: usize, part: &[u8]) {
        debug_assert_eq!(self.region.access, Access::Write);
        // SAFETY: the body holds the bytes (asserted) also when rounded up to 16, because its length and the
        // offset are multiples of 16; it starts 16 bytes into a slot aligned to 64.
        unsafe { copy::into_shared(self.body(index, offset, part.len()), part) };
    }

    #[inline]
    fn read(&self, index: u64, into: &mut [u8]) {
        // SAFETY: as for write.
        unsafe { copy::out_of_shared(self.body(index, 0, into.len()), into) };
    }

    #[inline]
    fn prefetch_for_write(&self, index: u64, bytes: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            let first = self.slot(index);
            let lines = (layout::slot::BODY + bytes).div_ceil(LINE_BYTES);
            for line in 0..lines {
                prefetch_line_for_write(first.wrapping_add(line * LINE_BYTES));
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (index, bytes);
    }

    #[inline]
    fn prefetch_for_read(&self, index: u64) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let first = self.slot(index);
            // The word, the header and a short body; of a longer one the processor sees by itself that it is read on.
            for line in 0..2 {
                // SAFETY: a prefetch has no effect that a program can observe, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line * LINE_BYTES).cast()) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = index;
    }
}

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line_for_write(line: *const u8) {
    // SAFETY: a prefetch has no effect that a program can observe, whatever the address.
    unsafe { std::arch::asm!("prefetchw [{0}]", in(reg) line, options(nostack, preserves_flags, readonly)) };
}

/// Memory mapped from descriptors.
#[derive(Debug)]
pub enum Mapped {}

impl Memory for Mapped {
    type Word = AtomicU64;
    type WordHandle = MappedWord;
    type Bell = MappedBell;
    type Slots = MappedSlots;
    type Words = MappedWords;

    #[inline]
    fn full_fence_behind_exchange() {
        #[cfg(target_arch = "x86_64")]
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        #[cfg(not(target_arch = "x86_64"))]
        Self::full_fence();
    }

    #[inline]
    fn full_fence() {
        // A locked read-modify-write of the own stack is a full fence and cheaper than the `mfence` that the
        // compiler would emit.
        #[cfg(target_arch = "x86_64")]
        // SAFETY: or-ing 0 into the word at the stack pointer changes nothing; without
        // `nomem` the compiler keeps every memory access on its side of the block.
        unsafe {
            std::arch::asm!("lock or dword ptr [rsp], 0")
        };
        #[cfg(not(target_arch = "x86_64"))]
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    #[inline]
    fn release_fence() {
        std::sync::atomic::fence(Ordering::Release);
    }

    #[inline]
    fn acquire_fence() {
        std::sync::atomic::fence(Ordering::Acquire);
    }

    fn pause(hints: u32) {
        for _ in 0..hints {
            std::hint::spin_loop();
        }
    }
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }

    #[inline]
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        AtomicU64::compare_exchange(self, current, new, success, failure)
    }

    #[inline]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_add(self, value, order)
    }

    #[inline]
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_or(self, bits, order)
    }

    #[inline]
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_and(self, bits, order)
    }
}
