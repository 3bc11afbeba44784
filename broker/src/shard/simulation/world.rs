//! The shards of a simulated broker on simulated disks, their keeper, and what the control plane does for them.
//!
//! 1. Shards, rings, lots and logs are those of production; the disks, the keeper's end, the control plane and the clock are
//!    simulated. The same seed gives the same history.
//! 2. A loss of power takes everything but what the disks are left with; a kill takes the shards, and leaves rings and clients.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use ringway_shm_protocol::control::message::{Reply, SubscriptionChanges, SubscriptionInfo};
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::words::next_epoch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::ledger::Of;
use crate::clock;
use crate::core::lot::Nanos;
use crate::core::{Alteration, Caller, Event, Grave, Operation, Partition, SessionId, Token};
use crate::journal::disk::Disk;
use crate::journal::disk::simulated::{Fails, Late, Random, SimulatedDisk, SimulatedWriter};
use crate::journal::format::SEGMENT_BYTES_MIN;
use crate::journal::helper::{Helper, Job};
use crate::keeper::{Entry, Estate, Keeping, Link, Message};
use crate::shard::journaling::Next;
use crate::shard::medium::Medium;
use crate::shard::{
    Answer, AnswerInbox, Answers, Command, FromShard, Letter, Mailbox, Restoring, Shard, answers, mailbox,
};

const US: Nanos = 1000;
pub(super) const MS: Nanos = 1000 * US;
/// Looks until a request must be answered.
const ANSWER_TURNS: u32 = 20_000;

/// A simulated disk as the place of a journal.
#[derive(Clone)]
struct Place {
    disk: SimulatedDisk,
    seed: u64,
    restoring: Arc<Restoring>,
}

impl Medium for Place {
    type Disk = SimulatedDisk;
    type Writer = SimulatedWriter;
    type Lock = ();

    fn directory(&self) -> &Path {
        Path::new("simulated")
    }

    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES_MIN
    }

    fn is_there(&self) -> bool {
        self.disk.list().is_ok_and(|names| !names.is_empty())
    }

    fn restoring(&self) -> &Restoring {
        &self.restoring
    }

    fn disk(&self) -> io::Result<SimulatedDisk> {
        Ok(self.disk.clone())
    }

    fn lock(&self) -> Result<(), (&'static str, io::Error)> {
        Ok(())
    }

    fn writer(&self, _: &OwnedFd, (): ()) -> io::Result<SimulatedWriter> {
        let mut random = Random(self.seed);
        let (buffers, pace) = (2 + random.below(4) as usize, [2, 10, 60][random.below(3) as usize]);
        Ok(SimulatedWriter::new(&self.disk, random.next(), buffers).with_pace(pace))
    }

    fn helper<J: Job<SimulatedDisk>>(
        &self,
        disk: SimulatedDisk,
        _: &OwnedFd,
    ) -> io::Result<Helper<SimulatedDisk, J>> {
        Ok(Helper::at_once(disk))
    }
}

struct Node {
    shard: Shard<Place>,
    mailbox: Mailbox,
    disk: SimulatedDisk,
}

/// What time it is: of the monotonic clock, and since 1970.
#[derive(Clone, Copy)]
struct Now {
    monotonic: Nanos,
    wall: Nanos,
}

/// See the module.
pub(super) struct World {
    pub(super) random: Random,
    /// The keeper's end, and what it holds. `None`: the broker has no keeper. It is dropped first: what a broker gives up that is
    /// not needed any more nobody hears.
    keeper: Option<(Link, Estate)>,
    nodes: Vec<Node>,
    heard: AnswerInbox,
    keeping: Arc<Keeping>,
    now: Now,
    submit_bytes: usize,
    tokens: u64,
    ticks: Vec<Option<Nanos>>,
    /// Dead letters that are to be sent, and those that are under way.
    letters: VecDeque<Letter>,
    posted: BTreeMap<u64, Grave>,
    replies: BTreeMap<u64, Answer>,
}

fn partition(stream: &str) -> Partition {
    Partition { stream: Name::parse(stream).expect("a name"), number: 0 }
}

impl World {
    /// A broker on empty disks.
    pub(super) fn new(seed: u64) -> Result<Self, String> {
        let mut random = Random(seed);
        let disks = (0..1 + random.below(2)).map(|_| SimulatedDisk::default()).collect();
        let now = Now { monotonic: 1000 * MS, wall: 1_700_000_000_000 * MS };
        Self::start(disks, Vec::new(), Estate::new(), true, random, now)
    }

