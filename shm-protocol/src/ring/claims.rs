//! Who has which position of a `shared` subscription.
//!
//! ```text
//!              consumer, slot committed          consumer
//! older lap ───────────────────────────▶ leased ─────────▶ acked
//!                                          │ shard
//!                                          ▼
//!                                        moving ────────▶ moved
//!                                            shard, once its own entry is there
//! ```
//!
//! 1. One exchange claims a position and records who: two members never have the same delivery.
//! 2. Nothing returns to an older state: on one ring a message is delivered at most once. Whatever comes back comes by
//!    the feed, which is claimed in the same way.
//! 3. A position is claimed only after its slot was seen committed. As long as its claim is neither acked nor moved, the
//!    [floor](super::floor) is not above it, so its slot is not written again.
//! 4. The shard may take a leased position over while its member still copies. So the member looks at its claim again after
//!    it has copied: what it copied while the claim was its own is the message.
//! 5. A slot that is still being written holds nobody up: members look past it, a bounded number of slots, unless they are to
//!    keep the order. What one producer has published they claim in its order in any case: before a member claims behind
//!    such a slot, it looks once more whether it is finished by now.

use std::sync::atomic::Ordering;

use super::message::Received;
use super::reader::ReadError;
use super::watermarks::{Visible, Watermarks};
use crate::layout::Geometry;
use crate::memory::{Memory, Slots, Word, Words};
use crate::stops;
use crate::words::{ClaimState, ClaimWord, MessageHeader, SlotState, SlotWord};

/// How many slots a member looks past one that is still being written.
const LOOK_PAST: u64 = 64;

/// How many slots ahead of a claim a member that lags fetches.
const PREFETCH_SLOTS: u64 = 12;

/// The slots and claim words of a ring, or of a feed.
pub struct Claims<M: Memory> {
    slots: M::Slots,
    words: M::Words,
    geometry: Geometry,
}

/// A position that a member has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The position.
    pub position: u64,
    /// Who has it.
    pub member: u32,
}

impl<M: Memory> Claims<M> {
    /// Joins slots and their claim words.
    pub fn new(slots: M::Slots, words: M::Words) -> Self {
        let geometry = slots.geometry();
        Self { slots, words, geometry }
    }

    /// The size of the ring.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The claim word of `position`, read once; of an older lap: unclaimed.
    pub fn word(&self, position: u64) -> ClaimWord {
        // Acquire: pairs with the release of who settled or moved it.
        ClaimWord::unpack(self.words.at(position).load(Ordering::Acquire))
    }

    /// Settles what `member` has at `position`. `false`: it has it no longer.
    #[inline]
    pub fn ack(&self, position: u64, member: u32) -> bool {
        let acked = self.change(position, ClaimState::Leased, ClaimState::Acked, member);
        stops::at("claim.acked");
        acked
    }

    /// The shard's: begins to take over what `member` has at `position`. `false`: it has settled it, or has it no longer.
    pub fn begin_move(&self, position: u64, member: u32) -> bool {
        let moving = self.change(position, ClaimState::Leased, ClaimState::Moving, member);
        stops::at("claim.moving");
        moving
    }

