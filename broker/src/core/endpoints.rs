//! What sessions hold: producers and consumers, by endpoint.

use std::collections::BTreeSet;

use ringway_shm_protocol::control::message::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};

use super::{Caller, Core, Effect, Gate, StreamId, refuse};

/// An opened producer or consumer. Unique in its shard, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId(pub u64);

/// What an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// A producer of a stream; the number of its name, or 0.
    Producer { stream: StreamId, owner: u32, number: u32 },
    /// The consumer of a `cursor` subscription.
    Consumer { stream: StreamId, gate: Gate },
    /// A consumer of a `shared` subscription.
    Member { stream: StreamId, gate: Gate, member: u32 },
}

/// Why an endpoint ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its user gave it back.
    Closed,
    /// Its user's process is gone.
    Died,
}

/// Who holds what.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Endpoint {
    pub(super) caller: Caller,
    pub(super) role: Role,
}

/// Ids of the producers of a stream, or of the consumers of a `shared` subscription: 1 to 2^`bits` − 1; 0 is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    bits: u32,
    free: BTreeSet<u32>,
    used: u32,
}

impl Ids {
    /// Ids of so many bits, none taken.
    pub const fn new(bits: u32) -> Self {
        Self { bits, free: BTreeSet::new(), used: 0 }
    }

    /// Takes the lowest free id; `None` when all are taken.
    pub fn take(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop_first() {
            return Some(id);
        }
        let next = self.used + 1;
        (next < 1 << self.bits).then(|| {
            self.used = next;
            next
        })
    }

    /// Gives an id back, after the sweep of its user.
    pub fn give_back(&mut self, id: u32) {
        self.free.insert(id);
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
            Role::Producer { stream, owner, .. } => Ok((stream, owner)),
            Role::Consumer { .. } | Role::Member { .. } => {
                refuse(RefusalCode::Invalid, format!("endpoint {} is no producer", id.0))
            }
        }
    }

    /// Gives back what a request opened that its session asks for again: it was never handed over.
    pub(super) fn end_unanswered(&mut self, caller: Caller) -> Vec<Effect> {
        let Some(id) = self.unanswered.remove(&caller.session) else { return Vec::new() };
        match self.endpoints.get(&id) {
            Some(endpoint) if endpoint.caller.request == caller.request => self.end(id, Ending::Closed),
            _ => Vec::new(),
        }
    }

    /// Releases an endpoint whose user has stopped.
    pub(super) fn end(&mut self, id: EndpointId, ending: Ending) -> Vec<Effect> {
        let Some(endpoint) = self.endpoints.remove(&id) else { return Vec::new() };
        match endpoint.role {
            Role::Producer { stream, owner, .. } => {
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
                if let Some(subscription) = found.subscription_at(gate) {
                    subscription.consumers.remove(&id);
                }
                vec![Effect::EndReader(stream, gate)]
            }
            Role::Member { stream, gate, member } => {
                let found = self.streams.get_mut(&stream).expect("an open stream is not deleted");
                let mut effects = vec![Effect::SweepMember {
                    stream,
                    gate,
                    session: endpoint.caller.session,
                    member,
                    ending,
                }];
                if let Some(subscription) = found.subscription_at(gate) {
                    subscription.consumers.remove(&id);
                    // Carried out before the next event, so before the id can be taken again.
                    subscription.member_ids.give_back(member);
                    effects.extend(subscription.activation(stream));
                }
                effects
            }
        }
    }
}
