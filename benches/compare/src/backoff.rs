//! How a spinning end waits: one helper, the same for every spinning peer.
//!
//! What always holds:
//!
//! 1. A wait is a run of `spin_loop` hints; every [`SPINS_PER_YIELD`] hints the CPU is offered to others with
//!    `sched_yield`, so that a spinner cannot starve whatever else the machine has to do on few cores.
//! 2. A wait without end becomes an error after [`STALL_LIMIT`]: a lost message must not hang the run.
//!
//! It does not sleep: blocking peers block in the kernel and never come here.

use std::hint::spin_loop;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use crate::error::CompareError;

/// Spin hints between two offers of the CPU.
const SPINS_PER_YIELD: u32 = 32;
/// Offers of the CPU between two looks at the clock.
const YIELDS_PER_CLOCK: u32 = 4096;
/// How long an end may see nothing happen.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(10);

/// The state of one end's wait: [`Backoff::wait`] after each look that found nothing, [`Backoff::reset`] after one
/// that found something.
#[derive(Debug)]
pub(crate) struct Backoff {
    /// Hints in one wait, 1 or more.
    spins_per_wait: u32,
    /// Hints since the last offer of the CPU, below `SPINS_PER_YIELD`.
    spins: u32,
    /// Offers of the CPU since the last look at the clock, below `YIELDS_PER_CLOCK`.
    yields: u32,
    /// When the clock was first looked at in this wait.
    waiting_since: Option<Instant>,
}

impl Backoff {
    /// A back-off that looks again after `spins_per_wait` hints; 0 is taken as 1.
    pub(crate) fn new(spins_per_wait: u32) -> Self {
        Self { spins_per_wait: spins_per_wait.max(1), spins: 0, yields: 0, waiting_since: None }
    }

    /// Waits once before the next look. Fails after [`STALL_LIMIT`] without a [`Backoff::reset`].
    #[inline]
    pub(crate) fn wait(&mut self) -> Result<(), CompareError> {
        for _ in 0..self.spins_per_wait {
            spin_loop();
        }
        self.spins += self.spins_per_wait;
        if self.spins >= SPINS_PER_YIELD {
            self.spins = 0;
            yield_now();
            self.yields += 1;
            if self.yields == YIELDS_PER_CLOCK {
                self.yields = 0;
                return self.look_at_clock();
            }
        }
        Ok(())
    }

    /// Ends a wait: something was found.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.spins = 0;
        self.waiting_since = None;
    }

    #[cold]
    fn look_at_clock(&mut self) -> Result<(), CompareError> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        if since.elapsed() > STALL_LIMIT {
            return Err(CompareError::Stalled { seconds: STALL_LIMIT.as_secs() });
        }
        Ok(())
    }
}
