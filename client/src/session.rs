//! The control session: packets to the broker and back, one request at a time.
//!
//! 1. A mutex lets one request in at a time; its reply bears the same number.
//! 2. No wait for the broker is without a bound. A reply that comes after nobody waits for it any more is recognised
//!    by its number and dropped; what it opened is closed.
//! 3. A broker that dies is succeeded, and the session goes on: the successor says `Resumed`, and what was not answered is
//!    asked again, under the same number.
//! 4. A session that has ended stays so: whoever goes on does it in another one (see [`outage`](crate::outage)).
//! 5. After a fork the child neither sends nor receives on the socket, which it shares with its parent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use ringway_shm_protocol::control::frame::{self, Frame, Hello, Kind, Welcome};
use ringway_shm_protocol::control::message::{RefusalCode, Reply, Request};
use ringway_shm_protocol::control::socket::{self, PATH_BYTES_MAX, Packet};
use ringway_shm_protocol::control::{PROTOCOL_VERSION, SOCKET_NAME};
use ringway_shm_protocol::fork::ForkMark;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::error::{AdminError, ConnectError, ProtocolError};
use crate::task::Watch;
use crate::wait::Deadline;

/// How long a broker may take for an answer.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// In such a part of the time that was waited in vain for an answer a broker that is at work welcomes another session.
const WELCOME_PART: u32 = 10;
/// How often a connection is made that ends before its welcome.
const GREETINGS_MAX: u32 = 3;
/// Longest single poll: beyond it the kernel's arithmetic is not relied on.
const POLL_MAX: Duration = Duration::from_secs(3600);

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    directory: PathBuf,
    socket: OwnedFd,
    fork: ForkMark,
    welcome: Welcome,
    /// The process of the broker, or of its successor.
    broker: AtomicU32,
    /// Somebody has seen that it has ended.
    ended: AtomicBool,
    turn: Mutex<Turn>,
    watch: Watch,
}

/// Whoever holds it may send a request.
#[derive(Debug)]
struct Turn {
    next: u32,
    /// Numbers of the requests whose reply may still come, in the order in which they were sent.
    unanswered: Vec<u32>,
}

/// A reply that is no refusal.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// It was asked of two brokers: the first one may have done it.
    asked_again: bool,
}

/// Why no packet came.
#[derive(Debug)]
enum Trouble {
    NoAnswer,
    Disconnected,
    Ended(String),
    Protocol(ProtocolError),
    System(io::Error),
}

