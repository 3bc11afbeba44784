//! What who only looks at a partition sees, of a sound one and of one that somebody has scribbled over.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use proptest::prelude::*;
use ringway_shm_protocol::layout::{Geometry, RegionHeader, slot};
use ringway_shm_protocol::memory::arena::ArenaView;
use ringway_shm_protocol::memory::mapped::{Access, Identity, OwnedRegion, Region, RegionError, read_only};
use ringway_shm_protocol::partition::{
    MemberRegion, PartitionRegions, ProducerRegions, Publishing, RingIdentity, SharedRegions,
    SubscriptionRegion,
};
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::ring::{Outgoing, Part};
use ringway_shm_protocol::view::{
    HEADER_PARTS, MemberWords, RingView, SLOT_WORD_PARTS, SharedView, SubscriptionView, look_at_arena,
    part_of,
};
use ringway_shm_protocol::words::{ClaimState, SlotState};

const PUBLISHING: Publishing =
    Publishing { exclusive: false, drops: false, detaches: false, journaled: false };

struct Made {
    identity: RingIdentity,
    partition: PartitionRegions,
    subscription: SubscriptionRegion,
    shared: SharedRegions,
    member: MemberRegion,
    arena: OwnedRegion,
}

impl Made {
    fn new() -> Self {
        let identity = RingIdentity { incarnation: 9, geometry: Geometry::new(8, 64).unwrap() };
        let partition = PartitionRegions::create(identity, 0).unwrap();
        let subscription = SubscriptionRegion::create(identity).unwrap();
        partition.ring.join(3, 1, &subscription.cursor, Start::First);
        let shared = SharedRegions::create(&partition, &subscription).unwrap();
        let member = shared.new_member().unwrap();
        let arena = OwnedRegion::create(identity.arena(8192)).unwrap();
        Self { identity, partition, subscription, shared, member, arena }
    }

    fn producer(&self) -> ProducerRegions {
        let descriptors = self.partition.for_producer().unwrap().try_into().unwrap();
        ProducerRegions::open(self.identity, descriptors, PUBLISHING, 5, 0).unwrap()
    }

    fn regions(&self) -> Vec<Arc<OwnedFd>> {
        let mut regions = self.partition.descriptors().to_vec();
        regions.push(self.subscription.descriptor().clone());
        regions.extend(self.shared.descriptors());
        regions.extend([self.member.descriptor().clone(), self.arena.descriptor().clone()]);
        regions
    }

    /// Everything by descriptors that cannot be written to.
    fn view(&self) -> (RingView, SubscriptionView, SharedView) {
        let ring =
            RingView::open(self.identity, self.partition.descriptors().map(|own| read_only(own).unwrap()));
        let ring = ring.unwrap();
        let subscription = read_only(self.subscription.descriptor()).unwrap();
        let subscription = SubscriptionView::open(self.identity, subscription).unwrap();
        let shared = self.shared.descriptors().map(|own| read_only(own).unwrap());
        let shared = SharedView::open(&ring, shared).unwrap();
        (ring, subscription, shared)
    }
}

#[test]
fn a_view_shows_what_is_there() {
    let made = Made::new();
    let mut producer = made.producer();
    for number in 0..5_u8 {
        producer.producer.publish(&Outgoing::inline(&[number; 3])).unwrap();
    }
    let (ring, subscription, shared) = made.view();
    assert_eq!((ring.end(), ring.gates(), ring.limit().position), (5, vec![(3, 1)], 8));
    assert!(ring.tail_hint() <= 5);
    let mut buffer = [0; 48];
    let message = ring.message(4, &mut buffer).unwrap();
    assert_eq!(message.payload(&buffer), Part::Inline(&[4; 3]));
    assert!(ring.holds(0) && ring.holds(4) && !ring.holds(5));
    assert_eq!(ring.message(5, &mut buffer), None);
    assert_eq!(ring.word(5).state, SlotState::Empty);
    let raw = ring.raw(4);
    assert!(raw.is_steady);
    assert_eq!(SLOT_WORD_PARTS.map(|part| part_of(raw.word(slot::WORD), part)), [1, 2, 5]);
    assert_eq!(HEADER_PARTS.map(|part| part_of(raw.word(slot::HEADER), part)), [0, 0, 3]);
    assert_eq!(raw.bytes[slot::BODY..][..3], [4; 3]);
    assert_eq!((subscription.cursor().position, subscription.hazards()), (0, vec![]));
    assert_eq!(shared.live().claim(0), (ClaimState::Free, 0));
    made.shared.live.restore(1, ClaimState::Acked);
    assert_eq!(shared.live().claim(1).0, ClaimState::Acked);
    assert!(ring.doorbells().iter().all(|bell| (bell.announced, bell.rung) == (0, 0)));
    let member = MemberWords::load(made.identity, read_only(made.member.descriptor()).unwrap()).unwrap();
    assert_eq!(member, MemberWords { has_called: false, written: 0, judged: 0, late: 0 });
}

