//! What `ringway inspect` and `ringway peek` show of real brokers, stopped ones included, and that nobody notices them.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::process::Stdio;
use std::time::Duration;

use ringway_client::{Connection, SharedConsumer};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};
use support::{Broker, Ended, ended, ringway, signal, until};

/// The broker of a keeper, its only child.
fn broker_pid(broker: &Broker) -> Pid {
    let keeper = broker.process.id();
    let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

/// Stops the broker until it is dropped.
struct Frozen(Pid);

impl Frozen {
    fn broker(broker: &Broker) -> Self {
        let pid = broker_pid(broker);
        kill_process(pid, Signal::STOP).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        until("it is stopped", || stat().rsplit(')').next().unwrap().trim_start().starts_with('T'));
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

fn inspect(broker: &Broker, arguments: &[&str]) -> Value {
    let json = broker.run(&[&["inspect"], arguments, &["--json"]].concat()).ok();
    serde_json::from_str::<Value>(&json).unwrap()[0].take()
}

/// What is the same however often one looks.
fn settled(mut report: Value) -> Value {
    if let Some(shared) = report["ring"]["shared"].as_array_mut() {
        shared.iter_mut().for_each(|shared| shared["leases"] = Value::Null);
    }
    report
}

/// A queue with something in every state: 0 settled, 1 delayed, 2 leased by this process, 3 and 4 ready, the last in an arena.
fn queue(broker: &Broker) -> (Connection, SharedConsumer) {
    let settings = ["--kind", "queue", "--durability", "memory", "--backoff", "1h", "--lease", "1h"];
    broker.run(&[&["stream", "create", "jobs"], &settings[..]].concat()).ok();
    broker.run_with(&["pub", "jobs", "--lines", "-"], b"zero\none\ntwo\nthree\n").ok();
    broker.run(&["pub", "jobs", &"four".repeat(100)]).ok();
    let connection = Connection::open(broker.directory()).unwrap();
    let mut consumer = connection.queue_consumer("jobs").open().unwrap();
    consumer.recv().unwrap().ack().unwrap();
    consumer.recv().unwrap().nack().unwrap();
    let two = consumer.recv().unwrap().keep();
    assert_eq!(two.position().position, 2);
    assert_eq!(consumer.confirm().unwrap(), 0);
    (connection, consumer)
}

#[test]
fn a_topic_shows_its_end_its_gates_and_who_has_it_open() {
    let broker = Broker::start();
    broker.stream("orders", "billing");
    broker.run(&["subscription", "create", "orders", "audit"]).ok();
    broker.run(&["pub", "orders", "--count", "7"]).ok();
    broker.run(&["sub", "orders", "--subscription", "billing", "--count", "3"]).ok();
    let (child, _out) = broker.spawn(&["sub", "orders", "--subscription", "audit"]);
    until("it is open", || !broker.subscription("orders", "audit", "consumer_pid").is_null());
    until("it sleeps", || inspect(&broker, &["orders"])["ring"]["doorbells"][0]["announced"] != 0);
    let report = inspect(&broker, &["orders"]);
    assert_eq!((&report["stream"], &report["settings"]["slots"]), (&json!("orders"), &json!(16_384)));
    let ring = &report["ring"];
    assert_eq!((&ring["first"], &ring["end"], &ring["limit"]), (&json!(0), &json!(7), &json!(16_384)));
    let gate = |gate: &Value| {
        json!([gate["subscription"], gate["kind"], gate["position"], gate["lag"], gate["in_force"]])
    };
    let gates: Vec<_> = ring["gates"].as_array().unwrap().iter().map(gate).collect();
    assert_eq!(gates[0], json!(["billing", "cursor", 3, 4, true]));
    assert_eq!(gates[1], json!(["audit", "cursor", 7, 0, true]));
    assert_eq!(ring["gates"][1]["consumer_pids"], json!([child.id()]));
    let text = broker.run(&["inspect", "orders"]).ok();
    for part in
        ["stream orders, partition 0 of 1, shard 0\n", "0 to 6 held, the next is 7", "billing  cursor"]
    {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "colours are for terminals");
    signal(&child, Signal::TERM);
    ended(child).expect(130, &[]);
}

#[test]
fn a_durable_stream_shows_its_journal_and_the_gate_of_that() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "s", "--durability", "synced", "--partitions", "2"]).ok();
    broker.run(&["pub", "s", "--count", "10"]).ok();
    let all = broker.run(&["inspect", "s", "--json"]).ok();
    let all: Value = serde_json::from_str(&all).unwrap();
    let synced = |of: &Value| of["ring"]["journal"]["synced"].as_u64().unwrap();
    assert_eq!(all.as_array().unwrap().iter().map(synced).sum::<u64>(), 10);
    let second = inspect(&broker, &["s", "--partition", "1"]);
    assert_eq!((&second["partition"], &second["ring"]["journal"]["state"]), (&json!(1), &json!("ready")));
    assert_eq!(second["ring"]["gates"][0]["kind"], "journal");
    assert!(broker.run(&["inspect", "s"]).ok().contains("(journal)"));
}

