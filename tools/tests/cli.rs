//! The real `ringway` against a real broker: what it prints, how it ends, and what it leaves behind.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use std::ffi::OsStr;
use std::io::{BufRead, Read};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};
use support::{Broker, Ended, ended, ringway, runs, signal, until};

#[test]
fn what_is_published_is_printed_in_order() {
    let broker = Broker::start();
    broker.stream("orders", "billing");
    broker.run(&["pub", "orders", "one pizza"]).expect(0, &["published 1 message to orders, position 0"]);
    let file = broker.path("lines");
    std::fs::write(&file, b"two\n\n\xfffour").unwrap();
    let file = file.to_str().unwrap();
    broker.run(&["pub", "orders", "--lines", file]).expect(0, &["3 messages to orders, positions 1 to 3"]);
    broker.run_with(&["pub", "orders", "--lines", "-"], b"five\n").expect(0, &["position 4"]);
    broker.run(&["pub", "orders", "--count", "2", "--size", "3"]).expect(0, &["positions 5 to 6"]);

    let printed = broker.run(&["sub", "orders", "--subscription", "billing", "--count", "7"]);
    assert_eq!(printed.expect(0, &[]).raw, b"one pizza\ntwo\n\n\xfffour\nfive\n000\n001\n");
}

#[test]
fn a_payload_may_be_any_bytes() {
    let broker = Broker::start();
    broker.stream("s", "a");
    let arguments = ["pub".as_ref(), "s".as_ref(), OsStr::from_bytes(b"\xff\x00x".split_at(1).0)];
    Ended::from(broker.command(arguments).output().unwrap()).ok();
    let printed = broker.run(&["sub", "s", "--subscription", "a", "--count", "1"]);
    assert_eq!(printed.raw, b"\xff\n");
}

#[test]
fn json_and_hex_name_the_position() {
    let broker = Broker::start();
    broker.stream("s", "a");
    broker.run(&["subscription", "create", "s", "b", "--from", "first"]).ok();
    broker.run_with(&["pub", "s", "--lines", "-"], b"say \"h\xc3\xa9\"\n\x00\xff\n").ok();
    let json = broker.run(&["sub", "s", "--subscription", "a", "--count", "2", "--format", "json"]).ok();
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], json!({"partition": 0, "position": 0, "payload": "say \"hé\""}));
    assert_eq!(lines[1], json!({"partition": 0, "position": 1, "payload_hex": "00ff"}));
    let hex = broker.run(&["sub", "s", "--subscription", "b", "--count", "2", "--format", "hex"]).ok();
    assert_eq!(hex, "0 736179202268c3a922\n1 00ff\n");
}

#[test]
fn what_a_message_says_about_itself_is_sent_along_and_printed() {
    let broker = Broker::start();
    broker.stream("s", "a");
    let arguments = ["pub", "s", "x", "--key", "k", "--correlation", "7", "--reply-to", "r", "--timestamp"];
    let attributes =
        ["--attribute", "urgent=true", "--attribute", "n=-3", "--attribute", "f=0.5", "--attribute", "t=a=b"];
    broker.run(&[&arguments[..], &attributes].concat()).ok();
    let json = broker.run(&["sub", "s", "--subscription", "a", "--count", "1", "--format", "json"]).ok();
    let mut line: Value = serde_json::from_str(&json).unwrap();
    let stamped = line.as_object_mut().unwrap().remove("timestamp_ns").unwrap();
    assert!(stamped.as_u64().unwrap() > 1_700_000_000_000_000_000);
    let attributes = json!({"urgent": true, "n": -3, "f": 0.5, "t": "a=b"});
    let expected = json!({
        "partition": 0, "position": 0, "key": "k", "correlation": "7", "reply_to": "r", "attributes": attributes, "payload": "x"
    });
    assert_eq!(line, expected);
    broker.run(&["pub", "s", "x", "--attribute", "n"]).expect(2, &["NAME=VALUE"]);
    broker.run(&["pub", "s", "x", "--attribute", "n=1", "--attribute", "n=2"]).expect(2, &["already"]);
    broker.run(&["pub", "s", "x", "--key", &"k".repeat(1025)]).expect(2, &["1025 bytes: 1024 at the most"]);
}

