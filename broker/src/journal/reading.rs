//! Reading single messages of a log, where the state says that they are.
//!
//! 1. Every batch is checked again, as when the log was read as a whole: what has changed since is an error, not a message.
//! 2. Where batch after batch is asked for, some megabytes are read at a time.
//! 3. Of segments that are finished, what is read may come out of the kernel's memory, which reads ahead.
//! 4. An extent is read from its first batch on, and no further than its last message.

use std::collections::BTreeMap;
use std::io;
use std::ops::{ControlFlow, Range};

use ringway_shm_protocol::ring::Received;

use super::disk::Disk;
use super::disk::files::Aligned;
use super::format::{BLOCK_BYTES, BatchHeader, FIRST_BATCH, SegmentHeader};
use super::records::{Extent, Record, records};
use super::segments::Name;
use super::state::EXTENT_BLOCKS;
use crate::core::StreamId;

/// A message with its body.
pub(crate) type Message = (Received, Vec<u8>);

/// Bytes that are read at once where batches are read one after the other, and where it is not known.
pub(crate) const WINDOW_BYTES: usize = 4 << 20;
const FIRST_BYTES: usize = 64 << 10;
/// The same of a finished segment, and how far is read ahead there.
const CACHED_BYTES: usize = 1 << 20;
const AHEAD_BYTES: u64 = 8 << 20;

/// Reads messages: keeps the segments open that it has come to.
pub(crate) struct Reading<'a, D: Disk> {
    disk: &'a D,
    segments: BTreeMap<u64, (D::File, SegmentHeader)>,
    /// All segments below this number are finished.
    finished_below: u64,
    window: Aligned,
    /// What is in the window: of which segment, which bytes.
    at: (u64, Range<u64>),
}

impl<'a, D: Disk> Reading<'a, D> {
    /// Of the journal on this disk.
    pub(crate) fn new(disk: &'a D) -> Self {
        Self::with(disk, 0, Aligned::new(WINDOW_BYTES))
    }

    /// The same where all segments below this number are finished, with the window of another that was [let go](Self::into_window).
    pub(crate) fn with(disk: &'a D, finished_below: u64, window: Aligned) -> Self {
        Self { disk, segments: BTreeMap::new(), finished_below, window, at: (0, 0..0) }
    }

    /// Lets go of its window.
    pub(crate) fn into_window(self) -> Aligned {
        self.window
    }

    /// Has what stands behind the last batch read that was asked for: it will be asked for soon.
    pub(crate) fn read_ahead(&self) {
        let (segment, Range { end, .. }) = &self.at;
        if let Some((file, header)) = self.segments.get(segment).filter(|_| *segment < self.finished_below) {
            let bytes = AHEAD_BYTES.min(header.bytes.saturating_sub(*end));
            if bytes > 0 {
                self.disk.will_read(file, *end, bytes);
            }
        }
    }

    /// The messages of an extent.
    #[cfg(test)]
    pub(crate) fn messages(&mut self, stream: StreamId, extent: &Extent) -> io::Result<Vec<Message>> {
        let mut found = Vec::new();
        self.each(stream, extent, |received, body| found.push((received, body.to_vec())))?;
        Ok(found)
    }

    /// Those messages of an extent that can be read, and what is wrong where one cannot.
    pub(crate) fn what_is_whole(
        &mut self,
        stream: StreamId,
        extent: &Extent,
    ) -> (Vec<Message>, Option<io::Error>) {
        let (mut found, mut wrong, mut rest) = (Vec::new(), None, *extent);
        // Behind a batch that is damaged nobody knows at which block the next one begins.
        for block in extent.block..extent.block + EXTENT_BLOCKS {
            rest.block = block;
            let read = self.each(stream, &rest, |received, body| {
                found.push((received, body.to_vec()));
            });
            let Err(error) = read else { break };
            wrong.get_or_insert(error);
            rest.first = found.last().map_or(rest.first, |(received, _)| received.position + 1);
        }
        (found, wrong)
    }

    /// Each message of an extent, with its body, in order.
    pub(crate) fn each(
        &mut self,
        stream: StreamId,
        extent: &Extent,
        mut each: impl FnMut(Received, &[u8]),
    ) -> io::Result<()> {
        self.each_until(stream, extent, |received, body| {
            each(received, body);
            ControlFlow::Continue(())
        })
        .map(|_| ())
    }

