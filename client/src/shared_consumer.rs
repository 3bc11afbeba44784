//! Consuming a `shared` subscription: the partitions in turn, and the user's side of it.
//!
//! 1. Every message that comes back has a position and an attempt; the consumer has it until it settles it.
//! 2. Closing gives back what was not settled: it does not count as failed. A process that dies with messages has failed
//!    each of them.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ringway_shm_protocol::ring::Verdict;

use crate::connection::Connection;
use crate::delivery::{Delivery, Leased, millis};
use crate::error::{CloseError, ConfirmError, OpenError, RecvError, SettleError};
use crate::partitions::{Partitions, open_all};
use crate::sharing::Sharing;
use crate::task::{Armed, DeliveryStream, Readiness, Waiting};
use crate::wait::{Deadline, WaitStrategy};

/// Most messages that a consumer claims ahead, for each partition.
const PREFETCH_MAX: usize = 4096;

/// What a [`SharedConsumer`] will be like; made by [`Connection::shared_consumer`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let worker = connection.queue_consumer("jobs").prefetch(16).open()?;
/// # let _ = worker;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct SharedConsumerBuilder {
    connection: Connection,
    stream: String,
    subscription: String,
    partitions: Option<Vec<u32>>,
    wait: WaitStrategy,
    prefetch: usize,
}

impl SharedConsumerBuilder {
    pub(crate) fn new(connection: Connection, stream: &str, subscription: &str) -> Self {
        let (stream, subscription) = (stream.to_owned(), subscription.to_owned());
        let (partitions, wait) = (None, WaitStrategy::default());
        Self { connection, stream, subscription, partitions, wait, prefetch: 1 }
    }

    /// Which partitions to consume; all when nothing is said.
    pub fn partitions(self, partitions: impl IntoIterator<Item = u32>) -> Self {
        Self { partitions: Some(partitions.into_iter().collect()), ..self }
    }

    /// How to wait while there is no message; [`WaitStrategy::default`] when nothing is said.
    pub fn wait(self, wait: WaitStrategy) -> Self {
        Self { wait, ..self }
    }

    /// How many messages to claim at a time, in each partition: 1 when nothing is said, 4096 at the most. More are
    /// cheaper where several consumers compete; but their leases begin when they are claimed, and nobody else gets them.
    pub fn prefetch(self, prefetch: usize) -> Self {
        Self { prefetch: prefetch.clamp(1, PREFETCH_MAX), ..self }
    }

    /// Opens the subscription as one of its consumers. Refused as [`NotFound`](crate::RefusalCode::NotFound) when there is no
    /// such stream or subscription, and as [`Invalid`](crate::RefusalCode::Invalid) when there is no such partition.
    /// [`OtherMode`](OpenError::OtherMode) when the subscription is a `cursor`.
    pub fn open(self) -> Result<SharedConsumer, OpenError> {
        let Self { connection, stream, subscription, partitions, wait, prefetch } = self;
        let names = (stream.clone(), subscription.clone());
        let sharings = Partitions::open(connection, wait, move |session| {
            let open = |partition| Sharing::open(session, &names.0, partition, &names.1, prefetch);
            open_all(partitions.as_deref(), open)
        })?;
        Ok(SharedConsumer { sharings, armed: None, stream, subscription })
    }
}

/// One of the consumers of a `shared` subscription, or of a queue.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut consumer = connection.queue_consumer("jobs").open()?;
/// loop {
///     let delivery = consumer.recv()?;
///     match std::str::from_utf8(delivery.payload()) {
///         Ok(job) => {
///             println!("{job}, attempt {}", delivery.attempt());
///             delivery.ack()?;
///         }
///         Err(_) => delivery.reject()?,
///     }
/// }
/// # }
/// ```
///
/// It may move between threads and be used by one at a time. Dropping it does what [`close`](Self::close) does, waits
/// at most a second for the broker and ignores errors.
pub struct SharedConsumer {
    sharings: Partitions<Sharing>,
    /// If somebody waits for a descriptor.
    armed: Option<Box<Armed>>,
    stream: String,
    subscription: String,
}

