//! The waking protocol on real processors: two threads pass a few messages to and fro, sleep whenever there is none, and
//! vary their timing at random so that the one publishes while the other falls asleep.
//!
//! The interesting messages are the later ones of a turn: the publisher has just read the announcements, so that its next
//! look at them is quick, while its stores have to take the slot's lines from the other first, many of them if the message
//! is long. Without a fence the look then overtakes the last store.
//!
//! A sleep is bounded by 0.2 s; one that ends by its time although there was something to read has missed its
//! wake-up. Without the fence (which the protocol needs on every processor that lets a load pass an earlier store) the
//! same run finds lost wake-ups: that shows that it can.

use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use ringway_shm_protocol::layout::{self, Geometry, RegionKind};
use ringway_shm_protocol::memory::bell::MappedBell;
use ringway_shm_protocol::memory::mapped::{
    Identity, Mapped, MappedSlots, MappedWord, MappedWords, OwnedRegion, Region,
};
use ringway_shm_protocol::memory::{Memory, Word};
use ringway_shm_protocol::ring::{CursorReader, Doorbell, ExclusiveProducer, Gates, Outgoing, Ringer, Room};
use ringway_shm_protocol::words::CursorWord;

/// A sleep that lasts so long has missed its wake-up.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// After so many lost wake-ups an end has seen enough.
const LOST_MAX: u64 = 100;
/// Slots of each ring, and bytes of each.
const CAPACITY: u64 = 16;
const SLOT_BYTES: u32 = 4096;
/// Most bytes of a message.
const PAYLOAD_BYTES_MAX: u64 = 4000;
/// Most of the processor's hints between two messages of a turn: the other wakes up, reads and falls asleep again within.
const HINTS_MAX: u64 = 1024;
/// Most messages of a turn.
const TURN_MAX: u64 = 8;
/// Flag of a message: its sender has slept enough.
const ENOUGH: u8 = 1;
/// Flag of a message: another follows in this turn.
const MORE: u8 = 2;

/// What a run found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// How often somebody fell asleep: announced, looked again, and found nothing.
    pub sleeps: u64,
    /// Sleeps that ended by their time although there was a message.
    pub lost: u64,
}

/// Mapped memory whose full fence does nothing to the processor.
enum Fenceless {}

impl Memory for Fenceless {
    type Word = <Mapped as Memory>::Word;
    type WordHandle = MappedWord;
    type Bell = MappedBell;
    type Slots = MappedSlots;
    type Words = MappedWords;

    fn full_fence() {
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    fn release_fence() {
        Mapped::release_fence();
    }

    fn acquire_fence() {
        Mapped::acquire_fence();
    }

    fn pause(hints: u32) {
        Mapped::pause(hints);
    }
}

/// Runs until there were `sleeps` sleeps, with timing by `seed`; `fenceless`: without the fence.
pub fn run(sleeps: u64, seed: u64, fenceless: bool) -> Found {
    if fenceless { run_in::<Fenceless>(sleeps, seed) } else { run_in::<Mapped>(sleeps, seed) }
}

fn run_in<M>(sleeps: u64, seed: u64) -> Found
where
    M: Memory<WordHandle = MappedWord, Bell = MappedBell, Slots = MappedSlots>,
    M::Word: Word,
    MappedWord: std::ops::Deref<Target = M::Word>,
{
    let (there, back) = (Ring::new(), Ring::new());
    let start = Barrier::new(2);
    let each = sleeps.div_ceil(2);
    thread::scope(|scope| {
        let far = scope.spawn(|| {
            let mut end = End::<M>::new(&back, &there, seed ^ 0x9e37_79b9_7f4a_7c15);
            start.wait();
            end.play(each, false)
        });
        let mut end = End::<M>::new(&there, &back, seed | 1);
        start.wait();
        let near = end.play(each, true);
        let far = far.join().expect("no end of a ring panics");
        Found { sleeps: near.sleeps + far.sleeps, lost: near.lost + far.lost }
    })
}

/// One direction's memory.
struct Ring {
    geometry: Geometry,
    slots: OwnedRegion,
    producers: OwnedRegion,
    meta: OwnedRegion,
    subscription: OwnedRegion,
    doorbell: OwnedRegion,
}

impl Ring {
    fn new() -> Self {
        let geometry = Geometry::new(CAPACITY, SLOT_BYTES).expect("the size is possible");
        let make = |kind, bytes| {
            OwnedRegion::create(Identity { kind, incarnation: 1, bytes }).expect("there is memory")
        };
        Self {
            geometry,
            slots: make(RegionKind::Slots, geometry.slots_region_bytes()),
            producers: make(RegionKind::Producers, layout::producers::BYTES),
            meta: make(RegionKind::Meta, layout::meta::BYTES),
            subscription: make(RegionKind::Subscription, layout::subscription::BYTES),
            doorbell: make(RegionKind::Doorbell, layout::doorbell::BYTES),
        }
    }

