//! Reading single messages of a log, where the state says that they are.
//!
//! Every batch is checked again, as when the log was read as a whole: what has changed since is an error, not a message.

use std::collections::BTreeMap;
use std::io;

use ringway_shm_protocol::ring::Received;

use super::disk::Disk;
use super::format::{BATCH_BYTES_MAX, BLOCK_BYTES, BatchHeader, FIRST_BATCH, SegmentHeader};
use super::records::{Extent, Record, records};
use super::segments::Name;
use crate::core::StreamId;

/// A message with its body.
pub(crate) type Message = (Received, Vec<u8>);

/// Reads messages: keeps the segments open that it has come to.
pub(crate) struct Reading<'a, D: Disk> {
    disk: &'a D,
    segments: BTreeMap<u64, (D::File, SegmentHeader)>,
    batch: Vec<u8>,
}

impl<'a, D: Disk> Reading<'a, D> {
    /// Of the journal on this disk.
    pub(crate) fn new(disk: &'a D) -> Self {
        Self { disk, segments: BTreeMap::new(), batch: vec![0; BATCH_BYTES_MAX] }
    }

    /// The messages of an extent.
    pub(crate) fn messages(&mut self, stream: StreamId, extent: &Extent) -> io::Result<Vec<Message>> {
        let (mut segment, mut offset) = (extent.segment, u64::from(extent.block) * BLOCK_BYTES as u64);
        let mut found = Vec::new();
        // A message in parts: its body so far.
        let mut part: Option<Vec<u8>> = None;
        loop {
            let header = self.batch(segment, offset)?;
            let body = &self.batch[header.body()];
            for record in records(body) {
                match record.map_err(invalid)? {
                    Record::Messages(messages) if messages.run.stream == stream.0 && part.is_none() => {
                        for message in messages.iter() {
                            let (received, body) = message.map_err(invalid)?;
                            if (extent.first..extent.end).contains(&received.position) {
                                found.push((received, body.to_vec()));
                            }
                        }
                    }
                    Record::Part(head, bytes)
                        if head.stream == stream.0 && (extent.first..extent.end).contains(&head.position) =>
                    {
                        let body = part.get_or_insert_default();
                        body.truncate(head.offset as usize);
                        body.extend_from_slice(bytes);
                        if body.len() == head.body_bytes as usize {
                            let received = Received::of_header(head.position, head.header, body.len());
                            let received =
                                received.ok_or_else(|| invalid("a message in parts cannot be one"))?;
                            found.push((received, part.take().unwrap_or_default()));
                        }
                    }
                    _ => {}
                }
            }
            if part.is_none() {
                return Ok(found);
            }
            (segment, offset) = self.behind(segment, offset + u64::from(header.bytes))?;
        }
    }

    /// Reads the batch at a place to the buffer.
    fn batch(&mut self, segment: u64, offset: u64) -> io::Result<BatchHeader> {
        let lost = || {
            let name = Name::Segment(segment);
            invalid(format!("the batch at byte {offset} of {name} has changed since the log was read"))
        };
        self.open(segment)?;
        let (file, header) = &self.segments[&segment];
        self.disk.read(file, offset, &mut self.batch[..BLOCK_BYTES])?;
        let batch = BatchHeader::parse(&self.batch[..BLOCK_BYTES], header).ok_or_else(lost)?;
        let bytes = batch.bytes as usize;
        if bytes > BLOCK_BYTES {
            self.disk.read(file, offset, &mut self.batch[..bytes])?;
        }
        if batch.covers(&self.batch[..bytes], header.salt) { Ok(batch) } else { Err(lost()) }
    }

    fn open(&mut self, segment: u64) -> io::Result<()> {
        if !self.segments.contains_key(&segment) {
            let file = self.disk.open(&Name::Segment(segment).to_string())?;
            let mut block = vec![0; BLOCK_BYTES];
            self.disk.read(&file, 0, &mut block)?;
            let header = SegmentHeader::parse(&block).map_err(invalid)?;
            self.segments.insert(segment, (file, header));
        }
        Ok(())
    }

    /// Where the batch behind a place is: there, or at the beginning of the next segment.
    fn behind(&mut self, segment: u64, offset: u64) -> io::Result<(u64, u64)> {
        let (file, header) = &self.segments[&segment];
        if offset < header.bytes {
            let mut block = vec![0; BLOCK_BYTES];
            self.disk.read(file, offset, &mut block)?;
            if BatchHeader::parse(&block, header).is_some() {
                return Ok((segment, offset));
            }
        }
        Ok((segment + 1, FIRST_BATCH))
    }
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
