//! `ringway stream move` and `ringway stream redrive`: messages of one stream to another, as any consumer and producer could.
//!
//! 1. A message is acked where it was only when it is confirmed where it goes. So it is there, or here, or in both, and never in
//!    neither, whoever is killed when: at least once.
//! 2. At most as many messages are looked at as were ready at the beginning. What does not match is kept, its lease extended, so that
//!    it does not come again; when that is too much it is given back, and known by its position when it comes. At the end
//!    everything is given back untouched that was taken and not moved.
//! 3. No stream is made: a target that is not there ends the command, and what was moved before stays moved.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use ringway_client::{
    AttributeMap, Attributes, ConfirmError, Connection, DeathReason, Delivery, Leased, Outgoing, Position,
    Producer, SettleError, SharedConsumer, StreamKind, SubscriptionMode, Value,
};
use serde_json::json;

use crate::cli::{MoveArgs, MovingLimits, RedriveArgs};
use crate::exit::{Exit, Failure};
use crate::interrupt::{Interrupt, LOOK_EVERY};
use crate::output::{self, count};
use crate::pace::Pace;

/// Most messages between two confirms.
const BATCH_MESSAGES_MAX: usize = 128;
/// Most messages that do not match and are kept at a time.
const KEPT_MAX: usize = 16_384;
/// Others have taken what was ready when nothing has come for so long.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// What begins the names of attributes that say how a message has died.
const OF_DEATH: &str = "dead.";

/// Moves the messages of a queue.
pub(crate) fn run(args: &MoveArgs, connection: &Connection) -> Result<(), Failure> {
    let to = args.to.as_str();
    if args.stream == args.to {
        let message = format!("stream {to} cannot be moved to itself: name another stream");
        return Err(Failure::with(Exit::Usage, message));
    }
    // Before anything is taken.
    connection.stream(to)?;
    let route = |_: &Leased| Some(to.to_owned());
    Moving::open(connection, args.stream.as_str(), &args.limits, &route, "")?.run("moved")
}

/// Moves dead letters back.
pub(crate) fn redrive(args: &RedriveArgs, connection: &Connection) -> Result<(), Failure> {
    let reason = args.reason.map(|reason| DeathReason::from(reason).name());
    let route = |letter: &Leased| {
        let attributes = letter.attributes();
        let text = |name| match attributes.get(name)? {
            Value::Text(text) => Some(text.into_owned()),
            _ => None,
        };
        let is_of =
            |name, wanted: Option<&str>| wanted.is_none_or(|wanted| text(name).as_deref() == Some(wanted));
        let matches = is_of("dead.reason", reason)
            && is_of("dead.stream", args.from.as_ref().map(|name| name.as_str()));
        text("dead.stream").filter(|stream| matches && stream != args.stream.as_str())
    };
    Moving::open(connection, args.stream.as_str(), &args.limits, &route, OF_DEATH)?.run("redriven")
}

/// Messages under way.
struct Moving<'a> {
    connection: &'a Connection,
    limits: &'a MovingLimits,
    /// Where a message goes; `None`: it does not match.
    route: &'a dyn Fn(&Leased) -> Option<String>,
    /// Attributes whose names begin so are left out, if it is not empty.
    left_out: &'a str,
    consumer: SharedConsumer,
    lease: Duration,
    /// How many were ready at the beginning.
    ready: u64,
    producers: BTreeMap<String, Producer>,
    interrupt: Interrupt,
    pace: Option<Pace>,
    /// Sent, not acked yet, with where to.
    batch: Vec<(Leased, String)>,
    batch_since: Instant,
    moved: BTreeMap<String, u64>,
    /// Where those are that do not match.
    passed_over: HashSet<Position>,
    /// Those of them that have not been given back.
    kept: Vec<Leased>,
    extended_at: Instant,
}

