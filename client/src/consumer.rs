//! Reading a stream's ring in order, as one subscription.

use std::time::Duration;

use crate::connection::Connection;
use crate::error::{CloseError, OpenError, RecvError};
use crate::wait::WaitStrategy;

/// What a [`Consumer`] will be like.
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct ConsumerBuilder {
    connection: Connection,
    stream: String,
    subscription: String,
    wait: WaitStrategy,
}

impl ConsumerBuilder {
    pub(crate) fn new(connection: Connection, stream: &str, subscription: &str) -> Self {
        Self {
            connection,
            stream: stream.to_owned(),
            subscription: subscription.to_owned(),
            wait: WaitStrategy::default(),
        }
    }

    /// How to wait while there is no message.
    pub fn wait(self, wait: WaitStrategy) -> Self {
        Self { wait, ..self }
    }

    /// Opens the subscription.
    pub fn open(self) -> Result<Consumer, OpenError> {
        let _ = (self.connection, self.stream, self.subscription);
        todo!()
    }
}

/// The one consumer of a subscription.
#[derive(Debug)]
pub struct Consumer {
    stream: String,
    subscription: String,
}

impl Consumer {
    /// The next message, if there is one now.
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>, RecvError> {
        todo!()
    }

    /// The next message; waits for it.
    pub fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        todo!()
    }

    /// The next message; waits at most `timeout` for it.
    pub fn recv_timeout(&mut self, _timeout: Duration) -> Result<Option<Message<'_>>, RecvError> {
        todo!()
    }

    /// Declares everything returned so far consumed.
    pub fn commit(&mut self) -> Result<(), RecvError> {
        todo!()
    }

    /// Position of the next message to be returned.
    pub fn position(&self) -> u64 {
        todo!()
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The subscription's name.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// Commits everything returned and gives the subscription back.
    pub fn close(self) -> Result<(), CloseError> {
        todo!()
    }
}

/// A message, in the consumer's private copy.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    position: u64,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Its position in the stream.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Its payload.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}
