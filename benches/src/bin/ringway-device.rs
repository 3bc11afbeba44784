//! What the device and io_uring can do without Ringway: the raw control for everything that a journal promises.
//!
//! `ringway-device [DIRECTORY] [SECONDS]` (the temporary directory, and 1 for each figure, when nothing is said). A file of 64 MiB,
//! every block of it written before, is overwritten with O_DIRECT, each write linked to an fdatasync behind it:
//!
//! - one 4 KiB at a time, by a thread that spins on the completions, and by one that sleeps in an eventfd that they add to;
//! - the same asked for by another thread, which rings a futex and sleeps on a second one: the writer is parked by FUTEX_WAIT in its
//!   ring and woken through the eventfd, as a shard is;
//! - batches of 64 KiB to 1 MiB with 1 to 4 in flight, in bytes and syncs per second.
//!
//! Prints medians and 99th percentiles in µs. In three rounds, so that it can be seen what the machine did meanwhile.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use rustix::event::EventfdFlags;
use rustix::thread::futex;

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 3;
const FILE_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: usize = 4096;
const BATCH_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 4;
/// A bell is 32 bits wide, and not private to this process.
const FUTEX2_SIZE_U32: u32 = 2;
const MATCH_ANY: u64 = 0xffff_ffff;
/// What completions are of.
const WRITE: u64 = 0;
const SYNC: u64 = 1;
const BELL: u64 = 2;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let time = Duration::try_from_secs_f64(arguments.next().map_or(Ok(1.0), |text| text.parse())?)?;
    let path = directory.join(format!("ringway-device-{}", std::process::id()));
    let measured = measure(&path, time);
    // Whatever has happened: it is of no use any more.
    let _ = std::fs::remove_file(&path);
    measured
}

fn measure(path: &Path, time: Duration) -> Result<(), Failure> {
    let mut device = Device::open(path)?;
    for round in 1..=ROUNDS {
        println!("round {round}");
        show("4 KiB, one at a time, spinning", device.one_at_a_time(time, Device::spin)?);
        show("4 KiB, one at a time, sleeping in an eventfd", device.one_at_a_time(time, Device::sleep)?);
        show("4 KiB for another thread, both parked", device.for_another(time)?);
        for (bytes, depth) in [(64 << 10, 1), (256 << 10, 1), (256 << 10, 4), (1 << 20, 1), (1 << 20, 4)] {
            let batches = device.many(bytes, depth, time)?;
            let per_second = batches as f64 / time.as_secs_f64();
            let megabytes = per_second * bytes as f64 / 1e6;
            println!(
                "  {:>4} KiB, {depth} in flight: {megabytes:.0} MB/s, {per_second:.0} syncs/s",
                bytes >> 10
            );
        }
    }
    Ok(())
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1e3;
    println!("  {what}: p50 {:.1} µs, p99 {:.1} µs ({} times)", at(0.5), at(0.99), times.len());
}

/// Memory that begins at a block.
struct Buffer(*mut u8);

impl Buffer {
    const LAYOUT: Layout = match Layout::from_size_align(BATCH_BYTES_MAX, BLOCK_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("a power of two"),
    };

    fn new() -> Self {
        // SAFETY: the layout has a size.
        Self(unsafe { alloc_zeroed(Self::LAYOUT) })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by `new` with the same layout.
        unsafe { dealloc(self.0, Self::LAYOUT) };
    }
}

/// The file, and a ring to write it by.
struct Device {
    file: File,
    ring: IoUring,
    wake: OwnedFd,
    /// One for each that is in flight.
    buffers: Vec<Buffer>,
    at: u64,
}

impl Device {
    fn open(path: &Path) -> Result<Self, Failure> {
        let direct = rustix::fs::OFlags::DIRECT.bits().try_into()?;
        let file = File::options().write(true).create(true).truncate(true).custom_flags(direct).open(path)?;
        let buffers: Vec<_> = (0..DEPTH_MAX).map(|_| Buffer::new()).collect();
        // SAFETY: it has so many bytes, and nobody writes to it.
        let zeros = unsafe { std::slice::from_raw_parts(buffers[0].0, BATCH_BYTES_MAX) };
        for at in (0..FILE_BYTES).step_by(BATCH_BYTES_MAX) {
            file.write_all_at(zeros, at)?;
        }
        file.sync_all()?;
        let ring = IoUring::new(64)?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
        ring.submitter().register_eventfd(wake.as_raw_fd())?;
        Ok(Self { file, ring, wake, buffers, at: 0 })
    }

