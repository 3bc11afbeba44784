//! One partition's regions, made by the shard and mapped by its producers and consumers.
//!
//! Who gets which descriptor, in the order in which they travel:
//!
//! | role | meta | producers | slots | doorbell | subscription | claims | feed | member | arena | page |
//! |---|---|---|---|---|---|---|---|---|---|---|
//! | shard | makes | makes | makes | makes | makes one per subscription | as subscription, if `shared` | as claims | makes one per consumer | makes, on request | makes, on request |
//! | producer | read | write | write | write | read, on request per gate | – | – | – | write (its own) | – |
//! | consumer, `cursor` | read | – | read | write | write (its own) | – | – | – | read, on request | read (its own), on request |
//! | consumer, `shared` | read | – | read | write | write | write | read | write (its own) | read, on request | – |
//!
//! A `shared` consumer also gets its session's eventfd, by which it calls the shard.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::control::message::{StreamSettings, Visibility};
use crate::layout::{self, ARENA_BYTES_MAX, GATES_MAX, Geometry, HAZARDS_MAX, PAGE_BYTES, RegionKind};
use crate::memory::mapped::{
    Access, Identity, Mapped, MappedWord, MappedWords, OwnedRegion, Region, RegionError, check_geometry,
};
use crate::ring::shard::ShardRing;
use crate::ring::{
    Claimer, Claims, CursorReader, Doorbell, ExclusiveProducer, Feed, Floor, Gates, Hazards, Judge, Producer,
    Room, Rounds, SettlementWords, Settlements, SharedProducer, Watch, Watermarks,
};
use crate::words::CursorWord;

/// What identifies a ring and says how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingIdentity {
    /// Random, new with each ring that is made.
    pub incarnation: u64,
    /// Its size.
    pub geometry: Geometry,
}

impl RingIdentity {
    pub(crate) fn meta(self) -> Identity {
        self.region(RegionKind::Meta, layout::meta::BYTES)
    }

    pub(crate) fn producers(self) -> Identity {
        self.region(RegionKind::Producers, layout::producers::BYTES)
    }

    pub(crate) fn slots(self) -> Identity {
        self.region(RegionKind::Slots, self.geometry.slots_region_bytes())
    }

    pub(crate) fn doorbell(self) -> Identity {
        self.region(RegionKind::Doorbell, layout::doorbell::BYTES)
    }

    pub(crate) fn subscription(self) -> Identity {
        self.region(RegionKind::Subscription, layout::subscription::BYTES)
    }

    pub(crate) fn claims(self) -> Identity {
        self.region(RegionKind::Claims, self.geometry.claims_region_bytes())
    }

    pub(crate) fn feed(self) -> Identity {
        self.region(RegionKind::Feed, self.geometry.of_feed().feed_region_bytes())
    }

    pub(crate) fn member(self) -> Identity {
        self.region(RegionKind::Member, layout::member::BYTES)
    }

    /// The region of an arena of this ring that has `bytes`.
    pub fn arena(self, bytes: usize) -> Identity {
        self.region(RegionKind::Arena, bytes)
    }

    /// The region of pages of this ring's journal that has `bytes`, rounded up to whole pages of memory.
    pub(crate) fn page(self, bytes: usize) -> Identity {
        self.region(RegionKind::Page, bytes.next_multiple_of(PAGE_BYTES))
    }

    fn region(self, kind: RegionKind, bytes: usize) -> Identity {
        Identity { kind, incarnation: self.incarnation, bytes }
    }
}

/// Whether an arena's region may have so many bytes: whole pages, with room for a block, at most 64 GiB.
pub fn is_arena_size(bytes: u64) -> bool {
    bytes.is_multiple_of(PAGE_BYTES as u64) && (2 * PAGE_BYTES as u64..=ARENA_BYTES_MAX).contains(&bytes)
}

/// Consumers waiting for data.
fn data_doorbell(doorbell: &Arc<Region>) -> Doorbell<Mapped> {
    Doorbell::new(doorbell.word(layout::doorbell::DATA_ANNOUNCE), doorbell.bell(layout::doorbell::DATA_BELL))
}

