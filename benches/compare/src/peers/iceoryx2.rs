//! iceoryx2: one publish/subscribe service per direction, between two processes, polled.
//!
//! What always holds:
//!
//! 1. Nothing is lost: safe overflow is off, a publisher with a full subscriber waits, and every send must reach
//!    every subscriber of the trial.
//! 2. Each message is loaned, written, and sent; received, read in place, and given back.
//! 3. A trial has its own root directory and file prefix: it meets no other iceoryx2 user of the machine, and what
//!    it leaves in shared memory is removed by that prefix, also after a failure.
//!
//! 4. In `wake` an event service stands beside: the publisher notifies after each send, the subscriber waits for
//!    that, as iceoryx2 has no other way to sleep.
//! 5. A service is made for exactly as many publishers and subscribers as the trial has: iceoryx2 fixes both numbers when a
//!    service is made (2 and 8 if nothing is said). Each publisher of `producers` has a node of its own, on its thread.
//!
//! A publisher waits in iceoryx2's own way while the subscriber's buffer is full: it offers the CPU after each look.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use iceoryx2::node::{Node, NodeBuilder};
use iceoryx2::port::BackpressureAction;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
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
use crate::measure::{self, Receiver, SLEEP, Sender, fan_out, many_producers};
use crate::payload::{LINE_BYTES, Payload, Verifier, write_message};
use crate::trial::{Case, Measured, Trial};

const THERE: &str = "there";
const BACK: &str = "back";
/// Where POSIX shared memory objects appear as files.
const SHARED_MEMORY_DIRECTORY: &str = "/dev/shm";

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let domain = Domain::create()?;
    let directory = domain.directory.path().to_path_buf();
    let attachment = Attachment { descriptors: Vec::new(), directory: Some(directory.clone()) };
    if trial.case == Case::Producers {
        let node = open_node(&directory)?;
        // Made here, before anyone opens it, and kept until all have ended.
        let _service = open_service(&node, THERE, trial)?;
        let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
        // A node and its ports stay on their thread.
        let open = |_| open_sender(&open_node(&directory)?, THERE, trial);
        return many_producers::near_end(trial, open, &mut control);
    }
    let node = open_node(&directory)?;
    let sender = open_sender(&node, THERE, trial)?;
    let receiver = open_receiver(&node, BACK, trial)?;
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    measure::near_end(trial, sender, receiver, &mut control)
}

/// Runs the far end.
pub(super) fn far_end<W: Write>(side: &mut FarSide, reporter: &mut Reporter<W>) -> Result<(), CompareError> {
    let node = open_node(side.directory()?)?;
    let trial = &side.trial;
    let sender = open_sender(&node, BACK, trial)?;
    if trial.case == Case::FanOut {
        let open = |_| open_receiver(&node, THERE, trial);
        let receivers = (0..trial.parties.consumers()).map(open).collect::<Result<Vec<_>, _>>()?;
        return fan_out::far_end(trial, sender, receivers, reporter);
    }
    let receiver = open_receiver(&node, THERE, trial)?;
    measure::far_end(trial, sender, receiver, reporter)
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
        .max_publishers(trial.parties.producers() as usize)
        .max_subscribers(trial.parties.consumers() as usize)
        // Each producer's thread, the near end, and the far end.
        .max_nodes(trial.parties.producers() as usize + 2)
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
    let notifier = if is_asleep(name, trial) {
        let notifier = open_event(node, name)?.notifier_builder().create();
        Some(notifier.map_err(failed("create a notifier"))?)
    } else {
        None
    };
    let subscribers = if name == THERE { trial.parties.consumers() as usize } else { 1 };
    Ok(IceoryxSender { publisher, notifier, subscribers })
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
    let listener = if is_asleep(name, trial) {
        let listener = open_event(node, name)?.listener_builder().create();
        Some(listener.map_err(failed("create a listener"))?)
    } else {
        None
    };
    Ok(IceoryxReceiver { subscriber, listener })
}

/// Whether the consumer of a direction sleeps.
fn is_asleep(name: &str, trial: &Trial) -> bool {
    trial.case == Case::Wake && name == THERE
}

fn open_event(
    node: &Node<ipc::Service>,
    name: &str,
) -> Result<iceoryx2::service::port_factory::event::PortFactory<ipc::Service>, CompareError> {
    let name = name.try_into().map_err(failed("name an event service"))?;
    node.service_builder(&name).event().open_or_create().map_err(failed("open an event service"))
}

struct IceoryxSender {
    publisher: Publisher<ipc::Service, [u8], ()>,
    /// Where the subscriber sleeps.
    notifier: Option<Notifier<ipc::Service>>,
    /// How many each message must reach.
    subscribers: usize,
}

impl IceoryxSender {
    #[inline]
    fn check_and_notify(&self, reached: usize) -> Result<(), CompareError> {
        if reached != self.subscribers {
            return Err(failed("reach all subscribers")(reached));
        }
        if let Some(notifier) = &self.notifier {
            notifier.notify().map_err(failed("notify the subscriber"))?;
        }
        Ok(())
    }
}

impl Sender for IceoryxSender {
    #[inline]
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        let bytes = payload.bytes();
        let loan = self.publisher.loan_slice_uninit(bytes.len()).map_err(failed("loan a sample"))?;
        let reached = loan.write_from_slice(bytes).send().map_err(failed("send a sample"))?;
        self.check_and_notify(reached)
    }

    #[inline]
    fn send_written(&mut self, sequence: u64, own: &mut Payload) -> Result<(), CompareError> {
        let bytes = own.bytes().len();
        let mut loan = self.publisher.loan_slice_uninit(bytes).map_err(failed("loan a sample"))?;
        let memory = loan.payload_mut();
        // SAFETY: the same bytes at the same place, borrowed for as long; shared memory comes zeroed from the system, so
        // they have values, and only bytes with values are written.
        write_message(unsafe { memory.assume_init_mut() }, sequence);
        // SAFETY: as above.
        let sample = unsafe { loan.assume_init() };
        let reached = sample.send().map_err(failed("send a sample"))?;
        self.check_and_notify(reached)
    }
}

struct IceoryxReceiver {
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    /// Where it sleeps.
    listener: Option<Listener<ipc::Service>>,
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

    fn receive_asleep(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        loop {
            if self.try_receive(verifier)? {
                return Ok(true);
            }
            let Some(listener) = &self.listener else {
                return Err(failed("sleep")("a subscriber without a listener"));
            };
            let events = listener.timed_wait(|_| (), SLEEP).map_err(failed("wait for an event"))?;
            if events == 0 {
                return Ok(false);
            }
        }
    }
}

fn failed<E: std::fmt::Debug>(action: &'static str) -> impl FnOnce(E) -> CompareError {
    move |error| CompareError::Peer { peer: "iceoryx2", action, detail: format!("{error:?}") }
}
