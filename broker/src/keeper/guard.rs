//! The keeper's process: holds what it is told to hold, watches the broker, starts the next one.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Instant;

use ringway_shm_protocol::stops;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::PidfdFlags;
use thiserror::Error;

use super::keeping::{pid, start};
use super::visits::Visits;
use super::{BROKER_COMMAND, Entry, Estate, Key, Link, Message, Pauses, raise_descriptor_limit};
use crate::admission::Admission;
use crate::config::Config;
use crate::directory::{DirectoryError, ServedDirectory};

/// So many brokers in a row may end before they are ready.
const FAILED_STARTS_MAX: u32 = 10;

/// Something that the keeper's user may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The first broker takes requests.
    Ready {
        /// Its process.
        broker: u32,
    },
    /// This keeper has taken over from another.
    TookOver {
        /// The settings of its broker.
        config: Box<Config>,
    },
    /// A broker was succeeded.
    Succeeded {
        /// How the one before has ended.
        ended: String,
        /// The successor's process.
        broker: u32,
    },
}

/// Why a keeper has ended although nobody told its broker to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The directory cannot be used, or another broker uses it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The first broker did not start; it has said why.
    #[error("the broker did not start ({status})")]
    NotStarted {
        /// How it ended.
        status: ExitStatus,
    },
    /// Brokers end again and again before they are ready.
    #[error(
        "{brokers} brokers in a row have ended before they took a request, the last one with {ended}: what they held is lost"
    )]
    EndsAgain {
        /// How many.
        brokers: u32,
        /// How the last one has ended.
        ended: String,
    },
    /// The kernel refused something.
    #[error("the keeper cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> GuardError {
    move |source| GuardError::System { action, source }
}

/// Takes the directory, and has it served by one broker after another until one is told to end, or `stop` (an eventfd) is
/// written to. The executable of this process must answer [`BROKER_COMMAND`] and [`KEEPER_COMMAND`](super::KEEPER_COMMAND).
pub fn serve(config: &Config, stop: &OwnedFd, tell: impl FnMut(Notice)) -> Result<(), GuardError> {
    raise_descriptor_limit();
    let admission = Admission::new(&config.allowed_uids, &config.allowed_gids);
    let (directory, listener) = ServedDirectory::take(&config.directory, &admission)?;
    let mut estate = Estate::new();
    let note = postcard::to_stdvec(config).expect("a configuration can be written down");
    estate.insert(Key::Config, Entry { note, descriptors: Vec::new() });
    let lock = directory.lock().map_err(system("keep the lock"))?;
    let descriptors = vec![lock, Arc::new(listener), Arc::new(directory.listen_as_keeper()?)];
    estate.insert(Key::Directory, Entry { note: directory.note(), descriptors });
    Keeper::new(estate, Some(directory), stop, tell, false).run(None)
}

/// Guards the broker at the other end of `link`, which has started this process, and its successors, as [`serve`] does.
pub fn guard(link: OwnedFd, stop: &OwnedFd, mut tell: impl FnMut(Notice)) -> Result<(), GuardError> {
    raise_descriptor_limit();
    let link = Link::of(link);
    let mut estate = Estate::new();
    loop {
        match link.receive().map_err(system("hear its broker"))? {
            Some((Message::All, descriptors)) => {
                let pidfd = descriptors.into_iter().next().ok_or(io::ErrorKind::InvalidData.into());
                let pidfd = pidfd.map_err(system("watch its broker"))?;
                let directory = take_over_directory(&estate);
                let config =
                    estate.get(&Key::Config).and_then(|entry| postcard::from_bytes(&entry.note).ok());
                if let Some(config) = config {
                    tell(Notice::TookOver { config });
                }
                let watched = Watched { link, pidfd, child: None, since: Instant::now() };
                return Keeper::new(estate, directory, stop, tell, true).run(Some(watched));
            }
            Some((message, descriptors)) => hold(&mut estate, message, descriptors),
            // It ended before it had said everything.
            None => return Ok(()),
        }
    }
}

/// The directory of a keeper that is gone: its lock names this process from now on.
fn take_over_directory(estate: &Estate) -> Option<ServedDirectory> {
    let entry = estate.get(&Key::Directory)?;
    let [lock, _, _] = entry.exactly()?;
    ServedDirectory::inherit(&entry.note, File::from(lock.try_clone().ok()?))
}

fn hold(estate: &mut Estate, message: Message, descriptors: Vec<OwnedFd>) {
    match message {
        Message::Keep(key, note) => {
            let descriptors = descriptors.into_iter().map(Arc::new).collect();
            estate.insert(key, Entry { note, descriptors });
            stops::at("keeper.holds");
        }
        Message::Forget(key) => {
            estate.remove(&key);
            stops::at("keeper.forgot");
        }
        _ => {}
    }
}

/// A broker, and how it is watched.
struct Watched {
    link: Link,
    pidfd: OwnedFd,
    child: Option<Child>,
    since: Instant,
}

/// How a broker has ended.
enum End {
    /// It was told to.
    Told,
    /// It was not.
    Died(Option<ExitStatus>),
}

