//! One partition of a `shared` subscription: claiming messages and settling them.
//!
//! ```text
//! live ring ─┐ claim: one exchange      ack: one exchange ──▶ settled
//!            ├─────────────────▶ leased ┤
//! feed ──────┘ (copied out)             └ else: settlement ──▶ the shard judges
//! ```
//!
//! 1. Every message is copied out before it is returned, and its claim is looked at again behind the copy: what is returned
//!    is whole, and was this consumer's.
//! 2. The live ring and the feed take turns, so that neither a backlog nor what comes again waits for ever. Where only one
//!    consumer is active, what comes again goes first.
//! 3. The floor is raised now and then, when the ring stays empty, and before a sleep; whoever waits for space is woken
//!    then. A producer that waits all the same asks the shard to raise it.
//! 4. On the way of a message that is claimed and acked: no system call, no allocation, no lock; the first lease in a while
//!    costs a call of the shard.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ringway_shm_protocol::attributes::AttributesView;
use ringway_shm_protocol::control::message::{MemberGrant, Reply, Request, StreamSettings};
use ringway_shm_protocol::fork::ForkMark;
use ringway_shm_protocol::memory::arena::ArenaView;
use ringway_shm_protocol::memory::bell::MappedBell;
use ringway_shm_protocol::partition::{MEMBER_DESCRIPTORS, MemberRegions};
use ringway_shm_protocol::ring::{
    ArenaBlock, ClaimError, Claimed, FeedRecord, Part, ReadError, Received, Ringer, Settlement, Verdict,
};
use ringway_shm_protocol::words::MEMBER_BITS;

use crate::confirm::Settling;
use crate::connection::unexpected;
use crate::endpoint::{Endpoint, exactly, in_range, ring};
use crate::error::{CloseError, ConfirmError, OpenError, RecvError, SettleError};
use crate::memory::MappedArenas;
use crate::message::Position;
use crate::partitions::Partition;
use crate::session::{ANSWER_MAX, Answer, Session};
use crate::task::Waiting;
use crate::wait::{Deadline, Step, WaitStrategy, Waiter};

/// Messages of the live ring in a row while the feed may have some.
const LIVE_IN_A_ROW: u32 = 3;
/// Most acks between two looks whether the floor can rise.
const ACKS_MAX: u64 = 256;
/// Acks of the live ring that are looked for at the floor are at least this part of the ring.
const FLOOR_PART: u64 = 8;
/// Acks in the feed between two looks whether the shard waits for its room.
const REFILL_ACKS: u32 = 64;
/// Looks in vain after which the floor is raised.
const EMPTY_LOOKS_MAX: u32 = 32;
/// How long the shard is given between two looks whether it has judged.
const JUDGED_RETRY: Duration = Duration::from_micros(50);

/// How many partitions were opened.
static OPENINGS: AtomicU64 = AtomicU64::new(0);

/// A message that this consumer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) received: Received,
    /// Its position in its partition.
    pub(crate) position: u64,
    /// Which delivery of it: 1 for the first.
    pub(crate) attempt: u32,
    /// How many deliveries have failed.
    pub(crate) failed: u32,
    /// Where in the feed it was; `None`: it was in the live ring.
    pub(crate) fed_at: Option<u64>,
}

/// A message that was claimed, and where its body was copied to.
struct Slot {
    claim: Option<Claim>,
    body: Box<[u8]>,
}

