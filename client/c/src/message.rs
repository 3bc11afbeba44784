//! What a consumer returns: a description for C in front, and behind it what the client has returned.
//!
//! ```text
//! program ──▶ ├ word · payload · bytes · position · … ┼ body: lent | held | delivered | kept ┤
//! ```
//!
//! 1. A message that is lent or delivered is its consumer's: it is over with the next call that receives. One that is held or
//!    kept is the program's: it frees it.
//! 2. What is lent ends before its consumer is used again: see [`Body`].
//! 3. A pointer to a payload in place is given out, never a reference: it is C that reads there, while its producer keeps to the
//!    protocol. Who does not trust the producer copies by `ringway_message_read`.

use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};

use ringway_client::{ArenaView, AttributesView, Delivery, HeldMessage, Leased, Message, Value};

use crate::boundary::{Failure, enter, out, text};
use crate::code::Code;
use crate::handle::{Sort, check};
use crate::outgoing::ValueOf;

/// A message, or the delivery of one. Only the library makes one; a program reads its members.
#[repr(C)]
pub struct MessageOf {
    /// The library's.
    pub word: u64,
    /// The payload: valid until the next call that receives from the same consumer, or closes it; of a message that was
    /// held or kept, until it is freed, or settled.
    pub payload: *const u8,
    /// Bytes of the payload.
    pub payload_bytes: usize,
    /// The message's number in its partition.
    pub position: u64,
    /// The partition that it came from.
    pub partition: u32,
    /// Of a shared subscription: which delivery this is, 1 for the first. Otherwise 0.
    pub attempt: u32,
    /// Of a shared subscription: how many of the deliveries before have failed.
    pub failed: u32,
    /// Whether the payload is where its producer wrote it, not a copy.
    pub is_in_place: bool,
}

impl Sort for MessageOf {
    type Inner = Body;
    const WORD: u64 = 0x7269_6e67_6d65_7373;
    const NAME: &'static str = "message";
}