impl From<ProtocolError> for Trouble {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl Session {
    /// Connects to the broker in `directory`, which has `answer_max` to welcome the session.
    pub(crate) fn open(directory: &Path, answer_max: Duration) -> Result<Self, ConnectError> {
        let path = directory.join(SOCKET_NAME);
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(ConnectError::path_too_long(path));
        }
        let mut greetings = 0;
        let (socket, greeted) = loop {
            let socket = match socket::connect_within(&path, answer_max) {
                Err(_) if greetings > 0 => {
                    return Err(ConnectError::Disconnected { directory: directory.to_owned() });
                }
                // As many wait as can: it takes nobody in.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ConnectError::NoAnswer {
                        directory: directory.to_owned(),
                        waited: answer_max,
                    });
                }
                connected => connected.map_err(|source| no_connection(directory, source))?,
            };
            greetings += 1;
            match greet(&socket, answer_max) {
                // The broker died before it knew of us: its successor takes connections at the same socket.
                Err(Trouble::Disconnected) if greetings < GREETINGS_MAX => {}
                greeted => break (socket, greeted),
            }
        };
        let welcome = greeted.map_err(|trouble| {
            let directory = directory.to_owned();
            match trouble {
                Trouble::NoAnswer => ConnectError::NoAnswer { directory, waited: answer_max },
                Trouble::Disconnected => ConnectError::Disconnected { directory },
                Trouble::Ended(message) => ConnectError::Refused { message },
                Trouble::Protocol(source) => ConnectError::Protocol { directory, source },
                Trouble::System(source) => ConnectError::System { directory, source },
            }
        })?;
        let turn = Mutex::new(Turn { next: 1, unanswered: Vec::new() });
        let broker = AtomicU32::new(welcome.broker_pid);
        let (ended, watch) = (AtomicBool::new(false), Watch::default());
        let (directory, fork) = (directory.to_owned(), ForkMark::here());
        Ok(Self { directory, socket, fork, welcome, broker, ended, turn, watch })
    }

    pub(crate) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The process of the broker that was heard last.
    pub(crate) fn broker_pid(&self) -> u32 {
        self.broker.load(Ordering::Relaxed)
    }

    /// In which process the session may be used.
    pub(crate) fn fork(&self) -> ForkMark {
        self.fork
    }

    /// Whether somebody has seen that it has ended: for those who cannot afford to look.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        // Relaxed: it says nothing about other memory.
        self.ended.load(Ordering::Relaxed)
    }

    /// Has the helper thread look once a second from now on whether it has ended.
    pub(crate) fn watch(self: &Arc<Self>) {
        self.watch.begin(self);
    }

    /// Whether the broker has not closed its end.
    pub(crate) fn is_open(&self) -> bool {
        if !self.fork.is_here() || self.has_ended() {
            return false;
        }
        let is_open = self.look();
        self.ended.store(!is_open, Ordering::Relaxed);
        is_open
    }

    fn look(&self) -> bool {
        let mut wanted = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let closed = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        match poll(&mut wanted, Some(&Timespec::default())) {
            Ok(_) => !wanted[0].revents().intersects(closed),
            // Nothing is known then; the next request will tell.
            Err(_) => true,
        }
    }

    /// The process that listens for connections, to wait for its end: the broker's keeper, or the broker itself. An error
    /// where it has ended already, and another keeps its socket.
    pub(crate) fn listener(&self) -> io::Result<socket::Peer> {
        socket::peer(&self.socket)
    }

    /// Waits until the broker has closed the session, whatever it says before; `false`: the deadline is over.
    pub(crate) fn wait_for_end(&self, deadline: Deadline) -> io::Result<bool> {
        wait_for(&self.socket, PollFlags::RDHUP, deadline)
    }

    /// Sends a request and waits for its reply, at most `answer_max`, and for requests of other threads before it.
    pub(crate) fn request(&self, request: &Request, answer_max: Duration) -> Result<Answer, AdminError> {
        self.check_fork()?;
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.exchange(turn, request, answer_max)
    }

    /// As [`request`](Self::request), but gives up at once while another thread's request is under way.
    pub(crate) fn request_unless_busy(
        &self,
        request: &Request,
        answer_max: Duration,
    ) -> Result<Answer, AdminError> {
        self.check_fork()?;
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let (pid, waited) = (self.broker_pid(), Duration::ZERO);
                return Err(AdminError::NoAnswer { pid, waited, is_at_work: true });
            }
        };
        self.exchange(turn, request, answer_max)
    }

    fn check_fork(&self) -> Result<(), AdminError> {
        if self.fork.is_here() { Ok(()) } else { Err(AdminError::Forked) }
    }

    fn exchange(
        &self,
        mut turn: MutexGuard<'_, Turn>,
        request: &Request,
        answer_max: Duration,
    ) -> Result<Answer, AdminError> {
        let answer = self
            .ask(&mut turn, request, Deadline::after(answer_max))
            .map_err(|t| self.explain(t, answer_max))?;
        match answer.reply {
            // The broker before had done it, and died before it could say so.
            Reply::Refused(refusal)
                if answer.asked_again && deletes(request) && refusal.code == RefusalCode::NotFound =>
            {
                Ok(Answer { reply: Reply::Done, ..answer })
            }
            Reply::Refused(refusal) => Err(AdminError::Refused(refusal)),
            _ => Ok(answer),
        }
    }

    fn ask(&self, turn: &mut Turn, request: &Request, deadline: Deadline) -> Result<Answer, Trouble> {
        let number = self.send(turn, request, deadline)?;
        let mut asked_again = false;
        loop {
            let packet = receive(&self.socket, deadline)?;
            let frame = Frame::parse(&packet.bytes).map_err(ProtocolError::from)?;
            if frame.kind == Kind::Resumed {
                let welcome: Welcome = frame.fixed("welcome").map_err(ProtocolError::from)?;
                self.broker.store(welcome.broker_pid, Ordering::Relaxed);
                // Nobody answers what was asked before this.
                turn.unanswered.retain(|asked| *asked == number);
                self.transmit(number, request, deadline)?;
                asked_again = true;
                continue;
            }
            expect_kind(&frame, Kind::Reply, "a reply")?;
            let Some(at) = turn.unanswered.iter().position(|&sent| sent == frame.request) else {
                let (found, expected) = (frame.request, number);
                return Err(ProtocolError::OtherRequest { found, expected }.into());
            };
            // Replies come in order: this one and all before it are settled.
            turn.unanswered.drain(..=at);
            let reply = frame.message::<Reply>("reply").map_err(ProtocolError::from)?;
            if frame.request == number {
                return Ok(Answer { reply, descriptors: packet.descriptors, asked_again });
            }
            self.close_late(turn, &reply, deadline)?;
        }
    }

    fn send(&self, turn: &mut Turn, request: &Request, deadline: Deadline) -> Result<u32, Trouble> {
        let number = turn.next;
        turn.next = number.wrapping_add(1);
        self.transmit(number, request, deadline)?;
        turn.unanswered.push(number);
        Ok(number)
    }

    fn transmit(&self, number: u32, request: &Request, deadline: Deadline) -> Result<(), Trouble> {
        let packet = frame::encode(Kind::Request, number, request).map_err(ProtocolError::from)?;
        transmit(&self.socket, &packet, deadline)
    }

    /// Gives up what a reply opened that nobody waits for any more.
    fn close_late(&self, turn: &mut Turn, reply: &Reply, deadline: Deadline) -> Result<(), Trouble> {
        let endpoint = match reply {
            Reply::Producer(grant) => grant.endpoint,
            Reply::Consumer(grant) => grant.endpoint,
            Reply::Member(grant) => grant.endpoint,
            _ => return Ok(()),
        };
        self.send(turn, &Request::Close { endpoint }, deadline).map(drop)
    }

    fn explain(&self, trouble: Trouble, waited: Duration) -> AdminError {
        match trouble {
            Trouble::NoAnswer => {
                // Whoever welcomes others is at work on what was asked.
                let is_at_work = Self::open(&self.directory, waited / WELCOME_PART).is_ok();
                AdminError::NoAnswer { pid: self.broker_pid(), waited, is_at_work }
            }
            Trouble::Disconnected => {
                self.ended.store(true, Ordering::Relaxed);
                AdminError::Disconnected
            }
            Trouble::Ended(message) => {
                self.ended.store(true, Ordering::Relaxed);
                AdminError::Ended { message }
            }
            Trouble::Protocol(error) => AdminError::Protocol(error),
            Trouble::System(error) => AdminError::System(error),
        }
    }
}

