//! Writing a shard's log: batches, one behind the other, and how far they have come.
//!
//! ```text
//! append ──▶ filling (a buffer) ──submit──▶ in flight: write ──▶ sync ──▶ durable
//!                                            │ any order         │ the prefix without a gap counts
//! ```
//!
//! 1. A batch is written once, behind the one before; what is durable is a prefix of the log.
//! 2. What is said to be durable has been reported by a sync that began behind its write. [`Log::poll`] alone says so.
//! 3. A write or a sync that fails ends the log: nothing behind is ever durable, and nothing is tried again. What the device
//!    has of it then, nobody knows.
//! 4. While something is in flight, more gathers: so batches grow with the load, and one that is alone is written at once.

use std::collections::VecDeque;
use std::sync::Arc;

use ringway_shm_protocol::ring::Received;
use ringway_shm_protocol::stops;
use zerocopy::IntoBytes;

use super::disk::{Disk, Done, Writer};
use super::format::{
    BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BLOCK_BYTES, BatchFrame, SegmentHeader, batch_bytes, seal,
};
use super::mutations::{self, Mutation};
use super::records::{
    MESSAGE_HEADER_BYTES, MESSAGES, PART, PART_BYTES, PREFIX_BYTES, PartHeader, Prefix, RUN_BYTES, Run,
    StateRecord, encode,
};
use super::segments::OpenSegment;
use super::state::{Place, State};
use crate::core::{DeclaredStream, StreamId};

/// Bytes of records that a batch may have.
const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX - BATCH_HEADER_BYTES;
/// A further batch is submitted while others are in flight when it has so many bytes of records.
pub(crate) const SUBMIT_BYTES: usize = 256 << 10;
/// A message with a longer body is written in parts, in bytes.
const PART_BODY_BYTES: usize = 256 << 10;

/// What was appended, to be applied to the state when it is known where it is.
enum Appended {
    Messages(StreamId, u64, u64),
    Part(PartHeader, u32),
    State(StateRecord),
}

/// A batch that is being filled.
struct Filling {
    buffer: usize,
    /// Bytes of records.
    used: usize,
    records: u32,
    /// It is to be synced at once.
    sync: bool,
    appended: Vec<Appended>,
    run: Option<OpenRun>,
}

/// Messages that are being appended.
struct OpenRun {
    stream: StreamId,
    /// Where its record begins in the body.
    at: usize,
    first: u64,
    count: u32,
}

/// A batch that was submitted.
struct InFlight<File> {
    /// `None`: another's by now.
    buffer: Option<usize>,
    file: Arc<File>,
    end_lsn: u64,
    /// Its write was reported.
    written: bool,
    /// A sync that covers it was reported.
    synced: bool,
    /// The number of the sync that covers it.
    sync: Option<u64>,
    /// That sync is linked to its write, and its buffer is in use until it is reported.
    is_linked: bool,
    /// How far it takes each stream.
    ends: Vec<(StreamId, u64)>,
}

/// How far the log has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Streams whose messages below this position were handed to the kernel.
    pub(crate) written: Vec<(StreamId, u64)>,
    /// The same on the device.
    pub(crate) synced: Vec<(StreamId, u64)>,
}

/// Where a log goes on.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) shard: u32,
    /// The LSN of the next record.
    pub(crate) lsn: u64,
    /// The checksum of the last batch.
    pub(crate) checksum: u64,
    pub(crate) state: State,
    /// The header of the segment that the last batch is in, if there is one.
    pub(crate) last: Option<SegmentHeader>,
    /// The header of the segment that its epoch begins with, if there is no room for that yet.
    pub(crate) first: Option<SegmentHeader>,
}

/// There is no room to append: something in flight must come to an end first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoBuffer;

/// See the module.
pub(crate) struct Log<D: Disk, W> {
    shard: u32,
    writer: W,
    segment: OpenSegment<D::File>,
    /// The one behind, once it is there.
    next: Option<OpenSegment<D::File>>,
    /// The header of the one behind, if the epoch begins with it.
    first: Option<SegmentHeader>,
    free: Vec<usize>,
    filling: Option<Filling>,
    in_flight: VecDeque<InFlight<D::File>>,
    next_lsn: u64,
    /// Behind the last batch: its segment, and a byte of that.
    place: (u64, u64),
    checksum: u64,
    /// Everything below was reported as written.
    written_lsn: u64,
    durable_lsn: u64,
    /// What the last batch says is durable.
    marked_lsn: u64,
    /// Syncs so far.
    syncs: u64,
    state: State,
    failed: Option<String>,
    submit_bytes: usize,
    /// Batches and bytes so far.
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
}

