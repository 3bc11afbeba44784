//! What goes wrong with values, beside what goes wrong with messages.

use thiserror::Error;

use super::CodecError;
use crate::error::{RecvError, SendError, SettleError};
use crate::message::Position;

/// Why a value was not published.
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
