//! What if the power is lost? What if a byte changes?
//!
//! A machine writes a log on a simulated disk and notes what was confirmed, and when. Then the power is lost at some moment:
//! what no completed sync covers is there or not, in parts or whole. What is read again is audited against the notes.

mod backlog;

use std::collections::{BTreeMap, BTreeSet};

use ringway_shm_protocol::attributes::flag;
use ringway_shm_protocol::control::message::{Durability, SharedSettings, StreamKind, StreamSettings};
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::ring::{Outgoing, Part, Received};

use super::disk::Disk;
use super::disk::simulated::{Fails, Random, SimulatedDisk, SimulatedWriter, seeds};
use super::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, SEGMENT_BYTES_MIN, SegmentHeader};
use super::helper::{Job, Outcome, Task};
use super::log::{Log, Progress, Start};
use super::mutations::{Mutation, with};
use super::reading::Reading;
use super::records::{LotEntry, Record, StateRecord, Waiting, records};
use super::recovery::{self, Lost, Recovered, RecoveryError, Visitor};
use super::segments::{self, Needed};
use super::snapshot;
use super::state::{Place, State};
use crate::core::{Caller, Core, DeclaredStream, Event, Operation, Partition, SessionId, StreamId, Token};

const STREAMS: u64 = 3;
const SEGMENT_BYTES: u64 = SEGMENT_BYTES_MIN;
const BUFFERS: usize = 4;

type Messages = BTreeMap<(u64, u64), Vec<u8>>;

/// The first stream of a shard, as it is declared.
fn declare(
    name: &str,
    settings: StreamSettings,
    queue: Option<SharedSettings>,
) -> Option<(StreamId, DeclaredStream)> {
    let mut core = Core::new(0, 16 << 20);
    let partition = Partition { stream: Name::parse(name).unwrap(), number: 0 };
    let caller = Caller { session: SessionId(1), pid: 1, request: 1 };
    core.apply(Event::Request(Token(0), caller, Operation::DeclareStream(partition, settings, queue)));
    let changes = core.take_changes();
    let (id, stream) = changes.iter().find_map(|record| record.declared())?;
    Some((id, stream?))
}

fn declared() -> Vec<(StreamId, DeclaredStream)> {
    let mut core = Core::new(0, 16 << 20);
    for number in 0..STREAMS {
        let stream = Name::parse(format!("s{number}").as_bytes()).unwrap();
        let settings = StreamSettings { durability: Durability::Synced, ..StreamSettings::DEFAULT };
        let operation = Operation::DeclareStream(Partition { stream, number: 0 }, settings, None);
        core.apply(Event::Request(Token(0), Caller { session: SessionId(1), pid: 1, request: 1 }, operation));
    }
    let changes = core.take_changes();
    let declared = changes.iter().filter_map(|record| record.declared());
    let declared: Vec<_> = declared.map(|(id, stream)| (id, stream.unwrap())).collect();
    assert_eq!(declared.len() as u64, STREAMS);
    declared
}

/// A message that says by itself which one it is.
fn message(seed: u64, stream: u64, position: u64) -> Vec<u8> {
    let mut random = Random(seed ^ stream << 56 ^ position);
    let bytes = match random.below(200) {
        0 => 300_000 + random.below(400_000),
        1..=9 => random.below(5000),
        _ => random.below(200),
    };
    let mut payload: Vec<u8> = position.to_le_bytes().into();
    payload.resize(8 + bytes as usize, random.next() as u8);
    payload
}

/// A broker's journal, as far as the disk can tell.
struct Machine {
    seed: u64,
    random: Random,
    disk: SimulatedDisk,
    log: Log<SimulatedDisk, SimulatedWriter>,
    next: BTreeMap<u64, u64>,
    published: BTreeSet<(u64, u64)>,
    first_segment: u64,
    /// What was confirmed: stream, first position that was not, and at which moment.
    confirmed: Vec<(usize, u64, u64)>,
    snapshots: Vec<u64>,
    /// A snapshot that waits until the log is durable so far.
    waiting: Option<(u64, Vec<u8>, Needed)>,
    /// Where the log went on behind the last snapshot.
    from_segment: u64,
    /// A message of which a part is appended.
    parts: Option<(u64, Vec<u8>, Received, usize)>,
}

