//! From a packet to a shard's mailbox, and from its answer back to the socket.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ringway_shm_protocol::control::PROTOCOL_VERSION;
use ringway_shm_protocol::control::frame::{self, Frame, Hello, Kind, Welcome};
use ringway_shm_protocol::control::message::{Refusal, RefusalCode, Reply, Request, StreamInfo};
use ringway_shm_protocol::control::socket;
use ringway_shm_protocol::name::{Name, NameError};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::{Control, SOCKET, send};
use crate::core::{Caller, EndpointId, Event, Gate, Operation, PAGE_STREAMS, SessionId, Token};
use crate::shard::{Answer, Command, FromShard};

/// Feature bits of the protocol that this broker knows.
const FEATURES: u64 = 0;

/// How long after it asked a shard gets its tick.
const TICK_AFTER: Duration = Duration::from_secs(1);

/// Endpoints and gates are numbered per shard; on the wire the shard stands in the low bits.
const SHARD_BITS: u32 = 10;

/// A request that waits for shards.
pub(super) struct Pending {
    session: SessionId,
    request: u32,
    shard: usize,
    what: Waiting,
}

/// What it waits for.
enum Waiting {
    /// An answer that is passed on.
    Answer,
    /// An endpoint to be given, if all goes well.
    Open,
    /// An endpoint to be given back.
    Close,
    /// A page of each shard.
    Pages { shards_left: usize, page: Vec<StreamInfo>, more: bool },
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
            return self.hang_up(id, None);
        }
        if !packet.descriptors.is_empty() {
            let count = packet.descriptors.len();
            return self
                .hang_up(id, Some(&format!("{count} descriptors came with a packet: requests carry none")));
        }
        let outcome =
            Frame::parse(&packet.bytes).map_err(|error| error.to_string()).and_then(|frame| {
                match (frame.kind, self.sessions[&id].has_said_hello()) {
                    (Kind::Hello, false) => self.hello(id, &frame),
                    (Kind::Request, true) => {
                        let request =
                            frame.message::<Request>("request").map_err(|error| error.to_string())?;
                        self.request(id, frame.request, request);
                        Ok(())
                    }
                    (Kind::Hello, true) => Err("this session has said hello already".to_owned()),
                    (Kind::Request, false) => {
                        Err("a session begins with a hello, not with a request".to_owned())
                    }
                    (kind, _) => Err(format!("a client does not send {kind:?} packets")),
                }
            });
        if let Err(reason) = outcome {
            self.hang_up(id, Some(&reason));
        }
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
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            shards: self.parts.shards.len() as u16,
            broker_pid: std::process::id(),
            session: id.0,
            features: FEATURES & hello.features_optional,
        };
        let session = self.sessions.get_mut(&id).expect("the session has just been read from");
        session.said_hello();
        let stream = session.stream().expect("it has said hello on its socket");
        let sent = send(stream, &frame::encode_fixed(Kind::Welcome, frame.request, &welcome), &[]);
        sent.map_err(|error| format!("the welcome could not be sent: {error}"))
    }

    fn request(&mut self, id: SessionId, request: u32, asked: Request) {
        if asked == Request::Stop {
            self.reply(id, request, &Reply::Done, &[]);
            self.stopping = true;
            return;
        }
        let shards = self.parts.shards.len();
        match operation(asked, shards) {
            Err(refusal) => self.reply(id, request, &Reply::Refused(refusal), &[]),
            Ok((Target::All, operation)) => {
                let what = Waiting::Pages { shards_left: shards, page: Vec::new(), more: false };
                let token = self.wait(Pending { session: id, request, shard: 0, what });
                for shard in 0..shards {
                    self.forward(shard, token, id, operation.clone());
                }
            }
            Ok((Target::One(shard), operation)) => {
                let what = match operation {
                    Operation::OpenProducer(_) | Operation::OpenConsumer(..) => {
                        self.sessions.get_mut(&id).expect("it has just asked").may_hold_one_more();
                        Waiting::Open
                    }
                    Operation::Close(_) => Waiting::Close,
                    _ => Waiting::Answer,
                };
                let token = self.wait(Pending { session: id, request, shard, what });
                self.forward(shard, token, id, operation);
            }
        }
    }

    /// Remembers a request and stops reading its session until it is answered.
    fn wait(&mut self, pending: Pending) -> Token {
        self.watch(pending.session, EventFlags::empty());
        let token = self.next_token();
        self.pending.insert(token.0, pending);
        token
    }

    fn forward(&self, shard: usize, token: Token, session: SessionId, operation: Operation) {
        let caller = Caller { session, pid: self.sessions[&session].pid() };
        self.parts.shards[shard].send(Command::Apply(Event::Request(token, caller, operation)));
    }

    fn watch(&self, id: SessionId, flags: EventFlags) {
        if let Some(stream) = self.sessions.get(&id).and_then(|session| session.stream()) {
            // Can only fail for a descriptor that is not in the set; every open socket is.
            let _ = epoll::modify(&self.epoll, stream, EventData::new_u64(id.0 << 2 | SOCKET), flags);
        }
    }

    pub(super) fn take_answers(&mut self) {
        for said in self.parts.answers.take() {
            match said {
                FromShard::Answer(answer) => self.take_answer(answer),
                FromShard::WantsTick(shard) => {
                    self.ticks.insert(shard as usize, Instant::now() + TICK_AFTER);
                }
            }
        }
    }

    fn take_answer(&mut self, Answer { token, mut reply, descriptors }: Answer) {
        let Some(pending) = self.pending.get_mut(&token.0) else { return };
        if let Waiting::Pages { shards_left, page, more } = &mut pending.what {
            if let Reply::Streams { page: part, more: part_more } = reply {
                page.extend(part);
                *more |= part_more;
            }
            *shards_left -= 1;
            if *shards_left > 0 {
                return;
            }
            reply = joined(std::mem::take(page), *more);
        }
        let pending = self.pending.remove(&token.0).expect("found above");
        if let Some(session) = self.sessions.get_mut(&pending.session) {
            match (&pending.what, &reply) {
                (Waiting::Open, Reply::Refused(_)) | (Waiting::Close, Reply::Done) => {
                    session.holds_one_less()
                }
                _ => {}
            }
            if session.stream().is_none() && !session.holds_anything() {
                self.forget(pending.session);
            }
        }
        on_wire(&mut reply, pending.shard);
        self.watch(pending.session, EventFlags::IN);
        self.reply(pending.session, pending.request, &reply, &descriptors);
    }

    fn reply(&mut self, id: SessionId, request: u32, reply: &Reply, descriptors: &[OwnedFd]) {
        let Some(stream) = self.sessions.get(&id).and_then(|session| session.stream()) else { return };
        let packet = frame::encode(Kind::Reply, request, reply).or_else(|error| {
            let message = format!("the answer does not fit a packet: {error}");
            let refusal = Reply::Refused(Refusal { code: RefusalCode::Limit, message });
            frame::encode(Kind::Reply, request, &refusal)
        });
        let packet = packet.expect("a refusal of a line fits a packet");
        if send(stream, &packet, descriptors).is_err() {
            // It does not read its replies, or is gone.
            self.hang_up(id, None);
        }
    }

    /// The kernel says that the session's process is gone: everything it held is given back.
    pub(super) fn process_ended(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let held = session.holds_anything();
        if let Some(stream) = session.close() {
            let _ = epoll::delete(&self.epoll, &stream);
        }
        self.forget(id);
        if held {
            for shard in &self.parts.shards {
                shard.send(Command::Apply(Event::SessionEnded(id)));
            }
        }
    }
}

