//! What a successor must know to decide on: the streams, and who has them open.
//!
//! 1. After each event [`Core::take_changes`] says what is new; all of it, in order, makes the same core again.
//! 2. A record is whole: it says how something is, not how it has changed.

use ringway_shm_protocol::control::message::{Durability, Overflow, StreamSettings, SubscriptionMode};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::words::{MEMBER_BITS, OWNER_BITS};
use serde::{Deserialize, Serialize};

use super::endpoints::Endpoint;
use super::stream::{Stream, Subscription};
use super::{Core, EndpointId, Gate, Ids, Partition, SessionId, StreamId};

/// How something is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CoreRecord(Record);

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Record {
    /// How many streams and endpoints there were, so that no number is used twice.
    Made { streams: u64, endpoints: u64 },
    /// A stream; `None`: it is gone.
    Stream(StreamId, Option<Box<Stream>>),
    /// An endpoint; `None`: it is gone.
    Endpoint(EndpointId, Option<Endpoint>),
}

/// A stream whose messages are journaled, as it was declared: without who has it open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredStream(Stream);

impl DeclaredStream {
    fn of(stream: &Stream) -> Option<Self> {
        stream.journal?;
        let mut stream = stream.clone();
        (stream.opened, stream.arenas_made) = (false, 0);
        stream.arenas.clear();
        stream.producers.clear();
        stream.owners = Ids::new(OWNER_BITS);
        for subscription in stream.subscriptions.values_mut() {
            subscription.consumers.clear();
            subscription.member_ids = Ids::new(MEMBER_BITS);
        }
        Some(Self(stream))
    }

    /// Its partition.
    pub fn partition(&self) -> &Partition {
        &self.0.partition
    }

    /// Its settings.
    pub fn settings(&self) -> StreamSettings {
        self.0.settings
    }

    /// The gates of its subscriptions.
    pub fn gates(&self) -> impl Iterator<Item = Gate> {
        self.named_gates().map(|(_, gate)| gate)
    }

    /// The same, with the names of the subscriptions.
    pub fn named_gates(&self) -> impl Iterator<Item = (&Name, Gate)> {
        self.0.subscriptions.iter().map(|(name, subscription)| (name, subscription.gate))
    }

    /// The gates of those that are read in order.
    pub fn cursor_gates(&self) -> impl Iterator<Item = Gate> {
        let is_cursor =
            |subscription: &&Subscription| matches!(subscription.mode, SubscriptionMode::Cursor(_));
        self.0.subscriptions.values().filter(is_cursor).map(|subscription| subscription.gate)
    }

    /// Whether a subscription that lags is served from the journal.
    pub fn keeps_backlog(&self) -> bool {
        self.0.settings.keeps_backlog()
    }

    /// The gates of those that are `shared`.
    pub fn shared_gates(&self) -> impl Iterator<Item = Gate> {
        let is_shared =
            |subscription: &&Subscription| matches!(subscription.mode, SubscriptionMode::Shared(_));
        self.0.subscriptions.values().filter(is_shared).map(|subscription| subscription.gate)
    }
}

impl CoreRecord {
    /// What is to be journaled of it: a stream whose messages are, or which stream is gone.
    pub fn declared(&self) -> Option<(StreamId, Option<DeclaredStream>)> {
        match &self.0 {
            Record::Stream(id, Some(stream)) => Some((*id, Some(DeclaredStream::of(stream)?))),
            Record::Stream(id, None) => Some((*id, None)),
            Record::Made { .. } | Record::Endpoint(..) => None,
        }
    }
}

/// A stream that has a ring, as a successor finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStream {
    /// Its id.
    pub id: StreamId,
    /// The partition's number.
    pub partition: u32,
    /// The size of its ring.
    pub geometry: Geometry,
    /// What happens when it is full.
    pub overflow: Overflow,
    /// What confirmed messages survive.
    pub durability: Durability,
    /// The gate of the journal, if messages are journaled.
    pub journal: Option<Gate>,
    /// Its subscriptions.
    pub subscriptions: Vec<OpenSubscription>,
    /// Its arenas: number, bytes, whether their producer has stopped.
    pub arenas: Vec<(u32, u64, bool)>,
}

/// A subscription of a stream that has a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSubscription {
    /// Its gate.
    pub gate: Gate,
    /// How its messages are given out.
    pub mode: SubscriptionMode,
    /// The consumers of a `shared` one, the longest standing first: session, member id.
    pub members: Vec<(SessionId, u32)>,
}

