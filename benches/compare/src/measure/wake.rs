//! `wake`: how long it takes to wake a consumer that sleeps.
//!
//! What always holds:
//!
//! 1. The producer lets [`PAUSE_NS`] pass between the consumer's answer and the next message, so that the consumer is
//!    asleep in the kernel: it goes to sleep as soon as it finds nothing.
//! 2. The producer passes the time awake: its CPU is not asleep when it sends, the consumer's is.
//! 3. A latency is the monotonic clock when the consumer has read the message, less the clock just before it was sent,
//!    which the message carries. The answer is not part of it.

use super::{Receiver, SLEEP, Sender, latencies, monotonic_ns, receive_one};
use crate::backoff::{Backoff, STALL_LIMIT};
use crate::control::Control;
use crate::error::CompareError;
use crate::payload::{Payload, Verifier};
use crate::trial::{Measured, Metric, Trial};

/// Between an answer and the next message.
const PAUSE_NS: u64 = 200_000;

pub(super) fn publish(
    trial: &Trial,
    sender: &mut impl Sender,
    receiver: &mut impl Receiver,
    control: &mut Control,
) -> Result<Measured, CompareError> {
    let mut payload = Payload::new(trial.bytes);
    let mut answers = Verifier::new(trial.bytes);
    let mut backoff = Backoff::new(1);
    for sequence in 1..=trial.warm_up + trial.messages {
        stay_awake_for(PAUSE_NS);
        payload.stamp(sequence);
        payload.stamp_time(monotonic_ns());
        sender.send(&payload)?;
        receive_one(receiver, &mut answers, &mut backoff)?;
    }
    let (_, measured) = control.expect_finished()?;
    answers.finish()?;
    Ok(measured)
}

pub(super) fn consume(
    trial: &Trial,
    sender: &mut impl Sender,
    receiver: &mut impl Receiver,
) -> Result<(u64, Measured), CompareError> {
    let mut answer = Payload::new(trial.bytes);
    let mut verifier = Verifier::of_timed(trial.bytes);
    let mut wake_ups = latencies();
    for sequence in 1..=trial.warm_up + trial.messages {
        receive_one_asleep(receiver, &mut verifier)?;
        let latency_ns = monotonic_ns().saturating_sub(verifier.sent_at_ns());
        if sequence > trial.warm_up {
            wake_ups.saturating_record(latency_ns);
        }
        answer.stamp(sequence);
        sender.send(&answer)?;
    }
    let at_ns = monotonic_ns();
    verifier.finish()?;
    let latency_ns = |quantile| wake_ups.value_at_quantile(quantile) as f64;
    Ok((at_ns, vec![(Metric::P50, latency_ns(0.50)), (Metric::P99, latency_ns(0.99))]))
}

fn receive_one_asleep(receiver: &mut impl Receiver, verifier: &mut Verifier) -> Result<(), CompareError> {
    for _ in 0..STALL_LIMIT.as_secs() / SLEEP.as_secs() {
        if receiver.receive_asleep(verifier)? {
            return Ok(());
        }
    }
    Err(CompareError::Stalled { seconds: STALL_LIMIT.as_secs() })
}

fn stay_awake_for(nanoseconds: u64) {
    let until_ns = monotonic_ns() + nanoseconds;
    while monotonic_ns() < until_ns {
        std::hint::spin_loop();
    }
}
