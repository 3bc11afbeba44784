//! What is still there when the rings are gone?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::path::Path;
use std::time::Duration;

use ringway_broker::Broker;
use ringway_broker::config::{Config, RuntimeChoice};
use ringway_broker::inspection::{FileKind, Journal, LogMessage};
use ringway_broker::salvage::{SalvageError, salvage};
use ringway_client::{
    AttributeMap, Backoff, ConfirmError, Connection, CursorSettings, Durability, Outgoing, Position,
    Producer, SendError, SharedSettings, StartAt, StreamKind, StreamSettings, SubscriptionMode, Visibility,
};
use ringway_tests::durable::{self, LIGHT};
use ringway_tests::kept::{KeptBroker, signal};
use ringway_tests::small_disk::SMALL_DISK;
use ringway_tests::tasks::block_on;
use ringway_tests::without_io_uring::WITHOUT_IO_URING;
use ringway_tests::{PATIENCE, TestBroker, connect, eventually};
use rustix::process::Signal;

const USUAL: StreamSettings =
    StreamSettings { slots: 64, slot_bytes: 64, durability: Durability::Synced, ..StreamSettings::DEFAULT };

/// A broker whose journals outlive it, and what ends its rings: it is stopped, and another one started.
struct Host {
    data: tempfile::TempDir,
    runtime: RuntimeChoice,
    broker: Option<TestBroker>,
}

impl Host {
    fn new(runtime: RuntimeChoice) -> Self {
        let mut host = Self { data: tempfile::tempdir().unwrap(), runtime, broker: None };
        host.start();
        host
    }

    fn start(&mut self) {
        let (data, runtime) = (self.data.path().to_owned(), self.runtime);
        self.broker = Some(TestBroker::start_with(|config| {
            config.data = data;
            config.runtime = runtime;
            config.segment_bytes = 4 << 20;
        }));
    }

    fn lose_rings(&mut self) {
        self.broker.take().unwrap().stop();
        self.start();
    }

    fn connect(&self) -> Connection {
        connect(self.broker.as_ref().unwrap().path()).unwrap()
    }
}

/// Asks each question on both runtimes.
macro_rules! on_both_runtimes {
    ($($question:ident,)*) => {
        mod by_io_uring {
            $(#[test]
            fn $question() {
                super::$question(super::RuntimeChoice::IoUring);
            })*
        }
        mod by_threads {
            $(#[test]
            fn $question() {
                super::$question(super::RuntimeChoice::Threads);
            })*
        }
    };
}

on_both_runtimes! {
    what_is_confirmed_is_read_back_when_the_rings_are_gone,
    brokers_are_killed_and_nothing_confirmed_is_missing_and_nothing_settled_comes_back,
    without_subscriptions_a_durable_stream_keeps_its_last_messages_too,
    a_queue_goes_on_where_it_was,
    a_message_over_several_segments_keeps_each_of_them,
    what_was_settled_stays_settled_and_deleted_streams_stay_deleted,
}

fn a_message_over_several_segments_keeps_each_of_them(runtime: RuntimeChoice) {
    let mut host = Host::new(runtime);
    let large: Vec<u8> = (0..10 << 20_u32).map(|byte: u32| (byte / 13) as u8).collect();
    let connection = host.connect();
    connection.declare_queue("q", USUAL, SharedSettings::default()).unwrap();
    let mut producer = connection.producer("q").open().unwrap();
    let position = producer.send(&large).unwrap();
    producer.confirm(position).unwrap();
    drop((producer, connection));
    // Each start has a snapshot of its own, and gives up what is not needed.
    for _ in 0..4 {
        let connection = host.connect();
        let mut producer = connection.producer("q").open().unwrap();
        let position = producer.send(b"small").unwrap();
        producer.confirm(position).unwrap();
        let mut worker = connection.queue_consumer("q").open().unwrap();
        let mut both = [(); 2].map(|()| worker.recv_timeout(PATIENCE).unwrap().unwrap().keep());
        both.sort_by_key(|message| message.payload().len());
        assert!(both[0].payload() == b"small" && both[1].payload() == large);
        worker.ack(&both[0]).unwrap();
        worker.confirm_settled(PATIENCE).unwrap();
        drop((producer, worker, connection));
        host.lose_rings();
    }
    let connection = host.connect();
    let mut worker = connection.queue_consumer("q").open().unwrap();
    assert!(worker.recv().unwrap().payload() == large);
}

