//! Writing by io_uring, and sleeping by it: the only place that names io-uring.
//!
//! ```text
//! write ─linked─▶ sync ─┐
//! futex wait (a bell) ──┼──▶ completion ──▶ the shard's eventfd, while it sleeps
//! timeout ──────────────┘
//! ```
//!
//! 1. One thread owns the ring. Every completion adds to the eventfd that the shard's runtime sleeps by; so whoever looks at
//!    the completions after each wake-up misses none.
//! 2. The lock of the journal's directory is among the ring's files: it is held until the kernel has finished everything that
//!    was under way, also when the process is gone. Whoever gets it finds a disk that nobody writes to any more.
//! 3. The sync behind a write that is short is cancelled.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{Fd, FsyncFlags, Timespec};
use io_uring::{IoUring, opcode, squeue};
use ringway_shm_protocol::memory::bell::MappedBell;

use super::files::Aligned;
use super::{Done, Sleeper, Writer, whole};
use crate::journal::format::BATCH_BYTES_MAX;

/// Entries of the submission queue.
const ENTRIES: u32 = 256;
/// Batches in flight, and the one that is being filled.
const BUFFERS: usize = 5;
/// The futex is 32 bits wide; it is not private to a process.
const FUTEX2_SIZE_U32: u32 = 2;
const FUTEX_BITSET_MATCH_ANY: u64 = 0xffff_ffff;

/// What a completion is of, in the low bits of its number.
const KIND_BITS: u32 = 3;
const WRITE: u64 = 0;
const SYNC: u64 = 1;
const FLUSH: u64 = 2;
const BELL: u64 = 3;
const TIMEOUT: u64 = 4;

/// What is being done with a buffer.
struct UnderWay {
    bytes: usize,
    /// A sync comes behind the write.
    is_linked: bool,
    _file: Arc<File>,
}

/// See the module.
pub(crate) struct Uring {
    ring: IoUring,
    buffers: Vec<Aligned>,
    /// What is being done with each buffer.
    under_way: Vec<Option<UnderWay>>,
    flushing: Vec<Arc<File>>,
    rung: Vec<u64>,
    done: Vec<Done>,
    /// The times that the kernel reads when a timeout is submitted.
    timeout: Box<Timespec>,
    /// When the next timeout ends.
    wakes_at: Option<Instant>,
    /// Watched bells: their regions stay mapped as long as the kernel may look.
    watched: Vec<(u64, MappedBell)>,
    _lock: Option<Arc<OwnedFd>>,
}

