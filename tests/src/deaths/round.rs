//! One run of all workers over a broker of its own, in which somebody is stopped.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway_client::{Connection, SharedInfo};
use ringway_shm_protocol::stops::Role;
use rustix::process::Signal;

use super::ledger::{Ledger, Worker};
use super::worker::{self, DEAD, QUEUE, READER, Random, TOPIC};
use crate::kept::{KeptBroker, signal};

/// Nothing in a round takes so long unless it hangs.
const LONG: Duration = Duration::from_secs(30);
/// Messages of each producer to each stream.
const MESSAGES: u64 = 300;
/// Times that the churning worker goes round.
const CHURNS: u64 = 4;

/// Who is to be stopped, where and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose process.
    pub role: Role,
    /// Where, and the how manyth time that it comes there; `None`: killed from outside after a while.
    pub place: Option<(&'static str, u64)>,
    /// By SIGKILL, or by SIGSTOP.
    pub kill: bool,
    /// A process that was stopped goes on after a while, or is killed then.
    pub goes_on: bool,
    /// Makes everything else that is random.
    pub seed: u64,
}

/// What has come of it.
#[derive(Debug)]
pub struct Outcome {
    /// The process was stopped as planned.
    pub hit: bool,
    /// What is wrong.
    pub faults: Vec<String>,
    /// How many messages were published, delivered, settled, read, and dead.
    pub counts: [usize; 5],
}

/// Carries a plan out. `peer`: `ringway-test-peer`, built with `--cfg ringway_stops` if the plan names a place.
pub fn run(peer: &Path, plan: &Plan) -> Outcome {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut round = Round { peer, plan, ledger, workers: Vec::new(), random: Random(plan.seed) };
    let broker = KeptBroker::start_with(peer, &round.environment());
    let hit = round.go(&broker);
    let path = broker.path();
    if let Err(error) = round.drain(&path) {
        round.books().fault(format!("what is left cannot be drained: {error}"));
    }
    let stopped = Connection::open(&path).map(|connection| connection.stop_broker(LONG));
    if !matches!(stopped, Ok(Ok(()))) {
        round.books().fault(format!("the broker does not end: {stopped:?}"));
    }
    drop(broker);
    let ledger = std::mem::take(&mut *round.books());
    let counts = ledger.counts();
    Outcome { hit, faults: ledger.close(), counts }
}

struct Process {
    name: String,
    child: Child,
    hearing: JoinHandle<()>,
    arguments: Vec<String>,
    /// It is to be stopped.
    victim: bool,
    ended: bool,
}

struct Round<'a> {
    peer: &'a Path,
    plan: &'a Plan,
    ledger: Arc<Mutex<Ledger>>,
    workers: Vec<Process>,
    random: Random,
}