    /// The shard's: settles the message at `position` for good if nobody has claimed it. `false`: it is not there, or somebody has.
    pub fn give_up(&self, position: u64) -> bool {
        let lap = self.geometry.lap(position);
        // Acquire: pairs with the release store of `committed` in the producer. What is still being written is not there.
        let slot = SlotWord::unpack(self.slots.word(position).load(Ordering::Acquire));
        let word = self.words.at(position);
        // Relaxed: only whether the exchange has a chance.
        let found = word.load(Ordering::Relaxed);
        if slot.lap != lap || slot.state != SlotState::Committed || ClaimWord::unpack(found).lap >= lap {
            return false;
        }
        let settled = ClaimWord { lap, state: ClaimState::Acked, member: 0 }.pack();
        // As a claim and its ack in one: of the shard and a member, one has the message.
        let given_up = word.compare_exchange(found, settled, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        stops::at("claim.given-up");
        given_up
    }

    /// The shard's: what was begun is done, and the shard's own copy can be relied on. `member` is who had it.
    pub fn end_move(&self, position: u64, member: u32) {
        // Only the shard changes a word that is moving.
        let word = ClaimWord { lap: self.geometry.lap(position), state: ClaimState::Moved, member };
        // Release: the copy is made before anybody overwrites the slot.
        self.words.at(position).store(word.pack(), Ordering::Release);
        stops::at("claim.moved");
    }

    /// The shard's: what a shard before had begun, and whose own copy is not there, has not happened: `member` has it.
    pub fn undo_move(&self, position: u64, member: u32) -> bool {
        self.change(position, ClaimState::Moving, ClaimState::Leased, member)
    }

    /// The shard's: says in a ring that nobody uses yet what has become of `position`.
    pub fn restore(&self, position: u64, state: ClaimState) {
        let word = ClaimWord { lap: self.geometry.lap(position), state, member: 0 };
        // Relaxed: who is given the ring is behind it by the hand-over.
        self.words.at(position).store(word.pack(), Ordering::Relaxed);
    }

    /// What is being taken over from `from` up to `to`; of more than a capacity, the last.
    pub fn moving(&self, from: u64, to: u64) -> impl Iterator<Item = Leased> + '_ {
        self.those(ClaimState::Moving, from, to)
    }

    #[inline]
    fn change(&self, position: u64, from: ClaimState, to: ClaimState, member: u32) -> bool {
        // Whoever names a position that cannot be does not have it.
        if position >= self.geometry.position_end() {
            return false;
        }
        let lap = self.geometry.lap(position);
        let (from, to) = (ClaimWord { lap, state: from, member }, ClaimWord { lap, state: to, member });
        // Release: the member's copies are over before the floor passes. Acquire: whoever takes it over is behind its claim.
        let word = self.words.at(position);
        word.compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether nobody will ever ask for `position` again.
    pub(super) fn is_settled(&self, position: u64) -> bool {
        let lap = self.geometry.lap(position);
        let claim = self.word(position);
        if claim.lap == lap {
            return matches!(claim.state, ClaimState::Acked | ClaimState::Moved);
        }
        // Acquire: pairs with the shard's burial. A later lap says that the floor that led here is an old one.
        let slot = SlotWord::unpack(self.slots.word(position).load(Ordering::Acquire));
        claim.lap < lap && slot.lap == lap && slot.state == SlotState::Tombstone
    }

    /// What may be looked at from `from` up to `to`: an end that somebody has forged does not make it more than the ring
    /// holds.
    fn within(&self, from: u64, to: u64) -> std::ops::Range<u64> {
        let to = to.min(self.geometry.position_end());
        from.max(to.saturating_sub(self.geometry.capacity()))..to
    }

    /// What members have from `from` up to `to`; of more than a capacity, the last.
    pub fn leased(&self, from: u64, to: u64) -> impl Iterator<Item = Leased> + '_ {
        self.those(ClaimState::Leased, from, to)
    }

    fn those(&self, state: ClaimState, from: u64, to: u64) -> impl Iterator<Item = Leased> + '_ {
        self.within(from, to).filter_map(move |position| {
            let claim = self.word(position);
            let is = claim.lap == self.geometry.lap(position) && claim.state == state;
            is.then_some(Leased { position, member: claim.member })
        })
    }

    /// How many positions from `from` up to `to` nobody has claimed; those whose producer died do not count. Of more than
    /// a capacity, the last.
    pub fn unclaimed(&self, from: u64, to: u64) -> u64 {
        let free = |position: &u64| {
            self.word(*position).lap < self.geometry.lap(*position) && !self.is_settled(*position)
        };
        self.within(from, to).filter(free).count() as u64
    }

    /// Copies the body at `position` out. The caller knows that it is committed, and looks afterwards whether it was its
    /// own, unless it is sure of that.
    pub fn copy_out(&self, position: u64, buffer: &mut [u8]) -> Result<Received, ReadError> {
        copy_out(&self.slots, self.geometry, position, buffer)
    }
}

