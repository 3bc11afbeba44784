//! What only the shard does to a ring.

use std::sync::atomic::Ordering;

use super::claims::copy_out;
use super::message::{Outgoing, Received};
use crate::memory::{Memory, Slots, Word};
use crate::stops;
use crate::words::{CursorWord, GateWord, LimitWord, MessageHeader, SlotState, SlotWord};

/// The owner of a slot whose producer is gone. Not 0: that is the shard, and a tombstone of its own says that a message was taken
/// back.
const NOBODY: u32 = 1;

/// Where a subscription that joins a ring begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest message that the ring still holds.
    First,
    /// Behind the newest message.
    Next,
    /// At this position; at the oldest message if the position is gone, behind the newest if it is yet to come.
    At(u64),
}

impl Start {
    /// The position, where `oldest` is the first that may be asked for and `end` the end of the log: no gate is ahead
    /// of the log, because it would carry the limit past slots that nobody has taken.
    fn between(self, oldest: u64, end: impl FnOnce() -> u64) -> u64 {
        match self {
            Self::First => oldest,
            Self::Next => end(),
            // A limit that a producer has raised too high puts the oldest behind the end.
            Self::At(position) => position.clamp(oldest, end().max(oldest)),
        }
    }
}

/// The shard's handles on one ring.
pub struct ShardRing<M: Memory> {
    slots: M::Slots,
    limit: M::WordHandle,
    active: M::WordHandle,
    mirrors: Vec<M::WordHandle>,
}

impl<M: Memory> ShardRing<M> {
    /// Joins the handles: slots, limit word, bit set of the gates, mirror words.
    pub fn new(
        slots: M::Slots,
        limit: M::WordHandle,
        active: M::WordHandle,
        mirrors: Vec<M::WordHandle>,
    ) -> Self {
        Self { slots, limit, active, mirrors }
    }

    /// Lets a gate join: afterwards no producer passes its cursor by more than the capacity, and every message
    /// from there on can be read. Returns the position of the cursor. Panics when `gate` is out of range.
    pub fn join(&self, gate: u8, generation: u16, cursor: &M::Word, start: Start) -> u64 {
        loop {
            // Acquire: pairs with the producers' raise.
            let found = self.limit.load(Ordering::Acquire);
            let limit = LimitWord::unpack(found);
            // Producers may be writing anything below the limit, so only what is younger by less than
            // a capacity is safe to promise.
            let oldest = limit.position.saturating_sub(self.slots.geometry().capacity());
            let position = start.between(oldest, || self.end_below(limit));
            self.place(gate, generation, cursor, position);
            // Release: a producer that sees the new epoch sees the gate. A producer that did not see the gate
            // read the old epoch and fails.
            let joined = limit.next_epoch().pack();
            if self.limit.compare_exchange(found, joined, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                stops::at("gate.joined");
                return position;
            }
        }
    }

    /// The same for one that was detached and loses nothing: at this position, if the ring still has that, or else not at all, and the
    /// cursor stays detached there. Returns whether the gate has joined.
    pub fn rejoin(&self, gate: u8, generation: u16, cursor: &M::Word, position: u64) -> bool {
        loop {
            // As in `join`.
            let found = self.limit.load(Ordering::Acquire);
            let limit = LimitWord::unpack(found);
            if position < limit.position.saturating_sub(self.slots.geometry().capacity()) {
                // Producers that have seen the gate meanwhile were more careful than they had to be.
                self.leave(gate);
                place_cursor(cursor, position, false);
                return false;
            }
            self.place(gate, generation, cursor, position.min(self.end_below(limit)));
            let joined = limit.next_epoch().pack();
            if self.limit.compare_exchange(found, joined, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                stops::at("gate.joined");
                return true;
            }
        }
    }

    /// The cursor of a gate that is not in force says so.
    pub fn mark_detached(&self, cursor: &M::Word) {
        let mut found = cursor.load(Ordering::Acquire);
        loop {
            let detached = CursorWord { live: false, ..CursorWord::unpack(found) }.pack();
            // AcqRel: as in `detach`.
            match cursor.compare_exchange(found, detached, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => found = now,
            }
        }
    }

