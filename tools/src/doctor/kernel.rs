//! What the kernel offers to this process: versions, system calls, limits.
//!
//! Each check is two functions: one that looks, and a pure one that judges what was seen.

use std::io;

use ringway_broker::{LOCKED_MEMORY_BYTES_MIN, RuntimeError};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Resource, getpid, getrlimit, pidfd_open};
use rustix::thread::futex::{self, WaitvFlags};
use rustix::time::ClockId;

use super::finding::{Check, Finding};
use super::setting;

/// Descriptors that a broker with a thousand sessions, each with some streams open, has.
const DESCRIPTORS_WISHED: u64 = 8192;
/// Fewer are no use.
const DESCRIPTORS_MIN: u64 = 1024;

/// All of them.
pub(super) fn checks() -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let memlock = getrlimit(Resource::Memlock).current;
    vec![
        version(&release),
        io_uring(ringway_broker::check_io_uring().err().as_ref(), &Denier::look()),
        locked_memory(memlock, rustix::process::geteuid().is_root()),
        memfd(seal_memfd()),
        futex_waitv(wait_for_futexes()),
        pidfd(pidfd_open(getpid(), PidfdFlags::empty()).map(drop)),
        open_files(getrlimit(Resource::Nofile).maximum),
    ]
}

fn version(release: &str) -> Finding {
    let check =
        Check { name: "kernel", why: "6.5 names dead peers by pidfd, 6.7 waits for futexes by io_uring" };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {release}");
    match version {
        old if old < (6, 5) => {
            check.problem(found, "install a kernel of 6.5 or later (6.7 or later for io_uring)")
        }
        old if old < (6, 7) => {
            check.warning(found, "install a kernel of 6.7 or later; before, shards run on plain threads")
        }
        _ => check.ok(found),
    }
}

/// What tells who denies io_uring.
struct Denier {
    /// `kernel.io_uring_disabled`.
    sysctl: Option<String>,
    /// `kernel.io_uring_group`.
    group: Option<String>,
    /// Whether a filter of system calls is at work on this process.
    filtered: bool,
}

impl Denier {
    fn look() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            sysctl: setting("/proc/sys/kernel/io_uring_disabled"),
            group: setting("/proc/sys/kernel/io_uring_group"),
            filtered: status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
        }
    }
}

fn io_uring(error: Option<&RuntimeError>, denier: &Denier) -> Finding {
    let check = Check {
        name: "io_uring",
        why: "without it shards run on plain threads, and durable messages take longer",
    };
    let source = match error {
        None => return check.ok("allowed"),
        // Another check's subject.
        Some(RuntimeError::LockedMemory { .. }) => return check.ok("allowed, but for its memory"),
        Some(RuntimeError::IoUring { source }) => source,
        Some(other) => {
            return check
                .warning(other.to_string(), "set runtime = \"threads\" in the broker's configuration");
        }
    };
    if source.kind() == io::ErrorKind::Unsupported && source.raw_os_error().is_none() {
        return check.warning(source.to_string(), "install a kernel of 6.7 or later");
    }
    match denier.sysctl.as_deref() {
        Some("2") => check.warning(
            "denied to everybody by sysctl kernel.io_uring_disabled=2",
            "sysctl -w kernel.io_uring_disabled=0, and the same line in /etc/sysctl.d/60-ringway.conf",
        ),
        Some("1") if !denier.filtered => check.warning(
            format!(
                "denied by sysctl kernel.io_uring_disabled=1 to whoever is not in group {}",
                denier.group.as_deref().unwrap_or("-1")
            ),
            "sysctl -w kernel.io_uring_disabled=0, or kernel.io_uring_group=GID with a group of the broker's user",
        ),
        _ if denier.filtered => check.warning(
            format!("denied by a seccomp filter ({source})"),
            "allow io_uring_setup, io_uring_enter and io_uring_register: docker run --security-opt seccomp=PROFILE.json; \
             SystemCallFilter= of a systemd service",
        ),
        _ => check.warning(
            format!("denied, neither by sysctl nor by seccomp ({source})"),
            "look for a security module (journalctl -k | grep -i denied), or a kernel without CONFIG_IO_URING",
        ),
    }
}

fn locked_memory(limit: Option<u64>, is_root: bool) -> Finding {
    let check = Check { name: "locked memory", why: "each shard's io_uring locks its buffers" };
    let found = limit.map_or_else(|| "no limit".to_owned(), |bytes| format!("limit of {} KiB", bytes >> 10));
    match limit {
        Some(_) if is_root => check.ok(format!("{found}, which does not bind root")),
        Some(bytes) if bytes < LOCKED_MEMORY_BYTES_MIN => check.warning(
            found,
            format!(
                "ulimit -l {}, or LimitMEMLOCK=8M in the service; below, shards run on plain threads",
                LOCKED_MEMORY_BYTES_MIN >> 10
            ),
        ),
        _ => check.ok(found),
    }
}

