//! What tests of queues do again and again: the queue is "q", and its messages are numbers.

use ringway_client::{Connection, Delivery, Producer, SharedConsumer, SharedInfo};

use crate::{PATIENCE, eventually};

/// One of its consumers.
pub fn consumer(connection: &Connection) -> SharedConsumer {
    connection.queue_consumer("q").open().expect("the queue can be opened")
}

/// Publishes these.
pub fn send(producer: &mut Producer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        producer.send(&number.to_le_bytes()).expect("there is space");
    }
}

/// Which one it is.
pub fn number(delivery: &Delivery<'_>) -> u64 {
    u64::from_le_bytes(delivery.payload().try_into().expect("a message is a number"))
}

/// The next message; a test has no more time than [`PATIENCE`].
pub fn next(consumer: &mut SharedConsumer) -> Delivery<'_> {
    consumer.recv_timeout(PATIENCE).expect("the broker is there").expect("a message comes")
}

/// What is where.
pub fn info(connection: &Connection) -> SharedInfo {
    connection.subscription("q", "q").expect("the queue is there").shared()
}

/// Takes and acks all of ten messages, seven of which somebody had who is gone; and stream "s" of one producer, which that had
/// open, becomes free.
pub fn all_come_again(connection: &Connection) {
    let mut consumer = consumer(connection);
    let mut attempts = Vec::new();
    for _ in 0..10 {
        let delivery = next(&mut consumer);
        attempts.push(delivery.attempt());
        delivery.ack().expect("it is this consumer's");
    }
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 1, 1, 2, 2, 2, 2, 2, 2, 2]);
    eventually("the stream is free", || connection.producer("s").open().is_ok());
}
