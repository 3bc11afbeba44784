//! The probe: how fast the machine is right now, around each trial and so around each round.
//!
//! Always: two threads of this process, one cache line each way with nothing but a number in it, the shared
//! back-off; the figure is the median of the mean round trips of many short batches, so that a single
//! interruption does not move it.
//!
//! What ran between probes that are far off is flagged, not dropped: see [`Probes::are_noisy`]. Virtual machines
//! have spells of both kinds: a neighbour slows the caches down, or the two CPUs become siblings of one core.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::backoff::Backoff;
use crate::error::CompareError;
use crate::pinning::{CpuPair, pin_current_thread};
use crate::statistics::Summary;

const BATCHES: u64 = 50;
const ROUND_TRIPS_PER_BATCH: u64 = 500;
/// A probe this many times the run's median, or this part of it, marks what it surrounds as noisy.
const NOISY_FACTOR: f64 = 2.0;

/// The probes around one trial or one round, in nanoseconds a round trip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Probes {
    /// Just before it.
    pub(crate) before_ns: f64,
    /// Just after it.
    pub(crate) after_ns: f64,
}

impl Probes {
    /// Whether either is far from the median of all probes of the run.
    pub(crate) fn are_noisy(self, median_ns: f64) -> bool {
        let usual = median_ns / NOISY_FACTOR..=median_ns * NOISY_FACTOR;
        !usual.contains(&self.before_ns) || !usual.contains(&self.after_ns)
    }
}

/// Measures a round trip between the two CPUs, in nanoseconds. The calling thread is bound to the near CPU.
pub(crate) fn round_trip_ns(cpus: CpuPair) -> Result<f64, CompareError> {
    let there = CachePadded::new(AtomicU64::new(0));
    let back = CachePadded::new(AtomicU64::new(0));
    let batches = std::thread::scope(|scope| {
        let far = scope.spawn(|| answer(&there, &back, cpus.far));
        let batches = ask(&there, &back);
        let answered = far.join().expect("the answering thread returns its errors");
        answered.and(batches)
    })?;
    Ok(Summary::of(&batches).expect("a probe has batches").median)
}

fn ask(there: &AtomicU64, back: &AtomicU64) -> Result<Vec<f64>, CompareError> {
    let mut batches = Vec::new();
    for batch in 0..BATCHES {
        let start = Instant::now();
        for number in batch * ROUND_TRIPS_PER_BATCH + 1..=(batch + 1) * ROUND_TRIPS_PER_BATCH {
            there.store(number, Ordering::Release);
            wait_for(back, number)?;
        }
        batches.push(start.elapsed().as_nanos() as f64 / ROUND_TRIPS_PER_BATCH as f64);
    }
    Ok(batches)
}

fn answer(there: &AtomicU64, back: &AtomicU64, cpu: usize) -> Result<(), CompareError> {
    pin_current_thread(cpu)?;
    for number in 1..=BATCHES * ROUND_TRIPS_PER_BATCH {
        wait_for(there, number)?;
        back.store(number, Ordering::Release);
    }
    Ok(())
}

fn wait_for(line: &AtomicU64, number: u64) -> Result<(), CompareError> {
    let mut backoff = Backoff::new(1);
    while line.load(Ordering::Acquire) != number {
        backoff.wait()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(before_ns: f64, after_ns: f64) -> Probes {
        Probes { before_ns, after_ns }
    }

    #[test]
    fn either_probe_far_off_is_noisy() {
        assert!(!probes(120.0, 130.0).are_noisy(125.0));
        assert!(probes(120.0, 500.0).are_noisy(125.0));
        assert!(probes(500.0, 120.0).are_noisy(125.0));
        assert!(!probes(250.0, 120.0).are_noisy(125.0));
    }

    #[test]
    fn a_spell_far_too_fast_is_noisy_too() {
        assert!(probes(120.0, 30.0).are_noisy(125.0));
    }
}
