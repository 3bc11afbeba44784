//! Requests and replies on the control socket.
//!
//! Names travel as bytes: the broker checks them, so that one that is no UTF-8 gets an answer that says so.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::layout::{CAPACITY_DEFAULT, SLOT_BYTES_DEFAULT};
use crate::ring::Blocks;
use crate::words::CursorWord;

/// What kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// Any number of subscriptions.
    Topic,
    /// One `shared` subscription, which has the stream's name: every message is kept until it is acked.
    Queue,
}

impl StreamKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Queue => "queue",
        }
    }
}

/// Longest lease, in milliseconds: twelve hours.
pub const LEASE_MS_MAX: u32 = 12 * 3600 * 1000;
/// Longest delay of a retry, in milliseconds: twelve hours.
pub const RETRY_MS_MAX: u32 = LEASE_MS_MAX;

/// How long a message waits after it has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// After the first failure, in milliseconds.
    pub initial_ms: u32,
    /// What each further failure multiplies the delay by, in percent: 200 doubles it. 100 to 10,000.
    pub multiplier_percent: u32,
    /// The longest delay, in milliseconds.
    pub max_ms: u32,
    /// Each delay is shortened by up to so many percent, so that what failed together is not tried together. 0 to 100.
    pub jitter_percent: u32,
}

impl Default for Backoff {
    /// At once after the first failure: no delay.
    fn default() -> Self {
        Self { initial_ms: 0, multiplier_percent: 200, max_ms: 600_000, jitter_percent: 0 }
    }
}

/// Which messages a subscription delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Every message, as soon as its producer has written it.
    #[default]
    Committed,
    /// Only what is on the device: what its consumers have seen is never lost, whatever dies. Not on a stream of durability
    /// `memory`.
    Durable,
}

impl Visibility {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Durable => "durable",
        }
    }
}

/// The settings of a `cursor` subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorSettings {
    /// Which messages it delivers.
    pub visibility: Visibility,
}

/// The settings of a `shared` subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSettings {
    /// How long a consumer may keep a message before it is delivered to another, in milliseconds: from 1 to
    /// [`LEASE_MS_MAX`]. It is looked at about once a second, and never ends early.
    pub lease_ms: u32,
    /// A message that has failed so often is dead; 0: never.
    pub attempts_max: u32,
    /// How long a nacked message waits.
    pub backoff: Backoff,
    /// Where dead messages go; without it they are dropped, and counted.
    pub dead_letter: Option<String>,
    /// Only one consumer at a time gets messages; when it ends, the next one takes over.
    pub single_active: bool,
    /// Which messages it delivers.
    pub visibility: Visibility,
}

impl Default for SharedSettings {
    /// Leases of 30 s, 20 attempts, no delay, no dead-letter stream, all consumers active, every message at once.
    fn default() -> Self {
        let (lease_ms, attempts_max, backoff) = (30_000, 20, Backoff::default());
        let (dead_letter, single_active, visibility) = (None, false, Visibility::default());
        Self { lease_ms, attempts_max, backoff, dead_letter, single_active, visibility }
    }
}

/// How a subscription's messages are given to its consumers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionMode {
    /// In order, to one consumer at a time for each partition.
    Cursor(CursorSettings),
    /// Each to one of several consumers, who ack them one by one.
    Shared(SharedSettings),
}

impl Default for SubscriptionMode {
    fn default() -> Self {
        Self::Cursor(CursorSettings::default())
    }
}

impl SubscriptionMode {
    /// Which messages it delivers.
    pub fn visibility(&self) -> Visibility {
        match self {
            Self::Cursor(settings) => settings.visibility,
            Self::Shared(settings) => settings.visibility,
        }
    }
}

/// Why a message is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeathReason {
    /// Nacked too often.
    Nacked,
    /// Rejected.
    Rejected,
    /// Too many leases ran out.
    Expired,
    /// Too many consumers died with it.
    Died,
}

impl DeathReason {
    /// Its name, as dead letters have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nacked => "nacked",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Died => "died",
        }
    }
}

