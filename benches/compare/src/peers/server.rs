//! Servers of other people's: programs that are started for one trial.
//!
//! What always holds:
//!
//! 1. A server ends with its trial; also with this process, however that ends.
//! 2. It listens on loopback alone or in its private directory, which goes with it.
//! 3. In `durable` it runs on the far CPU, as Ringway's shard does; where there is a far end it may run on all CPUs that the
//!    comparison may use.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

use crate::error::CompareError;
use crate::pinning;
use crate::trial::{Case, Trial};

/// How long a server may take to start; the slowest usually takes some 5 s.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks whether it has.
const START_LOOK: Duration = Duration::from_millis(20);
/// How much of a server's last words is shown, in bytes.
const LAST_WORDS_MAX: usize = 1000;
/// What it prints, in its directory.
const OUTPUT_FILE: &str = "output";
/// Where Debian has servers, which is not on everybody's path.
const SERVERS_DIRECTORY: &str = "/usr/sbin";

/// Finds a program on the path or where Debian has servers.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([PathBuf::from(SERVERS_DIRECTORY)]);
    directories.map(|directory| directory.join(name)).find(|program| program.is_file())
}

/// A process that is ended when dropped.
pub(super) struct Program(Child);

impl Program {
    /// Starts a program that dies with this process.
    pub(super) fn start(trial: &Trial, command: &mut Command) -> Result<Self, CompareError> {
        let (cpus, parent) = (cpus_of(trial)?, getpid());
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            sched_setaffinity(None, &cpus)?;
            // A parent that died before the tie held is noticed here.
            if getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
        };
        // SAFETY: it makes three system calls and touches no memory but its own two variables.
        unsafe { command.pre_exec(prepare) };
        // Out of the terminal's group: Ctrl-C is for the comparison, which ends it.
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().display();
        Ok(Self(child.map_err(CompareError::system(format!("start {name}")))?))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has nothing worth keeping. It has not been waited for, so its id still names it and no other process.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A server with a directory of its own; both end when dropped.
pub(super) struct Server {
    // In this order: its files are in the directory.
    program: Program,
    directory: TempDir,
}

impl Server {
    /// Starts it in the directory.
    pub(super) fn start(
        trial: &Trial,
        directory: TempDir,
        command: &mut Command,
    ) -> Result<Self, CompareError> {
        let action = "keep what a server prints";
        let output =
            File::create(directory.path().join(OUTPUT_FILE)).map_err(CompareError::system(action))?;
        let errors = output.try_clone().map_err(CompareError::system(action))?;
        command.current_dir(directory.path()).stdout(output).stderr(errors);
        Ok(Self { program: Program::start(trial, command)?, directory })
    }

    /// Its directory.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Tries until it succeeds; once the server has ended or the time is over, the error has its last words.
    pub(super) fn wait_until_ready<T, E>(
        &mut self,
        peer: &'static str,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, CompareError> {
        let since = Instant::now();
        loop {
            if let Ok(ready) = attempt() {
                return Ok(ready);
            }
            let ended = self.program.0.try_wait().map_err(CompareError::system("look after a server"))?;
            if ended.is_some() || since.elapsed() > START_LIMIT {
                return Err(CompareError::Peer {
                    peer,
                    action: "start its server",
                    detail: self.last_words(),
                });
            }
            std::thread::sleep(START_LOOK);
        }
    }

    /// The end of what it printed.
    fn last_words(&self) -> String {
        let output = std::fs::read(self.directory().join(OUTPUT_FILE)).unwrap_or_default();
        String::from_utf8_lossy(&output[output.len().saturating_sub(LAST_WORDS_MAX)..]).into_owned()
    }
}

/// Where a trial's server may run.
fn cpus_of(trial: &Trial) -> Result<CpuSet, CompareError> {
    if trial.case == Case::Durable { Ok(pinning::only(trial.cpus.far)) } else { pinning::allowed() }
}

/// Ports on loopback that nobody has now.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N], CompareError> {
    let action = "find a free port";
    // All are held until the last is found, so that no two are the same.
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(CompareError::system(action))?;
        *port = listener.local_addr().map_err(CompareError::system(action))?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::trial;

    #[test]
    fn free_ports_differ() {
        let [first, second, third] = free_ports().unwrap();
        assert!(first != second && second != third && third != first);
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error_with_its_last_words() {
        let trial = trial(Case::Throughput);
        let directory = trial.private_directory().unwrap();
        let path = directory.path().to_owned();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo no room for me"]);
        let mut server = Server::start(&trial, directory, &mut command).unwrap();
        let error = server.wait_until_ready("nobody", || Err::<(), ()>(())).unwrap_err();
        assert!(error.to_string().contains("no room for me"), "{error}");
        drop(server);
        assert!(!path.exists(), "its directory goes with it");
    }
}
