//! The raw device: a file that is overwritten by io_uring with O_DIRECT, each write linked to an fdatasync behind it.
//!
//! What always holds:
//!
//! 1. Every block of the file has been written before: what is measured writes no metadata.
//! 2. A buffer is under way from [`Device::write`] until [`Device::ended`] names it; its bytes are given out only while it is
//!    not, so that the kernel never reads what is being written.
//! 3. Nothing is under way any more when the buffers are given back.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use rustix::event::EventfdFlags;
use rustix::thread::futex;

/// The device is written in blocks of so many bytes.
pub const BLOCK_BYTES: usize = 4096;
/// The most bytes of one write: those of the largest batch of Ringway's journal.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// How many buffers there are, and so writes under way at the most: as many as Ringway's journal has.
pub const BUFFERS: usize = 5;
const FILE_BYTES: u64 = 64 << 20;
/// A bell is 32 bits wide, and not private to this process.
const FUTEX2_SIZE_U32: u32 = 2;
const MATCH_ANY: u64 = 0xffff_ffff;
/// What completions are of.
const WRITE: u64 = 0;
const SYNC: u64 = 1;
const BELL: u64 = 2;

/// Memory that begins at a block, and whether the kernel has it.
#[derive(Debug)]
struct Buffer {
    memory: *mut u8,
    under_way: bool,
}

impl Buffer {
    const LAYOUT: Layout = match Layout::from_size_align(BATCH_BYTES_MAX, BLOCK_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("a power of two"),
    };

    fn new() -> Self {
        // SAFETY: the layout has a size.
        let memory = unsafe { alloc_zeroed(Self::LAYOUT) };
        if memory.is_null() {
            handle_alloc_error(Self::LAYOUT);
        }
        Self { memory, under_way: false }
    }

    fn bytes(&mut self) -> &mut [u8] {
        assert!(!self.under_way, "a buffer that is under way is the kernel's");
        // SAFETY: it has so many bytes, zeroed when they were made, borrowed with this object; the kernel is done with them.
        unsafe { std::slice::from_raw_parts_mut(self.memory, BATCH_BYTES_MAX) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by `new` with the same layout.
        unsafe { dealloc(self.memory, Self::LAYOUT) };
    }
}

/// The file, and a ring to write it by. For one thread.
pub struct Device {
    file: File,
    ring: IoUring,
    /// The completions add to it.
    wake: OwnedFd,
    buffers: Vec<Buffer>,
    at: u64,
}

impl Device {
    /// Makes the file, 64 MiB of zeros, or makes what is there already that. The file system must know O_DIRECT, and the kernel
    /// allow io_uring.
    pub fn open(path: &Path) -> io::Result<Self> {
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let file = File::options().write(true).create(true).truncate(true).custom_flags(direct).open(path)?;
        let mut buffers: Vec<_> = (0..BUFFERS).map(|_| Buffer::new()).collect();
        for at in (0..FILE_BYTES).step_by(BATCH_BYTES_MAX) {
            file.write_all_at(buffers[0].bytes(), at)?;
        }
        file.sync_all()?;
        let ring = IoUring::new(64)?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
        ring.submitter().register_eventfd(wake.as_raw_fd())?;
        Ok(Self { file, ring, wake, buffers, at: 0 })
    }

    /// The memory of a buffer, `BATCH_BYTES_MAX` bytes. Panics while it is under way.
    pub fn buffer(&mut self, buffer: usize) -> &mut [u8] {
        self.buffers[buffer].bytes()
    }

    /// Begins to write the first `bytes` bytes of a buffer, whole blocks, and to sync behind them. Panics where the buffer is
    /// under way already, or does not have so many.
    pub fn write(&mut self, buffer: usize, bytes: usize) -> io::Result<()> {
        let memory = self.buffers[buffer].bytes()[..bytes].as_ptr();
        if self.at + bytes as u64 > FILE_BYTES {
            self.at = 0;
        }
        let (fd, number) = (Fd(self.file.as_raw_fd()), (buffer as u64) << 2);
        let write = opcode::Write::new(fd, memory, bytes as u32).offset(self.at).build();
        let sync = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build();
        let entries =
            [write.flags(squeue::Flags::IO_LINK).user_data(number | WRITE), sync.user_data(number | SYNC)];
        // SAFETY: the buffer is left alone while it is under way, and `drop` waits for that; the file ends after the ring.
        unsafe { self.ring.submission().push_multiple(&entries) }.expect("two for each buffer fit");
        self.buffers[buffer].under_way = true;
        self.at += bytes as u64;
        self.ring.submit().map(drop)
    }

    /// The buffers that are synced since the last call.
    pub fn ended(&mut self) -> io::Result<Vec<usize>> {
        self.completions().map(|(synced, _)| synced)
    }

