//! The way in and out of the library: arguments are checked here, errors and panics become codes.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::code::{Code, Coded};

/// A time that never ends, wherever nanoseconds are to be said.
pub const RINGWAY_FOREVER: u64 = u64::MAX;

/// Why a call has failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    message: String,
    is_retryable: bool,
}

impl Failure {
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self { code: Code::Argument, message: message.into(), is_retryable: false }
    }

    /// The kernel gives no descriptor: there are as many as it allows, or no memory.
    pub(crate) fn descriptor(error: &io::Error) -> Self {
        let message =
            format!("there is no descriptor to wait for: {error}; close some, or raise `ulimit -n`");
        Self { code: Code::Limit, message, is_retryable: true }
    }
}

impl<E: Coded> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: error.sort(), message: error.to_string(), is_retryable: error.is_retryable() }
    }
}

/// What the last error of a thread was.
struct Last {
    message: CString,
    is_retryable: bool,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::new(Last { message: CString::default(), is_retryable: false });
}

/// Around every function of the library.
#[inline(always)]
pub(crate) fn enter(body: impl FnOnce() -> Result<Code, Failure>) -> Code {
    // Not what the closure returns: that would be read back wider than it was written, which stalls.
    let mut code = Code::Defect;
    // Whatever state a panic leaves behind, the caller is told that the handle may be in none to be used.
    let entered = catch_unwind(AssertUnwindSafe(|| code = body().unwrap_or_else(fail)));
    match entered {
        Ok(()) => code,
        Err(panic) => fail(defect(panic.as_ref())),
    }
}

/// The same for a function that returns no code: what it returns when it fails is `otherwise`.
pub(crate) fn enter_or<T>(otherwise: T, body: impl FnOnce() -> Result<T, Failure>) -> T {
    let mut value = otherwise;
    enter(|| {
        value = body()?;
        Ok(Code::Ok)
    });
    value
}

#[cold]
fn fail(Failure { code, message, is_retryable }: Failure) -> Code {
    let message = CString::new(message.replace('\0', "?")).unwrap_or_default();
    // A thread that is ending keeps no message.
    let _ = LAST.try_with(|last| *last.borrow_mut() = Last { message, is_retryable });
    code
}

fn defect(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text =
        text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given");
    Failure {
        code: Code::Defect,
        message: format!("a defect in the library: {text}; close the handle"),
        is_retryable: false,
    }
}

/// What the last error of this thread was, as text for people: what happened, with figures, and what to do. Empty before
/// the first error. Valid until the next error of this thread, or its end.
#[unsafe(no_mangle)]
pub extern "C" fn ringway_error_message() -> *const c_char {
    LAST.try_with(|last| last.borrow().message.as_ptr()).unwrap_or(c"".as_ptr())
}

/// Whether the call that was the last to fail in this thread may succeed later, without anything else being done.
#[unsafe(no_mangle)]
pub extern "C" fn ringway_error_is_retryable() -> bool {
    LAST.try_with(|last| last.borrow().is_retryable).unwrap_or(false)
}

/// The library's version. The header's is `RINGWAY_VERSION`: the two must be the same.
#[unsafe(no_mangle)]
pub extern "C" fn ringway_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// An optional text.
///
/// # Safety
///
/// `text` is null, or ends with a zero and stays as it is for `'a`.
pub(crate) unsafe fn optional_text<'a>(what: &str, text: *const c_char) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not null; the rest is the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Some).map_err(|_| Failure::argument(format!("{what} is not UTF-8")))
}

/// A text that must be there.
///
/// # Safety
///
/// As [`optional_text`].
pub(crate) unsafe fn text<'a>(what: &str, text: *const c_char) -> Result<&'a str, Failure> {
    // SAFETY: the caller's promise.
    unsafe { optional_text(what, text)? }.ok_or_else(|| Failure::argument(format!("{what} is null")))
}

/// Bytes.
///
/// # Safety
///
/// `bytes` is null, or there are `count` bytes, which stay as they are for `'a`.
#[inline]
pub(crate) unsafe fn bytes<'a>(what: &str, bytes: *const c_void, count: usize) -> Result<&'a [u8], Failure> {
    if bytes.is_null() {
        return if count == 0 { Ok(&[]) } else { Err(no_bytes(what, count)) };
    }
    if count > isize::MAX as usize {
        return Err(Failure::argument(format!("{what} cannot have {count} bytes")));
    }
    // SAFETY: not null and not longer than anything can be; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(bytes.cast(), count) })
}

#[cold]
fn no_bytes(what: &str, count: usize) -> Failure {
    Failure::argument(format!("{what} is null and has {count} bytes"))
}

/// Where something is to be written.
///
/// # Safety
///
/// `out` is null, or can be written for `'a`, and nothing else uses it meanwhile. What stands there need not be valid.
#[inline]
pub(crate) unsafe fn out<'a, T>(what: &str, out: *mut T) -> Result<&'a mut MaybeUninit<T>, Failure> {
    // SAFETY: null makes none; the rest is the caller's promise.
    unsafe { out.cast::<MaybeUninit<T>>().as_mut() }.ok_or_else(|| null(what))
}

#[cold]
pub(crate) fn null(what: &str) -> Failure {
    Failure::argument(format!("{what} is null"))
}

/// A time to wait. [`RINGWAY_FOREVER`], and with it all that no clock can reach, is for ever.
pub(crate) fn duration(nanoseconds: u64) -> Duration {
    if nanoseconds == RINGWAY_FOREVER { Duration::MAX } else { Duration::from_nanos(nanoseconds) }
}

/// Words that are reserved must be zero.
pub(crate) fn reserved(what: &str, words: &[u64]) -> Result<(), Failure> {
    if words.iter().all(|word| *word == 0) {
        return Ok(());
    }
    Err(Failure::argument(format!(
        "{what} has reserved words that are not zero: make it by its _default function"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_does_not_leave_the_library_and_is_told() {
        assert_eq!(enter(|| panic!("seven is {}", 7)), Code::Defect);
        // SAFETY: it ends with a zero, and stays until the next error of this thread.
        let message = unsafe { CStr::from_ptr(ringway_error_message()) };
        assert_eq!(message, c"a defect in the library: seven is 7; close the handle");
        assert!(!ringway_error_is_retryable());
        assert_eq!(enter_or(3, || Err(Failure::argument("no"))), 3);
    }

    #[test]
    fn errors_are_told_to_the_thread_that_made_them() {
        enter(|| Err(Failure::argument("mine")));
        std::thread::spawn(|| enter(|| Err(Failure::argument("another's")))).join().unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { CStr::from_ptr(ringway_error_message()) }, c"mine");
    }
}
