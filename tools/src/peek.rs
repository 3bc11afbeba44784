//! `ringway peek`: messages that wait, are leased, delayed or dead, without taking them.
//!
//! 1. Nothing is claimed, leased or counted, and nobody is asked but the keeper: see [`ringway_broker::holdings`].
//! 2. What is shown was whole when it was copied: its slot was looked at again behind the copy, and either a gate holds it, or its
//!    slot is not the next to be written. What went away meanwhile is passed over.

use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use ringway_broker::core::lot::State;
use ringway_broker::core::{Outline, SubscriptionOutline};
use ringway_broker::holdings::{HeldRing, HeldShared};
use ringway_client::{AttributesView, Overflow, Position, StreamKind, SubscriptionMode};
use ringway_shm_protocol::memory::arena::ArenaView;
use ringway_shm_protocol::ring::Part;
use ringway_shm_protocol::words::ClaimState;
use serde::Serialize;

use crate::cli::{PeekArgs, PeekFormat, PeekState};
use crate::exit::{Exit, Failure};
use crate::inspect::{open, partitions};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::subscribe::writer::{Line, Printed, hex};

/// A payload is shown up to so many bytes on a line.
const SHOWN_BYTES: usize = 60;
/// Output is written when so much has gathered, in bytes.
const FLUSH_BYTES: usize = 64 << 10;
const NANOS_PER_MS: u64 = 1_000_000;

/// Runs the command.
pub(crate) fn run(args: &PeekArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    let mut holdings = open(args.from_dump.as_deref(), directory)?;
    // Nothing is left half done when a signal ends this command.
    let mut output = Output::stdout(Interrupt::default())?;
    let (mut left, mut is_beyond) = (args.limit, None);
    for number in partitions(&mut holdings, &args.stream, args.partition)? {
        let held = holdings.partition(&args.stream, number)?;
        let subscription = subscription(&held.outline, args)?;
        let Some(ring) = &held.ring else { continue };
        let end = ring.view.end();
        // One partition that has the position is enough.
        if args.from > end {
            is_beyond.get_or_insert((number, end));
            continue;
        }
        is_beyond = Some((number, u64::MAX));
        let peeking = Peeking { outline: &held.outline, ring, subscription, now: holdings.now() };
        peeking.all(args.from, end, &mut |found| {
            if left == 0 || !is_wanted(&found, args) {
                return Ok(left > 0);
            }
            left -= 1;
            write(output.buffer(), number, &found, args.format);
            if output.buffered_bytes() >= FLUSH_BYTES {
                output.flush()?;
            }
            Ok(left > 0)
        })?;
    }
    output.flush()?;
    match is_beyond {
        Some((number, end)) if end < u64::MAX => Err(Failure::with(
            Exit::Usage,
            format!("position {} is not there yet: the next of partition {number} is {end}", args.from),
        )),
        _ => Ok(()),
    }
}

/// The subscription that is asked for; `None`: all that the ring holds.
fn subscription<'a>(
    outline: &'a Outline,
    args: &PeekArgs,
) -> Result<Option<&'a SubscriptionOutline>, Failure> {
    let name = match &args.subscription {
        Some(name) => name,
        None if outline.settings.kind == StreamKind::Queue => &outline.partition.stream,
        None if args.states.is_empty() => return Ok(None),
        None => {
            return Err(Failure::with(
                Exit::Usage,
                "--state goes with --subscription NAME: a topic has none by itself",
            ));
        }
    };
    let found = outline.subscriptions.iter().find(|subscription| subscription.name == *name);
    found.map(Some).ok_or_else(|| {
        let message = format!("stream {} has no subscription {name}", outline.partition.stream);
        Failure::with(Exit::NotFound, message)
    })
}

/// A message, and what is known of its delivery.
struct Found {
    position: u64,
    /// `None`: of no subscription.
    delivery: Option<Delivery>,
    flags: u16,
    attributes: Vec<u8>,
    payload: Vec<u8>,
}

