//! The broker's configuration: a TOML file, over which the command's own options go.
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
//! ```

use std::path::{Path, PathBuf};

use ringway_shm_protocol::control::message::{PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX_DEFAULT};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most connections at the same time when nothing else is said.
pub const SESSIONS_MAX_DEFAULT: u32 = 1024;
/// How long a new connection may be silent when nothing else is said, in milliseconds.
pub const HELLO_TIMEOUT_MS_DEFAULT: u64 = 5000;

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
}

/// What a file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    directory: Option<PathBuf>,
    data: Option<PathBuf>,
    segment_bytes: Option<u64>,
    runtime: Option<RuntimeChoice>,
    cores: Option<Vec<usize>>,
    sessions_max: Option<u32>,
    hello_timeout_ms: Option<u64>,
    payload_bytes_max: Option<u32>,
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
    /// The file is no such TOML.
    #[error("the configuration {} is wrong: {detail}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        detail: String,
    },
    /// Neither the file nor the caller names a directory.
    #[error("no directory is given for the broker: set `directory` in the configuration, or --dir")]
    NoDirectory,
    /// A core that this process may not use.
    #[error("core {core} cannot be used: this process may run on cores {allowed:?}")]
    Core {
        /// The core.
        core: usize,
        /// The cores that it may use.
        allowed: Vec<usize>,
    },
    /// An empty list, or a core twice.
    #[error("`cores` must name at least one core, and none twice: {cores:?}")]
    Cores {
        /// The list.
        cores: Vec<usize>,
    },
    /// A number that makes no sense.
    #[error("`{key}` must be at least {least}, not {value}")]
    TooSmall {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: u64,
        /// The least that it may be.
        least: u64,
    },
    /// A segment that is not made of whole blocks.
    #[error("`segment_bytes` must be a multiple of 4096, not {value}")]
    Blocks {
        /// Its value.
        value: u64,
    },
    /// A number that cannot be.
    #[error("`{key}` must be at most {most}, not {value}")]
    TooLarge {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: u64,
        /// The most that it may be.
        most: u64,
    },
}

impl Config {
    /// Reads `file`, if any; `directory`, if any, goes over what the file says.
    pub fn load(file: Option<&Path>, directory: Option<PathBuf>) -> Result<Self, ConfigError> {
        let found = file.map(read).transpose()?.unwrap_or_default();
        let directory = directory.or(found.directory).ok_or(ConfigError::NoDirectory)?;
        let config = Self {
            data: found.data.unwrap_or_else(|| directory.join(DATA_NAME)),
            segment_bytes: found.segment_bytes.unwrap_or(SEGMENT_BYTES_DEFAULT),
            runtime: found.runtime.unwrap_or_default(),
            directory,
            cores: found.cores.unwrap_or_else(|| allowed_cores().last().copied().into_iter().collect()),
            sessions_max: found.sessions_max.unwrap_or(SESSIONS_MAX_DEFAULT),
            hello_timeout_ms: found.hello_timeout_ms.unwrap_or(HELLO_TIMEOUT_MS_DEFAULT),
            payload_bytes_max: found.payload_bytes_max.unwrap_or(PAYLOAD_BYTES_MAX_DEFAULT),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let mut distinct = self.cores.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if self.cores.is_empty() || distinct.len() != self.cores.len() {
            return Err(ConfigError::Cores { cores: self.cores.clone() });
        }
        let allowed = allowed_cores();
        if let Some(core) = self.cores.iter().copied().find(|core| !allowed.contains(core)) {
            return Err(ConfigError::Core { core, allowed });
        }
        let ranges = [
            ("sessions_max", self.sessions_max.into(), u64::MAX),
            ("hello_timeout_ms", self.hello_timeout_ms, u64::MAX),
            ("segment_bytes", self.segment_bytes, SEGMENT_BYTES_MAX),
            ("payload_bytes_max", self.payload_bytes_max.into(), PAYLOAD_BYTES_MAX.into()),
        ];
        if !self.segment_bytes.is_multiple_of(BLOCK_BYTES) {
            return Err(ConfigError::Blocks { value: self.segment_bytes });
        }
        for (key, value, most) in ranges {
            let least = if key == "segment_bytes" { SEGMENT_BYTES_MIN } else { 1 };
            if value < least {
                return Err(ConfigError::TooSmall { key, value, least });
            }
            if value > most {
                return Err(ConfigError::TooLarge { key, value, most });
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), detail: error.to_string() })
}

/// The cores that this process may run on, in order.
fn allowed_cores() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).expect("a process may ask for its own affinity");
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ringway.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), None)
    }

    #[test]
    fn a_file_is_read_and_the_given_directory_goes_over_it() {
        let core = allowed_cores()[0];
        let config = load(&format!("directory = '/x'\ncores = [{core}]\nsessions_max = 7")).unwrap();
        assert_eq!(
            config,
            Config {
                directory: "/x".into(),
                data: "/x/data".into(),
                segment_bytes: 64 << 20,
                runtime: RuntimeChoice::Auto,
                cores: vec![core],
                sessions_max: 7,
                hello_timeout_ms: 5000,
                payload_bytes_max: 16 << 20,
            }
        );
        let given = Config::load(None, Some("/y".into())).unwrap();
        assert_eq!((given.directory, given.cores.len()), ("/y".into(), 1));
    }

    #[test]
    fn mistakes_are_named() {
        let message = |text: &str| load(text).unwrap_err().to_string();
        assert!(message("directory = '/x'\ncoers = [0]").contains("coers"));
        assert!(message("directory = 7").contains("directory"));
        assert!(message("").contains("no directory"));
        assert!(message("directory = '/x'\ncores = []").contains("at least one"));
        assert!(message("directory = '/x'\ncores = [999]").contains("core 999 cannot be used"));
        assert!(message("directory = '/x'\nruntime = 'fibres'").contains("io_uring"));
        assert!(message("directory = '/x'\nsessions_max = 0").contains("sessions_max"));
        assert!(message("directory = '/x'\npayload_bytes_max = 1073741825").contains("at most 1073741824"));
        let missing = Config::load(Some(Path::new("/nonexistent/x.toml")), None).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/x.toml"));
    }
}
