//! Packets with descriptors over a Unix `SOCK_SEQPACKET` socket.
//!
//! A packet arrives whole or not at all. Every descriptor that arrives is closed on exec; one that nobody asked for
//! is closed with the [`Packet`]. A packet larger than [`PACKET_BYTES_MAX`] is refused, never cut.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::frame::PACKET_BYTES_MAX;

/// Most descriptors beside one packet.
pub const DESCRIPTORS_MAX: usize = 8;
/// Supplementary groups of a peer that are asked for at first.
const GROUPS_USUAL_MAX: usize = 32;
/// Longest path of a socket, in bytes: the kernel's limit.
pub const PATH_BYTES_MAX: usize = 107;

/// A received packet.
#[derive(Debug, Default)]
pub struct Packet {
    /// Its bytes; empty: the peer has closed.
    pub bytes: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
    /// It was larger than a packet may be, or brought more descriptors than it may; what is here is a part.
    pub truncated: bool,
}

/// Opens a listening socket at `path`, which must not exist.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    listen_once(path, || Ok(()))
}

/// The same; nobody can connect before `prepare` has been called, when the path is there.
pub fn listen_once(path: &Path, prepare: impl FnOnce() -> io::Result<()>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    prepare()?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Accepts one connection; it is non-blocking.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
}

/// Connects to the socket at `path`; the connection blocks.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The same, for a peer that may be stopped: neither the connection nor anything that is sent or received on it takes longer
/// than `at_most`.
pub fn connect_within(path: &Path, at_most: Duration) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for direction in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, direction, Some(at_most))?;
    }
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Sends one packet with descriptors. A peer that is gone is an error, not a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than 8 descriptors beside one packet"));
    }
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    debug_assert_eq!(sent, bytes.len(), "a seqpacket socket sends whole packets");
    Ok(())
}

/// Receives one packet.
pub fn receive(socket: impl AsFd) -> io::Result<Packet> {
    match receive_once(&socket) {
        // A peer that hangs up before it has read everything makes the kernel report that first, once; what the
        // peer said last comes after.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive_once(&socket),
        outcome => outcome,
    }
}

fn receive_once(socket: impl AsFd) -> io::Result<Packet> {
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let parts = &mut [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(&socket, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    bytes.truncate(received.bytes);
    let truncated = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Packet { bytes, descriptors, truncated })
}

/// Who the peer is, by the kernel's word.
#[derive(Debug)]
pub struct Peer {
    /// Its process id.
    pub pid: u32,
    /// Its user id, when it connected.
    pub uid: u32,
    /// Its group id, when it connected.
    pub gid: u32,
    /// Its supplementary groups, when it connected.
    pub groups: Vec<u32>,
    /// Becomes readable when the process is gone, and not before.
    pub pidfd: OwnedFd,
}

/// Asks the kernel who connected, with a pidfd (Linux 6.5 and later).
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(&socket)?;
    let mut pidfd: libc::c_int = -1;
    let mut length = size_of_val(&pidfd) as libc::socklen_t;
    // SAFETY: value and length point to locals of the sizes given, for the time of the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut pidfd).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Peer {
        pid: credentials.pid.as_raw_nonzero().get() as u32,
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
        groups: groups(socket)?,
        pidfd,
    })
}

/// The supplementary groups of the peer.
fn groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; GROUPS_USUAL_MAX];
    loop {
        let mut length = size_of_val(&groups[..]) as libc::socklen_t;
        // SAFETY: value and length point to memory of the sizes given, for the time of the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let found = length as usize / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(found);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // Then the kernel has said how many there are: they cannot change any more.
        if error.raw_os_error() != Some(libc::ERANGE) || found <= groups.len() {
            return Err(error);
        }
        groups.resize(found, 0);
    }
}
