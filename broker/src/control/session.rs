//! One session: a connection, its process, and how many endpoints it holds.
//!
//! What a successor of the broker needs is kept from the hello on: the socket, the pidfd, the eventfd.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use ringway_shm_protocol::control::socket::Peer;
use rustix::net::Shutdown;
use serde::{Deserialize, Serialize};

use crate::core::SessionId;
use crate::keeper::{Entry, Estate, Keeping, Kept, Key};

/// What a process runs: the addresses that the kernel has told it when it began, which are other ones after each exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Program(Vec<u8>);

impl Program {
    /// `None` where the kernel does not say it to this user.
    fn of(pid: u32) -> Option<Self> {
        std::fs::read(format!("/proc/{pid}/auxv")).ok().filter(|auxv| !auxv.is_empty()).map(Self)
    }
}

/// How far a session is.
#[derive(Debug)]
enum State {
    /// Connected; must say hello before the deadline.
    Silent { stream: Arc<OwnedFd>, deadline: Instant },
    /// Has said hello.
    Open { stream: Arc<OwnedFd> },
    /// Its socket is closed and its process alive: it keeps what it holds.
    Orphaned,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    state: State,
    id: SessionId,
    pid: u32,
    uid: u32,
    pidfd: Arc<OwnedFd>,
    /// What the process ran when it connected, if that can be told.
    program: Option<Program>,
    keeping: Arc<Keeping>,
    kept: Option<Kept>,
    /// The number of the request that was read last: one that comes again is being answered, or was.
    last_request: Option<u32>,
    /// Endpoints that it holds, or may be about to be given.
    endpoints: u32,
    /// By which its consumers call their shards; made for the first consumer of a `shared` subscription.
    eventfd: Option<(Arc<OwnedFd>, Kept)>,
}

impl Session {
    /// A connection that has just been accepted.
    pub(super) fn new(
        id: SessionId,
        stream: OwnedFd,
        peer: Peer,
        deadline: Instant,
        keeping: &Arc<Keeping>,
    ) -> Self {
        let Peer { pid, uid, pidfd, .. } = peer;
        Self {
            state: State::Silent { stream: Arc::new(stream), deadline },
            id,
            pid,
            uid,
            pidfd: Arc::new(pidfd),
            program: Program::of(pid),
            keeping: Arc::clone(keeping),
            kept: None,
            last_request: None,
            endpoints: 0,
            eventfd: None,
        }
    }

    /// The session of a broker that is gone; `None`: there is none of this number.
    pub(super) fn adopt(id: SessionId, keeping: &Arc<Keeping>, estate: &mut Estate) -> Option<Self> {
        let (entry, kept) = keeping.adopt(Key::Session(id.0), estate)?;
        let (pid, uid, program) = postcard::from_bytes(&entry.note).ok()?;
        let (state, pidfd) = match &entry.descriptors[..] {
            [pidfd, stream] => (State::Open { stream: stream.clone() }, pidfd),
            [pidfd] => (State::Orphaned, pidfd),
            _ => return None,
        };
        let call = keeping.adopt(Key::Call(id.0), estate);
        let eventfd = call.and_then(|(entry, kept)| {
            let [eventfd] = entry.exactly()?;
            Some((eventfd, kept))
        });
        let (pidfd, keeping) = (pidfd.clone(), Arc::clone(keeping));
        let (kept, last_request, endpoints) = (Some(kept), None, 0);
        Some(Self { state, id, pid, uid, pidfd, program, keeping, kept, last_request, endpoints, eventfd })
    }

    /// Has what a successor needs kept, as it is now.
    fn keep(&mut self) {
        let mut descriptors = vec![self.pidfd.clone()];
        descriptors.extend(self.stream().cloned());
        let note = postcard::to_stdvec(&(self.pid, self.uid, &self.program)).expect("it can be written down");
        let entry = Entry { note, descriptors };
        match &self.kept {
            Some(kept) => self.keeping.replace(kept, entry),
            None => self.kept = Some(self.keeping.keep(Key::Session(self.id.0), entry)),
        }
    }

    /// Whether the process runs another program by now: then the memory that it had mapped is no longer its own. `false` where
    /// that cannot be told; a process that is about to end, and has closed its socket on the way, runs none: its pidfd will tell.
    pub(super) fn runs_another_program(&self) -> bool {
        self.program.as_ref().zip(Program::of(self.pid)).is_some_and(|(then, now)| *then != now)
    }

    /// Takes note of a request; `false`: it was read before.
    pub(super) fn is_new(&mut self, request: u32) -> bool {
        self.last_request.replace(request) != Some(request)
    }

    pub(super) fn stream(&self) -> Option<&Arc<OwnedFd>> {
        match &self.state {
            State::Silent { stream, .. } | State::Open { stream } => Some(stream),
            State::Orphaned => None,
        }
    }

    pub(super) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    pub(super) fn eventfd(&self) -> Option<&Arc<OwnedFd>> {
        self.eventfd.as_ref().map(|(eventfd, _)| eventfd)
    }

    pub(super) fn set_eventfd(&mut self, eventfd: Arc<OwnedFd>) {
        let entry = Entry { note: Vec::new(), descriptors: vec![eventfd.clone()] };
        let kept = self.keeping.keep(Key::Call(self.id.0), entry);
        self.eventfd = Some((eventfd, kept));
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The user of its process, when it connected.
    pub(super) fn uid(&self) -> u32 {
        self.uid
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
        self.keep();
    }

    /// Gives its socket up.
    pub(super) fn close(&mut self) -> Option<Arc<OwnedFd>> {
        let stream = match std::mem::replace(&mut self.state, State::Orphaned) {
            State::Silent { stream, .. } | State::Open { stream } => stream,
            State::Orphaned => return None,
        };
        // The keeper has it, too: closing it here would not end the connection.
        let _ = rustix::net::shutdown(&stream, Shutdown::Both);
        if self.kept.is_some() {
            self.keep();
        }
        Some(stream)
    }

    /// So many endpoints are its own.
    pub(super) fn holds(&mut self, endpoints: u32) {
        self.endpoints = endpoints;
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
