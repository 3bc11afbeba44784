//! A ring as the journal sees it: one more reader, whose gate is what was written.
//!
//! ```text
//!    gate (written)      appended          end
//! ──────┼──────────────────┼────────────────┼──▶ positions
//!       │ in a batch       │ to be read
//! ```
//!
//! 1. Producers wait for the journal's gate as for any other: what is not written is not overwritten.
//! 2. A message is read once. Its position is confirmed when a sync of its batch is done, and everything below is.
//! 3. What is settled is journaled in rounds, and never before the message itself: a round looks only below what was appended, and
//!    one that finds something settled behind that is done with a later one.
//! 4. What a producer has broken (lengths that cannot be, blocks that are not there) has no message to be journaled, and is
//!    passed over as a tombstone is: consumers cannot read it either.

use std::collections::BTreeMap;

use ringway_shm_protocol::attributes::{Stamp, flag};
use ringway_shm_protocol::control::message::{Durability, NAMED_PRODUCERS_MAX, Sent};
use ringway_shm_protocol::memory::mapped::Mapped;
use ringway_shm_protocol::partition::PartitionRegions;
use ringway_shm_protocol::ring::{
    ArenaBlock, CursorReader, JournalState, Outgoing, Part, ReadError, Received, Ringer,
};

use super::arenas::RingArenas;
use crate::core::{Gate, StreamId};
use crate::journal::disk::{Disk, Writer};
use crate::journal::log::Log;
use crate::journal::mutations::{self, Mutation};
use crate::journal::records::{Range, StateRecord};

/// Why the next message cannot be copied as it is.
enum Stop {
    /// A part of it is in an arena.
    Arena(Received),
    /// It cannot be.
    Broken(ReadError),
}

/// What was journaled last of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) floor: u64,
    pub(super) above: Vec<Range>,
}

/// Whether, and how, the shard looks for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attention {
    /// Each time round.
    Polled,
    /// Now and then; it was so often in vain in a row.
    Resting { in_vain: u32 },
    /// When a bell is rung.
    Parked,
}

/// See the module.
pub(super) struct Journaled {
    stream: StreamId,
    pub(super) gate: Gate,
    level: Durability,
    reader: CursorReader<Mapped>,
    /// Behind the last message that was appended, and the last whose write, and whose sync, is done.
    appended: u64,
    written: u64,
    synced: u64,
    /// A message of which a part is appended: its body, and how far.
    part: Option<(Received, Vec<u8>, usize)>,
    /// State records that come before the next message.
    before: Vec<StateRecord>,
    /// What was appended of producers that have names, and is to be said behind it.
    sent: BTreeMap<u32, Sent>,
    buffer: Box<[u8]>,
    pub(super) attention: Attention,
    /// Which bells are watched.
    pub(super) watched: u8,
    pub(super) noted: BTreeMap<Gate, Noted>,
    /// Rounds that found something settled which is not read yet: the first of each subscription, and up to where that is.
    owed: BTreeMap<Gate, (u64, u64)>,
    confirm: Ringer,
}

impl Journaled {
    /// Reads on behind what is journaled: everything below `end` is.
    pub(super) fn new(
        stream: StreamId,
        gate: Gate,
        level: Durability,
        partition: &PartitionRegions,
        reader: CursorReader<Mapped>,
        end: u64,
    ) -> Self {
        let (mut reader, end) = (reader, end.min(partition.ring.end()));
        reader.skip_to(end);
        let at = reader.position();
        partition.watermarks.raise(at, at);
        partition.watermarks.set_state(JournalState::Ready);
        let mut journaled = Self {
            stream,
            gate,
            level,
            reader,
            appended: at,
            written: at,
            synced: at,
            part: None,
            before: Vec::new(),
            sent: BTreeMap::new(),
            buffer: vec![0; partition.identity().geometry.body_bytes()].into_boxed_slice(),
            attention: Attention::Polled,
            watched: 0,
            noted: BTreeMap::new(),
            owed: BTreeMap::new(),
            confirm: Ringer::default(),
        };
        journaled.commit();
        journaled
    }

    /// Everything below `end` is in the log.
    pub(super) fn skip_to(&mut self, end: u64, partition: &PartitionRegions) {
        self.reader.skip_to(end.min(partition.ring.end()));
        self.appended = self.reader.position();
        (self.written, self.synced) = (self.appended, self.appended);
        self.raise(partition, self.appended, self.appended);
    }

