//! `ringway pub`: one message, the lines of a file, or generated messages.
//!
//! However it ends, it says how many messages were published and where: what was published stays published.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ringway_client::{
    AttributeMap, Attributes, ConfirmError, Connection, Durability, Outgoing, Position, Producer, SendError,
};

use crate::cli::PubArgs;
use crate::exit::{Exit, Failure};
use crate::interrupt::{Interrupt, LOOK_EVERY};
use crate::output::{self, count};
use crate::pace::Pace;

/// Digits of the largest counter in a generated message.
const COUNTER_DIGITS_MAX: usize = 20;

/// Runs the command.
pub(crate) fn run(args: &PubArgs, connection: &Connection) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    let generated = args.count.map(|count| Generated::new(count, args.size)).transpose()?;
    let lines = args.lines.as_deref().map(|path| Lines::open(path, &interrupt)).transpose()?;

    let mut map = AttributeMap::new();
    for (name, value) in &args.attributes {
        let wrong = |error| Failure::with(Exit::Usage, format!("--attribute {name}: {error}"));
        map.insert(name, value).map_err(wrong)?;
    }
    let mut producer = connection.producer(args.stream.as_str()).timestamps(args.timestamp);
    if let Some(name) = &args.name {
        producer = producer.name(name.as_str());
    }
    let producer = producer.open()?;
    let bytes_max = producer.payload_bytes_max();
    if args.count.is_some() && args.size > bytes_max {
        let most = count(bytes_max as u64, "byte");
        let message =
            format!("--size {}: a message of stream {} has {most} at the most", args.size, args.stream);
        return Err(Failure::with(Exit::Usage, message));
    }
    let mut publisher = Publisher {
        producer,
        interrupt,
        attributes: attributes(args, &map),
        timeout: args.timeout,
        pace: args.rate.map(Pace::new),
        is_named: args.name.is_some(),
        messages: 0,
        there_already: 0,
        published: BTreeMap::new(),
    };
    let result = if let Some(payload) = &args.payload {
        publisher.publish(payload.as_bytes(), None)
    } else if let Some(lines) = lines {
        publisher.publish_lines(lines)
    } else if let Some(generated) = generated {
        publisher.publish_generated(generated)
    } else {
        Ok(())
    };
    let confirmed = publisher.confirm();
    output::say(&publisher.summary(confirmed.is_ok()));
    let closed = publisher.producer.close();
    result.and(confirmed)?;
    Ok(closed?)
}

/// What every message of the command says about itself.
fn attributes<'a>(args: &'a PubArgs, map: &'a AttributeMap) -> Attributes<'a> {
    let mut attributes = Attributes::new().map(map);
    if let Some(level) = args.durability {
        attributes = attributes.durability(level.into());
    }
    if let Some(key) = &args.key {
        attributes = attributes.key(key.as_bytes());
    }
    if let Some(correlation) = &args.correlation {
        attributes = attributes.correlation(correlation.as_bytes());
    }
    if let Some(stream) = &args.reply_to {
        attributes = attributes.reply_to(stream.as_str());
    }
    attributes
}

/// A producer that counts, keeps a pace, and can be interrupted while the stream is full.
struct Publisher<'a> {
    producer: Producer,
    interrupt: Interrupt,
    attributes: Attributes<'a>,
    timeout: Option<Duration>,
    pace: Option<Pace>,
    /// It has a name: messages have numbers.
    is_named: bool,
    messages: u64,
    there_already: u64,
    /// First and last position of each partition.
    published: BTreeMap<u32, (u64, u64)>,
}

