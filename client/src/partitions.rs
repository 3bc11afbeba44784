//! The partitions of a consumer of either mode: looked at in turn, waited for together.
//!
//! 1. A partition that always has messages is left after [`TURN_MESSAGES`], so that the others get their turn.
//! 2. Whoever waits rests: no producer waits for what a waiting consumer could give free.
//! 3. When the broker is gone, everything that came before its end is returned; then they are opened again at the next one, as
//!    they were opened first.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_shm_protocol::control::message::StreamSettings;
use ringway_shm_protocol::memory::bell::{LocalBell, MappedBell, wait_any};

use crate::connection::Connection;
use crate::error::{ConfirmError, OpenError, RecvError};
use crate::outage::{Look, Lost, Outage, patiently};
use crate::session::Session;
use crate::wait::{Deadline, Step, WaitStrategy, Waiter};

/// Messages of one partition in a row while others may have some.
const TURN_MESSAGES: u32 = 32;

/// One partition, as a consumer has it.
pub(crate) trait Partition {
    /// Names the message that was found, until the next one is looked for.
    type Found;

    /// The next message, if there is one now.
    fn next(&mut self) -> Result<Option<Self::Found>, RecvError>;
    /// Gives free what producers could wait for.
    fn rest(&mut self) -> Result<(), RecvError>;
    /// Whether there is something to receive, a defect included.
    fn has_next(&self) -> bool;
    /// Rests, and announces a sleep that ends when the bell counts otherwise than this.
    fn announce(&mut self) -> Result<u32, RecvError>;
    /// Rests, and sleeps until there is a message.
    fn sleep(&mut self, at_most: Duration) -> Result<(), RecvError>;
    /// What is rung when there is something to receive.
    fn bell(&self) -> &MappedBell;
    /// The caller has looked in vain.
    fn found_nothing(&mut self) -> Result<(), RecvError>;
    /// The session that it was opened in.
    fn session(&self) -> &Arc<Session>;
    /// Messages that it has counted: as missed, or as settled too late.
    fn counted(&self) -> u64;
    /// Whether something that was settled, or committed, may not be so at `next`, the same partition at the next broker.
    fn is_set_back(&self, next: &Self) -> bool;
}

/// Opens all of them, in a session.
type Opener<P> = Box<dyn Fn(&Arc<Session>) -> Result<Vec<P>, OpenError> + Send + Sync>;

/// See the module. There is one at least.
pub(crate) struct Partitions<P> {
    all: Vec<P>,
    /// The one to be looked at first, and how many messages in a row came from it.
    turn: usize,
    in_turn: u32,
    wait: WaitStrategy,
    /// Never rung: a wait for many takes one.
    local: LocalBell,
    connection: Connection,
    opener: Opener<P>,
    outage: Option<Outage>,
    /// What those before the last outage have counted.
    counted_before: u64,
    /// An outage has set back what was settled, or committed, and nobody was told.
    set_back: bool,
}

/// Opens those that are named, or all.
pub(crate) fn open_all<P>(
    named: Option<&[u32]>,
    open: impl Fn(u32) -> Result<(P, StreamSettings), OpenError>,
) -> Result<Vec<P>, OpenError> {
    match named {
        Some([]) => Err(OpenError::NoPartition),
        Some(named) => named.iter().map(|partition| Ok(open(*partition)?.0)).collect(),
        None => {
            let (first, settings) = open(0)?;
            let mut all = vec![first];
            for partition in 1..settings.partitions {
                all.push(open(partition)?.0);
            }
            Ok(all)
        }
    }
}

/// The index of a partition, and what it has found.
type Found<P> = (usize, <P as Partition>::Found);

impl<P: Partition> Partitions<P> {
    /// Opens them by `opener`, now and at every broker that comes.
    pub(crate) fn open(
        connection: Connection,
        wait: WaitStrategy,
        opener: impl Fn(&Arc<Session>) -> Result<Vec<P>, OpenError> + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let all = patiently(&connection, &opener)?;
        if connection.reconnects() {
            all[0].session().watch();
        }
        Ok(Self {
            all,
            turn: 0,
            in_turn: 0,
            wait,
            local: LocalBell::default(),
            connection,
            opener: Box::new(opener),
            outage: None,
            counted_before: 0,
            set_back: false,
        })
    }

    /// How it waits.
    pub(crate) fn wait_strategy(&self) -> WaitStrategy {
        self.wait
    }

    /// All of them, to be closed.
    pub(crate) fn into_all(self) -> impl Iterator<Item = P> {
        self.all.into_iter()
    }