    /// What its messages are confirmed at.
    pub(super) fn level(&self) -> Durability {
        self.level
    }

    /// Everything below was read.
    pub(super) fn position(&self) -> u64 {
        if self.part.is_some() { self.appended } else { self.reader.position() }
    }

    /// Whether everything below `position` is confirmed at the stream's level.
    pub(super) fn is_confirmed(&self, position: u64) -> bool {
        position <= if self.level == Durability::Synced { self.synced } else { self.written }
    }

    /// Whether there is something to read.
    pub(super) fn has_next(&self) -> bool {
        self.part.is_some() || !self.before.is_empty() || !self.sent.is_empty() || self.reader.has_next()
    }

    /// Has a record come before the next message.
    pub(super) fn append_before(&mut self, record: StateRecord) {
        self.before.push(record);
    }

    /// A round has begun, and what was read is journaled of what it found settled, some of it below `settled_end`. Returns
    /// which round is done with that.
    pub(super) fn done_with(&mut self, gate: Gate, round: u64, settled_end: u64) -> Option<u64> {
        let read_end = self.position();
        if settled_end <= read_end || mutations::is(Mutation::RoundOverUnread) {
            self.owed.remove(&gate);
            return Some(round);
        }
        let (owed, until) = *self.owed.entry(gate).or_insert((round, settled_end));
        (until <= read_end).then(|| {
            self.owed.insert(gate, (round, settled_end));
            owed
        })
    }

    /// Whether there are rounds that a later one is to end.
    pub(super) fn owes_rounds(&self) -> bool {
        !self.owed.is_empty()
    }

    /// The gate of a subscription is in its next use.
    pub(super) fn renew(&mut self, before: Gate, gate: Gate) {
        let noted = self.noted.remove(&before);
        self.noted.extend(noted.map(|noted| (gate, noted)));
        let owed = self.owed.remove(&before);
        self.owed.extend(owed.map(|owed| (gate, owed)));
    }

    /// A subscription is gone.
    pub(super) fn forget(&mut self, gate: Gate) {
        self.noted.remove(&gate);
        self.owed.remove(&gate);
    }

    /// Appends up to so many messages, and what they say of their producers; returns how many, and whether buffers have run
    /// out.
    pub(super) fn read<D: Disk, W: Writer<D::File>>(
        &mut self,
        log: &mut Log<D, W>,
        arenas: &RingArenas,
        most: usize,
    ) -> (usize, bool) {
        let (read, full) = self.read_messages(log, arenas, most);
        let sync = self.level == Durability::Synced;
        while let Some((producer, sent)) = self.sent.first_key_value() {
            if log.append_state(&StateRecord::Sent(self.stream, *producer, *sent), sync).is_err() {
                return (read, true);
            }
            self.sent.pop_first();
        }
        (read, full)
    }

