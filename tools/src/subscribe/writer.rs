//! How `ringway sub`, and `ringway journal show`, print a message.

use ringway_client::{AttributesView, Position, Value};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::cli::Format;

/// A message as `--format json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    partition: u32,
    position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_ns: Option<u64>,
    #[serde(flatten, serialize_with = "as_key")]
    key: Option<&'a [u8]>,
    #[serde(flatten, serialize_with = "as_correlation")]
    correlation: Option<&'a [u8]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    attributes: serde_json::Map<String, serde_json::Value>,
    #[serde(flatten, serialize_with = "as_payload")]
    payload: Option<&'a [u8]>,
}

fn as_key<S: Serializer>(key: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    text_or_hex("key", "key_hex", *key, serializer)
}

fn as_correlation<S: Serializer>(correlation: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    text_or_hex("correlation", "correlation_hex", *correlation, serializer)
}

fn as_payload<S: Serializer>(payload: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    text_or_hex("payload", "payload_hex", *payload, serializer)
}

/// Text as text under one name, other bytes in hexadecimal under another.
fn text_or_hex<S: Serializer>(
    text_name: &'static str,
    hex_name: &'static str,
    bytes: Option<&[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut entry = serializer.serialize_map(None)?;
    if let Some(bytes) = bytes {
        match std::str::from_utf8(bytes) {
            Ok(text) => entry.serialize_entry(text_name, text)?,
            Err(_) => entry.serialize_entry(hex_name, &hex(bytes))?,
        }
    }
    entry.end()
}

fn json_value(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::Bool(value) => value.into(),
        Value::Integer(value) => value.into(),
        // What JSON has no number for is null.
        Value::Float(value) => value.into(),
        Value::Text(value) => value.into(),
        Value::Bytes(value) => serde_json::json!({ "hex": hex(&value) }),
        // A type that this command does not know yet.
        _ => serde_json::Value::Null,
    }
}

/// What is printed of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printed<'a> {
    pub(crate) at: Position,
    /// Which delivery it is, of a subscription that counts them.
    pub(crate) attempt: Option<u32>,
    pub(crate) attributes: AttributesView<'a>,
    pub(crate) payload: &'a [u8],
}

impl<'a> Printed<'a> {
    /// All that there is to say about it, as JSON.
    pub(crate) fn line(self) -> Line<'a> {
        let Self { at, attempt, attributes, payload } = self;
        Line {
            partition: at.partition,
            position: at.position,
            timestamp_ns: attributes.timestamp_ns(),
            key: attributes.key(),
            correlation: attributes.correlation(),
            reply_to: attributes.reply_to(),
            attempt,
            attributes: attributes.iter().map(|(name, value)| (name.to_owned(), json_value(value))).collect(),
            payload: Some(payload),
        }
    }
}

/// How messages are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer {
    pub(crate) format: Format,
    /// The stream has several partitions.
    pub(crate) several: bool,
}

impl Writer {
    pub(crate) fn write(self, buffer: &mut Vec<u8>, message: Printed<'_>) {
        let Printed { at, payload, .. } = message;
        match self.format {
            Format::Raw => buffer.extend_from_slice(payload),
            Format::Hex if self.several => {
                buffer.extend_from_slice(format!("{at} {}", hex(payload)).as_bytes())
            }
            Format::Hex => buffer.extend_from_slice(format!("{} {}", at.position, hex(payload)).as_bytes()),
            Format::Json => {
                serde_json::to_writer(&mut *buffer, &message.line())
                    .expect("numbers and strings always are JSON");
            }
        }
        buffer.push(b'\n');
    }
}

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, payload: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::new();
        let (at, attributes) = (Position { partition: 0, position: 7 }, AttributesView::default());
        let message = Printed { at, attempt: None, attributes, payload };
        Writer { format, several: false }.write(&mut buffer, message);
        buffer
    }

    #[test]
    fn raw_is_the_bytes_and_a_newline() {
        assert_eq!(written(Format::Raw, b"a\xffb"), b"a\xffb\n");
        assert_eq!(written(Format::Raw, b""), b"\n");
    }

    #[test]
    fn json_holds_text_as_text_and_other_bytes_in_hexadecimal() {
        let text = |payload| String::from_utf8(written(Format::Json, payload)).unwrap();
        assert_eq!(text("\"é\n".as_bytes()), "{\"partition\":0,\"position\":7,\"payload\":\"\\\"é\\n\"}\n");
        assert_eq!(text(b"\x00\xff"), "{\"partition\":0,\"position\":7,\"payload_hex\":\"00ff\"}\n");
    }

    #[test]
    fn hex_gives_the_position_and_two_digits_a_byte() {
        assert_eq!(written(Format::Hex, b"\x01\xfeA"), b"7 01fe41\n");
        assert_eq!(written(Format::Hex, b""), b"7 \n");
    }
}
