//! The lot of one `shared` subscription: what the shard has taken over, and what becomes of it.
//!
//! ```text
//!  taken over ──▶ delayed (until) ──▶ ready ──▶ fed (feed position) ──▶ settled: gone
//!      │             ▲                  ▲         │        │
//!      │             │ failed, backoff  │ released│        │ hangs: its slot is wanted
//!      │             └──────────────────┴─────────┤        ▼
//!      ├──▶ held (member, deadline) ──────────────┴──── held
//!      └──▶ dead (reason): to the dead letters, then gone
//! ```
//!
//! 1. A pure state machine: time comes in, decisions go out. Bodies of messages are the shard's.
//! 2. An entry is in one state at a time, and every position has at most one entry.
//! 3. `acquired` counts deliveries, `failed` those that were nacked, rejected, or ended by a lease that ran out or a member
//!    that died. Only `failed` counts against the limit; a message that is given back untouched costs nothing.
//! 4. A settlement names the delivery that it is on: one of an earlier delivery is late, and changes nothing.
//! 5. Never early: a delay or a lease that ends at *t* is acted upon at *t* or later.
//! 6. What is in the lot is not taken over again, and only what is fed or held can end. Members write the claim words: a
//!    claim that they have forged on a message of the lot changes nothing here.

use std::collections::{BTreeMap, BTreeSet};

use ringway_shm_protocol::control::message::{Backoff, DeathReason, LEASE_MS_MAX, SharedSettings};
use ringway_shm_protocol::ring::{Settlement, Verdict};
use serde::{Deserialize, Serialize};

/// A time, in nanoseconds of the machine's monotonic clock.
pub type Nanos = u64;

const MS: Nanos = 1_000_000;

/// Why a delivery ended without being settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The lease ran out.
    Expired,
    /// Its member died.
    Died,
    /// Given back untouched.
    Released,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It waits for room in the feed.
    Ready,
    /// It waits for its time.
    Delayed {
        /// Not before then.
        until: Nanos,
    },
    /// It is in the feed: to be claimed, or claimed.
    Fed {
        /// At this position of the feed.
        at: u64,
    },
    /// A member has it, outside of any ring.
    Held {
        /// Which.
        member: u32,
    },
    /// It waits for room in the dead-letter stream.
    Dead {
        /// Why.
        reason: DeathReason,
    },
}

/// A message of the lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How often it was delivered.
    pub acquired: u32,
    /// How many of these deliveries failed.
    pub failed: u32,
    /// Where it is.
    pub state: State,
}

/// A message that was just taken over: the ring delivers once.
const TAKEN: Entry = Entry { acquired: 1, failed: 0, state: State::Ready };

/// How many messages are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LotCounts {
    /// Wait for room in the feed.
    pub ready: u64,
    /// Wait for their time.
    pub delayed: u64,
    /// In the feed: to be claimed, or claimed.
    pub fed: u64,
    /// Held by a member, outside of any ring.
    pub held: u64,
    /// Wait for room in the dead-letter stream.
    pub dead: u64,
}

/// Where a message of a lot is for whoever comes when all its consumers are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// It can be delivered.
    Ready,
    /// Not before this time.
    Delayed(Nanos),
    /// Never again.
    Dead(DeathReason),
}

/// See the module.
#[derive(Debug)]
pub struct Lot {
    settings: SharedSettings,
    entries: BTreeMap<u64, Entry>,
    ready: BTreeSet<u64>,
    delayed: BTreeSet<(Nanos, u64)>,
    dead: BTreeSet<u64>,
    fed: BTreeMap<u64, u64>,
    /// When the leases that the shard knows of end, of the ring, of the feed, and of those held.
    leases: Leases,
    /// What is to be remembered.
    changed: Vec<Changed>,
}

/// What may be otherwise than it was.
#[derive(Clone, Copy, Debug)]
enum Changed {
    Entry(u64),
    Lease(LeaseOn),
}

/// How something in a lot is, for a successor.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LotRecord(Record);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Record {
    /// A message; `None`: it is gone.
    Entry(u64, Option<Entry>),
    /// A lease that began otherwise than by being seen: whose it is, and when it ends.
    Lease(LeaseOn, u32, Nanos),
}