impl Machine {
    /// Goes on with what a disk holds.
    fn start(disk: &SimulatedDisk, seed: u64, generation: u64) -> Result<Self, RecoveryError> {
        let recovered = recovery::read(disk, "sim", Lost::Host, &mut ())?;
        let is_new = recovered.state.streams.is_empty();
        let salt = Random(seed ^ generation << 32).next();
        let header = recovered.next_header(0, SEGMENT_BYTES, salt, [9; 16]);
        segments::spare_unused(disk, recovered.segment).unwrap();
        let segment = segments::prepare(disk, header, 0).unwrap();
        let (snapshots, next) = (recovered.snapshots.clone(), ends(&recovered));
        let writer = SimulatedWriter::new(disk, salt, BUFFERS);
        let Recovered { lsn, checksum, state, last, .. } = recovered;
        let start = Start { shard: 0, lsn, checksum, state, last, first: None };
        let mut machine = Self {
            seed,
            random: Random(salt ^ 1),
            disk: disk.clone(),
            log: Log::new(start, segment, writer),
            next,
            published: BTreeSet::new(),
            first_segment: header.segment,
            confirmed: Vec::new(),
            snapshots,
            waiting: None,
            from_segment: 0,
            parts: None,
        };
        machine.log.set_submit_bytes(1 + machine.random.below(20_000) as usize);
        if is_new {
            for (id, stream) in declared() {
                let record = StateRecord::Stream(id, Some(Box::new(stream)));
                machine.log.append_state(&record, true).unwrap();
            }
        }
        Ok(machine)
    }

    /// Does something.
    fn step(&mut self) {
        match self.random.below(24) {
            0..=7 => self.publish(),
            8..=13 => self.log.submit(|| wall(&self.disk)),
            14 => self.log.flush(),
            15 => self.log.mark(wall(&self.disk)),
            16 => self.begin_snapshot(),
            _ => {}
        }
        let mut progress = Progress::default();
        self.log.poll(&mut progress);
        let moment = self.disk.moment();
        self.confirmed.extend(progress.synced.iter().map(|(stream, end)| (moment, stream.0, *end)));
        self.end_snapshot();
        if self.log.wants_segment() && self.random.one_in(3) {
            let header = self.log.next_header(self.random.next());
            if let Outcome::Prepared(Ok(segment)) = Task::Prepare(header).carry_out(&self.disk) {
                self.log.set_next(segment);
            }
        }
    }

    fn publish(&mut self) {
        if let Some((stream, body, received, offset)) = self.parts.take() {
            if let Err(offset) = self.log.append_body(StreamId(stream), received, &body, offset, true) {
                self.parts = Some((stream, body, received, offset));
            }
            return;
        }
        let stream = 1 + self.random.below(STREAMS);
        let sync = !self.random.one_in(4);
        for _ in 0..self.random.below(30) {
            // Now and then a position without a message: a tombstone's.
            let skipped = u64::from(self.random.one_in(10));
            let position = self.next.get(&stream).copied().unwrap_or(0) + skipped;
            let payload = message(self.seed, stream, position);
            let (header, body) = Outgoing::inline(&payload).to_body();
            let received = Received::of_header(position, header, body.len()).unwrap();
            let appended = self.log.append_body(StreamId(stream), received, &body, 0, sync);
            if appended == Err(0) {
                break;
            }
            self.next.insert(stream, position + 1);
            self.published.insert((stream, position));
            if let Err(offset) = appended {
                self.parts = Some((stream, body, received, offset));
                break;
            }
        }
    }

    fn begin_snapshot(&mut self) {
        if self.waiting.is_none() && !self.log.state().has_part() {
            for stream in 1..=STREAMS {
                // Some of what there is has been consumed.
                let position = self.random.below(self.next.get(&stream).copied().unwrap_or(0) + 1);
                self.log.state_mut().forget_below(StreamId(stream), position);
            }
            let place = self.log.place();
            let bytes = snapshot::to_bytes(self.log.next_lsn(), self.log.checksum(), place, self.log.state());
            let from_segment = std::mem::replace(&mut self.from_segment, place.0);
            let from_snapshot = self.snapshots.last().copied().unwrap_or(0);
            let needed = Needed { segments: self.log.state().segments(), from_segment, from_snapshot };
            self.waiting = Some((self.log.next_lsn(), bytes, needed));
        }
    }

