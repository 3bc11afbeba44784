//! The pipe: one per direction, both ends blocking.
//!
//! Always: pipes without a name, handed over open; the near end keeps no copy of the far end's descriptors, so
//! that either end notices when the other is gone.

use std::io::{PipeReader, PipeWriter, Write, pipe};

use super::byte_stream::{StreamReceiver, StreamSender};
use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::{Attachment, FarProcess, FarSide};
use crate::measure;
use crate::trial::{Measured, Trial};

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let (far_reader, near_writer) = pipe().map_err(CompareError::system("open the pipe there"))?;
    let (near_reader, far_writer) = pipe().map_err(CompareError::system("open the pipe back"))?;
    let attachment = Attachment { descriptors: vec![far_reader.into(), far_writer.into()], directory: None };
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    let sender = StreamSender { stream: near_writer };
    let receiver = StreamReceiver::new(near_reader, trial.bytes);
    measure::near_end(trial, sender, receiver, &mut control)
}

/// Runs the far end.
pub(super) fn far_end<W: Write>(side: &mut FarSide, reporter: &mut Reporter<W>) -> Result<(), CompareError> {
    let [reader, writer] = side.take_descriptors()?;
    let sender = StreamSender { stream: PipeWriter::from(writer) };
    let receiver = StreamReceiver::new(PipeReader::from(reader), side.trial.bytes);
    measure::far_end(&side.trial, sender, receiver, reporter)
}