/// Whose lease, on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LeaseOn {
    /// A position of the ring.
    Live(u64),
    /// A position of the feed.
    Feed(u64),
    /// A message of the lot that is in no ring.
    Held(u64),
}

/// Leases by what they are on, and by when they end.
#[derive(Debug, Default)]
struct Leases {
    ends: BTreeMap<LeaseOn, (u32, Nanos)>,
    queue: BTreeSet<(Nanos, LeaseOn)>,
}

impl Leases {
    fn set(&mut self, on: LeaseOn, member: u32, end: Nanos) {
        self.remove(on);
        self.ends.insert(on, (member, end));
        self.queue.insert((end, on));
    }

    fn remove(&mut self, on: LeaseOn) {
        if let Some((_, end)) = self.ends.remove(&on) {
            self.queue.remove(&(end, on));
        }
    }
}

/// What a settlement comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It was the member's to say, and is done.
    Done,
    /// The message is gone from the lot: settled.
    Settled,
    /// The member did not have it any more.
    Late,
}

impl LotRecord {
    /// The message that it is about, if it is about one.
    pub fn position(&self) -> Option<u64> {
        match self.0 {
            Record::Entry(position, _) => Some(position),
            Record::Lease(..) => None,
        }
    }

    /// The lease that it is about, if it is about one: whose it is, and when it ends.
    pub fn lease(&self) -> Option<(LeaseOn, u32, Nanos)> {
        match self.0 {
            Record::Lease(on, member, end) => Some((on, member, end)),
            Record::Entry(..) => None,
        }
    }
}

impl Lot {
    /// An empty lot.
    pub fn new(settings: SharedSettings) -> Self {
        Self {
            settings,
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            dead: BTreeSet::new(),
            fed: BTreeMap::new(),
            leases: Leases::default(),
            changed: Vec::new(),
        }
    }

    /// A lot as another has said that it is, in order ([`take_changes`](Self::take_changes), [`records`](Self::records)). It
    /// must be told which of what was fed is in the feed, see [`resume_feed`](Self::resume_feed).
    pub fn remember(
        settings: SharedSettings,
        records: impl IntoIterator<Item = LotRecord>,
        now: Nanos,
    ) -> Self {
        let mut lot = Self::new(settings);
        for LotRecord(record) in records {
            match record {
                Record::Entry(position, entry) => {
                    if let Some(before) = lot.entries.remove(&position) {
                        lot.leave(position, before.state);
                    }
                    if let Some(entry) = entry {
                        lot.enter(position, entry, entry.state);
                    }
                }
                Record::Lease(on, member, end) => lot.leases.set(on, member, end),
            }
        }
        let holder = |position: &u64| match lot.entries.get(position)?.state {
            State::Held { member } => Some(member),
            _ => None,
        };
        let held = |on: LeaseOn, member: u32| match on {
            LeaseOn::Held(position) => holder(&position) == Some(member),
            LeaseOn::Live(_) | LeaseOn::Feed(_) => true,
        };
        let over = lot.leases.ends.iter().filter(|(on, (member, _))| !held(**on, *member));
        let over: Vec<_> = over.map(|(on, _)| *on).collect();
        over.into_iter().for_each(|on| lot.leases.remove(on));
        let held = lot.entries.iter().filter_map(|(position, entry)| match entry.state {
            State::Held { member } => Some((*position, member)),
            _ => None,
        });
        for (position, member) in held.collect::<Vec<_>>() {
            lot.saw_lease(LeaseOn::Held(position), member, now);
        }
        lot.changed.clear();
        lot
    }

    /// A lot that holds these: position, how often each was acquired and failed, and where it is. Nobody has any of them.
    pub fn restore(
        settings: SharedSettings,
        entries: impl IntoIterator<Item = (u64, u32, u32, Waits)>,
    ) -> Self {
        let mut lot = Self::new(settings);
        for (position, acquired, failed, waits) in entries {
            let state = match waits {
                Waits::Ready => State::Ready,
                Waits::Delayed(until) => State::Delayed { until },
                Waits::Dead(reason) => State::Dead { reason },
            };
            lot.enter(position, Entry { acquired, failed, state }, state);
        }
        lot
    }

