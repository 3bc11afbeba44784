//! A log in memory that outlives the process: what a successor must know and no ring says.
//!
//! ```text
//! bytes u64 │ records (postcard) ┊ bytes u64 │ records ┊ …        one batch for each commit, appended by one write
//! ```
//!
//! 1. Records say how something is, not how it has changed; the last one about a thing counts.
//! 2. A batch counts as a whole: one that its writer did not live to finish is shorter than it says, and is passed over.
//!    The host's death is not survived, so nothing is synced and nothing is checksummed.
//! 3. A log that has grown is written anew, as one snapshot in another memfd; the keeper holds either the one or the other.
//! 4. Without a keeper there is no successor, and nothing is written.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ringway_shm_protocol::stops;
use rustix::fs::{MemfdFlags, Mode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::keeper::{Entry, Keeping, Kept, Key};

/// Bytes in front of a batch.
const PREFIX_BYTES: usize = 8;
/// A log is written anew when it has grown by this, and by twice what the snapshot at its beginning has.
const GROWTH_BYTES: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    keeping: Arc<Keeping>,
    key: Key,
    has_keeper: bool,
    /// `None`: nothing has been written yet.
    written: Option<Written>,
    batch: Vec<u8>,
}

#[derive(Debug)]
struct Written {
    memory: Arc<OwnedFd>,
    /// A successor finds all up to here.
    end: u64,
    snapshot_bytes: u64,
    /// A batch could not be written.
    lacks: bool,
    kept: Kept,
}

impl MemoryLog {
    /// An empty log.
    pub(crate) fn new(keeping: &Arc<Keeping>, key: Key) -> Self {
        let (has_keeper, batch) = (keeping.has_keeper(), vec![0; PREFIX_BYTES]);
        Self { keeping: Arc::clone(keeping), key, has_keeper, written: None, batch }
    }

    /// The records of a log that a process which is gone has written, in order.
    pub(crate) fn read<T: DeserializeOwned>(entry: &Entry) -> io::Result<Vec<T>> {
        let invalid = |detail: String| io::Error::new(io::ErrorKind::InvalidData, detail);
        let [file] = entry.exactly().ok_or_else(|| invalid("a log without its memory".to_owned()))?;
        let file = File::from(file.try_clone()?);
        let mut bytes = vec![0; file.metadata()?.len() as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let (mut rest, mut records) = (&bytes[..], Vec::new());
        while let Some((prefix, behind)) = rest.split_first_chunk::<PREFIX_BYTES>()
            && let Some((mut batch, behind)) = behind.split_at_checked(u64::from_le_bytes(*prefix) as usize)
        {
            rest = behind;
            while !batch.is_empty() {
                let (record, left) =
                    postcard::take_from_bytes(batch).map_err(|error| invalid(error.to_string()))?;
                records.push(record);
                batch = left;
            }
        }
        Ok(records)
    }

    /// Adds a record to the batch.
    pub(crate) fn push(&mut self, record: &impl Serialize) {
        if self.has_keeper {
            let batch = std::mem::take(&mut self.batch);
            self.batch = postcard::to_extend(record, batch).expect("a record can be written to memory");
        }
    }

    /// Writes the batch: from here on a successor knows it. `false`: the log is to be [written anew](Self::rewrite).
    #[must_use]
    pub(crate) fn commit(&mut self) -> bool {
        if self.batch.len() == PREFIX_BYTES {
            return true;
        }
        let Some(written) = &mut self.written else { return false };
        finish(&mut self.batch);
        match write_all_at(&written.memory, &self.batch, written.end) {
            Ok(()) if !written.lacks => written.end += self.batch.len() as u64,
            // What was written of it must not be taken for the beginning of another.
            _ => {
                written.lacks = true;
                let _ = rustix::fs::ftruncate(&written.memory, written.end);
            }
        }
        stops::at("log.written");
        self.batch.truncate(PREFIX_BYTES);
        !written.lacks && written.end - written.snapshot_bytes < GROWTH_BYTES + 2 * written.snapshot_bytes
    }

    /// Writes the log anew: these records are all that there is. Where memory has run out, the log before stays, and the
    /// next commit asks again.
    pub(crate) fn rewrite(&mut self, records: impl Iterator<Item = impl Serialize>) {
        self.batch.truncate(PREFIX_BYTES);
        records.for_each(|record| self.push(&record));
        finish(&mut self.batch);
        if let Ok(memory) = written_memory(&self.batch) {
            stops::at("log.snapshot");
            let end = self.batch.len() as u64;
            let entry = Entry { note: Vec::new(), descriptors: vec![Arc::clone(&memory)] };
            let kept = match self.written.take() {
                Some(Written { kept, .. }) => {
                    self.keeping.replace(&kept, entry);
                    kept
                }
                None => self.keeping.keep(self.key, entry),
            };
            stops::at("log.replaced");
            self.written = Some(Written { memory, end, snapshot_bytes: end, lacks: false, kept });
        }
        self.batch.truncate(PREFIX_BYTES);
        self.batch.shrink_to(GROWTH_BYTES as usize);
    }
}

/// Writes the length into the prefix.
fn finish(batch: &mut [u8]) {
    let bytes = (batch.len() - PREFIX_BYTES) as u64;
    batch[..PREFIX_BYTES].copy_from_slice(&bytes.to_le_bytes());
}

fn written_memory(batch: &[u8]) -> io::Result<Arc<OwnedFd>> {
    let memory = rustix::fs::memfd_create("ringway-log", MemfdFlags::CLOEXEC)?;
    rustix::fs::fchmod(&memory, Mode::RUSR | Mode::WUSR)?;
    write_all_at(&memory, batch, 0)?;
    Ok(Arc::new(memory))
}

fn write_all_at(memory: &OwnedFd, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(memory, bytes, at))?;
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::{Link, Message};

