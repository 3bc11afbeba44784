//! Processes under load. Each says in a line of its own what it is about to do, and what has come of it:
//!
//! | line | says |
//! |---|---|
//! | `P stream id` | is about to publish |
//! | `C stream id position` | has published |
//! | `D id attempt` | was given a message of the queue |
//! | `S id attempt` | has settled it: its ack was successful |
//! | `O id position` | has read a message of the topic |

use std::io::Write;
use std::time::{Duration, Instant};

use ringway_client::{
    Connection, Leased, Overflow, Producers, RefusalCode, SettleError, SharedConsumer, SharedSettings,
    StartAt, StreamSettings, SubscriptionChanges, SubscriptionMode,
};

use crate::connect;

type Failure = Box<dyn std::error::Error>;

/// The queue, its dead letters, the topic, and a topic that drops its oldest.
pub const QUEUE: &str = "q";
/// Dead letters of the queue.
pub const DEAD: &str = "q.dead";
/// The topic, read by subscription [`READER`].
pub const TOPIC: &str = "t";
/// The subscription of the topic.
pub const READER: &str = "a";
/// A topic of one producer that drops its oldest messages.
pub const LOSSY: &str = "lossy";
/// A topic that detaches who lags.
const DETACHING: &str = "detaching";
/// A topic with a subscription of which only one consumer is active.
const SINGLE: &str = "single";
const ONE: &str = "one";

/// Small rings, so that everything that happens when one is full happens.
const SETTINGS: StreamSettings = StreamSettings { slots: 64, slot_bytes: 64, ..StreamSettings::DEFAULT };

fn usual() -> SharedSettings {
    SharedSettings { lease_ms: 300, attempts_max: 6, ..SharedSettings::default() }
}

/// No worker goes on for longer than this without something to do, while there is a broker.
const QUIET: Duration = Duration::from_millis(500);
/// Messages that a consumer keeps unsettled for a while.
const KEPT_MAX: usize = 6;

/// Makes everything that the workers need.
pub fn declare(connection: &Connection) -> Result<(), Failure> {
    connection.declare_queue(DEAD, SETTINGS, SharedSettings::default())?;
    let shared = SharedSettings { dead_letter: Some(DEAD.to_owned()), ..usual() };
    connection.declare_queue(QUEUE, SETTINGS, shared)?;
    connection.declare_stream(TOPIC, SETTINGS)?;
    connection.declare_subscription(TOPIC, READER, StartAt::First)?;
    let lossy =
        StreamSettings { producers: Producers::Exclusive, overflow: Overflow::DropOldest, ..SETTINGS };
    connection.declare_stream(LOSSY, lossy)?;
    let detaching = StreamSettings { overflow: Overflow::Detach { after_ms: 1 }, ..SETTINGS };
    connection.declare_stream(DETACHING, detaching)?;
    connection.declare_stream(SINGLE, SETTINGS)?;
    let single = SharedSettings { single_active: true, ..usual() };
    connection.declare_shared_subscription(SINGLE, ONE, StartAt::First, single)?;
    Ok(())
}

/// A little random generator (SplitMix64), the same for the same seed.
pub struct Random(pub u64);

impl Random {
    /// A number below `below`.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % below
    }
}

/// The payload of the message `id`: one in sixteen does not fit a slot.
pub fn payload(id: u64) -> Vec<u8> {
    let mut random = Random(id);
    let bytes = if random.below(16) == 0 { 3000 + random.below(3000) } else { 8 + random.below(24) };
    let filler = (8..bytes).map(|_| random.below(256) as u8);
    id.to_le_bytes().into_iter().chain(filler).collect()
}

/// The id of a message, if it is whole.
pub fn id_of(payload: &[u8]) -> Option<u64> {
    let id = u64::from_le_bytes(payload.get(..8)?.try_into().ok()?);
    (self::payload(id) == payload).then_some(id)
}

