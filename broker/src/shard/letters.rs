//! Which dead letters a ring has got: a shard that does not know any more whether it has sent one sends it again.
//!
//! 1. Where a letter goes is remembered between taking its slot and writing it. A slot that is still reserved under a
//!    successor was not written; any other was.
//! 2. A shard has at most [`LETTERS_MAX`] letters under way, and hears of them in the order in which a ring has got them. So as
//!    many of the last of each shard are all that can be asked for.

use std::collections::{BTreeMap, VecDeque};

use ringway_shm_protocol::partition::PartitionRegions;
use ringway_shm_protocol::stops;

use super::AdoptError;
use super::home::Home;
use crate::core::{Grave, LETTERS_MAX};
use crate::keeper::Estate;
use crate::memory_log::MemoryLog;

/// See the module.
pub(super) struct Letters {
    log: MemoryLog,
    /// By the shard that they come from: the letter, and its position.
    last: BTreeMap<u32, VecDeque<(Grave, u64)>>,
}

impl Letters {
    /// None so far.
    pub(super) fn new(home: &Home) -> Self {
        Self { log: MemoryLog::new(&home.keeping, home.letters()), last: BTreeMap::new() }
    }

    /// Those that a shard which is gone has published, before what it was publishing is buried.
    pub(super) fn adopt(
        &mut self,
        home: &Home,
        partition: &PartitionRegions,
        estate: &mut Estate,
    ) -> Result<(), AdoptError> {
        let Some(before) = estate.remove(&home.letters()) else { return Ok(()) };
        for (grave, position) in MemoryLog::read(&before)? {
            if !partition.ring.is_reserved(position, 0) {
                self.insert(grave, position);
            }
        }
        self.log.rewrite(self.last.values().flatten());
        Ok(())
    }

    /// Where this one is in the ring, or was.
    pub(super) fn find(&self, grave: Grave) -> Option<u64> {
        let mut last = self.last.get(&grave.shard)?.iter();
        last.find(|(known, _)| *known == grave).map(|(_, position)| *position)
    }

    /// The last of each shard, with their positions.
    pub(super) fn all(&self) -> impl Iterator<Item = &(Grave, u64)> {
        self.last.values().flatten()
    }

    /// Those that a journal knows of.
    pub(super) fn restore(&mut self, letters: impl Iterator<Item = (Grave, u64)>) {
        letters.for_each(|(grave, position)| self.insert(grave, position));
        self.log.rewrite(self.last.values().flatten());
    }

    /// This one is about to be written at `position`.
    pub(super) fn note(&mut self, grave: Grave, position: u64) {
        self.insert(grave, position);
        self.log.push(&(grave, position));
        if !self.log.commit() {
            self.log.rewrite(self.last.values().flatten());
        }
        stops::at("letter.noted");
    }

    fn insert(&mut self, grave: Grave, position: u64) {
        let last = self.last.entry(grave.shard).or_default();
        if last.len() == LETTERS_MAX {
            last.pop_front();
        }
        last.push_back((grave, position));
    }
}
