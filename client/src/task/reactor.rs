//! Waking tasks: the one helper thread of a process, which sleeps where they wait.
//!
//! ```text
//!  task ──interest──▶ list ◀── helper: announce where it is to · look at every interest · sleep until any bell rings
//!    ▲                              │ ready, or its time is over
//!    └───────────────wake───────────┘
//! ```
//!
//! 1. An interest is in the list before the task sleeps; the helper looks at it behind an announcement, its own or the task's. So
//!    either the helper sees that it is ready, or whoever makes it ready sees the announcement and rings.
//! 2. A task is woken after the time that it has given at the latest, to look for itself whether the broker is still there.
//! 3. The thread starts with the first interest, and sleeps while there is none. Its end is the process's.
//! 4. Up to 127 bells are slept at together. With more of them the others are looked at every millisecond.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use ringway_shm_protocol::fork::ForkMark;
use ringway_shm_protocol::memory::Bell;
use ringway_shm_protocol::memory::bell::{LocalBell, MappedBell, WAIT_ANY_MAX, wait_any};

/// The helper's name.
const THREAD: &str = "ringway-reactor";
/// How long the bells that are too many for one sleep are left alone.
const TOO_MANY: Duration = Duration::from_millis(1);
/// How long it sleeps while nobody waits: until it is rung.
const NOBODY: Duration = Duration::from_secs(3600);

/// What a task waits for.
pub(crate) trait Await: Send {
    /// Names each bell that is rung behind a change that may make it ready, and how its count from before an announcement is
    /// got: asked for once at the most, and behind that [`is_ready`](Self::is_ready).
    fn bells(&self, name: &mut dyn FnMut(&MappedBell, &dyn Fn() -> u32));

    /// Whether the task has something to look at.
    fn is_ready(&self) -> bool;
}

/// A task's interest; given up when dropped.
pub(crate) struct Interest {
    reactor: Arc<Reactor>,
    number: u64,
}

impl Interest {
    /// Has `waker` woken once, when `awaited` is ready, or after a while.
    pub(crate) fn new(awaited: Box<dyn Await>, waker: Waker, at_most: Duration) -> Self {
        let reactor = Reactor::of_this_process();
        let number = reactor.add(Task { awaited, waker, due: Instant::now() + at_most });
        Self { reactor, number }
    }

    /// The same for a task that has announced itself, and looked: bells, and their counts from before the announcement.
    pub(crate) fn announced(bells: Vec<(MappedBell, u32)>, waker: Waker, at_most: Duration) -> Self {
        Self::new(Box::new(Announced(bells)), waker, at_most)
    }
}

/// See [`Interest::announced`].
struct Announced(Vec<(MappedBell, u32)>);

impl Await for Announced {
    fn bells(&self, name: &mut dyn FnMut(&MappedBell, &dyn Fn() -> u32)) {
        self.0.iter().for_each(|(bell, count)| name(bell, &|| *count));
    }

    fn is_ready(&self) -> bool {
        self.0.iter().any(|(bell, count)| bell.count() != *count)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        lock(&self.reactor.tasks).waiting.remove(&self.number);
    }
}

/// The helper, and what it waits for.
#[derive(Default)]
struct Reactor {
    /// Rung when the list has become longer.
    changed: LocalBell,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    waiting: BTreeMap<u64, Task>,
    added: u64,
}

struct Task {
    awaited: Box<dyn Await>,
    waker: Waker,
    due: Instant,
}

impl Reactor {
    /// The one of this process; a forked child has its own.
    fn of_this_process() -> Arc<Self> {
        static HERE: Mutex<Option<(ForkMark, Arc<Reactor>)>> = Mutex::new(None);
        let mut here = lock(&HERE);
        match &*here {
            Some((mark, reactor)) if mark.is_here() => Arc::clone(reactor),
            _ => {
                let reactor = Arc::<Self>::default();
                *here = Some((ForkMark::here(), Arc::clone(&reactor)));
                let helper = Arc::clone(&reactor);
                let thread = std::thread::Builder::new().name(THREAD.to_owned());
                thread.spawn(move || helper.run()).expect("a process can start a thread");
                reactor
            }
        }
    }

    fn add(&self, task: Task) -> u64 {
        let mut tasks = lock(&self.tasks);
        tasks.added += 1;
        let number = tasks.added;
        tasks.waiting.insert(number, task);
        drop(tasks);
        self.changed.ring();
        number
    }

    fn run(&self) {
        loop {
            // Read before the list: what is added later has rung since.
            let changed = self.changed.count();
            let mut tasks = lock(&self.tasks);
            let mut bells = BTreeMap::new();
            for Task { awaited, .. } in tasks.waiting.values() {
                awaited.bells(&mut |bell, announce| {
                    bells.entry(bell.as_ptr().addr()).or_insert_with(|| (bell.clone(), announce()));
                });
            }
            // Behind all announcements.
            let now = Instant::now();
            let is_due = |task: &Task| task.awaited.is_ready() || task.due <= now;
            let due: Vec<_> = tasks.waiting.extract_if(.., |_, task| is_due(task)).collect();
            let next_due = tasks.waiting.values().map(|task| task.due).min();
            let at_most = next_due.map_or(NOBODY, |due| due.duration_since(now));
            let at_most = if bells.len() > WAIT_ANY_MAX { at_most.min(TOO_MANY) } else { at_most };
            drop(tasks);
            // Without the lock: a waker may poll at once.
            let any_due = !due.is_empty();
            due.into_iter().for_each(|(_, task)| task.waker.wake());
            if !any_due {
                let bells = bells.values().take(WAIT_ANY_MAX).map(|(bell, count)| (bell, *count));
                wait_any(bells, (&self.changed, changed), at_most);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
