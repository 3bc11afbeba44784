//! What the producers and consumers of a bench do, each in a process of its own.
//!
//! ```text
//! bench:  task (JSON) ──────────▶          go START ──────────▶                      end MESSAGES ──▶ (consumers)
//! role:               ◀── ready                       at work    ◀── record (JSON)
//! ```
//!
//! 1. Times are nanoseconds of CLOCK_MONOTONIC, which all processes share.
//! 2. A consumer's latency is counted from when the message was due, never from when it was sent.
//! 3. Whatever fails, a role says so in its record: what it measured before is no result.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringway_client::{Connection, Producer, RecvError, SendError};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::plan::{Amount, Case, Plan};
use super::schedule::{Schedule, share};
use super::stamp::Stamp;
use crate::cli::{BenchRoleArgs, BenchWait};
use crate::exit::Failure;
use crate::output::{print, print_json};
use crate::serve::end_with_parent;

/// What a role prints when it is about to begin.
pub(crate) const READY: &str = "ready";
/// What it is told to begin, before the time at which it does, and a consumer to end, before the number of all messages.
pub(crate) const GO: &str = "go ";
pub(crate) const END: &str = "end ";
/// Who waits for so long for room, or for messages that are missing, gives up.
const STALLED: Duration = Duration::from_secs(10);
/// How long a consumer waits before it looks whether the bench is at its end.
const LOOK: Duration = Duration::from_millis(50);
/// A producer that may sleep wakes so long before a message is due: the kernel wakes late.
const AWAKE_BEFORE_NS: u64 = 200_000;
/// Looks at the clock between two times that a spinning producer gives the processor away.
const LOOKS_PER_YIELD: u32 = 32;
/// Messages between two looks at the clock, where no message needs one.
const PER_LOOK: u64 = 64;
const NOT_ENDED: u64 = u64::MAX;
/// Latencies are kept to three digits, up to an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// What a role is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) plan: Plan,
    pub(crate) part: Part,
    /// Which of its kind it is.
    pub(crate) index: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    Producer,
    Consumer,
}

/// What a producer did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    /// Messages that were due and could not be sent in time.
    pub(crate) unsent: u64,
    pub(crate) failure: Option<String>,
}

/// What a consumer saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) messages: u64,
    /// Those that count, and when the first and the last of them came.
    pub(crate) measured: u64,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    /// How often it slept.
    pub(crate) sleeps: u64,
    /// Latencies, and how many messages had them.
    pub(crate) latencies: Vec<(u64, u64)>,
    pub(crate) failure: Option<String>,
}

/// An empty histogram of latencies.
pub(crate) fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
        .map_err(|error| Failure::new(format!("cannot make a histogram: {error}")))
}

/// Runs a role.
pub(crate) fn run(
    args: &BenchRoleArgs,
    connect: impl FnOnce() -> Result<Connection, Failure>,
) -> Result<(), Failure> {
    end_with_parent(args.parent, Signal::KILL)?;
    let task: Task =
        serde_json::from_str(&told()?).map_err(|error| Failure::new(format!("no task: {error}")))?;
    let connection = connect()?;
    match task.part {
        Part::Producer => produce(&task, &connection),
        Part::Consumer => consume(&task, &connection),
    }
}

fn told() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::new(format!("cannot read what to do: {error}")))?;
    Ok(line.trim_end().to_owned())
}

fn number(line: &str, word: &str) -> Result<u64, Failure> {
    let number = line.strip_prefix(word).and_then(|number| number.parse().ok());
    number.ok_or_else(|| Failure::new(format!("{line:?} is not what was expected: {word}NUMBER")))
}

fn ready_and_go() -> Result<u64, Failure> {
    print(&format!("{READY}\n"))?;
    number(&told()?, GO)
}

pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sleeps while there is time for it, then spins, and gives the processor away now and then, as the client's own spinners do.
fn wait_until(due_ns: u64, may_sleep: bool) {
    for look in 1_u32.. {
        let left_ns = due_ns.saturating_sub(now_ns());
        if left_ns == 0 {
            return;
        }
        if may_sleep && left_ns > AWAKE_BEFORE_NS {
            std::thread::sleep(Duration::from_nanos(left_ns - AWAKE_BEFORE_NS));
        } else if look.is_multiple_of(LOOKS_PER_YIELD) {
            rustix::thread::sched_yield();
        } else {
            std::hint::spin_loop();
        }
    }
}

fn produce(task: &Task, connection: &Connection) -> Result<(), Failure> {
    let plan = &task.plan;
    let mut producer = connection.producer(&plan.stream).wait(plan.wait.into()).open()?;
    let start_ns = ready_and_go()?;
    let mut sent = Sent::default();
    let result = match plan.rate {
        Some(rate) => {
            let schedule = Schedule::new(plan, rate, task.index, start_ns);
            send_by(&schedule, &mut producer, task, &mut sent)
        }
        None => send_fast(&mut producer, task, start_ns, &mut sent),
    };
    sent.failure = result.err().map(|error| error.to_string());
    producer.close()?;
    print_json(&sent)
}

