//! What the demo's producer and consumers do, each in a process of its own.
//!
//! A role gets the whole input on its standard input, says "ready" when it has opened its stream, and at its end
//! prints what it saw as one line of JSON. Times are nanoseconds of CLOCK_MONOTONIC, which all processes share.

use std::io::Read;
use std::time::Duration;

use ringway_client::{Connection, Consumer, Producer, SendError, SettleError};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::input::split;
use crate::cli::{DemoConsumerArgs, DemoProducerArgs, DemoWorkerArgs, Wait};
use crate::exit::Failure;
use crate::output::{print, print_json};
use crate::serve::end_with_parent;

/// What a role prints when it is about to begin.
pub(crate) const READY: &str = "ready";
/// A consumer gives up when nothing came for so long, a producer when the stream was full for so long.
const STALLED: Duration = Duration::from_secs(10);
/// A consumer waits for so long whether more comes than should.
const NOTHING_MORE: Duration = Duration::from_millis(50);

/// What a role did. The message with index k has position `first_position + k`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Position of the first message.
    pub(crate) first_position: u64,
    /// When each message was about to be sent, or had been received.
    pub(crate) times_ns: Vec<u64>,
    /// Why it is not all of them.
    pub(crate) failure: Option<String>,
}

impl Record {
    /// Messages that were sent or received.
    pub(crate) fn count(&self) -> u64 {
        self.times_ns.len() as u64
    }
}

/// Runs the producer.
pub(crate) fn produce(
    args: &DemoProducerArgs,
    connect: impl FnOnce() -> Result<Connection, Failure>,
) -> Result<(), Failure> {
    let input = begin(args.role.parent)?;
    let lines: Vec<&[u8]> = split(&input).collect();
    let mut producer = connect()?.producer(args.role.stream.as_str()).open()?;
    print(&format!("{READY}\n"))?;
    let mut record = Record { first_position: producer.positions()[0].position, ..Record::default() };
    let sent = send_all(&mut producer, &lines, args, &mut record.times_ns);
    record.failure = sent.err().map(|error| error.to_string());
    producer.close()?;
    print_json(&record)
}

fn send_all(
    producer: &mut Producer,
    lines: &[&[u8]],
    args: &DemoProducerArgs,
    times_ns: &mut Vec<u64>,
) -> Result<(), SendError> {
    let pace_ns = args.pace.as_nanos() as u64;
    let mut due_ns = now_ns();
    for _ in 0..args.role.rounds {
        for line in lines {
            wait_until(due_ns, args.role.wait);
            let sent_ns = now_ns();
            producer.send_timeout(line, STALLED)?;
            times_ns.push(sent_ns);
            // After a delay the pace goes on from there: catching up would measure a queue.
            due_ns = sent_ns + pace_ns;
        }
    }
    Ok(())
}

/// Runs a consumer.
pub(crate) fn consume(
    args: &DemoConsumerArgs,
    connect: impl FnOnce() -> Result<Connection, Failure>,
) -> Result<(), Failure> {
    let input = begin(args.role.parent)?;
    let lines: Vec<&[u8]> = split(&input).collect();
    let builder = connect()?.consumer(args.role.stream.as_str(), args.subscription.as_str());
    let mut consumer = builder.wait(args.role.wait.into()).open()?;
    print(&format!("{READY}\n"))?;
    let mut record = Record { first_position: consumer.positions()[0].position, ..Record::default() };
    record.failure = receive_all(&mut consumer, &lines, args.role.rounds, &mut record.times_ns).err();
    consumer.close()?;
    print_json(&record)
}

/// What a consumer of the queue prints, before it acks a message and afterwards.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Done {
    /// It has a message: its position, which delivery it is, whether it has the bytes of its line.
    Took { position: u64, attempt: u32, equal: bool },
    /// Its ack was successful.
    Acked { position: u64 },
}

/// Runs a consumer of the queue, until it is killed.
pub(crate) fn work(
    args: &DemoWorkerArgs,
    connect: impl FnOnce() -> Result<Connection, Failure>,
) -> Result<(), Failure> {
    let input = begin(args.parent)?;
    let lines: Vec<&[u8]> = split(&input).collect();
    let mut consumer = connect()?.queue_consumer(args.stream.as_str()).open()?;
    print(&format!("{READY}\n"))?;
    loop {
        let delivery = consumer.recv()?;
        let position = delivery.position().position;
        let equal =
            lines.get(position as usize % lines.len()).is_some_and(|line| delivery.payload() == *line);
        print_json(&Done::Took { position, attempt: delivery.attempt(), equal })?;
        std::thread::sleep(args.work);
        match delivery.ack() {
            Ok(()) => print_json(&Done::Acked { position })?,
            // Somebody else has it.
            Err(SettleError::Late { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives and compares; an error says what is wrong with which line.
fn receive_all(
    consumer: &mut Consumer,
    lines: &[&[u8]],
    rounds: u64,
    times_ns: &mut Vec<u64>,
) -> Result<(), String> {
    let first_position = consumer.positions()[0].position;
    for round in 1..=rounds {
        for (index, line) in lines.iter().enumerate() {
            let place = || format!("line {} in round {round}", index + 1);
            let received = consumer.recv_timeout(STALLED).map_err(|error| format!("{}: {error}", place()))?;
            let received_ns = now_ns();
            let message = received.ok_or_else(|| format!("{} did not come within {STALLED:?}", place()))?;
            let position = first_position + times_ns.len() as u64;
            if message.position() != position {
                return Err(format!(
                    "{} came at position {} instead of {position}",
                    place(),
                    message.position()
                ));
            }
            if message.payload() != *line {
                return Err(format!("{} (position {position}) came with other bytes", place()));
            }
            times_ns.push(received_ns);
        }
    }
    match consumer.recv_timeout(NOTHING_MORE).map_err(|error| error.to_string())? {
        None => Ok(()),
        Some(message) => Err(format!("position {} came, which nobody sent", message.position())),
    }
}

/// Ties this process to the demo, and reads the input.
fn begin(parent: u32) -> Result<Vec<u8>, Failure> {
    end_with_parent(parent, Signal::KILL)?;
    let mut input = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut input);
    read.map_err(|error| Failure::new(format!("cannot read the demo's input: {error}")))?;
    Ok(input)
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Who sleeps wakes up too late by some 50 µs, which only delays the send.
fn wait_until(due_ns: u64, wait: Wait) {
    loop {
        let left_ns = due_ns.saturating_sub(now_ns());
        match wait {
            _ if left_ns == 0 => return,
            Wait::Spin => std::hint::spin_loop(),
            Wait::Sleep => std::thread::sleep(Duration::from_nanos(left_ns)),
        }
    }
}
