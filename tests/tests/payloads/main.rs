//! What of payloads that do not fit a slot: do they arrive whole, is their memory used again, and only then when nobody
//! can read it any more, whoever holds a message for hours or dies?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::sync::mpsc::channel;
use std::thread;

use ringway_client::{
    Connection, Consumer, HeldMessage, Producer, Producers, RefusalCode, SendError, StartAt, StreamSettings,
};
use ringway_tests::{PATIENCE, Peer, TestBroker, connect, eventually};

const MIB: usize = 1 << 20;

/// A broker with topic "s" of `slots` slots and its subscription "a".
fn broker(slots: u64) -> (TestBroker, Connection) {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    let settings = StreamSettings { slots, slot_bytes: 64, ..StreamSettings::DEFAULT };
    connection.declare_stream("s", settings).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    (broker, connection)
}

fn both(connection: &Connection) -> (Producer, Consumer) {
    (connection.producer("s").open().unwrap(), connection.consumer("s", "a").open().unwrap())
}

/// The bytes of message `number`: no two alike.
fn payload(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| (number.wrapping_mul(0x9e37_79b9) ^ (at * 7)) as u8).collect()
}

fn arenas_bytes(connection: &Connection) -> u64 {
    connection.stream("s").unwrap().arenas_bytes()
}

#[test]
fn payloads_from_a_slot_to_the_limit_arrive_whole_by_copy_and_by_loan() {
    let (_broker, connection) = broker(16);
    let (mut producer, mut consumer) = both(&connection);
    for (number, bytes) in [49, 4096, 65_536, MIB + 1, 16 * MIB].into_iter().enumerate() {
        let expected = payload(number as u64, bytes);
        producer.send(&expected).unwrap();
        let message = consumer.recv().unwrap();
        assert_eq!(message.payload_bytes(), bytes);
        assert!(message.payload() == expected, "{bytes} bytes by copy");

        let mut loan = producer.loan(bytes).unwrap();
        loan.copy_from_slice(&expected);
        producer.send_loan(loan).unwrap();
        let message = consumer.recv().unwrap();
        let view = message.view().expect("a loan is left in place");
        let mut odd = vec![0; bytes - 13];
        view.read(13, &mut odd);
        assert!(odd == expected[13..], "{bytes} bytes by loan");
    }
    let error = producer.send(&vec![0; 16 * MIB + 1]).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { bytes_max, .. } if bytes_max == 16 * MIB), "{error}");
    assert!(matches!(producer.loan(16 * MIB + 1), Err(SendError::TooLarge { .. })));
}

#[test]
fn a_loan_may_be_kept_dropped_moved_and_cut_and_holds_nobody_up() {
    let (_broker, connection) = broker(4);
    let (mut producer, mut consumer) = both(&connection);
    let mut kept = producer.loan(1000).unwrap();
    kept.fill(1);
    drop(producer.loan(5000).unwrap());
    for number in 0..20_u64 {
        producer.send(&number.to_le_bytes()).unwrap();
        assert_eq!(consumer.recv().unwrap().payload(), number.to_le_bytes());
    }
    let mut kept = thread::spawn(move || {
        kept[999] = 2;
        kept.truncate(1000);
        kept
    })
    .join()
    .unwrap();
    kept.truncate(10);
    assert_eq!(producer.send_loan(kept).unwrap().position, 20);
    assert_eq!(consumer.recv().unwrap().payload(), [1; 10]);

    let mut other = connection.producer("s").open().unwrap();
    let foreign = other.send_loan(producer.loan(100).unwrap()).unwrap_err();
    assert!(matches!(foreign.source, SendError::ForeignLoan { .. }), "{foreign}");
    assert_eq!(producer.send_loan(*foreign.loan).unwrap().position, 21, "it came back with the error");
}

