//! What the loom models share: the ring's memory made of loom's atomics and cells, and a count of executions.
//!
//! 1. The code under exploration is the production code of `ringway_shm_protocol::ring`; only the memory differs.
//! 2. A body is a `loom::cell::UnsafeCell`: a copy that races with another is reported, whatever bytes it yields. Where
//!    readers validate, such races are meant to be; there a body is made of relaxed atomics ([`Bodies::Racing`]).
//! 3. A bell never wakes for no reason and knows no timeout: a lost wake-up is a deadlock, which loom reports.
//! 4. A model can be run with one ordering taken out ([`Weak`], [`NoFullFence`], [`NoReleaseFence`],
//!    [`NoAcquireFence`]). Such a mutant must fail: a model that no mutant fails proves nothing about that ordering.
//! 5. Loom 0.7 remembers only the *last* access to an atomic when it looks for executions to try. A thread's own
//!    load before its exchange hides another thread's load from it, and whole families of executions are never
//!    tried. Where several threads load a word, every load therefore takes a [turn](LoomWord::take_turn) first:
//!    turns conflict with one another, so loom tries every order of the loads, and from these finds the rest.

// Every test binary uses a part of this.
#![allow(dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::sync::{Condvar, Mutex};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::memory::{Bell, Memory, Slots, Word, Words};
use ringway_shm_protocol::ring::shard::ShardRing;
use ringway_shm_protocol::ring::{
    CursorReader, Doorbell, ExclusiveProducer, Gates, Hazards, Outgoing, Part, Room, SharedProducer,
};
use ringway_shm_protocol::words::CursorWord;

/// Bytes of a slot in the models, and of a body.
const SLOT_BYTES: u32 = 64;
pub(crate) const BODY_BYTES: usize = 48;
/// A sleep that never ends by itself; [`LoomBell`] ignores it.
pub(crate) const FOR_EVER: Duration = Duration::MAX;

/// What a word is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Slot,
    Limit,
    Cursor,
    Active,
    Mirror,
    Announce,
    Tail,
    /// The bit set of the hazards, and their positions.
    Hazard,
    Claim,
    /// The words of a feed's records, and of settlements.
    Record,
    Called,
    /// How many settlements there are, and how many are judged.
    Count,
    Watch,
}

/// Which ordering a mutant lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weak {
    /// None: the production code.
    Nothing,
    /// Stores and exchanges of these words do not release.
    Release(Role),
    /// Loads and exchanges of these words do not acquire.
    Acquire(Role),
    /// Exchanges of these words do not release; stores do.
    ExchangeRelease(Role),
    /// Exchanges of these words do not acquire; loads do.
    ExchangeAcquire(Role),
}

/// An atomic word of loom that knows its role and may be weakened.
pub(crate) struct LoomWord {
    word: AtomicU64,
    /// Where loads take turns.
    turn: Option<AtomicU32>,
    role: Role,
    weak: Weak,
}

impl LoomWord {
    pub(crate) fn new(role: Role, weak: Weak, turns: &[Role]) -> Self {
        let turn = turns.contains(&role).then(|| AtomicU32::new(0));
        Self { word: AtomicU64::new(0), turn, role, weak }
    }

    /// An exchange that always fails: for loom in conflict with every other, and without any effect on what
    /// is ordered behind what (a failed relaxed exchange is a relaxed load of the first value).
    fn take_turn(&self) {
        if let Some(turn) = &self.turn {
            assert_eq!(turn.compare_exchange(1, 1, Ordering::Relaxed, Ordering::Relaxed), Err(0));
        }
    }

    fn weaken_exchange(&self, order: Ordering) -> Ordering {
        match (self.weaken(order), self.weak) {
            (Ordering::AcqRel, Weak::ExchangeRelease(role)) if role == self.role => Ordering::Acquire,
            (Ordering::AcqRel, Weak::ExchangeAcquire(role)) if role == self.role => Ordering::Release,
            (order, _) => order,
        }
    }

    fn weaken(&self, order: Ordering) -> Ordering {
        use Ordering::{AcqRel, Acquire, Relaxed, Release};
        match order {
            AcqRel if self.weak == Weak::Release(self.role) => Acquire,
            AcqRel if self.weak == Weak::Acquire(self.role) => Release,
            Release if self.weak == Weak::Release(self.role) => Relaxed,
            Acquire if self.weak == Weak::Acquire(self.role) => Relaxed,
            order => order,
        }
    }
}

