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

mod admission;
mod clock;
pub mod config;
mod control;
pub mod core;
mod directory;
mod embedded;
pub mod holdings;
pub mod inspection;
mod journal;
pub mod keeper;
mod memory_log;
mod runtime;
pub mod salvage;
mod shard;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ringway_shm_protocol::stops;
use ringway_shm_protocol::text::count;
use rustix::event::EventfdFlags;
use thiserror::Error;

use admission::Admission;
use config::{Config, ConfigError, RuntimeChoice};
use control::{Before, Control, Parts};
pub use directory::DirectoryError;
use directory::ServedDirectory;
pub use embedded::Embedded;
pub use journal::recovery::RecoveryError;
use keeper::{Estate, Keeping, Kept, Key, Link, Message, raise_descriptor_limit};
pub use runtime::{LOCKED_MEMORY_BYTES_MIN, RuntimeError};
use runtime::{PinnedThread, Runtime};
pub use shard::{AdoptError, Restoring};
use shard::{Command, JournalPlace, Mailbox, Shard};

const _: () = {
    assert!(config::SEGMENT_BYTES_MIN == journal::format::SEGMENT_BYTES_MIN);
    assert!(config::BLOCK_BYTES == journal::format::BLOCK_BYTES as u64);
};

/// Why a broker could not start. Nothing is left behind.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The directory cannot be used, or another broker uses it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// There is no configuration that it could start with.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The runtime cannot run here.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The journals were written by another number of shards.
    #[error(
        "the journals in {} are of {}, and {configured} are configured: streams belong to shards by their number; configure \
         {}, or another data directory", .data.display(), count(*.found as u64, "shard"), count(*.found as u64, "core")
    )]
    Shards {
        /// Where the journals are.
        data: PathBuf,
        /// How many shards have written them.
        found: usize,
        /// How many cores are configured.
        configured: usize,
    },
    /// It cannot go on where the broker before has stopped.
    #[error("the broker cannot take over from the one before: {0}")]
    Adopt(#[from] AdoptError),
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
    path: PathBuf,
    /// Its own, if there is no keeper.
    _directory: Option<ServedDirectory>,
    /// What a successor needs to begin.
    _kept: Vec<Kept>,
    keeping: Arc<Keeping>,
    config: Config,
    notices: Vec<String>,
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
    /// can connect. There is no keeper: what it holds ends with this process.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::begin(config, true)
    }

    /// The same without journals: streams that are to be durable are refused.
    fn start_in_memory(config: Config) -> Result<Self, StartError> {
        Self::begin(config, false)
    }

    fn begin(config: Config, journals: bool) -> Result<Self, StartError> {
        raise_descriptor_limit();
        let (directory, listener) = ServedDirectory::take(&config.directory, &admission_of(&config))?;
        let (keeping, estate) = (Arc::default(), Estate::new());
        Self::launch(config, journals, Some(directory), listener, keeping, estate, &Arc::default())
    }

    /// Becomes the broker of the keeper at the other end of `link`, and goes on where the one before has stopped, if there was
    /// one. A thread that panics then ends the process, so that it is succeeded. `restoring` is told how far it is, `begin` is called
    /// with the settings before anything is done.
    pub fn succeed(
        link: OwnedFd,
        restoring: &Arc<Restoring>,
        begin: impl FnOnce(&Config),
    ) -> Result<Self, StartError> {
        abort_on_panic();
        raise_descriptor_limit();
        let system = |action| move |source: io::Error| StartError::System { action, source };
        let (keeping, mut estate) =
            Keeping::begin(Link::of(link)).map_err(system("hear what its keeper holds"))?;
        let config = keeping.adopt(Key::Config, &mut estate);
        let directory = keeping.adopt(Key::Directory, &mut estate);
        let (Some((config, config_kept)), Some((directory, directory_kept))) = (config, directory) else {
            return Err(system("find its configuration")(io::ErrorKind::NotFound.into()));
        };
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
        let config = postcard::from_bytes(&config.note).map_err(invalid);
        let config: Config = config.map_err(system("read its configuration"))?;
        begin(&config);
        let listener = directory.exactly().ok_or_else(|| io::ErrorKind::InvalidData.into());
        let [_lock, listener, _] = listener.map_err(system("find its socket"))?;
        let listener = listener.try_clone().map_err(system("duplicate its socket"))?;
        let mut broker = Self::launch(config, true, None, listener, keeping, estate, restoring)?;
        broker._kept = vec![config_kept, directory_kept];
        Ok(broker)
    }

    fn launch(
        config: Config,
        journals: bool,
        directory: Option<ServedDirectory>,
        listener: OwnedFd,
        keeping: Arc<Keeping>,
        mut estate: Estate,
        restoring: &Arc<Restoring>,
    ) -> Result<Self, StartError> {
        let (runtime, denied) = choose_runtime(config.runtime)?;
        let mut notices = Vec::new();
        let system = |action| move |source: io::Error| StartError::System { action, source };
        let eventfd = |flags| rustix::event::eventfd(0, flags).map_err(io::Error::from);
        let stop =
            eventfd(EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system("make an eventfd"))?;
        let stop_reader = stop.try_clone().map_err(system("duplicate an eventfd"))?;
        let (answers, answer_inbox) = shard::answers().map_err(system("make an eventfd"))?;

        if journals {
            check_shards(&config)?;
        }
        let (mut mailboxes, mut prepared) = (Vec::new(), Vec::new());
        notices.extend(denied.map(|denied| {
            format!("{denied}. This broker runs on plain threads: durable messages take longer")
        }));
        for number in 0..config.cores.len() {
            let (mailbox, inbox, wake) = shard::mailbox().map_err(system("make an eventfd"))?;
            let payload_bytes_max = config.payload_bytes_max;
            let place = journals.then(|| JournalPlace {
                directory: config.data.join(format!("shard-{number}")),
                segment_bytes: config.segment_bytes,
                runtime,
                restoring: Arc::clone(restoring),
                shards: (config.data.join(journal::SHARDS), config.cores.len()),
            });
            let own = wake.try_clone().map_err(system("duplicate an eventfd"))?;
            let journal = (place, own);
            let shard =
                Shard::new(number as u32, payload_bytes_max, inbox, answers.clone(), &keeping, journal);
            mailboxes.push(mailbox);
            prepared.push((shard, wake));
        }
        notices.extend(adopt(&mut prepared, &mut estate)?);
        let before = finish_what_was_begun(&mut prepared);
        let mut control = Control::new(Parts {
            listener,
            shards: mailboxes.clone(),
            answers: answer_inbox,
            stop: stop_reader,
            sessions_max: config.sessions_max,
            admission: admission_of(&config),
            hello_timeout: Duration::from_millis(config.hello_timeout_ms),
            keeping: Arc::clone(&keeping),
        })
        .map_err(system("watch its sockets"))?;
        control.adopt(before, &mut estate).map_err(system("watch its sockets"))?;

        let mut shards = Shards { mailboxes, threads: Vec::new() };
        for ((number, core), (mut shard, wake)) in config.cores.iter().enumerate().zip(prepared) {
            let thread = runtime.spawn(*core, &format!("shard-{number}"), wake, move || shard.turn());
            shards.threads.push(thread?);
        }
        keeping.settle(estate);
        stops::at("estate.settled");
        let control = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || control.run())
            .map_err(system("start the control thread"))?;
        let (mailboxes, threads) = shards.running();
        notices.iter().for_each(|notice| tracing::warn!("{notice}"));
        log_start(&config, runtime);
        keeping.say(&Message::Ready);
        let (path, stop) = (config.directory.clone(), Arc::new(stop));
        Ok(Self {
            path,
            _directory: directory,
            _kept: Vec::new(),
            keeping,
            config,
            notices,
            stop,
            mailboxes,
            threads,
            control,
        })
    }

    /// The directory that clients connect to.
    pub fn directory(&self) -> &Path {
        &self.path
    }

    /// The cores that shards are pinned to, in order of the shards.
    pub fn cores(&self) -> &[usize] {
        &self.config.cores
    }

    /// What whoever has started it should know: that it does without io_uring, what was found of a journal. It is logged, too.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Something that ends this broker.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    /// Waits until the broker is told to end, by a client or a [`Stopper`]; then ends its threads, wakes every
    /// client that sleeps, and removes what it made in the directory.
    pub fn wait(self) -> Result<(), BrokerError> {
        let control = self.control.join().expect("the control plane does not panic");
        if control.is_err() {
            self.keeping.leave_everything();
        }
        // The sockets are closed now, so whoever is woken sees that the broker has gone.
        let mut ended = Ok(());
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Stop);
        }
        for thread in self.threads {
            ended = ended.and(thread.join());
        }
        control.map_err(BrokerError::Control)?;
        tracing::info!("ended");
        Ok(ended?)
    }
}

