//! The control socket: `SOCK_SEQPACKET`, one message a packet, descriptors beside it.
//!
//! | file | what it holds |
//! |---|---|
//! | [`frame`] | the 16 bytes in front of every message, and the two messages that no version may change |
//! | [`message`] | requests and replies |
//! | [`socket`] | packets with descriptors, and who the peer is |
//!
//! A session: the client sends [`Hello`](frame::Hello); the broker answers [`Welcome`](frame::Welcome), or
//! [refuses](frame::Kind::Refused) in plain text that every version can read. Then requests, each with one reply that bears the same number.
//! When the broker is succeeded, the session goes on: the successor says [`Resumed`](frame::Kind::Resumed), and the client asks once more
//! what was not answered.

pub mod frame;
pub mod message;
pub mod socket;

/// Name of the socket in the broker's directory.
pub const SOCKET_NAME: &str = "control.sock";
/// Name of the keeper's socket in the broker's directory: what it holds is shown there, for reading only.
pub const KEEPER_SOCKET_NAME: &str = "keeper.sock";
/// Name of the lock file in the broker's directory; holds the broker's process id.
pub const LOCK_NAME: &str = "broker.lock";
/// The version of the messages that this build speaks.
pub const PROTOCOL_VERSION: u16 = 1;
