//! What an operator reads: one line for each event, with who and why, and nothing when nothing is asked for.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use std::io::Read;

use ringway_shm_protocol::control::frame::{self, Kind};
use ringway_shm_protocol::control::{SOCKET_NAME, socket};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use serde_json::Value;
use support::{Broker, Ended, kill, ringway, until};

/// The lines of a log in JSON.
fn lines(broker: &Broker) -> Vec<Value> {
    broker.errors().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Waits for one line with this message; its fields.
#[track_caller]
fn line(broker: &Broker, message: &str) -> Value {
    let with = || lines(broker).into_iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
    until(message, || !with().is_empty());
    assert_eq!(with().len(), 1, "{}", broker.errors());
    with().remove(0)
}

fn names(line: &Value, fields: &[&str]) {
    for field in fields {
        assert!(!line[field].is_null(), "{field} is missing in {line}");
    }
}

#[test]
fn each_event_is_one_line_with_who_and_why() {
    let broker = Broker::start_with(&["--log", "debug", "--log-format", "json"]);
    let serving = line(&broker, "serving");
    names(&serving, &["timestamp", "directory", "data", "cores", "runtime", "sessions_max"]);
    assert_eq!((&serving["level"], &serving["target"]), (&"INFO".into(), &"ringway_broker".into()));
    broker.run(&["stream", "create", "jobs", "--kind", "queue", "--no-dead-letter"]).ok();
    line(&broker, "journal open");
    until("a snapshot", || lines(&broker).iter().any(|line| line["message"] == "snapshot written"));
    let opened = lines(&broker).into_iter().find(|line| line["message"] == "session opened").unwrap();
    names(&opened, &["session", "pid", "uid"]);
    // A stream that is confirmed is not declared again.
    broker.run(&["stream", "create", "jobs", "--kind", "queue", "--no-dead-letter"]).ok();
    assert_eq!(line(&broker, "stream declared")["stream"], "jobs");
    broker.run(&["stream", "create", "s"]).ok();
    broker.run(&["subscription", "create", "s", "a"]).ok();
    names(&line(&broker, "subscription declared"), &["stream", "subscription", "pid"]);
    broker.run(&["subscription", "delete", "s", "a"]).ok();
    line(&broker, "subscription deleted");
    broker.run(&["stream", "delete", "jobs"]).ok();
    line(&broker, "stream deleted");

    let (subscriber, _out) = broker.spawn(&["sub", "s", "--subscription", "b"]);
    until("it is open", || broker.run(&["stream", "show", "s"]).out.contains(&subscriber.id().to_string()));
    kill(subscriber.id());
    support::ended(subscriber);
    let ended = || {
        let gone =
            |line: &Value| line["message"] == "session ended: its process is gone" && line["held"] == true;
        lines(&broker).into_iter().filter(gone).count()
    };
    until("its end is logged", || ended() == 1);

    kill(broker.broker_pid());
    let succeeded = line(&broker, "the broker has ended; its successor goes on with all that it held");
    assert_eq!(succeeded["level"], "WARN");
    assert!(succeeded["ended"].as_str().unwrap().contains("SIGKILL"), "{succeeded}");
    until("the successor serves", || {
        lines(&broker).iter().filter(|line| line["message"] == "serving").count() == 2
    });
    broker.run(&["stop"]).ok();
    names(&line(&broker, "told to end"), &["pid", "uid"]);
}

#[test]
fn a_broker_is_silent_unless_something_is_wrong_and_a_wrong_packet_is_one_line_without_control_characters() {
    let broker = Broker::start();
    broker.stream("s", "a");
    broker.run(&["pub", "s", "x"]).ok();
    assert_eq!(broker.errors(), "");
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(broker.directory().join(SOCKET_NAME)).unwrap())
        .unwrap();
    socket::send(&socket, &frame::packet(Kind::Refused, 7, b"\x1b[2J\nfake line"), &[]).unwrap();
    until("it is logged", || broker.errors().ends_with('\n'));
    let log = broker.errors();
    assert_eq!(log.lines().count(), 1, "{log}");
    for part in
        [" WARN ", "session ended by the broker", &format!("pid={}", std::process::id()), "uid=", "why="]
    {
        assert!(log.contains(part), "{part} is missing in {log}");
    }
    assert!(!log.contains('\x1b'), "{log}");
}

#[test]
fn a_part_of_the_broker_can_be_logged_alone_and_off_is_off() {
    let broker = Broker::start_with(&["--log", "off,ringway_broker::control::streams=info"]);
    broker.stream("s", "a");
    let log = broker.errors();
    assert!(log.contains("stream=\"s\"") && !log.contains("session opened"), "{log}");
    kill(broker.broker_pid());
    until("there is a successor", || broker.run(&["stream", "list"]).code == 0);
    assert_eq!(broker.errors().lines().count(), log.lines().count());
}

#[test]
fn a_level_that_is_none_is_a_usage_error() {
    let place = tempfile::tempdir().unwrap();
    for options in [&["--log", "loud"][..], &["--log-format", "xml"]] {
        let mut command = ringway();
        let ended = command.arg("--dir").arg(place.path()).arg("serve").args(options).output().unwrap();
        Ended::from(ended).expect(2, &[options[0], options[1], "one of"]);
    }
}

#[test]
fn a_broker_goes_on_when_nobody_reads_its_log() {
    let place = tempfile::tempdir().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut serve = ringway();
    serve.args(["serve", "--log", "trace", "--dir"]).arg(place.path().join("broker"));
    let broker = Broker::with_errors(serve, place, writer.into());
    let mut first = [0];
    reader.read_exact(&mut first).unwrap();
    drop(reader);
    broker.stream("s", "a");
    broker.run(&["pub", "s", "x"]).ok();
    kill(broker.broker_pid());
    assert_eq!(broker.run(&["sub", "s", "--subscription", "a", "--count", "1"]).ok(), "x\n");
}