impl<D: Disk, W: Writer<D::File>> Log<D, W> {
    /// Goes on at `start`, in a segment that is empty; in one that is full where its own is not there yet.
    pub(crate) fn new(start: Start, segment: OpenSegment<D::File>, writer: W) -> Self {
        let Start { shard, lsn, checksum, state, last, first } = start;
        let place = last.map_or((segment.header.segment, segment.at), |last| (last.segment, last.bytes));
        let free = (0..writer.buffers()).rev().collect();
        Self {
            shard,
            writer,
            segment,
            next: None,
            first,
            free,
            filling: None,
            in_flight: VecDeque::new(),
            next_lsn: lsn,
            place,
            checksum,
            written_lsn: lsn,
            durable_lsn: lsn,
            marked_lsn: lsn,
            syncs: 0,
            state,
            failed: None,
            submit_bytes: SUBMIT_BYTES,
            batches: 0,
            bytes: 0,
        }
    }

    /// Submits a further batch when it has so many bytes of records.
    #[cfg(test)]
    pub(crate) fn set_submit_bytes(&mut self, bytes: usize) {
        self.submit_bytes = bytes;
    }

    /// What the log says.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The same, to forget what nobody asks for.
    pub(crate) fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Whose log it is.
    pub(crate) fn shard(&self) -> u32 {
        self.shard
    }

    /// What wakes the shard.
    pub(crate) fn writer(&mut self) -> &mut W {
        &mut self.writer
    }

    /// The LSN of the next record that is submitted.
    pub(crate) fn next_lsn(&self) -> u64 {
        self.next_lsn
    }

    /// The LSN behind everything that was appended.
    pub(crate) fn end_lsn(&self) -> u64 {
        self.next_lsn + self.filling.as_ref().map_or(0, |filling| filling.records.into())
    }

    /// Everything below this LSN is on the device.
    pub(crate) fn durable_lsn(&self) -> u64 {
        self.durable_lsn
    }

    /// Why nothing is durable any more.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Ends the log.
    pub(crate) fn fail(&mut self, why: String) {
        self.failed.get_or_insert(why);
    }

    /// Whether something is in flight, or was appended and is not submitted.
    pub(crate) fn is_busy(&self) -> bool {
        !self.in_flight.is_empty() || self.filling.is_some()
    }

    /// Whether something is in flight.
    pub(crate) fn is_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// How a stream was declared last, by all that was appended.
    pub(crate) fn declared(&self, id: StreamId) -> Option<&DeclaredStream> {
        let appended = self.filling.iter().flat_map(|filling| filling.appended.iter().rev());
        let mut of_it = appended.filter_map(|appended| match appended {
            Appended::State(StateRecord::Stream(of, declared)) if *of == id => Some(declared.as_deref()),
            _ => None,
        });
        of_it.next().unwrap_or_else(|| self.state.streams.get(&id).map(|stream| &stream.declared))
    }

    /// Whether somebody waits for what is in flight: it is to be synced.
    pub(crate) fn is_waited_for(&self) -> bool {
        // One that has no room waits for its segment, which wakes the shard.
        let has_room =
            |filling: &Filling| self.next.is_some() || self.left() >= batch_bytes(filling.used) as u64;
        self.filling.as_ref().is_some_and(|filling| filling.sync && has_room(filling))
            || self.in_flight.iter().any(|batch| batch.is_linked && !batch.synced)
    }

    /// Whether everything is durable and the log does not say so yet.
    pub(crate) fn lacks_mark(&self) -> bool {
        !self.is_busy() && self.marked_lsn < self.next_lsn
    }

    /// Whether there are batches that were written and not synced, and that no sync is under way for.
    pub(crate) fn lacks_flush(&self) -> bool {
        self.in_flight.iter().any(|batch| batch.sync.is_none())
    }

