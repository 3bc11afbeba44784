//! The peers: one module each, behind one enum.
//!
//! What always holds: every peer's two ends are a [`Sender`](crate::measure::Sender) and a
//! [`Receiver`](crate::measure::Receiver) per direction, driven by the same loops; a peer's module only opens and
//! closes its transport.
//!
//! A peer is added with a module of its own and one line in each function here:
//!
//! - `measure` opens what the near end needs, starts the far end (a thread, or a
//!   [`FarProcess`](crate::far_process::FarProcess)), and runs [`near_end`](crate::measure::near_end).
//! - `far_end` opens the far end in its process and runs [`far_end`](crate::measure::far_end).
//! - A durable trial has a near end alone, a [`Confirmed`](crate::measure::durable::Confirmed) sender, and a broker or
//!   [`server`] that takes the far end's place.
//! - Several producers or consumers have ends of their own: [`many_producers`](crate::measure::many_producers) and
//!   [`fan_out`](crate::measure::fan_out).

#[cfg(feature = "aeron")]
mod aeron;
mod byte_stream;
mod device;
mod flag_lines;
mod futex;
mod iceoryx2;
mod jetstream;
mod ping_pong;
mod pipe;
mod private_memory;
mod rabbitmq;
mod redis;
mod ringway;
mod rtrb;
mod server;
mod unix_stream;

use std::io::Write;

use clap::ValueEnum;
use ringway_client::Producers;
use serde::{Deserialize, Serialize};

use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::FarSide;
use crate::peers::jetstream::Syncs;
use crate::trial::{Case, Measured, Trial};

/// Who takes part. The order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(crate) enum Peer {
    /// Ringway: a topic for one producer and a cursor subscription between two processes, both spinning
    /// (in wake the consumer sleeps; in durable the topic is synced, and nobody consumes)
    Ringway,
    /// Ringway as above, but the topic is declared for any number of producers
    RingwayShared,
    /// Ringway with queues: any number of producers, and a consumer that claims and acks each message
    RingwayQueue,
    /// Bare shared memory, payload and flag lines, two processes spinning; the floor, one_way only
    PingPong,
    /// A bare futex in shared memory between two processes; the floor of sleeping, wake only
    Futex,
    /// Private memory handed over between two threads; what the memory traffic costs, large only
    PrivateMemory,
    /// The bare device: batches of what is published, written by io_uring with a linked fdatasync; the floor, durable only
    Device,
    /// The rtrb ring between two threads of one process, both spinning
    Rtrb,
    /// iceoryx2 publish/subscribe between two processes, both spinning; in wake with its event service beside
    #[value(name = "iceoryx2")]
    #[serde(rename = "iceoryx2")]
    Iceoryx2,
    /// Aeron IPC between two processes, both spinning, with the C media driver in a thread of the near one
    #[cfg(feature = "aeron")]
    Aeron,
    /// A Unix stream socket between two processes, blocking
    UnixStream,
    /// A pipe between two processes, blocking
    Pipe,
    /// RabbitMQ with a server of its own on loopback: a transient classic queue, messages that are not persistent, publisher
    /// confirms, and a consumer that acks each message, two processes, sleeping (in durable a durable classic queue and
    /// persistent messages); skipped where it is not installed
    #[value(name = "rabbitmq")]
    #[serde(rename = "rabbitmq")]
    RabbitMq,
    /// Redis Streams with a server of its own that syncs before it answers (appendfsync always): XADD, pipelined; durable only,
    /// skipped where it is not installed
    Redis,
    /// NATS JetStream with a server of its own that syncs before it acks (sync_interval always): async publish, at most 4,096
    /// unconfirmed; durable only, skipped where it is not installed or older than 2.10
    #[value(name = "jetstream")]
    #[serde(rename = "jetstream")]
    JetStream,
    /// NATS JetStream as it comes, whose acks do not wait for the device: not durable when they are given; durable only,
    /// skipped where it is not installed
    #[value(name = "jetstream_unsynced")]
    #[serde(rename = "jetstream_unsynced")]
    JetStreamUnsynced,
}

/// Whom the table compares with: the first of these that took part in a case.
pub(crate) const REFERENCES: &[Peer] =
    &[Peer::Ringway, Peer::RingwayShared, Peer::PingPong, Peer::RingwayQueue];

