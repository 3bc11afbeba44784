//! A `shared` subscription on its shard: judges settlements, watches leases, takes messages over, feeds them again.
//!
//! ```text
//!            settlements (a member calls) ─┐            ┌─▶ feed ─▶ members
//!  leases that ran out (looked at in time) ─┼─▶ the lot ─┤
//!               a member closed or died  ─┤            ├─▶ dead letters
//!        a full ring is held by a lease  ─┘            └─▶ settled: gone
//! ```
//!
//! 1. A message is taken over in three steps: its claim is *moving*, the lot has it with a copy of its own, its claim is
//!    *moved*. Only then the floor may pass it. So at every moment it is in the ring, or in the lot, or both.
//! 2. Nothing here waits: what has no room stays in the lot until somebody calls, or the time comes.
//! 3. What the lot does is remembered before anybody can see it: before a claim becomes moved, before a message is in the
//!    feed, before a settlement is confirmed. So a successor finds every message, and every claim that is moving is either
//!    remembered, and becomes moved, or is not, and nothing has happened.
//! 4. Members may write the floor and the claim words: each is read once, and bounds what is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use ringway_shm_protocol::control::message::{DeathReason, RETRY_MS_MAX, SharedInfo, SharedSettings};
use ringway_shm_protocol::layout::{FEED_CAPACITY_MAX, Geometry};
use ringway_shm_protocol::memory::mapped::{Mapped, RegionError};
use ringway_shm_protocol::partition::{MemberRegion, PartitionRegions, SharedRegions, SubscriptionRegion};
use ringway_shm_protocol::ring::{Claims, FeedRecord, Leased, Ringer, Settlement, Verdict};
use ringway_shm_protocol::stops;
use ringway_shm_protocol::words::{ClaimState, ClaimWord};

use super::AdoptError;
use super::arenas::RingArenas;
use super::body::{self, Placement};
use super::home::{Home, InKeep};
use super::journaled::Noted;
use super::lot_log::{LotLog, Progress, Remembered, Snapshot};
use crate::clock;
use crate::core::lot::{Ended, Judged, LeaseOn, Lot, Nanos, Waits};
use crate::core::{Body, Ending, Gate, SHARD_ARENAS, SessionId, StreamId};
use crate::journal::mutations::{self, Mutation};
use crate::journal::records::{LotEntry, Range, StateRecord, Waiting};
use crate::keeper::Estate;

/// Messages of the feed that are in arenas of the shard's own: each takes a descriptor.
const LENT_MAX: usize = 64;
/// Leases are looked at so often in the time that they last, and at least once a second.
const LOOKS_PER_LEASE: u64 = 4;
const MS: Nanos = 1_000_000;
const SCAN_EVERY_MIN: Nanos = 10 * MS;
const SCAN_EVERY_MAX: Nanos = 1000 * MS;
/// How long until something is tried again that could not be done.
pub(super) const RETRY: Nanos = 1000 * MS;

/// What a subscription shares with its ring.
pub(super) struct Around<'a> {
    pub(super) partition: &'a PartitionRegions,
    pub(super) arenas: &'a mut RingArenas,
    /// Wakes consumers for what was fed.
    pub(super) data: &'a mut Ringer,
}

/// What a look has come to.
#[derive(Default)]
pub(super) struct Looked {
    /// Producers have room.
    pub(super) freed: bool,
    /// Dead messages that are to be sent to their dead-letter stream: position, attempts, reason.
    pub(super) dead: Vec<(u64, u32, DeathReason)>,
    /// There are more of them.
    pub(super) more_dead: bool,
    /// When to look again, if nobody calls before.
    pub(super) again_at: Option<Nanos>,
}

/// See the module.
pub(super) struct Shared {
    regions: SharedRegions,
    home: Home,
    gate: Gate,
    members: BTreeMap<u32, InKeep<MemberRegion>>,
    lot: Lot,
    log: LotLog,
    /// How far the settlements of each member are judged.
    judged: BTreeMap<u32, Progress>,
    /// What the messages of the lot are.
    bodies: BTreeMap<u64, Body>,
    /// Arenas of the shard's own that messages of the feed are in.
    lent: BTreeMap<u64, Vec<u32>>,
    /// Dead messages that are on their way to the dead-letter stream.
    burying: BTreeSet<u64>,
    /// Messages whose letters may have come to where dead ones go: those on their way, those that one before may have sent, and those
    /// of which the journal does not know that they have come.
    abroad: BTreeSet<u64>,
    /// No other letter goes: where they go to is to change.
    holds_letters: bool,
    dead_total: u64,
    /// Members need not say that they have a lease: leases are looked at when this time comes.
    scan_at: Option<Nanos>,
    /// Where slots are copied to.
    buffer: Box<[u8]>,
    /// Messages of the lot that the journal does not know as they are; `None`: there is no journal.
    unjournaled: Option<BTreeSet<u64>>,
    dead_journaled: u64,
}

