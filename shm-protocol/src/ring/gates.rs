//! The gates of a partition as a producer sees them.
//!
//! `meta` holds a bit set of the gates in force and, per gate, a mirror word: where the gate stood when it joined
//! and its generation. The gate itself is the cursor in its subscription's region. A producer that has not
//! mapped that region yet uses the mirror, which the cursor never falls below: safe, only too careful.

use std::sync::atomic::Ordering;

use super::hazards::Hazards;
use crate::layout::GATES_MAX;
use crate::memory::{Memory, Word};
use crate::words::{CursorWord, GateWord};

/// The lowest gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lowest {
    /// Its position: everything below is free.
    pub position: u64,
    /// Its index, 0 to 63.
    pub gate: u8,
    /// Its generation.
    pub generation: u16,
    /// Its cursor is mapped; otherwise `position` is the mirror's and may be far too low.
    pub mapped: bool,
}

/// The gates of one partition.
pub struct Gates<M: Memory> {
    active: M::WordHandle,
    mirrors: Vec<M::WordHandle>,
    mapped: Vec<Option<MappedGate<M>>>,
}

/// A gate whose subscription's region is mapped.
struct MappedGate<M: Memory> {
    generation: u16,
    cursor: M::WordHandle,
    hazards: Hazards<M>,
}

impl<M: Memory> Gates<M> {
    /// The gates behind the bit set `active` and their mirror words, in order of their indices. Panics when there
    /// are more than [`GATES_MAX`].
    pub fn new(active: M::WordHandle, mirrors: Vec<M::WordHandle>) -> Self {
        assert!(mirrors.len() <= GATES_MAX, "a partition has at most {GATES_MAX} gates");
        let mapped = mirrors.iter().map(|_| None).collect();
        Self { active, mirrors, mapped }
    }

    /// From now on reads this generation of `gate` from its cursor. Panics when the index is out of range.
    pub fn map(&mut self, gate: u8, generation: u16, cursor: M::WordHandle, hazards: Hazards<M>) {
        self.mapped[usize::from(gate)] = Some(MappedGate { generation, cursor, hazards });
    }

    /// The lowest gate in force; `None` when there is none. The limit word must have been loaded before, with
    /// acquire: see invariant 3 of the [ring](crate::ring).
    pub fn lowest(&self) -> Option<Lowest> {
        self.in_force().map(|(lowest, _)| lowest).min_by_key(|lowest| lowest.position)
    }

    /// How many are in force.
    pub(super) fn count(&self) -> u32 {
        self.active.load(Ordering::Acquire).count_ones()
    }

    /// Adds the positions that readers hold in place to `positions`. The limit word must have been loaded before,
    /// with acquire. Fails with a gate that is not mapped: what its readers hold is not known.
    pub(super) fn hazards(&self, positions: &mut Vec<u64>) -> Result<(), Lowest> {
        for (gate, mapped) in self.in_force() {
            mapped.ok_or(gate)?.hazards.collect(positions);
        }
        Ok(())
    }

    /// The gates in force as they stand, and what is mapped of each.
    fn in_force(&self) -> impl Iterator<Item = (Lowest, Option<&MappedGate<M>>)> {
        // Acquire: pairs with the release of `fetch_or` in the shard's join, so that the mirror is there.
        let mut active = self.active.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            let gate = (active != 0).then(|| active.trailing_zeros() as usize)?;
            active &= active - 1;
            Some(gate)
        })
        .filter_map(|gate| {
            let mirror = GateWord::unpack(self.mirrors.get(gate)?.load(Ordering::Acquire));
            let mapped = self.mapped[gate].as_ref().filter(|mapped| mapped.generation == mirror.generation);
            // Acquire: pairs with the release of the reader's commit, so that its loads of the slots are over.
            let position = mapped.map_or(mirror.position, |mapped| {
                CursorWord::unpack(mapped.cursor.load(Ordering::Acquire)).position
            });
            let generation = mirror.generation;
            Some((Lowest { position, gate: gate as u8, generation, mapped: mapped.is_some() }, mapped))
        })
    }
}