/// Checks that shards may use io_uring here. Where they may not, a broker runs on plain threads, unless it was told not to.
pub fn check_io_uring() -> Result<(), RuntimeError> {
    let denied = |source| RuntimeError::IoUring { source };
    runtime::probe().and_then(|()| journal::disk::uring::probe().map_err(denied))
}

/// The runtime, and why it is not the one that was wished for.
fn choose_runtime(choice: RuntimeChoice) -> Result<(Runtime, Option<RuntimeError>), RuntimeError> {
    if choice == RuntimeChoice::Threads {
        return Ok((Runtime::Threads, None));
    }
    match check_io_uring() {
        Ok(()) => Ok((Runtime::IoUring, None)),
        Err(error) if choice == RuntimeChoice::Auto => Ok((Runtime::Threads, Some(error))),
        Err(error) => Err(error),
    }
}

fn admission_of(config: &Config) -> Admission {
    Admission::new(&config.allowed_uids, &config.allowed_gids)
}

fn log_start(config: &Config, runtime: Runtime) {
    let Config { directory, data, cores, sessions_max, segment_bytes, payload_bytes_max, .. } = config;
    tracing::info!(
        ?directory,
        ?data,
        ?cores,
        ?runtime,
        sessions_max,
        segment_bytes,
        payload_bytes_max,
        allowed_uids = ?config.allowed_uids,
        allowed_gids = ?config.allowed_gids,
        "serving"
    );
}