impl Shared {
    /// A subscription with nothing in its lot.
    pub(super) fn new(
        home: &Home,
        gate: Gate,
        partition: &PartitionRegions,
        regions: SharedRegions,
        settings: SharedSettings,
    ) -> Self {
        // The lot waits for nothing yet.
        regions.refill.begin();
        Self {
            regions,
            log: LotLog::new(&home.keeping, home.lot(gate)),
            home: home.clone(),
            gate,
            members: BTreeMap::new(),
            lot: Lot::new(settings),
            judged: BTreeMap::new(),
            bodies: BTreeMap::new(),
            lent: BTreeMap::new(),
            burying: BTreeSet::new(),
            abroad: BTreeSet::new(),
            holds_letters: false,
            dead_total: 0,
            scan_at: None,
            buffer: vec![0; partition.identity().geometry.body_bytes()].into_boxed_slice(),
            unjournaled: None,
            dead_journaled: 0,
        }
    }

    /// From now on it is journaled. What the journal knows: how each message of the lot is, and how many have died.
    pub(super) fn begin_to_journal(&mut self, known: &BTreeMap<u64, LotEntry>, dead_total: u64) {
        let differs = |position: &u64| known.get(position).copied() != self.durable_entry(*position);
        let positions: BTreeSet<u64> = self.lot.positions().chain(known.keys().copied()).collect();
        self.unjournaled = Some(positions.into_iter().filter(differs).collect());
        self.dead_journaled = dead_total;
        let is_dead = |entry: &LotEntry| matches!(entry.waiting, Waiting::Dead { .. });
        self.abroad.extend(known.iter().filter(|(_, entry)| is_dead(entry)).map(|(position, _)| *position));
    }

    /// Puts messages back that a journal has: into the lot, with their bodies.
    pub(super) fn restore(&mut self, lot: Vec<(u64, LotEntry, Body)>, dead_total: u64) {
        let (now, wall) = (clock::monotonic(), clock::wall());
        let entries = lot.iter().map(|(position, entry, _)| {
            let waits = match entry.waiting {
                Waiting::Ready => Waits::Ready,
                Waiting::Delayed { until_ns } => Waits::Delayed(now + left(until_ns, wall)),
                Waiting::Dead { reason } => Waits::Dead(reason),
            };
            (*position, entry.acquired, entry.failed, waits)
        });
        self.lot = Lot::restore(self.settings().clone(), entries);
        self.bodies = lot.into_iter().map(|(position, _, body)| (position, body)).collect();
        self.dead_total = dead_total;
        self.remember();
    }

    /// Says in a ring that nobody uses yet which positions are settled, and which are in the lot.
    pub(super) fn restore_claims(
        &self,
        above: &[Range],
        in_lot: impl Iterator<Item = u64>,
        range: std::ops::Range<u64>,
    ) {
        let live = &self.regions.live;
        for (from, to) in above {
            let acked = (*from).max(range.start)..(*to).min(range.end);
            acked.for_each(|position| live.restore(position, ClaimState::Acked));
        }
        in_lot
            .filter(|position| range.contains(position))
            .for_each(|position| live.restore(position, ClaimState::Moved));
    }

    /// How a message of the lot is for whoever comes after the host's end.
    fn durable_entry(&self, position: u64) -> Option<LotEntry> {
        let (acquired, failed, waits) = self.lot.entry(position)?;
        let waiting = match waits {
            Waits::Ready => Waiting::Ready,
            Waits::Delayed(until) => {
                let left = until.saturating_sub(clock::monotonic());
                Waiting::Delayed { until_ns: clock::wall() + left }
            }
            Waits::Dead(reason) => Waiting::Dead { reason },
        };
        Some(LotEntry { acquired, failed, waiting })
    }

    /// Whether everything that it has settled is journaled, `noted` being what was last.
    pub(super) fn is_journaled(&self, noted: &Noted) -> bool {
        self.unjournaled.as_ref().is_none_or(BTreeSet::is_empty)
            && self.dead_journaled == self.dead_total
            && self.regions.floor.position() == noted.floor
    }

