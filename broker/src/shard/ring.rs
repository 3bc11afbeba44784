//! A ring with its subscriptions and its arenas.
//!
//! 1. A subscription's cursor or floor is a gate, unless the stream drops its oldest messages or has detached it. One that is detached
//!    and whose backlog the journal keeps is a gate again only where it stands.
//! 2. An arena whose producer has stopped is dropped when nobody can come to a message of that producer any more:
//!    every gate has passed them, and whoever joins later begins behind them; or they are overwritten.

mod restoring;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use ringway_shm_protocol::attributes::{Stamp, flag};
use ringway_shm_protocol::control::message::{
    Durability, Overflow, Sent, StartAt, SubscriptionMode, Visibility,
};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::partition::{PartitionRegions, RingIdentity, SharedRegions, SubscriptionRegion};
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::ring::{JournalState, Part, Ringer};
use ringway_shm_protocol::stops;
use ringway_shm_protocol::words::CursorWord;

use super::AdoptError;
use super::arenas::RingArenas;
use super::home::{Home, InKeep};
use super::journaled::{Attention, Journaled, Noted};
use super::letters::Letters;
use super::publisher::{Publisher, ShardPublishError};
use super::shared::{Around, Looked, Shared};
use crate::core::lot::Nanos;
use crate::core::{Body, Gate, Grave, OpenStream, OpenSubscription};
use crate::journal::disk::{Disk, Writer};
use crate::journal::log::Log;
use crate::journal::mutations::{self, Mutation};
use crate::journal::records::StateRecord;
use crate::journal::state::StreamState;
use crate::keeper::{Estate, Kept};

/// Arenas that nobody adds messages to any more: of a producer that has stopped, or of one message of the shard's own.
struct Orphans {
    arenas: Vec<u32>,
    /// The log had reached this: their messages are below.
    end: u64,
}

/// Rounds: of which subscription, its number.
pub(super) type Rounds = Vec<(Gate, u64)>;

/// A ring that was taken over, and what of it was being given up.
pub(super) struct Adopted {
    pub(super) ring: Ring,
    pub(super) gates_gone: Vec<Gate>,
    pub(super) arenas_gone: Vec<u32>,
}

/// See the module.
pub(super) struct Ring {
    pub(super) partition: PartitionRegions,
    home: Home,
    _kept: Kept,
    overflow: Overflow,
    subscriptions: BTreeMap<Gate, InKeep<SubscriptionRegion>>,
    shared: BTreeMap<Gate, Shared>,
    /// Subscriptions that deliver only what is on the device.
    durable: BTreeSet<Gate>,
    arenas: RingArenas,
    orphans: Vec<Orphans>,
    publisher: Option<Publisher>,
    letters: Letters,
    /// The ring as the journal sees it, if there is one.
    journaled: Option<Journaled>,
    /// Wakes consumers for what was fed, and producers for what the shard has settled.
    data: Ringer,
    space: Ringer,
}

impl Ring {
    /// The memory of a new ring.
    pub(super) fn memory(geometry: Geometry, partition: u32) -> Result<PartitionRegions, RegionError> {
        PartitionRegions::create(RingIdentity { incarnation: random(), geometry }, partition)
    }

    /// Makes a ring of new memory and lets each gate join at the beginning.
    pub(super) fn make(
        home: Home,
        partition: PartitionRegions,
        overflow: Overflow,
        gates: &[(Gate, SubscriptionMode)],
        journal: Option<(Gate, Durability)>,
    ) -> Result<Self, RegionError> {
        let note = partition.identity().incarnation.to_le_bytes().to_vec();
        let kept = home.keep(home.ring(), note, partition.descriptors());
        let mut ring = Self::of(home, kept, partition, overflow);
        if let Some((gate, level)) = journal {
            ring.join_journal(gate, level, 0)?;
        }
        for (gate, mode) in gates {
            ring.join(*gate, mode, StartAt::First)?;
        }
        Ok(ring)
    }

