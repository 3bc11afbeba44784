//! The ring on mapped memory against an obvious model: a queue of what was published, and where each gate stands; with
//! one exclusive producer, and with two shared ones that take turns at random.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use proptest::prelude::*;
use ringway_shm_protocol::layout::{self, Geometry, RegionKind};
use ringway_shm_protocol::memory::mapped::{Identity, Mapped, MappedWord, OwnedRegion};
use ringway_shm_protocol::ring::shard::{ShardRing, Start};
use ringway_shm_protocol::ring::{
    CursorReader, ExclusiveProducer, Gates, Hazards, Outgoing, Part, Producer, PublishError, Room,
    SharedProducer,
};
use ringway_shm_protocol::words::CursorWord;

const GATES: usize = 3;
const PRODUCERS: usize = 2;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// One of the producers publishes a payload of so many bytes, a few too many among them.
    Publish(usize, usize),
    Read(usize),
    /// Commit so many parts of eight of what was read.
    Commit(usize, u64),
    Join(usize, Start),
    Leave(usize),
    /// A producer maps the gate's cursor, instead of going by its mirror.
    Map(usize, usize),
    /// A producer closes, another continues at the end; it has mapped nothing.
    Succeed(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (gate, producer) = (0..GATES, 0..PRODUCERS);
    let start = prop_oneof![Just(Start::First), Just(Start::Next), (0_u64..80).prop_map(Start::At)];
    let step = prop_oneof![
        8 => (producer.clone(), 0_usize..=50).prop_map(|(producer, bytes)| Step::Publish(producer, bytes)),
        6 => gate.clone().prop_map(Step::Read),
        4 => (gate.clone(), 0_u64..=8).prop_map(|(gate, eighths)| Step::Commit(gate, eighths)),
        2 => (gate.clone(), start).prop_map(|(gate, start)| Step::Join(gate, start)),
        1 => gate.clone().prop_map(Step::Leave),
        2 => (producer.clone(), gate).prop_map(|(producer, gate)| Step::Map(producer, gate)),
        1 => producer.prop_map(Step::Succeed),
    ];
    prop::collection::vec(step, 1..200)
}

/// The partition in real regions.
struct Partition {
    geometry: Geometry,
    slots: OwnedRegion,
    meta: OwnedRegion,
    producers: OwnedRegion,
    subscriptions: Vec<OwnedRegion>,
}

impl Partition {
    fn new(capacity: u64) -> Self {
        let geometry = Geometry::new(capacity, 64).unwrap();
        let make = |kind, bytes| OwnedRegion::create(Identity { kind, incarnation: 1, bytes }).unwrap();
        Self {
            geometry,
            slots: make(RegionKind::Slots, geometry.slots_region_bytes()),
            meta: make(RegionKind::Meta, layout::meta::BYTES),
            producers: make(RegionKind::Producers, layout::producers::BYTES),
            subscriptions: (0..GATES)
                .map(|_| make(RegionKind::Subscription, layout::subscription::BYTES))
                .collect(),
        }
    }

    fn limit(&self) -> MappedWord {
        self.producers.region().word(layout::producers::LIMIT)
    }

    fn active(&self) -> MappedWord {
        self.meta.region().word(layout::meta::GATES_ACTIVE)
    }

    fn mirrors(&self) -> Vec<MappedWord> {
        (0..GATES).map(|gate| self.meta.region().word(layout::meta::GATES + 8 * gate)).collect()
    }

    fn cursor(&self, gate: usize) -> MappedWord {
        self.subscriptions[gate].region().word(layout::subscription::CURSOR)
    }

    fn producer(&self, exclusive: bool, owner: u32, position: u64) -> Producer<Mapped> {
        let gates = Gates::new(self.active(), self.mirrors());
        let slots = self.slots.region().slots(self.geometry);
        let room = Room::retaining(self.geometry, self.limit(), gates);
        if exclusive {
            Producer::Exclusive(ExclusiveProducer::new(slots, room, owner, position))
        } else {
            let tail = self.producers.region().word(layout::producers::TAIL);
            Producer::Shared(SharedProducer::new(slots, room, tail, owner, position))
        }
    }

