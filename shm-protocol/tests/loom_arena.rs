//! Explores payloads in arenas: no block is written again while a reader may look at it, be it under its gate, under a
//! hazard, or (where readers validate) at its own risk.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod loom_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;
use loom::thread;
use loom_support::{
    LoomMemory, NoAcquireFence, NoReleaseFence, Role, Sound, Weak, World, explore, explore_within,
    finds_fault,
};
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::ring::{
    ArenaBlock, Blocks, CursorReader, ExclusiveProducer, Outgoing, Part, Producer, Reclaim, Taken,
};

/// What loom says of a block that is read and written at the same time.
const RACE: &str = "Causality violation";
const ARENA: u32 = 3;
/// Bytes of every payload: one block of the smallest class.
const BYTES: usize = 100;

/// The bytes of the block.
struct Memory(UnsafeCell<u8>);

// SAFETY: loom itself reports when two threads touch the cell at the same time.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// The payload memory of a producer: one block.
fn one_block() -> (Blocks, Taken) {
    let mut blocks = Blocks::new();
    blocks.add_arena(ARENA, Blocks::region_bytes(BYTES));
    let block = blocks.take(BYTES).unwrap();
    assert_eq!(blocks.take(BYTES), None);
    (blocks, block)
}

/// Reads the next message if it is there; where its payload lies.
fn read_reference<M: LoomMemory>(reader: &mut CursorReader<M>) -> Option<(u64, ArenaBlock)> {
    let mut buffer = [0; 48];
    let received = reader.read(&mut buffer).unwrap()?;
    let Part::Arena(block) = received.payload(&buffer) else { panic!("an inline message") };
    Some((received.position, block))
}

/// In which order the reader lets go of its message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holding {
    /// Hazard, commit, read, clear.
    Production,
    /// Commit, hazard, read, clear.
    CommitFirst,
    /// Commit, read: without a hazard.
    Without,
}

/// Whether the block was given out while the reader was at work, and afterwards.
static REUSED: AtomicBool = AtomicBool::new(false);

/// One message with a payload in the one block. The reader holds it in place beyond its commit; the producer
/// tries to use the block again all the while.
fn a_reader_holds(weak: Weak, holding: Holding) {
    let world = World::new(2, weak, &[]);
    world.shard::<Sound>().join(0, 1, &world.cursors[0], Start::First);
    let memory = Arc::new(Memory(UnsafeCell::new(0)));
    let (mut blocks, block) = one_block();
    let mut producer = Producer::Exclusive(world.producer::<Sound>(7, 0, 1));
    // SAFETY: loom checks that nobody else is at the cell.
    memory.0.with_mut(|byte| unsafe { *byte = 1 });
    let position = producer.publish(&Outgoing::in_arena(block.with(BYTES))).unwrap();
    blocks.published(position, block);

    let (mut reader, hazards) = (world.reader::<Sound>(0, 0), world.hazards::<Sound>(0));
    let in_place = Arc::clone(&memory);
    let reading = thread::spawn(move || {
        let (position, block) = read_reference(&mut reader).expect("it was published before");
        assert_eq!((block.arena, block.bytes), (ARENA, BYTES));
        let set = || hazards.set(position).expect("no other is set");
        let early = (holding == Holding::Production).then(set);
        reader.commit(position + 1).unwrap();
        let hazard = early.or_else(|| (holding == Holding::CommitFirst).then(set));
        // SAFETY: loom checks that nobody writes the cell.
        assert_eq!(in_place.0.with(|byte| unsafe { *byte }), 1, "the block was used again");
        if let Some(hazard) = hazard {
            hazards.clear(hazard);
        }
    });
    for _ in 0..2 {
        let reclaimed = producer.reclaim(&mut blocks, Reclaim::Passed);
        if let Some(block) = blocks.take(BYTES) {
            reclaimed.unwrap();
            REUSED.fetch_or(true, Ordering::Relaxed);
            // SAFETY: loom checks that nobody else is at the cell.
            memory.0.with_mut(|byte| unsafe { *byte = 2 });
            blocks.give_back(block);
        }
    }
    reading.join().unwrap();
    let _ = producer.reclaim(&mut blocks, Reclaim::Passed);
    assert!(blocks.take(BYTES).is_some(), "the block is never lost");
}

