//! Waiting for many consumers at once.
//!
//! ```text
//!             quiet for longest, beyond 127 bells
//!  near ───────────────────────────────────▶ parked
//!  looked at, and waited for directly        watched by helper threads, 127 each, which sleep as long as nobody rings
//!   ▲                                          │ its bell rang
//!   └──────────────────────────────────────────┘
//! ```
//!
//! 1. A consumer is near or parked. A sleep announces every near one and looks again; a parked one was announced when it
//!    was parked, and looked at again then: whoever publishes to it rings. So a sleep costs by the near, not by all.
//! 2. Before a sleep every near consumer commits: no producer waits for a sleeper. A parked one has committed.
//! 3. Every partition of a consumer has a bell. Sets of up to 127 bells have no helper threads: then a wake-up is one
//!    step, beyond it two.
//! 4. Once a second all are looked at, so that misuse of a bell delays a message by no more.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ringway_shm_protocol::memory::Bell;
use ringway_shm_protocol::memory::bell::{LocalBell, MappedBell, WAIT_ANY_MAX, wait_any};

use crate::consumer::Consumer;
use crate::error::{RecvError, WaitError};
use crate::wait::{Deadline, SLEEP_MAX, Step, WaitStrategy, Waiter};

/// Names a consumer of a [`WaitSet`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::WaitSet;
///
/// let mut set = WaitSet::new();
/// let key = set.add(connection.consumer("orders", "billing").open()?);
/// let consumer = set.remove(key);
/// assert!(consumer.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerKey(usize);

/// Consumers that one thread waits for together, thousands if need be.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use std::time::Duration;
/// use ringway_client::WaitSet;
///
/// let mut set = WaitSet::new();
/// for stream in ["orders", "payments", "returns"] {
///     set.add(connection.consumer(stream, "audit").open()?);
/// }
/// loop {
///     for key in set.wait(Duration::from_secs(60))?.to_vec() {
///         let consumer = set.get_mut(key).expect("it was not removed");
///         while let Some(message) = consumer.try_recv()? {
///             println!("{} bytes", message.payload_bytes());
///         }
///     }
/// }
/// # }
/// ```
///
/// It may move between threads. Dropping it closes its consumers as dropping them does.
pub struct WaitSet {
    consumers: Vec<Option<Entry>>,
    /// Keys of the near ones, the longest quiet first.
    near: Vec<usize>,
    ready: Vec<ConsumerKey>,
    wait: WaitStrategy,
    watch: Arc<Watch>,
    watchers: Vec<Watcher>,
    found_late: u64,
}

struct Entry {
    consumer: Consumer,
    parked: bool,
}

impl Default for WaitSet {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitSet {
    /// A set without consumers.
    pub fn new() -> Self {
        Self {
            consumers: Vec::new(),
            near: Vec::new(),
            ready: Vec::new(),
            wait: WaitStrategy::default(),
            watch: Arc::default(),
            watchers: Vec::new(),
            found_late: 0,
        }
    }

    /// How the set waits; [`WaitStrategy::default`] when nothing is said. The consumers' own strategies do not count.
    pub fn with_wait(self, wait: WaitStrategy) -> Self {
        Self { wait, ..self }
    }

    /// Adds a consumer.
    pub fn add(&mut self, consumer: Consumer) -> ConsumerKey {
        let key = self.consumers.iter().position(Option::is_none).unwrap_or_else(|| {
            self.consumers.push(None);
            self.consumers.len() - 1
        });
        self.consumers[key] = Some(Entry { consumer, parked: false });
        self.near.push(key);
        ConsumerKey(key)
    }

    /// The consumer of this key, to receive from it.
    pub fn get_mut(&mut self, key: ConsumerKey) -> Option<&mut Consumer> {
        // What it receives it must commit before the next sleep: only near ones do.
        self.unpark(key.0);
        self.consumers.get_mut(key.0)?.as_mut().map(|entry| &mut entry.consumer)
    }

    /// Takes a consumer out.
    pub fn remove(&mut self, key: ConsumerKey) -> Option<Consumer> {
        self.unpark(key.0);
        let entry = self.consumers.get_mut(key.0)?.take()?;
        self.near.retain(|near| *near != key.0);
        Some(entry.consumer)
    }

    /// How many consumers there are.
    pub fn len(&self) -> usize {
        self.consumers.iter().flatten().count()
    }

