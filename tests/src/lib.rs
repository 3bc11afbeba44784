//! The harness of Ringway's whole-system tests: brokers in private directories, raw control sessions.
//!
//! Each folder in `tests/` asks one question. Everything a test starts ends with it: brokers in this process
//! are stopped when dropped, other processes are killed by their pid.

pub mod deaths;
pub mod denied_calls;
pub mod durable;
pub mod failing_disk;
pub mod kept;
pub mod litmus;
pub mod queue;
pub mod small_disk;
pub mod tasks;
pub mod without_io_uring;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway_broker::config::Config;
use ringway_broker::{Broker, Stopper};
use ringway_client::{ConnectError, Connection};
use ringway_shm_protocol::control::frame::{self, Frame, Hello, Kind};
use ringway_shm_protocol::control::message::{ProducerGrant, Producers, Reply, Request};
use ringway_shm_protocol::control::{PROTOCOL_VERSION, SOCKET_NAME, socket};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::partition::{ProducerRegions, Publishing, RingIdentity};
use ringway_shm_protocol::ring::Outgoing;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// How long a test waits for what must happen before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Connects to the broker that serves in `directory`, and to no other one when it is gone.
pub fn connect(directory: impl AsRef<Path>) -> Result<Connection, ConnectError> {
    Connection::builder(directory).reconnect_within(Duration::ZERO).open()
}

/// A broker in this process, in a directory of its own.
pub struct TestBroker {
    directory: tempfile::TempDir,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl TestBroker {
    /// Starts a broker with the default settings.
    pub fn start() -> Self {
        Self::start_with(|_| ())
    }

    /// Starts a broker with settings changed by `change`.
    pub fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let path = directory.path().join("broker");
        let mut config = Config::load(None, Some(path)).expect("the default settings are right");
        change(&mut config);
        let broker = Broker::start(config).expect("a broker starts in an empty directory");
        let stopper = broker.stopper();
        let thread = std::thread::spawn(move || broker.wait().expect("the broker ends without an error"));
        Self { directory, stopper, thread: Some(thread) }
    }

    /// Where it serves.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("broker")
    }

    /// Ends it and waits until it has.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the broker's thread does not panic");
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

/// A control session without the client library, to say what that never would.
pub struct RawSession {
    /// The socket.
    pub socket: OwnedFd,
    requests: u32,
}

/// What came back on a raw session.
#[derive(Debug)]
pub enum Heard {
    /// A welcome.
    Welcome,
    /// A reply, and how many descriptors came with it.
    Reply(Reply, usize),
    /// A refusal: the broker hangs up after it.
    Refused(String),
    /// The broker hung up.
    Closed,
}

impl RawSession {
    /// Connects and says nothing.
    pub fn connect(directory: &Path) -> Self {
        let socket =
            socket::connect(&directory.join(SOCKET_NAME)).expect("the broker's socket takes connections");
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).expect("a socket can have a timeout");
        Self { socket, requests: 0 }
    }

    /// Connects and says hello as a proper client does.
    pub fn open(directory: &Path) -> Self {
        let session = Self::connect(directory);
        session.send(&hello(PROTOCOL_VERSION, PROTOCOL_VERSION));
        assert!(matches!(session.hear(), Heard::Welcome));
        session
    }

    /// Sends a packet of any bytes.
    pub fn send(&self, packet: &[u8]) {
        socket::send(&self.socket, packet, &[]).expect("the broker has not hung up yet");
    }

    /// Asks and waits for the reply.
    pub fn ask(&mut self, request: &Request) -> Reply {
        self.requests += 1;
        self.send(&frame::encode(Kind::Request, self.requests, request).expect("a test's request is small"));
        match self.hear() {
            Heard::Reply(reply, _) => reply,
            other => panic!("expected a reply to {request:?}, heard {other:?}"),
        }
    }

    /// Asks and expects a refusal; returns its message.
    pub fn ask_in_vain(&mut self, request: &Request) -> String {
        match self.ask(request) {
            Reply::Refused(refusal) => refusal.message,
            other => panic!("expected a refusal of {request:?}, got {other:?}"),
        }
    }

    /// Waits for the next packet.
    pub fn hear(&self) -> Heard {
        let packet = match socket::receive(&self.socket) {
            Ok(packet) => packet,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Heard::Closed,
            Err(error) => panic!("nothing came from the broker: {error}"),
        };
        if packet.bytes.is_empty() {
            return Heard::Closed;
        }
        let frame = Frame::parse(&packet.bytes).expect("the broker sends proper packets");
        match frame.kind {
            Kind::Welcome => Heard::Welcome,
            Kind::Refused => Heard::Refused(String::from_utf8_lossy(frame.body).into_owned()),
            Kind::Reply => {
                let reply = frame.message("reply").expect("the broker sends proper replies");
                Heard::Reply(reply, packet.descriptors.len())
            }
            kind => panic!("the broker sent {kind:?}"),
        }
    }

    /// Expects a refusal and then the end; returns the reason.
    pub fn hear_refusal(&self) -> String {
        let Heard::Refused(reason) = self.hear() else { panic!("expected a refusal") };
        assert!(matches!(self.hear(), Heard::Closed), "the broker hangs up after a refusal");
        reason
    }
}