impl Word for LoomWord {
    fn load(&self, order: Ordering) -> u64 {
        self.take_turn();
        self.word.load(self.weaken(order))
    }

    fn store(&self, value: u64, order: Ordering) {
        self.word.store(value, self.weaken(order));
    }

    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.word.compare_exchange(current, new, self.weaken_exchange(success), self.weaken(failure))
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.word.fetch_add(value, self.weaken(order))
    }

    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.word.fetch_or(bits, self.weaken(order))
    }

    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.word.fetch_and(bits, self.weaken(order))
    }
}

/// A futex: the lock is the kernel's lock of the hash bucket, under which a waiter compares and a waker wakes.
#[derive(Clone)]
pub(crate) struct LoomBell(Arc<(AtomicU32, Mutex<()>, Condvar)>);

impl Bell for LoomBell {
    fn count(&self) -> u32 {
        self.0.0.load(Ordering::Relaxed)
    }

    fn ring(&self) {
        let (word, lock, waiters) = &*self.0;
        word.fetch_add(1, Ordering::Release);
        let _bucket = lock.lock().unwrap();
        waiters.notify_all();
    }

    fn wait(&self, count: u32, _at_most: Duration) {
        let (word, lock, waiters) = &*self.0;
        let bucket = lock.lock().unwrap();
        if word.load(Ordering::Relaxed) == count {
            drop(waiters.wait(bucket).unwrap());
        }
    }
}

/// What bodies are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bodies {
    /// Cells: no copy may race with another.
    Checked,
    /// Relaxed atomics: a race yields a mixture.
    Racing,
}

enum Body {
    Checked(UnsafeCell<[u8; BODY_BYTES]>),
    /// One word for each byte, as far as the payloads of such models go.
    Racing(Vec<AtomicU32>),
}

/// Bytes of a body that races.
const RACING_BYTES: usize = 16;

impl Body {
    fn new(bodies: Bodies) -> Self {
        match bodies {
            Bodies::Checked => Self::Checked(UnsafeCell::new([0; BODY_BYTES])),
            Bodies::Racing => Self::Racing((0..RACING_BYTES).map(|_| AtomicU32::new(0)).collect()),
        }
    }
}

struct Slot {
    word: LoomWord,
    header: LoomWord,
    body: Body,
}

// SAFETY: the body is a `loom::cell::UnsafeCell`: loom itself reports when two threads touch it at the same time.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

/// What a thread unwinds with when a producer's [`Death`] strikes.
pub(crate) struct Died;

/// When a producer dies in the middle of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    Never,
    /// In the message at this position.
    At(u64),
    /// In its first message, wherever that is.
    First,
}

/// The slots of a modelled ring.
#[derive(Clone)]
pub(crate) struct LoomSlots {
    slots: Arc<Vec<Slot>>,
    geometry: Geometry,
    death: Death,
}

impl LoomSlots {
    fn at(&self, index: u64) -> &Slot {
        &self.slots[self.geometry.index(index) as usize]
    }

    /// The same slots for a producer that dies.
    pub(crate) fn with_death(&self, death: Death) -> Self {
        Self { death, ..self.clone() }
    }
}

impl Slots for LoomSlots {
    type Word = LoomWord;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn word(&self, index: u64) -> &LoomWord {
        &self.at(index).word
    }

    fn header(&self, index: u64) -> &LoomWord {
        &self.at(index).header
    }

    fn write(&self, index: u64, offset: usize, part: &[u8]) {
        let dies = self.death == Death::First || self.death == Death::At(index);
        let written = if dies { part.len() / 2 } else { part.len() };
        let part = &part[..written];
        match &self.at(index).body {
            Body::Checked(body) => body.with_mut(|body| {
                // SAFETY: the pointer is valid in this closure, and loom has checked that nobody else is here.
                let body = unsafe { &mut *body };
                body[offset..offset + written].copy_from_slice(part);
            }),
            Body::Racing(words) => {
                for (word, byte) in words[offset..offset + written].iter().zip(part) {
                    word.store((*byte).into(), Ordering::Relaxed);
                }
            }
        }
        if dies {
            std::panic::resume_unwind(Box::new(Died));
        }
    }

