//! The core against its promises: single decisions, then random histories against a reference model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use ringway_shm_protocol::control::message::{
    Backoff, CursorSettings, Durability, LEASE_MS_MAX, StreamChanges, StreamKind, SubscriptionChanges,
    Visibility,
};

use super::*;

const PAYLOAD_BYTES_MAX: u32 = 16 << 20;

const SETTINGS: StreamSettings = StreamSettings {
    partitions: 1,
    kind: StreamKind::Topic,
    slots: 8,
    slot_bytes: 64,
    payload_bytes_max: PAYLOAD_BYTES_MAX,
    producers: Producers::Exclusive,
    overflow: Overflow::Block,
    durability: Durability::Memory,
};

const GRAVE: Grave = Grave {
    shard: 0,
    stream: StreamId(1),
    incarnation: 1,
    gate: Gate { index: 0, generation: 1 },
    position: 0,
};

fn core() -> Core {
    Core::new(0, PAYLOAD_BYTES_MAX)
}

fn partition(stream: &str) -> Partition {
    Partition { stream: name(stream), number: 0 }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn caller(session: u64) -> Caller {
    static REQUESTS: AtomicU32 = AtomicU32::new(0);
    let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
    Caller { session: SessionId(session), pid: 1000 + session as u32, request }
}

fn ask(core: &mut Core, session: u64, operation: Operation) -> Vec<Effect> {
    core.apply(Event::Request(Token(1), caller(session), operation))
}

fn refusal(effects: &[Effect]) -> (RefusalCode, &str) {
    match effects {
        [Effect::Refuse(_, refusal)] => (refusal.code, &refusal.message),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn declare(settings: StreamSettings) -> Operation {
    Operation::DeclareStream(partition("s"), settings, None)
}

/// A core with stream "s", its ring made, and subscription "a".
fn opened() -> Core {
    let mut core = core();
    ask(&mut core, 1, declare(SETTINGS));
    ask(&mut core, 1, Operation::DeclareSubscription(partition("s"), name("a"), StartAt::First, None));
    let effects = ask(&mut core, 1, Operation::OpenProducer(partition("s"), None));
    assert!(matches!(effects[..], [Effect::MakeRing { stream: StreamId(1), .. }]), "{effects:?}");
    core.apply(Event::RingMade(StreamId(1)));
    core
}

/// A core with stream "s", its ring made, which may have several producers.
fn opened_to_all() -> Core {
    let mut core = core();
    ask(&mut core, 1, declare(StreamSettings { producers: Producers::Shared, ..SETTINGS }));
    ask(&mut core, 1, Operation::OpenProducer(partition("s"), None));
    core.apply(Event::RingMade(StreamId(1)));
    core
}

#[test]
fn declaring_again_confirms_and_other_settings_conflict() {
    let mut core = opened();
    let same = ask(&mut core, 2, declare(SETTINGS));
    assert!(matches!(same[..], [Effect::ShowStream(..)]));
    let other = StreamSettings { slots: 16, ..SETTINGS };
    let effects = ask(&mut core, 2, declare(other));
    let (code, message) = refusal(&effects);
    assert_eq!(code, RefusalCode::Conflict);
    assert!(message.contains("slots 8, not 16;"), "{message}");
    let overflow = Overflow::Detach { after_ms: 2000 };
    let other = StreamSettings { producers: Producers::Shared, overflow, ..SETTINGS };
    let effects = ask(&mut core, 2, declare(other));
    let message = refusal(&effects).1;
    assert!(message.contains("producers exclusive, not shared, overflow block, not detach=2s;"), "{message}");
}

#[test]
fn payloads_beyond_the_brokers_limit_and_empty_ones_are_refused_with_the_limit() {
    for payload_bytes_max in [0, PAYLOAD_BYTES_MAX + 1] {
        let settings = StreamSettings { payload_bytes_max, ..SETTINGS };
        let effects = ask(&mut core(), 1, declare(settings));
        assert!(refusal(&effects).1.contains("from 1 to 16777216"), "{effects:?}");
    }
}

/// Opens stream "s" as a producer of `session`; its endpoint.
fn open_producer(core: &mut Core, session: u64) -> EndpointId {
    let effects = ask(core, session, Operation::OpenProducer(partition("s"), None));
    let [Effect::GrantProducer { endpoint, .. }] = effects[..] else { panic!("{effects:?}") };
    endpoint
}

#[test]
fn a_shared_stream_has_producers_with_owner_ids_of_their_own() {
    let mut core = opened_to_all();
    let owners: Vec<_> = [1, 2, 2]
        .map(|session| match ask(&mut core, session, Operation::OpenProducer(partition("s"), None))[..] {
            [Effect::GrantProducer { owner, .. }] => owner,
            ref other => panic!("{other:?}"),
        })
        .into();
    assert_eq!(owners, [1, 2, 3]);
    let effects = ask(&mut core, 3, Operation::DescribeStream(partition("s")));
    let [Effect::ShowStream(_, view)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((view.producers, &view.producer_pids[..]), (3, &[1001, 1002][..]));
    let effects = core.apply(Event::SessionEnded(SessionId(2)));
    assert_eq!(effects, [Effect::Bury(StreamId(1), 2), Effect::Bury(StreamId(1), 3)]);
}

/// Opens stream "s" as a producer of this name.
fn open_named(core: &mut Core, session: u64, named: &str) -> Vec<Effect> {
    ask(core, session, Operation::OpenProducer(partition("s"), Some(name(named))))
}

/// Owner and number of a producer that was let in.
fn granted(effects: &[Effect]) -> (u32, u32) {
    let [Effect::GrantProducer { owner, number, .. }] = effects[..] else { panic!("{effects:?}") };
    (owner, number)
}

#[test]
fn a_stream_remembers_1024_names_of_producers_and_one_more_is_refused_and_costs_nothing() {
    let mut core = opened_to_all();
    for number in 1..=1024 {
        let effects = open_named(&mut core, 2, &format!("made-up-{number}"));
        assert_eq!(granted(&effects), (1, number));
        core.apply(Event::SessionEnded(SessionId(2)));
    }
    let effects = open_named(&mut core, 2, "one-more");
    let (code, message) = refusal(&effects);
    assert_eq!(code, RefusalCode::Limit);
    assert!(message.contains("has had producers of 1024 names") && message.contains("one-more"), "{message}");
    // Those that come back are let in, and who has no name; the id of the one that was refused is free.
    assert_eq!(granted(&open_named(&mut core, 2, "made-up-1024")), (1, 1024));
    assert_eq!(granted(&open_named(&mut core, 3, "made-up-1")), (2, 1));
    assert_eq!(granted(&ask(&mut core, 4, Operation::OpenProducer(partition("s"), None))), (3, 0));
}

#[test]
fn a_producer_that_is_refused_because_there_are_too_many_leaves_no_name_behind() {
    let mut core = opened_to_all();
    core.streams.get_mut(&StreamId(1)).unwrap().owners = Ids::new(1);
    assert_eq!(granted(&open_named(&mut core, 1, "first")), (1, 1));
    for name in ["refused", "refused", "this-too"] {
        let effects = open_named(&mut core, 2, name);
        assert!(refusal(&effects).1.contains("no owner id left"), "{effects:?}");
    }
    core.apply(Event::SessionEnded(SessionId(1)));
    assert_eq!(granted(&open_named(&mut core, 2, "second")), (1, 2));
}

#[test]
fn arenas_are_the_producers_until_it_stops_and_then_orphans() {
    let mut core = opened();
    let producer = open_producer(&mut core, 1);
    let effects = ask(&mut core, 1, Operation::OpenConsumer(partition("s"), name("a")));
    let [Effect::GrantConsumer { endpoint: consumer, .. }] = effects[..] else { panic!("{effects:?}") };
    let most = SETTINGS.arenas_bytes_max();
    let effects = ask(&mut core, 1, Operation::MakeArena(producer, 8192));
    assert!(matches!(effects[..], [Effect::MakeArena { arena: 1, bytes: 8192, .. }]), "{effects:?}");
    for (bytes, expected) in [(4096, "two at least"), (8191, "whole pages"), (most - 4096, "asks for")] {
        let effects = ask(&mut core, 1, Operation::MakeArena(producer, bytes));
        assert!(refusal(&effects).1.contains(expected), "{bytes}: {effects:?}");
    }
    assert!(matches!(
        ask(&mut core, 1, Operation::MakeArena(producer, most - 8192))[..],
        [Effect::MakeArena { arena: 2, .. }]
    ));
    assert!(matches!(
        ask(&mut core, 1, Operation::OpenArena(consumer, 2))[..],
        [Effect::GrantArena { arena: 2, .. }]
    ));
    let wrong = ask(&mut core, 1, Operation::OpenArena(producer, 2));
    assert!(refusal(&wrong).1.contains("is no consumer"));
    let wrong = ask(&mut core, 1, Operation::MakeArena(consumer, 8192));
    assert!(refusal(&wrong).1.contains("is no producer"));
    let effects = ask(&mut core, 1, Operation::RetireArena(producer, 2));
    assert!(matches!(effects[..], [Effect::DropArena(_, 2), Effect::Done(_)]), "{effects:?}");
    let again = ask(&mut core, 1, Operation::RetireArena(producer, 2));
    assert_eq!(refusal(&again).0, RefusalCode::NotFound);
    let effects = ask(&mut core, 1, Operation::Close(producer));
    assert!(
        matches!(&effects[..], [Effect::Bury(..), Effect::OrphanArenas(_, orphans), Effect::Done(_)] if orphans == &[1]),
        "{effects:?}"
    );
    assert!(matches!(ask(&mut core, 1, Operation::OpenArena(consumer, 1))[..], [Effect::GrantArena { .. }]));
    core.apply(Event::ArenasGone(StreamId(1), vec![1]));
    let gone = ask(&mut core, 1, Operation::OpenArena(consumer, 1));
    assert_eq!(refusal(&gone).0, RefusalCode::NotFound);
}

#[test]
fn only_a_stream_declared_so_detaches_and_a_gate_that_is_attached_again_has_a_new_generation() {
    let mut core = opened();
    let producer = open_producer(&mut core, 1);
    let gate = Gate { index: 0, generation: 1 };
    let effects = ask(&mut core, 1, Operation::DetachGate(producer, gate));
    assert!(refusal(&effects).1.contains("detaches nobody"));
    let mut core = self::core();
    let settings = StreamSettings { overflow: Overflow::Detach { after_ms: 5 }, ..SETTINGS };
    ask(&mut core, 1, declare(settings));
    ask(&mut core, 1, Operation::DeclareSubscription(partition("s"), name("a"), StartAt::First, None));
    ask(&mut core, 1, Operation::OpenProducer(partition("s"), None));
    core.apply(Event::RingMade(StreamId(1)));
    let producer = open_producer(&mut core, 1);
    let effects = ask(&mut core, 2, Operation::OpenConsumer(partition("s"), name("a")));
    let [Effect::GrantConsumer { endpoint: consumer, .. }] = effects[..] else { panic!("{effects:?}") };
    let effects = ask(&mut core, 1, Operation::DetachGate(producer, gate));
    assert!(matches!(effects[..], [Effect::Detach(..)]), "{effects:?}");
    let effects = ask(&mut core, 2, Operation::Attach(consumer, 7));
    let renewed = Gate { index: 0, generation: 2 };
    assert!(
        matches!(effects[..], [Effect::Attach { before, gate: now, position: 7, .. }] if before == gate && now == renewed),
        "{effects:?}"
    );
    let stale = ask(&mut core, 1, Operation::DetachGate(producer, gate));
    assert_eq!(refusal(&stale).0, RefusalCode::NotFound);
    let effects = core.apply(Event::SessionEnded(SessionId(2)));
    assert_eq!(effects, [Effect::EndReader(StreamId(1), renewed)]);
}

#[test]
fn only_a_consumer_of_a_durable_stream_that_detaches_reads_pages() {
    for (durability, is_kept) in [(Durability::Memory, false), (Durability::Written, true)] {
        let mut core = core();
        let settings = StreamSettings { overflow: Overflow::Detach { after_ms: 5 }, durability, ..SETTINGS };
        ask(&mut core, 1, declare(settings));
        ask(&mut core, 1, Operation::DeclareSubscription(partition("s"), name("a"), StartAt::First, None));
        ask(&mut core, 1, Operation::OpenProducer(partition("s"), None));
        core.apply(Event::RingMade(StreamId(1)));
        let producer = open_producer(&mut core, 1);
        let effects = ask(&mut core, 2, Operation::OpenConsumer(partition("s"), name("a")));
        let [Effect::GrantConsumer { endpoint: consumer, gate, .. }] = effects[..] else {
            panic!("{effects:?}")
        };
        let effects = ask(&mut core, 2, Operation::ReadPage(consumer, 7, 3));
        if is_kept {
            let read =
                Effect::ReadPage { token: Token(1), stream: StreamId(1), gate, position: 7, region: 3 };
            assert_eq!(effects, [read]);
        } else {
            assert!(refusal(&effects).1.contains("keeps nothing"), "{effects:?}");
        }
        let effects = ask(&mut core, 1, Operation::ReadPage(producer, 7, 3));
        assert_eq!(refusal(&effects).0, RefusalCode::Invalid);
        let effects = ask(&mut core, 1, Operation::ReadPage(consumer, 7, 3));
        assert_eq!(refusal(&effects).0, RefusalCode::NotFound, "it is another's");
    }
}

#[test]
fn a_missing_stream_or_subscription_is_refused_with_the_command_that_makes_it() {
    let mut core = opened();
    let effects = ask(&mut core, 1, Operation::OpenProducer(partition("x"), None));
    assert_eq!(refusal(&effects).0, RefusalCode::NotFound);
    assert!(refusal(&effects).1.contains("ringway stream create x"));
    let effects = ask(&mut core, 1, Operation::OpenConsumer(partition("s"), name("x")));
    assert!(refusal(&effects).1.contains("ringway subscription create s x"));
}

#[test]
fn a_ring_is_made_when_the_stream_is_first_opened_with_all_its_gates() {
    let mut core = core();
    ask(&mut core, 1, declare(SETTINGS));
    ask(&mut core, 1, Operation::DeclareSubscription(partition("s"), name("a"), StartAt::First, None));
    ask(&mut core, 1, Operation::DeclareSubscription(partition("s"), name("b"), StartAt::Next, None));
    let effects = ask(&mut core, 1, Operation::OpenConsumer(partition("s"), name("b")));
    let [Effect::MakeRing { gates, operation, token, caller, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(gates.len(), 2);
    core.apply(Event::RingMade(StreamId(1)));
    let effects = core.apply(Event::Request(*token, *caller, operation.clone()));
    assert!(
        matches!(effects[..], [Effect::GrantConsumer { gate: Gate { index: 1, .. }, .. }]),
        "{effects:?}"
    );
}

#[test]
fn a_second_producer_is_refused_with_the_pid_of_the_first_until_that_one_ends() {
    let mut core = opened();
    assert!(matches!(
        ask(&mut core, 1, Operation::OpenProducer(partition("s"), None))[..],
        [Effect::GrantProducer { .. }]
    ));
    let effects = ask(&mut core, 2, Operation::OpenProducer(partition("s"), None));
    assert_eq!(refusal(&effects).0, RefusalCode::InUse);
    assert!(refusal(&effects).1.contains("process 1001"));
    let effects = core.apply(Event::SessionEnded(SessionId(1)));
    assert!(matches!(effects[..], [Effect::Bury(StreamId(1), 1)]), "{effects:?}");
    assert!(matches!(
        ask(&mut core, 2, Operation::OpenProducer(partition("s"), None))[..],
        [Effect::GrantProducer { .. }]
    ));
}

#[test]
fn an_endpoint_is_closed_only_by_the_session_that_holds_it() {
    let mut core = opened();
    let effects = ask(&mut core, 1, Operation::OpenConsumer(partition("s"), name("a")));
    let [Effect::GrantConsumer { endpoint, .. }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(refusal(&ask(&mut core, 2, Operation::Close(endpoint))).0, RefusalCode::NotFound);
    let effects = ask(&mut core, 1, Operation::Close(endpoint));
    assert!(matches!(effects[..], [Effect::EndReader(..), Effect::Done(_)]), "{effects:?}");
    assert_eq!(refusal(&ask(&mut core, 1, Operation::Close(endpoint))).0, RefusalCode::NotFound);
}

#[test]
fn what_is_open_is_not_deleted() {
    let mut core = opened();
    ask(&mut core, 1, Operation::OpenConsumer(partition("s"), name("a")));
    let effects = ask(&mut core, 2, Operation::DeleteSubscription(partition("s"), name("a")));
    assert!(refusal(&effects).1.contains("process 1001"));
    let effects = ask(&mut core, 2, Operation::DeleteStream(partition("s")));
    assert!(refusal(&effects).1.contains("0 producers and 1 consumer;"));
    core.apply(Event::SessionEnded(SessionId(1)));
    let effects = ask(&mut core, 2, Operation::DeleteStream(partition("s")));
    assert!(matches!(effects[..], [Effect::DropRing(_), Effect::Done(_)]), "{effects:?}");
}

#[test]
fn what_is_read_in_order_is_not_purged_and_what_is_competed_for_is() {
    let mut core = opened();
    let of = |subscription: Option<&str>| (partition("s"), subscription.map(name));
    let purge = |core: &mut Core, subscription| {
        let (partition, name) = of(subscription);
        let checked = ask(core, 3, Operation::CheckPurge(partition.clone(), name.clone()));
        let done = ask(core, 3, Operation::Purge(partition, name));
        assert_eq!(matches!(checked[..], [Effect::Done(_)]), matches!(done[..], [Effect::Purge(..)]));
        done
    };
    let gates = |effects: Vec<Effect>| match &effects[..] {
        [Effect::Purge(_, _, gates)] => gates.len(),
        other => panic!("expected a purge, got {other:?}"),
    };
    let shared = SubscriptionMode::Shared(SharedSettings::default());
    ask(
        &mut core,
        1,
        Operation::DeclareSubscription(partition("s"), name("w"), StartAt::First, Some(shared)),
    );
    ask(&mut core, 1, Operation::DeclareSubscription(partition("s"), name("r"), StartAt::First, None));
    let all = gates(purge(&mut core, None));
    assert_eq!((gates(purge(&mut core, Some("w"))), gates(purge(&mut core, Some("r")))), (1, 1));
    ask(&mut core, 2, Operation::OpenConsumer(partition("s"), name("w")));
    assert_eq!(gates(purge(&mut core, None)), all);
    ask(&mut core, 2, Operation::OpenConsumer(partition("s"), name("r")));
    for asked in [None, Some("r")] {
        let refused = purge(&mut core, asked);
        let (code, message) = refusal(&refused);
        assert_eq!(code, RefusalCode::InUse);
        assert!(message.contains("subscription r of stream s is read by process 1002"), "{message}");
    }
    assert_eq!(gates(purge(&mut core, Some("w"))), 1);
    assert_eq!(refusal(&purge(&mut core, Some("nope"))).0, RefusalCode::NotFound);
    // Of a stream that nobody has opened yet there are no messages.
    ask(&mut core, 1, Operation::DeclareStream(partition("t"), SETTINGS, None));
    ask(&mut core, 1, Operation::DeclareSubscription(partition("t"), name("r"), StartAt::First, None));
    assert_eq!(gates(ask(&mut core, 1, Operation::Purge(partition("t"), None))), 0);
    core.set_journal(Err("the disk is gone".to_owned()));
    assert_eq!(gates(purge(&mut core, Some("w"))), 1, "memory streams go on");
    let durable = StreamSettings { durability: Durability::Synced, ..SETTINGS };
    core.set_journal(Ok(()));
    ask(&mut core, 1, Operation::DeclareStream(partition("d"), durable, None));
    core.set_journal(Err("the disk is gone".to_owned()));
    let refused = ask(&mut core, 1, Operation::Purge(partition("d"), None));
    assert!(refusal(&refused).1.contains("the disk is gone"));
}

#[test]
fn the_sixty_fifth_subscription_is_refused_and_a_freed_gate_gets_a_new_generation() {
    let mut core = opened();
    for number in 1..64 {
        let effects = ask(
            &mut core,
            1,
            Operation::DeclareSubscription(partition("s"), name(&format!("n{number}")), StartAt::Next, None),
        );
        assert!(matches!(effects[..], [Effect::Join { .. }]), "{effects:?}");
    }
    let one_more = Operation::DeclareSubscription(partition("s"), name("z"), StartAt::Next, None);
    assert_eq!(refusal(&ask(&mut core, 1, one_more.clone())).0, RefusalCode::Limit);
    ask(&mut core, 1, Operation::DeleteSubscription(partition("s"), name("n5")));
    let effects = ask(&mut core, 1, one_more);
    let [Effect::Join { gate, .. }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(gate, Gate { index: 5, generation: 2 });
}

#[test]
fn what_could_not_be_handed_over_is_taken_back() {
    let mut core = opened();
    let effects = ask(&mut core, 1, Operation::OpenProducer(partition("s"), None));
    let [Effect::GrantProducer { endpoint, .. }] = effects[..] else { panic!("{effects:?}") };
    core.apply(Event::EndpointFailed(endpoint));
    assert!(matches!(
        ask(&mut core, 2, Operation::OpenProducer(partition("s"), None))[..],
        [Effect::GrantProducer { .. }]
    ));
    let effects =
        ask(&mut core, 1, Operation::DeclareSubscription(partition("s"), name("b"), StartAt::Next, None));
    let [Effect::Join { gate, stream, .. }] = effects[..] else { panic!("{effects:?}") };
    core.apply(Event::SubscriptionFailed(stream, gate));
    let effects = ask(&mut core, 1, Operation::DescribeSubscription(partition("s"), name("b")));
    assert_eq!(refusal(&effects).0, RefusalCode::NotFound);
}

#[test]
fn a_list_comes_in_pages_without_gaps() {
    let mut core = core();
    for number in 0..150 {
        ask(&mut core, 1, Operation::DeclareStream(partition(&format!("s{number:03}")), SETTINGS, None));
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let effects = ask(&mut core, 1, Operation::ListStreams(after.take()));
        let [Effect::ShowStreams(_, page, more)] = &effects[..] else { panic!("{effects:?}") };
        seen.extend(page.iter().map(|view| view.partition.stream.to_string()));
        if !more {
            break;
        }
        after = page.last().map(|view| view.partition.stream.clone());
    }
    assert_eq!(seen, (0..150).map(|number| format!("s{number:03}")).collect::<Vec<_>>());
}

fn queue(core: &mut Core, settings: SharedSettings) -> Vec<Effect> {
    let queue = StreamSettings { kind: StreamKind::Queue, ..SETTINGS };
    ask(core, 1, Operation::DeclareStream(partition("s"), queue, Some(settings)))
}

fn single_active() -> SharedSettings {
    SharedSettings { single_active: true, ..SharedSettings::default() }
}

/// Opens queue "s" as a consumer of `session`.
fn open_member(core: &mut Core, session: u64) -> Vec<Effect> {
    ask(core, session, Operation::OpenConsumer(partition("s"), name("s")))
}

#[test]
fn a_queue_has_one_subscription_from_the_first_moment_to_the_last() {
    let mut core = core();
    assert!(matches!(queue(&mut core, SharedSettings::default())[..], [Effect::ShowStream(..)]));
    let effects = ask(&mut core, 1, Operation::DescribeSubscription(partition("s"), name("s")));
    let [Effect::ShowSubscription(_, view)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(view.mode, SubscriptionMode::Shared(SharedSettings::default()));
    let another = Operation::DeclareSubscription(partition("s"), name("a"), StartAt::First, None);
    assert!(refusal(&ask(&mut core, 1, another)).1.contains("is a queue, with the one subscription s"));
    let without = Operation::DeleteSubscription(partition("s"), name("s"));
    assert!(refusal(&ask(&mut core, 1, without)).1.contains("ringway stream delete s"));
    let effects = open_member(&mut core, 1);
    let [Effect::MakeRing { gates, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert!(matches!(gates[..], [(Gate { index: 0, .. }, SubscriptionMode::Shared(_))]), "{gates:?}");
}

#[test]
fn a_queue_is_confirmed_with_the_settings_it_has_and_others_conflict() {
    let mut core = core();
    queue(&mut core, SharedSettings::default());
    assert!(matches!(queue(&mut core, SharedSettings::default())[..], [Effect::ShowStream(..)]));
    let other = SharedSettings { lease_ms: 5, dead_letter: Some("x".into()), ..SharedSettings::default() };
    let effects = queue(&mut core, other);
    let (code, message) = refusal(&effects);
    assert_eq!(code, RefusalCode::Conflict);
    let expected = "lease in ms 30000, not 5, dead-letter stream none, not x;";
    assert!(message.contains(expected), "{message}");
    let backoff = Backoff { initial_ms: 7, jitter_percent: 10, ..Backoff::default() };
    let effects = queue(&mut core, SharedSettings { backoff, ..SharedSettings::default() });
    let expected = "first backoff in ms 0, not 7, backoff jitter in percent 0, not 10;";
    assert!(refusal(&effects).1.contains(expected), "{effects:?}");
    let topic = ask(&mut core, 1, declare(SETTINGS));
    assert!(refusal(&topic).1.contains("kind queue, not topic"), "{topic:?}");
}

#[test]
fn settings_that_cannot_be_are_refused_with_figures() {
    let usual = SharedSettings::default;
    let backoff = |backoff| SharedSettings { backoff, ..usual() };
    let wrong = [
        (SharedSettings { lease_ms: 43_200_001, ..usual() }, "a lease of 43200001 ms"),
        (SharedSettings { lease_ms: 0, ..usual() }, "a lease of 0 ms cannot be had: from 1 to"),
        (backoff(Backoff { initial_ms: 43_200_001, ..Backoff::default() }), "a backoff of 43200001 ms"),
        (backoff(Backoff { multiplier_percent: 99, ..Backoff::default() }), "from 100 to 10,000 %"),
        (backoff(Backoff { jitter_percent: 101, ..Backoff::default() }), "at most 100 %"),
        (SharedSettings { dead_letter: Some("s".into()), ..usual() }, "its own dead letters"),
        (SharedSettings { dead_letter: Some(String::new()), ..usual() }, "the dead-letter stream: "),
    ];
    for (settings, expected) in wrong {
        let effects = queue(&mut core(), settings);
        assert_eq!(refusal(&effects).0, RefusalCode::Invalid);
        assert!(refusal(&effects).1.contains(expected), "{effects:?}");
    }
    let mut core = core();
    ask(&mut core, 1, declare(StreamSettings { overflow: Overflow::DropOldest, ..SETTINGS }));
    let shared = Some(SubscriptionMode::Shared(usual()));
    let operation = Operation::DeclareSubscription(partition("s"), name("a"), StartAt::First, shared);
    assert!(refusal(&ask(&mut core, 1, operation)).1.contains("overwrites what is not read"));
    let durable = Some(SubscriptionMode::Cursor(CursorSettings { visibility: Visibility::Durable }));
    let operation = Operation::DeclareSubscription(partition("s"), name("a"), StartAt::First, durable);
    assert!(refusal(&ask(&mut core, 1, operation)).1.contains("stream s is of durability memory"));
}

#[test]
fn consumers_of_a_queue_have_ids_that_are_used_again_only_after_the_sweep() {
    let mut core = core();
    queue(&mut core, SharedSettings::default());
    open_member(&mut core, 1);
    core.apply(Event::RingMade(StreamId(1)));
    let members: Vec<_> = [1, 1, 2]
        .map(|session| match open_member(&mut core, session)[..] {
            [Effect::GrantMember { member, .. }] => member,
            ref other => panic!("{other:?}"),
        })
        .into();
    assert_eq!(members, [1, 2, 3]);
    let effects = core.apply(Event::SessionEnded(SessionId(1)));
    let swept: Vec<_> = effects
        .iter()
        .map(|effect| match effect {
            Effect::SweepMember { member, ending: Ending::Died, .. } => *member,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(swept, [1, 2]);
    let effects = open_member(&mut core, 2);
    assert!(matches!(effects[..], [Effect::GrantMember { member: 1, .. }]), "{effects:?}");
}

#[test]
fn the_longest_standing_consumer_is_the_active_one() {
    let mut core = core();
    queue(&mut core, single_active());
    open_member(&mut core, 1);
    core.apply(Event::RingMade(StreamId(1)));
    let effects = open_member(&mut core, 1);
    assert!(
        matches!(effects[..], [Effect::Activate { member: 1, .. }, Effect::GrantMember { .. }]),
        "{effects:?}"
    );
    let effects = open_member(&mut core, 2);
    assert!(matches!(effects[..], [Effect::Activate { member: 1, .. }, Effect::GrantMember { .. }]));
    let effects = core.apply(Event::SessionEnded(SessionId(1)));
    assert!(
        matches!(effects[..], [Effect::SweepMember { member: 1, .. }, Effect::Activate { member: 2, .. }]),
        "{effects:?}"
    );
}

fn alter(core: &mut Core, alteration: Alteration) -> Vec<Effect> {
    let checked = ask(core, 3, Operation::CheckAlter(partition("s"), alteration.clone()));
    let done = ask(core, 3, Operation::Alter(partition("s"), alteration));
    let is_refused = |effects: &[Effect]| matches!(effects, [Effect::Refuse(..)]);
    assert_eq!(is_refused(&checked), is_refused(&done), "{checked:?}, {done:?}");
    done
}

fn alter_subscription(core: &mut Core, changes: SubscriptionChanges) -> Vec<Effect> {
    alter(core, Alteration::Subscription(name("s"), changes))
}

#[test]
fn a_queue_that_is_altered_is_declared_so_and_what_was_not_said_stays() {
    let mut core = core();
    queue(&mut core, SharedSettings::default());
    let changes = SubscriptionChanges { backoff_max_ms: Some(9), ..SubscriptionChanges::new() };
    let changes = changes.lease_ms(5).dead_letter("x");
    let backoff = Backoff { max_ms: 9, ..Backoff::default() };
    let (lease_ms, dead_letter) = (5, Some("x".to_owned()));
    let now = SharedSettings { lease_ms, dead_letter, backoff, ..SharedSettings::default() };
    let effects = alter_subscription(&mut core, changes.clone());
    let [Effect::ShowSubscription(_, view)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(view.mode, SubscriptionMode::Shared(now.clone()), "without a ring nobody need be told");
    assert_eq!(refusal(&queue(&mut core, SharedSettings::default())).0, RefusalCode::Conflict);
    assert!(matches!(queue(&mut core, now.clone())[..], [Effect::ShowStream(..)]));
    // While it is consumed its shard is told, once; and in one with the stream.
    open_member(&mut core, 1);
    core.apply(Event::RingMade(StreamId(1)));
    open_member(&mut core, 1);
    core.take_changes();
    assert!(matches!(alter_subscription(&mut core, changes)[..], [Effect::ShowSubscription(..)]));
    assert!(core.take_changes().is_empty(), "what does not differ is not journaled again");
    let (stream, shared) =
        (StreamChanges::new().payload_bytes_max(7), SubscriptionChanges::new().no_dead_letter());
    let effects = alter(&mut core, Alteration::Stream(stream, Some(shared)));
    let [Effect::Alter(_, _, settings), Effect::ShowStream(_, view)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(*settings, SharedSettings { dead_letter: None, ..now });
    assert_eq!(view.settings.payload_bytes_max, 7);
    assert!(!core.take_changes().is_empty());
}

#[test]
fn what_a_stream_is_made_with_or_its_clients_go_by_is_not_altered_and_the_refusal_says_from_what_to_what() {
    let mut core = core();
    queue(&mut core, SharedSettings::default());
    let stream = |changes| Alteration::Stream(changes, None);
    let shared = |changes| Alteration::Subscription(name("s"), changes);
    let usual = StreamChanges::new();
    let open = "process 1001 has it open, end that first";
    let never = [
        (
            stream(StreamChanges { slots: Some(16), partitions: Some(2), ..usual }),
            "partitions from 1 to 2, slots from 8 to 16",
        ),
        (stream(StreamChanges { slot_bytes: Some(128), ..usual }), "slot bytes from 64 to 128"),
        (
            stream(StreamChanges { durability: Some(Durability::Synced), ..usual }),
            "durability from memory to synced",
        ),
        (
            stream(StreamChanges { producers: Some(Producers::Shared), ..usual }),
            "producers from Exclusive to Shared",
        ),
        (stream(usual.overflow(Overflow::DropOldest)), "overflow from Block to DropOldest: it was made so"),
        (stream(usual.overflow(Overflow::Detach { after_ms: 5 })), "ringway stream move s OTHER"),
        (stream(usual.payload_bytes_max(0)), "payloads of 0 bytes cannot be had"),
        (
            shared(SubscriptionChanges {
                visibility: Some(Visibility::Durable),
                ..SubscriptionChanges::new()
            }),
            "visibility from committed to durable",
        ),
        (
            shared(SubscriptionChanges::new().lease_ms(LEASE_MS_MAX + 1)),
            "a lease of 43200001 ms cannot be had",
        ),
        (shared(SubscriptionChanges::new().dead_letter("s")), "stream s cannot get its own dead letters"),
    ];
    for (alteration, expected) in never {
        let effects = alter(&mut core, alteration);
        let (code, message) = refusal(&effects);
        assert_eq!(code, RefusalCode::Invalid);
        assert!(message.contains(expected), "{message}");
    }
    assert!(
        matches!(queue(&mut core, SharedSettings::default())[..], [Effect::ShowStream(..)]),
        "nothing has changed"
    );
    // What its clients go by changes while there are none.
    open_member(&mut core, 1);
    core.apply(Event::RingMade(StreamId(1)));
    open_member(&mut core, 1);
    open_producer(&mut core, 1);
    let while_unused = [
        (stream(usual.overflow(Overflow::Reject)), "overflow from Block to Reject while it is published to"),
        (stream(usual.payload_bytes_max(5)), "largest payload from 16777216 to 5 while it is published to"),
        (
            shared(SubscriptionChanges::new().single_active(true)),
            "single active from false to true while it is consumed",
        ),
    ];
    for (alteration, expected) in &while_unused {
        let effects = alter(&mut core, alteration.clone());
        let (code, message) = refusal(&effects);
        assert_eq!(code, RefusalCode::InUse);
        assert!(message.contains(expected) && message.contains(open), "{message}");
    }
    core.apply(Event::SessionEnded(SessionId(1)));
    for (alteration, _) in while_unused {
        let effects = alter(&mut core, alteration);
        assert!(!matches!(effects[..], [Effect::Refuse(..)]), "{effects:?}");
    }
}

#[test]
fn what_is_no_shared_subscription_has_nothing_of_one_to_alter() {
    let mut core = opened();
    let changes = SubscriptionChanges::new().lease_ms(5);
    let refused = alter(&mut core, Alteration::Subscription(name("a"), changes.clone()));
    assert!(refusal(&refused).1.contains("subscription a of stream s is a cursor"), "{refused:?}");
    let refused = alter(&mut core, Alteration::Stream(StreamChanges::new(), Some(changes.clone())));
    assert!(refusal(&refused).1.contains("ringway subscription alter s NAME"), "{refused:?}");
    assert_eq!(refusal(&alter_subscription(&mut core, changes)).0, RefusalCode::NotFound);
}

#[test]
fn a_durable_stream_is_not_altered_while_it_cannot_be_journaled() {
    let mut core = core();
    let durable = StreamSettings { kind: StreamKind::Queue, durability: Durability::Synced, ..SETTINGS };
    ask(&mut core, 1, Operation::DeclareStream(partition("s"), durable, None));
    core.set_journal(Err("the disk is gone".to_owned()));
    let refused = alter_subscription(&mut core, SubscriptionChanges::new().lease_ms(5));
    assert!(refusal(&refused).1.contains("cannot be altered durably: the disk is gone"), "{refused:?}");
    let effects = alter_subscription(&mut core, SubscriptionChanges::new().lease_ms(30_000));
    assert!(matches!(effects[..], [Effect::ShowSubscription(..)]), "what does not differ is confirmed");
}

/// The settings of the streams in random histories.
const KINDS: [StreamSettings; 4] = [
    SETTINGS,
    StreamSettings { producers: Producers::Shared, ..SETTINGS },
    StreamSettings { producers: Producers::Shared, overflow: Overflow::Detach { after_ms: 1 }, ..SETTINGS },
    StreamSettings { kind: StreamKind::Queue, producers: Producers::Shared, ..SETTINGS },
];

/// A random step: who, what, on which of three streams and subscriptions.
#[derive(Clone, Debug)]
enum Step {
    Ask(u64, u8, u8, u8),
    End(u64),
    Fail,
    /// Another core goes on from what was remembered, as one record after another or as a whole.
    Succeed(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..4_u64, 0..18_u8, 0..4_u8, 0..3_u8).prop_map(|(who, what, s, n)| Step::Ask(who, what, s, n)),
        1 => (0..4_u64).prop_map(Step::End),
        1 => Just(Step::Fail),
        1 => any::<bool>().prop_map(Step::Succeed),
    ];
    prop::collection::vec(step, 1..200)
}

/// Plays the shard: obeys effects, and keeps its own books of who holds what.
#[derive(Default)]
struct Books {
    rings: BTreeMap<StreamId, BTreeSet<Gate>>,
    producers: BTreeMap<(StreamId, u32), (u64, EndpointId)>,
    /// Arenas, and the endpoint of the producer that has not stopped.
    arenas: BTreeMap<(StreamId, u32), Option<EndpointId>>,
    /// The one that asks.
    asking: Option<EndpointId>,
    consumers: BTreeMap<(StreamId, Gate), (u64, EndpointId)>,
    members: BTreeMap<(StreamId, Gate, u32), (u64, EndpointId)>,
    active: BTreeMap<(StreamId, Gate), u32>,
    /// What producers, by their owner ids, were told of their streams.
    told: BTreeMap<(StreamId, u32), StreamSettings>,
    answers: u32,
}

impl Books {
    fn obey(&mut self, core: &mut Core, who: u64, effects: Vec<Effect>, fail: bool) {
        for effect in effects {
            match effect {
                Effect::MakeRing { token, .. } if fail => self.answer(token),
                Effect::MakeRing { stream, gates, token, caller, operation, .. } => {
                    assert!(
                        self.rings
                            .insert(stream, gates.into_iter().map(|(gate, _)| gate).collect())
                            .is_none(),
                        "one ring a stream"
                    );
                    let effects = core.apply(Event::RingMade(stream));
                    self.obey(core, who, effects, false);
                    let effects = core.apply(Event::Request(token, caller, operation));
                    self.obey(core, who, effects, false);
                }
                Effect::Join { stream, gate, token, .. } => {
                    self.answer(token);
                    if fail {
                        let effects = core.apply(Event::SubscriptionFailed(stream, gate));
                        return self.obey(core, who, effects, false);
                    }
                    let gates = self.rings.get_mut(&stream).expect("a gate joins a ring");
                    assert!(gates.iter().all(|other| other.index != gate.index), "an index has one user");
                    gates.insert(gate);
                }
                Effect::Leave(stream, gate) => {
                    assert!(self.rings.get_mut(&stream).unwrap().remove(&gate));
                    assert!(!self.consumers.contains_key(&(stream, gate)), "no gate leaves under its reader");
                }
                Effect::DropRing(stream) => {
                    assert!(self.rings.remove(&stream).is_some());
                    assert!(self.owners(stream).is_empty(), "no ring goes under its producer");
                    self.arenas.retain(|(of, _), _| *of != stream);
                }
                Effect::GrantProducer { token, stream, endpoint, owner, settings, .. } => {
                    self.answer(token);
                    let alone = settings.producers != Producers::Exclusive || self.owners(stream).is_empty();
                    assert!(alone, "one exclusive producer");
                    self.told.insert((stream, owner), settings);
                    assert!(
                        self.producers.insert((stream, owner), (who, endpoint)).is_none(),
                        "one a owner id"
                    );
                    if fail {
                        let effects = core.apply(Event::EndpointFailed(endpoint));
                        self.obey(core, who, effects, false);
                    }
                }
                Effect::GrantConsumer { token, stream, gate, endpoint, .. } => {
                    self.answer(token);
                    assert!(self.rings[&stream].contains(&gate));
                    assert!(self.consumers.insert((stream, gate), (who, endpoint)).is_none(), "one consumer");
                    if fail {
                        let effects = core.apply(Event::EndpointFailed(endpoint));
                        self.obey(core, who, effects, false);
                    }
                }
                Effect::GrantMember { token, stream, gate, endpoint, session, member, .. } => {
                    self.answer(token);
                    assert!(self.rings[&stream].contains(&gate));
                    assert_eq!(session, SessionId(who));
                    let before = self.members.insert((stream, gate, member), (who, endpoint));
                    assert!(before.is_none(), "one a member id");
                    if fail {
                        let effects = core.apply(Event::EndpointFailed(endpoint));
                        self.obey(core, who, effects, false);
                    }
                }
                Effect::SweepMember { stream, gate, session, member, .. } => {
                    let (who, _) = self.members.remove(&(stream, gate, member)).expect("a member ends");
                    assert_eq!(session, SessionId(who));
                }
                Effect::Activate { stream, gate, member } => {
                    self.active.insert((stream, gate), member);
                }
                Effect::Bury(stream, owner) => {
                    let (_, endpoint) =
                        self.producers.remove(&(stream, owner)).expect("only a producer is buried");
                    for producer in self.arenas.values_mut().filter(|producer| **producer == Some(endpoint)) {
                        *producer = None;
                    }
                }
                Effect::OrphanArenas(stream, arenas) => {
                    for arena in arenas {
                        assert_eq!(self.arenas[&(stream, arena)], None, "its producer was buried before");
                    }
                }
                Effect::MakeArena { token, stream, arena, .. } => {
                    self.answer(token);
                    if fail {
                        core.apply(Event::ArenasGone(stream, vec![arena]));
                    } else {
                        assert!(
                            self.arenas.insert((stream, arena), self.asking).is_none(),
                            "a number is used once"
                        );
                    }
                }
                Effect::DropArena(stream, arena) => {
                    assert_eq!(self.arenas.remove(&(stream, arena)), Some(self.asking), "its own arena");
                }
                Effect::GrantArena { token, stream, arena, .. } => {
                    self.answer(token);
                    assert!(self.arenas.contains_key(&(stream, arena)), "an arena that is there");
                }
                Effect::Attach { token, stream, before, gate, .. } => {
                    self.answer(token);
                    let gates = self.rings.get_mut(&stream).unwrap();
                    assert!(gates.remove(&before) && gates.insert(gate) && before.index == gate.index);
                    let reader = self.consumers.remove(&(stream, before)).expect("only a reader attaches");
                    self.consumers.insert((stream, gate), reader);
                }
                Effect::ReadPage { token, stream, gate, .. } => {
                    self.answer(token);
                    assert!(self.consumers.contains_key(&(stream, gate)), "only a reader asks for pages");
                }
                Effect::EndReader(stream, gate) => {
                    self.consumers.remove(&(stream, gate)).expect("only a reader ends");
                }
                Effect::Alter(stream, gate, _) => {
                    assert!(self.rings[&stream].contains(&gate), "a shard is told of what it has");
                }
                Effect::GrantGate(token, ..)
                | Effect::Relieve(token, ..)
                | Effect::Purge(token, ..)
                | Effect::Publish(token, ..)
                | Effect::Detach(token, ..)
                | Effect::Done(token)
                | Effect::ShowStream(token, _)
                | Effect::ShowStreams(token, ..)
                | Effect::ShowSubscription(token, _)
                | Effect::ShowSubscriptions(token, _)
                | Effect::Refuse(token, _) => self.answer(token),
            }
        }
    }

    /// Whoever has a stream open was told how it is.
    fn check_settings(&self, core: &Core) {
        for holder @ (stream, _) in self.producers.keys() {
            assert_eq!(core.streams[stream].settings, self.told[holder]);
        }
    }

    /// Where there are members of which one may be active, one is, and it stands the longest.
    fn check_active(&self, core: &Core) {
        let mut oldest: BTreeMap<(StreamId, Gate), (EndpointId, u32)> = BTreeMap::new();
        for ((stream, gate, member), (_, endpoint)) in &self.members {
            let found = oldest.entry((*stream, *gate)).or_insert((*endpoint, *member));
            *found = (*found).min((*endpoint, *member));
        }
        for (subscription @ (stream, gate), (_, member)) in oldest {
            let mut found = core.streams[&stream].subscriptions.values().filter(|found| found.gate == gate);
            let found = found.next().expect("a member's subscription is there");
            if found.shared().is_some_and(|settings| settings.single_active) {
                assert_eq!(self.active.get(&subscription), Some(&member));
            }
        }
    }

    fn answer(&mut self, _: Token) {
        self.answers += 1;
    }

    fn owners(&self, stream: StreamId) -> Vec<u32> {
        self.producers.keys().filter(|(of, _)| *of == stream).map(|(_, owner)| *owner).collect()
    }

    fn endpoints(&self) -> Vec<(u64, EndpointId)> {
        self.producers.values().chain(self.consumers.values()).chain(self.members.values()).copied().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_keep_the_promises(steps in steps()) {
        let mut core = core();
        let mut books = Books::default();
        let mut fail = false;
        let mut log = Vec::new();
        for step in steps {
            log.extend(core.take_changes());
            match step {
                Step::Fail => fail = true,
                Step::Succeed(whole) => {
                    if whole {
                        log = core.records().collect();
                    }
                    let before = std::mem::replace(&mut core, self::core());
                    core.remember(log.iter().cloned());
                    prop_assert_eq!(format!("{:?}", *core.streams), format!("{:?}", *before.streams));
                    prop_assert_eq!(format!("{:?}", *core.endpoints), format!("{:?}", *before.endpoints));
                    prop_assert_eq!(core.names.clone(), before.names.clone());
                }
                Step::End(who) => {
                    let effects = core.apply(Event::SessionEnded(SessionId(who)));
                    books.obey(&mut core, who, effects, false);
                    prop_assert!(books.endpoints().iter().all(|(holder, _)| *holder != who), "the dead hold nothing");
                }
                Step::Ask(who, what, number, other) => {
                    let stream = partition(&format!("s{number}"));
                    let subscription = name(&format!("n{other}"));
                    let held = books.endpoints().into_iter().filter(|(holder, _)| *holder == who);
                    let held: Vec<_> = held.map(|(_, endpoint)| endpoint).collect();
                    let held = held.get(usize::from(other)).or(held.first()).copied();
                    let held = held.unwrap_or(EndpointId(u64::MAX));
                    books.asking = Some(held);
                    let gate = Gate { index: other, generation: 1 };
                    let operation = match what {
                        0 => {
                            let settings = KINDS[usize::from(number)];
                            let queue = (settings.kind == StreamKind::Queue).then(single_active);
                            Operation::DeclareStream(stream, settings, queue)
                        }
                        1 => Operation::DeleteStream(stream),
                        2 => Operation::DeclareSubscription(stream, subscription, StartAt::Next, None),
                        3 => {
                            let mode = Some(SubscriptionMode::Shared(single_active()));
                            Operation::DeclareSubscription(stream, subscription, StartAt::Next, mode)
                        }
                        4 => Operation::DeleteSubscription(stream, subscription),
                        5 => Operation::OpenProducer(stream, None),
                        6 => Operation::OpenConsumer(stream, subscription),
                        7 => Operation::ListSubscriptions(stream),
                        8 => Operation::MakeArena(held, 8192),
                        9 => Operation::OpenArena(held, 1 + u32::from(number)),
                        10 => Operation::RetireArena(held, 1 + u32::from(number)),
                        11 if number == 0 => Operation::DetachGate(held, gate),
                        11 => Operation::Attach(held, 5),
                        12 => Operation::RelieveGate(held, gate),
                        13 => Operation::Publish(stream, GRAVE, Body::default()),
                        14 if number == 3 => Operation::OpenConsumer(stream.clone(), stream.stream),
                        14 => Operation::OpenConsumer(stream, subscription),
                        15 => {
                            let of = if number == 3 { stream.stream.clone() } else { subscription };
                            let changes = SubscriptionChanges::new().single_active(other == 1);
                            Operation::Alter(stream, Alteration::Subscription(of, changes))
                        }
                        16 => {
                            let changes = StreamChanges::new().payload_bytes_max(1 + u32::from(other));
                            Operation::Alter(stream, Alteration::Stream(changes, None))
                        }
                        _ => Operation::Close(held),
                    };
                    books.answers = 0;
                    let effects = ask(&mut core, who, operation);
                    books.obey(&mut core, who, effects, std::mem::take(&mut fail));
                    prop_assert_eq!(books.answers, 1, "every request has one answer");
                    books.check_active(&core);
                    books.check_settings(&core);
                }
            }
        }
        // When all sessions have ended nothing is held and everything can be deleted.
        for who in 0..4 {
            let effects = core.apply(Event::SessionEnded(SessionId(who)));
            books.obey(&mut core, who, effects, false);
        }
        prop_assert!(books.endpoints().is_empty() && core.endpoints.is_empty());
        for stream in 0..4 {
            let effects = ask(&mut core, 9, Operation::DeleteStream(partition(&format!("s{stream}"))));
            books.obey(&mut core, 9, effects, false);
        }
        prop_assert!(core.streams.is_empty() && books.rings.is_empty());
    }
}
