//! The machine: its cores, what disturbs them, its clock, its pages.
//!
//! As in `kernel`: what is seen is judged by pure functions.

use std::path::Path;

use super::finding::{Check, Finding};
use super::setting;

const CPUS: &str = "/sys/devices/system/cpu";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
/// From so many cores on there are some to be set apart.
const CORES_TO_ISOLATE: usize = 4;

/// All of them.
pub(super) fn checks() -> Vec<Finding> {
    let allowed = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let of_cpus = |name: &str| setting(Path::new(CPUS).join(name)).filter(|list| list != "(null)");
    let of_clock = |name: &str| setting(Path::new(CLOCK).join(name));
    vec![
        cores(allowed),
        isolation(allowed, of_cpus("isolated").as_deref(), of_cpus("nohz_full").as_deref()),
        governor(&governors()),
        clock(of_clock("current_clocksource").as_deref(), of_clock("available_clocksource").as_deref()),
        huge_pages(setting(HUGE_PAGES).as_deref()),
    ]
}

fn cores(allowed: usize) -> Finding {
    let check = Check { name: "cores", why: "a producer, a consumer that spins, and a shard want one each" };
    let found = if allowed == 1 { "1 core".to_owned() } else { format!("{allowed} cores for this process") };
    let fix = "give the machine or the container more cores (docker --cpus, taskset, AllowedCPUs=), and let consumers sleep \
               (WaitStrategy::Adaptive)";
    if allowed < 3 { check.warning(found, fix) } else { check.ok(found) }
}

fn isolation(allowed: usize, isolated: Option<&str>, nohz_full: Option<&str>) -> Finding {
    let check = Check { name: "isolation", why: "other work on a spinner's core is its longest latencies" };
    let found = format!("isolcpus {}, nohz_full {}", isolated.unwrap_or("none"), nohz_full.unwrap_or("none"));
    if allowed < CORES_TO_ISOLATE || (isolated.is_some() && nohz_full.is_some()) {
        return check.ok(found);
    }
    let last = allowed - 1;
    let fix = format!(
        "kernel command line: isolcpus={first}-{last} nohz_full={first}-{last}, then pin spinners there with taskset",
        first = last - 1
    );
    check.warning(found, fix)
}

/// The governors of all cores, each once.
fn governors() -> Vec<String> {
    let of_core = |entry: std::fs::DirEntry| setting(entry.path().join("cpufreq/scaling_governor"));
    let entries = std::fs::read_dir(CPUS).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries.filter_map(of_core).collect();
    found.sort();
    found.dedup();
    found
}

fn governor(found: &[String]) -> Finding {
    let check = Check { name: "governor", why: "a core that has slowed down takes a while to be fast again" };
    match found {
        [] => check.ok("none: firmware or hypervisor choose the clock rate"),
        [one] if one == "performance" => check.ok("performance"),
        others => check.warning(others.join(", "), "cpupower frequency-set -g performance"),
    }
}

fn clock(current: Option<&str>, available: Option<&str>) -> Finding {
    let check = Check {
        name: "clock",
        why: "timestamps come from the processor's counter; others cost a system call",
    };
    let Some(current) = current else {
        return check.warning("the kernel does not name its clock", "mount /sys");
    };
    // These are read in user space.
    if matches!(current, "tsc" | "arch_sys_counter" | "kvm-clock" | "hyperv_clocksource_tsc_page") {
        return check.ok(current);
    }
    let has_tsc = available.is_some_and(|names| names.split_whitespace().any(|name| name == "tsc"));
    let fix = if has_tsc {
        format!("echo tsc > {CLOCK}/current_clocksource")
    } else {
        "kernel command line: tsc=reliable, where the machine has one clock for all cores".to_owned()
    };
    check.warning(current, fix)
}

fn huge_pages(setting: Option<&str>) -> Finding {
    let check = Check { name: "huge pages", why: "large rings and payloads in memfds miss the TLB less" };
    let Some(setting) = setting else {
        return check
            .warning("not known to this kernel", "install a kernel with CONFIG_TRANSPARENT_HUGEPAGE");
    };
    let chosen =
        setting.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(setting, |(name, _)| name);
    let found = format!("shmem_enabled {chosen}");
    match chosen {
        "always" | "within_size" | "force" => check.ok(found),
        _ => check.warning(found, format!("echo within_size > {HUGE_PAGES}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn few_cores_are_a_warning() {
        assert_eq!(
            [1, 2, 3, 64].map(|allowed| cores(allowed).level == Level::Warning),
            [true, true, false, false]
        );
        assert_eq!(cores(1).found, "1 core");
    }

    #[test]
    fn cores_are_set_apart_where_there_are_some_to_spare() {
        assert_eq!(isolation(2, None, None).level, Level::Ok);
        assert_eq!(isolation(8, Some("6-7"), Some("6-7")).level, Level::Ok);
        let none = isolation(8, Some("6-7"), None);
        assert_eq!((none.level, none.found.as_str()), (Level::Warning, "isolcpus 6-7, nohz_full none"));
        assert!(none.fix.unwrap().contains("isolcpus=6-7 nohz_full=6-7"));
    }

    #[test]
    fn a_governor_that_saves_is_a_warning() {
        let of = |names: &[&str]| governor(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!((of(&[]).level, of(&["performance"]).level), (Level::Ok, Level::Ok));
        assert_eq!(of(&["performance", "powersave"]).found, "performance, powersave");
        assert_eq!(of(&["powersave"]).level, Level::Warning);
    }

    #[test]
    fn a_clock_that_costs_a_system_call_is_a_warning() {
        assert_eq!(
            (clock(Some("tsc"), None).level, clock(Some("kvm-clock"), None).level),
            (Level::Ok, Level::Ok)
        );
        assert!(clock(Some("hpet"), Some("tsc hpet")).fix.unwrap().starts_with("echo tsc > "));
        assert!(clock(Some("hpet"), Some("hpet")).fix.unwrap().contains("tsc=reliable"));
        assert_eq!(clock(None, None).level, Level::Warning);
    }

    #[test]
    fn the_chosen_setting_of_huge_pages_is_the_one_in_brackets() {
        let never = huge_pages(Some("always within_size advise [never] deny force"));
        assert_eq!((never.level, never.found.as_str()), (Level::Warning, "shmem_enabled never"));
        assert_eq!(huge_pages(Some("always [within_size] never")).level, Level::Ok);
        assert_eq!(huge_pages(None).level, Level::Warning);
    }
}
