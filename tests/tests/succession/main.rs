//! Does anybody notice that the broker was killed, or its keeper? Nothing that was published, fed, delayed, held or counted is
//! lost, and clients go on by themselves.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringway_client::{Connection, Overflow, Producers, SettleError, SharedSettings, StartAt, StreamSettings};
use ringway_tests::kept::{KeptBroker, signal};
use ringway_tests::queue::{all_come_again, consumer, info, next, number, send};
use ringway_tests::{PATIENCE, Peer, eventually};
use rustix::process::Signal;

const USUAL: StreamSettings = StreamSettings { slots: 64, slot_bytes: 64, ..StreamSettings::DEFAULT };
const PEER: &str = env!("CARGO_BIN_EXE_ringway-test-peer");

fn broker() -> (KeptBroker, Connection) {
    let broker = KeptBroker::start(Path::new(PEER));
    let connection = broker.connect();
    (broker, connection)
}

/// With queue "q", whose dead letters go to "q.dead".
fn broker_with_queue(change: impl FnOnce(&mut SharedSettings)) -> (KeptBroker, Connection) {
    let (broker, connection) = broker();
    let mut shared = SharedSettings { dead_letter: Some("q.dead".to_owned()), ..SharedSettings::default() };
    change(&mut shared);
    connection.declare_queue("q.dead", USUAL, SharedSettings::default()).unwrap();
    connection.declare_queue("q", USUAL, shared).unwrap();
    (broker, connection)
}

#[test]
fn sessions_producers_and_consumers_go_on_and_the_ring_does_not_even_pause() {
    let (broker, connection) = broker();
    connection.declare_stream("s", StreamSettings { producers: Producers::Exclusive, ..USUAL }).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    let first = broker.pid();
    assert_eq!(connection.broker_pid(), first);
    let mut number = 0_u64;
    for _ in 0..5 {
        broker.kill();
        // More than the ring holds: both look at what only the broker changes.
        for _ in 0..200 {
            producer.send(&number.to_le_bytes()).unwrap();
            assert_eq!(consumer.recv_timeout(PATIENCE).unwrap().unwrap().payload(), number.to_le_bytes());
            number += 1;
        }
        let stream = connection.stream("s").unwrap();
        assert_eq!(stream.partitions[0].producer_pids, [std::process::id()]);
        assert_eq!(stream.partitions[0].next_position, number);
        assert!(connection.is_open());
        let refused = connection.producer("s").open().unwrap_err();
        assert!(refused.to_string().contains("has its one producer"), "{refused}");
    }
    assert_ne!(connection.broker_pid(), first);
    producer.close().unwrap();
    consumer.close().unwrap();
    assert!(connection.producer("s").open().is_ok());
    let late = broker.connect();
    assert_eq!(late.stream("s").unwrap().partitions[0].next_position, number);
}

#[test]
fn every_message_of_the_lot_is_where_it_was_with_its_attempts_its_delay_and_its_lease() {
    let (broker, connection) = broker_with_queue(|shared| {
        shared.attempts_max = 3;
        shared.lease_ms = 1000;
    });
    let mut producer = connection.producer("q").open().unwrap();
    let mut consumer = consumer(&connection);
    send(&mut producer, 0..6);
    let began = Instant::now();
    // 0 is delayed, 1 comes again at once, 2 dies, 3 is held for long, 4 is held, 5 is not claimed.
    next(&mut consumer).nack_after(Duration::from_millis(600)).unwrap();
    next(&mut consumer).nack().unwrap();
    next(&mut consumer).reject().unwrap();
    let mut third = next(&mut consumer);
    third.extend(Duration::from_secs(3600)).unwrap();
    let third = third.keep();
    let fourth = next(&mut consumer).keep();
    assert_eq!(consumer.confirm().unwrap(), 0);
    broker.succeed();
    let counts = info(&connection);
    assert_eq!((counts.delayed, counts.leased), (1, 2), "{counts:?}");
    eventually("the dead letter arrives", || info(&connection).dead_total == 1);
    assert_eq!(connection.subscription("q.dead", "q.dead").unwrap().shared().ready, 1);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let delivery = next(&mut consumer);
        if number(&delivery) == 0 {
            assert!(began.elapsed() >= Duration::from_millis(600), "not before its time");
        }
        seen.push((number(&delivery), delivery.attempt(), delivery.failed()));
        delivery.ack().unwrap();
    }
    seen.sort_unstable();
    // The lease of 4 has run out, that of 3 has not.
    assert_eq!(seen, [(0, 2, 1), (1, 2, 1), (4, 2, 1), (5, 1, 0)]);
    assert!(matches!(consumer.ack(&fourth), Err(SettleError::Late { .. })));
    consumer.ack(&third).unwrap();
    assert_eq!(consumer.confirm().unwrap(), 1, "so far one was late");
    let counts = info(&connection);
    assert_eq!((counts.ready, counts.delayed, counts.leased, counts.dead), (0, 0, 0, 0), "{counts:?}");
}