/// What is behind a message. `'static` stands for "as long as its consumer is not used": whoever uses the consumer makes this
/// [`Over`](Self::Over) before.
pub(crate) enum Body {
    /// There is none.
    Over,
    /// Of an ordered consumer, and nothing but a payload in its buffer, as most are: what C knows of it is all there is.
    Plain,
    /// A copy of such a one: the program's.
    Copied(Box<[u8]>),
    /// Of an ordered consumer.
    Lent(Message<'static>),
    /// The program's.
    Held(HeldMessage),
    /// Of a shared consumer.
    Delivered(Delivery<'static>),
    /// The program's, or of a shared consumer that was used meanwhile.
    Kept(Leased),
}

/// A message as it is in memory.
#[repr(C)]
pub(crate) struct MessageHandle {
    public: MessageOf,
    body: Body,
    /// The program frees it; otherwise its consumer does.
    is_programs: bool,
}

impl MessageHandle {
    /// No message yet: what a consumer returns is put here.
    pub(crate) fn none(is_programs: bool) -> NonNull<Self> {
        let public = MessageOf {
            word: MessageOf::WORD,
            payload: ptr::null(),
            payload_bytes: 0,
            position: 0,
            partition: 0,
            attempt: 0,
            failed: 0,
            is_in_place: false,
        };
        NonNull::from(Box::leak(Box::new(Self { public, body: Body::Over, is_programs })))
    }

    /// Frees a message.
    ///
    /// # Safety
    ///
    /// [`none`](Self::none) made it, and it is not used any more.
    pub(crate) unsafe fn free(handle: NonNull<Self>) {
        // SAFETY: the caller's promise.
        let mut handle = unsafe { Box::from_raw(handle.as_ptr()) };
        // SAFETY: the word is ours. Volatile, so that it is written though it is freed at once.
        unsafe { ptr::write_volatile(&raw mut handle.public.word, 0) };
    }

    /// Ends what was lent. What is plain refers to nothing: it may stay.
    #[inline]
    pub(crate) fn end(&mut self) {
        if !matches!(self.body, Body::Plain) {
            self.set_body(Body::Over);
        }
    }

    /// Out of the way of plain messages: to drop what was there takes more time than they do.
    #[cold]
    #[inline(never)]
    fn set_body(&mut self, body: Body) {
        self.body = body;
    }

    /// Takes the message out.
    #[inline]
    pub(crate) fn take(&mut self) -> Body {
        std::mem::replace(&mut self.body, Body::Over)
    }

    /// Whether its consumer frees it.
    pub(crate) fn is_consumers(&self) -> bool {
        !self.is_programs
    }

    /// Puts back what was taken.
    pub(crate) fn put_back(&mut self, body: Body) {
        self.body = body;
    }

    /// The delivery, if it is one that was neither settled nor kept.
    pub(crate) fn delivery(&mut self) -> Option<&mut Delivery<'static>> {
        match &mut self.body {
            Body::Delivered(delivery) => Some(delivery),
            _ => None,
        }
    }

    /// Notes a message that was just received; `false`: it is more than a payload, to be [lent](Self::lend) as a whole. Most are
    /// not, and to move those here would cost more than to receive them.
    #[inline(always)]
    pub(crate) fn note_plain(&mut self, message: &Message<'_>) -> bool {
        if !message.is_inline() || message.attributes().parts().0 != 0 {
            return false;
        }
        let (position, partition, payload) = (message.position(), message.partition(), message.payload());
        (self.public.position, self.public.partition) = (position, partition);
        self.set_payload(payload);
        if !matches!(self.body, Body::Plain) {
            self.set_body(Body::Plain);
        }
        true
    }

    /// Puts a message that was noted, and is more than a payload.
    #[cold]
    #[inline(never)]
    pub(crate) fn lend(&mut self, message: Message<'static>) {
        (self.public.position, self.public.partition) = (message.position(), message.partition());
        match message.view() {
            None => self.set_payload(message.payload()),
            Some(view) => self.set_view(view),
        }
        self.body = Body::Lent(message);
    }

    /// Puts a copy, which the program has, of a plain message.
    fn copy(&mut self, plain: &Self) {
        let payload: Box<[u8]> = plain.payload().into();
        self.public.position = plain.public.position;
        self.public.partition = plain.public.partition;
        self.set_payload(&payload);
        self.body = Body::Copied(payload);
    }

    /// The payload of a plain message, or of any that is not in place.
    fn payload(&self) -> &[u8] {
        if let Body::Copied(payload) = &self.body {
            return payload;
        }
        // SAFETY: it lies in the buffer of the consumer, which is not used as long as the message is there, or in what the
        // body has.
        unsafe { std::slice::from_raw_parts(self.public.payload, self.public.payload_bytes) }
    }

    /// Puts a message that the program holds.
    pub(crate) fn hold(&mut self, message: HeldMessage) {
        self.public.position = message.position();
        self.public.partition = message.partition();
        match message.view() {
            None => self.set_payload(message.payload()),
            Some(view) => self.set_view(view),
        }
        self.body = Body::Held(message);
    }

    /// Puts the delivery that was just received.
    #[inline]
    pub(crate) fn deliver(&mut self, delivery: Delivery<'static>) {
        let position = delivery.position();
        (self.public.position, self.public.partition) = (position.position, position.partition);
        (self.public.attempt, self.public.failed) = (delivery.attempt(), delivery.failed());
        self.set_payload(delivery.payload());
        self.body = Body::Delivered(delivery);
    }

    /// Puts a delivery that is kept.
    pub(crate) fn keep(&mut self, leased: Leased) {
        let position = leased.position();
        (self.public.position, self.public.partition) = (position.position, position.partition);
        (self.public.attempt, self.public.failed) = (leased.attempt(), leased.failed());
        self.set_payload(leased.payload());
        self.body = Body::Kept(leased);
    }

    #[inline]
    fn set_payload(&mut self, payload: &[u8]) {
        self.public.payload = payload.as_ptr();
        self.public.payload_bytes = payload.len();
        self.public.is_in_place = false;
    }

    fn set_view(&mut self, view: &ArenaView) {
        // SAFETY: the slice is not read here, and ends with this statement: only where it begins is of interest.
        self.public.payload = unsafe { view.as_slice() }.as_ptr();
        self.public.payload_bytes = view.len();
        self.public.is_in_place = true;
    }

    /// What the program has a pointer to.
    pub(crate) fn for_program(handle: NonNull<Self>) -> *const MessageOf {
        handle.as_ptr().cast_const().cast()
    }

    /// The message behind a program's pointer.
    ///
    /// # Safety
    ///
    /// `message` is null, or points to a handle that is not over, and no other thread uses it or its consumer during `'a`.
    pub(crate) unsafe fn of<'a>(message: *const MessageOf) -> Result<&'a mut Self, Failure> {
        // SAFETY: the caller's promise.
        unsafe { check(message)? };
        // SAFETY: `none` made it; nobody else uses it by the caller's promise.
        Ok(unsafe { &mut *message.cast_mut().cast::<Self>() })
    }

    fn attributes(&self) -> Result<AttributesView<'_>, Failure> {
        match &self.body {
            Body::Over => Err(over()),
            Body::Plain | Body::Copied(_) => Ok(AttributesView::default()),
            Body::Lent(message) => Ok(message.attributes()),
            Body::Held(message) => Ok(message.attributes()),
            Body::Delivered(delivery) => Ok(delivery.attributes()),
            Body::Kept(leased) => Ok(leased.attributes()),
        }
    }
}

