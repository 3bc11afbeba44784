//! The client of Ringway, the message broker for one host: producers, consumers, administration.
//!
//! ```no_run
//! use ringway_client::{Connection, StartAt, StreamSettings, directory};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let connection = Connection::open(directory::default_directory())?;
//! connection.declare_stream("orders", StreamSettings::default())?;
//! connection.declare_subscription("orders", "billing", StartAt::Next)?;
//!
//! let mut producer = connection.producer("orders").open()?;
//! producer.send(b"one pizza")?;
//!
//! let mut consumer = connection.consumer("orders", "billing").open()?;
//! let message = consumer.recv()?;
//! println!("{}: {}", message.position(), String::from_utf8_lossy(message.payload()));
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`directory`] | where a broker is looked for when nothing else is said |
//! | connection | administration, and the way to producers and consumers |
//! | session | packets to the broker and back, one request at a time |
//! | outage | looking for another broker, and going on there |
//! | outgoing | a message to be sent |
//! | clock | the time of day, cheaply |
//! | producer | publishing into a stream: the user's side |
//! | lane | publishing into one partition's ring |
//! | loan | memory to write a payload into where its readers will read it |
//! | space | who holds a full stream |
//! | partitions | the partitions of a consumer: in turn, and waited for together |
//! | consumer | reading a stream as one subscription: the user's side |
//! | reading | reading one partition's ring in order |
//! | backlog | what the ring has no longer: read from the journal, a page at a time |
//! | message | what a consumer returns, borrowed or held |
//! | shared_consumer | consuming a queue, or a stream as one of several: the user's side |
//! | sharing | claiming and settling messages of one partition |
//! | delivery | what a shared consumer returns, to be settled |
//! | memory | the memory of payloads beyond a slot, as the broker gives and takes it |
//! | endpoint | what producers and consumers have in common: being granted and given back |
//! | wait | how a producer waits for space and a consumer for messages |
//! | wait_set | waiting for many consumers at once |
//! | confirm | waiting until messages, and what was settled, are as durable as their stream |
//! | task | the face for tasks and event loops: futures, streams, descriptors |
//! | typed | values instead of payloads |
//! | protocol | what of the protocol is the client's, too |
//! | error | one error type per operation |
//!
//! What always holds:
//!
//! 1. Messages go from producer to consumer through shared memory. The broker is asked only to open and close,
//!    to administer, and to name who holds a full stream: it may be slow or gone while messages flow.
//! 2. Sending and receiving make no system call and allocate nothing, unless somebody sleeps or the ring is
//!    full or empty.
//! 3. Delivery is at least once: what a consumer has not committed, or not acked, is delivered again.
//! 4. A handle that a forked child inherited does nothing and says so: open a new [`Connection`] there.
//!
//! Every call here blocks at most for the time that it states; none may be used in a signal handler.

#![forbid(unsafe_code)]

mod backlog;
mod clock;
mod confirm;
mod connection;
mod consumer;
mod delivery;
pub mod directory;
mod endpoint;
mod error;
mod lane;
mod loan;
mod memory;
mod message;
mod outage;
mod outgoing;
mod partitions;
mod producer;
mod protocol;
mod reading;
mod session;
mod shared_consumer;
mod sharing;
mod space;
mod task;
mod typed;
mod wait;
mod wait_set;

pub use confirm::Confirmation;
pub use connection::{Connection, ConnectionBuilder};
pub use consumer::{Consumer, ConsumerBuilder};
pub use delivery::{Delivery, Leased};
pub use error::{
    AdminError, CloseError, ConfirmError, ConnectError, HoldError, OpenError, ProtocolError, RecvError,
    SendBatchError, SendError, SendLoanError, SettleError, WaitError,
};
pub use loan::Loan;
pub use message::{HeldMessage, Message, Position};
pub use outgoing::Outgoing;
pub use producer::{Producer, ProducerBuilder};
pub use protocol::*;
pub use shared_consumer::{SharedConsumer, SharedConsumerBuilder};
pub use task::{Deliveries, DeliveryStream, MessageStream, Messages, Readiness};
#[cfg(feature = "serde")]
pub use typed::Postcard;
pub use typed::{
    Codec, CodecError, Plain, Typed, TypedConsumer, TypedProducer, TypedRecvError, TypedSendError,
    TypedSharedConsumer,
};
pub use wait::WaitStrategy;
pub use wait_set::{ConsumerKey, WaitSet};
