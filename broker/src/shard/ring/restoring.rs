//! Making a ring again from what a journal says, when it is gone.
//!
//! 1. Each message is read once, and put into its slot as it is read; only what does not fit a slot, and what is in a lot, is kept in
//!    memory for a while.
//! 2. A position of which the log has no message is a tombstone.
//! 3. Nobody has the ring open before it is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::partition::{PartitionRegions, RingIdentity};
use ringway_shm_protocol::ring::Outgoing;
use ringway_shm_protocol::ring::shard::Start;

use super::{Ring, random};
use crate::core::{Body, OpenStream, OpenSubscription};
use crate::journal::disk::Disk;
use crate::journal::reading::Reading;
use crate::journal::records::{Extent, LotEntry};
use crate::journal::state::StreamState;
use crate::shard::body;
use crate::shard::home::Home;
use crate::shard::progress::Restoring;

/// Messages of a log that a slot cannot hold.
#[derive(Default)]
pub(in crate::shard) struct Left {
    /// What does not fit a slot.
    large: BTreeMap<u64, Body>,
    /// What subscriptions have in their lots.
    of_lots: BTreeMap<u64, Body>,
}

impl Ring {
    /// Makes the ring of a stream of which a journal knows, to be [filled](Self::refill) before anybody has it open.
    pub(in crate::shard) fn restore(home: Home, stream: &OpenStream) -> Result<Self, RegionError> {
        let identity = RingIdentity { incarnation: random(), geometry: stream.geometry };
        let partition = PartitionRegions::create(identity, stream.partition)?;
        let note = identity.incarnation.to_le_bytes().to_vec();
        let kept = home.keep(home.ring(), note, partition.descriptors());
        Ok(Self::of(home, kept, partition, stream.overflow))
    }

    /// Puts the messages of a log back that the ring can hold, as they are read. Returns those that do not fit a slot, and those
    /// that are in a lot.
    pub(in crate::shard) fn refill<D: Disk>(
        &mut self,
        disk: &D,
        known: &StreamState,
        restoring: &Restoring,
    ) -> io::Result<Left> {
        let (body_bytes, end) = (self.partition.identity().geometry.body_bytes(), known.end);
        let (ring, first) = (&self.partition.ring, end.saturating_sub(self.capacity()));
        let (mut reading, mut left, mut next) = (Reading::new(disk), Left::default(), first);
        let is_wanted = |extent: &&Extent| extent.end > first || known.is_in_a_lot(extent.first, extent.end);
        for extent in known.extents.iter().filter(is_wanted) {
            let before = next;
            reading.each(self.home.stream, extent, |received, body| {
                let position = received.position;
                if known.is_in_a_lot(position, position + 1) {
                    left.of_lots.insert(position, body::of_log(received, body));
                }
                if position < next {
                    return;
                }
                (next..position).for_each(|position| ring.restore(position, None));
                next = position + 1;
                let (flags, attributes, payload) =
                    (received.flags(), received.attributes(body), received.payload(body));
                let message = Outgoing { flags, attributes, payload };
                if message.body_bytes() <= body_bytes {
                    ring.restore(position, Some(&message));
                } else {
                    left.large.insert(position, body::of_log(received, body));
                }
            })?;
            restoring.add_restored(next - before);
        }
        (next..end).for_each(|position| ring.restore(position, None));
        restoring.add_restored(end - next);
        ring.restore_end(end);
        Ok(left)
    }

    /// Puts back what does not fit a slot, and the subscriptions, `known` being what a journal knows.
    pub(in crate::shard) fn restore_subscriptions(
        &mut self,
        stream: &OpenStream,
        known: &StreamState,
        Left { large, of_lots }: Left,
    ) -> Result<(), RegionError> {
        let (ring, end) = (self, known.end);
        let placements = ring.arenas.lend_all(&large, stream.geometry.body_bytes())?;
        for (position, placement) in &placements {
            ring.partition.ring.restore(*position, Some(&placement.message(&large[position])));
        }
        let arenas: BTreeSet<u32> = placements.values().flat_map(|placement| placement.arenas()).collect();
        if !arenas.is_empty() {
            ring.orphan(arenas.into_iter().collect());
        }
        if let Some(gate) = stream.journal {
            ring.join_journal(gate, stream.durability, end)?;
        }
        for OpenSubscription { gate, mode, .. } in &stream.subscriptions {
            let of_it = known.subscriptions.get(gate).cloned().unwrap_or_default();
            let at = of_it.floor.min(end);
            ring.join_at(*gate, mode, Start::At(at))?;
            let Some(shared) = ring.shared.get_mut(gate) else { continue };
            shared.restore_claims(&of_it.above, of_it.lot.keys().copied(), at..end);
            let body =
                |(position, entry): (u64, LotEntry)| Some((position, entry, of_lots.get(&position)?.clone()));
            // What is in the lot and not in the log was never confirmed.
            shared.restore(of_it.lot.into_iter().filter_map(body).collect(), of_it.dead_total);
        }
        ring.letters.restore(known.letters.values().flatten().copied());
        Ok(())
    }
}