/// Producers waiting for space.
fn space_doorbell(doorbell: &Arc<Region>) -> Doorbell<Mapped> {
    Doorbell::new(
        doorbell.word(layout::doorbell::SPACE_ANNOUNCE),
        doorbell.bell(layout::doorbell::SPACE_BELL),
    )
}

/// Producers waiting for the journal.
fn confirm_doorbell(doorbell: &Arc<Region>) -> Doorbell<Mapped> {
    Doorbell::new(
        doorbell.word(layout::doorbell::CONFIRM_ANNOUNCE),
        doorbell.bell(layout::doorbell::CONFIRM_BELL),
    )
}

/// The shard waiting for somebody who waits for the journal.
fn journal_doorbell(doorbell: &Arc<Region>) -> Doorbell<Mapped> {
    Doorbell::new(
        doorbell.word(layout::doorbell::JOURNAL_ANNOUNCE),
        doorbell.bell(layout::doorbell::JOURNAL_BELL),
    )
}

pub(crate) fn watermarks(meta: &Arc<Region>) -> Watermarks<Mapped> {
    Watermarks::new(
        meta.word(layout::meta::WRITTEN),
        meta.word(layout::meta::SYNCED),
        meta.word(layout::meta::JOURNAL_STATE),
    )
}

pub(crate) fn active_gates(meta: &Arc<Region>) -> MappedWord {
    meta.word(layout::meta::GATES_ACTIVE)
}

pub(crate) fn gate_mirrors(meta: &Arc<Region>) -> Vec<MappedWord> {
    (0..GATES_MAX).map(|gate| meta.word(layout::meta::GATES + gate * 8)).collect()
}

fn cursor_word(subscription: &Arc<Region>) -> MappedWord {
    subscription.word(layout::subscription::CURSOR)
}

fn rounds(subscription: &Arc<Region>) -> Rounds<Mapped> {
    Rounds::new(
        subscription.word(layout::subscription::ROUND_BEGUN),
        subscription.word(layout::subscription::ROUND_DONE),
    )
}

fn hazards(subscription: &Arc<Region>) -> Hazards<Mapped> {
    let word = |hazard| subscription.word(layout::subscription::HAZARDS + hazard * 8);
    let active = subscription.word(layout::subscription::HAZARDS_ACTIVE);
    Hazards::new(active, (0..HAZARDS_MAX).map(word).collect())
}

/// The shard's side: the regions of one partition and its handles on them.
pub struct PartitionRegions {
    identity: RingIdentity,
    meta: OwnedRegion,
    producers: OwnedRegion,
    slots: OwnedRegion,
    doorbell: OwnedRegion,
    /// The shard's operations on the ring.
    pub ring: ShardRing<Mapped>,
    /// Consumers waiting for data.
    pub data: Doorbell<Mapped>,
    /// Producers waiting for space.
    pub space: Doorbell<Mapped>,
    /// Producers waiting for the journal.
    pub confirm: Doorbell<Mapped>,
    /// The shard waiting for somebody who waits for the journal.
    pub journal: Doorbell<Mapped>,
    /// How far messages are journaled.
    pub watermarks: Watermarks<Mapped>,
    /// How many arenas of its own the shard has made.
    pub arenas_made: MappedWord,
}

