//! The shard's journal at work: when it reads, when it writes, when it sleeps, and who is told.
//!
//! ```text
//!  polled ──nothing for a while──▶ parked (bells) ──rung──▶ polled       streams that are synced
//!  polled ──▶ resting (a timer, and a bell for who cannot wait) ─▶ …     streams that are only written
//! ```
//!
//! 1. What is answered after a declaration waits until the declaration is durable.
//! 2. Everything that is appended is appended in order: a message, then what has become of it.
//! 3. While something is in flight that somebody waits for, the shard polls for a while, and gives the processor away in between; else
//!    it sleeps until a bell, the device or a timer wakes it. An idle journal costs nothing.
//! 4. When a write or a sync has failed, nothing is confirmed any more and nothing is tried again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ringway_shm_protocol::control::message::{Durability, Refusal, RefusalCode, Reply};
use ringway_shm_protocol::ring::JournalState;
use ringway_shm_protocol::stops;

use super::journaled::{Attention, Journaled};
use super::mailbox::FromShard;
use super::medium::Medium;
use super::pages::{Pages, Wanted};
use super::progress::Counting;
use super::ring::{Ring, Rounds};
use crate::clock;
use crate::core::lot::Nanos;
use crate::core::{Core, CoreRecord, DeclaredStream, StreamId, Token};
use crate::journal::disk::Sleeper;
use crate::journal::helper::{Helper, Outcome, Task};
use crate::journal::log::{Log, Progress, Start};
use crate::journal::mutations::{self, Mutation};
use crate::journal::records::StateRecord;
use crate::journal::recovery::{self, Lost, Recovered, RecoveryError};
use crate::journal::segments::{self, Needed};
use crate::journal::snapshot;

const US: Nanos = 1000;
const MS: Nanos = 1000 * US;
/// How long the shard goes on looking after it has found something.
const POLL: Nanos = 50 * US;
/// How long it goes on looking at the device while somebody waits for that: longer than a fast one takes. Behind that it sleeps,
/// so that what finishes the sync, a thread of the kernel on this core, gets the core: on a busy machine it was kept waiting for
/// two slices of the scheduler, 5.6 ms.
const POLL_DEVICE: Nanos = 250 * US;
/// How long a stream that is only written is left alone between two looks.
const REST: Nanos = MS;
/// So many such looks in vain, and it is parked.
const RESTS_IN_VAIN: u32 = 20;
/// What was written without a sync is synced after so long.
const FLUSH: Nanos = 10 * MS;
/// What is settled is journaled so often at the most, unless somebody waits.
const ROUND: Nanos = 5 * MS;
/// A log that is idle so long says that it is durable.
const MARK: Nanos = 50 * MS;
/// A segment that could not be made is tried again after so long.
const RETRY: Nanos = 1000 * MS;
/// Messages of one stream at a time.
const READ_MOST: usize = 4096;
/// A snapshot is written when the log has grown by so many bytes since the last.
const SNAPSHOT_BYTES: u64 = 256 << 20;
/// Room in the last segment that messages may not take: settlements make room.
const RESERVE_PART: u64 = 4;
/// While there is no further segment, settlements are journaled so often at the most, and leave so many bytes of the last one for the
/// records of snapshots, which make room.
const NO_ROOM_ROUND: Nanos = 100 * MS;
const SNAPSHOT_RECORDS_BYTES: u64 = 128 << 10;
/// How long a shard that ends waits until everything is durable.
const FINISH: Nanos = 10_000 * MS;
/// Bells of a ring, as bits and as the low bits of a key.
const DATA: u8 = 1;
const SPACE: u8 = 2;
const JOURNAL: u8 = 4;
const BELL_BITS: u32 = 3;

/// Something that is to be appended in order.
enum Pending {
    State(StateRecord),
    /// To be said when everything before is durable.
    Answers(Vec<FromShard>),
}

/// A snapshot that waits for its log to be durable.
struct Waiting {
    lsn: u64,
    bytes: Vec<u8>,
    needed: Needed,
}

