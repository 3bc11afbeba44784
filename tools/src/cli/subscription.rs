//! `ringway subscription`.

use clap::{Subcommand, ValueEnum};
use ringway_client::StartAt;
use ringway_shm_protocol::name::Name;

use super::altering::{ALTER_SUBSCRIPTION_AFTER, AlterSubscriptionArgs};
use super::stream::SharedArgs;
use super::values::name_parser;

pub(super) const SUBSCRIPTION_AFTER: &str = "\
Examples:
  ringway subscription create orders billing --from first
  ringway subscription list orders
  ringway subscription show orders billing --json
  ringway subscription alter orders packing --lease 10m
  ringway subscription purge orders billing
  ringway subscription delete orders billing";

const SUBSCRIPTION_PURGE_AFTER: &str = "\
Other subscriptions keep their messages. What a consumer has leased stays its own, and comes again if it fails; what is dead goes to the
dead letters. Refused while an ordered subscription is read. It is as durable as the stream when this returns.

Examples:
  ringway subscription purge orders billing
  ringway subscription purge jobs jobs --json";

const SUBSCRIPTION_CREATE_AFTER: &str = "\
Examples:
  ringway subscription create orders billing --from first
  ringway subscription create orders packing --mode shared --lease 5m --dead-letter orders.unpacked
  ringway subscription create payments ledger --visibility durable";

/// What can be done with subscriptions.
#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionCommand {
    /// Make a subscription, or confirm that it is there.
    #[command(after_help = SUBSCRIPTION_CREATE_AFTER)]
    Create {
        /// Name of the stream
        #[arg(value_parser = name_parser())]
        stream: Name,
        /// Name of the subscription
        #[arg(value_parser = name_parser())]
        name: Name,
        /// Where it starts if it is new: at the oldest message that is still there, or behind the newest
        #[arg(long, value_enum, default_value = "next")]
        from: Start,
        /// How its messages are given out
        #[arg(long, value_enum, default_value = "cursor")]
        mode: Mode,
        #[command(flatten)]
        shared: SharedArgs,
    },
    /// List the subscriptions of a stream.
    #[command(
        after_help = "Examples:\n  ringway subscription list orders\n  ringway subscription list orders --json"
    )]
    List {
        /// Name of the stream
        #[arg(value_parser = name_parser())]
        stream: Name,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one subscription.
    #[command(after_help = "Examples:\n  ringway subscription show orders billing")]
    Show {
        /// Name of the stream
        #[arg(value_parser = name_parser())]
        stream: Name,
        /// Name of the subscription
        #[arg(value_parser = name_parser())]
        name: Name,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Change settings of a shared subscription that is there.
    #[command(after_help = ALTER_SUBSCRIPTION_AFTER)]
    Alter(AlterSubscriptionArgs),
    /// Give up the messages that are there and that nobody has: skip to the end.
    #[command(after_help = SUBSCRIPTION_PURGE_AFTER)]
    Purge {
        /// Name of the stream
        #[arg(value_parser = name_parser())]
        stream: Name,
        /// Name of the subscription
        #[arg(value_parser = name_parser())]
        name: Name,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Delete a subscription that nobody has open.
    #[command(after_help = "Examples:\n  ringway subscription delete orders billing")]
    Delete {
        /// Name of the stream
        #[arg(value_parser = name_parser())]
        stream: Name,
        /// Name of the subscription
        #[arg(value_parser = name_parser())]
        name: Name,
    },
}

/// `--mode`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// In order, to one consumer at a time for each partition
    Cursor,
    /// Each to one of any number of consumers, who ack them one by one
    Shared,
}

/// `--from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Start {
    /// At the oldest message that is still there
    First,
    /// Behind the newest message
    Next,
}

impl From<Start> for StartAt {
    fn from(start: Start) -> Self {
        match start {
            Start::First => Self::First,
            Start::Next => Self::Next,
        }
    }
}
