//! Noticing the end of a session for those who do not wait for anything: a look once a second, by the helper thread.
//!
//! A producer whose ring has room, and a consumer that is only asked whether there is something, never wait, and so never look.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};

use super::Interest;
use crate::session::Session;
use crate::wait::SLEEP_MAX;

/// A session's watch. It ends with the session, or within a second.
#[derive(Default)]
pub(crate) struct Watch(OnceLock<Arc<Watched>>);

struct Watched {
    session: Weak<Session>,
    next: Mutex<Option<Interest>>,
}

impl Watch {
    /// Begins, unless it has begun.
    pub(crate) fn begin(&self, session: &Arc<Session>) {
        self.0.get_or_init(|| {
            let watched = Arc::new(Watched { session: Arc::downgrade(session), next: Mutex::new(None) });
            watched.look_later();
            watched
        });
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Watch").field(&self.0.get().is_some()).finish()
    }
}

impl Watched {
    fn look_later(self: &Arc<Self>) {
        let interest = Interest::announced(Vec::new(), Waker::from(Arc::clone(self)), SLEEP_MAX);
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(interest);
    }
}

impl Wake for Watched {
    fn wake(self: Arc<Self>) {
        // Whoever needs to know reads what the look has left.
        if self.session.upgrade().is_some_and(|session| session.is_open()) {
            self.look_later();
        }
    }
}