fn deletes(request: &Request) -> bool {
    matches!(
        request,
        Request::DeleteStream { .. } | Request::DeleteSubscription { .. } | Request::Close { .. }
    )
}

fn no_connection(directory: &Path, source: io::Error) -> ConnectError {
    let directory = directory.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
            ConnectError::NoBroker { directory, source }
        }
        io::ErrorKind::PermissionDenied => ConnectError::Denied { directory, source },
        _ => ConnectError::System { directory, source },
    }
}

/// Opens the session.
fn greet(socket: &OwnedFd, answer_max: Duration) -> Result<Welcome, Trouble> {
    let deadline = Deadline::after(answer_max);
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        reserved: 0,
        features_required: 0,
        features_optional: 0,
    };
    transmit(socket, &frame::packet(Kind::Hello, 0, hello.as_bytes()), deadline)?;
    let packet = receive(socket, deadline)?;
    let frame = Frame::parse(&packet.bytes).map_err(ProtocolError::from)?;
    // The broker that read the hello may have been succeeded.
    if frame.kind != Kind::Resumed {
        expect_kind(&frame, Kind::Welcome, "a welcome")?;
    }
    let welcome: Welcome = frame.fixed("welcome").map_err(ProtocolError::from)?;
    if welcome.version != PROTOCOL_VERSION {
        let (found, expected) = (welcome.version, PROTOCOL_VERSION);
        return Err(ProtocolError::Version { found, expected }.into());
    }
    Ok(welcome)
}

