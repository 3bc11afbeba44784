//! Explores several producers on one ring: every message of each arrives once, whole and in its order, over a wrap, while
//! one of them dies, and while a subscription joins.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod loom_support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use loom::thread;
use loom_support::{
    Death, Died, LoomMemory, Role, Sound, Weak, World, explore, explore_within, finds_fault,
    finds_fault_within, outgoing, read_any,
};
use ringway_shm_protocol::memory::{Slots, Word};
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::ring::{CursorReader, PublishError, SharedProducer};
use ringway_shm_protocol::words::SlotWord;

const FIRST: u32 = 7;
const SECOND: u32 = 8;
/// Words that several threads load.
const TURNS: &[Role] = &[Role::Slot, Role::Limit];
/// What loom says of a body that is written or read at the same time.
const RACE: &str = "Causality violation";

/// What a message says: who sent it and which of its messages it is; its length differs, too.
fn payload(owner: u32, number: u64) -> Vec<u8> {
    vec![owner as u8 * 16 + number as u8; 1 + owner as usize % 2 + 2 * number as usize]
}

/// A message and where it went.
type Sent = (u64, Vec<u8>);

/// Publishes up to `attempts` messages.
fn publish(producer: &mut SharedProducer<Sound>, owner: u32, attempts: u64) -> Vec<Sent> {
    let mut sent = Vec::new();
    for _ in 0..attempts {
        let payload = payload(owner, sent.len() as u64);
        match producer.publish(&outgoing(&payload)) {
            Ok(position) => sent.push((position, payload)),
            Err(PublishError::Full(_) | PublishError::Stalled { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

/// Reads up to `attempts` messages, and commits each.
fn read_some<M: LoomMemory>(reader: &mut CursorReader<M>, attempts: u64) -> Vec<Sent> {
    let mut seen = Vec::new();
    for _ in 0..attempts {
        if let Some(message) = read_any(reader) {
            reader.commit(message.0 + 1).expect("nobody takes the cursor");
            seen.push(message);
        }
    }
    seen
}

/// Asserts that exactly what was sent was seen, where it was sent to.
fn check(mut sent: Vec<Sent>, seen: &[Sent]) {
    sent.sort();
    assert_eq!(sent, seen, "each message once, at its position, whole");
}

/// Two slots, one gate: of the producers' messages at most two fit before the reader commits.
fn two_producers_and_a_reader(weak: Weak, each: u64, reads: u64) {
    let world = World::new(2, weak, TURNS);
    world.shard::<Sound>().join(0, 1, &world.cursors[0], Start::First);
    let mut first = world.shared(FIRST, 0, 1);
    let mut sent = publish(&mut first, FIRST, 1);
    let mut second = world.shared(SECOND, 0, 1);
    let producing = thread::spawn(move || publish(&mut second, SECOND, each));
    let mut reader = world.reader::<Sound>(0, 0);
    let reading = thread::spawn(move || {
        let seen = read_some(&mut reader, reads);
        (reader, seen)
    });
    let mut more = publish(&mut first, FIRST, each);
    more.iter_mut().for_each(|(_, payload)| assert_eq!(payload[0] >> 4, FIRST as u8));
    sent.append(&mut more);
    sent.append(&mut producing.join().unwrap());
    let (mut reader, mut seen) = reading.join().unwrap();
    seen.append(&mut read_some(&mut reader, 3));
    check(sent, &seen);
}

#[test]
fn what_two_producers_send_arrives_once_and_whole_over_a_wrap() {
    explore_within("shared: two producers, one reader", Some(2), || {
        two_producers_and_a_reader(Weak::Nothing, 1, 1);
    });
    explore_within("shared: two producers, two each", Some(1), || {
        two_producers_and_a_reader(Weak::Nothing, 2, 2);
    });
}

/// Nobody reads, nobody holds them: two slots are written over and over.
fn two_producers_run_free(weak: Weak, each: u64) {
    let world = World::new(2, weak, TURNS);
    let mut first = world.shared(FIRST, 0, 0);
    let mut second = world.shared(SECOND, 0, 0);
    let producing = thread::spawn(move || publish(&mut second, SECOND, each));
    let mut sent = publish(&mut first, FIRST, each);
    sent.append(&mut producing.join().unwrap());
    sent.sort();
    let shard = world.shard::<Sound>();
    assert_eq!(shard.end(), sent.len() as u64, "every position once");
    let start = shard.join(0, 1, &world.cursors[0], Start::First);
    let kept = sent.split_off(start as usize);
    check(kept, &read_some(&mut world.reader::<Sound>(0, start), 2));
}

#[test]
fn two_producers_that_nobody_holds_never_write_one_slot_at_the_same_time() {
    explore_within("shared: free producers, two each", Some(2), || two_producers_run_free(Weak::Nothing, 2));
}

#[test]
fn an_exchange_that_does_not_acquire_lets_a_producer_write_under_the_one_before() {
    let weak = Weak::ExchangeAcquire(Role::Slot);
    finds_fault_within("shared: exchange without acquire", Some(3), &[RACE], move || {
        two_producers_run_free(weak, 2);
    });
}

/// Somebody looks at the second slot, then at the first.
fn taken_slots_are_a_prefix(weak: Weak) {
    let world = World::new(2, weak, &[Role::Slot]);
    let mut first = world.shared::<Sound>(FIRST, 0, 0);
    let mut second = world.shared::<Sound>(SECOND, 0, 0);
    let slots = world.slots.clone();
    let looking = thread::spawn(move || {
        let is_taken = |index| SlotWord::unpack(slots.word(index).load(Ordering::Acquire)).lap > 0;
        if is_taken(1) {
            assert!(is_taken(0), "a hole");
        }
    });
    let producing = thread::spawn(move || publish(&mut second, SECOND, 1));
    publish(&mut first, FIRST, 1);
    producing.join().unwrap();
    looking.join().unwrap();
}

#[test]
fn who_sees_a_slot_taken_sees_all_below_it_taken() {
    explore_within("shared: taken slots are a prefix", Some(3), || taken_slots_are_a_prefix(Weak::Nothing));
}

#[test]
fn an_exchange_that_does_not_release_shows_a_slot_before_the_one_below_it() {
    let weak = Weak::ExchangeRelease(Role::Slot);
    finds_fault("shared: exchange without release", &["a hole"], move || taken_slots_are_a_prefix(weak));
}

/// One producer dies in its first message, wherever that is; the other goes on; a reader looks all the while.
fn a_producer_dies(survivor_sends: u64, reads: u64) {
    let world = World::new(2, Weak::Nothing, TURNS);
    let shard = world.shard::<Sound>();
    shard.join(0, 1, &world.cursors[0], Start::First);
    let slots = world.slots.with_death(Death::First);
    let mut doomed = SharedProducer::<Sound>::new(slots, world.room(1), world.tail(), FIRST, 0);
    let dying = thread::spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| doomed.publish(&outgoing(&payload(FIRST, 0)))));
        match outcome {
            Err(reason) => assert!(reason.is::<Died>(), "it dies where it should"),
            Ok(full) => assert!(matches!(full, Err(PublishError::Full(_)))),
        }
    });
    let mut reader = world.reader::<Sound>(0, 0);
    let reading = thread::spawn(move || {
        let seen = read_some(&mut reader, reads);
        (reader, seen)
    });
    let mut survivor = world.shared(SECOND, 0, 1);
    let mut sent = publish(&mut survivor, SECOND, survivor_sends);
    dying.join().unwrap();
    let buried = shard.bury(FIRST);
    assert!(buried == 1 || sent.len() == 2, "only a full ring keeps it from dying in a message");
    assert_eq!(shard.bury(FIRST), 0, "a second burial finds nothing");
    let (mut reader, mut seen) = reading.join().unwrap();
    seen.append(&mut read_some(&mut reader, 2));
    // All is read, the tombstone passed over: the survivor has space again.
    reader.commit(reader.position()).expect("nobody takes the cursor");
    let position = survivor.publish(&outgoing(&payload(SECOND, 9))).expect("nothing holds the ring");
    sent.push((position, payload(SECOND, 9)));
    seen.append(&mut read_some(&mut reader, 1));
    check(sent, &seen);
    assert_eq!(reader.position(), seen.len() as u64 + buried);
}

#[test]
fn a_dead_producers_slot_is_passed_over_and_the_other_goes_on() {
    explore_within("shared: death, one message of the survivor", Some(2), || a_producer_dies(1, 1));
    explore_within("shared: death, two messages of the survivor", Some(1), || a_producer_dies(2, 1));
}

#[test]
fn a_producer_that_laps_a_dead_one_waits_until_it_is_buried() {
    explore("shared: stalled by the dead", || {
        let world = World::new(2, Weak::Nothing, &[]);
        let slots = world.slots.with_death(Death::First);
        let mut doomed = SharedProducer::<Sound>::new(slots, world.room(0), world.tail(), FIRST, 0);
        let died = thread::spawn(move || {
            catch_unwind(AssertUnwindSafe(|| doomed.publish(&outgoing(&payload(FIRST, 0))))).is_err()
        });
        assert!(died.join().unwrap());
        let mut survivor = world.shared::<Sound>(SECOND, 0, 0);
        assert_eq!(survivor.publish(&outgoing(b"1")), Ok(1));
        let stalled = PublishError::Stalled { position: 2, owner: FIRST };
        assert_eq!(survivor.publish(&outgoing(b"2")), Err(stalled));
        assert!(!survivor.has_space());
        assert_eq!(world.shard::<Sound>().bury(FIRST), 1);
        assert!(survivor.has_space());
        assert_eq!(survivor.publish(&outgoing(b"2")), Ok(2));
    });
}

/// How a gate is let in.
#[derive(Clone, Copy)]
enum Order {
    Production,
    /// The gate is entered and the epoch left alone.
    GateWithoutEpoch,
}

/// A subscription joins while both producers publish.
fn a_gate_joins(order: Order, filled: u64) {
    let world = World::new(2, Weak::Nothing, TURNS);
    let mut first = world.shared(FIRST, 0, 0);
    let mut second = world.shared(SECOND, 0, 0);
    let mut sent = publish(&mut first, FIRST, filled);
    let producing = thread::spawn(move || publish(&mut second, SECOND, 1));
    let shard = world.shard::<Sound>();
    let cursor = world.cursors[0].clone();
    let limit = world.limit.clone();
    let mut reader_world = world.clone();
    let joining = thread::spawn(move || {
        let promised = match order {
            Order::Production => shard.join(0, 1, &cursor, Start::First),
            Order::GateWithoutEpoch => {
                let oldest = shard.limit().saturating_sub(2);
                shard.place(0, 1, &cursor, oldest);
                let _ = limit.load(Ordering::Acquire);
                oldest
            }
        };
        reader_world.slots = reader_world.slots.with_death(Death::Never);
        let mut reader = reader_world.reader::<Sound>(0, promised);
        let seen: Vec<_> = read_any(&mut reader).into_iter().collect();
        (promised, reader, seen)
    });
    sent.append(&mut publish(&mut first, FIRST, 1));
    sent.append(&mut producing.join().unwrap());
    let (promised, mut reader, mut seen) = joining.join().unwrap();
    seen.extend(std::iter::from_fn(|| read_any(&mut reader)));
    sent.sort();
    check(sent.split_off((promised as usize).min(sent.len())), &seen);
    publish(&mut first, FIRST, 3);
    assert!(world.shard::<Sound>().end() <= promised + 2, "a producer ran past a gate");
}

#[test]
fn a_subscription_that_joins_two_free_producers_reads_all_it_was_promised() {
    explore_within("shared: joining two producers", Some(2), || a_gate_joins(Order::Production, 1));
}

#[test]
fn a_gate_that_joins_without_a_new_epoch_is_overtaken_by_two_producers() {
    let expected = &["the ring keeps what a gate protects", RACE, "each message once", "ran past a gate"];
    finds_fault_within("shared: joining without epoch", Some(2), expected, || {
        a_gate_joins(Order::GateWithoutEpoch, 1);
    });
}
