//! What if somebody looks at what a keeper holds: who may, and does anybody have to wait for it?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use ringway_broker::holdings::{DumpError, Holdings, HoldingsError};
use ringway_client::{StartAt, StreamSettings};
use ringway_shm_protocol::control::{KEEPER_SOCKET_NAME, socket};
use ringway_shm_protocol::name::Name;
use ringway_tests::kept::KeptBroker;
use ringway_tests::{PATIENCE, Peer, TestBroker, eventually};
use rustix::process::{Resource, Rlimit, Uid, getrlimit, prlimit};

const PEER: &str = env!("CARGO_BIN_EXE_ringway-test-peer");
const USUAL: StreamSettings = StreamSettings { slots: 64, slot_bytes: 64, ..StreamSettings::DEFAULT };

fn stream() -> Name {
    Name::parse("s").unwrap()
}

/// Where stream "s" ends.
fn end(holdings: &mut Holdings) -> u64 {
    holdings.partition(&stream(), 0).unwrap().ring.unwrap().view.end()
}

#[test]
fn it_is_shown_whoever_of_both_has_been_replaced() {
    let mut broker = KeptBroker::start(Path::new(PEER));
    let connection = broker.connect();
    connection.declare_stream("s", USUAL).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    producer.send(b"x").unwrap();
    let path = broker.path();
    let look = || end(&mut Holdings::of_keeper(&path).unwrap());
    assert_eq!(look(), 1);
    broker.succeed();
    producer.send(b"x").unwrap();
    eventually("the successor has kept what it decided", || look() == 2);
    let mut visit = Holdings::of_keeper(&path).unwrap();
    assert_eq!(end(&mut visit), 2);
    broker.replace_keeper();
    assert!(matches!(visit.partition(&stream(), 0), Err(HoldingsError::HungUp(_))));
    assert_eq!(look(), 2);
    broker.freeze();
    producer.send(b"x").unwrap();
    assert_eq!(look(), 3);
    ringway_tests::kept::signal(broker.pid(), rustix::process::Signal::CONT);
}

#[test]
fn another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Only root can be another user for a moment.
        return;
    }
    let broker = KeptBroker::start(Path::new(PEER));
    let path = broker.path();
    // As if somebody had opened the directory to all.
    for open in [path.parent().unwrap(), &path, &path.join(KEEPER_SOCKET_NAME)] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let look = move || {
        rustix::thread::set_thread_uid(Uid::from_raw(65_534)).unwrap();
        Holdings::of_keeper(&path).unwrap().partitions(&stream()).unwrap_err()
    };
    // Of this thread alone: the kernel tells the keeper who has connected.
    let refused = std::thread::spawn(look).join().unwrap();
    assert!(matches!(&refused, HoldingsError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("user 65534 may not look"), "{refused}");
}

#[test]
fn visitors_who_say_nothing_or_nonsense_hold_up_nobody() {
    let broker = KeptBroker::start(Path::new(PEER));
    let connection = broker.connect();
    connection.declare_stream("s", USUAL).unwrap();
    connection.producer("s").open().unwrap().send(b"x").unwrap();
    let knock = || socket::connect(&broker.path().join(KEEPER_SOCKET_NAME)).unwrap();
    let silent: Vec<OwnedFd> = (0..40).map(|_| knock()).collect();
    let noisy: Vec<OwnedFd> = (0..40).map(|_| knock()).collect();
    for (index, socket) in noisy.iter().enumerate() {
        // Some are sent away before they can.
        let _ = socket::send(socket, &vec![index as u8; index * 50 + 1], &[]);
    }
    let began = Instant::now();
    assert_eq!(end(&mut Holdings::of_keeper(&broker.path()).unwrap()), 1);
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    assert!(began.elapsed() < PATIENCE);
    broker.succeed();
    assert_eq!(connection.stream("s").unwrap().partitions[0].next_position, 1);
    drop((silent, noisy));
}

#[test]
fn a_keeper_without_a_descriptor_left_says_nothing_and_goes_on() {
    let broker = KeptBroker::start(Path::new(PEER));
    let connection = broker.connect();
    connection.declare_stream("s", USUAL).unwrap();
    connection.producer("s").open().unwrap().send(b"x").unwrap();
    let path = broker.path();
    let pid = rustix::process::Pid::from_raw(broker.keeper_pid() as i32);
    let is_free = |fd: &u64| !Path::new(&format!("/proc/{}/fd/{fd}", broker.keeper_pid())).exists();
    let mut free = (0..).filter(is_free);
    let (first, second) = (free.next().unwrap(), free.next().unwrap());
    let usual = getrlimit(Resource::Nofile);
    let limit = |current| prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), ..usual }).unwrap();
    // Of one that it could open, and of none.
    limit(second);
    let cut_off = Holdings::of_keeper(&path).unwrap().partitions(&stream()).unwrap_err();
    assert!(matches!(cut_off, HoldingsError::HungUp(_)), "{cut_off}");
    limit(first);
    let unanswered = Holdings::of_keeper(&path).unwrap().partitions(&stream()).unwrap_err();
    assert!(unanswered.to_string().contains("has no file descriptor left"), "{unanswered}");
    limit(1024);
    assert_eq!(end(&mut Holdings::of_keeper(&path).unwrap()), 1);
}

#[test]
fn a_broker_without_a_keeper_says_so() {
    let broker = TestBroker::start();
    let refused = Holdings::of_keeper(&broker.path()).err().unwrap();
    assert!(matches!(&refused, HoldingsError::NoKeeper(_)), "{refused}");
}

#[test]
fn a_dump_takes_nobodys_place() {
    let broker = KeptBroker::start(Path::new(PEER));
    let connection = broker.connect();
    connection.declare_stream("s", USUAL).unwrap();
    connection.producer("s").open().unwrap().send(b"x").unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("s.dump");
    let mut holdings = Holdings::of_keeper(&broker.path()).unwrap();
    let bytes = holdings.dump(&stream(), &[0], &path).unwrap();
    assert_eq!(path.metadata().unwrap().len(), bytes);
    let exists = holdings.dump(&stream(), &[0], &path).unwrap_err();
    assert!(matches!(exists, HoldingsError::Dump(DumpError::Exists(_))), "{exists}");
    let mut dumped = Holdings::of_dump(&path).unwrap();
    assert_eq!((dumped.partitions(&stream()).unwrap(), end(&mut dumped)), (vec![0], 1));
    assert!(matches!(dumped.partition(&stream(), 1), Err(HoldingsError::NoPartition { asked: 1, .. })));
}

#[test]
fn a_full_disk_is_an_error_that_leaves_nothing() {
    let broker = KeptBroker::start(Path::new(PEER));
    let connection = broker.connect();
    connection.declare_stream("s", StreamSettings { slot_bytes: 4096, ..USUAL }).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    for _ in 0..64 {
        producer.send(&[7; 4000]).unwrap();
    }
    let (place, path) = (tempfile::tempdir().unwrap(), broker.path());
    let dump = |bytes| {
        let arguments = [path.to_str().unwrap(), "s", place.path().to_str().unwrap(), bytes];
        Peer::start(PEER, &[&["dump"], &arguments[..]].concat()).line()
    };
    let full = dump("128k");
    assert!(full.starts_with("0 left, cannot write ") && full.contains("No space left on device"), "{full}");
    assert!(dump("4m").ends_with(" bytes"));
}