#[test]
fn memory_is_used_again_and_grows_only_with_what_is_on_its_way() {
    let (_broker, connection) = broker(64);
    let (mut producer, mut consumer) = both(&connection);
    for number in 0..500 {
        let expected = payload(number, 65_536);
        producer.send(&expected).unwrap();
        assert!(consumer.recv().unwrap().payload() == expected);
    }
    consumer.commit().unwrap();
    assert_eq!(arenas_bytes(&connection), 1 << 20, "the first arena is enough for a consumer that keeps up");
    // 64 on their way need four times as much; when they are read, the smaller arenas are given back.
    for number in 0..64 {
        producer.send(&payload(number, 65_536)).unwrap();
    }
    let grown = arenas_bytes(&connection);
    assert!(grown > 4 << 20, "{grown}");
    for number in 0..64 {
        assert!(consumer.recv().unwrap().payload() == payload(number, 65_536));
    }
    consumer.commit().unwrap();
    for number in 0..200 {
        producer.send(&payload(number, 65_536)).unwrap();
        assert!(consumer.recv().unwrap().payload() == payload(number, 65_536));
    }
    let kept = arenas_bytes(&connection);
    assert!(kept < grown, "{kept} of {grown}");
}

#[test]
fn a_message_that_is_held_stays_as_it_is_while_the_stream_goes_on_for_many_rounds() {
    let (_broker, connection) = broker(8);
    let (mut producer, mut consumer) = both(&connection);
    let mut held: Vec<(u64, HeldMessage)> = Vec::new();
    for number in 0..2000 {
        producer.send(&payload(number, 10_000)).unwrap();
        let message = consumer.recv().unwrap();
        if number % 97 == 0 {
            held.push((number, message.hold().unwrap()));
        }
        assert!(message.payload() == payload(number, 10_000));
    }
    consumer.close().unwrap();
    let refused = connection.consumer("s", "a").open().unwrap_err();
    assert_eq!(refused.code(), Some(RefusalCode::InUse), "what is held keeps the subscription");
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for (number, message) in held {
            assert_eq!(message.position(), number);
            assert!(message.payload() == payload(number, 10_000), "held message {number} has changed");
        }
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(PATIENCE).unwrap();
    eventually("the subscription is given back with the last held message", || {
        connection.consumer("s", "a").open().is_ok()
    });
}

#[test]
fn a_sixty_fifth_message_cannot_be_held_and_one_that_is_dropped_makes_room() {
    let (_broker, connection) = broker(128);
    let (mut producer, mut consumer) = both(&connection);
    let mut held = Vec::new();
    for _ in 0..64 {
        producer.send(&[7; 100]).unwrap();
        held.push(consumer.recv().unwrap().hold().unwrap());
    }
    producer.send(&[8; 100]).unwrap();
    let message = consumer.recv().unwrap();
    assert_eq!(message.hold().unwrap_err().held, 64);
    held.pop();
    assert_eq!(message.hold().unwrap().payload(), [8; 100]);
    producer.send(b"inline").unwrap();
    assert_eq!(consumer.recv().unwrap().hold().unwrap().payload(), b"inline", "a copy needs no place");
}

#[test]
fn when_all_memory_is_on_its_way_the_producer_waits_for_the_subscription_and_names_it() {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    let settings = StreamSettings { payload_bytes_max: 9 << 20, ..StreamSettings::DEFAULT };
    connection.declare_stream("s", settings).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    let (mut producer, mut consumer) = both(&connection);
    let mut sent = 0;
    let error = loop {
        match producer.try_send(&payload(sent, 9 << 20)) {
            Ok(position) => sent = position.position + 1,
            Err(error) => break error,
        }
    };
    assert!(
        (4..=8).contains(&sent),
        "{sent} of the largest payloads fit the memory that a producer may have"
    );
    let pid = std::process::id();
    assert!(error.to_string().contains(&format!("held by subscription a (process {pid})")), "{error}");
    let held: Vec<_> = (0..sent).map(|_| consumer.recv().unwrap().hold().unwrap()).collect();
    consumer.commit().unwrap();
    let error = producer.try_send(&payload(sent, 9 << 20)).unwrap_err();
    assert!(matches!(error, SendError::NoBlock { .. }), "{error}");
    drop(held);
    producer.try_send(&payload(sent, 9 << 20)).unwrap();
    assert!(consumer.recv().unwrap().payload() == payload(sent, 9 << 20));
}

