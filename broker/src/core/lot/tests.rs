//! The lot against its promises: a few stories, then random histories against a model that is one list, scanned for everything.

use proptest::prelude::*;

use super::*;

fn lot(change: impl FnOnce(&mut SharedSettings)) -> Lot {
    let mut settings = SharedSettings { lease_ms: 100, ..SharedSettings::default() };
    change(&mut settings);
    Lot::new(settings)
}

fn say(position: u64, attempt: u32, verdict: Verdict) -> Settlement {
    Settlement { position, attempt, verdict }
}

const NACK: Verdict = Verdict::Nack { delay_ms: None };

#[test]
fn what_has_failed_as_often_as_it_may_is_dead_with_the_reason() {
    let mut lot = lot(|settings| settings.attempts_max = 2);
    lot.take(7, Ended::Expired);
    assert_eq!(lot.next_ready(), Some((7, 1, 1)));
    lot.fed(7, 0);
    assert_eq!(lot.delivery(7), Some((2, Some(0))));
    lot.end(7, Ended::Died);
    assert_eq!(lot.dead(), [(7, 2, 2, DeathReason::Died)]);
    lot.buried(7);
    assert!(lot.is_empty());
}

#[test]
fn what_is_given_back_has_been_delivered_and_has_not_failed() {
    let mut lot = lot(|settings| settings.attempts_max = 1);
    lot.take(7, Ended::Released);
    for at in 0..5 {
        lot.fed(7, at);
        assert_eq!(lot.settle(say(7, at as u32 + 2, Verdict::Release), 1, 0), Judged::Done);
    }
    assert_eq!((lot.next_ready(), lot.dead()), (Some((7, 6, 0)), Vec::new()));
}

#[test]
fn without_a_limit_nothing_is_dead_but_what_was_rejected() {
    let mut lot = lot(|settings| settings.attempts_max = 0);
    lot.take(7, Ended::Died);
    for at in 0..1000 {
        lot.fed(7, at);
        lot.end(7, Ended::Expired);
    }
    assert_eq!(lot.next_ready(), Some((7, 1001, 1001)));
    lot.fed(7, 1000);
    lot.settle(say(7, 1002, Verdict::Reject), 1, 0);
    assert_eq!(lot.dead(), [(7, 1002, 1002, DeathReason::Rejected)]);
}

#[test]
fn a_verdict_on_an_earlier_delivery_is_late_and_changes_nothing() {
    let mut lot = lot(|_| ());
    lot.take(7, Ended::Expired);
    lot.fed(7, 0);
    for verdict in [Verdict::Ack, NACK, Verdict::Reject, Verdict::Release, Verdict::Extend { lease_ms: 9 }] {
        assert_eq!(lot.settle(say(7, 1, verdict), 1, 0), Judged::Late);
        assert_eq!(lot.settle(say(8, 2, verdict), 1, 0), Judged::Late, "unknown");
    }
    assert_eq!((lot.delivery(7), lot.wakes_at()), (Some((2, Some(0))), None));
}

#[test]
fn a_lease_begins_when_it_is_first_seen_and_goes_on_where_the_message_is_held() {
    let mut lot = lot(|_| ());
    lot.saw_lease(LeaseOn::Live(7), 1, 5 * MS);
    lot.saw_lease(LeaseOn::Live(7), 1, 50 * MS);
    assert_eq!(lot.wakes_at(), Some(105 * MS));
    lot.take_held(7, 1, 60 * MS);
    assert_eq!(lot.wakes_at(), Some(105 * MS));
    assert!(lot.expired(105 * MS - 1).is_empty());
    assert_eq!(lot.expired(105 * MS), [(LeaseOn::Held(7), 1)]);
    assert_eq!(lot.settle(say(7, 1, Verdict::Ack), 2, 0), Judged::Late, "another member's");
    assert_eq!(lot.settle(say(7, 1, Verdict::Extend { lease_ms: 1000 }), 1, 100 * MS), Judged::Done);
    assert_eq!(lot.wakes_at(), Some(1100 * MS));
    assert_eq!(lot.settle(say(7, 1, Verdict::Ack), 1, 200 * MS), Judged::Settled);
    assert!(lot.is_empty() && !lot.has_leases());
}

