//! Errors of publishing, and of waiting until that is confirmed.

use std::time::Duration;

use ringway_shm_protocol::attributes::AttributesError;
use ringway_shm_protocol::ring::PublishError;
use ringway_shm_protocol::text::{count, thousands};
use thiserror::Error;

use super::connection::OpenError;
use super::receive::{RecvError, SettleError};
use crate::loan::Loan;
use crate::outage::Lost;

/// Why messages are not confirmed (yet). They are published all the same; whether they would survive is not known.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use std::time::Duration;
/// use ringway_client::ConfirmError;
///
/// let mut producer = connection.producer("payments").open()?;
/// let position = producer.send("42 EUR")?;
/// match producer.confirm_timeout(position, Duration::from_secs(1)) {
///     Ok(level) => println!("it is {}", level.name()),
///     Err(ConfirmError::Timeout { confirmed, .. }) => println!("not yet: everything below {confirmed} is"),
///     Err(error) => println!("whether it would survive is unknown: {error}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// It takes longer.
    #[error(
        "position {position} of stream {stream} is not {level} after {waited:?}: everything below {confirmed} is; wait on, or \
         look at: ringway stream show {stream}"
    )]
    Timeout {
        /// The stream.
        stream: String,
        /// What it was to be.
        level: &'static str,
        /// The message that was waited for.
        position: u64,
        /// Everything below is confirmed.
        confirmed: u64,
        /// How long was waited.
        waited: Duration,
    },
    /// What was settled is not journaled yet.
    #[error(
        "what was settled on stream {stream} is not {level} after {waited:?}; wait on, or look at: ringway stream show {stream}"
    )]
    Unsettled {
        /// The stream.
        stream: String,
        /// What it was to be.
        level: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// Positions could not be committed.
    #[error(transparent)]
    Commit(Box<RecvError>),
    /// Verdicts were not judged.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// The journal has no room for more.
    #[error(
        "stream {stream} confirms nothing: there is no room for its journal ({why}); make room, or consume what is there"
    )]
    NoRoom {
        /// The stream.
        stream: String,
        /// What the broker says.
        why: String,
    },
    /// The journal has stopped.
    #[error(
        "stream {stream} confirms nothing any more: its journal has stopped ({why}); restart the broker when the disk is in order"
    )]
    JournalFailed {
        /// The stream.
        stream: String,
        /// What the broker says.
        why: String,
    },
    /// The broker is gone, or was replaced. What was sent to it and not confirmed may be lost, or not: send it again, best under a
    /// [name](crate::ProducerBuilder::name) and with [sequences](crate::Outgoing::sequence), so that nothing is there twice. What a
    /// consumer has settled and not confirmed comes again, or not. Positions from before count no more.
    #[error(
        "it is not known what of stream {stream} is confirmed: the broker is gone, or was replaced; send again what was not \
         confirmed"
    )]
    Disconnected {
        /// The stream.
        stream: String,
    },
    /// A position of a partition that the stream does not have.
    #[error("stream {stream} has no partition {partition}: it has {partitions}")]
    Partition {
        /// The stream.
        stream: String,
        /// The partition.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The producer was opened by a process before it forked.
    #[error("this producer was opened before fork(): open one in this process")]
    Forked,
}

impl ConfirmError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unsettled { .. } | Self::NoRoom { .. } => true,
            Self::Settle(error) => error.is_retryable(),
            _ => false,
        }
    }
}

