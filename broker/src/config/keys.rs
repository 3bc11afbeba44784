//! The keys: one line each.

use std::fmt;

use ringway_shm_protocol::control::message::PAYLOAD_BYTES_MAX;
use serde::Serialize;

use super::{HELLO_TIMEOUT_MS_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

/// The ids that the kernel gives; the largest number means "none".
const ID_MAX: u64 = u32::MAX as u64 - 1;
/// An empty list, outside of the file.
const NONE: &str = "none";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Something that can be set.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it is for, in a line.
    pub help: &'static str,
}

/// What a value may be.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A path.
    Path,
    /// A number from here to there, both included.
    Number(u64, u64),
    /// A list of numbers up to this one.
    Numbers(u64),
    /// One of these.
    Choice(&'static [&'static str]),
    /// A level, or levels by parts of the program.
    Levels,
}

/// All keys; `directory` first, upon which the default of `data` depends.
pub static KEYS: [Key; 12] = [
    Key { name: "directory", kind: Kind::Path, help: "Directory of the control socket" },
    Key {
        name: "data",
        kind: Kind::Path,
        help: "Directory of the journals of durable streams [default: DIR/data with --dir or a configured directory; else \
               /var/lib/ringway for root, else $XDG_STATE_HOME/ringway, else ~/.local/state/ringway]",
    },
    Key {
        name: "cores",
        kind: Kind::Numbers(u16::MAX as u64),
        help: "Cores that shards are pinned to, one each (0,1) [default: the last that this process may use]",
    },
    Key {
        name: "sessions_max",
        kind: Kind::Number(1, u32::MAX as u64),
        help: "Most connections at the same time [default: 1024]",
    },
    Key {
        name: "hello_timeout_ms",
        kind: Kind::Number(1, HELLO_TIMEOUT_MS_MAX),
        help: "How long a connection may be silent before it says hello, in milliseconds [default: 5000]",
    },
    Key {
        name: "segment_bytes",
        kind: Kind::Number(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
        help: "Bytes of the files of a journal, a multiple of 4096 [default: 67108864]",
    },
    Key {
        name: "runtime",
        kind: Kind::Choice(&["auto", "io_uring", "threads"]),
        help: "What the shards run on: auto takes io_uring where it is allowed, else threads [default: auto]",
    },
    Key {
        name: "payload_bytes_max",
        kind: Kind::Number(1, PAYLOAD_BYTES_MAX as u64),
        help: "The largest payload that a stream may be declared with, in bytes [default: 16777216]",
    },
    Key {
        name: "allowed_uids",
        kind: Kind::Numbers(ID_MAX),
        help: "Users that may connect, by number (1000,1001), beside the broker's own and root [default: none]",
    },
    Key {
        name: "allowed_gids",
        kind: Kind::Numbers(ID_MAX),
        help: "Groups whose members may connect, by number [default: none]",
    },
    Key {
        name: "log",
        kind: Kind::Levels,
        help: "What is logged: off, error, warn, info, debug or trace, also for a part of the program: \
               warn,ringway_broker::journal=debug [default: warn]",
    },
    Key {
        name: "log_format",
        kind: Kind::Choice(&["human", "json"]),
        help: "How log lines look [default: human]",
    },
];

impl Key {
    /// Its variable in the environment.
    pub fn variable(&self) -> String {
        match self.name {
            "directory" => "RINGWAY_DIR".to_owned(),
            name => format!("RINGWAY_{}", name.to_ascii_uppercase()),
        }
    }

    /// Its option, without the dashes in front.
    pub fn flag(&self) -> String {
        match self.name {
            "directory" => "dir".to_owned(),
            name => name.replace('_', "-"),
        }
    }
}

/// What a key is set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A path, a choice, levels.
    Text(String),
    /// A number.
    Number(u64),
    /// A list of numbers.
    Numbers(Vec<u64>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Numbers(numbers) if numbers.is_empty() => f.write_str(NONE),
            Self::Numbers(numbers) => {
                f.write_str(&numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl Value {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => panic!("a setting is of its key's kind: text, not {self:?}"),
        }
    }

    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            _ => panic!("a setting is of its key's kind: a number, not {self:?}"),
        }
    }

    pub(super) fn numbers(&self) -> &[u64] {
        match self {
            Self::Numbers(numbers) => numbers,
            _ => panic!("a setting is of its key's kind: numbers, not {self:?}"),
        }
    }
}

impl Kind {
    /// The value that a variable or an option gives; `None`: it cannot be.
    pub(super) fn read(&self, text: &str) -> Option<Value> {
        let value = match self {
            Self::Path | Self::Choice(_) | Self::Levels => Value::Text(text.to_owned()),
            Self::Number(..) => Value::Number(text.trim().parse().ok()?),
            Self::Numbers(_) if text == NONE => Value::Numbers(Vec::new()),
            Self::Numbers(_) => {
                let numbers = text.split(',').map(|number| number.trim().parse().ok());
                Value::Numbers(numbers.collect::<Option<_>>()?)
            }
        };
        self.admits(&value).then_some(value)
    }

    /// Whether a value is of this kind.
    pub(super) fn admits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Path, Value::Text(path)) => !path.is_empty() && !path.contains('\0'),
            (Self::Choice(choices), Value::Text(text)) => choices.contains(&text.as_str()),
            (Self::Levels, Value::Text(text)) => text.split(',').all(is_level),
            (Self::Number(least, most), Value::Number(number)) => (least..=most).contains(&number),
            (Self::Numbers(most), Value::Numbers(numbers)) => numbers.iter().all(|number| number <= most),
            _ => false,
        }
    }
}

/// `warn`, or `ringway_broker::journal=debug`.
fn is_level(directive: &str) -> bool {
    match directive.split_once('=') {
        None => LEVELS.contains(&directive),
        Some((part, level)) => {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            !part.is_empty() && part.chars().all(is_name) && LEVELS.contains(&level)
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("a path"),
            Self::Number(least, most) => write!(f, "a number from {least} to {most}"),
            Self::Numbers(most) => write!(f, "a list of numbers from 0 to {most}"),
            Self::Choice(choices) => write!(f, "one of {}", choices.join(", ")),
            Self::Levels => {
                write!(f, "one of {}, or such for parts of the program (warn,PART=debug)", LEVELS.join(", "))
            }
        }
    }
}
