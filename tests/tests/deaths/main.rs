//! Is anything lost, doubled, torn or out of order when a process is stopped behind any of its stores to shared memory, or is
//! killed at any time?
//!
//! Bounded: each place once by SIGKILL and once by SIGSTOP, and some random kills. VERIFY.md says how to run more.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use ringway_tests::deaths::campaign::{self, Campaign};

#[test]
fn whoever_is_stopped_at_any_place_by_sigkill_or_sigstop_nothing_is_lost_and_nothing_doubled() {
    let report = campaign::stops(&Campaign { times: 1, seed: 1, ..Campaign::default() });
    println!("{report}");
    assert!(report.faults.is_empty(), "{report}");
    assert!(report.never_hit.is_empty(), "{report}");
}

#[test]
fn whoever_is_killed_at_random_nothing_is_lost_and_nothing_doubled() {
    let report = campaign::kills(&Campaign { times: 4, seed: 2, ..Campaign::default() });
    println!("{report}");
    assert!(report.faults.is_empty(), "{report}");
    assert!(report.never_hit.is_empty(), "{report}");
}
