//! Copies between private memory and memory that other processes write at the same time.
//!
//! Rust's memory model calls a plain copy that races with another process undefined, also where the result
//! is validated or bounded afterwards. Here every access to the shared side is one that the compiler cannot
//! see through or split: inline assembly with 16-byte moves on x86-64, a cache line at a time where there is a whole
//! one, relaxed 64-bit atomics elsewhere. A race then yields some mixture of old and new bytes and nothing worse.
//!
//! Invariants: exactly `n` bytes of the private side are touched; only whole aligned words of the shared side
//! are touched, at most `n` rounded up to 16, which the callers' slots always hold.

/// The shared side is aligned to this, and its length rounded up to it, in bytes.
pub(super) const GRAIN_BYTES: usize = 16;

/// Copies `into.len()` bytes out of shared memory.
///
/// # Safety
///
/// `shared` is aligned to 16 and mapped readable for `into.len()` rounded up to 16 bytes.
#[inline]
pub(super) unsafe fn out_of_shared(shared: *const u8, into: &mut [u8]) {
    let mut done = 0;
    while into.len() - done >= LINE_BYTES {
        // SAFETY: so source (caller's promise) and target hold a line more.
        let (from, to) = unsafe { (shared.add(done), into.as_mut_ptr().add(done)) };
        // SAFETY: both sides hold a line here; `from` stays aligned to 16.
        unsafe { load_line(from, to) };
        done += LINE_BYTES;
    }
    let whole = into.len() & !15;
    while done < whole {
        // SAFETY: done + 16 <= len, so source (caller's promise) and target hold 16 more bytes.
        let (from, to) = unsafe { (shared.add(done), into.as_mut_ptr().add(done)) };
        // SAFETY: both sides hold 16 bytes here; `from` stays aligned to 16.
        unsafe { load_16(from, to) };
        done += 16;
    }
    if done < into.len() {
        let mut last = [0_u8; 16];
        // SAFETY: the caller promised the length rounded up to 16.
        let from = unsafe { shared.add(done) };
        // SAFETY: as above; `last` holds 16 bytes.
        unsafe { load_16(from, last.as_mut_ptr()) };
        let rest = into.len() - done;
        into[done..].copy_from_slice(&last[..rest]);
    }
}

/// Copies `from.len()` bytes into shared memory, from the end to the beginning; up to 15 bytes behind them become zero.
///
/// # Safety
///
/// `shared` is aligned to 16 and mapped writable for `from.len()` rounded up to 16 bytes.
#[inline]
pub(super) unsafe fn into_shared(shared: *mut u8, from: &[u8]) {
    let mut left = from.len() & !15;
    if left < from.len() {
        let mut last = [0_u8; 16];
        last[..from.len() - left].copy_from_slice(&from[left..]);
        // SAFETY: the caller promised the length rounded up to 16.
        let to = unsafe { shared.add(left) };
        // SAFETY: as above; `last` holds 16 bytes.
        unsafe { store_16(last.as_ptr(), to) };
    }
    while left >= LINE_BYTES {
        left -= LINE_BYTES;
        // SAFETY: source and target (caller's promise) hold a line from here on.
        let (source, to) = unsafe { (from.as_ptr().add(left), shared.add(left)) };
        // SAFETY: both sides hold a line here; `to` stays aligned to 16.
        unsafe { store_line(source, to) };
    }
    while left > 0 {
        left -= 16;
        // SAFETY: source and target (caller's promise) hold 16 bytes from here on.
        let (source, to) = unsafe { (from.as_ptr().add(left), shared.add(left)) };
        // SAFETY: both sides hold 16 bytes here; `to` stays aligned to 16.
        unsafe { store_16(source, to) };
    }
}

