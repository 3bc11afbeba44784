//! Sending: messages, batches, loans; waiting for confirms.
//!
//! One thread at a time uses a producer; which one may change. A loan is independent of its producer until it is sent: any one
//! thread writes it.

use std::ffi::{c_char, c_void};
use std::ptr;

use ringway_client::{Attributes, Durability, Loan, Outgoing, Position, Producer, SendError, WaitStrategy};

use crate::boundary::{
    Failure, RINGWAY_FOREVER, bytes, duration, enter, enter_or, null, optional_text, out, reserved, text,
};
use crate::code::Code;
use crate::connection::ConnectionHandle;
use crate::handle::{Sort, borrow, check, give, share, take};
use crate::outgoing::OutgoingOf;
use crate::settings::durability_number;

/// A producer of a stream. One thread at a time uses it.
pub struct ProducerHandle(());

impl Sort for ProducerHandle {
    type Inner = Producer;
    const WORD: u64 = 0x7269_6e67_7072_6f64;
    const NAME: &'static str = "producer";
}

/// What a producer will be like. Made by `ringway_producer_settings_default`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ProducerSettingsOf {
    /// A name, by which whoever opens the stream next under it learns which of its messages are there. Null: none.
    pub name: *const c_char,
    /// How long to look before sleeping, in nanoseconds, while the stream is full; `RINGWAY_FOREVER`: never sleep.
    pub spin_ns: u64,
    /// Whether each message that has no timestamp gets the time at which it is sent.
    pub timestamps: bool,
    /// Zero.
    pub reserved: [u64; 4],
}

/// The settings that a producer has when nothing else is said: no name, no timestamps, 20 µs of looking.
#[unsafe(no_mangle)]
pub extern "C" fn ringway_producer_settings_default() -> ProducerSettingsOf {
    ProducerSettingsOf { name: ptr::null(), spin_ns: spin_default_ns(), timestamps: false, reserved: [0; 4] }
}

/// How long a wait looks before it sleeps, when nothing is said.
pub(crate) fn spin_default_ns() -> u64 {
    match WaitStrategy::default() {
        WaitStrategy::Adaptive { spin } => spin.as_nanos() as u64,
        _ => RINGWAY_FOREVER,
    }
}

/// How to wait, after looking for so long.
pub(crate) fn wait_strategy(spin_ns: u64) -> WaitStrategy {
    if spin_ns == RINGWAY_FOREVER {
        WaitStrategy::Spin
    } else {
        WaitStrategy::Adaptive { spin: duration(spin_ns) }
    }
}

/// Where a message is in its stream.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PositionOf {
    /// The message's number in its partition.
    pub position: u64,
    /// The partition's number.
    pub partition: u32,
}

impl PositionOf {
    pub(crate) fn of(Position { partition, position }: Position) -> Self {
        Self { position, partition }
    }

    fn position(self) -> Position {
        Position { partition: self.partition, position: self.position }
    }
}

/// Opens all partitions of a stream to publish. `settings` null: the default ones.
///
/// # Safety
///
/// `connection` is a connection, `stream` ends with a zero, `settings` is null or can be read, `producer` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_open(
    connection: *const ConnectionHandle,
    stream: *const c_char,
    settings: *const ProducerSettingsOf,
    producer: *mut *mut ProducerHandle,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let producer = unsafe { out("producer", producer)? };
        producer.write(ptr::null_mut());
        // SAFETY: the caller's promise.
        let (connection, stream, settings) =
            unsafe { (share(connection)?, text("stream", stream)?, settings.as_ref()) };
        let mut builder = connection.producer(stream);
        if let Some(settings) = settings {
            reserved("settings", &settings.reserved)?;
            builder = builder.wait(wait_strategy(settings.spin_ns)).timestamps(settings.timestamps);
            // SAFETY: the caller's promise.
            if let Some(name) = unsafe { optional_text("name", settings.name)? } {
                builder = builder.name(name);
            }
        }
        producer.write(give(builder.open()?));
        Ok(Code::Ok)
    })
}

/// Gives the stream back and frees the producer, whatever it returns; null is allowed.
///
/// # Safety
///
/// `producer` is null or a producer, which is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_close(producer: *mut ProducerHandle) -> Code {
    enter(|| {
        if !producer.is_null() {
            // SAFETY: the caller's promise.
            unsafe { take(producer)? }.close()?;
        }
        Ok(Code::Ok)
    })
}

