//! Errors of connecting and of asking the broker.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ringway_shm_protocol::control::frame::FrameError;
use ringway_shm_protocol::control::message::{Refusal, RefusalCode};
use ringway_shm_protocol::control::socket::PATH_BYTES_MAX;
use ringway_shm_protocol::layout::GeometryError;
use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::text::count;
use thiserror::Error;

/// The peer on the control socket does not keep to the protocol: a defect, or no Ringway broker at all.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::{AdminError, ProtocolError};
///
/// if let Err(AdminError::Protocol(ProtocolError::Version { found, expected })) = connection.streams() {
///     eprintln!("the broker speaks version {found}, this program {expected}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A packet that is none.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A packet larger than any may be, or with too many descriptors.
    #[error("the broker sent a packet that is larger than allowed or has too many descriptors")]
    Truncated,
    /// A session that speaks another version.
    #[error(
        "the broker speaks protocol version {found}, this client version {expected}: use the broker's version"
    )]
    Version {
        /// The broker's version.
        found: u16,
        /// This client's version.
        expected: u16,
    },
    /// An answer to something that was not asked.
    #[error("the broker answered request {found} instead of request {expected}")]
    OtherRequest {
        /// Number of the request that was answered.
        found: u32,
        /// Number of the request that was asked.
        expected: u32,
    },
    /// An answer of another sort than the request asks for.
    #[error("the broker sent {found} instead of {expected}")]
    Unexpected {
        /// What came.
        found: &'static str,
        /// What should have come.
        expected: &'static str,
    },
    /// Too few or too many descriptors beside an answer.
    #[error("the broker sent {} with {reply} instead of {expected}", count(*.found as u64, "descriptor"))]
    Descriptors {
        /// The answer.
        reply: &'static str,
        /// How many came.
        found: usize,
        /// How many belong to it.
        expected: usize,
    },
    /// A ring of impossible size.
    #[error("the broker announced an impossible ring: {0}")]
    Geometry(#[from] GeometryError),
    /// A number out of its range.
    #[error("the broker gave {field} {found}: {max} at the most")]
    Range {
        /// What the number says.
        field: &'static str,
        /// The number.
        found: u64,
        /// The largest that can be.
        max: u64,
    },
}

/// Why no session with a broker could be opened.
///
/// ```
/// use std::{thread::sleep, time::Duration};
/// use ringway_client::{ConnectError, Connection};
///
/// /// Waits until a broker is there.
/// fn connect(directory: &str) -> Result<Connection, ConnectError> {
///     loop {
///         match Connection::open(directory) {
///             Err(error) if error.is_retryable() => sleep(Duration::from_millis(100)),
///             opened => return opened,
///         }
///     }
/// }
/// # let _ = connect;
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The kernel allows no socket path of this length.
    #[error(
        "the path {} has {bytes} bytes, a socket's may have {bytes_max}: choose a directory with a shorter path", .path.display()
    )]
    PathTooLong {
        /// Path of the socket.
        path: PathBuf,
        /// Its length in bytes.
        bytes: usize,
        /// Longest path, in bytes.
        bytes_max: usize,
    },
    /// Nobody listens there.
    #[error("no broker answers in {0}: start one with `ringway serve --dir {0}`", .directory.display())]
    NoBroker {
        /// The directory.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The broker refused the session; shown as it said it.
    #[error("{message}")]
    Refused {
        /// The broker's words.
        message: String,
    },
    /// This user may not use the socket.
    #[error(
        "this user may not connect to the broker in {}: ask its owner to name it in allowed_uids of the broker's settings",
        .directory.display()
    )]
    Denied {
        /// The directory.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The broker accepted the connection and said nothing.
    #[error("the broker in {} has not answered for {waited:?}: it hangs or is stopped", .directory.display())]
    NoAnswer {
        /// The directory.
        directory: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The broker ended the connection before it answered.
    #[error("the broker in {} hung up before it answered: look at what it printed", .directory.display())]
    Disconnected {
        /// The directory.
        directory: PathBuf,
    },
    /// What answers keeps to another protocol.
    #[error("what answers in {} is no broker that this client understands: {source}", .directory.display())]
    Protocol {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        source: ProtocolError,
    },
    /// The kernel refused.
    #[error("could not connect to the broker in {}: {source}", .directory.display())]
    System {
        /// The directory.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether the same call may succeed later: no broker yet, or one that hangs.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NoBroker { .. } | Self::NoAnswer { .. } | Self::Disconnected { .. })
    }

    pub(crate) fn path_too_long(path: PathBuf) -> Self {
        let bytes = path.as_os_str().len();
        Self::PathTooLong { path, bytes, bytes_max: PATH_BYTES_MAX }
    }
}

/// Why a request to the broker failed.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::{AdminError, RefusalCode};
///
/// match connection.delete_stream("orders") {
///     Err(error) if error.code() == Some(RefusalCode::InUse) => println!("later: {error}"),
///     Err(AdminError::Disconnected) => println!("there is no broker"),
///     deleted => deleted?,
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The broker said no; shown as it said it. Nothing was changed.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The broker ended the session.
    #[error("the broker ended the session: {message}")]
    Ended {
        /// The broker's words.
        message: String,
    },
    /// The broker is gone, and there was no other one for as long as the [connection](crate::ConnectionBuilder::reconnect_within) may
    /// look for one. Whether it carried the request out is unknown.
    #[error("the broker is gone: start it again")]
    Disconnected,
    /// The broker is there and says nothing. Whether it carries the request out is unknown.
    #[error("the broker (process {pid}) has not answered for {waited:?}{}", silence(*.is_at_work))]
    NoAnswer {
        /// The broker's process id.
        pid: u32,
        /// How long was waited.
        waited: Duration,
        /// It takes connections meanwhile: it does not hang, what was asked takes longer.
        is_at_work: bool,
    },
    /// The broker was told to stop and is still there.
    #[error(
        "the broker (process {pid}) was told to stop and is still running after {waited:?}: it waits for its disk at most ten \
         seconds; wait longer, or look at what it logs"
    )]
    StillRunning {
        /// The broker's process id.
        pid: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// The broker's answer is none.
    #[error("the broker's answer cannot be used: {0}")]
    Protocol(#[from] ProtocolError),
    /// This process is a fork of the one that opened the connection.
    #[error("this connection belongs to the parent process: open a new one in the forked child")]
    Forked,
    /// The kernel refused.
    #[error("could not talk to the broker: {0}")]
    System(#[source] io::Error),
}

impl AdminError {
    /// The sort of refusal, if the broker refused.
    pub fn code(&self) -> Option<RefusalCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: somebody else has it open, a limit was reached, or the broker
    /// hangs.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => matches!(refusal.code, RefusalCode::InUse | RefusalCode::Limit),
            Self::NoAnswer { .. } | Self::StillRunning { .. } => true,
            _ => false,
        }
    }
}

