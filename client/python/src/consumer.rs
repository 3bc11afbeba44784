//! Receiving a stream in order.
//!
//! 1. Asking for the next message, or for more, consumes what was returned before, and nothing of what is returned: a batch is
//!    shorter than what the client returns before it commits, and ends behind a message that it would commit at once.
//! 2. Waiting for a message in a task does not receive it: a task that is cancelled loses none.

use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use ringway_client as client;
use ringway_client::{ConfirmError, RecvError};

use crate::errors::{OrRaise, Raise};
use crate::locked::{Locked, timeout};
use crate::message::{Message, Position, Taken};

/// A consumer and what its batches need.
struct Ordered {
    consumer: client::Consumer,
    /// Where the payloads of a batch are copied to.
    copies: Vec<u8>,
    /// What ended the batch before: told by the next call, so that neither it nor the batch is lost.
    failed: Option<RecvError>,
}

impl Ordered {
    #[inline]
    fn tell_failed(&mut self) -> Result<(), RecvError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Receives up to `most` messages, the first of which may be waited for.
    fn receive(&mut self, most: usize, timeout: Duration, in_place: bool) -> Result<Vec<Taken>, RecvError> {
        self.tell_failed()?;
        let (mut copies, mut failed) = (std::mem::take(&mut self.copies), None);
        copies.clear();
        let consumer = &mut self.consumer;
        // What was returned before is consumed here, so that nothing is while the batch goes on.
        consumer.commit()?;
        let mut taken = Vec::with_capacity(most);
        let mut next = consumer.recv_timeout(timeout)?;
        while let Some(message) = next {
            taken.push(Taken::of(&message, in_place, &mut copies));
            if taken.len() == most || !message.is_inline() {
                break;
            }
            next = consumer.try_recv().unwrap_or_else(|error| {
                failed = Some(error);
                None
            });
        }
        (self.copies, self.failed) = (copies, failed);
        Ok(taken)
    }

    /// Receives a message if there is one now, with its copies.
    fn receive_now(&mut self, in_place: bool) -> Result<Option<(Taken, Vec<u8>)>, RecvError> {
        self.tell_failed()?;
        let mut copies = Vec::new();
        let message = self.consumer.try_recv()?;
        Ok(message.map(|message| (Taken::of(&message, in_place, &mut copies), copies)))
    }
}

/// The consumer of an ordered subscription.
#[pyclass(frozen, module = "ringway")]
pub(crate) struct Consumer {
    inner: Locked<Ordered>,
    stream: String,
    subscription: String,
    batch_max: usize,
    in_place: bool,
}

impl Consumer {
    pub(crate) fn new(consumer: client::Consumer, in_place: bool) -> Self {
        let (stream, subscription) = (consumer.stream().to_owned(), consumer.subscription().to_owned());
        let batch_max = consumer.uncommitted_max();
        let inner = Locked::new("consumer", Ordered { consumer, copies: Vec::new(), failed: None });
        Self { inner, stream, subscription, batch_max, in_place }
    }

    /// The next message, if there is one now; `None` inside: another thread has the handle.
    #[inline]
    fn receive_at_once(&self, py: Python<'_>) -> PyResult<Option<Option<Message>>> {
        let received = self.inner.quickly(|ordered| {
            ordered.tell_failed()?;
            let message = ordered.consumer.try_recv()?;
            Ok(message.map(|message| Message::of(py, &message, self.in_place)))
        })?;
        let received = received.transpose().map_err(|error: RecvError| error.raise(py))?;
        received.map(Option::transpose).transpose()
    }
}