/// Writes where a message is, if that was asked.
///
/// # Safety
///
/// `into` is null or can be written.
#[inline]
unsafe fn tell(into: *mut PositionOf, position: Position) {
    if !into.is_null() {
        // SAFETY: not null; the rest is the caller's promise.
        unsafe { into.write(PositionOf::of(position)) };
    }
}

/// The way of every message that is nothing but a payload.
///
/// # Safety
///
/// As [`ringway_producer_send`].
#[inline(always)]
unsafe fn send(
    producer: *mut ProducerHandle,
    payload: *const c_void,
    payload_bytes: usize,
    position: *mut PositionOf,
    send: impl FnOnce(&mut Producer, &[u8]) -> Result<Position, SendError>,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (producer, payload) = unsafe { (borrow(producer)?, bytes("payload", payload, payload_bytes)?) };
        let sent = send(producer, payload)?;
        // SAFETY: the caller's promise.
        unsafe { tell(position, sent) };
        Ok(Code::Ok)
    })
}

/// Publishes one message; waits while its partition is full, for as long as the broker is there. `position`, if it is not
/// null, is where the message is.
///
/// # Safety
///
/// `producer` is a producer that no other thread uses, there are `payload_bytes` at `payload`, `position` is null or can be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_send(
    producer: *mut ProducerHandle,
    payload: *const c_void,
    payload_bytes: usize,
    position: *mut PositionOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe { send(producer, payload, payload_bytes, position, |producer, payload| producer.send(payload)) }
}

/// Publishes one message, or says at once that its partition is full (`RINGWAY_FULL`).
///
/// # Safety
///
/// As `ringway_producer_send`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_try_send(
    producer: *mut ProducerHandle,
    payload: *const c_void,
    payload_bytes: usize,
    position: *mut PositionOf,
) -> Code {
    // SAFETY: the caller's promise.
    unsafe {
        send(producer, payload, payload_bytes, position, |producer, payload| producer.try_send(payload))
    }
}

/// Publishes one message; waits at most `timeout_ns` while its partition is full, then `RINGWAY_FULL`.
///
/// # Safety
///
/// As `ringway_producer_send`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_send_timeout(
    producer: *mut ProducerHandle,
    payload: *const c_void,
    payload_bytes: usize,
    timeout_ns: u64,
    position: *mut PositionOf,
) -> Code {
    let within =
        |producer: &mut Producer, payload: &[u8]| producer.send_timeout(payload, duration(timeout_ns));
    // SAFETY: the caller's promise.
    unsafe { send(producer, payload, payload_bytes, position, within) }
}

/// Publishes a message with its key and other attributes; waits at most `timeout_ns` while its partition is full: 0 not at all,
/// `RINGWAY_FOREVER` as long as the broker is there.
///
/// # Safety
///
/// `producer` is a producer that no other thread uses, `message` can be read and everything in it is as it says, `position` is
/// null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_send_message(
    producer: *mut ProducerHandle,
    message: *const OutgoingOf,
    timeout_ns: u64,
    position: *mut PositionOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (producer, message) = unsafe { (borrow(producer)?, message.as_ref()) };
        // SAFETY: the caller's promise.
        let message = unsafe { message.ok_or_else(|| null("message"))?.checked()? };
        let sent = match timeout_ns {
            0 => producer.try_send(message)?,
            RINGWAY_FOREVER => producer.send(message)?,
            _ => producer.send_timeout(message, duration(timeout_ns))?,
        };
        // SAFETY: the caller's promise.
        unsafe { tell(position, sent) };
        Ok(Code::Ok)
    })
}

/// Publishes messages in order; waits while a partition is full. Looks for sleepers once for all of them. `sent`, if it is not
/// null, is how many were published before the one that could not be; `last` is where the last of them is, if there was one
/// and all were sent. A message that cannot be (`RINGWAY_ARGUMENT`) is found before anything is published.
///
/// # Safety
///
/// `producer` is a producer that no other thread uses, there are `count` messages and everything in them is as they say; `sent`
/// and `last` are null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_send_batch(
    producer: *mut ProducerHandle,
    messages: *const OutgoingOf,
    count: usize,
    sent: *mut usize,
    last: *mut PositionOf,
) -> Code {
    let tell_sent = |count: usize| {
        if !sent.is_null() {
            // SAFETY: not null; the rest is the caller's promise.
            unsafe { sent.write(count) };
        }
    };
    tell_sent(0);
    enter(|| {
        if messages.is_null() && count > 0 {
            return Err(null("messages"));
        }
        // SAFETY: the caller's promise.
        let producer = unsafe { borrow(producer)? };
        let message = |index: usize| {
            // SAFETY: there are `count` of them by the caller's promise.
            unsafe { (*messages.add(index)).checked() }
        };
        // Twice: the first time to find what cannot be, the second to send. Cheaper than to keep what was found.
        for index in 0..count {
            let _ = message(index)?;
        }
        let plain = Outgoing::new(&[]);
        let found = (0..count).map(|index| message(index).unwrap_or(plain));
        match producer.send_batch(found) {
            Ok(position) => {
                tell_sent(count);
                if let Some(position) = position {
                    // SAFETY: the caller's promise.
                    unsafe { tell(last, position) };
                }
                Ok(Code::Ok)
            }
            Err(error) => {
                tell_sent(error.sent);
                Err(error.into())
            }
        }
    })
}

