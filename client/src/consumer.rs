//! Reading a stream as one subscription: the partitions in turn, and the user's side of it.
//!
//! 1. Within a partition messages come in order; between partitions there is none.
//! 2. Asking for the next message consumes what was returned before; what is not committed at a crash is delivered again.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::connection::Connection;
use crate::error::{CloseError, ConfirmError, OpenError, RecvError};
use crate::message::{Message, Position};
use crate::partitions::{Partitions, open_all};
use crate::reading::Reading;
use crate::task::{Armed, MessageStream, Readiness, Waiting};
use crate::wait::{Deadline, WaitStrategy};

/// What a [`Consumer`] will be like; made by [`Connection::consumer`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::WaitStrategy;
///
/// let consumer = connection.consumer("accounts", "ledger").partitions([0, 1]).wait(WaitStrategy::Spin).open()?;
/// # let _ = consumer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct ConsumerBuilder {
    connection: Connection,
    stream: String,
    subscription: String,
    partitions: Option<Vec<u32>>,
    wait: WaitStrategy,
    courtesy: bool,
}

impl ConsumerBuilder {
    pub(crate) fn new(connection: Connection, stream: &str, subscription: &str) -> Self {
        let (stream, subscription) = (stream.to_owned(), subscription.to_owned());
        let (partitions, wait) = (None, WaitStrategy::default());
        Self { connection, stream, subscription, partitions, wait, courtesy: true }
    }

    /// Which partitions to read; all when nothing is said. Other consumers may have the others.
    pub fn partitions(self, partitions: impl IntoIterator<Item = u32>) -> Self {
        Self { partitions: Some(partitions.into_iter().collect()), ..self }
    }

    /// How to wait while there is no message; [`WaitStrategy::default`] when nothing is said.
    pub fn wait(self, wait: WaitStrategy) -> Self {
        Self { wait, ..self }
    }

    /// Whether a consumer that has caught up with a fast stream may pause for some microseconds before it looks again, in
    /// whatever call (it may when nothing is said). That makes such a stream several times faster, because the two sides do not
    /// fight over each message's memory. Without it, single messages of a stream of many millions a second come with the
    /// least delay.
    pub fn courtesy(self, courtesy: bool) -> Self {
        Self { courtesy, ..self }
    }

    /// Opens the subscription, which goes on where it was last committed. Refused as
    /// [`InUse`](crate::RefusalCode::InUse) while another consumer has one of the partitions open, as
    /// [`NotFound`](crate::RefusalCode::NotFound) when there is no such stream or subscription, and as
    /// [`Invalid`](crate::RefusalCode::Invalid) when there is no such partition, or none is named.
    pub fn open(self) -> Result<Consumer, OpenError> {
        let Self { connection, stream, subscription, partitions, wait, courtesy } = self;
        let names = (stream.clone(), subscription.clone());
        let readings = Partitions::open(connection, wait, move |session| {
            let open = |partition| Reading::open(session, &names.0, partition, &names.1);
            let mut readings = open_all(partitions.as_deref(), open)?;
            // Pausing for one partition would delay the others.
            let courtesy = courtesy && readings.len() == 1;
            readings.iter_mut().for_each(|reading| reading.set_courtesy(courtesy));
            Ok(readings)
        })?;
        Ok(Consumer { readings, armed: None, stream, subscription })
    }
}

/// The one consumer of a subscription, or of some of its partitions.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut consumer = connection.consumer("orders", "billing").open()?;
/// while let Some(message) = consumer.try_recv()? {
///     println!("{}: {} bytes", message.position(), message.payload_bytes());
/// }
/// consumer.close()?;
/// # Ok(())
/// # }
/// ```
///
/// It may move between threads and be used by one at a time. Dropping it does what [`close`](Self::close) does, waits
/// at most a second for the broker and ignores errors; during a panic it commits nothing, so that the message
/// whose handling panicked is delivered again.
pub struct Consumer {
    readings: Partitions<Reading>,
    /// If somebody waits for a descriptor.
    armed: Option<Box<Armed>>,
    stream: String,
    subscription: String,
}

