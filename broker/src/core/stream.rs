//! A stream and its subscriptions, as the core knows them.

use std::collections::{BTreeMap, BTreeSet};

use ringway_shm_protocol::control::message::{
    Durability, LEASE_MS_MAX, NAMED_PRODUCERS_MAX, Overflow, RETRY_MS_MAX, Refusal, RefusalCode,
    SharedSettings, StreamSettings, SubscriptionMode, Visibility,
};
use ringway_shm_protocol::layout::{GATES_MAX, Geometry};
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::words::{MEMBER_BITS, OWNER_BITS, next_epoch};
use serde::{Deserialize, Serialize};

use super::arenas::Arena;
use super::{Effect, EndpointId, Gate, Ids, Partition, StreamId, refuse};

/// A declared stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) partition: Partition,
    pub(super) settings: StreamSettings,
    /// Its ring exists.
    pub(super) opened: bool,
    pub(super) producers: BTreeSet<EndpointId>,
    pub(super) owners: Ids,
    pub(super) subscriptions: BTreeMap<Name, Subscription>,
    /// The names that producers have had, each with its number, from 1.
    pub(super) named: BTreeMap<Name, u32>,
    /// The gate of the journal, if messages are journaled.
    pub(super) journal: Option<Gate>,
    pub(super) arenas: BTreeMap<u32, Arena>,
    /// Number of the last arena.
    pub(super) arenas_made: u32,
    /// Generation of each gate's last use.
    generations: Vec<u16>,
}

/// A subscription. Its position, and who has which message, stand in shared memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subscription {
    pub(super) gate: Gate,
    pub(super) mode: SubscriptionMode,
    /// Its consumers, the longest standing first, with their member ids: of a `cursor` one at most, without an id.
    pub(super) consumers: BTreeMap<EndpointId, u32>,
    pub(super) member_ids: Ids,
}

impl Subscription {
    pub(super) fn new(gate: Gate, mode: SubscriptionMode) -> Self {
        Self { gate, mode, consumers: BTreeMap::new(), member_ids: Ids::new(MEMBER_BITS) }
    }

    /// The settings of a `shared` subscription.
    pub(super) fn shared(&self) -> Option<&SharedSettings> {
        match &self.mode {
            SubscriptionMode::Cursor(_) => None,
            SubscriptionMode::Shared(settings) => Some(settings),
        }
    }

    /// Makes the longest standing consumer the active one, where only one may be.
    pub(super) fn activation(&self, stream: StreamId) -> Option<Effect> {
        let (_, member) = self.consumers.first_key_value()?;
        let single = self.shared().is_some_and(|settings| settings.single_active);
        single.then_some(Effect::Activate { stream, gate: self.gate, member: *member })
    }

    /// Whether it was made in this mode.
    pub(super) fn confirm(&self, stream: &Name, name: &Name, mode: &SubscriptionMode) -> Result<(), Refusal> {
        if *mode == self.mode {
            return Ok(());
        }
        let differ = match (&self.mode, mode) {
            (SubscriptionMode::Shared(is), SubscriptionMode::Shared(asked)) => {
                let mut differ = Differences::default();
                differ.compare("lease in ms", is.lease_ms, asked.lease_ms);
                differ.compare("most attempts", is.attempts_max, asked.attempts_max);
                let (had, wanted) = (is.backoff, asked.backoff);
                differ.compare("first backoff in ms", had.initial_ms, wanted.initial_ms);
                let (by, asked_by) = (had.multiplier_percent, wanted.multiplier_percent);
                differ.compare("backoff multiplier in percent", by, asked_by);
                differ.compare("longest backoff in ms", had.max_ms, wanted.max_ms);
                differ.compare("backoff jitter in percent", had.jitter_percent, wanted.jitter_percent);
                let target = |settings: &SharedSettings| {
                    settings.dead_letter.clone().unwrap_or_else(|| "none".to_owned())
                };
                differ.compare("dead-letter stream", target(is), target(asked));
                differ.compare("single active", is.single_active, asked.single_active);
                differ.compare("visibility", is.visibility.name(), asked.visibility.name());
                differ.as_conflicts()
            }
            (SubscriptionMode::Cursor(is), SubscriptionMode::Cursor(asked)) => {
                format!("visibility {}, not {}", is.visibility.name(), asked.visibility.name())
            }
            (SubscriptionMode::Cursor(_), SubscriptionMode::Shared(_)) => {
                "mode cursor, not shared".to_owned()
            }
            (SubscriptionMode::Shared(_), SubscriptionMode::Cursor(_)) => {
                "mode shared, not cursor".to_owned()
            }
        };
        refuse(
            RefusalCode::Conflict,
            format!(
                "subscription {name} of stream {stream} exists with {differ}; delete it first, or declare it with the \
                 settings it has"
            ),
        )
    }
}

