//! What time it is, for those who act by it: the core itself reads no clock.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the machine's monotonic clock: the same for every process since the machine was started.
pub(crate) fn monotonic() -> u64 {
    nanos(ClockId::Monotonic)
}

/// Nanoseconds since 1970-01-01 UTC.
pub(crate) fn wall() -> u64 {
    nanos(ClockId::Realtime)
}

#[cfg(test)]
pub(crate) use simulated::set;

fn nanos(clock: ClockId) -> u64 {
    #[cfg(test)]
    if let Some(now) = simulated::now(clock) {
        return now;
    }
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A clock that a test sets, in its thread.
#[cfg(test)]
mod simulated {
    use std::cell::Cell;

    use super::ClockId;

    thread_local!(static NOW: Cell<Option<(u64, u64)>> = const { Cell::new(None) });

    /// From now on it is this time in this thread: of the monotonic clock, and since 1970. `None`: what the machine says.
    pub(crate) fn set(now: Option<(u64, u64)>) {
        NOW.set(now);
    }

    pub(super) fn now(clock: ClockId) -> Option<u64> {
        let (monotonic, wall) = NOW.get()?;
        Some(if clock == ClockId::Monotonic { monotonic } else { wall })
    }
}
