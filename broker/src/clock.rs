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

fn nanos(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
