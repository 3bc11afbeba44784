//! Consuming a queue, or a stream as one of several; settling.
//!
//! 1. One thread at a time uses a consumer and what it has delivered; which one may change.
//! 2. A consumer has delivered one message at the most that it has not been told about. The client's consumer is used
//!    again only when that is settled, given back, or kept.
//! 3. What a program has kept it settles by the consumer that it came from; the client checks that.

use std::ffi::{c_char, c_int};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

use ringway_client::{Delivery, Leased, RecvError, SettleError, SharedConsumer};

use crate::boundary::{Failure, duration, enter, enter_or, out, text};
use crate::code::Code;
use crate::connection::ConnectionHandle;
use crate::consumer::ConsumerSettingsOf;
use crate::handle::{Sort, borrow, give, share, take};
use crate::lent::Lender;
use crate::message::{Body, MessageHandle, MessageOf, over};
use crate::producer::wait_strategy;

/// One of the consumers of a shared subscription, or of a queue. One thread at a time uses it, and the message that it has
/// delivered.
pub struct SharedConsumerHandle(());

impl Sort for SharedConsumerHandle {
    type Inner = Shared;
    const WORD: u64 = 0x7269_6e67_7368_6172;
    const NAME: &'static str = "shared consumer";
}

/// A consumer and what it has delivered.
pub(crate) struct Shared {
    consumer: Lender<SharedConsumer>,
    message: NonNull<MessageHandle>,
}

impl Shared {
    #[inline]
    fn message<'a>(&mut self) -> &'a mut MessageHandle {
        // SAFETY: made by `none`, freed by the drop only; the one who uses the consumer uses the message.
        unsafe { self.message.as_mut() }
    }

    /// The consumer, to receive: what it has delivered and was not settled is given back.
    #[inline]
    fn receiving<'a>(&mut self) -> &'a mut SharedConsumer {
        let before = self.message().take();
        if let Body::Kept(leased) = before {
            self.give_back(&leased);
        } else {
            // A delivery that is dropped is given back.
            drop(before);
        }
        // SAFETY: what was delivered has just ended.
        unsafe { self.consumer.lend() }
    }

    #[cold]
    fn give_back(&mut self, leased: &Leased) {
        // SAFETY: what was delivered is over: it is kept.
        let consumer = unsafe { self.consumer.lend() };
        // What cannot be said the broker sees when the lease ends.
        let _ = consumer.release(leased);
    }

    /// The consumer, for anything else: what it has delivered and was not settled stays, as a copy.
    fn beside<'a>(&mut self) -> &'a mut SharedConsumer {
        let message = self.message();
        match message.take() {
            Body::Delivered(delivery) => message.keep(delivery.keep()),
            Body::Kept(leased) => message.keep(leased),
            _ => {}
        }
        // SAFETY: nothing that was delivered is left but copies.
        unsafe { self.consumer.lend() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.receiving();
        // SAFETY: made by `none`, and over with its consumer.
        unsafe { MessageHandle::free(self.message) };
    }
}

/// Opens a shared subscription as one of its consumers; for a queue, `subscription` is null, or the queue's name. `settings`
/// null: the default ones.
///
/// # Safety
///
/// `connection` is a connection, `stream` ends with a zero, so does `subscription` or it is null, `settings` is null or can be
/// read and has as many partitions as it says, `consumer` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_open(
    connection: *const ConnectionHandle,
    stream: *const c_char,
    subscription: *const c_char,
    settings: *const ConsumerSettingsOf,
    consumer: *mut *mut SharedConsumerHandle,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let consumer = unsafe { out("consumer", consumer)? };
        consumer.write(ptr::null_mut());
        let subscription = if subscription.is_null() { stream } else { subscription };
        // SAFETY: the caller's promise.
        let (connection, stream, subscription, settings) = unsafe {
            let names = (text("stream", stream)?, text("subscription", subscription)?);
            (share(connection)?, names.0, names.1, settings.as_ref())
        };
        let mut builder = connection.shared_consumer(stream, subscription);
        if let Some(settings) = settings {
            builder = builder.wait(wait_strategy(settings.spin_ns)).prefetch(settings.prefetch as usize);
            // SAFETY: the caller's promise.
            if let Some(partitions) = unsafe { settings.partitions()? } {
                builder = builder.partitions(partitions);
            }
        }
        let opened = Lender::new(builder.open()?);
        consumer.write(give(Shared { consumer: opened, message: MessageHandle::none(false) }));
        Ok(Code::Ok)
    })
}

/// Gives back what was not settled, stops consuming and frees the consumer, whatever it returns; null is allowed. Messages that
/// were kept cannot be settled any more; they are still to be freed.
///
/// # Safety
///
/// `consumer` is null or a consumer, which is not used any more, nor is what it has delivered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_close(consumer: *mut SharedConsumerHandle) -> Code {
    enter(|| {
        if consumer.is_null() {
            return Ok(Code::Ok);
        }
        // SAFETY: the caller's promise.
        let mut shared = ManuallyDrop::new(unsafe { take(consumer)? });
        shared.receiving();
        // SAFETY: neither is used again: the drop is left out. What was delivered is over.
        let consumer = unsafe {
            MessageHandle::free(shared.message);
            ptr::read(&raw const shared.consumer).into_inner()
        };
        consumer.close()?;
        Ok(Code::Ok)
    })
}

