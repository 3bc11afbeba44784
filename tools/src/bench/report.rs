//! What a bench shows: a table, one JSON object with the same in it, a file for the tools of HdrHistogram.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use serde::Serialize;

use super::plan::{Case, Plan, cores};
use super::roles::{Received, Sent, histogram};
use crate::exit::Failure;
use crate::output::{count, table, thousands};
use crate::plot::{self, Style};

/// A rate is said not to be reached when less than this share of it is.
const REACHED: f64 = 0.99;
/// Consumers were asleep if they slept for at least this share of the messages.
const ASLEEP: f64 = 0.95;

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    plan: Plan,
    directory: PathBuf,
    own_broker: bool,
    cores: usize,
    sent: u64,
    /// Messages that were due and could not be sent in time.
    unsent: u64,
    all: Figures,
    per_consumer: Vec<Figures>,
    notes: Vec<String>,
    #[serde(skip)]
    latencies: Histogram<u64>,
}

/// What was measured at a consumer, or at all of them.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Messages that count.
    messages: u64,
    messages_per_second: f64,
    bytes_per_second: f64,
    /// How often a consumer slept, for each message that it received.
    sleeps_per_message: f64,
    /// `None` without a rate.
    latency: Option<Latency>,
}

/// In nanoseconds, from when a message was due.
#[derive(Clone, Copy, Debug, Serialize)]
struct Latency {
    mean_ns: f64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
}

impl Figures {
    fn new(plan: &Plan, received: &[&Received], latencies: &Histogram<u64>) -> Self {
        let all: u64 = received.iter().map(|one| one.messages).sum();
        let messages: u64 = received.iter().map(|one| one.measured).sum();
        let came = received.iter().filter(|one| one.measured > 0);
        let first_ns = came.clone().map(|one| one.first_ns).min().unwrap_or(0);
        let time = came.map(|one| one.last_ns).max().unwrap_or(0).saturating_sub(first_ns) as f64 / 1e9;
        // The first of each is the beginning of the time.
        let intervals = messages.saturating_sub(received.len() as u64);
        let rate = if time > 0.0 { intervals as f64 / time } else { 0.0 };
        Self {
            messages,
            messages_per_second: rate,
            bytes_per_second: rate * plan.payload_bytes as f64,
            sleeps_per_message: received.iter().map(|one| one.sleeps).sum::<u64>() as f64 / all.max(1) as f64,
            latency: plan.rate.map(|_| Latency {
                mean_ns: latencies.mean(),
                p50_ns: latencies.value_at_quantile(0.5),
                p90_ns: latencies.value_at_quantile(0.9),
                p99_ns: latencies.value_at_quantile(0.99),
                p999_ns: latencies.value_at_quantile(0.999),
                max_ns: latencies.max(),
            }),
        }
    }
}

impl Report {
    /// Fails if a message is missing, or somebody has failed.
    pub(crate) fn new(
        plan: Plan,
        (directory, own_broker): (&Path, bool),
        sent: &[Sent],
        received: &[Received],
    ) -> Result<Self, Failure> {
        let all_sent = sent.iter().map(|sent| sent.messages).sum();
        check(&plan, all_sent, sent, received)?;
        let mut latencies = histogram()?;
        let mut per_consumer = Vec::new();
        for one in received {
            let mut own = histogram()?;
            for (latency, times) in &one.latencies {
                own.saturating_record_n(*latency, *times);
            }
            latencies.add(&own).map_err(|error| Failure::new(format!("cannot add histograms: {error}")))?;
            per_consumer.push(Figures::new(&plan, &[one], &own));
        }
        let all = Figures::new(&plan, &received.iter().collect::<Vec<_>>(), &latencies);
        let unsent = sent.iter().map(|sent| sent.unsent).sum();
        if all.messages == 0 {
            let reason = match unsent {
                0 => "nothing was due: give it more --time, or a higher --rate",
                _ => "it never caught up with what was due before: lower --rate, or less --warm-up",
            };
            return Err(Failure::new(format!("no message came of those that count: {reason}")));
        }
        let notes = notes(&plan, &all, unsent);
        let directory = directory.to_owned();
        Ok(Self {
            plan,
            directory,
            own_broker,
            cores: cores(),
            sent: all_sent,
            unsent,
            all,
            per_consumer,
            notes,
            latencies,
        })
    }

