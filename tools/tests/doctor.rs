//! `ringway doctor` on this machine: what it finds, what it advises, how it ends.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

#[allow(unreachable_pub, reason = "it is a module of ringway-tests")]
#[path = "../../tests/src/denied_calls.rs"]
mod denied_calls;
mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use denied_calls::{Denied, deny};
use serde_json::Value;
use support::{Broker, Ended, ringway};

const CHECKS: [&str; 19] = [
    "kernel",
    "io_uring",
    "locked memory",
    "memfd",
    "futex_waitv",
    "pidfd",
    "open files",
    "cores",
    "isolation",
    "governor",
    "clock",
    "huge pages",
    "socket path",
    "directory",
    "broker",
    "data",
    "free space",
    "sync",
    "O_DIRECT",
];

/// A doctor whose findings can be looked up.
struct Visit {
    code: i32,
    findings: Vec<Value>,
}

impl Visit {
    fn of(command: &mut Command) -> Self {
        let ended = Ended::from(command.args(["doctor", "--json"]).output().unwrap());
        Self { code: ended.code, findings: serde_json::from_str(&ended.out).unwrap() }
    }

    fn finding(&self, check: &str) -> &Value {
        self.findings.iter().find(|finding| finding["check"] == check).unwrap()
    }

    fn text(&self, check: &str, field: &str) -> &str {
        self.finding(check)[field].as_str().unwrap()
    }
}

fn denying(command: &mut Command, calls: &'static [libc::c_long]) {
    let filter = || {
        deny(
            &calls
                .iter()
                .map(|call| Denied { call: *call, descriptor: None, errno: libc::EPERM })
                .collect::<Vec<_>>(),
        )
    };
    // SAFETY: it calls the kernel, and allocates, which the C library allows in a forked child.
    unsafe { command.pre_exec(filter) };
}

#[test]
fn every_check_is_there_and_only_problems_fail() {
    let broker = Broker::start();
    let visit = Visit::of(&mut broker.command::<&str>([]));
    assert_eq!(
        visit.findings.iter().map(|finding| finding["check"].as_str().unwrap()).collect::<Vec<_>>(),
        CHECKS
    );
    let has_problem = visit.findings.iter().any(|finding| finding["level"] == "problem");
    assert_eq!(visit.code, i32::from(has_problem));
    for finding in &visit.findings {
        assert_eq!(finding["level"] == "ok", finding["fix"].is_null(), "{finding}");
        assert!(finding["found"].is_string() && finding["why"].is_string());
    }
    assert!(visit.text("broker", "found").contains("answers: 1 shard, 0 streams"));
    let data = broker.path("broker/data");
    assert!(visit.text("data", "found").starts_with(data.to_str().unwrap()));
}

#[test]
fn the_text_names_the_fix_below_what_it_is_for() {
    let place = tempfile::tempdir().unwrap();
    let nobody = place.path().join("nobody");
    let ended = Ended::from(ringway().arg("--dir").arg(&nobody).arg("doctor").output().unwrap());
    let at = ended.out.lines().position(|line| line.starts_with("warning  broker")).unwrap();
    let fix = ended.out.lines().nth(at + 1).unwrap();
    assert_eq!(fix.trim(), format!("fix: ringway serve --dir {}", nobody.display()));
    assert!(ended.out.contains("\n19 checks: "));
    assert!(!nobody.exists(), "it makes nothing");
}

#[test]
fn who_denies_io_uring_is_named() {
    let place = tempfile::tempdir().unwrap();
    let mut command = ringway();
    command.arg("--dir").arg(place.path());
    denying(&mut command, &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register]);
    let visit = Visit::of(&mut command);
    assert_eq!(visit.finding("io_uring")["level"], "warning");
    assert!(visit.text("io_uring", "found").starts_with("denied"), "{}", visit.text("io_uring", "found"));
    assert!(
        visit.text("io_uring", "fix").contains("seccomp")
            || visit.text("io_uring", "found").contains("sysctl")
    );
}

#[test]
fn what_ringway_cannot_do_without_is_a_problem_and_exit_1() {
    let place = tempfile::tempdir().unwrap();
    let mut command = ringway();
    command.arg("--dir").arg(place.path());
    denying(&mut command, &[libc::SYS_memfd_create, libc::SYS_pidfd_open, libc::SYS_futex_waitv]);
    let visit = Visit::of(&mut command);
    assert_eq!(visit.code, 1);
    for (check, call) in [("memfd", "memfd_create"), ("pidfd", "pidfd_open"), ("futex_waitv", "futex_waitv")]
    {
        assert_eq!(visit.finding(check)["level"], "problem");
        assert!(visit.text(check, "fix").contains(call));
    }
}

#[test]
fn a_directory_that_others_may_write_and_a_path_that_is_too_long_are_problems() {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let visit = Visit::of(ringway().arg("--dir").arg(place.path()));
    assert_eq!((visit.code, &visit.finding("directory")["level"]), (1, &"problem".into()));
    assert!(visit.text("directory", "fix").starts_with("chmod go-w "));
    let visit = Visit::of(ringway().arg("--dir").arg(place.path().join("d".repeat(120))));
    assert_eq!(visit.finding("socket path")["level"], "problem");
}
