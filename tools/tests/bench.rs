//! `ringway bench` with real processes: what it measures, what it refuses, and that it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use support::terminal::Terminal;
use support::{Broker, Ended, ended, ringway, runs, signal, until};

/// A bench whose directory for temporary files is `place`.
fn bench(place: &Path, arguments: &[&str]) -> Command {
    let mut command = ringway();
    command.env("TMPDIR", place).arg("bench").args(arguments);
    command
}

fn is_empty(place: &Path) -> bool {
    std::fs::read_dir(place).unwrap().next().is_none()
}

fn json(command: &mut Command) -> Value {
    let ended = Ended::from(command.arg("--json").output().unwrap());
    assert_eq!(ended.err, "");
    serde_json::from_str(&ended.ok()).unwrap()
}

const QUICK: [&str; 4] = ["--count", "300", "--warm-up", "50ms"];

#[test]
fn every_case_measures_all_its_messages_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    for (case, more, copies) in [
        ("latency", &["--rate", "2000", "--producers", "2"][..], 1),
        ("throughput", &["--size", "5000"], 1),
        ("wake", &["--rate", "1000"], 1),
        ("fanout", &["--rate", "1000", "--wait", "sleep"], 3),
        ("queue", &["--rate", "1000", "--wait", "sleep", "--producers", "2"], 1),
    ] {
        let report = json(&mut bench(place.path(), &[&[case][..], &QUICK, more].concat()));
        assert_eq!(report["case"], case);
        assert_eq!(report["all"]["messages"], 300 * copies, "{report}");
        assert_eq!(report["all"]["latency"].is_null(), case == "throughput");
        if case != "throughput" {
            let latency = |name: &str| report["all"]["latency"][name].as_u64().unwrap();
            assert!(
                latency("p50_ns") > 0
                    && latency("p50_ns") <= latency("p99_ns")
                    && latency("p999_ns") <= latency("max_ns")
            );
        }
        assert!(report["all"]["messages_per_second"].as_f64() > Some(0.0));
        assert!(is_empty(place.path()));
    }
}

#[test]
fn a_durable_bench_takes_its_journal_along() {
    let place = tempfile::tempdir().unwrap();
    for case in ["latency", "queue"] {
        let arguments = [&[case, "--rate", "500", "--durability", "synced"][..], &QUICK].concat();
        let text = Ended::from(bench(place.path(), &arguments).output().unwrap()).ok();
        assert!(text.contains("durability synced") && text.contains("P99.9"), "{text}");
        assert!(text.contains("from when each message was due:"));
        assert!(is_empty(place.path()));
    }
}

#[test]
fn a_running_broker_is_measured_by_a_stream_that_is_gone_afterwards() {
    let broker = Broker::start();
    broker.stream("orders", "billing");
    let arguments = [&["bench", "latency", "--rate", "1000"][..], &QUICK].concat();
    let text = broker.run(&arguments).ok();
    assert!(text.contains(&format!("at the broker in {}", broker.directory().display())), "{text}");
    broker.run(&[&["bench", "queue", "--rate", "1000"][..], &QUICK].concat()).ok();
    let streams: Value = serde_json::from_str(&broker.run(&["stream", "list", "--json"]).ok()).unwrap();
    let names: Vec<_> = streams.as_array().unwrap().iter().map(|stream| stream["name"].clone()).collect();
    assert_eq!(names, ["orders"]);
}

