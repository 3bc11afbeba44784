//! What if somebody reads the log page by page, from anywhere?

use std::sync::Arc;

use ringway_shm_protocol::control::message::Overflow;
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::memory::page::{Page, PageRegion};
use ringway_shm_protocol::partition::RingIdentity;

use super::*;
use crate::core::EndpointId;
use crate::journal::pages::{EXTENTS_MAX, MadePage, PageError, PageOutcome, PageTask};
use crate::journal::records::Extent;
use crate::journal::state::EXTENT_BLOCKS;

fn ring() -> RingIdentity {
    RingIdentity { incarnation: 1, geometry: Geometry::new(16, 64).unwrap() }
}

/// A page of nothing.
fn task(stream: StreamId) -> PageTask {
    let (token, extents, finished_below) = (Token(9), Vec::new(), 0);
    let (region, window) = (None, None);
    PageTask { token, stream, ring: ring(), from: 0, end: 0, extents, finished_below, region, window }
}

/// The messages of a stream from `from` up to `end`, as a consumer gets them, and how many pages that takes.
fn paged(disk: &SimulatedDisk, state: &State, id: StreamId, mut from: u64, end: u64) -> (Messages, u64) {
    let (mut messages, mut pages) = (Messages::new(), 0);
    let (mut region, mut window, mut page, mut buffer) = (None, None, None, Vec::new());
    while from < end {
        let before: Option<Arc<PageRegion>> = region.clone();
        let extents = state.streams[&id].extents_between(from, end, EXTENTS_MAX);
        let task = PageTask {
            from,
            end,
            extents,
            finished_below: 2,
            region: region.take(),
            window: window.take(),
            ..task(id)
        };
        let PageOutcome { token, made, window: let_go } = task.carry_out(disk);
        window = Some(let_go);
        let MadePage { region: made, end: page_end, bytes } = made.unwrap();
        assert!(token == Token(9) && from < page_end && page_end <= end, "{from} {page_end} {end}");
        if before.is_none_or(|before| !Arc::ptr_eq(&before, &made)) {
            page = Some(Page::open(ring(), &made.hand_over().unwrap(), made.region_bytes()).unwrap());
        }
        region = Some(made);
        let page = page.as_mut().expect("the first one is new");
        page.turn(bytes, from, page_end);
        while let Some(received) = page.next(&mut buffer).unwrap() {
            assert!(messages.insert((id.0, received.position), payload(received, &buffer)).is_none());
        }
        (from, pages) = (page_end, pages + 1);
    }
    (messages, pages)
}

#[test]
fn pages_have_every_message_once_wherever_they_begin_and_end() {
    let mut most = 0;
    for seed in 0..20 {
        let (disk, machine) = settled(seed, 200);
        let recovered = recovery::read(&disk, "sim", Lost::Host, &mut ()).unwrap();
        let mut random = Random(seed);
        for (id, stream) in &recovered.state.streams {
            let first = stream.extents.front().map_or(stream.end, |extent| extent.first);
            for _ in 0..4 {
                let from = first + random.below(stream.end - first + 1);
                let end = from + random.below(stream.end - from + 1);
                let (found, pages) = paged(&disk, &recovered.state, *id, from, end);
                let published = machine.published.range((id.0, from)..(id.0, end));
                let published: Vec<_> = published.copied().collect();
                assert!(found.keys().copied().eq(published), "seed {seed}, {id:?}: {from} to {end}");
                assert!(
                    found.iter().all(|((_, at), bytes)| *bytes == message(seed, id.0, *at)),
                    "seed {seed}"
                );
                most = most.max(pages);
            }
        }
    }
    assert!(most > 1, "{most} pages at the most");
}

#[test]
fn a_page_ends_before_what_cannot_be_read_and_the_next_one_says_what_that_is() {
    let (disk, _) = settled(3, 200);
    let state = recovery::read(&disk, "sim", Lost::Host, &mut ()).unwrap().state;
    let (id, stream) = state.streams.iter().find(|(_, stream)| stream.extents.len() > 1).unwrap();
    let [whole, gone] = [stream.extents[0], Extent { segment: 77, last_segment: 77, ..stream.extents[1] }];
    let make = |from, extents| PageTask { from, end: gone.end, extents, ..task(*id) }.carry_out(&disk).made;
    assert_eq!(make(whole.first, vec![whole, gone]).unwrap().end, whole.end);
    match make(gone.first, vec![gone]) {
        Err(PageError::Journal { first, last, .. }) => assert_eq!((first, last), (gone.first, gone.end - 1)),
        made => panic!("{made:?}"),
    }
}

