//! How a producer waits for space and a consumer for messages.
//!
//! ```text
//! look, pause ─ 32 times ─▶ idle: yield the processor ─ for the time to spin ─▶ sleep until woken ─▶ look …
//! ```
//!
//! 1. Between two looks lie some tens of nanoseconds: polling without a pause takes the cache line from who is
//!    about to write it, and costs more than it gains.
//! 2. The clock is read at every 32nd look only, so a wait that is short never reads it.
//! 3. No sleep is longer than [`SLEEP_MAX`], and at least that often the broker is looked for, so nobody
//!    waits for ever for one that is gone.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Longest single sleep.
pub(crate) const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Looks between two turns of yielding the processor and reading the clock.
const LOOKS_PER_TURN: u32 = 32;
/// Processor hints between two looks.
const PAUSES: u32 = 2;

/// How a producer or consumer waits.
///
/// ```
/// use std::time::Duration;
/// use ringway_client::WaitStrategy;
///
/// assert_eq!(WaitStrategy::default(), WaitStrategy::Adaptive { spin: Duration::from_micros(20) });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Looks again and again and never sleeps; gives the processor away (`sched_yield`) every 32 looks. Lowest
    /// latency, one processor fully used.
    Spin,
    /// Looks as [`Spin`](Self::Spin) does for a while, then sleeps until woken. A wake-up costs its waker a system
    /// call and the sleeper some microseconds.
    Adaptive {
        /// How long to look before sleeping.
        spin: Duration,
    },
}

impl Default for WaitStrategy {
    /// [`Adaptive`](Self::Adaptive) with 20 µs.
    fn default() -> Self {
        Self::Adaptive { spin: Duration::from_micros(20) }
    }
}

/// When a wait is over. A time too far away to be named is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) const NEVER: Self = Self(None);

    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// The same, counted from the first time that it is asked for.
    pub(crate) fn after_first(asked: &Cell<Option<Self>>, timeout: Duration) -> Self {
        let deadline = asked.get().unwrap_or_else(|| Self::after(timeout));
        asked.set(Some(deadline));
        deadline
    }

    pub(crate) fn is_over(self, now: Instant) -> bool {
        self.0.is_some_and(|end| end <= now)
    }

    /// What is left, but at most `limit`.
    pub(crate) fn left(self, now: Instant, limit: Duration) -> Duration {
        self.0.map_or(limit, |end| end.saturating_duration_since(now).min(limit))
    }
}

/// What to do next while waiting; look again after each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Look,
    /// The processor was given away: time for what can be put off no longer.
    Idle,
    /// Sleep, at most this long.
    Sleep(Duration),
    /// Look whether the broker is still there.
    CheckBroker,
    /// The deadline is over.
    Over,
}

/// One wait.
#[derive(Debug)]
pub(crate) struct Waiter {
    strategy: WaitStrategy,
    deadline: Deadline,
    looks: u32,
    /// When the clock was first read, and when to look for the broker next.
    clock: Option<(Instant, Instant)>,
}

impl Waiter {
    pub(crate) fn new(strategy: WaitStrategy, deadline: Deadline) -> Self {
        Self { strategy, deadline, looks: 0, clock: None }
    }

    /// The step after a look that found nothing.
    pub(crate) fn step(&mut self) -> Step {
        self.step_after(1)
    }

    /// The step after so many looks that found nothing.
    pub(crate) fn step_after(&mut self, looks: u32) -> Step {
        self.looks += looks.max(1);
        if self.looks < LOOKS_PER_TURN {
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
            return Step::Look;
        }
        self.looks = 0;
        self.turn(Instant::now())
    }

    fn turn(&mut self, now: Instant) -> Step {
        if self.deadline.is_over(now) {
            return Step::Over;
        }
        let (started, check_at) = self.clock.get_or_insert_with(|| (now, now + SLEEP_MAX));
        if *check_at <= now {
            *check_at = now + SLEEP_MAX;
            return Step::CheckBroker;
        }
        match self.strategy {
            WaitStrategy::Adaptive { spin } if now.duration_since(*started) >= spin => {
                Step::Sleep(self.deadline.left(now, check_at.duration_since(now)))
            }
            _ => {
                rustix::thread::sched_yield();
                Step::Idle
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAPTIVE: WaitStrategy = WaitStrategy::Adaptive { spin: Duration::from_micros(20) };

    #[test]
    fn a_wait_looks_then_idles_then_sleeps_and_checks_the_broker_every_second() {
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        let mut wait = Waiter::new(ADAPTIVE, Deadline::NEVER);
        for _ in 1..LOOKS_PER_TURN {
            assert_eq!(wait.step(), Step::Look);
        }
        assert_eq!(wait.turn(at(0)), Step::Idle);
        assert_eq!(wait.turn(at(19)), Step::Idle);
        assert_eq!(wait.turn(at(20)), Step::Sleep(Duration::from_micros(999_980)));
        assert_eq!(wait.turn(at(1_000_000)), Step::CheckBroker);
        assert_eq!(wait.turn(at(1_000_001)), Step::Sleep(Duration::from_micros(999_999)));
    }

    #[test]
    fn a_spinning_wait_never_sleeps_and_still_checks_the_broker() {
        let start = Instant::now();
        let mut wait = Waiter::new(WaitStrategy::Spin, Deadline::NEVER);
        assert_eq!(wait.turn(start), Step::Idle);
        assert_eq!(wait.turn(start + Duration::from_millis(999)), Step::Idle);
        assert_eq!(wait.turn(start + SLEEP_MAX), Step::CheckBroker);
    }

    #[test]
    fn a_sleep_ends_with_the_deadline() {
        let start = Instant::now();
        let deadline = Deadline(Some(start + Duration::from_millis(5)));
        let mut wait = Waiter::new(WaitStrategy::Adaptive { spin: Duration::ZERO }, deadline);
        assert_eq!(wait.turn(start), Step::Sleep(Duration::from_millis(5)));
        assert_eq!(wait.turn(start + Duration::from_millis(5)), Step::Over);
    }

    #[test]
    fn a_deadline_beyond_all_time_is_never() {
        assert!(!Deadline::after(Duration::MAX).is_over(Instant::now() + Duration::from_secs(1 << 30)));
    }
}