/// A journal that is open.
pub(super) struct Open<M: Medium> {
    pub(super) log: Log<M::Disk, M::Writer>,
    helper: Helper<M::Disk>,
    pub(super) pages: Pages<M::Disk>,
    preparing: bool,
    /// Why there is no further segment, or none for the next start, and when that is tried again.
    no_room: Option<(String, Nanos)>,
    /// The next start has nothing to make its segment of: messages wait until it has.
    lacks_reserve: bool,
    pending: VecDeque<Pending>,
    held: VecDeque<(u64, Vec<FromShard>)>,
    /// What is said when what has become of messages so far is durable.
    after_round: BTreeMap<StreamId, Vec<FromShard>>,
    /// Answers about messages that are confirmed first.
    letters: Vec<(StreamId, u64, Token)>,
    /// Snapshots: bytes of the log at the last, where it went on, its LSN; one that waits, one that is being written.
    snapshot_at: u64,
    from_segment: u64,
    last_snapshot: u64,
    /// Where the log goes on behind the one that is under way.
    next_from_segment: u64,
    /// What is kept with it, and the segments that there are.
    needed: Needed,
    segments: BTreeSet<u64>,
    waiting: Option<Waiting>,
    writing_snapshot: bool,
    found_at: Nanos,
    /// When the device has finished something last, or was given something to do.
    moved_at: Nanos,
    round_at: Nanos,
    flush_at: Option<Nanos>,
    mark_at: Option<Nanos>,
    rest_until: Nanos,
    /// Somebody waits for a round.
    demanded: bool,
    /// Rounds that are done when the log is durable so far.
    rounds: VecDeque<(u64, StreamId, Rounds)>,
    /// Bells that were rung and are not answered yet.
    rung: Vec<u64>,
    failure_told: bool,
    room_told: bool,
}

/// What the shard does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again at once.
    Again,
    /// Nothing: a bell, the device or a timer wakes.
    Sleep,
}

/// Opens the journal at a place; makes it if it is not there.
pub(super) fn open<M: Medium>(
    place: &M,
    shard: u32,
    wake: &OwnedFd,
    lost: Lost,
) -> Result<(Open<M>, Recovered), RecoveryError> {
    let directory = place.directory().display().to_string();
    let failed = |file: &str, source: io::Error| {
        let (directory, file) = (directory.clone(), file.to_owned());
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                RecoveryError::NotWritable { directory, file, source }
            }
            _ => RecoveryError::Io { directory, file, source },
        }
    };
    let lock = place.lock().map_err(|(file, source)| failed(file, source))?;
    stops::at("journal.locked");
    let disk = place.disk().map_err(|source| failed("itself", source))?;
    let mut recovered = recovery::read(&disk, &directory, lost, &mut Counting::new(place.restoring()))?;
    recovered.state.begin_epoch();
    stops::at("journal.read");
    let mut random = [0; 24];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|source| failed("random numbers", source.into()))?;
    let [salt, _, _] = random.as_chunks::<8>().0 else { unreachable!("24 bytes are three times 8") };
    let mut journal = [0; 16];
    journal.copy_from_slice(&random[8..]);
    let header = recovered.next_header(shard, place.segment_bytes(), u64::from_le_bytes(*salt), journal);
    segments::spare_unused(&disk, recovered.segment).map_err(|source| failed("an unused segment", source))?;
    let made = segments::prepare(&disk, header, 0);
    let (segment, first) = match (made, recovered.last) {
        (Ok(segment), _) => (segment, None),
        // Until there is room for it, nothing is written.
        (Err(error), Some(last)) if error.kind() == io::ErrorKind::StorageFull => {
            let full =
                segments::open_full(&disk, last).map_err(|source| failed("the last segment", source))?;
            (full, Some(header))
        }
        (Err(source), _) => return Err(failed("a new segment", source)),
    };
    let is_full =
        segments::lacks_reserve(&disk, place.segment_bytes()).map_err(|source| failed("itself", source))?;
    let writer = place.writer(wake, lock).map_err(|source| failed("io_uring or threads", source))?;
    let helper = place.helper(disk, wake).map_err(|source| failed("a thread", source))?;
    let disk = place.disk().map_err(|source| failed("itself", source))?;
    let pages = Pages::new(place.helper(disk, wake).map_err(|source| failed("a thread", source))?);
    let Recovered { lsn, checksum, state, last, .. } = &recovered;
    let start = Start { shard, lsn: *lsn, checksum: *checksum, state: state.clone(), last: *last, first };
    let log = Log::new(start, segment, writer);
    let now = clock::monotonic();
    let last_snapshot = recovered.snapshots.last().copied().unwrap_or(0);
    let open = Open {
        // The first thing that a new epoch does is to say where everything is.
        snapshot_at: 0,
        // The snapshot that was read stays whole until there are two newer ones.
        from_segment: recovered.from_segment,
        last_snapshot,
        next_from_segment: recovered.from_segment,
        needed: Needed::default(),
        segments: recovered.segments.iter().copied().chain([header.segment]).collect(),
        log,
        helper,
        pages,
        preparing: false,
        // Before it is known better, messages would take what the next start needs.
        no_room: is_full.then(|| (io::Error::from_raw_os_error(libc::ENOSPC).to_string(), now)),
        lacks_reserve: true,
        pending: VecDeque::new(),
        held: VecDeque::new(),
        after_round: BTreeMap::new(),
        letters: Vec::new(),
        waiting: None,
        writing_snapshot: false,
        found_at: now,
        moved_at: now,
        round_at: now,
        flush_at: None,
        mark_at: None,
        rest_until: now,
        demanded: false,
        rounds: VecDeque::new(),
        rung: Vec::new(),
        failure_told: false,
        room_told: false,
    };
    stops::at("journal.open");
    Ok((open, recovered))
}

