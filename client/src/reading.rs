//! Reading one partition's ring in order.
//!
//! ```text
//! consumed │ returned, not committed │ the next
//! ─────────┼─────────────────────────┼──────────▶ positions
//!          cursor (in the region)    position (private)
//! ```
//!
//! 1. A message that fits a slot is copied out before it is returned; no caller ever looks into the ring. One that does
//!    not is left where its producer wrote it, which is free again only when it is consumed.
//! 2. Lazily, only what was returned *before* the current call is committed: who asks for the next message has
//!    consumed the last. What is not committed at a crash is delivered again.
//! 3. Commits are put off for an eighth of the ring at most, not when the ring stays empty over many looks, not for
//!    messages beyond a slot, whose memory its producer wants back, and never beyond the moment when the consumer
//!    sleeps; after each, producers that wait for space are woken.
//! 4. Where producers do not wait for this consumer (a stream that drops its oldest, or has detached it), everything
//!    is copied, and checked afterwards; what was overwritten is counted as missed.
//! 5. Where the journal has what was overwritten, too, a consumer that knows that it is detached does not look into the ring: it reads
//!    pages, up to a position that the ring has, and is attached there and nowhere else. So nothing is missed, and nothing comes twice.
//! 6. On the way that finds a message and commits nothing: no system call, no allocation, no lock. All of it is inlined where the
//!    message is received, and a message stays in its reading: what is written to memory in parts, and read back wider, stalls for
//!    as long as all the rest takes.

use std::sync::Arc;
use std::time::Duration;

use ringway_shm_protocol::attributes::AttributesView;
use ringway_shm_protocol::control::message::{Reply, Request, StreamSettings};
use ringway_shm_protocol::fork::ForkMark;
use ringway_shm_protocol::memory::arena::ArenaView;
use ringway_shm_protocol::memory::bell::MappedBell;
use ringway_shm_protocol::memory::mapped::Mapped;
use ringway_shm_protocol::partition::{ConsumerRegions, JournalingRegions};
use ringway_shm_protocol::ring::{ArenaBlock, CursorReader, Doorbell, Part, ReadError, Received, Ringer};
use ringway_shm_protocol::words::CursorWord;

use crate::backlog::Backlog;
use crate::confirm::Settling;
use crate::connection::unexpected;
use crate::endpoint::{Endpoint, exactly, in_range, ring};
use crate::error::{AdminError, CloseError, ConfirmError, OpenError, RecvError};
use crate::memory::MappedArenas;
use crate::message::{Body, Keeper, Message, Position};
use crate::outage::Lost;
use crate::partitions::Partition;
use crate::session::{ANSWER_MAX, Answer, Session};
use crate::wait::Deadline;

/// Most messages that are returned and not committed.
const UNCOMMITTED_MAX: u64 = 256;
/// Looks in vain after which the little that is uncommitted is committed.
const EMPTY_LOOKS_MAX: u32 = 32;
/// A commit frees at least this part of the ring at a time, if so much was returned.
const COMMIT_PART: u64 = 8;

/// A consumer of one partition; its end commits what was returned.
pub(crate) struct Reading {
    partition: u32,
    reader: CursorReader<Mapped>,
    data: Doorbell<Mapped>,
    space: Doorbell<Mapped>,
    journaling: Arc<JournalingRegions>,
    settling: Settling,
    ringer: Ringer,
    fork: ForkMark,
    /// Uncommitted messages that make it worth committing.
    commit_every: u64,
    /// What was returned last was in an arena: its producer wants the memory back.
    commit_at_once: bool,
    /// Looks of the caller's that found nothing since the last commit.
    empty_looks: u32,
    /// The message that was found last: see 5.
    received: Received,
    /// Where bodies of slots are copied to.
    buffer: Box<[u8]>,
    /// Where payloads of arenas are copied to that may be overwritten.
    copied: Vec<u8>,
    /// Where attributes are copied to that are in an arena.
    section: Vec<u8>,
    /// The payload that was returned last, if it was left in place.
    view: Option<ArenaView>,
    arenas: MappedArenas,
    backlog: Backlog,
    // Last: the endpoint is given back after everything is unmapped.
    keeper: Keeper,
}

