//! Memory to write a payload into where its readers will read it.
//!
//! What always holds: nobody sees a loan before it is sent; it may be kept for any time, moved to other threads, and
//! dropped, and holds nobody up meanwhile. It takes no slot before it is sent.

use std::ops::{Deref, DerefMut};

use ringway_shm_protocol::memory::arena::{Arenas, Block};
use ringway_shm_protocol::ring::ArenaBlock;

/// Memory for one payload; made by [`Producer::loan`](crate::Producer::loan), sent by
/// [`Producer::send_loan`](crate::Producer::send_loan) of the same producer. Its bytes are left over from earlier
/// payloads of that producer until they are written.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut producer = connection.producer("frames").open()?;
/// let mut frame = producer.loan(4 << 20)?;
/// frame[..3].copy_from_slice(b"raw");
/// frame.truncate(1 << 20);
/// producer.send_loan(frame)?;
/// # Ok(())
/// # }
/// ```
///
/// In a forked child its use panics: the memory is the parent's.
#[derive(Debug)]
pub struct Loan {
    partition: usize,
    block: Block,
    bytes: usize,
}

impl Loan {
    pub(crate) fn new(partition: usize, block: Block) -> Self {
        Self { partition, bytes: block.len(), block }
    }

    /// The partition whose producer it was taken from.
    pub(crate) fn partition(&self) -> usize {
        self.partition
    }

    /// Keeps the first `bytes` only. Panics when there are not so many.
    pub fn truncate(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "a loan of {} bytes cannot be cut to {bytes}", self.bytes);
        self.bytes = bytes;
    }

    pub(crate) fn is_of(&self, arenas: &Arenas) -> bool {
        self.block.is_of(arenas)
    }

    pub(crate) fn place(&self) -> ArenaBlock {
        self.block.place(self.bytes)
    }

    pub(crate) fn into_block(self) -> Block {
        self.block
    }
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block[..self.bytes]
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.block[..self.bytes]
    }
}
