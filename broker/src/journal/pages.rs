//! Making a page: messages of a log, copied to where a consumer reads them.
//!
//! 1. A page has one message at least, however large, if there is one to be had; beyond that it has no more than [`PAGE_BYTES`].
//! 2. It ends behind the last message that is in it, or where everything was looked for.

use std::ops::ControlFlow;
use std::sync::Arc;

use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::memory::page::PageRegion;
use ringway_shm_protocol::partition::RingIdentity;
use ringway_shm_protocol::ring::Received;
use thiserror::Error;

use super::disk::Disk;
use super::disk::files::Aligned;
use super::helper::Job;
use super::reading::{Reading, WINDOW_BYTES};
use super::records::Extent;
use crate::core::{StreamId, Token};

/// Bytes of messages in a page: large enough that asking for it costs little beside reading it, small enough to stay in a cache.
const PAGE_BYTES: usize = 2 << 20;
/// Most extents that a page is made of: of small batches it has less than [`PAGE_BYTES`].
pub(crate) const EXTENTS_MAX: usize = 64;

/// A page that is to be made.
pub(crate) struct PageTask {
    /// The request to answer.
    pub(crate) token: Token,
    pub(crate) stream: StreamId,
    pub(crate) ring: RingIdentity,
    /// The first position, and one past the last that it may have.
    pub(crate) from: u64,
    pub(crate) end: u64,
    /// Where its messages are: all of them, if there are fewer than [`EXTENTS_MAX`].
    pub(crate) extents: Vec<Extent>,
    /// All segments below this number are finished.
    pub(crate) finished_below: u64,
    /// Where the page before is, which nobody looks at any more.
    pub(crate) region: Option<Arc<PageRegion>>,
    /// What it is read through, if another has let go of one.
    pub(crate) window: Option<Aligned>,
}

/// What has come of it.
pub(crate) struct PageOutcome {
    /// The request to answer.
    pub(crate) token: Token,
    pub(crate) made: Result<MadePage, PageError>,
    /// For the next one.
    pub(crate) window: Aligned,
}

/// A page.
#[derive(Debug)]
pub(crate) struct MadePage {
    /// Where it is: where the one before was, or in a new region.
    pub(crate) region: Arc<PageRegion>,
    /// One past the last position that it speaks of.
    pub(crate) end: u64,
    /// Bytes of messages.
    pub(crate) bytes: u64,
}

/// Why there is no page.
#[derive(Debug, Error)]
pub(crate) enum PageError {
    /// There is no memory for it.
    #[error("the broker {0}")]
    Region(#[from] RegionError),
    /// What it should be made of cannot be read.
    #[error(
        "messages {first} to {last} cannot be read from the journal: {source}; if the device is whole again, ask again; what cannot be read \
         is passed over with: ringway subscription purge"
    )]
    Journal { first: u64, last: u64, source: std::io::Error },
}

/// A page that is being made.
struct Making {
    ring: RingIdentity,
    region: Option<Arc<PageRegion>>,
    bytes: usize,
    end: u64,
    error: Option<RegionError>,
}

impl Making {
    /// Takes a message, unless the page has enough without it.
    fn take(&mut self, message: Received, body: &[u8]) -> Result<ControlFlow<()>, RegionError> {
        let wanted = PageRegion::bytes_for(body.len());
        if self.bytes > 0 && self.bytes + wanted > PAGE_BYTES {
            return Ok(ControlFlow::Break(()));
        }
        let written = self.region.as_ref().and_then(|region| region.write(self.bytes, message, body));
        self.bytes = match written {
            Some(bytes) => bytes,
            // The first message: there is no region, or it is larger than that.
            None => {
                let region = PageRegion::create(self.ring, wanted.max(PAGE_BYTES))?;
                let written = region.write(0, message, body).expect("it was made for the message");
                self.region = Some(Arc::new(region));
                written
            }
        };
        self.end = message.position + 1;
        Ok(ControlFlow::Continue(()))
    }
}

impl<D: Disk> Job<D> for PageTask {
    type Outcome = PageOutcome;

    fn carry_out(mut self, disk: &D) -> PageOutcome {
        let window = self.window.take().unwrap_or_else(|| Aligned::new(WINDOW_BYTES));
        let mut reading = Reading::with(disk, self.finished_below, window);
        let (token, made) = (self.token, make(&mut reading, self));
        reading.read_ahead();
        PageOutcome { token, made, window: reading.into_window() }
    }
}

fn make<D: Disk>(reading: &mut Reading<'_, D>, task: PageTask) -> Result<MadePage, PageError> {
    let PageTask { stream, ring, from, end, extents, region, .. } = task;
    let mut making = Making { ring, region, bytes: 0, end: from, error: None };
    let mut is_full = extents.len() == EXTENTS_MAX;
    for extent in &extents {
        let read = reading.each_until(stream, extent, |message, body| {
            making.take(message, body).unwrap_or_else(|error| {
                making.error = Some(error);
                ControlFlow::Break(())
            })
        });
        match read {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => {
                is_full = true;
                break;
            }
            // What was read before it is a page.
            Err(_) if making.bytes > 0 => {
                is_full = true;
                break;
            }
            Err(source) => {
                let (first, last) = (extent.first, extent.end - 1);
                return Err(PageError::Journal { first, last, source });
            }
        }
    }
    let Making { region, bytes, end: read_end, error, .. } = making;
    error.map_or(Ok(()), Err)?;
    let region = match region {
        Some(region) => region,
        None => Arc::new(PageRegion::create(ring, PAGE_BYTES)?),
    };
    let end = if is_full { read_end } else { end.max(from) };
    Ok(MadePage { region, end, bytes: bytes as u64 })
}
