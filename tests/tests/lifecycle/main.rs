//! What if a producer, a consumer or the broker ends: politely, or by SIGKILL in the middle of its work?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use ringway_broker::Broker;
use ringway_broker::config::Config;
use ringway_client::{Connection, OpenError, Producers, RefusalCode, StartAt, StreamSettings};
use ringway_shm_protocol::control::message::{Reply, Request};
use ringway_shm_protocol::control::{LOCK_NAME, SOCKET_NAME};
use ringway_tests::{PATIENCE, Peer, RawSession, TestBroker, eventually};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

const SETTINGS: StreamSettings = StreamSettings {
    slots: 1024,
    slot_bytes: 64,
    producers: Producers::Exclusive,
    ..StreamSettings::DEFAULT
};

fn peer(arguments: &[&str]) -> Peer {
    Peer::start(env!("CARGO_BIN_EXE_ringway-test-peer"), arguments)
}

/// A broker with topic "s", and a connection to it.
fn broker_with_stream() -> (TestBroker, Connection) {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", SETTINGS).unwrap();
    (broker, connection)
}

#[test]
fn a_killed_producer_makes_room_as_soon_as_the_kernel_says_so() {
    let (broker, connection) = broker_with_stream();
    let path = broker.path();
    let mut holder = peer(&["producer", path.to_str().unwrap(), "s"]);
    assert_eq!(holder.line(), "holding");
    let refused = connection.producer("s").open().unwrap_err();
    assert_eq!(refused.code(), Some(RefusalCode::InUse));
    assert!(refused.to_string().contains(&format!("process {}", holder.pid())), "{refused}");
    assert_eq!(connection.stream("s").unwrap().partitions[0].producer_pids, [holder.pid()]);
    holder.kill();
    eventually("the stream is free", || connection.producer("s").open().is_ok());
}

#[test]
fn a_stopped_producer_keeps_its_stream() {
    let (broker, connection) = broker_with_stream();
    let path = broker.path();
    let mut holder = peer(&["producer", path.to_str().unwrap(), "s"]);
    holder.line();
    holder.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(100));
    assert!(matches!(connection.producer("s").open(), Err(OpenError::Refused(_))));
}

#[test]
fn a_session_that_closed_its_socket_keeps_what_it_holds_while_its_process_lives() {
    let (broker, connection) = broker_with_stream();
    let mut session = RawSession::open(&broker.path());
    assert!(matches!(
        session.ask(&Request::OpenProducer { stream: b"s".to_vec(), partition: 0, name: None }),
        Reply::Producer(_)
    ));
    drop(session);
    std::thread::sleep(Duration::from_millis(100));
    let refused = connection.producer("s").open().unwrap_err();
    assert_eq!(refused.code(), Some(RefusalCode::InUse), "a closed socket proves nothing");
}

#[test]
fn killed_in_the_middle_of_publishing_a_producer_leaves_a_whole_prefix_and_the_next_goes_on() {
    for round in 0..20 {
        let (broker, connection) = broker_with_stream();
        connection.declare_subscription("s", "a", StartAt::First).unwrap();
        let path = broker.path();
        let mut publisher = peer(&["publisher", path.to_str().unwrap(), "s"]);
        publisher.line();
        let mut consumer = connection.consumer("s", "a").open().unwrap();
        for expected in 0..(500 + 700 * round) {
            let message = consumer.recv().unwrap();
            assert_eq!(message.payload(), expected_payload(message.position()));
            assert_eq!(message.position(), expected);
        }
        publisher.kill();
        let mut producer = None;
        eventually("the stream is free", || {
            producer = connection.producer("s").open().ok();
            producer.is_some()
        });
        // Whatever was committed is there, in order; what was reserved was passed over.
        let mut producer = producer.unwrap();
        let end = producer.positions()[0].position;
        let mut last = consumer.positions()[0].position;
        while let Some(message) = consumer.recv_timeout(Duration::from_millis(20)).unwrap() {
            assert!(message.position() >= last && message.position() < end);
            assert_eq!(message.payload(), expected_payload(message.position()));
            last = message.position() + 1;
        }
        assert!(end - last <= 1, "at most one message was being written: {last} of {end}");
        let position = producer.send(b"after").unwrap();
        assert_eq!(position.position, end);
        let message = consumer.recv_timeout(PATIENCE).unwrap().expect("the next producer's message arrives");
        assert_eq!((message.position(), message.payload()), (end, &b"after"[..]));
    }
}

fn expected_payload(position: u64) -> [u8; 8] {
    position.to_le_bytes()
}