impl<M: Medium> Open<M> {
    /// Has what was declared journaled; `true`: there is something that answers must wait for.
    pub(super) fn declare(&mut self, changes: &[CoreRecord], streams_made: u64) -> bool {
        let mut any = false;
        for (id, declared) in changes.iter().filter_map(CoreRecord::declared) {
            if self.declared(id) != declared.as_ref() {
                self.pending.push_back(Pending::State(StateRecord::Stream(id, declared.map(Box::new))));
                any = true;
            }
        }
        if any {
            self.pending.push_back(Pending::State(StateRecord::StreamsMade(streams_made)));
        }
        any
    }

    /// How a stream was declared last, as the journal knows it or will.
    fn declared(&self, id: StreamId) -> Option<&DeclaredStream> {
        let mut of_it = self.pending.iter().rev().filter_map(|pending| match pending {
            Pending::State(StateRecord::Stream(of, declared)) if *of == id => Some(declared.as_deref()),
            _ => None,
        });
        of_it.next().unwrap_or_else(|| self.log.declared(id))
    }

    /// Streams that the core does not know any more are gone.
    pub(super) fn forget_all_but(&mut self, core: &Core) {
        let gone = self.log.state().streams.keys().filter(|id| core.open_stream(**id).is_none());
        let gone: Vec<_> = gone.map(|id| Pending::State(StateRecord::Stream(*id, None))).collect();
        self.pending.extend(gone);
    }

    /// Has messages read for a consumer that is behind.
    pub(super) fn read_page(&mut self, wanted: Wanted) {
        self.pages.read(self.log.state(), self.log.segment().header.segment, wanted);
    }

    /// Whether nothing is confirmed any more.
    pub(super) fn has_failed(&self) -> bool {
        self.log.failure().is_some()
    }

    /// Journals all that there is, and waits until it is durable, for a while.
    pub(super) fn finish(&mut self, rings: &mut BTreeMap<StreamId, Ring>) {
        let end = clock::monotonic() + FINISH;
        for ring in rings.values_mut() {
            if let Some(journaled) = ring.journaled_mut() {
                journaled.attention = Attention::Polled;
            }
        }
        self.demanded = true;
        let mut unsaid = Vec::new();
        while clock::monotonic() < end && self.log.failure().is_none() {
            let next = self.turn(rings, &mut unsaid);
            self.log.flush();
            if next == Next::Sleep && !self.has_more_to_write() {
                break;
            }
            rustix::thread::sched_yield();
        }
        self.log.mark(clock::wall());
        while clock::monotonic() < end && self.log.failure().is_none() && self.has_more_to_write() {
            self.log.poll(&mut Progress::default());
            rustix::thread::sched_yield();
        }
    }

