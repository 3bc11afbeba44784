//! What if the power is lost, or the broker is killed, while messages are claimed, fail, wait and die?
//!
//! ```text
//!  producers ─▶ work (queue) ─▶ members: ack, nack, delay, reject, release, die ──▶ dead (queue) ─▶ undertaker
//!  producer ──▶ news (topic) ─▶ reader                                      producer ─┘
//!                     └───────▶ crew: as members             ▲ real shards, rings, lots, logs; simulated disks and clock
//!
//!  at random: loss of power ─▶ recovery ─▶ everything is consumed ─▶ does it agree with the ledger?
//!             kill of the broker ─▶ successor on the same rings ─▶ …
//! ```
//!
//! 1. Everything that is decided, journaled and recovered is decided, journaled and recovered by the code of production.
//! 2. What clients were told is in a ledger of their own; every delivery is held against it, see [`ledger`].
//! 3. A seed is one history; it is the same each time.

mod backlog;
mod clients;
mod ledger;
mod world;

use ringway_shm_protocol::control::message::{
    Backoff, CursorSettings, Durability, Reply, SharedSettings, StartAt, StreamKind, StreamSettings,
    SubscriptionChanges, SubscriptionInfo, SubscriptionMode, Visibility,
};

use crate::clock;
use crate::core::lot::Nanos;
use crate::core::{Operation, SessionId, Token};
use crate::journal::disk::simulated::{Random, seeds};
use crate::journal::format::SEGMENT_BYTES_MIN;
use crate::journal::mutations::{Mutation, with};
use crate::shard::journaling::Next;
use clients::{Member, Producer, Reader};
use ledger::{Fact, Ledger, Of};
use world::{MS, World};

/// A queue whose messages fail now and then, where they go then, where else if it is altered, and a topic.
const WORK: &str = "work";
const DEAD: &str = "dead";
const OTHER: &str = "other";
const NEWS: &str = "news";
/// A producer's messages are those of these; two of the producers have names.
const WORKER: (&[Of], Option<&str>) = (&[Of::Work], Some("worker"));
const CASUAL: (&[Of], Option<&str>) = (&[Of::Work], None);
const WRITER: (&[Of], Option<&str>) = (&[Of::News, Of::Crew], Some("writer"));
const MOURNER: (&[Of], Option<&str>) = (&[Of::Dead], None);
const ATTEMPTS_MAX: u32 = 3;
const ALTERED_ATTEMPTS_MIN: u32 = 2;
/// Rounds in which everything that is there must be delivered.
const DRAIN_ROUNDS: u32 = 2000;
/// Messages that are more than a disk has room for.
const TRIES_MOST: u32 = 200;
/// Rounds in which what is settled must be confirmed: longer than until room is looked for again.
const SETTLE_ROUNDS: u32 = 100;

/// A broker with its clients.
struct Life {
    world: World,
    ledger: Ledger,
    worker: Producer,
    casual: Producer,
    writer: Producer,
    mourner: Producer,
    members: Vec<Member>,
    crew: Vec<Member>,
    undertaker: Member,
    reader: Reader,
    sessions: u64,
    next: u64,
    /// Now and then the queue is purged, or altered.
    purges: bool,
    alters: bool,
    /// What was asked for that and is not answered.
    altering: Option<Token>,
}

fn queue(slots: u64, durability: Durability) -> StreamSettings {
    StreamSettings {
        kind: StreamKind::Queue,
        slots,
        slot_bytes: 512,
        payload_bytes_max: 512 << 10,
        durability,
        ..StreamSettings::DEFAULT
    }
}

