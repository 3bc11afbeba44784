//! The arguments of `ringway` and their help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ringway_broker::keeper::{BROKER_COMMAND, KEEPER_COMMAND};
use ringway_client::{
    Backoff, CAPACITY_DEFAULT, CursorSettings, Durability, Overflow, PAYLOAD_BYTES_MAX_DEFAULT, Producers,
    SLOT_BYTES_DEFAULT, SharedSettings, StartAt, StreamKind, Value, Visibility, WaitStrategy,
};
use ringway_shm_protocol::name::Name;
use serde::Serialize;

use crate::exit::EXIT_CODES;

/// A message broker for one host.
///
/// Start a broker with `ringway serve`, or see all of it at work with `ringway demo`, which needs nothing else.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, after_help = format!("{MAIN_EXAMPLES}\n\n{EXIT_CODES}"), max_term_width = 110)]
#[command(propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Directory of the broker [default: $RINGWAY_DIR, else $XDG_RUNTIME_DIR/ringway, else /run/ringway for root,
    /// else /tmp/ringway-UID]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const MAIN_EXAMPLES: &str = "\
Examples:
  ringway serve &
  ringway stream create orders
  ringway sub orders --subscription billing &
  ringway pub orders 'one message'
  ringway stop
  ringway demo";

/// What `ringway` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker until Ctrl-C, SIGTERM or `ringway stop`.
    #[command(after_help = SERVE_AFTER)]
    Serve(ServeArgs),
    /// End the broker and wait until it is gone.
    #[command(after_help = STOP_AFTER)]
    Stop(StopArgs),
    /// Make, show and delete streams.
    #[command(subcommand, after_help = STREAM_AFTER)]
    Stream(StreamCommand),
    /// Make, show and delete subscriptions.
    #[command(subcommand, after_help = SUBSCRIPTION_AFTER)]
    Subscription(SubscriptionCommand),
    /// Publish messages to a stream.
    #[command(after_help = PUB_AFTER, override_usage = PUB_USAGE)]
    Pub(PubArgs),
    /// Print the messages of a queue, or of a stream as one of its subscriptions.
    #[command(after_help = SUB_AFTER)]
    Sub(SubArgs),
    /// Look at journals: list, show, verify, also beside a running broker; salvage what is left of a damaged one.
    #[command(after_help = JOURNAL_AFTER)]
    Journal(JournalArgs),
    /// Show everything at work in one go: a broker, a producer, two consumers, the lines of a real file.
    #[command(after_help = DEMO_AFTER)]
    Demo(DemoArgs),
    /// The broker of `ringway serve`, with its keeper at standard input.
    #[command(hide = true, name = BROKER_COMMAND)]
    Broker,
    /// Another keeper for such a broker, which is at standard input.
    #[command(hide = true, name = KEEPER_COMMAND)]
    Keeper,
    /// The producer of `ringway demo`.
    #[command(hide = true)]
    DemoProducer(DemoProducerArgs),
    /// A consumer of `ringway demo`.
    #[command(hide = true)]
    DemoConsumer(DemoConsumerArgs),
    /// A consumer of the queue of `ringway demo`.
    #[command(hide = true)]
    DemoWorker(DemoWorkerArgs),
}

const SERVE_AFTER: &str = "\
When it is ready it prints one line to standard output: \"ringway: serving DIR (pid N, shards on cores …)\". It ends
with exit code 0 and leaves nothing behind.

The broker is a child of this process, which keeps what it holds: a broker that is killed is succeeded at once, and nothing is
lost. If this process is killed, the broker starts another such keeper; end both with: ringway stop

Examples:
  ringway serve
  ringway serve --dir /tmp/mine --config ringway.toml
  ringway serve --data /srv/ringway";

/// Arguments of `ringway serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Settings of the broker, a TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the journals of durable streams [default: DIR/data with --dir or a configured directory; else
    /// /var/lib/ringway for root, else $XDG_STATE_HOME/ringway, else ~/.local/state/ringway]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// End when this process, the parent, ends
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) end_with_parent: Option<u32>,
}

const STOP_AFTER: &str = "\
Examples:
  ringway stop
  ringway stop --dir /tmp/mine --timeout 30s";

/// Arguments of `ringway stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// How long to wait for the broker's end: 500ms, 2s, 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