#[cold]
pub(crate) fn over() -> Failure {
    Failure::argument("this message is over: it was settled, or its consumer has received another one")
}

/// Writes a part that may be missing: `RINGWAY_EMPTY` then.
///
/// # Safety
///
/// `into` and `count` are null or can be written.
unsafe fn tell_bytes(
    part: Option<&[u8]>,
    into: *mut *const c_void,
    count: *mut usize,
) -> Result<Code, Failure> {
    // SAFETY: the caller's promise.
    let (into, count) = unsafe { (out("where the bytes are", into)?, out("how many there are", count)?) };
    into.write(part.map_or(ptr::null(), |part| part.as_ptr().cast()));
    count.write(part.map_or(0, <[u8]>::len));
    Ok(if part.is_some() { Code::Ok } else { Code::Empty })
}

/// The key of a message, for as long as its payload is valid; `RINGWAY_EMPTY`: it has none.
///
/// # Safety
///
/// `message` is a message, which no other thread uses, nor its consumer; the rest can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_message_key(
    message: *const MessageOf,
    key: *mut *const c_void,
    key_bytes: *mut usize,
) -> Code {
    // SAFETY: the caller's promise.
    enter(|| unsafe { tell_bytes(MessageHandle::of(message)?.attributes()?.key(), key, key_bytes) })
}

/// The correlation id of a message, as `ringway_message_key`.
///
/// # Safety
///
/// As `ringway_message_key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_message_correlation(
    message: *const MessageOf,
    correlation: *mut *const c_void,
    correlation_bytes: *mut usize,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let attributes = unsafe { MessageHandle::of(message)? }.attributes()?;
        // SAFETY: the caller's promise.
        unsafe { tell_bytes(attributes.correlation(), correlation, correlation_bytes) }
    })
}

/// The stream where a reply to a message is expected, not ended by a zero, as `ringway_message_key`.
///
/// # Safety
///
/// As `ringway_message_key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_message_reply_to(
    message: *const MessageOf,
    stream: *mut *const c_void,
    stream_bytes: *mut usize,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let attributes = unsafe { MessageHandle::of(message)? }.attributes()?;
        // SAFETY: the caller's promise.
        unsafe { tell_bytes(attributes.reply_to().map(str::as_bytes), stream, stream_bytes) }
    })
}

/// When a message came about, in nanoseconds since 1970; `RINGWAY_EMPTY`: it does not say.
///
/// # Safety
///
/// As `ringway_message_key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_message_timestamp_ns(
    message: *const MessageOf,
    timestamp_ns: *mut u64,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (message, into) = unsafe { (MessageHandle::of(message)?, out("timestamp_ns", timestamp_ns)?) };
        let timestamp = message.attributes()?.timestamp_ns();
        into.write(timestamp.unwrap_or(0));
        Ok(if timestamp.is_some() { Code::Ok } else { Code::Empty })
    })
}

/// Which message it is in the count of its producer; `RINGWAY_EMPTY`: that has no name.
///
/// # Safety
///
/// As `ringway_message_key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_message_sequence(message: *const MessageOf, sequence: *mut u64) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (message, into) = unsafe { (MessageHandle::of(message)?, out("sequence", sequence)?) };
        let stamp = message.attributes()?.stamp();
        into.write(stamp.map_or(0, |stamp| stamp.sequence));
        Ok(if stamp.is_some() { Code::Ok } else { Code::Empty })
    })
}

/// A typed attribute of a message, by its name; `RINGWAY_EMPTY`: it has none of this name.
///
/// # Safety
///
/// As `ringway_message_key`; `name` ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_message_attribute(
    message: *const MessageOf,
    name: *const c_char,
    value: *mut ValueOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (message, name, into) =
            unsafe { (MessageHandle::of(message)?, text("name", name)?, out("value", value)?) };
        match message.attributes()?.get(name) {
            Some(value) => into.write(ValueOf::of(&value)?),
            None => return Ok(Code::Empty),
        };
        Ok(Code::Ok)
    })
}

