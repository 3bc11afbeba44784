//! Sending: messages, batches, loans; waiting for confirms.

use std::ffi::c_int;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use ringway_client as client;
use ringway_client::{ConfirmError, Overflow, SendBatchError, SendError};

use crate::errors::OrRaise;
use crate::locked::{Locked, SIGNALS_EVERY, timeout};
use crate::message::{Position, lend};
use crate::outgoing::{Argument, Outgoing};

/// A producer of a stream.
#[pyclass(frozen, module = "ringway")]
pub(crate) struct Producer {
    inner: Locked<client::Producer>,
    stream: String,
    inline_bytes_max: usize,
    payload_bytes_max: usize,
    /// On a full stream it does not wait.
    rejects: bool,
}

impl Producer {
    pub(crate) fn new(inner: client::Producer) -> Self {
        let (stream, rejects) = (inner.stream().to_owned(), inner.settings().overflow == Overflow::Reject);
        let (inline_bytes_max, payload_bytes_max) = (inner.inline_bytes_max(), inner.payload_bytes_max());
        let inner = Locked::new("producer", inner);
        Self { inner, stream, inline_bytes_max, payload_bytes_max, rejects }
    }

    /// The full stream is worth waiting for.
    fn may_wait(&self, error: &SendError) -> bool {
        !self.rejects
            && matches!(error, SendError::Full { .. } | SendError::Stalled { .. } | SendError::NoBlock { .. })
    }

    /// Sends what could not be sent at once.
    #[cold]
    fn send_waiting(
        &self,
        py: Python<'_>,
        argument: Argument<'_>,
        key: Option<&[u8]>,
        patience: Option<Duration>,
    ) -> PyResult<Position> {
        let argument = argument.pinned();
        let message = argument.message(key);
        let mut last = None;
        let sent =
            self.inner.wait(py, patience, |producer, slice| match producer.send_timeout(message, slice) {
                Ok(position) => Ok(Some(position)),
                Err(error) if self.may_wait(&error) => {
                    last = Some(error);
                    Ok(None)
                }
                Err(error) => Err(error),
            })?;
        match (sent, last) {
            (Ok(Some(position)), _) => Ok(position.into()),
            (Err(error), _) | (Ok(None), Some(error)) => Err(error).or_raise(py),
            (Ok(None), None) => Err(PyValueError::new_err("there was no time to send")),
        }
    }
}

#[pymethods]
impl Producer {
    /// Publishes one message and returns its position; waits while its partition is full, for `timeout` seconds at the most.
    #[pyo3(signature = (message, timeout=None, *, key=None))]
    #[inline]
    fn send(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        key: Option<&[u8]>,
    ) -> PyResult<Position> {
        let argument = Argument::of(message)?;
        let patience = crate::locked::timeout(timeout)?;
        // Without letting go of the interpreter: most often there is room.
        match self.inner.quickly(|producer| producer.try_send(argument.message(key)))? {
            Some(Ok(position)) => Ok(position.into()),
            Some(Err(error)) if patience == Some(Duration::ZERO) || !self.may_wait(&error) => {
                Err(error).or_raise(py)
            }
            _ => self.send_waiting(py, argument, key, patience),
        }
    }

    /// Publishes one message, or says at once that its partition is full.
    #[pyo3(signature = (message, *, key=None))]
    fn try_send(&self, py: Python<'_>, message: &Bound<'_, PyAny>, key: Option<&[u8]>) -> PyResult<Position> {
        self.send(py, message, Some(0.0), key)
    }

