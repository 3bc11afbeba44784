//! Is anything lost, doubled, torn or out of order when a process is stopped behind any of its stores to shared memory, or is
//! killed at any time?
//!
//! Bounded: each place once by SIGKILL and once by SIGSTOP, and some random kills. VERIFY.md says how to run more.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use ringway_client::{SharedSettings, StreamSettings};
use ringway_tests::deaths::campaign::{self, Campaign};
use ringway_tests::kept::KeptBroker;
use ringway_tests::queue::{consumer, info, next, send};

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

#[test]
fn a_settlement_that_was_judged_is_not_judged_again_and_called_late() {
    let peer = campaign::armed_peer();
    // The broker confirms at every look, and looks at each of three verdicts at least once.
    for times in 1..=3 {
        let armed = [("RINGWAY_STOP_BROKER", format!("judged.late,{times},KILL"))];
        let broker = KeptBroker::start_with(&peer, &armed);
        let connection = broker.connect();
        connection.declare_queue("q", StreamSettings::DEFAULT, SharedSettings::default()).unwrap();
        let mut producer = connection.producer("q").open().unwrap();
        let mut consumer = consumer(&connection);
        for number in 0..3 {
            send(&mut producer, number..number + 1);
            next(&mut consumer).nack().unwrap();
            assert_eq!(consumer.confirm().unwrap(), 0, "killed at look {times}");
            let again = next(&mut consumer);
            assert_eq!((again.attempt(), again.failed()), (2, 1));
            again.ack().unwrap();
        }
        assert_eq!(info(&connection).leased, 0);
        assert_eq!(broker.pids().len(), 2, "it was killed at look {times}");
    }
}
