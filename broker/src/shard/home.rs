//! Where the regions of a ring are kept.

use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::core::{Gate, StreamId};
use crate::keeper::{Entry, Estate, Keeping, Kept, Key};

/// Makes the keys of one ring.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) keeping: Arc<Keeping>,
    pub(super) shard: u32,
    pub(super) stream: StreamId,
}

impl Home {
    pub(super) fn ring(&self) -> Key {
        Key::Ring(self.shard, self.stream.0)
    }

    pub(super) fn subscription(&self, gate: Gate) -> Key {
        Key::Subscription(self.shard, self.stream.0, gate.index)
    }

    pub(super) fn lot(&self, gate: Gate) -> Key {
        Key::Lot(self.shard, self.stream.0, gate.index)
    }

    pub(super) fn member(&self, gate: Gate, member: u32) -> Key {
        Key::Member(self.shard, self.stream.0, gate.index, member)
    }

    pub(super) fn letters(&self) -> Key {
        Key::Letters(self.shard, self.stream.0)
    }

    pub(super) fn arena(&self, arena: u32) -> Key {
        Key::Arena(self.shard, self.stream.0, arena)
    }

    /// Has descriptors kept, until the handle is dropped.
    pub(super) fn keep<const COUNT: usize>(
        &self,
        key: Key,
        note: Vec<u8>,
        descriptors: [Arc<OwnedFd>; COUNT],
    ) -> Kept {
        self.keeping.keep(key, Entry { note, descriptors: descriptors.into() })
    }

    /// Takes over what a broker before had kept: so many descriptors.
    pub(super) fn adopt<const COUNT: usize>(
        &self,
        key: Key,
        estate: &mut Estate,
    ) -> Option<([Arc<OwnedFd>; COUNT], Kept)> {
        let (entry, kept) = self.keeping.adopt(key, estate)?;
        Some((entry.exactly()?, kept))
    }
}

/// A region that is kept for as long as it is here.
pub(super) struct InKeep<T> {
    region: T,
    _kept: Kept,
}

impl<T> InKeep<T> {
    pub(super) fn new(region: T, kept: Kept) -> Self {
        Self { region, _kept: kept }
    }
}

impl<T> Deref for InKeep<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.region
    }
}

impl<T> DerefMut for InKeep<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.region
    }
}
