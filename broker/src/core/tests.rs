//! The core against its promises: single decisions, then random histories against a reference model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use ringway_shm_protocol::control::message::StreamKind;

use super::*;

const SETTINGS: StreamSettings = StreamSettings { kind: StreamKind::Topic, slots: 8, slot_bytes: 64 };

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn caller(session: u64) -> Caller {
    Caller { session: SessionId(session), pid: 1000 + session as u32 }
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

/// A core with stream "s", its ring made, and subscription "a".
fn opened() -> Core {
    let mut core = Core::new(0);
    ask(&mut core, 1, Operation::DeclareStream(name("s"), SETTINGS));
    ask(&mut core, 1, Operation::DeclareSubscription(name("s"), name("a"), StartAt::First));
    let effects = ask(&mut core, 1, Operation::OpenProducer(name("s")));
    assert!(matches!(effects[..], [Effect::MakeRing { stream: StreamId(1), .. }]), "{effects:?}");
    core.apply(Event::RingMade(StreamId(1)));
    core
}

#[test]
fn declaring_again_confirms_and_other_settings_conflict() {
    let mut core = opened();
    let same = ask(&mut core, 2, Operation::DeclareStream(name("s"), SETTINGS));
    assert!(matches!(same[..], [Effect::ShowStream(..)]));
    let other = StreamSettings { slots: 16, ..SETTINGS };
    let effects = ask(&mut core, 2, Operation::DeclareStream(name("s"), other));
    let (code, message) = refusal(&effects);
    assert_eq!(code, RefusalCode::Conflict);
    assert!(message.contains("8 slots of 64 bytes, not 16 of 64"), "{message}");
}

#[test]
fn a_missing_stream_or_subscription_is_refused_with_the_command_that_makes_it() {
    let mut core = opened();
    let effects = ask(&mut core, 1, Operation::OpenProducer(name("x")));
    assert_eq!(refusal(&effects).0, RefusalCode::NotFound);
    assert!(refusal(&effects).1.contains("ringway stream create x"));
    let effects = ask(&mut core, 1, Operation::OpenConsumer(name("s"), name("x")));
    assert!(refusal(&effects).1.contains("ringway subscription create s x"));
}

#[test]
fn a_ring_is_made_when_the_stream_is_first_opened_with_all_its_gates() {
    let mut core = Core::new(0);
    ask(&mut core, 1, Operation::DeclareStream(name("s"), SETTINGS));
    ask(&mut core, 1, Operation::DeclareSubscription(name("s"), name("a"), StartAt::First));
    ask(&mut core, 1, Operation::DeclareSubscription(name("s"), name("b"), StartAt::Next));
    let effects = ask(&mut core, 1, Operation::OpenConsumer(name("s"), name("b")));
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
        ask(&mut core, 1, Operation::OpenProducer(name("s")))[..],
        [Effect::GrantProducer { .. }]
    ));
    let effects = ask(&mut core, 2, Operation::OpenProducer(name("s")));
    assert_eq!(refusal(&effects).0, RefusalCode::InUse);
    assert!(refusal(&effects).1.contains("process 1001"));
    let effects = core.apply(Event::SessionEnded(SessionId(1)));
    assert!(matches!(effects[..], [Effect::Bury(StreamId(1), 1)]), "{effects:?}");
    assert!(matches!(
        ask(&mut core, 2, Operation::OpenProducer(name("s")))[..],
        [Effect::GrantProducer { .. }]
    ));
}

