//! Publishing into a stream's ring.
//!
//! ```text
//! send ── fork check ── publish: slot, copy, commit ── look for sleepers ──▶ position
//!                          │ full
//!                          ▼ cold
//!            map the holder's cursor if it is new · wait · publish again
//! ```
//!
//! 1. A message is readable when the call returns, and everybody who sleeps has been woken.
//! 2. On the way that does not wait: no system call unless a consumer sleeps, no allocation, no lock.
//! 3. Before it waits, the producer wakes the consumers of all that it has published.

use std::fmt;
use std::time::{Duration, Instant};

use ringway_shm_protocol::control::message::{ProducerGrant, Reply, Request};
use ringway_shm_protocol::fork::ForkMark;
use ringway_shm_protocol::partition::ProducerRegions;
use ringway_shm_protocol::ring::{Full, PublishError, Ringer};
use ringway_shm_protocol::words::OWNER_BITS;

use crate::connection::{Connection, unexpected};
use crate::endpoint::{Endpoint, exactly, in_range, ring};
use crate::error::{AdminError, OpenError, SendBatchError, SendError};
use crate::session::{ANSWER_MAX, Answer};
use crate::space::{GATE_RETRY, Space};
use crate::wait::{Deadline, Step, WaitStrategy, Waiter};

/// What a [`Producer`] will be like; made by [`Connection::producer`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct ProducerBuilder {
    connection: Connection,
    stream: String,
    wait: WaitStrategy,
}

impl ProducerBuilder {
    pub(crate) fn new(connection: Connection, stream: &str) -> Self {
        Self { connection, stream: stream.to_owned(), wait: WaitStrategy::default() }
    }

    /// How to wait while the stream is full; [`WaitStrategy::default`] when nothing is said.
    pub fn wait(self, wait: WaitStrategy) -> Self {
        Self { wait, ..self }
    }

    /// Opens the stream. Refused as [`InUse`](crate::RefusalCode::InUse) while another producer has it open, and as
    /// [`NotFound`](crate::RefusalCode::NotFound) when there is no such stream.
    pub fn open(self) -> Result<Producer, OpenError> {
        let request = Request::OpenProducer { stream: self.stream.as_str().into() };
        let answer = self.connection.control().request(&request, ANSWER_MAX)?;
        let Answer { reply: Reply::Producer(grant), descriptors } = answer else {
            return Err(unexpected("a producer").into());
        };
        // From here on whatever fails gives the endpoint back.
        let endpoint = Endpoint::new(self.connection, grant.endpoint);
        let ProducerGrant { incarnation, slots, slot_bytes, owner, position, .. } = grant;
        let ring = ring(incarnation, slots, slot_bytes)?;
        in_range("owner", owner.into(), (1 << OWNER_BITS) - 1)?;
        in_range("position", position, ring.geometry.position_end())?;
        let descriptors = exactly("a producer", descriptors)?;
        let regions = ProducerRegions::open(ring, descriptors, owner, position)?;
        Ok(Producer {
            regions,
            ringer: Ringer::default(),
            fork: endpoint.connection().control().fork(),
            payload_bytes_max: ring.geometry.payload_bytes_max(),
            wait: self.wait,
            space: Space::new(self.stream, ring),
            endpoint,
        })
    }
}

/// The one producer of a stream.
///
/// It may move between threads and be used by one at a time. Dropping it gives the stream back as
/// [`close`](Self::close) does, waits at most a second for the broker and ignores errors.
pub struct Producer {
    // Unmapped before the endpoint is given back: fields are dropped in this order.
    regions: ProducerRegions,
    ringer: Ringer,
    fork: ForkMark,
    payload_bytes_max: usize,
    wait: WaitStrategy,
    space: Space,
    endpoint: Endpoint,
}

impl Producer {
    /// Publishes one message and returns its position. Waits while the stream is full, for as long as the
    /// broker is there.
    #[inline]
    pub fn send(&mut self, payload: &[u8]) -> Result<u64, SendError> {
        self.publish(payload, || Patience::Until(Deadline::NEVER))
    }

    /// Publishes one message and returns its position, or says at once that the stream is
    /// [`Full`](SendError::Full). To name who holds it the broker is asked, at most once a second and for at most
    /// 0.1 s.
    #[inline]
    pub fn try_send(&mut self, payload: &[u8]) -> Result<u64, SendError> {
        self.publish(payload, || Patience::None)
    }

    /// Publishes one message and returns its position. While the stream is full it waits, at most `timeout`;
    /// then the error is [`Full`](SendError::Full).
    #[inline]
    pub fn send_timeout(&mut self, payload: &[u8], timeout: Duration) -> Result<u64, SendError> {
        self.publish(payload, || Patience::Until(Deadline::after(timeout)))
    }