fn say(line: std::fmt::Arguments<'_>) {
    // In one write: others write to the same pipe. Without a reader there is nobody to tell.
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

fn id_or_torn(payload: &[u8]) -> String {
    id_of(payload).map_or_else(|| "torn".to_owned(), |id| id.to_string())
}

/// Publishes so many messages to the queue and to the topic, with ids that begin at `first`.
pub fn produce(directory: &str, first: u64, count: u64) -> Result<(), Failure> {
    let connection = connect(directory)?;
    let mut queue = connection.producer(QUEUE).open()?;
    let mut topic = connection.producer(TOPIC).open()?;
    // Another worker may have it.
    let mut lossy = connection.producer(LOSSY).open().ok();
    for id in first..first + count {
        for (name, producer) in [(QUEUE, &mut queue), (TOPIC, &mut topic)] {
            say(format_args!("P {name} {id}"));
            let position = producer.send(&payload(id))?.position;
            say(format_args!("C {name} {id} {position}"));
        }
        if let Some(lossy) = &mut lossy {
            lossy.send(&payload(id))?;
        }
    }
    Ok(())
}

/// Consumes the queue until nothing comes any more.
pub fn consume(directory: &str, seed: u64) -> Result<(), Failure> {
    let connection = connect(directory)?;
    let mut random = Random(seed);
    let mut consumer = connection.queue_consumer(QUEUE).prefetch(1 + random.below(4) as usize).open()?;
    let mut kept: Vec<(Leased, String)> = Vec::new();
    let mut is_quiet = false;
    loop {
        let Some(mut delivery) = consumer.recv_timeout(QUIET)? else {
            if goes_on(&connection, &mut is_quiet)? {
                continue;
            }
            return settle_all(&mut consumer, kept);
        };
        is_quiet = false;
        let (id, attempt) = (id_or_torn(delivery.payload()), delivery.attempt());
        say(format_args!("D {id} {attempt}"));
        match random.below(32) {
            0..=1 => ignore_late(delivery.nack())?,
            2 => ignore_late(delivery.nack_after(Duration::from_millis(random.below(20))))?,
            3 => ignore_late(delivery.reject())?,
            4 => ignore_late(delivery.release())?,
            5..=6 => {
                ignore_late(delivery.extend(Duration::from_millis(500)))?;
                settled(delivery.ack(), &id, attempt)?;
            }
            7..=9 => kept.push((delivery.keep(), id)),
            _ => settled(delivery.ack(), &id, attempt)?,
        }
        if kept.len() >= KEPT_MAX {
            let (leased, id) = kept.swap_remove(random.below(KEPT_MAX as u64) as usize);
            settled(consumer.ack(&leased), &id, leased.attempt())?;
        }
        if random.below(16) == 0 {
            consumer.confirm()?;
        }
    }
}

/// Nothing has come for a while: that means something when it happens twice, and a broker has answered in between.
fn goes_on(connection: &Connection, is_quiet: &mut bool) -> Result<bool, Failure> {
    connection.stream(QUEUE)?;
    Ok(!std::mem::replace(is_quiet, true))
}

fn settle_all(consumer: &mut SharedConsumer, kept: Vec<(Leased, String)>) -> Result<(), Failure> {
    for (leased, id) in kept {
        settled(consumer.ack(&leased), &id, leased.attempt())?;
    }
    Ok(())
}

fn settled(outcome: Result<(), SettleError>, id: &str, attempt: u32) -> Result<(), Failure> {
    match outcome {
        Ok(()) => say(format_args!("S {id} {attempt}")),
        Err(SettleError::Late { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn ignore_late(outcome: Result<(), SettleError>) -> Result<(), Failure> {
    match outcome {
        Ok(()) | Err(SettleError::Late { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads the topic until nothing comes any more.
pub fn read(directory: &str) -> Result<(), Failure> {
    let connection = connect(directory)?;
    // The one before may have been killed just now.
    let began = Instant::now();
    let mut consumer = loop {
        match connection.consumer(TOPIC, READER).open() {
            Err(error) if error.code() == Some(RefusalCode::InUse) && began.elapsed() < QUIET => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => break opened?,
        }
    };
    let (mut read, mut is_quiet) = (0_u64, false);
    loop {
        let Some(message) = consumer.recv_timeout(QUIET)? else {
            if goes_on(&connection, &mut is_quiet)? {
                continue;
            }
            break;
        };
        is_quiet = false;
        say(format_args!("O {} {}", id_or_torn(message.payload()), message.position()));
        let held = message.hold()?;
        read += 1;
        if read.is_multiple_of(7) {
            consumer.commit()?;
            // Its memory is still its own behind the commit.
            if id_of(held.payload()).is_none() {
                say(format_args!("O torn {}", held.position()));
            }
        }
    }
    Ok(consumer.commit()?)
}

/// Makes, opens, closes, purges, alters and deletes, so many times.
pub fn churn(directory: &str, rounds: u64) -> Result<(), Failure> {
    let connection = connect(directory)?;
    for round in 0..rounds {
        let other = format!("other-{}", std::process::id());
        connection.declare_subscription(TOPIC, &other, StartAt::Next)?;
        let mut consumer = connection.consumer(TOPIC, &other).open()?;
        consumer.recv_timeout(Duration::from_millis(2))?;
        consumer.close()?;
        connection.delete_subscription(TOPIC, &other)?;
        // A large message of a producer that goes: its memory is given up once it was read.
        let mut producer = connection.producer(SINGLE).open()?;
        producer.send(&[round as u8; 5000])?;
        producer.close()?;
        let mut members = Vec::new();
        for _ in 0..2 {
            members.push(connection.shared_consumer(SINGLE, ONE).open()?);
        }
        if let Some(delivery) = members[0].try_recv()? {
            ignore_late(delivery.ack())?;
        }
        members.into_iter().try_for_each(|member| member.close())?;
        purge(&connection, &other)?;
        alter(&connection, 301 + round as u32)?;
        connection.declare_subscription(DETACHING, &other, StartAt::First)?;
        let mut producer = connection.producer(DETACHING).open()?;
        for number in 0..SETTINGS.slots + 1 {
            producer.send(&number.to_le_bytes())?;
        }
        producer.close()?;
        connection.delete_subscription(DETACHING, &other)?;
    }
    Ok(())
}

/// What is given up is gone: what nobody has, and what an ordered subscription has not read.
fn purge(connection: &Connection, other: &str) -> Result<(), Failure> {
    connection.declare_subscription(SINGLE, other, StartAt::Next)?;
    connection.producer(SINGLE).open()?.send(b"for nobody")?;
    connection.purge_stream(SINGLE)?;
    for name in [other, ONE] {
        let left = connection.subscription(SINGLE, name)?.lag();
        if left > 0 {
            return Err(format!("{left} messages of subscription {name} have outlived a purge").into());
        }
    }
    Ok(connection.delete_subscription(SINGLE, other)?)
}

/// What is altered stays so.
fn alter(connection: &Connection, lease_ms: u32) -> Result<(), Failure> {
    connection.alter_subscription(SINGLE, ONE, SubscriptionChanges::new().lease_ms(lease_ms))?;
    match connection.subscription(SINGLE, ONE)?.mode {
        SubscriptionMode::Shared(settings) if settings.lease_ms == lease_ms => Ok(()),
        other => Err(format!("it was altered to leases of {lease_ms} ms, and is {other:?}").into()),
    }
}