    /// Publishes messages in order, without the interpreter lock, and returns the position of the last.
    #[pyo3(signature = (messages, timeout=None))]
    fn send_many(
        &self,
        py: Python<'_>,
        messages: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Position>> {
        let patience = crate::locked::timeout(timeout)?;
        let mut arguments = Vec::with_capacity(messages.len().unwrap_or(0));
        for message in messages.try_iter()? {
            arguments.push(Argument::of(&message?)?.pinned());
        }
        let outgoing: Vec<_> = arguments.iter().map(|argument| argument.message(None)).collect();
        let (mut sent, mut last) = (0, None);
        let mut progress = Instant::now();
        loop {
            // Until all are sent, or the stream is full for so long that signals are to be looked for.
            let step = self.inner.without_python(py, |producer| {
                while let Some(message) = outgoing.get(sent) {
                    last = Some(producer.send_timeout(*message, SIGNALS_EVERY)?);
                    sent += 1;
                    progress = Instant::now();
                }
                Ok(())
            })?;
            let Err(source) = step else { return Ok(last.map(Into::into)) };
            py.check_signals()?;
            let is_over = patience.is_some_and(|patience| progress.elapsed() >= patience);
            if is_over || !self.may_wait(&source) {
                return Err(SendBatchError { sent, source }).or_raise(py);
            }
        }
    }

    /// Memory for a payload of `size` bytes, to be written where its readers will read it.
    #[pyo3(signature = (size, *, key=None))]
    fn loan(&self, py: Python<'_>, size: usize, key: Option<&[u8]>) -> PyResult<Loan> {
        let take = |producer: &mut client::Producer| match key {
            Some(key) => producer.loan_for_key(key, size),
            None => producer.loan(size),
        };
        let loan = self.inner.without_python(py, take)?.or_raise(py)?;
        Ok(Loan { loan: Mutex::new(Some(loan)), views: AtomicUsize::new(0) })
    }

    /// Publishes a loan of this producer. `attributes`: a message whose payload does not count.
    #[pyo3(signature = (loan, *, key=None, attributes=None))]
    fn send_loan(
        &self,
        py: Python<'_>,
        loan: &Bound<'_, Loan>,
        key: Option<&[u8]>,
        attributes: Option<&Bound<'_, Outgoing>>,
    ) -> PyResult<Position> {
        let mut said = attributes.map_or_else(client::Attributes::new, |message| message.get().described());
        if let Some(key) = key {
            said = said.key(key);
        }
        let place = loan.get();
        let taken = place.take()?;
        match self.inner.without_python(py, |producer| producer.send_loan_with(taken, said))? {
            Ok(position) => Ok(position.into()),
            Err(error) => {
                let client::SendLoanError { loan, source } = error;
                *place.lock() = Some(*loan);
                Err(source).or_raise(py)
            }
        }
    }

    /// Waits until the message at `position`, and everything before it in its partition, is confirmed; without a position,
    /// everything sent so far. Returns the durability reached.
    #[pyo3(signature = (position=None, timeout=None))]
    fn confirm(
        &self,
        py: Python<'_>,
        position: Option<PyRef<'_, Position>>,
        timeout: Option<f64>,
    ) -> PyResult<&'static str> {
        let position = position.map(|position| client::Position::from(*position));
        let patience = self::timeout(timeout)?;
        let mut last = None;
        let confirmed = self.inner.wait(py, patience, |producer, slice| {
            let reached = match position {
                Some(position) => producer.confirm_timeout(position, slice),
                None => producer.confirm_all_timeout(slice),
            };
            match reached {
                Ok(level) => Ok(Some(level)),
                Err(error @ ConfirmError::Timeout { .. }) => {
                    last = Some(error);
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        })?;
        match (confirmed, last) {
            (Ok(Some(level)), _) => Ok(level.name()),
            (Err(error), _) | (Ok(None), Some(error)) => Err(error).or_raise(py),
            (Ok(None), None) => Err(PyValueError::new_err("there was no time to look")),
        }
    }

    /// The same for everything sent so far.
    #[pyo3(signature = (timeout=None))]
    fn confirm_all(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<&'static str> {
        self.confirm(py, None, timeout)
    }

    /// To be awaited: the durability reached, when the message at `position`, or everything sent so far, is confirmed.
    #[pyo3(signature = (position=None))]
    fn confirmed<'py>(
        &self,
        py: Python<'py>,
        position: Option<PyRef<'_, Position>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let position = position.map(|position| client::Position::from(*position));
        let begin = |producer: &mut client::Producer| match position {
            Some(position) => producer.confirmation(position),
            None => producer.confirmation_of_all(),
        };
        let confirmation = self.inner.with(py, begin)?.or_raise(py)?;
        py.import("ringway._asyncio")?.call_method1("confirmed", (Confirmation(Mutex::new(confirmation)),))
    }

    /// Whether the message at `position` is confirmed.
    fn is_confirmed(&self, py: Python<'_>, position: PyRef<'_, Position>) -> PyResult<bool> {
        let position = client::Position::from(*position);
        self.inner.with(py, |producer| producer.is_confirmed(position))
    }

    /// For each partition the position that its next message gets.
    fn positions(&self, py: Python<'_>) -> PyResult<Vec<Position>> {
        let positions = self.inner.with(py, |producer| producer.positions())?;
        Ok(positions.into_iter().map(Into::into).collect())
    }

    /// For each partition the last message of this producer's name, as (sequence, position), or None.
    fn sent(&self, py: Python<'_>) -> PyResult<Vec<Option<(u64, u64)>>> {
        let sent = self.inner.with(py, |producer| producer.sent())?;
        Ok(sent.into_iter().map(|sent| sent.map(|sent| (sent.sequence, sent.position))).collect())
    }

    /// Which message the next one is, if it says nothing else; None without a name.
    #[getter]
    fn next_sequence(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        self.inner.with(py, |producer| producer.next_sequence())
    }

    /// The stream's name.
    #[getter]
    fn stream(&self) -> &str {
        &self.stream
    }

    /// Most bytes of a payload that fits a slot.
    #[getter]
    fn inline_bytes_max(&self) -> usize {
        self.inline_bytes_max
    }

    /// Most bytes of a payload.
    #[getter]
    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// Gives the stream back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner.take(py);
        py.detach(|| inner.map_or(Ok(()), client::Producer::close)).or_raise(py)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<ringway.Producer of {}>", self.stream)
    }
}

