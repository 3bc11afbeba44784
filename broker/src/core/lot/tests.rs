//! The lot by examples, then against a reference model: a million random events, the state compared after each.
//!
//! The model is a plain list of records, scanned for every answer. Around it stands what the shard sees: claims of members
//! on the ring and on the feed, which members may also forge. What the model does not decide alone is how long a backoff
//! lasts: there it checks the bounds. The seed is fixed, so that every run tries the same, and a failure is reported as the
//! shortest history found.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};
use ringway_shm_protocol::control::message::Visibility;

use super::*;

const SETTINGS: SharedSettings = SharedSettings {
    lease_ms: 30_000,
    attempts_max: 2,
    backoff: Backoff { initial_ms: 0, multiplier_percent: 200, max_ms: 600_000, jitter_percent: 0 },
    dead_letter: None,
    single_active: false,
    visibility: Visibility::Committed,
};
const NACK: Verdict = Verdict::Nack { delay_ms: None };
const ANN: u32 = 1;
const BOB: u32 = 2;

fn on(position: u64, attempt: u32, verdict: Verdict) -> Settlement {
    Settlement { position, attempt, verdict }
}

/// Feeds the next message, which must be this one; returns how often it was acquired and failed before.
fn feed(lot: &mut Lot, position: u64, at: u64) -> (u32, u32) {
    let (next, acquired, failed) = lot.next_ready().unwrap();
    assert_eq!(next, position);
    lot.fed(position, at);
    (acquired, failed)
}

#[test]
fn at_the_limit_a_message_is_dead_and_the_last_failure_is_the_reason() {
    let mut lot = Lot::new(SETTINGS);
    lot.take(7, Ended::Died);
    assert_eq!(feed(&mut lot, 7, 0), (1, 1));
    assert_eq!(lot.settle(on(7, 2, NACK), ANN, 0), Judged::Done);
    assert_eq!(lot.dead().collect::<Vec<_>>(), [(7, 2, 2, DeathReason::Nacked)]);
    assert_eq!(lot.next_ready(), None);
    lot.buried(7);
    assert!(lot.is_empty());
}

#[test]
fn a_rejected_message_is_dead_at_once() {
    let mut lot = Lot::new(SharedSettings { attempts_max: 0, ..SETTINGS });
    assert_eq!(lot.settle_taken(on(7, 1, Verdict::Reject), 0), Judged::Done);
    assert_eq!(lot.dead().collect::<Vec<_>>(), [(7, 1, 1, DeathReason::Rejected)]);
}

#[test]
fn what_is_altered_counts_for_the_next_lease_delay_and_failure() {
    let mut lot = Lot::new(SharedSettings { lease_ms: 10, ..SETTINGS });
    lot.saw_lease(LeaseOn::Live(1), ANN, 0);
    lot.settle_taken(on(2, 1, NACK), 0);
    let backoff = Backoff { initial_ms: 5, ..SETTINGS.backoff };
    lot.alter(SharedSettings { lease_ms: 30, attempts_max: 1, backoff, ..SETTINGS });
    assert_eq!(
        (lot.next_ready(), lot.dead().count()),
        (Some((2, 1, 1)), 0),
        "what has failed has a try left"
    );
    lot.saw_lease(LeaseOn::Live(1), ANN, 0);
    lot.saw_lease(LeaseOn::Live(3), ANN, 0);
    assert_eq!(
        (lot.expired(10 * MS).len(), lot.expired(30 * MS).len()),
        (1, 2),
        "each has the lease that it began with"
    );
    feed(&mut lot, 2, 0);
    lot.settle(on(2, 2, NACK), ANN, 0);
    assert_eq!(lot.dead().count(), 1);
    lot.alter(SharedSettings { attempts_max: 0, backoff, ..SETTINGS });
    lot.settle_taken(on(4, 1, NACK), 0);
    assert_eq!(lot.dead().count(), 1, "what is dead stays so");
    assert_eq!(lot.counts().delayed, 1);
}

#[test]
fn what_is_given_back_untouched_has_not_failed() {
    let mut lot = Lot::new(SETTINGS);
    lot.take(7, Ended::Released);
    for at in 0..10 {
        assert_eq!(feed(&mut lot, 7, at), (1 + at as u32, 0));
        assert_eq!(lot.settle(on(7, 2 + at as u32, Verdict::Release), ANN, 0), Judged::Done);
    }
    assert_eq!(lot.dead().count(), 0);
}