    fn of(home: Home, kept: Kept, partition: PartitionRegions, overflow: Overflow) -> Self {
        let arenas = RingArenas::new(partition.identity(), &home, partition.arenas_made.clone());
        Self {
            letters: Letters::new(&home),
            partition,
            home,
            _kept: kept,
            overflow,
            subscriptions: BTreeMap::new(),
            shared: BTreeMap::new(),
            durable: BTreeSet::new(),
            arenas,
            orphans: Vec::new(),
            publisher: None,
            journaled: None,
            data: Ringer::default(),
            space: Ringer::default(),
        }
    }

    /// Takes over the ring of a shard that is gone, and finishes what that had begun; `None`: it was being given up.
    pub(super) fn adopt(
        home: Home,
        stream: &OpenStream,
        estate: &mut Estate,
        now: Nanos,
    ) -> Result<Option<Adopted>, AdoptError> {
        let note = estate.get(&home.ring()).and_then(|entry| entry.note[..].try_into().ok());
        let (Some(note), Some((descriptors, kept))) = (note, home.adopt(home.ring(), estate)) else {
            return Ok(None);
        };
        let identity = RingIdentity { incarnation: u64::from_le_bytes(note), geometry: stream.geometry };
        let partition = PartitionRegions::adopt(identity, descriptors)?;
        let mut ring = Self::of(home, kept, partition, stream.overflow);
        // What it was publishing itself is not published.
        ring.letters.adopt(&ring.home, &ring.partition, estate)?;
        ring.partition.ring.bury(0);
        let mut arenas_gone = Vec::new();
        for (arena, bytes, is_orphan) in &stream.arenas {
            match ring.arenas.adopt(*arena, *bytes, estate)? {
                true if *is_orphan => ring.orphan(vec![*arena]),
                true => {}
                false => arenas_gone.push(*arena),
            }
        }
        let own = ring.arenas.adopt_own(estate)?;
        let mut gates_gone = Vec::new();
        for subscription in &stream.subscriptions {
            if !ring.adopt_subscription(subscription, estate, now)? {
                gates_gone.push(subscription.gate);
            }
        }
        ring.adopt_journal(stream, estate)?;
        ring.put_gates_right();
        let lent: BTreeSet<u32> = ring.shared.values().flat_map(Shared::lent).collect();
        let published = own.into_iter().filter(|arena| !lent.contains(arena));
        ring.orphan(published.collect());
        ring.partition.data.ring_always();
        ring.partition.space.ring_always();
        stops::at("ring.adopted");
        Ok(Some(Adopted { ring, gates_gone, arenas_gone }))
    }

    /// Takes over a subscription; `false`: it was being given up.
    fn adopt_subscription(
        &mut self,
        OpenSubscription { gate, mode, members }: &OpenSubscription,
        estate: &mut Estate,
        now: Nanos,
    ) -> Result<bool, AdoptError> {
        let (key, ring) = (self.home.subscription(*gate), self.partition.identity());
        let (subscription, kept) = match mode {
            SubscriptionMode::Cursor(_) => {
                let Some(([own], kept)) = self.home.adopt(key, estate) else { return Ok(false) };
                (SubscriptionRegion::adopt(ring, own)?, kept)
            }
            SubscriptionMode::Shared(settings) => {
                let Some(([own, claims, feed], kept)) = self.home.adopt(key, estate) else {
                    return Ok(false);
                };
                let subscription = SubscriptionRegion::adopt(ring, own)?;
                let regions = SharedRegions::adopt(&self.partition, &subscription, [claims, feed])?;
                let mut shared = Shared::new(&self.home, *gate, &self.partition, regions, settings.clone());
                shared.take_over_from_before(&self.partition, members, estate, now)?;
                self.shared.insert(*gate, shared);
                (subscription, kept)
            }
        };
        self.insert(*gate, mode, InKeep::new(subscription, kept));
        Ok(true)
    }

    /// Gates are in force that have a subscription, in the use that it knows; where a subscription is detached, its consumer
    /// asks for it.
    fn put_gates_right(&self) {
        let in_force: BTreeSet<Gate> = self
            .partition
            .ring
            .gates()
            .into_iter()
            .map(|(index, generation)| Gate { index, generation })
            .collect();
        // One that was being detached has its cursor marked, and is in force still.
        let stays = |gate: &&Gate| self.subscriptions.contains_key(gate) && self.cursor(**gate).live;
        for gate in in_force.iter().filter(|gate| !stays(gate)) {
            self.partition.ring.leave(gate.index);
        }
        for (gate, subscription) in self.subscriptions.iter().filter(|(gate, _)| !in_force.contains(gate)) {
            match self.overflow {
                // It is its reader's alone.
                Overflow::DropOldest => {}
                // One that was being attached again is not: its reader asks once more.
                Overflow::Detach { .. } => self.partition.ring.mark_detached(&subscription.cursor),
                _ => self.place(*gate, subscription, Start::At(self.cursor(*gate).position)),
            }
        }
    }