impl Core {
    /// What has changed since this was last asked.
    pub fn take_changes(&mut self) -> Vec<CoreRecord> {
        let streams = self.streams.take_changes().into_iter();
        let streams = streams.map(|(id, stream)| Record::Stream(id, stream.map(Box::new)));
        let endpoints = self.endpoints.take_changes().into_iter();
        let endpoints = endpoints.map(|(id, endpoint)| Record::Endpoint(id, endpoint));
        let mut records: Vec<_> = streams.chain(endpoints).map(CoreRecord).collect();
        if !records.is_empty() {
            records.push(self.made());
        }
        records
    }

    /// All that there is.
    pub fn records(&self) -> impl Iterator<Item = CoreRecord> {
        let streams =
            self.streams.iter().map(|(id, stream)| Record::Stream(*id, Some(Box::new(stream.clone()))));
        let endpoints = self.endpoints.iter().map(|(id, endpoint)| Record::Endpoint(*id, Some(*endpoint)));
        streams.chain(endpoints).map(CoreRecord).chain([self.made()])
    }

    fn made(&self) -> CoreRecord {
        CoreRecord(Record::Made { streams: self.streams_made, endpoints: self.endpoints_made })
    }

    /// Takes what a core before has said, in order.
    pub fn remember(&mut self, records: impl IntoIterator<Item = CoreRecord>) {
        for CoreRecord(record) in records {
            match record {
                Record::Made { streams, endpoints } => {
                    (self.streams_made, self.endpoints_made) = (streams, endpoints);
                }
                Record::Stream(id, Some(stream)) => {
                    self.names.insert(stream.partition.clone(), id);
                    self.streams.insert(id, *stream);
                }
                Record::Stream(id, None) => {
                    if let Some(stream) = self.streams.remove(&id) {
                        self.names.remove(&stream.partition);
                    }
                }
                Record::Endpoint(id, Some(endpoint)) => self.endpoints.insert(id, endpoint),
                Record::Endpoint(id, None) => {
                    self.endpoints.remove(&id);
                }
            }
        }
        // Whoever asks again for what it has asked last was not answered.
        for (id, endpoint) in self.endpoints.iter() {
            self.unanswered.insert(endpoint.caller.session, *id);
        }
    }

    /// Takes streams that were journaled by a core whose host, or whose rings, are gone: nobody has them open.
    pub fn recover(&mut self, streams: impl IntoIterator<Item = (StreamId, DeclaredStream)>, made: u64) {
        for (id, DeclaredStream(stream)) in streams {
            self.names.insert(stream.partition.clone(), id);
            self.streams.insert(id, stream);
        }
        self.streams_made = self.streams_made.max(made);
    }

    /// The stream, as it would be if it had a ring.
    pub fn open_stream(&self, id: StreamId) -> Option<OpenStream> {
        Some(self.as_open(id, self.streams.get(&id)?))
    }

    /// How many streams there were.
    pub fn streams_made(&self) -> u64 {
        self.streams_made
    }

    /// The streams that have a ring.
    pub fn open_streams(&self) -> Vec<OpenStream> {
        let open = self.streams.iter().filter(|(_, stream)| stream.opened);
        open.map(|(id, stream)| self.as_open(*id, stream)).collect()
    }

    fn as_open(&self, id: StreamId, stream: &Stream) -> OpenStream {
        OpenStream {
            id,
            partition: stream.partition.number,
            geometry: stream.geometry(),
            overflow: stream.settings.overflow,
            durability: stream.settings.durability,
            journal: stream.journal,
            subscriptions: stream.subscriptions.values().map(|found| self.open_subscription(found)).collect(),
            arenas: stream
                .arenas
                .iter()
                .map(|(number, arena)| (*number, arena.bytes, arena.producer.is_none()))
                .collect(),
        }
    }

    fn open_subscription(&self, subscription: &Subscription) -> OpenSubscription {
        let shared = subscription.shared().is_some();
        let consumers = subscription.consumers.iter().filter(|_| shared);
        let members =
            consumers.map(|(endpoint, member)| (self.endpoints[endpoint].caller.session, *member)).collect();
        OpenSubscription { gate: subscription.gate, mode: subscription.mode.clone(), members }
    }

    /// A stream that was being deleted is gone, with what had it open.
    pub fn abandon(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            self.names.remove(&stream.partition);
            let consumers = stream.subscriptions.values().flat_map(|found| found.consumers.keys());
            stream.producers.iter().chain(consumers).for_each(|endpoint| {
                self.endpoints.remove(endpoint);
            });
        }
    }

    /// Who has what open: one session for each endpoint.
    pub fn holders(&self) -> impl Iterator<Item = SessionId> {
        self.endpoints.values().map(|endpoint| endpoint.caller.session)
    }

    /// The partitions that are here: of how many of their stream, and with which subscriptions.
    pub fn partitions(&self) -> impl Iterator<Item = (&Partition, u32, Vec<&Name>)> {
        self.streams.values().map(|stream| {
            (&stream.partition, stream.settings.partitions, stream.subscriptions.keys().collect())
        })
    }
}
