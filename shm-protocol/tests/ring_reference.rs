//! The ring on mapped memory against an obvious model: a queue of what was published, and where each gate stands.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use proptest::prelude::*;
use ringway_shm_protocol::layout::{self, Geometry, RegionKind};
use ringway_shm_protocol::memory::mapped::{Identity, Mapped, MappedWord, OwnedRegion};
use ringway_shm_protocol::ring::shard::{ShardRing, Start};
use ringway_shm_protocol::ring::{CursorReader, ExclusiveProducer, Gates, PublishError};
use ringway_shm_protocol::words::CursorWord;

const GATES: usize = 3;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Publish a payload of so many bytes, a few too many among them.
    Publish(usize),
    Read(usize),
    /// Commit so many parts of eight of what was read.
    Commit(usize, u64),
    Join(usize, Start),
    Leave(usize),
    /// The producer maps the gate's cursor, instead of going by its mirror.
    Map(usize),
    /// The producer closes, another continues at the end; it has mapped nothing.
    Succeed,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let gate = 0..GATES;
    let start = prop_oneof![Just(Start::First), Just(Start::Next), (0_u64..80).prop_map(Start::At)];
    let step = prop_oneof![
        8 => (0_usize..=50).prop_map(Step::Publish),
        6 => gate.clone().prop_map(Step::Read),
        4 => (gate.clone(), 0_u64..=8).prop_map(|(gate, eighths)| Step::Commit(gate, eighths)),
        2 => (gate.clone(), start).prop_map(|(gate, start)| Step::Join(gate, start)),
        1 => gate.clone().prop_map(Step::Leave),
        2 => gate.prop_map(Step::Map),
        1 => Just(Step::Succeed),
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

    fn producer(&self, owner: u32, position: u64) -> ExclusiveProducer<Mapped> {
        let gates = Gates::new(self.active(), self.mirrors());
        let slots = self.slots.region().slots(self.geometry);
        ExclusiveProducer::new(slots, self.limit(), gates, owner, position)
    }

    fn shard(&self) -> ShardRing<Mapped> {
        let slots = self.slots.region().slots(self.geometry);
        ShardRing::new(slots, self.limit(), self.active(), self.mirrors())
    }

    fn reader(&self, gate: usize, position: u64) -> CursorReader<Mapped> {
        let committed = CursorWord { position, pinned: false, live: true, generation: 0 };
        CursorReader::new(self.slots.region().slots(self.geometry), self.cursor(gate), committed)
    }
}

/// A subscription as the model sees it, beside the real reader.
struct Attached {
    reader: CursorReader<Mapped>,
    generation: u16,
    joined: u64,
    committed: u64,
    read: u64,
    mapped: bool,
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

    /// What the producer knows of a gate: its cursor, or where it joined.
    fn lowest(&self) -> Option<u64> {
        self.attached
            .iter()
            .flatten()
            .map(|gate| if gate.mapped { gate.committed } else { gate.joined })
            .min()
    }
}

fn run(capacity: u64, steps: Vec<Step>) {
    let partition = Partition::new(capacity);
    let shard = partition.shard();
    let mut producer = partition.producer(1, 0);
    let mut model = Reference { log: VecDeque::new(), first: 0, attached: [None, None, None] };
    let mut generation = 0;
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Publish(bytes) => publish(&partition, &shard, &mut producer, &mut model, number, bytes),
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
                let (joined, committed, read, mapped) = (position, position, position, false);
                model.attached[gate] = Some(Attached { reader, generation, joined, committed, read, mapped });
            }
            Step::Leave(gate) => {
                if model.attached[gate].take().is_some() {
                    shard.leave(gate as u8);
                }
            }
            Step::Map(gate) => {
                let Some(attached) = &mut model.attached[gate] else { continue };
                attached.mapped = true;
                producer.gates().map(gate as u8, attached.generation, partition.cursor(gate));
            }
            Step::Succeed => {
                producer = partition.producer(2 + number as u32, shard.end());
                model.attached.iter_mut().flatten().for_each(|attached| attached.mapped = false);
            }
        }
        assert_eq!(producer.position(), model.end());
        assert_eq!(shard.end(), model.end());
        assert!(shard.limit() <= model.end() + capacity, "the limit ran away");
    }
}

fn publish(
    partition: &Partition,
    shard: &ShardRing<Mapped>,
    producer: &mut ExclusiveProducer<Mapped>,
    model: &mut Reference,
    number: usize,
    bytes: usize,
) {
    let capacity = partition.geometry.capacity();
    let payload = vec![number as u8; bytes];
    let limit_before = shard.limit();
    match producer.publish(&payload) {
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
            assert_eq!(Some(full.holder.position), model.lowest());
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
            assert_eq!(buffer[..received.payload_bytes], expected[..]);
            attached.read += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ring_does_what_a_queue_with_gates_does(shift in 1_u32..=4, steps in steps()) {
        run(1 << shift, steps);
    }
}

/// A consumer can write what it likes into its cursor.
#[test]
fn a_cursor_ahead_of_the_log_does_not_carry_the_limit_away() {
    let partition = Partition::new(4);
    let shard = partition.shard();
    let mut producer = partition.producer(1, 0);
    shard.join(0, 1, &partition.cursor(0), Start::First);
    producer.gates().map(0, 1, partition.cursor(0));
    let ahead = CursorWord { position: 1 << 40, pinned: false, live: true, generation: 0 };
    partition.cursor(0).store(ahead.pack(), std::sync::atomic::Ordering::Relaxed);
    for position in 0..10 {
        assert_eq!(producer.publish(b"x"), Ok(position));
        assert_eq!(shard.end(), position + 1, "the end is found where it is");
    }
    assert!(shard.limit() <= 14);
}

#[test]
fn a_subscription_at_a_position_yet_to_come_begins_behind_the_newest_message() {
    let partition = Partition::new(4);
    let shard = partition.shard();
    let mut producer = partition.producer(1, 0);
    producer.publish(b"x").unwrap();
    assert_eq!(shard.join(0, 1, &partition.cursor(0), Start::At(u64::MAX)), 1);
}
