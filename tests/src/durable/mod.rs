//! A durable queue and a durable topic under load while their broker is killed again and again, and now and then everything with
//! it: at random, or behind a step of its journal that it was armed to stop at.
//!
//! ```text
//! producers ──▶ queue ──▶ consumers        whoever confirms notes it in the books
//! producers ──▶ topic ──▶ a reader         broker and keeper: killed, again and again
//! ```
//!
//! 1. What a producer's watermark has ever said is confirmed counts, also when everything is lost in the same moment.
//! 2. A message that was confirmed must have been delivered in the end, when all is drained, and whole.
//! 3. One whose settlement was confirmed (an ack; a commit that passes it) must not have come again.
//!
//! Everything is killed so: the broker with its keeper, and all connections are closed. The rings are gone then, and what there
//! is is what the journal has.

mod books;
mod load;
mod stops;

use std::path::Path;
use std::time::Duration;

pub use load::{HEAVY, LIGHT, Pace};
pub use stops::stops;

use crate::deaths::worker::Random;
use load::Load;

/// Has `ringway-test-peer serve` write segments of so many bytes.
pub const SMALL_SEGMENTS: &str = "RINGWAY_TEST_SEGMENT_BYTES";
/// How long a broker works until it is killed, at the most, in microseconds; and one that is killed while it starts.
const LIFE_US: u64 = 200_000;
const START_US: u64 = 10_000;
/// One in so many is killed while it starts.
const KILLED_AT_START: u64 = 4;

/// What has come of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How often the broker was killed.
    pub kills: u64,
    /// How often everything was.
    pub losses: u64,
    /// Messages that were sent and not known to be confirmed when the broker was killed, on average.
    pub in_flight: u64,
    /// Messages that were confirmed.
    pub confirmed: u64,
    /// Settlements that were confirmed.
    pub settled: u64,
    /// Messages that were confirmed and never delivered.
    pub missing: u64,
    /// Deliveries of messages whose settlement had been confirmed.
    pub back: u64,
    /// Deliveries of what nobody has published.
    pub torn: u64,
    /// Producers and consumers that have ended with an error while nothing was lost but brokers.
    pub ended: u64,
}

impl Report {
    /// Whether there was something, and all of it is as it must be.
    pub fn is_whole(&self) -> bool {
        (self.missing, self.back, self.torn, self.ended) == (0, 0, 0, 0)
            && self.confirmed > 0
            && self.settled > 0
    }
}

/// Kills the broker so often, and everything with it every `loss_every`-th time. `peer`: `ringway-test-peer`; `environment`:
/// of the broker.
pub fn campaign(
    peer: &Path,
    pace: &'static Pace,
    environment: &[(&str, String)],
    kills: u64,
    loss_every: u64,
    seed: u64,
) -> Report {
    let mut load = Load::start(peer, pace, environment);
    let (mut losses, mut in_flight, mut random) = (0, 0, Random(seed));
    load.work();
    for kill in 1..=kills {
        let most = if random.below(KILLED_AT_START) == 0 {
            START_US
        } else {
            load.wait_for_confirms();
            LIFE_US
        };
        std::thread::sleep(Duration::from_micros(random.below(most)));
        in_flight += load.in_flight();
        if kill % loss_every == 0 {
            load = load.lose_everything();
            load.work();
            losses += 1;
        } else {
            load.broker.succeed();
        }
    }
    std::thread::sleep(Duration::from_micros(LIFE_US));
    Report { kills, losses, in_flight: in_flight / kills.max(1), ..load.end() }
}
