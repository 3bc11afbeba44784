//! How far the messages of a partition are journaled, as its producers and consumers see it.
//!
//! ```text
//!                 synced          written         end
//! ──────────────────┼────────────────┼──────────────┼──▶ positions
//!   on the device   │ with the kernel│ in memory
//! ```
//!
//! 1. Only the shard writes; both positions only rise, and `synced` is never above `written`.
//! 2. The shard raises `synced` only over messages whose sync is complete, and over nothing behind one that is not: one
//!    load answers for everything below.
//! 3. Whoever waits sleeps at the `confirm` direction of the doorbell, which the shard rings behind each raise.

use std::sync::atomic::Ordering;

use crate::memory::{Memory, Word};
use crate::stops;

/// Whether messages can be journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum JournalState {
    /// They are not: the stream's durability is `memory`.
    None = 0,
    /// They are.
    Ready = 1,
    /// There is no room for more on the disk: producers must not publish until there is.
    NoRoom = 2,
    /// A write or a sync has failed: nothing more is ever confirmed.
    Failed = 3,
}

/// See the module.
pub struct Watermarks<M: Memory> {
    written: M::WordHandle,
    synced: M::WordHandle,
    state: M::WordHandle,
}

impl<M: Memory<WordHandle: Clone>> Clone for Watermarks<M> {
    fn clone(&self) -> Self {
        let Self { written, synced, state } = self;
        Self { written: written.clone(), synced: synced.clone(), state: state.clone() }
    }
}

impl<M: Memory> Watermarks<M> {
    /// Joins the words.
    pub fn new(written: M::WordHandle, synced: M::WordHandle, state: M::WordHandle) -> Self {
        Self { written, synced, state }
    }

    /// Everything below this position was handed to the kernel.
    #[inline]
    pub fn written(&self) -> u64 {
        // Acquire: what is journaled is behind its own publication for whoever sees this.
        self.written.load(Ordering::Acquire)
    }

    /// Everything below this position is on the device.
    #[inline]
    pub fn synced(&self) -> u64 {
        // Acquire: as `written`.
        self.synced.load(Ordering::Acquire)
    }

    /// Whether messages can be journaled. A value that is none of the known ones reads as [`JournalState::Failed`].
    #[inline]
    pub fn state(&self) -> JournalState {
        // Relaxed: it orders nothing.
        match self.state.load(Ordering::Relaxed) {
            0 => JournalState::None,
            1 => JournalState::Ready,
            2 => JournalState::NoRoom,
            _ => JournalState::Failed,
        }
    }

    /// The shard's: raises the positions; lower ones change nothing. Ring the `confirm` direction afterwards.
    pub fn raise(&self, written: u64, synced: u64) {
        // Only the shard stores, so its own loads are exact. Release: pairs with the loads above.
        if written > self.written.load(Ordering::Relaxed) {
            self.written.store(written, Ordering::Release);
            stops::at("written.raised");
        }
        if synced > self.synced.load(Ordering::Relaxed) {
            self.synced.store(synced, Ordering::Release);
            stops::at("synced.raised");
        }
    }

    /// The shard's: says whether messages can be journaled. Ring the `confirm` direction afterwards.
    pub fn set_state(&self, state: JournalState) {
        self.state.store(state as u64, Ordering::Relaxed);
        stops::at("state.told");
    }
}

/// Which messages a reader may see: everything that is committed, or only what is on the device.
pub(super) struct Visible<M: Memory> {
    /// Everything below this position, so far.
    end: u64,
    watermarks: Option<Watermarks<M>>,
}

impl<M: Memory> Visible<M> {
    /// Everything that is committed, up to the last position that there can be.
    pub(super) fn up_to(position_end: u64) -> Self {
        Self { end: position_end, watermarks: None }
    }

    /// What is on the device.
    pub(super) fn durable(watermarks: Watermarks<M>) -> Self {
        Self { end: watermarks.synced(), watermarks: Some(watermarks) }
    }

    /// Whether the message at `position` may be seen.
    #[inline]
    pub(super) fn is(&self, position: u64) -> bool {
        position < self.end || self.watermarks.as_ref().is_some_and(|marks| position < marks.synced())
    }

    /// The same, and remembers how far that is.
    #[inline]
    pub(super) fn is_or_has_become(&mut self, position: u64) -> bool {
        position < self.end || self.look_again(position)
    }

    #[cold]
    fn look_again(&mut self, position: u64) -> bool {
        if let Some(watermarks) = &self.watermarks {
            self.end = watermarks.synced();
        }
        position < self.end
    }
}
