//! A snapshot: what the log says up to some record, in a file of its own.
//!
//! ```text
//! ├ magic 8 ┼ checksum 8 ┼ version 4 ┼ 0 4 ┼ bytes 8 ┼ lsn 8 ┼ checksum of the last batch 8 ┼ segment 8 ┼ offset 8 ┼ state records ┼ zeros ┤
//! ```
//!
//! 1. It is written only when the log is durable up to its record, under another name, and renamed when it is on the device.
//! 2. It holds no messages: it says where they are.

use std::io;

use ringway_shm_protocol::stops;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::disk::Disk;
use super::format::{BLOCK_BYTES, FIRST_BATCH, FORMAT_VERSION};
use super::records::{Record, encode, records};
use super::segments::{NEW, Name};
use super::state::State;

/// "RINGSNP1" in file order.
pub(crate) const SNAPSHOT_MAGIC: u64 = u64::from_le_bytes(*b"RINGSNP1");
const CHECKED_FROM: usize = 16;

/// The first bytes of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct SnapshotHeader {
    /// [`SNAPSHOT_MAGIC`].
    pub(crate) magic: u64,
    /// Of everything behind this word.
    pub(crate) checksum: u64,
    /// [`FORMAT_VERSION`].
    pub(crate) version: u32,
    /// Zero.
    pub(crate) reserved: u32,
    /// Bytes of the state records.
    pub(crate) bytes: u64,
    /// The log up to here, and not this record.
    pub(crate) lsn: u64,
    /// The checksum of the last batch.
    pub(crate) last_checksum: u64,
    /// The segment that the log goes on in.
    pub(crate) segment: u64,
    /// The byte of the segment that it goes on at.
    pub(crate) offset: u64,
}

/// A state, and where the log goes on.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) lsn: u64,
    pub(crate) checksum: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) state: State,
}

/// Why a file is no snapshot.
#[derive(Debug, Error)]
pub(crate) enum SnapshotError {
    #[error(transparent)]
    Io(io::Error),
    #[error("damaged: {0}")]
    Damaged(&'static str),
    #[error(
        "it has format version {found}, and this ringway reads version {FORMAT_VERSION}: use the one that wrote it"
    )]
    Version { found: u32 },
}

impl Snapshot {
    /// Nothing, at the beginning of a segment.
    pub(crate) fn nothing(segment: u64) -> Self {
        Self { lsn: 0, checksum: 0, segment, offset: FIRST_BATCH, state: State::default() }
    }
}

/// A snapshot as it is written: whole blocks.
pub(crate) fn to_bytes(
    lsn: u64,
    last_checksum: u64,
    (segment, offset): (u64, u64),
    state: &State,
) -> Vec<u8> {
    let mut header = SnapshotHeader {
        magic: SNAPSHOT_MAGIC,
        checksum: 0,
        version: FORMAT_VERSION,
        reserved: 0,
        bytes: 0,
        lsn,
        last_checksum,
        segment,
        offset,
    };
    let mut bytes = header.as_bytes().to_vec();
    state.records().for_each(|record| bytes.extend_from_slice(&encode(&record)));
    header.bytes = (bytes.len() - size_of_val(&header)) as u64;
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes[..size_of_val(&header)].copy_from_slice(header.as_bytes());
    let checksum = xxh3_64_with_seed(&bytes[CHECKED_FROM..], SNAPSHOT_MAGIC);
    bytes[8..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Puts a snapshot where it is found.
pub(crate) fn write<D: Disk>(disk: &D, lsn: u64, bytes: &[u8]) -> io::Result<()> {
    let name = format!("{NEW}-snapshot");
    let _ = disk.remove(&name);
    let file = disk.create(&name, bytes.len() as u64)?;
    stops::at("snapshot.made");
    let written = disk
        .write(&file, 0, bytes)
        .inspect(|()| stops::at("snapshot.written"))
        .and_then(|()| disk.sync(&file))
        .inspect(|()| stops::at("snapshot.synced"))
        .and_then(|()| disk.rename(&name, &Name::Snapshot(lsn).to_string()))
        .inspect(|()| stops::at("snapshot.named"))
        .and_then(|()| disk.sync_directory())
        .inspect(|()| stops::at("snapshot.durable"));
    if written.is_err() {
        let _ = disk.remove(&name);
    }
    written
}

/// Reads a snapshot.
pub(crate) fn read<D: Disk>(disk: &D, name: &str) -> Result<Snapshot, SnapshotError> {
    let file = disk.open(name).map_err(SnapshotError::Io)?;
    let length = disk.bytes(&file).map_err(SnapshotError::Io)? as usize;
    let mut bytes = vec![0; length / BLOCK_BYTES * BLOCK_BYTES];
    disk.read(&file, 0, &mut bytes).map_err(SnapshotError::Io)?;
    let parsed = SnapshotHeader::read_from_prefix(&bytes);
    let (header, behind) = parsed.map_err(|_| SnapshotError::Damaged("it is too short"))?;
    if header.magic != SNAPSHOT_MAGIC {
        return Err(SnapshotError::Damaged("it does not begin with a snapshot's header"));
    }
    if header.checksum != xxh3_64_with_seed(&bytes[CHECKED_FROM..], SNAPSHOT_MAGIC) {
        return Err(SnapshotError::Damaged("its checksum does not match"));
    }
    if header.version != FORMAT_VERSION {
        return Err(SnapshotError::Version { found: header.version });
    }
    let body = behind.get(..header.bytes as usize).ok_or(SnapshotError::Damaged("it is too short"))?;
    let mut state = State::default();
    for record in records(body) {
        match record {
            Ok(Record::State(record)) => state.apply(record),
            _ => return Err(SnapshotError::Damaged("it holds something that is no state")),
        }
    }
    let SnapshotHeader { lsn, last_checksum: checksum, segment, offset, .. } = header;
    Ok(Snapshot { lsn, checksum, segment, offset, state })
}
