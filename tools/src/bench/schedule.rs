//! When each message of a producer is due.
//!
//! 1. The schedule is made before the first message, and nothing that happens moves it: who is late sends at once, and what
//!    was due in between counts from when it was due.
//! 2. Producers take turns: together they are evenly spread.

use super::plan::{Amount, Plan};

/// The messages of one producer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Schedule {
    first_ns: f64,
    interval_ns: f64,
    /// When what is due begins to count.
    pub(crate) measured_from_ns: u64,
    /// When it stops to send, whatever is still due; `None`: when it has sent all.
    pub(crate) end_ns: Option<u64>,
    /// Messages, those included that do not count.
    pub(crate) messages: u64,
}

impl Schedule {
    /// Of producer `index`, where the bench begins at `start_ns` and goes at `rate`.
    pub(crate) fn new(plan: &Plan, rate: f64, index: u32, start_ns: u64) -> Self {
        let between_all_ns = 1e9 / rate;
        let interval_ns = between_all_ns * f64::from(plan.producers);
        let first_ns = start_ns as f64 + between_all_ns * f64::from(index);
        let measured_from_ns = start_ns + plan.warm_up_ns;
        let before = |ns: u64| ((ns as f64 - first_ns) / interval_ns).ceil().max(0.0) as u64;
        let (end_ns, messages) = match plan.amount {
            Amount::TimeNs(time) => {
                let end = measured_from_ns.saturating_add(time);
                (Some(end), before(end))
            }
            Amount::Messages(messages) => {
                (None, before(measured_from_ns) + share(messages, index, plan.producers))
            }
        };
        Self { first_ns, interval_ns, measured_from_ns, end_ns, messages }
    }

    /// When message `number` is due.
    pub(crate) fn due_ns(&self, number: u64) -> u64 {
        (self.first_ns + self.interval_ns * number as f64) as u64
    }
}

/// What producer `index` has of `messages`.
pub(crate) fn share(messages: u64, index: u32, producers: u32) -> u64 {
    messages / u64::from(producers) + u64::from(u64::from(index) < messages % u64::from(producers))
}

#[cfg(test)]
mod tests {
    use super::super::plan::Case;
    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn producers_take_turns_and_are_evenly_spread() {
        let two = Plan {
            producers: 2,
            warm_up_ns: 4_000_000,
            amount: Amount::TimeNs(6_000_000),
            ..plan(Case::Latency)
        };
        let schedules = [0, 1].map(|index| Schedule::new(&two, 1000.0, index, 1_000_000));
        let due = |schedule: &Schedule| {
            (0..schedule.messages).map(|number| schedule.due_ns(number)).collect::<Vec<_>>()
        };
        assert_eq!(due(&schedules[0]), [1_000_000, 3_000_000, 5_000_000, 7_000_000, 9_000_000]);
        assert_eq!(due(&schedules[1]), [2_000_000, 4_000_000, 6_000_000, 8_000_000, 10_000_000]);
        assert_eq!((schedules[0].measured_from_ns, schedules[0].end_ns), (5_000_000, Some(11_000_000)));
    }

    #[test]
    fn a_count_is_of_what_is_measured_and_shared_out() {
        let three =
            Plan { producers: 3, warm_up_ns: 6_000_000, amount: Amount::Messages(10), ..plan(Case::Latency) };
        let schedules = [0, 1, 2].map(|index| Schedule::new(&three, 1000.0, index, 0));
        let counted = |schedule: &Schedule| {
            let counts = |number: &u64| schedule.due_ns(*number) >= schedule.measured_from_ns;
            (0..schedule.messages).filter(counts).count()
        };
        assert_eq!([0, 1, 2].map(|index| counted(&schedules[index])), [4, 3, 3]);
        assert_eq!([0, 1, 2].map(|index| share(10, index, 3)), [4, 3, 3]);
    }

    #[test]
    fn the_schedule_does_not_drift_over_an_hour() {
        let schedule = Schedule::new(&plan(Case::Latency), 3_000_000.0, 0, 1 << 50);
        let hour = schedule.due_ns(3_000_000 * 3600) - (1 << 50);
        assert!(hour.abs_diff(3_600_000_000_000) < 1000, "{hour}");
    }
}
