//! `ringway journal`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ringway_shm_protocol::name::Name;

use super::values::{moment, name_parser, number, positions};

pub(super) const JOURNAL_AFTER: &str = "\
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
    #[arg(long, value_name = "N", value_parser = number::<u32>)]
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
    #[arg(long, value_name = "N", value_parser = number::<u32>)]
    pub(crate) shard: Option<u32>,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = number::<u64>)]
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
