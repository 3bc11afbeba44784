//! `ringway pub`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringway_client::Value;
use ringway_shm_protocol::name::Name;

use super::stream::DurabilityArg;
use super::values::{duration, name_parser, number, rate};

pub(super) const PUB_USAGE: &str = "\
ringway pub [OPTIONS] <STREAM> <PAYLOAD>
       ringway pub [OPTIONS] <STREAM> --lines <FILE|->
       ringway pub [OPTIONS] <STREAM> --count <N> [--size <B>]";

pub(super) const PUB_AFTER: &str = "\
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
    #[arg(long, value_name = "N", value_parser = number::<u64>)]
    pub(crate) count: Option<u64>,
    /// Bytes of a generated message
    #[arg(long, value_name = "B", default_value_t = 64, conflicts_with_all = ["payload", "lines"], value_parser = number::<usize>)]
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
