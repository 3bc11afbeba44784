//! The decisions of one shard, as a pure state machine.
//!
//! [`Core::apply`] takes an [`Event`] and returns [`Effect`]s. It does no I/O, reads no clock and draws no
//! random numbers, so that the same events always give the same effects and a simulator can drive it.
//!
//! What always holds:
//!
//! 1. The effects of one event are carried out, in order, before the next event is applied. An effect that can fail
//!    reports back by an event that undoes or refuses.
//! 2. Every request gets exactly one answer.
//! 3. A stream whose producers are exclusive has at most one, a `cursor` subscription at most one consumer; a queue has its
//!    one `shared` subscription from the first moment to the last.
//! 4. An owner id, a member id and a gate index are given out again only after the effects that sweep their last user.
//! 5. What a session holds is released only by `Close` or by `SessionEnded`, which says that the
//!    kernel has reported its process gone. What a producer's arenas hold outlives it, until nobody can ask for it.

mod altering;
mod arenas;
mod body;
mod catalogue;
mod endpoints;
pub mod lot;
mod stream;
mod tracked;
mod view;

use std::collections::BTreeMap;
use std::ops::Bound;

use ringway_shm_protocol::control::message::{
    Durability, Overflow, Producers, Refusal, RefusalCode, SharedSettings, StartAt, StreamKind,
    StreamSettings, SubscriptionMode,
};
use ringway_shm_protocol::layout::{Geometry, PARTITIONS_MAX};
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::text::count;
use serde::{Deserialize, Serialize};

pub use altering::Alteration;
pub use arenas::{SHARD_ARENAS, no_arena};
pub use body::Body;
pub use catalogue::{CoreRecord, DeclaredStream, OpenStream, OpenSubscription};
pub use endpoints::{Ending, EndpointId, Ids};
use endpoints::{Endpoint, Role};
use stream::{Stream, Subscription, check_mode};
use tracked::Tracked;
pub use view::{Outline, ProducerOutline, StreamView, SubscriptionOutline, SubscriptionView};

/// A session: one connection of one process. Unique for the broker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// Names a request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// A stream of this shard. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u64);

/// Most dead letters that a shard has under way.
pub const LETTERS_MAX: usize = 64;

/// Most streams on a page of a list.
pub const PAGE_STREAMS: usize = 64;

/// A partition of a stream: to the core each is a ring of its own, with its own subscriptions, producers and consumers. That
/// all partitions of a stream agree is the control plane's care.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// The stream's name.
    pub stream: Name,
    /// Its number in the stream.
    pub number: u32,
}

/// A gate of a stream's partition, in one of its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gate {
    /// Its index, 0 to 63.
    pub index: u8,
    /// Which use of the index: 14 bits.
    pub generation: u16,
}

/// Where a dead letter comes from. No two are ever the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grave {
    /// The shard.
    pub shard: u32,
    /// The stream.
    pub stream: StreamId,
    /// Its ring: positions that were lost with the one before may name other messages now. 0: of a stream that is journaled,
    /// where what has died is not lost.
    pub incarnation: u64,
    /// The subscription's gate.
    pub gate: Gate,
    /// The message's position.
    pub position: u64,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The session.
    pub session: SessionId,
    /// Its process.
    pub pid: u32,
    /// The number of its request: one that comes again is the same request.
    pub request: u32,
}

