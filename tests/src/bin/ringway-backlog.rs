//! What a backlog costs: how fast it grows and is drained, and what memory the broker needs meanwhile.
//!
//! `ringway-backlog [GIGABYTES]` (4 when nothing is said): a broker in a process of its own with its journal in the temporary directory,
//! one `synced` stream of 1024 slots that detaches who lags, and two subscriptions that nobody reads while so many bytes are published
//! in messages of 1 KiB. Then one is drained, and the other: what the first one has read may be in the memory of the kernel. Each message
//! must come once, and in order. Prints messages and bytes in a second, and the broker's resident memory in MiB, its own and shared.
//! `ringway-test-peer` must lie beside this program.

use std::time::{Duration, Instant};

use ringway_client::{Connection, Durability, Overflow, StartAt, StreamSettings};
use ringway_tests::kept::KeptBroker;

type Failure = Box<dyn std::error::Error>;

const STREAM: &str = "s";
const SUBSCRIPTIONS: [&str; 2] = ["first", "second"];
const MESSAGE_BYTES: usize = 1024;
/// Messages between two looks at the broker's memory.
const LOOK_EVERY: u64 = 100_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Failure> {
    let gigabytes: f64 = std::env::args().nth(1).map_or(Ok(4.0), |text| text.parse())?;
    let count = (gigabytes * 1e9) as u64 / MESSAGE_BYTES as u64;
    let broker = KeptBroker::start(&std::env::current_exe()?.with_file_name("ringway-test-peer"));
    let connection = broker.connect();
    let settings = StreamSettings {
        slots: 1024,
        slot_bytes: 2048,
        overflow: Overflow::Detach { after_ms: 1 },
        durability: Durability::Synced,
        ..StreamSettings::DEFAULT
    };
    connection.declare_stream(STREAM, settings)?;
    for subscription in SUBSCRIPTIONS {
        connection.declare_subscription(STREAM, subscription, StartAt::First)?;
    }
    let mut producer = connection.producer(STREAM).open()?;
    let (mut payload, mut most, began) = ([7; MESSAGE_BYTES], (0, 0), Instant::now());
    for number in 0..count {
        payload[..8].copy_from_slice(&number.to_le_bytes());
        producer.send_timeout(&payload, PATIENCE)?;
        if number % LOOK_EVERY == 0 {
            most = most.max(resident_mib(broker.pid())?);
        }
    }
    producer.confirm_all_timeout(PATIENCE)?;
    show("published", count, began.elapsed(), most);
    for subscription in SUBSCRIPTIONS {
        let lag = connection.subscription(STREAM, subscription)?.lag();
        drain(&connection, subscription, count, broker.pid(), lag)?;
    }
    Ok(())
}

fn drain(
    connection: &Connection,
    subscription: &str,
    count: u64,
    broker: u32,
    lag: u64,
) -> Result<(), Failure> {
    let mut consumer = connection.consumer(STREAM, subscription).open()?;
    let (mut most, began) = ((0, 0), Instant::now());
    for number in 0..count {
        let message = consumer.recv_timeout(PATIENCE)?.ok_or("a message is missing")?;
        if message.payload()[..8] != number.to_le_bytes() || message.payload().len() != MESSAGE_BYTES {
            return Err(format!("at {number} came {:?}", &message.payload()[..8]).into());
        }
        if number % LOOK_EVERY == 0 {
            most = most.max(resident_mib(broker)?);
        }
    }
    show(&format!("{subscription}, {lag} behind, drained"), count, began.elapsed(), most);
    Ok(())
}

fn show(what: &str, count: u64, time: Duration, (own, shared): (u64, u64)) {
    let per_second = count as f64 / time.as_secs_f64();
    println!(
        "{what}: {:.2} M messages/s, {:.2} GB/s; broker: {own} MiB of its own, {shared} MiB shared",
        per_second / 1e6,
        per_second * MESSAGE_BYTES as f64 / 1e9
    );
}

/// The memory of a process: its own, and what it shares with others.
fn resident_mib(process: u32) -> Result<(u64, u64), Failure> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let of = |name: &str| -> Result<u64, Failure> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
    };
    Ok((of("RssAnon:")? + of("RssFile:")?, of("RssShmem:")?))
}
