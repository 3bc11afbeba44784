//! The Ringway broker: pinned shards, the control plane, and the rings that they hand out.
//!
//! ```no_run
//! use ringway_broker::{Broker, config::Config};
//!
//! let config = Config::load(None, Some("/run/ringway".into()))?;
//! let broker = Broker::start(config)?;
//! println!("serving {}", broker.directory().display());
//! broker.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `ARCHITECTURE.md` draws how the parts fit; in short: [`core`] decides, the shard acts, the control plane
//! talks to clients, the runtime pins and wakes. Messages do not pass through here at all.

mod clock;
pub mod config;
mod control;
pub mod core;
mod directory;
mod runtime;
mod shard;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::EventfdFlags;
use rustix::process::{Resource, Rlimit};
use thiserror::Error;

use config::Config;
use control::{Control, Parts};
pub use directory::DirectoryError;
use directory::ServedDirectory;
use runtime::PinnedThread;
pub use runtime::RuntimeError;
use shard::{Command, Mailbox, Shard};

/// Why a broker could not start. Nothing is left behind.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The directory cannot be used, or another broker uses it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The runtime cannot run here.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The kernel refused something else.
    #[error("the broker cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

/// Why a running broker ended although nobody told it to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// A shard ended.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The control plane ended.
    #[error("the control plane failed: {0}")]
    Control(io::Error),
}

/// A running broker.
pub struct Broker {
    directory: ServedDirectory,
    config: Config,
    stop: Arc<OwnedFd>,
    mailboxes: Vec<Mailbox>,
    threads: Vec<PinnedThread>,
    control: JoinHandle<io::Result<()>>,
}

/// Ends a [`Broker`] from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<OwnedFd>);

impl Stopper {
    /// Tells the broker to end; [`Broker::wait`] returns when it has.
    pub fn stop(&self) {
        // Fails only when the count is about to overflow: then it has been told often enough.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

impl Broker {
    /// Takes the directory, starts a shard on each configured core and the control plane; returns when clients
    /// can connect.
    pub fn start(config: Config) -> Result<Self, StartError> {
        runtime::probe()?;
        raise_descriptor_limit();
        let (directory, listener) = ServedDirectory::take(&config.directory)?;
        let system = |action| move |source: io::Error| StartError::System { action, source };
        let eventfd = |flags| rustix::event::eventfd(0, flags).map_err(io::Error::from);
        let stop =
            eventfd(EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system("make an eventfd"))?;
        let stop_reader = stop.try_clone().map_err(system("duplicate an eventfd"))?;
        let (answers, answer_inbox) = shard::answers().map_err(system("make an eventfd"))?;

        let mut shards = Shards { mailboxes: Vec::new(), threads: Vec::new() };
        for (number, core) in config.cores.iter().enumerate() {
            let (mailbox, inbox, wake) = shard::mailbox().map_err(system("make an eventfd"))?;
            let mut shard = Shard::new(number as u32, config.payload_bytes_max, inbox, answers.clone());
            let thread = runtime::spawn(*core, &format!("shard-{number}"), wake, move || shard.turn());
            shards.threads.push(thread?);
            shards.mailboxes.push(mailbox);
        }
        let control = Control::new(Parts {
            listener,
            shards: shards.mailboxes.clone(),
            answers: answer_inbox,
            stop: stop_reader,
            sessions_max: config.sessions_max,
            hello_timeout: Duration::from_millis(config.hello_timeout_ms),
        })
        .map_err(system("watch its sockets"))?;
        let control = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || control.run())
            .map_err(system("start the control thread"))?;
        let (mailboxes, threads) = shards.running();
        Ok(Self { directory, config, stop: Arc::new(stop), mailboxes, threads, control })
    }

    /// The directory that clients connect to.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The cores that shards are pinned to, in order of the shards.
    pub fn cores(&self) -> &[usize] {
        &self.config.cores
    }

    /// Something that ends this broker.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    /// Waits until the broker is told to end, by a client or a [`Stopper`]; then ends its threads, wakes every
    /// client that sleeps, and removes what it made in the directory.
    pub fn wait(self) -> Result<(), BrokerError> {
        let control = self.control.join().expect("the control plane does not panic");
        // The sockets are closed now, so whoever is woken sees that the broker has gone.
        let mut ended = Ok(());
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Stop);
        }
        for thread in self.threads {
            ended = ended.and(thread.join());
        }
        control.map_err(BrokerError::Control)?;
        Ok(ended?)
    }
}

/// Shards that are being started: ended again if something fails.
struct Shards {
    mailboxes: Vec<Mailbox>,
    threads: Vec<PinnedThread>,
}

impl Shards {
    fn running(mut self) -> (Vec<Mailbox>, Vec<PinnedThread>) {
        (std::mem::take(&mut self.mailboxes), std::mem::take(&mut self.threads))
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Stop);
        }
        for thread in self.threads.drain(..) {
            // The error that is being returned already is the one that matters.
            let _ = thread.join();
        }
    }
}

/// Uses all the descriptors that the hard limit allows: every session costs two, every ring five.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Without it the broker serves fewer clients and says so when they are too many.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}