    /// A snapshot is written at the next opportunity.
    #[cfg(test)]
    pub(super) fn snapshot_soon(&mut self) {
        self.snapshot_at = 0;
    }

    /// Whether something is being written, or will be: where there is no room, what was appended waits for longer than this broker.
    fn has_more_to_write(&self) -> bool {
        self.log.is_in_flight() || self.log.is_busy() && self.no_room.is_none()
    }

    /// Has these said when everything so far is durable.
    pub(super) fn hold(&mut self, answers: Vec<FromShard>) {
        if self.pending.is_empty() {
            self.held.push_back((self.log.end_lsn(), answers));
        } else {
            self.pending.push_back(Pending::Answers(answers));
        }
    }

    /// Has this said when what has become of the messages of a stream so far is durable.
    pub(super) fn hold_until_settled(
        &mut self,
        journaled: &mut Journaled,
        stream: StreamId,
        said: FromShard,
    ) {
        self.after_round.entry(stream).or_default().push(said);
        self.demand_round(journaled);
    }

    /// Has what has become of the messages of a stream journaled soon.
    pub(super) fn demand_round(&mut self, journaled: &mut Journaled) {
        journaled.attention = Attention::Polled;
        self.demanded = true;
    }

    /// Has a request answered when the message at `position` is confirmed.
    pub(super) fn hold_letter(&mut self, stream: StreamId, position: u64, token: Token) {
        self.letters.push((stream, position, token));
    }

    /// Whether messages can be journaled now, for a ring that was just made.
    pub(super) fn state(&self) -> JournalState {
        match (self.has_failed(), self.room_told) {
            (true, _) => JournalState::Failed,
            (false, true) => JournalState::NoRoom,
            (false, false) => JournalState::Ready,
        }
    }

    /// Why messages cannot be journaled now.
    pub(super) fn trouble(&self) -> Option<String> {
        let failure = self.log.failure().map(str::to_owned);
        failure.or_else(|| self.no_room.as_ref().map(|(why, _)| why.clone()))
    }

    /// One turn of the journal. `said`: what is to be said to the control plane.
    pub(super) fn turn(&mut self, rings: &mut BTreeMap<StreamId, Ring>, said: &mut Vec<FromShard>) -> Next {
        let now = clock::monotonic();
        self.answer_bells(rings, now);
        self.hear_helper(rings, now);
        self.pages.take_made(said);
        let durable = self.log.durable_lsn();
        self.take_progress(rings, said);
        if self.log.durable_lsn() != durable {
            self.moved_at = now;
        }
        if self.log.failure().is_some() {
            self.tell_failure(rings, said);
            return Next::Sleep;
        }
        let mut found = self.append_pending();
        found |= self.read(rings, now);
        if self.may_settle() && (self.demanded || now >= self.round_at) {
            found |= self.round(rings, now);
        }
        self.log.submit(clock::wall);
        self.prepare(now);
        self.snapshot(rings);
        if found {
            (self.found_at, self.moved_at) = (now, now);
            self.mark_at = None;
        }
        self.keep_time(now);
        let is_waited_for = self.log.is_waited_for() && now.saturating_sub(self.moved_at) < POLL_DEVICE;
        if found || is_waited_for || now.saturating_sub(self.found_at) < POLL && self.polls(rings) {
            return Next::Again;
        }
        self.park(rings, now)
    }

    /// A bell that was rung says that there is something to look for.
    fn answer_bells(&mut self, rings: &mut BTreeMap<StreamId, Ring>, now: Nanos) {
        self.log.writer().take_rung(&mut self.rung);
        for key in std::mem::take(&mut self.rung) {
            let (stream, bell) = (StreamId(key >> BELL_BITS), (key & 7) as u8);
            let Some(journaled) = rings.get_mut(&stream).and_then(Ring::journaled_mut) else { continue };
            journaled.watched &= !bell;
            journaled.attention = Attention::Polled;
            self.demanded |= bell == JOURNAL;
            self.found_at = now;
            if bell == JOURNAL {
                self.rest_until = now;
            }
        }
    }