impl fmt::Debug for PartitionRegions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PartitionRegions").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl PartitionRegions {
    /// Makes the regions of an empty partition.
    pub fn create(identity: RingIdentity, partition: u32) -> Result<Self, RegionError> {
        let meta = OwnedRegion::create(identity.meta())?;
        meta.record_geometry(identity.geometry, partition)?;
        let producers = OwnedRegion::create(identity.producers())?;
        let slots = OwnedRegion::create(identity.slots())?;
        let doorbell = OwnedRegion::create(identity.doorbell())?;
        Ok(Self::of(identity, meta, producers, slots, doorbell))
    }

    /// Takes over the regions of a partition whose shard is gone, by what [`descriptors`](Self::descriptors) gave.
    pub fn adopt(identity: RingIdentity, descriptors: [Arc<OwnedFd>; 4]) -> Result<Self, RegionError> {
        let [meta, producers, slots, doorbell] = descriptors;
        check_geometry(&*meta, identity.geometry)?;
        let meta = OwnedRegion::adopt(meta, identity.meta())?;
        let producers = OwnedRegion::adopt(producers, identity.producers())?;
        let slots = OwnedRegion::adopt(slots, identity.slots())?;
        let doorbell = OwnedRegion::adopt(doorbell, identity.doorbell())?;
        Ok(Self::of(identity, meta, producers, slots, doorbell))
    }

    fn of(
        identity: RingIdentity,
        meta: OwnedRegion,
        producers: OwnedRegion,
        slots: OwnedRegion,
        doorbell: OwnedRegion,
    ) -> Self {
        let ring = ShardRing::new(
            slots.region().slots(identity.geometry),
            producers.region().word(layout::producers::LIMIT),
            active_gates(meta.region()),
            gate_mirrors(meta.region()),
        );
        let data = data_doorbell(doorbell.region());
        let space = space_doorbell(doorbell.region());
        let confirm = confirm_doorbell(doorbell.region());
        let journal = journal_doorbell(doorbell.region());
        let watermarks = watermarks(meta.region());
        let arenas_made = meta.region().word(layout::meta::SHARD_ARENAS_MADE);
        Self {
            identity,
            meta,
            producers,
            slots,
            doorbell,
            ring,
            data,
            space,
            confirm,
            journal,
            watermarks,
            arenas_made,
        }
    }

    /// The descriptors themselves, by which a successor takes the partition over.
    pub fn descriptors(&self) -> [Arc<OwnedFd>; 4] {
        [&self.meta, &self.producers, &self.slots, &self.doorbell].map(|region| region.descriptor().clone())
    }

    /// What identifies the ring.
    pub fn identity(&self) -> RingIdentity {
        self.identity
    }

    /// The shard as a reader, whose gate is in this region and stands at `cursor`. `validates`: messages may be taken back.
    pub fn reader(
        &self,
        subscription: &SubscriptionRegion,
        cursor: CursorWord,
        validates: bool,
    ) -> CursorReader<Mapped> {
        let slots = self.slots.region().slots(self.identity.geometry);
        CursorReader::new(slots, cursor_word(subscription.region.region()), cursor, validates)
    }

    /// The descriptors for a producer, in the order that [`ProducerRegions::open`] takes.
    pub fn for_producer(&self) -> Result<Vec<OwnedFd>, RegionError> {
        Ok(vec![
            self.meta.hand_over(Access::Read)?,
            self.producers.hand_over(Access::Write)?,
            self.slots.hand_over(Access::Write)?,
            self.doorbell.hand_over(Access::Write)?,
        ])
    }

    /// The descriptors for a consumer, in the order that [`ConsumerRegions::open`] takes.
    pub fn for_consumer(&self, subscription: &SubscriptionRegion) -> Result<Vec<OwnedFd>, RegionError> {
        Ok(vec![
            self.meta.hand_over(Access::Read)?,
            self.slots.hand_over(Access::Read)?,
            self.doorbell.hand_over(Access::Write)?,
            subscription.region.hand_over(Access::Write)?,
        ])
    }
}

/// The shard's side of one subscription's region.
pub struct SubscriptionRegion {
    region: OwnedRegion,
    /// The cursor word.
    pub cursor: MappedWord,
    /// What its reader holds in place.
    pub hazards: Hazards<Mapped>,
    /// When what it has consumed is journaled.
    pub rounds: Rounds<Mapped>,
}

impl SubscriptionRegion {
    /// Makes the region of a subscription on the ring with this identity.
    pub fn create(ring: RingIdentity) -> Result<Self, RegionError> {
        Ok(Self::of(OwnedRegion::create(ring.subscription())?))
    }

