//! A ring with the regions of its subscriptions and its producers' arenas.
//!
//! 1. A subscription's cursor is a gate, unless the stream drops its oldest messages or has detached it.
//! 2. An arena whose producer has stopped is dropped when nobody can come to a message of that producer any more:
//!    every gate has passed them, and whoever joins later begins behind them; or they are overwritten.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use ringway_shm_protocol::control::message::{Overflow, StartAt};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::memory::mapped::{Access, OwnedRegion, RegionError};
use ringway_shm_protocol::partition::{PartitionRegions, RingIdentity, SubscriptionRegion};
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::words::CursorWord;

use crate::core::Gate;

/// Arenas of a producer that has stopped.
struct Orphans {
    arenas: Vec<u32>,
    /// The log had reached this when it stopped: its messages are below.
    end: u64,
}

/// See the module.
pub(super) struct Ring {
    pub(super) partition: PartitionRegions,
    overflow: Overflow,
    subscriptions: BTreeMap<Gate, SubscriptionRegion>,
    arenas: BTreeMap<u32, OwnedRegion>,
    orphans: Vec<Orphans>,
}

impl Ring {
    /// Makes a ring and lets each gate join at the beginning.
    pub(super) fn make(
        partition: u32,
        geometry: Geometry,
        overflow: Overflow,
        gates: &[Gate],
    ) -> Result<Self, RegionError> {
        let identity = RingIdentity { incarnation: random(), geometry };
        let partition = PartitionRegions::create(identity, partition)?;
        let (subscriptions, arenas, orphans) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut ring = Self { partition, overflow, subscriptions, arenas, orphans };
        for gate in gates {
            ring.join(*gate, StartAt::First)?;
        }
        Ok(ring)
    }

    /// Makes the region of a subscription and lets its gate join.
    pub(super) fn join(&mut self, gate: Gate, start: StartAt) -> Result<(), RegionError> {
        let subscription = SubscriptionRegion::create(self.partition.identity())?;
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

    /// Takes a gate out of force and drops its region.
    pub(super) fn leave(&mut self, gate: Gate) {
        self.partition.ring.leave(gate.index);
        self.subscriptions.remove(&gate);
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

    /// Makes an arena; returns the descriptor for its producer.
    pub(super) fn make_arena(&mut self, arena: u32, bytes: u64) -> Result<OwnedFd, RegionError> {
        let region = OwnedRegion::create(self.partition.identity().arena(bytes as usize))?;
        let descriptor = region.hand_over(Access::Write)?;
        self.arenas.insert(arena, region);
        Ok(descriptor)
    }

    /// The descriptor of an arena for a reader, and its size in bytes.
    pub(super) fn open_arena(&self, arena: u32) -> Result<(OwnedFd, u64), RegionError> {
        let region = &self.arenas[&arena];
        Ok((region.hand_over(Access::Read)?, region.region().bytes() as u64))
    }

    /// Drops an arena that its producer has given up.
    pub(super) fn drop_arena(&mut self, arena: u32) {
        self.arenas.remove(&arena);
    }

    /// The producer of these arenas has stopped.
    pub(super) fn orphan(&mut self, arenas: Vec<u32>) {
        self.orphans.push(Orphans { arenas, end: self.partition.ring.end() });
    }

    /// Whether there are arenas of producers that have stopped.
    pub(super) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// Drops the arenas of stopped producers that nobody can come to any more; returns their numbers.
    pub(super) fn drop_orphans(&mut self) -> Vec<u32> {
        let orphans = std::mem::take(&mut self.orphans);
        let (gone, left): (Vec<_>, Vec<_>) =
            orphans.into_iter().partition(|orphans| self.is_passed(orphans.end));
        self.orphans = left;
        let gone: Vec<u32> = gone.into_iter().flat_map(|orphans| orphans.arenas).collect();
        for arena in &gone {
            self.arenas.remove(arena);
        }
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
