//! Is the face for tasks and event loops as good as the blocking one: under a runtime and without, with backpressure, when a
//! future is dropped halfway, asleep, and when the broker goes?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ringway_client::{
    Attributes, Connection, Consumer, Durability, Position, Producer, RecvError, SendError, SharedConsumer,
    SharedSettings, StartAt, StreamSettings, WaitStrategy,
};
use ringway_tests::kept::KeptBroker;
use ringway_tests::tasks::{block_on, next};
use ringway_tests::{PATIENCE, TestBroker, connect};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const SMALL: StreamSettings = StreamSettings { slots: 8, slot_bytes: 64, ..StreamSettings::DEFAULT };
const AT_ONCE: WaitStrategy = WaitStrategy::Adaptive { spin: Duration::ZERO };

/// A broker with a stream `s` and its subscription `a`, and a queue `q`.
fn broker(settings: StreamSettings) -> (TestBroker, Connection) {
    let broker = TestBroker::start();
    let connection = connect(broker.path()).unwrap();
    connection.declare_stream("s", settings).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    connection.declare_queue("q", settings, SharedSettings::default()).unwrap();
    (broker, connection)
}

fn open(connection: &Connection, wait: WaitStrategy) -> (Producer, Consumer) {
    let producer = connection.producer("s").wait(wait).open().unwrap();
    (producer, connection.consumer("s", "a").wait(wait).open().unwrap())
}

fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

/// Sends numbers, one by one, in batches and as loans, into a ring that is much smaller than their count.
async fn send_all(producer: &mut Producer, count: u64) {
    for first in (0..count).step_by(10) {
        let mut batch: Vec<[u8; 8]> = (first..first + 10).map(u64::to_le_bytes).collect();
        producer.send_async(&batch.remove(0)).await.unwrap();
        let mut loan = producer.loan_async(300).await.unwrap();
        loan[..8].copy_from_slice(&batch.remove(0));
        producer.send_loan_async(loan, Attributes::new()).await.unwrap();
        producer.send_batch_async(&batch).await.unwrap();
    }
}

async fn receive_all(consumer: &mut Consumer, count: u64) {
    for expected in 0..count {
        assert_eq!(number(consumer.recv_async().await.unwrap().payload()), expected);
    }
}

async fn ack_all(consumer: &mut SharedConsumer, count: u64) {
    for _ in 0..count {
        consumer.recv_async().await.unwrap().ack().unwrap();
    }
}