#[test]
fn of_messages_that_follow_each_other_it_is_known_where_each_quarter_mebibyte_begins() {
    let settings = StreamSettings { durability: Durability::Synced, ..StreamSettings::DEFAULT };
    let (id, declared) = declare("s", settings, None).unwrap();
    // Batches of so many blocks, with so many messages, and how many messages there are for one extent.
    for (blocks, messages, per_extent) in
        [(1, 1, 64), (1, 30, 1920), (64, 240, 240), (100, 380, 380), (40, 150, 300)]
    {
        let mut state = State::default();
        state.apply(StateRecord::Stream(id, Some(Box::new(declared.clone()))));
        let batches = 16_000 / blocks;
        for number in 0..batches {
            let (first, block) = (u64::from(number) * messages, 1 + number * blocks);
            state.add_messages(id, first, first + messages, Place { segment: 1, block });
        }
        let all = u64::from(batches) * messages;
        assert_eq!(state.streams[&id].extents.len() as u64, all.div_ceil(per_extent), "{blocks} {messages}");
        // A segment of its own, a gap, a history anew.
        let before = state.streams[&id].extents.len();
        state.add_messages(id, all, all + 1, Place { segment: 2, block: 1 });
        state.add_messages(id, all + 2, all + 3, Place { segment: 2, block: 2 });
        state.add_messages(id, all + 2, all + 3, Place { segment: 2, block: 3 });
        assert_eq!(state.streams[&id].extents.len(), before + 2);
        state.add_messages(id, all + 3, all + 9, Place { segment: 2, block: 4 });
        state.add_messages(id, all + 5, all + 6, Place { segment: 2, block: 5 });
        let last_two: Vec<_> = state.streams[&id].extents.range(before + 1..).collect();
        let places: Vec<_> =
            last_two.iter().map(|extent| (extent.first - all, extent.end - all, extent.block)).collect();
        assert_eq!(places, [(2, 5, 3), (5, 6, 5)]);
    }
    assert_eq!((EXTENT_BLOCKS, size_of::<Extent>()), (64, 40));
}

#[test]
fn what_a_subscription_that_lags_has_not_consumed_is_not_forgotten() {
    let overflow = Overflow::Detach { after_ms: 1 };
    for (overflow, kept_from) in [(overflow, 300), (Overflow::Block, 900)] {
        let settings =
            StreamSettings { durability: Durability::Written, overflow, ..StreamSettings::DEFAULT };
        let mut core = Core::new(0, 16 << 20);
        let partition = || Partition { stream: Name::parse("s").unwrap(), number: 0 };
        let caller = Caller { session: SessionId(1), pid: 1, request: 1 };
        let mut apply = |event| {
            core.apply(event);
            let changes = core.take_changes();
            changes.iter().find_map(|record| record.declared())
        };
        let mut ask = |operation| apply(Event::Request(Token(0), caller, operation));
        ask(Operation::DeclareStream(partition(), settings, None));
        let name = || Name::parse("late").unwrap();
        let start = ringway_shm_protocol::control::message::StartAt::First;
        let (id, declared) = ask(Operation::DeclareSubscription(partition(), name(), start, None)).unwrap();
        let declared = declared.unwrap();
        let gate = declared.gates().next().unwrap();
        let mut state = State::default();
        state.apply(StateRecord::Stream(id, Some(Box::new(declared))));
        for number in 0..10 {
            let place = Place { segment: 1 + number, block: 1 };
            state.add_messages(id, number * 100, number * 100 + 100, place);
        }
        let first = |state: &State| state.streams[&id].extents[0].first;
        // Without a record it stands at the beginning.
        state.forget_below(id, 900);
        assert_eq!(first(&state), if kept_from == 300 { 0 } else { 900 });
        state.apply(StateRecord::Cursor(id, gate, 350));
        // Attached again: its gate is in its next use, and it stands where it stood.
        if kept_from == 300 {
            apply(Event::RingMade(id));
            apply(Event::Request(Token(0), caller, Operation::OpenConsumer(partition(), name())));
            let attach = Operation::Attach(EndpointId(1), 350);
            let (_, declared) = apply(Event::Request(Token(0), caller, attach)).unwrap();
            state.apply(StateRecord::Stream(id, Some(Box::new(declared.unwrap()))));
            assert!(!state.streams[&id].subscriptions.contains_key(&gate));
        }
        state.forget_below(id, 900);
        assert_eq!(first(&state), kept_from);
    }
}

#[test]
fn of_an_extent_with_a_damaged_batch_everything_else_can_be_read() {
    let mut tried = 0;
    for seed in 0..10 {
        let (disk, _) = settled(seed, 60);
        let mut batches = Batches::default();
        let read = recovery::read_from(recovery::From::Oldest, &disk, "sim", Lost::Host, false, &mut batches);
        for (id, stream) in &read.unwrap().state.streams {
            for extent in &stream.extents {
                let positions = |disk: &SimulatedDisk| -> BTreeSet<u64> {
                    let (found, _) = Reading::new(disk).what_is_whole(*id, extent);
                    found.iter().map(|(received, _)| received.position).collect()
                };
                assert!(positions(&disk).into_iter().eq(extent.first..extent.end));
                let here = batches.0.iter().filter(|(segment, at, _)| {
                    *segment == extent.segment && *at > extent.block as usize * BLOCK_BYTES
                });
                for (segment, at, header) in here {
                    let name = segments::Name::Segment(*segment).to_string();
                    disk.damage(&name, at + header.body().start, 1);
                    let found = positions(&disk);
                    disk.damage(&name, at + header.body().start, 1);
                    // One in the middle of the extent.
                    let is_end = |end: u64| found.contains(&end);
                    if (found.len() as u64) < extent.end - extent.first && is_end(extent.first) {
                        tried += u32::from(is_end(extent.end - 1));
                    }
                }
            }
        }
    }
    assert!(tried > 0, "nothing was read behind a damaged batch");
}