    /// For people.
    pub(crate) fn text(&self, style: Style) -> String {
        let Plan { case, payload_bytes, rate, producers, consumers, wait, durability, warm_up_ns, .. } =
            &self.plan;
        let pace = rate.map_or_else(|| "as fast as it goes".to_owned(), |rate| format!("{rate} messages/s"));
        let mut text = format!(
            "{}: {} to {}, {} bytes, {pace}, wait {}, durability {}, after {:?} of warm-up\n\
             at {} broker in {}, with {}\n\n",
            case.name(),
            count((*producers).into(), "producer"),
            count((*consumers).into(), "consumer"),
            thousands(*payload_bytes as u64),
            format!("{wait:?}").to_lowercase(),
            durability.name(),
            Duration::from_nanos(*warm_up_ns),
            if self.own_broker { "a" } else { "the" },
            self.directory.display(),
            count(self.cores as u64, "core"),
        );
        let mut rows: Vec<_> = self
            .per_consumer
            .iter()
            .enumerate()
            .map(|(index, figures)| figures.row(&format!("consumer {}", index + 1), style))
            .collect();
        if rows.len() > 1 {
            rows.push(self.all.row("all", style));
        }
        let heads = ["", ">MESSAGES", ">PER SECOND", ">MIB/S", ">P50", ">P90", ">P99", ">P99.9", ">MAX"];
        let shown = if self.all.latency.is_some() { heads.len() } else { heads.len() - 5 };
        text.push_str(&table(&heads[..shown], &rows));
        if *case == Case::Wake {
            let sleeps = self.all.sleeps_per_message * 100.0;
            text.push_str(&format!("\nsleeps for 100 messages: {sleeps:.1}\n"));
        }
        if self.all.latency.is_some() {
            text.push_str(&format!(
                "\nfrom when each message was due:\n{}",
                plot::draw(&plot::bars(&self.latencies), style)
            ));
        }
        self.notes.iter().for_each(|note| text.push_str(&format!("\nnote: {note}\n")));
        text
    }
}

impl Figures {
    fn row(&self, name: &str, style: Style) -> Vec<String> {
        let mut row = vec![
            name.to_owned(),
            thousands(self.messages),
            thousands(self.messages_per_second.round() as u64),
            format!("{:.1}", self.bytes_per_second / f64::from(1 << 20)),
        ];
        if let Some(latency) = self.latency {
            let Latency { p50_ns, p90_ns, p99_ns, p999_ns, max_ns, .. } = latency;
            row.extend([p50_ns, p90_ns, p99_ns, p999_ns, max_ns].map(|ns| style.time(ns)));
        }
        row
    }
}

fn check(plan: &Plan, all_sent: u64, sent: &[Sent], received: &[Received]) -> Result<(), Failure> {
    let of_producers =
        sent.iter().map(|one| one.failure.as_ref()).enumerate().map(|(at, why)| ("producer", at, why));
    let of_consumers =
        received.iter().map(|one| one.failure.as_ref()).enumerate().map(|(at, why)| ("consumer", at, why));
    if let Some((kind, at, Some(why))) = of_producers.chain(of_consumers).find(|(_, _, why)| why.is_some()) {
        return Err(Failure::new(format!("{kind} {}: {why}", at + 1)));
    }
    let came: u64 = received.iter().map(|one| one.messages).sum();
    let expected = if plan.case == Case::Queue { all_sent } else { all_sent * received.len() as u64 };
    if came == expected {
        return Ok(());
    }
    let (came, expected) = (thousands(came), count(expected, "message"));
    Err(Failure::new(format!("{came} of {expected} came: there are no figures")))
}

fn notes(plan: &Plan, all: &Figures, unsent: u64) -> Vec<String> {
    let mut notes: Vec<String> = plan.too_few_cores(cores()).into_iter().collect();
    let copies = if plan.case == Case::Queue { 1.0 } else { f64::from(plan.consumers) };
    let reached = all.messages_per_second / copies;
    if unsent > 0 {
        notes.push(format!(
            "{} more were due in time and could not be sent: this rate is more than it takes, and they would have waited longest",
            thousands(unsent)
        ));
    } else if let Some(rate) = plan.rate.filter(|rate| all.messages > 100 && reached < rate * REACHED) {
        notes.push(format!("{} messages/s of {rate} were reached", thousands(reached.round() as u64)));
    }
    if plan.case == Case::Wake && all.sleeps_per_message < ASLEEP {
        let share = all.sleeps_per_message * 100.0;
        notes.push(format!("consumers slept for {share:.1} % of the messages only: others came while they were awake; lower --rate"));
    }
    notes
}

/// A file for latencies.
pub(crate) struct HdrFile {
    path: PathBuf,
    file: File,
}

impl HdrFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| Self::failed(path, &error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn failed(path: &Path, error: &dyn std::fmt::Display) -> Failure {
        Failure::new(format!("cannot write {}: {error}", path.display()))
    }

    pub(crate) fn write(self, report: &Report) -> Result<(), Failure> {
        let mut file = BufWriter::new(&self.file);
        let is_text = self.path.extension().is_some_and(|extension| extension == "hgrm");
        let written = if is_text {
            write_percentiles(&mut file, &report.latencies)
        } else {
            write_log(&mut file, report)
        };
        written.and_then(|()| file.flush()).map_err(|error| Self::failed(&self.path, &error))
    }
}

fn write_log(file: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let case = report.plan.case.name();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("ringway bench {case}, nanoseconds from when each message was due"))
        .with_start_time(SystemTime::now())
        .with_max_value_divisor(1e6)
        .begin_log_with(file, &mut serializer)?;
    let time = report.all.messages as f64 / report.all.messages_per_second.max(1.0);
    let written = log.write_histogram(&report.latencies, Duration::ZERO, Duration::from_secs_f64(time), None);
    written.map_err(|error| io::Error::other(error.to_string()))
}