#[test]
fn a_subscription_is_made_at_its_start_and_goes_on_where_it_was() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "s"]).ok();
    broker.run(&["pub", "s", "--count", "5", "--size", "1"]).ok();
    let sub = |name, more: &[&str]| {
        let arguments = [&["sub", "s", "--subscription", name, "--timeout", "300ms"], more].concat();
        broker.run(&arguments).ok()
    };
    assert_eq!(sub("next", &[]), "");
    assert_eq!(sub("first", &["--from", "first", "--count", "2"]), "0\n1\n");
    assert_eq!(sub("first", &["--from", "first", "--count", "1"]), "2\n");
    assert_eq!(sub("first", &["--from", "next"]), "3\n4\n");
}

#[test]
fn a_timeout_is_exit_4_only_if_a_count_was_not_reached() {
    let broker = Broker::start();
    broker.stream("s", "a");
    broker.run(&["pub", "s", "--count", "3"]).ok();
    let sub = ["sub", "s", "--subscription", "a", "--timeout", "200ms"];
    let late = broker.run(&[&sub[..], &["--count", "5"]].concat());
    assert_eq!(late.expect(4, &["3 of 5 messages came within 200ms"]).out.lines().count(), 3);
    broker.run(&sub).expect(0, &[]);
}

#[test]
fn a_full_stream_ends_a_publisher_with_a_timeout_by_exit_4_and_says_how_far_it_came() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "s", "--slots", "8"]).ok();
    broker.run(&["subscription", "create", "s", "slow"]).ok();
    let full = broker.run(&["pub", "s", "--count", "100", "--timeout", "200ms"]);
    full.expect(
        4,
        &["published 8 messages to s, positions 0 to 7", "is full: held by subscription slow", "200ms"],
    );
    // And one without waits until there is space.
    let (publisher, _) = broker.spawn(&["pub", "s", "--count", "100"]);
    let printed =
        broker.run(&["sub", "s", "--subscription", "slow", "--count", "108", "--timeout", "20s"]).ok();
    assert_eq!(printed.lines().count(), 108);
    ended(publisher).expect(0, &["published 100 messages to s, positions 8 to 107"]);
}

#[test]
fn a_publisher_keeps_its_rate_and_ctrl_c_ends_it_with_130_and_its_figures() {
    let broker = Broker::start();
    broker.stream("s", "a");
    let (publisher, _) = broker.spawn(&["pub", "s", "--count", "1000000", "--rate", "100"]);
    until("some are published", || broker.subscription("s", "a", "lag").as_u64() >= Some(3));
    signal(&publisher, Signal::INT);
    let ended = ended(publisher).expect(130, &["published ", " messages to s, positions 0 to "]);
    assert!(!ended.err.contains("1,000,000"), "{}", ended.err);
    // So does one that waits for its input.
    let mut command = broker.command(["pub", "s", "--lines", "-"]);
    let mut waiting = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let input = waiting.stdin.take();
    until("it has opened the stream", || {
        broker.run(&["stream", "show", "s"]).out.contains(&waiting.id().to_string())
    });
    signal(&waiting, Signal::INT);
    support::ended(waiting).expect(130, &["published no messages to s"]);
    drop(input);
}

