//! Journals as they are on the disk, for who looks at them from outside: nothing is changed, and a broker may be at work.
//!
//! ```no_run
//! use ringway_broker::inspection::Journal;
//!
//! for journal in Journal::all("/var/lib/ringway".as_ref())? {
//!     let verified = journal.verify(&mut |_, _| ())?;
//!     println!("shard {}: {} messages, damage: {:?}", journal.shard(), verified.messages, verified.damage);
//! }
//! # Ok::<(), ringway_broker::RecoveryError>(())
//! ```
//!
//! What a running broker writes meanwhile is seen or not. What looks damaged while it does is looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use ringway_shm_protocol::attributes::AttributesView;
use ringway_shm_protocol::control::message::Durability;
use ringway_shm_protocol::ring::{Part, Received};
use rustix::fs::FlockOperation;

use crate::core::StreamId;
use crate::journal::disk::Disk;
use crate::journal::disk::files::Directory;
use crate::journal::format::{BLOCK_BYTES, BatchHeader, FIRST_BATCH, SegmentHeader};
use crate::journal::records::{PartHeader, Record, StateRecord, records};
use crate::journal::recovery::{self, From, Lost, RecoveryError, Visitor};
use crate::journal::segments::Name;
use crate::journal::state::{Place, State};
use crate::journal::{LOCK, snapshot};

/// A shard's journal.
pub struct Journal {
    shard: u32,
    path: PathBuf,
    disk: Directory,
    is_live: bool,
}

/// What a file of a journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A part of the log.
    Segment {
        /// Its number.
        segment: u64,
        /// Which start of the broker has made it.
        epoch: u64,
        /// Its first record, if there is one.
        first_lsn: Option<u64>,
    },
    /// What the log says below a record.
    Snapshot {
        /// That record.
        lsn: u64,
        /// Whether its checksum matches.
        is_whole: bool,
    },
    /// One that will be a segment again.
    Spare,
    /// A segment whose header is damaged, or of another version.
    Unreadable,
}

/// A file of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name in the journal's directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What it is.
    pub kind: FileKind,
}

/// A partition of a stream, as a journal knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournaledStream {
    /// The stream's name.
    pub stream: String,
    /// The partition.
    pub partition: u32,
    /// What it was declared with.
    pub durability: Durability,
    /// Messages that the journal still has, and where the oldest is.
    pub messages: u64,
    /// Position of the oldest of them; without any, one past the newest that was there.
    pub first: u64,
    /// One past the newest position.
    pub end: u64,
}

/// A message of a journal.
#[derive(Clone, Copy, Debug)]
pub struct LogMessage<'a> {
    /// The record that it is in.
    pub lsn: u64,
    /// When its batch was written: nanoseconds since 1970.
    pub time_ns: u64,
    /// The stream's name; `None`: it is gone, and the journal does not know how it was called.
    pub stream: Option<&'a str>,
    /// The partition.
    pub partition: u32,
    /// The position in it.
    pub position: u64,
    /// What it says about itself.
    pub attributes: AttributesView<'a>,
    /// The message itself.
    pub payload: &'a [u8],
}

/// What has come of a [`Journal::verify`].
#[derive(Debug, Default)]
pub struct Verified {
    /// Bytes of the log that were read.
    pub bytes: u64,
    /// Batches that are whole.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Messages in them.
    pub messages: u64,
    /// Snapshots that are whole, and those that are not.
    pub snapshots: (usize, usize),
    /// What was written behind the end of the log and never confirmed: file, and where in it.
    pub torn: Option<(String, u64)>,
    /// What is missing, each with where it was.
    pub damage: Vec<String>,
}

impl Journal {
    /// The journals of all shards in a data directory, in order.
    pub fn all(data: &Path) -> Result<Vec<Self>, RecoveryError> {
        let failed = |file: &Path| {
            let file = file.file_name().filter(|_| file != data).unwrap_or("itself".as_ref());
            let (directory, file) = (data.display().to_string(), file.display().to_string());
            move |source| RecoveryError::Io { directory, file, source }
        };
        let mut journals = Vec::new();
        for entry in std::fs::read_dir(data).map_err(failed(data))? {
            let path = entry.map_err(failed(data))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(shard) = name.strip_prefix("shard-").and_then(|shard| shard.parse().ok()) else {
                continue;
            };
            let disk = Directory::open_read_only(&path).map_err(failed(&path))?;
            let is_live = is_locked(&path.join(LOCK)).map_err(failed(&path))?;
            journals.push(Self { shard, path, disk, is_live });
        }
        journals.sort_by_key(|journal| journal.shard);
        Ok(journals)
    }

    /// The shard's number.
    pub fn shard(&self) -> u32 {
        self.shard
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.path
    }