/// Where a request goes.
enum Target {
    One(usize),
    All,
}

/// Which shard owns a stream: by the FNV-1a hash of its name, the same in every run.
fn shard_of(name: &Name, shards: usize) -> usize {
    let hash = name
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash % shards as u64) as usize
}

fn operation(request: Request, shards: usize) -> Result<(Target, Operation), Refusal> {
    let invalid = |error: NameError| Refusal { code: RefusalCode::Invalid, message: error.to_string() };
    let name = |bytes: Vec<u8>| Name::parse(bytes).map_err(invalid);
    let by_name = |bytes: Vec<u8>| {
        let name = name(bytes)?;
        Ok((Target::One(shard_of(&name, shards)), name))
    };
    let by_endpoint = |wire: u64| {
        let shard = (wire & ((1 << SHARD_BITS) - 1)) as usize;
        if shard < shards {
            Ok((Target::One(shard), EndpointId(wire >> SHARD_BITS)))
        } else {
            let message = format!("there is no endpoint {wire}: the broker has {shards} shards");
            Err(Refusal { code: RefusalCode::NotFound, message })
        }
    };
    Ok(match request {
        Request::DeclareStream { name, settings } => {
            let (target, name) = by_name(name)?;
            (target, Operation::DeclareStream(name, settings))
        }
        Request::DescribeStream { name } => {
            let (target, name) = by_name(name)?;
            (target, Operation::DescribeStream(name))
        }
        Request::ListStreams { after } => {
            let after = if after.is_empty() { None } else { Some(name(after)?) };
            (Target::All, Operation::ListStreams(after))
        }
        Request::DeleteStream { name } => {
            let (target, name) = by_name(name)?;
            (target, Operation::DeleteStream(name))
        }
        Request::DeclareSubscription { stream, name: subscription, start } => {
            let (target, stream) = by_name(stream)?;
            (target, Operation::DeclareSubscription(stream, name(subscription)?, start))
        }
        Request::DescribeSubscription { stream, name: subscription } => {
            let (target, stream) = by_name(stream)?;
            (target, Operation::DescribeSubscription(stream, name(subscription)?))
        }
        Request::ListSubscriptions { stream } => {
            let (target, stream) = by_name(stream)?;
            (target, Operation::ListSubscriptions(stream))
        }
        Request::DeleteSubscription { stream, name: subscription } => {
            let (target, stream) = by_name(stream)?;
            (target, Operation::DeleteSubscription(stream, name(subscription)?))
        }
        Request::OpenProducer { stream } => {
            let (target, stream) = by_name(stream)?;
            (target, Operation::OpenProducer(stream))
        }
        Request::OpenConsumer { stream, subscription } => {
            let (target, stream) = by_name(stream)?;
            (target, Operation::OpenConsumer(stream, name(subscription)?))
        }
        Request::OpenGate { endpoint, gate, generation } => {
            let (target, endpoint) = by_endpoint(endpoint)?;
            (target, Operation::OpenGate(endpoint, Gate { index: gate, generation }))
        }
        Request::DetachGate { endpoint, gate, generation } => {
            let (target, endpoint) = by_endpoint(endpoint)?;
            (target, Operation::DetachGate(endpoint, Gate { index: gate, generation }))
        }
        Request::Attach { endpoint, position } => {
            let (target, endpoint) = by_endpoint(endpoint)?;
            (target, Operation::Attach(endpoint, position))
        }
        Request::MakeArena { endpoint, bytes } => {
            let (target, endpoint) = by_endpoint(endpoint)?;
            (target, Operation::MakeArena(endpoint, bytes))
        }
        Request::RetireArena { endpoint, arena } => {
            let (target, endpoint) = by_endpoint(endpoint)?;
            (target, Operation::RetireArena(endpoint, arena))
        }
        Request::OpenArena { endpoint, arena } => {
            let (target, endpoint) = by_endpoint(endpoint)?;
            (target, Operation::OpenArena(endpoint, arena))
        }
        Request::Close { endpoint } => {
            let (target, endpoint) = by_endpoint(endpoint)?;
            (target, Operation::Close(endpoint))
        }
        Request::Stop => unreachable!("answered by the control plane itself"),
    })
}

/// Puts the shard into the number of a new endpoint.
fn on_wire(reply: &mut Reply, shard: usize) {
    let endpoint = match reply {
        Reply::Producer(grant) => &mut grant.endpoint,
        Reply::Consumer(grant) => &mut grant.endpoint,
        _ => return,
    };
    *endpoint = *endpoint << SHARD_BITS | shard as u64;
}

/// The first page of what all shards have, in order of names.
fn joined(mut page: Vec<StreamInfo>, more: bool) -> Reply {
    page.sort_by(|one, other| one.name.cmp(&other.name));
    let more = more || page.len() > PAGE_STREAMS;
    page.truncate(PAGE_STREAMS);
    Reply::Streams { page, more }
}
