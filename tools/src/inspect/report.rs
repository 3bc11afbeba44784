//! What there is to say of a partition.
//!
//! 1. Every number comes from memory that others write: it is shown, compared or subtracted with care, and never an index.
//! 2. Work is bounded: of a ring no more than its slots are looked at, and only where there is something to find.

use std::collections::BTreeMap;

use ringway_broker::core::{Outline, SHARD_ARENAS};
use ringway_broker::holdings::{HeldPartition, HeldRing};
use ringway_client::{Overflow, StreamSettings, SubscriptionMode};
use ringway_shm_protocol::ring::JournalState;
use serde::Serialize;

use super::claims::SharedReport;

/// So many positions before the end are searched for payloads in arenas.
const SEARCHED_MAX: u64 = 65_536;
/// So many for such that are being written: of one that is older some reader has come to it, and waits.
const WRITTEN_AT_ONCE: u64 = 1024;
/// So many that are being written are shown.
const UNFINISHED_MAX: usize = 16;

/// A partition as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) stream: String,
    pub(crate) partition: u32,
    pub(crate) shard: u32,
    pub(crate) settings: StreamSettings,
    pub(crate) producers: Vec<Producer>,
    /// `None`: it is made when the partition is first opened.
    pub(crate) ring: Option<RingReport>,
}

/// A producer, by the id that it takes slots with.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Producer {
    pub(crate) owner: u32,
    pub(crate) pid: u32,
}

/// A ring.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RingReport {
    /// In hexadecimal.
    pub(crate) incarnation: String,
    /// The oldest position that is held.
    pub(crate) first: u64,
    /// The true end: the position that the next message gets.
    pub(crate) end: u64,
    pub(crate) tail_hint: u64,
    pub(crate) limit: u64,
    pub(crate) limit_epoch: u16,
    pub(crate) unfinished: Vec<Unfinished>,
    pub(crate) gates: Vec<GateReport>,
    pub(crate) shared: Vec<SharedReport>,
    pub(crate) journal: Option<JournalReport>,
    pub(crate) doorbells: Vec<DoorbellReport>,
    pub(crate) arenas: Vec<ArenaReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) published_per_second: Option<f64>,
}

/// A position that was taken and is not committed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Unfinished {
    pub(crate) position: u64,
    pub(crate) owner: u32,
    pub(crate) pid: Option<u32>,
}

/// Who a gate belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GateKind {
    Journal,
    Cursor,
    Shared,
}

/// A gate, or a cursor that is none.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GateReport {
    pub(crate) gate: u8,
    pub(crate) generation: u16,
    pub(crate) kind: GateKind,
    /// The subscription; of the journal `None`.
    pub(crate) subscription: Option<String>,
    pub(crate) position: u64,
    pub(crate) lag: u64,
    /// Producers wait for it.
    pub(crate) in_force: bool,
    /// It lagged, and misses what is overwritten.
    pub(crate) detached: bool,
    /// How many readers of a cursor have ended so far.
    pub(crate) reader_generation: u16,
    /// Messages that its reader holds in place.
    pub(crate) hazards: usize,
    pub(crate) consumer_pids: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) per_second: Option<f64>,
}

/// How far messages are journaled.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JournalReport {
    /// ready, no room, failed.
    pub(crate) state: &'static str,
    pub(crate) written: u64,
    pub(crate) synced: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) synced_per_second: Option<f64>,
}

/// One direction of the doorbell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DoorbellReport {
    pub(crate) direction: &'static str,
    /// How often somebody has announced to sleep.
    pub(crate) announced: u64,
    /// How often it was rung.
    pub(crate) rung: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) announced_per_second: Option<f64>,
}

/// An arena.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ArenaReport {
    pub(crate) arena: u32,
    /// producer, stopped (its producer has ended, its messages are there), shard.
    pub(crate) of: &'static str,
    pub(crate) owner: Option<u32>,
    pub(crate) pid: Option<u32>,
    pub(crate) bytes: u64,
    /// Bytes of messages that somebody has not consumed; of the shard's own `None`.
    pub(crate) used: Option<u64>,
}

impl Report {
    /// What there is to say at a time.
    pub(crate) fn of(held: &HeldPartition, now: u64) -> Self {
        let outline = &held.outline;
        let producers = outline.producers.iter();
        Self {
            stream: outline.partition.stream.to_string(),
            partition: outline.partition.number,
            shard: held.shard,
            settings: outline.settings,
            producers: producers.map(|of| Producer { owner: of.owner, pid: of.pid }).collect(),
            ring: held.ring.as_ref().map(|ring| RingReport::of(outline, ring, now)),
        }
    }

    /// Adds what has happened since `before`, `seconds` ago.
    pub(crate) fn compare(&mut self, before: &Self, seconds: f64) {
        if let (Some(ring), Some(before)) = (&mut self.ring, &before.ring)
            && ring.incarnation == before.incarnation
        {
            ring.compare(before, seconds);
        }
    }
}

/// How much a number has risen in a second.
pub(super) fn rate(now: u64, before: u64, seconds: f64) -> Option<f64> {
    Some((now.saturating_sub(before) as f64 / seconds * 10.0).round() / 10.0)
}

