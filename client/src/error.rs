//! One error type per operation; every message says what happened and what to do next.
//!
//! What always holds: an error that says nothing else left everything as it was. `is_retryable` means that the
//! same call on the same handle may succeed later, without anything else being done.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ringway_shm_protocol::attributes::{AttributesError, CorruptAttributes};
use ringway_shm_protocol::control::frame::FrameError;
use ringway_shm_protocol::control::message::{Refusal, RefusalCode};
use ringway_shm_protocol::control::socket::PATH_BYTES_MAX;
use ringway_shm_protocol::layout::GeometryError;
use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::ring::{CursorLost, PublishError, ReadError};
use thiserror::Error;

use crate::loan::Loan;
use crate::message::Position;
use crate::wait_set::ConsumerKey;

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
    #[error("the broker sent {found} descriptors with {reply} instead of {expected}")]
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
///     Err(AdminError::Disconnected) => println!("open a new connection"),
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
    /// The broker is gone. Whether it carried the request out is unknown.
    #[error("the broker is gone: start it again and open a new connection")]
    Disconnected,
    /// The broker is there and says nothing. Whether it carries the request out is unknown.
    #[error("the broker (process {pid}) has not answered for {waited:?}: it hangs or is stopped")]
    NoAnswer {
        /// The broker's process id.
        pid: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// The broker was told to stop and is still there.
    #[error("the broker (process {pid}) was told to stop and is still running after {waited:?}")]
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
    /// The broker said no; shown as it said it.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The broker ended the session.
    #[error("the broker ended the session: {message}")]
    Ended {
        /// The broker's words.
        message: String,
    },
    /// The broker is gone.
    #[error("the broker is gone: start it again and open a new connection")]
    Disconnected,
    /// The broker is there and says nothing.
    #[error("the broker (process {pid}) has not answered for {waited:?}: it hangs or is stopped")]
    NoAnswer {
        /// The broker's process id.
        pid: u32,
        /// How long was waited.
        waited: Duration,
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
            AdminError::NoAnswer { pid, waited } | AdminError::StillRunning { pid, waited } => {
                Self::NoAnswer { pid, waited }
            }
            AdminError::Protocol(error) => Self::Protocol(error),
            AdminError::Forked => Self::Forked,
            AdminError::System(error) => Self::System(error),
        }
    }
}

/// Why messages are not confirmed (yet). They are published all the same; whether they would survive is not known.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use std::time::Duration;
/// use ringway_client::ConfirmError;
///
/// let mut producer = connection.producer("payments").open()?;
/// let position = producer.send("42 EUR")?;
/// match producer.confirm_timeout(position, Duration::from_secs(1)) {
///     Ok(level) => println!("it is {}", level.name()),
///     Err(ConfirmError::Timeout { confirmed, .. }) => println!("not yet: everything below {confirmed} is"),
///     Err(error) => println!("whether it would survive is unknown: {error}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// It takes longer.
    #[error(
        "position {position} of stream {stream} is not {level} after {waited:?}: everything below {confirmed} is; wait on, or \
         look at: ringway stream show {stream}"
    )]
    Timeout {
        /// The stream.
        stream: String,
        /// What it was to be.
        level: &'static str,
        /// The message that was waited for.
        position: u64,
        /// Everything below is confirmed.
        confirmed: u64,
        /// How long was waited.
        waited: Duration,
    },
    /// What was settled is not journaled yet.
    #[error(
        "what was settled on stream {stream} is not {level} after {waited:?}; wait on, or look at: ringway stream show {stream}"
    )]
    Unsettled {
        /// The stream.
        stream: String,
        /// What it was to be.
        level: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// Positions could not be committed.
    #[error(transparent)]
    Commit(Box<RecvError>),
    /// Verdicts were not judged.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// The journal has no room for more.
    #[error(
        "stream {stream} confirms nothing: there is no room for its journal ({why}); make room, or consume what is there"
    )]
    NoRoom {
        /// The stream.
        stream: String,
        /// What the broker says.
        why: String,
    },
    /// The journal has stopped.
    #[error(
        "stream {stream} confirms nothing any more: its journal has stopped ({why}); restart the broker when the disk is in order"
    )]
    JournalFailed {
        /// The stream.
        stream: String,
        /// What the broker says.
        why: String,
    },
    /// The broker is gone.
    #[error("stream {stream} confirms nothing: the broker is gone; start it again and open a new connection")]
    Disconnected {
        /// The stream.
        stream: String,
    },
    /// A position of a partition that the stream does not have.
    #[error("stream {stream} has no partition {partition}: it has {partitions}")]
    Partition {
        /// The stream.
        stream: String,
        /// The partition.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The producer was opened by a process before it forked.
    #[error("this producer was opened before fork(): open one in this process")]
    Forked,
}

