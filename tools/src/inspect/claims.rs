//! What there is to say of a `shared` subscription: who has what, and what its lot holds.

use std::time::{Duration, Instant};

use ringway_broker::core::lot::{LeaseOn, State};
use ringway_broker::core::{Outline, SubscriptionOutline};
use ringway_broker::holdings::{HeldRing, HeldShared};
use ringway_client::SubscriptionMode;
use ringway_shm_protocol::words::ClaimState;
use serde::Serialize;

/// Ranges of the map.
const RANGES_MAX: u64 = 64;
/// So many leases are shown, the oldest.
const LEASES_MAX: usize = 20;
const NANOS_PER_MS: u64 = 1_000_000;

/// A `shared` subscription.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct SharedReport {
    pub(crate) subscription: String,
    /// The lease of its settings.
    pub(crate) lease_ms: u32,
    /// As `ringway subscription show` counts them.
    pub(crate) ready: u64,
    pub(crate) leased: u64,
    pub(crate) delayed: u64,
    pub(crate) dead: u64,
    pub(crate) dead_total: u64,
    /// Everything below is settled, or in the lot.
    pub(crate) floor: u64,
    /// What became of the positions from there to the end.
    pub(crate) claims: ClaimCounts,
    /// The same in ranges.
    pub(crate) map: Vec<ClaimRange>,
    pub(crate) lot: LotReport,
    pub(crate) members: Vec<MemberReport>,
    /// The oldest.
    pub(crate) leases: Vec<LeaseReport>,
    /// The shard looks at leases from time to time.
    pub(crate) watched: bool,
    /// Rounds in which what is settled is journaled: begun, done.
    pub(crate) rounds: (u64, u64),
}

/// Positions of a ring, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ClaimCounts {
    pub(crate) settled: u64,
    pub(crate) leased: u64,
    pub(crate) moving: u64,
    pub(crate) moved: u64,
    pub(crate) free: u64,
}

/// A part of the map.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClaimRange {
    pub(crate) from: u64,
    /// One past the last.
    pub(crate) to: u64,
    #[serde(flatten)]
    pub(crate) claims: ClaimCounts,
}

/// How many messages the lot has in which state.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct LotReport {
    pub(crate) messages: u64,
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) fed: u64,
    pub(crate) held: u64,
    pub(crate) dead: u64,
}

/// A consumer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MemberReport {
    pub(crate) member: u32,
    pub(crate) pid: u32,
    /// It may claim.
    pub(crate) active: bool,
    pub(crate) leases: u64,
    /// Verdicts that it has left.
    pub(crate) settlements: u64,
    /// Those that the shard has not judged.
    pub(crate) unjudged: u64,
    pub(crate) late: u64,
    /// It has called the shard, which has not looked since.
    pub(crate) calling: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) settlements_per_second: Option<f64>,
}

/// A message that a consumer has.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeaseReport {
    pub(crate) position: u64,
    pub(crate) member: u32,
    pub(crate) pid: Option<u32>,
    /// Where its claim is: ring, feed, lot.
    pub(crate) on: &'static str,
    /// Until the lease ends, where that was noted: it was extended. Others the shard times, and does not say.
    pub(crate) ends_in_ms: Option<u64>,
    /// How long it has been seen by now; only when it is watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seen_for_ms: Option<u64>,
    #[serde(skip)]
    first_seen: Option<Instant>,
}

impl ClaimCounts {
    fn add(&mut self, state: ClaimState) {
        *match state {
            ClaimState::Free => &mut self.free,
            ClaimState::Leased => &mut self.leased,
            ClaimState::Acked => &mut self.settled,
            ClaimState::Moving => &mut self.moving,
            ClaimState::Moved => &mut self.moved,
        } += 1;
    }

    fn add_all(&mut self, other: Self) {
        self.settled += other.settled;
        self.leased += other.leased;
        self.moving += other.moving;
        self.moved += other.moved;
        self.free += other.free;
    }

    /// One character for the most urgent of them.
    pub(crate) fn character(self) -> char {
        let by_urgency = [(self.leased, 'L'), (self.moving, 'm'), (self.free, '.'), (self.moved, '+')];
        by_urgency.into_iter().find(|(count, _)| *count > 0).map_or('#', |(_, character)| character)
    }
}

impl SharedReport {
    /// Of all `shared` subscriptions of a ring.
    pub(super) fn all(outline: &Outline, ring: &HeldRing, end: u64, now: u64) -> Vec<Self> {
        let of = |of: &SubscriptionOutline| {
            let SubscriptionMode::Shared(settings) = &of.mode else { return None };
            let shared = ring.shared.get(&of.gate.index)?;
            let mut report = Self {
                subscription: of.name.to_string(),
                lease_ms: settings.lease_ms,
                dead_total: shared.dead_total,
                ..Self::default()
            };
            report.add_ring(of, ring, shared, end);
            report.add_lot(shared, now);
            report.add_members(of, ring, shared);
            Some(report)
        };
        outline.subscriptions.iter().filter_map(of).collect()
    }

