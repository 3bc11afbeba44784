//! One run of all workers over a broker of its own, in which somebody is stopped.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway_client::SharedInfo;
use ringway_shm_protocol::stops::Role;
use rustix::process::Signal;

use super::ledger::{Ledger, Worker};
use super::worker::{self, DEAD, QUEUE, READER, Random, TOPIC};
use crate::connect;
use crate::kept::{KeptBroker, is_stopped, signal};

type Failure = Box<dyn std::error::Error>;

/// Nothing in a round takes so long unless it hangs.
const LONG: Duration = Duration::from_secs(30);
/// Messages of each producer to each stream.
const MESSAGES: u64 = 200;
/// Most random kills in a round.
const KILLS_MAX: u64 = 5;
/// Times that the churning worker goes round.
const CHURNS: u64 = 3;

/// Who is to be stopped, where and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose process.
    pub role: Role,
    /// Where, and the how manyth time that it comes there; `None`: killed from outside, again and again.
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
    /// How often a process was stopped as planned.
    pub hits: u64,
    /// What is wrong.
    pub faults: Vec<String>,
    /// How many messages were published, delivered, settled, read, and dead.
    pub counts: [usize; 5],
}

/// Carries a plan out. `peer`: `ringway-test-peer`, built with `--cfg ringway_stops` if the plan names a place.
pub fn run(peer: &Path, plan: &Plan) -> Outcome {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut round = Round { peer, plan, ledger, workers: Vec::new(), random: Random(plan.seed), hits: 0 };
    let broker = KeptBroker::start_with(peer, &round.environment());
    let watch = Watch { plan, broker: &broker, over: AtomicBool::new(false), hits: AtomicU64::new(0) };
    let after = Duration::from_millis(20 + round.random.below(150));
    std::thread::scope(|scope| {
        scope.spawn(|| watch.go(after, Random(plan.seed)));
        if let Err(error) = round.go(&broker) {
            round.books().fault(error.to_string());
        }
        let stopped = connect(broker.path()).map(|connection| connection.stop_broker(LONG));
        if !matches!(stopped, Ok(Ok(()))) {
            round.books().fault(format!("the broker does not end: {stopped:?}"));
        }
        watch.over.store(true, Ordering::Relaxed);
    });
    let hits = round.hits + watch.hits.into_inner();
    drop(broker);
    let ledger = std::mem::take(&mut *round.books());
    let counts = ledger.counts();
    Outcome { hits, faults: ledger.close(), counts }
}

/// Watches the broker and the keeper for as long as a round takes.
struct Watch<'a> {
    plan: &'a Plan,
    broker: &'a KeptBroker,
    over: AtomicBool,
    hits: AtomicU64,
}

