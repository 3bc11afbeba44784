//! What a log says, all of it together: kept while it is written, made again when it is read.
//!
//! 1. [`State::apply`] is all that there is to reading a log: the writer applies what it appends, a recovery what it finds, and
//!    both come to the same.
//! 2. It is bounded by what there is, not by how long the log is: where messages are that nobody asks for any more is
//!    forgotten with [`State::forget_below`], and of messages that follow each other within [`EXTENT_BLOCKS`] of a segment it is known
//!    only where the first of them are.
//! 3. [`State::records`] makes the same state again: that is a snapshot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringway_shm_protocol::control::message::{Sent, StreamKind};

use crate::core::{DeclaredStream, Gate, Grave, LETTERS_MAX, StreamId};

use super::format::BLOCK_BYTES;
use super::mutations::{self, Mutation};
use super::records::{Extent, LotEntry, PartHeader, Range, StateRecord, Waiting};

/// Batches of an extent begin within so many blocks of a segment: who looks for one of its messages reads no more than that in vain.
pub(crate) const EXTENT_BLOCKS: u32 = (256 << 10) / BLOCK_BYTES as u32;

/// What is known of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriptionState {
    /// First position that is not consumed, or not settled.
    pub(crate) floor: u64,
    /// What is settled above, in order.
    pub(crate) above: Vec<Range>,
    /// What is in the lot.
    pub(crate) lot: BTreeMap<u64, LotEntry>,
    /// How many messages have died.
    pub(crate) dead_total: u64,
}

/// What is known of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamState {
    pub(crate) declared: DeclaredStream,
    /// Where its messages are, in order of their positions.
    pub(crate) extents: VecDeque<Extent>,
    /// One past the last position that a message was journaled of.
    pub(crate) end: u64,
    pub(crate) subscriptions: BTreeMap<Gate, SubscriptionState>,
    /// By the shard that they come from, the last dead letters that it has got, and where.
    pub(crate) letters: BTreeMap<u32, VecDeque<(Grave, u64)>>,
    /// By the number of a producer that has a name, the last message that was journaled of it.
    pub(crate) sent: BTreeMap<u32, Sent>,
    /// The message that is being journaled in parts: position, body bytes so far, its first part's place.
    part: Option<(u64, u32, Place)>,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) block: u32,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) streams: BTreeMap<StreamId, StreamState>,
    pub(crate) streams_made: u64,
}

impl StreamState {
    fn new(declared: DeclaredStream) -> Self {
        Self {
            declared,
            extents: VecDeque::new(),
            end: 0,
            subscriptions: BTreeMap::new(),
            letters: BTreeMap::new(),
            sent: BTreeMap::new(),
            part: None,
        }
    }

    /// Messages from `first` up to `end` stand from the batch at `place` on, up to some batch of `last_segment`. What was known of these positions, or of later ones, is
    /// of a history that was not confirmed, or the same once more.
    fn add(&mut self, first: u64, end: u64, place: Place, last_segment: u64) {
        let mut goes_on = true;
        while let Some(last) = self.extents.back_mut().filter(|last| last.end > first) {
            goes_on = false;
            if last.first < first {
                last.end = first;
                break;
            }
            self.extents.pop_back();
        }
        let Place { segment, block } = place;
        let is_near = |last: &Extent| {
            (last.segment, last.last_segment, last.end) == (segment, segment, first)
                && (last.block..last.block + EXTENT_BLOCKS).contains(&block)
        };
        match self.extents.back_mut().filter(|last| goes_on && is_near(last)) {
            Some(last) => (last.end, last.last_segment) = (end, last_segment),
            None => self.extents.push_back(Extent { first, end, segment, block, last_segment }),
        }
        self.end = end;
    }

    /// Where the messages from `from` up to `until` are, in order, in `most` extents at the most.
    pub(crate) fn extents_between(&self, from: u64, until: u64, most: usize) -> Vec<Extent> {
        let index = self.extents.partition_point(|extent| extent.end <= from);
        let wanted = self.extents.range(index..).take_while(|extent| extent.first < until).take(most);
        wanted
            .map(|extent| Extent { first: extent.first.max(from), end: extent.end.min(until), ..*extent })
            .collect()
    }

    /// The floors of `shared` subscriptions. One of a queue was there before any message; of another nothing is sure before
    /// its first record.
    fn shared_floors(&self) -> impl Iterator<Item = (Gate, u64)> {
        let unknown = (self.declared.settings().kind == StreamKind::Queue).then_some(0);
        let floor = move |gate| self.subscriptions.get(&gate).map(|known| known.floor).or(unknown);
        self.declared.shared_gates().filter_map(move |gate| Some((gate, floor(gate)?)))
    }

