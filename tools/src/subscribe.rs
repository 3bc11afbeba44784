//! `ringway sub`: prints the messages of a stream as one of its subscriptions.
//!
//! What always holds:
//!
//! 1. A message is committed only after it was written. The consumer commits by itself what it returned before,
//!    when it finds the stream empty, or holds much, or holds one that did not fit a slot; so everything is written before a call that may do so, and a
//!    consumer that could not write is left to the kernel instead of being closed, which would commit.
//! 2. Output is written as soon as the reader has caught up, and in batches while it has not.

use std::time::{Duration, Instant};

use ringway_client::{
    AttributesView, Connection, Consumer, Message, Position, StreamInfo, Value, WaitStrategy,
};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::cli::{Format, SubArgs};
use crate::exit::{Exit, Failure};
use crate::interrupt::{Interrupt, LOOK_EVERY};
use crate::output::{Output, WHOLE_BYTES, count};

/// It sleeps as soon as there is nothing.
const AT_ONCE: WaitStrategy = WaitStrategy::Adaptive { spin: Duration::ZERO };
/// Most messages between two writes: as a part of the ring, and at all. Half of what a consumer returns before it
/// commits by itself.
const BATCH_PART_OF_CAPACITY: u64 = 16;
const BATCH_MESSAGES_MAX: u64 = 128;

/// Runs the command.
pub(crate) fn run(args: &SubArgs, connection: &Connection) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let (stream, subscription) = (args.stream.as_str(), args.subscription.as_str());
    connection.declare_subscription(stream, subscription, args.from.into())?;
    let settings = connection.stream(stream)?.settings;
    let (capacity, several) = (settings.slots, settings.partitions > 1);
    let mut subscriber = Subscriber {
        // Nobody who reads text notices the microseconds that looking on would save.
        consumer: connection.consumer(stream, subscription).wait(AT_ONCE).open()?,
        connection,
        output: Output::stdout(interrupt.clone())?,
        interrupt,
        deadline,
        writer: Writer { format: args.format, several },
        batch_messages_max: (capacity / BATCH_PART_OF_CAPACITY).clamp(1, BATCH_MESSAGES_MAX),
        there_until: 0,
        printed: 0,
        count: args.count.unwrap_or(u64::MAX),
        all_written: true,
        all_inline: true,
    };
    let result = subscriber.print();
    if !subscriber.all_written {
        // Closing would commit what nobody has seen. The kernel ends the session with this process, which is next.
        std::mem::forget(subscriber.consumer);
        return result;
    }
    let printed = subscriber.printed;
    let closed = subscriber.consumer.close();
    result?;
    closed?;
    if let (Some(wanted), Some(timeout)) = (args.count, args.timeout)
        && printed < wanted
    {
        let message = format!("{} of {} came within {timeout:?}", printed, count(wanted, "message"));
        return Err(Failure::with(Exit::TimedOut, message));
    }
    Ok(())
}

/// A consumer that prints.
struct Subscriber<'a> {
    connection: &'a Connection,
    consumer: Consumer,
    output: Output,
    interrupt: Interrupt,
    deadline: Option<Instant>,
    writer: Writer,
    batch_messages_max: u64,
    /// The stream's partitions are known to hold messages up to here, in sum: below it the consumer does not find them
    /// all empty.
    there_until: u64,
    printed: u64,
    count: u64,
    /// Nothing was returned that has not been written.
    all_written: bool,
    /// The message that was returned last is not committed by the next call.
    all_inline: bool,
}

impl Subscriber<'_> {
    /// Prints until the count is reached or the time is over.
    fn print(&mut self) -> Result<(), Failure> {
        while self.printed < self.count {
            if self.reached() >= self.there_until {
                if !self.receive_first()? {
                    return Ok(());
                }
                self.look_how_much_is_there();
            }
            self.receive_rest()?;
            self.output.flush()?;
            self.all_written = true;
            self.consumer.commit()?;
            self.all_inline = true;
            if self.left().is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits for a message while everything before it is written; false when the time is over.
    fn receive_first(&mut self) -> Result<bool, Failure> {
        loop {
            if self.interrupt.is_set() {
                return Err(Failure::Interrupted);
            }
            if self.output.is_closed() {
                return Err(Failure::OutputClosed);
            }
            let slice = self.left().map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
            if let Some(message) = self.consumer.recv_timeout(slice)? {
                self.all_written = false;
                self.printed += 1;
                self.writer.write(self.output.buffer(), &message);
                self.all_inline = message.is_inline();
                return Ok(true);
            }
            if self.left().is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
        }
    }

    /// Asks the broker; without an answer the next message is waited for like this one.
    fn look_how_much_is_there(&mut self) {
        let stream = self.connection.stream(self.consumer.stream());
        let next =
            |stream: StreamInfo| stream.partitions.iter().map(|partition| partition.next_position).sum();
        self.there_until = stream.map_or(0, next);
    }

    /// How far the consumer is, in all partitions.
    fn reached(&self) -> u64 {
        self.consumer.positions().iter().map(|position| position.position).sum()
    }

    /// Receives what is there, as much as one write takes.
    fn receive_rest(&mut self) -> Result<(), Failure> {
        let mut left = (self.count - self.printed).min(self.batch_messages_max - self.batched());
        while left > 0
            && self.all_inline
            && self.reached() < self.there_until
            && self.output.buffered_bytes() < WHOLE_BYTES / 2
        {
            let Some(message) = self.consumer.try_recv()? else { break };
            self.all_written = false;
            self.printed += 1;
            self.writer.write(self.output.buffer(), &message);
            left -= 1;
            self.all_inline = message.is_inline();
        }
        Ok(())
    }

    fn batched(&self) -> u64 {
        u64::from(!self.all_written)
    }

    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// A message as `--format json` prints it.
#[derive(Debug, Serialize)]
struct Line<'a> {
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

/// How messages are printed.
#[derive(Clone, Copy, Debug)]
struct Writer {
    format: Format,
    /// The stream has several partitions.
    several: bool,
}

impl Writer {
    fn write(self, buffer: &mut Vec<u8>, message: &Message<'_>) {
        let position = Position { partition: message.partition(), position: message.position() };
        self.write_parts(buffer, position, message.attributes(), message.payload());
    }

    fn write_parts(self, buffer: &mut Vec<u8>, at: Position, attributes: AttributesView<'_>, payload: &[u8]) {
        match self.format {
            Format::Raw => buffer.extend_from_slice(payload),
            Format::Hex if self.several => {
                buffer.extend_from_slice(format!("{at} {}", hex(payload)).as_bytes())
            }
            Format::Hex => buffer.extend_from_slice(format!("{} {}", at.position, hex(payload)).as_bytes()),
            Format::Json => {
                let line = Line {
                    partition: at.partition,
                    position: at.position,
                    timestamp_ns: attributes.timestamp_ns(),
                    key: attributes.key(),
                    correlation: attributes.correlation(),
                    reply_to: attributes.reply_to(),
                    attributes: attributes
                        .iter()
                        .map(|(name, value)| (name.to_owned(), json_value(value)))
                        .collect(),
                    payload: Some(payload),
                };
                serde_json::to_writer(&mut *buffer, &line).expect("numbers and strings always are JSON");
            }
        }
        buffer.push(b'\n');
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, payload: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::new();
        let at = Position { partition: 0, position: 7 };
        Writer { format, several: false }.write_parts(&mut buffer, at, AttributesView::default(), payload);
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
