//! Private memory: what writing and reading large payloads costs on these two CPUs, with no sharing between processes.
//!
//! What always holds:
//!
//! 1. Two threads of this process, one on each CPU. A buffer is private anonymous memory; its producer writes it in full,
//!    hands it over through an rtrb ring, the consumer reads it in full and hands it back through another. Only the
//!    handle moves, so no byte is copied.
//! 2. Buffers rotate as Ringway's blocks do: the last one that came back is the first one taken; what the consumer has
//!    given back is fetched when none is left; and only when there is none the producer makes more, at first
//!    as many as fit [`FIRST_BYTES`], then as many again, to the depth of the trial.
//! 3. It takes part in `large` alone: it bounds what is left of a rate once the memory traffic is paid for.

use memmap2::MmapMut;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::backoff::Backoff;
use crate::control::Control;
use crate::error::CompareError;
use crate::measure::{self, Receiver, Sender};
use crate::payload::{Payload, Verifier, write_message};
use crate::pinning::pin_current_thread;
use crate::trial::{Measured, Trial};

/// How much the buffers that are made first have together, unless one is larger: as Ringway's first arena.
const FIRST_BYTES: usize = 1 << 20;

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let (near_sender, far_receiver) = direction(trial);
    let (far_sender, near_receiver) = direction(trial);
    let (mut control, far_channel) = Control::channel()?;
    let mut reporter = far_channel.reporter()?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let outcome = pin_current_thread(trial.cpus.far)
                .and_then(|()| measure::far_end(trial, far_sender, far_receiver, &mut reporter));
            // A near end that is gone has its own reason to report.
            drop(reporter.conclude(outcome));
        });
        measure::near_end(trial, near_sender, near_receiver, &mut control)
    })
}

fn direction(trial: &Trial) -> (BufferSender, BufferReceiver) {
    let (written, to_read) = RingBuffer::new(trial.depth);
    let (read, returned) = RingBuffer::new(trial.depth);
    let free = Vec::with_capacity(trial.depth);
    let sender = BufferSender {
        free,
        made: 0,
        depth: trial.depth,
        bytes: trial.bytes,
        written,
        returned,
        backoff: Backoff::new(1),
    };
    (sender, BufferReceiver { to_read, read })
}

struct BufferSender {
    /// Buffers to write into; the last is taken first.
    free: Vec<MmapMut>,
    /// How many buffers there are, at most `depth`.
    made: usize,
    depth: usize,
    /// The size of a buffer.
    bytes: usize,
    written: Producer<MmapMut>,
    returned: Consumer<MmapMut>,
    backoff: Backoff,
}

impl BufferSender {
    fn take(&mut self) -> Result<MmapMut, CompareError> {
        loop {
            if let Some(buffer) = self.free.pop() {
                self.backoff.reset();
                return Ok(buffer);
            }
            while let Ok(buffer) = self.returned.pop() {
                self.free.push(buffer);
            }
            if !self.free.is_empty() {
                continue;
            }
            if self.made < self.depth { self.make_more()? } else { self.backoff.wait()? }
        }
    }

    fn make_more(&mut self) -> Result<(), CompareError> {
        let more = if self.made == 0 { (FIRST_BYTES / self.bytes).max(1) } else { self.made };
        for _ in 0..more.min(self.depth - self.made) {
            let buffer = MmapMut::map_anon(self.bytes).map_err(CompareError::system("get memory"))?;
            self.free.push(buffer);
            self.made += 1;
        }
        Ok(())
    }

    fn hand_over(&mut self, mut buffer: MmapMut) -> Result<(), CompareError> {
        while let Err(PushError::Full(back)) = self.written.push(buffer) {
            buffer = back;
            self.backoff.wait()?;
        }
        self.backoff.reset();
        Ok(())
    }
}

impl Sender for BufferSender {
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        let mut buffer = self.take()?;
        buffer.copy_from_slice(payload.bytes());
        self.hand_over(buffer)
    }

    #[inline]
    fn send_written(&mut self, sequence: u64, _own: &mut Payload) -> Result<(), CompareError> {
        let mut buffer = self.take()?;
        write_message(&mut buffer, sequence);
        self.hand_over(buffer)
    }
}

struct BufferReceiver {
    to_read: Consumer<MmapMut>,
    read: Producer<MmapMut>,
}

impl Receiver for BufferReceiver {
    #[inline]
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        let Ok(buffer) = self.to_read.pop() else { return Ok(false) };
        verifier.read(&buffer);
        // There is room for all buffers; where the other end is gone, nobody needs it back.
        drop(self.read.push(buffer));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::trial;
    use crate::trial::Case;

    #[test]
    fn the_last_buffer_that_came_back_is_the_first_one_taken() {
        let trial = Trial { bytes: 1 << 20, depth: 4, ..trial(Case::Large) };
        let (mut sender, mut receiver) = direction(&trial);
        let mut verifier = Verifier::new(trial.bytes);
        let mut own = Payload::new(64);
        for sequence in 1..=20 {
            sender.send_written(sequence, &mut own).unwrap();
            assert!(receiver.try_receive(&mut verifier).unwrap());
        }
        verifier.finish().unwrap();
        assert_eq!(sender.made, 1);
    }

    #[test]
    fn no_more_buffers_are_made_than_the_depth() {
        let trial = Trial { bytes: 1 << 20, depth: 3, ..trial(Case::Large) };
        let (mut sender, _receiver) = direction(&trial);
        let mut own = Payload::new(64);
        for sequence in 1..=3 {
            sender.send_written(sequence, &mut own).unwrap();
        }
        assert_eq!((sender.made, sender.free.len()), (3, 0));
    }
}
