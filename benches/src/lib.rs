//! What the benchmarks share: a partition in real memfds, mapped as in production; and the raw [`device`].
//!
//! No broker takes part: the handles that it would give out by descriptor are made here, in one process. What is
//! measured is the ring itself, on the same kind of memory and by the same code as between processes.

pub mod device;

use ringway_shm_protocol::layout::{self, GATES_MAX, Geometry, HAZARDS_MAX, RegionKind};
use ringway_shm_protocol::memory::mapped::{Identity, Mapped, MappedWord, OwnedRegion, RegionError};
use ringway_shm_protocol::ring::shard::{ShardRing, Start};
use ringway_shm_protocol::ring::{
    CursorReader, Doorbell, ExclusiveProducer, Gates, Hazards, Producer, Room, SharedProducer,
};
use ringway_shm_protocol::words::CursorWord;

/// The generation of every gate: none is used twice.
const GENERATION: u16 = 1;

/// One partition: its regions, from which any number of handles can be made.
#[derive(Debug)]
pub struct Partition {
    geometry: Geometry,
    meta: OwnedRegion,
    producers: OwnedRegion,
    slots: OwnedRegion,
    doorbell: OwnedRegion,
    subscriptions: Vec<OwnedRegion>,
}

impl Partition {
    /// Makes the regions of an empty ring with room for `subscriptions` cursors.
    pub fn create(geometry: Geometry, subscriptions: usize) -> Result<Self, RegionError> {
        let make = |kind, bytes| OwnedRegion::create(Identity { kind, incarnation: 1, bytes });
        Ok(Self {
            geometry,
            meta: make(RegionKind::Meta, layout::meta::BYTES)?,
            producers: make(RegionKind::Producers, layout::producers::BYTES)?,
            slots: make(RegionKind::Slots, geometry.slots_region_bytes())?,
            doorbell: make(RegionKind::Doorbell, layout::doorbell::BYTES)?,
            subscriptions: (0..subscriptions)
                .map(|_| make(RegionKind::Subscription, layout::subscription::BYTES))
                .collect::<Result<_, _>>()?,
        })
    }

    fn limit(&self) -> MappedWord {
        self.producers.region().word(layout::producers::LIMIT)
    }

    fn active(&self) -> MappedWord {
        self.meta.region().word(layout::meta::GATES_ACTIVE)
    }

    fn mirrors(&self) -> Vec<MappedWord> {
        (0..GATES_MAX).map(|gate| self.meta.region().word(layout::meta::GATES + 8 * gate)).collect()
    }

    fn cursor(&self, subscription: u8) -> MappedWord {
        self.subscriptions[usize::from(subscription)].region().word(layout::subscription::CURSOR)
    }

    fn hazards(&self, subscription: u8) -> Hazards<Mapped> {
        let region = self.subscriptions[usize::from(subscription)].region();
        let word = |hazard| region.word(layout::subscription::HAZARDS + 8 * hazard);
        Hazards::new(region.word(layout::subscription::HAZARDS_ACTIVE), (0..HAZARDS_MAX).map(word).collect())
    }

    /// How far a producer may go; it has mapped the cursor of every subscription.
    fn room(&self) -> Room<Mapped> {
        let mut gates = Gates::new(self.active(), self.mirrors());
        for subscription in 0..self.subscriptions.len() as u8 {
            gates.map(subscription, GENERATION, self.cursor(subscription), self.hazards(subscription));
        }
        Room::retaining(self.geometry, self.limit(), gates)
    }

    /// The one producer, at the beginning.
    pub fn exclusive(&self) -> Producer<Mapped> {
        let slots = self.slots.region().slots(self.geometry);
        Producer::Exclusive(ExclusiveProducer::new(slots, self.room(), 1, 0))
    }

    /// One of several producers, at the beginning. `owner` tells it from the others: 1 or more.
    pub fn shared(&self, owner: u32) -> Producer<Mapped> {
        let slots = self.slots.region().slots(self.geometry);
        let tail = self.producers.region().word(layout::producers::TAIL);
        Producer::Shared(SharedProducer::new(slots, self.room(), tail, owner, 0))
    }

    /// Lets a subscription join at the oldest message and returns its reader. Panics when there is no such
    /// subscription.
    pub fn join(&self, subscription: u8) -> CursorReader<Mapped> {
        let slots = || self.slots.region().slots(self.geometry);
        let shard = ShardRing::<Mapped>::new(slots(), self.limit(), self.active(), self.mirrors());
        let cursor = self.cursor(subscription);
        let position = shard.join(subscription, GENERATION, &cursor, Start::First);
        let committed = CursorWord { position, pinned: false, live: true, generation: 0 };
        CursorReader::new(slots(), cursor, committed, false)
    }

    /// The doorbell of consumers that wait for data.
    pub fn data_doorbell(&self) -> Doorbell<Mapped> {
        let region = self.doorbell.region();
        Doorbell::new(region.word(layout::doorbell::DATA_ANNOUNCE), region.bell(layout::doorbell::DATA_BELL))
    }
}
