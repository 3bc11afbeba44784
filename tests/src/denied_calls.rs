//! System calls that the kernel answers with an error, by a filter: as containers deny some, and as a disk that fails does.

use std::io;

/// A system call that is not carried out.
#[derive(Clone, Copy, Debug)]
pub struct Denied {
    /// Its number.
    pub call: libc::c_long,
    /// Only where this descriptor is its first argument.
    pub descriptor: Option<u32>,
    /// What it is answered with.
    pub errno: libc::c_int,
}

/// From now on all threads of this process, and all that they start, get these answers. It cannot be taken back.
pub fn deny(denied: &[Denied]) -> io::Result<()> {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump_if_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let skip_unless = |k: u32, jf: u8| libc::sock_filter { jf, ..statement(jump_if_equal, k) };
    // What a filter looks at begins with the number of the call; the lower half of its first argument is at byte 16.
    let mut filter = Vec::new();
    for Denied { call, descriptor, errno } in denied {
        filter.push(statement(load, 0));
        filter.push(skip_unless(*call as u32, if descriptor.is_some() { 3 } else { 1 }));
        if let Some(descriptor) = descriptor {
            filter.push(statement(load, 16));
            filter.push(skip_unless(*descriptor, 1));
        }
        filter.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | *errno as u32));
    }
    filter.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the call takes numbers alone.
    let no_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if no_privileges != 0 {
        return Err(io::Error::last_os_error());
    }
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
    // SAFETY: the program and its statements live until the kernel has copied them, and their number is right.
    let filtered = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    match filtered {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        thread => Err(io::Error::other(format!("thread {thread} has another filter"))),
    }
}
