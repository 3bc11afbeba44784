//! A broker inside a process: the same clients, the same promises while the process lives, no daemon.
//!
//! ```text
//! process ── control thread, a thread for each shard ── in a private directory ◀── Connection::open(embedded.directory())
//! ```
//!
//! 1. There is no keeper: what is in memory ends with the process, or with the [`Embedded`] before it.
//! 2. Without a configuration nothing is written anywhere, and streams that are to be durable are refused.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tempfile::TempDir;

use super::{Broker, BrokerError, StartError, Stopper};
use crate::config::Config;

/// A broker that runs in this process until it is stopped or dropped. Clients, of this process and of others of the same user,
/// connect to its [directory](Self::directory), and find everything as with a broker of its own:
///
/// ```
/// use ringway_broker::Embedded;
///
/// let broker = Embedded::start()?;
/// println!("Connection::open({:?})", broker.directory());
/// broker.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A child that the process forks has no broker: it may connect to its parent's. Each start leaves one descriptor for each shard open,
/// an eventfd that the runtime on io_uring does not close (glommio 0.9).
#[derive(Debug)]
pub struct Embedded {
    path: PathBuf,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), BrokerError>>>,
    /// Removed at the end, if it was made for this broker.
    _directory: Option<TempDir>,
}

impl Embedded {
    /// Starts a broker with one shard in a directory of its own, which is removed at the end. It keeps messages in memory: streams of
    /// another [durability](ringway_shm_protocol::control::message::Durability) are refused.
    pub fn start() -> Result<Self, StartError> {
        let failed = |source| StartError::System { action: "make a directory for its socket", source };
        let directory = tempfile::Builder::new().prefix("ringway-").tempdir().map_err(failed)?;
        let config = Config::load(None, Some(directory.path().join("broker")))?;
        Self::run(Broker::start_in_memory(config)?, Some(directory))
    }

    /// Starts a broker as it is configured: in a directory that others know, with journals for durable streams, on these cores.
    ///
    /// ```no_run
    /// use ringway_broker::Embedded;
    /// use ringway_broker::config::Config;
    ///
    /// let config = Config::load(None, Some("/run/mine".into()))?;
    /// let broker = Embedded::start_with(Config { data: "/var/lib/mine".into(), ..config })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start_with(config: Config) -> Result<Self, StartError> {
        Self::run(Broker::start(config)?, None)
    }

    fn run(broker: Broker, directory: Option<TempDir>) -> Result<Self, StartError> {
        let (path, stopper) = (broker.directory().to_owned(), broker.stopper());
        let thread = std::thread::Builder::new().name("embedded".to_owned()).spawn(|| broker.wait());
        let failed = |source| StartError::System { action: "start a thread", source };
        Ok(Self { path, stopper, thread: Some(thread.map_err(failed)?), _directory: directory })
    }

    /// The directory that clients connect to.
    pub fn directory(&self) -> &Path {
        &self.path
    }

    /// Ends the broker: what is to be durable is, every client that sleeps is woken, and what it made is removed. Returns when its
    /// threads have ended.
    pub fn stop(mut self) -> Result<(), BrokerError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), BrokerError> {
        self.stopper.stop();
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("a broker does not panic"))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Whoever wants to know stops it.
        let _ = self.end();
    }
}
