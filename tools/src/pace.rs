//! So many messages per second.

use std::time::{Duration, Instant};

/// When the next message is due: evenly spread, and made up for when one was late.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    rate: f64,
    messages: f64,
}

impl Pace {
    /// So many per second, from now on.
    pub(crate) fn new(rate: f64) -> Self {
        Self { began: Instant::now(), rate, messages: 0.0 }
    }

    /// When the next one is due.
    pub(crate) fn next(&mut self) -> Instant {
        let due = Duration::try_from_secs_f64(self.messages / self.rate).unwrap_or(Duration::MAX);
        self.messages += 1.0;
        // Later than a clock can say is as good as never.
        self.began.checked_add(due).unwrap_or_else(|| self.began + Duration::from_secs(1 << 32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_spreads_messages_evenly_and_never_overflows() {
        let mut pace = Pace::new(4.0);
        let began = pace.began;
        let due: Vec<_> = (0..3).map(|_| (pace.next() - began).as_millis()).collect();
        assert_eq!(due, [0, 250, 500]);
        let mut slow = Pace::new(1e-300);
        slow.next();
        assert!(slow.next() > began);
    }
}
