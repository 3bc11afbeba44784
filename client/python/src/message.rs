//! What a consumer returns, as an object of Python's that lives as long as Python likes.
//!
//! 1. A payload that fitted its slot is `bytes`: one copy, made by Python. One that did not stays where its producer wrote it,
//!    held, and Python reads it there by the buffer protocol: no copy at all. It is given back with the last object that refers
//!    to it.
//! 2. That is sound because Rust never has a reference to such bytes, and because a producer does not write to what it has
//!    published. One that breaks the protocol may change what Python sees; who does not trust it has a consumer with
//!    `in_place=False`, which copies.
//! 3. A consumer holds 64 messages in place; of more the payloads are copied.

use std::ffi::c_int;
use std::os::raw::c_void;

use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView};
use pyo3::{IntoPyObjectExt, ffi};
use ringway_client as client;
use ringway_client::{ArenaView, AttributesView, HeldMessage};

use crate::outgoing::value;

/// Where a message is in its stream.
#[pyclass(frozen, eq, ord, hash, get_all, module = "ringway")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    partition: u32,
    position: u64,
}

impl From<client::Position> for Position {
    #[inline]
    fn from(client::Position { partition, position }: client::Position) -> Self {
        Self { partition, position }
    }
}

impl From<Position> for client::Position {
    fn from(Position { partition, position }: Position) -> Self {
        Self { partition, position }
    }
}

#[pymethods]
impl Position {
    #[new]
    fn new(partition: u32, position: u64) -> Self {
        Self { partition, position }
    }

    fn __repr__(&self) -> String {
        format!("Position({}, {})", self.partition, self.position)
    }
}

/// What a message says about itself, beyond the next call of its consumer: flags and section.
pub(crate) struct Said(Option<(u16, Box<[u8]>)>);

impl Said {
    pub(crate) fn by(attributes: AttributesView<'_>) -> Self {
        let (flags, section) = attributes.parts();
        Self((flags != 0).then(|| (flags, section.into())))
    }

    fn view(&self) -> AttributesView<'_> {
        match &self.0 {
            Some((flags, section)) => {
                AttributesView::parse(*flags, section).expect("they were parsed before")
            }
            None => AttributesView::default(),
        }
    }

    pub(crate) fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.view().key().map(|key| PyBytes::new(py, key))
    }

    pub(crate) fn correlation<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.view().correlation().map(|correlation| PyBytes::new(py, correlation))
    }

    pub(crate) fn reply_to(&self) -> Option<&str> {
        self.view().reply_to()
    }

    pub(crate) fn timestamp_ns(&self) -> Option<u64> {
        self.view().timestamp_ns()
    }

    pub(crate) fn sequence(&self) -> Option<u64> {
        self.view().stamp().map(|stamp| stamp.sequence)
    }

    pub(crate) fn attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let attributes = PyDict::new(py);
        for (name, found) in self.view().iter() {
            attributes.set_item(name, value(py, &found)?)?;
        }
        Ok(attributes)
    }
}

/// A payload, before there is an object of Python's for it.
pub(crate) enum Body {
    /// So many bytes, from here on in what was copied out of a batch.
    Copied {
        at: usize,
        bytes: usize,
    },
    Held(HeldMessage),
}

/// A message as it was taken from a consumer, without the interpreter lock.
pub(crate) struct Taken {
    position: client::Position,
    said: Said,
    body: Body,
}

impl Taken {
    /// Takes a message: what is copied is put behind `copies`.
    pub(crate) fn of(message: &client::Message<'_>, in_place: bool, copies: &mut Vec<u8>) -> Self {
        let (partition, position) = (message.partition(), message.position());
        let body = held(message, in_place).map_or_else(
            || {
                let (at, bytes) = (copies.len(), message.payload_bytes());
                match message.view() {
                    Some(view) => {
                        copies.resize(at + bytes, 0);
                        view.read(0, &mut copies[at..]);
                    }
                    None => copies.extend_from_slice(message.payload()),
                }
                Body::Copied { at, bytes }
            },
            Body::Held,
        );
        let position = client::Position { partition, position };
        Self { position, said: Said::by(message.attributes()), body }
    }

    /// The object, with the interpreter lock.
    pub(crate) fn into_message(self, py: Python<'_>, copies: &[u8]) -> Message {
        let Self { position, said, body } = self;
        let payload = match body {
            Body::Copied { at, bytes } => Payload::Bytes(PyBytes::new(py, &copies[at..at + bytes]).unbind()),
            Body::Held(held) => Payload::Held(held),
        };
        Message { position, said, payload }
    }
}