    /// What its `cursor` subscriptions have consumed, where they are served from the log when they are behind the ring.
    fn backlog_floors(&self) -> impl Iterator<Item = u64> {
        let floor = |gate| self.subscriptions.get(&gate).map_or(0, |known| known.floor);
        let gates = self.declared.keeps_backlog().then(|| self.declared.cursor_gates());
        gates.into_iter().flatten().map(floor)
    }

    /// The stream for a ring that holds only what is at `first` or behind. What had left the one before without a record was taken
    /// over, or settled without a confirm: it is in the lot, delivered once.
    pub(crate) fn for_ring_from(&self, first: u64) -> Self {
        let mut stream = self.clone();
        for (gate, floor) in self.shared_floors() {
            let subscription = stream.subscription(gate);
            let is_settled =
                |position| subscription.above.iter().any(|(from, to)| (*from..*to).contains(&position));
            for position in (floor..first).filter(|position| !is_settled(*position)) {
                let taken = LotEntry { acquired: 1, failed: 0, waiting: Waiting::Ready };
                subscription.lot.entry(position).or_insert(taken);
            }
        }
        stream
    }

    /// A subscription whose gate is in its next use stands where it stood.
    fn renew_gates(&mut self, declared: &DeclaredStream) {
        for (name, gate) in declared.named_gates() {
            let before = self.declared.named_gates().find(|(known, _)| *known == name);
            if let Some((_, before)) = before.filter(|(_, before)| *before != gate)
                && let Some(known) = self.subscriptions.remove(&before)
            {
                self.subscriptions.insert(gate, known);
            }
        }
    }

    fn subscription(&mut self, gate: Gate) -> &mut SubscriptionState {
        self.subscriptions.entry(gate).or_default()
    }

    /// Whether a lot has a message from `first` up to `end`.
    pub(crate) fn is_in_a_lot(&self, first: u64, end: u64) -> bool {
        self.subscriptions.values().any(|known| known.lot.range(first..end).next().is_some())
    }
}