impl Consumer {
    /// The next message, if there is one now. What was returned before counts as consumed.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>, RecvError> {
        match self.readings.next()? {
            Some((index, ())) => Ok(Some(self.readings[index].message()?)),
            None if let Some(armed) = &mut self.armed => match armed.next(&mut self.readings)? {
                Some((index, ())) => Ok(Some(self.readings[index].message()?)),
                None => Ok(None),
            },
            None => {
                self.readings.found_nothing()?;
                Ok(None)
            }
        }
    }

    /// The next message; waits for it as long as the broker is there. What was returned before counts as
    /// consumed.
    ///
    /// A signal does not end the wait: who has to react to one calls [`recv_timeout`](Self::recv_timeout) in a loop.
    #[inline]
    pub fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        let (index, ()) = match self.readings.next()? {
            Some(found) => found,
            None => self.readings.wait(Deadline::NEVER)?.ok_or(RecvError::Disconnected)?,
        };
        self.readings[index].message()
    }

    /// The next message; waits at most `timeout` for it. What was returned before counts as consumed. When
    /// the time is over and the broker is gone, the error is [`Disconnected`](RecvError::Disconnected).
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message<'_>>, RecvError> {
        let found = match self.readings.next()? {
            Some(found) => Some(found),
            None => self.readings.wait(Deadline::after(timeout))?,
        };
        found.map(|(index, ())| self.readings[index].message()).transpose()
    }

    /// Declares everything returned so far consumed, at once.
    pub fn commit(&mut self) -> Result<(), RecvError> {
        self.readings.rest()
    }

    /// Declares everything returned so far consumed, and waits until that is as durable as the stream: then none of it comes again,
    /// whatever dies.
    pub fn confirm_commit(&mut self, timeout: Duration) -> Result<(), ConfirmError> {
        self.readings.check_set_back(&self.stream)?;
        let deadline = Deadline::after(timeout);
        self.readings.iter_mut().try_for_each(|reading| reading.confirm(deadline))
    }

    /// The same, for tasks, for as long as the broker is there.
    pub async fn confirm_commit_async(&mut self) -> Result<(), ConfirmError> {
        self.readings.check_set_back(&self.stream)?;
        for reading in self.readings.iter_mut() {
            reading.confirm_async().await?;
        }
        Ok(())
    }

    /// How many messages it returns in a row, if all of them fit their slots, before it commits the first of them by itself.
    pub fn uncommitted_max(&self) -> usize {
        let partitions = self.readings.iter().map(Reading::uncommitted_max);
        partitions.min().expect("there is a partition")
    }

    /// How many messages were overwritten before this consumer could read them: only on a stream that drops its oldest,
    /// or one of durability `memory` that detaches who lags.
    pub fn missed(&self) -> u64 {
        self.readings.counted()
    }

    /// For each of its partitions the position of the next message to be returned, if none in between is missing.
    pub fn positions(&self) -> Vec<Position> {
        self.readings.iter().map(Reading::position).collect()
    }

    /// The next message, for tasks: completes when there is one. What was returned before counts as consumed. It waits as [`recv`](Self::recv)
    /// does, gives other tasks the turn while it looks, and sleeps without a thread of its own. Dropped before it is complete, it
    /// has taken nothing.
    pub async fn recv_async(&mut self) -> Result<Message<'_>, RecvError> {
        let mut waiting = Waiting::default();
        let (index, ()) = poll_fn(|context| waiting.poll(&mut self.readings, context)).await?;
        self.readings[index].message()
    }

    /// The same, one poll of it.
    pub(crate) fn poll_recv(
        &mut self,
        waiting: &mut Waiting,
        context: &mut Context<'_>,
    ) -> Poll<Result<Message<'_>, RecvError>> {
        let (index, ()) = ready!(waiting.poll(&mut self.readings, context))?;
        Poll::Ready(self.readings[index].message())
    }

    /// Its messages as a [`Stream`](futures_core::Stream).
    pub fn into_stream(self) -> MessageStream {
        MessageStream::new(self)
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

    /// Commits everything returned and gives the subscription back, so that another consumer may open it; while a
    /// message of it is [held](Message::hold), that happens when the last one is dropped.
    /// Whatever it returns, the consumer is closed; the broker notices at the end of the session at the latest.
    pub fn close(self) -> Result<(), CloseError> {
        let closed: Vec<_> = self.readings.into_all().map(Reading::close).collect();
        closed.into_iter().collect()
    }

    /// Looks for another broker, once.
    pub(crate) fn look_for_broker(&mut self) -> Result<(), RecvError> {
        self.readings.look_for_broker().map(drop)
    }

    /// Its partitions, to wait for them among others.
    pub(crate) fn partitions(&self) -> &Partitions<Reading> {
        &self.readings
    }

    /// Commits everything returned and announces a sleep that ends when one of the bells counts otherwise than this.
    pub(crate) fn announce(&mut self) -> Result<Vec<u32>, RecvError> {
        self.readings.announce()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Consumer")
            .field("stream", &self.stream)
            .field("subscription", &self.subscription)
            .field("positions", &self.positions())
            .field("wait", &self.readings.wait_strategy())
            .finish_non_exhaustive()
    }
}