#[test]
fn a_late_settlement_changes_nothing() {
    let mut lot = Lot::new(SETTINGS);
    lot.take_held(7, ANN, 0);
    assert_eq!(lot.settle(on(7, 1, Verdict::Ack), BOB, 0), Judged::Late, "it is Ann's");
    lot.end(7, Ended::Expired);
    assert_eq!(lot.settle(on(7, 1, Verdict::Ack), ANN, 0), Judged::Late, "it is nobody's");
    feed(&mut lot, 7, 0);
    assert_eq!(lot.settle(on(7, 1, Verdict::Ack), ANN, 0), Judged::Late, "it is another delivery");
    assert_eq!(lot.delivery(7), Some((2, Some(0))));
    assert_eq!(lot.settle(on(7, 2, Verdict::Ack), BOB, 0), Judged::Settled);
    assert_eq!(lot.settle(on(7, 2, Verdict::Ack), BOB, 0), Judged::Late, "it is gone");
}

#[test]
fn a_lease_begins_when_it_is_first_seen() {
    let mut lot = Lot::new(SETTINGS);
    lot.saw_lease(LeaseOn::Live(7), ANN, 5 * MS);
    lot.saw_lease(LeaseOn::Live(7), ANN, 9 * MS);
    assert_eq!(lot.wakes_at(), Some(30_005 * MS));
    assert!(lot.expired(30_005 * MS - 1).is_empty());
    assert_eq!(lot.expired(30_005 * MS), [(LeaseOn::Live(7), ANN)]);
}

#[test]
fn a_lease_goes_on_outside_of_the_ring_unless_it_is_anothers() {
    for (holder, end) in [(ANN, 30_000 * MS), (BOB, 30_004 * MS)] {
        let mut lot = Lot::new(SETTINGS);
        lot.saw_lease(LeaseOn::Live(7), ANN, 0);
        lot.take_held(7, holder, 4 * MS);
        assert_eq!(lot.wakes_at(), Some(end));
        assert_eq!(lot.expired(end), [(LeaseOn::Held(7), holder)]);
    }
}

#[test]
fn a_nacked_message_waits_for_its_backoff() {
    let backoff = Backoff { initial_ms: 100, max_ms: 150, ..SETTINGS.backoff };
    let mut lot = Lot::new(SharedSettings { attempts_max: 0, backoff, ..SETTINGS });
    lot.settle_taken(on(7, 1, NACK), 0);
    lot.advance(100 * MS - 1);
    assert_eq!(lot.counts(), LotCounts { delayed: 1, ..LotCounts::default() });
    lot.advance(100 * MS);
    feed(&mut lot, 7, 0);
    lot.settle(on(7, 2, NACK), ANN, 100 * MS);
    assert_eq!(lot.wakes_at(), Some(250 * MS), "not twice as long: at most 150 ms");
}

#[test]
fn what_waits_is_given_up_and_what_somebody_has_or_is_dead_is_not() {
    let mut lot = Lot::new(SharedSettings { attempts_max: 0, ..SETTINGS });
    lot.take_held(1, ANN, 0);
    lot.take(2, Ended::Released);
    feed(&mut lot, 2, 0);
    lot.settle_taken(on(3, 1, Verdict::Reject), 0);
    lot.settle_taken(on(4, 1, Verdict::Nack { delay_ms: Some(5) }), 0);
    lot.take(5, Ended::Expired);
    lot.take(6, Ended::Expired);
    assert_eq!(lot.purge(6), [5, 4], "and what is behind the end stays, too");
    assert_eq!(lot.counts(), LotCounts { ready: 1, delayed: 0, fed: 1, held: 1, dead: 1 });
    assert_eq!(lot.settle(on(1, 1, NACK), ANN, 0), Judged::Done, "it comes again to whoever had it");
    assert_eq!(lot.purge(6), [1]);
}

#[test]
fn without_a_limit_no_message_dies_of_failing_and_none_waits_that_need_not() {
    let mut lot = Lot::new(SharedSettings { attempts_max: 0, ..SETTINGS });
    lot.take(7, Ended::Died);
    // 2^1024 is more than a float holds.
    for at in 0..1500 {
        assert_eq!(feed(&mut lot, 7, at), (1 + at as u32, 1 + at as u32));
        lot.settle(on(7, 2 + at as u32, NACK), ANN, 0);
    }
    assert_eq!(lot.counts(), LotCounts { ready: 1, ..LotCounts::default() });
}

#[test]
fn a_forged_claim_on_a_message_of_the_lot_changes_nothing() {
    let mut lot = Lot::new(SETTINGS);
    lot.settle_taken(on(7, 1, Verdict::Nack { delay_ms: Some(5) }), 0);
    lot.saw_lease(LeaseOn::Live(7), ANN, 0);
    lot.take(7, Ended::Expired);
    lot.take_held(7, ANN, 0);
    assert_eq!(lot.settle_taken(on(7, 1, Verdict::Reject), 0), Judged::Late);
    assert_eq!((lot.wakes_at(), lot.knows_lease(LeaseOn::Live(7))), (Some(5 * MS), false));
    lot.advance(5 * MS);
    assert_eq!(lot.next_ready(), Some((7, 1, 1)));
}