#[test]
fn a_position_whose_slot_may_be_written_anew_is_not_held() {
    let made = Made::new();
    made.partition.ring.leave(3);
    let mut producer = made.producer();
    for _ in 0..12 {
        producer.producer.publish(&Outgoing::inline(b"x")).unwrap();
    }
    let (ring, ..) = made.view();
    assert_eq!(ring.end(), 12);
    assert_eq!(
        (0..14).filter(|position| ring.holds(*position)).collect::<Vec<_>>(),
        (5..12).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_for_reading_only_cannot_be_written_to() {
    let made = Made::new();
    for region in made.regions() {
        let shown = read_only(region).unwrap();
        assert_eq!(rustix::io::pwrite(&shown, b"x", 100), Err(rustix::io::Errno::BADF));
    }
    let shown = read_only(made.arena.descriptor()).unwrap();
    let mapped = Region::open(&shown, made.identity.arena(8192), Access::Write);
    assert!(matches!(mapped, Err(RegionError::System { action: "map", .. })));
}

#[test]
fn a_region_of_another_ring_is_refused() {
    let made = Made::new();
    let other = RingIdentity { incarnation: 8, ..made.identity };
    assert!(RingView::open(other, made.partition.descriptors()).is_err());
    let larger = RingIdentity { geometry: Geometry::new(16, 64).unwrap(), ..made.identity };
    assert!(RingView::open(larger, made.partition.descriptors()).is_err());
    assert!(SubscriptionView::open(made.identity, made.member.descriptor()).is_err());
    assert!(look_at_arena(made.identity, 8192, made.member.descriptor().as_fd()).is_err());
    assert!(look_at_arena(made.identity, 77, made.arena.descriptor().as_fd()).unwrap().is_none());
    let Identity { bytes, .. } = made.identity.arena(8192);
    assert_eq!(bytes, 8192);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_stands_in_memory_nothing_panics(seed: u64, positions in prop::collection::vec(any::<u64>(), 8)) {
        let made = Made::new();
        // All but the headers, which are looked at once, and the geometry, which is compared.
        let mut random = seed;
        for region in made.regions() {
            let bytes = rustix::fs::fstat(&region).unwrap().st_size as usize;
            let scribble: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random ^ random >> 31).to_le_bytes()
            }).collect();
            let first = size_of::<RegionHeader>() + 16;
            rustix::io::pwrite(&region, &scribble[first..bytes], first as u64).unwrap();
        }
        let (ring, subscription, shared) = made.view();
        let mut buffer = [0; 48];
        let arena = look_at_arena(made.identity, 8192, made.arena.descriptor()).unwrap().unwrap();
        let ends = [ring.end(), ring.limit().position, ring.tail_hint(), subscription.cursor().position, 0, u64::MAX];
        for position in positions.into_iter().chain(ends).chain(0..8) {
            ring.word(position);
            ring.raw(position);
            ring.holds(position);
            if let Some(received) = ring.message(position, &mut buffer) {
                for part in [received.attributes(&buffer), received.payload(&buffer)] {
                    if let Some(view) = part.block().and_then(|block| ArenaView::new(&arena, block)) {
                        view.read(0, &mut vec![0; view.len().min(64)]);
                    }
                }
            }
            shared.live().claim(position);
            shared.fed().claim(position);
            ring.unfinished(position.saturating_sub(20)..position, 8);
        }
        ring.gates();
        ring.doorbells();
        ring.watermarks().state();
        subscription.hazards();
        subscription.rounds();
        MemberWords::load(made.identity, made.member.descriptor()).unwrap();
    }
}
