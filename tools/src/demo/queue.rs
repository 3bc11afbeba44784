//! The step that sends the lines of the input through a queue with two competing consumers, kills one of them in the middle, and
//! the broker after it.
//!
//! Each consumer says what it took before it acks it, and what it acked afterwards. So for every line it is known who had it; only
//! of the one line that the killed consumer had in its hands nobody can say whether it was acked, unless it comes again. It may even
//! have died before it could say that it had taken it: then the first that is heard of the line is its second attempt.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_client::{AdminError, Connection, SharedSettings, StreamSettings};
use rustix::process::{Pid, Signal, kill_process};

use super::Scene;
use super::report::{Proof, Queue};
use super::roles::{Done, READY};
use crate::exit::Failure;
use crate::output::{count, thousands};
use crate::processes::{Input, Process};

const STREAM: &str = "demo-jobs";
/// At least so many messages.
const MESSAGES_MIN: u64 = 2_000;
/// How long the consumers take for each.
const WORK: Duration = Duration::from_micros(100);
/// How long a consumer may take to open the queue, and the longest time without a line from any.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who had the line, at which attempt, that the killed consumer had in its hands: whether it could say so or not.
const SAID: [(u32, usize); 2] = [(1, 0), (2, 1)];
const UNSAID: [(u32, usize); 1] = [(2, 1)];
/// How long the reader of one consumer's lines waits before it looks at the other's.
const LOOK: Duration = Duration::from_millis(1);

/// Runs the step.
pub(crate) fn run(scene: &mut Scene<'_>) -> Result<Queue, Failure> {
    let connection = crate::connect_to(scene.broker.directory())?;
    let rounds = MESSAGES_MIN.div_ceil(scene.input.lines);
    let messages = rounds * scene.input.lines;
    let settings = StreamSettings {
        slots: messages.next_power_of_two(),
        slot_bytes: scene.input.slot_bytes(),
        ..StreamSettings::default()
    };
    connection.declare_queue(STREAM, settings, SharedSettings::default())?;
    let bytes = Arc::new(scene.input.bytes.clone());
    let mut consumers = [start(scene, "first", &bytes)?, start(scene, "second", &bytes)?];
    let mut producer = connection.producer(STREAM).open()?;
    for _ in 0..rounds {
        for line in super::input::split(&scene.input.bytes) {
            producer.send(line)?;
        }
    }
    producer.close()?;

    let mut books = Books::default();
    books.follow(&mut consumers, |books| books.acked() >= messages / 3)?;
    consumers[0].kill();
    books.rest(&consumers[0], 0);
    let [_, second] = &mut consumers;
    books.follow(std::slice::from_mut(second), |books| books.acked() >= messages * 2 / 3)?;
    let (killed, left) = (connection.broker_pid(), messages - books.acked());
    if let Some(pid) = i32::try_from(killed).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::KILL)
            .map_err(|error| Failure::new(format!("cannot kill the broker, process {killed}: {error}")))?;
    }
    let began = Instant::now();
    connection.stream(STREAM)?;
    let answered = began.elapsed();
    let successor = connection.broker_pid();
    books.follow(std::slice::from_mut(second), |books| {
        books.acked() >= messages || books.settled(messages) && matches!(open(&connection), Ok(0))
    })?;

    let queue = Queue {
        stream: STREAM.to_owned(),
        messages,
        acked: [books.acked_by(0), books.acked_by(1)],
        again: books.again(),
        killed_broker: killed,
        successor,
        answered_ns: answered.as_nanos() as u64,
    };
    scene.proofs.push(settled(&queue, &books, open(&connection)?));
    scene.proofs.push(came_again(&books));
    let time = scene.style.time(queue.answered_ns);
    scene.proofs.push(if successor == killed {
        Proof::failed(format!("the broker, process {killed}, was killed and answers all the same"))
    } else {
        Proof::held(format!(
            "the broker, process {killed}, was killed with {} not acked; process {successor} went on and answered after {time}",
            count(left, "line")
        ))
    });
    Ok(queue)
}

/// Lines that the broker counts as not settled.
fn open(connection: &Connection) -> Result<u64, AdminError> {
    Ok(connection.subscription(STREAM, STREAM)?.shared().unsettled())
}

