//! A shard: carries out what its [`Core`] decides on the rings that it owns.
//!
//! What always holds:
//!
//! 1. One thread owns everything here; others reach it through its [`Mailbox`] alone.
//! 2. Effects are carried out in order and finished before the next event; only for the memory of a large ring a request waits.
//! 3. Messages are not touched: publishing and consuming go on while a shard is busy or asleep.
//! 4. What was decided is remembered before it is answered: whoever was told something finds it with a successor.
//! 5. Every word in shared memory is read once into a local; none is trusted for more than a number to show
//!    or to start from.

mod arenas;
mod body;
mod clearing;
mod home;
mod journaled;
mod journaling;
mod letters;
mod lot_log;
mod mailbox;
mod medium;
mod pages;
mod progress;
mod publisher;
mod ring;
mod shared;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ringway_shm_protocol::attributes::Value;
use ringway_shm_protocol::control::message::{
    ConsumerGrant, CursorInfo, DeathReason, Durability, Lag, MemberGrant, PartitionInfo, ProducerGrant,
    Refusal, RefusalCode, Reply, SharedInfo, StreamInfo, StreamSettings, SubscriptionInfo, SubscriptionMode,
    Watermarks,
};
use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::name::Name;
use ringway_shm_protocol::stops;
use ringway_shm_protocol::words::CursorWord;
use thiserror::Error;

use crate::clock;
use crate::core::lot::Nanos;
use crate::core::{
    Caller, Core, Effect, EndpointId, Event, Gate, Grave, LETTERS_MAX, Operation, SessionId, StreamId,
    StreamView, SubscriptionView, Token, no_arena,
};
use crate::journal::mutations::{self, Mutation};
use crate::journal::recovery::{Lost, Recovered, RecoveryError};
use crate::journal::state::StreamState;
use crate::keeper::{Estate, Keeping, Key};
use crate::memory_log::MemoryLog;
use crate::runtime::Turn;
use clearing::Clearing;
use home::Home;
use journaling::{Next, Open};
pub(crate) use lot_log::{LotLog, Remembered};
pub(crate) use mailbox::{
    Answer, AnswerInbox, Answers, Command, FromShard, Inbox, Letter, Mailbox, answers, mailbox,
};
pub(crate) use medium::JournalPlace;
use medium::Medium;
use pages::Wanted;
pub use progress::Restoring;
use ring::{Adopted, Ring};
use shared::RETRY;

/// Why a shard cannot go on where another has stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// A region cannot be mapped.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// What the other has remembered cannot be read.
    #[error("cannot read what the broker before has remembered: {0}")]
    Memory(#[from] io::Error),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] RecoveryError),
    /// A message of the journal cannot be read.
    #[error("cannot read the messages of stream {stream} in the journal: {source}")]
    Message {
        /// The stream.
        stream: String,
        /// Why.
        source: io::Error,
    },
}

/// How the journal is called where a subscription would be named. No subscription can have this name.
const JOURNAL_NAME: &str = "(journal)";
/// Turns of the journal between two looks at the mailbox.
const JOURNAL_TURNS: u32 = 32;

/// How long until it is looked again whether dead letters have come home, and for how long at all, in nanoseconds: less than a client
/// waits for an answer.
const REDIRECT_AGAIN: Nanos = 10_000_000;
const REDIRECT_MAX: Nanos = 5_000_000_000;
/// Why a request to let dead messages go elsewhere was not carried out.
const LETTERS_AWAY: &str = "dead letters are on their way to where they go now, and have not been confirmed there for 5 s: they would \
                            come to two streams; look whether that stream's disk is full (ringway stream show), and ask again";

/// A `shared` subscription of a ring.
type SharedId = (StreamId, Gate);

/// One shard's state: see the module. `M`: what its journal is kept on.
pub(crate) struct Shard<M: Medium = JournalPlace> {
    core: Core,
    rings: BTreeMap<StreamId, Ring>,
    inbox: Inbox,
    keeping: Arc<Keeping>,
    /// What the core has decided.
    catalogue: MemoryLog,
    answers: Answers,
    /// What is to be said once that is remembered.
    unsaid: Vec<FromShard>,
    /// The `shared` subscriptions that a session consumes, with its member ids.
    members: BTreeMap<SessionId, BTreeSet<(SharedId, u32)>>,
    /// When which `shared` subscription is to be looked at, if nobody calls before.
    looks: BTreeMap<SharedId, Nanos>,
    /// What waits for the memory of large rings.
    clearing: Clearing,
    /// When a tick comes that was asked for.
    tick_at: Option<Nanos>,
    /// How many dead letters are under way, and which `shared` subscriptions have more of them.
    letters: usize,
    more_dead: BTreeSet<SharedId>,
    /// Requests by which dead messages go elsewhere than they do: made when no letter is on its way, so that none comes to both; and
    /// until when.
    redirecting: BTreeMap<SharedId, (Event, Nanos)>,
    /// Where the journal is, or would be; the journal, once it is open; what wakes this shard.
    place: Option<M>,
    journal: Option<Open<M>>,
    wake: OwnedFd,
}

