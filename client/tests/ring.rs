//! Do messages pass between a producer and a consumer, whole, in order and with nobody left asleep? Runs on real
//! shared memory between threads; the broker is a fake that serves one partition.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod fake;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use fake::partition::serve;
use fake::{Broker, LONG};
use ringway_client::{
    AdminError, CloseError, Connection, Consumer, Message, OpenError, Producer, RecvError, SendError,
    StartAt, WaitStrategy,
};

const AT_ONCE: WaitStrategy = WaitStrategy::Adaptive { spin: Duration::ZERO };
const X: &[u8] = b"x";
const SHORT: Duration = Duration::from_millis(20);

/// Opens the subscription "c", declared before the producer opens the stream.
fn both(connection: &Connection, wait: WaitStrategy) -> (Producer, Consumer) {
    connection.declare_subscription("s", "c", StartAt::Next).unwrap();
    let producer = connection.producer("s").wait(wait).open().unwrap();
    let consumer = connection.consumer("s", "c").wait(wait).open().unwrap();
    (producer, consumer)
}

/// Where the cursor of the only subscription stands.
fn committed(connection: &Connection) -> u64 {
    let stream = connection.stream("s").unwrap();
    stream.partitions[0].next_position - stream.slowest().unwrap().messages
}

fn hang_up(broker: Broker, connection: &Connection) {
    let _ = connection.stop_broker(Duration::ZERO);
    broker.join();
    assert!(!connection.is_open());
}

/// A payload that its position and length determine, 0 to 48 bytes long.
fn payload(position: u64) -> Vec<u8> {
    let length = (position % 49) as u8;
    (0..length).map(|index| index.wrapping_mul(31).wrapping_add(position as u8)).collect()
}

#[test]
fn handles_may_move_between_threads_and_connections_be_shared() {
    fn send<T: Send>() {}
    fn shared<T: Send + Sync + Clone>() {}
    fn error<T: Send + Sync + 'static>() {}
    send::<Producer>();
    send::<Consumer>();
    send::<Message>();
    shared::<Connection>();
    error::<AdminError>();
    error::<OpenError>();
    error::<SendError>();
    error::<RecvError>();
    error::<CloseError>();
}

#[test]
fn every_message_arrives_once_whole_and_in_order_however_both_wait() {
    const MESSAGES: u64 = 100_000;
    for (sender_waits, receiver_waits) in
        [(AT_ONCE, AT_ONCE), (WaitStrategy::default(), WaitStrategy::Spin), (WaitStrategy::Spin, AT_ONCE)]
    {
        let (_broker, connection, log) = serve(16);
        connection.declare_subscription("s", "c", StartAt::Next).unwrap();
        let mut producer = connection.producer("s").wait(sender_waits).open().unwrap();
        let mut consumer = connection.consumer("s", "c").wait(receiver_waits).open().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                for position in 0..MESSAGES {
                    assert_eq!(producer.send(&payload(position)).unwrap().position, position);
                }
            });
            for position in 0..MESSAGES {
                let message = consumer.recv().unwrap();
                assert_eq!((message.position(), message.payload()), (position, &payload(position)[..]));
            }
        });
        assert_eq!(log.gates(), 1, "the cursor is mapped once");
        consumer.close().unwrap();
        assert_eq!(committed(&connection), MESSAGES);
        assert_eq!(log.closes(), 2);
    }
}

#[test]
fn a_full_stream_says_who_holds_it_at_once_or_after_the_timeout() {
    let (_broker, connection, _log) = serve(4);
    let (mut producer, mut consumer) = both(&connection, WaitStrategy::default());
    for position in 0..4 {
        assert_eq!(producer.try_send(b"x").unwrap().position, position);
    }
    let error = producer.try_send(b"x").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("stream s is full: held by subscription c (no consumer), 4 behind of 4 slots; ")
    );
    assert!(matches!(error, SendError::Full { lag: 4, capacity: 4, waited: None, .. }), "{error:?}");

    let error = producer.send_timeout(b"x", SHORT).unwrap_err();
    assert!(matches!(error, SendError::Full { waited: Some(waited), .. } if waited >= SHORT), "{error:?}");
    assert_eq!(producer.positions()[0].position, 4);

    consumer.recv().unwrap();
    consumer.commit().unwrap();
    assert_eq!(producer.send_timeout(b"x", Duration::MAX).unwrap().position, 4);
}

#[test]
fn a_subscription_that_is_deleted_holds_a_stream_no_longer() {
    let (_broker, connection, _log) = serve(4);
    connection.declare_subscription("s", "c", StartAt::Next).unwrap();
    let mut producer = connection.producer("s").wait(AT_ONCE).open().unwrap();
    producer.send_batch([X; 4]).unwrap();
    thread::scope(|scope| {
        let sending = scope.spawn(|| producer.send(b"5").unwrap());
        thread::sleep(SHORT);
        connection.delete_subscription("s", "c").unwrap();
        assert_eq!(sending.join().unwrap().position, 4);
    });
}