fn start(scene: &Scene<'_>, which: &str, bytes: &Arc<Vec<u8>>) -> Result<Process, Failure> {
    let arguments: [OsString; 6] = [
        "demo-worker".into(),
        format!("--parent={}", std::process::id()).into(),
        format!("--stream={STREAM}").into(),
        format!("--work={}ns", WORK.as_nanos()).into(),
        "--dir".into(),
        scene.broker.directory().into(),
    ];
    let name = format!("{which} consumer of {STREAM}");
    let mut process = Process::start(&name, &arguments, Input::Bytes(Arc::clone(bytes)), scene.interrupt)?;
    let line = process.line(Some(PATIENCE))?;
    if line == READY { Ok(process) } else { Err(Failure::new(format!("the {name} said: {line}"))) }
}

/// What the consumers have said.
#[derive(Debug, Default)]
struct Books {
    /// Who took which line, in order of the attempts: the number of the attempt, and the consumer's.
    taken: BTreeMap<u64, Vec<(u32, usize)>>,
    /// Who acked it.
    acked: BTreeMap<u64, Vec<usize>>,
    /// What came with other bytes, or makes no sense.
    wrong: Vec<String>,
    /// The last line that the killed consumer took.
    in_hand: Option<u64>,
}

impl Books {
    fn hear(&mut self, consumer: usize, line: &str) {
        match serde_json::from_str(line) {
            Ok(Done::Took { position, attempt, equal }) => {
                self.taken.entry(position).or_default().push((attempt, consumer));
                if !equal {
                    self.wrong.push(format!("line {position} came with other bytes"));
                }
                if consumer == 0 {
                    self.in_hand = Some(position);
                }
            }
            Ok(Done::Acked { position }) => self.acked.entry(position).or_default().push(consumer),
            Err(_) => self.wrong.push(format!("a consumer said: {line}")),
        }
    }

    /// Takes the consumers' lines until `enough`. The last of them is the second, if there is one.
    fn follow(&mut self, consumers: &mut [Process], enough: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let mut last = Instant::now();
        let first = 2 - consumers.len();
        while !enough(self) {
            for (index, consumer) in consumers.iter_mut().enumerate() {
                while let Some(line) = consumer.line_within(LOOK)? {
                    self.hear(first + index, &line);
                    last = Instant::now();
                    if enough(self) {
                        return Ok(());
                    }
                }
            }
            if last.elapsed() > PATIENCE {
                let text = format!("after {PATIENCE:?} only {} lines are acked", thousands(self.acked()));
                return Err(Failure::new(text));
            }
        }
        Ok(())
    }

    /// What a consumer said before it ended.
    fn rest(&mut self, consumer: &Process, index: usize) {
        consumer.rest().for_each(|line| self.hear(index, &line));
    }

    fn acked(&self) -> u64 {
        self.acked.len() as u64
    }

    fn acked_by(&self, consumer: usize) -> u64 {
        self.acked.values().filter(|by| by.contains(&consumer)).count() as u64
    }

    /// Lines that were delivered more than once.
    fn again(&self) -> u64 {
        self.repeated().count() as u64
    }

    /// Those lines, with their attempts.
    fn repeated(&self) -> impl Iterator<Item = (&u64, &Vec<(u32, usize)>)> {
        self.taken.iter().filter(|(_, taken)| taken.iter().any(|(attempt, _)| *attempt > 1))
    }

    /// All are acked, but for one that the killed consumer may have acked without being able to say so.
    fn settled(&self, messages: u64) -> bool {
        let silent = self
            .in_hand
            .is_some_and(|position| !self.acked.contains_key(&position) && self.taken[&position].len() == 1);
        self.acked() + u64::from(silent) >= messages
    }
}

fn settled(queue: &Queue, books: &Books, open: u64) -> Proof {
    let messages = thousands(queue.messages);
    let mut wrong = books.wrong.clone();
    if open > 0 {
        wrong.push(format!("the broker counts {} as not settled", count(open, "line")));
    }
    for (position, by) in &books.acked {
        let attempts = &books.taken[position];
        if by.len() > 1 {
            wrong.push(format!("line {position} was acked {} times", by.len()));
        } else if attempts.last().is_some_and(|(_, last)| !by.contains(last)) {
            wrong.push(format!("line {position} was acked, and came again"));
        }
        let numbers = attempts.iter().map(|(attempt, _)| *attempt);
        if attempts[..] != UNSAID && !numbers.eq(1..=attempts.len() as u32) {
            wrong.push(format!("the attempts at line {position} have wrong numbers"));
        }
    }
    if let Some(first) = wrong.first() {
        let more = if wrong.len() > 1 { format!(", and {} more", wrong.len() - 1) } else { String::new() };
        return Proof::failed(format!(
            "of {messages} lines of the queue not all went as promised: {first}{more}"
        ));
    }
    let [first, second] = queue.acked.map(thousands);
    Proof::held(format!(
        "all {messages} lines of the queue were settled, none twice: {first} by the consumer that was killed, {second} by the other"
    ))
}

