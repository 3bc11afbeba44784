//! Making a new data directory of what can still be read of a damaged one.
//!
//! ```text
//! old journal ──everything that is whole──▶ state, and where messages are ──▶ new journal: declarations, messages, settlements
//! ```
//!
//! 1. The old directory is not changed; the new one is empty before.
//! 2. Positions stay as they were. A message that is lost is passed over by whoever reads, as one that was never committed.
//! 3. A snapshot is trusted beyond what the log says: messages come from the log alone.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringway_shm_protocol::ring::Received;
use rustix::event::EventfdFlags;
use thiserror::Error;

use crate::clock;
use crate::config::SEGMENT_BYTES_DEFAULT;
use crate::core::StreamId;
use crate::inspection::Journal;
use crate::journal::SHARDS;
use crate::journal::disk::files::Directory;
use crate::journal::disk::threads::Threads;
use crate::journal::format::{BatchHeader, SegmentHeader};
use crate::journal::log::{Log, NoBuffer, Progress, Start};
use crate::journal::reading::Reading;
use crate::journal::records::StateRecord;
use crate::journal::recovery::{From, RecoveryError, Visitor};
use crate::journal::segments::{self, Needed};
use crate::journal::snapshot;
use crate::journal::state::{Place, State};

/// How long to wait for a journal to be let go of.
const REST_WAIT: Duration = Duration::from_secs(1);

/// Why nothing was salvaged. What was made of the new directory is left there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// A broker is at work in the old directory.
    #[error("a broker writes the journal in {}: stop it first (ringway stop)", .0.display())]
    InUse(PathBuf),
    /// The new directory has something in it.
    #[error("{} is not empty: name a directory that is, or is not there yet", .0.display())]
    NotEmpty(PathBuf),
    /// The old directory cannot be read at all.
    #[error(transparent)]
    Unreadable(#[from] RecoveryError),
    /// The new directory cannot be written.
    #[error("cannot write the new journal in {}: {source}", .directory.display())]
    Write {
        /// The new directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What has come of it, for one shard.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// The shard.
    pub shard: u32,
    /// Streams (each partition counts) that are there again.
    pub streams: u64,
    /// Messages that are there again.
    pub messages: u64,
    /// Messages that were wanted and could not be read.
    pub lost: u64,
    /// What is missing of the old journal, each with where it was.
    pub damage: Vec<String>,
}

/// Salvages the journals of all shards of `data` into the directory `into`.
pub fn salvage(data: &Path, into: &Path) -> Result<Vec<Salvaged>, SalvageError> {
    let journals = at_rest(data)?;
    if let Some(journal) = journals.iter().find(|journal| journal.is_live()) {
        return Err(SalvageError::InUse(journal.directory().to_owned()));
    }
    if std::fs::read_dir(into).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(SalvageError::NotEmpty(into.to_owned()));
    }
    // Nothing is made where nothing can be read.
    let read = journals.iter().map(|journal| {
        let mut found = Found(Vec::new());
        let state = journal.read(From::Oldest, &mut found)?.state;
        Ok((journal, state, found.0))
    });
    let read = read.collect::<Result<Vec<_>, RecoveryError>>()?;
    let failed = |source| SalvageError::Write { directory: into.to_owned(), source };
    std::fs::create_dir_all(into).map_err(failed)?;
    let shards = std::fs::read_to_string(data.join(SHARDS));
    let shards = shards.unwrap_or_else(|_| format!("{}\n", journals.len()));
    std::fs::write(into.join(SHARDS), shards).map_err(failed)?;
    let salvaged = read.into_iter().map(|(journal, state, damage)| {
        let directory = into.join(format!("shard-{}", journal.shard()));
        std::fs::create_dir(&directory).map_err(failed)?;
        let mut salvaged = Salvaged { shard: journal.shard(), damage, ..Salvaged::default() };
        write(journal, state, &directory, &mut salvaged).map_err(failed)?;
        Ok(salvaged)
    });
    let salvaged = salvaged.collect();
    std::fs::File::open(into).and_then(|directory| directory.sync_all()).map_err(failed)?;
    salvaged
}

