//! The control plane: one plain thread that owns the listening socket and every session.
//!
//! What always holds:
//!
//! 1. A session has at most one request in flight: while it waits, its socket is not read. So a client
//!    that floods is slowed down, and memory per session is bounded.
//! 2. What a session holds is given back when the kernel says that its process is gone (pidfd) or runs another program,
//!    never because its socket closed. A session that closed its socket while holding something is kept as *orphaned*.
//! 3. Bad input ends the session that sent it, with a reason, and disturbs no other.
//! 4. Descriptors run out without harm: one is kept in reserve to accept, explain and close.
//!
//! It reaches shards by their mailboxes only.

mod requests;
mod session;
mod streams;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_shm_protocol::control::{frame, socket};
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::text::count;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use crate::admission::Admission;
use crate::core::{SessionId, Token};
use crate::keeper::{Estate, Keeping, Key, Message, Pauses};
use crate::shard::{AnswerInbox, Command, Mailbox};
use requests::Pending;
use session::Session;
use streams::Streams;

/// What an epoll event belongs to: the kind in the low bits, the session's number above.
const LISTENER: u64 = 0;
const ANSWERS: u64 = 1;
const SOCKET: u64 = 2;
const PROCESS: u64 = 3;
const CALL: u64 = 4;
const KEEPER: u64 = 5;
const KIND_BITS: u32 = 3;

fn event_of(session: SessionId, kind: u64) -> EventData {
    EventData::new_u64(session.0 << KIND_BITS | kind)
}

/// What the control plane is made with.
pub(crate) struct Parts {
    pub(crate) listener: OwnedFd,
    pub(crate) shards: Vec<Mailbox>,
    pub(crate) answers: AnswerInbox,
    /// Readable when the broker shall end.
    pub(crate) stop: OwnedFd,
    pub(crate) sessions_max: u32,
    pub(crate) admission: Admission,
    pub(crate) hello_timeout: Duration,
    pub(crate) keeping: Arc<Keeping>,
}

/// What a control plane must know that succeeds another.
#[derive(Default)]
pub(crate) struct Before {
    /// How many endpoints each session holds.
    pub(crate) holders: BTreeMap<SessionId, u32>,
    /// How many partitions each stream has.
    pub(crate) partitions: BTreeMap<Name, u32>,
}

/// The control plane's state: see the module.
pub(crate) struct Control {
    parts: Parts,
    epoll: OwnedFd,
    /// Given up for a moment when descriptors have run out.
    reserve: Option<OwnedFd>,
    sessions: BTreeMap<SessionId, Session>,
    sessions_made: u64,
    streams: Streams,
    pending: BTreeMap<u64, Pending>,
    requests_made: u64,
    /// When which shard gets the tick that it asked for.
    ticks: BTreeMap<usize, Instant>,
    /// When another keeper was wanted last, and when one is to be started.
    keeper_since: Instant,
    keeper_at: Option<Instant>,
    pauses: Pauses,
    stopping: bool,
}

