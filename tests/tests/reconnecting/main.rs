//! Do clients go on at the next broker by themselves, and say what is not known of what they did before?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::path::Path;
use std::thread;
use std::time::Duration;

use ringway_client::{
    AdminError, ConfirmError, Connection, Durability, OpenError, Outgoing, Producer, RecvError, RefusalCode,
    SendError, SettleError, SharedSettings, StartAt, StreamSettings, SubscriptionChanges, SubscriptionMode,
    WaitSet,
};
use ringway_tests::kept::{KeptBroker, signal};
use ringway_tests::tasks::{block_on, next};
use ringway_tests::{PATIENCE, eventually};
use rustix::process::Signal;

const MEMORY: StreamSettings =
    StreamSettings { slots: 64, slot_bytes: 64, durability: Durability::Memory, ..StreamSettings::DEFAULT };
const SYNCED: StreamSettings = StreamSettings { durability: Durability::Synced, ..MEMORY };
/// Time in which a client notices that nobody is there, while nobody is.
const ABSENCE: Duration = Duration::from_millis(1200);

fn start() -> KeptBroker {
    KeptBroker::start(Path::new(env!("CARGO_BIN_EXE_ringway-test-peer")))
}

fn start_again(broker: KeptBroker) -> KeptBroker {
    broker.start_again(Path::new(env!("CARGO_BIN_EXE_ringway-test-peer")))
}

/// Loses a broker with its rings, and starts another one there after a while.
fn replace(mut broker: KeptBroker) -> KeptBroker {
    broker.lose_everything();
    thread::sleep(ABSENCE);
    start_again(broker)
}