    fn end_snapshot(&mut self) {
        if let Some((lsn, bytes, needed)) = self.waiting.take_if(|(lsn, ..)| *lsn <= self.log.durable_lsn())
            && let Outcome::Snapshot(Ok(lsn)) = (Task::Snapshot { lsn, bytes, needed }).carry_out(&self.disk)
        {
            self.snapshots.push(lsn);
        }
    }

    /// Lets everything come to its end.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.log.submit(|| 1);
            self.log.flush();
            self.log.mark(1);
            self.step_quietly();
        }
    }

    fn step_quietly(&mut self) {
        let mut progress = Progress::default();
        self.log.poll(&mut progress);
        let moment = self.disk.moment();
        self.confirmed.extend(progress.synced.iter().map(|(stream, end)| (moment, stream.0, *end)));
        self.end_snapshot();
        if self.log.wants_segment() {
            let header = self.log.next_header(self.random.next());
            if let Outcome::Prepared(Ok(segment)) = Task::Prepare(header).carry_out(&self.disk) {
                self.log.set_next(segment);
            }
        }
    }
}

/// A wall clock that is set forward and back all the time: nothing that is read depends on it.
fn wall(disk: &SimulatedDisk) -> u64 {
    Random(disk.moment() as u64).next()
}

fn ends(recovered: &Recovered) -> BTreeMap<u64, u64> {
    recovered.state.streams.iter().map(|(id, stream)| (id.0, stream.end)).collect()
}

/// Reads every message of a log, by its batches.
#[derive(Default)]
struct Collect {
    messages: Messages,
    parts: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Visitor for Collect {
    fn batch(&mut self, _: &BatchHeader, _: Place, body: &[u8]) {
        for record in records(body) {
            match record.unwrap() {
                Record::Messages(messages) => {
                    for message in messages.iter() {
                        let (received, body) = message.unwrap();
                        self.messages
                            .insert((messages.run.stream, received.position), payload(received, body));
                    }
                }
                Record::Part(part, bytes) => {
                    let body = self.parts.entry((part.stream, part.position)).or_default();
                    body.truncate(part.offset as usize);
                    body.extend_from_slice(bytes);
                    if body.len() == part.body_bytes as usize {
                        let received = Received::of_header(part.position, part.header, body.len()).unwrap();
                        let payload = payload(received, body);
                        self.messages.insert((part.stream, part.position), payload);
                    }
                }
                Record::State(_) => {}
            }
        }
    }

    fn progress(&mut self, _: u64, _: u64) {}
}

fn payload(received: Received, body: &[u8]) -> Vec<u8> {
    match received.payload(body) {
        Part::Inline(bytes) => bytes.to_vec(),
        Part::Arena(_) => panic!("a message of a log has all its parts"),
    }
}

/// Whether a disk holds what was confirmed up to a moment, and nothing that was never published.
fn audit(disk: &SimulatedDisk, machine: &Machine, moment: usize) -> Result<Recovered, String> {
    let mut found = Collect::default();
    let recovered = recovery::read(disk, "sim", Lost::Host, &mut found).map_err(|error| error.to_string())?;
    let found_ends = ends(&recovered);
    for (at, stream, end) in machine.confirmed.iter().filter(|(at, ..)| *at <= moment) {
        let found = found_ends.get(stream).copied().unwrap_or(0);
        if found < *end {
            return Err(format!("stream {stream}: confirmed below {end} at {at}, there are only {found}"));
        }
    }
    for ((stream, position), bytes) in &found.messages {
        if *bytes != message(machine.seed, *stream, *position) {
            return Err(format!("stream {stream}: position {position} has another message"));
        }
        if *position >= found_ends.get(stream).copied().unwrap_or(0) {
            return Err(format!("stream {stream}: position {position} is behind the end"));
        }
    }
    // Else nothing of this life is there, and the one before may have gone on a little further than it knew.
    let is_of_this_life = recovered.segment >= machine.first_segment;
    for (stream, end) in found_ends.iter().filter(|_| is_of_this_life) {
        let first = found
            .messages
            .range((*stream, 0)..(*stream + 1, 0))
            .next()
            .map_or(*end, |((_, position), _)| *position);
        let lacks = |place: &&(u64, u64)| !found.messages.contains_key(place);
        if let Some((_, position)) = machine.published.range((*stream, first)..(*stream, *end)).find(lacks) {
            return Err(format!("stream {stream}: position {position} is missing in between"));
        }
    }
    Ok(recovered)
}

/// Several lives of one journal, each ended by a loss of power at some moment of it.
fn lives(seed: u64) -> Result<(), String> {
    let mut random = Random(seed);
    let mut disk = SimulatedDisk::default();
    let mut before: Option<(SimulatedDisk, usize)> = None;
    for generation in 0..3 {
        let started = Machine::start(&disk, seed, generation);
        let mut machine = started.map_err(|error| format!("life {generation}: {error}"))?;
        if let Some((old, moment)) = &before {
            // What the device still had of the life before reaches it now.
            disk.land_late(old, *moment, &mut random);
        }
        let steps = 20 + random.below(150);
        (0..steps).for_each(|_| machine.step());
        let end = disk.moment();
        for _ in 0..4 {
            let moment = random.below(end as u64 + 1) as usize;
            let left = disk.after_power_loss(moment, &mut random);
            // Before its first segment was there, a journal is as it was.
            audit(&left, &machine, moment)
                .map_err(|error| format!("life {generation}, moment {moment}: {error}"))?;
        }
        let left = disk.after_power_loss(end, &mut random);
        before = Some((disk.clone(), end));
        disk = left;
    }
    Ok(())
}

#[test]
fn what_was_confirmed_is_there_whenever_the_power_is_lost() {
    for seed in 0..seeds(150) {
        if let Err(error) = lives(seed) {
            panic!("seed {seed}: {error}");
        }
    }
}

fn is_noticed(mutation: Mutation) -> bool {
    with(Some(mutation), || (0..400).any(|seed| lives(seed).is_err()))
}

#[test]
fn without_the_sync_messages_are_lost() {
    assert!(is_noticed(Mutation::NoSync));
}

#[test]
fn without_the_sync_of_the_directory_segments_are_lost() {
    assert!(is_noticed(Mutation::NoDirectorySync));
}

#[test]
fn confirming_before_the_sync_loses_messages() {
    assert!(is_noticed(Mutation::ConfirmBeforeSync));
}

#[test]
fn confirming_over_a_gap_loses_messages() {
    assert!(is_noticed(Mutation::NoPrefix));
}

#[test]
fn without_the_end_of_an_epoch_late_writes_are_taken_for_the_log() {
    assert!(is_noticed(Mutation::NoEpoch));
}

#[test]
fn without_the_chain_batches_go_missing() {
    assert!(is_noticed(Mutation::NoChain));
}

/// A log that is durable to its end, and says so.
fn settled(seed: u64, steps: usize) -> (SimulatedDisk, Machine) {
    let disk = SimulatedDisk::default();
    let mut machine = Machine::start(&disk, seed, 0).unwrap();
    (0..steps).for_each(|_| machine.step());
    machine.settle();
    assert!(!machine.log.is_busy() && !machine.log.lacks_mark());
    (disk, machine)
}

/// Where batches are: segment, first byte, header.
#[derive(Default)]
struct Batches(Vec<(u64, usize, BatchHeader)>);

impl Visitor for Batches {
    fn batch(&mut self, header: &BatchHeader, place: Place, _: &[u8]) {
        self.0.push((place.segment, place.block as usize * BLOCK_BYTES, *header));
    }