/// As the plotter of HdrHistogram reads it.
fn write_percentiles(file: &mut impl Write, latencies: &Histogram<u64>) -> io::Result<()> {
    writeln!(file, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut total = 0;
    for step in latencies.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to(), step.quantile_iterated_to());
        let inverse = if quantile < 1.0 {
            format!("{:>14.2}", 1.0 / (1.0 - quantile))
        } else {
            format!("{:>14}", "inf")
        };
        writeln!(file, "{value:>12.3} {quantile:>14.12} {total:>10} {inverse}")?;
    }
    let (mean, deviation) = (latencies.mean(), latencies.stdev());
    writeln!(file, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
    writeln!(file, "#[Max     = {:>12.3}, Total count    = {:>12}]", latencies.max(), latencies.len())?;
    writeln!(
        file,
        "#[Buckets = {:>12}, SubBuckets     = {:>12}]",
        latencies.buckets(),
        latencies.distinct_values()
    )
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    fn sent(messages: u64) -> [Sent; 1] {
        [Sent { messages, ..Sent::default() }]
    }

    fn received(measured: u64) -> Received {
        let latencies = vec![(1_000, measured - 1), (90_000, 1)];
        Received {
            messages: measured + 1,
            measured,
            first_ns: 0,
            last_ns: 1_000_000_000,
            sleeps: 5,
            latencies,
            failure: None,
        }
    }

    fn report(plan: Plan, sent: &[Sent], received: &[Received]) -> Result<Report, Failure> {
        Report::new(plan, (Path::new("/d"), true), sent, received)
    }

    const ASCII: Style = Style { width: 60, unicode: false };

    #[test]
    fn figures_are_of_what_was_measured() {
        let report = report(plan(Case::Latency), &sent(1001), &[received(1000)]).unwrap();
        let text = report.text(ASCII);
        assert!(
            text.starts_with(
                "latency: 1 producer to 1 consumer, 64 bytes, 1000 messages/s, wait spin, durability memory"
            ),
            "{text}"
        );
        let row = text.lines().find(|line| line.starts_with("consumer 1")).unwrap();
        let cells: Vec<_> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(
            cells,
            ["consumer 1", "1,000", "999", "0.1", "1.00 us", "1.00 us", "1.00 us", "1.00 us", "90.0 us"]
        );
        assert!(!text.contains("\nall "));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["case"], &json["all"]["latency"]["p50_ns"]), (&"latency".into(), &1000.into()));
    }

    #[test]
    fn a_message_that_is_missing_or_a_role_that_failed_gives_no_figures() {
        let failed = |sent: &[Sent], received: &[Received]| match report(plan(Case::Latency), sent, received)
        {
            Err(Failure::Failed { message, .. }) => message,
            other => panic!("{other:?}"),
        };
        assert!(failed(&sent(1002), &[received(1000)]).contains("1,001 of 1,002 messages came"));
        let broken = Received { failure: Some("so it is".into()), ..received(1000) };
        assert_eq!(failed(&sent(1001), &[broken]), "consumer 1: so it is");
        let none = Received { messages: 3, ..Received::default() };
        assert!(failed(&sent(3), &[none]).contains("--time"));
    }

    #[test]
    fn what_was_asked_for_and_not_reached_is_said() {
        let late = [Sent { messages: 1001, unsent: 77, failure: None }];
        let notes =
            |plan: Plan, sent: &[Sent]| report(plan, sent, &[received(1000)]).unwrap().notes.join("\n");
        assert!(notes(plan(Case::Latency), &late).contains("77 more were due in time"));
        assert!(
            notes(Plan { rate: Some(5000.0), ..plan(Case::Latency) }, &sent(1001))
                .contains("999 messages/s of 5000")
        );
        assert!(notes(plan(Case::Wake), &sent(1001)).contains("slept for 0.5 %"));
    }

    #[test]
    fn files_are_in_the_formats_of_hdr_histogram() {
        let place = tempfile::tempdir().unwrap();
        let report = report(plan(Case::Latency), &sent(1001), &[received(1000)]).unwrap();
        let written = |name: &str| {
            let path = place.path().join(name);
            HdrFile::create(&path).unwrap().write(&report).unwrap();
            std::fs::read_to_string(path).unwrap()
        };
        let percentiles = written("x.hgrm");
        assert!(percentiles.contains("       Value     Percentile TotalCount 1/(1-Percentile)"));
        assert!(percentiles.contains("1.000000000000       1000            inf"), "{percentiles}");
        let log = written("x.hlog");
        let mut entries = hdrhistogram::serialization::interval_log::IntervalLogIterator::new(log.as_bytes());
        let histograms = entries.by_ref().filter(|entry| {
            matches!(entry, Ok(hdrhistogram::serialization::interval_log::LogEntry::Interval(_)))
        });
        assert_eq!(histograms.count(), 1, "{log}");
        assert!(HdrFile::create(Path::new("/nonexistent/x")).is_err());
    }
}