impl Watch<'_> {
    fn go(&self, after: Duration, mut random: Random) {
        let (began, mut first_killed, mut next, mut killed) = (Instant::now(), false, after, 0);
        let (first, keeper) = (self.broker.pid(), self.broker.keeper_pid());
        let (kill, named) = (self.plan.kill, self.plan.place.is_some());
        while !self.over.load(Ordering::Relaxed) {
            let brokers = self.broker.pids();
            // There is more to do when there is a successor; and a second broker that is to be stopped.
            let wants_successor = match self.plan.role {
                Role::Successor => true,
                // Not where it dies itself: both at once is more than is promised.
                Role::Keeper => named && !kill && self.hits() == 0,
                _ => false,
            };
            if wants_successor && !first_killed && began.elapsed() > after {
                signal(first, Signal::KILL);
                first_killed = true;
            }
            match self.plan.role {
                _ if named && self.hits() > 0 => {}
                Role::Broker if named && kill && brokers.len() > 1 => self.hit(),
                Role::Broker if named => self.unstop(first),
                Role::Successor if named && kill && brokers.len() > 2 => self.hit(),
                Role::Successor if named => {
                    brokers.get(1).into_iter().for_each(|second| self.unstop(*second))
                }
                Role::Keeper if named && kill && self.broker.keeper_pid() != keeper => self.hit(),
                Role::Keeper if named => self.unstop(keeper),
                Role::Broker | Role::Keeper if self.hits() < KILLS_MAX && began.elapsed() > next => {
                    let keeper = self.plan.role == Role::Keeper;
                    let pid = if keeper { self.broker.keeper_pid() } else { self.broker.pid() };
                    // Not before somebody else is there.
                    if pid != killed {
                        signal(pid, Signal::KILL);
                        killed = pid;
                        self.hit();
                        next = began.elapsed() + Duration::from_millis(20 + random.below(150));
                    }
                }
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    fn unstop(&self, pid: u32) {
        if unstop(self.plan, pid) {
            self.hit();
        }
    }
}

/// A process that has stopped as planned is left so for a while; then it goes on, or is killed. `false`: it has not stopped.
fn unstop(plan: &Plan, pid: u32) -> bool {
    let stopped = !plan.kill && is_stopped(pid);
    if stopped {
        std::thread::sleep(Duration::from_millis(50));
        signal(pid, if plan.goes_on { Signal::CONT } else { Signal::KILL });
    }
    stopped
}

struct Process {
    name: String,
    role: Role,
    child: Child,
    hearing: Option<JoinHandle<()>>,
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
    /// How often a worker was stopped as planned.
    hits: u64,
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
        let hearing = Some(hearing);
        self.workers.push(Process { name, role, child, hearing, arguments, victim, ended: false });
    }

    /// Declares, starts all workers, waits until they have ended, and takes out what is left.
    fn go(&mut self, broker: &KeptBroker) -> Result<(), Failure> {
        worker::declare(&connect(broker.path())?)?;
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
        self.wait()?;
        self.drain(&broker.path())
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let (began, mut next) = (Instant::now(), self.interval());
        while !self.workers.iter().all(|worker| worker.ended) {
            for index in 0..self.workers.len() {
                self.look_after(index);
            }
            let is_worker = matches!(self.plan.role, Role::Producer | Role::Cursor | Role::Member);
            if is_worker && self.plan.place.is_none() && self.hits < KILLS_MAX && began.elapsed() > next {
                self.kill_victim();
                next = began.elapsed() + self.interval();
            }
            if began.elapsed() > LONG {
                let left = self.workers.iter_mut().filter(|worker| !worker.ended);
                let names = left.map(|worker| {
                    let _ = worker.child.kill();
                    worker.name.clone()
                });
                let names = names.collect::<Vec<_>>().join(", ");
                return Err(format!("after {LONG:?} these have not ended: {names}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn look_after(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if worker.ended {
            return;
        }
        let (pid, victim) = (worker.child.id(), worker.victim);
        let status = worker.child.try_wait().expect("a child can be waited for");
        let Some(status) = status else {
            if victim && self.hits == 0 && unstop(self.plan, pid) {
                self.hits += 1;
            }
            return;
        };
        worker.ended = true;
        // What it said last.
        if let Some(hearing) = worker.hearing.take() {
            hearing.join().expect("the books take every line");
        }
        let (name, role, mut arguments) = (worker.name.clone(), worker.role, worker.arguments.clone());
        if status.signal() == Some(Signal::KILL.as_raw()) {
            let named = self.plan.place.is_some();
            self.hits += u64::from(victim && self.plan.kill && named);
            self.books().killed(index);
            if role == Role::Producer {
                // Its ids are its own.
                arguments[2] = ((index as u64 + 10) << 32).to_string();
            }
            // The next one is to be killed, too.
            self.spawn(role, arguments, victim && !named);
        } else if !status.success() {
            self.books().fault(format!("{name} has ended with {status}"));
        }
    }

    fn kill_victim(&mut self) {
        if let Some(worker) = self.workers.iter().find(|worker| worker.victim && !worker.ended) {
            signal(worker.child.id(), Signal::KILL);
            self.hits += 1;
        }
    }

    /// How long until the next kill.
    fn interval(&mut self) -> Duration {
        Duration::from_millis(20 + self.random.below(150))
    }

    /// Takes out what is left of everything.
    fn drain(&mut self, path: &Path) -> Result<(), Failure> {
        let connection = connect(path)?;
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
