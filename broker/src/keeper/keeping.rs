//! The broker's side: what it has kept, and the handle on each that forgets it when it is dropped.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringway_shm_protocol::stops;
use rustix::process::{Pid, PidfdFlags};

use super::{KEEPER_COMMAND, Key, Link, Message};

/// A note, and descriptors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) note: Vec<u8>,
    pub(crate) descriptors: Vec<Arc<OwnedFd>>,
}

impl Entry {
    pub(super) fn say(&self, link: &Link, key: Key) -> io::Result<()> {
        let descriptors: Vec<BorrowedFd<'_>> =
            self.descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
        link.send(&Message::Keep(key, self.note.clone()), &descriptors)
    }

    /// How large what is behind the first descriptor is.
    pub(crate) fn bytes(&self) -> u64 {
        let status = self.descriptors.first().and_then(|first| rustix::fs::fstat(first).ok());
        status.map_or(0, |status| status.st_size as u64)
    }

    /// The descriptors, if there are as many as there must be.
    pub(crate) fn exactly<const COUNT: usize>(&self) -> Option<[Arc<OwnedFd>; COUNT]> {
        self.descriptors.clone().try_into().ok()
    }
}

/// What a broker that is gone has left behind, until its successor has taken it over.
pub(crate) type Estate = BTreeMap<Key, Entry>;

/// See the module. Without a keeper it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Keeping(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// To the keeper; `None`: there is none, and shall be none.
    link: Option<Arc<Link>>,
    kept: BTreeMap<Key, Entry>,
    /// The keeper, if this process has started it.
    child: Option<Child>,
    /// Nothing is forgotten for now; this is to be later.
    forgotten: Option<Vec<Key>>,
}

/// What is kept under a key, until it is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    keeping: Arc<Keeping>,
    key: Key,
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Whoever panics has not decided to give anything up.
        if !std::thread::panicking() {
            self.keeping.forget(self.key);
        }
    }
}

impl Keeping {
    /// Hears from a keeper what it holds.
    pub(crate) fn begin(link: Link) -> io::Result<(Arc<Self>, Estate)> {
        let mut estate = Estate::new();
        loop {
            match link.receive()? {
                Some((Message::Keep(key, note), descriptors)) => {
                    let descriptors = descriptors.into_iter().map(Arc::new).collect();
                    estate.insert(key, Entry { note, descriptors });
                }
                Some((Message::All, _)) => break,
                Some((message, _)) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a keeper does not begin with {message:?}"),
                    ));
                }
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let inner = Inner { link: Some(Arc::new(link)), forgotten: Some(Vec::new()), ..Inner::default() };
        stops::at("estate.heard");
        Ok((Arc::new(Self(Mutex::new(inner))), estate))
    }

    /// Has the keeper hold this, instead of what was under the key.
    pub(crate) fn keep(self: &Arc<Self>, key: Key, entry: Entry) -> Kept {
        self.put(key, entry);
        Kept { keeping: Arc::clone(self), key }
    }

    /// Has the keeper hold this instead.
    pub(crate) fn replace(&self, kept: &Kept, entry: Entry) {
        self.put(kept.key, entry);
    }

    /// Whether there is a keeper, or is to be.
    pub(crate) fn has_keeper(&self) -> bool {
        self.inner().link.is_some()
    }

    fn put(&self, key: Key, entry: Entry) {
        let mut inner = self.inner();
        let Some(link) = &inner.link else { return };
        // A keeper that is gone is replaced by the control plane, and the next one is told everything.
        let _ = entry.say(link, key);
        stops::at("kept");
        inner.kept.insert(key, entry);
    }

    /// Takes something over that the keeper holds already.
    pub(crate) fn adopt(self: &Arc<Self>, key: Key, estate: &mut Estate) -> Option<(Entry, Kept)> {
        let entry = estate.remove(&key)?;
        self.inner().kept.insert(key, entry.clone());
        Some((entry, Kept { keeping: Arc::clone(self), key }))
    }

    /// The estate is taken over: what is left of it is forgotten, and from here on whatever is dropped. A successor that does
    /// not get here forgets nothing, so that the next one finds everything.
    pub(crate) fn settle(&self, estate: Estate) {
        let forgotten = self.inner().forgotten.take();
        estate.into_keys().chain(forgotten.into_iter().flatten()).for_each(|key| self.forget(key));
    }

    /// Nothing is forgotten from here on: what is dropped now is for a successor.
    pub(crate) fn leave_everything(&self) {
        self.inner().forgotten.get_or_insert_default();
    }

    fn forget(&self, key: Key) {
        let mut inner = self.inner();
        if let Some(forgotten) = &mut inner.forgotten {
            forgotten.push(key);
        } else if let Some(link) = &inner.link {
            let _ = link.send(&Message::Forget(key), &[]);
            stops::at("forgotten");
            inner.kept.remove(&key);
        }
    }

    /// Tells the keeper something.
    pub(crate) fn say(&self, message: &Message) {
        if let Some(link) = &self.inner().link {
            let _ = link.send(message, &[]);
        }
    }

    /// The link to the keeper, to be watched.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.inner().link.clone()
    }

    /// Starts another keeper, the one before being gone, and tells it everything.
    pub(crate) fn renew(&self) -> io::Result<Arc<Link>> {
        let mut inner = self.inner();
        if let Some(mut child) = inner.child.take() {
            // It closed its end, so it has ended, or is about to.
            let _ = child.kill();
            let _ = child.wait();
        }
        let (ours, theirs) = Link::pair()?;
        inner.child = Some(start(KEEPER_COMMAND, theirs)?);
        let myself = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        for (key, entry) in &inner.kept {
            entry.say(&ours, *key)?;
        }
        ours.send(&Message::All, &[myself.as_fd()])?;
        let link = Arc::new(ours);
        inner.link = Some(Arc::clone(&link));
        Ok(link)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What is in it is right after every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts this executable with a command, and the other end of a link at its standard input.
pub(super) fn start(command: &str, link: Link) -> io::Result<Child> {
    let mut process = Command::new("/proc/self/exe");
    stops::pass_on(&mut process);
    process.arg0("ringway").arg(command).stdin(Stdio::from(link.into_inner())).spawn()
}

/// The process of a child.
pub(super) fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}