fn came_again(books: &Books) -> Proof {
    let again: Vec<_> = books.repeated().collect();
    match (books.in_hand, &again[..]) {
        (_, [(position, taken)]) if taken[..] == SAID || taken[..] == UNSAID => Proof::held(format!(
            "the one line that the killed consumer had, number {position}, came to the other as attempt 2"
        )),
        (Some(position), []) if books.acked.get(&position).is_none_or(|by| by[..] == [0]) => {
            Proof::held("the killed consumer had acked all that it took, and nothing came twice")
        }
        (_, again) => {
            Proof::failed(format!("{} came again: one at the most was to", count(again.len() as u64, "line")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(lines: &[(usize, Done)]) -> Books {
        let mut books = Books::default();
        for (consumer, done) in lines {
            books.hear(*consumer, &serde_json::to_string(done).unwrap());
        }
        books
    }

    fn took(position: u64, attempt: u32) -> Done {
        Done::Took { position, attempt, equal: true }
    }

    fn acked(position: u64) -> Done {
        Done::Acked { position }
    }

    fn proofs(books: &Books, open: u64) -> [Proof; 2] {
        let queue = Queue { messages: 2, ..Queue::default() };
        [settled(&queue, books, open), came_again(books)]
    }

    #[test]
    fn the_line_in_the_hands_of_the_killed_comes_again_or_was_acked() {
        let again = books(&[(0, took(0, 1)), (1, took(1, 1)), (1, acked(1)), (1, took(0, 2)), (1, acked(0))]);
        assert!(again.settled(2) && proofs(&again, 0).iter().all(|proof| proof.held));
        let silent = books(&[(0, took(0, 1)), (1, took(1, 1)), (1, acked(1))]);
        assert!(silent.settled(2) && proofs(&silent, 0).iter().all(|proof| proof.held));
        let unsaid = books(&[(0, took(0, 1)), (0, acked(0)), (1, took(1, 2)), (1, acked(1))]);
        assert!(unsaid.settled(2) && proofs(&unsaid, 0).iter().all(|proof| proof.held));
        assert_eq!(unsaid.again(), 1);
        let early = books(&[(0, took(0, 1)), (1, took(1, 1))]);
        assert!(!early.settled(2));
    }

    #[test]
    fn whatever_goes_otherwise_than_promised_is_said() {
        let twice = books(&[(0, took(0, 1)), (0, acked(0)), (1, took(0, 2)), (1, acked(0))]);
        assert!(proofs(&twice, 0)[0].text.contains("was acked 2 times"));
        let late = books(&[(0, took(0, 1)), (0, acked(0)), (1, took(0, 2))]);
        assert!(proofs(&late, 0)[0].text.contains("came again"));
        let numbers = books(&[(0, took(0, 1)), (1, took(0, 1)), (1, acked(0))]);
        assert!(proofs(&numbers, 0)[0].text.contains("wrong numbers"));
        let skipped = books(&[(0, took(0, 1)), (1, took(0, 3)), (1, acked(0))]);
        assert!(proofs(&skipped, 0)[0].text.contains("wrong numbers"));
        let two = books(&[(1, took(0, 2)), (1, acked(0)), (1, took(1, 2)), (1, acked(1))]);
        assert!(!proofs(&two, 0)[1].held);
        let torn = books(&[(0, Done::Took { position: 3, attempt: 1, equal: false })]);
        assert!(proofs(&torn, 0)[0].text.contains("other bytes"));
        assert!(proofs(&books(&[]), 2)[0].text.contains("2 lines as not settled"));
        let many = books(&[(0, took(0, 1)), (0, took(1, 1)), (1, took(0, 2)), (1, took(1, 2))]);
        assert!(!proofs(&many, 0)[1].held);
    }
}