#[test]
fn a_queue_shows_claims_members_leases_and_its_lot_and_peek_what_they_are() {
    let broker = Broker::start();
    let (_connection, consumer) = queue(&broker);
    let report = inspect(&broker, &["jobs"]);
    let shared = &report["ring"]["shared"][0];
    let show = broker.run(&["subscription", "show", "jobs", "jobs", "--json"]).ok();
    let show: Value = serde_json::from_str(&show).unwrap();
    for count in ["ready", "leased", "delayed", "dead", "dead_total"] {
        assert_eq!(shared[count], show["partitions"][0]["shared"][count], "{count}");
    }
    assert_eq!((&shared["lot"]["messages"], &shared["lot"]["delayed"]), (&json!(1), &json!(1)));
    let member = &shared["members"][0];
    assert_eq!((&member["pid"], &member["active"]), (&json!(std::process::id()), &json!(true)));
    assert_eq!(member["leases"], shared["leased"]);
    assert_eq!((&shared["leases"][0]["position"], &shared["leases"][0]["on"]), (&json!(2), &json!("ring")));
    assert_eq!(shared["leases"][0]["pid"], std::process::id());
    assert_eq!(report["ring"]["arenas"][0]["used"], 400);
    let text = broker.run(&["inspect", "jobs"]).ok();
    for part in ["subscription jobs\n", "1 delayed", "map ", "OLDEST LEASES", "ARENA"] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }

    let delayed = broker.run(&["peek", "jobs", "--state", "delayed", "--format", "json"]).ok();
    let delayed: Value = serde_json::from_str(&delayed).unwrap();
    assert_eq!((&delayed["payload"], &delayed["position"]), (&json!("one"), &json!(1)));
    assert_eq!((&delayed["delivered"], &delayed["failed"]), (&json!(1), &json!(1)));
    assert!(delayed["due_ms"].as_u64().unwrap() > 60_000);
    let leased = broker.run(&["peek", "jobs", "--state", "leased", "--limit", "1"]).ok();
    assert_eq!(leased, format!("0:2 leased({}) 1 3 two\n", std::process::id()));
    let all = broker.run(&["peek", "jobs", "--format", "raw"]).ok();
    assert_eq!(all, format!("one\ntwo\nthree\n{}\n", "four".repeat(100)));
    assert_eq!(broker.run(&["peek", "jobs", "--match", "hre", "--format", "raw"]).ok(), "three\n");
    assert_eq!(
        broker.run(&["peek", "jobs", "--from", "2", "--limit", "1", "--format", "hex"]).ok(),
        "0:2 74776f\n"
    );
    let again = broker.run(&["subscription", "show", "jobs", "jobs", "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), show, "nothing was taken");
    drop(consumer);
}

#[test]
fn what_was_peeked_at_is_still_delivered_for_the_first_time() {
    let broker = Broker::start();
    broker
        .run(&["stream", "create", "q", "--kind", "queue", "--durability", "memory", "--no-dead-letter"])
        .ok();
    broker.run(&["pub", "q", "x"]).ok();
    for _ in 0..3 {
        assert_eq!(broker.run(&["peek", "q"]).ok(), "0:0 ready 0 1 x\n");
    }
    let json = broker.run(&["sub", "q", "--count", "1", "--format", "json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["attempt"], 1);
    assert_eq!(broker.run(&["peek", "q"]).ok(), "", "it is settled");
}

#[test]
fn a_topic_is_peeked_at_as_a_whole_or_as_a_subscription_has_it() {
    let broker = Broker::start();
    broker.stream("s", "a");
    broker.run_with(&["pub", "s", "--lines", "-"], b"one\ntwo\nthree\n").ok();
    broker.run(&["sub", "s", "--subscription", "a", "--count", "2"]).ok();
    assert_eq!(broker.run(&["peek", "s"]).ok(), "0:0 3 one\n0:1 3 two\n0:2 5 three\n");
    assert_eq!(broker.run(&["peek", "s", "--subscription", "a"]).ok(), "0:2 ready 0 5 three\n");
    broker.run(&["peek", "s", "--from", "4"]).expect(2, &["position 4 is not there yet", "is 3"]);
    broker.run(&["peek", "s", "--state", "ready"]).expect(2, &["--subscription"]);
    broker.run(&["peek", "s", "--subscription", "b"]).expect(3, &["no subscription b"]);
    broker.run(&["peek", "nope"]).expect(3, &["no stream nope"]);
    broker.run(&["peek", "s", "--partition", "3"]).expect(2, &["no partition 3"]);
}

#[test]
fn a_stopped_broker_is_looked_into_all_the_same() {
    let broker = Broker::start();
    let (_connection, consumer) = queue(&broker);
    let commands: [&[&str]; 3] = [&["inspect", "jobs"], &["peek", "jobs"], &["inspect", "jobs", "slot", "3"]];
    let before = (settled(inspect(&broker, &["jobs"])), broker.run(commands[2]).ok());
    {
        let _frozen = Frozen::broker(&broker);
        assert_eq!(settled(inspect(&broker, &["jobs"])), before.0);
        commands.iter().for_each(|command| drop(broker.run(command).ok()));
        assert_eq!(broker.run(commands[2]).ok(), before.1);
        assert!(broker.run(&["peek", "jobs", "--format", "raw"]).ok().starts_with("one\ntwo\n"));
    }
    drop(consumer);
}

#[test]
fn a_stopped_keeper_is_exit_4_and_says_how_to_wake_it() {
    let broker = Broker::start();
    signal(&broker.process, Signal::STOP);
    let pid = broker.process.id();
    let failed = broker.run(&["inspect", "s"]);
    signal(&broker.process, Signal::CONT);
    failed.expect(4, &["has not answered", &format!("kill -CONT {pid}")]);
}

#[test]
fn a_slot_is_shown_by_the_names_of_the_layout() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "s", "--slots", "4", "--slot-size", "64"]).ok();
    broker.run(&["pub", "s", "--count", "6", "--size", "1"]).ok();
    let text = broker.run(&["inspect", "s", "slot", "5"]).ok();
    for part in [
        "position 5: slot 1 of 4",
        "WORD       0",
        "lap 2, state 2 Committed",
        "HEADER     8",
        "payload_bytes 1",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(text.contains("BODY      16  35 00"), "{text}");
    let json: Value =
        serde_json::from_str(&broker.run(&["inspect", "s", "slot", "5", "--json"]).ok()).unwrap();
    assert_eq!((&json["WORD"]["lap"], &json["HEADER"]["payload_bytes"]), (&json!(2), &json!(1)));
    assert_eq!(json["BODY"].as_str().unwrap().len(), 2 * (64 - 16));
    broker.run(&["inspect", "s", "slot", "1"]).expect(2, &["no slot for position 1", "2 to 5"]);
    broker.run(&["inspect", "s", "slot", "6"]).expect(2, &["no slot for position 6", "2 to 5"]);
    broker.run(&["inspect", "s", "slot"]).expect(2, &["<P>"]);
}

#[test]
fn what_cannot_be_looked_at_is_told_with_its_exit_code() {
    let broker = Broker::start();
    broker.run(&["stream", "create", "s"]).ok();
    broker.run(&["inspect", "nope"]).expect(3, &["no stream nope"]);
    broker.run(&["inspect", "s", "--partition", "1"]).expect(2, &["partition 0", "no partition 1"]);
    assert!(broker.run(&["inspect", "s"]).ok().contains("never opened"));
    assert_eq!(inspect(&broker, &["s"])["ring"], Value::Null);
    broker.run(&["inspect", "s", "slot", "0"]).expect(3, &["never opened"]);
    broker.run(&["inspect"]).expect(2, &["<STREAM>"]);
    broker.run(&["inspect", "s", "--watch", "soon"]).expect(2, &["500ms"]);
    let nobody = broker.path("nobody");
    let ended = Ended::from(ringway().arg("--dir").arg(&nobody).args(["inspect", "s"]).output().unwrap());
    ended.expect(3, &["no broker answers in", "ringway serve --dir"]);
    let deep = broker.path(&"d".repeat(120));
    let ended = Ended::from(ringway().arg("--dir").arg(&deep).args(["inspect", "s"]).output().unwrap());
    ended.expect(2, &["107"]);
}

#[test]
fn a_dump_shows_the_same_without_a_broker() {
    let broker = Broker::start();
    let (connection, consumer) = queue(&broker);
    let path = broker.path("jobs.dump");
    let file = path.to_str().unwrap();
    let frozen = Frozen::broker(&broker);
    let report = settled(inspect(&broker, &["jobs"]));
    let peeked = broker.run(&["peek", "jobs", "--format", "raw"]).ok();
    broker
        .run(&["inspect", "jobs", "--dump", file])
        .expect(0, &["1 partition of stream jobs", "--from-dump"]);
    drop(frozen);
    drop((consumer, connection));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    broker.run(&["inspect", "jobs", "--dump", file]).expect(5, &["is there already"]);
    broker.run(&["stop"]).ok();
    let from = |arguments: &[&str]| Ended::from(ringway().args(arguments).output().unwrap());
    let shown = from(&["inspect", "--from-dump", file, "--json"]).ok();
    assert_eq!(settled(serde_json::from_str::<Value>(&shown).unwrap()[0].take()), report);
    assert!(from(&["inspect", "--from-dump", file]).ok().starts_with("dump written at 20"));
    assert_eq!(from(&["peek", "jobs", "--from-dump", file, "--format", "raw"]).ok(), peeked);
    assert!(from(&["inspect", "--from-dump", file, "jobs", "slot", "2"]).ok().contains("  74 77 6f 00 "));
    from(&["inspect", "--from-dump", file, "nope"]).expect(3, &["no stream nope in", "jobs.dump"]);

    // Damaged ones are refused, wherever they are damaged.
    let whole = std::fs::read(&path).unwrap();
    let damaged = broker.path("damaged.dump");
    let show = || from(&["inspect", "--from-dump", damaged.to_str().unwrap()]);
    for at in [4096 + 70, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        show().expect(1, &["is damaged", "hash"]);
    }
    for length in [whole.len() - 1, 5000, 41] {
        std::fs::write(&damaged, &whole[..length]).unwrap();
        show().expect(1, &["is damaged"]);
    }
    for bytes in [&b"short"[..], &[7; 5000]] {
        std::fs::write(&damaged, bytes).unwrap();
        show().expect(1, &["is no dump of ringway inspect"]);
    }
    from(&["inspect", "--from-dump", broker.path("none").to_str().unwrap()])
        .expect(1, &["none", "No such file"]);
}

#[test]
fn a_dump_that_cannot_be_written_leaves_nothing() {
    let broker = Broker::start();
    broker.stream("s", "a");
    broker.run(&["pub", "s", "x"]).ok();
    let nowhere = broker.path("nowhere/s.dump");
    broker
        .run(&["inspect", "s", "--dump", nowhere.to_str().unwrap()])
        .expect(1, &["nowhere/s.dump", "No such file"]);
    // A file that may not grow is as good as a disk that is full.
    let path = broker.path("s.dump");
    let mut command = std::process::Command::new("sh");
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 8; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_ringway"),
        "--dir",
    ]);
    command.arg(broker.directory()).args(["inspect", "s", "--dump"]).arg(&path);
    Ended::from(command.output().unwrap()).expect(1, &["cannot write", "s.dump", "nothing was left there"]);
    let left = std::fs::read_dir(broker.path("")).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().contains("dump")).count(), 0);
}

