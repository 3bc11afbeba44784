//! A process that has file systems of its own: a small one, which can be filled without harm to anybody, or one that cannot be
//! written to.

use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Has `ringway-test-peer serve`, and all that it starts, keep its journals on a file system of so many bytes, in segments of
/// [`SEGMENT_BYTES`].
pub const SMALL_DISK: &str = "RINGWAY_TEST_SMALL_DISK";
/// Bytes of a segment there.
pub const SEGMENT_BYTES: u64 = 4 << 20;

/// Mounts a file system of so many bytes on a directory, to be seen by this process and by all that it starts. The process has
/// one thread.
pub fn mount_small_disk(directory: &Path, bytes: &str) -> io::Result<()> {
    leave_mounts()?;
    std::fs::create_dir_all(directory)?;
    let size = std::ffi::CString::new(format!("size={bytes}"))?;
    Ok(mount("none", directory, "tmpfs", MountFlags::empty(), size.as_c_str())?)
}

/// Lets this process, and all that it starts, read a directory and not write to it, whoever they are. The process has one thread.
pub fn mount_read_only(directory: &Path) -> io::Result<()> {
    leave_mounts()?;
    mount_bind(directory, directory)?;
    Ok(mount_remount(directory, MountFlags::BIND | MountFlags::RDONLY, c"")?)
}

/// Mounts of this process are its own from now on.
fn leave_mounts() -> io::Result<()> {
    // Only root may have a namespace of mounts without one of users.
    let users =
        if rustix::process::geteuid().is_root() { UnshareFlags::empty() } else { UnshareFlags::NEWUSER };
    // SAFETY: descriptors stay as they are.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | users) }?;
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}