impl RingReport {
    fn of(outline: &Outline, ring: &HeldRing, now: u64) -> Self {
        let view = &ring.view;
        let (identity, limit, end) = (view.identity(), view.limit(), view.end());
        let held_from = match outline.settings.overflow {
            Overflow::DropOldest => end,
            _ => limit.position,
        };
        let first = held_from.saturating_sub(identity.geometry.capacity()).min(end);
        let gates = gates(outline, ring, end);
        let needed = gates.iter().filter(|gate| gate.in_force).map(|gate| gate.position).min();
        let needed = needed.unwrap_or(first).clamp(first, end).max(end.saturating_sub(SEARCHED_MAX));
        let pid = |owner| outline.producers.iter().find(|known| known.owner == owner).map(|known| known.pid);
        let newest = end.saturating_sub(WRITTEN_AT_ONCE).max(first);
        let waited_for = gates.iter().map(|gate| gate.position).filter(|at| (first..newest).contains(at));
        let mut unfinished: Vec<_> = waited_for.flat_map(|at| view.unfinished(at..at + 1, 1)).collect();
        unfinished.extend(view.unfinished(newest..end, WRITTEN_AT_ONCE));
        unfinished.sort_unstable();
        unfinished.dedup();
        unfinished.truncate(UNFINISHED_MAX);
        Self {
            incarnation: format!("{:016x}", identity.incarnation),
            first,
            end,
            tail_hint: view.tail_hint(),
            limit: limit.position,
            limit_epoch: limit.epoch,
            unfinished: unfinished
                .into_iter()
                .map(|(position, owner)| Unfinished { position, owner, pid: pid(owner) })
                .collect(),
            shared: SharedReport::all(outline, ring, end, now),
            gates,
            journal: outline.journal.is_some().then(|| journal(ring)),
            doorbells: view
                .doorbells()
                .map(|bell| DoorbellReport {
                    direction: bell.name,
                    announced: bell.announced,
                    rung: bell.rung,
                    announced_per_second: None,
                })
                .into(),
            arenas: arenas(outline, ring, needed..end),
            published_per_second: None,
        }
    }

    fn compare(&mut self, before: &Self, seconds: f64) {
        self.published_per_second = rate(self.end, before.end, seconds);
        for gate in &mut self.gates {
            let known = before.gates.iter().find(|known| known.gate == gate.gate);
            let known = known.filter(|known| known.generation == gate.generation);
            gate.per_second = known.and_then(|known| rate(gate.position, known.position, seconds));
        }
        if let (Some(journal), Some(before)) = (&mut self.journal, &before.journal) {
            journal.synced_per_second = rate(journal.synced, before.synced, seconds);
        }
        for (bell, before) in self.doorbells.iter_mut().zip(&before.doorbells) {
            bell.announced_per_second = rate(bell.announced, before.announced, seconds);
        }
        for shared in &mut self.shared {
            if let Some(before) = before.shared.iter().find(|known| known.subscription == shared.subscription)
            {
                shared.compare(before, seconds);
            }
        }
    }
}

fn gates(outline: &Outline, ring: &HeldRing, end: u64) -> Vec<GateReport> {
    let in_force = ring.view.gates();
    let journal = outline.journal.map(|gate| (gate, GateKind::Journal, None, Vec::new()));
    let subscriptions = outline.subscriptions.iter().map(|of| {
        let kind = match of.mode {
            SubscriptionMode::Cursor(_) => GateKind::Cursor,
            SubscriptionMode::Shared(_) => GateKind::Shared,
        };
        let pids = of.consumers.iter().map(|(_, pid)| *pid).collect();
        (of.gate, kind, Some(of.name.to_string()), pids)
    });
    let mut gates: Vec<_> = journal
        .into_iter()
        .chain(subscriptions)
        .filter_map(|(gate, kind, subscription, consumer_pids)| {
            let view = ring.subscriptions.get(&gate.index)?;
            let cursor = view.cursor();
            Some(GateReport {
                gate: gate.index,
                generation: gate.generation,
                kind,
                subscription,
                position: cursor.position,
                lag: end.saturating_sub(cursor.position),
                in_force: in_force.contains(&(gate.index, gate.generation)),
                detached: !cursor.live,
                reader_generation: cursor.generation,
                hazards: view.hazards().len(),
                consumer_pids,
                per_second: None,
            })
        })
        .collect();
    gates.sort_by_key(|gate| gate.gate);
    gates
}

fn journal(ring: &HeldRing) -> JournalReport {
    let watermarks = ring.view.watermarks();
    // In this order, so that not more is synced than written.
    let (synced, written) = (watermarks.synced(), watermarks.written());
    let state = match watermarks.state() {
        JournalState::None | JournalState::Ready => "ready",
        JournalState::NoRoom => "no room",
        JournalState::Failed => "failed",
    };
    JournalReport { state, written, synced, synced_per_second: None }
}

/// The arenas, with what messages of these positions have in them.
fn arenas(outline: &Outline, ring: &HeldRing, needed: std::ops::Range<u64>) -> Vec<ArenaReport> {
    let mut used: BTreeMap<u32, u64> = BTreeMap::new();
    if !ring.arenas.is_empty() {
        let mut body = vec![0; ring.view.identity().geometry.body_bytes()];
        for position in needed {
            let Some(message) = ring.view.message(position, &mut body) else { continue };
            for block in
                [message.payload(&body), message.attributes(&body)].iter().filter_map(|part| part.block())
            {
                let used = used.entry(block.arena).or_default();
                *used = used.saturating_add(block.bytes as u64);
            }
        }
    }
    let report = |(arena, region): (&u32, &std::sync::Arc<ringway_shm_protocol::memory::mapped::Region>)| {
        let (producer, is_own) = (outline.arenas.get(arena), *arena >= SHARD_ARENAS);
        ArenaReport {
            arena: *arena,
            of: match producer {
                _ if is_own => "shard",
                Some(_) => "producer",
                None => "stopped",
            },
            owner: producer.map(|producer| producer.owner),
            pid: producer.map(|producer| producer.pid),
            bytes: region.bytes() as u64,
            used: (!is_own).then(|| used.get(arena).copied().unwrap_or(0)),
        }
    };
    ring.arenas.iter().map(report).collect()
}