/// Checks that this kernel's io_uring has all that a journal needs: waiting for futexes came last (Linux 6.7).
pub(crate) fn probe() -> io::Result<()> {
    let ring = IoUring::new(1)?;
    let mut known = io_uring::Probe::new();
    ring.submitter().register_probe(&mut known)?;
    if known.is_supported(opcode::FutexWait::CODE) {
        return Ok(());
    }
    let message = "it cannot wait for futexes before Linux 6.7";
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

impl Uring {
    /// A ring that wakes by `wake`, an eventfd. `lock`: held for as long as something is under way.
    pub(crate) fn new(wake: &OwnedFd, lock: Option<Arc<OwnedFd>>) -> io::Result<Self> {
        let ring = IoUring::builder().setup_clamp().setup_cqsize(ENTRIES * 16).build(ENTRIES)?;
        ring.submitter().register_eventfd(wake.as_raw_fd())?;
        if let Some(lock) = &lock {
            ring.submitter().register_files(&[lock.as_raw_fd()])?;
        }
        Ok(Self {
            ring,
            buffers: (0..BUFFERS).map(|_| Aligned::new(BATCH_BYTES_MAX)).collect(),
            under_way: (0..BUFFERS).map(|_| None).collect(),
            flushing: Vec::new(),
            rung: Vec::new(),
            done: Vec::new(),
            timeout: Box::new(Timespec::new()),
            wakes_at: None,
            watched: Vec::new(),
            _lock: lock,
        })
    }

    /// Adds entries that belong together.
    fn push(&mut self, entries: &[squeue::Entry]) {
        loop {
            let mut queue = self.ring.submission();
            if queue.capacity() - queue.len() >= entries.len() {
                // SAFETY: what the entries point to outlives the operations: buffers and the timeout are this object's own and
                // their addresses do not change, files are held in `under_way` and `flushing`, bells in `watched`; and the
                // ring, which is dropped first, waits for nothing but has the kernel's own references to all of them.
                let pushed = unsafe { queue.push_multiple(entries) };
                pushed.expect("there is room for them");
                return;
            }
            drop(queue);
            // Only to make room: an error shows again with what is submitted next.
            let _ = self.ring.submit();
        }
    }

    fn submit(&mut self) {
        // Out of memory for now, or the completion queue is full: what is queued is submitted with the next.
        let _ = self.ring.submit();
    }

    /// Takes all completions.
    fn harvest(&mut self) {
        if !self.ring.submission().is_empty() {
            self.submit();
        }
        let completions: Vec<_> =
            self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        for (number, result) in completions {
            let (kind, value) = (number & ((1 << KIND_BITS) - 1), number >> KIND_BITS);
            match kind {
                WRITE => self.written(value as usize, result),
                SYNC => {
                    self.under_way[value as usize] = None;
                    self.done.push(Done::Synced(value as usize, outcome(result)));
                }
                FLUSH => self.done.push(Done::Flushed(value, outcome(result))),
                BELL => {
                    self.watched.retain(|(key, _)| *key != value);
                    self.rung.push(value);
                }
                _ => self.wakes_at = None,
            }
        }
    }

    fn written(&mut self, buffer: usize, result: i32) {
        let under_way = &mut self.under_way[buffer];
        let asked = under_way.as_ref().map_or(0, |under_way| under_way.bytes);
        if under_way.as_ref().is_some_and(|under_way| !under_way.is_linked) {
            *under_way = None;
        }
        let written = whole(outcome(result).map(|()| result as usize), asked);
        self.done.push(Done::Written(buffer, written));
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel reads the buffers until then.
        while self.under_way.iter().any(Option::is_some) && self.ring.submit_and_wait(1).is_ok() {
            self.harvest();
        }
    }
}

fn outcome(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

impl Writer<File> for Uring {
    fn buffers(&self) -> usize {
        BUFFERS
    }

    fn buffer(&mut self, buffer: usize) -> &mut [u8] {
        self.buffers[buffer].first(BATCH_BYTES_MAX)
    }

    fn write(&mut self, file: &Arc<File>, offset: u64, buffer: usize, bytes: usize, sync: bool) {
        let fd = Fd(file.as_raw_fd());
        let from = self.buffers[buffer].first(bytes).as_ptr();
        let number = (buffer as u64) << KIND_BITS;
        let write =
            opcode::Write::new(fd, from, bytes as u32).offset(offset).build().user_data(number | WRITE);
        self.under_way[buffer] = Some(UnderWay { bytes, is_linked: sync, _file: file.clone() });
        if sync {
            let sync = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build().user_data(number | SYNC);
            self.push(&[write.flags(squeue::Flags::IO_LINK), sync]);
        } else {
            self.push(&[write]);
        }
        self.submit();
    }

    fn flush(&mut self, file: &Arc<File>, number: u64) {
        let sync = opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC).build();
        if !self.flushing.iter().any(|known| Arc::ptr_eq(known, file)) {
            // The last two: one that is being filled, and the one before.
            self.flushing.truncate(1);
            self.flushing.insert(0, file.clone());
        }
        self.push(&[sync.user_data(number << KIND_BITS | FLUSH)]);
        self.submit();
    }

    fn take_done(&mut self, done: &mut Vec<Done>) {
        self.harvest();
        done.append(&mut self.done);
    }
}

impl Sleeper for Uring {
    fn watch(&mut self, bell: &MappedBell, count: u32, key: u64) {
        let entry =
            opcode::FutexWait::new(bell.as_ptr(), count.into(), FUTEX_BITSET_MATCH_ANY, FUTEX2_SIZE_U32);
        self.watched.push((key, bell.clone()));
        self.push(&[entry.build().user_data(key << KIND_BITS | BELL)]);
    }

    fn take_rung(&mut self, rung: &mut Vec<u64>) {
        self.harvest();
        rung.append(&mut self.rung);
    }

    fn wake_in(&mut self, time: Duration) {
        let at = Instant::now() + time;
        if self.wakes_at.is_none_or(|known| at < known) {
            self.wakes_at = Some(at);
            *self.timeout = Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos());
            let entry = opcode::Timeout::new(&raw const *self.timeout).build();
            self.push(&[entry.user_data(TIMEOUT)]);
            // The kernel reads the time now, and not again.
            self.submit();
        }
    }
}