    fn hear_helper(&mut self, rings: &mut BTreeMap<StreamId, Ring>, now: Nanos) {
        while let Some(outcome) = self.helper.next() {
            match outcome {
                Outcome::Prepared(Ok(segment)) => {
                    (self.preparing, self.no_room) = (false, None);
                    // The first of an epoch may have taken the reserve.
                    self.lacks_reserve = segment.header.begins_epoch();
                    tracing::debug!(
                        shard = self.log.shard(),
                        segment = segment.header.segment,
                        "segment made"
                    );
                    self.segments.insert(segment.header.segment);
                    self.log.set_next(segment);
                }
                Outcome::Reserved(Ok(())) => {
                    (self.preparing, self.no_room, self.lacks_reserve) = (false, None, false);
                }
                Outcome::Prepared(Err(error)) => self.lack_room(&error, rings, now),
                Outcome::Reserved(Err(error)) => {
                    self.lacks_reserve = true;
                    self.lack_room(&error, rings, now);
                }
                Outcome::Snapshot(written) => {
                    self.writing_snapshot = false;
                    let shard = self.log.shard();
                    match &written {
                        Ok(lsn) => tracing::debug!(shard, lsn, "snapshot written"),
                        Err(error) => tracing::warn!(shard, %error, "a snapshot could not be written"),
                    }
                    if let Ok(lsn) = written {
                        (self.last_snapshot, self.from_segment) = (lsn, self.next_from_segment);
                        let Needed { segments, from_segment, .. } = &self.needed;
                        self.segments.retain(|number| number >= from_segment || segments.contains(number));
                        if let Some((_, retry_at)) = &mut self.no_room {
                            *retry_at = now;
                        }
                    }
                }
            }
        }
        let lacks_room = self.no_room.is_some() && self.log.left_behind() < self.reserve();
        if lacks_room != self.room_told {
            self.room_told = lacks_room;
            match &self.no_room {
                Some((why, _)) if lacks_room => {
                    tracing::warn!(
                        shard = self.log.shard(),
                        why,
                        "journal full: durable messages are refused"
                    );
                }
                _ => tracing::info!(shard = self.log.shard(), "journal has room again"),
            }
            let state = if lacks_room { JournalState::NoRoom } else { JournalState::Ready };
            rings.values_mut().for_each(|ring| ring.set_journal_state(state));
        }
    }

    /// There is no room for a segment: it is tried again, and what nobody needs is given up.
    fn lack_room(&mut self, error: &io::Error, rings: &BTreeMap<StreamId, Ring>, now: Nanos) {
        self.preparing = false;
        // What may have been written in part is not tried again: nobody knows what the device has of it.
        if error.raw_os_error() == Some(libc::EIO) {
            return self.log.fail(format!("a segment could not be made: {error}"));
        }
        self.no_room = Some((format!("no further segment can be made: {error}"), now + RETRY));
        if self.could_give_up(rings) {
            self.snapshot_at = 0;
            // What was given up is the older snapshot's until there are two newer ones, each of a record of its own.
            if self.log.end_lsn() <= self.last_snapshot {
                let made = self.log.state().streams_made;
                self.pending.push_back(Pending::State(StateRecord::StreamsMade(made)));
            }
        }
    }

    /// Whether there are segments that nobody needs any more.
    fn could_give_up(&mut self, rings: &BTreeMap<StreamId, Ring>) -> bool {
        self.forget(rings);
        // Where there is no room, what everybody has consumed is not kept for subscriptions to come.
        self.log.state_mut().forget_consumed();
        let needed = self.log.state().segments();
        self.segments.range(..self.log.place().0).any(|segment| !needed.contains(segment))
    }

    /// Forgets where messages are that nobody asks for any more.
    fn forget(&mut self, rings: &BTreeMap<StreamId, Ring>) {
        for (stream, ring) in rings {
            self.log.state_mut().forget_below(*stream, ring.first_position());
        }
    }

