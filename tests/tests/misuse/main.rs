//! What if a program asks for what cannot be? Each call is an error that says what was wrong, with figures, and what can be.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::error::Error;

use ringway_client::{
    AttributeMap, Attributes, Connection, CursorSettings, Durability, Outgoing, Position, SharedSettings,
    StartAt, StreamSettings, SubscriptionMode,
};
use ringway_tests::TestBroker;

const ORDERS: StreamSettings =
    StreamSettings { slots: 64, payload_bytes_max: 1000, ..StreamSettings::DEFAULT };

/// What was tried must have failed, for a reason that says all of `parts`.
#[track_caller]
fn fails<T, E: Error>(tried: Result<T, E>, parts: &[&str]) {
    let error = tried.err().expect("it cannot be").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
}

fn connected() -> (TestBroker, Connection) {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("orders", ORDERS).unwrap();
    connection.declare_subscription("orders", "billing", StartAt::First).unwrap();
    connection
        .declare_shared_subscription("orders", "audit", StartAt::First, SharedSettings::default())
        .unwrap();
    connection.declare_queue("jobs", ORDERS, SharedSettings::default()).unwrap();
    (broker, connection)
}

#[test]
fn names_that_cannot_be_are_refused_wherever_they_are_given() {
    let (_broker, connection) = connected();
    let long = "n".repeat(201);
    let wrong = [
        ("", "may not be empty: give it 1 to 200 bytes"),
        (&long, "201 bytes is too long: 200"),
        ("a/b", "'/' (byte 1)"),
    ];
    for (name, why) in wrong {
        let why = &[why];
        fails(connection.declare_stream(name, ORDERS), why);
        fails(connection.declare_queue(name, ORDERS, SharedSettings::default()), why);
        fails(connection.stream(name), why);
        fails(connection.delete_stream(name), why);
        fails(connection.purge_stream(name), why);
        fails(connection.declare_subscription("orders", name, StartAt::Next), why);
        fails(connection.subscription("orders", name), why);
        fails(connection.subscriptions(name), why);
        fails(connection.delete_subscription("orders", name), why);
        fails(connection.purge_subscription("orders", name), why);
        fails(connection.producer(name).open(), why);
        fails(connection.producer("orders").name(name).open(), why);
        fails(connection.consumer("orders", name).open(), why);
        fails(connection.shared_consumer("orders", name).open(), why);
        fails(connection.queue_consumer(name).open(), why);
    }
}

#[test]
fn settings_that_cannot_be_are_refused_with_what_can() {
    let (_broker, connection) = connected();
    let declared = |settings| connection.declare_stream("new", settings);
    fails(
        declared(StreamSettings { slots: 1, ..ORDERS }),
        &["a ring of 1 slot ", "from 2 to 1073741824", "nearest is 2"],
    );
    fails(
        declared(StreamSettings { slots: u64::MAX, ..ORDERS }),
        &["18,446,744,073,709,551,615 slots", "nearest is 1073741824"],
    );
    fails(declared(StreamSettings { slot_bytes: 65, ..ORDERS }), &["slots of 65 bytes", "nearest is 128"]);
    fails(declared(StreamSettings { partitions: 0, ..ORDERS }), &["0 partitions", "from 1 to 64"]);
    fails(declared(StreamSettings { partitions: u32::MAX, ..ORDERS }), &["from 1 to 64"]);
    fails(
        declared(StreamSettings { payload_bytes_max: u32::MAX, ..ORDERS }),
        &["4294967295 bytes", "payload_bytes_max"],
    );
    fails(connection.declare_stream("jobs", ORDERS), &["kind queue, not topic"]);
    let cursor = SubscriptionMode::Cursor(CursorSettings::default());
    fails(
        connection.declare_subscription_as("orders", "audit", StartAt::First, cursor),
        &["mode shared, not cursor"],
    );
    fails(connection.declare_subscription("jobs", "more", StartAt::First), &["the one subscription jobs"]);
    let endless = SharedSettings { lease_ms: u32::MAX, ..SharedSettings::default() };
    fails(connection.declare_queue("new", ORDERS, endless), &["from 1 to 43200000 (12 hours)"]);
    fails(connection.stream("new"), &["there is no stream new"]);
}

#[test]
fn what_cannot_be_opened_says_what_can() {
    let (_broker, connection) = connected();
    fails(connection.producer("nope").open(), &["there is no stream nope", "ringway stream create nope"]);
    fails(connection.consumer("orders", "nope").open(), &["has no subscription nope"]);
    fails(connection.consumer("orders", "audit").open(), &["open it with Connection::shared_consumer"]);
    fails(connection.shared_consumer("orders", "billing").open(), &["open it with Connection::consumer"]);
    fails(
        connection.consumer("orders", "billing").partitions([]).open(),
        &["name one, or say nothing for all"],
    );
    fails(
        connection.consumer("orders", "billing").partitions([1]).open(),
        &["has 1 partition: there is no partition 1"],
    );
    fails(
        connection.shared_consumer("orders", "audit").partitions([u32::MAX]).open(),
        &["no partition 4294967295"],
    );
    // What was tried holds nothing.
    connection.consumer("orders", "billing").open().unwrap();
}

#[test]
fn what_cannot_be_sent_or_confirmed_is_refused_and_nothing_is_sent() {
    let (_broker, connection) = connected();
    let mut producer = connection.producer("orders").open().unwrap();
    fails(producer.send(&[0; 1001]), &["1001 bytes", "1000 at the most"]);
    fails(producer.loan(usize::MAX), &["18446744073709551615 bytes", "1000 at the most"]);
    let mut with = |attributes| producer.send(Outgoing::new(b"x").attributes(attributes));
    fails(with(Attributes::new().key(&[0; 1025])), &["the key has 1025 bytes: 1024 at the most"]);
    fails(with(Attributes::new().correlation(&[0; 256])), &["256 bytes: 255 at the most"]);
    fails(with(Attributes::new().reply_to("a/b")), &["'/' (byte 1)"]);
    fails(
        with(Attributes::new().durability(Durability::Synced)),
        &["of durability memory", "--durability written or synced"],
    );
    fails(AttributeMap::new().insert("", true), &["0 bytes: 1 to 255"]);
    fails(producer.send(Outgoing::new(b"x").sequence(1)), &["open the producer with a name"]);
    fails(producer.confirm(Position { partition: 1, position: 0 }), &["has no partition 1: it has 1"]);
    assert_eq!(connection.stream("orders").unwrap().partitions[0].next_position, 0);
    fails(producer.send_batch([&b"x"[..], &[0; 1001]]), &["1 message of the batch went out", "1001 bytes"]);
}
