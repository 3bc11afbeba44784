//! What if a subscription of a durable stream is further behind than the ring is long?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringway_broker::config::RuntimeChoice;
use ringway_client::{
    Connection, Consumer, CursorSettings, Durability, Outgoing, Overflow, Producer, RecvError, RefusalCode,
    StartAt, StreamSettings, SubscriptionMode, Visibility, WaitSet,
};
use ringway_tests::kept::{KeptBroker, signal};
use ringway_tests::small_disk::SMALL_DISK;
use ringway_tests::tasks::block_on;
use ringway_tests::{PATIENCE, Peer, TestBroker, connect, eventually};
use rustix::process::Signal;

const PEER: &str = env!("CARGO_BIN_EXE_ringway-test-peer");
const SETTINGS: StreamSettings = StreamSettings {
    slots: 64,
    slot_bytes: 64,
    payload_bytes_max: 6 << 20,
    overflow: Overflow::Detach { after_ms: 1 },
    durability: Durability::Synced,
    ..StreamSettings::DEFAULT
};

fn declare(connection: &Connection, settings: StreamSettings, visibility: Visibility) {
    connection.declare_stream("s", settings).unwrap();
    let mode = SubscriptionMode::Cursor(CursorSettings { visibility });
    connection.declare_subscription_as("s", "all", StartAt::First, mode).unwrap();
}

/// The bytes of message `number`: some are too long for a slot, for a batch, and for a page.
fn payload(number: u64) -> Vec<u8> {
    let bytes = match number {
        _ if number % 5003 == 5000 => 5 << 20,
        _ if number % 1009 == 1000 => 300_000,
        _ if number.is_multiple_of(7) => 700,
        _ => 8 + number as usize % 40,
    };
    let mut payload = vec![number as u8; bytes];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload
}

fn publish(producer: &mut Producer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        // Every third has a key.
        let (payload, key) = (payload(number), number.to_le_bytes());
        let outgoing = Outgoing::new(&payload);
        let outgoing = if number.is_multiple_of(3) { outgoing.key(&key) } else { outgoing };
        let sent = producer.send_timeout(outgoing, PATIENCE).unwrap();
        assert_eq!(sent.position, number);
    }
}

/// Receives the messages of these numbers: each of them, once, in order, whole.
fn expect(consumer: &mut Consumer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let message =
            consumer.recv_timeout(PATIENCE).unwrap().unwrap_or_else(|| panic!("{number} is missing"));
        assert_eq!(message.position(), number);
        assert!(message.payload() == payload(number), "message {number} is torn");
        let key = number.is_multiple_of(3).then(|| number.to_le_bytes().to_vec());
        assert_eq!(message.key(), key.as_deref());
    }
    assert_eq!(consumer.missed(), 0);
}

fn lag(connection: &Connection) -> (bool, u64) {
    let subscription = connection.subscription("s", "all").unwrap();
    (subscription.is_detached(), subscription.lag())
}

/// On both runtimes, and of both visibilities.
macro_rules! everywhere {
    ($($question:ident,)*) => {
        mod by_io_uring {
            $(#[test]
            fn $question() {
                super::$question(super::RuntimeChoice::IoUring, super::Visibility::Committed);
            })*
        }
        mod by_threads_and_durable {
            $(#[test]
            fn $question() {
                super::$question(super::RuntimeChoice::Threads, super::Visibility::Durable);
            })*
        }
    };
}

everywhere! {
    who_lags_loses_nothing_holds_nobody_and_slides_back,
}

