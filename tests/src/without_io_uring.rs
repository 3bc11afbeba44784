//! A process that is denied io_uring, as containers often are: by a filter of its system calls.

use std::io;

use crate::denied_calls::{Denied, deny};

/// Has `ringway-test-peer serve` and all that it starts do without.
pub const WITHOUT_IO_URING: &str = "RINGWAY_TEST_WITHOUT_IO_URING";

/// From now on this process, and all that it starts, get EPERM from the system calls of io_uring.
pub fn without_io_uring() -> io::Result<()> {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    deny(&calls.map(|call| Denied { call, descriptor: None, errno: libc::EPERM }))
}