    /// Begins to write so many bytes out of a buffer, and to sync behind them.
    fn write(&mut self, buffer: usize, bytes: usize) -> io::Result<()> {
        if self.at + bytes as u64 > FILE_BYTES {
            self.at = 0;
        }
        let (fd, number) = (Fd(self.file.as_raw_fd()), (buffer as u64) << 2);
        let write = opcode::Write::new(fd, self.buffers[buffer].0, bytes as u32).offset(self.at).build();
        let sync = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build();
        let entries =
            [write.flags(squeue::Flags::IO_LINK).user_data(number | WRITE), sync.user_data(number | SYNC)];
        // SAFETY: file and buffer live as long as the ring; all is reported before this object ends.
        unsafe { self.ring.submission().push_multiple(&entries) }.expect("so many fit");
        self.at += bytes as u64;
        self.ring.submit().map(drop)
    }

    /// What has come to an end: the buffers that are synced, and whether the bell was rung.
    fn ended(&mut self) -> io::Result<(Vec<usize>, bool)> {
        let (mut synced, mut rung) = (Vec::new(), false);
        for entry in self.ring.completion() {
            match (entry.user_data() & 3, entry.result()) {
                (BELL, _) => rung = true,
                (_, error) if error < 0 => return Err(io::Error::from_raw_os_error(-error)),
                (SYNC, _) => synced.push((entry.user_data() >> 2) as usize),
                _ => {}
            }
        }
        Ok((synced, rung))
    }

    /// Waits for something to end.
    fn spin(&mut self) -> io::Result<()> {
        while self.ring.completion().is_empty() {
            std::hint::spin_loop();
        }
        Ok(())
    }

    fn sleep(&mut self) -> io::Result<()> {
        Ok(rustix::io::read(&self.wake, &mut [0_u8; 8]).map(drop)?)
    }

    fn one_at_a_time(
        &mut self,
        time: Duration,
        wait: fn(&mut Self) -> io::Result<()>,
    ) -> io::Result<Vec<Duration>> {
        let (mut times, began) = (Vec::new(), Instant::now());
        while began.elapsed() < time {
            let begin = Instant::now();
            self.write(0, BLOCK_BYTES)?;
            while self.ended()?.0.is_empty() {
                wait(self)?;
            }
            times.push(begin.elapsed());
        }
        Ok(times)
    }

    /// Writes and syncs a block whenever another thread rings, which sleeps until it is done.
    fn for_another(&mut self, time: Duration) -> io::Result<Vec<Duration>> {
        let (asked, answered, ends) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let (mut times, began) = (Vec::new(), Instant::now());
                while began.elapsed() < time {
                    let (begin, before) = (Instant::now(), answered.load(Ordering::Acquire));
                    ring(&asked);
                    while answered.load(Ordering::Acquire) == before {
                        // Woken, interrupted or answered already: it looks again.
                        let _ = futex::wait(&answered, futex::Flags::empty(), before, None);
                    }
                    times.push(begin.elapsed());
                }
                ends.store(true, Ordering::Release);
                ring(&asked);
                times
            });
            let mut count = 0;
            loop {
                let wait =
                    opcode::FutexWait::new(asked.as_ptr(), u64::from(count), MATCH_ANY, FUTEX2_SIZE_U32);
                // SAFETY: the bell outlives the wait: whoever rings it last is waited for below.
                unsafe { self.ring.submission().push(&wait.build().user_data(BELL)) }.expect("it fits");
                self.ring.submit()?;
                while !self.ended()?.1 {
                    self.sleep()?;
                }
                count = asked.load(Ordering::Acquire);
                if ends.load(Ordering::Acquire) {
                    break;
                }
                self.write(0, BLOCK_BYTES)?;
                while self.ended()?.0.is_empty() {
                    self.sleep()?;
                }
                ring(&answered);
            }
            Ok(asking.join().expect("it does not panic"))
        })
    }

    /// Keeps so many batches in flight; returns how many were synced.
    fn many(&mut self, bytes: usize, depth: usize, time: Duration) -> io::Result<u64> {
        let (mut free, mut synced) = ((0..depth).collect::<Vec<_>>(), 0);
        let began = Instant::now();
        while began.elapsed() < time || free.len() < depth {
            while let Some(buffer) = free.pop_if(|_| began.elapsed() < time) {
                self.write(buffer, bytes)?;
            }
            self.sleep()?;
            let (ended, _) = self.ended()?;
            synced += ended.len() as u64;
            free.extend(ended);
        }
        Ok(synced)
    }
}

fn ring(bell: &AtomicU32) {
    bell.fetch_add(1, Ordering::Release);
    let _ = futex::wake(bell, futex::Flags::empty(), 1);
}
