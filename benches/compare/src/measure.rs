//! The two cases, written once for all peers.
//!
//! What always holds:
//!
//! 1. Every message takes the same steps, whatever the peer: stamp, send (one copy into the transport, one
//!    publish), receive, read every word.
//! 2. `one_way` halves a round trip in which both directions take these steps; it includes the two clock reads
//!    around the round trip (half of each, some 25 ns of the round trip on common machines).
//! 3. `throughput` runs from just before the first message is stamped (near end) until the last has been read (far
//!    end), both on the one monotonic clock. The warm-up before it has been received in full, so that the
//!    transport is empty when the clock starts.
//!
//! It does not subtract anything from what it measures.

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::backoff::Backoff;
use crate::control::{Control, Reporter, Step};
use crate::error::CompareError;
use crate::payload::{Payload, Verifier};
use crate::trial::{Case, Measured, Metric, Trial};

/// One end of one direction that publishes.
pub(crate) trait Sender {
    /// Copies the payload into the transport and publishes it by itself. Waits while the transport is full.
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError>;
}

/// One end of one direction that consumes.
pub(crate) trait Receiver {
    /// Hands the next message to the verifier. `false` if there is none; a blocking transport waits instead.
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError>;
}

/// The longest round trip that the histogram tells apart; longer ones count as this. In nanoseconds.
const LONGEST_ROUND_TRIP_NS: u64 = 10_000_000_000;
/// The precision of the histogram in decimal digits.
const HISTOGRAM_DIGITS: u8 = 3;

/// Runs the near end of a trial: it publishes, keeps the clock, and gives the figures.
pub(crate) fn near_end(
    trial: &Trial,
    mut sender: impl Sender,
    mut receiver: impl Receiver,
    control: &mut Control,
) -> Result<Measured, CompareError> {
    control.expect_ready()?;
    match trial.case {
        Case::OneWay => ping(trial, &mut sender, &mut receiver, control),
        Case::Throughput => publish(trial, &mut sender, control),
    }
}

/// Runs the far end of a trial: it consumes, and answers where the case wants answers.
pub(crate) fn far_end<W: std::io::Write>(
    trial: &Trial,
    mut sender: impl Sender,
    mut receiver: impl Receiver,
    reporter: &mut Reporter<W>,
) -> Result<(), CompareError> {
    reporter.say(&Step::Ready)?;
    let at_ns = match trial.case {
        Case::OneWay => pong(trial, &mut sender, &mut receiver)?,
        Case::Throughput => consume(trial, &mut receiver, reporter)?,
    };
    reporter.say(&Step::Finished { at_ns })
}

fn ping(
    trial: &Trial,
    sender: &mut impl Sender,
    receiver: &mut impl Receiver,
    control: &mut Control,
) -> Result<Measured, CompareError> {
    let mut payload = Payload::new(trial.bytes);
    let mut verifier = Verifier::new(trial.bytes);
    let mut backoff = Backoff::new(1);
    let mut round_trips = Histogram::<u64>::new_with_bounds(1, LONGEST_ROUND_TRIP_NS, HISTOGRAM_DIGITS)
        .expect("the bounds are constants that the histogram takes");
    for sequence in 1..=trial.warm_up + trial.messages {
        let start_ns = monotonic_ns();
        payload.stamp(sequence);
        sender.send(&payload)?;
        receive_one(receiver, &mut verifier, &mut backoff)?;
        let round_trip_ns = monotonic_ns() - start_ns;
        if sequence > trial.warm_up {
            round_trips.saturating_record(round_trip_ns);
        }
    }
    control.expect_finished()?;
    verifier.finish()?;
    let one_way_ns = |quantile| round_trips.value_at_quantile(quantile) as f64 / 2.0;
    Ok(vec![(Metric::P50, one_way_ns(0.50)), (Metric::P99, one_way_ns(0.99))])
}

fn pong(trial: &Trial, sender: &mut impl Sender, receiver: &mut impl Receiver) -> Result<u64, CompareError> {
    let mut payload = Payload::new(trial.bytes);
    let mut verifier = Verifier::new(trial.bytes);
    let mut backoff = Backoff::new(1);
    for sequence in 1..=trial.warm_up + trial.messages {
        receive_one(receiver, &mut verifier, &mut backoff)?;
        payload.stamp(sequence);
        sender.send(&payload)?;
    }
    let at_ns = monotonic_ns();
    verifier.finish()?;
    Ok(at_ns)
}

fn publish(trial: &Trial, sender: &mut impl Sender, control: &mut Control) -> Result<Measured, CompareError> {
    let mut payload = Payload::new(trial.bytes);
    for sequence in 1..=trial.warm_up {
        payload.stamp(sequence);
        sender.send(&payload)?;
    }
    control.expect_warm()?;
    let start_ns = monotonic_ns();
    for sequence in trial.warm_up + 1..=trial.warm_up + trial.messages {
        payload.stamp(sequence);
        sender.send(&payload)?;
    }
    let end_ns = control.expect_finished()?;
    let seconds = end_ns.saturating_sub(start_ns).max(1) as f64 / 1e9;
    Ok(vec![(Metric::MessagesPerSecond, trial.messages as f64 / seconds)])
}

fn consume<W: std::io::Write>(
    trial: &Trial,
    receiver: &mut impl Receiver,
    reporter: &mut Reporter<W>,
) -> Result<u64, CompareError> {
    let mut verifier = Verifier::new(trial.bytes);
    let mut backoff = Backoff::new(trial.waiting.caught_up_spins);
    while verifier.sequence() < trial.warm_up {
        receive_one(receiver, &mut verifier, &mut backoff)?;
    }
    reporter.say(&Step::Warm)?;
    while verifier.sequence() < trial.warm_up + trial.messages {
        receive_one(receiver, &mut verifier, &mut backoff)?;
    }
    let at_ns = monotonic_ns();
    verifier.finish()?;
    Ok(at_ns)
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

/// The clock that all processes of the machine share, in nanoseconds.
#[inline]
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
