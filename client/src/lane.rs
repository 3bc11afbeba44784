//! Publishing into one partition's ring.
//!
//! ```text
//! publish: slot, copy, commit ──▶ position          ring: look for sleepers
//!   │ full                    │ larger than a slot
//!   ▼ cold                    ▼ cold
//! map the holder's cursor     take a block, copy, publish a reference to it
//! if it is new · wait ·
//! publish again
//! ```
//!
//! A message with attributes goes the same way with two parts; where they do not fit a slot, the payload moves to a block
//! first.
//!
//! 1. Before it waits, the producer wakes the consumers of all that it has published.
//! 2. A payload is in its block before a slot is taken for it; what happens to a loan meanwhile concerns nobody.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_shm_protocol::attributes::Attributes;
use ringway_shm_protocol::control::message::{
    Durability, Overflow, ProducerGrant, Producers, Reply, Request, Sent, StreamSettings,
};
use ringway_shm_protocol::layout::ARENA_REFERENCE_BYTES;
use ringway_shm_protocol::memory::arena::{Arenas, Block};
use ringway_shm_protocol::memory::bell::MappedBell;
use ringway_shm_protocol::partition::{ProducerRegions, Publishing};
use ringway_shm_protocol::ring::{self, Full, Part, PublishError, Reclaim, Ringer};
use ringway_shm_protocol::words::OWNER_BITS;

use crate::confirm::Journal;
use crate::connection::unexpected;
use crate::endpoint::{self, Endpoint, exactly, in_range};
use crate::error::{AdminError, OpenError, SendError};
use crate::memory::{self, Grown};
use crate::outgoing::Outgoing;
use crate::session::{ANSWER_MAX, Answer, Session};
use crate::space::{GATE_RETRY, Space};
use crate::wait::{Deadline, Step, WaitStrategy, Waiter};

/// How soon a slot is looked at again that another producer is still writing: nobody rings when it is done.
const STALLED_RETRY: Duration = Duration::from_millis(1);

/// A producer of one partition.
pub(crate) struct Lane {
    // Unmapped before the endpoint is given back: fields are dropped in this order.
    pub(crate) regions: ProducerRegions,
    arenas: Arenas,
    /// Where attributes are encoded.
    section: Vec<u8>,
    ringer: Ringer,
    pub(crate) journal_ringer: Ringer,
    pub(crate) journal: Arc<Journal>,
    /// If the producer has a name: its number, and the last message of that name.
    named: Option<(u32, Option<Sent>)>,
    /// Messages are journaled.
    pub(crate) is_journaled: bool,
    /// Where it was when it was opened.
    opened_at: u64,
    /// From here on it is not known what of the messages before the last outage is there, and nobody was told.
    pub(crate) unknown: Option<u64>,
    /// Somebody was told that the broker is gone before something was confirmed.
    pub(crate) told: bool,
    /// Among the messages that are not known to be synced: the first that was asked to be, and behind the last.
    pub(crate) raised: Range<u64>,
    pub(crate) wait: WaitStrategy,
    /// What the last attempt of a task has to wait for.
    blocked: Option<Blocked>,
    pub(crate) space: Space,
    pub(crate) endpoint: Endpoint,
}

impl Lane {
    /// Opens a partition.
    pub(crate) fn open(
        session: &Arc<Session>,
        stream: &str,
        partition: u32,
        name: Option<&str>,
        wait: WaitStrategy,
    ) -> Result<Self, OpenError> {
        let own = name.map(|name| name.as_bytes().to_vec());
        let request = Request::OpenProducer { stream: stream.into(), partition, name: own };
        let answer = session.request(&request, ANSWER_MAX)?;
        let Answer { reply: Reply::Producer(grant), descriptors, .. } = answer else {
            return Err(unexpected("a producer").into());
        };
        // From here on whatever fails gives the endpoint back.
        let endpoint = Endpoint::new(session, grant.endpoint);
        let ProducerGrant { incarnation, owner, position, number, sent, settings, .. } = grant;
        let ring = endpoint::ring(incarnation, &settings)?;
        in_range("owner", owner.into(), (1 << OWNER_BITS) - 1)?;
        in_range("position", position, ring.geometry.position_end())?;
        let descriptors = exactly("a producer", descriptors)?;
        let publishing = Publishing {
            exclusive: settings.producers == Producers::Exclusive,
            drops: settings.overflow == Overflow::DropOldest,
            detaches: matches!(settings.overflow, Overflow::Detach { .. }),
            journaled: settings.durability > Durability::Memory,
        };
        let regions = ProducerRegions::open(ring, descriptors, publishing, owner, position)?;
        let space = Space::new(stream, partition, ring, settings);
        let journal = Arc::new(Journal::new(&regions, &space, Arc::clone(session)));
        Ok(Self {
            regions,
            arenas: Arenas::new(),
            section: Vec::new(),
            ringer: Ringer::default(),
            journal_ringer: Ringer::default(),
            journal,
            named: name.map(|_| (number, sent)),
            is_journaled: settings.durability > Durability::Memory,
            opened_at: position,
            unknown: None,
            told: false,
            raised: 0..0,
            wait,
            blocked: None,
            space,
            endpoint,
        })
    }

