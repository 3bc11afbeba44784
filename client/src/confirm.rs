//! Waiting until messages are confirmed: until they have reached the durability of their stream.
//!
//! 1. One load answers for everything below a watermark, so one wait covers any number of messages.
//! 2. Before it waits, a producer wakes the consumers of what it has published, and the shard, if that has stopped looking.
//! 3. No confirm means unknown: after an error a message may be on the device or not.
//! 4. What a consumer settles is journaled in rounds, and confirmed when one that began later is done: see [`Settling`].

use std::time::{Duration, Instant};

use ringway_shm_protocol::control::message::{Durability, Reply, Request};
use ringway_shm_protocol::partition::JournalingRegions;
use ringway_shm_protocol::ring::{JournalState, Ringer};

use crate::connection::Connection;
use crate::error::{ConfirmError, SendError};
use crate::lane::Lane;
use crate::session::Answer;
use crate::wait::{Deadline, Step, WaitStrategy, Waiter};

/// How long the broker may take to say why messages cannot be journaled.
const WHY_ANSWER_MAX: Duration = Duration::from_millis(100);

/// When what a consumer has settled is as durable as its stream.
pub(crate) struct Settling {
    ringer: Ringer,
    level: Durability,
    /// For errors.
    stream: String,
}

impl Settling {
    /// Of a consumer of this stream.
    pub(crate) fn new(stream: &str, level: Durability) -> Self {
        Self { ringer: Ringer::default(), level, stream: stream.to_owned() }
    }

    /// Waits until everything that was settled so far is journaled.
    pub(crate) fn wait(
        &mut self,
        regions: &JournalingRegions,
        connection: &Connection,
        deadline: Deadline,
    ) -> Result<(), ConfirmError> {
        if self.level == Durability::Memory {
            return Ok(());
        }
        let JournalingRegions { confirm, journal, rounds } = regions;
        let ticket = rounds.ticket();
        self.ringer.ring(journal);
        let (mut waiter, began) = (Waiter::new(WaitStrategy::default(), deadline), Instant::now());
        while !rounds.is_done(ticket) {
            match waiter.step() {
                Step::Look | Step::Idle => {}
                Step::Sleep(at_most) => {
                    confirm.sleep_unless(at_most, || rounds.is_done(ticket));
                    self.ringer.ring(journal);
                }
                Step::CheckBroker | Step::Over if !connection.is_open() => {
                    return Err(ConfirmError::Disconnected { stream: self.stream.clone() });
                }
                Step::CheckBroker => {}
                Step::Over => {
                    return Err(ConfirmError::Unsettled {
                        stream: self.stream.clone(),
                        level: self.level.name(),
                        waited: began.elapsed(),
                    });
                }
            }
        }
        Ok(())
    }
}

impl Lane {
    /// Everything below this position is confirmed.
    pub(crate) fn confirmed(&self) -> u64 {
        let watermarks = &self.regions.watermarks;
        match self.settings().durability {
            Durability::Memory => self.position(),
            Durability::Written => watermarks.written(),
            Durability::Synced => watermarks.synced(),
        }
    }

    /// Waits until everything below `end` is confirmed.
    pub(crate) fn confirm(&mut self, end: u64, deadline: Deadline) -> Result<(), ConfirmError> {
        if !self.is_journaled || self.confirmed() >= end {
            return Ok(());
        }
        self.ring();
        self.journal_ringer.ring(&self.regions.journal);
        let (mut waiter, began) = (Waiter::new(self.wait, deadline), Instant::now());
        loop {
            if self.confirmed() >= end {
                return Ok(());
            }
            let stream = || self.stream();
            match self.regions.watermarks.state() {
                JournalState::Ready | JournalState::None => {}
                JournalState::NoRoom => {
                    return Err(ConfirmError::NoRoom { stream: stream(), why: self.why() });
                }
                JournalState::Failed => {
                    return Err(ConfirmError::JournalFailed { stream: stream(), why: self.why() });
                }
            }
            match waiter.step() {
                Step::Look | Step::Idle => {}
                Step::Sleep(at_most) => {
                    let ready =
                        || self.confirmed() >= end || self.regions.watermarks.state() != JournalState::Ready;
                    self.regions.confirm.sleep_unless(at_most, ready);
                    // It may have stopped looking meanwhile.
                    self.journal_ringer.ring(&self.regions.journal);
                }
                Step::CheckBroker | Step::Over if !self.endpoint.connection().is_open() => {
                    return Err(ConfirmError::Disconnected { stream: stream() });
                }
                Step::CheckBroker => {}
                Step::Over => {
                    return Err(ConfirmError::Timeout {
                        stream: stream(),
                        level: self.settings().durability.name(),
                        position: end.saturating_sub(1),
                        confirmed: self.confirmed(),
                        waited: began.elapsed(),
                    });
                }
            }
        }
    }

    /// Whether messages can be journaled, where they are to be.
    #[inline]
    pub(crate) fn check_journal(&self) -> Result<(), SendError> {
        if self.is_journaled {
            let state = self.regions.watermarks.state();
            if state != JournalState::Ready {
                return Err(self.journal_trouble(state));
            }
        }
        Ok(())
    }

    #[cold]
    fn journal_trouble(&self, state: JournalState) -> SendError {
        let (stream, why) = (self.stream(), self.why());
        match state {
            JournalState::NoRoom => SendError::NoRoom { stream, why },
            _ => SendError::JournalFailed { stream, why },
        }
    }

    /// Why messages cannot be journaled, as the broker says.
    fn why(&self) -> String {
        let (name, partition) = self.space.place();
        let request = Request::DescribeStream { name: name.into() };
        let answer = self.endpoint.connection().control().request_unless_busy(&request, WHY_ANSWER_MAX);
        let why = match answer {
            Ok(Answer { reply: Reply::Stream(stream), .. }) => {
                let found = stream.partitions.into_iter().find(|found| found.partition == partition);
                found.and_then(|found| found.journal)
            }
            _ => None,
        };
        why.unwrap_or_else(|| "the broker has not said why".to_owned())
    }
}