    /// Writes the cursor and the mirror and puts the gate in force: one step of [`join`](Self::join), of no use
    /// alone (the models show what goes wrong without the others).
    #[doc(hidden)]
    pub fn place(&self, gate: u8, generation: u16, cursor: &M::Word, position: u64) {
        place_cursor(cursor, position, true);
        stops::at("gate.placed");
        self.mirrors[usize::from(gate)].store(GateWord { position, generation }.pack(), Ordering::Release);
        stops::at("gate.mirrored");
        // Release: pairs with the acquire in Gates::lowest.
        self.active.fetch_or(1 << gate, Ordering::Release);
        stops::at("gate.entered");
    }

    /// Places the cursor of a subscription that is no gate, on a stream that drops its oldest messages.
    pub fn place_reader(&self, cursor: &M::Word, start: Start) {
        let end = self.end();
        let oldest = end.saturating_sub(self.slots.geometry().capacity());
        place_cursor(cursor, start.between(oldest, || end), true);
    }

    /// The gates in force, in order of their indices, with their generations.
    pub fn gates(&self) -> Vec<(u8, u16)> {
        let active = self.active.load(Ordering::Acquire);
        let in_force = (0..self.mirrors.len() as u8).filter(|gate| active & 1 << gate != 0);
        let generation =
            |gate: u8| GateWord::unpack(self.mirrors[usize::from(gate)].load(Ordering::Acquire)).generation;
        in_force.map(|gate| (gate, generation(gate))).collect()
    }

    /// Takes a gate out of force. Producers that wait must be woken afterwards.
    pub fn leave(&self, gate: u8) {
        self.active.fetch_and(!(1 << gate), Ordering::Release);
        stops::at("gate.left");
    }

    /// Takes the gate with this cursor out of force if it is what holds a full ring; its reader finds the cursor no
    /// longer live. `false`: it does not hold the ring (any more). Producers that wait must be woken afterwards.
    pub fn detach(&self, gate: u8, cursor: &M::Word) -> bool {
        let mut found = cursor.load(Ordering::Acquire);
        loop {
            let word = CursorWord::unpack(found);
            if !word.live || word.position.saturating_add(self.slots.geometry().capacity()) > self.limit() {
                return false;
            }
            let detached = CursorWord { live: false, ..word }.pack();
            // AcqRel: behind the reader's last commit; its next one fails.
            match cursor.compare_exchange(found, detached, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => found = now,
            }
        }
        stops::at("gate.detached");
        self.leave(gate);
        true
    }

    /// Gives up everything below `end`, which the log has reached, unless a gate holds some of it: a subscription that
    /// joins later begins there. Returns whether nobody can ask for any of it again.
    pub fn give_up(&self, end: u64, lowest_gate: Option<u64>) -> bool {
        if lowest_gate.is_some_and(|gate| gate < end) {
            return false;
        }
        let wanted = (end + self.slots.geometry().capacity()).min(self.slots.geometry().position_end());
        loop {
            // Acquire and release: as a producer's raise.
            let found = self.limit.load(Ordering::Acquire);
            let limit = LimitWord::unpack(found);
            if limit.position >= wanted {
                return true;
            }
            let raised = LimitWord { position: wanted, ..limit }.pack();
            if self.limit.compare_exchange(found, raised, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                stops::at("limit.given-up");
                return true;
            }
        }
    }

    /// The true end of the log: the first position that nobody has taken.
    pub fn end(&self) -> u64 {
        self.end_below(LimitWord::unpack(self.limit.load(Ordering::Acquire)))
    }

    /// The first position from `from` on that a producer has taken and not finished, or the end of the log.
    pub fn finished_end(&self, from: u64) -> u64 {
        let (geometry, end) = (self.slots.geometry(), self.end());
        let is_open = |position: &u64| {
            let slot = SlotWord::unpack(self.slots.word(*position).load(Ordering::Acquire));
            slot.lap == geometry.lap(*position) && slot.state == SlotState::Reserved
        };
        (from.max(end.saturating_sub(geometry.capacity()))..end).find(is_open).unwrap_or(end)
    }

    /// The first position that may not be taken yet.
    pub fn limit(&self) -> u64 {
        LimitWord::unpack(self.limit.load(Ordering::Acquire)).position
    }