    /// The last message of the producer's name.
    pub(crate) fn sent(&self) -> Option<Sent> {
        self.named.and_then(|(_, sent)| sent)
    }

    /// Goes on where `before` was, which has lost its broker.
    pub(crate) fn succeed(&mut self, before: &Self) {
        let is_open = before.is_journaled && !before.told && before.position() > before.opened_at;
        self.unknown = before.unknown.or_else(|| {
            let confirmed = before.confirmed();
            (is_open && confirmed < before.position()).then_some(confirmed)
        });
    }

    /// The settings of its stream.
    pub(crate) fn settings(&self) -> &StreamSettings {
        self.space.settings()
    }

    /// Most bytes of a payload that fits a slot.
    pub(crate) fn inline_bytes_max(&self) -> usize {
        self.space.ring().geometry.body_bytes()
    }

    /// A position that has been reached; if there is no other producer, that of the next message.
    pub(crate) fn position(&self) -> u64 {
        self.regions.producer.position()
    }

    /// Where its payload memory is.
    pub(crate) fn arenas(&self) -> &Arenas {
        &self.arenas
    }

    /// A block was published at `position`.
    pub(crate) fn published(&self, position: u64, block: Block) {
        self.arenas.published(position, block);
    }

    /// Gives the partition back.
    pub(crate) fn close(self) -> Result<(), AdminError> {
        let Self { regions, mut endpoint, .. } = self;
        drop(regions);
        endpoint.close()
    }

    /// Wakes everybody who sleeps and has something to read.
    #[inline]
    pub(crate) fn ring(&mut self) {
        self.ringer.ring(&self.regions.data);
    }

    /// Publishes a message, without looking for sleepers unless it has to wait.
    #[inline(always)]
    pub(crate) fn publish(
        &mut self,
        message: Outgoing<'_>,
        patience: impl FnOnce() -> Patience,
    ) -> Result<u64, SendError> {
        self.check_journal()?;
        if !message.attributes.is_empty() {
            return self.publish_with_attributes(message, patience());
        }
        let message = ring::Outgoing::inline(message.payload);
        match self.regions.producer.publish(&message) {
            Ok(position) => Ok(position),
            Err(error) => self.publish_slowly(&message, error, patience()),
        }
    }

    /// A block for a loan.
    pub(crate) fn loan(&mut self, bytes: usize, patience: Patience) -> Result<Block, SendError> {
        let mut wait = self.begin_wait(patience);
        self.take_block(bytes, &mut wait)
    }

    /// Publishes a payload that is in one of its blocks.
    pub(crate) fn publish_block(
        &mut self,
        payload: ring::ArenaBlock,
        attributes: Attributes<'_>,
        patience: Patience,
    ) -> Result<u64, SendError> {
        self.check_journal()?;
        self.with_attributes(attributes, |lane, flags, section| {
            let mut wait = lane.begin_wait(patience);
            let moves = ARENA_REFERENCE_BYTES + section.len() > lane.inline_bytes_max();
            let (attributes, block) = lane.place(Part::Inline(section), moves, &mut wait)?;
            let message = ring::Outgoing { flags, attributes, payload: Part::Arena(payload) };
            let position = lane.publish_patiently(&message, &mut wait)?;
            if let Some(block) = block {
                lane.arenas.published(position, block);
            }
            Ok(position)
        })
    }