    /// What has come to an end: the buffers that are synced, and whether the bell was rung.
    fn completions(&mut self) -> io::Result<(Vec<usize>, bool)> {
        let (mut synced, mut rung, mut failed) = (Vec::new(), false, None);
        for entry in self.ring.completion() {
            let (what, buffer) = (entry.user_data() & 3, (entry.user_data() >> 2) as usize);
            // A write that fails has its sync cancelled, which is reported behind it.
            if what == SYNC {
                self.buffers[buffer].under_way = false;
            }
            match (what, entry.result()) {
                (BELL, _) => rung = true,
                (_, error) if error < 0 => {
                    failed.get_or_insert(io::Error::from_raw_os_error(-error));
                }
                (SYNC, _) => synced.push(buffer),
                _ => {}
            }
        }
        failed.map_or(Ok((synced, rung)), Err)
    }

    /// Waits for something to end: by spinning.
    pub fn spin(&mut self) -> io::Result<()> {
        while self.ring.completion().is_empty() {
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Waits for something to end: asleep in the eventfd.
    pub fn sleep(&mut self) -> io::Result<()> {
        Ok(rustix::io::read(&self.wake, &mut [0_u8; 8]).map(drop)?)
    }

    /// Writes one block at a time for so long, and waits for each; returns how long each took.
    pub fn one_at_a_time(
        &mut self,
        time: Duration,
        wait: fn(&mut Self) -> io::Result<()>,
    ) -> io::Result<Vec<Duration>> {
        let (mut times, began) = (Vec::new(), Instant::now());
        while began.elapsed() < time {
            let begin = Instant::now();
            self.write(0, BLOCK_BYTES)?;
            while self.ended()?.is_empty() {
                wait(self)?;
            }
            times.push(begin.elapsed());
        }
        Ok(times)
    }

    /// Writes and syncs a block whenever another thread rings, which sleeps until it is done; returns how long each took
    /// that thread.
    pub fn for_another(&mut self, time: Duration) -> io::Result<Vec<Duration>> {
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
                while !self.completions()?.1 {
                    self.sleep()?;
                }
                count = asked.load(Ordering::Acquire);
                if ends.load(Ordering::Acquire) {
                    break;
                }
                self.write(0, BLOCK_BYTES)?;
                while self.ended()?.is_empty() {
                    self.sleep()?;
                }
                ring(&answered);
            }
            Ok(asking.join().expect("it does not panic"))
        })
    }

    /// Keeps so many batches of so many bytes in flight, [`BUFFERS`] at the most; returns how many were synced.
    pub fn many(&mut self, bytes: usize, depth: usize, time: Duration) -> io::Result<u64> {
        let (mut free, mut synced) = ((0..depth).collect::<Vec<_>>(), 0);
        let began = Instant::now();
        while began.elapsed() < time || free.len() < depth {
            while let Some(buffer) = free.pop_if(|_| began.elapsed() < time) {
                self.write(buffer, bytes)?;
            }
            self.sleep()?;
            let ended = self.ended()?;
            synced += ended.len() as u64;
            free.extend(ended);
        }
        Ok(synced)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        while self.buffers.iter().any(|buffer| buffer.under_way) {
            if self.ring.submit_and_wait(1).is_err() {
                // Nothing can be waited for: the memory is left to the kernel, which may still read it.
                std::mem::take(&mut self.buffers).into_iter().for_each(std::mem::forget);
                return;
            }
            // Whether they succeeded is of no interest any more.
            let _ = self.ended();
        }
    }
}

fn ring(bell: &AtomicU32) {
    bell.fetch_add(1, Ordering::Release);
    let _ = futex::wake(bell, futex::Flags::empty(), 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device in a file of the temporary directory that has no name any more.
    fn device(name: &str) -> Device {
        let path = std::env::temp_dir().join(format!("ringway-device-{name}-{}", std::process::id()));
        let device = Device::open(&path);
        std::fs::remove_file(&path).unwrap();
        device.unwrap()
    }

    #[test]
    fn what_a_buffer_held_is_in_the_file_when_it_is_said_to_be_synced() {
        let mut device = device("synced");
        device.buffer(1)[..BLOCK_BYTES].fill(7);
        device.write(1, BLOCK_BYTES).unwrap();
        let synced = loop {
            device.sleep().unwrap();
            let synced = device.ended().unwrap();
            if !synced.is_empty() {
                break synced;
            }
        };
        assert_eq!(synced, [1]);
        // Read by a descriptor without O_DIRECT, which wants no aligned memory.
        let file = File::open(format!("/proc/self/fd/{}", device.file.as_raw_fd())).unwrap();
        let mut block = [0; BLOCK_BYTES];
        file.read_exact_at(&mut block, 0).unwrap();
        assert!(block.iter().all(|byte| *byte == 7));
    }

    #[test]
    #[should_panic(expected = "under way")]
    fn a_buffer_that_is_under_way_is_not_given_out() {
        let mut device = device("under-way");
        device.write(0, BLOCK_BYTES).unwrap();
        device.buffer(0);
    }
}
