//! What a run gathered, and its JSON.
//!
//! Always: the JSON's `cases` entries have exactly the keys of [`CaseEntry`], whatever else is added beside them;
//! `consumers`, `producers` and `window` only where the case varies them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use crate::peers::Peer;
use crate::pinning::CpuPair;
use crate::probe::Probes;
use crate::statistics::Summary;
use crate::trial::{Case, Metric, Parties, Trial};

/// One row: what the table and the JSON are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// What was asked.
    pub(crate) case: Case,
    /// How many shared the stream.
    pub(crate) parties: Parties,
    /// The payload size.
    pub(crate) bytes: usize,
    /// The figure.
    pub(crate) metric: Metric,
    /// Who was measured.
    pub(crate) peer: Peer,
    /// Its values over the rounds.
    pub(crate) summary: Summary,
    /// How many of the values are from trials between probes that are far off.
    pub(crate) noisy: usize,
}

/// One trial's value of one metric.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    /// In the metric's unit.
    pub(crate) value: f64,
    /// The probes around the trial.
    pub(crate) probes: Probes,
}

/// What tells one figure from another, in the order of the table.
type Key = (Case, Parties, usize, Metric, Peer);

/// All values of a run.
#[derive(Debug)]
pub(crate) struct Results {
    cpus: CpuPair,
    started: SystemTime,
    /// One value per round, in the order of the table.
    values: BTreeMap<Key, Vec<Value>>,
    /// The probes around each round.
    rounds: Vec<Probes>,
}

impl Results {
    /// Nothing yet, of a run on these CPUs.
    pub(crate) fn new(cpus: CpuPair) -> Self {
        Self { cpus, started: SystemTime::now(), values: BTreeMap::new(), rounds: Vec::new() }
    }

    /// The CPUs of the run.
    pub(crate) fn cpus(&self) -> CpuPair {
        self.cpus
    }

    /// The day on which the run began, in UTC.
    pub(crate) fn date(&self) -> String {
        let time = humantime::format_rfc3339_seconds(self.started).to_string();
        time.split('T').next().unwrap_or_default().to_owned()
    }

    /// Where the run took place.
    pub(crate) fn machine(&self) -> Machine {
        Machine::describe(self.cpus)
    }

    /// Adds one round's value.
    pub(crate) fn add(&mut self, trial: &Trial, metric: Metric, value: Value) {
        let key = (trial.case, trial.parties, trial.bytes, metric, trial.peer);
        self.values.entry(key).or_default().push(value);
    }

    /// Adds the probes around one round.
    pub(crate) fn add_round(&mut self, probes: Probes) {
        self.rounds.push(probes);
    }

