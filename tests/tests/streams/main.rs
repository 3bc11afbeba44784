//! Do streams and subscriptions keep their promises through the whole path: client, control plane, shard, ring?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::time::Duration;

use ringway_client::{Connection, RefusalCode, SendError, StartAt, StreamSettings};
use ringway_shm_protocol::control::message::{Reply, Request};
use ringway_tests::{PATIENCE, RawSession, TestBroker};

fn settings(slots: u64, slot_bytes: u32) -> StreamSettings {
    StreamSettings { slots, slot_bytes, ..StreamSettings::DEFAULT }
}

fn connected(slots: u64) -> (TestBroker, Connection) {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", settings(slots, 64)).unwrap();
    (broker, connection)
}

#[test]
fn without_subscriptions_a_topic_keeps_exactly_the_last_capacity_messages() {
    let (_broker, connection) = connected(16);
    let mut producer = connection.producer("s").open().unwrap();
    for number in 0..100_u64 {
        producer.send(&number.to_le_bytes()).unwrap();
    }
    let info = connection.stream("s").unwrap();
    assert_eq!((info.partitions[0].first_position, info.partitions[0].next_position), (84, 100));
    connection.declare_subscription("s", "late", StartAt::First).unwrap();
    let mut consumer = connection.consumer("s", "late").open().unwrap();
    for expected in 84..100_u64 {
        let message = consumer.recv().unwrap();
        assert_eq!((message.position(), message.payload()), (expected, &expected.to_le_bytes()[..]));
    }
    assert!(consumer.try_recv().unwrap().is_none());
}

#[test]
fn a_subscription_at_next_sees_only_what_comes_after_it() {
    let (_broker, connection) = connected(16);
    let mut producer = connection.producer("s").open().unwrap();
    producer.send(b"old").unwrap();
    let subscription = connection.declare_subscription("s", "a", StartAt::Next).unwrap();
    assert_eq!((subscription.partitions[0].position, subscription.lag()), (1, 0));
    producer.send(b"new").unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    let message = consumer.recv().unwrap();
    assert_eq!((message.position(), message.payload()), (1, &b"new"[..]));
}

#[test]
fn a_full_stream_blocks_times_out_and_names_who_holds_it() {
    let (_broker, connection) = connected(16);
    connection.declare_subscription("s", "slow", StartAt::First).unwrap();
    connection.declare_subscription("s", "quick", StartAt::First).unwrap();
    let mut quick = connection.consumer("s", "quick").open().unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    for _ in 0..16 {
        producer.send(b"x").unwrap();
        quick.recv().unwrap();
    }
    quick.commit().unwrap();
    let error = producer.try_send(b"x").unwrap_err();
    assert!(matches!(error, SendError::Full { .. }), "{error}");
    assert!(error.to_string().contains("slow") && error.to_string().contains("16"), "{error}");
    let error = producer.send_timeout(b"x", Duration::from_millis(30)).unwrap_err();
    assert!(error.to_string().contains("slow"), "{error}");
    assert_eq!(connection.stream("s").unwrap().slowest().unwrap().clone().subscription, "slow");

    // A blocked producer goes on as soon as the subscription that holds it is consumed, or deleted.
    let blocked = std::thread::spawn(move || (producer.send(b"at last").unwrap().position, producer));
    std::thread::sleep(Duration::from_millis(50));
    let mut slow = connection.consumer("s", "slow").open().unwrap();
    slow.recv().unwrap();
    slow.commit().unwrap();
    let (position, mut producer) = blocked.join().unwrap();
    assert_eq!(position, 16);
    quick.recv().unwrap();
    quick.commit().unwrap();
    slow.close().unwrap();
    let blocked = std::thread::spawn(move || producer.send_timeout(b"freed", PATIENCE).unwrap());
    std::thread::sleep(Duration::from_millis(50));
    connection.delete_subscription("s", "slow").unwrap();
    assert_eq!(blocked.join().unwrap().position, 17);
}

#[test]
fn sixty_four_subscriptions_each_see_every_message_in_order_and_a_sixty_fifth_is_refused() {
    let (_broker, connection) = connected(64);
    for number in 0..64 {
        connection.declare_subscription("s", &format!("n{number}"), StartAt::First).unwrap();
    }
    let error = connection.declare_subscription("s", "one-more", StartAt::First).unwrap_err();
    assert_eq!(error.code(), Some(RefusalCode::Limit));
    let mut consumers: Vec<_> =
        (0..64).map(|number| connection.consumer("s", &format!("n{number}")).open().unwrap()).collect();
    let mut producer = connection.producer("s").open().unwrap();
    for number in 0..1000_u64 {
        producer.send(&number.to_le_bytes()).unwrap();
        for consumer in &mut consumers {
            let message = consumer.recv().unwrap();
            assert_eq!((message.position(), message.payload()), (number, &number.to_le_bytes()[..]));
        }
    }
}