    /// Whether settlements can be journaled: what is left of the last segment may be for snapshots.
    fn may_settle(&self) -> bool {
        self.no_room.is_none() || self.log.left() > SNAPSHOT_RECORDS_BYTES
    }

    /// Whether messages can be journaled: they leave room for what makes room.
    fn may_read(&self) -> bool {
        self.no_room.is_none() || self.log.left_behind() >= self.reserve()
    }

    /// Bytes of the last segment that are for what makes room.
    fn reserve(&self) -> u64 {
        let bytes = self.log.segment().header.bytes;
        if mutations::is(Mutation::NoReserve) {
            return 0;
        }
        if self.lacks_reserve { bytes } else { bytes / RESERVE_PART }
    }

    fn take_progress(&mut self, rings: &mut BTreeMap<StreamId, Ring>, said: &mut Vec<FromShard>) {
        let mut progress = Progress::default();
        self.log.poll(&mut progress);
        for (stream, end) in progress.written {
            if let Some(ring) = rings.get_mut(&stream) {
                ring.raise_journal(end, 0);
            }
        }
        for (stream, end) in progress.synced {
            if let Some(ring) = rings.get_mut(&stream) {
                ring.raise_journal(end, end);
            }
        }
        let durable = self.log.durable_lsn();
        while self.held.front().is_some_and(|(lsn, _)| *lsn <= durable) {
            said.extend(self.held.pop_front().into_iter().flat_map(|(_, answers)| answers));
        }
        while self.rounds.front().is_some_and(|(lsn, ..)| *lsn <= durable) {
            if let Some((_, stream, rounds)) = self.rounds.pop_front()
                && let Some(ring) = rings.get_mut(&stream)
            {
                ring.end_rounds(&rounds);
            }
        }
        self.letters.retain(|(stream, position, token)| {
            let waits = rings
                .get(stream)
                .and_then(Ring::journaled)
                .is_some_and(|ring| !ring.is_confirmed(position + 1));
            if !waits {
                said.push(FromShard::Answer(super::Answer::with(*token, Reply::Done, Vec::new())));
            }
            waits
        });
    }

    /// Nothing is confirmed any more: whoever waits is told.
    fn tell_failure(&mut self, rings: &mut BTreeMap<StreamId, Ring>, said: &mut Vec<FromShard>) {
        if !std::mem::replace(&mut self.failure_told, true) {
            rings.values_mut().for_each(|ring| ring.set_journal_state(JournalState::Failed));
            let (shard, why) = (self.log.shard(), self.log.failure().unwrap_or_default());
            tracing::error!(
                shard,
                why,
                "journal failed: nothing more is confirmed until the broker is restarted"
            );
        }
        let why = self.log.failure().unwrap_or_default();
        let message = format!(
            "this shard's journal has stopped: {why}; nothing more is confirmed until the broker is restarted"
        );
        let refused = |token| {
            let refusal = Refusal { code: RefusalCode::Limit, message: message.clone() };
            FromShard::Answer(super::Answer::with(token, Reply::Refused(refusal), Vec::new()))
        };
        // Whoever sends them keeps them, and tries again.
        said.extend(self.letters.drain(..).map(|(.., token)| refused(token)));
        let pending = self.pending.drain(..).filter_map(|pending| match pending {
            Pending::Answers(answers) => Some(answers),
            Pending::State(_) => None,
        });
        // Letters are among them whose deaths are not durable: the shard gives them back to their lots.
        let mut after_round = std::mem::take(&mut self.after_round);
        if mutations::is(Mutation::LettersForgotten) {
            after_round.clear();
        }
        let held = self.held.drain(..).map(|(_, answers)| answers);
        for said_later in held.chain(pending).chain(after_round.into_values()) {
            said.extend(said_later.into_iter().map(|said| match said {
                FromShard::Answer(answer) => refused(answer.token),
                other => other,
            }));
        }
    }

    fn append_pending(&mut self) -> bool {
        let mut any = false;
        while let Some(pending) = self.pending.pop_front() {
            match pending {
                Pending::State(record) => {
                    if self.log.append_state(&record, true).is_err() {
                        self.pending.push_front(Pending::State(record));
                        return any;
                    }
                }
                Pending::Answers(answers) => self.held.push_back((self.log.end_lsn(), answers)),
            }
            any = true;
        }
        any
    }