#[test]
fn a_line_that_is_too_long_is_named_and_those_before_it_are_published() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "s", "--max-payload", "300"]).ok();
    broker.run(&["subscription", "create", "s", "a"]).ok();
    let input = format!("{}\nb\n{}\nd\n", "a".repeat(300), "c".repeat(301));
    let long = broker.run_with(&["pub", "s", "--lines", "-"], input.as_bytes());
    long.expect(
        1,
        &["line 3 of standard input is longer than 300 bytes", "published 2 messages", "--max-payload"],
    );
    let whole = broker.run(&["sub", "s", "--subscription", "a", "--count", "2"]).ok();
    assert_eq!(whole, format!("{}\nb\n", "a".repeat(300)), "longer than a slot, and printed whole");
    broker.run(&["pub", "s", &"c".repeat(301)]).expect(1, &["301 bytes", "300 at the most"]);
    broker.run(&["pub", "s", "--lines", "/nonexistent/x"]).expect(1, &["/nonexistent/x"]);
}

#[test]
fn a_publisher_without_anything_to_publish_is_shown_the_three_ways() {
    let none = Ended::from(ringway().args(["pub", "s"]).output().unwrap());
    none.expect(2, &["pub [OPTIONS] <STREAM> <PAYLOAD>", "--lines <FILE|->", "--count <N> [--size <B>]"]);
    let both = Ended::from(ringway().args(["pub", "s", "x", "--count", "1"]).output().unwrap());
    both.expect(2, &["cannot be used with"]);
}

#[test]
fn who_closes_the_pipe_ends_a_subscriber_quietly_and_loses_nothing() {
    let broker = Broker::start();
    broker.stream("s", "a");
    broker.run(&["pub", "s", "--count", "10000"]).ok();
    let (child, mut out) = broker.spawn(&["sub", "s", "--subscription", "a"]);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.starts_with("00000000000000000000."));
    drop(out);
    assert_eq!(ended(child).expect(0, &[]).err, "");
    // What went into the pipe counts as printed: at most 64 KiB of lines of 65 bytes, and what was read.
    let position = broker.subscription("s", "a", "position").as_u64().unwrap();
    assert!(position > 0 && position < 2_000, "{position}");
    let rest = broker.run(&["sub", "s", "--subscription", "a", "--format", "json", "--timeout", "2s"]).ok();
    assert_eq!(rest.lines().count() as u64, 10_000 - position);

    // Nobody ever read this one: it has consumed nothing.
    broker.run(&["pub", "s", "--count", "10"]).ok();
    let (child, out) = broker.spawn(&["sub", "s", "--subscription", "a", "--count", "5"]);
    drop(out);
    assert_eq!(ended(child).expect(0, &[]).err, "");
    assert!(broker.subscription("s", "a", "lag").as_u64() >= Some(5));
}

#[test]
fn a_subscriber_whose_pipe_is_closed_ends_without_another_message() {
    let broker = Broker::start();
    broker.stream("s", "a");
    broker.run(&["pub", "s", "only"]).ok();
    let (child, mut out) = broker.spawn(&["sub", "s", "--subscription", "a"]);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "only\n");
    drop(out);
    ended(child).expect(0, &[]);
}

#[test]
fn ctrl_c_on_a_blocked_subscriber_commits_exactly_what_was_printed() {
    let broker = Broker::start();
    broker.stream("s", "a");
    broker.run(&["pub", "s", "--count", "10000"]).ok();
    let (child, mut out) = broker.spawn(&["sub", "s", "--subscription", "a"]);
    let mut last = 0;
    until("the pipe is full", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let position = broker.subscription("s", "a", "position").as_u64().unwrap();
        std::mem::replace(&mut last, position) == position && position > 0
    });
    signal(&child, Signal::INT);
    ended(child).expect(130, &[]);
    let mut printed = String::new();
    out.read_to_string(&mut printed).unwrap();
    let position = broker.subscription("s", "a", "position").as_u64().unwrap();
    assert!(printed.ends_with('\n'));
    assert_eq!(printed.lines().count() as u64, position);
    assert!(broker.subscription("s", "a", "consumer_pid").is_null());
}

#[test]
fn a_subscriber_prints_at_once_and_ctrl_c_ends_it_with_130() {
    let broker = Broker::start();
    broker.stream("s", "a");
    let (child, mut out) = broker.spawn(&["sub", "s", "--subscription", "a"]);
    for text in ["one", "two"] {
        broker.run(&["pub", "s", text]).ok();
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), text);
    }
    signal(&child, Signal::INT);
    assert_eq!(ended(child).expect(130, &[]).err, "");
    assert_eq!(broker.subscription("s", "a", "position"), 2);
}

