//! What an opened producer and an opened consumer have in common: a ring of known size, an endpoint that the
//! broker keeps for them, and the duty to give it back.
//!
//! What always holds: an endpoint that was granted is given back exactly once, when it is closed, dropped, or cannot
//! be used, to the session that it was granted in; only a forked child gives nothing back, because the endpoint is its
//! parent's.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ringway_shm_protocol::control::message::{PAYLOAD_BYTES_MAX, Reply, Request, StreamSettings};
use ringway_shm_protocol::layout::{Geometry, PARTITIONS_MAX};
use ringway_shm_protocol::partition::RingIdentity;

use crate::connection::unexpected;
use crate::error::{AdminError, ProtocolError};
use crate::session::{ANSWER_MAX, Session};

/// How long a drop waits for the broker.
const DROP_ANSWER_MAX: Duration = Duration::from_secs(1);

/// A granted endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    session: Arc<Session>,
    number: u64,
    closed: bool,
}

impl Endpoint {
    pub(crate) fn new(session: &Arc<Session>, number: u64) -> Self {
        Self { session: Arc::clone(session), number, closed: false }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Gives the endpoint back. Nothing of it may be used afterwards.
    pub(crate) fn close(&mut self) -> Result<(), AdminError> {
        self.close_within(ANSWER_MAX)
    }

    fn close_within(&mut self, answer_max: Duration) -> Result<(), AdminError> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        let request = Request::Close { endpoint: self.number };
        match self.session.request(&request, answer_max)?.reply {
            Reply::Done => Ok(()),
            _ => Err(unexpected("a confirmation")),
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // The broker sees the end of the session at the latest; in a forked child nothing is sent.
        let _ = self.close_within(DROP_ANSWER_MAX);
    }
}

/// Checks the settings that the broker announced.
pub(crate) fn ring(incarnation: u64, settings: &StreamSettings) -> Result<RingIdentity, ProtocolError> {
    in_range("number of partitions", settings.partitions.into(), PARTITIONS_MAX.into())?;
    in_range("largest payload", settings.payload_bytes_max.into(), PAYLOAD_BYTES_MAX.into())?;
    Ok(RingIdentity { incarnation, geometry: Geometry::new(settings.slots, settings.slot_bytes)? })
}

/// Checks a number that the broker gave.
pub(crate) fn in_range(field: &'static str, found: u64, max: u64) -> Result<(), ProtocolError> {
    if found <= max { Ok(()) } else { Err(ProtocolError::Range { field, found, max }) }
}

/// Checks that an answer brought the descriptors that belong to it.
pub(crate) fn exactly<const COUNT: usize>(
    reply: &'static str,
    descriptors: Vec<OwnedFd>,
) -> Result<[OwnedFd; COUNT], ProtocolError> {
    descriptors.try_into().map_err(|descriptors: Vec<OwnedFd>| ProtocolError::Descriptors {
        reply,
        found: descriptors.len(),
        expected: COUNT,
    })
}
