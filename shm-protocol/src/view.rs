//! A partition's regions for who only looks: what `ringway inspect` and `ringway peek` see.
//!
//! 1. Everything is mapped for reading: a store would fault, and none is offered. Nothing here announces, rings, claims or
//!    waits, so nobody notices a look but by a cache line that is fetched once more.
//! 2. Whoever may write a region may have scribbled: every 64-bit value means something, lengths and ranges are bounded by the
//!    checked geometry, and nothing panics for what stands in memory.
//! 3. A look is not a gate. What it copies may be overwritten meanwhile; so it looks at the slot's word again behind the copy, and
//!    whoever wants a message whole also checks that its position [is still held](RingView::holds).
//! 4. Words are read one after another: two of them need not be of the same moment.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::layout::{self, Geometry, HAZARDS_MAX, slot};
use crate::memory::mapped::{Identity, Mapped, MappedSlots, Region, RegionError, check_geometry};
use crate::memory::{Bell, Slots};
use crate::partition::{RingIdentity, active_gates, feed_claims, gate_mirrors, is_arena_size, watermarks};
use crate::ring::shard::ShardRing;
use crate::ring::{Claims, Received, Watermarks};
use crate::words::{ClaimState, CursorWord, LAP_BITS, LimitWord, OWNER_BITS, SlotState, SlotWord};

/// A part of a word: its name in `LAYOUT.md`, its highest bit and its lowest.
pub type WordPart = (&'static str, u32, u32);

/// The parts of a slot and where they begin, by the names that `LAYOUT.md` has for them.
pub const SLOT_FIELDS: [(&str, usize); 3] =
    [("WORD", slot::WORD), ("HEADER", slot::HEADER), ("BODY", slot::BODY)];

/// The parts of a slot word.
pub const SLOT_WORD_PARTS: [WordPart; 3] =
    [("lap", 63, 64 - LAP_BITS), ("state", 63 - LAP_BITS, OWNER_BITS), ("owner", OWNER_BITS - 1, 0)];

/// The parts of a message's header word.
pub const HEADER_PARTS: [WordPart; 3] =
    [("flags", 63, 48), ("attributes_bytes", 47, 32), ("payload_bytes", 31, 0)];

/// The value of a part of a word.
pub fn part_of(word: u64, (_, high, low): WordPart) -> u64 {
    let bits = high - low + 1;
    word >> low & (u64::MAX >> (64 - bits))
}

fn look(descriptor: impl AsFd, identity: Identity) -> Result<Arc<Region>, RegionError> {
    Region::look(descriptor, identity).map(Arc::new)
}

/// One direction of a doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorbellWords {
    /// Its name: data, space, confirm, journal.
    pub name: &'static str,
    /// How often somebody has announced to sleep.
    pub announced: u64,
    /// How often the bell was rung, modulo 2³².
    pub rung: u32,
}

/// The bytes of a slot, whatever they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSlot {
    /// The whole slot.
    pub bytes: Vec<u8>,
    /// Nobody has taken, committed or buried it while it was copied.
    pub is_steady: bool,
}