    fn read_messages<D: Disk, W: Writer<D::File>>(
        &mut self,
        log: &mut Log<D, W>,
        arenas: &RingArenas,
        most: usize,
    ) -> (usize, bool) {
        let sync = self.level == Durability::Synced;
        while let Some(record) = self.before.first() {
            if log.append_state(record, false).is_err() {
                return (0, true);
            }
            self.before.remove(0);
        }
        let mut read = 0;
        while read < most {
            if let Some((received, body, offset)) = self.part.take() {
                if let Err(offset) = log.append_body(self.stream, received, &body, offset, sync) {
                    self.part = Some((received, body, offset));
                    return (read, true);
                }
                self.appended = received.position + 1;
                note(&mut self.sent, received, &body);
            }
            let (reader, buffer, sent) = (&mut self.reader, &mut self.buffer, &mut self.sent);
            let appended = log.append_message(self.stream, buffer.len(), sync, |into| {
                match reader.read(into).map_err(Stop::Broken)? {
                    Some(received) if received.is_in_arena() => {
                        buffer.copy_from_slice(into);
                        Err(Stop::Arena(received))
                    }
                    received => {
                        received.iter().for_each(|received| note(sent, *received, into));
                        Ok(received)
                    }
                }
            });
            match appended {
                Err(_) => return (read, true),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(received))) => self.appended = received.position + 1,
                Ok(Err(Stop::Arena(received))) => {
                    if let Some((received, body)) = self.gather(received, arenas) {
                        self.part = Some((received, body, 0));
                    }
                }
                Ok(Err(Stop::Broken(error))) => self.pass_over(&error),
            }
            read += 1;
        }
        (read, false)
    }

    /// The message with all its parts inline; `None`: what it refers to is not there, or was taken back meanwhile.
    fn gather(&self, received: Received, arenas: &RingArenas) -> Option<(Received, Vec<u8>)> {
        let block = |block: ArenaBlock| arenas.copy(block);
        let part = |part: Part<'_>| match part {
            Part::Inline(bytes) => Some(bytes.to_vec()),
            Part::Arena(found) => block(found),
        };
        let attributes = part(received.attributes(&self.buffer))?;
        let payload = part(received.payload(&self.buffer))?;
        if self.reader.validates() && !self.reader.is_unchanged(received.position) {
            return None;
        }
        let message = Outgoing {
            flags: received.flags(),
            attributes: Part::Inline(&attributes),
            payload: Part::Inline(&payload),
        };
        let (header, body) = message.to_body();
        Some((Received::of_header(received.position, header, body.len())?, body))
    }

    fn pass_over(&mut self, error: &ReadError) {
        let position = match error {
            // The producers of this stream have overwritten what was not journaled: on to the next lap's.
            ReadError::Overwritten { position, .. } => position.saturating_add(self.geometry_capacity()),
            _ => self.reader.position().saturating_add(1),
        };
        self.reader.skip_to(position);
    }

    fn geometry_capacity(&self) -> u64 {
        self.reader.geometry().capacity()
    }

    /// Takes note of how far writes and syncs have come, and tells producers.
    pub(super) fn raise(&mut self, partition: &PartitionRegions, written: u64, synced: u64) {
        self.written = self.written.max(written);
        self.synced = self.synced.max(synced);
        // Behind the last message there may be tombstones, which nothing is written of.
        if self.synced >= self.appended && self.part.is_none() {
            (self.written, self.synced) = (self.position(), self.position());
            self.appended = self.position();
        }
        self.commit();
        partition.watermarks.raise(self.written, self.synced);
        self.confirm.ring(&partition.confirm);
    }

    /// Whether tombstones alone were read since the last message.
    pub(super) fn lags_behind_tombstones(&self) -> bool {
        self.synced >= self.appended && self.appended < self.position()
    }

    fn commit(&mut self) {
        let written =
            self.written.clamp(self.reader.position() - self.reader.uncommitted(), self.reader.position());
        // Only the shard may write to this region.
        let _ = self.reader.commit(written);
    }

    /// Says whether messages can be journaled.
    pub(super) fn set_state(&mut self, partition: &PartitionRegions, state: JournalState) {
        partition.watermarks.set_state(state);
        self.confirm.ring(&partition.confirm);
    }

    /// Wakes who waits for a round.
    pub(super) fn ring_confirm(&mut self, partition: &PartitionRegions) {
        self.confirm.ring(&partition.confirm);
    }
}

/// Takes note of who has sent a message, all of whose parts are in `body`. What a producer makes up is no more than there can be.
#[inline]
fn note(sent: &mut BTreeMap<u32, Sent>, received: Received, body: &[u8]) {
    if received.flags() & flag::PRODUCER != 0
        && let Part::Inline(section) = received.attributes(body)
        && let Some(Stamp { sequence, producer }) = Stamp::of(received.flags(), section)
        && (1..=NAMED_PRODUCERS_MAX as u32).contains(&producer)
    {
        sent.insert(producer, Sent { sequence, position: received.position });
    }
}

#[cfg(test)]
mod tests {
    use ringway_shm_protocol::words::MessageHeader;

    use super::*;

    #[test]
    fn of_producers_that_are_made_up_no_more_is_noted_than_there_can_be() {
        let mut sent = BTreeMap::new();
        for (position, producer) in (0..3000_u32).chain([u32::MAX]).enumerate() {
            let (mut body, sequence) = ([0; 16], 7_u64);
            body[..8].copy_from_slice(&sequence.to_le_bytes());
            body[8..12].copy_from_slice(&producer.to_le_bytes());
            let header = MessageHeader { payload_bytes: 0, attributes_bytes: 12, flags: flag::PRODUCER };
            let received = Received::of_header(position as u64, header.pack(), body.len()).unwrap();
            note(&mut sent, received, &body);
        }
        assert_eq!(sent.keys().copied().collect::<Vec<_>>(), (1..=1024).collect::<Vec<_>>());
        assert_eq!(sent[&1024], Sent { sequence: 7, position: 1024 });
    }
}