    /// Takes over the gate of the journal.
    fn adopt_journal(&mut self, stream: &OpenStream, estate: &mut Estate) -> Result<(), AdoptError> {
        let Some(gate) = stream.journal else { return Ok(()) };
        let adopted = self.home.adopt(self.home.subscription(gate), estate);
        let Some(([own], kept)) = adopted else { return Ok(()) };
        let region = SubscriptionRegion::adopt(self.partition.identity(), own)?;
        self.begin_to_journal(gate, stream.durability, &region, 0);
        self.subscriptions.insert(gate, InKeep::new(region, kept));
        Ok(())
    }

    /// Lets the journal's gate join: everything below `end` is journaled.
    fn join_journal(&mut self, gate: Gate, level: Durability, end: u64) -> Result<(), RegionError> {
        let region = SubscriptionRegion::create(self.partition.identity())?;
        let key = self.home.subscription(gate);
        let kept = self.home.keep(key, Vec::new(), [region.descriptor().clone()]);
        self.partition.ring.join(gate.index, gate.generation, &region.cursor, Start::At(end));
        self.begin_to_journal(gate, level, &region, end);
        self.subscriptions.insert(gate, InKeep::new(region, kept));
        Ok(())
    }

    fn begin_to_journal(&mut self, gate: Gate, level: Durability, region: &SubscriptionRegion, end: u64) {
        let cursor = CursorWord::unpack(region.cursor.load(Ordering::Acquire));
        // Only where messages may be taken back does anything happen to what the gate keeps.
        let validates = self.overflow == Overflow::DropOldest;
        let reader = self.partition.reader(region, cursor, validates);
        let (stream, partition) = (self.home.stream, &self.partition);
        self.journaled = Some(Journaled::new(stream, gate, level, partition, reader, end));
    }

    /// From now on the journal is told what changes, `known` being what it knows.
    pub(super) fn know_journal(&mut self, known: Option<&StreamState>) {
        let Some(journaled) = &mut self.journaled else { return };
        journaled.skip_to(known.map_or(0, |known| known.end), &self.partition);
        for gate in self.subscriptions.keys().filter(|gate| **gate != journaled.gate) {
            let of_it = known.and_then(|known| known.subscriptions.get(gate)).cloned().unwrap_or_default();
            if let Some(shared) = self.shared.get_mut(gate) {
                shared.begin_to_journal(&of_it.lot, of_it.dead_total);
            }
            journaled.noted.insert(*gate, Noted { floor: of_it.floor, above: of_it.above });
        }
        // A shard that was killed may have published them, and not have told the journal.
        let told = known.map(|known| &known.letters);
        let is_told = |letter: &&(Grave, u64)| {
            told.is_some_and(|told| told.values().flatten().any(|known| known == *letter))
        };
        for (grave, position) in self.letters.all().filter(|letter| !is_told(letter)) {
            journaled.append_before(StateRecord::Letter(self.home.stream, *grave, *position));
        }
    }

    /// The ring as the journal sees it.
    pub(super) fn journaled(&self) -> Option<&Journaled> {
        self.journaled.as_ref()
    }

    /// The same, to change it.
    pub(super) fn journaled_mut(&mut self) -> Option<&mut Journaled> {
        self.journaled.as_mut()
    }

    /// Appends messages to the log; returns how many, and whether buffers have run out.
    pub(super) fn read_journal<D: Disk, W: Writer<D::File>>(
        &mut self,
        log: &mut Log<D, W>,
        most: usize,
    ) -> (usize, bool) {
        self.journaled.as_mut().map_or((0, false), |journaled| journaled.read(log, &self.arenas, most))
    }