    fn publish_with_attributes(
        &mut self,
        message: Outgoing<'_>,
        patience: Patience,
    ) -> Result<u64, SendError> {
        self.with_attributes(message.attributes, |lane, flags, section| {
            let (attributes, payload) = (Part::Inline(section), Part::Inline(message.payload));
            let message = ring::Outgoing { flags, attributes, payload };
            match lane.regions.producer.publish(&message) {
                Ok(position) => Ok(position),
                Err(error) => lane.publish_slowly(&message, error, patience),
            }
        })
    }

    /// Encodes attributes, and goes on with the flags and the section, to the message's position.
    fn with_attributes(
        &mut self,
        attributes: Attributes<'_>,
        publish: impl FnOnce(&mut Self, u16, &[u8]) -> Result<u64, SendError>,
    ) -> Result<u64, SendError> {
        let (asked, is) = (attributes.least_durability(), self.settings().durability);
        if asked > is && !self.is_journaled {
            return Err(SendError::Durability { stream: self.stream(), asked: asked.name() });
        }
        let raises = asked > is;
        let attributes = self.numbered(attributes)?;
        let attributes = if raises { attributes } else { attributes.durability(Durability::Memory) };
        let mut section = std::mem::take(&mut self.section);
        let published = match attributes.encode(&mut section) {
            Ok(flags) => publish(self, flags, &section),
            Err(source) => Err(SendError::Attributes { stream: self.stream(), source }),
        };
        self.section = section;
        if let Ok(position) = published {
            if raises {
                self.raise(position);
            }
            if let (Some((_, sent)), Some(sequence)) = (&mut self.named, attributes.sequence_number()) {
                *sent = Some(Sent { sequence, position });
            }
        }
        published
    }

