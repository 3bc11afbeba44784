//! What receiving as a task costs beside receiving as a thread.
//!
//! `ringway-faces [SECONDS]` (1 for each figure when nothing is said): a broker in a process of its own; here a producer and a
//! consumer, each on a processor of its own and awake all the time, with one message of 64 B at a time. Nine rounds, in each of
//! them the way from one to the other, received by:
//!
//! - [`Consumer::recv`], and [`Consumer::recv_async`] on a bare executor that parks its thread, and on tokio's of one thread;
//! - the same for the consumer of a queue, each message acked.
//!
//! Prints medians and 99th percentiles in ns of each round, the medians of the medians, and the median of their ratios to the
//! thread's within a round, because machines have faster and slower spells.
//! `ringway-test-peer` must lie beside this program.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringway_client::{
    Connection, Consumer, SharedConsumer, SharedSettings, StartAt, StreamSettings, WaitStrategy,
};
use ringway_tests::kept::KeptBroker;
use ringway_tests::tasks::block_on;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 9;

/// How a message is received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Face {
    Thread,
    Bare,
    Tokio,
}

const FACES: [(Face, &str); 3] =
    [(Face::Thread, "recv"), (Face::Bare, "recv_async, bare"), (Face::Tokio, "recv_async, tokio")];

/// The consumer of either mode.
enum Either {
    Cursor(Consumer),
    Shared(SharedConsumer),
}

impl Either {
    fn recv(&mut self) -> Result<(), Failure> {
        match self {
            Self::Cursor(consumer) => drop(consumer.recv()?),
            Self::Shared(consumer) => consumer.recv()?.ack()?,
        }
        Ok(())
    }

    async fn recv_async(&mut self) -> Result<(), Failure> {
        match self {
            Self::Cursor(consumer) => drop(consumer.recv_async().await?),
            Self::Shared(consumer) => consumer.recv_async().await?.ack()?,
        }
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let seconds = std::env::args().nth(1).map_or(Ok(1.0), |text| text.parse())?;
    let time = Duration::try_from_secs_f64(seconds)?;
    let processors = two_processors()?;
    let broker = KeptBroker::start(&std::env::current_exe()?.with_file_name("ringway-test-peer"));
    let connection = broker.connect();
    connection.declare_stream("cursor", StreamSettings::DEFAULT)?;
    connection.declare_subscription("cursor", "reader", StartAt::First)?;
    connection.declare_queue("queue", StreamSettings::DEFAULT, SharedSettings::default())?;
    let mut medians = [const { [const { Vec::new() }; FACES.len()] }; 2];
    for round in 1..=ROUNDS {
        println!("round {round}");
        for (stream, medians) in ["cursor", "queue"].into_iter().zip(&mut medians) {
            for ((face, what), medians) in FACES.into_iter().zip(medians) {
                let mut times = one_way(&connection, stream, face, time, processors)?;
                times.sort_unstable();
                let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
                println!(
                    "  {stream}, {what}: p50 {} ns, p99 {} ns ({} times)",
                    at(0.5),
                    at(0.99),
                    times.len()
                );
                medians.push(at(0.5));
            }
        }
    }
    println!("medians of {ROUNDS} rounds");
    for (stream, medians) in ["cursor", "queue"].into_iter().zip(&mut medians) {
        let of_thread = medians[0].clone();
        for ((_, what), medians) in FACES.into_iter().zip(medians) {
            let mut ratios: Vec<f64> =
                medians.iter().zip(&of_thread).map(|(own, thread)| *own as f64 / *thread as f64).collect();
            ratios.sort_by(f64::total_cmp);
            medians.sort_unstable();
            let (median, least, most) = (medians[ROUNDS / 2], medians[0], medians[ROUNDS - 1]);
            println!(
                "  {stream}, {what}: {median} ns ({least} to {most}), {:.2} of recv",
                ratios[ROUNDS / 2]
            );
        }
    }
    Ok(())
}

/// The ways of messages from one thread to another, in ns.
fn one_way(
    connection: &Connection,
    stream: &str,
    face: Face,
    time: Duration,
    [first, second]: [usize; 2],
) -> Result<Vec<u64>, Failure> {
    let spin = WaitStrategy::Spin;
    let mut producer = connection.producer(stream).open()?;
    let mut consumer = match stream {
        "queue" => Either::Shared(connection.queue_consumer(stream).wait(spin).open()?),
        _ => Either::Cursor(connection.consumer(stream, "reader").wait(spin).courtesy(false).open()?),
    };
    // When the last message was received, in ns, and how many were.
    let (received_at, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let origin = Instant::now();
    let now_ns = || origin.elapsed().as_nanos() as u64;
    let note = || {
        received_at.store(now_ns(), Ordering::Relaxed);
        // Release: pairs with the acquire of the producer.
        received.fetch_add(1, Ordering::Release) + 1
    };
    // Which message is the last, once that is known.
    let last = AtomicU64::new(u64::MAX);
    let is_last = |count: u64| count == last.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let consuming = scope.spawn(|| -> Result<(), Failure> {
            pin_to(second)?;
            match face {
                Face::Thread => loop {
                    consumer.recv()?;
                    if is_last(note()) {
                        return Ok(());
                    }
                },
                Face::Bare => block_on(receive(&mut consumer, || is_last(note()))),
                Face::Tokio => tokio::runtime::Builder::new_current_thread()
                    .build()?
                    .block_on(receive(&mut consumer, || is_last(note()))),
            }
        });
        pin_to(first)?;
        let (mut times, ends, mut sent) = (Vec::new(), Instant::now() + time, 0_u64);
        while sent < 2 || Instant::now() < ends {
            let began = now_ns();
            producer.send(&[7; 64])?;
            sent += 1;
            while received.load(Ordering::Acquire) < sent {
                std::hint::spin_loop();
            }
            times.push(received_at.load(Ordering::Relaxed).saturating_sub(began));
        }
        last.store(sent + 1, Ordering::Relaxed);
        producer.send(&[7; 64])?;
        consuming.join().map_err(|_| "the consumer has panicked")??;
        Ok(times)
    })
}

async fn receive(consumer: &mut Either, is_last: impl Fn() -> bool) -> Result<(), Failure> {
    loop {
        consumer.recv_async().await?;
        if is_last() {
            return Ok(());
        }
    }
}

/// Two processors that this program may use.
fn two_processors() -> Result<[usize; 2], Failure> {
    let allowed = sched_getaffinity(None)?;
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    match (allowed.next(), allowed.next()) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => Err("two processors are needed".into()),
    }
}

/// Keeps this thread there.
fn pin_to(processor: usize) -> Result<(), Failure> {
    let mut only = CpuSet::new();
    only.set(processor);
    Ok(sched_setaffinity(None, &only)?)
}
