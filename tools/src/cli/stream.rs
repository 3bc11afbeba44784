//! `ringway stream`.

use clap::{Args, Subcommand, ValueEnum};
use ringway_client::{
    Backoff, CAPACITY_DEFAULT, CursorSettings, Durability, Overflow, PAYLOAD_BYTES_MAX_DEFAULT, Producers,
    SLOT_BYTES_DEFAULT, SharedSettings, StreamKind, Visibility,
};
use ringway_shm_protocol::name::Name;

use super::altering::{ALTER_STREAM_AFTER, AlterStreamArgs};
use super::moving::{MOVE_AFTER, MoveArgs, REDRIVE_AFTER, RedriveArgs};
use super::values::{factor, milliseconds, name_parser, number, overflow};

pub(super) const STREAM_AFTER: &str = "\
Examples:
  ringway stream create orders
  ringway stream create jobs --kind queue
  ringway stream list
  ringway stream show orders --json
  ringway stream alter jobs --lease 5m
  ringway stream purge jobs
  ringway stream redrive jobs.dead
  ringway stream delete orders";

/// What can be done with streams.
#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// Make a stream, or confirm that it is there with these settings.
    #[command(after_help = STREAM_CREATE_AFTER)]
    Create {
        /// Name of the stream
        #[arg(value_parser = name_parser())]
        name: Name,
        /// What kind of stream
        #[arg(long, value_enum, default_value = "topic")]
        kind: Kind,
        /// Partitions: each has a ring of its own and is in order by itself; 1 to 64
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = number::<u32>)]
        partitions: u32,
        /// Messages that the stream holds for its slowest subscription: a power of two
        #[arg(long, value_name = "N", default_value_t = CAPACITY_DEFAULT, value_parser = number::<u64>)]
        slots: u64,
        /// Bytes of a slot, a power of two from 64 to 4096: messages of up to 16 bytes less are kept in it, longer ones
        /// beside it
        #[arg(long, value_name = "B", default_value_t = SLOT_BYTES_DEFAULT, value_parser = number::<u32>)]
        slot_size: u32,
        /// Bytes of the longest message, at most what the broker is configured for
        #[arg(long, value_name = "B", default_value_t = PAYLOAD_BYTES_MAX_DEFAULT, value_parser = number::<u32>)]
        max_payload: u32,
        /// Who may publish: any number of producers, or one at a time, which is a little faster
        #[arg(long, value_enum, default_value = "shared")]
        producers: ProducersArg,
        /// What happens when it is full: `block` (producers wait), `reject` (publishing fails), `drop-oldest` (who has
        /// not consumed it misses it), or `detach=TIME` (a subscription that holds a producer up for so long is detached; if
        /// the stream is durable it gets what it has not consumed from the journal)
        #[arg(long, value_name = "POLICY", default_value = "block", value_parser = overflow)]
        overflow: Overflow,
        /// What confirmed messages survive: the broker's death (`memory`), and the host's but for the last 10 ms (`written`) or
        /// altogether (`synced`) [default: memory; for a queue synced]
        #[arg(long, value_enum, value_name = "LEVEL")]
        durability: Option<DurabilityArg>,
        #[command(flatten)]
        shared: SharedArgs,
    },
    /// List all streams.
    #[command(after_help = "Examples:\n  ringway stream list\n  ringway stream list --json")]
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one stream.
    #[command(after_help = "Examples:\n  ringway stream show orders\n  ringway stream show orders --json")]
    Show {
        /// Name of the stream
        #[arg(value_parser = name_parser())]
        name: Name,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Change settings of a stream, or of a queue, that is there.
    #[command(after_help = ALTER_STREAM_AFTER)]
    Alter(AlterStreamArgs),
    /// Give up, for all subscriptions, the messages that are there and that nobody has.
    #[command(after_help = STREAM_PURGE_AFTER)]
    Purge {
        /// Name of the stream
        #[arg(value_parser = name_parser())]
        name: Name,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Move the messages of a queue to another stream.
    #[command(after_help = MOVE_AFTER)]
    Move(MoveArgs),
    /// Move dead letters back to where they came from.
    #[command(after_help = REDRIVE_AFTER)]
    Redrive(RedriveArgs),
    /// Delete a stream that nobody has open, with its subscriptions and messages.
    #[command(after_help = "Examples:\n  ringway stream delete orders")]
    Delete {
        /// Name of the stream
        #[arg(value_parser = name_parser())]
        name: Name,
    },
}

/// What confirmed messages survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityArg {
    /// The death of any process.
    Memory,
    /// And the host's, but for what was handed to the kernel last.
    Written,
    /// And the host's.
    Synced,
}

impl From<DurabilityArg> for Durability {
    fn from(level: DurabilityArg) -> Self {
        match level {
            DurabilityArg::Memory => Self::Memory,
            DurabilityArg::Written => Self::Written,
            DurabilityArg::Synced => Self::Synced,
        }
    }
}

/// Which messages a subscription delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum VisibilityArg {
    /// Every message at once.
    #[default]
    Committed,
    /// Only what is on the device.
    Durable,
}

impl From<VisibilityArg> for Visibility {
    fn from(visibility: VisibilityArg) -> Self {
        match visibility {
            VisibilityArg::Committed => Self::Committed,
            VisibilityArg::Durable => Self::Durable,
        }
    }
}

