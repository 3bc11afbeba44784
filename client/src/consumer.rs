//! Reading a stream's ring in order, as one subscription.
//!
//! ```text
//! consumed │ returned, not committed │ the next
//! ─────────┼─────────────────────────┼──────────▶ positions
//!          cursor (in the region)    position (private)
//! ```
//!
//! 1. A message is copied out before it is returned; no caller ever looks into the ring.
//! 2. Lazily, only what was returned *before* the current call is committed: who asks for the next message has
//!    consumed the last. What is not committed at a crash is delivered again.
//! 3. Commits are put off for an eighth of the ring at most, and never beyond the moment when the ring
//!    is found empty or the consumer sleeps; after each, producers that wait for space are woken.
//! 4. On the way that finds a message and commits nothing: no system call, no allocation, no lock.

use std::fmt;
use std::time::Duration;

use ringway_shm_protocol::control::message::{Reply, Request};
use ringway_shm_protocol::fork::ForkMark;
use ringway_shm_protocol::partition::ConsumerRegions;
use ringway_shm_protocol::ring::{CursorLost, Received, Ringer};

use crate::connection::{Connection, unexpected};
use crate::endpoint::{Endpoint, exactly, in_range, ring};
use crate::error::{CloseError, OpenError, RecvError};
use crate::session::{ANSWER_MAX, Answer};
use crate::wait::{Deadline, Step, WaitStrategy, Waiter};

/// Most messages that are returned and not committed.
const UNCOMMITTED_MAX: u64 = 256;
/// A commit frees at least this part of the ring at a time, if so much was returned.
const COMMIT_PART: u64 = 8;

/// What a [`Consumer`] will be like; made by [`Connection::consumer`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct ConsumerBuilder {
    connection: Connection,
    stream: String,
    subscription: String,
    wait: WaitStrategy,
}

impl ConsumerBuilder {
    pub(crate) fn new(connection: Connection, stream: &str, subscription: &str) -> Self {
        let (stream, subscription) = (stream.to_owned(), subscription.to_owned());
        Self { connection, stream, subscription, wait: WaitStrategy::default() }
    }

    /// How to wait while there is no message; [`WaitStrategy::default`] when nothing is said.
    pub fn wait(self, wait: WaitStrategy) -> Self {
        Self { wait, ..self }
    }

    /// Opens the subscription, which goes on where it was last committed. Refused as
    /// [`InUse`](crate::RefusalCode::InUse) while another consumer has it open, and as
    /// [`NotFound`](crate::RefusalCode::NotFound) when there is no such stream or subscription.
    pub fn open(self) -> Result<Consumer, OpenError> {
        let request = Request::OpenConsumer {
            stream: self.stream.as_str().into(),
            subscription: self.subscription.as_str().into(),
        };
        let answer = self.connection.control().request(&request, ANSWER_MAX)?;
        let Answer { reply: Reply::Consumer(grant), descriptors } = answer else {
            return Err(unexpected("a consumer").into());
        };
        // From here on whatever fails gives the endpoint back.
        let endpoint = Endpoint::new(self.connection, grant.endpoint);
        let ring = ring(grant.incarnation, grant.slots, grant.slot_bytes)?;
        in_range("cursor position", grant.cursor().position, ring.geometry.position_end())?;
        let descriptors = exactly("a consumer", descriptors)?;
        let regions = ConsumerRegions::open(ring, descriptors, grant.cursor())?;
        let reading = Reading {
            regions,
            ringer: Ringer::default(),
            fork: endpoint.connection().control().fork(),
            commit_every: (ring.geometry.capacity() / COMMIT_PART).clamp(1, UNCOMMITTED_MAX),
            buffer: vec![0; ring.geometry.payload_bytes_max()].into_boxed_slice(),
        };
        let Self { stream, subscription, wait, .. } = self;
        Ok(Consumer { reading, wait, stream, subscription, endpoint })
    }
}

/// The one consumer of a subscription.
///
/// It may move between threads and be used by one at a time. Dropping it does what [`close`](Self::close) does, waits
/// at most a second for the broker and ignores errors; during a panic it commits nothing, so that the message
/// whose handling panicked is delivered again.
pub struct Consumer {
    // Unmapped before the endpoint is given back: fields are dropped in this order.
    reading: Reading,
    wait: WaitStrategy,
    stream: String,
    subscription: String,
    endpoint: Endpoint,
}

