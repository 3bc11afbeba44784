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
//! 3. A stream has at most one producer, a `cursor` subscription at most one consumer.
//! 4. An owner id and a gate index are given out again only after the effects that sweep their last user.
//! 5. What a session holds is released only by `Close` or by `SessionEnded`, which says that the
//!    kernel has reported its process gone.

mod endpoints;
mod stream;
mod view;

use std::collections::BTreeMap;
use std::ops::Bound;

use ringway_shm_protocol::control::message::{Refusal, RefusalCode, StartAt, StreamSettings};
use ringway_shm_protocol::layout::{GATES_MAX, Geometry};
use ringway_shm_protocol::name::Name;

use endpoints::{Endpoint, Role};
pub use endpoints::{EndpointId, OwnerIds};
use stream::{Stream, Subscription};
pub use view::{StreamView, SubscriptionView};

/// A session: one connection of one process. Unique for the broker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Names a request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// A stream of this shard. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Most streams on a page of a list.
pub const PAGE_STREAMS: usize = 64;

/// A gate of a stream's partition, in one of its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gate {
    /// Its index, 0 to 63.
    pub index: u8,
    /// Which use of the index: 14 bits.
    pub generation: u16,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The session.
    pub session: SessionId,
    /// Its process.
    pub pid: u32,
}

/// What a session asks of a shard. Names are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes a stream, or confirms it.
    DeclareStream(Name, StreamSettings),
    /// Describes a stream.
    DescribeStream(Name),
    /// Describes up to [`PAGE_STREAMS`] streams behind this name.
    ListStreams(Option<Name>),
    /// Removes a stream.
    DeleteStream(Name),
    /// Makes a subscription, or confirms it.
    DeclareSubscription(Name, Name, StartAt),
    /// Describes a subscription.
    DescribeSubscription(Name, Name),
    /// Describes all subscriptions of a stream.
    ListSubscriptions(Name),
    /// Removes a subscription.
    DeleteSubscription(Name, Name),
    /// Opens a stream as producer.
    OpenProducer(Name),
    /// Opens a subscription as consumer.
    OpenConsumer(Name, Name),
    /// Asks for the region of a gate.
    OpenGate(EndpointId, Gate),
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
    /// The region of a subscription could not be made: it is taken back.
    SubscriptionFailed(StreamId, Gate),
    /// An endpoint could not be handed over: it is taken back.
    EndpointFailed(EndpointId),
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
        /// Its size.
        geometry: Geometry,
        /// Its subscriptions.
        gates: Vec<Gate>,
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
    },
    /// Hand out the region of a gate for reading.
    GrantGate(Token, StreamId, Gate),
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
#[derive(Debug, Default)]
pub struct Core {
    shard: u32,
    names: BTreeMap<Name, StreamId>,
    streams: BTreeMap<StreamId, Stream>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    streams_made: u64,
    endpoints_made: u64,
}

type Outcome = Result<Vec<Effect>, Refusal>;

