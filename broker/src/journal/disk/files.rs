//! A directory of a real file system.
//!
//! Everything is read and written past the page cache (O_DIRECT) where the file system can: the log is read once, and what it
//! would displace is of more use. Only what is finished is read through it for subscriptions that lag: there may be several, one behind the
//! other.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, Mode, OFlags};

use super::Disk;
use crate::journal::format::BLOCK_BYTES;

/// Zeros are written so many at a time, in bytes.
const ZEROS_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// The directory itself, to sync it.
    own: File,
    /// Nothing is changed; what is synced is another's.
    is_read_only: bool,
}

impl Directory {
    /// Opens a directory.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), own: File::open(path)?, is_read_only: false })
    }

    /// Opens a directory that another may be writing to.
    pub(crate) fn open_read_only(path: &Path) -> io::Result<Self> {
        Ok(Self { is_read_only: true, ..Self::open(path)? })
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.is_read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// Opens a file past the page cache; where the file system cannot, through it.
    fn open_direct(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let (path, mode) = (self.path.join(name), Mode::RUSR | Mode::WUSR);
        let access = if self.is_read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let flags = access | OFlags::CLOEXEC | flags;
        match rustix::fs::open(&path, flags | OFlags::DIRECT, mode) {
            Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::open(&path, flags, mode)?.into()),
            file => Ok(file?.into()),
        }
    }
}

/// Bytes that begin at a multiple of a block, as O_DIRECT wants them.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    from: usize,
}

impl Aligned {
    /// So many zeros.
    pub(crate) fn new(bytes: usize) -> Self {
        let whole = vec![0; bytes + BLOCK_BYTES];
        let from = whole.as_ptr().align_offset(BLOCK_BYTES);
        Self { bytes: whole, from }
    }

    /// The first so many bytes.
    pub(crate) fn first(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + bytes]
    }
}

fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(BLOCK_BYTES) == 0
}

impl Disk for Directory {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path)?;
        // What is no text is no file of the journal.
        entries
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<File> {
        self.check_writable()?;
        let _ = std::fs::remove_file(self.path.join(name));
        let file = self.open_direct(name, OFlags::CREATE | OFlags::EXCL)?;
        let made = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
            .map_err(io::Error::from)
            .or_else(|error| if error.kind() == io::ErrorKind::Unsupported { Ok(()) } else { Err(error) })
            .and_then(|()| {
                let mut zeros = Aligned::new(ZEROS_BYTES);
                let mut at = 0;
                while at < bytes {
                    let part = (bytes - at).min(ZEROS_BYTES as u64) as usize;
                    file.write_all_at(zeros.first(part), at)?;
                    at += part as u64;
                }
                Ok(())
            });
        if let Err(error) = made {
            let _ = std::fs::remove_file(self.path.join(name));
            return Err(error);
        }
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        self.open_direct(name, OFlags::empty())
    }

    fn open_finished(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }

    fn will_read(&self, file: &File, offset: u64, bytes: u64) {
        // At the worst it is waited for later.
        let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(bytes), Advice::WillNeed);
    }

    fn bytes(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read(&self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if is_aligned(into) {
            return file.read_exact_at(into, offset);
        }
        let mut aligned = Aligned::new(into.len());
        file.read_exact_at(aligned.first(into.len()), offset)?;
        into.copy_from_slice(aligned.first(into.len()));
        Ok(())
    }

    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if is_aligned(bytes) {
            return file.write_all_at(bytes, offset);
        }
        let mut aligned = Aligned::new(bytes.len());
        aligned.first(bytes.len()).copy_from_slice(bytes);
        file.write_all_at(aligned.first(bytes.len()), offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.is_read_only { Ok(()) } else { file.sync_data() }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        std::fs::remove_file(self.path.join(name))
    }

    fn free(&self) -> io::Result<u64> {
        let room = rustix::fs::fstatvfs(&self.own)?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    fn sync_directory(&self) -> io::Result<()> {
        if self.is_read_only { Ok(()) } else { self.own.sync_all() }
    }
}