    /// What is to be journaled of it, and what is noted then: nothing from `end` on. And one past the last position that is
    /// settled, or in the lot, all the same.
    pub(super) fn journal(
        &mut self,
        around: &mut Around<'_>,
        stream: StreamId,
        end: u64,
        noted: &Noted,
    ) -> (Vec<StateRecord>, Noted, u64) {
        // Who has acked in the feed waits for this round.
        if !mutations::is(Mutation::NoHarvest) {
            self.harvest(around);
            self.remember();
        }
        let mut records = Vec::new();
        // First the lot: nothing that has left the ring is ever in neither.
        let later = self.unjournaled.as_mut().map(|positions| positions.split_off(&end));
        for position in std::mem::replace(&mut self.unjournaled, later).unwrap_or_default() {
            let entry = self.durable_entry(position);
            if entry.is_none() {
                self.abroad.remove(&position);
            }
            records.push(StateRecord::Lot(stream, self.gate, position, entry));
        }
        if self.dead_journaled != self.dead_total {
            self.dead_journaled = self.dead_total;
            records.push(StateRecord::DeadTotal(stream, self.gate, self.dead_total));
        }
        let floor = self.regions.floor.position().min(end);
        let mut above: Vec<Range> = Vec::new();
        let oldest = end.saturating_sub(self.geometry().capacity());
        let is_over = |position| {
            let claim = self.regions.live.word(position);
            let is_over = match claim.state {
                ClaimState::Acked => true,
                ClaimState::Moved => !self.lot.contains(position),
                _ => false,
            };
            claim.lap == self.geometry().lap(position) && is_over
        };
        for position in floor.max(oldest)..end {
            if is_over(position) {
                match above.last_mut() {
                    Some((_, behind)) if *behind == position => *behind += 1,
                    _ => above.push((position, position + 1)),
                }
            }
        }
        let now = Noted { floor, above };
        if now != *noted {
            let (gate, above) = (self.gate, now.above.clone());
            records.push(StateRecord::Settled { stream, gate, floor, above });
        }
        let in_lot = self.unjournaled.as_ref().and_then(BTreeSet::last).copied();
        let over = (end..around.partition.ring.end()).rev().find(|position| is_over(*position));
        (records, now, over.max(in_lot).map_or(0, |last| last + 1))
    }

    /// Goes on where a shard that is gone has stopped, and finishes what that had begun. Look afterwards.
    pub(super) fn take_over_from_before(
        &mut self,
        partition: &PartitionRegions,
        members: &[(SessionId, u32)],
        estate: &mut Estate,
        now: Nanos,
    ) -> Result<(), AdoptError> {
        // Its handle comes with the first thing that is written.
        let before = estate.remove(&self.home.lot(self.gate));
        let before = before.map(|entry| LotLog::read(&entry)).transpose();
        let Remembered { lot, bodies, judged, dead_total } = before?.unwrap_or_default();
        self.lot = Lot::remember(self.settings().clone(), lot, now);
        self.bodies = bodies;
        self.dead_total = dead_total;
        self.regions.feed.resume(self.lot.fed_from());
        self.lot.resume_feed(self.regions.feed.in_use());
        self.bodies.retain(|position, _| self.lot.contains(*position));
        if self.settings().dead_letter.is_some() && !mutations::is(Mutation::LettersUnsuspected) {
            self.abroad = self.lot.dead().map(|(position, ..)| position).collect();
        }
        self.finish_moves(partition);
        stops::at("moves.finished");
        self.find_lent();
        for (_, member) in members {
            let key = self.home.member(self.gate, *member);
            // One that is not kept was being swept, and will be.
            if let Some(([descriptor], kept)) = self.home.adopt(key, estate) {
                let mut region = self.regions.adopt_member(descriptor)?;
                let progress = judged.get(member).copied().unwrap_or_default();
                region.judge.resume(progress);
                self.judged.insert(*member, progress);
                self.members.insert(*member, InKeep::new(region, kept));
            }
        }
        if let (true, Some((_, first))) = (self.settings().single_active, members.first()) {
            self.activate(*first);
        }
        let Self { lot, log, bodies, judged, dead_total, .. } = self;
        log.rewrite(lot, Snapshot { bodies, judged, dead_total: *dead_total });
        self.scan_at = Some(now);
        Ok(())
    }

