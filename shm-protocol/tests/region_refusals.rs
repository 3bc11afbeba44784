//! What `Region::open` refuses: a descriptor comes from another process, and may be anything.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::os::fd::{AsFd, OwnedFd};

use ringway_shm_protocol::layout::{LAYOUT_VERSION, MAGIC, RegionHeader, RegionKind};
use ringway_shm_protocol::memory::mapped::{Access, Identity, OwnedRegion, Region, RegionError};
use rustix::fs::{MemfdFlags, SealFlags};
use zerocopy::IntoBytes;

const EXPECTED: Identity = Identity { kind: RegionKind::Producers, incarnation: 77, bytes: 4096 };

fn header() -> RegionHeader {
    RegionHeader {
        magic: MAGIC,
        version: LAYOUT_VERSION,
        kind: EXPECTED.kind as u32,
        incarnation: EXPECTED.incarnation,
        features_required: 0,
        features_optional: 0,
        bytes: EXPECTED.bytes as u64,
        reserved: [0; 2],
    }
}

fn memfd(header: RegionHeader, seals: SealFlags) -> OwnedFd {
    let memory = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&memory, EXPECTED.bytes as u64).unwrap();
    rustix::io::pwrite(&memory, header.as_bytes(), 0).unwrap();
    rustix::fs::fcntl_add_seals(&memory, seals).unwrap();
    memory
}

fn sealed(header: RegionHeader) -> OwnedFd {
    memfd(header, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
}

fn refusal(descriptor: impl AsFd) -> RegionError {
    Region::open(descriptor, EXPECTED, Access::Write).expect_err("this must be refused")
}

/// Asserts that a sealed region with this header is refused for `field`.
fn refuses_field(header: RegionHeader, name: &str, wrong: u64) {
    match refusal(sealed(header)) {
        RegionError::Header { field, found, .. } => assert_eq!((field, found), (name, wrong)),
        other => panic!("{other}"),
    }
}

#[test]
fn the_right_region_is_opened_for_writing_and_for_reading() {
    assert_eq!(Region::open(sealed(header()), EXPECTED, Access::Write).unwrap().access(), Access::Write);
    let made = OwnedRegion::create(EXPECTED).unwrap();
    let read_only = made.hand_over(Access::Read).unwrap();
    assert_eq!(Region::open(&read_only, EXPECTED, Access::Read).unwrap().access(), Access::Read);
    match Region::open(&read_only, EXPECTED, Access::Write) {
        Err(RegionError::System { action: "map", .. }) => {}
        other => panic!("a read-only descriptor was mapped for writing: {other:?}"),
    }
}

#[test]
fn a_region_of_another_kind_is_refused() {
    let kind = RegionKind::Meta as u32;
    refuses_field(RegionHeader { kind, ..header() }, "kind", kind.into());
}

#[test]
fn a_memfd_that_lacks_any_seal_is_refused() {
    let all = [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL];
    for missing in all {
        let seals = all.into_iter().filter(|&seal| seal != missing).collect();
        match refusal(memfd(header(), seals)) {
            RegionError::Seals { found: Some(found), .. } => assert_eq!(found, seals.bits()),
            other => panic!("{other}"),
        }
    }
    assert!(matches!(
        refusal(memfd(header(), SealFlags::empty())),
        RegionError::Seals { found: Some(0), .. }
    ));
}

#[test]
fn a_memfd_of_another_size_is_refused() {
    for bytes in [0, 64, 4095, 4097, 8192] {
        let memory =
            rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&memory, bytes).unwrap();
        rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
        match refusal(memory) {
            RegionError::Size { found, expected, .. } => assert_eq!((found, expected), (bytes, 4096)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_header_that_gives_another_size_is_refused() {
    refuses_field(RegionHeader { bytes: 8192, ..header() }, "size", 8192);
}

#[test]
fn a_regular_file_is_refused() {
    // A file without a name, so that nothing is left behind.
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(env!("CARGO_TARGET_TMPDIR"), flags, rustix::fs::Mode::RUSR).unwrap();
    rustix::fs::ftruncate(&file, EXPECTED.bytes as u64).unwrap();
    rustix::io::pwrite(&file, header().as_bytes(), 0).unwrap();
    match refusal(file) {
        // Some file systems (tmpfs) report that there are no seals, others have none to report.
        RegionError::Seals { found, .. } => assert!(found.is_none_or(|seals| seals & 7 != 7)),
        other => panic!("{other}"),
    }
}

#[test]
fn a_pipe_is_refused() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    for end in [read, write] {
        assert!(matches!(refusal(end), RegionError::Size { found: 0, .. }));
    }
}

#[test]
fn another_magic_is_refused() {
    refuses_field(RegionHeader { magic: 0, ..header() }, "magic", 0);
}

#[test]
fn another_version_is_refused() {
    let version = LAYOUT_VERSION + 1;
    refuses_field(RegionHeader { version, ..header() }, "layout version", version.into());
}

#[test]
fn another_incarnation_is_refused() {
    refuses_field(RegionHeader { incarnation: 78, ..header() }, "incarnation", 78);
}

#[test]
fn a_required_feature_that_is_not_known_is_refused() {
    for bit in [0, 1, 63] {
        match refusal(sealed(RegionHeader { features_required: 1 << bit, ..header() })) {
            RegionError::Features { unknown, .. } => assert_eq!(unknown, 1 << bit),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn optional_features_are_ignored() {
    let memory = sealed(RegionHeader { features_optional: u64::MAX, ..header() });
    assert!(Region::open(memory, EXPECTED, Access::Write).is_ok());
}
