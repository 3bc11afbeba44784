//! The processes that a command starts: a broker and roles, which end when the command does, however that ends.
//!
//! Dropping a handle ends its process. Should the command itself be killed, the kernel ends them: the broker by
//! SIGTERM, so that it removes its directory, the roles by SIGKILL.

use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ringway_shm_protocol::control::SOCKET_NAME;
use ringway_shm_protocol::control::socket::PATH_BYTES_MAX;
use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Failure;
use crate::interrupt::{Interrupt, LOOK_EVERY};

/// How long a broker may take to start or to end.
const BROKER_TIME_MAX: Duration = Duration::from_secs(10);

/// What a child gets to read.
#[derive(Debug)]
pub(crate) enum Input {
    /// These bytes.
    Bytes(Arc<Vec<u8>>),
    /// Lines that it is told one by one, and an end of input when the command ends.
    Lines,
}

/// A child, whose lines of output can be waited for.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    told: Option<ChildStdin>,
    lines: Receiver<String>,
    interrupt: Interrupt,
}

impl Process {
    /// Starts this program with `arguments` with `input`.
    pub(crate) fn start(
        name: &str,
        arguments: &[OsString],
        input: Input,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| Failure::new(format!("cannot start the {name}: {error}"));
        let mut child = Command::new(std::env::current_exe().map_err(cannot)?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is the command's to see; it ends the others in order.
            .process_group(0)
            .spawn()
            .map_err(cannot)?;
        let mut told = child.stdin.take();
        if let Input::Bytes(bytes) = input
            && let Some(mut stdin) = told.take()
        {
            // A child that reads no further has failed, and says so itself.
            std::thread::spawn(move || stdin.write_all(&bytes));
        }
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                lines.map(|line| sender.send(line)).take_while(Result::is_ok).count()
            });
        }
        Ok(Self { name: name.to_owned(), child, told, lines, interrupt: interrupt.clone() })
    }

    /// Gives it a line to read.
    pub(crate) fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.told {
            // A child that reads no further has failed, and says so itself.
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Ends its input, and waits until it has ended by itself.
    pub(crate) fn finish(&mut self) {
        self.told = None;
        // Fails only for a process that has ended.
        let _ = self.child.wait();
    }

    /// The next line of its output; without a `limit` as long as it runs.
    pub(crate) fn line(&mut self, limit: Option<Duration>) -> Result<String, Failure> {
        let began = Instant::now();
        loop {
            if self.interrupt.is_set() {
                return Err(Failure::Interrupted);
            }
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait()?;
                    return Err(Failure::new(format!("the {} ended too early ({status})", self.name)));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if limit.is_some_and(|limit| began.elapsed() > limit) {
                return Err(Failure::new(format!("the {} said nothing for {limit:?}", self.name)));
            }
        }
    }

    /// The next line of its output, if it says something within this time.
    pub(crate) fn line_within(&mut self, time: Duration) -> Result<Option<String>, Failure> {
        if self.interrupt.is_set() {
            return Err(Failure::Interrupted);
        }
        match self.lines.recv_timeout(time) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.wait()?;
                Err(Failure::new(format!("the {} ended too early ({status})", self.name)))
            }
        }
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it said before it ended.
    pub(crate) fn rest(&self) -> impl Iterator<Item = String> {
        self.lines.iter()
    }

    /// What it is to the command.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn wait(&mut self) -> Result<ExitStatus, Failure> {
        self.child.wait().map_err(|error| Failure::new(format!("cannot wait for the {}: {error}", self.name)))
    }

    /// Sends it SIGTERM and waits a while; `None` if it did not end.
    fn terminate(&mut self) -> Option<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)?;
        let began = Instant::now();
        if matches!(self.child.try_wait(), Ok(None)) {
            // It cannot have been given to another process: nobody has waited for it.
            let _ = kill_process(pid, Signal::TERM);
        }
        while began.elapsed() < BROKER_TIME_MAX {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A broker of the command's own.
#[derive(Debug)]
pub(crate) struct BrokerProcess {
    process: Process,
    directory: PathBuf,
    ended: Option<ExitStatus>,
}

impl BrokerProcess {
    /// Starts it in `directory`, and waits until it serves.
    pub(crate) fn start(directory: PathBuf, interrupt: &Interrupt) -> Result<Self, Failure> {
        let pid = std::process::id().to_string();
        let arguments: [OsString; 5] =
            ["serve".into(), "--dir".into(), (&directory).into(), "--end-with-parent".into(), pid.into()];
        let process = Process::start("broker", &arguments, Input::Bytes(Arc::default()), interrupt)?;
        let mut broker = Self { process, directory, ended: None };
        broker.process.line(Some(BROKER_TIME_MAX))?;
        Ok(broker)
    }

    /// Where it serves.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Ends it; says what is not as it should be afterwards.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.ended = self.process.terminate();
        match self.ended {
            None => Err(format!("the broker had not ended {BROKER_TIME_MAX:?} after SIGTERM")),
            Some(status) if !status.success() => Err(format!("the broker did not end cleanly ({status})")),
            Some(_) if self.directory.join(SOCKET_NAME).exists() => {
                Err(format!("the broker left its socket behind in {}", self.directory.display()))
            }
            Some(_) => Ok(()),
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.process.terminate();
        }
    }
}

/// A new name in the directory for temporary files, or in /tmp where that is too deep for a socket. The broker makes
/// the directory, and refuses one that is somebody else's.
pub(crate) fn own_directory(purpose: &str) -> PathBuf {
    let name =
        format!("ringway-{purpose}-{}-{:08x}", std::process::id(), RandomState::new().hash_one(()) as u32);
    let directory = std::env::temp_dir().join(&name);
    let fits = directory.join(SOCKET_NAME).as_os_str().len() <= PATH_BYTES_MAX;
    if fits { directory } else { Path::new("/tmp").join(name) }
}