impl<M: Medium> Shard<M> {
    /// A shard without streams; none may have larger payloads than `payload_bytes_max`.
    pub(crate) fn new(
        number: u32,
        payload_bytes_max: u32,
        inbox: Inbox,
        answers: Answers,
        keeping: &Arc<Keeping>,
        (place, wake): (Option<M>, OwnedFd),
    ) -> Self {
        let catalogue = MemoryLog::new(keeping, Key::Catalogue(number));
        let mut core = Core::new(number, payload_bytes_max);
        if place.is_none() {
            core.set_journal(Err("this broker was given no directory for its journal".to_owned()));
        }
        Self {
            core,
            rings: BTreeMap::new(),
            inbox,
            keeping: Arc::clone(keeping),
            catalogue,
            answers,
            unsaid: Vec::new(),
            members: BTreeMap::new(),
            looks: BTreeMap::new(),
            clearing: Clearing::default(),
            tick_at: None,
            letters: 0,
            more_dead: BTreeSet::new(),
            redirecting: BTreeMap::new(),
            place,
            journal: None,
            wake,
        }
    }

    /// Goes on where a shard that is gone has stopped, and finishes what that had begun. Returns what is to be said of its
    /// journal.
    pub(crate) fn adopt(&mut self, estate: &mut Estate) -> Result<Vec<String>, AdoptError> {
        let is_there = self.place.as_ref().is_some_and(M::is_there);
        let before = estate.remove(&Key::Catalogue(self.core.shard()));
        let lost = if before.is_some() { Lost::Process } else { Lost::Host };
        let recovered = if is_there { Some(self.open_journal(lost)?) } else { None };
        let place = self.place.as_ref().map(M::directory);
        let notices = place.zip(recovered.as_ref()).map(|(place, recovered)| recovered.notices(place));
        let notices = notices.unwrap_or_default();
        let Some(before) = before else {
            recovered.map_or(Ok(()), |recovered| self.recover(recovered))?;
            return Ok(notices);
        };
        self.core.remember(MemoryLog::read(&before)?);
        let now = clock::monotonic();
        for stream in self.core.open_streams() {
            let home = self.home(stream.id);
            let Some(Adopted { ring, gates_gone, arenas_gone }) = Ring::adopt(home, &stream, estate, now)?
            else {
                self.core.abandon(stream.id);
                continue;
            };
            self.rings.insert(stream.id, ring);
            for gate in gates_gone {
                self.core.apply(Event::SubscriptionFailed(stream.id, gate));
            }
            self.core.apply(Event::ArenasGone(stream.id, arenas_gone));
            for subscription in stream.subscriptions {
                let shared = (stream.id, subscription.gate);
                if self.rings[&stream.id].shared(subscription.gate).is_some() {
                    self.looks.insert(shared, now);
                }
                for (session, member) in subscription.members {
                    self.members.entry(session).or_default().insert((shared, member));
                }
            }
        }
        self.catalogue.rewrite(self.core.records());
        if let Some(recovered) = recovered {
            self.tell_journal(&recovered);
        }
        stops::at("shard.adopted");
        Ok(notices)
    }

    fn open_journal(&mut self, lost: Lost) -> Result<Recovered, RecoveryError> {
        let place = self.place.as_ref().expect("only a shard that has a place for it opens a journal");
        let (journal, recovered) = journaling::open(place, self.core.shard(), &self.wake, lost)?;
        self.journal = Some(journal);
        let (shard, streams) = (self.core.shard(), recovered.state.streams.len());
        tracing::info!(shard, directory = ?place.directory(), lsn = recovered.lsn, streams, "journal open");
        Ok(recovered)
    }

    /// Goes on with what the journal says, when rings and processes are gone.
    fn recover(&mut self, recovered: Recovered) -> Result<(), AdoptError> {
        let place = self.place.clone().expect("it was recovered from there");
        let streams = &recovered.state.streams;
        let declared = streams.iter().map(|(id, known)| (*id, known.declared.clone()));
        self.core.recover(declared, recovered.state.streams_made);
        let name = |known: &StreamState| known.declared.partition().stream.to_string();
        let unreadable = |known: &StreamState, source| AdoptError::Message { stream: name(known), source };
        let disk = place.disk();
        let in_rings = streams.values().map(|known| known.end.min(known.declared.settings().slots));
        place.restoring().add_messages(in_rings.sum());
        for (id, known) in streams.iter().filter(|(_, known)| known.end > 0) {
            let disk = disk.as_ref().map_err(|error| unreadable(known, error.kind().into()))?;
            let known = known.for_ring_from(known.end.saturating_sub(known.declared.settings().slots));
            let stream = self.core.open_stream(*id).expect("it was recovered above");
            let mut ring = Ring::restore(self.home(*id), &stream)?;
            let left =
                ring.refill(disk, &known, place.restoring()).map_err(|source| unreadable(&known, source))?;
            ring.restore_subscriptions(&stream, &known, left)?;
            self.rings.insert(*id, ring);
            self.core.apply(Event::RingMade(*id));
            let gates = stream.subscriptions.into_iter().map(|subscription| subscription.gate);
            let shared = gates.filter(|gate| self.rings[id].shared(*gate).is_some());
            self.looks.extend(shared.map(|gate| ((*id, gate), clock::monotonic())));
        }
        self.catalogue.rewrite(self.core.records());
        self.tell_journal(&recovered);
        Ok(())
    }

