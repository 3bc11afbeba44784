//! What changes of a stream while it is there, and what does not.
//!
//! | setting | changes |
//! |---|---|
//! | lease, attempts, backoff, dead-letter stream | at any time: the shard alone goes by them |
//! | single active | while nobody consumes the subscription: its consumers go by it, too |
//! | largest payload; overflow from block to reject and back; the time until a subscription is detached | while nobody publishes: producers go by them |
//! | all others | never: the ring is made so, or what is in it was written or delivered so |
//!
//! An alteration is made as a whole or not at all; one that changes nothing is confirmed.

use ringway_shm_protocol::control::message::{
    Durability, Overflow, Refusal, RefusalCode, SharedSettings, StreamChanges, StreamKind, StreamSettings,
    SubscriptionChanges, SubscriptionMode,
};
use ringway_shm_protocol::name::Name;

use super::stream::{Differences, Stream, check_shared};
use super::{Core, Effect, Gate, Outcome, Partition, StreamId, Token, refuse};

/// What is to be altered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// The stream, and of a queue its subscription.
    Stream(StreamChanges, Option<SubscriptionChanges>),
    /// A subscription.
    Subscription(Name, SubscriptionChanges),
}

impl Alteration {
    /// The subscription of `stream` that is to be altered.
    fn subscription<'a>(&'a self, stream: &'a Name) -> Option<(&'a Name, &'a SubscriptionChanges)> {
        match self {
            Self::Stream(_, changes) => Some((stream, changes.as_ref()?)),
            Self::Subscription(name, changes) => Some((name, changes)),
        }
    }
}

/// How a stream is once it is altered, as far as that is otherwise than it is.
pub(super) struct Altered {
    id: StreamId,
    settings: Option<StreamSettings>,
    shared: Option<(Name, SharedSettings)>,
}

impl Core {
    /// The subscription whose dead messages go elsewhere than they do once this is altered, if it can be.
    pub fn redirected(&self, partition: &Partition, alteration: &Alteration) -> Option<(StreamId, Gate)> {
        let Altered { id, shared, .. } = self.altered(partition, alteration).ok()?;
        let (name, asked) = shared?;
        let subscription = &self.streams[&id].subscriptions[&name];
        let is = subscription.shared()?.dead_letter.as_ref()?;
        (asked.dead_letter.as_ref() != Some(is)).then_some((id, subscription.gate))
    }

    /// What comes of an alteration, if it can be made.
    pub(super) fn altered(&self, partition: &Partition, alteration: &Alteration) -> Result<Altered, Refusal> {
        let (own, (id, stream)) = (&partition.stream, self.find(partition)?);
        let settings = match alteration {
            Alteration::Stream(changes, _) => self.altered_settings(stream, changes)?,
            Alteration::Subscription(..) => stream.settings,
        };
        let shared = match alteration.subscription(own) {
            Some(_) if matches!(alteration, Alteration::Stream(..)) && settings.kind == StreamKind::Topic => {
                let message = format!(
                    "stream {own} is a topic, without settings of a queue; alter its subscriptions: ringway subscription \
                     alter {own} NAME"
                );
                return refuse(RefusalCode::Invalid, message);
            }
            Some((name, changes)) => {
                self.altered_shared(stream, name, changes)?.map(|asked| (name.clone(), asked))
            }
            None => None,
        };
        let settings = (settings != stream.settings).then_some(settings);
        let any = settings.is_some() || shared.is_some();
        if let (Some(why), true) = (&self.no_journal, any && stream.settings.durability > Durability::Memory)
        {
            return refuse(RefusalCode::Limit, format!("stream {own} cannot be altered durably: {why}"));
        }
        Ok(Altered { id, settings, shared })
    }

