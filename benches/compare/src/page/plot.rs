//! The plots of the page: one line per peer, both axes logarithmic.
//!
//! Always: a point is a median, the bar through it goes from the smallest value to the largest. A peer has the same color
//! in every plot. A plot needs no font: its text is text.

use std::collections::BTreeMap;

use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::prelude::{
    ChartBuilder, Circle, Color, IntoDrawingArea, LineSeries, LogCoord, PathElement, RGBColor, SVGBackend,
    SeriesLabelPosition, WHITE,
};
use plotters::style::BLACK;

use crate::error::CompareError;
use crate::peers::Peer;
use crate::results::Row;
use crate::table::figure;
use crate::trial::{Case, Metric};

const SIZE_PIXELS: (u32, u32) = (860, 520);
/// The part of the points' extent, on the logarithmic axis, that is left free for the legend behind them.
const LEGEND_PART: f64 = 0.4;

/// What a plot goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Along {
    /// The payload size in bytes.
    Bytes,
    /// How many consumers there are.
    Consumers,
}

impl Along {
    fn label(self, at: f64) -> String {
        const KIB: f64 = 1024.0;
        match self {
            Self::Consumers => format!("{at:.0}"),
            Self::Bytes if at < KIB => format!("{at:.0} B"),
            Self::Bytes if at < KIB * KIB => format!("{} KiB", at / KIB),
            Self::Bytes => format!("{} MiB", at / (KIB * KIB)),
        }
    }
}

fn color_of(peer: Peer) -> RGBColor {
    match peer {
        Peer::Ringway => RGBColor(200, 30, 30),
        Peer::RingwayShared => RGBColor(235, 130, 60),
        Peer::RingwayQueue => RGBColor(200, 160, 30),
        Peer::PingPong => RGBColor(120, 120, 120),
        Peer::Futex => RGBColor(80, 80, 80),
        Peer::PrivateMemory => RGBColor(20, 20, 20),
        Peer::Rtrb => RGBColor(40, 140, 70),
        Peer::Iceoryx2 => RGBColor(40, 90, 190),
        #[cfg(feature = "aeron")]
        Peer::Aeron => RGBColor(130, 50, 160),
        Peer::UnixStream => RGBColor(0, 150, 170),
        Peer::Pipe => RGBColor(190, 150, 20),
        Peer::RabbitMq => RGBColor(255, 102, 0),
        Peer::Device => RGBColor(100, 70, 40),
        Peer::Redis => RGBColor(220, 80, 120),
        Peer::JetStream => RGBColor(60, 60, 200),
        Peer::JetStreamUnsynced => RGBColor(150, 150, 220),
    }
}

/// One plot.
#[derive(Debug)]
pub(super) struct Plot {
    /// Its file in the directory of plots.
    pub(super) file: &'static str,
    /// What it shows, in words.
    pub(super) title: &'static str,
    /// Whose figures.
    pub(super) case: Case,
    metric: Metric,
    along: Along,
}

/// All plots.
pub(super) const PLOTS: &[Plot] = &[
    Plot {
        file: "one_way_p50.svg",
        title: "One-way latency, median",
        case: Case::OneWay,
        metric: Metric::P50,
        along: Along::Bytes,
    },
    Plot {
        file: "throughput.svg",
        title: "Throughput",
        case: Case::Throughput,
        metric: Metric::MessagesPerSecond,
        along: Along::Bytes,
    },
    Plot {
        file: "large.svg",
        title: "Large payloads, written and read in full",
        case: Case::Large,
        metric: Metric::MessagesPerSecond,
        along: Along::Bytes,
    },
    Plot {
        file: "fan_out_publish.svg",
        title: "Cost of one publish with several consumers",
        case: Case::FanOut,
        metric: Metric::PublishCost,
        along: Along::Consumers,
    },
];

/// One median with its extremes.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: f64,
    median: f64,
    min: f64,
    max: f64,
}

impl Plot {
    /// The plot as SVG; `None` where there are no figures for it.
    pub(super) fn render(&self, rows: &[Row]) -> Result<Option<String>, CompareError> {
        let lines = self.lines(rows);
        if lines.is_empty() {
            return Ok(None);
        }
        let mut svg = String::new();
        self.draw(&lines, &mut svg)
            .map_err(|error| CompareError::Plot { plot: self.file, detail: error.to_string() })?;
        svg.push('\n');
        Ok(Some(svg))
    }

    /// Each peer's points, rising. A logarithmic axis has no place for what is not positive.
    fn lines(&self, rows: &[Row]) -> BTreeMap<Peer, Vec<Point>> {
        let mut lines: BTreeMap<Peer, Vec<Point>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.case == self.case && row.metric == self.metric) {
            let at = match self.along {
                Along::Bytes => row.bytes as f64,
                Along::Consumers => f64::from(row.parties.consumers()),
            };
            let (median, min, max) = (row.summary.median, row.summary.min, row.summary.max);
            if min > 0.0 {
                lines.entry(row.peer).or_default().push(Point { at, median, min, max });
            }
        }
        lines
    }

    fn draw(
        &self,
        lines: &BTreeMap<Peer, Vec<Point>>,
        svg: &mut String,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let points = || lines.values().flatten();
        let mut places: Vec<f64> = points().map(|point| point.at).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let (first, last) = (places.first().copied().unwrap_or(1.0), places.last().copied().unwrap_or(1.0));
        let lowest = points().map(|point| point.min).fold(f64::INFINITY, f64::min);
        let highest = points().map(|point| point.max).fold(0.0, f64::max);

        let area = SVGBackend::with_string(svg, SIZE_PIXELS).into_drawing_area();
        area.fill(&WHITE)?;
        let room_for_legend = (last / first).powf(LEGEND_PART).max(2.0);
        let along: LogCoord<f64> = (first / 1.3..last * room_for_legend).log_scale().into();
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(96)
            .build_cartesian_2d(along.with_key_points(places), (lowest / 1.5..highest * 1.5).log_scale())?;
        chart
            .configure_mesh()
            .x_desc(match self.along {
                Along::Bytes => "payload, bytes",
                Along::Consumers => "consumers",
            })
            .y_desc(self.metric.unit())
            .x_label_formatter(&|at| self.along.label(*at))
            .y_label_formatter(&|value| figure(*value).trim_end_matches(".0").to_owned())
            .y_labels(6)
            .y_max_light_lines(2)
            .light_line_style(BLACK.mix(0.06))
            .bold_line_style(BLACK.mix(0.14))
            .draw()?;
        for (peer, points) in lines {
            let color = color_of(*peer);
            let line = points.iter().map(|point| (point.at, point.median));
            chart
                .draw_series(LineSeries::new(line.clone(), color.stroke_width(2)))?
                .label(peer.name())
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2)));
            chart.draw_series(line.map(|place| Circle::new(place, 3, color.filled())))?;
            let bar = |point: &Point| {
                PathElement::new(vec![(point.at, point.min), (point.at, point.max)], color.stroke_width(1))
            };
            chart.draw_series(points.iter().map(bar))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_labelled_in_the_unit_that_people_use() {
        let labels = [64.0, 1024.0, 65_536.0, 1_048_576.0].map(|bytes| Along::Bytes.label(bytes));
        assert_eq!(labels, ["64 B", "1 KiB", "64 KiB", "1 MiB"]);
        assert_eq!(Along::Consumers.label(16.0), "16");
    }

    #[test]
    fn a_plot_without_figures_is_not_drawn() {
        assert!(PLOTS.iter().all(|plot| plot.render(&[]).unwrap().is_none()));
    }
}
