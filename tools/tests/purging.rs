//! `purge`: what nobody has is given up, for good; what somebody has is not.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringway_client::{Connection, SharedInfo, SharedSettings, StartAt, StreamSettings};
use serde_json::{Value, json};
use support::{Broker, kill, until};

fn connect(broker: &Broker) -> Connection {
    Connection::open(broker.directory()).unwrap()
}

/// Where the messages of a queue are.
fn info(connection: &Connection, stream: &str, subscription: &str) -> SharedInfo {
    let found = connection.subscription(stream, subscription).unwrap();
    let mut sum = SharedInfo::default();
    for part in found.partitions.into_iter().filter_map(|part| part.shared) {
        (sum.ready, sum.leased, sum.delayed) =
            (sum.ready + part.ready, sum.leased + part.leased, sum.delayed + part.delayed);
    }
    sum
}

/// Kills broker and keeper at once: the rings are gone, as when the host dies.
fn kill_both(broker: Broker) {
    let (keeper, own) = (broker.process.id(), broker.broker_pid());
    // Each of them would replace the other.
    support::signal(&broker.process, rustix::process::Signal::STOP);
    kill(own);
    kill(keeper);
    until("both are gone", || !support::runs(own.into()) && !support::runs(keeper.into()));
}

#[test]
fn what_waits_is_given_up_what_is_leased_stays_and_both_survive_the_loss_of_all_memory() {
    let data = tempfile::tempdir().unwrap();
    let options = ["--data", data.path().to_str().unwrap()];
    let broker = Broker::start_with(&options);
    broker.run(&["stream", "create", "jobs", "--kind", "queue", "--lease", "10m"]).ok();
    broker.run(&["pub", "jobs", "--count", "100", "--size", "4"]).ok();
    let connection = connect(&broker);
    let mut consumer = connection.queue_consumer("jobs").prefetch(1).open().unwrap();
    consumer.recv().unwrap().nack_after(Duration::from_secs(3600)).unwrap();
    let leased = consumer.recv().unwrap().keep();
    consumer.confirm_settled(Duration::from_secs(10)).unwrap();
    let before = info(&connection, "jobs", "jobs");
    assert_eq!((before.delayed, before.leased + before.ready), (1, 99));

    let purged = broker.run(&["stream", "purge", "jobs", "--json"]).ok();
    let purged: Value = serde_json::from_str(&purged).unwrap();
    assert_eq!(purged, json!({"stream": "jobs", "purged": before.ready + before.delayed}));
    let after = info(&connection, "jobs", "jobs");
    assert_eq!((after.ready, after.delayed, after.leased), (0, 0, before.leased));
    assert_eq!(broker.run(&["stream", "purge", "jobs"]).ok(), "stream jobs: 0 messages purged\n");

    kill_both(broker);
    let broker = Broker::start_with(&options);
    let timeout = ["--timeout", "500ms", "--format", "json"];
    let left = broker.run(&[&["sub", "jobs"], &timeout[..]].concat()).ok();
    let left: Vec<Value> = left.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let payload = String::from_utf8(leased.payload().to_vec()).unwrap();
    assert!(left.iter().any(|message| message["payload"] == payload.as_str()), "what was leased comes again");
    assert_eq!(left.len() as u64, before.leased, "and nothing else does");
}

#[test]
fn an_ordered_subscription_skips_to_the_end_for_good_and_another_keeps_its_messages() {
    let data = tempfile::tempdir().unwrap();
    let options = ["--data", data.path().to_str().unwrap()];
    let broker = Broker::start_with(&options);
    let create = ["stream", "create", "s", "--durability", "synced", "--partitions", "2"];
    broker.run(&create).ok();
    for name in ["a", "b"] {
        broker.run(&["subscription", "create", "s", name, "--from", "first"]).ok();
    }
    broker.run(&["pub", "s", "--count", "10"]).ok();
    // While it is read it is refused, in all partitions or in none.
    let (child, mut out) = broker.spawn(&["sub", "s", "--subscription", "a", "--count", "3"]);
    let mut printed = String::new();
    std::io::Read::read_to_string(&mut out, &mut printed).unwrap();
    support::ended(child).expect(0, &[]);
    let reader = connect(&broker);
    let held = reader.consumer("s", "a").partitions([1]).open().unwrap();
    let pid = std::process::id().to_string();
    for purge in [&["stream", "purge", "s"][..], &["subscription", "purge", "s", "a"]] {
        broker
            .run(purge)
            .expect(5, &["subscription a of stream s is read by process", &pid, "end that first"]);
    }
    let lag = |name: &str| -> u64 {
        let found = reader.subscription("s", name).unwrap();
        found.partitions.iter().map(|cursor| cursor.lag).sum()
    };
    assert_eq!((lag("a"), lag("b")), (7, 10));
    held.close().unwrap();

    let purged = broker.run(&["subscription", "purge", "s", "a", "--json"]).ok();
    let purged: Value = serde_json::from_str(&purged).unwrap();
    assert_eq!(purged, json!({"stream": "s", "subscription": "a", "purged": 7}));
    assert_eq!((lag("a"), lag("b")), (0, 10));
    drop(reader);
    kill_both(broker);
    let broker = Broker::start_with(&options);
    broker.run(&["pub", "s", "new"]).ok();
    let a = broker.run(&["sub", "s", "--subscription", "a", "--timeout", "500ms"]).ok();
    assert_eq!(a, "new\n");
    assert_eq!(broker.run(&["stream", "purge", "s"]).ok(), "stream s: 11 messages purged\n");
}

