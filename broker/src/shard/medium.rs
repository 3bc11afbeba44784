//! What a shard's journal is kept on: a directory, or something else that keeps what it is given.
//!
//! 1. One broker at a time writes a journal: it holds the lock, and so do its writes that are still under way when it is gone.
//! 2. How many shards there are is noted with the first of them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::progress::Restoring;
use crate::journal::LOCK;
use crate::journal::disk::files::Directory;
use crate::journal::disk::threads::Threads;
use crate::journal::disk::uring::Uring;
use crate::journal::disk::{Device, Disk, Sleeper, Writer};
use crate::journal::helper::{Helper, Job};
use crate::runtime::Runtime;

/// How long to wait for a journal that is still being written by a broker that is gone, and by one that seems to be there.
const LOCK_WAIT: Duration = Duration::from_secs(30);
const LIVE_LOCK_WAIT: Duration = Duration::from_secs(1);

/// Where a shard's journal is.
#[derive(Clone, Debug)]
pub(crate) struct JournalPlace {
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// Bytes of a segment.
    pub(crate) segment_bytes: u64,
    /// What it is written by.
    pub(crate) runtime: Runtime,
    /// To whom a start says how far it has come.
    pub(crate) restoring: Arc<Restoring>,
    /// Where it is noted how many shards there are, and how many that is: streams belong to shards by their number.
    pub(crate) shards: (PathBuf, usize),
}

/// What a journal is kept on, and how it is written there.
pub(crate) trait Medium: Clone {
    /// Where its files are.
    type Disk: Disk;
    /// What writes the log, and wakes the shard.
    type Writer: Writer<<Self::Disk as Disk>::File> + Sleeper;
    /// Nobody else writes the journal while this is there.
    type Lock;

    /// The directory, for what is said of it.
    fn directory(&self) -> &Path;
    /// Bytes of a segment.
    fn segment_bytes(&self) -> u64;
    /// Whether there may be a journal already.
    fn is_there(&self) -> bool;
    /// To whom a start says how far it has come.
    fn restoring(&self) -> &Restoring;
    /// The files, to be read only.
    fn disk(&self) -> io::Result<Self::Disk>;
    /// Makes the place if it is not there, and waits until nobody else writes to it; the error says of which file it is.
    fn lock(&self) -> Result<Self::Lock, (&'static str, io::Error)>;
    /// What writes there, and adds to `wake`, an eventfd, when something has come to an end.
    fn writer(&self, wake: &OwnedFd, lock: Self::Lock) -> io::Result<Self::Writer>;
    /// What does there what takes long, and adds to `wake` when it is done.
    fn helper<J: Job<Self::Disk>>(
        &self,
        disk: Self::Disk,
        wake: &OwnedFd,
    ) -> io::Result<Helper<Self::Disk, J>>;
}

impl Medium for JournalPlace {
    type Disk = Directory;
    type Writer = Device;
    type Lock = File;

    fn directory(&self) -> &Path {
        &self.directory
    }

    fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    fn is_there(&self) -> bool {
        self.directory.is_dir()
    }

    fn restoring(&self) -> &Restoring {
        &self.restoring
    }

    fn disk(&self) -> io::Result<Directory> {
        Directory::open(&self.directory)
    }

    fn lock(&self) -> Result<File, (&'static str, io::Error)> {
        let lock = lock(&self.directory).map_err(|source| (LOCK, source))?;
        note_shards(&self.shards).map_err(|source| ("the number of shards", source))?;
        Ok(lock)
    }

    fn writer(&self, wake: &OwnedFd, lock: File) -> io::Result<Device> {
        let lock = Some(Arc::new(lock.into()));
        match self.runtime {
            Runtime::IoUring => Uring::new(wake, lock).map(Box::new).map(Device::Uring),
            Runtime::Threads => Threads::new(wake, lock).map(Device::Threads),
        }
    }

    fn helper<J: Job<Directory>>(&self, disk: Directory, wake: &OwnedFd) -> io::Result<Helper<Directory, J>> {
        Helper::start(Arc::new(disk), wake.try_clone()?)
    }
}

/// Notes how many shards there are, if it is not noted yet.
fn note_shards((path, shards): &(PathBuf, usize)) -> io::Result<()> {
    match File::options().create_new(true).write(true).open(path) {
        Ok(mut file) => {
            writeln!(file, "{shards}")?;
            file.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the directory and locks it. While a broker that is gone still has writes under way, it is locked.
fn lock(directory: &Path) -> io::Result<File> {
    // What is in it is for nobody else, whoever may enter what is above it.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let path = directory.join(LOCK);
    let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
    let began = std::time::Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // For who finds it locked; where there is no room for it, they wait longer.
                let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                return Ok(file);
            }
            Err(rustix::io::Errno::WOULDBLOCK)
                if began.elapsed() < if holder(&path).is_some() { LIVE_LOCK_WAIT } else { LOCK_WAIT } =>
            {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let who = holder(&path).map_or("another broker".to_owned(), |pid| format!("process {pid}"));
                let message = format!("{who} writes this journal; stop it, or give this one another --data");
                return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The process that has locked it last, if it is there.
fn holder(lock: &Path) -> Option<u32> {
    let pid = std::fs::read_to_string(lock).ok()?.trim().parse().ok()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}
