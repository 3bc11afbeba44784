//! Is a broker inside a process as good as one of its own, and does it leave nothing behind?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringway_broker::Embedded;
use ringway_broker::config::Config;
use ringway_client::{
    AdminError, ConnectError, Durability, RecvError, SharedSettings, StartAt, StreamSettings,
};
use ringway_tests::connect;

/// What a process has is counted: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn it_serves_this_process_and_leaves_nothing_behind() {
    let _alone = alone();
    let mut left = Vec::new();
    for _ in 0..10 {
        let broker = Embedded::start().unwrap();
        let connection = connect(broker.directory()).unwrap();
        assert_eq!(connection.broker_pid(), std::process::id());
        connection.declare_stream("s", StreamSettings::DEFAULT).unwrap();
        connection.declare_subscription("s", "a", StartAt::First).unwrap();
        connection.declare_queue("q", StreamSettings::DEFAULT, SharedSettings::default()).unwrap();
        let mut consumer = connection.consumer("s", "a").open().unwrap();
        let mut worker = connection.queue_consumer("q").open().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut producers = ["s", "q"].map(|name| connection.producer(name).open().unwrap());
                for message in 0..1000_u32 {
                    producers.iter_mut().for_each(|to| drop(to.send(&message.to_le_bytes()).map(drop)));
                }
            });
            for message in 0..1000_u32 {
                assert_eq!(consumer.recv().unwrap().payload(), message.to_le_bytes());
                worker.recv().unwrap().ack().unwrap();
            }
        });
        let directory = broker.directory().to_owned();
        std::thread::scope(|scope| {
            let asleep = scope.spawn(|| consumer.recv().map(drop));
            broker.stop().unwrap();
            assert!(matches!(asleep.join().unwrap(), Err(RecvError::Disconnected)));
        });
        assert!(!directory.exists() && !directory.parent().unwrap().exists());
        assert!(matches!(connect(&directory), Err(ConnectError::NoBroker { .. })));
        drop((consumer, worker, connection));
        left.push((count("/proc/self/fd"), count("/proc/self/task")));
    }
    let ((descriptors, threads), (then, threads_then)) = (left[9], left[1]);
    // The runtime keeps an eventfd of each shard that has been.
    assert!(descriptors <= then + 8 && threads == threads_then, "{left:?}");
}

#[test]
fn without_a_configuration_nothing_is_durable_and_that_is_said() {
    let _alone = alone();
    let broker = Embedded::start().unwrap();
    let connection = connect(broker.directory()).unwrap();
    for durability in [Durability::Written, Durability::Synced] {
        let settings = StreamSettings { durability, ..StreamSettings::DEFAULT };
        match connection.declare_stream("s", settings) {
            Err(AdminError::Refused(refusal)) => {
                assert!(
                    refusal.message.contains("given no directory for its journal"),
                    "{}",
                    refusal.message
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(connection.streams().unwrap().is_empty());
}

fn configured(place: &Path) -> Embedded {
    let config = Config::load(None, Some(place.join("broker"))).unwrap();
    Embedded::start_with(Config { data: place.join("data"), ..config }).unwrap()
}

#[test]
fn what_is_durable_is_there_again_with_the_next_one() {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    for started in 0..3_u32 {
        let broker = configured(place.path());
        let connection = connect(broker.directory()).unwrap();
        let settings = StreamSettings { durability: Durability::Synced, ..StreamSettings::DEFAULT };
        connection.declare_queue("q", settings, SharedSettings::default()).unwrap();
        let mut producer = connection.producer("q").open().unwrap();
        let position = producer.send(&started.to_le_bytes()).unwrap();
        producer.confirm(position).unwrap();
        assert_eq!(connection.subscription("q", "q").unwrap().shared().ready, u64::from(started) + 1);
        // Dropped: the same as stopped.
    }
    let broker = configured(place.path());
    let again = Config::load(None, Some(place.path().join("broker"))).unwrap();
    assert!(Embedded::start_with(again).unwrap_err().to_string().contains("already serves"));
    let connection = connect(broker.directory()).unwrap();
    let mut worker = connection.queue_consumer("q").open().unwrap();
    for expected in 0..3_u32 {
        let job = worker.recv().unwrap();
        assert_eq!(job.payload(), expected.to_le_bytes());
        job.ack().unwrap();
    }
}