    /// Takes over the region of a subscription whose shard is gone.
    pub fn adopt(ring: RingIdentity, descriptor: Arc<OwnedFd>) -> Result<Self, RegionError> {
        Ok(Self::of(OwnedRegion::adopt(descriptor, ring.subscription())?))
    }

    fn of(region: OwnedRegion) -> Self {
        let (cursor, hazards) = (cursor_word(region.region()), hazards(region.region()));
        let rounds = rounds(region.region());
        Self { region, cursor, hazards, rounds }
    }

    /// The descriptor itself, by which a successor takes the region over.
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        self.region.descriptor()
    }

    /// The descriptor for a producer that wants to look at this gate.
    pub fn for_gate(&self) -> Result<OwnedFd, RegionError> {
        self.region.hand_over(Access::Read)
    }
}

/// Claims on the ring's slots.
fn live_claims(ring: RingIdentity, slots: &Arc<Region>, claims: &Arc<Region>) -> Claims<Mapped> {
    let words = claims.words(layout::claims::FIRST, ring.geometry.capacity());
    Claims::new(slots.slots(ring.geometry), words)
}

/// Claims on the feed's slots.
pub(crate) fn feed_claims(ring: RingIdentity, feed: &Arc<Region>, claims: &Arc<Region>) -> Claims<Mapped> {
    let geometry = ring.geometry.of_feed();
    let first = layout::claims::FIRST + ring.geometry.capacity() as usize * 8;
    Claims::new(feed.slots(geometry), claims.words(first, geometry.capacity()))
}

fn feed_records(ring: RingIdentity, feed: &Arc<Region>) -> MappedWords {
    let geometry = ring.geometry.of_feed();
    feed.words(geometry.feed_records(), geometry.capacity() * layout::FEED_RECORD_WORDS as u64)
}

fn settlement_words(member: &Arc<Region>) -> SettlementWords<Mapped> {
    let entries = layout::SETTLEMENTS * layout::SETTLEMENT_WORDS as u64;
    SettlementWords {
        called: member.word(layout::member::CALLED),
        written: member.word(layout::member::WRITTEN),
        judged: member.word(layout::member::JUDGED),
        late: member.word(layout::member::LATE),
        entries: member.words(layout::member::FIRST, entries),
    }
}

/// The shard's side of what a `shared` subscription has beside its subscription region.
pub struct SharedRegions {
    ring: RingIdentity,
    claims: OwnedRegion,
    feed_region: OwnedRegion,
    /// Claims on the ring.
    pub live: Claims<Mapped>,
    /// How far all is settled: the gate.
    pub floor: Floor<Mapped>,
    /// What is delivered again.
    pub feed: Feed<Mapped>,
    /// Whether the shard watches its leases.
    pub watch: Watch<Mapped>,
    /// Whether who acks in the feed need not tell the shard.
    pub refill: Watch<Mapped>,
    /// The member that may claim; 0: all may.
    pub active: MappedWord,
}

impl SharedRegions {
    /// Makes the claims and the feed of a subscription of `partition`.
    pub fn create(
        partition: &PartitionRegions,
        subscription: &SubscriptionRegion,
    ) -> Result<Self, RegionError> {
        let ring = partition.identity();
        let (claims, feed) = (OwnedRegion::create(ring.claims())?, OwnedRegion::create(ring.feed())?);
        Ok(Self::of(partition, subscription, claims, feed))
    }

    /// Takes over the claims and the feed of a subscription whose shard is gone, by what
    /// [`descriptors`](Self::descriptors) gave. The feed must be [resumed](Feed::resume).
    pub fn adopt(
        partition: &PartitionRegions,
        subscription: &SubscriptionRegion,
        [claims, feed]: [Arc<OwnedFd>; 2],
    ) -> Result<Self, RegionError> {
        let ring = partition.identity();
        let claims = OwnedRegion::adopt(claims, ring.claims())?;
        let feed = OwnedRegion::adopt(feed, ring.feed())?;
        Ok(Self::of(partition, subscription, claims, feed))
    }

