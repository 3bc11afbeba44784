//! Messages to be sent, and what they say about themselves.

use std::ffi::{c_char, c_void};

use ringway_client::{AttributeMap, Attributes, Outgoing, Value};

use crate::boundary::{Failure, bytes, enter, optional_text, out, reserved, text};
use crate::code::Code;
use crate::handle::{Sort, borrow, give, share, take};
use crate::settings::durability;

/// Typed attributes of messages, by name: encoded once, and used for any number of messages. Any threads may send with it at
/// the same time while nobody inserts.
pub struct AttributesHandle(());

impl Sort for AttributesHandle {
    type Inner = AttributeMap;
    const WORD: u64 = 0x7269_6e67_6174_7472;
    const NAME: &'static str = "attributes";
}

/// What sort of value an attribute has.
#[repr(C)]
pub enum ValueKind {
    /// `boolean`.
    Boolean = 0,
    /// `integer`.
    Integer = 1,
    /// `number`.
    Number = 2,
    /// UTF-8 at `bytes`, not ended by a zero.
    Text = 3,
    /// `bytes`.
    Bytes = 4,
}

/// The value of an attribute: of these the one that `kind` names.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ValueOf {
    /// A `ringway_value_kind`.
    pub kind: u32,
    /// Of `RINGWAY_VALUE_KIND_BOOLEAN`.
    pub boolean: bool,
    /// Of `RINGWAY_VALUE_KIND_INTEGER`.
    pub integer: i64,
    /// Of `RINGWAY_VALUE_KIND_NUMBER`.
    pub number: f64,
    /// Of `RINGWAY_VALUE_KIND_TEXT` and `RINGWAY_VALUE_KIND_BYTES`.
    pub bytes: *const c_void,
    /// How many there are.
    pub bytes_count: usize,
}

impl ValueOf {
    /// What it borrows stays where the value has it.
    pub(crate) fn of(value: &Value<'_>) -> Result<Self, Failure> {
        let none = Self {
            kind: 0,
            boolean: false,
            integer: 0,
            number: 0.0,
            bytes: std::ptr::null(),
            bytes_count: 0,
        };
        let of_bytes = |kind: ValueKind, bytes: &[u8]| Self {
            kind: kind as u32,
            bytes: bytes.as_ptr().cast(),
            bytes_count: bytes.len(),
            ..none
        };
        Ok(match value {
            Value::Bool(value) => Self { kind: ValueKind::Boolean as u32, boolean: *value, ..none },
            Value::Integer(value) => Self { kind: ValueKind::Integer as u32, integer: *value, ..none },
            Value::Float(value) => Self { kind: ValueKind::Number as u32, number: *value, ..none },
            Value::Text(value) => of_bytes(ValueKind::Text, value.as_bytes()),
            Value::Bytes(value) => of_bytes(ValueKind::Bytes, value),
            _ => {
                return Err(Failure::argument("this attribute is of a sort that this library does not know"));
            }
        })
    }

    /// # Safety
    ///
    /// There are as many bytes as it says.
    unsafe fn checked(&self) -> Result<Value<'_>, Failure> {
        // SAFETY: the caller's promise.
        let of_bytes = || unsafe { bytes("value", self.bytes, self.bytes_count) };
        Ok(match self.kind {
            0 => self.boolean.into(),
            1 => self.integer.into(),
            2 => self.number.into(),
            3 => {
                std::str::from_utf8(of_bytes()?).map_err(|_| Failure::argument("a text is not UTF-8"))?.into()
            }
            4 => of_bytes()?.into(),
            other => return Err(Failure::argument(format!("there is no sort of value {other}"))),
        })
    }
}

/// Makes attributes, none yet.
///
/// # Safety
///
/// `attributes` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_attributes_new(attributes: *mut *mut AttributesHandle) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        unsafe { out("attributes", attributes)? }.write(give(AttributeMap::new()));
        Ok(Code::Ok)
    })
}