    fn add_ring(&mut self, of: &SubscriptionOutline, ring: &HeldRing, shared: &HeldShared, end: u64) {
        let Some(subscription) = ring.subscriptions.get(&of.gate.index) else { return };
        let oldest = end.saturating_sub(ring.view.identity().geometry.capacity());
        self.floor = subscription.cursor().position;
        self.watched = subscription.is_watched();
        self.rounds = subscription.rounds();
        let mut from = self.floor.clamp(oldest, end);
        let step = (end - from).div_ceil(RANGES_MAX).max(1);
        while from < end {
            let to = (from + step).min(end);
            let mut claims = ClaimCounts::default();
            for position in from..to {
                let (state, member) = shared.view.live().claim(position);
                claims.add(state);
                if state == ClaimState::Leased {
                    self.add_lease(shared, LeaseOn::Live(position), position, member);
                }
            }
            self.claims.add_all(claims);
            self.map.push(ClaimRange { from, to, claims });
            from = to;
        }
        (self.ready, self.leased) = (self.claims.free, self.claims.leased);
    }

    fn add_lot(&mut self, shared: &HeldShared, now: u64) {
        self.lot.messages = shared.lot.len() as u64;
        for (position, entry) in &shared.lot {
            match entry.state {
                State::Ready => (self.lot.ready, self.ready) = (self.lot.ready + 1, self.ready + 1),
                State::Delayed { .. } => self.lot.delayed += 1,
                State::Dead { .. } => self.lot.dead += 1,
                State::Held { member } => {
                    (self.lot.held, self.leased) = (self.lot.held + 1, self.leased + 1);
                    self.add_lease(shared, LeaseOn::Held(*position), *position, member);
                }
                State::Fed { at } => {
                    self.lot.fed += 1;
                    match shared.view.fed().claim(at) {
                        (ClaimState::Free, _) => self.ready += 1,
                        (ClaimState::Leased, member) => {
                            self.leased += 1;
                            self.add_lease(shared, LeaseOn::Feed(at), *position, member);
                        }
                        _ => {}
                    }
                }
            }
        }
        (self.delayed, self.dead) = (self.lot.delayed, self.lot.dead);
        for lease in &mut self.leases {
            // Until now it is the time itself.
            lease.ends_in_ms = lease.ends_in_ms.map(|end| end.saturating_sub(now) / NANOS_PER_MS);
        }
    }

    fn add_lease(&mut self, shared: &HeldShared, on: LeaseOn, position: u64, member: u32) {
        let noted = shared.leases.get(&on).filter(|(holder, _)| *holder == member);
        self.leases.push(LeaseReport {
            position,
            member,
            pid: None,
            on: match on {
                LeaseOn::Live(_) => "ring",
                LeaseOn::Feed(_) => "feed",
                LeaseOn::Held(_) => "lot",
            },
            ends_in_ms: noted.map(|(_, end)| *end),
            seen_for_ms: None,
            first_seen: None,
        });
    }

    fn add_members(&mut self, of: &SubscriptionOutline, ring: &HeldRing, shared: &HeldShared) {
        let active = ring.subscriptions.get(&of.gate.index).map_or(0, |view| view.active_member());
        for (member, pid) in &of.consumers {
            let words = shared.members.get(member);
            let (settlements, judged) = words.map_or((0, 0), |words| (words.written, words.judged));
            self.members.push(MemberReport {
                member: *member,
                pid: *pid,
                active: active == 0 || active == u64::from(*member),
                leases: self.leases.iter().filter(|lease| lease.member == *member).count() as u64,
                settlements,
                unjudged: settlements.saturating_sub(judged),
                late: words.map_or(0, |words| words.late),
                calling: words.is_some_and(|words| words.has_called),
                settlements_per_second: None,
            });
        }
        self.leases.sort_by_key(|lease| lease.position);
        self.leases.truncate(LEASES_MAX);
        for lease in &mut self.leases {
            let holder = of.consumers.iter().find(|(member, _)| *member == lease.member);
            lease.pid = holder.map(|(_, pid)| *pid);
        }
    }

    /// Adds what has happened since `before`.
    pub(super) fn compare(&mut self, before: &Self, seconds: f64) {
        let now = Instant::now();
        for lease in &mut self.leases {
            let same = |known: &&LeaseReport| {
                (known.position, known.member, known.on) == (lease.position, lease.member, lease.on)
            };
            let first_seen = before.leases.iter().find(same).map(|known| {
                known.first_seen.or_else(|| now.checked_sub(Duration::from_secs_f64(seconds))).unwrap_or(now)
            });
            let first_seen = first_seen.unwrap_or(now);
            lease.first_seen = Some(first_seen);
            lease.seen_for_ms = Some((now - first_seen).as_millis() as u64);
        }
        for member in &mut self.members {
            let known = before.members.iter().find(|known| known.member == member.member);
            member.settlements_per_second =
                known.and_then(|known| super::report::rate(member.settlements, known.settlements, seconds));
        }
    }
}
