//! What a call costs from C beside the same call from Rust: `cargo bench -p ringway-c`.
//!
//! One process publishes 2,048 messages of 64 bytes and then receives them, again and again, so that neither side ever waits.
//! C and Rust take turns, each in a process of its own; each takes the median of its laps, in processor time of its thread, so that
//! a busy machine disturbs little. Printed are the medians of all turns, with the lowest and the highest.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use ringway_client::{Connection, StartAt, StreamSettings};
use ringway_tests::TestBroker;
use rustix::time::{ClockId, clock_gettime};

const TURNS: usize = 15;
const LAPS: u32 = 400;
const MESSAGES: u32 = 2048;
/// Names this program's other role.
const TWIN: &str = "--rust-twin";

fn main() {
    let mut arguments = std::env::args();
    if arguments.any(|argument| argument == TWIN) {
        return twin(&arguments.next().unwrap());
    }
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    connection.declare_stream("beside", StreamSettings { slots: 4096, ..StreamSettings::DEFAULT }).unwrap();
    connection.declare_subscription("beside", "s", StartAt::First).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let (program, this) = (folder.path().join("beside_rust"), std::env::current_exe().unwrap());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiled = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()))
        .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-I"])
        .arg(sources.join("include"))
        .arg(sources.join("benches/beside_rust.c"))
        .arg(this.with_file_name("libringway.a"))
        .args(["-lpthread", "-ldl", "-lm", "-lgcc_s", "-o"])
        .arg(&program)
        .status();
    assert!(compiled.unwrap().success(), "the C side cannot be compiled");

    let (laps, messages) = (LAPS.to_string(), MESSAGES.to_string());
    let (mut c, mut rust) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for _ in 0..TURNS {
        let mut command = Command::new(&program);
        run(command.arg(broker.path()).args([&laps, &messages]), &mut c);
        run(Command::new(&this).arg(TWIN).arg(broker.path()), &mut rust);
    }
    println!("nanoseconds for a message of 64 bytes, {TURNS} turns: median (lowest to highest)");
    for (index, what) in ["publish", "receive"].into_iter().enumerate() {
        let (c, rust) = (median(&mut c[index]), median(&mut rust[index]));
        println!("{what:8} C {}   Rust {}   C/Rust {:.3}", c.1, rust.1, c.0 / rust.0);
    }
}

/// Runs one side, and notes what it has printed.
fn run(command: &mut Command, into: &mut [Vec<f64>; 2]) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers = text.split_whitespace().map(|number| number.parse().unwrap());
    into.iter_mut().zip(numbers).for_each(|(into, number)| into.push(number));
}

fn median(of: &mut [f64]) -> (f64, String) {
    of.sort_unstable_by(f64::total_cmp);
    let (median, last) = (of[of.len() / 2], of[of.len() - 1]);
    (median, format!("{median:6.1} ({:.1} to {last:.1})", of[0]))
}

/// The Rust side, as beside_rust.c.
fn twin(directory: &str) {
    let connection = Connection::open(directory).unwrap();
    let mut producer = connection.producer("beside").open().unwrap();
    let mut consumer = connection.consumer("beside", "s").open().unwrap();
    let mut payload = [0_u8; 64];
    payload[0] = 1;
    let (mut publishing, mut receiving, mut sum) = (Vec::new(), Vec::new(), 0);
    for _ in 0..LAPS {
        let start = now_ns();
        for count in 0..MESSAGES {
            payload[1] = count as u8;
            // Of a length that the compiler does not know, as it cannot know that of a caller in C.
            producer.send(black_box(&payload[..])).unwrap();
        }
        let published = now_ns();
        for _ in 0..MESSAGES {
            let message = consumer.recv().unwrap();
            sum += u64::from(message.payload()[1]) + message.payload().len() as u64;
        }
        publishing.push((published - start) / f64::from(MESSAGES));
        receiving.push((now_ns() - published) / f64::from(MESSAGES));
    }
    println!("{:.3} {:.3} {sum}", median(&mut publishing).0, median(&mut receiving).0);
}

fn now_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    1e9 * now.tv_sec as f64 + now.tv_nsec as f64
}