#[test]
fn producers_and_consumers_go_on_and_nothing_confirmed_is_missing() {
    let broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", StreamSettings { partitions: 2, ..SYNCED }).unwrap();
    connection.declare_subscription("s", "all", StartAt::First).unwrap();
    let mut producer = connection.producer("s").name("importer").open().unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    let sending = thread::spawn(move || {
        for number in 0..1000_u32 {
            // The key decides the partition, the name and the sequence that nothing is there twice.
            let (payload, key) = (number.to_le_bytes(), [number as u8]);
            let message = Outgoing::new(&payload).key(&key).sequence(number.into());
            loop {
                let confirmed = match producer.send(message) {
                    Ok(position) => producer.confirm(position).map(drop),
                    Err(SendError::AlreadySent { .. }) => Ok(()),
                    Err(error) => panic!("{error}"),
                };
                match confirmed {
                    Ok(()) => break,
                    Err(ConfirmError::Disconnected { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            if number % 100 == 50 {
                thread::sleep(Duration::from_millis(100));
            }
        }
        producer
    });
    let receiving = thread::spawn(move || {
        let (mut seen, mut set_back) = ([false; 1000], 0);
        while seen.contains(&false) {
            let message = consumer.recv_timeout(PATIENCE).unwrap().expect("one is missing");
            let number = u32::from_le_bytes(message.payload().try_into().unwrap());
            set_back += u32::from(std::mem::replace(&mut seen[number as usize], true));
        }
        (consumer, set_back)
    });
    let mut broker = broker;
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(150));
        broker = replace(broker);
    }
    let producer = sending.join().unwrap();
    let (consumer, _) = receiving.join().unwrap();
    assert_eq!(producer.next_sequence(), Some(1000));
    consumer.close().unwrap();
    producer.close().unwrap();
    drop(broker);
}

#[test]
fn what_lives_in_memory_is_declared_again_and_goes_on() {
    let broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("gone", MEMORY).unwrap();
    connection.declare_stream("s", MEMORY).unwrap();
    connection.declare_subscription("s", "some", StartAt::First).unwrap();
    connection.declare_subscription("s", "none", StartAt::First).unwrap();
    connection.declare_queue("q", MEMORY, SharedSettings::default()).unwrap();
    for lease_ms in [7000, 8000, 7000] {
        let changes = SubscriptionChanges { lease_ms: Some(lease_ms), ..SubscriptionChanges::default() };
        connection.alter_subscription("q", "q", changes).unwrap();
    }
    connection.delete_stream("gone").unwrap();
    connection.delete_subscription("s", "none").unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut jobs = connection.producer("q").open().unwrap();
    let mut consumer = connection.consumer("s", "some").open().unwrap();
    let mut worker = connection.queue_consumer("q").open().unwrap();
    producer.send(b"left").unwrap();
    jobs.send(b"left").unwrap();
    let broker = replace(broker);

    // What is left is still where it was, for those who had it open.
    assert_eq!(consumer.recv().unwrap().payload(), b"left");
    worker.recv().unwrap().ack().unwrap();
    let receiving =
        thread::spawn(move || consumer.recv_timeout(PATIENCE).unwrap().unwrap().payload().to_vec());
    producer.send(b"new").unwrap();
    jobs.send_batch([b"first", b"other"]).unwrap();
    assert_eq!(receiving.join().unwrap(), b"new");
    for expected in [b"first", b"other"] {
        let delivery = worker.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(delivery.payload(), expected);
        delivery.ack().unwrap();
    }
    // Nothing of memory is confirmed, so nothing of it is unknown.
    producer.confirm_all().unwrap();
    let names: Vec<_> = connection.streams().unwrap().into_iter().map(|stream| stream.name).collect();
    assert_eq!(names, ["q", "s"]);
    assert_eq!(connection.subscriptions("s").unwrap().len(), 1);
    let altered = SharedSettings { lease_ms: 7000, ..SharedSettings::default() };
    assert_eq!(connection.subscription("q", "q").unwrap().mode, SubscriptionMode::Shared(altered));
    assert!(connection.is_open());
    drop(broker);
}

#[test]
fn what_is_not_known_to_be_confirmed_is_said_once() {
    let mut broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", SYNCED).unwrap();
    connection.declare_subscription("s", "all", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    let first = producer.send(b"confirmed").unwrap();
    producer.confirm(first).unwrap();
    // Nobody journals what comes now.
    broker.freeze();
    let lost = producer.send(b"lost").unwrap();
    let last = producer.send(b"lost, too").unwrap();
    for _ in 0..3 {
        consumer.recv().unwrap();
    }
    broker.lose_everything();
    let broker = start_again(broker);

    let again = loop {
        // Noticed within a second; what goes before that is lost as well.
        let sent = producer.send(b"again").unwrap();
        if sent <= last {
            break sent;
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(again, lost, "positions of what is lost are given again");
    assert!(!producer.is_confirmed(again) && producer.is_confirmed(first));
    let error = producer.confirm(again).unwrap_err();
    assert!(matches!(error, ConfirmError::Disconnected { .. }), "{error}");
    producer.confirm(again).unwrap();
    assert!(producer.is_confirmed(again));

    // The consumer had read further than what is there.
    while consumer.recv_timeout(PATIENCE).unwrap().expect("nothing was committed for certain").payload()
        != b"confirmed"
    {}
    let error = consumer.confirm_commit(PATIENCE).unwrap_err();
    assert!(matches!(error, ConfirmError::Disconnected { .. }), "{error}");
    consumer.confirm_commit(PATIENCE).unwrap();
    drop(broker);
}

#[test]
fn who_was_told_by_a_confirm_that_the_broker_is_gone_is_not_told_again() {
    let mut broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", SYNCED).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    broker.freeze();
    producer.send(b"lost").unwrap();
    let future = producer.confirmation_of_all().unwrap();
    broker.lose_everything();
    let error = producer.confirm_all().unwrap_err();
    assert!(matches!(error, ConfirmError::Disconnected { .. }), "{error}");
    assert!(matches!(block_on(future), Err(ConfirmError::Disconnected { .. })));
    let broker = start_again(broker);
    producer.send(b"again").unwrap();
    assert_eq!(producer.confirm_all().unwrap(), Durability::Synced);
    drop(broker);
}

#[test]
fn a_message_kept_over_the_outage_is_settled_too_late_and_comes_again() {
    let broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_queue("q", SYNCED, SharedSettings::default()).unwrap();
    let mut producer = connection.producer("q").open().unwrap();
    producer.send(b"job").unwrap();
    producer.confirm_all().unwrap();
    let mut worker = connection.queue_consumer("q").open().unwrap();
    let kept = worker.recv().unwrap().keep();
    let broker = replace(broker);
    let again = worker.recv_timeout(PATIENCE).unwrap().expect("it comes again").keep();
    assert_eq!((again.position(), again.payload()), (kept.position(), kept.payload()));
    let error = worker.ack(&kept).unwrap_err();
    assert!(matches!(error, SettleError::Late { .. }), "{error}");
    worker.ack(&again).unwrap();
    // Of what was settled before it is not known whether it comes again.
    let error = worker.confirm_settled(PATIENCE).unwrap_err();
    assert!(matches!(error, ConfirmError::Disconnected { .. }), "{error}");
    worker.confirm_settled(PATIENCE).unwrap();
    assert!(worker.recv_timeout(Duration::from_millis(50)).unwrap().is_none());
    drop(broker);
}

#[test]
fn tasks_streams_descriptors_and_sets_go_on_too() {
    let broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", SYNCED).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    for name in ["task", "stream", "descriptor", "set", "polled"] {
        connection.declare_subscription("s", name, StartAt::First).unwrap();
    }
    let open = |name| connection.consumer("s", name).open().unwrap();
    let (mut task, mut stream, mut descriptor) =
        (open("task"), open("stream").into_stream(), open("descriptor"));
    let (mut set, mut polled) = (WaitSet::new(), open("polled"));
    let key = set.add(open("set"));
    let waiting = [
        thread::spawn(move || block_on(async { task.recv_async().await.unwrap().payload().to_vec() })),
        thread::spawn(move || {
            block_on(async { next(&mut stream).await.unwrap().unwrap().payload().to_vec() })
        }),
        thread::spawn(move || {
            let readiness = descriptor.readiness().unwrap();
            loop {
                if let Some(message) = descriptor.try_recv().unwrap() {
                    return message.payload().to_vec();
                }
                let mut wanted = [rustix::event::PollFd::new(&readiness, rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut wanted, None).unwrap();
            }
        }),
        thread::spawn(move || {
            while set.wait(PATIENCE).unwrap().is_empty() {}
            set.get_mut(key).unwrap().try_recv().unwrap().unwrap().payload().to_vec()
        }),
        thread::spawn(move || {
            loop {
                if let Some(message) = polled.try_recv().unwrap() {
                    return message.payload().to_vec();
                }
                thread::sleep(Duration::from_millis(5));
            }
        }),
    ];
    let broker = replace(broker);
    block_on(producer.send_async(b"after")).unwrap();
    for waiting in waiting {
        assert_eq!(waiting.join().unwrap(), b"after");
    }
    drop(broker);
}

#[test]
fn who_never_waits_goes_on_too() {
    let broker = start();
    // Each has a session of its own: nobody else looks whether it has ended.
    let sending = Connection::open(broker.path()).unwrap();
    sending.declare_stream("s", MEMORY).unwrap();
    let mut producer = sending.producer("s").open().unwrap();
    let receiving = Connection::open(broker.path()).unwrap();
    receiving.declare_stream("t", SYNCED).unwrap();
    receiving.declare_subscription("t", "all", StartAt::First).unwrap();
    let mut consumer = receiving.consumer("t", "all").open().unwrap();
    let broker = replace(broker);
    let looking = broker.connect();
    eventually("its messages come to the next broker", || {
        // Without a subscription there is always room.
        producer.try_send(b"x").unwrap();
        looking.stream("s").is_ok_and(|stream| stream.partitions[0].next_position > 0)
    });
    looking.producer("t").open().unwrap().send(b"y").unwrap();
    eventually("it looks there", || consumer.try_recv().unwrap().is_some());
    drop(broker);
}

#[test]
fn a_loan_from_before_is_sent_all_the_same() {
    let broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", StreamSettings { payload_bytes_max: 1 << 20, ..MEMORY }).unwrap();
    connection.declare_subscription("s", "all", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    producer.send(&[1; 1000]).unwrap();
    let held = consumer.recv().unwrap().hold().unwrap();
    let mut loan = producer.loan(100_000).unwrap();
    loan.fill(7);
    let broker = replace(broker);
    producer.send_loan(loan).unwrap();
    assert_eq!(consumer.recv_timeout(PATIENCE).unwrap().unwrap().payload(), [7; 100_000]);
    assert_eq!(held.payload(), [1; 1000], "what is held stays readable");
    drop(broker);
}

#[test]
fn administration_waits_for_the_next_broker_and_repeats_what_may_be_repeated() {
    let mut broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    broker.lose_everything();
    let asking = thread::spawn(move || {
        connection.declare_stream("s", MEMORY).unwrap();
        connection.producer("s").open().unwrap().send(b"x").unwrap();
        connection.delete_stream("none").unwrap_err()
    });
    thread::sleep(Duration::from_millis(100));
    let broker = start_again(broker);
    assert_eq!(asking.join().unwrap().code(), Some(RefusalCode::NotFound));
    drop(broker);
}

#[test]
fn an_orderly_stop_and_a_new_start_is_an_outage_like_any_other() {
    let broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", SYNCED).unwrap();
    connection.declare_subscription("s", "all", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    producer.send(b"before").unwrap();
    connection.stop_broker(PATIENCE).unwrap();
    let broker = start_again(broker);
    assert_eq!(consumer.recv().unwrap().payload(), b"before");
    let receiving = thread::spawn(move || {
        ["before", "after"].map(|_| consumer.recv_timeout(PATIENCE).unwrap().unwrap().payload().to_vec())
    });
    // The stop had journaled it.
    assert_eq!(connection.stream("s").unwrap().partitions[0].next_position, 1);
    thread::sleep(ABSENCE);
    producer.send(b"after").unwrap();
    assert_eq!(receiving.join().unwrap(), [&b"before"[..], b"after"]);
    drop(broker);
}

#[test]
fn who_finds_no_broker_in_time_is_told_and_may_go_on_later() {
    let mut broker = start();
    let within = Duration::from_millis(300);
    let connection = Connection::builder(broker.path()).reconnect_within(within).open().unwrap();
    connection.declare_stream("s", SYNCED).unwrap();
    connection.declare_subscription("s", "all", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    connection.declare_stream("m", MEMORY).unwrap();
    connection.declare_subscription("m", "all", StartAt::First).unwrap();
    let mut memory = connection.producer("m").open().unwrap();
    broker.lose_everything();
    assert!(matches!(consumer.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(block_on(consumer.recv_async()), Err(RecvError::Disconnected)));
    assert!(consumer.recv_timeout(Duration::from_millis(1)).unwrap().is_none(), "there is time left");
    // Noticed by now. What is in memory flows as long as there is room; what is to be journaled waits.
    memory.send_batch([b"x"; 64]).unwrap();
    assert!(matches!(memory.send(b"x"), Err(SendError::Disconnected { .. })));
    assert!(matches!(producer.try_send(b"x"), Err(SendError::Disconnected { .. })));
    assert!(matches!(producer.send(b"x"), Err(SendError::Disconnected { .. })));
    assert!(matches!(block_on(producer.send_async(b"x")), Err(SendError::Disconnected { .. })));
    assert!(matches!(connection.streams(), Err(AdminError::Disconnected)));
    let broker = start_again(broker);
    producer.send(b"y").unwrap();
    assert_eq!(consumer.recv_timeout(PATIENCE).unwrap().unwrap().payload(), b"y");
    memory.send(b"y").unwrap();
    drop(broker);
}

#[test]
fn without_a_broker_room_in_memory_is_still_waited_for() {
    let mut broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", MEMORY).unwrap();
    connection.declare_subscription("s", "all", StartAt::First).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    // So that it has met the gate that it will wait for: that is the broker's to hand over.
    for _ in 0..2 {
        producer.send_batch([b"w"; 64]).unwrap();
        while consumer.try_recv().unwrap().is_some() {}
        consumer.commit().unwrap();
    }
    broker.lose_everything();
    producer.send_batch([b"x"; 64]).unwrap();
    let sending = thread::spawn(move || {
        producer.send(b"y").unwrap();
        block_on(producer.send_async(b"z")).unwrap();
    });
    // By now it knows that nobody is there.
    thread::sleep(2 * ABSENCE);
    let received = [(); 66].map(|()| {
        thread::sleep(Duration::from_millis(20));
        consumer.recv_timeout(PATIENCE).unwrap().unwrap().payload()[0]
    });
    assert_eq!(received[63..], *b"xyz");
    sending.join().unwrap();
}

#[test]
fn who_does_not_want_it_is_told_at_once() {
    let mut broker = start();
    let connection = Connection::builder(broker.path()).reconnect_within(Duration::ZERO).open().unwrap();
    connection.declare_stream("s", MEMORY).unwrap();
    connection.declare_subscription("s", "all", StartAt::First).unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    broker.lose_everything();
    let broker = start_again(broker);
    assert!(matches!(consumer.recv_timeout(Duration::from_millis(10)), Err(RecvError::Disconnected)));
    assert!(matches!(connection.streams(), Err(AdminError::Disconnected)));
    drop(broker);
}

/// Sends into the ring that there is until it is said that there will be no other.
fn error_of(producer: &mut Producer) -> SendError {
    loop {
        match producer.send_timeout(b"x", PATIENCE) {
            Ok(_) => thread::sleep(Duration::from_millis(1)),
            Err(error) => return error,
        }
    }
}

#[test]
fn what_cannot_be_opened_again_is_said_with_the_reason() {
    let broker = start();
    let within = Duration::from_millis(500);
    // Declared by others: nobody declares it again.
    broker.connect().declare_stream("s", MEMORY).unwrap();
    broker.connect().declare_subscription("s", "all", StartAt::First).unwrap();
    let connection = Connection::builder(broker.path()).reconnect_within(within).open().unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    let mut consumer = connection.consumer("s", "all").open().unwrap();
    let broker = replace(broker);
    let error = consumer.recv().unwrap_err();
    assert!(
        matches!(&error, RecvError::Reopen { source } if source.code() == Some(RefusalCode::NotFound)),
        "{error}"
    );
    let error = error_of(&mut producer);
    assert!(matches!(&error, SendError::Reopen { .. }), "{error}");
    // Another stream of the same name.
    broker.connect().declare_stream("s", StreamSettings { partitions: 3, ..MEMORY }).unwrap();
    let error = error_of(&mut producer);
    let is_other =
        |source: &OpenError| matches!(source, OpenError::OtherPartitions { before: 1, partitions: 3, .. });
    assert!(matches!(&error, SendError::Reopen { source, .. } if is_other(source)), "{error}");
    // A consumer takes what there is.
    broker.connect().declare_subscription("s", "all", StartAt::First).unwrap();
    while consumer.recv_timeout(Duration::from_millis(10)).unwrap().is_some() {}
    assert_eq!(consumer.positions().len(), 3);
    drop(broker);
}

#[test]
fn a_frozen_broker_and_a_succession_are_no_outage() {
    let broker = start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("s", MEMORY).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    broker.freeze();
    thread::sleep(ABSENCE);
    producer.send(b"x").unwrap();
    let session = connection.session();
    signal(broker.pid(), Signal::CONT);
    broker.succeed();
    producer.send(b"y").unwrap();
    connection.streams().unwrap();
    assert_eq!(connection.session(), session, "the session goes on");
    assert_eq!(producer.positions()[0].position, 2);
}