/// Memory for one payload, to be written where its readers will read it. Any one thread at a time uses it; it may be kept for
/// any time, and holds nobody up.
#[repr(C)]
pub struct LoanOf {
    /// The library's.
    pub word: u64,
    /// Where to write the payload. Left over from earlier payloads of the producer until it is written.
    pub payload: *mut u8,
    /// Bytes of the payload.
    pub payload_bytes: usize,
}

/// What is behind it.
#[repr(C)]
struct LoanHandle {
    public: LoanOf,
    loan: Loan,
}

impl Sort for LoanOf {
    type Inner = Loan;
    const WORD: u64 = 0x7269_6e67_6c6f_616e;
    const NAME: &'static str = "loan";
}

fn give_loan(mut loan: Loan) -> *mut LoanOf {
    let public = LoanOf { word: LoanOf::WORD, payload: loan.as_mut_ptr(), payload_bytes: loan.len() };
    Box::into_raw(Box::new(LoanHandle { public, loan })).cast()
}

/// # Safety
///
/// `loan` is null, or points to a handle that is not over; it is not used any more.
unsafe fn take_loan(loan: *mut LoanOf) -> Result<Loan, Failure> {
    // SAFETY: the caller's promise.
    unsafe { check(loan)? };
    // SAFETY: `give_loan` made it as a box; it ends here.
    let mut handle = unsafe { Box::from_raw(loan.cast::<LoanHandle>()) };
    // SAFETY: the word is ours. Volatile, so that it is written though it is freed at once.
    unsafe { ptr::write_volatile(&raw mut handle.public.word, 0) };
    Ok(handle.loan)
}

/// Takes memory for a payload of `payload_bytes`, to be sent by `ringway_producer_send_loan`; waits while all memory that this
/// producer may have is in messages that are not consumed. `key`, if it is not null, is the key that its message will have.
///
/// # Safety
///
/// `producer` is a producer that no other thread uses, there are `key_bytes` at `key`, `loan` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_loan(
    producer: *mut ProducerHandle,
    payload_bytes: usize,
    key: *const c_void,
    key_bytes: usize,
    loan: *mut *mut LoanOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let loan = unsafe { out("loan", loan)? };
        loan.write(ptr::null_mut());
        // SAFETY: the caller's promise.
        let producer = unsafe { borrow(producer)? };
        let taken = if key.is_null() {
            producer.loan(payload_bytes)?
        } else {
            // SAFETY: the caller's promise.
            producer.loan_for_key(unsafe { bytes("key", key, key_bytes)? }, payload_bytes)?
        };
        loan.write(give_loan(taken));
        Ok(Code::Ok)
    })
}

/// Keeps the first `payload_bytes` of a loan only.
///
/// # Safety
///
/// `loan` is a loan that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_loan_truncate(loan: *mut LoanOf, payload_bytes: usize) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        unsafe { check(loan)? };
        // SAFETY: `give_loan` made it; nobody else uses it by the caller's promise.
        let LoanHandle { public, loan } = unsafe { &mut *loan.cast::<LoanHandle>() };
        let bytes = loan.len();
        if payload_bytes > bytes {
            return Err(Failure::argument(format!(
                "a loan of {bytes} bytes cannot be cut to {payload_bytes}"
            )));
        }
        loan.truncate(payload_bytes);
        public.payload_bytes = payload_bytes;
        Ok(Code::Ok)
    })
}

/// Gives a loan back that is not to be sent; null is allowed.
///
/// # Safety
///
/// `loan` is null or a loan, which is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_loan_free(loan: *mut LoanOf) -> Code {
    enter(|| {
        if !loan.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { take_loan(loan)? });
        }
        Ok(Code::Ok)
    })
}