impl Publisher<'_> {
    /// Publishes a message; `number`: which one it is, of those that would be the same if the command was given again.
    fn publish(&mut self, payload: &[u8], number: Option<u64>) -> Result<(), Failure> {
        if let Some(pace) = &mut self.pace
            && !self.interrupt.sleep_until(pace.next())
        {
            return Err(Failure::Interrupted);
        }
        let mut message = Outgoing::new(payload).attributes(self.attributes);
        if let Some(number) = number.filter(|_| self.is_named) {
            message = message.sequence(number);
        }
        let Some(Position { partition, position }) = self.send(message)? else {
            self.there_already += 1;
            return Ok(());
        };
        self.published.entry(partition).or_insert((position, position)).1 = position;
        self.messages += 1;
        Ok(())
    }

    /// `None`: it is there already.
    fn send(&mut self, message: Outgoing<'_>) -> Result<Option<Position>, Failure> {
        let mut waited = Duration::ZERO;
        // The clock is read only once the stream has been full for a while.
        let mut began = None;
        while !self.interrupt.is_set() {
            let slice = self.timeout.map_or(LOOK_EVERY, |timeout| LOOK_EVERY.min(timeout - waited));
            let mut error = match self.producer.send_timeout(message, slice) {
                Ok(position) => return Ok(Some(position)),
                Err(SendError::AlreadySent { .. }) => return Ok(None),
                Err(error) => error,
            };
            let Some(last) = waited_of(&mut error) else { return Err(error.into()) };
            waited = began.get_or_insert_with(|| Instant::now() - *last).elapsed();
            if let Some(timeout) = self.timeout
                && waited >= timeout
            {
                *last = timeout;
                return Err(error.into());
            }
        }
        Err(Failure::Interrupted)
    }

    fn publish_lines(&mut self, mut lines: Lines) -> Result<(), Failure> {
        let bytes_max = self.producer.payload_bytes_max();
        let (mut line, mut number) = (Vec::new(), 0);
        while lines.next(&mut line, bytes_max, self.producer.stream())? {
            self.publish(&line, Some(number))?;
            number += 1;
        }
        Ok(())
    }

    fn publish_generated(&mut self, generated: Generated) -> Result<(), Failure> {
        let mut payload = Vec::new();
        for number in 0..generated.count {
            generated.write(number, &mut payload);
            self.publish(&payload, Some(number))?;
        }
        Ok(())
    }

    /// Waits until what was published is as durable as the stream is, or as was asked for.
    fn confirm(&mut self) -> Result<(), Failure> {
        let mut waited = Duration::ZERO;
        while !self.interrupt.is_set() {
            let slice =
                self.timeout.map_or(LOOK_EVERY, |timeout| LOOK_EVERY.min(timeout.saturating_sub(waited)));
            match self.producer.confirm_all_timeout(slice) {
                Ok(_) => return Ok(()),
                Err(ConfirmError::Timeout { .. }) if self.timeout.is_none_or(|timeout| waited < timeout) => {
                    waited += slice;
                }
                Err(error) => return Err(Failure::new(error)),
            }
        }
        Err(Failure::Interrupted)
    }

    fn summary(&self, confirmed: bool) -> String {
        let stream = self.producer.stream();
        // Where there are other producers, their messages may be in between.
        let messages =
            if self.messages == 0 { "no messages".to_owned() } else { count(self.messages, "message") };
        let positions = |&(first, last)| {
            if first == last { format!("position {first}") } else { format!("positions {first} to {last}") }
        };
        let several = self.producer.settings().partitions > 1;
        let places: Vec<_> = (self.published.iter())
            .map(|(partition, range)| match several {
                true => format!("partition {partition} {}", positions(range)),
                false => positions(range),
            })
            .collect();
        let separator = if places.is_empty() { "" } else { ", " };
        let asked = self.producer.settings().durability.max(self.attributes.least_durability());
        let level = match asked {
            level if self.messages == 0 || level == Durability::Memory => String::new(),
            level if confirmed => format!(", {}", level.name()),
            level => format!(", not known to be {}", level.name()),
        };
        let already = match self.there_already {
            0 => String::new(),
            already => format!("; {} there already", count(already, "message")),
        };
        format!("published {messages} to {stream}{separator}{}{level}{already}", places.join(", "))
    }
}

/// How long was waited in vain; `None` when that is not what happened.
fn waited_of(error: &mut SendError) -> Option<&mut Duration> {
    match error {
        SendError::Full { waited, .. } | SendError::Stalled { waited, .. } => waited.as_mut(),
        _ => None,
    }
}

/// Messages of a fixed size that open with a counter.
#[derive(Debug, Clone, Copy)]
struct Generated {
    count: u64,
    size: usize,
    digits: usize,
}

impl Generated {
    fn new(count: u64, size: usize) -> Result<Self, Failure> {
        let needed = count.saturating_sub(1).to_string().len();
        if size < needed {
            let message = format!(
                "the counter of {} needs {}, --size gives {size}: choose a larger --size",
                output::count(count, "message"),
                output::count(needed as u64, "byte")
            );
            return Err(Failure::with(Exit::Usage, message));
        }
        Ok(Self { count, size, digits: size.min(COUNTER_DIGITS_MAX) })
    }

