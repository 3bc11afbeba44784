//! What a successor must know to decide on: the streams, and who has them open.
//!
//! 1. After each event [`Core::take_changes`] says what is new; all of it, in order, makes the same core again.
//! 2. A record is whole: it says how something is, not how it has changed.

use ringway_shm_protocol::control::message::{Durability, Overflow, SubscriptionMode};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::name::Name;
use serde::{Deserialize, Serialize};

use super::endpoints::Endpoint;
use super::stream::{Stream, Subscription};
use super::{Core, EndpointId, Gate, Partition, SessionId, StreamId};

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

/// A stream that has a ring, as a successor finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStream {
    /// Its id.
    pub id: StreamId,
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

    /// The streams that have a ring.
    pub fn open_streams(&self) -> Vec<OpenStream> {
        let open = self.streams.iter().filter(|(_, stream)| stream.opened);
        let open = open.map(|(id, stream)| OpenStream {
            id: *id,
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
        });
        open.collect()
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
