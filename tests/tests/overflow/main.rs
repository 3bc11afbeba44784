//! What if nobody keeps up: does each overflow policy do what it says, and does whoever misses messages learn how many?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::thread;
use std::time::Duration;

use ringway_client::{Connection, Overflow, SendError, StartAt, StreamSettings};
use ringway_tests::{PATIENCE, Peer, TestBroker, eventually};
use rustix::process::Signal;

/// A broker with topic "s" of 64 slots and this overflow, and its subscription "a".
fn broker(overflow: Overflow) -> (TestBroker, Connection) {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    let settings = StreamSettings { slots: 64, slot_bytes: 64, overflow, ..StreamSettings::DEFAULT };
    connection.declare_stream("s", settings).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    (broker, connection)
}

/// The bytes of message `number`: every third is too long for a slot.
fn payload(number: u64) -> Vec<u8> {
    let bytes = if number.is_multiple_of(3) { 5000 } else { 40 };
    let mut payload = vec![number as u8; bytes];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload
}

/// Checks that a payload is whole, and returns its number.
fn number_of(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == payload(number), "message {number} is torn");
    number
}

#[test]
fn a_stream_that_rejects_says_so_at_once_and_names_who_holds_it() {
    let (_broker, connection) = broker(Overflow::Reject);
    let mut producer = connection.producer("s").open().unwrap();
    for number in 0..64_u64 {
        producer.send(&number.to_le_bytes()).unwrap();
    }
    let error = producer.send(b"one too many").unwrap_err();
    assert!(matches!(error, SendError::Full { lag: 64, waited: None, .. }), "{error:?}");
    assert!(error.to_string().contains("subscription a (no consumer)"), "{error}");
    let slowest = connection.stream("s").unwrap().slowest().unwrap().clone();
    assert_eq!((&slowest.subscription[..], slowest.messages, slowest.consumer_pid), ("a", 64, None));
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    assert_eq!(
        connection.stream("s").unwrap().slowest().unwrap().clone().consumer_pid,
        Some(std::process::id())
    );
    consumer.recv().unwrap();
    consumer.commit().unwrap();
    assert_eq!(producer.send(b"now").unwrap().position, 64);
}

#[test]
fn a_stream_that_drops_its_oldest_never_waits_and_its_reader_knows_what_it_missed() {
    let (_broker, connection) = broker(Overflow::DropOldest);
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    const COUNT: u64 = 1000;
    for number in 0..COUNT {
        assert_eq!(producer.try_send(&payload(number)).unwrap().position, number);
    }
    let mut last = None;
    let mut read = 0;
    while let Some(message) = consumer.recv_timeout(Duration::from_millis(50)).unwrap() {
        let number = number_of(message.payload());
        assert_eq!(message.position(), number);
        assert!(last.is_none_or(|last| number > last));
        last = Some(number);
        read += 1;
    }
    assert_eq!(last, Some(COUNT - 1), "the newest is never dropped");
    assert!(read >= 32, "most of the ring is still there: {read}");
    assert_eq!(read + consumer.missed(), COUNT);
}

#[test]
fn a_reader_that_races_with_an_overwriting_producer_never_sees_a_torn_message() {
    let (_broker, connection) = broker(Overflow::DropOldest);
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    const COUNT: u64 = 100_000;
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..COUNT {
                producer.send(&payload(number)).unwrap();
            }
        });
        let (mut read, mut last) = (0, None);
        while last != Some(COUNT - 1) {
            let message = consumer.recv_timeout(PATIENCE).unwrap().expect("the newest message arrives");
            last = Some(number_of(message.payload()));
            read += 1;
        }
        assert_eq!(read + consumer.missed(), COUNT);
    });
}

#[test]
fn a_subscription_that_lags_is_detached_and_attached_again_when_its_consumer_comes_back() {
    let (broker, connection) = broker(Overflow::Detach { after_ms: 20 });
    connection.declare_subscription("s", "b", StartAt::First).unwrap();
    let path = broker.path();
    let program = env!("CARGO_BIN_EXE_ringway-test-peer");
    // It holds "b" and is stopped.
    let mut stopped = Peer::start(program, &["consumer", path.to_str().unwrap(), "s", "b", "0"]);
    stopped.line();
    stopped.signal(Signal::STOP);
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    for number in 0..300 {
        producer.send_timeout(&payload(number), PATIENCE).unwrap();
        assert_eq!(number_of(consumer.recv().unwrap().payload()), number);
    }
    assert_eq!(consumer.missed(), 0, "who keeps up is not detached");
    let lagging = connection.subscription("s", "b").unwrap();
    assert!(lagging.is_detached() && lagging.lag() > 64, "{lagging:?}");
    assert!(!connection.subscription("s", "a").unwrap().is_detached());
    stopped.kill();
    eventually("the subscription is free", || connection.consumer("s", "b").open().is_ok());

    let mut late = connection.consumer("s", "b").open().unwrap();
    let mut read = 0;
    while late.positions()[0].position < 300 {
        let message = late.recv_timeout(PATIENCE).unwrap().expect("what is still there arrives");
        assert_eq!(number_of(message.payload()), message.position());
        read += 1;
    }
    assert_eq!(read + late.missed(), 300);
    late.commit().unwrap();
    assert!(!connection.subscription("s", "b").unwrap().is_detached(), "it is attached again");
    // And holds the producer again, as a gate does.
    for number in 300..364 {
        producer.try_send(&payload(number)).unwrap();
        consumer.recv().unwrap();
    }
    consumer.commit().unwrap();
    assert!(matches!(producer.try_send(b"full"), Err(SendError::Full { lag: 64, .. })));
    for number in 300..364 {
        assert_eq!(number_of(late.recv().unwrap().payload()), number);
    }
}
