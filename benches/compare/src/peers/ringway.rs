//! Ringway: a topic with one cursor subscription per direction, between two processes, both spinning.
//!
//! What always holds:
//!
//! 1. The whole product takes part as users have it: a broker with its shard, the client crate, sessions,
//!    gates, sleepers looked for at every publish. Nothing is switched off.
//! 2. A trial has its own broker in a private directory, which ends with the trial.
//! 3. Each message is published by a call of its own.

use std::io::Write;
use std::path::Path;
use std::thread::JoinHandle;

use ringway_broker::config::Config;
use ringway_broker::{Broker, BrokerError, Stopper};
use ringway_client::{Connection, Consumer, Producer, Producers, StartAt, StreamSettings, WaitStrategy};
use tempfile::TempDir;

use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::{Attachment, FarProcess, FarSide};
use crate::measure::{self, Receiver, Sender};
use crate::payload::{Payload, Verifier};
use crate::trial::{Measured, Trial};

const THERE: &str = "there";
const BACK: &str = "back";
const SUBSCRIPTION: &str = "reader";
/// What a slot holds beside the payload, in bytes.
const SLOT_HEADER_BYTES: usize = 16;

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let broker = PrivateBroker::start()?;
    let directory = broker.directory.path().to_owned();
    let connection = connect(&directory)?;
    let settings = StreamSettings {
        slots: trial.depth as u64,
        slot_bytes: (trial.bytes + SLOT_HEADER_BYTES).next_power_of_two() as u32,
        producers: Producers::Exclusive,
        ..StreamSettings::DEFAULT
    };
    for stream in [THERE, BACK] {
        connection.declare_stream(stream, settings).map_err(failed("declare a stream"))?;
        connection
            .declare_subscription(stream, SUBSCRIPTION, StartAt::First)
            .map_err(failed("declare a subscription"))?;
    }
    let sender = open_sender(&connection, THERE)?;
    let receiver = open_receiver(&connection, BACK)?;
    let attachment = Attachment { descriptors: Vec::new(), directory: Some(directory) };
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    measure::near_end(trial, sender, receiver, &mut control)
}

/// Runs the far end.
pub(super) fn far_end<W: Write>(side: &mut FarSide, reporter: &mut Reporter<W>) -> Result<(), CompareError> {
    let connection = connect(side.directory()?)?;
    let sender = open_sender(&connection, BACK)?;
    let receiver = open_receiver(&connection, THERE)?;
    measure::far_end(&side.trial, sender, receiver, reporter)
}

/// A broker of this trial's own; ends when dropped.
struct PrivateBroker {
    directory: TempDir,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), BrokerError>>>,
}

impl PrivateBroker {
    fn start() -> Result<Self, CompareError> {
        let directory =
            tempfile::tempdir().map_err(CompareError::system("create a private directory for Ringway"))?;
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

fn open_receiver(connection: &Connection, stream: &str) -> Result<RingwayReceiver, CompareError> {
    let builder = connection.consumer(stream, SUBSCRIPTION).wait(WaitStrategy::Spin);
    Ok(RingwayReceiver(builder.open().map_err(failed("open a consumer"))?))
}

struct RingwaySender(Producer);

impl Sender for RingwaySender {
    #[inline]
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        self.0.send(payload.bytes()).map_err(failed("send a message"))?;
        Ok(())
    }
}

struct RingwayReceiver(Consumer);

impl Receiver for RingwayReceiver {
    #[inline]
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        match self.0.try_recv().map_err(failed("receive a message"))? {
            None => Ok(false),
            Some(message) => {
                verifier.read(message.payload());
                Ok(true)
            }
        }
    }
}

fn failed<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> CompareError {
    move |error| CompareError::Peer { peer: "ringway", action, detail: error.to_string() }
}
