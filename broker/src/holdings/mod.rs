//! What a keeper holds of a stream, for who looks at it from outside: `ringway inspect` and `ringway peek`.
//!
//! ```no_run
//! use ringway_broker::holdings::Holdings;
//! use ringway_shm_protocol::name::Name;
//!
//! let mut holdings = Holdings::of_keeper("/run/ringway".as_ref())?;
//! let partition = holdings.partition(&Name::parse("orders")?, 0)?;
//! if let Some(ring) = &partition.ring {
//!     println!("{} messages so far", ring.view.end());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! 1. The broker is not asked and need not answer: it may be stopped. What it has decided is read from the memory log that it
//!    keeps for a successor, what goes on from the rings themselves.
//! 2. Nothing is changed: every descriptor is for reading, every mapping, too.
//! 3. A [dump](Holdings::dump) has the same, and is looked at by the same code.
//! 4. What goes on goes on: parts that are read one after another need not be of the same moment.

mod dump;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringway_shm_protocol::control::message::SubscriptionMode;
use ringway_shm_protocol::control::socket::{PATH_BYTES_MAX, connect_within};
use ringway_shm_protocol::control::{KEEPER_SOCKET_NAME, LOCK_NAME, SOCKET_NAME};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::memory::mapped::{Region, RegionError};
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::partition::RingIdentity;
use ringway_shm_protocol::view::{MemberWords, RingView, SharedView, SubscriptionView, look_at_arena};
use thiserror::Error;

use crate::clock;
use crate::core::lot::{self, LeaseOn, Lot, Nanos};
use crate::core::{Body, Core, Outline, Partition};
use crate::keeper::{Entry, Estate, Key, Link, Message, raise_descriptor_limit};
use crate::memory_log::MemoryLog;
use crate::shard::{LotLog, Remembered};
use dump::Dump;
pub use dump::{DumpError, Dumped};

