//! How the control plane and a shard reach each other: a queue and an eventfd each way.
//!
//! Whoever puts something into a queue then adds to its eventfd; whoever wakes by the eventfd empties the
//! queue. So nothing stays behind: an entry that came after the emptying has its own wake-up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use ringway_shm_protocol::control::message::Reply;
use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::partition::PartitionRegions;
use rustix::event::EventfdFlags;

use crate::core::lot::Nanos;
use crate::core::{Body, Event, Grave, SessionId, StreamId, Token};

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Decide and act on this.
    Apply(Event),
    /// Look again: the shard asked for it.
    Tick,
    /// A consumer of this session has called: look what it has.
    Look(SessionId),
    /// The memory of a stream's ring is there.
    Cleared(StreamId, Result<Box<PartitionRegions>, RegionError>),
    /// A dead letter is where it belongs; `false`: it could not be published now.
    Buried(Grave, bool),
    /// Wake all sleepers and end.
    Stop,
}

/// A shard's answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) token: Token,
    pub(crate) reply: Reply,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Answer {
    pub(super) fn with(token: Token, reply: Reply, descriptors: Vec<OwnedFd>) -> Self {
        Self { token, reply, descriptors }
    }
}

/// What a shard says to the control plane.
#[derive(Debug)]
pub(crate) enum FromShard {
    /// An answer.
    Answer(Answer),
    /// The shard with this number wants a [`Command::Tick`] at this time of the monotonic clock.
    WantsTick(u32, Nanos),
    /// A dead letter is to be published, wherever its stream is.
    Letter(Letter),
}

/// A message for a dead-letter stream.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) grave: Grave,
    pub(crate) stream: Name,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
struct Wake(Arc<OwnedFd>);

impl Wake {
    fn ring(&self) {
        // Fails only when the count is about to overflow: then the reader is being woken anyway.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// The sending end of a shard's queue.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    queue: Sender<Command>,
    wake: Wake,
}

impl Mailbox {
    /// Leaves a command. Without effect when the shard has ended.
    pub(crate) fn send(&self, command: Command) {
        if self.queue.send(command).is_ok() {
            self.wake.ring();
        }
    }
}

/// The receiving end of a shard's queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Receiver<Command>,
    mailbox: Mailbox,
}

impl Inbox {
    pub(super) fn next(&self) -> Option<Command> {
        self.queue.try_recv().ok()
    }

    /// Its sending end.
    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
}

/// A shard's queue, and the eventfd that its runtime waits on.
pub(crate) fn mailbox() -> io::Result<(Mailbox, Inbox, OwnedFd)> {
    let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
    let waiting = wake.try_clone()?;
    let (sender, queue) = channel();
    let mailbox = Mailbox { queue: sender, wake: Wake(Arc::new(wake)) };
    Ok((mailbox.clone(), Inbox { queue, mailbox }, waiting))
}

/// A shard's end of the queue of answers.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    queue: Sender<FromShard>,
    wake: Wake,
}

impl Answers {
    /// Says these, in order.
    pub(super) fn say(&self, what: impl IntoIterator<Item = FromShard>) {
        let mut said = false;
        for what in what {
            said |= self.queue.send(what).is_ok();
        }
        if said {
            self.wake.ring();
        }
    }
}

/// The control plane's end of the queue of answers.
#[derive(Debug)]
pub(crate) struct AnswerInbox {
    queue: Receiver<FromShard>,
    wake: Wake,
}

impl AnswerInbox {
    /// Readable when there may be answers.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.0.as_fd()
    }

    /// Takes all that is there.
    pub(crate) fn take(&self) -> Vec<FromShard> {
        let mut count = [0; 8];
        // Would block when another wake-up has already been answered: then the queue is looked at all the same.
        let _ = rustix::io::read(&*self.wake.0, &mut count);
        self.queue.try_iter().collect()
    }
}

/// The queue of answers of all shards.
pub(crate) fn answers() -> io::Result<(Answers, AnswerInbox)> {
    let wake = Wake(Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
    let (queue, inbox) = channel();
    Ok((Answers { queue, wake: wake.clone() }, AnswerInbox { queue: inbox, wake }))
}