#[test]
fn after_a_killed_consumer_the_next_one_goes_on_at_its_last_commit() {
    let (broker, connection) = broker_with_stream();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    for number in 0..500_u64 {
        producer.send(&number.to_le_bytes()).unwrap();
    }
    let path = broker.path();
    let mut reader = peer(&["consumer", path.to_str().unwrap(), "s", "a", "123"]);
    assert_eq!(reader.line(), "read up to 123");
    let refused = connection.consumer("s", "a").open().unwrap_err();
    assert!(refused.to_string().contains(&format!("process {}", reader.pid())), "{refused}");
    reader.kill();
    let mut consumer = None;
    eventually("the subscription is free", || {
        consumer = connection.consumer("s", "a").open().ok();
        consumer.is_some()
    });
    let mut consumer = consumer.unwrap();
    assert_eq!(consumer.recv().unwrap().position(), 123);
    assert_eq!(
        connection.subscription("s", "a").unwrap().partitions[0].consumer_pid,
        Some(std::process::id())
    );
}

#[test]
fn a_broker_that_ends_wakes_its_sleepers_and_leaves_nothing_behind() {
    let (broker, connection) = broker_with_stream();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    let path = broker.path();
    let sleeper = std::thread::spawn(move || consumer.recv().map(|message| message.position()));
    std::thread::sleep(Duration::from_millis(50));
    broker.stop();
    let error = sleeper.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("broker"), "{error}");
    assert!(!path.exists(), "the directory that the broker made is gone");
    assert!(!connection.is_open());
}

#[test]
fn messages_go_on_after_the_broker_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker");
    let mut broker = peer(&["broker", path.to_str().unwrap()]);
    broker.line();
    let connection = Connection::open(&path).unwrap();
    connection.declare_stream("s", SETTINGS).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    producer.send(b"before").unwrap();
    broker.kill();
    producer.send(b"after").unwrap();
    assert_eq!(consumer.recv().unwrap().payload(), b"before");
    assert_eq!(consumer.recv().unwrap().payload(), b"after");
    assert!(consumer.recv().unwrap_err().to_string().contains("broker"), "then there is nothing and nobody");
}

#[test]
fn a_second_broker_is_refused_with_the_pid_of_the_first_and_a_killed_one_is_succeeded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker");
    let mut first = peer(&["broker", path.to_str().unwrap()]);
    first.line();
    let config = || ringway_broker::config::Config::load(None, Some(path.clone())).unwrap();
    let error =
        ringway_broker::Broker::start(config()).err().expect("two brokers cannot serve one directory");
    assert!(error.to_string().contains(&format!("process {}", first.pid())), "{error}");
    assert!(Connection::open(&path).is_ok(), "the first one serves on");
    first.kill();
    assert!(path.join(SOCKET_NAME).exists() && path.join(LOCK_NAME).exists(), "it had no time to clean up");
    let second = ringway_broker::Broker::start(config()).unwrap();
    assert!(Connection::open(&path).is_ok());
    second.stopper().stop();
    second.wait().unwrap();
    assert!(!path.join(SOCKET_NAME).exists() && !path.join(LOCK_NAME).exists());
}

#[test]
fn a_client_can_stop_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker");
    let mut broker = peer(&["broker", path.to_str().unwrap()]);
    broker.line();
    let connection = Connection::open(&path).unwrap();
    assert_eq!(connection.broker_pid(), broker.pid());
    let stopped = std::thread::spawn(move || broker.wait());
    connection.stop_broker(PATIENCE).unwrap();
    stopped.join().unwrap();
    assert!(!path.exists());
}

#[test]
fn the_lock_of_a_process_that_is_gone_is_waited_for_and_that_of_a_living_one_is_not() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("broker");
    std::fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
    let start = || Broker::start(Config::load(None, Some(directory.clone())).unwrap());
    let hold = |pid: u32| {
        std::fs::write(directory.join(LOCK_NAME), format!("{pid}\n")).unwrap();
        let lock = std::fs::File::open(directory.join(LOCK_NAME)).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        lock
    };
    let lock = hold(std::process::id());
    let refused = start().map(drop).unwrap_err().to_string();
    assert!(refused.contains(&format!("already serves {}", directory.display())), "{refused}");
    drop(lock);
    // It ends and nobody has asked how; what it had open the kernel closes a while later.
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    let stat = format!("/proc/{}/stat", ended.id());
    eventually("it has ended", || std::fs::read_to_string(&stat).unwrap().contains(") Z "));
    let lock = hold(ended.id());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(lock);
        });
        let broker = start().unwrap();
        broker.stopper().stop();
        broker.wait().unwrap();
    });
    ended.wait().unwrap();
}
