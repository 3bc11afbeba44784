//! Requests and replies on the control socket.
//!
//! Names travel as bytes: the broker checks them, so that one that is no UTF-8 gets an answer that says so.

use serde::{Deserialize, Serialize};

use crate::words::CursorWord;

/// What kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// Any number of subscriptions.
    Topic,
}

/// The settings of a stream, as declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSettings {
    /// What kind.
    pub kind: StreamKind,
    /// Slots of each partition's ring: a power of two.
    pub slots: u64,
    /// Bytes of a slot: a power of two from 64 to 4096.
    pub slot_bytes: u32,
}

/// Where a new subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// At the oldest message that is still there.
    First,
    /// Behind the newest message.
    Next,
}

/// A stream as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: StreamSettings,
    /// The shard that owns it.
    pub shard: u32,
    /// Whether its ring has been made: it is when the stream is first opened.
    pub opened: bool,
    /// First position that the ring still holds.
    pub first_position: u64,
    /// Position that the next message gets.
    pub next_position: u64,
    /// Process id of its producer.
    pub producer_pid: Option<u32>,
    /// Number of subscriptions.
    pub subscriptions: u32,
    /// The subscription that is furthest behind.
    pub slowest: Option<Lag>,
}

/// How far a subscription is behind the end of its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// The subscription's name.
    pub subscription: String,
    /// Messages between its position and the end.
    pub messages: u64,
}

/// A subscription as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionInfo {
    /// Its stream.
    pub stream: String,
    /// Its name.
    pub name: String,
    /// First position that it has not consumed.
    pub position: u64,
    /// Messages between its position and the end of the stream.
    pub lag: u64,
    /// Process id of its consumer.
    pub consumer_pid: Option<u32>,
}

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Makes a stream, or confirms that it exists with these settings.
    DeclareStream {
        /// Its name.
        name: Vec<u8>,
        /// Its settings.
        settings: StreamSettings,
    },
    /// Describes one stream.
    DescribeStream {
        /// Its name.
        name: Vec<u8>,
    },
    /// Describes the streams whose names come behind `after`, in order, a page at a time.
    ListStreams {
        /// Last name of the page before; empty for the first page.
        after: Vec<u8>,
    },
    /// Removes a stream that nobody has open, with its subscriptions.
    DeleteStream {
        /// Its name.
        name: Vec<u8>,
    },
    /// Makes a `cursor` subscription, or confirms that it exists.
    DeclareSubscription {
        /// Its stream.
        stream: Vec<u8>,
        /// Its name.
        name: Vec<u8>,
        /// Where it starts if it is new.
        start: StartAt,
    },
    /// Describes one subscription.
    DescribeSubscription {
        /// Its stream.
        stream: Vec<u8>,
        /// Its name.
        name: Vec<u8>,
    },
    /// Describes all subscriptions of a stream: at most 64.
    ListSubscriptions {
        /// The stream.
        stream: Vec<u8>,
    },
    /// Removes a subscription that nobody has open.
    DeleteSubscription {
        /// Its stream.
        stream: Vec<u8>,
        /// Its name.
        name: Vec<u8>,
    },
    /// Opens a stream as its one producer.
    OpenProducer {
        /// The stream.
        stream: Vec<u8>,
    },
    /// Opens a subscription as its one consumer.
    OpenConsumer {
        /// The stream.
        stream: Vec<u8>,
        /// The subscription.
        subscription: Vec<u8>,
    },
    /// Asks for the region behind a gate, to see how far it is.
    OpenGate {
        /// The producer's endpoint.
        endpoint: u64,
        /// Index of the gate.
        gate: u8,
        /// Generation of the gate.
        generation: u16,
    },
    /// Gives up an endpoint: the client has stopped using its regions.
    Close {
        /// The endpoint.
        endpoint: u64,
    },
    /// Ends the broker.
    Stop,
}

/// What a producer is given, beside the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerGrant {
    /// Names the opened producer in this session.
    pub endpoint: u64,
    /// The incarnation of the ring.
    pub incarnation: u64,
    /// Slots of the ring.
    pub slots: u64,
    /// Bytes of a slot.
    pub slot_bytes: u32,
    /// The owner id to take slots with.
    pub owner: u32,
    /// The true end: the position that the next message gets.
    pub position: u64,
}

/// What a consumer is given, beside the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerGrant {
    /// Names the opened consumer in this session.
    pub endpoint: u64,
    /// The incarnation of the ring.
    pub incarnation: u64,
    /// Slots of the ring.
    pub slots: u64,
    /// Bytes of a slot.
    pub slot_bytes: u32,
    /// The cursor word, packed: see [`ConsumerGrant::cursor`].
    pub cursor: u64,
}

impl ConsumerGrant {
    /// The cursor as the shard gave it to this consumer.
    pub fn cursor(&self) -> CursorWord {
        CursorWord::unpack(self.cursor)
    }
}

/// Why a request was not carried out, by sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RefusalCode {
    /// A name, a number or a descriptor that cannot be.
    Invalid,
    /// No such stream, subscription, endpoint or gate.
    NotFound,
    /// Exists with other settings.
    Conflict,
    /// Somebody has it open.
    InUse,
    /// A limit was reached: gates, descriptors, memory.
    Limit,
    /// The peer may not do this.
    Denied,
    /// The broker is ending.
    Stopping,
}

/// Why a request was not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The sort.
    pub code: RefusalCode,
    /// What happened, with figures, and what to do.
    pub message: String,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; nothing to say.
    Done,
    /// A stream.
    Stream(StreamInfo),
    /// A page of streams.
    Streams {
        /// In order of their names.
        page: Vec<StreamInfo>,
        /// There are more behind the last.
        more: bool,
    },
    /// A subscription.
    Subscription(SubscriptionInfo),
    /// All subscriptions of a stream, in order of their names.
    Subscriptions(Vec<SubscriptionInfo>),
    /// A producer was opened: four descriptors.
    Producer(ProducerGrant),
    /// A consumer was opened: three descriptors.
    Consumer(ConsumerGrant),
    /// The region behind a gate: one descriptor.
    Gate,
    /// Not done.
    Refused(Refusal),
}
