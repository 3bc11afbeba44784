//! The connection to the broker: administration, and the way to producers and consumers.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use ringway_client as client;
use ringway_client::{
    Backoff, CursorSettings, Producers, SharedSettings, StreamChanges, StreamKind, StreamSettings,
    SubscriptionChanges, SubscriptionMode, WaitStrategy, directory,
};

use crate::consumer::Consumer;
use crate::delivery::SharedConsumer;
use crate::errors::OrRaise;
use crate::info::{StreamInfo, SubscriptionInfo, millis, overflow, start, visibility};
use crate::locked::{seconds, timeout};
use crate::outgoing::durability;
use crate::producer::Producer;

/// A session with the broker. It ends when it is closed and the last producer and consumer opened through it are.
#[pyclass(frozen, module = "ringway")]
pub(crate) struct Connection {
    /// Held for as long as a clone takes: requests of several threads do not wait for it.
    inner: Mutex<Option<client::Connection>>,
}

impl Connection {
    fn get(&self) -> PyResult<client::Connection> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clone().ok_or_else(|| PyValueError::new_err("this connection is closed"))
    }

    fn ask<T: Send, E: crate::errors::Raise + Send>(
        &self,
        py: Python<'_>,
        ask: impl FnOnce(client::Connection) -> Result<T, E> + Send,
    ) -> PyResult<T> {
        let connection = self.get()?;
        py.detach(|| ask(connection)).or_raise(py)
    }
}

fn wait_strategy(spin: Option<f64>) -> PyResult<WaitStrategy> {
    spin.map_or(Ok(WaitStrategy::default()), |spin| Ok(WaitStrategy::Adaptive { spin: seconds(spin)? }))
}

#[pymethods]
#[allow(clippy::too_many_arguments, reason = "they have names in Python")]
impl Connection {
    #[new]
    #[pyo3(signature = (directory=None, *, reconnect_within=None))]
    fn new(py: Python<'_>, directory: Option<PathBuf>, reconnect_within: Option<f64>) -> PyResult<Self> {
        let mut builder = client::Connection::builder(directory.unwrap_or_else(directory::default_directory));
        if let Some(within) = timeout(reconnect_within)? {
            builder = builder.reconnect_within(within);
        }
        let inner = py.detach(|| builder.open()).or_raise(py)?;
        Ok(Self { inner: Mutex::new(Some(inner)) })
    }

    #[getter]
    fn directory(&self) -> PyResult<PathBuf> {
        Ok(self.get()?.directory().to_owned())
    }

    #[getter]
    fn broker_pid(&self) -> PyResult<u32> {
        Ok(self.get()?.broker_pid())
    }

    #[getter]
    fn is_open(&self) -> bool {
        self.get().is_ok_and(|connection| connection.is_open())
    }

