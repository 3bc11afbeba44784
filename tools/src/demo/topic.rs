//! The step that sends the lines of the input through a topic with two subscriptions.
//!
//! The producer is paced, so that what is measured is how long a message takes, not how long a queue is. It notes
//! when it is about to send each message, the consumers when they have received it; here the two are joined.

use std::ffi::OsString;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use ringway_client::{AdminError, Producers, StartAt, StreamSettings};

use super::Scene;
use super::report::{Latency, Proof, Subscriber, Topic};
use super::roles::{READY, Record};
use crate::cli::Wait;
use crate::exit::Failure;
use crate::output::{count, thousands};
use crate::plot::{self, Style};
use crate::processes::{Input, Process};

const STREAM: &str = "demo";
const SUBSCRIPTIONS: [&str; 2] = ["billing", "audit"];
/// Messages of a ring; a longer input goes around it.
const SLOTS: u64 = 16_384;
/// Time between two messages where every process has a core for itself, and where they have to share.
const PACE_APART: Duration = Duration::from_micros(20);
const PACE_SHARED: Duration = Duration::from_micros(100);
/// Broker, producer, two consumers.
const PROCESSES: usize = 4;
/// How long a role may take to open its stream.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Latencies from 1 ns to a minute are told apart, to three digits.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
const LATENCY_DIGITS: u8 = 3;

/// How the step will be run on this machine.
pub(crate) fn plan(scene: &Scene<'_>) -> Topic {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (pace, wait) = if cores >= PROCESSES { (PACE_APART, Wait::Spin) } else { (PACE_SHARED, Wait::Sleep) };
    Topic {
        stream: STREAM.to_owned(),
        slots: SLOTS,
        slot_bytes: scene.input.slot_bytes(),
        pace_ns: pace.as_nanos() as u64,
        wait,
        cores,
        messages: scene.input.messages(),
        rounds: scene.input.rounds(),
    }
}

/// Runs the step.
pub(crate) fn run(scene: &mut Scene<'_>, topic: &Topic) -> Result<Vec<Subscriber>, Failure> {
    let connection = crate::connect_to(scene.broker.directory())?;
    let settings = StreamSettings {
        slots: topic.slots,
        slot_bytes: topic.slot_bytes,
        producers: Producers::Exclusive,
        ..StreamSettings::default()
    };
    connection.declare_stream(STREAM, settings)?;
    for subscription in SUBSCRIPTIONS {
        connection.declare_subscription(STREAM, subscription, StartAt::First)?;
    }

    let roles = Roles { scene, topic, bytes: Arc::new(scene.input.bytes.clone()) };
    let mut consumers = Vec::new();
    for subscription in SUBSCRIPTIONS {
        let arguments = [format!("--subscription={subscription}")];
        consumers.push(roles.start("demo-consumer", &format!("consumer of {subscription}"), &arguments)?);
    }
    let mut producer = roles.start("demo-producer", "producer", &[format!("--pace={}ns", topic.pace_ns)])?;

    let sent = record(&mut producer)?;
    let mut subscribers = Vec::new();
    for (mut consumer, name) in consumers.into_iter().zip(SUBSCRIPTIONS) {
        let received = record(&mut consumer)?;
        scene.proofs.push(arrived(name, topic, &received));
        let latencies = join(&sent, &received)?;
        let bars = plot::bars(&latencies);
        subscribers.push(Subscriber { name: name.to_owned(), latency: Latency::of(&latencies), bars });
        scene.proofs.push(committed(name, connection.subscription(STREAM, name).map(|found| found.lag())));
    }
    scene.proofs.insert(0, all_sent(topic, &sent, scene.style));
    Ok(subscribers)
}

/// Starts the processes of this step.
struct Roles<'a> {
    scene: &'a Scene<'a>,
    topic: &'a Topic,
    bytes: Arc<Vec<u8>>,
}

