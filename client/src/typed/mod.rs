//! Typed channels: values instead of payloads.
//!
//! 1. What a value's bytes are a [`Codec`] says: [`Plain`] takes them as they lie in memory, [`Postcard`] (feature `serde`)
//!    encodes them.
//! 2. A payload that is no value of the type is an error that names its position. It counts as consumed; the delivery of a
//!    `shared` subscription is rejected, so that it goes to the dead letters instead of coming again.

mod codec;
mod error;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::consumer::Consumer;
use crate::delivery::Delivery;
use crate::message::{Message, Position};
use crate::outgoing::Outgoing;
use crate::producer::Producer;
use crate::shared_consumer::SharedConsumer;
use crate::{Attributes, SettleError};

#[cfg(feature = "serde")]
pub use self::codec::Postcard;
pub use self::codec::{Codec, CodecError, Plain};
pub use self::error::{TypedRecvError, TypedSendError};

/// A producer of values; made by [`Producer::typed`] or [`Producer::typed_by`].
///
/// ```no_run
/// # #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
/// # #[repr(C)]
/// # struct Tick { price: f64, volume: u64 }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut ticks = connection.producer("ticks").open()?.typed::<Tick>();
/// ticks.send(&Tick { price: 99.5, volume: 300 })?;
/// # Ok(())
/// # }
/// ```
pub struct TypedProducer<T, C = Plain> {
    producer: Producer,
    buffer: Vec<u8>,
    of: PhantomData<fn(T) -> C>,
}

impl<T, C: Codec<T>> TypedProducer<T, C> {
    pub(crate) fn new(producer: Producer) -> Self {
        Self { producer, buffer: Vec::new(), of: PhantomData }
    }

    fn encoded<'a>(buffer: &'a mut Vec<u8>, value: &'a T) -> Result<Outgoing<'a>, TypedSendError> {
        buffer.clear();
        Ok(Outgoing::new(C::encode(value, buffer)?))
    }

    /// Publishes one value: see [`Producer::send`].
    pub fn send(&mut self, value: &T) -> Result<Position, TypedSendError> {
        self.send_with(value, Attributes::new())
    }

    /// Publishes one value with attributes.
    pub fn send_with(&mut self, value: &T, attributes: Attributes<'_>) -> Result<Position, TypedSendError> {
        let message = Self::encoded(&mut self.buffer, value)?.attributes(attributes);
        Ok(self.producer.send(message)?)
    }

    /// Publishes one value, or says at once that its partition is full: see [`Producer::try_send`].
    pub fn try_send(&mut self, value: &T) -> Result<Position, TypedSendError> {
        let message = Self::encoded(&mut self.buffer, value)?;
        Ok(self.producer.try_send(message)?)
    }

    /// Publishes one value, and waits for room for `timeout` at the most: see [`Producer::send_timeout`].
    pub fn send_timeout(&mut self, value: &T, timeout: Duration) -> Result<Position, TypedSendError> {
        let message = Self::encoded(&mut self.buffer, value)?;
        Ok(self.producer.send_timeout(message, timeout)?)
    }

    /// Publishes one value, for tasks: see [`Producer::send_async`].
    pub async fn send_async(&mut self, value: &T) -> Result<Position, TypedSendError> {
        let message = Self::encoded(&mut self.buffer, value)?;
        Ok(self.producer.send_async(message).await?)
    }

    /// The producer, for all that has nothing to do with values.
    pub fn producer(&mut self) -> &mut Producer {
        &mut self.producer
    }

    /// The producer again.
    pub fn into_producer(self) -> Producer {
        self.producer
    }
}

/// A consumer of values; made by [`Consumer::typed`] or [`Consumer::typed_by`].
///
/// ```no_run
/// # #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
/// # #[repr(C)]
/// # struct Tick { price: f64, volume: u64 }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut ticks = connection.consumer("ticks", "chart").open()?.typed::<Tick>();
/// let tick = ticks.recv()?;
/// println!("{} at position {}", tick.price, tick.message().position());
/// # Ok(())
/// # }
/// ```
pub struct TypedConsumer<T, C = Plain> {
    consumer: Consumer,
    of: PhantomData<fn(C) -> T>,
}