#[pymethods]
impl Consumer {
    /// The next message, if there is one now. What was returned before counts as consumed.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        match self.receive_at_once(py)? {
            Some(received) => Ok(received),
            None => {
                let received = self.inner.without_python(py, |ordered| ordered.receive_now(self.in_place))?;
                let received = received.map_err(|error| error.raise(py))?;
                Ok(received.map(|(taken, copies)| taken.into_message(py, &copies)))
            }
        }
    }

    /// The next message; waits for it, `timeout` seconds at the most: then None. What was returned before counts as consumed.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Message>> {
        match self.receive_at_once(py)? {
            Some(Some(message)) => Ok(Some(message)),
            _ => Ok(self.recv_many(py, 1, timeout)?.pop()),
        }
    }

    /// Up to `count` messages, without the interpreter lock: those that are there, or, when none is, the first that comes.
    #[pyo3(signature = (count=256, timeout=None))]
    fn recv_many(&self, py: Python<'_>, count: usize, timeout: Option<f64>) -> PyResult<Vec<Message>> {
        let (most, patience) = (count.min(self.batch_max), self::timeout(timeout)?);
        if most == 0 {
            return Ok(Vec::new());
        }
        let received = self.inner.wait(py, patience, |ordered, slice| {
            let taken = ordered.receive(most, slice, self.in_place)?;
            Ok((!taken.is_empty()).then(|| (taken, std::mem::take(&mut ordered.copies))))
        })?;
        let received = received.map_err(|error: RecvError| error.raise(py))?;
        let Some((taken, copies)) = received else { return Ok(Vec::new()) };
        let messages = taken.into_iter().map(|taken| taken.into_message(py, &copies)).collect();
        // The memory is used again.
        self.inner.if_free(|ordered| ordered.copies = copies);
        Ok(messages)
    }

    /// Declares everything returned so far consumed, at once.
    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.with(py, |ordered| ordered.consumer.commit())?.or_raise(py)
    }

    /// The same, and waits until that is as durable as the stream.
    #[pyo3(signature = (timeout=None))]
    fn confirm_commit(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let patience = self::timeout(timeout)?;
        let mut last = None;
        let confirmed =
            self.inner.wait(py, patience, |ordered, slice| match ordered.consumer.confirm_commit(slice) {
                Ok(()) => Ok(Some(())),
                Err(error @ ConfirmError::Unsettled { .. }) => {
                    last = Some(error);
                    Ok(None)
                }
                Err(error) => Err(error),
            })?;
        match (confirmed, last) {
            (Ok(None), Some(error)) => Err(error).or_raise(py),
            (confirmed, _) => confirmed.map(drop).or_raise(py),
        }
    }

    /// How many messages were overwritten before this consumer could read them.
    #[getter]
    fn missed(&self, py: Python<'_>) -> PyResult<u64> {
        self.inner.with(py, |ordered| ordered.consumer.missed())
    }

    /// For each of its partitions the position of the next message.
    fn positions(&self, py: Python<'_>) -> PyResult<Vec<Position>> {
        let positions = self.inner.with(py, |ordered| ordered.consumer.positions())?;
        Ok(positions.into_iter().map(Into::into).collect())
    }

    /// The stream's name.
    #[getter]
    fn stream(&self) -> &str {
        &self.stream
    }

    /// The subscription's name.
    #[getter]
    fn subscription(&self) -> &str {
        &self.subscription
    }

    /// Commits everything returned and gives the subscription back; with `commit=False` it commits nothing. Messages in place
    /// stay, and the subscription with them.
    #[pyo3(signature = (*, commit=true))]
    fn close(&self, py: Python<'_>, commit: bool) -> PyResult<()> {
        let inner = self.inner.take(py);
        let close = |Ordered { consumer, .. }| {
            if commit {
                return consumer.close();
            }
            // A consumer that is dropped by a panic commits nothing.
            let dropped = catch_unwind(AssertUnwindSafe(move || {
                let _consumer = consumer;
                resume_unwind(Box::new(()))
            }));
            dropped.unwrap_or(Ok(()))
        };
        py.detach(|| inner.map_or(Ok(()), close)).or_raise(py)
    }

    /// A descriptor that is readable when there may be a message; see the README.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        let readiness = self.inner.with(py, |ordered| ordered.consumer.readiness())??;
        Ok(readiness.as_raw_fd())
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        self.recv(py, None)
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("ringway._asyncio")?.call_method1("receive", (slf,))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Behind a block that raises nothing is committed: what it could not handle is delivered again.
    #[pyo3(signature = (*error))]
    fn __exit__(&self, py: Python<'_>, error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py, error.get_item(0)?.is_none())
    }

    fn __repr__(&self) -> String {
        format!("<ringway.Consumer {} of {}>", self.subscription, self.stream)
    }
}
