//! Aeron IPC: one exclusive publication per direction, between two processes, polled; the C media driver in a thread of
//! the near process.
//!
//! What always holds:
//!
//! 1. The driver runs one thread (threading mode shared) that sleeps when idle ("sleep-ns"), on the near CPU as
//!    Ringway's broker does. Client conductors run as Aeron starts them.
//! 2. A trial has its own directory, in shared memory as Aeron itself would choose it; it is removed with the trial.
//! 3. Each message is offered by itself (copied into the log, also in `large`: what spans several frames cannot be claimed
//!    in place); an offer that cannot go through is repeated with the shared back-off. The subscriber polls up to
//!    [`FRAGMENTS_MAX`] frames at a time, as Aeron's own samples do, and reads whole frames in place; payloads
//!    of several frames are put together by Aeron's assembler, which copies.
//! 4. The window is Aeron's default, half of a term of 64 MiB: it counts bytes, not messages. In `large` the term is such
//!    that it is about the depth, and frames are as large as they can be.

use std::ffi::CString;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rusteron_media_driver::bindings::aeron_threading_mode_enum;
use rusteron_media_driver::{
    Aeron, AeronContext, AeronDriver, AeronDriverContext, AeronExclusivePublication,
    AeronFragmentClosureAssembler, AeronHeader, AeronSubscription, Handlers,
};
use tempfile::TempDir;

use crate::backoff::{Backoff, STALL_LIMIT};
use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::{Attachment, FarProcess, FarSide};
use crate::measure::{self, Receiver, Sender};
use crate::payload::{Payload, Verifier};
use crate::trial::{Case, Measured, Trial};

/// The stream of each direction.
const THERE: i32 = 1;
const BACK: i32 = 2;
/// Where Aeron's files go if it is there.
const SHARED_MEMORY_DIRECTORY: &str = "/dev/shm";
/// Most frames in one poll.
const FRAGMENTS_MAX: usize = 10;
/// What fits a frame of the default maximum, in bytes.
const FRAME_PAYLOAD_MAX: usize = 1408 - 32;
/// The largest frame that can be asked for, in bytes.
const FRAME_MAX: usize = 65_504;
/// A message may take this part of a term.
const MESSAGE_PART_OF_TERM: usize = 8;

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let driver = PrivateDriver::start()?;
    let directory = driver.directory.path().to_owned();
    let client = connect(&directory)?;
    let sender = open_sender(&client, THERE, trial)?;
    let receiver = open_receiver(&client, BACK, trial)?;
    let attachment = Attachment { descriptors: Vec::new(), directory: Some(directory) };
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    measure::near_end(trial, sender, receiver, &mut control)
}

/// Runs the far end.
pub(super) fn far_end<W: Write>(side: &mut FarSide, reporter: &mut Reporter<W>) -> Result<(), CompareError> {
    let client = connect(side.directory()?)?;
    let sender = open_sender(&client, BACK, &side.trial)?;
    let receiver = open_receiver(&client, THERE, &side.trial)?;
    measure::far_end(&side.trial, sender, receiver, reporter)
}

/// A media driver of this trial's own; ends when dropped.
struct PrivateDriver {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    // Last: the driver's files are in it.
    directory: TempDir,
}

impl PrivateDriver {
    fn start() -> Result<Self, CompareError> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("ringway-compare-aeron-");
        let directory = match Path::new(SHARED_MEMORY_DIRECTORY) {
            shared_memory if shared_memory.is_dir() => builder.tempdir_in(shared_memory),
            _ => builder.tempdir(),
        };
        let directory = directory.map_err(CompareError::system("create a private directory for Aeron"))?;
        let path = c_string(directory.path())?;
        let stop = Arc::new(AtomicBool::new(false));
        let (report, started) = mpsc::channel();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let driver = match launch(&path) {
                Ok(driver) => driver,
                Err(error) => return drop(report.send(Err(error))),
            };
            drop(report.send(Ok(())));
            while !stopped.load(Ordering::Relaxed) {
                // What fails here shows at the clients.
                driver.main_idle_strategy(driver.main_do_work().unwrap_or_default());
            }
        });
        let driver = Self { stop, thread: Some(thread), directory };
        match started.recv_timeout(STALL_LIMIT) {
            Ok(outcome) => outcome.map(|()| driver),
            Err(error) => Err(failed("start its driver")(error)),
        }
    }
}