impl<'a> Moving<'a> {
    fn open(
        connection: &'a Connection,
        stream: &str,
        limits: &'a MovingLimits,
        route: &'a dyn Fn(&Leased) -> Option<String>,
        left_out: &'a str,
    ) -> Result<Self, Failure> {
        let subscription = limits.subscription.as_ref().map_or(stream, |name| name.as_str());
        // A stream that is not there is said to be missing, rather than a subscription of its name.
        let kind = connection.stream(stream)?.settings.kind;
        if kind == StreamKind::Topic && limits.subscription.is_none() {
            let message =
                format!("stream {stream} is a topic: name a shared subscription with --subscription NAME");
            return Err(Failure::with(Exit::Usage, message));
        }
        let found = connection.subscription(stream, subscription)?;
        let SubscriptionMode::Shared(settings) = &found.mode else {
            let message = format!(
                "subscription {subscription} of stream {stream} is a cursor, from which no single messages can be taken: name a \
                 shared one by --subscription"
            );
            return Err(Failure::with(Exit::Usage, message));
        };
        let now = Instant::now();
        Ok(Self {
            connection,
            limits,
            route,
            left_out,
            consumer: connection.shared_consumer(stream, subscription).open()?,
            lease: Duration::from_millis(settings.lease_ms.into()),
            ready: found.partitions.iter().filter_map(|part| Some(part.shared.as_ref()?.ready)).sum(),
            producers: BTreeMap::new(),
            interrupt: Interrupt::catch()?,
            pace: limits.rate.map(Pace::new),
            batch: Vec::new(),
            batch_since: now,
            moved: BTreeMap::new(),
            passed_over: HashSet::new(),
            kept: Vec::new(),
            extended_at: now,
        })
    }

    fn run(mut self, done: &str) -> Result<(), Failure> {
        let result = self.move_all();
        // What was sent is confirmed and acked also when something else has failed.
        let flushed = self.flush();
        let said = self.say(done);
        self.kept.extend(self.batch.drain(..).map(|(message, _)| message));
        self.give_back();
        let Self { mut consumer, limits, .. } = self;
        let settled = consumer.confirm_settled(limits.timeout);
        let closed = consumer.close();
        result.and(flushed).and(said)?;
        settled.map_err(confirm_failure)?;
        Ok(closed?)
    }

    fn move_all(&mut self) -> Result<(), Failure> {
        let most = self.limits.count.unwrap_or(u64::MAX);
        let (mut looked, mut sent, mut known) = (0, 0, 0);
        // Others have taken the rest when nothing comes but what is known, as much as can be kept.
        while looked < self.ready && sent < most && known < KEPT_MAX {
            let Some(message) = self.receive()? else { break };
            let is_new = match (self.route)(&message) {
                Some(target) => {
                    self.keep_pace()?;
                    self.send(message, target)?;
                    sent += 1;
                    true
                }
                None => self.pass_over(message),
            };
            (looked, known) = if is_new { (looked + 1, 0) } else { (looked, known + 1) };
            if self.batch.len() >= BATCH_MESSAGES_MAX || self.batch_since.elapsed() > self.lease / 4 {
                self.flush()?;
            }
            self.extend_leases()?;
        }
        Ok(())
    }

    /// Keeps a message that does not match; whether it has come for the first time.
    fn pass_over(&mut self, message: Leased) -> bool {
        if self.kept.len() >= KEPT_MAX {
            self.give_back();
        }
        let is_new = self.passed_over.insert(message.position());
        self.kept.push(message);
        is_new
    }

    fn give_back(&mut self) {
        for message in self.kept.drain(..) {
            // It is another's by now: then there is nothing to give back.
            let _ = self.consumer.release(&message);
        }
    }