/// Whether one poll of it is in vain.
async fn is_pending<F: Future>(future: F) -> bool {
    let mut future = pin!(future);
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[test]
fn a_full_ring_and_an_empty_one_are_waited_for_without_a_runtime() {
    for wait in [AT_ONCE, WaitStrategy::default(), WaitStrategy::Spin] {
        let (_broker, connection) = broker(SMALL);
        let (mut producer, mut consumer) = open(&connection, wait);
        std::thread::scope(|scope| {
            scope.spawn(|| block_on(send_all(&mut producer, 2000)));
            block_on(receive_all(&mut consumer, 2000));
        });
    }
}

#[test]
fn tasks_of_one_thread_and_of_many_take_turns_under_tokio() {
    let runtimes =
        [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()];
    for mut runtime in runtimes {
        let runtime = runtime.enable_time().build().unwrap();
        let (_broker, connection) = broker(StreamSettings { partitions: 3, ..SMALL });
        runtime.block_on(async {
            let mut producer = connection.producer("s").open().unwrap();
            let mut consumer = connection.consumer("s", "a").open().unwrap();
            let sending = tokio::spawn(async move { send_all(&mut producer, 3000).await });
            let receiving = tokio::spawn(async move {
                let mut seen = vec![false; 3000];
                for _ in 0..3000 {
                    let message = consumer.recv_async().await.unwrap();
                    assert!(!std::mem::replace(&mut seen[number(message.payload()) as usize], true));
                }
            });
            let mut jobs = connection.producer("q").open().unwrap();
            let mut workers: Vec<_> =
                (0..2).map(|_| connection.queue_consumer("q").open().unwrap()).collect();
            let working = workers.drain(..).map(|mut worker| {
                tokio::spawn(async move { while worker.recv_async().await.unwrap().ack().is_ok() {} })
            });
            let working: Vec<_> = working.collect();
            for job in 0..1000_u64 {
                jobs.send_async(&job.to_le_bytes()).await.unwrap();
            }
            sending.await.unwrap();
            receiving.await.unwrap();
            while connection.subscription("q", "q").unwrap().shared().unsettled() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            working.iter().for_each(tokio::task::JoinHandle::abort);
        });
    }
}

#[test]
fn a_future_that_is_dropped_has_taken_and_published_nothing() {
    let (_broker, connection) = broker(SMALL);
    let (mut producer, mut consumer) = open(&connection, AT_ONCE);
    let mut worker = connection.queue_consumer("q").wait(AT_ONCE).open().unwrap();
    let mut jobs = connection.producer("q").open().unwrap();
    block_on(async {
        assert!(is_pending(consumer.recv_async()).await && is_pending(worker.recv_async()).await);
        for message in 0..8_u64 {
            producer.send_async(&message.to_le_bytes()).await.unwrap();
        }
        assert!(is_pending(producer.send_async(b"one too many")).await);
        assert!(is_pending(producer.send_batch_async([b"one too many"])).await);
        jobs.send_async(b"a job").await.unwrap();
        receive_all(&mut consumer, 8).await;
        ack_all(&mut worker, 1).await;
        assert!(consumer.try_recv().unwrap().is_none() && worker.try_recv().unwrap().is_none());
    });
    assert_eq!(producer.positions(), [Position { partition: 0, position: 8 }]);
}

#[test]
fn what_cannot_be_sent_is_said_at_once() {
    let (_broker, connection) = broker(StreamSettings { payload_bytes_max: 4096, ..SMALL });
    let (mut producer, _consumer) = open(&connection, AT_ONCE);
    block_on(async {
        let failed = producer.send_async(&[0; 4097]).await;
        assert!(matches!(failed, Err(SendError::TooLarge { bytes: 4097, bytes_max: 4096, .. })));
        let failed = producer.send_batch_async([&[0; 10][..], &[0; 5000]]).await.unwrap_err();
        assert_eq!(failed.sent, 1);
        assert!(producer.loan_async(4097).await.is_err());
        let foreign = connection.producer("q").open().unwrap().loan(100).unwrap();
        let failed = producer.send_loan_async(foreign, Attributes::new()).await.unwrap_err();
        assert!(matches!(failed.source, SendError::ForeignLoan { .. }));
    });
}

#[test]
fn iterators_and_streams_return_messages_that_may_be_kept() {
    let (_broker, connection) = broker(SMALL);
    let (mut producer, mut consumer) = open(&connection, AT_ONCE);
    let mut jobs = connection.producer("q").open().unwrap();
    let mut send = |first: u64| {
        for message in first..first + 4 {
            producer.send(&message.to_le_bytes()).unwrap();
            jobs.send(&message.to_le_bytes()).unwrap();
        }
    };
    send(0);
    let kept: Vec<_> = (&mut consumer).into_iter().take(3).map(Result::unwrap).collect();
    assert_eq!(kept.iter().map(|message| number(message.payload())).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(number(consumer.into_iter().next().unwrap().unwrap().payload()), 3);
    let mut worker = connection.queue_consumer("q").open().unwrap().into_iter();
    let kept: Vec<_> = worker.by_ref().take(3).map(Result::unwrap).collect();
    kept.iter().for_each(|job| worker.consumer().ack(job).unwrap());
    drop(worker);
    send(4);
    block_on(async {
        let mut messages = connection.consumer("s", "a").open().unwrap().into_stream();
        let mut worker = connection.queue_consumer("q").open().unwrap().into_stream();
        for expected in 3..8 {
            let job = next(&mut worker).await.unwrap().unwrap();
            assert_eq!(number(job.payload()), expected);
            worker.consumer().ack(&job).unwrap();
            if expected > 3 {
                assert_eq!(number(next(&mut messages).await.unwrap().unwrap().payload()), expected);
            }
        }
        messages.consumer().commit().unwrap();
        messages.into_consumer().close().unwrap();
        worker.into_consumer().close().unwrap();
    });
    assert_eq!(connection.subscription("q", "q").unwrap().shared().unsettled(), 0);
}

#[test]
fn large_messages_of_an_iterator_are_copied_when_no_more_can_be_held_in_place() {
    let (_broker, connection) = broker(StreamSettings { slots: 128, ..SMALL });
    let (mut producer, consumer) = open(&connection, AT_ONCE);
    for message in 0..70_u64 {
        producer.send(&[message.to_le_bytes(); 100].concat()).unwrap();
    }
    let kept: Vec<_> = consumer.into_iter().take(70).map(Result::unwrap).collect();
    assert_eq!(kept.iter().filter(|message| message.view().is_some()).count(), 64);
    for (expected, message) in kept.iter().enumerate() {
        assert_eq!(message.payload(), [(expected as u64).to_le_bytes(); 100].concat());
    }
}

/// Waits until one of the descriptors is readable.
fn readable(descriptors: &[BorrowedFd<'_>]) {
    let at_most = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let mut polled: Vec<_> = descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    assert!(poll(&mut polled, Some(&at_most)).unwrap() > 0, "no news");
}

#[test]
fn a_descriptor_is_readable_when_there_is_something() {
    let (broker, connection) = broker(StreamSettings { partitions: 2, ..SMALL });
    let (mut producer, mut consumer) = open(&connection, AT_ONCE);
    let mut worker = connection.queue_consumer("q").open().unwrap();
    let mut jobs = connection.producer("q").open().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for message in 0..1000_u64 {
                if message % 10 == 0 {
                    std::thread::sleep(Duration::from_micros(300));
                }
                producer.send(&message.to_le_bytes()).unwrap();
                jobs.send(&message.to_le_bytes()).unwrap();
            }
        });
        let (messages, work) = (consumer.readiness().unwrap(), worker.readiness().unwrap());
        let (mut received, mut acked) = (0, 0);
        while received < 1000 || acked < 1000 {
            readable(&[messages.as_fd(), work.as_fd()]);
            while consumer.try_recv().unwrap().is_some() {
                received += 1;
            }
            while let Some(job) = worker.try_recv().unwrap() {
                job.ack().unwrap();
                acked += 1;
            }
        }
    });
    // Nothing more: unreadable, until the broker goes.
    assert!(consumer.try_recv().unwrap().is_none());
    let readiness = consumer.readiness().unwrap();
    assert_eq!(
        poll(&mut [PollFd::new(&readiness, PollFlags::IN)], Some(&Timespec::default())).unwrap(),
        0,
        "readable though there is nothing"
    );
    drop(broker);
    loop {
        readable(&[readiness.as_fd()]);
        match consumer.try_recv() {
            Ok(none) => assert!(none.is_none()),
            Err(error) => break assert!(matches!(error, RecvError::Disconnected), "{error}"),
        }
    }
}

