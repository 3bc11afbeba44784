//! Publishing into a stream: choosing the partition, and the user's side of it.
//!
//! ```text
//! send ── fork check ── the partition of its key, or the next ── publish there ── look for sleepers ──▶ position
//! ```
//!
//! 1. A message is readable when the call returns, and everybody who sleeps has been woken.
//! 2. On the way that does not wait and fits a slot: no system call unless a consumer sleeps, no allocation, no lock.
//! 3. Messages of one key go to one partition, so that they stay in order; those without go to each in turn.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringway_shm_protocol::attributes::Attributes;
use ringway_shm_protocol::control::message::{Durability, Sent, StreamSettings};
use ringway_shm_protocol::fork::ForkMark;
use ringway_shm_protocol::key::partition_of;

use crate::clock::Clock;
use crate::confirm::Confirmation;
use crate::connection::Connection;
use crate::error::{AdminError, ConfirmError, OpenError, SendBatchError, SendError, SendLoanError};
use crate::lane::{Lane, Patience};
use crate::loan::Loan;
use crate::message::Position;
use crate::outage::{Look, Lost, Outage, patiently};
use crate::outgoing::Outgoing;
use crate::partitions::open_all;
use crate::session::Session;
use crate::task::Waiting;
use crate::wait::{Deadline, Step, WaitStrategy};

/// What a [`Producer`] will be like; made by [`Connection::producer`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let producer = connection.producer("payments").name("importer").timestamps(true).open()?;
/// println!("it begins with {:?}", producer.next_sequence());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct ProducerBuilder {
    connection: Connection,
    stream: String,
    name: Option<String>,
    wait: WaitStrategy,
    timestamps: bool,
}

impl ProducerBuilder {
    pub(crate) fn new(connection: Connection, stream: &str) -> Self {
        let (stream, wait) = (stream.to_owned(), WaitStrategy::default());
        Self { connection, stream, name: None, wait, timestamps: false }
    }

    /// A name, by which whoever opens the stream next under the same name learns which of its messages are there: see
    /// [`Producer::sent`]. One at a time has it open; a partition remembers 1024 names. Each message takes 12 bytes more.
    pub fn name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
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

    /// Opens all partitions of the stream. Refused as [`NotFound`](crate::RefusalCode::NotFound) when there is no such
    /// stream, and as [`InUse`](crate::RefusalCode::InUse) while another producer has a stream open that was declared
    /// with exclusive producers, or has the name.
    pub fn open(self) -> Result<Producer, OpenError> {
        let lanes = patiently(&self.connection, |session| self.open_lanes(session))?;
        let mut producer = Producer {
            session: Arc::clone(lanes[0].endpoint.session()),
            lanes,
            turn: 0,
            stamps: self.timestamps || self.name.is_some(),
            next_sequence: self.name.is_some().then_some(0),
            clock: self.timestamps.then(Clock::new),
            fork: ForkMark::here(),
            outage: None,
            has_moved: false,
            builder: self,
        };
        producer.begin();
        Ok(producer)
    }

    fn open_lanes(&self, session: &Arc<Session>) -> Result<Vec<Lane>, OpenError> {
        open_all(None, |partition| {
            let lane = Lane::open(session, &self.stream, partition, self.name.as_deref(), self.wait)?;
            let settings = *lane.settings();
            Ok((lane, settings))
        })
    }
}

/// A producer of a stream.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::Outgoing;
///
/// let mut producer = connection.producer("orders").open()?;
/// producer.send("one pizza")?;
/// producer.send(Outgoing::new(b"two").key(b"customer 7"))?;
/// producer.send_batch(["three", "four"])?;
/// producer.confirm_all()?;
/// # Ok(())
/// # }
/// ```
///
/// It may move between threads and be used by one at a time. Dropping it gives the stream back as
/// [`close`](Self::close) does, waits at most a second for the broker and ignores errors.
pub struct Producer {
    /// One for each partition.
    lanes: Vec<Lane>,
    /// The partition of the next message without a key.
    turn: usize,
    /// It has a clock or a name: messages get something more.
    stamps: bool,
    /// The sequence of the next message that says none, if it has a name.
    next_sequence: Option<u64>,
    clock: Option<Clock>,
    fork: ForkMark,
    session: Arc<Session>,
    outage: Option<Outage>,
    /// It was opened at another broker before.
    has_moved: bool,
    /// To open it again.
    builder: ProducerBuilder,
}

