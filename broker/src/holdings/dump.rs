//! What a keeper holds of a stream, in a file.
//!
//! ```text
//! 0       8         12         16        24            32           40           4096
//! ├ magic ┼ version ┼ reserved ┼ table at┼ table bytes ┼ table hash ┼ … zero … ──┼ regions, each from a page on ┼ table ┤
//! ```
//!
//! 1. The table (postcard) says what is where: keys and notes as the keeper has them, offset, length and hash of each region. Hashes
//!    are XXH3, 64 bits. A file that was changed, or is not whole, is refused.
//! 2. A file appears under its name when all of it is on the device, and takes nobody's place.
//! 3. Pages of zeroes are holes.
//! 4. Regions of a broker that goes on are copied one after another: what they say need not be of one moment.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringway_shm_protocol::layout::PAGE_BYTES;
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::text::count;
use rustix::fs::{CWD, MemfdFlags, RenameFlags, SealFlags};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::core::lot::Nanos;
use crate::keeper::{Entry, Estate, Key};

/// "RINGDUMP" in the order of the bytes.
const MAGIC: u64 = u64::from_le_bytes(*b"RINGDUMP");
const VERSION: u32 = 1;
/// So much is copied at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Why a dump cannot be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DumpError {
    /// Something has the name.
    #[error("{} is there already: name another file, or remove it", .0.display())]
    Exists(PathBuf),
    /// The kernel refused.
    #[error("cannot {action} {}: {source}{}", .path.display(), if *.written { "; nothing was left there" } else { "" })]
    System {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
        /// It was to be written.
        written: bool,
    },
    /// It is something else.
    #[error("{} is no dump of ringway inspect, or one of another version: {what}", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it has.
        what: String,
    },
    /// It was changed, or is not whole.
    #[error("{} is damaged: {what}; nothing of it is shown", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        what: String,
    },
}

/// What a dump is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dumped {
    /// The stream.
    pub stream: Name,
    /// Its partitions that are there.
    pub partitions: Vec<u32>,
    /// When it was written: nanoseconds since 1970.
    pub taken_ns: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: u64,
    version: u32,
    reserved: u32,
    table_at: u64,
    table_bytes: u64,
    table_hash: u64,
}

#[derive(Serialize, Deserialize)]
struct Table {
    dumped: Dumped,
    monotonic_ns: Nanos,
    entries: Vec<TableEntry>,
}

#[derive(Serialize, Deserialize)]
struct TableEntry {
    key: Key,
    note: Vec<u8>,
    memory: Vec<Memory>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Memory {
    at: u64,
    bytes: u64,
    hash: u64,
}

/// Fails if the name is taken: to be asked before anything is done.
pub(super) fn check_new(path: &Path) -> Result<(), DumpError> {
    if path.symlink_metadata().is_ok() { Err(DumpError::Exists(path.to_owned())) } else { Ok(()) }
}

/// A file under a name of its own until it is whole; removed if it does not come to that.
struct Unfinished {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone under this name once it has its own.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

impl Unfinished {
    fn make(path: &Path) -> Result<Self, DumpError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(|source| DumpError::System {
            action: "make",
            path: path.to_owned(),
            source,
            written: true,
        })?;
        Ok(Self { file, temporary, path: path.to_owned() })
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> DumpError {
        let path = self.path.clone();
        move |source| DumpError::System { action, path: path.clone(), source, written: true }
    }

    fn finish(self) -> Result<(), DumpError> {
        self.file.sync_all().map_err(self.failed("sync"))?;
        let rename = |flags| rustix::fs::renameat_with(CWD, &self.temporary, CWD, &self.path, flags);
        match rename(RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => return Err(DumpError::Exists(self.path.clone())),
            // Some file systems cannot tell; the name was free a moment ago.
            Err(rustix::io::Errno::INVAL) => rename(RenameFlags::empty()),
            outcome => outcome,
        }
        .map_err(|error| self.failed("name")(error.into()))?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = File::open(directory.unwrap_or(Path::new(".")));
        directory.and_then(|directory| directory.sync_all()).map_err(self.failed("sync the directory of"))
    }
}

/// Writes a dump; returns its length in bytes, holes included.
pub(super) fn write(
    path: &Path,
    dumped: &Dumped,
    monotonic_ns: Nanos,
    entries: &Estate,
) -> Result<u64, DumpError> {
    let to = Unfinished::make(path)?;
    let mut at = PAGE_BYTES as u64;
    let mut table = Table { dumped: dumped.clone(), monotonic_ns, entries: Vec::new() };
    for (key, entry) in entries {
        let mut memory = Vec::new();
        for descriptor in &entry.descriptors {
            let (bytes, hash) = copy_out(descriptor, &to, at)?;
            memory.push(Memory { at, bytes, hash });
            at = (at + bytes).next_multiple_of(PAGE_BYTES as u64);
        }
        table.entries.push(TableEntry { key: *key, note: entry.note.clone(), memory });
    }
    let table = postcard::to_stdvec(&table).expect("a table can be written to memory");
    let header = Header {
        magic: MAGIC,
        version: VERSION,
        reserved: 0,
        table_at: at,
        table_bytes: table.len() as u64,
        table_hash: xxh3_64(&table),
    };
    to.file.write_all_at(&table, at).map_err(to.failed("write"))?;
    to.file.write_all_at(header.as_bytes(), 0).map_err(to.failed("write"))?;
    to.finish()?;
    Ok(at + header.table_bytes)
}

/// Copies what is behind a descriptor into the file from `at` on; returns its length and hash.
fn copy_out(descriptor: &OwnedFd, to: &Unfinished, at: u64) -> Result<(u64, u64), DumpError> {
    let (mut chunk, mut bytes, mut hash) = (vec![0; CHUNK_BYTES], 0, Xxh3::new());
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(descriptor, &mut chunk[..], bytes));
        let read = read.map_err(|error| to.failed("read a region for")(error.into()))?;
        let part = &chunk[..read];
        if part.is_empty() {
            return Ok((bytes, hash.digest()));
        }
        hash.update(part);
        if part.iter().any(|byte| *byte != 0) {
            to.file.write_all_at(part, at + bytes).map_err(to.failed("write"))?;
        }
        bytes += read as u64;
    }
}