const STREAM_AFTER: &str = "\
Examples:
  ringway stream create orders
  ringway stream create jobs --kind queue
  ringway stream list
  ringway stream show orders --json
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
        #[arg(long, value_name = "N", default_value_t = 1)]
        partitions: u32,
        /// Messages that the stream holds for its slowest subscription: a power of two
        #[arg(long, value_name = "N", default_value_t = CAPACITY_DEFAULT)]
        slots: u64,
        /// Bytes of a slot, a power of two from 64 to 4096: messages of up to 16 bytes less are kept in it, longer ones
        /// beside it
        #[arg(long, value_name = "B", default_value_t = SLOT_BYTES_DEFAULT)]
        slot_size: u32,
        /// Bytes of the longest message, at most what the broker is configured for
        #[arg(long, value_name = "B", default_value_t = PAYLOAD_BYTES_MAX_DEFAULT)]
        max_payload: u32,
        /// Who may publish: any number of producers, or one at a time, which is a little faster
        #[arg(long, value_enum, default_value = "shared")]
        producers: ProducersArg,
        /// What happens when it is full: `block` (producers wait), `reject` (publishing fails), `drop-oldest` (who has
        /// not consumed it misses it), or `detach=TIME` (a subscription that holds a producer up for so long is detached)
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
    #[arg(long, value_name = "N")]
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
    #[arg(long, value_name = "PERCENT")]
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

const STREAM_CREATE_AFTER: &str = "\
Examples:
  ringway stream create orders
  ringway stream create jobs --kind queue --lease 5m --max-attempts 5 --backoff 1s
  ringway stream create ticks --slots 65536 --slot-size 64 --producers exclusive
  ringway stream create accounts --partitions 8
  ringway stream create frames --slots 64 --max-payload 8388608 --overflow drop-oldest
  ringway stream create events --overflow detach=2s
  ringway stream create payments --durability synced";

const SUBSCRIPTION_AFTER: &str = "\
Examples:
  ringway subscription create orders billing --from first
  ringway subscription list orders
  ringway subscription show orders billing --json
  ringway subscription delete orders billing";

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

const PUB_USAGE: &str = "\
ringway pub [OPTIONS] <STREAM> <PAYLOAD>
       ringway pub [OPTIONS] <STREAM> --lines <FILE|->
       ringway pub [OPTIONS] <STREAM> --count <N> [--size <B>]";

const PUB_AFTER: &str = "\
While the stream is full it waits for the slowest subscription. At the end it says on standard error how many
messages were published, and at which positions.

Examples:
  ringway pub orders 'one message'
  ringway pub orders --lines orders.txt
  tail -f app.log | ringway pub logs --lines -
  ringway pub orders --count 1000000 --size 100 --rate 50000
  ringway pub orders --count 1000000 --timeout 2s
  ringway pub readings 'the last of the day' --durability synced
  ringway pub orders --lines orders.txt --name import-2026-11
  ringway pub orders 'two teas' --key customer-7 --attribute urgent=true --attribute table=12 --reply-to receipts";

