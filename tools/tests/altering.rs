//! `alter`: settings of what is there, by the command.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use serde_json::Value;
use support::Broker;

#[test]
fn a_queue_that_is_altered_says_so_and_is_created_again_only_as_it_is() {
    let broker = Broker::start();
    let create = ["stream", "create", "jobs", "--kind", "queue"];
    broker.run(&create).ok();
    let altered = broker.run(&["stream", "alter", "jobs", "--lease", "5m", "--max-payload", "4096"]).ok();
    assert!(
        altered.contains("stream jobs: queue, ") && altered.contains("payloads to 4,096 bytes"),
        "{altered}"
    );
    assert!(altered.contains("subscription jobs of stream jobs: lease 300s, 20 attempts"), "{altered}");
    let conflict = ["largest payload 4096, not 16777216"];
    broker.run(&create).expect(5, &conflict);
    broker
        .run(&[&create[..], &["--max-payload", "4096"]].concat())
        .expect(5, &["lease in ms 300000, not 30000"]);
    broker.run(&[&create[..], &["--max-payload", "4096", "--lease", "5m"]].concat()).ok();
    let json = broker.run(&["stream", "alter", "jobs", "--max-payload", "8192", "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["settings"]["payload_bytes_max"], 8192);
}

#[test]
fn of_a_subscription_what_is_said_changes_and_nothing_else() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "s"]).ok();
    let create =
        ["subscription", "create", "s", "w", "--mode", "shared", "--backoff", "2s", "--dead-letter", "d"];
    broker.run(&create).ok();
    let alter = ["subscription", "alter", "s", "w"];
    let more = ["--backoff-max", "1m", "--backoff-jitter", "5", "--max-attempts", "0", "--single-active"];
    let altered = broker.run(&[&alter[..], &more].concat()).ok();
    let expected = "subscription w of stream s: lease 30s, any number of attempts, backoff 2s × 2 to 60s less up to 5 %, \
                    dead messages to d, single active consumer\n";
    assert_eq!(altered, expected);
    let off = ["--single-active=false", "--no-dead-letter", "--json"];
    let altered: Value = serde_json::from_str(&broker.run(&[&alter[..], &off].concat()).ok()).unwrap();
    let settings = &altered["mode"]["shared"];
    assert_eq!((&settings["single_active"], &settings["dead_letter"]), (&false.into(), &Value::Null));
    assert_eq!((&settings["backoff"]["initial_ms"], &settings["attempts_max"]), (&2000.into(), &0.into()));
}

#[test]
fn what_cannot_be_altered_is_refused_with_what_to_do_instead() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "s", "--slots", "64"]).ok();
    broker.run(&["subscription", "create", "s", "r"]).ok();
    broker
        .run(&["stream", "alter", "s"])
        .expect(2, &["nothing is to be altered", "ringway stream alter --help"]);
    broker.run(&["subscription", "alter", "s", "r"]).expect(2, &["nothing is to be altered"]);
    for (option, value, expected) in [
        ("--slots", "128", "slots from 64 to 128"),
        ("--partitions", "2", "partitions from 1 to 2"),
        ("--slot-size", "64", "slot bytes from 128 to 64"),
        ("--producers", "exclusive", "producers from Shared to Exclusive"),
        ("--durability", "synced", "durability from memory to synced"),
        ("--overflow", "drop-oldest", "overflow from Block to DropOldest"),
    ] {
        broker
            .run(&["stream", "alter", "s", option, value])
            .expect(2, &[expected, "ringway stream move s OTHER"]);
    }
    broker.run(&["stream", "alter", "s", "--lease", "1m"]).expect(2, &["ringway subscription alter s NAME"]);
    broker.run(&["subscription", "alter", "s", "r", "--lease", "1m"]).expect(2, &["is a cursor"]);
    broker.run(&["subscription", "alter", "s", "nope", "--lease", "1m"]).expect(3, &["nope"]);
    broker.run(&["stream", "alter", "nope", "--overflow", "reject"]).expect(3, &["nope"]);
    broker.run(&["subscription", "create", "s", "w", "--mode", "shared"]).ok();
    broker
        .run(&["subscription", "alter", "s", "w", "--visibility", "durable"])
        .expect(2, &["visibility from committed to durable"]);
    broker.run(&["subscription", "alter", "s", "w", "--lease", "13h"]).expect(2, &["43200000"]);
}