impl Control {
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &parts.listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, parts.answers.as_fd(), EventData::new_u64(ANSWERS), EventFlags::IN)?;
        // The stop descriptor wakes the loop as an answer does: the loop looks at it each time round.
        epoll::add(&epoll, &parts.stop, EventData::new_u64(ANSWERS), EventFlags::IN)?;
        if let Some(link) = parts.keeping.link() {
            epoll::add(&epoll, &*link, EventData::new_u64(KEEPER), EventFlags::IN)?;
        }
        Ok(Self {
            parts,
            epoll,
            reserve: Some(reserve()?),
            sessions: BTreeMap::new(),
            sessions_made: 0,
            streams: Streams::default(),
            pending: BTreeMap::new(),
            requests_made: 0,
            ticks: BTreeMap::new(),
            keeper_since: Instant::now(),
            keeper_at: None,
            pauses: Pauses::default(),
            stopping: false,
        })
    }

    /// Goes on with the sessions of a control plane that is gone.
    pub(crate) fn adopt(&mut self, before: Before, estate: &mut Estate) -> io::Result<()> {
        let Before { mut holders, partitions } = before;
        self.streams = Streams::with(partitions);
        let sessions: Vec<_> = estate
            .range(Key::Session(0)..=Key::Session(u64::MAX))
            .filter_map(|(key, _)| key.session().map(SessionId))
            .collect();
        for id in sessions {
            let Some(mut session) = Session::adopt(id, &self.parts.keeping, estate) else { continue };
            session.holds(holders.remove(&id).unwrap_or(0));
            if let Some(stream) = session.stream() {
                epoll::add(&self.epoll, stream, event_of(id, SOCKET), EventFlags::IN)?;
            }
            epoll::add(&self.epoll, session.pidfd(), event_of(id, PROCESS), EventFlags::IN)?;
            if let Some(eventfd) = session.eventfd() {
                epoll::add(&self.epoll, eventfd, event_of(id, CALL), EventFlags::IN)?;
            }
            self.sessions_made = self.sessions_made.max(id.0);
            self.sessions.insert(id, session);
            self.resume(id);
        }
        // Their end was being carried out.
        for (id, _) in holders {
            self.sessions_made = self.sessions_made.max(id.0);
            self.session_ended(id);
        }
        Ok(())
    }

    /// Serves until told to stop; then closes every session and returns.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        while !self.stopping {
            events.clear();
            let timeout = self.until_next_deadline();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let data = event.data.u64();
                let session = SessionId(data >> KIND_BITS);
                match data & ((1 << KIND_BITS) - 1) {
                    LISTENER => self.accept_all(),
                    ANSWERS => self.take_answers(),
                    SOCKET => self.read(session),
                    CALL => self.called(session),
                    KEEPER => self.hear_keeper(),
                    _ => self.process_ended(session),
                }
            }
            self.refuse_the_silent();
            self.send_ticks();
            self.renew_keeper();
            if rustix::io::read(&self.parts.stop, &mut [0; 8]).is_ok() {
                self.begin_to_stop();
            }
        }
        for session in self.sessions.values_mut() {
            session.close();
        }
        Ok(())
    }

    /// From here on nobody starts a successor, however this broker ends.
    fn begin_to_stop(&mut self) {
        self.stopping = true;
        self.parts.keeping.say(&Message::Ended);
    }

    /// The keeper has said something, or is gone.
    fn hear_keeper(&mut self) {
        let Some(link) = self.parts.keeping.link() else { return };
        if let Ok(Some((message, _))) = link.receive() {
            if message == Message::Stop {
                self.begin_to_stop();
            }
            return;
        }
        // Another one would not know that there shall be no successor.
        if self.stopping {
            return;
        }
        // The keeper before may have started processes that have its end of the link, too.
        let _ = epoll::delete(&self.epoll, &*link);
        self.want_keeper();
    }

    fn want_keeper(&mut self) {
        let now = Instant::now();
        self.keeper_at = Some(now + self.pauses.after(now - self.keeper_since));
        self.keeper_since = now;
    }

    /// Starts another keeper when it is time. Nothing is lost as long as this process lives; and it goes on serving.
    fn renew_keeper(&mut self) {
        if self.stopping || self.keeper_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.keeper_at = None;
        let watched = self.parts.keeping.renew().and_then(|link| {
            Ok(epoll::add(&self.epoll, &*link, EventData::new_u64(KEEPER), EventFlags::IN)?)
        });
        if let Err(error) = watched {
            tracing::error!(%error, "no keeper can be started: if this process dies now, what it holds is lost");
            return self.want_keeper();
        }
        tracing::warn!("the keeper has ended, another one was started");
    }

    fn accept_all(&mut self) {
        loop {
            match socket::accept(&self.parts.listener) {
                Ok(stream) => self.welcome_or_refuse(stream),
                Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                    // The kernel says this before it looks whether anybody waits.
                    Some(Errno::MFILE | Errno::NFILE) if self.reserve.is_some() => {
                        if !self.refuse_one_by_reserve() {
                            return;
                        }
                    }
                    // The peer gave up while it waited: look at the next one.
                    Some(Errno::CONNABORTED | Errno::INTR) => {}
                    // Not even the reserve is left: without a pause the listener, still readable, would spin.
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                        std::thread::sleep(Duration::from_millis(10));
                        self.reserve = reserve().ok();
                        return;
                    }
                    _ => return,
                },
            }
        }
    }

    fn welcome_or_refuse(&mut self, stream: OwnedFd) {
        let open = self.sessions.len();
        if open >= self.parts.sessions_max as usize {
            tracing::warn!(sessions = open, "client refused: too many sessions");
            let sessions = count(open as u64, "session");
            refuse(
                &stream,
                &format!(
                    "the broker has {sessions}, its limit (sessions_max in its configuration); close some first"
                ),
            );
            return;
        }
        let peer = match socket::peer(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "client refused: it cannot be told who it is");
                let out = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
                refuse(
                    &stream,
                    &if out {
                        no_descriptor_left()
                    } else {
                        format!(
                            "the broker cannot tell who is connecting: {error} (SO_PEERPIDFD needs Linux 6.5)"
                        )
                    },
                );
                return;
            }
        };
        if let Err(reason) = self.parts.admission.check(&peer) {
            tracing::warn!(
                pid = peer.pid,
                uid = peer.uid,
                gid = peer.gid,
                "client refused: it is not allowed"
            );
            refuse(&stream, &reason);
            return;
        }
        self.sessions_made += 1;
        let id = SessionId(self.sessions_made);
        let watched = epoll::add(&self.epoll, &stream, event_of(id, SOCKET), EventFlags::IN)
            .and_then(|()| epoll::add(&self.epoll, &peer.pidfd, event_of(id, PROCESS), EventFlags::IN));
        if let Err(error) = watched {
            tracing::warn!(pid = peer.pid, uid = peer.uid, %error, "client refused: it cannot be watched");
            refuse(&stream, &format!("the broker cannot watch another session: {error}"));
            return;
        }
        let deadline = Instant::now() + self.parts.hello_timeout;
        self.sessions.insert(id, Session::new(id, stream, peer, deadline, &self.parts.keeping));
    }

    /// Accepts one connection with the reserved descriptor, only to say why it is refused. `false`: nobody waits.
    fn refuse_one_by_reserve(&mut self) -> bool {
        self.reserve = None;
        let stream = socket::accept(&self.parts.listener);
        if let Ok(stream) = &stream {
            tracing::warn!("client refused: there are no file descriptors left");
            refuse(stream, &no_descriptor_left());
        }
        let waited = stream.is_ok();
        drop(stream);
        self.reserve = reserve().ok();
        waited
    }

    fn until_next_deadline(&self) -> Option<rustix::time::Timespec> {
        let silent = self.sessions.values().filter_map(Session::deadline);
        let next = silent.chain(self.ticks.values().copied()).chain(self.keeper_at).min()?;
        let left = next.saturating_duration_since(Instant::now());
        Some(rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() })
    }

    fn send_ticks(&mut self) {
        let now = Instant::now();
        for (shard, _) in self.ticks.extract_if(.., |_, at| *at <= now) {
            self.parts.shards[shard].send(Command::Tick);
        }
    }

    fn refuse_the_silent(&mut self) {
        let now = Instant::now();
        let late = |session: &Session| session.deadline().is_some_and(|deadline| deadline <= now);
        let silent: Vec<_> =
            self.sessions.iter().filter(|(_, session)| late(session)).map(|(id, _)| *id).collect();
        let limit = self.parts.hello_timeout.as_millis();
        for id in silent {
            self.hang_up(id, Some(&format!("no hello came within {limit} ms of connecting")));
        }
    }

    /// Closes a session's socket, with a reason if it is the broker's wish. What it holds stays its own until its
    /// process ends.
    fn hang_up(&mut self, id: SessionId, reason: Option<&str>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let (Some(reason), Some(stream)) = (reason, session.stream()) {
            refuse(stream, reason);
        }
        if let Some(stream) = session.close() {
            let (pid, uid, keeps) = (session.pid(), session.uid(), session.holds_anything());
            match reason {
                Some(why) => {
                    tracing::warn!(session = id.0, pid, uid, why, keeps, "session ended by the broker")
                }
                None => tracing::info!(session = id.0, pid, uid, keeps, "session closed"),
            }
            // Dropping the socket would do; being explicit keeps the set exact if it was duplicated.
            let _ = epoll::delete(&self.epoll, &stream);
        }
        if !session.holds_anything() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            let _ = epoll::delete(&self.epoll, session.pidfd());
            // The client has it, too: closing ours would not end the watch.
            if let Some(eventfd) = session.eventfd() {
                let _ = epoll::delete(&self.epoll, eventfd);
            }
        }
    }
}

fn reserve() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?)
}

fn no_descriptor_left() -> String {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.map_or("no limit".to_owned(), |limit| limit.to_string());
    format!(
        "the broker has no file descriptor left (limit {limit}): close sessions, or raise its limit (ulimit -n, \
         LimitNOFILE=)"
    )
}

/// Says why a connection is not served. A peer that cannot hear it loses nothing.
fn refuse(stream: impl AsFd, reason: &str) {
    let _ = send(stream, &frame::packet(frame::Kind::Refused, 0, reason.as_bytes()), &[]);
}

fn send(stream: impl AsFd, packet: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    socket::send(stream, packet, &borrowed)
}

impl Control {
    fn next_token(&mut self) -> Token {
        self.requests_made += 1;
        Token(self.requests_made)
    }
}