/// Most process ids of producers that a description of a stream lists.
pub const PIDS_SHOWN_MAX: usize = 16;
/// Largest payload of a stream when nothing else is said, in bytes.
pub const PAYLOAD_BYTES_MAX_DEFAULT: u32 = 16 << 20;
/// Largest payload that any stream may be declared with, in bytes.
pub const PAYLOAD_BYTES_MAX: u32 = 1 << 30;

/// Who may publish to a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Producers {
    /// Any number of producers at the same time.
    #[default]
    Shared,
    /// One at a time: publishing is a little cheaper.
    Exclusive,
}

impl Producers {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        }
    }
}

/// What happens when the ring is full: its slowest subscription has not consumed the oldest message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The producer waits, for as long as it likes.
    #[default]
    Block,
    /// Publishing fails at once.
    Reject,
    /// The oldest message is overwritten; subscriptions that had not consumed it miss it, and learn how many.
    DropOldest,
    /// A subscription that holds the ring full for so long is detached, until its consumer has caught up with what is there and is
    /// attached again. On a stream of durability `memory` it misses what is overwritten meanwhile; on any other it gets that from the
    /// journal, which keeps it for so long.
    Detach {
        /// How long it may hold a producer up, in milliseconds.
        after_ms: u32,
    },
}

impl Overflow {
    /// Whether producers may overwrite what a consumer is reading, so that it must look again.
    pub fn may_overtake(self) -> bool {
        matches!(self, Self::DropOldest | Self::Detach { .. })
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block => formatter.write_str("block"),
            Self::Reject => formatter.write_str("reject"),
            Self::DropOldest => formatter.write_str("drop-oldest"),
            Self::Detach { after_ms } => {
                write!(formatter, "detach={:?}", Duration::from_millis((*after_ms).into()))
            }
        }
    }
}

/// What a stream's messages survive once they are confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The death of any process, the broker's too; not the host's.
    #[default]
    Memory,
    /// The same; the host's death may take what was handed to the kernel within the flush interval.
    Written,
    /// The host's death too: confirmed when the device has it.
    Synced,
}

impl Durability {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Written => "written",
            Self::Synced => "synced",
        }
    }
}

/// The settings of a stream, as declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSettings {
    /// What kind.
    pub kind: StreamKind,
    /// Partitions: each has a ring of its own, and is in order by itself. 1 to 64.
    pub partitions: u32,
    /// Slots of each ring: a power of two.
    pub slots: u64,
    /// Bytes of a slot: a power of two from 64 to 4096.
    pub slot_bytes: u32,
    /// Largest payload, in bytes: at most 1 GiB, or less by the broker's configuration.
    pub payload_bytes_max: u32,
    /// Who may publish.
    pub producers: Producers,
    /// What happens when a ring is full.
    pub overflow: Overflow,
    /// What confirmed messages survive.
    pub durability: Durability,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl StreamSettings {
    /// A topic of one partition with 16,384 slots of 128 bytes, payloads to 16 MiB, any number of producers, which wait.
    pub const DEFAULT: Self = Self {
        kind: StreamKind::Topic,
        partitions: 1,
        slots: CAPACITY_DEFAULT,
        slot_bytes: SLOT_BYTES_DEFAULT,
        payload_bytes_max: PAYLOAD_BYTES_MAX_DEFAULT,
        producers: Producers::Shared,
        overflow: Overflow::Block,
        durability: Durability::Memory,
    };

    /// Whether a subscription that lags is detached and loses nothing: what the ring has no longer comes from the journal.
    pub fn keeps_backlog(&self) -> bool {
        matches!(self.overflow, Overflow::Detach { .. }) && self.durability > Durability::Memory
    }

    /// Most bytes of arenas that one producer may have: room for eight of the largest payloads, and
    /// 64 MiB at least.
    pub fn arenas_bytes_max(&self) -> u64 {
        (8 * Blocks::region_bytes(self.payload_bytes_max as usize)).max(64 << 20)
    }
}