/// Arguments of `ringway pub`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["payload", "lines", "count"]))]
pub(crate) struct PubArgs {
    /// Name of the stream
    #[arg(value_parser = name_parser())]
    pub(crate) stream: Name,
    /// One message: any bytes
    pub(crate) payload: Option<OsString>,
    /// One message per line of this file (any bytes, without the newline); - is standard input
    #[arg(long, value_name = "FILE|-")]
    pub(crate) lines: Option<PathBuf>,
    /// This many generated messages: a counter from 0, filled up to --size
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Bytes of a generated message
    #[arg(long, value_name = "B", default_value_t = 64, conflicts_with_all = ["payload", "lines"])]
    pub(crate) size: usize,
    /// Publish under this name: lines, or generated messages, that the stream has got under it before are left out, so that a
    /// command that was killed can be given again
    #[arg(long, value_name = "NAME", value_parser = name_parser())]
    pub(crate) name: Option<Name>,
    /// Wait for at least this durability, where the stream's is lower
    #[arg(long, value_enum)]
    pub(crate) durability: Option<DurabilityArg>,
    /// Messages per second at the most, evenly spread [default: as fast as it goes]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Key of the messages: messages of one key stay in order
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<OsString>,
    /// A typed attribute: true and false, integers, decimal fractions, or else text; may be given again
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    pub(crate) attributes: Vec<(String, AttributeValue)>,
    /// What a reply has to name
    #[arg(long, value_name = "ID")]
    pub(crate) correlation: Option<OsString>,
    /// Stream where a reply is expected
    #[arg(long, value_name = "STREAM", value_parser = name_parser())]
    pub(crate) reply_to: Option<Name>,
    /// Send the time along
    #[arg(long)]
    pub(crate) timestamp: bool,
    /// Give up (exit code 4) when the stream has been full for this long: 500ms, 2s, 1m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

const SUB_AFTER: &str = "\
Of a queue it takes messages; of a topic it reads as a subscription, which is made as a cursor if it is not there; one
that is there goes on where it was. A message is consumed, or acked, once it has been printed, and never before. Formats:
  raw   the message as it is, and a newline
  json  {\"partition\":0,\"position\":7,\"payload\":\"text\"}; a message that is no UTF-8 has \"payload_hex\" instead; what it says about
        itself is there if it has it: timestamp_ns, key, correlation (or key_hex …), reply_to, attributes; of a
        queue also which delivery it is: attempt
  hex   the position (partition:position if there are several), a blank, and the message in hexadecimal

Examples:
  ringway sub orders --subscription billing
  ringway sub orders --subscription audit --from first --format json
  ringway sub orders --subscription billing --count 10 --timeout 2s
  ringway sub jobs
  ringway sub jobs --count 1 --no-ack --release";

/// Arguments of `ringway sub`.
#[derive(Debug, Args)]
pub(crate) struct SubArgs {
    /// Name of the stream
    #[arg(value_parser = name_parser())]
    pub(crate) stream: Name,
    /// Name of the subscription; a queue has but one
    #[arg(long, value_name = "NAME", value_parser = name_parser())]
    pub(crate) subscription: Option<Name>,
    /// Do not ack what was printed: it stays leased while this command runs, and its end counts as a failed attempt
    #[arg(long)]
    pub(crate) no_ack: bool,
    /// With --no-ack: at the end, give what was printed back untouched
    #[arg(long, requires = "no_ack")]
    pub(crate) release: bool,
    /// Where the subscription starts if it is new: at the oldest message that is still there, or behind the newest
    #[arg(long, value_enum, default_value = "next")]
    pub(crate) from: Start,
    /// End after this many messages [default: go on until Ctrl-C]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End after this time in all (500ms, 2s, 1m): exit code 4 if --count was not reached, else 0
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// How messages are printed
    #[arg(long, value_enum, default_value = "raw")]
    pub(crate) format: Format,
}

const JOURNAL_AFTER: &str = "\
Examples:
  ringway journal ls --data /srv/ringway
  ringway journal show --stream payments --position 100..200
  ringway journal show --since 10m --format json
  ringway journal verify
  ringway journal salvage --data /srv/ringway --into /srv/ringway-salvaged";

const JOURNAL_SHOW_AFTER: &str = "\
Examples:
  ringway journal show --stream payments
  ringway journal show --stream payments --position 100..200 --format raw
  ringway journal show --since 2026-01-31T12:00:00Z --until 1h --format json";

/// Arguments of `ringway journal`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct JournalArgs {
    /// Directory of the journals [default: DIR/data with --dir; else /var/lib/ringway for root, else
    /// $XDG_STATE_HOME/ringway, else ~/.local/state/ringway]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: JournalCommand,
}

/// What can be done with journals.
#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// List the files of each shard's journal, and the streams that it knows.
    #[command(
        after_help = "Examples:\n  ringway journal ls\n  ringway journal ls --data /srv/ringway --json"
    )]
    Ls {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Print the messages that the log has, in the order that they were written in.
    ///
    /// A line is: when it was written, its record (LSN), the stream, partition:position, bytes of the payload, and its beginning.
    /// Exit code 1 means that something confirmed is missing; what is whole is printed all the same.
    #[command(after_help = JOURNAL_SHOW_AFTER)]
    Show(JournalShowArgs),
    /// Make a new data directory of all that can still be read.
    ///
    /// The old one is not changed; no broker may be at work there. What is lost is said; everything else is as it was, positions
    /// too. Start a broker with `--data` and the new directory to go on.
    #[command(
        after_help = "Examples:\n  ringway journal salvage --data /srv/ringway --into /srv/ringway-salvaged"
    )]
    Salvage {
        /// The new directory: empty, or not there yet
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Read all of it and check that everything is there that was confirmed: exit code 1 if not.
    #[command(
        after_help = "Examples:\n  ringway journal verify\n  ringway journal verify --data /srv/ringway --json"
    )]
    Verify {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `ringway journal show`.
#[derive(Debug, Args)]
pub(crate) struct JournalShowArgs {
    /// Only of this stream
    #[arg(long, value_parser = name_parser())]
    pub(crate) stream: Option<Name>,
    /// Only of this partition
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u32>,
    /// Only at this position, or from the first up to and without the second: 7, 100..200, 100..
    #[arg(long, value_name = "A[..B]", value_parser = positions)]
    pub(crate) position: Option<std::ops::Range<u64>>,
    /// Only what was written since then: a time (2026-01-31T12:00:00Z), or how long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<u64>,
    /// Only what was written before then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<u64>,
    /// Only of this shard
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<u32>,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// How messages are printed
    #[arg(long, value_enum, default_value = "line")]
    pub(crate) format: JournalFormat,
}

/// `--format` of `ringway journal show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum JournalFormat {
    /// One line: where it is, and how it begins
    Line,
    /// The message as it is, and a newline
    Raw,
    /// One JSON object per message
    Json,
}