/// How long a keeper may take to answer.
const ANSWER_AT_MOST: Duration = Duration::from_secs(2);
/// How often a ring is looked for that is being made or given up, and how long between two looks.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Why what is held cannot be looked at.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HoldingsError {
    /// There is no broker.
    #[error("no broker answers in {}: start one with `ringway serve --dir {}`", .0.display(), .0.display())]
    NoBroker(PathBuf),
    /// There is one without a keeper.
    #[error("the broker in {} has no keeper: it runs inside another program, and shows its rings to nobody", .0.display())]
    NoKeeper(PathBuf),
    /// The kernel's limit for socket paths.
    #[error("the directory is too deep: a socket's path has at most {PATH_BYTES_MAX} bytes and {} has {bytes}; take a shorter --dir", .path.display())]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// Its length in bytes.
        bytes: usize,
    },
    /// It hangs.
    #[error(
        "the keeper in {} (process {pid}) has not answered for {} s: it is stopped, very busy, or has no file descriptor left; \
         if it is stopped, let it go on: kill -CONT {pid}", .directory.display(), ANSWER_AT_MOST.as_secs()
    )]
    NoAnswer {
        /// Where it serves.
        directory: PathBuf,
        /// Its process, as the lock file says.
        pid: String,
    },
    /// It does not show anything to this user.
    #[error("the keeper in {} refuses: {reason}", .directory.display())]
    Refused {
        /// Where it serves.
        directory: PathBuf,
        /// Its reason.
        reason: String,
    },
    /// This user may not use its socket.
    #[error("this user may not ask the keeper in {}: only its own user and root may look at what it holds", .directory.display())]
    Denied {
        /// Where it serves.
        directory: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// It has hung up.
    #[error(
        "the keeper in {} has closed the connection: it has just been replaced, or has no file descriptor left; try again", .0.display()
    )]
    HungUp(PathBuf),
    /// The kernel refused.
    #[error("cannot ask the keeper in {}: {source}", .directory.display())]
    System {
        /// Where it serves.
        directory: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// There is no such stream.
    #[error("there is no stream {stream} in {place}")]
    NoStream {
        /// Its name.
        stream: Name,
        /// Where it was looked for.
        place: String,
    },
    /// The stream has fewer partitions.
    #[error("stream {stream} has {} in {place}: there is no partition {asked}", partitions_text(.partitions))]
    NoPartition {
        /// The stream.
        stream: Name,
        /// The partitions that there are.
        partitions: Vec<u32>,
        /// The number that was asked for.
        asked: u32,
        /// Where it was looked for.
        place: String,
    },
    /// A region cannot be mapped.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// What the broker has remembered cannot be read.
    #[error("cannot read what the broker has remembered: {0}")]
    Memory(io::Error),
    /// A dump cannot be read.
    #[error(transparent)]
    Dump(#[from] DumpError),
}

fn partitions_text(partitions: &[u32]) -> String {
    let numbers = partitions.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    format!("partition{} {numbers}", if partitions.len() == 1 { "" } else { "s" })
}

/// A partition as it stands.
pub struct HeldPartition {
    /// What was decided: settings, subscriptions, who has it open.
    pub outline: Outline,
    /// The shard that owns it.
    pub shard: u32,
    /// Its ring; `None`: it is made when the partition is first opened.
    pub ring: Option<HeldRing>,
}

/// A ring with all that belongs to it.
pub struct HeldRing {
    /// The ring.
    pub view: RingView,
    /// The regions of its subscriptions and of its journal, by their gates.
    pub subscriptions: BTreeMap<u8, SubscriptionView>,
    /// What `shared` ones have beside, by their gates.
    pub shared: BTreeMap<u8, HeldShared>,
    /// Arenas of its producers, and the shard's own, by their numbers.
    pub arenas: BTreeMap<u32, Arc<Region>>,
}

/// What a `shared` subscription has beside its region.
pub struct HeldShared {
    /// Its claims.
    pub view: SharedView,
    /// The messages of its lot, by their positions.
    pub lot: BTreeMap<u64, lot::Entry>,
    /// What they are.
    pub bodies: BTreeMap<u64, Body>,
    /// Leases whose end was noted: by what they are on, with the member and the time. Those that nobody has extended are known to
    /// the shard alone, which begins to count when it first sees them.
    pub leases: BTreeMap<LeaseOn, (u32, Nanos)>,
    /// Messages that have died so far.
    pub dead_total: u64,
    /// What its consumers have left, by their member ids.
    pub members: BTreeMap<u32, MemberWords>,
}

/// Where it all comes from.
enum Source {
    Keeper { link: Link, directory: PathBuf },
    Dump(Dump),
}

/// See the module.
pub struct Holdings(Source);

impl Holdings {
    /// Of the keeper of the broker in `directory`. Waits for a keeper that hangs, but not for long.
    pub fn of_keeper(directory: &Path) -> Result<Self, HoldingsError> {
        raise_descriptor_limit();
        let path = directory.join(KEEPER_SOCKET_NAME);
        let bytes = path.as_os_str().len();
        if bytes > PATH_BYTES_MAX {
            return Err(HoldingsError::PathTooLong { path, bytes });
        }
        let directory = directory.to_owned();
        match connect_within(&path, ANSWER_AT_MOST) {
            Ok(socket) => Ok(Self(Source::Keeper { link: Link::of(socket), directory })),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound if directory.join(SOCKET_NAME).exists() => {
                    HoldingsError::NoKeeper(directory)
                }
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                    HoldingsError::NoBroker(directory)
                }
                _ => unanswered(&directory, error),
            }),
        }
    }

    /// Of a file that [`dump`](Self::dump) has written.
    pub fn of_dump(path: &Path) -> Result<Self, HoldingsError> {
        raise_descriptor_limit();
        Ok(Self(Source::Dump(Dump::read(path)?)))
    }

    /// The time by which delays and leases end: now, or when the dump was written.
    pub fn now(&self) -> Nanos {
        match &self.0 {
            Source::Keeper { .. } => clock::monotonic(),
            Source::Dump(dump) => dump.monotonic_ns(),
        }
    }

    /// What is in the dump, if it is one.
    pub fn dumped(&self) -> Option<&Dumped> {
        match &self.0 {
            Source::Keeper { .. } => None,
            Source::Dump(dump) => Some(dump.dumped()),
        }
    }

    /// The partitions of a stream, in order.
    pub fn partitions(&mut self, stream: &Name) -> Result<Vec<u32>, HoldingsError> {
        Ok(self.find(stream)?.into_iter().map(|(number, ..)| number).collect())
    }

    /// A partition as it stands.
    pub fn partition(&mut self, stream: &Name, number: u32) -> Result<HeldPartition, HoldingsError> {
        let mut looks = 0;
        loop {
            let (shard, outline) = self.outline(stream, number)?;
            let entries = self.entries_of(shard, &outline)?;
            looks += 1;
            let ring = ring(shard, &outline, &entries, self.now())?;
            if ring.is_some() || !outline.opened || looks == LOOKS {
                return Ok(HeldPartition { outline, shard, ring });
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Writes all regions of these partitions of a stream, and what was decided of them, to a new file, readable to its owner only.
    pub fn dump(&mut self, stream: &Name, partitions: &[u32], path: &Path) -> Result<u64, HoldingsError> {
        dump::check_new(path)?;
        let mut entries = self.entries(Key::Catalogue(0), Key::Catalogue(u32::MAX))?;
        for number in partitions {
            let (shard, outline) = self.outline(stream, *number)?;
            entries.append(&mut self.entries_of(shard, &outline)?);
        }
        let dumped =
            Dumped { stream: stream.clone(), partitions: partitions.to_vec(), taken_ns: clock::wall() };
        Ok(dump::write(path, &dumped, self.now(), &entries)?)
    }

    fn place(&self) -> String {
        match &self.0 {
            Source::Keeper { directory, .. } => directory.display().to_string(),
            Source::Dump(dump) => dump.path().display().to_string(),
        }
    }

    /// The partitions of a stream, each with its shard and what was decided.
    fn find(&mut self, stream: &Name) -> Result<Vec<(u32, u32, Outline)>, HoldingsError> {
        let mut found = Vec::new();
        for (key, entry) in self.entries(Key::Catalogue(0), Key::Catalogue(u32::MAX))? {
            let Some(shard) = key.shard() else { continue };
            let mut core = Core::new(shard, u32::MAX);
            core.remember(MemoryLog::read(&entry).map_err(HoldingsError::Memory)?);
            let own: Vec<Partition> = core
                .partitions()
                .filter(|(partition, ..)| partition.stream == *stream && self.has(partition.number))
                .map(|(partition, ..)| partition.clone())
                .collect();
            let outlines = own.iter().filter_map(|partition| core.outline(partition));
            found.extend(outlines.map(|outline| (outline.partition.number, shard, outline)));
        }
        if found.is_empty() {
            return Err(HoldingsError::NoStream { stream: stream.clone(), place: self.place() });
        }
        found.sort_by_key(|(number, ..)| *number);
        Ok(found)
    }

    /// A dump knows of all partitions, and has some.
    fn has(&self, number: u32) -> bool {
        self.dumped().is_none_or(|dumped| dumped.partitions.contains(&number))
    }

    fn outline(&mut self, stream: &Name, number: u32) -> Result<(u32, Outline), HoldingsError> {
        let mut found = self.find(stream)?;
        match found.iter().position(|(own, ..)| *own == number) {
            Some(at) => {
                let (_, shard, outline) = found.swap_remove(at);
                Ok((shard, outline))
            }
            None => {
                let (stream, place) = (stream.clone(), self.place());
                let partitions = found.into_iter().map(|(own, ..)| own).collect();
                Err(HoldingsError::NoPartition { stream, partitions, asked: number, place })
            }
        }
    }

    /// Everything that is held of a partition.
    fn entries_of(&mut self, shard: u32, outline: &Outline) -> Result<Estate, HoldingsError> {
        let stream = outline.id.0;
        let mut all = Estate::new();
        for (from, to) in [
            (Key::Ring(shard, stream), Key::Ring(shard, stream)),
            (Key::Subscription(shard, stream, 0), Key::Subscription(shard, stream, u8::MAX)),
            (Key::Lot(shard, stream, 0), Key::Lot(shard, stream, u8::MAX)),
            (Key::Member(shard, stream, 0, 0), Key::Member(shard, stream, u8::MAX, u32::MAX)),
            (Key::Arena(shard, stream, 0), Key::Arena(shard, stream, u32::MAX)),
        ] {
            all.append(&mut self.entries(from, to)?);
        }
        Ok(all)
    }

    fn entries(&mut self, from: Key, to: Key) -> Result<Estate, HoldingsError> {
        let (link, directory) = match &self.0 {
            Source::Dump(dump) => return Ok(dump.entries(from, to)),
            Source::Keeper { link, directory } => (link, directory),
        };
        let failed = |error| unanswered(directory, error);
        match link.send(&Message::Show(from, to), &[]) {
            // Why it has hung up can still be heard.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            sent => sent.map_err(failed)?,
        }
        let mut entries = Estate::new();
        loop {
            match link.receive().map_err(failed)? {
                Some((Message::Keep(key, note), descriptors)) => {
                    let descriptors = descriptors.into_iter().map(Arc::new).collect();
                    entries.insert(key, Entry { note, descriptors });
                }
                Some((Message::All, _)) => return Ok(entries),
                Some((Message::Refused(reason), _)) => {
                    return Err(HoldingsError::Refused { directory: directory.clone(), reason });
                }
                Some(_) | None => return Err(HoldingsError::HungUp(directory.clone())),
            }
        }
    }
}

fn unanswered(directory: &Path, source: io::Error) -> HoldingsError {
    let directory = directory.to_owned();
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let pid = std::fs::read_to_string(directory.join(LOCK_NAME)).unwrap_or_default();
            let pid = if pid.is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            HoldingsError::NoAnswer { directory, pid }
        }
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => HoldingsError::HungUp(directory),
        io::ErrorKind::PermissionDenied => HoldingsError::Denied { directory, source },
        _ => HoldingsError::System { directory, source },
    }
}

