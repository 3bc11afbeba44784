//! NATS JetStream: a stream in files with a server of the trial's own; `durable` only.
//!
//! What always holds:
//!
//! 1. As `jetstream` the server syncs before it acks (`sync_interval: always`). It knows that from version 2.10 on; where it is older,
//!    as in Debian 12, the peer is skipped. As `jetstream_unsynced` it has the setting that it comes with, a sync every two
//!    minutes: **its acks say nothing of the device**, and it is here for what it is often compared as.
//! 2. Every message is published by itself with its ack still to come (async publish), up to [`WINDOW_MAX`]; a larger window makes
//!    it no faster. Each ack is looked at: the next number of the stream, and no duplicate.
//! 3. One thread has the connection and its traffic: two would share the near CPU.
//! 4. The stream keeps the last 65,536 messages.

use std::collections::VecDeque;
use std::process::Command;

use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture};
use async_nats::jetstream::{Context, stream};
use tokio::runtime::Runtime;

use super::server::{self, Server};
use crate::backoff::STALL_LIMIT;
use crate::error::CompareError;
use crate::measure::Sender;
use crate::measure::durable::{self, Confirmed, KEPT_MESSAGES};
use crate::payload::Payload;
use crate::trial::{Measured, Trial};

const SERVER: &str = "nats-server";
const STREAM: &str = "there";
/// In errors, of either.
const PEER: &str = "jetstream";
const CONFIGURATION_FILE: &str = "nats.conf";
/// The first version that can sync before it acks.
const SYNCING_VERSION: (u32, u32) = (2, 10);
/// Most messages published and not acked.
const WINDOW_MAX: u32 = 4096;

/// When the server syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syncs {
    /// Before each ack.
    BeforeAcks,
    /// Every two minutes.
    Seldom,
}

/// What is to be done if there is no NATS here that can do this.
pub(super) fn missing(syncs: Syncs) -> Option<&'static str> {
    let Some(program) = server::find(SERVER) else {
        return Some(
            "its server is not installed (Debian: apt-get install nats-server; the service that comes with it is not used)",
        );
    };
    let said =
        Command::new(program).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let can_sync = version_in(&String::from_utf8_lossy(&said)) >= Some(SYNCING_VERSION);
    (syncs == Syncs::BeforeAcks && !can_sync).then_some(
        "its server cannot sync before it acks: that came with NATS 2.10, and Debian 12's nats-server is 2.9; the first \
         nats-server on the path is taken",
    )
}

/// Major and minor version in what the server says of itself: `nats-server: v2.9.10`.
fn version_in(said: &str) -> Option<(u32, u32)> {
    let (_, version) = said.trim().split_once(": v")?;
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Runs one trial.
pub(super) fn measure(trial: &Trial, syncs: Syncs) -> Result<Measured, CompareError> {
    let directory = trial.private_directory()?;
    let [port] = server::free_ports()?;
    let syncing = if syncs == Syncs::BeforeAcks { ", sync_interval: always" } else { "" };
    let address = format!("127.0.0.1:{port}");
    let configuration = format!("listen: \"{address}\"\njetstream {{ store_dir: store{syncing} }}\n");
    std::fs::write(directory.path().join(CONFIGURATION_FILE), configuration)
        .map_err(CompareError::system("prepare NATS's directory"))?;
    let mut command = Command::new(server::find(SERVER).unwrap_or_else(|| SERVER.into()));
    command.args(["--config", CONFIGURATION_FILE]);
    let mut server = Server::start(trial, directory, &mut command)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CompareError::system("prepare NATS's client"))?;
    let window = trial.parties.window().min(WINDOW_MAX);
    let client = server.wait_until_ready(PEER, || runtime.block_on(async_nats::connect(&address)))?;
    let context = runtime.block_on(async {
        let window = window as usize;
        let context = ContextBuilder::new().timeout(STALL_LIMIT).max_ack_inflight(window).build(client);
        let settings = stream::Config {
            name: STREAM.to_owned(),
            max_messages: KEPT_MESSAGES.into(),
            ..stream::Config::default()
        };
        context.create_stream(settings).await.map_err(failed("declare a stream"))?;
        Ok::<_, CompareError>(context)
    })?;
    let sender = JetStreamSender { runtime, context, acks: VecDeque::new(), confirmed: 0 };
    durable::near_end(trial, window, sender)
}

struct JetStreamSender {
    runtime: Runtime,
    context: Context,
    /// Those that are still to come, oldest first.
    acks: VecDeque<PublishAckFuture>,
    /// Acks so far.
    confirmed: u64,
}

impl Sender for JetStreamSender {
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        let published = self.context.publish(STREAM, payload.bytes().to_vec().into());
        self.acks.push_back(self.runtime.block_on(published).map_err(failed("publish a message"))?);
        Ok(())
    }
}

impl Confirmed for JetStreamSender {
    fn confirm(&mut self, messages: u64) -> Result<(), CompareError> {
        self.runtime.block_on(async {
            while self.confirmed < messages {
                let ack = self.acks.pop_front().expect("only what is published is waited for");
                let ack = ack.await.map_err(failed("confirm a message"))?;
                self.confirmed += 1;
                if ack.duplicate || ack.sequence != self.confirmed {
                    return Err(failed("confirm a message")(format!(
                        "it acked {ack:?} as {}",
                        self.confirmed
                    )));
                }
            }
            Ok(())
        })
    }
}

fn failed<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> CompareError {
    move |error| CompareError::Peer { peer: PEER, action, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_and_one_before_2_10_cannot_sync() {
        assert_eq!(version_in("nats-server: v2.9.10\n"), Some((2, 9)));
        assert_eq!(version_in("nats-server: v2.15.1"), Some((2, 15)));
        assert_eq!(version_in("something else"), None);
        assert!(version_in("nats-server: v2.9.10") < Some(SYNCING_VERSION));
        assert!(version_in("nats-server: v2.10.0-preview.1") >= Some(SYNCING_VERSION));
    }
}