impl RawSlot {
    /// The word at an offset of the slot; 0 where it has none.
    pub fn word(&self, offset: usize) -> u64 {
        let bytes = self.bytes.get(offset..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// A ring.
pub struct RingView {
    identity: RingIdentity,
    slots: MappedSlots,
    producers: Arc<Region>,
    doorbell: Arc<Region>,
    /// Only what loads is used of it.
    ring: ShardRing<Mapped>,
    watermarks: Watermarks<Mapped>,
}

impl RingView {
    /// Checks and maps the regions meta, producers, slots and doorbell.
    pub fn open<F: AsFd>(
        identity: RingIdentity,
        [meta, producers, slots, doorbell]: [F; 4],
    ) -> Result<Self, RegionError> {
        check_geometry(&meta, identity.geometry)?;
        let meta = look(meta, identity.meta())?;
        let producers = look(producers, identity.producers())?;
        let slots = look(slots, identity.slots())?.slots(identity.geometry);
        let doorbell = look(doorbell, identity.doorbell())?;
        let limit = producers.word(layout::producers::LIMIT);
        let ring = ShardRing::new(slots.clone(), limit, active_gates(&meta), gate_mirrors(&meta));
        let watermarks = watermarks(&meta);
        Ok(Self { identity, slots, producers, doorbell, ring, watermarks })
    }

    /// What identifies the ring.
    pub fn identity(&self) -> RingIdentity {
        self.identity
    }

    fn geometry(&self) -> Geometry {
        self.identity.geometry
    }

    /// The true end of the log, found by its slots: the first position that nobody has taken.
    pub fn end(&self) -> u64 {
        self.ring.end()
    }

    /// How far producers may go.
    pub fn limit(&self) -> LimitWord {
        // Acquire: pairs with the raise of a producer, so that slots are not older than what is said of them.
        LimitWord::unpack(self.producers.word(layout::producers::LIMIT).load(Ordering::Acquire))
    }

    /// A position that the end has reached, as shared producers have noted it.
    pub fn tail_hint(&self) -> u64 {
        // Relaxed: a hint, stored relaxed by producers.
        self.producers.word(layout::producers::TAIL).load(Ordering::Relaxed)
    }

    /// The gates in force, in order of their indices, with their generations.
    pub fn gates(&self) -> Vec<(u8, u16)> {
        self.ring.gates()
    }

    /// How far messages are journaled.
    pub fn watermarks(&self) -> &Watermarks<Mapped> {
        &self.watermarks
    }

    /// All directions of the doorbell.
    pub fn doorbells(&self) -> [DoorbellWords; 4] {
        use layout::doorbell::{
            CONFIRM_ANNOUNCE, CONFIRM_BELL, DATA_ANNOUNCE, DATA_BELL, JOURNAL_ANNOUNCE, JOURNAL_BELL,
            SPACE_ANNOUNCE, SPACE_BELL,
        };
        let directions = [
            ("data", DATA_ANNOUNCE, DATA_BELL),
            ("space", SPACE_ANNOUNCE, SPACE_BELL),
            ("confirm", CONFIRM_ANNOUNCE, CONFIRM_BELL),
            ("journal", JOURNAL_ANNOUNCE, JOURNAL_BELL),
        ];
        directions.map(|(name, announce, bell)| DoorbellWords {
            name,
            // Relaxed, both: counts to be shown. Neither the sleeper's fence nor the waker's is joined.
            announced: self.doorbell.word(announce).load(Ordering::Relaxed),
            rung: self.doorbell.bell(bell).count(),
        })
    }

    /// The word of the slot that `position` has, had or will have.
    pub fn word(&self, position: u64) -> SlotWord {
        // Acquire: pairs with the release of `committed`, and of the shard's burial.
        SlotWord::unpack(self.slots.word(position).load(Ordering::Acquire))
    }

    /// Whether nothing can have been written over what stands at `position` so far: its slot is not the one that the next
    /// message gets. To be asked behind a copy: an exclusive producer takes a slot without a store where readers need none.
    pub fn holds(&self, position: u64) -> bool {
        // The copies stay before the loads: pairs with the release fence behind the store that takes a slot.
        std::sync::atomic::fence(Ordering::Acquire);
        let end = self.end();
        position < end && end - position < self.geometry().capacity()
    }

    /// Copies the message at `position` into `buffer`, which must hold a slot's body; `None`: there is none, or none that can be.
    pub fn message(&self, position: u64, buffer: &mut [u8]) -> Option<Received> {
        if position >= self.geometry().position_end() {
            return None;
        }
        self.ring.peek(position, 0, buffer)
    }

    /// Positions from `range`, at most the last `most`, whose slots are taken and not committed, with their owners.
    pub fn unfinished(&self, range: Range<u64>, most: u64) -> Vec<(u64, u32)> {
        let first = range.start.max(range.end.saturating_sub(most));
        let reserved = (first..range.end).filter_map(|position| {
            let word = self.word(position);
            let is_reserved = word.state == SlotState::Reserved && word.lap == self.geometry().lap(position);
            is_reserved.then_some((position, word.owner))
        });
        reserved.collect()
    }

    /// Copies the slot of `position`.
    pub fn raw(&self, position: u64) -> RawSlot {
        // Acquire: pairs with the release of `committed`.
        let before = self.slots.word(position).load(Ordering::Acquire);
        // Relaxed: it stands before `committed`, which was acquired.
        let header = self.slots.header(position).load(Ordering::Relaxed);
        let mut bytes = vec![0; self.geometry().slot_bytes() as usize];
        bytes[slot::WORD..][..8].copy_from_slice(&before.to_le_bytes());
        bytes[slot::HEADER..][..8].copy_from_slice(&header.to_le_bytes());
        self.slots.read(position, &mut bytes[slot::BODY..]);
        // The copies stay before the load: pairs with the release fence behind the store that takes a slot.
        std::sync::atomic::fence(Ordering::Acquire);
        let is_steady = self.slots.word(position).load(Ordering::Relaxed) == before;
        RawSlot { bytes, is_steady }
    }
}

/// A subscription's region.
pub struct SubscriptionView(Arc<Region>);

impl SubscriptionView {
    /// Checks and maps the region.
    pub fn open(ring: RingIdentity, descriptor: impl AsFd) -> Result<Self, RegionError> {
        look(descriptor, ring.subscription()).map(Self)
    }

    fn load(&self, offset: usize) -> u64 {
        // Acquire: pairs with the release of whoever has moved the cursor or the floor, or ended a round.
        self.0.word(offset).load(Ordering::Acquire)
    }

    /// Its cursor, or its floor.
    pub fn cursor(&self) -> CursorWord {
        CursorWord::unpack(self.load(layout::subscription::CURSOR))
    }

    /// Positions whose messages its reader holds in place.
    pub fn hazards(&self) -> Vec<u64> {
        let active = self.load(layout::subscription::HAZARDS_ACTIVE);
        let set = (0..HAZARDS_MAX).filter(|hazard| active >> hazard & 1 == 1);
        // Relaxed would do: the bit was acquired.
        set.map(|hazard| self.load(layout::subscription::HAZARDS + hazard * 8)).collect()
    }

    /// Of a `shared` one: whether the shard watches its leases.
    pub fn is_watched(&self) -> bool {
        self.load(layout::subscription::WATCH) != 0
    }

    /// Of a `shared` one: the member that may claim; 0: all may.
    pub fn active_member(&self) -> u64 {
        self.load(layout::subscription::ACTIVE)
    }

    /// Rounds in which what is settled is journaled: the last that has begun, the last that is done.
    pub fn rounds(&self) -> (u64, u64) {
        (self.load(layout::subscription::ROUND_BEGUN), self.load(layout::subscription::ROUND_DONE))
    }
}

/// The claims of a `shared` subscription, on the ring and in the feed.
pub struct SharedView {
    live: ClaimsView,
    fed: ClaimsView,
}

impl SharedView {
    /// Checks and maps the regions of the claims and of the feed.
    pub fn open<F: AsFd>(ring: &RingView, [claims, feed]: [F; 2]) -> Result<Self, RegionError> {
        let identity = ring.identity;
        let (claims, feed) = (look(claims, identity.claims())?, look(feed, identity.feed())?);
        let live = claims.words(layout::claims::FIRST, identity.geometry.capacity());
        Ok(Self {
            live: ClaimsView(Claims::new(ring.slots.clone(), live)),
            fed: ClaimsView(feed_claims(identity, &feed, &claims)),
        })
    }

    /// Who has what on the ring.
    pub fn live(&self) -> &ClaimsView {
        &self.live
    }

    /// Who has what in the feed.
    pub fn fed(&self) -> &ClaimsView {
        &self.fed
    }
}

/// Claims on a ring or a feed. Only what loads is used of them.
pub struct ClaimsView(Claims<Mapped>);

impl ClaimsView {
    /// How far the delivery of `position` is, and which member has it, or had it. A position whose producer died counts as
    /// settled, and so does one whose slot is in a later lap.
    pub fn claim(&self, position: u64) -> (ClaimState, u32) {
        let (claim, lap) = (self.0.word(position), self.0.geometry().lap(position));
        if claim.lap == lap {
            (claim.state, claim.member)
        } else if self.0.unclaimed(position, position.saturating_add(1)) == 1 {
            (ClaimState::Free, 0)
        } else {
            (ClaimState::Acked, 0)
        }
    }
}

/// What a consumer of a `shared` subscription has left, and how far it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberWords {
    /// It has called the shard, which has not looked since.
    pub has_called: bool,
    /// Settlements that it has written.
    pub written: u64,
    /// Settlements that the shard has judged.
    pub judged: u64,
    /// Settlements that were late.
    pub late: u64,
}

impl MemberWords {
    /// Checks the region of a member and loads its words.
    pub fn load(ring: RingIdentity, descriptor: impl AsFd) -> Result<Self, RegionError> {
        let region = look(descriptor, ring.member())?;
        // Acquire: pairs with the releases of the member (CALLED, WRITTEN) and of the shard (JUDGED, LATE).
        let load = |offset| region.word(offset).load(Ordering::Acquire);
        // In this order, so that no more is judged than written.
        let (judged, late) = (load(layout::member::JUDGED), load(layout::member::LATE));
        let (written, has_called) = (load(layout::member::WRITTEN), load(layout::member::CALLED) != 0);
        Ok(Self { has_called, written, judged, late })
    }
}

/// Checks and maps an arena of `bytes` for [`ArenaView`](crate::memory::arena::ArenaView)s; `None`: there is no arena of this size.
pub fn look_at_arena(
    ring: RingIdentity,
    bytes: u64,
    descriptor: impl AsFd,
) -> Result<Option<Arc<Region>>, RegionError> {
    is_arena_size(bytes).then(|| look(descriptor, ring.arena(bytes as usize))).transpose()
}
