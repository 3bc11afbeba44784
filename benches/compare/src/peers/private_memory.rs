//! Private memory: what writing and reading large payloads costs on these two CPUs, with no sharing between processes.
//!
//! What always holds:
//!
//! 1. Two threads of this process, one on each CPU. A buffer is private anonymous memory; its producer writes it in full,
//!    hands it over through an rtrb ring, the consumer reads it in full and hands it back through another. Only the
//!    handle moves, so no byte is copied.
//! 2. Buffers rotate as Ringway's blocks do: the last one that came back is the first one taken, and what the consumer
//!    has given back is fetched only when none is left. So all of them are in use in turn.
//! 3. As many are in flight as the depth allows, and there are as many in all as Ringway has blocks in rotation: its
//!    memory doubles until it holds more than the ring does, less what an arena's head takes. (Counted at a depth of 16: 31
//!    blocks of 64 KiB; 32 of 1 MiB, one of them in an older arena.)
//! 4. It takes part in `large` alone: it bounds what is left of a rate once the memory traffic is paid for.

use memmap2::MmapMut;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::backoff::Backoff;
use crate::control::Control;
use crate::error::CompareError;
use crate::measure::{self, Receiver, Sender};
use crate::payload::{Payload, Verifier, write_message};
use crate::pinning::pin_current_thread;
use crate::trial::{Measured, Trial};

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let (near_sender, far_receiver) = direction(trial)?;
    let (far_sender, near_receiver) = direction(trial)?;
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

/// One direction. A buffer that nobody writes to takes no memory: the direction back costs nothing.
fn direction(trial: &Trial) -> Result<(BufferSender, BufferReceiver), CompareError> {
    let buffers = 2 * trial.depth - 1;
    let (written, to_read) = RingBuffer::new(trial.depth);
    let (read, returned) = RingBuffer::new(buffers);
    let free = (0..buffers)
        .map(|_| MmapMut::map_anon(trial.bytes))
        .collect::<Result<Vec<_>, _>>()
        .map_err(CompareError::system("get memory"))?;
    let sender = BufferSender { free, written, returned, backoff: Backoff::new(1) };
    Ok((sender, BufferReceiver { to_read, read }))
}

struct BufferSender {
    /// Buffers to write into; the last is taken first.
    free: Vec<MmapMut>,
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
            if self.free.is_empty() {
                self.backoff.wait()?;
            }
        }
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
    fn what_came_back_is_fetched_when_none_is_left_and_the_last_of_it_taken_first() {
        let trial = Trial { bytes: 64, depth: 2, ..trial(Case::Large) };
        let (mut sender, mut receiver) = direction(&trial).unwrap();
        let mut verifier = Verifier::new(trial.bytes);
        let mut own = Payload::new(64);
        let places: Vec<*const u8> = sender.free.iter().map(|buffer| buffer.as_ptr()).collect();
        let mut taken = Vec::new();
        for sequence in 1..=4 {
            sender.send_written(sequence, &mut own).unwrap();
            taken.push(receiver.to_read.peek().unwrap().as_ptr());
            assert!(receiver.try_receive(&mut verifier).unwrap());
        }
        verifier.finish().unwrap();
        // Three buffers, last first; then all are back in the order in which they were taken.
        assert_eq!(taken, [places[2], places[1], places[0], places[0]]);
    }

    #[test]
    fn no_more_are_in_flight_than_the_depth() {
        let trial = Trial { bytes: 64, depth: 2, ..trial(Case::Large) };
        let (mut sender, _receiver) = direction(&trial).unwrap();
        let mut own = Payload::new(64);
        for sequence in 1..=2 {
            sender.send_written(sequence, &mut own).unwrap();
        }
        let buffer = sender.take().unwrap();
        assert!(matches!(sender.written.push(buffer), Err(PushError::Full(_))));
    }
}