/// What is to be altered of a stream. Only what is said changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamChanges {
    /// Partitions. This never changes: it is refused unless it is as it is.
    pub partitions: Option<u32>,
    /// Slots of each ring. This never changes.
    pub slots: Option<u64>,
    /// Bytes of a slot. This never changes.
    pub slot_bytes: Option<u32>,
    /// Largest payload, in bytes. It changes while nobody has the stream open as producer.
    pub payload_bytes_max: Option<u32>,
    /// Who may publish. This never changes.
    pub producers: Option<Producers>,
    /// What happens when a ring is full. [`Block`](Overflow::Block) and [`Reject`](Overflow::Reject) change for each other, and the
    /// time of [`Detach`](Overflow::Detach), while nobody has the stream open as producer.
    pub overflow: Option<Overflow>,
    /// What confirmed messages survive. This never changes.
    pub durability: Option<Durability>,
}

impl StreamChanges {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Payloads may have so many bytes, at most 1 GiB, or less by the broker's configuration.
    pub fn payload_bytes_max(self, bytes: u32) -> Self {
        Self { payload_bytes_max: Some(bytes), ..self }
    }

    /// This happens when a ring is full.
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow: Some(overflow), ..self }
    }

    /// The settings `of` a stream once it is altered.
    pub fn applied(&self, of: &StreamSettings) -> StreamSettings {
        StreamSettings {
            kind: of.kind,
            partitions: self.partitions.unwrap_or(of.partitions),
            slots: self.slots.unwrap_or(of.slots),
            slot_bytes: self.slot_bytes.unwrap_or(of.slot_bytes),
            payload_bytes_max: self.payload_bytes_max.unwrap_or(of.payload_bytes_max),
            producers: self.producers.unwrap_or(of.producers),
            overflow: self.overflow.unwrap_or(of.overflow),
            durability: self.durability.unwrap_or(of.durability),
        }
    }
}

/// What is to be altered of a `shared` subscription. Only what is said changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionChanges {
    /// How long a consumer may keep a message, in milliseconds: at most [`LEASE_MS_MAX`]. What is leased keeps the lease it has.
    pub lease_ms: Option<u32>,
    /// A message that has failed so often is dead; 0: never. It counts with the next failure of each message: what is dead stays dead.
    pub attempts_max: Option<u32>,
    /// Of the backoff: after the first failure, in milliseconds. What is delayed comes when it was to come.
    pub backoff_initial_ms: Option<u32>,
    /// Of the backoff: what each further failure multiplies the delay by, in percent.
    pub backoff_multiplier_percent: Option<u32>,
    /// Of the backoff: the longest delay, in milliseconds.
    pub backoff_max_ms: Option<u32>,
    /// Of the backoff: each delay is shortened by up to so many percent.
    pub backoff_jitter_percent: Option<u32>,
    /// Where dead messages go, those that wait included; `Some(None)`: they are dropped, those that wait included.
    pub dead_letter: Option<Option<String>>,
    /// Only one consumer at a time gets messages. It changes while nobody consumes the subscription.
    pub single_active: Option<bool>,
    /// Which messages it delivers. This never changes: it is refused unless it is as it is.
    pub visibility: Option<Visibility>,
}

impl SubscriptionChanges {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A consumer may keep a message for so long, in milliseconds: at most [`LEASE_MS_MAX`].
    pub fn lease_ms(self, lease_ms: u32) -> Self {
        Self { lease_ms: Some(lease_ms), ..self }
    }

