//! Clients of a simulated broker: they do with shared memory what the client library does, step by step.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use ringway_shm_protocol::control::message::{
    ConsumerGrant, MemberGrant, ProducerGrant, Reply, StreamSettings,
};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::partition::{
    ConsumerRegions, JournalingRegions, MemberRegions, ProducerRegions, Publishing, RingIdentity, open_gate,
};
use ringway_shm_protocol::ring::{
    FeedRecord, Outgoing, Part, PublishError, Received, Ringer, Settlement, Verdict,
};
use ringway_shm_protocol::words::CursorWord;

use super::ledger::{Fact, Failed, Ledger, Of};
use super::world::{MS, World};
use super::{NEWS, WORK};
use crate::core::{EndpointId, Gate, Operation, SessionId};
use crate::shard::Answer;

/// A message that says by itself which one it is.
fn payload(id: u64, bytes: usize) -> Vec<u8> {
    let mut payload = vec![id as u8; 8 + bytes];
    payload[..8].copy_from_slice(&id.to_le_bytes());
    payload
}

/// Which message this is.
fn id(received: Received, body: &[u8]) -> Result<u64, String> {
    let Part::Inline(found) = received.payload(body) else { return Err("it is in an arena".to_owned()) };
    let (id, rest) = found.split_first_chunk::<8>().ok_or("it has no number")?;
    let id = u64::from_le_bytes(*id);
    let is_whole = rest.iter().all(|byte| *byte == id as u8);
    if is_whole { Ok(id) } else { Err(format!("message {id} is not what was published")) }
}

fn identity(incarnation: u64, settings: &StreamSettings) -> RingIdentity {
    let geometry = Geometry::new(settings.slots, settings.slot_bytes).expect("the broker has it");
    RingIdentity { incarnation, geometry }
}

fn exactly<const COUNT: usize>(descriptors: Vec<OwnedFd>) -> [OwnedFd; COUNT] {
    descriptors.try_into().expect("as many descriptors as belong to the answer")
}

/// A producer of one stream.
pub(super) struct Producer {
    stream: &'static str,
    of: Of,
    endpoint: EndpointId,
    ring: RingIdentity,
    regions: ProducerRegions,
    data: Ringer,
    journal: Ringer,
}

impl Producer {
    pub(super) fn open(world: &mut World, of: Of, session: SessionId) -> Self {
        let stream = if of == Of::Work { WORK } else { NEWS };
        let Answer { reply, descriptors, .. } =
            world.request(stream, session, |partition| Operation::OpenProducer(partition, None));
        let Reply::Producer(ProducerGrant { endpoint, incarnation, owner, position, settings, .. }) = reply
        else {
            panic!("no producer: {reply:?}");
        };
        let publishing = Publishing { exclusive: false, drops: false, detaches: false, journaled: true };
        let ring = identity(incarnation, &settings);
        let regions = ProducerRegions::open(ring, exactly(descriptors), publishing, owner, position);
        let (regions, endpoint) = (regions.expect("regions that fit"), EndpointId(endpoint));
        Self { stream, of, endpoint, ring, regions, data: Ringer::default(), journal: Ringer::default() }
    }