#[test]
fn subscriptions_that_join_and_leave_under_load_never_see_a_hole() {
    let (_broker, connection) = connected(64);
    let mut producer = connection.producer("s").open().unwrap();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = std::sync::Arc::clone(&done);
    let publisher = std::thread::spawn(move || {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let number = producer.positions()[0].position;
            producer.send(&number.to_le_bytes()).unwrap();
        }
    });
    for round in 0..200 {
        let start = if round % 2 == 0 { StartAt::First } else { StartAt::Next };
        let joined = connection.declare_subscription("s", "guest", start).unwrap();
        let mut consumer = connection.consumer("s", "guest").open().unwrap();
        for expected in joined.partitions[0].position..joined.partitions[0].position + 300 {
            let message = consumer.recv().unwrap();
            assert_eq!((message.position(), message.payload()), (expected, &expected.to_le_bytes()[..]));
        }
        consumer.close().unwrap();
        connection.delete_subscription("s", "guest").unwrap();
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    publisher.join().unwrap();
}

#[test]
fn payloads_of_every_length_around_the_slot_pass_whole_and_too_large_ones_are_refused_with_the_limit() {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    for slot_bytes in [64, 128, 1024, 4096] {
        let name = format!("s{slot_bytes}");
        let settings = StreamSettings { payload_bytes_max: 5000, ..settings(16, slot_bytes) };
        connection.declare_stream(&name, settings).unwrap();
        connection.declare_subscription(&name, "a", StartAt::First).unwrap();
        let mut producer = connection.producer(&name).open().unwrap();
        let mut consumer = connection.consumer(&name, "a").open().unwrap();
        let largest = slot_bytes as usize - 16;
        assert_eq!((producer.inline_bytes_max(), producer.payload_bytes_max()), (largest, 5000));
        for length in [0, 1, 15, 16, 17, largest - 1, largest, largest + 1, 4999, 5000] {
            let payload: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            producer.send(&payload).unwrap();
            assert_eq!(consumer.recv().unwrap().payload(), payload);
        }
        let error = producer.send(&[0; 5001]).unwrap_err().to_string();
        assert!(error.contains("5001 bytes") && error.contains("5000 at the most"), "{error}");
        producer.send(b"still good").unwrap();
        assert_eq!(consumer.recv().unwrap().payload(), b"still good");
    }
}

#[test]
fn sleeping_consumers_are_all_woken_and_lose_nothing() {
    let (_broker, connection) = connected(1024);
    let readers: Vec<_> = (0..8)
        .map(|number| {
            let name = format!("n{number}");
            connection.declare_subscription("s", &name, StartAt::First).unwrap();
            let mut consumer = connection.consumer("s", &name).open().unwrap();
            std::thread::spawn(move || {
                for expected in 0..200_u64 {
                    assert_eq!(consumer.recv().unwrap().position(), expected);
                }
            })
        })
        .collect();
    let mut producer = connection.producer("s").open().unwrap();
    for number in 0..200_u64 {
        // Long enough apart that all have gone to sleep in between.
        std::thread::sleep(Duration::from_millis(1));
        producer.send(&number.to_le_bytes()).unwrap();
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn a_hundred_streams_are_listed_in_order_over_all_shards() {
    let cores = ringway_broker::config::Config::load(None, Some("/x".into())).unwrap().cores;
    let broker = TestBroker::start_with(|config| {
        config.cores = if cores[0] == 0 { vec![0] } else { vec![cores[0] - 1, cores[0]] };
    });
    let connection = Connection::open(broker.path()).unwrap();
    let mut names: Vec<_> = (0..200).map(|number| format!("stream-{number}")).collect();
    for name in &names {
        connection.declare_stream(name, settings(16, 64)).unwrap();
    }
    names.sort();
    let listed = connection.streams().unwrap();
    assert_eq!(listed.iter().map(|stream| stream.name.clone()).collect::<Vec<_>>(), names);
    let shards: std::collections::BTreeSet<_> =
        listed.iter().map(|stream| stream.partitions[0].shard).collect();
    assert_eq!(shards.len(), usize::from(connection.shards()), "every shard owns some");
}

#[test]
fn while_the_memory_of_a_large_ring_is_cleared_its_shard_serves_others() {
    let (_broker, connection) = connected(16);
    let large = settings(1 << 17, 4096);
    connection.declare_stream("large", large).unwrap();
    let request = Request::OpenProducer { stream: "large".into(), partition: 0, name: None };
    std::thread::scope(|scope| {
        // Each by a session of its own, as one that waits for an answer asks for nothing else; and without the client's mapping.
        let [first, second] = [(); 2].map(|()| {
            let mut own = RawSession::open(connection.directory());
            let request = &request;
            scope.spawn(move || own.ask(request))
        });
        let mut served = 0;
        while !first.is_finished() {
            connection.subscriptions("s").unwrap();
            served += 1;
        }
        // Otherwise it is one or two at the most.
        assert!(served > 10, "the shard has answered {served} requests");
        for reply in [first, second].map(|asked| asked.join().unwrap()) {
            assert!(matches!(reply, Reply::Producer(_)), "{reply:?}");
        }
    });
    connection.declare_subscription("large", "a", StartAt::First).unwrap();
    let mut producer = connection.producer("large").open().unwrap();
    let mut consumer = connection.consumer("large", "a").open().unwrap();
    producer.send(b"x").unwrap();
    assert_eq!(consumer.recv().unwrap().payload(), b"x");
}
