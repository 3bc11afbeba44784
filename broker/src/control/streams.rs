//! What concerns a stream as a whole: one request after another, each on all the partitions that it is about.
//!
//! ```text
//! request on a name ── queue of that name ──▶ phase: ask partitions ──▶ all answered ──▶ next phase, or one reply
//! ```
//!
//! 1. Requests that name the same stream are carried out one at a time, in the order in which they came. So partitions, each
//!    of which decides for itself, decide alike.
//! 2. A request is carried out on all partitions or on none: what could be refused by one is asked of all before it is
//!    done (deleting), or undone where it was done (a subscription whose memory cannot be had everywhere).
//! 3. Partition *k* of a stream is on the shard that its name hashes to, and *k* further.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use ringway_shm_protocol::control::message::{
    Refusal, RefusalCode, Reply, SharedSettings, StartAt, StreamInfo, StreamSettings, SubscriptionInfo,
    SubscriptionMode,
};
use ringway_shm_protocol::layout::PARTITIONS_MAX;
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::text::count;

use super::Control;
use super::requests::{Pending, Waiting};
use crate::core::{Alteration, Caller, EndpointId, Grave, Operation, PAGE_STREAMS, Partition, SessionId};
use crate::shard::{Command, Letter};

/// Most partitions on a page of a list, so that it fits a packet.
const PAGE_PARTITIONS: usize = 256;

/// What is asked of a stream.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Declare(StreamSettings, Option<SharedSettings>),
    Describe,
    Delete,
    DeclareSubscription(Name, StartAt, Option<SubscriptionMode>),
    DescribeSubscription(Name),
    ListSubscriptions,
    DeleteSubscription(Name),
    Purge(Option<Name>),
    Alter(Box<Alteration>),
    OpenProducer(u32, Option<Name>),
    OpenConsumer(u32, Name),
}

impl Asked {
    pub(super) fn opens(&self) -> bool {
        matches!(self, Self::OpenProducer(..) | Self::OpenConsumer(..))
    }
}

/// A request on a stream.
#[derive(Debug)]
pub(super) struct StreamRequest {
    pub(super) session: SessionId,
    pub(super) request: u32,
    pub(super) asked: Asked,
}

/// The streams that there are, and what is asked of them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// How many partitions each has.
    partitions: BTreeMap<Name, u32>,
    /// Requests by name; the first of each is under way.
    queues: BTreeMap<Name, VecDeque<StreamRequest>>,
}

/// What the partitions are asked for at the moment.
#[derive(Debug)]
enum Phase {
    /// Whether it could be done.
    Check,
    /// To do it.
    Act,
    /// To undo it; this is then the reply.
    Undo(Refusal),
}

/// A request on a stream that is under way.
#[derive(Debug)]
pub(super) struct Work {
    name: Name,
    asked: Asked,
    caller: Caller,
    partitions: u32,
    phase: Phase,
    /// Answers that are still to come.
    left: usize,
    replies: Vec<Reply>,
    descriptors: Vec<OwnedFd>,
}

impl Streams {
    /// The streams that there are already.
    pub(super) fn with(partitions: BTreeMap<Name, u32>) -> Self {
        Self { partitions, queues: BTreeMap::new() }
    }
}

impl Control {
    /// Takes a request on a stream: it is carried out when those before it are.
    pub(super) fn ask_stream(&mut self, name: Name, asked: StreamRequest) {
        self.pause(asked.session);
        if asked.asked.opens()
            && let Some(session) = self.sessions.get_mut(&asked.session)
        {
            session.may_hold_one_more();
        }
        let queue = self.streams.queues.entry(name.clone()).or_default();
        queue.push_back(asked);
        if queue.len() == 1 {
            self.start_next(name);
        }
    }

    /// Starts the first request of a queue, if there is one whose session is still there.
    fn start_next(&mut self, name: Name) {
        loop {
            let Some(queue) = self.streams.queues.get_mut(&name) else { return };
            let Some(first) = queue.front() else {
                self.streams.queues.remove(&name);
                return;
            };
            if let Some(session) = self.sessions.get(&first.session) {
                let caller = Caller { session: first.session, pid: session.pid(), request: first.request };
                let (asked, request) = (first.asked.clone(), first.request);
                return self.start(name, asked, request, caller);
            }
            queue.pop_front();
        }
    }

