//! Writing and sleeping by plain threads: for where io_uring is denied.
//!
//! ```text
//! write, flush ──▶ a thread: pwrite, pwrite, … then one fdatasync for all of them ──┐
//! bells        ──▶ threads, each waiting for up to 127 of them and for a time ──────┴──▶ the shard's eventfd
//! ```
//!
//! 1. Everything that has come to an end is told before the eventfd is written to: whoever looks after each wake-up misses
//!    nothing.
//! 2. The writing thread takes what has gathered: while it syncs, more gathers.
//! 3. The lock of the journal's directory is held by the process, whose files the kernel closes when the last of its threads has
//!    left it: none leaves it within a write.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway_shm_protocol::memory::Bell;
use ringway_shm_protocol::memory::bell::{LocalBell, MappedBell, WAIT_ANY_MAX, wait_any};

use super::files::Aligned;
use super::{Done, Sleeper, Writer, whole};
use crate::journal::format::BATCH_BYTES_MAX;

/// Batches in flight, and the one that is being filled.
const BUFFERS: usize = 5;
/// The longest that a thread waits without being told to.
const WAIT_MOST: Duration = Duration::from_secs(3600);
/// A wait that ends for no reason is not begun again before, so that a kernel that cannot wait for many bells costs little.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What is to be written.
enum Job {
    Write { file: Arc<File>, offset: u64, buffer: usize, aligned: Aligned, bytes: usize, sync: bool },
    Flush { file: Arc<File>, number: u64 },
}

/// What has come to an end, and the buffer that it was written from.
struct Report(Done, Option<Aligned>);

/// See the module.
pub(crate) struct Threads {
    /// `None`: it is being written from.
    buffers: Vec<Option<Aligned>>,
    jobs: Option<Sender<Job>>,
    reports: Receiver<Report>,
    writing: Option<JoinHandle<()>>,
    watching: Vec<Watching>,
    rung: Arc<Mutex<Vec<u64>>>,
    wake: Arc<Wake>,
    _lock: Option<Arc<OwnedFd>>,
}

/// The shard's eventfd.
struct Wake(OwnedFd);

