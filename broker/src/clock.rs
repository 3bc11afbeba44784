//! What time it is, for those who act by it: the core itself reads no clock.

use rustix::time::{ClockId, clock_gettime};

use crate::core::lot::Nanos;

/// Nanoseconds of the machine's monotonic clock: the same for every process since the machine was started.
pub(crate) fn monotonic() -> Nanos {
    nanos(ClockId::Monotonic)
}

/// Nanoseconds since 1970-01-01 UTC.
pub(crate) fn wall() -> Nanos {
    nanos(ClockId::Realtime)
}

fn nanos(clock: ClockId) -> Nanos {
    let now = clock_gettime(clock);
    now.tv_sec as Nanos * 1_000_000_000 + now.tv_nsec as Nanos
}