/// The typed attribute at `index` with its name, which is not ended by a zero; `RINGWAY_EMPTY`: there are not so many.
///
/// # Safety
///
/// As `ringway_message_key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_message_attribute_at(
    message: *const MessageOf,
    index: usize,
    name: *mut *const c_void,
    name_bytes: *mut usize,
    value: *mut ValueOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (message, into) = unsafe { (MessageHandle::of(message)?, out("value", value)?) };
        let found: Option<(&str, Value<'_>)> = message.attributes()?.iter().nth(index);
        if let Some((_, value)) = &found {
            into.write(ValueOf::of(value)?);
        }
        // SAFETY: the caller's promise.
        unsafe { tell_bytes(found.map(|(name, _)| name.as_bytes()), name, name_bytes) }
    })
}

/// Copies `bytes` of a payload from `at` on into `into`. Of a payload in place this is right also when its producer, against
/// the protocol, writes there at the same time: what is copied is then any mixture.
///
/// # Safety
///
/// As `ringway_message_key`; `bytes` can be written at `into`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_message_read(
    message: *const MessageOf,
    at: usize,
    into: *mut c_void,
    bytes: usize,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let message = unsafe { MessageHandle::of(message)? };
        let payload_bytes = message.public.payload_bytes;
        if at.checked_add(bytes).is_none_or(|end| end > payload_bytes) {
            return Err(Failure::argument(format!(
                "{bytes} bytes from {at} on are not in a payload of {payload_bytes}"
            )));
        }
        if bytes == 0 {
            return Ok(Code::Ok);
        }
        // SAFETY: the caller's promise: these bytes can be written. They are set before they become a slice.
        let into = unsafe {
            let into = out("into", into.cast::<u8>())?.as_mut_ptr();
            into.write_bytes(0, bytes);
            std::slice::from_raw_parts_mut(into, bytes)
        };
        let view = match &message.body {
            Body::Over => return Err(over()),
            Body::Lent(lent) => lent.view(),
            Body::Held(held) => held.view(),
            _ => None,
        };
        match view {
            Some(view) => view.read(at, into),
            None => into.copy_from_slice(&message.payload()[at..at + bytes]),
        }
        Ok(Code::Ok)
    })
}

/// Keeps a message of an ordered consumer beyond its next call, for any time: `held` is another one, to be freed by
/// `ringway_message_free`, by any thread. A payload in place stays there: `RINGWAY_HELD` when a consumer holds 64 such.
///
/// # Safety
///
/// As `ringway_message_key`; `held` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_message_hold(
    message: *const MessageOf,
    held: *mut *const MessageOf,
) -> Code {
    enter(|| {
        // SAFETY: the caller's promise.
        let (message, held) = unsafe { (MessageHandle::of(message)?, out("held", held)?) };
        held.write(ptr::null());
        let kept = match &message.body {
            Body::Lent(lent) => Some(lent.hold()?),
            Body::Plain => None,
            Body::Over => return Err(over()),
            _ => {
                return Err(Failure::argument(
                    "only a message that an ordered consumer has lent can be held",
                ));
            }
        };
        let mut handle = MessageHandle::none(true);
        // SAFETY: just made, and nobody else's yet.
        let new = unsafe { handle.as_mut() };
        match kept {
            Some(kept) => new.hold(kept),
            None => new.copy(message),
        }
        held.write(MessageHandle::for_program(handle));
        Ok(Code::Ok)
    })
}

/// Frees a message that was held, or kept and is not to be settled (its lease ends by itself); null is allowed.
///
/// # Safety
///
/// `message` is null or a message, which is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringway_message_free(message: *const MessageOf) -> Code {
    enter(|| {
        let Some(handle) = NonNull::new(message.cast_mut()) else { return Ok(Code::Ok) };
        // SAFETY: the caller's promise.
        if unsafe { MessageHandle::of(message)? }.is_programs {
            // SAFETY: `none` made it, and it is not used any more by the caller's promise.
            unsafe { MessageHandle::free(handle.cast()) };
            return Ok(Code::Ok);
        }
        Err(Failure::argument("this message is its consumer's: the next call that receives ends it"))
    })
}