#[test]
fn it_is_watched_until_ctrl_c_which_ends_it_quietly() {
    let broker = Broker::start();
    broker.stream("s", "a");
    broker.run(&["pub", "s", "x"]).ok();
    let (child, mut out) = broker.spawn(&["inspect", "s", "--watch", "50ms", "--json"]);
    let mut looks = Vec::new();
    for round in 0..3 {
        if round == 1 {
            broker.run(&["pub", "s", "--count", "100"]).ok();
        }
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        looks.push(serde_json::from_str::<Value>(&line).unwrap()[0]["ring"].take());
    }
    assert!(looks[0].get("published_per_second").is_none());
    let rate = |ring: &Value| ring["published_per_second"].as_f64().unwrap();
    until("the messages are seen", || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        looks.push(serde_json::from_str::<Value>(&line).unwrap()[0]["ring"].take());
        looks.iter().skip(1).map(rate).sum::<f64>() > 100.0
    });
    // The broker is succeeded under its eyes.
    kill_process(broker_pid(&broker), Signal::KILL).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, Signal::INT);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.lines().count() >= 2);
    assert_eq!(ended(child).expect(130, &[]).err, "");

    let (child, mut out) = broker.spawn(&["inspect", "s", "--watch", "20ms"]);
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    assert_eq!(ended(child).expect(0, &[]).err, "");
}

