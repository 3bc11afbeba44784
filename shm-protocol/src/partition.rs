//! One partition's regions, made by the shard and mapped by its producers and consumers.
//!
//! Who gets which descriptor, in the order in which they travel:
//!
//! | role | meta | producers | slots | doorbell | subscription |
//! |---|---|---|---|---|---|
//! | shard | makes | makes | makes | makes | makes one per subscription |
//! | producer | read | write | write | write | read, on request per gate |
//! | consumer | – | – | read | write | write (its own) |

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::layout::{self, GATES_MAX, Geometry, RegionKind};
use crate::memory::mapped::{
    Access, Identity, Mapped, MappedWord, OwnedRegion, Region, RegionError, check_geometry,
};
use crate::ring::shard::ShardRing;
use crate::ring::{CursorReader, Doorbell, ExclusiveProducer, Gates};
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
    fn region(self, kind: RegionKind) -> Identity {
        let bytes = match kind {
            RegionKind::Meta => layout::meta::BYTES,
            RegionKind::Producers => layout::producers::BYTES,
            RegionKind::Slots => self.geometry.slots_region_bytes(),
            RegionKind::Doorbell => layout::doorbell::BYTES,
            RegionKind::Subscription => layout::subscription::BYTES,
        };
        Identity { kind, incarnation: self.incarnation, bytes }
    }
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

fn active_gates(meta: &Arc<Region>) -> MappedWord {
    meta.word(layout::meta::GATES_ACTIVE)
}

fn gate_mirrors(meta: &Arc<Region>) -> Vec<MappedWord> {
    (0..GATES_MAX).map(|gate| meta.word(layout::meta::GATES + gate * 8)).collect()
}

fn cursor_word(subscription: &Arc<Region>) -> MappedWord {
    subscription.word(layout::subscription::CURSOR)
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
}

impl PartitionRegions {
    /// Makes the regions of an empty partition.
    pub fn create(identity: RingIdentity, partition: u32) -> Result<Self, RegionError> {
        let make = |kind| OwnedRegion::create(identity.region(kind));
        let meta = make(RegionKind::Meta)?;
        meta.record_geometry(identity.geometry, partition)?;
        let producers = make(RegionKind::Producers)?;
        let slots = make(RegionKind::Slots)?;
        let doorbell = make(RegionKind::Doorbell)?;
        let ring = ShardRing::new(
            slots.region().slots(identity.geometry),
            producers.region().word(layout::producers::LIMIT),
            active_gates(meta.region()),
            gate_mirrors(meta.region()),
        );
        let data = data_doorbell(doorbell.region());
        let space = space_doorbell(doorbell.region());
        Ok(Self { identity, meta, producers, slots, doorbell, ring, data, space })
    }

    /// What identifies the ring.
    pub fn identity(&self) -> RingIdentity {
        self.identity
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
}

impl SubscriptionRegion {
    /// Makes the region of a subscription on the ring with this identity.
    pub fn create(ring: RingIdentity) -> Result<Self, RegionError> {
        let region = OwnedRegion::create(ring.region(RegionKind::Subscription))?;
        let cursor = cursor_word(region.region());
        Ok(Self { region, cursor })
    }

    /// The descriptor for a producer that wants to look at this gate.
    pub fn for_gate(&self) -> Result<OwnedFd, RegionError> {
        self.region.hand_over(Access::Read)
    }
}

/// How many descriptors a producer is given.
pub const PRODUCER_DESCRIPTORS: usize = 4;
/// How many descriptors a consumer is given.
pub const CONSUMER_DESCRIPTORS: usize = 3;

/// A producer's side: its handles on the ring and the doorbell.
pub struct ProducerRegions {
    /// The publishing end.
    pub producer: ExclusiveProducer<Mapped>,
    /// Consumers waiting for data.
    pub data: Doorbell<Mapped>,
    /// Producers waiting for space.
    pub space: Doorbell<Mapped>,
}

impl ProducerRegions {
    /// Checks and maps what [`PartitionRegions::for_producer`] handed over.
    pub fn open(
        ring: RingIdentity,
        descriptors: [OwnedFd; PRODUCER_DESCRIPTORS],
        owner: u32,
        position: u64,
    ) -> Result<Self, RegionError> {
        let [meta, producers, slots, doorbell] = descriptors;
        let open = |descriptor: &OwnedFd, kind, access| {
            Region::open(descriptor, ring.region(kind), access).map(Arc::new)
        };
        check_geometry(&meta, ring.geometry)?;
        let meta = open(&meta, RegionKind::Meta, Access::Read)?;
        let producers = open(&producers, RegionKind::Producers, Access::Write)?;
        let slots = open(&slots, RegionKind::Slots, Access::Write)?;
        let doorbell = open(&doorbell, RegionKind::Doorbell, Access::Write)?;
        let gates = Gates::new(active_gates(&meta), gate_mirrors(&meta));
        let limit = producers.word(layout::producers::LIMIT);
        let producer = ExclusiveProducer::new(slots.slots(ring.geometry), limit, gates, owner, position);
        Ok(Self { producer, data: data_doorbell(&doorbell), space: space_doorbell(&doorbell) })
    }
}

/// Checks and maps what [`SubscriptionRegion::for_gate`] handed over; returns the gate's cursor word.
pub fn open_gate(ring: RingIdentity, descriptor: &OwnedFd) -> Result<MappedWord, RegionError> {
    let region = Region::open(descriptor, ring.region(RegionKind::Subscription), Access::Read)?;
    Ok(cursor_word(&Arc::new(region)))
}

/// A consumer's side: its handles on the ring, its cursor and the doorbell.
pub struct ConsumerRegions {
    /// The reading end.
    pub reader: CursorReader<Mapped>,
    /// Consumers waiting for data.
    pub data: Doorbell<Mapped>,
    /// Producers waiting for space.
    pub space: Doorbell<Mapped>,
}

impl ConsumerRegions {
    /// Checks and maps what [`PartitionRegions::for_consumer`] handed over.
    pub fn open(
        ring: RingIdentity,
        descriptors: [OwnedFd; CONSUMER_DESCRIPTORS],
        cursor: CursorWord,
    ) -> Result<Self, RegionError> {
        let [slots, doorbell, subscription] = descriptors;
        let open = |descriptor: &OwnedFd, kind, access| {
            Region::open(descriptor, ring.region(kind), access).map(Arc::new)
        };
        let slots = open(&slots, RegionKind::Slots, Access::Read)?;
        let doorbell = open(&doorbell, RegionKind::Doorbell, Access::Write)?;
        let subscription = open(&subscription, RegionKind::Subscription, Access::Write)?;
        let reader = CursorReader::new(slots.slots(ring.geometry), cursor_word(&subscription), cursor);
        Ok(Self { reader, data: data_doorbell(&doorbell), space: space_doorbell(&doorbell) })
    }
}
