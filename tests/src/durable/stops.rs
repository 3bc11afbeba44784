//! Every step of a journal, with a broker that is stopped behind it.
//!
//! An armed broker finds a journal in which there is something to be done for every step that it may be armed for, and not by
//! luck: its files are looked at before.
//!
//! | step | what must be there |
//! |---|---|
//! | `segment.unused` | a segment that was prepared, and that nothing was written to |
//! | `segment.given-up` | a segment that ended before the newest snapshot, all of whose messages are settled and out of the rings |
//! | `snapshot.given-up` | two snapshots |
//! | `reserve.*` | no spare but the reserve, which the start itself takes: a journal that is young |
//! | all others | work, and rests between |

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringway_broker::config::SEGMENT_BYTES_MIN;
use ringway_broker::inspection::{FileInfo, FileKind, Journal};
use ringway_shm_protocol::stops::JOURNAL_STOPS;

use super::load::{LIGHT, Load};
use super::{Report, SMALL_SEGMENTS};
use crate::deaths::worker::Random;
use crate::kept::is_stopped;
use crate::{PATIENCE, eventually};

/// Brokers at the same time: they mostly wait.
const AT_ONCE: usize = 8;
/// Looking at the files costs something.
const LOOK: Duration = Duration::from_millis(20);
/// An armed broker has work, and rests, by turns of so long.
const TURN: Duration = Duration::from_millis(200);
/// Nothing has come for so long: for now all is drained.
const QUIET: Duration = Duration::from_millis(100);

/// The files of a journal, as they are looked at.
#[derive(Debug, Default)]
struct Files {
    /// By number: each segment's first record, if there is one.
    segments: Vec<(u64, Option<u64>)>,
    snapshots: Vec<u64>,
    spares: usize,
}

impl Files {
    fn of(load: &Load<'_>) -> Self {
        let journals = Journal::all(&load.broker.path().join("data")).unwrap_or_default();
        // What changes just now is looked at again.
        let files = journals.first().and_then(|journal| journal.files().ok()).unwrap_or_default();
        let mut of = Self::default();
        for FileInfo { kind, .. } in files {
            match kind {
                FileKind::Segment { segment, first_lsn, .. } => of.segments.push((segment, first_lsn)),
                FileKind::Snapshot { lsn, .. } => of.snapshots.push(lsn),
                FileKind::Spare => of.spares += 1,
                _ => {}
            }
        }
        of
    }

    /// Segments with something in them.
    fn filled(&self) -> usize {
        self.segments.iter().filter(|(_, first)| first.is_some()).count()
    }

    /// Whether a successor has something to be done for every step.
    fn is_old(&self) -> bool {
        let has_unused = self.segments.last().is_some_and(|(_, first)| first.is_none());
        let Some(newest) = self.snapshots.last().filter(|_| self.snapshots.len() == 2) else { return false };
        // The newest snapshot goes on behind a segment that another comes behind which it has read of, too.
        let ends_before =
            self.segments.get(1).is_some_and(|(_, first)| first.is_some_and(|first| first < *newest));
        has_unused && ends_before
    }
}

impl Load<'_> {
    /// Works until the files are so, and stay so when all is drained.
    fn work_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        eventually("the journal has grown", || {
            self.work();
            eventually("the journal grows", || {
                std::thread::sleep(LOOK);
                is_so(self)
            });
            self.end_workers();
            self.drain(QUIET);
            is_so(self)
        });
    }

    /// Has more than one start behind it, and all segments that it has kept.
    fn grow_old(mut self) -> Self {
        self.work_until(|load| Files::of(load).filled() >= 2);
        let mut load = self.lose_everything();
        // What was written before is kept while the rings hold it.
        let goal = load.published() + 2 * LIGHT.slots;
        load.work_until(|load| load.published() > goal && Files::of(load).is_old());
        load
    }
}

/// Stops a broker behind a step of its journal, the `times`-th time that it comes there: by SIGKILL, so that another goes on with
/// its rings, or by SIGSTOP, and everything is lost then. `None`: it has not come there. `peer`: built with `--cfg ringway_stops`.
fn stop_at(peer: &Path, place: &str, times: u64, kill: bool) -> Option<Report> {
    let armed = format!("{place},{times},{}", if kill { "KILL" } else { "STOP" });
    let environment = [("RINGWAY_STOP_SUCCESSOR", armed), (SMALL_SEGMENTS, SEGMENT_BYTES_MIN.to_string())];
    let mut load = Load::start(peer, &LIGHT, &environment);
    if !place.starts_with("reserve.") {
        load = load.grow_old();
    }
    load.rest(true);
    load.work();
    load.wait_for_workers();
    eventually("there is a reserve", || Files::of(&load).spares > 0);
    // What is sent meanwhile is in the rings alone.
    load.broker.freeze();
    load.rest(false);
    eventually("there is something to do", || load.in_flight() > 0);
    load.broker.succeed();
    let (began, armed) = (Instant::now(), load.broker.pids()[1]);
    while if kill { load.broker.pids().len() == 2 } else { !is_stopped(armed) } {
        if began.elapsed() > PATIENCE {
            return None;
        }
        // Some are come to only when nothing is to be done.
        load.rest(began.elapsed().as_millis() / TURN.as_millis() % 2 == 1);
        std::thread::sleep(Duration::from_millis(1));
    }
    load.rest(false);
    if !kill {
        load = load.lose_everything();
        load.work();
    }
    std::thread::sleep(TURN);
    Some(load.end())
}

/// Stops brokers behind every step of a journal, once by each signal. Returns what is wrong, and prints what has come of each.
pub fn stops(peer: &Path, seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let targets = JOURNAL_STOPS.iter().flat_map(|place| [(place, true), (place, false)]);
    let targets: Vec<_> =
        targets.map(|((place, most), kill)| (*place, 1 + random.below(*most), kill)).collect();
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((place, times, kill)) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = stop_at(peer, place, *times, *kill);
                    let signal = if *kill { "SIGKILL" } else { "SIGSTOP" };
                    let what = match report {
                        Some(report) => format!("{signal} at {place}, time {times}: {report:?}"),
                        None => format!("{signal} at {place}, time {times}: not come to"),
                    };
                    println!("{what}");
                    let wrong = (!report.is_some_and(|report| report.is_whole())).then_some(what);
                    faults.lock().unwrap_or_else(PoisonError::into_inner).extend(wrong);
                }
            });
        }
    });
    faults.into_inner().unwrap_or_else(PoisonError::into_inner)
}