fn what_is_confirmed_is_read_back_when_the_rings_are_gone(runtime: RuntimeChoice) {
    let mut host = Host::new(runtime);
    for round in 0..3_u64 {
        let connection = host.connect();
        connection.declare_stream("s", USUAL).unwrap();
        connection.declare_subscription("s", "all", StartAt::First).unwrap();
        let mut producer = connection.producer("s").open().unwrap();
        let mut last = None;
        for number in 0..10 {
            last = Some(producer.send(&(round * 10 + number).to_le_bytes()).unwrap());
        }
        // One that does not fit a slot, and one that does not fit a batch.
        producer.send(&vec![round as u8; 5000]).unwrap();
        producer.send(&vec![round as u8; 2 << 20]).unwrap();
        assert_eq!(producer.confirm(last.unwrap()).unwrap(), Durability::Synced);
        producer.confirm_all_timeout(PATIENCE).unwrap();
        assert!(producer.is_confirmed(last.unwrap()));
        drop((producer, connection));
        host.lose_rings();
        let connection = host.connect();
        let mut consumer = connection.consumer("s", "all").open().unwrap();
        for number in 0..10 {
            let message = consumer.recv_timeout(PATIENCE).unwrap().expect("it was confirmed");
            assert_eq!(message.payload(), (round * 10 + number).to_le_bytes());
            assert_eq!(message.position(), round * 12 + number);
        }
        assert_eq!(consumer.recv_timeout(PATIENCE).unwrap().unwrap().payload(), vec![round as u8; 5000]);
        assert_eq!(consumer.recv_timeout(PATIENCE).unwrap().unwrap().payload(), vec![round as u8; 2 << 20]);
        consumer.confirm_commit(PATIENCE).unwrap();
    }
}

fn brokers_are_killed_and_nothing_confirmed_is_missing_and_nothing_settled_comes_back(
    runtime: RuntimeChoice,
) {
    let denied = [(WITHOUT_IO_URING, String::new())];
    let environment = if runtime == RuntimeChoice::Threads { &denied[..] } else { &[] };
    let peer = Path::new(env!("CARGO_BIN_EXE_ringway-test-peer"));
    let report = durable::campaign(peer, &LIGHT, environment, 12, 4, 7);
    assert!(report.is_whole(), "{report:?}");
    assert!(report.confirmed > 100 && report.settled > 100 && report.losses == 3, "{report:?}");
}

fn without_subscriptions_a_durable_stream_keeps_its_last_messages_too(runtime: RuntimeChoice) {
    let mut host = Host::new(runtime);
    let connection = host.connect();
    connection.declare_stream("s", USUAL).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    for number in 0..100_u64 {
        producer.send(&number.to_le_bytes()).unwrap();
    }
    producer.confirm_all_timeout(PATIENCE).unwrap();
    drop((producer, connection));
    for lost in [false, true] {
        if lost {
            host.lose_rings();
        }
        let connection = host.connect();
        let name = format!("lost-{lost}");
        connection.declare_subscription("s", &name, StartAt::First).unwrap();
        let mut consumer = connection.consumer("s", &name).open().unwrap();
        for number in 36..100_u64 {
            let message = consumer.recv_timeout(PATIENCE).unwrap().expect("the ring holds 64");
            assert_eq!(message.payload(), number.to_le_bytes(), "lost: {lost}");
        }
    }
}

fn a_queue_goes_on_where_it_was(runtime: RuntimeChoice) {
    let mut host = Host::new(runtime);
    let connection = host.connect();
    let backoff = Backoff { initial_ms: 1, ..Backoff::default() };
    let shared = SharedSettings { attempts_max: 3, backoff, ..SharedSettings::default() };
    connection.declare_queue("q", StreamSettings { kind: StreamKind::Queue, ..USUAL }, shared).unwrap();
    let mut producer = connection.producer("q").open().unwrap();
    for number in 0..8_u64 {
        producer.send(&number.to_le_bytes()).unwrap();
    }
    producer.confirm_all_timeout(PATIENCE).unwrap();
    let mut consumer = connection.shared_consumer("q", "q").open().unwrap();
    for number in 0..6_u64 {
        let delivery = consumer.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(delivery.payload(), number.to_le_bytes());
        match number {
            // Two are settled, one of them out of order; one fails; the others are kept.
            0 | 4 => delivery.ack().unwrap(),
            2 => delivery.nack_after(Duration::from_secs(3600)).unwrap(),
            _ => drop(delivery.keep()),
        }
    }
    consumer.confirm_settled(PATIENCE).unwrap();
    drop((consumer, producer, connection));
    host.lose_rings();
    let connection = host.connect();
    let info = connection.subscription("q", "q").unwrap().shared();
    assert_eq!((info.ready, info.delayed, info.dead), (5, 1, 0), "{info:?}");
    let mut consumer = connection.shared_consumer("q", "q").open().unwrap();
    let mut found = Vec::new();
    for _ in 0..5 {
        let delivery = consumer.recv_timeout(PATIENCE).unwrap().unwrap();
        found.push(u64::from_le_bytes(delivery.payload().try_into().unwrap()));
        delivery.ack().unwrap();
    }
    found.sort_unstable();
    assert_eq!(found, [1, 3, 5, 6, 7]);
    assert!(consumer.recv_timeout(Duration::from_millis(50)).unwrap().is_none());
}

