//! Reading a journal: the newest snapshot, then the log behind it, batch by batch.
//!
//! ```text
//! snapshot ──▶ batch ──▶ batch ──▶ … ──▶ the first that is not whole: is it the end, or is something damaged?
//! ```
//!
//! 1. A batch counts if it is whole and holds the checksum of the one before. Reading never goes on behind one that does not.
//! 2. What was reported as durable is there, or reading fails and says which records are missing. Whether it was reported is
//!    known from everything that was written later: batches say what was durable then, segments where the epoch before ended,
//!    snapshots what they are of.
//! 3. What is behind the end and was never reported is a *torn tail*: it is passed over, and said.
//! 4. An epoch is read up to where the next one says that it ended: what a killed broker's device wrote later is no part of
//!    it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use super::disk::Disk;
use super::disk::files::Aligned;
use super::format::{
    BATCH_BYTES_MAX, BLOCK_BYTES, BatchHeader, FIRST_BATCH, HeaderError, JournalId, SegmentHeader,
};
use super::mutations::{self, Mutation};
use super::records::{Record, RecordError, records};
use super::segments::{NEW, Name};
use super::snapshot::{self, Snapshot, SnapshotError};
use super::state::{Place, State};
use crate::core::StreamId;

/// Bytes that are read at once: a largest batch at least.
const READ_BYTES: usize = 4 << 20;
/// How far a look behind the end goes where only a process has died: further than all that it may have had under way.
const LOOK_BEHIND_BYTES: u64 = 16 << 20;

/// How often, and after how long, a place is looked at again that somebody may just be writing to.
const LOOKS_MOST: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Why a journal cannot be read. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The system refused.
    #[error("cannot read the journal in {directory}: {file}: {source}")]
    Io {
        /// The directory of the shard's journal.
        directory: String,
        /// What was read.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// It can be read, perhaps, and not written.
    #[error(
        "the journal in {directory} cannot be written ({file}: {source}); make it writable, or give another --data"
    )]
    NotWritable {
        /// The directory of the shard's journal.
        directory: String,
        /// What was to be written.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// Something that was there is not.
    #[error(
        "the journal in {directory} is damaged: records {first_lsn} to {last_lsn} were confirmed and cannot be read ({detail}); \
         nothing was changed. Bring the files back from where they are whole, or make a new data directory of what can be read: \
         ringway journal salvage"
    )]
    Damaged {
        /// The directory of the shard's journal.
        directory: String,
        /// First record that is missing.
        first_lsn: u64,
        /// Last record that is known to have been there.
        last_lsn: u64,
        /// Where, and how that is known.
        detail: String,
    },
    /// A file that this version cannot read.
    #[error("cannot read the journal in {directory}: {file}: {detail}")]
    Unreadable {
        /// The directory of the shard's journal.
        directory: String,
        /// The file.
        file: String,
        /// What is wrong.
        detail: String,
    },
}

/// Something that was written and never reported, behind the end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Torn {
    /// The segment, and where in it.
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// The record that would have been there.
    pub(crate) lsn: u64,
}

/// What a journal says.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) state: State,
    /// One past the last record.
    pub(crate) lsn: u64,
    /// The checksum of the last batch, and its segment; 0: there is none.
    pub(crate) checksum: u64,
    pub(crate) segment: u64,
    /// The highest numbers that were used.
    pub(crate) segments_made: u64,
    pub(crate) epoch: u64,
    pub(crate) journal: Option<JournalId>,
    /// The segment that reading has begun with.
    pub(crate) from_segment: u64,
    /// The segments up to the last one with something in it, and its header.
    pub(crate) segments: BTreeSet<u64>,
    pub(crate) last: Option<SegmentHeader>,
    /// The snapshots that are whole, by their LSN, the newest last.
    pub(crate) snapshots: Vec<u64>,
    /// Those that are not, and why.
    pub(crate) broken: Vec<String>,
    /// What was behind the end.
    pub(crate) torn: Option<Torn>,
    /// Bytes of the log that were read.
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
}