    /// Whether such a batch keeps one behind it, which is synced, from being durable.
    fn flush_is_waited_for(&self) -> bool {
        self.in_flight.front().is_some_and(|batch| batch.written && batch.sync.is_none())
            && self.in_flight.iter().any(|batch| batch.synced)
    }

    /// Whether the segment behind this one is wanted: this one is half full.
    pub(crate) fn wants_segment(&self) -> bool {
        self.next.is_none() && self.failed.is_none() && self.left() < self.segment.header.bytes / 2
    }

    /// Bytes that are left until the next segment is needed.
    pub(crate) fn left(&self) -> u64 {
        self.segment.header.bytes - self.segment.at
    }

    /// The same, behind everything that was appended.
    pub(crate) fn left_behind(&self) -> u64 {
        let filling = self.filling.as_ref().filter(|_| !mutations::is(Mutation::AppendedUncounted));
        let appended = filling.map_or(0, |filling| batch_bytes(filling.used) as u64);
        self.left().saturating_sub(appended)
    }

    /// The segment that is being filled.
    pub(crate) fn segment(&self) -> &OpenSegment<D::File> {
        &self.segment
    }

    /// Behind the last batch: its segment, and the byte at which a reader goes on. A segment in which there is nothing is none that
    /// anybody begins with.
    pub(crate) fn place(&self) -> (u64, u64) {
        self.place
    }

    /// The checksum of the last batch.
    pub(crate) fn checksum(&self) -> u64 {
        self.checksum
    }

    /// The header of the segment behind this one.
    pub(crate) fn next_header(&self, salt: u64) -> SegmentHeader {
        if let Some(first) = self.first {
            return first;
        }
        let last = &self.segment.header;
        SegmentHeader {
            segment: last.segment + 1,
            salt,
            // Not known yet: its first batch says it.
            before_lsn: u64::MAX,
            before_checksum: 0,
            before_segment: last.segment,
            ..*last
        }
    }

    /// Gives it the segment behind this one.
    pub(crate) fn set_next(&mut self, segment: OpenSegment<D::File>) {
        self.next = Some(segment);
    }

    /// A buffer with room for so many bytes of a record.
    fn room(&mut self, bytes: usize) -> Result<&mut Filling, NoBuffer> {
        debug_assert!(bytes <= BODY_BYTES_MAX);
        if self.failed.is_some() {
            return Err(NoBuffer);
        }
        if self.filling.as_ref().is_some_and(|filling| filling.used + bytes > BODY_BYTES_MAX) {
            self.submit_filling()?;
        }
        if self.filling.is_none() {
            let buffer = self.free.pop().ok_or(NoBuffer)?;
            self.filling =
                Some(Filling { buffer, used: 0, records: 0, sync: false, appended: Vec::new(), run: None });
        }
        Ok(self.filling.as_mut().expect("made above"))
    }

    /// Appends how something is.
    pub(crate) fn append_state(&mut self, record: &StateRecord, sync: bool) -> Result<(), NoBuffer> {
        let bytes = encode(record);
        if bytes.len() > BODY_BYTES_MAX {
            self.fail(format!("a record of {} bytes does not fit a batch", bytes.len()));
            return Err(NoBuffer);
        }
        self.close_run();
        let filling = self.room(bytes.len())?;
        let (buffer, at) = (filling.buffer, BATCH_HEADER_BYTES + filling.used);
        filling.used += bytes.len();
        filling.records += 1;
        filling.sync |= sync;
        filling.appended.push(Appended::State(record.clone()));
        self.writer.buffer(buffer)[at..at + bytes.len()].copy_from_slice(&bytes);
        Ok(())
    }