    #[pyo3(signature = (name, *, partitions=1, slots=StreamSettings::DEFAULT.slots, slot_bytes=StreamSettings::DEFAULT.slot_bytes,
        payload_bytes_max=StreamSettings::DEFAULT.payload_bytes_max, exclusive_producer=false, overflow="block", detach_after=None,
        durability="memory"))]
    fn declare_stream(
        &self,
        py: Python<'_>,
        name: &str,
        partitions: u32,
        slots: u64,
        slot_bytes: u32,
        payload_bytes_max: u32,
        exclusive_producer: bool,
        overflow: &str,
        detach_after: Option<f64>,
        durability: &str,
    ) -> PyResult<StreamInfo> {
        let producers = if exclusive_producer { Producers::Exclusive } else { Producers::Shared };
        let overflow = self::overflow(overflow, detach_after)?;
        let durability = self::durability(durability)?;
        let kind = StreamKind::Topic;
        let settings = StreamSettings {
            kind,
            partitions,
            slots,
            slot_bytes,
            payload_bytes_max,
            producers,
            overflow,
            durability,
        };
        self.ask(py, |connection| connection.declare_stream(name, settings)).map(Into::into)
    }

    #[pyo3(signature = (name, *, partitions=1, slots=StreamSettings::DEFAULT.slots, slot_bytes=StreamSettings::DEFAULT.slot_bytes,
        payload_bytes_max=StreamSettings::DEFAULT.payload_bytes_max, overflow="block", durability="memory", lease=30.0,
        attempts_max=20, backoff=0.0, backoff_multiplier=2.0, backoff_max=600.0, backoff_jitter=0.0, dead_letter=None,
        single_active=false, visibility="committed"))]
    fn declare_queue(
        &self,
        py: Python<'_>,
        name: &str,
        partitions: u32,
        slots: u64,
        slot_bytes: u32,
        payload_bytes_max: u32,
        overflow: &str,
        durability: &str,
        lease: f64,
        attempts_max: u32,
        backoff: f64,
        backoff_multiplier: f64,
        backoff_max: f64,
        backoff_jitter: f64,
        dead_letter: Option<String>,
        single_active: bool,
        visibility: &str,
    ) -> PyResult<StreamInfo> {
        let settings = StreamSettings {
            partitions,
            slots,
            slot_bytes,
            payload_bytes_max,
            overflow: self::overflow(overflow, None)?,
            durability: self::durability(durability)?,
            ..StreamSettings::DEFAULT
        };
        let backoff = self::backoff(backoff, backoff_multiplier, backoff_max, backoff_jitter)?;
        let (lease_ms, visibility) = (millis(lease)?, self::visibility(visibility)?);
        let shared =
            SharedSettings { lease_ms, attempts_max, backoff, dead_letter, single_active, visibility };
        self.ask(py, |connection| connection.declare_queue(name, settings, shared)).map(Into::into)
    }

    #[pyo3(signature = (stream, name, *, start="next", visibility="committed"))]
    fn declare_subscription(
        &self,
        py: Python<'_>,
        stream: &str,
        name: &str,
        start: &str,
        visibility: &str,
    ) -> PyResult<SubscriptionInfo> {
        let (start, visibility) = (self::start(start)?, self::visibility(visibility)?);
        let mode = SubscriptionMode::Cursor(CursorSettings { visibility });
        self.ask(py, |connection| connection.declare_subscription_as(stream, name, start, mode))
            .map(Into::into)
    }

    #[pyo3(signature = (stream, name, *, start="next", lease=30.0, attempts_max=20, backoff=0.0, backoff_multiplier=2.0,
        backoff_max=600.0, backoff_jitter=0.0, dead_letter=None, single_active=false, visibility="committed"))]
    fn declare_shared_subscription(
        &self,
        py: Python<'_>,
        stream: &str,
        name: &str,
        start: &str,
        lease: f64,
        attempts_max: u32,
        backoff: f64,
        backoff_multiplier: f64,
        backoff_max: f64,
        backoff_jitter: f64,
        dead_letter: Option<String>,
        single_active: bool,
        visibility: &str,
    ) -> PyResult<SubscriptionInfo> {
        let (start, visibility) = (self::start(start)?, self::visibility(visibility)?);
        let backoff = self::backoff(backoff, backoff_multiplier, backoff_max, backoff_jitter)?;
        let lease_ms = millis(lease)?;
        let settings =
            SharedSettings { lease_ms, attempts_max, backoff, dead_letter, single_active, visibility };
        let declared =
            self.ask(py, |connection| connection.declare_shared_subscription(stream, name, start, settings));
        declared.map(Into::into)
    }

    fn stream(&self, py: Python<'_>, name: &str) -> PyResult<StreamInfo> {
        self.ask(py, |connection| connection.stream(name)).map(Into::into)
    }

    fn streams(&self, py: Python<'_>) -> PyResult<Vec<StreamInfo>> {
        let streams = self.ask(py, |connection| connection.streams())?;
        Ok(streams.into_iter().map(Into::into).collect())
    }

    #[pyo3(signature = (name, *, payload_bytes_max=None, overflow=None, detach_after=None))]
    fn alter_stream(
        &self,
        py: Python<'_>,
        name: &str,
        payload_bytes_max: Option<u32>,
        overflow: Option<&str>,
        detach_after: Option<f64>,
    ) -> PyResult<StreamInfo> {
        let changes = stream_changes(payload_bytes_max, overflow, detach_after)?;
        self.ask(py, |connection| connection.alter_stream(name, changes)).map(Into::into)
    }

    #[pyo3(signature = (name, *, payload_bytes_max=None, overflow=None, lease=None, attempts_max=None, backoff=None,
        backoff_multiplier=None, backoff_max=None, backoff_jitter=None, dead_letter=DeadLetter::Same, single_active=None))]
    fn alter_queue(
        &self,
        py: Python<'_>,
        name: &str,
        payload_bytes_max: Option<u32>,
        overflow: Option<&str>,
        lease: Option<f64>,
        attempts_max: Option<u32>,
        backoff: Option<f64>,
        backoff_multiplier: Option<f64>,
        backoff_max: Option<f64>,
        backoff_jitter: Option<f64>,
        dead_letter: DeadLetter,
        single_active: Option<bool>,
    ) -> PyResult<StreamInfo> {
        let changes = stream_changes(payload_bytes_max, overflow, None)?;
        let backoff = (backoff, backoff_multiplier, backoff_max, backoff_jitter);
        let shared = subscription_changes(lease, attempts_max, backoff, dead_letter, single_active)?;
        self.ask(py, |connection| connection.alter_queue(name, changes, shared)).map(Into::into)
    }

    #[pyo3(signature = (stream, name, *, lease=None, attempts_max=None, backoff=None, backoff_multiplier=None, backoff_max=None,
        backoff_jitter=None, dead_letter=DeadLetter::Same, single_active=None))]
    fn alter_subscription(
        &self,
        py: Python<'_>,
        stream: &str,
        name: &str,
        lease: Option<f64>,
        attempts_max: Option<u32>,
        backoff: Option<f64>,
        backoff_multiplier: Option<f64>,
        backoff_max: Option<f64>,
        backoff_jitter: Option<f64>,
        dead_letter: DeadLetter,
        single_active: Option<bool>,
    ) -> PyResult<SubscriptionInfo> {
        let backoff = (backoff, backoff_multiplier, backoff_max, backoff_jitter);
        let changes = subscription_changes(lease, attempts_max, backoff, dead_letter, single_active)?;
        self.ask(py, |connection| connection.alter_subscription(stream, name, changes)).map(Into::into)
    }

    fn purge_stream(&self, py: Python<'_>, name: &str) -> PyResult<u64> {
        self.ask(py, |connection| connection.purge_stream(name))
    }

    fn purge_subscription(&self, py: Python<'_>, stream: &str, name: &str) -> PyResult<u64> {
        self.ask(py, |connection| connection.purge_subscription(stream, name))
    }

    fn delete_stream(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.ask(py, |connection| connection.delete_stream(name))
    }

    fn subscription(&self, py: Python<'_>, stream: &str, name: &str) -> PyResult<SubscriptionInfo> {
        self.ask(py, |connection| connection.subscription(stream, name)).map(Into::into)
    }

    fn subscriptions(&self, py: Python<'_>, stream: &str) -> PyResult<Vec<SubscriptionInfo>> {
        let subscriptions = self.ask(py, |connection| connection.subscriptions(stream))?;
        Ok(subscriptions.into_iter().map(Into::into).collect())
    }

    fn delete_subscription(&self, py: Python<'_>, stream: &str, name: &str) -> PyResult<()> {
        self.ask(py, |connection| connection.delete_subscription(stream, name))
    }

    #[pyo3(signature = (timeout=10.0))]
    fn stop_broker(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = seconds(timeout)?;
        self.ask(py, |connection| connection.stop_broker(timeout))
    }

    #[pyo3(signature = (stream, *, name=None, timestamps=false, spin=None))]
    fn producer(
        &self,
        py: Python<'_>,
        stream: &str,
        name: Option<&str>,
        timestamps: bool,
        spin: Option<f64>,
    ) -> PyResult<Producer> {
        let wait = wait_strategy(spin)?;
        let opened = self.ask(py, |connection| {
            let builder = connection.producer(stream).timestamps(timestamps).wait(wait);
            name.into_iter().fold(builder, client::ProducerBuilder::name).open()
        });
        opened.map(Producer::new)
    }

    #[pyo3(signature = (stream, subscription, *, partitions=None, courtesy=true, in_place=true, spin=None))]
    fn consumer(
        &self,
        py: Python<'_>,
        stream: &str,
        subscription: &str,
        partitions: Option<Vec<u32>>,
        courtesy: bool,
        in_place: bool,
        spin: Option<f64>,
    ) -> PyResult<Consumer> {
        let wait = wait_strategy(spin)?;
        let opened = self.ask(py, |connection| {
            let builder = connection.consumer(stream, subscription).courtesy(courtesy).wait(wait);
            partitions.into_iter().fold(builder, client::ConsumerBuilder::partitions).open()
        });
        opened.map(|consumer| Consumer::new(consumer, in_place))
    }

    #[pyo3(signature = (stream, subscription, *, partitions=None, prefetch=1, spin=None))]
    fn shared_consumer(
        &self,
        py: Python<'_>,
        stream: &str,
        subscription: &str,
        partitions: Option<Vec<u32>>,
        prefetch: usize,
        spin: Option<f64>,
    ) -> PyResult<SharedConsumer> {
        let wait = wait_strategy(spin)?;
        let opened = self.ask(py, |connection| {
            let builder = connection.shared_consumer(stream, subscription).prefetch(prefetch).wait(wait);
            partitions.into_iter().fold(builder, client::SharedConsumerBuilder::partitions).open()
        });
        opened.map(SharedConsumer::new)
    }

    #[pyo3(signature = (queue, *, partitions=None, prefetch=1, spin=None))]
    fn queue_consumer(
        &self,
        py: Python<'_>,
        queue: &str,
        partitions: Option<Vec<u32>>,
        prefetch: usize,
        spin: Option<f64>,
    ) -> PyResult<SharedConsumer> {
        self.shared_consumer(py, queue, queue, partitions, prefetch, spin)
    }

    fn close(&self, py: Python<'_>) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(inner));
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        match self.get() {
            Ok(connection) => format!("<ringway.Connection to {}>", connection.directory().display()),
            Err(_) => "<ringway.Connection, closed>".to_owned(),
        }
    }
}

