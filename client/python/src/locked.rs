//! Handles that any thread of Python may use: one at a time does, the others wait without the interpreter lock.
//!
//! See invariant 2 of the crate. A handle that was closed is none any more.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// How long a wait goes on before it looks for signals.
pub(crate) const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// See the module.
pub(crate) struct Locked<T> {
    name: &'static str,
    inner: Mutex<Option<T>>,
}

impl<T: Send> Locked<T> {
    /// `name`: what it is called in errors.
    pub(crate) fn new(name: &'static str, inner: T) -> Self {
        Self { name, inner: Mutex::new(Some(inner)) }
    }

    /// A step that takes no time, with the interpreter lock; `None`: another thread has the handle.
    #[inline]
    pub(crate) fn quickly<R>(&self, step: impl FnOnce(&mut T) -> R) -> PyResult<Option<R>> {
        match self.inner.try_lock() {
            Ok(mut inner) => inner.as_mut().map(|inner| Some(step(inner))).ok_or_else(|| self.closed()),
            Err(TryLockError::Poisoned(inner)) => {
                inner.into_inner().as_mut().map(|inner| Some(step(inner))).ok_or_else(|| self.closed())
            }
            Err(TryLockError::WouldBlock) => Ok(None),
        }
    }

    /// A step that may take its time, without the interpreter lock.
    pub(crate) fn without_python<R: Send>(
        &self,
        py: Python<'_>,
        step: impl FnOnce(&mut T) -> R + Send,
    ) -> PyResult<R> {
        py.detach(|| self.lock().as_mut().map(step)).ok_or_else(|| self.closed())
    }

    /// A step with the interpreter lock if the handle is free, else without.
    #[inline]
    pub(crate) fn with<R: Send>(
        &self,
        py: Python<'_>,
        mut step: impl FnMut(&mut T) -> R + Send,
    ) -> PyResult<R> {
        match self.quickly(&mut step)? {
            Some(done) => Ok(done),
            None => self.without_python(py, step),
        }
    }

    /// Waits, with steps that each may take as long as they are told, until one has something, or `timeout` is over.
    pub(crate) fn wait<R: Send, E: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        mut step: impl FnMut(&mut T, Duration) -> Result<Option<R>, E> + Send,
    ) -> PyResult<Result<Option<R>, E>> {
        let started = Instant::now();
        loop {
            let left = timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
            let slice = left.unwrap_or(SIGNALS_EVERY).min(SIGNALS_EVERY);
            let found = self.without_python(py, |inner| step(inner, slice))?;
            if !matches!(found, Ok(None)) {
                return Ok(found);
            }
            py.check_signals()?;
            if left.is_some_and(|left| left <= slice) {
                return Ok(found);
            }
        }
    }

    /// A step that is no trouble if it cannot be done now: `None` then.
    pub(crate) fn if_free<R>(&self, step: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.inner.try_lock().ok()?.as_mut().map(step)
    }

    /// Takes the handle out, to close it; `None`: it was closed already.
    pub(crate) fn take(&self, py: Python<'_>) -> Option<T> {
        py.detach(|| self.lock().take())
    }

    /// Without the interpreter lock.
    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn closed(&self) -> PyErr {
        PyValueError::new_err(format!("this {} is closed", self.name))
    }
}

/// Seconds, as Python has them.
pub(crate) fn seconds(seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!("{seconds} seconds cannot be waited")));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Seconds to wait; `None`: for ever.
pub(crate) fn timeout(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    timeout.map(seconds).transpose()
}
