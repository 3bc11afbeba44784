//! The time without a broker: looking for another one, at first often, then every half second, and opening there what was open.
//!
//! ```text
//! the session has ended ──▶ connect · declare · open ──▶ goes on there
//!                              ▲       │ not yet
//!                              └─ wait ┘ 5 ms, 10 ms … 500 ms, for as long as the connection may
//! ```
//!
//! 1. Whoever notices looks by itself: there is no thread that reconnects. The first one to find the broker makes the session that
//!    all others of the connection take.
//! 2. A look blocks for as long as connecting and opening take, never for the waits in between: those are the caller's.
//! 3. A broker that is there, and lacks what is to be opened, may get it soon: that is waited for, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::error::{AdminError, OpenError};
use crate::protocol::RefusalCode;
use crate::session::Session;

/// The wait behind the first look, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long it has lasted, and when to look next.
#[derive(Debug)]
pub(crate) struct Outage {
    began: Instant,
    next: Instant,
    pause: Duration,
}

/// What a look has come to.
pub(crate) enum Look<T> {
    /// Another broker is there, and this was opened.
    Open(T),
    /// Not yet: look again after so long.
    Later(Duration),
    /// It has lasted for too long, or what was open cannot be opened again.
    GivenUp(OpenError),
}

impl Outage {
    /// Noticed now, to be looked at at once.
    fn new() -> Self {
        let now = Instant::now();
        Self { began: now, next: now, pause: PAUSE_MIN }
    }

    /// One look for another broker than that of the session that was `lost`, unless it is too soon.
    pub(crate) fn look<T>(
        outage: &mut Option<Self>,
        connection: &Connection,
        lost: &Arc<Session>,
        open: impl FnOnce(&Arc<Session>) -> Result<T, OpenError>,
    ) -> Look<T> {
        let this = outage.get_or_insert_with(Self::new);
        let early = this.next.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            return Look::Later(early);
        }
        let opened = match connection.renewed(lost) {
            Ok(session) => open(&session),
            Err(_) => Err(OpenError::Disconnected),
        };
        match opened {
            Ok(opened) => {
                *outage = None;
                Look::Open(opened)
            }
            Err(error) if error.may_pass() && this.lasted() < connection.reconnect_within() => {
                Look::Later(this.pause())
            }
            Err(error) => {
                *outage = None;
                Look::GivenUp(error)
            }
        }
    }

    fn lasted(&self) -> Duration {
        self.began.elapsed()
    }

    /// The wait from now on to the next look.
    fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.next = Instant::now() + pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// Asks the broker, and the one that comes behind it, for as long as the connection may look for that.
pub(crate) fn patiently<T, E: Lost>(
    connection: &Connection,
    mut ask: impl FnMut(&Arc<Session>) -> Result<T, E>,
) -> Result<T, E> {
    let mut session = connection.session_now();
    let mut outage = None::<Outage>;
    loop {
        match ask(&session) {
            Err(error) if error.is_lost() => {
                let outage = outage.get_or_insert_with(Outage::new);
                loop {
                    if outage.lasted() >= connection.reconnect_within() {
                        return Err(error);
                    }
                    std::thread::sleep(outage.pause());
                    if let Ok(renewed) = connection.renewed(&session) {
                        session = renewed;
                        break;
                    }
                }
            }
            outcome => return outcome,
        }
    }
}

/// What tells that the broker is gone.
pub(crate) trait Lost {
    /// Whether it is, or about to.
    fn is_lost(&self) -> bool;
}

impl Lost for AdminError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Disconnected | Self::Ended { .. }) || self.code() == Some(RefusalCode::Stopping)
    }
}

impl Lost for OpenError {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Disconnected | Self::Ended { .. }) || self.code() == Some(RefusalCode::Stopping)
    }
}

impl OpenError {
    /// Whether a broker that has just come may do better soon.
    fn may_pass(&self) -> bool {
        self.is_lost() || self.is_retryable() || self.code() == Some(RefusalCode::NotFound)
    }
}
