//! `ringway sub`: prints the messages of a stream as one of its subscriptions.
//!
//! What always holds:
//!
//! 1. A message is committed only after it was written. The consumer commits by itself what it returned before,
//!    when it finds the stream empty or holds much; so everything is written before a call that may do so, and a
//!    consumer that could not write is left to the kernel instead of being closed, which would commit.
//! 2. Output is written as soon as the reader has caught up, and in batches while it has not.

use std::io::Write;
use std::time::{Duration, Instant};

use ringway_client::{Connection, Consumer, Message};

use crate::cli::{Format, SubArgs};
use crate::exit::{Exit, Failure};
use crate::interrupt::{Interrupt, LOOK_EVERY};
use crate::output::{self, Output, WHOLE_BYTES};

/// Most messages between two writes, as a part of the ring and at all: half of what the consumer commits by itself.
const BATCH_PART_OF_CAPACITY: u64 = 16;
const BATCH_MESSAGES_MAX: u64 = 128;

/// Runs the command.
pub(crate) fn run(args: SubArgs, connection: &Connection) -> Result<(), Failure> {
    let interrupt = Interrupt::catch().map_err(|error| Failure::new(format!("cannot catch signals: {error}")))?;
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let (stream, subscription) = (args.stream.as_str(), args.subscription.as_str());
    connection.declare_subscription(stream, subscription, args.from.into())?;
    let capacity = connection.stream(stream)?.settings.slots;
    let consumer = connection.consumer(stream, subscription).open()?;
    let output = Output::stdout(interrupt.clone())?;

    let mut subscriber = Subscriber {
        connection,
        batch_messages_max: (capacity / BATCH_PART_OF_CAPACITY).clamp(1, BATCH_MESSAGES_MAX),
        consumer,
        output,
        interrupt,
        deadline,
        format: args.format,
        left: args.count,
    };
    let result = subscriber.print();
    if subscriber.everything_is_written() {
        let closed = subscriber.consumer.close();
        result?;
        return Ok(closed?);
    }
    // Closing would commit what nobody has seen. The kernel closes the session when this process ends, which is next.
    std::mem::forget(subscriber.consumer);
    result
}