    /// Lets a producer see the gate itself.
    fn map(&self, producer: &mut Producer<Mapped>, gate: usize, generation: u16) {
        let active = self.subscriptions[gate].region().word(layout::subscription::HAZARDS_ACTIVE);
        producer.gates().map(gate as u8, generation, self.cursor(gate), Hazards::new(active, Vec::new()));
    }

    fn shard(&self) -> ShardRing<Mapped> {
        let slots = self.slots.region().slots(self.geometry);
        ShardRing::new(slots, self.limit(), self.active(), self.mirrors())
    }

    fn reader(&self, gate: usize, position: u64) -> CursorReader<Mapped> {
        let committed = CursorWord { position, pinned: false, live: true, generation: 0 };
        CursorReader::new(self.slots.region().slots(self.geometry), self.cursor(gate), committed, false)
    }
}

/// A subscription as the model sees it, beside the real reader.
struct Attached {
    reader: CursorReader<Mapped>,
    generation: u16,
    joined: u64,
    committed: u64,
    read: u64,
    /// Which producers have mapped it.
    mapped: [bool; PRODUCERS],
}

/// What must be so: the messages from `first` on, and the gates.
struct Reference {
    log: VecDeque<Vec<u8>>,
    first: u64,
    attached: [Option<Attached>; GATES],
}

impl Reference {
    fn end(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    /// What a producer knows of the gates: their cursors, or where they joined.
    fn lowest(&self, producer: usize) -> Option<u64> {
        self.attached
            .iter()
            .flatten()
            .map(|gate| if gate.mapped[producer] { gate.committed } else { gate.joined })
            .min()
    }
}

fn run(capacity: u64, exclusive: bool, steps: Vec<Step>) {
    let partition = Partition::new(capacity);
    let shard = partition.shard();
    let mut producers: Vec<_> =
        (0..PRODUCERS).map(|producer| partition.producer(exclusive, 1 + producer as u32, 0)).collect();
    // Of an exclusive ring the first does all.
    let who = |producer: usize| if exclusive { 0 } else { producer };
    let mut model = Reference { log: VecDeque::new(), first: 0, attached: [None, None, None] };
    let mut generation = 0;
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Publish(producer, bytes) => {
                let who = who(producer);
                publish(&partition, &shard, (who, &mut producers[who]), &mut model, number, bytes);
            }
            Step::Read(gate) => read(&mut model, gate),
            Step::Commit(gate, eighths) => {
                let Some(attached) = &mut model.attached[gate] else { continue };
                attached.committed += (attached.read - attached.committed) * eighths / 8;
                attached.reader.commit(attached.committed).unwrap();
                let word =
                    CursorWord::unpack(partition.cursor(gate).load(std::sync::atomic::Ordering::Relaxed));
                assert_eq!(word.position, attached.committed);
            }
            Step::Join(gate, start) => {
                if model.attached[gate].is_some() {
                    continue;
                }
                generation += 1;
                let position = shard.join(gate as u8, generation, &partition.cursor(gate), start);
                match start {
                    Start::Next => assert_eq!(position, model.end()),
                    Start::First => assert_eq!(position, shard.limit().saturating_sub(capacity)),
                    Start::At(wanted) => {
                        let oldest = shard.limit().saturating_sub(capacity);
                        assert_eq!(position, wanted.clamp(oldest, model.end()));
                    }
                }
                let reader = partition.reader(gate, position);
                let (joined, committed, read, mapped) = (position, position, position, [false; PRODUCERS]);
                model.attached[gate] = Some(Attached { reader, generation, joined, committed, read, mapped });
            }
            Step::Leave(gate) => {
                if model.attached[gate].take().is_some() {
                    shard.leave(gate as u8);
                }
            }
            Step::Map(producer, gate) => {
                let Some(attached) = &mut model.attached[gate] else { continue };
                attached.mapped[who(producer)] = true;
                partition.map(&mut producers[who(producer)], gate, attached.generation);
            }
            Step::Succeed(producer) => {
                let who = who(producer);
                producers[who] = partition.producer(exclusive, 10 + number as u32, shard.end());
                model.attached.iter_mut().flatten().for_each(|attached| attached.mapped[who] = false);
            }
        }
        if exclusive {
            assert_eq!(producers[0].position(), model.end());
        }
        assert_eq!(shard.end(), model.end());
        assert!(shard.limit() <= model.end() + capacity, "the limit ran away");
    }
}

