//! A `shared` subscription on mapped memory, used by one thread.
//!
//! 1. It does what an obvious model says, at every step: two lists of messages, who has which of them, and the shard's lot.
//!    In the end every message was acked exactly once.
//! 2. Whatever a member writes into what it may write, and a producer into its slots: no call of the shard or of another
//!    member panics, or takes more steps than the size of the ring allows, and no message changes that its writer wrote.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use proptest::prelude::*;
use ringway_shm_protocol::control::message::Visibility;
use ringway_shm_protocol::layout::{self, Geometry, RegionKind, SETTLEMENT_WORDS, SETTLEMENTS};
use ringway_shm_protocol::memory::Slots;
use ringway_shm_protocol::memory::mapped::{Access, Identity, Mapped, MappedSlots, Region, RegionError};
use ringway_shm_protocol::partition::{
    MemberRegion, MemberRegions, PartitionRegions, ProducerRegions, Publishing, RingIdentity, SharedRegions,
    SubscriptionRegion, open_gate,
};
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::ring::{
    ClaimError, Claimer, Claims, FeedRecord, Leased, Outgoing, Part, PublishError, Received, Settlement,
    SettlementsFull, Verdict, Watch,
};
use ringway_shm_protocol::words::{ClaimState, ClaimWord, CursorWord, MessageHeader, SlotState, SlotWord};

const MEMBERS: usize = 3;
const PRODUCERS: usize = 2;
const BODY_BYTES: usize = 48;
/// How far a member looks past a slot that is being written, that one included.
const LOOK_PAST: u64 = 64;

fn ring(capacity: u64) -> RingIdentity {
    RingIdentity { incarnation: 1, geometry: Geometry::new(capacity, 64).unwrap() }
}

/// One consumer: the shard's side of it, its own side, and its own region once more.
struct Member {
    number: u32,
    shard: MemberRegion,
    own: MemberRegions,
    region: Arc<Region>,
}

/// A partition with one `shared` subscription, in real regions.
struct World {
    ring: RingIdentity,
    partition: PartitionRegions,
    subscription: SubscriptionRegion,
    shared: SharedRegions,
    producers: Vec<ProducerRegions>,
    /// What a producer can write that stops in the middle of a message.
    slots: MappedSlots,
    members: Vec<Member>,
}

impl World {
    fn new(capacity: u64, exclusive: bool, keep_order: [bool; MEMBERS]) -> Self {
        let ring = ring(capacity);
        let partition = PartitionRegions::create(ring, 0).unwrap();
        let subscription = SubscriptionRegion::create(ring).unwrap();
        let shared = SharedRegions::create(&partition, &subscription).unwrap();
        assert_eq!(partition.ring.join(0, 1, &subscription.cursor, Start::First), 0);
        let publishing = Publishing { exclusive, drops: false, detaches: false, journaled: false };
        let open = |owner| {
            let descriptors = partition.for_producer().unwrap().try_into().unwrap();
            ProducerRegions::open(ring, descriptors, publishing, owner, 0).unwrap()
        };
        let producers = (1..=PRODUCERS as u32).map(open).collect();
        let slots = open_slots(ring, &partition.for_producer().unwrap()[2]);
        let members = Vec::new();
        let mut world = Self { ring, partition, subscription, shared, producers, slots, members };
        for (index, keep_order) in keep_order.into_iter().enumerate() {
            world.members.push(world.new_member(1 + index as u32, keep_order).unwrap());
        }
        world
    }

    fn new_member(&self, number: u32, keep_order: bool) -> Result<Member, RegionError> {
        let shard = self.shared.new_member()?;
        let descriptors = self.descriptors(&shard);
        let identity = of_member(self.ring)[6];
        let region = Arc::new(Region::open(&descriptors[6], identity, Access::Write)?);
        let feed_from = self.shared.feed.in_use().start;
        let (descriptors, visibility) = (descriptors.try_into().unwrap(), Visibility::Committed);
        let mut own = MemberRegions::open(self.ring, descriptors, visibility, number, feed_from)?;
        if keep_order {
            own.live.keep_order();
        }
        Ok(Member { number, shard, own, region })
    }

    fn descriptors(&self, member: &MemberRegion) -> Vec<OwnedFd> {
        self.shared.for_member(&self.partition, &self.subscription, member).unwrap()
    }

    /// The producer sees the floor itself from now on, instead of where it was at first.
    fn map(&mut self, producer: usize) {
        let (cursor, hazards) = open_gate(self.ring, &self.subscription.for_gate().unwrap()).unwrap();
        self.producers[producer].producer.gates().map(0, 1, cursor, hazards);
    }

    fn claims(&self, line: Line) -> &Claims<Mapped> {
        match line {
            Line::Live => &self.shared.live,
            Line::Feed => self.shared.feed.claims(),
        }
    }
}

impl Member {
    fn claimer(&mut self, line: Line) -> &mut Claimer<Mapped> {
        match line {
            Line::Live => &mut self.own.live,
            Line::Feed => &mut self.own.feed,
        }
    }
}

fn open_slots(ring: RingIdentity, descriptor: &OwnedFd) -> MappedSlots {
    let region = Region::open(descriptor, of_member(ring)[1], Access::Write).unwrap();
    Arc::new(region).slots(ring.geometry)
}

/// The regions of a member, in the order of their descriptors.
fn of_member(ring: RingIdentity) -> [Identity; 7] {
    [
        (RegionKind::Meta, layout::meta::BYTES),
        (RegionKind::Slots, ring.geometry.slots_region_bytes()),
        (RegionKind::Doorbell, layout::doorbell::BYTES),
        (RegionKind::Subscription, layout::subscription::BYTES),
        (RegionKind::Claims, ring.geometry.claims_region_bytes()),
        (RegionKind::Feed, ring.geometry.of_feed().feed_region_bytes()),
        (RegionKind::Member, layout::member::BYTES),
    ]
    .map(|(kind, bytes)| Identity { kind, incarnation: ring.incarnation, bytes })
}

/// Where a message is claimed.
#[derive(Clone, Copy, Debug)]
enum Line {
    Live,
    Feed,
}

