//! Visitors of a keeper: who wants to look at what it holds, whether or not the broker answers.
//!
//! ```text
//!   visitor ── Show(from, to) ─────────────────────────────▶ keeper     keeper.sock, SOCK_SEQPACKET
//!           ◀── Keep(key, note) + read-only descriptors … ──            one packet for each key that there is
//!           ◀── All ────────────────────────────────────────            then the visitor may ask again
//! ```
//!
//! 1. Only memory is shown, regions and memory logs, by descriptors that were opened for reading: no sockets, no processes.
//! 2. Who may visit is the keeper's own user, and root.
//! 3. Nothing here waits. A visitor that does not read is passed over until it does, a few packets are sent at a time, and of too
//!    many the one that has been here for longest is sent away: the broker is heard in between.

use std::io;
use std::ops::Bound;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ringway_shm_protocol::control::socket;
use ringway_shm_protocol::memory::mapped::read_only;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Entry, Estate, Key, Link, Message};

/// What comes before it in the order of the keys is no memory.
const FIRST_OF_MEMORY: Key = Key::Catalogue(0);
/// So many visitors at a time.
const VISITORS_MAX: usize = 16;
/// So many entries are shown to one before anybody else is heard.
const ENTRIES_AT_ONCE: usize = 16;
/// How long nobody is let in after one could not be.
const DEAF_AT_MOST: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// See the module.
#[derive(Debug)]
pub(super) struct Visits {
    /// The listening socket.
    door: Option<Arc<OwnedFd>>,
    visits: Vec<Visit>,
    /// Nobody is let in for now: there was no descriptor left.
    is_deaf: bool,
}

#[derive(Debug)]
struct Visit {
    link: Link,
    /// What it has asked for and was not shown yet.
    asked: Option<(Bound<Key>, Key)>,
}

impl Visits {
    /// At the socket that is among what is held.
    pub(super) fn at_door_of(estate: &Estate) -> Self {
        let directory = estate.get(&Key::Directory).and_then(Entry::exactly);
        let door = directory.map(|[_lock, _listener, door]: [_; 3]| door);
        Self { door, visits: Vec::new(), is_deaf: false }
    }

    /// What is waited for, in an order that [`go_on`](Self::go_on) knows.
    pub(super) fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        let door_events = if self.is_deaf { PollFlags::empty() } else { PollFlags::IN };
        let door = self.door.iter().map(move |door| PollFd::new(door, door_events));
        let visits = self.visits.iter().map(|visit| {
            let events = if visit.asked.is_some() { PollFlags::OUT } else { PollFlags::IN };
            PollFd::new(&visit.link, events)
        });
        door.chain(visits)
    }

    /// How long that is waited for.
    pub(super) fn at_most(&self) -> Option<Timespec> {
        self.is_deaf.then_some(DEAF_AT_MOST)
    }

    /// Goes on with those for whom something has happened.
    pub(super) fn go_on(&mut self, fired: &[bool], estate: &Estate) {
        let Some((knocked, visits)) = fired.split_first() else { return };
        let mut visits = visits.iter();
        self.visits.retain_mut(|visit| visits.next() != Some(&true) || visit.go_on(estate).is_ok());
        self.is_deaf = false;
        if *knocked {
            self.let_in();
        }
    }

    fn let_in(&mut self) {
        let Some(door) = &self.door else { return };
        let socket = match socket::accept(door) {
            Ok(socket) => socket,
            Err(error) => {
                // Who has given up meanwhile takes nobody's time; else it would be tried again at once, for ever.
                self.is_deaf = error.kind() != io::ErrorKind::WouldBlock;
                return;
            }
        };
        if let Some(visit) = Visit::of(socket) {
            if self.visits.len() == VISITORS_MAX {
                self.visits.remove(0);
            }
            self.visits.push(visit);
        }
    }
}

impl Visit {
    /// `None`: it may not visit, and was told so.
    fn of(socket: OwnedFd) -> Option<Self> {
        let own = rustix::process::geteuid();
        let uid = rustix::net::sockopt::socket_peercred(&socket).ok()?.uid;
        let link = Link::of(socket);
        if uid == own || uid.is_root() {
            return Some(Self { link, asked: None });
        }
        let (uid, own) = (uid.as_raw(), own.as_raw());
        let reason = format!("user {uid} may not look at what is held here for user {own}");
        // Who does not hear it sees the end.
        let _ = link.send(&Message::Refused(reason), &[]);
        None
    }

    /// An error: the visit is over.
    fn go_on(&mut self, estate: &Estate) -> io::Result<()> {
        let Some((from, to)) = self.asked else { return self.hear() };
        let mut left = ENTRIES_AT_ONCE;
        for (key, entry) in estate.range((from, Bound::Included(to))).take(ENTRIES_AT_ONCE) {
            match self.show(*key, entry) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                outcome => outcome?,
            }
            self.asked = Some((Bound::Excluded(*key), to));
            left -= 1;
        }
        if left > 0 {
            match self.link.send(&Message::All, &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                outcome => outcome?,
            }
            self.asked = None;
        }
        Ok(())
    }

    fn hear(&mut self) -> io::Result<()> {
        let Some((Message::Show(from, to), _)) = self.link.receive()? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let from = from.max(FIRST_OF_MEMORY);
        if from > to {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.asked = Some((Bound::Included(from), to));
        Ok(())
    }

    fn show(&self, key: Key, entry: &Entry) -> io::Result<()> {
        let descriptors: Vec<OwnedFd> = entry.descriptors.iter().map(read_only).collect::<io::Result<_>>()?;
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.link.send(&Message::Keep(key, entry.note.clone()), &descriptors)
    }
}