/// Why a message was not sent. It is not in the stream.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::SendError;
///
/// let mut producer = connection.producer("orders").open()?;
/// match producer.try_send("one pizza") {
///     Ok(position) => println!("at {position}"),
///     Err(SendError::Full { subscription, lag, .. }) => println!("{subscription:?} is {lag} behind"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// A subscription holds the ring.
    #[error("{}", full_text(.stream, .subscription.as_deref(), *.consumer_pid, *.lag, *.capacity, *.waited))]
    Full {
        /// The stream.
        stream: String,
        /// The subscription that holds it; `None` when the broker could not be asked.
        subscription: Option<String>,
        /// Process id of that subscription's consumer, if it has one.
        consumer_pid: Option<u32>,
        /// How many messages that subscription is behind.
        lag: u64,
        /// How many messages the ring holds.
        capacity: u64,
        /// How long was waited; `None`: not at all.
        waited: Option<Duration>,
    },
    /// Another producer is in the middle of a message that it began a whole lap ago: it is stopped, or hangs.
    #[error(
        "stream {stream} is stalled: its producer with owner id {owner} has not finished the message that it began a \
         whole ring ago{}; let it go on, or end it",
        .waited.map_or_else(String::new, |waited| format!(" (waited {waited:?})"))
    )]
    Stalled {
        /// The stream.
        stream: String,
        /// Owner id of that producer.
        owner: u32,
        /// How long was waited; `None`: not at all.
        waited: Option<Duration>,
    },
    /// The payload is larger than the stream's settings allow.
    #[error(
        "a payload of {bytes} bytes is too large for stream {stream}: {bytes_max} at the most; declare the stream with a \
         larger limit"
    )]
    TooLarge {
        /// The stream.
        stream: String,
        /// Bytes of the payload.
        bytes: usize,
        /// Most bytes that fit.
        bytes_max: usize,
    },
    /// The attributes cannot be sent.
    #[error("a message for stream {stream} has attributes that cannot be: {source}")]
    Attributes {
        /// The stream.
        stream: String,
        /// Why not.
        source: AttributesError,
    },
    /// The journal has no room for more.
    #[error(
        "stream {stream} takes no messages: there is no room for its journal ({why}); make room on the disk, or consume what \
         is there"
    )]
    NoRoom {
        /// The stream.
        stream: String,
        /// What the broker says.
        why: String,
    },
    /// The journal has stopped.
    #[error(
        "stream {stream} takes no messages: its journal has stopped ({why}); restart the broker when the disk is in order"
    )]
    JournalFailed {
        /// The stream.
        stream: String,
        /// What the broker says.
        why: String,
    },
    /// The message says which one it is, and the producer has no name.
    #[error(
        "message {sequence} of a producer without a name was not sent to stream {stream}: nobody could ask for it later; open \
         the producer with a name"
    )]
    NoName {
        /// The stream.
        stream: String,
        /// Which message it is.
        sequence: u64,
    },
    /// The stream has this message of the producer's already, or a later one. Nothing was sent.
    #[error(
        "stream {stream} has message {sequence} of this producer already: the last is {last}, at position {position}"
    )]
    AlreadySent {
        /// The stream, and the partition if it has several.
        stream: String,
        /// Which message it is.
        sequence: u64,
        /// The last one that is there.
        last: u64,
        /// Its position.
        position: u64,
    },
    /// A durability was asked for that the stream does not have.
    #[error(
        "durability {asked} cannot be had on stream {stream}: it is of durability memory, nothing of it is written to the \
         device; declare a stream with --durability written or synced"
    )]
    Durability {
        /// The stream.
        stream: String,
        /// What was asked for.
        asked: &'static str,
    },
    /// The stream has used up its positions.
    #[error("stream {stream} has used up all its {positions} positions: declare a new one")]
    Exhausted {
        /// The stream.
        stream: String,
        /// How many it had.
        positions: u64,
    },
    /// Somebody is to be waited for, and the broker is gone: there was no other one for as long as the
    /// [connection](crate::ConnectionBuilder::reconnect_within) may look for one, or this call may wait. The next call looks again.
    /// A durable stream waits for the broker, any other for whoever holds it full.
    #[error("stream {stream} takes no more and the broker is gone: start it again")]
    Disconnected {
        /// The stream.
        stream: String,
    },
    /// The broker was replaced, and the producer could not be opened at the new one. The next call tries again.
    #[error(
        "the broker was replaced, and the producer of stream {stream} cannot be opened at the new one: {source}"
    )]
    Reopen {
        /// The stream.
        stream: String,
        /// Why not.
        source: OpenError,
    },
    /// The stream is full, and what the broker handed over to see how far its readers are cannot be used.
    #[error("stream {stream} is full and its readers cannot be looked at: {source}")]
    Gate {
        /// The stream.
        stream: String,
        /// What is wrong.
        source: OpenError,
    },
    /// The broker gave no memory for a payload that does not fit a slot.
    #[error("stream {stream} has no memory for a payload of {bytes} bytes: {source}")]
    Memory {
        /// The stream.
        stream: String,
        /// Bytes of the payload.
        bytes: usize,
        /// Why not.
        source: OpenError,
    },
    /// All memory that this producer may have for payloads beyond a slot is in use.
    #[error(
        "stream {stream} has no block of {bytes} bytes left: the {arenas_bytes} bytes of this producer are in loans, or in \
         messages that consumers hold in place; drop some, or declare the stream with a larger largest payload"
    )]
    NoBlock {
        /// The stream.
        stream: String,
        /// Bytes of the payload.
        bytes: usize,
        /// Bytes of this producer's arenas.
        arenas_bytes: u64,
    },
    /// The loan is another producer's.
    #[error("this loan was not made by this producer of stream {stream}: send it by the one that made it")]
    ForeignLoan {
        /// The stream.
        stream: String,
    },
    /// The loan belongs to another partition than the key of its message.
    #[error(
        "this loan is of partition {loan} of stream {stream}, and its message's key belongs to partition {key}: take it for \
         that key"
    )]
    LoanPartition {
        /// The stream.
        stream: String,
        /// The loan's partition.
        loan: u32,
        /// The key's partition.
        key: u32,
    },
    /// The ring refused for a reason that this client does not know.
    #[error("could not publish to stream {stream}: {source}")]
    Publish {
        /// The stream.
        stream: String,
        /// What the ring said.
        source: PublishError,
    },
    /// This process is a fork of the one that opened the producer.
    #[error("this producer belongs to the parent process: open a new connection in the forked child")]
    Forked,
}