    /// Has journaled what the journal does not know yet, `recovered` being what it knows.
    fn tell_journal(&mut self, recovered: &Recovered) {
        for (id, ring) in &mut self.rings {
            ring.know_journal(recovered.state.streams.get(id));
        }
        let records: Vec<_> = self.core.records().collect();
        let made = self.core.streams_made();
        if let Some(journal) = &mut self.journal {
            journal.declare(&records, made);
            journal.forget_all_but(&self.core);
        }
    }

    /// Deletes the partitions of a stream that are here, or their subscription of this name. Nobody has them open.
    pub(crate) fn delete_what_is_there(&mut self, stream: &Name, subscription: Option<&Name>) {
        let partitions = self.core.partitions().map(|(partition, ..)| partition);
        let partitions: Vec<_> =
            partitions.filter(|partition| partition.stream == *stream).cloned().collect();
        let nobody = Caller { session: SessionId(0), pid: 0, request: 0 };
        for partition in partitions {
            let operation = match subscription {
                Some(name) => Operation::DeleteSubscription(partition, name.clone()),
                None => Operation::DeleteStream(partition),
            };
            self.apply(Event::Request(Token(0), nobody, operation));
        }
    }

    /// What it has decided so far.
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    fn home(&self, stream: StreamId) -> Home {
        Home { keeping: Arc::clone(&self.keeping), shard: self.core.shard(), stream }
    }

    /// Carries out all that waits in the mailbox.
    pub(crate) fn turn(&mut self) -> Turn {
        while let Some(command) = self.inbox.next() {
            match command {
                Command::Apply(event) => match self.redirected(&event) {
                    Some(shared) => {
                        let until = clock::monotonic() + REDIRECT_MAX;
                        self.redirecting.insert(shared, (event, until));
                    }
                    None => self.apply(event),
                },
                Command::Tick => self.tick_at = None,
                Command::Look(session) => {
                    let of_session = self.members.get(&session).into_iter().flatten();
                    for (shared, _) in of_session.copied().collect::<Vec<_>>() {
                        self.look(shared);
                    }
                }
                Command::Buried(grave, done) => self.bury(grave, done),
                Command::Cleared(stream, Ok(memory)) => {
                    for (token, caller, operation) in self.clearing.begin(stream, Some(memory)) {
                        self.apply(Event::Request(token, caller, operation));
                    }
                    self.clearing.end();
                }
                Command::Cleared(stream, Err(error)) => {
                    for (token, ..) in self.clearing.begin(stream, None) {
                        self.refuse_region(token, &error);
                    }
                }
                Command::Stop => {
                    if let Some(journal) = &mut self.journal {
                        journal.finish(&mut self.rings);
                    }
                    self.wake_everybody();
                    return Turn::Stop;
                }
            }
        }
        self.redirect();
        self.look_in_time();
        self.drop_orphans();
        self.ask_for_tick();
        self.remember();
        stops::at("remembered");
        self.answers.say(self.unsaid.drain(..));
        self.go_on_journaling()
    }

    /// Turns of the journal, as long as it has something to do and nobody else waits too long.
    fn go_on_journaling(&mut self) -> Turn {
        let Some(journal) = &mut self.journal else { return Turn::Sleep };
        let (mut next, mut turns) = (Next::Again, 0);
        while next == Next::Again && turns < JOURNAL_TURNS {
            next = journal.turn(&mut self.rings, &mut self.unsaid);
            turns += 1;
        }
        if journal.has_failed() {
            self.core.set_journal(Err(journal.trouble().unwrap_or_default()));
            self.keep_letters();
        }
        self.answers.say(self.unsaid.drain(..));
        if next == Next::Again { Turn::Again } else { Turn::Sleep }
    }

    /// Nothing that dies from now on is durably dead: it is not sent, its lot keeps it for the next start.
    fn keep_letters(&mut self) {
        let rings = &self.rings;
        let is_journaled =
            |grave: &Grave| rings.get(&grave.stream).is_some_and(|ring| ring.journaled().is_some());
        let (unsent, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unsaid)
            .into_iter()
            .partition(|said| matches!(said, FromShard::Letter(letter) if is_journaled(&letter.grave)));
        self.unsaid = others;
        for said in unsent {
            if let FromShard::Letter(Letter { grave, .. }) = said {
                self.bury(grave, false);
            }
        }
    }

