//! Explores sleeping and waking, in both directions: no wake-up is lost, and it is the fence that sees to it.
//!
//! A bell here has no timeout, so a lost wake-up ends in a deadlock, which loom reports.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod loom_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::thread;
use loom_support::{
    FOR_EVER, LoomMemory, NoFullFence, Role, Sound, Weak, World, explore, explore_within, finds_fault,
    message, outgoing, read_any, read_intact,
};
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::ring::{PublishError, Ringer};

/// `readers` sleep until each has read `messages` messages; the producer rings after each.
fn readers_sleep<M: LoomMemory>(readers: u8, messages: u64) {
    let world = World::new(2, Weak::Nothing, &[]);
    let shard = world.shard::<M>();
    for gate in 0..readers {
        shard.join(gate, 1, &world.cursors[usize::from(gate)], Start::First);
    }
    let threads: Vec<_> = (0..readers)
        .map(|gate| {
            let mut reader = world.reader::<M>(gate, 0);
            let data = world.data::<M>();
            thread::spawn(move || {
                while reader.position() < messages {
                    if read_intact(&mut reader).is_none() {
                        data.sleep_unless(FOR_EVER, || reader.has_next());
                    }
                }
            })
        })
        .collect();
    let mut producer = world.producer::<M>(7, 0, readers);
    let data = world.data::<M>();
    let mut ringer = Ringer::default();
    for position in 0..messages {
        producer.publish(&outgoing(&message(position))).expect("the ring has space");
        ringer.ring(&data);
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

/// The ring is full; the producer sleeps until it has published `messages` more; the reader rings after each commit.
fn the_producer_sleeps<M: LoomMemory>(messages: u64) {
    let world = World::new(2, Weak::Nothing, &[]);
    world.shard::<M>().join(0, 1, &world.cursors[0], Start::First);
    let mut producer = world.producer::<M>(7, 0, 1);
    for position in 0..2 {
        producer.publish(&outgoing(&message(position))).expect("the ring has space");
    }
    let mut reader = world.reader::<M>(0, 0);
    let space = world.space::<M>();
    let reading = thread::spawn(move || {
        let mut ringer = Ringer::default();
        for expected in 0..messages {
            assert_eq!(read_intact(&mut reader), Some(expected), "was published before");
            reader.commit(expected + 1).expect("nobody takes the cursor");
            ringer.ring(&space);
        }
    });
    let space = world.space::<M>();
    while producer.position() < 2 + messages {
        match producer.publish(&outgoing(&message(producer.position()))) {
            Ok(_) => {}
            Err(PublishError::Full(_)) => space.sleep_unless(FOR_EVER, || producer.has_space()),
            Err(error) => panic!("{error}"),
        }
    }
    reading.join().unwrap();
}

/// Two shared producers publish one message each and ring for themselves; the reader sleeps until it has both.
fn two_publishers_ring<M: LoomMemory>() {
    let world = World::new(2, Weak::Nothing, &[Role::Slot, Role::Announce]);
    world.shard::<M>().join(0, 1, &world.cursors[0], Start::First);
    let threads: Vec<_> = [7, 8]
        .into_iter()
        .map(|owner| {
            let (mut producer, data) = (world.shared::<M>(owner, 0, 1), world.data::<M>());
            thread::spawn(move || {
                producer.publish(&outgoing(b"x")).expect("the ring has space");
                Ringer::default().ring(&data);
            })
        })
        .collect();
    let (mut reader, data) = (world.reader::<M>(0, 0), world.data::<M>());
    while reader.position() < 2 {
        if read_any(&mut reader).is_none() {
            data.sleep_unless(FOR_EVER, || reader.has_next());
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn no_reader_misses_the_bells_of_two_publishers() {
    explore_within("wake: two publishers", Some(2), two_publishers_ring::<Sound>);
}

#[test]
fn without_the_fence_a_reader_of_two_publishers_sleeps_for_ever() {
    finds_fault("wake: two publishers, no fence", &["deadlock"], two_publishers_ring::<NoFullFence>);
}

#[test]
fn no_reader_misses_the_bell_of_a_publisher() {
    explore("wake: one reader, one message", || readers_sleep::<Sound>(1, 1));
    explore_within("wake: one reader, two messages", Some(3), || readers_sleep::<Sound>(1, 2));
    explore_within("wake: two readers, one message", Some(2), || readers_sleep::<Sound>(2, 1));
}

#[test]
fn no_producer_misses_the_bell_of_a_reader_that_makes_space() {
    explore("wake: producer, one message", || the_producer_sleeps::<Sound>(1));
    explore_within("wake: producer, two messages", Some(3), || the_producer_sleeps::<Sound>(2));
}

#[test]
fn without_the_fence_a_reader_sleeps_for_ever() {
    finds_fault("wake: reader, no fence", &["deadlock"], || readers_sleep::<NoFullFence>(1, 1));
}

#[test]
fn without_the_fence_a_producer_sleeps_for_ever() {
    finds_fault("wake: producer, no fence", &["deadlock"], || the_producer_sleeps::<NoFullFence>(1));
}

#[test]
fn a_sleeper_that_does_not_look_again_sleeps_for_ever() {
    finds_fault("wake: no second look", &["deadlock"], || {
        let world = World::new(2, Weak::Nothing, &[]);
        let mut producer = world.producer::<Sound>(7, 0, 0);
        let mut reader = world.reader::<Sound>(0, 0);
        let data = world.data::<Sound>();
        let sleeping = thread::spawn(move || {
            while read_intact(&mut reader).is_none() {
                data.sleep_unless(FOR_EVER, || false);
            }
        });
        producer.publish(&outgoing(&message(0))).expect("no gate");
        Ringer::default().ring(&world.data::<Sound>());
        sleeping.join().unwrap();
    });
}

#[test]
fn who_finds_nobody_announced_does_not_ring() {
    let quiet = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&quiet);
    explore("wake: nobody sleeps", move || {
        let world = World::new(2, Weak::Nothing, &[]);
        let mut ringer = Ringer::default();
        seen.store(!ringer.ring(&world.data::<Sound>()), Ordering::Relaxed);
    });
    assert!(quiet.load(Ordering::Relaxed));
}
