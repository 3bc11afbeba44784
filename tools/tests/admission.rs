//! Who may connect: real commands of several users, against brokers that allow some of them.
//!
//! Only root may become another user; where the tests do not run as root, they say that this was left out. What is decided about
//! whom is tested beside the decision in any case.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{Broker, Ended, until, without_environment};

/// Users and groups that nobody has.
const BROKER: u32 = 61_001;
const FRIEND: u32 = 61_002;
const STRANGER: u32 = 61_003;
const GROUP: u32 = 61_070;

/// A copy of the command where every user can run it.
#[allow(clippy::explicit_write, reason = "the output of a test that passes is not shown, this is")]
fn open_place() -> Option<(tempfile::TempDir, PathBuf)> {
    if !rustix::process::geteuid().is_root() {
        writeln!(std::io::stderr(), "NOT RUN, as only root may become another user: who may connect")
            .unwrap();
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let command = place.path().join("ringway");
    // By another process: a file that this one has open for writing is open in what another test forks just then, and cannot be run.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_ringway")).arg(&command).status().unwrap();
    assert!(copied.success());
    Some((place, command))
}

/// `command` as a user, in its own group and these.
fn of_user(command: &Path, uid: u32, groups: &[u32]) -> Command {
    let mut setpriv = without_environment(Command::new("setpriv"));
    setpriv.args([format!("--reuid={uid}"), format!("--regid={uid}")]);
    match groups {
        [] => setpriv.arg("--clear-groups"),
        groups => setpriv
            .arg(format!("--groups={}", groups.iter().map(u32::to_string).collect::<Vec<_>>().join(","))),
    };
    setpriv.arg(command);
    setpriv
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn nobody_but_the_brokers_user_and_root_may_connect_when_nothing_is_said() {
    let Some((place, command)) = open_place() else { return };
    let home = place.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(BROKER), Some(BROKER)).unwrap();
    let directory_of_broker = home.join("broker");
    let mut serve = of_user(&command, BROKER, &[]);
    serve.args(["serve", "--dir"]).arg(&directory_of_broker);
    let broker = Broker::of(serve, place);
    assert_eq!(mode(&directory_of_broker), 0o700);
    assert_eq!(mode(&directory_of_broker.join("control.sock")), 0o600);
    let list = |uid| {
        let mut list = of_user(&command, uid, &[]);
        Ended::from(list.arg("--dir").arg(&directory_of_broker).args(["stream", "list"]).output().unwrap())
    };
    list(BROKER).ok();
    list(0).ok();
    let asking = [
        "stop",
        "stream list",
        "stream create s",
        "subscription list s",
        "pub s x",
        "sub s --subscription a",
        "bench latency --time 1s",
        "top --once",
        "inspect s",
        "peek s",
    ];
    let friend = |arguments: &str| {
        let mut friend = of_user(&command, FRIEND, &[]);
        friend.arg("--dir").arg(&directory_of_broker).args(arguments.split(' '));
        Ended::from(friend.output().unwrap())
    };
    for arguments in asking {
        friend(arguments).expect(5, &["this user may not "]);
    }
    list(BROKER).ok();
    friend("journal ls").expect(5, &["Permission denied", "as the user of the broker"]);
    friend("serve").expect(5, &[&format!("must belong to user {FRIEND}")]);
    // Whoever comes past the directory is asked who it is all the same.
    for path in [directory_of_broker.clone(), directory_of_broker.join("control.sock")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    list(FRIEND)
        .expect(5, &[&format!("of user {FRIEND}"), &format!("serves user {BROKER}, root"), "allowed_uids"]);
    std::fs::set_permissions(directory_of_broker.join("keeper.sock"), std::fs::Permissions::from_mode(0o777))
        .unwrap();
    friend("inspect s").expect(5, &[&format!("user {FRIEND} may not look"), &format!("user {BROKER}")]);
    drop(broker);
}

#[test]
fn allowed_users_and_members_of_allowed_groups_exchange_messages_and_nobody_else_does() {
    let Some((place, command)) = open_place() else { return };
    let directory = place.path().join("broker");
    let mut serve = without_environment(Command::new(&command));
    serve.args([
        "serve",
        "--allowed-uids",
        &FRIEND.to_string(),
        "--allowed-gids",
        &GROUP.to_string(),
        "--dir",
    ]);
    serve.arg(&directory);
    let broker = Broker::of(serve, place);
    // Where the file system has no access control lists, everybody may knock.
    assert!([0o710, 0o711].contains(&mode(&directory)), "{:o}", mode(&directory));
    assert_eq!(mode(&directory.join("broker.lock")), 0o600);
    let run = |uid, groups: &[u32], arguments: &[&str]| {
        let mut command = of_user(&command, uid, groups);
        Ended::from(command.arg("--dir").arg(&directory).args(arguments).output().unwrap())
    };
    run(FRIEND, &[], &["stream", "create", "jobs", "--kind", "queue"]).ok();
    assert_eq!(mode(&directory.join("data/shard-0")), 0o700);
    run(FRIEND, &[], &["pub", "jobs", "from a friend"]).ok();
    let taken = run(STRANGER, &[1, GROUP], &["sub", "jobs", "--count", "1", "--timeout", "20s"]);
    assert_eq!(taken.ok(), "from a friend\n", "a stranger in an allowed group");
    run(STRANGER, &[1], &["stream", "list"]).expect(5, &["may not"]);
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(directory.join("control.sock"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = run(STRANGER, &[1], &["stream", "list"]);
    let served = format!("users {FRIEND}, members of groups {GROUP}");
    refused.expect(5, &[&format!("of user {STRANGER} (groups 1, {STRANGER})"), &served]);

    // To use it is not to end it.
    run(FRIEND, &[], &["stop"]).expect(5, &[&format!("user {FRIEND} may not end this broker")]);
    run(FRIEND, &[], &["stream", "list"]).ok();
    run(0, &[], &["stop"]).ok();
    drop(broker);
}

#[test]
fn a_successor_admits_the_same_and_knows_whose_its_sessions_are() {
    let Some((place, command)) = open_place() else { return };
    let directory = place.path().join("broker");
    let mut serve = without_environment(Command::new(&command));
    serve.args(["serve", "--allowed-uids", &FRIEND.to_string(), "--dir"]).arg(&directory);
    let broker = Broker::of(serve, place);
    let friend = |arguments: &[&str]| {
        let mut command = of_user(&command, FRIEND, &[]);
        command.arg("--dir").arg(&directory).args(arguments);
        command
    };
    Ended::from(friend(&["stream", "create", "s"]).output().unwrap()).ok();
    let mut subscriber = friend(&["sub", "s", "--subscription", "a", "--count", "1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let has_consumer = || {
        let shown = Ended::from(friend(&["subscription", "show", "s", "a", "--json"]).output().unwrap());
        serde_json::from_str::<Value>(&shown.out).is_ok_and(|it| it["partitions"][0]["consumer_pid"].is_u64())
    };
    until("the subscriber is there", has_consumer);
    let before = broker.broker_pid();
    support::kill(before);
    until("there is a successor", || broker.broker_pid() != before);
    Ended::from(friend(&["stop"]).output().unwrap()).expect(5, &["may not end this broker"]);
    Ended::from(friend(&["pub", "s", "x"]).output().unwrap()).ok();
    assert!(subscriber.wait().unwrap().success());
}