/// Copies the body of the slot at `position` to `buffer`, after checking its lengths.
#[inline(always)]
pub(super) fn copy_out(
    slots: &impl Slots,
    geometry: Geometry,
    position: u64,
    buffer: &mut [u8],
) -> Result<Received, ReadError> {
    let bytes_max = geometry.body_bytes();
    // Read once into a local: a hostile producer could change it between check and use.
    let header = slots.header(position).load(Ordering::Relaxed);
    let received = Received::check(position, MessageHeader::unpack(header), bytes_max)
        .ok_or(ReadError::Corrupt { position, header, bytes_max })?;
    slots.read(position, &mut buffer[..received.body_bytes()]);
    Ok(received)
}

/// A message that a member has claimed and copied out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The message; its position is that of the ring it was claimed on.
    pub received: Received,
    /// Two words of what the shard says about it; only on a feed.
    pub record: [u64; 2],
}

/// Why a message that was claimed is not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// It is none.
    Read(ReadError),
    /// The shard took it over while it was being copied. If that was only for its slot, the shard takes it that this member
    /// has it: to be given back.
    TakenOver {
        /// Its position in the ring it was claimed on.
        position: u64,
    },
}

/// One member's way through a ring, or through a feed.
pub struct Claimer<M: Memory> {
    claims: Claims<M>,
    /// Behind the claims, only of a feed: two words for each slot.
    records: Option<M::Words>,
    member: u32,
    /// Everything below is claimed.
    next: u64,
    /// How many slots it looks past one that is still being written, that one included.
    look_past: u64,
    /// Claims in a row without coming to the end: it lags.
    in_a_row: u32,
    visible: Visible<M>,
}

impl<M: Memory> Claimer<M> {
    /// Claims as `member`, from `next` on.
    pub fn new(claims: Claims<M>, records: Option<M::Words>, member: u32, next: u64) -> Self {
        let visible = Visible::up_to(claims.geometry.position_end());
        Self { claims, records, member, next, look_past: LOOK_PAST, in_a_row: 0, visible }
    }

    /// Claims only what is on the device.
    pub fn wait_for_sync(&mut self, watermarks: Watermarks<M>) {
        self.visible = Visible::durable(watermarks);
    }

    /// Claims nothing behind a slot that is still being written.
    pub fn keep_order(&mut self) {
        self.look_past = 1;
    }

    /// The ring and its claim words.
    pub fn claims(&self) -> &Claims<M> {
        &self.claims
    }

    /// Settles what this member has at `position`. `false`: the shard has taken it over.
    #[inline]
    pub fn ack(&self, position: u64) -> bool {
        self.claims.ack(position, self.member)
    }

    /// Whether this member still has `position`. Behind copies of what its message refers to: if it has, they are the
    /// message's.
    #[inline]
    pub fn still_has(&self, position: u64) -> bool {
        // As the second look in `try_claim`.
        M::acquire_fence();
        let claim = self.claims.word(position);
        claim.lap == self.claims.geometry.lap(position)
            && claim.state == ClaimState::Leased
            && claim.member == self.member
    }

    /// Whether there is something to claim, a defect included: as far as [`claim`](Self::claim) looks.
    pub fn has_next(&self) -> bool {
        let (mut at, mut unfinished) = (self.next, None);
        while at < unfinished.unwrap_or(at).saturating_add(self.look_past) {
            match self.look(at) {
                Look::Nothing => return false,
                Look::Claimable(_) | Look::Overtaken(_) => return true,
                Look::Unfinished => unfinished = unfinished.or(Some(at)),
                Look::Passed => {}
            }
            at += 1;
        }
        false
    }

    /// Claims the first message that nobody has, and copies its body into `buffer`, which must hold a slot's body. `None`:
    /// there is none.
    ///
    /// A message that cannot be is an error; the member has claimed it then, and the shard takes it over with the lease.
    #[inline(always)]
    pub fn claim(&mut self, buffer: &mut [u8]) -> Result<Option<Claimed>, ClaimError> {
        let at = self.next;
        if let Look::Claimable(found) = self.look(at)
            && let Some(claimed) = self.try_claim(at, found, buffer)?
        {
            self.next = at + 1;
            return Ok(Some(claimed));
        }
        self.claim_further(buffer)
    }