/// Makes everything; the queues are of this durability.
fn declare(world: &mut World, level: Durability) {
    let backoff = Backoff { initial_ms: 20, max_ms: 100, ..Backoff::default() };
    let lease_ms = 1000;
    let dead = SharedSettings { lease_ms, ..SharedSettings::default() };
    world.declare(DEAD, |partition| Operation::DeclareStream(partition, queue(64, level), Some(dead)));
    let dead_letter = Some(DEAD.to_owned());
    let random = &mut world.random;
    let mut some_visibility = || if random.one_in(2) { Visibility::Durable } else { Visibility::Committed };
    let (visibility, of_reader, of_crew) = (some_visibility(), some_visibility(), some_visibility());
    let usual = SharedSettings { lease_ms, backoff, ..SharedSettings::default() };
    let crew = SharedSettings { attempts_max: 0, visibility: of_crew, ..usual.clone() };
    let visibility = if level == Durability::Memory { Visibility::Committed } else { visibility };
    let work = SharedSettings { attempts_max: ATTEMPTS_MAX, dead_letter, visibility, ..usual };
    world.declare(WORK, |partition| Operation::DeclareStream(partition, queue(16, level), Some(work)));
    let durability = if world.random.one_in(2) { Durability::Synced } else { Durability::Written };
    let topic = StreamSettings { kind: StreamKind::Topic, slot_bytes: 4096, ..queue(64, durability) };
    world.declare(NEWS, |partition| Operation::DeclareStream(partition, topic, None));
    let reader = SubscriptionMode::Cursor(CursorSettings { visibility: of_reader });
    for (of, mode) in [(Of::News, reader), (Of::Crew, SubscriptionMode::Shared(crew))] {
        world.declare(NEWS, |partition| {
            Operation::DeclareSubscription(partition, of.subscription(), StartAt::First, Some(mode))
        });
    }
}

/// How long a message is: now and then too long for a slot, or for a record.
fn some_bytes(random: &mut Random, usual: u64) -> usize {
    let most = match random.below(100) {
        0 => 300 << 10,
        1..=5 => 8 << 10,
        _ => usual,
    };
    random.below(most) as usize
}

impl Life {
    fn begin(seed: u64) -> Result<Self, String> {
        Self::begin_as(seed, Durability::Synced)
    }

    fn begin_as(seed: u64, level: Durability) -> Result<Self, String> {
        let mut world = World::new(seed)?;
        declare(&mut world, level);
        Self::of(world, Ledger::new(ATTEMPTS_MAX), 0)
    }

    /// New clients of a broker.
    fn of(mut world: World, mut ledger: Ledger, next: u64) -> Result<Self, String> {
        let session = |number: u64| SessionId(10 + number);
        let producer = |world: &mut World, ledger: &mut Ledger, which, number| {
            Producer::open(world, ledger, which, session(number))
        };
        Ok(Self {
            worker: producer(&mut world, &mut ledger, WORKER, 0)?,
            casual: producer(&mut world, &mut ledger, CASUAL, 1)?,
            writer: producer(&mut world, &mut ledger, WRITER, 2)?,
            mourner: producer(&mut world, &mut ledger, MOURNER, 3)?,
            members: (4..6).map(|number| Member::open(&mut world, Of::Work, session(number))).collect(),
            crew: (6..8).map(|number| Member::open(&mut world, Of::Crew, session(number))).collect(),
            undertaker: Member::open(&mut world, Of::Dead, session(8)),
            reader: Reader::open(&mut world, Of::News, session(9)),
            sessions: 32,
            world,
            ledger,
            next,
            purges: false,
            alters: false,
            altering: None,
        })
    }

