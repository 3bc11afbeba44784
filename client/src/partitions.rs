//! The partitions of a consumer of either mode: looked at in turn, waited for together.
//!
//! 1. A partition that always has messages is left after [`TURN_MESSAGES`], so that the others get their turn.
//! 2. Whoever waits rests: no producer waits for what a waiting consumer could give free.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use ringway_shm_protocol::control::message::StreamSettings;
use ringway_shm_protocol::memory::bell::{LocalBell, MappedBell, wait_any};

use crate::connection::Connection;
use crate::error::{OpenError, RecvError};
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
    /// The connection that it was opened by.
    fn connection(&self) -> &Connection;
}

/// See the module. There is one at least.
pub(crate) struct Partitions<P> {
    all: Vec<P>,
    /// The one to be looked at first, and how many messages in a row came from it.
    turn: usize,
    in_turn: u32,
    wait: WaitStrategy,
    /// Never rung: a wait for many takes one.
    local: LocalBell,
}

/// The index of a partition, and what it has found.
type Found<P> = (usize, <P as Partition>::Found);

impl<P: Partition> Partitions<P> {
    /// Opens those that are named, or all.
    pub(crate) fn open(
        named: Option<&[u32]>,
        wait: WaitStrategy,
        open: impl Fn(u32) -> Result<(P, StreamSettings), OpenError>,
    ) -> Result<Self, OpenError> {
        let mut all = Vec::new();
        match named {
            Some([]) => return Err(OpenError::NoPartition),
            Some(named) => {
                for partition in named {
                    all.push(open(*partition)?.0);
                }
            }
            None => {
                let (first, settings) = open(0)?;
                all.push(first);
                for partition in 1..settings.partitions {
                    all.push(open(partition)?.0);
                }
            }
        }
        Ok(Self { all, turn: 0, in_turn: 0, wait, local: LocalBell::default() })
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
            let step = wait.step_after(self.all.len() as u32);
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
            if gone {
                return Err(RecvError::Disconnected);
            }
            if step == Step::Over {
                return Ok(None);
            }
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

    /// Whether the broker is there.
    pub(crate) fn is_open(&self) -> bool {
        self.all[0].connection().is_open()
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
