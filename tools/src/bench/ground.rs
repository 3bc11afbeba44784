//! Where a bench takes place: at a broker of its own, or at a running one with a stream of its own.
//!
//! What always holds: another process, the sweeper, removes what was made when its input ends, and that ends with the bench,
//! whatever ends that. The sweeper is there before anything is made.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringway_client::{AdminError, Connection, RefusalCode, StartAt, SubscriptionMode};
use ringway_shm_protocol::control::SOCKET_NAME;

use super::plan::{Case, Plan};
use crate::cli::BenchSweeperArgs;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::processes::{BrokerProcess, Input, Process, own_directory};

/// How long the sweeper tries: a broker takes a moment to see that processes have died, or to end.
const SWEEP_MAX: Duration = Duration::from_secs(20);
const SWEEP_EVERY: Duration = Duration::from_millis(5);
/// What a directory of a bench's own broker is named after.
const PURPOSE: &str = "bench";

/// See the module. Dropped in this order.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) connection: Connection,
    /// Whether the broker is the bench's own.
    pub(crate) is_own: bool,
    broker: Option<BrokerProcess>,
    sweeper: Sweeper,
}

impl Ground {
    /// A broker of the bench's own, or the one in `directory`, with the stream and the subscriptions.
    pub(crate) fn prepare(
        plan: &Plan,
        directory: Option<PathBuf>,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let is_own = directory.is_none();
        let directory = directory.unwrap_or_else(|| own_directory(PURPOSE));
        let ground = if is_own {
            let sweeper = Sweeper::start(&["--directory".into(), (&directory).into()], interrupt)?;
            let broker = BrokerProcess::start(directory, interrupt)?;
            Self { connection: crate::connect_to(broker.directory())?, is_own, broker: Some(broker), sweeper }
        } else {
            let connection = crate::connect_to(&directory)?;
            let what = ["--stream".into(), (&plan.stream).into(), "--dir".into(), directory.into()];
            Self { connection, is_own, broker: None, sweeper: Sweeper::start(&what, interrupt)? }
        };
        ground.declare(plan)?;
        Ok(ground)
    }

    fn declare(&self, plan: &Plan) -> Result<(), Failure> {
        let (stream, settings) = (&plan.stream, plan.settings());
        if plan.case == Case::Queue {
            self.connection.declare_queue(stream, settings, plan.shared())?;
            return Ok(());
        }
        self.connection.declare_stream(stream, settings)?;
        for consumer in 0..plan.consumers {
            let (name, mode) = (plan.subscription(consumer), SubscriptionMode::Cursor(plan.cursor()));
            self.connection.declare_subscription_as(stream, &name, StartAt::First, mode)?;
        }
        Ok(())
    }

    /// Messages published so far.
    pub(crate) fn published(&self, plan: &Plan) -> Result<u64, Failure> {
        let stream = self.connection.stream(&plan.stream)?;
        Ok(stream.partitions.iter().map(|partition| partition.next_position).sum())
    }

    /// Messages of the queue that are not acked.
    pub(crate) fn unsettled(&self, plan: &Plan) -> Result<u64, Failure> {
        Ok(self.connection.subscription(&plan.stream, &plan.stream)?.shared().unsettled())
    }

    /// Removes everything.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        let ended = self.broker.as_mut().map_or(Ok(()), BrokerProcess::end).map_err(Failure::new);
        drop(self.broker.take());
        drop(self.sweeper);
        ended
    }
}

/// The process that removes what was made; waited for when dropped.
#[derive(Debug)]
struct Sweeper(Process);

impl Sweeper {
    fn start(what: &[OsString], interrupt: &Interrupt) -> Result<Self, Failure> {
        let arguments = [&["bench-sweeper".into()], what].concat();
        Ok(Self(Process::start("sweeper", &arguments, Input::Lines, interrupt)?))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Runs the sweeper.
pub(crate) fn sweep(args: &BenchSweeperArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    // Opened before anything is made: what was made later may be gone.
    let connection = match (&args.stream, directory) {
        (Some(_), Some(directory)) => Some(crate::connect_to(directory)?),
        _ => None,
    };
    // Whether it ends or fails: the bench is over.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let began = Instant::now();
    while began.elapsed() < SWEEP_MAX {
        let swept = match (&args.stream, &connection, &args.directory) {
            (Some(stream), Some(connection), _) => is_deleted(connection, stream.as_str())?,
            (_, _, Some(directory)) => is_removed(directory)?,
            _ => true,
        };
        if swept {
            return Ok(());
        }
        std::thread::sleep(SWEEP_EVERY);
    }
    let what = args.stream.as_ref().map_or_else(
        || format!("the directory {:?}: remove it", args.directory),
        |stream| format!("the stream {stream}: ringway stream delete {stream}"),
    );
    Err(Failure::new(format!("the bench could not remove {what}")))
}

fn is_deleted(connection: &Connection, stream: &str) -> Result<bool, Failure> {
    match connection.delete_stream(stream) {
        Ok(()) | Err(AdminError::Ended { .. } | AdminError::Disconnected) => Ok(true),
        Err(AdminError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => Ok(true),
        Err(AdminError::Refused(refusal)) if refusal.code == RefusalCode::InUse => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Once its broker has ended, with the journal that may be in it.
fn is_removed(directory: &Path) -> Result<bool, Failure> {
    let is_own =
        directory.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ringway-bench-"));
    if !is_own {
        return Err(Failure::new(format!("{} is no directory of a bench", directory.display())));
    }
    if directory.join(SOCKET_NAME).exists() {
        return Ok(false);
    }
    match std::fs::remove_dir_all(directory) {
        // The broker may be about to remove, or to write, something in it.
        Err(error) => Ok(error.kind() == std::io::ErrorKind::NotFound && !directory.exists()),
        Ok(()) => Ok(true),
    }
}
