//! `steady`: as many messages as go through in a time, and how far behind the consumer is.
//!
//! What always holds:
//!
//! 1. The data path is that of `throughput`. Beside it the producer reads the clock and writes the gauge once a run of
//!    [`RUN`] messages, and the consumer reads the clock once a run and the gauge once in [`SAMPLE_NS`].
//! 2. A lag is the messages published by the gauge, less the messages read: exact to a run, 0 where the gauge is behind.
//! 3. The consumer learns how many messages there are only when it has found none for a while.

use std::time::Duration;

use super::{Receiver, Sender, monotonic_ns, per_second, receive_one};
use crate::backoff::Backoff;
use crate::control::{Control, Reporter, Step};
use crate::error::CompareError;
use crate::gauge::{Gauge, RUN};
use crate::payload::{Payload, Verifier};
use crate::trial::{Measured, Metric, Trial};

/// Between two samples of the lag.
const SAMPLE_NS: u64 = 10_000_000;
/// Looks in vain between two looks at the clock and at the total.
const IDLE_LOOKS: u32 = 64;

pub(super) fn publish(
    trial: &Trial,
    sender: &mut impl Sender,
    control: &mut Control,
) -> Result<Measured, CompareError> {
    let mut payload = Payload::new(trial.bytes);
    let mut sequence = 0;
    let mut publish_until = |end: u64| {
        while sequence < end {
            sequence += 1;
            payload.stamp(sequence);
            sender.send(&payload)?;
        }
        Ok::<_, CompareError>(())
    };
    publish_until(trial.warm_up)?;
    control.expect_warm()?;
    let mut published = trial.warm_up;
    control.gauge().set_published(published);
    let start_ns = monotonic_ns();
    let until_ns = start_ns + nanoseconds(Duration::from_secs(trial.seconds.into()));
    while monotonic_ns() < until_ns {
        published += RUN;
        publish_until(published)?;
        control.gauge().set_published(published);
    }
    control.gauge().set_total(published);
    let (end_ns, mut measured) = control.expect_finished()?;
    measured.push((Metric::MessagesPerSecond, per_second(published - trial.warm_up, start_ns, end_ns)));
    Ok(measured)
}

pub(super) fn consume<W: std::io::Write>(
    trial: &Trial,
    receiver: &mut impl Receiver,
    reporter: &mut Reporter<W>,
) -> Result<(u64, Measured), CompareError> {
    let mut verifier = Verifier::new(trial.bytes);
    let mut backoff = Backoff::new(trial.waiting.caught_up_spins);
    while verifier.sequence() < trial.warm_up {
        receive_one(receiver, &mut verifier, &mut backoff)?;
    }
    reporter.say(&Step::Warm)?;
    let mut lags = Lags::new(reporter.gauge());
    let mut idle_looks = 0;
    let mut run_ends = verifier.sequence() + RUN;
    loop {
        if receiver.try_receive(&mut verifier)? {
            backoff.reset();
            if verifier.sequence() >= run_ends {
                run_ends += RUN;
                lags.sample_if_due(verifier.sequence());
            }
            continue;
        }
        backoff.wait()?;
        idle_looks += 1;
        if idle_looks >= IDLE_LOOKS {
            idle_looks = 0;
            lags.sample_if_due(verifier.sequence());
            if reporter.gauge().total() == Some(verifier.sequence()) {
                break;
            }
        }
    }
    let at_ns = monotonic_ns();
    verifier.finish()?;
    Ok((at_ns, lags.summarize()))
}

/// The lag, sampled.
struct Lags<'a> {
    gauge: &'a Gauge,
    due_ns: u64,
    samples: Vec<u64>,
}

impl<'a> Lags<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        // Some hundred samples a second over minutes: no allocation while messages flow.
        Self { gauge, due_ns: monotonic_ns() + SAMPLE_NS, samples: Vec::with_capacity(1 << 16) }
    }

    #[inline]
    fn sample_if_due(&mut self, read: u64) {
        let now_ns = monotonic_ns();
        if now_ns >= self.due_ns {
            self.due_ns = now_ns + SAMPLE_NS;
            self.samples.push(self.gauge.published().saturating_sub(read));
        }
    }

    fn summarize(mut self) -> Measured {
        self.samples.sort_unstable();
        let median = self.samples.get(self.samples.len() / 2).copied().unwrap_or_default();
        let most = self.samples.last().copied().unwrap_or_default();
        vec![(Metric::LagP50, median as f64), (Metric::LagMax, most as f64)]
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_sampled_when_it_is_due_and_never_negative() {
        let (gauge, _memory) = Gauge::create().unwrap();
        gauge.set_published(5 * RUN);
        let mut lags = Lags::new(&gauge);
        lags.sample_if_due(0);
        assert!(lags.samples.is_empty());
        for read in [4 * RUN, 6 * RUN, 2 * RUN] {
            lags.due_ns = 0;
            lags.sample_if_due(read);
        }
        assert_eq!(lags.summarize(), [(Metric::LagP50, RUN as f64), (Metric::LagMax, (3 * RUN) as f64)]);
    }
}
