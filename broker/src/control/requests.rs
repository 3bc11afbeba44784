//! From a packet to a shard's mailbox, and from its answer back to the socket.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_shm_protocol::control::PROTOCOL_VERSION;
use ringway_shm_protocol::control::frame::{self, Frame, Hello, Kind, Welcome};
use ringway_shm_protocol::control::message::{Refusal, RefusalCode, Reply, Request, StreamInfo};
use ringway_shm_protocol::control::socket;
use ringway_shm_protocol::name::{Name, NameError};
use ringway_shm_protocol::stops;
use ringway_shm_protocol::text::count;
use rustix::event::EventfdFlags;
use rustix::event::epoll::{self, EventFlags};

use super::session::Session;
use super::streams::{Asked, StreamRequest, Work, joined_page};
use super::{CALL, Control, SOCKET, event_of, send};
use crate::clock;
use crate::core::{Alteration, Caller, EndpointId, Event, Gate, Grave, Operation, SessionId, Token};
use crate::shard::{Answer, Command, FromShard};

/// Feature bits of the protocol that this broker knows.
const FEATURES: u64 = 0;

/// Endpoints and gates are numbered per shard; on the wire the shard stands in the low bits.
const SHARD_BITS: u32 = 10;

/// At least as many packets as a socket holds that nobody reads.
const UNREAD_MAX: u32 = 1024;

/// A request that waits for shards.
pub(super) struct Pending {
    pub(super) session: SessionId,
    pub(super) request: u32,
    pub(super) what: Waiting,
}

/// What it waits for.
pub(super) enum Waiting {
    /// An answer that is passed on.
    Answer,
    /// An endpoint to be given back.
    Close,
    /// A page of each shard.
    Pages { shards_left: usize, page: Vec<StreamInfo>, more: bool },
    /// Answers of partitions.
    Stream(Work),
    /// A dead letter to be published.
    Letter(Grave),
}

impl Control {
    /// Reads the one packet that a session may have sent.
    pub(super) fn read(&mut self, id: SessionId) {
        let Some(stream) = self.sessions.get(&id).and_then(|session| session.stream()) else { return };
        let packet = match socket::receive(stream) {
            Ok(packet) => packet,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(_) => return self.hang_up(id, None),
        };
        if packet.truncated {
            return self.hang_up(id, Some(&frame::FrameError::Large.to_string()));
        }
        if packet.bytes.is_empty() {
            return self.hung_up(id);
        }
        if !packet.descriptors.is_empty() {
            let descriptors = count(packet.descriptors.len() as u64, "descriptor");
            return self.hang_up(id, Some(&format!("{descriptors} came with a packet: requests carry none")));
        }
        let outcome = Frame::parse(&packet.bytes).map_err(|error| error.to_string()).and_then(|frame| {
            match (frame.kind, self.sessions[&id].has_said_hello()) {
                // Asked again of a successor that had read it already.
                (Kind::Request, true) if !self.is_new(id, frame.request) => Ok(()),
                (Kind::Hello, false) => self.hello(id, &frame),
                (Kind::Request, true) => {
                    let request = frame.message::<Request>("request").map_err(|error| error.to_string())?;
                    self.request(id, frame.request, request);
                    Ok(())
                }
                (Kind::Hello, true) => Err("this session has said hello already".to_owned()),
                (Kind::Request, false) => Err("a session begins with a hello, not with a request".to_owned()),
                (kind, _) => Err(format!("a client does not send {kind:?} packets")),
            }
        });
        if let Err(reason) = outcome {
            self.hang_up(id, Some(&reason));
        }
    }

    fn is_new(&mut self, id: SessionId, request: u32) -> bool {
        self.sessions.get_mut(&id).is_some_and(|session| session.is_new(request))
    }

    fn hello(&mut self, id: SessionId, frame: &Frame<'_>) -> Result<(), String> {
        let hello: Hello = frame.fixed("hello").map_err(|error| error.to_string())?;
        if !(hello.version_min..=hello.version_max).contains(&PROTOCOL_VERSION) {
            return Err(format!(
                "the broker (ringway {}) speaks protocol version {PROTOCOL_VERSION}, the client versions {} to {}: \
                 use a client of the broker's version",
                env!("CARGO_PKG_VERSION"),
                hello.version_min,
                hello.version_max
            ));
        }
        let unknown = hello.features_required & !FEATURES;
        if unknown != 0 {
            return Err(format!("the client requires features {unknown:#x} that this broker does not have"));
        }
        let welcome = self.welcome_to(id, hello.features_optional);
        let session = self.sessions.get_mut(&id).expect("the session has just been read from");
        session.said_hello();
        tracing::info!(session = id.0, pid = session.pid(), uid = session.uid(), "session opened");
        let stream = session.stream().expect("it has said hello on its socket");
        let sent = send(stream, &frame::encode_fixed(Kind::Welcome, frame.request, &welcome), &[]);
        sent.map_err(|error| format!("the welcome could not be sent: {error}"))
    }

