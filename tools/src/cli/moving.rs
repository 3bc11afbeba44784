//! `ringway stream move` and `ringway stream redrive`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ringway_client::DeathReason;
use ringway_shm_protocol::name::Name;

use super::values::{duration, name_parser, number, rate};

pub(super) const MOVE_AFTER: &str = "\
A message is acked where it was only when it is confirmed where it goes: whoever kills this command loses nothing, and may find a
message in both streams. What consumers have, and what waits for a retry, stays.

Examples:
  ringway stream move jobs jobs.later
  ringway stream move jobs jobs.later --count 100 --rate 10";

pub(super) const REDRIVE_AFTER: &str = "\
Each dead letter goes to the stream that it says it is from (dead.stream), without what was said of its death; of a topic, all
subscriptions get it. It is acked only when it is confirmed there: whoever kills this command loses nothing, and may find a message
in both streams. What does not match stays.

Examples:
  ringway stream redrive jobs.dead
  ringway stream redrive jobs.dead --reason expired --count 100 --rate 10
  ringway stream redrive dead --from orders --json";

/// Arguments of `ringway stream move`.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// The queue, or a stream with a shared subscription
    #[arg(value_name = "FROM", value_parser = name_parser())]
    pub(crate) stream: Name,
    /// The stream that gets its messages
    #[arg(value_parser = name_parser())]
    pub(crate) to: Name,
    #[command(flatten)]
    pub(crate) limits: MovingLimits,
}

/// Arguments of `ringway stream redrive`.
#[derive(Debug, Args)]
pub(crate) struct RedriveArgs {
    /// The stream of dead letters
    #[arg(value_name = "DEAD", value_parser = name_parser())]
    pub(crate) stream: Name,
    /// Only what died of this
    #[arg(long, value_enum)]
    pub(crate) reason: Option<ReasonArg>,
    /// Only what is from this stream
    #[arg(long, value_name = "STREAM", value_parser = name_parser())]
    pub(crate) from: Option<Name>,
    #[command(flatten)]
    pub(crate) limits: MovingLimits,
}

/// How much, how fast, how long.
#[derive(Debug, Args)]
pub(crate) struct MovingLimits {
    /// The shared subscription that the messages are taken from [default: that of the queue]
    #[arg(long, value_name = "NAME", value_parser = name_parser())]
    pub(crate) subscription: Option<Name>,
    /// Move so many at the most [default: all that are ready now]
    #[arg(long, value_name = "N", value_parser = number::<u64>)]
    pub(crate) count: Option<u64>,
    /// Messages per second at the most, evenly spread [default: as fast as it goes]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Give up (exit code 4) when a target has been full, or has confirmed nothing, for this long: 500ms, 2s, 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `--reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReasonArg {
    /// Nacked too often
    Nacked,
    /// Rejected
    Rejected,
    /// Too many leases ran out
    Expired,
    /// Too many consumers died with it
    Died,
}

impl From<ReasonArg> for DeathReason {
    fn from(reason: ReasonArg) -> Self {
        match reason {
            ReasonArg::Nacked => Self::Nacked,
            ReasonArg::Rejected => Self::Rejected,
            ReasonArg::Expired => Self::Expired,
            ReasonArg::Died => Self::Died,
        }
    }
}
