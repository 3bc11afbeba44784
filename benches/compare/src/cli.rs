//! The command line.
//!
//! Always: without arguments the whole comparison runs; every option only narrows or resizes it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::payload::LINE_BYTES;
use crate::peers::Peer;
use crate::trial::{Case, Waiting};

const EXAMPLES: &str = "\
Examples:
  Everything, with a table at the end (some two minutes):
      ringway-compare
  A first impression within half a minute:
      ringway-compare --quick
  Latency of the spinning peers at one size, nine rounds:
      ringway-compare --peers ping_pong,rtrb,iceoryx2 --cases one_way --sizes 64 --rounds 9
  Results for another tool, beside the table:
      ringway-compare --json results.json

Compare figures within one run only: the machine's spells move them between runs. A probe (a bare round trip
between the two CPUs) is printed before and after each round, and taken around each trial; what ran in a spell far
from the run's median is flagged as noisy and counted, not dropped.";

/// Runs Ringway's peers side by side in one run.
///
/// Rounds alternate over all peers, with the same payload, the same work per message, and the same two CPUs for
/// all. Each figure is the median over the rounds, with its extremes.
#[derive(Debug, Parser)]
#[command(name = "ringway-compare", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// The comparison to run.
    #[command(flatten)]
    pub(crate) options: Options,
    /// What this process is, if not the one that the user started.
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// A process of the comparison itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The far end of one trial; started by the comparison, of no use by hand
    #[command(name = crate::far_process::SUBCOMMAND, hide = true)]
    FarEnd {
        /// What to run, as JSON
        brief: String,
    },
}

/// What to run and where the results go.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these peers
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PEER,...")]
    peers: Option<Vec<Peer>>,
    /// Only these cases
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CASE,...")]
    cases: Option<Vec<Case>>,
    /// Payload sizes in bytes, multiples of 64
    #[arg(long, value_delimiter = ',', value_name = "BYTES,...", default_value = "64,1024", value_parser = parse_size)]
    sizes: Vec<usize>,
    /// Rounds over all peers; a median wants five or more
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Messages in a throughput trial of a spinning peer; other trials take a fixed share of it: throughput of a
    /// blocking peer 1/4, one_way of a spinning peer 1/8, one_way of a blocking peer 1/200 [default: 2000000, with
    /// --quick 200000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(200..=1_000_000_000))]
    messages: Option<u64>,
    /// A tenth of the messages: within half a minute, less steady
    #[arg(long, conflicts_with = "messages")]
    quick: bool,
    /// The two CPUs: first the producer's, then the consumer's [default: the first two allowed]
    #[arg(long, value_delimiter = ',', value_name = "PRODUCER,CONSUMER")]
    pub(crate) cpus: Option<Vec<usize>>,
    /// Messages that each user-space ring or queue holds; pipes and sockets keep the kernel's defaults
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = parse_depth)]
    pub(crate) depth: usize,
    /// Spin hints between two looks of a spinning throughput consumer that has caught up, so that the two ends do
    /// not fight over a cache line; one hint takes some 10 to 60 ns by the processor
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    caught_up_spins: u32,
    /// Write the results as JSON to FILE beside the table; without FILE to the standard output in its place
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// The peers of this run, each once, in the table's order.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        each_once(self.peers.as_deref().unwrap_or(<Peer as clap::ValueEnum>::value_variants()))
    }

    /// The cases of this run, each once.
    pub(crate) fn cases(&self) -> Vec<Case> {
        each_once(self.cases.as_deref().unwrap_or(<Case as clap::ValueEnum>::value_variants()))
    }

    /// The payload sizes of this run, each once, rising.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        each_once(&self.sizes)
    }

    /// How many messages count in one trial, 1 or more.
    pub(crate) fn messages(&self, peer: Peer, case: Case) -> u64 {
        let messages = self.messages.unwrap_or(if self.quick { 200_000 } else { 2_000_000 });
        messages
            / match (case, peer.is_blocking()) {
                (Case::Throughput, false) => 1,
                (Case::Throughput, true) => 4,
                (Case::OneWay, false) => 8,
                (Case::OneWay, true) => 200,
            }
    }

    /// How spinning ends wait.
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting { caught_up_spins: self.caught_up_spins }
    }
}

fn each_once<T: Copy + Ord>(items: &[T]) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort_unstable();
    items.dedup();
    items
}

/// The largest payload, in bytes.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

fn parse_size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(bytes) if (1..=PAYLOAD_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(LINE_BYTES) => {
            Ok(bytes)
        }
        _ => Err(format!("a size is a multiple of {LINE_BYTES} from {LINE_BYTES} to {PAYLOAD_BYTES_MAX}")),
    }
}

/// The most messages a ring may be asked to hold.
const DEPTH_MAX: usize = 1 << 16;

fn parse_depth(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(depth) if (2..=DEPTH_MAX).contains(&depth) => Ok(depth),
        _ => Err(format!("a depth is a number of messages from 2 to {DEPTH_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_arguments_everything_runs() {
        let options = Cli::parse_from(["ringway-compare"]).options;
        assert_eq!(options.peers().len(), 5);
        assert_eq!(options.cases(), [Case::OneWay, Case::Throughput]);
        assert_eq!(options.sizes(), [64, 1024]);
        assert_eq!(options.rounds, 5);
    }

    #[test]
    fn a_selection_runs_each_once() {
        let arguments =
            ["ringway-compare", "--peers", "pipe,rtrb,pipe", "--cases", "one_way", "--sizes", "128"];
        let options = Cli::parse_from(arguments).options;
        assert_eq!(options.peers(), [Peer::Rtrb, Peer::Pipe]);
        assert_eq!(options.cases(), [Case::OneWay]);
        assert_eq!(options.sizes(), [128]);
    }

    #[test]
    fn a_size_that_is_not_whole_lines_is_refused() {
        assert!(Cli::try_parse_from(["ringway-compare", "--sizes", "100"]).is_err());
        assert!(Cli::try_parse_from(["ringway-compare", "--sizes", "0"]).is_err());
    }

    #[test]
    fn the_smallest_message_count_leaves_every_trial_one() {
        let options = Cli::parse_from(["ringway-compare", "--messages", "200"]).options;
        assert_eq!(options.messages(Peer::Pipe, Case::OneWay), 1);
    }
}
