//! What a run gathered, and its JSON.
//!
//! Always: the JSON's `cases` entries have exactly the keys of [`CaseEntry`], whatever else is added beside them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::peers::Peer;
use crate::pinning::CpuPair;
use crate::probe;
use crate::statistics::Summary;
use crate::trial::{Case, Metric, Trial};

/// One row: what the table and the JSON are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// What was asked.
    pub(crate) case: Case,
    /// The payload size.
    pub(crate) bytes: usize,
    /// The figure.
    pub(crate) metric: Metric,
    /// Who was measured.
    pub(crate) peer: Peer,
    /// Its values over the rounds.
    pub(crate) summary: Summary,
}

/// All values of a run.
#[derive(Debug)]
pub(crate) struct Results {
    cpus: CpuPair,
    /// One value per round, in the order of the table.
    values: BTreeMap<(Case, usize, Metric, Peer), Vec<f64>>,
    /// The probe before and after each round, in nanoseconds.
    probes: Vec<(f64, f64)>,
}

impl Results {
    /// Nothing yet, of a run on these CPUs.
    pub(crate) fn new(cpus: CpuPair) -> Self {
        Self { cpus, values: BTreeMap::new(), probes: Vec::new() }
    }

    /// Adds one round's value.
    pub(crate) fn add(&mut self, trial: &Trial, metric: Metric, value: f64) {
        self.values.entry((trial.case, trial.bytes, metric, trial.peer)).or_default().push(value);
    }

    /// Adds the probes around one round.
    pub(crate) fn add_probe(&mut self, before_ns: f64, after_ns: f64) {
        self.probes.push((before_ns, after_ns));
    }

    /// The rows, by case, size, metric, and peer.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        self.values.iter().filter_map(|(&(case, bytes, metric, peer), values)| {
            Summary::of(values).map(|summary| Row { case, bytes, metric, peer, summary })
        })
    }

    /// What the probes said.
    pub(crate) fn probe_report(&self) -> ProbeReport {
        let all: Vec<f64> = self.probes.iter().flat_map(|(before, after)| [*before, *after]).collect();
        let median = Summary::of(&all).map_or(0.0, |summary| summary.median);
        let rounds: Vec<ProbeRound> = (1..)
            .zip(&self.probes)
            .map(|(round, &(before, after))| ProbeRound {
                round,
                before,
                after,
                noisy: probe::is_noisy(before, after, median),
            })
            .collect();
        let noisy_rounds = rounds.iter().filter(|round| round.noisy).count();
        ProbeReport { unit: "ns", median, noisy_rounds, rounds }
    }

    /// The whole JSON document.
    pub(crate) fn document(&self) -> Document {
        let entry = |row: Row| CaseEntry {
            case: row.case.name(),
            peer: row.peer.name(),
            bytes: row.bytes,
            metric: row.metric.name(),
            unit: row.metric.unit(),
            median: row.summary.median,
            min: row.summary.min,
            max: row.summary.max,
            rounds: row.summary.rounds,
        };
        Document {
            cases: self.rows().map(entry).collect(),
            probe: self.probe_report(),
            machine: Machine::describe(self.cpus),
        }
    }
}

/// The JSON document.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    cases: Vec<CaseEntry>,
    probe: ProbeReport,
    machine: Machine,
}

/// One figure of one peer.
#[derive(Debug, Serialize)]
struct CaseEntry {
    case: &'static str,
    peer: &'static str,
    bytes: usize,
    metric: &'static str,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    /// How many rounds gave a value.
    rounds: usize,
}

/// What the probes said over the run.
#[derive(Debug, Serialize)]
pub(crate) struct ProbeReport {
    unit: &'static str,
    /// Over all probes of the run.
    pub(crate) median: f64,
    /// How many of the rounds are flagged.
    pub(crate) noisy_rounds: usize,
    /// Each round's probes.
    pub(crate) rounds: Vec<ProbeRound>,
}

/// The probes around one round.
#[derive(Debug, Serialize)]
pub(crate) struct ProbeRound {
    /// From 1.
    pub(crate) round: u32,
    /// In nanoseconds.
    pub(crate) before: f64,
    /// In nanoseconds.
    pub(crate) after: f64,
    /// Whether either is far above the run's median.
    pub(crate) noisy: bool,
}

/// Where the run took place; no more than is needed to judge the figures.
#[derive(Debug, Serialize)]
struct Machine {
    processor: Option<String>,
    logical_cpus: Option<usize>,
    kernel: String,
    near_cpu: usize,
    far_cpu: usize,
}

impl Machine {
    fn describe(cpus: CpuPair) -> Self {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: model.map(|(_, name)| name.trim().to_owned()),
            logical_cpus: match cpu_info.lines().filter(|line| line.starts_with("processor")).count() {
                0 => None,
                count => Some(count),
            },
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            near_cpu: cpus.near,
            far_cpu: cpus.far,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::trial::Waiting;

    /// Two peers over three rounds, the last of them noisy.
    pub(crate) fn sample() -> Results {
        let cpus = CpuPair { near: 0, far: 1 };
        let mut results = Results::new(cpus);
        for (peer, values) in [(Peer::Pipe, [30.0, 20.0, 90.0]), (Peer::PingPong, [10.0, 10.0, 10.0])] {
            let waiting = Waiting { caught_up_spins: 2 };
            let case = Case::OneWay;
            let trial = Trial { peer, case, bytes: 64, warm_up: 1, messages: 1, depth: 2, waiting, cpus };
            for value in values {
                results.add(&trial, Metric::P50, value);
            }
        }
        for (before, after) in [(120.0, 121.0), (119.0, 122.0), (120.0, 500.0)] {
            results.add_probe(before, after);
        }
        results
    }

    #[test]
    fn case_entries_have_exactly_the_agreed_keys() {
        let json = serde_json::to_value(sample().document()).unwrap();
        let cases = json["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 2);
        for entry in cases {
            let mut keys: Vec<&str> = entry.as_object().unwrap().keys().map(String::as_str).collect();
            keys.sort_unstable();
            let agreed = ["bytes", "case", "max", "median", "metric", "min", "peer", "rounds", "unit"];
            assert_eq!(keys, agreed);
        }
    }

    #[test]
    fn case_entries_carry_the_summary_in_the_order_of_the_table() {
        let json = serde_json::to_value(sample().document()).unwrap();
        let expected = serde_json::json!({
            "case": "one_way", "peer": "pipe", "bytes": 64, "metric": "p50_ns", "unit": "ns",
            "median": 30.0, "min": 20.0, "max": 90.0, "rounds": 3,
        });
        assert_eq!(json["cases"][0]["peer"], "ping_pong");
        assert_eq!(json["cases"][1], expected);
    }

    #[test]
    fn noisy_rounds_are_flagged_and_counted() {
        let json = serde_json::to_value(sample().document()).unwrap();
        assert_eq!(json["probe"]["noisy_rounds"], 1);
        assert_eq!(json["probe"]["rounds"][2]["noisy"], true);
        assert_eq!(json["probe"]["rounds"][0]["noisy"], false);
    }
}