impl Peer {
    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ringway => "ringway",
            Self::RingwayShared => "ringway_shared",
            Self::RingwayQueue => "ringway_queue",
            Self::PingPong => "ping_pong",
            Self::Futex => "futex",
            Self::PrivateMemory => "private_memory",
            Self::Device => "device",
            Self::Rtrb => "rtrb",
            Self::Iceoryx2 => "iceoryx2",
            #[cfg(feature = "aeron")]
            Self::Aeron => "aeron",
            Self::UnixStream => "unix_stream",
            Self::Pipe => "pipe",
            Self::RabbitMq => "rabbitmq",
            Self::Redis => "redis",
            Self::JetStream => "jetstream",
            Self::JetStreamUnsynced => "jetstream_unsynced",
        }
    }

    /// Whether the peer takes part in a case: a yardstick only in its own, and the others where they have what the case
    /// asks about.
    pub(crate) fn takes_part_in(self, case: Case) -> bool {
        use Case::{Durable, FanOut, Large, OneWay, Producers, Steady, Throughput, Wake};
        match self {
            Self::Ringway => matches!(case, OneWay | Throughput | Large | FanOut | Wake | Steady | Durable),
            Self::RingwayShared => matches!(case, OneWay | Throughput | Producers | Steady),
            Self::RingwayQueue => matches!(case, OneWay | Throughput | Steady),
            Self::RabbitMq => matches!(case, OneWay | Throughput | Steady | Durable),
            Self::Device | Self::Redis | Self::JetStream | Self::JetStreamUnsynced => {
                matches!(case, Durable)
            }
            Self::PingPong => matches!(case, OneWay),
            Self::Futex => matches!(case, Wake),
            Self::PrivateMemory => matches!(case, Large),
            Self::Rtrb => matches!(case, OneWay | Throughput | Steady),
            Self::Iceoryx2 => !matches!(case, Durable),
            #[cfg(feature = "aeron")]
            Self::Aeron => matches!(case, OneWay | Throughput | Large | Steady),
            Self::UnixStream | Self::Pipe => matches!(case, OneWay | Throughput | Large | Wake),
        }
    }

    /// Whether its ends sleep in the kernel rather than spin. Such a peer gets fewer messages in the same time.
    pub(crate) fn is_blocking(self) -> bool {
        matches!(self, Self::UnixStream | Self::Pipe | Self::RabbitMq)
    }

    /// What is to be done before the peer can take part on this machine; `None` if it can.
    pub(crate) fn missing(self) -> Option<&'static str> {
        match self {
            Self::RabbitMq => rabbitmq::missing(),
            Self::Redis => redis::missing(),
            Self::JetStream => jetstream::missing(Syncs::BeforeAcks),
            Self::JetStreamUnsynced => jetstream::missing(Syncs::Seldom),
            _ => None,
        }
    }

    /// Runs one trial with the near end in this thread, which is bound to the near CPU.
    pub(crate) fn measure(self, trial: &Trial) -> Result<Measured, CompareError> {
        match self {
            Self::Ringway if trial.case == Case::Durable => ringway::measure_durable(trial),
            Self::Ringway => ringway::measure(trial, Producers::Exclusive),
            Self::RingwayShared => ringway::measure(trial, Producers::Shared),
            Self::RingwayQueue => ringway::measure_queue(trial),
            Self::PingPong => ping_pong::measure(trial),
            Self::Futex => futex::measure(trial),
            Self::PrivateMemory => private_memory::measure(trial),
            Self::Device => device::measure(trial),
            Self::Rtrb => rtrb::measure(trial),
            Self::Iceoryx2 => iceoryx2::measure(trial),
            #[cfg(feature = "aeron")]
            Self::Aeron => aeron::measure(trial),
            Self::UnixStream => unix_stream::measure(trial),
            Self::Pipe => pipe::measure(trial),
            Self::RabbitMq if trial.case == Case::Durable => rabbitmq::measure_durable(trial),
            Self::RabbitMq => rabbitmq::measure(trial),
            Self::Redis => redis::measure(trial),
            Self::JetStream => jetstream::measure(trial, Syncs::BeforeAcks),
            Self::JetStreamUnsynced => jetstream::measure(trial, Syncs::Seldom),
        }
    }

    /// Runs the far end in its own process.
    pub(crate) fn far_end<W: Write>(
        self,
        side: &mut FarSide,
        reporter: &mut Reporter<W>,
    ) -> Result<(), CompareError> {
        match self {
            Self::Ringway | Self::RingwayShared => ringway::far_end(side, reporter),
            Self::RingwayQueue => ringway::far_end_of_queue(side, reporter),
            Self::PingPong => ping_pong::far_end(side, reporter),
            Self::Futex => futex::far_end(side, reporter),
            Self::PrivateMemory | Self::Rtrb => {
                Err(CompareError::Control { wanted: "a thread", got: "a process".to_owned() })
            }
            Self::Device | Self::Redis | Self::JetStream | Self::JetStreamUnsynced => {
                Err(CompareError::Control { wanted: "no far end", got: "a process".to_owned() })
            }
            Self::Iceoryx2 => iceoryx2::far_end(side, reporter),
            #[cfg(feature = "aeron")]
            Self::Aeron => aeron::far_end(side, reporter),
            Self::UnixStream => unix_stream::far_end(side, reporter),
            Self::Pipe => pipe::far_end(side, reporter),
            Self::RabbitMq => rabbitmq::far_end(side, reporter),
        }
    }
}
