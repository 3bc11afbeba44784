//! The session with the broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringway_shm_protocol::control::message::{StartAt, StreamInfo, StreamSettings, SubscriptionInfo};

use crate::consumer::ConsumerBuilder;
use crate::error::{AdminError, ConnectError};
use crate::producer::ProducerBuilder;

/// A session with the broker.
#[derive(Clone, Debug)]
pub struct Connection {
    session: Arc<PathBuf>,
}

impl Connection {
    /// Opens a session with the broker in `directory`.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Err(ConnectError::path_too_long(directory.as_ref().to_owned()))
    }

    /// The broker's directory, as it was given.
    pub fn directory(&self) -> &Path {
        &self.session
    }

    /// The broker's process id.
    pub fn broker_pid(&self) -> u32 {
        todo!()
    }

    /// How many shards the broker has.
    pub fn shards(&self) -> u16 {
        todo!()
    }

    /// The session's number.
    pub fn session(&self) -> u64 {
        todo!()
    }

    /// Whether the broker is still there.
    pub fn is_open(&self) -> bool {
        todo!()
    }

    /// Makes a stream, or confirms that it exists with these settings.
    pub fn declare_stream(&self, _name: &str, _settings: StreamSettings) -> Result<StreamInfo, AdminError> {
        todo!()
    }

    /// Describes one stream.
    pub fn stream(&self, _name: &str) -> Result<StreamInfo, AdminError> {
        todo!()
    }

    /// Describes all streams, in order of their names.
    pub fn streams(&self) -> Result<Vec<StreamInfo>, AdminError> {
        todo!()
    }

    /// Removes a stream that nobody has open, with its subscriptions.
    pub fn delete_stream(&self, _name: &str) -> Result<(), AdminError> {
        todo!()
    }

    /// Makes a subscription, or confirms that it exists.
    pub fn declare_subscription(
        &self,
        _stream: &str,
        _name: &str,
        _start: StartAt,
    ) -> Result<SubscriptionInfo, AdminError> {
        todo!()
    }

    /// Describes one subscription.
    pub fn subscription(&self, _stream: &str, _name: &str) -> Result<SubscriptionInfo, AdminError> {
        todo!()
    }

    /// Describes all subscriptions of a stream, in order of their names.
    pub fn subscriptions(&self, _stream: &str) -> Result<Vec<SubscriptionInfo>, AdminError> {
        todo!()
    }

    /// Removes a subscription that nobody has open.
    pub fn delete_subscription(&self, _stream: &str, _name: &str) -> Result<(), AdminError> {
        todo!()
    }

    /// Tells the broker to end and waits until its process is gone.
    pub fn stop_broker(&self, _timeout: Duration) -> Result<(), AdminError> {
        todo!()
    }

    /// Prepares to open `stream` as its one producer.
    pub fn producer(&self, stream: &str) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), stream)
    }

    /// Prepares to open `subscription` of `stream` as its one consumer.
    pub fn consumer(&self, stream: &str, subscription: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), stream, subscription)
    }
}
