//! Receiving a stream in order.
//!
//! 1. One thread at a time uses a consumer and what it has lent; which one may change.
//! 2. A consumer has lent one message at the most. It is over before the client's consumer is used again, by every
//!    function that uses it exclusively.

use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

use ringway_client::{Consumer, Message, RecvError};

use crate::boundary::{Failure, bytes, duration, enter, enter_or, out, reserved, text};
use crate::code::Code;
use crate::connection::ConnectionHandle;
use crate::handle::{Sort, borrow, give, share, take};
use crate::lent::Lender;
use crate::message::{MessageHandle, MessageOf};
use crate::producer::{PositionOf, spin_default_ns, wait_strategy};

/// The consumer of an ordered subscription. One thread at a time uses it, and the message that it has returned.
pub struct ConsumerHandle(());

impl Sort for ConsumerHandle {
    type Inner = Ordered;
    const WORD: u64 = 0x7269_6e67_636f_6e73;
    const NAME: &'static str = "consumer";
}

/// What a consumer of either sort will be like. Made by `ringway_consumer_settings_default`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ConsumerSettingsOf {
    /// The partitions to read; null: all.
    pub partitions: *const u32,
    /// How many there are.
    pub partitions_count: usize,
    /// How long to look before sleeping, in nanoseconds; `RINGWAY_FOREVER`: never sleep.
    pub spin_ns: u64,
    /// Of a shared consumer: how many messages to claim at a time.
    pub prefetch: u32,
    /// Of an ordered consumer: whether it may pause for some microseconds when it has caught up with a fast stream.
    pub courtesy: bool,
    /// Zero.
    pub reserved: [u64; 4],
}

impl ConsumerSettingsOf {
    /// # Safety
    ///
    /// There are as many partitions as it says.
    pub(crate) unsafe fn partitions(&self) -> Result<Option<Vec<u32>>, Failure> {
        reserved("settings", &self.reserved)?;
        if self.partitions.is_null() {
            return Ok(None);
        }
        let count = self.partitions_count.saturating_mul(size_of::<u32>());
        // SAFETY: the caller's promise.
        let named = unsafe { bytes("partitions", self.partitions.cast(), count)? };
        Ok(Some(
            named
                .chunks_exact(4)
                .map(|four| u32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
                .collect(),
        ))
    }
}

/// The settings that a consumer has when nothing else is said: all partitions, 20 µs of looking, one message claimed at a time,
/// courtesy.
#[unsafe(no_mangle)]
pub extern "C" fn ringway_consumer_settings_default() -> ConsumerSettingsOf {
    ConsumerSettingsOf {
        partitions: ptr::null(),
        partitions_count: 0,
        spin_ns: spin_default_ns(),
        prefetch: 1,
        courtesy: true,
        reserved: [0; 4],
    }
}

/// A consumer and what it has lent.
pub(crate) struct Ordered {
    consumer: Lender<Consumer>,
    message: NonNull<MessageHandle>,
}

impl Ordered {
    /// Ends what was lent. `'a`: until more is lent.
    #[inline]
    fn all<'a>(&mut self) -> (&'a mut Consumer, &'a mut MessageHandle) {
        // SAFETY: made by `none`, freed by the drop only; the one who uses the consumer uses the message.
        let message = unsafe { self.message.as_mut() };
        message.end();
        // SAFETY: what was lent has just ended.
        (unsafe { self.consumer.lend() }, message)
    }

    /// For what does not disturb a message that is lent.
    fn consumer(&mut self) -> &Consumer {
        // SAFETY: a message that is lent has shared references into its consumer only, as this one is.
        unsafe { self.consumer.lend() }
    }
}

impl Drop for Ordered {
    fn drop(&mut self) {
        // SAFETY: made by `none`, and over with its consumer.
        unsafe { MessageHandle::free(self.message) };
    }
}

/// Opens an ordered subscription, which goes on where it was last committed. `settings` null: the default ones.
///
/// # Safety
///
/// `connection` is a connection, `stream` and `subscription` end with a zero, `settings` is null or can be read and has as many
/// partitions as it says, `consumer` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_consumer_open(
    connection: *const ConnectionHandle,
    stream: *const c_char,
    subscription: *const c_char,
    settings: *const ConsumerSettingsOf,
    consumer: *mut *mut ConsumerHandle,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let consumer = unsafe { out("consumer", consumer)? };
        consumer.write(ptr::null_mut());
        // SAFETY: the caller's promise.
        let (connection, stream, subscription, settings) = unsafe {
            let names = (text("stream", stream)?, text("subscription", subscription)?);
            (share(connection)?, names.0, names.1, settings.as_ref())
        };
        let mut builder = connection.consumer(stream, subscription);
        if let Some(settings) = settings {
            builder = builder.wait(wait_strategy(settings.spin_ns)).courtesy(settings.courtesy);
            // SAFETY: the caller's promise.
            if let Some(partitions) = unsafe { settings.partitions()? } {
                builder = builder.partitions(partitions);
            }
        }
        let opened = Lender::new(builder.open()?);
        consumer.write(give(Ordered { consumer: opened, message: MessageHandle::none(false) }));
        Ok(Code::Ok)
    })
}

/// Commits everything returned, gives the subscription back and frees the consumer, whatever it returns; null is allowed.
/// Messages that are held stay.
///
/// # Safety
///
/// `consumer` is null or a consumer, which is not used any more, nor is what it has returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_consumer_close(consumer: *mut ConsumerHandle) -> Code {
    enter(|| {
        if consumer.is_null() {
            return Ok(Code::Ok);
        }
        // SAFETY: the caller's promise.
        let ordered = unsafe { take(consumer)? };
        let mut ordered = std::mem::ManuallyDrop::new(ordered);
        ordered.all();
        // SAFETY: neither is used again: the drop is left out. What was lent is over.
        let consumer = unsafe {
            MessageHandle::free(ordered.message);
            ptr::read(&raw const ordered.consumer).into_inner()
        };
        consumer.close()?;
        Ok(Code::Ok)
    })
}

