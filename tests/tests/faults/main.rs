//! What if the disk fails?
//!
//! Of two shards of one broker, the disk fails one: the other, and what is in memory, must not notice.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway_broker::Broker;
use ringway_broker::config::{Config, RuntimeChoice};
use ringway_client::{
    Connection, Durability, Producer, SharedConsumer, SharedSettings, StartAt, StreamKind, StreamSettings,
};
use ringway_tests::failing_disk::{FailingBroker, SEGMENT_BYTES};
use ringway_tests::kept::{KeptBroker, freeze, signal};
use ringway_tests::small_disk::SMALL_DISK;
use ringway_tests::{PATIENCE, Peer, TestBroker, connect, eventually};
use rustix::process::{Resource, Rlimit, Signal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const PEER: &str = env!("CARGO_BIN_EXE_ringway-test-peer");
const SYNCED: StreamSettings =
    StreamSettings { slots: 256, slot_bytes: 64, durability: Durability::Synced, ..StreamSettings::DEFAULT };
const MEMORY: StreamSettings = StreamSettings { durability: Durability::Memory, ..SYNCED };

/// A name of a stream that would be on a shard.
fn name_on(connection: &Connection, shard: u32, what: &str) -> String {
    let mut names = (0..).map(|number| format!("{what}-{number}"));
    let is_there = |name: &String| {
        let stream = connection.declare_stream(name, MEMORY).unwrap();
        connection.delete_stream(name).unwrap();
        stream.partitions[0].shard == shard
    };
    names.find(is_there).expect("names are many")
}

/// Declares a stream on a shard, and a subscription "all" to it.
fn declare_on(connection: &Connection, shard: u32, what: &str, settings: StreamSettings) -> String {
    let name = name_on(connection, shard, what);
    connection.declare_stream(&name, settings).unwrap();
    connection.declare_subscription(&name, "all", StartAt::First).unwrap();
    name
}

/// Publishes a number and waits until it is confirmed.
fn confirmed(producer: &mut Producer, number: u64) -> Result<(), String> {
    let sent = producer.send(&number.to_le_bytes()).map_err(|error| error.to_string())?;
    producer.confirm_timeout(sent, PATIENCE).map(drop).map_err(|error| error.to_string())
}

/// The next `count` numbers of a stream.
fn read(connection: &Connection, stream: &str, count: u64) -> Vec<u64> {
    let mut consumer = connection.consumer(stream, "all").open().unwrap();
    let mut numbers = Vec::new();
    for _ in 0..count {
        let message = consumer.recv_timeout(PATIENCE).unwrap().expect("it was confirmed");
        numbers.push(u64::from_le_bytes(message.payload().try_into().unwrap()));
    }
    numbers
}

/// One shard's journal fails when `fail` says so, and `why` is told: it alone, and for as long as the broker runs.
fn a_shard_fails_and_the_other_goes_on(
    runtime: RuntimeChoice,
    why: &str,
    fail: impl Fn(&mut FailingBroker, &mut Producer) -> String,
) {
    let mut broker = FailingBroker::start(PEER, runtime);
    let connection = broker.connect();
    let failing = declare_on(&connection, 0, "failing", SYNCED);
    let other = declare_on(&connection, 1, "other", SYNCED);
    let memory = declare_on(&connection, 0, "memory", MEMORY);
    let mut producers = [&failing, &other, &memory].map(|stream| connection.producer(stream).open().unwrap());
    for number in 0..5 {
        producers.iter_mut().for_each(|producer| confirmed(producer, number).unwrap());
    }
    let [to_failing, to_other, to_memory] = &mut producers;
    let said = fail(&mut broker, to_failing);
    let stopped = format!("its journal has stopped ({why}");
    assert!(said.contains(&stopped), "{said}");
    // For ever: what can be refused is refused, and whoever comes later hears it, too.
    let end = to_failing.confirmed()[0].position;
    assert!(end >= 5);
    for number in 5..20 {
        let refused = confirmed(to_failing, number).unwrap_err();
        assert!(refused.contains(&stopped) && refused.contains("restart the broker"), "{refused}");
        confirmed(to_other, number).unwrap();
        confirmed(to_memory, number).unwrap();
    }
    assert_eq!(to_failing.confirmed()[0].position, end);
    let info = connection.stream(&failing).unwrap();
    assert!(info.partitions[0].journal.as_ref().unwrap().contains(why), "{info:?}");
    assert_eq!(connection.stream(&other).unwrap().partitions[0].journal, None);
    let late = name_on(&connection, 0, "late");
    let refused = connection.declare_stream(&late, SYNCED).unwrap_err().to_string();
    assert!(refused.contains("durability synced cannot be had") && refused.contains(why), "{refused}");
    // A stream in memory of that shard can still be made, used and deleted.
    let new = declare_on(&connection, 0, "new", MEMORY);
    confirmed(&mut connection.producer(&new).open().unwrap(), 7).unwrap();
    assert_eq!(read(&connection, &new, 1), [7]);
    connection.delete_stream(&new).unwrap();
    assert_eq!(read(&connection, &memory, 20), (0..20).collect::<Vec<_>>());
    drop((producers, connection));

    broker.start_again(PEER);
    let connection = broker.connect();
    assert_eq!(read(&connection, &failing, end), (0..end).collect::<Vec<_>>());
    assert_eq!(read(&connection, &other, 20), (0..20).collect::<Vec<_>>());
    confirmed(&mut connection.producer(&failing).open().unwrap(), 99).unwrap();
}

#[test]
fn a_sync_that_fails_stops_one_shard_and_nothing_confirmed_is_missing() {
    let why = "a sync has failed: Input/output error";
    a_shard_fails_and_the_other_goes_on(RuntimeChoice::Threads, why, |broker, producer| {
        broker.fail("fdatasync", 0);
        confirmed(producer, 5).unwrap_err()
    });
}

#[test]
fn a_write_that_fails_stops_one_shard_and_nothing_confirmed_is_missing() {
    let why = "a write has failed: Input/output error";
    a_shard_fails_and_the_other_goes_on(RuntimeChoice::Threads, why, |broker, producer| {
        broker.fail("pwrite64", 0);
        confirmed(producer, 5).unwrap_err()
    });
}

/// Files of the broker may not grow beyond a byte that no batch ends at: the one that comes to it is written in part.
fn is_cut_short(runtime: RuntimeChoice) {
    let why = "a write has failed: 512 of 4096 bytes were written";
    a_shard_fails_and_the_other_goes_on(runtime, why, |broker, producer| {
        let limit = Some((512 << 10) + 512);
        let pid = rustix::process::Pid::from_raw(broker.pid().try_into().unwrap());
        rustix::process::prlimit(pid, Resource::Fsize, Rlimit { current: limit, maximum: limit }).unwrap();
        (5..).map(|number| confirmed(producer, number)).find_map(Result::err).unwrap()
    });
}

#[test]
fn a_short_write_by_io_uring_is_one_that_has_failed() {
    is_cut_short(RuntimeChoice::IoUring);
}

#[test]
fn a_short_write_by_threads_is_one_that_has_failed() {
    is_cut_short(RuntimeChoice::Threads);
}

/// A queue on shard 1 whose dead letters go to one on shard 0; both are synced, and their journals have a segment.
fn queue_with_dead_letters(connection: &Connection) -> (String, String) {
    let (dead, queue) = (name_on(connection, 0, "dead"), name_on(connection, 1, "queue"));
    let settings = StreamSettings { kind: StreamKind::Queue, ..SYNCED };
    connection.declare_queue(&dead, settings, SharedSettings::default()).unwrap();
    let shared = SharedSettings { dead_letter: Some(dead.clone()), ..SharedSettings::default() };
    connection.declare_queue(&queue, settings, shared).unwrap();
    let mut producer = connection.producer(&queue).open().unwrap();
    (0..3).for_each(|number| confirmed(&mut producer, number).unwrap());
    (dead, queue)
}

/// Rejects three messages.
fn reject(connection: &Connection, queue: &str) -> SharedConsumer {
    let mut consumer = connection.queue_consumer(queue).open().unwrap();
    for _ in 0..3 {
        consumer.recv_timeout(PATIENCE).unwrap().unwrap().reject().unwrap();
    }
    consumer
}

/// Takes three messages out of a queue, and finds no more.
fn take_three(connection: &Connection, queue: &str) -> [u64; 3] {
    let mut consumer = connection.queue_consumer(queue).open().unwrap();
    let mut found = [0; 3].map(|_| {
        let delivery = consumer.recv_timeout(PATIENCE).unwrap().expect("there are three");
        let number = u64::from_le_bytes(delivery.payload().try_into().unwrap());
        delivery.ack().unwrap();
        number
    });
    assert!(consumer.recv_timeout(Duration::from_millis(100)).unwrap().is_none());
    found.sort_unstable();
    found
}

fn has_failed(connection: &Connection, stream: &str) -> bool {
    connection.stream(stream).unwrap().partitions[0].journal.is_some()
}

#[test]
fn dead_letters_that_cannot_be_confirmed_are_kept_and_are_there_once_when_the_disk_is_in_order() {
    let mut broker = FailingBroker::start(PEER, RuntimeChoice::Threads);
    let connection = broker.connect();
    let (dead, queue) = queue_with_dead_letters(&connection);
    broker.fail("fdatasync", 0);
    let mut consumer = reject(&connection, &queue);
    consumer.confirm_settled(PATIENCE).unwrap();
    eventually("their journal has failed", || has_failed(&connection, &dead));
    let kept = |connection: &Connection| connection.subscription(&queue, &queue).unwrap().shared().dead;
    assert_eq!(kept(&connection), 3);
    drop((consumer, connection));

    broker.start_again(PEER);
    let connection = broker.connect();
    eventually("they are sent", || kept(&connection) == 0);
    // They had been written, too, and were never confirmed.
    assert_eq!(take_three(&connection, &dead), [0, 1, 2]);
}

#[test]
fn a_message_whose_death_cannot_be_journaled_is_not_among_the_dead_letters() {
    let mut broker = FailingBroker::start(PEER, RuntimeChoice::Threads);
    let connection = broker.connect();
    let (dead, queue) = queue_with_dead_letters(&connection);
    broker.fail("pwrite64", 1);
    let consumer = reject(&connection, &queue);
    eventually("its journal has failed", || has_failed(&connection, &queue));
    let mut letters = connection.queue_consumer(&dead).open().unwrap();
    assert!(letters.recv_timeout(Duration::from_millis(100)).unwrap().is_none());
    drop((letters, consumer, connection));

    broker.start_again(PEER);
    assert_eq!(take_three(&broker.connect(), &queue), [0, 1, 2]);
}

#[test]
fn letters_that_wait_for_a_journal_that_fails_leave_room_for_those_of_memory() {
    // A shard has 64 letters under way at the most.
    const DEAD: u64 = 100;
    let mut broker = FailingBroker::start(PEER, RuntimeChoice::Threads);
    let connection = broker.connect();
    let taken = [(SYNCED, "synced"), (MEMORY, "memory")].map(|(settings, what)| {
        let (dead, queue) = (name_on(&connection, 0, &format!("{what}.dead")), name_on(&connection, 1, what));
        let settings = StreamSettings { kind: StreamKind::Queue, ..settings };
        connection.declare_queue(&dead, settings, SharedSettings::default()).unwrap();
        let shared = SharedSettings { dead_letter: Some(dead.clone()), ..SharedSettings::default() };
        connection.declare_queue(&queue, settings, shared).unwrap();
        let mut producer = connection.producer(&queue).open().unwrap();
        (0..DEAD).for_each(|number| confirmed(&mut producer, number).unwrap());
        let mut consumer = connection.queue_consumer(&queue).open().unwrap();
        let mut next = || consumer.recv_timeout(PATIENCE).unwrap().unwrap().keep();
        let leased: Vec<_> = (0..DEAD).map(|_| next()).collect();
        (dead, queue, consumer, leased)
    });
    let queue = taken[0].1.clone();
    // Nothing more is written by itself: what is idle has said so.
    std::thread::sleep(Duration::from_millis(300));
    broker.fail("pwrite64", 1);
    assert!(!has_failed(&connection, &queue));
    // The shard finds all of them at once.
    freeze(broker.pid());
    let [_, (dead, _, _consumer, _)] = taken.map(|(dead, queue, mut consumer, leased)| {
        leased.iter().for_each(|leased| consumer.reject(leased).unwrap());
        (dead, queue, consumer, leased)
    });
    signal(broker.pid(), Signal::CONT);
    eventually("its journal has failed", || has_failed(&connection, &queue));
    let mut letters = connection.queue_consumer(&dead).open().unwrap();
    let mut next = || {
        let delivery = letters.recv_timeout(PATIENCE).unwrap().expect("its death needs no journal");
        let number = u64::from_le_bytes(delivery.payload().try_into().unwrap());
        delivery.ack().unwrap();
        number
    };
    assert_eq!((0..DEAD).map(|_| next()).collect::<BTreeSet<_>>(), (0..DEAD).collect());
}

/// A broker that would write journals in `data`.
fn start_on(data: &Path) -> Result<Broker, String> {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::load(None, Some(directory.path().join("broker"))).unwrap();
    config.data = data.to_owned();
    Broker::start(config).map_err(|error| error.to_string())
}

/// Every file of a shard's journal, but its lock, which says who has looked at it last.
fn files(shard: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| !path.ends_with("lock"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

/// What a broker that was stopped has left: a stream "s" with a message.
fn journal_with_a_message() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let own = data.path().to_owned();
    let broker = TestBroker::start_with(|config| {
        config.data = own;
        config.segment_bytes = SEGMENT_BYTES;
    });
    let connection = connect(broker.path()).unwrap();
    connection.declare_stream("s", SYNCED).unwrap();
    confirmed(&mut connection.producer("s").open().unwrap(), 1).unwrap();
    drop(connection);
    broker.stop();
    data
}

#[test]
fn a_newer_format_is_refused_with_both_versions_and_nothing_is_changed() {
    // Where the version is in a file's header; everything from byte 16 on is in the checksum, which the magic seeds.
    for (kind, checked) in [("segment-", Some(4096)), ("snapshot-", None)] {
        let data = journal_with_a_message();
        let shard = data.path().join("shard-0");
        let (path, mut bytes) =
            files(&shard).into_iter().find(|(path, _)| path.display().to_string().contains(kind)).unwrap();
        let magic = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let reads = u32::from_le_bytes(bytes[16..20].try_into().unwrap());
        bytes[16..20].copy_from_slice(&(reads + 1).to_le_bytes());
        let checksum = xxh3_64_with_seed(&bytes[16..checked.unwrap_or(bytes.len())], magic);
        bytes[8..16].copy_from_slice(&checksum.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let before = files(&shard);
        let refused = start_on(data.path()).err().expect("it cannot be read");
        let (next, end) = (reads + 1, "use the one that wrote it");
        let says = format!("it has format version {next}, and this ringway reads version {reads}: {end}");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(refused.contains(&says) && refused.contains(name), "{refused}");
        assert!(files(&shard) == before, "a file was changed, made or removed");
        if kind == "segment-" {
            let into = data.path().join("salvaged");
            let refused = ringway_broker::salvage::salvage(data.path(), &into).unwrap_err().to_string();
            assert!(refused.contains(&says), "{refused}");
            assert!(!into.exists(), "of what cannot be read nothing is made");
        }
    }
}

#[test]
fn a_journal_on_a_read_only_file_system_is_refused_with_what_to_do() {
    let data = journal_with_a_message();
    let (directory, at) = (tempfile::tempdir().unwrap(), data.path().to_str().unwrap());
    let served = directory.path().join("broker");
    let mut peer = Peer::start(PEER, &["read-only", served.to_str().unwrap(), at]);
    let refused = peer.line();
    assert!(refused.contains(&format!("the journal in {at}/shard-0")), "{refused}");
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert!(refused.contains("make it writable, or give another --data"), "{refused}");
    // Where there is no journal yet, durable streams are refused, and the others go on.
    let data = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(PEER, &["read-only", served.to_str().unwrap(), data.path().to_str().unwrap()]);
    assert_eq!(peer.line(), "serving");
    let connection = connect(&served).unwrap();
    let refused = connection.declare_stream("s", SYNCED).unwrap_err().to_string();
    assert!(
        refused.contains("Read-only file system") && refused.contains("give another --data"),
        "{refused}"
    );
    connection.declare_stream("s", MEMORY).unwrap();
    confirmed(&mut connection.producer("s").open().unwrap(), 1).unwrap();
}

/// A queue "q" and a stream "m" in memory of a broker that has a small disk of its own, and their producers.
struct OnSmallDisk {
    broker: KeptBroker,
    connection: Connection,
    memory: Producer,
    producer: Producer,
    next: u64,
    /// Where the journals can be seen from here.
    data: PathBuf,
}

impl OnSmallDisk {
    fn start() -> Self {
        let disk = (SMALL_DISK, (24_u64 << 20).to_string());
        let broker = KeptBroker::start_with(Path::new(PEER), &[disk]);
        let connection = broker.connect();
        let settings = StreamSettings { kind: StreamKind::Queue, slots: 1024, ..SYNCED };
        connection.declare_queue("q", settings, SharedSettings::default()).unwrap();
        connection.declare_stream("m", MEMORY).unwrap();
        connection.declare_subscription("m", "all", StartAt::First).unwrap();
        let memory = connection.producer("m").open().unwrap();
        let producer = connection.producer("q").open().unwrap();
        let root = PathBuf::from(format!("/proc/{}/root", broker.keeper_pid()));
        let data = root.join(broker.path().strip_prefix("/").unwrap()).join("data");
        Self { broker, connection, memory, producer, next: 0, data }
    }

    /// Publishes until there is no room; returns the number of which nothing is known.
    fn fill(&mut self) -> u64 {
        let mut payload = vec![0; 60_000];
        loop {
            let number = self.next;
            self.next += 1;
            payload[..8].copy_from_slice(&number.to_le_bytes());
            let sent = self.producer.send(&payload).map_err(|error| error.to_string());
            let confirm =
                |sent| self.producer.confirm_timeout(sent, PATIENCE).map_err(|error| error.to_string());
            if let Err(why) = sent.and_then(confirm) {
                assert!(why.contains("there is no room for its journal"), "{why}");
                return number;
            }
        }
    }

    /// Consumes until these were among what was consumed so far.
    fn consume(&self, wanted: &BTreeSet<u64>, numbers: &mut BTreeSet<u64>) {
        let mut consumer = self.connection.queue_consumer("q").open().unwrap();
        while !numbers.is_superset(wanted) {
            let delivery = consumer.recv_timeout(PATIENCE).unwrap().expect("it was confirmed");
            numbers.insert(u64::from_le_bytes(delivery.payload()[..8].try_into().unwrap()));
            delivery.ack().unwrap();
        }
        consumer.confirm_settled(PATIENCE).unwrap();
    }

    fn works_again(&self) {
        eventually("there is room again", || {
            let mut producer = self.connection.producer("q").open().unwrap();
            let sent = producer.send(&u64::MAX.to_le_bytes());
            sent.is_ok_and(|sent| producer.confirm_timeout(sent, Duration::from_millis(500)).is_ok())
        });
    }
}

#[test]
fn a_broker_that_is_killed_again_and_again_on_a_full_disk_is_succeeded_and_can_be_drained() {
    let mut disk = OnSmallDisk::start();
    let mut unconfirmed = BTreeSet::new();
    for round in 0..3 {
        unconfirmed.insert(disk.fill());
        // Some are killed before they are ready, some when they have looked at their disk.
        for kill in 0..4 {
            disk.broker.succeed();
            if kill % 2 == round % 2 {
                confirmed(&mut disk.memory, kill).unwrap();
                assert!(disk.connection.stream("q").unwrap().partitions[0].opened);
            }
        }
    }
    let confirmed = (0..disk.next).filter(|number| !unconfirmed.contains(number)).collect();
    disk.consume(&confirmed, &mut BTreeSet::new());
    disk.works_again();
    assert_eq!(read(&disk.connection, "m", 6).len(), 6);
}

#[test]
fn a_broker_without_room_for_a_segment_of_its_own_serves_memory_and_goes_on_when_there_is_room() {
    let mut disk = OnSmallDisk::start();
    let ballast = disk.data.join("ballast");
    std::fs::write(&ballast, vec![1; 5 << 20]).unwrap();
    let unconfirmed = disk.fill();
    disk.broker.succeed();
    // It has taken the reserve, and needs it for this; nothing can be given up for it.
    let mut consumed = BTreeSet::new();
    disk.consume(&(0..3).collect(), &mut consumed);
    disk.broker.succeed();
    for number in 0..3 {
        confirmed(&mut disk.memory, number).unwrap();
    }
    assert_eq!(read(&disk.connection, "m", 3), [0, 1, 2]);
    let why = || disk.connection.stream("q").unwrap().partitions[0].journal.clone().unwrap_or_default();
    eventually("it says why", || why().contains("No space left on device"));
    assert_eq!(disk.fill(), unconfirmed + 1, "it takes no message");
    let new = name_on(&disk.connection, 0, "new");
    disk.connection.declare_stream(&new, MEMORY).unwrap();
    std::fs::remove_file(&ballast).unwrap();
    disk.works_again();
    disk.consume(&(0..unconfirmed).collect(), &mut consumed);
}