/// Where a message of a subscription is.
#[derive(Clone, Copy, Serialize)]
struct Delivery {
    #[serde(serialize_with = "as_name")]
    state: PeekState,
    /// How often it was delivered.
    delivered: u32,
    /// How many of these deliveries failed.
    failed: u32,
    /// Of one that is leased: by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer_pid: Option<u32>,
    /// Of one that is delayed: for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_ms: Option<u64>,
    /// Of one that is dead: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

fn as_name<S: serde::Serializer>(state: &PeekState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.name())
}

impl Delivery {
    fn new(state: PeekState, delivered: u32, failed: u32) -> Self {
        Self { state, delivered, failed, consumer_pid: None, due_ms: None, reason: None }
    }
}

/// A ring, and whose messages are wanted.
struct Peeking<'a> {
    outline: &'a Outline,
    ring: &'a HeldRing,
    subscription: Option<&'a SubscriptionOutline>,
    now: u64,
}

impl Peeking<'_> {
    /// Hands over each message from a position on, in order, until told that it is enough.
    fn all(
        &self,
        from: u64,
        end: u64,
        each: &mut dyn FnMut(Found) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let shared = self.shared();
        let ring = self.on_ring(end);
        let only_in_lot = shared.map(|shared| shared.lot.range(from..ring.start.max(from)));
        let only_in_lot = only_in_lot.into_iter().flatten().map(|(position, _)| *position);
        for position in only_in_lot.chain(ring.start.max(from)..ring.end) {
            let Some(found) = self.look(position) else { continue };
            if !each(found)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn shared(&self) -> Option<&HeldShared> {
        self.ring.shared.get(&self.subscription?.gate.index)
    }

    /// Where the subscription stands: everything below is not on the ring for it.
    fn floor(&self) -> Option<u64> {
        let view = self.ring.subscriptions.get(&self.subscription?.gate.index)?;
        Some(view.cursor().position)
    }

    /// The positions of the ring that may be wanted.
    fn on_ring(&self, end: u64) -> Range<u64> {
        let capacity = self.ring.view.identity().geometry.capacity();
        let held_to = match self.outline.settings.overflow {
            Overflow::DropOldest => end,
            _ => self.ring.view.limit().position,
        };
        let oldest = held_to.saturating_sub(capacity).min(end);
        self.floor().unwrap_or(oldest).clamp(oldest, end)..end
    }

    /// What is at a position; `None`: nothing for this subscription.
    fn look(&self, position: u64) -> Option<Found> {
        let Some(subscription) = self.subscription else { return self.of_ring(position, None) };
        let Some(shared) = self.shared() else {
            return match subscription.mode {
                SubscriptionMode::Cursor(_) => {
                    self.of_ring(position, Some(Delivery::new(PeekState::Ready, 0, 0)))
                }
                SubscriptionMode::Shared(_) => None,
            };
        };
        let Some(entry) = shared.lot.get(&position) else {
            let delivery = match shared.view.live().claim(position) {
                (ClaimState::Free, _) => Delivery::new(PeekState::Ready, 0, 0),
                (ClaimState::Leased | ClaimState::Moving, member) => self.leased(1, 0, member),
                (ClaimState::Acked | ClaimState::Moved, _) => return None,
            };
            return self.of_ring(position, Some(delivery));
        };
        let (delivered, failed) = (entry.acquired, entry.failed);
        let delivery = match entry.state {
            State::Ready => Delivery::new(PeekState::Ready, delivered, failed),
            State::Delayed { until } => {
                let due_ms = Some(until.saturating_sub(self.now) / NANOS_PER_MS);
                Delivery { due_ms, ..Delivery::new(PeekState::Delayed, delivered, failed) }
            }
            State::Dead { reason } => {
                let reason = Some(reason.name());
                Delivery { reason, ..Delivery::new(PeekState::Dead, delivered, failed) }
            }
            State::Held { member } => self.leased(delivered, failed, member),
            State::Fed { at } => match shared.view.fed().claim(at) {
                // It counts as delivered from when it is fed; nobody has it yet.
                (ClaimState::Free, _) => Delivery::new(PeekState::Ready, delivered.saturating_sub(1), failed),
                (ClaimState::Acked, _) => return None,
                (_, member) => self.leased(delivered, failed, member),
            },
        };
        let body = shared.bodies.get(&position)?;
        Some(Found {
            position,
            delivery: Some(delivery),
            flags: body.flags,
            attributes: body.attributes.clone(),
            payload: body.payload.clone(),
        })
    }

    fn leased(&self, delivered: u32, failed: u32, member: u32) -> Delivery {
        let mut consumers = self.subscription.iter().flat_map(|subscription| &subscription.consumers);
        let consumer_pid = consumers.find(|(known, _)| *known == member).map(|(_, pid)| *pid);
        Delivery { consumer_pid, ..Delivery::new(PeekState::Leased, delivered, failed) }
    }

    fn of_ring(&self, position: u64, delivery: Option<Delivery>) -> Option<Found> {
        let view = &self.ring.view;
        let mut body = vec![0; view.identity().geometry.body_bytes()];
        let before = view.word(position);
        let received = view.message(position, &mut body)?;
        let part = |part: Part<'_>| match part {
            Part::Inline(bytes) => Some(bytes.to_vec()),
            Part::Arena(block) => {
                let arena = ArenaView::new(self.ring.arenas.get(&block.arena)?, block)?;
                let mut bytes = vec![0; arena.len()];
                arena.read(0, &mut bytes);
                Some(bytes)
            }
        };
        let (attributes, payload) = (part(received.attributes(&body))?, part(received.payload(&body))?);
        // Behind the copies: nothing can have been written over them.
        let is_held = view.holds(position) || self.floor().is_some_and(|floor| floor <= position);
        (is_held && view.word(position) == before).then(|| Found {
            position,
            delivery,
            flags: received.flags(),
            attributes,
            payload,
        })
    }
}

