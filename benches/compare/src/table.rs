//! The table for people.
//!
//! Always: the same rows as the JSON; a ratio is to the reference peer's median of the same case,
//! parties, size, and metric.

use std::fmt::Write;

use crate::peers::{Peer, REFERENCES};
use crate::results::{ProbeReport, Results, Row};

const HEADINGS: [&str; 11] =
    ["case", "parties", "bytes", "metric", "peer", "median", "min", "max", "noisy", "ratio", "to"];
/// How many headings, from the left, stand over text; the others stand over figures.
const TEXT_COLUMNS: [usize; 5] = [0, 1, 3, 4, 10];

/// The table with what the probes said below it.
pub(crate) fn render(results: &Results) -> String {
    let rows = results.rows();
    let mut cells = vec![HEADINGS.map(str::to_owned)];
    cells.extend(rows.iter().map(|row| cells_of(row, &rows)));
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| cells.iter().map(|line| line[column].len()).max().unwrap_or_default())
        .collect();
    let mut table = String::new();
    for line in &cells {
        let padded: Vec<String> = (0..HEADINGS.len())
            .map(|column| {
                let (cell, width) = (&line[column], widths[column]);
                if TEXT_COLUMNS.contains(&column) {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        table.push_str(padded.join("  ").trim_end());
        table.push('\n');
    }
    table.push('\n');
    table.push_str(&describe_probe(&results.probe_report()));
    table
}

fn cells_of(row: &Row, rows: &[Row]) -> [String; HEADINGS.len()] {
    let reference = reference_for(row, rows);
    let ratio = ratio_to(row, reference);
    [
        row.case.name().to_owned(),
        row.parties.to_string(),
        row.bytes.to_string(),
        row.metric.name().to_owned(),
        row.peer.name().to_owned(),
        figure(row.summary.median),
        figure(row.summary.min),
        figure(row.summary.max),
        format!("{}/{}", row.noisy, row.summary.rounds),
        ratio.map_or_else(|| "-".to_owned(), times),
        reference.map_or_else(|| "-".to_owned(), |reference| reference.peer.name().to_owned()),
    ]
}

/// How many times the reference's median a row's median is; `None` where that says nothing.
pub(crate) fn ratio_to(row: &Row, reference: Option<&Row>) -> Option<f64> {
    let reference = reference.map(|reference| reference.summary.median).filter(|median| *median > 0.0)?;
    Some(row.summary.median / reference)
}

/// The same figure of the first reference peer that has it.
pub(crate) fn reference_for<'a>(row: &Row, rows: &'a [Row]) -> Option<&'a Row> {
    let of = |peer: &Peer| {
        rows.iter().find(|other| {
            other.peer == *peer
                && other.case == row.case
                && other.parties == row.parties
                && other.bytes == row.bytes
                && other.metric == row.metric
        })
    };
    REFERENCES.iter().find_map(of)
}

/// A ratio as people read it: two decimals, or where these would say little, two digits.
pub(crate) fn times(ratio: f64) -> String {
    if ratio > 0.0 && ratio < 0.1 {
        let zeros = (-ratio.log10()).floor() as usize;
        return format!("{ratio:.*}", zeros + 2);
    }
    format!("{ratio:.2}")
}

/// A figure as people read it: one decimal below a thousand, thousands apart above.
pub(crate) fn figure(value: f64) -> String {
    if value < 1000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn describe_probe(probe: &ProbeReport) -> String {
    let mut text = format!("probe: median {:.0} ns a round trip;", probe.median);
    for round in &probe.rounds {
        let flag = if round.noisy { " noisy" } else { "" };
        // Writing into a string cannot fail.
        let _ = write!(text, " {}: {:.0}/{:.0}{flag}", round.round, round.before, round.after);
    }
    let _ = writeln!(
        text,
        "\nnoisy rounds: {} of {}; the column counts noisy trials (all count in the figures; run again if many)",
        probe.noisy_rounds,
        probe.rounds.len()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn a_row_shows_its_ratio_to_the_reference() {
        let table = render(&sample());
        let pipe = table.lines().find(|line| line.contains("pipe")).unwrap();
        let cells: Vec<&str> = pipe.split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "one_way",
                "1",
                "to",
                "1",
                "64",
                "p50_ns",
                "pipe",
                "30.0",
                "20.0",
                "90.0",
                "1/3",
                "3.00",
                "ping_pong"
            ]
        );
    }

    #[test]
    fn noisy_rounds_are_named() {
        let table = render(&sample());
        assert!(table.contains("3: 120/500 noisy"), "{table}");
        assert!(table.contains("noisy rounds: 1 of 3"), "{table}");
    }

    #[test]
    fn a_small_ratio_keeps_two_digits() {
        assert_eq!(
            [0.0, 0.003_147, 0.0512, 0.514, 12.0].map(times),
            ["0.00", "0.0031", "0.051", "0.51", "12.00"]
        );
    }

    #[test]
    fn large_figures_are_grouped() {
        assert_eq!(figure(999.94), "999.9");
        assert_eq!(figure(1000.0), "1,000");
        assert_eq!(figure(12_345_678.4), "12,345,678");
    }
}