    /// Something happens.
    fn step(&mut self) -> Result<(), String> {
        if self.purges && self.world.random.one_in(20) {
            self.purge();
        }
        if self.alters && self.world.random.one_in(5) {
            self.alter();
        }
        let Self { world, ledger, members, crew, .. } = self;
        let member = world.random.below(members.len() as u64) as usize;
        let of_crew = world.random.below(crew.len() as u64) as usize;
        let shard = world.random.below(world.shards() as u64) as usize;
        match world.random.below(50) {
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
            34..=36 => drop(crew[of_crew].claim(world, ledger)?),
            37 | 38 => crew[of_crew].settle(world, ledger),
            39 => crew[of_crew].confirm(),
            40 => self.mourner.publish(world, ledger, (&mut self.next, 8))?,
            41 => self.end_producer()?,
            // While there is no room nothing is altered, and what is asked in the same turn waits with it.
            42 if !self.alters => {
                let left = world.random.below(2 * SEGMENT_BYTES_MIN);
                world.set_free(shard, Some(left));
            }
            43 => world.set_free(shard, None),
            _ => drop(world.turn_of_journal(shard)),
        }
        let nanos = self.world.random.below(MS);
        self.world.advance(nanos);
        self.look();
        Ok(())
    }

    /// A message is published, consumed and settled while the journal is between its two looks.
    fn settle_between_two_looks(&mut self) -> Result<(), String> {
        let Self { world, ledger, casual, members, next, .. } = self;
        world.turn_of_journal_around(0, |world| {
            casual.publish(world, ledger, (next, 8))?;
            members[0].claim(world, ledger)?;
            members[0].ack_all(world, ledger);
            members[0].confirm();
            Ok(())
        })
    }

    /// Something happens on the way to the dead letters.
    fn let_something_die(&mut self) -> Result<(), String> {
        let Self { world, ledger, casual, mourner, members, next, .. } = self;
        let shard = world.random.below(world.shards() as u64) as usize;
        match world.random.below(12) {
            0 => {
                let bytes = if world.random.one_in(2) { 8 } else { 300 << 10 };
                casual.publish(world, ledger, (next, bytes))?;
            }
            1 | 2 => drop(members[0].claim(world, ledger)?),
            3 | 4 => members[0].reject_one(world, ledger),
            5 => mourner.publish(world, ledger, (next, 8))?,
            6 => drop(world.post()),
            7 | 8 => world.turn(shard),
            _ => drop(world.turn_of_journal(shard)),
        }
        self.world.advance(MS / 4);
        self.look();
        Ok(())
    }

