//! How long a confirm takes, and how many there are in a second.
//!
//! `ringway-confirms [SECONDS]` (2 for each figure when nothing is said): a broker in a process of its own with its journal in the
//! temporary directory, one producer here, a `synced` stream without subscriptions. Three rounds, in each of them: the raw
//! device (4 KiB, O_DIRECT, overwritten, then fdatasync, one after another), one message of 64 B at a time, spinning and
//! sleeping; and 64 B and 1 KiB with a confirm for every 8,192 messages, so that up to 16,384 are on their way. Prints medians and
//! 99th percentiles in µs, and messages and bytes in a second. `ringway-test-peer` must lie beside this program.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use ringway_client::{Connection, Durability, Position, StreamSettings, WaitStrategy};
use ringway_tests::kept::KeptBroker;

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 3;
/// Bytes that are overwritten again and again, and at once.
const RAW_FILE_BYTES: u64 = 16 << 20;
const BLOCK_BYTES: usize = 4096;
/// Messages between two confirms.
const HALF_WINDOW: u64 = 8192;

fn main() -> Result<(), Failure> {
    let seconds = std::env::args().nth(1).map_or(Ok(2.0), |text| text.parse())?;
    let time = Duration::try_from_secs_f64(seconds)?;
    let broker = KeptBroker::start(&std::env::current_exe()?.with_file_name("ringway-test-peer"));
    let connection = broker.connect();
    for (name, slot_bytes) in [("small", 128), ("large", 2048)] {
        let settings = StreamSettings {
            slots: 65_536,
            slot_bytes,
            durability: Durability::Synced,
            ..StreamSettings::DEFAULT
        };
        connection.declare_stream(name, settings)?;
    }
    for round in 1..=ROUNDS {
        println!("round {round}");
        show("raw 4 KiB write + fdatasync", raw(&broker.path(), time)?);
        show("64 B, one at a time, spinning", one_at_a_time(&connection, WaitStrategy::Spin, time)?);
        let sleeping = WaitStrategy::Adaptive { spin: Duration::ZERO };
        show("64 B, one at a time, sleeping", one_at_a_time(&connection, sleeping, time)?);
        for (stream, bytes) in [("small", 64), ("large", 1024)] {
            let messages = many(&connection, stream, bytes, time)?;
            let per_second = messages as f64 / time.as_secs_f64();
            println!(
                "  {bytes:>5} B, many in flight: {:.2} M messages/s, {:.0} MB/s",
                per_second / 1e6,
                per_second * bytes as f64 / 1e6
            );
        }
    }
    Ok(())
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1e3;
    println!("  {what}: p50 {:.1} µs, p99 {:.1} µs ({} times)", at(0.5), at(0.99), times.len());
}

/// Writes and syncs blocks of a file beside the journal.
fn raw(directory: &std::path::Path, time: Duration) -> Result<Vec<Duration>, Failure> {
    let path = directory.join("raw");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits().try_into()?)
        .open(&path)?;
    let memory = vec![1; 2 * BLOCK_BYTES];
    let from = memory.as_ptr().align_offset(BLOCK_BYTES);
    let block = &memory[from..from + BLOCK_BYTES];
    for at in (0..RAW_FILE_BYTES).step_by(BLOCK_BYTES) {
        file.write_all_at(block, at)?;
    }
    file.sync_all()?;
    let (mut times, began, mut at) = (Vec::new(), Instant::now(), 0);
    while began.elapsed() < time {
        let begin = Instant::now();
        file.write_all_at(block, at)?;
        file.sync_data()?;
        times.push(begin.elapsed());
        at = (at + BLOCK_BYTES as u64) % RAW_FILE_BYTES;
    }
    std::fs::remove_file(path)?;
    Ok(times)
}

fn one_at_a_time(
    connection: &Connection,
    wait: WaitStrategy,
    time: Duration,
) -> Result<Vec<Duration>, Failure> {
    let mut producer = connection.producer("small").wait(wait).open()?;
    let (mut times, began) = (Vec::new(), Instant::now());
    while began.elapsed() < time {
        let begin = Instant::now();
        let position = producer.send(&[7; 64])?;
        producer.confirm(position)?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

/// Publishes with a confirm for each half of the window; returns how many messages were confirmed.
fn many(connection: &Connection, stream: &str, bytes: usize, time: Duration) -> Result<u64, Failure> {
    let mut producer = connection.producer(stream).open()?;
    let payload = vec![7; bytes];
    let (began, mut confirmed, mut before): (_, _, Option<Position>) = (Instant::now(), 0, None);
    while began.elapsed() < time {
        let last = producer.send_batch((0..HALF_WINDOW).map(|_| &payload[..]))?;
        if let Some(position) = std::mem::replace(&mut before, last) {
            producer.confirm(position)?;
            confirmed += HALF_WINDOW;
        }
    }
    Ok(confirmed)
}