impl SharedConsumer {
    /// The next message, if there is one now.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Delivery<'_>>, RecvError> {
        match self.sharings.next()? {
            Some(found) => self.delivery(found).map(Some),
            None if let Some(armed) = &mut self.armed => {
                armed.next(&mut self.sharings)?.map(|found| self.delivery(found)).transpose()
            }
            None => {
                self.sharings.found_nothing()?;
                Ok(None)
            }
        }
    }

    /// The next message; waits for it as long as the broker is there.
    ///
    /// A signal does not end the wait: who has to react to one calls [`recv_timeout`](Self::recv_timeout) in a loop.
    #[inline]
    pub fn recv(&mut self) -> Result<Delivery<'_>, RecvError> {
        let found = match self.sharings.next()? {
            Some(found) => found,
            None => self.sharings.wait(Deadline::NEVER)?.ok_or(RecvError::Disconnected)?,
        };
        self.delivery(found)
    }

    /// The next message; waits at most `timeout` for it. When the time is over and the broker is gone, the error is
    /// [`Disconnected`](RecvError::Disconnected).
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Delivery<'_>>, RecvError> {
        let found = match self.sharings.next()? {
            Some(found) => Some(found),
            None => self.sharings.wait(Deadline::after(timeout))?,
        };
        found.map(|found| self.delivery(found)).transpose()
    }

    /// Settles a message that was kept: see [`Delivery::ack`].
    pub fn ack(&mut self, message: &Leased) -> Result<(), SettleError> {
        self.sharing_of(message)?.ack(message.claim)
    }

    /// Says that handling a message that was kept has failed: see [`Delivery::nack`].
    pub fn nack(&mut self, message: &Leased) -> Result<(), SettleError> {
        self.settle(message, Verdict::Nack { delay_ms: None })
    }

    /// See [`Delivery::nack_after`].
    pub fn nack_after(&mut self, message: &Leased, delay: Duration) -> Result<(), SettleError> {
        self.settle(message, Verdict::Nack { delay_ms: Some(millis(delay)) })
    }

    /// See [`Delivery::reject`].
    pub fn reject(&mut self, message: &Leased) -> Result<(), SettleError> {
        self.settle(message, Verdict::Reject)
    }

    /// See [`Delivery::release`].
    pub fn release(&mut self, message: &Leased) -> Result<(), SettleError> {
        self.settle(message, Verdict::Release)
    }

    /// See [`Delivery::extend`].
    pub fn extend(&mut self, message: &Leased, lease: Duration) -> Result<(), SettleError> {
        self.settle(message, Verdict::Extend { lease_ms: millis(lease) })
    }

    /// Waits until the broker has judged everything that was said, at most ten seconds, and returns how many of these
    /// verdicts so far came too late, as [`late`](Self::late) does. An ack needs no waiting: it is done when it returns.
    pub fn confirm(&mut self) -> Result<u64, SettleError> {
        let mut late = 0;
        for sharing in self.sharings.iter_mut() {
            late += sharing.confirm()?;
        }
        Ok(late)
    }

    /// Waits until everything that was acked, or said otherwise, is as durable as the stream: then none of it comes again, whatever
    /// dies.
    pub fn confirm_settled(&mut self, timeout: Duration) -> Result<(), ConfirmError> {
        self.sharings.check_set_back(&self.stream)?;
        let deadline = Deadline::after(timeout);
        self.sharings.iter_mut().try_for_each(|sharing| sharing.confirm_durable(deadline))
    }

    /// The same, for tasks, for as long as the broker is there.
    pub async fn confirm_settled_async(&mut self) -> Result<(), ConfirmError> {
        self.sharings.check_set_back(&self.stream)?;
        for sharing in self.sharings.iter_mut() {
            sharing.confirm_durable_async().await?;
        }
        Ok(())
    }

    /// How many verdicts the broker has found to be too late: somebody else has the message, or had it.
    pub fn late(&self) -> u64 {
        self.sharings.counted()
    }

    /// The next message, for tasks: completes when there is one. It waits as [`recv`](Self::recv)
    /// does, gives other tasks the turn while it looks, and sleeps without a thread of its own. Dropped before it is complete, it
    /// has taken nothing.
    pub async fn recv_async(&mut self) -> Result<Delivery<'_>, RecvError> {
        let mut waiting = Waiting::default();
        let found = poll_fn(|context| waiting.poll(&mut self.sharings, context)).await?;
        self.delivery(found)
    }

    /// The same, one poll of it.
    pub(crate) fn poll_recv(
        &mut self,
        waiting: &mut Waiting,
        context: &mut Context<'_>,
    ) -> Poll<Result<Delivery<'_>, RecvError>> {
        let found = ready!(waiting.poll(&mut self.sharings, context))?;
        Poll::Ready(self.delivery(found))
    }

    /// Its messages as a [`Stream`](futures_core::Stream).
    pub fn into_stream(self) -> DeliveryStream {
        DeliveryStream::new(self)
    }

    /// A descriptor to wait for with epoll, poll or select, among others. It is readable from the beginning, and becomes so again
    /// when there may be something after [`try_recv`](Self::try_recv) has found nothing: so call that until it does, each time the
    /// descriptor is readable. It is readable at least once a second, for `try_recv` to see whether the broker is there: from
    /// now on that says [`Disconnected`](RecvError::Disconnected) when it is not.
    pub fn readiness(&mut self) -> io::Result<Readiness> {
        let armed = match &mut self.armed {
            Some(armed) => armed,
            none => none.insert(Box::new(Armed::new()?)),
        };
        Ok(armed.readiness())
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The subscription's name.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// Gives back what was not settled, and stops consuming. Whatever it returns, the consumer is closed; the broker notices
    /// at the end of the session at the latest.
    pub fn close(self) -> Result<(), CloseError> {
        let closed: Vec<_> = self.sharings.into_all().map(Sharing::close).collect();
        closed.into_iter().collect()
    }

    fn sharing_of(&mut self, message: &Leased) -> Result<&mut Sharing, SettleError> {
        let Leased { opening, position, claim, .. } = message;
        let mut sharings = self.sharings.iter_mut();
        let sharing = sharings.find(|sharing| sharing.partition() == position.partition);
        let sharing = sharing.ok_or(SettleError::Foreign)?;
        if sharing.opening() == *opening {
            Ok(sharing)
        } else {
            // Its lease has ended with the broker that it was received from.
            Err(SettleError::Late { position: *position, attempt: claim.attempt })
        }
    }

    fn settle(&mut self, message: &Leased, verdict: Verdict) -> Result<(), SettleError> {
        self.sharing_of(message)?.settle(message.claim, verdict)
    }

    #[inline]
    fn delivery(&mut self, (partition, index): (usize, usize)) -> Result<Delivery<'_>, RecvError> {
        let sharing = &mut self.sharings[partition];
        sharing.check_attributes(index)?;
        Ok(Delivery::new(sharing, index))
    }
}

impl fmt::Debug for SharedConsumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SharedConsumer")
            .field("stream", &self.stream)
            .field("subscription", &self.subscription)
            .field("wait", &self.sharings.wait_strategy())
            .finish_non_exhaustive()
    }
}
