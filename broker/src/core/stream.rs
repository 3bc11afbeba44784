//! A stream and its subscriptions, as the core knows them.

use std::collections::BTreeMap;

use ringway_shm_protocol::control::message::{Refusal, RefusalCode, StreamSettings};
use ringway_shm_protocol::layout::{GATES_MAX, Geometry};
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::words::next_epoch;

use super::{EndpointId, Gate, OwnerIds, refuse};

/// A declared stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: Name,
    pub(super) settings: StreamSettings,
    pub(super) geometry: Geometry,
    /// Its ring exists.
    pub(super) opened: bool,
    pub(super) producer: Option<EndpointId>,
    pub(super) owners: OwnerIds,
    pub(super) subscriptions: BTreeMap<Name, Subscription>,
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
    pub(super) fn new(name: Name, settings: StreamSettings, geometry: Geometry) -> Self {
        Self {
            name,
            settings,
            geometry,
            opened: false,
            producer: None,
            owners: OwnerIds::default(),
            subscriptions: BTreeMap::new(),
            generations: [0; GATES_MAX],
        }
    }

    /// Whether these are the settings it was declared with.
    pub(super) fn confirm(&self, settings: StreamSettings) -> Result<(), Refusal> {
        if settings == self.settings {
            return Ok(());
        }
        let StreamSettings { slots, slot_bytes, .. } = self.settings;
        refuse(
            RefusalCode::Conflict,
            format!(
                "stream {} exists with {slots} slots of {slot_bytes} bytes, not {} of {}; delete it first, or \
                 declare it with the settings it has",
                self.name, settings.slots, settings.slot_bytes
            ),
        )
    }

    pub(super) fn subscription(&self, name: &Name) -> Result<&Subscription, Refusal> {
        match self.subscriptions.get(name) {
            Some(subscription) => Ok(subscription),
            None => refuse(
                RefusalCode::NotFound,
                format!(
                    "stream {} has no subscription {name}; make it with: ringway subscription create {} {name}",
                    self.name, self.name
                ),
            ),
        }
    }

    /// The lowest free gate, in a new generation; `None` when all are in use.
    pub(super) fn take_gate(&mut self) -> Option<Gate> {
        let taken =
            self.subscriptions.values().fold(0_u64, |set, subscription| set | 1 << subscription.gate.index);
        let index = taken.trailing_ones();
        (index < GATES_MAX as u32).then(|| {
            let generation = &mut self.generations[index as usize];
            *generation = next_epoch(*generation);
            Gate { index: index as u8, generation: *generation }
        })
    }
}