    /// Looks at the partitions, from the one whose turn it is.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Found<P>>, RecvError> {
        if let [one] = &mut self.all[..] {
            return Ok(one.next()?.map(|found| (0, found)));
        }
        self.next_of_many()
    }

    fn next_of_many(&mut self) -> Result<Option<Found<P>>, RecvError> {
        if self.in_turn >= TURN_MESSAGES {
            self.take_turn(self.turn + 1);
        }
        let count = self.all.len();
        for index in (self.turn..count).chain(0..self.turn) {
            if let Some(found) = self.all[index].next()? {
                if index != self.turn {
                    self.take_turn(index);
                }
                self.in_turn += 1;
                return Ok(Some((index, found)));
            }
        }
        Ok(None)
    }

    fn take_turn(&mut self, index: usize) {
        self.turn = index % self.all.len();
        self.in_turn = 0;
    }

    /// Rests in all of them.
    pub(crate) fn rest(&mut self) -> Result<(), RecvError> {
        self.all.iter_mut().try_for_each(P::rest)
    }

    /// Waits for a message; `None`: the deadline is over.
    #[cold]
    pub(crate) fn wait(&mut self, deadline: Deadline) -> Result<Option<Found<P>>, RecvError> {
        let mut wait = Waiter::new(self.wait, deadline);
        loop {
            // While another broker is looked for, each wait is up to the next look.
            let step =
                if self.is_in_outage() { Step::CheckBroker } else { wait.step_after(self.all.len() as u32) };
            match step {
                // Looking briefly is cheaper than to rest after each message when the next one is under way.
                Step::Look => {}
                Step::Idle | Step::CheckBroker | Step::Over => self.rest()?,
                Step::Sleep(at_most) => self.sleep(at_most)?,
            }
            let gone = matches!(step, Step::CheckBroker | Step::Over) && !self.is_open();
            // After the broker was looked at, so that all that came before its end is returned.
            if let Some(found) = self.next()? {
                return Ok(Some(found));
            }
            if gone && let Some(later) = self.look_for_broker()? {
                let now = Instant::now();
                if deadline.is_over(now) {
                    return Ok(None);
                }
                self.sleep(deadline.left(now, later))?;
            }
            if step == Step::Over {
                return Ok(None);
            }
        }
    }

    /// The broker is gone: looks for another one, once; `None`: they are open there. Else how long to wait before the next look.
    pub(crate) fn look_for_broker(&mut self) -> Result<Option<Duration>, RecvError> {
        if !self.connection.reconnects() {
            return Err(RecvError::Disconnected);
        }
        let lost = self.all[0].session();
        match Outage::look(&mut self.outage, &self.connection, lost, &self.opener) {
            Look::Open(all) => {
                self.counted_before = self.counted();
                self.set_back |= self.all.iter().zip(&all).any(|(before, now)| before.is_set_back(now));
                (self.all, self.turn, self.in_turn) = (all, 0, 0);
                self.all[0].session().watch();
                Ok(None)
            }
            Look::Later(later) => Ok(Some(later)),
            Look::GivenUp(error) if error.is_lost() => Err(RecvError::Disconnected),
            Look::GivenUp(source) => Err(RecvError::Reopen { source }),
        }
    }

    /// The caller has looked in vain, and does not wait.
    pub(crate) fn found_nothing(&mut self) -> Result<(), RecvError> {
        self.all.iter_mut().try_for_each(P::found_nothing)?;
        if self.all[0].session().has_ended() && self.connection.reconnects() {
            self.look_for_broker()?;
        }
        Ok(())
    }

    /// What all that there ever were have counted.
    pub(crate) fn counted(&self) -> u64 {
        self.counted_before + self.all.iter().map(P::counted).sum::<u64>()
    }

    /// Says once when an outage has set back what was settled, or committed.
    pub(crate) fn check_set_back(&mut self, stream: &str) -> Result<(), ConfirmError> {
        match std::mem::take(&mut self.set_back) {
            false => Ok(()),
            true => Err(ConfirmError::Disconnected { stream: stream.to_owned() }),
        }
    }

    fn sleep(&mut self, at_most: Duration) -> Result<(), RecvError> {
        if let [one] = &mut self.all[..] {
            return one.sleep(at_most);
        }
        let counts = self.announce()?;
        if !self.has_next() {
            wait_any(self.bells().zip(counts), (&self.local, 0), at_most);
        }
        Ok(())
    }

    /// Whether there is something to receive, a defect included.
    pub(crate) fn has_next(&self) -> bool {
        self.all.iter().any(P::has_next)
    }

    /// Rests, and announces a sleep that ends when one of the bells counts otherwise than this.
    pub(crate) fn announce(&mut self) -> Result<Vec<u32>, RecvError> {
        self.all.iter_mut().map(P::announce).collect()
    }

    /// What is rung when there is something to receive, one for each partition.
    pub(crate) fn bells(&self) -> impl Iterator<Item = &MappedBell> {
        self.all.iter().map(P::bell)
    }

    /// Whether the broker is there that they were opened at.
    pub(crate) fn is_open(&self) -> bool {
        self.all[0].session().is_open()
    }

    /// Whether another one is being looked for.
    pub(crate) fn is_in_outage(&self) -> bool {
        self.outage.is_some()
    }
}

impl<P> Deref for Partitions<P> {
    type Target = [P];

    #[inline]
    fn deref(&self) -> &[P] {
        &self.all
    }
}

impl<P> DerefMut for Partitions<P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [P] {
        &mut self.all
    }
}