    /// Has a message say who has sent it, if it says which one it is.
    fn numbered<'a>(&self, attributes: Attributes<'a>) -> Result<Attributes<'a>, SendError> {
        let Some(sequence) = attributes.sequence_number() else { return Ok(attributes.producer(0)) };
        match self.named {
            None => Err(SendError::NoName { stream: self.stream(), sequence }),
            Some((_, Some(last))) if sequence <= last.sequence => {
                let Sent { sequence: last, position } = last;
                Err(SendError::AlreadySent { stream: self.stream(), sequence, last, position })
            }
            Some((number, _)) => Ok(attributes.producer(number)),
        }
    }

    /// The message at `position` is to be synced.
    fn raise(&mut self, position: u64) {
        if self.regions.watermarks.synced() >= self.raised.end {
            self.raised.start = position;
        }
        self.raised.end = position + 1;
        // On a stream that is only written the shard takes its time.
        self.journal_ringer.ring(&self.regions.journal);
    }

    /// What follows a first attempt that failed, of a message whose parts are all inline.
    #[cold]
    fn publish_slowly(
        &mut self,
        message: &ring::Outgoing<'_>,
        error: PublishError,
        patience: Patience,
    ) -> Result<u64, SendError> {
        let mut wait = self.begin_wait(patience);
        if !matches!(error, PublishError::TooLarge { .. }) {
            return self.publish_again(message, error, &mut wait);
        }
        // The payload moves first, the attributes only where the slot has no room for them beside its reference.
        let fits = |part: Part<'_>| ARENA_REFERENCE_BYTES + part.bytes() <= self.inline_bytes_max();
        let payload_moves = fits(message.attributes) || !fits(message.payload);
        let attributes_move = !fits(message.attributes);
        let (payload, payload_block) = self.place(message.payload, payload_moves, &mut wait)?;
        let (attributes, attributes_block) = self.place(message.attributes, attributes_move, &mut wait)?;
        let placed = ring::Outgoing { flags: message.flags, attributes, payload };
        let position = self.publish_patiently(&placed, &mut wait)?;
        for block in [payload_block, attributes_block].into_iter().flatten() {
            self.arenas.published(position, block);
        }
        Ok(position)
    }

    /// Copies an inline part into a block if it `moves`; returns the part as it is now, and its block.
    fn place<'a>(
        &mut self,
        part: Part<'a>,
        moves: bool,
        wait: &mut Wait,
    ) -> Result<(Part<'a>, Option<Block>), SendError> {
        let Part::Inline(bytes) = part else { return Ok((part, None)) };
        if !moves {
            return Ok((part, None));
        }
        let mut block = self.take_block(bytes.len(), wait)?;
        block.copy_from_slice(bytes);
        Ok((Part::Arena(block.place(bytes.len())), Some(block)))
    }

    fn publish_patiently(&mut self, message: &ring::Outgoing<'_>, wait: &mut Wait) -> Result<u64, SendError> {
        match self.regions.producer.publish(message) {
            Ok(position) => Ok(position),
            Err(error) => self.publish_again(message, error, wait),
        }
    }

    /// Publishes after an attempt that failed with `error`, as soon as it can be.
    fn publish_again(
        &mut self,
        message: &ring::Outgoing<'_>,
        mut error: PublishError,
        wait: &mut Wait,
    ) -> Result<u64, SendError> {
        loop {
            self.wait_out(error, wait)?;
            match self.regions.producer.publish(message) {
                Ok(position) => return Ok(position),
                Err(next) => error = next,
            }
        }
    }

    /// A block of `bytes`: a free one, one that becomes free, one of a new arena, and at last one that the oldest
    /// messages have to be given up for, unless a subscription holds them.
    fn take_block(&mut self, bytes: usize, wait: &mut Wait) -> Result<Block, SendError> {
        let bytes_max = self.settings().payload_bytes_max as usize;
        if bytes > bytes_max {
            return Err(SendError::TooLarge { stream: self.stream(), bytes, bytes_max });
        }
        if let Some(block) = self.arenas.take(bytes) {
            return Ok(block);
        }
        // What cannot be known now is no reason to fail: there are other ways.
        let _ = self.reclaim(Reclaim::Passed)?;
        loop {
            if let Some(block) = self.arenas.take(bytes) {
                return Ok(block);
            }
            let grown = memory::grow(&self.arenas, &self.endpoint, &self.space, bytes)?;
            match grown {
                Grown::Yes => continue,
                // Nothing that was published becomes free.
                Grown::No if self.arenas.in_flight() == 0 => {
                    let (arenas_bytes, _) = self.arenas.bytes();
                    return Err(SendError::NoBlock { stream: self.stream(), bytes, arenas_bytes });
                }
                Grown::Unanswered(source) if self.arenas.in_flight() == 0 => {
                    return Err(SendError::Memory { stream: self.stream(), bytes, source });
                }
                Grown::No | Grown::Unanswered(_) => {}
            }
            if let Err(error) = self.reclaim(Reclaim::Unheld)? {
                self.wait_out(error, wait)?;
            }
        }
    }

    /// Frees blocks; the inner result says who holds the oldest.
    fn reclaim(&mut self, how: Reclaim) -> Result<Result<(), PublishError>, SendError> {
        loop {
            match self.arenas.reclaim(&mut self.regions.producer, how) {
                Ok(retired) => {
                    memory::retire(&self.endpoint, &retired);
                    return Ok(Ok(()));
                }
                Err(PublishError::Full(Full { holder, .. })) if !holder.mapped => {
                    let gates = self.regions.producer.gates();
                    if !self.space.map_gate(&self.endpoint, gates, holder)? {
                        return Ok(Err(PublishError::Full(Full { holder, position: self.position() })));
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    fn begin_wait(&self, patience: Patience) -> Wait {
        let patience = match self.space.settings().overflow {
            Overflow::Reject => Patience::None,
            _ => patience,
        };
        Wait {
            waiter: Waiter::new(self.wait, patience.deadline()),
            patience,
            started: Instant::now(),
            rung: false,
        }
    }

    /// One step of waiting until what failed with `error` may succeed.
    fn wait_out(&mut self, error: PublishError, wait: &mut Wait) -> Result<(), SendError> {
        // Nobody waits before the consumers of what was published are awake.
        if !std::mem::replace(&mut wait.rung, true) {
            self.ring();
            if self.is_journaled {
                // It may be the journal that holds the ring.
                self.journal_ringer.ring(&self.regions.journal);
            }
        }
        self.check_journal()?;
        let full = match error {
            PublishError::Full(full) => full,
            PublishError::Stalled { owner, .. } => return self.wait_for_producer(owner, wait),
            PublishError::Exhausted { positions } => {
                return Err(SendError::Exhausted { stream: self.stream(), positions });
            }
            // What this client does not know cannot be waited out.
            source => return Err(SendError::Publish { stream: self.stream(), source }),
        };
        let gates = self.regions.producer.gates();
        if !full.holder.mapped && self.space.map_gate(&self.endpoint, gates, full.holder)? {
            return Ok(());
        }
        self.space.ask_for_help(&self.endpoint, full.holder);
        match wait.patience {
            Patience::Until(_) => {}
            Patience::None => return Err(self.space.full(&self.endpoint, full, None)),
            Patience::Task => {
                self.blocked = Some(Blocked::Full(full));
                return Err(self.space.full_of(full, (None, None), None));
            }
        }
        match wait.waiter.step() {
            Step::Look | Step::Idle => Ok(()),
            Step::Sleep(at_most) => {
                let at_most = self.sleep_max(full, at_most);
                let gates = self.regions.producer.gates();
                self.regions.space.sleep_unless(at_most, || gates.lowest() != Some(full.holder));
                Ok(())
            }
            Step::CheckBroker | Step::Over if !self.endpoint.session().is_open() => Err(self.disconnected()),
            Step::CheckBroker => Ok(()),
            Step::Over => Err(self.space.full(&self.endpoint, full, Some(wait.started.elapsed()))),
        }
    }

    /// How long to sleep while this holds the stream.
    fn sleep_max(&self, full: Full, at_most: Duration) -> Duration {
        // Nobody rings when the broker is ready to hand over a gate, or when it is time to ask it for help.
        let bounded = !full.holder.mapped || self.space.may_help(full.holder);
        if bounded { at_most.min(GATE_RETRY) } else { at_most }
    }

    /// What the last attempt of a task has to wait for, if it was for that that it failed.
    pub(crate) fn take_blocked(&mut self) -> Option<Blocked> {
        self.blocked.take()
    }

    /// Announces a task's sleep for `at_most`: the bells that end it, and for how long; `None`: there is no need to.
    pub(crate) fn announce(
        &mut self,
        blocked: Blocked,
        at_most: Duration,
    ) -> Option<(Vec<(MappedBell, u32)>, Duration)> {
        let full = match blocked {
            // Nobody rings when it is done.
            Blocked::Stalled => return Some((Vec::new(), at_most.min(STALLED_RETRY))),
            Blocked::Full(full) => full,
        };
        let count = self.regions.space.announce();
        let is_held = self.regions.producer.gates().lowest() == Some(full.holder);
        is_held.then(|| (vec![(self.regions.space.bell().clone(), count)], self.sleep_max(full, at_most)))
    }

    /// One step of waiting for another producer to finish its message.
    fn wait_for_producer(&mut self, owner: u32, wait: &mut Wait) -> Result<(), SendError> {
        let stream = self.stream();
        if !matches!(wait.patience, Patience::Until(_)) {
            self.blocked = (wait.patience == Patience::Task).then_some(Blocked::Stalled);
            return Err(SendError::Stalled { stream, owner, waited: None });
        }
        match wait.waiter.step() {
            Step::Look | Step::Idle => Ok(()),
            Step::Sleep(at_most) => {
                std::thread::sleep(at_most.min(STALLED_RETRY));
                Ok(())
            }
            Step::CheckBroker | Step::Over if !self.endpoint.session().is_open() => Err(self.disconnected()),
            Step::CheckBroker => Ok(()),
            Step::Over => Err(SendError::Stalled { stream, owner, waited: Some(wait.started.elapsed()) }),
        }
    }

    pub(crate) fn disconnected(&self) -> SendError {
        SendError::Disconnected { stream: self.stream() }
    }

    pub(crate) fn stream(&self) -> String {
        self.space.stream().to_owned()
    }
}

/// One wait, over all its steps.
struct Wait {
    waiter: Waiter,
    patience: Patience,
    started: Instant,
    /// Who sleeps has been woken.
    rung: bool,
}

/// What to do while the stream is full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    /// Say what there is to be waited for: a task waits by itself.
    Task,
    Until(Deadline),
}

/// What a task has to wait for before it publishes again.
#[derive(Clone, Copy)]
pub(crate) enum Blocked {
    /// Somebody who has not read what is to be overwritten.
    Full(Full),
    /// Another producer, who has not finished its message.
    Stalled,
}

impl Patience {
    fn deadline(self) -> Deadline {
        match self {
            Self::None | Self::Task => Deadline::NEVER,
            Self::Until(deadline) => deadline,
        }
    }
}
