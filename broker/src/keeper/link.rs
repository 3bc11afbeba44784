//! What a keeper says to its broker and to its visitors, and they to it: packets over a socket pair, descriptors beside them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ringway_shm_protocol::control::socket;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::Key;

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Hold these descriptors and this note under this key, instead of what was under it.
    Keep(Key, Vec<u8>),
    /// Close what is under this key.
    Forget(Key),
    /// That was all, to a process that has just been started; from a broker with its own pidfd.
    All,
    /// The broker takes requests.
    Ready,
    /// The broker was told to end, and is not to be succeeded.
    Ended,
    /// The broker shall end.
    Stop,
    /// Show a visitor, for reading only, what memory is held under keys from the first to the second: each as a
    /// [`Keep`](Self::Keep), then [`All`](Self::All).
    Show(Key, Key),
    /// To a visitor: why nothing is shown.
    Refused(String),
}

/// One end.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// The end behind this descriptor.
    pub(crate) fn of(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// The descriptor, for a process that is started with it.
    pub(crate) fn into_inner(self) -> OwnedFd {
        self.0
    }

    /// Says something; waits while the other end is slow.
    pub(crate) fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let packet = postcard::to_stdvec(message).map_err(io::Error::other)?;
        socket::send(&self.0, &packet, descriptors)
    }

    /// Hears something; `None`: the other end is gone.
    pub(crate) fn receive(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let packet = match socket::receive(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            received => received?,
        };
        if packet.bytes.is_empty() {
            return Ok(None);
        }
        let message =
            postcard::from_bytes(&packet.bytes).ok().filter(|_| !packet.truncated).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "no message of a keeper or its broker")
            })?;
        Ok(Some((message, packet.descriptors)))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
