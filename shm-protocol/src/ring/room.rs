//! How far a producer may go: its private copy of the limit, and the raising of the shared one.
//!
//! 1. The private copy is never above the shared limit, which is never above the lowest gate + capacity.
//! 2. The shared limit is loaded before the gates and raised by an exchange that fails when a gate joined
//!    meanwhile: see invariant 3 of the [ring](super).
//! 3. A gate counts for no more than what the log has reached, whatever its cursor says: everything below
//!    limit − capacity is taken.

use std::sync::atomic::Ordering;

use super::gates::{Gates, Lowest};
use super::producer::{Full, PublishError};
use crate::layout::Geometry;
use crate::memory::{Memory, Word};
use crate::stops;
use crate::words::LimitWord;

/// See the module.
pub struct Room<M: Memory> {
    geometry: Geometry,
    limit: M::WordHandle,
    gates: Gates<M>,
    allowed: u64,
    /// How much further than wanted the limit is raised where no gate holds it, in positions.
    ahead: u64,
    /// Readers may look at a slot while it is overwritten: they validate.
    overtakes: bool,
    /// One of the gates is the journal's, which nobody reads by.
    journaled: bool,
}

impl<M: Memory> Room<M> {
    /// The room of a producer that retains: without a gate the limit rises by what is published and no more, so
    /// that the ring always holds the last *capacity* messages for a subscription that joins.
    pub fn retaining(geometry: Geometry, limit: M::WordHandle, gates: Gates<M>) -> Self {
        Self { geometry, limit, gates, allowed: 0, ahead: 0, overtakes: false, journaled: false }
    }

    /// The same where a gate that lags may be taken out of force while its reader is at work.
    pub fn detaching(geometry: Geometry, limit: M::WordHandle, gates: Gates<M>) -> Self {
        Self { overtakes: true, ..Self::retaining(geometry, limit, gates) }
    }

    /// The room of a producer that drops the oldest: no reader ever holds it, so the limit rises by an eighth of
    /// the ring at a time, and most messages cost no exchange.
    pub fn dropping(geometry: Geometry, limit: M::WordHandle, gates: Gates<M>) -> Self {
        Self { ahead: (geometry.capacity() / 8).max(1), ..Self::detaching(geometry, limit, gates) }
    }

    /// The same where one of the gates is the journal's: where there is no other, the ring holds the last *capacity* messages all the
    /// same.
    pub fn journaled(self) -> Self {
        Self { journaled: true, ..self }
    }

    /// Whether nobody reads the ring but the journal.
    fn has_no_reader(&self) -> bool {
        self.journaled && self.gates.count() <= 1
    }

    /// The gates, to map a cursor.
    pub(super) fn gates(&mut self) -> &mut Gates<M> {
        &mut self.gates
    }

    /// Makes sure that `position` may be taken, which everything below has been.
    #[inline]
    pub(super) fn allow(&mut self, position: u64) -> Result<(), PublishError> {
        if position < self.allowed { Ok(()) } else { self.raise(position, position + 1) }
    }

    /// Raises the shared limit to at least `wanted`, or as far as the gates allow; the log has reached `end`.
    #[cold]
    pub(super) fn raise(&mut self, end: u64, wanted: u64) -> Result<(), PublishError> {
        let positions = self.geometry.position_end();
        if wanted > positions {
            return Err(PublishError::Exhausted { positions });
        }
        loop {
            // Acquire, before the gates are read: pairs with the release in the shard's join.
            let found = self.limit.load(Ordering::Acquire);
            let limit = LimitWord::unpack(found);
            if limit.position >= wanted {
                // Whoever has forged a limit beyond the last position makes no further one.
                self.allowed = limit.position.min(positions);
                return Ok(());
            }
            let lowest = self.gates.lowest();
            let passed = |gate: Lowest| gate.position.min(end);
            let target = lowest.map_or(wanted + self.ahead, |gate| passed(gate) + self.geometry.capacity());
            let target = if self.has_no_reader() { target.min(wanted + self.ahead) } else { target };
            let target = target.min(positions);
            if let Some(holder) = lowest
                && target < wanted
            {
                return Err(PublishError::Full(Full { holder, position: end }));
            }
            // Release: whoever acts on the new limit also sees that the gates have passed. Fails when a gate
            // joined or another producer raised it meanwhile; then everything is looked at again.
            let raised = LimitWord { position: target, ..limit };
            let _ = self.limit.compare_exchange(found, raised.pack(), Ordering::AcqRel, Ordering::Relaxed);
            stops::at("limit.raised");
        }
    }

    /// First position that a reader may still begin to read, and be sure of: everything below has been passed by every
    /// gate, and by every gate that will ever join. The log has reached `end`. Fails when the lowest gate is not
    /// mapped, so that nobody knows how far it is.
    pub(super) fn retained_from(&mut self, end: u64) -> Result<u64, PublishError> {
        let capacity = self.geometry.capacity();
        if self.drops() {
            // These slots are taken by later messages. Release: their readers, who look at the slot again after they
            // have copied (acquire fence), see that if they have copied anything newer.
            M::release_fence();
            return Ok(end.saturating_sub(capacity));
        }
        if let Some(holder) = self.gates.lowest() {
            if !holder.mapped {
                return Err(PublishError::Full(Full { holder, position: end }));
            }
            if !self.has_no_reader() {
                // No loss: what the gates have passed nobody asks for again. It may be higher already.
                let _ = self.raise(end, holder.position.min(end) + capacity);
            }
        }
        // Acquire: pairs with the raise, and through it with the commits of the readers.
        Ok(LimitWord::unpack(self.limit.load(Ordering::Acquire)).position.saturating_sub(capacity))
    }

    /// Gives up everything up to `position`, unless a gate holds it: a subscription that joins later begins behind it.
    pub(super) fn give_up(&mut self, end: u64, position: u64) -> Result<(), PublishError> {
        self.raise(end, position + 1 + self.geometry.capacity())
    }

    /// Whether readers may look at a slot while it is overwritten.
    #[inline]
    pub(super) fn overtakes(&self) -> bool {
        self.overtakes
    }

    /// Whether producers overwrite the oldest messages without asking anybody.
    pub(super) fn drops(&self) -> bool {
        self.ahead > 0
    }

    /// Adds the positions that readers hold in place to `positions`.
    pub(super) fn hazards(&self, positions: &mut Vec<u64>) -> Result<(), PublishError> {
        if self.drops() {
            return Ok(());
        }
        let unknown = |holder| PublishError::Full(Full { holder, position: holder.position });
        self.gates.hazards(positions).map_err(unknown)
    }
}