impl Roles<'_> {
    /// Starts one and waits until it is ready.
    fn start(&self, role: &str, name: &str, own: &[String]) -> Result<Process, Failure> {
        let mut arguments: Vec<OsString> = vec![
            role.into(),
            format!("--parent={}", std::process::id()).into(),
            format!("--stream={STREAM}").into(),
            format!("--rounds={}", self.topic.rounds).into(),
            format!("--wait={}", self.topic.wait.argument()).into(),
            "--dir".into(),
            self.scene.broker.directory().into(),
        ];
        arguments.extend(own.iter().map(OsString::from));
        let mut process =
            Process::start(name, &arguments, Input::Bytes(Arc::clone(&self.bytes)), self.scene.interrupt)?;
        let line = process.line(Some(READY_WITHIN))?;
        if line == READY { Ok(process) } else { Err(Failure::new(format!("the {name} said: {line}"))) }
    }
}

/// Waits for what a role has to say at its end. One that died says what it saw by saying nothing.
fn record(process: &mut Process) -> Result<Record, Failure> {
    match process.line(None) {
        Ok(line) => serde_json::from_str(&line)
            .map_err(|error| Failure::new(format!("the {} made no sense: {error}", process.name()))),
        Err(Failure::Failed { message, .. }) => Ok(Record { failure: Some(message), ..Record::default() }),
        Err(other) => Err(other),
    }
}

fn all_sent(topic: &Topic, sent: &Record, style: Style) -> Proof {
    let messages = thousands(topic.messages);
    match &sent.failure {
        None => {
            let (first_ns, last_ns) = (sent.times_ns.first(), sent.times_ns.last());
            let took_ns = last_ns.unwrap_or(&0) - first_ns.unwrap_or(&0);
            let each_ns = took_ns / sent.count().saturating_sub(1).max(1);
            let (took, each) = (style.time(took_ns), style.time(each_ns));
            Proof::held(format!("one producer sent {messages} lines in {took}, one each {each}"))
        }
        Some(failure) => Proof::failed(format!(
            "the producer sent {} of {messages} lines: {failure}",
            thousands(sent.count())
        )),
    }
}

fn arrived(subscription: &str, topic: &Topic, received: &Record) -> Proof {
    let messages = thousands(topic.messages);
    match &received.failure {
        None => Proof::held(format!(
            "every one of {messages} lines arrived at {subscription}: in order, once, equal byte for byte"
        )),
        Some(failure) => Proof::failed(format!(
            "{} of {messages} lines arrived at {subscription}: {failure}",
            thousands(received.count())
        )),
    }
}

fn committed(subscription: &str, lag: Result<u64, AdminError>) -> Proof {
    match lag {
        Ok(0) => Proof::held(format!("the broker counts everything as consumed by {subscription}")),
        Ok(lag) => {
            let lines = count(lag, "line");
            Proof::failed(format!("the broker counts {lines} as not consumed by {subscription}"))
        }
        Err(error) => Proof::failed(format!("nobody can say what {subscription} has consumed: {error}")),
    }
}

/// From when a message was about to be sent to when it had been received, by position.
fn join(sent: &Record, received: &Record) -> Result<Histogram<u64>, Failure> {
    let mut latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)
        .map_err(|error| Failure::new(format!("cannot make a histogram: {error}")))?;
    for (position, received_ns) in (received.first_position..).zip(&received.times_ns) {
        let index = position.checked_sub(sent.first_position).and_then(|index| usize::try_from(index).ok());
        if let Some(sent_ns) = index.and_then(|index| sent.times_ns.get(index)) {
            latencies.saturating_record(received_ns.saturating_sub(*sent_ns));
        }
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_joined_by_position() {
        let record = |first_position, times_ns: &[u64]| Record {
            first_position,
            times_ns: times_ns.to_vec(),
            failure: None,
        };
        let joined = join(&record(10, &[100, 200, 300]), &record(11, &[250, 410, 999])).unwrap();
        assert_eq!((joined.len(), joined.min(), joined.max()), (2, 50, 110));
    }

    #[test]
    fn what_is_missing_is_said_with_figures() {
        let topic = Topic { messages: 10_080, ..Topic::default() };
        let failure = Some("line 3 in round 9 did not come within 10s".to_owned());
        let received = Record { times_ns: vec![1; 1_234], failure, ..Record::default() };
        let proof = arrived("audit", &topic, &received);
        assert!(!proof.held);
        assert_eq!(
            proof.text,
            "1,234 of 10,080 lines arrived at audit: line 3 in round 9 did not come within 10s"
        );
        assert!(!committed("audit", Ok(2)).held && committed("audit", Ok(0)).held);
        assert!(!committed("audit", Err(AdminError::Disconnected)).held);
    }
}