    /// How often a message was acquired and failed, and where it is when its consumers are gone; `None`: it is not here.
    pub fn entry(&self, position: u64) -> Option<(u32, u32, Waits)> {
        let Entry { acquired, failed, state } = *self.entries.get(&position)?;
        let waits = match state {
            State::Ready | State::Fed { .. } | State::Held { .. } => Waits::Ready,
            State::Delayed { until } => Waits::Delayed(until),
            State::Dead { reason } => Waits::Dead(reason),
        };
        Some((acquired, failed, waits))
    }

    /// All messages in it, in order of their positions.
    pub fn entries(&self) -> impl Iterator<Item = (u64, Entry)> {
        self.entries.iter().map(|(position, entry)| (*position, *entry))
    }

    /// The positions of all messages in it.
    pub fn positions(&self) -> impl Iterator<Item = u64> {
        self.entries.keys().copied()
    }

    /// The first position of the feed that is in use, if any is.
    pub fn fed_from(&self) -> Option<u64> {
        self.fed.first_key_value().map(|(at, _)| *at)
    }

    /// What was fed at `feed.end` or later is not in the feed: that delivery has not been. What was fed before `feed.start` has
    /// been settled.
    pub fn resume_feed(&mut self, feed: std::ops::Range<u64>) {
        let out: Vec<_> =
            self.fed.iter().filter(|(at, _)| !feed.contains(at)).map(|(a, p)| (*a, *p)).collect();
        for (at, position) in out {
            if at < feed.start {
                self.acked(position);
            } else {
                let entry = self.entries[&position];
                self.leave(position, entry.state);
                let entry = Entry { acquired: entry.acquired.saturating_sub(1), ..entry };
                self.enter(position, entry, State::Ready);
            }
        }
    }

