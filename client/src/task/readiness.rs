//! A descriptor that is readable when a consumer may have something, for loops over epoll, poll or select.
//!
//! 1. Whoever receives until there is nothing has armed it: from then on it becomes readable when there is something.
//! 2. It is readable, too, when there was nothing for a second, so that whoever waits for it learns that the broker is gone.
//! 3. The consumer alone makes it unreadable, when it is asked for a message.
//! 4. It is readable when its consumer is closed, so that whoever still waits for it looks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Wake, Waker};

use rustix::event::EventfdFlags;

use super::Interest;
use crate::error::RecvError;
use crate::partitions::{Partition, Partitions};
use crate::wait::SLEEP_MAX;

/// Readable when a consumer may have something to receive; made by
/// [`Consumer::readiness`](crate::Consumer::readiness) and [`SharedConsumer::readiness`](crate::SharedConsumer::readiness). Its
/// clones are the same descriptor, which is readable, too, when the consumer is closed. Only to be waited for: reading from it
/// is the consumer's.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use rustix::event::{PollFd, PollFlags, poll};
///
/// let mut consumer = connection.consumer("orders", "billing").open()?;
/// let readiness = consumer.readiness()?;
/// loop {
///     poll(&mut [PollFd::new(&readiness, PollFlags::IN)], None)?;
///     while let Some(message) = consumer.try_recv()? {
///         println!("{} bytes", message.payload_bytes());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Readiness(Arc<OwnedFd>);

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Readiness {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// Makes the descriptor readable.
struct Signal(Arc<OwnedFd>);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        // Fails only when the count is about to overflow: then it is readable.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// The consumer's side.
pub(crate) struct Armed {
    readiness: Readiness,
    waker: Waker,
    interest: Option<Interest>,
}

impl Armed {
    /// Readable from the beginning: nobody has looked yet.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let descriptor = Arc::new(rustix::event::eventfd(1, flags)?);
        let waker = Arc::new(Signal(Arc::clone(&descriptor))).into();
        Ok(Self { readiness: Readiness(descriptor), waker, interest: None })
    }

    pub(crate) fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// The next message, if there is one now; if not, the descriptor becomes readable when there is.
    pub(crate) fn next<P: Partition>(
        &mut self,
        partitions: &mut Partitions<P>,
    ) -> Result<Option<(usize, P::Found)>, RecvError> {
        if let Some(found) = partitions.next()? {
            return Ok(Some(found));
        }
        // Before the announcement: what comes from there on makes it readable again.
        let _ = rustix::io::read(&*self.readiness.0, &mut [0; 8]);
        let counts = partitions.announce()?;
        let gone = partitions.is_in_outage() || !partitions.is_open();
        // After the broker was looked at, so that all that came before its end is returned.
        if let Some(found) = partitions.next()? {
            // Nobody has looked for what is behind it.
            self.waker.wake_by_ref();
            return Ok(Some(found));
        }
        let at_most = if gone { partitions.look_for_broker()? } else { Some(SLEEP_MAX) };
        match at_most {
            Some(at_most) => {
                let bells = partitions.bells().cloned().zip(counts).collect();
                self.interest = Some(Interest::announced(bells, self.waker.clone(), at_most));
            }
            // At another broker: nobody has looked there.
            None => self.waker.wake_by_ref(),
        }
        Ok(None)
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.waker.wake_by_ref();
    }
}
