//! The page of results: Markdown with all tables, and plots beside it.
//!
//! ```text
//! DIR/RESULTS.md            the page
//! DIR/results/<plot>.svg    what it shows; a plot that the run says nothing about is removed
//! ```
//!
//! What always holds:
//!
//! 1. Everything in it comes from the run: figures, machine, date. It names no path, user, or host of the machine.
//! 2. The tables have the rows of the table for people; ratios are to the same reference.

mod plot;

use std::fmt::Write;
use std::path::Path;

use clap::ValueEnum;

use crate::cli::Options;
use crate::error::CompareError;
use crate::results::{Results, Row};
use crate::table::{figure, ratio_to, reference_for, times};
use crate::trial::{Case, Parties};

const PAGE_FILE: &str = "RESULTS.md";
const PLOTS_DIRECTORY: &str = "results";

/// What the page says about the run beside the results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    depth: usize,
    large_depth: usize,
    steady_seconds: u32,
    durable_seconds: u32,
}

impl Conditions {
    /// As the options have it.
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            depth: options.depth(Case::Throughput),
            large_depth: options.depth(Case::Large),
            steady_seconds: options.seconds(Case::Steady),
            durable_seconds: options.seconds(Case::Durable),
        }
    }
}

/// Writes the page and its plots into `directory`, which is made if it is not there.
pub(crate) fn write(results: &Results, conditions: Conditions, directory: &Path) -> Result<(), CompareError> {
    let plots = directory.join(PLOTS_DIRECTORY);
    std::fs::create_dir_all(&plots)
        .map_err(CompareError::system(format!("make the directory {}", plots.display())))?;
    let rows = results.rows();
    let mut drawn = Vec::new();
    for plot in plot::PLOTS {
        let file = plots.join(plot.file);
        match plot.render(&rows)? {
            Some(svg) => {
                write_file(&file, &svg)?;
                drawn.push(plot);
            }
            None => remove_stale(&file)?,
        }
    }
    write_file(&directory.join(PAGE_FILE), &render(results, &rows, conditions, &drawn))
}

fn write_file(file: &Path, text: &str) -> Result<(), CompareError> {
    std::fs::write(file, text).map_err(CompareError::system(format!("write {}", file.display())))
}

/// Removes what an earlier run drew and this one has no figures for.
fn remove_stale(file: &Path) -> Result<(), CompareError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(CompareError::system(format!("remove {}", file.display()))(error))
        }
        _ => Ok(()),
    }
}

fn render(results: &Results, rows: &[Row], conditions: Conditions, drawn: &[&plot::Plot]) -> String {
    let mut page = String::from("# Ringway beside its peers\n\n");
    page.push_str("Written by `ringway-compare --results`; do not edit, run it again.\n\n");
    page.push_str(&describe_machine(results));
    page.push_str(&describe_method(results, conditions));
    page.push_str(&describe_peers(rows));
    for case in <Case as ValueEnum>::value_variants() {
        let of_case: Vec<&Row> = rows.iter().filter(|row| row.case == *case).collect();
        if of_case.is_empty() {
            continue;
        }
        // Writing into a string cannot fail, here and below.
        let _ = writeln!(page, "## {}\n\n{}.\n", case.name(), help_of(case));
        for plot in drawn.iter().filter(|plot| plot.case == *case) {
            let _ = writeln!(page, "![{}]({PLOTS_DIRECTORY}/{})\n", plot.title, plot.file);
        }
        page.push_str(&table(&of_case, rows));
    }
    page
}

fn describe_machine(results: &Results) -> String {
    let machine = results.machine();
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    format!(
        "| | |\n|---|---|\n| date | {} |\n| processor | {} |\n| logical CPUs | {} |\n| kernel | {} |\n| CPUs used | \
         near end {}, far end {} |\n| probe | {:.0} ns a round trip (median) |\n\n",
        results.date(),
        or_unknown(machine.processor),
        or_unknown(machine.logical_cpus.map(|count| count.to_string())),
        machine.kernel,
        machine.near_cpu,
        machine.far_cpu,
        results.probe_report().median,
    )
}