/// Runs a watch on a terminal of this size for a moment; what it has written there.
fn on_terminal(broker: &Broker, columns: u16, rows: u16, environment: Option<(&str, &str)>) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(0o400).open(name.to_str().unwrap());
    let mut command = broker.command(["inspect", "jobs", "--watch", "30ms"]);
    command.env("TERM", "xterm").env_remove("NO_COLOR").envs(environment);
    let child = command.stdout(OwnedFd::from(terminal.unwrap())).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let mut master = File::from(master);
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    while text.windows(3).filter(|part| part == b"\x1b[J").count() < 3 {
        let read = master.read(&mut chunk).unwrap();
        text.extend_from_slice(&chunk[..read]);
    }
    signal(&child, Signal::INT);
    // It may be about to write.
    std::thread::spawn(move || while master.read(&mut chunk).is_ok_and(|read| read > 0) {});
    assert_eq!(ended(child).expect(130, &[]).err, "");
    String::from_utf8(text).unwrap()
}

/// Without what moves or colours.
fn visible(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap_or("")
    })
}

#[test]
fn a_small_terminal_is_not_overrun_and_colours_can_be_turned_off() {
    let broker = Broker::start();
    let (_connection, consumer) = queue(&broker);
    let screen = on_terminal(&broker, 20, 6, None);
    assert!(screen.contains("\x1b[1m"), "headings are bold");
    let first = screen.split("\x1b[J").next().unwrap();
    assert_eq!(first.matches("\r\n").count(), 5);
    for line in first.split("\r\n") {
        assert!(visible(line).chars().count() <= 20, "{line:?}");
    }
    let screen = on_terminal(&broker, 20, 6, Some(("NO_COLOR", "1")));
    assert!(!screen.contains("\x1b[1m") && screen.contains("stream jobs, partiti"));
    on_terminal(&broker, 1, 1, None);
    drop(consumer);
}

