//! How long it takes until everything that a dead consumer had is delivered to another one.
//!
//! `ringway-takeover [LEASES] [ROUNDS]` starts a broker with its keeper and, in each round, a process that takes LEASES messages of a queue
//! (100,000 when nothing is said) and is killed with them. It prints the time from the moment at which the process was
//! reaped until another consumer has received and acked all of them; in the end the median of the rounds. `ringway-test-peer`
//! must lie beside this program.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ringway_client::{Connection, SharedSettings, StreamSettings};
use ringway_tests::kept::KeptBroker;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, directory, leases] = &arguments[..]
        && role == "hold"
    {
        return hold(directory, leases.parse()?);
    }
    let number = |index: usize, usual| arguments.get(index).map_or(Ok(usual), |text| text.parse::<u64>());
    let (leases, rounds) = (number(0, 100_000)?, number(1, 9)?);
    let broker = KeptBroker::start(&std::env::current_exe()?.with_file_name("ringway-test-peer"));
    let connection = Connection::open(broker.path())?;
    let settings =
        StreamSettings { slots: (leases + 1).next_power_of_two(), slot_bytes: 64, ..StreamSettings::DEFAULT };
    connection.declare_queue("q", settings, SharedSettings::default())?;
    let mut producer = connection.producer("q").open()?;
    let mut times = Vec::new();
    for round in 1..=rounds {
        for number in 0..leases {
            producer.send(&number.to_le_bytes())?;
        }
        let mut holder = Command::new(std::env::current_exe()?)
            .args(["hold".as_ref(), broker.path().as_os_str(), leases.to_string().as_ref()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        BufReader::new(holder.stdout.take().ok_or("stdout is piped")?).read_line(&mut ready)?;
        // One that waits: it sleeps when the holder dies.
        let mut other = connection.queue_consumer("q").prefetch(64).open()?;
        if other.recv_timeout(Duration::from_millis(50))?.is_some() {
            return Err("the holder has not all messages".into());
        }
        holder.kill()?;
        holder.wait()?;
        let dead = Instant::now();
        for _ in 0..leases {
            let delivery = other.recv_timeout(Duration::from_secs(10))?.ok_or("a message is missing")?;
            if delivery.attempt() != 2 {
                return Err(format!("attempt {} instead of 2", delivery.attempt()).into());
            }
            delivery.ack()?;
        }
        let took = dead.elapsed();
        println!("round {round}: {leases} messages in {took:?}");
        times.push(took);
        other.close()?;
    }
    times.sort_unstable();
    println!("median of {rounds} rounds: {:?}", times[times.len() / 2]);
    Ok(())
}

/// Takes so many messages, and waits for its end.
fn hold(directory: &str, leases: u64) -> Result<(), Failure> {
    let connection = Connection::open(directory)?;
    let mut consumer = connection.queue_consumer("q").open()?;
    for _ in 0..leases {
        std::mem::forget(consumer.recv()?);
    }
    println!("ready");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