    fn read(&self, index: u64, into: &mut [u8]) {
        match &self.at(index).body {
            Body::Checked(body) => body.with(|body| {
                // SAFETY: as for write; shared access.
                let body = unsafe { &*body };
                into.copy_from_slice(&body[..into.len()]);
            }),
            Body::Racing(words) => {
                for (byte, word) in into.iter_mut().zip(words) {
                    *byte = word.load(Ordering::Relaxed) as u8;
                }
            }
        }
    }

    fn prefetch_for_write(&self, _index: u64, _bytes: usize) {}

    fn prefetch_for_read(&self, _index: u64) {}
}

/// A row of words.
#[derive(Clone)]
pub(crate) struct LoomWords(Arc<Vec<LoomWord>>);

impl LoomWords {
    pub(crate) fn new(count: usize, role: Role, weak: Weak, turns: &[Role]) -> Self {
        Self(Arc::new((0..count).map(|_| LoomWord::new(role, weak, turns)).collect()))
    }
}

impl Words for LoomWords {
    type Word = LoomWord;

    fn at(&self, index: u64) -> &LoomWord {
        &self.0[index as usize % self.0.len()]
    }
}

/// Loom's memory; the parameters say whether the fences do anything.
pub(crate) enum Loom<const FULL_FENCE: bool, const RELEASE_FENCE: bool, const ACQUIRE_FENCE: bool> {}
/// Memory as it should be.
pub(crate) type Sound = Loom<true, true, true>;
/// The fence of the waking protocol does nothing.
pub(crate) type NoFullFence = Loom<false, true, true>;
/// The fence behind the reservation of a slot does nothing.
pub(crate) type NoReleaseFence = Loom<true, false, true>;
/// The fence between a copy and the second look at its slot does nothing.
pub(crate) type NoAcquireFence = Loom<true, true, false>;

impl<const FULL_FENCE: bool, const RELEASE_FENCE: bool, const ACQUIRE_FENCE: bool> Memory
    for Loom<FULL_FENCE, RELEASE_FENCE, ACQUIRE_FENCE>
{
    type Word = LoomWord;
    type WordHandle = Arc<LoomWord>;
    type Bell = LoomBell;
    type Slots = LoomSlots;
    type Words = LoomWords;

    fn full_fence() {
        if FULL_FENCE {
            fence(Ordering::SeqCst);
        }
    }

    fn release_fence() {
        if RELEASE_FENCE {
            fence(Ordering::Release);
        }
    }

    fn acquire_fence() {
        if ACQUIRE_FENCE {
            fence(Ordering::Acquire);
        }
    }

    // Time does not exist here: whoever may run next, loom tries them all.
    fn pause(_hints: u32) {}
}

/// What [`World`]'s memory families have in common.
pub(crate) trait LoomMemory: 'static
    + Memory<Word = LoomWord, WordHandle = Arc<LoomWord>, Bell = LoomBell, Slots = LoomSlots, Words = LoomWords>
{
}

impl<M> LoomMemory for M where
    M: 'static
        + Memory<
            Word = LoomWord,
            WordHandle = Arc<LoomWord>,
            Bell = LoomBell,
            Slots = LoomSlots,
            Words = LoomWords,
        >
{
}

/// One partition with up to two subscriptions: every region of it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) slots: LoomSlots,
    pub(crate) limit: Arc<LoomWord>,
    tail: Arc<LoomWord>,
    pub(crate) active: Arc<LoomWord>,
    pub(crate) mirrors: Vec<Arc<LoomWord>>,
    pub(crate) cursors: Vec<Arc<LoomWord>>,
    /// The bit set and the one hazard of each subscription.
    hazards: Vec<(Arc<LoomWord>, Arc<LoomWord>)>,
    data: (Arc<LoomWord>, LoomBell),
    space: (Arc<LoomWord>, LoomBell),
}

impl World {
    /// An empty ring of `capacity` slots with room for two gates; `turns` are the words that several threads load.
    pub(crate) fn new(capacity: u64, weak: Weak, turns: &[Role]) -> Self {
        Self::with_bodies(capacity, weak, turns, Bodies::Checked)
    }