    fn write(&self, number: u64, payload: &mut Vec<u8>) {
        payload.clear();
        payload.extend_from_slice(format!("{number:0width$}", width = self.digits).as_bytes());
        payload.resize(self.size, b'.');
    }
}

/// The lines of a file or of standard input, as they come.
struct Lines {
    reader: BufReader<Box<dyn Read>>,
    interrupt: Interrupt,
    name: String,
    number: u64,
}

impl Lines {
    fn open(path: &Path, interrupt: &Interrupt) -> Result<Self, Failure> {
        let (name, source): (_, Box<dyn Read>) = if path == Path::new("-") {
            // Not `std::io::Stdin`, which waits where a signal is not noticed.
            let input = io::stdin().as_fd().try_clone_to_owned().map(File::from);
            let input =
                input.map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
            ("standard input".to_owned(), Box::new(Patient { input, interrupt: interrupt.clone() }))
        } else {
            let name = path.display().to_string();
            let input =
                File::open(path).map_err(|error| Failure::new(format!("cannot open {name}: {error}")))?;
            (name, Box::new(Patient { input, interrupt: interrupt.clone() }))
        };
        Ok(Self {
            reader: BufReader::with_capacity(1 << 16, source),
            interrupt: interrupt.clone(),
            name,
            number: 0,
        })
    }

    /// Reads the next line into `line`, without its newline; false at the end.
    fn next(&mut self, line: &mut Vec<u8>, bytes_max: usize, stream: &str) -> Result<bool, Failure> {
        line.clear();
        let limit = bytes_max as u64 + 1;
        let read = (&mut self.reader).take(limit).read_until(b'\n', line);
        if self.interrupt.is_set() {
            return Err(Failure::Interrupted);
        }
        let bytes = read.map_err(|error| Failure::new(format!("cannot read {}: {error}", self.name)))?;
        if bytes == 0 {
            return Ok(false);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.len() > bytes_max {
            return Err(Failure::new(format!(
                "line {} of {} is longer than {}, the most that a message of stream {stream} holds: declare \
                 it with a larger one (ringway stream create NAME --max-payload B)",
                self.number,
                self.name,
                count(bytes_max as u64, "byte")
            )));
        }
        Ok(true)
    }
}

/// A file or pipe whose reads end when a signal comes: then it looks as if it were at its end.
struct Patient {
    input: File,
    interrupt: Interrupt,
}

impl Read for Patient {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.wait_readable(&self.input)? { self.input.read(bytes) } else { Ok(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &'static [u8]) -> Lines {
        let reader = BufReader::with_capacity(4, Box::new(text) as Box<dyn Read>);
        Lines { reader, interrupt: Interrupt::default(), name: "F".into(), number: 0 }
    }

    fn all(text: &'static [u8], bytes_max: usize) -> Result<Vec<Vec<u8>>, Failure> {
        let (mut lines, mut line, mut found) = (lines(text), Vec::new(), Vec::new());
        while lines.next(&mut line, bytes_max, "s")? {
            found.push(line.clone());
        }
        Ok(found)
    }

    #[test]
    fn lines_are_bytes_and_the_last_needs_no_newline() {
        assert_eq!(all(b"one\n\n\xff\r\nlast", 8).unwrap(), [&b"one"[..], b"", b"\xff\r", b"last"]);
        assert!(all(b"", 8).unwrap().is_empty());
        assert_eq!(all(b"\n", 8).unwrap(), [b""]);
    }

    #[test]
    fn a_line_may_fill_a_message_and_one_byte_more_is_an_error_with_its_number() {
        assert_eq!(all(b"12345\n12345", 5).unwrap().len(), 2);
        let Err(Failure::Failed { message, exit: Exit::Failure }) = all(b"1\n123456\n", 5) else { panic!() };
        assert!(message.starts_with("line 2 of F is longer than 5 bytes"), "{message}");
    }

    #[test]
    fn generated_messages_count_in_a_fixed_size() {
        let mut payload = Vec::new();
        Generated::new(1000, 3).unwrap().write(7, &mut payload);
        assert_eq!(payload, b"007");
        Generated::new(1000, 24).unwrap().write(7, &mut payload);
        assert_eq!(payload, b"00000000000000000007....");
        assert!(matches!(Generated::new(1001, 3), Err(Failure::Failed { exit: Exit::Usage, .. })));
    }
}