fn send_by(
    schedule: &Schedule,
    producer: &mut Producer,
    task: &Task,
    sent: &mut Sent,
) -> Result<(), SendError> {
    let mut payload = vec![0; task.plan.payload_bytes];
    let may_sleep = task.plan.wait != BenchWait::Spin;
    for number in 0..schedule.messages {
        let due_ns = schedule.due_ns(number);
        wait_until(due_ns, may_sleep);
        if schedule.end_ns.is_some_and(|end| now_ns() > end) {
            sent.unsent = schedule.messages - number;
            break;
        }
        Stamp { due_ns, producer: task.index as u16, number }.write(&mut payload);
        producer.send_timeout(&payload, STALLED)?;
        sent.messages += 1;
    }
    Ok(())
}

fn send_fast(producer: &mut Producer, task: &Task, start_ns: u64, sent: &mut Sent) -> Result<(), SendError> {
    let plan = &task.plan;
    let mut payload = vec![0; plan.payload_bytes];
    let (time_ns, of_count) = match plan.amount {
        Amount::TimeNs(time) => (time, u64::MAX),
        Amount::Messages(messages) => (u64::MAX, share(messages, task.index, plan.producers)),
    };
    let measured_from_ns = start_ns + plan.warm_up_ns;
    let end_ns = measured_from_ns.saturating_add(time_ns);
    wait_until(start_ns, true);
    let (mut counts, mut counted) = (plan.warm_up_ns == 0, 0);
    while counted < of_count {
        if sent.messages.is_multiple_of(PER_LOOK) {
            let now = now_ns();
            counts = now >= measured_from_ns;
            if now >= end_ns {
                break;
            }
        }
        let stamp = Stamp { due_ns: counts.into(), producer: task.index as u16, number: sent.messages };
        stamp.write(&mut payload);
        producer.send_timeout(&payload, STALLED)?;
        sent.messages += 1;
        counted += u64::from(counts);
    }
    Ok(())
}

fn consume(task: &Task, connection: &Connection) -> Result<(), Failure> {
    let plan = &task.plan;
    let subscription = plan.subscription(task.index);
    let mut books = Books::new(plan)?;
    let slept_before;
    let consumed = if plan.case == Case::Queue {
        let mut consumer = connection.queue_consumer(&plan.stream).wait(plan.wait.into()).open()?;
        let end = begin(&mut books)?;
        slept_before = sleeps();
        let consumed = follow(&mut books, &end, |books, patience| {
            let Some(delivery) = (match patience {
                None => consumer.try_recv()?,
                Some(time) => consumer.recv_timeout(time)?,
            }) else {
                return Ok(false);
            };
            books.take(delivery.payload());
            if let Err(error) = delivery.ack() {
                books.fail(|| format!("an ack failed: {error}"));
            }
            Ok(true)
        });
        consumer.close()?;
        consumed
    } else {
        let mut consumer = connection.consumer(&plan.stream, &subscription).wait(plan.wait.into()).open()?;
        let end = begin(&mut books)?;
        slept_before = sleeps();
        let consumed = follow(&mut books, &end, |books, patience| {
            let Some(message) = (match patience {
                None => consumer.try_recv()?,
                Some(time) => consumer.recv_timeout(time)?,
            }) else {
                return Ok(false);
            };
            books.take(message.payload());
            Ok(true)
        });
        consumer.close()?;
        consumed
    };
    if let Err(error) = consumed {
        books.fail(|| error.to_string());
    }
    books.received.sleeps = sleeps() - slept_before;
    print_json(&books.close())
}

/// Hears when the bench begins, and in a thread of its own how many messages there were in all.
fn begin(books: &mut Books) -> Result<Arc<AtomicU64>, Failure> {
    books.measured_from_ns += ready_and_go()?;
    let end = Arc::new(AtomicU64::new(NOT_ENDED));
    let told_end = Arc::clone(&end);
    std::thread::spawn(move || {
        if let Ok(messages) = told().and_then(|line| number(&line, END)) {
            told_end.store(messages, Ordering::Relaxed);
        }
    });
    Ok(end)
}

/// Takes messages until the bench is at its end and there are none left. `receive` looks, or waits for a while, for one.
fn follow(
    books: &mut Books,
    end: &AtomicU64,
    mut receive: impl FnMut(&mut Books, Option<Duration>) -> Result<bool, RecvError>,
) -> Result<(), RecvError> {
    let mut last_look = Instant::now();
    loop {
        while receive(books, None)? {}
        books.pause();
        let all = end.load(Ordering::Relaxed);
        if books.received.messages >= all {
            return Ok(());
        }
        if receive(books, Some(LOOK))? || all == NOT_ENDED {
            last_look = Instant::now();
        } else if last_look.elapsed() > STALLED {
            let came = books.received.messages;
            books.fail(|| format!("{came} of {all} messages came, and no more within {STALLED:?}"));
            return Ok(());
        }
    }
}