fn who_lags_loses_nothing_holds_nobody_and_slides_back(runtime: RuntimeChoice, visibility: Visibility) {
    let data = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(|config| {
        (config.data, config.runtime, config.segment_bytes) = (data.path().to_owned(), runtime, 4 << 20);
    });
    let connection = connect(broker.path()).unwrap();
    declare(&connection, SETTINGS, visibility);
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    publish(&mut producer, 0..10);
    expect(&mut consumer, 0..10);
    publish(&mut producer, 10..8000);
    let (is_detached, behind) = lag(&connection);
    assert!(is_detached && behind > 7000, "{behind} behind");
    let kept = connection.stream("s").unwrap().partitions[0].durable.unwrap();
    assert!(kept.first <= 10, "the journal keeps it: {kept:?}");
    // While the consumer catches up, the producer goes on.
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            publish(&mut producer, 8000..20_000);
            producer.confirm_all_timeout(PATIENCE).unwrap();
        });
        expect(&mut consumer, 10..15_000);
        writing.join().unwrap();
    });
    expect(&mut consumer, 15_000..20_000);
    assert!(consumer.try_recv().unwrap().is_none());
    assert_eq!(lag(&connection), (false, 0), "it is attached again");
    // What is at the end of a ring is held as a gate holds it.
    publish(&mut producer, 20_000..20_010);
    expect(&mut consumer, 20_000..20_010);
}

#[test]
fn who_does_not_know_yet_that_it_is_detached_reads_nothing_that_is_written_to_again() {
    for durability in [Durability::Memory, Durability::Written] {
        let broker = TestBroker::start();
        let connection = connect(broker.path()).unwrap();
        declare(&connection, StreamSettings { durability, ..SETTINGS }, Visibility::Committed);
        connection.declare_subscription("s", "other", StartAt::First).unwrap();
        let mut producer = connection.producer("s").open().unwrap();
        let mut consumer = connection.consumer("s", "all").open().unwrap();
        let mut other = connection.consumer("s", "other").open().unwrap();
        let large = |number: u64| vec![number as u8; 400_000];
        for number in 0..64 {
            producer.send(&large(number)).unwrap();
            assert_eq!(other.recv().unwrap().position(), number);
        }
        other.commit().unwrap();
        producer.confirm_all_timeout(PATIENCE).unwrap();
        // The ring is as it was, and its memory is the producer's again.
        eventually("it is detached", || producer.try_send(b"held").is_ok() || lag(&connection).0);
        let loans: Vec<_> = (0..1000)
            .map_while(|_| {
                let mut loan = producer.loan(400_000).ok()?;
                loan.fill(0xee);
                Some(loan)
            })
            .collect();
        assert!(loans.len() > 100, "those of the ring are among them: {}", loans.len());
        let mut received = 0;
        while let Some(message) = consumer.recv_timeout(Duration::from_millis(100)).unwrap() {
            assert!(message.payload() == large(message.position()), "{} is another's", message.position());
            received += 1;
        }
        assert_eq!(received + consumer.missed(), 64);
        assert!(received == 64 || durability == Durability::Memory, "{received}");
    }
}

#[test]
fn whoever_waits_for_a_consumer_that_is_behind_hears_of_its_messages() {
    let broker = TestBroker::start();
    let connection = connect(broker.path()).unwrap();
    declare(&connection, SETTINGS, Visibility::Committed);
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    publish(&mut producer, 0..1000);
    let mut next = 0;
    // Polled.
    for _ in 0..100 {
        assert_eq!(consumer.try_recv().unwrap().unwrap().position(), next);
        next += 1;
    }
    // Held.
    let held = consumer.recv().unwrap().hold().unwrap();
    next += 1;
    // By a task.
    for _ in 0..100 {
        assert_eq!(block_on(consumer.recv_async()).unwrap().position(), next);
        next += 1;
    }
    assert!(held.payload() == payload(held.position()) && held.position() == 100);
    // Among others.
    let mut set = WaitSet::new();
    let key = set.add(consumer);
    let ready = set.wait(PATIENCE).unwrap();
    assert_eq!(ready.len(), 1);
    let mut consumer = set.remove(key).unwrap();
    // By a descriptor.
    let _readiness = consumer.readiness().unwrap();
    while let Some(message) = consumer.try_recv().unwrap() {
        assert_eq!(message.position(), next);
        next += 1;
    }
    assert_eq!(next, 1000);
    consumer.confirm_commit(PATIENCE).unwrap();
    assert_eq!(lag(&connection), (false, 0));
}

