//! The gates of a partition as a producer sees them.
//!
//! `meta` holds a bit set of the gates in force and, per gate, a mirror word: where the gate stood when it joined
//! and its generation. The gate itself is the cursor in its subscription's region. A producer that has not
//! mapped that region yet uses the mirror, which the cursor never falls below: safe, only too careful.

use std::sync::atomic::Ordering;

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
    cursors: Vec<Option<(u16, M::WordHandle)>>,
}

impl<M: Memory> Gates<M> {
    /// The gates behind the bit set `active` and their mirror words, in order of their indices. Panics when there
    /// are more than [`GATES_MAX`].
    pub fn new(active: M::WordHandle, mirrors: Vec<M::WordHandle>) -> Self {
        assert!(mirrors.len() <= GATES_MAX, "a partition has at most {GATES_MAX} gates");
        let cursors = mirrors.iter().map(|_| None).collect();
        Self { active, mirrors, cursors }
    }

    /// From now on reads this generation of `gate` from its cursor. Panics when the index is out of range.
    pub fn map(&mut self, gate: u8, generation: u16, cursor: M::WordHandle) {
        self.cursors[usize::from(gate)] = Some((generation, cursor));
    }

    /// The lowest gate in force; `None` when there is none. The limit word must have been loaded before, with
    /// acquire: see invariant 3 of the [ring](crate::ring).
    pub fn lowest(&self) -> Option<Lowest> {
        // Acquire: pairs with the release of `fetch_or` in the shard's join, so that the mirror is there.
        let mut active = self.active.load(Ordering::Acquire);
        let mut lowest: Option<Lowest> = None;
        while active != 0 {
            let gate = active.trailing_zeros() as usize;
            active &= active - 1;
            let Some(mirror) = self.mirrors.get(gate) else { continue };
            let mirror = GateWord::unpack(mirror.load(Ordering::Acquire));
            let cursor = match &self.cursors[gate] {
                Some((generation, cursor)) if *generation == mirror.generation => Some(cursor),
                _ => None,
            };
            // Acquire: pairs with the release of the reader's commit, so that its loads of the slots are over.
            let position = cursor.map_or(mirror.position, |cursor| {
                CursorWord::unpack(cursor.load(Ordering::Acquire)).position
            });
            if lowest.is_none_or(|lowest| position < lowest.position) {
                let generation = mirror.generation;
                lowest = Some(Lowest { position, gate: gate as u8, generation, mapped: cursor.is_some() });
            }
        }
        lowest
    }
}
