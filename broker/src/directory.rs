//! The broker's directory: one broker at a time, and nothing left behind.
//!
//! 1. The lock on `broker.lock` is held from before the sockets are made until after they are removed; so whoever holds it
//!    may remove sockets that a killed broker left.
//! 2. The lock file holds the process id of the broker, or of its keeper, for the error that a second broker shows.
//! 3. A directory that the broker made it also removes, if nothing else is in it.
//! 4. Only those whom the broker admits can enter it and open the socket ([`Admission`]).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_shm_protocol::control::socket::{self, PATH_BYTES_MAX};
use ringway_shm_protocol::control::{KEEPER_SOCKET_NAME, LOCK_NAME, SOCKET_NAME};
use rustix::fs::FlockOperation;
use thiserror::Error;

use crate::admission::Admission;

/// How long the lock of a process that is gone is waited for, and how often it is tried.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Why the directory cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The kernel's limit for socket paths.
    #[error(
        "the directory is too deep: a socket's path has at most {PATH_BYTES_MAX} bytes and {} has {bytes}; take a \
         shorter --dir", .path.display()
    )]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// Its length in bytes.
        bytes: usize,
    },
    /// Another broker serves it.
    #[error("a broker already serves {} (process {pid}); stop it first: ringway stop --dir {}", .directory.display(), .directory.display())]
    Taken {
        /// The directory.
        directory: PathBuf,
        /// What its lock file says: a process id.
        pid: String,
    },
    /// Somebody else's directory, or one that others may write to.
    #[error("{} must belong to user {uid} and be writable to nobody else (it belongs to user {found}, mode {mode:04o})", .directory.display())]
    Unsafe {
        /// The directory.
        directory: PathBuf,
        /// This process's user.
        uid: u32,
        /// The directory's owner.
        found: u32,
        /// Its mode.
        mode: u32,
    },
    /// The kernel refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    System {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::System { action, path, source }
}

/// A directory that this process serves, until dropped, or [left](Self::leave) to another.
#[derive(Debug)]
pub(crate) struct ServedDirectory {
    path: PathBuf,
    made: bool,
    lock: File,
}

impl ServedDirectory {
    /// Makes the directory if need be, locks it, and opens the listening socket.
    pub(crate) fn take(path: &Path, admission: &Admission) -> Result<(Self, OwnedFd), DirectoryError> {
        let socket_path = path.join(SOCKET_NAME);
        let bytes = socket_path.as_os_str().len();
        if bytes > PATH_BYTES_MAX {
            return Err(DirectoryError::PathTooLong { path: socket_path, bytes });
        }
        let made = make(path)?;
        let served = match lock(path) {
            Ok(lock) => Self { path: path.to_owned(), made, lock },
            Err(error) => {
                if made {
                    let _ = std::fs::remove_dir(path);
                }
                return Err(error);
            }
        };
        for old in [&socket_path, &path.join(KEEPER_SOCKET_NAME)] {
            match std::fs::remove_file(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(system("remove the old socket", old)(error));
                }
                _ => {}
            }
        }
        admission.open_directory(path, made).map_err(system("set who may enter", path))?;
        let listener = socket::listen_once(&socket_path, || admission.open_socket(&socket_path));
        let listener = listener.map_err(system("listen at", &socket_path))?;
        Ok((served, listener))
    }

    /// Opens the socket where a keeper shows what it holds.
    pub(crate) fn listen_as_keeper(&self) -> Result<OwnedFd, DirectoryError> {
        let path = self.path.join(KEEPER_SOCKET_NAME);
        socket::listen(&path).map_err(system("listen at", &path))
    }

    /// The lock, for a process that is to hold it, too: it is free when nobody holds it any more.
    pub(crate) fn lock(&self) -> io::Result<Arc<OwnedFd>> {
        Ok(Arc::new(self.lock.try_clone()?.into()))
    }

    /// What a process must know, beside the lock, to serve this directory on.
    pub(crate) fn note(&self) -> Vec<u8> {
        postcard::to_stdvec(&(&self.path, self.made)).expect("a path that was opened is UTF-8")
    }

    /// Serves a directory on for a process that is gone, whose lock this process has; `None`: this is no such note.
    pub(crate) fn inherit(note: &[u8], lock: File) -> Option<Self> {
        let (path, made) = postcard::from_bytes(note).ok()?;
        let served = Self { path, made, lock };
        // Only the error that a second broker shows depends on it.
        let _ = write_pid(&served.lock);
        Some(served)
    }

    /// Leaves everything to whoever serves this directory on.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for ServedDirectory {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and nothing depends on it: the next broker removes the socket.
        for name in [SOCKET_NAME, KEEPER_SOCKET_NAME, LOCK_NAME] {
            let _ = std::fs::remove_file(self.path.join(name));
        }
        if self.made {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

/// Makes the directory, mode 0700, with its parents; returns whether it was not there.
fn make(path: &Path) -> Result<bool, DirectoryError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(system("make the directory", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(system("make the directory", path)(error)),
    }
    let found = std::fs::metadata(path).map_err(system("inspect", path))?;
    if !found.is_dir() {
        return Err(system("use as a directory", path)(io::ErrorKind::NotADirectory.into()));
    }
    let uid = rustix::process::geteuid().as_raw();
    let mode = found.mode() & 0o7777;
    if found.uid() != uid || mode & 0o022 != 0 {
        return Err(DirectoryError::Unsafe { directory: path.to_owned(), uid, found: found.uid(), mode });
    }
    Ok(false)
}

/// Locks `broker.lock` and writes the process id into it. Where the process that it names is gone, it waits a little for the lock: the
/// kernel closes what a killed broker had open when its last write has ended.
fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK_NAME);
    let began = Instant::now();
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(system("open the lock", &path))?;
        if let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(system("lock", &path)(error.into()));
            }
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            if is_gone(pid.trim()) && began.elapsed() < LOCK_PATIENCE {
                std::thread::sleep(LOCK_RETRY);
                continue;
            }
            return Err(DirectoryError::Taken {
                directory: directory.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        // The broker before may have removed the file between our open and our lock: then it is no longer
        // the one that others will open.
        let ours = file.metadata().map_err(system("inspect", &path))?;
        if !std::fs::metadata(&path).is_ok_and(|there| there.ino() == ours.ino() && there.dev() == ours.dev())
        {
            continue;
        }
        write_pid(&file).map_err(system("write", &path))?;
        return Ok(file);
    }
}

/// Whether there is no such process, or one that has ended and only waits for its parent to ask how.
fn is_gone(pid: &str) -> bool {
    let state = |stat: String| Some(stat.rsplit_once(") ")?.1.starts_with('Z'));
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| state(stat).unwrap_or(false))
}

fn write_pid(lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
}