/// The journals, when nobody writes them any more: the kernel lets go of the lock a little after a broker has ended.
fn at_rest(data: &Path) -> Result<Vec<Journal>, RecoveryError> {
    let began = Instant::now();
    loop {
        let journals = Journal::all(data)?;
        if !journals.iter().any(Journal::is_live) || began.elapsed() >= REST_WAIT {
            return Ok(journals);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Takes note of what is missing.
struct Found(Vec<String>);

impl Visitor for Found {
    fn batch(&mut self, _: &BatchHeader, _: Place, _: &[u8]) {}
    fn progress(&mut self, _: u64, _: u64) {}

    fn damaged(&mut self, error: RecoveryError) -> Result<(), RecoveryError> {
        self.0.push(error.to_string());
        Ok(())
    }
}

/// Writes a new journal that says what `state` says, with the messages that can be read.
fn write(journal: &Journal, state: State, directory: &Path, salvaged: &mut Salvaged) -> io::Result<()> {
    let mut new = NewJournal::make(journal.shard(), directory)?;
    let mut reading = Reading::new(journal.disk());
    new.state(&StateRecord::StreamsMade(state.streams_made))?;
    for (id, stream) in &state.streams {
        let declared = Some(Box::new(stream.declared.clone()));
        new.state(&StateRecord::Stream(*id, declared))?;
        salvaged.streams += 1;
        for extent in &stream.extents {
            let wanted = extent.end - extent.first;
            let (found, wrong) = reading.what_is_whole(*id, extent);
            if let Some(error) = wrong {
                let name = &stream.declared.partition().stream;
                let (first, last) = (extent.first, extent.end - 1);
                salvaged.damage.push(format!("some of messages {first} to {last} of stream {name}: {error}"));
            }
            salvaged.messages += found.len() as u64;
            salvaged.lost += wanted.saturating_sub(found.len() as u64);
            for (received, body) in found {
                new.message(*id, received, &body)?;
            }
        }
    }
    new.settle()?;
    for record in state.records() {
        let is_there = |id: &StreamId, position: &u64| new.has(*id, *position);
        let is_wanted = match &record {
            // Written already, or of the old log alone.
            StateRecord::StreamsMade(_) | StateRecord::Stream(..) | StateRecord::Extent(..) => false,
            // In the snapshot.
            StateRecord::End(..) => false,
            StateRecord::Lot(id, _, position, Some(_)) => is_there(id, position),
            _ => true,
        };
        if is_wanted {
            new.state(&record)?;
        }
    }
    let ends = state.streams.iter().map(|(id, stream)| StateRecord::End(*id, stream.end));
    new.finish(ends)
}

/// A journal that is being made.
struct NewJournal {
    disk: Directory,
    log: Log<Directory, Threads>,
}

impl NewJournal {
    fn make(shard: u32, directory: &Path) -> io::Result<Self> {
        let disk = Directory::open(directory)?;
        let mut journal = [0; 16];
        rustix::rand::getrandom(&mut journal, rustix::rand::GetRandomFlags::empty())?;
        let header = SegmentHeader {
            magic: 0,
            checksum: 0,
            version: 0,
            shard,
            journal,
            segment: 1,
            epoch: 1,
            salt: random()?,
            bytes: SEGMENT_BYTES_DEFAULT,
            before_lsn: 0,
            before_checksum: 0,
            before_segment: 0,
        };
        let segment = segments::prepare(&disk, header, 0)?;
        // Nobody sleeps by it.
        let wake: OwnedFd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let start = Start { shard, lsn: 0, checksum: 0, state: State::default(), last: None, first: None };
        Ok(Self { disk, log: Log::new(start, segment, Threads::new(&wake, None)?) })
    }

    /// Whether a message is in it.
    fn has(&self, id: StreamId, position: u64) -> bool {
        let stream = self.log.state().streams.get(&id);
        stream.is_some_and(|stream| {
            let index = stream.extents.partition_point(|extent| extent.end <= position);
            stream.extents.get(index).is_some_and(|extent| extent.first <= position)
        })
    }

    fn state(&mut self, record: &StateRecord) -> io::Result<()> {
        while let Err(NoBuffer) = self.log.append_state(record, true) {
            self.turn()?;
        }
        Ok(())
    }

    fn message(&mut self, id: StreamId, received: Received, body: &[u8]) -> io::Result<()> {
        let mut offset = 0;
        while let Err(so_far) = self.log.append_body(id, received, body, offset, true) {
            offset = so_far;
            self.turn()?;
        }
        Ok(())
    }

    /// Waits until everything is durable, and in the state.
    fn settle(&mut self) -> io::Result<()> {
        while self.log.is_busy() {
            self.turn()?;
        }
        Ok(())
    }

    /// Lets the log go on.
    fn turn(&mut self) -> io::Result<()> {
        if self.log.wants_segment() {
            let header = self.log.next_header(random()?);
            self.log.set_next(segments::prepare(&self.disk, header, 0)?);
        }
        self.log.submit(clock::wall);
        self.log.poll(&mut Progress::default());
        rustix::thread::sched_yield();
        match self.log.failure() {
            Some(why) => Err(io::Error::other(why.to_owned())),
            None => Ok(()),
        }
    }

    /// Waits until everything is durable, and writes a snapshot that knows where streams end, too.
    fn finish(mut self, ends: impl Iterator<Item = StateRecord>) -> io::Result<()> {
        self.settle()?;
        ends.for_each(|end| self.log.state_mut().apply(end));
        let (lsn, checksum) = (self.log.next_lsn(), self.log.checksum());
        let bytes = snapshot::to_bytes(lsn, checksum, self.log.place(), self.log.state());
        snapshot::write(&self.disk, lsn, &bytes)?;
        segments::give_up(&self.disk, &Needed::default())
    }
}

fn random() -> io::Result<u64> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(random))
}
