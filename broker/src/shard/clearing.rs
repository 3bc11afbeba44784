//! Large rings: their memory is cleared by a thread of its own, because the shard has others to serve meanwhile.
//!
//! ```text
//! request ─▶ the ring is to be made ─ large ─▶ waits here ── thread: allocate, clear, map ──▶ decided anew, with the memory at hand
//! ```
//!
//! 1. A request that waits has changed nothing. When the memory is there it is decided as if it came then: whatever has happened
//!    to its stream meanwhile counts.
//! 2. Nothing waits for a session that has ended.

use std::collections::BTreeMap;

use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::memory::mapped::RegionError;
use ringway_shm_protocol::partition::PartitionRegions;

use super::mailbox::{Command, Mailbox};
use crate::core::{Caller, Operation, SessionId, StreamId, Token};

/// From so many bytes of slots on a ring is large: the kernel clears a gigabyte or two in a second.
const LARGE_BYTES: usize = 16 << 20;
/// The thread's name.
const THREAD: &str = "clearing";

/// A request as it came.
pub(super) type Request = (Token, Caller, Operation);

/// See the module.
#[derive(Default)]
pub(super) struct Clearing {
    waiting: BTreeMap<StreamId, Vec<Request>>,
    /// What was cleared for the stream whose requests are being decided.
    cleared: Option<(StreamId, Box<PartitionRegions>)>,
}

impl Clearing {
    /// Whether the ring of this stream is to be waited for.
    pub(super) fn must_wait(&self, stream: StreamId, geometry: Geometry) -> bool {
        let is_cleared = self.cleared.as_ref().is_some_and(|(of, _)| *of == stream);
        geometry.slots_region_bytes() >= LARGE_BYTES && !is_cleared
    }

    /// Has a request wait for memory that `make` makes; the shard is told by `mailbox` when it is there.
    pub(super) fn wait(
        &mut self,
        stream: StreamId,
        request: Request,
        mailbox: &Mailbox,
        make: impl FnOnce() -> Result<PartitionRegions, RegionError> + Send + 'static,
    ) -> std::io::Result<()> {
        let waiting = self.waiting.entry(stream).or_default();
        waiting.push(request);
        if waiting.len() > 1 {
            return Ok(());
        }
        let mailbox = mailbox.clone();
        let work = move || mailbox.send(Command::Cleared(stream, make().map(Box::new)));
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(work);
        thread.map(drop).inspect_err(|_| drop(self.waiting.remove(&stream)))
    }

    /// The memory is there: what has waited for it, to be decided now, until [`end`](Self::end).
    pub(super) fn begin(&mut self, stream: StreamId, cleared: Option<Box<PartitionRegions>>) -> Vec<Request> {
        self.cleared = cleared.map(|cleared| (stream, cleared));
        self.waiting.remove(&stream).unwrap_or_default()
    }

    /// The memory of this stream, if it is at hand.
    pub(super) fn take(&mut self, stream: StreamId) -> Option<PartitionRegions> {
        self.cleared.take_if(|(of, _)| *of == stream).map(|(_, cleared)| *cleared)
    }

    /// Nobody has needed the memory.
    pub(super) fn end(&mut self) {
        self.cleared = None;
    }

    /// A session has ended: what had waited for it.
    pub(super) fn forget(&mut self, session: SessionId) -> Vec<Token> {
        let of_session = |request: &mut Request| request.1.session == session;
        let forgotten = self.waiting.values_mut().flat_map(|waiting| waiting.extract_if(.., of_session));
        forgotten.map(|(token, ..)| token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::mailbox::mailbox;

    const STREAM: StreamId = StreamId(1);

    fn request(session: u64, token: u64) -> Request {
        let caller = Caller { session: SessionId(session), pid: 1, request: 0 };
        (Token(token), caller, Operation::ListStreams(None))
    }

    #[test]
    fn requests_wait_together_and_those_of_a_session_that_ends_no_longer() {
        let geometry = Geometry::new(1 << 18, 64).unwrap();
        let (mailbox, inbox, _wake) = mailbox().unwrap();
        let mut clearing = Clearing::default();
        assert!(clearing.must_wait(STREAM, geometry));
        assert!(!clearing.must_wait(STREAM, Geometry::new(1 << 10, 64).unwrap()));
        let memory = move || crate::shard::ring::Ring::memory(geometry, 0);
        for (session, token) in [(1, 10), (2, 11), (1, 12)] {
            clearing.wait(STREAM, request(session, token), &mailbox, memory).unwrap();
        }
        assert_eq!(clearing.forget(SessionId(1)), [Token(10), Token(12)]);
        let cleared = loop {
            if let Some(Command::Cleared(STREAM, cleared)) = inbox.next() {
                break cleared.unwrap();
            }
            std::thread::yield_now();
        };
        assert_eq!(clearing.begin(STREAM, Some(cleared)), [request(2, 11)]);
        assert!(!clearing.must_wait(STREAM, geometry) && clearing.must_wait(StreamId(2), geometry));
        assert!(clearing.take(StreamId(2)).is_none() && clearing.take(STREAM).is_some());
        clearing.end();
        assert!(clearing.must_wait(STREAM, geometry) && inbox.next().is_none());
    }
}
