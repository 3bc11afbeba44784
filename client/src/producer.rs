//! Publishing into a stream's ring.
//!
//! ```text
//! send ── fork check ── publish: slot, copy, commit ── look for sleepers ──▶ position
//!                          │ full                    │ larger than a slot
//!                          ▼ cold                    ▼ cold
//!            map the holder's cursor if it is new    take a block, copy, publish a reference to it
//!            · wait · publish again
//! ```
//!
//! A message with attributes goes the same way with two parts; where they do not fit a slot, the payload moves to a block
//! first.
//!
//! 1. A message is readable when the call returns, and everybody who sleeps has been woken.
//! 2. On the way that does not wait and fits a slot: no system call unless a consumer sleeps, no allocation, no lock.
//! 3. Before it waits, the producer wakes the consumers of all that it has published.
//! 4. A payload is in its block before a slot is taken for it; what happens to a loan meanwhile concerns nobody.

use std::fmt;
use std::time::{Duration, Instant};

use ringway_shm_protocol::attributes::Attributes;
use ringway_shm_protocol::control::message::{Overflow, ProducerGrant, Producers, Reply, Request};
use ringway_shm_protocol::fork::ForkMark;
use ringway_shm_protocol::layout::ARENA_REFERENCE_BYTES;
use ringway_shm_protocol::memory::arena::{Arenas, Block};
use ringway_shm_protocol::partition::{ProducerRegions, Publishing};
use ringway_shm_protocol::ring::{self, Full, Part, PublishError, Reclaim, Ringer};
use ringway_shm_protocol::words::OWNER_BITS;

use crate::clock::Clock;
use crate::connection::{Connection, unexpected};
use crate::endpoint::{self, Endpoint, exactly, in_range};
use crate::error::{AdminError, OpenError, SendBatchError, SendError, SendLoanError};
use crate::loan::Loan;
use crate::memory;
use crate::outgoing::Outgoing;
use crate::session::{ANSWER_MAX, Answer};
use crate::space::{GATE_RETRY, Space};
use crate::wait::{Deadline, Step, WaitStrategy, Waiter};

/// How soon a slot is looked at again that another producer is still writing: nobody rings when it is done.
const STALLED_RETRY: Duration = Duration::from_millis(1);

/// What a [`Producer`] will be like; made by [`Connection::producer`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct ProducerBuilder {
    connection: Connection,
    stream: String,
    wait: WaitStrategy,
    timestamps: bool,
}

impl ProducerBuilder {
    pub(crate) fn new(connection: Connection, stream: &str) -> Self {
        Self { connection, stream: stream.to_owned(), wait: WaitStrategy::default(), timestamps: false }
    }

    /// How to wait while the stream is full; [`WaitStrategy::default`] when nothing is said.
    pub fn wait(self, wait: WaitStrategy) -> Self {
        Self { wait, ..self }
    }

    /// Whether each message that has no timestamp gets the time at which it is sent (when nothing is said: no). The
    /// clock is the processor's counter, set by the system's clock a hundred times a second.
    pub fn timestamps(self, timestamps: bool) -> Self {
        Self { timestamps, ..self }
    }

    /// Opens the stream. Refused as [`NotFound`](crate::RefusalCode::NotFound) when there is no such stream, and as
    /// [`InUse`](crate::RefusalCode::InUse) while another producer has a stream open that was declared with
    /// exclusive producers.
    pub fn open(self) -> Result<Producer, OpenError> {
        let request = Request::OpenProducer { stream: self.stream.as_str().into() };
        let answer = self.connection.control().request(&request, ANSWER_MAX)?;
        let Answer { reply: Reply::Producer(grant), descriptors } = answer else {
            return Err(unexpected("a producer").into());
        };
        // From here on whatever fails gives the endpoint back.
        let endpoint = Endpoint::new(self.connection, grant.endpoint);
        let ProducerGrant { incarnation, owner, position, settings, .. } = grant;
        let ring = endpoint::ring(incarnation, &settings)?;
        in_range("owner", owner.into(), (1 << OWNER_BITS) - 1)?;
        in_range("position", position, ring.geometry.position_end())?;
        let descriptors = exactly("a producer", descriptors)?;
        let publishing = Publishing {
            exclusive: settings.producers == Producers::Exclusive,
            drops: settings.overflow == Overflow::DropOldest,
        };
        let regions = ProducerRegions::open(ring, descriptors, publishing, owner, position)?;
        Ok(Producer {
            regions,
            arenas: Arenas::new(),
            section: Vec::new(),
            clock: self.timestamps.then(Clock::new),
            ringer: Ringer::default(),
            fork: endpoint.connection().control().fork(),
            wait: self.wait,
            space: Space::new(self.stream, ring, settings),
            endpoint,
        })
    }
}