#[test]
fn what_is_in_the_feed_is_delivered_once_more_and_settled_under_the_next_broker() {
    const MESSAGES: u64 = 40;
    let (broker, connection) = broker_with_queue(|_| ());
    let mut producer = connection.producer("q").open().unwrap();
    let mut consumer = consumer(&connection);
    send(&mut producer, 0..MESSAGES);
    // Taken first and settled then, so that none comes again meanwhile.
    let all: Vec<_> = (0..MESSAGES).map(|_| next(&mut consumer).keep()).collect();
    all.iter().for_each(|delivery| consumer.nack(delivery).unwrap());
    assert_eq!(consumer.confirm().unwrap(), 0);
    // All are in the feed: a quarter is acked, a quarter nacked, a quarter held, a quarter not claimed.
    let mut held = Vec::new();
    let taken: Vec<_> = (0..MESSAGES * 3 / 4).map(|_| next(&mut consumer).keep()).collect();
    for (turn, delivery) in taken.into_iter().enumerate() {
        assert_eq!(delivery.attempt(), 2);
        match turn % 3 {
            0 => consumer.ack(&delivery).unwrap(),
            1 => consumer.nack(&delivery).unwrap(),
            _ => held.push(delivery),
        }
    }
    assert_eq!(consumer.confirm().unwrap(), 0);
    for _ in 0..3 {
        broker.succeed();
        assert_eq!(info(&connection).leased, held.len() as u64);
    }
    for leased in &held {
        consumer.ack(leased).unwrap();
    }
    let mut attempts = [0, 0];
    for _ in 0..MESSAGES / 2 {
        let delivery = next(&mut consumer);
        assert_eq!(delivery.failed() + 1, delivery.attempt());
        attempts[delivery.attempt() as usize - 2] += 1;
        delivery.ack().unwrap();
    }
    assert_eq!(attempts, [MESSAGES / 4; 2]);
    assert_eq!(consumer.confirm().unwrap(), 0);
    let counts = info(&connection);
    assert_eq!((counts.ready, counts.leased), (0, 0), "{counts:?}");
    assert!(consumer.try_recv().unwrap().is_none());
}

#[test]
fn who_dies_while_there_is_no_broker_loses_its_leases_its_slots_and_its_place() {
    let (broker, connection) = broker_with_queue(|_| ());
    connection.declare_stream("s", StreamSettings { producers: Producers::Exclusive, ..USUAL }).unwrap();
    let mut producer = connection.producer("q").open().unwrap();
    send(&mut producer, 0..10);
    let path = broker.path();
    let path = path.to_str().unwrap();
    let mut holder = Peer::start(PEER, &["shared-consumer", path, "q", "q", "7"]);
    assert_eq!(holder.line(), "has 7");
    let mut exclusive = Peer::start(PEER, &["producer", path, "s"]);
    assert_eq!(exclusive.line(), "holding");
    // A stopped keeper starts nobody.
    signal(broker.keeper_pid(), Signal::STOP);
    broker.kill();
    holder.kill();
    exclusive.kill();
    signal(broker.keeper_pid(), Signal::CONT);
    all_come_again(&connection);
}

