//! What one trial is, and what it measures.
//!
//! Always: the case and metric names are stable; other tools read them from the JSON.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::peers::Peer;
use crate::pinning::CpuPair;

/// A question asked of every peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(crate) enum Case {
    /// Latency with one message in flight: half the time of a message there and one back
    OneWay,
    /// Messages a second from the first publish until the consumer has the last; each published singly
    Throughput,
}

impl Case {
    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneWay => "one_way",
            Self::Throughput => "throughput",
        }
    }
}

/// A figure that a case gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// The median one-way latency.
    P50,
    /// The one-way latency that 99 of 100 messages do not exceed.
    P99,
    /// The rate at the consumer.
    MessagesPerSecond,
}

impl Metric {
    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50_ns",
            Self::P99 => "p99_ns",
            Self::MessagesPerSecond => "messages_per_second",
        }
    }

    /// The unit of the values.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::P50 | Self::P99 => "ns",
            Self::MessagesPerSecond => "messages/s",
        }
    }
}

/// What a trial gave.
pub(crate) type Measured = Vec<(Metric, f64)>;

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
    /// The payload size, a positive multiple of a cache line.
    pub(crate) bytes: usize,
    /// Messages before the clock starts; they map the memory and warm the caches.
    pub(crate) warm_up: u64,
    /// Messages that count, 1 or more.
    pub(crate) messages: u64,
    /// How many messages a user-space ring or queue holds.
    pub(crate) depth: usize,
    /// How a spinning end waits.
    pub(crate) waiting: Waiting,
    /// Where the two ends run.
    pub(crate) cpus: CpuPair,
}

impl fmt::Display for Trial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {} B", self.peer.name(), self.case.name(), self.bytes)
    }
}