#[test]
fn what_is_not_there_is_exit_3_and_says_what_to_do() {
    let broker = Broker::start();
    let unknown = ["ringway stream create nope"];
    broker.run(&["pub", "nope", "x"]).expect(3, &unknown);
    broker.run(&["sub", "nope", "--subscription", "a"]).expect(3, &unknown);
    broker.run(&["stream", "show", "nope"]).expect(3, &["nope"]);
    broker.run(&["stream", "delete", "nope"]).expect(3, &["nope"]);
    broker.run(&["stream", "create", "s"]).ok();
    broker.run(&["subscription", "show", "s", "nope"]).expect(3, &["nope"]);
    let nobody = broker.path("nobody");
    for arguments in [&["stream", "list"][..], &["pub", "s", "x"], &["stop"]] {
        let ended = Ended::from(ringway().arg("--dir").arg(&nobody).args(arguments).output().unwrap());
        ended.expect(3, &["no broker answers in", "ringway serve --dir"]);
    }
}

#[test]
fn arguments_that_cannot_be_are_exit_2_and_say_why() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "a/b"]).expect(2, &["'/'"]);
    broker.run(&["stream", "create", ""]).expect(2, &["empty"]);
    broker.run(&["stream", "create", &"x".repeat(201)]).expect(2, &["200 bytes"]);
    let arguments = ["stream".as_ref(), "create".as_ref(), OsStr::from_bytes(b"caf\xe9")];
    Ended::from(broker.command(arguments).output().unwrap()).expect(2, &["a name must be UTF-8: byte 3"]);
    broker.run(&["stream", "create", "t"]).ok();
    broker.run(&["stream", "create", "q", "--kind", "queue"]).ok();
    let wrong = [
        ("stream create s --slots 1000", "the nearest is 1024"),
        ("stream create s --slots 1", "a ring of 1 slot cannot be made"),
        (
            "stream create s --slots -1",
            "invalid value '-1' for '--slots <N>': it must be a whole number from 0",
        ),
        ("stream create s --slots 1k", "it must be a whole number from 0 to 18446744073709551615"),
        ("stream create s --max-payload 4294967296", "it must be a whole number from 0 to 4294967295"),
        ("stream create s --slot-size 100", "the nearest is 128"),
        ("stream create s --partitions 65", "from 1 to 64"),
        (
            "stream create s --kind queue --lease 0s",
            "a lease of 0 ms cannot be had: from 1 to 43200000 (12 hours)",
        ),
        ("stream create s --kind queue --lease 1us", "1ms at the least"),
        ("stream create s --overflow detach=1000d", "below 49 days"),
        ("stream redrive t", "stream t is a topic: name a shared subscription with --subscription NAME"),
        ("stream move q t --rate -1", "above 0"),
        ("pub t --count 1000 --size 2", "choose a larger --size"),
        ("pub t --count 1 --size 99999999999999", "a message of stream t has 16,777,216 bytes at the most"),
        ("pub t x --rate 0", "above 0"),
        ("pub t x --durability synced", "declare a stream with --durability written or synced"),
        ("sub t --subscription a --timeout soon", "500ms"),
        ("sub t --subscription a --count -1", "whole number"),
        ("inspect t --watch 1ms", "the interval is 20ms at the least"),
        ("inspect t slot -1", "whole number"),
        ("peek t --from first", "whole number"),
        ("journal show --position 5..x", "whole number"),
        ("serve --cores 9999", "this process may run on cores "),
        ("serve --sessions-max -1", "from 1 to 4294967295, not \"-1\""),
    ];
    for (arguments, why) in wrong {
        let arguments: Vec<_> = arguments.split(' ').collect();
        broker.run(&arguments).expect(2, &[why]);
    }
    // Nothing was made on the way.
    let listed = broker.run(&["stream", "list", "--json"]).ok();
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.iter().map(|stream| &stream["name"]).collect::<Vec<_>>(), ["q", "q.dead", "t"]);
    broker.run(&["pub", "t", "-5"]).expect(0, &["published 1 message"]);
    let deep = broker.path(&"d".repeat(120));
    for arguments in [&["serve"][..], &["stream", "list"]] {
        let ended = Ended::from(ringway().arg("--dir").arg(&deep).args(arguments).output().unwrap());
        ended.expect(2, &["107"]);
    }
}

