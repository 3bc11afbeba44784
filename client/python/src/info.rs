//! What streams and subscriptions are, and what they are declared with.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use ringway_client as client;
use ringway_client::{Overflow, Producers, StartAt, StreamSettings, SubscriptionMode, Visibility};

use crate::locked::seconds;

/// A stream as it stands.
#[pyclass(frozen, get_all, module = "ringway")]
pub(crate) struct StreamInfo {
    name: String,
    kind: &'static str,
    partitions: u32,
    slots: u64,
    slot_bytes: u32,
    payload_bytes_max: u32,
    exclusive_producer: bool,
    overflow: &'static str,
    detach_after: Option<f64>,
    durability: &'static str,
    subscriptions: u32,
    producers: u32,
    /// Messages that the subscription that is furthest behind in a partition is behind.
    lag_max: u64,
}

#[pymethods]
impl StreamInfo {
    fn __repr__(&self) -> String {
        format!("<ringway.StreamInfo {}: {}, {} partitions>", self.name, self.kind, self.partitions)
    }
}

impl From<client::StreamInfo> for StreamInfo {
    fn from(info: client::StreamInfo) -> Self {
        let StreamSettings { kind, partitions, slots, slot_bytes, payload_bytes_max, .. } = info.settings;
        let (overflow, detach_after) = match info.settings.overflow {
            Overflow::Block => ("block", None),
            Overflow::Reject => ("reject", None),
            Overflow::DropOldest => ("drop-oldest", None),
            Overflow::Detach { after_ms } => ("detach", Some(f64::from(after_ms) / 1e3)),
        };
        Self {
            kind: kind.name(),
            partitions,
            slots,
            slot_bytes,
            payload_bytes_max,
            exclusive_producer: info.settings.producers == Producers::Exclusive,
            overflow,
            detach_after,
            durability: info.settings.durability.name(),
            subscriptions: info.subscriptions,
            producers: info.producers(),
            lag_max: info.slowest().map_or(0, |lag| lag.messages),
            name: info.name,
        }
    }
}

/// A subscription as it stands, in all partitions.
#[pyclass(frozen, get_all, module = "ringway")]
pub(crate) struct SubscriptionInfo {
    stream: String,
    name: String,
    mode: &'static str,
    visibility: &'static str,
    lag: u64,
    is_detached: bool,
    consumers: u32,
    ready: u64,
    leased: u64,
    delayed: u64,
    dead: u64,
    dead_total: u64,
}

#[pymethods]
impl SubscriptionInfo {
    fn __repr__(&self) -> String {
        format!("<ringway.SubscriptionInfo {} of {}: {} behind>", self.name, self.stream, self.lag)
    }
}

impl From<client::SubscriptionInfo> for SubscriptionInfo {
    fn from(info: client::SubscriptionInfo) -> Self {
        let shared = info.shared();
        let is_cursor = matches!(info.mode, SubscriptionMode::Cursor(_));
        let held = info.partitions.iter().filter(|cursor| cursor.consumer_pid.is_some()).count() as u32;
        Self {
            mode: if is_cursor { "cursor" } else { "shared" },
            visibility: info.mode.visibility().name(),
            lag: info.lag(),
            is_detached: info.is_detached(),
            consumers: if is_cursor { held.min(1) } else { shared.consumers },
            ready: shared.ready,
            leased: shared.leased,
            delayed: shared.delayed,
            dead: shared.dead,
            dead_total: shared.dead_total,
            stream: info.stream,
            name: info.name,
        }
    }
}

/// What happens when a ring is full; `detach_after` in seconds.
pub(crate) fn overflow(word: &str, detach_after: Option<f64>) -> PyResult<Overflow> {
    match (word, detach_after) {
        ("block", None) => Ok(Overflow::Block),
        ("reject", None) => Ok(Overflow::Reject),
        ("drop-oldest", None) => Ok(Overflow::DropOldest),
        ("detach", Some(after)) => Ok(Overflow::Detach { after_ms: millis(after)? }),
        ("detach", None) => Err(PyValueError::new_err("overflow detach needs detach_after, in seconds")),
        (word, None) => Err(PyValueError::new_err(format!(
            "overflow is block, reject, drop-oldest or detach, not {word}"
        ))),
        (word, Some(_)) => Err(PyValueError::new_err(format!("overflow {word} does not detach"))),
    }
}

/// Where a subscription starts.
pub(crate) fn start(word: &str) -> PyResult<StartAt> {
    match word {
        "first" => Ok(StartAt::First),
        "next" => Ok(StartAt::Next),
        other => Err(PyValueError::new_err(format!("a subscription starts at first or next, not {other}"))),
    }
}

/// Which messages a subscription delivers.
pub(crate) fn visibility(word: &str) -> PyResult<Visibility> {
    match word {
        "committed" => Ok(Visibility::Committed),
        "durable" => Ok(Visibility::Durable),
        other => Err(PyValueError::new_err(format!("visibility is committed or durable, not {other}"))),
    }
}

/// Whole milliseconds, rounded up.
pub(crate) fn millis(time: f64) -> PyResult<u32> {
    let millis = seconds(time)?.as_nanos().div_ceil(1_000_000);
    u32::try_from(millis).map_err(|_| PyValueError::new_err(format!("{time} seconds are too many")))
}
