//! One wait of a task, over all its polls.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringway_shm_protocol::memory::bell::MappedBell;

use super::Interest;
use crate::error::RecvError;
use crate::partitions::{Partition, Partitions};
use crate::wait::{Deadline, Step, WaitStrategy, Waiter};

/// See the module. It begins with the first look that finds nothing.
#[derive(Default)]
pub(crate) struct Waiting {
    waiter: Option<Waiter>,
    interest: Option<Interest>,
}

impl Waiting {
    /// The next message of a consumer.
    #[inline]
    pub(crate) fn poll<P: Partition>(
        &mut self,
        partitions: &mut Partitions<P>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(usize, P::Found), RecvError>> {
        match partitions.next() {
            Ok(Some(found)) => {
                self.end();
                Poll::Ready(Ok(found))
            }
            Ok(None) => self.poll_again(partitions, context),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    #[cold]
    fn poll_again<P: Partition>(
        &mut self,
        partitions: &mut Partitions<P>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(usize, P::Found), RecvError>> {
        self.interest = None;
        loop {
            // While another broker is looked for, each wait is up to the next look.
            let step = if partitions.is_in_outage() {
                Step::CheckBroker
            } else {
                self.step(partitions.wait_strategy(), partitions.len() as u32)
            };
            match step {
                Step::Look => {}
                Step::Idle | Step::CheckBroker | Step::Over => partitions.rest()?,
                Step::Sleep(at_most) => {
                    if self.sleep_at(partitions, context, at_most)? {
                        return Poll::Pending;
                    }
                }
            }
            let gone = step == Step::CheckBroker && !partitions.is_open();
            // After the broker was looked at, so that all that came before its end is returned.
            if let Some(found) = partitions.next()? {
                self.end();
                return Poll::Ready(Ok(found));
            }
            if gone
                && let Some(later) = partitions.look_for_broker()?
                && self.sleep_at(partitions, context, later)?
            {
                return Poll::Pending;
            }
            if step == Step::Idle {
                return Self::give_way(context);
            }
        }
    }

    /// Has the task woken when there is something to receive; `false`: there is already.
    fn sleep_at<P: Partition>(
        &mut self,
        partitions: &mut Partitions<P>,
        context: &Context<'_>,
        at_most: Duration,
    ) -> Result<bool, RecvError> {
        let counts = partitions.announce()?;
        let sleeps = !partitions.has_next();
        if sleeps {
            let bells = partitions.bells().cloned().zip(counts).collect();
            self.sleep(bells, context.waker().clone(), at_most);
        }
        Ok(sleeps)
    }

    /// What to do after so many looks that found nothing.
    pub(crate) fn step(&mut self, strategy: WaitStrategy, looks: u32) -> Step {
        self.waiter.get_or_insert_with(|| Waiter::new(strategy, Deadline::NEVER)).step_after(looks)
    }

    /// Has the task woken when one of the bells counts otherwise than this.
    pub(crate) fn sleep(&mut self, bells: Vec<(MappedBell, u32)>, waker: Waker, at_most: Duration) {
        self.interest = Some(Interest::announced(bells, waker, at_most));
    }

    /// Other tasks first; this one is polled again at once.
    pub(crate) fn give_way<T>(context: &Context<'_>) -> Poll<T> {
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// There is nothing to wait for any more.
    pub(crate) fn end(&mut self) {
        (self.waiter, self.interest) = (None, None);
    }
}