impl Consumer {
    /// The next message, if there is one now. What was returned before counts as consumed.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>, RecvError> {
        let received = self.reading.next()?;
        if received.is_none() {
            self.reading.commit()?;
        }
        Ok(received.map(|received| self.reading.message(received)))
    }

    /// The next message; waits for it as long as the broker is there. What was returned before counts as
    /// consumed.
    ///
    /// A signal does not end the wait: who has to react to one calls [`recv_timeout`](Self::recv_timeout) in a loop.
    #[inline]
    pub fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        let received = match self.reading.next()? {
            Some(received) => received,
            None => self.wait(Deadline::NEVER)?.ok_or(RecvError::Disconnected)?,
        };
        Ok(self.reading.message(received))
    }

    /// The next message; waits at most `timeout` for it. What was returned before counts as consumed. When
    /// the time is over and the broker is gone, the error is [`Disconnected`](RecvError::Disconnected).
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message<'_>>, RecvError> {
        let received = match self.reading.next()? {
            Some(received) => Some(received),
            None => self.wait(Deadline::after(timeout))?,
        };
        Ok(received.map(|received| self.reading.message(received)))
    }

    /// Declares everything returned so far consumed, at once.
    pub fn commit(&mut self) -> Result<(), RecvError> {
        self.reading.check_fork()?;
        Ok(self.reading.commit()?)
    }

    /// Position of the next message to be returned, if none in between is missing.
    pub fn position(&self) -> u64 {
        self.reading.regions.reader.position()
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The subscription's name.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// Commits everything returned and gives the subscription back, so that another consumer may open it.
    /// Whatever it returns, the consumer is closed; the broker notices at the end of the session at the latest.
    pub fn close(mut self) -> Result<(), CloseError> {
        let committed = self.commit();
        let Self { reading, mut endpoint, .. } = self;
        drop(reading);
        let closed = endpoint.close();
        committed?;
        Ok(closed?)
    }

    /// Waits for a message; `None`: the deadline is over.
    #[cold]
    fn wait(&mut self, deadline: Deadline) -> Result<Option<Received>, RecvError> {
        let mut wait = Waiter::new(self.wait, deadline);
        loop {
            let step = wait.step();
            match step {
                Step::Look => {}
                // Looking briefly is cheaper than a commit per message when the next one is under way.
                Step::Idle => self.reading.commit()?,
                Step::Sleep(at_most) => self.reading.sleep(at_most)?,
                Step::CheckBroker | Step::Over => self.reading.commit()?,
            }
            let gone =
                matches!(step, Step::CheckBroker | Step::Over) && !self.endpoint.connection().is_open();
            // After the broker was looked at, so that all that came before its end is returned.
            if let Some(received) = self.reading.next()? {
                return Ok(Some(received));
            }
            if gone {
                return Err(RecvError::Disconnected);
            }
            if step == Step::Over {
                return Ok(None);
            }
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Consumer")
            .field("stream", &self.stream)
            .field("subscription", &self.subscription)
            .field("position", &self.position())
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

/// The mapped part of a consumer; its end commits what was returned.
struct Reading {
    regions: ConsumerRegions,
    ringer: Ringer,
    fork: ForkMark,
    /// Uncommitted messages that make it worth committing.
    commit_every: u64,
    /// Where messages are copied to.
    buffer: Box<[u8]>,
}

impl Reading {
    /// Copies the next message out, after committing those before it if there are many.
    #[inline]
    fn next(&mut self) -> Result<Option<Received>, RecvError> {
        self.check_fork()?;
        if self.regions.reader.uncommitted() >= self.commit_every {
            self.commit()?;
        }
        Ok(self.regions.reader.read(&mut self.buffer)?)
    }

    #[inline]
    fn message(&self, received: Received) -> Message<'_> {
        Message { position: received.position, payload: &self.buffer[..received.payload_bytes] }
    }

    #[inline]
    fn check_fork(&self) -> Result<(), RecvError> {
        if self.fork.is_here() { Ok(()) } else { Err(forked()) }
    }

    /// Moves the cursor behind everything returned and wakes producers that wait for that.
    #[inline]
    fn commit(&mut self) -> Result<(), CursorLost> {
        if self.regions.reader.uncommitted() > 0 {
            self.regions.reader.commit(self.regions.reader.position())?;
            self.ringer.ring(&self.regions.space);
        }
        Ok(())
    }

    /// Sleeps until there is a message. Commits first: no producer may wait for a sleeper.
    fn sleep(&mut self, at_most: Duration) -> Result<(), CursorLost> {
        self.commit()?;
        self.regions.data.sleep_unless(at_most, || self.regions.reader.has_next());
        Ok(())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.fork.is_here() && !std::thread::panicking() {
            // Lost: then what was returned is delivered again, elsewhere.
            let _ = self.commit();
        }
    }
}

/// A message, in the consumer's private copy: it stays as it is until the consumer is used again.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    position: u64,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Its position in the stream.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Its payload.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cold]
fn forked() -> RecvError {
    RecvError::Forked
}
