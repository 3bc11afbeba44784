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
mod ring;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use ringway_shm_protocol::control::message::{
    ConsumerGrant, CursorInfo, Lag, PartitionInfo, ProducerGrant, Refusal, RefusalCode, Reply, StreamInfo,
    StreamSettings, SubscriptionInfo,
};
use ringway_shm_protocol::memory::mapped::RegionError;

use crate::core::{Core, Effect, EndpointId, Event, Gate, StreamId, StreamView, SubscriptionView, Token};
use crate::runtime::Turn;
pub(crate) use mailbox::{
    Answer, AnswerInbox, Answers, Command, FromShard, Inbox, Mailbox, answers, mailbox,
};
use ring::Ring;

/// One shard's state: see the module.
pub(crate) struct Shard {
    core: Core,
    rings: BTreeMap<StreamId, Ring>,
    inbox: Inbox,
    answers: Answers,
    /// A tick was asked for and has not come yet.
    awaits_tick: bool,
}

impl Shard {
    /// A shard without streams; none may have larger payloads than `payload_bytes_max`.
    pub(crate) fn new(number: u32, payload_bytes_max: u32, inbox: Inbox, answers: Answers) -> Self {
        let core = Core::new(number, payload_bytes_max);
        Self { core, rings: BTreeMap::new(), inbox, answers, awaits_tick: false }
    }

    /// Carries out all that waits in the mailbox.
    pub(crate) fn turn(&mut self) -> Turn {
        while let Some(command) = self.inbox.next() {
            match command {
                Command::Apply(event) => self.apply(event),
                Command::Tick => self.awaits_tick = false,
                Command::Stop => {
                    self.wake_everybody();
                    return Turn::Stop;
                }
            }
        }
        self.drop_orphans();
        Turn::Sleep
    }

    /// Drops what stopped producers have left, as far as it is read. Readers do not tell, so while there is something
    /// left, the shard looks again a second later.
    fn drop_orphans(&mut self) {
        let mut gone = Vec::new();
        for (stream, ring) in &mut self.rings {
            if ring.has_orphans() {
                gone.push((*stream, ring.drop_orphans()));
            }
        }
        for (stream, arenas) in gone {
            self.apply(Event::ArenasGone(stream, arenas));
        }
        if !self.awaits_tick && self.rings.values().any(Ring::has_orphans) {
            self.awaits_tick = true;
            self.answers.ask_for_tick(self.core.shard());
        }
    }

