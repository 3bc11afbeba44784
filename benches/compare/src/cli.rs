//! The command line.
//!
//! Always: without arguments the whole comparison runs; every option only narrows or resizes it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::measure::durable::KEPT_MESSAGES;
use crate::payload::LINE_BYTES;
use crate::peers::Peer;
use crate::trial::{Case, Parties, Waiting};

const EXAMPLES: &str = "\
Examples:
  Everything, with a table at the end (some fifteen minutes):
      ringway-compare
  A first impression within minutes:
      ringway-compare --quick --rounds 1
  Latency of the spinning peers at one size, nine rounds:
      ringway-compare --peers ringway,ping_pong,rtrb,iceoryx2 --cases one_way --sizes 64 --rounds 9
  Payloads of 64 KiB and 1 MiB, written and read in place, beside the same over private memory:
      ringway-compare --peers ringway,iceoryx2,private_memory --cases large
  What one publish costs with 1, 4, and 16 consumers:
      ringway-compare --cases fan_out --consumers 1,4,16
  A sleeping consumer, beside a bare futex:
      ringway-compare --cases wake
  A queue with acks, beside RabbitMQ:
      ringway-compare --peers ringway_queue,rabbitmq --sizes 64
  A minute of throughput with the consumer's lag:
      ringway-compare --cases steady --steady-seconds 60
  Messages that are on the device when they are confirmed, beside the bare device, on the file system of a directory:
      ringway-compare --cases durable --data-dir /var/tmp
  Results for another tool, beside the table:
      ringway-compare --json results.json
  A page with plots, in the directory `benches`:
      ringway-compare --sizes 64,256,1024,4096 --results benches