/// What a broker does that does not answer.
fn silence(is_at_work: bool) -> &'static str {
    if is_at_work {
        ", and takes connections meanwhile: it is at work on what was asked, such as a large ring; ask again"
    } else {
        ": it hangs or is stopped"
    }
}

/// Why a producer or consumer could not be opened.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// match connection.consumer("orders", "billing").open() {
///     Err(error) if error.is_retryable() => println!("somebody else has it: {error}"),
///     opened => drop(opened?),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// None of the partitions was asked for.
    #[error("a consumer of no partition receives nothing: name one, or say nothing for all")]
    NoPartition,
    /// The subscription gives its messages out in another way than this call expects.
    #[error("subscription {subscription} is a {mode} subscription: open it with {call}")]
    OtherMode {
        /// The subscription.
        subscription: String,
        /// How it gives its messages out.
        mode: &'static str,
        /// What opens such a one.
        call: &'static str,
    },
    /// The stream of an open producer was made anew, otherwise.
    #[error("stream {stream} has {partitions} partitions now, and had {before}: open a new producer")]
    OtherPartitions {
        /// The stream.
        stream: String,
        /// How many it had.
        before: usize,
        /// How many it has.
        partitions: usize,
    },
    /// The broker said no; shown as it said it.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The broker ended the session.
    #[error("the broker ended the session: {message}")]
    Ended {
        /// The broker's words.
        message: String,
    },
    /// The broker is gone, and there was no other one for as long as the [connection](crate::ConnectionBuilder::reconnect_within) may
    /// look for one.
    #[error("the broker is gone: start it again")]
    Disconnected,
    /// The broker is there and says nothing.
    #[error("the broker (process {pid}) has not answered for {waited:?}{}", silence(*.is_at_work))]
    NoAnswer {
        /// The broker's process id.
        pid: u32,
        /// How long was waited.
        waited: Duration,
        /// It takes connections meanwhile: it does not hang, what was asked takes longer.
        is_at_work: bool,
    },
    /// The broker's answer is none.
    #[error("the broker's answer cannot be used: {0}")]
    Protocol(#[from] ProtocolError),
    /// The memory that the broker handed over is not what it should be.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// This process is a fork of the one that opened the connection.
    #[error("this connection belongs to the parent process: open a new one in the forked child")]
    Forked,
    /// The kernel refused.
    #[error("could not talk to the broker: {0}")]
    System(#[source] io::Error),
}

impl OpenError {
    /// The sort of refusal, if the broker refused.
    pub fn code(&self) -> Option<RefusalCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: somebody else has it open, a limit was reached, or the broker
    /// hangs.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => matches!(refusal.code, RefusalCode::InUse | RefusalCode::Limit),
            Self::NoAnswer { .. } => true,
            _ => false,
        }
    }
}

impl From<AdminError> for OpenError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Refused(refusal) => Self::Refused(refusal),
            AdminError::Ended { message } => Self::Ended { message },
            AdminError::Disconnected => Self::Disconnected,
            AdminError::NoAnswer { pid, waited, is_at_work } => Self::NoAnswer { pid, waited, is_at_work },
            AdminError::StillRunning { pid, waited } => Self::NoAnswer { pid, waited, is_at_work: true },
            AdminError::Protocol(error) => Self::Protocol(error),
            AdminError::Forked => Self::Forked,
            AdminError::System(error) => Self::System(error),
        }
    }
}
