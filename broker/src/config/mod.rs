//! The broker's configuration: a TOML file, over which the environment goes, over which the command's options go.
//!
//! ```toml
//! directory = "/run/ringway"   # where the control socket is
//! data = "/var/lib/ringway"    # where the journals of durable streams are; when nothing is said: directory/data
//! cores = [0, 1]               # one shard pinned to each
//! sessions_max = 1024          # connections at the same time
//! hello_timeout_ms = 5000      # how long a connection may be silent before it says hello
//! segment_bytes = 67108864     # the files of a journal, a multiple of 4096
//! runtime = "auto"             # io_uring where it is allowed, else "threads"; or insist on "io_uring" or "threads"
//! payload_bytes_max = 16777216 # the largest payload that a stream may be declared with, at most 1 GiB
//! allowed_uids = [1000]        # users that may connect, beside the broker's own and root; when nothing is said: none
//! allowed_gids = [2000]        # groups whose members may connect, by their supplementary groups, too
//! log = "warn"                 # what is logged: off, error, warn, info, debug, trace; also for a part: "warn,ringway_broker::journal=debug"
//! log_format = "human"         # or "json": an object on each line
//! ```
//!
//! 1. Every key is one line of the table in `keys`: its variable, its option and what it may be follow from that. A key is
//!    `sessions_max` in the file, `RINGWAY_SESSIONS_MAX` in the environment, `--sessions-max` as an option; `directory` alone is
//!    `RINGWAY_DIR` and `--dir`, as it is for clients. An empty variable counts as not set. Outside of
//!    the file, lists are `0,1`, and an empty one is `none`.
//! 2. What is not known is an error, and so is a value that cannot be, wherever it stands: all of them are said at once, each with
//!    its place, what was found and what is allowed.
//! 3. Nothing is made and nothing is asked of anybody but the kernel (which cores there are): a configuration can be checked
//!    beside a running broker.

mod keys;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use ringway_shm_protocol::control::message::PAYLOAD_BYTES_MAX_DEFAULT;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use keys::{KEYS, Key, Kind, Value};
pub use sources::{Origin, Sources};

/// Most connections at the same time when nothing else is said.
pub const SESSIONS_MAX_DEFAULT: u32 = 1024;
/// How long a new connection may be silent when nothing else is said, in milliseconds.
pub const HELLO_TIMEOUT_MS_DEFAULT: u64 = 5000;
/// The longest that a new connection may be silent, in milliseconds.
pub const HELLO_TIMEOUT_MS_MAX: u64 = 3_600_000;

/// Where the journals are, in the broker's directory, when nothing else is said.
pub const DATA_NAME: &str = "data";
/// Bytes of a journal's segment when nothing else is said.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Smallest segment: a header and two of the largest batches.
pub const SEGMENT_BYTES_MIN: u64 = 4096 + (2 << 20);
/// Segments are made of blocks of so many bytes.
pub const BLOCK_BYTES: u64 = 4096;
/// Largest segment.
pub const SEGMENT_BYTES_MAX: u64 = 8 << 30;
/// What is logged when nothing else is said.
pub const LOG_DEFAULT: &str = "warn";

/// What a broker's shards run on, and write their journals by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeChoice {
    /// io_uring where the kernel allows it, plain threads where not.
    #[default]
    Auto,
    /// io_uring, or the broker does not start.
    IoUring,
    /// Plain threads.
    Threads,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object for each.
    Json,
}

/// Checked settings of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Where the control socket and the lock file are.
    pub directory: PathBuf,
    /// Where the journals are.
    pub data: PathBuf,
    /// Bytes of a journal's segment.
    pub segment_bytes: u64,
    /// What the shards run on.
    pub runtime: RuntimeChoice,
    /// The cores that shards are pinned to, one each; at least one, none twice.
    pub cores: Vec<usize>,
    /// Most connections at the same time.
    pub sessions_max: u32,
    /// How long a new connection may be silent, in milliseconds.
    pub hello_timeout_ms: u64,
    /// The largest payload that a stream may be declared with, in bytes.
    pub payload_bytes_max: u32,
    /// Users that may connect, beside the broker's own and root.
    pub allowed_uids: Vec<u32>,
    /// Groups whose members may connect.
    pub allowed_gids: Vec<u32>,
    /// What is logged: levels, by parts of the program.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// A value that counts, and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it is of.
    pub key: &'static Key,
    /// What it is.
    pub value: Value,
    /// Where it was said.
    pub origin: Origin,
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was said.
    pub origin: Origin,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody names a directory.
    #[error("no directory is given for the broker: set `directory` in the configuration, or --dir")]
    NoDirectory,
    /// What it says is wrong: at least one problem.
    #[error("the configuration is wrong:{}", .0.iter().map(|problem| format!("\n  {problem}")).collect::<String>())]
    Wrong(Vec<Problem>),
}

