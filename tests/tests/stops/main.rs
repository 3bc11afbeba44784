//! What if a broker stops behind any step of its journal?
//!
//! Each step once by SIGKILL, after which a successor goes on with the rings, and once by SIGSTOP, after which everything is killed
//! and what there is is what the journal has. A step that is not come to is a failure. VERIFY.md says how to run it with other seeds.

use ringway_tests::deaths::campaign::armed_peer;
use ringway_tests::durable;

#[test]
fn whatever_step_a_broker_stops_behind_nothing_confirmed_is_missing_and_nothing_settled_comes_back() {
    let faults = durable::stops(&armed_peer(), 1);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