// The reference model.

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ring,
    Ready,
    Delayed,
    Feed,
    Held,
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    position: u64,
    place: Place,
    /// Who has claimed it on the ring or on the feed, or holds it; 0: nobody.
    member: u32,
    at: u64,
    /// Its last delay.
    until: Nanos,
    acquired: u32,
    failed: u32,
    reason: DeathReason,
    /// The lease of who has it ends then at the earliest, whatever the lot has seen of it.
    not_before: Nanos,
    /// Some member has meddled with its lease.
    forged: bool,
}

/// What happens. `pick` chooses among the messages that it can happen to.
#[derive(Clone, Copy, Debug)]
enum Happening {
    ClaimLive {
        member: u32,
    },
    TakeOver {
        pick: u8,
        ended: Ended,
    },
    TakeHeld {
        pick: u8,
    },
    Feed,
    ClaimFed {
        pick: u8,
        member: u32,
    },
    Settle {
        pick: u8,
        who: Option<u32>,
        attempt: i8,
        verdict: Verdict,
    },
    SettleUnknown {
        position: u64,
        member: u32,
        verdict: Verdict,
    },
    AckWord {
        pick: u8,
    },
    Hold {
        pick: u8,
    },
    SeeLease {
        pick: u8,
    },
    SeeAllLeases,
    Wait {
        nanos: Nanos,
    },
    WaitUntilNextWake {
        but: Nanos,
    },
    Advance,
    Expire,
    Bury {
        pick: u8,
    },
    MemberStops {
        member: u32,
        ended: Ended,
    },
    ForgeLease {
        on: LeaseOn,
        member: u32,
    },
    ForgeMember {
        pick: u8,
        member: u32,
    },
    ForgeClaim {
        pick: u8,
        member: u32,
        ended: Ended,
        verdict: Verdict,
    },
    /// A successor goes on from what was remembered, as one record after another or as a whole; of what was fed last, so many
    /// messages had not been written to the feed yet.
    Succeed {
        whole: bool,
        unwritten: u64,
    },
    /// What nobody has is given up, but for so many positions at the end.
    Purge {
        but: u64,
    },
}

fn happening((kind, pick, member, choice): (u8, u8, u32, u8)) -> Happening {
    let ended = [Ended::Released, Ended::Expired, Ended::Died][usize::from(choice % 3)];
    let verdict = match choice % 12 {
        0 | 1 => Verdict::Ack,
        2..=4 => NACK,
        5 => Verdict::Nack { delay_ms: Some([0, 1, 20, u64::MAX][usize::from(pick % 4)]) },
        6 => Verdict::Reject,
        7 | 8 => Verdict::Release,
        _ => Verdict::Extend { lease_ms: [0, 7, 50, u64::MAX][usize::from(pick % 4)] },
    };
    match kind {
        0..=4 => Happening::ClaimLive { member },
        5..=7 => Happening::TakeOver { pick, ended },
        8..=9 => Happening::TakeHeld { pick },
        10..=15 => Happening::Feed,
        16..=21 => Happening::ClaimFed { pick, member },
        22..=29 => {
            let who = (choice % 16 < 3).then_some(member);
            let attempt = if choice / 16 < 2 { choice as i8 / 16 * 2 - 1 } else { 0 };
            Happening::Settle { pick, who, attempt, verdict }
        }
        30 => {
            let position = [u64::from(pick), u64::MAX, (1 << 50) - 1][usize::from(choice % 3)];
            Happening::SettleUnknown { position, member, verdict }
        }
        31..=32 => Happening::AckWord { pick },
        33..=34 => Happening::Hold { pick },
        35..=37 => Happening::SeeLease { pick },
        38..=39 => Happening::SeeAllLeases,
        40..=41 => Happening::Wait { nanos: [1, MS, 9 * MS, 60 * MS][usize::from(pick % 4)] },
        42..=44 => Happening::WaitUntilNextWake { but: u64::from(pick % 2) },
        45..=46 => Happening::Advance,
        47..=49 => Happening::Expire,
        50..=51 => Happening::Bury { pick },
        52 => Happening::MemberStops { member, ended },
        53 => {
            let on = [LeaseOn::Live(pick.into()), LeaseOn::Feed(pick.into())][usize::from(choice % 2)];
            Happening::ForgeLease { on, member }
        }
        54 => Happening::ForgeMember { pick, member },
        55 => Happening::Succeed { whole: choice % 2 == 0, unwritten: u64::from(pick % 4) },
        56 => Happening::Purge { but: u64::from(pick % 8) },
        _ => Happening::ForgeClaim { pick, member, ended, verdict },
    }
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = (0..58_u8, 0..64_u8, 1..4_u32, any::<u8>()).prop_map(happening);
    prop::collection::vec(one, 0..=1000)
}