/// How often the one helper thread of this process has gone to sleep.
fn sleeps_of_the_helper() -> u64 {
    let mut found = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let thread = thread.unwrap().path();
        if std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "ringway-reactor") {
            let status = std::fs::read_to_string(thread.join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            found.push(line.unwrap().trim().parse().unwrap());
        }
    }
    assert_eq!(found.len(), 1, "one helper for the whole process");
    found[0]
}

/// In a process of its own, because what is counted is the process's.
#[test]
fn a_hundred_tasks_that_sleep_cost_their_one_helper_no_more_than_a_look_a_second() {
    const ALONE: &str = "RINGWAY_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let own = "a_hundred_tasks_that_sleep_cost_their_one_helper_no_more_than_a_look_a_second";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", own, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        return assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
    let (_broker, connection) = broker(StreamSettings { partitions: 64, ..SMALL });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for partition in 0..64 {
            let mut consumer = connection.consumer("s", "a").partitions([partition]).open().unwrap();
            tokio::spawn(async move { consumer.recv_async().await.map(drop) });
        }
        for _ in 0..36 {
            let mut worker = connection.queue_consumer("q").partitions([0]).open().unwrap();
            tokio::spawn(async move { worker.recv_async().await.map(drop) });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = sleeps_of_the_helper();
        tokio::time::sleep(Duration::from_secs(3)).await;
        // Three looks of each of a hundred tasks, most of them together.
        let sleeps = sleeps_of_the_helper() - before;
        assert!(sleeps <= 600, "the helper has slept {sleeps} times in three seconds");
    });
}