#[test]
fn a_block_is_used_again_only_when_its_reader_has_let_go() {
    explore("arena: hazard against reclaim", || a_reader_holds(Weak::Nothing, Holding::Production));
    assert!(REUSED.load(Ordering::Relaxed), "the block was never given out in time");
}

#[test]
fn a_reader_without_a_hazard_finds_its_block_used_again() {
    finds_fault("arena: no hazard", &[RACE, "used again"], || {
        a_reader_holds(Weak::Nothing, Holding::Without)
    });
}

#[test]
fn a_hazard_that_is_set_behind_the_commit_comes_too_late() {
    finds_fault("arena: hazard behind the commit", &[RACE, "used again"], || {
        a_reader_holds(Weak::Nothing, Holding::CommitFirst);
    });
}

#[test]
fn a_hazard_that_is_cleared_without_release_lets_the_producer_write_under_the_reader() {
    finds_fault("arena: hazard without release", &[RACE, "used again"], || {
        a_reader_holds(Weak::Release(Role::Hazard), Holding::Production);
    });
}

#[test]
fn a_hazard_that_is_not_acquired_lets_the_producer_write_under_the_reader() {
    finds_fault("arena: hazard without acquire", &[RACE, "used again"], || {
        a_reader_holds(Weak::Acquire(Role::Hazard), Holding::Production);
    });
}

#[test]
fn a_cursor_that_does_not_release_hides_the_hazard() {
    finds_fault("arena: cursor without release", &[RACE, "used again"], || {
        a_reader_holds(Weak::Release(Role::Cursor), Holding::Production);
    });
}

/// A stream that drops its oldest: the producer takes its own message back to use the block again, while a reader
/// copies, and looks again.
fn a_reader_copies_what_is_taken_back<M: LoomMemory>() {
    let world = World::new(2, Weak::Nothing, &[]);
    world.shard::<M>().place_reader(&world.cursors[0], Start::First);
    let memory = Arc::new(AtomicU32::new(0));
    let (mut blocks, block) = one_block();
    let room = world.dropping_room();
    let mut producer = Producer::Exclusive(ExclusiveProducer::<M>::new(world.slots.clone(), room, 7, 0));
    memory.store(1, Ordering::Relaxed);
    let position = producer.publish(&Outgoing::in_arena(block.with(BYTES))).unwrap();
    blocks.published(position, block);

    let mut reader = world.validating_reader::<M>(0, 0);
    let copying = Arc::clone(&memory);
    let reading = thread::spawn(move || {
        let (position, _) = read_reference(&mut reader)?;
        let copied = copying.load(Ordering::Relaxed);
        let whole = reader.is_unchanged(position);
        if !whole {
            reader.count_missed();
        }
        assert!(!whole || copied == 1 + position as u32, "torn: {copied} at {position}");
        Some(reader)
    });
    producer.reclaim(&mut blocks, Reclaim::Unheld).unwrap();
    let block = blocks.take(BYTES).expect("nothing holds it");
    memory.store(2, Ordering::Relaxed);
    let position = producer.publish(&Outgoing::in_arena(block.with(BYTES))).unwrap();
    blocks.published(position, block);
    reading.join().unwrap();
    let mut late = world.validating_reader::<M>(0, 0);
    let (position, _) = read_reference(&mut late).expect("the new message is there");
    assert_eq!((position, late.missed()), (1, 1), "what was taken back counts as missed");
}

#[test]
fn a_reader_never_takes_a_block_that_was_used_again_for_its_message() {
    explore_within("arena: taken back under a copy", Some(4), a_reader_copies_what_is_taken_back::<Sound>);
}

#[test]
fn without_the_fence_behind_the_withdrawal_a_reader_is_fooled() {
    finds_fault("arena: no release fence", &["torn"], a_reader_copies_what_is_taken_back::<NoReleaseFence>);
}

#[test]
fn without_the_fence_before_the_second_look_a_reader_is_fooled() {
    finds_fault("arena: no acquire fence", &["torn"], a_reader_copies_what_is_taken_back::<NoAcquireFence>);
}