/// How often this thread has slept so far.
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// What a consumer writes down.
struct Books {
    received: Received,
    latencies: Histogram<u64>,
    /// What is due from then on counts; without a rate, what its producer has marked.
    measured_from_ns: u64,
    is_paced: bool,
    /// The next number of each producer, where messages come in order.
    next: Option<Vec<u64>>,
}

impl Books {
    fn new(plan: &Plan) -> Result<Self, Failure> {
        Ok(Self {
            received: Received::default(),
            latencies: histogram()?,
            measured_from_ns: plan.warm_up_ns,
            is_paced: plan.rate.is_some(),
            next: (plan.case != Case::Queue).then(|| vec![0; plan.producers as usize]),
        })
    }

    /// Writes down a message that has just come.
    fn take(&mut self, payload: &[u8]) {
        let now_ns = if self.is_paced { now_ns() } else { 0 };
        self.received.messages += 1;
        let Some(stamp) = Stamp::read(payload) else {
            return self.fail(|| "a message came that is none of the bench's".to_owned());
        };
        if let Some(next) = &mut self.next {
            let next = next.get_mut(usize::from(stamp.producer));
            match next {
                Some(next) if *next == stamp.number => *next += 1,
                _ => {
                    let expected = next.copied();
                    return self.fail(|| format!("{stamp:?} came, and number {expected:?} was next"));
                }
            }
        }
        if self.is_paced {
            if stamp.due_ns >= self.measured_from_ns {
                self.latencies.saturating_record(now_ns.saturating_sub(stamp.due_ns));
                self.count(now_ns);
            }
        } else if stamp.due_ns == 1 {
            let is_first = self.received.measured == 0;
            self.received.measured += 1;
            if is_first {
                self.received.first_ns = self::now_ns();
            }
        }
    }

    fn count(&mut self, now_ns: u64) {
        if self.received.measured == 0 {
            self.received.first_ns = now_ns;
        }
        self.received.measured += 1;
        self.received.last_ns = now_ns;
    }

    /// There is nothing more at the moment.
    fn pause(&mut self) {
        if !self.is_paced && self.received.measured > 0 {
            self.received.last_ns = now_ns();
        }
    }

    /// Keeps the first reason why this is no result.
    fn fail(&mut self, reason: impl FnOnce() -> String) {
        self.received.failure.get_or_insert_with(reason);
    }

    fn close(self) -> Received {
        let step = |step: hdrhistogram::iterators::IterationValue<u64>| {
            (step.value_iterated_to(), step.count_since_last_iteration())
        };
        Received { latencies: self.latencies.iter_recorded().map(step).collect(), ..self.received }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    fn message(due_ns: u64, number: u64) -> [u8; 16] {
        let mut payload = [0; 16];
        Stamp { due_ns, producer: 0, number }.write(&mut payload);
        payload
    }

    #[test]
    fn latency_is_counted_from_when_a_message_was_due_and_only_after_the_warm_up() {
        let mut books = Books::new(&plan(Case::Latency)).unwrap();
        books.measured_from_ns = now_ns() - 60_000_000_000;
        books.take(&message(books.measured_from_ns - 1, 0));
        books.take(&message(now_ns() - 30_000_000_000, 1));
        let received = books.close();
        assert_eq!((received.messages, received.measured, received.failure), (2, 1, None));
        let [(latency, 1)] = received.latencies[..] else { panic!("{:?}", received.latencies) };
        assert!((30_000_000_000..31_000_000_000).contains(&latency), "{latency}");
    }

    #[test]
    fn what_is_lost_or_turned_around_or_foreign_is_no_result() {
        for (numbers, wrong) in [([0, 2], true), ([1, 0], true), ([0, 0], true), ([0, 1], false)] {
            let mut books = Books::new(&plan(Case::Latency)).unwrap();
            numbers.into_iter().for_each(|number| books.take(&message(5, number)));
            assert_eq!(books.close().failure.is_some(), wrong, "{numbers:?}");
            let mut queue = Books::new(&plan(Case::Queue)).unwrap();
            numbers.into_iter().for_each(|number| queue.take(&message(5, number)));
            assert_eq!(queue.close().failure, None, "competing consumers get a part");
        }
        let mut books = Books::new(&plan(Case::Latency)).unwrap();
        books.take(b"short");
        assert!(books.close().failure.unwrap().contains("none of the bench's"));
    }

    #[test]
    fn without_a_rate_what_is_marked_counts() {
        let mut books = Books::new(&Plan { rate: None, ..plan(Case::Throughput) }).unwrap();
        books.take(&message(0, 0));
        books.pause();
        assert_eq!(books.received.last_ns, 0);
        books.take(&message(1, 1));
        books.take(&message(1, 2));
        books.pause();
        let received = books.close();
        assert_eq!((received.messages, received.measured, received.latencies.len()), (3, 2, 0));
        assert!(0 < received.first_ns && received.first_ns <= received.last_ns);
    }
}
