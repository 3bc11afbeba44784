//! `ringway stream alter` and `ringway subscription alter`.
//!
//! What never changes is an option, too, though not in the help: the broker says why, and what to do.

use clap::Args;
use ringway_client::{Overflow, StreamChanges, SubscriptionChanges};
use ringway_shm_protocol::name::Name;

use super::stream::{DurabilityArg, ProducersArg, VisibilityArg};
use super::values::{factor, milliseconds, name_parser, overflow};

pub(super) const ALTER_STREAM_AFTER: &str = "\
Only what is said changes; all of it, or nothing. It is as durable as the stream when this returns, and the stream is declared so from
then on. Messages that are leased keep their leases, those that wait come when they were to come, and what is dead stays dead. Partitions,
slots, durability and who may publish never change: make another stream, and move the messages there (ringway stream move).

Examples:
  ringway stream alter jobs --lease 5m --max-attempts 5
  ringway stream alter jobs --dead-letter jobs.unpaid --json
  ringway stream alter orders --overflow reject
  ringway stream alter events --overflow detach=5s --max-payload 65536";

pub(super) const ALTER_SUBSCRIPTION_AFTER: &str = "\
Only what is said changes; all of it, or nothing. It is as durable as the stream when this returns, and the subscription is declared so
from then on. Messages that are leased keep their leases, those that wait come when they were to come, and what is dead stays dead.

Examples:
  ringway subscription alter orders packing --lease 10m
  ringway subscription alter orders packing --backoff 1s --backoff-max 1m --json
  ringway subscription alter jobs jobs --no-dead-letter";

/// Arguments of `ringway stream alter`.
#[derive(Debug, Args)]
pub(crate) struct AlterStreamArgs {
    /// Name of the stream
    #[arg(value_parser = name_parser())]
    pub(crate) name: Name,
    /// Bytes of the longest message, at most what the broker is configured for; while nobody publishes
    #[arg(long, value_name = "B")]
    max_payload: Option<u32>,
    /// What happens when it is full: `reject` instead of `block`, and the other way round, or another time of `detach=TIME`; while
    /// nobody publishes
    #[arg(long, value_name = "POLICY", value_parser = overflow)]
    overflow: Option<Overflow>,
    #[arg(long, hide = true)]
    partitions: Option<u32>,
    #[arg(long, hide = true)]
    slots: Option<u64>,
    #[arg(long, hide = true)]
    slot_size: Option<u32>,
    #[arg(long, hide = true, value_enum)]
    producers: Option<ProducersArg>,
    #[arg(long, hide = true, value_enum)]
    durability: Option<DurabilityArg>,
    #[command(flatten)]
    pub(crate) shared: AlterSharedArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl AlterStreamArgs {
    /// What changes of the stream.
    pub(crate) fn changes(&self) -> StreamChanges {
        StreamChanges {
            partitions: self.partitions,
            slots: self.slots,
            slot_bytes: self.slot_size,
            payload_bytes_max: self.max_payload,
            producers: self.producers.map(Into::into),
            overflow: self.overflow,
            durability: self.durability.map(Into::into),
        }
    }
}

/// Arguments of `ringway subscription alter`.
#[derive(Debug, Args)]
pub(crate) struct AlterSubscriptionArgs {
    /// Name of the stream
    #[arg(value_parser = name_parser())]
    pub(crate) stream: Name,
    /// Name of the subscription
    #[arg(value_parser = name_parser())]
    pub(crate) name: Name,
    #[command(flatten)]
    pub(crate) shared: AlterSharedArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What changes of a queue, or of a `shared` subscription.
#[derive(Debug, Args)]
#[command(next_help_heading = "Queues and shared subscriptions")]
pub(crate) struct AlterSharedArgs {
    /// How long a consumer may keep a message before another one gets it, 12h at the most
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    lease: Option<u32>,
    /// A message that has failed so often is dead, when it fails the next time; 0: never
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// How long a message waits after its first failure
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    backoff: Option<u32>,
    /// What each further failure multiplies the wait by, 1 to 100
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    backoff_multiplier: Option<u32>,
    /// The longest wait, 12h at the most
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    backoff_max: Option<u32>,
    /// Shorten each wait by up to so many percent
    #[arg(long, value_name = "PERCENT")]
    backoff_jitter: Option<u32>,
    /// Stream for dead messages, those that wait included; they wait until it is there
    #[arg(long, value_name = "STREAM", value_parser = name_parser())]
    dead_letter: Option<Name>,
    /// Drop dead messages, those that wait included
    #[arg(long, conflicts_with = "dead_letter")]
    no_dead_letter: bool,
    /// Give messages to one consumer at a time, or (`=false`) to all; while there is none
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    single_active: Option<bool>,
    #[arg(long, hide = true, value_enum)]
    visibility: Option<VisibilityArg>,
}

impl AlterSharedArgs {
    /// What changes of the subscription.
    pub(crate) fn changes(&self) -> SubscriptionChanges {
        let named = self.dead_letter.as_ref().map(|name| Some(name.to_string()));
        SubscriptionChanges {
            lease_ms: self.lease,
            attempts_max: self.max_attempts,
            backoff_initial_ms: self.backoff,
            backoff_multiplier_percent: self.backoff_multiplier,
            backoff_max_ms: self.backoff_max,
            backoff_jitter_percent: self.backoff_jitter,
            dead_letter: named.or_else(|| self.no_dead_letter.then_some(None)),
            single_active: self.single_active,
            visibility: self.visibility.map(Into::into),
        }
    }
}