impl ConfirmError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unsettled { .. } | Self::NoRoom { .. } => true,
            Self::Settle(error) => error.is_retryable(),
            _ => false,
        }
    }
}

/// Why a message was not sent. It is not in the stream.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::SendError;
///
/// let mut producer = connection.producer("orders").open()?;
/// match producer.try_send("one pizza") {
///     Ok(position) => println!("at {position}"),
///     Err(SendError::Full { subscription, lag, .. }) => println!("{subscription:?} is {lag} behind"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// A subscription holds the ring.
    #[error("{}", full_text(.stream, .subscription.as_deref(), *.consumer_pid, *.lag, *.capacity, *.waited))]
    Full {
        /// The stream.
        stream: String,
        /// The subscription that holds it; `None` when the broker could not be asked.
        subscription: Option<String>,
        /// Process id of that subscription's consumer, if it has one.
        consumer_pid: Option<u32>,
        /// How many messages that subscription is behind.
        lag: u64,
        /// How many messages the ring holds.
        capacity: u64,
        /// How long was waited; `None`: not at all.
        waited: Option<Duration>,
    },
    /// Another producer is in the middle of a message that it began a whole lap ago: it is stopped, or hangs.
    #[error(
        "stream {stream} is stalled: its producer with owner id {owner} has not finished the message that it began a \
         whole ring ago{}; let it go on, or end it",
        .waited.map_or_else(String::new, |waited| format!(" (waited {waited:?})"))
    )]
    Stalled {
        /// The stream.
        stream: String,
        /// Owner id of that producer.
        owner: u32,
        /// How long was waited; `None`: not at all.
        waited: Option<Duration>,
    },
    /// The payload is larger than the stream's settings allow.
    #[error(
        "a payload of {bytes} bytes is too large for stream {stream}: {bytes_max} at the most; declare the stream with a \
         larger limit"
    )]
    TooLarge {
        /// The stream.
        stream: String,
        /// Bytes of the payload.
        bytes: usize,
        /// Most bytes that fit.
        bytes_max: usize,
    },
    /// The attributes cannot be sent.
    #[error("a message for stream {stream} has attributes that cannot be: {source}")]
    Attributes {
        /// The stream.
        stream: String,
        /// Why not.
        source: AttributesError,
    },
    /// The journal has no room for more.
    #[error(
        "stream {stream} takes no messages: there is no room for its journal ({why}); make room on the disk, or consume what \
         is there"
    )]
    NoRoom {
        /// The stream.
        stream: String,
        /// What the broker says.
        why: String,
    },
    /// The journal has stopped.
    #[error(
        "stream {stream} takes no messages: its journal has stopped ({why}); restart the broker when the disk is in order"
    )]
    JournalFailed {
        /// The stream.
        stream: String,
        /// What the broker says.
        why: String,
    },
    /// The message says which one it is, and the producer has no name.
    #[error(
        "message {sequence} of a producer without a name was not sent to stream {stream}: nobody could ask for it later; open \
         the producer with a name"
    )]
    NoName {
        /// The stream.
        stream: String,
        /// Which message it is.
        sequence: u64,
    },
    /// The stream has this message of the producer's already, or a later one. Nothing was sent.
    #[error(
        "stream {stream} has message {sequence} of this producer already: the last is {last}, at position {position}"
    )]
    AlreadySent {
        /// The stream, and the partition if it has several.
        stream: String,
        /// Which message it is.
        sequence: u64,
        /// The last one that is there.
        last: u64,
        /// Its position.
        position: u64,
    },
    /// A durability was asked for that the stream does not have.
    #[error(
        "durability {asked} cannot be had on stream {stream}: it is of durability memory, nothing of it is written to the \
         device; declare a stream with --durability written or synced"
    )]
    Durability {
        /// The stream.
        stream: String,
        /// What was asked for.
        asked: &'static str,
    },
    /// The stream has used up its positions.
    #[error("stream {stream} has used up all its {positions} positions: declare a new one")]
    Exhausted {
        /// The stream.
        stream: String,
        /// How many it had.
        positions: u64,
    },
    /// The stream is full and the broker is gone, so that nobody can say when it will not be.
    #[error("stream {stream} is full and the broker is gone: start it again and open a new connection")]
    Disconnected {
        /// The stream.
        stream: String,
    },
    /// The stream is full, and what the broker handed over to see how far its readers are cannot be used.
    #[error("stream {stream} is full and its readers cannot be looked at: {source}")]
    Gate {
        /// The stream.
        stream: String,
        /// What is wrong.
        source: OpenError,
    },
    /// The broker gave no memory for a payload that does not fit a slot.
    #[error("stream {stream} has no memory for a payload of {bytes} bytes: {source}")]
    Memory {
        /// The stream.
        stream: String,
        /// Bytes of the payload.
        bytes: usize,
        /// Why not.
        source: OpenError,
    },
    /// All memory that this producer may have for payloads beyond a slot is in use.
    #[error(
        "stream {stream} has no block of {bytes} bytes left: the {arenas_bytes} bytes of this producer are in loans, or in \
         messages that consumers hold in place; drop some, or declare the stream with a larger largest payload"
    )]
    NoBlock {
        /// The stream.
        stream: String,
        /// Bytes of the payload.
        bytes: usize,
        /// Bytes of this producer's arenas.
        arenas_bytes: u64,
    },
    /// The loan is another producer's.
    #[error("this loan was not made by this producer of stream {stream}: send it by the one that made it")]
    ForeignLoan {
        /// The stream.
        stream: String,
    },
    /// The loan belongs to another partition than the key of its message.
    #[error(
        "this loan is of partition {loan} of stream {stream}, and its message's key belongs to partition {key}: take it for \
         that key"
    )]
    LoanPartition {
        /// The stream.
        stream: String,
        /// The loan's partition.
        loan: u32,
        /// The key's partition.
        key: u32,
    },
    /// The ring refused for a reason that this client does not know.
    #[error("could not publish to stream {stream}: {source}")]
    Publish {
        /// The stream.
        stream: String,
        /// What the ring said.
        source: PublishError,
    },
    /// This process is a fork of the one that opened the producer.
    #[error("this producer belongs to the parent process: open a new connection in the forked child")]
    Forked,
}

