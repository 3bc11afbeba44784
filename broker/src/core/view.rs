//! What the core knows of streams and subscriptions, for an answer. The shard adds what stands in memory.

use std::collections::{BTreeMap, BTreeSet};

use ringway_shm_protocol::control::message::{PIDS_SHOWN_MAX, StreamSettings, SubscriptionMode};
use ringway_shm_protocol::name::Name;

use super::endpoints::Role;
use super::stream::{Stream, Subscription};
use super::{Core, EndpointId, Gate, Partition, StreamId};

/// A stream, without its positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamView {
    /// Its id.
    pub id: StreamId,
    /// Its partition.
    pub partition: Partition,
    /// Its settings.
    pub settings: StreamSettings,
    /// The shard that owns it.
    pub shard: u32,
    /// Its ring exists.
    pub opened: bool,
    /// How many producers it has.
    pub producers: u32,
    /// Processes of its producers, without repetition, in order; the first of them if there are many.
    pub producer_pids: Vec<u32>,
    /// Bytes of its arenas.
    pub arenas_bytes: u64,
    /// The gate of the journal, if messages are journaled.
    pub journal: Option<Gate>,
    /// Its subscriptions: name, gate, process of the longest standing consumer.
    pub subscriptions: Vec<(Name, Gate, Option<u32>)>,
}

/// A subscription, without its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionView {
    /// Its stream.
    pub stream: StreamId,
    /// Its stream's partition.
    pub partition: Partition,
    /// Its name.
    pub name: Name,
    /// Its gate.
    pub gate: Gate,
    /// How its messages are given out.
    pub mode: SubscriptionMode,
    /// How many consumers it has.
    pub consumers: u32,
    /// Process of its longest standing consumer.
    pub consumer_pid: Option<u32>,
}

/// All that the core knows of a partition and who has it open, for who looks at it from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The stream's id in its shard.
    pub id: StreamId,
    /// The partition.
    pub partition: Partition,
    /// The stream's settings.
    pub settings: StreamSettings,
    /// Its ring exists.
    pub opened: bool,
    /// The gate of the journal, if messages are journaled.
    pub journal: Option<Gate>,
    /// Its producers.
    pub producers: Vec<ProducerOutline>,
    /// Its subscriptions, in order of their names.
    pub subscriptions: Vec<SubscriptionOutline>,
    /// Whose arenas are whose, by their numbers; those of producers that have stopped are nobody's, and so are the shard's own.
    pub arenas: BTreeMap<u32, ProducerOutline>,
}

/// A producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerOutline {
    /// The id that it takes slots with.
    pub owner: u32,
    /// Its process.
    pub pid: u32,
}

/// A subscription and who consumes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionOutline {
    /// Its name.
    pub name: Name,
    /// Its gate.
    pub gate: Gate,
    /// How its messages are given out.
    pub mode: SubscriptionMode,
    /// Its consumers, the longest standing first: member id (of a `cursor` 0), process.
    pub consumers: Vec<(u32, u32)>,
}

impl Core {
    /// What is known of a partition; `None`: it is not here.
    pub fn outline(&self, partition: &Partition) -> Option<Outline> {
        let id = *self.names.get(partition)?;
        let stream = self.streams.get(&id)?;
        let producer = |endpoint: &EndpointId| {
            let endpoint = self.endpoints.get(endpoint)?;
            match endpoint.role {
                Role::Producer { owner, .. } => Some(ProducerOutline { owner, pid: endpoint.caller.pid }),
                Role::Consumer { .. } | Role::Member { .. } => None,
            }
        };
        let consumer = |(endpoint, member): (&EndpointId, &u32)| {
            Some((*member, self.endpoints.get(endpoint)?.caller.pid))
        };
        let subscription = |(name, of): (&Name, &Subscription)| SubscriptionOutline {
            name: name.clone(),
            gate: of.gate,
            mode: of.mode.clone(),
            consumers: of.consumers.iter().filter_map(consumer).collect(),
        };
        Some(Outline {
            id,
            partition: stream.partition.clone(),
            settings: stream.settings,
            opened: stream.opened,
            journal: stream.journal,
            producers: stream.producers.iter().filter_map(producer).collect(),
            subscriptions: stream.subscriptions.iter().map(subscription).collect(),
            arenas: stream
                .arenas
                .iter()
                .filter_map(|(number, arena)| Some((*number, producer(arena.producer.as_ref()?)?)))
                .collect(),
        })
    }

    pub(super) fn view(&self, id: StreamId, stream: &Stream) -> StreamView {
        let pids: BTreeSet<u32> =
            stream.producers.iter().map(|endpoint| self.endpoints[endpoint].caller.pid).collect();
        StreamView {
            id,
            partition: stream.partition.clone(),
            settings: stream.settings,
            shard: self.shard,
            opened: stream.opened,
            producers: stream.producers.len() as u32,
            producer_pids: pids.into_iter().take(PIDS_SHOWN_MAX).collect(),
            arenas_bytes: stream.arenas.values().map(|arena| arena.bytes).sum(),
            journal: stream.journal,
            subscriptions: stream
                .subscriptions
                .iter()
                .map(|(name, subscription)| {
                    (name.clone(), subscription.gate, self.consumer_pid(subscription))
                })
                .collect(),
        }
    }

    pub(super) fn subscription_view(
        &self,
        id: StreamId,
        stream: &Stream,
        name: &Name,
        subscription: &Subscription,
    ) -> SubscriptionView {
        SubscriptionView {
            stream: id,
            partition: stream.partition.clone(),
            name: name.clone(),
            gate: subscription.gate,
            mode: subscription.mode.clone(),
            consumers: subscription.consumers.len() as u32,
            consumer_pid: self.consumer_pid(subscription),
        }
    }

    /// The partition of a stream, and the name of the subscription that has this gate.
    pub fn names(&self, stream: StreamId, gate: Gate) -> Option<(&Partition, &Name)> {
        let stream = self.streams.get(&stream)?;
        let (name, _) = stream.subscriptions.iter().find(|(_, subscription)| subscription.gate == gate)?;
        Some((&stream.partition, name))
    }

    /// Process of the longest standing consumer.
    pub(super) fn consumer_pid(&self, subscription: &Subscription) -> Option<u32> {
        let (endpoint, _) = subscription.consumers.first_key_value()?;
        Some(self.endpoints[endpoint].caller.pid)
    }

    pub(super) fn subscription_views(&self, id: StreamId, stream: &Stream) -> Vec<SubscriptionView> {
        stream
            .subscriptions
            .iter()
            .map(|(name, subscription)| self.subscription_view(id, stream, name, subscription))
            .collect()
    }
}