/// A producer of a stream.
///
/// It may move between threads and be used by one at a time. Dropping it gives the stream back as
/// [`close`](Self::close) does, waits at most a second for the broker and ignores errors.
pub struct Producer {
    // Unmapped before the endpoint is given back: fields are dropped in this order.
    regions: ProducerRegions,
    arenas: Arenas,
    /// Where attributes are encoded.
    section: Vec<u8>,
    clock: Option<Clock>,
    ringer: Ringer,
    fork: ForkMark,
    wait: WaitStrategy,
    space: Space,
    endpoint: Endpoint,
}

impl Producer {
    /// Publishes one message and returns its position. Waits while the stream is full, for as long as the
    /// broker is there; on a stream that was declared to reject it does not wait.
    ///
    /// A payload that does not fit a slot is copied into memory that this producer has for the stream: see
    /// [`loan`](Self::loan) for doing without the copy.
    #[inline]
    pub fn send<'a>(&mut self, message: impl Into<Outgoing<'a>>) -> Result<u64, SendError> {
        self.publish(message.into(), || Patience::Until(Deadline::NEVER))
    }

    /// Publishes one message and returns its position, or says at once that the stream is
    /// [`Full`](SendError::Full). To name who holds it the broker is asked, at most once a second and for at most
    /// 0.1 s.
    #[inline]
    pub fn try_send<'a>(&mut self, message: impl Into<Outgoing<'a>>) -> Result<u64, SendError> {
        self.publish(message.into(), || Patience::None)
    }

    /// Publishes one message and returns its position. While the stream is full it waits, at most `timeout`;
    /// then the error is [`Full`](SendError::Full).
    #[inline]
    pub fn send_timeout<'a>(
        &mut self,
        message: impl Into<Outgoing<'a>>,
        timeout: Duration,
    ) -> Result<u64, SendError> {
        self.publish(message.into(), || Patience::Until(Deadline::after(timeout)))
    }

    /// Publishes messages in order and returns the position after the last; waits while the stream is full, as
    /// [`send`](Self::send) does. Looks for sleepers once for all of them. The error says how many were published
    /// before the one that could not be. Where a stream has several producers, messages of others may come in between.
    pub fn send_batch<'a, M: Into<Outgoing<'a>>>(
        &mut self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<u64, SendBatchError> {
        if !self.fork.is_here() {
            return Err(SendBatchError { sent: 0, source: forked() });
        }
        let patience = || Patience::Until(Deadline::NEVER);
        let published = messages.into_iter().enumerate().try_for_each(|(sent, message)| {
            self.publish_quietly(message.into(), patience)
                .map(|_| ())
                .map_err(|source| SendBatchError { sent, source })
        });
        self.ringer.ring(&self.regions.data);
        published.map(|()| self.position())
    }

    /// Memory for a payload of `bytes`, to be written where its readers will read it; send it with
    /// [`send_loan`](Self::send_loan). It may be kept for any time and dropped. Waits while all memory that this
    /// producer may have is in messages that are not consumed, as [`send`](Self::send) waits for a slot.
    pub fn loan(&mut self, bytes: usize) -> Result<Loan, SendError> {
        if !self.fork.is_here() {
            return Err(forked());
        }
        let mut wait = self.begin_wait(Patience::Until(Deadline::NEVER));
        Ok(Loan::new(self.take_block(bytes, &mut wait)?))
    }

    /// Publishes a loan of this producer and returns the message's position; waits as [`send`](Self::send) does. After
    /// an error the loan is in it.
    pub fn send_loan(&mut self, loan: Loan) -> Result<u64, SendLoanError> {
        self.send_loan_with(loan, Attributes::new())
    }

    /// The same for a message with attributes.
    pub fn send_loan_with(&mut self, loan: Loan, attributes: Attributes<'_>) -> Result<u64, SendLoanError> {
        match self.publish_loan(&loan, attributes) {
            Ok(position) => {
                self.arenas.published(position, loan.into_block());
                Ok(position)
            }
            Err(source) => Err(SendLoanError { loan: Box::new(loan), source }),
        }
    }

    /// The position that the next message gets; where the stream has several producers: a position that has been
    /// reached.
    pub fn position(&self) -> u64 {
        self.regions.producer.position()
    }

    /// Most bytes of a payload.
    pub fn payload_bytes_max(&self) -> usize {
        self.space.settings().payload_bytes_max as usize
    }

    /// Most bytes of a payload that fits a slot: larger ones take a block of memory beside it.
    pub fn inline_bytes_max(&self) -> usize {
        self.space.ring().geometry.body_bytes()
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        self.space.stream()
    }

    /// Gives the stream back. Whatever it returns, the producer is closed; the broker notices at the end of the
    /// session at the latest.
    pub fn close(self) -> Result<(), AdminError> {
        let Self { regions, mut endpoint, .. } = self;
        drop(regions);
        endpoint.close()
    }

    /// The way of every message: one attempt, and what it takes if it fails; then a look for sleepers.
    #[inline(always)]
    fn publish(
        &mut self,
        message: Outgoing<'_>,
        patience: impl FnOnce() -> Patience,
    ) -> Result<u64, SendError> {
        if !self.fork.is_here() {
            return Err(forked());
        }
        let position = self.publish_quietly(message, patience)?;
        self.ringer.ring(&self.regions.data);
        Ok(position)
    }

    /// Publishes a message; wakes nobody unless it has to wait.
    #[inline(always)]
    fn publish_quietly(
        &mut self,
        message: Outgoing<'_>,
        patience: impl FnOnce() -> Patience,
    ) -> Result<u64, SendError> {
        if !message.attributes.is_empty() || self.clock.is_some() {
            return self.publish_with_attributes(message, patience());
        }
        let message = ring::Outgoing::inline(message.payload);
        match self.regions.producer.publish(&message) {
            Ok(position) => Ok(position),
            Err(error) => self.publish_slowly(&message, error, patience()),
        }
    }

    fn publish_with_attributes(
        &mut self,
        message: Outgoing<'_>,
        patience: Patience,
    ) -> Result<u64, SendError> {
        self.with_section(message.attributes, |producer, flags, section| {
            let (attributes, payload) = (Part::Inline(section), Part::Inline(message.payload));
            let message = ring::Outgoing { flags, attributes, payload };
            match producer.regions.producer.publish(&message) {
                Ok(position) => Ok(position),
                Err(error) => producer.publish_slowly(&message, error, patience),
            }
        })
    }

    /// Encodes attributes, stamped if this producer stamps, and goes on with the flags and the section.
    fn with_section<R>(
        &mut self,
        mut attributes: Attributes<'_>,
        publish: impl FnOnce(&mut Self, u16, &[u8]) -> Result<R, SendError>,
    ) -> Result<R, SendError> {
        if let Some(clock) = &mut self.clock
            && !attributes.has_timestamp()
        {
            attributes = attributes.timestamp_ns(clock.now_ns());
        }
        let mut section = std::mem::take(&mut self.section);
        let published = match attributes.encode(&mut section) {
            Ok(flags) => publish(self, flags, &section),
            Err(source) => Err(SendError::Attributes { stream: self.stream().to_owned(), source }),
        };
        self.section = section;
        published
    }

    /// What follows a first attempt that failed, of a message whose parts are all inline.
    #[cold]
    fn publish_slowly(
        &mut self,
        message: &ring::Outgoing<'_>,
        error: PublishError,
        patience: Patience,
    ) -> Result<u64, SendError> {
        let mut wait = self.begin_wait(patience);
        if !matches!(error, PublishError::TooLarge { .. }) {
            return self.publish_again(message, error, &mut wait);
        }
        // The payload moves first, the attributes only where the slot has no room for them beside its reference.
        let fits = |part: Part<'_>| ARENA_REFERENCE_BYTES + part.bytes() <= self.inline_bytes_max();
        let payload_moves = fits(message.attributes) || !fits(message.payload);
        let attributes_move = !fits(message.attributes);
        let (payload, payload_block) = self.place(message.payload, payload_moves, &mut wait)?;
        let (attributes, attributes_block) = self.place(message.attributes, attributes_move, &mut wait)?;
        let placed = ring::Outgoing { flags: message.flags, attributes, payload };
        let position = self.publish_patiently(&placed, &mut wait)?;
        for block in [payload_block, attributes_block].into_iter().flatten() {
            self.arenas.published(position, block);
        }
        Ok(position)
    }

    /// Copies an inline part into a block if it `moves`; returns the part as it is now, and its block.
    fn place<'a>(
        &mut self,
        part: Part<'a>,
        moves: bool,
        wait: &mut Wait,
    ) -> Result<(Part<'a>, Option<Block>), SendError> {
        let Part::Inline(bytes) = part else { return Ok((part, None)) };
        if !moves {
            return Ok((part, None));
        }
        let mut block = self.take_block(bytes.len(), wait)?;
        block.copy_from_slice(bytes);
        Ok((Part::Arena(block.place(bytes.len())), Some(block)))
    }

    fn publish_loan(&mut self, loan: &Loan, attributes: Attributes<'_>) -> Result<u64, SendError> {
        if !self.fork.is_here() {
            return Err(forked());
        }
        if !loan.is_of(&self.arenas) {
            return Err(SendError::ForeignLoan { stream: self.stream().to_owned() });
        }
        let position = self.with_section(attributes, |producer, flags, section| {
            let mut wait = producer.begin_wait(Patience::Until(Deadline::NEVER));
            let moves = ARENA_REFERENCE_BYTES + section.len() > producer.inline_bytes_max();
            let (attributes, block) = producer.place(Part::Inline(section), moves, &mut wait)?;
            let message = ring::Outgoing { flags, attributes, payload: Part::Arena(loan.place()) };
            let position = producer.publish_patiently(&message, &mut wait)?;
            if let Some(block) = block {
                producer.arenas.published(position, block);
            }
            Ok(position)
        })?;
        self.ringer.ring(&self.regions.data);
        Ok(position)
    }

    fn publish_patiently(&mut self, message: &ring::Outgoing<'_>, wait: &mut Wait) -> Result<u64, SendError> {
        match self.regions.producer.publish(message) {
            Ok(position) => Ok(position),
            Err(error) => self.publish_again(message, error, wait),
        }
    }

    /// Publishes after an attempt that failed with `error`, as soon as it can be.
    fn publish_again(
        &mut self,
        message: &ring::Outgoing<'_>,
        mut error: PublishError,
        wait: &mut Wait,
    ) -> Result<u64, SendError> {
        loop {
            self.wait_out(error, wait)?;
            match self.regions.producer.publish(message) {
                Ok(position) => return Ok(position),
                Err(next) => error = next,
            }
        }
    }

    /// A block of `bytes`: a free one, one that becomes free, one of a new arena, and at last one that the oldest
    /// messages have to be given up for, unless a subscription holds them.
    fn take_block(&mut self, bytes: usize, wait: &mut Wait) -> Result<Block, SendError> {
        let bytes_max = self.payload_bytes_max();
        if bytes > bytes_max {
            return Err(SendError::TooLarge { stream: self.stream().to_owned(), bytes, bytes_max });
        }
        if let Some(block) = self.arenas.take(bytes) {
            return Ok(block);
        }
        // What cannot be known now is no reason to fail: there are other ways.
        let _ = self.reclaim(Reclaim::Passed)?;
        loop {
            if let Some(block) = self.arenas.take(bytes) {
                return Ok(block);
            }
            if memory::grow(&self.arenas, &self.endpoint, &self.space, bytes)? {
                continue;
            }
            if self.arenas.in_flight() == 0 {
                let (arenas_bytes, _) = self.arenas.bytes();
                return Err(SendError::NoBlock { stream: self.stream().to_owned(), bytes, arenas_bytes });
            }
            if let Err(error) = self.reclaim(Reclaim::Unheld)? {
                self.wait_out(error, wait)?;
            }
        }
    }

    /// Frees blocks; the inner result says who holds the oldest.
    fn reclaim(&mut self, how: Reclaim) -> Result<Result<(), PublishError>, SendError> {
        loop {
            match self.arenas.reclaim(&mut self.regions.producer, how) {
                Ok(retired) => {
                    memory::retire(&self.endpoint, &retired);
                    return Ok(Ok(()));
                }
                Err(PublishError::Full(Full { holder, .. })) if !holder.mapped => {
                    let gates = self.regions.producer.gates();
                    if !self.space.map_gate(&self.endpoint, gates, holder)? {
                        return Ok(Err(PublishError::Full(Full { holder, position: self.position() })));
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Nobody waits before the consumers of what was published are awake.
    fn begin_wait(&mut self, patience: Patience) -> Wait {
        self.ringer.ring(&self.regions.data);
        let patience = match self.space.settings().overflow {
            Overflow::Reject => Patience::None,
            _ => patience,
        };
        Wait { waiter: Waiter::new(self.wait, patience.deadline()), patience, started: Instant::now() }
    }

    /// One step of waiting until what failed with `error` may succeed.
    fn wait_out(&mut self, error: PublishError, wait: &mut Wait) -> Result<(), SendError> {
        let full = match error {
            PublishError::Full(full) => full,
            PublishError::Stalled { owner, .. } => return self.wait_for_producer(owner, wait),
            PublishError::Exhausted { positions } => {
                return Err(SendError::Exhausted { stream: self.stream().to_owned(), positions });
            }
            // What this client does not know cannot be waited out.
            source => return Err(SendError::Publish { stream: self.stream().to_owned(), source }),
        };
        let gates = self.regions.producer.gates();
        if !full.holder.mapped && self.space.map_gate(&self.endpoint, gates, full.holder)? {
            return Ok(());
        }
        self.space.detach_if_late(&self.endpoint, full.holder);
        if wait.patience == Patience::None {
            return Err(self.space.full(&self.endpoint, full, None));
        }
        match wait.waiter.step() {
            Step::Look | Step::Idle => Ok(()),
            Step::Sleep(at_most) => {
                // Nobody rings when the broker is ready to hand over a gate, or when it is time to detach one.
                let bounded =
                    !full.holder.mapped || matches!(self.space.settings().overflow, Overflow::Detach { .. });
                let at_most = if bounded { at_most.min(GATE_RETRY) } else { at_most };
                let gates = self.regions.producer.gates();
                self.regions.space.sleep_unless(at_most, || gates.lowest() != Some(full.holder));
                Ok(())
            }
            Step::CheckBroker | Step::Over if !self.endpoint.connection().is_open() => {
                Err(SendError::Disconnected { stream: self.stream().to_owned() })
            }
            Step::CheckBroker => Ok(()),
            Step::Over => Err(self.space.full(&self.endpoint, full, Some(wait.started.elapsed()))),
        }
    }

    /// One step of waiting for another producer to finish its message.
    fn wait_for_producer(&mut self, owner: u32, wait: &mut Wait) -> Result<(), SendError> {
        let stream = self.stream().to_owned();
        if wait.patience == Patience::None {
            return Err(SendError::Stalled { stream, owner, waited: None });
        }
        match wait.waiter.step() {
            Step::Look | Step::Idle => Ok(()),
            Step::Sleep(at_most) => {
                std::thread::sleep(at_most.min(STALLED_RETRY));
                Ok(())
            }
            Step::CheckBroker | Step::Over if !self.endpoint.connection().is_open() => {
                Err(SendError::Disconnected { stream })
            }
            Step::CheckBroker => Ok(()),
            Step::Over => Err(SendError::Stalled { stream, owner, waited: Some(wait.started.elapsed()) }),
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

/// One wait, over all its steps.
struct Wait {
    waiter: Waiter,
    patience: Patience,
    started: Instant,
}

/// What to do while the stream is full.
#[derive(Clone, Copy, PartialEq, Eq)]
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