    /// A claim that was moving is moved if the lot has the message; else nothing has happened.
    fn finish_moves(&self, partition: &PartitionRegions) {
        let range = self.range(partition);
        let live = &self.regions.live;
        for Leased { position, member } in live.moving(range.start, range.end) {
            if self.lot.contains(position) {
                live.end_move(position, member);
            } else {
                live.undo_move(position, member);
            }
        }
        let (fed, in_use) = (self.regions.feed.claims(), self.regions.feed.in_use());
        for Leased { position: at, member } in fed.moving(in_use.start, in_use.end) {
            if self.lot.at_feed(at).is_none() {
                fed.end_move(at, member);
            } else {
                fed.undo_move(at, member);
            }
        }
    }

    /// Finds out which arenas of the shard's own messages of the feed are in.
    fn find_lent(&mut self) {
        for at in self.regions.feed.in_use() {
            let Some(position) = self.lot.at_feed(at) else { continue };
            let Ok(received) = self.regions.feed.copy_out(at, &mut self.buffer) else { continue };
            let parts = [received.attributes(&self.buffer), received.payload(&self.buffer)];
            let arenas = parts.into_iter().filter_map(|part| part.block()).map(|block| block.arena);
            let own: Vec<_> = arenas.filter(|arena| *arena >= SHARD_ARENAS).collect();
            if !own.is_empty() {
                self.lent.insert(position, own);
            }
        }
    }

    /// From here on a successor knows what the lot has done.
    fn remember(&mut self) {
        let Self { lot, log, bodies, judged, dead_total, unjournaled, .. } = self;
        log.commit(lot, Snapshot { bodies, judged, dead_total: *dead_total }, |position| {
            if let Some(unjournaled) = unjournaled {
                unjournaled.insert(position);
            }
        });
    }

    fn note_judged(&mut self, member: u32, progress: Progress) {
        self.judged.insert(member, progress);
        self.log.judged(member, progress);
    }

    /// The subscription's settings.
    pub(super) fn settings(&self) -> &SharedSettings {
        self.lot.settings()
    }

    /// Lets no further letter go, so that where they go to may change. `false`: some are on their way, or may have come; ask again.
    pub(super) fn hold_letters(&mut self) -> bool {
        self.holds_letters = true;
        self.abroad.is_empty() || mutations::is(Mutation::RedirectedEarly)
    }

    /// Letters go again.
    pub(super) fn release_letters(&mut self) {
        self.holds_letters = false;
    }

    /// From now on it goes by these settings. What is leased keeps its lease.
    pub(super) fn alter(&mut self, around: &mut Around<'_>, settings: SharedSettings, now: Nanos) {
        self.scan(around, now);
        self.lot.alter(settings);
    }

    /// Lets a member in; returns its descriptors and where the feed begins for it.
    pub(super) fn admit(
        &mut self,
        partition: &PartitionRegions,
        subscription: &SubscriptionRegion,
        member: u32,
    ) -> Result<(Vec<OwnedFd>, u64), RegionError> {
        let region = self.regions.new_member()?;
        let descriptors = self.regions.for_member(partition, subscription, &region)?;
        let key = self.home.member(self.gate, member);
        let kept = self.home.keep(key, Vec::new(), [region.descriptor().clone()]);
        self.members.insert(member, InKeep::new(region, kept));
        // Another has had this number.
        self.note_judged(member, (0, 0));
        self.remember();
        Ok((descriptors, self.regions.feed.in_use().start))
    }

    /// Only this member gets messages from now on.
    pub(super) fn activate(&self, member: u32) {
        // Release: behind the sweep of the one before.
        self.regions.active.store(member.into(), Ordering::Release);
        stops::at("member.activated");
    }

    /// Takes over what a member has that has stopped, and forgets it. Look afterwards.
    pub(super) fn sweep(&mut self, around: &mut Around<'_>, member: u32, ending: Ending, now: Nanos) {
        // What it said before it stopped counts.
        self.judge_member(around, member, now);
        self.members.remove(&member);
        self.judged.remove(&member);
        let ended = match ending {
            Ending::Closed => Ended::Released,
            Ending::Died => Ended::Died,
        };
        for positions in self.leased_live(around, member).chunks(FEED_CAPACITY_MAX as usize) {
            self.take_over(around, positions, member, |lot, position| lot.take(position, ended));
            // Others need not wait until all is taken over.
            self.feed(around, now);
        }
        let feed = self.regions.feed.in_use();
        let fed: Vec<_> = self.regions.feed.claims().leased(feed.start, feed.end).collect();
        for Leased { position: at, .. } in fed.into_iter().filter(|leased| leased.member == member) {
            self.take_back(around, at, member, ended);
        }
        for position in self.lot.held_by(member) {
            self.lot.end(position, ended);
        }
        self.remember();
    }

