//! `producers`: several producers on one stream, each in a thread of the near process, and one consumer.
//!
//! What always holds:
//!
//! 1. The consumer is on the far CPU. The first producer is on the near CPU and the others alternate over both, the far
//!    one first: with two CPUs the second producer shares the consumer's, the third the first producer's, and so on. So
//!    with more than one producer the figure says what sharing the CPUs costs as well as what sharing the stream costs.
//! 2. All producers start at once, with warm caches; each publishes its part of the messages in order, and keeps its
//!    end open until the consumer has everything.

use std::sync::mpsc;

use super::{Sender, monotonic_ns, per_second};
use crate::control::Control;
use crate::error::CompareError;
use crate::payload::{Payload, sequence_of};
use crate::pinning::{CpuPair, pin_current_thread};
use crate::trial::{Measured, Metric, Trial};

/// Runs the near end. `open` opens the producer with a number from 0 on the thread that will use it.
pub(crate) fn near_end<S: Sender>(
    trial: &Trial,
    open: impl Fn(u32) -> Result<S, CompareError> + Sync,
    control: &mut Control,
) -> Result<Measured, CompareError> {
    control.expect_ready()?;
    let open = &open;
    std::thread::scope(|scope| {
        let mut starts = Vec::new();
        let mut threads = Vec::new();
        for number in 0..trial.parties.producers() {
            let (start, started) = mpsc::channel();
            starts.push(start);
            threads.push(scope.spawn(move || {
                pin_current_thread(cpu_of(number, trial.cpus))?;
                publish(trial, number, open(number)?, &started)
            }));
        }
        let measured = control.expect_warm().and_then(|()| {
            let start_ns = monotonic_ns();
            for start in &starts {
                // A thread that is gone has its own reason to report.
                let _ = start.send(());
            }
            let (end_ns, _) = control.expect_finished()?;
            Ok(vec![(Metric::MessagesPerSecond, per_second(trial.messages, start_ns, end_ns))])
        });
        drop(starts);
        for thread in threads {
            thread.join().expect("a producer's thread returns its errors")?;
        }
        measured
    })
}

/// One producer's part: the warm-up, and after the word to start the rest. It ends when there is nobody left to give
/// that word.
fn publish(
    trial: &Trial,
    number: u32,
    mut sender: impl Sender,
    started: &mpsc::Receiver<()>,
) -> Result<(), CompareError> {
    let mut payload = Payload::new(trial.bytes);
    let warm_up = part_of(trial.warm_up, number, trial.parties.producers());
    let messages = part_of(trial.messages, number, trial.parties.producers());
    let mut publish_all = |sequences: std::ops::RangeInclusive<u64>| {
        for sequence in sequences {
            payload.stamp(sequence_of(number, sequence));
            sender.send(&payload)?;
        }
        Ok::<_, CompareError>(())
    };
    publish_all(1..=warm_up)?;
    if started.recv().is_ok() {
        publish_all(warm_up + 1..=warm_up + messages)?;
        // Until the channel closes, after the consumer's last word.
        let _ = started.recv();
    }
    Ok(())
}

/// Where a producer runs: see the module.
fn cpu_of(number: u32, cpus: CpuPair) -> usize {
    if number.is_multiple_of(2) { cpus.near } else { cpus.far }
}

/// The share of `all` that one of `parts` has; the shares add up.
fn part_of(all: u64, number: u32, parts: u32) -> u64 {
    let (number, parts) = (u64::from(number), u64::from(parts));
    all / parts + u64::from(number < all % parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        for all in [1, 7, 8, 100] {
            for parts in [1, 2, 4] {
                assert_eq!((0..parts).map(|number| part_of(all, number, parts)).sum::<u64>(), all);
            }
        }
    }

    #[test]
    fn the_first_producer_is_on_the_near_cpu_and_the_second_on_the_far_one() {
        let cpus = CpuPair { near: 2, far: 5 };
        assert_eq!([0, 1, 2, 3].map(|number| cpu_of(number, cpus)), [2, 5, 2, 5]);
    }
}