impl<T, C: Codec<T>> TypedConsumer<T, C> {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self { consumer, of: PhantomData }
    }

    /// The next value: see [`Consumer::recv`].
    pub fn recv(&mut self) -> Result<Typed<T, Message<'_>>, TypedRecvError> {
        Self::decoded(self.consumer.recv()?)
    }

    /// The next value, if there is one now: see [`Consumer::try_recv`].
    pub fn try_recv(&mut self) -> Result<Option<Typed<T, Message<'_>>>, TypedRecvError> {
        self.consumer.try_recv()?.map(Self::decoded).transpose()
    }

    /// The next value; waits at most `timeout` for it: see [`Consumer::recv_timeout`].
    pub fn recv_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Typed<T, Message<'_>>>, TypedRecvError> {
        self.consumer.recv_timeout(timeout)?.map(Self::decoded).transpose()
    }

    /// The next value, for tasks: see [`Consumer::recv_async`].
    pub async fn recv_async(&mut self) -> Result<Typed<T, Message<'_>>, TypedRecvError> {
        Self::decoded(self.consumer.recv_async().await?)
    }

    fn decoded(message: Message<'_>) -> Result<Typed<T, Message<'_>>, TypedRecvError> {
        let position = Position { partition: message.partition(), position: message.position() };
        match C::decode(message.payload()) {
            Ok(value) => Ok(Typed { value, message }),
            Err(source) => Err(TypedRecvError::Value { position, source }),
        }
    }

    /// The consumer, for all that has nothing to do with values.
    pub fn consumer(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    /// The consumer again.
    pub fn into_consumer(self) -> Consumer {
        self.consumer
    }
}

/// One of the consumers of a `shared` subscription, of values; made by [`SharedConsumer::typed`] or
/// [`SharedConsumer::typed_by`].
///
/// ```no_run
/// # #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
/// # #[repr(C)]
/// # struct Job { picture: u64, width: u64 }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut jobs = connection.queue_consumer("jobs").open()?.typed::<Job>();
/// let job = jobs.recv()?;
/// println!("picture {}", job.picture);
/// job.into_message().ack()?;
/// # Ok(())
/// # }
/// ```
pub struct TypedSharedConsumer<T, C = Plain> {
    consumer: SharedConsumer,
    of: PhantomData<fn(C) -> T>,
}

impl<T, C: Codec<T>> TypedSharedConsumer<T, C> {
    pub(crate) fn new(consumer: SharedConsumer) -> Self {
        Self { consumer, of: PhantomData }
    }

    /// The next value: see [`SharedConsumer::recv`].
    pub fn recv(&mut self) -> Result<Typed<T, Delivery<'_>>, TypedRecvError> {
        Self::decoded(self.consumer.recv()?)
    }

    /// The next value, if there is one now: see [`SharedConsumer::try_recv`].
    pub fn try_recv(&mut self) -> Result<Option<Typed<T, Delivery<'_>>>, TypedRecvError> {
        self.consumer.try_recv()?.map(Self::decoded).transpose()
    }

    /// The next value; waits at most `timeout` for it: see [`SharedConsumer::recv_timeout`].
    pub fn recv_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Typed<T, Delivery<'_>>>, TypedRecvError> {
        self.consumer.recv_timeout(timeout)?.map(Self::decoded).transpose()
    }

    /// The next value, for tasks: see [`SharedConsumer::recv_async`].
    pub async fn recv_async(&mut self) -> Result<Typed<T, Delivery<'_>>, TypedRecvError> {
        Self::decoded(self.consumer.recv_async().await?)
    }

    fn decoded(delivery: Delivery<'_>) -> Result<Typed<T, Delivery<'_>>, TypedRecvError> {
        let position = delivery.position();
        match C::decode(delivery.payload()) {
            Ok(value) => Ok(Typed { value, message: delivery }),
            Err(source) => {
                delivery.reject()?;
                Err(TypedRecvError::Value { position, source })
            }
        }
    }

    /// The consumer, for all that has nothing to do with values.
    pub fn consumer(&mut self) -> &mut SharedConsumer {
        &mut self.consumer
    }

    /// The consumer again.
    pub fn into_consumer(self) -> SharedConsumer {
        self.consumer
    }
}

