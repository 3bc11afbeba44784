//! Publishing into a stream's ring.

use std::time::Duration;

use crate::connection::Connection;
use crate::error::{AdminError, OpenError, SendBatchError, SendError};
use crate::wait::WaitStrategy;

/// What a [`Producer`] will be like.
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct ProducerBuilder {
    connection: Connection,
    stream: String,
    wait: WaitStrategy,
}

impl ProducerBuilder {
    pub(crate) fn new(connection: Connection, stream: &str) -> Self {
        Self { connection, stream: stream.to_owned(), wait: WaitStrategy::default() }
    }

    /// How to wait while the stream is full.
    pub fn wait(self, wait: WaitStrategy) -> Self {
        Self { wait, ..self }
    }

    /// Opens the stream.
    pub fn open(self) -> Result<Producer, OpenError> {
        let _ = self.connection;
        todo!()
    }
}

/// The one producer of a stream.
#[derive(Debug)]
pub struct Producer {
    stream: String,
}

impl Producer {
    /// Publishes one message; waits while the stream is full. Returns its position.
    pub fn send(&mut self, _payload: &[u8]) -> Result<u64, SendError> {
        todo!()
    }

    /// Publishes one message if there is space now. Returns its position.
    pub fn try_send(&mut self, _payload: &[u8]) -> Result<u64, SendError> {
        todo!()
    }

    /// Publishes one message; waits at most `timeout` while the stream is full. Returns its position.
    pub fn send_timeout(&mut self, _payload: &[u8], _timeout: Duration) -> Result<u64, SendError> {
        todo!()
    }

    /// Publishes messages in order; waits while the stream is full. Returns the position after the last.
    pub fn send_batch(&mut self, _payloads: &[&[u8]]) -> Result<u64, SendBatchError> {
        todo!()
    }

    /// The position that the next message gets.
    pub fn position(&self) -> u64 {
        todo!()
    }

    /// Most bytes of a payload.
    pub fn payload_bytes_max(&self) -> usize {
        todo!()
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Gives the stream back, so that another producer may open it.
    pub fn close(self) -> Result<(), AdminError> {
        todo!()
    }
}