/// How long a message waits after it has failed: times in seconds, the multiplier and the jitter as factors.
fn backoff(initial: f64, multiplier: f64, max: f64, jitter: f64) -> PyResult<Backoff> {
    Ok(Backoff {
        initial_ms: millis(initial)?,
        multiplier_percent: percent("backoff_multiplier", multiplier)?,
        max_ms: millis(max)?,
        jitter_percent: percent("backoff_jitter", jitter)?,
    })
}

fn percent(what: &str, factor: f64) -> PyResult<u32> {
    let percent = (factor * 100.0).round();
    if (0.0..=f64::from(u32::MAX)).contains(&percent) {
        return Ok(percent as u32);
    }
    Err(PyValueError::new_err(format!("{what} cannot be {factor}")))
}

/// Where dead messages go from now on: `...` for where they go, `None` for nowhere.
enum DeadLetter {
    Same,
    To(Option<String>),
}

impl<'py> FromPyObject<'_, 'py> for DeadLetter {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is(object.py().Ellipsis()) { Ok(Self::Same) } else { Ok(Self::To(object.extract()?)) }
    }
}

fn stream_changes(
    payload_bytes_max: Option<u32>,
    overflow: Option<&str>,
    detach_after: Option<f64>,
) -> PyResult<StreamChanges> {
    if overflow.is_none() && detach_after.is_some() {
        return Err(PyValueError::new_err("detach_after is altered with overflow=\"detach\""));
    }
    let overflow = overflow.map(|word| self::overflow(word, detach_after)).transpose()?;
    Ok(StreamChanges { payload_bytes_max, overflow, ..StreamChanges::default() })
}

/// The backoff: initial, multiplier, maximum, jitter.
fn subscription_changes(
    lease: Option<f64>,
    attempts_max: Option<u32>,
    (initial, multiplier, max, jitter): (Option<f64>, Option<f64>, Option<f64>, Option<f64>),
    dead_letter: DeadLetter,
    single_active: Option<bool>,
) -> PyResult<SubscriptionChanges> {
    let percent = |what, factor: Option<f64>| factor.map(|factor| percent(what, factor)).transpose();
    Ok(SubscriptionChanges {
        lease_ms: lease.map(millis).transpose()?,
        attempts_max,
        backoff_initial_ms: initial.map(millis).transpose()?,
        backoff_multiplier_percent: percent("backoff_multiplier", multiplier)?,
        backoff_max_ms: max.map(millis).transpose()?,
        backoff_jitter_percent: percent("backoff_jitter", jitter)?,
        dead_letter: match dead_letter {
            DeadLetter::Same => None,
            DeadLetter::To(to) => Some(to),
        },
        single_active,
        visibility: None,
    })
}