/// Publishes a loan of this producer; waits while its partition is full. `attributes`, if it is not null, is a message whose
/// payload does not count; its key must be the one that the loan was taken for. On success the loan is over, and `*loan` is
/// null; after an error it is as it was.
///
/// # Safety
///
/// `producer` is a producer and `*loan` a loan, which no other thread uses; `attributes` is null or everything in it is as it
/// says; `position` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_send_loan(
    producer: *mut ProducerHandle,
    loan: *mut *mut LoanOf,
    attributes: *const OutgoingOf,
    position: *mut PositionOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (producer, attributes) = unsafe { (borrow(producer)?, attributes.as_ref()) };
        let attributes = match attributes {
            // SAFETY: the caller's promise.
            Some(message) => unsafe { message.checked_attributes()? },
            None => Attributes::new(),
        };
        // SAFETY: a pointer to a loan by the caller's promise.
        let place = unsafe { loan.as_mut() }.ok_or_else(|| null("loan"))?;
        // SAFETY: the caller's promise.
        let taken = unsafe { take_loan(*place)? };
        *place = ptr::null_mut();
        match producer.send_loan_with(taken, attributes) {
            Ok(sent) => {
                // SAFETY: the caller's promise.
                unsafe { tell(position, sent) };
                Ok(Code::Ok)
            }
            Err(error) => {
                let failure = Failure::from(error.source);
                *place = give_loan(*error.loan);
                Err(failure)
            }
        }
    })
}

/// Waits until the message at `position`, and everything before it in its partition, is confirmed, at most `timeout_ns`, then
/// `RINGWAY_TIMEOUT`. `reached`, if it is not null, is the `ringway_durability` that it has.
///
/// # Safety
///
/// `producer` is a producer that no other thread uses, `reached` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_confirm(
    producer: *mut ProducerHandle,
    position: PositionOf,
    timeout_ns: u64,
    reached: *mut u32,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let producer = unsafe { borrow(producer)? };
        let level = producer.confirm_timeout(position.position(), duration(timeout_ns))?;
        // SAFETY: the caller's promise.
        unsafe { tell_level(reached, level) };
        Ok(Code::Ok)
    })
}

/// Waits until everything that this producer has sent so far is confirmed, as `ringway_producer_confirm` does.
///
/// # Safety
///
/// As `ringway_producer_confirm`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_confirm_all(
    producer: *mut ProducerHandle,
    timeout_ns: u64,
    reached: *mut u32,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let level = unsafe { borrow(producer)? }.confirm_all_timeout(duration(timeout_ns))?;
        // SAFETY: the caller's promise.
        unsafe { tell_level(reached, level) };
        Ok(Code::Ok)
    })
}

/// # Safety
///
/// `reached` is null or can be written.
unsafe fn tell_level(reached: *mut u32, level: Durability) {
    if !reached.is_null() {
        // SAFETY: not null; the rest is the caller's promise.
        unsafe { reached.write(durability_number(level)) };
    }
}

/// Whether the message at `position` is confirmed. Does not wait.
///
/// # Safety
///
/// `producer` is a producer that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_is_confirmed(
    producer: *mut ProducerHandle,
    position: PositionOf,
) -> bool {
    // SAFETY: the caller's promise.
    enter_or(false, || Ok(unsafe { borrow(producer)? }.is_confirmed(position.position())))
}

/// Which message the next one is, if it says nothing else; `RINGWAY_EMPTY` when the producer has no name.
///
/// # Safety
///
/// `producer` is a producer that no other thread uses, `sequence` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_next_sequence(
    producer: *mut ProducerHandle,
    sequence: *mut u64,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (producer, sequence) = unsafe { (borrow(producer)?, out("sequence", sequence)?) };
        let next = producer.next_sequence();
        sequence.write(next.unwrap_or(0));
        Ok(if next.is_some() { Code::Ok } else { Code::Empty })
    })
}

/// Most bytes of a payload that fits a slot; larger ones take memory beside it. 0 when this is no producer.
///
/// # Safety
///
/// `producer` is a producer that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_inline_bytes_max(producer: *mut ProducerHandle) -> usize {
    // SAFETY: the caller's promise.
    enter_or(0, || Ok(unsafe { borrow(producer)? }.inline_bytes_max()))
}

/// Most bytes of a payload. 0 when this is no producer.
///
/// # Safety
///
/// `producer` is a producer that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_producer_payload_bytes_max(producer: *mut ProducerHandle) -> usize {
    // SAFETY: the caller's promise.
    enter_or(0, || Ok(unsafe { borrow(producer)? }.payload_bytes_max()))
}
