//! `ringway demo` with real files: what it proves, what it refuses, and that it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use support::{Ended, ended, ringway, runs, signal, until};
use tempfile::TempDir;

/// A demo whose directory for temporary files is `place`.
fn demo(place: &Path) -> Command {
    let mut command = ringway();
    command.env("TMPDIR", place).arg("demo");
    command
}

fn is_empty(place: &Path) -> bool {
    std::fs::read_dir(place).unwrap().next().is_none()
}

/// Starts a demo that takes long, and waits until its processes are at work; their ids.
fn started(place: &TempDir, input: &TempDir) -> (Child, Vec<u64>, BufReader<ChildStdout>) {
    let file = input.path().join("many");
    std::fs::write(&file, "a line\n".repeat(1_000_000)).unwrap();
    let mut child = demo(place.path())
        .arg("--input")
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    assert!(first.contains(place.path().to_str().unwrap()), "{first}");
    let directory = first.split(' ').find(|word| word.starts_with('/')).unwrap();
    until("messages flow", || {
        let shown =
            ringway().args(["stream", "show", "demo", "--json", "--dir", directory]).output().unwrap();
        serde_json::from_slice::<Value>(&shown.stdout)
            .is_ok_and(|stream| stream["partitions"][0]["next_position"].as_u64() > Some(0))
    });
    let children = Path::new("/proc").join(child.id().to_string()).join("task");
    let children = children.join(child.id().to_string()).join("children");
    let pids: Vec<u64> =
        std::fs::read_to_string(children).unwrap().split(' ').filter_map(|pid| pid.parse().ok()).collect();
    assert_eq!(pids.len(), 4, "a broker, two consumers, a producer");
    (child, pids, out)
}

#[test]
fn a_demo_with_a_file_of_any_bytes_proves_that_every_line_arrived() {
    let (place, input) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = input.path().join("bytes");
    std::fs::write(&file, [b"one\n\n\xff\xfe\r\n".as_slice(), &[b'x'; 4080], b"\nlast"].concat()).unwrap();
    let text = Ended::from(demo(place.path()).arg("--input").arg(&file).output().unwrap()).ok();
    for part in [
        "5 lines, the longest 4,080 bytes, sent 2,000 times: 10,000 messages",
        "slots of 4096 bytes",
        "p50",
        "p99",
        "ok      every one of 10,000 lines arrived at billing",
        "ok      every one of 10,000 lines arrived at audit",
        "lines of the queue were settled, none twice:",
        "went on and answered after",
        "ok      the broker ended",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(!text.contains("FAILED") && text.is_ascii(), "{text}");
    assert!(is_empty(place.path()));
}

#[test]
fn a_demo_without_a_file_gives_the_same_as_json() {
    let place = tempfile::tempdir().unwrap();
    let json = Ended::from(demo(place.path()).arg("--json").output().unwrap()).ok();
    let report: Value = serde_json::from_str(&json).unwrap();
    let messages = report["topic"]["messages"].as_u64().unwrap();
    assert!(messages >= 10_000);
    assert_eq!(report["held"], true);
    assert!(report["queue"]["messages"].as_u64() >= Some(2_000));
    assert_ne!(report["queue"]["killed_broker"], report["queue"]["successor"]);
    for subscriber in report["subscribers"].as_array().unwrap() {
        assert_eq!(subscriber["latency"]["messages"], messages);
        assert!(subscriber["latency"]["p50_ns"].as_u64() > Some(0));
        assert!(subscriber["latency"]["p50_ns"].as_u64() <= subscriber["latency"]["max_ns"].as_u64());
        let bars = subscriber["bars"].as_array().unwrap();
        assert_eq!(bars.iter().map(|bar| bar["messages"].as_u64().unwrap()).sum::<u64>(), messages);
    }
    assert_eq!(json.lines().count(), 1);
    assert!(is_empty(place.path()));
}

#[test]
fn a_file_that_cannot_be_sent_is_named_with_the_reason() {
    let (place, input) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let with = |bytes: &[u8]| {
        let file = input.path().join("file");
        std::fs::write(&file, bytes).unwrap();
        Ended::from(demo(place.path()).arg("--input").arg(&file).output().unwrap())
    };
    with(b"").expect(1, &["file is empty"]);
    with(&[b"one\n".as_slice(), &[b'x'; 4081]].concat()).expect(1, &["line 2", "4,081 bytes", "4,080"]);
    let missing = demo(place.path()).args(["--input", "/nonexistent/x"]).output().unwrap();
    Ended::from(missing).expect(1, &["/nonexistent/x"]);
    let endless = demo(place.path()).args(["--input", "/dev/zero"]).output().unwrap();
    Ended::from(endless).expect(1, &["/dev/zero has more than 67,108,864 bytes: take a smaller file"]);
    assert!(is_empty(place.path()));
}

#[test]
fn ctrl_c_ends_a_demo_with_130_and_leaves_no_process_and_no_directory() {
    let (place, input) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (child, pids, _out) = started(&place, &input);
    signal(&child, Signal::INT);
    assert_eq!(ended(child).expect(130, &[]).err, "");
    assert!(!pids.into_iter().any(runs));
    assert!(is_empty(place.path()));
}

#[test]
fn a_killed_demo_leaves_no_process_and_no_directory_either() {
    let (place, input) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut child, pids, _out) = started(&place, &input);
    child.kill().unwrap();
    child.wait().unwrap();
    until("its processes end", || !pids.iter().copied().any(runs));
    assert!(is_empty(place.path()));
}

#[test]
fn a_demo_whose_process_dies_says_which_and_what_is_missing() {
    for (index, named) in [(1, "the consumer of billing"), (3, "the producer")] {
        let (place, input) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (child, pids, mut out) = started(&place, &input);
        let pid = rustix::process::Pid::from_raw(pids[index].try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        ended(child).expect(1, &["the demo failed: ", named, "ended too early (signal: 9"]);
        assert!(text.contains("FAILED") && text.contains(" of 1,000,000 lines"), "{text}");
        assert!(is_empty(place.path()));
    }
}
