//! The bare ping-pong: what the caches allow, with no ring, no queue, and no safety around it.
//!
//! Always: both ends spin on their flag of [`flag_lines`](super::flag_lines). With one message in flight it has no queue
//! to fill: this is why it takes part in `one_way` alone.

use std::io::Write;

use super::flag_lines::{FlagReceiver, FlagSender, create_memory, directions, directions_of};
use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::{Attachment, FarProcess, FarSide};
use crate::measure;
use crate::trial::{Measured, Trial};

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let memory = create_memory(trial.bytes)?;
    let (there, back) = directions(&memory, trial.bytes)?;
    let attachment = Attachment { descriptors: vec![memory.into()], directory: None };
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    measure::near_end(trial, FlagSender(there), FlagReceiver(back), &mut control)
}

/// Runs the far end.
pub(super) fn far_end<W: Write>(side: &mut FarSide, reporter: &mut Reporter<W>) -> Result<(), CompareError> {
    let [memory] = side.take_descriptors()?;
    let (there, back) = directions_of(memory, side.trial.bytes)?;
    measure::far_end(&side.trial, FlagSender(back), FlagReceiver(there), reporter)
}