    /// Appends the message that `read` finds, whose body is at most `body_bytes_max`: it is copied to where it is written
    /// from. `false`: there was none.
    pub(crate) fn append_message<E>(
        &mut self,
        stream: StreamId,
        body_bytes_max: usize,
        sync: bool,
        read: impl FnOnce(&mut [u8]) -> Result<Option<Received>, E>,
    ) -> Result<Result<Option<Received>, E>, NoBuffer> {
        let needed = RUN_BYTES + MESSAGE_HEADER_BYTES + body_bytes_max;
        if self
            .filling
            .as_ref()
            .and_then(|filling| filling.run.as_ref())
            .is_none_or(|run| run.stream != stream)
        {
            self.close_run();
        }
        let filling = self.room(needed)?;
        let starts = filling.run.is_none();
        let (buffer, used) = (filling.buffer, filling.used);
        let message_at = BATCH_HEADER_BYTES + used + if starts { RUN_BYTES } else { 0 };
        let body_at = message_at + MESSAGE_HEADER_BYTES;
        let bytes = self.writer.buffer(buffer);
        let received = match read(&mut bytes[body_at..body_at + body_bytes_max]) {
            Ok(Some(received)) => received,
            other => {
                self.give_up_empty();
                return Ok(other);
            }
        };
        bytes[message_at..body_at].copy_from_slice(&received.header().to_le_bytes());
        let message_bytes = MESSAGE_HEADER_BYTES + received.body_bytes();
        let filling = self.filling.as_mut().expect("there is room in it");
        filling.sync |= sync || received.is_to_be_synced();
        let follows = filling.run.as_ref().map(|run| run.first + u64::from(run.count) == received.position);
        if follows == Some(false) {
            // Tombstones lie between: another record, for whose beginning the message makes room.
            self.close_run();
            let bytes = self.writer.buffer(buffer);
            bytes.copy_within(message_at..message_at + message_bytes, message_at + RUN_BYTES);
        }
        let filling = self.filling.as_mut().expect("there is room in it");
        match &mut filling.run {
            Some(run) => {
                run.count += 1;
                filling.used += message_bytes;
            }
            None => {
                filling.run = Some(OpenRun { stream, at: filling.used, first: received.position, count: 1 });
                filling.records += 1;
                filling.used += RUN_BYTES + message_bytes;
            }
        }
        Ok(Ok(Some(received)))
    }

    /// Appends a message whose body is here, in parts where it is long; from `offset` of the body on. Where buffers
    /// have run out it says how far of the body it has come.
    pub(crate) fn append_body(
        &mut self,
        stream: StreamId,
        received: Received,
        body: &[u8],
        mut offset: usize,
        sync: bool,
    ) -> Result<(), usize> {
        let sync = sync || received.is_to_be_synced();
        if body.len() <= PART_BODY_BYTES {
            let copied = self.append_message::<()>(stream, body.len(), sync, |into| {
                into.copy_from_slice(body);
                Ok(Some(received))
            });
            return copied.map(drop).map_err(|NoBuffer| 0);
        }
        self.close_run();
        while offset < body.len() {
            let bytes = (body.len() - offset).min(PART_BODY_BYTES);
            let part = PartHeader {
                stream: stream.0,
                position: received.position,
                header: received.header(),
                body_bytes: body.len() as u32,
                offset: offset as u32,
            };
            let Ok(filling) = self.room(PART_BYTES + bytes) else { return Err(offset) };
            let (buffer, at) = (filling.buffer, BATCH_HEADER_BYTES + filling.used);
            filling.used += PART_BYTES + bytes;
            filling.records += 1;
            filling.sync |= sync;
            filling.appended.push(Appended::Part(part, bytes as u32));
            let into = &mut self.writer.buffer(buffer)[at..at + PART_BYTES + bytes];
            let prefix = Prefix { kind: PART, reserved: [0; 3], bytes: (size_of_val(&part) + bytes) as u32 };
            into[..PREFIX_BYTES].copy_from_slice(prefix.as_bytes());
            into[PREFIX_BYTES..PART_BYTES].copy_from_slice(part.as_bytes());
            into[PART_BYTES..].copy_from_slice(&body[offset..offset + bytes]);
            offset += bytes;
        }
        Ok(())
    }

    /// A batch that nothing was appended to is none.
    fn give_up_empty(&mut self) {
        if let Some(Filling { buffer, .. }) = self.filling.take_if(|filling| filling.records == 0) {
            self.free.push(buffer);
        }
    }