    /// A message that has failed so often is dead; 0: never.
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self { attempts_max: Some(attempts_max), ..self }
    }

    /// A nacked message waits so long.
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self {
            backoff_initial_ms: Some(backoff.initial_ms),
            backoff_multiplier_percent: Some(backoff.multiplier_percent),
            backoff_max_ms: Some(backoff.max_ms),
            backoff_jitter_percent: Some(backoff.jitter_percent),
            ..self
        }
    }

    /// Dead messages go to this stream; they wait until it is there.
    pub fn dead_letter(self, stream: impl Into<String>) -> Self {
        Self { dead_letter: Some(Some(stream.into())), ..self }
    }

    /// Dead messages are dropped, and counted.
    pub fn no_dead_letter(self) -> Self {
        Self { dead_letter: Some(None), ..self }
    }

    /// Whether one consumer at a time gets messages.
    pub fn single_active(self, single_active: bool) -> Self {
        Self { single_active: Some(single_active), ..self }
    }

    /// The settings `of` a `shared` subscription once it is altered.
    pub fn applied(&self, of: &SharedSettings) -> SharedSettings {
        SharedSettings {
            lease_ms: self.lease_ms.unwrap_or(of.lease_ms),
            attempts_max: self.attempts_max.unwrap_or(of.attempts_max),
            backoff: Backoff {
                initial_ms: self.backoff_initial_ms.unwrap_or(of.backoff.initial_ms),
                multiplier_percent: self.backoff_multiplier_percent.unwrap_or(of.backoff.multiplier_percent),
                max_ms: self.backoff_max_ms.unwrap_or(of.backoff.max_ms),
                jitter_percent: self.backoff_jitter_percent.unwrap_or(of.backoff.jitter_percent),
            },
            dead_letter: self.dead_letter.clone().unwrap_or_else(|| of.dead_letter.clone()),
            single_active: self.single_active.unwrap_or(of.single_active),
            visibility: self.visibility.unwrap_or(of.visibility),
        }
    }
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
    /// Number of subscriptions.
    pub subscriptions: u32,
    /// Its partitions, in order of their numbers.
    pub partitions: Vec<PartitionInfo>,
}

impl StreamInfo {
    /// How many producers have it open.
    pub fn producers(&self) -> u32 {
        self.partitions.iter().map(|partition| partition.producers).max().unwrap_or(0)
    }

    /// Bytes of all arenas.
    pub fn arenas_bytes(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.arenas_bytes).sum()
    }

    /// The subscription that is furthest behind in any partition.
    pub fn slowest(&self) -> Option<&Lag> {
        let slowest = self.partitions.iter().filter_map(|partition| partition.slowest.as_ref());
        slowest.max_by_key(|lag| lag.messages)
    }
}

/// A partition as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    /// Its number in the stream.
    pub partition: u32,
    /// The shard that owns it.
    pub shard: u32,
    /// Whether its ring has been made: it is when the partition is first opened.
    pub opened: bool,
    /// First position that the ring still holds.
    pub first_position: u64,
    /// Position that the next message gets.
    pub next_position: u64,
    /// How many producers have it open.
    pub producers: u32,
    /// Process ids of its producers, without repetition, in order; at most [`PIDS_SHOWN_MAX`].
    pub producer_pids: Vec<u32>,
    /// Bytes of its producers' arenas, those of ended producers included that still hold messages.
    pub arenas_bytes: u64,
    /// The subscription that is furthest behind: of those that hold the ring while it is full, of all of them otherwise.
    pub slowest: Option<Lag>,
    /// Why its messages cannot be journaled now, where they are to be.
    pub journal: Option<String>,
    /// How far it is journaled, where it is.
    pub durable: Option<Watermarks>,
}

/// How far a partition is journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermarks {
    /// First position that the journal keeps, for subscriptions that lag or for a ring that is lost.
    pub first: u64,
    /// All messages before this position were handed to the kernel.
    pub written: u64,
    /// All messages before this position are on the device.
    pub synced: u64,
}

/// How far a subscription is behind the end of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// The subscription's name.
    pub subscription: String,
    /// Messages between its position and the end.
    pub messages: u64,
    /// Process id of its consumer.
    pub consumer_pid: Option<u32>,
}

/// A subscription as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionInfo {
    /// Its stream.
    pub stream: String,
    /// Its name.
    pub name: String,
    /// How its messages are given out.
    pub mode: SubscriptionMode,
    /// Where it stands in each partition, in order of their numbers.
    pub partitions: Vec<CursorInfo>,
}

impl SubscriptionInfo {
    /// Messages that it has not consumed, in all partitions.
    pub fn lag(&self) -> u64 {
        self.partitions.iter().map(|cursor| cursor.lag).sum()
    }

    /// What a `shared` subscription has where, in all partitions.
    pub fn shared(&self) -> SharedInfo {
        let parts = self.partitions.iter().filter_map(|cursor| cursor.shared.as_ref());
        parts.fold(SharedInfo::default(), |all, part| SharedInfo {
            consumers: all.consumers.max(part.consumers),
            ready: all.ready + part.ready,
            leased: all.leased + part.leased,
            delayed: all.delayed + part.delayed,
            dead: all.dead + part.dead,
            dead_total: all.dead_total + part.dead_total,
        })
    }