/// Adds an attribute. Fails, without a change, when the name is impossible or there already, or the attributes become too
/// large.
///
/// # Safety
///
/// `attributes` are attributes that no other thread uses, `name` ends with a zero, `value` can be read and has as many bytes
/// as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_attributes_insert(
    attributes: *mut AttributesHandle,
    name: *const c_char,
    value: *const ValueOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (attributes, name, value) = unsafe { (borrow(attributes)?, text("name", name)?, value.as_ref()) };
        let value = value.ok_or_else(|| crate::boundary::null("value"))?;
        // SAFETY: the caller's promise.
        attributes.insert(name, unsafe { value.checked()? })?;
        Ok(Code::Ok)
    })
}

/// Frees attributes; null is allowed. Messages that were sent with them keep theirs.
///
/// # Safety
///
/// `attributes` is null or attributes, which no thread uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_attributes_free(attributes: *mut AttributesHandle) -> Code {
    enter(|| {
        if !attributes.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { take(attributes)? });
        }
        Ok(Code::Ok)
    })
}

/// A message to be sent. All zero but the payload, it is a message without attributes:
/// `ringway_outgoing message = {.payload = text, .payload_bytes = 5};`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct OutgoingOf {
    /// The payload; null: none.
    pub payload: *const c_void,
    /// How many bytes there are.
    pub payload_bytes: usize,
    /// The key: messages of one key are in order, at most 1024 bytes. Null: none.
    pub key: *const c_void,
    /// How many bytes there are.
    pub key_bytes: usize,
    /// What a reply has to name, at most 255 bytes. Null: none.
    pub correlation: *const c_void,
    /// How many bytes there are.
    pub correlation_bytes: usize,
    /// The stream where a reply is expected. Null: none.
    pub reply_to: *const c_char,
    /// Typed attributes. Null: none.
    pub attributes: *const AttributesHandle,
    /// When the message came about, in nanoseconds since 1970; counts if `has_timestamp`.
    pub timestamp_ns: u64,
    /// Which message it is in the count of its producer, which has a name; counts if `has_sequence`.
    pub sequence: u64,
    /// At least this `ringway_durability`, where the stream's is lower.
    pub durability: u32,
    /// Whether `timestamp_ns` says something.
    pub has_timestamp: bool,
    /// Whether `sequence` says something.
    pub has_sequence: bool,
    /// Zero.
    pub reserved: [u64; 4],
}

impl OutgoingOf {
    /// # Safety
    ///
    /// Everything is there, as long as is said, for as long as the message is used.
    pub(crate) unsafe fn checked(&self) -> Result<Outgoing<'_>, Failure> {
        // SAFETY: the caller's promise.
        let payload = unsafe { bytes("payload", self.payload, self.payload_bytes)? };
        // SAFETY: the caller's promise.
        Ok(Outgoing::new(payload).attributes(unsafe { self.checked_attributes()? }))
    }

    /// # Safety
    ///
    /// As [`checked`](Self::checked).
    pub(crate) unsafe fn checked_attributes(&self) -> Result<Attributes<'_>, Failure> {
        reserved("the message", &self.reserved)?;
        let mut attributes = Attributes::new().durability(durability(self.durability)?);
        if !self.key.is_null() {
            // SAFETY: the caller's promise.
            attributes = attributes.key(unsafe { bytes("key", self.key, self.key_bytes)? });
        }
        if !self.correlation.is_null() {
            // SAFETY: the caller's promise.
            let correlation = unsafe { bytes("correlation", self.correlation, self.correlation_bytes)? };
            attributes = attributes.correlation(correlation);
        }
        // SAFETY: the caller's promise.
        if let Some(stream) = unsafe { optional_text("reply_to", self.reply_to)? } {
            attributes = attributes.reply_to(stream);
        }
        if !self.attributes.is_null() {
            // SAFETY: the caller's promise.
            attributes = attributes.map(unsafe { share(self.attributes)? });
        }
        if self.has_timestamp {
            attributes = attributes.timestamp_ns(self.timestamp_ns);
        }
        if self.has_sequence {
            attributes = attributes.sequence(self.sequence);
        }
        Ok(attributes)
    }
}
