//! `move` and `redrive`: at least once, never lost, whoever is killed.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use std::collections::BTreeSet;

use ringway_client::{Connection, Outgoing};
use serde_json::{Value, json};
use support::{Broker, kill, until};

/// A queue whose messages are dead after one failure, with so many dead letters: every other one rejected, the others nacked.
fn with_dead_letters(broker: &Broker, queue: &str, dead: u64) {
    broker.run(&["stream", "create", queue, "--kind", "queue", "--max-attempts", "1"]).ok();
    let connection = Connection::open(broker.directory()).unwrap();
    let mut producer = connection.producer(queue).open().unwrap();
    for number in 0..dead {
        producer.send(Outgoing::new(format!("{queue} {number}").as_bytes()).key(b"k")).unwrap();
    }
    producer.confirm_all().unwrap();
    let mut consumer = connection.queue_consumer(queue).open().unwrap();
    for number in 0..dead {
        let delivery = consumer.recv().unwrap();
        if number % 2 == 0 { delivery.reject().unwrap() } else { delivery.nack().unwrap() }
    }
    consumer.close().unwrap();
    until("all are dead", || ready(broker, &format!("{queue}.dead")) >= dead);
}

fn ready(broker: &Broker, queue: &str) -> u64 {
    broker.subscription(queue, queue, "shared")["ready"].as_u64().unwrap()
}