impl State {
    /// Takes messages that follow each other, in the batch at `place`.
    pub(crate) fn add_messages(&mut self, stream: StreamId, first: u64, end: u64, place: Place) {
        // One that is gone: its messages were on their way.
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.add(first, end, place, place.segment);
        }
    }

    /// Takes a part of a message.
    pub(crate) fn add_part(&mut self, part: &PartHeader, bytes: u32, place: Place) {
        let Some(stream) = self.streams.get_mut(&StreamId(part.stream)) else { return };
        let first = match stream.part.take() {
            _ if part.offset == 0 => place,
            Some((position, so_far, first)) if (position, so_far) == (part.position, part.offset) => first,
            // The beginning is of a history that was not finished.
            _ => return,
        };
        let so_far = part.offset.saturating_add(bytes);
        if so_far >= part.body_bytes {
            stream.add(part.position, part.position.saturating_add(1), first, place.segment);
        } else {
            stream.part = Some((part.position, so_far, first));
        }
    }

    /// Takes how something is.
    pub(crate) fn apply(&mut self, record: StateRecord) {
        match record {
            StateRecord::StreamsMade(made) => self.streams_made = made,
            StateRecord::Stream(id, None) => {
                self.streams.remove(&id);
            }
            StateRecord::Stream(id, Some(declared)) => {
                let stream = self.streams.entry(id);
                let stream = stream.or_insert_with(|| StreamState::new((*declared).clone()));
                stream.renew_gates(&declared);
                stream.declared = *declared;
                let gates: Vec<_> = stream.declared.gates().collect();
                stream.subscriptions.retain(|gate, _| gates.contains(gate));
            }
            StateRecord::Cursor(id, gate, position) => self.with(id, |stream| {
                stream.subscription(gate).floor = position;
            }),
            StateRecord::Settled { stream, gate, floor, above } => self.with(stream, |stream| {
                let subscription = stream.subscription(gate);
                (subscription.floor, subscription.above) = (floor, above);
            }),
            StateRecord::Lot(id, gate, position, entry) => self.with(id, |stream| {
                let lot = &mut stream.subscription(gate).lot;
                match entry {
                    Some(entry) => lot.insert(position, entry),
                    None => lot.remove(&position),
                };
            }),
            StateRecord::DeadTotal(id, gate, total) => self.with(id, |stream| {
                stream.subscription(gate).dead_total = total;
            }),
            StateRecord::Letter(id, grave, position) => self.with(id, |stream| {
                let last = stream.letters.entry(grave.shard).or_default();
                last.retain(|(known, _)| *known != grave);
                last.push_back((grave, position));
                // No more can be asked for.
                if last.len() > LETTERS_MAX {
                    last.pop_front();
                }
            }),
            StateRecord::Extent(id, Extent { first, end, segment, block, last_segment }) => {
                self.with(id, |stream| stream.add(first, end, Place { segment, block }, last_segment));
            }
            StateRecord::End(id, end) => self.with(id, |stream| stream.end = end),
            StateRecord::Sent(id, producer, sent) => self.with(id, |stream| {
                stream.sent.insert(producer, sent);
            }),
        }
    }

    fn with(&mut self, id: StreamId, act: impl FnOnce(&mut StreamState)) {
        if let Some(stream) = self.streams.get_mut(&id) {
            act(stream);
        }
    }

    /// A new epoch begins. A letter is noted before its message: where that is missing, its position is another's from now on.
    pub(crate) fn begin_epoch(&mut self) {
        if mutations::is(Mutation::NoteWithoutLetter) {
            return;
        }
        for stream in self.streams.values_mut() {
            let end = stream.end;
            stream.letters.values_mut().for_each(|last| last.retain(|(_, position)| *position < end));
        }
    }

    /// Nobody asks for messages of a stream below `position` any more, unless they are in a lot.
    pub(crate) fn forget_below(&mut self, id: StreamId, position: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        // What has left the ring may be on its way to a lot: that is known before the floor that passes it.
        let passed = stream.shared_floors().filter(|_| !mutations::is(Mutation::ForgottenEarly));
        let behind = stream.backlog_floors().filter(|_| !mutations::is(Mutation::BacklogForgotten));
        let position = passed.map(|(_, floor)| floor).chain(behind).fold(position, u64::min);
        let over = stream.extents.partition_point(|extent| extent.end <= position);
        let mut wanted: Vec<_> = Vec::new();
        for extent in stream.extents.range(..over) {
            if stream.is_in_a_lot(extent.first, extent.end) {
                wanted.push(*extent);
            }
        }
        stream.extents.drain(..over);
        wanted.into_iter().rev().for_each(|extent| stream.extents.push_front(extent));
    }

    /// Nobody asks for messages any more that all subscriptions of their stream have consumed, unless they are in a lot.
    pub(crate) fn forget_consumed(&mut self) {
        let consumed: Vec<_> = self
            .streams
            .iter()
            .filter_map(|(id, stream)| {
                let floor = |gate| stream.subscriptions.get(&gate).map_or(0, |known| known.floor);
                stream.declared.gates().map(floor).min().map(|floor| (*id, floor))
            })
            .collect();
        consumed.into_iter().for_each(|(id, floor)| self.forget_below(id, floor));
    }

    /// Whether a message is being journaled in parts: then there is no snapshot.
    pub(crate) fn has_part(&self) -> bool {
        self.streams.values().any(|stream| stream.part.is_some())
    }

    /// The segments that hold something that somebody may ask for.
    pub(crate) fn segments(&self) -> BTreeSet<u64> {
        let extents = self.streams.values().flat_map(|stream| stream.extents.iter());
        extents.flat_map(|extent| extent.segment..=extent.last_segment).collect()
    }

    /// Everything, for a snapshot.
    pub(crate) fn records(&self) -> impl Iterator<Item = StateRecord> {
        let streams = self.streams.iter().flat_map(|(id, stream)| {
            let id = *id;
            let declared = StateRecord::Stream(id, Some(Box::new(stream.declared.clone())));
            let extents = stream.extents.iter().map(move |extent| StateRecord::Extent(id, *extent));
            let end = StateRecord::End(id, stream.end);
            let letters = stream.letters.values().flatten();
            let letters = letters.map(move |(grave, at)| StateRecord::Letter(id, *grave, *at));
            let sent = stream.sent.iter().filter(|_| !mutations::is(Mutation::NoSentInSnapshot));
            let sent = sent.map(move |(producer, sent)| StateRecord::Sent(id, *producer, *sent));
            let subscriptions = stream.subscriptions.iter().flat_map(move |(gate, known)| {
                let gate = *gate;
                let settled =
                    StateRecord::Settled { stream: id, gate, floor: known.floor, above: known.above.clone() };
                let lot = known
                    .lot
                    .iter()
                    .filter(|_| !mutations::is(Mutation::NoLotInSnapshot))
                    .map(move |(position, entry)| StateRecord::Lot(id, gate, *position, Some(*entry)));
                [settled, StateRecord::DeadTotal(id, gate, known.dead_total)].into_iter().chain(lot)
            });
            [declared].into_iter().chain(extents).chain([end]).chain(letters).chain(sent).chain(subscriptions)
        });
        streams.chain([StateRecord::StreamsMade(self.streams_made)])
    }
}
