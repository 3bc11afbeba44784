//! A disk in memory, for tests: it records what it is told, and makes what a power loss may leave of it.
//!
//! 1. A write may have reached the device or not, whole or in any 512-byte parts, until a sync that began behind it is done.
//! 2. A change of a name may be lost until the directory is synced; what is left of several is a beginning of them.
//! 3. What a process that is killed had under way is done, or is never done, or is done later; the rest is as it was.
//! 4. What a sync that has failed was to cover is covered by no later one, as with a page cache that has dropped it.
//! 5. The same seed gives the same disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway_shm_protocol::memory::Bell;
use ringway_shm_protocol::memory::bell::MappedBell;

use super::{Disk, Done, Sleeper, Writer};
use crate::journal::format::BATCH_BYTES_MAX;
use crate::journal::mutations::{self, Mutation};

const SECTOR_BYTES: usize = 512;

/// A generator of numbers: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// How many variants are tried; RINGWAY_SEEDS says otherwise.
pub(crate) fn seeds(usual: u64) -> u64 {
    std::env::var("RINGWAY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}

/// What has happened to the disk.
#[derive(Clone, Debug)]
enum Event {
    Write {
        inode: u64,
        offset: u64,
        bytes: Arc<Vec<u8>>,
        write: u64,
    },
    /// The write has come to its end.
    Ended {
        write: u64,
    },
    /// The sync of a file is done: these writes are on the device.
    Synced {
        writes: Vec<u64>,
    },
    Named(Naming),
    DirectorySynced,
}

#[derive(Clone, Debug)]
enum Naming {
    Create(String, u64, u64),
    Rename(String, String),
    Remove(String),
}

/// For how long a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fails {
    Once,
    Always,
}

#[derive(Debug, Default)]
struct Inner {
    names: BTreeMap<String, u64>,
    contents: BTreeMap<u64, Vec<u8>>,
    inodes: u64,
    writes: u64,
    /// Writes that are done and in no sync yet, by file.
    unsynced: BTreeMap<u64, Vec<u64>>,
    /// What there was before anything happened.
    base: (BTreeMap<String, u64>, BTreeMap<u64, Vec<u8>>),
    events: Vec<Event>,
    /// Bytes that all files may have together.
    room: Option<u64>,
    /// So many more writes and syncs succeed; then one fails, or all do.
    fails_after: Option<(u64, Fails)>,
}

impl Inner {
    fn name(&mut self, naming: Naming) {
        apply(&mut self.names, &mut self.contents, &naming);
        self.events.push(Event::Named(naming));
    }

    fn begin_write(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> u64 {
        self.writes += 1;
        let write = self.writes;
        self.events.push(Event::Write { inode, offset, bytes: Arc::new(bytes.to_vec()), write });
        put(&mut self.contents, inode, offset, bytes);
        write
    }

    fn end_write(&mut self, inode: u64, write: u64) {
        self.unsynced.entry(inode).or_default().push(write);
        self.events.push(Event::Ended { write });
    }

    fn sync(&mut self, inode: u64) -> io::Result<()> {
        if mutations::is(Mutation::NoSync) {
            return Ok(());
        }
        let writes = self.unsynced.remove(&inode).unwrap_or_default();
        self.check()?;
        self.events.push(Event::Synced { writes });
        Ok(())
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.contents[inode].len() as u64).sum()
    }

    fn free(&self) -> u64 {
        self.room.map_or(u64::MAX, |room| room.saturating_sub(self.used()))
    }

    fn check(&mut self) -> io::Result<()> {
        match &mut self.fails_after {
            Some((0, fails)) => {
                if *fails == Fails::Once {
                    self.fails_after = None;
                }
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn apply(names: &mut BTreeMap<String, u64>, contents: &mut BTreeMap<u64, Vec<u8>>, naming: &Naming) {
    match naming {
        Naming::Create(name, inode, bytes) => {
            names.insert(name.clone(), *inode);
            contents.entry(*inode).or_insert_with(|| vec![0; *bytes as usize]);
        }
        Naming::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Naming::Remove(name) => {
            names.remove(name);
        }
    }
}

fn put(contents: &mut BTreeMap<u64, Vec<u8>>, inode: u64, offset: u64, bytes: &[u8]) {
    let at = offset as usize;
    contents.get_mut(&inode).expect("an open file")[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A write of a process that is gone, which the device has not done yet.
pub(crate) struct Late {
    inode: u64,
    offset: u64,
    bytes: Arc<Vec<u8>>,
}

/// See the module. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedDisk(Arc<Mutex<Inner>>);

impl SimulatedDisk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much has happened.
    pub(crate) fn moment(&self) -> usize {
        self.inner().events.len()
    }

    /// From now on all files together may have so many bytes.
    pub(crate) fn set_room(&self, room: Option<u64>) {
        self.inner().room = room;
    }

    /// From now on all files together may grow by so many bytes, if that is said.
    pub(crate) fn set_free(&self, bytes: Option<u64>) {
        let mut inner = self.inner();
        inner.room = bytes.map(|bytes| inner.used() + bytes);
    }

    /// After so many writes and syncs, the next one fails, or all do.
    pub(crate) fn fail_after(&self, operations: u64, fails: Fails) {
        self.inner().fails_after = Some((operations, fails));
    }

    /// A disk as the power loss at a moment may leave it.
    pub(crate) fn after_power_loss(&self, moment: usize, random: &mut Random) -> Self {
        let inner = self.inner();
        let events = &inner.events[..moment];
        let synced: BTreeSet<u64> = events
            .iter()
            .flat_map(|event| match event {
                Event::Synced { writes } => &writes[..],
                _ => &[],
            })
            .copied()
            .collect();
        let named = events.iter().rposition(|event| matches!(event, Event::DirectorySynced)).unwrap_or(0);
        // Names that are not synced are there up to some moment.
        let is_naming = |event: &&Event| matches!(event, Event::Named(_));
        let unsynced = events[named..].iter().filter(is_naming).count() as u64;
        let mut unsynced_left = random.below(unsynced + 1);
        let (names, contents) = inner.base.clone();
        let Inner { inodes, writes, room, .. } = *inner;
        let mut left = Inner { names, contents, inodes, writes, room, ..Inner::default() };
        for (index, event) in events.iter().enumerate() {
            match event {
                Event::Named(naming) if index < named => apply(&mut left.names, &mut left.contents, naming),
                Event::Named(naming) if unsynced_left > 0 => {
                    unsynced_left -= 1;
                    apply(&mut left.names, &mut left.contents, naming);
                }
                Event::Named(Naming::Create(_, inode, bytes)) => {
                    left.contents.entry(*inode).or_insert_with(|| vec![0; *bytes as usize]);
                }
                Event::Write { inode, offset, bytes, write } => {
                    let content = left.contents.get_mut(inode).expect("it was made before");
                    let whole = synced.contains(write) || random.one_in(3);
                    let none = !whole && random.one_in(2);
                    for (sector, part) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if whole || !none && random.one_in(2) {
                            let at = *offset as usize + sector * SECTOR_BYTES;
                            content[at..at + part.len()].copy_from_slice(part);
                        }
                    }
                }
                _ => {}
            }
        }
        // What has no name is gone.
        let named: BTreeSet<u64> = left.names.values().copied().collect();
        left.contents.retain(|inode, _| named.contains(inode));
        left.base = (left.names.clone(), left.contents.clone());
        Self(Arc::new(Mutex::new(left)))
    }

    /// Lets writes that were under way on another disk, at a moment, reach this one now, where the file is still the same.
    pub(crate) fn land_late(&self, other: &Self, moment: usize, random: &mut Random) {
        let other = other.inner();
        let mut inner = self.inner();
        let events = &other.events[..moment];
        let ended = events.iter().filter_map(|event| match event {
            Event::Ended { write } => Some(*write),
            _ => None,
        });
        let ended: BTreeSet<u64> = ended.collect();
        let late = events.iter().filter_map(|event| match event {
            Event::Write { inode, offset, bytes, write } if !ended.contains(write) => {
                Some((*inode, *offset as usize, bytes.clone()))
            }
            _ => None,
        });
        for (inode, offset, bytes) in late {
            if random.one_in(2) {
                let Inner { contents, base, .. } = &mut *inner;
                for contents in [contents, &mut base.1] {
                    if let Some(content) = contents.get_mut(&inode) {
                        content[offset..offset + bytes.len()].copy_from_slice(&bytes);
                    }
                }
            }
        }
    }

    /// What the process that is gone had under way is done, or is not. Returns what the device still does later.
    pub(crate) fn after_kill(&self, random: &mut Random) -> Vec<Late> {
        let mut inner = self.inner();
        let is_end = |event: &Event| if let Event::Ended { write } = event { Some(*write) } else { None };
        let ended: BTreeSet<u64> = inner.events.iter().filter_map(is_end).collect();
        let (mut landed, mut late, mut undone) = (Vec::new(), Vec::new(), BTreeSet::new());
        for event in &inner.events {
            let Event::Write { inode, offset, bytes, write } = event else { continue };
            if ended.contains(write) {
                continue;
            }
            match random.below(3) {
                0 => landed.push((*inode, *write)),
                fate => {
                    undone.insert(*write);
                    late.extend((fate == 1).then(|| Late {
                        inode: *inode,
                        offset: *offset,
                        bytes: bytes.clone(),
                    }));
                }
            }
        }
        inner.events.retain(|event| !matches!(event, Event::Write { write, .. } if undone.contains(write)));
        landed.into_iter().for_each(|(inode, write)| inner.end_write(inode, write));
        let Inner { base, events, contents, .. } = &mut *inner;
        *contents = base.1.clone();
        for event in &*events {
            match event {
                Event::Named(Naming::Create(_, inode, bytes)) => {
                    contents.insert(*inode, vec![0; *bytes as usize]);
                }
                Event::Write { inode, offset, bytes, .. } => put(contents, *inode, *offset, bytes),
                _ => {}
            }
        }
        late
    }

    /// What the device still had to do is done now.
    pub(crate) fn land(&self, late: Vec<Late>) {
        let mut inner = self.inner();
        for Late { inode, offset, bytes } in late {
            let write = inner.begin_write(inode, offset, &bytes);
            inner.end_write(inode, write);
        }
    }

    /// Changes one byte of a file.
    pub(crate) fn damage(&self, name: &str, byte: usize, bits: u8) {
        let mut inner = self.inner();
        let inode = inner.names[name];
        inner.contents.get_mut(&inode).expect("a file that has a name")[byte] ^= bits;
    }
}

impl Disk for SimulatedDisk {
    type File = u64;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.inner().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<u64> {
        let mut inner = self.inner();
        inner.check()?;
        if bytes > inner.free() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        inner.inodes += 1;
        let inode = inner.inodes;
        inner.name(Naming::Create(name.to_owned(), inode, bytes));
        Ok(inode)
    }

    fn open(&self, name: &str) -> io::Result<u64> {
        self.inner().names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open_finished(&self, name: &str) -> io::Result<u64> {
        self.open(name)
    }

    fn will_read(&self, _: &u64, _: u64, _: u64) {}

    fn bytes(&self, file: &u64) -> io::Result<u64> {
        Ok(self.inner().contents[file].len() as u64)
    }

    fn read(&self, file: &u64, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let inner = self.inner();
        let at = offset as usize;
        let bytes = inner.contents[file].get(at..at + into.len());
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, file: &u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        inner.check()?;
        let write = inner.begin_write(*file, offset, bytes);
        inner.end_write(*file, write);
        Ok(())
    }

    fn sync(&self, file: &u64) -> io::Result<()> {
        self.inner().sync(*file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner().name(Naming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner();
        if !inner.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.name(Naming::Remove(name.to_owned()));
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(self.inner().free())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut inner = self.inner();
        inner.check()?;
        if !mutations::is(Mutation::NoDirectorySync) {
            inner.events.push(Event::DirectorySynced);
        }
        Ok(())
    }
}

/// What is under way.
enum Under {
    Write { inode: u64, write: u64, buffer: usize, sync: bool },
    Sync { inode: u64, buffer: usize },
    Flush { inode: u64, number: u64 },
}

/// Writes to a [`SimulatedDisk`], whose ends come in an order of their own.
pub(crate) struct SimulatedWriter {
    disk: SimulatedDisk,
    random: Random,
    buffers: Vec<Vec<u8>>,
    under: Vec<Under>,
    /// At about every so-many-th look something has come to an end.
    pace: u64,
    watched: Vec<(MappedBell, u32, u64)>,
}

impl SimulatedWriter {
    pub(crate) fn new(disk: &SimulatedDisk, seed: u64, buffers: usize) -> Self {
        let buffers = (0..buffers).map(|_| vec![0; BATCH_BYTES_MAX]).collect();
        let (disk, random, under) = (disk.clone(), Random(seed), Vec::new());
        Self { disk, random, buffers, under, pace: 3, watched: Vec::new() }
    }

    /// The same; something comes to an end at about every so-many-th look.
    pub(crate) fn with_pace(self, pace: u64) -> Self {
        Self { pace, ..self }
    }
}

impl Writer<u64> for SimulatedWriter {
    fn buffers(&self) -> usize {
        self.buffers.len()
    }

    fn buffer(&mut self, buffer: usize) -> &mut [u8] {
        &mut self.buffers[buffer]
    }

    fn write(&mut self, file: &Arc<u64>, offset: u64, buffer: usize, bytes: usize, sync: bool) {
        let write = self.disk.inner().begin_write(**file, offset, &self.buffers[buffer][..bytes]);
        self.under.push(Under::Write { inode: **file, write, buffer, sync });
    }

    fn flush(&mut self, file: &Arc<u64>, number: u64) {
        self.under.push(Under::Flush { inode: **file, number });
    }

    fn take_done(&mut self, done: &mut Vec<Done>) {
        let mut again = self.random.one_in(self.pace);
        while again && !self.under.is_empty() {
            let index = self.random.below(self.under.len() as u64) as usize;
            let mut inner = self.disk.inner();
            match self.under.swap_remove(index) {
                Under::Write { inode, write, buffer, sync } => {
                    let outcome = inner.check();
                    if outcome.is_ok() {
                        inner.end_write(inode, write);
                    }
                    done.push(Done::Written(buffer, outcome));
                    if sync {
                        self.under.push(Under::Sync { inode, buffer });
                    }
                }
                Under::Sync { inode, buffer } => {
                    done.push(Done::Synced(buffer, inner.sync(inode)));
                }
                Under::Flush { inode, number } => {
                    done.push(Done::Flushed(number, inner.sync(inode)));
                }
            }
            drop(inner);
            again = self.random.one_in(2);
        }
    }
}

/// Nobody sleeps: bells are looked at, and time is the test's.
impl Sleeper for SimulatedWriter {
    fn watch(&mut self, bell: &MappedBell, count: u32, key: u64) {
        self.watched.push((bell.clone(), count, key));
    }

    fn take_rung(&mut self, rung: &mut Vec<u64>) {
        let is_rung = |(bell, count, _): &mut (MappedBell, u32, u64)| bell.count() != *count;
        rung.extend(self.watched.extract_if(.., is_rung).map(|(.., key)| key));
    }

    fn wake_in(&mut self, _: Duration) {}
}