fn settings() -> impl Strategy<Value = SharedSettings> {
    let backoff = (
        prop::sample::select(vec![0, 1, 20, 40_000_000]),
        prop::sample::select(vec![100, 150, 200, 10_000]),
        prop::sample::select(vec![30, 1000, 0, 43_200_000]),
        prop::sample::select(vec![0, 20, 100]),
    );
    let backoff = backoff.prop_map(|(initial_ms, multiplier_percent, max_ms, jitter_percent)| Backoff {
        initial_ms,
        multiplier_percent,
        max_ms,
        jitter_percent,
    });
    (prop::sample::select(vec![20, 0, 1, 43_200_000]), 0..5_u32, backoff).prop_map(
        |(lease_ms, attempts_max, backoff)| SharedSettings { lease_ms, attempts_max, backoff, ..SETTINGS },
    )
}

/// Shortest and longest backoff after `failed` failures before, in whole numbers.
fn backoff_bounds(backoff: &Backoff, failed: u32) -> (Nanos, Nanos) {
    let max = u128::from(backoff.max_ms) << 32;
    let mut delay = (u128::from(backoff.initial_ms) << 32).min(max);
    for _ in 0..failed.min(100_000) {
        delay = (delay * u128::from(backoff.multiplier_percent) / 100).min(max);
    }
    let longest = delay * u128::from(MS);
    let shortest = longest * u128::from(100 - backoff.jitter_percent) / 100;
    // Floats are as exact as one part in 10^15.
    (((shortest >> 32) as u64).saturating_sub(2), (longest >> 32) as u64 + 2)
}

struct World {
    settings: SharedSettings,
    now: Nanos,
    lot: Lot,
    records: Vec<Record>,
    leases: Vec<(LeaseOn, u32, Nanos)>,
    positions: u64,
    feed_positions: u64,
    taken: u64,
    settled: u64,
    buried: u64,
    /// What was acquired and failed when last looked at.
    attempts: Vec<(u64, u32, u32)>,
    /// What a successor knows.
    log: Vec<LotRecord>,
}

impl World {
    fn new(settings: SharedSettings, now: Nanos) -> Self {
        World {
            lot: Lot::new(settings.clone()),
            settings,
            now,
            records: Vec::new(),
            leases: Vec::new(),
            positions: 0,
            feed_positions: 0,
            taken: 0,
            settled: 0,
            buried: 0,
            attempts: Vec::new(),
            log: Vec::new(),
        }
    }

    fn at(&self, position: u64) -> Option<usize> {
        self.records.iter().position(|record| record.position == position)
    }

    fn pick(&self, pick: u8, possible: impl Fn(&Record) -> bool) -> Option<usize> {
        let possible: Vec<_> = (0..self.records.len()).filter(|i| possible(&self.records[*i])).collect();
        (!possible.is_empty()).then(|| possible[usize::from(pick) % possible.len()])
    }

    fn lease_end(&self, lease_ms: u64) -> Nanos {
        self.now.saturating_add(lease_ms.min(12 * 3600 * 1000) * 1_000_000)
    }

    fn new_lease(&self) -> Nanos {
        self.lease_end(self.settings.lease_ms.into())
    }

    fn lease_of(&self, on: LeaseOn, member: u32) -> Option<Nanos> {
        self.leases.iter().find(|lease| (lease.0, lease.1) == (on, member)).map(|lease| lease.2)
    }

    fn forget(&mut self, on: LeaseOn) {
        self.leases.retain(|lease| lease.0 != on);
    }

    fn see(&mut self, on: LeaseOn, member: u32) {
        self.lot.saw_lease(on, member, self.now);
        if self.lease_of(on, member).is_none() {
            self.forget(on);
            self.leases.push((on, member, self.new_lease()));
        }
    }

    fn lease_place(record: &Record) -> LeaseOn {
        match record.place {
            Place::Ring => LeaseOn::Live(record.position),
            Place::Feed => LeaseOn::Feed(record.at),
            _ => LeaseOn::Held(record.position),
        }
    }

    /// The lot has it, and nobody else.
    fn get_back(&mut self, i: usize) -> &mut Record {
        let on = Self::lease_place(&self.records[i]);
        self.forget(on);
        let record = &mut self.records[i];
        if record.place == Place::Ring {
            record.acquired = 1;
            self.taken += 1;
        }
        record.member = 0;
        record.place = Place::Ready;
        record
    }

    fn fail(&mut self, i: usize, reason: DeathReason) {
        let max = self.settings.attempts_max;
        let record = self.get_back(i);
        record.failed += 1;
        if max > 0 && record.failed >= max {
            record.place = Place::Dead;
            record.reason = reason;
        }
    }

