//! Explores readers whom producers do not wait for: one that validates never returns anything torn, and every message
//! is either read or counted as missed; a subscription that is detached while it commits; and one that is attached again where it stands,
//! or not at all.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod loom_support;

use std::sync::atomic::{AtomicBool, Ordering};

use loom::thread;
use loom_support::{
    Bodies, LoomMemory, LoomWord, NoAcquireFence, NoReleaseFence, Role, Sound, Weak, World, explore,
    explore_within, finds_fault, finds_fault_within, outgoing, read_any,
};
use ringway_shm_protocol::memory::Word;
use ringway_shm_protocol::ring::shard::{ShardRing, Start};
use ringway_shm_protocol::ring::{CursorReader, ExclusiveProducer, Producer, PublishError, SharedProducer};
use ringway_shm_protocol::words::CursorWord;

/// The message at a position: no two next to each other are alike, in length neither.
fn payload(position: u64) -> Vec<u8> {
    vec![position as u8 + 1; 1 + position as usize % 3]
}

/// Reads up to `attempts` messages; panics when one is torn, foreign, or out of order.
fn read_some<M: LoomMemory>(reader: &mut CursorReader<M>, attempts: u64) -> u64 {
    let mut read = 0;
    for _ in 0..attempts {
        let from = reader.position();
        if let Some((position, found)) = read_any(reader) {
            assert!(position >= from);
            assert_eq!(found, payload(position), "torn or foreign message");
            read += 1;
        }
    }
    read
}

/// `filled` messages stand in the two slots; the producer writes `publishes` more over them under the reader's eyes.
fn a_reader_is_overwritten<M: LoomMemory>(weak: Weak, filled: u64, publishes: u64, reads: u64) {
    let world = World::with_bodies(2, weak, &[], Bodies::Racing);
    world.shard::<M>().place_reader(&world.cursors[0], Start::First);
    let mut producer = ExclusiveProducer::<M>::new(world.slots.clone(), world.dropping_room(), 7, 0);
    for position in 0..filled {
        producer.publish(&outgoing(&payload(position))).expect("nothing holds it");
    }
    let mut reader = world.validating_reader::<M>(0, 0);
    let reading = thread::spawn(move || {
        let read = read_some(&mut reader, reads);
        (reader, read)
    });
    for position in filled..filled + publishes {
        producer.publish(&outgoing(&payload(position))).expect("nothing holds it");
    }
    let (mut reader, mut read) = reading.join().unwrap();
    read += read_some(&mut reader, 3);
    assert_eq!(reader.position(), filled + publishes, "the newest message is never missed");
    assert_eq!(read + reader.missed(), filled + publishes, "each is read or counted");
}

#[test]
fn a_reader_that_validates_returns_nothing_torn_while_it_is_overwritten() {
    explore("lossy: one message over the oldest", || {
        a_reader_is_overwritten::<Sound>(Weak::Nothing, 2, 1, 1);
    });
    explore_within("lossy: a whole lap", Some(2), || {
        a_reader_is_overwritten::<Sound>(Weak::Nothing, 2, 2, 2)
    });
}

#[test]
fn without_the_fence_behind_the_reservation_a_torn_message_passes() {
    finds_fault("lossy: no release fence", &["torn"], || {
        a_reader_is_overwritten::<NoReleaseFence>(Weak::Nothing, 2, 1, 1);
    });
}

#[test]
fn without_the_fence_before_the_second_look_a_torn_message_passes() {
    finds_fault("lossy: no acquire fence", &["torn"], || {
        a_reader_is_overwritten::<NoAcquireFence>(Weak::Nothing, 2, 1, 1);
    });
}

#[test]
fn a_commit_that_does_not_release_lets_an_old_body_pass_for_the_new_message() {
    finds_fault("lossy: slot word without release", &["torn", "corrupt"], || {
        a_reader_is_overwritten::<Sound>(Weak::Release(Role::Slot), 0, 1, 1);
    });
}