The peer `aeron` is there when the program was built with the feature `aeron`; `rabbitmq`, `redis` and `jetstream` when their
servers are installed (Debian: rabbitmq-server, redis-server, nats-server; `jetstream` wants NATS 2.10 or later, see its
description). RabbitMQ takes its time: each of its trials starts a server.

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
    /// Payload sizes of one_way, throughput and durable in bytes, multiples of 64
    #[arg(long, value_delimiter = ',', value_name = "BYTES,...", default_value = "64,1024", value_parser = parse_size)]
    sizes: Vec<usize>,
    /// Payload sizes of large in bytes, multiples of 64; the other cases send 64 bytes
    #[arg(long, value_delimiter = ',', value_name = "BYTES,...", default_value = "65536,1048576", value_parser = parse_size)]
    large_sizes: Vec<usize>,
    /// How many consumers in fan_out
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "1,4,16", value_parser = clap::value_parser!(u32).range(1..=PARTIES_MAX))]
    consumers: Vec<u32>,
    /// How many producers in producers; the first is on the producer's CPU, the others alternate over both, the
    /// consumer's first
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "1,2,4", value_parser = clap::value_parser!(u32).range(1..=PARTIES_MAX))]
    producers: Vec<u32>,
    /// How many messages may be unconfirmed in durable
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "1,16384", value_parser = clap::value_parser!(u32).range(1..=WINDOW_MAX))]
    windows: Vec<u32>,
    /// Rounds over all peers; a median wants five or more; steady and durable take part in three at most
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Messages in a throughput trial of a spinning peer; other trials take a fixed share of it: throughput of a
    /// blocking peer 1/4, one_way of a spinning peer 1/8, one_way of a blocking peer 1/200, large 2, fan_out 1/4,
    /// producers 1/2, wake 1/400; payloads beyond 1 KiB get as many fewer as they are larger [default: 2000000, with
    /// --quick 200000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(200..=1_000_000_000))]
    messages: Option<u64>,
    /// A tenth of the messages, and 1 s of steady and durable: less steady
    #[arg(long, conflicts_with = "messages")]
    quick: bool,
    /// The two CPUs: first the producer's, then the consumer's [default: the first two allowed]
    #[arg(long, value_delimiter = ',', value_name = "PRODUCER,CONSUMER")]
    pub(crate) cpus: Option<Vec<usize>>,
    /// Messages that each user-space ring or queue holds; pipes and sockets keep the kernel's defaults
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = parse_depth)]
    depth: usize,
    /// The same in large
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = parse_depth)]
    large_depth: usize,
    /// How long a steady trial publishes [default: 10, with --quick 1]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    steady_seconds: Option<u32>,
    /// How long a durable trial publishes [default: 2, with --quick 1]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    durable_seconds: Option<u32>,
    /// Where brokers and servers keep their data while they are compared: in a directory that is made there and removed in the
    /// end; durable wants a file system on a device there [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Spin hints between two looks of a spinning throughput consumer that has caught up, so that the two ends do
    /// not fight over a cache line; one hint takes some 10 to 60 ns by the processor
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    caught_up_spins: u32,
    /// Write the results as JSON to FILE beside the table; without FILE to the standard output in its place
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
    /// Write a page with all tables to DIR/RESULTS.md and its plots to DIR/results; replaces what is there
    #[arg(long, value_name = "DIR")]
    pub(crate) results: Option<PathBuf>,
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

    /// The payload sizes of a case, each once, rising.
    pub(crate) fn sizes(&self, case: Case) -> Vec<usize> {
        match case {
            Case::OneWay | Case::Throughput | Case::Durable => each_once(&self.sizes),
            Case::Large => each_once(&self.large_sizes),
            Case::FanOut | Case::Producers | Case::Wake | Case::Steady => vec![SMALL_BYTES],
        }
    }

    /// How many share the stream in a case, each once, rising.
    pub(crate) fn parties(&self, case: Case) -> Vec<Parties> {
        match case {
            Case::FanOut => each_once(&self.consumers).into_iter().map(Parties::Consumers).collect(),
            Case::Producers => each_once(&self.producers).into_iter().map(Parties::Producers).collect(),
            Case::Durable => each_once(&self.windows).into_iter().map(Parties::Window).collect(),
            Case::OneWay | Case::Throughput | Case::Large | Case::Wake | Case::Steady => vec![Parties::Pair],
        }
    }

    /// How many messages count in one trial, 1 or more.
    pub(crate) fn messages(&self, peer: Peer, case: Case, bytes: usize) -> u64 {
        let all = self.messages.unwrap_or(if self.quick { 200_000 } else { 2_000_000 });
        let share = match (case, peer.is_blocking()) {
            (Case::Throughput | Case::Steady | Case::Durable, false) => all,
            (Case::Throughput | Case::Steady | Case::Durable, true) => all / 4,
            (Case::OneWay, false) => all / 8,
            (Case::OneWay, true) => all / 200,
            (Case::Large, _) => all * 2,
            (Case::FanOut, _) => all / 4,
            (Case::Producers, _) => all / 2,
            (Case::Wake, _) => all / 400,
        };
        (share / (bytes / FULL_COUNT_BYTES_MAX).max(1) as u64).max(1)
    }

    /// How many messages a user-space ring or queue holds in a case.
    pub(crate) fn depth(&self, case: Case) -> usize {
        if case == Case::Large { self.large_depth } else { self.depth }
    }

    /// How long a trial of a case that goes by time publishes, in seconds.
    pub(crate) fn seconds(&self, case: Case) -> u32 {
        let (told, usual) =
            if case == Case::Durable { (self.durable_seconds, 2) } else { (self.steady_seconds, 10) };
        told.unwrap_or(if self.quick { 1 } else { usual })
    }

    /// Where the run's directory is made.
    pub(crate) fn data_directory(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(std::env::temp_dir)
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

/// The payload of the cases that do not vary it, in bytes.
const SMALL_BYTES: usize = 64;
/// Larger payloads get fewer messages, in bytes.
const FULL_COUNT_BYTES_MAX: usize = 1024;
/// The most consumers or producers of one stream.
const PARTIES_MAX: i64 = 32;
/// The most unconfirmed messages of one producer: Ringway's ring holds as many in durable.
const WINDOW_MAX: i64 = KEPT_MESSAGES as i64;

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
        assert_eq!(options.peers().len(), <Peer as clap::ValueEnum>::value_variants().len());
        assert_eq!(options.cases(), <Case as clap::ValueEnum>::value_variants());
        assert_eq!(options.sizes(Case::OneWay), [64, 1024]);
        assert_eq!(options.sizes(Case::Large), [65_536, 1_048_576]);
        assert_eq!(options.sizes(Case::Wake), [64]);
        assert_eq!(options.rounds, 5);
        assert_eq!((options.seconds(Case::Steady), options.seconds(Case::Durable)), (10, 2));
        assert_eq!(options.data_directory(), std::env::temp_dir());
    }

    #[test]
    fn a_selection_runs_each_once() {
        let arguments =
            ["ringway-compare", "--peers", "pipe,rtrb,pipe", "--cases", "one_way", "--sizes", "128"];
        let options = Cli::parse_from(arguments).options;
        assert_eq!(options.peers(), [Peer::Rtrb, Peer::Pipe]);
        assert_eq!(options.cases(), [Case::OneWay]);
        assert_eq!(options.sizes(Case::OneWay), [128]);
    }

    #[test]
    fn only_the_cases_that_vary_them_have_several_consumers_or_producers_or_windows() {
        let options = Cli::parse_from(["ringway-compare", "--consumers", "8,2,8"]).options;
        assert_eq!(options.parties(Case::FanOut), [Parties::Consumers(2), Parties::Consumers(8)]);
        assert_eq!(options.parties(Case::Producers), [1, 2, 4].map(Parties::Producers));
        assert_eq!(options.parties(Case::Durable), [1, 16_384].map(Parties::Window));
        assert_eq!(options.parties(Case::Throughput), [Parties::Pair]);
        assert!(Cli::try_parse_from(["ringway-compare", "--producers", "0"]).is_err());
    }

    #[test]
    fn large_payloads_get_fewer_messages_and_a_small_depth() {
        let options = Cli::parse_from(["ringway-compare"]).options;
        assert_eq!(options.messages(Peer::Ringway, Case::Throughput, 1024), 2_000_000);
        assert_eq!(options.messages(Peer::Ringway, Case::Large, 65_536), 62_500);
        assert_eq!(options.messages(Peer::Ringway, Case::Large, 1_048_576), 3_906);
        assert_eq!((options.depth(Case::Throughput), options.depth(Case::Large)), (4096, 16));
    }

    #[test]
    fn a_quick_run_is_steady_for_one_second_unless_told_otherwise() {
        let quick = Cli::parse_from(["ringway-compare", "--quick"]).options;
        assert_eq!((quick.seconds(Case::Steady), quick.seconds(Case::Durable)), (1, 1));
        let told = Cli::parse_from(["ringway-compare", "--quick", "--steady-seconds", "3"]).options;
        assert_eq!(told.seconds(Case::Steady), 3);
    }

    #[test]
    fn a_size_that_is_not_whole_lines_is_refused() {
        assert!(Cli::try_parse_from(["ringway-compare", "--sizes", "100"]).is_err());
        assert!(Cli::try_parse_from(["ringway-compare", "--sizes", "0"]).is_err());
    }

    #[test]
    fn the_smallest_message_count_leaves_every_trial_one() {
        let options = Cli::parse_from(["ringway-compare", "--messages", "200"]).options;
        assert_eq!(options.messages(Peer::Pipe, Case::OneWay, 64), 1);
    }
}
