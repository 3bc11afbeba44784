//! Waiting until messages are confirmed: until they have reached the durability of their stream.
//!
//! 1. One load answers for everything below a watermark, so one wait covers any number of messages.
//! 2. Before it waits, a producer wakes the consumers of what it has published, and the shard, if that has stopped looking.
//! 3. No confirm means unknown: after an error a message may be on the device or not.
//! 4. Of the messages of a stream that is `written`, those that were raised are confirmed when they are synced, and those
//!    behind them not before.
//! 5. What a consumer settles is journaled in rounds, and confirmed when one that began later is done: see [`Settling`].

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ringway_shm_protocol::control::message::{Durability, Reply, Request};
use ringway_shm_protocol::fork::ForkMark;
use ringway_shm_protocol::memory::bell::MappedBell;
use ringway_shm_protocol::memory::mapped::Mapped;
use ringway_shm_protocol::partition::{JournalingRegions, ProducerRegions};
use ringway_shm_protocol::ring::{Doorbell, JournalState, Ringer, Watermarks};

use crate::error::{ConfirmError, SendError};
use crate::lane::Lane;
use crate::session::{Answer, Session};
use crate::space::Space;
use crate::task::{Await, Interest, Waiting};
use crate::wait::{Deadline, SLEEP_MAX, Step, WaitStrategy, Waiter};

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
        session: &Session,
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
                Step::CheckBroker | Step::Over if !session.is_open() => {
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

impl Settling {
    /// The same, for tasks.
    pub(crate) async fn wait_async(
        &mut self,
        regions: &Arc<JournalingRegions>,
        session: &Session,
    ) -> Result<(), ConfirmError> {
        if self.level == Durability::Memory {
            return Ok(());
        }
        let ticket = regions.rounds.ticket();
        let mut waiting = Waiting::default();
        poll_fn(|context| self.poll_round(regions, session, ticket, &mut waiting, context)).await
    }

    fn poll_round(
        &mut self,
        regions: &Arc<JournalingRegions>,
        session: &Session,
        ticket: u64,
        waiting: &mut Waiting,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConfirmError>> {
        // The shard may have stopped looking meanwhile.
        self.ringer.ring(&regions.journal);
        while !regions.rounds.is_done(ticket) {
            match waiting.step(WaitStrategy::default(), 1) {
                Step::Look => {}
                Step::Idle => return Waiting::give_way(context),
                Step::Sleep(at_most) => {
                    let count = regions.confirm.announce();
                    if !regions.rounds.is_done(ticket) {
                        let bells = vec![(regions.confirm.bell().clone(), count)];
                        waiting.sleep(bells, context.waker().clone(), at_most);
                        return Poll::Pending;
                    }
                }
                Step::CheckBroker | Step::Over if !session.is_open() => {
                    return Poll::Ready(Err(ConfirmError::Disconnected { stream: self.stream.clone() }));
                }
                Step::CheckBroker | Step::Over => {}
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// How far a partition is journaled, for whoever waits for that.
pub(crate) struct Journal {
    watermarks: Watermarks<Mapped>,
    /// Where to sleep.
    confirm: Arc<Doorbell<Mapped>>,
    level: Durability,
    session: Arc<Session>,
    name: String,
    partition: u32,
    /// The stream, and the partition if it has several: for errors.
    stream: String,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    /// Everything below is confirmed.
    end: u64,
    /// Of that, everything below is synced, whatever the stream's level.
    synced: u64,
}

impl Journal {
    /// Of the partition that these regions and this space are of.
    pub(crate) fn new(regions: &ProducerRegions, space: &Space, session: Arc<Session>) -> Self {
        let (watermarks, confirm) = (regions.watermarks.clone(), Arc::clone(&regions.confirm));
        let (name, partition) = space.place();
        let (name, stream, level) = (name.to_owned(), space.stream().to_owned(), space.settings().durability);
        Self { watermarks, confirm, level, session, name, partition, stream }
    }

    /// Whether it is reached: the level of everything below.
    pub(crate) fn reached(&self, goal: Goal) -> Option<Durability> {
        let (written, synced) = (self.watermarks.written(), self.watermarks.synced());
        match self.level {
            Durability::Memory => Some(Durability::Memory),
            _ if synced >= goal.end => Some(Durability::Synced),
            Durability::Written if written >= goal.end && synced >= goal.synced => Some(Durability::Written),
            _ => None,
        }
    }

    /// Whether it will never be reached.
    fn trouble(&self) -> Result<(), ConfirmError> {
        let stream = || self.stream.clone();
        match self.watermarks.state() {
            JournalState::Ready | JournalState::None => Ok(()),
            JournalState::NoRoom => Err(ConfirmError::NoRoom { stream: stream(), why: self.why() }),
            JournalState::Failed => Err(ConfirmError::JournalFailed { stream: stream(), why: self.why() }),
        }
    }

    /// The same when there is no broker.
    fn check_broker(&self) -> Result<(), ConfirmError> {
        if self.session.is_open() {
            return Ok(());
        }
        Err(ConfirmError::Disconnected { stream: self.stream.clone() })
    }

    /// Whether there is something to look at.
    fn has_news(&self, goal: Goal) -> bool {
        self.reached(goal).is_some() || self.watermarks.state() != JournalState::Ready
    }

    /// Why messages cannot be journaled, as the broker says.
    fn why(&self) -> String {
        let request = Request::DescribeStream { name: self.name.as_str().into() };
        let answer = self.session.request_unless_busy(&request, WHY_ANSWER_MAX);
        let why = match answer {
            Ok(Answer { reply: Reply::Stream(stream), .. }) => {
                let found = stream.partitions.into_iter().find(|found| found.partition == self.partition);
                found.and_then(|found| found.journal)
            }
            _ => None,
        };
        why.unwrap_or_else(|| "the broker has not said why".to_owned())
    }
}

impl Lane {
    /// Everything below this position is confirmed.
    pub(crate) fn confirmed(&self) -> u64 {
        self.unknown.unwrap_or(u64::MAX).min(self.confirmed_here())
    }

    fn confirmed_here(&self) -> u64 {
        let watermarks = &self.regions.watermarks;
        match self.settings().durability {
            Durability::Memory => self.position(),
            // What was raised holds up what is behind it.
            Durability::Written => match watermarks.synced() {
                synced if synced >= self.raised.end => watermarks.written(),
                synced => watermarks.written().min(synced.max(self.raised.start)),
            },
            Durability::Synced => watermarks.synced(),
        }
    }

    /// Tells once that it is not known what of the messages before an outage is there.
    pub(crate) fn check_known(&mut self) -> Result<(), ConfirmError> {
        match self.unknown.take() {
            None => Ok(()),
            Some(_) => Err(ConfirmError::Disconnected { stream: self.stream() }),
        }
    }

    /// That everything below `end` is confirmed.
    pub(crate) fn goal(&self, end: u64) -> Goal {
        let synced = if self.raised.start < end { self.raised.end.min(end) } else { 0 };
        Goal { end, synced }
    }

    /// Has the shard look, and those who read, before somebody waits for the journal.
    pub(crate) fn ring_for_confirm(&mut self) {
        self.ring();
        self.journal_ringer.ring(&self.regions.journal);
    }

    /// Waits until everything below `end` is confirmed; returns the level reached.
    pub(crate) fn confirm(&mut self, end: u64, deadline: Deadline) -> Result<Durability, ConfirmError> {
        self.check_known()?;
        let (journal, goal) = (Arc::clone(&self.journal), self.goal(end));
        if let Some(level) = journal.reached(goal) {
            return Ok(level);
        }
        self.ring_for_confirm();
        let (mut waiter, began) = (Waiter::new(self.wait, deadline), Instant::now());
        loop {
            if let Some(level) = journal.reached(goal) {
                return Ok(level);
            }
            journal.trouble()?;
            let step = waiter.step();
            if matches!(step, Step::CheckBroker | Step::Over) {
                journal.check_broker().inspect_err(|_| self.told = true)?;
            }
            match step {
                Step::Look | Step::Idle | Step::CheckBroker => {}
                Step::Sleep(at_most) => {
                    journal.confirm.sleep_unless(at_most, || journal.has_news(goal));
                    // It may have stopped looking meanwhile.
                    self.journal_ringer.ring(&self.regions.journal);
                }
                Step::Over => {
                    return Err(ConfirmError::Timeout {
                        stream: self.stream(),
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
        let (stream, why) = (self.stream(), self.journal.why());
        match state {
            JournalState::NoRoom => SendError::NoRoom { stream, why },
            _ => SendError::JournalFailed { stream, why },
        }
    }
}

/// Completes when messages are confirmed, with the level that they have reached; made by
/// [`Producer::confirmation`](crate::Producer::confirmation). It belongs to no runtime: one helper thread for the whole process
/// sleeps where confirms are announced, and wakes the tasks. The producer may be used, or closed, meanwhile.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut producer = connection.producer("payments").open()?;
/// let position = producer.send("42 EUR")?;
/// let confirmation = producer.confirmation(position)?;
/// // On the runtime of your choice; the producer may go on meanwhile.
/// let wait = async { println!("it is {}", confirmation.await?.name()); Ok::<(), ringway_client::ConfirmError>(()) };
/// # let _ = wait;
/// # Ok(())
/// # }
/// ```
///
/// When the journal has no room or has failed, it asks the broker for the reason, and blocks for that for 0.1 s at the most.
#[must_use = "futures do nothing unless polled"]
pub struct Confirmation {
    /// What is still to be reached, the last first.
    left: Vec<(Arc<Journal>, Goal)>,
    reached: Durability,
    fork: ForkMark,
    interest: Option<Interest>,
}

impl Confirmation {
    pub(crate) fn new(mut goals: Vec<(Arc<Journal>, Goal)>, fork: ForkMark) -> Self {
        goals.reverse();
        Self { left: goals, reached: Durability::Synced, fork, interest: None }
    }

    fn look(&mut self) -> Result<Option<Durability>, ConfirmError> {
        if !self.fork.is_here() {
            return Err(ConfirmError::Forked);
        }
        while let Some((journal, goal)) = self.left.last() {
            let Some(level) = journal.reached(*goal) else {
                journal.trouble()?;
                journal.check_broker()?;
                return Ok(None);
            };
            self.reached = self.reached.min(level);
            self.left.pop();
        }
        Ok(Some(self.reached))
    }
}

impl Future for Confirmation {
    type Output = Result<Durability, ConfirmError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let looked = self.look();
        self.interest = None;
        match (looked, self.left.last()) {
            (Ok(None), Some((journal, goal))) => {
                let (journal, goal) = (Arc::clone(journal), *goal);
                let waker = context.waker().clone();
                self.interest = Some(Interest::new(Box::new(Awaited { journal, goal }), waker, SLEEP_MAX));
                Poll::Pending
            }
            (Ok(reached), _) => Poll::Ready(Ok(reached.unwrap_or(self.reached))),
            (Err(error), _) => Poll::Ready(Err(error)),
        }
    }
}

impl fmt::Debug for Confirmation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left: Vec<_> = self.left.iter().map(|(journal, goal)| (&journal.stream, goal)).collect();
        formatter.debug_struct("Confirmation").field("left", &left).finish_non_exhaustive()
    }
}

/// What a task waits for.
struct Awaited {
    journal: Arc<Journal>,
    goal: Goal,
}

impl Await for Awaited {
    fn bells(&self, name: &mut dyn FnMut(&MappedBell, &dyn Fn() -> u32)) {
        let confirm = &self.journal.confirm;
        name(confirm.bell(), &|| confirm.announce());
    }

    fn is_ready(&self) -> bool {
        self.journal.has_news(self.goal)
    }
}