    /// The rows, by case, parties, size, metric, and peer.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let median_ns = self.probe_median_ns();
        let row = |(&(case, parties, bytes, metric, peer), values): (&Key, &Vec<Value>)| {
            let noisy = values.iter().filter(|value| value.probes.are_noisy(median_ns)).count();
            let values: Vec<f64> = values.iter().map(|value| value.value).collect();
            Summary::of(&values).map(|summary| Row { case, parties, bytes, metric, peer, summary, noisy })
        };
        self.values.iter().filter_map(row).collect()
    }

    /// The median of all probes of the run, around rounds and trials.
    fn probe_median_ns(&self) -> f64 {
        let of_trials = self.values.values().flatten().map(|value| value.probes);
        let all: Vec<f64> = of_trials
            .chain(self.rounds.iter().copied())
            .flat_map(|probes| [probes.before_ns, probes.after_ns])
            .collect();
        Summary::of(&all).map_or(0.0, |summary| summary.median)
    }

    /// What the probes said.
    pub(crate) fn probe_report(&self) -> ProbeReport {
        let median = self.probe_median_ns();
        let round = |(round, probes): (u32, &Probes)| ProbeRound {
            round,
            before: probes.before_ns,
            after: probes.after_ns,
            noisy: probes.are_noisy(median),
        };
        let rounds: Vec<ProbeRound> = (1..).zip(&self.rounds).map(round).collect();
        let noisy_rounds = rounds.iter().filter(|round| round.noisy).count();
        let trial = |(&(case, parties, bytes, metric, peer), values): (&Key, &Vec<Value>)| ProbeTrials {
            case: case.name(),
            peer: peer.name(),
            bytes,
            several: Several::of(parties),
            metric: metric.name(),
            values: values.iter().map(|value| value.value).collect(),
            before: values.iter().map(|value| value.probes.before_ns).collect(),
            after: values.iter().map(|value| value.probes.after_ns).collect(),
        };
        let trials = self.values.iter().map(trial).collect();
        ProbeReport { unit: "ns", median, noisy_rounds, rounds, trials }
    }

    /// The whole JSON document.
    pub(crate) fn document(&self) -> Document {
        let entry = |row: Row| CaseEntry {
            case: row.case.name(),
            peer: row.peer.name(),
            bytes: row.bytes,
            several: Several::of(row.parties),
            metric: row.metric.name(),
            unit: row.metric.unit(),
            median: row.summary.median,
            min: row.summary.min,
            max: row.summary.max,
            rounds: row.summary.rounds,
        };
        Document {
            cases: self.rows().into_iter().map(entry).collect(),
            probe: self.probe_report(),
            machine: self.machine(),
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

/// How many shared the stream or were unconfirmed, where the case varies how many.
#[derive(Debug, Default, Serialize)]
struct Several {
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    producers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<u32>,
}

impl Several {
    fn of(parties: Parties) -> Self {
        let mut several = Self::default();
        match parties {
            Parties::Pair => {}
            Parties::Consumers(consumers) => several.consumers = Some(consumers),
            Parties::Producers(producers) => several.producers = Some(producers),
            Parties::Window(window) => several.window = Some(window),
        }
        several
    }
}

/// One figure of one peer.
#[derive(Debug, Serialize)]
struct CaseEntry {
    case: &'static str,
    peer: &'static str,
    bytes: usize,
    #[serde(flatten)]
    several: Several,
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
    /// Each figure's values with the probes around their trials, so that a reader can compare within one spell.
    trials: Vec<ProbeTrials>,
}

/// The values behind one figure, in the order of the rounds, with the probes before and after each in nanoseconds.
#[derive(Debug, Serialize)]
struct ProbeTrials {
    case: &'static str,
    peer: &'static str,
    bytes: usize,
    #[serde(flatten)]
    several: Several,
    metric: &'static str,
    values: Vec<f64>,
    before: Vec<f64>,
    after: Vec<f64>,
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
    /// Whether either is far from the run's median.
    pub(crate) noisy: bool,
}

/// Where the run took place; no more than is needed to judge the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// The processor's model, where the system says it.
    pub(crate) processor: Option<String>,
    /// How many CPUs the system sees.
    pub(crate) logical_cpus: Option<usize>,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The near end's CPU.
    pub(crate) near_cpu: usize,
    /// The far end's CPU.
    pub(crate) far_cpu: usize,
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

    /// A trial of the bare ping-pong's, to be changed where it matters.
    pub(crate) fn trial(case: Case) -> Trial {
        Trial {
            peer: Peer::PingPong,
            case,
            parties: Parties::Pair,
            bytes: 64,
            warm_up: 1,
            messages: 1,
            seconds: 1,
            depth: 2,
            waiting: Waiting { caught_up_spins: 2 },
            cpus: CpuPair { near: 0, far: 1 },
            directory: std::env::temp_dir(),
        }
    }

    /// Two peers over three rounds, the last of them noisy.
    pub(crate) fn sample() -> Results {
        let cpus = CpuPair { near: 0, far: 1 };
        let mut results = Results::new(cpus);
        for (peer, values) in [(Peer::Pipe, [30.0, 20.0, 90.0]), (Peer::PingPong, [10.0, 10.0, 10.0])] {
            let trial = Trial { peer, ..trial(Case::OneWay) };
            for value in values {
                let probes = Probes { before_ns: 120.0, after_ns: if value > 50.0 { 500.0 } else { 121.0 } };
                results.add(&trial, Metric::P50, Value { value, probes });
            }
        }
        for (before_ns, after_ns) in [(120.0, 121.0), (119.0, 122.0), (120.0, 500.0)] {
            results.add_round(Probes { before_ns, after_ns });
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
    fn entries_of_cases_with_several_consumers_or_producers_or_a_window_say_how_many() {
        let mut results = sample();
        for (case, parties) in [
            (Case::FanOut, Parties::Consumers(16)),
            (Case::Producers, Parties::Producers(1)),
            (Case::Durable, Parties::Window(1)),
        ] {
            let probes = Probes { before_ns: 120.0, after_ns: 120.0 };
            let trial = Trial { parties, ..trial(case) };
            results.add(&trial, Metric::PublishCost, Value { value: 1.0, probes });
        }
        let json = serde_json::to_value(results.document()).unwrap();
        assert_eq!(json["cases"][2]["consumers"], 16);
        assert_eq!(json["cases"][2].get("producers"), None);
        assert_eq!(json["cases"][3]["producers"], 1);
        assert_eq!((&json["cases"][4]["window"], json["cases"][4].get("producers")), (&1.into(), None));
        assert_eq!(json["probe"]["trials"][2]["consumers"], 16);
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

    #[test]
    fn a_row_counts_its_own_noisy_trials() {
        let rows = sample().rows();
        assert_eq!((rows[0].peer, rows[0].noisy), (Peer::PingPong, 0));
        assert_eq!((rows[1].peer, rows[1].noisy), (Peer::Pipe, 1));
    }
}
