//! A durable queue under load while its broker is killed again and again, and now and then everything with it.
//!
//! A producer notes which messages were confirmed, a consumer which settlements were. Every so many kills the keeper is killed
//! with the broker, and all connections are closed: the rings are gone, and what there is then is what the journal has. In the end
//! the queue is drained, and the books are compared: a message that was confirmed must have been delivered, and one whose
//! settlement was confirmed must not have come again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway_client::{Connection, Durability, SharedSettings, StreamKind, StreamSettings};

use crate::PATIENCE;
use crate::kept::KeptBroker;

/// Messages between two confirms.
const WINDOW: u64 = 16;
/// Acks between two confirms.
const ACKS: usize = 8;
/// A queue is drained when nothing has come for so long.
const DRAINED: Duration = Duration::from_millis(500);

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
        slots: 1024,
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
            // Some do not fit a slot.
            let mut payload = number.to_le_bytes().to_vec();
            payload.resize(if number % 7 == 0 { 300 } else { 8 }, 1);
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

/// Kills the broker so often, and everything with it every `loss_every`-th time. `peer`: `ringway-test-peer`; `environment`:
/// of the broker.
pub fn campaign(
    peer: &Path,
    environment: &[(&str, String)],
    kills: u64,
    loss_every: u64,
    seed: u64,
) -> Report {
    let mut broker = KeptBroker::start_with(peer, environment);
    declare(&broker.connect()).expect("a queue can be declared");
    let (books, next) = (Mutex::default(), AtomicU64::new(0));
    let mut shared =
        Arc::new(Shared { books, next, stop: AtomicBool::new(false), produced: AtomicBool::new(false) });
    let mut report = Report::default();
    let mut random = seed;
    let mut workers = start(&broker, &shared);
    for kill in 1..=kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros(2000 + (random >> 33) % 200_000));
        if kill % loss_every == 0 {
            broker.lose_everything();
            shared.stop.store(true, Ordering::Relaxed);
            workers.into_iter().for_each(|worker| drop(worker.join()));
            let before = Arc::into_inner(shared).expect("the workers have ended");
            shared =
                Arc::new(Shared { stop: AtomicBool::new(false), produced: AtomicBool::new(false), ..before });
            broker = broker.start_again(peer);
            report.losses += 1;
            workers = start(&broker, &shared);
        } else {
            broker.succeed();
        }
        report.kills += 1;
    }
    std::thread::sleep(Duration::from_millis(200));
    shared.stop.store(true, Ordering::Relaxed);
    workers.into_iter().for_each(|worker| drop(worker.join()));
    consume(&broker.path(), &shared, true).expect("the queue can be drained");
    let books = shared.books();
    report.confirmed = books.confirmed.len() as u64;
    report.settled = books.settled.len() as u64;
    report.missing = books.confirmed.difference(&books.delivered).count() as u64;
    report.back = books.back;
    report
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
