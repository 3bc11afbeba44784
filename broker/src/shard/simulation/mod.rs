//! What if the power is lost, or the broker is killed, while messages are claimed, fail, wait and die?
//!
//! ```text
//!  producer ─▶ work (queue) ─▶ members: ack, nack, delay, reject, release, die ──▶ dead (queue) ─▶ member
//!  producer ─▶ news (topic) ─▶ reader                     ▲ real shards, rings, lots, logs; simulated disks and clock
//!                    │
//!  at random: loss of power ─▶ recovery ─▶ everything is consumed ─▶ does it agree with the ledger?
//!             kill of the broker ─▶ successor on the same rings ─▶ …
//! ```
//!
//! 1. Everything that is decided, journaled and recovered is decided, journaled and recovered by the code of production.
//! 2. What clients were told is in a ledger of their own; every delivery is held against it, see [`ledger`].
//! 3. A seed is one history; it is the same each time.

mod clients;
mod ledger;
mod world;

use ringway_shm_protocol::control::message::{
    Backoff, Durability, Reply, SharedSettings, StartAt, StreamKind, StreamSettings,
};
use ringway_shm_protocol::name::Name;

use crate::clock;
use crate::core::{Operation, SessionId};
use crate::journal::disk::simulated::seeds;
use crate::journal::mutations::{Mutation, with};
use clients::{Member, Producer, Reader};
use ledger::{Fact, Ledger, Of};
use world::{MS, World};

/// A queue whose messages fail now and then, where they go then, and a topic.
const WORK: &str = "work";
const DEAD: &str = "dead";
const NEWS: &str = "news";
const READER: &str = "reader";
const ATTEMPTS_MAX: u32 = 3;
/// Rounds in which everything that is there must be delivered.
const DRAIN_ROUNDS: u32 = 2000;

/// A broker with its clients.
struct Life {
    world: World,
    ledger: Ledger,
    work: Producer,
    news: Producer,
    members: Vec<Member>,
    undertaker: Member,
    reader: Reader,
    sessions: u64,
    next: u64,
    /// Now and then the queue is purged.
    purges: bool,
}

fn declare(world: &mut World) {
    let queue = StreamSettings {
        kind: StreamKind::Queue,
        slots: 16,
        slot_bytes: 512,
        payload_bytes_max: 4096,
        durability: Durability::Synced,
        ..StreamSettings::DEFAULT
    };
    let backoff = Backoff { initial_ms: 20, max_ms: 100, ..Backoff::default() };
    let lease_ms = 1000;
    let dead = SharedSettings { lease_ms, ..SharedSettings::default() };
    world.declare(DEAD, |partition| {
        Operation::DeclareStream(partition, StreamSettings { slots: 64, ..queue }, Some(dead))
    });
    let dead_letter = Some(DEAD.to_owned());
    let usual = SharedSettings::default();
    let work = SharedSettings { lease_ms, attempts_max: ATTEMPTS_MAX, backoff, dead_letter, ..usual };
    world.declare(WORK, |partition| Operation::DeclareStream(partition, queue, Some(work)));
    let durability = if world.random.one_in(2) { Durability::Synced } else { Durability::Written };
    let topic = StreamSettings { kind: StreamKind::Topic, slots: 64, slot_bytes: 4096, durability, ..queue };
    world.declare(NEWS, |partition| Operation::DeclareStream(partition, topic, None));
    let reader = Name::parse(READER).expect("a name");
    world.declare(NEWS, |partition| Operation::DeclareSubscription(partition, reader, StartAt::First, None));
}

impl Life {
    fn begin(seed: u64) -> Result<Self, String> {
        let mut world = World::new(seed)?;
        declare(&mut world);
        Ok(Self::of(world, Ledger::new(ATTEMPTS_MAX), 0))
    }

    /// New clients of a broker.
    fn of(mut world: World, ledger: Ledger, next: u64) -> Self {
        let session = |number: u64| SessionId(10 + number);
        Self {
            work: Producer::open(&mut world, Of::Work, session(0)),
            news: Producer::open(&mut world, Of::News, session(1)),
            members: (2..4).map(|number| Member::open(&mut world, WORK, session(number))).collect(),
            undertaker: Member::open(&mut world, DEAD, session(4)),
            reader: Reader::open(&mut world, session(5)),
            sessions: 16,
            world,
            ledger,
            next,
            purges: false,
        }
    }

