//! A stream and its subscriptions, as the core knows them.

use std::collections::{BTreeMap, BTreeSet};

use ringway_shm_protocol::control::message::{Overflow, Refusal, RefusalCode, StreamSettings};
use ringway_shm_protocol::layout::{GATES_MAX, Geometry};
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::words::next_epoch;

use super::arenas::Arena;
use super::{EndpointId, Gate, OwnerIds, Partition, refuse};

/// A declared stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) partition: Partition,
    pub(super) settings: StreamSettings,
    pub(super) geometry: Geometry,
    /// Its ring exists.
    pub(super) opened: bool,
    pub(super) producers: BTreeSet<EndpointId>,
    pub(super) owners: OwnerIds,
    pub(super) subscriptions: BTreeMap<Name, Subscription>,
    pub(super) arenas: BTreeMap<u32, Arena>,
    /// Number of the last arena.
    pub(super) arenas_made: u32,
    /// Generation of each gate's last use.
    generations: [u16; GATES_MAX],
}

/// A `cursor` subscription. Its position stands in shared memory.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) gate: Gate,
    pub(super) consumer: Option<EndpointId>,
}

impl Stream {
    pub(super) fn new(partition: Partition, settings: StreamSettings, geometry: Geometry) -> Self {
        Self {
            partition,
            settings,
            geometry,
            opened: false,
            producers: BTreeSet::new(),
            owners: OwnerIds::default(),
            subscriptions: BTreeMap::new(),
            arenas: BTreeMap::new(),
            arenas_made: 0,
            generations: [0; GATES_MAX],
        }
    }

    /// Whether these are the settings it was declared with.
    pub(super) fn confirm(&self, settings: StreamSettings) -> Result<(), Refusal> {
        if settings == self.settings {
            return Ok(());
        }
        let (is, asked) = (&self.settings, &settings);
        let mut differ = Vec::new();
        let mut compare = |what: &str, is: String, asked: String| {
            if is != asked {
                differ.push(format!("{what} {is}, not {asked}"));
            }
        };
        compare("slots", is.slots.to_string(), asked.slots.to_string());
        compare("slot bytes", is.slot_bytes.to_string(), asked.slot_bytes.to_string());
        compare("partitions", is.partitions.to_string(), asked.partitions.to_string());
        compare("largest payload", is.payload_bytes_max.to_string(), asked.payload_bytes_max.to_string());
        compare("producers", format!("{:?}", is.producers), format!("{:?}", asked.producers));
        compare("overflow", format!("{:?}", is.overflow), format!("{:?}", asked.overflow));
        refuse(
            RefusalCode::Conflict,
            format!(
                "stream {} exists with {}; delete it first, or declare it with the settings it has",
                self.partition.stream,
                differ.join(", ")
            ),
        )
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

    /// The lowest free gate, in a new generation; `None` when all are in use.
    pub(super) fn take_gate(&mut self) -> Option<Gate> {
        let taken =
            self.subscriptions.values().fold(0_u64, |set, subscription| set | 1 << subscription.gate.index);
        let index = taken.trailing_ones();
        (index < GATES_MAX as u32).then(|| self.next_use(index as u8))
    }

    /// The same gate in a new generation, for the subscription that has it.
    pub(super) fn renew_gate(&mut self, before: Gate) -> Gate {
        let gate = self.next_use(before.index);
        for subscription in self.subscriptions.values_mut() {
            if subscription.gate == before {
                subscription.gate = gate;
            }
        }
        gate
    }

    fn next_use(&mut self, index: u8) -> Gate {
        let generation = &mut self.generations[usize::from(index)];
        *generation = next_epoch(*generation);
        Gate { index, generation: *generation }
    }
}