/// What a session asks of a shard. Names are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes a stream, or confirms it; a queue with its subscription.
    DeclareStream(Partition, StreamSettings, Option<SharedSettings>),
    /// Describes a stream.
    DescribeStream(Partition),
    /// Describes up to [`PAGE_STREAMS`] streams behind this name.
    ListStreams(Option<Name>),
    /// Asks whether nobody has a stream open, so that it may be removed.
    CheckStreamUnused(Partition),
    /// Removes a stream.
    DeleteStream(Partition),
    /// Makes a subscription, or confirms it.
    DeclareSubscription(Partition, Name, StartAt, Option<SubscriptionMode>),
    /// Describes a subscription.
    DescribeSubscription(Partition, Name),
    /// Describes all subscriptions of a stream.
    ListSubscriptions(Partition),
    /// Asks whether nobody has a subscription open, so that it may be removed.
    CheckSubscriptionUnused(Partition, Name),
    /// Removes a subscription.
    DeleteSubscription(Partition, Name),
    /// Asks whether what is there could be given up, for this subscription or for all.
    CheckPurge(Partition, Option<Name>),
    /// Gives up what nobody has of the messages that are there, for this subscription or for all.
    Purge(Partition, Option<Name>),
    /// Asks whether a stream, or a subscription of it, could be altered.
    CheckAlter(Partition, Alteration),
    /// Alters a stream, or a subscription of it.
    Alter(Partition, Alteration),
    /// Opens a stream as producer.
    OpenProducer(Partition, Option<Name>),
    /// Opens a subscription as consumer.
    OpenConsumer(Partition, Name),
    /// Asks for the region of a gate.
    OpenGate(EndpointId, Gate),
    /// Asks that a gate be detached that holds the ring full.
    DetachGate(EndpointId, Gate),
    /// Publishes a dead letter.
    Publish(Partition, Grave, Body),
    /// Asks that what consumers have at the beginning of a full ring be taken over, so that this gate rises.
    RelieveGate(EndpointId, Gate),
    /// Asks that a consumer's gate joins again, at this position.
    Attach(EndpointId, u64),
    /// Asks for messages of the journal from this position on, for a consumer that is behind the ring, in the region of this number if
    /// it is there.
    ReadPage(EndpointId, u64, u64),
    /// Asks for a new arena of so many bytes for a producer.
    MakeArena(EndpointId, u64),
    /// Gives up an arena of a producer.
    RetireArena(EndpointId, u32),
    /// Asks for an arena to read.
    OpenArena(EndpointId, u32),
    /// Gives up an endpoint.
    Close(EndpointId),
}

/// What happens to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session asks for something.
    Request(Token, Caller, Operation),
    /// The ring of a stream exists now, with the regions of its subscriptions.
    RingMade(StreamId),
    /// The regions of a subscription could not be made: it is taken back.
    SubscriptionFailed(StreamId, Gate),
    /// An endpoint could not be handed over: it is taken back.
    EndpointFailed(EndpointId),
    /// These arenas are no more: one could not be made, or nobody can ask for what is in them.
    ArenasGone(StreamId, Vec<u32>),
    /// The kernel has reported the session's process gone.
    SessionEnded(SessionId),
}

