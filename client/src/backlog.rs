//! What the ring has no longer: read from the journal, a page at a time.
//!
//! 1. The broker is asked for a page when everything of the one before is copied out: so one region is enough, and nobody writes to it
//!    while it is looked at.
//! 2. A message is copied out of its page before it is returned.

use ringway_shm_protocol::control::message::{PageInfo, Reply, Request};
use ringway_shm_protocol::memory::page::Page;
use ringway_shm_protocol::partition::RingIdentity;
use ringway_shm_protocol::ring::Received;

use crate::connection::unexpected;
use crate::endpoint::{Endpoint, exactly, in_range};
use crate::error::{OpenError, RecvError};
use crate::session::{ANSWER_MAX, Answer};

/// See the module.
pub(crate) struct Backlog {
    ring: RingIdentity,
    /// The region of pages, by its number.
    region: u64,
    page: Option<Page>,
    /// Where bodies are copied to.
    buffer: Vec<u8>,
}

impl Backlog {
    pub(crate) fn new(ring: RingIdentity) -> Self {
        Self { ring, region: 0, page: None, buffer: Vec::new() }
    }

    /// Whether the page has a message that was not returned.
    pub(crate) fn has_next(&self) -> bool {
        self.page.as_ref().is_some_and(Page::has_next)
    }

    /// The next message of the page.
    pub(crate) fn next(&mut self) -> Result<Option<Received>, RecvError> {
        let Some(page) = &mut self.page else { return Ok(None) };
        Ok(page.next(&mut self.buffer)?)
    }

    /// The body of the message that was returned last.
    pub(crate) fn body(&self) -> &[u8] {
        &self.buffer
    }

    /// One past the last position that the page speaks of.
    pub(crate) fn end(&self) -> u64 {
        self.page.as_ref().map_or(0, Page::end)
    }

    /// Has the broker make the page that begins at `position`; `false`: there is nothing to be seen there yet.
    pub(crate) fn turn(&mut self, endpoint: &Endpoint, position: u64) -> Result<bool, OpenError> {
        let request = Request::ReadPage { endpoint: endpoint.number(), position, region: self.region };
        let Answer { reply, descriptors, .. } = endpoint.session().request(&request, ANSWER_MAX)?;
        let Reply::Page(PageInfo { end, bytes, region, region_bytes }) = reply else {
            return Err(unexpected("a page").into());
        };
        in_range("end of a page", end, self.ring.geometry.position_end())?;
        let page = match &mut self.page {
            Some(page) if region == self.region => page,
            page => {
                let [descriptor] = exactly("a page", descriptors)?;
                let opened = Page::open(self.ring, &descriptor, region_bytes as usize)?;
                self.region = region;
                page.insert(opened)
            }
        };
        in_range("bytes of a page", bytes, page.room())?;
        page.turn(bytes, position, end);
        Ok(end > position)
    }

    /// The consumer has caught up.
    pub(crate) fn close(&mut self) {
        (self.region, self.page, self.buffer) = (0, None, Vec::new());
    }
}