    /// Takes note of how far writes and syncs have come.
    pub(super) fn raise_journal(&mut self, written: u64, synced: u64) {
        if let Some(journaled) = &mut self.journaled {
            journaled.raise(&self.partition, written, synced);
            self.space.ring(&self.partition.space);
            // Pairs with the announcement of a consumer that has found nothing on the device.
            if !self.durable.is_empty() {
                self.data.ring(&self.partition.data);
            }
        }
    }

    /// Says whether messages can be journaled.
    pub(super) fn set_journal_state(&mut self, state: JournalState) {
        if let Some(journaled) = &mut self.journaled {
            journaled.set_state(&self.partition, state);
        }
    }

    /// Begins to journal what was settled; returns which rounds are done when that is durable, and what is to be journaled.
    pub(super) fn begin_round(&mut self) -> (Rounds, Vec<StateRecord>) {
        let (mut rounds, mut records) = (Vec::new(), Vec::new());
        let Some(journaled) = &mut self.journaled else { return (rounds, records) };
        let (stream, end, own) = (self.home.stream, journaled.position(), journaled.gate);
        for (gate, subscription) in self.subscriptions.iter().filter(|(gate, _)| **gate != own) {
            let round = subscription.rounds.begin();
            let noted = journaled.noted.entry(*gate).or_default();
            let settled_end = match self.shared.get_mut(gate) {
                Some(shared) => {
                    let (partition, data) = (&self.partition, &mut self.data);
                    let mut around = Around { partition, arenas: &mut self.arenas, data };
                    let (of_it, now, settled_end) = shared.journal(&mut around, stream, end, noted);
                    records.extend(of_it);
                    *noted = now;
                    settled_end
                }
                None => {
                    let cursor = CursorWord::unpack(subscription.cursor.load(Ordering::Acquire));
                    let floor = cursor.position.min(end);
                    if floor != noted.floor {
                        noted.floor = floor;
                        records.push(StateRecord::Cursor(stream, *gate, floor));
                    }
                    cursor.position
                }
            };
            rounds.extend(journaled.done_with(*gate, round, settled_end).map(|round| (*gate, round)));
        }
        (rounds, records)
    }

    /// What was found in these rounds is journaled.
    pub(super) fn end_rounds(&mut self, rounds: &Rounds) {
        for (gate, round) in rounds {
            if let Some(subscription) = self.subscriptions.get(gate) {
                subscription.rounds.end(*round);
            }
        }
        if let Some(journaled) = &mut self.journaled {
            journaled.ring_confirm(&self.partition);
        }
    }

    /// Whether there is nothing to be journaled.
    pub(super) fn is_quiet(&self) -> bool {
        let Some(journaled) = &self.journaled else { return true };
        let nothing = Noted::default();
        let settled = |(gate, subscription): (&Gate, &InKeep<SubscriptionRegion>)| {
            let noted = journaled.noted.get(gate).unwrap_or(&nothing);
            match self.shared.get(gate) {
                Some(shared) => shared.is_journaled(noted),
                None => {
                    CursorWord::unpack(subscription.cursor.load(Ordering::Acquire)).position == noted.floor
                }
            }
        };
        let mut others = self.subscriptions.iter().filter(|(gate, _)| **gate != journaled.gate);
        !journaled.has_next() && !journaled.owes_rounds() && others.all(settled)
    }

    /// Wakes whoever has a bell of this ring watched.
    pub(super) fn ring_all_bells(&self) {
        let partition = &self.partition;
        for doorbell in [&partition.data, &partition.space, &partition.confirm, &partition.journal] {
            doorbell.ring_always();
        }
    }

    /// Makes the regions of a subscription and lets its gate join.
    pub(super) fn join(
        &mut self,
        gate: Gate,
        mode: &SubscriptionMode,
        start: StartAt,
    ) -> Result<(), RegionError> {
        let start = match start {
            StartAt::First => Start::First,
            StartAt::Next => Start::Next,
        };
        self.join_at(gate, mode, start)?;
        let floor = self.cursor(gate).position;
        let Some(journaled) = &mut self.journaled else { return Ok(()) };
        let (stream, floor) = (self.home.stream, floor.min(journaled.position()));
        let first = match self.shared.get_mut(&gate) {
            Some(shared) => {
                shared.begin_to_journal(&BTreeMap::new(), 0);
                // Before anything can leave the ring: what is missing in it from here on is in the lot, or settled.
                StateRecord::Settled { stream, gate, floor, above: Vec::new() }
            }
            // What is below is kept for nobody.
            None => StateRecord::Cursor(stream, gate, floor),
        };
        if !mutations::is(Mutation::NoFirstRecord) {
            journaled.append_before(first);
            journaled.attention = Attention::Polled;
        }
        Ok(())
    }