fn publish(
    partition: &Partition,
    shard: &ShardRing<Mapped>,
    (who, producer): (usize, &mut Producer<Mapped>),
    model: &mut Reference,
    number: usize,
    bytes: usize,
) {
    let capacity = partition.geometry.capacity();
    let payload = vec![number as u8; bytes];
    let limit_before = shard.limit();
    match producer.publish(&Outgoing::inline(&payload)) {
        Ok(position) => {
            assert_eq!(position, model.end());
            model.log.push_back(payload);
            if model.log.len() as u64 > capacity {
                model.log.pop_front();
                model.first += 1;
            }
            let held = model.attached.iter().flatten().map(|gate| gate.committed).min();
            assert!(held.is_none_or(|held| position < held + capacity), "the ring went over a gate");
        }
        Err(PublishError::TooLarge { bytes_max, .. }) => {
            assert_eq!(bytes_max, 48);
            assert!(bytes > 48);
        }
        Err(PublishError::Full(full)) => {
            assert_eq!(Some(full.holder.position), model.lowest(who));
            assert!(model.end() >= full.holder.position + capacity, "full without a reason");
            assert!(limit_before <= model.end(), "full below the limit");
        }
        Err(error) => panic!("{error}"),
    }
}

fn read(model: &mut Reference, gate: usize) {
    let (first, end) = (model.first, model.end());
    let Some(attached) = &mut model.attached[gate] else { return };
    let mut buffer = [0; 48];
    assert_eq!(attached.reader.has_next(), attached.read < end);
    match attached.reader.read(&mut buffer).unwrap() {
        None => assert_eq!(attached.read, end, "a message is missing"),
        Some(received) => {
            assert_eq!(received.position, attached.read);
            let expected = &model.log[(attached.read - first) as usize];
            assert_eq!(received.payload(&buffer), Part::Inline(expected));
            attached.read += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ring_does_what_a_queue_with_gates_does(shift in 1_u32..=4, exclusive: bool, steps in steps()) {
        run(1 << shift, exclusive, steps);
    }
}

/// A consumer can write what it likes into its cursor.
#[test]
fn a_cursor_ahead_of_the_log_does_not_carry_the_limit_away() {
    let partition = Partition::new(4);
    let shard = partition.shard();
    let mut producer = partition.producer(true, 1, 0);
    shard.join(0, 1, &partition.cursor(0), Start::First);
    partition.map(&mut producer, 0, 1);
    let ahead = CursorWord { position: 1 << 40, pinned: false, live: true, generation: 0 };
    partition.cursor(0).store(ahead.pack(), std::sync::atomic::Ordering::Relaxed);
    for position in 0..10 {
        assert_eq!(producer.publish(&Outgoing::inline(b"x")), Ok(position));
        assert_eq!(shard.end(), position + 1, "the end is found where it is");
    }
    assert!(shard.limit() <= 14);
}

#[test]
fn a_subscription_at_a_position_yet_to_come_begins_behind_the_newest_message() {
    let partition = Partition::new(4);
    let shard = partition.shard();
    let mut producer = partition.producer(true, 1, 0);
    producer.publish(&Outgoing::inline(b"x")).unwrap();
    assert_eq!(shard.join(0, 1, &partition.cursor(0), Start::At(u64::MAX)), 1);
}
