//! Errors of receiving, holding, committing and settling.

use std::time::Duration;

use ringway_shm_protocol::attributes::CorruptAttributes;
use ringway_shm_protocol::memory::page::CorruptPage;
use ringway_shm_protocol::ring::{CursorLost, ReadError};
use thiserror::Error;

use super::connection::{AdminError, OpenError};
use crate::message::Position;
use crate::wait_set::ConsumerKey;

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
    /// What the ring has no longer cannot be had from the journal: the device fails, or something is damaged. The next call asks again.
    #[error("messages from position {position} on are in the journal alone, which cannot be read: {source}")]
    Backlog {
        /// The first position that is missing.
        position: u64,
        /// Why it cannot be read.
        source: OpenError,
    },
    /// The broker has written something into a page that cannot be.
    #[error(transparent)]
    Page(#[from] CorruptPage),
    /// There is nothing to read, the broker is gone, and there was no other one for as long as the
    /// [connection](crate::ConnectionBuilder::reconnect_within) may look for one. The next call looks for so long again.
    #[error("nothing left to read and the broker is gone: start it again")]
    Disconnected,
    /// The broker was replaced, and the consumer could not be opened at the new one. The next call tries again.
    #[error("the broker was replaced, and this consumer cannot be opened at the new one: {source}")]
    Reopen {
        /// Why not.
        source: OpenError,
    },
    /// This process is a fork of the one that opened the consumer.
    #[error("this consumer belongs to the parent process: open a new connection in the forked child")]
    Forked,
}

impl RecvError {
    /// Whether the same call may succeed later, or goes on behind a message that is passed over.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Attributes { .. } => true,
            Self::Arena { source, .. } => source.is_retryable(),
            Self::Attach { source } => source.is_retryable(),
            Self::Backlog { source, .. } => source.is_retryable(),
            Self::Reopen { source } => source.is_retryable(),
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
    #[error("the broker is gone before it has judged a settlement: the message may come again")]
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