    /// The same when it is not the very next one.
    fn claim_further(&mut self, buffer: &mut [u8]) -> Result<Option<Claimed>, ClaimError> {
        let mut at = self.next;
        // Where a slot is still being written that must be looked at again.
        let mut unfinished = None;
        while at < unfinished.unwrap_or(at).saturating_add(self.look_past) {
            match self.look(at) {
                Look::Nothing => {
                    self.in_a_row = 0;
                    break;
                }
                Look::Overtaken(oldest) => {
                    (self.next, at, unfinished) = (oldest, oldest, None);
                    continue;
                }
                Look::Unfinished => unfinished = unfinished.or(Some(at)),
                Look::Passed => {}
                Look::Claimable(found) => {
                    // Behind the acquiring look at this one: what its producer has published before is seen finished.
                    if let Some(passed) = unfinished
                        && !matches!(self.look(passed), Look::Unfinished)
                    {
                        (at, unfinished) = (passed, None);
                        continue;
                    }
                    if let Some(claimed) = self.try_claim(at, found, buffer)? {
                        self.next = unfinished.unwrap_or(at + 1);
                        return Ok(Some(claimed));
                    }
                }
            }
            at += 1;
            self.next = unfinished.unwrap_or(at);
        }
        Ok(None)
    }

    #[inline(always)]
    fn look(&self, at: u64) -> Look {
        let geometry = self.claims.geometry;
        if !self.visible.is(at) {
            return Look::Nothing;
        }
        let lap = geometry.lap(at);
        // Acquire: pairs with the release store of `committed` in the producer.
        let slot = SlotWord::unpack(self.claims.slots.word(at).load(Ordering::Acquire));
        if slot.lap < lap {
            return Look::Nothing;
        }
        if slot.lap > lap {
            // The floor has passed this position, and everything up to a capacity behind the newest.
            let newest = at.saturating_add((slot.lap - lap).saturating_mul(geometry.capacity()));
            return Look::Overtaken((newest - geometry.capacity() + 1).min(geometry.position_end()));
        }
        match slot.state {
            SlotState::Reserved | SlotState::Empty => Look::Unfinished,
            SlotState::Tombstone => Look::Passed,
            SlotState::Committed => {
                // Relaxed: only whether the exchange has a chance.
                let found = self.claims.words.at(at).load(Ordering::Relaxed);
                if ClaimWord::unpack(found).lap >= lap { Look::Passed } else { Look::Claimable(found) }
            }
        }
    }

    #[inline(always)]
    fn try_claim(&mut self, at: u64, found: u64, buffer: &mut [u8]) -> Result<Option<Claimed>, ClaimError> {
        // An exchange lets no later load begin before it: without the hint, every message would wait for its slot's lines. Who
        // has caught up would only take them from the producer.
        self.in_a_row = self.in_a_row.saturating_add(1);
        if u64::from(self.in_a_row) > PREFETCH_SLOTS {
            self.claims.slots.prefetch_for_read(at + PREFETCH_SLOTS);
        }
        let lap = self.claims.geometry.lap(at);
        let mine = ClaimWord { lap, state: ClaimState::Leased, member: self.member }.pack();
        let word = self.claims.words.at(at);
        // Succeeds only if nobody has claimed it since: then the floor is not above it, and the slot is still the one that
        // was seen. Acquire and release: the shard that takes it over is behind this claim.
        if word.compare_exchange(found, mine, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Ok(None);
        }
        stops::at("claim.leased");
        let received = self.claims.copy_out(at, buffer);
        let record = self.records.as_ref().map_or([0; 2], |records| {
            // Relaxed: they were written before the slot was committed, and are covered by the second look like the body.
            let record = self.claims.geometry.index(at) * 2;
            [0, 1].map(|word| records.at(record + word).load(Ordering::Relaxed))
        });
        // The copies stay before the load: if any of them saw what a later producer wrote (its release fence), then
        // this sees that the claim was taken away, without which the floor could not have passed.
        M::acquire_fence();
        if word.load(Ordering::Relaxed) != mine {
            return Err(ClaimError::TakenOver { position: at });
        }
        Ok(Some(Claimed { received: received.map_err(ClaimError::Read)?, record }))
    }
}

/// What a member finds at a position.
enum Look {
    /// Not even taken by a producer.
    Nothing,
    /// A producer is writing.
    Unfinished,
    /// Claimed, or nothing to claim.
    Passed,
    /// Settled long ago: the ring begins here now.
    Overtaken(u64),
    /// Nobody has it: its claim word.
    Claimable(u64),
}
