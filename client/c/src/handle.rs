//! What a program holds by a pointer.
//!
//! 1. Every handle begins with a word that says its sort; a pointer to one of another sort, or to one that is over and
//!    whose memory still says so, is an error.
//! 2. A handle is made by [`give`] and ends by [`take`]; nothing else frees it.
//! 3. Unless its sort says otherwise, one thread at a time uses a handle: that is what the header asks of the program, and
//!    the reason why [`borrow`] may give out an exclusive reference.

use std::ptr;

use crate::boundary::{Failure, null};

/// A sort of handle: the type that the header names.
pub(crate) trait Sort {
    /// What is behind it.
    type Inner;
    /// The word that it begins with: no address, no length, no text.
    const WORD: u64;
    /// What it is called in errors.
    const NAME: &'static str;
}

/// What is behind a pointer of sort `S`.
#[repr(C)]
pub(crate) struct Handle<S: Sort> {
    word: u64,
    inner: S::Inner,
}

/// Gives a handle to the program.
pub(crate) fn give<S: Sort>(inner: S::Inner) -> *mut S {
    Box::into_raw(Box::new(Handle::<S> { word: S::WORD, inner })).cast()
}

/// What is behind a handle, to be used by this thread alone.
///
/// # Safety
///
/// `handle` is null, or points to a handle of any sort that is not over, and no other thread uses it during `'a`.
#[inline]
pub(crate) unsafe fn borrow<'a, S: Sort>(handle: *mut S) -> Result<&'a mut S::Inner, Failure> {
    // SAFETY: the caller's promise.
    unsafe { check(handle)? };
    // SAFETY: it is a handle of this sort, which `give` made; nobody else uses it by the caller's promise.
    Ok(unsafe { &mut (*handle.cast::<Handle<S>>()).inner })
}

/// What is behind a handle that any threads may use at the same time.
///
/// # Safety
///
/// `handle` is null, or points to a handle of any sort that is not over during `'a`.
pub(crate) unsafe fn share<'a, S: Sort<Inner: Sync>>(handle: *const S) -> Result<&'a S::Inner, Failure> {
    // SAFETY: the caller's promise.
    unsafe { check(handle)? };
    // SAFETY: it is a handle of this sort, which `give` made; nobody borrows it exclusively.
    Ok(unsafe { &(*handle.cast::<Handle<S>>()).inner })
}

/// Ends a handle.
///
/// # Safety
///
/// As [`borrow`]; and the pointer is not used any more.
pub(crate) unsafe fn take<S: Sort>(handle: *mut S) -> Result<S::Inner, Failure> {
    // SAFETY: the caller's promise.
    unsafe { check(handle)? };
    // SAFETY: it is a handle of this sort, which `give` made as a box; it ends here, and only here.
    let mut handle = unsafe { Box::from_raw(handle.cast::<Handle<S>>()) };
    // SAFETY: the word is ours. Volatile, so that it is written though it is freed at once.
    unsafe { ptr::write_volatile(&raw mut handle.word, 0) };
    Ok(handle.inner)
}

/// Whether it is a handle of this sort.
///
/// # Safety
///
/// `handle` is null, or points to something that begins with a word.
#[inline]
pub(crate) unsafe fn check<S: Sort>(handle: *const S) -> Result<(), Failure> {
    let word = handle.cast::<u64>();
    if word.is_null() || !word.is_aligned() {
        return Err(null(S::NAME));
    }
    // SAFETY: not null and aligned; there is a word by the caller's promise.
    if unsafe { word.read() } != S::WORD { Err(other::<S>()) } else { Ok(()) }
}

#[cold]
fn other<S: Sort>() -> Failure {
    Failure::argument(format!("this is no {}, or one that is over", S::NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Number;

    impl Sort for Number {
        type Inner = u32;
        const WORD: u64 = 0x1001;
        const NAME: &'static str = "number";
    }

    struct Text;

    impl Sort for Text {
        type Inner = String;
        const WORD: u64 = 0x1002;
        const NAME: &'static str = "text";
    }

    #[test]
    fn a_handle_is_what_it_was_made_as_and_nothing_else() {
        let number = give::<Number>(7);
        // SAFETY: it is a handle that is not over; null is allowed.
        unsafe {
            assert_eq!(borrow(number).map(|number| *number).unwrap(), 7);
            assert!(borrow(number.cast::<Text>()).is_err());
            assert!(borrow(ptr::null_mut::<Number>()).is_err());
            assert_eq!(take(number).unwrap(), 7);
        }
    }
}