/// A consumer of one partition; its end gives back what it has.
pub(crate) struct Sharing {
    partition: u32,
    /// Tells this opening from all others of this process.
    opening: u64,
    incarnation: u64,
    regions: MemberRegions,
    settling: Settling,
    /// Only the active consumer gets messages.
    single_active: bool,
    ringer: Ringer,
    fork: ForkMark,
    member: u32,
    /// What is claimed ahead: those from `next` on are still to be returned.
    slots: Vec<Slot>,
    next: usize,
    /// Messages in a row from the live ring.
    live_in_a_row: u32,
    /// Acks since the floor was last looked at, and how many make it worth it.
    acks: u64,
    acks_max: u64,
    /// Acks in the feed since the shard was last asked whether it waits for them.
    feed_acks: u32,
    empty_looks: u32,
    /// Settlements that were late, as far as somebody was told.
    late_known: u64,
    /// Where payloads and attributes are copied to that are in an arena.
    copied: Vec<u8>,
    section: Vec<u8>,
    arenas: MappedArenas,
    call: OwnedFd,
    // Last: the endpoint is given back after everything is unmapped.
    endpoint: Endpoint,
}

impl Sharing {
    /// Opens a partition, to claim up to `prefetch` messages at a time; returns the settings of its stream, too.
    pub(crate) fn open(
        session: &Arc<Session>,
        stream: &str,
        partition: u32,
        subscription: &str,
        prefetch: usize,
    ) -> Result<(Self, StreamSettings), OpenError> {
        let request =
            Request::OpenConsumer { stream: stream.into(), partition, subscription: subscription.into() };
        let Answer { reply, descriptors, .. } = session.request(&request, ANSWER_MAX)?;
        let grant = match reply {
            Reply::Member(grant) => grant,
            Reply::Consumer(grant) => {
                // Given back by its end.
                drop(Endpoint::new(session, grant.endpoint));
                let (subscription, call) = (subscription.to_owned(), "Connection::consumer");
                return Err(OpenError::OtherMode { subscription, mode: "cursor", call });
            }
            _ => return Err(unexpected("a consumer").into()),
        };
        // From here on whatever fails gives the endpoint back.
        let endpoint = Endpoint::new(session, grant.endpoint);
        let MemberGrant { incarnation, member, feed_from, single_active, visibility, settings, .. } = grant;
        let ring = ring(incarnation, &settings)?;
        in_range("member", member.into(), (1 << MEMBER_BITS) - 1)?;
        in_range("feed position", feed_from, ring.geometry.of_feed().position_end())?;
        let descriptors: [OwnedFd; MEMBER_DESCRIPTORS + 1] = exactly("a consumer", descriptors)?;
        let [meta, slots, doorbell, words, claims, feed, own, call] = descriptors;
        let descriptors = [meta, slots, doorbell, words, claims, feed, own];
        let mut regions = MemberRegions::open(ring, descriptors, visibility, member, feed_from)?;
        if single_active {
            regions.live.keep_order();
        }
        let body = || vec![0; ring.geometry.body_bytes()].into_boxed_slice();
        let sharing = Self {
            partition,
            opening: OPENINGS.fetch_add(1, Ordering::Relaxed),
            incarnation,
            regions,
            settling: Settling::new(stream, settings.durability),
            single_active,
            ringer: Ringer::default(),
            fork: session.fork(),
            member,
            slots: (0..prefetch.max(1)).map(|_| Slot { claim: None, body: body() }).collect(),
            next: prefetch.max(1),
            live_in_a_row: 0,
            acks: 0,
            acks_max: (ring.geometry.capacity() / FLOOR_PART).clamp(1, ACKS_MAX),
            feed_acks: 0,
            empty_looks: 0,
            late_known: 0,
            copied: Vec::new(),
            section: Vec::new(),
            arenas: MappedArenas::new(ring),
            call,
            endpoint,
        };
        Ok((sharing, settings))
    }

    #[inline]
    fn check_fork(&self) -> Result<(), RecvError> {
        if self.fork.is_here() { Ok(()) } else { Err(RecvError::Forked) }
    }

    #[inline]
    fn is_active(&self) -> bool {
        // Acquire: pairs with the shard's release, so that what the one before had is in the feed.
        !self.single_active || self.regions.active.load(Ordering::Acquire) == u64::from(self.member)
    }

