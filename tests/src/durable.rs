//! A durable queue under load while its broker is killed again and again, and now and then everything with it: at random, or behind
//! a step of its journal that it was armed to stop at.
//!
//! A producer notes which messages were confirmed, a consumer which settlements were. Every so many kills the keeper is killed
//! with the broker, and all connections are closed: the rings are gone, and what there is then is what the journal has. In the end
//! the queue is drained, and the books are compared: a message that was confirmed must have been delivered, and one whose
//! settlement was confirmed must not have come again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway_broker::config::SEGMENT_BYTES_MIN;
use ringway_client::{Connection, Durability, SharedSettings, StreamKind, StreamSettings};
use ringway_shm_protocol::stops::JOURNAL_STOPS;

use crate::PATIENCE;
use crate::deaths::worker::Random;
use crate::kept::{KeptBroker, is_stopped};

/// Messages between two confirms.
const WINDOW: u64 = 16;
/// Acks between two confirms.
const ACKS: usize = 8;
/// A queue is drained when nothing has come for so long.
const DRAINED: Duration = Duration::from_millis(500);

/// Has `ringway-test-peer serve` write segments of so many bytes.
pub const SMALL_SEGMENTS: &str = "RINGWAY_TEST_SEGMENT_BYTES";
/// Brokers at the same time: they mostly wait.
const AT_ONCE: usize = 4;
/// How often a place is tried that is not come to.
const TRIES: u64 = 3;
/// How long a broker works that is not to come to its place.
const LIFE: Duration = Duration::from_millis(250);
/// How long it has to come there.
const COMES: Duration = Duration::from_secs(4);

/// What a campaign has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How often the broker was killed.
    pub kills: u64,
    /// How often everything was.
    pub losses: u64,
    /// Messages that were confirmed.
    pub confirmed: u64,
    /// Settlements that were confirmed.
    pub settled: u64,
    /// Messages that were confirmed and never delivered.
    pub missing: u64,
    /// Deliveries of messages whose settlement had been confirmed.
    pub back: u64,
}

#[derive(Default)]
struct Books {
    confirmed: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    back: u64,
}

