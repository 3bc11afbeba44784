//! Consuming a queue, or a stream as one of several; settling.
//!
//! 1. Every delivery is kept: it is the program's until it is settled, and settled once. One that nobody refers to any more is
//!    given back, as one that is dropped is in Rust.
//! 2. Waiting for a message in a task does not receive it: a task that is cancelled loses none.
//! 3. A payload is copied out once. A small one is `bytes`; a larger one Python reads from that copy by the buffer protocol.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PyTuple};
use pyo3::{IntoPyObjectExt, ffi};
use ringway_client as client;
use ringway_client::{ConfirmError, Leased, RecvError, SettleError};

use crate::errors::{OrRaise, Raise};
use crate::locked::{Locked, seconds, timeout};
use crate::message::{Said, lend};

/// Largest payload that becomes `bytes`.
const BYTES_MAX: usize = 4096;

struct Competing {
    consumer: client::SharedConsumer,
    /// What ended the batch before: told by the next call, so that neither it nor the batch is lost.
    failed: Option<RecvError>,
}

impl Competing {
    fn tell_failed(&mut self) -> Result<(), RecvError> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

/// The consumer, as its deliveries have it.
struct Source {
    inner: Locked<Competing>,
    /// Deliveries that nobody refers to any more, and that could not be given back at once.
    dropped: Mutex<Vec<Arc<Leased>>>,
}

impl Source {
    /// A step of the consumer; before it, what was dropped is given back.
    fn tidy(&self, competing: &mut Competing) {
        for leased in std::mem::take(&mut *lock(&self.dropped)) {
            // What cannot be said the broker sees when the lease ends.
            let _ = competing.consumer.release(&leased);
        }
    }

    fn settle(
        &self,
        py: Python<'_>,
        settle: impl Fn(&mut client::SharedConsumer) -> Result<(), SettleError> + Sync,
    ) -> PyResult<()> {
        self.inner.with(py, |competing| settle(&mut competing.consumer))?.or_raise(py)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the consumers of a shared subscription, or of a queue.
#[pyclass(frozen, module = "ringway")]
pub(crate) struct SharedConsumer {
    source: Arc<Source>,
    stream: String,
    subscription: String,
}

impl SharedConsumer {
    pub(crate) fn new(consumer: client::SharedConsumer) -> Self {
        let (stream, subscription) = (consumer.stream().to_owned(), consumer.subscription().to_owned());
        let inner = Locked::new("consumer", Competing { consumer, failed: None });
        Self { source: Arc::new(Source { inner, dropped: Mutex::default() }), stream, subscription }
    }

    fn delivery(&self, py: Python<'_>, leased: Leased) -> Delivery {
        let payload = leased.payload();
        let bytes = (payload.len() <= BYTES_MAX).then(|| PyBytes::new(py, payload).unbind());
        let said = Said::by(leased.attributes());
        let (source, leased) = (Arc::clone(&self.source), Arc::new(leased));
        Delivery { source, leased, is_settled: AtomicBool::new(false), said, bytes }
    }

    /// The next message, if there is one now.
    fn receive_now(&self, competing: &mut Competing) -> Result<Option<Leased>, RecvError> {
        self.source.tidy(competing);
        competing.tell_failed()?;
        Ok(competing.consumer.try_recv()?.map(client::Delivery::keep))
    }

    /// Up to `most` messages, the first of which is waited for.
    fn receive(
        &self,
        py: Python<'_>,
        most: usize,
        patience: Option<Duration>,
    ) -> PyResult<Option<Vec<Leased>>> {
        let received = self.source.inner.wait(py, patience, |competing, slice| {
            self.source.tidy(competing);
            competing.tell_failed()?;
            let Some(first) = competing.consumer.recv_timeout(slice)? else { return Ok(None) };
            let mut all = vec![first.keep()];
            while all.len() < most {
                match competing.consumer.try_recv() {
                    Ok(Some(delivery)) => all.push(delivery.keep()),
                    Ok(None) => break,
                    Err(error) => {
                        competing.failed = Some(error);
                        break;
                    }
                }
            }
            Ok(Some(all))
        })?;
        received.map_err(|error: RecvError| error.raise(py))
    }
}

#[pymethods]
impl SharedConsumer {
    /// The next message, if there is one now.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Delivery>> {
        let received = self.source.inner.with(py, |competing| self.receive_now(competing))?;
        let received = received.map_err(|error| error.raise(py))?;
        Ok(received.map(|leased| self.delivery(py, leased)))
    }

    /// The next message; waits for it, `timeout` seconds at the most: then None.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Delivery>> {
        match self.source.inner.quickly(|competing| self.receive_now(competing))?.transpose() {
            Ok(Some(Some(leased))) => Ok(Some(self.delivery(py, leased))),
            Ok(_) => Ok(self.recv_many(py, 1, timeout)?.pop()),
            Err(error) => Err(error.raise(py)),
        }
    }

