//! `ringway sub` of a `cursor` subscription.
//!
//! What always holds:
//!
//! 1. A message is committed only after it was written. The consumer commits by itself what it returned before,
//!    when it finds the stream empty, or holds much, or holds one that did not fit a slot; so everything is written before a call that may do so, and a
//!    consumer that could not write is left to the kernel instead of being closed, which would commit.
//! 2. Output is written as soon as the reader has caught up, and in batches while it has not.

use ringway_client::{Connection, Consumer, Message, Position, StreamInfo, StreamSettings};

use super::writer::{Printed, Writer};
use super::{AT_ONCE, Patience, check_count};
use crate::cli::SubArgs;
use crate::exit::Failure;
use crate::output::{Output, WHOLE_BYTES};

/// Most messages between two writes: as a part of the ring, and at all. Half of what a consumer returns before it
/// commits by itself.
const BATCH_PART_OF_CAPACITY: u64 = 16;
const BATCH_MESSAGES_MAX: u64 = 128;

/// Prints the messages of a subscription that is there.
pub(super) fn run(
    args: &SubArgs,
    connection: &Connection,
    subscription: &str,
    settings: &StreamSettings,
    patience: Patience,
) -> Result<(), Failure> {
    let (capacity, several) = (settings.slots, settings.partitions > 1);
    let mut subscriber = Subscriber {
        // Nobody who reads text notices the microseconds that looking on would save.
        consumer: connection.consumer(args.stream.as_str(), subscription).wait(AT_ONCE).open()?,
        connection,
        output: patience.output()?,
        patience,
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
    check_count(args, printed)
}

/// A consumer that prints.
struct Subscriber<'a> {
    connection: &'a Connection,
    consumer: Consumer,
    output: Output,
    patience: Patience,
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
            if self.patience.is_over() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits for a message while everything before it is written; false when the time is over.
    fn receive_first(&mut self) -> Result<bool, Failure> {
        while let Some(slice) = self.patience.next_wait(&self.output)? {
            if let Some(message) = self.consumer.recv_timeout(slice)? {
                self.all_written = false;
                self.printed += 1;
                self.writer.write(self.output.buffer(), printed(&message));
                self.all_inline = message.is_inline();
                return Ok(true);
            }
        }
        Ok(false)
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
            self.writer.write(self.output.buffer(), printed(&message));
            left -= 1;
            self.all_inline = message.is_inline();
        }
        Ok(())
    }

    fn batched(&self) -> u64 {
        u64::from(!self.all_written)
    }
}

fn printed<'a>(message: &'a Message<'_>) -> Printed<'a> {
    let at = Position { partition: message.partition(), position: message.position() };
    Printed { at, attempt: None, attributes: message.attributes(), payload: message.payload() }
}