#[test]
fn a_backoff_grows_to_its_limit_and_is_shortened_by_no_more_than_its_jitter() {
    let settings = Backoff { initial_ms: 10, multiplier_percent: 300, max_ms: 500, jitter_percent: 40 };
    for position in 0..1000 {
        for (failed, whole) in [(0, 10), (1, 30), (2, 90), (3, 270), (4, 500), (u32::MAX, 500)] {
            let delay = backoff(&settings, position, failed);
            assert!(delay <= whole * MS && delay >= whole * MS * 6 / 10, "{failed}: {delay}");
            assert_eq!(delay, backoff(&settings, position, failed), "the same history, the same times");
        }
    }
    let usual = Backoff::default();
    assert_eq!(backoff(&usual, 5, 5), 0);
}

/// Where the model has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// In the ring, not delivered.
    Ring,
    /// In the ring, with a member.
    Live(u32),
    Ready,
    Delayed(Nanos),
    /// In the feed, with nobody or a member.
    Fed(u64, Option<u32>),
    Held(u32),
    Dead(DeathReason),
    Settled,
    Buried,
}

/// A message of the model: one line of a list.
#[derive(Clone, Copy, Debug)]
struct Line {
    place: Where,
    acquired: u32,
    failed: u32,
    /// When its lease ends, if the shard has seen it.
    lease: Option<Nanos>,
}

#[derive(Clone, Debug)]
enum Step {
    Publish,
    Claim { member: u32, pick: usize },
    Scan,
    AckByClaim { pick: usize },
    Expire,
    Settle { pick: usize, member: Option<u32>, attempt: i8, verdict: Verdict },
    Relieve { pick: usize },
    Feed,
    HoldFed { pick: usize },
    Bury,
    Die { member: u32, closed: bool },
    Pass(Nanos),
}

const MEMBERS: u32 = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Ack),
        3 => Just(NACK),
        2 => (0..300_u64).prop_map(|ms| Verdict::Nack { delay_ms: Some(ms) }),
        1 => Just(Verdict::Reject),
        2 => Just(Verdict::Release),
        2 => (0..300_u64).prop_map(|lease_ms| Verdict::Extend { lease_ms }),
        1 => Just(Verdict::Extend { lease_ms: u64::MAX }),
    ];
    let settle = (
        0..64_usize,
        prop::option::weighted(0.2, 1..=MEMBERS),
        prop_oneof![8 => Just(0_i8), 1 => -1..2_i8],
        verdict,
    );
    let step = prop_oneof![
        6 => Just(Step::Publish),
        8 => (1..=MEMBERS, 0..64_usize).prop_map(|(member, pick)| Step::Claim { member, pick }),
        3 => Just(Step::Scan),
        3 => (0..64_usize).prop_map(|pick| Step::AckByClaim { pick }),
        3 => Just(Step::Expire),
        8 => settle.prop_map(|(pick, member, attempt, verdict)| Step::Settle { pick, member, attempt, verdict }),
        2 => (0..64_usize).prop_map(|pick| Step::Relieve { pick }),
        6 => Just(Step::Feed),
        2 => (0..64_usize).prop_map(|pick| Step::HoldFed { pick }),
        2 => Just(Step::Bury),
        1 => (1..=MEMBERS, any::<bool>()).prop_map(|(member, closed)| Step::Die { member, closed }),
        4 => (0..200 * MS).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..200)
}

/// Plays the shard and the members, and keeps the list.
struct Model {
    lot: Lot,
    settings: SharedSettings,
    lines: Vec<Line>,
    now: Nanos,
    fed: u64,
}