    /// How often a parked consumer had a message that no bell had announced, and the look once a second found it. More than
    /// one now and then: a process that publishes to one of the streams misuses its bell.
    pub fn found_late(&self) -> u64 {
        self.found_late
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits, at most `timeout`, until consumers have messages; returns their keys, none when the time is over. Receive
    /// from each until it has no more, or some will be returned again by the next call, at once.
    ///
    /// When a consumer fails, or the broker behind it is gone and it has nothing left, the error names it; remove it, and
    /// the others go on.
    pub fn wait(&mut self, timeout: Duration) -> Result<&[ConsumerKey], WaitError> {
        let mut waiter = Waiter::new(self.wait, Deadline::after(timeout));
        self.ready.clear();
        loop {
            self.unpark_rung();
            self.look();
            if !self.ready.is_empty() {
                return Ok(&self.ready);
            }
            let step = waiter.step_after(self.near.len() as u32);
            match step {
                Step::Look | Step::Idle => {}
                Step::Sleep(at_most) => self.sleep(at_most)?,
                Step::CheckBroker | Step::Over => {
                    self.check_all()?;
                    if step == Step::Over || !self.ready.is_empty() {
                        return Ok(&self.ready);
                    }
                }
            }
        }
    }

    /// Finds the near consumers that have a message; they count as active.
    fn look(&mut self) {
        let (consumers, ready) = (&self.consumers, &mut self.ready);
        if !self.near.iter().any(|key| has_next(consumers, *key)) {
            return;
        }
        let (quiet, active): (Vec<usize>, Vec<usize>) =
            self.near.iter().partition(|key| !has_next(consumers, **key));
        ready.extend(active.iter().map(|key| ConsumerKey(*key)));
        self.near.clear();
        self.near.extend(quiet);
        self.near.extend(active);
    }

    /// Sleeps until a bell is rung, unless there is a message already.
    fn sleep(&mut self, at_most: Duration) -> Result<(), WaitError> {
        // Read before anything is announced: a helper that rings from now on ends the sleep.
        let rung = self.watch.bell.count();
        let mut counts = Vec::with_capacity(self.near.len());
        for key in &self.near {
            let entry = self.consumers[*key].as_mut().expect("near ones are there");
            counts.push(entry.consumer.announce().map_err(|source| failed(*key, source))?);
        }
        // Behind all announcements: who publishes to one of them from here on rings.
        if self.near.iter().any(|key| has_next(&self.consumers, *key)) {
            return Ok(());
        }
        // The most that can be waited for directly, from the one that was active last.
        let (mut bells, mut stay) = (0, 0);
        while let Some(count) = counts.iter().rev().nth(stay)
            && bells + count.len() <= WAIT_ANY_MAX
        {
            bells += count.len();
            stay += 1;
        }
        let excess = counts.len() - stay;
        self.park(excess, &counts);
        if self.watch.is_rung() {
            return Ok(());
        }
        let near = self.near.iter().zip(&counts[excess..]);
        let bells = near.flat_map(|(key, counts)| {
            let entry = self.consumers[*key].as_ref().expect("near ones are there");
            entry.consumer.partitions().bells().zip(counts.iter().copied())
        });
        wait_any(bells, (&self.watch.bell, rung), at_most);
        Ok(())
    }

    /// Parks the first `excess` of the near ones, which were announced when their bells had these counts.
    fn park(&mut self, excess: usize, counts: &[Vec<u32>]) {
        let mut watcher = 0;
        for (key, counts) in self.near.drain(..excess).zip(counts) {
            let entry = self.consumers[key].as_mut().expect("near ones are there");
            entry.parked = true;
            for (bell, count) in entry.consumer.partitions().bells().zip(counts) {
                let mut watched = Watched { key, bell: bell.clone(), count: *count };
                loop {
                    if watcher == self.watchers.len() {
                        self.watchers.push(Watcher::start(Arc::clone(&self.watch)));
                    }
                    match self.watchers[watcher].add(watched) {
                        Ok(()) => break,
                        Err(full) => watched = full,
                    }
                    watcher += 1;
                }
            }
        }
        if excess > 0 {
            self.watchers.iter().for_each(Watcher::look_again);
        }
    }

    /// Brings those back near whose bells were rung.
    fn unpark_rung(&mut self) {
        for key in self.watch.take_rung() {
            self.unpark(key);
        }
    }

    fn unpark(&mut self, key: usize) {
        if let Some(Some(entry)) = self.consumers.get_mut(key)
            && std::mem::take(&mut entry.parked)
        {
            self.watchers.iter().for_each(|watcher| watcher.forget(key));
            self.near.push(key);
        }
    }

    /// Looks at all, parked or not, and whether the brokers are still there; for those that are not, another one is looked for.
    fn check_all(&mut self) -> Result<(), WaitError> {
        self.ready.clear();
        // After the broker was looked at, so that all that came before its end is returned.
        let is_gone = |key: &usize| {
            self.consumers[*key].as_ref().is_some_and(|entry| !entry.consumer.partitions().is_open())
        };
        let gone: Vec<usize> = (0..self.consumers.len()).filter(is_gone).collect();
        self.ready
            .extend((0..self.consumers.len()).filter(|key| has_next(&self.consumers, *key)).map(ConsumerKey));
        let parked = |key: &&ConsumerKey| self.consumers[key.0].as_ref().is_some_and(|entry| entry.parked);
        self.found_late += self.ready.iter().filter(parked).count() as u64;
        if self.ready.is_empty() {
            for key in gone {
                // Whoever watches its bells watches those of a ring that is gone.
                self.unpark(key);
                let entry = self.consumers[key].as_mut().expect("it was looked at");
                entry.consumer.look_for_broker().map_err(|source| failed(key, source))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for WaitSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WaitSet")
            .field("consumers", &self.len())
            .field("near", &self.near.len())
            .field("watchers", &self.watchers.len())
            .finish_non_exhaustive()
    }
}

fn has_next(consumers: &[Option<Entry>], key: usize) -> bool {
    consumers[key].as_ref().is_some_and(|entry| entry.consumer.partitions().has_next())
}

fn failed(key: usize, source: RecvError) -> WaitError {
    WaitError { key: ConsumerKey(key), source }
}

/// What helper threads tell the set.
#[derive(Default)]
struct Watch {
    bell: LocalBell,
    any: AtomicBool,
    rung: Mutex<Vec<usize>>,
}

impl Watch {
    fn is_rung(&self) -> bool {
        // Acquire: pairs with the release in `tell`.
        self.any.load(Ordering::Acquire)
    }

    fn take_rung(&self) -> Vec<usize> {
        if !self.is_rung() {
            return Vec::new();
        }
        let mut rung = lock(&self.rung);
        self.any.store(false, Ordering::Relaxed);
        std::mem::take(&mut rung)
    }

    fn tell(&self, keys: Vec<usize>) {
        let mut rung = lock(&self.rung);
        rung.extend(keys);
        self.any.store(true, Ordering::Release);
        drop(rung);
        self.bell.ring();
    }
}

/// A parked consumer.
struct Watched {
    key: usize,
    bell: MappedBell,
    /// Its bell's count when it was announced.
    count: u32,
}

/// What a helper thread watches.
#[derive(Default)]
struct Shift {
    watched: Vec<Watched>,
    ends: bool,
}

/// A helper thread and what it watches. It ends when dropped.
struct Watcher {
    control: Arc<(LocalBell, Mutex<Shift>)>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    fn start(watch: Arc<Watch>) -> Self {
        let control: Arc<(LocalBell, Mutex<Shift>)> = Arc::default();
        let of_thread = Arc::clone(&control);
        let thread = std::thread::spawn(move || watch_bells(&of_thread, &watch));
        Self { control, thread: Some(thread) }
    }

    /// Gives the watched back when it has as many as it can.
    fn add(&self, watched: Watched) -> Result<(), Watched> {
        let mut shift = lock(&self.control.1);
        if shift.watched.len() == WAIT_ANY_MAX {
            return Err(watched);
        }
        shift.watched.push(watched);
        Ok(())
    }

    /// Watches it no longer; most often it was rung, and is not watched any more.
    fn forget(&self, key: usize) {
        lock(&self.control.1).watched.retain(|watched| watched.key != key);
    }

    /// Lets the thread take note of what has changed.
    fn look_again(&self) {
        self.control.0.ring();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        lock(&self.control.1).ends = true;
        self.control.0.ring();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, nobody would be helped by a second one.
            let _ = thread.join();
        }
    }
}

/// Sleeps until a bell is rung, tells the set, and so on.
fn watch_bells(control: &(LocalBell, Mutex<Shift>), watch: &Watch) {
    loop {
        // Read before the list: a change that is not in it has rung since.
        let count = control.0.count();
        let mut shift = lock(&control.1);
        if shift.ends {
            return;
        }
        let is_rung = |watched: &mut Watched| watched.bell.count() != watched.count;
        let rung: Vec<usize> = shift.watched.extract_if(.., is_rung).map(|watched| watched.key).collect();
        let bells: Vec<_> =
            shift.watched.iter().map(|watched| (watched.bell.clone(), watched.count)).collect();
        drop(shift);
        if !rung.is_empty() {
            watch.tell(rung);
        }
        wait_any(bells.iter().map(|(bell, count)| (bell, *count)), (&control.0, count), SLEEP_MAX * 3600);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