    /// Whether it was detached in some partition because it lagged.
    pub fn is_detached(&self) -> bool {
        self.partitions.iter().any(|cursor| cursor.detached)
    }
}

/// A subscription as it stands in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorInfo {
    /// The partition's number.
    pub partition: u32,
    /// First position that it has not consumed.
    pub position: u64,
    /// Messages between its position and the end of the partition.
    pub lag: u64,
    /// Process id of its consumer.
    pub consumer_pid: Option<u32>,
    /// It lagged and was detached, until its consumer is attached again: see [`Overflow::Detach`].
    pub detached: bool,
    /// What a `shared` subscription has where.
    pub shared: Option<SharedInfo>,
}

/// What a `shared` subscription has where, in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedInfo {
    /// How many consumers it has.
    pub consumers: u32,
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that consumers have and have not settled.
    pub leased: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// Dead messages that wait for room in the dead-letter stream.
    pub dead: u64,
    /// Messages that have died so far.
    pub dead_total: u64,
}

impl SharedInfo {
    /// Messages that are not settled, wherever they are.
    pub fn unsettled(&self) -> u64 {
        self.ready + self.leased + self.delayed + self.dead
    }
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
        /// Of a queue: the settings of its subscription; the usual ones when nothing is said.
        queue: Option<SharedSettings>,
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
    /// Makes a subscription, or confirms that it exists.
    DeclareSubscription {
        /// Its stream.
        stream: Vec<u8>,
        /// Its name.
        name: Vec<u8>,
        /// Where it starts if it is new.
        start: StartAt,
        /// How its messages are given out; `None`: as they are if it exists, else in order.
        mode: Option<SubscriptionMode>,
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
    /// Opens a partition as producer: the only one, if the stream's producers are exclusive.
    OpenProducer {
        /// The stream.
        stream: Vec<u8>,
        /// The partition's number.
        partition: u32,
        /// What it calls itself, so that it can be asked for later where it was: nobody else has this name open.
        name: Option<Vec<u8>>,
    },
    /// Opens a subscription as consumer of a partition: the one consumer, if it is a `cursor`.
    OpenConsumer {
        /// The stream.
        stream: Vec<u8>,
        /// The partition's number.
        partition: u32,
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
    /// Asks for a new arena for a producer. Refused as `Limit` when it would have more than
    /// [`StreamSettings::arenas_bytes_max`].
    MakeArena {
        /// The producer's endpoint.
        endpoint: u64,
        /// Bytes of its region: whole pages.
        bytes: u64,
    },
    /// Gives up an arena in which the producer holds no block.
    RetireArena {
        /// The producer's endpoint.
        endpoint: u64,
        /// The arena's number.
        arena: u32,
    },
    /// Asks for the region of an arena that a message refers to.
    OpenArena {
        /// The consumer's endpoint.
        endpoint: u64,
        /// The arena's number.
        arena: u32,
    },
    /// Asks the broker to detach a subscription that holds the ring full, on a stream whose overflow is `Detach`.
    DetachGate {
        /// The producer's endpoint.
        endpoint: u64,
        /// Index of the gate.
        gate: u8,
        /// Generation of the gate.
        generation: u16,
    },
    /// Asks to be attached again after having been detached, at the position that the consumer has reached. Where the ring has that no
    /// longer: at the oldest message that is there, or, where the journal has it, not at all.
    Attach {
        /// The consumer's endpoint.
        endpoint: u64,
        /// First position that it has not consumed.
        position: u64,
    },
    /// Asks the broker to take over what consumers of a `shared` subscription have at the beginning of a full ring.
    RelieveGate {
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
    /// Gives up what nobody has of the messages that are there: for one subscription, or for all of the stream. Answered when that
    /// is as durable as the stream.
    Purge {
        /// The stream.
        stream: Vec<u8>,
        /// The subscription; `None`: all.
        subscription: Option<Vec<u8>>,
    },
    /// Alters a stream, and of a queue its subscription; answered with the stream as it is then, as durably as its messages are.
    AlterStream {
        /// Its name.
        name: Vec<u8>,
        /// What changes.
        changes: StreamChanges,
        /// Of a queue: what changes of its subscription.
        queue: Option<SubscriptionChanges>,
    },
    /// Alters a subscription; answered with the subscription as it is then, as durably as the stream's messages are.
    AlterSubscription {
        /// Its stream.
        stream: Vec<u8>,
        /// Its name.
        name: Vec<u8>,
        /// What changes.
        changes: SubscriptionChanges,
    },
    /// Asks for messages of the journal, for a consumer that was detached and is behind the ring. The page before is not looked at any
    /// more.
    ReadPage {
        /// The consumer's endpoint.
        endpoint: u64,
        /// First position that it has not got.
        position: u64,
        /// The region for pages that it has, by its number; 0: none.
        region: u64,
    },
}

/// What a producer is given, beside the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerGrant {
    /// Names the opened producer in this session.
    pub endpoint: u64,
    /// The incarnation of the ring.
    pub incarnation: u64,
    /// The owner id to take slots with.
    pub owner: u32,
    /// The true end: the position that the next message gets.
    pub position: u64,
    /// What its messages name it by, if it has a name; else 0.
    pub number: u32,
    /// The last message of a producer of this name, if the partition knows one.
    pub sent: Option<Sent>,
    /// The stream's settings.
    pub settings: StreamSettings,
}

/// The last message that a partition has got from a producer of some name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Which one it was in the producer's own count.
    pub sequence: u64,
    /// Its position.
    pub position: u64,
}

/// Most names of producers that a partition remembers.
pub const NAMED_PRODUCERS_MAX: usize = 1024;

/// What a consumer is given, beside the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerGrant {
    /// Names the opened consumer in this session.
    pub endpoint: u64,
    /// The incarnation of the ring.
    pub incarnation: u64,
    /// The cursor word, packed: see [`ConsumerGrant::cursor`].
    pub cursor: u64,
    /// Which messages the subscription delivers.
    pub visibility: Visibility,
    /// The stream's settings.
    pub settings: StreamSettings,
}