impl Model {
    fn new(settings: SharedSettings) -> Self {
        Self { lot: Lot::new(settings.clone()), settings, lines: Vec::new(), now: 1, fed: 0 }
    }

    /// One of the positions whose line is like this.
    fn pick(&self, pick: usize, like: impl Fn(&Line) -> bool) -> Option<usize> {
        let found: Vec<usize> =
            (0..self.lines.len()).filter(|position| like(&self.lines[*position])).collect();
        (!found.is_empty()).then(|| found[pick % found.len()])
    }

    fn lease(&self) -> Nanos {
        self.now + Nanos::from(self.settings.lease_ms) * MS
    }

    /// A delivery has failed.
    fn fail(&mut self, position: usize, reason: DeathReason, retry_at: Option<Nanos>) {
        let limit = self.settings.attempts_max;
        let line = &mut self.lines[position];
        line.failed += 1;
        line.lease = None;
        line.place = if limit > 0 && line.failed >= limit {
            Where::Dead(reason)
        } else {
            retry_at.map_or(Where::Ready, Where::Delayed)
        };
    }

    fn end(&mut self, position: usize, ended: Ended) {
        match ended {
            Ended::Released => {
                self.lines[position].place = Where::Ready;
                self.lines[position].lease = None;
            }
            Ended::Expired => self.fail(position, DeathReason::Expired, None),
            Ended::Died => self.fail(position, DeathReason::Died, None),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish => {
                self.lines.push(Line { place: Where::Ring, acquired: 0, failed: 0, lease: None });
            }
            Step::Claim { member, pick } => {
                let free = |line: &Line| matches!(line.place, Where::Ring | Where::Fed(_, None));
                let Some(position) = self.pick(pick, free) else { return };
                let line = &mut self.lines[position];
                line.place = match line.place {
                    Where::Fed(at, None) => Where::Fed(at, Some(member)),
                    _ => {
                        line.acquired = 1;
                        Where::Live(member)
                    }
                };
            }
            Step::Scan => {
                let lease = self.lease();
                for (position, line) in self.lines.iter_mut().enumerate() {
                    let (on, member) = match line.place {
                        Where::Live(member) => (LeaseOn::Live(position as u64), member),
                        Where::Fed(at, Some(member)) => (LeaseOn::Feed(at), member),
                        _ => continue,
                    };
                    self.lot.saw_lease(on, member, self.now);
                    line.lease.get_or_insert(lease);
                }
                let lines = &self.lines;
                self.lot.forget_leases_but(|on| match on {
                    LeaseOn::Live(position) => matches!(lines[position as usize].place, Where::Live(_)),
                    LeaseOn::Feed(at) => {
                        lines.iter().any(|line| matches!(line.place, Where::Fed(of, Some(_)) if of == at))
                    }
                    LeaseOn::Held(_) => true,
                });
            }
            Step::AckByClaim { pick } => {
                let theirs = |line: &Line| matches!(line.place, Where::Live(_) | Where::Fed(_, Some(_)));
                let Some(position) = self.pick(pick, theirs) else { return };
                if let Where::Fed(at, _) = self.lines[position].place {
                    assert_eq!(self.lot.at_feed(at), Some(position as u64));
                    self.lot.acked(position as u64);
                } else {
                    // Nobody tells the lot; the shard finds it when the lease seems to end.
                    self.lot.forget_lease(LeaseOn::Live(position as u64));
                }
                self.lines[position].place = Where::Settled;
                self.lines[position].lease = None;
            }
            Step::Expire => self.expire(),
            Step::Settle { pick, member, attempt, verdict } => self.settle(pick, member, attempt, verdict),
            Step::Relieve { pick } => {
                let Some(position) = self.pick(pick, |line| matches!(line.place, Where::Live(_))) else {
                    return;
                };
                let Where::Live(member) = self.lines[position].place else { return };
                self.lot.take_held(position as u64, member, self.now);
                let lease = self.lease();
                self.lines[position].place = Where::Held(member);
                self.lines[position].lease.get_or_insert(lease);
            }
            Step::Feed => self.feed(),
            Step::HoldFed { pick } => {
                let theirs = |line: &Line| matches!(line.place, Where::Fed(_, Some(_)));
                let Some(position) = self.pick(pick, theirs) else { return };
                let Where::Fed(_, Some(member)) = self.lines[position].place else { return };
                self.lot.hold(position as u64, member, self.now);
                let lease = self.lease();
                self.lines[position].place = Where::Held(member);
                self.lines[position].lease.get_or_insert(lease);
            }
            Step::Bury => {
                for (position, ..) in self.lot.dead() {
                    self.lot.buried(position);
                    self.lines[position as usize].place = Where::Buried;
                }
            }
            Step::Die { member, closed } => {
                self.die(member, if closed { Ended::Released } else { Ended::Died })
            }
            Step::Pass(time) => self.now += time,
        }
    }