    fn apply(&mut self, event: Event) {
        for effect in self.core.apply(event) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::MakeRing { stream, partition, geometry, overflow, gates, token, caller, operation } => {
                match Ring::make(partition, geometry, overflow, &gates) {
                    Ok(ring) => {
                        self.rings.insert(stream, ring);
                        self.apply(Event::RingMade(stream));
                        self.apply(Event::Request(token, caller, operation));
                    }
                    Err(error) => self.refuse(token, &error),
                }
            }
            Effect::Join { stream, gate, start, token, view } => match self.ring(stream).join(gate, start) {
                Ok(()) => self.answer(token, Reply::Subscription(self.subscription_info(&view))),
                Err(error) => {
                    self.apply(Event::SubscriptionFailed(stream, gate));
                    self.refuse(token, &error);
                }
            },
            Effect::Leave(stream, gate) => self.ring(stream).leave(gate),
            Effect::DropRing(stream) => {
                self.rings.remove(&stream);
            }
            Effect::GrantProducer { token, stream, endpoint, owner, settings } => {
                self.grant_producer(token, stream, endpoint, owner, settings);
            }
            Effect::GrantConsumer { token, stream, gate, endpoint, settings } => {
                self.grant_consumer(token, stream, gate, endpoint, settings);
            }
            Effect::GrantGate(token, stream, gate) => {
                let descriptor = self.ring(stream).subscription(gate).for_gate();
                self.hand_out(token, Reply::Gate, descriptor);
            }
            Effect::Detach(token, stream, gate) => {
                self.ring(stream).detach(gate);
                self.answer(token, Reply::Done);
            }
            Effect::Attach { token, stream, before, gate, position } => {
                let cursor = self.ring(stream).attach(before, gate, position);
                self.answer(token, Reply::Attached(cursor));
            }
            Effect::MakeArena { token, stream, arena, bytes } => {
                let descriptor = self.ring(stream).make_arena(arena, bytes);
                if descriptor.is_err() {
                    self.apply(Event::ArenasGone(stream, vec![arena]));
                }
                self.hand_out(token, Reply::Arena { arena, bytes }, descriptor);
            }
            Effect::GrantArena(token, stream, arena) => match self.ring(stream).open_arena(arena) {
                Ok((descriptor, bytes)) => {
                    self.hand_out(token, Reply::Arena { arena, bytes }, Ok(descriptor))
                }
                Err(error) => self.refuse(token, &error),
            },
            Effect::DropArena(stream, arena) => self.ring(stream).drop_arena(arena),
            Effect::OrphanArenas(stream, arenas) => self.ring(stream).orphan(arenas),
            Effect::Bury(stream, owner) => {
                let partition = &self.ring(stream).partition;
                if partition.ring.bury(owner) > 0 {
                    // Readers pass over the tombstones; producers that met a reserved slot go on.
                    partition.data.ring_always();
                    partition.space.ring_always();
                }
            }
            Effect::EndReader(stream, gate) => self.ring(stream).end_reader(gate),
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

    fn ring(&mut self, stream: StreamId) -> &mut Ring {
        self.rings.get_mut(&stream).expect("the core names rings that are there")
    }

    fn grant_producer(
        &mut self,
        token: Token,
        stream: StreamId,
        endpoint: EndpointId,
        owner: u32,
        settings: StreamSettings,
    ) {
        let partition = &self.ring(stream).partition;
        let grant = ProducerGrant {
            endpoint: endpoint.0,
            incarnation: partition.identity().incarnation,
            owner,
            position: partition.ring.end(),
            settings,
        };
        let descriptors = partition.for_producer();
        self.hand_over(token, endpoint, descriptors, Reply::Producer(grant));
    }

    fn grant_consumer(
        &mut self,
        token: Token,
        stream: StreamId,
        gate: Gate,
        endpoint: EndpointId,
        settings: StreamSettings,
    ) {
        let ring = self.ring(stream);
        let grant = ConsumerGrant {
            endpoint: endpoint.0,
            incarnation: ring.partition.identity().incarnation,
            cursor: ring.cursor(gate).pack(),
            settings,
        };
        let descriptors = ring.partition.for_consumer(ring.subscription(gate));
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

    /// Answers with one descriptor, or with why there is none.
    fn hand_out(&self, token: Token, reply: Reply, descriptor: Result<OwnedFd, RegionError>) {
        match descriptor {
            Ok(descriptor) => self.answers.send(Answer::with(token, reply, vec![descriptor])),
            Err(error) => self.refuse(token, &error),
        }
    }

    fn stream_info(&self, view: &StreamView) -> StreamInfo {
        let ring = self.rings.get(&view.id);
        let lags = view.subscriptions.iter().map(|(name, gate, consumer_pid)| Lag {
            subscription: name.to_string(),
            messages: self.lag(view.id, *gate),
            consumer_pid: *consumer_pid,
        });
        let partition = PartitionInfo {
            partition: view.partition.number,
            shard: view.shard,
            opened: view.opened,
            first_position: ring.map_or(0, Ring::first_position),
            next_position: ring.map_or(0, |ring| ring.partition.ring.end()),
            producers: view.producers,
            producer_pids: view.producer_pids.clone(),
            arenas_bytes: view.arenas_bytes,
            slowest: lags.max_by_key(|lag| lag.messages),
        };
        StreamInfo {
            name: view.partition.stream.to_string(),
            settings: view.settings,
            subscriptions: view.subscriptions.len() as u32,
            partitions: vec![partition],
        }
    }

    fn subscription_info(&self, view: &SubscriptionView) -> SubscriptionInfo {
        let cursor = self.rings.get(&view.stream).map(|ring| ring.cursor(view.gate));
        let cursor = CursorInfo {
            partition: view.partition.number,
            position: cursor.map_or(0, |cursor| cursor.position),
            lag: self.lag(view.stream, view.gate),
            consumer_pid: view.consumer_pid,
            detached: cursor.is_some_and(|cursor| !cursor.live),
        };
        SubscriptionInfo {
            stream: view.partition.stream.to_string(),
            name: view.name.to_string(),
            partitions: vec![cursor],
        }
    }

    fn lag(&self, stream: StreamId, gate: Gate) -> u64 {
        let Some(ring) = self.rings.get(&stream) else { return 0 };
        ring.partition.ring.end().saturating_sub(ring.cursor(gate).position)
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