/// What a queue has, acked.
fn drain(broker: &Broker, queue: &str) -> Vec<Value> {
    let printed = broker.run(&["sub", queue, "--timeout", "500ms", "--format", "json"]).ok();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn dead_letters_go_back_to_where_they_came_from_as_they_were() {
    let broker = Broker::start();
    with_dead_letters(&broker, "jobs", 4);
    let done = broker.run(&["stream", "redrive", "jobs.dead"]).ok();
    assert_eq!(done, "stream jobs.dead: redriven 4 messages to jobs\n");
    assert_eq!(ready(&broker, "jobs.dead"), 0);
    let back = drain(&broker, "jobs");
    let payloads: Vec<_> = back.iter().map(|message| message["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, ["jobs 0", "jobs 1", "jobs 2", "jobs 3"]);
    assert_eq!(back[0]["key"], "k");
    assert!(back[0]["attributes"].is_null(), "nothing is said of a death any more: {}", back[0]);
    assert_eq!(
        broker.run(&["stream", "redrive", "jobs.dead"]).ok(),
        "stream jobs.dead: redriven no messages\n"
    );
}

#[test]
fn what_does_not_match_stays_untouched_and_a_count_is_kept() {
    let broker = Broker::start();
    with_dead_letters(&broker, "jobs", 6);
    let redrive = |options: &[&str]| {
        let printed = broker.run(&[&["stream", "redrive", "jobs.dead", "--json"], options].concat()).ok();
        serde_json::from_str::<Value>(&printed).unwrap()
    };
    let none = json!({"stream": "jobs.dead", "moved": 0, "to": {}, "passed_over": 6});
    assert_eq!(redrive(&["--from", "others"]), none);
    assert_eq!(redrive(&["--reason", "died"]), none);
    let two = json!({"stream": "jobs.dead", "moved": 2, "to": {"jobs": 2}});
    let mut found = redrive(&["--reason", "nacked", "--count", "2", "--rate", "100"]);
    found.as_object_mut().unwrap().remove("passed_over");
    assert_eq!(found, two);
    until("what was passed over is back", || ready(&broker, "jobs.dead") == 4);
    assert_eq!(redrive(&["--reason", "rejected"])["moved"], 3);
    until("what was passed over is back", || ready(&broker, "jobs.dead") == 1);
    let left = drain(&broker, "jobs.dead");
    assert_eq!((left.len(), &left[0]["attributes"]["dead.reason"]), (1, &"nacked".into()));
    broker.run(&["stream", "redrive", "jobs.dead", "--reason", "bored"]).expect(2, &["rejected"]);
    broker.run(&["stream", "redrive", "jobs.dead", "--rate", "0"]).expect(2, &["above 0"]);
    broker.run(&["stream", "redrive", "nope.dead"]).expect(3, &["nope.dead"]);
}

#[test]
fn a_letter_behind_more_others_than_are_kept_at_a_time_is_found() {
    let broker = Broker::start();
    let lot = ["--durability", "memory", "--slots", "131072"];
    broker
        .run(&[&["stream", "create", "dead", "--kind", "queue", "--no-dead-letter"], &lot[..]].concat())
        .ok();
    broker.run(&["stream", "create", "jobs"]).ok();
    broker.run(&["pub", "dead", "--count", "70000", "--size", "8"]).ok();
    broker.run(&["pub", "dead", "the letter", "--attribute", "dead.stream=jobs"]).ok();
    let done = broker.run(&["stream", "redrive", "dead"]).ok();
    assert_eq!(done, "stream dead: redriven 1 message to jobs; 70,000 messages did not match\n");
    until("what was passed over is back", || ready(&broker, "dead") == 70_000);
}

#[test]
fn a_redrive_that_is_killed_again_and_again_loses_nothing() {
    const DEAD: u64 = 300;
    let broker = Broker::start();
    with_dead_letters(&broker, "jobs", DEAD);
    let mut in_the_middle = 0;
    for round in 0..6 {
        let (child, _out) = broker.spawn(&["stream", "redrive", "jobs.dead", "--rate", "2000"]);
        let before = ready(&broker, "jobs");
        until("it has moved some", || ready(&broker, "jobs") > before + 10 * round);
        kill(child.id());
        in_the_middle += u32::from(!support::ended(child).out.contains("redriven"));
    }
    assert!(in_the_middle > 0);
    // What the killed ones had is there again as soon as the kernel has reported their deaths.
    until("all is moved", || {
        broker.run(&["stream", "redrive", "jobs.dead"]).ok();
        let shared = broker.subscription("jobs.dead", "jobs.dead", "shared");
        ["ready", "leased", "delayed", "dead"].iter().all(|place| shared[place] == 0)
    });
    let back: BTreeSet<String> = drain(&broker, "jobs")
        .iter()
        .map(|message| message["payload"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(back, (0..DEAD).map(|number| format!("jobs {number}")).collect());
}

#[test]
fn messages_of_a_queue_are_moved_with_all_that_they_say_about_themselves() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "jobs", "--kind", "queue"]).ok();
    broker.run(&["stream", "create", "later", "--kind", "queue"]).ok();
    let attributes = ["--key", "k", "--correlation", "7", "--attribute", "dead.reason=x", "--timestamp"];
    broker.run(&[&["pub", "jobs", "--count", "200"], &attributes[..]].concat()).ok();
    assert_eq!(
        broker.run(&["stream", "move", "jobs", "later", "--count", "150"]).ok(),
        "stream jobs: moved 150 messages to later\n"
    );
    until("what was taken ahead is back", || ready(&broker, "jobs") == 50);
    let moved = drain(&broker, "later");
    assert_eq!(moved.len(), 150);
    assert_eq!((&moved[0]["key"], &moved[0]["correlation"]), (&"k".into(), &"7".into()));
    assert_eq!(moved[0]["attributes"], json!({"dead.reason": "x"}));
    assert!(moved[0]["timestamp_ns"].is_u64());
}

#[test]
fn what_cannot_be_moved_stays_and_the_reason_is_said() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "jobs", "--kind", "queue"]).ok();
    broker.run(&["stream", "create", "small", "--kind", "queue", "--slots", "8"]).ok();
    broker.stream("topic", "a");
    broker.run(&["pub", "jobs", "--count", "20"]).ok();
    broker.run(&["stream", "move", "jobs", "jobs"]).expect(2, &["cannot be moved to itself"]);
    broker.run(&["stream", "move", "jobs", "nope"]).expect(3, &["nope"]);
    broker.run(&["stream", "move", "nope", "jobs"]).expect(3, &["nope"]);
    broker.run(&["stream", "move", "topic", "jobs"]).expect(2, &["name a shared subscription"]);
    broker.run(&["stream", "move", "topic", "jobs", "--subscription", "a"]).expect(2, &["is a cursor"]);
    broker.run(&["stream", "move", "jobs", "small", "--timeout", "soon"]).expect(2, &["500ms"]);
    let full = broker.run(&["stream", "move", "jobs", "small", "--timeout", "300ms"]);
    let full = full.expect(4, &["small is full: held by subscription small"]);
    assert_eq!(full.out, "stream jobs: moved 8 messages to small\n");
    until("the others are back", || ready(&broker, "jobs") == 12);
    assert_eq!(drain(&broker, "small").len(), 8);
}
