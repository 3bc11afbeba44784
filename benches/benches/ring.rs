//! The ring on mapped memory: what one message costs, on one thread and from thread to thread.
//!
//! The figures across threads depend on where the two threads run and on who else runs there: on a machine that
//! is shared they are upper bounds. Nobody sleeps here; waiting is spinning, with a yield every 32 rounds.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway_benches::Partition;
use ringway_shm_protocol::layout::{CAPACITY_DEFAULT, Geometry};
use ringway_shm_protocol::memory::mapped::Mapped;
use ringway_shm_protocol::ring::{CursorReader, Outgoing, Producer, PublishError, Ringer};

/// Processor hints between two looks.
const PAUSES: u32 = 2;
/// Payloads, and slots that hold them.
const SIZES: [(&str, usize, u32); 2] = [("64 B", 64, 128), ("1 KiB", 1024, 2048)];

/// A ring of the default capacity with slots of `slot_bytes`.
fn partition(slot_bytes: u32, subscriptions: usize) -> Partition {
    let geometry = Geometry::new(CAPACITY_DEFAULT, slot_bytes).expect("a size within the limits");
    Partition::create(geometry, subscriptions).expect("memory for one ring")
}

/// Waits a moment, as the client does: the `round`-th of this wait.
fn pause(round: &mut u32) {
    *round += 1;
    if round.is_multiple_of(32) {
        thread::yield_now();
    } else {
        (0..PAUSES).for_each(|_| std::hint::spin_loop());
    }
}

/// Publishes, waiting for space.
fn publish(producer: &mut Producer<Mapped>, payload: &[u8]) {
    let mut round = 0;
    loop {
        match producer.publish(&Outgoing::inline(payload)) {
            Ok(_) => return,
            Err(PublishError::Full(_)) => pause(&mut round),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads one message, waiting for it.
fn receive(reader: &mut CursorReader<Mapped>, buffer: &mut [u8]) {
    let mut round = 0;
    while reader.read(buffer).expect("nobody overwrites a gated message").is_none() {
        pause(&mut round);
    }
}

fn publishing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Elements(1));
    for (name, payload_bytes, slot_bytes) in SIZES {
        let payload = vec![7; payload_bytes];
        let free = partition(slot_bytes, 0);
        let mut producer = free.exclusive();
        group.bench_function(format!("{name}, no consumer"), |bencher| {
            bencher.iter(|| producer.publish(&Outgoing::inline(black_box(&payload))));
        });
        let gated = partition(slot_bytes, 1);
        let (mut reader, mut producer) = (gated.join(0), gated.exclusive());
        let mut buffer = vec![0; slot_bytes as usize];
        group.bench_function(format!("{name}, then read and commit"), |bencher| {
            bencher.iter(|| {
                publish(&mut producer, black_box(&payload));
                receive(&mut reader, &mut buffer);
                reader.commit(reader.position()).expect("nobody takes the cursor");
                black_box(&mut buffer);
            });
        });
    }
    group.finish();
}

/// All gates move on every 1,024 messages, so that the look at the gates is shared by many publishes as in
/// production; the moving itself is not measured.
fn gates(criterion: &mut Criterion) {
    const BATCH: u64 = 1024;
    let mut group = criterion.benchmark_group("publish with gates");
    group.throughput(Throughput::Elements(1));
    for count in [0_u8, 1, 16] {
        let partition = partition(128, count.into());
        let mut readers: Vec<_> = (0..count).map(|subscription| partition.join(subscription)).collect();
        let mut producer = partition.exclusive();
        group.bench_function(format!("{count} gates, 64 B"), |bencher| {
            bencher.iter_custom(|iterations| {
                let (mut spent, mut left) = (Duration::ZERO, iterations);
                while left > 0 {
                    let batch = left.min(BATCH);
                    left -= batch;
                    let start = Instant::now();
                    for _ in 0..batch {
                        publish(&mut producer, black_box(&[7; 64]));
                    }
                    spent += start.elapsed();
                    for reader in &mut readers {
                        (0..batch).for_each(|_| receive(reader, &mut [0; 128]));
                        reader.commit(reader.position()).expect("nobody takes the cursor");
                    }
                }
                spent
            });
        });
    }
    group.finish();
}

fn looking(criterion: &mut Criterion) {
    let empty = partition(128, 1);
    let mut reader = empty.join(0);
    criterion.bench_function("poll of an empty ring", |bencher| {
        bencher.iter(|| reader.read(black_box(&mut [0; 128])));
    });
    let (doorbell, mut ringer) = (empty.data_doorbell(), Ringer::default());
    criterion.bench_function("ring when nobody sleeps", |bencher| {
        bencher.iter(|| black_box(ringer.ring(&doorbell)));
    });
}

/// There and back over two rings; what is reported is one way.
fn ping_pong(criterion: &mut Criterion) {
    for (name, payload_bytes, slot_bytes) in SIZES {
        criterion.bench_function(&format!("thread to thread: one way, {name}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let (there, back) = (partition(slot_bytes, 1), partition(slot_bytes, 1));
                let (mut pings, mut pongs) = (there.join(0), back.join(0));
                let (mut ping, mut pong) = (there.exclusive(), back.exclusive());
                let payload = vec![7; payload_bytes];
                let buffer = vec![0; slot_bytes as usize];
                let begin = Barrier::new(2);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut buffer = buffer.clone();
                        begin.wait();
                        for _ in 0..iterations {
                            receive(&mut pings, &mut buffer);
                            pings.commit(pings.position()).expect("nobody takes the cursor");
                            publish(&mut pong, &payload);
                        }
                    });
                    let mut buffer = buffer.clone();
                    begin.wait();
                    let start = Instant::now();
                    for _ in 0..iterations {
                        publish(&mut ping, &payload);
                        receive(&mut pongs, &mut buffer);
                        pongs.commit(pongs.position()).expect("nobody takes the cursor");
                    }
                    start.elapsed() / 2
                })
            });
        });
    }
}

