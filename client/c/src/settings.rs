//! What streams and subscriptions are declared with. Numbers and names need not be valid: they are checked here.

use ringway_client::{
    Backoff, CursorSettings, Durability, Overflow, Producers, SharedSettings, StartAt, StreamInfo,
    StreamKind, StreamSettings, SubscriptionInfo, SubscriptionMode, Visibility,
};
use std::ffi::c_char;

use crate::boundary::{Failure, optional_text, reserved};

/// What a stream's messages survive once they are confirmed.
#[repr(C)]
pub enum DurabilityOf {
    /// The death of any process, the broker's too; not the host's.
    Memory = 0,
    /// The same; the host's death may take what was handed to the kernel within the flush interval.
    Written = 1,
    /// The host's death too: confirmed when the device has it.
    Synced = 2,
}

/// What happens when the ring is full.
#[repr(C)]
pub enum OverflowOf {
    /// The producer waits, for as long as it likes.
    Block = 0,
    /// Publishing fails at once.
    Reject = 1,
    /// The oldest message is overwritten; subscriptions that had not consumed it miss it, and learn how many.
    DropOldest = 2,
    /// A subscription that holds the ring full for `detach_after_ms` is detached.
    Detach = 3,
}

/// Where a new subscription starts.
#[repr(C)]
pub enum StartOf {
    /// At the oldest message that is still there.
    First = 0,
    /// Behind the newest message.
    Next = 1,
}

/// The settings of a stream. Made by `ringway_stream_settings_default`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct StreamSettingsOf {
    /// Slots of each ring: a power of two.
    pub slots: u64,
    /// Partitions: each has a ring of its own, and is in order by itself. 1 to 64.
    pub partitions: u32,
    /// Bytes of a slot: a power of two from 64 to 4096.
    pub slot_bytes: u32,
    /// Largest payload, in bytes.
    pub payload_bytes_max: u32,
    /// A `ringway_overflow`.
    pub overflow: u32,
    /// Of `RINGWAY_OVERFLOW_DETACH`: how long a subscription may hold a producer up, in milliseconds.
    pub detach_after_ms: u32,
    /// A `ringway_durability`.
    pub durability: u32,
    /// Only one producer at a time: publishing is a little cheaper.
    pub exclusive_producer: bool,
    /// Zero.
    pub reserved: [u64; 4],
}

impl StreamSettingsOf {
    pub(crate) fn of(settings: &StreamSettings) -> Self {
        let (overflow, detach_after_ms) = match settings.overflow {
            Overflow::Block => (OverflowOf::Block, 0),
            Overflow::Reject => (OverflowOf::Reject, 0),
            Overflow::DropOldest => (OverflowOf::DropOldest, 0),
            Overflow::Detach { after_ms } => (OverflowOf::Detach, after_ms),
        };
        Self {
            slots: settings.slots,
            partitions: settings.partitions,
            slot_bytes: settings.slot_bytes,
            payload_bytes_max: settings.payload_bytes_max,
            overflow: overflow as u32,
            detach_after_ms,
            durability: durability_number(settings.durability),
            exclusive_producer: settings.producers == Producers::Exclusive,
            reserved: [0; 4],
        }
    }

    pub(crate) fn checked(&self) -> Result<StreamSettings, Failure> {
        reserved("settings", &self.reserved)?;
        let overflow = overflow(self.overflow, self.detach_after_ms)?;
        Ok(StreamSettings {
            kind: StreamKind::Topic,
            partitions: self.partitions,
            slots: self.slots,
            slot_bytes: self.slot_bytes,
            payload_bytes_max: self.payload_bytes_max,
            producers: if self.exclusive_producer { Producers::Exclusive } else { Producers::Shared },
            overflow,
            durability: durability(self.durability)?,
        })
    }
}

pub(crate) fn overflow(number: u32, detach_after_ms: u32) -> Result<Overflow, Failure> {
    match number {
        0 => Ok(Overflow::Block),
        1 => Ok(Overflow::Reject),
        2 => Ok(Overflow::DropOldest),
        3 => Ok(Overflow::Detach { after_ms: detach_after_ms }),
        other => Err(Failure::argument(format!("there is no overflow {other}"))),
    }
}

/// The settings that a stream has when nothing else is said: one partition with 16,384 slots of 128 bytes, in memory, any
/// number of producers, which wait while it is full.
#[unsafe(no_mangle)]
pub extern "C" fn ringway_stream_settings_default() -> StreamSettingsOf {
    StreamSettingsOf::of(&StreamSettings::DEFAULT)
}

/// The settings of a shared subscription. Made by `ringway_shared_settings_default`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SharedSettingsOf {
    /// How long a consumer may keep a message before it is delivered to another, in milliseconds.
    pub lease_ms: u32,
    /// A message that has failed so often is dead; 0: never.
    pub attempts_max: u32,
    /// How long a message waits after its first failure, in milliseconds.
    pub backoff_initial_ms: u32,
    /// What each further failure multiplies that by, in percent: 200 doubles it.
    pub backoff_multiplier_percent: u32,
    /// The longest that it waits, in milliseconds.
    pub backoff_max_ms: u32,
    /// Each wait is shortened by up to so many percent.
    pub backoff_jitter_percent: u32,
    /// Where dead messages go: the name of a stream. Null: they are dropped, and counted.
    pub dead_letter: *const c_char,
    /// Only one consumer at a time gets messages; when it ends, the next one takes over.
    pub single_active: bool,
    /// Only what is on the device is delivered.
    pub durable_only: bool,
    /// Zero.
    pub reserved: [u64; 4],
}