    /// Finishes the record of the messages that were appended last.
    fn close_run(&mut self) {
        let Some(filling) = &mut self.filling else { return };
        let Some(OpenRun { stream, at, first, count }) = filling.run.take() else { return };
        filling.appended.push(Appended::Messages(stream, first, first + u64::from(count)));
        let content = (filling.used - at - PREFIX_BYTES) as u32;
        let prefix = Prefix { kind: MESSAGES, reserved: [0; 3], bytes: content };
        let run = Run { stream: stream.0, first, count, reserved: 0 };
        let at = BATCH_HEADER_BYTES + at;
        let into = &mut self.writer.buffer(filling.buffer)[at..at + RUN_BYTES];
        into[..PREFIX_BYTES].copy_from_slice(prefix.as_bytes());
        into[PREFIX_BYTES..].copy_from_slice(run.as_bytes());
    }

    /// Submits what was appended, if it is time.
    pub(crate) fn submit(&mut self, now_ns: impl FnOnce() -> u64) {
        let Some(filling) = &self.filling else { return };
        let (is_alone, is_large) = (self.in_flight_writes() == 0, filling.used >= self.submit_bytes);
        if is_alone || is_large && !self.free.is_empty() {
            // Without a segment it has to wait.
            let _ = self.submit_filling_at(now_ns());
        }
    }

    /// Batches that somebody waits for: those that nobody syncs are written by and by.
    fn in_flight_writes(&self) -> usize {
        self.in_flight.iter().filter(|batch| !batch.written || batch.is_linked && !batch.synced).count()
    }

    fn submit_filling(&mut self) -> Result<(), NoBuffer> {
        self.submit_filling_at(crate::clock::wall())
    }

    fn submit_filling_at(&mut self, time_ns: u64) -> Result<(), NoBuffer> {
        self.close_run();
        let Some(filling) = &self.filling else { return Ok(()) };
        let bytes = batch_bytes(filling.used);
        self.move_on(bytes as u64)?;
        let Filling { buffer, used, records, sync, appended, .. } =
            self.filling.take().expect("looked at above");
        let header = &self.segment.header;
        let frame = BatchFrame {
            salt: header.salt,
            previous: self.checksum,
            first_lsn: self.next_lsn,
            durable_lsn: self.durable_lsn,
            segment: header.segment,
            epoch: header.epoch,
            time_ns,
            shard: self.shard,
            records,
        };
        let place = Place { segment: header.segment, block: (self.segment.at / BLOCK_BYTES as u64) as u32 };
        let (bytes, checksum) = seal(self.writer.buffer(buffer), used, &frame);
        self.checksum = checksum;
        self.next_lsn += u64::from(records);
        self.marked_lsn = self.durable_lsn;
        let ends = self.apply(appended, place);
        let (file, offset) = (self.segment.file.clone(), self.segment.at);
        let number = sync.then(|| self.cover(&file));
        self.writer.write(&file, offset, buffer, bytes, sync);
        stops::at("batch.submitted");
        self.segment.at += bytes as u64;
        self.place = (self.segment.header.segment, self.segment.at);
        self.batches += 1;
        self.bytes += bytes as u64;
        self.in_flight.push_back(InFlight {
            buffer: Some(buffer),
            file,
            end_lsn: self.next_lsn,
            written: false,
            synced: false,
            sync: number,
            is_linked: sync,
            ends,
        });
        Ok(())
    }

    /// Goes on in the next segment if this one has no room for so many bytes.
    fn move_on(&mut self, bytes: u64) -> Result<(), NoBuffer> {
        if self.left() < bytes {
            self.segment = self.next.take().ok_or(NoBuffer)?;
            self.first = None;
        }
        Ok(())
    }

    fn apply(&mut self, appended: Vec<Appended>, place: Place) -> Vec<(StreamId, u64)> {
        let mut ends: Vec<(StreamId, u64)> = Vec::new();
        for appended in appended {
            match appended {
                Appended::Messages(stream, first, end) => {
                    self.state.add_messages(stream, first, end, place);
                    ends.push((stream, end));
                }
                Appended::Part(part, bytes) => {
                    self.state.add_part(&part, bytes, place);
                    if part.offset + bytes == part.body_bytes {
                        ends.push((StreamId(part.stream), part.position + 1));
                    }
                }
                Appended::State(record) => self.state.apply(record),
            }
        }
        ends
    }