    /// Takes over what members have at the beginning of the ring, so that the floor rises. Look afterwards.
    pub(super) fn relieve(&mut self, around: &mut Around<'_>, now: Nanos) {
        let range = self.range(around.partition);
        for position in range {
            let leased = self.regions.live.leased(position, position + 1).next();
            match leased {
                Some(Leased { member, .. }) => {
                    let enter = |lot: &mut Lot, position| lot.take_held(position, member, now);
                    self.take_over(around, &[position], member, enter);
                }
                // Beyond it nothing helps.
                None if self.regions.live.unclaimed(position, position + 1) > 0 => break,
                None => {}
            }
        }
    }

    /// Gives up what is below `end` and nobody has; returns how many messages. What consumers have stays theirs, what is dead goes its
    /// way. Look afterwards.
    pub(super) fn purge(&mut self, around: &mut Around<'_>, end: u64) -> u64 {
        let range = self.range(around.partition);
        let live = (range.start..range.end.min(end)).filter(|position| self.regions.live.give_up(*position));
        let (live, feed) = (live.count(), &self.regions.feed);
        let is_below = |at: &u64| self.lot.at_feed(*at).is_some_and(|position| position < end);
        let fed = feed.in_use().filter(|at| is_below(at) && feed.claims().give_up(*at)).count();
        self.harvest(around);
        let waiting = self.lot.purge(end);
        waiting.iter().for_each(|position| self.forget_body(around, *position));
        self.remember();
        (live + fed + waiting.len()) as u64
    }

    /// Does all that there is to do now; lets at most so many dead messages go.
    pub(super) fn look(&mut self, around: &mut Around<'_>, now: Nanos, letters: usize) -> Looked {
        for member in self.members.keys().copied().collect::<Vec<_>>() {
            self.judge_member(around, member, now);
        }
        match self.scan_at {
            Some(at) if at <= now => self.scan(around, now),
            Some(_) => {}
            // Somebody has called. For a while nobody need call again, whether or not there is a lease by now.
            None => self.scan_at = Some(now + self.scan_every()),
        }
        self.expire(around, now);
        self.feed(around, now);
        let freed = self.regions.floor.raise(&self.regions.live);
        let dead = self.dead(letters);
        let more_dead = self.lot.counts().dead > self.burying.len() as u64;
        self.remember();
        Looked { freed, dead, more_dead, again_at: self.again_at(now) }
    }

    /// The message is in its dead-letter stream (or not: then it is tried again).
    pub(super) fn buried(&mut self, around: &mut Around<'_>, position: u64, done: bool) {
        self.burying.remove(&position);
        // That it has come the journal must know before its letters go elsewhere.
        let is_known = self.unjournaled.is_none() || mutations::is(Mutation::BurialsUnjournaled);
        if !done || is_known {
            self.abroad.remove(&position);
        }
        if done {
            self.lot.buried(position);
            self.forget_body(around, position);
            self.count_dead();
            self.remember();
            stops::at("letter.buried");
        }
    }

    fn count_dead(&mut self) {
        self.dead_total += 1;
        self.log.dead_total(self.dead_total);
    }

    /// The body of a message of the lot.
    pub(super) fn body(&self, position: u64) -> Option<&Body> {
        self.bodies.get(&position)
    }

    /// What is where.
    pub(super) fn info(&self, partition: &PartitionRegions, consumers: u32) -> SharedInfo {
        let (range, feed) = (self.range(partition), self.regions.feed.in_use());
        let (live, fed) = (&self.regions.live, self.regions.feed.claims());
        let counts = self.lot.counts();
        SharedInfo {
            consumers,
            ready: live.unclaimed(range.start, range.end)
                + fed.unclaimed(feed.start, feed.end)
                + counts.ready,
            leased: (live.leased(range.start, range.end).count() + fed.leased(feed.start, feed.end).count())
                as u64
                + counts.held,
            delayed: counts.delayed,
            dead: counts.dead,
            dead_total: self.dead_total,
        }
    }

    /// Arenas of the shard's own that go with the subscription.
    pub(super) fn lent(&self) -> impl Iterator<Item = u32> {
        self.lent.values().flatten().copied()
    }