/// Which position a step is about.
#[derive(Clone, Copy, Debug)]
enum Which {
    /// One of those that suit the step.
    Suitable(usize),
    /// This one, whatever it is.
    Any(u64),
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// One of the producers publishes a payload of so many bytes, a few too many among them.
    Publish(usize, usize),
    /// A producer maps the floor.
    Map(usize),
    /// A producer takes a slot and stops before so many bytes are there.
    Take(usize),
    /// One that has stopped goes on, and finishes.
    Finish(usize),
    /// One that has stopped is dead.
    Bury(usize),
    Claim(Line, usize),
    Ack(Line, usize, Which),
    /// The shard takes over; in two steps, or in one.
    BeginMove(Line, Which),
    EndMove(Line, usize),
    Move(Line, usize),
    /// A member raises the floor, or the shard.
    Raise(Option<usize>),
    /// The shard writes what it took over first into the feed.
    Feed,
    Reuse,
    /// Another member takes the place of this one, which leaves what it has.
    Join(usize),
    /// A member writes so many settlements.
    Settle(usize, usize),
    /// A member spoils one that it has written.
    Spoil(usize, usize),
    /// The shard reads so many, and finds every n-th late.
    Judge(usize, usize, usize),
    Confirm(usize),
    Call(usize),
    Answer(usize),
    /// A member looks whether anybody watches: leases, or the feed.
    MustCall(usize, bool),
    BeginWatch(bool),
    EndWatch(bool),
    Activate(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (member, producer, number) = (0..MEMBERS, 0..PRODUCERS, any::<usize>());
    let line = || prop_oneof![3 => Just(Line::Live), 2 => Just(Line::Feed)];
    let which = || {
        let any_position = prop_oneof![4 => 0_u64..100, 1 => any::<u64>()];
        prop_oneof![6 => any::<usize>().prop_map(Which::Suitable), 1 => any_position.prop_map(Which::Any)]
    };
    let (few, many) = (1_usize..20, 300_usize..1100);
    let ring = prop_oneof![
        20 => (producer.clone(), 0_usize..=50).prop_map(|(producer, bytes)| Step::Publish(producer, bytes)),
        1 => producer.prop_map(Step::Map),
        3 => (0..=BODY_BYTES).prop_map(Step::Take),
        3 => number.prop_map(Step::Finish),
        2 => number.prop_map(Step::Bury),
        20 => (line(), member.clone()).prop_map(|(line, member)| Step::Claim(line, member)),
        12 => (line(), member.clone(), which()).prop_map(|(line, member, which)| Step::Ack(line, member, which)),
        2 => (line(), which()).prop_map(|(line, which)| Step::BeginMove(line, which)),
        3 => (line(), number).prop_map(|(line, which)| Step::EndMove(line, which)),
        5 => (line(), number).prop_map(|(line, which)| Step::Move(line, which)),
        8 => prop::option::of(member.clone()).prop_map(Step::Raise),
        8 => Just(Step::Feed),
        4 => Just(Step::Reuse),
        1 => member.clone().prop_map(Step::Join),
    ];
    let other = prop_oneof![
        4 => (member.clone(), prop_oneof![3 => few, 1 => many]).prop_map(|(member, count)| Step::Settle(member, count)),
        1 => (member.clone(), number).prop_map(|(member, which)| Step::Spoil(member, which)),
        4 => (member.clone(), prop_oneof![0_usize..20, 0_usize..2000], 1_usize..9)
            .prop_map(|(member, count, late)| Step::Judge(member, count, late)),
        3 => member.clone().prop_map(Step::Confirm),
        1 => member.clone().prop_map(Step::Call),
        1 => member.clone().prop_map(Step::Answer),
        1 => (member.clone(), any::<bool>()).prop_map(|(member, refill)| Step::MustCall(member, refill)),
        1 => any::<bool>().prop_map(Step::BeginWatch),
        1 => any::<bool>().prop_map(Step::EndWatch),
        1 => member.prop_map(Step::Activate),
    ];
    prop::collection::vec(prop_oneof![5 => ring, 1 => other], 1..250)
}

/// What became of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unfinished { owner: u32 },
    Tombstone,
    Free,
    Leased(u32),
    Moving(u32),
    Acked,
    Moved(u32),
}

struct Message {
    payload: Vec<u8>,
    /// What the shard says of it; nothing on the live ring.
    record: Option<FeedRecord>,
    state: State,
}

/// All the messages of a ring that there ever were.
struct List {
    geometry: Geometry,
    messages: Vec<Message>,
}

impl List {
    fn end(&self) -> u64 {
        self.messages.len() as u64
    }

    fn state(&self, position: u64) -> Option<State> {
        self.messages.get(usize::try_from(position).ok()?).map(|message| message.state)
    }

    fn at(&mut self, position: u64) -> &mut Message {
        &mut self.messages[position as usize]
    }

    fn find(&self, suits: impl Fn(State) -> bool) -> Option<u64> {
        self.messages.iter().position(|message| suits(message.state)).map(|index| index as u64)
    }

    /// One of the positions that suit.
    fn choose(&self, which: usize, suits: impl Fn(State) -> bool) -> Option<u64> {
        let suitable: Vec<_> =
            (0..self.end()).filter(|position| self.state(*position).is_some_and(&suits)).collect();
        (!suitable.is_empty()).then(|| suitable[which % suitable.len()])
    }

    fn settled_from(&self, from: u64) -> u64 {
        let is_settled = |position: &u64| {
            matches!(self.state(*position), Some(State::Tombstone | State::Acked | State::Moved(_)))
        };
        from + (from..self.end()).take_while(is_settled).count() as u64
    }

    /// What is claimed next by a member that looks so far.
    fn next_claim(&self, look_past: u64) -> Option<u64> {
        let unfinished = self.find(|state| matches!(state, State::Unfinished { .. }));
        let next = self.find(|state| state == State::Free)?;
        unfinished.is_none_or(|unfinished| next < unfinished + look_past).then_some(next)
    }

    /// Of more than a capacity, the last.
    fn within(&self, from: u64, to: u64) -> Range<u64> {
        let to = to.min(self.geometry.position_end());
        from.max(to.saturating_sub(self.geometry.capacity()))..to
    }

    fn leased(&self, from: u64, to: u64) -> Vec<Leased> {
        let leased = |position| match self.state(position) {
            Some(State::Leased(member)) => Some(Leased { position, member }),
            _ => None,
        };
        self.within(from, to).filter_map(leased).collect()
    }

    fn unclaimed(&self, from: u64, to: u64) -> u64 {
        let unclaimed = |position: &u64| {
            matches!(self.state(*position), None | Some(State::Free | State::Unfinished { .. }))
        };
        self.within(from, to).filter(unclaimed).count() as u64
    }