fn refuse<T>(code: RefusalCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

impl Core {
    /// A shard without streams.
    pub fn new(shard: u32) -> Self {
        Self { shard, ..Self::default() }
    }

    /// Decides what follows from an event.
    pub fn apply(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Request(token, caller, operation) => self
                .request(token, caller, operation)
                .unwrap_or_else(|refusal| vec![Effect::Refuse(token, refusal)]),
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
            Event::EndpointFailed(endpoint) => self.end(endpoint),
            Event::SessionEnded(session) => {
                let held: Vec<_> = self
                    .endpoints
                    .iter()
                    .filter(|(_, endpoint)| endpoint.caller.session == session)
                    .map(|(id, _)| *id)
                    .collect();
                held.into_iter().flat_map(|endpoint| self.end(endpoint)).collect()
            }
        }
    }

    fn request(&mut self, token: Token, caller: Caller, operation: Operation) -> Outcome {
        match operation {
            Operation::DeclareStream(name, settings) => self.declare_stream(token, name, settings),
            Operation::DescribeStream(name) => {
                let (id, stream) = self.find(&name)?;
                Ok(vec![Effect::ShowStream(token, self.view(id, stream))])
            }
            Operation::ListStreams(after) => Ok(self.list_streams(token, after)),
            Operation::DeleteStream(name) => self.delete_stream(token, name),
            Operation::DeclareSubscription(stream, name, start) => {
                self.declare_subscription(token, stream, name, start)
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
            Operation::DeleteSubscription(stream, name) => self.delete_subscription(token, stream, name),
            Operation::OpenProducer(name) => self.open_producer(token, caller, name),
            Operation::OpenConsumer(stream, name) => self.open_consumer(token, caller, stream, name),
            Operation::OpenGate(endpoint, gate) => self.open_gate(token, caller, endpoint, gate),
            Operation::Close(endpoint) => {
                self.endpoint(caller, endpoint)?;
                let mut effects = self.end(endpoint);
                effects.push(Effect::Done(token));
                Ok(effects)
            }
        }
    }

    fn declare_stream(&mut self, token: Token, name: Name, settings: StreamSettings) -> Outcome {
        let geometry = match Geometry::new(settings.slots, settings.slot_bytes) {
            Ok(geometry) => geometry,
            Err(error) => return refuse(RefusalCode::Invalid, error.to_string()),
        };
        let id = match self.names.get(&name) {
            Some(id) => {
                self.streams[id].confirm(settings)?;
                *id
            }
            None => {
                self.streams_made += 1;
                let id = StreamId(self.streams_made);
                self.names.insert(name.clone(), id);
                self.streams.insert(id, Stream::new(name, settings, geometry));
                id
            }
        };
        Ok(vec![Effect::ShowStream(token, self.view(id, &self.streams[&id]))])
    }

    fn list_streams(&self, token: Token, after: Option<Name>) -> Vec<Effect> {
        let first = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.names.range((first, Bound::Unbounded));
        let ids: Vec<_> = behind.map(|(_, id)| *id).take(PAGE_STREAMS + 1).collect();
        let page = ids.iter().take(PAGE_STREAMS).map(|id| self.view(*id, &self.streams[id])).collect();
        vec![Effect::ShowStreams(token, page, ids.len() > PAGE_STREAMS)]
    }

    fn delete_stream(&mut self, token: Token, name: Name) -> Outcome {
        let (id, stream) = self.find(&name)?;
        let consumers =
            stream.subscriptions.values().filter(|subscription| subscription.consumer.is_some()).count();
        let producers = usize::from(stream.producer.is_some());
        if producers + consumers > 0 {
            return refuse(
                RefusalCode::InUse,
                format!(
                    "stream {name} is open: {producers} producers and {consumers} consumers; close them first"
                ),
            );
        }
        let mut effects = Vec::new();
        if stream.opened {
            effects.push(Effect::DropRing(id));
        }
        effects.push(Effect::Done(token));
        self.names.remove(&name);
        self.streams.remove(&id);
        Ok(effects)
    }

    fn declare_subscription(&mut self, token: Token, stream: Name, name: Name, start: StartAt) -> Outcome {
        let (id, found) = self.find(&stream)?;
        if let Some(subscription) = found.subscriptions.get(&name) {
            return Ok(vec![Effect::ShowSubscription(
                token,
                self.subscription_view(id, found, &name, subscription),
            )]);
        }
        let found = self.streams.get_mut(&id).expect("found above");
        let Some(gate) = found.take_gate() else {
            return refuse(
                RefusalCode::Limit,
                format!(
                    "stream {stream} has {GATES_MAX} subscriptions, as many as there can be; delete one first: \
                     ringway subscription list {stream}"
                ),
            );
        };
        found.subscriptions.insert(name.clone(), Subscription { gate, consumer: None });
        let found = &self.streams[&id];
        let view = self.subscription_view(id, found, &name, &found.subscriptions[&name]);
        // Without a ring there is nothing to join: the region is made with the ring, at position 0.
        Ok(vec![if found.opened {
            Effect::Join { stream: id, gate, start, token, view }
        } else {
            Effect::ShowSubscription(token, view)
        }])
    }

    fn delete_subscription(&mut self, token: Token, stream: Name, name: Name) -> Outcome {
        let (id, found) = self.find(&stream)?;
        let subscription = found.subscription(&name)?;
        if let Some(consumer) = subscription.consumer {
            let pid = self.endpoints[&consumer].caller.pid;
            return refuse(
                RefusalCode::InUse,
                format!("subscription {name} of stream {stream} is open in process {pid}; close it first"),
            );
        }
        let mut effects = Vec::new();
        if found.opened {
            effects.push(Effect::Leave(id, subscription.gate));
        }
        effects.push(Effect::Done(token));
        self.streams.get_mut(&id).expect("found above").subscriptions.remove(&name);
        Ok(effects)
    }

    fn open_producer(&mut self, token: Token, caller: Caller, name: Name) -> Outcome {
        let (id, stream) = self.find(&name)?;
        if let Some(producer) = stream.producer {
            let pid = self.endpoints[&producer].caller.pid;
            return refuse(
                RefusalCode::InUse,
                format!("stream {name} has its one producer in process {pid}; it must close or end first"),
            );
        }
        if !stream.opened {
            return Ok(vec![make_ring(id, stream, token, caller, Operation::OpenProducer(name))]);
        }
        let stream = self.streams.get_mut(&id).expect("found above");
        let Some(owner) = stream.owners.take() else {
            return refuse(
                RefusalCode::Limit,
                format!("stream {name} has no owner id left: too many producers"),
            );
        };
        let endpoint = self.add_endpoint(caller, Role::Producer { stream: id, owner });
        self.streams.get_mut(&id).expect("found above").producer = Some(endpoint);
        Ok(vec![Effect::GrantProducer { token, stream: id, endpoint, owner }])
    }

    fn open_consumer(&mut self, token: Token, caller: Caller, stream: Name, name: Name) -> Outcome {
        let (id, found) = self.find(&stream)?;
        let subscription = found.subscription(&name)?;
        if let Some(consumer) = subscription.consumer {
            let pid = self.endpoints[&consumer].caller.pid;
            return refuse(
                RefusalCode::InUse,
                format!(
                    "subscription {name} of stream {stream} has its one consumer in process {pid}; it must close \
                     or end first"
                ),
            );
        }
        if !found.opened {
            return Ok(vec![make_ring(id, found, token, caller, Operation::OpenConsumer(stream, name))]);
        }
        let gate = subscription.gate;
        let endpoint = self.add_endpoint(caller, Role::Consumer { stream: id, gate });
        let found = self.streams.get_mut(&id).expect("found above");
        found.subscriptions.get_mut(&name).expect("found above").consumer = Some(endpoint);
        Ok(vec![Effect::GrantConsumer { token, stream: id, gate, endpoint }])
    }

    fn open_gate(&mut self, token: Token, caller: Caller, endpoint: EndpointId, gate: Gate) -> Outcome {
        let Role::Producer { stream, .. } = self.endpoint(caller, endpoint)?.role else {
            return refuse(
                RefusalCode::Invalid,
                format!("endpoint {} is no producer: it has no gates", endpoint.0),
            );
        };
        let known =
            self.streams[&stream].subscriptions.values().any(|subscription| subscription.gate == gate);
        if !known {
            return refuse(
                RefusalCode::NotFound,
                format!("gate {} is no longer in its use number {}; look again", gate.index, gate.generation),
            );
        }
        Ok(vec![Effect::GrantGate(token, stream, gate)])
    }

    fn find(&self, name: &Name) -> Result<(StreamId, &Stream), Refusal> {
        match self.names.get(name) {
            Some(id) => Ok((*id, &self.streams[id])),
            None => refuse(
                RefusalCode::NotFound,
                format!("there is no stream {name}; make it with: ringway stream create {name}"),
            ),
        }
    }
}

fn make_ring(id: StreamId, stream: &Stream, token: Token, caller: Caller, operation: Operation) -> Effect {
    let gates = stream.subscriptions.values().map(|subscription| subscription.gate).collect();
    Effect::MakeRing { stream: id, geometry: stream.geometry, gates, token, caller, operation }
}

#[cfg(test)]
mod tests;
