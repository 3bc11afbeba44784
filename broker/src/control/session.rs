//! One session: a connection, its process, and how many endpoints it holds.

use std::os::fd::OwnedFd;
use std::time::Instant;

use ringway_shm_protocol::control::socket::Peer;

/// How far a session is.
#[derive(Debug)]
enum State {
    /// Connected; must say hello before the deadline.
    Silent { stream: OwnedFd, deadline: Instant },
    /// Has said hello.
    Open { stream: OwnedFd },
    /// Its socket is closed and its process alive: it keeps what it holds.
    Orphaned,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    state: State,
    peer: Peer,
    /// Endpoints that it holds, or may be about to be given.
    endpoints: u32,
    /// By which its consumers call their shards; made for the first consumer of a `shared` subscription.
    eventfd: Option<OwnedFd>,
}

impl Session {
    pub(super) fn new(stream: OwnedFd, peer: Peer, deadline: Instant) -> Self {
        Self { state: State::Silent { stream, deadline }, peer, endpoints: 0, eventfd: None }
    }

    pub(super) fn stream(&self) -> Option<&OwnedFd> {
        match &self.state {
            State::Silent { stream, .. } | State::Open { stream } => Some(stream),
            State::Orphaned => None,
        }
    }

    pub(super) fn pidfd(&self) -> &OwnedFd {
        &self.peer.pidfd
    }

    pub(super) fn eventfd(&self) -> Option<&OwnedFd> {
        self.eventfd.as_ref()
    }

    pub(super) fn set_eventfd(&mut self, eventfd: OwnedFd) {
        self.eventfd = Some(eventfd);
    }

    pub(super) fn pid(&self) -> u32 {
        self.peer.pid
    }

    /// When it must have said hello, unless it has.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Silent { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    pub(super) fn has_said_hello(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    pub(super) fn said_hello(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Orphaned) {
            State::Silent { stream, .. } => State::Open { stream },
            other => other,
        };
    }

    /// Gives its socket up.
    pub(super) fn close(&mut self) -> Option<OwnedFd> {
        match std::mem::replace(&mut self.state, State::Orphaned) {
            State::Silent { stream, .. } | State::Open { stream } => Some(stream),
            State::Orphaned => None,
        }
    }

    /// An endpoint is about to be given to it.
    pub(super) fn may_hold_one_more(&mut self) {
        self.endpoints += 1;
    }

    /// An endpoint was not given to it, or it gave one back.
    pub(super) fn holds_one_less(&mut self) {
        self.endpoints = self.endpoints.checked_sub(1).expect("only what was counted is taken off");
    }

    pub(super) fn holds_anything(&self) -> bool {
        self.endpoints > 0
    }
}