/// The way of every message.
///
/// # Safety
///
/// As [`ringway_shared_consumer_recv`].
#[inline(always)]
unsafe fn receive(
    consumer: *mut SharedConsumerHandle,
    message: *mut *const MessageOf,
    receive: impl FnOnce(&'static mut SharedConsumer) -> Result<Option<Delivery<'static>>, RecvError>,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (shared, message) = unsafe { (borrow(consumer)?, out("message", message)?) };
        message.write(ptr::null());
        match receive(shared.receiving())? {
            Some(delivery) => {
                shared.message().deliver(delivery);
                message.write(MessageHandle::for_program(shared.message));
                Ok(Code::Ok)
            }
            None => Ok(Code::Empty),
        }
    })
}

/// The next message; waits for it as long as the broker is there. The message that was delivered before is over; if it was
/// neither settled nor kept, it is given back, and comes again.
///
/// # Safety
///
/// `consumer` is a consumer that no other thread uses, `message` can be written; what it has delivered before is not used any
/// more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_recv(
    consumer: *mut SharedConsumerHandle,
    message: *mut *const MessageOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe { receive(consumer, message, |consumer| consumer.recv().map(Some)) }
}

/// The next message, if there is one now; otherwise `RINGWAY_EMPTY`, and `*message` is null.
///
/// # Safety
///
/// As `ringway_shared_consumer_recv`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_try_recv(
    consumer: *mut SharedConsumerHandle,
    message: *mut *const MessageOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe { receive(consumer, message, SharedConsumer::try_recv) }
}

/// The next message; waits for it `timeout_ns` at the most, then `RINGWAY_EMPTY`.
///
/// # Safety
///
/// As `ringway_shared_consumer_recv`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_recv_timeout(
    consumer: *mut SharedConsumerHandle,
    timeout_ns: u64,
    message: *mut *const MessageOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe { receive(consumer, message, |consumer| consumer.recv_timeout(duration(timeout_ns))) }
}

/// A descriptor to wait for, as `ringway_consumer_readiness`, with `ringway_shared_consumer_try_recv`. The message that was
/// delivered last may still be settled.
///
/// # Safety
///
/// `consumer` is a consumer that no other thread uses, `descriptor` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_readiness(
    consumer: *mut SharedConsumerHandle,
    descriptor: *mut c_int,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (shared, into) = unsafe { (borrow(consumer)?, out("descriptor", descriptor)?) };
        into.write(-1);
        let readiness = shared.beside().readiness().map_err(|error| Failure::descriptor(&error))?;
        // The consumer keeps it open.
        into.write(readiness.as_raw_fd());
        Ok(Code::Ok)
    })
}

/// Settles a message in either of its shapes. What was kept is freed when that has succeeded.
///
/// # Safety
///
/// As [`ringway_shared_consumer_ack`].
#[inline(always)]
unsafe fn settle(
    consumer: *mut SharedConsumerHandle,
    message: *const MessageOf,
    delivered: impl FnOnce(Delivery<'static>) -> Result<(), SettleError>,
    kept: impl FnOnce(&mut SharedConsumer, &Leased) -> Result<(), SettleError>,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let shared = unsafe { borrow(consumer)? };
        // SAFETY: the caller's promise.
        let handle = unsafe { MessageHandle::of(message)? };
        let is_own = ptr::eq(message, MessageHandle::for_program(shared.message));
        if handle.is_consumers() && !is_own {
            return Err(SettleError::Foreign.into());
        }
        match handle.take() {
            Body::Delivered(delivery) => delivered(delivery)?,
            Body::Kept(leased) => {
                let settled = kept(shared.beside(), &leased);
                if settled.is_err() {
                    handle.keep(leased);
                } else if !is_own {
                    // SAFETY: the program's message, which is over.
                    unsafe { MessageHandle::free(NonNull::from(handle)) };
                }
                settled?;
            }
            Body::Over => return Err(over()),
            other => {
                handle.put_back(other);
                return Err(Failure::argument("a message of an ordered consumer is not settled"));
            }
        }
        Ok(Code::Ok)
    })
}

/// Settles a message: it is never delivered again, and over for the program. `RINGWAY_LATE`: the lease was over, and the
/// message is, or was, delivered again.
///
/// # Safety
///
/// `consumer` is a consumer that no other thread uses, `message` a message that it has delivered, which is not used any more
/// when this succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_ack(
    consumer: *mut SharedConsumerHandle,
    message: *const MessageOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe { settle(consumer, message, Delivery::ack, SharedConsumer::ack) }
}

/// Says that handling a message has failed: it is delivered again after the subscription's backoff, or dead when it has failed
/// too often. It is over for the program.
///
/// # Safety
///
/// As `ringway_shared_consumer_ack`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_nack(
    consumer: *mut SharedConsumerHandle,
    message: *const MessageOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe { settle(consumer, message, Delivery::nack, SharedConsumer::nack) }
}

