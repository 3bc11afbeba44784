//! The side channel between the two ends of a trial: a pipe with one JSON line per step of the far end, and a
//! [`Gauge`] of the near end.
//!
//! What always holds:
//!
//! 1. The pipe is silent while the clock runs; both ends block in it, so that a waiting end leaves its CPU alone.
//! 2. The far end says `Ready`, where a rate is measured then `Warm`, and last `Finished`; or `Failed` at any time.
//! 3. The near end waits at most [`PATIENCE`] for a step.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::error::CompareError;
use crate::gauge::Gauge;
use crate::trial::Measured;

/// How long one step of the far end may take. Longer than a spinning end's own limit, so that the far end's reason
/// arrives rather than a timeout.
const PATIENCE: Duration = Duration::from_secs(120);

/// One step of the far end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Both directions are open.
    Ready,
    /// The warm-up has been received.
    Warm,
    /// All messages were received and were right.
    Finished {
        /// The monotonic clock when the last message had been read, in nanoseconds.
        at_ns: u64,
        /// What only the far end can measure.
        measured: Measured,
    },
    /// The far end gave up.
    Failed {
        /// Its reason.
        reason: String,
    },
}

/// The far end's side.
#[derive(Debug)]
pub(crate) struct Reporter<W: Write = PipeWriter> {
    output: W,
    gauge: Gauge,
}

impl<W: Write> Reporter<W> {
    /// Reports into `output` and looks at `gauge`.
    pub(crate) fn new(output: W, gauge: Gauge) -> Self {
        Self { output, gauge }
    }

    /// What the near end says while messages flow.
    pub(crate) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// Says one step.
    pub(crate) fn say(&mut self, step: &Step) -> Result<(), CompareError> {
        let mut line = serde_json::to_vec(step)
            .map_err(|source| CompareError::Json { what: "a step of the far end", source })?;
        line.push(b'\n');
        self.output
            .write_all(&line)
            .and_then(|()| self.output.flush())
            .map_err(CompareError::system("report to the near end"))
    }

    /// Says how an end's work ended; the last word if it failed.
    pub(crate) fn conclude(&mut self, outcome: Result<(), CompareError>) -> Result<(), CompareError> {
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => self.say(&Step::Failed { reason: error.to_string() }),
        }
    }
}

/// What the far end needs for its side: handed to a child, or to a thread.
#[derive(Debug)]
pub(crate) struct FarChannel {
    /// Where it writes its steps.
    pub(crate) writer: PipeWriter,
    /// The memory of the gauge.
    pub(crate) gauge: OwnedFd,
}

impl FarChannel {
    /// The side of a far end in this process.
    pub(crate) fn reporter(self) -> Result<Reporter, CompareError> {
        Ok(Reporter::new(self.writer, Gauge::open(&self.gauge)?))
    }
}

/// The near end's side.
#[derive(Debug)]
pub(crate) struct Control {
    input: BufReader<PipeReader>,
    gauge: Gauge,
}

impl Control {
    /// A channel between two threads, or with its other side handed to a child.
    pub(crate) fn channel() -> Result<(Self, FarChannel), CompareError> {
        let (reader, writer) = std::io::pipe().map_err(CompareError::system("open the control pipe"))?;
        let (near_gauge, gauge) = Gauge::create()?;
        Ok((Self { input: BufReader::new(reader), gauge: near_gauge }, FarChannel { writer, gauge }))
    }

    /// What this end says while messages flow.
    pub(crate) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// Waits for `Ready`.
    pub(crate) fn expect_ready(&mut self) -> Result<(), CompareError> {
        match self.next("ready")? {
            Step::Ready => Ok(()),
            step => Err(out_of_turn("ready", &step)),
        }
    }

    /// Waits for `Warm`.
    pub(crate) fn expect_warm(&mut self) -> Result<(), CompareError> {
        match self.next("warm")? {
            Step::Warm => Ok(()),
            step => Err(out_of_turn("warm", &step)),
        }
    }

    /// Waits for `Finished`; returns its time on the monotonic clock in nanoseconds, and what the far end measured.
    pub(crate) fn expect_finished(&mut self) -> Result<(u64, Measured), CompareError> {
        match self.next("finished")? {
            Step::Finished { at_ns, measured } => Ok((at_ns, measured)),
            step => Err(out_of_turn("finished", &step)),
        }
    }

    fn next(&mut self, wanted: &'static str) -> Result<Step, CompareError> {
        if self.input.buffer().is_empty() {
            self.wait_readable(wanted)?;
        }
        let mut line = String::new();
        self.input.read_line(&mut line).map_err(CompareError::system("read from the far end"))?;
        if line.is_empty() {
            return Err(CompareError::Control { wanted, got: "nothing and ended".to_owned() });
        }
        match serde_json::from_str(&line) {
            Ok(Step::Failed { reason }) => Err(CompareError::FarEnd(reason)),
            Ok(step) => Ok(step),
            Err(_) => Err(CompareError::Control { wanted, got: format!("{:?}", line.trim_end()) }),
        }
    }

    fn wait_readable(&self, wanted: &'static str) -> Result<(), CompareError> {
        let limit = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let mut descriptors = [PollFd::new(self.input.get_ref(), PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut descriptors, Some(&limit)))
            .map_err(CompareError::system("wait for the far end"))?;
        if ready == 0 {
            return Err(CompareError::Control {
                wanted,
                got: format!("nothing for {} s", PATIENCE.as_secs()),
            });
        }
        Ok(())
    }
}

fn out_of_turn(wanted: &'static str, step: &Step) -> CompareError {
    CompareError::Control { wanted, got: format!("{step:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Metric;

    #[test]
    fn steps_arrive_in_order_and_the_end_is_noticed() {
        let (mut control, far) = Control::channel().unwrap();
        let mut reporter = far.reporter().unwrap();
        let measured = vec![(Metric::LagMax, 3.0)];
        for step in [Step::Ready, Step::Warm, Step::Finished { at_ns: 7, measured: measured.clone() }] {
            reporter.say(&step).unwrap();
        }
        drop(reporter);
        control.expect_ready().unwrap();
        control.expect_warm().unwrap();
        assert_eq!(control.expect_finished().unwrap(), (7, measured));
        assert!(matches!(control.expect_ready(), Err(CompareError::Control { .. })));
    }

    #[test]
    fn the_reason_of_a_failed_far_end_arrives() {
        let (mut control, far) = Control::channel().unwrap();
        far.reporter().unwrap().conclude(Err(CompareError::Stalled { seconds: 10 })).unwrap();
        assert!(
            matches!(control.expect_ready(), Err(CompareError::FarEnd(reason)) if reason.contains("10 s"))
        );
    }
}