impl Drop for PrivateDriver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The trial is over: what it measured does not depend on how the driver ended.
            drop(thread.join());
        }
    }
}

fn launch(directory: &CString) -> Result<AeronDriver, CompareError> {
    let action = "start its driver";
    let context = AeronDriverContext::new().map_err(failed(action))?;
    context.set_dir(directory).map_err(failed(action))?;
    // The directory is new and there already.
    context.set_dir_warn_if_exists(false).map_err(failed(action))?;
    context.set_dir_delete_on_start(true).map_err(failed(action))?;
    context
        .set_threading_mode(aeron_threading_mode_enum::AERON_THREADING_MODE_SHARED)
        .map_err(failed(action))?;
    context.set_shared_idle_strategy(c"sleep-ns").map_err(failed(action))?;
    let driver = AeronDriver::new(&context).map_err(failed(action))?;
    // Its work is done by this thread.
    driver.start(true).map_err(failed(action))?;
    Ok(driver)
}

fn connect(directory: &Path) -> Result<Aeron, CompareError> {
    let action = "connect to its driver";
    let context = AeronContext::new().map_err(failed(action))?;
    context.set_dir(&c_string(directory)?).map_err(failed(action))?;
    let client = Aeron::new(&context).map_err(failed(action))?;
    client.start().map_err(failed(action))?;
    Ok(client)
}

fn channel(trial: &Trial) -> Result<CString, CompareError> {
    let channel = if trial.case == Case::Large {
        let term = trial.bytes * (2 * trial.depth).max(MESSAGE_PART_OF_TERM);
        format!("aeron:ipc?term-length={}|mtu={FRAME_MAX}", term.next_power_of_two())
    } else {
        "aeron:ipc".to_owned()
    };
    CString::new(channel).map_err(failed("name its channel"))
}

fn open_sender(client: &Aeron, stream: i32, trial: &Trial) -> Result<AeronSender, CompareError> {
    let publication = client
        .add_exclusive_publication(&channel(trial)?, stream, STALL_LIMIT)
        .map_err(failed("add a publication"))?;
    Ok(AeronSender { publication, backoff: Backoff::new(1) })
}

fn open_receiver(client: &Aeron, stream: i32, trial: &Trial) -> Result<AeronReceiver, CompareError> {
    let subscription = client
        .add_subscription(c"aeron:ipc", stream, Handlers::NONE, Handlers::NONE, STALL_LIMIT)
        .map_err(failed("add a subscription"))?;
    let assembler = if trial.bytes > FRAME_PAYLOAD_MAX {
        Some(AeronFragmentClosureAssembler::new().map_err(failed("make an assembler"))?)
    } else {
        None
    };
    Ok(AeronReceiver { subscription, assembler })
}

struct AeronSender {
    publication: AeronExclusivePublication,
    backoff: Backoff,
}

impl Sender for AeronSender {
    #[inline]
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        while let Err(error) = self.publication.offer(payload.bytes()) {
            if !error.is_retryable() {
                return Err(failed("offer a message")(error));
            }
            self.backoff.wait()?;
        }
        self.backoff.reset();
        Ok(())
    }
}

struct AeronReceiver {
    subscription: AeronSubscription,
    /// Where a payload takes several frames.
    assembler: Option<AeronFragmentClosureAssembler>,
}

impl Receiver for AeronReceiver {
    #[inline]
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        let read_before = verifier.sequence();
        let Some(assembler) = &mut self.assembler else {
            self.subscription
                .poll_fn(|payload: &[u8], _header: AeronHeader| verifier.read(payload), FRAGMENTS_MAX)
                .map_err(failed("poll"))?;
            return Ok(verifier.sequence() > read_before);
        };
        let read = |verifier: &mut Verifier, payload: &[u8], _header: AeronHeader| verifier.read(payload);
        // Frames of an unfinished message are no message: on until it is whole, or there is nothing.
        while verifier.sequence() == read_before {
            if assembler.poll(&self.subscription, verifier, read, FRAGMENTS_MAX).map_err(failed("poll"))? == 0
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn c_string(path: &Path) -> Result<CString, CompareError> {
    CString::new(path.to_string_lossy().as_bytes()).map_err(failed("name its directory"))
}

fn failed<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> CompareError {
    move |error| CompareError::Peer { peer: "aeron", action, detail: error.to_string() }
}