#[test]
fn without_subscriptions_a_stream_is_never_full() {
    let (_broker, connection, _log) = serve(4);
    let mut producer = connection.producer("s").open().unwrap();
    for position in 0..100 {
        assert_eq!(producer.try_send(b"x").unwrap().position, position);
    }
    assert_eq!(connection.declare_subscription("s", "c", StartAt::First).unwrap().lag(), 4);
}

#[test]
fn a_payload_that_does_not_fit_is_refused_with_the_limit() {
    let (_broker, connection, _log) = serve(4);
    let mut producer = connection.producer("s").open().unwrap();
    assert_eq!((producer.inline_bytes_max(), producer.payload_bytes_max()), (48, 1000));
    producer.send(&[7; 48]).unwrap();
    let error = producer.send(&[7; 1001]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a payload of 1001 bytes is too large for stream s: 1000 at the most; declare the stream with a larger limit"
    );
    assert!(!error.is_retryable());
    assert_eq!(producer.send(b"goes on").unwrap().position, 1);
}

#[test]
fn a_batch_larger_than_the_ring_passes_while_the_consumer_reads() {
    let (_broker, connection, _log) = serve(8);
    let (mut producer, mut consumer) = both(&connection, AT_ONCE);
    let payloads: Vec<_> = (0..1000).map(payload).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let batch: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
            assert_eq!(producer.send_batch(&batch).unwrap().unwrap().position, 999);
        });
        for expected in &payloads {
            assert_eq!(consumer.recv().unwrap().payload(), expected);
        }
    });
}

#[test]
fn a_batch_that_stops_says_how_much_of_it_was_sent_and_that_much_is_there() {
    let (_broker, connection, _log) = serve(8);
    let (mut producer, mut consumer) = both(&connection, AT_ONCE);
    let error = producer.send_batch([&b"1"[..], b"2", &[0; 1001], b"4"]).unwrap_err();
    assert_eq!(error.sent, 2);
    assert!(matches!(error.source, SendError::TooLarge { bytes: 1001, .. }));
    assert!(error.to_string().starts_with("2 messages of the batch went out, the next did not: a payload"));
    assert_eq!(consumer.recv().unwrap().payload(), b"1");
    assert_eq!(consumer.recv().unwrap().payload(), b"2");
    assert!(consumer.try_recv().unwrap().is_none());
}

/// Were wake-ups lost, each would cost the bound of a sleep: one second.
fn assert_nobody_overslept(started: Instant) {
    assert!(started.elapsed() < LONG, "took {:?}", started.elapsed());
}

#[test]
fn a_sleeping_consumer_is_woken_by_each_message_and_each_batch() {
    const MESSAGES: u64 = 50;
    // Not in turn, and none before the last one has arrived: what one call forgets, the next would make good.
    for batches in [false, true] {
        let (_broker, connection, _log) = serve(64);
        let (mut producer, mut consumer) = both(&connection, AT_ONCE);
        let (arrived, go_on) = channel();
        let started = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || {
                for () in go_on {
                    // Long enough for the consumer to fall asleep.
                    thread::sleep(Duration::from_millis(1));
                    if batches {
                        producer.send_batch([b"x"]).unwrap();
                    } else {
                        producer.send(b"x").unwrap();
                    }
                }
            });
            for position in 0..MESSAGES {
                arrived.send(()).unwrap();
                assert_eq!(consumer.recv().unwrap().position(), position);
            }
            drop(arrived);
        });
        assert_nobody_overslept(started);
    }
}

#[test]
fn a_sleeping_producer_is_woken_by_each_commit() {
    const MESSAGES: u64 = 200;
    let (_broker, connection, _log) = serve(2);
    let (mut producer, mut consumer) = both(&connection, AT_ONCE);
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..MESSAGES {
                producer.send(b"x").unwrap();
            }
        });
        for position in 0..MESSAGES {
            // Long enough for the producer to fall asleep.
            thread::sleep(Duration::from_millis(1));
            assert_eq!(consumer.recv().unwrap().position(), position);
        }
    });
    assert_nobody_overslept(started);
}

#[test]
fn messages_are_committed_in_groups_when_the_ring_stays_empty_and_on_request() {
    let (_broker, connection, _log) = serve(64);
    let (mut producer, mut consumer) = both(&connection, WaitStrategy::default());
    producer.send_batch([X; 20]).unwrap();
    for _ in 0..8 {
        consumer.try_recv().unwrap().unwrap();
    }
    assert_eq!(committed(&connection), 0, "an eighth of 64 has been returned, none asked for more");
    assert_eq!(consumer.uncommitted_max(), 8);
    consumer.try_recv().unwrap().unwrap();
    assert_eq!(committed(&connection), 8, "all returned before the last call");
    consumer.commit().unwrap();
    assert_eq!(committed(&connection), 9);
    for _ in 9..12 {
        consumer.try_recv().unwrap().unwrap();
    }
    assert_eq!(consumer.positions()[0].position, 12);
    for _ in 12..20 {
        consumer.recv().unwrap();
    }
    assert!(consumer.try_recv().unwrap().is_none());
    assert_eq!(committed(&connection), 17, "the next message may be under way");
    for _ in 0..100 {
        assert!(consumer.try_recv().unwrap().is_none());
    }
    assert_eq!(committed(&connection), 20, "the ring was found empty again and again");
    producer.send(b"x").unwrap();
    consumer.recv().unwrap();
    assert!(consumer.recv_timeout(SHORT).unwrap().is_none());
    assert_eq!(committed(&connection), 21, "the wait was long enough");
}