    /// From here on a successor knows what the core has decided.
    fn remember(&mut self) {
        let changes = self.core.take_changes();
        changes.iter().for_each(|record| self.catalogue.push(record));
        if !self.catalogue.commit() {
            self.catalogue.rewrite(self.core.records());
        }
        let made = self.core.streams_made();
        if let Some(journal) = &mut self.journal
            && journal.declare(&changes, made)
        {
            // Whoever is told finds it also after the host's end.
            journal.hold(std::mem::take(&mut self.unsaid));
        }
    }

    /// The `shared` subscription whose dead messages go elsewhere when this request is carried out.
    fn redirected(&self, event: &Event) -> Option<SharedId> {
        let Event::Request(_, _, Operation::Alter(partition, alteration)) = event else { return None };
        let (stream, gate) = self.core.redirected(partition, alteration)?;
        self.rings.get(&stream)?.shared(gate)?;
        Some((stream, gate))
    }

    /// Lets dead messages go elsewhere where none is on its way any more, and none may be taken for one that has not come.
    fn redirect(&mut self) {
        for (shared @ (stream, gate), (event, until)) in std::mem::take(&mut self.redirecting) {
            let now = clock::monotonic();
            let are_home = self.ring(stream).with_shared(gate, |shared, _, _| shared.hold_letters());
            // What cannot be made any more is refused at once.
            let is_decided = are_home || self.redirected(&event).is_none();
            if !is_decided && now < until {
                self.redirecting.insert(shared, (event, until));
                let journaled = self.rings.get_mut(&stream).and_then(Ring::journaled_mut);
                if let (Some(journal), Some(journaled)) = (&mut self.journal, journaled) {
                    journal.demand_round(journaled);
                }
                self.look(shared);
                self.looks.insert(shared, now + REDIRECT_AGAIN);
                continue;
            }
            match event {
                Event::Request(token, ..) if !is_decided => self.refuse(token, LETTERS_AWAY),
                event => self.apply(event),
            }
            self.ring(stream).with_shared(gate, |shared, _, _| shared.release_letters());
            self.look(shared);
        }
    }

    /// Looks at the `shared` subscriptions whose time has come.
    fn look_in_time(&mut self) {
        if self.looks.is_empty() {
            return;
        }
        let now = clock::monotonic();
        let due: Vec<_> =
            self.looks.iter().filter(|(_, at)| **at <= now).map(|(shared, _)| *shared).collect();
        due.into_iter().for_each(|shared| self.look(shared));
    }

    /// Does what there is to do for a `shared` subscription.
    fn look(&mut self, shared @ (stream, gate): SharedId) {
        self.looks.remove(&shared);
        let Some(ring) = self.rings.get_mut(&stream).filter(|ring| ring.shared(gate).is_some()) else {
            return;
        };
        let looked = ring.look(gate, clock::monotonic(), LETTERS_MAX - self.letters);
        if looked.more_dead {
            self.more_dead.insert(shared);
        }
        if let Some(at) = looked.again_at {
            self.looks.insert(shared, at);
        }
        for (position, attempts, reason) in looked.dead {
            let (shard, ring) = (self.core.shard(), &self.rings[&stream]);
            let incarnation = match ring.journaled() {
                // The letter is sent when the death is durable: its position names this message for ever.
                Some(_) => 0,
                None => ring.partition.identity().incarnation,
            };
            let grave = Grave { shard, stream, incarnation, gate, position };
            self.send_letter(grave, attempts, reason);
        }
    }

    fn send_letter(&mut self, grave: Grave, attempts: u32, reason: DeathReason) {
        let Grave { stream, gate, position, .. } = grave;
        let names = self.core.names(stream, gate);
        let shared = self.rings[&stream].shared(gate).expect("it has just been looked at");
        let target = shared.settings().dead_letter.as_deref().and_then(|name| Name::parse(name).ok());
        let (Some((partition, subscription)), Some(body), Some(target)) =
            (names, shared.body(position), target)
        else {
            return;
        };
        let provenance = [
            ("dead.stream", Value::from(partition.stream.as_str())),
            ("dead.subscription", Value::from(subscription.as_str())),
            ("dead.partition", Value::from(i64::from(partition.number))),
            ("dead.position", Value::from(position as i64)),
            ("dead.attempts", Value::from(i64::from(attempts))),
            ("dead.reason", Value::from(reason.name())),
            ("dead.time_ns", Value::from(clock::wall() as i64)),
        ];
        let is_journaled = self.rings[&stream].journaled().is_some();
        if is_journaled && self.journal.as_ref().is_some_and(Open::has_failed) {
            return;
        }
        self.letters += 1;
        let letter = FromShard::Letter(Letter { grave, stream: target, body: body.with(&provenance) });
        let journaled = self.rings.get_mut(&stream).and_then(Ring::journaled_mut);
        match (&mut self.journal, journaled) {
            (Some(journal), Some(journaled)) if !mutations::is(Mutation::LetterFirst) => {
                journal.hold_until_settled(journaled, stream, letter)
            }
            _ => self.unsaid.push(letter),
        }
    }