#[test]
fn a_producer_that_comes_back_learns_where_it_was() {
    let mut host = Host::new(RuntimeChoice::Auto);
    let connection = host.connect();
    let partitions = 3;
    for (name, durability) in [("s", Durability::Synced), ("m", Durability::Memory)] {
        connection.declare_stream(name, StreamSettings { partitions, durability, ..USUAL }).unwrap();
    }
    let open =
        |connection: &Connection, stream: &str, name: &str| connection.producer(stream).name(name).open();
    let large = vec![7; 40 << 10];
    let mut map = AttributeMap::new();
    map.insert("larger than a slot", &large[..]).unwrap();
    // What the stream holds of a producer, of one that has never been there, and of one without a name.
    for stream in ["s", "m"] {
        let mut other = open(&connection, stream, "other").unwrap();
        let mut producer = open(&connection, stream, "importer").unwrap();
        let mut nobody = connection.producer(stream).open().unwrap();
        assert_eq!((producer.next_sequence(), nobody.next_sequence()), (Some(0), None));
        assert_eq!(producer.sent(), [None; 3]);
        for number in 0..8_u64 {
            // Some with attributes and payloads that do not fit a slot.
            let message = Outgoing::new(if number % 3 == 1 { &large } else { b"small" });
            let message = if number % 4 == 0 { message.map(&map) } else { message };
            producer.send(message).unwrap();
            other.send(b"of another").unwrap();
            nobody.send(b"of nobody").unwrap();
        }
        producer.confirm_all_timeout(PATIENCE).unwrap();
        let error = nobody.send(Outgoing::new(b"x").sequence(3)).unwrap_err();
        assert!(matches!(error, SendError::NoName { sequence: 3, .. }), "{error}");
        let refused = open(&connection, stream, "importer").unwrap_err().to_string();
        let pid = std::process::id();
        assert!(
            refused.contains(&format!("producer importer of stream {stream} is open in process {pid}")),
            "{refused}"
        );
    }
    let sequences = |producer: &Producer| -> Vec<_> {
        producer.sent().iter().map(|sent| sent.map(|sent| sent.sequence)).collect()
    };
    for stream in ["s", "m"] {
        let mut producer = open(&connection, stream, "importer").unwrap();
        assert_eq!(sequences(&producer), [Some(6), Some(7), Some(5)], "{stream}");
        assert_eq!(producer.next_sequence(), Some(8));
        // Everything once more, and what is new: message 8 is of the partition of messages 2 and 5.
        let again: Vec<_> = (0..10_u64)
            .map(|number| producer.send(Outgoing::new(b"again").sequence(number)))
            .map(|sent| match sent {
                Ok(_) => true,
                Err(SendError::AlreadySent { .. }) => false,
                Err(error) => panic!("{error}"),
            })
            .collect();
        assert_eq!(again, [[false; 8].as_slice(), &[true, true]].concat(), "{stream}");
        producer.confirm_all_timeout(PATIENCE).unwrap();
    }
    drop(connection);
    for lost in 1..=3 {
        host.lose_rings();
        let connection = host.connect();
        let mut producer = open(&connection, "s", "importer").unwrap();
        let last = 6 + 3 * lost;
        assert_eq!(sequences(&producer), [Some(last), Some(last - 2), Some(last - 1)]);
        // The last of the first partition again, and one more of each, in turn.
        (last..last + 4).for_each(|number| match producer.send(Outgoing::new(b"new").sequence(number)) {
            Ok(_) | Err(SendError::AlreadySent { .. }) => {}
            Err(error) => panic!("{error}"),
        });
        producer.confirm_all_timeout(PATIENCE).unwrap();
        // Its messages have left the rings by then.
        let mut other = open(&connection, "s", "other").unwrap();
        for _ in 0..3 * USUAL.slots {
            other.send(b"of another").unwrap();
        }
        other.confirm_all_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn a_message_can_ask_for_more_than_its_stream_gives_and_is_not_confirmed_before() {
    let host = Host::new(RuntimeChoice::Auto);
    let connection = host.connect();
    connection.declare_stream("s", StreamSettings { durability: Durability::Written, ..USUAL }).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut large = vec![0; 3 << 20];
    for round in 0..20_u64 {
        producer.send(&round.to_le_bytes()).unwrap();
        let position = producer.send(Outgoing::new(b"more").durability(Durability::Synced)).unwrap();
        producer.send(b"behind it").unwrap();
        assert_eq!(producer.confirm_timeout(position, PATIENCE).unwrap(), Durability::Synced);
        // One that takes several batches.
        large[0] = round as u8;
        let raised = Outgoing::new(&large).durability(Durability::Synced);
        let position = producer.send(raised).unwrap();
        assert_eq!(producer.confirm_timeout(position, PATIENCE).unwrap(), Durability::Synced);
        assert!(producer.is_confirmed(position));
    }
    connection.declare_stream("m", StreamSettings { durability: Durability::Memory, ..USUAL }).unwrap();
    let mut producer = connection.producer("m").open().unwrap();
    for level in [Durability::Written, Durability::Synced] {
        let refused = producer.send(Outgoing::new(b"x").durability(level)).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("durability {} cannot be had on stream m", level.name())),
            "{refused}"
        );
    }
    assert_eq!(producer.positions()[0].position, 0, "nothing was published");
}