    /// Goes on with what the disks hold, and with the estate, if there is one. Then late writes reach the disks.
    fn start(
        disks: Vec<SimulatedDisk>,
        late: Vec<Vec<Late>>,
        kept: Estate,
        has_keeper: bool,
        mut random: Random,
        now: Now,
    ) -> Result<Self, String> {
        clock::set(Some((now.monotonic, now.wall)));
        let (keeping, keeper) = if has_keeper {
            let (keeper, broker) = Link::pair().expect("a socket pair");
            keeper.send(&Message::All, &[]).expect("a socket with room");
            (Keeping::begin(broker).expect("it has just been told all").0, Some((keeper, kept.clone())))
        } else {
            (Arc::default(), None)
        };
        let (said, heard) = answers().expect("an eventfd");
        let mut estate = kept;
        let mut nodes = Vec::new();
        for (number, disk) in disks.into_iter().enumerate() {
            let place = Place { disk: disk.clone(), seed: random.next(), restoring: Arc::default() };
            nodes.push(Self::node(number as u32, disk, place, &said, &keeping));
        }
        let ticks = vec![None; nodes.len()];
        let submit_bytes = 1 << random.below(18);
        let (letters, posted, replies) = (VecDeque::new(), BTreeMap::new(), BTreeMap::new());
        let mut world = Self {
            random,
            keeper,
            nodes,
            heard,
            keeping,
            now,
            submit_bytes,
            tokens: 0,
            ticks,
            letters,
            posted,
            replies,
        };
        for node in &mut world.nodes {
            node.shard.adopt(&mut estate).map_err(|error| error.to_string())?;
        }
        world.nodes.iter().zip(late).for_each(|(node, late)| node.disk.land(late));
        world.keeping.settle(estate);
        world.hear_out();
        Ok(world)
    }

    fn node(number: u32, disk: SimulatedDisk, place: Place, said: &Answers, keeping: &Arc<Keeping>) -> Node {
        let (mailbox, inbox, wake) = mailbox().expect("an eventfd");
        let shard = Shard::new(number, 1 << 20, inbox, said.clone(), keeping, (Some(place), wake));
        Node { shard, mailbox, disk }
    }

    /// The broker is killed; its successor goes on with the rings.
    pub(super) fn kill(self) -> Result<Self, String> {
        let Self { mut random, nodes, keeping, keeper, now, tokens, .. } = self;
        let (_link, kept) = keeper.expect("a broker that is succeeded has a keeper");
        keeping.leave_everything();
        let disks: Vec<_> = nodes.into_iter().map(|node| node.disk).collect();
        let late = disks.iter().map(|disk| disk.after_kill(&mut random)).collect();
        // Clients go on counting their requests.
        Ok(Self { tokens, ..Self::start(disks, late, kept, true, random, now)? })
    }

    /// The same while it was about to attach whoever is detached.
    pub(super) fn kill_while_it_attaches(self) -> Result<Self, String> {
        let Shard { core, rings, .. } = &self.nodes[0].shard;
        for (id, ring) in rings {
            let gates = core.open_stream(*id).into_iter().flat_map(|stream| stream.subscriptions);
            for gate in gates.map(|subscription| subscription.gate).filter(|gate| !ring.cursor(*gate).live) {
                let (word, position) = (&ring.subscription(gate).cursor, ring.cursor(gate).position);
                ring.partition.ring.place(gate.index, next_epoch(gate.generation), word, position);
            }
        }
        self.kill()
    }

