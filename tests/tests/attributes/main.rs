//! What of what a message says about itself: does it arrive whole, wherever it has to lie, and cost nothing when there is none?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_client::{
    AttributeMap, Attributes, Connection, Outgoing, Overflow, RecvError, SendError, StartAt, StreamSettings,
    Value,
};
use ringway_tests::TestBroker;

/// A broker with topic "s" of slots of 128 bytes and its subscription "a".
fn broker(overflow: Overflow) -> (TestBroker, Connection) {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    let settings = StreamSettings { slots: 16, slot_bytes: 128, overflow, ..StreamSettings::DEFAULT };
    connection.declare_stream("s", settings).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    (broker, connection)
}

/// A map with one attribute of so many bytes.
fn map(bytes: usize) -> AttributeMap {
    let mut map = AttributeMap::new();
    map.insert("filler", &vec![7_u8; bytes][..]).unwrap();
    map
}

#[test]
fn attributes_and_payload_arrive_whole_whichever_of_them_fits_the_slot() {
    for overflow in [Overflow::Block, Overflow::DropOldest] {
        let (_broker, connection) = broker(overflow);
        let mut producer = connection.producer("s").open().unwrap();
        let mut consumer = connection.consumer("s", "a").open().unwrap();
        // A body has 112 bytes.
        for (attributes_bytes, payload_bytes) in [
            (0, 0),
            (20, 20),
            (20, 80),
            (20, 100),
            (20, 5000),
            (90, 5),
            (200, 90),
            (200, 100),
            (40_000, 70_000),
        ] {
            let (map, payload) = (map(attributes_bytes), vec![attributes_bytes as u8; payload_bytes]);
            let message = Outgoing::new(&payload).key(b"k1").map(&map);
            producer.send(message).unwrap();
            let mut loan = producer.loan(payload_bytes.max(1)).unwrap();
            loan.fill(9);
            producer.send_loan_with(loan, Attributes::new().map(&map)).unwrap();
            {
                let found = consumer.recv().unwrap();
                assert!(found.payload() == payload, "{attributes_bytes}, {payload_bytes}");
                assert_eq!(found.key(), Some(&b"k1"[..]));
                assert!(found.attributes().iter().eq(map.iter()), "{attributes_bytes}, {payload_bytes}");
                let held = found.hold().unwrap();
                assert!(held.attributes().iter().eq(map.iter()) && held.key() == found.key());
            }
            let found = consumer.recv().unwrap();
            assert!(found.payload().iter().all(|byte| *byte == 9));
            assert!(found.key().is_none() && found.attributes().iter().eq(map.iter()));
        }
    }
}

#[test]
fn every_kind_of_attribute_arrives_as_it_was() {
    let (_broker, connection) = broker(Overflow::Block);
    let mut producer = connection.producer("s").timestamps(true).open().unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    let mut map = AttributeMap::new();
    map.insert("urgent", true).unwrap();
    map.insert("count", -3_i64).unwrap();
    map.insert("share", 0.25).unwrap();
    map.insert("kind", "café").unwrap();
    let now_ns = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let before = now_ns();
    producer.send(Outgoing::new(b"question").correlation(b"17").reply_to("answers").map(&map)).unwrap();
    producer.send(Outgoing::new(b"").timestamp_ns(5)).unwrap();
    let message = consumer.recv().unwrap();
    let attributes = message.attributes();
    let stamped = attributes.timestamp_ns().unwrap();
    let slack = Duration::from_millis(1).as_nanos() as u64;
    assert!((before - slack..=now_ns() + slack).contains(&stamped), "{stamped}");
    assert_eq!((attributes.correlation(), attributes.reply_to()), (Some(&b"17"[..]), Some("answers")));
    assert_eq!(attributes.get("count"), Some(Value::Integer(-3)));
    assert!(attributes.iter().eq(map.iter()));
    assert_eq!(consumer.recv().unwrap().attributes().timestamp_ns(), Some(5), "it had one already");
}

#[test]
fn what_cannot_be_sent_is_an_error_and_the_stream_goes_on() {
    let (_broker, connection) = broker(Overflow::Block);
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    let long = [0; 1025];
    let error = producer.send(Outgoing::new(b"x").key(&long)).unwrap_err();
    assert!(matches!(error, SendError::Attributes { .. }) && !error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("the key has 1025 bytes: 1024 at the most"), "{error}");
    let loan = producer.loan(10).unwrap();
    let error = producer.send_loan_with(loan, Attributes::new().reply_to("a/b")).unwrap_err();
    assert!(matches!(error.source, SendError::Attributes { .. }), "{error:?}");
    let batch = [Outgoing::new(b"1"), Outgoing::new(b"2").key(&long), Outgoing::new(b"3")];
    assert_eq!(producer.send_batch(batch).unwrap_err().sent, 1);
    assert_eq!(consumer.recv().unwrap().payload(), b"1");
    producer.send("next").unwrap();
    assert_eq!(consumer.recv().unwrap().payload(), b"next");
}

#[test]
fn a_message_whose_attributes_cannot_be_is_reported_and_passed_over() {
    use ringway_shm_protocol::ring;

    let (broker, connection) = broker(Overflow::Block);
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    let mut hostile = ringway_tests::RawProducer::open(&broker.path(), "s");
    let wrong = ring::Part::Inline(b"neither a length nor a key");
    hostile.publish(&ring::Outgoing { flags: 2, attributes: wrong, payload: ring::Part::Inline(b"x") });
    hostile.publish(&ring::Outgoing::inline(b"right"));
    let error = consumer.recv().map(|message| message.position()).unwrap_err();
    assert!(matches!(error, RecvError::Attributes { position: 0, .. }), "{error:?}");
    assert!(error.to_string().contains("attributes are corrupt"), "{error}");
    assert!(error.is_retryable(), "the next call goes on");
    assert_eq!(consumer.recv().unwrap().payload(), b"right");
}