fn describe_method(results: &Results, conditions: Conditions) -> String {
    let probe = results.probe_report();
    let Conditions { depth, large_depth, steady_seconds, durable_seconds } = conditions;
    format!(
        "All peers run in turn, round after round, {rounds} rounds in one run; the peer that goes first changes each round. \
         The two ends of every trial are bound to the same two CPUs, two processes unless a peer is said to be threads. \
         Every peer moves the same payloads with the same work: each message is written and published by itself, and the \
         consumer reads every word and checks it; a lost, repeated, or torn message ends the run. Rings and queues hold \
         {depth} messages ({large_depth} in large); pipes, sockets, and Aeron outside large have their own \
         defaults, and RabbitMQ a window of its own. Spinning ends of all peers wait with the same back-off; what a peer's own receive call \
         waits beside that is its own: Ringway's lets a producer get some microseconds ahead when it has caught up with a \
         stream. A steady trial takes {steady_seconds} s, a durable one {durable_seconds} s, and both \
         take part in three rounds at most. In durable nobody consumes: the publisher is on the first CPU, the broker or server on \
         the second, their data on one file system, and a window is how many messages may be unconfirmed. A figure is the median over the rounds, with the smallest and the \
         largest; no round is left out. Before and after each trial a bare round trip between the two CPUs is \
         measured; where it was far from its median (twice or half), the trial or round counts as noisy. Noisy rounds: \
         {noisy} of {rounds}. Figures of other runs or machines cannot be compared with these.\n\n\
         A ratio is to the median of ringway, or where that takes no part, of the first of ringway_shared, ping_pong, and \
         ringway_queue that does; for latencies and costs less is better, for rates more.\n\n",
        rounds = probe.rounds.len(),
        noisy = probe.noisy_rounds,
    )
}

fn describe_peers(rows: &[Row]) -> String {
    let mut text = String::from("| peer | |\n|---|---|\n");
    for peer in <crate::peers::Peer as ValueEnum>::value_variants() {
        if rows.iter().any(|row| row.peer == *peer) {
            let _ = writeln!(text, "| {} | {} |", peer.name(), help_of(peer));
        }
    }
    text.push('\n');
    text
}

/// What the command line's help says about a value.
fn help_of(value: &impl ValueEnum) -> String {
    let help = value.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
    help.unwrap_or_default()
}

fn table(of_case: &[&Row], rows: &[Row]) -> String {
    let mut text = String::from(
        "| parties | bytes | metric | peer | median (min–max) | ratio | noisy |\n|---|--:|---|---|--:|--:|--:|\n",
    );
    for row in of_case {
        let reference = reference_for(row, rows);
        let ratio = ratio_to(row, reference).zip(reference);
        let ratio = ratio.map_or_else(
            || "–".to_owned(),
            |(ratio, reference)| format!("{} × {}", times(ratio), reference.peer.name()),
        );
        let parties =
            if row.parties == Parties::Pair { "1 to 1".to_owned() } else { row.parties.to_string() };
        let _ = writeln!(
            text,
            "| {parties} | {} | {} | {} | {} ({}–{}) | {ratio} | {}/{} |",
            row.bytes,
            row.metric.name(),
            row.peer.name(),
            figure(row.summary.median),
            figure(row.summary.min),
            figure(row.summary.max),
            row.noisy,
            row.summary.rounds,
        );
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    const CONDITIONS: Conditions =
        Conditions { depth: 4096, large_depth: 16, steady_seconds: 10, durable_seconds: 2 };

    #[test]
    fn the_page_and_its_plots_are_written_and_a_stale_plot_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let plots = directory.path().join("results");
        std::fs::create_dir(&plots).unwrap();
        std::fs::write(plots.join("fan_out_publish.svg"), "old").unwrap();
        write(&sample(), CONDITIONS, directory.path()).unwrap();
        let page = std::fs::read_to_string(directory.path().join("RESULTS.md")).unwrap();
        assert!(page.contains("](results/one_way_p50.svg)"), "{page}");
        let svg = std::fs::read_to_string(plots.join("one_way_p50.svg")).unwrap();
        assert!(svg.contains("<svg") && svg.contains("ping_pong"), "{svg}");
        assert!(!plots.join("fan_out_publish.svg").exists());
    }

    #[test]
    fn the_page_has_medians_with_extremes_ratios_and_noise() {
        let results = sample();
        let page = render(&results, &results.rows(), CONDITIONS, &[]);
        assert!(
            page.contains("| 1 to 1 | 64 | p50_ns | pipe | 30.0 (20.0–90.0) | 3.00 × ping_pong | 1/3 |"),
            "{page}"
        );
        assert!(page.contains("Noisy rounds: 1 of 3."), "{page}");
        assert!(page.contains("| pipe | A pipe between two processes, blocking |"), "{page}");
    }

    #[test]
    fn the_page_names_neither_host_nor_paths() {
        let results = sample();
        let page = render(&results, &results.rows(), CONDITIONS, &[]);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert!(host.len() < 4 || !page.contains(&host), "{page}");
        for path in ["/home", "/tmp", "/root", "/work", "/dev"] {
            assert!(!page.contains(path), "{path}: {page}");
        }
    }
}