/// A value, and the message that it came in: a [`Message`], or a [`Delivery`] to be settled.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut jobs = connection.queue_consumer("jobs").open()?.typed::<u64>();
/// let (number, job) = jobs.recv()?.into_parts();
/// println!("{number} at {}", job.position());
/// job.ack()?;
///
/// let job = jobs.recv()?;
/// match *job {
///     0 => job.reject()?,
///     1..9 => job.ack()?,
///     _ => job.nack()?,
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Typed<T, M> {
    value: T,
    message: M,
}

impl<T, M> Typed<T, M> {
    /// The message.
    pub fn message(&self) -> &M {
        &self.message
    }

    /// The message, to settle it.
    pub fn into_message(self) -> M {
        self.message
    }

    /// The value alone. A delivery is given back by this: take [`into_parts`](Self::into_parts) to settle it.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Both.
    pub fn into_parts(self) -> (T, M) {
        (self.value, self.message)
    }
}

impl<T> Typed<T, Delivery<'_>> {
    /// Settles the message: see [`Delivery::ack`].
    pub fn ack(self) -> Result<(), SettleError> {
        self.message.ack()
    }

    /// Says that handling it has failed: see [`Delivery::nack`].
    pub fn nack(self) -> Result<(), SettleError> {
        self.message.nack()
    }

    /// The same, to be delivered again after `delay`: see [`Delivery::nack_after`].
    pub fn nack_after(self, delay: Duration) -> Result<(), SettleError> {
        self.message.nack_after(delay)
    }

    /// Sends the message to the dead letters: see [`Delivery::reject`].
    pub fn reject(self) -> Result<(), SettleError> {
        self.message.reject()
    }

    /// Gives the message back untouched: see [`Delivery::release`].
    pub fn release(self) -> Result<(), SettleError> {
        self.message.release()
    }
}

impl<T, M> Deref for Typed<T, M> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl Producer {
    /// Values of a type whose bytes are sent as they lie in memory.
    pub fn typed<T: FromBytes + IntoBytes + Immutable>(self) -> TypedProducer<T> {
        TypedProducer::new(self)
    }

    /// Values of a type and a codec: `typed_by::<Order, Postcard>()`.
    pub fn typed_by<T, C: Codec<T>>(self) -> TypedProducer<T, C> {
        TypedProducer::new(self)
    }
}

impl Consumer {
    /// Values of a type whose bytes were sent as they lie in memory.
    pub fn typed<T: FromBytes + IntoBytes + Immutable>(self) -> TypedConsumer<T> {
        TypedConsumer::new(self)
    }

    /// Values of a type and a codec: `typed_by::<Order, Postcard>()`.
    pub fn typed_by<T, C: Codec<T>>(self) -> TypedConsumer<T, C> {
        TypedConsumer::new(self)
    }
}

impl SharedConsumer {
    /// Values of a type whose bytes were sent as they lie in memory.
    pub fn typed<T: FromBytes + IntoBytes + Immutable>(self) -> TypedSharedConsumer<T> {
        TypedSharedConsumer::new(self)
    }

    /// Values of a type and a codec: `typed_by::<Order, Postcard>()`.
    pub fn typed_by<T, C: Codec<T>>(self) -> TypedSharedConsumer<T, C> {
        TypedSharedConsumer::new(self)
    }
}

impl<T, C> fmt::Debug for TypedProducer<T, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("TypedProducer").field(&self.producer).finish()
    }
}

impl<T, C> fmt::Debug for TypedConsumer<T, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("TypedConsumer").field(&self.consumer).finish()
    }
}

impl<T, C> fmt::Debug for TypedSharedConsumer<T, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("TypedSharedConsumer").field(&self.consumer).finish()
    }
}