impl ConsumerGrant {
    /// The cursor as the shard gave it to this consumer.
    pub fn cursor(&self) -> CursorWord {
        CursorWord::unpack(self.cursor)
    }
}

/// What a consumer of a `shared` subscription is given, beside the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberGrant {
    /// Names the opened consumer in this session.
    pub endpoint: u64,
    /// The incarnation of the ring.
    pub incarnation: u64,
    /// Its number among the consumers.
    pub member: u32,
    /// Where the feed begins for it.
    pub feed_from: u64,
    /// Only the active consumer gets messages.
    pub single_active: bool,
    /// Which messages the subscription delivers.
    pub visibility: Visibility,
    /// The stream's settings.
    pub settings: StreamSettings,
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
    /// The journal cannot be read.
    Unreadable,
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
    /// A consumer was opened: four descriptors.
    Consumer(ConsumerGrant),
    /// A consumer of a `shared` subscription was opened: eight descriptors, the last of them the session's eventfd.
    Member(MemberGrant),
    /// The region behind a gate: one descriptor.
    Gate,
    /// An arena: one descriptor, to write for its producer, to read for a consumer.
    Arena {
        /// Its number: never used twice in its ring.
        arena: u32,
        /// Bytes of its region.
        bytes: u64,
    },
    /// The cursor word of a consumer that is attached again, packed.
    Attached(u64),
    /// Not done.
    Refused(Refusal),
    /// Messages were given up.
    Purged {
        /// How many; one counts for each subscription that it was given up for.
        messages: u64,
    },
    /// Not attached: the ring no longer holds the consumer's position, the journal does.
    Overtaken,
    /// Messages of the journal stand in the consumer's region for pages: one descriptor of it, unless it has said that it has this one.
    Page(PageInfo),
}

/// What a page holds: everything from the position that was asked for on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageInfo {
    /// One past the last position that it speaks of; the position that was asked for, where there is nothing that the subscription may
    /// see yet.
    pub end: u64,
    /// Bytes of its messages.
    pub bytes: u64,
    /// The region's number: random, and not 0.
    pub region: u64,
    /// Bytes of the region.
    pub region_bytes: u64,
}
