//! Running the real `ringway` in directories of its own.

#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod terminal;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Nothing here takes so long unless it hangs.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// `ringway`, with nothing of the caller's environment that it looks at.
pub(crate) fn ringway() -> Command {
    without_environment(Command::new(env!("CARGO_BIN_EXE_ringway")))
}

/// A command with nothing of the caller's environment that `ringway` looks at.
pub(crate) fn without_environment(mut command: Command) -> Command {
    for variable in ["XDG_RUNTIME_DIR", "LC_ALL", "LC_CTYPE", "LANG"] {
        command.env_remove(variable);
    }
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"RINGWAY_") {
            command.env_remove(variable);
        }
    }
    command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command
}

/// What a command left: its exit code and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) raw: Vec<u8>,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(!err.contains("panicked"), "{err}");
        Self { code: output.status.code().unwrap_or(-1), out, raw: output.stdout, err }
    }
}

impl Ended {
    /// Checks the exit code, and that the error says all of `parts`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing in: {}", self.err);
        }
        self
    }

    /// Checks that it ended well; its output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        self.expect(0, &[]).out
    }
}

/// A broker with its keeper, in a directory of its own, ended at the end of the test.
pub(crate) struct Broker {
    pub(crate) process: Child,
    pub(crate) ready: String,
    place: TempDir,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// One with more options; what it says beside its output goes to the file `errors` beside its directory.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut serve = ringway();
        serve.args(["serve", "--dir"]).arg(place.path().join("broker")).args(options);
        Self::of(serve, place)
    }

    /// What this command starts, in a place of its own.
    pub(crate) fn of(serve: Command, place: TempDir) -> Self {
        let errors = std::fs::File::create(place.path().join("errors")).unwrap();
        Self::with_errors(serve, place, errors.into())
    }

    /// The same; what it says beside its output goes to `errors`.
    pub(crate) fn with_errors(mut serve: Command, place: TempDir, errors: Stdio) -> Self {
        let mut process = serve.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        drop(serve);
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ringway: serving "), "{ready}");
        Self { process, ready, place }
    }

    /// The process of the broker, the child of its keeper.
    pub(crate) fn broker_pid(&self) -> u32 {
        let pid = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().next().map_or(0, |pid| pid.parse().unwrap())
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.place.path().join("broker")
    }

    /// What it has said beside its output.
    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(self.path("errors")).unwrap()
    }

    /// A path beside the broker's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn command<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = ringway();
        command.arg("--dir").arg(self.directory()).args(arguments);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs a command with `input` to read.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that reads no further says so itself.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap().into()
    }

    /// Starts a command whose output the test reads.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        (child, out)
    }

    /// Makes a stream with a subscription at its beginning.
    pub(crate) fn stream(&self, name: &str, subscription: &str) {
        self.run(&["stream", "create", name]).ok();
        self.run(&["subscription", "create", name, subscription, "--from", "first"]).ok();
    }

    /// A field of `subscription show --json`.
    pub(crate) fn subscription(&self, stream: &str, name: &str, field: &str) -> serde_json::Value {
        let json = self.run(&["subscription", "show", stream, name, "--json"]).ok();
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["partitions"][0][field].clone()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A keeper that is killed leaves its broker behind.
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(&self.process, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// Kills a process.
pub(crate) fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), signal).unwrap();
}

/// Waits until `done`.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LONG, "not after {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the end of a command that was spawned.
#[track_caller]
pub(crate) fn ended(mut child: Child) -> Ended {
    until("the command ends", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap().into()
}

/// Whether a process with this id is there and no zombie.
pub(crate) fn runs(pid: u64) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}
