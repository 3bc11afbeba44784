//! A value that lends parts of itself for as long as C likes, not for as long as a Rust borrow lasts.
//!
//! What always holds: the value stays where it is, and is reached by its pointer alone, so that moving the lender ends no borrow.

use std::ptr::NonNull;

/// See the module.
pub(crate) struct Lender<T>(NonNull<T>);

impl<T> Lender<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(NonNull::from(Box::leak(Box::new(value))))
    }

    /// The value.
    ///
    /// # Safety
    ///
    /// Nothing that was lent before is used any more, and during `'a` the value is reached by nothing else.
    #[inline]
    pub(crate) unsafe fn lend<'a>(&mut self) -> &'a mut T {
        // SAFETY: made from a box that is freed by the drop only; exclusive by the caller's promise.
        unsafe { self.0.as_mut() }
    }

    /// Gives the value back.
    ///
    /// # Safety
    ///
    /// Nothing that was lent is used any more.
    pub(crate) unsafe fn into_inner(self) -> T {
        let value = self.0;
        std::mem::forget(self);
        // SAFETY: made from a box, and the drop that would free it is forgotten.
        *unsafe { Box::from_raw(value.as_ptr()) }
    }
}

impl<T> Drop for Lender<T> {
    fn drop(&mut self) {
        // SAFETY: made from a box; whoever has a lender ends what was lent before.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