#[test]
fn a_task_that_sleeps_learns_that_the_broker_is_gone() {
    let (broker, connection) = broker(SMALL);
    let (mut producer, consumer) = open(&connection, AT_ONCE);
    for _ in 0..8 {
        producer.send(b"never read").unwrap();
    }
    let mut worker = connection.queue_consumer("q").open().unwrap();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| block_on(producer.send_async(b"no room")));
        let working = scope.spawn(|| block_on(worker.recv_async()).map(drop));
        let receiving = scope.spawn(|| {
            block_on(async {
                let mut messages = consumer.into_stream();
                let mut outcomes = Vec::new();
                while let Some(message) = next(&mut messages).await {
                    outcomes.push(message.map(drop));
                    if outcomes.len() == 8 {
                        messages.consumer().commit().unwrap();
                        std::thread::sleep(Duration::from_millis(50));
                    }
                }
                outcomes
            })
        });
        std::thread::sleep(Duration::from_millis(300));
        drop(broker);
        // There was room in the end, or the broker was gone before.
        let sent = sending.join().unwrap();
        assert!(matches!(sent, Ok(_) | Err(SendError::Disconnected { .. })), "{sent:?}");
        assert!(matches!(working.join().unwrap(), Err(RecvError::Disconnected)));
        let outcomes = receiving.join().unwrap();
        let (last, before) = outcomes.split_last().unwrap();
        assert!(matches!(last, Err(RecvError::Disconnected)) && before.iter().all(Result::is_ok));
    });
}

#[test]
fn what_a_task_has_settled_is_confirmed_when_it_is_on_the_device() {
    let broker = KeptBroker::start(Path::new(env!("CARGO_BIN_EXE_ringway-test-peer")));
    let connection = broker.connect();
    let settings = StreamSettings { durability: Durability::Synced, partitions: 2, ..SMALL };
    connection.declare_stream("s", settings).unwrap();
    connection.declare_subscription("s", "a", StartAt::First).unwrap();
    connection.declare_queue("q", settings, SharedSettings::default()).unwrap();
    let (mut producer, mut consumer) = open(&connection, AT_ONCE);
    let mut jobs = connection.producer("q").open().unwrap();
    let mut worker = connection.queue_consumer("q").open().unwrap();
    for message in 0..8_u64 {
        producer.send(&message.to_le_bytes()).unwrap();
        jobs.send(&message.to_le_bytes()).unwrap();
    }
    block_on(async {
        for job in 0..8 {
            consumer.recv_async().await.unwrap();
            let delivery = worker.recv_async().await.unwrap();
            if job == 7 { delivery.reject().unwrap() } else { delivery.ack().unwrap() }
        }
        consumer.confirm_commit_async().await.unwrap();
        worker.confirm_settled_async().await.unwrap();
        producer.confirmation_of_all().unwrap().await.unwrap();
    });
    // A broker that is stopped confirms nothing, and its successor what it could not.
    producer.send(b"one more").unwrap();
    consumer.recv().unwrap();
    broker.freeze();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| block_on(consumer.confirm_commit_async()));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        broker.succeed();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn all_may_move_between_threads_and_their_futures_too() {
    fn is_send<T: Send>(_: &T) {}
    fn is_sync<T: Sync>(_: &T) {}
    let (_broker, connection) = broker(SMALL);
    let (mut producer, mut consumer) = open(&connection, AT_ONCE);
    let mut worker = connection.queue_consumer("q").open().unwrap();
    is_send(&connection);
    is_sync(&connection);
    is_send(&producer);
    is_send(&consumer);
    is_send(&worker);
    is_send(&producer.loan(100).unwrap());
    is_send(&consumer.readiness().unwrap());
    is_sync(&consumer.readiness().unwrap());
    is_send(&producer.send_async(b"x"));
    is_send(&producer.send_batch_async([b"x"]));
    is_send(&producer.loan_async(100));
    is_send(&producer.confirmation_of_all().unwrap());
    is_send(&consumer.recv_async());
    is_send(&consumer.confirm_commit_async());
    is_send(&worker.recv_async());
    is_send(&worker.confirm_settled_async());
    is_send(&consumer.into_stream());
    is_send(&worker.into_stream());
}