    /// Reads what there is.
    pub(super) fn read(&mut self, rings: &mut BTreeMap<StreamId, Ring>, now: Nanos) -> bool {
        // Each is looked at by itself where there is no more room to come.
        let takes_many = self.no_room.is_none() || mutations::is(Mutation::AppendedUncounted);
        let most = if takes_many { READ_MOST } else { 1 };
        let rests = now < self.rest_until;
        let mut any = false;
        let mut rested = false;
        for ring in rings.values_mut() {
            let Some(journaled) = ring.journaled() else { continue };
            match journaled.attention {
                Attention::Parked => continue,
                Attention::Resting { .. } if rests => continue,
                _ => {}
            }
            if !self.may_read() {
                break;
            }
            let (read, full) = ring.read_journal(&mut self.log, most);
            any |= read > 0;
            if ring.journaled().is_some_and(Journaled::lags_behind_tombstones) {
                ring.raise_journal(0, 0);
            }
            let capacity = ring.partition.identity().geometry.capacity();
            let journaled = ring.journaled_mut().expect("looked at above");
            if journaled.level() == Durability::Written && !full && (read as u64) < capacity / 8 {
                rested = true;
                journaled.attention = match journaled.attention {
                    Attention::Resting { in_vain } if read == 0 => {
                        Attention::Resting { in_vain: in_vain + 1 }
                    }
                    _ => Attention::Resting { in_vain: 0 },
                };
            }
            if full {
                break;
            }
        }
        if rested {
            self.rest_until = now + REST;
        }
        any
    }

    /// Journals what has been settled since the last round.
    pub(super) fn round(&mut self, rings: &mut BTreeMap<StreamId, Ring>, now: Nanos) -> bool {
        let sync = std::mem::take(&mut self.demanded);
        self.round_at = now + if self.no_room.is_some() { NO_ROOM_ROUND } else { ROUND };
        let mut any = false;
        for (stream, ring) in rings.iter_mut() {
            // One may have been parked, with nothing to be journaled, before a round was possible that somebody waits for.
            let is_waited_for =
                self.after_round.contains_key(stream) && !mutations::is(Mutation::ParkedUnheard);
            let is_parked = |journaled: &Journaled| journaled.attention == Attention::Parked;
            if ring.journaled().is_none_or(is_parked) && !is_waited_for {
                continue;
            }
            let (rounds, records) = ring.begin_round();
            for record in records {
                any = true;
                if !self.pending.is_empty() || self.log.append_state(&record, sync).is_err() {
                    self.pending.push_back(Pending::State(record));
                }
            }
            self.demanded |= sync && ring.journaled().is_some_and(Journaled::owes_rounds);
            let pending = self.pending.iter().filter(|pending| matches!(pending, Pending::State(_)));
            let lsn = self.log.end_lsn() + pending.count() as u64;
            self.rounds.push_back((lsn, *stream, rounds));
            if let Some(said) = self.after_round.remove(stream) {
                self.hold(said);
            }
        }
        // Of a stream that is gone nothing more is journaled.
        let gone = self.after_round.extract_if(.., |stream, _| !rings.contains_key(stream));
        let gone: Vec<_> = gone.flat_map(|(_, said)| said).collect();
        if !gone.is_empty() {
            self.hold(gone);
        }
        any
    }

