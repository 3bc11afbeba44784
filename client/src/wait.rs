//! How a producer waits for space and a consumer for messages.

use std::time::Duration;

/// How a producer or consumer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Looks again and again and never sleeps; gives the processor away (`sched_yield`) every 32 looks. Lowest
    /// latency, one processor fully used.
    Spin,
    /// Looks as [`Spin`](Self::Spin) does for a while, then sleeps until woken.
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
