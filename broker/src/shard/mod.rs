//! A shard: carries out what its [`Core`] decides on the rings that it owns.
//!
//! What always holds:
//!
//! 1. One thread owns everything here; others reach it through its [`Mailbox`] alone.
//! 2. Effects are carried out in order and finished before the next event.
//! 3. Messages are not touched: publishing and consuming go on while a shard is busy or asleep.
//! 4. Every word in shared memory is read once into a local; none is trusted for more than a number to show
//!    or to start from.

mod mailbox;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use ringway_shm_protocol::control::message::{
    ConsumerGrant, Lag, ProducerGrant, Refusal, RefusalCode, Reply, StartAt, StreamInfo, SubscriptionInfo,
};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::partition::{PartitionRegions, RingIdentity, SubscriptionRegion};
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::words::CursorWord;

use crate::core::{Core, Effect, EndpointId, Event, Gate, StreamId, StreamView, SubscriptionView, Token};
use crate::runtime::Turn;
pub(crate) use mailbox::{Answer, AnswerInbox, Answers, Command, Inbox, Mailbox, answers, mailbox};

/// A ring and the regions of its subscriptions.
struct Ring {
    partition: PartitionRegions,
    subscriptions: BTreeMap<Gate, SubscriptionRegion>,
}

/// One shard's state: see the module.
pub(crate) struct Shard {
    core: Core,
    rings: BTreeMap<StreamId, Ring>,
    inbox: Inbox,
    answers: Answers,
}

impl Shard {
    pub(crate) fn new(number: u32, inbox: Inbox, answers: Answers) -> Self {
        Self { core: Core::new(number), rings: BTreeMap::new(), inbox, answers }
    }

    /// Carries out all that waits in the mailbox.
    pub(crate) fn turn(&mut self) -> Turn {
        while let Some(command) = self.inbox.next() {
            match command {
                Command::Apply(event) => self.apply(event),
                Command::Stop => {
                    self.wake_everybody();
                    return Turn::Stop;
                }
            }
        }
        Turn::Sleep
    }