#[test]
fn an_endpoint_is_closed_only_by_the_session_that_holds_it() {
    let mut core = opened();
    let effects = ask(&mut core, 1, Operation::OpenConsumer(name("s"), name("a")));
    let [Effect::GrantConsumer { endpoint, .. }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(refusal(&ask(&mut core, 2, Operation::Close(endpoint))).0, RefusalCode::NotFound);
    let effects = ask(&mut core, 1, Operation::Close(endpoint));
    assert!(matches!(effects[..], [Effect::EndReader(..), Effect::Done(_)]), "{effects:?}");
    assert_eq!(refusal(&ask(&mut core, 1, Operation::Close(endpoint))).0, RefusalCode::NotFound);
}

#[test]
fn what_is_open_is_not_deleted() {
    let mut core = opened();
    ask(&mut core, 1, Operation::OpenConsumer(name("s"), name("a")));
    let effects = ask(&mut core, 2, Operation::DeleteSubscription(name("s"), name("a")));
    assert!(refusal(&effects).1.contains("process 1001"));
    let effects = ask(&mut core, 2, Operation::DeleteStream(name("s")));
    assert!(refusal(&effects).1.contains("0 producers and 1 consumers"));
    core.apply(Event::SessionEnded(SessionId(1)));
    let effects = ask(&mut core, 2, Operation::DeleteStream(name("s")));
    assert!(matches!(effects[..], [Effect::DropRing(_), Effect::Done(_)]), "{effects:?}");
}

#[test]
fn the_sixty_fifth_subscription_is_refused_and_a_freed_gate_gets_a_new_generation() {
    let mut core = opened();
    for number in 1..64 {
        let effects = ask(
            &mut core,
            1,
            Operation::DeclareSubscription(name("s"), name(&format!("n{number}")), StartAt::Next),
        );
        assert!(matches!(effects[..], [Effect::Join { .. }]), "{effects:?}");
    }
    let one_more = Operation::DeclareSubscription(name("s"), name("z"), StartAt::Next);
    assert_eq!(refusal(&ask(&mut core, 1, one_more.clone())).0, RefusalCode::Limit);
    ask(&mut core, 1, Operation::DeleteSubscription(name("s"), name("n5")));
    let effects = ask(&mut core, 1, one_more);
    let [Effect::Join { gate, .. }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(gate, Gate { index: 5, generation: 2 });
}

#[test]
fn what_could_not_be_handed_over_is_taken_back() {
    let mut core = opened();
    let effects = ask(&mut core, 1, Operation::OpenProducer(name("s")));
    let [Effect::GrantProducer { endpoint, .. }] = effects[..] else { panic!("{effects:?}") };
    core.apply(Event::EndpointFailed(endpoint));
    assert!(matches!(
        ask(&mut core, 2, Operation::OpenProducer(name("s")))[..],
        [Effect::GrantProducer { .. }]
    ));
    let effects = ask(&mut core, 1, Operation::DeclareSubscription(name("s"), name("b"), StartAt::Next));
    let [Effect::Join { gate, stream, .. }] = effects[..] else { panic!("{effects:?}") };
    core.apply(Event::SubscriptionFailed(stream, gate));
    let effects = ask(&mut core, 1, Operation::DescribeSubscription(name("s"), name("b")));
    assert_eq!(refusal(&effects).0, RefusalCode::NotFound);
}

#[test]
fn a_list_comes_in_pages_without_gaps() {
    let mut core = Core::new(0);
    for number in 0..150 {
        ask(&mut core, 1, Operation::DeclareStream(name(&format!("s{number:03}")), SETTINGS));
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let effects = ask(&mut core, 1, Operation::ListStreams(after.take()));
        let [Effect::ShowStreams(_, page, more)] = &effects[..] else { panic!("{effects:?}") };
        seen.extend(page.iter().map(|view| view.name.to_string()));
        if !more {
            break;
        }
        after = page.last().map(|view| view.name.clone());
    }
    assert_eq!(seen, (0..150).map(|number| format!("s{number:03}")).collect::<Vec<_>>());
}

/// A random step: who, what, on which of three streams and subscriptions.
#[derive(Clone, Debug)]
enum Step {
    Ask(u64, u8, u8, u8),
    End(u64),
    Fail,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..4_u64, 0..9_u8, 0..3_u8, 0..3_u8).prop_map(|(who, what, s, n)| Step::Ask(who, what, s, n)),
        1 => (0..4_u64).prop_map(Step::End),
        1 => Just(Step::Fail),
    ];
    prop::collection::vec(step, 1..200)
}

/// Plays the shard: obeys effects, and keeps its own books of who holds what.
#[derive(Default)]
struct Books {
    rings: BTreeMap<StreamId, BTreeSet<Gate>>,
    producers: BTreeMap<StreamId, (u64, u32, EndpointId)>,
    consumers: BTreeMap<(StreamId, Gate), (u64, EndpointId)>,
    answers: u32,
}