    /// The shard's calls say the same; below `from` nobody will ask for anything again.
    fn check(&self, claims: &Claims<Mapped>, from: u64) {
        let end = self.end();
        let middle = from + (end - from) / 2;
        for (from, to) in
            [(from, end), (middle, end), (from, middle), (from, end + 3), (end, from), (from, u64::MAX)]
        {
            assert_eq!(claims.leased(from, to).collect::<Vec<_>>(), self.leased(from, to), "{from}..{to}");
            assert_eq!(claims.unclaimed(from, to), self.unclaimed(from, to), "{from}..{to}");
        }
        assert_eq!(claims.leased(0, end).collect::<Vec<_>>(), self.leased(0, end));
        for position in from..end {
            let (lap, found) = (self.geometry.lap(position), claims.word(position));
            let (state, member) = match self.messages[position as usize].state {
                State::Leased(member) => (ClaimState::Leased, Some(member)),
                State::Moving(member) => (ClaimState::Moving, Some(member)),
                State::Moved(member) => (ClaimState::Moved, Some(member)),
                State::Acked => (ClaimState::Acked, None),
                State::Unfinished { .. } | State::Tombstone | State::Free => {
                    assert!(found.lap < lap, "{position} is claimed: {found:?}");
                    continue;
                }
            };
            let member = member.unwrap_or(found.member);
            assert_eq!(found, ClaimWord { lap, state, member }, "{position}");
        }
    }
}

/// What the shard has taken over.
struct Taken {
    payload: Vec<u8>,
    record: FeedRecord,
}

/// What a member has said, and what the shard made of it.
#[derive(Default)]
struct Said {
    /// Not read; nothing in place of what makes no sense.
    unread: VecDeque<Option<Settlement>>,
    written: u64,
    read: u64,
    confirmed: u64,
    late: u64,
    late_confirmed: u64,
    called: bool,
}

/// What must be so.
struct Model {
    live: List,
    feed: List,
    floor: u64,
    limit: u64,
    harvested: u64,
    lot: VecDeque<Taken>,
    acked: BTreeSet<u64>,
    /// Which producers have mapped the floor.
    mapped: [bool; PRODUCERS],
    said: [Said; MEMBERS],
    watched: [bool; 2],
    active: u64,
}

impl Model {
    fn list(&mut self, line: Line) -> &mut List {
        match line {
            Line::Live => &mut self.live,
            Line::Feed => &mut self.feed,
        }
    }

    /// Whether a producer may take the next slot.
    fn allow(&mut self, producer: usize) -> bool {
        let end = self.live.end();
        if end < self.limit {
            return true;
        }
        let holder = if self.mapped[producer] { self.floor } else { 0 };
        let limit = holder.min(end) + self.live.geometry.capacity();
        if limit > end {
            self.limit = limit;
        }
        limit > end
    }
}

/// The regions and the model beside them.
struct Run {
    exclusive: bool,
    keep_order: [bool; MEMBERS],
    world: World,
    model: Model,
    /// Owners of unfinished slots and members are never used twice.
    numbers: u32,
}

impl Run {
    fn new(capacity: u64, exclusive: bool, keep_order: [bool; MEMBERS]) -> Self {
        let world = World::new(capacity, exclusive, keep_order);
        let geometry = world.ring.geometry;
        let model = Model {
            live: List { geometry, messages: Vec::new() },
            feed: List { geometry: geometry.of_feed(), messages: Vec::new() },
            floor: 0,
            limit: 0,
            harvested: 0,
            lot: VecDeque::new(),
            acked: BTreeSet::new(),
            mapped: [false; PRODUCERS],
            said: Default::default(),
            watched: [false; 2],
            active: 0,
        };
        Self { exclusive, keep_order, world, model, numbers: 100 }
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    fn payload(&mut self, bytes: usize) -> Vec<u8> {
        self.number().to_le_bytes().into_iter().cycle().take(bytes).collect()
    }

    /// Of an exclusive ring the first producer does all.
    fn who(&self, producer: usize) -> usize {
        if self.exclusive { 0 } else { producer }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(producer, bytes) => self.publish(self.who(producer), bytes),
            Step::Map(producer) => {
                let who = self.who(producer);
                self.world.map(who);
                self.model.mapped[who] = true;
            }
            Step::Take(bytes) => self.take(bytes),
            Step::Finish(which) => self.finish(which),
            Step::Bury(which) => self.bury(which),
            Step::Claim(line, member) => {
                self.claim(line, member);
            }
            Step::Ack(line, member, which) => self.ack(line, member, which),
            Step::BeginMove(line, which) => {
                self.begin_move(line, which);
            }
            Step::EndMove(line, which) => {
                let moving = |state| matches!(state, State::Moving(_));
                if let Some(position) = self.model.list(line).choose(which, moving) {
                    self.end_move(line, position);
                }
            }
            Step::Move(line, which) => {
                if let Some(position) = self.begin_move(line, Which::Suitable(which)) {
                    self.end_move(line, position);
                }
            }
            Step::Raise(member) => self.raise(member),
            Step::Feed => self.feed(),
            Step::Reuse => {
                self.world.shared.feed.reuse();
                self.model.harvested = self.model.feed.settled_from(self.model.harvested);
            }
            Step::Join(member) => {
                let number = self.number();
                self.world.members[member] = self.world.new_member(number, self.keep_order[member]).unwrap();
                self.model.said[member] = Said::default();
            }
            Step::Settle(member, count) => self.settle(member, count),
            Step::Spoil(member, which) => self.spoil(member, which),
            Step::Judge(member, count, late) => self.judge(member, count, late),
            Step::Confirm(member) => {
                self.world.members[member].shard.judge.confirm();
                let said = &mut self.model.said[member];
                (said.confirmed, said.late_confirmed) = (said.read, said.late);
            }
            Step::Call(member) => {
                let said = &mut self.model.said[member];
                assert_eq!(self.world.members[member].own.settlements.call(), !said.called);
                said.called = true;
            }
            Step::Answer(member) => {
                self.world.members[member].shard.judge.answer_call();
                self.model.said[member].called = false;
            }
            Step::MustCall(member, refill) => {
                let own = &self.world.members[member].own;
                let watch = if refill { &own.refill } else { &own.watch };
                let watched = &mut self.model.watched[usize::from(refill)];
                assert_eq!(watch.must_call(), !*watched);
                *watched = true;
            }
            Step::BeginWatch(refill) => {
                let began = self.watch(refill).begin();
                let watched = &mut self.model.watched[usize::from(refill)];
                assert_eq!(began, !*watched);
                *watched = true;
            }
            Step::EndWatch(refill) => {
                let leased = self.model.live.find(|state| matches!(state, State::Leased(_))).is_some();
                let (shared, end) = (&self.world.shared, self.world.partition.ring.end());
                let looked = || shared.live.leased(shared.floor.position(), end).next().is_some();
                assert_eq!(self.watch(refill).end(looked), !leased);
                self.model.watched[usize::from(refill)] = leased;
            }
            Step::Activate(member) => {
                self.model.active = self.world.members[member].number.into();
                self.world.shared.active.store(self.model.active, Ordering::Release);
            }
        }
        self.check();
    }

