//! A process that is denied io_uring, as containers often are: by a filter of its system calls.

use std::io;

/// Has `ringway-test-peer serve` and all that it starts do without.
pub const WITHOUT_IO_URING: &str = "RINGWAY_TEST_WITHOUT_IO_URING";

/// From now on this process, and all that it starts, get EPERM from the system calls of io_uring.
pub fn without_io_uring() -> io::Result<()> {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump_if_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The first word of what a filter looks at is the number of the call.
    let mut filter = vec![statement(load, 0)];
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        let skips_the_next = libc::sock_filter { jf: 1, ..statement(jump_if_equal, call as u32) };
        filter.push(skips_the_next);
        filter.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    }
    filter.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the call takes numbers alone.
    let no_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if no_privileges != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the program and its statements live until the kernel has copied them, and their number is right.
    let filtered =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if filtered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