#[test]
fn whatever_somebody_has_scribbled_into_the_memory_nothing_panics() {
    let broker = Broker::start();
    let held = queue(&broker);
    let commands: [&[&str]; 6] = [
        &["inspect", "jobs"],
        &["inspect", "jobs", "--json"],
        &["inspect", "jobs", "slot", "2"],
        &["peek", "jobs", "--limit", "100000", "--format", "json"],
        &["peek", "jobs", "--limit", "100000", "--state", "leased"],
        &["peek", "jobs", "--limit", "100000", "--format", "raw"],
    ];
    // Nobody else is to be confused: the consumer does nothing any more, the broker is stopped, and killed in the end.
    std::mem::forget(held);
    let frozen = Frozen::broker(&broker);
    let keeper = broker.process.id();
    let kinds =
        ["meta", "producers", "slots", "doorbell", "subscription", "claims", "feed", "member", "arena"];
    let regions: Vec<File> = std::fs::read_dir(format!("/proc/{keeper}/fd"))
        .unwrap()
        .flatten()
        .filter(|entry| {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let target = target.to_string_lossy().into_owned();
            kinds.iter().any(|kind| target == format!("/memfd:ringway-{kind} (deleted)"))
        })
        .filter_map(|entry| OpenOptions::new().read(true).write(true).open(entry.path()).ok())
        .collect();
    assert!(regions.len() >= 8, "{}", regions.len());
    let mut random = 88_172_645_463_325_252_u64;
    for round in 0..6 {
        for region in &regions {
            let bytes = region.metadata().unwrap().len() as usize;
            // Behind the header and the geometry: all of it, or a word here and there.
            let step = if round % 2 == 0 { 8 } else { 8 * 37 };
            let mut content = vec![0; bytes];
            region.read_exact_at(&mut content, 0).unwrap();
            for at in (80..bytes - 8).step_by(step) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                content[at..at + 8].copy_from_slice(&(random >> (round * 9)).to_le_bytes());
            }
            region.write_all_at(&content[80..], 80).unwrap();
        }
        for command in commands {
            let ended = broker.run(command);
            assert!([0, 2].contains(&ended.code), "{command:?}: {ended:?}");
        }
    }
    let brokers = frozen.0;
    signal(&broker.process, Signal::KILL);
    kill_process(brokers, Signal::KILL).unwrap();
}

#[test]
fn a_keeper_holds_more_than_its_soft_limit_of_descriptors() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("broker");
    let mut serve = std::process::Command::new("sh");
    serve.args(["-c", "ulimit -Sn 64; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_ringway"), "serve", "--dir"]);
    let mut serve = serve.arg(&directory).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::BufReader::new(serve.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let run = |arguments: &[&str]| {
        Ended::from(ringway().arg("--dir").arg(&directory).args(arguments).output().unwrap())
    };
    run(&["stream", "create", "s", "--partitions", "32", "--slots", "2"]).ok();
    run(&["subscription", "create", "s", "a", "--from", "first"]).ok();
    run(&["pub", "s", "--count", "40"]).ok();
    let all = run(&["inspect", "s", "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&all).unwrap().as_array().unwrap().len(), 32);
    assert!(serve.try_wait().unwrap().is_none(), "the same keeper is there");
    run(&["stop"]).ok();
    serve.wait().unwrap();
}