#[test]
fn what_a_closed_or_dropped_consumer_returned_is_committed_but_not_in_a_panic() {
    let (_broker, connection, log) = serve(64);
    let (mut producer, mut consumer) = both(&connection, WaitStrategy::default());
    producer.send_batch([X; 4]).unwrap();
    consumer.recv().unwrap();
    consumer.close().unwrap();
    assert_eq!(committed(&connection), 1);

    let mut consumer = connection.consumer("s", "c").open().unwrap();
    assert_eq!(consumer.recv().unwrap().position(), 1);
    drop(consumer);
    assert_eq!(committed(&connection), 2);

    let mut consumer = connection.consumer("s", "c").open().unwrap();
    let handling = catch_unwind(AssertUnwindSafe(move || {
        let message = consumer.recv().unwrap();
        panic!("on purpose, in handling message {}", message.position());
    }));
    assert!(handling.is_err());
    assert_eq!(committed(&connection), 2, "delivered again");
    assert_eq!(log.closes(), 3, "given back all the same");
}

#[test]
fn a_consumer_whose_subscription_was_taken_over_notices_and_moves_nothing() {
    let (_broker, connection, _log) = serve(64);
    let (mut producer, mut first) = both(&connection, WaitStrategy::default());
    producer.send_batch([X; 3]).unwrap();
    first.recv().unwrap();
    let mut second = connection.consumer("s", "c").open().unwrap();
    for _ in 0..2 {
        let error = first.commit().unwrap_err();
        assert!(matches!(error, RecvError::Lost(_)), "{error:?}");
        assert!(!error.is_retryable());
    }
    assert!(matches!(first.close(), Err(CloseError::Commit(RecvError::Lost(_)))));
    assert_eq!(second.recv().unwrap().position(), 0, "delivered again");
}

#[test]
fn without_the_broker_messages_flow_until_somebody_has_to_wait() {
    let (broker, connection, _log) = serve(8);
    let (mut producer, mut consumer) = both(&connection, AT_ONCE);
    hang_up(broker, &connection);

    producer.send_batch([X; 8]).unwrap();
    let error = producer.try_send(b"x").unwrap_err();
    assert!(matches!(error, SendError::Full { subscription: None, .. }), "{error:?}");
    assert!(error.to_string().contains("held by a subscription, 8 behind"), "{error}");
    let error = producer.send(b"x").unwrap_err();
    assert!(matches!(error, SendError::Disconnected { .. }), "{error:?}");
    assert!(matches!(producer.send_timeout(b"x", SHORT), Err(SendError::Disconnected { .. })));

    for position in 0..8 {
        assert_eq!(consumer.recv().unwrap().position(), position, "what is there is returned first");
    }
    assert!(consumer.try_recv().unwrap().is_none());
    assert!(matches!(consumer.recv_timeout(SHORT), Err(RecvError::Disconnected)));
    assert!(matches!(consumer.recv(), Err(RecvError::Disconnected)));

    assert!(matches!(consumer.close(), Err(CloseError::Admin(AdminError::Disconnected))));
    assert!(matches!(producer.close(), Err(AdminError::Disconnected)));
}

#[test]
fn a_waiting_consumer_notices_the_end_of_the_broker_however_it_waits() {
    for wait in [AT_ONCE, WaitStrategy::Spin] {
        let (broker, connection, _log) = serve(8);
        let (_producer, mut consumer) = both(&connection, wait);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| consumer.recv().map(|message| message.position()));
            thread::sleep(SHORT);
            hang_up(broker, &connection);
            assert!(matches!(waiting.join().unwrap(), Err(RecvError::Disconnected)));
        });
    }
}

#[test]
fn the_next_producer_goes_on_where_the_last_one_ended() {
    let (_broker, connection, log) = serve(8);
    let (mut first, mut consumer) = both(&connection, AT_ONCE);
    first.send(b"first").unwrap();
    first.close().unwrap();
    assert_eq!(log.closes(), 1);
    let mut second = connection.producer("s").open().unwrap();
    assert_eq!((second.stream(), second.positions()[0].position), ("s", 1));
    second.send(b"second").unwrap();
    drop(second);
    assert_eq!(log.closes(), 2);
    assert_eq!((consumer.stream(), consumer.subscription()), ("s", "c"));
    assert_eq!(consumer.recv().unwrap().payload(), b"first");
    assert_eq!(consumer.recv().unwrap().payload(), b"second");
}