    fn of(
        partition: &PartitionRegions,
        subscription: &SubscriptionRegion,
        claims: OwnedRegion,
        feed_region: OwnedRegion,
    ) -> Self {
        let ring = partition.identity();
        let feed = Feed::new(
            feed_claims(ring, feed_region.region(), claims.region()),
            feed_region.region().slots(ring.geometry.of_feed()),
            feed_records(ring, feed_region.region()),
        );
        let live = live_claims(ring, partition.slots.region(), claims.region());
        let words = subscription.region.region();
        let floor = Floor::new(cursor_word(words));
        let watch = Watch::new(words.word(layout::subscription::WATCH));
        let refill = Watch::new(words.word(layout::subscription::REFILL));
        let active = words.word(layout::subscription::ACTIVE);
        Self { ring, claims, feed_region, live, floor, feed, watch, refill, active }
    }

    /// The descriptors themselves, by which a successor takes them over.
    pub fn descriptors(&self) -> [Arc<OwnedFd>; 2] {
        [&self.claims, &self.feed_region].map(|region| region.descriptor().clone())
    }

    /// Makes the region of a new member.
    pub fn new_member(&self) -> Result<MemberRegion, RegionError> {
        Ok(MemberRegion::of(OwnedRegion::create(self.ring.member())?))
    }

    /// Takes over the region of a member whose shard is gone. Its judge must be [resumed](Judge::resume).
    pub fn adopt_member(&self, descriptor: Arc<OwnedFd>) -> Result<MemberRegion, RegionError> {
        Ok(MemberRegion::of(OwnedRegion::adopt(descriptor, self.ring.member())?))
    }

    /// The descriptors for a consumer, in the order that [`MemberRegions::open`] takes; without the eventfd.
    pub fn for_member(
        &self,
        partition: &PartitionRegions,
        subscription: &SubscriptionRegion,
        member: &MemberRegion,
    ) -> Result<Vec<OwnedFd>, RegionError> {
        let mut descriptors = partition.for_consumer(subscription)?;
        descriptors.push(self.claims.hand_over(Access::Write)?);
        descriptors.push(self.feed_region.hand_over(Access::Read)?);
        descriptors.push(member.region.hand_over(Access::Write)?);
        Ok(descriptors)
    }
}

/// The shard's side of one consumer of a `shared` subscription.
pub struct MemberRegion {
    region: OwnedRegion,
    /// What it says of messages.
    pub judge: Judge<Mapped>,
}

impl MemberRegion {
    fn of(region: OwnedRegion) -> Self {
        let judge = Judge::new(settlement_words(region.region()));
        Self { region, judge }
    }

    /// The descriptor itself, by which a successor takes the region over.
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        self.region.descriptor()
    }
}

/// How many descriptors a consumer of a `shared` subscription is given, without its session's eventfd.
pub const MEMBER_DESCRIPTORS: usize = 7;

/// A side of a consumer of a `shared` subscription.
pub struct MemberRegions {
    /// Its way through the ring.
    pub live: Claimer<Mapped>,
    /// Its way through the feed.
    pub feed: Claimer<Mapped>,
    /// How far all is settled.
    pub floor: Floor<Mapped>,
    /// Whether the shard watches its leases.
    pub watch: Watch<Mapped>,
    /// Whether who acks in the feed need not tell the shard.
    pub refill: Watch<Mapped>,
    /// The member that may claim; 0: all may.
    pub active: MappedWord,
    /// What it says of messages.
    pub settlements: Settlements<Mapped>,
    /// Consumers waiting for data.
    pub data: Doorbell<Mapped>,
    /// Producers waiting for space.
    pub space: Doorbell<Mapped>,
    /// How it waits until what was settled is journaled.
    pub journaling: Arc<JournalingRegions>,
}

/// What a consumer needs to wait until what it has settled is journaled.
pub struct JournalingRegions {
    /// Whoever waits for the journal.
    pub confirm: Doorbell<Mapped>,
    /// The shard waiting for somebody who waits for the journal.
    pub journal: Doorbell<Mapped>,
    /// When what was settled is journaled.
    pub rounds: Rounds<Mapped>,
}

