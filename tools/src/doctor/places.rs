//! The broker's directory, its data, and the broker itself.
//!
//! 1. What is measured on the data directory's disk is measured in a file without a name: nothing is left behind.
//! 2. A directory that is not there yet is judged by the nearest one above it that is: it will be made there.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringway_broker::config::SEGMENT_BYTES_DEFAULT;
use ringway_client::{ConnectError, StreamInfo};
use ringway_shm_protocol::control::SOCKET_NAME;
use ringway_shm_protocol::control::socket::PATH_BYTES_MAX;
use rustix::fs::OFlags;

use super::finding::{Check, Finding};
use crate::output::{count, thousands};

/// Syncs that are measured.
const SYNCS: usize = 21;
/// A device answers no flush faster: it is not asked, or does not do it.
const SYNC_MIN: Duration = Duration::from_micros(15);
/// A confirm takes at least a sync.
const SYNC_WISHED: Duration = Duration::from_millis(2);
/// File systems by the numbers of statfs(2): their name, and what is wrong with them for a journal.
const FILE_SYSTEMS: [(u64, &str, Option<&str>); 14] = [
    (0xef53, "ext4", None),
    (0x5846_5342, "xfs", None),
    (0x9123_683e, "btrfs", Some("it copies on write, so every sync writes its trees as well")),
    (0xf2f5_2010, "f2fs", None),
    (0x2fc1_2fc1, "zfs", Some("it copies on write, so every sync writes its trees as well")),
    (0xca45_1a4e, "bcachefs", None),
    (0x0102_1994, "tmpfs", Some("it is memory: nothing survives the host's death")),
    (0x8584_58f6, "ramfs", Some("it is memory: nothing survives the host's death")),
    (0x794c_7630, "overlayfs", Some("it is a container's layer, and goes with the container")),
    (0x6969, "nfs", Some("a network file system locks and syncs by its server")),
    (0xff53_4d42, "cifs", Some("a network file system locks and syncs by its server")),
    (0xfe53_4d42, "smb2", Some("a network file system locks and syncs by its server")),
    (0x6573_5546, "fuse", Some("what a sync does is up to its server")),
    (0x0102_1997, "9p", Some("what a sync does is up to its server")),
];

/// All of them.
pub(super) fn checks(directory: &Path, data: &Path) -> Vec<Finding> {
    let there = std::fs::metadata(directory);
    let mut findings = vec![
        path_length(directory),
        place(directory, &there, rustix::process::geteuid().as_raw()),
        broker(directory, asked(directory)),
    ];
    findings.extend(data_checks(data));
    findings
}

fn path_length(directory: &Path) -> Finding {
    let check = Check { name: "socket path", why: "the kernel takes no longer address" };
    let bytes = directory.join(SOCKET_NAME).as_os_str().len();
    let found = format!("{bytes} of {PATH_BYTES_MAX} bytes");
    if bytes > PATH_BYTES_MAX {
        check.problem(found, "set --dir or RINGWAY_DIR to a shorter path")
    } else {
        check.ok(found)
    }
}

fn place(directory: &Path, there: &io::Result<Metadata>, uid: u32) -> Finding {
    let (kind, owner, mode) = match there {
        Ok(found) => (Some(found.is_dir()), found.uid(), found.mode() & 0o7777),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (None, uid, 0),
        Err(error) => {
            let fix = format!("let this user in: chmod o+x on the directories above {}", directory.display());
            return PLACE.problem(format!("{} cannot be looked at ({error})", directory.display()), fix);
        }
    };
    judge_place(directory, kind, (owner, mode), uid)
}

const PLACE: Check =
    Check { name: "directory", why: "who may enter it may ask the broker; who may write it may pose as it" };

/// `is_directory`: `None` if nothing is there.
fn judge_place(directory: &Path, is_directory: Option<bool>, (owner, mode): (u32, u32), uid: u32) -> Finding {
    let (check, path) = (PLACE, directory.display());
    let found = format!("{path}, mode {mode:04o}, of user {owner}");
    match is_directory {
        None => check.ok(format!("{path} is not there yet: `ringway serve` makes it")),
        Some(false) => {
            check.problem(format!("{path} is no directory"), format!("rm {path}, or another --dir"))
        }
        Some(true) if mode & 0o022 != 0 => check.problem(found, format!("chmod go-w {path}")),
        Some(true) if owner != uid => check.warning(
            found,
            format!("serve as user {owner}, or chown {uid} {path}; its clients may be others"),
        ),
        Some(true) => check.ok(found),
    }
}