    /// The positions from the floor to the end of the log, a ring's length at most, whatever the floor says.
    fn range(&self, partition: &PartitionRegions) -> std::ops::Range<u64> {
        let end = partition.ring.end();
        let oldest = end.saturating_sub(self.geometry().capacity());
        self.regions.floor.position().clamp(oldest, end)..end
    }

    fn geometry(&self) -> Geometry {
        self.regions.live.geometry()
    }

    fn leased_live(&self, around: &Around<'_>, member: u32) -> Vec<u64> {
        let range = self.range(around.partition);
        let leased = self.regions.live.leased(range.start, range.end);
        leased.filter(|leased| leased.member == member).map(|leased| leased.position).collect()
    }

    /// Takes messages over from the ring that this member still has: `enter` puts each into the lot. Returns how many.
    fn take_over(
        &mut self,
        around: &mut Around<'_>,
        positions: &[u64],
        member: u32,
        enter: impl Fn(&mut Lot, u64),
    ) -> usize {
        let live = &self.regions.live;
        let moving: Vec<u64> =
            positions.iter().copied().filter(|position| live.begin_move(*position, member)).collect();
        for position in &moving {
            // What is no message cannot be delivered again: its producer broke the protocol.
            // And a claim on what is in the lot already is forged: the lot knows better.
            let body = body::copy(live, *position, around.arenas, &mut self.buffer);
            let Some(body) = body.filter(|_| !self.lot.contains(*position)) else {
                self.lot.forget_lease(LeaseOn::Live(*position));
                continue;
            };
            enter(&mut self.lot, *position);
            if self.lot.contains(*position) {
                self.log.body(*position, &body);
                self.bodies.insert(*position, body);
            }
        }
        self.remember();
        for position in &moving {
            self.regions.live.end_move(*position, member);
        }
        moving.len()
    }

    /// Takes a message back out of the feed, if this member still has it.
    fn take_back(&mut self, around: &mut Around<'_>, at: u64, member: u32, ended: Ended) -> bool {
        let Some(position) = self.lot.at_feed(at) else { return false };
        self.unfeed(around, position, at, member, |lot| lot.end(position, ended))
    }

    /// Takes the message at `position` out of the feed, if this member still has it at `at`.
    fn unfeed(
        &mut self,
        around: &mut Around<'_>,
        position: u64,
        at: u64,
        member: u32,
        leave: impl FnOnce(&mut Lot),
    ) -> bool {
        if !self.regions.feed.claims().begin_move(at, member) {
            return false;
        }
        leave(&mut self.lot);
        self.remember();
        self.take_arenas_back(around, position);
        self.regions.feed.claims().end_move(at, member);
        true
    }

    fn judge_member(&mut self, around: &mut Around<'_>, member: u32, now: Nanos) {
        let Some(mut region) = self.members.remove(&member) else { return };
        region.judge.answer_call();
        while let Some(settlement) = region.judge.next_settlement() {
            // Remembered together with what comes of it.
            self.note_judged(member, region.judge.progress());
            if !self.judge(around, settlement, member, now) {
                region.judge.was_late();
                self.note_judged(member, region.judge.progress());
            } else if !self.lot.contains(settlement.position) {
                self.forget_body(around, settlement.position);
            }
        }
        self.members.insert(member, region);
        self.remember();
        if let Some(region) = self.members.get_mut(&member) {
            region.judge.confirm();
        }
    }

    /// Acts upon a settlement; `false`: the member did not have the message any more.
    fn judge(&mut self, around: &mut Around<'_>, settlement: Settlement, member: u32, now: Nanos) -> bool {
        let Settlement { position, attempt, verdict } = settlement;
        match self.lot.delivery(position) {
            Some((acquired, Some(at))) => {
                let feed = self.regions.feed.claims();
                match verdict {
                    _ if acquired != attempt => false,
                    // It was faster with its ack.
                    Verdict::Extend { .. } | Verdict::Ack if is(feed, at, ClaimState::Acked, member) => true,
                    _ if !is(feed, at, ClaimState::Leased, member) => false,
                    Verdict::Extend { .. } => self.lot.settle(settlement, member, now) != Judged::Late,
                    _ => self.unfeed(around, position, at, member, |lot| {
                        lot.settle(settlement, member, now);
                    }),
                }
            }
            Some(_) => self.lot.settle(settlement, member, now) != Judged::Late,
            None => {
                let (live, end) = (&self.regions.live, around.partition.ring.end());
                match verdict {
                    _ if attempt != 1 || position >= end => false,
                    Verdict::Extend { .. } | Verdict::Ack
                        if is(live, position, ClaimState::Acked, member) =>
                    {
                        true
                    }
                    _ if !is(live, position, ClaimState::Leased, member) => false,
                    Verdict::Ack => self.regions.live.ack(position, member),
                    Verdict::Extend { lease_ms } => {
                        self.lot.extend(LeaseOn::Live(position), member, lease_ms, now);
                        true
                    }
                    _ => {
                        let enter = |lot: &mut Lot, _| {
                            lot.settle_taken(settlement, now);
                        };
                        self.take_over(around, &[position], member, enter) > 0
                    }
                }
            }
        }
    }

