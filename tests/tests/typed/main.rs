//! Do values arrive as they were sent, and is what is no value said, and out of the way?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::collections::BTreeMap;
use std::time::Duration;

use ringway_client::{
    Attributes, Codec, CodecError, Connection, Delivery, Postcard, SharedSettings, StartAt, StreamSettings,
    Typed, TypedRecvError, TypedSendError,
};
use ringway_tests::tasks::block_on;
use ringway_tests::{TestBroker, eventually};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Tick {
    price: f64,
    volume: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Order {
    New { items: BTreeMap<String, u32>, note: Option<String> },
    Cancelled(u64),
}

fn broker() -> (TestBroker, Connection) {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", StreamSettings::DEFAULT).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    connection.declare_queue("q.dead", StreamSettings::DEFAULT, SharedSettings::default()).unwrap();
    let dead_letter = Some("q.dead".to_owned());
    let settings = SharedSettings { dead_letter, ..SharedSettings::default() };
    connection.declare_queue("q", StreamSettings::DEFAULT, settings).unwrap();
    (broker, connection)
}

#[test]
fn plain_values_arrive_as_they_lie_in_memory() {
    let (_broker, connection) = broker();
    let mut ticks = connection.producer("s").open().unwrap().typed::<Tick>();
    let mut chart = connection.consumer("s", "a").open().unwrap().typed::<Tick>();
    assert!(chart.try_recv().unwrap().is_none());
    let tick = |volume| Tick { price: 99.5, volume };
    ticks.send(&tick(1)).unwrap();
    ticks.send_with(&tick(2), Attributes::new().key(b"k")).unwrap();
    ticks.try_send(&tick(3)).unwrap();
    block_on(ticks.send_async(&tick(4))).unwrap();
    assert_eq!(*chart.recv().unwrap(), tick(1));
    let second = chart.recv().unwrap();
    assert_eq!((second.message().key(), second.volume), (Some(&b"k"[..]), 2));
    assert_eq!(chart.try_recv().unwrap().unwrap().into_value(), tick(3));
    assert_eq!(*block_on(chart.recv_async()).unwrap(), tick(4));
}

#[test]
fn what_is_no_value_is_said_with_its_position_and_passed() {
    let (_broker, connection) = broker();
    let mut producer = connection.producer("s").open().unwrap();
    producer.send(b"no tick").unwrap();
    let mut ticks = producer.typed::<Tick>();
    ticks.send(&Tick { price: 1.0, volume: 2 }).unwrap();
    let mut chart = connection.consumer("s", "a").open().unwrap().typed::<Tick>();
    let error = chart.recv().unwrap_err();
    assert!(error.is_retryable());
    let text = error.to_string();
    assert!(
        text.contains("the message at 0:0 is no value") && text.contains("7 bytes instead of 16"),
        "{text}"
    );
    assert_eq!(chart.recv().unwrap().volume, 2);
}

#[test]
fn values_of_serde_arrive_and_what_is_none_of_them_goes_to_the_dead_letters() {
    let (_broker, connection) = broker();
    let items = BTreeMap::from([("espresso".to_owned(), 2)]);
    let orders = [Order::New { items, note: None }, Order::Cancelled(7)];
    let mut producer = connection.producer("q").open().unwrap().typed_by::<Order, Postcard>();
    for order in &orders {
        producer.send(order).unwrap();
    }
    producer.producer().send(b"\xff").unwrap();
    producer.producer().send(b"\x01\x07and more").unwrap();
    let mut kitchen = connection.queue_consumer("q").open().unwrap().typed_by::<Order, Postcard>();
    for expected in &orders {
        let (order, delivery) = kitchen.recv().unwrap().into_parts();
        assert_eq!(order, *expected);
        delivery.ack().unwrap();
    }
    assert!(matches!(kitchen.recv(), Err(TypedRecvError::Value { .. })));
    let rest = kitchen.recv().unwrap_err().to_string();
    assert!(rest.contains("the payload has 8 bytes behind a") && rest.contains("Order"), "{rest}");
    eventually("both are dead letters", || {
        connection.subscription("q.dead", "q.dead").unwrap().shared().ready == 2
    });
    assert_eq!(connection.subscription("q", "q").unwrap().shared().unsettled(), 0);
}

#[test]
fn a_value_is_settled_as_a_delivery_is() {
    let (_broker, connection) = broker();
    let mut numbers = connection.producer("q").open().unwrap().typed::<u64>();
    numbers.send(&7).unwrap();
    let mut worker = connection.queue_consumer("q").open().unwrap().typed::<u64>();
    let history = |job: &Typed<u64, Delivery<'_>>| (job.message().attempt(), job.message().failed());
    let job = worker.recv().unwrap();
    assert_eq!(history(&job), (1, 0));
    job.release().unwrap();
    let job = worker.recv().unwrap();
    assert_eq!(history(&job), (2, 0));
    job.nack().unwrap();
    let job = worker.recv().unwrap();
    assert_eq!(history(&job), (3, 1));
    job.nack_after(Duration::from_millis(1)).unwrap();
    let job = worker.recv().unwrap();
    assert_eq!(history(&job), (4, 2));
    job.reject().unwrap();
    let mut dead = connection.queue_consumer("q.dead").open().unwrap().typed::<u64>();
    let job = dead.recv().unwrap();
    assert_eq!(*job, 7);
    job.ack().unwrap();
    assert_eq!(connection.subscription("q.dead", "q.dead").unwrap().shared().unsettled(), 0);
}

/// Numbers below ten.
struct Digit;

impl Codec<u32> for Digit {
    fn encode<'a>(value: &'a u32, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], CodecError> {
        let digit = char::from_digit(*value, 10).ok_or_else(|| CodecError::other("no digit"))?;
        buffer.push(digit as u8);
        Ok(buffer)
    }

    fn decode(payload: &[u8]) -> Result<u32, CodecError> {
        let digit = payload.first().and_then(|digit| char::from(*digit).to_digit(10));
        digit.ok_or_else(|| CodecError::other("no digit"))
    }
}

#[test]
fn a_codec_of_ones_own_may_refuse_a_value_and_nothing_is_published() {
    let (_broker, connection) = broker();
    let mut digits = connection.producer("s").open().unwrap().typed_by::<u32, Digit>();
    let error = digits.send(&10).unwrap_err();
    assert!(matches!(error, TypedSendError::Value(_)) && !error.is_retryable());
    assert_eq!(error.to_string(), "the value cannot be encoded: no digit");
    digits.send(&7).unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap().typed_by::<u32, Digit>();
    assert_eq!(*consumer.recv().unwrap(), 7);
}