    fn join_at(&mut self, gate: Gate, mode: &SubscriptionMode, start: Start) -> Result<(), RegionError> {
        let subscription = SubscriptionRegion::create(self.partition.identity())?;
        let (key, own) = (self.home.subscription(gate), subscription.descriptor().clone());
        let kept = if let SubscriptionMode::Shared(settings) = mode {
            let regions = SharedRegions::create(&self.partition, &subscription)?;
            let [claims, feed] = regions.descriptors();
            self.shared
                .insert(gate, Shared::new(&self.home, gate, &self.partition, regions, settings.clone()));
            self.home.keep(key, Vec::new(), [own, claims, feed])
        } else {
            self.home.keep(key, Vec::new(), [own])
        };
        self.place(gate, &subscription, start);
        self.insert(gate, mode, InKeep::new(subscription, kept));
        Ok(())
    }

    fn insert(&mut self, gate: Gate, mode: &SubscriptionMode, subscription: InKeep<SubscriptionRegion>) {
        self.subscriptions.insert(gate, subscription);
        if mode.visibility() == Visibility::Durable {
            self.durable.insert(gate);
        }
    }

    /// Which messages a subscription delivers.
    pub(super) fn visibility(&self, gate: Gate) -> Visibility {
        let is_durable = self.durable.contains(&gate) && !mutations::is(Mutation::ShownBeforeSync);
        if is_durable { Visibility::Durable } else { Visibility::Committed }
    }

    fn place(&self, gate: Gate, subscription: &SubscriptionRegion, start: Start) {
        let (ring, cursor) = (&self.partition.ring, &subscription.cursor);
        match start {
            start if self.overflow == Overflow::DropOldest => ring.place_reader(cursor, start),
            Start::At(position) if self.keeps_backlog() => {
                ring.rejoin(gate.index, gate.generation, cursor, position);
            }
            start => {
                ring.join(gate.index, gate.generation, cursor, start);
            }
        }
    }

    /// Whether who lags is served from the journal.
    fn keeps_backlog(&self) -> bool {
        self.journaled.is_some() && matches!(self.overflow, Overflow::Detach { .. })
    }

