//! `throughput` and `large`: a fixed number of messages from one producer; and the consumer of several.
//!
//! Always: in `throughput` a message is stamped in the producer's own buffer and copied; in `large` every word is written
//! where the transport wants it.

use super::{Receiver, Sender, monotonic_ns, per_second, receive_one};
use crate::backoff::Backoff;
use crate::control::{Control, Reporter, Step};
use crate::error::CompareError;
use crate::payload::{Payload, Verifier};
use crate::trial::{Case, Measured, Metric, Trial};

pub(super) fn publish(
    trial: &Trial,
    sender: &mut impl Sender,
    control: &mut Control,
) -> Result<Measured, CompareError> {
    let mut payload = Payload::new(trial.bytes);
    let mut publish_all = |sequences: std::ops::RangeInclusive<u64>| {
        for sequence in sequences {
            if trial.case == Case::Large {
                sender.send_written(sequence, &mut payload)?;
            } else {
                payload.stamp(sequence);
                sender.send(&payload)?;
            }
        }
        Ok::<_, CompareError>(())
    };
    publish_all(1..=trial.warm_up)?;
    control.expect_warm()?;
    let start_ns = monotonic_ns();
    publish_all(trial.warm_up + 1..=trial.warm_up + trial.messages)?;
    let (end_ns, _) = control.expect_finished()?;
    Ok(vec![(Metric::MessagesPerSecond, per_second(trial.messages, start_ns, end_ns))])
}

pub(super) fn consume<W: std::io::Write>(
    trial: &Trial,
    receiver: &mut impl Receiver,
    mut verifier: Verifier,
    reporter: &mut Reporter<W>,
) -> Result<u64, CompareError> {
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