/// A producer without the client library, to publish what that never would.
pub struct RawProducer {
    _session: RawSession,
    regions: ProducerRegions,
}

impl RawProducer {
    /// Opens a stream.
    pub fn open(directory: &Path, stream: &str) -> Self {
        let session = RawSession::open(directory);
        let request = Request::OpenProducer { stream: stream.into(), partition: 0, name: None };
        session.send(&frame::encode(Kind::Request, 1, &request).expect("a test's request is small"));
        let packet = socket::receive(&session.socket).expect("the broker answers");
        let frame = Frame::parse(&packet.bytes).expect("the broker sends proper packets");
        let Ok(Reply::Producer(grant)) = frame.message("reply") else { panic!("expected a producer") };
        let ProducerGrant { incarnation, owner, position, settings, .. } = grant;
        let geometry =
            Geometry::new(settings.slots, settings.slot_bytes).expect("the broker grants what can be");
        let descriptors = packet.descriptors.try_into().expect("a producer has its descriptors");
        let publishing = Publishing {
            exclusive: settings.producers == Producers::Exclusive,
            drops: false,
            detaches: false,
            journaled: false,
        };
        let ring = RingIdentity { incarnation, geometry };
        let regions = ProducerRegions::open(ring, descriptors, publishing, owner, position)
            .expect("the broker hands over proper regions");
        Self { _session: session, regions }
    }

    /// Publishes a message, which must have space.
    pub fn publish(&mut self, message: &Outgoing<'_>) {
        self.regions.producer.publish(message).expect("there is space");
    }
}

/// A hello that speaks these versions.
pub fn hello(version_min: u16, version_max: u16) -> Vec<u8> {
    let hello = Hello { version_min, version_max, reserved: 0, features_required: 0, features_optional: 0 };
    frame::encode_fixed(Kind::Hello, 0, &hello)
}

/// A process of `ringway-test-peer`, killed when dropped.
pub struct Peer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    stdin: Option<ChildStdin>,
}

impl Peer {
    /// Starts the program at `path` (`env!("CARGO_BIN_EXE_ringway-test-peer")`) in a role.
    pub fn start(path: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test peer starts");
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Self { child, lines, stdin }
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        self.lines.next().expect("the peer prints a line before it ends").expect("the line is text")
    }

    /// Gives it a line to read.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{line}").expect("the peer reads what it is told");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the peer is alive or not yet waited for");
    }

    /// Kills it and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits until it has ended by itself.
    pub fn wait(mut self) {
        self.child.wait().expect("a child can be waited for");
    }

    fn end(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until `what` holds; panics with `message` when it does not within [`PATIENCE`].
pub fn eventually(message: &str, mut what: impl FnMut() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {message}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
