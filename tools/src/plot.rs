//! Latencies as a small plot of text: one bar per range of the series 1, 2, 5.

use std::os::fd::AsFd;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::output::thousands;

/// Narrowest plot, in columns.
pub(crate) const WIDTH_MIN: usize = 40;
const WIDTH_MAX: usize = 100;
/// Width where there is no terminal.
const WIDTH_DEFAULT: usize = 80;
/// Columns of `<= 500 us`.
const LABEL_WIDTH: usize = 9;

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Columns of the widest line.
    pub(crate) width: usize,
    /// Whether the terminal shows more than ASCII.
    pub(crate) unicode: bool,
}

impl Style {
    /// JSON always is UTF-8.
    pub(crate) const OF_JSON: Self = Self { width: WIDTH_DEFAULT, unicode: true };

    /// What suits the terminal.
    pub(crate) fn of_terminal() -> Self {
        let columns = rustix::termios::tcgetwinsize(std::io::stdout().as_fd()).map_or(0, |size| size.ws_col);
        let width = if columns == 0 { WIDTH_DEFAULT } else { usize::from(columns) };
        let set = |variable| std::env::var(variable).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        Self { width: width.clamp(WIDTH_MIN, WIDTH_MAX), unicode: is_utf8(&locale) }
    }

    /// A time with three digits and its unit.
    pub(crate) fn time(self, ns: u64) -> String {
        let micro = if self.unicode { "µs" } else { "us" };
        let (value, unit) = match ns {
            0..1_000 => return format!("{ns} ns"),
            1_000..1_000_000 => (ns as f64 / 1e3, micro),
            1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
            _ => (ns as f64 / 1e9, "s"),
        };
        let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        format!("{value:.decimals$} {unit}")
    }

    /// The end of a range, which is a round number: `≤ 500 µs`.
    fn label(self, ns: u64) -> String {
        let micro = if self.unicode { "µs" } else { "us" };
        let (value, unit) = match ns {
            0..1_000 => (ns, "ns"),
            1_000..1_000_000 => (ns / 1_000, micro),
            1_000_000..1_000_000_000 => (ns / 1_000_000, "ms"),
            _ => (ns / 1_000_000_000, "s"),
        };
        format!("{} {value} {unit}", if self.unicode { "≤" } else { "<=" })
    }

    /// A bar of `share` of `columns`: something for everything but nothing.
    pub(crate) fn bar(self, share: f64, columns: usize) -> String {
        const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        if !self.unicode {
            let full = (share * columns as f64).round() as usize;
            return "#".repeat(if share > 0.0 { full.max(1) } else { 0 });
        }
        let eighths = (share * columns as f64 * 8.0).round() as usize;
        let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
        format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
    }
}

fn is_utf8(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// How many messages took up to so long, and longer than the bar before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Bar {
    /// End of the range.
    pub(crate) up_to_ns: u64,
    /// Messages in it.
    pub(crate) messages: u64,
}

/// The bars from the first to the last that is not empty.
pub(crate) fn bars(latencies: &Histogram<u64>) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    for step in latencies.iter_recorded() {
        let (value, messages) = (step.value_iterated_to().max(1), step.count_since_last_iteration());
        // Times are recorded to three digits: the end of a recorded range may lie a little behind a bar's end.
        while bars.last().is_none_or(|bar| bar.up_to_ns < latencies.lowest_equivalent(value)) {
            let up_to_ns = match bars.last() {
                None => round_up(latencies.lowest_equivalent(value)),
                Some(bar) => round_up(bar.up_to_ns + 1),
            };
            bars.push(Bar { up_to_ns, messages: 0 });
        }
        if let Some(bar) = bars.last_mut() {
            bar.messages += messages;
        }
    }
    bars
}

/// The next number of the series 1, 2, 5, 10, …
fn round_up(value: u64) -> u64 {
    let power = 10u64.pow(value.max(1).ilog10());
    [power, 2 * power, 5 * power, 10 * power].into_iter().find(|round| *round >= value).unwrap_or(10 * power)
}

/// Draws the bars, a line each.
pub(crate) fn draw(bars: &[Bar], style: Style) -> String {
    let most = bars.iter().map(|bar| bar.messages).max().unwrap_or(0).max(1);
    let counts: Vec<String> = bars.iter().map(|bar| thousands(bar.messages)).collect();
    let count_width = counts.iter().map(String::len).max().unwrap_or(0);
    // Two blanks in front, one behind the label, one behind the count.
    let columns = style.width.max(WIDTH_MIN).saturating_sub(2 + LABEL_WIDTH + 1 + count_width + 1).max(1);
    let line = |(bar, count): (&Bar, &String)| {
        let label = style.label(bar.up_to_ns);
        let drawn = style.bar(bar.messages as f64 / most as f64, columns);
        format!("{}\n", format!("  {label:>LABEL_WIDTH$} {count:>count_width$} {drawn}").trim_end())
    };
    bars.iter().zip(&counts).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    const ASCII: Style = Style { width: 40, unicode: false };
    const UNICODE: Style = Style { width: 40, unicode: true };

    #[test]
    fn bars_end_at_round_numbers_and_leave_no_gap() {
        let found = bars(&histogram(&[150, 200, 201, 1_500, 2_000_000_000]));
        assert_eq!(found[0], Bar { up_to_ns: 200, messages: 2 });
        assert_eq!(found[1], Bar { up_to_ns: 500, messages: 1 });
        assert_eq!(found[2], Bar { up_to_ns: 1_000, messages: 0 });
        assert_eq!(found[3], Bar { up_to_ns: 2_000, messages: 1 });
        assert_eq!(found.last(), Some(&Bar { up_to_ns: 2_000_000_000, messages: 1 }));
        assert_eq!(found.iter().map(|bar| bar.messages).sum::<u64>(), 5);
        assert!(bars(&histogram(&[])).is_empty());
        assert_eq!(bars(&histogram(&[0])), [Bar { up_to_ns: 1, messages: 1 }]);
    }

    #[test]
    fn every_recorded_value_is_in_a_bar_that_it_fits() {
        for value in (1..60).map(|shift| 3u64.pow(shift % 23) + u64::from(shift)) {
            let found = bars(&histogram(&[value]));
            assert_eq!(found.len(), 1);
            assert!(found[0].up_to_ns >= value / 1000 * 999, "{value}: {found:?}");
        }
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let times = [7, 999, 1_234, 12_345, 123_456, 7_000_000, 3_210_000_000].map(|ns| UNICODE.time(ns));
        assert_eq!(times, ["7 ns", "999 ns", "1.23 µs", "12.3 µs", "123 µs", "7.00 ms", "3.21 s"]);
        assert_eq!(ASCII.time(1_234), "1.23 us");
    }

    #[test]
    fn a_drawing_fits_its_width_and_shows_even_one_of_many() {
        let bars = [Bar { up_to_ns: 200, messages: 1_000_000 }, Bar { up_to_ns: 500_000, messages: 1 }];
        assert_eq!(draw(&bars, ASCII), "  <= 200 ns 1,000,000 ##################\n  <= 500 us         1 #\n");
        for width in [0, 40, 61, 100] {
            let drawn = draw(&bars, Style { width, unicode: true });
            assert!(drawn.lines().all(|line| line.chars().count() <= width.max(WIDTH_MIN)), "{drawn}");
            assert!(drawn.ends_with("1 ▏\n"));
            assert!(drawn.lines().next().is_some_and(|line| line.chars().count() == width.max(WIDTH_MIN)));
        }
    }
}
