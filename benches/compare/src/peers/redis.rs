//! Redis Streams: one stream in a server of the trial's own that syncs its append-only file before it answers; `durable` only.
//!
//! What always holds:
//!
//! 1. `appendonly yes`, `appendfsync always`: an answer leaves the server when the file is synced. It takes no snapshots, and
//!    rewrites the file only when that is beyond what a trial of seconds writes.
//! 2. One blocking connection by a Unix socket, the fastest way there is on one host. All XADD of a window are sent without
//!    waiting for answers (pipelining), gathered to writes of 64 KiB; the server syncs once for all that it has read at once. More
//!    connections would let it sync for more at once, and lose the producer's order.
//! 3. The stream is trimmed about to the last 65,536 messages (`MAXLEN ~`), which drops whole nodes.

use std::path::Path;
use std::process::Command;

use redis::{Client, Connection, ConnectionAddr, IntoConnectionInfo, RedisResult, Value};

use super::server::{self, Server};
use crate::backoff::STALL_LIMIT;
use crate::error::CompareError;
use crate::measure::Sender;
use crate::measure::durable::{self, Confirmed, KEPT_MESSAGES};
use crate::payload::Payload;
use crate::trial::{Measured, Trial};

const SERVER: &str = "redis-server";
const SOCKET_FILE: &str = "socket";
const STREAM: &str = "there";
/// How much is gathered before it is written to the socket, in bytes.
const GATHERED_BYTES: usize = 64 << 10;

/// What is to be done if there is no Redis here.
pub(super) fn missing() -> Option<&'static str> {
    let advice = "its server is not installed (Debian: apt-get install redis-server; the service that comes with it is not used)";
    server::find(SERVER).is_none().then_some(advice)
}

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let mut command = Command::new(server::find(SERVER).unwrap_or_else(|| SERVER.into()));
    command.args(["--port", "0", "--unixsocket", SOCKET_FILE, "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-min-size", "1gb"]);
    let mut server = Server::start(trial, trial.private_directory()?, &mut command)?;
    let socket = server.directory().join(SOCKET_FILE);
    let connection = server.wait_until_ready("redis", || connect(&socket))?;
    let sender = RedisSender { connection, gathered: Vec::new(), confirmed: 0 };
    durable::near_end(trial, trial.parties.window(), sender)
}

fn connect(socket: &Path) -> RedisResult<Connection> {
    let address = ConnectionAddr::Unix(socket.to_owned()).into_connection_info()?;
    let mut connection = Client::open(address)?.get_connection_with_timeout(STALL_LIMIT)?;
    connection.set_read_timeout(Some(STALL_LIMIT))?;
    connection.set_write_timeout(Some(STALL_LIMIT))?;
    redis::cmd("PING").exec(&mut connection)?;
    Ok(connection)
}

struct RedisSender {
    connection: Connection,
    /// Commands that are still to be sent.
    gathered: Vec<u8>,
    /// Answers so far.
    confirmed: u64,
}

impl RedisSender {
    /// Sends what is gathered, if there is anything.
    fn flush(&mut self) -> Result<(), CompareError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.connection.send_packed_command(&self.gathered).map_err(failed("publish a message"))?;
        self.gathered.clear();
        Ok(())
    }
}

impl Sender for RedisSender {
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        redis::cmd("XADD")
            .arg(STREAM)
            .arg("MAXLEN")
            .arg("~")
            .arg(KEPT_MESSAGES)
            .arg("*")
            .arg("payload")
            .arg(payload.bytes())
            .write_packed_command(&mut self.gathered);
        if self.gathered.len() >= GATHERED_BYTES { self.flush() } else { Ok(()) }
    }
}

impl Confirmed for RedisSender {
    fn confirm(&mut self, messages: u64) -> Result<(), CompareError> {
        self.flush()?;
        while self.confirmed < messages {
            let answer = self.connection.recv_response().map_err(failed("confirm a message"))?;
            let Value::BulkString(_id) = answer else {
                return Err(failed("confirm a message")(format!("it answered {answer:?}")));
            };
            self.confirmed += 1;
        }
        Ok(())
    }
}

fn failed<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> CompareError {
    move |error| CompareError::Peer { peer: "redis", action, detail: error.to_string() }
}