/// Reads `messages` as fast as it goes; commits every 64 messages and when it has caught up.
fn consume(mut reader: CursorReader<Mapped>, messages: u64) {
    let (mut buffer, mut round) = ([0; 128], 0);
    while reader.position() < messages {
        let read = reader.read(&mut buffer).expect("nobody overwrites a gated message");
        let batch = if read.is_some() { 64 } else { 1 };
        if reader.uncommitted() >= batch {
            reader.commit(reader.position()).expect("nobody takes the cursor");
        }
        if read.is_none() && !reader.gives_way() {
            pause(&mut round);
        }
    }
}

/// `producers`, each on a thread of its own, and one consumer on this one.
fn through(partition: &Partition, producers: Vec<Producer<Mapped>>, messages: u64) -> Duration {
    let reader = partition.join(0);
    let begin = Barrier::new(producers.len() + 1);
    let each = messages.div_ceil(producers.len() as u64);
    thread::scope(|scope| {
        let all = each * producers.len() as u64;
        for mut producer in producers {
            let begin = &begin;
            scope.spawn(move || {
                begin.wait();
                for _ in 0..each {
                    publish(&mut producer, black_box(&[7; 64]));
                }
            });
        }
        begin.wait();
        let start = Instant::now();
        consume(reader, all);
        start.elapsed()
    })
}

fn throughput(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("thread to thread: throughput, 64 B");
    group.throughput(Throughput::Elements(1));
    group.bench_function("exclusive producer", |bencher| {
        bencher.iter_custom(|iterations| {
            let ring = partition(128, 1);
            through(&ring, vec![ring.exclusive()], iterations)
        });
    });
    for count in [1, 2, 4] {
        group.bench_function(format!("shared producers: {count}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let ring = partition(128, 1);
                through(&ring, (1..=count).map(|owner| ring.shared(owner)).collect(), iterations)
            });
        });
    }
    group.finish();
}

criterion_group!(ring, publishing, gates, looking, ping_pong, throughput);
criterion_main!(ring);