    fn start(&mut self, name: Name, asked: Asked, request: u32, caller: Caller) {
        let known = self.streams.partitions.get(&name).copied();
        // A stream that is not there has a first partition all the same, which says so.
        let partitions = match (&asked, known) {
            // Where the numbers differ, or cannot be, the first partition says so.
            (Asked::Declare(settings, _), known)
                if known.is_none_or(|known| known == settings.partitions) =>
            {
                if settings.partitions <= PARTITIONS_MAX { settings.partitions.max(1) } else { 1 }
            }
            (Asked::Declare(..), _) => 1,
            (_, known) => known.unwrap_or(1),
        };
        let phase = match asked {
            Asked::Delete | Asked::DeleteSubscription(_) | Asked::Purge(_) | Asked::Alter(_)
                if partitions > 1 =>
            {
                Phase::Check
            }
            _ => Phase::Act,
        };
        let (replies, descriptors) = (Vec::new(), Vec::new());
        let work = Work { name, asked, caller, partitions, phase, left: 0, replies, descriptors };
        match &work.asked {
            Asked::OpenProducer(partition, _) | Asked::OpenConsumer(partition, _)
                if *partition >= partitions =>
            {
                let (name, partition) = (&work.name, *partition);
                let partitions = count(partitions.into(), "partition");
                let message = format!("stream {name} has {partitions}: there is no partition {partition}");
                let refusal = Refusal { code: RefusalCode::Invalid, message };
                self.finish(Reply::Refused(refusal), request, work);
            }
            Asked::OpenProducer(partition, _) | Asked::OpenConsumer(partition, _) => {
                let partition = *partition;
                self.ask_partitions(work, request, partition..partition + 1);
            }
            _ => self.ask_partitions(work, request, 0..partitions),
        }
    }

    fn ask_partitions(&mut self, mut work: Work, request: u32, partitions: impl Iterator<Item = u32>) {
        let asked: Vec<_> =
            partitions.map(|number| Partition { stream: work.name.clone(), number }).collect();
        work.left = asked.len();
        let (caller, operations) = (
            work.caller,
            asked.into_iter().map(|partition| (self.shard_of(&partition), work.operation(partition))),
        );
        let operations: Vec<_> = operations.collect();
        let pending = Pending { session: caller.session, request, what: Waiting::Stream(work) };
        let token = self.wait(pending);
        for (shard, operation) in operations {
            self.forward(shard, token, caller, operation);
        }
    }

    /// One partition has answered.
    pub(super) fn stream_answered(&mut self, request: u32, mut work: Work) {
        let replies = std::mem::take(&mut work.replies);
        let refused = replies.iter().find_map(|reply| match reply {
            Reply::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        });
        match (&work.phase, refused) {
            (Phase::Check, None) => {
                work.phase = Phase::Act;
                let partitions = work.partitions;
                self.ask_partitions(work, request, 0..partitions);
            }
            (Phase::Act, Some(refusal)) if matches!(work.asked, Asked::DeclareSubscription(..)) => {
                let made: Vec<u32> = replies.iter().filter_map(partition_of).collect();
                if made.is_empty() {
                    return self.finish(Reply::Refused(refusal), request, work);
                }
                work.phase = Phase::Undo(refusal);
                self.ask_partitions(work, request, made.into_iter());
            }
            (Phase::Check | Phase::Act, Some(refusal)) => {
                self.finish(Reply::Refused(refusal), request, work);
            }
            (Phase::Undo(refusal), _) => {
                let reply = Reply::Refused(refusal.clone());
                self.finish(reply, request, work);
            }
            (Phase::Act, None) => {
                let (stream, pid) = (work.name.as_str(), work.caller.pid);
                match &work.asked {
                    Asked::Declare(settings, _) => {
                        let before = self.streams.partitions.insert(work.name.clone(), settings.partitions);
                        if before.is_none() {
                            tracing::info!(stream, pid, ?settings, "stream declared");
                        }
                    }
                    Asked::Delete => {
                        self.streams.partitions.remove(&work.name);
                        tracing::info!(stream, pid, "stream deleted");
                    }
                    Asked::DeclareSubscription(name, ..) => {
                        tracing::info!(stream, subscription = name.as_str(), pid, "subscription declared");
                    }
                    Asked::DeleteSubscription(name) => {
                        tracing::info!(stream, subscription = name.as_str(), pid, "subscription deleted");
                    }
                    Asked::Alter(alteration) => tracing::info!(stream, pid, ?alteration, "altered"),
                    _ => {}
                }
                let reply = joined(replies);
                if let (Asked::Purge(subscription), Reply::Purged { messages }) = (&work.asked, &reply) {
                    let subscription = subscription.as_ref().map(Name::as_str);
                    tracing::info!(stream = work.name.as_str(), subscription, pid, messages, "purged");
                }
                self.finish(reply, request, work);
            }
        }
    }