/// Two shared producers overwrite, and a reader validates.
fn two_producers_overwrite(publishes: u64) {
    let world = World::with_bodies(2, Weak::Nothing, &[Role::Slot, Role::Limit], Bodies::Racing);
    world.shard::<Sound>().place_reader(&world.cursors[0], Start::First);
    let producer = |owner| {
        SharedProducer::<Sound>::new(world.slots.clone(), world.dropping_room(), world.tail(), owner, 0)
    };
    let (mut first, mut second) = (producer(7), producer(8));
    // All messages of a producer are alike: which position they get is open.
    let send = |producer: &mut SharedProducer<Sound>, byte: u8| match producer.publish(&outgoing(&[byte; 2]))
    {
        Ok(_) => 1,
        Err(PublishError::Stalled { .. }) => 0,
        Err(error) => panic!("{error}"),
    };
    let mut sent = send(&mut first, 1);
    let producing = thread::spawn(move || (0..publishes).map(|_| send(&mut second, 2)).sum::<u64>());
    let mut reader = world.validating_reader::<Sound>(0, 0);
    let look = |reader: &mut CursorReader<Sound>| {
        read_any(reader).map_or(0, |(_, found)| {
            assert!(found == [1, 1] || found == [2, 2], "torn: {found:?}");
            1
        })
    };
    let reading = thread::spawn(move || {
        let read = look(&mut reader);
        (reader, read)
    });
    for _ in 0..publishes {
        sent += send(&mut first, 1);
    }
    sent += producing.join().unwrap();
    let (mut reader, mut read) = reading.join().unwrap();
    read += (0..3).map(|_| look(&mut reader)).sum::<u64>();
    assert_eq!(read + reader.missed(), sent, "each is read or counted");
}

#[test]
fn a_reader_that_validates_returns_nothing_torn_of_two_producers() {
    explore_within("lossy: two producers", Some(2), || two_producers_overwrite(1));
}

/// Which cases the detaching model has seen.
static DETACHED: AtomicBool = AtomicBool::new(false);
static KEPT: AtomicBool = AtomicBool::new(false);