#[test]
fn confirmations_are_futures_that_one_thread_wakes_and_that_outlive_their_producer() {
    let broker = KeptBroker::start(Path::new(env!("CARGO_BIN_EXE_ringway-test-peer")));
    let connection = broker.connect();
    for (name, durability) in [("written", Durability::Written), ("synced", Durability::Synced)] {
        let settings = StreamSettings { partitions: 4, durability, ..USUAL };
        connection.declare_stream(name, settings).unwrap();
    }
    std::thread::scope(|scope| {
        for (name, level) in [("written", Durability::Written), ("synced", Durability::Synced)] {
            let connection = &connection;
            scope.spawn(move || {
                let mut producer = connection.producer(name).open().unwrap();
                // More at a time than a sleep takes bells, and some that nobody waits for in the end.
                let confirmations: Vec<_> = (0..200_u64)
                    .map(|number| {
                        let position = producer.send(&number.to_le_bytes()).unwrap();
                        drop(producer.confirmation(position).unwrap());
                        producer.confirmation(position).unwrap()
                    })
                    .collect();
                for confirmation in confirmations {
                    assert!(block_on(confirmation).unwrap() >= level);
                }
                // Of all partitions, and of a producer that is closed by then.
                let all = producer.confirmation_of_all().unwrap();
                let position = producer.send(b"the last").unwrap();
                let last = producer.confirmation(position).unwrap();
                producer.close().unwrap();
                assert!(block_on(all).unwrap() >= level && block_on(last).unwrap() >= level);
            });
        }
    });
    // One that has to wait, for a broker that does nothing; and one that is asleep when the broker is succeeded.
    let mut producer = connection.producer("synced").open().unwrap();
    for succeed in [false, true] {
        broker.freeze();
        let position = producer.send(b"while it is stopped").unwrap();
        let waiting = producer.confirmation(position).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| block_on(waiting));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished() && !producer.is_confirmed(position));
            if succeed {
                broker.succeed();
            } else {
                signal(broker.pid(), Signal::CONT);
            }
            assert_eq!(waiting.join().unwrap().unwrap(), Durability::Synced);
        });
    }
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    assert_eq!(names.filter(|name| name.trim() == "ringway-reactor").count(), 1);
    let unknown = Position { partition: 4, position: 0 };
    assert!(matches!(producer.confirmation(unknown), Err(ConfirmError::Partition { partitions: 4, .. })));
    // When there is no broker any more.
    broker.freeze();
    let position = producer.send(b"never confirmed").unwrap();
    let never = producer.confirmation(position).unwrap();
    let mut broker = broker;
    broker.lose_everything();
    assert!(matches!(block_on(never), Err(ConfirmError::Disconnected { .. })));
}