    /// Bisects between limit − capacity, below which everything is taken, and the limit: taken slots are a prefix.
    fn end_below(&self, limit: LimitWord) -> u64 {
        let geometry = self.slots.geometry();
        let mut high = limit.position.min(geometry.position_end());
        let mut low = high.saturating_sub(geometry.capacity());
        while low < high {
            let middle = low + (high - low) / 2;
            let word = SlotWord::unpack(self.slots.word(middle).load(Ordering::Acquire));
            if word.lap >= geometry.lap(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The message at `position`, if it is there and has all of these flags; its body is copied to `buffer`, which must hold a
    /// slot's body.
    pub fn peek(&self, position: u64, flags: u16, buffer: &mut [u8]) -> Option<Received> {
        let word = self.slots.word(position);
        // Acquire: pairs with the release store of `committed` in the producer.
        let found = word.load(Ordering::Acquire);
        let SlotWord { lap, state, .. } = SlotWord::unpack(found);
        let header = MessageHeader::unpack(self.slots.header(position).load(Ordering::Relaxed));
        let is_there = state == SlotState::Committed && lap == self.slots.geometry().lap(position);
        if !is_there || header.flags & flags != flags {
            return None;
        }
        let received = copy_out(&self.slots, self.slots.geometry(), position, buffer).ok()?;
        // The copies stay before the load: pairs with the release fence behind the store that takes a slot.
        M::acquire_fence();
        (word.load(Ordering::Relaxed) == found).then_some(received)
    }

    /// Puts a message of a log back to its position in a ring that nobody uses yet; `None`: there is none. Every position
    /// between the end less a capacity and the end is to be restored, and then the [end](Self::restore_end).
    pub fn restore(&self, position: u64, message: Option<&Outgoing<'_>>) {
        let lap = self.slots.geometry().lap(position);
        let state = match message {
            Some(message) => {
                message.write(&self.slots, position);
                self.slots.header(position).store(message.header().pack(), Ordering::Relaxed);
                SlotState::Committed
            }
            None => SlotState::Tombstone,
        };
        // Relaxed, as all here: who is given the ring is behind it by the hand-over.
        self.slots.word(position).store(SlotWord { lap, state, owner: NOBODY }.pack(), Ordering::Relaxed);
    }

    /// Says where the log of such a ring ends.
    pub fn restore_end(&self, end: u64) {
        self.limit.store(LimitWord { position: end, epoch: 0 }.pack(), Ordering::Relaxed);
    }

    /// Whether the slot of `position` is taken by `owner` and not committed.
    pub fn is_reserved(&self, position: u64, owner: u32) -> bool {
        let lap = self.slots.geometry().lap(position);
        let word = SlotWord::unpack(self.slots.word(position).load(Ordering::Acquire));
        word == SlotWord { lap, state: SlotState::Reserved, owner }
    }

    /// Turns what `owner` has taken and not committed into tombstones. Only for an owner whose death is proven
    /// or who said that it stopped. Returns how many there were.
    pub fn bury(&self, owner: u32) -> u64 {
        let mut buried = 0;
        // Every slot, whatever its lap: a producer that is about to lap the dead has raised the limit already.
        for index in 0..self.slots.geometry().capacity() {
            let word = self.slots.word(index);
            let found = word.load(Ordering::Acquire);
            let slot = SlotWord::unpack(found);
            if slot.state == SlotState::Reserved && slot.owner == owner {
                let tombstone = SlotWord { state: SlotState::Tombstone, ..slot };
                // Release: readers that pass the tombstone are ordered behind the repair.
                let done =
                    word.compare_exchange(found, tombstone.pack(), Ordering::AcqRel, Ordering::Relaxed);
                buried += u64::from(done.is_ok());
                stops::at("slot.buried");
            }
        }
        buried
    }
}

/// Writes a cursor; the generation of its readers goes on where it is not the first time.
fn place_cursor(cursor: &impl Word, position: u64, live: bool) {
    let CursorWord { generation, .. } = CursorWord::unpack(cursor.load(Ordering::Relaxed));
    let word = CursorWord { position, pinned: false, live, generation };
    cursor.store(word.pack(), Ordering::Release);
}
