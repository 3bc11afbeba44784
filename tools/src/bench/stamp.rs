//! The head of every message of a bench: when it was due, and which one it is.
//!
//! ```text
//! | due: 8 bytes | producer: 2 bytes | number: 6 bytes | filling |
//! ```
//!
//! Without a rate nothing is due; `due` then says whether the message counts.

/// Bytes of the head, and the least of a message.
pub(crate) const STAMP_BYTES: usize = 16;
const NUMBER_BITS: u32 = 48;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// By CLOCK_MONOTONIC, in nanoseconds; without a rate 1 if it counts, and 0 if it warms up.
    pub(crate) due_ns: u64,
    pub(crate) producer: u16,
    /// Counted by each producer from 0.
    pub(crate) number: u64,
}

impl Stamp {
    pub(crate) fn write(self, payload: &mut [u8]) {
        let which = u64::from(self.producer) << NUMBER_BITS | self.number;
        payload[..8].copy_from_slice(&self.due_ns.to_le_bytes());
        payload[8..STAMP_BYTES].copy_from_slice(&which.to_le_bytes());
    }

    /// `None` if there is none.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (due, rest) = payload.split_first_chunk()?;
        let which = u64::from_le_bytes(*rest.first_chunk()?);
        let (producer, number) = ((which >> NUMBER_BITS) as u16, which & ((1 << NUMBER_BITS) - 1));
        Some(Self { due_ns: u64::from_le_bytes(*due), producer, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let stamp = Stamp { due_ns: u64::MAX - 1, producer: 31, number: (1 << 48) - 1 };
        let mut payload = [9; 20];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(payload[16..], [9; 4]);
        assert_eq!(Stamp::read(&payload[..15]), None);
    }
}