/// What something has otherwise than was asked: what, how it is, how it was asked.
#[derive(Default)]
pub(super) struct Differences(Vec<(&'static str, String, String)>);

impl Differences {
    pub(super) fn compare<T: PartialEq + std::fmt::Display>(&mut self, what: &'static str, is: T, asked: T) {
        if is != asked {
            self.0.push((what, is.to_string(), asked.to_string()));
        }
    }

    pub(super) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    fn as_conflicts(&self) -> String {
        self.text(|what, is, asked| format!("{what} {is}, not {asked}"))
    }

    pub(super) fn as_changes(&self) -> String {
        self.text(|what, is, asked| format!("{what} from {is} to {asked}"))
    }

    fn text(&self, one: impl Fn(&str, &str, &str) -> String) -> String {
        let all: Vec<_> = self.0.iter().map(|(what, is, asked)| one(what, is, asked)).collect();
        all.join(", ")
    }
}

/// Whether a subscription can have this mode on a stream of these settings.
pub(super) fn check_mode(stream: &Name, mode: &SubscriptionMode, of: &StreamSettings) -> Result<(), Refusal> {
    if mode.visibility() == Visibility::Durable && of.durability == Durability::Memory {
        let message = format!(
            "visibility durable cannot be had: stream {stream} is of durability memory, nothing of it is written to the \
             device; declare it with --durability written or synced"
        );
        return refuse(RefusalCode::Invalid, message);
    }
    match mode {
        SubscriptionMode::Cursor(_) => Ok(()),
        SubscriptionMode::Shared(settings) => check_shared(stream, settings, of.overflow),
    }
}

/// Whether a `shared` subscription can have these settings on a stream of this overflow.
pub(super) fn check_shared(
    stream: &Name,
    settings: &SharedSettings,
    overflow: Overflow,
) -> Result<(), Refusal> {
    let invalid = |message: String| refuse(RefusalCode::Invalid, message);
    if overflow.may_overtake() {
        return invalid(
            "a shared subscription keeps every message until it is acked, and this stream overwrites what is not read: \
             declare the stream to block or to reject when it is full"
                .to_owned(),
        );
    }
    let SharedSettings { lease_ms, backoff, dead_letter, .. } = settings;
    if !(1..=LEASE_MS_MAX).contains(lease_ms) {
        return invalid(format!(
            "a lease of {lease_ms} ms cannot be had: from 1 to {LEASE_MS_MAX} (12 hours)"
        ));
    }
    if backoff.initial_ms.max(backoff.max_ms) > RETRY_MS_MAX {
        let asked = backoff.initial_ms.max(backoff.max_ms);
        return invalid(format!("a backoff of {asked} ms cannot be had: at most {RETRY_MS_MAX} (12 hours)"));
    }
    if !(100..=10_000).contains(&backoff.multiplier_percent) {
        let percent = backoff.multiplier_percent;
        return invalid(format!("a backoff multiplied by {percent} % cannot be had: from 100 to 10,000 %"));
    }
    if backoff.jitter_percent > 100 {
        let percent = backoff.jitter_percent;
        return invalid(format!("a backoff shortened by up to {percent} % cannot be had: at most 100 %"));
    }
    match dead_letter.as_ref().map(|name| Name::parse(name.as_bytes())) {
        Some(Err(error)) => return invalid(format!("the dead-letter stream: {error}")),
        Some(Ok(name)) if name == *stream => {
            return invalid(format!("stream {name} cannot get its own dead letters: name another stream"));
        }
        _ => {}
    }
    Ok(())
}

impl Stream {
    pub(super) fn new(partition: Partition, settings: StreamSettings) -> Self {
        let mut stream = Self {
            partition,
            settings,
            opened: false,
            producers: BTreeSet::new(),
            owners: Ids::new(OWNER_BITS),
            subscriptions: BTreeMap::new(),
            named: BTreeMap::new(),
            arenas: BTreeMap::new(),
            arenas_made: 0,
            journal: None,
            generations: vec![0; GATES_MAX],
        };
        if settings.durability > Durability::Memory {
            stream.journal = stream.take_gate();
        }
        stream
    }

    /// The size of its ring.
    pub(super) fn geometry(&self) -> Geometry {
        Geometry::new(self.settings.slots, self.settings.slot_bytes).expect("checked when it was declared")
    }

    /// Whether these are the settings it was declared with.
    pub(super) fn confirm(&self, settings: StreamSettings) -> Result<(), Refusal> {
        if settings == self.settings {
            return Ok(());
        }
        let (is, asked) = (&self.settings, &settings);
        let mut differ = Differences::default();
        differ.compare("kind", is.kind.name(), asked.kind.name());
        differ.compare("slots", is.slots, asked.slots);
        differ.compare("slot bytes", is.slot_bytes.into(), u64::from(asked.slot_bytes));
        differ.compare("partitions", is.partitions, asked.partitions);
        differ.compare("largest payload", is.payload_bytes_max, asked.payload_bytes_max);
        differ.compare("producers", is.producers.name(), asked.producers.name());
        differ.compare("overflow", is.overflow, asked.overflow);
        differ.compare("durability", is.durability.name(), asked.durability.name());
        refuse(
            RefusalCode::Conflict,
            format!(
                "stream {} exists with {}; delete it first, or declare it with the settings it has",
                self.partition.stream,
                differ.as_conflicts()
            ),
        )
    }

    /// The number of a producer's name, a new one if need be.
    pub(super) fn number_of(&mut self, name: Name) -> Result<u32, Refusal> {
        if let Some(number) = self.named.get(&name) {
            return Ok(*number);
        }
        if self.named.len() == NAMED_PRODUCERS_MAX {
            let message = format!(
                "stream {} has had producers of {NAMED_PRODUCERS_MAX} names, as many as it remembers: {name} is not among \
                 them; use names that come back",
                self.partition.stream
            );
            return refuse(RefusalCode::Limit, message);
        }
        let number = self.named.len() as u32 + 1;
        self.named.insert(name, number);
        Ok(number)
    }

    /// Whether subscriptions that lag are detached.
    pub(super) fn check_detaches(&self) -> Result<(), Refusal> {
        match self.settings.overflow {
            Overflow::Detach { .. } => Ok(()),
            _ => refuse(
                RefusalCode::Invalid,
                format!(
                    "stream {} detaches nobody: it was declared with another overflow",
                    self.partition.stream
                ),
            ),
        }
    }

    /// Whether subscriptions that lag are served from the journal.
    pub(super) fn check_keeps_backlog(&self) -> Result<(), Refusal> {
        if self.settings.keeps_backlog() {
            return Ok(());
        }
        let stream = &self.partition.stream;
        refuse(
            RefusalCode::Invalid,
            format!(
                "the journal keeps nothing for consumers of stream {stream} that lag: it was declared with durability memory, or with \
                 an overflow that detaches nobody"
            ),
        )
    }

    /// Whether this gate is a subscription's.
    pub(super) fn check_not_journal(&self, gate: Gate) -> Result<(), Refusal> {
        if self.journal != Some(gate) {
            return Ok(());
        }
        refuse(RefusalCode::Invalid, format!("gate {} is the journal's: it goes on by itself", gate.index))
    }

    /// Whether the subscription of this gate is `shared`.
    pub(super) fn check_shared_gate(&self, gate: Gate) -> Result<(), Refusal> {
        self.check_not_journal(gate)?;
        let mut named = self.subscriptions.iter().filter(|(_, subscription)| subscription.gate == gate);
        match named.find(|(_, subscription)| subscription.shared().is_none()) {
            Some((name, _)) => refuse(
                RefusalCode::Invalid,
                format!("subscription {name} is a cursor: its consumer alone can go on"),
            ),
            None => Ok(()),
        }
    }

    pub(super) fn subscription(&self, name: &Name) -> Result<&Subscription, Refusal> {
        match self.subscriptions.get(name) {
            Some(subscription) => Ok(subscription),
            None => refuse(
                RefusalCode::NotFound,
                format!(
                    "stream {} has no subscription {name}; make it with: ringway subscription create {} {name}",
                    self.partition.stream, self.partition.stream
                ),
            ),
        }
    }

    /// The subscription that has this gate.
    pub(super) fn subscription_at(&mut self, gate: Gate) -> Option<&mut Subscription> {
        self.subscriptions.values_mut().find(|subscription| subscription.gate == gate)
    }

    /// The lowest free gate, in a new generation; `None` when all are in use.
    pub(super) fn take_gate(&mut self) -> Option<Gate> {
        let gates = self.subscriptions.values().map(|subscription| subscription.gate).chain(self.journal);
        let taken = gates.fold(0_u64, |set, gate| set | 1 << gate.index);
        let index = taken.trailing_ones();
        (index < GATES_MAX as u32).then(|| self.next_use(index as u8))
    }

    /// The same gate in a new generation, for the subscription that has it.
    pub(super) fn renew_gate(&mut self, before: Gate) -> Gate {
        let gate = self.next_use(before.index);
        if let Some(subscription) = self.subscription_at(before) {
            subscription.gate = gate;
        }
        gate
    }

    fn next_use(&mut self, index: u8) -> Gate {
        let generation = &mut self.generations[usize::from(index)];
        *generation = next_epoch(*generation);
        Gate { index, generation: *generation }
    }
}
