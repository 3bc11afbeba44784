//! `one_way`: one message in flight.
//!
//! Always: a round trip in which both directions take the same steps is halved; it includes the two clock reads
//! around the round trip (half of each, some 25 ns of the round trip on common machines).

use super::{Receiver, Sender, latencies, monotonic_ns, receive_one};
use crate::backoff::Backoff;
use crate::control::Control;
use crate::error::CompareError;
use crate::payload::{Payload, Verifier};
use crate::trial::{Measured, Metric, Trial};

pub(super) fn ping(
    trial: &Trial,
    sender: &mut impl Sender,
    receiver: &mut impl Receiver,
    control: &mut Control,
) -> Result<Measured, CompareError> {
    let mut payload = Payload::new(trial.bytes);
    let mut verifier = Verifier::new(trial.bytes);
    let mut backoff = Backoff::new(1);
    let mut round_trips = latencies();
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

pub(super) fn pong(
    trial: &Trial,
    sender: &mut impl Sender,
    receiver: &mut impl Receiver,
) -> Result<u64, CompareError> {
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