fn is_wanted(found: &Found, args: &PeekArgs) -> bool {
    let state = found.delivery.map(|delivery| delivery.state);
    let has = |text: &[u8]| text.is_empty() || found.payload.windows(text.len()).any(|part| part == text);
    (args.states.is_empty() || state.is_some_and(|state| args.states.contains(&state)))
        && args.matching.as_ref().is_none_or(|text| has(text.as_bytes()))
}

/// A message as `--format json` prints it.
#[derive(Serialize)]
struct Peeked<'a> {
    #[serde(flatten)]
    delivery: Option<Delivery>,
    #[serde(flatten)]
    message: Line<'a>,
}

fn write(buffer: &mut Vec<u8>, partition: u32, found: &Found, format: PeekFormat) {
    let Found { position, delivery, flags, attributes, payload } = found;
    let at = Position { partition, position: *position };
    match format {
        PeekFormat::Raw => buffer.extend_from_slice(payload),
        PeekFormat::Hex => buffer.extend_from_slice(format!("{at} {}", hex(payload)).as_bytes()),
        PeekFormat::Json => {
            // A producer may write there what it likes.
            let attributes = AttributesView::parse(*flags, attributes).unwrap_or_default();
            let message = Printed { at, attempt: None, attributes, payload }.line();
            let peeked = Peeked { delivery: *delivery, message };
            serde_json::to_writer(&mut *buffer, &peeked).expect("numbers and strings always are JSON");
        }
        PeekFormat::Line => {
            let shown = &payload[..payload.len().min(SHOWN_BYTES)];
            let more = if shown.len() < payload.len() { "…" } else { "" };
            let state = delivery.map_or_else(String::new, |delivery| format!("{} ", state_text(delivery)));
            let line = format!("{at} {state}{} {}{more}", payload.len(), shown.escape_ascii());
            buffer.extend_from_slice(line.as_bytes());
        }
    }
    buffer.push(b'\n');
}

/// The state with what goes with it, and how often the message was delivered.
fn state_text(delivery: Delivery) -> String {
    let detail = match delivery {
        Delivery { consumer_pid: Some(pid), .. } => format!("({pid})"),
        Delivery { due_ms: Some(ms), .. } => format!("({:.1}s)", ms as f64 / 1000.0),
        Delivery { reason: Some(reason), .. } => format!("({reason})"),
        _ => String::new(),
    };
    format!("{}{detail} {}", delivery.state.name(), delivery.delivered)
}