impl Reading {
    /// Opens a partition; returns the settings of its stream, too.
    pub(crate) fn open(
        session: &Arc<Session>,
        stream: &str,
        partition: u32,
        subscription: &str,
    ) -> Result<(Self, StreamSettings), OpenError> {
        let request =
            Request::OpenConsumer { stream: stream.into(), partition, subscription: subscription.into() };
        let Answer { reply, descriptors, .. } = session.request(&request, ANSWER_MAX)?;
        let grant = match reply {
            Reply::Consumer(grant) => grant,
            Reply::Member(grant) => {
                // Given back by its end.
                drop(Endpoint::new(session, grant.endpoint));
                let (subscription, call) = (subscription.to_owned(), "Connection::shared_consumer");
                return Err(OpenError::OtherMode { subscription, mode: "shared", call });
            }
            _ => return Err(unexpected("a consumer").into()),
        };
        // From here on whatever fails gives the endpoint back.
        let endpoint = Endpoint::new(session, grant.endpoint);
        let ring = ring(grant.incarnation, &grant.settings)?;
        in_range("cursor position", grant.cursor().position, ring.geometry.position_end())?;
        let descriptors = exactly("a consumer", descriptors)?;
        let ConsumerRegions { reader, hazards, data, space, journaling } =
            ConsumerRegions::open(ring, descriptors, grant.visibility, grant.cursor(), &grant.settings)?;
        let reading = Self {
            partition,
            reader,
            data,
            space,
            settling: Settling::new(stream, grant.settings.durability),
            journaling,
            ringer: Ringer::default(),
            fork: session.fork(),
            empty_looks: 0,
            commit_at_once: false,
            commit_every: (ring.geometry.capacity() / COMMIT_PART).clamp(1, UNCOMMITTED_MAX),
            received: Received::default(),
            buffer: vec![0; ring.geometry.body_bytes()].into_boxed_slice(),
            copied: Vec::new(),
            section: Vec::new(),
            view: None,
            arenas: MappedArenas::new(ring),
            backlog: Backlog::new(ring),
            keeper: Keeper { hazards: Arc::new(hazards), endpoint: Arc::new(endpoint) },
        };
        Ok((reading, grant.settings))
    }

    /// Whether it may give way: see [`ConsumerBuilder::courtesy`](crate::ConsumerBuilder::courtesy).
    pub(crate) fn set_courtesy(&mut self, wanted: bool) {
        self.reader.set_courtesy(wanted);
    }

    /// Its number.
    pub(crate) fn partition(&self) -> u32 {
        self.partition
    }

    /// Where it is.
    pub(crate) fn position(&self) -> Position {
        Position { partition: self.partition, position: self.reader.position() }
    }

    /// So many messages make it worth committing.
    pub(crate) fn uncommitted_max(&self) -> usize {
        self.commit_every as usize
    }

    /// Commits everything returned and gives the partition back; while a message of it is held, that happens when the
    /// last one is dropped.
    pub(crate) fn close(mut self) -> Result<(), CloseError> {
        let committed = self.check_fork().and_then(|()| self.commit());
        let endpoint = Arc::clone(&self.keeper.endpoint);
        // Unmapped before the endpoint is given back.
        drop(self);
        let closed = Arc::into_inner(endpoint).map_or(Ok(()), |mut endpoint| endpoint.close());
        committed?;
        Ok(closed?)
    }

    /// Finds the parts of a message that are in arenas; `false`: they were overwritten meanwhile.
    fn find_parts(&mut self, received: Received) -> Result<bool, RecvError> {
        self.commit_at_once = true;
        let (position, validates) = (received.position, self.reader.validates());
        let attributes = self.find(position, received.attributes(&self.buffer).block())?;
        let payload = self.find(position, received.payload(&self.buffer).block())?;
        if let Some((_, Some(view))) = &attributes {
            copy(view, &mut self.section);
        }
        if validates {
            if let Some((_, Some(view))) = &payload {
                copy(view, &mut self.copied);
            }
            // Only now is it known whether the references were the message's.
            let is_unchanged = self.reader.is_unchanged(position);
            // Of one that was detached, producers use memory again whose reference still stands in its slot.
            if !self.reader.is_live_still() || self.reader.stops() && !is_unchanged {
                self.reader.unread(position);
                self.move_cursor()?;
                return Ok(false);
            }
            if !is_unchanged {
                self.reader.count_missed();
                return Ok(false);
            }
        }
        for (block, view) in [&attributes, &payload].into_iter().flatten() {
            if view.is_none() {
                return Err(bad_reference(position, *block));
            }
        }
        self.view = payload.and_then(|(_, view)| view);
        Ok(true)
    }

    /// Looks up a part of the message at `position`; no view of it: there are no such bytes, or the arena is gone.
    fn find(&mut self, position: u64, block: Option<ArenaBlock>) -> Result<Option<Found>, RecvError> {
        let Some(block) = block else { return Ok(None) };
        let arena = block.arena;
        let unreadable = |source| RecvError::Arena { position, arena, source };
        let region = self.arenas.get(&self.keeper.endpoint, arena).map_err(unreadable)?;
        Ok(Some((block, region.and_then(|region| ArenaView::new(region, block)))))
    }

