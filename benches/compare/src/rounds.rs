//! The run: rounds that alternate over all peers, each between two probes.
//!
//! What always holds:
//!
//! 1. Every round runs every selected trial once; the peer that goes first moves on by one each round, so that no
//!    peer always follows the same one.
//! 2. Trials run one at a time, with nothing of the other peers alive.
//! 3. A failed trial ends the run.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::Options;
use crate::error::CompareError;
use crate::pinning::{CpuPair, pin_current_thread};
use crate::probe;
use crate::results::Results;
use crate::trial::Trial;

/// Runs the whole comparison; `interrupted` is looked at before each trial.
pub(crate) fn run(options: &Options, interrupted: &AtomicBool) -> Result<Results, CompareError> {
    let cpus = CpuPair::choose(options.cpus.as_deref())?;
    let plan = plan(options, cpus);
    if plan.iter().all(Vec::is_empty) {
        return Err(CompareError::NothingSelected);
    }
    pin_current_thread(cpus.near)?;
    let mut results = Results::new(cpus);
    for round in 1..=options.rounds as usize {
        let before_ns = probe::round_trip_ns(cpus)?;
        eprintln!("round {round} of {}: probe before {before_ns:.0} ns", options.rounds);
        for trials in &plan {
            for index in 0..trials.len() {
                if interrupted.load(Ordering::Relaxed) {
                    return Err(CompareError::Interrupted);
                }
                run_trial(&trials[(index + round - 1) % trials.len()], &mut results)?;
            }
        }
        let after_ns = probe::round_trip_ns(cpus)?;
        eprintln!("round {round} of {}: probe after {after_ns:.0} ns", options.rounds);
        results.add_probe(before_ns, after_ns);
    }
    Ok(results)
}

fn run_trial(trial: &Trial, results: &mut Results) -> Result<(), CompareError> {
    let measured = trial
        .peer
        .measure(trial)
        .map_err(|source| CompareError::Trial { trial: trial.to_string(), source: Box::new(source) })?;
    for (metric, value) in measured {
        eprintln!("  {trial} {} {value:.0}", metric.name());
        results.add(trial, metric, value);
    }
    Ok(())
}

/// For each case and size the trials of all peers that take part.
fn plan(options: &Options, cpus: CpuPair) -> Vec<Vec<Trial>> {
    let peers = options.peers();
    let mut plan = Vec::new();
    for case in options.cases() {
        for bytes in options.sizes() {
            let taking_part = peers.iter().filter(|peer| peer.takes_part_in(case));
            let trial = |peer: &_| {
                let messages = options.messages(*peer, case);
                Trial {
                    peer: *peer,
                    case,
                    bytes,
                    warm_up: (messages / 10).max(1),
                    messages,
                    depth: options.depth,
                    waiting: options.waiting(),
                    cpus,
                }
            };
            plan.push(taking_part.map(trial).collect());
        }
    }
    plan
}
