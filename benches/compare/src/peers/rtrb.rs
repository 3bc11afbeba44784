//! The rtrb ring: one per direction, between two threads of this process.
//!
//! What always holds: a slot is one cache line and the capacity a whole number of messages, so that a message lies
//! in one piece and is read in place; both ends spin with the shared back-off.
//!
//! Within one process: rtrb does not reach across two.

use rtrb::{Consumer, Producer, RingBuffer};
use zerocopy::IntoBytes;

use crate::backoff::Backoff;
use crate::control::Control;
use crate::error::CompareError;
use crate::measure::{self, Receiver, Sender};
use crate::payload::{LINE_BYTES, Line, Payload, Verifier};
use crate::pinning::pin_current_thread;
use crate::trial::{Measured, Trial};

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let lines = trial.bytes / LINE_BYTES;
    let (near_producer, far_consumer) = RingBuffer::new(lines * trial.depth);
    let (far_producer, near_consumer) = RingBuffer::new(lines * trial.depth);
    let (mut control, far_channel) = Control::channel()?;
    let mut reporter = far_channel.reporter()?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let sender = RtrbSender { producer: far_producer, backoff: Backoff::new(1) };
            let receiver = RtrbReceiver { consumer: far_consumer, lines };
            let outcome = pin_current_thread(trial.cpus.far)
                .and_then(|()| measure::far_end(trial, sender, receiver, &mut reporter));
            // A near end that is gone has its own reason to report.
            drop(reporter.conclude(outcome));
        });
        let sender = RtrbSender { producer: near_producer, backoff: Backoff::new(1) };
        let receiver = RtrbReceiver { consumer: near_consumer, lines };
        measure::near_end(trial, sender, receiver, &mut control)
    })
}

struct RtrbSender {
    producer: Producer<Line>,
    backoff: Backoff,
}

impl Sender for RtrbSender {
    #[inline]
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        while self.producer.push_entire_slice(payload.lines()).is_err() {
            self.backoff.wait()?;
        }
        self.backoff.reset();
        Ok(())
    }
}

struct RtrbReceiver {
    consumer: Consumer<Line>,
    /// The lines of one message.
    lines: usize,
}

impl Receiver for RtrbReceiver {
    #[inline]
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        let Ok(message) = self.consumer.read_chunk(self.lines) else {
            return Ok(false);
        };
        let (lines, _) = message.as_slices();
        verifier.read(lines.as_bytes());
        message.commit_all();
        Ok(true)
    }
}