    fn watch(&self, refill: bool) -> &Watch<Mapped> {
        if refill { &self.world.shared.refill } else { &self.world.shared.watch }
    }

    fn publish(&mut self, who: usize, bytes: usize) {
        let payload = self.payload(bytes);
        let published = self.world.producers[who].producer.publish(&Outgoing::inline(&payload));
        if bytes > BODY_BYTES {
            assert_eq!(published, Err(PublishError::TooLarge { bytes, bytes_max: BODY_BYTES }));
            return;
        }
        let end = self.model.live.end();
        if self.model.allow(who) {
            assert_eq!(published, Ok(end));
            self.model.live.messages.push(Message { payload, record: None, state: State::Free });
        } else {
            let Err(PublishError::Full(full)) = published else { panic!("not full: {published:?}") };
            let holder = if self.model.mapped[who] { self.model.floor } else { 0 };
            assert_eq!((full.position, full.holder.position), (end, holder));
        }
    }

    fn take(&mut self, bytes: usize) {
        // Where there is one producer nobody sees what it has not finished.
        if self.exclusive {
            return;
        }
        let allowed = self.model.allow(0);
        assert_eq!(self.world.producers[0].producer.has_space(), allowed);
        if !allowed {
            return;
        }
        let (owner, payload) = (self.number(), self.payload(bytes));
        let position = self.model.live.end();
        let lap = self.world.ring.geometry.lap(position);
        let word = SlotWord { lap, state: SlotState::Reserved, owner };
        self.world.slots.word(position).store(word.pack(), Ordering::Relaxed);
        self.world.slots.write(position, 0, &payload[..bytes / 2]);
        let message = Message { payload, record: None, state: State::Unfinished { owner } };
        self.model.live.messages.push(message);
    }

    /// One that is not finished: its position and owner.
    fn unfinished(&self, which: usize) -> Option<(u64, u32)> {
        let live = &self.model.live;
        let position = live.choose(which, |state| matches!(state, State::Unfinished { .. }))?;
        let Some(State::Unfinished { owner }) = live.state(position) else { unreachable!() };
        Some((position, owner))
    }

    fn finish(&mut self, which: usize) {
        let Some((position, owner)) = self.unfinished(which) else { return };
        let lap = self.world.ring.geometry.lap(position);
        let message = self.model.live.at(position);
        let slots = &self.world.slots;
        slots.write(position, 0, &message.payload);
        let payload_bytes = message.payload.len() as u32;
        let header = MessageHeader { payload_bytes, ..MessageHeader::default() };
        slots.header(position).store(header.pack(), Ordering::Relaxed);
        let word = SlotWord { lap, state: SlotState::Committed, owner };
        slots.word(position).store(word.pack(), Ordering::Release);
        message.state = State::Free;
    }

    fn bury(&mut self, which: usize) {
        let Some((position, owner)) = self.unfinished(which) else { return };
        assert_eq!(self.world.partition.ring.bury(owner), 1);
        self.model.live.at(position).state = State::Tombstone;
    }

    /// Claims what is next; whether there was anything.
    fn claim(&mut self, line: Line, index: usize) -> bool {
        let look_past = if self.keep_order[index] { 1 } else { LOOK_PAST };
        let expected = self.model.list(line).next_claim(look_past);
        let member = &mut self.world.members[index];
        let number = member.number;
        let claimer = member.claimer(line);
        // One that was overtaken sees by claiming that there is nothing.
        assert!(claimer.has_next() || expected.is_none(), "{expected:?} is overlooked");
        let mut buffer = [0; BODY_BYTES];
        let claimed = claimer.claim(&mut buffer).unwrap();
        assert_eq!(claimed.map(|claimed| claimed.received.position), expected);
        let Some(claimed) = claimed else {
            assert!(!claimer.has_next(), "there is something, and there is nothing");
            return false;
        };
        let message = self.model.list(line).at(claimed.received.position);
        assert_eq!(claimed.received.payload(&buffer), Part::Inline(&message.payload));
        assert_eq!(claimed.record, message.record.map_or([0; 2], FeedRecord::pack));
        message.state = State::Leased(number);
        true
    }

    fn ack(&mut self, line: Line, index: usize, which: Which) {
        let member = &mut self.world.members[index];
        let mine = State::Leased(member.number);
        let list = self.model.list(line);
        let position = match which {
            Which::Suitable(which) => list.choose(which, |state| state == mine),
            Which::Any(position) => Some(position),
        };
        let Some(position) = position else { return };
        let has_it = list.state(position) == Some(mine);
        assert_eq!(member.claimer(line).ack(position), has_it);
        if has_it {
            let message = list.at(position);
            message.state = State::Acked;
            let position = message.record.map_or(position, |record| record.position);
            assert!(self.model.acked.insert(position), "{position} is acked twice");
        }
    }

    /// Begins to take over, if somebody has it; returns which.
    fn begin_move(&mut self, line: Line, which: Which) -> Option<u64> {
        let (claims, list) = (self.world.claims(line), self.model.list(line));
        let (position, member) = match which {
            Which::Suitable(which) => {
                let position = list.choose(which, |state| matches!(state, State::Leased(_)))?;
                let Some(State::Leased(member)) = list.state(position) else { unreachable!() };
                // Not from one that does not have it.
                assert!(!claims.begin_move(position, member + 1));
                (position, member)
            }
            Which::Any(position) => (position, 1),
        };
        let has_it = list.state(position) == Some(State::Leased(member));
        assert_eq!(claims.begin_move(position, member), has_it);
        if !has_it {
            return None;
        }
        list.at(position).state = State::Moving(member);
        Some(position)
    }

    fn end_move(&mut self, line: Line, position: u64) {
        let (claims, list) = (self.world.claims(line), self.model.list(line));
        let message = list.at(position);
        let State::Moving(member) = message.state else { unreachable!() };
        let mut buffer = [0; BODY_BYTES];
        let received = claims.copy_out(position, &mut buffer).unwrap();
        assert_eq!(received.payload(&buffer), Part::Inline(&message.payload));
        claims.end_move(position, member);
        message.state = State::Moved(member);
        let record = match message.record {
            None => FeedRecord { position, acquired: 1, failed: 0 },
            Some(record) => FeedRecord { acquired: record.acquired + 1, failed: record.failed + 1, ..record },
        };
        let payload = message.payload.clone();
        self.model.lot.push_back(Taken { payload, record });
    }