    /// Takes a gate out of force and drops its regions, with what they hold.
    pub(super) fn leave(&mut self, gate: Gate) {
        self.partition.ring.leave(gate.index);
        self.subscriptions.remove(&gate);
        self.durable.remove(&gate);
        if let Some(journaled) = &mut self.journaled {
            journaled.forget(gate);
        }
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

    /// Lets a gate join again in its next use, if it can; returns the cursor word.
    pub(super) fn attach(&mut self, before: Gate, gate: Gate, position: u64) -> u64 {
        let subscription = self.subscriptions.remove(&before).expect("the core names gates that are there");
        self.place(gate, &subscription, Start::At(position));
        let cursor = subscription.cursor.load(Ordering::Acquire);
        self.subscriptions.insert(gate, subscription);
        if self.durable.remove(&before) {
            self.durable.insert(gate);
        }
        if let Some(journaled) = &mut self.journaled {
            journaled.renew(before, gate);
        }
        cursor
    }

    /// Up to where a subscription may see what the journal has.
    pub(super) fn journal_end_for(&self, gate: Gate) -> u64 {
        let watermarks = &self.partition.watermarks;
        match self.visibility(gate) {
            Visibility::Durable if !mutations::is(Mutation::PageBeforeSync) => watermarks.synced(),
            _ => watermarks.written(),
        }
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
                Ok(_) => {
                    stops::at("reader.ended");
                    break;
                }
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
    pub(super) fn look(&mut self, gate: Gate, now: Nanos, letters: usize) -> Looked {
        let looked = self.with_shared(gate, |shared, around, _| shared.look(around, now, letters));
        if looked.freed {
            self.space.ring(&self.partition.space);
        }
        looked
    }

    /// Gives up what a subscription has not consumed and nobody has; returns how many messages. Nobody reads it if it is a `cursor`. What
    /// the journal has not read is as if it came later: that could not be given up durably.
    pub(super) fn purge(&mut self, gate: Gate) -> u64 {
        let end = self.partition.ring.end();
        let end = self.journaled.as_ref().map_or(end, |journaled| journaled.position().min(end));
        let messages = if self.shared.contains_key(&gate) {
            self.with_shared(gate, |shared, around, _| shared.purge(around, end))
        } else {
            self.skip_to(gate, end)
        };
        self.partition.space.ring_always();
        messages
    }

    fn skip_to(&self, gate: Gate, end: u64) -> u64 {
        let (ring, word) = (&self.partition.ring, &self.subscriptions[&gate].cursor);
        let found = word.load(Ordering::Acquire);
        let cursor = CursorWord::unpack(found);
        let end = ring.finished_end(cursor.position).min(end);
        if end <= cursor.position {
            return 0;
        }
        let skipped = CursorWord { position: end, ..cursor }.pack();
        // AcqRel: as a reader's commit. Only a reader that was told to stop and did not can be in the way: it has moved on itself.
        let exchanged = word.compare_exchange(found, skipped, Ordering::AcqRel, Ordering::Relaxed);
        stops::at("cursor.skipped");
        match exchanged {
            Ok(_) if self.keeps_backlog() => end - cursor.position,
            Ok(_) => end - cursor.position.max(end.saturating_sub(self.capacity())),
            Err(_) => 0,
        }
    }

    /// Publishes a dead letter, unless it has got it already.
    pub(super) fn publish(&mut self, grave: Grave, body: &Body) -> Result<u64, ShardPublishError> {
        if let Some(position) = self.letters.find(grave) {
            return Ok(position);
        }
        if self.publisher.is_none() {
            self.publisher = Some(Publisher::open(&self.partition, self.overflow, self.journaled.is_some())?);
        }
        let publisher = self.publisher.as_mut().expect("made above");
        let (letters, journaled, stream) = (&mut self.letters, &mut self.journaled, self.home.stream);
        let note = |position| {
            letters.note(grave, position);
            if let Some(journaled) = journaled.as_mut().filter(|_| !mutations::is(Mutation::NoLetterNoted)) {
                journaled.append_before(StateRecord::Letter(stream, grave, position));
            }
        };
        let published = publisher.publish(&self.partition, &self.subscriptions, &mut self.arenas, body, note);
        let (position, arenas) = published?;
        if !arenas.is_empty() {
            self.orphans.push(Orphans { arenas, end: position + 1 });
        }
        Ok(position)
    }

    /// The last message of a producer, by the number of its name: among those of the ring, or else the one that is `known`.
    pub(super) fn last_sent(&self, number: u32, known: Option<Sent>) -> Option<Sent> {
        let ring = &self.partition.ring;
        let mut buffer = vec![0; self.partition.identity().geometry.body_bytes()];
        // What nobody holds is there all the same until it is overwritten; what it refers to may not be.
        let (held_from, first) = (self.first_position(), ring.end().saturating_sub(self.capacity()));
        let mut newest_first = (first.max(known.map_or(0, |known| known.position + 1))..ring.end()).rev();
        let found = newest_first.find_map(|position| {
            let received = ring.peek(position, flag::PRODUCER, &mut buffer)?;
            let stamp = match received.attributes(&buffer) {
                Part::Inline(section) => Stamp::of(received.flags(), section),
                Part::Arena(block) if position >= held_from => {
                    Stamp::of(received.flags(), &self.arenas.copy(block)?)
                }
                Part::Arena(_) => None,
            };
            let Stamp { sequence, .. } = stamp.filter(|stamp| stamp.producer == number)?;
            Some(Sent { sequence, position })
        });
        found.or(known)
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

    /// Whether a gate keeps producers from going on.
    pub(super) fn is_held_by(&self, gate: Gate) -> bool {
        let CursorWord { live, position, .. } = self.cursor(gate);
        live && position.saturating_add(self.capacity()) <= self.partition.ring.end()
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

pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(bytes.len()), "the kernel gives 8 random bytes at once after boot");
    u64::from_ne_bytes(bytes)
}
