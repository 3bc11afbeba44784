//! Clients of a simulated broker: they do with shared memory what the client library does, step by step.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ringway_shm_protocol::attributes::Attributes;
use ringway_shm_protocol::control::message::{
    ConsumerGrant, MemberGrant, PageInfo, ProducerGrant, Reply, StreamSettings, Visibility,
};
use ringway_shm_protocol::layout::{Geometry, PAGE_BYTES};
use ringway_shm_protocol::memory::arena::{ArenaView, Arenas, Block};
use ringway_shm_protocol::memory::mapped::{Access, Region};
use ringway_shm_protocol::memory::page::Page;
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::partition::{
    ConsumerRegions, JournalingRegions, MemberRegions, ProducerRegions, Publishing, RingIdentity, open_gate,
};
use ringway_shm_protocol::ring::{
    Blocks, FeedRecord, Full, JournalState, Outgoing, Part, PublishError, Received, Reclaim, Ringer,
    Settlement, Verdict,
};
use ringway_shm_protocol::words::CursorWord;

use super::ledger::{Delivery, Fact, Failed, Ledger, Message, Of};
use super::world::{MS, World};
use crate::core::{EndpointId, Gate, Operation, SessionId};
use crate::shard::Answer;

/// Bytes of an arena, unless one block needs more.
const ARENA_BYTES: u64 = 64 << 10;

/// A message that says by itself which one it is.
fn payload(id: u64, bytes: usize) -> Vec<u8> {
    let mut payload = vec![id as u8; 8 + bytes];
    payload[..8].copy_from_slice(&id.to_le_bytes());
    payload
}