impl JournalingRegions {
    fn of(doorbell: &Arc<Region>, subscription: &Arc<Region>) -> Arc<Self> {
        Arc::new(Self {
            confirm: confirm_doorbell(doorbell),
            journal: journal_doorbell(doorbell),
            rounds: rounds(subscription),
        })
    }
}

impl MemberRegions {
    /// Checks and maps what [`SharedRegions::for_member`] handed over. `member`: its number; `feed_from`: where the feed is.
    pub fn open(
        ring: RingIdentity,
        descriptors: [OwnedFd; MEMBER_DESCRIPTORS],
        visibility: Visibility,
        member: u32,
        feed_from: u64,
    ) -> Result<Self, RegionError> {
        let [meta, slots, doorbell, subscription, claims, feed, own] = descriptors;
        let open =
            |descriptor: &OwnedFd, identity, access| Region::open(descriptor, identity, access).map(Arc::new);
        let meta = open(&meta, ring.meta(), Access::Read)?;
        let slots = open(&slots, ring.slots(), Access::Read)?;
        let doorbell = open(&doorbell, ring.doorbell(), Access::Write)?;
        let subscription = open(&subscription, ring.subscription(), Access::Write)?;
        let claims = open(&claims, ring.claims(), Access::Write)?;
        let feed = open(&feed, ring.feed(), Access::Read)?;
        let own = open(&own, ring.member(), Access::Write)?;
        let floor = Floor::new(cursor_word(&subscription));
        let (live_from, position_end) = (floor.position(), ring.geometry.position_end());
        let records = feed_records(ring, &feed);
        let claims_on_ring = live_claims(ring, &slots, &claims);
        let mut live = Claimer::new(claims_on_ring, None, member, live_from.min(position_end));
        // What is in the feed was claimed before: it is on the device.
        if visibility == Visibility::Durable {
            live.wait_for_sync(watermarks(&meta));
        }
        Ok(Self {
            live,
            feed: Claimer::new(feed_claims(ring, &feed, &claims), Some(records), member, feed_from),
            floor,
            watch: Watch::new(subscription.word(layout::subscription::WATCH)),
            refill: Watch::new(subscription.word(layout::subscription::REFILL)),
            active: subscription.word(layout::subscription::ACTIVE),
            settlements: Settlements::new(settlement_words(&own)),
            data: data_doorbell(&doorbell),
            space: space_doorbell(&doorbell),
            journaling: JournalingRegions::of(&doorbell, &subscription),
        })
    }
}

/// How many descriptors a producer is given.
pub const PRODUCER_DESCRIPTORS: usize = 4;
/// How many descriptors a consumer is given.
pub const CONSUMER_DESCRIPTORS: usize = 4;

/// How the producers of a stream publish: the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publishing {
    /// One producer at a time.
    pub exclusive: bool,
    /// The oldest messages are overwritten, whoever has not read them.
    pub drops: bool,
    /// Subscriptions that lag are detached.
    pub detaches: bool,
    /// Messages are journaled.
    pub journaled: bool,
}

/// A producer's side: its handles on the ring and the doorbell.
pub struct ProducerRegions {
    /// The publishing end.
    pub producer: Producer<Mapped>,
    /// Consumers waiting for data.
    pub data: Doorbell<Mapped>,
    /// Producers waiting for space.
    pub space: Doorbell<Mapped>,
    /// Producers waiting for the journal: shared by those who wait without the producer.
    pub confirm: Arc<Doorbell<Mapped>>,
    /// The shard waiting for somebody who waits for the journal.
    pub journal: Doorbell<Mapped>,
    /// How far messages are journaled.
    pub watermarks: Watermarks<Mapped>,
}