    fn altered_settings(&self, stream: &Stream, changes: &StreamChanges) -> Result<StreamSettings, Refusal> {
        let (name, is, asked) =
            (&stream.partition.stream, &stream.settings, changes.applied(&stream.settings));
        let (mut made_so, mut of_producers) = (Differences::default(), Differences::default());
        made_so.compare("partitions", is.partitions, asked.partitions);
        made_so.compare("slots", is.slots, asked.slots);
        made_so.compare("slot bytes", is.slot_bytes, asked.slot_bytes);
        made_so.compare("producers", format!("{:?}", is.producers), format!("{:?}", asked.producers));
        made_so.compare("durability", is.durability.name(), asked.durability.name());
        let overflow = if are_alike(is.overflow, asked.overflow) { &mut of_producers } else { &mut made_so };
        overflow.compare("overflow", format!("{:?}", is.overflow), format!("{:?}", asked.overflow));
        of_producers.compare("largest payload", is.payload_bytes_max, asked.payload_bytes_max);
        if made_so.any() {
            let message = format!(
                "stream {name} cannot be altered in {}: it was made so; make another stream, and move there what a queue \
                 holds: ringway stream move {name} OTHER",
                made_so.as_changes()
            );
            return refuse(RefusalCode::Invalid, message);
        }
        if let (true, Some(producer)) = (of_producers.any(), stream.producers.first()) {
            let message = format!(
                "stream {name} cannot be altered in {} while it is published to: its producers go by that; process {} has \
                 it open, end that first",
                of_producers.as_changes(),
                self.endpoints[producer].caller.pid
            );
            return refuse(RefusalCode::InUse, message);
        }
        // One that was declared under another configuration may stay as it is.
        if asked.payload_bytes_max != is.payload_bytes_max {
            self.check_payloads(&asked)?;
        }
        Ok(asked)
    }

    /// The settings of a subscription once it is altered, if that changes anything.
    fn altered_shared(
        &self,
        stream: &Stream,
        name: &Name,
        changes: &SubscriptionChanges,
    ) -> Result<Option<SharedSettings>, Refusal> {
        let (own, subscription) = (&stream.partition.stream, stream.subscription(name)?);
        let Some(is) = subscription.shared() else {
            let message = format!(
                "subscription {name} of stream {own} is a cursor: it has no settings that can be altered; make another one: \
                 ringway subscription create {own} OTHER"
            );
            return refuse(RefusalCode::Invalid, message);
        };
        let asked = changes.applied(is);
        if asked.visibility != is.visibility {
            let (from, to) = (is.visibility.name(), asked.visibility.name());
            let message = format!(
                "subscription {name} of stream {own} cannot be altered in visibility from {from} to {to}: what it has \
                 delivered was chosen by that; make another subscription or queue, and move there what a queue holds: \
                 ringway stream move {own} OTHER"
            );
            return refuse(RefusalCode::Invalid, message);
        }
        if let (true, Some(pid)) = (asked.single_active != is.single_active, self.consumer_pid(subscription))
        {
            let message = format!(
                "subscription {name} of stream {own} cannot be altered in single active from {} to {} while it is consumed: \
                 its consumers go by that; process {pid} has it open, end that first",
                is.single_active, asked.single_active
            );
            return refuse(RefusalCode::InUse, message);
        }
        check_shared(own, &asked, stream.settings.overflow)?;
        Ok((asked != *is).then_some(asked))
    }

    /// Alters what changes.
    pub(super) fn alter(&mut self, token: Token, partition: &Partition, alteration: &Alteration) -> Outcome {
        let Altered { id, settings, shared } = self.altered(partition, alteration)?;
        let mut effects = Vec::new();
        if let Some(settings) = settings {
            self.streams.get_mut(&id).expect("found above").settings = settings;
        }
        if let Some((name, settings)) = shared {
            let subscription = self.subscription_mut(id, &name);
            subscription.mode = SubscriptionMode::Shared(settings.clone());
            let gate = subscription.gate;
            // Without a ring nobody goes by it yet.
            effects.extend(self.streams[&id].opened.then_some(Effect::Alter(id, gate, settings)));
        }
        let stream = &self.streams[&id];
        effects.push(match alteration {
            Alteration::Stream(..) => Effect::ShowStream(token, self.view(id, stream)),
            Alteration::Subscription(name, _) => {
                let view = self.subscription_view(id, stream, name, &stream.subscriptions[name]);
                Effect::ShowSubscription(token, view)
            }
        });
        Ok(effects)
    }
}

/// Whether what happens to a full ring is the same for everybody but its producers.
fn are_alike(is: Overflow, asked: Overflow) -> bool {
    use Overflow::{Block, Detach, DropOldest, Reject};
    matches!(
        (is, asked),
        (Block | Reject, Block | Reject) | (Detach { .. }, Detach { .. }) | (DropOldest, DropOldest)
    )
}
