//! What the device and io_uring can do without Ringway: the raw control for everything that a journal promises.
//!
//! `ringway-device [DIRECTORY] [SECONDS]` (the temporary directory, and 1 for each figure, when nothing is said). A file of 64 MiB,
//! every block of it written before, is overwritten with O_DIRECT, each write linked to an fdatasync behind it:
//!
//! - one 4 KiB at a time, by a thread that spins on the completions, and by one that sleeps in an eventfd that they add to;
//! - the same asked for by another thread, which rings a futex and sleeps on a second one: the writer is parked by FUTEX_WAIT in its
//!   ring and woken through the eventfd, as a shard is;
//! - batches of 64 KiB to 1 MiB with 1 to 4 in flight, in bytes and syncs per second.
//!
//! Prints medians and 99th percentiles in µs. In three rounds, so that it can be seen what the machine did meanwhile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway_benches::device::Device;

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 3;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let time = Duration::try_from_secs_f64(arguments.next().map_or(Ok(1.0), |text| text.parse())?)?;
    let path = directory.join(format!("ringway-device-{}", std::process::id()));
    let measured = measure(&path, time);
    // Whatever has happened: it is of no use any more.
    let _ = std::fs::remove_file(&path);
    measured
}

fn measure(path: &Path, time: Duration) -> Result<(), Failure> {
    let mut device = Device::open(path)?;
    for round in 1..=ROUNDS {
        println!("round {round}");
        show("4 KiB, one at a time, spinning", device.one_at_a_time(time, Device::spin)?);
        show("4 KiB, one at a time, sleeping in an eventfd", device.one_at_a_time(time, Device::sleep)?);
        show("4 KiB for another thread, both parked", device.for_another(time)?);
        for (bytes, depth) in [(64 << 10, 1), (256 << 10, 1), (256 << 10, 4), (1 << 20, 1), (1 << 20, 4)] {
            let batches = device.many(bytes, depth, time)?;
            let per_second = batches as f64 / time.as_secs_f64();
            let megabytes = per_second * bytes as f64 / 1e6;
            println!(
                "  {:>4} KiB, {depth} in flight: {megabytes:.0} MB/s, {per_second:.0} syncs/s",
                bytes >> 10
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
