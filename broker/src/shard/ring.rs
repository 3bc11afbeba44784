//! A ring with its subscriptions and its arenas.
//!
//! 1. A subscription's cursor or floor is a gate, unless the stream drops its oldest messages or has detached it.
//! 2. An arena whose producer has stopped is dropped when nobody can come to a message of that producer any more:
//!    every gate has passed them, and whoever joins later begins behind them; or they are overwritten.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use ringway_shm_protocol::control::message::{Overflow, StartAt, SubscriptionMode};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::partition::{PartitionRegions, RingIdentity, SubscriptionRegion};
use ringway_shm_protocol::ring::Ringer;
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::words::CursorWord;

use super::arenas::RingArenas;
use super::publisher::{Publisher, ShardPublishError};
use super::shared::{Around, Looked, Shared};
use crate::core::lot::Nanos;
use crate::core::{Body, Gate};

/// Arenas that nobody adds messages to any more: of a producer that has stopped, or of one message of the shard's own.
struct Orphans {
    arenas: Vec<u32>,
    /// The log had reached this: their messages are below.
    end: u64,
}

/// See the module.
pub(super) struct Ring {
    pub(super) partition: PartitionRegions,
    overflow: Overflow,
    subscriptions: BTreeMap<Gate, SubscriptionRegion>,
    shared: BTreeMap<Gate, Shared>,
    arenas: RingArenas,
    orphans: Vec<Orphans>,
    publisher: Option<Publisher>,
    /// Wakes consumers for what was fed, and producers for what the shard has settled.
    data: Ringer,
    space: Ringer,
}

impl Ring {
    /// Makes a ring and lets each gate join at the beginning.
    pub(super) fn make(
        partition: u32,
        geometry: Geometry,
        overflow: Overflow,
        gates: &[(Gate, SubscriptionMode)],
    ) -> Result<Self, RegionError> {
        let identity = RingIdentity { incarnation: random(), geometry };
        let mut ring = Self {
            partition: PartitionRegions::create(identity, partition)?,
            overflow,
            subscriptions: BTreeMap::new(),
            shared: BTreeMap::new(),
            arenas: RingArenas::new(identity),
            orphans: Vec::new(),
            publisher: None,
            data: Ringer::default(),
            space: Ringer::default(),
        };
        for (gate, mode) in gates {
            ring.join(*gate, mode, StartAt::First)?;
        }
        Ok(ring)
    }

    /// Makes the regions of a subscription and lets its gate join.
    pub(super) fn join(
        &mut self,
        gate: Gate,
        mode: &SubscriptionMode,
        start: StartAt,
    ) -> Result<(), RegionError> {
        let subscription = SubscriptionRegion::create(self.partition.identity())?;
        if let SubscriptionMode::Shared(settings) = mode {
            let shared = Shared::create(&self.partition, &subscription, settings.clone())?;
            self.shared.insert(gate, shared);
        }
        let start = match start {
            StartAt::First => Start::First,
            StartAt::Next => Start::Next,
        };
        self.place(gate, &subscription, start);
        self.subscriptions.insert(gate, subscription);
        Ok(())
    }

    fn place(&self, gate: Gate, subscription: &SubscriptionRegion, start: Start) {
        let ring = &self.partition.ring;
        if self.overflow == Overflow::DropOldest {
            ring.place_reader(&subscription.cursor, start);
        } else {
            ring.join(gate.index, gate.generation, &subscription.cursor, start);
        }
    }

    /// Takes a gate out of force and drops its regions, with what they hold.
    pub(super) fn leave(&mut self, gate: Gate) {
        self.partition.ring.leave(gate.index);
        self.subscriptions.remove(&gate);
        if let Some(shared) = self.shared.remove(&gate) {
            shared.lent().for_each(|arena| self.arenas.drop(arena));
        }
        self.partition.space.ring_always();
    }

    /// Takes a gate out of force if it holds the ring full.
    pub(super) fn detach(&self, gate: Gate) {
        if self.partition.ring.detach(gate.index, &self.subscriptions[&gate].cursor) {
            self.partition.space.ring_always();
        }
    }

    /// Lets a gate join again in its next use; returns the cursor word.
    pub(super) fn attach(&mut self, before: Gate, gate: Gate, position: u64) -> u64 {
        let subscription = self.subscriptions.remove(&before).expect("the core names gates that are there");
        self.place(gate, &subscription, Start::At(position));
        let cursor = subscription.cursor.load(Ordering::Acquire);
        self.subscriptions.insert(gate, subscription);
        cursor
    }

