//! What of a stream with several partitions: is each in order, does a key stay where it is, and do all agree whatever is
//! done to the stream, with fewer shards than partitions?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use ringway_client::{
    AdminError, Attributes, Connection, OpenError, Outgoing, Overflow, Producers, RefusalCode, SendError,
    StartAt, StreamSettings, WaitSet, WaitStrategy, partition_of,
};
use ringway_tests::{PATIENCE, TestBroker, eventually};

const PARTITIONS: u32 = 5;
const AT_ONCE: WaitStrategy = WaitStrategy::Adaptive { spin: Duration::ZERO };

/// A broker of two shards on one core.
fn broker() -> (TestBroker, Connection) {
    let broker = TestBroker::start_with(|config| config.cores = vec![0, 0]);
    let connection = Connection::open(broker.path()).unwrap();
    assert_eq!(connection.shards(), 2);
    (broker, connection)
}

fn settings() -> StreamSettings {
    StreamSettings { partitions: PARTITIONS, slots: 64, slot_bytes: 64, ..StreamSettings::DEFAULT }
}

#[test]
fn messages_of_a_key_stay_in_order_in_the_partition_of_the_key() {
    let (_broker, connection) = broker();
    let info = connection.declare_stream("s", settings()).unwrap();
    let shards: BTreeSet<u32> = info.partitions.iter().map(|partition| partition.shard).collect();
    assert_eq!((info.partitions.len(), shards.len()), (5, 2), "more partitions than shards, on both");
    let made = connection.declare_subscription("s", "a", StartAt::First).unwrap();
    assert_eq!(made.partitions.len(), 5);
    let mut producers: Vec<_> =
        (0..2).map(|_| connection.producer("s").wait(AT_ONCE).open().unwrap()).collect();
    let mut consumer = connection.consumer("s", "a").wait(AT_ONCE).open().unwrap();
    const EACH: u64 = 3000;
    thread::scope(|scope| {
        for (who, producer) in producers.iter_mut().enumerate() {
            scope.spawn(move || {
                for number in 0..EACH {
                    let key = [who as u8, (number % 23) as u8];
                    let mut payload = number.to_le_bytes().to_vec();
                    if number % 10 == 0 {
                        payload.resize(3000, 7);
                    }
                    let position = producer.send(Outgoing::new(&payload).key(&key)).unwrap();
                    assert_eq!(position.partition, partition_of(&key, PARTITIONS));
                }
            });
        }
        let (mut of_key, mut next) = (BTreeMap::new(), [0; PARTITIONS as usize]);
        for _ in 0..2 * EACH {
            let message = consumer.recv_timeout(PATIENCE).unwrap().expect("every message arrives");
            let key = message.key().unwrap().to_vec();
            assert_eq!(message.partition(), partition_of(&key, PARTITIONS));
            let next = &mut next[message.partition() as usize];
            assert_eq!(message.position(), *next, "each partition is whole and in order");
            *next += 1;
            let number = u64::from_le_bytes(message.payload()[..8].try_into().unwrap());
            let last = of_key.insert(key, number);
            assert!(last.is_none_or(|last| last < number), "a key is in order");
        }
    });
    consumer.commit().unwrap();
    assert_eq!(connection.subscription("s", "a").unwrap().lag(), 0);
    let info = connection.stream("s").unwrap();
    assert_eq!(info.partitions.iter().map(|partition| partition.next_position).sum::<u64>(), 2 * EACH);
    assert_eq!((info.producers(), info.partitions[4].producers), (2, 2));
}

#[test]
fn messages_without_a_key_are_spread_and_batches_and_loans_know_their_partition() {
    let (_broker, connection) = broker();
    connection.declare_stream("s", settings()).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let last = producer.send_batch((0..10_u8).map(|_| Outgoing::new(b"x"))).unwrap().unwrap();
    assert_eq!((last.partition, last.position), (4, 1));
    assert!(producer.positions().iter().all(|position| position.position == 2));
    let key = b"some key";
    let partition = partition_of(key, PARTITIONS);
    let loan = producer.loan_for_key(key, 5000).unwrap();
    let sent = producer.send_loan_with(loan, Attributes::new().key(key)).unwrap();
    assert_eq!((sent.partition, sent.position), (partition, 2));
    let other = (0_u8..).find(|byte| partition_of(&[*byte], PARTITIONS) != partition).unwrap();
    let loan = producer.loan_for_key(key, 5000).unwrap();
    let error = producer.send_loan_with(loan, Attributes::new().key(&[other])).unwrap_err();
    assert!(matches!(error.source, SendError::LoanPartition { .. }), "{error}");
    producer.send_loan(*error.loan).unwrap();
    let mut consumer = connection.consumer("s", "a").open().unwrap();
    let found: Vec<u32> = (0..12).map(|_| consumer.recv().unwrap().partition()).collect();
    assert!((0..PARTITIONS).all(|partition| found.iter().filter(|found| **found == partition).count() >= 2));
    assert!(consumer.try_recv().unwrap().is_none());
}

