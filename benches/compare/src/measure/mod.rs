//! The cases, written once for all peers.
//!
//! | module | its cases |
//! |---|---|
//! | one_way | `one_way`: a message there, one back |
//! | rate | `throughput` and `large`: a fixed number of messages |
//! | steady | `steady`: a fixed time, and the consumer's lag |
//! | fan_out | `fan_out`: bursts to several consumers |
//! | many_producers | `producers`: several producers to one consumer |
//! | wake | `wake`: messages to a consumer that sleeps |
//! | durable | `durable`: messages to a broker that confirms them |
//!
//! What always holds:
//!
//! 1. Every message takes the same steps, whatever the peer: stamp, send (one copy into the transport, one
//!    publish), receive, read every word. In `large` the payload is written in place, if the transport gives out
//!    memory, rather than stamped and copied.
//! 2. A rate runs from just before the first message is stamped (near end) until the last has been read (far
//!    end), both on the one monotonic clock. The warm-up before it has been received in full, so that the
//!    transport is empty when the clock starts.
//! 3. A spinning end waits with the one [`Backoff`], between two looks that return at once.
//!
//! It does not subtract anything from what it measures.

pub(crate) mod durable;
pub(crate) mod fan_out;
pub(crate) mod many_producers;
mod one_way;
mod rate;
mod steady;
mod wake;

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::backoff::Backoff;
use crate::control::{Control, Reporter, Step};
use crate::error::CompareError;
use crate::payload::{Payload, Verifier};
use crate::trial::{Case, Measured, Trial};

/// One end of one direction that publishes.
pub(crate) trait Sender {
    /// Copies the payload into the transport and publishes it by itself. Waits while the transport is full.
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError>;

    /// Publishes the message at position `sequence` of which every word is written now: in place where the transport
    /// gives out memory, else in `own` and copied from there.
    fn send_written(&mut self, sequence: u64, own: &mut Payload) -> Result<(), CompareError> {
        own.write(sequence);
        self.send(own)
    }
}

/// One end of one direction that consumes.
pub(crate) trait Receiver {
    /// Hands the next message to the verifier, or the next few of a transport that gives several in one call. `false` if
    /// there is none; a blocking transport waits instead.
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError>;

    /// Hands the next message to the verifier, asleep in the kernel until it comes. `false` if none came for
    /// [`SLEEP`].
    fn receive_asleep(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        self.try_receive(verifier)
    }
}

/// How long a sleeping receiver sleeps before it returns in vain.
pub(crate) const SLEEP: std::time::Duration = std::time::Duration::from_secs(1);
/// The longest latency that a histogram tells apart; longer ones count as this. In nanoseconds.
const LONGEST_NS: u64 = 10_000_000_000;
/// The precision of a histogram in decimal digits.
const HISTOGRAM_DIGITS: u8 = 3;

/// Runs the near end of a trial with one producer: it publishes, keeps the clock, and gives the figures.
pub(crate) fn near_end(
    trial: &Trial,
    mut sender: impl Sender,
    mut receiver: impl Receiver,
    control: &mut Control,
) -> Result<Measured, CompareError> {
    control.expect_ready()?;
    match trial.case {
        Case::OneWay => one_way::ping(trial, &mut sender, &mut receiver, control),
        Case::Throughput | Case::Large => rate::publish(trial, &mut sender, control),
        Case::FanOut => fan_out::publish(trial, &mut sender, &mut receiver, control),
        Case::Wake => wake::publish(trial, &mut sender, &mut receiver, control),
        Case::Steady => steady::publish(trial, &mut sender, control),
        Case::Producers => Err(not_here("several producers")),
        Case::Durable => Err(not_here("confirms")),
    }
}

/// Runs the far end of a trial with one consumer: it consumes, and answers where the case wants answers.
pub(crate) fn far_end<W: std::io::Write>(
    trial: &Trial,
    mut sender: impl Sender,
    mut receiver: impl Receiver,
    reporter: &mut Reporter<W>,
) -> Result<(), CompareError> {
    reporter.say(&Step::Ready)?;
    let (at_ns, measured) = match trial.case {
        Case::OneWay => (one_way::pong(trial, &mut sender, &mut receiver)?, Vec::new()),
        Case::Throughput | Case::Large => {
            (rate::consume(trial, &mut receiver, Verifier::new(trial.bytes), reporter)?, Vec::new())
        }
        Case::Producers => {
            let verifier = Verifier::of_producers(trial.bytes, trial.parties.producers());
            (rate::consume(trial, &mut receiver, verifier, reporter)?, Vec::new())
        }
        Case::Wake => wake::consume(trial, &mut sender, &mut receiver)?,
        Case::Steady => steady::consume(trial, &mut receiver, reporter)?,
        Case::FanOut => return Err(not_here("several consumers")),
        Case::Durable => return Err(not_here("no consumer")),
    };
    reporter.say(&Step::Finished { at_ns, measured })
}

fn not_here(wanted: &'static str) -> CompareError {
    CompareError::Control { wanted, got: "a peer without them".to_owned() }
}

#[inline]
fn receive_one(
    receiver: &mut impl Receiver,
    verifier: &mut Verifier,
    backoff: &mut Backoff,
) -> Result<(), CompareError> {
    while !receiver.try_receive(verifier)? {
        backoff.wait()?;
    }
    backoff.reset();
    Ok(())
}

/// A histogram of latencies in nanoseconds.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, HISTOGRAM_DIGITS)
        .expect("the bounds are constants that the histogram takes")
}

/// Messages a second over a span of the monotonic clock.
fn per_second(messages: u64, start_ns: u64, end_ns: u64) -> f64 {
    messages as f64 / (end_ns.saturating_sub(start_ns).max(1) as f64 / 1e9)
}

/// The clock that all processes of the machine share, in nanoseconds.
#[inline]
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