impl Round<'_> {
    fn books(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What arms a process.
    fn armed(&self) -> Option<String> {
        let (place, times) = self.plan.place?;
        Some(format!("{place},{times},{}", if self.plan.kill { "KILL" } else { "STOP" }))
    }

    /// The environment of the keeper.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let name = match self.plan.role {
            Role::Keeper => "RINGWAY_STOP",
            Role::Broker => "RINGWAY_STOP_BROKER",
            Role::Successor => "RINGWAY_STOP_SUCCESSOR",
            Role::Producer | Role::Cursor | Role::Member => return Vec::new(),
        };
        self.armed().map(|armed| (name, armed)).into_iter().collect()
    }

    fn spawn(&mut self, role: Role, arguments: Vec<String>, victim: bool) {
        let number: Worker = self.workers.len();
        let mut command = Command::new(self.peer);
        command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        // A broker comes to a slot that is to be buried only when somebody dies in it.
        let buried = self.plan.place.is_some_and(|(place, _)| place == "slot.buried");
        if let (true, Role::Producer, 0) = (buried, role, number) {
            command.env("RINGWAY_STOP", "slot.taken,50,KILL");
        } else if victim && let Some(armed) = self.armed() {
            command.env("RINGWAY_STOP", armed);
        }
        let mut child = command.spawn().expect("a worker starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let ledger = Arc::clone(&self.ledger);
        let hearing = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                ledger.lock().unwrap_or_else(PoisonError::into_inner).hear(number, &line);
            }
        });
        let name = format!("{role:?} {number}");
        self.workers.push(Process { name, child, hearing, arguments, victim, ended: false });
    }

    /// Starts all workers and waits until they have ended; returns whether the victim was stopped.
    fn go(&mut self, broker: &KeptBroker) -> bool {
        if let Err(error) =
            Connection::open(broker.path()).map_err(Into::into).and_then(|c| worker::declare(&c))
        {
            self.books().fault(format!("the streams cannot be declared: {error}"));
            return false;
        }
        let directory = broker.path().to_str().expect("a test's path is text").to_owned();
        let text = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        let role = self.plan.role;
        for number in 1..=2_u64 {
            let (first, count) = ((number << 32).to_string(), MESSAGES.to_string());
            let arguments = text(&["work-produce", &directory, &first, &count]);
            self.spawn(Role::Producer, arguments, role == Role::Producer && number == 1);
            let seed = self.random.below(u64::MAX).to_string();
            let arguments = text(&["work-consume", &directory, &seed]);
            self.spawn(Role::Member, arguments, role == Role::Member && number == 1);
        }
        self.spawn(Role::Cursor, text(&["work-read", &directory]), role == Role::Cursor);
        self.spawn(Role::Broker, text(&["work-churn", &directory, &CHURNS.to_string()]), false);
        self.watch(broker)
    }

    fn watch(&mut self, broker: &KeptBroker) -> bool {
        let (began, mut hit, mut first_killed) = (Instant::now(), false, false);
        let (first_broker, first_keeper) = (broker.pid(), broker.keeper_pid());
        let after = Duration::from_millis(20 + self.random.below(150));
        loop {
            for index in 0..self.workers.len() {
                self.look_after(index, &mut hit);
            }
            let elapsed = began.elapsed();
            match self.plan.role {
                // It is watched from here on when the first is gone.
                Role::Successor if !first_killed && elapsed > after => {
                    signal(first_broker, Signal::KILL);
                    first_killed = true;
                }
                _ if self.plan.place.is_none() && !hit && elapsed > after => hit = self.kill_somebody(broker),
                Role::Broker => self.look_at(broker, &[first_broker], broker.pid(), &mut hit),
                Role::Successor if first_killed => {
                    let brokers = broker.pids();
                    if let [_, second, ..] = brokers[..] {
                        self.look_at(broker, &brokers[..2], second, &mut hit);
                    }
                }
                Role::Keeper => {
                    hit |= self.plan.kill && self.plan.place.is_some() && broker.keeper_pid() != first_keeper;
                    self.unstop(first_keeper, &mut hit);
                    // A keeper has more to do when there is a successor.
                    if !first_killed && elapsed > after && !hit {
                        signal(first_broker, Signal::KILL);
                        first_killed = true;
                    }
                }
                _ => {}
            }
            if self.workers.iter().all(|worker| worker.ended) {
                return hit;
            }
            if elapsed > LONG {
                let names: Vec<_> =
                    self.workers.iter().filter(|worker| !worker.ended).map(|w| w.name.clone()).collect();
                self.books().fault(format!("after {LONG:?} these have not ended: {}", names.join(", ")));
                self.workers.iter_mut().for_each(|worker| drop(worker.child.kill()));
                return hit;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A broker that is gone was stopped as planned, if it is not one of those that it would be anyway.
    fn look_at(&self, broker: &KeptBroker, known: &[u32], pid: u32, hit: &mut bool) {
        if self.plan.place.is_none() {
            return;
        }
        *hit |= self.plan.kill && broker.pids().iter().any(|pid| !known.contains(pid));
        self.unstop(pid, hit);
    }

    /// A process that has stopped is left so for a while; then it goes on, or is killed.
    fn unstop(&self, pid: u32, hit: &mut bool) {
        if !self.plan.kill && !*hit && is_stopped(pid) {
            *hit = true;
            std::thread::sleep(Duration::from_millis(50));
            signal(pid, if self.plan.goes_on { Signal::CONT } else { Signal::KILL });
        }
    }

    fn look_after(&mut self, index: usize, hit: &mut bool) {
        let worker = &mut self.workers[index];
        if worker.ended {
            return;
        }
        let (pid, victim) = (worker.child.id(), worker.victim);
        let status = worker.child.try_wait().expect("a child can be waited for");
        if victim {
            self.unstop(pid, hit);
        }
        let Some(status) = status else { return };
        let worker = &mut self.workers[index];
        worker.ended = true;
        // What it said last.
        let hearing = std::mem::replace(&mut worker.hearing, std::thread::spawn(|| ()));
        hearing.join().expect("the books take every line");
        let worker = &self.workers[index];
        if std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::KILL.as_raw()) {
            *hit |= victim && self.plan.kill;
            self.books().killed(index);
            let (name, mut arguments) = (worker.name.clone(), worker.arguments.clone());
            let role = match name.split(' ').next() {
                Some("Producer") => Role::Producer,
                Some("Member") => Role::Member,
                _ => Role::Cursor,
            };
            if role == Role::Producer {
                // Its ids are its own.
                arguments[2] = ((index as u64 + 10) << 32).to_string();
            }
            self.spawn(role, arguments, false);
        } else if !status.success() {
            let name = worker.name.clone();
            self.books().fault(format!("{name} has ended with {status}"));
        }
    }

    /// Kills a process of the role from outside.
    fn kill_somebody(&mut self, broker: &KeptBroker) -> bool {
        let pid = match self.plan.role {
            Role::Broker | Role::Successor => broker.pid(),
            Role::Keeper => broker.keeper_pid(),
            role => {
                let role = format!("{role:?} ");
                let running = self.workers.iter_mut().find(|w| w.name.starts_with(&role) && !w.ended);
                let Some(worker) = running else { return false };
                worker.victim = true;
                worker.child.id()
            }
        };
        signal(pid, Signal::KILL);
        true
    }

    /// Takes out what is left of everything.
    fn drain(&mut self, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let connection = Connection::open(path)?;
        let number = self.workers.len();
        let began = Instant::now();
        let mut consumer = connection.queue_consumer(QUEUE).open()?;
        loop {
            while let Some(delivery) = consumer.recv_timeout(Duration::from_millis(20))? {
                let (id, attempt) = (worker::id_of(delivery.payload()), delivery.attempt());
                let id = id.map_or_else(|| "torn".to_owned(), |id| id.to_string());
                self.books().hear(number, &format!("D {id} {attempt}"));
                delivery.ack()?;
                self.books().hear(number, &format!("S {id} {attempt}"));
            }
            let SharedInfo { ready, leased, delayed, dead, .. } =
                connection.subscription(QUEUE, QUEUE)?.shared();
            if ready + leased + delayed + dead == 0 {
                break;
            }
            if began.elapsed() > LONG {
                return Err(format!("{ready} ready, {leased} leased, {delayed} delayed, {dead} dead").into());
            }
        }
        let mut dead = connection.queue_consumer(DEAD).open()?;
        while let Some(delivery) = dead.recv_timeout(Duration::from_millis(20))? {
            self.books().found_dead(worker::id_of(delivery.payload()));
            delivery.ack()?;
        }
        let mut reader = connection.consumer(TOPIC, READER).open()?;
        while let Some(message) = reader.recv_timeout(Duration::from_millis(20))? {
            let id = worker::id_of(message.payload()).map_or_else(|| "torn".to_owned(), |id| id.to_string());
            self.books().hear(number, &format!("O {id} {}", message.position()));
        }
        Ok(())
    }
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}