/// Memory for one payload, to be written by `memoryview(loan)`. Left over from earlier payloads until it is written.
#[pyclass(frozen, module = "ringway")]
pub(crate) struct Loan {
    /// `None`: it was sent, or given back.
    loan: Mutex<Option<client::Loan>>,
    /// How many views there are: as long as there is one, Python may write.
    views: AtomicUsize,
}

impl Loan {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<client::Loan>> {
        // Held for a moment, and never while the interpreter lock is waited for.
        self.loan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it out, when nobody can write to it any more.
    fn take(&self) -> PyResult<client::Loan> {
        let mut loan = self.lock();
        // Behind the lock: a view is counted with it.
        if self.views.load(Ordering::Relaxed) > 0 {
            return Err(PyBufferError::new_err("there are views of this loan: release them first"));
        }
        loan.take().ok_or_else(over)
    }
}

fn over() -> PyErr {
    PyValueError::new_err("this loan was sent, or given back")
}

#[pymethods]
impl Loan {
    /// Keeps the first `size` bytes only.
    fn truncate(&self, size: usize) -> PyResult<()> {
        let mut loan = self.take()?;
        let bytes = loan.len();
        if size <= bytes {
            loan.truncate(size);
        }
        *self.lock() = Some(loan);
        if size <= bytes {
            return Ok(());
        }
        Err(PyValueError::new_err(format!("a loan of {bytes} bytes cannot be cut to {size}")))
    }

    /// Gives it back, if it was not sent.
    fn close(&self) -> PyResult<()> {
        if self.lock().is_some() {
            drop(self.take()?);
        }
        Ok(())
    }

    fn __len__(&self) -> PyResult<usize> {
        self.lock().as_ref().map(|loan| loan.len()).ok_or_else(over)
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close()
    }

    /// Lends the memory for writing.
    ///
    /// # Safety
    ///
    /// `view` can be written, as Python promises.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let mut loan = this.lock();
        let loan = loan.as_mut().ok_or_else(over)?;
        let (first, bytes) = (loan.as_mut_ptr(), loan.len());
        // SAFETY: the bytes stay where they are as long as the loan does, which this object has as long as there is a view;
        // nobody else looks at them before it is sent.
        unsafe { lend(slf.as_any(), first, bytes, false, view, flags)? };
        this.views.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// # Safety
    ///
    /// `_view` was filled by `__getbuffer__`, as Python promises.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.views.fetch_sub(1, Ordering::Relaxed);
    }

    fn __repr__(&self) -> String {
        match &*self.lock() {
            Some(loan) => format!("<ringway.Loan of {} bytes>", loan.len()),
            None => "<ringway.Loan, over>".to_owned(),
        }
    }
}

/// What `Producer.confirmed` waits for: see `_asyncio.py`.
#[pyclass(frozen, module = "ringway")]
pub(crate) struct Confirmation(Mutex<client::Confirmation>);

#[pymethods]
impl Confirmation {
    /// The durability reached; None: not yet, and `wake` is called, by another thread, when it is worth looking again.
    fn poll(&self, py: Python<'_>, wake: Py<PyAny>) -> PyResult<Option<&'static str>> {
        let waker = Waker::from(Arc::new(Call(wake)));
        let polled = py.detach(|| {
            let mut confirmation = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Pin::new(&mut *confirmation).poll(&mut Context::from_waker(&waker))
        });
        match polled {
            Poll::Ready(reached) => reached.map(|level| Some(level.name())).or_raise(py),
            Poll::Pending => Ok(None),
        }
    }
}

/// A waker that calls something of Python's.
struct Call(Py<PyAny>);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        // Not when Python is ending. A loop that is closed needs no waking: its error is nobody's.
        Python::try_attach(|py| self.0.call0(py).map(drop).ok());
    }
}