#[test]
fn a_keeper_that_is_killed_is_replaced_and_the_next_one_keeps_as_well() {
    let (mut broker, connection) = broker_with_queue(|_| ());
    let mut producer = connection.producer("q").open().unwrap();
    let mut consumer = consumer(&connection);
    send(&mut producer, 0..20);
    for round in 0..3 {
        next(&mut consumer).nack().unwrap();
        broker.replace_keeper();
        assert_eq!(info(&connection).ready, 20, "round {round}");
        broker.succeed();
        assert_eq!(info(&connection).ready, 20, "round {round}");
    }
    let mut failed = 0;
    for _ in 0..20 {
        let delivery = next(&mut consumer);
        failed += delivery.failed();
        delivery.ack().unwrap();
    }
    assert_eq!(failed, 3);
    let path = broker.path();
    connection.stop_broker(PATIENCE).unwrap();
    eventually("nothing is left", || !path.exists());
    assert!(!connection.is_open());
}

#[test]
fn requests_that_are_under_way_are_answered_by_the_successor_and_done_once() {
    let (broker, connection) = broker();
    connection.declare_stream("shared", USUAL).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (connection, stop) = (broker.connect(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let own = format!("own-{number}");
                let settings = StreamSettings { producers: Producers::Exclusive, partitions: 2, ..USUAL };
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    connection.declare_stream(&own, settings).unwrap();
                    connection.declare_subscription(&own, "a", StartAt::First).unwrap();
                    let mut producer = connection.producer(&own).open().unwrap();
                    let mut consumer = connection.consumer(&own, "a").open().unwrap();
                    producer.send(&[number; 100_000]).unwrap();
                    let message = consumer.recv_timeout(PATIENCE).unwrap().unwrap();
                    assert_eq!(message.payload(), [number; 100_000]);
                    drop(message);
                    let shared = connection.producer("shared").open().unwrap();
                    let other = Connection::open(connection.directory()).unwrap();
                    other.stream(&own).unwrap();
                    shared.close().unwrap();
                    producer.close().unwrap();
                    consumer.close().unwrap();
                    connection.delete_subscription(&own, "a").unwrap();
                    connection.delete_stream(&own).unwrap();
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    for _ in 0..25 {
        std::thread::sleep(Duration::from_millis(20));
        broker.succeed();
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        assert!(thread.join().unwrap() > 0);
    }
    let streams = connection.streams().unwrap();
    assert_eq!(streams.len(), 1);
    assert_eq!(streams[0].partitions[0].producers, 0, "nothing is left open");
}

#[test]
fn large_messages_come_again_from_memory_that_outlives_the_broker() {
    let (broker, connection) = broker_with_queue(|shared| shared.attempts_max = 2);
    let mut producer = connection.producer("q").open().unwrap();
    let mut consumer = consumer(&connection);
    let payload = |number: u8| vec![number; 100_000];
    for number in 0..4 {
        producer.send(&payload(number)).unwrap();
    }
    producer.close().unwrap();
    for _ in 0..4 {
        next(&mut consumer).nack().unwrap();
    }
    assert_eq!(consumer.confirm().unwrap(), 0);
    broker.succeed();
    for _ in 0..2 {
        let delivery = next(&mut consumer);
        assert_eq!((delivery.attempt(), delivery.payload().len()), (2, 100_000));
        delivery.nack().unwrap();
    }
    eventually("two are dead", || info(&connection).dead_total == 2);
    broker.succeed();
    let mut dead = connection.queue_consumer("q.dead").open().unwrap();
    let mut seen = Vec::new();
    for consumer in [&mut consumer, &mut dead] {
        for _ in 0..2 {
            let delivery = next(consumer);
            assert_eq!(delivery.payload(), payload(delivery.payload()[0]));
            seen.push(delivery.payload()[0]);
            delivery.ack().unwrap();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[test]
fn a_reader_that_is_overtaken_goes_on_by_itself_under_the_next_broker() {
    let (broker, connection) = broker();
    let settings = StreamSettings { overflow: Overflow::DropOldest, ..USUAL };
    connection.declare_stream("s", settings).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    send(&mut producer, 0..1);
    consumer.recv().unwrap();
    consumer.commit().unwrap();
    // Far more than the ring holds: its cursor is behind everything that is there, and stays its own.
    send(&mut producer, 1..1000);
    broker.succeed();
    connection.stream("s").unwrap();
    let mut last = 0;
    while last < 999 {
        last = consumer.recv_timeout(PATIENCE).unwrap().expect("a message comes").position();
        consumer.commit().unwrap();
    }
    assert!(consumer.missed() > 0);
}
