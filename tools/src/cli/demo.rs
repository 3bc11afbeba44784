//! `ringway demo`, and what it starts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringway_client::WaitStrategy;
use ringway_shm_protocol::name::Name;
use serde::Serialize;

use super::values::{duration, name_parser};

pub(super) const DEMO_AFTER: &str = "\
It starts its own broker in a private directory and removes everything at the end. The lines of the file go
through a topic, the file as often as it takes for 10,000 messages; two consumers check that every line arrived,
in order and unchanged. Exit code 0 means that all of it held.

Examples:
  ringway demo
  ringway demo --input /var/log/dpkg.log
  ringway demo --json";

/// Arguments of `ringway demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// File whose lines are sent [default: Ringway's README.md, built in]
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What both roles of the demo are told. Their lines come on standard input.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// Process id of the demo: the role ends with it
    #[arg(long)]
    pub(crate) parent: u32,
    /// Name of the stream
    #[arg(long, value_parser = name_parser())]
    pub(crate) stream: Name,
    /// How often the lines go through the stream
    #[arg(long)]
    pub(crate) rounds: u64,
    /// How it waits
    #[arg(long, value_enum)]
    pub(crate) wait: Wait,
}

/// Arguments of the demo's producer.
#[derive(Debug, Args)]
pub(crate) struct DemoProducerArgs {
    #[command(flatten)]
    pub(crate) role: RoleArgs,
    /// Time between two messages
    #[arg(long, value_parser = duration)]
    pub(crate) pace: Duration,
}

/// Arguments of a consumer of the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoConsumerArgs {
    #[command(flatten)]
    pub(crate) role: RoleArgs,
    /// Name of the subscription
    #[arg(long, value_parser = name_parser())]
    pub(crate) subscription: Name,
}

/// Arguments of a consumer of the demo's queue. The lines come on standard input.
#[derive(Debug, Args)]
pub(crate) struct DemoWorkerArgs {
    /// Process id of the demo: the consumer ends with it
    #[arg(long)]
    pub(crate) parent: u32,
    /// Name of the queue
    #[arg(long, value_parser = name_parser())]
    pub(crate) stream: Name,
    /// Time that it takes for a message
    #[arg(long, value_parser = duration)]
    pub(crate) work: Duration,
}

/// How a role of the demo waits for the next message, or until the next is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wait {
    /// It never sleeps
    Spin,
    /// It sleeps in the kernel
    #[default]
    Sleep,
}

impl Wait {
    /// As it is written behind `--wait`.
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Sleep => "sleep",
        }
    }
}

impl From<Wait> for WaitStrategy {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Spin => Self::Spin,
            Wait::Sleep => Self::default(),
        }
    }
}