    /// Something happens.
    fn step(&mut self) -> Result<(), String> {
        if self.purges && self.world.random.one_in(20) {
            self.purge();
        }
        let Self { world, ledger, members, .. } = self;
        let member = world.random.below(members.len() as u64) as usize;
        let shard = world.random.below(world.shards() as u64) as usize;
        match world.random.below(40) {
            0..=5 => self.publish()?,
            6..=11 => drop(members[member].claim(world, ledger)?),
            12..=17 => members[member].settle(world, ledger),
            18 | 19 => members[member].confirm(),
            20 => self.end_member(member),
            21 => {
                self.undertaker.claim(world, ledger)?;
                self.undertaker.ack_all(world, ledger);
                self.undertaker.confirm();
            }
            22 => {
                self.reader.read(world, ledger)?;
                self.reader.confirm();
            }
            23 => world.advance(world.random.clone().below(20) * MS),
            24 => world.advance_to_tick(),
            25 => world.snapshot_soon(shard),
            26 | 27 => drop(world.post()),
            28..=32 => world.turn(shard),
            33 => self.settle_between_two_looks()?,
            _ => drop(world.turn_of_journal(shard)),
        }
        let nanos = self.world.random.below(MS);
        self.world.advance(nanos);
        self.look();
        Ok(())
    }

    /// A message is published, consumed and settled while the journal is between its two looks.
    fn settle_between_two_looks(&mut self) -> Result<(), String> {
        let Self { world, ledger, work, members, next, .. } = self;
        world.turn_of_journal_around(0, |world| {
            work.publish(world, ledger, (next, 8))?;
            members[0].claim(world, ledger)?;
            members[0].ack_all(world, ledger);
            members[0].confirm();
            Ok(())
        })
    }

    /// What nobody has of the queue is given up; when that is answered, it is for ever.
    fn purge(&mut self) {
        let untouched = self.ledger.untouched(Of::Work);
        self.ledger.may_be_purged(Of::Work);
        let purge = |partition| Operation::Purge(partition, None);
        let answer = self.world.request(WORK, SessionId(1), purge);
        if let Reply::Purged { messages } = answer.reply {
            assert!(messages >= untouched.len() as u64, "{messages} of {} at least", untouched.len());
            for fact in untouched.into_iter().map(Fact::Settled) {
                self.ledger.is(fact);
                self.ledger.is_durable(fact);
            }
        }
    }

    fn publish(&mut self) -> Result<(), String> {
        for _ in 0..1 + self.world.random.below(4) {
            let bytes = self.world.random.below(60) as usize;
            self.work.publish(&mut self.world, &mut self.ledger, (&mut self.next, bytes))?;
        }
        if self.world.random.one_in(3) {
            for _ in 0..self.world.random.below(40) {
                let bytes = self.world.random.below(3900) as usize;
                self.news.publish(&mut self.world, &mut self.ledger, (&mut self.next, bytes))?;
            }
        }
        Ok(())
    }

    /// A consumer's process ends, and another one comes.
    fn end_member(&mut self, member: usize) {
        self.world.end_session(self.members[member].session);
        self.sessions += 1;
        let session = SessionId(self.sessions);
        self.members[member] = Member::open(&mut self.world, WORK, session);
    }

    /// Clients take note of what they are told.
    fn look(&mut self) {
        let ledger = &mut self.ledger;
        self.work.confirm(ledger);
        self.news.confirm(ledger);
        self.members.iter_mut().for_each(|member| member.look(ledger));
        self.undertaker.look(ledger);
        self.reader.look(ledger);
    }

    /// Something happens in the middle of which the power might be lost: would everything be there that had been confirmed
    /// before?
    fn audit_around(&mut self, act: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        let (mut ledger, moments) = (self.ledger.clone(), self.world.moments());
        act(self)?;
        // What was only said since may have had its effect.
        ledger.may_be_as(&self.ledger);
        ledger.lose_power();
        let audited = self.world.after_power_loss(&moments, false).and_then(|world| drain(world, ledger));
        self.world.set_clock();
        audited.map_err(|error| format!("after a loss of power: {error}"))
    }

    /// The power is lost. What the disks hold goes on.
    fn lose_power(mut self) -> Result<Self, String> {
        self.ledger.lose_power();
        let world = self.world.after_power_loss(&self.world.moments(), true)?;
        Ok(Self { purges: self.purges, ..Self::of(world, self.ledger, self.next) })
    }

    /// The broker is killed. Rings and clients go on.
    fn kill(self) -> Result<Self, String> {
        Ok(Self { world: self.world.kill()?, ..self })
    }

    /// All clients end, and everything is consumed.
    fn end(self) -> Result<(), String> {
        let Self { mut world, ledger, members, undertaker, .. } = self;
        members.iter().chain([&undertaker]).for_each(|member| world.end_session(member.session));
        world.end_session(SessionId(15));
        drain(world, ledger)
    }
}

/// Consumes everything that there is.
fn drain(mut world: World, mut ledger: Ledger) -> Result<(), String> {
    if [WORK, DEAD, NEWS].iter().any(|stream| world.settings(stream).is_none()) {
        return ledger.balance();
    }
    ledger.begin_balance();
    let mut member = Member::open(&mut world, WORK, SessionId(2));
    let mut undertaker = Member::open(&mut world, DEAD, SessionId(3));
    let mut reader = Reader::open(&mut world, SessionId(4));
    while reader.read(&world, &mut ledger)? {}
    for _ in 0..DRAIN_ROUNDS {
        let mut is_anything = world.post();
        for member in [&mut member, &mut undertaker] {
            while member.claim(&mut world, &mut ledger)? {
                member.ack_all(&mut world, &mut ledger);
                is_anything = true;
            }
        }
        (0..world.shards()).for_each(|shard| world.turn(shard));
        if is_anything {
            continue;
        }
        let left = [WORK, DEAD].map(|stream| world.queue_info(stream));
        if left.iter().all(|left| left.ready + left.leased + left.delayed + left.dead == 0) {
            return ledger.balance();
        }
        world.advance_to_tick();
    }
    Err("not everything that is there is delivered".to_owned())
}

