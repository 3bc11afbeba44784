//! The bare futex: what the kernel allows who wakes a sleeper in another process, with nothing around it.
//!
//! What always holds:
//!
//! 1. There, the flag of [`flag_lines`](super::flag_lines) is the futex: the producer stores it and calls `FUTEX_WAKE`
//!    every time, the consumer calls `FUTEX_WAIT` until it has changed. It takes part in `wake` alone.
//! 2. Back, the answer is the flag alone, and the near end spins: the consumer makes no system call for it.

use std::io::Write;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

use super::flag_lines::{FlagReceiver, FlagSender, create_memory, directions, directions_of};
use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::{Attachment, FarProcess, FarSide};
use crate::measure::{self, Receiver, SLEEP, Sender};
use crate::payload::{Payload, Verifier};
use crate::trial::{Measured, Trial};

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let memory = create_memory(trial.bytes)?;
    let (there, back) = directions(&memory, trial.bytes)?;
    let attachment = Attachment { descriptors: vec![memory.into()], directory: None };
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    measure::near_end(trial, FutexSender(FlagSender(there)), FlagReceiver(back), &mut control)
}

/// Runs the far end.
pub(super) fn far_end<W: Write>(side: &mut FarSide, reporter: &mut Reporter<W>) -> Result<(), CompareError> {
    let [memory] = side.take_descriptors()?;
    let (there, back) = directions_of(memory, side.trial.bytes)?;
    measure::far_end(&side.trial, FlagSender(back), FutexReceiver(FlagReceiver(there)), reporter)
}

struct FutexSender(FlagSender);

impl Sender for FutexSender {
    #[inline]
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        self.0.send(payload)?;
        futex::wake(self.0.0.flag(), Flags::empty(), 1).map_err(CompareError::system("wake a sleeper"))?;
        Ok(())
    }
}

struct FutexReceiver(FlagReceiver);

impl Receiver for FutexReceiver {
    #[inline]
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        self.0.try_receive(verifier)
    }

    fn receive_asleep(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        let limit = Timespec { tv_sec: SLEEP.as_secs().cast_signed(), tv_nsec: 0 };
        loop {
            if self.0.try_receive(verifier)? {
                return Ok(true);
            }
            match futex::wait(self.0.0.flag(), Flags::empty(), self.0.0.sequence(), Some(&limit)) {
                // Changed meanwhile, a signal, or somebody's wake: look again.
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::TIMEDOUT) => return Ok(false),
                Err(error) => return Err(CompareError::system("sleep until woken")(error)),
            }
        }
    }
}