    const KEY: Key = Key::Catalogue(0);

    /// What a broker has kept by a keeper, whose end comes first.
    fn keeping() -> (Link, Arc<Keeping>) {
        let (keeper, broker) = Link::pair().unwrap();
        keeper.send(&Message::All, &[]).unwrap();
        (keeper, Keeping::begin(broker).unwrap().0)
    }

    /// What the keeper was given last.
    fn kept(keeper: &Link) -> Entry {
        match keeper.receive().unwrap() {
            Some((Message::Keep(KEY, note), descriptors)) => {
                Entry { note, descriptors: descriptors.into_iter().map(Arc::new).collect() }
            }
            other => panic!("{other:?}"),
        }
    }

    fn read(entry: &Entry) -> Vec<u64> {
        MemoryLog::read(entry).unwrap()
    }

    #[test]
    fn a_batch_counts_as_a_whole_wherever_its_writer_was_cut_off() {
        let (keeper, keeping) = keeping();
        let mut log = MemoryLog::new(&keeping, KEY);
        log.rewrite([1_u64, 2].into_iter());
        for batch in [&[300_u64][..], &[4, 500_000, 6], &[7]] {
            batch.iter().for_each(|record| log.push(record));
            assert!(log.commit());
        }
        let entry = kept(&keeper);
        let [memory] = entry.exactly().unwrap();
        // Two records of one byte each; one of two; one, three and one; one.
        let ends = [(10, 2), (20, 3), (33, 6), (42, 7)];
        assert_eq!(entry.bytes(), ends[3].0);
        for length in (0..=entry.bytes()).rev() {
            rustix::fs::ftruncate(&memory, length).unwrap();
            let whole = ends.iter().rev().find(|(end, _)| *end <= length).map_or(0, |(_, records)| *records);
            assert_eq!(read(&entry), [1, 2, 300, 4, 500_000, 6, 7][..whole], "cut at {length}");
        }
    }

    #[test]
    fn a_log_that_has_grown_is_written_anew_in_other_memory_and_both_can_be_read() {
        let (keeper, keeping) = keeping();
        let mut log = MemoryLog::new(&keeping, KEY);
        log.push(&1_u64);
        assert!(!log.commit(), "there is nothing yet that could be added to");
        log.rewrite([1_u64].into_iter());
        let first = kept(&keeper);
        let mut records = 1;
        loop {
            records += 1;
            log.push(&records);
            if !log.commit() {
                break;
            }
        }
        assert!(first.bytes() > GROWTH_BYTES);
        assert_eq!(read(&first).len() as u64, records);
        log.rewrite([records].into_iter());
        let second = kept(&keeper);
        log.push(&0_u64);
        assert!(log.commit());
        assert_eq!(read(&second), [records, 0]);
        assert_eq!(read(&first).len() as u64, records, "who was about to read it has it whole");
    }

    #[test]
    fn without_a_keeper_nothing_is_written() {
        let mut log = MemoryLog::new(&Arc::default(), KEY);
        log.push(&1_u64);
        assert!(log.commit() && log.written.is_none());
    }
}