/// What the shard has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make the ring of a stream and the regions of these gates, all at position 0. Then apply
    /// [`Event::RingMade`] and the request again; if it fails, refuse the request.
    MakeRing {
        /// The stream.
        stream: StreamId,
        /// The partition's number.
        partition: u32,
        /// Its size.
        geometry: Geometry,
        /// What happens when it is full.
        overflow: Overflow,
        /// Its subscriptions.
        gates: Vec<(Gate, SubscriptionMode)>,
        /// The gate of the journal, if messages are journaled, and what they are confirmed at.
        journal: Option<(Gate, Durability)>,
        /// Refused if it fails.
        token: Token,
        /// Who asked.
        caller: Caller,
        /// Applied again if it succeeds.
        operation: Operation,
    },
    /// Make the region of a subscription and let its gate join. Then answer with the subscription; if it
    /// fails, apply [`Event::SubscriptionFailed`] and refuse the request.
    Join {
        /// The stream.
        stream: StreamId,
        /// The gate.
        gate: Gate,
        /// Where it starts.
        start: StartAt,
        /// The request to answer.
        token: Token,
        /// The answer.
        view: SubscriptionView,
    },
    /// Take a gate out of force, drop its region, wake producers that wait.
    Leave(StreamId, Gate),
    /// Drop the ring of a stream.
    DropRing(StreamId),
    /// Hand a producer its regions; if that fails, apply [`Event::EndpointFailed`] and refuse the request.
    GrantProducer {
        /// The request to answer.
        token: Token,
        /// The stream.
        stream: StreamId,
        /// The new endpoint.
        endpoint: EndpointId,
        /// The owner id it takes slots with.
        owner: u32,
        /// The number of its name; 0: it has none.
        number: u32,
        /// The stream's settings.
        settings: StreamSettings,
    },
    /// Hand a consumer its regions; if that fails, apply [`Event::EndpointFailed`] and refuse the request.
    GrantConsumer {
        /// The request to answer.
        token: Token,
        /// The stream.
        stream: StreamId,
        /// Its subscription's gate.
        gate: Gate,
        /// The new endpoint.
        endpoint: EndpointId,
        /// The stream's settings.
        settings: StreamSettings,
    },
    /// Hand a consumer of a `shared` subscription its regions; if that fails, apply [`Event::EndpointFailed`] and refuse
    /// the request.
    GrantMember {
        /// The request to answer.
        token: Token,
        /// The stream.
        stream: StreamId,
        /// Its subscription's gate.
        gate: Gate,
        /// The new endpoint.
        endpoint: EndpointId,
        /// Whose it is.
        session: SessionId,
        /// The id that it claims with.
        member: u32,
        /// The stream's settings.
        settings: StreamSettings,
    },
    /// Let this consumer of a `shared` subscription be the one that gets messages.
    Activate {
        /// The stream.
        stream: StreamId,
        /// Its subscription's gate.
        gate: Gate,
        /// The consumer.
        member: u32,
    },
    /// A consumer of a `shared` subscription has stopped: take over what it has, and forget it.
    SweepMember {
        /// The stream.
        stream: StreamId,
        /// Its subscription's gate.
        gate: Gate,
        /// Whose it was.
        session: SessionId,
        /// The consumer.
        member: u32,
        /// Why.
        ending: Ending,
    },
    /// Publish a dead letter, unless the ring has got it already; answer: done, or refuse the request where it cannot be now.
    Publish(Token, StreamId, Grave, Body),
    /// Take over what consumers of a `shared` subscription have at the beginning of the ring; answer: done.
    Relieve(Token, StreamId, Gate),
    /// Give up what is there and nobody has, for these subscriptions; answer when that is as durable as the stream.
    Purge(Token, StreamId, Vec<Gate>),
    /// A `shared` subscription goes by these settings from now on.
    Alter(StreamId, Gate, SharedSettings),
    /// Hand out the region of a gate for reading.
    GrantGate(Token, StreamId, Gate),
    /// Take a gate out of force if it holds the ring full, wake producers that wait, answer: done.
    Detach(Token, StreamId, Gate),
    /// Let a gate join again, at a position or at the oldest message that is there; answer with the cursor. Where the journal has what the
    /// ring has not: at the position or not at all.
    Attach {
        /// The request to answer.
        token: Token,
        /// The stream.
        stream: StreamId,
        /// The gate as it was.
        before: Gate,
        /// The same in its next use.
        gate: Gate,
        /// First position that its consumer has not consumed.
        position: u64,
    },
    /// Copy messages of the journal for a consumer; answer when they are there.
    ReadPage {
        /// The request to answer.
        token: Token,
        /// The stream.
        stream: StreamId,
        /// Its subscription's gate.
        gate: Gate,
        /// First position that it has not got.
        position: u64,
        /// The region that it has.
        region: u64,
    },
    /// Make an arena and hand it to its producer for writing; if that fails, apply [`Event::ArenasGone`] and refuse
    /// the request.
    MakeArena {
        /// The request to answer.
        token: Token,
        /// The stream.
        stream: StreamId,
        /// Its number.
        arena: u32,
        /// Bytes of its region.
        bytes: u64,
    },
    /// Hand out an arena for reading. One of the shard's own may be gone: then refuse the request.
    GrantArena {
        /// The request to answer.
        token: Token,
        /// The stream.
        stream: StreamId,
        /// The same, for a refusal.
        partition: Partition,
        /// The arena.
        arena: u32,
    },
    /// Drop an arena.
    DropArena(StreamId, u32),
    /// The producer of these arenas has stopped: drop them once nobody can ask for what is in them, and apply
    /// [`Event::ArenasGone`].
    OrphanArenas(StreamId, Vec<u32>),
    /// The owner has stopped: turn what it left reserved into tombstones.
    Bury(StreamId, u32),
    /// The reader has stopped: give its cursor the next generation.
    EndReader(StreamId, Gate),
    /// Answer: done.
    Done(Token),
    /// Answer with a stream, completed by what stands in memory.
    ShowStream(Token, StreamView),
    /// Answer with a page of streams; there may be more.
    ShowStreams(Token, Vec<StreamView>, bool),
    /// Answer with a subscription, completed by what stands in memory.
    ShowSubscription(Token, SubscriptionView),
    /// Answer with all subscriptions of a stream.
    ShowSubscriptions(Token, Vec<SubscriptionView>),
    /// Answer: not done, and why.
    Refuse(Token, Refusal),
}

/// The state of one shard.
#[derive(Debug)]
pub struct Core {
    shard: u32,
    payload_bytes_max: u32,
    names: BTreeMap<Partition, StreamId>,
    streams: Tracked<StreamId, Stream>,
    endpoints: Tracked<EndpointId, Endpoint>,
    /// What each session opened last before this core took over: it may not know.
    unanswered: BTreeMap<SessionId, EndpointId>,
    streams_made: u64,
    endpoints_made: u64,
    /// Why messages cannot be journaled, if they cannot.
    no_journal: Option<String>,
}

type Outcome = Result<Vec<Effect>, Refusal>;