#[test]
fn what_cannot_be_printed_is_a_failure_that_says_why() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "q", "--kind", "queue"]).ok();
    broker.run(&["pub", "q", "--count", "3"]).ok();
    let data = broker.path("broker/data");
    let data = data.to_str().unwrap();
    let printing = [
        "stream list",
        "stream list --json",
        "stream show q",
        "stream show q --json",
        "subscription list q",
        "subscription show q q --json",
        "inspect q",
        "inspect q --json",
        "inspect q slot 1",
        "inspect q --watch 20ms --json",
        "peek q",
        "sub q --count 1",
        "stream move q q.dead --count 0 --json",
        "top --once --interval 100ms",
        "completions bash",
        "serve --check --json",
        "journal ls --data",
        "journal show --data",
        "journal verify --json --data",
    ];
    for arguments in printing {
        let mut command = broker.command(arguments.split(' '));
        if arguments.ends_with("--data") {
            command.arg(data);
        }
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = Ended::from(
            command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap(),
        );
        ended.expect(1, &["cannot write to standard output: No space left on device"]);
    }
    // Nor is it consumed.
    assert_eq!(broker.run(&["sub", "q", "--count", "3"]).ok().lines().count(), 3);
}

#[test]
fn what_is_refused_is_exit_5() {
    let broker = Broker::start();
    broker.stream("s", "a");
    broker.run(&["stream", "create", "s", "--slots", "64"]).expect(5, &["s"]);
    broker
        .run(&["stream", "create", "s", "--kind", "queue", "--overflow", "reject"])
        .expect(5, &["kind topic, not queue, overflow block, not reject, durability memory, not synced;"]);
    let (child, _out) = broker.spawn(&["sub", "s", "--subscription", "a"]);
    until("it is open", || !broker.subscription("s", "a", "consumer_pid").is_null());
    broker.run(&["sub", "s", "--subscription", "a"]).expect(5, &[&child.id().to_string()]);
    broker.run(&["stream", "delete", "s"]).expect(5, &["stream s is open: 0 producers and 1 consumer; "]);
    broker.run(&["serve"]).expect(5, &["already serves", &broker.process.id().to_string()]);
    signal(&child, Signal::TERM);
    ended(child).expect(130, &[]);
}

#[test]
fn streams_and_subscriptions_are_listed_shown_and_deleted() {
    let broker = Broker::start();
    assert_eq!(broker.run(&["stream", "list", "--json"]).ok(), "[]\n");
    broker.stream("orders", "billing");
    broker.stream("Aufträge", "x");
    broker.run(&["pub", "orders", "one"]).ok();
    let list = broker.run(&["stream", "list"]).ok();
    assert!(
        list.starts_with("NAME ")
            && list.contains("\norders ")
            && list.contains("billing (1 behind, no consumer)"),
        "{list}"
    );
    let streams: Value = serde_json::from_str(&broker.run(&["stream", "list", "--json"]).ok()).unwrap();
    assert_eq!(streams.as_array().unwrap().len(), 2);
    let show: Value =
        serde_json::from_str(&broker.run(&["stream", "show", "orders", "--json"]).ok()).unwrap();
    assert_eq!(
        (&show["partitions"][0]["next_position"], &show["settings"]["slots"]),
        (&json!(1), &json!(16_384))
    );
    assert!(broker.run(&["stream", "show", "orders"]).ok().contains("positions held  0 to 0"));
    assert!(broker.run(&["subscription", "list", "orders"]).ok().contains("billing"));
    assert!(broker.run(&["subscription", "show", "orders", "billing"]).ok().contains("1 message"));
    broker.run(&["subscription", "delete", "orders", "billing"]).ok();
    assert_eq!(broker.run(&["subscription", "list", "orders", "--json"]).ok(), "[]\n");
    broker.run(&["stream", "delete", "orders"]).ok();
    broker.run(&["stream", "show", "orders"]).expect(3, &["orders"]);
}