impl ProducerRegions {
    /// Checks and maps what [`PartitionRegions::for_producer`] handed over. `position`: the log has reached it.
    pub fn open(
        ring: RingIdentity,
        descriptors: [OwnedFd; PRODUCER_DESCRIPTORS],
        publishing: Publishing,
        owner: u32,
        position: u64,
    ) -> Result<Self, RegionError> {
        let [meta, producers, slots, doorbell] = descriptors;
        let open =
            |descriptor: &OwnedFd, identity, access| Region::open(descriptor, identity, access).map(Arc::new);
        check_geometry(&meta, ring.geometry)?;
        let meta = open(&meta, ring.meta(), Access::Read)?;
        let producers = open(&producers, ring.producers(), Access::Write)?;
        let slots = open(&slots, ring.slots(), Access::Write)?;
        let doorbell = open(&doorbell, ring.doorbell(), Access::Write)?;
        let gates = Gates::new(active_gates(&meta), gate_mirrors(&meta));
        let limit = producers.word(layout::producers::LIMIT);
        let room = match publishing {
            Publishing { drops: true, .. } => Room::dropping,
            Publishing { detaches: true, .. } => Room::detaching,
            _ => Room::retaining,
        };
        let room = room(ring.geometry, limit, gates);
        let room = if publishing.journaled { room.journaled() } else { room };
        let watermarks = watermarks(&meta);
        let slots = slots.slots(ring.geometry);
        let producer = if publishing.exclusive {
            Producer::Exclusive(ExclusiveProducer::new(slots, room, owner, position))
        } else {
            let tail = producers.word(layout::producers::TAIL);
            Producer::Shared(SharedProducer::new(slots, room, tail, owner, position))
        };
        Ok(Self {
            producer,
            data: data_doorbell(&doorbell),
            space: space_doorbell(&doorbell),
            confirm: Arc::new(confirm_doorbell(&doorbell)),
            journal: journal_doorbell(&doorbell),
            watermarks,
        })
    }
}

/// Checks and maps what [`SubscriptionRegion::for_gate`] handed over; returns the gate's cursor word and hazards.
pub fn open_gate(
    ring: RingIdentity,
    descriptor: &OwnedFd,
) -> Result<(MappedWord, Hazards<Mapped>), RegionError> {
    let region = Arc::new(Region::open(descriptor, ring.subscription(), Access::Read)?);
    Ok((cursor_word(&region), hazards(&region)))
}

/// A consumer's side: its handles on the ring, its cursor and the doorbell.
pub struct ConsumerRegions {
    /// The reading end.
    pub reader: CursorReader<Mapped>,
    /// What it holds in place.
    pub hazards: Hazards<Mapped>,
    /// Consumers waiting for data.
    pub data: Doorbell<Mapped>,
    /// Producers waiting for space.
    pub space: Doorbell<Mapped>,
    /// How it waits until what it has consumed is journaled.
    pub journaling: Arc<JournalingRegions>,
}

impl ConsumerRegions {
    /// Checks and maps what [`PartitionRegions::for_consumer`] handed over, of a stream with these settings.
    pub fn open(
        ring: RingIdentity,
        descriptors: [OwnedFd; CONSUMER_DESCRIPTORS],
        visibility: Visibility,
        cursor: CursorWord,
        settings: &StreamSettings,
    ) -> Result<Self, RegionError> {
        let [meta, slots, doorbell, subscription] = descriptors;
        let open =
            |descriptor: &OwnedFd, identity, access| Region::open(descriptor, identity, access).map(Arc::new);
        let meta = open(&meta, ring.meta(), Access::Read)?;
        let slots = open(&slots, ring.slots(), Access::Read)?;
        let doorbell = open(&doorbell, ring.doorbell(), Access::Write)?;
        let subscription = open(&subscription, ring.subscription(), Access::Write)?;
        let slots = slots.slots(ring.geometry);
        let validates = settings.overflow.may_overtake();
        let mut reader = CursorReader::new(slots, cursor_word(&subscription), cursor, validates);
        if settings.keeps_backlog() {
            reader.stop_when_overtaken(cursor);
        }
        if visibility == Visibility::Durable {
            reader.wait_for_sync(watermarks(&meta));
        }
        Ok(Self {
            reader,
            hazards: hazards(&subscription),
            data: data_doorbell(&doorbell),
            space: space_doorbell(&doorbell),
            journaling: JournalingRegions::of(&doorbell, &subscription),
        })
    }
}