/// Bytes that are moved at once where there are so many.
const LINE_BYTES: usize = 64;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn load_line(shared: *const u8, to: *mut u8) {
    // SAFETY: the caller vouches for 64 bytes on both sides and the alignment of `shared`; without `pure`
    // or `nomem` the compiler must assume that the block reads and writes any memory.
    unsafe {
        std::arch::asm!(
            "movdqa {a}, [{shared}]", "movdqa {b}, [{shared} + 16]",
            "movdqa {c}, [{shared} + 32]", "movdqa {d}, [{shared} + 48]",
            "movdqu [{to}], {a}", "movdqu [{to} + 16], {b}",
            "movdqu [{to} + 32], {c}", "movdqu [{to} + 48], {d}",
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            shared = in(reg) shared, to = in(reg) to,
            options(nostack, preserves_flags),
        )
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn store_line(from: *const u8, shared: *mut u8) {
    // SAFETY: as in load_line.
    unsafe {
        std::arch::asm!(
            "movdqu {a}, [{from}]", "movdqu {b}, [{from} + 16]",
            "movdqu {c}, [{from} + 32]", "movdqu {d}, [{from} + 48]",
            "movdqa [{shared} + 48], {d}", "movdqa [{shared} + 32], {c}",
            "movdqa [{shared} + 16], {b}", "movdqa [{shared}], {a}",
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            from = in(reg) from, shared = in(reg) shared,
            options(nostack, preserves_flags),
        )
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn load_16(shared: *const u8, to: *mut u8) {
    // SAFETY: the caller vouches for 16 bytes on both sides and the alignment of `shared`; without `pure`
    // or `nomem` the compiler must assume that the block reads and writes any memory.
    unsafe {
        std::arch::asm!(
            "movdqa {value}, [{shared}]", "movdqu [{to}], {value}",
            value = out(xmm_reg) _, shared = in(reg) shared, to = in(reg) to,
            options(nostack, preserves_flags),
        )
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn store_16(from: *const u8, shared: *mut u8) {
    // SAFETY: as in load_16.
    unsafe {
        std::arch::asm!(
            "movdqu {value}, [{from}]", "movdqa [{shared}], {value}",
            value = out(xmm_reg) _, from = in(reg) from, shared = in(reg) shared,
            options(nostack, preserves_flags),
        )
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn load_line(shared: *const u8, to: *mut u8) {
    for at in (0..LINE_BYTES).step_by(16) {
        // SAFETY: the caller vouches for 64 bytes on both sides and the alignment of `shared`.
        unsafe { load_16(shared.add(at), to.add(at)) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn store_line(from: *const u8, shared: *mut u8) {
    for at in (0..LINE_BYTES).step_by(16) {
        // SAFETY: as in load_line.
        unsafe { store_16(from.add(at), shared.add(at)) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn load_16(shared: *const u8, to: *mut u8) {
    use std::sync::atomic::{AtomicU64, Ordering};
    for word in 0..2 {
        // SAFETY: two aligned words lie in the caller's 16 shared bytes; only atomics touch them.
        let value = unsafe { &*shared.cast::<AtomicU64>().add(word) }.load(Ordering::Relaxed);
        // SAFETY: two words lie in the caller's 16 private bytes; no alignment needed.
        unsafe { to.cast::<u64>().add(word).write_unaligned(value) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn store_16(from: *const u8, shared: *mut u8) {
    use std::sync::atomic::{AtomicU64, Ordering};
    for word in 0..2 {
        // SAFETY: two words lie in the caller's 16 private bytes; no alignment needed.
        let value = unsafe { from.cast::<u64>().add(word).read_unaligned() };
        // SAFETY: two aligned words lie in the caller's 16 shared bytes; only atomics touch them.
        unsafe { &*shared.cast::<AtomicU64>().add(word) }.store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(16))]
    struct Shared([u8; 208]);

    #[test]
    fn every_length_goes_in_and_comes_out_whole() {
        let bytes: Vec<u8> = (1..=200).collect();
        for length in 0..=192 {
            let mut shared = Shared([0xee; 208]);
            // SAFETY: 208 aligned bytes, and 192 rounded up to 16 is 192.
            unsafe { into_shared(shared.0.as_mut_ptr(), &bytes[..length]) };
            let end = length.next_multiple_of(16);
            assert!(shared.0[length..end].iter().all(|&byte| byte == 0), "zeroes up to the next 16");
            assert!(shared.0[end..].iter().all(|&byte| byte == 0xee), "nothing behind them");
            let mut back = vec![0; length];
            // SAFETY: as above.
            unsafe { out_of_shared(shared.0.as_ptr(), &mut back) };
            assert_eq!(back, bytes[..length]);
        }
    }
}