    /// How much has happened to each disk.
    pub(super) fn moments(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.disk.moment()).collect()
    }

    /// Another broker, on disks as a loss of power after these moments, and not later than now, may leave them. It knows no time
    /// but that of this one.
    pub(super) fn after_power_loss(&self, since: &[usize], has_keeper: bool) -> Result<Self, String> {
        let mut random = Random(self.random.clone().next());
        let disks = self.nodes.iter().zip(since).map(|(node, since)| {
            let moment = *since as u64 + random.below((node.disk.moment() - since) as u64 + 1);
            node.disk.after_power_loss(moment as usize, &mut random)
        });
        let disks = disks.collect();
        let off = random.below(1000) * MS;
        let now = Now { monotonic: 1 + random.below(100_000) * MS, wall: self.now.wall + off };
        Self::start(disks, Vec::new(), Estate::new(), has_keeper, random, now)
    }

    /// The clock is this broker's again.
    pub(super) fn set_clock(&self) {
        clock::set(Some((self.now.monotonic, self.now.wall)));
    }

    /// Nanoseconds since 1970.
    pub(super) fn wall(&self) -> Nanos {
        self.now.wall
    }

    /// Time goes by.
    pub(super) fn advance(&mut self, nanos: Nanos) {
        (self.now.monotonic, self.now.wall) = (self.now.monotonic + nanos, self.now.wall + nanos);
        self.set_clock();
    }

    /// Time goes by until the next shard wants to be woken, if any does.
    pub(super) fn advance_to_tick(&mut self) {
        if let Some(at) = self.ticks.iter().flatten().min() {
            self.advance(at.saturating_sub(self.now.monotonic));
        }
    }

    /// The shard that has a stream: the dead letters have one of their own, if there are several.
    fn home(&self, stream: &str) -> usize {
        if [super::DEAD, super::OTHER].contains(&stream) { self.nodes.len() - 1 } else { 0 }
    }

    /// A turn of a shard that has been woken.
    pub(super) fn turn(&mut self, shard: usize) {
        let now = self.now.monotonic;
        if self.ticks[shard].take_if(|at| *at <= now).is_some() {
            self.nodes[shard].mailbox.send(Command::Tick);
        }
        self.nodes[shard].shard.turn();
        self.fill_buffers(shard);
        self.hear_out();
    }

    /// Batches are submitted before they are full, so that buffers run out.
    fn fill_buffers(&mut self, shard: usize) {
        if let Some(journal) = &mut self.nodes[shard].shard.journal {
            journal.log.set_submit_bytes(self.submit_bytes);
        }
    }

    /// A turn of a shard's journal alone.
    pub(super) fn turn_of_journal(&mut self, shard: usize) -> Option<Next> {
        let Shard { journal, rings, unsaid, answers, .. } = &mut self.nodes[shard].shard;
        let next = journal.as_mut()?.turn(rings, unsaid);
        answers.say(unsaid.drain(..));
        self.hear_out();
        Some(next)
    }

    /// A turn of a shard's journal in which something happens between reading messages and looking at what is settled.
    pub(super) fn turn_of_journal_around<R>(
        &mut self,
        shard: usize,
        between: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let now = self.now.monotonic;
        let Shard { journal, rings, .. } = &mut self.nodes[shard].shard;
        if let Some(journal) = journal {
            journal.read(rings, now);
        }
        let happened = between(self);
        let Shard { journal, rings, .. } = &mut self.nodes[shard].shard;
        if let Some(journal) = journal {
            journal.round(rings, now);
        }
        happened
    }

    /// A shard writes a snapshot soon.
    pub(super) fn snapshot_soon(&mut self, shard: usize) {
        if let Some(journal) = &mut self.nodes[shard].shard.journal {
            journal.snapshot_soon();
        }
    }

    /// A shard's disk fails from one of its next operations on.
    pub(super) fn fail_disk(&mut self, shard: usize) {
        self.nodes[shard].disk.fail_after(self.random.below(4), Fails::Always);
    }

    /// Dead letters that a shard counts as under way.
    pub(super) fn letters(&self, shard: usize) -> usize {
        self.nodes[shard].shard.letters
    }

    pub(super) fn shards(&self) -> usize {
        self.nodes.len()
    }

    /// Takes what the shards say to the control plane and to the keeper.
    fn hear_out(&mut self) {
        for said in self.heard.take() {
            match said {
                FromShard::Answer(answer) => match self.posted.remove(&answer.token.0) {
                    Some(grave) => {
                        let done = answer.reply == Reply::Done;
                        self.nodes[grave.shard as usize].mailbox.send(Command::Buried(grave, done));
                    }
                    None => {
                        self.replies.insert(answer.token.0, answer);
                    }
                },
                FromShard::WantsTick(shard, at) => self.ticks[shard as usize] = Some(at),
                FromShard::Letter(letter) => self.letters.push_back(letter),
            }
        }
        let Some((link, kept)) = &mut self.keeper else { return };
        while is_readable(link) {
            match link.receive() {
                Ok(Some((Message::Keep(key, note), descriptors))) => {
                    let descriptors = descriptors.into_iter().map(Arc::new).collect();
                    kept.insert(key, Entry { note, descriptors });
                }
                Ok(Some((Message::Forget(key), _))) => drop(kept.remove(&key)),
                other => panic!("no keeper hears {other:?}"),
            }
        }
    }

    /// Sends a dead letter on, if there is one.
    pub(super) fn post(&mut self) -> bool {
        let Some(Letter { grave, stream, body }) = self.letters.pop_front() else { return false };
        let stream = partition(stream.as_str());
        let shard = self.home(stream.stream.as_str());
        let token = self.ask(shard, SessionId(0), Operation::Publish(stream, grave, body));
        self.posted.insert(token.0, grave);
        true
    }

    /// Asks the shard that has the queue to alter it.
    pub(super) fn alter(&mut self, changes: SubscriptionChanges) -> Token {
        let queue = partition(super::WORK);
        let alteration = Alteration::Subscription(queue.stream.clone(), changes);
        self.ask(self.home(super::WORK), SessionId(1), Operation::Alter(queue, alteration))
    }

    /// Sends all dead letters on, and lets them come; where they are from does not hear of it yet.
    pub(super) fn let_letters_come(&mut self) {
        while self.post() {}
        for _ in 0..ANSWER_TURNS {
            if self.posted.is_empty() {
                return;
            }
            self.turn(self.home(super::DEAD));
            self.advance(100 * US);
        }
        panic!("a letter does not come");
    }

    fn ask(&mut self, shard: usize, session: SessionId, operation: Operation) -> Token {
        self.tokens += 1;
        let caller = Caller { session, pid: 1, request: self.tokens as u32 };
        let event = Event::Request(Token(self.tokens), caller, operation);
        self.nodes[shard].mailbox.send(Command::Apply(event));
        Token(self.tokens)
    }

    /// Asks the shard that has a stream, and waits for the answer.
    pub(super) fn request(
        &mut self,
        stream: &str,
        session: SessionId,
        operation: impl FnOnce(Partition) -> Operation,
    ) -> Answer {
        let shard = self.home(stream);
        let token = self.ask(shard, session, operation(partition(stream)));
        for _ in 0..ANSWER_TURNS {
            self.turn(shard);
            if let Some(answer) = self.replies.remove(&token.0) {
                return answer;
            }
            self.advance(100 * US);
        }
        panic!("a request was not answered");
    }

    /// The answer to what was asked, if there is one.
    pub(super) fn answer(&mut self, token: Token) -> Option<Reply> {
        self.replies.remove(&token.0).map(|answer| answer.reply)
    }

    /// Makes a stream; a queue with its subscription.
    pub(super) fn declare(&mut self, stream: &str, operation: impl FnOnce(Partition) -> Operation) {
        let answer = self.request(stream, SessionId(1), operation);
        assert!(!matches!(answer.reply, Reply::Refused(_)), "{:?}", answer.reply);
    }

    /// Where a stream ends, if it is there.
    pub(super) fn end(&mut self, stream: &str) -> Option<u64> {
        match self.request(stream, SessionId(1), Operation::DescribeStream).reply {
            Reply::Stream(info) => Some(info.partitions[0].next_position),
            _ => None,
        }
    }

    /// A subscription as it stands.
    pub(super) fn subscription(&mut self, of: Of) -> SubscriptionInfo {
        let describe = |partition| Operation::DescribeSubscription(partition, of.subscription());
        match self.request(of.stream(), SessionId(1), describe).reply {
            Reply::Subscription(info) => info,
            other => panic!("{other:?}"),
        }
    }

    /// Whether there is nothing in a subscription that is shared.
    pub(super) fn is_empty(&mut self, of: Of) -> bool {
        let info = self.subscription(of).partitions[0].shared.expect("it is shared");
        info.ready + info.leased + info.delayed + info.dead == 0
    }

    /// The files of a disk may grow by so many bytes from now on, if that is said.
    pub(super) fn set_free(&mut self, shard: usize, bytes: Option<u64>) {
        self.nodes[shard].disk.set_free(bytes);
    }

    /// A consumer has called.
    pub(super) fn look(&mut self, session: SessionId) {
        self.nodes.iter().for_each(|node| node.mailbox.send(Command::Look(session)));
    }

    /// The process of a session is gone.
    pub(super) fn end_session(&mut self, session: SessionId) {
        self.nodes.iter().for_each(|node| node.mailbox.send(Command::Apply(Event::SessionEnded(session))));
    }
}

fn is_readable(link: &Link) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN)];
    poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}