    /// The same, up to one with which reading is to end: for which `each` breaks.
    pub(crate) fn each_until(
        &mut self,
        stream: StreamId,
        extent: &Extent,
        mut each: impl FnMut(Received, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        let (mut segment, mut offset) = (extent.segment, u64::from(extent.block) * BLOCK_BYTES as u64);
        let mut next = extent.first;
        // A message in parts: its body so far.
        let mut part: Option<Vec<u8>> = None;
        loop {
            let header = self.batch(segment, offset)?;
            let in_window = (offset - self.at.1.start) as usize;
            let batch = &self.window.first(WINDOW_BYTES)[in_window..];
            for record in records(&batch[header.body()]) {
                match record.map_err(invalid)? {
                    Record::Messages(messages) if messages.run.stream == stream.0 && part.is_none() => {
                        for message in messages.iter() {
                            let (received, body) = message.map_err(invalid)?;
                            if (next..extent.end).contains(&received.position) {
                                next = received.position + 1;
                                if each(received, body).is_break() {
                                    return Ok(ControlFlow::Break(()));
                                }
                            }
                        }
                    }
                    Record::Part(head, bytes)
                        if head.stream == stream.0 && (next..extent.end).contains(&head.position) =>
                    {
                        let body = part.get_or_insert_default();
                        body.truncate(head.offset as usize);
                        body.extend_from_slice(bytes);
                        if body.len() == head.body_bytes as usize {
                            let received = Received::of_header(head.position, head.header, body.len());
                            let received =
                                received.ok_or_else(|| invalid("a message in parts cannot be one"))?;
                            next = received.position + 1;
                            if each(received, &part.take().unwrap_or_default()).is_break() {
                                return Ok(ControlFlow::Break(()));
                            }
                        }
                    }
                    _ => {}
                }
            }
            if next >= extent.end {
                return Ok(ControlFlow::Continue(()));
            }
            (segment, offset) = self.behind(segment, offset + u64::from(header.bytes))?;
            if segment > extent.last_segment {
                let (end, last) = (extent.end, extent.last_segment);
                return Err(invalid(format!(
                    "message {next} of {end} is not where it was, up to {}",
                    Name::Segment(last)
                )));
            }
        }
    }

    /// Has the batch at a place in the window.
    fn batch(&mut self, segment: u64, offset: u64) -> io::Result<BatchHeader> {
        let lost = || {
            let name = Name::Segment(segment);
            invalid(format!("the batch at byte {offset} of {name} has changed since the log was read"))
        };
        self.open(segment)?;
        let (number, there) = &self.at;
        let goes_on = *number == segment && (there.start..=there.end).contains(&offset);
        let most = if segment < self.finished_below { CACHED_BYTES } else { WINDOW_BYTES };
        let at_once = if goes_on { most } else { FIRST_BYTES };
        self.have(segment, offset, BLOCK_BYTES, at_once)?;
        let header = self.segments[&segment].1;
        let batch = BatchHeader::parse(self.behind_start(offset), &header).ok_or_else(lost)?;
        let bytes = batch.bytes as usize;
        self.have(segment, offset, bytes, if goes_on { most } else { bytes })?;
        if batch.covers(self.behind_start(offset), header.salt) { Ok(batch) } else { Err(lost()) }
    }

    /// What is in the window from an offset of its segment on.
    fn behind_start(&mut self, offset: u64) -> &[u8] {
        let Range { start, end } = self.at.1.clone();
        &self.window.first((end - start) as usize)[(offset - start) as usize..]
    }

    /// Has so many bytes from `offset` on in the window; where they are not, reads more at once.
    fn have(&mut self, segment: u64, offset: u64, bytes: usize, at_once: usize) -> io::Result<()> {
        let (number, there) = &self.at;
        if *number == segment && there.start <= offset && offset + bytes as u64 <= there.end {
            return Ok(());
        }
        let (file, header) = &self.segments[&segment];
        let bytes = (at_once as u64).min(header.bytes.saturating_sub(offset)).max(bytes as u64);
        self.at = (segment, offset..offset);
        self.disk.read(file, offset, self.window.first(bytes as usize))?;
        self.at.1.end = offset + bytes;
        Ok(())
    }

    fn open(&mut self, segment: u64) -> io::Result<()> {
        if !self.segments.contains_key(&segment) {
            let name = Name::Segment(segment).to_string();
            let is_finished = segment < self.finished_below;
            let file = if is_finished { self.disk.open_finished(&name)? } else { self.disk.open(&name)? };
            let mut block = vec![0; BLOCK_BYTES];
            self.disk.read(&file, 0, &mut block)?;
            let header = SegmentHeader::parse(&block).map_err(invalid)?;
            self.segments.insert(segment, (file, header));
        }
        Ok(())
    }

    /// Where the batch behind a place is: there, or at the beginning of the next segment.
    fn behind(&mut self, segment: u64, offset: u64) -> io::Result<(u64, u64)> {
        let header = self.segments[&segment].1;
        if offset < header.bytes {
            self.have(segment, offset, BLOCK_BYTES, FIRST_BYTES)?;
            if BatchHeader::parse(self.behind_start(offset), &header).is_some() {
                return Ok((segment, offset));
            }
        }
        Ok((segment + 1, FIRST_BATCH))
    }
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