/// Which shard has which stream depends on how many there are.
fn check_shards(config: &Config) -> Result<(), StartError> {
    let noted = std::fs::read_to_string(config.data.join(journal::SHARDS));
    let noted = noted.ok().and_then(|text| text.trim().parse().ok());
    match noted {
        Some(found) if found != config.cores.len() => {
            let (data, configured) = (config.data.clone(), config.cores.len());
            Err(StartError::Shards { data, found, configured })
        }
        _ => Ok(()),
    }
}

/// Has every shard go on where the one before has stopped, all at the same time: each may have gigabytes to read. Returns what is
/// to be said of it, and leaves in `estate` what nobody has taken.
fn adopt(shards: &mut [(Shard, OwnedFd)], estate: &mut Estate) -> Result<Vec<String>, AdoptError> {
    let mut estates: Vec<Estate> = shards.iter().map(|_| Estate::new()).collect();
    for (key, entry) in std::mem::take(estate) {
        let own = key.shard().and_then(|shard| estates.get_mut(shard as usize));
        own.unwrap_or(estate).insert(key, entry);
    }
    let adopted: Vec<_> = std::thread::scope(|scope| {
        let begun = shards.iter_mut().zip(&mut estates);
        let begun: Vec<_> = begun.map(|((shard, _), own)| scope.spawn(|| shard.adopt(own))).collect();
        let join =
            |begun: std::thread::ScopedJoinHandle<'_, _>| begun.join().expect("an adoption does not panic");
        begun.into_iter().map(join).collect()
    });
    estate.extend(estates.into_iter().flatten());
    let notices: Result<Vec<_>, _> = adopted.into_iter().collect();
    Ok(notices?.concat())
}

/// What concerns a stream as a whole and was being done when the broker before was killed: a stream, or a subscription, that
/// is not in all partitions was being made or deleted, and nobody was told that it is there. It is deleted.
fn finish_what_was_begun(shards: &mut [(Shard, OwnedFd)]) -> Before {
    let mut before = Before::default();
    let (mut partitions, mut subscriptions) = (BTreeMap::new(), BTreeMap::new());
    for (shard, _) in &*shards {
        for session in shard.core().holders() {
            *before.holders.entry(session).or_default() += 1;
        }
        for (partition, of, names) in shard.core().partitions() {
            before.partitions.insert(partition.stream.clone(), of);
            *partitions.entry(partition.stream.clone()).or_insert(0) += 1;
            for name in names {
                *subscriptions.entry((partition.stream.clone(), name.clone())).or_insert(0) += 1;
            }
        }
    }
    for (stream, found) in &partitions {
        if *found != before.partitions[stream] {
            shards.iter_mut().for_each(|(shard, _)| shard.delete_what_is_there(stream, None));
        }
    }
    before.partitions.retain(|stream, of| partitions[stream] == *of);
    for ((stream, name), found) in &subscriptions {
        if before.partitions.get(stream).is_some_and(|of| of != found) {
            shards.iter_mut().for_each(|(shard, _)| shard.delete_what_is_there(stream, Some(name)));
        }
    }
    before
}

/// A thread that panics has left something half done: a successor goes on from what was remembered.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
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
