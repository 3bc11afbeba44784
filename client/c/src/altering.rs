//! What is to be altered of streams and subscriptions, and giving up what is there.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use ringway_client::{StreamChanges, SubscriptionChanges};

use crate::boundary::{Failure, enter, null, optional_text, reserved, text};
use crate::code::Code;
use crate::connection::ConnectionHandle;
use crate::handle::share;
use crate::settings::overflow;

/// Where a change says nothing: it stays as it is.
pub const RINGWAY_UNCHANGED: u32 = u32::MAX;

/// What is to be altered of a stream. Made by `ringway_stream_changes_none`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct StreamChangesOf {
    /// Largest payload, in bytes.
    pub payload_bytes_max: u32,
    /// A `ringway_overflow`.
    pub overflow: u32,
    /// Of `RINGWAY_OVERFLOW_DETACH`: how long a subscription may hold a producer up, in milliseconds.
    pub detach_after_ms: u32,
    /// Zero.
    pub reserved: [u64; 4],
}

/// Nothing is altered.
#[unsafe(no_mangle)]
pub extern "C" fn ringway_stream_changes_none() -> StreamChangesOf {
    StreamChangesOf {
        payload_bytes_max: RINGWAY_UNCHANGED,
        overflow: RINGWAY_UNCHANGED,
        detach_after_ms: 0,
        reserved: [0; 4],
    }
}

impl StreamChangesOf {
    fn checked(&self) -> Result<StreamChanges, Failure> {
        reserved("changes", &self.reserved)?;
        Ok(StreamChanges {
            payload_bytes_max: said(self.payload_bytes_max),
            overflow: said(self.overflow).map(|number| overflow(number, self.detach_after_ms)).transpose()?,
            ..StreamChanges::default()
        })
    }
}

/// What is to be altered of a shared subscription. Made by `ringway_subscription_changes_none`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SubscriptionChangesOf {
    /// How long a consumer may keep a message, in milliseconds. What is leased keeps the lease it has.
    pub lease_ms: u32,
    /// A message that has failed so often is dead; 0: never.
    pub attempts_max: u32,
    /// How long a message waits after its first failure, in milliseconds.
    pub backoff_initial_ms: u32,
    /// What each further failure multiplies that by, in percent.
    pub backoff_multiplier_percent: u32,
    /// The longest that it waits, in milliseconds.
    pub backoff_max_ms: u32,
    /// Each wait is shortened by up to so many percent.
    pub backoff_jitter_percent: u32,
    /// 1: only one consumer at a time gets messages; 0: all do.
    pub single_active: u32,
    /// Dead messages go elsewhere from now on: to `dead_letter`.
    pub changes_dead_letter: bool,
    /// The name of a stream. Null: they are dropped, and counted.
    pub dead_letter: *const c_char,
    /// Zero.
    pub reserved: [u64; 4],
}

/// Nothing is altered.
#[unsafe(no_mangle)]
pub extern "C" fn ringway_subscription_changes_none() -> SubscriptionChangesOf {
    SubscriptionChangesOf {
        lease_ms: RINGWAY_UNCHANGED,
        attempts_max: RINGWAY_UNCHANGED,
        backoff_initial_ms: RINGWAY_UNCHANGED,
        backoff_multiplier_percent: RINGWAY_UNCHANGED,
        backoff_max_ms: RINGWAY_UNCHANGED,
        backoff_jitter_percent: RINGWAY_UNCHANGED,
        single_active: RINGWAY_UNCHANGED,
        changes_dead_letter: false,
        dead_letter: std::ptr::null(),
        reserved: [0; 4],
    }
}