impl SendError {
    /// Whether the same call may succeed later: the stream was full or stalled, or memory, or the disk, may have room then.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Stalled { .. } | Self::NoBlock { .. } | Self::NoRoom { .. } => true,
            Self::Memory { source, .. } | Self::Reopen { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// Whether the broker is gone.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Disconnected { .. } => true,
            Self::Memory { source, .. } | Self::Gate { source, .. } => source.is_lost(),
            _ => false,
        }
    }
}

/// Why a loan was not sent. It is here, as it was.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut producer = connection.producer("frames").open()?;
/// let loan = producer.loan(1 << 20)?;
/// if let Err(error) = producer.send_loan(loan) {
///     println!("not sent: {}", error.source);
///     producer.send_loan(*error.loan)?; // It is still what it was.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[error("{source}")]
pub struct SendLoanError {
    /// The loan.
    pub loan: Box<Loan>,
    /// Why it is not in the stream.
    pub source: SendError,
}

impl SendLoanError {
    /// Whether the same loan may be sent later.
    pub fn is_retryable(&self) -> bool {
        self.source.is_retryable()
    }
}

fn full_text(
    stream: &str,
    subscription: Option<&str>,
    consumer_pid: Option<u32>,
    lag: u64,
    capacity: u64,
    waited: Option<Duration>,
) -> String {
    let held = subscription.map_or_else(
        || "a subscription".to_owned(),
        |name| {
            let consumer = consumer_pid.map_or("no consumer".to_owned(), |pid| format!("process {pid}"));
            format!("subscription {name} ({consumer})")
        },
    );
    let waited = waited.map_or_else(String::new, |waited| format!(" (waited {waited:?})"));
    let (lag, slots) = (thousands(lag), count(capacity, "slot"));
    format!(
        "stream {stream} is full: held by {held}, {lag} behind of {slots}{waited}; start or speed up its \
         consumer, delete the subscription, or declare the stream with more slots"
    )
}

/// Why a batch was sent in part or not at all.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut producer = connection.producer("orders").open()?;
/// let orders = ["one", "two", "three"];
/// if let Err(error) = producer.send_batch(orders) {
///     println!("{:?} are not sent: {}", &orders[error.sent..], error.source);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[error("{} of the batch went out, the next did not: {source}", count(*.sent as u64, "message"))]
pub struct SendBatchError {
    /// How many messages, from the first on, are in the stream.
    pub sent: usize,
    /// Why the next one is not.
    pub source: SendError,
}

impl SendBatchError {
    /// Whether the rest of the batch may be sent later: the stream was full.
    pub fn is_retryable(&self) -> bool {
        self.source.is_retryable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_stream_names_who_holds_it_and_by_how_much() {
        let error = SendError::Full {
            stream: "orders".to_owned(),
            subscription: Some("billing".to_owned()),
            consumer_pid: Some(4711),
            lag: 16_384,
            capacity: 16_384,
            waited: Some(Duration::from_millis(250)),
        };
        assert_eq!(
            error.to_string(),
            "stream orders is full: held by subscription billing (process 4711), 16,384 behind of 16,384 slots (waited 250ms); \
             start or speed up its consumer, delete the subscription, or declare the stream with more slots"
        );
        assert!(error.is_retryable());
    }
}
