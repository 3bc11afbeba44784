//! What sessions hold: producers and consumers, by endpoint.

use std::collections::BTreeSet;

use ringway_shm_protocol::control::message::{Refusal, RefusalCode};
use ringway_shm_protocol::words::OWNER_BITS;

use super::{Caller, Core, Effect, Gate, StreamId, refuse};

/// An opened producer or consumer. Unique in its shard, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u64);

/// What an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A producer of a stream.
    Producer { stream: StreamId, owner: u32 },
    /// The consumer of a subscription.
    Consumer { stream: StreamId, gate: Gate },
}

/// Who holds what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    pub(super) caller: Caller,
    pub(super) role: Role,
}

/// Owner ids of one stream: 1 to 2²² − 1; 0 is the shard.
#[derive(Debug, Default)]
pub struct OwnerIds {
    free: BTreeSet<u32>,
    used: u32,
}

impl OwnerIds {
    /// Takes the lowest free id; `None` when all are taken.
    pub fn take(&mut self) -> Option<u32> {
        if let Some(owner) = self.free.pop_first() {
            return Some(owner);
        }
        let next = self.used + 1;
        (next < 1 << OWNER_BITS).then(|| {
            self.used = next;
            next
        })
    }

    /// Gives an id back, after the sweep of its user.
    pub fn give_back(&mut self, owner: u32) {
        self.free.insert(owner);
    }
}

impl Core {
    pub(super) fn add_endpoint(&mut self, caller: Caller, role: Role) -> EndpointId {
        self.endpoints_made += 1;
        let id = EndpointId(self.endpoints_made);
        self.endpoints.insert(id, Endpoint { caller, role });
        id
    }

    /// The endpoint, if it is this caller's.
    pub(super) fn endpoint(&self, caller: Caller, id: EndpointId) -> Result<Endpoint, Refusal> {
        match self.endpoints.get(&id) {
            Some(endpoint) if endpoint.caller.session == caller.session => Ok(*endpoint),
            _ => refuse(RefusalCode::NotFound, format!("this session has no endpoint {}", id.0)),
        }
    }

    /// The stream and the owner id of an endpoint that is this caller's and a producer.
    pub(super) fn producer(&self, caller: Caller, id: EndpointId) -> Result<(StreamId, u32), Refusal> {
        match self.endpoint(caller, id)?.role {
            Role::Producer { stream, owner } => Ok((stream, owner)),
            Role::Consumer { .. } => {
                refuse(RefusalCode::Invalid, format!("endpoint {} is no producer", id.0))
            }
        }
    }

    /// Releases an endpoint whose user has stopped.
    pub(super) fn end(&mut self, id: EndpointId) -> Vec<Effect> {
        let Some(endpoint) = self.endpoints.remove(&id) else { return Vec::new() };
        match endpoint.role {
            Role::Producer { stream, owner } => {
                let found = self.streams.get_mut(&stream).expect("an open stream is not deleted");
                found.producers.remove(&id);
                // Carried out before the next event, so before the id can be taken again.
                found.owners.give_back(owner);
                let mut orphans = Vec::new();
                for (number, arena) in &mut found.arenas {
                    if arena.producer == Some(id) {
                        arena.producer = None;
                        orphans.push(*number);
                    }
                }
                let mut effects = vec![Effect::Bury(stream, owner)];
                if !orphans.is_empty() {
                    effects.push(Effect::OrphanArenas(stream, orphans));
                }
                effects
            }
            Role::Consumer { stream, gate } => {
                let found = self.streams.get_mut(&stream).expect("an open stream is not deleted");
                for subscription in found.subscriptions.values_mut() {
                    if subscription.gate == gate {
                        subscription.consumer = None;
                    }
                }
                vec![Effect::EndReader(stream, gate)]
            }
        }
    }
}