fn held(message: &client::Message<'_>, in_place: bool) -> Option<HeldMessage> {
    // As many are held already as may be: then it is copied.
    message.view().filter(|_| in_place).and_then(|_| message.hold().ok())
}

enum Payload {
    Bytes(Py<PyBytes>),
    Held(HeldMessage),
}

/// A message. Its payload is that of `bytes(message)`, too, and of `memoryview(message)`, which does not copy.
#[pyclass(frozen, module = "ringway")]
pub(crate) struct Message {
    position: client::Position,
    said: Said,
    payload: Payload,
}

impl Message {
    /// Of a message that was just received, with the interpreter lock.
    #[inline]
    pub(crate) fn of(py: Python<'_>, message: &client::Message<'_>, in_place: bool) -> PyResult<Self> {
        let position = client::Position { partition: message.partition(), position: message.position() };
        let payload = match (held(message, in_place), message.view()) {
            (Some(held), _) => Payload::Held(held),
            (None, None) => Payload::Bytes(PyBytes::new(py, message.payload()).unbind()),
            (None, Some(view)) => {
                let copied = PyBytes::new_with(py, view.len(), |into| {
                    view.read(0, into);
                    Ok(())
                });
                Payload::Bytes(copied?.unbind())
            }
        };
        Ok(Self { position, said: Said::by(message.attributes()), payload })
    }

    fn view(&self) -> Option<&ArenaView> {
        match &self.payload {
            Payload::Bytes(_) => None,
            Payload::Held(held) => held.view(),
        }
    }
}

#[pymethods]
impl Message {
    /// The partition that it came from.
    #[getter]
    fn partition(&self) -> u32 {
        self.position.partition
    }

    /// Its position in its partition.
    #[getter]
    fn position(&self) -> u64 {
        self.position.position
    }

    /// Its payload: bytes, or a memoryview of a payload that is where its producer wrote it.
    #[getter]
    fn payload<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        match &slf.get().payload {
            Payload::Bytes(bytes) => bytes.bind(slf.py()).clone().into_bound_py_any(slf.py()),
            Payload::Held(_) => Ok(PyMemoryView::from(slf.as_any())?.into_any()),
        }
    }

    /// Whether its payload is where its producer wrote it.
    #[getter]
    fn is_in_place(&self) -> bool {
        self.view().is_some()
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

    fn __len__(&self, py: Python<'_>) -> usize {
        match &self.payload {
            Payload::Bytes(bytes) => bytes.as_bytes(py).len(),
            Payload::Held(held) => held.view().map_or_else(|| held.payload().len(), ArenaView::len),
        }
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// Lends the payload for reading.
    ///
    /// # Safety
    ///
    /// `view` can be written, as Python promises.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let (first, bytes) = match &slf.get().payload {
            Payload::Bytes(payload) => {
                let payload = payload.as_bytes(slf.py());
                (payload.as_ptr(), payload.len())
            }
            Payload::Held(held) => match held.view() {
                // SAFETY: the slice is not read here, and ends with this statement: only where it begins is of interest.
                Some(view) => (unsafe { view.as_slice() }.as_ptr(), view.len()),
                None => (held.payload().as_ptr(), held.payload().len()),
            },
        };
        // SAFETY: the bytes stay where they are as long as this object is there, and the view keeps it.
        unsafe { lend(slf.as_any(), first, bytes, true, view, flags) }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let (message, bytes) = (slf.get(), slf.get().__len__(slf.py()));
        format!("<ringway.Message {}, {bytes} bytes>", message.position)
    }
}

/// Lends memory to Python.
///
/// # Safety
///
/// There are so many bytes, which stay where they are as long as `owner` is there, and which may be written to as long as a
/// view is there, unless `readonly`; `view` is what Python gave to be filled.
pub(crate) unsafe fn lend(
    owner: &Bound<'_, PyAny>,
    first: *const u8,
    bytes: usize,
    readonly: bool,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("there is no view to be filled"));
    }
    let (first, bytes) = (first.cast_mut().cast::<c_void>(), bytes as ffi::Py_ssize_t);
    // SAFETY: the view is there; it takes a reference to the owner, and the bytes are the caller's promise.
    let filled =
        unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), first, bytes, c_int::from(readonly), flags) };
    if filled < 0 { Err(PyErr::fetch(owner.py())) } else { Ok(()) }
}