    /// Whether a broker had it open.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    fn io<T>(&self, file: &str, result: io::Result<T>) -> Result<T, RecoveryError> {
        let directory = self.path.display().to_string();
        result.map_err(|source| RecoveryError::Io { directory, file: file.to_owned(), source })
    }

    /// Its directory, to read from.
    pub(crate) fn disk(&self) -> &Directory {
        &self.disk
    }

    pub(crate) fn read(
        &self,
        from: From,
        visitor: &mut impl Visitor,
    ) -> Result<recovery::Recovered, RecoveryError> {
        let directory = self.path.display().to_string();
        recovery::read_from(from, &self.disk, &directory, Lost::Host, self.is_live, visitor)
    }

    /// Its files, by their names.
    pub fn files(&self) -> Result<Vec<FileInfo>, RecoveryError> {
        let mut names = self.io("its directory", self.disk.list())?;
        names.sort_unstable();
        let mut files = Vec::new();
        for name in names {
            let Some(parsed) = Name::parse(&name) else { continue };
            // One that is given up meanwhile is not there any more.
            let Ok(file) = self.disk.open(&name) else { continue };
            let bytes = self.io(&name, self.disk.bytes(&file))?;
            let kind = match parsed {
                Name::Spare(_) => FileKind::Spare,
                Name::Snapshot(lsn) => {
                    FileKind::Snapshot { lsn, is_whole: snapshot::read(&self.disk, &name).is_ok() }
                }
                Name::Segment(segment) => {
                    let mut block = vec![0; BLOCK_BYTES];
                    self.io(&name, self.disk.read(&file, 0, &mut block))?;
                    match SegmentHeader::parse(&block) {
                        Err(_) => FileKind::Unreadable,
                        Ok(header) => {
                            self.io(&name, self.disk.read(&file, FIRST_BATCH, &mut block))?;
                            let batch = BatchHeader::parse(&block, &header);
                            let first_lsn = batch.map(|batch| batch.first_lsn);
                            FileKind::Segment { segment, epoch: header.epoch, first_lsn }
                        }
                    }
                }
            };
            files.push(FileInfo { name, bytes, kind });
        }
        Ok(files)
    }

    /// The streams that it knows, in the order that they were made in.
    pub fn streams(&self) -> Result<Vec<JournaledStream>, RecoveryError> {
        let state = self.read(From::Snapshot, &mut ())?.state;
        let of = |stream: &crate::journal::state::StreamState| JournaledStream {
            stream: stream.declared.partition().stream.to_string(),
            partition: stream.declared.partition().number,
            durability: stream.declared.settings().durability,
            messages: stream.extents.iter().map(|extent| extent.end - extent.first).sum(),
            first: stream.extents.front().map_or(stream.end, |extent| extent.first),
            end: stream.end,
        };
        Ok(state.streams.values().map(of).collect())
    }

    /// Shows each message that the log has, in the order that they were written in, until `each` returns `false`. What is missing
    /// is told to `damaged`, and reading goes on behind it.
    pub fn messages(
        &self,
        each: &mut dyn FnMut(LogMessage<'_>) -> bool,
        damaged: &mut dyn FnMut(&RecoveryError),
    ) -> Result<(), RecoveryError> {
        let names = self.newest_snapshot()?.streams.into_iter();
        let names = names.map(|(id, stream)| (id, partition_of(&stream.declared))).collect();
        let mut showing =
            Showing { names, parts: BTreeMap::new(), each, damaged, is_done: false, problem: None };
        self.read(From::Oldest, &mut showing)?;
        match showing.problem {
            Some(detail) => {
                let directory = self.path.display().to_string();
                Err(RecoveryError::Unreadable { directory, file: "a batch".to_owned(), detail })
            }
            None => Ok(()),
        }
    }

    fn newest_snapshot(&self) -> Result<State, RecoveryError> {
        let mut names = self.io("its directory", self.disk.list())?;
        names.sort_unstable();
        let snapshots =
            names.iter().rev().filter(|name| matches!(Name::parse(name), Some(Name::Snapshot(_))));
        let whole = snapshots.filter_map(|name| snapshot::read(&self.disk, name).ok()).next();
        Ok(whole.map(|snapshot| snapshot.state).unwrap_or_default())
    }

    /// Reads all of it, and checks that everything is there that was confirmed and is still needed. `progress` is told how many
    /// bytes of how many have been read.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, RecoveryError> {
        let mut checking = Checking { verified: Verified::default(), places: BTreeSet::new(), progress };
        let read = self.read(From::Oldest, &mut checking)?;
        let Checking { mut verified, places, .. } = checking;
        (verified.bytes, verified.batches) = (read.bytes, read.batches);
        // Behind the log: what is not there any more has been given up meanwhile.
        let files = self.files()?;
        let snapshots = files.iter().filter_map(|file| match file.kind {
            FileKind::Snapshot { is_whole, .. } => Some((file, is_whole)),
            _ => None,
        });
        for (file, is_whole) in snapshots {
            if is_whole {
                verified.snapshots.0 += 1;
            } else {
                verified.snapshots.1 += 1;
                verified.damage.push(format!("{} is not whole", file.name));
            }
        }
        verified.torn = read.torn.map(|torn| (Name::Segment(torn.segment).to_string(), torn.offset));
        // Where a start would look for messages.
        for stream in read.state.streams.values() {
            let is_there = |segment| files.iter().any(|file| file.name == Name::Segment(segment).to_string());
            let lost = stream.extents.iter().filter(|extent| {
                !places.contains(&(extent.segment, extent.block))
                    && (!self.is_live || is_there(extent.segment))
            });
            verified.damage.extend(lost.map(|extent| {
                format!(
                    "messages {} to {} of stream {} are in no batch that is whole: they were at byte {} of {}",
                    extent.first,
                    extent.end - 1,
                    partition_of(&stream.declared).0,
                    u64::from(extent.block) * BLOCK_BYTES as u64,
                    Name::Segment(extent.segment),
                )
            }));
        }
        Ok(verified)
    }
}

