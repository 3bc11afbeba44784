//! `ringway sub` of a `shared` subscription, or of a queue.
//!
//! What always holds: a message is acked only after it was written. What could not be written is given back untouched.

use ringway_client::{Connection, Delivery, Leased, SettleError, SharedConsumer, StreamSettings};

use super::writer::{Printed, Writer};
use super::{AT_ONCE, Patience, check_count};
use crate::cli::SubArgs;
use crate::exit::Failure;
use crate::output::{Output, WHOLE_BYTES, say};

/// Most messages between two writes.
const BATCH_MESSAGES_MAX: u64 = 128;

/// Prints the messages of a subscription that is there.
pub(super) fn run(
    args: &SubArgs,
    connection: &Connection,
    subscription: &str,
    settings: &StreamSettings,
    patience: Patience,
) -> Result<(), Failure> {
    let mut subscriber = Subscriber {
        consumer: connection.shared_consumer(args.stream.as_str(), subscription).wait(AT_ONCE).open()?,
        output: patience.output()?,
        patience,
        writer: Writer { format: args.format, several: settings.partitions > 1 },
        acks: !args.no_ack,
        batch: Vec::new(),
        printed: 0,
        count: args.count.unwrap_or(u64::MAX),
    };
    let result = subscriber.print();
    let (printed, consumer) = (subscriber.printed, subscriber.consumer);
    if args.no_ack && !args.release {
        // Closing would give back what was printed. The kernel ends the session with this process, which is next.
        std::mem::forget(consumer);
        result?;
    } else {
        let closed = consumer.close();
        result?;
        closed?;
    }
    check_count(args, printed)
}

/// A consumer that prints.
struct Subscriber {
    consumer: SharedConsumer,
    output: Output,
    patience: Patience,
    writer: Writer,
    acks: bool,
    /// What is printed with the next write.
    batch: Vec<Leased>,
    printed: u64,
    count: u64,
}

impl Subscriber {
    /// Prints until the count is reached or the time is over.
    fn print(&mut self) -> Result<(), Failure> {
        while self.printed < self.count && self.receive_first()? {
            self.receive_rest()?;
            self.output.flush()?;
            self.printed += self.batch.len() as u64;
            for message in self.batch.drain(..) {
                if self.acks {
                    match self.consumer.ack(&message) {
                        // It was printed, and will be once more, here or elsewhere.
                        Err(late @ SettleError::Late { .. }) => say(&late.to_string()),
                        acked => acked?,
                    }
                }
            }
            if self.patience.is_over() {
                break;
            }
        }
        Ok(())
    }

    /// Waits for a message; false when the time is over.
    fn receive_first(&mut self) -> Result<bool, Failure> {
        while let Some(slice) = self.patience.next_wait(&self.output)? {
            let kept = self.consumer.recv_timeout(slice)?.map(Delivery::keep);
            if let Some(message) = kept {
                self.add(message);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Receives what is there, as much as one write takes.
    fn receive_rest(&mut self) -> Result<(), Failure> {
        let most = (self.count - self.printed).min(BATCH_MESSAGES_MAX);
        while (self.batch.len() as u64) < most && self.output.buffered_bytes() < WHOLE_BYTES / 2 {
            let Some(message) = self.consumer.try_recv()?.map(Delivery::keep) else { break };
            self.add(message);
        }
        Ok(())
    }

    fn add(&mut self, message: Leased) {
        let printed = Printed {
            at: message.position(),
            attempt: Some(message.attempt()),
            attributes: message.attributes(),
            payload: message.payload(),
        };
        self.writer.write(self.output.buffer(), printed);
        self.batch.push(message);
    }
}
