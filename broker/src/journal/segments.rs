//! The files of a journal: what they are called, and how one becomes part of it.
//!
//! ```text
//! segment-0000000000000007     spare-0000000000000003     snapshot-00000000000000081234     new
//! ```
//!
//! 1. A segment has its name only when its header is on the device: written under another name, synced, renamed, the
//!    directory synced.
//! 2. A segment that is not needed any more becomes a spare: its blocks are written already, which makes the next use of them
//!    nearly twice as fast.
//! 3. One spare is kept for the next start, which could not make a segment on a disk that is full.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use ringway_shm_protocol::stops;

use super::disk::Disk;
use super::format::{FIRST_BATCH, SegmentHeader};

/// A file that is being made.
pub(crate) const NEW: &str = "new";
/// Spares that are kept: one is being filled, one will be, and the reserve.
const SPARES_MAX: usize = 3;
/// Spares that only a start may take: it needs a segment of its own, also when the disk is full.
pub(crate) const RESERVE: usize = 1;

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// A segment with its number.
    Segment(u64),
    /// A file that was one.
    Spare(u64),
    /// A snapshot of the state below this LSN.
    Snapshot(u64),
}

impl Name {
    /// Reads a name; `None`: it is none of the journal's.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (kind, number) = name.split_once('-')?;
        let made = |name: Self| (name.to_string() == format!("{kind}-{number}")).then_some(name);
        let number = number.parse().ok()?;
        match kind {
            "segment" => made(Self::Segment(number)),
            "spare" => made(Self::Spare(number)),
            "snapshot" => made(Self::Snapshot(number)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segment(number) => write!(formatter, "segment-{number:016}"),
            Self::Spare(number) => write!(formatter, "spare-{number:016}"),
            Self::Snapshot(lsn) => write!(formatter, "snapshot-{lsn:020}"),
        }
    }
}

/// A segment that can be written to.
pub(crate) struct OpenSegment<File> {
    pub(crate) file: Arc<File>,
    pub(crate) header: SegmentHeader,
    /// Where the next batch goes, in bytes.
    pub(crate) at: u64,
}

/// Makes a segment with this header, of a spare if there are more than so many.
pub(crate) fn prepare<D: Disk>(
    disk: &D,
    header: SegmentHeader,
    reserve: usize,
) -> io::Result<OpenSegment<D::File>> {
    let spare = spares(disk)?.into_iter().nth(reserve);
    let (name, file) = match spare {
        Some(spare) => {
            let file = disk.open(&spare)?;
            // One of another size is of no use.
            if disk.bytes(&file)? == header.bytes {
                (spare, file)
            } else {
                drop(file);
                disk.remove(&spare)?;
                (NEW.to_owned(), disk.create(NEW, header.bytes)?)
            }
        }
        None => (NEW.to_owned(), disk.create(NEW, header.bytes)?),
    };
    stops::at("segment.made");
    let block = header.to_block();
    let made = disk
        .write(&file, 0, &block)
        .inspect(|()| stops::at("segment.headed"))
        .and_then(|()| disk.sync(&file))
        .inspect(|()| stops::at("segment.synced"))
        .and_then(|()| disk.rename(&name, &Name::Segment(header.segment).to_string()))
        .inspect(|()| stops::at("segment.named"))
        .and_then(|()| disk.sync_directory())
        .inspect(|()| stops::at("segment.durable"));
    if let Err(error) = made {
        let _ = disk.remove(NEW);
        return Err(error);
    }
    let header = SegmentHeader::parse(&block).expect("it has just been made");
    Ok(OpenSegment { file: Arc::new(file), header, at: FIRST_BATCH })
}

/// A segment that was written before, as one that has no room.
pub(crate) fn open_full<D: Disk>(disk: &D, header: SegmentHeader) -> io::Result<OpenSegment<D::File>> {
    let file = Arc::new(disk.open(&Name::Segment(header.segment).to_string())?);
    Ok(OpenSegment { file, header, at: header.bytes })
}

/// Makes the reserve, of so many bytes, if it is not there.
pub(crate) fn keep_reserve<D: Disk>(disk: &D, bytes: u64) -> io::Result<()> {
    if spares(disk)?.len() < RESERVE {
        disk.create(NEW, bytes)?;
        stops::at("reserve.made");
        disk.rename(NEW, &Name::Spare(0).to_string())?;
        stops::at("reserve.named");
        disk.sync_directory()?;
        stops::at("reserve.durable");
    }
    Ok(())
}

/// Whether the reserve is not there, and there is no room for one of so many bytes.
pub(crate) fn lacks_reserve<D: Disk>(disk: &D, bytes: u64) -> io::Result<bool> {
    Ok(spares(disk)?.len() < RESERVE && disk.free()? < bytes)
}

/// Gives a spare back to the file system, for something that is needed more. `false`: there is none.
pub(crate) fn remove_spare<D: Disk>(disk: &D) -> io::Result<bool> {
    match spares(disk)?.last() {
        Some(spare) => disk.remove(spare).map(|()| true),
        None => Ok(false),
    }
}

/// The names of the spares.
fn spares<D: Disk>(disk: &D) -> io::Result<Vec<String>> {
    let names = disk.list()?.into_iter();
    Ok(names.filter(|name| matches!(Name::parse(name), Some(Name::Spare(_)))).collect())
}

/// Makes spares of the segments behind the last one that holds something: they were prepared by a broker that is gone, and if there
/// is anything in them, it was never confirmed.
pub(crate) fn spare_unused<D: Disk>(disk: &D, last: u64) -> io::Result<()> {
    for name in disk.list()?.iter().filter_map(|name| Name::parse(name)) {
        if let Name::Segment(number) = name
            && number > last
        {
            disk.rename(&name.to_string(), &Name::Spare(number).to_string())?;
            stops::at("segment.unused");
        }
    }
    disk.sync_directory()
}

/// What must stay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needed {
    /// Segments with something that somebody may ask for.
    pub(crate) segments: BTreeSet<u64>,
    /// All segments from this one on.
    pub(crate) from_segment: u64,
    /// The older one of the snapshots.
    pub(crate) from_snapshot: u64,
}

/// Gives up the other segments and snapshots.
pub(crate) fn give_up<D: Disk>(disk: &D, needed: &Needed) -> io::Result<()> {
    let mut spares = spares(disk)?.len();
    let mut names: Vec<_> = disk.list()?.iter().filter_map(|name| Name::parse(name)).collect();
    names.sort_unstable();
    for name in names {
        match name {
            Name::Segment(number) if number < needed.from_segment && !needed.segments.contains(&number) => {
                if spares < SPARES_MAX {
                    disk.rename(&name.to_string(), &Name::Spare(number).to_string())?;
                    spares += 1;
                } else {
                    disk.remove(&name.to_string())?;
                }
                stops::at("segment.given-up");
            }
            Name::Snapshot(lsn) if lsn < needed.from_snapshot => {
                disk.remove(&name.to_string())?;
                stops::at("snapshot.given-up");
            }
            _ => {}
        }
    }
    // A spare that is used again must not have its old name after a crash.
    disk.sync_directory().inspect(|()| stops::at("given-up.durable"))
}