impl Recovered {
    /// What whoever starts a broker should know of this journal, `directory` being where it is.
    pub(crate) fn notices(&self, directory: &Path) -> Vec<String> {
        let directory = directory.display();
        let broken = self.broken.iter().map(|broken| {
            format!("the journal in {directory}: {broken}; more of the log was read instead, and nothing is missing")
        });
        let torn = self.torn.map(|Torn { segment, offset, lsn }| {
            format!(
                "the journal in {directory} ends before record {lsn}: what stands behind, at byte {offset} of {}, was never \
                 confirmed and is passed over",
                Name::Segment(segment)
            )
        });
        broken.chain(torn).collect()
    }

    /// The header of the first segment of the next epoch. `journal`: the journal's name, if it has none yet.
    pub(crate) fn next_header(&self, shard: u32, bytes: u64, salt: u64, journal: JournalId) -> SegmentHeader {
        SegmentHeader {
            magic: 0,
            checksum: 0,
            version: 0,
            shard,
            journal: self.journal.unwrap_or(journal),
            segment: self.segments_made + 1,
            epoch: self.epoch + 1,
            salt,
            bytes,
            before_lsn: self.lsn,
            before_checksum: self.checksum,
            before_segment: self.segment,
        }
    }
}

/// Who wants to see each batch while a journal is read.
pub(crate) trait Visitor {
    /// A batch that is whole, where it is, and its body.
    fn batch(&mut self, header: &BatchHeader, place: Place, body: &[u8]);
    /// So many bytes of so many are read.
    fn progress(&mut self, bytes: u64, of: u64);
    /// Whether nothing more is asked for: reading ends where it is.
    fn is_done(&self) -> bool {
        false
    }
    /// Something is missing. Reading ends with what this returns, or goes on with the next batch that is whole.
    fn damaged(&mut self, error: RecoveryError) -> Result<(), RecoveryError> {
        Err(error)
    }
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// Where the newest snapshot ends.
    Snapshot,
    /// With the oldest batch that is there. The state is the snapshot's from its record on.
    Oldest,
}

impl Visitor for () {
    fn batch(&mut self, _: &BatchHeader, _: Place, _: &[u8]) {}
    fn progress(&mut self, _: u64, _: u64) {}
}

/// How much was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The process that wrote it: what had been written is as it was.
    Process,
    /// Perhaps more: everything behind the end is looked at for signs that something is missing.
    Host,
}

/// Reads the journal of a shard. `directory` is for errors.
pub(crate) fn read<D: Disk>(
    disk: &D,
    directory: &str,
    lost: Lost,
    visitor: &mut impl Visitor,
) -> Result<Recovered, RecoveryError> {
    read_from(From::Snapshot, disk, directory, lost, false, visitor)
}

/// The same, from another place perhaps. `is_live`: somebody writes it meanwhile.
pub(crate) fn read_from<D: Disk>(
    from: From,
    disk: &D,
    directory: &str,
    lost: Lost,
    is_live: bool,
    visitor: &mut impl Visitor,
) -> Result<Recovered, RecoveryError> {
    Reader { disk, directory, lost, is_live, segments: BTreeMap::new(), later: None }.read(from, visitor)
}

struct Segment<File> {
    file: File,
    header: SegmentHeader,
}

struct Reader<'a, D: Disk> {
    disk: &'a D,
    directory: &'a str,
    lost: Lost,
    is_live: bool,
    segments: BTreeMap<u64, Segment<D::File>>,
    /// A snapshot that reading comes to.
    later: Option<Snapshot>,
}

/// The snapshots that there are.
#[derive(Default)]
struct Snapshots {
    newest: Option<Snapshot>,
    /// The LSNs of those that are whole, in order.
    whole: Vec<u64>,
    /// What is wrong with the others.
    broken: Vec<String>,
}

