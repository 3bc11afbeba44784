//! Explores a subscription that joins while a producer publishes: what it was promised it can read.
//!
//! The order of the three steps (gate, bit, epoch) is what the first design had wrong. Here the wrong orders are
//! kept and must fail.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod loom_support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::thread;
use loom_support::{
    LoomWord, Role, Sound, Weak, World, explore, explore_within, finds_fault, message, outgoing, read_intact,
};
use ringway_shm_protocol::memory::Word;
use ringway_shm_protocol::ring::shard::{ShardRing, Start};
use ringway_shm_protocol::ring::{ExclusiveProducer, PublishError};
use ringway_shm_protocol::words::LimitWord;

/// How a gate is let in.
#[derive(Clone, Copy)]
enum Order {
    /// As the production code does it.
    Production(Start),
    /// The gate is entered and the epoch left alone.
    GateWithoutEpoch,
    /// The epoch is advanced, then the gate is entered.
    EpochBeforeGate,
}

/// Lets gate `gate` in and returns the position promised to it.
fn join(world: &World, shard: &ShardRing<Sound>, gate: u8, order: Order) -> u64 {
    let cursor: &Arc<LoomWord> = &world.cursors[usize::from(gate)];
    let oldest = |limit: LimitWord| limit.position.saturating_sub(2);
    match order {
        Order::Production(start) => shard.join(gate, 1, cursor, start),
        Order::GateWithoutEpoch => loop {
            let found = world.limit.load(Ordering::Acquire);
            let position = oldest(LimitWord::unpack(found));
            shard.place(gate, 1, cursor, position);
            // The limit has not moved meanwhile; but a producer may be about to move it, and will not notice.
            if world.limit.compare_exchange(found, found, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return position;
            }
        },
        Order::EpochBeforeGate => loop {
            let found = world.limit.load(Ordering::Acquire);
            let limit = LimitWord::unpack(found);
            let next = limit.next_epoch().pack();
            let advanced = world.limit.compare_exchange(found, next, Ordering::AcqRel, Ordering::Relaxed);
            if advanced.is_ok() {
                shard.place(gate, 1, cursor, oldest(limit));
                return oldest(limit);
            }
        },
    }
}

/// Publishes up to `attempts` messages.
fn publish(producer: &mut ExclusiveProducer<Sound>, attempts: u64) {
    for _ in 0..attempts {
        match producer.publish(&outgoing(&message(producer.position()))) {
            Ok(_) | Err(PublishError::Full(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Two slots. `other` is a gate that has been there before and stands at 1, so that the producer has a cached limit;
/// without it the producer runs free. The shard lets gate 1 in while the producer publishes.
fn a_gate_joins(weak: Weak, order: Order, other: bool, filled: u64, publishes: u64) {
    let world = World::new(2, weak, &[Role::Limit]);
    let shard = world.shard::<Sound>();
    let mut producer = world.producer::<Sound>(7, 0, 1);
    if other {
        shard.join(0, 1, &world.cursors[0], Start::First);
        publish(&mut producer, filled);
        let mut reader = world.reader::<Sound>(0, 0);
        read_intact(&mut reader).expect("published");
        reader.commit(1).expect("nobody takes the cursor");
    } else {
        publish(&mut producer, filled);
    }
    let joining = {
        let world = world.clone();
        thread::spawn(move || {
            let promised = join(&world, &shard, 1, order);
            let mut reader = world.reader::<Sound>(1, promised);
            while read_intact(&mut reader).is_some() {}
            (shard, promised, reader)
        })
    };
    publish(&mut producer, publishes);
    let (shard, promised, mut reader) = joining.join().unwrap();
    assert!(promised <= producer.position(), "a gate stands behind the end");
    while read_intact(&mut reader).is_some() {}
    assert_eq!(reader.position(), producer.position(), "a promised message is missing");
    assert_eq!(shard.end(), producer.position(), "the true end is where the producer stopped");
    // And the gate holds: nothing that it has not passed is ever overwritten.
    publish(&mut producer, 3);
    assert!(producer.position() <= promised + 2, "the producer ran past a gate");
}

#[test]
fn a_subscription_that_joins_a_free_running_producer_reads_all_it_was_promised() {
    for (name, start) in [
        ("join: first, free producer", Start::First),
        ("join: next, free producer", Start::Next),
        ("join: at 1, free producer", Start::At(1)),
    ] {
        explore(name, move || a_gate_joins(Weak::Nothing, Order::Production(start), false, 2, 1));
    }
}

#[test]
fn a_subscription_that_joins_a_producer_with_a_cached_limit_reads_all_it_was_promised() {
    for (name, start, bound) in [
        ("join: first, cached limit", Start::First, None),
        // The bisection for the end makes more loads than can be explored in full.
        ("join: next, cached limit", Start::Next, Some(3)),
        ("join: at 1, cached limit", Start::At(1), Some(3)),
        ("join: at 99, cached limit", Start::At(99), Some(3)),
    ] {
        explore_within(name, bound, move || {
            a_gate_joins(Weak::Nothing, Order::Production(start), true, 1, 2);
        });
    }
}

/// What goes wrong when a producer overtakes a gate: the reader finds a later lap, or reads while it is written.
const OVERTAKEN: &[&str] = &["the ring keeps what a gate protects", "Causality violation"];

#[test]
fn a_gate_that_joins_without_a_new_epoch_is_overtaken() {
    for (name, other, publishes) in [("free producer", false, 1), ("cached limit", true, 2)] {
        finds_fault(&format!("join without epoch, {name}"), OVERTAKEN, move || {
            a_gate_joins(Weak::Nothing, Order::GateWithoutEpoch, other, 2 - u64::from(other), publishes);
        });
    }
}

#[test]
fn a_gate_that_joins_after_its_epoch_is_overtaken() {
    for (name, other, publishes) in [("free producer", false, 1), ("cached limit", true, 2)] {
        finds_fault(&format!("join with the epoch first, {name}"), OVERTAKEN, move || {
            a_gate_joins(Weak::Nothing, Order::EpochBeforeGate, other, 2 - u64::from(other), publishes);
        });
    }
}

#[test]
fn an_epoch_that_does_not_release_hides_the_gate_from_the_producer() {
    let (weak, order) = (Weak::Release(Role::Limit), Order::Production(Start::First));
    finds_fault("join: limit without release", OVERTAKEN, move || a_gate_joins(weak, order, false, 2, 1));
}

#[test]
fn an_epoch_that_is_not_acquired_hides_the_gate_from_the_producer() {
    let (weak, order) = (Weak::Acquire(Role::Limit), Order::Production(Start::First));
    finds_fault("join: limit without acquire", OVERTAKEN, move || a_gate_joins(weak, order, false, 2, 1));
}
