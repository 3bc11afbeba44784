//! Is every message of a queue delivered until it is settled, to one consumer at a time, whoever nacks, is late, hangs, closes
//! or dies, and does it end where its attempts say?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ringway_client::{
    Backoff, Connection, OpenError, Producer, Producers, SettleError, SharedConsumer, SharedInfo,
    SharedSettings, StartAt, StreamSettings, Value,
};
use ringway_tests::kept::signal;
use ringway_tests::queue::{all_come_again, consumer, info, next, number, send};
use ringway_tests::{Peer, TestBroker, eventually};
use rustix::process::Signal;

const USUAL: StreamSettings = StreamSettings { slots: 64, slot_bytes: 64, ..StreamSettings::DEFAULT };

/// A broker with queue "q" of 64 slots.
fn broker(change: impl FnOnce(&mut SharedSettings)) -> (TestBroker, Connection) {
    broker_with(USUAL, change)
}

fn broker_with(
    settings: StreamSettings,
    change: impl FnOnce(&mut SharedSettings),
) -> (TestBroker, Connection) {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    let mut shared = SharedSettings::default();
    change(&mut shared);
    connection.declare_queue("q", settings, shared).unwrap();
    (broker, connection)
}

fn both(connection: &Connection) -> (Producer, SharedConsumer) {
    (connection.producer("q").open().unwrap(), consumer(connection))
}

fn nothing_comes(consumer: &mut SharedConsumer) -> bool {
    consumer.recv_timeout(Duration::from_millis(20)).unwrap().is_none()
}

#[test]
fn competing_consumers_get_each_message_once_and_the_producers_go_on() {
    let (_broker, connection) = broker(|_| ());
    const MESSAGES: u64 = 20_000;
    let mut producer = connection.producer("q").open().unwrap();
    let consumers: Vec<_> = [1, 1, 16]
        .map(|prefetch| {
            let connection = connection.clone();
            std::thread::spawn(move || {
                let mut consumer = connection.queue_consumer("q").prefetch(prefetch).open().unwrap();
                let mut mine = Vec::new();
                while let Some(delivery) = consumer.recv_timeout(Duration::from_secs(1)).unwrap() {
                    assert_eq!((delivery.attempt(), delivery.failed()), (1, 0));
                    mine.push(number(&delivery));
                    delivery.ack().unwrap();
                }
                mine
            })
        })
        .into();
    send(&mut producer, 0..MESSAGES);
    let mut all: Vec<u64> = Vec::new();
    for consumer in consumers {
        let mine = consumer.join().unwrap();
        assert!(mine.is_sorted(), "each consumer takes them in order");
        all.extend(mine);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..MESSAGES), "each once");
    let info = info(&connection);
    assert_eq!((info.ready, info.leased, info.delayed, info.dead_total), (0, 0, 0, 0));
    assert_eq!(connection.subscription("q", "q").unwrap().partitions[0].position, MESSAGES);
}

#[test]
fn a_nacked_message_comes_again_and_one_that_is_given_back_has_not_failed() {
    let (_broker, connection) = broker(|_| ());
    let (mut producer, mut consumer) = both(&connection);
    send(&mut producer, 0..1);
    next(&mut consumer).nack().unwrap();
    let second = next(&mut consumer);
    assert_eq!((number(&second), second.attempt(), second.failed()), (0, 2, 1));
    second.release().unwrap();
    let third = next(&mut consumer);
    assert_eq!((number(&third), third.attempt(), third.failed()), (0, 3, 1));
    drop(third);
    let fourth = next(&mut consumer);
    assert_eq!((fourth.position().position, fourth.attempt(), fourth.failed()), (0, 4, 1));
    fourth.ack().unwrap();
    assert!(nothing_comes(&mut consumer));
    assert_eq!(consumer.confirm().unwrap(), 0, "nothing was late");
    assert_eq!(info(&connection), SharedInfo { consumers: 1, ..SharedInfo::default() });
}

