//! Bare shared memory with one message in flight each way: what the ping-pong and the futex share.
//!
//! Two processes map one anonymous memory file with one direction after the other:
//!
//! ```text
//!   0                64              64 + payload
//!   +----------------+----------------+----------------+----------------+
//!   | flag there     | payload there  | flag back      | payload back   |
//!   +----------------+----------------+----------------+----------------+
//! ```
//!
//! What always holds:
//!
//! 1. A flag is alone in its cache line and holds the sequence of the message behind it, modulo 2³²: a futex has 32 bits.
//!    At 64 B a message is exactly one payload line and one flag line.
//! 2. One message is in flight: an end writes a payload only after the other's answer to its last one arrived, so
//!    no payload is written while it is read.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapRaw;
use rustix::fs::MemfdFlags;

use crate::error::CompareError;
use crate::measure::{Receiver, Sender};
use crate::payload::{LINE_BYTES, Payload, Verifier};

/// Makes memory for two directions of payloads of `bytes`.
pub(super) fn create_memory(bytes: usize) -> Result<File, CompareError> {
    let memory = rustix::fs::memfd_create("ringway-compare", MemfdFlags::CLOEXEC)
        .map_err(CompareError::system("create shared memory"))?;
    let file = File::from(memory);
    file.set_len(2 * direction_bytes(bytes) as u64)
        .map_err(CompareError::system("size the shared memory"))?;
    Ok(file)
}

/// Maps the memory as the directions there and back.
pub(super) fn directions(file: &File, bytes: usize) -> Result<(Direction, Direction), CompareError> {
    let map = Arc::new(MmapRaw::map_raw(file).map_err(CompareError::system("map the shared memory"))?);
    let wanted = 2 * direction_bytes(bytes);
    if map.len() < wanted {
        let got = format!("{} bytes", map.len());
        return Err(CompareError::Control { wanted: "shared memory for two directions", got });
    }
    let direction = |offset| Direction { map: Arc::clone(&map), offset, bytes, sequence: 0 };
    Ok((direction(0), direction(direction_bytes(bytes))))
}

/// Maps the memory that the near end handed over.
pub(super) fn directions_of(memory: OwnedFd, bytes: usize) -> Result<(Direction, Direction), CompareError> {
    directions(&File::from(memory), bytes)
}

/// The length of one direction: its flag line and its payload.
fn direction_bytes(payload_bytes: usize) -> usize {
    LINE_BYTES + payload_bytes
}

/// One direction as one end sees it.
pub(super) struct Direction {
    map: Arc<MmapRaw>,
    /// Where the flag line begins; the map holds `direction_bytes(bytes)` from here.
    offset: usize,
    bytes: usize,
    /// The last message sent or received here, 0 before the first.
    sequence: u32,
}

impl Direction {
    /// The flag, which both ends touch only as an atomic.
    #[inline]
    pub(super) fn flag(&self) -> &AtomicU32 {
        // SAFETY: `directions` checked that the map holds this offset.
        let flag = unsafe { self.map.as_mut_ptr().add(self.offset) };
        // SAFETY: mapped as long as `self.map` lives; a map starts at a page and the offset is a multiple of a
        // line, so it is aligned; both processes touch the flag only as an atomic.
        unsafe { AtomicU32::from_ptr(flag.cast()) }
    }

    /// The value that the flag has until the next message.
    #[inline]
    pub(super) fn sequence(&self) -> u32 {
        self.sequence
    }

    #[inline]
    fn payload(&self) -> *mut u8 {
        // SAFETY: `directions` checked that the map holds the flag line and the payload after it.
        unsafe { self.map.as_mut_ptr().add(self.offset + LINE_BYTES) }
    }
}

/// The end of a direction that publishes.
pub(super) struct FlagSender(pub(super) Direction);

impl Sender for FlagSender {
    #[inline]
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        let bytes = payload.bytes();
        assert_eq!(bytes.len(), self.0.bytes, "both ends of a trial use its payload size");
        // SAFETY: the map holds `bytes` bytes there (asserted above), the source is a buffer of this process, and
        // by invariant 2 the other end does not look at the payload until the flag says so.
        unsafe { self.0.payload().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.0.sequence = self.0.sequence.wrapping_add(1);
        self.0.flag().store(self.0.sequence, Ordering::Release);
        Ok(())
    }
}

/// The end of a direction that consumes.
pub(super) struct FlagReceiver(pub(super) Direction);

impl Receiver for FlagReceiver {
    #[inline]
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        if self.0.flag().load(Ordering::Acquire) == self.0.sequence {
            return Ok(false);
        }
        self.0.sequence = self.0.sequence.wrapping_add(1);
        // SAFETY: the map holds `bytes` bytes there; the acquired flag makes the writes visible, and by invariant
        // 2 the sender does not write again before this end has answered, after this borrow.
        let payload = unsafe { std::slice::from_raw_parts(self.0.payload(), self.0.bytes) };
        verifier.read(payload);
        Ok(true)
    }
}
