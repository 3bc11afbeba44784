//! A message of a `shared` subscription: settled, or given back.
//!
//! What always holds: a delivery that is dropped gives its message back, untouched; one that is dropped by a panic counts
//! as failed, so that a message that nobody can handle does not come for ever. One that is [kept](Delivery::keep) is
//! its consumer's until it is settled, its lease ends, or the consumer is closed.

use std::fmt;
use std::time::Duration;

use ringway_shm_protocol::attributes::AttributesView;
use ringway_shm_protocol::ring::Verdict;

use crate::error::SettleError;
use crate::message::Position;
use crate::sharing::{Claim, Sharing};

/// A message that a [`SharedConsumer`](crate::SharedConsumer) has, until it says what becomes of it.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut worker = connection.queue_consumer("jobs").open()?;
/// let job = worker.recv()?;
/// match job.payload() {
///     b"" => job.reject()?,
///     _ if job.failed() < 3 => job.nack()?,
///     _ => job.ack()?,
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a delivery that is dropped gives its message back"]
pub struct Delivery<'a> {
    sharing: &'a mut Sharing,
    index: usize,
    settled: bool,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(sharing: &'a mut Sharing, index: usize) -> Self {
        Self { sharing, index, settled: false }
    }

    fn claim(&self) -> Claim {
        self.sharing.claimed(self.index)
    }

    /// Where the message is in its stream.
    pub fn position(&self) -> Position {
        self.sharing.position(self.claim())
    }

    /// Which delivery of the message this is: 1 for the first.
    pub fn attempt(&self) -> u32 {
        self.claim().attempt
    }

    /// How many of the deliveries before have failed: nacked, or ended by a lease that ran out or a consumer that died.
    /// Those that were given back do not count.
    pub fn failed(&self) -> u32 {
        self.claim().failed
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.sharing.payload(self.index)
    }

    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        self.attributes().key()
    }

    /// All that the message says about itself.
    pub fn attributes(&self) -> AttributesView<'_> {
        self.sharing.attributes(self.index).expect("they were parsed before it was delivered")
    }

    /// Settles the message: it is never delivered again.
    ///
    /// [`Late`](SettleError::Late): the lease was over, and the message is, or was, delivered again.
    #[inline]
    pub fn ack(mut self) -> Result<(), SettleError> {
        self.settled = true;
        self.sharing.ack_slot(self.index)
    }

    /// Says that handling the message has failed: it is delivered again after the subscription's backoff, or dead when it
    /// has failed too often. The broker judges it soon: see [`SharedConsumer::confirm`](crate::SharedConsumer::confirm).
    pub fn nack(self) -> Result<(), SettleError> {
        self.settle(Verdict::Nack { delay_ms: None })
    }

    /// The same, to be delivered again after `delay`, in whole milliseconds.
    pub fn nack_after(self, delay: Duration) -> Result<(), SettleError> {
        self.settle(Verdict::Nack { delay_ms: Some(millis(delay)) })
    }

    /// Says that the message shall never be delivered again: it goes to the dead letters.
    pub fn reject(self) -> Result<(), SettleError> {
        self.settle(Verdict::Reject)
    }

    /// Gives the message back untouched, to be delivered again at once. Dropping the delivery does the same.
    pub fn release(self) -> Result<(), SettleError> {
        self.settle(Verdict::Release)
    }

    /// Lets the lease last for `lease` from now on, twelve hours at most, in whole milliseconds.
    pub fn extend(&mut self, lease: Duration) -> Result<(), SettleError> {
        let claim = self.claim();
        self.sharing.settle(claim, Verdict::Extend { lease_ms: millis(lease) })
    }

    /// Keeps the message beyond the next call of its consumer, with a copy of it; the lease goes on.
    pub fn keep(mut self) -> Leased {
        self.settled = true;
        let (flags, section) = self.attributes().parts();
        let attributes = (flags, section.into());
        let (opening, position, claim) = (self.sharing.opening(), self.position(), self.claim());
        Leased { opening, position, claim, attributes, payload: self.payload().into() }
    }

    fn settle(mut self, verdict: Verdict) -> Result<(), SettleError> {
        self.settled = true;
        self.sharing.settle(self.claim(), verdict)
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let panics = std::thread::panicking();
            let verdict = if panics { Verdict::Nack { delay_ms: None } } else { Verdict::Release };
            // What cannot be said the broker sees when the lease ends.
            let _ = self.sharing.settle(self.claim(), verdict);
        }
    }
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Delivery")
            .field("position", &self.position())
            .field("attempt", &self.attempt())
            .field("payload_bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

/// A message that was [kept](Delivery::keep): to be settled by its consumer.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut worker = connection.queue_consumer("jobs").open()?;
/// let first = worker.recv()?.keep();
/// let second = worker.recv()?.keep();
/// worker.ack(&second)?;
/// worker.nack(&first)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "its consumer has the message until it is settled"]
pub struct Leased {
    /// The opening of its partition that has received it.
    pub(crate) opening: u64,
    pub(crate) position: Position,
    pub(crate) claim: Claim,
    /// Flags and section.
    attributes: (u16, Box<[u8]>),
    payload: Box<[u8]>,
}

impl Leased {
    /// Where the message is in its stream.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Which delivery of the message this is: 1 for the first.
    pub fn attempt(&self) -> u32 {
        self.claim.attempt
    }

    /// How many of the deliveries before have failed.
    pub fn failed(&self) -> u32 {
        self.claim.failed
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        self.attributes().key()
    }

    /// All that the message says about itself.
    pub fn attributes(&self) -> AttributesView<'_> {
        let (flags, section) = &self.attributes;
        AttributesView::parse(*flags, section).expect("they were parsed before")
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Leased")
            .field("position", &self.position)
            .field("attempt", &self.claim.attempt)
            .finish_non_exhaustive()
    }
}

/// Whole milliseconds, rounded up: never early.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