impl SendError {
    /// Whether the same call may succeed later: the stream was full or stalled, or memory may be free then.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Stalled { .. } | Self::NoBlock { .. } => true,
            Self::Memory { source, .. } => source.is_retryable(),
            _ => false,
        }
    }
}

/// Why a loan was not sent. It is here, as it was.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut producer = connection.producer("frames").open()?;
/// let loan = producer.loan(1 << 20)?;
/// if let Err(error) = producer.send_loan(loan) {
///     println!("not sent: {}", error.source);
///     producer.send_loan(*error.loan)?; // It is still what it was.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[error("{source}")]
pub struct SendLoanError {
    /// The loan.
    pub loan: Box<Loan>,
    /// Why it is not in the stream.
    pub source: SendError,
}

impl SendLoanError {
    /// Whether the same loan may be sent later.
    pub fn is_retryable(&self) -> bool {
        self.source.is_retryable()
    }
}

fn full_text(
    stream: &str,
    subscription: Option<&str>,
    consumer_pid: Option<u32>,
    lag: u64,
    capacity: u64,
    waited: Option<Duration>,
) -> String {
    let held = subscription.map_or_else(
        || "a subscription".to_owned(),
        |name| {
            let consumer = consumer_pid.map_or("no consumer".to_owned(), |pid| format!("process {pid}"));
            format!("subscription {name} ({consumer})")
        },
    );
    let waited = waited.map_or_else(String::new, |waited| format!(" (waited {waited:?})"));
    let (lag, capacity) = (grouped(lag), grouped(capacity));
    format!(
        "stream {stream} is full: held by {held}, {lag} behind of {capacity} slots{waited}; start or speed up its \
         consumer, delete the subscription, or declare the stream with more slots"
    )
}

/// Decimal digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Why a batch was sent in part or not at all.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut producer = connection.producer("orders").open()?;
/// let orders = ["one", "two", "three"];
/// if let Err(error) = producer.send_batch(orders) {
///     println!("{:?} are not sent: {}", &orders[error.sent..], error.source);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[error("{sent} messages of the batch were sent, the next was not: {source}")]
pub struct SendBatchError {
    /// How many messages, from the first on, are in the stream.
    pub sent: usize,
    /// Why the next one is not.
    pub source: SendError,
}

impl SendBatchError {
    /// Whether the rest of the batch may be sent later: the stream was full.
    pub fn is_retryable(&self) -> bool {
        self.source.is_retryable()
    }
}