    fn doorbell<M: Memory<WordHandle = MappedWord, Bell = MappedBell>>(&self) -> Doorbell<M> {
        let region: &std::sync::Arc<Region> = self.doorbell.region();
        Doorbell::new(region.word(layout::doorbell::DATA_ANNOUNCE), region.bell(layout::doorbell::DATA_BELL))
    }
}

/// One of the two.
struct End<M: Memory> {
    producer: ExclusiveProducer<M>,
    out: Doorbell<M>,
    ringer: Ringer,
    reader: CursorReader<M>,
    into: Doorbell<M>,
    state: u64,
}

impl<M> End<M>
where
    M: Memory<WordHandle = MappedWord, Bell = MappedBell, Slots = MappedSlots>,
{
    fn new(out: &Ring, into: &Ring, seed: u64) -> Self {
        let gates = Gates::new(out.meta.region().word(layout::meta::GATES_ACTIVE), Vec::new());
        let limit = out.producers.region().word(layout::producers::LIMIT);
        let slots = out.slots.region().slots(out.geometry);
        let producer = ExclusiveProducer::new(slots, Room::retaining(out.geometry, limit, gates), 1, 0);
        let cursor = CursorWord { position: 0, pinned: false, live: true, generation: 0 };
        let word = into.subscription.region().word(layout::subscription::CURSOR);
        let reader = CursorReader::new(into.slots.region().slots(into.geometry), word, cursor, false);
        let (out, into) = (out.doorbell(), into.doorbell());
        Self { producer, out, ringer: Ringer::default(), reader, into, state: seed }
    }

    /// Sends and receives in turn until it has slept so often, and then until the other has, too.
    fn play(&mut self, sleeps: u64, serves: bool) -> Found {
        let mut found = Found::default();
        let mut buffer = [0; SLOT_BYTES as usize];
        if serves {
            self.send(0);
        }
        loop {
            let over = loop {
                match self.reader.read(&mut buffer).expect("the ring is sound") {
                    Some(_) if buffer[0] & MORE != 0 => {}
                    Some(_) => break buffer[0] & ENOUGH != 0,
                    None => self.sleep(&mut found),
                }
            };
            for _ in 0..self.random() % TURN_MAX {
                self.send(MORE);
                self.dawdle();
            }
            // Who has slept enough says so; who is told and has, too, says it a last time and ends.
            let enough = found.sleeps >= sleeps || found.lost >= LOST_MAX;
            self.send(if enough { ENOUGH } else { 0 });
            if enough && over {
                return found;
            }
        }
    }

    fn send(&mut self, flags: u8) {
        let bytes = 1 + self.random() % PAYLOAD_BYTES_MAX;
        let payload = [flags; PAYLOAD_BYTES_MAX as usize + 1];
        self.producer.publish(&Outgoing::inline(&payload[..bytes as usize])).expect("nothing holds it");
        self.ringer.ring(&self.out);
    }

    fn sleep(&mut self, found: &mut Found) {
        self.dawdle();
        let (reader, mut slept) = (&self.reader, false);
        let began = Instant::now();
        self.into.sleep_unless(LOST_AFTER, || {
            slept = !reader.has_next();
            !slept
        });
        found.sleeps += u64::from(slept);
        found.lost += u64::from(slept && began.elapsed() >= LOST_AFTER && reader.has_next());
    }

    /// Lets a random time pass, short ones more often.
    fn dawdle(&mut self) {
        let random = self.random();
        let most = HINTS_MAX >> (random >> 32 & 7);
        for _ in 0..random % (most + 1) {
            std::hint::spin_loop();
        }
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}