impl Books {
    fn obey(&mut self, core: &mut Core, who: u64, effects: Vec<Effect>, fail: bool) {
        for effect in effects {
            match effect {
                Effect::MakeRing { token, .. } if fail => self.answer(token),
                Effect::MakeRing { stream, gates, token, caller, operation, .. } => {
                    assert!(
                        self.rings.insert(stream, gates.into_iter().collect()).is_none(),
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
                    assert!(!self.producers.contains_key(&stream), "no ring goes under its producer");
                }
                Effect::GrantProducer { token, stream, endpoint, owner } => {
                    self.answer(token);
                    assert!(self.producers.insert(stream, (who, owner, endpoint)).is_none(), "one producer");
                    if fail {
                        let effects = core.apply(Event::EndpointFailed(endpoint));
                        self.obey(core, who, effects, false);
                    }
                }
                Effect::GrantConsumer { token, stream, gate, endpoint } => {
                    self.answer(token);
                    assert!(self.rings[&stream].contains(&gate));
                    assert!(self.consumers.insert((stream, gate), (who, endpoint)).is_none(), "one consumer");
                    if fail {
                        let effects = core.apply(Event::EndpointFailed(endpoint));
                        self.obey(core, who, effects, false);
                    }
                }
                Effect::Bury(stream, owner) => {
                    let (_, held, _) = self.producers.remove(&stream).expect("only a producer is buried");
                    assert_eq!(held, owner);
                }
                Effect::EndReader(stream, gate) => {
                    self.consumers.remove(&(stream, gate)).expect("only a reader ends");
                }
                Effect::GrantGate(token, ..)
                | Effect::Done(token)
                | Effect::ShowStream(token, _)
                | Effect::ShowStreams(token, ..)
                | Effect::ShowSubscription(token, _)
                | Effect::ShowSubscriptions(token, _)
                | Effect::Refuse(token, _) => self.answer(token),
            }
        }
    }

    fn answer(&mut self, _: Token) {
        self.answers += 1;
    }

    fn endpoints(&self) -> Vec<(u64, EndpointId)> {
        let producers = self.producers.values().map(|(who, _, endpoint)| (*who, *endpoint));
        producers.chain(self.consumers.values().copied()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_keep_the_promises(steps in steps()) {
        let mut core = Core::new(0);
        let mut books = Books::default();
        let mut fail = false;
        for step in steps {
            match step {
                Step::Fail => fail = true,
                Step::End(who) => {
                    let effects = core.apply(Event::SessionEnded(SessionId(who)));
                    books.obey(&mut core, who, effects, false);
                    prop_assert!(books.endpoints().iter().all(|(holder, _)| *holder != who), "the dead hold nothing");
                }
                Step::Ask(who, what, stream, subscription) => {
                    let stream = name(&format!("s{stream}"));
                    let subscription = name(&format!("n{subscription}"));
                    let held = books.endpoints().iter().find(|(holder, _)| *holder == who).map(|(_, id)| *id);
                    let operation = match what {
                        0 => Operation::DeclareStream(stream, SETTINGS),
                        1 => Operation::DeleteStream(stream),
                        2 | 3 => Operation::DeclareSubscription(stream, subscription, StartAt::Next),
                        4 => Operation::DeleteSubscription(stream, subscription),
                        5 => Operation::OpenProducer(stream),
                        6 => Operation::OpenConsumer(stream, subscription),
                        7 => Operation::ListSubscriptions(stream),
                        _ => Operation::Close(held.unwrap_or(EndpointId(u64::MAX))),
                    };
                    books.answers = 0;
                    let effects = ask(&mut core, who, operation);
                    books.obey(&mut core, who, effects, std::mem::take(&mut fail));
                    prop_assert_eq!(books.answers, 1, "every request has one answer");
                }
            }
        }
        // When all sessions have ended nothing is held and everything can be deleted.
        for who in 0..4 {
            let effects = core.apply(Event::SessionEnded(SessionId(who)));
            books.obey(&mut core, who, effects, false);
        }
        prop_assert!(books.endpoints().is_empty() && core.endpoints.is_empty());
        for stream in 0..3 {
            let effects = ask(&mut core, 9, Operation::DeleteStream(name(&format!("s{stream}"))));
            books.obey(&mut core, 9, effects, false);
        }
        prop_assert!(core.streams.is_empty() && books.rings.is_empty());
    }
}