#[test]
fn partitions_may_be_read_by_different_consumers_and_by_a_set() {
    let (_broker, connection) = broker();
    connection.declare_stream("s", settings()).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    let some = connection.consumer("s", "a").partitions([0, 3]).wait(AT_ONCE).open().unwrap();
    let taken = connection.consumer("s", "a").open().unwrap_err();
    assert_eq!(taken.code(), Some(RefusalCode::InUse));
    let none = connection.consumer("s", "a").partitions([5]).open().unwrap_err();
    assert_eq!(none.code(), Some(RefusalCode::Invalid));
    assert!(none.to_string().contains("has 5 partitions: there is no partition 5"), "{none}");
    assert!(matches!(connection.consumer("s", "a").partitions([]).open(), Err(OpenError::NoPartition)));
    let others = connection.consumer("s", "a").partitions([1, 2, 4]).open().unwrap();
    let mut set = WaitSet::new().with_wait(AT_ONCE);
    let (some, others) = (set.add(some), set.add(others));
    let mut producer = connection.producer("s").open().unwrap();
    for _ in 0..20 {
        let partition = producer.send(b"x").unwrap().partition;
        let expected = if [0, 3].contains(&partition) { some } else { others };
        assert_eq!(set.wait(PATIENCE).unwrap(), [expected]);
        let message = set.get_mut(expected).unwrap().try_recv().unwrap().unwrap();
        assert_eq!(message.partition(), partition);
    }
    set.remove(some).unwrap().close().unwrap();
    // What was read is committed, and the rest of its partitions is free.
    let again = connection.consumer("s", "a").partitions([3]).open().unwrap();
    assert_eq!(again.positions()[0].position, 4);
}

#[test]
fn an_error_of_a_full_partition_names_it_and_who_holds_it_there() {
    let (_broker, connection) = broker();
    let settings = StreamSettings { overflow: Overflow::Reject, ..settings() };
    connection.declare_stream("s", settings).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let key = b"the only key";
    for _ in 0..64 {
        producer.send(Outgoing::new(b"x").key(key)).unwrap();
    }
    let error = producer.send(Outgoing::new(b"x").key(key)).unwrap_err().to_string();
    let partition = partition_of(key, PARTITIONS);
    assert!(error.contains(&format!("s (partition {partition}) is full")), "{error}");
    assert!(error.contains("subscription a"), "{error}");
}

#[test]
fn all_partitions_agree_whatever_is_declared_opened_and_deleted() {
    let (_broker, connection) = broker();
    connection.declare_stream("s", settings()).unwrap();
    connection.declare_stream("s", settings()).unwrap();
    let code = |error: AdminError| match error {
        AdminError::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let other = StreamSettings { partitions: 7, ..settings() };
    let refusal = code(connection.declare_stream("s", other).unwrap_err());
    assert_eq!(refusal.code, RefusalCode::Conflict);
    assert!(refusal.message.contains("partitions 5, not 7"), "{}", refusal.message);
    for partitions in [0, 65] {
        let refusal =
            code(connection.declare_stream("t", StreamSettings { partitions, ..settings() }).unwrap_err());
        assert_eq!(refusal.code, RefusalCode::Invalid);
        assert!(refusal.message.contains("from 1 to 64"), "{}", refusal.message);
    }
    assert_eq!(connection.streams().unwrap().len(), 1, "what was refused left nothing behind");
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    // One partition is open: nothing is deleted, not even elsewhere.
    let consumer = connection.consumer("s", "a").partitions([4]).open().unwrap();
    assert_eq!(code(connection.delete_subscription("s", "a").unwrap_err()).code, RefusalCode::InUse);
    assert_eq!(code(connection.delete_stream("s").unwrap_err()).code, RefusalCode::InUse);
    assert_eq!(connection.subscriptions("s").unwrap()[0].partitions.len(), 5);
    consumer.close().unwrap();
    connection.delete_subscription("s", "a").unwrap();
    assert!(connection.subscriptions("s").unwrap().is_empty());
    connection.delete_stream("s").unwrap();
    assert_eq!(code(connection.stream("s").unwrap_err()).code, RefusalCode::NotFound);
    let fewer = StreamSettings { partitions: 2, producers: Producers::Exclusive, ..settings() };
    assert_eq!(connection.declare_stream("s", fewer).unwrap().partitions.len(), 2);
    let producer = connection.producer("s").open().unwrap();
    assert_eq!(connection.producer("s").open().unwrap_err().code(), Some(RefusalCode::InUse));
    drop(producer);
    eventually("the stream is free", || connection.producer("s").open().is_ok());
}

#[test]
fn a_list_shows_each_stream_once_with_all_its_partitions() {
    let (_broker, connection) = broker();
    for number in 0..70 {
        let settings = StreamSettings { partitions: 1 + number % 9, ..settings() };
        connection.declare_stream(&format!("s{number:02}"), settings).unwrap();
    }
    let streams = connection.streams().unwrap();
    assert_eq!(streams.len(), 70);
    for (number, stream) in streams.iter().enumerate() {
        assert_eq!(stream.name, format!("s{number:02}"));
        let numbers: Vec<u32> = stream.partitions.iter().map(|partition| partition.partition).collect();
        assert_eq!(numbers, (0..stream.settings.partitions).collect::<Vec<_>>());
    }
}

#[test]
fn sessions_that_declare_and_delete_at_the_same_time_leave_partitions_that_agree() {
    let (broker, connection) = broker();
    let path = broker.path();
    thread::scope(|scope| {
        for partitions in 1..=4 {
            let path = path.clone();
            scope.spawn(move || {
                let connection = Connection::open(path).unwrap();
                let settings = StreamSettings { partitions, ..settings() };
                for _ in 0..100 {
                    let _ = connection.declare_stream("s", settings);
                    if let Ok(producer) = connection.producer("s").open() {
                        let stream = connection.stream("s").unwrap();
                        assert_eq!(stream.partitions.len(), producer.positions().len());
                    }
                    let _ = connection.delete_stream("s");
                }
            });
        }
    });
    let _ = connection.delete_stream("s");
    assert!(connection.streams().unwrap().is_empty());
}