    /// What nobody has of the queue is given up; when that is answered, it is for ever.
    fn purge(&mut self) {
        // It is not answered before there is room for it.
        self.set_free(None);
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

    /// The queue is altered; when that is answered, it is so, durably.
    fn alter(&mut self) {
        let Self { world, ledger, altering, .. } = self;
        let Some(token) = *altering else {
            let random = &mut world.random;
            let changes = SubscriptionChanges::new()
                .attempts_max(ALTERED_ATTEMPTS_MIN + random.below(3) as u32)
                .lease_ms(500 + random.below(1000) as u32)
                .dead_letter(if random.one_in(2) { DEAD } else { OTHER });
            ledger.may_be_altered(&changes);
            *altering = Some(world.alter(changes));
            return;
        };
        match world.answer(token) {
            Some(Reply::Subscription(SubscriptionInfo { mode: SubscriptionMode::Shared(now), .. })) => {
                ledger.is_altered(now);
                *altering = None;
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }

    fn publish(&mut self) -> Result<(), String> {
        let Self { world, ledger, next, .. } = self;
        for _ in 0..1 + world.random.below(4) {
            let bytes = some_bytes(&mut world.random, 60);
            // One that says nothing for long is known all the same.
            let producer = if world.random.one_in(8) { &mut self.worker } else { &mut self.casual };
            producer.publish(world, ledger, (next, bytes))?;
        }
        if world.random.one_in(3) {
            for _ in 0..world.random.below(40) {
                let bytes = some_bytes(&mut world.random, 3900);
                self.writer.publish(world, ledger, (next, bytes))?;
            }
        }
        Ok(())
    }

    /// A consumer's process ends, and another one comes.
    fn end_member(&mut self, member: usize) {
        self.world.end_session(self.members[member].session);
        self.sessions += 1;
        let session = SessionId(self.sessions);
        self.members[member] = Member::open(&mut self.world, Of::Work, session);
    }

    /// The process of a producer that has a name ends, and comes back.
    fn end_producer(&mut self) -> Result<(), String> {
        let Self { world, ledger, .. } = self;
        let (producer, which) =
            if world.random.one_in(2) { (&mut self.worker, WORKER) } else { (&mut self.writer, WRITER) };
        world.end_session(producer.session);
        self.sessions += 1;
        *producer = Producer::open(world, ledger, which, SessionId(self.sessions))?;
        Ok(())
    }

    /// The files of all disks may grow by so many bytes from now on, if that is said.
    fn set_free(&mut self, bytes: Option<u64>) {
        (0..self.world.shards()).for_each(|shard| self.world.set_free(shard, bytes));
    }

    /// Everybody has a turn.
    fn pass(&mut self, nanos: Nanos) {
        (0..self.world.shards()).for_each(|shard| self.world.turn(shard));
        self.world.advance(nanos);
        self.look();
    }

    /// What can be had of the queue is settled, and there is time for that to be confirmed.
    fn settle_all(&mut self) -> Result<(), String> {
        for _ in 0..SETTLE_ROUNDS {
            let Self { world, ledger, members, .. } = self;
            while members[0].claim(world, ledger)? {
                members[0].ack_all(world, ledger);
            }
            members[0].confirm();
            self.pass(20 * MS);
        }
        for _ in 0..SETTLE_ROUNDS {
            self.pass(20 * MS);
        }
        Ok(())
    }

    fn is_confirmed(&self) -> bool {
        self.members[0].is_confirmed()
    }

    /// Clients take note of what they are told.
    fn look(&mut self) {
        let Self { ledger, worker, casual, writer, mourner, members, crew, undertaker, .. } = self;
        [worker, casual, writer, mourner].into_iter().for_each(|producer| producer.confirm(ledger));
        members.iter_mut().chain(crew).chain([undertaker]).for_each(|member| member.look(ledger));
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
        let mut world = self.world.after_power_loss(&self.world.moments(), true)?;
        look_at_ends(&mut world, &self.ledger)?;
        let Self { purges, alters, ledger, next, .. } = self;
        Ok(Self { purges, alters, ..Self::of(world, ledger, next)? })
    }

    /// The broker is killed. Rings and clients go on.
    fn kill(self) -> Result<Self, String> {
        Ok(Self { world: self.world.kill()?, altering: None, ..self })
    }

    /// All clients end, and everything is consumed.
    fn end(self) -> Result<(), String> {
        let Self { mut world, ledger, worker, casual, writer, mourner, .. } = self;
        let Self { members, crew, undertaker, reader, .. } = self;
        let members = members.iter().chain(&crew).chain([&undertaker]).map(|member| member.session);
        let producers = [worker, casual, writer, mourner].map(|producer| producer.session);
        let sessions = members.chain(producers).chain([reader.session]);
        sessions.for_each(|session| world.end_session(session));
        drain(world, ledger)
    }
}

/// Whether streams are as long as is sure; `false`: not all of them are there.
fn look_at_ends(world: &mut World, ledger: &Ledger) -> Result<bool, String> {
    for of in [Of::Work, Of::Dead, Of::News, Of::Crew] {
        let Some(end) = world.end(of.stream()) else { return Ok(false) };
        ledger.came_back(of, end)?;
    }
    Ok(true)
}

fn settings_of_work(world: &mut World) -> SharedSettings {
    match world.subscription(Of::Work).mode {
        SubscriptionMode::Shared(settings) => settings,
        other => panic!("{other:?}"),
    }
}

/// Consumes everything that there is.
fn drain(mut world: World, mut ledger: Ledger) -> Result<(), String> {
    (0..world.shards()).for_each(|shard| world.set_free(shard, None));
    if !look_at_ends(&mut world, &ledger)? {
        return ledger.balance();
    }
    let mut shared = vec![Of::Work, Of::Dead, Of::Crew];
    shared.extend(ledger.check_altered(|| settings_of_work(&mut world))?.then_some(Of::Other));
    ledger.begin_balance();
    for (which, session) in [(WORKER, 2), (WRITER, 3)] {
        Producer::open(&mut world, &mut ledger, which, SessionId(session))?;
    }
    let mut members: Vec<_> = shared.iter().map(|of| Member::open(&mut world, *of, SessionId(4))).collect();
    let mut reader = Reader::open(&mut world, Of::News, SessionId(5));
    for _ in 0..DRAIN_ROUNDS {
        let mut is_anything = world.post();
        while reader.read(&mut world, &mut ledger)? {
            is_anything = true;
        }
        for member in &mut members {
            while member.claim(&mut world, &mut ledger)? {
                member.ack_all(&mut world, &mut ledger);
                is_anything = true;
            }
        }
        (0..world.shards()).for_each(|shard| world.turn(shard));
        if is_anything {
            continue;
        }
        let is_read = world.end(NEWS) == Some(reader.position());
        if is_read && shared.iter().all(|of| world.is_empty(*of)) {
            return ledger.balance();
        }
        world.advance(MS);
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

/// The same with alterations.
fn history_with_alterations(seed: u64) -> Result<(), String> {
    live(begin_with_alterations(seed, Durability::Synced)?)
}

fn begin_with_alterations(seed: u64, level: Durability) -> Result<Life, String> {
    let life = Life::begin_as(seed, level)?;
    let mut life = Life { alters: true, ledger: Ledger::new(ALTERED_ATTEMPTS_MIN), ..life };
    life.world.declare(OTHER, |partition| Operation::DeclareStream(partition, queue(64, level), None));
    life.ledger.is_altered(settings_of_work(&mut life.world));
    Ok(life)
}

/// Messages die, their letters come, and the broker is killed before it has heard of that, or shortly after. Its successor is told that
/// letters go elsewhere.
fn letters_unheard(seed: u64) -> Result<(), String> {
    let level = if seed.is_multiple_of(2) { Durability::Synced } else { Durability::Memory };
    let mut life = begin_with_alterations(seed, level)?;
    for _ in 0..4 {
        for _ in 0..1 + life.world.random.below(20) {
            life.let_something_die()?;
        }
        life.world.let_letters_come();
        if life.world.random.one_in(2) {
            life.world.turn(0);
        }
        life = life.kill()?;
        life.alter();
        life.world.turn(0);
        life.look();
    }
    life.end()
}

fn live(mut life: Life) -> Result<(), String> {
    for number in 0..3 {
        let failed = |error| format!("life {number}: {error}");
        for _ in 0..20 + life.world.random.below(120) {
            if life.world.random.one_in(50) { life.audit_around(Life::step) } else { life.step() }
                .map_err(failed)?;
        }
        life = if life.world.random.one_in(2) { life.lose_power() } else { life.kill() }.map_err(failed)?;
        if life.alters {
            // Before the one that goes on has had a turn.
            life.alter();
        }
    }
    life.end().map_err(|error| format!("at the end: {error}"))
}

/// A disk is full while messages are on their way: what is on it can be settled. Then there is room again.
fn full_disk(seed: u64) -> Result<(), String> {
    let mut life = Life::begin(seed)?;
    life.set_free(Some(0));
    for _ in 0..TRIES_MOST {
        if life.casual.is_refused() {
            break;
        }
        let Life { world, ledger, casual, writer, next, .. } = &mut life;
        let (producer, most) = if world.random.one_in(4) { (casual, 25 << 10) } else { (writer, 200 << 10) };
        let bytes = world.random.below(most) as usize;
        producer.publish(world, ledger, (next, bytes))?;
        life.pass(MS);
    }
    life.pass(MS);
    let sleeps = |life: &mut Life| {
        life.world.advance(MS);
        (0..life.world.shards()).all(|shard| life.world.turn_of_journal(shard) == Some(Next::Sleep))
    };
    if !(0..TRIES_MOST).any(|_| sleeps(&mut life)) {
        return Err("there is nothing to be done while the disk is full, and a shard never sleeps".to_owned());
    }
    life.settle_all()?;
    // What is not on it can be settled, too; that is confirmed when there is room.
    if life.world.subscription(Of::Work).mode.visibility() == Visibility::Durable && !life.is_confirmed() {
        return Err("what is settled is never confirmed while the disk is full".to_owned());
    }
    life = match life.world.random.below(3) {
        0 => life.lose_power()?,
        1 => life.kill()?,
        _ => life,
    };
    life.set_free(None);
    life.settle_all()?;
    let next = life.next;
    life.casual.publish(&mut life.world, &mut life.ledger, (&mut life.next, 8))?;
    if life.next == next || !life.is_confirmed() {
        return Err("there is room again, and the journal does not go on".to_owned());
    }
    life.end()
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

/// A broker whose disk fails while messages die: when nothing happens any more, no letter counts as under way.
fn disk_fails(seed: u64) -> Result<(), String> {
    let mut life = Life::begin(seed)?;
    for _ in 0..20 + life.world.random.below(120) {
        life.step()?;
    }
    life.world.fail_disk(0);
    for _ in 0..100 {
        let Life { world, ledger, members, .. } = &mut life;
        for member in members {
            member.claim(world, ledger)?;
            member.settle(world, ledger);
        }
        if world.random.one_in(2) {
            world.turn(0);
        }
        world.advance(MS / 10);
    }
    let world = &mut life.world;
    for _ in 0..DRAIN_ROUNDS {
        (0..world.shards()).for_each(|shard| world.turn(shard));
        if !world.post() && world.letters(0) == 0 {
            return Ok(());
        }
        world.advance(MS);
    }
    Err(format!("{} letters count as under way and are not", world.letters(0)))
}

/// A broker that loses its power again and again while letters are on their way to where others publish, too.
fn letters_over_losses(seed: u64) -> Result<(), String> {
    let mut life = Life::begin(seed)?;
    for number in 0..6 {
        let failed = |error| format!("life {number}: {error}");
        for _ in 0..10 + life.world.random.below(60) {
            life.let_something_die().map_err(failed)?;
        }
        life = life.lose_power().map_err(failed)?;
    }
    life.end().map_err(|error| format!("at the end: {error}"))
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
fn a_letter_that_was_on_its_way_is_not_taken_for_what_came_to_its_place() {
    for seed in 0..seeds(30) {
        if let Err(error) = check(seed, letters_over_losses) {
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
fn what_is_altered_stays_so_and_no_letter_comes_to_two_streams_whoever_dies() {
    for seed in 0..seeds(100) {
        if let Err(error) = check(seed, history_with_alterations) {
            panic!("{error}");
        }
    }
}

#[test]
fn while_a_disk_is_full_what_is_there_is_settled_and_nothing_is_lost() {
    for seed in 0..seeds(20) {
        if let Err(error) = check(seed, full_disk) {
            panic!("{error}");
        }
    }
}

#[test]
fn a_purge_that_is_answered_before_it_is_journaled_gives_up_what_comes_again() {
    assert!(is_noticed(Mutation::PurgeAnsweredEarly, 0, history_with_purges));
}

#[test]
fn an_alteration_that_does_not_wait_for_letters_brings_some_to_two_streams() {
    assert!(is_noticed(Mutation::RedirectedEarly, 0, history_with_alterations));
    assert!(is_noticed(Mutation::LettersUnsuspected, 0, letters_unheard));
    assert!(is_noticed(Mutation::BurialsUnjournaled, 0, history_with_alterations));
}

#[test]
fn while_a_letter_does_not_come_where_letters_go_is_not_altered_and_nothing_waits_for_ever() {
    let mut life = begin_with_alterations(0, Durability::Synced).unwrap();
    let Life { world, ledger, casual, members, next, .. } = &mut life;
    casual.publish(world, ledger, (next, 8)).unwrap();
    while !members[0].claim(world, ledger).unwrap() {
        world.turn(0);
    }
    members[0].reject_one(world, ledger);
    (0..100).for_each(|_| world.turn(0));
    let alter = |world: &mut World, comes: bool| {
        let token = world.alter(SubscriptionChanges::new().dead_letter(OTHER));
        loop {
            let _ = comes && world.post();
            (0..world.shards()).for_each(|shard| world.turn(shard));
            world.advance(10 * MS);
            if let Some(reply) = world.answer(token) {
                break reply;
            }
        }
    };
    let before = settings_of_work(world);
    let Reply::Refused(refusal) = alter(world, false) else { panic!("it is altered") };
    assert!(refusal.message.contains("have not been confirmed there for 5 s"), "{refusal:?}");
    assert_eq!(settings_of_work(world), before);
    assert!(matches!(alter(world, true), Reply::Subscription(_)));
    clock::set(None);
}

#[test]
fn letters_of_which_a_broker_has_not_heard_come_to_one_stream_though_its_successor_sends_them_elsewhere() {
    for seed in 0..seeds(100) {
        if let Err(error) = check(seed, letters_unheard) {
            panic!("{error}");
        }
    }
}

#[test]
fn what_is_settled_before_it_is_journaled_is_confirmed_by_a_later_round() {
    for seed in 0..10 {
        if let Err(error) = check(seed, settled_between_two_looks) {
            panic!("{error}");
        }
    }
}

#[test]
fn letters_that_wait_for_a_journal_that_fails_are_not_under_way_for_ever() {
    for seed in 0..seeds(100) {
        if let Err(error) = check(seed, disk_fails) {
            panic!("{error}");
        }
    }
    assert!(is_noticed(Mutation::LettersForgotten, 170, disk_fails));
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
    assert!(is_noticed(Mutation::NoEpoch, 90, history));
}

#[test]
fn a_round_over_what_is_not_read_confirms_what_is_not_journaled() {
    assert!(is_noticed(Mutation::RoundOverUnread, 0, settled_between_two_looks));
}

#[test]
fn a_round_that_does_not_look_at_the_feed_confirms_what_is_not_journaled() {
    assert!(is_noticed(Mutation::NoHarvest, 25, history));
}

#[test]
fn a_letter_that_is_sent_before_its_message_is_durably_dead_is_there_beside_it() {
    assert!(is_noticed(Mutation::LetterFirst, 390, history));
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
    assert!(is_noticed(Mutation::ForgottenEarly, 740, history));
}

#[test]
fn without_the_wait_for_the_device_what_was_shown_is_not_there() {
    assert!(is_noticed(Mutation::ShownBeforeSync, 0, history));
}

#[test]
fn a_producer_that_a_snapshot_has_forgotten_is_told_that_its_messages_are_not_there() {
    assert!(is_noticed(Mutation::NoSentInSnapshot, 0, history));
}

#[test]
fn a_note_without_its_letter_is_taken_for_what_came_to_its_place() {
    assert!(is_noticed(Mutation::NoteWithoutLetter, 370, letters_over_losses));
}

#[test]
fn without_a_first_record_what_has_left_the_ring_is_lost() {
    assert!(is_noticed(Mutation::NoFirstRecord, 0, history));
}

#[test]
fn without_room_that_messages_leave_a_full_disk_stays_full() {
    assert!(is_noticed(Mutation::NoReserve, 0, full_disk));
}

#[test]
fn messages_that_were_only_appended_take_the_room_of_settlements() {
    assert!(is_noticed(Mutation::AppendedUncounted, 240, full_disk));
}

#[test]
fn a_round_that_passes_over_a_parked_stream_keeps_its_letters() {
    assert!(is_noticed(Mutation::ParkedUnheard, 690, history));
}