fn partition_of(declared: &crate::core::DeclaredStream) -> (String, u32) {
    let partition = declared.partition();
    (partition.stream.to_string(), partition.number)
}

/// Whether somebody holds the lock. Without the file nobody does.
fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Counts.
struct Checking<'a> {
    verified: Verified,
    places: BTreeSet<(u64, u32)>,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Visitor for Checking<'_> {
    fn batch(&mut self, header: &BatchHeader, place: Place, body: &[u8]) {
        self.places.insert((place.segment, place.block));
        self.verified.records += u64::from(header.records);
        for record in records(body).flatten() {
            self.verified.messages += match record {
                Record::Messages(messages) => messages.run.count.into(),
                Record::Part(part, bytes) => u64::from(ends(&part, bytes)),
                Record::State(_) => 0,
            };
        }
    }

    fn progress(&mut self, bytes: u64, of: u64) {
        (self.progress)(bytes, of);
    }

    fn damaged(&mut self, error: RecoveryError) -> Result<(), RecoveryError> {
        self.verified.damage.push(error.to_string());
        Ok(())
    }
}

/// Whether a message in parts is whole with this one.
fn ends(part: &PartHeader, bytes: &[u8]) -> bool {
    part.offset as usize + bytes.len() == part.body_bytes as usize
}

/// Shows messages.
struct Showing<'a> {
    names: BTreeMap<StreamId, (String, u32)>,
    /// Messages in parts: their bodies so far.
    parts: BTreeMap<u64, Vec<u8>>,
    each: &'a mut dyn FnMut(LogMessage<'_>) -> bool,
    damaged: &'a mut dyn FnMut(&RecoveryError),
    is_done: bool,
    problem: Option<String>,
}

impl Showing<'_> {
    fn show(&mut self, header: &BatchHeader, lsn: u64, stream: u64, (received, body): (Received, &[u8])) {
        let inline = |part| match part {
            Part::Inline(bytes) => bytes,
            Part::Arena(_) => &[][..],
        };
        let attributes = AttributesView::parse(received.flags(), inline(received.attributes(body)));
        let name = self.names.get(&StreamId(stream));
        let message = LogMessage {
            lsn,
            time_ns: header.time_ns,
            stream: name.map(|(name, _)| name.as_str()),
            partition: name.map_or(0, |(_, number)| *number),
            position: received.position,
            // A producer may write there what it likes.
            attributes: attributes.unwrap_or_default(),
            payload: inline(received.payload(body)),
        };
        self.is_done |= !(self.each)(message);
    }

    fn take(&mut self, header: &BatchHeader, body: &[u8]) -> Result<(), String> {
        for (lsn, record) in (header.first_lsn..).zip(records(body)) {
            match record.map_err(|error| error.to_string())? {
                Record::Messages(messages) => {
                    for message in messages.iter() {
                        let message = message.map_err(|error| error.to_string())?;
                        if !self.is_done {
                            self.show(header, lsn, messages.run.stream, message);
                        }
                    }
                }
                Record::Part(part, bytes) => {
                    let body = self.parts.entry(part.stream).or_default();
                    body.truncate(part.offset as usize);
                    body.extend_from_slice(bytes);
                    if ends(&part, bytes) && body.len() == part.body_bytes as usize {
                        let body = std::mem::take(body);
                        let received = Received::of_header(part.position, part.header, body.len());
                        if let Some(received) = received.filter(|_| !self.is_done) {
                            self.show(header, lsn, part.stream, (received, &body));
                        }
                    }
                }
                Record::State(StateRecord::Stream(id, Some(declared))) => {
                    self.names.insert(id, partition_of(&declared));
                }
                Record::State(_) => {}
            }
        }
        Ok(())
    }
}

impl Visitor for Showing<'_> {
    fn batch(&mut self, header: &BatchHeader, _: Place, body: &[u8]) {
        if let Err(problem) = self.take(header, body) {
            self.problem.get_or_insert(problem);
            self.is_done = true;
        }
    }

    fn progress(&mut self, _: u64, _: u64) {}

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn damaged(&mut self, error: RecoveryError) -> Result<(), RecoveryError> {
        (self.damaged)(&error);
        Ok(())
    }
}