/// One history: a broker that is killed and loses its power now and then.
fn history(seed: u64) -> Result<(), String> {
    live(Life::begin(seed)?)
}

/// The same with purges.
fn history_with_purges(seed: u64) -> Result<(), String> {
    live(Life { purges: true, ..Life::begin(seed)? })
}

fn live(mut life: Life) -> Result<(), String> {
    for number in 0..3 {
        let failed = |error| format!("life {number}: {error}");
        for _ in 0..20 + life.world.random.below(120) {
            if life.world.random.one_in(50) { life.audit_around(Life::step) } else { life.step() }
                .map_err(failed)?;
        }
        life = if life.world.random.one_in(2) { life.lose_power() } else { life.kill() }.map_err(failed)?;
    }
    life.end().map_err(|error| format!("at the end: {error}"))
}

/// A broker whose messages are settled before it has read them.
fn settled_between_two_looks(seed: u64) -> Result<(), String> {
    let mut life = Life::begin(seed)?;
    for _ in 0..20 {
        life.settle_between_two_looks()?;
        life.audit_around(|life| {
            life.world.turn_of_journal(0);
            life.world.advance(MS / 10);
            life.look();
            Ok(())
        })?;
    }
    Ok(())
}

fn check(seed: u64, history: fn(u64) -> Result<(), String>) -> Result<(), String> {
    let checked = history(seed);
    clock::set(None);
    checked.map_err(|error| format!("seed {seed}: {error}"))
}

#[test]
fn what_clients_were_told_holds_whenever_the_power_is_lost_or_the_broker_is_killed() {
    for seed in 0..seeds(100) {
        if let Err(error) = check(seed, history) {
            panic!("{error}");
        }
    }
}

#[test]
fn what_was_given_up_is_never_delivered_again_whenever_the_power_is_lost_or_the_broker_is_killed() {
    for seed in 0..seeds(100) {
        if let Err(error) = check(seed, history_with_purges) {
            panic!("{error}");
        }
    }
}

#[test]
fn a_purge_that_is_answered_before_it_is_journaled_gives_up_what_comes_again() {
    assert!(is_noticed(Mutation::PurgeAnsweredEarly, 0, history_with_purges));
}

#[test]
fn what_is_settled_before_it_is_journaled_is_confirmed_by_a_later_round() {
    for seed in 0..10 {
        if let Err(error) = check(seed, settled_between_two_looks) {
            panic!("{error}");
        }
    }
}

/// Whether a history is not as it should be with this bug in it; where it takes many to show, `from` is shortly before one
/// that is known to show it.
fn is_noticed(mutation: Mutation, from: u64, history: fn(u64) -> Result<(), String>) -> bool {
    with(Some(mutation), || (from..from + 400).any(|seed| check(seed, history).is_err()))
}

#[test]
fn without_the_syncs_histories_go_wrong() {
    assert!(is_noticed(Mutation::NoSync, 0, history));
    assert!(is_noticed(Mutation::NoDirectorySync, 0, history));
    assert!(is_noticed(Mutation::ConfirmBeforeSync, 0, history));
}

#[test]
fn without_the_end_of_an_epoch_a_history_goes_wrong() {
    assert!(is_noticed(Mutation::NoEpoch, 0, history));
}

#[test]
fn a_round_over_what_is_not_read_confirms_what_is_not_journaled() {
    assert!(is_noticed(Mutation::RoundOverUnread, 0, settled_between_two_looks));
}

#[test]
fn a_round_that_does_not_look_at_the_feed_confirms_what_is_not_journaled() {
    assert!(is_noticed(Mutation::NoHarvest, 0, history));
}

#[test]
fn a_letter_that_is_sent_before_its_message_is_durably_dead_is_there_beside_it() {
    assert!(is_noticed(Mutation::LetterFirst, 350, history));
}

#[test]
fn a_letter_that_is_not_noted_is_there_twice() {
    assert!(is_noticed(Mutation::NoLetterNoted, 0, history));
}

#[test]
fn without_the_lot_in_a_snapshot_its_messages_are_lost() {
    assert!(is_noticed(Mutation::NoLotInSnapshot, 0, history));
}

#[test]
fn a_message_whose_place_is_forgotten_before_the_journal_knows_its_lot_is_lost() {
    assert!(is_noticed(Mutation::ForgottenEarly, 650, history));
}