    /// Publishes; what holds a ring that is full is asked for, or relieved.
    pub(super) fn publish(
        &mut self,
        world: &mut World,
        ledger: &mut Ledger,
        (next, bytes): (&mut u64, usize),
    ) -> Result<(), String> {
        let message = payload(*next, bytes);
        match self.regions.producer.publish(&Outgoing::inline(&message)) {
            Ok(position) => {
                ledger.published(self.of, position, *next)?;
                *next += 1;
                self.data.ring(&self.regions.data);
            }
            Err(PublishError::Full(full)) => {
                let gate = Gate { index: full.holder.gate, generation: full.holder.generation };
                let endpoint = self.endpoint;
                if full.holder.mapped {
                    let relieve = |_| Operation::RelieveGate(endpoint, gate);
                    world.request(self.stream, SessionId(1), relieve);
                } else {
                    let answer =
                        world.request(self.stream, SessionId(1), |_| Operation::OpenGate(endpoint, gate));
                    if let Some(descriptor) = answer.descriptors.first() {
                        let (cursor, hazards) = open_gate(self.ring, descriptor).expect("a gate's region");
                        self.regions.producer.gates().map(gate.index, gate.generation, cursor, hazards);
                    }
                }
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// Sees how far its messages are on the device, and asks for more.
    pub(super) fn confirm(&mut self, ledger: &mut Ledger) {
        ledger.confirmed(self.of, self.regions.watermarks.synced());
        self.journal.ring(&self.regions.journal);
    }
}

/// Settlements that are to be confirmed.
#[derive(Default)]
struct Settling {
    /// What has had its effect.
    facts: Vec<Fact>,
    /// By which round they are journaled.
    tickets: VecDeque<(u64, Vec<Fact>)>,
    ringer: Ringer,
}

impl Settling {
    fn ask(&mut self, regions: &JournalingRegions) {
        self.tickets.push_back((regions.rounds.ticket(), std::mem::take(&mut self.facts)));
        self.ringer.ring(&regions.journal);
    }

    fn look(&mut self, regions: &JournalingRegions, ledger: &mut Ledger) {
        while self.tickets.front().is_some_and(|(ticket, _)| regions.rounds.is_done(*ticket)) {
            let (_, facts) = self.tickets.pop_front().expect("looked at above");
            facts.into_iter().for_each(|fact| ledger.is_durable(fact));
        }
    }
}

/// A message that a consumer has.
#[derive(Clone, Copy)]
struct Held {
    id: u64,
    position: u64,
    attempt: u32,
    failed: u32,
    fed_at: Option<u64>,
}

/// A consumer of a queue.
pub(super) struct Member {
    stream: &'static str,
    pub(super) session: SessionId,
    regions: MemberRegions,
    buffer: Vec<u8>,
    held: Vec<Held>,
    settling: Settling,
    /// What was left for the shard to judge, and how much of what was left before came too late.
    left: Vec<Fact>,
    late: u64,
    space: Ringer,
    feed_first: bool,
}

impl Member {
    pub(super) fn open(world: &mut World, stream: &'static str, session: SessionId) -> Self {
        let name = Name::parse(stream).expect("a name");
        let open = |partition| Operation::OpenConsumer(partition, name);
        let Answer { reply, descriptors, .. } = world.request(stream, session, open);
        let Reply::Member(MemberGrant { incarnation, member, feed_from, visibility, settings, .. }) = reply
        else {
            panic!("no consumer: {reply:?}");
        };
        let ring = identity(incarnation, &settings);
        let regions = MemberRegions::open(ring, exactly(descriptors), visibility, member, feed_from);
        Self {
            stream,
            session,
            regions: regions.expect("regions that fit"),
            buffer: vec![0; ring.geometry.body_bytes()],
            held: Vec::new(),
            settling: Settling::default(),
            left: Vec::new(),
            late: 0,
            space: Ringer::default(),
            feed_first: false,
        }
    }

    /// Takes a message, if there is one.
    pub(super) fn claim(&mut self, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        self.feed_first = !self.feed_first;
        let claimed = if self.feed_first {
            self.claim_fed().or_else(|| self.claim_live())
        } else {
            self.claim_live().or_else(|| self.claim_fed())
        };
        let Some((received, held)) = claimed else {
            if self.regions.refill.must_call() {
                self.call(world);
            }
            if self.regions.floor.raise(self.regions.live.claims()) {
                self.space.ring(&self.regions.space);
            }
            return Ok(false);
        };
        if self.regions.watch.must_call() {
            self.call(world);
        }
        let held = Held { id: id(received, &self.buffer)?, ..held };
        if self.stream == WORK {
            let place = (Of::Work, held.id, held.position);
            ledger.delivered(place, held.attempt, held.failed, world.wall())?;
        } else {
            ledger.letter_delivered(held.id)?;
        }
        self.held.push(held);
        Ok(true)
    }

    fn claim_live(&mut self) -> Option<(Received, Held)> {
        // What was taken over meanwhile comes by the feed.
        let claimed = self.regions.live.claim(&mut self.buffer).ok()??;
        let position = claimed.received.position;
        Some((claimed.received, Held { id: 0, position, attempt: 1, failed: 0, fed_at: None }))
    }

    fn claim_fed(&mut self) -> Option<(Received, Held)> {
        let claimed = self.regions.feed.claim(&mut self.buffer).ok()??;
        let FeedRecord { position, acquired, failed } = FeedRecord::unpack(claimed.record);
        let (attempt, fed_at) = (acquired + 1, Some(claimed.received.position));
        Some((claimed.received, Held { id: 0, position, attempt, failed, fed_at }))
    }

    /// Settles everything that it has.
    pub(super) fn ack_all(&mut self, world: &mut World, ledger: &mut Ledger) {
        while let Some(held) = self.held.pop() {
            self.ack(held, world, ledger);
        }
    }

    /// Says something of a message that it has, if it has one.
    pub(super) fn settle(&mut self, world: &mut World, ledger: &mut Ledger) {
        if self.held.is_empty() {
            return;
        }
        let index = world.random.below(self.held.len() as u64) as usize;
        let held = self.held.swap_remove(index);
        let Held { id, attempt: acquired, failed, .. } = held;
        match world.random.below(12) {
            0..=5 => self.ack(held, world, ledger),
            6 | 7 => {
                let fact = Fact::Failed(id, Failed { acquired, failed: failed + 1, not_before: 0 });
                self.leave(held, Verdict::Nack { delay_ms: None }, fact, world, ledger);
            }
            8 => {
                let delay_ms = world.random.below(500);
                let not_before = world.wall() + delay_ms * MS;
                let fact = Fact::Failed(id, Failed { acquired, failed: failed + 1, not_before });
                self.leave(held, Verdict::Nack { delay_ms: Some(delay_ms) }, fact, world, ledger);
            }
            9 => self.leave(held, Verdict::Reject, Fact::Rejected(id), world, ledger),
            10 => {
                let fact = Fact::Failed(id, Failed { acquired, failed, not_before: 0 });
                self.leave(held, Verdict::Release, fact, world, ledger);
            }
            // It is kept until the lease is over.
            _ => {}
        }
    }

    fn ack(&mut self, held: Held, world: &mut World, ledger: &mut Ledger) {
        let fact = if self.stream == WORK { Fact::Settled(held.id) } else { Fact::Buried(held.id) };
        let is_acked = match held.fed_at {
            None => self.regions.live.ack(held.position),
            Some(at) => self.regions.feed.ack(at),
        };
        if is_acked {
            ledger.is(fact);
            self.settling.facts.push(fact);
        } else {
            self.leave(held, Verdict::Ack, fact, world, ledger);
        }
    }

    fn leave(&mut self, held: Held, verdict: Verdict, fact: Fact, world: &mut World, ledger: &mut Ledger) {
        let Held { position, attempt, .. } = held;
        if self.regions.settlements.write(Settlement { position, attempt, verdict }).is_ok() {
            ledger.said(fact);
            self.left.push(fact);
            self.call(world);
        }
    }

    fn call(&self, world: &mut World) {
        if self.regions.settlements.call() {
            world.look(self.session);
        }
    }

    /// Takes note of what is judged, and of what is confirmed.
    pub(super) fn look(&mut self, ledger: &mut Ledger) {
        let (written, judged) = self.regions.settlements.progress();
        if written == judged && !self.left.is_empty() {
            let late = self.regions.settlements.late();
            let left = std::mem::take(&mut self.left);
            // Which one was too late is not known.
            if std::mem::replace(&mut self.late, late) == late {
                left.iter().for_each(|fact| ledger.is(*fact));
                self.settling.facts.extend(left);
            }
        }
        self.settling.look(&self.regions.journaling, ledger);
    }

    /// Asks that everything be journaled that is settled so far.
    pub(super) fn confirm(&mut self) {
        self.settling.ask(&self.regions.journaling);
    }
}

/// A reader of a topic.
pub(super) struct Reader {
    regions: ConsumerRegions,
    buffer: Vec<u8>,
    settling: Settling,
    space: Ringer,
}

impl Reader {
    pub(super) fn open(world: &mut World, session: SessionId) -> Self {
        let name = Name::parse(super::READER).expect("a name");
        let open = |partition| Operation::OpenConsumer(partition, name);
        let Answer { reply, descriptors, .. } = world.request(NEWS, session, open);
        let Reply::Consumer(ConsumerGrant { incarnation, cursor, visibility, settings, .. }) = reply else {
            panic!("no consumer: {reply:?}");
        };
        let (ring, cursor) = (identity(incarnation, &settings), CursorWord::unpack(cursor));
        let regions = ConsumerRegions::open(ring, exactly(descriptors), visibility, cursor, false);
        let mut regions = regions.expect("regions that fit");
        regions.reader.set_courtesy(false);
        let buffer = vec![0; ring.geometry.body_bytes()];
        Self { regions, buffer, settling: Settling::default(), space: Ringer::default() }
    }

    /// Reads a message and commits behind it, if there is one.
    pub(super) fn read(&mut self, world: &World, ledger: &mut Ledger) -> Result<bool, String> {
        let found = self.regions.reader.read(&mut self.buffer).map_err(|error| error.to_string())?;
        let Some(received) = found else { return Ok(false) };
        let id = id(received, &self.buffer)?;
        ledger.delivered((Of::News, id, received.position), 1, 0, world.wall())?;
        let committed = self.regions.reader.commit(self.regions.reader.position());
        committed.map_err(|error| format!("{error:?}"))?;
        self.space.ring(&self.regions.space);
        ledger.is(Fact::Settled(id));
        self.settling.facts.push(Fact::Settled(id));
        Ok(true)
    }

    /// Takes note of what is confirmed.
    pub(super) fn look(&mut self, ledger: &mut Ledger) {
        self.settling.look(&self.regions.journaling, ledger);
    }

    /// Asks that everything be journaled that is read so far.
    pub(super) fn confirm(&mut self) {
        self.settling.ask(&self.regions.journaling);
    }
}