    /// Up to `count` messages, without the interpreter lock: those that are there, or, when none is, the first that comes. All
    /// their leases have begun.
    #[pyo3(signature = (count=256, timeout=None))]
    fn recv_many(&self, py: Python<'_>, count: usize, timeout: Option<f64>) -> PyResult<Vec<Delivery>> {
        let patience = self::timeout(timeout)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let received = self.receive(py, count, patience)?.unwrap_or_default();
        Ok(received.into_iter().map(|leased| self.delivery(py, leased)).collect())
    }

    /// Settles messages of this consumer: they are never delivered again. Goes on behind one that cannot be settled, and raises
    /// the first such error at the end.
    fn ack_many(&self, py: Python<'_>, deliveries: Vec<Bound<'_, Delivery>>) -> PyResult<()> {
        let taken: Vec<_> =
            deliveries.iter().map(|delivery| delivery.get().take()).collect::<PyResult<_>>()?;
        let acked = self.source.inner.without_python(py, |competing| {
            let mut first = Ok(());
            for leased in &taken {
                first = first.and(competing.consumer.ack(leased));
            }
            first
        })?;
        acked.or_raise(py)
    }

    /// Waits until the broker has judged everything that was said; returns how many verdicts so far came too late.
    fn confirm(&self, py: Python<'_>) -> PyResult<u64> {
        self.source.inner.without_python(py, |competing| competing.consumer.confirm())?.or_raise(py)
    }

    /// Waits until everything that was acked, or said otherwise, is as durable as the stream.
    #[pyo3(signature = (timeout=None))]
    fn confirm_settled(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let patience = self::timeout(timeout)?;
        let mut last = None;
        let confirmed = self.source.inner.wait(py, patience, |competing, slice| {
            match competing.consumer.confirm_settled(slice) {
                Ok(()) => Ok(Some(())),
                Err(error @ ConfirmError::Unsettled { .. }) => {
                    last = Some(error);
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        })?;
        match (confirmed, last) {
            (Ok(None), Some(error)) => Err(error).or_raise(py),
            (confirmed, _) => confirmed.map(drop).or_raise(py),
        }
    }

    /// How many verdicts the broker has found to be too late.
    #[getter]
    fn late(&self, py: Python<'_>) -> PyResult<u64> {
        self.source.inner.with(py, |competing| competing.consumer.late())
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

    /// Gives back what was not settled, and stops consuming.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.source.inner.take(py);
        py.detach(|| inner.map_or(Ok(()), |competing| competing.consumer.close())).or_raise(py)
    }

    /// A descriptor that is readable when there may be a message; see the README.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        let readiness = self.source.inner.with(py, |competing| competing.consumer.readiness())??;
        Ok(readiness.as_raw_fd())
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Delivery>> {
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

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<ringway.SharedConsumer {} of {}>", self.subscription, self.stream)
    }
}

/// A message that a shared consumer has, until it says what becomes of it. As a context manager it acks behind a block that
/// succeeds, and nacks behind one that raises.
#[pyclass(frozen, module = "ringway")]
pub(crate) struct Delivery {
    source: Arc<Source>,
    leased: Arc<Leased>,
    is_settled: AtomicBool,
    said: Said,
    /// The payload, if it is small.
    bytes: Option<Py<PyBytes>>,
}

impl Delivery {
    /// Takes the message to be settled, once.
    fn take(&self) -> PyResult<&Arc<Leased>> {
        if self.is_settled.swap(true, Ordering::Relaxed) {
            return Err(PyValueError::new_err("this delivery was settled already"));
        }
        Ok(&self.leased)
    }

    fn settle(
        &self,
        py: Python<'_>,
        settle: impl Fn(&mut client::SharedConsumer, &Leased) -> Result<(), SettleError> + Sync,
    ) -> PyResult<()> {
        let leased = self.take()?;
        let settled = self.source.inner.with(py, |competing| settle(&mut competing.consumer, leased));
        if settled.as_ref().is_ok_and(|settled| settled.as_ref().is_err_and(SettleError::is_retryable)) {
            self.is_settled.store(false, Ordering::Relaxed);
        }
        settled?.or_raise(py)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.is_settled.load(Ordering::Relaxed) {
            return;
        }
        // What cannot be said the broker sees when the lease ends; of a consumer that is closed it is given back already.
        let release = |competing: &mut Competing| drop(competing.consumer.release(&self.leased));
        if self.source.inner.if_free(release).is_none() {
            lock(&self.source.dropped).push(Arc::clone(&self.leased));
        }
    }
}

#[pymethods]
impl Delivery {
    /// Settles the message: it is never delivered again.
    fn ack(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, client::SharedConsumer::ack)
    }

    /// Says that handling the message has failed: it is delivered again after `delay` seconds, or the subscription's backoff, or is
    /// dead when it has failed too often.
    #[pyo3(signature = (delay=None))]
    fn nack(&self, py: Python<'_>, delay: Option<f64>) -> PyResult<()> {
        match timeout(delay)? {
            Some(delay) => self.settle(py, |consumer, leased| consumer.nack_after(leased, delay)),
            None => self.settle(py, client::SharedConsumer::nack),
        }
    }

    /// Says that the message shall never be delivered again: it goes to the dead letters.
    fn reject(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, client::SharedConsumer::reject)
    }