/// How a queue, or a `shared` subscription, gives its messages out.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Queues and shared subscriptions")]
pub(crate) struct SharedArgs {
    /// How long a consumer may keep a message before another one gets it, 12h at the most [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    pub(crate) lease: Option<u32>,
    /// A message that has failed so often is dead; 0: never [default: 20]
    #[arg(long, value_name = "N", value_parser = number::<u32>)]
    pub(crate) max_attempts: Option<u32>,
    /// How long a message waits after its first failure [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    pub(crate) backoff: Option<u32>,
    /// What each further failure multiplies the wait by, 1 to 100 [default: 2]
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    pub(crate) backoff_multiplier: Option<u32>,
    /// The longest wait, 12h at the most [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    pub(crate) backoff_max: Option<u32>,
    /// Shorten each wait by up to so many percent, so that what failed together does not come back together [default: 0]
    #[arg(long, value_name = "PERCENT", value_parser = number::<u32>)]
    pub(crate) backoff_jitter: Option<u32>,
    /// Stream for dead messages; they wait until it is there [default: for a queue NAME.dead, which is made; for a
    /// subscription none: they are dropped]
    #[arg(long, value_name = "STREAM", value_parser = name_parser())]
    pub(crate) dead_letter: Option<Name>,
    /// Drop dead messages
    #[arg(long, conflicts_with = "dead_letter")]
    pub(crate) no_dead_letter: bool,
    /// Give messages to one consumer at a time, to the next when it ends
    #[arg(long)]
    pub(crate) single_active: bool,
    /// Deliver every message at once, or only what is on the device (for a subscription of either mode) [default: committed]
    #[arg(long, value_enum)]
    pub(crate) visibility: Option<VisibilityArg>,
}

impl SharedArgs {
    /// The first option that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            (self.lease.is_some(), "--lease"),
            (self.max_attempts.is_some(), "--max-attempts"),
            (self.backoff.is_some(), "--backoff"),
            (self.backoff_multiplier.is_some(), "--backoff-multiplier"),
            (self.backoff_max.is_some(), "--backoff-max"),
            (self.backoff_jitter.is_some(), "--backoff-jitter"),
            (self.dead_letter.is_some(), "--dead-letter"),
            (self.no_dead_letter, "--no-dead-letter"),
            (self.single_active, "--single-active"),
            (self.visibility.is_some(), "--visibility"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }

    /// The settings, with `dead_letter` where nothing is said about dead letters.
    pub(crate) fn settings(&self, dead_letter: Option<&Name>) -> SharedSettings {
        let usual = SharedSettings::default();
        let dead_letter = self.dead_letter.as_ref().or(dead_letter).filter(|_| !self.no_dead_letter);
        SharedSettings {
            lease_ms: self.lease.unwrap_or(usual.lease_ms),
            attempts_max: self.max_attempts.unwrap_or(usual.attempts_max),
            backoff: Backoff {
                initial_ms: self.backoff.unwrap_or(usual.backoff.initial_ms),
                multiplier_percent: self.backoff_multiplier.unwrap_or(usual.backoff.multiplier_percent),
                max_ms: self.backoff_max.unwrap_or(usual.backoff.max_ms),
                jitter_percent: self.backoff_jitter.unwrap_or(usual.backoff.jitter_percent),
            },
            dead_letter: dead_letter.map(Name::to_string),
            single_active: self.single_active,
            visibility: self.visibility.unwrap_or_default().into(),
        }
    }

    /// The settings of a `cursor` subscription, and what is left that does not go with one.
    pub(crate) fn of_cursor(self) -> (CursorSettings, Self) {
        let visibility = self.visibility.unwrap_or_default().into();
        (CursorSettings { visibility }, Self { visibility: None, ..self })
    }
}

const STREAM_PURGE_AFTER: &str = "\
Given up is what is ready, and what waits for a retry. What a consumer has leased stays its own, and comes again if it fails; what is
dead goes to the dead letters. Refused while an ordered subscription is read. It is as durable as the stream when this returns. A
message counts once for each subscription. Where there is none, nothing is given up: a stream keeps its last messages for whoever comes.

Examples:
  ringway stream purge jobs
  ringway stream purge orders --json";

const STREAM_CREATE_AFTER: &str = "\
Examples:
  ringway stream create orders
  ringway stream create jobs --kind queue --lease 5m --max-attempts 5 --backoff 1s
  ringway stream create ticks --slots 65536 --slot-size 64 --producers exclusive
  ringway stream create accounts --partitions 8
  ringway stream create frames --slots 64 --max-payload 8388608 --overflow drop-oldest
  ringway stream create events --overflow detach=2s
  ringway stream create payments --durability synced";

/// `--kind`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Any number of subscriptions; each gets every message
    Topic,
    /// Every message is kept until one of the consumers has acked it
    Queue,
}

impl From<Kind> for StreamKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Topic => Self::Topic,
            Kind::Queue => Self::Queue,
        }
    }
}

/// `--producers`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProducersArg {
    /// Any number at the same time
    Shared,
    /// One at a time
    Exclusive,
}

impl From<ProducersArg> for Producers {
    fn from(producers: ProducersArg) -> Self {
        match producers {
            ProducersArg::Shared => Self::Shared,
            ProducersArg::Exclusive => Self::Exclusive,
        }
    }
}