    /// The message that was found last, when what it says about itself is in order.
    #[inline]
    pub(crate) fn message(&self) -> Result<Message<'_>, RecvError> {
        let attributes = if self.received.has_attributes() { Some(self.attributes()?) } else { None };
        Ok(Message::new(self, attributes))
    }

    /// What was found last.
    #[inline]
    pub(crate) fn received(&self) -> &Received {
        &self.received
    }

    /// Its payload.
    #[inline]
    pub(crate) fn body(&self) -> Body<'_> {
        match self.received.payload(self.buffer()) {
            Part::Inline(payload) => Body::Copied(payload),
            Part::Arena(_) if self.reader.validates() => Body::Copied(&self.copied),
            Part::Arena(_) => {
                Body::InPlace(self.view.as_ref().expect("the payload was found before the message is made"))
            }
        }
    }

    /// Where what was found last was copied to.
    #[inline]
    fn buffer(&self) -> &[u8] {
        if self.reader.is_live() { &self.buffer } else { self.backlog.body() }
    }

    /// What it says about itself.
    #[cold]
    fn attributes(&self) -> Result<AttributesView<'_>, RecvError> {
        let section = match self.received.attributes(self.buffer()) {
            Part::Inline(section) => section,
            Part::Arena(_) => &self.section,
        };
        let corrupt = |source| RecvError::Attributes { position: self.received.position, source };
        AttributesView::parse(self.received.flags(), section).map_err(corrupt)
    }

    /// What a message that is held keeps.
    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    #[inline]
    pub(crate) fn check_fork(&self) -> Result<(), RecvError> {
        if self.fork.is_here() { Ok(()) } else { Err(forked()) }
    }

    /// Moves the cursor behind everything returned and wakes producers that wait for that.
    #[inline]
    pub(crate) fn commit(&mut self) -> Result<(), RecvError> {
        self.empty_looks = 0;
        self.commit_at_once = false;
        if self.reader.uncommitted() > 0 {
            self.move_cursor()?;
        }
        Ok(())
    }

    /// Moves the cursor behind everything returned, as a gate or not.
    #[inline]
    fn move_cursor(&mut self) -> Result<(), RecvError> {
        match self.reader.commit(self.reader.position()) {
            Ok(()) => {}
            // The answer to its request came too late.
            Err(lost) if lost.is_attached() && !self.reader.is_live() => {
                self.attached(lost.found);
                self.reader.commit(self.reader.position())?;
            }
            Err(lost) if !lost.is_detached() => return Err(lost.into()),
            Err(_) if self.reader.stops() => {
                self.reader.note_detached();
                self.reader.commit(self.reader.position())?;
            }
            Err(_) => {
                let attached = self.attach().map_err(|source| RecvError::Attach { source })?;
                return attached.then_some(()).ok_or(RecvError::Attach { source: unexpected("a cursor") });
            }
        }
        self.ringer.ring(&self.space);
        Ok(())
    }

    /// Commits everything returned, and waits until that is as durable as the stream.
    pub(crate) fn confirm(&mut self, deadline: Deadline) -> Result<(), ConfirmError> {
        let committed = self.check_fork().and_then(|()| self.commit());
        committed.map_err(|error| ConfirmError::Commit(Box::new(error)))?;
        self.settling.wait(&self.journaling, self.keeper.endpoint.session(), deadline)
    }

    /// The same, for tasks.
    pub(crate) async fn confirm_async(&mut self) -> Result<(), ConfirmError> {
        let committed = self.check_fork().and_then(|()| self.commit());
        committed.map_err(|error| ConfirmError::Commit(Box::new(error)))?;
        self.settling.wait_async(&self.journaling, self.keeper.endpoint.session()).await
    }

    /// Asks to be attached again, behind everything returned; `false`: that is not in the ring any more.
    #[cold]
    fn attach(&mut self) -> Result<bool, AdminError> {
        let endpoint = self.keeper.endpoint.number();
        let request = Request::Attach { endpoint, position: self.reader.position() };
        match self.session().request(&request, ANSWER_MAX)?.reply {
            Reply::Attached(cursor) => {
                self.attached(CursorWord::unpack(cursor));
                Ok(true)
            }
            Reply::Overtaken => Ok(false),
            _ => Err(unexpected("a cursor")),
        }
    }

    fn attached(&mut self, cursor: CursorWord) {
        self.reader.attach(cursor);
        self.backlog.close();
    }

    /// The ring has something later at the next position. That is as it should be if this reader was detached, and it knows it then.
    #[cold]
    fn fall_behind(&mut self, error: ReadError) -> Result<(), RecvError> {
        self.move_cursor()?;
        if self.reader.is_live() { Err(error.into()) } else { Ok(()) }
    }

    /// The next message for a reader that is detached: one of its page, or of the next. It is attached again where it can be.
    #[cold]
    fn next_behind(&mut self) -> Result<Behind, RecvError> {
        loop {
            if let Some(received) = self.backlog.next()? {
                self.reader.skip_to(received.position + 1);
                return Ok(Behind::Message(received));
            }
            // Positions without a message may come last.
            self.reader.skip_to(self.backlog.end());
            self.move_cursor()?;
            if self.reader.is_live() {
                return Ok(Behind::Attached);
            }
            let position = self.reader.position();
            if !self.reader.is_overtaken() {
                match self.attach() {
                    Ok(true) => return Ok(Behind::Attached),
                    Ok(false) => {}
                    // Another one is looked for when there is nothing left.
                    Err(error) if error.is_lost() => return Ok(Behind::Nothing),
                    Err(source) => return Err(RecvError::Attach { source }),
                }
            } else if !self.reader.has_next() {
                return Ok(Behind::Nothing);
            }
            match self.backlog.turn(&self.keeper.endpoint, position) {
                Ok(true) => {}
                Ok(false) => return Ok(Behind::Nothing),
                Err(error) if error.is_lost() => return Ok(Behind::Nothing),
                Err(source) => return Err(RecvError::Backlog { position, source }),
            }
        }
    }
}

