//! What goes wrong with values, beside what goes wrong with messages.

use thiserror::Error;

use super::CodecError;
use crate::error::{RecvError, SendError, SettleError};
use crate::message::Position;

/// Why a value was not published.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::TypedSendError;
///
/// let mut numbers = connection.producer("numbers").open()?.typed::<u64>();
/// match numbers.try_send(&7) {
///     Err(TypedSendError::Send(error)) if error.is_retryable() => println!("later: {error}"),
///     sent => println!("at {}", sent?),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TypedSendError {
    /// The message could not be published.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The value has no payload; nothing was published.
    #[error("the value cannot be encoded: {0}")]
    Value(#[from] CodecError),
}

impl TypedSendError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Send(error) if error.is_retryable())
    }
}

/// Why there is no value.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::TypedRecvError;
///
/// let mut numbers = connection.consumer("numbers", "reader").open()?.typed::<u64>();
/// match numbers.recv() {
///     Ok(number) => println!("{}", *number),
///     Err(TypedRecvError::Value { position, source }) => println!("{position} is none: {source}"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TypedRecvError {
    /// No message could be received.
    #[error(transparent)]
    Recv(#[from] RecvError),
    /// A message is no value of the type. The next call goes on behind it; a delivery was rejected.
    #[error("the message at {position} is no value of this channel: {source}")]
    Value {
        /// Where the message is.
        position: Position,
        /// What is wrong with it.
        source: CodecError,
    },
    /// A message that is no value of the type could not be rejected.
    #[error("a message that is no value of this channel could not be rejected: {0}")]
    Reject(#[from] SettleError),
}

impl TypedRecvError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Recv(error) => error.is_retryable(),
            Self::Value { .. } => true,
            Self::Reject(error) => error.is_retryable(),
        }
    }
}
