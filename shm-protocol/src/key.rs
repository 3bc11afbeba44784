//! Which partition the messages of a key go to.
//!
//! Part of the protocol: all producers of a stream, in whatever language, must agree. The hash is 64-bit FNV-1a, whose high
//! bits are mixed by the finalizer of MurmurHash3 (Austin Appleby, public domain); the partition is the hash as a
//! fraction of 2⁶⁴, times their number.

/// The partition of `key` in a stream of so many partitions, from 0. Panics when there are none.
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    assert!(partitions > 0, "a stream has partitions");
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut hash = hash;
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    ((u128::from(hash) * u128::from(partitions)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_evenly_and_stay_where_they_are() {
        for partitions in [1, 2, 3, 7, 64] {
            let mut counts = vec![0_u32; partitions as usize];
            for number in 0..64_000_u32 {
                counts[partition_of(format!("key-{number}").as_bytes(), partitions) as usize] += 1;
            }
            let even = 64_000 / partitions;
            let close = |count: &u32| (even - even / 5..=even + even / 5).contains(count);
            assert!(counts.iter().all(close), "{partitions}: {counts:?}");
        }
    }

    #[test]
    fn the_hash_is_the_documented_one() {
        // Printed by an independent implementation of the two published functions.
        assert_eq!([b"".as_slice(), b"a", b"customer-7"].map(|key| partition_of(key, 1 << 16)), KNOWN);
    }

    const KNOWN: [u32; 3] = [61392, 33442, 40684];
}
