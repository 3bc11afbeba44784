//! Messages one after the other: as iterators, and as streams of tasks.
//!
//! What they return is held, or kept: it may outlive the next one. An iterator, or a stream, ends behind the error that says that
//! the broker is gone.

use std::borrow::BorrowMut;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use super::Waiting;
use crate::consumer::Consumer;
use crate::delivery::Leased;
use crate::error::RecvError;
use crate::message::HeldMessage;
use crate::shared_consumer::SharedConsumer;

/// Whether nothing comes behind this error.
fn is_last(error: &RecvError) -> bool {
    matches!(error, RecvError::Disconnected | RecvError::Forked)
}

/// The messages of a [`Consumer`], each waited for; made by its [`into_iter`](IntoIterator::into_iter), or that of a reference to
/// it. Asking for the next one consumes those before.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut consumer = connection.consumer("orders", "billing").open()?;
/// for message in &mut consumer {
///     println!("{} bytes", message?.payload().len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Messages<C = Consumer> {
    consumer: C,
    ended: bool,
}

impl<C: BorrowMut<Consumer>> Iterator for Messages<C> {
    type Item = Result<HeldMessage, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let message = self.consumer.borrow_mut().recv().map(|message| message.into_held());
        self.ended = message.as_ref().is_err_and(is_last);
        Some(message)
    }
}

impl IntoIterator for Consumer {
    type Item = Result<HeldMessage, RecvError>;
    type IntoIter = Messages;

    fn into_iter(self) -> Messages {
        Messages { consumer: self, ended: false }
    }
}

impl<'a> IntoIterator for &'a mut Consumer {
    type Item = Result<HeldMessage, RecvError>;
    type IntoIter = Messages<&'a mut Consumer>;

    fn into_iter(self) -> Messages<&'a mut Consumer> {
        Messages { consumer: self, ended: false }
    }
}

/// The messages of a [`SharedConsumer`], each waited for and kept, to be settled by the [consumer](Self::consumer); made by its
/// [`into_iter`](IntoIterator::into_iter).
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut jobs = connection.queue_consumer("jobs").open()?.into_iter();
/// while let Some(job) = jobs.next().transpose()? {
///     println!("{} bytes, attempt {}", job.payload().len(), job.attempt());
///     jobs.consumer().ack(&job)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Deliveries {
    consumer: SharedConsumer,
    ended: bool,
}

impl Deliveries {
    /// The consumer, to settle what it has.
    pub fn consumer(&mut self) -> &mut SharedConsumer {
        &mut self.consumer
    }
}

impl Iterator for Deliveries {
    type Item = Result<Leased, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let delivery = self.consumer.recv().map(|delivery| delivery.keep());
        self.ended = delivery.as_ref().is_err_and(is_last);
        Some(delivery)
    }
}

impl IntoIterator for SharedConsumer {
    type Item = Result<Leased, RecvError>;
    type IntoIter = Deliveries;

    fn into_iter(self) -> Deliveries {
        Deliveries { consumer: self, ended: false }
    }
}

/// The messages of a [`Consumer`] as a [`Stream`]; made by [`Consumer::into_stream`]. Asking for the next one consumes those
/// before.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use std::{future::poll_fn, pin::Pin};
/// use futures_core::Stream;
///
/// let mut messages = connection.consumer("orders", "billing").open()?.into_stream();
/// // Or `messages.next()` of the extensions of your runtime.
/// let print = async move {
///     while let Some(message) = poll_fn(|context| Pin::new(&mut messages).poll_next(context)).await {
///         println!("{} bytes", message?.payload().len());
///     }
///     Ok::<(), ringway_client::RecvError>(())
/// };
/// # let _ = print;
/// # Ok(())
/// # }
/// ```
pub struct MessageStream {
    consumer: Consumer,
    waiting: Waiting,
    ended: bool,
}

impl MessageStream {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self { consumer, waiting: Waiting::default(), ended: false }
    }

    /// The consumer, to commit.
    pub fn consumer(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    /// The consumer again.
    pub fn into_consumer(self) -> Consumer {
        self.consumer
    }
}

impl Stream for MessageStream {
    type Item = Result<HeldMessage, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { consumer, waiting, ended } = &mut *self;
        if *ended {
            return Poll::Ready(None);
        }
        let message = ready!(consumer.poll_recv(waiting, context)).map(|message| message.into_held());
        *ended = message.as_ref().is_err_and(is_last);
        Poll::Ready(Some(message))
    }
}

impl FusedStream for MessageStream {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

/// The messages of a [`SharedConsumer`] as a [`Stream`], kept, to be settled by the [consumer](Self::consumer); made by
/// [`SharedConsumer::into_stream`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use std::{future::poll_fn, pin::Pin};
/// use futures_core::Stream;
///
/// let mut jobs = connection.queue_consumer("jobs").open()?.into_stream();
/// let work = async move {
///     while let Some(job) = poll_fn(|context| Pin::new(&mut jobs).poll_next(context)).await.transpose()? {
///         jobs.consumer().ack(&job)?;
///     }
///     Ok::<(), Box<dyn std::error::Error>>(())
/// };
/// # let _ = work;
/// # Ok(())
/// # }
/// ```
pub struct DeliveryStream {
    consumer: SharedConsumer,
    waiting: Waiting,
    ended: bool,
}

impl DeliveryStream {
    pub(crate) fn new(consumer: SharedConsumer) -> Self {
        Self { consumer, waiting: Waiting::default(), ended: false }
    }

    /// The consumer, to settle what it has.
    pub fn consumer(&mut self) -> &mut SharedConsumer {
        &mut self.consumer
    }

    /// The consumer again.
    pub fn into_consumer(self) -> SharedConsumer {
        self.consumer
    }
}

impl Stream for DeliveryStream {
    type Item = Result<Leased, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { consumer, waiting, ended } = &mut *self;
        if *ended {
            return Poll::Ready(None);
        }
        let delivery = ready!(consumer.poll_recv(waiting, context)).map(|delivery| delivery.keep());
        *ended = delivery.as_ref().is_err_and(is_last);
        Poll::Ready(Some(delivery))
    }
}

impl FusedStream for DeliveryStream {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl std::fmt::Debug for MessageStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("MessageStream").field(&self.consumer).finish()
    }
}

impl std::fmt::Debug for DeliveryStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("DeliveryStream").field(&self.consumer).finish()
    }
}