struct Shared {
    books: Mutex<Books>,
    next: AtomicU64,
    stop: AtomicBool,
    /// The producer has ended: until then somebody must make room for it.
    produced: AtomicBool,
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

type Failure = Box<dyn std::error::Error>;

fn declare(connection: &Connection) -> Result<(), Failure> {
    let settings = StreamSettings {
        kind: StreamKind::Queue,
        slots: 64,
        slot_bytes: 64,
        durability: Durability::Synced,
        ..StreamSettings::DEFAULT
    };
    let shared = SharedSettings { attempts_max: 0, ..SharedSettings::default() };
    connection.declare_queue("q", settings, shared)?;
    Ok(())
}

/// Publishes until it is told to stop, or cannot; returns by an error what the books do not know of.
fn produce(directory: &Path, shared: &Shared) -> Result<(), Failure> {
    let connection = Connection::open(directory)?;
    let mut producer = connection.producer("q").open()?;
    while shared.goes_on() {
        let first = shared.next.fetch_add(WINDOW, Ordering::Relaxed);
        for number in first..first + WINDOW {
            // Some do not fit a slot, and some are long.
            let mut payload = number.to_le_bytes().to_vec();
            payload.resize(
                if number % 8 == 0 {
                    100_000
                } else if number % 7 == 0 {
                    300
                } else {
                    8
                },
                1,
            );
            producer.send_timeout(&payload, PATIENCE)?;
        }
        producer.confirm_all_timeout(PATIENCE)?;
        shared.books().confirmed.extend(first..first + WINDOW);
    }
    Ok(())
}

/// Consumes until it is told to stop, or cannot; `drain`: until nothing comes any more.
fn consume(directory: &Path, shared: &Shared, drain: bool) -> Result<(), Failure> {
    let connection = Connection::open(directory)?;
    let mut consumer = connection.queue_consumer("q").open()?;
    let mut acked = Vec::new();
    loop {
        let came = if let Some(delivery) = consumer.recv_timeout(DRAINED)? {
            let number = u64::from_le_bytes(delivery.payload()[..8].try_into()?);
            {
                let mut books = shared.books();
                books.back += u64::from(books.settled.contains(&number));
                books.delivered.insert(number);
            }
            // A few are kept for another time.
            if drain || number % 11 != 0 {
                delivery.ack()?;
                acked.push(number);
            }
            true
        } else {
            false
        };
        if drain && !came {
            break;
        }
        if acked.len() >= ACKS {
            consumer.confirm_settled(PATIENCE)?;
            shared.books().settled.extend(acked.drain(..));
        }
        if !drain && shared.produced.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

/// A broker under load, and the books.
struct Load<'a> {
    peer: &'a Path,
    broker: KeptBroker,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl<'a> Load<'a> {
    fn start(peer: &'a Path, environment: &[(&str, String)]) -> Self {
        let broker = KeptBroker::start_with(peer, environment);
        declare(&broker.connect()).expect("a queue can be declared");
        let (books, next) = (Mutex::default(), AtomicU64::new(0));
        let shared = Shared { books, next, stop: AtomicBool::new(false), produced: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        Self { peer, workers: start(&broker, &shared), broker, shared }
    }

    fn end_workers(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.workers.drain(..).for_each(|worker| drop(worker.join()));
    }

    /// Kills broker and keeper, and closes all connections, so that the rings are gone; then all goes on.
    fn lose_everything(mut self) -> Self {
        self.broker.lose_everything();
        self.end_workers();
        let before = Arc::into_inner(self.shared).expect("the workers have ended");
        let shared = Shared { stop: AtomicBool::new(false), produced: AtomicBool::new(false), ..before };
        let (broker, shared) = (self.broker.start_again(self.peer), Arc::new(shared));
        Self { peer: self.peer, workers: start(&broker, &shared), broker, shared }
    }

    /// Drains the queue, and compares the books.
    fn end(mut self) -> Report {
        self.end_workers();
        consume(&self.broker.path(), &self.shared, true).expect("the queue can be drained");
        let books = self.shared.books();
        Report {
            confirmed: books.confirmed.len() as u64,
            settled: books.settled.len() as u64,
            missing: books.confirmed.difference(&books.delivered).count() as u64,
            back: books.back,
            ..Report::default()
        }
    }
}

/// Kills the broker so often, and everything with it every `loss_every`-th time. `peer`: `ringway-test-peer`; `environment`:
/// of the broker.
pub fn campaign(
    peer: &Path,
    environment: &[(&str, String)],
    kills: u64,
    loss_every: u64,
    seed: u64,
) -> Report {
    let mut load = Load::start(peer, environment);
    let (mut losses, mut random) = (0, Random(seed));
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_micros(2000 + random.below(200_000)));
        if kill % loss_every == 0 {
            load = load.lose_everything();
            losses += 1;
        } else {
            load.broker.succeed();
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    Report { kills, losses, ..load.end() }
}

/// Stops a broker behind a step of its journal, the `times`-th time that it comes there: by SIGKILL, so that another goes on with
/// its rings, or by SIGSTOP, and everything is lost then. `None`: it has not come there. `peer`: built with `--cfg ringway_stops`.
pub fn stop_at(peer: &Path, place: &str, times: u64, kill: bool) -> Option<Report> {
    let armed = format!("{place},{times},{}", if kill { "KILL" } else { "STOP" });
    let environment = [("RINGWAY_STOP_SUCCESSOR", armed), (SMALL_SEGMENTS, SEGMENT_BYTES_MIN.to_string())];
    let mut load = Load::start(peer, &environment);
    // Something is given up in the fourth life: what two snapshots do without.
    for _ in 0..2 {
        std::thread::sleep(LIFE);
        load = load.lose_everything();
    }
    std::thread::sleep(LIFE);
    load.broker.succeed();
    let (began, second) = (Instant::now(), load.broker.pid());
    let has_come = |load: &Load<'_>| if kill { load.broker.pid() != second } else { is_stopped(second) };
    while !has_come(&load) {
        if began.elapsed() > COMES {
            return None;
        }
        // Some are come to only when nothing is to be done.
        if began.elapsed() > COMES / 2 && !load.workers.is_empty() {
            load.end_workers();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if !kill {
        load = load.lose_everything();
    }
    std::thread::sleep(LIFE);
    Some(load.end())
}

/// Stops brokers behind every step of a journal, once by each signal. Returns what is wrong, and prints what was hit.
pub fn stops(peer: &Path, seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let targets = JOURNAL_STOPS.iter().flat_map(|place| [(place, true), (place, false)]);
    let targets: Vec<_> =
        targets.map(|((place, most), kill)| (*place, 1 + random.below(*most), kill)).collect();
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((place, times, kill)) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A life may be too short for what comes seldom.
                    let report = (0..TRIES).find_map(|_| stop_at(peer, place, *times, *kill));
                    let signal = if *kill { "SIGKILL" } else { "SIGSTOP" };
                    let what = format!("{signal} at {place}, time {times}: {report:?}");
                    println!("{what}");
                    let is_whole =
                        |report: Report| (report.missing, report.back) == (0, 0) && report.confirmed > 0;
                    let wrong = (!report.is_some_and(is_whole)).then_some(what);
                    faults.lock().unwrap_or_else(PoisonError::into_inner).extend(wrong);
                }
            });
        }
    });
    faults.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn start(broker: &KeptBroker, shared: &Arc<Shared>) -> Vec<std::thread::JoinHandle<()>> {
    let (producing, consuming) = (Arc::clone(shared), Arc::clone(shared));
    let (to, from) = (broker.path(), broker.path());
    // Either ends with an error when everything is lost.
    let producer = std::thread::spawn(move || {
        drop(produce(&to, &producing));
        producing.produced.store(true, Ordering::Relaxed);
    });
    let consumer = std::thread::spawn(move || drop(consume(&from, &consuming, false)));
    vec![producer, consumer]
}