#[test]
fn a_durable_visibility_delivers_what_is_synced_and_wakes_when_it_is() {
    let broker = KeptBroker::start(Path::new(env!("CARGO_BIN_EXE_ringway-test-peer")));
    let connection = broker.connect();
    connection.declare_stream("s", USUAL).unwrap();
    connection.declare_subscription("s", "all", StartAt::First).unwrap();
    let durable = CursorSettings { visibility: Visibility::Durable };
    let in_order = SubscriptionMode::Cursor(durable);
    connection.declare_subscription_as("s", "in order", StartAt::First, in_order.clone()).unwrap();
    let each = SharedSettings { visibility: Visibility::Durable, ..SharedSettings::default() };
    connection.declare_shared_subscription("s", "each", StartAt::First, each.clone()).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut at_once = connection.consumer("s", "all").open().unwrap();
    let mut in_order = connection.consumer("s", "in order").open().unwrap();
    let mut each = connection.shared_consumer("s", "each").open().unwrap();
    for round in 0..3_u64 {
        // A broker that is stopped syncs nothing; what was on its way before has been confirmed.
        broker.freeze();
        producer.send(&round.to_le_bytes()).unwrap();
        assert_eq!(at_once.recv_timeout(PATIENCE).unwrap().unwrap().payload(), round.to_le_bytes());
        assert!(in_order.recv_timeout(Duration::from_millis(20)).unwrap().is_none());
        assert!(each.recv_timeout(Duration::from_millis(20)).unwrap().is_none());
        // Asleep by now: the sync must wake them.
        let (to_wake, to_wake_too) = (&mut in_order, &mut each);
        std::thread::scope(|scope| {
            let received = scope.spawn(move || {
                let position = to_wake.recv().unwrap().position();
                to_wake.confirm_commit(PATIENCE).unwrap();
                position
            });
            let received_too = scope.spawn(move || {
                let delivery = to_wake_too.recv().unwrap();
                let position = delivery.position();
                delivery.ack().unwrap();
                position
            });
            std::thread::sleep(Duration::from_millis(50));
            signal(broker.pid(), Signal::CONT);
            assert_eq!(received.join().unwrap(), round);
            assert_eq!(received_too.join().unwrap().position, round);
        });
        assert!(producer.confirmed()[0].position > round);
        // A successor goes on so.
        if round == 1 {
            at_once.confirm_commit(PATIENCE).unwrap();
            broker.succeed();
            producer.confirm_all_timeout(PATIENCE).unwrap();
        }
    }
    let info = connection.subscription("s", "in order").unwrap();
    assert_eq!(info.mode, SubscriptionMode::Cursor(durable));
    let refused = connection.declare_subscription("s", "in order", StartAt::First).unwrap_err().to_string();
    assert!(refused.contains("exists with visibility durable, not committed"), "{refused}");
    connection.declare_stream("m", StreamSettings { durability: Durability::Memory, ..USUAL }).unwrap();
    let mode = SubscriptionMode::Cursor(durable);
    let refused = connection.declare_subscription_as("m", "d", StartAt::First, mode).unwrap_err().to_string();
    assert!(refused.contains("stream m is of durability memory"), "{refused}");
}

#[test]
fn another_number_of_shards_is_refused() {
    let mut host = Host::new(RuntimeChoice::Auto);
    host.connect().declare_stream("s", USUAL).unwrap();
    host.broker.take().unwrap().stop();
    std::fs::write(host.data.path().join("shards"), "7\n").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::load(None, Some(directory.path().join("broker"))).unwrap();
    config.data = host.data.path().to_owned();
    let refused = Broker::start(config).err().expect("streams would be looked for elsewhere").to_string();
    assert!(refused.contains("are of 7 shards, and 1 are configured"), "{refused}");
}

#[test]
fn a_data_directory_that_another_broker_writes_is_refused_and_that_one_named() {
    let host = Host::new(RuntimeChoice::Auto);
    let connection = host.connect();
    connection.declare_stream("s", USUAL).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::load(None, Some(directory.path().join("broker"))).unwrap();
    config.data = host.data.path().to_owned();
    let refused = Broker::start(config).err().expect("it is being written").to_string();
    let named = format!("process {} writes this journal", std::process::id());
    assert!(refused.contains(&named), "{refused}");
    let mut producer = connection.producer("s").open().unwrap();
    producer.send(b"it goes on").unwrap();
    producer.confirm_all_timeout(PATIENCE).unwrap();
}

