//! A broker with its keeper, each in a process of its own that tests may kill.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use ringway_client::Connection;
use rustix::process::{Pid, Signal, kill_process};

use crate::{PATIENCE, connect, eventually};

/// Process ids, as the keepers report them.
#[derive(Clone, Debug, Default)]
struct Pids {
    keeper: u32,
    /// Each broker so far.
    brokers: Vec<u32>,
}

/// See the module. Both processes are ended when it is dropped.
pub struct KeptBroker {
    /// `None`: another's by now.
    directory: Option<tempfile::TempDir>,
    environment: Vec<(String, String)>,
    first_keeper: Child,
    pids: Arc<(Mutex<Pids>, Condvar)>,
}

impl KeptBroker {
    /// Starts both: `ringway-test-peer` is at `peer`.
    pub fn start(peer: &Path) -> Self {
        Self::start_with(peer, &[])
    }

    /// Starts both with more in their environment.
    pub fn start_with(peer: &Path, environment: &[(&str, String)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Self::start_in(directory, peer, environment)
    }

    fn start_in(directory: tempfile::TempDir, peer: &Path, environment: Vec<(String, String)>) -> Self {
        let mut first_keeper = Command::new(peer)
            .arg("serve")
            .arg(directory.path().join("broker"))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the keeper starts");
        let lines = BufReader::new(first_keeper.stdout.take().expect("stdout is piped")).lines();
        let pids =
            Arc::new((Mutex::new(Pids { keeper: first_keeper.id(), ..Pids::default() }), Condvar::new()));
        let heard = Arc::clone(&pids);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut pids = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
                match line.split_once(' ').map(|(what, pid)| (what, pid.parse())) {
                    Some(("keeper", Ok(pid))) => pids.keeper = pid,
                    Some(("broker", Ok(pid))) => pids.brokers.push(pid),
                    _ => panic!("a keeper has said {line:?}"),
                }
                heard.1.notify_all();
            }
        });
        let broker = Self { directory: Some(directory), environment, first_keeper, pids };
        broker.wait_for(|pids| !pids.brokers.is_empty());
        broker
    }

    /// Kills both at once, and waits until they are gone: what was in memory alone is lost when the last client has let go of it.
    pub fn lose_everything(&mut self) {
        let Pids { keeper, brokers } = self.known();
        // Stopped first, so that neither replaces the other.
        signal(keeper, Signal::STOP);
        // One that it has just started is not known yet.
        let children =
            std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        let brokers: Vec<u32> = children.chain(brokers.last().copied()).collect();
        brokers.iter().chain([&keeper]).for_each(|pid| signal(*pid, Signal::KILL));
        let _ = self.first_keeper.wait();
        // One that is still ending has its files open, and its locks.
        eventually("they are gone", || brokers.iter().all(|pid| is_gone(*pid)));
    }

    /// Starts both anew in the same directory and environment, after [`lose_everything`](Self::lose_everything).
    pub fn start_again(mut self, peer: &Path) -> Self {
        let directory = self.directory.take().expect("only the drop takes it away");
        Self::start_in(directory, peer, std::mem::take(&mut self.environment))
    }

    /// Where it serves.
    pub fn path(&self) -> PathBuf {
        self.directory.as_ref().expect("only the drop takes it away").path().join("broker")
    }

    /// Connects to it.
    pub fn connect(&self) -> Connection {
        connect(self.path()).expect("the broker takes connections")
    }

    /// The broker's process.
    pub fn pid(&self) -> u32 {
        *self.pids().last().expect("it was started")
    }

    /// The processes of all brokers that were started so far.
    pub fn pids(&self) -> Vec<u32> {
        self.known().brokers
    }

    /// The keeper's process.
    pub fn keeper_pid(&self) -> u32 {
        self.known().keeper
    }

    /// Kills the broker.
    pub fn kill(&self) {
        signal(self.pid(), Signal::KILL);
    }

    /// Stops the broker, and waits until none of its threads runs any more; `SIGCONT` lets it go on.
    pub fn freeze(&self) {
        freeze(self.pid());
    }

    /// Kills the broker, and waits until another has been started.
    pub fn succeed(&self) {
        let before = self.pids().len();
        self.kill();
        self.wait_for(|pids| pids.brokers.len() > before);
    }

    /// Kills the keeper, and waits until there is another.
    pub fn replace_keeper(&mut self) {
        let before = self.keeper_pid();
        signal(before, Signal::KILL);
        if before == self.first_keeper.id() {
            self.first_keeper.wait().expect("a child can be waited for");
        }
        self.wait_for(|pids| pids.keeper != before);
    }

    fn known(&self) -> Pids {
        self.pids.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wait_for(&self, what: impl Fn(&Pids) -> bool) {
        let pids = self.pids.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.pids.1.wait_timeout_while(pids, PATIENCE, |pids| !what(pids));
        let (pids, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "waited in vain for a process: {pids:?}");
    }
}

impl Drop for KeptBroker {
    fn drop(&mut self) {
        if self.directory.is_none() {
            return;
        }
        let stopped = connect(self.path()).map(|connection| connection.stop_broker(Duration::from_secs(10)));
        if !matches!(stopped, Ok(Ok(()))) {
            // The keeper first, so that it starts no other broker.
            let Pids { keeper, brokers } = self.known();
            [Some(keeper), brokers.last().copied()]
                .into_iter()
                .flatten()
                .for_each(|pid| signal(pid, Signal::KILL));
        }
        let _ = self.first_keeper.wait();
    }
}

/// Sends a signal to a process that may be gone.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Stops a process, and waits until none of its threads runs any more; `SIGCONT` lets it go on.
pub fn freeze(pid: u32) {
    signal(pid, Signal::STOP);
    eventually("it is stopped", || is_stopped(pid));
}

/// Whether a process was stopped by a signal, and has not gone on.
pub fn is_stopped(pid: u32) -> bool {
    let states = states(pid);
    !states.is_empty() && states.iter().all(|state| *state == 'T')
}

/// Whether nothing of a process runs any more: its first thread may have ended before others, which have its files open.
fn is_gone(pid: u32) -> bool {
    states(pid).iter().all(|state| "ZX".contains(*state))
}

/// The states of a process's threads, as the kernel calls them.
fn states(pid: u32) -> Vec<char> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    stats.filter_map(|stat| stat.rsplit(')').next()?.trim_start().chars().next()).collect()
}