#[test]
fn who_comes_after_a_consumer_that_died_behind_the_ring_goes_on_where_it_had_committed() {
    let broker = TestBroker::start();
    let connection = connect(broker.path()).unwrap();
    declare(&connection, SETTINGS, Visibility::Committed);
    let mut producer = connection.producer("s").open().unwrap();
    publish(&mut producer, 0..3000);
    let (path, count) = (broker.path(), "1500");
    let mut peer = Peer::start(PEER, &["consumer", path.to_str().unwrap(), "s", "all", count]);
    peer.line();
    peer.kill();
    eventually("the subscription is free", || connection.consumer("s", "all").open().is_ok());
    let (is_detached, behind) = lag(&connection);
    assert!(is_detached && (1500..1600).contains(&behind), "{behind} behind");
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    let first = consumer.positions()[0].position;
    expect(&mut consumer, first..2000);
    consumer.close().unwrap();
    // It is given up while it is behind.
    assert_eq!(connection.purge_subscription("s", "all").unwrap(), 1000);
    publish(&mut producer, 3000..3010);
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    expect(&mut consumer, 3000..3010);
    consumer.close().unwrap();
    publish(&mut producer, 3010..4000);
    connection.delete_subscription("s", "all").unwrap();
    declare(&connection, SETTINGS, Visibility::Committed);
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    let first = consumer.positions()[0].position;
    assert!(first >= 3900, "a new one begins with what the ring has: {first}");
    expect(&mut consumer, first..4000);
}

#[test]
fn brokers_are_killed_and_who_lags_gets_each_message_once_and_in_order() {
    let broker = KeptBroker::start(Path::new(PEER));
    let connection = broker.connect();
    declare(&connection, SETTINGS, Visibility::Committed);
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut producer = broker.connect().producer("s").open().unwrap();
            let mut next = 0;
            while !is_over.load(Ordering::Relaxed) {
                publish(&mut producer, next..next + 100);
                next += 100;
            }
            producer.confirm_all_timeout(PATIENCE).unwrap();
            next
        });
        let mut next = 0;
        for kill in 0..12_u64 {
            // Now and then it stays behind.
            thread::sleep(Duration::from_millis(kill * 37 % 80));
            let before = broker.pid();
            signal(before, Signal::KILL);
            let count = kill * 61 % 800;
            expect(&mut consumer, next..next + count);
            next += count;
            eventually("it is succeeded", || broker.pid() != before);
        }
        is_over.store(true, Ordering::Relaxed);
        expect(&mut consumer, next..writing.join().unwrap());
    });
    assert!(consumer.try_recv().unwrap().is_none());
    assert_eq!(lag(&connection), (false, 0), "it is attached again");
}

#[test]
fn what_a_subscription_is_behind_survives_the_loss_of_all_rings() {
    let mut broker = KeptBroker::start(Path::new(PEER));
    let (mut published, mut consumed) = (0, 0);
    for round in 0..3 {
        let connection = broker.connect();
        declare(&connection, SETTINGS, Visibility::Committed);
        let mut producer = connection.producer("s").open().unwrap();
        let mut consumer = connection.consumer("s", "all").open().unwrap();
        assert_eq!(consumer.positions()[0].position, consumed);
        publish(&mut producer, published..published + 2000);
        published += 2000;
        producer.confirm_all_timeout(PATIENCE).unwrap();
        expect(&mut consumer, consumed..consumed + 1300 + round * 300);
        consumed += 1300 + round * 300;
        consumer.confirm_commit(PATIENCE).unwrap();
        broker.lose_everything();
        drop((producer, consumer, connection));
        broker = broker.start_again(Path::new(PEER));
        let behind = broker.connect().subscription("s", "all").unwrap();
        assert!(behind.is_detached() && behind.lag() == published - consumed, "{behind:?}");
    }
    let connection = broker.connect();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    expect(&mut consumer, consumed..published);
}

