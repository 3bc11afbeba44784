//! What a successor must know of a `shared` subscription: the lot, the messages in it, and what was judged.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::Body;
use crate::core::lot::{Lot, LotRecord};
use crate::keeper::{Entry, Keeping, Key};
use crate::memory_log::MemoryLog;

/// How something is. `B`: a body, or a reference to one.
#[derive(Debug, Serialize, Deserialize)]
enum Record<B> {
    /// Of the lot.
    Lot(LotRecord),
    /// The message of a position that enters the lot.
    Body(u64, B),
    /// How many settlements of a member were judged, and how many of them came too late.
    Judged(u32, Progress),
    /// How many messages have died.
    DeadTotal(u64),
}

/// Settlements judged, and those of them that came too late.
pub(crate) type Progress = (u64, u64);

/// What was remembered.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    pub(crate) lot: Vec<LotRecord>,
    pub(crate) bodies: BTreeMap<u64, Body>,
    pub(crate) judged: BTreeMap<u32, Progress>,
    pub(crate) dead_total: u64,
}

/// Everything that there is, for a log that is written anew.
pub(super) struct Snapshot<'a> {
    pub(super) bodies: &'a BTreeMap<u64, Body>,
    pub(super) judged: &'a BTreeMap<u32, Progress>,
    pub(super) dead_total: u64,
}

/// See the module.
pub(crate) struct LotLog(MemoryLog);

impl LotLog {
    /// An empty log.
    pub(super) fn new(keeping: &Arc<Keeping>, key: Key) -> Self {
        Self(MemoryLog::new(keeping, key))
    }

    /// What a log says whose writer is gone.
    pub(crate) fn read(entry: &Entry) -> io::Result<Remembered> {
        let mut remembered = Remembered::default();
        for record in MemoryLog::read(entry)? {
            match record {
                Record::Lot(record) => remembered.lot.push(record),
                Record::Body(position, body) => {
                    remembered.bodies.insert(position, body);
                }
                Record::Judged(member, progress) => {
                    remembered.judged.insert(member, progress);
                }
                Record::DeadTotal(total) => remembered.dead_total = total,
            }
        }
        Ok(remembered)
    }

    /// A message enters the lot.
    pub(super) fn body(&mut self, position: u64, body: &Body) {
        self.0.push(&Record::Body(position, body));
    }

    /// So many settlements of a member are judged.
    pub(super) fn judged(&mut self, member: u32, progress: Progress) {
        self.0.push(&Record::<&Body>::Judged(member, progress));
    }

    /// So many messages have died.
    pub(super) fn dead_total(&mut self, total: u64) {
        self.0.push(&Record::<&Body>::DeadTotal(total));
    }

    /// From here on a successor knows all that was said, and what has changed in the lot; `changed` is told what that is.
    pub(super) fn commit(&mut self, lot: &mut Lot, snapshot: Snapshot<'_>, mut changed: impl FnMut(u64)) {
        for record in lot.take_changes() {
            if let Some(position) = record.position() {
                changed(position);
            }
            self.0.push(&Record::<&Body>::Lot(record));
        }
        if !self.0.commit() {
            self.rewrite(lot, snapshot);
        }
    }

    /// Writes the log anew.
    pub(super) fn rewrite(&mut self, lot: &Lot, Snapshot { bodies, judged, dead_total }: Snapshot<'_>) {
        let bodies = bodies.iter().map(|(position, body)| Record::Body(*position, body));
        let judged = judged.iter().map(|(member, progress)| Record::Judged(*member, *progress));
        let rest = judged.chain([Record::DeadTotal(dead_total)]);
        self.0.rewrite(lot.records().map(Record::Lot).chain(bodies).chain(rest));
    }
}
