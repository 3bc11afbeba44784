//! `ringway sub`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ringway_shm_protocol::name::Name;

use super::subscription::Start;
use super::values::{duration, name_parser, number};

pub(super) const SUB_AFTER: &str = "\
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
    #[arg(long, value_name = "N", value_parser = number::<u64>)]
    pub(crate) count: Option<u64>,
    /// End after this time in all (500ms, 2s, 1m): exit code 4 if --count was not reached, else 0
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// How messages are printed
    #[arg(long, value_enum, default_value = "raw")]
    pub(crate) format: Format,
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