impl Wake {
    fn ring(&self) {
        // Fails only when the count is about to overflow: then the shard is being woken anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl Threads {
    /// Wakes by `wake`, an eventfd. `lock`: held for as long as something is under way.
    pub(crate) fn new(wake: &OwnedFd, lock: Option<Arc<OwnedFd>>) -> io::Result<Self> {
        let wake = Arc::new(Wake(wake.try_clone()?));
        let (jobs, to_do) = channel();
        let (done, reports) = channel();
        let writing = std::thread::Builder::new().name("journal-write".to_owned()).spawn({
            let wake = Arc::clone(&wake);
            move || write_all(&to_do, &done, &wake)
        })?;
        Ok(Self {
            buffers: (0..BUFFERS).map(|_| Some(Aligned::new(BATCH_BYTES_MAX))).collect(),
            jobs: Some(jobs),
            reports,
            writing: Some(writing),
            watching: Vec::new(),
            rung: Arc::default(),
            wake,
            _lock: lock,
        })
    }

    fn ask(&self, job: Job) {
        // The thread does not end before this.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }

    /// A thread that can watch another bell.
    fn with_room(&mut self) -> io::Result<&Watching> {
        let index = self.watching.iter().position(|watching| watching.watches().bells.len() < WAIT_ANY_MAX);
        let index = match index {
            Some(index) => index,
            None => {
                self.watching.push(Watching::start(&self.wake, &self.rung)?);
                self.watching.len() - 1
            }
        };
        Ok(&self.watching[index])
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.writing.take() {
            let _ = thread.join();
        }
    }
}

/// The thread that writes.
fn write_all(jobs: &Receiver<Job>, reports: &Sender<Report>, wake: &Wake) {
    while let Ok(first) = jobs.recv() {
        let gathered = [first].into_iter().chain(jobs.try_iter().take(BUFFERS));
        // What a sync is to cover, and how it is reported.
        let mut to_sync: Vec<(Arc<File>, Done)> = Vec::new();
        for job in gathered {
            match job {
                Job::Write { file, offset, buffer, mut aligned, bytes, sync } => {
                    let written = whole(file.write_at(aligned.first(bytes), offset), bytes);
                    if sync && written.is_ok() {
                        to_sync.push((file, Done::Synced(buffer, Ok(()))));
                    }
                    // Without a receiver nobody asks any more.
                    let _ = reports.send(Report(Done::Written(buffer, written), Some(aligned)));
                }
                Job::Flush { file, number } => to_sync.push((file, Done::Flushed(number, Ok(())))),
            }
        }
        wake.ring();
        while let Some((file, _)) = to_sync.first() {
            let file = Arc::clone(file);
            let synced = file.sync_data();
            for (_, done) in to_sync.extract_if(.., |(other, _)| Arc::ptr_eq(other, &file)) {
                let outcome = || match &synced {
                    Ok(()) => Ok(()),
                    Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                };
                let done = match done {
                    Done::Synced(buffer, _) => Done::Synced(buffer, outcome()),
                    Done::Flushed(number, _) => Done::Flushed(number, outcome()),
                    written @ Done::Written(..) => written,
                };
                let _ = reports.send(Report(done, None));
            }
            wake.ring();
        }
    }
}

impl Writer<File> for Threads {
    fn buffers(&self) -> usize {
        BUFFERS
    }

    fn buffer(&mut self, buffer: usize) -> &mut [u8] {
        let aligned = self.buffers[buffer].as_mut();
        aligned.expect("a buffer is not touched while it is written from").first(BATCH_BYTES_MAX)
    }

    fn write(&mut self, file: &Arc<File>, offset: u64, buffer: usize, bytes: usize, sync: bool) {
        let aligned = self.buffers[buffer].take().expect("a buffer is written from once at a time");
        self.ask(Job::Write { file: Arc::clone(file), offset, buffer, aligned, bytes, sync });
    }

    fn flush(&mut self, file: &Arc<File>, number: u64) {
        self.ask(Job::Flush { file: Arc::clone(file), number });
    }

    fn take_done(&mut self, done: &mut Vec<Done>) {
        for Report(report, aligned) in self.reports.try_iter() {
            if let Done::Written(buffer, _) = &report {
                self.buffers[*buffer] = aligned;
            }
            done.push(report);
        }
    }
}

impl Sleeper for Threads {
    fn watch(&mut self, bell: &MappedBell, count: u32, key: u64) {
        match self.with_room() {
            Ok(watching) => watching.change(|watches| watches.bells.push((key, bell.clone(), count))),
            // Without a thread nothing can be slept through.
            Err(_) => lock(&self.rung).push(key),
        }
    }

    fn take_rung(&mut self, rung: &mut Vec<u64>) {
        rung.append(&mut lock(&self.rung));
    }

    fn wake_in(&mut self, time: Duration) {
        let at = Instant::now() + time;
        match self.with_room() {
            Ok(_) => self.watching[0].change(|watches| {
                watches.wake_at = Some(watches.wake_at.map_or(at, |known| known.min(at)));
            }),
            Err(_) => self.wake.ring(),
        }
    }
}

/// What a thread waits for.
#[derive(Default)]
struct Watches {
    /// With the key and the count that each is to differ from.
    bells: Vec<(u64, MappedBell, u32)>,
    wake_at: Option<Instant>,
}

/// A thread that waits, and what is shared with it.
struct Watching {
    shared: Arc<(Mutex<Watches>, LocalBell, AtomicBool)>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    fn start(wake: &Arc<Wake>, rung: &Arc<Mutex<Vec<u64>>>) -> io::Result<Self> {
        let shared = Arc::new((Mutex::default(), LocalBell::default(), AtomicBool::new(false)));
        let thread = std::thread::Builder::new().name("journal-watch".to_owned()).spawn({
            let (shared, wake, rung) = (Arc::clone(&shared), Arc::clone(wake), Arc::clone(rung));
            move || watch_all(&shared, &wake, &rung)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        lock(&self.shared.0)
    }

    /// Changes what the thread waits for.
    fn change(&self, change: impl FnOnce(&mut Watches)) {
        change(&mut self.watches());
        self.shared.1.ring();
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // The mutex orders it: the thread reads it behind the next look at what it waits for.
        self.shared.2.store(true, Ordering::Relaxed);
        self.change(|_| ());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A thread that waits.
fn watch_all(
    (watches, told, ends): &(Mutex<Watches>, LocalBell, AtomicBool),
    wake: &Wake,
    rung: &Mutex<Vec<u64>>,
) {
    loop {
        let count = told.count();
        let (bells, wake_at) = {
            let watches = lock(watches);
            (watches.bells.clone(), watches.wake_at)
        };
        if ends.load(Ordering::Relaxed) {
            return;
        }
        let at_most = wake_at.map_or(WAIT_MOST, |at| at.saturating_duration_since(Instant::now()));
        if !at_most.is_zero() {
            wait_any(bells.iter().map(|(_, bell, count)| (bell, *count)), (told, count), at_most);
        }
        let mut watches = lock(watches);
        let is_over = watches.wake_at.take_if(|at| *at <= Instant::now()).is_some();
        let found: Vec<_> = watches.bells.extract_if(.., |(_, bell, count)| bell.count() != *count).collect();
        drop(watches);
        if is_over || !found.is_empty() {
            lock(rung).extend(found.into_iter().map(|(key, ..)| key));
            wake.ring();
        } else if told.count() == count {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Nobody panics while holding one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