#[test]
fn a_broker_ends_by_signal_or_stop_and_leaves_nothing_behind() {
    for end in [Some(Signal::INT), Some(Signal::TERM), None] {
        let mut broker = Broker::start();
        let directory = broker.directory();
        assert!(broker.ready.contains(&format!(
            "serving {} (pid {}, shards on cores ",
            directory.display(),
            broker.process.id()
        )));
        broker.stream("s", "a");
        broker.run(&["pub", "s", "x"]).ok();
        match end {
            Some(end) => signal(&broker.process, end),
            // The process is a zombie by then, since its parent is this test.
            None => assert!(broker.run(&["stop"]).ok().contains("has ended")),
        }
        until("the broker ends", || broker.process.try_wait().unwrap().is_some());
        assert_eq!(broker.process.wait().unwrap().code(), Some(0));
        assert!(!directory.exists());
    }
}

#[test]
fn a_killed_broker_is_succeeded_a_killed_keeper_is_replaced_and_stop_ends_both() {
    let mut broker = Broker::start();
    broker.run(&["stream", "create", "jobs", "--kind", "queue"]).ok();
    broker.run(&["pub", "jobs", "one"]).ok();
    let keeper = broker.process.id();
    let children = format!("/proc/{keeper}/task/{keeper}/children");
    let child = || std::fs::read_to_string(&children).unwrap().trim().parse::<u64>().unwrap();
    let first = child();
    kill_process(Pid::from_raw(first.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    until("another broker is there", || !runs(first));
    broker.run(&["pub", "jobs", "two"]).ok();
    assert_eq!(broker.run(&["sub", "jobs", "--count", "2"]).ok(), "one\ntwo\n");
    let second = child();
    assert_ne!(first, second);
    broker.process.kill().unwrap();
    broker.process.wait().unwrap();
    broker.run(&["pub", "jobs", "three"]).ok();
    assert_eq!(broker.run(&["sub", "jobs", "--count", "1"]).ok(), "three\n");
    broker.run(&["stop"]).ok();
    // What is durable stays, and nothing else.
    let left = || std::fs::read_dir(broker.directory()).unwrap().map(|entry| entry.unwrap().file_name());
    until("both are gone", || !runs(second) && left().eq(["data"]));
}

#[test]
fn a_keeper_that_fails_leaves_the_sockets_to_its_broker_which_starts_another() {
    let mut broker = Broker::start();
    let keeper = Pid::from_child(&broker.process);
    let as_many_as_it_polls = Rlimit { current: Some(8), maximum: Some(8) };
    prlimit(Some(keeper), Resource::Nofile, as_many_as_it_polls).unwrap();
    // It cannot take the descriptors of the stream's memory.
    broker.stream("s", "a");
    broker.run(&["pub", "s", "one"]).ok();
    until("the keeper has failed", || broker.process.try_wait().unwrap().is_some());
    assert!(broker.errors().contains("the keeper cannot hear its broker"), "{}", broker.errors());
    broker.run(&["pub", "s", "two"]).ok();
    until("another keeper shows what it holds", || broker.run(&["inspect", "s"]).code == 0);
    assert_eq!(broker.run(&["sub", "s", "--subscription", "a", "--count", "2"]).ok(), "one\ntwo\n");
    broker.run(&["stop"]).ok();
    until("nothing is left", || !broker.directory().exists());
}

#[test]
fn a_subscriber_says_that_the_broker_has_gone() {
    let broker = Broker::start();
    broker.stream("s", "a");
    let (child, _out) = broker.spawn(&["sub", "s", "--subscription", "a"]);
    until("it is open", || !broker.subscription("s", "a", "consumer_pid").is_null());
    broker.run(&["stop"]).ok();
    ended(child).expect(3, &["the broker is gone"]);
}

#[test]
fn the_first_help_shows_the_exit_codes_and_no_hidden_command() {
    let help = Ended::from(ringway().arg("--help").output().unwrap()).ok();
    assert!(help.contains("Exit codes:") && help.contains("130"), "{help}");
    assert!(!help.contains("demo-producer") && !help.contains("bench-role"), "{help}");
}

#[test]
fn a_journal_is_listed_shown_and_verified_beside_its_broker() {
    let broker = Broker::start();
    broker.run(&["journal", "ls"]).expect(3, &["there is no journal in"]);
    broker.run(&["stream", "create", "s", "--durability", "synced"]).ok();
    broker.run_with(&["pub", "s", "--lines", "-", "--key", "k"], b"one\ntwo\n\xff\n").ok();
    let listed: Value = serde_json::from_str(&broker.run(&["journal", "ls", "--json"]).ok()).unwrap();
    assert_eq!(listed[0]["in_use"], true);
    assert_eq!(listed[0]["files"][0]["kind"], "segment");
    let stream = json!({
        "stream": "s", "partition": 0, "durability": "synced", "messages": 3, "first": 0, "end": 3
    });
    assert_eq!(listed[0]["streams"], json!([stream]));
    assert!(broker.run(&["journal", "ls"]).ok().contains("segment-0000000000000001"));
    let shown = broker.run(&["journal", "show", "--stream", "s", "--position", "1.."]).ok();
    let lines: Vec<_> = shown.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect();
    assert_eq!(lines, ["s 0:1 3 two", "s 0:2 1 \\xff"]);
    let json = broker.run(&["journal", "show", "--count", "1", "--since", "1h", "--format", "json"]).ok();
    let line: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&line["stream"], &line["key"], &line["payload"]), (&json!("s"), &json!("k"), &json!("one")));
    assert_eq!(broker.run(&["journal", "show", "--until", "1h"]).ok(), "");
    assert_eq!(broker.run(&["journal", "show", "--position", "2", "--format", "raw"]).raw, b"\xff\n");
    broker.run(&["journal", "show", "--position", "x"]).expect(2, &["whole number"]);
    assert!(broker.run(&["journal", "verify"]).ok().contains("shard 0: 3 messages in "));
    let verified: Value = serde_json::from_str(&broker.run(&["journal", "verify", "--json"]).ok()).unwrap();
    assert_eq!((&verified[0]["messages"], &verified[0]["damage"]), (&json!(3), &json!([])));

    let segment = broker.path("broker/data/shard-0/segment-0000000000000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(3).position(|bytes| bytes == b"two").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    broker.run(&["journal", "verify"]).expect(1, &["not all that was confirmed is there"]);
    broker.run(&["journal", "show"]).expect(1, &["is damaged: records"]);
    let (data, into) = (broker.path("broker/data"), broker.path("salvaged"));
    let (data, into) = (data.to_str().unwrap(), into.to_str().unwrap());
    let salvage = ["journal", "salvage", "--data", data, "--into", into];
    broker.run(&salvage).expect(5, &["stop it first"]);
    broker.run(&["stop"]).ok();
    let salvaged = broker.run(&salvage);
    assert!(salvaged.expect(0, &["the new journals are in"]).ok().contains("1 partition of a stream"));
    assert!(broker.run(&["journal", "verify", "--data", into]).ok().contains("; whole"));
    broker.run(&salvage).expect(5, &["is not empty"]);
}

#[test]
fn a_queue_is_printed_and_acked_looked_at_and_given_back() {
    let broker = Broker::start();
    let made = broker.run(&["stream", "create", "jobs", "--kind", "queue", "--lease", "5m"]).ok();
    assert!(made.starts_with("stream jobs: queue, 16,384 slots"), "{made}");
    broker.run_with(&["pub", "jobs", "--lines", "-"], b"one\ntwo\nthree\n").ok();
    assert_eq!(broker.run(&["sub", "jobs", "--count", "1"]).ok(), "one\n");
    let look = ["sub", "jobs", "--count", "2", "--format", "json", "--no-ack"];
    let given_back = broker.run(&[&look[..], &["--release"]].concat()).ok();
    let line = |position, attempt, payload| json!({"partition": 0, "position": position, "attempt": attempt, "payload": payload});
    let lines = |text: &str| -> Vec<Value> {
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.sort_by_key(|line| line["position"].as_u64());
        lines
    };
    assert_eq!(lines(&given_back), [line(1, 1, "two"), line(2, 1, "three")]);
    // The end of the command is the end of its leases.
    assert_eq!(lines(&broker.run(&look).ok()), [line(1, 2, "two"), line(2, 2, "three")]);
    let rest = broker.run(&["sub", "jobs", "--count", "2", "--format", "json"]).ok();
    assert_eq!(lines(&rest), [line(1, 3, "two"), line(2, 3, "three")]);
    broker.run(&["sub", "jobs", "--count", "1", "--timeout", "50ms"]).expect(4, &["0 of 1 message came"]);
    let shown = broker.run(&["subscription", "show", "jobs", "jobs"]).ok();
    for field in [
        "mode          shared",
        "lease 300s, 20 attempts, no backoff, dead messages to jobs.dead",
        "ready         0 messages",
    ] {
        assert!(shown.contains(field), "{shown}");
    }
    let listed = broker.run(&["subscription", "list", "jobs"]).ok();
    assert!(
        listed.contains("READY") && listed.lines().nth(1).unwrap().starts_with("jobs  shared"),
        "{listed}"
    );
}

#[test]
fn what_cannot_be_asked_of_a_queue_or_a_topic_is_said() {
    let broker = Broker::start();
    broker.stream("t", "a");
    broker.run(&["stream", "create", "q", "--kind", "queue"]).ok();
    broker
        .run(&["sub", "t"])
        .expect(2, &["stream t is a topic: name a subscription with --subscription NAME"]);
    broker.run(&["sub", "t", "--subscription", "a", "--no-ack"]).expect(2, &["a is a cursor"]);
    broker.run(&["sub", "q", "--release"]).expect(2, &["--no-ack"]);
    broker.run(&["stream", "create", "x", "--lease", "5s"]).expect(2, &["--lease goes with --kind queue"]);
    broker.run(&["stream", "create", "x", "--kind", "queue", "--lease", "13h"]).expect(2, &["12 hours"]);
    broker
        .run(&["stream", "create", "x", "--kind", "queue", "--overflow", "drop-oldest"])
        .expect(2, &["keeps every message until it is acked"]);
    broker
        .run(&["stream", "create", "q", "--kind", "queue", "--lease", "5s"])
        .expect(5, &["30000, not 5000"]);
    broker.run(&["subscription", "create", "q", "b"]).expect(2, &["stream q is a queue"]);
    broker.run(&["subscription", "delete", "q", "q"]).expect(2, &["ringway stream delete q"]);
    broker.run(&["subscription", "create", "t", "b", "--max-attempts", "3"]).expect(2, &["--mode shared"]);
    broker.run(&["subscription", "create", "t", "b", "--mode", "shared", "--max-attempts", "3"]).ok();
    broker.run(&["subscription", "create", "t", "b"]).expect(5, &["mode shared, not cursor"]);
    broker.run(&["pub", "t", "for both"]).ok();
    assert_eq!(broker.run(&["sub", "t", "--subscription", "b", "--count", "1"]).ok(), "for both\n");
    broker.run(&["stream", "delete", "q"]).ok();
}