fn expect_kind(frame: &Frame<'_>, kind: Kind, expected: &'static str) -> Result<(), Trouble> {
    let found = match frame.kind {
        found if found == kind => return Ok(()),
        Kind::Refused => return Err(Trouble::Ended(String::from_utf8_lossy(frame.body).into_owned())),
        Kind::Hello => "a hello",
        Kind::Welcome => "a welcome",
        Kind::Request => "a request",
        Kind::Reply => "a reply",
        Kind::Resumed => "a word of a successor",
    };
    Err(ProtocolError::Unexpected { found, expected }.into())
}

fn transmit(socket: &OwnedFd, packet: &[u8], deadline: Deadline) -> Result<(), Trouble> {
    if !wait_for(socket, PollFlags::OUT, deadline).map_err(Trouble::System)? {
        return Err(Trouble::NoAnswer);
    }
    match socket::send(socket, packet, &[]) {
        // The broker may have said why before it hung up: that is read next.
        Err(error) if is_hang_up(&error) => Ok(()),
        sent => sent.map_err(Trouble::System),
    }
}

fn receive(socket: &OwnedFd, deadline: Deadline) -> Result<Packet, Trouble> {
    let mut was_reset = false;
    loop {
        if !wait_for(socket, PollFlags::IN, deadline).map_err(Trouble::System)? {
            return Err(Trouble::NoAnswer);
        }
        match socket::receive(socket) {
            Ok(packet) if packet.truncated => return Err(ProtocolError::Truncated.into()),
            Ok(packet) if packet.bytes.is_empty() => return Err(Trouble::Disconnected),
            Ok(packet) => return Ok(packet),
            // Reported once, before what the broker said last.
            Err(error) if is_hang_up(&error) && !was_reset => was_reset = true,
            Err(error) if is_hang_up(&error) => return Err(Trouble::Disconnected),
            Err(error) => return Err(Trouble::System(error)),
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Waits until the descriptor is ready; `false`: the deadline is over.
pub(crate) fn wait_for(descriptor: impl AsFd, events: PollFlags, deadline: Deadline) -> io::Result<bool> {
    loop {
        let now = Instant::now();
        let left = deadline.left(now, POLL_MAX);
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&descriptor, events)], Some(&timeout)) {
            Ok(0) if deadline.is_over(Instant::now()) => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use ringway_shm_protocol::control::message::{ProducerGrant, StreamSettings};
    use tempfile::TempDir;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    /// Starts a broker that speaks with its first client by `script`.
    fn broker(script: impl FnOnce(OwnedFd) + Send + 'static) -> (TempDir, thread::JoinHandle<()>) {
        let directory = tempfile::tempdir().unwrap();
        let listener = socket::listen(&directory.path().join(SOCKET_NAME)).unwrap();
        let serving = thread::spawn(move || {
            assert!(wait_for(&listener, PollFlags::IN, Deadline::after(LONG)).unwrap());
            script(socket::accept(&listener).unwrap());
        });
        (directory, serving)
    }

    fn hear(socket: &OwnedFd) -> Vec<u8> {
        receive(socket, Deadline::after(LONG)).unwrap().bytes
    }

    fn hear_request(socket: &OwnedFd) -> (u32, Request) {
        let packet = hear(socket);
        let frame = Frame::parse(&packet).unwrap();
        (frame.request, frame.message("request").unwrap())
    }

    fn say(socket: &OwnedFd, number: u32, reply: &Reply) {
        socket::send(socket, &frame::encode(Kind::Reply, number, reply).unwrap(), &[]).unwrap();
    }

    fn welcome(socket: &OwnedFd) {
        hear(socket);
        let welcome = Welcome { version: 1, shards: 1, broker_pid: 77, session: 1, features: 0 };
        socket::send(socket, &frame::packet(Kind::Welcome, 0, welcome.as_bytes()), &[]).unwrap();
    }

    #[test]
    fn a_broker_that_accepts_and_is_silent_is_an_error_after_the_time_given() {
        let (directory, serving) = broker(|socket| {
            // Until the client has given up.
            while !receive(&socket, Deadline::after(LONG)).is_err_and(|t| matches!(t, Trouble::Disconnected))
            {
            }
        });
        let error = Session::open(directory.path(), SOON).unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { waited: SOON, .. }), "{error}");
        assert!(error.is_retryable());
        serving.join().unwrap();
    }

    #[test]
    fn a_broker_at_whose_door_nobody_more_can_wait_is_one_that_does_not_answer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SOCKET_NAME);
        let _listener = socket::listen(&path).unwrap();
        let waiting: Vec<_> = std::iter::from_fn(|| socket::connect_within(&path, SOON).ok()).collect();
        assert!(!waiting.is_empty());
        let error = Session::open(directory.path(), SOON).unwrap_err();
        assert!(matches!(error, ConnectError::NoAnswer { waited: SOON, .. }), "{error}");
    }

    #[test]
    fn a_broker_that_takes_long_for_an_answer_and_welcomes_others_is_not_said_to_hang() {
        let directory = tempfile::tempdir().unwrap();
        let listener = socket::listen(&directory.path().join(SOCKET_NAME)).unwrap();
        let serving = thread::spawn(move || {
            for _ in 0..2 {
                assert!(wait_for(&listener, PollFlags::IN, Deadline::after(LONG)).unwrap());
                let socket = socket::accept(&listener).unwrap();
                welcome(&socket);
                // What it asks stays unanswered.
                std::mem::forget(socket);
            }
        });
        let session = Session::open(directory.path(), LONG).unwrap();
        let opening = Request::OpenProducer { stream: b"s".into(), partition: 0, name: None };
        let error = session.request(&opening, Duration::from_secs(1)).unwrap_err();
        assert!(
            matches!(error, AdminError::NoAnswer { is_at_work: true, .. }) && error.is_retryable(),
            "{error:?}"
        );
        let expected = "the broker (process 77) has not answered for 1s, and takes connections meanwhile: it is at work on what was \
                        asked, such as a large ring; ask again";
        assert_eq!(error.to_string(), expected);
        serving.join().unwrap();
    }

    #[test]
    fn a_late_reply_is_not_taken_for_the_next_one_and_what_it_opened_is_closed() {
        let (directory, serving) = broker(|socket| {
            welcome(&socket);
            let (opening, _) = hear_request(&socket);
            let (listing, request) = hear_request(&socket);
            assert_eq!(request, Request::ListSubscriptions { stream: b"s".into() });
            let grant = ProducerGrant {
                endpoint: 42,
                incarnation: 1,
                owner: 1,
                position: 0,
                number: 0,
                sent: None,
                settings: StreamSettings::default(),
            };
            say(&socket, opening, &Reply::Producer(grant));
            say(&socket, listing, &Reply::Subscriptions(Vec::new()));
            let (closing, request) = hear_request(&socket);
            assert_eq!(request, Request::Close { endpoint: 42 });
            say(&socket, closing, &Reply::Done);
            let (stopping, _) = hear_request(&socket);
            say(&socket, stopping, &Reply::Done);
        });
        let session = Session::open(directory.path(), LONG).unwrap();
        let error = session
            .request(&Request::OpenProducer { stream: b"s".into(), partition: 0, name: None }, SOON)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the broker (process 77) has not answered for 50ms: it hangs or is stopped"
        );
        assert!(error.is_retryable());
        let answer = session.request(&Request::ListSubscriptions { stream: b"s".into() }, LONG).unwrap();
        assert_eq!(answer.reply, Reply::Subscriptions(Vec::new()));
        assert_eq!(session.request(&Request::Stop, LONG).unwrap().reply, Reply::Done);
        serving.join().unwrap();
    }
}
