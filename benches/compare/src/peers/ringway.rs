//! Ringway: a topic with one cursor subscription per direction, between two processes, both spinning; in `wake` the
//! consumer sleeps as soon as it finds nothing.
//!
//! What always holds:
//!
//! 1. The whole product takes part as users have it: a broker with its shard, the client crate, sessions,
//!    gates, sleepers looked for at every publish. Nothing is switched off.
//! 2. A trial has its own broker in a private directory, which ends with the trial.
//! 3. Each message is published by a call of its own.
//! 4. The peers differ in what the streams are declared with alone: exclusive or shared producers; a topic, or a queue
//!    whose consumer acks each message by a call of its own.
//! 5. In `large` a message is a loan that is written in place; what does not fit a slot is read in place.
//! 6. In `durable` the stream is `synced`, has no subscription, and keeps its last messages; its shard is on the far CPU. Each
//!    message is published by a call of its own, the producer spins on the watermark.

use std::io::Write;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use ringway_broker::config::Config;
use ringway_broker::{Broker, BrokerError, Stopper};
use ringway_client::{
    Connection, Consumer, Durability, Message, Position, Producer, Producers, SLOT_BYTES_DEFAULT,
    SLOT_BYTES_MAX, SharedConsumer, SharedSettings, StartAt, StreamSettings, WaitStrategy,
};
use tempfile::TempDir;

use crate::backoff::STALL_LIMIT;
use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::{Attachment, FarProcess, FarSide};
use crate::measure::durable::{self, Confirmed, KEPT_MESSAGES};
use crate::measure::{self, Receiver, SLEEP, Sender, fan_out, many_producers};
use crate::payload::{Payload, Verifier, write_message};
use crate::pinning::pin_current_thread;
use crate::trial::{Case, Measured, Trial};

const THERE: &str = "there";
const BACK: &str = "back";
/// Sleeps after the first few looks in vain.
const SLEEP_AT_ONCE: WaitStrategy = WaitStrategy::Adaptive { spin: Duration::ZERO };
/// What a slot holds beside the payload, in bytes.
const SLOT_HEADER_BYTES: usize = 16;

/// Runs one trial with streams for exclusive or shared producers.
pub(super) fn measure(trial: &Trial, producers: Producers) -> Result<Measured, CompareError> {
    let broker = PrivateBroker::start(trial)?;
    let directory = broker.directory.path().to_owned();
    let connection = connect(&directory)?;
    let settings = settings(trial, producers);
    for (stream, consumers) in [(THERE, trial.parties.consumers()), (BACK, 1)] {
        connection.declare_stream(stream, settings).map_err(failed("declare a stream"))?;
        for number in 0..consumers {
            connection
                .declare_subscription(stream, &subscription(number), StartAt::First)
                .map_err(failed("declare a subscription"))?;
        }
    }
    let attachment = Attachment { descriptors: Vec::new(), directory: Some(directory) };
    if trial.case == Case::Producers {
        let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
        return many_producers::near_end(trial, |_| open_sender(&connection, THERE), &mut control);
    }
    let sender = open_sender(&connection, THERE)?;
    let receiver = open_receiver(&connection, BACK, 0, WaitStrategy::Spin)?;
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    measure::near_end(trial, sender, receiver, &mut control)
}

/// Runs the far end.
pub(super) fn far_end<W: Write>(side: &mut FarSide, reporter: &mut Reporter<W>) -> Result<(), CompareError> {
    let connection = connect(side.directory()?)?;
    let sender = open_sender(&connection, BACK)?;
    let wait = if side.trial.case == Case::Wake { SLEEP_AT_ONCE } else { WaitStrategy::Spin };
    if side.trial.case == Case::FanOut {
        let open = |number| open_receiver(&connection, THERE, number, wait);
        let receivers = (0..side.trial.parties.consumers()).map(open).collect::<Result<Vec<_>, _>>()?;
        return fan_out::far_end(&side.trial, sender, receivers, reporter);
    }
    let receiver = open_receiver(&connection, THERE, 0, wait)?;
    measure::far_end(&side.trial, sender, receiver, reporter)
}

/// Runs one trial with queues.
pub(super) fn measure_queue(trial: &Trial) -> Result<Measured, CompareError> {
    let broker = PrivateBroker::start(trial)?;
    let directory = broker.directory.path().to_owned();
    let connection = connect(&directory)?;
    for queue in [THERE, BACK] {
        connection
            .declare_queue(queue, settings(trial, Producers::Shared), SharedSettings::default())
            .map_err(failed("declare a queue"))?;
    }
    let sender = open_sender(&connection, THERE)?;
    let receiver = open_queue(&connection, BACK)?;
    let attachment = Attachment { descriptors: Vec::new(), directory: Some(directory) };
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    measure::near_end(trial, sender, receiver, &mut control)
}

/// Runs the far end of queues.
pub(super) fn far_end_of_queue<W: Write>(
    side: &mut FarSide,
    reporter: &mut Reporter<W>,
) -> Result<(), CompareError> {
    let connection = connect(side.directory()?)?;
    let (sender, receiver) = (open_sender(&connection, BACK)?, open_queue(&connection, THERE)?);
    measure::far_end(&side.trial, sender, receiver, reporter)
}