    fn apply(&mut self, event: Event) {
        for effect in self.core.apply(event) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::MakeRing { stream, geometry, gates, token, caller, operation } => {
                match make_ring(geometry, &gates) {
                    Ok(ring) => {
                        self.rings.insert(stream, ring);
                        self.apply(Event::RingMade(stream));
                        self.apply(Event::Request(token, caller, operation));
                    }
                    Err(error) => self.refuse(token, &error),
                }
            }
            Effect::Join { stream, gate, start, token, view } => match self.join(stream, gate, start) {
                Ok(()) => self.answer(token, Reply::Subscription(self.subscription_info(&view))),
                Err(error) => {
                    self.apply(Event::SubscriptionFailed(stream, gate));
                    self.refuse(token, &error);
                }
            },
            Effect::Leave(stream, gate) => {
                if let Some(ring) = self.rings.get_mut(&stream) {
                    ring.partition.ring.leave(gate.index);
                    ring.subscriptions.remove(&gate);
                    ring.partition.space.ring_always();
                }
            }
            Effect::DropRing(stream) => {
                self.rings.remove(&stream);
            }
            Effect::GrantProducer { token, stream, endpoint, owner } => {
                self.grant_producer(token, stream, endpoint, owner);
            }
            Effect::GrantConsumer { token, stream, gate, endpoint } => {
                self.grant_consumer(token, stream, gate, endpoint);
            }
            Effect::GrantGate(token, stream, gate) => {
                match self.rings[&stream].subscriptions[&gate].for_gate() {
                    Ok(descriptor) => self.answers.send(Answer::with(token, Reply::Gate, vec![descriptor])),
                    Err(error) => self.refuse(token, &error),
                }
            }
            Effect::Bury(stream, owner) => {
                let partition = &self.rings[&stream].partition;
                if partition.ring.bury(owner) > 0 {
                    partition.data.ring_always();
                }
            }
            Effect::EndReader(stream, gate) => end_reader(&self.rings[&stream].subscriptions[&gate]),
            Effect::Done(token) => self.answer(token, Reply::Done),
            Effect::ShowStream(token, view) => self.answer(token, Reply::Stream(self.stream_info(&view))),
            Effect::ShowStreams(token, views, more) => {
                let page = views.iter().map(|view| self.stream_info(view)).collect();
                self.answer(token, Reply::Streams { page, more });
            }
            Effect::ShowSubscription(token, view) => {
                self.answer(token, Reply::Subscription(self.subscription_info(&view)));
            }
            Effect::ShowSubscriptions(token, views) => {
                let all = views.iter().map(|view| self.subscription_info(view)).collect();
                self.answer(token, Reply::Subscriptions(all));
            }
            Effect::Refuse(token, refusal) => self.answer(token, Reply::Refused(refusal)),
        }
    }

    fn join(&mut self, stream: StreamId, gate: Gate, start: StartAt) -> Result<(), RegionError> {
        let ring = self.rings.get_mut(&stream).expect("the core joins only where a ring is");
        let subscription = SubscriptionRegion::create(ring.partition.identity())?;
        let start = match start {
            StartAt::First => Start::First,
            StartAt::Next => Start::Next,
        };
        ring.partition.ring.join(gate.index, gate.generation, &subscription.cursor, start);
        ring.subscriptions.insert(gate, subscription);
        Ok(())
    }

    fn grant_producer(&mut self, token: Token, stream: StreamId, endpoint: EndpointId, owner: u32) {
        let partition = &self.rings[&stream].partition;
        let RingIdentity { incarnation, geometry } = partition.identity();
        let grant = ProducerGrant {
            endpoint: endpoint.0,
            incarnation,
            slots: geometry.capacity(),
            slot_bytes: geometry.slot_bytes(),
            owner,
            position: partition.ring.end(),
        };
        self.hand_over(token, endpoint, partition.for_producer(), Reply::Producer(grant));
    }

    fn grant_consumer(&mut self, token: Token, stream: StreamId, gate: Gate, endpoint: EndpointId) {
        let ring = &self.rings[&stream];
        let subscription = &ring.subscriptions[&gate];
        let RingIdentity { incarnation, geometry } = ring.partition.identity();
        let grant = ConsumerGrant {
            endpoint: endpoint.0,
            incarnation,
            slots: geometry.capacity(),
            slot_bytes: geometry.slot_bytes(),
            // Acquire: pairs with the last reader's commit.
            cursor: subscription.cursor.load(Ordering::Acquire),
        };
        let descriptors = ring.partition.for_consumer(subscription);
        self.hand_over(token, endpoint, descriptors, Reply::Consumer(grant));
    }

    fn hand_over(
        &mut self,
        token: Token,
        endpoint: EndpointId,
        descriptors: Result<Vec<OwnedFd>, RegionError>,
        reply: Reply,
    ) {
        match descriptors {
            Ok(descriptors) => self.answers.send(Answer::with(token, reply, descriptors)),
            Err(error) => {
                self.apply(Event::EndpointFailed(endpoint));
                self.refuse(token, &error);
            }
        }
    }

    fn stream_info(&self, view: &StreamView) -> StreamInfo {
        let StreamView { id, name, settings, shard, opened, producer_pid, subscriptions } = view;
        let ring = self.rings.get(id);
        let next_position = ring.map_or(0, |ring| ring.partition.ring.end());
        let first_position =
            ring.map_or(0, |ring| ring.partition.ring.limit()).saturating_sub(settings.slots);
        let slowest =
            subscriptions.iter().map(|(name, gate)| (self.lag(*id, *gate), name)).max_by_key(|(lag, _)| *lag);
        StreamInfo {
            name: name.to_string(),
            settings: *settings,
            shard: *shard,
            opened: *opened,
            first_position,
            next_position,
            producer_pid: *producer_pid,
            subscriptions: subscriptions.len() as u32,
            slowest: slowest.map(|(messages, name)| Lag { subscription: name.to_string(), messages }),
        }
    }

    fn subscription_info(&self, view: &SubscriptionView) -> SubscriptionInfo {
        SubscriptionInfo {
            stream: view.stream_name.to_string(),
            name: view.name.to_string(),
            position: self.position(view.stream, view.gate),
            lag: self.lag(view.stream, view.gate),
            consumer_pid: view.consumer_pid,
        }
    }

    fn position(&self, stream: StreamId, gate: Gate) -> u64 {
        let region = self.rings.get(&stream).and_then(|ring| ring.subscriptions.get(&gate));
        region.map_or(0, |region| CursorWord::unpack(region.cursor.load(Ordering::Acquire)).position)
    }

    fn lag(&self, stream: StreamId, gate: Gate) -> u64 {
        let position = self.position(stream, gate);
        let end = self.rings.get(&stream).map_or(0, |ring| ring.partition.ring.end());
        end.saturating_sub(position)
    }

    /// Lets every sleeper look at its socket, which is closed by now.
    fn wake_everybody(&self) {
        for ring in self.rings.values() {
            ring.partition.data.ring_always();
            ring.partition.space.ring_always();
        }
    }

    fn answer(&self, token: Token, reply: Reply) {
        self.answers.send(Answer::with(token, reply, Vec::new()));
    }

    fn refuse(&self, token: Token, error: &RegionError) {
        let refusal = Refusal { code: RefusalCode::Limit, message: format!("the broker {error}") };
        self.answer(token, Reply::Refused(refusal));
    }
}

fn make_ring(geometry: Geometry, gates: &[Gate]) -> Result<Ring, RegionError> {
    let identity = RingIdentity { incarnation: random(), geometry };
    let partition = PartitionRegions::create(identity, 0)?;
    let mut subscriptions = BTreeMap::new();
    for gate in gates {
        let subscription = SubscriptionRegion::create(identity)?;
        partition.ring.join(gate.index, gate.generation, &subscription.cursor, Start::First);
        subscriptions.insert(*gate, subscription);
    }
    Ok(Ring { partition, subscriptions })
}

/// Gives the cursor its next generation, so that a store of the reader before would be noticed.
fn end_reader(subscription: &SubscriptionRegion) {
    let mut found = subscription.cursor.load(Ordering::Acquire);
    loop {
        let cursor = CursorWord::unpack(found);
        let ended = CursorWord { pinned: false, generation: cursor.next_generation(), ..cursor };
        // AcqRel: behind the reader's last commit, before the next reader's first load.
        let done =
            subscription.cursor.compare_exchange(found, ended.pack(), Ordering::AcqRel, Ordering::Acquire);
        match done {
            Ok(_) => return,
            // Only a reader that was told to stop and did not can get here, and not for ever.
            Err(now) => found = now,
        }
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(bytes.len()), "the kernel gives 8 random bytes at once after boot");
    u64::from_ne_bytes(bytes)
}