    fn raise(&mut self, member: Option<usize>) {
        let settled = self.model.live.settled_from(self.model.floor);
        let rose = match member {
            None => self.world.shared.floor.raise(&self.world.shared.live),
            Some(member) => {
                let own = &self.world.members[member].own;
                own.floor.raise(own.live.claims())
            }
        };
        assert_eq!(rose, settled > self.model.floor);
        self.model.floor = settled;
    }

    fn feed(&mut self) {
        let feed = &mut self.world.shared.feed;
        if !feed.has_room() {
            return;
        }
        let Some(Taken { payload, record }) = self.model.lot.pop_front() else { return };
        assert_eq!(feed.write(record, &Outgoing::inline(&payload)), self.model.feed.end());
        self.model.feed.messages.push(Message { payload, record: Some(record), state: State::Free });
    }

    fn settle(&mut self, member: usize, count: usize) {
        let (end, said) = (&mut self.world.members[member].own.settlements, &mut self.model.said[member]);
        for _ in 0..count {
            let verdict = match said.written % 6 {
                0 => Verdict::Ack,
                1 => Verdict::Nack { delay_ms: None },
                2 => Verdict::Nack { delay_ms: Some(said.written) },
                3 => Verdict::Reject,
                4 => Verdict::Release,
                _ => Verdict::Extend { lease_ms: u64::MAX - said.written },
            };
            let settlement = Settlement { position: said.written << 20, attempt: u32::MAX, verdict };
            if said.written - said.confirmed < SETTLEMENTS {
                assert_eq!(end.write(settlement), Ok(()));
                said.unread.push_back(Some(settlement));
                said.written += 1;
            } else {
                assert_eq!(end.write(settlement), Err(SettlementsFull));
            }
        }
    }

    fn spoil(&mut self, member: usize, which: usize) {
        let said = &mut self.model.said[member];
        let unread = said.unread.len();
        if unread == 0 {
            return;
        }
        let entry = (said.read + (which % unread) as u64) % SETTLEMENTS;
        let what = layout::member::FIRST + (entry as usize * SETTLEMENT_WORDS + 1) * 8;
        let nonsense = if which.is_multiple_of(2) { 0 } else { 7 + which as u64 % 1000 };
        self.world.members[member].region.word(what).store(nonsense, Ordering::Relaxed);
        said.unread[which % unread] = None;
    }

    fn judge(&mut self, member: usize, count: usize, late: usize) {
        let (judge, said) = (&mut self.world.members[member].shard.judge, &mut self.model.said[member]);
        for number in 0..count {
            let expected = loop {
                let Some(next) = said.unread.pop_front() else { break None };
                said.read += 1;
                if next.is_some() {
                    break next;
                }
                said.late += 1;
            };
            assert_eq!(judge.next_settlement(), expected);
            if expected.is_none() {
                break;
            }
            if number.is_multiple_of(late) {
                judge.was_late();
                said.late += 1;
            }
        }
    }

    /// Everything that can be asked says what the model says.
    fn check(&mut self) {
        let (world, model) = (&mut self.world, &self.model);
        assert_eq!(world.shared.floor.position(), model.floor);
        assert_eq!(world.partition.ring.end(), model.live.end());
        assert_eq!(world.partition.ring.limit(), model.limit);
        model.live.check(&world.shared.live, model.floor);
        let feed = &world.shared.feed;
        model.feed.check(feed.claims(), model.harvested);
        assert_eq!(feed.in_use(), model.harvested..model.feed.end());
        let in_use = model.feed.end() - model.harvested;
        assert_eq!(feed.has_room(), in_use < model.feed.geometry.capacity());
        for (member, said) in world.members.iter().zip(&model.said) {
            let has = |list: &List, position| list.state(position) == Some(State::Leased(member.number));
            for position in model.floor..model.live.end() {
                assert_eq!(member.own.live.still_has(position), has(&model.live, position));
            }
            for position in model.harvested..model.feed.end() {
                assert_eq!(member.own.feed.still_has(position), has(&model.feed, position));
            }
            assert_eq!(member.own.floor.position(), model.floor);
            assert_eq!(member.own.active.load(Ordering::Acquire), model.active);
            assert_eq!(member.own.settlements.progress(), (said.written, said.confirmed));
            assert_eq!(member.own.settlements.late(), said.late_confirmed);
        }
    }

    /// All who have something die, and one member gets everything that was not acked.
    fn drain(&mut self) {
        while self.unfinished(0).is_some() {
            self.step(Step::Bury(0));
        }
        for line in [Line::Live, Line::Feed] {
            while self.model.list(line).find(|state| matches!(state, State::Moving(_))).is_some() {
                self.step(Step::EndMove(line, 0));
            }
            while self.model.list(line).find(|state| matches!(state, State::Leased(_))).is_some() {
                self.step(Step::Move(line, 0));
            }
        }
        loop {
            self.step(Step::Reuse);
            while !self.model.lot.is_empty() && self.world.shared.feed.has_room() {
                self.step(Step::Feed);
            }
            let mut any = false;
            for line in [Line::Live, Line::Feed] {
                while self.claim(line, 0) {
                    self.step(Step::Ack(line, 0, Which::Suitable(0)));
                    any = true;
                }
            }
            if !any {
                break;
            }
        }
        self.step(Step::Raise(Some(0)));
        self.step(Step::Reuse);
        assert!(self.model.lot.is_empty(), "the feed is stuck");
        assert_eq!(self.model.floor, self.model.live.end(), "the floor is stuck");
        let is_message =
            |position: &u64| self.model.live.messages[*position as usize].state != State::Tombstone;
        let all: BTreeSet<_> = (0..self.model.live.end()).filter(is_message).collect();
        assert_eq!(self.model.acked, all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, max_shrink_time: 30_000, ..ProptestConfig::default() })]

    #[test]
    fn a_shared_subscription_does_what_lists_of_messages_do(
        shift in 1_u32..=3,
        exclusive: bool,
        keep_order: [bool; MEMBERS],
        steps in steps(),
    ) {
        in_time(move || {
            let mut run = Run::new(1 << shift, exclusive, keep_order);
            run.step(Step::Map(0));
            steps.into_iter().for_each(|step| run.step(step));
            run.drain();
        });
    }
}