    /// Takes note of all leases. Without any, members have to call when they get one.
    fn scan(&mut self, around: &mut Around<'_>, now: Nanos) {
        self.hold_what_blocks_the_feed(around, now);
        let (range, feed) = (self.range(around.partition), self.regions.feed.in_use());
        let (live, fed) = (&self.regions.live, self.regions.feed.claims());
        for Leased { position, member } in live.leased(range.start, range.end) {
            self.lot.saw_lease(LeaseOn::Live(position), member, now);
        }
        for Leased { position, member } in fed.leased(feed.start, feed.end) {
            self.lot.saw_lease(LeaseOn::Feed(position), member, now);
        }
        self.lot.forget_leases_but(|on| match on {
            LeaseOn::Live(position) => live.leased(position, position + 1).next().is_some(),
            LeaseOn::Feed(at) => fed.leased(at, at + 1).next().is_some(),
            LeaseOn::Held(_) => true,
        });
        let any = || {
            let end = around.partition.ring.end();
            live.leased(range.start, end).next().is_some()
                || fed.leased(feed.start, feed.end).next().is_some()
        };
        self.scan_at = if self.regions.watch.end(any) { None } else { Some(now + self.scan_every()) };
    }

    fn scan_every(&self) -> Nanos {
        let lease = u64::from(self.lot.settings().lease_ms) * MS;
        (lease / LOOKS_PER_LEASE).clamp(SCAN_EVERY_MIN, SCAN_EVERY_MAX)
    }

    /// A feed that is full because a member hangs gives its messages' slots up: the member has them all the same.
    fn hold_what_blocks_the_feed(&mut self, around: &mut Around<'_>, now: Nanos) {
        self.harvest(around);
        if self.regions.feed.has_room() || self.lot.next_ready().is_none() {
            return;
        }
        let in_use = self.regions.feed.in_use();
        let leased: Vec<_> = self.regions.feed.claims().leased(in_use.start, in_use.end).collect();
        for Leased { position: at, member } in leased {
            if let Some(position) = self.lot.at_feed(at)
                && self.lot.knows_lease(LeaseOn::Feed(at))
            {
                self.unfeed(around, position, at, member, |lot| lot.hold(position, member, now));
            }
        }
    }

    /// Leases that ran out.
    fn expire(&mut self, around: &mut Around<'_>, now: Nanos) {
        for (on, member) in self.lot.expired(now) {
            let ended = match on {
                LeaseOn::Live(position) => {
                    let enter = |lot: &mut Lot, position| lot.take(position, Ended::Expired);
                    self.take_over(around, &[position], member, enter) > 0
                }
                LeaseOn::Feed(at) => self.take_back(around, at, member, Ended::Expired),
                LeaseOn::Held(position) => {
                    self.lot.end(position, Ended::Expired);
                    true
                }
            };
            if !ended {
                // Settled at the last moment.
                self.lot.forget_lease(on);
            }
        }
    }

    /// What was acked in the feed is settled, and its slots can be used again.
    fn harvest(&mut self, around: &mut Around<'_>) {
        for at in self.regions.feed.in_use() {
            if is_acked(self.regions.feed.claims(), at)
                && let Some(position) = self.lot.at_feed(at)
            {
                self.lot.acked(position);
                self.forget_body(around, position);
            }
        }
        self.regions.feed.reuse();
    }

    /// Feeds what is ready, as far as there is room, and wakes who waits for it.
    fn feed(&mut self, around: &mut Around<'_>, now: Nanos) {
        self.lot.advance(now);
        if self.fill_feed(around) {
            around.data.ring(&around.partition.data);
        }
    }