#[test]
fn without_subscriptions_the_newest_large_messages_are_kept_as_far_as_memory_goes() {
    let (_broker, connection) = broker(1024);
    connection.delete_subscription("s", "a").unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let count = 100;
    for number in 0..count {
        producer.send(&payload(number, 4 * MIB)).unwrap();
    }
    connection.declare_subscription("s", "late", StartAt::First).unwrap();
    let mut consumer = connection.consumer("s", "late").open().unwrap();
    let first = consumer.positions()[0].position;
    assert!(first > 0 && first < count - 10, "{first}");
    for number in first..count {
        let message = consumer.recv().unwrap();
        assert!(message.position() == number && message.payload() == payload(number, 4 * MIB), "{number}");
    }
    assert!(consumer.try_recv().unwrap().is_none());
}

#[test]
fn what_a_dead_producer_sent_is_read_and_then_its_memory_goes() {
    let (broker, connection) = broker(256);
    let path = broker.path();
    let program = env!("CARGO_BIN_EXE_ringway-test-peer");
    let mut publisher = Peer::start(program, &["large-publisher", path.to_str().unwrap(), "s", "20"]);
    assert_eq!(publisher.line(), "published 20");
    publisher.kill();
    eventually("its death is known", || connection.stream("s").unwrap().producers() == 0);
    assert!(arenas_bytes(&connection) > 0, "nobody has read it");
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    for number in 0..20_u64 {
        let message = consumer.recv().unwrap();
        assert!(message.payload() == [number as u8; 100_000], "{number}");
    }
    consumer.commit().unwrap();
    // Nobody tells the broker: it looks by itself.
    eventually("its memory is gone", || arenas_bytes(&connection) == 0);
    connection.declare_subscription("s", "late", StartAt::First).unwrap();
    assert_eq!(
        connection.subscription("s", "late").unwrap().partitions[0].position,
        20,
        "nobody is led to what is gone"
    );
}

#[test]
fn several_producers_send_large_and_small_and_each_in_its_order() {
    let (_broker, connection) = broker(64);
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    const EACH: u64 = 300;
    thread::scope(|scope| {
        for who in 0..3_u64 {
            let mut producer = connection.producer("s").open().unwrap();
            scope.spawn(move || {
                for number in 0..EACH {
                    let bytes = if number % 3 == 0 { 20_000 } else { 16 };
                    let mut message = payload(number, bytes);
                    message[0] = who as u8;
                    message[8..16].copy_from_slice(&number.to_le_bytes());
                    producer.send(&message).unwrap();
                }
            });
        }
        let mut next = [0_u64; 3];
        for position in 0..3 * EACH {
            let message = consumer.recv().unwrap();
            assert_eq!(message.position(), position);
            let bytes = message.payload();
            let number = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
            let who = usize::from(bytes[0]);
            assert_eq!(number, next[who], "producer {who} is in order");
            let expected = payload(number, bytes.len());
            assert!(bytes[1..8] == expected[1..8] && bytes[16..] == expected[16..]);
            next[who] += 1;
        }
    });
}

#[test]
fn an_exclusive_stream_carries_large_payloads_too() {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    let settings = StreamSettings { producers: Producers::Exclusive, ..StreamSettings::DEFAULT };
    connection.declare_stream("s", settings).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    let (mut producer, mut consumer) = both(&connection);
    producer.send_batch([&b"small"[..], &payload(1, 70_000), b"small again"]).unwrap();
    assert_eq!(consumer.recv().unwrap().payload(), b"small");
    assert!(consumer.recv().unwrap().payload() == payload(1, 70_000));
    assert_eq!(consumer.recv().unwrap().payload(), b"small again");
}

#[test]
fn a_payload_that_needs_memory_of_a_broker_that_is_gone_is_refused_with_that() {
    let broker = TestBroker::start();
    let connection = connect(broker.path()).unwrap();
    connection.declare_stream("s", StreamSettings::DEFAULT).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    broker.stop();
    let error = producer.send(&[1; 5000]).unwrap_err();
    assert!(matches!(error, SendError::Memory { .. }) && !error.is_retryable(), "{error}");
    assert!(error.to_string().contains("the broker is gone"), "{error}");
}
