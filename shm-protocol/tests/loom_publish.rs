//! Explores publishing and reading: no reader sees a torn, foreign or missing message, over a wrap of the ring.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod loom_support;

use loom::thread;
use loom_support::{
    LoomMemory, Role, Sound, Weak, World, explore, explore_within, finds_fault, message, outgoing,
    read_intact,
};
use ringway_shm_protocol::memory::Word;
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::ring::{CursorReader, PublishError};
use ringway_shm_protocol::words::LimitWord;
use std::sync::atomic::{AtomicBool, Ordering};

/// What loom says of a body that is read and written at the same time.
const RACE: &str = "Causality violation";

/// What happens at the same time in a model; behind it, everything is drained in one thread.
#[derive(Clone, Copy)]
struct Plan {
    capacity: u64,
    /// Messages that stand in the ring before the threads start.
    filled: u64,
    /// How often the producer tries to publish one more.
    publishes: u64,
    readers: u8,
    /// How often each reader looks for one more; it commits after each message.
    reads: u64,
}

/// Nobody waits in the threads (a loop that waits multiplies the executions without end): each side tries a
/// few times, whatever comes of it. What must hold is that nobody ever sees anything wrong, and that afterwards
/// every reader gets exactly the messages that it lacks.
fn one_producer_and_readers(weak: Weak, plan: Plan) {
    let turns: &[Role] = if plan.readers > 1 { &[Role::Slot] } else { &[] };
    let world = World::new(plan.capacity, weak, turns);
    let shard = world.shard::<Sound>();
    for gate in 0..plan.readers {
        shard.join(gate, 1, &world.cursors[usize::from(gate)], Start::First);
    }
    let mut producer = world.producer::<Sound>(7, 0, plan.readers);
    for position in 0..plan.filled {
        producer.publish(&outgoing(&message(position))).expect("the ring has space");
    }
    let threads: Vec<_> = (0..plan.readers)
        .map(|gate| {
            let mut reader = world.reader::<Sound>(gate, 0);
            thread::spawn(move || {
                read_some(&mut reader, plan.reads);
                reader
            })
        })
        .collect();
    for _ in 0..plan.publishes {
        match producer.publish(&outgoing(&message(producer.position()))) {
            Ok(_) | Err(PublishError::Full(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    for thread in threads {
        let mut reader = thread.join().unwrap();
        read_some(&mut reader, plan.capacity);
        assert_eq!(reader.position(), producer.position(), "a message is missing");
    }
}

fn read_some<M: LoomMemory>(reader: &mut CursorReader<M>, attempts: u64) {
    for _ in 0..attempts {
        let expected = reader.position();
        if let Some(found) = read_intact(reader) {
            assert_eq!(found, expected);
            reader.commit(found + 1).expect("nobody takes the cursor");
        }
    }
}

/// Both readers must move before the third and fourth message can go over the first and second.
const TWO_READERS: Plan = Plan { capacity: 2, filled: 2, publishes: 2, readers: 2, reads: 1 };
/// The same with readers that go on; too much to explore in full.
const TWO_EAGER_READERS: Plan = Plan { capacity: 2, filled: 2, publishes: 2, readers: 2, reads: 2 };
/// Four messages through two slots: the last overwrites what was itself written over a message.
const TWO_WRAPS: Plan = Plan { capacity: 2, filled: 1, publishes: 3, readers: 1, reads: 3 };

#[test]
fn two_readers_see_every_message_in_order_over_a_wrap() {
    explore("publish: two readers, one wrap", || one_producer_and_readers(Weak::Nothing, TWO_READERS));
    explore_within("publish: two eager readers", Some(2), || {
        one_producer_and_readers(Weak::Nothing, TWO_EAGER_READERS);
    });
}

#[test]
fn one_reader_sees_every_message_in_order_over_two_wraps() {
    explore("publish: one reader, two wraps", || one_producer_and_readers(Weak::Nothing, TWO_WRAPS));
}

#[test]
fn a_commit_that_does_not_release_tears_messages() {
    let weak = Weak::Release(Role::Slot);
    finds_fault("slot word without release", &[RACE], move || one_producer_and_readers(weak, TWO_WRAPS));
}

#[test]
fn a_read_that_does_not_acquire_tears_messages() {
    let weak = Weak::Acquire(Role::Slot);
    finds_fault("slot word without acquire", &[RACE], move || one_producer_and_readers(weak, TWO_WRAPS));
}

#[test]
fn a_cursor_that_does_not_release_lets_the_producer_write_under_the_reader() {
    let weak = Weak::Release(Role::Cursor);
    finds_fault("cursor without release", &[RACE], move || one_producer_and_readers(weak, TWO_WRAPS));
}

#[test]
fn a_gate_that_is_not_acquired_lets_the_producer_write_under_the_reader() {
    let weak = Weak::Acquire(Role::Cursor);
    finds_fault("cursor without acquire", &[RACE], move || one_producer_and_readers(weak, TWO_WRAPS));
}

/// One producer raises the limit and ends; the next finds it raised and never looks at the gates. Only the limit
/// word itself orders its stores behind the reader's loads.
static SEEN_RAISED: AtomicBool = AtomicBool::new(false);

fn the_next_producer_trusts_the_limit(weak: Weak) {
    let world = World::new(2, weak, &[Role::Limit, Role::Cursor]);
    world.shard::<Sound>().join(0, 1, &world.cursors[0], Start::First);
    let mut first = world.producer::<Sound>(7, 0, 1);
    for position in 0..2 {
        first.publish(&outgoing(&message(position))).expect("the ring has space");
    }
    let mut reader = world.reader::<Sound>(0, 0);
    let reading = thread::spawn(move || {
        read_some(&mut reader, 1);
        reader
    });
    let raising = thread::spawn(move || first.has_space());
    let mut second = world.producer::<Sound>(8, 2, 1);
    // Relaxed: the look itself must order nothing.
    let raised = LimitWord::unpack(world.limit.load(Ordering::Relaxed)).position > 2;
    SEEN_RAISED.fetch_or(raised, Ordering::Relaxed);
    let published = raised && second.publish(&outgoing(&message(2))).is_ok();
    raising.join().unwrap();
    let mut reader = reading.join().unwrap();
    read_some(&mut reader, 2);
    assert_eq!(reader.position(), 2 + u64::from(published));
}

#[test]
fn a_producer_may_use_a_limit_that_another_raised() {
    explore("publish: limit handed over", || the_next_producer_trusts_the_limit(Weak::Nothing));
    assert!(SEEN_RAISED.load(Ordering::Relaxed), "the case was never explored");
}

#[test]
fn a_limit_that_does_not_release_lets_the_next_producer_write_under_the_reader() {
    let weak = Weak::Release(Role::Limit);
    finds_fault("limit without release", &[RACE], move || the_next_producer_trusts_the_limit(weak));
}

#[test]
fn a_limit_that_is_not_acquired_lets_the_next_producer_write_under_the_reader() {
    let weak = Weak::Acquire(Role::Limit);
    finds_fault("limit without acquire", &[RACE], move || the_next_producer_trusts_the_limit(weak));
}