    /// The same with a choice of what bodies are made of.
    pub(crate) fn with_bodies(capacity: u64, weak: Weak, turns: &[Role], bodies: Bodies) -> Self {
        let word = |role| LoomWord::new(role, weak, turns);
        let slot = |_| Slot { word: word(Role::Slot), header: word(Role::Slot), body: Body::new(bodies) };
        let bell = || LoomBell(Arc::new((AtomicU32::new(0), Mutex::new(()), Condvar::new())));
        let slots = LoomSlots {
            slots: Arc::new((0..capacity).map(slot).collect()),
            geometry: Geometry::new(capacity, SLOT_BYTES).unwrap(),
            death: Death::Never,
        };
        Self {
            slots,
            limit: Arc::new(word(Role::Limit)),
            tail: Arc::new(word(Role::Tail)),
            active: Arc::new(word(Role::Active)),
            mirrors: (0..2).map(|_| Arc::new(word(Role::Mirror))).collect(),
            cursors: (0..2).map(|_| Arc::new(word(Role::Cursor))).collect(),
            hazards: (0..2).map(|_| (Arc::new(word(Role::Hazard)), Arc::new(word(Role::Hazard)))).collect(),
            data: (Arc::new(word(Role::Announce)), bell()),
            space: (Arc::new(word(Role::Announce)), bell()),
        }
    }

    /// The shard's handles.
    pub(crate) fn shard<M: LoomMemory>(&self) -> ShardRing<M> {
        ShardRing::new(self.slots.clone(), self.limit.clone(), self.active.clone(), self.mirrors.clone())
    }

    /// The gates as a producer sees them that has mapped the first `mapped`.
    pub(crate) fn gates<M: LoomMemory>(&self, mapped: u8) -> Gates<M> {
        let mut gates = Gates::new(self.active.clone(), self.mirrors.clone());
        for gate in 0..mapped {
            gates.map(gate, 1, self.cursors[usize::from(gate)].clone(), self.hazards(gate));
        }
        gates
    }

    /// The room of a producer that retains.
    pub(crate) fn room<M: LoomMemory>(&self, mapped: u8) -> Room<M> {
        Room::retaining(self.slots.geometry, self.limit.clone(), self.gates(mapped))
    }

    /// The same where readers may be detached while they read.
    pub(crate) fn detaching_room<M: LoomMemory>(&self, mapped: u8) -> Room<M> {
        Room::detaching(self.slots.geometry, self.limit.clone(), self.gates(mapped))
    }

    /// The room of a producer that drops the oldest.
    pub(crate) fn dropping_room<M: LoomMemory>(&self) -> Room<M> {
        Room::dropping(self.slots.geometry, self.limit.clone(), self.gates(0))
    }

    /// The word of the tail hint.
    pub(crate) fn tail(&self) -> Arc<LoomWord> {
        self.tail.clone()
    }

    /// An exclusive producer that has mapped the cursors of the first `mapped` gates.
    pub(crate) fn producer<M: LoomMemory>(
        &self,
        owner: u32,
        position: u64,
        mapped: u8,
    ) -> ExclusiveProducer<M> {
        ExclusiveProducer::new(self.slots.clone(), self.room(mapped), owner, position)
    }

    /// One of several producers, which has mapped the cursors of the first `mapped` gates.
    pub(crate) fn shared<M: LoomMemory>(&self, owner: u32, position: u64, mapped: u8) -> SharedProducer<M> {
        SharedProducer::new(self.slots.clone(), self.room(mapped), self.tail.clone(), owner, position)
    }

    /// The hazards of subscription `gate`.
    pub(crate) fn hazards<M: LoomMemory>(&self, gate: u8) -> Hazards<M> {
        let (active, word) = self.hazards[usize::from(gate)].clone();
        Hazards::new(active, vec![word])
    }

    /// The reader of subscription `gate`, which joined at `position`.
    pub(crate) fn reader<M: LoomMemory>(&self, gate: u8, position: u64) -> CursorReader<M> {
        self.any_reader(gate, position, false)
    }

