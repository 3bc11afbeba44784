//! What if a reader is further behind than the ring is long, while the power is lost, or the broker is killed?
//!
//! ```text
//! producer ─▶ clicks (topic, detaches) ─▶ a reader that seldom reads: from pages, and from the ring when it has caught up
//! ```

use ringway_shm_protocol::control::message::{
    CursorSettings, Durability, Overflow, StartAt, StreamKind, StreamSettings, SubscriptionMode, Visibility,
};

use super::clients::{Producer, Reader};
use super::ledger::{Ledger, Of};
use super::world::{MS, World};
use super::{ATTEMPTS_MAX, DRAIN_ROUNDS, check, is_noticed, seeds, some_bytes};
use crate::core::{Operation, SessionId};
use crate::journal::mutations::Mutation;

const CLICKER: (&[Of], Option<&str>) = (&[Of::Late], Some("clicker"));

/// A broker with a producer and a reader.
struct Life {
    world: World,
    ledger: Ledger,
    producer: Producer,
    reader: Reader,
    next: u64,
    sessions: u64,
}

impl Life {
    fn begin(seed: u64) -> Result<Self, String> {
        let mut world = World::new(seed)?;
        let random = &mut world.random;
        let durability = if random.one_in(2) { Durability::Synced } else { Durability::Written };
        let visibility = if random.one_in(2) { Visibility::Durable } else { Visibility::Committed };
        Self::begin_as(world, durability, visibility)
    }

    fn begin_as(mut world: World, durability: Durability, visibility: Visibility) -> Result<Self, String> {
        let settings = StreamSettings {
            kind: StreamKind::Topic,
            slots: 8 << world.random.below(3),
            slot_bytes: 128,
            payload_bytes_max: 512 << 10,
            overflow: Overflow::Detach { after_ms: 0 },
            durability,
            ..StreamSettings::DEFAULT
        };
        let late = Of::Late;
        world.declare(late.stream(), |partition| Operation::DeclareStream(partition, settings, None));
        let mode = Some(SubscriptionMode::Cursor(CursorSettings { visibility }));
        world.declare(late.stream(), |partition| {
            Operation::DeclareSubscription(partition, late.subscription(), StartAt::First, mode)
        });
        Self::of(world, Ledger::new(ATTEMPTS_MAX), 0)
    }

    fn of(mut world: World, mut ledger: Ledger, next: u64) -> Result<Self, String> {
        let producer = Producer::open(&mut world, &mut ledger, CLICKER, SessionId(10))?;
        let reader = Reader::open(&mut world, Of::Late, SessionId(11));
        Ok(Self { world, ledger, producer, reader, next, sessions: 32 })
    }

    fn step(&mut self) -> Result<(), String> {
        let Self { world, ledger, producer, reader, next, .. } = self;
        match world.random.below(24) {
            0..=5 => {
                for _ in 0..world.random.below(12) {
                    let bytes = some_bytes(&mut world.random, 200);
                    producer.publish(world, ledger, (next, bytes))?;
                }
            }
            6 => {
                for _ in 0..world.random.below(20) {
                    reader.read(world, ledger)?;
                }
            }
            7 => reader.confirm(),
            8 => {
                // Its process ends, and another one comes.
                world.end_session(reader.session);
                self.sessions += 1;
                *reader = Reader::open(world, Of::Late, SessionId(self.sessions));
            }
            9 | 10 => world.snapshot_soon(0),
            11..=14 => world.turn(0),
            _ => drop(world.turn_of_journal(0)),
        }
        let nanos = self.world.random.below(MS);
        self.world.advance(nanos);
        self.producer.confirm(&mut self.ledger);
        self.reader.look(&mut self.ledger);
        Ok(())
    }

    fn lose_power(mut self) -> Result<Self, String> {
        self.ledger.lose_power();
        self.ledger.begin_balance();
        let mut world = self.world.after_power_loss(&self.world.moments(), true)?;
        if let Some(end) = world.end(Of::Late.stream()) {
            self.ledger.came_back(Of::Late, end)?;
        }
        Self::of(world, self.ledger, self.next)
    }

    /// Everything is read.
    fn end(mut self) -> Result<bool, String> {
        let mut was_behind = false;
        for _ in 0..DRAIN_ROUNDS {
            let Self { world, ledger, reader, .. } = &mut self;
            while reader.read(world, ledger)? {
                was_behind |= reader.is_behind();
            }
            // Attached again, too: an answer may have come too late for that.
            if world.end(Of::Late.stream()) == Some(reader.position()) && !reader.is_behind() {
                return ledger.balance().map(|()| was_behind);
            }
            world.turn(0);
            world.advance(MS);
        }
        Err("not everything that is there is read, or its reader is not attached again".to_owned())
    }
}

/// One history; says whether its reader was behind in the end.
fn lives(seed: u64) -> Result<bool, String> {
    let mut life = Life::begin(seed)?;
    for number in 0..4 {
        let failed = |error| format!("life {number}: {error}");
        for _ in 0..20 + life.world.random.below(150) {
            life.step().map_err(failed)?;
        }
        life = match life.world.random.below(4) {
            0 => life.lose_power().map_err(failed)?,
            1 => Life { world: life.world.kill().map_err(failed)?, ..life },
            2 => Life { world: life.world.kill_while_it_attaches().map_err(failed)?, ..life },
            _ => life,
        };
    }
    life.end().map_err(|error| format!("at the end: {error}"))
}

fn history(seed: u64) -> Result<(), String> {
    lives(seed).map(drop)
}

/// A reader that is shown only what is on the device reads a part of that, and the power is lost; again and again.
fn shown_and_lost(seed: u64) -> Result<(), String> {
    let mut life = Life::begin_as(World::new(seed)?, Durability::Written, Visibility::Durable)?;
    for number in 0..8 {
        let failed = |error| format!("life {number}: {error}");
        let Life { world, ledger, producer, reader, next, .. } = &mut life;
        for _ in 0..30 + world.random.below(100) {
            let bytes = some_bytes(&mut world.random, 200);
            producer.publish(world, ledger, (next, bytes)).map_err(failed)?;
            world.turn_of_journal(0);
            let nanos = world.random.below(MS / 4);
            world.advance(nanos);
        }
        // Seldom up to where it is attached again: that is declared, and everything before it is synced.
        for _ in 0..world.random.below(100) {
            reader.read(world, ledger).map_err(failed)?;
        }
        life = life.lose_power().map_err(failed)?;
    }
    life.end().map(drop).map_err(|error| format!("at the end: {error}"))
}

#[test]
fn who_is_behind_the_ring_gets_every_message_whenever_the_power_is_lost_or_the_broker_is_killed() {
    for seed in 0..seeds(60) {
        if let Err(error) = check(seed, history) {
            panic!("{error}");
        }
    }
}

#[test]
fn in_many_histories_somebody_is_behind() {
    let behind = (0..10).filter(|seed| matches!(lives(*seed), Ok(true))).count();
    crate::clock::set(None);
    assert!(behind >= 5, "{behind} of 10");
}

#[test]
fn what_is_forgotten_when_the_ring_has_passed_it_is_lost_for_who_is_behind() {
    assert!(is_noticed(Mutation::BacklogForgotten, 0, history));
}

#[test]
fn a_page_shows_what_is_on_the_device_where_its_reader_is_to_see_nothing_else() {
    for seed in 0..seeds(30) {
        if let Err(error) = check(seed, shown_and_lost) {
            panic!("{error}");
        }
    }
    assert!(is_noticed(Mutation::PageBeforeSync, 0, shown_and_lost));
}
