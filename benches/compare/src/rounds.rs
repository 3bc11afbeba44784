//! The run: rounds that alternate over all peers, each round and each trial between two probes.
//!
//! What always holds:
//!
//! 1. Every round runs every selected trial once, except what is [limited to fewer rounds](Case::rounds_max); the peer that goes first moves on by one each round, so that no
//!    peer always follows the same one.
//! 2. Trials run one at a time, with nothing of the other peers alive.
//! 3. A failed trial ends the run.
//! 4. A peer that is not installed is skipped, with a line that says so; so is `durable` where there is no device.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::Options;
use crate::error::CompareError;
use crate::peers::Peer;
use crate::pinning::{CpuPair, pin_current_thread};
use crate::probe::{self, Probes};
use crate::results::{Results, Value};
use crate::storage;
use crate::trial::{Case, Parties, Trial};

/// Runs the whole comparison; `interrupted` is looked at before each trial.
pub(crate) fn run(options: &Options, interrupted: &AtomicBool) -> Result<Results, CompareError> {
    let cpus = CpuPair::choose(options.cpus.as_deref())?;
    let directory = storage::make_directory(&options.data_directory())?;
    let plan = plan(options, cpus, directory.path())?;
    if plan.iter().all(Vec::is_empty) {
        return Err(CompareError::NothingSelected);
    }
    pin_current_thread(cpus.near)?;
    let mut results = Results::new(cpus);
    for round in 1..=options.rounds {
        run_round(round, &plan, &mut results, interrupted)?;
    }
    Ok(results)
}

fn run_round(
    round: u32,
    plan: &[Vec<Trial>],
    results: &mut Results,
    interrupted: &AtomicBool,
) -> Result<(), CompareError> {
    let cpus = results.cpus();
    let first_ns = probe::round_trip_ns(cpus)?;
    eprintln!("round {round}: probe before {first_ns:.0} ns");
    let mut last_ns = first_ns;
    for trials in plan {
        if trials.first().is_some_and(|trial| round > trial.case.rounds_max()) {
            continue;
        }
        for index in 0..trials.len() {
            if interrupted.load(Ordering::Relaxed) {
                return Err(CompareError::Interrupted);
            }
            let trial = &trials[(index + round as usize - 1) % trials.len()];
            let measured = trial.peer.measure(trial).map_err(|source| CompareError::Trial {
                trial: trial.to_string(),
                source: Box::new(source),
            })?;
            let probes = Probes { before_ns: last_ns, after_ns: probe::round_trip_ns(cpus)? };
            last_ns = probes.after_ns;
            for (metric, value) in measured {
                eprintln!("  {trial} {} {value:.0} (probe after: {last_ns:.0} ns)", metric.name());
                results.add(trial, metric, Value { value, probes });
            }
        }
    }
    eprintln!("round {round}: probe after {last_ns:.0} ns");
    results.add_round(Probes { before_ns: first_ns, after_ns: last_ns });
    Ok(())
}

/// For each case, number of parties, and size the trials of all peers that take part.
fn plan(options: &Options, cpus: CpuPair, directory: &Path) -> Result<Vec<Vec<Trial>>, CompareError> {
    let mut cases = options.cases();
    if cases.contains(&Case::Durable) && storage::is_in_memory(directory)? {
        eprintln!(
            "{} is skipped: {} is in memory, where a sync says nothing; name a directory on a device with --data-dir",
            Case::Durable.name(),
            options.data_directory().display()
        );
        cases.retain(|case| *case != Case::Durable);
    }
    let mut peers = options.peers();
    peers.retain(|peer| cases.iter().any(|case| peer.takes_part_in(*case)));
    let peers = installed(peers);
    let mut plan = Vec::new();
    for case in cases {
        for parties in options.parties(case) {
            for bytes in options.sizes(case) {
                let taking_part = peers.iter().filter(|peer| peer.takes_part_in(case));
                plan.push(
                    taking_part
                        .map(|peer| trial(options, *peer, case, parties, bytes, cpus, directory))
                        .collect(),
                );
            }
        }
    }
    Ok(plan)
}

/// The peers that can take part on this machine; says which cannot.
fn installed(mut peers: Vec<Peer>) -> Vec<Peer> {
    peers.retain(|peer| match peer.missing() {
        None => true,
        Some(advice) => {
            eprintln!("{} is skipped: {advice}", peer.name());
            false
        }
    });
    peers
}

fn trial(
    options: &Options,
    peer: Peer,
    case: Case,
    parties: Parties,
    bytes: usize,
    cpus: CpuPair,
    directory: &Path,
) -> Trial {
    let messages = options.messages(peer, case, bytes);
    Trial {
        peer,
        case,
        parties,
        bytes,
        warm_up: (messages / 10).max(1),
        messages,
        seconds: options.seconds(case),
        depth: options.depth(case),
        waiting: options.waiting(),
        cpus,
        directory: directory.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn durable_is_planned_only_where_there_may_be_a_device() {
        let arguments = ["ringway-compare", "--peers", "device", "--cases", "durable"];
        let options = Cli::parse_from(arguments).options;
        let cpus = CpuPair { near: 0, far: 1 };
        let planned = |directory: &str| plan(&options, cpus, Path::new(directory)).unwrap().concat().len();
        assert_eq!((planned("/proc"), planned("/dev/shm")), (4, 0));
    }
}
