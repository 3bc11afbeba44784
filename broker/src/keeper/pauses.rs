//! How long to wait before another process is started in place of one that has ended.

use std::time::Duration;

/// A process that lives shorter than this has ended quickly.
const QUICK: Duration = Duration::from_secs(1);
/// So many in a row may end quickly before the next one has to wait.
const QUICK_ENDS: u32 = 3;
/// The shortest and the longest wait.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Counts processes that end quickly, one after another.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    quick_ends: u32,
}

impl Pauses {
    /// One has ended after so long.
    pub(crate) fn after(&mut self, lived: Duration) -> Duration {
        self.quick_ends = if lived < QUICK { self.quick_ends + 1 } else { 0 };
        let more = self.quick_ends.checked_sub(QUICK_ENDS);
        more.map_or(Duration::ZERO, |more| (PAUSE_MIN * 2_u32.pow(more.min(10))).min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_processes_end_quickly_and_only_then() {
        let mut pauses = Pauses::default();
        let ms = |pauses: &mut Pauses| pauses.after(Duration::from_millis(5)).as_millis();
        let seen: Vec<_> = (0..12).map(|_| ms(&mut pauses)).collect();
        assert_eq!(seen, [0, 0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        assert_eq!(pauses.after(QUICK), Duration::ZERO);
        assert_eq!(ms(&mut pauses), 0);
    }
}
