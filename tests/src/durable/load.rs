//! The broker, and who works with it: producers that wait for confirms only when much is in flight, competing consumers of the
//! queue, and a reader of the topic.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ringway_client::{
    Connection, Durability, Position, Producer, SharedSettings, StartAt, StreamKind, StreamSettings,
};

use super::Report;
use super::books::{Books, CONFIRMED, DELIVERED, SETTLED};
use crate::kept::KeptBroker;
use crate::{PATIENCE, connect, eventually};

/// How much there is of everything.
#[derive(Debug)]
pub struct Pace {
    /// Of each stream.
    pub partitions: u32,
    /// Of each partition.
    pub slots: u64,
    /// Of each stream.
    pub producers: usize,
    /// Of the queue.
    pub consumers: usize,
    /// Messages that a producer has sent and that are not confirmed.
    pub in_flight: usize,
    /// Settlements between two confirms.
    pub settlements: usize,
    /// One message in so many is long, and some of these are journaled in parts.
    pub long_every: u64,
}

/// Little at a time: everything is confirmed soon.
pub const LIGHT: Pace = Pace {
    partitions: 1,
    slots: 64,
    producers: 1,
    consumers: 1,
    in_flight: 16,
    settlements: 8,
    long_every: 32,
};
/// As much as there can be: full rings, and thousands of messages in flight.
pub const HEAVY: Pace = Pace {
    partitions: 2,
    slots: 4096,
    producers: 2,
    consumers: 3,
    in_flight: 3000,
    settlements: 500,
    long_every: 128,
};

/// One long message in so many is journaled in parts.
const IN_PARTS_EVERY: u64 = 16;
/// Bytes of messages that do not fit a slot, of long ones, and of those that are journaled in parts.
const MIDDLE_BYTES: usize = 300;
const LONG_BYTES: usize = 100_000;
const PARTS_BYTES: usize = 600_000;
/// Messages that are sent between two looks at the watermarks.
const BATCH: u64 = 16;
/// Of the queue: one message in so many is given back at first, another fails twice.
const RELEASED_EVERY: u64 = 101;
const FAILS_EVERY: u64 = 103;
const FAILS_FOR: Duration = Duration::from_millis(50);
/// Nothing has come for so long: a stream is drained.
const DRAINED: Duration = Duration::from_millis(500);
/// How long a consumer waits before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// The streams: the queue, with its one subscription, and the topic, with one of this name.
const QUEUE: usize = 0;
const TOPIC: usize = 1;
const STREAMS: [&str; 2] = ["q", "t"];
const SUBSCRIPTION: &str = "all";

pub(super) type Failure = Box<dyn std::error::Error>;

impl Pace {
    /// The first of a batch needs no memory of the broker.
    fn bytes(&self, number: u64) -> usize {
        match number {
            _ if number % (self.long_every * IN_PARTS_EVERY) == self.long_every - 1 => PARTS_BYTES,
            _ if number % self.long_every == self.long_every - 1 => LONG_BYTES,
            _ if number % BATCH % 7 == 6 => MIDDLE_BYTES,
            _ => 8,
        }
    }

    fn payload(&self, number: u64) -> Vec<u8> {
        let mut payload = vec![number as u8; self.bytes(number)];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        payload
    }

    /// Which message it is, if it is whole.
    fn number(&self, payload: &[u8]) -> Option<u64> {
        let (number, rest) = payload.split_first_chunk()?;
        let number = u64::from_le_bytes(*number);
        let is_whole = payload.len() == self.bytes(number) && rest.iter().all(|byte| *byte == number as u8);
        is_whole.then_some(number)
    }

    fn declare(&self, connection: &Connection) -> Result<(), Failure> {
        let queue = StreamSettings {
            kind: StreamKind::Queue,
            partitions: self.partitions,
            slots: self.slots,
            slot_bytes: 64,
            durability: Durability::Synced,
            ..StreamSettings::DEFAULT
        };
        let shared = SharedSettings { attempts_max: 0, ..SharedSettings::default() };
        connection.declare_queue(STREAMS[QUEUE], queue, shared)?;
        let topic = StreamSettings { kind: StreamKind::Topic, ..queue };
        connection.declare_stream(STREAMS[TOPIC], topic)?;
        connection.declare_subscription(STREAMS[TOPIC], SUBSCRIPTION, StartAt::First)?;
        Ok(())
    }
}

/// What the workers share.
struct Shared {
    pace: &'static Pace,
    directory: PathBuf,
    books: [Mutex<Books>; 2],
    /// The next number of each stream.
    next: [AtomicU64; 2],
    stop: AtomicBool,
    /// Everything is being lost: whoever works then ends with an error.
    lost: AtomicBool,
    /// Workers that have ended with an error while nothing was lost.
    ended: AtomicU64,
    /// Producers send nothing for a while.
    rest: AtomicBool,
    /// Workers that have opened what they work with.
    open: AtomicUsize,
    /// Messages that were sent and are not known to be confirmed.
    in_flight: AtomicUsize,
    /// Messages that are known to be confirmed.
    confirmed: AtomicUsize,
    /// Producers that have not ended: until then somebody must make room for them.
    producing: AtomicUsize,
}