#[test]
fn a_terminal_shows_how_far_it_is() {
    let place = tempfile::tempdir().unwrap();
    let terminal = Terminal::new(100, 20);
    let mut command =
        bench(place.path(), &["latency", "--rate", "1000", "--time", "600ms", "--warm-up", "0s"]);
    command.env("LANG", "C.UTF-8");
    let mut child = terminal.start_whole(command);
    terminal.shows("ringway: latency");
    terminal.shows(" messages");
    terminal.shows("from when each message was due:");
    until("it ends", || child.try_wait().unwrap().is_some());
    assert!(terminal.text().contains('█'));
}

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u64> {
    let path = PathBuf::from(format!("/proc/{parent}/task/{parent}/children"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split(' ').filter_map(|pid| pid.parse().ok()).collect()
}

fn streams(broker: &Broker) -> usize {
    let json = broker.run(&["stream", "list", "--json"]).ok();
    serde_json::from_str::<Value>(&json).unwrap().as_array().unwrap().len()
}

/// Starts a bench that would take long, at `broker` or at one of its own, and waits until messages flow.
fn started(broker: Option<&Broker>, place: &Path) -> (Child, Vec<u64>) {
    let arguments = ["latency", "--time", "1h", "--rate", "100"];
    let mut command = bench(place, &arguments);
    let children_wanted = if broker.is_some() { 3 } else { 4 };
    if let Some(broker) = broker {
        command.arg("--dir").arg(broker.directory());
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("all its processes run", || children(child.id()).len() == children_wanted);
    let pids = children(child.id());
    if let Some(broker) = broker {
        until("its stream is there", || streams(broker) == 1);
    }
    (child, pids)
}

#[test]
fn ctrl_c_and_a_kill_leave_no_process_no_directory_and_no_stream() {
    let place = tempfile::tempdir().unwrap();
    for end in [Signal::INT, Signal::KILL] {
        let (child, pids) = started(None, place.path());
        signal(&child, end);
        let ended = ended(child);
        if end == Signal::INT {
            assert_eq!(ended.expect(130, &[]).err, "");
            assert!(is_empty(place.path()), "by then everything is removed");
        }
        until("all have ended", || !pids.iter().copied().any(runs) && is_empty(place.path()));

        let broker = Broker::start();
        let (child, pids) = started(Some(&broker), place.path());
        signal(&child, end);
        let ended = support::ended(child);
        if end == Signal::INT {
            ended.expect(130, &[]);
            assert_eq!(streams(&broker), 0);
        }
        until("all have ended", || !pids.iter().copied().any(runs) && streams(&broker) == 0);
    }
}

#[test]
fn a_bench_whose_process_dies_says_which_and_gives_no_figures() {
    let place = tempfile::tempdir().unwrap();
    let (child, pids) = started(None, place.path());
    let consumer = i32::try_from(pids[2]).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(consumer, Signal::KILL).unwrap();
    let ended = ended(child).expect(1, &["the consumer 1 ended too early (signal: 9"]);
    assert_eq!(ended.out, "");
    assert!(is_empty(place.path()));
}

#[test]
fn latencies_are_written_for_the_tools_of_hdr_histogram() {
    let place = tempfile::tempdir().unwrap();
    for (name, start) in [("a.hlog", "#"), ("a.hgrm", "       Value")] {
        let file = place.path().join(name);
        let arguments =
            [&["latency", "--rate", "2000", "--hdr", file.to_str().unwrap()][..], &QUICK].concat();
        Ended::from(bench(&std::env::temp_dir(), &arguments).output().unwrap()).ok();
        assert!(std::fs::read_to_string(file).unwrap().starts_with(start));
    }
}

#[test]
fn a_rate_that_cannot_be_kept_is_said_and_the_bench_ends_in_time() {
    let place = tempfile::tempdir().unwrap();
    let arguments = ["latency", "--rate", "1000000000", "--time", "300ms", "--warm-up"];
    let never = [&arguments[..], &["10ms"]].concat();
    Ended::from(bench(place.path(), &never).output().unwrap())
        .expect(1, &["never caught up", "lower --rate"]);
    let arguments = [&arguments[..], &["0s"]].concat();
    let report = json(&mut bench(place.path(), &arguments));
    assert!(report["unsent"].as_u64() > Some(0));
    assert!(report["notes"].to_string().contains("more were due in time and could not be sent"), "{report}");
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let place = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (&["latency", "--rate", "0"][..], "above 0"),
        (&["latency", "--rate", "NaN"], "above 0"),
        (&["wake", "--rate", "20000"], "no time to fall asleep"),
        (&["latency", "--size", "15"], "16 bytes"),
        (&["latency", "--size", "1073741825"], "1,073,741,824 bytes at the most"),
        (&["latency", "--count", "0"], "0 is not in 1.."),
        (&["latency", "--time", "0s"], "longer"),
        (&["latency", "--count", "1", "--time", "1s"], "cannot be used with"),
        (&["latency", "--producers", "0"], "1..=32"),
        (&["fanout", "--consumers", "33"], "1..=32"),
        (&["throughput", "--rate", "5"], "--rate"),
        (&["throughput", "--hdr", "x"], "no latencies"),
        (&["latency", "--wait", "never"], "possible values: spin, adaptive, sleep"),
        (&["nonsense"], "nonsense"),
    ] {
        Ended::from(bench(place.path(), arguments).output().unwrap()).expect(2, &[part]);
    }
    Ended::from(bench(place.path(), &["latency", "--hdr", "/nonexistent/x"]).output().unwrap())
        .expect(1, &["cannot write /nonexistent/x"]);
    let mut nobody = bench(place.path(), &["latency", "--dir"]);
    nobody.arg(place.path().join("nobody"));
    Ended::from(nobody.output().unwrap()).expect(3, &["no broker answers in"]);
    assert!(is_empty(place.path()));
}