fn seal_memfd() -> rustix::io::Result<()> {
    let file = rustix::fs::memfd_create("ringway-doctor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
}

fn memfd(tried: rustix::io::Result<()>) -> Finding {
    let check =
        Check { name: "memfd", why: "rings are sealed memfds: no peer can take memory away from another" };
    match tried {
        Ok(()) => check.ok("made and sealed"),
        Err(error) => check.problem(
            format!("cannot be made and sealed ({error})"),
            "allow memfd_create and fcntl(F_ADD_SEALS) in the seccomp profile or the security module",
        ),
    }
}

/// For no futex: a kernel that knows the call says that this is invalid.
fn wait_for_futexes() -> rustix::io::Result<()> {
    match futex::waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic) {
        Err(Errno::INVAL) => Ok(()),
        other => other.map(drop),
    }
}

fn futex_waitv(tried: rustix::io::Result<()>) -> Finding {
    let check = Check { name: "futex_waitv", why: "a consumer sleeps until any of its rings gets a message" };
    match tried {
        Ok(()) => check.ok("works"),
        Err(Errno::NOSYS) => {
            check.problem("not known here", "install a kernel of 6.5 or later, or allow it in the sandbox")
        }
        Err(error) => check.problem(format!("denied ({error})"), "allow futex_waitv in the seccomp profile"),
    }
}

fn pidfd(tried: rustix::io::Result<()>) -> Finding {
    let check = Check { name: "pidfd", why: "the kernel reports a peer's death by it" };
    match tried {
        Ok(()) => check.ok("works"),
        Err(error) => check.problem(format!("denied ({error})"), "allow pidfd_open in the seccomp profile"),
    }
}

fn open_files(most: Option<u64>) -> Finding {
    let check = Check {
        name: "open files",
        why: "every session, ring and arena has descriptors; the broker takes its hard limit",
    };
    let Some(most) = most else { return check.ok("no limit") };
    let found = format!("hard limit of {most}");
    let fix = "ulimit -Hn 524288 as root, a line \"* hard nofile 524288\" in /etc/security/limits.conf, or \
               LimitNOFILE=524288 in the service";
    match most {
        ..DESCRIPTORS_MIN => check.problem(found, fix),
        DESCRIPTORS_MIN..DESCRIPTORS_WISHED => check.warning(found, fix),
        _ => check.ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_kernel_is_too_old_old_or_new_enough() {
        let levels = ["5.15.0-generic", "6.4.99", "6.5.0", "6.6.12", "6.7.0", "6.18.44-x", "7.0", "strange"];
        let [problem, warning, ok] = [Level::Problem, Level::Warning, Level::Ok];
        let expected = [problem, problem, warning, warning, ok, ok, ok, problem];
        assert_eq!(levels.map(|release| version(release).level), expected);
        assert!(version("5.15.0-generic").found.contains("Linux 5.15.0-generic"));
    }

    fn denier(sysctl: &str, filtered: bool) -> Denier {
        Denier { sysctl: Some(sysctl.into()), group: Some("1001".into()), filtered }
    }

    #[test]
    fn who_denies_io_uring_is_named_with_the_way_out() {
        let denied = RuntimeError::IoUring { source: io::Error::from(Errno::PERM) };
        let judged = |sysctl, filtered| {
            let finding = io_uring(Some(&denied), &denier(sysctl, filtered));
            assert_eq!(finding.level, Level::Warning);
            format!("{} / {}", finding.found, finding.fix.unwrap())
        };
        assert!(judged("2", true).contains("to everybody by sysctl"));
        assert!(judged("1", false).contains("not in group 1001"));
        assert!(
            judged("0", true).contains("by a seccomp filter") && judged("1", true).contains("--security-opt")
        );
        assert!(judged("0", false).contains("security module"));
        let old = RuntimeError::IoUring { source: io::Error::new(io::ErrorKind::Unsupported, "no futexes") };
        assert!(io_uring(Some(&old), &denier("0", false)).fix.unwrap().contains("6.7"));
        assert_eq!(io_uring(None, &denier("2", true)).level, Level::Ok);
    }

    #[test]
    fn little_memory_to_lock_binds_all_but_root() {
        assert_eq!(locked_memory(Some(64 << 10), false).level, Level::Warning);
        assert_eq!(locked_memory(Some(64 << 10), true).level, Level::Ok);
        assert_eq!(locked_memory(Some(8 << 20), false).level, Level::Ok);
        assert_eq!(locked_memory(None, false).found, "no limit");
    }

    #[test]
    fn a_call_that_is_denied_is_a_problem_with_its_name() {
        for (judged, named) in [
            (memfd as fn(rustix::io::Result<()>) -> Finding, "memfd_create"),
            (futex_waitv, "futex_waitv"),
            (pidfd, "pidfd_open"),
        ] {
            assert_eq!(judged(Ok(())).level, Level::Ok);
            let finding = judged(Err(Errno::PERM));
            assert_eq!(finding.level, Level::Problem);
            assert!(finding.fix.unwrap().contains(named));
        }
        assert!(futex_waitv(Err(Errno::NOSYS)).fix.unwrap().contains("6.5"));
    }

    #[test]
    fn few_descriptors_are_a_problem_some_a_warning() {
        let judged =
            [Some(256), Some(4096), Some(1 << 20), Some(1 << 40), None].map(|most| open_files(most).level);
        assert_eq!(judged, [Level::Problem, Level::Warning, Level::Ok, Level::Ok, Level::Ok]);
    }
}