/// A dump that was read: what it has is in memory, as the keeper had it.
pub(super) struct Dump {
    path: PathBuf,
    dumped: Dumped,
    monotonic_ns: Nanos,
    entries: Estate,
}

impl Dump {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn dumped(&self) -> &Dumped {
        &self.dumped
    }

    pub(super) fn monotonic_ns(&self) -> Nanos {
        self.monotonic_ns
    }

    pub(super) fn entries(&self, from: Key, to: Key) -> Estate {
        self.entries.range(from..=to).map(|(key, entry)| (*key, entry.clone())).collect()
    }

    pub(super) fn read(path: &Path) -> Result<Self, DumpError> {
        let failed =
            |source| DumpError::System { action: "read", path: path.to_owned(), source, written: false };
        let other = |what: String| DumpError::Other { path: path.to_owned(), what };
        let damaged = |what: String| DumpError::Damaged { path: path.to_owned(), what };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut bytes = [0; size_of::<Header>()];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(other(format!("it has {}", count(length, "byte"))));
            }
            read => read.map_err(failed)?,
        }
        let header = Header::read_from_bytes(&bytes).expect("the buffer has the header's size");
        if (header.magic, header.version) != (MAGIC, VERSION) {
            return Err(other(format!("it begins with {:#x}, version {}", header.magic, header.version)));
        }
        let is_inside = |at: u64, bytes: u64| at.checked_add(bytes).is_some_and(|end| end <= length);
        if !is_inside(header.table_at, header.table_bytes) {
            return Err(damaged(format!(
                "it has {length} bytes and should have {} more",
                header.table_bytes
            )));
        }
        let mut table = vec![0; header.table_bytes as usize];
        file.read_exact_at(&mut table, header.table_at).map_err(failed)?;
        if xxh3_64(&table) != header.table_hash {
            return Err(damaged("its table has another hash than its header says".to_owned()));
        }
        let table: Table = postcard::from_bytes(&table).map_err(|error| damaged(error.to_string()))?;
        let mut entries = BTreeMap::new();
        for TableEntry { key, note, memory } in table.entries {
            let mut descriptors = Vec::new();
            for Memory { at, bytes, hash } in memory {
                if !is_inside(at, bytes) {
                    return Err(damaged(format!("{bytes} bytes at {at} are not there")));
                }
                let (descriptor, found) = copy_in(&file, at, bytes).map_err(failed)?;
                if found != hash {
                    return Err(damaged(format!("the {bytes} bytes at {at} ({key:?}) have another hash")));
                }
                descriptors.push(Arc::new(descriptor));
            }
            entries.insert(key, Entry { note, descriptors });
        }
        let Table { dumped, monotonic_ns, .. } = table;
        Ok(Self { path: path.to_owned(), dumped, monotonic_ns, entries })
    }
}

/// Memory with a part of the file, sealed as regions are, and its hash.
fn copy_in(file: &File, at: u64, bytes: u64) -> io::Result<(OwnedFd, u64)> {
    let memory = rustix::fs::memfd_create("ringway-dump", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&memory, bytes)?;
    let memory = File::from(memory);
    let (mut chunk, mut done, mut hash) = (vec![0; CHUNK_BYTES], 0, Xxh3::new());
    while done < bytes {
        let part = &mut chunk[..(bytes - done).min(CHUNK_BYTES as u64) as usize];
        file.read_exact_at(part, at + done)?;
        hash.update(part);
        if part.iter().any(|byte| *byte != 0) {
            memory.write_all_at(part, done)?;
        }
        done += part.len() as u64;
    }
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok((memory.into(), hash.digest()))
}
