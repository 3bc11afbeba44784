//! Reading a stream as one subscription: the partitions in turn, and the user's side of it.
//!
//! 1. Within a partition messages come in order; between partitions there is none.
//! 2. A partition that always has messages is left after [`TURN_MESSAGES`], so that the others get their turn.
//! 3. Asking for the next message consumes what was returned before; what is not committed at a crash is delivered again.

use std::fmt;
use std::time::Duration;

use ringway_shm_protocol::memory::bell::{LocalBell, MappedBell, wait_any};
use ringway_shm_protocol::ring::Received;

use crate::connection::Connection;
use crate::error::{CloseError, OpenError, RecvError};
use crate::message::{Message, Position};
use crate::reading::Reading;
use crate::wait::{Deadline, Step, WaitStrategy, Waiter};

/// Messages of one partition in a row while others may have some.
const TURN_MESSAGES: u32 = 32;

/// What a [`Consumer`] will be like; made by [`Connection::consumer`].
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
        let open = |partition| Reading::open(&self.connection, &self.stream, partition, &self.subscription);
        let mut readings = Vec::new();
        match &self.partitions {
            Some(partitions) => {
                if partitions.is_empty() {
                    return Err(OpenError::NoPartition);
                }
                for partition in partitions {
                    readings.push(open(*partition)?.0);
                }
            }
            None => {
                let (first, settings) = open(0)?;
                readings.push(first);
                for partition in 1..settings.partitions {
                    readings.push(open(partition)?.0);
                }
            }
        }
        // Pausing for one partition would delay the others.
        let courtesy = self.courtesy && readings.len() == 1;
        readings.iter_mut().for_each(|reading| reading.set_courtesy(courtesy));
        let Self { stream, subscription, wait, .. } = self;
        Ok(Consumer {
            readings,
            turn: 0,
            in_turn: 0,
            wait,
            stream,
            subscription,
            local: LocalBell::default(),
        })
    }
}

/// The one consumer of a subscription, or of some of its partitions.
///
/// It may move between threads and be used by one at a time. Dropping it does what [`close`](Self::close) does, waits
/// at most a second for the broker and ignores errors; during a panic it commits nothing, so that the message
/// whose handling panicked is delivered again.
pub struct Consumer {
    /// One for each partition.
    readings: Vec<Reading>,
    /// The one to be looked at first, and how many messages in a row came from it.
    turn: usize,
    in_turn: u32,
    wait: WaitStrategy,
    stream: String,
    subscription: String,
    /// Never rung: a wait for many takes one.
    local: LocalBell,
}

/// A message and the index of the reading that has it.
type Found = (usize, Received);

impl Consumer {
    /// The next message, if there is one now. What was returned before counts as consumed.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>, RecvError> {
        match self.next()? {
            Some((index, received)) => Ok(Some(self.readings[index].message(received)?)),
            None => {
                for reading in &mut self.readings {
                    reading.found_nothing()?;
                }
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
        let (index, received) = match self.next()? {
            Some(found) => found,
            None => self.wait(Deadline::NEVER)?.ok_or(RecvError::Disconnected)?,
        };
        self.readings[index].message(received)
    }

    /// The next message; waits at most `timeout` for it. What was returned before counts as consumed. When
    /// the time is over and the broker is gone, the error is [`Disconnected`](RecvError::Disconnected).
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message<'_>>, RecvError> {
        let found = match self.next()? {
            Some(found) => Some(found),
            None => self.wait(Deadline::after(timeout))?,
        };
        found.map(|(index, received)| self.readings[index].message(received)).transpose()
    }

    /// Declares everything returned so far consumed, at once.
    pub fn commit(&mut self) -> Result<(), RecvError> {
        for reading in &mut self.readings {
            reading.check_fork()?;
            reading.commit()?;
        }
        Ok(())
    }

    /// How many messages were overwritten before this consumer could read them: only on a stream that drops its oldest,
    /// or detaches who lags.
    pub fn missed(&self) -> u64 {
        self.readings.iter().map(Reading::missed).sum()
    }

    /// For each of its partitions the position of the next message to be returned, if none in between is missing.
    pub fn positions(&self) -> Vec<Position> {
        self.readings.iter().map(Reading::position).collect()
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
        let closed: Vec<_> = self.readings.into_iter().map(Reading::close).collect();
        closed.into_iter().collect()
    }

    /// Looks at the partitions, from the one whose turn it is.
    #[inline]
    fn next(&mut self) -> Result<Option<Found>, RecvError> {
        if let [reading] = &mut self.readings[..] {
            return Ok(reading.next()?.map(|received| (0, received)));
        }
        self.next_of_many()
    }

    fn next_of_many(&mut self) -> Result<Option<Found>, RecvError> {
        if self.in_turn >= TURN_MESSAGES {
            self.take_turn(self.turn + 1);
        }
        let count = self.readings.len();
        for index in (self.turn..count).chain(0..self.turn) {
            if let Some(received) = self.readings[index].next()? {
                if index != self.turn {
                    self.take_turn(index);
                }
                self.in_turn += 1;
                return Ok(Some((index, received)));
            }
        }
        Ok(None)
    }

    fn take_turn(&mut self, index: usize) {
        self.turn = index % self.readings.len();
        self.in_turn = 0;
    }

    /// Waits for a message; `None`: the deadline is over.
    #[cold]
    fn wait(&mut self, deadline: Deadline) -> Result<Option<Found>, RecvError> {
        let mut wait = Waiter::new(self.wait, deadline);
        loop {
            let step = wait.step_after(self.readings.len() as u32);
            match step {
                Step::Look => {}
                // Looking briefly is cheaper than a commit per message when the next one is under way.
                Step::Idle => self.commit()?,
                Step::Sleep(at_most) => self.sleep(at_most)?,
                Step::CheckBroker | Step::Over => self.commit()?,
            }
            let gone = matches!(step, Step::CheckBroker | Step::Over) && !self.is_open();
            // After the broker was looked at, so that all that came before its end is returned.
            if let Some(found) = self.next()? {
                return Ok(Some(found));
            }
            if gone {
                return Err(RecvError::Disconnected);
            }
            if step == Step::Over {
                return Ok(None);
            }
        }
    }

    /// Sleeps until there is a message. Commits first: no producer may wait for a sleeper.
    fn sleep(&mut self, at_most: Duration) -> Result<(), RecvError> {
        if let [reading] = &mut self.readings[..] {
            return reading.sleep(at_most);
        }
        let counts = self.announce()?;
        if !self.has_next() {
            let local = (&self.local, 0);
            wait_any(self.bells().zip(counts), local, at_most);
        }
        Ok(())
    }

    /// Whether there is something to receive, a defect included.
    pub(crate) fn has_next(&self) -> bool {
        self.readings.iter().any(Reading::has_next)
    }

    /// Commits everything returned and announces a sleep that ends when one of the bells counts otherwise than this.
    pub(crate) fn announce(&mut self) -> Result<Vec<u32>, RecvError> {
        self.readings.iter_mut().map(Reading::announce).collect()
    }

    /// What is rung when there is something to receive, one for each partition.
    pub(crate) fn bells(&self) -> impl Iterator<Item = &MappedBell> {
        self.readings.iter().map(Reading::bell)
    }

    /// Whether the broker is there.
    pub(crate) fn is_open(&self) -> bool {
        self.readings[0].connection().is_open()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Consumer")
            .field("stream", &self.stream)
            .field("subscription", &self.subscription)
            .field("positions", &self.positions())
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