#[test]
fn a_member_looks_past_an_unfinished_slot_as_far_as_it_says_and_one_that_keeps_the_order_does_not() {
    let mut run = Run::new(128, false, [false, true, false]);
    (0..3).for_each(|_| run.step(Step::Publish(0, 5)));
    run.step(Step::Take(5));
    (0..100).for_each(|_| run.step(Step::Publish(0, 5)));
    (0..3).for_each(|_| assert!(run.claim(Line::Live, 1)));
    assert!(!run.claim(Line::Live, 1), "the order is lost");
    let claimed = (0..100).take_while(|_| run.claim(Line::Live, 0)).count();
    assert_eq!(claimed as u64, LOOK_PAST - 1);
    run.step(Step::Finish(0));
    assert!(run.claim(Line::Live, 1));
    assert_eq!(run.model.live.state(3), Some(State::Leased(2)), "what was passed comes first");
    run.drain();
}

/// Where the hostile write.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The claim word of this slot.
    Claim(Line, u64),
    /// A word of the subscription: floor, watch, and so on.
    Subscription(usize),
    /// A word of the own region: counts.
    Own(usize),
    /// A word of the settlements.
    Entry(u64),
    /// Any word of any of them, the region's header and the doorbell included.
    Anywhere(usize, usize),
    /// The word or the header of a slot: a producer's.
    Slot(u64, bool),
}

/// One thing that the hostile do, or what the others do meanwhile.
#[derive(Clone, Copy, Debug)]
enum Hostile {
    Write(Place, u64),
    Leased(Line, u64, u64),
    Unclaimed(Line, u64, u64),
    /// The shard takes over all that is leased, as it says.
    TakeAll(Line),
    /// The shard takes this over from this member, as a settlement says.
    Move(Line, u64, u32),
    CopyOut(Line, u64),
    Raise(Option<usize>),
    Feed(usize),
    Reuse,
    Judge,
    Answer,
    /// The shard stops watching, if nobody has anything.
    EndWatch(bool),
    Publish(usize),
    /// What members do that keep the protocol.
    Claim(Line, usize),
    Ack(Line, usize, u64),
    Settle(usize),
    MustCall(usize),
    Join(usize),
}

/// Positions near the beginning, near the end, and of any number.
fn positions() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0_u64..40,
        1 => ((1_u64 << 40) - 4..(1 << 40) + 4, 1_u32..=3).prop_map(|(lap, shift)| lap << shift),
        1 => (1_u64 << 50) - 20..(1 << 50) + 20,
        1 => any::<u64>(),
    ]
}

/// Words that mean something here or there, and any others.
fn words() -> impl Strategy<Value = u64> {
    let lap = || prop_oneof![8 => 0_u64..8, 1 => (1_u64 << 40) - 4..1 << 40];
    let low = 0_u64..1 << 24;
    let claim_state = prop_oneof![
        2 => Just(ClaimState::Free),
        4 => Just(ClaimState::Leased),
        3 => Just(ClaimState::Acked),
        1 => Just(ClaimState::Moving),
        3 => Just(ClaimState::Moved),
    ];
    let slot_state = prop_oneof![
        1 => Just(SlotState::Empty),
        1 => Just(SlotState::Reserved),
        3 => Just(SlotState::Committed),
        2 => Just(SlotState::Tombstone),
    ];
    prop_oneof![
        6 => (lap(), claim_state, 0_u32..5).prop_map(|(lap, state, member)| ClaimWord { lap, state, member }.pack()),
        2 => (lap(), slot_state, 0_u32..5).prop_map(|(lap, state, owner)| SlotWord { lap, state, owner }.pack()),
        2 => (lap(), low).prop_map(|(lap, low)| lap << 24 | low),
        3 => (positions(), any::<[bool; 2]>()).prop_map(|(position, [pinned, live])| {
            CursorWord { position: position % (1 << 50), pinned, live, generation: 0 }.pack()
        }),
        2 => (0_u32..100, 0_u16..60, any::<u16>()).prop_map(|(payload_bytes, attributes_bytes, flags)| {
            MessageHeader { payload_bytes, attributes_bytes, flags }.pack()
        }),
        2 => 0_u64..3000,
        2 => any::<u64>(),
        1 => Just(u64::MAX),
    ]
}

fn hostile() -> impl Strategy<Value = Vec<Hostile>> {
    use layout::{member, subscription};
    let line = || prop_oneof![3 => Just(Line::Live), 2 => Just(Line::Feed)];
    let of_subscription = prop_oneof![
        6 => Just(subscription::CURSOR),
        1 => Just(subscription::HAZARDS_ACTIVE),
        1 => Just(subscription::WATCH),
        1 => Just(subscription::ACTIVE),
        1 => Just(subscription::REFILL),
    ];
    let of_member = prop_oneof![
        1 => Just(member::CALLED),
        4 => Just(member::WRITTEN),
        1 => Just(member::JUDGED),
        1 => Just(member::LATE),
    ];
    let place = prop_oneof![
        12 => (line(), 0_u64..8).prop_map(|(line, slot)| Place::Claim(line, slot)),
        4 => of_subscription.prop_map(Place::Subscription),
        4 => of_member.prop_map(Place::Own),
        3 => (0..SETTLEMENTS * SETTLEMENT_WORDS as u64).prop_map(Place::Entry),
        1 => any::<(usize, usize)>().prop_map(|(region, word)| Place::Anywhere(region, word)),
        6 => (0_u64..8, any::<bool>()).prop_map(|(slot, header)| Place::Slot(slot, header)),
    ];
    let member = 0..MEMBERS;
    let shard = prop_oneof![
        3 => (line(), positions(), positions()).prop_map(|(line, from, to)| Hostile::Leased(line, from, to)),
        3 => (line(), positions(), positions()).prop_map(|(line, from, to)| Hostile::Unclaimed(line, from, to)),
        3 => line().prop_map(Hostile::TakeAll),
        3 => (line(), positions(), 0_u32..1 << 21).prop_map(|(line, at, member)| Hostile::Move(line, at, member)),
        3 => (line(), positions(), 0_u32..5).prop_map(|(line, at, member)| Hostile::Move(line, at, member)),
        3 => (line(), positions()).prop_map(|(line, at)| Hostile::CopyOut(line, at)),
        3 => prop::option::of(member.clone()).prop_map(Hostile::Raise),
        4 => (0..=BODY_BYTES).prop_map(Hostile::Feed),
        3 => Just(Hostile::Reuse),
        3 => Just(Hostile::Judge),
        1 => Just(Hostile::Answer),
        1 => any::<bool>().prop_map(Hostile::EndWatch),
    ];
    let others = prop_oneof![
        4 => (0..=BODY_BYTES).prop_map(Hostile::Publish),
        4 => (line(), member.clone()).prop_map(|(line, member)| Hostile::Claim(line, member)),
        2 => (line(), member.clone(), positions()).prop_map(|(line, member, at)| Hostile::Ack(line, member, at)),
        1 => member.clone().prop_map(Hostile::Settle),
        1 => member.clone().prop_map(Hostile::MustCall),
        1 => member.prop_map(Hostile::Join),
    ];
    let write = (place, words()).prop_map(|(place, word)| Hostile::Write(place, word));
    prop::collection::vec(prop_oneof![3 => write, 2 => shard, 1 => others], 1..250)
}

