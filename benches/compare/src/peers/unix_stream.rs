//! The Unix stream socket: one connected pair, both directions over it, both ends blocking.
//!
//! Always: the far end's socket is handed over open; no name appears in the file system.

use std::io::Write;
use std::os::unix::net::UnixStream;

use super::byte_stream::{StreamReceiver, StreamSender};
use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::{Attachment, FarProcess, FarSide};
use crate::measure;
use crate::trial::{Measured, Trial};

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let (near, far) = UnixStream::pair().map_err(CompareError::system("open a socket pair"))?;
    let attachment = Attachment { descriptors: vec![far.into()], directory: None };
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    let (sender, receiver) = ends(near, trial.bytes)?;
    measure::near_end(trial, sender, receiver, &mut control)
}

/// Runs the far end.
pub(super) fn far_end<W: Write>(side: &mut FarSide, reporter: &mut Reporter<W>) -> Result<(), CompareError> {
    let [socket] = side.take_descriptors()?;
    let (sender, receiver) = ends(socket.into(), side.trial.bytes)?;
    measure::far_end(&side.trial, sender, receiver, reporter)
}

fn ends(
    socket: UnixStream,
    bytes: usize,
) -> Result<(StreamSender<UnixStream>, StreamReceiver<UnixStream>), CompareError> {
    let writer = socket.try_clone().map_err(CompareError::system("duplicate a socket"))?;
    Ok((StreamSender { stream: writer }, StreamReceiver::new(socket, bytes)))
}