    fn expire(&mut self) {
        let expired = self.lot.expired(self.now);
        let due = self.lines.iter().filter(|line| line.lease.is_some_and(|end| end <= self.now)).count();
        assert_eq!(expired.len(), due, "never early, and never forgotten");
        for (on, member) in expired {
            let position = match on {
                LeaseOn::Live(position) => {
                    assert_eq!(self.lines[position as usize].place, Where::Live(member));
                    self.lot.take(position, Ended::Expired);
                    position
                }
                LeaseOn::Feed(at) => {
                    let position = self.lot.at_feed(at).expect("a lease in the feed is on a message");
                    assert_eq!(self.lines[position as usize].place, Where::Fed(at, Some(member)));
                    self.lot.end(position, Ended::Expired);
                    position
                }
                LeaseOn::Held(position) => {
                    assert_eq!(self.lines[position as usize].place, Where::Held(member));
                    self.lot.end(position, Ended::Expired);
                    position
                }
            };
            self.end(position as usize, Ended::Expired);
        }
    }

    fn settle(&mut self, pick: usize, other: Option<u32>, attempt: i8, verdict: Verdict) {
        let any = |line: &Line| !matches!(line.place, Where::Ring);
        let Some(position) = self.pick(pick, any) else { return };
        let line = self.lines[position];
        let holder = match line.place {
            Where::Live(member) | Where::Held(member) | Where::Fed(_, Some(member)) => Some(member),
            _ => None,
        };
        let member = other.or(holder).unwrap_or(1);
        let attempt = line.acquired.saturating_add_signed(attempt.into());
        let settlement = say(position as u64, attempt, verdict);
        let is_its_own = holder == Some(member) && attempt == line.acquired;
        let judged = match line.place {
            // What the shard looks up in the claim words.
            Where::Live(_) if !is_its_own => return,
            Where::Live(_) => match verdict {
                Verdict::Extend { lease_ms } => {
                    self.lot.extend(LeaseOn::Live(position as u64), member, lease_ms, self.now);
                    Judged::Done
                }
                _ => self.lot.settle_taken(settlement, self.now),
            },
            Where::Fed(_, holder) if holder != Some(member) => return,
            _ => self.lot.settle(settlement, member, self.now),
        };
        assert_eq!(judged != Judged::Late, is_its_own, "late, or not");
        if !is_its_own {
            return;
        }
        assert_eq!(judged == Judged::Settled, verdict == Verdict::Ack);
        match verdict {
            Verdict::Ack => self.lines[position].place = Where::Settled,
            Verdict::Nack { delay_ms } => {
                let delay = delay_ms.map_or_else(
                    || backoff(&self.settings.backoff, position as u64, line.failed),
                    |ms| ms * MS,
                );
                let retry_at = (delay > 0).then_some(self.now + delay);
                self.fail(position, DeathReason::Nacked, retry_at);
            }
            Verdict::Reject => {
                self.lines[position].failed += 1;
                self.lines[position].place = Where::Dead(DeathReason::Rejected);
            }
            Verdict::Release => self.lines[position].place = Where::Ready,
            Verdict::Extend { lease_ms } => {
                let lease = lease_ms.min(LEASE_MS_MAX.into()) * MS;
                self.lines[position].lease = Some(self.now + lease);
                return;
            }
        }
        self.lines[position].lease = None;
    }