const DEMO_AFTER: &str = "\
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

/// `--mode`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// In order, to one consumer at a time for each partition
    Cursor,
    /// Each to one of any number of consumers, who ack them one by one
    Shared,
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

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The message as it is, and a newline
    Raw,
    /// One JSON object per message
    Json,
    /// The position and the message in hexadecimal
    Hex,
}

/// A name is checked here, so that one that cannot be is a usage error that says what is wrong with it.
fn name_parser() -> impl TypedValueParser<Value = Name> {
    OsStringValueParser::new().try_map(|text| Name::parse(text.as_encoded_bytes()))
}

/// The value of `--attribute`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AttributeValue {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl<'a> From<&'a AttributeValue> for Value<'a> {
    fn from(value: &'a AttributeValue) -> Self {
        match value {
            AttributeValue::Bool(value) => Self::Bool(*value),
            AttributeValue::Integer(value) => Self::Integer(*value),
            AttributeValue::Float(value) => Self::Float(*value),
            AttributeValue::Text(value) => value.as_str().into(),
        }
    }
}

fn attribute(text: &str) -> Result<(String, AttributeValue), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("an attribute is written NAME=VALUE".to_owned());
    };
    let value = if let Ok(value) = value.parse() {
        AttributeValue::Bool(value)
    } else if let Ok(value) = value.parse() {
        AttributeValue::Integer(value)
    } else if value.contains('.')
        && let Ok(value) = value.parse()
    {
        AttributeValue::Float(value)
    } else {
        AttributeValue::Text(value.to_owned())
    };
    Ok((name.to_owned(), value))
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 500ms, 2s or 1m30s"))
}

fn milliseconds(text: &str) -> Result<u32, String> {
    duration(text)?.as_millis().try_into().map_err(|_| "the time must be below 49 days".to_owned())
}

/// In percent.
fn factor(text: &str) -> Result<u32, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=100.0).contains(&factor) => Ok((factor * 100.0).round() as u32),
        _ => Err("the factor must be a number from 1 to 100".into()),
    }
}

fn overflow(text: &str) -> Result<Overflow, String> {
    match text.split_once('=') {
        None if text == "block" => Ok(Overflow::Block),
        None if text == "reject" => Ok(Overflow::Reject),
        None if text == "drop-oldest" => Ok(Overflow::DropOldest),
        Some(("detach", time)) => {
            let after_ms = duration(time)?.as_millis().try_into();
            let after_ms = after_ms.map_err(|_| "the time must be below 49 days".to_owned())?;
            Ok(Overflow::Detach { after_ms })
        }
        _ => Err("it must be block, reject, drop-oldest or detach=TIME (detach=2s)".into()),
    }
}

fn positions(text: &str) -> Result<std::ops::Range<u64>, String> {
    let number =
        |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?} is no position: {error}"));
    match text.split_once("..") {
        None => number(text).map(|position| position..position.saturating_add(1)),
        Some((first, "")) => number(first).map(|first| first..u64::MAX),
        Some((first, end)) => Ok(number(first)?..number(end)?),
    }
}

/// In nanoseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    let ago = || duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    let time = humantime::parse_rfc3339_weak(text).ok().or_else(ago);
    let since_1970 = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let since_1970 = since_1970.and_then(|since| u64::try_from(since.as_nanos()).ok());
    since_1970.ok_or_else(|| "write a time like 2026-01-31T12:00:00Z, or how long ago: 90s, 10m".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        _ => Err("the rate must be a number above 0".into()),
    }
}