fn refuse<T>(code: RefusalCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

impl Core {
    /// A shard without streams; none may be declared with larger payloads than `payload_bytes_max`.
    pub fn new(shard: u32, payload_bytes_max: u32) -> Self {
        Self {
            shard,
            payload_bytes_max,
            names: BTreeMap::new(),
            streams: Tracked::new(),
            endpoints: Tracked::new(),
            unanswered: BTreeMap::new(),
            streams_made: 0,
            endpoints_made: 0,
            no_journal: None,
        }
    }

    /// Whether messages can be journaled; if not, why.
    pub fn set_journal(&mut self, journal: Result<(), String>) {
        self.no_journal = journal.err();
    }

    /// The shard's number.
    pub fn shard(&self) -> u32 {
        self.shard
    }

    /// Decides what follows from an event.
    pub fn apply(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Request(token, caller, operation) => {
                let mut effects = self.end_unanswered(caller);
                let outcome = self.request(token, caller, operation);
                effects.extend(outcome.unwrap_or_else(|refusal| vec![Effect::Refuse(token, refusal)]));
                effects
            }
            Event::RingMade(stream) => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.opened = true;
                }
                Vec::new()
            }
            Event::SubscriptionFailed(stream, gate) => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.subscriptions.retain(|_, subscription| subscription.gate != gate);
                }
                Vec::new()
            }
            Event::EndpointFailed(endpoint) => self.end(endpoint, Ending::Closed),
            Event::ArenasGone(stream, arenas) => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.arenas.retain(|arena, _| !arenas.contains(arena));
                }
                Vec::new()
            }
            Event::SessionEnded(session) => {
                let held: Vec<_> = self
                    .endpoints
                    .iter()
                    .filter(|(_, endpoint)| endpoint.caller.session == session)
                    .map(|(id, _)| *id)
                    .collect();
                held.into_iter().flat_map(|endpoint| self.end(endpoint, Ending::Died)).collect()
            }
        }
    }

    fn request(&mut self, token: Token, caller: Caller, operation: Operation) -> Outcome {
        match operation {
            Operation::DeclareStream(name, settings, queue) => {
                self.declare_stream(token, name, settings, queue)
            }
            Operation::DescribeStream(name) => {
                let (id, stream) = self.find(&name)?;
                Ok(vec![Effect::ShowStream(token, self.view(id, stream))])
            }
            Operation::ListStreams(after) => Ok(self.list_streams(token, after)),
            Operation::CheckStreamUnused(name) => {
                self.check_unused(self.find(&name)?.1)?;
                Ok(vec![Effect::Done(token)])
            }
            Operation::DeleteStream(name) => self.delete_stream(token, name),
            Operation::DeclareSubscription(stream, name, start, mode) => {
                self.declare_subscription(token, stream, name, start, mode)
            }
            Operation::DescribeSubscription(stream, name) => {
                let (id, found) = self.find(&stream)?;
                let subscription = found.subscription(&name)?;
                Ok(vec![Effect::ShowSubscription(
                    token,
                    self.subscription_view(id, found, &name, subscription),
                )])
            }
            Operation::ListSubscriptions(stream) => {
                let (id, found) = self.find(&stream)?;
                Ok(vec![Effect::ShowSubscriptions(token, self.subscription_views(id, found))])
            }
            Operation::CheckSubscriptionUnused(stream, name) => {
                let (_, found) = self.find(&stream)?;
                self.check_subscription_deletable(found, &name, found.subscription(&name)?)?;
                Ok(vec![Effect::Done(token)])
            }
            Operation::DeleteSubscription(stream, name) => self.delete_subscription(token, stream, name),
            Operation::CheckPurge(partition, name) => {
                self.purged_gates(self.find(&partition)?.1, name.as_ref())?;
                Ok(vec![Effect::Done(token)])
            }
            Operation::Purge(partition, name) => {
                let (id, found) = self.find(&partition)?;
                let gates = self.purged_gates(found, name.as_ref())?;
                // Without a ring there are no messages.
                Ok(vec![Effect::Purge(token, id, if found.opened { gates } else { Vec::new() })])
            }
            Operation::CheckAlter(partition, alteration) => {
                self.altered(&partition, &alteration)?;
                Ok(vec![Effect::Done(token)])
            }
            Operation::Alter(partition, alteration) => self.alter(token, &partition, &alteration),
            Operation::OpenProducer(partition, name) => self.open_producer(token, caller, partition, name),
            Operation::OpenConsumer(stream, name) => self.open_consumer(token, caller, stream, name),
            Operation::OpenGate(endpoint, gate) => self.open_gate(token, caller, endpoint, gate),
            Operation::DetachGate(endpoint, gate) => self.detach_gate(token, caller, endpoint, gate),
            Operation::Publish(partition, grave, body) => self.publish(token, caller, partition, grave, body),
            Operation::RelieveGate(endpoint, gate) => {
                let stream = self.gate_of_producer(caller, endpoint, gate)?;
                self.streams[&stream].check_shared_gate(gate)?;
                Ok(vec![Effect::Relieve(token, stream, gate)])
            }
            Operation::Attach(endpoint, position) => self.attach(token, caller, endpoint, position),
            Operation::ReadPage(endpoint, position, region) => {
                let (stream, gate) = self.consumer(caller, endpoint)?;
                self.streams[&stream].check_keeps_backlog()?;
                Ok(vec![Effect::ReadPage { token, stream, gate, position, region }])
            }
            Operation::MakeArena(endpoint, bytes) => self.make_arena(token, caller, endpoint, bytes),
            Operation::RetireArena(endpoint, arena) => self.retire_arena(token, caller, endpoint, arena),
            Operation::OpenArena(endpoint, arena) => self.open_arena(token, caller, endpoint, arena),
            Operation::Close(endpoint) => {
                self.endpoint(caller, endpoint)?;
                let mut effects = self.end(endpoint, Ending::Closed);
                effects.push(Effect::Done(token));
                Ok(effects)
            }
        }
    }

    fn declare_stream(
        &mut self,
        token: Token,
        name: Partition,
        settings: StreamSettings,
        queue: Option<SharedSettings>,
    ) -> Outcome {
        if let Err(error) = Geometry::new(settings.slots, settings.slot_bytes) {
            return refuse(RefusalCode::Invalid, error.to_string());
        }
        if !(1..=PARTITIONS_MAX).contains(&settings.partitions) {
            let partitions = settings.partitions;
            return refuse(
                RefusalCode::Invalid,
                format!("a stream of {partitions} partitions cannot be had: from 1 to {PARTITIONS_MAX}"),
            );
        }
        self.check_payloads(&settings)?;
        if let (Some(why), true) = (&self.no_journal, settings.durability > Durability::Memory) {
            let level = settings.durability.name();
            let message = format!("durability {level} cannot be had: {why}");
            return refuse(RefusalCode::Limit, message);
        }
        let queue = match (settings.kind, queue) {
            (StreamKind::Queue, queue) => Some(queue.unwrap_or_default()),
            (StreamKind::Topic, None) => None,
            (StreamKind::Topic, Some(_)) => {
                let message = "a topic has no settings of a queue: declare a queue, or a shared subscription";
                return refuse(RefusalCode::Invalid, message);
            }
        };
        let mode = queue.map(SubscriptionMode::Shared);
        if let Some(mode) = &mode {
            check_mode(&name.stream, mode, &settings)?;
        }
        let id = match self.names.get(&name) {
            Some(id) => {
                let stream = &self.streams[id];
                stream.confirm(settings)?;
                if let Some(mode) = mode {
                    let own = &name.stream;
                    stream.subscription(own)?.confirm(own, own, &mode)?;
                }
                *id
            }
            None => {
                self.streams_made += 1;
                let id = StreamId(self.streams_made);
                self.names.insert(name.clone(), id);
                let own = name.stream.clone();
                let mut stream = Stream::new(name, settings);
                if let Some(mode) = mode {
                    let gate = stream.take_gate().expect("a new stream has all gates");
                    stream.subscriptions.insert(own, Subscription::new(gate, mode));
                }
                self.streams.insert(id, stream);
                id
            }
        };
        Ok(vec![Effect::ShowStream(token, self.view(id, &self.streams[&id]))])
    }

    fn check_payloads(&self, settings: &StreamSettings) -> Result<(), Refusal> {
        let (bytes, bytes_max) = (settings.payload_bytes_max, self.payload_bytes_max);
        if (1..=bytes_max).contains(&bytes) {
            return Ok(());
        }
        refuse(
            RefusalCode::Invalid,
            format!(
                "payloads of {bytes} bytes cannot be had: from 1 to {bytes_max} (payload_bytes_max in the broker's \
                 configuration)"
            ),
        )
    }

    /// All partitions here of the first streams behind `after`.
    fn list_streams(&self, token: Token, after: Option<Name>) -> Vec<Effect> {
        let first = after.map(|stream| Partition { stream, number: u32::MAX });
        let first = first.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut page, mut streams, mut last) = (Vec::new(), 0, None);
        for (partition, id) in self.names.range((first, Bound::Unbounded)) {
            if last != Some(&partition.stream) {
                streams += 1;
                last = Some(&partition.stream);
            }
            if streams > PAGE_STREAMS {
                break;
            }
            page.push(self.view(*id, &self.streams[id]));
        }
        vec![Effect::ShowStreams(token, page, streams > PAGE_STREAMS)]
    }

    fn delete_stream(&mut self, token: Token, name: Partition) -> Outcome {
        let (id, stream) = self.find(&name)?;
        self.check_unused(stream)?;
        let mut effects = Vec::new();
        if stream.opened {
            effects.push(Effect::DropRing(id));
        }
        effects.push(Effect::Done(token));
        self.names.remove(&name);
        self.streams.remove(&id);
        Ok(effects)
    }

    fn check_unused(&self, stream: &Stream) -> Result<(), Refusal> {
        let consumers: usize =
            stream.subscriptions.values().map(|subscription| subscription.consumers.len()).sum();
        let producers = stream.producers.len();
        if producers + consumers == 0 {
            return Ok(());
        }
        let name = &stream.partition.stream;
        let (producers, consumers) =
            (count(producers as u64, "producer"), count(consumers as u64, "consumer"));
        refuse(
            RefusalCode::InUse,
            format!("stream {name} is open: {producers} and {consumers}; close them first"),
        )
    }

    fn declare_subscription(
        &mut self,
        token: Token,
        partition: Partition,
        name: Name,
        start: StartAt,
        mode: Option<SubscriptionMode>,
    ) -> Outcome {
        let (stream, (id, found)) = (&partition.stream, self.find(&partition)?);
        if let Some(subscription) = found.subscriptions.get(&name) {
            if let Some(mode) = &mode {
                subscription.confirm(stream, &name, mode)?;
            }
            return Ok(vec![Effect::ShowSubscription(
                token,
                self.subscription_view(id, found, &name, subscription),
            )]);
        }
        if found.settings.kind == StreamKind::Queue {
            return refuse(
                RefusalCode::Invalid,
                format!(
                    "stream {stream} is a queue, with the one subscription {stream}: declare a topic for several \
                     subscriptions"
                ),
            );
        }
        let mode = mode.unwrap_or_default();
        check_mode(stream, &mode, &found.settings)?;
        let found = self.streams.get_mut(&id).expect("found above");
        let Some(gate) = found.take_gate() else {
            return refuse(
                RefusalCode::Limit,
                format!(
                    "stream {stream} has {} subscriptions, as many as there can be; delete one first: ringway \
                     subscription list {stream}",
                    found.subscriptions.len()
                ),
            );
        };
        found.subscriptions.insert(name.clone(), Subscription::new(gate, mode));
        let found = &self.streams[&id];
        let view = self.subscription_view(id, found, &name, &found.subscriptions[&name]);
        // Without a ring there is nothing to join: the region is made with the ring, at position 0.
        Ok(vec![if found.opened {
            Effect::Join { stream: id, gate, start, token, view }
        } else {
            Effect::ShowSubscription(token, view)
        }])
    }

    fn delete_subscription(&mut self, token: Token, partition: Partition, name: Name) -> Outcome {
        let (id, found) = self.find(&partition)?;
        let subscription = found.subscription(&name)?;
        self.check_subscription_deletable(found, &name, subscription)?;
        let mut effects = Vec::new();
        if found.opened {
            effects.push(Effect::Leave(id, subscription.gate));
        }
        effects.push(Effect::Done(token));
        self.streams.get_mut(&id).expect("found above").subscriptions.remove(&name);
        Ok(effects)
    }

    /// The gates of the subscriptions for which messages can be given up. What a reader has reached it says itself: it would not
    /// notice. Who competes for messages does not mind that there are fewer.
    fn purged_gates(&self, stream: &Stream, name: Option<&Name>) -> Result<Vec<Gate>, Refusal> {
        let own = &stream.partition.stream;
        if let (Some(why), true) = (&self.no_journal, stream.settings.durability > Durability::Memory) {
            return refuse(RefusalCode::Limit, format!("stream {own} cannot be purged durably: {why}"));
        }
        let asked = match name {
            Some(name) => vec![(name, stream.subscription(name)?)],
            None => stream.subscriptions.iter().collect(),
        };
        for (name, subscription) in &asked {
            if let (None, Some(pid)) = (subscription.shared(), self.consumer_pid(subscription)) {
                let message = format!(
                    "subscription {name} of stream {own} is read by process {pid}, which would not notice that it is \
                     purged; end that first"
                );
                return refuse(RefusalCode::InUse, message);
            }
        }
        Ok(asked.into_iter().map(|(_, subscription)| subscription.gate).collect())
    }

    fn check_subscription_deletable(
        &self,
        stream: &Stream,
        name: &Name,
        subscription: &Subscription,
    ) -> Result<(), Refusal> {
        if stream.settings.kind == StreamKind::Queue {
            let stream = &stream.partition.stream;
            let message = format!("a queue is deleted with its subscription: ringway stream delete {stream}");
            return refuse(RefusalCode::Invalid, message);
        }
        let Some(pid) = self.consumer_pid(subscription) else { return Ok(()) };
        let stream = &stream.partition.stream;
        refuse(
            RefusalCode::InUse,
            format!("subscription {name} of stream {stream} is open in process {pid}; close it first"),
        )
    }

    fn open_producer(
        &mut self,
        token: Token,
        caller: Caller,
        partition: Partition,
        named: Option<Name>,
    ) -> Outcome {
        let (name, (id, stream)) = (&partition.stream, self.find(&partition)?);
        if stream.settings.producers == Producers::Exclusive
            && let Some(producer) = stream.producers.first()
        {
            let pid = self.endpoints[producer].caller.pid;
            return refuse(
                RefusalCode::InUse,
                format!("stream {name} has its one producer in process {pid}; it must close or end first"),
            );
        }
        let known = named.as_ref().and_then(|named| Some((named, *stream.named.get(named)?)));
        if let Some((named, number)) = known
            && let Some(pid) = self.pid_of_producer(stream, number)
        {
            let message = format!(
                "producer {named} of stream {name} is open in process {pid}; it must close or end first, or this one take \
                 another name"
            );
            return refuse(RefusalCode::InUse, message);
        }
        if !stream.opened {
            let operation = Operation::OpenProducer(partition, named);
            return Ok(vec![make_ring(id, stream, token, caller, operation)]);
        }
        let stream = self.streams.get_mut(&id).expect("found above");
        let settings = stream.settings;
        let Some(owner) = stream.owners.take() else {
            return refuse(
                RefusalCode::Limit,
                format!("stream {name} has no owner id left: too many producers"),
            );
        };
        // Behind everything else that may refuse: a name is remembered for as long as the stream is there.
        let number = named.map_or(Ok(0), |named| stream.number_of(named));
        let number = number.inspect_err(|_| stream.owners.give_back(owner))?;
        let endpoint = self.add_endpoint(caller, Role::Producer { stream: id, owner, number });
        self.streams.get_mut(&id).expect("found above").producers.insert(endpoint);
        Ok(vec![Effect::GrantProducer { token, stream: id, endpoint, owner, number, settings }])
    }

    /// The process that has the name of this number open.
    fn pid_of_producer(&self, stream: &Stream, number: u32) -> Option<u32> {
        let endpoints = stream.producers.iter().map(|id| &self.endpoints[id]);
        let is_it = |role| matches!(role, Role::Producer { number: other, .. } if other == number);
        endpoints.into_iter().find(|endpoint| is_it(endpoint.role)).map(|endpoint| endpoint.caller.pid)
    }

    fn open_consumer(&mut self, token: Token, caller: Caller, partition: Partition, name: Name) -> Outcome {
        let (stream, (id, found)) = (&partition.stream, self.find(&partition)?);
        let subscription = found.subscription(&name)?;
        let is_shared = subscription.shared().is_some();
        if !is_shared && let Some(pid) = self.consumer_pid(subscription) {
            return refuse(
                RefusalCode::InUse,
                format!(
                    "subscription {name} of stream {stream} has its one consumer in process {pid}; it must close \
                     or end first"
                ),
            );
        }
        if !found.opened {
            return Ok(vec![make_ring(id, found, token, caller, Operation::OpenConsumer(partition, name))]);
        }
        let (gate, settings) = (subscription.gate, found.settings);
        if !is_shared {
            let endpoint = self.add_endpoint(caller, Role::Consumer { stream: id, gate });
            self.subscription_mut(id, &name).consumers.insert(endpoint, 0);
            return Ok(vec![Effect::GrantConsumer { token, stream: id, gate, endpoint, settings }]);
        }
        let Some(member) = self.subscription_mut(id, &name).member_ids.take() else {
            let message = format!("subscription {name} of stream {stream} has too many consumers");
            return refuse(RefusalCode::Limit, message);
        };
        let endpoint = self.add_endpoint(caller, Role::Member { stream: id, gate, member });
        let session = caller.session;
        let subscription = self.subscription_mut(id, &name);
        subscription.consumers.insert(endpoint, member);
        // Before it is granted: the first one is active from its first look on.
        let activation = subscription.activation(id);
        let grant = Effect::GrantMember { token, stream: id, gate, endpoint, session, member, settings };
        Ok(activation.into_iter().chain([grant]).collect())
    }

    fn subscription_mut(&mut self, stream: StreamId, name: &Name) -> &mut Subscription {
        let stream = self.streams.get_mut(&stream).expect("it was found before");
        stream.subscriptions.get_mut(name).expect("it was found before")
    }

    fn publish(
        &mut self,
        token: Token,
        caller: Caller,
        partition: Partition,
        grave: Grave,
        body: Body,
    ) -> Outcome {
        let (name, (id, stream)) = (&partition.stream, self.find(&partition)?);
        if stream.settings.producers == Producers::Exclusive {
            let message =
                format!("stream {name} has one producer of its own: the broker cannot publish there");
            return refuse(RefusalCode::Invalid, message);
        }
        if !stream.opened {
            return Ok(vec![make_ring(
                id,
                stream,
                token,
                caller,
                Operation::Publish(partition, grave, body),
            )]);
        }
        Ok(vec![Effect::Publish(token, id, grave, body)])
    }

    fn open_gate(&mut self, token: Token, caller: Caller, endpoint: EndpointId, gate: Gate) -> Outcome {
        let stream = self.gate_of_producer(caller, endpoint, gate)?;
        Ok(vec![Effect::GrantGate(token, stream, gate)])
    }

    fn detach_gate(&mut self, token: Token, caller: Caller, endpoint: EndpointId, gate: Gate) -> Outcome {
        let stream = self.gate_of_producer(caller, endpoint, gate)?;
        self.streams[&stream].check_detaches()?;
        self.streams[&stream].check_not_journal(gate)?;
        Ok(vec![Effect::Detach(token, stream, gate)])
    }

    fn attach(&mut self, token: Token, caller: Caller, endpoint: EndpointId, position: u64) -> Outcome {
        let (stream, before) = self.consumer(caller, endpoint)?;
        let found = self.streams.get_mut(&stream).expect("an open stream is not deleted");
        found.check_detaches()?;
        let gate = found.renew_gate(before);
        self.endpoints.get_mut(&endpoint).expect("found above").role = Role::Consumer { stream, gate };
        Ok(vec![Effect::Attach { token, stream, before, gate, position }])
    }

    /// What a consumer in order reads, and its gate.
    fn consumer(&self, caller: Caller, endpoint: EndpointId) -> Result<(StreamId, Gate), Refusal> {
        match self.endpoint(caller, endpoint)?.role {
            Role::Consumer { stream, gate } => Ok((stream, gate)),
            _ => refuse(RefusalCode::Invalid, format!("endpoint {} is no consumer", endpoint.0)),
        }
    }

    /// The stream of a producer that names one of its gates.
    fn gate_of_producer(
        &self,
        caller: Caller,
        endpoint: EndpointId,
        gate: Gate,
    ) -> Result<StreamId, Refusal> {
        let (stream, _) = self.producer(caller, endpoint)?;
        let found = &self.streams[&stream];
        let known = found.journal == Some(gate)
            || found.subscriptions.values().any(|subscription| subscription.gate == gate);
        if !known {
            return refuse(
                RefusalCode::NotFound,
                format!("gate {} is no longer in its use number {}; look again", gate.index, gate.generation),
            );
        }
        Ok(stream)
    }

    fn find(&self, partition: &Partition) -> Result<(StreamId, &Stream), Refusal> {
        let name = &partition.stream;
        match self.names.get(partition) {
            Some(id) => Ok((*id, &self.streams[id])),
            None => refuse(
                RefusalCode::NotFound,
                format!("there is no stream {name}; make it with: ringway stream create {name}"),
            ),
        }
    }
}

fn make_ring(id: StreamId, stream: &Stream, token: Token, caller: Caller, operation: Operation) -> Effect {
    let gates = stream
        .subscriptions
        .values()
        .map(|subscription| (subscription.gate, subscription.mode.clone()))
        .collect();
    let (geometry, overflow) = (stream.geometry(), stream.settings.overflow);
    let journal = stream.journal.map(|gate| (gate, stream.settings.durability));
    let partition = stream.partition.number;
    Effect::MakeRing { stream: id, partition, geometry, overflow, gates, journal, token, caller, operation }
}

#[cfg(test)]
mod tests;