/// A member that does what it likes, member 0, with all that it was given; and perhaps a producer.
struct Attack {
    world: World,
    /// What the member can map for writing.
    regions: Vec<Arc<Region>>,
    /// A producer writes into slots what it likes, too.
    producer: bool,
    /// What was published and fed; of the live ring only as long as nobody else writes the slots.
    live: Vec<Vec<u8>>,
    fed: Vec<Vec<u8>>,
    harvested: u64,
    judged: u64,
    numbers: u32,
}

impl Attack {
    fn new(capacity: u64, exclusive: bool, producer: bool) -> Self {
        let mut world = World::new(capacity, exclusive, [false; MEMBERS]);
        world.map(0);
        let mut regions = Vec::new();
        let descriptors = world.descriptors(&world.members[0].shard);
        for (descriptor, identity) in descriptors.iter().zip(of_member(world.ring)) {
            match Region::open(descriptor, identity, Access::Write) {
                Ok(region) => regions.push(Arc::new(region)),
                Err(error) => {
                    assert!(
                        matches!(identity.kind, RegionKind::Meta | RegionKind::Slots | RegionKind::Feed),
                        "{error}"
                    );
                }
            }
        }
        assert_eq!(regions.len(), 4, "a member may write neither meta nor slots nor feed");
        let (live, fed) = (Vec::new(), Vec::new());
        Self { world, regions, producer, live, fed, harvested: 0, judged: 0, numbers: 100 }
    }

    fn region(&self, kind: RegionKind) -> &Arc<Region> {
        self.regions.iter().find(|region| region.kind() == kind).unwrap()
    }

    fn write(&self, place: Place, word: u64) {
        let geometry = self.world.ring.geometry;
        let (kind, offset) = match place {
            Place::Claim(line, slot) => {
                let first = match line {
                    Line::Live => 0,
                    Line::Feed => geometry.capacity(),
                };
                (RegionKind::Claims, layout::claims::FIRST + (first + geometry.index(slot)) as usize * 8)
            }
            Place::Subscription(offset) => (RegionKind::Subscription, offset),
            Place::Own(offset) => (RegionKind::Member, offset),
            Place::Entry(entry) => (RegionKind::Member, layout::member::FIRST + entry as usize * 8),
            Place::Anywhere(region, at) => {
                let region = &self.regions[region % self.regions.len()];
                (region.kind(), at % (region.bytes() / 8) * 8)
            }
            Place::Slot(slot, header) => {
                let slots = &self.world.slots;
                if self.producer {
                    let place = if header { slots.header(slot) } else { slots.word(slot) };
                    place.store(word, Ordering::Release);
                }
                return;
            }
        };
        self.region(kind).word(offset).store(word, Ordering::Release);
    }

    /// Bytes that belong to nobody else.
    fn payload(&mut self, bytes: usize) -> Vec<u8> {
        self.numbers += 1;
        self.numbers.to_le_bytes().into_iter().cycle().take(bytes).collect()
    }

    /// What was copied out is what was written there, if nobody writes the slots but who may.
    fn check_message(&self, line: Line, received: Received, buffer: &[u8]) {
        let written = match line {
            Line::Live if self.producer => return,
            Line::Live => &self.live,
            Line::Feed => &self.fed,
        };
        // Of a position that is gone, or to come, it is what the slot holds.
        let capacity = self.world.ring.geometry.capacity();
        let end = written.len() as u64;
        let is_in_slot = |at: &u64| at % capacity == received.position % capacity;
        let expected = (0..end).rev().find(is_in_slot).map_or(&[][..], |at| &written[at as usize]);
        assert_eq!(received.payload(buffer), Part::Inline(expected), "{}", received.position);
    }

    fn copy_out(&self, line: Line, position: u64) {
        let mut buffer = [0; BODY_BYTES];
        match self.world.claims(line).copy_out(position, &mut buffer) {
            Ok(received) => self.check_message(line, received, &buffer),
            Err(error) => assert!(self.producer && matches!(line, Line::Live), "{error:?}"),
        }
    }

    /// The shard takes over, if this member has it.
    fn take_over(&self, line: Line, position: u64, member: u32) -> bool {
        let claims = self.world.claims(line);
        if !claims.begin_move(position, member) {
            return false;
        }
        assert!(!claims.ack(position, member), "acked while it moves");
        self.copy_out(line, position);
        claims.end_move(position, member);
        let lap = claims.geometry().lap(position);
        assert_eq!(claims.word(position), ClaimWord { lap, state: ClaimState::Moved, member });
        assert!(!claims.ack(position, member), "acked and moved");
        assert!(!claims.begin_move(position, member), "moved twice");
        true
    }

    /// The positions that the shard looks at: a ring's length at most, whatever the floor says.
    fn range(&self, line: Line) -> Range<u64> {
        match line {
            Line::Live => {
                let end = self.world.partition.ring.end();
                let oldest = end.saturating_sub(self.world.ring.geometry.capacity());
                self.world.shared.floor.position().clamp(oldest, end)..end
            }
            Line::Feed => self.world.shared.feed.in_use(),
        }
    }

