//! `ringway peek`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ringway_shm_protocol::name::Name;

use super::values::{name_parser, number};

pub(super) const PEEK_AFTER: &str = "\
Nothing is taken: no claim, no lease, no attempt that counts. What is shown comes from the keeper, as for `ringway inspect`, also
while the broker hangs. Without --subscription: of a queue what it has; of a topic all messages that its ring holds.

States are those of `ringway subscription show`:
  ready    waits for a consumer
  leased   a consumer has it and has not settled it
  delayed  waits for its time: a retry, or a delay that was asked for
  dead     waits for room in the dead-letter stream

Formats:
  line  partition:position, state, how often it was delivered, bytes of the payload, and its beginning
  raw   the message as it is, and a newline
  json  as `ringway sub` prints it, and: state, delivered, failed, consumer_pid (leased), due_ms (delayed), reason (dead)
  hex   partition:position, a blank, and the message in hexadecimal

Examples:
  ringway peek jobs
  ringway peek jobs --state delayed --state dead --format json
  ringway peek orders --subscription billing --from 1000 --limit 5
  ringway peek orders --match espresso";

/// Arguments of `ringway peek`.
#[derive(Debug, Args)]
pub(crate) struct PeekArgs {
    /// Name of the stream
    #[arg(value_parser = name_parser())]
    pub(crate) stream: Name,
    /// Only this partition
    #[arg(long, value_name = "N", value_parser = number::<u32>)]
    pub(crate) partition: Option<u32>,
    /// What this subscription has not consumed
    #[arg(long, value_name = "NAME", value_parser = name_parser())]
    pub(crate) subscription: Option<Name>,
    /// Only messages in this state; may be given again [default: all states]
    #[arg(long = "state", value_enum, value_name = "STATE")]
    pub(crate) states: Vec<PeekState>,
    /// Only from this position on
    #[arg(long, value_name = "P", default_value_t = 0, value_parser = number::<u64>)]
    pub(crate) from: u64,
    /// End after this many messages
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = number::<u64>)]
    pub(crate) limit: u64,
    /// Only messages whose payload has this in it
    #[arg(long = "match", value_name = "TEXT")]
    pub(crate) matching: Option<std::ffi::OsString>,
    /// How messages are printed
    #[arg(long, value_enum, default_value = "line")]
    pub(crate) format: PeekFormat,
    /// Of what `ringway inspect --dump` has written to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) from_dump: Option<PathBuf>,
}

/// `--state` of `ringway peek`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeekState {
    /// It waits for a consumer
    Ready,
    /// A consumer has it
    Leased,
    /// It waits for its time
    Delayed,
    /// It waits for room in the dead-letter stream
    Dead,
}

impl PeekState {
    /// As it is written behind `--state`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Delayed => "delayed",
            Self::Dead => "dead",
        }
    }
}

/// `--format` of `ringway peek`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeekFormat {
    /// One line: where it is, and how it begins
    Line,
    /// The message as it is, and a newline
    Raw,
    /// One JSON object per message
    Json,
    /// The position and the message in hexadecimal
    Hex,
}