/// Where reading is.
#[derive(Clone, Copy, Debug)]
struct At {
    segment: u64,
    offset: u64,
    lsn: u64,
    checksum: u64,
    /// The segment of the last batch.
    last: u64,
}

impl<D: Disk> Reader<'_, D> {
    fn read(mut self, from: From, visitor: &mut impl Visitor) -> Result<Recovered, RecoveryError> {
        let names = self.io("its directory", self.disk.list())?;
        // What was written is on the device, or is not read: neither may change its mind later.
        let snapshots = self.open_all(&names, visitor)?;
        self.io("its directory", self.disk.sync_directory())?;
        let Snapshots { newest, whole, broken } = self.read_snapshots(snapshots, from)?;
        let snapshot = match (newest, from) {
            (snapshot, From::Oldest) => {
                self.later = snapshot;
                self.oldest()?
            }
            (Some(snapshot), From::Snapshot) => snapshot,
            (None, From::Snapshot) => self.beginning()?,
        };
        let Snapshot { lsn, checksum, segment, offset, state } = snapshot;
        let last = if lsn == 0 { 0 } else { segment };
        let mut recovered = Recovered {
            state,
            lsn,
            checksum,
            segment: last,
            from_segment: segment,
            segments_made: self.segments.last_key_value().map_or(0, |(number, _)| *number),
            epoch: self.segments.values().map(|segment| segment.header.epoch).max().unwrap_or(0),
            journal: self.segments.values().next().map(|segment| segment.header.journal),
            segments: BTreeSet::new(),
            last: None,
            snapshots: whole,
            broken,
            torn: None,
            bytes: 0,
            batches: 0,
        };
        let at = At { segment, offset, lsn, checksum, last };
        self.walk(at, &mut recovered, visitor)?;
        recovered.segments = self.segments.range(..=recovered.segment).map(|(number, _)| *number).collect();
        recovered.last = self.segments.get(&recovered.segment).map(|segment| segment.header);
        if let Some(snapshot) = self.later.take_if(|snapshot| snapshot.lsn <= recovered.lsn) {
            recovered.state = snapshot.state;
        }
        Ok(recovered)
    }

    fn io<T>(&self, file: impl ToString, result: io::Result<T>) -> Result<T, RecoveryError> {
        let (directory, file) = (self.directory.to_owned(), file.to_string());
        result.map_err(|source| RecoveryError::Io { directory, file, source })
    }

    fn unreadable(&self, file: impl ToString, detail: impl ToString) -> RecoveryError {
        let (directory, file, detail) = (self.directory.to_owned(), file.to_string(), detail.to_string());
        RecoveryError::Unreadable { directory, file, detail }
    }

    fn damaged(&self, first_lsn: u64, end_lsn: u64, detail: String) -> RecoveryError {
        let (directory, last_lsn) = (self.directory.to_owned(), end_lsn.saturating_sub(1).max(first_lsn));
        RecoveryError::Damaged { directory, first_lsn, last_lsn, detail }
    }

    /// Opens the segments; returns the LSNs of the snapshots.
    fn open_all(&mut self, names: &[String], visitor: &mut impl Visitor) -> Result<Vec<u64>, RecoveryError> {
        let mut snapshots = Vec::new();
        for name in names.iter().filter(|name| *name != NEW) {
            match Name::parse(name) {
                Some(Name::Segment(number)) => {
                    let file = self.io(name, self.disk.open(name))?;
                    self.io(name, self.disk.sync(&file))?;
                    let mut block = vec![0; BLOCK_BYTES];
                    self.io(name, self.disk.read(&file, 0, &mut block))?;
                    let header = match SegmentHeader::parse(&block) {
                        Ok(header) => header,
                        Err(error @ HeaderError::Version { .. }) => return Err(self.unreadable(name, error)),
                        Err(error) => {
                            visitor.damaged(self.unreadable(name, format!("damaged: {error}")))?;
                            continue;
                        }
                    };
                    if header.segment != number || self.io(name, self.disk.bytes(&file))? < header.bytes {
                        let what = "its name or length is not what its header says";
                        visitor.damaged(self.unreadable(name, what))?;
                        continue;
                    }
                    self.segments.insert(number, Segment { file, header });
                }
                Some(Name::Snapshot(lsn)) => snapshots.push(lsn),
                _ => {}
            }
        }
        snapshots.sort_unstable();
        Ok(snapshots)
    }

    /// Reads the snapshots.
    fn read_snapshots(&self, lsns: Vec<u64>, from: From) -> Result<Snapshots, RecoveryError> {
        let mut snapshots = Snapshots::default();
        for lsn in lsns {
            let name = Name::Snapshot(lsn).to_string();
            match snapshot::read(self.disk, &name) {
                Ok(snapshot) => {
                    snapshots.whole.push(lsn);
                    snapshots.newest = Some(snapshot);
                }
                Err(SnapshotError::Io(source)) => return self.io(name, Err(source)),
                Err(error @ SnapshotError::Version { .. }) => return Err(self.unreadable(name, error)),
                Err(error) => snapshots.broken.push(format!("{name} is not whole ({error})")),
            }
        }
        // The log from its beginning may not be there any more.
        match snapshots.broken.last() {
            Some(broken) if from == From::Snapshot && snapshots.newest.is_none() && !self.begins() => {
                Err(self.unreadable("its snapshots", broken))
            }
            _ => Ok(snapshots),
        }
    }

    fn begins(&self) -> bool {
        self.segments.values().next().is_some_and(|first| first.header.before_segment == 0)
    }

    /// An empty state, at the beginning of the log.
    fn beginning(&self) -> Result<Snapshot, RecoveryError> {
        match self.segments.first_key_value() {
            None => Ok(Snapshot::nothing(0)),
            Some((number, _)) if self.begins() => Ok(Snapshot::nothing(*number)),
            Some((number, first)) => {
                let detail = format!("there is no snapshot, and the log begins with segment {number}");
                Err(self.damaged(0, first.header.before_lsn, detail))
            }
        }
    }

    /// An empty state, at the oldest batch that is whole.
    fn oldest(&self) -> Result<Snapshot, RecoveryError> {
        let Some(segment) = self.segments.keys().next().copied() else { return Ok(Snapshot::nothing(0)) };
        let first = At { segment, offset: FIRST_BATCH, lsn: 0, checksum: 0, last: 0 };
        let At { segment, offset, lsn, checksum, .. } = self.next_whole(&first)?.unwrap_or(first);
        Ok(Snapshot { lsn, checksum, segment, offset, state: State::default() })
    }

    /// Reads on from `at` to the end of the log.
    fn walk(
        &mut self,
        mut at: At,
        recovered: &mut Recovered,
        visitor: &mut impl Visitor,
    ) -> Result<(), RecoveryError> {
        if self.segments.is_empty() {
            return if at.lsn == 0 && self.later.as_ref().is_none_or(|snapshot| snapshot.lsn == 0) {
                Ok(())
            } else {
                visitor.damaged(self.damaged(at.lsn, at.lsn, "there is a snapshot and no segment".to_owned()))
            };
        }
        if !self.segments.contains_key(&at.segment) {
            let detail = format!("segment {} is not there", at.segment);
            return Err(self.damaged(at.lsn, at.lsn, detail));
        }
        let total: u64 = self.segments.range(at.segment..).map(|(_, segment)| segment.header.bytes).sum();
        let mut looks = 0;
        loop {
            let segment = &self.segments[&at.segment];
            let cut = self.cut(segment.header.epoch);
            self.read_segment(&mut at, cut.as_ref(), recovered, (&mut *visitor, total))?;
            if visitor.is_done() {
                return Ok(());
            }
            (recovered.lsn, recovered.checksum, recovered.segment) = (at.lsn, at.checksum, at.last);
            let next = match self.behind(&at, cut.as_ref()) {
                Ok(None) => self.diagnose(&at, recovered).map(|()| None),
                next => next,
            };
            at = match next {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(()),
                Err(mut error @ RecoveryError::Damaged { .. }) => {
                    // It may have been written since it was looked at: what says so was written later.
                    if self.is_live && looks < LOOKS_MOST {
                        looks += 1;
                        std::thread::sleep(LOOK_AGAIN);
                        continue;
                    }
                    let next = self.next_whole(&at)?;
                    if let (Some(next), RecoveryError::Damaged { first_lsn, last_lsn, .. }) =
                        (&next, &mut error)
                    {
                        *last_lsn = next.lsn.saturating_sub(1).max(*first_lsn);
                    }
                    if !self.was_given_up(&at, next.as_ref(), recovered)? {
                        visitor.damaged(error)?;
                    }
                    match next {
                        Some(next) => next,
                        None => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
            };
            looks = 0;
        }
    }

    /// The next batch that is whole, at `at` or behind, and of a history that was confirmed.
    fn next_whole(&self, at: &At) -> Result<Option<At>, RecoveryError> {
        let mut aligned = Aligned::new(BATCH_BYTES_MAX);
        let bytes = aligned.first(BATCH_BYTES_MAX);
        for (number, segment) in self.segments.range(at.segment..) {
            let cut = self.cut(segment.header.epoch);
            let mut offset = if *number == at.segment { at.offset } else { FIRST_BATCH };
            while offset < segment.header.bytes {
                let most = (BATCH_BYTES_MAX as u64).min(segment.header.bytes - offset) as usize;
                self.io(Name::Segment(*number), self.disk.read(&segment.file, offset, &mut bytes[..most]))?;
                // A batch may begin at any block of it; one that does not end in it is read again from its beginning.
                let mut blocks = (0..most).step_by(BLOCK_BYTES);
                let found = blocks.find_map(|block| {
                    let header = BatchHeader::parse(&bytes[block..most], &segment.header)?;
                    let is_behind = cut.is_some_and(|cut| header.end_lsn() > cut.before_lsn);
                    (header.first_lsn >= at.lsn && !is_behind).then_some((block, header))
                });
                match found {
                    Some((0, header)) if header.covers(&bytes[..most], segment.header.salt) => {
                        let (lsn, checksum) = (header.first_lsn, header.previous);
                        return Ok(Some(At { segment: *number, offset, lsn, checksum, last: at.last }));
                    }
                    Some((0, _)) => offset += BLOCK_BYTES as u64,
                    Some((block, _)) => offset += block as u64,
                    None => offset += most as u64,
                }
            }
        }
        Ok(None)
    }

    /// Whether what is missing between `at` and the next batch was given up: whole segments that nobody needed.
    fn was_given_up(&self, at: &At, next: Option<&At>, recovered: &Recovered) -> Result<bool, RecoveryError> {
        let Some(next) = next.filter(|next| next.segment > at.segment) else { return Ok(false) };
        let names = self.io("its directory", self.disk.list())?;
        let between = (at.segment + 1..next.segment).map(|number| Name::Segment(number).to_string());
        let are_gone =
            next.segment > at.segment + 1 && !between.into_iter().any(|name| names.contains(&name));
        let is_gone = self.is_live && !names.contains(&Name::Segment(at.segment).to_string());
        let is_old = recovered.snapshots.last().is_some_and(|lsn| next.lsn <= *lsn);
        Ok(is_gone || are_gone && is_old)
    }

    /// The header that says where an epoch ended.
    fn cut(&self, epoch: u64) -> Option<SegmentHeader> {
        let headers = self.segments.values().map(|segment| segment.header);
        headers.filter(|header| header.epoch > epoch).min_by_key(|header| header.segment)
    }

    /// Reads the batches of one segment, as far as they are whole and follow each other.
    fn read_segment(
        &mut self,
        at: &mut At,
        cut: Option<&SegmentHeader>,
        recovered: &mut Recovered,
        (visitor, of): (&mut impl Visitor, u64),
    ) -> Result<(), RecoveryError> {
        let mut later = self.later.take();
        let segment = &self.segments[&at.segment];
        let name = Name::Segment(at.segment);
        let (mut aligned, mut buffered) = (Aligned::new(READ_BYTES), at.offset..at.offset);
        let buffer = aligned.first(READ_BYTES);
        let cut = cut.filter(|_| !mutations::is(Mutation::NoEpoch));
        // Batches without records do not raise the LSN: the checksum says which one was the last.
        let is_last =
            |at: &At| cut.is_some_and(|cut| (cut.before_lsn, cut.before_checksum) == (at.lsn, at.checksum));
        while !visitor.is_done() && !is_last(at) && at.offset < segment.header.bytes {
            let needed = at.offset + (BATCH_BYTES_MAX as u64).min(segment.header.bytes - at.offset);
            if needed > buffered.end {
                // What is there already moves to the front.
                buffer.copy_within(
                    (at.offset - buffered.start) as usize..(buffered.end - buffered.start) as usize,
                    0,
                );
                let kept = (buffered.end - at.offset) as usize;
                let bytes = (READ_BYTES as u64).min(segment.header.bytes - at.offset) as usize;
                self.io(name, self.disk.read(&segment.file, buffered.end, &mut buffer[kept..bytes]))?;
                buffered = at.offset..at.offset + bytes as u64;
            }
            let bytes =
                &buffer[(at.offset - buffered.start) as usize..(buffered.end - buffered.start) as usize];
            if let Some(snapshot) = later.take_if(|snapshot| snapshot.lsn <= at.lsn) {
                recovered.state = snapshot.state;
            }
            let Some(header) = BatchHeader::parse(bytes, &segment.header) else { break };
            let follows = header.first_lsn == at.lsn && header.previous == at.checksum
                || mutations::is(Mutation::NoChain);
            let is_behind = cut.is_some_and(|cut| header.end_lsn() > cut.before_lsn);
            if !follows || is_behind || !header.covers(bytes, segment.header.salt) {
                break;
            }
            if at.offset == FIRST_BATCH && segment.header.begins_epoch() {
                recovered.state.begin_epoch();
            }
            let block = (at.offset / BLOCK_BYTES as u64) as u32;
            let place = Place { segment: at.segment, block };
            let body = &bytes[header.body()];
            apply(&mut recovered.state, body, place).map_err(|error| {
                self.unreadable(name, format!("the batch at byte {}: {error}", at.offset))
            })?;
            recovered.bytes += u64::from(header.bytes);
            recovered.batches += 1;
            visitor.batch(&header, place, body);
            visitor.progress(recovered.bytes, of);
            at.offset += u64::from(header.bytes);
            (at.lsn, at.checksum, at.last) = (header.end_lsn(), header.checksum, at.segment);
        }
        self.later = later;
        Ok(())
    }

    /// Where reading goes on behind a segment that is read; `None`: nowhere.
    fn behind(&self, at: &At, cut: Option<&SegmentHeader>) -> Result<Option<At>, RecoveryError> {
        let epoch = self.segments[&at.segment].header.epoch;
        let next = self.segments.range(at.segment + 1..).next();
        let goes_on = |segment| Some(At { segment, offset: FIRST_BATCH, ..*at });
        match (next, cut) {
            (_, Some(cut)) if (at.lsn, at.checksum) == (cut.before_lsn, cut.before_checksum) => {
                Ok(goes_on(cut.segment))
            }
            // Also where all records are read: marks may follow.
            (Some((number, segment)), _)
                if segment.header.epoch == epoch && self.begins_behind(segment, at)? =>
            {
                Ok(goes_on(*number))
            }
            (_, Some(cut)) if at.lsn == cut.before_lsn => {
                let detail = format!("segment {} follows another history", cut.segment);
                Err(self.damaged(at.lsn, at.lsn, detail))
            }
            _ => self.missing(at, cut),
        }
    }

    /// The epoch ends here: is that where the next one says?
    fn missing(&self, at: &At, cut: Option<&SegmentHeader>) -> Result<Option<At>, RecoveryError> {
        match cut {
            None => Ok(None),
            Some(cut) => {
                let detail = format!(
                    "segment {} ends at byte {}; segment {} says that records up to {} were there",
                    at.segment, at.offset, cut.segment, cut.before_lsn
                );
                Err(self.damaged(at.lsn, cut.before_lsn, detail))
            }
        }
    }

    /// Whether the first batch of a segment is the next one.
    fn begins_behind(&self, segment: &Segment<D::File>, at: &At) -> Result<bool, RecoveryError> {
        let mut bytes = vec![0; BATCH_BYTES_MAX];
        let name = Name::Segment(segment.header.segment);
        self.io(name, self.disk.read(&segment.file, FIRST_BATCH, &mut bytes))?;
        let header = BatchHeader::parse(&bytes, &segment.header);
        Ok(header.is_some_and(|header| {
            let follows = header.first_lsn == at.lsn && header.previous == at.checksum;
            (follows || mutations::is(Mutation::NoChain)) && header.covers(&bytes, segment.header.salt)
        }))
    }

    /// Looks behind the end of the log, only to tell a torn tail from damage.
    fn diagnose(&self, at: &At, recovered: &mut Recovered) -> Result<(), RecoveryError> {
        let epoch = self.segments[&at.segment].header.epoch;
        let mut durable = recovered.snapshots.last().copied().unwrap_or(0);
        let mut is_torn = false;
        let behind = self.segments.range(at.segment..).map(|(_, segment)| segment);
        for segment in behind.filter(|segment| segment.header.epoch == epoch) {
            let from = if segment.header.segment == at.segment { at.offset } else { FIRST_BATCH };
            self.each_header_behind(segment, from, |header| {
                is_torn = true;
                durable = durable.max(header.durable_lsn);
            })?;
        }
        if durable > at.lsn {
            let detail = format!(
                "the batch at byte {} of segment {} is not whole, or missing; what was written later says that records \
                 below {durable} were on the device",
                at.offset, at.segment
            );
            return Err(self.damaged(at.lsn, durable, detail));
        }
        let torn = Torn { segment: at.segment, offset: at.offset, lsn: at.lsn };
        recovered.torn = is_torn.then_some(torn);
        Ok(())
    }

    /// Each header of a batch in the rest of a segment, at whatever block.
    fn each_header_behind(
        &self,
        segment: &Segment<D::File>,
        from: u64,
        mut each: impl FnMut(&BatchHeader),
    ) -> Result<(), RecoveryError> {
        let mut aligned = Aligned::new(READ_BYTES);
        let buffer = aligned.first(READ_BYTES);
        let mut offset = from;
        let end = match self.lost {
            Lost::Process => segment.header.bytes.min(from + LOOK_BEHIND_BYTES),
            Lost::Host => segment.header.bytes,
        };
        while offset < end {
            let bytes = (READ_BYTES as u64).min(end - offset) as usize;
            let name = Name::Segment(segment.header.segment);
            self.io(name, self.disk.read(&segment.file, offset, &mut buffer[..bytes]))?;
            let blocks = buffer[..bytes].chunks_exact(BLOCK_BYTES);
            blocks
                .filter_map(|block| BatchHeader::parse(block, &segment.header))
                .for_each(|header| each(&header));
            offset += bytes as u64;
        }
        Ok(())
    }
}

/// Takes the records of a batch.
pub(crate) fn apply(state: &mut State, body: &[u8], place: Place) -> Result<(), RecordError> {
    for record in records(body) {
        match record? {
            Record::Messages(messages) => {
                let run = messages.run;
                let end = run.first.saturating_add(run.count.into());
                state.add_messages(StreamId(run.stream), run.first, end, place);
            }
            Record::Part(part, bytes) => state.add_part(&part, bytes.len() as u32, place),
            Record::State(record) => state.apply(record),
        }
    }
    Ok(())
}