    fn feed(&mut self) {
        self.lot.advance(self.now);
        for line in &mut self.lines {
            if matches!(line.place, Where::Delayed(until) if until <= self.now) {
                line.place = Where::Ready;
            }
        }
        let expected = (0..self.lines.len()).find(|position| self.lines[*position].place == Where::Ready);
        let found = self.lot.next_ready();
        assert_eq!(found.map(|(position, ..)| position as usize), expected, "the lowest first");
        if let Some((position, acquired, failed)) = found {
            let line = &mut self.lines[position as usize];
            assert_eq!((acquired, failed), (line.acquired, line.failed));
            self.lot.fed(position, self.fed);
            line.place = Where::Fed(self.fed, None);
            line.acquired += 1;
            self.fed += 1;
        }
    }

    fn die(&mut self, member: u32, ended: Ended) {
        for position in 0..self.lines.len() {
            match self.lines[position].place {
                Where::Live(holder) if holder == member => self.lot.take(position as u64, ended),
                Where::Fed(_, Some(holder)) if holder == member => self.lot.end(position as u64, ended),
                Where::Held(holder) if holder == member => {
                    assert!(self.lot.held_by(member).contains(&(position as u64)));
                    self.lot.end(position as u64, ended);
                }
                _ => continue,
            }
            self.end(position, ended);
        }
        assert!(self.lot.held_by(member).is_empty());
    }

    fn check(&self) {
        let count =
            |like: fn(&Where) -> bool| self.lines.iter().filter(|line| like(&line.place)).count() as u64;
        let expected = LotCounts {
            ready: count(|place| matches!(place, Where::Ready)),
            delayed: count(|place| matches!(place, Where::Delayed(_))),
            fed: count(|place| matches!(place, Where::Fed(..))),
            held: count(|place| matches!(place, Where::Held(_))),
            dead: count(|place| matches!(place, Where::Dead(_))),
        };
        assert_eq!(self.lot.counts(), expected, "published = settled + buried + in the ring + in the lot");
        let until = |line: &Line| match line.place {
            Where::Delayed(until) => Some(until),
            _ => line.lease,
        };
        assert_eq!(self.lot.wakes_at(), self.lines.iter().filter_map(until).min());
        let dead: Vec<_> = (0..self.lines.len())
            .filter_map(|position| match self.lines[position] {
                Line { place: Where::Dead(reason), acquired, failed, .. } => {
                    Some((position as u64, acquired, failed, reason))
                }
                _ => None,
            })
            .collect();
        assert_eq!(self.lot.dead(), dead);
        assert!(self.lines.iter().all(|line| line.failed <= line.acquired));
    }
}

proptest! {
    // About 100 steps each: a million and more.
    #![proptest_config(ProptestConfig { cases: 10_500, ..ProptestConfig::default() })]

    #[test]
    fn a_million_random_events_lose_nothing_repeat_nothing_and_are_never_early(
        steps in steps(),
        attempts_max in 0..4_u32,
        backs_off in any::<bool>(),
    ) {
        let initial_ms = if backs_off { 20 } else { 0 };
        let backoff = Backoff { initial_ms, jitter_percent: 50, ..Backoff::default() };
        let mut model = Model::new(SharedSettings { lease_ms: 100, attempts_max, backoff, ..SharedSettings::default() });
        for step in steps {
            model.step(step);
            model.check();
        }
    }
}