#[test]
fn a_delay_and_a_backoff_are_never_early() {
    let backoff = Backoff { initial_ms: 30, multiplier_percent: 200, ..Backoff::default() };
    let (_broker, connection) = broker(|shared| shared.backoff = backoff);
    let (mut producer, mut consumer) = both(&connection);
    send(&mut producer, 0..1);
    let waits = [(None, 30), (None, 60), (Some(45), 45), (None, 240)];
    for (attempt, (delay, wait)) in (1..).zip(waits) {
        let delivery = next(&mut consumer);
        assert_eq!(delivery.attempt(), attempt);
        let nacked = Instant::now();
        match delay {
            Some(delay) => delivery.nack_after(Duration::from_millis(delay)).unwrap(),
            None => delivery.nack().unwrap(),
        }
        assert_eq!(consumer.confirm().unwrap(), 0);
        let is_over = || nacked.elapsed() >= Duration::from_millis(wait);
        assert!(info(&connection).delayed == 1 || is_over());
        next(&mut consumer).release().unwrap();
        assert!(is_over(), "{:?} of {wait} ms", nacked.elapsed());
        // Given back, it comes at once, and as the attempt after.
        next(&mut consumer).ack().unwrap();
        send(&mut producer, 0..1);
        for _ in 0..attempt {
            next(&mut consumer).nack_after(Duration::ZERO).unwrap();
        }
    }
}

