//! A broker for tests: a thread that speaks with clients by a script, or serves one partition in earnest.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests alone use this")]

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringway_client::Connection;
use ringway_shm_protocol::control::frame::{self, Frame, Kind, Welcome};
use ringway_shm_protocol::control::message::{Reply, Request};
use ringway_shm_protocol::control::{SOCKET_NAME, socket};
use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;
use zerocopy::IntoBytes;

pub(crate) mod partition;

/// Time for what happens at once, unless the machine is very busy.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A listening broker; its end waits for the script's and passes a panic on.
pub(crate) struct Broker {
    directory: TempDir,
    serving: Option<JoinHandle<()>>,
}

impl Broker {
    /// Speaks with the first client by `script`, then hangs up and is gone.
    pub(crate) fn start(script: impl FnOnce(Client) + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = socket::listen(&directory.path().join(SOCKET_NAME)).unwrap();
        let serving = thread::spawn(move || {
            wait_readable(&listener);
            script(Client { socket: socket::accept(&listener).unwrap() });
        });
        Self { directory, serving: Some(serving) }
    }

    /// As [`start`](Self::start), after an ordinary welcome.
    pub(crate) fn welcoming(script: impl FnOnce(Client) + Send + 'static) -> Self {
        Self::start(|client| {
            client.welcome();
            script(client);
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::builder(self.directory()).reconnect_within(Duration::ZERO).open().unwrap()
    }

    /// Waits for the end of the script.
    pub(crate) fn join(mut self) {
        self.serving.take().unwrap().join().unwrap();
    }
}

/// The broker's end of a session.
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
}

impl Client {
    pub(crate) fn welcome(&self) {
        self.hear().unwrap();
        let broker_pid = std::process::id();
        let welcome = Welcome { version: 1, shards: 3, broker_pid, session: 9, features: 0 };
        self.say(&frame::packet(Kind::Welcome, 0, welcome.as_bytes()));
    }

    /// The next packet; `None`: the client has hung up.
    pub(crate) fn hear(&self) -> Option<Vec<u8>> {
        wait_readable(&self.socket);
        let packet = socket::receive(&self.socket).ok()?;
        Some(packet.bytes).filter(|bytes| !bytes.is_empty())
    }

    /// The next request and its number; `None`: the client has hung up.
    pub(crate) fn request(&self) -> Option<(u32, Request)> {
        let packet = self.hear()?;
        let frame = Frame::parse(&packet).unwrap();
        assert_eq!(frame.kind, Kind::Request);
        Some((frame.request, frame.message("request").unwrap()))
    }

    pub(crate) fn say(&self, packet: &[u8]) {
        socket::send(&self.socket, packet, &[]).unwrap();
    }

    pub(crate) fn reply(&self, number: u32, reply: &Reply) {
        self.reply_with(number, reply, &[]);
    }

    pub(crate) fn reply_with(&self, number: u32, reply: &Reply, descriptors: &[OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
        let packet = frame::encode(Kind::Reply, number, reply).unwrap();
        socket::send(&self.socket, &packet, &descriptors).unwrap();
    }
}

fn wait_readable(descriptor: &OwnedFd) {
    poll(&mut [PollFd::new(descriptor, PollFlags::IN)], None).unwrap();
}