/// The ring is full. The shard detaches the gate that holds it, while its reader reads and commits and the producer
/// tries again; then the reader asks to be let in again, while the producer goes on.
fn a_gate_is_detached(weak: Weak) {
    let world = World::with_bodies(2, weak, &[Role::Limit, Role::Cursor], Bodies::Racing);
    let shard = world.shard::<Sound>();
    shard.join(0, 1, &world.cursors[0], Start::First);
    let mut producer = Producer::Exclusive(ExclusiveProducer::<Sound>::new(
        world.slots.clone(),
        world.detaching_room(1),
        7,
        0,
    ));
    for position in 0..2 {
        producer.publish(&outgoing(&payload(position))).expect("the ring has space");
    }
    let mut reader = world.validating_reader::<Sound>(0, 0);
    let reading = thread::spawn(move || {
        let read = read_some(&mut reader, 1);
        let lost = reader.commit(reader.position()).err();
        (reader, read, lost)
    });
    let producing = thread::spawn(move || {
        for _ in 0..2 {
            let message = payload(producer.position());
            match producer.publish(&outgoing(&message)) {
                Ok(_) | Err(PublishError::Full(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        producer
    });
    let detached = shard.detach(0, &world.cursors[0]);
    let (mut reader, mut read, lost) = reading.join().unwrap();
    assert!(!detached || lost.is_none_or(|lost| lost.is_detached()));
    if detached {
        DETACHED.fetch_or(true, Ordering::Relaxed);
        shard.join(0, 2, &world.cursors[0], Start::At(reader.position()));
        reader.attach(CursorWord::unpack(world.cursors[0].load(Ordering::Acquire)));
    } else {
        KEPT.fetch_or(true, Ordering::Relaxed);
        assert_eq!(lost, None);
    }
    let attached_at = reader.position();
    let mut producer = producing.join().unwrap();
    read += read_some(&mut reader, 3);
    assert_eq!(reader.position(), producer.position(), "the newest message is never missed");
    assert_eq!(read + reader.missed(), producer.position(), "each is read or counted");
    let generation = if detached { 2 } else { 1 };
    producer.gates().map(0, generation, world.cursors[0].clone(), world.hazards(0));
    while producer.publish(&outgoing(&payload(producer.position()))).is_ok() {}
    assert!(producer.position() <= attached_at.max(2) + 2, "it is a gate again");
}

#[test]
fn a_subscription_that_is_detached_while_it_commits_loses_count_of_nothing() {
    explore_within("lossy: detach", Some(2), || a_gate_is_detached(Weak::Nothing));
    assert!(DETACHED.load(Ordering::Relaxed) && KEPT.load(Ordering::Relaxed), "both cases were explored");
}

/// Which cases the model of a backlog has seen.
static REJOINED: AtomicBool = AtomicBool::new(false);
static OVERTAKEN: AtomicBool = AtomicBool::new(false);

/// The ring is full, and its gate was detached. It is attached again by `attach`, at the position where it stands, while the producer
/// goes on: there, or not at all.
fn a_gate_is_attached_where_it_stands(attach: fn(&ShardRing<Sound>, &LoomWord) -> bool) {
    let world = World::with_bodies(2, Weak::Nothing, &[Role::Limit, Role::Cursor], Bodies::Racing);
    let shard = world.shard::<Sound>();
    shard.join(0, 1, &world.cursors[0], Start::First);
    let room = world.detaching_room(1);
    let mut producer = ExclusiveProducer::<Sound>::new(world.slots.clone(), room, 7, 0);
    for position in 0..2 {
        producer.publish(&outgoing(&payload(position))).expect("the ring has space");
    }
    let before = world.validating_reader::<Sound>(0, 0);
    assert!(before.is_live_still());
    assert!(shard.detach(0, &world.cursors[0]));
    assert!(!before.is_live_still(), "it may not look at blocks any more");
    let producing = thread::spawn(move || {
        for _ in 0..2 {
            let message = payload(producer.position());
            match producer.publish(&outgoing(&message)) {
                Ok(_) | Err(PublishError::Full(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        producer.position()
    });
    let is_attached = attach(&shard, &world.cursors[0]);
    let cursor = CursorWord::unpack(world.cursors[0].load(Ordering::Acquire));
    assert_eq!((cursor.position, cursor.live), (0, is_attached), "attached elsewhere");
    if is_attached {
        REJOINED.fetch_or(true, Ordering::Relaxed);
        let mut reader = world.validating_reader::<Sound>(0, 0);
        reader.stop_when_overtaken(cursor);
        let read = read_some(&mut reader, 2);
        assert_eq!((read, reader.position()), (2, 2), "the ring has what it had");
        assert!(reader.is_live_still());
        assert_eq!(producing.join().unwrap(), 2, "it holds the producer");
    } else {
        OVERTAKEN.fetch_or(true, Ordering::Relaxed);
        assert_eq!(shard.gates(), []);
        producing.join().unwrap();
    }
}

#[test]
fn a_gate_that_loses_nothing_is_attached_where_it_stands_or_not_at_all() {
    explore_within("lossy: attached again", Some(3), || {
        a_gate_is_attached_where_it_stands(|shard, cursor| shard.rejoin(0, 2, cursor, 0));
    });
    assert!(
        REJOINED.load(Ordering::Relaxed) && OVERTAKEN.load(Ordering::Relaxed),
        "both cases were explored"
    );
}

#[test]
fn a_gate_that_is_attached_at_the_oldest_message_loses_some() {
    finds_fault_within("lossy: attached at the oldest", Some(3), &["attached elsewhere"], || {
        a_gate_is_attached_where_it_stands(|shard, cursor| {
            shard.join(0, 2, cursor, Start::At(0));
            true
        });
    });
}