#[test]
fn a_subscription_that_has_just_begun_behind_a_backlog_does_not_get_it_when_all_rings_are_lost() {
    let mut broker = KeptBroker::start(Path::new(PEER));
    let connection = broker.connect();
    declare(&connection, SETTINGS, Visibility::Committed);
    let mut producer = connection.producer("s").open().unwrap();
    publish(&mut producer, 0..1000);
    producer.confirm_all_timeout(PATIENCE).unwrap();
    connection.declare_subscription("s", "late", StartAt::Next).unwrap();
    broker.lose_everything();
    drop((producer, connection));
    let broker = broker.start_again(Path::new(PEER));
    let positions = |name| broker.connect().subscription("s", name).unwrap().partitions[0].position;
    assert_eq!((positions("late"), positions("all")), (1000, 0));
}

#[test]
fn a_backlog_that_fills_the_disk_refuses_producers_and_makes_room_as_it_is_read() {
    let broker = KeptBroker::start_with(Path::new(PEER), &[(SMALL_DISK, (24_u64 << 20).to_string())]);
    let connection = broker.connect();
    declare(&connection, SETTINGS, Visibility::Committed);
    let mut producer = connection.producer("s").open().unwrap();
    let mut fill = |from: u64| {
        for number in from.. {
            let sent = producer.send(&[number as u8; 60_000]).map_err(|error| error.to_string());
            let confirm = |sent| producer.confirm_timeout(sent, PATIENCE).map_err(|error| error.to_string());
            if let Err(why) = sent.and_then(confirm) {
                assert!(why.contains("there is no room for its journal"), "{why}");
                return number;
            }
        }
        unreachable!("a disk has an end")
    };
    let first_end = fill(0);
    assert!(first_end > 100 && lag(&connection).0, "{first_end}");
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    let mut next = 0;
    let mut read_to = |end: u64| {
        while next < end {
            let message = consumer.recv_timeout(PATIENCE).unwrap().unwrap();
            assert_eq!((message.position(), message.payload()[0]), (next, message.position() as u8));
            next += 1;
        }
        consumer.confirm_commit(PATIENCE).unwrap();
    };
    read_to(first_end);
    // The one of which nothing was known may be there.
    eventually("there is room", || {
        let ready = connection.stream("s").unwrap().partitions[0].journal.is_none();
        if !ready {
            thread::sleep(Duration::from_millis(20));
        }
        ready
    });
    let second_from = connection.stream("s").unwrap().partitions[0].next_position;
    let second_end = fill(second_from);
    assert!(second_end > second_from + 100, "{second_from} to {second_end}");
    read_to(second_end);
}

#[test]
fn what_cannot_be_read_is_an_error_with_its_positions_and_holds_up_nobody_else() {
    let data = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(|config| config.data = data.path().to_owned());
    let connection = connect(broker.path()).unwrap();
    declare(&connection, SETTINGS, Visibility::Committed);
    let mut producer = connection.producer("s").open().unwrap();
    publish(&mut producer, 0..3000);
    producer.confirm_all_timeout(PATIENCE).unwrap();
    let segment = data.path().join("shard-0/segment-0000000000000001");
    let bytes = std::fs::read(&segment).unwrap();
    let wanted = payload(1498);
    let at = bytes.windows(wanted.len()).position(|bytes| bytes == wanted).unwrap();
    let file = std::fs::File::options().write(true).open(&segment).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    let mut next = 0;
    let error = loop {
        match consumer.recv_timeout(PATIENCE) {
            Ok(Some(message)) => assert_eq!(message.position(), next),
            Ok(None) => panic!("{next} is missing"),
            Err(error) => break error,
        }
        next += 1;
    };
    let RecvError::Backlog { position, source } = &error else { panic!("{error:?}") };
    assert_eq!((*position, source.code()), (next, Some(RefusalCode::Unreadable)), "{error}");
    assert!(next <= 1498 && error.to_string().contains(&format!("messages {next} to")), "{error}");
    publish(&mut producer, 3000..3100);
    producer.confirm_all_timeout(PATIENCE).unwrap();
    // As soon as it can be read again, it goes on.
    file.write_all_at(&[bytes[at]], at as u64).unwrap();
    expect(&mut consumer, next..3100);
}