struct Keeper<'a, F> {
    estate: Estate,
    /// Cleaned up when no broker serves it any more.
    directory: Option<ServedDirectory>,
    stop: &'a OwnedFd,
    tell: F,
    failed_starts: u32,
    pauses: Pauses,
    /// Some broker was ready once.
    was_ready: bool,
    visits: Visits,
}

impl<'a, F: FnMut(Notice)> Keeper<'a, F> {
    fn new(
        estate: Estate,
        directory: Option<ServedDirectory>,
        stop: &'a OwnedFd,
        tell: F,
        was_ready: bool,
    ) -> Self {
        let visits = Visits::at_door_of(&estate);
        let pauses = Pauses::default();
        Self { estate, directory, stop, tell, failed_starts: 0, pauses, was_ready, visits }
    }

    fn run(mut self, broker: Option<Watched>) -> Result<(), GuardError> {
        let mut broker = match broker {
            Some(broker) => broker,
            None => self.start()?,
        };
        loop {
            let watched = self.watch(&mut broker);
            if watched.is_err()
                && let Some(directory) = self.directory.take()
            {
                // The broker lives, and starts another keeper.
                directory.leave();
            }
            let (ready, end) = watched?;
            let status = match end {
                End::Told => return Ok(()),
                End::Died(status) => status,
            };
            let ended = status.map_or_else(|| "an unknown status".to_owned(), |status| status.to_string());
            if let (Some(status), false) = (status, self.was_ready) {
                return Err(GuardError::NotStarted { status });
            }
            self.failed_starts = if ready { 0 } else { self.failed_starts + 1 };
            if self.failed_starts >= FAILED_STARTS_MAX {
                return Err(GuardError::EndsAgain { brokers: self.failed_starts, ended });
            }
            // One that was killed would not do it again by itself.
            if status.and_then(|status| status.signal()) != Some(libc::SIGKILL) {
                std::thread::sleep(self.pauses.after(broker.since.elapsed()));
            }
            broker = self.start()?;
            let successor = broker.child.as_ref().map_or(0, Child::id);
            (self.tell)(Notice::Succeeded { ended, broker: successor });
        }
    }

    /// Starts a broker and tells it what is kept.
    fn start(&self) -> Result<Watched, GuardError> {
        let (ours, theirs) = Link::pair().map_err(system("make a pair of sockets"))?;
        let child = start(BROKER_COMMAND, theirs).map_err(system("start a broker"))?;
        stops::at("keeper.started");
        let pidfd = rustix::process::pidfd_open(pid(&child), PidfdFlags::empty())
            .map_err(|error| system("watch its broker")(error.into()))?;
        // One that ends before it has heard everything is noticed by its pidfd.
        let _ = self
            .estate
            .iter()
            .try_for_each(|(key, entry)| entry.say(&ours, *key))
            .and_then(|()| ours.send(&Message::All, &[]));
        stops::at("keeper.told");
        Ok(Watched { link: ours, pidfd, child: Some(child), since: Instant::now() })
    }

    /// Holds what the broker says until it is gone; returns whether it was ready, and how it ended.
    fn watch(&mut self, broker: &mut Watched) -> Result<(bool, End), GuardError> {
        let (mut ready, mut told, mut open) = (broker.child.is_none(), false, true);
        loop {
            let link_events = if open { PollFlags::IN } else { PollFlags::empty() };
            let mut polled = vec![
                PollFd::new(&broker.link, link_events),
                PollFd::new(&broker.pidfd, PollFlags::IN),
                PollFd::new(self.stop, PollFlags::IN),
            ];
            polled.extend(self.visits.polled());
            match poll(&mut polled[usize::from(!open)..], self.visits.at_most().as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(system("wait for its broker")(error.into())),
            }
            let fired: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
            let [said, ended, stop] = [0, 1, 2].map(|own| fired[own]);
            if stop && rustix::io::read(self.stop, &mut [0; 8]).is_ok() {
                // One that cannot hear it is ending.
                let _ = broker.link.send(&Message::Stop, &[]);
            }
            // All that it said before it ended is heard: the other end is closed then.
            while open && (said || ended) {
                match broker.link.receive() {
                    Ok(Some((Message::Ready, _))) => {
                        ready = true;
                        if !std::mem::replace(&mut self.was_ready, true) {
                            let broker = broker.child.as_ref().map_or(0, Child::id);
                            (self.tell)(Notice::Ready { broker });
                        }
                    }
                    Ok(Some((Message::Ended, _))) => told = true,
                    Ok(Some((message, descriptors))) => hold(&mut self.estate, message, descriptors),
                    Ok(None) => open = false,
                    Err(error) => return Err(system("hear its broker")(error)),
                }
                if !ended {
                    break;
                }
            }
            if ended {
                let status = broker.child.as_mut().and_then(|child| child.wait().ok());
                return Ok((ready, if told { End::Told } else { End::Died(status) }));
            }
            self.visits.go_on(&fired[3..], &self.estate);
        }
    }
}
