//! Where the settings of `ringway serve` come from, and what is said of those that cannot be.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use serde_json::{Value, json};
use support::{Broker, Ended, ringway, runs};

/// `ringway serve --check` with a file, variables and options.
fn check(file: &str, variables: &[(&str, &str)], options: &[&str]) -> Ended {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ringway.toml");
    std::fs::write(&path, file).unwrap();
    let mut command = ringway();
    command.args(["serve", "--check", "--config"]).arg(&path).args(options).envs(variables.iter().copied());
    let mut ended = Ended::from(command.output().unwrap());
    for text in [&mut ended.out, &mut ended.err] {
        *text = text.replace(path.to_str().unwrap(), "FILE");
    }
    ended
}

#[test]
fn each_setting_says_where_it_was_said_and_nothing_is_started() {
    let file = "directory = '/nonexistent/x'\n\nsegment_bytes = 8388608\nsessions_max = 1\nlog = 'off'";
    let variables =
        [("RINGWAY_SESSIONS_MAX", "2"), ("RINGWAY_LOG", "info"), ("RINGWAY_HELLO_TIMEOUT_MS", "")];
    let options = ["--log", "debug", "--allowed-uids", "1000,1001"];
    let table = check(file, &variables, &options).ok();
    let row = |key: &str| {
        let line = table.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("KEY"), "KEY VALUE FROM");
    assert_eq!(row("directory"), "directory /nonexistent/x FILE:1");
    assert_eq!(row("data"), "data /nonexistent/x/data default");
    assert_eq!(row("segment_bytes"), "segment_bytes 8388608 FILE:3");
    assert_eq!(row("sessions_max"), "sessions_max 2 RINGWAY_SESSIONS_MAX");
    assert_eq!(row("hello_timeout_ms"), "hello_timeout_ms 5000 default");
    assert_eq!(row("log "), "log debug --log");
    assert_eq!(row("allowed_uids"), "allowed_uids 1000,1001 --allowed-uids");

    let json = check(file, &variables, &[&options[..], &["--json"]].concat()).ok();
    let settings: Value = serde_json::from_str(&json).unwrap();
    let setting = |key: &str| {
        let mut all = settings.as_array().unwrap().iter();
        all.find(|setting| setting["key"] == key).unwrap().clone()
    };
    assert_eq!(setting("cores")["source"], "default");
    assert_eq!(
        setting("segment_bytes"),
        json!({"key": "segment_bytes", "value": 8_388_608, "source": "file", "place": "FILE:3"})
    );
    assert_eq!(
        setting("sessions_max"),
        json!({"key": "sessions_max", "value": 2, "source": "environment", "place": "RINGWAY_SESSIONS_MAX"})
    );
    assert_eq!(
        setting("allowed_uids"),
        json!({"key": "allowed_uids", "value": [1000, 1001], "source": "flag", "place": "--allowed-uids"})
    );
}

#[test]
fn what_is_wrong_ends_with_2_whether_it_is_checked_or_started() {
    let wrong = check("\nsesions_max = 7", &[("RINGWAY_CORSE", "0")], &["--runtime", "fibres", "--json"]);
    let problems = [
        "FILE:2: unknown key sesions_max: did you mean sessions_max?",
        "RINGWAY_CORSE: unknown variable: did you mean RINGWAY_CORES?",
        "--runtime: runtime must be one of auto, io_uring, threads, not \"fibres\"",
    ];
    assert_eq!(wrong.expect(2, &problems).out, "");
    let started = ringway().arg("serve").env("RINGWAY_CORSE", "0").output().unwrap();
    Ended::from(started).expect(2, &problems[1..2]);
    let missing = ringway().args(["serve", "--check", "--config", "/nonexistent/x.toml"]).output().unwrap();
    Ended::from(missing).expect(2, &["cannot read the configuration /nonexistent/x.toml"]);
    let alone = ringway().args(["serve", "--json"]).output().unwrap();
    Ended::from(alone).expect(2, &["--check"]);
}

#[test]
fn a_broker_runs_with_what_its_options_and_its_environment_say() {
    let broker = Broker::start_with(&["--payload-bytes-max", "1000"]);
    broker.run(&["stream", "create", "s", "--max-payload", "1001"]).expect(2, &["from 1 to 1000"]);
    assert!(runs(u64::from(broker.process.id())));
    let place = tempfile::tempdir().unwrap();
    let mut command = ringway();
    command.env("RINGWAY_DIR", place.path().join("mine")).env("RINGWAY_DATA", place.path().join("journals"));
    let table = Ended::from(command.args(["serve", "--check"]).output().unwrap()).ok();
    assert!(table.contains("/mine") && table.contains("RINGWAY_DATA"), "{table}");
}