    fn end(&mut self, i: usize, ended: Ended) {
        match ended {
            Ended::Released => {
                self.get_back(i);
            }
            Ended::Expired => self.fail(i, DeathReason::Expired),
            Ended::Died => self.fail(i, DeathReason::Died),
        }
    }

    fn hold(&mut self, i: usize) {
        let Record { position, member, .. } = self.records[i];
        let end = self.lease_of(Self::lease_place(&self.records[i]), member);
        self.get_back(i);
        self.records[i].place = Place::Held;
        self.records[i].member = member;
        self.leases.push((LeaseOn::Held(position), member, end.unwrap_or(self.new_lease())));
    }

    /// A verdict of who has it. The lot has judged already.
    fn judge(&mut self, i: usize, verdict: Verdict) -> Result<Judged, TestCaseError> {
        let Record { position, failed, .. } = self.records[i];
        match verdict {
            Verdict::Ack => {
                self.get_back(i);
                self.records.remove(i);
                self.settled += 1;
                return Ok(Judged::Settled);
            }
            Verdict::Nack { delay_ms } => {
                let (shortest, longest) = match delay_ms {
                    Some(delay_ms) => {
                        (delay_ms.saturating_mul(1_000_000), delay_ms.saturating_mul(1_000_000))
                    }
                    None => backoff_bounds(&self.settings.backoff, failed),
                };
                self.fail(i, DeathReason::Nacked);
                if self.records[i].place == Place::Ready {
                    let found = self.lot.delayed.iter().find(|(_, delayed)| *delayed == position);
                    if let Some((until, _)) = found {
                        self.records[i].place = Place::Delayed;
                        self.records[i].until = *until;
                        let bounds = self.now.saturating_add(shortest)..=self.now.saturating_add(longest);
                        prop_assert!(bounds.contains(until), "backs off until {until}, not {bounds:?}");
                    } else {
                        prop_assert_eq!(shortest, 0, "backs off");
                    }
                }
            }
            Verdict::Reject => {
                let record = self.get_back(i);
                record.failed += 1;
                record.place = Place::Dead;
                record.reason = DeathReason::Rejected;
            }
            Verdict::Release | Verdict::Extend { .. } => {
                self.get_back(i);
            }
        }
        Ok(Judged::Done)
    }

    /// What the shard does with a settlement.
    fn settle(&mut self, i: usize, settlement: Settlement, member: u32) -> TestCaseResult {
        let record = self.records[i];
        let Settlement { attempt, verdict, .. } = settlement;
        let has_it = record.member == member && attempt == record.acquired.max(1);
        let on = Self::lease_place(&record);
        match (record.place, verdict) {
            // The claim word says that it is not this member's.
            (Place::Feed, _) if record.member != member => return Ok(()),
            (Place::Ring, Verdict::Ack) if has_it => {
                self.records.remove(i);
            }
            (Place::Ring, Verdict::Extend { lease_ms }) if has_it => {
                self.lot.extend(on, member, lease_ms, self.now);
                self.extended(i, lease_ms);
            }
            (Place::Ring, _) if has_it => {
                let judged = self.lot.settle_taken(settlement, self.now);
                prop_assert_eq!(judged, self.judge(i, verdict)?);
            }
            (Place::Feed | Place::Held, _) if has_it => {
                let judged = self.lot.settle(settlement, member, self.now);
                if let Verdict::Extend { lease_ms } = verdict {
                    prop_assert_eq!(judged, Judged::Done);
                    self.extended(i, lease_ms);
                } else {
                    prop_assert_eq!(judged, self.judge(i, verdict)?);
                }
            }
            _ => prop_assert_eq!(self.lot.settle(settlement, member, self.now), Judged::Late),
        }
        Ok(())
    }

    fn extended(&mut self, i: usize, lease_ms: u64) {
        let (on, end) = (Self::lease_place(&self.records[i]), self.lease_end(lease_ms));
        self.forget(on);
        self.leases.push((on, self.records[i].member, end));
        self.records[i].not_before = end;
    }

