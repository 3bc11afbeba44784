//! Where brokers and servers keep their data: one directory for the whole run.
//!
//! Always: all peers keep their data on the same file system; the directory is removed in the end, also after an error or
//! Ctrl-C.

use std::path::Path;

use rustix::fs::statfs;
use tempfile::TempDir;

use crate::error::CompareError;

/// What `statfs` says of file systems that are in memory alone: tmpfs and ramfs.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Makes the run's directory in `parent`.
pub(crate) fn make_directory(parent: &Path) -> Result<TempDir, CompareError> {
    let made = tempfile::Builder::new().prefix("ringway-compare-").tempdir_in(parent);
    made.map_err(CompareError::system(format!("make a directory in {}", parent.display())))
}

/// Whether nothing there ever reaches a device, so that a sync says nothing.
pub(crate) fn is_in_memory(directory: &Path) -> Result<bool, CompareError> {
    let said = statfs(directory);
    let said =
        said.map_err(CompareError::system(format!("look at the file system of {}", directory.display())))?;
    Ok(IN_MEMORY.contains(&said.f_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_is_told_from_a_file_system() {
        assert!(is_in_memory(Path::new("/dev/shm")).unwrap());
        assert!(!is_in_memory(Path::new("/proc")).unwrap());
    }
}