    fn welcome_to(&self, id: SessionId, features_optional: u64) -> Welcome {
        Welcome {
            version: PROTOCOL_VERSION,
            shards: self.parts.shards.len() as u16,
            broker_pid: std::process::id(),
            session: id.0,
            features: FEATURES & features_optional,
        }
    }

    /// Tells a session that it goes on with this broker. What it has asked so far it asks again then: something of it may have
    /// been answered already.
    pub(super) fn resume(&self, id: SessionId) {
        if let Some(stream) = self.sessions.get(&id).and_then(|session| session.stream()) {
            // Whoever sends on meanwhile holds nobody up: more than a socket holds was not there before.
            let unread = || socket::receive(stream).is_ok_and(|packet| !packet.bytes.is_empty());
            let _ = (0..UNREAD_MAX).take_while(|_| unread()).count();
            // One that does not read is full of such packets, and one of them is enough.
            let _ = send(stream, &frame::encode_fixed(Kind::Resumed, 0, &self.welcome_to(id, 0)), &[]);
            stops::at("session.resumed");
        }
    }

    fn request(&mut self, id: SessionId, request: u32, asked: Request) {
        if asked == Request::Stop {
            let uid = self.sessions[&id].uid();
            if !self.parts.admission.is_owner(uid) {
                let message = format!("user {uid} may not end this broker: its own user and root may");
                let refusal = Refusal { code: RefusalCode::Denied, message };
                return self.reply(id, request, &Reply::Refused(refusal), &[]);
            }
            tracing::info!(session = id.0, pid = self.sessions[&id].pid(), uid, "told to end");
            self.begin_to_stop();
            self.reply(id, request, &Reply::Done, &[]);
            return;
        }
        let shards = self.parts.shards.len();
        match target(asked, shards) {
            Err(refusal) => self.reply(id, request, &Reply::Refused(refusal), &[]),
            Ok(Target::All(operation)) => {
                let what = Waiting::Pages { shards_left: shards, page: Vec::new(), more: false };
                let token = self.wait(Pending { session: id, request, what });
                let caller = self.caller(id, request);
                for shard in 0..shards {
                    self.forward(shard, token, caller, operation.clone());
                }
            }
            Ok(Target::Shard(shard, operation)) => {
                let what = match operation {
                    Operation::Close(_) => Waiting::Close,
                    _ => Waiting::Answer,
                };
                let token = self.wait(Pending { session: id, request, what });
                self.forward(shard, token, self.caller(id, request), operation);
            }
            Ok(Target::Stream(name, asked)) => {
                self.ask_stream(name, StreamRequest { session: id, request, asked });
            }
        }
    }

    fn caller(&self, session: SessionId, request: u32) -> Caller {
        Caller { session, pid: self.sessions[&session].pid(), request }
    }

    /// Stops reading a session until its request is answered.
    pub(super) fn pause(&self, session: SessionId) {
        self.watch(session, EventFlags::empty());
    }

    /// Remembers a request and stops reading its session until it is answered.
    pub(super) fn wait(&mut self, pending: Pending) -> Token {
        self.pause(pending.session);
        let token = self.next_token();
        self.pending.insert(token.0, pending);
        token
    }

    pub(super) fn forward(&self, shard: usize, token: Token, caller: Caller, operation: Operation) {
        self.parts.shards[shard].send(Command::Apply(Event::Request(token, caller, operation)));
    }

    fn watch(&self, id: SessionId, flags: EventFlags) {
        if let Some(stream) = self.sessions.get(&id).and_then(|session| session.stream()) {
            // Can only fail for a descriptor that is not in the set; every open socket is.
            let _ = epoll::modify(&self.epoll, stream, event_of(id, SOCKET), flags);
        }
    }

    pub(super) fn take_answers(&mut self) {
        for said in self.parts.answers.take() {
            match said {
                FromShard::Answer(answer) => self.take_answer(answer),
                FromShard::WantsTick(shard, at) => {
                    let left = at.saturating_sub(clock::monotonic());
                    self.ticks.insert(shard as usize, Instant::now() + Duration::from_nanos(left));
                }
                FromShard::Letter(letter) => self.post(letter),
            }
        }
    }

