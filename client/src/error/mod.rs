//! One error type per operation; every message says what happened and what to do next.
//!
//! What always holds: an error that says nothing else left everything as it was. `is_retryable` means that the
//! same call on the same handle may succeed later, without anything else being done.

mod connection;
mod receive;
mod send;

pub use self::connection::{AdminError, ConnectError, OpenError, ProtocolError};
pub use self::receive::{CloseError, HoldError, RecvError, SettleError, WaitError};
pub use self::send::{ConfirmError, SendBatchError, SendError, SendLoanError};
