//! A map that notes which entries may have changed, so that exactly these are remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// See the module. Reads go to the map itself.
#[derive(Debug)]
pub(super) struct Tracked<K, V> {
    map: BTreeMap<K, V>,
    changed: BTreeSet<K>,
}

impl<K: Copy + Ord, V: Clone> Tracked<K, V> {
    pub(super) fn new() -> Self {
        Self { map: BTreeMap::new(), changed: BTreeSet::new() }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let value = self.map.get_mut(key)?;
        self.changed.insert(*key);
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.changed.insert(key);
        self.map.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.map.remove(key)?;
        self.changed.insert(*key);
        Some(value)
    }

    /// What may have changed since this was last asked, as it is now; `None`: it is gone.
    pub(super) fn take_changes(&mut self) -> Vec<(K, Option<V>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|key| (key, self.map.get(&key).cloned())).collect()
    }
}

impl<K, V> Deref for Tracked<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &BTreeMap<K, V> {
        &self.map
    }
}