/// The way of every message.
///
/// # Safety
///
/// As [`ringway_consumer_recv`].
#[inline(always)]
unsafe fn receive(
    consumer: *mut ConsumerHandle,
    message: *mut *const MessageOf,
    receive: impl FnOnce(&'static mut Consumer, &mut MessageHandle) -> Result<bool, RecvError>,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (ordered, message) = unsafe { (borrow(consumer)?, out("message", message)?) };
        message.write(ptr::null());
        let (consumer, lent) = ordered.all();
        if !receive(consumer, lent)? {
            return Ok(Code::Empty);
        }
        message.write(MessageHandle::for_program(ordered.message));
        Ok(Code::Ok)
    })
}

/// Puts what was received, if it is something.
#[inline(always)]
fn put(
    received: Result<Option<Message<'static>>, RecvError>,
    lent: &mut MessageHandle,
) -> Result<bool, RecvError> {
    // By reference: see `note_plain`.
    match &received {
        Ok(Some(message)) if lent.note_plain(message) => return Ok(true),
        Ok(None) => return Ok(false),
        _ => {}
    }
    if let Some(message) = received? {
        lent.lend(message);
    }
    Ok(true)
}

/// The next message; waits for it as long as the broker is there. What was returned before is over, and counts as consumed.
///
/// # Safety
///
/// `consumer` is a consumer that no other thread uses, `message` can be written; what it has returned before is not used any
/// more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_consumer_recv(
    consumer: *mut ConsumerHandle,
    message: *mut *const MessageOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe {
        receive(consumer, message, |consumer, lent| {
            let received = consumer.recv();
            match &received {
                Ok(message) if lent.note_plain(message) => {}
                _ => lent.lend(received?),
            }
            Ok(true)
        })
    }
}

/// The next message, if there is one now; otherwise `RINGWAY_EMPTY`, and `*message` is null.
///
/// # Safety
///
/// As `ringway_consumer_recv`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_consumer_try_recv(
    consumer: *mut ConsumerHandle,
    message: *mut *const MessageOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe { receive(consumer, message, |consumer, lent| put(consumer.try_recv(), lent)) }
}

/// The next message; waits for it `timeout_ns` at the most, then `RINGWAY_EMPTY`.
///
/// # Safety
///
/// As `ringway_consumer_recv`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_consumer_recv_timeout(
    consumer: *mut ConsumerHandle,
    timeout_ns: u64,
    message: *mut *const MessageOf,
) -> Code {
    let within = |consumer: &'static mut Consumer, lent: &mut _| {
        put(consumer.recv_timeout(duration(timeout_ns)), lent)
    };
    // SAFETY: the caller's promise.
    unsafe { receive(consumer, message, within) }
}

/// A descriptor to wait for with poll(2), epoll or select, among others. It is readable from the beginning, and becomes so again
/// when there may be something after `ringway_consumer_try_recv` has returned `RINGWAY_EMPTY`: so call that until it does, each
/// time the descriptor is readable. It is readable at least once a second, for that call to see whether the broker is there:
/// from now on it returns `RINGWAY_DISCONNECTED` when it is not.
///
/// The descriptor is the consumer's, the same with each call, and closed with it: remove it from an epoll before. Only to be
/// waited for, not read. The message that was returned last is over.
///
/// # Safety
///
/// As `ringway_consumer_recv`; `descriptor` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_consumer_readiness(
    consumer: *mut ConsumerHandle,
    descriptor: *mut c_int,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (ordered, into) = unsafe { (borrow(consumer)?, out("descriptor", descriptor)?) };
        into.write(-1);
        let readiness = ordered.all().0.readiness().map_err(|error| Failure::descriptor(&error))?;
        // The consumer keeps it open.
        into.write(readiness.as_raw_fd());
        Ok(Code::Ok)
    })
}

/// Declares everything returned so far consumed, at once. The message that was returned last is over.
///
/// # Safety
///
/// As `ringway_consumer_recv`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_consumer_commit(consumer: *mut ConsumerHandle) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        unsafe { borrow(consumer)? }.all().0.commit()?;
        Ok(Code::Ok)
    })
}

/// The same, and waits until that is as durable as the stream, at most `timeout_ns`, then `RINGWAY_TIMEOUT`.
///
/// # Safety
///
/// As `ringway_consumer_recv`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_consumer_confirm_commit(
    consumer: *mut ConsumerHandle,
    timeout_ns: u64,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        unsafe { borrow(consumer)? }.all().0.confirm_commit(duration(timeout_ns))?;
        Ok(Code::Ok)
    })
}

/// How many messages were overwritten before this consumer could read them.
///
/// # Safety
///
/// `consumer` is a consumer that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_consumer_missed(consumer: *mut ConsumerHandle) -> u64 {
    // SAFETY: the caller's promise.
    enter_or(0, || Ok(unsafe { borrow(consumer)? }.consumer().missed()))
}

/// Where the next message of the partition at `index` (0 to how many it reads) will come from; `RINGWAY_EMPTY`: it reads not so
/// many.
///
/// # Safety
///
/// `consumer` is a consumer that no other thread uses, `position` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_consumer_position(
    consumer: *mut ConsumerHandle,
    index: usize,
    position: *mut PositionOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (ordered, into) = unsafe { (borrow(consumer)?, out("position", position)?) };
        match ordered.consumer().positions().get(index) {
            Some(position) => into.write(PositionOf::of(*position)),
            None => return Ok(Code::Empty),
        };
        Ok(Code::Ok)
    })
}