#[test]
fn a_producer_that_a_full_stream_holds_up_goes_on_when_it_is_purged() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "s", "--slots", "8"]).ok();
    broker.run(&["subscription", "create", "s", "slow"]).ok();
    broker.run(&["stream", "create", "q", "--kind", "queue", "--slots", "8", "--durability", "memory"]).ok();
    for stream in ["s", "q"] {
        let (publisher, _) = broker.spawn(&["pub", stream, "--count", "12"]);
        until("it is full", || {
            broker.run(&["stream", "show", stream, "--json"]).out.contains("\"next_position\":8")
        });
        let purged = broker.run(&["stream", "purge", stream]).ok();
        assert!(purged.starts_with(&format!("stream {stream}: 8 messages purged")), "{purged}");
        support::ended(publisher).expect(0, &["published 12 messages"]);
    }
}

#[test]
fn beside_consumers_at_work_each_message_is_handled_or_given_up_and_never_both() {
    const MESSAGES: u64 = 20_000;
    let broker = Broker::start();
    let connection = connect(&broker);
    connection.declare_queue("q", StreamSettings::DEFAULT, SharedSettings::default()).unwrap();
    let over = AtomicBool::new(false);
    let (mut purged, mut handled) = (0, Vec::new());
    std::thread::scope(|scope| {
        let consume = || {
            let mut consumer = connect(&broker).queue_consumer("q").open().unwrap();
            let mut mine = Vec::new();
            loop {
                let Some(delivery) = consumer.recv_timeout(Duration::from_millis(100)).unwrap() else {
                    if over.load(Ordering::Relaxed) {
                        return mine;
                    }
                    continue;
                };
                let position = delivery.position().position;
                // Some come twice, so that there is something in the lot and in the feed.
                if position % 7 == 0 && delivery.attempt() == 1 {
                    delivery.nack().unwrap();
                } else {
                    delivery.ack().unwrap();
                    mine.push(position);
                }
            }
        };
        let consumers = [scope.spawn(consume), scope.spawn(consume)];
        let producer = scope.spawn(|| {
            let mut producer = connect(&broker).producer("q").open().unwrap();
            for number in 0..MESSAGES {
                producer.send(&number.to_le_bytes()).unwrap();
            }
        });
        while !producer.is_finished() {
            purged += connection.purge_stream("q").unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        producer.join().unwrap();
        over.store(true, Ordering::Relaxed);
        for consumer in consumers {
            handled.extend(consumer.join().unwrap());
        }
    });
    purged += connection.purge_stream("q").unwrap();
    let handled_total = handled.len() as u64;
    handled.sort_unstable();
    handled.dedup();
    assert_eq!(handled.len() as u64, handled_total, "none was handled twice");
    assert_eq!(handled_total + purged, MESSAGES, "{handled_total} handled, {purged} purged");
    assert_eq!(info(&connection, "q", "q"), SharedInfo { dead_total: 0, ..SharedInfo::default() });
}

#[test]
fn without_messages_or_without_a_ring_nothing_is_given_up_and_what_is_not_there_is_said() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "s"]).ok();
    assert_eq!(broker.run(&["stream", "purge", "s"]).ok(), "stream s: 0 messages purged\n");
    broker.run(&["stream", "purge", "nope"]).expect(3, &["nope"]);
    broker.run(&["subscription", "purge", "s", "nope"]).expect(3, &["nope"]);
    broker.run(&["subscription", "purge", "s"]).expect(2, &["<NAME>"]);
    broker.run(&["stream", "purge", "a/b"]).expect(2, &["'/'"]);
    let connection = connect(&broker);
    connection.declare_shared_subscription("s", "w", StartAt::First, SharedSettings::default()).unwrap();
    broker.run(&["pub", "s", "x"]).ok();
    assert_eq!(
        broker.run(&["subscription", "purge", "s", "w"]).ok(),
        "subscription w of stream s: 1 message purged\n"
    );
    assert_eq!(broker.run(&["sub", "s", "--subscription", "w", "--timeout", "200ms"]).ok(), "");
}