    /// Gives the cursor its next generation, so that a store of the reader before would be noticed, and frees
    /// what it held in place.
    pub(super) fn end_reader(&self, gate: Gate) {
        let subscription = &self.subscriptions[&gate];
        let mut found = subscription.cursor.load(Ordering::Acquire);
        loop {
            let cursor = CursorWord::unpack(found);
            let ended = CursorWord { pinned: false, generation: cursor.next_generation(), ..cursor };
            // AcqRel: behind the reader's last commit, before the next reader's first load.
            let done = subscription.cursor.compare_exchange(
                found,
                ended.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match done {
                Ok(_) => break,
                // Only a reader that was told to stop and did not can get here, and not for ever.
                Err(now) => found = now,
            }
        }
        subscription.hazards.clear_all();
    }

    /// The region of a subscription.
    pub(super) fn subscription(&self, gate: Gate) -> &SubscriptionRegion {
        &self.subscriptions[&gate]
    }

    /// The cursor of a subscription, read once.
    pub(super) fn cursor(&self, gate: Gate) -> CursorWord {
        CursorWord::unpack(self.subscriptions[&gate].cursor.load(Ordering::Acquire))
    }

    /// A `shared` subscription.
    pub(super) fn shared(&self, gate: Gate) -> Option<&Shared> {
        self.shared.get(&gate)
    }

    /// Does something with a `shared` subscription. Panics when there is none.
    pub(super) fn with_shared<R>(
        &mut self,
        gate: Gate,
        act: impl FnOnce(&mut Shared, &mut Around<'_>, &SubscriptionRegion) -> R,
    ) -> R {
        let shared = self.shared.get_mut(&gate).expect("the core names subscriptions that are there");
        let mut around =
            Around { partition: &self.partition, arenas: &mut self.arenas, data: &mut self.data };
        act(shared, &mut around, &self.subscriptions[&gate])
    }

    /// Does what there is to do for a `shared` subscription, and wakes who waits for it.
    pub(super) fn look(&mut self, gate: Gate, now: Nanos) -> Looked {
        let looked = self.with_shared(gate, |shared, around, _| shared.look(around, now));
        if looked.freed {
            self.space.ring(&self.partition.space);
        }
        looked
    }

    /// Publishes a message of the broker's own.
    pub(super) fn publish(&mut self, body: &Body) -> Result<(), ShardPublishError> {
        if self.publisher.is_none() {
            self.publisher = Some(Publisher::open(&self.partition, self.overflow)?);
        }
        let publisher = self.publisher.as_mut().expect("made above");
        let published = publisher.publish(&self.partition, &self.subscriptions, &mut self.arenas, body);
        let (position, arenas) = published?;
        if !arenas.is_empty() {
            self.orphans.push(Orphans { arenas, end: position + 1 });
        }
        Ok(())
    }

    /// Its arenas.
    pub(super) fn arenas(&mut self) -> &mut RingArenas {
        &mut self.arenas
    }

    /// The producer of these arenas has stopped.
    pub(super) fn orphan(&mut self, arenas: Vec<u32>) {
        self.orphans.push(Orphans { arenas, end: self.partition.ring.end() });
    }

    /// Whether there are arenas that nobody adds to.
    pub(super) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// Drops the arenas that nobody adds to and that nobody can come to any more; returns their numbers.
    pub(super) fn drop_orphans(&mut self) -> Vec<u32> {
        let orphans = std::mem::take(&mut self.orphans);
        let (gone, left): (Vec<_>, Vec<_>) =
            orphans.into_iter().partition(|orphans| self.is_passed(orphans.end));
        self.orphans = left;
        let gone: Vec<u32> = gone.into_iter().flat_map(|orphans| orphans.arenas).collect();
        gone.iter().for_each(|arena| self.arenas.drop(*arena));
        gone
    }

    /// Whether nobody can come to a message below `end` any more.
    fn is_passed(&self, end: u64) -> bool {
        let ring = &self.partition.ring;
        match self.overflow {
            Overflow::DropOldest => ring.end() >= end.saturating_add(self.capacity()),
            _ => ring.give_up(end, self.lowest_gate()),
        }
    }

    fn lowest_gate(&self) -> Option<u64> {
        let cursors = self.subscriptions.keys().map(|gate| self.cursor(*gate));
        cursors.filter(|cursor| cursor.live).map(|cursor| cursor.position).min()
    }

    fn capacity(&self) -> u64 {
        self.partition.identity().geometry.capacity()
    }

    /// First position that the ring still holds.
    pub(super) fn first_position(&self) -> u64 {
        let held_from = match self.overflow {
            Overflow::DropOldest => self.partition.ring.end(),
            _ => self.partition.ring.limit(),
        };
        held_from.saturating_sub(self.capacity())
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(bytes.len()), "the kernel gives 8 random bytes at once after boot");
    u64::from_ne_bytes(bytes)
}
