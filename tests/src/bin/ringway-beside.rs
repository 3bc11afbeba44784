//! What a journal costs those who are beside it.
//!
//! `ringway-beside [SECONDS]` (1 for each figure when nothing is said): a broker of one shard in a process of its own with its journal in
//! the temporary directory; here a producer and a consumer, both spinning, with one message of 64 B at a time. Five rounds, in
//! each of them the way from one to the other:
//!
//! - on a stream of durability `memory`, on one that is `written`, and on one that is `synced`, with nothing beside;
//! - on `memory` while a third thread publishes to a `synced` stream of the same shard as fast as it is confirmed;
//! - the control of that: on `memory` while the third thread publishes to another stream in memory, and a fourth is busy on the
//!   shard's processor.
//!
//! Prints medians and 99th percentiles in ns of each round, and the medians of the medians. `ringway-test-peer` must lie beside this
//! program.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringway_client::{Connection, Durability, StartAt, StreamSettings, WaitStrategy};
use ringway_tests::kept::KeptBroker;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 5;
/// Messages between two confirms of the one beside.
const HALF_WINDOW: usize = 4096;

/// What goes on beside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    Journaling,
    /// As busy, and nothing is journaled.
    Control,
}

const CASES: [(&str, Beside, &str); 5] = [
    ("memory", Beside::Nothing, "memory, alone"),
    ("written", Beside::Nothing, "written, alone"),
    ("synced", Beside::Nothing, "synced, alone"),
    ("memory", Beside::Journaling, "memory, beside a shard that journals"),
    ("memory", Beside::Control, "memory, beside processors as busy"),
];

fn main() -> Result<(), Failure> {
    let seconds = std::env::args().nth(1).map_or(Ok(1.0), |text| text.parse())?;
    let time = Duration::try_from_secs_f64(seconds)?;
    let broker = KeptBroker::start(&std::env::current_exe()?.with_file_name("ringway-test-peer"));
    let connection = broker.connect();
    for (name, durability) in [
        ("memory", Durability::Memory),
        ("written", Durability::Written),
        ("synced", Durability::Synced),
        ("beside-synced", Durability::Synced),
        ("beside-memory", Durability::Memory),
    ] {
        let settings = StreamSettings { slots: 16_384, durability, ..StreamSettings::DEFAULT };
        connection.declare_stream(name, settings)?;
        if !name.starts_with("beside") {
            connection.declare_subscription(name, "reader", StartAt::First)?;
        }
    }
    let mut medians = [const { Vec::new() }; CASES.len()];
    for round in 1..=ROUNDS {
        println!("round {round}");
        for ((stream, beside, what), medians) in CASES.into_iter().zip(&mut medians) {
            let mut times = measure(&connection, stream, beside, time)?;
            times.sort_unstable();
            let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
            println!("  {what}: p50 {} ns, p99 {} ns ({} times)", at(0.5), at(0.99), times.len());
            medians.push(at(0.5));
        }
    }
    println!("medians of {ROUNDS} rounds");
    for ((.., what), medians) in CASES.into_iter().zip(&mut medians) {
        medians.sort_unstable();
        println!("  {what}: {} ns ({} to {})", medians[ROUNDS / 2], medians[0], medians[ROUNDS - 1]);
    }
    Ok(())
}

/// The ways of messages from one thread to another, in ns, with something beside.
fn measure(
    connection: &Connection,
    stream: &str,
    beside: Beside,
    time: Duration,
) -> Result<Vec<u64>, Failure> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_beside(connection, beside, &is_over));
        if beside == Beside::Control {
            scope.spawn(|| be_busy_in_place_of_the_shard(&is_over));
        }
        let times = one_way(connection, stream, time);
        is_over.store(true, Ordering::Relaxed);
        publisher.join().map_err(|_| "the one beside has panicked")??;
        times
    })
}

fn publish_beside(connection: &Connection, beside: Beside, is_over: &AtomicBool) -> Result<(), Failure> {
    let stream = match beside {
        Beside::Nothing => return Ok(()),
        Beside::Journaling => "beside-synced",
        Beside::Control => "beside-memory",
    };
    let mut producer = connection.producer(stream).open()?;
    let mut before = None;
    while !is_over.load(Ordering::Relaxed) {
        let last = producer.send_batch((0..HALF_WINDOW).map(|_| &[7; 64]))?;
        if let Some(position) = std::mem::replace(&mut before, last) {
            producer.confirm(position)?;
        }
    }
    Ok(())
}

/// The broker's one shard is on the last processor.
fn be_busy_in_place_of_the_shard(is_over: &AtomicBool) {
    if let Ok(allowed) = sched_getaffinity(None)
        && let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu))
    {
        let mut own = CpuSet::new();
        own.set(last);
        // Where that is refused it is busy elsewhere.
        let _ = sched_setaffinity(None, &own);
    }
    while !is_over.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

fn one_way(connection: &Connection, stream: &str, time: Duration) -> Result<Vec<u64>, Failure> {
    let mut producer = connection.producer(stream).wait(WaitStrategy::Spin).open()?;
    let mut consumer = connection.consumer(stream, "reader").wait(WaitStrategy::Spin).open()?;
    let (began, received) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| -> Result<Vec<u64>, Failure> {
            let mut times = Vec::new();
            loop {
                let message = consumer.recv()?;
                let now = began.elapsed().as_nanos() as u64;
                let sent = message.payload().first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                match sent.ok_or("a message without a time")? {
                    0 => return Ok(times),
                    sent => times.push(now - sent),
                }
                received.store(times.len() as u64, Ordering::Release);
            }
        });
        let mut payload = [0; 64];
        let mut sent = 0;
        while began.elapsed() < time {
            payload[..8].copy_from_slice(&(began.elapsed().as_nanos() as u64).to_le_bytes());
            producer.send(&payload)?;
            sent += 1;
            while received.load(Ordering::Acquire) < sent {
                std::hint::spin_loop();
            }
        }
        producer.send(&[0; 64])?;
        reading.join().map_err(|_| "the consumer has panicked")?
    })
}
