//! What the core knows of streams and subscriptions, for an answer. The shard adds what stands in memory.

use ringway_shm_protocol::control::message::StreamSettings;
use ringway_shm_protocol::name::Name;

use super::stream::{Stream, Subscription};
use super::{Core, Gate, StreamId};

/// A stream, without its positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamView {
    /// Its id.
    pub id: StreamId,
    /// Its name.
    pub name: Name,
    /// Its settings.
    pub settings: StreamSettings,
    /// The shard that owns it.
    pub shard: u32,
    /// Its ring exists.
    pub opened: bool,
    /// Process of its producer.
    pub producer_pid: Option<u32>,
    /// Its subscriptions' names and gates.
    pub subscriptions: Vec<(Name, Gate)>,
}

/// A subscription, without its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionView {
    /// Its stream.
    pub stream: StreamId,
    /// Its stream's name.
    pub stream_name: Name,
    /// Its name.
    pub name: Name,
    /// Its gate.
    pub gate: Gate,
    /// Process of its consumer.
    pub consumer_pid: Option<u32>,
}

impl Core {
    pub(super) fn view(&self, id: StreamId, stream: &Stream) -> StreamView {
        StreamView {
            id,
            name: stream.name.clone(),
            settings: stream.settings,
            shard: self.shard,
            opened: stream.opened,
            producer_pid: stream.producer.map(|endpoint| self.endpoints[&endpoint].caller.pid),
            subscriptions: stream
                .subscriptions
                .iter()
                .map(|(name, subscription)| (name.clone(), subscription.gate))
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
            stream_name: stream.name.clone(),
            name: name.clone(),
            gate: subscription.gate,
            consumer_pid: subscription.consumer.map(|endpoint| self.endpoints[&endpoint].caller.pid),
        }
    }

    pub(super) fn subscription_views(&self, id: StreamId, stream: &Stream) -> Vec<SubscriptionView> {
        stream
            .subscriptions
            .iter()
            .map(|(name, subscription)| self.subscription_view(id, stream, name, subscription))
            .collect()
    }
}
