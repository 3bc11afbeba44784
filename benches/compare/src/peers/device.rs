//! The raw device: what is left of durable publishing when there is no broker; one thread, `durable` only.
//!
//! What always holds:
//!
//! 1. Messages are gathered to what Ringway's journal writes at once: as many as are published before they are waited for, 1 MiB
//!    at the most, in whole blocks of 4 KiB. Five such batches are on their way at the most, as there.
//! 2. A batch is written by io_uring with O_DIRECT over blocks that were written before, linked to an fdatasync; its messages
//!    are confirmed when that has ended.
//! 3. The thread spins on the completions, as Ringway's producer does on the watermark.

use std::collections::VecDeque;

use ringway_benches::device::{BATCH_BYTES_MAX, BLOCK_BYTES, BUFFERS, Device};

use crate::backoff::Backoff;
use crate::error::CompareError;
use crate::measure::Sender;
use crate::measure::durable::{self, Confirmed};
use crate::payload::Payload;
use crate::trial::{Measured, Trial};

const FILE: &str = "device";

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let directory = trial.private_directory()?;
    let device = Device::open(&directory.path().join(FILE))
        .map_err(CompareError::system("open the raw device by io_uring and O_DIRECT"))?;
    durable::near_end(trial, trial.parties.window(), DeviceSender::new(device))
}

struct DeviceSender {
    device: Device,
    /// Buffers that are not under way; the last of them is the one to fill. None is added while that holds anything.
    free: Vec<usize>,
    /// Bytes and messages in the buffer to fill.
    filled: (usize, u64),
    /// Batches on their way, oldest first: buffer, messages in it, and whether it is synced.
    under_way: VecDeque<(usize, u64, bool)>,
    /// All up to here are synced.
    confirmed: u64,
}

impl DeviceSender {
    fn new(device: Device) -> Self {
        let free = (0..BUFFERS).collect();
        Self { device, free, filled: (0, 0), under_way: VecDeque::new(), confirmed: 0 }
    }

    /// Sends what is gathered on its way.
    fn write(&mut self) -> Result<(), CompareError> {
        let (bytes, messages) = std::mem::take(&mut self.filled);
        if messages > 0 {
            let buffer = self.free.pop().expect("what is filled is in a free buffer");
            self.device
                .write(buffer, bytes.next_multiple_of(BLOCK_BYTES))
                .map_err(CompareError::system("write to the raw device"))?;
            self.under_way.push_back((buffer, messages, false));
        }
        Ok(())
    }

    /// Waits until the condition holds, which completions change.
    fn wait_until(&mut self, condition: impl Fn(&Self) -> bool) -> Result<(), CompareError> {
        let mut backoff = Backoff::new(1);
        while !condition(self) {
            let synced = self.device.ended().map_err(CompareError::system("sync the raw device"))?;
            if synced.is_empty() {
                backoff.wait()?;
            }
            for (buffer, _, is_synced) in &mut self.under_way {
                *is_synced |= synced.contains(buffer);
            }
            while let Some((buffer, messages, _)) = self.under_way.pop_front_if(|(_, _, synced)| *synced) {
                self.confirmed += messages;
                self.free.push(buffer);
            }
        }
        Ok(())
    }
}

impl Sender for DeviceSender {
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        let payload = payload.bytes();
        if self.filled.0 + payload.len() > BATCH_BYTES_MAX {
            self.write()?;
        }
        self.wait_until(|sender| !sender.free.is_empty())?;
        let buffer = *self.free.last().expect("waited for");
        let (bytes, messages) = self.filled;
        self.device.buffer(buffer)[bytes..bytes + payload.len()].copy_from_slice(payload);
        self.filled = (bytes + payload.len(), messages + 1);
        Ok(())
    }
}

impl Confirmed for DeviceSender {
    fn confirm(&mut self, messages: u64) -> Result<(), CompareError> {
        self.write()?;
        self.wait_until(|sender| sender.confirmed >= messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::trial;
    use crate::trial::Case;

    #[test]
    fn messages_are_in_the_file_when_they_are_confirmed_also_beyond_one_batch() {
        let directory = trial(Case::Durable).private_directory().unwrap();
        let path = directory.path().join(FILE);
        let mut sender = DeviceSender::new(Device::open(&path).unwrap());
        let mut payload = Payload::new(1 << 16);
        let messages_in_batch = (BATCH_BYTES_MAX >> 16) as u64;
        for sequence in 1..=2 * messages_in_batch + 1 {
            payload.stamp(sequence);
            sender.send(&payload).unwrap();
        }
        sender.confirm(2 * messages_in_batch + 1).unwrap();
        assert!(sender.under_way.is_empty(), "all of them have been waited for");
        let file = std::fs::read(&path).unwrap();
        for sequence in [1, 2, messages_in_batch + 1, 2 * messages_in_batch + 1] {
            let at = (sequence as usize - 1) << 16;
            assert_eq!(file[at..].first_chunk(), Some(&sequence.to_ne_bytes()), "message {sequence}");
        }
    }
}
