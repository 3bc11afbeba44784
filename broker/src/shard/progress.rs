//! How far a start has come with its journals, for whoever wants to show it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::journal::format::BatchHeader;
use crate::journal::recovery::Visitor;
use crate::journal::state::Place;

/// What a start has read of its journals, and put back into rings. Any thread may look, from before the start on.
#[derive(Debug, Default)]
pub struct Restoring {
    read: AtomicU64,
    to_read: AtomicU64,
    restored: AtomicU64,
    to_restore: AtomicU64,
}

// Relaxed, as all here: only to be shown.
impl Restoring {
    /// Bytes of the logs that are read, and how many there are at most, as far as that is known.
    pub fn log_bytes(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.to_read.load(Ordering::Relaxed))
    }

    /// Messages that are back in their rings, and how many there are at most, as far as that is known.
    pub fn messages(&self) -> (u64, u64) {
        (self.restored.load(Ordering::Relaxed), self.to_restore.load(Ordering::Relaxed))
    }

    /// So many more messages are to be restored.
    pub(super) fn add_messages(&self, messages: u64) {
        self.to_restore.fetch_add(messages, Ordering::Relaxed);
    }

    /// So many of them are.
    pub(super) fn add_restored(&self, messages: u64) {
        self.restored.fetch_add(messages, Ordering::Relaxed);
    }
}

/// Counts what is read of one log.
pub(super) struct Counting<'a> {
    restoring: &'a Restoring,
    known: (u64, u64),
}

impl<'a> Counting<'a> {
    /// Nothing so far.
    pub(super) fn new(restoring: &'a Restoring) -> Self {
        Self { restoring, known: (0, 0) }
    }
}

impl Visitor for Counting<'_> {
    fn batch(&mut self, _: &BatchHeader, _: Place, _: &[u8]) {}

    fn progress(&mut self, bytes: u64, of: u64) {
        let (read, to_read) = std::mem::replace(&mut self.known, (bytes, of));
        self.restoring.read.fetch_add(bytes - read, Ordering::Relaxed);
        self.restoring.to_read.fetch_add(of - to_read, Ordering::Relaxed);
    }
}