    /// Has the next segment made.
    fn prepare(&mut self, now: Nanos) {
        let may_try = self.no_room.as_ref().is_none_or(|(_, retry_at)| *retry_at <= now);
        if self.preparing || !may_try {
            return;
        }
        if self.lacks_reserve {
            self.preparing = true;
            self.helper.ask(Task::Reserve(self.log.segment().header.bytes));
        } else if self.log.wants_segment() {
            self.preparing = true;
            let mut salt = [0; 8];
            let _ = rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty());
            self.helper.ask(Task::Prepare(self.log.next_header(u64::from_le_bytes(salt))));
        }
    }

    /// Has a snapshot written when it is time.
    fn snapshot(&mut self, rings: &BTreeMap<StreamId, Ring>) {
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.lsn <= self.log.durable_lsn()) {
            let Waiting { lsn, bytes, needed } = waiting;
            self.writing_snapshot = true;
            self.helper.ask(Task::Snapshot { lsn, bytes, needed });
        }
        let is_due = self.log.bytes >= self.snapshot_at;
        let may = self.waiting.is_none() && !self.writing_snapshot && !self.log.state().has_part();
        if !is_due || !may || self.log.next_lsn() <= self.last_snapshot {
            return;
        }
        self.snapshot_at = self.log.bytes + SNAPSHOT_BYTES;
        self.forget(rings);
        let (lsn, place) = (self.log.next_lsn(), self.log.place());
        let bytes = snapshot::to_bytes(lsn, self.log.checksum(), place, self.log.state());
        let needed = Needed {
            segments: self.log.state().segments(),
            from_segment: self.from_segment,
            from_snapshot: self.last_snapshot,
        };
        self.next_from_segment = place.0;
        self.needed = needed.clone();
        self.waiting = Some(Waiting { lsn, bytes, needed });
    }

    /// Flushes and marks when it is time, and has the shard woken for it.
    fn keep_time(&mut self, now: Nanos) {
        if self.log.lacks_flush() {
            let at = *self.flush_at.get_or_insert(now + FLUSH);
            if at <= now {
                self.log.flush();
                self.flush_at = None;
            }
        } else {
            self.flush_at = None;
        }
        if self.log.lacks_mark() {
            let at = *self.mark_at.get_or_insert(now + MARK);
            if at <= now {
                self.log.mark(clock::wall());
                self.mark_at = None;
            }
        } else {
            self.mark_at = None;
        }
    }

    fn polls(&self, rings: &BTreeMap<StreamId, Ring>) -> bool {
        let journaled = rings.values().filter_map(Ring::journaled);
        journaled.into_iter().any(|journaled| journaled.attention == Attention::Polled)
    }

    /// Lets streams be watched by bells, and says whether there is nothing more to do.
    fn park(&mut self, rings: &mut BTreeMap<StreamId, Ring>, now: Nanos) -> Next {
        let (mut rests, mut unsettled) = (false, false);
        let mut again = false;
        let may_read = self.may_read();
        for (stream, ring) in rings.iter_mut() {
            let Some(journaled) = ring.journaled() else { continue };
            let bells = match journaled.attention {
                Attention::Parked => continue,
                Attention::Resting { in_vain } if in_vain < RESTS_IN_VAIN => {
                    rests = true;
                    JOURNAL
                }
                _ => DATA | SPACE | JOURNAL,
            };
            let missing = bells & !journaled.watched;
            for bell in [DATA, SPACE, JOURNAL].into_iter().filter(|bell| missing & bell != 0) {
                let doorbell = match bell {
                    DATA => &ring.partition.data,
                    SPACE => &ring.partition.space,
                    _ => &ring.partition.journal,
                };
                let count = doorbell.announce();
                let key = stream.0 << BELL_BITS | u64::from(bell);
                self.log.writer().watch(doorbell.bell(), count, key);
            }
            let is_quiet = ring.is_quiet();
            let journaled = ring.journaled_mut().expect("looked at above");
            journaled.watched |= bells;
            if bells & DATA == 0 {
                continue;
            }
            if is_quiet {
                journaled.attention = Attention::Parked;
            } else if journaled.has_next() && may_read {
                again = true;
            } else {
                unsettled = true;
            }
        }
        if again {
            return Next::Again;
        }
        let rest = rests.then_some(self.rest_until);
        let round = (unsettled && self.may_settle()).then_some(self.round_at);
        let retry = self.no_room.as_ref().map(|(_, at)| *at);
        let times = [rest, round, retry, self.flush_at, self.mark_at];
        if let Some(at) = times.into_iter().flatten().min() {
            self.log.writer().wake_in(Duration::from_nanos(at.saturating_sub(now).max(US)));
        }
        self.log.writer().take_rung(&mut self.rung);
        if self.rung.is_empty() { Next::Sleep } else { Next::Again }
    }
}