    /// The reader of subscription `gate` for whom producers do not wait.
    pub(crate) fn validating_reader<M: LoomMemory>(&self, gate: u8, position: u64) -> CursorReader<M> {
        self.any_reader(gate, position, true)
    }

    fn any_reader<M: LoomMemory>(&self, gate: u8, position: u64, validates: bool) -> CursorReader<M> {
        let committed = CursorWord { position, pinned: false, live: true, generation: 0 };
        let cursor = self.cursors[usize::from(gate)].clone();
        CursorReader::new(self.slots.clone(), cursor, committed, validates)
    }

    /// The doorbell of consumers that wait for data.
    pub(crate) fn data<M: LoomMemory>(&self) -> Doorbell<M> {
        Doorbell::new(self.data.0.clone(), self.data.1.clone())
    }

    /// The doorbell of producers that wait for space.
    pub(crate) fn space<M: LoomMemory>(&self) -> Doorbell<M> {
        Doorbell::new(self.space.0.clone(), self.space.1.clone())
    }
}

/// The message at `position` in every model: its length differs from its neighbours', too.
pub(crate) fn message(position: u64) -> Vec<u8> {
    vec![position as u8 + 1; 2 + position as usize]
}

/// The same, to be published.
pub(crate) fn outgoing(payload: &[u8]) -> Outgoing<'_> {
    Outgoing::inline(payload)
}

/// Reads what is there; its position and its payload if there was something.
pub(crate) fn read_any<M: LoomMemory>(reader: &mut CursorReader<M>) -> Option<(u64, Vec<u8>)> {
    let mut buffer = [0; BODY_BYTES];
    let received = reader.read(&mut buffer).expect("the ring keeps what a gate protects")?;
    match received.payload(&buffer) {
        Part::Inline(payload) => Some((received.position, payload.to_vec())),
        Part::Arena(block) => panic!("{block:?} in a model without arenas"),
    }
}

/// Reads what is there and checks it; the position if there was something.
pub(crate) fn read_intact<M: LoomMemory>(reader: &mut CursorReader<M>) -> Option<u64> {
    let (position, payload) = read_any(reader)?;
    assert_eq!(payload, message(position), "torn or foreign message");
    Some(position)
}

/// Explores every execution of `model` and returns how many there were.
pub(crate) fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) -> usize {
    explore_within(name, None, model)
}

/// The same with at most `preemptions` preemptions of a thread per execution, where more cannot be afforded.
pub(crate) fn explore_within(
    name: &str,
    preemptions: Option<usize>,
    model: impl Fn() + Send + Sync + 'static,
) -> usize {
    let executions = Arc::new(AtomicUsize::new(0));
    run(&executions, preemptions, model);
    let executions = executions.load(Ordering::Relaxed);
    match preemptions {
        None => println!("model {name}: {executions} executions"),
        Some(bound) => println!("model {name}: {executions} executions (at most {bound} preemptions)"),
    }
    executions
}

/// Asserts that exploring a mutant finds a fault whose message holds one of `expected`.
pub(crate) fn finds_fault(name: &str, expected: &[&str], mutant: impl Fn() + Send + Sync + 'static) {
    finds_fault_within(name, None, expected, mutant);
}

/// The same with at most `preemptions` preemptions of a thread per execution.
pub(crate) fn finds_fault_within(
    name: &str,
    preemptions: Option<usize>,
    expected: &[&str],
    mutant: impl Fn() + Send + Sync + 'static,
) {
    let executions = Arc::new(AtomicUsize::new(0));
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&executions, preemptions, mutant)));
    let executions = executions.load(Ordering::Relaxed);
    let Err(fault) = outcome else {
        panic!("mutant {name} survived all {executions} executions");
    };
    let text = (fault.downcast_ref::<String>().map(String::as_str))
        .or_else(|| fault.downcast_ref::<&str>().copied())
        .unwrap_or("a fault without a message");
    println!("mutant {name}: found in execution {executions}: {}", text.lines().next().unwrap_or_default());
    assert!(
        expected.iter().any(|part| text.contains(part)),
        "mutant {name} failed for another reason: {text}"
    );
}

fn run(executions: &Arc<AtomicUsize>, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let counted = Arc::clone(executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
}