    /// Publishes messages in order and returns the position after the last; waits while the stream is full, as
    /// [`send`](Self::send) does. Looks for sleepers once for all of them. The error says how many were published
    /// before the one that could not be.
    pub fn send_batch(&mut self, payloads: &[&[u8]]) -> Result<u64, SendBatchError> {
        if !self.fork.is_here() {
            return Err(SendBatchError { sent: 0, source: forked() });
        }
        for (sent, payload) in payloads.iter().enumerate() {
            if let Err(error) = self.regions.producer.publish(payload) {
                self.ringer.ring(&self.regions.data);
                self.publish_slowly(payload, error, Patience::Until(Deadline::NEVER))
                    .map_err(|source| SendBatchError { sent, source })?;
            }
        }
        self.ringer.ring(&self.regions.data);
        Ok(self.position())
    }

    /// The position that the next message gets.
    pub fn position(&self) -> u64 {
        self.regions.producer.position()
    }

    /// Most bytes of a payload.
    pub fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        self.space.stream()
    }

    /// Gives the stream back, so that another producer may open it. Whatever it returns, the producer is closed; the
    /// broker notices at the end of the session at the latest.
    pub fn close(self) -> Result<(), AdminError> {
        let Self { regions, mut endpoint, .. } = self;
        drop(regions);
        endpoint.close()
    }

    /// The way of every message: one attempt, and what it takes if it fails.
    #[inline(always)]
    fn publish(&mut self, payload: &[u8], patience: impl FnOnce() -> Patience) -> Result<u64, SendError> {
        if !self.fork.is_here() {
            return Err(forked());
        }
        match self.regions.producer.publish(payload) {
            Ok(position) => {
                self.ringer.ring(&self.regions.data);
                Ok(position)
            }
            Err(error) => self.publish_slowly(payload, error, patience()),
        }
    }

    /// What follows a first attempt that failed.
    #[cold]
    fn publish_slowly(
        &mut self,
        payload: &[u8],
        error: PublishError,
        patience: Patience,
    ) -> Result<u64, SendError> {
        let started = Instant::now();
        let mut wait = Waiter::new(self.wait, patience.deadline());
        let mut full = self.only_full(error)?;
        loop {
            let gates = self.regions.producer.gates();
            let mapped = !full.holder.mapped && self.space.map_gate(&self.endpoint, gates, full.holder)?;
            if !mapped {
                match patience {
                    Patience::None => return Err(self.space.full(&self.endpoint, full, None)),
                    Patience::Until(_) => self.wait_for_space(&mut wait, full, started)?,
                }
            }
            match self.regions.producer.publish(payload) {
                Ok(position) => {
                    self.ringer.ring(&self.regions.data);
                    return Ok(position);
                }
                Err(error) => full = self.only_full(error)?,
            }
        }
    }

    /// One step of waiting.
    fn wait_for_space(&mut self, wait: &mut Waiter, full: Full, started: Instant) -> Result<(), SendError> {
        let step = wait.step();
        match step {
            Step::Look | Step::Idle => Ok(()),
            Step::Sleep(at_most) => {
                // Nobody rings when the broker is ready to hand over a gate.
                let at_most = if full.holder.mapped { at_most } else { at_most.min(GATE_RETRY) };
                let producer = &mut self.regions.producer;
                self.regions.space.sleep_unless(at_most, || producer.has_space());
                Ok(())
            }
            Step::CheckBroker | Step::Over if !self.endpoint.connection().is_open() => {
                Err(SendError::Disconnected { stream: self.stream().to_owned() })
            }
            Step::CheckBroker => Ok(()),
            Step::Over => Err(self.space.full(&self.endpoint, full, Some(started.elapsed()))),
        }
    }

    /// Lets only a full ring pass: everything else ends the call.
    fn only_full(&self, error: PublishError) -> Result<Full, SendError> {
        let stream = || self.stream().to_owned();
        match error {
            PublishError::Full(full) => Ok(full),
            PublishError::TooLarge { bytes, bytes_max } => {
                Err(SendError::TooLarge { stream: stream(), bytes, bytes_max })
            }
            PublishError::Exhausted { positions } => {
                Err(SendError::Exhausted { stream: stream(), positions })
            }
            // A sort of failure that this client does not know cannot be waited out.
            other => Err(SendError::Publish { stream: stream(), source: other }),
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Producer")
            .field("stream", &self.stream())
            .field("position", &self.position())
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

/// What to do while the stream is full.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Deadline),
}

impl Patience {
    fn deadline(self) -> Deadline {
        match self {
            Self::None => Deadline::NEVER,
            Self::Until(deadline) => deadline,
        }
    }
}

#[cold]
fn forked() -> SendError {
    SendError::Forked
}