    fn happens(&mut self, happening: Happening) -> TestCaseResult {
        let claimed = |record: &Record| record.member > 0 && record.place != Place::Held;
        let on_ring = |record: &Record| record.place == Place::Ring;
        match happening {
            Happening::ClaimLive { member } => {
                if self.records.len() < 8 {
                    let known = self.lease_of(LeaseOn::Live(self.positions), member);
                    self.records.push(Record {
                        position: self.positions,
                        place: Place::Ring,
                        member,
                        at: 0,
                        until: 0,
                        acquired: 0,
                        failed: 0,
                        reason: DeathReason::Died,
                        forged: false,
                        not_before: known.unwrap_or(self.new_lease()),
                    });
                    self.positions += 1;
                }
            }
            Happening::TakeOver { pick, ended } => {
                if let Some(i) = self.pick(pick, on_ring) {
                    self.lot.take(self.records[i].position, ended);
                    self.end(i, ended);
                }
            }
            Happening::Purge { but } => {
                let end = self.positions.saturating_sub(but);
                let is_given_up = |record: &Record| {
                    matches!(record.place, Place::Ready | Place::Delayed) && record.position < end
                };
                let mut expected: Vec<_> =
                    self.records.extract_if(.., |record| is_given_up(record)).collect();
                expected.sort_by_key(|record| record.position);
                let mut found = self.lot.purge(end);
                found.sort_unstable();
                prop_assert_eq!(found, expected.iter().map(|record| record.position).collect::<Vec<_>>());
                self.settled += expected.len() as u64;
            }
            Happening::TakeHeld { pick } => {
                if let Some(i) = self.pick(pick, on_ring) {
                    self.lot.take_held(self.records[i].position, self.records[i].member, self.now);
                    self.hold(i);
                }
            }
            Happening::Feed => {
                let ready = self.records.iter().filter(|record| record.place == Place::Ready);
                let first = ready.min_by_key(|record| record.position).copied();
                let expected = first.map(|record| (record.position, record.acquired, record.failed));
                prop_assert_eq!(self.lot.next_ready(), expected);
                if let Some(Record { position, until, .. }) = first {
                    prop_assert!(until <= self.now, "{position} comes again before its time");
                    let at = self.feed_positions;
                    self.feed_positions += 1;
                    self.lot.fed(position, at);
                    let i = self.at(position).unwrap();
                    let record = &mut self.records[i];
                    record.acquired += 1;
                    record.place = Place::Feed;
                    record.at = at;
                }
            }
            Happening::ClaimFed { pick, member } => {
                let unclaimed = |record: &Record| record.place == Place::Feed && record.member == 0;
                if let Some(i) = self.pick(pick, unclaimed) {
                    let known = self.lease_of(LeaseOn::Feed(self.records[i].at), member);
                    self.records[i].not_before = known.unwrap_or(self.new_lease());
                    self.records[i].member = member;
                }
            }
            Happening::Settle { pick, who, attempt, verdict } => {
                if let Some(i) = self.pick(pick, |_| true) {
                    let Record { position, member, acquired, .. } = self.records[i];
                    let attempt = acquired.max(1).saturating_add_signed(attempt.into());
                    self.settle(i, on(position, attempt, verdict), who.unwrap_or(member))?;
                }
            }
            Happening::SettleUnknown { position, member, verdict } => {
                if self.at(position).is_none() {
                    for attempt in [0, 1, u32::MAX] {
                        let judged = self.lot.settle(on(position, attempt, verdict), member, self.now);
                        prop_assert_eq!(judged, Judged::Late);
                    }
                }
            }
            Happening::AckWord { pick } => {
                if let Some(i) = self.pick(pick, claimed) {
                    if self.records[i].place == Place::Feed {
                        self.lot.acked(self.records[i].position);
                        self.get_back(i);
                        self.settled += 1;
                    }
                    self.records.remove(i);
                }
            }
            Happening::Hold { pick } => {
                if let Some(i) = self.pick(pick, |record| claimed(record) && record.place == Place::Feed) {
                    self.lot.hold(self.records[i].position, self.records[i].member, self.now);
                    self.hold(i);
                }
            }
            Happening::SeeLease { pick } => {
                if let Some(i) = self.pick(pick, claimed) {
                    self.see(Self::lease_place(&self.records[i]), self.records[i].member);
                }
            }
            Happening::SeeAllLeases => {
                let records = self.records.iter().filter(|record| claimed(record));
                let seen: Vec<_> = records.map(|record| (Self::lease_place(record), record.member)).collect();
                for (on, member) in &seen {
                    self.see(*on, *member);
                }
                let is_seen = |on| seen.iter().any(|(seen, _)| *seen == on);
                self.lot.forget_leases_but(is_seen);
                self.leases.retain(|lease| matches!(lease.0, LeaseOn::Held(_)) || is_seen(lease.0));
            }
            Happening::Wait { nanos } => self.now = self.now.saturating_add(nanos),
            Happening::WaitUntilNextWake { but } => {
                let wake = self.lot.wakes_at().unwrap_or(0).saturating_sub(but);
                self.now = self.now.max(wake);
            }
            Happening::Advance => {
                self.lot.advance(self.now);
                for record in &mut self.records {
                    if record.place == Place::Delayed && record.until <= self.now {
                        record.place = Place::Ready;
                    }
                }
            }
            Happening::Expire => self.expire()?,
            Happening::Bury { pick } => {
                if let Some(i) = self.pick(pick, |_| true) {
                    self.lot.buried(self.records[i].position);
                    if self.records[i].place == Place::Dead {
                        self.records.remove(i);
                        self.buried += 1;
                    }
                }
            }
            Happening::MemberStops { member, ended } => {
                let held = self.lot.held_by(member);
                for i in 0..self.records.len() {
                    let Record { position, place, member: who, .. } = self.records[i];
                    if who == member {
                        prop_assert_eq!(place == Place::Held, held.contains(&position));
                        match place {
                            Place::Ring => self.lot.take(position, ended),
                            _ => self.lot.end(position, ended),
                        }
                        self.end(i, ended);
                    }
                }
            }
            Happening::ForgeLease { on, member } => {
                self.see(on, member);
                // Members can end each other's leases.
                for record in self.records.iter_mut().filter(|record| Self::lease_place(record) == on) {
                    record.not_before = 0;
                    record.forged = true;
                }
            }
            Happening::ForgeMember { pick, member } => {
                if let Some(i) = self.pick(pick, claimed) {
                    let known = self.lease_of(Self::lease_place(&self.records[i]), member);
                    self.records[i].not_before = known.unwrap_or(self.new_lease());
                    self.records[i].member = member;
                    self.records[i].forged = true;
                }
            }
            Happening::Succeed { whole, unwritten } => self.succeed(whole, unwritten)?,
            Happening::ForgeClaim { pick, member, ended, verdict } => {
                if let Some(i) = self.pick(pick, |record| record.place != Place::Ring) {
                    let Record { position, place, acquired, .. } = self.records[i];
                    self.forget(LeaseOn::Live(position));
                    self.lot.take(position, ended);
                    self.lot.take_held(position, member, self.now);
                    let judged = self.lot.settle_taken(on(position, acquired, verdict), self.now);
                    prop_assert_eq!(judged, Judged::Late);
                    if !matches!(place, Place::Feed | Place::Held) {
                        self.lot.end(position, ended);
                    }
                    if place != Place::Feed {
                        self.lot.hold(position, member, self.now);
                        self.lot.acked(position);
                    }
                }
            }
        }
        self.log.extend(self.lot.take_changes());
        self.check()
    }

