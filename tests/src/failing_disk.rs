//! A broker of two shards whose disk fails when it is told to: one call on the segments of one shard is answered with EIO, or
//! files may not grow beyond some byte.
//!
//! ```text
//! test ──"fail fdatasync shard-0"──▶ ringway-test-peer two-shards ──▶ a filter for all its threads ──"failing"──▶ test
//! ```

use std::io;
use std::path::Path;

use ringway_broker::config::RuntimeChoice;
use ringway_client::Connection;

use crate::denied_calls::{Denied, deny};
use crate::{Peer, connect};

/// Bytes of a segment: a few messages never need a second one.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// A broker of two shards, in a process and with journals of its own.
pub struct FailingBroker {
    directory: tempfile::TempDir,
    runtime: RuntimeChoice,
    peer: Option<Peer>,
}

impl FailingBroker {
    /// Starts it: `ringway-test-peer` is at `peer`.
    pub fn start(peer: &str, runtime: RuntimeChoice) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let mut broker = Self { directory, runtime, peer: None };
        broker.start_again(peer);
        broker
    }

    /// Ends it politely, if it runs, and starts it in the same directory, on a disk that is in order.
    pub fn start_again(&mut self, peer: &str) {
        if let Some(before) = self.peer.take() {
            self.connect()
                .stop_broker(crate::PATIENCE)
                .expect("a broker whose journal has failed can be stopped");
            before.wait();
        }
        let path = self.path();
        let threads = if self.runtime == RuntimeChoice::Threads { "threads" } else { "io_uring" };
        let mut started =
            Peer::start(peer, &["two-shards", path.to_str().expect("a test's path is text"), threads]);
        assert_eq!(started.line(), "serving");
        self.peer = Some(started);
    }

    /// From now on a system call on the segments of a shard fails with EIO.
    pub fn fail(&mut self, call: &str, shard: u32) {
        let peer = self.running();
        peer.tell(&format!("{call} shard-{shard}"));
        assert_eq!(peer.line(), "failing");
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.peer.as_ref().expect("it runs between two starts").pid()
    }

    /// Where it serves.
    pub fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("broker")
    }

    /// Connects to it.
    pub fn connect(&self) -> Connection {
        connect(self.path()).expect("the broker takes connections")
    }

    fn running(&mut self) -> &mut Peer {
        self.peer.as_mut().expect("it runs between two starts")
    }
}

/// From now on a call (`fdatasync` or `pwrite64`) of this process on the segments in a directory of this name fails with EIO.
pub fn fail_segments(call: &str, directory: &str) -> io::Result<()> {
    let call = match call {
        "fdatasync" => libc::SYS_fdatasync,
        "pwrite64" => libc::SYS_pwrite64,
        other => return Err(io::Error::other(format!("no such call: {other}"))),
    };
    let mut denied = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // The one that reads this directory is gone when it is looked at.
        let Ok(file) = std::fs::read_link(entry.path()) else { continue };
        let name =
            |path: Option<&Path>| path.and_then(Path::file_name).map(|name| name.display().to_string());
        let is_segment = name(Some(&file)).is_some_and(|name| name.starts_with("segment-"));
        if is_segment && name(file.parent()).as_deref() == Some(directory) {
            let descriptor = entry.file_name().display().to_string().parse().map_err(io::Error::other)?;
            denied.push(Denied { call, descriptor: Some(descriptor), errno: libc::EIO });
        }
    }
    if denied.is_empty() {
        return Err(io::Error::other(format!("no segment of {directory} is open")));
    }
    deny(&denied)
}