    /// Whether anything was fed.
    fn fill_feed(&mut self, around: &mut Around<'_>) -> bool {
        let mut fed = false;
        loop {
            self.harvest(around);
            let (in_use, room) = (self.regions.feed.in_use(), self.regions.feed.room());
            let mut batch = Vec::new();
            while let Some((position, acquired, failed)) = self.lot.next_ready() {
                if batch.len() as u64 >= room || self.lent.len() >= LENT_MAX {
                    break;
                }
                let body = &self.bodies[&position];
                // Memory or descriptors have run out: later.
                let Ok(placement) = Placement::find(body, self.buffer.len(), around.arenas) else { break };
                let arenas: Vec<_> = placement.arenas().collect();
                if !arenas.is_empty() {
                    self.lent.insert(position, arenas);
                }
                self.lot.fed(position, in_use.end + batch.len() as u64);
                batch.push((FeedRecord { position, acquired, failed }, placement));
            }
            // Before anybody can claim them.
            self.remember();
            for (record, placement) in batch {
                self.regions.feed.write(record, &placement.message(&self.bodies[&record.position]));
                fed = true;
            }
            if self.lot.next_ready().is_none() {
                self.regions.refill.begin();
                return fed;
            }
            // Whoever acks something of the feed from here on calls.
            let (feed, lot) = (&self.regions.feed, &self.lot);
            let is_settled = |at| is_acked(feed.claims(), at) && lot.at_feed(at).is_some();
            if self.regions.refill.end(|| feed.in_use().any(is_settled)) {
                return fed;
            }
        }
    }

    fn forget_body(&mut self, around: &mut Around<'_>, position: u64) {
        self.bodies.remove(&position);
        self.take_arenas_back(around, position);
    }

    /// Whoever has mapped them keeps them for as long.
    fn take_arenas_back(&mut self, around: &mut Around<'_>, position: u64) {
        for arena in self.lent.remove(&position).into_iter().flatten() {
            around.arenas.drop(arena);
        }
    }

    /// At most so many dead messages that are not on their way yet. Without a dead-letter stream they are dropped.
    fn dead(&mut self, letters: usize) -> Vec<(u64, u32, DeathReason)> {
        if self.lot.settings().dead_letter.is_none() {
            for position in self.lot.dead().map(|(position, ..)| position).collect::<Vec<_>>() {
                self.lot.buried(position);
                self.bodies.remove(&position);
                self.count_dead();
            }
            return Vec::new();
        }
        let may_go = |position: &u64| !self.holds_letters || self.abroad.contains(position);
        let new =
            self.lot.dead().filter(|(position, ..)| !self.burying.contains(position) && may_go(position));
        let new: Vec<_> = new.take(letters).collect();
        self.burying.extend(new.iter().map(|(position, ..)| *position));
        self.abroad.extend(new.iter().map(|(position, ..)| *position));
        new.into_iter().map(|(position, attempts, _, reason)| (position, attempts, reason)).collect()
    }

    fn again_at(&self, now: Nanos) -> Option<Nanos> {
        let waits = self.lot.next_ready().is_some() || self.lot.counts().dead > 0;
        [self.lot.wakes_at(), self.scan_at, waits.then_some(now + RETRY)].into_iter().flatten().min()
    }
}

/// Whether the claim of `position` is in this state, by this member.
fn is(claims: &Claims<Mapped>, position: u64, state: ClaimState, member: u32) -> bool {
    let lap = claims.geometry().lap(position);
    claims.word(position) == ClaimWord { lap, state, member }
}

fn is_acked(claims: &Claims<Mapped>, position: u64) -> bool {
    let word = claims.word(position);
    word.lap == claims.geometry().lap(position) && word.state == ClaimState::Acked
}

/// How long a message still waits that was delayed until then, at this time of the wall clock: however that was set meanwhile, not
/// longer than anything may.
fn left(until_ns: u64, wall: u64) -> Nanos {
    until_ns.saturating_sub(wall).min(u64::from(RETRY_MS_MAX) * MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_that_is_read_again_is_over_in_time_however_the_clock_was_set() {
        let (hour, most) = (3600 * 1000 * MS, u64::from(RETRY_MS_MAX) * MS);
        let until_ns = 1_800_000_000 * 1000 * MS;
        assert_eq!(left(until_ns, until_ns - hour), hour);
        // Set forward: it is over. Set back by a year, or to 1970: no longer than the longest delay.
        assert_eq!(left(until_ns, until_ns + hour), 0);
        assert_eq!(left(until_ns, u64::MAX), 0);
        assert_eq!(left(until_ns, until_ns - 365 * 24 * hour), most);
        assert_eq!(left(until_ns, 0), most);
    }
}