impl Config {
    /// Reads `file`, if any; `directory`, if any, goes over what the file says. The environment is left alone.
    pub fn load(file: Option<&Path>, directory: Option<PathBuf>) -> Result<Self, ConfigError> {
        let flags = directory.map(|directory| ("directory", directory.into_os_string()));
        let sources = Sources {
            file: file.map(Path::to_owned),
            flags: flags.into_iter().collect(),
            ..Sources::default()
        };
        Ok(Self::load_from(&sources)?.0)
    }

    /// Reads all sources. Also returns what counts in the end, one setting for each of [`KEYS`], in their order.
    pub fn load_from(sources: &Sources) -> Result<(Self, Vec<Setting>), ConfigError> {
        let (mut said, mut problems) = sources.read()?;
        let mut settings = Vec::new();
        for key in &KEYS {
            let setting = match said.remove(key.name) {
                Some(setting) => setting,
                None => {
                    let value = default_of(key, &settings, sources)?;
                    Setting { key, value, origin: Origin::Default }
                }
            };
            settings.push(setting);
        }
        problems.extend(settings.iter().filter_map(check));
        if problems.is_empty() {
            Ok((Self::of(&settings), settings))
        } else {
            Err(ConfigError::Wrong(problems))
        }
    }

    /// What checked settings say.
    fn of(settings: &[Setting]) -> Self {
        let value = |name: &str| {
            let setting = settings.iter().find(|setting| setting.key.name == name);
            &setting.expect("every key has a setting").value
        };
        // Every number was found to be in its key's range.
        let narrow = |number: u64| u32::try_from(number).expect("the range of its key is that of its type");
        let ids = |name| value(name).numbers().iter().map(|id| narrow(*id)).collect();
        Self {
            directory: value("directory").text().into(),
            data: value("data").text().into(),
            segment_bytes: value("segment_bytes").number(),
            runtime: match value("runtime").text() {
                "io_uring" => RuntimeChoice::IoUring,
                "threads" => RuntimeChoice::Threads,
                _ => RuntimeChoice::Auto,
            },
            cores: value("cores").numbers().iter().map(|core| *core as usize).collect(),
            sessions_max: narrow(value("sessions_max").number()),
            hello_timeout_ms: value("hello_timeout_ms").number(),
            payload_bytes_max: narrow(value("payload_bytes_max").number()),
            allowed_uids: ids("allowed_uids"),
            allowed_gids: ids("allowed_gids"),
            log: value("log").text().to_owned(),
            log_format: if value("log_format").text() == "json" { LogFormat::Json } else { LogFormat::Human },
        }
    }
}

/// What a key is when nobody says anything. `before` has the settings of the keys in front of it.
fn default_of(key: &Key, before: &[Setting], sources: &Sources) -> Result<Value, ConfigError> {
    let path = |path: &Path| Value::Text(path.to_string_lossy().into_owned());
    Ok(match (key.name, before.first()) {
        ("directory", _) => path(sources.directory_default.as_deref().ok_or(ConfigError::NoDirectory)?),
        // A directory that this broker was given has its journals in it, too; one that all share does not.
        ("data", Some(directory)) => match (&directory.origin, &sources.data_default) {
            (Origin::Default | Origin::Variable(_), Some(data)) => path(data),
            _ => path(&Path::new(directory.value.text()).join(DATA_NAME)),
        },
        ("cores", _) => Value::Numbers(allowed_cores().last().map(|core| *core as u64).into_iter().collect()),
        ("sessions_max", _) => Value::Number(SESSIONS_MAX_DEFAULT.into()),
        ("hello_timeout_ms", _) => Value::Number(HELLO_TIMEOUT_MS_DEFAULT),
        ("segment_bytes", _) => Value::Number(SEGMENT_BYTES_DEFAULT),
        ("payload_bytes_max", _) => Value::Number(PAYLOAD_BYTES_MAX_DEFAULT.into()),
        ("runtime", _) => Value::Text("auto".to_owned()),
        ("log", _) => Value::Text(LOG_DEFAULT.to_owned()),
        ("log_format", _) => Value::Text("human".to_owned()),
        _ => Value::Numbers(Vec::new()),
    })
}

/// What is wrong with a value beyond its kind.
fn check(Setting { key, value, origin }: &Setting) -> Option<Problem> {
    let problem = |message: String| Some(Problem { origin: origin.clone(), message });
    match (key.name, value) {
        ("cores", Value::Numbers(cores)) => {
            let mut distinct = cores.clone();
            distinct.sort_unstable();
            distinct.dedup();
            if cores.is_empty() || distinct.len() != cores.len() {
                return problem(format!("cores must name at least one core, and none twice, not {value}"));
            }
            let allowed = allowed_cores();
            let found = cores.iter().find(|core| !allowed.contains(&(**core as usize)))?;
            let allowed = allowed.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            problem(format!("core {found} cannot be used: this process may run on cores {allowed}"))
        }
        ("segment_bytes", Value::Number(bytes)) if !bytes.is_multiple_of(BLOCK_BYTES) => {
            problem(format!("segment_bytes must be a multiple of {BLOCK_BYTES}, not {bytes}"))
        }
        _ => None,
    }
}

/// The cores that this process may run on, in order.
fn allowed_cores() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).expect("a process may ask for its own affinity");
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}