    /// The next message; `None`: others have taken what was there.
    fn receive(&mut self) -> Result<Option<Leased>, Failure> {
        if let Some(message) = self.consumer.try_recv()?.map(Delivery::keep) {
            return Ok(Some(message));
        }
        self.flush()?;
        let began = Instant::now();
        while began.elapsed() < IDLE_MAX {
            self.check_interrupt()?;
            if let Some(message) = self.consumer.recv_timeout(LOOK_EVERY)?.map(Delivery::keep) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn check_interrupt(&self) -> Result<(), Failure> {
        if self.interrupt.is_set() { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// Waits until the next message is due; nothing waits for its ack meanwhile.
    fn keep_pace(&mut self) -> Result<(), Failure> {
        self.check_interrupt()?;
        let Some(due) = self.pace.as_mut().map(Pace::next) else { return Ok(()) };
        if due > Instant::now() {
            self.flush()?;
        }
        // Whoever is slower than the lease extends what it has.
        while due > Instant::now() {
            let until = due.min(Instant::now() + self.lease / 8);
            if !self.interrupt.sleep_until(until) {
                return Err(Failure::Interrupted);
            }
            self.extend_leases()?;
        }
        Ok(())
    }

    fn send(&mut self, message: Leased, target: String) -> Result<(), Failure> {
        if !self.producers.contains_key(&target) {
            let producer = self.connection.producer(&target).open()?;
            self.producers.insert(target.clone(), producer);
        }
        let producer = self.producers.get_mut(&target).expect("opened above");
        let found = message.attributes();
        let mut map = AttributeMap::new();
        let kept = |name: &str| self.left_out.is_empty() || !name.starts_with(self.left_out);
        for (name, value) in found.iter().filter(|(name, _)| kept(name)) {
            map.insert(name, value).map_err(Failure::new)?;
        }
        let mut attributes = Attributes::new().map(&map);
        if let Some(timestamp_ns) = found.timestamp_ns() {
            attributes = attributes.timestamp_ns(timestamp_ns);
        }
        if let Some(key) = found.key() {
            attributes = attributes.key(key);
        }
        if let Some(correlation) = found.correlation() {
            attributes = attributes.correlation(correlation);
        }
        if let Some(stream) = found.reply_to() {
            attributes = attributes.reply_to(stream);
        }
        producer
            .send_timeout(Outgoing::new(message.payload()).attributes(attributes), self.limits.timeout)?;
        if self.batch.is_empty() {
            self.batch_since = Instant::now();
        }
        self.batch.push((message, target));
        Ok(())
    }

    /// What was sent is confirmed, and then acked.
    fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        for producer in self.producers.values_mut() {
            producer.confirm_all_timeout(self.limits.timeout).map_err(confirm_failure)?;
        }
        for (message, target) in self.batch.drain(..) {
            match self.consumer.ack(&message) {
                // Its lease is over: it is in both streams now.
                Err(late @ SettleError::Late { .. }) => output::say(&late.to_string()),
                acked => acked?,
            }
            *self.moved.entry(target).or_default() += 1;
        }
        Ok(())
    }

    fn extend_leases(&mut self) -> Result<(), Failure> {
        if self.extended_at.elapsed() < self.lease / 4 {
            return Ok(());
        }
        self.extended_at = Instant::now();
        for message in self.kept.iter().chain(self.batch.iter().map(|(message, _)| message)) {
            self.consumer.extend(message, self.lease)?;
        }
        Ok(())
    }

    fn say(&self, done: &str) -> Result<(), Failure> {
        let (stream, moved, passed_over) =
            (self.consumer.stream(), self.moved.values().sum::<u64>(), self.passed_over.len());
        if self.limits.json {
            let value =
                json!({"stream": stream, "moved": moved, "to": self.moved, "passed_over": passed_over});
            return output::print_json(&value);
        }
        let targets: Vec<_> = self
            .moved
            .iter()
            .map(|(target, moved)| format!("{} to {target}", count(*moved, "message")))
            .collect();
        let targets = if targets.is_empty() { "no messages".to_owned() } else { targets.join(", ") };
        let others = match passed_over {
            0 => String::new(),
            others => format!("; {} did not match", count(others as u64, "message")),
        };
        output::print(&format!("stream {stream}: {done} {targets}{others}\n"))
    }
}

fn confirm_failure(error: ConfirmError) -> Failure {
    let exit = if matches!(error, ConfirmError::Timeout { .. }) { Exit::TimedOut } else { Exit::Failure };
    Failure::with(exit, error)
}