/// Runs one trial of `durable`.
pub(super) fn measure_durable(trial: &Trial) -> Result<Measured, CompareError> {
    // What the broker starts inherits the CPU; then this thread is the producer again.
    pin_current_thread(trial.cpus.far)?;
    let broker = PrivateBroker::start(trial);
    pin_current_thread(trial.cpus.near)?;
    let broker = broker?;
    let connection = connect(broker.directory.path())?;
    let settings = StreamSettings {
        slots: KEPT_MESSAGES.into(),
        durability: Durability::Synced,
        ..settings(trial, Producers::Exclusive)
    };
    connection.declare_stream(THERE, settings).map_err(failed("declare a stream"))?;
    durable::near_end(trial, trial.parties.window(), open_sender(&connection, THERE)?)
}

/// A slot that holds the payload, unless it is larger than slots can be or is to be written in place: then it is in a
/// block beside the ring.
fn settings(trial: &Trial, producers: Producers) -> StreamSettings {
    let fitting = u32::try_from((trial.bytes + SLOT_HEADER_BYTES).next_power_of_two())
        .ok()
        .filter(|bytes| *bytes <= SLOT_BYTES_MAX && trial.case != Case::Large);
    StreamSettings {
        slots: trial.depth as u64,
        slot_bytes: fitting.unwrap_or(SLOT_BYTES_DEFAULT),
        producers,
        ..StreamSettings::DEFAULT
    }
}

/// The name of a consumer's subscription, by its number from 0.
fn subscription(number: u32) -> String {
    format!("reader-{number}")
}

/// A broker of this trial's own; ends when dropped.
struct PrivateBroker {
    directory: TempDir,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), BrokerError>>>,
}

impl PrivateBroker {
    fn start(trial: &Trial) -> Result<Self, CompareError> {
        let directory = trial.private_directory()?;
        let config =
            Config::load(None, Some(directory.path().to_owned())).map_err(failed("configure a broker"))?;
        let broker = Broker::start(config).map_err(failed("start a broker"))?;
        let stopper = broker.stopper();
        let thread = Some(std::thread::spawn(move || broker.wait()));
        Ok(Self { directory, stopper, thread })
    }
}

impl Drop for PrivateBroker {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            // The trial is over: what it measured does not depend on how the broker ended.
            drop(thread.join());
        }
    }
}

fn connect(directory: &Path) -> Result<Connection, CompareError> {
    Connection::open(directory).map_err(failed("connect to the broker"))
}

fn open_sender(connection: &Connection, stream: &str) -> Result<RingwaySender, CompareError> {
    let builder = connection.producer(stream).wait(WaitStrategy::Spin);
    Ok(RingwaySender(builder.open().map_err(failed("open a producer"))?))
}

fn open_receiver(
    connection: &Connection,
    stream: &str,
    number: u32,
    wait: WaitStrategy,
) -> Result<RingwayReceiver, CompareError> {
    let builder = connection.consumer(stream, &subscription(number)).wait(wait);
    Ok(RingwayReceiver(builder.open().map_err(failed("open a consumer"))?))
}

fn open_queue(connection: &Connection, queue: &str) -> Result<QueueReceiver, CompareError> {
    let builder = connection.queue_consumer(queue).wait(WaitStrategy::Spin);
    Ok(QueueReceiver(builder.open().map_err(failed("open a queue"))?))
}

struct RingwaySender(Producer);

impl Sender for RingwaySender {
    #[inline]
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        self.0.send_timeout(payload.bytes(), STALL_LIMIT).map_err(failed("send a message"))?;
        Ok(())
    }

    #[inline]
    fn send_written(&mut self, sequence: u64, own: &mut Payload) -> Result<(), CompareError> {
        let mut loan = self.0.loan(own.bytes().len()).map_err(failed("loan memory"))?;
        write_message(&mut loan, sequence);
        self.0.send_loan(loan).map_err(failed("send a loan"))?;
        Ok(())
    }
}

impl Confirmed for RingwaySender {
    fn confirm(&mut self, messages: u64) -> Result<(), CompareError> {
        // The stream is new: its first message is at position 0.
        let Some(position) = messages.checked_sub(1) else { return Ok(()) };
        let confirmed = self.0.confirm_timeout(Position { partition: 0, position }, STALL_LIMIT);
        match confirmed.map_err(failed("confirm a message"))? {
            Durability::Synced => Ok(()),
            level => Err(failed("confirm a message")(format!("it is confirmed as {level:?} alone"))),
        }
    }
}

struct RingwayReceiver(Consumer);

impl Receiver for RingwayReceiver {
    #[inline]
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        match self.0.try_recv().map_err(failed("receive a message"))? {
            None => Ok(false),
            Some(message) => {
                read(&message, verifier);
                Ok(true)
            }
        }
    }

    fn receive_asleep(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        match self.0.recv_timeout(SLEEP).map_err(failed("receive a message"))? {
            None => Ok(false),
            Some(message) => {
                read(&message, verifier);
                Ok(true)
            }
        }
    }
}

struct QueueReceiver(SharedConsumer);

impl Receiver for QueueReceiver {
    #[inline]
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        match self.0.try_recv().map_err(failed("receive a message"))? {
            None => Ok(false),
            Some(delivery) => {
                verifier.read(delivery.payload());
                delivery.ack().map_err(failed("ack a message"))?;
                Ok(true)
            }
        }
    }
}

/// Reads a message where it is.
#[inline]
fn read(message: &Message<'_>, verifier: &mut Verifier) {
    match message.view() {
        None => verifier.read(message.payload()),
        // SAFETY: the only producer is the other end of this trial, which runs this very program: it writes to a loan
        // before it sends it, and never after.
        Some(view) => verifier.read(unsafe { view.as_slice() }),
    }
}

fn failed<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> CompareError {
    move |error| CompareError::Peer { peer: "ringway", action, detail: error.to_string() }
}
