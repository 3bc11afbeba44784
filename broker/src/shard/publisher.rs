//! The shard as a producer: publishes dead letters into a ring of its own, as owner 0, each once.
//!
//! It never waits: a ring that is full is looked at again later.

use std::collections::BTreeMap;

use ringway_shm_protocol::control::message::Overflow;
use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::partition::{
    PartitionRegions, ProducerRegions, Publishing, RingIdentity, SubscriptionRegion, open_gate,
};
use ringway_shm_protocol::ring::{Outgoing, PublishError, Ringer};
use thiserror::Error;

use super::arenas::RingArenas;
use super::body::Placement;
use super::home::InKeep;
use crate::core::{Body, Gate};

/// Why the shard could not publish.
#[derive(Debug, Error)]
pub(super) enum ShardPublishError {
    #[error("memory for it: {0}")]
    Region(#[from] RegionError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// See the module.
pub(super) struct Publisher {
    regions: ProducerRegions,
    ringer: Ringer,
}

impl Publisher {
    /// A producer of this partition.
    pub(super) fn open(
        partition: &PartitionRegions,
        overflow: Overflow,
        journaled: bool,
    ) -> Result<Self, RegionError> {
        let publishing = Publishing {
            exclusive: false,
            drops: overflow == Overflow::DropOldest,
            detaches: matches!(overflow, Overflow::Detach { .. }),
            journaled,
        };
        let descriptors = partition.for_producer()?.try_into().expect("a producer's descriptors");
        let (identity, end) = (partition.identity(), partition.ring.end());
        let regions = ProducerRegions::open(identity, descriptors, publishing, 0, end)?;
        Ok(Self { regions, ringer: Ringer::default() })
    }

    /// Publishes; returns the position, and the arenas of the shard's own that the message is in.
    pub(super) fn publish(
        &mut self,
        partition: &PartitionRegions,
        subscriptions: &BTreeMap<Gate, InKeep<SubscriptionRegion>>,
        arenas: &mut RingArenas,
        body: &Body,
        note: impl FnOnce(u64),
    ) -> Result<(u64, Vec<u32>), ShardPublishError> {
        let identity = partition.identity();
        let placement = Placement::find(body, identity.geometry.body_bytes(), arenas)?;
        match self.publish_placed(identity, subscriptions, &placement.message(body), note) {
            Ok(position) => {
                self.ringer.ring(&self.regions.data);
                Ok((position, placement.arenas().collect()))
            }
            Err(error) => {
                placement.arenas().for_each(|arena| arenas.drop(arena));
                Err(error)
            }
        }
    }

    fn publish_placed(
        &mut self,
        ring: RingIdentity,
        subscriptions: &BTreeMap<Gate, InKeep<SubscriptionRegion>>,
        message: &Outgoing<'_>,
        note: impl FnOnce(u64),
    ) -> Result<u64, ShardPublishError> {
        let mut note = Some(note);
        loop {
            let producer = self.regions.producer.as_shared().expect("it was opened as one of several");
            let told = |position| {
                if let Some(note) = note.take() {
                    note(position);
                }
            };
            match producer.publish_noted(message, told) {
                Err(PublishError::Full(full)) if !full.holder.mapped => {
                    let gate = Gate { index: full.holder.gate, generation: full.holder.generation };
                    let Some(region) = subscriptions.get(&gate) else {
                        return Err(PublishError::Full(full).into());
                    };
                    let (cursor, hazards) = open_gate(ring, &region.for_gate()?)?;
                    self.regions.producer.gates().map(gate.index, gate.generation, cursor, hazards);
                }
                done => return Ok(done?),
            }
        }
    }
}