/// Why nothing was received or committed.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::RecvError;
///
/// let mut consumer = connection.consumer("orders", "billing").open()?;
/// loop {
///     match consumer.recv() {
///         Ok(message) => println!("{} bytes", message.payload_bytes()),
///         Err(RecvError::Attributes { position, .. }) => println!("message {position} is passed over"),
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The subscription was given to another consumer; what was not committed is delivered there.
    #[error("this consumer has lost its subscription: {0}")]
    Lost(#[from] CursorLost),
    /// The ring holds something that cannot be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A message refers to memory that cannot be used.
    #[error("the message at position {position} is in arena {arena}, which cannot be read: {source}")]
    Arena {
        /// The message's position.
        position: u64,
        /// The arena's number.
        arena: u32,
        /// Why not.
        source: OpenError,
    },
    /// A message refers to bytes outside of its arena: its producer is broken.
    #[error(
        "the message at position {position} is corrupt: it refers to {bytes} bytes from {offset} on in arena {arena}, \
         which are not there"
    )]
    Reference {
        /// The message's position.
        position: u64,
        /// The arena's number.
        arena: u32,
        /// Where the bytes should begin.
        offset: u64,
        /// How many they should be.
        bytes: usize,
    },
    /// A message has attributes that cannot be: its producer is broken. It is passed over.
    #[error("the message at position {position} is corrupt: {source}")]
    Attributes {
        /// The message's position.
        position: u64,
        /// What is wrong.
        source: CorruptAttributes,
    },
    /// The subscription was detached because it lagged, and could not be attached again.
    #[error(
        "this consumer's subscription was detached because it lagged, and cannot be attached again: {source}"
    )]
    Attach {
        /// Why not.
        source: AdminError,
    },
    /// There is nothing to read and the broker is gone.
    #[error("nothing left to read and the broker is gone: start it again and open a new connection")]
    Disconnected,
    /// This process is a fork of the one that opened the consumer.
    #[error("this consumer belongs to the parent process: open a new connection in the forked child")]
    Forked,
}

impl RecvError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Arena { source, .. } => source.is_retryable(),
            Self::Attach { source } => source.is_retryable(),
            _ => false,
        }
    }
}

/// Why a message was not settled as it was said.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::SettleError;
///
/// let mut worker = connection.queue_consumer("jobs").open()?;
/// match worker.recv()?.ack() {
///     Err(SettleError::Late { attempt, .. }) => println!("delivery {attempt} took too long: it comes again"),
///     settled => settled?,
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The lease was over: the message was given to another consumer, or will be.
    #[error(
        "the message at {position} was settled too late: the lease of delivery {attempt} was over, and it is delivered \
         again; extend the lease in time, or declare the subscription with a longer one"
    )]
    Late {
        /// Where the message is.
        position: Position,
        /// Which delivery it was.
        attempt: u32,
    },
    /// The message is not of this consumer.
    #[error("this message is of another consumer: settle it by the one that received it")]
    Foreign,
    /// The broker is there and says nothing. Whether the message is settled is unknown.
    #[error("the broker (process {pid}) has not judged a settlement for {waited:?}: it hangs or is stopped")]
    NoAnswer {
        /// The broker's process id.
        pid: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// The broker is gone. Whether the message is settled is unknown.
    #[error("the broker is gone before it has judged a settlement: start it again and open a new connection")]
    Disconnected,
    /// This process is a fork of the one that opened the consumer.
    #[error("this consumer belongs to the parent process: open a new connection in the forked child")]
    Forked,
}

impl SettleError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }
}

/// A consumer of a set failed. Remove it, and the others go on.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use std::time::Duration;
/// use ringway_client::WaitSet;
///
/// let mut set = WaitSet::new();
/// set.add(connection.consumer("orders", "billing").open()?);
/// if let Err(error) = set.wait(Duration::from_secs(1)) {
///     println!("{}", error.source);
///     set.remove(error.key);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[error("{source}")]
pub struct WaitError {
    /// Which consumer.
    pub key: ConsumerKey,
    /// Why.
    pub source: RecvError,
}

/// Why a message cannot be held in place.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut consumer = connection.consumer("frames", "viewer").open()?;
/// let message = consumer.recv()?;
/// match message.hold() {
///     Ok(held) => println!("held at {}", held.position()),
///     Err(error) => println!("{} are held already: copy {} bytes", error.held, message.payload().len()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "this consumer holds {held} messages in place already, as many as it may: drop one first, or copy this one"
)]
pub struct HoldError {
    /// How many it holds.
    pub held: usize,
}

/// Why a consumer was not closed as it should be. It is closed all the same.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::CloseError;
///
/// let consumer = connection.consumer("orders", "billing").open()?;
/// if let Err(CloseError::Commit(error)) = consumer.close() {
///     println!("the last messages will come again: {error}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The last messages could not be committed: they are delivered again.
    #[error("the last messages could not be committed and will be delivered again: {0}")]
    Commit(#[from] RecvError),
    /// The broker could not be told; it notices when this process ends.
    #[error("the broker could not be told that the consumer is closed: {0}")]
    Admin(#[from] AdminError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_stream_names_who_holds_it_and_by_how_much() {
        let error = SendError::Full {
            stream: "orders".to_owned(),
            subscription: Some("billing".to_owned()),
            consumer_pid: Some(4711),
            lag: 16_384,
            capacity: 16_384,
            waited: Some(Duration::from_millis(250)),
        };
        assert_eq!(
            error.to_string(),
            "stream orders is full: held by subscription billing (process 4711), 16,384 behind of 16,384 slots (waited 250ms); \
             start or speed up its consumer, delete the subscription, or declare the stream with more slots"
        );
        assert!(error.is_retryable());
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts: Vec<_> = [0, 999, 1000, 12_345, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