    fn bury(&mut self, Grave { stream, gate, position, .. }: Grave, done: bool) {
        self.letters -= 1;
        if let Some(ring) = self.rings.get_mut(&stream).filter(|ring| ring.shared(gate).is_some()) {
            ring.with_shared(gate, |shared, around, _| shared.buried(around, position, done));
        }
        if done && self.letters <= LETTERS_MAX / 2 {
            std::mem::take(&mut self.more_dead).into_iter().for_each(|shared| self.look(shared));
        }
    }

    /// Drops the arenas that nobody adds to, as far as they are read. Readers do not tell, so while there is something
    /// left, the shard looks again a while later.
    fn drop_orphans(&mut self) {
        let mut gone = Vec::new();
        for (stream, ring) in &mut self.rings {
            if ring.has_orphans() {
                gone.push((*stream, ring.drop_orphans()));
            }
        }
        for (stream, arenas) in gone {
            self.apply(Event::ArenasGone(stream, arenas));
        }
    }

    /// Asks for a tick when there is something to be done that nobody tells of.
    fn ask_for_tick(&mut self) {
        let orphans = self.rings.values().any(Ring::has_orphans);
        let orphans = orphans.then(|| self.tick_at.unwrap_or_else(|| clock::monotonic() + RETRY));
        let Some(at) = self.looks.values().copied().chain(orphans).min() else { return };
        if self.tick_at.is_none_or(|asked| at < asked) {
            self.tick_at = Some(at);
            self.unsaid.push(FromShard::WantsTick(self.core.shard(), at));
        }
    }

    /// A journal is made when the first stream is declared that wants one.
    fn open_journal_for(&mut self, event: &Event) {
        let Event::Request(_, _, Operation::DeclareStream(_, settings, _)) = event else { return };
        if settings.durability == Durability::Memory || self.journal.is_some() || self.place.is_none() {
            return;
        }
        let opened = self.open_journal(Lost::Host).map(drop);
        self.core.set_journal(opened.map_err(|error| error.to_string()));
    }

