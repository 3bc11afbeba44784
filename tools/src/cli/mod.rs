//! The arguments of `ringway` and their help.

mod altering;
mod bench;
mod demo;
mod doctor;
mod inspect;
mod journal;
mod manual;
mod moving;
mod peek;
mod publish;
mod serve;
mod stream;
mod subscribe;
mod subscription;
mod top;
mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ringway_broker::keeper::{BROKER_COMMAND, KEEPER_COMMAND};

pub(crate) use self::altering::{AlterStreamArgs, AlterSubscriptionArgs};
pub(crate) use self::bench::{
    BenchArgs, BenchCommand, BenchRoleArgs, BenchSweeperArgs, BenchWait, Common, Paced,
};
pub(crate) use self::demo::{DemoArgs, DemoConsumerArgs, DemoProducerArgs, DemoWorkerArgs, Wait};
pub(crate) use self::doctor::DoctorArgs;
pub(crate) use self::inspect::InspectArgs;
pub(crate) use self::journal::{JournalArgs, JournalCommand, JournalFormat, JournalShowArgs};
pub(crate) use self::manual::{CompletionsArgs, ManArgs};
pub(crate) use self::moving::{MoveArgs, MovingLimits, RedriveArgs};
pub(crate) use self::peek::{PeekArgs, PeekFormat, PeekState};
pub(crate) use self::publish::PubArgs;
pub(crate) use self::serve::{ServeArgs, StopArgs};
pub(crate) use self::stream::{Kind, SharedArgs, StreamCommand};
pub(crate) use self::subscribe::{Format, SubArgs};
pub(crate) use self::subscription::{Mode, SubscriptionCommand};
pub(crate) use self::top::TopArgs;
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
    #[command(after_help = serve::SERVE_AFTER)]
    Serve(ServeArgs),
    /// End the broker and wait until it is gone.
    #[command(after_help = serve::STOP_AFTER)]
    Stop(StopArgs),
    /// Make, show, alter, purge and delete streams, and move what is in them.
    #[command(subcommand, after_help = stream::STREAM_AFTER)]
    Stream(StreamCommand),
    /// Make, show, alter, purge and delete subscriptions.
    #[command(subcommand, after_help = subscription::SUBSCRIPTION_AFTER)]
    Subscription(SubscriptionCommand),
    /// Publish messages to a stream.
    #[command(after_help = publish::PUB_AFTER, override_usage = publish::PUB_USAGE)]
    Pub(PubArgs),
    /// Print the messages of a queue, or of a stream as one of its subscriptions.
    #[command(after_help = subscribe::SUB_AFTER)]
    Sub(SubArgs),
    /// Look into the memory of a stream: positions, gates, claims, leases, lots, arenas; also while its broker hangs.
    #[command(after_help = inspect::INSPECT_AFTER, override_usage = inspect::INSPECT_USAGE)]
    Inspect(InspectArgs),
    /// Print messages that wait, are leased, delayed or dead, without taking them.
    #[command(after_help = peek::PEEK_AFTER)]
    Peek(PeekArgs),
    /// Look at journals: list, show, verify, also beside a running broker; salvage what is left of a damaged one.
    #[command(after_help = journal::JOURNAL_AFTER)]
    Journal(JournalArgs),
    /// Watch a running broker: streams, rates, who is behind, shards.
    #[command(after_help = top::TOP_AFTER)]
    Top(TopArgs),
    /// Measure latency, throughput, waking, fan-out and queues between processes.
    #[command(after_help = bench::BENCH_AFTER)]
    Bench(BenchArgs),
    /// Check whether this machine is as Ringway wants it, and say how to make it so.
    #[command(after_help = doctor::DOCTOR_AFTER)]
    Doctor(DoctorArgs),
    /// Show everything at work in one go: a broker, a producer, two consumers, the lines of a real file.
    #[command(after_help = demo::DEMO_AFTER)]
    Demo(DemoArgs),
    /// Print the completions of a shell.
    #[command(after_help = manual::COMPLETIONS_AFTER)]
    Completions(CompletionsArgs),
    /// Write a manual page for each command.
    #[command(after_help = manual::MAN_AFTER)]
    Man(ManArgs),
    /// The broker of `ringway serve`, with its keeper at standard input.
    #[command(hide = true, name = BROKER_COMMAND)]
    Broker,
    /// Another keeper for such a broker, which is at standard input.
    #[command(hide = true, name = KEEPER_COMMAND)]
    Keeper,
    /// A producer or a consumer of `ringway bench`.
    #[command(hide = true)]
    BenchRole(BenchRoleArgs),
    /// Removes what `ringway bench` has made.
    #[command(hide = true)]
    BenchSweeper(BenchSweeperArgs),
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
