//! What the ring algorithms need from memory, as traits, so that the model checker runs the production code.
//!
//! [`mapped`] and [`bell`] implement them over descriptors mapped into this process. The loom models in `tests/`
//! implement them over loom's atomics and cells.

pub mod arena;
pub mod bell;
pub mod copy;
pub mod mapped;
pub mod page;

use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::layout::Geometry;

/// A 64-bit atomic word in shared memory.
pub trait Word {
    /// Atomic load.
    fn load(&self, order: Ordering) -> u64;
    /// Atomic store.
    fn store(&self, value: u64, order: Ordering);
    /// Strong compare-and-exchange; `Err` holds what was found.
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64>;
    /// Adds, wrapping; returns the value before.
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    /// Sets bits; returns the value before.
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64;
    /// Keeps only `bits`; returns the value before.
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64;
}

/// A futex in shared memory.
pub trait Bell {
    /// The count of rings, to be given to [`wait`](Bell::wait).
    fn count(&self) -> u32;
    /// Counts up and wakes everybody who waits.
    fn ring(&self);
    /// Sleeps until the bell was rung since `count` was read, or `at_most` is over, or for no reason.
    fn wait(&self, count: u32, at_most: Duration);
}

/// The slots of a ring.
pub trait Slots {
    /// The type of the slot words.
    type Word: Word;
    /// The size of the ring.
    fn geometry(&self) -> Geometry;
    /// The slot word of slot `index` (taken modulo the capacity).
    fn word(&self, index: u64) -> &Self::Word;
    /// The header word of slot `index` (taken modulo the capacity).
    fn header(&self, index: u64) -> &Self::Word;
    /// Copies `part` into the body of slot `index`, from `offset` on, a multiple of 16. Panics when it does not fit.
    fn write(&self, index: u64, offset: usize, part: &[u8]);
    /// Copies the first bytes of the body of slot `index` to `into`. Panics when it asks for more than a body.
    fn read(&self, index: u64, into: &mut [u8]);
    /// Hints that slot `index` will soon be written, with a body of `bytes`.
    fn prefetch_for_write(&self, index: u64, bytes: usize);
    /// Hints that slot `index` will soon be read.
    fn prefetch_for_read(&self, index: u64);
}

/// A row of words.
pub trait Words {
    /// The type of the words.
    type Word: Word;
    /// The word at `index` (taken modulo their number, a power of two).
    fn at(&self, index: u64) -> &Self::Word;
}

/// A family of memory: mapped regions in production, loom's in the models.
pub trait Memory {
    /// The word type.
    type Word: Word;
    /// A handle on a word that keeps its region alive.
    type WordHandle: Deref<Target = Self::Word>;
    /// The futex type.
    type Bell: Bell;
    /// The slots type.
    type Slots: Slots<Word = Self::Word>;
    /// The type of rows of words.
    type Words: Words<Word = Self::Word>;

    /// Orders every earlier store before every later load (and all else): the fence of the waking protocol.
    fn full_fence();
    /// [`full_fence`](Self::full_fence) directly behind an exchange that succeeded: on processors whose exchanges are full
    /// barriers themselves it only keeps the compiler from moving anything.
    fn full_fence_behind_exchange() {
        Self::full_fence();
    }
    /// Orders earlier loads and stores before later stores.
    fn release_fence();
    /// Orders earlier loads before later loads and stores.
    fn acquire_fence();
    /// Lets some time pass: `hints` of the processor's hints for a loop that waits.
    fn pause(hints: u32);
}
