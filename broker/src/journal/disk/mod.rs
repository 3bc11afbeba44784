//! What a journal needs of a disk, as traits: all its I/O goes through them.
//!
//! | file | what it is |
//! |---|---|
//! | [`files`] | a directory of a real file system |
//! | [`uring`] | writes by io_uring: the only place that names it |
//! | [`threads`] | the same by plain threads |
//! | [`simulated`] | a disk in memory that loses what was not synced, for tests |
//!
//! 1. What a [`Disk`] does is done when it returns, and may take long: only a start, and the shard's helper thread, call it.
//! 2. What a [`Writer`] is given is under way, in any order, until it reports it; a sync that it was linked to begins behind
//!    its write.
//! 3. Nothing is on the device before a sync that began behind it has been reported as done.
//! 4. A write of a [`Writer`] that is short is a write that has failed.

pub(crate) mod files;
#[cfg(test)]
pub(crate) mod simulated;
pub(crate) mod threads;
pub(crate) mod uring;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringway_shm_protocol::memory::bell::MappedBell;

use threads::Threads;
use uring::Uring;

/// A directory, and the files in it.
pub(crate) trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: Send + Sync;

    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of zeros, of so many bytes, all of them written; fails if it is there.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Self::File>;
    /// Opens a file.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file that nobody writes to any more, to be read only: what is read of it once may be in the kernel's memory then.
    fn open_finished(&self, name: &str) -> io::Result<Self::File>;
    /// So many bytes from `offset` on will be read soon, of a file that is finished.
    fn will_read(&self, file: &Self::File, offset: u64, bytes: u64);
    /// How long it is, in bytes.
    fn bytes(&self, file: &Self::File) -> io::Result<u64>;
    /// Reads so many bytes; fewer are an error. Offset and length are whole blocks.
    fn read(&self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Writes all bytes. Offset and length are whole blocks.
    fn write(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Everything that was written to the file is on the device.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Gives a file another name, taking it from whoever has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Bytes that files may still take.
    fn free(&self) -> io::Result<u64>;
    /// All names are on the device.
    fn sync_directory(&self) -> io::Result<()>;
}

/// What has come to an end.
#[derive(Debug)]
pub(crate) enum Done {
    /// The write out of this buffer; the buffer stays its user's.
    Written(usize, io::Result<()>),
    /// The sync behind the write out of this buffer.
    Synced(usize, io::Result<()>),
    /// A sync by itself, with its number.
    Flushed(u64, io::Result<()>),
}

/// What a write of so many bytes has come to: one that is short has failed.
fn whole(written: io::Result<usize>, asked: usize) -> io::Result<()> {
    let written = written?;
    if written == asked {
        return Ok(());
    }
    let short = format!("{written} of {asked} bytes were written");
    Err(io::Error::new(io::ErrorKind::WriteZero, short))
}

/// How a shard writes its log, and how it sleeps.
pub(crate) trait Writer<File>: Send {
    /// How many buffers there are.
    fn buffers(&self) -> usize;
    /// The bytes of a buffer: a largest batch.
    fn buffer(&mut self, buffer: usize) -> &mut [u8];
    /// Begins to write the first bytes of a buffer, and to sync behind it if `sync`. The buffer is not touched until both are
    /// reported.
    fn write(&mut self, file: &Arc<File>, offset: u64, buffer: usize, bytes: usize, sync: bool);
    /// Begins to sync a file: everything whose write was reported before.
    fn flush(&mut self, file: &Arc<File>, number: u64);
    /// What has come to an end since this was last asked.
    fn take_done(&mut self, done: &mut Vec<Done>);
}

/// What wakes a shard that sleeps, beside its mailbox and its writer.
pub(crate) trait Sleeper {
    /// Has the shard woken when this bell counts otherwise than `count`. Once: to be asked for again.
    fn watch(&mut self, bell: &MappedBell, count: u32, key: u64);
    /// The keys of bells that were watched and are not any more.
    fn take_rung(&mut self, rung: &mut Vec<u64>);
    /// Has the shard woken in so long; earlier, if it was asked for before.
    fn wake_in(&mut self, time: Duration);
}

/// How a shard writes to files.
pub(crate) enum Device {
    Uring(Box<Uring>),
    Threads(Threads),
}

impl Writer<File> for Device {
    fn buffers(&self) -> usize {
        match self {
            Self::Uring(uring) => uring.buffers(),
            Self::Threads(threads) => threads.buffers(),
        }
    }

    fn buffer(&mut self, buffer: usize) -> &mut [u8] {
        match self {
            Self::Uring(uring) => uring.buffer(buffer),
            Self::Threads(threads) => threads.buffer(buffer),
        }
    }

    fn write(&mut self, file: &Arc<File>, offset: u64, buffer: usize, bytes: usize, sync: bool) {
        match self {
            Self::Uring(uring) => uring.write(file, offset, buffer, bytes, sync),
            Self::Threads(threads) => threads.write(file, offset, buffer, bytes, sync),
        }
    }

    fn flush(&mut self, file: &Arc<File>, number: u64) {
        match self {
            Self::Uring(uring) => uring.flush(file, number),
            Self::Threads(threads) => threads.flush(file, number),
        }
    }

    fn take_done(&mut self, done: &mut Vec<Done>) {
        match self {
            Self::Uring(uring) => uring.take_done(done),
            Self::Threads(threads) => threads.take_done(done),
        }
    }
}

impl Sleeper for Device {
    fn watch(&mut self, bell: &MappedBell, count: u32, key: u64) {
        match self {
            Self::Uring(uring) => uring.watch(bell, count, key),
            Self::Threads(threads) => threads.watch(bell, count, key),
        }
    }

    fn take_rung(&mut self, rung: &mut Vec<u64>) {
        match self {
            Self::Uring(uring) => uring.take_rung(rung),
            Self::Threads(threads) => threads.take_rung(rung),
        }
    }

    fn wake_in(&mut self, time: Duration) {
        match self {
            Self::Uring(uring) => uring.wake_in(time),
            Self::Threads(threads) => threads.wake_in(time),
        }
    }
}
