//! The gauge: two numbers of the producer that the consumer may look at while messages flow, beside the transport.
//!
//! ```text
//!   0                 64
//!   +-----------------+-----------------+
//!   | published       | total           |
//!   +-----------------+-----------------+
//! ```
//!
//! What always holds:
//!
//! 1. `published` is how many messages were published, rounded down to a whole run of [`RUN`]: the producer stores it
//!    once a run, so that the line moves between the CPUs some thousand times less often than the messages do.
//! 2. `total` is 0 until the producer has published its last message.
//! 3. Each number is alone in its cache line. Nothing else is ordered by them.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;
use rustix::fs::MemfdFlags;

use crate::error::CompareError;
use crate::payload::LINE_BYTES;

/// Messages between two stores of `published`; a lag is exact to this.
pub(crate) const RUN: u64 = 1024;
const PUBLISHED: usize = 0;
const TOTAL: usize = LINE_BYTES;
const GAUGE_BYTES: usize = 2 * LINE_BYTES;

/// One end's view of the gauge.
#[derive(Debug)]
pub(crate) struct Gauge {
    /// Holds [`GAUGE_BYTES`] or more.
    map: MmapRaw,
}

impl Gauge {
    /// Makes a gauge, and the descriptor by which another process opens it.
    pub(crate) fn create() -> Result<(Self, OwnedFd), CompareError> {
        let memory = rustix::fs::memfd_create("ringway-compare-gauge", MemfdFlags::CLOEXEC)
            .map_err(CompareError::system("create the gauge"))?;
        let file = File::from(memory);
        file.set_len(GAUGE_BYTES as u64).map_err(CompareError::system("size the gauge"))?;
        let memory = OwnedFd::from(file);
        Ok((Self::open(&memory)?, memory))
    }

    /// Opens a gauge that was made elsewhere.
    pub(crate) fn open(memory: &OwnedFd) -> Result<Self, CompareError> {
        let map = MmapRaw::map_raw(memory).map_err(CompareError::system("map the gauge"))?;
        if map.len() < GAUGE_BYTES {
            let got = format!("{} bytes", map.len());
            return Err(CompareError::Control { wanted: "a gauge", got });
        }
        Ok(Self { map })
    }

    /// Says that `messages` were published.
    #[inline]
    pub(crate) fn set_published(&self, messages: u64) {
        self.number(PUBLISHED).store(messages, Ordering::Relaxed);
    }

    /// How many messages were published, exact to [`RUN`].
    pub(crate) fn published(&self) -> u64 {
        self.number(PUBLISHED).load(Ordering::Relaxed)
    }

    /// Says that `messages` were all.
    pub(crate) fn set_total(&self, messages: u64) {
        self.number(TOTAL).store(messages, Ordering::Release);
    }

    /// How many messages there are in all, once that is known.
    #[inline]
    pub(crate) fn total(&self) -> Option<u64> {
        Some(self.number(TOTAL).load(Ordering::Acquire)).filter(|total| *total > 0)
    }

    fn number(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset + size_of::<AtomicU64>() <= GAUGE_BYTES);
        // SAFETY: `open` checked that the map holds both lines.
        let number = unsafe { self.map.as_mut_ptr().add(offset) };
        // SAFETY: mapped as long as `self.map` lives; a map starts at a page and both offsets are multiples of a line,
        // so it is aligned; all processes touch it only as an atomic.
        unsafe { AtomicU64::from_ptr(number.cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_end_says_the_other_reads() {
        let (near, memory) = Gauge::create().unwrap();
        let far = Gauge::open(&memory).unwrap();
        assert_eq!((far.published(), far.total()), (0, None));
        near.set_published(2048);
        near.set_total(3000);
        assert_eq!((far.published(), far.total()), (2048, Some(3000)));
    }
}
