//! Many rounds: every place that there is, or many random kills.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringway_shm_protocol::stops::{Role, STOPS};

use super::round::{self, Plan};
use super::worker::Random;

/// Rounds at the same time: they mostly wait.
const AT_ONCE: usize = 8;
/// How often a place is tried that was not come to often enough.
const TRIES: u64 = 12;
/// Up to the how manyth time that a process comes to a place it is stopped there, at first; less with every try.
const TIMES_MAX: u64 = 40;

/// How much.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// How often each place is to be hit with each signal, or each role is to be killed.
    pub times: u64,
    /// Makes everything that is random.
    pub seed: u64,
    /// Only what has this in its name: a role, a place, a signal.
    pub only: String,
}

/// What has come of it.
#[derive(Debug, Default)]
pub struct Report {
    /// How often what was hit.
    pub hits: BTreeMap<String, u64>,
    /// What was not hit as often as it was to be.
    pub never_hit: Vec<String>,
    /// What is wrong, with the plan of its round.
    pub faults: Vec<String>,
    /// How many messages were published, delivered, settled, read, and dead.
    pub counts: [usize; 5],
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, hits) in &self.hits {
            writeln!(out, "{hits:6} hits  {what}")?;
        }
        let [published, delivered, settled, read, dead] = self.counts;
        writeln!(
            out,
            "published {published}, delivered {delivered}, settled {settled}, read {read}, dead {dead}"
        )?;
        self.never_hit.iter().try_for_each(|what| writeln!(out, "NOT HIT  {what}"))?;
        self.faults.iter().try_for_each(|fault| writeln!(out, "FAULT  {fault}"))?;
        writeln!(out, "{} faults, {} places not hit", self.faults.len(), self.never_hit.len())
    }
}

/// Something that is to be hit so often.
struct Target {
    name: String,
    plan: Plan,
}

/// Stops a process at every place, by SIGKILL and by SIGSTOP, so many times each.
pub fn stops(campaign: &Campaign) -> Report {
    let mut targets = Vec::new();
    for (place, roles) in STOPS {
        for role in *roles {
            for kill in [true, false] {
                // Without a keeper nobody can know what the broker before it had, while there is no broker.
                if kill && ["keeper.started", "keeper.told"].contains(place) {
                    continue;
                }
                let name = format!("{role:?} {place} {}", if kill { "SIGKILL" } else { "SIGSTOP" });
                let plan = Plan { role: *role, place: Some((*place, 1)), kill, goes_on: true, seed: 0 };
                targets.push(Target { name, plan });
            }
        }
    }
    carry_out(&armed_peer(), campaign, targets)
}

/// Kills a process of every role at random, so many times each.
pub fn kills(campaign: &Campaign) -> Report {
    let roles = [Role::Producer, Role::Cursor, Role::Member, Role::Broker, Role::Keeper];
    let targets = roles.map(|role| Target {
        name: format!("{role:?} SIGKILL at random"),
        plan: Plan { role, place: None, kill: true, goes_on: true, seed: 0 },
    });
    carry_out(&armed_peer(), campaign, targets.into())
}

fn carry_out(peer: &Path, campaign: &Campaign, targets: Vec<Target>) -> Report {
    let targets: Vec<_> = targets.into_iter().filter(|target| target.name.contains(&campaign.only)).collect();
    let report = Mutex::new(Report::default());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    hit(peer, campaign, target, &report);
                }
            });
        }
    });
    report.into_inner().expect("nobody panics with the report")
}

fn hit(peer: &Path, campaign: &Campaign, target: &Target, report: &Mutex<Report>) {
    let name_hash =
        target.name.bytes().fold(campaign.seed, |hash, byte| hash.rotate_left(5) ^ u64::from(byte));
    let mut random = Random(name_hash);
    let mut hits = 0;
    for attempt in 0..TRIES * campaign.times {
        if hits >= campaign.times {
            break;
        }
        let times_max = (TIMES_MAX >> (attempt % TRIES * 2)).max(1);
        let times = 1 + random.below(times_max);
        // Some come to their places when they start, too: a broker that never was ready is not succeeded.
        let (place, keeps) =
            (target.plan.place.map_or("", |(place, _)| place), &["keeper.started", "keeper.told"]);
        let at_start = keeps.contains(&place);
        let times = if at_start { 2 } else { times + u64::from(place == "remembered") };
        let plan = Plan {
            place: target.plan.place.map(|(place, _)| (place, times)),
            // A keeper that is killed while there is no broker takes all with it.
            goes_on: at_start || random.below(2) == 0,
            seed: random.below(u64::MAX),
            ..target.plan.clone()
        };
        let outcome = round::run(peer, &plan);
        hits += outcome.hits;
        let mut report = report.lock().expect("nobody panics with the report");
        for (sum, count) in report.counts.iter_mut().zip(outcome.counts) {
            *sum += count;
        }
        report.faults.extend(outcome.faults.into_iter().map(|fault| format!("{fault} ({plan:?})")));
    }
    let mut report = report.lock().expect("nobody panics with the report");
    report.hits.insert(target.name.clone(), hits);
    if hits < campaign.times {
        report.never_hit.push(format!("{}: {hits} of {}", target.name, campaign.times));
    }
}

/// Builds `ringway-test-peer` so that it can be stopped, beside everything else that is built.
pub fn armed_peer() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let target = target.join("stops");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--package", "ringway-tests", "--bin", "ringway-test-peer"])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "--cfg ringway_stops")
        .status()
        .expect("cargo builds what cargo has built");
    assert!(built.success(), "the peer cannot be built with --cfg ringway_stops");
    target.join("release/ringway-test-peer")
}