#[test]
fn a_directory_that_cannot_be_written_is_said_and_memory_streams_go_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let data = file.path().to_owned();
    let broker = TestBroker::start_with(|config| config.data = data);
    let connection = connect(broker.path()).unwrap();
    let refused = connection.declare_stream("s", USUAL).unwrap_err().to_string();
    assert!(refused.contains("durability synced cannot be had"), "{refused}");
    connection.declare_stream("s", StreamSettings { durability: Durability::Memory, ..USUAL }).unwrap();
}

#[test]
fn a_damaged_journal_is_refused_with_what_is_missing() {
    let mut host = Host::new(RuntimeChoice::Auto);
    let connection = host.connect();
    connection.declare_stream("s", USUAL).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    for _ in 0..3 {
        producer.send(b"x").unwrap();
        producer.confirm_all_timeout(PATIENCE).unwrap();
    }
    drop((producer, connection));
    host.broker.take().unwrap().stop();
    let shard = host.data.path().join("shard-0");
    for entry in std::fs::read_dir(&shard).unwrap() {
        let path = entry.unwrap().path();
        // Without snapshots the log is read from its beginning.
        if path.file_name().unwrap().to_str().unwrap().starts_with("snapshot") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let segment = shard.join("segment-0000000000000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4096 + 300] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::load(None, Some(directory.path().join("broker"))).unwrap();
    config.data = host.data.path().to_owned();
    let refused = Broker::start(config).err().expect("something is missing").to_string();
    assert!(refused.contains("is damaged: records 0 to"), "{refused}");
}

fn what_was_settled_stays_settled_and_deleted_streams_stay_deleted(runtime: RuntimeChoice) {
    let mut host = Host::new(runtime);
    let connection = host.connect();
    connection.declare_stream("gone", USUAL).unwrap();
    connection.declare_stream("s", USUAL).unwrap();
    connection.declare_stream("memory", StreamSettings::DEFAULT).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    connection.declare_subscription("s", "b", StartAt::First).unwrap();
    connection.delete_stream("gone").unwrap();
    connection.delete_subscription("s", "b").unwrap();
    drop(connection);
    host.lose_rings();
    let connection = host.connect();
    let names: Vec<_> = connection.streams().unwrap().into_iter().map(|stream| stream.name).collect();
    assert_eq!(names, ["s"]);
    let subscriptions = connection.subscriptions("s").unwrap();
    assert_eq!(subscriptions.len(), 1);
    assert_eq!(subscriptions[0].name, "a");
}

/// What is shown of a data directory: payloads, the records that they are in, and what is missing.
fn shown(data: &Path) -> (Vec<String>, Vec<u64>, Vec<String>) {
    let (mut payloads, mut records, mut damage) = (Vec::new(), Vec::new(), Vec::new());
    for journal in Journal::all(data).unwrap() {
        let mut each = |message: LogMessage<'_>| {
            records.push(message.lsn);
            payloads.push(format!(
                "{}:{}={}",
                message.stream.unwrap(),
                message.position,
                message.payload.escape_ascii()
            ));
            true
        };
        journal.messages(&mut each, &mut |error| damage.push(error.to_string())).unwrap();
    }
    (payloads, records, damage)
}

fn damage_found(data: &Path) -> Vec<String> {
    let journals = Journal::all(data).unwrap();
    journals.iter().flat_map(|journal| journal.verify(&mut |_, _| ()).unwrap().damage).collect()
}

#[test]
fn a_journal_is_shown_and_verified_from_outside_and_damage_hides_nothing_else() {
    let mut host = Host::new(RuntimeChoice::Auto);
    let data = host.data.path().to_owned();
    let connection = host.connect();
    connection.declare_stream("s", USUAL).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    for number in 0..4 {
        producer.send(format!("number {number}").as_bytes()).unwrap();
        producer.confirm_all_timeout(PATIENCE).unwrap();
    }
    let all = ["s:0=number 0", "s:1=number 1", "s:2=number 2", "s:3=number 3"];
    let journal = &Journal::all(&data).unwrap()[0];
    assert!(journal.is_live());
    let (payloads, records, damage) = shown(&data);
    assert_eq!((payloads, damage), (all.map(str::to_owned).to_vec(), vec![]));
    assert_eq!(damage_found(&data), Vec::<String>::new());
    drop((producer, connection));
    host.broker.take().unwrap().stop();
    // The kernel lets go of the lock a little later.
    eventually("nobody holds the lock", || !Journal::all(&data).unwrap()[0].is_live());
    let journal = &Journal::all(&data).unwrap()[0];
    let streams = journal.streams().unwrap();
    assert_eq!((streams[0].stream.as_str(), streams[0].messages, streams[0].end), ("s", 4, 4));
    assert_eq!(journal.verify(&mut |_, _| ()).unwrap().messages, 4);

    let segment = data.join("shard-0/segment-0000000000000001");
    let whole = std::fs::read(&segment).unwrap();
    let at = whole.windows(8).position(|bytes| bytes == b"number 1").unwrap();
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    let (payloads, _, damage) = shown(&data);
    assert_eq!(payloads, [all[0], all[2], all[3]]);
    let missing = format!("is damaged: records {0} to {0} were confirmed", records[1]);
    assert!(damage.len() == 1 && damage[0].contains(&missing), "{damage:?}");
    assert_eq!(damage_found(&data), damage);
    assert_eq!(std::fs::read(&segment).unwrap(), damaged, "nothing is changed");
    // The header of the segment: nothing in it can be read, and that is said.
    damaged[100] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    let journal = &Journal::all(&data).unwrap()[0];
    let files = journal.files().unwrap();
    assert!(files.iter().any(|file| file.kind == FileKind::Unreadable), "{files:?}");
    let found = damage_found(&data);
    assert!(found.iter().any(|found| found.contains("segment-0000000000000001")), "{found:?}");
}

#[test]
fn what_nobody_needs_any_more_is_no_damage() {
    let mut host = Host::new(RuntimeChoice::Auto);
    let connection = host.connect();
    let settings = StreamSettings { slots: 1024, ..USUAL };
    connection.declare_stream("kept", USUAL).unwrap();
    connection.declare_subscription("kept", "all", StartAt::First).unwrap();
    let mut kept = connection.producer("kept").open().unwrap();
    kept.send(b"a message that keeps its segment").unwrap();
    kept.confirm_all_timeout(PATIENCE).unwrap();
    connection.declare_stream("s", settings).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    // More than two snapshots are apart.
    let payload = vec![7; 1 << 20];
    for _ in 0..560 {
        producer.send(&payload).unwrap();
    }
    producer.confirm_all_timeout(PATIENCE).unwrap();
    let segments = || {
        let files = Journal::all(host.data.path()).unwrap()[0].files().unwrap();
        let segments = files.iter().filter_map(|file| match file.kind {
            FileKind::Segment { segment, .. } => Some(segment),
            _ => None,
        });
        segments.collect::<Vec<_>>()
    };
    eventually("segments are given up", || segments().windows(2).any(|pair| pair[1] > pair[0] + 1));
    assert_eq!(segments()[0], 1);
    assert_eq!(damage_found(host.data.path()), Vec::<String>::new());
    drop((kept, producer, connection));
    host.broker.take().unwrap().stop();
    assert_eq!(damage_found(host.data.path()), Vec::<String>::new());
    assert!(shown(host.data.path()).0[0].contains("a message that keeps its segment"));
    let segment = host.data.path().join("shard-0/segment-0000000000000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(9).position(|bytes| bytes == b"a message").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let found = damage_found(host.data.path());
    assert!(found.iter().any(|found| found.contains("messages 0 to 0 of stream kept")), "{found:?}");
}

#[test]
fn what_is_whole_of_a_damaged_journal_is_salvaged() {
    let mut host = Host::new(RuntimeChoice::Auto);
    let data = host.data.path().to_owned();
    let connection = host.connect();
    let settings = StreamSettings { kind: StreamKind::Queue, ..USUAL };
    connection.declare_queue("q", settings, SharedSettings::default()).unwrap();
    let mut producer = connection.producer("q").open().unwrap();
    for number in 0..6 {
        producer.send(format!("number {number}").as_bytes()).unwrap();
        producer.confirm_all_timeout(PATIENCE).unwrap();
    }
    // In parts, and without a payload.
    producer.send(&vec![b'x'; 1 << 20]).unwrap();
    producer.send(b"").unwrap();
    producer.confirm_all_timeout(PATIENCE).unwrap();
    let mut consumer = connection.shared_consumer("q", "q").open().unwrap();
    for number in 0..2 {
        let delivery = consumer.recv_timeout(PATIENCE).unwrap().unwrap();
        if number == 0 { delivery.ack().unwrap() } else { delivery.nack().unwrap() }
    }
    consumer.confirm_settled(PATIENCE).unwrap();
    let into = tempfile::tempdir().unwrap();
    assert!(matches!(salvage(&data, into.path()), Err(SalvageError::InUse(_))));
    drop((consumer, producer, connection));
    host.broker.take().unwrap().stop();
    eventually("nobody holds the lock", || !Journal::all(&data).unwrap()[0].is_live());

    let segment = data.join("shard-0/segment-0000000000000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(8).position(|bytes| bytes == b"number 3").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    assert!(matches!(salvage(&data, &data), Err(SalvageError::NotEmpty(_))));
    let salvaged = salvage(&data, into.path()).unwrap();
    assert_eq!(
        (salvaged[0].damage.len(), salvaged[0].streams, salvaged[0].messages),
        (1, 1, 7),
        "{salvaged:?}"
    );
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "the old one is not changed");
    assert_eq!(damage_found(into.path()), Vec::<String>::new());

    host.data = into;
    host.start();
    let connection = host.connect();
    let mut consumer = connection.shared_consumer("q", "q").open().unwrap();
    let mut found = Vec::new();
    while found.len() < 6 {
        let delivery = consumer.recv_timeout(PATIENCE).unwrap().expect("it was salvaged");
        found.push((delivery.position().position, delivery.payload().len()));
        delivery.ack().unwrap();
    }
    found.sort_unstable();
    assert_eq!(found, [(1, 8), (2, 8), (4, 8), (5, 8), (6, 1 << 20), (7, 0)]);
    assert!(consumer.recv_timeout(Duration::from_millis(50)).unwrap().is_none());
    let mut producer = connection.producer("q").open().unwrap();
    assert_eq!(producer.send(b"next").unwrap().position, 8);
    producer.confirm_all_timeout(PATIENCE).unwrap();
}

#[test]
fn a_snapshot_that_is_not_whole_is_done_without_and_that_is_said() {
    let mut host = Host::new(RuntimeChoice::Auto);
    host.connect().declare_stream("s", USUAL).unwrap();
    host.lose_rings();
    host.broker.take().unwrap().stop();
    let mut snapshots: Vec<_> = std::fs::read_dir(host.data.path().join("shard-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains("snapshot-"))
        .collect();
    snapshots.sort_unstable();
    let newest = snapshots.pop().expect("a broker that starts writes one");
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::load(None, Some(directory.path().join("broker"))).unwrap();
    config.data = host.data.path().to_owned();
    let broker = Broker::start(config).unwrap();
    let said = broker.notices().join("\n");
    assert!(said.contains("is not whole") && said.contains("nothing is missing"), "{said}");
    let connection = connect(broker.directory()).unwrap();
    assert_eq!(connection.stream("s").unwrap().settings.durability, Durability::Synced);
    broker.stopper().stop();
    broker.wait().unwrap();
}

#[test]
fn a_full_disk_is_said_can_be_drained_and_works_again() {
    let disk = (SMALL_DISK, (24_u64 << 20).to_string());
    let broker = KeptBroker::start_with(Path::new(env!("CARGO_BIN_EXE_ringway-test-peer")), &[disk]);
    let connection = broker.connect();
    let settings = StreamSettings { kind: StreamKind::Queue, slots: 1024, ..USUAL };
    connection.declare_queue("q", settings, SharedSettings::default()).unwrap();
    let mut consumer = connection.shared_consumer("q", "q").open().unwrap();
    let payload = vec![7; 60_000];
    // A disk that was full once, and a broker that dies with it full.
    for round in 0..3 {
        let mut producer = connection.producer("q").open().unwrap();
        let mut confirmed = None;
        let why = loop {
            let sent = match producer.send(&payload) {
                Ok(sent) => sent,
                Err(error) => break error.to_string(),
            };
            match producer.confirm_timeout(sent, PATIENCE) {
                Ok(_) => confirmed = Some(sent.position),
                Err(error) => break error.to_string(),
            }
        };
        assert!(why.contains("No space left on device"), "{why}");
        let confirmed = confirmed.expect("there was room at first");
        drop(producer);
        if round == 1 {
            broker.succeed();
        }
        // What was sent last is confirmed when there is room again; nothing is known of it before.
        let mut last = None;
        while last < Some(confirmed) {
            let delivery = consumer.recv_timeout(PATIENCE).unwrap().expect("it was confirmed");
            last = Some(delivery.position().position);
            delivery.ack().unwrap();
        }
        consumer.confirm_settled(PATIENCE).unwrap();
        eventually("there is room again", || {
            let mut producer = connection.producer("q").open().unwrap();
            producer
                .send(b"again")
                .is_ok_and(|sent| producer.confirm_timeout(sent, Duration::from_millis(500)).is_ok())
        });
    }
}