/// Which message this is.
fn id_of(payload: &[u8]) -> Result<u64, String> {
    let (id, rest) = payload.split_first_chunk::<8>().ok_or("it has no number")?;
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

/// An endpoint of a client.
#[derive(Clone, Copy)]
struct End {
    stream: &'static str,
    session: SessionId,
    endpoint: EndpointId,
    ring: RingIdentity,
}

impl End {
    fn request(self, world: &mut World, operation: impl FnOnce(EndpointId) -> Operation) -> Answer {
        world.request(self.stream, self.session, |_| operation(self.endpoint))
    }

    /// An arena that is made, or opened; `None`: there is none, or no more may be made.
    fn arena(
        self,
        world: &mut World,
        access: Access,
        operation: impl FnOnce(EndpointId) -> Operation,
    ) -> Option<(u32, Arc<Region>)> {
        let Answer { reply: Reply::Arena { arena, bytes }, descriptors, .. } = self.request(world, operation)
        else {
            return None;
        };
        let [descriptor] = exactly(descriptors);
        let region = Region::open(&descriptor, self.ring.arena(bytes as usize), access);
        Some((arena, Arc::new(region.expect("an arena's region"))))
    }

    /// Which message was received. `None`: what it refers to was taken back.
    fn id(self, world: &mut World, received: Received, body: &[u8]) -> Result<Option<u64>, String> {
        let block = match received.payload(body) {
            Part::Inline(payload) => return id_of(payload).map(Some),
            Part::Arena(block) => block,
        };
        let open = |endpoint| Operation::OpenArena(endpoint, block.arena);
        let Some((_, region)) = self.arena(world, Access::Read, open) else { return Ok(None) };
        let view = ArenaView::new(&region, block).ok_or("its block cannot be")?;
        let mut payload = vec![0; view.len()];
        view.read(0, &mut payload);
        id_of(&payload).map(Some)
    }
}

/// A producer of one stream; one that has a name goes on where it was.
pub(super) struct Producer {
    /// As which its messages are seen.
    of: &'static [Of],
    pub(super) session: SessionId,
    /// By which number its name is known; 0: it has none.
    number: u32,
    /// What it has to publish again.
    again: VecDeque<u64>,
    end: End,
    /// Who holds it is detached.
    detaches: bool,
    arenas: Arenas,
    regions: ProducerRegions,
    data: Ringer,
    journal: Ringer,
}

impl Producer {
    pub(super) fn open(
        world: &mut World,
        ledger: &mut Ledger,
        (of, name): (&'static [Of], Option<&str>),
        session: SessionId,
    ) -> Result<Self, String> {
        let name = name.map(|name| Name::parse(name).expect("a name"));
        let open = |partition| Operation::OpenProducer(partition, name);
        let Answer { reply, descriptors, .. } = world.request(of[0].stream(), session, open);
        let Reply::Producer(grant) = reply else { panic!("no producer: {reply:?}") };
        let ProducerGrant { endpoint, incarnation, owner, position, number, sent, settings } = grant;
        let detaches = settings.keeps_backlog();
        let publishing = Publishing { exclusive: false, drops: false, detaches, journaled: true };
        let ring = identity(incarnation, &settings);
        let regions = ProducerRegions::open(ring, exactly(descriptors), publishing, owner, position);
        let mut again = VecDeque::new();
        if number > 0 {
            for of in of {
                again = ledger.producer_came_back(*of, sent)?.into();
            }
        }
        Ok(Self {
            of,
            session,
            number,
            again,
            end: End { stream: of[0].stream(), session, endpoint: EndpointId(endpoint), ring },
            detaches,
            arenas: Arenas::new(),
            regions: regions.expect("regions that fit"),
            data: Ringer::default(),
            journal: Ringer::default(),
        })
    }

    /// Whether messages cannot be journaled for now: none is published then.
    pub(super) fn is_refused(&self) -> bool {
        self.regions.watermarks.state() == JournalState::NoRoom
    }

    /// Publishes; what holds a ring that is full is asked for, or relieved.
    pub(super) fn publish(
        &mut self,
        world: &mut World,
        ledger: &mut Ledger,
        (next, bytes): (&mut u64, usize),
    ) -> Result<(), String> {
        if self.is_refused() {
            return Ok(());
        }
        let id = self.again.front().copied().unwrap_or(*next);
        let (payload, mut section) = (payload(id, bytes), Vec::new());
        let attributes = Attributes::new().sequence(id).producer(self.number);
        let flags = attributes.encode(&mut section).expect("a stamp alone is no more than there may be");
        let mut message =
            Outgoing { flags, attributes: Part::Inline(&section), payload: Part::Inline(&payload) };
        let mut block = None;
        if message.body_bytes() > self.end.ring.geometry.body_bytes() {
            let Some(mut taken) = self.take_block(world, payload.len()) else { return Ok(()) };
            taken.copy_from_slice(&payload);
            message.payload = Part::Arena(taken.place(payload.len()));
            block = Some(taken);
        }
        match self.regions.producer.publish(&message) {
            Ok(position) => {
                for of in self.of {
                    ledger.published((*of, id), position, self.number > 0)?;
                }
                if self.again.pop_front().is_none() {
                    *next += 1;
                }
                block.into_iter().for_each(|block| self.arenas.published(position, block));
                self.data.ring(&self.regions.data);
            }
            Err(PublishError::Full(full)) => self.ask_for_room(world, full),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// A block: a free one, or one of a new arena; `None`: not now.
    fn take_block(&mut self, world: &mut World, bytes: usize) -> Option<Block> {
        if let Some(block) = self.arenas.take(bytes) {
            return Some(block);
        }
        match self.arenas.reclaim(&mut self.regions.producer, Reclaim::Passed) {
            Ok(retired) => retired.into_iter().for_each(|arena| {
                self.end.request(world, |endpoint| Operation::RetireArena(endpoint, arena));
            }),
            Err(PublishError::Full(full)) => self.ask_for_room(world, full),
            Err(error) => panic!("{error}"),
        }
        if let Some(block) = self.arenas.take(bytes) {
            return Some(block);
        }
        let needed = Blocks::region_bytes(bytes).next_multiple_of(PAGE_BYTES as u64).max(ARENA_BYTES);
        let make = |endpoint| Operation::MakeArena(endpoint, needed);
        let (arena, region) = self.end.arena(world, Access::Write, make)?;
        self.arenas.add(arena, region);
        self.arenas.take(bytes)
    }

    fn ask_for_room(&mut self, world: &mut World, full: Full) {
        let gate = Gate { index: full.holder.gate, generation: full.holder.generation };
        if full.holder.mapped {
            self.end.request(world, |endpoint| match self.detaches {
                true => Operation::DetachGate(endpoint, gate),
                false => Operation::RelieveGate(endpoint, gate),
            });
            return;
        }
        let answer = self.end.request(world, |endpoint| Operation::OpenGate(endpoint, gate));
        let [descriptor] = exactly(answer.descriptors);
        let (cursor, hazards) = open_gate(self.end.ring, &descriptor).expect("a gate's region");
        self.regions.producer.gates().map(gate.index, gate.generation, cursor, hazards);
    }

    /// Sees how far its messages are on the device, and asks for more.
    pub(super) fn confirm(&mut self, ledger: &mut Ledger) {
        for of in self.of {
            ledger.confirmed(*of, self.regions.watermarks.synced());
        }
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
    /// Of a letter: the message that has died.
    message: Message,
    position: u64,
    attempt: u32,
    failed: u32,
    fed_at: Option<u64>,
}

/// One of those who share a subscription.
pub(super) struct Member {
    of: Of,
    /// As it was declared.
    visibility: Visibility,
    pub(super) session: SessionId,
    end: End,
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
    pub(super) fn open(world: &mut World, of: Of, session: SessionId) -> Self {
        let visibility = world.subscription(of).mode.visibility();
        let open = |partition| Operation::OpenConsumer(partition, of.subscription());
        let Answer { reply, descriptors, .. } = world.request(of.stream(), session, open);
        let Reply::Member(grant) = reply else { panic!("no consumer: {reply:?}") };
        let MemberGrant { endpoint, incarnation, member, feed_from, settings, .. } = grant;
        let ring = identity(incarnation, &settings);
        let regions = MemberRegions::open(ring, exactly(descriptors), grant.visibility, member, feed_from);
        Self {
            of,
            visibility,
            session,
            end: End { stream: of.stream(), session, endpoint: EndpointId(endpoint), ring },
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
        let visibility = self.visibility;
        let Some(id) = self.end.id(world, received, &self.buffer)? else {
            // What is fed may have been taken back meanwhile; what is in the ring may not.
            let is_fed = held.fed_at.is_some();
            return if is_fed {
                Ok(true)
            } else {
                Err("an arena is gone that a claim has not passed".to_owned())
            };
        };
        let mut message = (self.of, id);
        if matches!(self.of, Of::Dead | Of::Other) && !ledger.knows(message) {
            message = (Of::Work, id);
            ledger.letter_delivered(id)?;
        } else {
            let Held { position, attempt, failed, .. } = held;
            let delivery = Delivery { message, position, attempt, failed, visibility };
            ledger.delivered(delivery, world.wall())?;
        }
        self.held.push(Held { message, ..held });
        Ok(true)
    }

    fn claim_live(&mut self) -> Option<(Received, Held)> {
        // What was taken over meanwhile comes by the feed.
        let claimed = self.regions.live.claim(&mut self.buffer).ok()??;
        let position = claimed.received.position;
        Some((
            claimed.received,
            Held { message: (self.of, 0), position, attempt: 1, failed: 0, fed_at: None },
        ))
    }

    fn claim_fed(&mut self) -> Option<(Received, Held)> {
        let claimed = self.regions.feed.claim(&mut self.buffer).ok()??;
        let FeedRecord { position, acquired, failed } = FeedRecord::unpack(claimed.record);
        let (attempt, fed_at) = (acquired + 1, Some(claimed.received.position));
        Some((claimed.received, Held { message: (self.of, 0), position, attempt, failed, fed_at }))
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
        let Held { message, attempt: acquired, failed, .. } = held;
        match world.random.below(12) {
            0..=5 => self.ack(held, world, ledger),
            6 | 7 => {
                let fact = Fact::Failed(message, Failed { acquired, failed: failed + 1, not_before: 0 });
                self.leave(held, Verdict::Nack { delay_ms: None }, fact, world, ledger);
            }
            8 => {
                let delay_ms = world.random.below(500);
                let not_before = world.wall() + delay_ms * MS;
                let fact = Fact::Failed(message, Failed { acquired, failed: failed + 1, not_before });
                self.leave(held, Verdict::Nack { delay_ms: Some(delay_ms) }, fact, world, ledger);
            }
            9 => self.reject(held, world, ledger),
            10 => {
                let fact = Fact::Failed(message, Failed { acquired, failed, not_before: 0 });
                self.leave(held, Verdict::Release, fact, world, ledger);
            }
            // It is kept until the lease is over.
            _ => {}
        }
    }

    /// Rejects a message that it has, if it has one.
    pub(super) fn reject_one(&mut self, world: &mut World, ledger: &mut Ledger) {
        if let Some(held) = self.held.pop() {
            self.reject(held, world, ledger);
        }
    }

    fn reject(&mut self, held: Held, world: &mut World, ledger: &mut Ledger) {
        let message = held.message;
        // Where nobody gets the dead letters, that is the end of it.
        let fact = if self.of == Of::Work { Fact::Rejected(message) } else { Fact::Settled(message) };
        self.leave(held, Verdict::Reject, fact, world, ledger);
    }

    fn ack(&mut self, held: Held, world: &mut World, ledger: &mut Ledger) {
        let is_letter = held.message.0 != self.of;
        let fact = if is_letter { Fact::Buried(held.message) } else { Fact::Settled(held.message) };
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

    /// Whether that is done.
    pub(super) fn is_confirmed(&self) -> bool {
        self.settling.tickets.is_empty()
    }
}

/// A reader of a topic.
pub(super) struct Reader {
    of: Of,
    pub(super) session: SessionId,
    end: End,
    visibility: Visibility,
    regions: ConsumerRegions,
    buffer: Vec<u8>,
    /// What it reads while it is behind the ring: the region's number, the page; and the body that it has read there last.
    region: u64,
    page: Option<Page>,
    paged: Vec<u8>,
    settling: Settling,
    space: Ringer,
}

impl Reader {
    pub(super) fn open(world: &mut World, of: Of, session: SessionId) -> Self {
        let visibility = world.subscription(of).mode.visibility();
        let open = |partition| Operation::OpenConsumer(partition, of.subscription());
        let Answer { reply, descriptors, .. } = world.request(of.stream(), session, open);
        let Reply::Consumer(grant) = reply else { panic!("no consumer: {reply:?}") };
        let ConsumerGrant { endpoint, incarnation, cursor, settings, .. } = grant;
        let (ring, cursor) = (identity(incarnation, &settings), CursorWord::unpack(cursor));
        let regions = ConsumerRegions::open(ring, exactly(descriptors), grant.visibility, cursor, &settings);
        let mut regions = regions.expect("regions that fit");
        regions.reader.set_courtesy(false);
        let buffer = vec![0; ring.geometry.body_bytes()];
        let end = End { stream: of.stream(), session, endpoint: EndpointId(endpoint), ring };
        let (settling, space) = (Settling::default(), Ringer::default());
        let (region, page, paged) = (0, None, Vec::new());
        Self { of, session, end, visibility, regions, buffer, region, page, paged, settling, space }
    }

    /// Everything below is read.
    pub(super) fn position(&self) -> u64 {
        self.regions.reader.position()
    }

    /// Whether it knows that it is detached.
    pub(super) fn is_behind(&self) -> bool {
        !self.regions.reader.is_live()
    }

    /// Reads a message and commits behind it, if there is one.
    pub(super) fn read(&mut self, world: &mut World, ledger: &mut Ledger) -> Result<bool, String> {
        let Some((position, id)) = self.next(world)? else { return Ok(false) };
        let (message, visibility) = ((self.of, id), self.visibility);
        ledger.delivered(Delivery { message, position, attempt: 1, failed: 0, visibility }, world.wall())?;
        self.commit()?;
        ledger.is(Fact::Settled(message));
        self.settling.facts.push(Fact::Settled(message));
        Ok(true)
    }

    /// The next message: its position, and which one it is.
    fn next(&mut self, world: &mut World) -> Result<Option<(u64, u64)>, String> {
        loop {
            if self.is_behind() {
                match self.next_behind(world)? {
                    Some(Some(received)) => {
                        let id = self.end.id(world, received, &self.paged)?;
                        return Ok(id.map(|id| (received.position, id)));
                    }
                    Some(None) => {}
                    None => return Ok(None),
                }
            }
            let received = match self.regions.reader.read(&mut self.buffer) {
                Ok(Some(received)) => received,
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.commit()?;
                    if !self.is_behind() {
                        return Err(error.to_string());
                    }
                    continue;
                }
            };
            let id = self.end.id(world, received, &self.buffer);
            let reader = &mut self.regions.reader;
            if reader.stops() && !(reader.is_unchanged(received.position) && reader.is_live_still()) {
                reader.unread(received.position);
                self.commit()?;
                continue;
            }
            let id = id?.ok_or("an arena is gone that a reader has not passed")?;
            return Ok(Some((received.position, id)));
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        let reader = &mut self.regions.reader;
        if let Err(lost) = reader.commit(reader.position()) {
            match () {
                () if lost.is_attached() && !reader.is_live() => {
                    reader.attach(lost.found);
                    (self.region, self.page) = (0, None);
                }
                () if lost.is_detached() && reader.stops() => reader.note_detached(),
                () => return Err(lost.to_string()),
            }
            reader.commit(reader.position()).map_err(|lost| lost.to_string())?;
        }
        self.space.ring(&self.regions.space);
        Ok(())
    }

    /// A message of a page; or that it is attached again: then there is none here.
    fn next_behind(&mut self, world: &mut World) -> Result<Option<Option<Received>>, String> {
        loop {
            if let Some(page) = &mut self.page {
                if let Some(received) = page.next(&mut self.paged).map_err(|error| error.to_string())? {
                    self.regions.reader.skip_to(received.position + 1);
                    return Ok(Some(Some(received)));
                }
                self.regions.reader.skip_to(page.end());
            }
            self.commit()?;
            if !self.is_behind() {
                return Ok(Some(None));
            }
            // Some answers come too late.
            let (position, is_late) = (self.position(), world.random.one_in(10));
            if !self.regions.reader.is_overtaken() {
                let attach = |endpoint| Operation::Attach(endpoint, position);
                match self.end.request(world, attach).reply {
                    _ if is_late => return Ok(None),
                    Reply::Attached(cursor) => {
                        self.regions.reader.attach(CursorWord::unpack(cursor));
                        (self.region, self.page) = (0, None);
                        return Ok(Some(None));
                    }
                    Reply::Overtaken => {}
                    reply => return Err(format!("not attached: {reply:?}")),
                }
            } else if !self.regions.reader.has_next() {
                return Ok(None);
            }
            let has = self.region;
            let answer = self.end.request(world, |endpoint| Operation::ReadPage(endpoint, position, has));
            if is_late {
                return Ok(None);
            }
            let Reply::Page(PageInfo { end, bytes, region, region_bytes }) = answer.reply else {
                return Err(format!("no page: {:?}", answer.reply));
            };
            if region != self.region {
                let [descriptor] = exactly(answer.descriptors);
                let page = Page::open(self.end.ring, &descriptor, region_bytes as usize);
                (self.region, self.page) = (region, Some(page.expect("a region for pages")));
            }
            self.page.as_mut().expect("opened above, or before").turn(bytes, position, end);
            if end <= position {
                return Ok(None);
            }
        }
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