/// What the broker says, if there is one.
type Asked = Result<(u32, u16, Vec<StreamInfo>), ConnectError>;

fn asked(directory: &Path) -> Asked {
    let connection = crate::connect_to(directory)?;
    // One that welcomes and then does not list its streams is about to end.
    let streams = connection.streams().unwrap_or_default();
    Ok((connection.broker_pid(), connection.shards(), streams))
}

fn broker(directory: &Path, asked: Asked) -> Finding {
    let check = Check { name: "broker", why: "it opens streams; messages flow without it" };
    match asked {
        Ok((pid, shards, streams)) => {
            let troubles =
                streams.iter().flat_map(|stream| &stream.partitions).filter_map(|part| part.journal.as_ref());
            let (shards, streams) = (count(shards.into(), "shard"), count(streams.len() as u64, "stream"));
            let found = format!("process {pid} answers: {shards}, {streams}");
            match troubles.min() {
                None => check.ok(found),
                Some(trouble) => check.problem(
                    format!("{found}; a journal has stopped ({trouble})"),
                    "see to the disk, then: ringway stop && ringway serve",
                ),
            }
        }
        Err(ConnectError::NoBroker { .. }) => {
            check.warning("none answers", format!("ringway serve --dir {}", directory.display()))
        }
        Err(ConnectError::PathTooLong { .. }) => {
            check.problem("none can answer at such a path", "a shorter --dir")
        }
        Err(error @ ConnectError::Denied { .. }) => check
            .problem(error.to_string(), "be the broker's user, or have it chmod its directory and socket"),
        Err(error) => check.problem(
            error.to_string(),
            "look at what `ringway serve` says; kill -9 a broker that hangs: its keeper starts another",
        ),
    }
}

