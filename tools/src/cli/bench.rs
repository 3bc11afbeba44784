//! `ringway bench`, and what it starts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ringway_client::WaitStrategy;
use ringway_shm_protocol::name::Name;
use serde::{Deserialize, Serialize};

use super::stream::DurabilityArg;
use super::values::{duration, name_parser, number, rate};

pub(super) const BENCH_AFTER: &str = "\
Producers and consumers are processes of their own, as users have them; when nothing else is said, so is a broker. With --dir
it is the broker there that is measured, by a stream of the bench's own, which is deleted however the bench ends.

Latencies are counted from the time when each message was due by --rate, whether or not its producer came to send it then: a
stall counts for every message that was due in it (no coordinated omission). Every message is checked for loss and order.

Examples:
  ringway bench latency
  ringway bench latency --rate 100000 --size 256 --wait spin --time 10s
  ringway bench throughput --size 1024
  ringway bench wake --json
  ringway bench fanout --consumers 8 --dir /run/ringway
  ringway bench queue --durability synced --consumers 4 --hdr queue.hlog";

const LATENCY_AFTER: &str = "\
Latency is from the time when a message was due by --rate until a consumer has it: a stall of anybody counts for every message
that was due in it (no coordinated omission).

Examples:
  ringway bench latency
  ringway bench latency --rate 100000 --wait spin
  ringway bench latency --rate 1000 --durability synced --hdr latency.hlog";
const THROUGHPUT_AFTER: &str = "\
Each message is sent and received by a call of its own; it has no latency that means something, as it waits in a full ring.

Examples:
  ringway bench throughput
  ringway bench throughput --size 1024 --count 10000000
  ringway bench throughput --producers 2 --durability written";
const WAKE_AFTER: &str = "\
Consumers sleep as soon as they have nothing to do, so that each message has to wake them. Latency is from the time when it was
due by --rate (no coordinated omission). How often they slept is counted, and said.

Examples:
  ringway bench wake
  ringway bench wake --rate 100 --time 20s --json";
const FANOUT_AFTER: &str = "\
Every consumer has a subscription of its own, and gets every message. Latency is from the time when a message was due by --rate
until a consumer has it (no coordinated omission).

Examples:
  ringway bench fanout
  ringway bench fanout --consumers 8 --rate 1000";
const QUEUE_AFTER: &str = "\
Consumers compete for the messages of a queue, and ack each. Latency is from the time when a message was due by --rate until a
consumer has it (no coordinated omission).

Examples:
  ringway bench queue
  ringway bench queue --consumers 4 --producers 2 --rate 50000
  ringway bench queue --durability synced";

/// Arguments of `ringway bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What is measured.
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// How long a message takes at a given rate.
    #[command(after_help = LATENCY_AFTER)]
    Latency {
        #[command(flatten)]
        paced: Paced,
        /// Consumers: each has a subscription of its own and gets every message
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = processes())]
        consumers: u32,
    },
    /// How many messages there are in a second, as fast as it goes.
    #[command(after_help = THROUGHPUT_AFTER)]
    Throughput {
        #[command(flatten)]
        common: Common,
        /// How consumers wait
        #[arg(long, value_enum, default_value = "adaptive")]
        wait: BenchWait,
        /// Consumers: each has a subscription of its own and gets every message
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = processes())]
        consumers: u32,
    },
    /// How long a message takes to a consumer that is asleep.
    #[command(after_help = WAKE_AFTER)]
    Wake {
        #[command(flatten)]
        common: Common,
        /// Messages per second, evenly spread: at most 10000, so that there is time to fall asleep
        #[arg(long, value_name = "R", default_value = "500", value_parser = rate_to_sleep_at)]
        rate: f64,
        /// Consumers: each has a subscription of its own and gets every message
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = processes())]
        consumers: u32,
    },
    /// How long a message takes to many subscriptions.
    #[command(after_help = FANOUT_AFTER)]
    Fanout {
        #[command(flatten)]
        paced: Paced,
        /// Consumers: each has a subscription of its own and gets every message
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = processes())]
        consumers: u32,
    },
    /// How long a message takes to one of competing consumers that ack it.
    #[command(after_help = QUEUE_AFTER)]
    Queue {
        #[command(flatten)]
        paced: Paced,
        /// Consumers that compete
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = processes())]
        consumers: u32,
    },
}

/// A bench at a rate.
#[derive(Debug, Args)]
pub(crate) struct Paced {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Messages per second of all producers together, evenly spread
    #[arg(long, value_name = "R", default_value = "10000", value_parser = rate)]
    pub(crate) rate: f64,
    /// How consumers wait
    #[arg(long, value_enum, default_value = "adaptive")]
    pub(crate) wait: BenchWait,
}

/// What all have.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Bytes of a message, 16 at the least
    #[arg(long, value_name = "B", default_value_t = 64, value_parser = number::<usize>)]
    pub(crate) size: usize,
    /// Measure so many messages
    #[arg(long, value_name = "N", conflicts_with = "time", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Measure for so long
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = some_time)]
    pub(crate) time: Duration,
    /// Do the same for so long before, unmeasured
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Producers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = processes())]
    pub(crate) producers: u32,
    /// Durability of the stream; of one that is `synced`, consumers get only what is on the device
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "memory")]
    pub(crate) durability: DurabilityArg,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the latencies of all consumers to this file: the percentile distribution if its name ends in .hgrm, else a log of
    /// HdrHistogram with one interval
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,
}

/// How a consumer waits for the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BenchWait {
    /// It never sleeps
    Spin,
    /// It looks for 20 µs, then sleeps
    Adaptive,
    /// It sleeps at once
    Sleep,
}

impl From<BenchWait> for WaitStrategy {
    fn from(wait: BenchWait) -> Self {
        match wait {
            BenchWait::Spin => Self::Spin,
            BenchWait::Adaptive => Self::default(),
            BenchWait::Sleep => Self::Adaptive { spin: Duration::ZERO },
        }
    }
}

fn processes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=32)
}

fn some_time(text: &str) -> Result<Duration, String> {
    duration(text)
        .and_then(|time| if time.is_zero() { Err("it must be longer".to_owned()) } else { Ok(time) })
}

fn rate_to_sleep_at(text: &str) -> Result<f64, String> {
    match rate(text)? {
        rate if rate <= 10_000.0 => Ok(rate),
        rate => {
            Err(format!("at {rate} messages a second there is no time to fall asleep; 10000 is the most"))
        }
    }
}

/// A producer or a consumer of the bench: what it shall do stands in its first line of input.
#[derive(Debug, Args)]
pub(crate) struct BenchRoleArgs {
    /// Process id of the bench: the role ends with it
    #[arg(long)]
    pub(crate) parent: u32,
}

/// Removes what the bench has made when its input ends, however the bench has ended.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["stream", "directory"]))]
pub(crate) struct BenchSweeperArgs {
    /// A stream, of the broker of --dir
    #[arg(long, value_parser = name_parser())]
    pub(crate) stream: Option<Name>,
    /// The directory of a broker of the bench's own, which is about to end
    #[arg(long)]
    pub(crate) directory: Option<PathBuf>,
}