#[test]
fn a_message_that_failed_too_often_is_a_dead_letter_with_its_history() {
    let (_broker, connection) = broker(|shared| {
        shared.attempts_max = 3;
        shared.dead_letter = Some("graveyard".into());
    });
    let (mut producer, mut consumer) = both(&connection);
    producer.send(ringway_client::Outgoing::new(b"poison").key(b"k")).unwrap();
    for attempt in 1..=3 {
        let delivery = next(&mut consumer);
        assert_eq!(delivery.attempt(), attempt);
        delivery.nack().unwrap();
    }
    // It waits for its stream, and nobody else for it.
    eventually("it is dead", || info(&connection).dead == 1);
    send(&mut producer, 1..2);
    next(&mut consumer).reject().unwrap();
    eventually("both are dead", || info(&connection).dead == 2);
    connection.declare_queue("graveyard", USUAL, SharedSettings::default()).unwrap();
    let mut graves = connection.queue_consumer("graveyard").open().unwrap();
    let mut found = BTreeMap::new();
    for _ in 0..2 {
        let dead = next(&mut graves);
        let attributes = dead.attributes();
        let text = |name: &str| match attributes.get(name) {
            Some(Value::Text(text)) => text.into_owned(),
            other => panic!("{name}: {other:?}"),
        };
        let count = |name: &str| match attributes.get(name) {
            Some(Value::Integer(count)) => count,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!((text("dead.stream").as_str(), text("dead.subscription").as_str()), ("q", "q"));
        assert!(count("dead.time_ns") > 1_700_000_000_000_000_000 && count("dead.partition") == 0);
        found.insert(count("dead.position"), (text("dead.reason"), count("dead.attempts")));
        if count("dead.position") == 0 {
            assert_eq!((dead.payload(), dead.key()), (&b"poison"[..], Some(&b"k"[..])));
        }
        dead.ack().unwrap();
    }
    assert_eq!(found[&0], ("nacked".to_owned(), 3));
    assert_eq!(found[&1], ("rejected".to_owned(), 1));
    eventually("they are gone", || info(&connection).dead == 0);
    assert_eq!(info(&connection).dead_total, 2);
    assert!(nothing_comes(&mut consumer));
}

#[test]
fn without_a_dead_letter_stream_the_dead_are_dropped_and_counted() {
    let (_broker, connection) = broker(|shared| shared.attempts_max = 1);
    let (mut producer, mut consumer) = both(&connection);
    send(&mut producer, 0..2);
    next(&mut consumer).nack().unwrap();
    next(&mut consumer).reject().unwrap();
    eventually("they are counted", || info(&connection).dead_total == 2);
    assert!(nothing_comes(&mut consumer));
}

#[test]
fn a_lease_that_runs_out_gives_the_message_to_another_and_what_comes_later_is_late() {
    let (_broker, connection) = broker(|shared| shared.lease_ms = 60);
    let (mut producer, mut slow) = both(&connection);
    send(&mut producer, 0..1);
    let started = Instant::now();
    let kept = next(&mut slow).keep();
    let mut other = consumer(&connection);
    let again = next(&mut other);
    assert!(started.elapsed() >= Duration::from_millis(60), "never early: {:?}", started.elapsed());
    assert_eq!((number(&again), again.attempt(), again.failed()), (0, 2, 1));
    let late = slow.ack(&kept).unwrap_err();
    assert!(matches!(late, SettleError::Late { attempt: 1, .. }), "{late}");
    slow.nack(&kept).unwrap();
    assert_eq!(slow.confirm().unwrap(), 2, "late, both of them");
    again.ack().unwrap();
    assert!(nothing_comes(&mut other) && nothing_comes(&mut slow));
}

#[test]
fn a_lease_that_is_extended_in_time_does_not_run_out() {
    let (_broker, connection) = broker(|shared| shared.lease_ms = 100);
    let (mut producer, mut patient) = both(&connection);
    send(&mut producer, 0..2);
    // One by its claim in the ring, the other in the feed.
    next(&mut patient).ack().unwrap();
    let mut delivery = next(&mut patient);
    delivery.extend(Duration::from_secs(3600)).unwrap();
    let live = delivery.keep();
    send(&mut producer, 2..3);
    next(&mut patient).nack().unwrap();
    let mut delivery = next(&mut patient);
    delivery.extend(Duration::from_secs(3600)).unwrap();
    let fed = delivery.keep();
    assert_eq!(patient.confirm().unwrap(), 0);
    let mut other = consumer(&connection);
    assert!(other.recv_timeout(Duration::from_millis(500)).unwrap().is_none());
    patient.ack(&live).unwrap();
    patient.ack(&fed).unwrap();
}

#[test]
fn what_a_dead_process_had_comes_again_with_one_failure_and_what_a_closed_one_had_without() {
    let (broker, connection) = broker(|_| ());
    let mut producer = connection.producer("q").open().unwrap();
    send(&mut producer, 0..20);
    let path = broker.path();
    let arguments = ["shared-consumer", path.to_str().unwrap(), "q", "q", "10"];
    let mut peer = Peer::start(env!("CARGO_BIN_EXE_ringway-test-peer"), &arguments);
    assert_eq!(peer.line(), "has 10");
    let mut closing = consumer(&connection);
    for _ in 0..5 {
        let _ = next(&mut closing).keep();
    }
    assert_eq!(info(&connection).leased, 15);
    closing.close().unwrap();
    peer.kill();
    let mut other = consumer(&connection);
    let mut seen = BTreeMap::new();
    for _ in 0..20 {
        let delivery = next(&mut other);
        seen.insert(number(&delivery), (delivery.attempt(), delivery.failed()));
        delivery.ack().unwrap();
    }
    for (number, state) in seen {
        let expected = match number {
            0..10 => (2, 1),
            10..15 => (2, 0),
            _ => (1, 0),
        };
        assert_eq!(state, expected, "message {number}");
    }
    assert!(nothing_comes(&mut other));
}

#[test]
fn a_consumer_that_hangs_holding_messages_stops_nobody_and_may_settle_them_later() {
    let (_broker, connection) = broker(|_| ());
    let (mut producer, mut hanging) = both(&connection);
    send(&mut producer, 0..3);
    let kept = [next(&mut hanging).keep(), next(&mut hanging).keep(), next(&mut hanging).keep()];
    let mut busy = consumer(&connection);
    let receiving = std::thread::spawn(move || {
        for expected in 3..1000 {
            let delivery = next(&mut busy);
            assert_eq!((number(&delivery), delivery.attempt()), (expected, 1));
            delivery.ack().unwrap();
        }
        busy
    });
    send(&mut producer, 3..1000);
    let mut busy = receiving.join().unwrap();
    assert_eq!(info(&connection).leased, 3, "it has them all the same");
    hanging.ack(&kept[0]).unwrap();
    hanging.nack(&kept[1]).unwrap();
    drop(hanging);
    let mut again = BTreeMap::new();
    for _ in 0..2 {
        let delivery = next(&mut busy);
        again.insert(number(&delivery), (delivery.attempt(), delivery.failed()));
        delivery.ack().unwrap();
    }
    assert_eq!(again, BTreeMap::from([(1, (2, 1)), (2, (2, 0))]));
    assert!(nothing_comes(&mut busy));
}

#[test]
fn more_than_the_feed_holds_comes_again_and_a_hanging_consumer_does_not_fill_it_for_good() {
    let settings = StreamSettings { slots: 16_384, slot_bytes: 64, ..StreamSettings::DEFAULT };
    let (broker, connection) = broker_with(settings, |_| ());
    const MESSAGES: u64 = 16_384;
    let mut producer = connection.producer("q").open().unwrap();
    send(&mut producer, 0..MESSAGES);
    let (path, count) = (broker.path(), MESSAGES.to_string());
    let arguments = ["shared-consumer", path.to_str().unwrap(), "q", "q", count.as_str()];
    let mut peer = Peer::start(env!("CARGO_BIN_EXE_ringway-test-peer"), &arguments);
    assert_eq!(peer.line(), format!("has {MESSAGES}"));
    peer.kill();
    // As much as the feed has, claimed and kept.
    let mut hanging = consumer(&connection);
    let kept: Vec<_> = (0..4096).map(|_| next(&mut hanging).keep()).collect();
    let mut other = consumer(&connection);
    let mut seen = BTreeSet::new();
    while seen.len() < (MESSAGES - 4096) as usize {
        let delivery = next(&mut other);
        assert_eq!((delivery.attempt(), delivery.failed()), (2, 1));
        assert!(seen.insert(number(&delivery)), "each once");
        delivery.ack().unwrap();
    }
    for message in &kept {
        hanging.ack(message).unwrap();
    }
    assert!(nothing_comes(&mut other));
    assert_eq!(info(&connection).leased, 0);
}

#[test]
fn payloads_beyond_a_slot_come_again_whole_when_their_producer_is_gone() {
    let (_broker, connection) = broker(|shared| {
        shared.attempts_max = 3;
        shared.dead_letter = Some("graveyard".into());
    });
    connection.declare_queue("graveyard", USUAL, SharedSettings::default()).unwrap();
    let (mut producer, mut consumer) = both(&connection);
    let payloads: Vec<Vec<u8>> =
        (0..100_u8).map(|number| vec![number; 1000 + 5000 * usize::from(number)]).collect();
    for payload in &payloads {
        producer.send(payload).unwrap();
        // Whichever it is, so that the producer's memory is used again as soon as it may be.
        next(&mut consumer).release().unwrap();
    }
    assert_eq!(consumer.confirm().unwrap(), 0);
    producer.close().unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..payloads.len() {
        let delivery = next(&mut consumer);
        let number = delivery.payload()[0];
        assert!(delivery.payload() == payloads[usize::from(number)] && seen.insert(number));
        let _ = delivery.keep();
    }
    drop(consumer);
    let mut consumer = self::consumer(&connection);
    for _ in 0..payloads.len() {
        next(&mut consumer).reject().unwrap();
    }
    let mut graves = connection.queue_consumer("graveyard").open().unwrap();
    for _ in 0..payloads.len() {
        let delivery = next(&mut graves);
        let number = usize::from(delivery.payload()[0]);
        assert!(delivery.payload() == payloads[number]);
        delivery.ack().unwrap();
    }
}

#[test]
fn subscriptions_of_both_modes_are_side_by_side_on_one_stream() {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("t", USUAL).unwrap();
    connection.declare_subscription("t", "log", StartAt::First).unwrap();
    for name in ["work", "play"] {
        connection.declare_shared_subscription("t", name, StartAt::First, SharedSettings::default()).unwrap();
    }
    let mut producer = connection.producer("t").open().unwrap();
    let mut log = connection.consumer("t", "log").open().unwrap();
    let mut work = connection.shared_consumer("t", "work").open().unwrap();
    for number in 0..500_u64 {
        producer.send(&number.to_le_bytes()).unwrap();
        assert_eq!(log.recv().unwrap().payload(), number.to_le_bytes());
        let delivery = next(&mut work);
        assert_eq!(self::number(&delivery), number);
        delivery.ack().unwrap();
        if number == 100 {
            connection.delete_subscription("t", "play").unwrap();
        }
        if number == 200 {
            let shared = SharedSettings::default();
            connection.declare_shared_subscription("t", "late", StartAt::Next, shared).unwrap();
        }
        if number > 200 {
            let mut late = connection.shared_consumer("t", "late").open().unwrap();
            let delivery = next(&mut late);
            assert_eq!(self::number(&delivery), number);
            delivery.ack().unwrap();
        }
        if number < 60 {
            assert_eq!(connection.subscription("t", "play").unwrap().shared().ready, number + 1);
        }
        if number == 60 {
            // It would hold the stream up.
            let mut play = connection.shared_consumer("t", "play").open().unwrap();
            while let Some(delivery) = play.try_recv().unwrap() {
                delivery.ack().unwrap();
            }
        }
    }
    let wrong = connection.consumer("t", "work").open().unwrap_err();
    assert!(matches!(wrong, OpenError::OtherMode { .. }), "{wrong}");
    let wrong = connection.shared_consumer("t", "log").open().unwrap_err();
    assert!(matches!(wrong, OpenError::Refused(_)), "the log has its one consumer: {wrong}");
    drop(log);
    let wrong = connection.shared_consumer("t", "log").open().unwrap_err();
    assert!(matches!(wrong, OpenError::OtherMode { .. }), "{wrong}");
    connection.consumer("t", "log").open().unwrap();
}

#[test]
fn a_single_active_consumer_is_followed_by_the_next_in_order() {
    let (broker, connection) = broker(|shared| shared.single_active = true);
    let mut producer = connection.producer("q").open().unwrap();
    send(&mut producer, 0..10);
    let path = broker.path();
    let arguments = ["shared-consumer", path.to_str().unwrap(), "q", "q", "4"];
    let mut peer = Peer::start(env!("CARGO_BIN_EXE_ringway-test-peer"), &arguments);
    assert_eq!(peer.line(), "has 4");
    let mut next_one = consumer(&connection);
    let mut third = consumer(&connection);
    assert!(nothing_comes(&mut next_one) && nothing_comes(&mut third));
    peer.kill();
    for expected in 0..5 {
        let delivery = next(&mut next_one);
        let attempt = if expected < 4 { 2 } else { 1 };
        assert_eq!((number(&delivery), delivery.attempt()), (expected, attempt));
        delivery.ack().unwrap();
    }
    assert!(nothing_comes(&mut third));
    next_one.close().unwrap();
    for expected in 5..10 {
        let delivery = next(&mut third);
        assert_eq!(number(&delivery), expected);
        delivery.ack().unwrap();
    }
}

#[test]
fn a_queue_of_several_partitions_is_consumed_from_all() {
    let settings = StreamSettings { partitions: 5, ..USUAL };
    let (_broker, connection) = broker_with(settings, |shared| {
        shared.attempts_max = 2;
        shared.dead_letter = Some("graveyard".into());
    });
    connection
        .declare_queue("graveyard", StreamSettings { partitions: 2, ..USUAL }, SharedSettings::default())
        .unwrap();
    let (mut producer, mut consumer) = both(&connection);
    send(&mut producer, 0..50);
    let mut partitions = BTreeSet::new();
    for _ in 0..100 {
        let delivery = next(&mut consumer);
        partitions.insert(delivery.position().partition);
        delivery.nack().unwrap();
    }
    assert_eq!(partitions.len(), 5);
    let mut graves = connection.queue_consumer("graveyard").open().unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let delivery = next(&mut graves);
        seen.insert(number(&delivery));
        delivery.ack().unwrap();
    }
    assert_eq!(seen.len(), 50);
    assert!(nothing_comes(&mut consumer));
}