    fn progress(&mut self, _: u64, _: u64) {}
}

#[test]
fn whatever_byte_of_a_synced_log_changes_is_noticed() {
    let (disk, batches, whole) = (0..)
        .find_map(|seed| {
            let (disk, _) = settled(seed, 50);
            let mut batches = Batches::default();
            let whole = recovery::read(&disk, "sim", Lost::Host, &mut batches).unwrap();
            (whole.segment > whole.from_segment).then_some((disk, batches.0, whole))
        })
        .expect("some log has two segments");
    let mut random = Random(5);
    // The last one is the mark: what it says is lost with it, and nothing else.
    let (mark, batches) = batches.split_last().unwrap();
    let segments: BTreeSet<u64> = batches.iter().map(|(segment, ..)| *segment).collect();
    let mut bytes: Vec<(u64, usize)> = Vec::new();
    for segment in &segments {
        bytes.extend((0..size_of::<SegmentHeader>()).chain([BLOCK_BYTES - 1]).map(|byte| (*segment, byte)));
    }
    for (index, (segment, at, header)) in batches.iter().enumerate() {
        // At the ends of a segment every byte of a header, its chain among them; else one of each word.
        let is_of = |index: usize| batches.get(index).is_some_and(|(other, ..)| other == segment);
        let is_inside = index > 0 && is_of(index - 1) && is_of(index + 1);
        let step = if is_inside { 8 } else { 1 };
        let of_header = (0..BATCH_HEADER_BYTES).step_by(step);
        let of_header = of_header.map(|byte| byte + random.below(step as u64) as usize).collect::<Vec<_>>();
        let (body, end) = (header.body(), header.bytes as usize);
        let behind = [body.start, body.end - 1, body.end.min(end - 1), end - 1];
        let inside = [(); 4].map(|()| random.below(end as u64) as usize);
        bytes.extend(of_header.into_iter().chain(behind).chain(inside).map(|byte| (*segment, at + byte)));
    }
    for (segment, byte) in bytes {
        let (name, bits) = (segments::Name::Segment(segment).to_string(), 1 << random.below(8));
        disk.damage(&name, byte, bits);
        let read = recovery::read(&disk, "sim", Lost::Host, &mut ());
        assert!(read.is_err(), "byte {byte} of {name}");
        disk.damage(&name, byte, bits);
    }
    disk.damage(&segments::Name::Segment(mark.0).to_string(), mark.1 + 200, 1);
    let read = recovery::read(&disk, "sim", Lost::Host, &mut ()).unwrap();
    assert!(read.state == whole.state && read.torn.is_some());
}

#[test]
fn what_is_missing_is_named_by_its_records() {
    let (disk, _) = settled(3, 8);
    let whole = recovery::read(&disk, "sim", Lost::Host, &mut ()).unwrap();
    assert!(whole.snapshots.is_empty());
    disk.damage(&segments::Name::Segment(1).to_string(), BLOCK_BYTES + 5, 0xff);
    match recovery::read(&disk, "sim", Lost::Host, &mut ()) {
        Err(RecoveryError::Damaged { first_lsn: 0, last_lsn, .. }) => assert_eq!(last_lsn, whole.lsn - 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_look_in_vain_writes_nothing() {
    let (disk, mut machine) = settled(3, 8);
    let before = disk.moment();
    let looked = machine.log.append_message(StreamId(1), 100, true, |_| Ok::<_, ()>(None));
    assert_eq!(looked, Ok(Ok(None)));
    machine.log.submit(|| 1);
    assert!(disk.moment() == before && !machine.log.is_busy());
}

#[test]
fn a_message_that_asks_for_it_is_synced_whatever_its_stream_says() {
    for (bytes, flags, is_synced) in [(8, 0, false), (8, flag::SYNCED, true), (2 << 20, flag::SYNCED, true)] {
        let (_disk, mut machine) = settled(3, 8);
        let payload = vec![1; bytes];
        let (header, body) = Outgoing { flags, ..Outgoing::inline(&payload) }.to_body();
        let position = machine.next.get(&1).copied().unwrap_or(0);
        let received = Received::of_header(position, header, body.len()).unwrap();
        if body.len() < BLOCK_BYTES {
            let copied = machine.log.append_message::<()>(StreamId(1), body.len(), false, |into| {
                into.copy_from_slice(&body);
                Ok(Some(received))
            });
            assert_eq!(copied, Ok(Ok(Some(received))));
        } else {
            machine.log.append_body(StreamId(1), received, &body, 0, false).unwrap();
        }
        assert_eq!(machine.log.is_waited_for(), is_synced, "{bytes} bytes, flags {flags}");
    }
}

#[test]
fn an_epoch_may_end_with_a_segment_of_marks_alone() {
    let (disk, mut machine) = settled(3, 8);
    let first = machine.log.place().0;
    // So that the mark is what the next segment begins with.
    while machine.log.left() > 0 {
        let record = StateRecord::StreamsMade(machine.log.next_lsn());
        machine.log.append_state(&record, true).unwrap();
        machine.log.submit(|| 1);
        while machine.log.is_busy() {
            machine.step_quietly();
        }
    }
    machine.log.mark(1);
    (0..100).for_each(|_| machine.step_quietly());
    assert_eq!(machine.log.place(), (first + 1, 2 * BLOCK_BYTES as u64));
    Machine::start(&disk, 4, 1).unwrap();
    let read = recovery::read(&disk, "sim", Lost::Host, &mut ()).unwrap();
    assert_eq!((read.lsn, read.segments_made), (machine.log.next_lsn(), first + 2));
}

#[test]
fn a_state_that_is_read_again_is_the_one_that_was_written() {
    for seed in 0..10 {
        let (disk, machine) = settled(seed, 80);
        let read = recovery::read(&disk, "sim", Lost::Host, &mut ()).unwrap();
        assert!(read.state == *machine.log.state(), "seed {seed}");
        assert_eq!((read.lsn, read.checksum), (machine.log.next_lsn(), machine.log.checksum()));
    }
}

#[test]
fn what_has_left_a_ring_without_a_record_is_in_the_lot() {
    let settings =
        StreamSettings { kind: StreamKind::Queue, durability: Durability::Synced, ..StreamSettings::DEFAULT };
    let (id, queue) = declare("queue", settings, Some(SharedSettings::default())).unwrap();
    let gate = queue.gates().next().unwrap();
    let mut state = State::default();
    let lot = |state: &State| state.streams[&id].for_ring_from(6).subscriptions[&gate].lot.clone();
    let taken = LotEntry { acquired: 1, failed: 0, waiting: Waiting::Ready };
    state.apply(StateRecord::Stream(id, Some(Box::new(queue))));
    assert!(lot(&state) == (0..6).map(|position| (position, taken)).collect());
    let failed = LotEntry { acquired: 2, failed: 1, ..taken };
    state.apply(StateRecord::Lot(id, gate, 1, Some(failed)));
    state.apply(StateRecord::Lot(id, gate, 5, Some(failed)));
    state.apply(StateRecord::Settled { stream: id, gate, floor: 2, above: vec![(3, 4), (7, 8)] });
    assert!(lot(&state) == [(1, failed), (2, taken), (4, taken), (5, failed)].into());
}

#[test]
fn every_message_is_found_where_the_state_says_that_it_is() {
    for seed in 0..20 {
        let (disk, machine) = settled(seed, 120);
        let recovered = recovery::read(&disk, "sim", Lost::Host, &mut ()).unwrap();
        let (mut reading, mut found) = (Reading::new(&disk), BTreeSet::new());
        for (id, stream) in &recovered.state.streams {
            for extent in &stream.extents {
                for (received, body) in reading.messages(*id, extent).unwrap() {
                    assert_eq!(payload(received, &body), message(seed, id.0, received.position));
                    found.insert((id.0, received.position));
                }
            }
            let first = stream.extents.front().map_or(stream.end, |extent| extent.first);
            let range = (id.0, first)..(id.0, stream.end);
            assert!(machine.published.range(range).all(|place| found.contains(place)), "seed {seed}");
        }
        assert!(found.len() > 20, "seed {seed}: {}", found.len());
    }
}

#[test]
fn a_write_that_fails_ends_the_log_and_nothing_is_confirmed_any_more() {
    let failures = (1..60).flat_map(|operations| [(operations, Fails::Once), (operations, Fails::Always)]);
    for (operations, fails) in failures {
        let disk = SimulatedDisk::default();
        let mut machine = Machine::start(&disk, operations, 0).unwrap();
        disk.fail_after(operations, fails);
        (0..100).for_each(|_| machine.step());
        let confirmed = machine.confirmed.len();
        let has_failed = machine.log.failure().is_some_and(|why| why.contains("has failed"));
        (0..50).for_each(|_| machine.step());
        assert!(!has_failed || machine.confirmed.len() == confirmed, "{operations} {fails:?}");
        let mut random = Random(operations);
        for moment in (0..12).map(|_| random.below(disk.moment() as u64 + 1) as usize).collect::<Vec<_>>() {
            audit(&disk.after_power_loss(moment, &mut random), &machine, moment).unwrap();
        }
    }
}

#[test]
fn a_disk_without_room_makes_no_segment_and_leaves_none_half_done() {
    let disk = SimulatedDisk::default();
    let mut machine = Machine::start(&disk, 12, 0).unwrap();
    disk.set_room(Some(SEGMENT_BYTES));
    (0..2000).for_each(|_| machine.step());
    assert!(machine.log.failure().is_none() && machine.log.wants_segment());
    assert!(machine.log.left() < SEGMENT_BYTES / 2, "it was filled: {}", machine.log.left());
    assert_eq!(disk.list().unwrap().iter().filter(|name| name.starts_with("segment")).count(), 1);
    disk.set_room(None);
    (0..200).for_each(|_| machine.step());
    let left = disk.after_power_loss(disk.moment(), &mut Random(1));
    let recovered = audit(&left, &machine, usize::MAX).unwrap();
    assert!(recovered.segments_made > 1);
}
