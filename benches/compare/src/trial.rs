//! What one trial is, and what it measures.
//!
//! Always: the case and metric names are stable; other tools read them from the JSON.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::error::CompareError;
use crate::peers::Peer;
use crate::pinning::CpuPair;

/// A question asked of every peer that can answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(crate) enum Case {
    /// Latency with one message in flight: half the time of a message there and one back
    OneWay,
    /// Messages a second from the first publish until the consumer has the last; each published singly
    Throughput,
    /// Messages a second of payloads that are written in full and in place, and read in full and in place
    Large,
    /// What one publish costs the producer while N consumers follow the stream, all on one thread of the far process
    FanOut,
    /// Messages a second at one consumer of N producers on one stream; the second and further ones share the two CPUs
    Producers,
    /// From the publish until a consumer that slept in the kernel has read the message
    Wake,
    /// Throughput over seconds, and how far behind the consumer is meanwhile
    Steady,
    /// Confirms of messages that are on the device, with at most so many on their way to it: how many there are in a second, and
    /// with one how long each takes from the publish on
    Durable,
}

impl Case {
    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneWay => "one_way",
            Self::Throughput => "throughput",
            Self::Large => "large",
            Self::FanOut => "fan_out",
            Self::Producers => "producers",
            Self::Wake => "wake",
            Self::Steady => "steady",
            Self::Durable => "durable",
        }
    }

    /// In how many rounds it takes part at most. A trial over seconds is steady by itself.
    pub(crate) fn rounds_max(self) -> u32 {
        if matches!(self, Self::Steady | Self::Durable) { 3 } else { u32::MAX }
    }
}

/// A figure that a case gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// The median latency.
    P50,
    /// The latency that 99 of 100 messages do not exceed.
    P99,
    /// The rate at the consumer; in durable that of confirms.
    MessagesPerSecond,
    /// The same in bytes of payload.
    BytesPerSecond,
    /// What one publish costs its producer.
    PublishCost,
    /// The median of how many messages the consumer was behind.
    LagP50,
    /// The most messages that the consumer was seen behind.
    LagMax,
}

impl Metric {
    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50_ns",
            Self::P99 => "p99_ns",
            Self::MessagesPerSecond => "messages_per_second",
            Self::BytesPerSecond => "bytes_per_second",
            Self::PublishCost => "publish_ns",
            Self::LagP50 => "lag_p50_messages",
            Self::LagMax => "lag_max_messages",
        }
    }

    /// The unit of the values.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::P50 | Self::P99 | Self::PublishCost => "ns",
            Self::MessagesPerSecond => "messages/s",
            Self::BytesPerSecond => "bytes/s",
            Self::LagP50 | Self::LagMax => "messages",
        }
    }
}

/// What a trial gave.
pub(crate) type Measured = Vec<(Metric, f64)>;

/// How many share the stream there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Parties {
    /// One producer and one consumer.
    Pair,
    /// One producer and so many consumers, each of which gets every message.
    Consumers(u32),
    /// So many producers and one consumer.
    Producers(u32),
    /// One producer with at most so many messages that are not confirmed, and no consumer.
    Window(u32),
}

impl Parties {
    /// The consumers of the stream there.
    pub(crate) fn consumers(self) -> u32 {
        if let Self::Consumers(consumers) = self { consumers } else { 1 }
    }

    /// The producers of the stream there.
    pub(crate) fn producers(self) -> u32 {
        if let Self::Producers(producers) = self { producers } else { 1 }
    }

    /// How many messages may be unconfirmed there, 1 or more.
    pub(crate) fn window(self) -> u32 {
        if let Self::Window(window) = self { window } else { 1 }
    }
}

impl fmt::Display for Parties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair => formatter.write_str("1 to 1"),
            Self::Consumers(consumers) => write!(formatter, "1 to {consumers}"),
            Self::Producers(producers) => write!(formatter, "{producers} to 1"),
            Self::Window(window) => write!(formatter, "window {window}"),
        }
    }
}

/// How one end waits where its peer spins.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Spin hints between two looks of a throughput consumer that has caught up.
    pub(crate) caught_up_spins: u32,
}

/// One measurement of one peer: all that its two ends need to agree on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// Who is measured.
    pub(crate) peer: Peer,
    /// What is asked.
    pub(crate) case: Case,
    /// How many share the stream there.
    pub(crate) parties: Parties,
    /// The payload size, a positive multiple of a cache line.
    pub(crate) bytes: usize,
    /// Messages before the clock starts; they map the memory and warm the caches.
    pub(crate) warm_up: u64,
    /// Messages that count, 1 or more; all producers' together.
    pub(crate) messages: u64,
    /// How long a steady or durable trial publishes, in seconds.
    pub(crate) seconds: u32,
    /// How many messages a user-space ring or queue holds.
    pub(crate) depth: usize,
    /// How a spinning end waits.
    pub(crate) waiting: Waiting,
    /// Where the two ends run.
    pub(crate) cpus: CpuPair,
    /// The run's directory, below which brokers and servers keep their data.
    pub(crate) directory: PathBuf,
}

impl Trial {
    /// Makes a directory of the trial's own, which is removed when dropped.
    pub(crate) fn private_directory(&self) -> Result<TempDir, CompareError> {
        let made = tempfile::tempdir_in(&self.directory);
        made.map_err(CompareError::system(format!("make a directory in {}", self.directory.display())))
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {} B", self.peer.name(), self.case.name(), self.bytes)?;
        if self.parties != Parties::Pair {
            write!(formatter, " {}", self.parties)?;
        }
        Ok(())
    }
}