    fn take_answer(&mut self, Answer { token, mut reply, descriptors }: Answer) {
        let Some(pending) = self.pending.get_mut(&token.0) else { return };
        match &mut pending.what {
            Waiting::Pages { shards_left, page, more } => {
                if let Reply::Streams { page: part, more: part_more } = reply {
                    page.extend(part);
                    *more |= part_more;
                }
                *shards_left -= 1;
                if *shards_left > 0 {
                    return;
                }
                reply = joined_page(std::mem::take(page), *more);
            }
            Waiting::Stream(work) => {
                if work.take(reply, descriptors)
                    && let Some(Pending { request, what: Waiting::Stream(work), .. }) =
                        self.pending.remove(&token.0)
                {
                    self.stream_answered(request, work);
                }
                return;
            }
            Waiting::Letter(grave) => {
                let grave = *grave;
                self.pending.remove(&token.0);
                return self.buried(grave, reply == Reply::Done);
            }
            Waiting::Answer | Waiting::Close => {}
        }
        let pending = self.pending.remove(&token.0).expect("found above");
        if matches!((&pending.what, &reply), (Waiting::Close, Reply::Done)) {
            self.holds_one_less(pending.session);
        }
        self.answer(pending.session, pending.request, &reply, &descriptors);
    }

    /// A descriptor of the session's eventfd, by which its consumers call their shards.
    pub(super) fn eventfd(&mut self, id: SessionId) -> std::io::Result<OwnedFd> {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Err(std::io::ErrorKind::NotConnected.into());
        };
        if session.eventfd().is_none() {
            let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            epoll::add(&self.epoll, &eventfd, event_of(id, CALL), EventFlags::IN)?;
            session.set_eventfd(Arc::new(eventfd));
        }
        session.eventfd().expect("made above").as_fd().try_clone_to_owned()
    }

    /// A consumer of a session has called.
    pub(super) fn called(&self, id: SessionId) {
        let Some(eventfd) = self.sessions.get(&id).and_then(|session| session.eventfd()) else { return };
        // Would block when the call has been taken already.
        if rustix::io::read(eventfd, &mut [0; 8]).is_ok() {
            for shard in &self.parts.shards {
                shard.send(Command::Look(id));
            }
        }
    }

    /// A session was not given an endpoint, or has given one back.
    pub(super) fn holds_one_less(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.holds_one_less();
            if session.stream().is_none() && !session.holds_anything() {
                self.forget(id);
            }
        }
    }

    /// Replies to a session that was paused, and reads it again.
    pub(super) fn answer(&mut self, id: SessionId, request: u32, reply: &Reply, descriptors: &[OwnedFd]) {
        self.watch(id, EventFlags::IN);
        self.reply(id, request, reply, descriptors);
    }

    fn reply(&mut self, id: SessionId, request: u32, reply: &Reply, descriptors: &[OwnedFd]) {
        let Some(stream) = self.sessions.get(&id).and_then(|session| session.stream()) else { return };
        let packet = frame::encode(Kind::Reply, request, reply).or_else(|error| {
            let message = format!("the answer does not fit a packet: {error}");
            let refusal = Reply::Refused(Refusal { code: RefusalCode::Limit, message });
            frame::encode(Kind::Reply, request, &refusal)
        });
        let packet = packet.expect("a refusal of a line fits a packet");
        let sent = send(stream, &packet, descriptors);
        stops::at("answered");
        if sent.is_err() {
            // It does not read its replies, or is gone.
            self.hang_up(id, None);
        }
    }

    /// The client's end is closed. If that is because its process runs another program now, it is as good as gone: the kernel has
    /// taken its memory from it before it closed the descriptors.
    fn hung_up(&mut self, id: SessionId) {
        if self.sessions.get(&id).is_some_and(Session::runs_another_program) {
            self.process_ended(id);
        } else {
            self.hang_up(id, None);
        }
    }

    /// The kernel says that the session's process is gone: everything it held is given back.
    pub(super) fn process_ended(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let held = session.holds_anything();
        tracing::info!(
            session = id.0,
            pid = session.pid(),
            uid = session.uid(),
            held,
            "session ended: its process is gone"
        );
        if let Some(stream) = session.close() {
            let _ = epoll::delete(&self.epoll, &stream);
        }
        self.forget(id);
        if held {
            self.session_ended(id);
        }
    }

    /// Gives back what a session held.
    pub(super) fn session_ended(&self, id: SessionId) {
        for shard in &self.parts.shards {
            shard.send(Command::Apply(Event::SessionEnded(id)));
        }
    }
}

/// Where a request goes.
enum Target {
    /// To one shard.
    Shard(usize, Operation),
    /// To all shards.
    All(Operation),
    /// To the partitions of a stream.
    Stream(Name, Asked),
}

