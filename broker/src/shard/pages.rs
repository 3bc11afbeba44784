//! Pages: messages of the journal for consumers that are behind their rings.
//!
//! ```text
//! consumer ── ReadPage ──▶ shard: where are they? ──▶ a thread: reads, checks, copies ──▶ shard ── Page ──▶ consumer
//! ```
//!
//! 1. A consumer has one region for all of its pages, and looks at none while it asks for the next. Which one it has it says itself: an
//!    answer may have come too late for it, or from the broker before.
//! 2. The shard waits for no page. Pages wait for each other, and for nothing else that the journal does.
//! 3. Where the messages are was looked up in the log's state, which forgets nothing that a subscription that is behind has not
//!    consumed. What a page cannot be made of for another reason (its reader is gone, and its subscription, too) fails to be read, at
//!    the worst: each batch is checked.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ringway_shm_protocol::control::message::{PageInfo, Refusal, RefusalCode, Reply};
use ringway_shm_protocol::memory::page::PageRegion;
use ringway_shm_protocol::partition::RingIdentity;

use super::Answer;
use super::mailbox::FromShard;
use super::ring::random;
use crate::core::{Gate, StreamId, Token};
use crate::journal::disk::Disk;
use crate::journal::disk::files::Aligned;
use crate::journal::helper::Helper;
use crate::journal::pages::{EXTENTS_MAX, MadePage, PageError, PageOutcome, PageTask};
use crate::journal::state::State;

/// A page that is asked for.
pub(super) struct Wanted {
    pub(super) token: Token,
    pub(super) stream: StreamId,
    pub(super) gate: Gate,
    pub(super) ring: RingIdentity,
    /// First position that is wanted, and up to where the subscription may see.
    pub(super) from: u64,
    pub(super) end: u64,
    /// The region that the consumer has, by its number.
    pub(super) region: u64,
}

/// What a consumer has of its pages.
struct Reader {
    /// The request that is being answered, or was last.
    token: Token,
    /// The region that it has, and the one that there is.
    has: u64,
    region: Option<(u64, Arc<PageRegion>)>,
}

/// See the module.
pub(super) struct Pages<D: Disk> {
    helper: Helper<D, PageTask>,
    readers: BTreeMap<(StreamId, Gate), Reader>,
    /// What the last page was read through.
    window: Option<Aligned>,
}

impl<D: Disk> Pages<D> {
    /// Pages that this helper makes.
    pub(super) fn new(helper: Helper<D, PageTask>) -> Self {
        Self { helper, readers: BTreeMap::new(), window: None }
    }

    /// Has a page made. `finished_below`: so are all segments below this number.
    pub(super) fn read(&mut self, state: &State, finished_below: u64, wanted: Wanted) {
        let Wanted { token, stream, gate, ring, from, end, region: has } = wanted;
        let known = state.streams.get(&stream);
        let extents = known.map(|known| known.extents_between(from, end, EXTENTS_MAX)).unwrap_or_default();
        let reader = self.readers.entry((stream, gate)).or_insert(Reader { token, has, region: None });
        (reader.token, reader.has) = (token, has);
        let region = reader.region.as_ref().map(|(_, region)| Arc::clone(region));
        let window = self.window.take();
        self.helper.ask(PageTask { token, stream, ring, from, end, extents, finished_below, region, window });
    }

    /// Says which pages are made.
    pub(super) fn take_made(&mut self, said: &mut Vec<FromShard>) {
        while let Some(PageOutcome { token, made, window }) = self.helper.next() {
            self.window = Some(window);
            let (reply, descriptors) =
                made.and_then(|made| self.hand_over(token, made)).unwrap_or_else(|error| {
                    let code = match error {
                        PageError::Region(_) => RefusalCode::Limit,
                        PageError::Journal { .. } => RefusalCode::Unreadable,
                    };
                    (Reply::Refused(Refusal { code, message: error.to_string() }), Vec::new())
                });
            said.push(FromShard::Answer(Answer::with(token, reply, descriptors)));
        }
    }

    fn hand_over(&mut self, token: Token, made: MadePage) -> Result<(Reply, Vec<OwnedFd>), PageError> {
        let MadePage { region, end, bytes } = made;
        let region_bytes = region.region_bytes() as u64;
        // Of a consumer that has ended meanwhile nobody hears the answer.
        let mut gone = Reader { token, has: 0, region: None };
        let reader = self.readers.values_mut().find(|reader| reader.token == token).unwrap_or(&mut gone);
        let number = match &reader.region {
            Some((number, known)) if Arc::ptr_eq(known, &region) => *number,
            _ => random().max(1),
        };
        let descriptors = if number == reader.has { Vec::new() } else { vec![region.hand_over()?] };
        reader.region = Some((number, region));
        Ok((Reply::Page(PageInfo { end, bytes, region: number, region_bytes }), descriptors))
    }

    /// A consumer needs no more pages.
    pub(super) fn drop_region(&mut self, stream: StreamId, gate: Gate) {
        self.readers.remove(&(stream, gate));
    }
}