    /// What has changed since this was last asked.
    pub fn take_changes(&mut self) -> impl Iterator<Item = LotRecord> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let records = changed.filter_map(|changed| match changed {
            Changed::Entry(position) => Some(Record::Entry(position, self.entries.get(&position).copied())),
            Changed::Lease(on) => {
                self.leases.ends.get(&on).map(|(member, end)| Record::Lease(on, *member, *end))
            }
        });
        records.map(LotRecord)
    }

    /// All that is in it.
    pub fn records(&self) -> impl Iterator<Item = LotRecord> {
        let entries = self.entries.iter().map(|(position, entry)| Record::Entry(*position, Some(*entry)));
        let leases = self.leases.ends.iter().map(|(on, (member, end))| Record::Lease(*on, *member, *end));
        entries.chain(leases).map(LotRecord)
    }

    /// The subscription's settings.
    pub fn settings(&self) -> &SharedSettings {
        &self.settings
    }

    /// From now on it goes by these. Leases and delays that have begun stay as they are, and so does what is dead.
    pub fn alter(&mut self, settings: SharedSettings) {
        self.settings = settings;
    }

    /// How many messages are where.
    pub fn counts(&self) -> LotCounts {
        let (ready, delayed) = (self.ready.len() as u64, self.delayed.len() as u64);
        let (fed, dead) = (self.fed.len() as u64, self.dead.len() as u64);
        // An entry is in one state at a time: what is in none of the others is held.
        let held = self.entries.len() as u64 - ready - delayed - fed - dead;
        LotCounts { ready, delayed, fed, held, dead }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a message of this position is in it.
    pub fn contains(&self, position: u64) -> bool {
        self.entries.contains_key(&position)
    }

    /// When something is to be done that nobody tells of: a delay or a lease ends.
    pub fn wakes_at(&self) -> Option<Nanos> {
        let delay = self.delayed.first().map(|(until, _)| *until);
        let lease = self.leases.queue.first().map(|(end, _)| *end);
        [delay, lease].into_iter().flatten().min()
    }

    /// A lease was seen: it begins when it was first seen, so it never ends early.
    pub fn saw_lease(&mut self, on: LeaseOn, member: u32, now: Nanos) {
        if self.leases.ends.get(&on).is_none_or(|(known, _)| *known != member) {
            let end = now.saturating_add(u64::from(self.settings.lease_ms) * MS);
            self.leases.set(on, member, end);
        }
    }

    /// The leases on the ring and on the feed that are no longer there: settled.
    pub fn forget_leases_but(&mut self, seen: impl Fn(LeaseOn) -> bool) {
        let gone: Vec<_> = self
            .leases
            .ends
            .keys()
            .filter(|on| !matches!(on, LeaseOn::Held(_)) && !seen(**on))
            .copied()
            .collect();
        for on in gone {
            self.leases.remove(on);
        }
    }

    /// Leases that are over, with their members. The shard takes the messages over and reports that.
    pub fn expired(&self, now: Nanos) -> Vec<(LeaseOn, u32)> {
        let over = self.leases.queue.iter().take_while(|(end, _)| *end <= now);
        over.map(|(_, on)| (*on, self.leases.ends[on].0)).collect()
    }

    /// What a member has in the lot and in no ring.
    pub fn held_by(&self, member: u32) -> Vec<u64> {
        // Whatever is held has a lease, of the member that holds it.
        let held = self.leases.ends.range(LeaseOn::Held(0)..).filter(|(_, (holder, _))| *holder == member);
        let positions = held.filter_map(|(on, _)| match on {
            LeaseOn::Held(position) => Some(*position),
            _ => None,
        });
        positions.collect()
    }

    /// Whether this lease is known.
    pub fn knows_lease(&self, on: LeaseOn) -> bool {
        self.leases.ends.contains_key(&on)
    }

    /// A lease turned out to be over: settled.
    pub fn forget_lease(&mut self, on: LeaseOn) {
        self.leases.remove(on);
    }

    /// Which delivery of a message is under way, and where in the feed it is, if it is there. `None`: it is not in the lot.
    pub fn delivery(&self, position: u64) -> Option<(u32, Option<u64>)> {
        let entry = self.entries.get(&position)?;
        let at = match entry.state {
            State::Fed { at } => Some(at),
            _ => None,
        };
        Some((entry.acquired, at))
    }

    /// The message behind a feed position.
    pub fn at_feed(&self, at: u64) -> Option<u64> {
        self.fed.get(&at).copied()
    }

    /// A message was taken over from the ring, where it had been delivered once, and its delivery has ended. One that is in
    /// the lot stays as it is.
    pub fn take(&mut self, position: u64, ended: Ended) {
        self.leases.remove(LeaseOn::Live(position));
        if !self.contains(position) {
            self.ended(position, TAKEN, ended);
        }
    }

    /// A message was taken over from the ring while `member` has it: its lease goes on. One that is in the lot stays as it
    /// is.
    pub fn take_held(&mut self, position: u64, member: u32, now: Nanos) {
        if self.contains(position) {
            return self.leases.remove(LeaseOn::Live(position));
        }
        self.enter(position, TAKEN, State::Held { member });
        self.go_on(LeaseOn::Live(position), position, member, now);
    }

    /// A message was taken out of the feed while `member` has it, because its slot is wanted.
    pub fn hold(&mut self, position: u64, member: u32, now: Nanos) {
        let Some(entry) = self.entries.get(&position).copied() else { return };
        let State::Fed { at } = entry.state else { return };
        self.fed.remove(&at);
        self.enter(position, entry, State::Held { member });
        self.go_on(LeaseOn::Feed(at), position, member, now);
    }

    /// The lease that `member` has there is on the message held from now on. It begins now if that one is not known, or is
    /// another member's.
    fn go_on(&mut self, on: LeaseOn, position: u64, member: u32, now: Nanos) {
        self.saw_lease(on, member, now);
        let (_, end) = self.leases.ends[&on];
        self.leases.remove(on);
        self.set_lease(LeaseOn::Held(position), member, end);
    }

    fn set_lease(&mut self, on: LeaseOn, member: u32, end: Nanos) {
        self.leases.set(on, member, end);
        self.changed.push(Changed::Lease(on));
    }

    /// The delivery of a message that is fed or held has ended, and the shard has it back.
    pub fn end(&mut self, position: u64, ended: Ended) {
        let Some(entry) = self.entries.get(&position).copied() else { return };
        if matches!(entry.state, State::Fed { .. } | State::Held { .. }) {
            self.leave(position, entry.state);
            self.ended(position, entry, ended);
        }
    }

    fn ended(&mut self, position: u64, entry: Entry, ended: Ended) {
        let reason = match ended {
            Ended::Released => return self.enter(position, entry, State::Ready),
            Ended::Expired => DeathReason::Expired,
            Ended::Died => DeathReason::Died,
        };
        self.fail(position, entry, reason, None);
    }

    /// A message that is fed was acked in its claim word.
    pub fn acked(&mut self, position: u64) {
        if let Some(Entry { state: state @ State::Fed { .. }, .. }) = self.entries.get(&position).copied() {
            self.leave(position, state);
            self.remove(position);
        }
    }

    /// A delivery that is over with a failure: again after a while, or never.
    fn fail(&mut self, position: u64, mut entry: Entry, reason: DeathReason, retry_at: Option<Nanos>) {
        entry.failed = entry.failed.saturating_add(1);
        let limit = self.settings.attempts_max;
        let state = if limit > 0 && entry.failed >= limit {
            State::Dead { reason }
        } else {
            retry_at.map_or(State::Ready, |until| State::Delayed { until })
        };
        self.enter(position, entry, state);
    }

    /// A verdict of `member` on a message that is in the lot. The shard has made sure that a fed one is claimed by
    /// this member and by nobody else, and takes it out of the feed if this is not `Late`.
    pub fn settle(&mut self, settlement: Settlement, member: u32, now: Nanos) -> Judged {
        let Settlement { position, attempt, verdict } = settlement;
        let Some(entry) = self.entries.get(&position).copied() else { return Judged::Late };
        let on = match entry.state {
            State::Fed { at } => LeaseOn::Feed(at),
            State::Held { member: holder } if holder == member => LeaseOn::Held(position),
            _ => return Judged::Late,
        };
        if entry.acquired != attempt {
            return Judged::Late;
        }
        if let Verdict::Extend { lease_ms } = verdict {
            self.extend(on, member, lease_ms, now);
            return Judged::Done;
        }
        self.leave(position, entry.state);
        self.judge(position, entry, verdict, now)
    }

    /// A verdict of a member on a message that it has on the ring and that the shard has just taken over for it. It does not
    /// have it any more, so an `Extend` is a `Release`. `Late`: the message was in the lot, and stays as it is.
    pub fn settle_taken(&mut self, settlement: Settlement, now: Nanos) -> Judged {
        self.leases.remove(LeaseOn::Live(settlement.position));
        if self.contains(settlement.position) {
            return Judged::Late;
        }
        self.judge(settlement.position, TAKEN, settlement.verdict, now)
    }

    fn judge(&mut self, position: u64, entry: Entry, verdict: Verdict, now: Nanos) -> Judged {
        match verdict {
            Verdict::Ack => {
                self.remove(position);
                Judged::Settled
            }
            Verdict::Nack { delay_ms } => {
                let delay = delay_ms.map_or_else(
                    || backoff(&self.settings.backoff, position, entry.failed),
                    |delay_ms| delay_ms.saturating_mul(MS),
                );
                let retry_at = (delay > 0).then(|| now.saturating_add(delay));
                self.fail(position, entry, DeathReason::Nacked, retry_at);
                Judged::Done
            }
            Verdict::Reject => {
                let entry = Entry { failed: entry.failed.saturating_add(1), ..entry };
                self.enter(position, entry, State::Dead { reason: DeathReason::Rejected });
                Judged::Done
            }
            Verdict::Release | Verdict::Extend { .. } => {
                self.enter(position, entry, State::Ready);
                Judged::Done
            }
        }
    }

    /// A lease lasts from now on.
    pub fn extend(&mut self, on: LeaseOn, member: u32, lease_ms: u64, now: Nanos) {
        let lease = lease_ms.min(LEASE_MS_MAX.into()) * MS;
        self.set_lease(on, member, now.saturating_add(lease));
    }

    /// Delays that are over make their messages ready.
    pub fn advance(&mut self, now: Nanos) {
        while let Some((until, position)) = self.delayed.first().copied()
            && until <= now
        {
            let entry = self.entries[&position];
            self.leave(position, entry.state);
            self.enter(position, entry, State::Ready);
        }
    }

    /// The next message for the feed: its position, how often it was acquired and failed.
    pub fn next_ready(&self) -> Option<(u64, u32, u32)> {
        let position = *self.ready.first()?;
        let entry = self.entries[&position];
        Some((position, entry.acquired, entry.failed))
    }

    /// The message was written to the feed; its next delivery is the one after those so far.
    pub fn fed(&mut self, position: u64, at: u64) {
        let entry = self.entries[&position];
        self.leave(position, entry.state);
        let entry = Entry { acquired: entry.acquired.saturating_add(1), ..entry };
        self.enter(position, entry, State::Fed { at });
    }

    /// Messages that have failed too often, or were rejected: position, attempts, failures, reason.
    pub fn dead(&self) -> impl Iterator<Item = (u64, u32, u32, DeathReason)> {
        self.dead.iter().filter_map(|position| match self.entries[position] {
            Entry { acquired, failed, state: State::Dead { reason } } => {
                Some((*position, acquired, failed, reason))
            }
            _ => None,
        })
    }

    /// A dead message is in its dead-letter stream, or was dropped.
    pub fn buried(&mut self, position: u64) {
        if self.dead.remove(&position) {
            self.remove(position);
        }
    }

    /// Gives up what is below `end` and waits to be delivered again; returns its positions. What is fed, held or dead stays.
    pub fn purge(&mut self, end: u64) -> Vec<u64> {
        let delayed = self.delayed.iter().map(|(_, position)| position);
        let waiting = self.ready.iter().chain(delayed).filter(|position| **position < end);
        let given_up: Vec<_> = waiting.copied().collect();
        for position in &given_up {
            self.leave(*position, self.entries[position].state);
            self.remove(*position);
        }
        given_up
    }

    fn remove(&mut self, position: u64) {
        self.entries.remove(&position);
        self.changed.push(Changed::Entry(position));
    }

    fn leave(&mut self, position: u64, state: State) {
        match state {
            State::Ready => {
                self.ready.remove(&position);
            }
            State::Delayed { until } => {
                self.delayed.remove(&(until, position));
            }
            State::Fed { at } => {
                self.fed.remove(&at);
                self.leases.remove(LeaseOn::Feed(at));
            }
            State::Held { .. } => self.leases.remove(LeaseOn::Held(position)),
            State::Dead { .. } => {
                self.dead.remove(&position);
            }
        }
    }

    fn enter(&mut self, position: u64, entry: Entry, state: State) {
        match state {
            State::Ready => {
                self.ready.insert(position);
            }
            State::Delayed { until } => {
                self.delayed.insert((until, position));
            }
            State::Fed { at } => {
                self.fed.insert(at, position);
            }
            State::Held { .. } => {}
            State::Dead { .. } => {
                self.dead.insert(position);
            }
        }
        self.entries.insert(position, Entry { state, ..entry });
        self.changed.push(Changed::Entry(position));
    }
}

/// How long after its failure number `failed` (0 for the first) a message waits: initial × multiplier^failed, at most max,
/// less up to `jitter` percent. The jitter comes from position and count, so that the same history gives the same times.
fn backoff(backoff: &Backoff, position: u64, failed: u32) -> Nanos {
    // Zero times a factor that has grown infinite would be no number, and then the longest delay.
    if backoff.initial_ms == 0 {
        return 0;
    }
    let factor = f64::from(backoff.multiplier_percent) / 100.0;
    let delay = f64::from(backoff.initial_ms) * factor.powf(f64::from(failed));
    let delay = delay.min(f64::from(backoff.max_ms));
    let mut mixed = position ^ u64::from(failed) << 32;
    mixed = (mixed ^ mixed >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let part = (mixed >> 40) as f64 / (1 << 24) as f64;
    let jitter = f64::from(backoff.jitter_percent) / 100.0 * part;
    (delay * (1.0 - jitter) * MS as f64) as Nanos
}

#[cfg(test)]
mod tests;
