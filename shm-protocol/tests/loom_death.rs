//! Explores a producer that dies in the middle of a message: the shard buries it, and the stream goes on.
//!
//! Death is an unwinding out of the copy, between reserved and committed. That the kernel has reported it is
//! modelled by joining the thread: no store of the dead comes after that.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod loom_support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::thread;
use loom_support::{
    Death, Died, Role, Sound, Weak, World, explore, finds_fault, message, outgoing, read_intact,
};
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::ring::{CursorReader, ExclusiveProducer, Room};

const DEAD: u32 = 7;
const NEXT: u32 = 8;

fn room(world: &World, marks: bool) -> Room<Sound> {
    if marks { world.detaching_room(1) } else { world.room(1) }
}

/// Reads what is there, and what was passed over in between.
fn drain(reader: &mut CursorReader<Sound>, seen: &mut Vec<u64>) {
    while let Some(position) = read_intact(reader) {
        seen.push(position);
        reader.commit(position + 1).expect("nobody takes the cursor");
    }
}

/// Two slots. The producer publishes position 0, dies at `dies_at`, is buried; its successor publishes one
/// more. The reader looks all the while. Only where readers may look at a slot while it is overwritten does an exclusive
/// producer reserve it first (`marks`) and leave something to be buried; elsewhere its successor writes it anew.
fn a_producer_dies(dies_at: u64, marks: bool) {
    let world = World::new(2, Weak::Nothing, &[Role::Slot, Role::Limit]);
    let shard = world.shard::<Sound>();
    shard.join(0, 1, &world.cursors[0], Start::First);
    let slots = world.slots.with_death(Death::At(dies_at));
    let mut doomed = ExclusiveProducer::<Sound>::new(slots, room(&world, marks), DEAD, 0);
    let producing = thread::spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for position in 0..=dies_at {
                doomed.publish(&outgoing(&message(position))).expect("the ring has space");
            }
        }));
        assert!(outcome.is_err_and(|reason| reason.is::<Died>()), "it dies where it should");
    });
    let mut reader = world.reader::<Sound>(0, 0);
    let reading = thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..2 {
            seen.extend(read_intact(&mut reader));
        }
        (reader, seen)
    });
    producing.join().unwrap();
    assert_eq!(shard.bury(NEXT), 0, "what others own is left alone");
    assert_eq!(shard.bury(DEAD), u64::from(marks));
    assert_eq!(shard.bury(DEAD), 0, "a second burial finds nothing");
    let end = shard.end();
    assert_eq!(end, dies_at + u64::from(marks), "a tombstone belongs to the log");
    let mut successor = ExclusiveProducer::new(world.slots.clone(), room(&world, marks), NEXT, end);
    let published = successor.publish(&outgoing(&message(end))).is_ok();
    assert!(published || marks && dies_at == 1, "with both slots taken it depends on the reader");
    let (mut reader, mut seen) = reading.join().unwrap();
    drain(&mut reader, &mut seen);
    if !published {
        reader.commit(reader.position()).expect("nobody takes the cursor");
        successor.publish(&outgoing(&message(end))).expect("the reader has passed everything");
        drain(&mut reader, &mut seen);
    }
    let expected: Vec<u64> = (0..=end).filter(|&position| !marks || position != dies_at).collect();
    assert_eq!(seen, expected, "all that was committed, and only that, in order");
    assert_eq!(reader.position(), end + 1);
}

#[test]
fn a_reader_passes_the_tombstone_of_a_first_message_and_reads_the_successor() {
    explore("death: in the first message", || a_producer_dies(0, true));
}

#[test]
fn a_reader_passes_the_tombstone_of_a_second_message_and_reads_the_successor() {
    explore("death: in the second message", || a_producer_dies(1, true));
}

#[test]
fn what_a_dead_producer_began_without_a_mark_its_successor_writes_anew() {
    explore("death: in the first message, unmarked", || a_producer_dies(0, false));
    explore("death: in the second message, unmarked", || a_producer_dies(1, false));
}

/// The shard does not wait for the proof of death.
#[test]
fn burying_an_owner_who_is_alive_loses_a_message_that_it_reported_as_published() {
    finds_fault("death: buried alive", &["lost"], || {
        let world = World::new(2, Weak::Nothing, &[Role::Slot, Role::Limit]);
        let shard = world.shard::<Sound>();
        shard.join(0, 1, &world.cursors[0], Start::First);
        let mut producer = ExclusiveProducer::new(world.slots.clone(), room(&world, true), DEAD, 0);
        let producing = thread::spawn(move || producer.publish(&outgoing(&message(0))).is_ok());
        shard.bury(DEAD);
        let mut reader = world.reader::<Sound>(0, 0);
        let early = read_intact(&mut reader);
        let published = producing.join().unwrap();
        let seen = early.or_else(|| read_intact(&mut reader));
        assert_eq!(seen.is_some(), published, "lost");
    });
}
