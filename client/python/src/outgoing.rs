//! Bytes and messages to be sent.
//!
//! 1. `bytes` never change, and are sent from where they are. Of other objects with a buffer, which may change, the bytes are
//!    used where they are only while the interpreter lock is held: see [`Argument::pinned`].
//! 2. What a message says about itself is encoded when it is made, once for any number of sends.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString};
use ringway_client as client;
use ringway_client::{AttributeMap, Durability, Value};

use crate::errors::OrRaise;

/// What is given to be sent.
pub(crate) enum Argument<'py> {
    Bytes(Bound<'py, PyBytes>),
    Buffer(PyUntypedBuffer),
    Copied(Vec<u8>),
    Message(Bound<'py, Outgoing>),
}

impl<'py> Argument<'py> {
    #[inline]
    pub(crate) fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        match object.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self::Bytes(bytes.clone())),
            Err(_) => Self::of_other(object),
        }
    }

    fn of_other(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(message) = object.cast::<Outgoing>() {
            return Ok(Self::Message(message.clone()));
        }
        if object.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("a payload is bytes, not str: encode it"));
        }
        let buffer = PyUntypedBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("a payload's bytes must lie in a row: copy it"));
        }
        Ok(Self::Buffer(buffer))
    }

    /// The same, to be used without the interpreter lock: what may change is copied.
    pub(crate) fn pinned(self) -> Self {
        match self {
            Self::Buffer(_) => Self::Copied(self.bytes().into()),
            pinned => pinned,
        }
    }

    /// The payload of what is no message.
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(),
            Self::Copied(bytes) => bytes,
            Self::Message(_) => &[],
            Self::Buffer(buffer) if buffer.len_bytes() == 0 => &[],
            // SAFETY: the buffer keeps so many bytes where they are. Who uses the slice has the interpreter lock (others pin
            // the argument first), and runs nothing of Python meanwhile: so nothing writes to them.
            Self::Buffer(buffer) => unsafe {
                std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes())
            },
        }
    }

    /// The message to be sent; `key`, if there is one, is its key.
    #[inline]
    pub(crate) fn message<'a>(&'a self, key: Option<&'a [u8]>) -> client::Outgoing<'a> {
        let message = match self {
            Self::Message(message) => message.get().message(message.py()),
            _ => client::Outgoing::new(self.bytes()),
        };
        match key {
            Some(key) => message.key(key),
            None => message,
        }
    }
}

/// A message to be sent, with what it says about itself. It may be sent any number of times.
#[pyclass(frozen, module = "ringway")]
pub(crate) struct Outgoing {
    payload: Py<PyBytes>,
    key: Option<Vec<u8>>,
    correlation: Option<Vec<u8>>,
    reply_to: Option<String>,
    attributes: Option<AttributeMap>,
    timestamp_ns: Option<u64>,
    durability: Durability,
    sequence: Option<u64>,
}

impl Outgoing {
    fn message<'a>(&'a self, py: Python<'a>) -> client::Outgoing<'a> {
        client::Outgoing::new(self.payload.as_bytes(py)).attributes(self.described())
    }

    /// What it says about itself.
    pub(crate) fn described(&self) -> client::Attributes<'_> {
        let mut attributes = client::Attributes::new().durability(self.durability);
        if let Some(key) = &self.key {
            attributes = attributes.key(key);
        }
        if let Some(correlation) = &self.correlation {
            attributes = attributes.correlation(correlation);
        }
        if let Some(stream) = &self.reply_to {
            attributes = attributes.reply_to(stream);
        }
        if let Some(map) = &self.attributes {
            attributes = attributes.map(map);
        }
        if let Some(timestamp_ns) = self.timestamp_ns {
            attributes = attributes.timestamp_ns(timestamp_ns);
        }
        if let Some(sequence) = self.sequence {
            attributes = attributes.sequence(sequence);
        }
        attributes
    }
}

#[pymethods]
impl Outgoing {
    #[new]
    #[pyo3(signature = (payload=None, *, key=None, correlation=None, reply_to=None, attributes=None, timestamp_ns=None,
        sequence=None, durability="memory"))]
    #[allow(clippy::too_many_arguments, reason = "they have names in Python")]
    fn new(
        py: Python<'_>,
        payload: Option<&Bound<'_, PyAny>>,
        key: Option<Vec<u8>>,
        correlation: Option<Vec<u8>>,
        reply_to: Option<String>,
        attributes: Option<&Bound<'_, PyDict>>,
        timestamp_ns: Option<u64>,
        sequence: Option<u64>,
        durability: &str,
    ) -> PyResult<Self> {
        let payload = match payload.map(Argument::of).transpose()? {
            Some(Argument::Bytes(bytes)) => bytes,
            Some(Argument::Message(_)) => return Err(PyTypeError::new_err("a payload is bytes")),
            Some(other) => PyBytes::new(py, other.bytes()),
            None => PyBytes::new(py, b""),
        };
        Ok(Self {
            payload: payload.unbind(),
            key,
            correlation,
            reply_to,
            attributes: attributes.map(map).transpose()?,
            timestamp_ns,
            durability: self::durability(durability)?,
            sequence,
        })
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.payload.bind(py).clone()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<ringway.Outgoing of {} bytes>", self.payload.as_bytes(py).len())
    }
}

/// Typed attributes out of a dictionary.
fn map(attributes: &Bound<'_, PyDict>) -> PyResult<AttributeMap> {
    let mut map = AttributeMap::new();
    for (name, value) in attributes.iter() {
        let name: String = name.extract()?;
        let py = value.py();
        // A bool is an int, too: it comes first.
        if value.is_instance_of::<PyBool>() {
            map.insert(&name, value.extract::<bool>()?)
        } else if value.is_instance_of::<PyInt>() {
            map.insert(&name, value.extract::<i64>()?)
        } else if value.is_instance_of::<PyFloat>() {
            map.insert(&name, value.extract::<f64>()?)
        } else if let Ok(text) = value.cast::<PyString>() {
            map.insert(&name, &*text.to_cow()?)
        } else if let Ok(bytes) = value.cast::<PyBytes>() {
            map.insert(&name, bytes.as_bytes())
        } else {
            let kind = value.get_type().name()?;
            return Err(PyTypeError::new_err(format!("an attribute cannot be a {kind}")));
        }
        .or_raise(py)?;
    }
    Ok(map)
}

/// A typed attribute as Python has it.
pub(crate) fn value<'py>(py: Python<'py>, value: &Value<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Integer(value) => value.into_pyobject(py)?.into_any(),
        Value::Float(value) => PyFloat::new(py, *value).into_any(),
        Value::Text(value) => PyString::new(py, value).into_any(),
        Value::Bytes(value) => PyBytes::new(py, value).into_any(),
        _ => return Err(PyValueError::new_err("an attribute of a sort that this library does not know")),
    })
}

pub(crate) fn durability(word: &str) -> PyResult<Durability> {
    match word {
        "memory" => Ok(Durability::Memory),
        "written" => Ok(Durability::Written),
        "synced" => Ok(Durability::Synced),
        other => Err(PyValueError::new_err(format!("durability is memory, written or synced, not {other}"))),
    }
}