    /// Gives the message back untouched, to be delivered again at once.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, client::SharedConsumer::release)
    }

    /// Lets the lease last for `lease` seconds from now on.
    fn extend(&self, py: Python<'_>, lease: f64) -> PyResult<()> {
        if self.is_settled() {
            return Err(PyValueError::new_err("this delivery was settled already"));
        }
        let lease = seconds(lease)?;
        self.source.settle(py, |consumer| consumer.extend(&self.leased, lease))
    }

    /// Whether it was settled.
    #[getter]
    fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Relaxed)
    }

    /// The partition that the message came from.
    #[getter]
    fn partition(&self) -> u32 {
        self.leased.position().partition
    }

    /// Its position in its partition.
    #[getter]
    fn position(&self) -> u64 {
        self.leased.position().position
    }

    /// Which delivery of the message this is: 1 for the first.
    #[getter]
    fn attempt(&self) -> u32 {
        self.leased.attempt()
    }

    /// How many of the deliveries before have failed.
    #[getter]
    fn failed(&self) -> u32 {
        self.leased.failed()
    }

    /// The payload: bytes, or a memoryview of a large one.
    #[getter]
    fn payload<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match &slf.get().bytes {
            Some(bytes) => bytes.bind(slf.py()).clone().into_bound_py_any(slf.py()),
            None => Ok(PyMemoryView::from(slf.as_any())?.into_any()),
        }
    }

    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.said.key(py)
    }

    #[getter]
    fn correlation<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.said.correlation(py)
    }

    #[getter]
    fn reply_to(&self) -> Option<&str> {
        self.said.reply_to()
    }

    #[getter]
    fn timestamp_ns(&self) -> Option<u64> {
        self.said.timestamp_ns()
    }

    #[getter]
    fn sequence(&self) -> Option<u64> {
        self.said.sequence()
    }

    #[getter]
    fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.said.attributes(py)
    }

    fn __len__(&self) -> usize {
        self.leased.payload().len()
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*error))]
    fn __exit__(&self, py: Python<'_>, error: &Bound<'_, PyTuple>) -> PyResult<()> {
        if self.is_settled() {
            return Ok(());
        }
        if error.get_item(0)?.is_none() { self.ack(py) } else { self.nack(py, None) }
    }

    /// Lends the payload for reading.
    ///
    /// # Safety
    ///
    /// `view` can be written, as Python promises.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let payload = slf.get().leased.payload();
        // SAFETY: the copy stays where it is, and as it is, as long as this object is there, and the view keeps it.
        unsafe { lend(slf.as_any(), payload.as_ptr(), payload.len(), true, view, flags) }
    }

    fn __repr__(&self) -> String {
        let (position, attempt) = (self.leased.position(), self.leased.attempt());
        format!("<ringway.Delivery {attempt} of {position}, {} bytes>", self.leased.payload().len())
    }
}