    /// Writes a batch without records, which says how far the log is durable.
    pub(crate) fn mark(&mut self, time_ns: u64) {
        if self.lacks_mark()
            && let Ok(filling) = self.room(0)
        {
            filling.sync = true;
            let _ = self.submit_filling_at(time_ns);
            stops::at("mark.submitted");
        }
    }

    /// Numbers a sync of a file that begins from now on: it covers what was reported as written, and no more is sure.
    fn cover(&mut self, file: &Arc<D::File>) -> u64 {
        self.syncs += 1;
        let uncovered = self.in_flight.iter_mut().filter(|batch| batch.written && batch.sync.is_none());
        for batch in uncovered.filter(|batch| Arc::ptr_eq(&batch.file, file)) {
            batch.sync = Some(self.syncs);
        }
        self.syncs
    }

    /// Begins to sync what was written without.
    pub(crate) fn flush(&mut self) {
        let mut written = self.in_flight.iter().filter(|batch| batch.written && batch.sync.is_none());
        if let Some(file) = written.next().map(|batch| batch.file.clone()) {
            let number = self.cover(&file);
            self.writer.flush(&file, number);
            stops::at("flush.submitted");
        }
    }

    /// Takes note of what has come to an end, and says how far the log has come.
    pub(crate) fn poll(&mut self, progress: &mut Progress) {
        let mut done = Vec::new();
        self.writer.take_done(&mut done);
        for done in done {
            match done {
                Done::Written(buffer, Ok(())) => {
                    stops::at("batch.written");
                    let batch = self.batch_of(buffer);
                    batch.written = true;
                    if !batch.is_linked {
                        self.give_back(buffer);
                    }
                }
                Done::Synced(buffer, Ok(())) => {
                    stops::at("batch.synced");
                    let number = self.batch_of(buffer).sync;
                    self.give_back(buffer);
                    self.synced(number);
                }
                Done::Flushed(number, Ok(())) => {
                    stops::at("flush.synced");
                    self.synced(Some(number));
                }
                Done::Written(_, Err(error)) => self.fail(format!("a write has failed: {error}")),
                Done::Synced(_, Err(error)) | Done::Flushed(_, Err(error)) => {
                    self.fail(format!("a sync has failed: {error}"));
                }
            }
        }
        if self.failed.is_none() {
            self.go_on(progress);
        }
    }

    /// Says how far the log has come: each time over batches without a gap.
    fn go_on(&mut self, progress: &mut Progress) {
        for batch in &self.in_flight {
            if batch.end_lsn > self.written_lsn || batch.ends.is_empty() {
                if !batch.written {
                    break;
                }
                self.written_lsn = batch.end_lsn;
                progress.written.extend(&batch.ends);
            }
        }
        while let Some(batch) = self.next_durable() {
            self.durable_lsn = batch.end_lsn;
            progress.synced.extend(batch.ends);
        }
        if mutations::is(Mutation::ConfirmBeforeSync) {
            let ends = self.in_flight.iter().flat_map(|batch| &batch.ends);
            progress.synced.extend(ends);
        }
        if self.flush_is_waited_for() {
            self.flush();
        }
    }

    /// The first batch in flight, if it is durable.
    fn next_durable(&mut self) -> Option<InFlight<D::File>> {
        if mutations::is(Mutation::NoPrefix) {
            let index = self.in_flight.iter().position(|batch| batch.written && batch.synced);
            return self.in_flight.remove(index?);
        }
        let batch = self.in_flight.front()?;
        if batch.written && batch.synced { self.in_flight.pop_front() } else { None }
    }

    fn synced(&mut self, number: Option<u64>) {
        let covered = self.in_flight.iter_mut().filter(|batch| batch.sync == number);
        covered.for_each(|batch| batch.synced = true);
    }

    fn batch_of(&mut self, buffer: usize) -> &mut InFlight<D::File> {
        let mut batches = self.in_flight.iter_mut();
        batches.find(|batch| batch.buffer == Some(buffer)).expect("a writer reports what it was given")
    }

    /// The buffer of a batch may be another's from now on.
    fn give_back(&mut self, buffer: usize) {
        self.batch_of(buffer).buffer = None;
        self.free.push(buffer);
    }
}