    /// Replies, and goes on with the next request on the same stream.
    fn finish(&mut self, mut reply: Reply, request: u32, mut work: Work) {
        let session = work.caller.session;
        if let Reply::Member(grant) = &reply {
            let endpoint = EndpointId(grant.endpoint);
            match self.eventfd(session) {
                Ok(eventfd) => work.descriptors.push(eventfd),
                Err(error) => {
                    reply = Reply::Refused(Refusal {
                        code: RefusalCode::Limit,
                        message: format!("the broker cannot make an eventfd: {error}; close some sessions"),
                    });
                    work.descriptors.clear();
                    self.take_back(&work, endpoint);
                }
            }
        }
        if work.asked.opens() && matches!(reply, Reply::Refused(_)) {
            self.holds_one_less(session);
        }
        if let Some(shard) = self.opened_on(&work) {
            super::requests::on_wire(&mut reply, shard);
        }
        self.answer(session, request, &reply, &work.descriptors);
        if let Some(queue) = self.streams.queues.get_mut(&work.name) {
            queue.pop_front();
        }
        self.start_next(work.name);
    }

    /// The shard that an endpoint was opened on.
    fn opened_on(&self, work: &Work) -> Option<usize> {
        let (Asked::OpenProducer(number, _) | Asked::OpenConsumer(number, _)) = work.asked else {
            return None;
        };
        Some(self.shard_of(&Partition { stream: work.name.clone(), number }))
    }

    /// Takes an endpoint back that could not be given to its session. Nobody waits for the answer.
    fn take_back(&mut self, work: &Work, endpoint: EndpointId) {
        let token = self.next_token();
        if let Some(shard) = self.opened_on(work) {
            self.forward(shard, token, work.caller, Operation::Close(endpoint));
        }
    }

    /// Publishes a dead letter in its stream, in the partition of the number that it was in, or round.
    pub(super) fn post(&mut self, letter: Letter) {
        let Letter { grave, stream, body } = letter;
        let Some(partitions) = self.streams.partitions.get(&stream) else {
            return self.buried(grave, false);
        };
        let partition = Partition { number: (grave.position % u64::from(*partitions)) as u32, stream };
        let nobody = Caller { session: SessionId(0), pid: std::process::id(), request: 0 };
        let token = self.next_token();
        let what = Waiting::Letter(grave);
        self.pending.insert(token.0, Pending { session: nobody.session, request: 0, what });
        let shard = self.shard_of(&partition);
        self.forward(shard, token, nobody, Operation::Publish(partition, grave, body));
    }

    /// Tells the shard where a dead letter comes from what became of it.
    pub(super) fn buried(&self, grave: Grave, done: bool) {
        self.parts.shards[grave.shard as usize].send(Command::Buried(grave, done));
    }

    /// Which shard owns a partition: by the FNV-1a hash of the stream's name, the same in every run.
    fn shard_of(&self, partition: &Partition) -> usize {
        let hash = partition.stream.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let shards = self.parts.shards.len() as u64;
        ((hash % shards + u64::from(partition.number)) % shards) as usize
    }
}

impl Work {
    /// Takes an answer; the last one says that the phase is over.
    pub(super) fn take(&mut self, reply: Reply, descriptors: Vec<OwnedFd>) -> bool {
        self.replies.push(reply);
        self.descriptors.extend(descriptors);
        self.left -= 1;
        self.left == 0
    }