impl SubscriptionChangesOf {
    /// # Safety
    ///
    /// `dead_letter` is null or ends with a zero.
    unsafe fn checked(&self) -> Result<SubscriptionChanges, Failure> {
        reserved("changes", &self.reserved)?;
        // SAFETY: the caller's promise.
        let dead_letter = unsafe { optional_text("dead_letter", self.dead_letter)? };
        let single_active = match self.single_active {
            0 => Some(false),
            1 => Some(true),
            RINGWAY_UNCHANGED => None,
            other => return Err(Failure::argument(format!("single_active is 0 or 1, not {other}"))),
        };
        Ok(SubscriptionChanges {
            lease_ms: said(self.lease_ms),
            attempts_max: said(self.attempts_max),
            backoff_initial_ms: said(self.backoff_initial_ms),
            backoff_multiplier_percent: said(self.backoff_multiplier_percent),
            backoff_max_ms: said(self.backoff_max_ms),
            backoff_jitter_percent: said(self.backoff_jitter_percent),
            dead_letter: self.changes_dead_letter.then(|| dead_letter.map(str::to_owned)),
            single_active,
            visibility: None,
        })
    }
}

fn said(number: u32) -> Option<u32> {
    (number != RINGWAY_UNCHANGED).then_some(number)
}

/// Alters a stream that is there, as a whole or not at all. `RINGWAY_IN_USE`: that changes only while nobody publishes.
///
/// # Safety
///
/// `connection` is a connection, `name` ends with a zero, `changes` can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_alter_stream(
    connection: *const ConnectionHandle,
    name: *const c_char,
    changes: *const StreamChangesOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, name, changes) =
            unsafe { (share(connection)?, text("name", name)?, given(changes)?) };
        connection.alter_stream(name, changes.checked()?)?;
        Ok(Code::Ok)
    })
}

/// Alters a queue and its subscription, in one: all of it or nothing.
///
/// # Safety
///
/// `connection` is a connection, `name` and the name in `shared` end with a zero, `changes` and `shared` can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_alter_queue(
    connection: *const ConnectionHandle,
    name: *const c_char,
    changes: *const StreamChangesOf,
    shared: *const SubscriptionChangesOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, name, changes, shared) =
            unsafe { (share(connection)?, text("name", name)?, given(changes)?, given(shared)?.checked()?) };
        connection.alter_queue(name, changes.checked()?, shared)?;
        Ok(Code::Ok)
    })
}

/// Alters a shared subscription that is there; of a queue, the one of its name. `RINGWAY_IN_USE`: that changes only while nobody
/// consumes.
///
/// # Safety
///
/// `connection` is a connection, `stream`, `name` and the name in `changes` end with a zero, `changes` can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_alter_subscription(
    connection: *const ConnectionHandle,
    stream: *const c_char,
    name: *const c_char,
    changes: *const SubscriptionChangesOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, stream, name, changes) = unsafe {
            (share(connection)?, text("stream", stream)?, text("name", name)?, given(changes)?.checked()?)
        };
        connection.alter_subscription(stream, name, changes)?;
        Ok(Code::Ok)
    })
}

/// Gives up the messages of a stream that are there and that nobody has, for `subscription`, or for all (null); `messages` (null: it
/// does not matter) becomes how many. `RINGWAY_IN_USE`: an ordered subscription of it is being read.
///
/// # Safety
///
/// `connection` is a connection, `stream` ends with a zero, `subscription` is null or ends with a zero, `messages` is null or can be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_connection_purge(
    connection: *const ConnectionHandle,
    stream: *const c_char,
    subscription: *const c_char,
    messages: *mut u64,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (connection, stream, subscription) = unsafe {
            (share(connection)?, text("stream", stream)?, optional_text("subscription", subscription)?)
        };
        // SAFETY: the caller's promise.
        let mut messages = unsafe { messages.cast::<MaybeUninit<u64>>().as_mut() };
        messages.as_mut().map(|messages| messages.write(0));
        let purged = match subscription {
            Some(subscription) => connection.purge_subscription(stream, subscription)?,
            None => connection.purge_stream(stream)?,
        };
        messages.map(|messages| messages.write(purged));
        Ok(Code::Ok)
    })
}

/// # Safety
///
/// `changes` is null or can be read.
unsafe fn given<'a, T>(changes: *const T) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { changes.as_ref() }.ok_or_else(|| null("changes"))
}