/// What a reader that is detached has found.
enum Behind {
    Message(Received),
    /// It may not see anything yet, or nobody is there to be asked.
    Nothing,
    /// It is detached no longer.
    Attached,
}

impl Partition for Reading {
    /// There is one message at a time: [`Reading::received`].
    type Found = ();

    #[inline(always)]
    fn next(&mut self) -> Result<Option<()>, RecvError> {
        self.check_fork()?;
        if self.commit_at_once || self.reader.uncommitted() >= self.commit_every {
            self.commit()?;
        }
        loop {
            if !self.reader.is_live() {
                match self.next_behind()? {
                    Behind::Message(received) => {
                        self.received = received;
                        return Ok(Some(()));
                    }
                    Behind::Nothing => return Ok(None),
                    Behind::Attached => {}
                }
            }
            match self.reader.read(&mut self.buffer) {
                Ok(Some(received)) => {
                    self.received = received;
                    if !received.is_in_arena() || self.find_parts(received)? {
                        return Ok(Some(()));
                    }
                }
                Ok(None) if self.reader.gives_way() => {}
                Ok(None) => return Ok(None),
                Err(error) if self.reader.stops() => self.fall_behind(error)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn rest(&mut self) -> Result<(), RecvError> {
        self.check_fork()?;
        self.commit()
    }

    fn has_next(&self) -> bool {
        self.backlog.has_next() || self.reader.has_next()
    }

    fn announce(&mut self) -> Result<u32, RecvError> {
        self.check_fork()?;
        self.commit()?;
        Ok(self.data.announce())
    }

    fn sleep(&mut self, at_most: Duration) -> Result<(), RecvError> {
        self.commit()?;
        self.data.sleep_unless(at_most, || self.backlog.has_next() || self.reader.has_next());
        Ok(())
    }

    fn bell(&self) -> &MappedBell {
        self.data.bell()
    }

    /// Commits when the caller has looked in vain for a while: a commit per message would slow down who has
    /// just caught up. No producer waits for it: what is uncommitted never fills a ring.
    #[inline]
    fn found_nothing(&mut self) -> Result<(), RecvError> {
        if self.reader.uncommitted() > 0 {
            self.empty_looks += 1;
            if self.empty_looks >= EMPTY_LOOKS_MAX {
                self.commit()?;
            }
        }
        Ok(())
    }

    /// Messages that were overwritten before they could be read.
    fn counted(&self) -> u64 {
        self.reader.missed()
    }

    fn is_set_back(&self, next: &Self) -> bool {
        next.reader.position() < self.reader.position()
    }

    fn session(&self) -> &Arc<Session> {
        self.keeper.endpoint.session()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.fork.is_here() && !std::thread::panicking() {
            // Lost: then what was returned is delivered again, elsewhere.
            let _ = self.commit();
        }
    }
}

/// A block that a message refers to, and its bytes if they are there.
type Found = (ArenaBlock, Option<ArenaView>);

fn copy(view: &ArenaView, into: &mut Vec<u8>) {
    into.resize(view.len(), 0);
    view.read(0, into);
}

fn bad_reference(position: u64, block: ArenaBlock) -> RecvError {
    let ArenaBlock { arena, offset, bytes } = block;
    RecvError::Reference { position, arena, offset, bytes }
}

#[cold]
fn forked() -> RecvError {
    RecvError::Forked
}
