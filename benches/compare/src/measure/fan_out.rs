//! `fan_out`: what one publish costs while several consumers follow.
//!
//! What always holds:
//!
//! 1. Messages come in bursts of half the depth, so that no publish waits for space: what is measured is the
//!    publishing, not the consumers' speed. The next burst begins when every consumer has read the last one.
//! 2. One thread in the far process goes round all consumers, one message of each at a time, while the burst is being
//!    published; each reads every word of every message.
//! 3. The figure is the median over the bursts of a burst's time divided by its messages; it includes stamping
//!    one cache line, and two clock reads for the whole burst.

use super::{Receiver, Sender, monotonic_ns, receive_one};
use crate::backoff::Backoff;
use crate::control::{Control, Reporter, Step};
use crate::error::CompareError;
use crate::payload::{Payload, Verifier};
use crate::statistics::Summary;
use crate::trial::{Measured, Metric, Trial};

/// How a trial's messages are divided.
struct Bursts {
    /// Messages in each.
    messages: u64,
    /// Bursts before those that count.
    warm_up: u64,
    /// All bursts.
    all: u64,
}

impl Bursts {
    fn of(trial: &Trial) -> Self {
        let messages = (trial.depth as u64 / 2).max(1);
        let warm_up = (trial.warm_up / messages).max(1);
        Self { messages, warm_up, all: warm_up + (trial.messages / messages).max(1) }
    }
}

pub(super) fn publish(
    trial: &Trial,
    sender: &mut impl Sender,
    receiver: &mut impl Receiver,
    control: &mut Control,
) -> Result<Measured, CompareError> {
    let bursts = Bursts::of(trial);
    let mut payload = Payload::new(trial.bytes);
    let mut answers = Verifier::new(trial.bytes);
    let mut backoff = Backoff::new(1);
    let mut costs_ns = Vec::new();
    for burst in 0..bursts.all {
        let start_ns = monotonic_ns();
        for sequence in burst * bursts.messages + 1..=(burst + 1) * bursts.messages {
            payload.stamp(sequence);
            sender.send(&payload)?;
        }
        let burst_ns = monotonic_ns() - start_ns;
        if burst >= bursts.warm_up {
            costs_ns.push(burst_ns as f64 / bursts.messages as f64);
        }
        receive_one(receiver, &mut answers, &mut backoff)?;
    }
    control.expect_finished()?;
    answers.finish()?;
    let median = Summary::of(&costs_ns).map_or(0.0, |summary| summary.median);
    Ok(vec![(Metric::PublishCost, median)])
}

/// Runs the far end: reads every message as each of the consumers, and answers each burst.
pub(crate) fn far_end<W: std::io::Write>(
    trial: &Trial,
    mut sender: impl Sender,
    mut receivers: Vec<impl Receiver>,
    reporter: &mut Reporter<W>,
) -> Result<(), CompareError> {
    reporter.say(&Step::Ready)?;
    let bursts = Bursts::of(trial);
    let mut verifiers: Vec<Verifier> = receivers.iter().map(|_| Verifier::new(trial.bytes)).collect();
    let mut answer = Payload::new(trial.bytes);
    let mut backoff = Backoff::new(trial.waiting.caught_up_spins);
    for burst in 1..=bursts.all {
        let end = burst * bursts.messages;
        while verifiers.iter().any(|verifier| verifier.sequence() < end) {
            let mut found = false;
            for (receiver, verifier) in receivers.iter_mut().zip(&mut verifiers) {
                found |= receiver.try_receive(verifier)?;
            }
            if found { backoff.reset() } else { backoff.wait()? }
        }
        answer.stamp(burst);
        sender.send(&answer)?;
    }
    let at_ns = monotonic_ns();
    for verifier in verifiers {
        verifier.finish()?;
    }
    reporter.say(&Step::Finished { at_ns, measured: Vec::new() })
}