    /// Fills the slots, as far as there is something; `false`: there is nothing.
    #[inline]
    fn claim_ahead(&mut self) -> Result<bool, RecvError> {
        let mut filled = 0;
        // Not before there is something to report: what was claimed is reported first.
        let mut outcome = Ok(());
        while filled < self.slots.len() {
            match self.claim(filled) {
                Ok(true) => filled += 1,
                Ok(false) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if let Some(slot) = self.slots.get_mut(filled) {
            slot.claim = None;
        }
        self.next = 0;
        if filled == 0 {
            return outcome.map(|()| false);
        }
        if self.regions.watch.must_call() {
            self.call_shard();
        }
        Ok(true)
    }

    /// Claims a message into a slot; `false`: there is none.
    #[inline]
    fn claim(&mut self, index: usize) -> Result<bool, RecvError> {
        if !self.is_active() {
            return Ok(false);
        }
        let feed_first = self.single_active || self.live_in_a_row >= LIVE_IN_A_ROW;
        if feed_first && self.claim_fed(index)? {
            return Ok(true);
        }
        Ok(self.claim_live(index)? || !feed_first && self.claim_fed(index)?)
    }

    #[inline]
    fn claim_live(&mut self, index: usize) -> Result<bool, RecvError> {
        loop {
            let slot = &mut self.slots[index];
            match self.regions.live.claim(&mut slot.body) {
                Ok(Some(Claimed { received, .. })) => {
                    let position = received.position;
                    slot.claim = Some(Claim { received, position, attempt: 1, failed: 0, fed_at: None });
                    self.live_in_a_row += 1;
                    return Ok(true);
                }
                Ok(None) => return Ok(false),
                // Because its lease is over, or only because a producer wanted its slot: then it is to be given back.
                Err(ClaimError::TakenOver { position }) => self.say(position, Verdict::Release),
                Err(ClaimError::Read(error)) => {
                    if let ReadError::Corrupt { position, .. } = error {
                        self.say(position, Verdict::Reject);
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// Leaves a verdict on a message of the ring that is not returned.
    #[cold]
    fn say(&mut self, position: u64, verdict: Verdict) {
        // Where it cannot be said, the shard finds it when the lease ends.
        let _ = self.leave(Settlement { position, attempt: 1, verdict });
    }

    #[inline]
    fn claim_fed(&mut self, index: usize) -> Result<bool, RecvError> {
        self.live_in_a_row = 0;
        let slot = &mut self.slots[index];
        let claimed = loop {
            match self.regions.feed.claim(&mut slot.body) {
                Ok(claimed) => break claimed,
                // The shard takes a message out of the feed when its lease is over, or has lasted for long.
                Err(ClaimError::TakenOver { .. }) => {}
                Err(ClaimError::Read(error)) => return Err(error.into()),
            }
        };
        let Some(Claimed { received, record }) = claimed else {
            if self.feed_acks > 0 {
                self.ask_for_refill();
            }
            return Ok(false);
        };
        let FeedRecord { position, acquired, failed } = FeedRecord::unpack(record);
        let (attempt, fed_at) = (acquired.saturating_add(1), Some(received.position));
        slot.claim = Some(Claim { received, position, attempt, failed, fed_at });
        Ok(true)
    }

    /// What was claimed is no message: nobody shall have it.
    #[cold]
    fn reject(&mut self, claim: Claim) {
        // Where it cannot be said, the shard finds it when the lease ends.
        let _ = self.settle(claim, Verdict::Reject);
    }

    #[inline]
    fn still_has(&self, index: usize) -> bool {
        match self.slots[index].claim {
            Some(Claim { fed_at: Some(at), .. }) => self.regions.feed.still_has(at),
            Some(Claim { position, .. }) => self.regions.live.still_has(position),
            None => false,
        }
    }

    /// Copies the parts of a message that are in arenas; `false`: it was taken over meanwhile.
    #[cold]
    fn copy_parts(&mut self, index: usize) -> Result<bool, RecvError> {
        let Slot { claim, body } = &self.slots[index];
        let claim = claim.expect("it was claimed");
        let (attributes, payload) = (claim.received.attributes(body), claim.received.payload(body));
        let blocks = [(attributes.block(), &mut self.section), (payload.block(), &mut self.copied)];
        let mut missing = None;
        for (block, into) in blocks {
            let Some(block) = block else { continue };
            let (position, arena) = (claim.position, block.arena);
            let region = self.arenas.get(&self.endpoint, arena);
            let region = region.map_err(|source| RecvError::Arena { position, arena, source })?;
            match region.and_then(|region| ArenaView::new(region, block)) {
                Some(view) => {
                    into.resize(view.len(), 0);
                    view.read(0, into);
                }
                None => missing = Some(block),
            }
        }
        match missing {
            _ if !self.still_has(index) => {
                // To be given back.
                let _ = self.settle(claim, Verdict::Release);
                Ok(false)
            }
            None => Ok(true),
            Some(ArenaBlock { arena, offset, bytes }) => {
                self.reject(claim);
                Err(RecvError::Reference { position: claim.position, arena, offset, bytes })
            }
        }
    }

    /// The message in a slot.
    pub(crate) fn claimed(&self, index: usize) -> Claim {
        *self.claim_in(index)
    }

    /// By reference: on the way of every message a copy costs more than its exchanges.
    #[inline]
    fn claim_in(&self, index: usize) -> &Claim {
        self.slots[index].claim.as_ref().expect("it was claimed")
    }

    /// Where it is.
    pub(crate) fn position(&self, claim: Claim) -> Position {
        Position { partition: self.partition, position: claim.position }
    }

    pub(crate) fn partition(&self) -> u32 {
        self.partition
    }

    /// Tells it from all others that were opened, and are, in this process.
    pub(crate) fn opening(&self) -> u64 {
        self.opening
    }

    /// Fails for a message whose attributes cannot be: nobody shall have it.
    #[inline]
    pub(crate) fn check_attributes(&mut self, index: usize) -> Result<(), RecvError> {
        if self.claim_in(index).received.has_attributes() { self.parse_attributes(index) } else { Ok(()) }
    }

    #[cold]
    fn parse_attributes(&mut self, index: usize) -> Result<(), RecvError> {
        let checked = self.attributes(index).map(|_| ());
        if checked.is_err() {
            self.reject(self.claimed(index));
        }
        checked
    }

    /// The payload of the message in a slot.
    #[inline]
    pub(crate) fn payload(&self, index: usize) -> &[u8] {
        match self.claim_in(index).received.payload(&self.slots[index].body) {
            Part::Inline(payload) => payload,
            Part::Arena(_) => &self.copied,
        }
    }

    /// The attributes of the message in a slot.
    pub(crate) fn attributes(&self, index: usize) -> Result<AttributesView<'_>, RecvError> {
        let slot = &self.slots[index];
        let Claim { received, position, .. } = slot.claim.expect("it was claimed");
        if !received.has_attributes() {
            return Ok(AttributesView::default());
        }
        let section = match received.attributes(&slot.body) {
            Part::Inline(section) => section,
            Part::Arena(_) => &self.section,
        };
        let corrupt = |source| RecvError::Attributes { position, source };
        AttributesView::parse(received.flags(), section).map_err(corrupt)
    }

    /// Settles the message in a slot.
    #[inline]
    pub(crate) fn ack_slot(&mut self, index: usize) -> Result<(), SettleError> {
        let Claim { position, fed_at, .. } = *self.claim_in(index);
        if self.try_ack(position, fed_at)? { Ok(()) } else { self.ack_taken_over(self.claimed(index)) }
    }

    /// Settles a message that this consumer has.
    pub(crate) fn ack(&mut self, claim: Claim) -> Result<(), SettleError> {
        if self.try_ack(claim.position, claim.fed_at)? { Ok(()) } else { self.ack_taken_over(claim) }
    }

    /// `false`: the shard has taken it over.
    #[inline]
    fn try_ack(&mut self, position: u64, fed_at: Option<u64>) -> Result<bool, SettleError> {
        if !self.fork.is_here() {
            return Err(SettleError::Forked);
        }
        let is_acked = match fed_at {
            None => self.regions.live.ack(position),
            Some(at) => {
                self.regions.feed.ack(at) && {
                    self.feed_acks += 1;
                    if self.feed_acks >= REFILL_ACKS {
                        self.ask_for_refill();
                    }
                    true
                }
            }
        };
        if is_acked {
            self.acks += 1;
            if self.acks >= self.acks_max {
                self.raise_floor();
            }
        }
        Ok(is_acked)
    }

    /// The shard has taken the message over: it may be this consumer's all the same.
    #[cold]
    fn ack_taken_over(&mut self, claim: Claim) -> Result<(), SettleError> {
        // So that what is late afterwards is this one.
        self.late_known = self.confirm()?;
        self.settle(claim, Verdict::Ack)?;
        let late = self.confirm()?;
        if std::mem::replace(&mut self.late_known, late) == late {
            return Ok(());
        }
        Err(SettleError::Late { position: self.position(claim), attempt: claim.attempt })
    }

    /// Leaves a verdict for the shard, which judges it soon.
    pub(crate) fn settle(&mut self, claim: Claim, verdict: Verdict) -> Result<(), SettleError> {
        if !self.fork.is_here() {
            return Err(SettleError::Forked);
        }
        self.leave(Settlement { position: claim.position, attempt: claim.attempt, verdict })
    }

    fn leave(&mut self, settlement: Settlement) -> Result<(), SettleError> {
        if self.regions.settlements.write(settlement).is_err() {
            // The shard has been called for those that are there.
            let (written, judged) = self.regions.settlements.progress();
            self.wait_for_judgement(written.min(judged + 1))?;
            self.regions.settlements.write(settlement).map_err(|_| self.no_answer())?;
        }
        self.call_shard();
        Ok(())
    }

    /// Waits until the shard has judged everything that was left; returns how many so far came too late.
    pub(crate) fn confirm(&mut self) -> Result<u64, SettleError> {
        if !self.fork.is_here() {
            return Err(SettleError::Forked);
        }
        let (written, judged) = self.regions.settlements.progress();
        if judged < written {
            self.wait_for_judgement(written)?;
        }
        Ok(self.regions.settlements.late())
    }

    /// Waits until everything is judged, and as durable as the stream.
    pub(crate) fn confirm_durable(&mut self, deadline: Deadline) -> Result<(), ConfirmError> {
        self.confirm()?;
        self.settling.wait(&self.regions.journaling, self.endpoint.session(), deadline)
    }

    /// The same, for tasks.
    pub(crate) async fn confirm_durable_async(&mut self) -> Result<(), ConfirmError> {
        if !self.fork.is_here() {
            return Err(SettleError::Forked.into());
        }
        let until = self.regions.settlements.progress().0;
        let mut waiting = Waiting::default();
        poll_fn(|context| self.poll_judgement(until, &mut waiting, context)).await?;
        self.settling.wait_async(&self.regions.journaling, self.endpoint.session()).await
    }

    fn poll_judgement(
        &self,
        until: u64,
        waiting: &mut Waiting,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SettleError>> {
        while self.regions.settlements.progress().1 < until {
            match waiting.step(WaitStrategy::default(), 1) {
                Step::Look => {}
                Step::Idle => return Waiting::give_way(context),
                Step::Sleep(at_most) => {
                    // Nobody rings when it is done.
                    waiting.sleep(Vec::new(), context.waker().clone(), at_most.min(JUDGED_RETRY));
                    return Poll::Pending;
                }
                Step::CheckBroker | Step::Over if !self.session().is_open() => {
                    return Poll::Ready(Err(SettleError::Disconnected));
                }
                Step::CheckBroker | Step::Over => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    #[cold]
    fn wait_for_judgement(&mut self, until: u64) -> Result<(), SettleError> {
        let mut wait = Waiter::new(WaitStrategy::default(), Deadline::after(ANSWER_MAX));
        while self.regions.settlements.progress().1 < until {
            match wait.step() {
                Step::Look | Step::Idle => {}
                Step::Sleep(at_most) => std::thread::sleep(at_most.min(JUDGED_RETRY)),
                Step::CheckBroker | Step::Over if !self.session().is_open() => {
                    return Err(SettleError::Disconnected);
                }
                Step::CheckBroker => {}
                Step::Over => return Err(self.no_answer()),
            }
        }
        Ok(())
    }

    fn no_answer(&self) -> SettleError {
        SettleError::NoAnswer { pid: self.session().broker_pid(), waited: ANSWER_MAX }
    }

    #[cold]
    fn ask_for_refill(&mut self) {
        self.feed_acks = 0;
        if self.regions.refill.must_call() {
            self.call_shard();
        }
    }

    #[cold]
    fn call_shard(&self) {
        if self.regions.settlements.call() {
            // Fails only when the count is about to overflow: then the broker is being woken anyway.
            let _ = rustix::io::write(&self.call, &1_u64.to_ne_bytes());
        }
    }

    #[cold]
    fn raise_floor(&mut self) {
        (self.acks, self.empty_looks) = (0, 0);
        if self.regions.floor.raise(self.regions.live.claims()) {
            self.ringer.ring(&self.regions.space);
        }
    }

    /// Gives back what it has, and the partition.
    pub(crate) fn close(mut self) -> Result<(), CloseError> {
        let rested = self.rest();
        let Self { regions, mut endpoint, .. } = self;
        drop(regions);
        let closed = endpoint.close();
        rested?;
        Ok(closed?)
    }
}

impl Partition for Sharing {
    type Found = usize;

    #[inline]
    fn next(&mut self) -> Result<Option<usize>, RecvError> {
        self.check_fork()?;
        loop {
            if self.next == self.slots.len() || self.slots[self.next].claim.is_none() {
                if !self.claim_ahead()? {
                    return Ok(None);
                }
            } else if !self.still_has(self.next) {
                // Claimed ahead, and taken over meanwhile: to be given back.
                let claim = self.claimed(self.next);
                let _ = self.settle(claim, Verdict::Release);
                self.next += 1;
                continue;
            }
            let index = self.next;
            self.next += 1;
            if !self.claim_in(index).received.is_in_arena() || self.copy_parts(index)? {
                return Ok(Some(index));
            }
        }
    }

    fn rest(&mut self) -> Result<(), RecvError> {
        self.check_fork()?;
        if self.acks > 0 {
            self.raise_floor();
        }
        Ok(())
    }

    fn has_next(&self) -> bool {
        self.slots.get(self.next).is_some_and(|slot| slot.claim.is_some())
            || self.is_active() && (self.regions.live.has_next() || self.regions.feed.has_next())
    }

    fn announce(&mut self) -> Result<u32, RecvError> {
        self.rest()?;
        Ok(self.regions.data.announce())
    }

    fn sleep(&mut self, at_most: Duration) -> Result<(), RecvError> {
        self.rest()?;
        self.regions.data.sleep_unless(at_most, || self.has_next());
        Ok(())
    }

    fn bell(&self) -> &MappedBell {
        self.regions.data.bell()
    }

    #[inline]
    fn found_nothing(&mut self) -> Result<(), RecvError> {
        if self.acks > 0 {
            self.empty_looks += 1;
            if self.empty_looks >= EMPTY_LOOKS_MAX {
                self.raise_floor();
            }
        }
        Ok(())
    }

    /// Settlements that were left for the shard and came too late.
    fn counted(&self) -> u64 {
        self.regions.settlements.late()
    }

    /// In another ring what was settled is settled as far as it was journaled.
    fn is_set_back(&self, next: &Self) -> bool {
        self.incarnation != next.incarnation
    }

    fn session(&self) -> &Arc<Session> {
        self.endpoint.session()
    }
}