impl SharedSettingsOf {
    /// # Safety
    ///
    /// `dead_letter` is null or a text that ends with a zero.
    pub(crate) unsafe fn checked(&self) -> Result<SharedSettings, Failure> {
        reserved("settings", &self.reserved)?;
        // SAFETY: the caller's promise.
        let dead_letter = unsafe { optional_text("dead_letter", self.dead_letter)? };
        Ok(SharedSettings {
            lease_ms: self.lease_ms,
            attempts_max: self.attempts_max,
            backoff: Backoff {
                initial_ms: self.backoff_initial_ms,
                multiplier_percent: self.backoff_multiplier_percent,
                max_ms: self.backoff_max_ms,
                jitter_percent: self.backoff_jitter_percent,
            },
            dead_letter: dead_letter.map(str::to_owned),
            single_active: self.single_active,
            visibility: visibility(self.durable_only),
        })
    }
}

/// The settings that a shared subscription has when nothing else is said: leases of 30 s, 20 attempts, no delay, no
/// dead-letter stream, all consumers active.
#[unsafe(no_mangle)]
pub extern "C" fn ringway_shared_settings_default() -> SharedSettingsOf {
    let SharedSettings { lease_ms, attempts_max, backoff, single_active, visibility, .. } =
        SharedSettings::default();
    SharedSettingsOf {
        lease_ms,
        attempts_max,
        backoff_initial_ms: backoff.initial_ms,
        backoff_multiplier_percent: backoff.multiplier_percent,
        backoff_max_ms: backoff.max_ms,
        backoff_jitter_percent: backoff.jitter_percent,
        dead_letter: std::ptr::null(),
        single_active,
        durable_only: visibility == Visibility::Durable,
        reserved: [0; 4],
    }
}

/// A stream as it stands.
#[repr(C)]
pub struct StreamInfoOf {
    /// What it was declared with.
    pub settings: StreamSettingsOf,
    /// Whether it is a queue.
    pub is_queue: bool,
    /// Number of subscriptions.
    pub subscriptions: u32,
    /// How many producers have it open.
    pub producers: u32,
    /// Messages between the subscription that is furthest behind in a partition and that partition's end.
    pub lag_max: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

impl StreamInfoOf {
    pub(crate) fn of(info: &StreamInfo) -> Self {
        Self {
            settings: StreamSettingsOf::of(&info.settings),
            is_queue: info.settings.kind == StreamKind::Queue,
            subscriptions: info.subscriptions,
            producers: info.producers(),
            lag_max: info.slowest().map_or(0, |lag| lag.messages),
            reserved: [0; 4],
        }
    }
}

/// A subscription as it stands, in all partitions.
#[repr(C)]
pub struct SubscriptionInfoOf {
    /// Messages that it has not consumed.
    pub lag: u64,
    /// Of a shared one: messages that wait for a consumer.
    pub ready: u64,
    /// Of a shared one: messages that consumers have and have not settled.
    pub leased: u64,
    /// Of a shared one: messages that wait for their time.
    pub delayed: u64,
    /// Of a shared one: dead messages that wait for room in the dead-letter stream.
    pub dead: u64,
    /// Of a shared one: messages that have died so far.
    pub dead_total: u64,
    /// Of a shared one: how many consumers it has.
    pub consumers: u32,
    /// Whether it was detached in some partition because it lagged.
    pub is_detached: bool,
    /// Whether it is shared: to be opened by `ringway_shared_consumer_open`.
    pub is_shared: bool,
    /// Zero.
    pub reserved: [u64; 4],
}

impl SubscriptionInfoOf {
    pub(crate) fn of(info: &SubscriptionInfo) -> Self {
        let shared = info.shared();
        Self {
            lag: info.lag(),
            ready: shared.ready,
            leased: shared.leased,
            delayed: shared.delayed,
            dead: shared.dead,
            dead_total: shared.dead_total,
            consumers: shared.consumers,
            is_detached: info.is_detached(),
            is_shared: matches!(info.mode, SubscriptionMode::Shared(_)),
            reserved: [0; 4],
        }
    }
}

pub(crate) fn durability(number: u32) -> Result<Durability, Failure> {
    match number {
        0 => Ok(Durability::Memory),
        1 => Ok(Durability::Written),
        2 => Ok(Durability::Synced),
        other => Err(Failure::argument(format!("there is no durability {other}"))),
    }
}

pub(crate) fn durability_number(durability: Durability) -> u32 {
    let durability = match durability {
        Durability::Memory => DurabilityOf::Memory,
        Durability::Written => DurabilityOf::Written,
        Durability::Synced => DurabilityOf::Synced,
    };
    durability as u32
}

pub(crate) fn start(number: u32) -> Result<StartAt, Failure> {
    match number {
        0 => Ok(StartAt::First),
        1 => Ok(StartAt::Next),
        other => Err(Failure::argument(format!("there is no start {other}"))),
    }
}

pub(crate) fn cursor(durable_only: bool) -> CursorSettings {
    CursorSettings { visibility: visibility(durable_only) }
}

fn visibility(durable_only: bool) -> Visibility {
    if durable_only { Visibility::Durable } else { Visibility::Committed }
}
