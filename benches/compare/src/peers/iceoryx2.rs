//! iceoryx2: one publish/subscribe service per direction, between two processes, polled.
//!
//! What always holds:
//!
//! 1. Nothing is lost: safe overflow is off, a publisher with a full subscriber waits, and every send must reach
//!    exactly one subscriber.
//! 2. Each message is loaned, written, and sent; received, read in place, and given back.
//! 3. A trial has its own root directory and file prefix: it meets no other iceoryx2 user of the machine, and what
//!    it leaves in shared memory is removed by that prefix, also after a failure.
//!
//! A publisher waits in iceoryx2's own way while the subscriber's buffer is full: it offers the CPU after each look.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use iceoryx2::node::{Node, NodeBuilder};
use iceoryx2::port::BackpressureAction;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{
    Alignment, BackpressureStrategy, Config, FileName, LogLevel, SemanticString, SignalHandlingMode, ipc,
    set_log_level,
};
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use tempfile::TempDir;

use crate::backoff::STALL_LIMIT;
use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::{Attachment, FarProcess, FarSide};
use crate::measure::{self, Receiver, Sender};
use crate::payload::{LINE_BYTES, Payload, Verifier};
use crate::trial::{Measured, Trial};

const THERE: &str = "there";
const BACK: &str = "back";
/// Where POSIX shared memory objects appear as files.
const SHARED_MEMORY_DIRECTORY: &str = "/dev/shm";

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let domain = Domain::create()?;
    let directory = domain.directory.path().to_path_buf();
    let node = open_node(&directory)?;
    let sender = open_sender(&node, THERE, trial)?;
    let receiver = open_receiver(&node, BACK, trial)?;
    let attachment = Attachment { descriptors: Vec::new(), directory: Some(directory) };
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    measure::near_end(trial, sender, receiver, &mut control)
}

/// Runs the far end.
pub(super) fn far_end<W: Write>(side: &mut FarSide, reporter: &mut Reporter<W>) -> Result<(), CompareError> {
    let node = open_node(side.directory()?)?;
    let sender = open_sender(&node, BACK, &side.trial)?;
    let receiver = open_receiver(&node, THERE, &side.trial)?;
    measure::far_end(&side.trial, sender, receiver, reporter)
}

/// One trial's private part of the file system, emptied when dropped.
struct Domain {
    directory: TempDir,
}

impl Domain {
    fn create() -> Result<Self, CompareError> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let directory = tempfile::Builder::new()
            .prefix(&format!("ringway-compare-{}-{number}-", std::process::id()))
            .tempdir()
            .map_err(CompareError::system("create a private directory for iceoryx2"))?;
        Ok(Self { directory })
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        let prefix = file_prefix(self.directory.path());
        let Ok(entries) = std::fs::read_dir(SHARED_MEMORY_DIRECTORY) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }
}

/// The start of all names that iceoryx2 gives in a domain: as unique as the directory is.
fn file_prefix(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}_")
}

fn open_node(directory: &Path) -> Result<Node<ipc::Service>, CompareError> {
    set_log_level(LogLevel::Error);
    let prefix = FileName::new(file_prefix(directory).as_bytes()).map_err(failed("name its files"))?;
    let root = directory.to_string_lossy();
    let root = iceoryx2::prelude::Path::new(root.as_bytes()).map_err(failed("name its directory"))?;
    let mut config = Config::default();
    config.global.set_root_path(&root);
    config.global.prefix = prefix;
    NodeBuilder::new()
        .config(&config)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create()
        .map_err(failed("create a node"))
}

fn open_service(
    node: &Node<ipc::Service>,
    name: &str,
    trial: &Trial,
) -> Result<PortFactory<ipc::Service, [u8], ()>, CompareError> {
    let name = name.try_into().map_err(failed("name a service"))?;
    let alignment = Alignment::new(LINE_BYTES).ok_or(()).map_err(failed("align payloads"))?;
    node.service_builder(&name)
        .publish_subscribe::<[u8]>()
        .payload_alignment(alignment)
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(trial.depth)
        .history_size(0)
        .max_publishers(1)
        .max_subscribers(1)
        .open_or_create()
        .map_err(failed("open a service"))
}

fn open_sender(node: &Node<ipc::Service>, name: &str, trial: &Trial) -> Result<IceoryxSender, CompareError> {
    let publisher = open_service(node, name, trial)?
        .publisher_builder()
        .initial_max_slice_len(trial.bytes)
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .set_backpressure_handler(|info| {
            if info.elapsed_time > STALL_LIMIT {
                BackpressureAction::DiscardDataAndFail
            } else {
                BackpressureAction::Retry
            }
        })
        .create()
        .map_err(failed("create a publisher"))?;
    Ok(IceoryxSender { publisher })
}

fn open_receiver(
    node: &Node<ipc::Service>,
    name: &str,
    trial: &Trial,
) -> Result<IceoryxReceiver, CompareError> {
    let subscriber = open_service(node, name, trial)?
        .subscriber_builder()
        .buffer_size(trial.depth)
        .create()
        .map_err(failed("create a subscriber"))?;
    Ok(IceoryxReceiver { subscriber })
}

struct IceoryxSender {
    publisher: Publisher<ipc::Service, [u8], ()>,
}

impl Sender for IceoryxSender {
    #[inline]
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        let bytes = payload.bytes();
        let loan = self.publisher.loan_slice_uninit(bytes.len()).map_err(failed("loan a sample"))?;
        match loan.write_from_slice(bytes).send().map_err(failed("send a sample"))? {
            1 => Ok(()),
            subscribers => Err(failed("reach one subscriber")(subscribers)),
        }
    }
}

struct IceoryxReceiver {
    subscriber: Subscriber<ipc::Service, [u8], ()>,
}

impl Receiver for IceoryxReceiver {
    #[inline]
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        match self.subscriber.receive().map_err(failed("receive a sample"))? {
            None => Ok(false),
            Some(sample) => {
                verifier.read(sample.payload());
                Ok(true)
            }
        }
    }
}

fn failed<E: std::fmt::Debug>(action: &'static str) -> impl FnOnce(E) -> CompareError {
    move |error| CompareError::Peer { peer: "iceoryx2", action, detail: format!("{error:?}") }
}
