//! Does what is altered hold for those who are there already, and for whoever comes, whatever dies meanwhile?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringway_client::{
    Backoff, Connection, Durability, Overflow, RefusalCode, SendError, SettleError, SharedSettings, StartAt,
    StreamChanges, StreamSettings, SubscriptionChanges, SubscriptionMode, Value,
};
use ringway_shm_protocol::control::message::{Reply, Request};
use ringway_tests::kept::KeptBroker;
use ringway_tests::queue::{consumer, info, next, number, send};
use ringway_tests::{PATIENCE, RawSession, TestBroker, eventually};

const USUAL: StreamSettings = StreamSettings { slots: 64, slot_bytes: 64, ..StreamSettings::DEFAULT };
const PEER: &str = env!("CARGO_BIN_EXE_ringway-test-peer");
const TEN_MINUTES_MS: u32 = 600_000;

fn patient() -> SharedSettings {
    SharedSettings { lease_ms: TEN_MINUTES_MS, ..SharedSettings::default() }
}

/// A broker with queue "q", whose leases last for ten minutes.
fn broker() -> (TestBroker, Connection) {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_queue("q", USUAL, patient()).unwrap();
    (broker, connection)
}

fn alter(connection: &Connection, changes: SubscriptionChanges) -> SharedSettings {
    match connection.alter_subscription("q", "q", changes).unwrap().mode {
        SubscriptionMode::Shared(settings) => settings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lease_that_is_altered_is_that_of_what_is_leased_from_then_on() {
    let (_broker, connection) = broker();
    let mut producer = connection.producer("q").open().unwrap();
    let mut slow = connection.queue_consumer("q").prefetch(1).open().unwrap();
    send(&mut producer, 0..1);
    let before = next(&mut slow).keep();
    assert_eq!(alter(&connection, SubscriptionChanges::new().lease_ms(50)).lease_ms, 50);
    send(&mut producer, 1..2);
    let since = next(&mut slow).keep();
    let mut other = consumer(&connection);
    let again = next(&mut other);
    assert_eq!((number(&again), again.attempt()), (1, 2), "its lease has run out");
    again.ack().unwrap();
    assert!(matches!(slow.ack(&since), Err(SettleError::Late { .. })));
    slow.ack(&before).expect("the lease that it had goes on");
    assert_eq!(info(&connection).unsettled(), 0);
}

#[test]
fn attempts_backoff_and_where_the_dead_go_are_altered_under_their_consumers() {
    let (_broker, connection) = broker();
    for dead in ["early", "late"] {
        connection.declare_queue(dead, USUAL, SharedSettings::default()).unwrap();
    }
    let mut producer = connection.producer("q").open().unwrap();
    let mut consumer = consumer(&connection);
    // The first waits for a stream that is not there, and goes to the one that is altered to.
    alter(&connection, SubscriptionChanges::new().attempts_max(1).dead_letter("nowhere"));
    send(&mut producer, 0..1);
    next(&mut consumer).nack().unwrap();
    eventually("it is dead", || info(&connection).dead == 1);
    alter(&connection, SubscriptionChanges::new().attempts_max(2).dead_letter("early"));
    let hour = Backoff { initial_ms: 3_600_000, max_ms: 3_600_000, ..Backoff::default() };
    send(&mut producer, 1..2);
    next(&mut consumer).nack().unwrap();
    alter(&connection, SubscriptionChanges::new().backoff(hour));
    assert_eq!(number(&next(&mut consumer)), 1, "it was to come at once");
    next(&mut consumer).nack().unwrap();
    send(&mut producer, 2..3);
    next(&mut consumer).nack().unwrap();
    eventually("it waits", || info(&connection).delayed == 1);
    let now = alter(&connection, SubscriptionChanges::new().dead_letter("late"));
    assert_eq!(
        now,
        SharedSettings { attempts_max: 2, backoff: hour, dead_letter: Some("late".into()), ..patient() }
    );
    send(&mut producer, 3..4);
    next(&mut consumer).reject().unwrap();
    eventually("it is buried", || info(&connection).dead_total == 3);
    let found = |stream: &str| {
        let mut found = Vec::new();
        let mut graves = connection.queue_consumer(stream).open().unwrap();
        while let Some(letter) = graves.recv_timeout(Duration::from_millis(20)).unwrap() {
            let Some(Value::Integer(position)) = letter.attributes().get("dead.position") else { panic!() };
            found.push((number(&letter), position));
            letter.ack().unwrap();
        }
        found.sort_unstable();
        found
    };
    assert_eq!((found("early"), found("late")), (vec![(0, 0), (1, 1)], vec![(3, 3)]));
    assert_eq!(info(&connection).delayed, 1, "what waits comes when it was to come");
}

#[test]
fn what_producers_go_by_is_altered_while_there_are_none_in_all_partitions_or_in_none() {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    let settings = StreamSettings { partitions: 3, payload_bytes_max: 100, ..USUAL };
    connection.declare_stream("s", settings).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    // Of one partition alone.
    let mut session = RawSession::open(&broker.path());
    let open = Request::OpenProducer { stream: "s".into(), partition: 2, name: None };
    let Reply::Producer(producer) = session.ask(&open) else { panic!("it is opened") };
    let changes = StreamChanges::new().payload_bytes_max(5000).overflow(Overflow::Reject);
    let refused = connection.alter_stream("s", changes).unwrap_err();
    assert_eq!(refused.code(), Some(RefusalCode::InUse), "{refused}");
    assert_eq!(connection.declare_stream("s", settings).unwrap().settings, settings);
    assert_eq!(session.ask(&Request::Close { endpoint: producer.endpoint }), Reply::Done);
    let altered = connection.alter_stream("s", changes).unwrap();
    assert_eq!(altered.settings, changes.applied(&settings));
    assert_eq!(altered.partitions.len(), 3);
    assert_eq!(connection.declare_stream("s", settings).unwrap_err().code(), Some(RefusalCode::Conflict));
    connection.declare_stream("s", altered.settings).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    producer.send(&[7; 5000]).unwrap();
    let full = (0..3 * 64).find_map(|_| producer.send(b"x").err());
    assert!(matches!(full, Some(SendError::Full { .. })), "{full:?}");
}

/// Queue "q" and topic "t" of some durability, altered.
fn make_and_alter(connection: &Connection, durability: Durability) {
    let (queue, topic) = (StreamSettings { durability, ..USUAL }, StreamSettings { durability, ..USUAL });
    connection.declare_queue("q", queue, patient()).unwrap();
    connection.declare_stream("t", topic).unwrap();
    // One that nobody has opened, and one that is in use.
    let mut producer = connection.producer("q").open().unwrap();
    send(&mut producer, 0..1);
    let mut consumer = consumer(connection);
    next(&mut consumer).nack().unwrap();
    consumer.confirm_settled(PATIENCE).unwrap();
    let shared = SubscriptionChanges::new().attempts_max(2).dead_letter("q.dead");
    connection.alter_subscription("q", "q", shared).unwrap();
    connection.alter_stream("t", StreamChanges::new().overflow(Overflow::Reject)).unwrap();
}

/// They are as [`make_and_alter`] has left them, and go by that.
fn check_altered(connection: &Connection, durability: Durability) {
    let (queue, shared) = (StreamSettings { durability, ..USUAL }, patient());
    let altered = SharedSettings { attempts_max: 2, dead_letter: Some("q.dead".into()), ..shared.clone() };
    assert_eq!(connection.subscription("q", "q").unwrap().mode, SubscriptionMode::Shared(altered.clone()));
    let before = connection.declare_queue("q", queue, shared).unwrap_err();
    assert_eq!(before.code(), Some(RefusalCode::Conflict), "{before}");
    connection.declare_queue("q", queue, altered).unwrap();
    assert_eq!(connection.stream("t").unwrap().settings.overflow, Overflow::Reject);
    connection.declare_queue("q.dead", USUAL, SharedSettings::default()).unwrap();
    next(&mut consumer(connection)).nack().unwrap();
    let mut graves = connection.queue_consumer("q.dead").open().unwrap();
    assert_eq!(number(&next(&mut graves)), 0, "its second failure was one too many");
}

#[test]
fn what_is_altered_stays_so_when_the_broker_is_killed() {
    let broker = KeptBroker::start(Path::new(PEER));
    let connection = broker.connect();
    make_and_alter(&connection, Durability::Memory);
    broker.succeed();
    check_altered(&connection, Durability::Memory);
}

#[test]
fn what_is_altered_of_durable_streams_stays_so_when_all_rings_are_lost() {
    let mut broker = KeptBroker::start(Path::new(PEER));
    make_and_alter(&broker.connect(), Durability::Synced);
    broker.lose_everything();
    let broker = broker.start_again(Path::new(PEER));
    check_altered(&broker.connect(), Durability::Synced);
}

#[test]
fn an_alteration_that_is_under_way_when_the_broker_is_killed_is_made_by_its_successor() {
    let broker = KeptBroker::start(Path::new(PEER));
    let connection = broker.connect();
    connection.declare_queue("q", USUAL, patient()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let altering = std::thread::spawn(move || {
        let mut attempts = 1;
        while !stopped.load(Ordering::Relaxed) {
            attempts += 1;
            let now = alter(&connection, SubscriptionChanges::new().attempts_max(attempts));
            assert_eq!(now.attempts_max, attempts);
        }
        assert!(attempts > 1);
    });
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(20));
        broker.succeed();
    }
    stop.store(true, Ordering::Relaxed);
    altering.join().unwrap();
}
