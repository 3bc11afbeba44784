//! `durable`: one producer and a broker that confirms what is on its device; nobody consumes.
//!
//! What always holds:
//!
//! 1. At most a window of messages is published and not confirmed: half a window is published, then the half before it
//!    waited for, so that the broker is never without work. With a window of one every message is waited for by itself.
//! 2. A rate runs from just before the first message is stamped until the last is confirmed. The warm-up before it has been
//!    confirmed in full, so that nothing is on its way when the clock starts.
//! 3. With a window of one each message's time is taken, from before it is stamped until it is known to be confirmed.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{Sender, latencies, monotonic_ns, per_second};
use crate::error::CompareError;
use crate::payload::Payload;
use crate::trial::{Measured, Metric, Trial};

/// How many messages a stream keeps, where it has a limit: older ones may go, so that no trial fills the disk.
pub(crate) const KEPT_MESSAGES: u32 = 65_536;
/// Before the messages that count.
const WARM_UP: Duration = Duration::from_millis(300);

/// A producer whose messages are confirmed.
pub(crate) trait Confirmed: Sender {
    /// Waits until so many of the messages are confirmed. What [`send`](Sender::send) may have gathered is on its way before
    /// it waits.
    fn confirm(&mut self, messages: u64) -> Result<(), CompareError>;
}

/// Runs the one end of a trial with at most `window` messages unconfirmed: the trial's window, or the peer's best if that is
/// smaller.
pub(crate) fn near_end(
    trial: &Trial,
    window: u32,
    mut sender: impl Confirmed,
) -> Result<Measured, CompareError> {
    let window = u64::from(window);
    let half = window.div_ceil(2);
    let mut payload = Payload::new(trial.bytes);
    let mut published = 0;
    let mut publish_for = |time: Duration, latencies: &mut Histogram<u64>| {
        let since = Instant::now();
        while since.elapsed() < time {
            let sent_ns = monotonic_ns();
            for _ in 0..half {
                published += 1;
                payload.stamp(published);
                sender.send(&payload)?;
            }
            sender.confirm(published.saturating_sub(window - half))?;
            latencies.saturating_record(monotonic_ns() - sent_ns);
        }
        sender.confirm(published)?;
        Ok::<_, CompareError>(published)
    };
    let mut times = latencies();
    let warm_up = publish_for(WARM_UP, &mut times)?;
    times.reset();
    let start_ns = monotonic_ns();
    let all = publish_for(Duration::from_secs(trial.seconds.into()), &mut times)?;
    let rate = per_second(all - warm_up, start_ns, monotonic_ns());
    if window > 1 {
        return Ok(vec![
            (Metric::MessagesPerSecond, rate),
            (Metric::BytesPerSecond, rate * trial.bytes as f64),
        ]);
    }
    let at = |part| times.value_at_quantile(part) as f64;
    Ok(vec![(Metric::P50, at(0.5)), (Metric::P99, at(0.99)), (Metric::MessagesPerSecond, rate)])
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::results::tests::trial;
    use crate::trial::Case;

    /// Confirms at once, and counts.
    struct Counting {
        published: Rc<Cell<u64>>,
        confirmed: Rc<Cell<u64>>,
        unconfirmed_max: Rc<Cell<u64>>,
    }

    impl Sender for Counting {
        fn send(&mut self, _payload: &Payload) -> Result<(), CompareError> {
            self.published.set(self.published.get() + 1);
            let unconfirmed = self.published.get() - self.confirmed.get();
            self.unconfirmed_max.set(self.unconfirmed_max.get().max(unconfirmed));
            Ok(())
        }
    }

    impl Confirmed for Counting {
        fn confirm(&mut self, messages: u64) -> Result<(), CompareError> {
            assert!(messages <= self.published.get(), "only what is published can be confirmed");
            self.confirmed.set(messages);
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        }
    }

    #[test]
    fn a_window_is_filled_and_never_exceeded_and_all_is_confirmed_in_the_end() {
        for window in [1, 2, 3, 64] {
            let counts: [Rc<Cell<u64>>; 3] = std::array::from_fn(|_| Rc::default());
            let [published, confirmed, unconfirmed_max] = counts.clone();
            let sender = Counting { published, confirmed, unconfirmed_max };
            let trial = Trial { seconds: 0, ..trial(Case::Durable) };
            let measured = near_end(&trial, window, sender).unwrap();
            let [published, confirmed, unconfirmed_max] = counts.map(|count| count.get());
            assert_eq!((unconfirmed_max, confirmed), (window.into(), published), "a window of {window}");
            let metrics: Vec<Metric> = measured.iter().map(|(metric, _)| *metric).collect();
            if window == 1 {
                assert_eq!(metrics, [Metric::P50, Metric::P99, Metric::MessagesPerSecond]);
            } else {
                assert_eq!(metrics, [Metric::MessagesPerSecond, Metric::BytesPerSecond]);
            }
        }
    }
}