#[test]
fn a_full_settlement_ring_waits_for_the_broker() {
    let (_broker, connection) = broker(|_| ());
    let (mut producer, mut consumer) = both(&connection);
    send(&mut producer, 0..1);
    // More than the settlement ring holds, of a message that comes again and again.
    for attempt in 1..=3000 {
        let delivery = next(&mut consumer);
        assert_eq!(delivery.attempt(), attempt);
        delivery.release().unwrap();
    }
    let mut kept = next(&mut consumer);
    for _ in 0..3000 {
        kept.extend(Duration::from_secs(30)).unwrap();
    }
    kept.ack().unwrap();
    assert_eq!(consumer.confirm().unwrap(), 0);
}

/// A broker with queue "q" of ten messages and stream "s" of one producer, and a process of this role that has seven of the
/// messages and the stream.
fn with_holder(role: &[&str]) -> (TestBroker, Connection, Peer) {
    let (broker, connection) = broker(|_| ());
    connection.declare_stream("s", StreamSettings { producers: Producers::Exclusive, ..USUAL }).unwrap();
    send(&mut connection.producer("q").open().unwrap(), 0..10);
    let path = broker.path();
    let holder = Peer::start(
        env!("CARGO_BIN_EXE_ringway-test-peer"),
        &[&role[..1], &[path.to_str().unwrap(), "7"], &role[1..]].concat(),
    );
    (broker, connection, holder)
}

#[test]
fn a_process_that_runs_another_program_has_lost_what_it_had() {
    let (_broker, connection, mut holder) = with_holder(&["execs"]);
    assert_eq!(holder.line(), "has 7");
    assert_eq!(info(&connection).leased, 7);
    holder.tell("go");
    all_come_again(&connection);
}

#[test]
fn a_forked_child_that_lives_on_keeps_nothing_of_its_dead_parent() {
    let (_broker, connection, mut holder) = with_holder(&["forks"]);
    let child: u32 = holder.line().parse().unwrap();
    assert_eq!(info(&connection).leased, 7);
    holder.kill();
    all_come_again(&connection);
    signal(child, Signal::KILL);
}

#[test]
fn what_a_victim_of_two_gibibytes_had_comes_again_once_the_kernel_is_done_with_it() {
    let (_broker, connection, mut holder) = with_holder(&["large-victim", "2048"]);
    assert_eq!(holder.line(), "has 7");
    holder.signal(Signal::KILL);
    // Nothing is repaired while the process may still store: whoever asks before that finds everything as it was.
    all_come_again(&connection);
    holder.wait();
}