    fn succeed(&mut self, whole: bool, unwritten: u64) -> TestCaseResult {
        if whole {
            self.log = self.lot.records().collect();
        }
        self.lot = Lot::remember(self.settings.clone(), self.log.iter().copied(), self.now);
        // What is not written nobody has claimed.
        for _ in 0..unwritten {
            let last = |record: &Record| record.place == Place::Feed && record.at + 1 == self.feed_positions;
            let Some(i) = self.pick(0, |record| last(record) && record.member == 0) else { break };
            self.feed_positions -= 1;
            self.records[i].place = Place::Ready;
            self.records[i].acquired -= 1;
            self.attempts.retain(|attempts| attempts.0 != self.records[i].position);
        }
        let from = self.lot.fed_from().unwrap_or(0).min(self.feed_positions);
        self.lot.resume_feed(from..self.feed_positions);
        for (on, member, end) in self.leases.iter().filter(|(on, ..)| matches!(on, LeaseOn::Held(_))) {
            prop_assert_eq!(self.lot.leases.ends.get(on), Some(&(*member, *end)));
        }
        // A lease that somebody had forged, and that was forgotten, may be remembered.
        for record in self.records.iter_mut().filter(|record| record.forged) {
            record.not_before = 0;
        }
        self.leases = self.lot.leases.ends.iter().map(|(on, (member, end))| (*on, *member, *end)).collect();
        Ok(())
    }

    /// What the shard does when leases are over.
    fn expire(&mut self) -> TestCaseResult {
        for (on, member) in self.lot.expired(self.now) {
            let has_it = |record: &Record| Self::lease_place(record) == on && record.member == member;
            let Some(i) = self.pick(0, has_it) else {
                self.lot.forget_lease(on);
                self.forget(on);
                continue;
            };
            let Record { position, not_before, .. } = self.records[i];
            prop_assert!(
                not_before <= self.now,
                "the lease on {position} ends {not_before}, not {}",
                self.now
            );
            match on {
                LeaseOn::Live(_) => self.lot.take(position, Ended::Expired),
                LeaseOn::Feed(at) => {
                    prop_assert_eq!(self.lot.at_feed(at), Some(position));
                    self.lot.end(position, Ended::Expired);
                }
                LeaseOn::Held(_) => self.lot.end(position, Ended::Expired),
            }
            self.end(i, Ended::Expired);
        }
        Ok(())
    }

