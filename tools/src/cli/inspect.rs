//! `ringway inspect`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringway_shm_protocol::name::Name;

use super::values::{self, name_parser, number};

pub(super) const INSPECT_USAGE: &str = "\
ringway inspect [OPTIONS] <STREAM>
       ringway inspect [OPTIONS] <STREAM> slot <P>
       ringway inspect [OPTIONS] --from-dump <FILE> [STREAM [slot <P>]]";

pub(super) const INSPECT_AFTER: &str = "\
What is shown comes from the keeper, by descriptors that cannot be written to: the broker is not asked, and may be stopped; nobody
who publishes or consumes notices. Parts that are read one after another need not be of the same moment.

In the map of a shared subscription each character is a range of positions from its floor to the end, and stands for the most
urgent thing in it: L leased, m being taken over, . free, + in the lot, or was, # settled.

A dump has all messages of the partitions that are in it, and the names of all streams; its file is readable to its owner only.

Examples:
  ringway inspect orders
  ringway inspect orders --partition 3 --json
  ringway inspect jobs --watch
  ringway inspect jobs --watch 200ms
  ringway inspect orders slot 1041
  ringway inspect orders --dump /tmp/orders.dump
  ringway inspect --from-dump /tmp/orders.dump";

/// Arguments of `ringway inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Name of the stream
    #[arg(value_parser = name_parser(), required_unless_present = "from_dump")]
    pub(crate) stream: Option<Name>,
    /// A part of it: the slot of a position, in hexadecimal
    #[arg(value_enum, requires = "position")]
    pub(crate) part: Option<Part>,
    /// The position
    #[arg(value_name = "P", value_parser = number::<u64>)]
    pub(crate) position: Option<u64>,
    /// Only this partition [default: all; for a slot: 0]
    #[arg(long, value_name = "N", value_parser = number::<u32>)]
    pub(crate) partition: Option<u32>,
    /// Print one JSON array; with --watch one a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it anew again and again, 20ms apart at the least, with what has happened in a second, until Ctrl-C
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s", value_parser = interval)]
    #[arg(conflicts_with_all = ["part", "dump", "from_dump"])]
    pub(crate) watch: Option<Duration>,
    /// Write all regions to this file, which must not be there yet
    #[arg(long, value_name = "FILE", conflicts_with_all = ["part", "json", "from_dump"])]
    pub(crate) dump: Option<PathBuf>,
    /// Show what --dump has written to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) from_dump: Option<PathBuf>,
}

fn interval(text: &str) -> Result<Duration, String> {
    values::interval(text, Duration::from_millis(20))
}

/// What of a stream is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The slot of a position
    Slot,
}