/// `path`, or what is there above it.
fn nearest(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn data_checks(data: &Path) -> Vec<Finding> {
    let nearest = nearest(data);
    let mut findings = Vec::new();
    match rustix::fs::statfs(&nearest) {
        Ok(found) => {
            findings.push(file_system(data, found.f_type as u64));
            findings.push(space(found.f_bavail * found.f_bsize as u64));
        }
        Err(error) => {
            findings.push(FILE_SYSTEM.problem(format!("{} ({error})", nearest.display()), "another --data"))
        }
    }
    match tempfile::tempfile_in(&nearest) {
        Ok(file) => findings.extend([syncs(measure(&file)), direct(write_directly(&file))]),
        Err(error) => {
            let fix = format!("install -d -o USER {}, or another --data", data.display());
            findings.push(SYNC.warning(
                format!("not measured: no file can be made in {} ({error})", nearest.display()),
                fix,
            ));
        }
    }
    findings
}

const FILE_SYSTEM: Check = Check { name: "data", why: "journals of durable streams are there" };

fn file_system(data: &Path, number: u64) -> Finding {
    // Some are sign-extended.
    let known = FILE_SYSTEMS.iter().find(|(known, ..)| *known == number & 0xffff_ffff);
    let name = known.map_or_else(|| format!("file system {number:#x}"), |(_, name, _)| (*name).to_owned());
    let found = format!("{} on {name}", data.display());
    match known.and_then(|(.., fault)| *fault) {
        Some(fault) => FILE_SYSTEM.warning(found, format!("--data DIR on a disk with ext4 or xfs: {fault}")),
        None => FILE_SYSTEM.ok(found),
    }
}

fn space(free_bytes: u64) -> Finding {
    let check =
        Check { name: "free space", why: "when the disk is full, publishing to durable streams is refused" };
    let found = format!("{} MiB", thousands(free_bytes >> 20));
    let fix = "make room, or --data DIR on another disk";
    if free_bytes < 2 * SEGMENT_BYTES_DEFAULT {
        check.problem(found, fix)
    } else if free_bytes < 32 * SEGMENT_BYTES_DEFAULT {
        check.warning(found, fix)
    } else {
        check.ok(found)
    }
}

/// A block as O_DIRECT wants it.
#[repr(align(4096))]
struct Block([u8; 4096]);

/// The median time of a sync of one block, written over what is there, as a journal does.
fn measure(file: &File) -> io::Result<Duration> {
    let block = Block([7; 4096]);
    let mut times = Vec::new();
    for _ in 0..=SYNCS {
        file.write_all_at(&block.0, 0)?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    // The first one has made the block.
    times.remove(0);
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

const SYNC: Check = Check { name: "sync", why: "a confirm of durability `synced` takes at least so long" };

fn syncs(median: io::Result<Duration>) -> Finding {
    let median = match median {
        Ok(median) => median,
        Err(error) => {
            return SYNC.problem(format!("fdatasync fails ({error})"), "--data DIR on another disk");
        }
    };
    let found = format!("fdatasync of 4 KiB: {median:.1?} (median of {SYNCS})");
    if median < SYNC_MIN {
        SYNC.warning(
            found,
            "so fast no device is: see that it is a disk, with barriers (no nobarrier; cache=none in a virtual machine)",
        )
    } else if median > SYNC_WISHED {
        SYNC.warning(found, "--data DIR on an SSD or NVMe disk; confirm many messages at once (confirm_all)")
    } else {
        SYNC.ok(found)
    }
}

fn write_directly(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT)?;
    file.write_all_at(&Block([7; 4096]).0, 0)
}

fn direct(tried: io::Result<()>) -> Finding {
    let check = Check { name: "O_DIRECT", why: "a journal's batches go to the device past the page cache" };
    match tried {
        Ok(()) => check.ok("works"),
        Err(error) => check.warning(
            format!("not on this file system ({error})"),
            "--data DIR on ext4 or xfs; without it batches are copied once more",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_path_that_no_socket_can_have_is_a_problem() {
        assert_eq!(path_length(Path::new("/run/ringway")).level, Level::Ok);
        assert_eq!(path_length(Path::new(&format!("/{}", "d".repeat(120)))).level, Level::Problem);
    }

    #[test]
    fn a_directory_is_judged_by_its_owner_and_mode() {
        let judged = |is, owner, mode| judge_place(Path::new("/d"), is, (owner, mode), 1000);
        assert_eq!(judged(None, 0, 0).level, Level::Ok);
        assert_eq!(judged(Some(true), 1000, 0o755).found, "/d, mode 0755, of user 1000");
        assert_eq!(judged(Some(true), 1000, 0o775).fix.as_deref(), Some("chmod go-w /d"));
        assert_eq!(judged(Some(true), 0, 0o755).level, Level::Warning);
        assert_eq!(judged(Some(false), 1000, 0o644).level, Level::Problem);
        let denied = place(Path::new("/d"), &Err(io::ErrorKind::PermissionDenied.into()), 1000);
        assert_eq!(denied.level, Level::Problem);
    }

    #[test]
    fn a_broker_answers_or_not_or_has_trouble() {
        let there = broker(Path::new("/d"), Ok((7, 2, Vec::new())));
        assert_eq!(
            (there.level, there.found.as_str()),
            (Level::Ok, "process 7 answers: 2 shards, 0 streams")
        );
        let none = crate::connect_to("/nonexistent/ringway").unwrap_err();
        let none = broker(Path::new("/d"), Err(none));
        assert_eq!((none.level, none.fix.as_deref()), (Level::Warning, Some("ringway serve --dir /d")));
        let long = crate::connect_to("d".repeat(120)).unwrap_err();
        assert_eq!(broker(Path::new("/d"), Err(long)).level, Level::Problem);
    }

    #[test]
    fn file_systems_that_are_no_disk_are_warned_of() {
        let judged = |number| file_system(Path::new("/d"), number);
        assert_eq!((judged(0xef53).level, judged(0xef53).found.as_str()), (Level::Ok, "/d on ext4"));
        assert!(judged(0x0102_1994).fix.unwrap().contains("it is memory"));
        assert!(judged(0xffff_ffff_ff53_4d42).found.ends_with("cifs"));
        assert_eq!(judged(0x1234).found, "/d on file system 0x1234");
    }

    #[test]
    fn little_space_is_a_warning_and_none_a_problem() {
        let levels = [0, 1 << 30, 1 << 40].map(|free| space(free).level);
        assert_eq!(levels, [Level::Problem, Level::Warning, Level::Ok]);
    }

    #[test]
    fn syncs_may_be_too_slow_too_fast_or_fail() {
        let level = |micros| syncs(Ok(Duration::from_micros(micros))).level;
        assert_eq!([1, 150, 9000].map(level), [Level::Warning, Level::Ok, Level::Warning]);
        assert_eq!(syncs(Err(io::ErrorKind::Other.into())).level, Level::Problem);
        assert_eq!(
            (direct(Ok(())).level, direct(Err(io::ErrorKind::InvalidInput.into())).level),
            (Level::Ok, Level::Warning)
        );
    }

    #[test]
    fn what_is_not_there_is_judged_by_what_is_above_it() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&place.path().join("a/b/c")), place.path());
        assert!(data_checks(&place.path().join("a/b")).len() == 4);
        assert!(std::fs::read_dir(place.path()).unwrap().next().is_none());
    }
}