impl Shared {
    fn books(&self, stream: usize) -> MutexGuard<'_, Books> {
        self.books[stream].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message was delivered; which one.
    fn deliver(&self, stream: usize, payload: &[u8]) -> u64 {
        let number = self.pace.number(payload);
        self.books(stream).deliver(number);
        number.unwrap_or_default()
    }

    /// Publishes until it is told to stop, or cannot.
    fn produce(&self, stream: usize) -> Result<(), Failure> {
        let connection = connect(&self.directory)?;
        let mut producer = connection.producer(STREAMS[stream]).open()?;
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut in_flight = vec![VecDeque::new(); self.pace.partitions as usize];
        let outcome = self.publish(stream, &mut producer, &mut in_flight);
        // Whatever has ended it: what the watermarks say in the end is confirmed.
        self.note_confirmed(stream, &producer, &mut in_flight);
        self.in_flight.fetch_sub(in_flight.iter().map(VecDeque::len).sum(), Ordering::Relaxed);
        outcome
    }

    fn publish(
        &self,
        stream: usize,
        producer: &mut Producer,
        in_flight: &mut [InFlight],
    ) -> Result<(), Failure> {
        while !self.stop.load(Ordering::Relaxed) {
            if self.rest.load(Ordering::Relaxed) {
                producer.confirm_all_timeout(PATIENCE)?;
                self.note_confirmed(stream, producer, in_flight);
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let first = self.next[stream].fetch_add(BATCH, Ordering::Relaxed);
            for number in first..first + BATCH {
                let position = producer.send_timeout(&self.pace.payload(number), PATIENCE)?;
                in_flight[position.partition as usize].push_back((position, number));
                self.in_flight.fetch_add(1, Ordering::Relaxed);
            }
            self.note_confirmed(stream, producer, in_flight);
            for partition in 0..in_flight.len() {
                while in_flight[partition].len() >= self.pace.in_flight / in_flight.len()
                    && let Some((oldest, _)) = in_flight[partition].front()
                {
                    producer.confirm_timeout(*oldest, PATIENCE)?;
                    self.note_confirmed(stream, producer, in_flight);
                }
            }
        }
        producer.confirm_all_timeout(PATIENCE)?;
        Ok(())
    }

    fn note_confirmed(&self, stream: usize, producer: &Producer, in_flight: &mut [InFlight]) {
        for (partition, end) in in_flight.iter_mut().zip(producer.confirmed()) {
            let confirmed = partition.partition_point(|(position, _)| *position < end);
            self.in_flight.fetch_sub(confirmed, Ordering::Relaxed);
            self.confirmed.fetch_add(confirmed, Ordering::Relaxed);
            self.books(stream).note(partition.drain(..confirmed).map(|(_, number)| number), CONFIRMED);
        }
    }

    /// Consumes the queue until nobody produces, or, to drain it, until nothing has come for a while.
    fn consume(&self, drain: Option<Duration>) -> Result<(), Failure> {
        let connection = connect(&self.directory)?;
        let mut consumer = connection.queue_consumer(STREAMS[QUEUE]).open()?;
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut acked = Vec::new();
        loop {
            let came = if let Some(delivery) = consumer.recv_timeout(drain.unwrap_or(LOOK))? {
                let number = self.deliver(QUEUE, delivery.payload());
                if number.is_multiple_of(RELEASED_EVERY) && delivery.attempt() == 1 {
                    delivery.release()?;
                } else if number.is_multiple_of(FAILS_EVERY) && delivery.attempt() <= 2 {
                    delivery.nack_after(FAILS_FOR)?;
                } else {
                    delivery.ack()?;
                    acked.push(number);
                }
                true
            } else {
                false
            };
            if acked.len() >= self.pace.settlements || !came && !acked.is_empty() {
                consumer.confirm_settled(PATIENCE)?;
                self.books(QUEUE).note(acked.drain(..), SETTLED);
            }
            if self.is_over(drain, came) {
                return Ok(());
            }
        }
    }

    /// Reads the topic, for as long.
    fn read(&self, drain: Option<Duration>) -> Result<(), Failure> {
        let connection = connect(&self.directory)?;
        let mut consumer = connection.consumer(STREAMS[TOPIC], SUBSCRIPTION).open()?;
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut read = Vec::new();
        loop {
            let message = consumer.recv_timeout(drain.unwrap_or(LOOK))?;
            let came = message.is_some();
            read.extend(message.map(|message| self.deliver(TOPIC, message.payload())));
            if read.len() >= self.pace.settlements || !came && !read.is_empty() {
                consumer.confirm_commit(PATIENCE)?;
                self.books(TOPIC).note(read.drain(..), SETTLED);
            }
            if self.is_over(drain, came) {
                return Ok(());
            }
        }
    }

    fn is_over(&self, drain: Option<Duration>, came: bool) -> bool {
        drain.map_or_else(|| self.producing.load(Ordering::Relaxed) == 0, |_| !came)
    }
}

/// Messages of a partition that are not known to be confirmed.
type InFlight = VecDeque<(Position, u64)>;

/// What somebody does.
#[derive(Clone, Copy, Debug)]
enum Worker {
    Producer(usize),
    Consumer,
    Reader,
}

/// See the module.
pub(super) struct Load<'a> {
    peer: &'a Path,
    pub(super) broker: KeptBroker,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl<'a> Load<'a> {
    /// A broker with its streams. Nobody works yet.
    pub(super) fn start(peer: &'a Path, pace: &'static Pace, environment: &[(&str, String)]) -> Self {
        let broker = KeptBroker::start_with(peer, environment);
        pace.declare(&broker.connect()).expect("a queue and a topic can be declared");
        let shared = Shared {
            pace,
            directory: broker.path(),
            books: Default::default(),
            next: Default::default(),
            stop: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            ended: AtomicU64::new(0),
            rest: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            confirmed: AtomicUsize::new(0),
            producing: AtomicUsize::new(0),
        };
        Self { peer, broker, shared: Arc::new(shared), workers: Vec::new() }
    }

    /// All begin to work.
    pub(super) fn work(&mut self) {
        let pace = self.shared.pace;
        let producers =
            [QUEUE, TOPIC].into_iter().flat_map(|stream| vec![Worker::Producer(stream); pace.producers]);
        let workers = producers.chain(vec![Worker::Consumer; pace.consumers]).chain([Worker::Reader]);
        self.shared.stop.store(false, Ordering::Relaxed);
        self.shared.open.store(0, Ordering::Relaxed);
        self.shared.producing.store(2 * pace.producers, Ordering::Relaxed);
        self.workers.extend(workers.map(|worker| {
            let shared = Arc::clone(&self.shared);
            std::thread::spawn(move || {
                let outcome = match worker {
                    Worker::Producer(stream) => shared.produce(stream),
                    Worker::Consumer => shared.consume(None),
                    Worker::Reader => shared.read(None),
                };
                if let Worker::Producer(_) = worker {
                    shared.producing.fetch_sub(1, Ordering::Relaxed);
                }
                if let Err(error) = outcome
                    && !shared.lost.load(Ordering::Relaxed)
                {
                    println!("{worker:?} has ended: {error}");
                    shared.ended.fetch_add(1, Ordering::Relaxed);
                }
            })
        }));
    }

    /// Waits until all that began to work have opened what they work with.
    pub(super) fn wait_for_workers(&self) {
        eventually("they are open", || self.shared.open.load(Ordering::Relaxed) >= self.workers.len());
    }

    /// Producers send nothing, or go on.
    pub(super) fn rest(&self, rest: bool) {
        self.shared.rest.store(rest, Ordering::Relaxed);
    }

    /// How many messages of each stream there are, at the least.
    pub(super) fn published(&self) -> u64 {
        let next = self.shared.next.iter().map(|next| next.load(Ordering::Relaxed));
        next.min().unwrap_or_default().saturating_sub(BATCH)
    }

    /// How many messages were sent and are not known to be confirmed.
    pub(super) fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Ordering::Relaxed) as u64
    }

    /// Waits until something more is confirmed: the broker is at work.
    pub(super) fn wait_for_confirms(&self) {
        let confirmed = || self.shared.confirmed.load(Ordering::Relaxed);
        let before = confirmed();
        eventually("something is confirmed", || confirmed() > before);
    }

    /// Nobody works any more.
    pub(super) fn end_workers(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.workers.drain(..).for_each(|worker| drop(worker.join()));
    }

    /// Kills broker and keeper, and closes all connections, so that the rings are gone. Nobody works then.
    pub(super) fn lose_everything(mut self) -> Self {
        self.shared.lost.store(true, Ordering::Relaxed);
        self.broker.lose_everything();
        self.end_workers();
        self.shared.lost.store(false, Ordering::Relaxed);
        Self { broker: self.broker.start_again(self.peer), ..self }
    }

    /// Consumes what there is, until nothing has come for so long.
    pub(super) fn drain(&self, quiet: Duration) {
        self.shared.consume(Some(quiet)).expect("the queue can be drained");
        self.shared.read(Some(quiet)).expect("the topic can be drained");
    }

    /// Drains everything, and compares the books.
    pub(super) fn end(mut self) -> Report {
        self.end_workers();
        self.drain(DRAINED);
        let mut report = Report { ended: self.shared.ended.load(Ordering::Relaxed), ..Report::default() };
        for books in [QUEUE, TOPIC].map(|stream| self.shared.books(stream)) {
            report.confirmed += books.count(|known| known & CONFIRMED != 0);
            report.settled += books.count(|known| known & SETTLED != 0);
            report.missing += books.count(|known| known & (CONFIRMED | DELIVERED) == CONFIRMED);
            report.back += books.back;
            report.torn += books.torn;
        }
        report
    }
}
