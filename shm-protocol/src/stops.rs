//! Places where a test may stop this process: behind every store to shared memory, and behind every step of what outlives a
//! broker.
//!
//! Built with `--cfg ringway_stops`, a process kills or stops itself at the place that its environment names:
//! `RINGWAY_STOP=PLACE,TIMES,KILL` (or `STOP`), the TIMES-th time that it comes there. In every other build [`at`] is nothing.

/// Whose process comes to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A process that publishes.
    Producer,
    /// A consumer of a `cursor` subscription.
    Cursor,
    /// A consumer of a `shared` subscription.
    Member,
    /// The first broker.
    Broker,
    /// The one that goes on where the first has stopped.
    Successor,
    /// The keeper.
    Keeper,
}

use Role::{Broker, Cursor, Keeper, Member, Producer, Successor};

/// Every place that somebody comes to where streams are in memory, and who.
pub const STOPS: &[(&str, &[Role])] = &[
    ("slot.taken", &[Producer, Broker]),
    ("slot.reserved", &[Producer]),
    ("slot.written", &[Producer, Broker]),
    ("slot.headed", &[Producer, Broker]),
    ("slot.committed", &[Producer, Broker]),
    ("slot.buried", &[Broker]),
    ("tail.hinted", &[Producer]),
    ("limit.raised", &[Producer]),
    ("arena.numbered", &[Broker]),
    ("gate.placed", &[Broker]),
    ("gate.mirrored", &[Broker]),
    ("gate.entered", &[Broker]),
    ("gate.joined", &[Broker]),
    ("gate.left", &[Broker]),
    ("gate.detached", &[Broker]),
    ("limit.given-up", &[Broker]),
    ("sleep.announced", &[Cursor, Member]),
    ("bell.rung", &[Producer, Broker]),
    ("hazard.named", &[Cursor]),
    ("hazard.set", &[Cursor]),
    ("hazard.cleared", &[Cursor]),
    ("hazards.cleared", &[Broker]),
    ("cursor.committed", &[Cursor]),
    ("cursor.skipped", &[Broker]),
    ("reader.ended", &[Broker]),
    ("claim.leased", &[Member]),
    ("claim.acked", &[Member]),
    ("claim.moving", &[Broker]),
    ("claim.moved", &[Broker]),
    ("claim.given-up", &[Broker]),
    ("floor.raised", &[Member, Broker]),
    ("feed.reserved", &[Broker]),
    ("feed.recorded", &[Broker]),
    ("feed.written", &[Broker]),
    ("feed.headed", &[Broker]),
    ("feed.committed", &[Broker]),
    ("settlement.written", &[Member]),
    ("settlement.counted", &[Member]),
    ("settlement.called", &[Member]),
    ("call.answered", &[Broker]),
    ("judged.late", &[Broker]),
    ("judged.confirmed", &[Broker]),
    ("watch.begun", &[Member]),
    ("watch.ended", &[Broker]),
    ("member.activated", &[Broker]),
    ("log.written", &[Broker]),
    ("log.snapshot", &[Broker, Successor]),
    ("log.replaced", &[Broker, Successor]),
    ("kept", &[Broker]),
    ("forgotten", &[Broker]),
    ("decided", &[Broker]),
    ("altered", &[Broker]),
    ("remembered", &[Broker]),
    ("answered", &[Broker]),
    ("letter.noted", &[Broker]),
    ("letter.published", &[Broker]),
    ("letter.buried", &[Broker]),
    ("estate.heard", &[Successor]),
    ("moves.finished", &[Successor]),
    ("ring.adopted", &[Successor]),
    ("shard.adopted", &[Successor]),
    ("session.resumed", &[Successor]),
    ("estate.settled", &[Successor]),
    ("keeper.holds", &[Keeper]),
    ("keeper.forgot", &[Keeper]),
    ("keeper.started", &[Keeper]),
    ("keeper.told", &[Keeper]),
];

/// Every place that a broker comes to where streams are durable: behind every step of its journal. Under load it surely comes there
/// so many times, soon.
pub const JOURNAL_STOPS: &[(&str, u64)] = &[
    ("journal.locked", 1),
    ("journal.read", 1),
    ("journal.open", 1),
    ("segment.unused", 1),
    ("segment.made", 1),
    ("segment.headed", 1),
    ("segment.synced", 1),
    ("segment.named", 1),
    ("segment.durable", 1),
    ("segment.given-up", 1),
    ("reserve.made", 1),
    ("reserve.named", 1),
    ("reserve.durable", 1),
    ("snapshot.made", 1),
    ("snapshot.written", 1),
    ("snapshot.synced", 1),
    ("snapshot.named", 1),
    ("snapshot.durable", 1),
    ("snapshot.given-up", 1),
    ("given-up.durable", 1),
    ("batch.submitted", 20),
    ("batch.written", 20),
    ("batch.synced", 20),
    ("flush.submitted", 3),
    ("flush.synced", 3),
    ("mark.submitted", 1),
    ("round.begun", 20),
    ("round.ended", 20),
    ("written.raised", 20),
    ("synced.raised", 20),
    ("state.told", 1),
];

#[cfg(not(ringway_stops))]
mod armed {
    /// This process has come to a place.
    #[inline(always)]
    pub fn at(_: &'static str) {}

    /// What a keeper gives the processes that it starts.
    pub fn pass_on(_: &mut std::process::Command) {}
}

#[cfg(ringway_stops)]
mod armed {
    use std::process::Command;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    struct Armed {
        place: String,
        times: AtomicU64,
        signal: Signal,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    /// Of the first broker, and of the second.
    const VARIABLES: [&str; 2] = ["RINGWAY_STOP_BROKER", "RINGWAY_STOP_SUCCESSOR"];

    fn from_environment() -> Option<Armed> {
        let text = std::env::var("RINGWAY_STOP").ok()?;
        let mut parts = text.split(',');
        let place = parts.next()?.to_owned();
        let journal = super::JOURNAL_STOPS.iter().map(|(known, _)| known);
        let mut known = super::STOPS.iter().map(|(known, _)| known).chain(journal);
        assert!(known.any(|known| *known == place), "no such place: {place}");
        let times = AtomicU64::new(parts.next()?.parse().ok()?);
        let signal = if parts.next()? == "KILL" { Signal::KILL } else { Signal::STOP };
        Some(Armed { place, times, signal })
    }

    /// This process has come to a place: it may end here.
    pub fn at(place: &'static str) {
        if let Some(armed) = ARMED.get_or_init(from_environment)
            && armed.place == place
            && armed.times.fetch_sub(1, Ordering::Relaxed) == 1
        {
            let _ = kill_process(getpid(), armed.signal);
        }
    }

    /// What a keeper gives the processes that it starts: the first broker is armed by `RINGWAY_STOP_BROKER`, the second by
    /// `RINGWAY_STOP_SUCCESSOR`, and nobody else is.
    pub fn pass_on(command: &mut Command) {
        command.env_remove("RINGWAY_STOP");
        let name = VARIABLES.get(STARTED.fetch_add(1, Ordering::Relaxed));
        if let Some(armed) = name.and_then(|name| std::env::var_os(name)) {
            command.env("RINGWAY_STOP", armed);
        }
        VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
    }
}

pub use armed::{at, pass_on};