impl Producer {
    /// Publishes one message and returns its position. Waits while its partition is full, for as long as the
    /// broker is there; on a stream that was declared to reject it does not wait.
    ///
    /// A payload that does not fit a slot is copied into memory that this producer has for the stream: see
    /// [`loan`](Self::loan) for doing without the copy.
    #[inline]
    pub fn send<'a>(&mut self, message: impl Into<Outgoing<'a>>) -> Result<Position, SendError> {
        self.publish(message.into(), || Patience::Until(Deadline::NEVER))
    }

    /// Publishes one message and returns its position, or says at once that its partition is
    /// [`Full`](SendError::Full). To name who holds it the broker is asked, at most once a second and for at most
    /// 0.1 s.
    #[inline]
    pub fn try_send<'a>(&mut self, message: impl Into<Outgoing<'a>>) -> Result<Position, SendError> {
        self.publish(message.into(), || Patience::None)
    }

    /// Publishes one message and returns its position. While its partition is full it waits, at most `timeout`;
    /// then the error is [`Full`](SendError::Full).
    #[inline]
    pub fn send_timeout<'a>(
        &mut self,
        message: impl Into<Outgoing<'a>>,
        timeout: Duration,
    ) -> Result<Position, SendError> {
        // Read from the clock only where it is waited.
        let deadline = Cell::new(None);
        self.publish(message.into(), || Patience::Until(Deadline::after_first(&deadline, timeout)))
    }

    /// Publishes messages in order and returns the position of the last; waits while a partition is full, as
    /// [`send`](Self::send) does. Looks for sleepers once for all of them in each partition that has got some. The error says how many were published
    /// before the one that could not be. Where a stream has several producers, messages of others may come in between.
    pub fn send_batch<'a, M: Into<Outgoing<'a>>>(
        &mut self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Option<Position>, SendBatchError> {
        let patience = Patience::Until(Deadline::NEVER);
        self.check(|| patience).map_err(|source| SendBatchError { sent: 0, source })?;
        let (mut last, mut touched) = (None, 0_u64);
        let published = messages.into_iter().enumerate().try_for_each(|(sent, message)| {
            let published = self.publish_quietly(message.into(), &|| patience);
            let (partition, position) = published.map_err(|source| SendBatchError { sent, source })?;
            touched |= 1 << partition;
            last = Some(at(partition, position));
            Ok(())
        });
        self.ring_all(touched);
        published.map(|()| last)
    }

    /// Looks for sleepers in the partitions whose bits are set.
    fn ring_all(&mut self, mut partitions: u64) {
        while partitions != 0 {
            self.lanes[partitions.trailing_zeros() as usize].ring();
            partitions &= partitions - 1;
        }
    }

    /// Memory for a payload of `bytes`, to be written where its readers will read it; send it with
    /// [`send_loan`](Self::send_loan). It may be kept for any time and dropped. Waits while all memory that this
    /// producer may have is in messages that are not consumed, as [`send`](Self::send) waits for a slot.
    ///
    /// It belongs to the partition that is next: see [`loan_for_key`](Self::loan_for_key) for messages with a key.
    pub fn loan(&mut self, bytes: usize) -> Result<Loan, SendError> {
        let partition = self.next_turn();
        self.loan_of(partition, bytes)
    }

    /// The same for a message that will have this key.
    pub fn loan_for_key(&mut self, key: &[u8], bytes: usize) -> Result<Loan, SendError> {
        self.loan_of(self.partition_of_key(key), bytes)
    }

    fn loan_of(&mut self, partition: usize, bytes: usize) -> Result<Loan, SendError> {
        let patience = Patience::Until(Deadline::NEVER);
        self.check(|| patience)?;
        loop {
            match self.lanes[partition].loan(bytes, patience) {
                Ok(block) => return Ok(Loan::new(partition, block)),
                Err(error) => self.move_on(error, patience)?,
            }
        }
    }

    /// Publishes a loan of this producer and returns the message's position; waits as [`send`](Self::send) does. After
    /// an error the loan is in it.
    pub fn send_loan(&mut self, loan: Loan) -> Result<Position, SendLoanError> {
        self.send_loan_with(loan, Attributes::new())
    }

    /// The same for a message with attributes. A key must be the one that the loan was taken for.
    pub fn send_loan_with(
        &mut self,
        loan: Loan,
        attributes: Attributes<'_>,
    ) -> Result<Position, SendLoanError> {
        let patience = Patience::Until(Deadline::NEVER);
        let mut published = self.publish_loan(&loan, attributes, patience);
        while let Err(error) = published {
            published = match self.move_on(error, patience) {
                Ok(()) => self.publish_loan(&loan, attributes, patience),
                Err(error) => {
                    return Err(SendLoanError { loan: Box::new(loan), source: error });
                }
            };
        }
        self.sent_loan(loan, published)
    }

    fn sent_loan(
        &mut self,
        loan: Loan,
        published: Result<u64, SendError>,
    ) -> Result<Position, SendLoanError> {
        match published {
            Ok(position) => {
                let partition = loan.partition();
                let lane = &self.lanes[partition];
                if loan.is_of(lane.arenas()) {
                    lane.published(position, loan.into_block());
                }
                Ok(at(partition, position))
            }
            Err(source) => Err(SendLoanError { loan: Box::new(loan), source }),
        }
    }

    fn publish_loan(
        &mut self,
        loan: &Loan,
        attributes: Attributes<'_>,
        patience: Patience,
    ) -> Result<u64, SendError> {
        self.check(|| patience)?;
        let partition = loan.partition();
        let is_here = self.lanes.get(partition).is_some_and(|lane| loan.is_of(lane.arenas()));
        // Of one that was taken before the last outage, the payload is copied.
        let is_from_before = self.has_moved && partition < self.lanes.len();
        if !(is_here || is_from_before) {
            return Err(SendError::ForeignLoan { stream: self.builder.stream.clone() });
        }
        if let Some(key) = attributes.key_bytes()
            && self.partition_of_key(key) != partition
        {
            let (loan, key) = (partition as u32, self.partition_of_key(key) as u32);
            return Err(SendError::LoanPartition { stream: self.builder.stream.clone(), loan, key });
        }
        let attributes = self.stamped(Outgoing::new(&[]).attributes(attributes)).attributes;
        let lane = &mut self.lanes[partition];
        let position = if is_here {
            lane.publish_block(loan.place(), attributes, patience)?
        } else {
            lane.publish(Outgoing::new(loan).attributes(attributes), || patience)?
        };
        lane.ring();
        self.counted(attributes);
        Ok(position)
    }

    /// Publishes one message, for tasks: completes with its position when there was room for it. It waits as
    /// [`send`](Self::send) does, gives other tasks the turn while it looks, and sleeps without a thread of its own. Dropped before
    /// it is complete, it has published nothing.
    ///
    /// While somebody holds the stream up for long, the broker is asked to help, and this blocks for that for a second at the most.
    pub async fn send_async<'a>(&mut self, message: impl Into<Outgoing<'a>>) -> Result<Position, SendError> {
        let message = message.into();
        let partition = self.partition_for(message.attributes);
        let position = self.publish_async(partition, message).await?;
        self.lanes[partition].ring();
        Ok(at(partition, position))
    }

    /// The same for messages in order: as [`send_batch`](Self::send_batch). Dropped before it is complete, it has published some of
    /// them.
    pub async fn send_batch_async<'a, M: Into<Outgoing<'a>>>(
        &mut self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Option<Position>, SendBatchError> {
        let (mut last, mut touched) = (None, 0_u64);
        let mut outcome = Ok(());
        for (sent, message) in messages.into_iter().enumerate() {
            let message = message.into();
            let partition = self.partition_for(message.attributes);
            touched |= 1 << partition;
            let mut published = self
                .check(|| Patience::Task)
                .and_then(|()| self.publish_to(partition, message, || Patience::Task));
            let waits = |error: &SendError| error.is_lost() || self.lanes[partition].take_blocked().is_some();
            if published.as_ref().is_err_and(waits) {
                // Nobody waits before the consumers of what was published are awake.
                self.ring_all(std::mem::take(&mut touched));
                published = self.publish_async(partition, message).await;
                touched |= 1 << partition;
            }
            match published {
                Ok(position) => last = Some(at(partition, position)),
                Err(source) => {
                    outcome = Err(SendBatchError { sent, source });
                    break;
                }
            }
        }
        self.ring_all(touched);
        outcome.map(|()| last)
    }

    /// Memory for a payload, for tasks: as [`loan`](Self::loan), waiting as [`send_async`](Self::send_async) does.
    pub async fn loan_async(&mut self, bytes: usize) -> Result<Loan, SendError> {
        let partition = self.next_turn();
        self.loan_of_async(partition, bytes).await
    }

    /// The same for a message that will have this key.
    pub async fn loan_for_key_async(&mut self, key: &[u8], bytes: usize) -> Result<Loan, SendError> {
        self.loan_of_async(self.partition_of_key(key), bytes).await
    }

    async fn loan_of_async(&mut self, partition: usize, bytes: usize) -> Result<Loan, SendError> {
        let attempt = |producer: &mut Self| producer.lanes[partition].loan(bytes, Patience::Task);
        Ok(Loan::new(partition, self.patiently(partition, attempt).await?))
    }

    /// Publishes a loan, for tasks: as [`send_loan_with`](Self::send_loan_with), waiting as [`send_async`](Self::send_async) does.
    /// Dropped before it is complete, it has published nothing, and the loan is dropped.
    pub async fn send_loan_async(
        &mut self,
        loan: Loan,
        attributes: Attributes<'_>,
    ) -> Result<Position, SendLoanError> {
        let partition = loan.partition().min(self.lanes.len() - 1);
        let attempt = |producer: &mut Self| producer.publish_loan(&loan, attributes, Patience::Task);
        let published = self.patiently(partition, attempt).await;
        self.sent_loan(loan, published)
    }

    async fn publish_async(&mut self, partition: usize, message: Outgoing<'_>) -> Result<u64, SendError> {
        self.patiently(partition, |producer| producer.publish_to(partition, message, || Patience::Task)).await
    }

    /// Tries until it is no longer the partition that there is to be waited for.
    async fn patiently<T>(
        &mut self,
        partition: usize,
        mut attempt: impl FnMut(&mut Self) -> Result<T, SendError>,
    ) -> Result<T, SendError> {
        let mut waiting = Waiting::default();
        poll_fn(|context| self.poll_attempt(partition, &mut waiting, context, &mut attempt)).await
    }

    fn poll_attempt<T>(
        &mut self,
        partition: usize,
        waiting: &mut Waiting,
        context: &mut Context<'_>,
        attempt: &mut impl FnMut(&mut Self) -> Result<T, SendError>,
    ) -> Poll<Result<T, SendError>> {
        loop {
            let attempted = self.check(|| Patience::Task).and_then(|()| attempt(self));
            let lane = &mut self.lanes[partition];
            let blocked = lane.take_blocked();
            let is_gone = match blocked {
                _ if attempted.as_ref().is_err_and(SendError::is_lost) => true,
                None => {
                    waiting.end();
                    return Poll::Ready(attempted);
                }
                Some(blocked) => match waiting.step(lane.wait, 1) {
                    Step::Look => false,
                    Step::Idle => return Waiting::give_way(context),
                    Step::Sleep(at_most) => {
                        if let Some((bells, at_most)) = lane.announce(blocked, at_most) {
                            waiting.sleep(bells, context.waker().clone(), at_most);
                            return Poll::Pending;
                        }
                        false
                    }
                    Step::CheckBroker | Step::Over => !self.session.is_open(),
                },
            };
            if is_gone && let Some(later) = self.look_for_broker()? {
                let announced = match blocked {
                    Some(blocked) => self.lanes[partition].announce(blocked, later),
                    None => Some((Vec::new(), later)),
                };
                if let Some((bells, at_most)) = announced {
                    waiting.sleep(bells, context.waker().clone(), at_most);
                    return Poll::Pending;
                }
            }
        }
    }

    /// For each partition the position that its next message gets; where the stream has several producers: a position that
    /// has been reached.
    pub fn positions(&self) -> Vec<Position> {
        self.lanes.iter().enumerate().map(|(partition, lane)| at(partition, lane.position())).collect()
    }

    /// For each partition the last message that it has got from a producer of this one's name: of this one, or of one before
    /// it, in whatever process. `None`: there is none that it knows of; a stream of durability `memory` knows those that its ring
    /// holds. All `None` without a [name](ProducerBuilder::name).
    ///
    /// A message that is not higher in its sequence than this is refused as [`AlreadySent`](SendError::AlreadySent). So whoever
    /// comes back may send everything again whose [sequence](Outgoing::sequence) and key are as before.
    pub fn sent(&self) -> Vec<Option<Sent>> {
        self.lanes.iter().map(Lane::sent).collect()
    }

    /// Which message the next one is, if it says nothing else: one more than the highest that any partition has got. `None`
    /// without a [name](ProducerBuilder::name).
    pub fn next_sequence(&self) -> Option<u64> {
        self.next_sequence
    }

    /// For each partition the position below which everything is confirmed: at the level of the stream's
    /// [durability](StreamSettings::durability), or of what the message [asked for](Attributes::durability). On a stream of
    /// durability `memory` a message is confirmed when it is sent.
    pub fn confirmed(&self) -> Vec<Position> {
        self.lanes.iter().enumerate().map(|(partition, lane)| at(partition, lane.confirmed())).collect()
    }

    /// Whether the message at `position` is confirmed.
    pub fn is_confirmed(&self, position: Position) -> bool {
        let lane = self.lanes.get(position.partition as usize);
        lane.is_some_and(|lane| lane.confirmed() > position.position)
    }

    /// Waits until the message at `position`, and everything before it in its partition, is confirmed; returns the level
    /// reached.
    pub fn confirm(&mut self, position: Position) -> Result<Durability, ConfirmError> {
        self.confirm_until(position, Deadline::NEVER)
    }

    /// The same for `timeout` at the most.
    pub fn confirm_timeout(
        &mut self,
        position: Position,
        timeout: Duration,
    ) -> Result<Durability, ConfirmError> {
        self.confirm_until(position, Deadline::after(timeout))
    }

    /// Waits until everything that this producer has sent so far is confirmed; returns the level reached.
    pub fn confirm_all(&mut self) -> Result<Durability, ConfirmError> {
        self.confirm_all_until(Deadline::NEVER)
    }

    /// The same for `timeout` at the most.
    pub fn confirm_all_timeout(&mut self, timeout: Duration) -> Result<Durability, ConfirmError> {
        self.confirm_all_until(Deadline::after(timeout))
    }

    /// Completes when the message at `position`, and everything before it in its partition, is confirmed. For tasks that do not
    /// block; any number at a time.
    pub fn confirmation(&mut self, position: Position) -> Result<Confirmation, ConfirmError> {
        let Position { partition, position } = position;
        let lane = self.lane_to_confirm(partition)?;
        lane.check_known()?;
        lane.ring_for_confirm();
        let goal = lane.goal(position.saturating_add(1));
        Ok(Confirmation::new(vec![(Arc::clone(&lane.journal), goal)], self.fork))
    }

    /// Completes when everything that this producer has sent so far is confirmed.
    pub fn confirmation_of_all(&mut self) -> Result<Confirmation, ConfirmError> {
        self.check_all_known()?;
        self.lanes.iter_mut().for_each(Lane::ring_for_confirm);
        let goals = self.lanes.iter().map(|lane| (Arc::clone(&lane.journal), lane.goal(lane.position())));
        Ok(Confirmation::new(goals.collect(), self.fork))
    }

    fn lane_to_confirm(&mut self, partition: u32) -> Result<&mut Lane, ConfirmError> {
        self.check_fork_to_confirm()?;
        let partitions = self.lanes.len() as u32;
        self.lanes.get_mut(partition as usize).ok_or_else(|| {
            let stream = self.builder.stream.clone();
            ConfirmError::Partition { stream, partition, partitions }
        })
    }

    fn confirm_until(&mut self, position: Position, deadline: Deadline) -> Result<Durability, ConfirmError> {
        let Position { partition, position } = position;
        self.lane_to_confirm(partition)?.confirm(position.saturating_add(1), deadline)
    }

    fn confirm_all_until(&mut self, deadline: Deadline) -> Result<Durability, ConfirmError> {
        self.check_all_known()?;
        // All shards are at work before the first is waited for.
        self.lanes.iter_mut().for_each(Lane::ring);
        let mut level = Durability::Synced;
        for lane in &mut self.lanes {
            level = level.min(lane.confirm(lane.position(), deadline)?);
        }
        Ok(level)
    }

    /// Tells once of all partitions.
    fn check_all_known(&mut self) -> Result<(), ConfirmError> {
        self.check_fork_to_confirm()?;
        let checks: Vec<_> = self.lanes.iter_mut().map(Lane::check_known).collect();
        checks.into_iter().collect()
    }

    fn check_fork_to_confirm(&self) -> Result<(), ConfirmError> {
        if self.fork.is_here() { Ok(()) } else { Err(ConfirmError::Forked) }
    }

    /// Most bytes of a payload.
    pub fn payload_bytes_max(&self) -> usize {
        self.settings().payload_bytes_max as usize
    }

    /// Most bytes of a payload that fits a slot: larger ones take a block of memory beside it.
    pub fn inline_bytes_max(&self) -> usize {
        self.lanes[0].inline_bytes_max()
    }

    /// The settings that the stream was declared with.
    pub fn settings(&self) -> &StreamSettings {
        self.lanes[0].settings()
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.builder.stream
    }

    /// Gives the stream back. Whatever it returns, the producer is closed; the broker notices at the end of the
    /// session at the latest.
    pub fn close(self) -> Result<(), AdminError> {
        let closed: Vec<_> = self.lanes.into_iter().map(Lane::close).collect();
        closed.into_iter().collect()
    }

    /// The way of every message.
    #[inline(always)]
    fn publish(
        &mut self,
        message: Outgoing<'_>,
        patience: impl Fn() -> Patience,
    ) -> Result<Position, SendError> {
        self.check(&patience)?;
        let (partition, position) = self.publish_quietly(message, &patience)?;
        self.lanes[partition].ring();
        Ok(at(partition, position))
    }

    /// Publishes without looking for sleepers; returns the partition and the position. A message without attributes to which nothing
    /// is added goes as a payload, in registers: it is not made whole before it has to be tried again.
    #[inline(always)]
    fn publish_quietly(
        &mut self,
        message: Outgoing<'_>,
        patience: &impl Fn() -> Patience,
    ) -> Result<(usize, u64), SendError> {
        if self.stamps || !message.attributes.is_empty() {
            return self.publish_whole(message, patience);
        }
        let (partition, payload) = (self.partition_for(Attributes::new()), message.payload);
        match self.lanes[partition].publish(Outgoing::new(payload), patience) {
            Ok(position) => Ok((partition, position)),
            Err(error) => self.publish_elsewhere(Outgoing::new(payload), error, patience()),
        }
    }

    #[inline(never)]
    fn publish_whole(
        &mut self,
        message: Outgoing<'_>,
        patience: &impl Fn() -> Patience,
    ) -> Result<(usize, u64), SendError> {
        let partition = self.partition_for(message.attributes);
        match self.publish_to(partition, message, patience) {
            Ok(position) => Ok((partition, position)),
            Err(error) => self.publish_elsewhere(message, error, patience()),
        }
    }

    /// Fails in a forked child. Where the broker is gone, goes on at another one, if it is there. If not, messages that are journaled
    /// wait for it; others flow on in the ring that there is: who reads that has it, too.
    #[inline(always)]
    fn check(&mut self, patience: impl FnOnce() -> Patience) -> Result<(), SendError> {
        if self.fork.is_here() && !self.session.has_ended() { Ok(()) } else { self.check_again(patience()) }
    }

    #[cold]
    #[inline(never)]
    fn check_again(&mut self, patience: Patience) -> Result<(), SendError> {
        if !self.fork.is_here() {
            return Err(SendError::Forked);
        }
        if !self.builder.connection.reconnects() {
            return Ok(());
        }
        if self.lanes[0].is_journaled {
            return self.move_on(self.lanes[0].disconnected(), patience);
        }
        match self.look_for_broker() {
            Ok(_) | Err(SendError::Disconnected { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Publishes a message whose first attempt has failed at another broker, if it was for that.
    #[cold]
    #[inline(never)]
    fn publish_elsewhere(
        &mut self,
        message: Outgoing<'_>,
        mut error: SendError,
        patience: Patience,
    ) -> Result<(usize, u64), SendError> {
        loop {
            self.move_on(error, patience)?;
            let partition = self.partition_for(message.attributes);
            match self.publish_to(partition, message, || patience) {
                Ok(position) => return Ok((partition, position)),
                Err(again) => error = again,
            }
        }
    }

    /// After an error: goes on at another broker, if it is one that says that this one is gone; else it is the error.
    #[cold]
    fn move_on(&mut self, error: SendError, patience: Patience) -> Result<(), SendError> {
        // A task looks by itself.
        if !error.is_lost() || patience == Patience::Task {
            return Err(error);
        }
        loop {
            let later = match self.look_for_broker() {
                Ok(None) => return Ok(()),
                Ok(Some(later)) => later,
                Err(SendError::Disconnected { .. }) => return Err(error),
                Err(other) => return Err(other),
            };
            let Patience::Until(deadline) = patience else { return Err(error) };
            let now = Instant::now();
            if deadline.is_over(now) {
                return Err(error);
            }
            if matches!(error, SendError::Disconnected { .. }) && !self.lanes[0].is_journaled {
                // It was waited for room in this ring, and is again: that may come, too.
                return Ok(());
            }
            std::thread::sleep(deadline.left(now, later));
        }
    }

    /// The broker is gone: looks for another one, once; `None`: it is open there. Else how long to wait before the next look.
    fn look_for_broker(&mut self) -> Result<Option<Duration>, SendError> {
        let Self { outage, builder, session, lanes, .. } = self;
        let stream = || builder.stream.clone();
        if !builder.connection.reconnects() {
            return Err(SendError::Disconnected { stream: stream() });
        }
        let open = |session: &Arc<Session>| {
            let opened = builder.open_lanes(session)?;
            let (before, partitions) = (lanes.len(), opened.len());
            if before == partitions {
                Ok(opened)
            } else {
                Err(OpenError::OtherPartitions { stream: stream(), before, partitions })
            }
        };
        match Outage::look(outage, &builder.connection, session, open) {
            Look::Open(opened) => {
                let before = std::mem::replace(lanes, opened);
                lanes.iter_mut().zip(&before).for_each(|(lane, before)| lane.succeed(before));
                *session = Arc::clone(lanes[0].endpoint.session());
                self.has_moved = true;
                self.begin();
                Ok(None)
            }
            Look::Later(later) => Ok(Some(later)),
            Look::GivenUp(error) if error.is_lost() => Err(SendError::Disconnected { stream: stream() }),
            Look::GivenUp(source) => Err(SendError::Reopen { stream: stream(), source }),
        }
    }

    /// It has been opened.
    fn begin(&mut self) {
        let last = self.lanes.iter().filter_map(|lane| Some(lane.sent()?.sequence)).max();
        if let (Some(next), Some(last)) = (&mut self.next_sequence, last) {
            *next = (*next).max(last.saturating_add(1));
        }
        if self.builder.connection.reconnects() {
            self.session.watch();
        }
    }

    /// Publishes to a partition, without looking for sleepers.
    fn publish_to(
        &mut self,
        partition: usize,
        message: Outgoing<'_>,
        patience: impl FnOnce() -> Patience,
    ) -> Result<u64, SendError> {
        let message = self.stamped(message);
        let position = self.lanes[partition].publish(message, patience)?;
        self.counted(message.attributes);
        Ok(position)
    }

    fn stamped<'a>(&mut self, message: Outgoing<'a>) -> Outgoing<'a> {
        let message = match self.next_sequence {
            Some(next) if message.attributes.sequence_number().is_none() => message.sequence(next),
            _ => message,
        };
        match &mut self.clock {
            Some(clock) if !message.attributes.has_timestamp() => message.timestamp_ns(clock.now_ns()),
            _ => message,
        }
    }

    /// A message of these attributes was sent.
    fn counted(&mut self, attributes: Attributes<'_>) {
        if let (Some(next), Some(sent)) = (&mut self.next_sequence, attributes.sequence_number()) {
            *next = (*next).max(sent.saturating_add(1));
        }
    }

    /// The partition of a message: that of its key, or the next.
    #[inline(always)]
    fn partition_for(&mut self, attributes: Attributes<'_>) -> usize {
        if self.lanes.len() == 1 { 0 } else { self.choose(attributes.key_bytes()) }
    }

    fn choose(&mut self, key: Option<&[u8]>) -> usize {
        match key {
            Some(key) => self.partition_of_key(key),
            None => self.next_turn(),
        }
    }

    fn partition_of_key(&self, key: &[u8]) -> usize {
        partition_of(key, self.lanes.len() as u32) as usize
    }

    fn next_turn(&mut self) -> usize {
        let partition = self.turn;
        self.turn = (self.turn + 1) % self.lanes.len();
        partition
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Producer")
            .field("stream", &self.builder.stream)
            .field("positions", &self.positions())
            .field("wait", &self.builder.wait)
            .finish_non_exhaustive()
    }
}

fn at(partition: usize, position: u64) -> Position {
    Position { partition: partition as u32, position }
}
