//! Futexes: in mapped regions, of this process alone, and waiting for many at once.
//!
//! 1. A bell counts its rings. A waiter gives the count that it read before it looked for what it waits for; the kernel
//!    compares it under the lock that a waker takes, so that a ring between the two is never slept through.
//! 2. Every wait is bounded, and may end for no reason: the caller looks again.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::futex;
use rustix::time::{ClockId, Timespec};

use super::Bell;
use super::mapped::Region;

/// Most mapped bells that one wait takes, beside the one of this process: the kernel's limit is one more.
pub const WAIT_ANY_MAX: usize = 127;

/// A futex of a mapped region.
#[derive(Clone, Debug)]
pub struct MappedBell {
    word: NonNull<AtomicU32>,
    _region: Arc<Region>,
}

// SAFETY: as for MappedWord.
unsafe impl Send for MappedBell {}
// SAFETY: as for MappedWord.
unsafe impl Sync for MappedBell {}

impl MappedBell {
    /// `word` lies aligned inside the region's mapping.
    pub(super) fn new(word: NonNull<AtomicU32>, region: Arc<Region>) -> Self {
        Self { word, _region: region }
    }

    /// Where it is, for a wait that the kernel does by itself. Valid for as long as this bell, or a clone of it, is there.
    pub fn as_ptr(&self) -> *const u32 {
        self.word().as_ptr()
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: as for MappedWord::deref, checked by Region::bell.
        unsafe { self.word.as_ref() }
    }
}

impl Bell for MappedBell {
    fn count(&self) -> u32 {
        self.word().load(Ordering::Relaxed)
    }

    fn ring(&self) {
        ring(self.word(), futex::Flags::empty());
    }

    fn wait(&self, count: u32, at_most: Duration) {
        wait(self.word(), futex::Flags::empty(), count, at_most);
    }
}

/// A futex of this process.
#[derive(Debug, Default)]
pub struct LocalBell(AtomicU32);

impl Bell for LocalBell {
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn ring(&self) {
        ring(&self.0, futex::Flags::PRIVATE);
    }

    fn wait(&self, count: u32, at_most: Duration) {
        wait(&self.0, futex::Flags::PRIVATE, count, at_most);
    }
}

/// Sleeps until one of the bells was rung since its count was read, or `at_most` is over, or for no reason. Takes at most
/// [`WAIT_ANY_MAX`] mapped bells; panics when there are more.
pub fn wait_any<'a>(
    mapped: impl Iterator<Item = (&'a MappedBell, u32)>,
    local: (&LocalBell, u32),
    at_most: Duration,
) {
    let mapped = mapped.map(|(bell, count)| entry(bell.word(), count, futex::WaitFlags::SIZE_U32));
    let private = futex::WaitFlags::SIZE_U32.union(futex::WaitFlags::PRIVATE);
    let waits: Vec<_> = mapped.chain([entry(&local.0.0, local.1, private)]).collect();
    assert!(waits.len() <= WAIT_ANY_MAX + 1, "{} bells are too many for one wait", waits.len());
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    // Woken, timed out, interrupted or already rung: the caller looks again in each case.
    let _ = futex::waitv(
        &waits,
        futex::WaitvFlags::empty(),
        now.checked_add(timespec(at_most)).as_ref(),
        ClockId::Monotonic,
    );
}

fn entry(word: &AtomicU32, count: u32, flags: futex::WaitFlags) -> futex::Wait {
    let mut wait = futex::Wait::new();
    wait.val = count.into();
    wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
    wait.flags = flags;
    wait
}

fn ring(word: &AtomicU32, flags: futex::Flags) {
    // The kernel orders this store before the wake against a waiter's comparison: both happen under the
    // lock of the futex's hash bucket.
    word.fetch_add(1, Ordering::Release);
    let _ = futex::wake(word, flags, i32::MAX as u32);
}

fn wait(word: &AtomicU32, flags: futex::Flags, count: u32, at_most: Duration) {
    // Woken, timed out, interrupted or already rung: the caller looks again in each case.
    let _ = futex::wait(word, flags, count, Some(&timespec(at_most)));
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_wait_for_many_ends_with_a_ring_of_any_or_with_its_time() {
        let bell = LocalBell::default();
        let count = bell.count();
        let began = Instant::now();
        wait_any(std::iter::empty(), (&bell, count), Duration::from_millis(20));
        assert!(began.elapsed() >= Duration::from_millis(20));
        bell.ring();
        // Rung since the count was read: it returns at once, however long it may wait.
        wait_any(std::iter::empty(), (&bell, count), Duration::from_secs(3600));
    }
}