fn target(request: Request, shards: usize) -> Result<Target, Refusal> {
    let invalid = |error: NameError| Refusal { code: RefusalCode::Invalid, message: error.to_string() };
    let name = |bytes: Vec<u8>| Name::parse(bytes).map_err(invalid);
    let by_endpoint = |wire: u64, operation: &dyn Fn(EndpointId) -> Operation| {
        let shard = (wire & ((1 << SHARD_BITS) - 1)) as usize;
        if shard < shards {
            Ok(Target::Shard(shard, operation(EndpointId(wire >> SHARD_BITS))))
        } else {
            let shards = count(shards as u64, "shard");
            let message = format!("there is no endpoint {wire}: the broker has {shards}");
            Err(Refusal { code: RefusalCode::NotFound, message })
        }
    };
    Ok(match request {
        Request::DeclareStream { name: stream, settings, queue } => {
            Target::Stream(name(stream)?, Asked::Declare(settings, queue))
        }
        Request::DescribeStream { name: stream } => Target::Stream(name(stream)?, Asked::Describe),
        Request::ListStreams { after } => {
            let after = if after.is_empty() { None } else { Some(name(after)?) };
            Target::All(Operation::ListStreams(after))
        }
        Request::DeleteStream { name: stream } => Target::Stream(name(stream)?, Asked::Delete),
        Request::DeclareSubscription { stream, name: subscription, start, mode } => {
            Target::Stream(name(stream)?, Asked::DeclareSubscription(name(subscription)?, start, mode))
        }
        Request::DescribeSubscription { stream, name: subscription } => {
            Target::Stream(name(stream)?, Asked::DescribeSubscription(name(subscription)?))
        }
        Request::ListSubscriptions { stream } => Target::Stream(name(stream)?, Asked::ListSubscriptions),
        Request::DeleteSubscription { stream, name: subscription } => {
            Target::Stream(name(stream)?, Asked::DeleteSubscription(name(subscription)?))
        }
        Request::Purge { stream, subscription } => {
            Target::Stream(name(stream)?, Asked::Purge(subscription.map(name).transpose()?))
        }
        Request::AlterStream { name: stream, changes, queue } => {
            Target::Stream(name(stream)?, Asked::Alter(Box::new(Alteration::Stream(changes, queue))))
        }
        Request::AlterSubscription { stream, name: subscription, changes } => {
            let alteration = Alteration::Subscription(name(subscription)?, changes);
            Target::Stream(name(stream)?, Asked::Alter(Box::new(alteration)))
        }
        Request::OpenProducer { stream, partition, name: own } => {
            Target::Stream(name(stream)?, Asked::OpenProducer(partition, own.map(name).transpose()?))
        }
        Request::OpenConsumer { stream, partition, subscription } => {
            Target::Stream(name(stream)?, Asked::OpenConsumer(partition, name(subscription)?))
        }
        Request::OpenGate { endpoint, gate, generation } => {
            let gate = Gate { index: gate, generation };
            by_endpoint(endpoint, &|endpoint| Operation::OpenGate(endpoint, gate))?
        }
        Request::DetachGate { endpoint, gate, generation } => {
            let gate = Gate { index: gate, generation };
            by_endpoint(endpoint, &|endpoint| Operation::DetachGate(endpoint, gate))?
        }
        Request::RelieveGate { endpoint, gate, generation } => {
            let gate = Gate { index: gate, generation };
            by_endpoint(endpoint, &|endpoint| Operation::RelieveGate(endpoint, gate))?
        }
        Request::Attach { endpoint, position } => {
            by_endpoint(endpoint, &|endpoint| Operation::Attach(endpoint, position))?
        }
        Request::ReadPage { endpoint, position, region } => {
            by_endpoint(endpoint, &|endpoint| Operation::ReadPage(endpoint, position, region))?
        }
        Request::MakeArena { endpoint, bytes } => {
            by_endpoint(endpoint, &|endpoint| Operation::MakeArena(endpoint, bytes))?
        }
        Request::RetireArena { endpoint, arena } => {
            by_endpoint(endpoint, &|endpoint| Operation::RetireArena(endpoint, arena))?
        }
        Request::OpenArena { endpoint, arena } => {
            by_endpoint(endpoint, &|endpoint| Operation::OpenArena(endpoint, arena))?
        }
        Request::Close { endpoint } => by_endpoint(endpoint, &Operation::Close)?,
        Request::Stop => unreachable!("answered by the control plane itself"),
    })
}

/// Puts the shard into the number of a new endpoint.
pub(super) fn on_wire(reply: &mut Reply, shard: usize) {
    let endpoint = match reply {
        Reply::Producer(grant) => &mut grant.endpoint,
        Reply::Consumer(grant) => &mut grant.endpoint,
        Reply::Member(grant) => &mut grant.endpoint,
        _ => return,
    };
    *endpoint = *endpoint << SHARD_BITS | shard as u64;
}