    fn check(&mut self) -> TestCaseResult {
        let lot = &self.lot;
        let count = |place| self.records.iter().filter(|record| record.place == place).count() as u64;
        let counts = LotCounts {
            ready: count(Place::Ready),
            delayed: count(Place::Delayed),
            fed: count(Place::Feed),
            held: count(Place::Held),
            dead: count(Place::Dead),
        };
        prop_assert_eq!(lot.counts(), counts);
        let inside = counts.ready + counts.delayed + counts.fed + counts.held + counts.dead;
        prop_assert_eq!(self.taken, inside + self.settled + self.buried, "nothing is lost, nothing is twice");
        prop_assert_eq!(lot.entries.len() as u64, inside);
        prop_assert_eq!(lot.is_empty(), inside == 0);

        // Positions are claimed in order, so the records are sorted.
        let mut attempts = Vec::new();
        let (mut ready, mut dead) = (lot.ready.iter(), lot.dead.iter());
        for record in &self.records {
            let Record { position, member, at, until, acquired, failed, reason, .. } = *record;
            let state = match record.place {
                Place::Ring => {
                    prop_assert!(!lot.contains(position));
                    continue;
                }
                Place::Ready => State::Ready,
                Place::Delayed => State::Delayed { until },
                Place::Feed => State::Fed { at },
                Place::Held => State::Held { member },
                Place::Dead => State::Dead { reason },
            };
            let entry = lot.entries.get(&position).copied();
            prop_assert_eq!(entry, Some(Entry { acquired, failed, state }), "{}", position);
            prop_assert!(failed <= acquired);
            let before = self.attempts.iter().find(|before| before.0 == position);
            prop_assert!(before.is_none_or(|before| before.1 <= acquired && before.2 <= failed));
            attempts.push((position, acquired, failed));
            match state {
                State::Ready => prop_assert_eq!(ready.next(), Some(&position)),
                State::Delayed { until } => prop_assert!(lot.delayed.contains(&(until, position))),
                State::Fed { at } => prop_assert_eq!(lot.at_feed(at), Some(position)),
                State::Held { member } => {
                    prop_assert!(self.lease_of(LeaseOn::Held(position), member).is_some())
                }
                State::Dead { .. } => prop_assert_eq!(dead.next(), Some(&position)),
            }
            let feed_position = (record.place == Place::Feed).then_some(at);
            prop_assert_eq!(lot.delivery(position), Some((acquired, feed_position)));
        }
        self.attempts = attempts;
        if counts.dead > 0 {
            let dead = self.records.iter().filter(|record| record.place == Place::Dead);
            let dead: Vec<_> = dead.map(|r| (r.position, r.acquired, r.failed, r.reason)).collect();
            prop_assert_eq!(lot.dead().collect::<Vec<_>>(), dead);
        }

        prop_assert_eq!(
            (lot.leases.ends.len(), lot.leases.queue.len()),
            (self.leases.len(), self.leases.len())
        );
        for (on, member, end) in &self.leases {
            prop_assert_eq!(lot.leases.ends.get(on), Some(&(*member, *end)));
        }
        let delays = self.records.iter().filter(|record| record.place == Place::Delayed);
        let times = delays.map(|record| record.until).chain(self.leases.iter().map(|lease| lease.2));
        prop_assert_eq!(lot.wakes_at(), times.min());
        let mut over: Vec<_> = self.leases.iter().filter(|lease| lease.2 <= self.now).collect();
        over.sort_by_key(|lease| (lease.2, lease.0));
        let expired = lot.expired(self.now);
        prop_assert!(
            expired.iter().eq(over.iter().map(|lease| (lease.0, lease.1)).collect::<Vec<_>>().iter())
        );
        Ok(())
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        max_shrink_iters: 100_000,
        ..ProptestConfig::default()
    }
}

#[test]
fn a_million_random_events_end_as_in_the_model() {
    let begin = prop::sample::select(vec![0, 1 << 50, u64::MAX - 200 * MS]);
    let mut runner = TestRunner::new(config(2100));
    let events = Cell::new(0);
    let outcome = runner.run(&(settings(), begin, happenings()), |(settings, begin, happenings)| {
        let mut world = World::new(settings, begin);
        events.set(events.get() + happenings.len());
        happenings.into_iter().try_for_each(|happening| world.happens(happening))
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(events.get() > 1_000_000, "{} events", events.get());
}

proptest! {
    #![proptest_config(config(5000))]

    #[test]
    fn a_backoff_keeps_its_bounds_and_is_the_same_again(
        settings in settings(),
        position in 0..1_u64 << 50,
        failed in prop_oneof![0..20_u32, 0..3000_u32, Just(u32::MAX)],
    ) {
        let delay = backoff(&settings.backoff, position, failed);
        let (shortest, longest) = backoff_bounds(&settings.backoff, failed);
        prop_assert!((shortest..=longest).contains(&delay), "{delay}, not {shortest} to {longest}");
        prop_assert_eq!(delay, backoff(&settings.backoff, position, failed));
    }
}