/// The ring of a partition, of what is held of it; `None`: it is not there.
fn ring(
    shard: u32,
    outline: &Outline,
    entries: &Estate,
    now: Nanos,
) -> Result<Option<HeldRing>, HoldingsError> {
    let stream = outline.id.0;
    let Some(entry) = entries.get(&Key::Ring(shard, stream)) else { return Ok(None) };
    let incarnation = entry.note[..].try_into().map(u64::from_le_bytes).ok();
    let settings = outline.settings;
    let geometry = Geometry::new(settings.slots, settings.slot_bytes).map_err(RegionError::from)?;
    let (Some(incarnation), Some(regions)) = (incarnation, entry.exactly::<4>()) else { return Ok(None) };
    let identity = RingIdentity { incarnation, geometry };
    let view = RingView::open(identity, regions)?;
    let (mut subscriptions, mut shared) = (BTreeMap::new(), BTreeMap::new());
    let journal = outline.journal.map(|gate| (gate, None));
    let named = outline.subscriptions.iter().map(|subscription| (subscription.gate, Some(subscription)));
    for (gate, subscription) in journal.into_iter().chain(named) {
        // One that is just being made or given up is not there.
        let Some(entry) = entries.get(&Key::Subscription(shard, stream, gate.index)) else { continue };
        let Some(first) = entry.descriptors.first() else { continue };
        subscriptions.insert(gate.index, SubscriptionView::open(identity, &**first)?);
        let mode = subscription.map(|subscription| &subscription.mode);
        let (Some(SubscriptionMode::Shared(settings)), Some([_, claims, feed])) = (mode, entry.exactly())
        else {
            continue;
        };
        let lot = entries.get(&Key::Lot(shard, stream, gate.index)).map(LotLog::read).transpose();
        let Remembered { lot, bodies, dead_total, .. } =
            lot.map_err(HoldingsError::Memory)?.unwrap_or_default();
        let leases =
            lot.iter().filter_map(|record| record.lease()).map(|(on, member, end)| (on, (member, end)));
        let leases = leases.collect();
        let lot = Lot::remember(settings.clone(), lot, now);
        let own =
            Key::Member(shard, stream, gate.index, 0)..=Key::Member(shard, stream, gate.index, u32::MAX);
        let mut members = BTreeMap::new();
        for (key, entry) in entries.range(own) {
            if let (Some(member), Some([region])) = (key.member(), entry.exactly()) {
                members.insert(member, MemberWords::load(identity, region)?);
            }
        }
        let view = SharedView::open(&view, [claims, feed])?;
        let lot = lot.entries().collect();
        shared.insert(gate.index, HeldShared { view, lot, bodies, leases, dead_total, members });
    }
    let mut arenas = BTreeMap::new();
    for (key, entry) in entries.range(Key::Arena(shard, stream, 0)..=Key::Arena(shard, stream, u32::MAX)) {
        if let (Some(arena), Some([region])) = (key.arena(), entry.exactly())
            && let Some(region) = look_at_arena(identity, entry.bytes(), region)?
        {
            arenas.insert(arena, region);
        }
    }
    Ok(Some(HeldRing { view, subscriptions, shared, arenas }))
}