/// The same, to be delivered again after `delay_ms`.
///
/// # Safety
///
/// As `ringway_shared_consumer_ack`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_nack_after(
    consumer: *mut SharedConsumerHandle,
    message: *const MessageOf,
    delay_ms: u64,
) -> Code {
    let delay = std::time::Duration::from_millis(delay_ms);
    let delivered = |delivery: Delivery<'_>| delivery.nack_after(delay);
    let kept = |consumer: &mut SharedConsumer, leased: &Leased| consumer.nack_after(leased, delay);
    // SAFETY: the caller's promise.
    unsafe { settle(consumer, message, delivered, kept) }
}

/// Says that a message shall never be delivered again: it goes to the dead letters, and is over for the program.
///
/// # Safety
///
/// As `ringway_shared_consumer_ack`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_reject(
    consumer: *mut SharedConsumerHandle,
    message: *const MessageOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe { settle(consumer, message, Delivery::reject, SharedConsumer::reject) }
}

/// Gives a message back untouched, to be delivered again at once. It is over for the program.
///
/// # Safety
///
/// As `ringway_shared_consumer_ack`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_release(
    consumer: *mut SharedConsumerHandle,
    message: *const MessageOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe { settle(consumer, message, Delivery::release, SharedConsumer::release) }
}

/// Lets the lease of a message last for `lease_ms` from now on, twelve hours at most.
///
/// # Safety
///
/// As `ringway_shared_consumer_ack`; the message may be used on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_extend(
    consumer: *mut SharedConsumerHandle,
    message: *const MessageOf,
    lease_ms: u64,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let shared = unsafe { borrow(consumer)? };
        // SAFETY: the caller's promise.
        let handle = unsafe { MessageHandle::of(message)? };
        let is_own = ptr::eq(message, MessageHandle::for_program(shared.message));
        if handle.is_consumers() && !is_own {
            return Err(SettleError::Foreign.into());
        }
        let lease = std::time::Duration::from_millis(lease_ms);
        if let Some(delivery) = handle.delivery() {
            delivery.extend(lease)?;
            return Ok(Code::Ok);
        }
        let consumer = shared.beside();
        match handle.take() {
            Body::Kept(leased) => {
                let extended = consumer.extend(&leased, lease);
                handle.keep(leased);
                extended?;
                Ok(Code::Ok)
            }
            Body::Over => Err(over()),
            other => {
                handle.put_back(other);
                Err(Failure::argument("a message of an ordered consumer has no lease"))
            }
        }
    })
}

/// Keeps a message beyond the next call of its consumer, with a copy of it; the lease goes on. `kept` is another one, to be
/// settled by the same consumer, which frees it, or freed by `ringway_message_free`; `message` is over.
///
/// # Safety
///
/// As `ringway_shared_consumer_ack`; `kept` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_keep(
    consumer: *mut SharedConsumerHandle,
    message: *const MessageOf,
    kept: *mut *const MessageOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (shared, kept) = unsafe { (borrow(consumer)?, out("kept", kept)?) };
        kept.write(ptr::null());
        if !ptr::eq(message, MessageHandle::for_program(shared.message)) {
            return Err(Failure::argument("only the message that was delivered last can be kept"));
        }
        shared.beside();
        let Body::Kept(leased) = shared.message().take() else { return Err(over()) };
        let mut handle = MessageHandle::none(true);
        // SAFETY: just made, and nobody else's yet.
        unsafe { handle.as_mut() }.keep(leased);
        kept.write(MessageHandle::for_program(handle));
        Ok(Code::Ok)
    })
}

/// Waits until the broker has judged everything that was said, at most ten seconds. `late`, if it is not null, is how many of
/// these verdicts so far came too late. An ack needs no waiting: it is done when it returns.
///
/// # Safety
///
/// `consumer` is a consumer that no other thread uses, `late` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_confirm(
    consumer: *mut SharedConsumerHandle,
    late: *mut u64,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let found = unsafe { borrow(consumer)? }.beside().confirm()?;
        if !late.is_null() {
            // SAFETY: not null; the rest is the caller's promise.
            unsafe { late.write(found) };
        }
        Ok(Code::Ok)
    })
}

/// Waits until everything that was acked, or said otherwise, is as durable as the stream, at most `timeout_ns`, then
/// `RINGWAY_TIMEOUT`: then none of it comes again, whatever dies.
///
/// # Safety
///
/// `consumer` is a consumer that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_confirm_settled(
    consumer: *mut SharedConsumerHandle,
    timeout_ns: u64,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        unsafe { borrow(consumer)? }.beside().confirm_settled(duration(timeout_ns))?;
        Ok(Code::Ok)
    })
}

/// How many verdicts the broker has found to be too late.
///
/// # Safety
///
/// `consumer` is a consumer that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_shared_consumer_late(consumer: *mut SharedConsumerHandle) -> u64 {
    // SAFETY: the caller's promise.
    enter_or(0, || Ok(unsafe { borrow(consumer)? }.beside().late()))
}