    fn apply(&mut self, event: Event) {
        self.open_journal_for(&event);
        if let Event::SessionEnded(session) = event {
            for token in self.clearing.forget(session) {
                self.refuse(token, "the session has ended");
            }
        }
        let effects = self.core.apply(event);
        stops::at("decided");
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::MakeRing {
                stream,
                partition,
                geometry,
                overflow,
                gates,
                journal,
                token,
                caller,
                operation,
            } => {
                let memory = move || Ring::memory(geometry, partition);
                if self.clearing.must_wait(stream, geometry) {
                    let request = (token, caller, operation);
                    if let Err(error) = self.clearing.wait(stream, request, self.inbox.mailbox(), memory) {
                        self.refuse(token, &format!("the broker could not start a thread: {error}"));
                    }
                    return;
                }
                let memory = self.clearing.take(stream).map_or_else(memory, Ok);
                let made = memory
                    .and_then(|memory| Ring::make(self.home(stream), memory, overflow, &gates, journal));
                match made {
                    Ok(ring) => {
                        self.rings.insert(stream, ring);
                        self.begin_to_journal(stream);
                        self.apply(Event::RingMade(stream));
                        self.apply(Event::Request(token, caller, operation));
                    }
                    Err(error) => self.refuse_region(token, &error),
                }
            }
            Effect::Join { stream, gate, start, token, view } => {
                match self.ring(stream).join(gate, &view.mode, start) {
                    Ok(()) => self.answer(token, Reply::Subscription(self.subscription_info(&view))),
                    Err(error) => {
                        self.apply(Event::SubscriptionFailed(stream, gate));
                        self.refuse_region(token, &error);
                    }
                }
            }
            Effect::Leave(stream, gate) => {
                self.looks.remove(&(stream, gate));
                self.drop_pages(stream, gate);
                self.ring(stream).leave(gate);
            }
            Effect::DropRing(stream) => {
                self.looks.retain(|(of, _), _| *of != stream);
                // The journal's own watches end by it.
                self.ring(stream).ring_all_bells();
                self.rings.remove(&stream);
            }
            Effect::GrantProducer { token, stream, endpoint, owner, number, settings } => {
                self.grant_producer(token, stream, endpoint, (owner, number), settings);
            }
            Effect::GrantConsumer { token, stream, gate, endpoint, settings } => {
                self.grant_consumer(token, stream, gate, endpoint, settings);
            }
            Effect::GrantMember { token, stream, gate, endpoint, session, member, settings } => {
                self.members.entry(session).or_default().insert(((stream, gate), member));
                self.grant_member(token, (stream, gate), endpoint, member, settings);
            }
            Effect::Activate { stream, gate, member } => {
                let ring = self.ring(stream);
                ring.with_shared(gate, |shared, _, _| shared.activate(member));
                // It may have looked before, in vain.
                ring.partition.data.ring_always();
            }
            Effect::SweepMember { stream, gate, session, member, ending } => {
                if let Some(of_session) = self.members.get_mut(&session) {
                    of_session.remove(&((stream, gate), member));
                    if of_session.is_empty() {
                        self.members.remove(&session);
                    }
                }
                let now = clock::monotonic();
                let ring = self.ring(stream);
                ring.with_shared(gate, |shared, around, _| shared.sweep(around, member, ending, now));
                self.look((stream, gate));
            }
            Effect::Relieve(token, stream, gate) => {
                let (ring, now) = (self.ring(stream), clock::monotonic());
                ring.with_shared(gate, |shared, around, _| shared.relieve(around, now));
                self.look((stream, gate));
                self.answer(token, Reply::Done);
            }
            Effect::Purge(token, stream, gates) => self.purge(token, stream, gates),
            Effect::Alter(stream, gate, settings) => {
                let now = clock::monotonic();
                self.ring(stream).with_shared(gate, |shared, around, _| shared.alter(around, settings, now));
                stops::at("altered");
                self.look((stream, gate));
            }
            Effect::Publish(token, stream, grave, body) => match self.ring(stream).publish(grave, &body) {
                Ok(position) => {
                    stops::at("letter.published");
                    self.answer_letter(token, stream, position);
                }
                Err(error) => self.refuse(token, &format!("the broker could not publish: {error}")),
            },
            Effect::GrantGate(token, stream, gate) => {
                let descriptor = self.ring(stream).subscription(gate).for_gate();
                self.hand_out(token, Reply::Gate, descriptor);
            }
            Effect::Detach(token, stream, gate) => {
                self.ring(stream).detach(gate);
                self.answer(token, Reply::Done);
            }
            Effect::Attach { token, stream, before, gate, position } => {
                let cursor = self.ring(stream).attach(before, gate, position);
                let is_live = CursorWord::unpack(cursor).live;
                self.drop_pages(stream, before);
                self.answer(token, if is_live { Reply::Attached(cursor) } else { Reply::Overtaken });
            }
            Effect::ReadPage { token, stream, gate, position: from, region } => {
                let (ring, end) = (&self.rings[&stream], self.rings[&stream].journal_end_for(gate));
                let ring = ring.partition.identity();
                match &mut self.journal {
                    Some(journal) => {
                        journal.read_page(Wanted { token, stream, gate, ring, from, end, region });
                    }
                    None => self.refuse(token, "this broker's journal is not open"),
                }
            }
            Effect::MakeArena { token, stream, arena, bytes } => {
                let descriptor = self.ring(stream).arenas().make(arena, bytes);
                if descriptor.is_err() {
                    self.apply(Event::ArenasGone(stream, vec![arena]));
                }
                self.hand_out(token, Reply::Arena { arena, bytes }, descriptor);
            }
            Effect::GrantArena { token, stream, partition, arena } => {
                match self.ring(stream).arenas().open(arena) {
                    Some(Ok((descriptor, bytes))) => {
                        self.hand_out(token, Reply::Arena { arena, bytes }, Ok(descriptor));
                    }
                    Some(Err(error)) => self.refuse_region(token, &error),
                    None => self.answer(token, Reply::Refused(no_arena(&partition, arena))),
                }
            }
            Effect::DropArena(stream, arena) => self.ring(stream).arenas().drop(arena),
            Effect::OrphanArenas(stream, arenas) => self.ring(stream).orphan(arenas),
            Effect::Bury(stream, owner) => {
                let partition = &self.ring(stream).partition;
                if partition.ring.bury(owner) > 0 {
                    // Readers pass over the tombstones; producers that met a reserved slot go on.
                    partition.data.ring_always();
                    partition.space.ring_always();
                }
            }
            Effect::EndReader(stream, gate) => {
                self.drop_pages(stream, gate);
                self.ring(stream).end_reader(gate);
            }
            Effect::Done(token) => self.answer(token, Reply::Done),
            Effect::ShowStream(token, view) => self.answer(token, Reply::Stream(self.stream_info(&view))),
            Effect::ShowStreams(token, views, more) => {
                let page = views.iter().map(|view| self.stream_info(view)).collect();
                self.answer(token, Reply::Streams { page, more });
            }
            Effect::ShowSubscription(token, view) => {
                self.answer(token, Reply::Subscription(self.subscription_info(&view)));
            }
            Effect::ShowSubscriptions(token, views) => {
                let all = views.iter().map(|view| self.subscription_info(view)).collect();
                self.answer(token, Reply::Subscriptions(all));
            }
            Effect::Refuse(token, refusal) => self.answer(token, Reply::Refused(refusal)),
        }
    }

    fn drop_pages(&mut self, stream: StreamId, gate: Gate) {
        if let Some(journal) = &mut self.journal {
            journal.pages.drop_region(stream, gate);
        }
    }

    /// Gives up what nobody has of what is there, and answers when that is as durable as the stream.
    fn purge(&mut self, token: Token, stream: StreamId, gates: Vec<Gate>) {
        let mut messages = 0;
        for gate in gates {
            messages += self.ring(stream).purge(gate);
            self.look((stream, gate));
        }
        let answer = FromShard::Answer(Answer::with(token, Reply::Purged { messages }, Vec::new()));
        let journaled = self.rings.get_mut(&stream).and_then(Ring::journaled_mut);
        match (&mut self.journal, journaled) {
            (Some(journal), Some(journaled)) if !mutations::is(Mutation::PurgeAnsweredEarly) => {
                journal.hold_until_settled(journaled, stream, answer);
            }
            _ => self.unsaid.push(answer),
        }
    }

    /// Answers when the letter is as durable as its stream.
    fn answer_letter(&mut self, token: Token, stream: StreamId, position: u64) {
        let is_journaled = self.ring(stream).journaled().is_some();
        match &mut self.journal {
            Some(journal) if is_journaled => journal.hold_letter(stream, position, token),
            _ => self.answer(token, Reply::Done),
        }
    }

    /// A ring was made of which the journal knows nothing, or what it had of it before.
    fn begin_to_journal(&mut self, stream: StreamId) {
        if let (Some(journal), Some(ring)) = (&self.journal, self.rings.get_mut(&stream)) {
            ring.know_journal(journal.log.state().streams.get(&stream));
            ring.set_journal_state(journal.state());
        }
    }

    fn ring(&mut self, stream: StreamId) -> &mut Ring {
        self.rings.get_mut(&stream).expect("the core names rings that are there")
    }

    fn grant_producer(
        &mut self,
        token: Token,
        stream: StreamId,
        endpoint: EndpointId,
        (owner, number): (u32, u32),
        settings: StreamSettings,
    ) {
        let known = self.journal.as_ref().and_then(|journal| journal.log.state().streams.get(&stream));
        let known = known.and_then(|known| known.sent.get(&number)).copied();
        let ring = &self.rings[&stream];
        let sent = if number > 0 { ring.last_sent(number, known) } else { None };
        let partition = &ring.partition;
        let grant = ProducerGrant {
            endpoint: endpoint.0,
            incarnation: partition.identity().incarnation,
            owner,
            position: partition.ring.end(),
            number,
            sent,
            settings,
        };
        let descriptors = partition.for_producer();
        self.hand_over(token, endpoint, descriptors, Reply::Producer(grant));
    }

    fn grant_consumer(
        &mut self,
        token: Token,
        stream: StreamId,
        gate: Gate,
        endpoint: EndpointId,
        settings: StreamSettings,
    ) {
        let ring = self.ring(stream);
        let grant = ConsumerGrant {
            endpoint: endpoint.0,
            incarnation: ring.partition.identity().incarnation,
            cursor: ring.cursor(gate).pack(),
            visibility: ring.visibility(gate),
            settings,
        };
        let descriptors = ring.partition.for_consumer(ring.subscription(gate));
        self.hand_over(token, endpoint, descriptors, Reply::Consumer(grant));
    }

    fn grant_member(
        &mut self,
        token: Token,
        (stream, gate): SharedId,
        endpoint: EndpointId,
        member: u32,
        settings: StreamSettings,
    ) {
        let ring = self.ring(stream);
        let (incarnation, visibility) = (ring.partition.identity().incarnation, ring.visibility(gate));
        let admitted = ring.with_shared(gate, |shared, around, subscription| {
            let admitted = shared.admit(around.partition, subscription, member)?;
            Ok((admitted, shared.settings().single_active))
        });
        let (descriptors, reply) = match admitted {
            Ok(((descriptors, feed_from), single_active)) => {
                let endpoint = endpoint.0;
                let grant = MemberGrant {
                    endpoint,
                    incarnation,
                    member,
                    feed_from,
                    single_active,
                    visibility,
                    settings,
                };
                (Ok(descriptors), Reply::Member(grant))
            }
            Err(error) => (Err(error), Reply::Done),
        };
        self.hand_over(token, endpoint, descriptors, reply);
    }

    fn hand_over(
        &mut self,
        token: Token,
        endpoint: EndpointId,
        descriptors: Result<Vec<OwnedFd>, RegionError>,
        reply: Reply,
    ) {
        match descriptors {
            Ok(descriptors) => self.unsaid.push(FromShard::Answer(Answer::with(token, reply, descriptors))),
            Err(error) => {
                self.apply(Event::EndpointFailed(endpoint));
                self.refuse_region(token, &error);
            }
        }
    }

    /// Answers with one descriptor, or with why there is none.
    fn hand_out(&mut self, token: Token, reply: Reply, descriptor: Result<OwnedFd, RegionError>) {
        match descriptor {
            Ok(descriptor) => {
                self.unsaid.push(FromShard::Answer(Answer::with(token, reply, vec![descriptor])))
            }
            Err(error) => self.refuse_region(token, &error),
        }
    }

    fn stream_info(&self, view: &StreamView) -> StreamInfo {
        let ring = self.rings.get(&view.id);
        let lags = view.subscriptions.iter().map(|(name, gate, consumer_pid)| {
            let (subscription, messages) = (name.to_string(), self.lag(view.id, *gate));
            // Who holds the ring full comes before who is detached, however far that is behind.
            let holds = ring.is_some_and(|ring| ring.is_held_by(*gate));
            (holds, Lag { subscription, messages, consumer_pid: *consumer_pid })
        });
        let journal = view.journal.map(|gate| {
            let (subscription, messages) = (JOURNAL_NAME.to_owned(), self.lag(view.id, gate));
            let holds = ring.is_some_and(|ring| ring.is_held_by(gate));
            (holds, Lag { subscription, messages, consumer_pid: None })
        });
        let lags = lags.chain(journal.filter(|(_, lag)| lag.messages > 0));
        let trouble = self.journal.as_ref().filter(|_| view.journal.is_some()).and_then(Open::trouble);
        let partition = PartitionInfo {
            partition: view.partition.number,
            shard: view.shard,
            opened: view.opened,
            first_position: ring.map_or(0, Ring::first_position),
            next_position: ring.map_or(0, |ring| ring.partition.ring.end()),
            producers: view.producers,
            producer_pids: view.producer_pids.clone(),
            arenas_bytes: view.arenas_bytes,
            slowest: lags.max_by_key(|(holds, lag)| (*holds, lag.messages)).map(|(_, lag)| lag),
            journal: trouble,
            durable: ring.filter(|ring| ring.journaled().is_some()).map(|ring| {
                let watermarks = &ring.partition.watermarks;
                let (written, synced) = (watermarks.written(), watermarks.synced());
                let known =
                    self.journal.as_ref().and_then(|journal| journal.log.state().streams.get(&view.id));
                let first = known.and_then(|known| known.extents.front()).map(|extent| extent.first);
                Watermarks { first: first.unwrap_or(written), written, synced }
            }),
        };
        StreamInfo {
            name: view.partition.stream.to_string(),
            settings: view.settings,
            subscriptions: view.subscriptions.len() as u32,
            partitions: vec![partition],
        }
    }

    fn subscription_info(&self, view: &SubscriptionView) -> SubscriptionInfo {
        let ring = self.rings.get(&view.stream);
        let cursor = ring.map(|ring| ring.cursor(view.gate));
        let shared = ring.and_then(|ring| Some((ring, ring.shared(view.gate)?)));
        let shared = match (shared, &view.mode) {
            (Some((ring, shared)), _) => Some(shared.info(&ring.partition, view.consumers)),
            (None, SubscriptionMode::Shared(_)) => Some(SharedInfo::default()),
            (None, SubscriptionMode::Cursor(_)) => None,
        };
        let cursor = CursorInfo {
            partition: view.partition.number,
            position: cursor.map_or(0, |cursor| cursor.position),
            lag: self.lag(view.stream, view.gate),
            consumer_pid: view.consumer_pid,
            detached: cursor.is_some_and(|cursor| !cursor.live),
            shared,
        };
        SubscriptionInfo {
            stream: view.partition.stream.to_string(),
            name: view.name.to_string(),
            mode: view.mode.clone(),
            partitions: vec![cursor],
        }
    }

    /// Messages that a subscription has not consumed, or not settled.
    fn lag(&self, stream: StreamId, gate: Gate) -> u64 {
        let Some(ring) = self.rings.get(&stream) else { return 0 };
        match ring.shared(gate) {
            Some(shared) => {
                let SharedInfo { ready, leased, delayed, .. } = shared.info(&ring.partition, 0);
                ready + leased + delayed
            }
            None => ring.partition.ring.end().saturating_sub(ring.cursor(gate).position),
        }
    }

    /// Lets every sleeper look at its socket, which is closed by now.
    fn wake_everybody(&self) {
        for ring in self.rings.values() {
            ring.partition.data.ring_always();
            ring.partition.space.ring_always();
        }
    }

    fn answer(&mut self, token: Token, reply: Reply) {
        self.unsaid.push(FromShard::Answer(Answer::with(token, reply, Vec::new())));
    }

    fn refuse_region(&mut self, token: Token, error: &RegionError) {
        self.refuse(token, &format!("the broker {error}"));
    }

    fn refuse(&mut self, token: Token, message: &str) {
        let refusal = Refusal { code: RefusalCode::Limit, message: message.to_owned() };
        self.answer(token, Reply::Refused(refusal));
    }
}