    /// What a partition is asked in this phase.
    fn operation(&self, partition: Partition) -> Operation {
        match (&self.phase, self.asked.clone()) {
            (Phase::Check, Asked::Delete) => Operation::CheckStreamUnused(partition),
            (Phase::Check, Asked::DeleteSubscription(name)) => {
                Operation::CheckSubscriptionUnused(partition, name)
            }
            (Phase::Check, Asked::Purge(name)) => Operation::CheckPurge(partition, name),
            (Phase::Check, Asked::Alter(alteration)) => Operation::CheckAlter(partition, *alteration),
            (Phase::Undo(_), Asked::DeclareSubscription(name, ..)) => {
                Operation::DeleteSubscription(partition, name)
            }
            (_, Asked::Declare(settings, queue)) => Operation::DeclareStream(partition, settings, queue),
            (_, Asked::Describe) => Operation::DescribeStream(partition),
            (_, Asked::Delete) => Operation::DeleteStream(partition),
            (_, Asked::DeclareSubscription(name, start, mode)) => {
                Operation::DeclareSubscription(partition, name, start, mode)
            }
            (_, Asked::DescribeSubscription(name)) => Operation::DescribeSubscription(partition, name),
            (_, Asked::ListSubscriptions) => Operation::ListSubscriptions(partition),
            (_, Asked::DeleteSubscription(name)) => Operation::DeleteSubscription(partition, name),
            (_, Asked::Purge(name)) => Operation::Purge(partition, name),
            (_, Asked::Alter(alteration)) => Operation::Alter(partition, *alteration),
            (_, Asked::OpenProducer(_, name)) => Operation::OpenProducer(partition, name),
            (_, Asked::OpenConsumer(_, name)) => Operation::OpenConsumer(partition, name),
        }
    }
}

/// The partition that an answer is about.
fn partition_of(reply: &Reply) -> Option<u32> {
    match reply {
        Reply::Subscription(subscription) => subscription.partitions.first().map(|cursor| cursor.partition),
        _ => None,
    }
}

/// One reply made of the replies of all partitions, none of which was refused.
fn joined(replies: Vec<Reply>) -> Reply {
    let mut replies = replies.into_iter();
    let first = replies.next().expect("at least one partition was asked");
    replies.fold(first, |joined, reply| match (joined, reply) {
        (Reply::Stream(mut joined), Reply::Stream(part)) => {
            join_stream(&mut joined, part);
            Reply::Stream(joined)
        }
        (Reply::Subscription(mut joined), Reply::Subscription(part)) => {
            join_subscription(&mut joined, part);
            Reply::Subscription(joined)
        }
        // Each is in the order of the names, and all have the same.
        (Reply::Subscriptions(mut joined), Reply::Subscriptions(parts)) => {
            for (joined, part) in joined.iter_mut().zip(parts) {
                join_subscription(joined, part);
            }
            Reply::Subscriptions(joined)
        }
        (Reply::Purged { messages }, Reply::Purged { messages: more }) => {
            Reply::Purged { messages: messages + more }
        }
        (joined, _) => joined,
    })
}

fn join_stream(joined: &mut StreamInfo, part: StreamInfo) {
    joined.partitions.extend(part.partitions);
    joined.partitions.sort_by_key(|partition| partition.partition);
}

fn join_subscription(joined: &mut SubscriptionInfo, part: SubscriptionInfo) {
    joined.partitions.extend(part.partitions);
    joined.partitions.sort_by_key(|cursor| cursor.partition);
}

/// The first page of what all shards have, in order of names. Each shard's part is complete up to its last name,
/// so the first [`PAGE_STREAMS`] names have all their partitions.
pub(super) fn joined_page(parts: Vec<StreamInfo>, mut more: bool) -> Reply {
    let mut streams: BTreeMap<String, StreamInfo> = BTreeMap::new();
    for part in parts {
        match streams.get_mut(&part.name) {
            Some(joined) => join_stream(joined, part),
            None => {
                streams.insert(part.name.clone(), part);
            }
        }
    }
    let (mut page, mut partitions) = (Vec::new(), 0);
    for (_, stream) in streams {
        partitions += stream.partitions.len();
        if page.len() == PAGE_STREAMS || partitions > PAGE_PARTITIONS && !page.is_empty() {
            more = true;
            break;
        }
        page.push(stream);
    }
    Reply::Streams { page, more }
}