    fn step(&mut self, step: Hostile) {
        let capacity = self.world.ring.geometry.capacity();
        match step {
            Hostile::Write(place, word) => self.write(place, word),
            Hostile::Leased(line, from, to) => {
                let leased: Vec<_> = self.world.claims(line).leased(from, to).collect();
                assert!(leased.len() as u64 <= capacity);
                assert!(leased.iter().all(|leased| (from..to).contains(&leased.position)));
            }
            Hostile::Unclaimed(line, from, to) => {
                let unclaimed = self.world.claims(line).unclaimed(from, to);
                assert!(unclaimed <= capacity.min(to.saturating_sub(from)));
            }
            Hostile::TakeAll(line) => {
                let range = self.range(line);
                let claims = self.world.claims(line);
                let leased: Vec<_> = claims.leased(range.start, range.end).collect();
                for Leased { position, member } in leased {
                    assert!(self.take_over(line, position, member), "nobody else is here");
                }
                assert_eq!(claims.leased(range.start, range.end).count(), 0);
            }
            Hostile::Move(line, position, member) => {
                self.take_over(line, position, member);
            }
            Hostile::CopyOut(line, position) => self.copy_out(line, position),
            Hostile::Raise(member) => self.raise(member),
            Hostile::Feed(bytes) => {
                if self.world.shared.feed.has_room() {
                    let payload = self.payload(bytes);
                    let record = FeedRecord { position: u64::MAX, acquired: 1, failed: 2 };
                    let at = self.world.shared.feed.write(record, &Outgoing::inline(&payload));
                    assert_eq!(at, self.fed.len() as u64);
                    self.fed.push(payload);
                }
            }
            Hostile::Reuse => {
                self.world.shared.feed.reuse();
                let Range { start, end } = self.world.shared.feed.in_use();
                assert!((self.harvested..=end).contains(&start));
                self.harvested = start;
            }
            Hostile::Judge => self.judge(),
            Hostile::Answer => {
                self.world.members[0].shard.judge.answer_call();
                let called = self.region(RegionKind::Member).word(layout::member::CALLED);
                assert_eq!(called.load(Ordering::Relaxed), 0);
            }
            Hostile::EndWatch(refill) => {
                let shared = &self.world.shared;
                let watch = if refill { &shared.refill } else { &shared.watch };
                let Range { start, end } = self.range(Line::Live);
                let leased = shared.live.leased(start, end).next().is_some();
                assert_eq!(watch.end(|| leased), !leased);
                assert_eq!(watch.begin(), !leased);
            }
            Hostile::Publish(bytes) => {
                // What a producer does to the others is not looked at here.
                if !self.producer {
                    let payload = self.payload(bytes);
                    match self.world.producers[0].producer.publish(&Outgoing::inline(&payload)) {
                        Ok(position) => {
                            assert_eq!(position, self.live.len() as u64);
                            self.live.push(payload);
                        }
                        Err(error) => assert!(matches!(error, PublishError::Full(_)), "{error}"),
                    }
                }
            }
            Hostile::Claim(line, member) => self.claim(line, member),
            Hostile::Ack(line, member, position) => {
                let member = &mut self.world.members[member];
                let claimer = member.claimer(line);
                let has_it =
                    position < claimer.claims().geometry().position_end() && claimer.still_has(position);
                assert_eq!(claimer.ack(position), has_it);
                assert!(!claimer.ack(position), "acked twice");
            }
            Hostile::Settle(member) => {
                let settlement = Settlement { position: 0, attempt: 1, verdict: Verdict::Ack };
                let _ = self.world.members[member].own.settlements.write(settlement);
            }
            Hostile::MustCall(member) => {
                let own = &self.world.members[member].own;
                own.watch.must_call();
                assert!(!own.watch.must_call(), "called for nothing");
            }
            // The first stays. Another sees that the region is no longer what it should be, or joins.
            Hostile::Join(member) => {
                self.numbers += 1;
                if member > 0
                    && let Ok(joined) = self.world.new_member(self.numbers, false)
                {
                    self.world.members[member] = joined;
                }
            }
        }
        let Range { start, end } = self.world.shared.feed.in_use();
        assert_eq!((start, end), (self.harvested, self.fed.len() as u64));
        assert!(end - start <= capacity, "the feed holds more than it can");
        if !self.producer {
            assert_eq!(self.world.partition.ring.end(), self.live.len() as u64, "the log's end");
        }
    }

    fn raise(&mut self, member: Option<usize>) {
        let geometry = self.world.ring.geometry;
        let (floor, claims) = match member {
            None => (&self.world.shared.floor, &self.world.shared.live),
            Some(member) => {
                (&self.world.members[member].own.floor, self.world.members[member].own.live.claims())
            }
        };
        let before = floor.position();
        let rose = floor.raise(claims);
        let after = floor.position();
        assert_eq!(rose, after > before);
        // A slot can be settled in the lap of its claim, and in that of its word.
        assert!((before..=before + 2 * geometry.capacity()).contains(&after), "{before} to {after}");
        assert!(after <= before.max(geometry.position_end()));
        assert!(!floor.raise(claims), "it was not raised as far as it goes");
    }

    /// The shard reads what the first member says, and confirms it.
    fn judge(&mut self) {
        let (judged, written) = {
            let region = self.region(RegionKind::Member);
            let word = |offset| region.word(offset);
            (word(layout::member::JUDGED), word(layout::member::WRITTEN).load(Ordering::Relaxed))
        };
        let judge = &mut self.world.members[0].shard.judge;
        let mut read = 0;
        while judge.next_settlement().is_some() {
            read += 1;
            assert!(read <= SETTLEMENTS, "round for ever");
        }
        judge.confirm();
        // The shard's count is its own. What makes no sense was passed over.
        self.judged = self.judged.max(written.min(self.judged + SETTLEMENTS));
        assert_eq!(judged.load(Ordering::Relaxed), self.judged);
    }

    fn claim(&mut self, line: Line, member: usize) {
        let mut buffer = [0; BODY_BYTES];
        let claimer = self.world.members[member].claimer(line);
        let has_next = claimer.has_next();
        match claimer.claim(&mut buffer) {
            Ok(None) => assert!(!claimer.has_next(), "there is something, and there is nothing"),
            Ok(Some(claimed)) => {
                assert!(has_next && claimer.still_has(claimed.received.position));
                self.check_message(line, claimed.received, &buffer);
            }
            Err(ClaimError::Read(error)) => {
                assert!(self.producer && matches!(line, Line::Live), "{error:?}");
            }
            Err(taken @ ClaimError::TakenOver { .. }) => panic!("nobody else is here: {taken:?}"),
        }
    }
}

/// Fails when it has not ended after a time that is too long for any of this.
fn in_time(what: impl FnOnce() + Send + 'static) {
    let (ended, wait) = channel();
    let thread = std::thread::spawn(move || {
        what();
        ended.send(()).unwrap();
    });
    match wait.recv_timeout(Duration::from_secs(10)) {
        Err(RecvTimeoutError::Timeout) => panic!("it goes on for ever"),
        _ => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_written_nobody_panics_and_everything_ends(
        shift in 1_u32..=3,
        exclusive: bool,
        producer: bool,
        steps in hostile(),
    ) {
        in_time(move || {
            let mut attack = Attack::new(1 << shift, exclusive, producer);
            steps.into_iter().for_each(|step| attack.step(step));
        });
    }
}
