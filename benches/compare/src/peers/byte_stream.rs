//! Fixed-size messages over a blocking byte stream: the ends that the pipe and the socket share.
//!
//! Always: one write call per message and one frame read at a time; the kernel's default buffer sizes.

use std::io::{Read, Write};

use crate::error::CompareError;
use crate::measure::{Receiver, Sender};
use crate::payload::{Payload, Verifier};

/// Writes each payload as one frame.
#[derive(Debug)]
pub(super) struct StreamSender<W> {
    pub(super) stream: W,
}

impl<W: Write> Sender for StreamSender<W> {
    #[inline]
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        self.stream.write_all(payload.bytes()).map_err(CompareError::system("write to the stream"))
    }
}

/// Reads one frame at a time.
#[derive(Debug)]
pub(super) struct StreamReceiver<R> {
    stream: R,
    /// As long as a frame.
    frame: Vec<u8>,
}

impl<R: Read> StreamReceiver<R> {
    /// Frames of `bytes` bytes out of `stream`.
    pub(super) fn new(stream: R, bytes: usize) -> Self {
        Self { stream, frame: vec![0; bytes] }
    }
}

impl<R: Read> Receiver for StreamReceiver<R> {
    #[inline]
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        self.stream.read_exact(&mut self.frame).map_err(CompareError::system("read from the stream"))?;
        verifier.read(&self.frame);
        Ok(true)
    }
}
