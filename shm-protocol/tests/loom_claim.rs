//! Explores `shared` subscriptions: who gets a message, who takes it over, when its slot is written again, and that nobody who
//! has something to say is overheard.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod loom_support;

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use loom_support::{
    BODY_BYTES, Bodies, LoomMemory, LoomWord, LoomWords, NoAcquireFence, NoFullFence, NoReleaseFence, Role,
    Sound, Weak, World, explore, explore_within, finds_fault, finds_fault_within, message, outgoing,
};
use ringway_shm_protocol::memory::Word;
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::ring::{
    ClaimError, Claimed, Claimer, Claims, Feed, FeedRecord, Floor, Judge, Part, Settlement, SettlementWords,
    Settlements, Verdict, Watch,
};
use ringway_shm_protocol::words::{ClaimState, CursorWord};

const ONE: u32 = 1;
const TWO: u32 = 2;

/// A ring of two slots with one `shared` subscription, whose floor is the gate.
struct Queue {
    world: World,
    claims: LoomWords,
}

impl Queue {
    /// With messages at the first `published` positions.
    fn new(weak: Weak, turns: &[Role], bodies: Bodies, published: u64) -> Self {
        let world = World::with_bodies(2, weak, turns, bodies);
        world.shard::<Sound>().join(0, 1, &world.cursors[0], Start::First);
        let mut producer = world.producer::<Sound>(9, 0, 1);
        for position in 0..published {
            producer.publish(&outgoing(&message(position))).unwrap();
        }
        Self { world, claims: LoomWords::new(2, Role::Claim, weak, turns) }
    }

    fn claims<M: LoomMemory>(&self) -> Claims<M> {
        Claims::new(self.world.slots.clone(), self.claims.clone())
    }

    fn member<M: LoomMemory>(&self, member: u32) -> Claimer<M> {
        Claimer::new(self.claims(), None, member, 0)
    }

    fn floor<M: LoomMemory>(&self) -> Floor<M> {
        Floor::new(self.world.cursors[0].clone())
    }

    fn floor_position(&self) -> u64 {
        CursorWord::unpack(self.world.cursors[0].load(Ordering::Acquire)).position
    }
}

fn claim<M: LoomMemory>(member: &mut Claimer<M>) -> Option<Claimed> {
    claim_bytes(member).map(|(claimed, _)| claimed)
}

/// Claims the next message, which must be whole.
fn claim_bytes<M: LoomMemory>(member: &mut Claimer<M>) -> Option<(Claimed, Vec<u8>)> {
    let mut buffer = [0; BODY_BYTES];
    let claimed = match member.claim(&mut buffer) {
        Err(ClaimError::TakenOver { .. }) => None,
        claimed => claimed.expect("what is there is a message"),
    }?;
    let Part::Inline(payload) = claimed.received.payload(&buffer) else { panic!("no arenas here") };
    Some((claimed, payload.to_vec()))
}

/// The position of the next message, which must be whole, or of one that was taken over.
fn claim_intact_or_lose<M: LoomMemory>(member: &mut Claimer<M>) -> Result<u64, u64> {
    let mut buffer = [0; BODY_BYTES];
    match member.claim(&mut buffer) {
        Ok(Some(Claimed { received, .. })) => {
            let Part::Inline(payload) = received.payload(&buffer) else { panic!("no arenas here") };
            assert_eq!(payload, message(received.position), "torn or foreign message");
            Ok(received.position)
        }
        Err(ClaimError::TakenOver { position }) => Err(position),
        other => panic!("{other:?}"),
    }
}

fn claim_intact<M: LoomMemory>(member: &mut Claimer<M>) -> Option<u64> {
    let (claimed, payload) = claim_bytes(member)?;
    let position = claimed.received.position;
    assert_eq!(payload, message(position), "torn or foreign message");
    Some(position)
}

#[test]
fn two_members_never_have_the_same_message_and_together_they_have_all() {
    explore("claim: two members, two messages", || {
        let queue = Queue::new(Weak::Nothing, &[Role::Claim], Bodies::Checked, 2);
        let take = |number| {
            let mut member = queue.member::<Sound>(number);
            thread::spawn(move || {
                let mut mine = Vec::new();
                while let Some(position) = claim_intact(&mut member) {
                    mine.push(position);
                }
                mine
            })
        };
        let (one, two) = (take(ONE), take(TWO));
        let mut all = one.join().unwrap();
        all.extend(two.join().unwrap());
        all.sort_unstable();
        assert_eq!(all, [0, 1]);
    });
}

#[test]
fn a_message_is_claimed_or_given_up_and_never_both() {
    explore("claim: a member and a shard that gives up", || {
        let queue = Queue::new(Weak::Nothing, &[Role::Claim], Bodies::Checked, 2);
        let (mut member, shard) = (queue.member::<Sound>(ONE), queue.claims::<Sound>());
        let consumer = thread::spawn(move || {
            let mut mine = Vec::new();
            while let Some(position) = claim_intact(&mut member) {
                mine.push(position);
            }
            mine
        });
        let mut all: Vec<_> = (0..2).filter(|position| shard.give_up(*position)).collect();
        all.extend(consumer.join().unwrap());
        all.sort_unstable();
        assert_eq!(all, [0, 1]);
        assert!(!shard.give_up(2), "nothing is there yet");
        assert!((0..2).all(|position| !shard.give_up(position)), "nothing twice");
    });
}

/// A member that finds a slot unfinished looks past it, where by now the next one of the same producer is finished.
#[test]
fn what_one_producer_publishes_one_member_claims_in_its_order() {
    explore_within("claim: order of one producer", Some(3), || {
        let queue = Queue::new(Weak::Nothing, &[Role::Slot], Bodies::Checked, 0);
        let mut producer = queue.world.shared::<Sound>(9, 0, 1);
        let publishing = thread::spawn(move || {
            for position in 0..2 {
                producer.publish(&outgoing(&message(position))).unwrap();
            }
        });
        let mut member = queue.member::<Sound>(ONE);
        let mut seen: Vec<u64> = (0..2).filter_map(|_| claim_intact(&mut member)).collect();
        publishing.join().unwrap();
        while let Some(position) = claim_intact(&mut member) {
            seen.push(position);
        }
        assert_eq!(seen, [0, 1]);
    });
}

#[test]
fn a_message_is_acked_or_taken_over_and_never_both() {
    explore("claim: an ack against the shard", || {
        let queue = Queue::new(Weak::Nothing, &[Role::Claim], Bodies::Checked, 2);
        let mut member = queue.member::<Sound>(ONE);
        let settling = thread::spawn(move || {
            let position = claim_intact(&mut member)?;
            Some((position, member.ack(position)))
        });
        let claims = queue.claims::<Sound>();
        let mut moved = Vec::new();
        for _ in 0..2 {
            for leased in claims.leased(0, 2).collect::<Vec<_>>() {
                if claims.begin_move(leased.position, leased.member) {
                    let mut buffer = [0; BODY_BYTES];
                    claims.copy_out(leased.position, &mut buffer).unwrap();
                    claims.end_move(leased.position, leased.member);
                    moved.push(leased.position);
                }
            }
        }
        if let Some((position, acked)) = settling.join().unwrap() {
            assert_ne!(acked, moved.contains(&position), "one of both");
        }
        assert!(moved.len() <= 2);
    });
}

/// A shard that began to take a message over, and died; its successor knows nothing of it.
#[test]
fn a_move_that_is_undone_leaves_the_message_to_its_member_as_if_nothing_had_happened() {
    explore("claim: a move that is undone", || {
        let queue = Queue::new(Weak::Nothing, &[Role::Claim], Bodies::Checked, 1);
        let mut member = queue.member::<Sound>(ONE);
        let settling = thread::spawn(move || {
            // One that was moving is to be given back, so it is not acked here.
            let position = claim_intact_or_lose(&mut member).ok()?;
            Some(member.ack(position))
        });
        let shard = queue.claims::<Sound>();
        if shard.begin_move(0, ONE) {
            assert!(shard.undo_move(0, ONE), "only the shard changes what is moving");
        }
        let acked = settling.join().unwrap();
        let expected = if acked == Some(true) { ClaimState::Acked } else { ClaimState::Leased };
        assert_eq!(shard.word(0).state, expected);
        // What the member says by its settlement ring finds it as it was.
        assert_eq!(shard.ack(0, ONE), acked != Some(true));
        assert!(queue.floor::<Sound>().raise(&shard));
    });
}

#[test]
fn after_a_death_every_message_is_settled_or_taken_over_once() {
    explore_within("claim: death between two claims", Some(3), || {
        let queue = Queue::new(Weak::Nothing, &[Role::Claim], Bodies::Checked, 2);
        let mut doomed = queue.member::<Sound>(ONE);
        let dying = thread::spawn(move || {
            let first = claim_intact(&mut doomed);
            let acked = first.filter(|position| doomed.ack(*position));
            claim_intact(&mut doomed);
            acked
        });
        let mut other = queue.member::<Sound>(TWO);
        let settling = thread::spawn(move || {
            let position = claim_intact(&mut other);
            position.filter(|position| other.ack(*position))
        });
        let acked = dying.join().unwrap();
        let claims = queue.claims::<Sound>();
        let mut moved = Vec::new();
        for leased in claims.leased(0, 2).filter(|leased| leased.member == ONE).collect::<Vec<_>>() {
            assert!(claims.begin_move(leased.position, ONE), "nobody settles for the dead");
            claims.end_move(leased.position, ONE);
            moved.push(leased.position);
        }
        let mut all: Vec<u64> = acked.into_iter().chain(settling.join().unwrap()).chain(moved).collect();
        all.sort_unstable();
        let before = all.len();
        all.dedup();
        assert_eq!(all.len(), before, "none twice");
        queue.floor::<Sound>().raise(&claims);
        assert_eq!(queue.floor_position() as usize, all.len(), "what is neither holds the floor");
    });
}

/// One member settles, another raises the floor, and the producer writes the slot again.
fn a_slot_is_written_again(weak: Weak) {
    let queue = Queue::new(weak, &[Role::Claim, Role::Cursor], Bodies::Checked, 2);
    let mut member = queue.member::<Sound>(ONE);
    let settling = thread::spawn(move || {
        let position = claim_intact(&mut member).unwrap();
        assert!(member.ack(position));
    });
    let (floor, claims) = (queue.floor::<Sound>(), queue.claims::<Sound>());
    let raising = thread::spawn(move || floor.raise(&claims));
    let mut producer = queue.world.producer::<Sound>(9, 2, 1);
    let _ = producer.publish(&outgoing(&message(2)));
    settling.join().unwrap();
    raising.join().unwrap();
}

#[test]
fn a_slot_is_written_again_only_when_its_message_was_copied() {
    explore_within("claim: floor", Some(3), || a_slot_is_written_again(Weak::Nothing));
}

#[test]
fn acks_that_do_not_release_and_floors_that_do_not_order_let_a_slot_go_too_early() {
    let race = &["Causality violation"];
    finds_fault_within("claim: ack without release", Some(3), race, || {
        a_slot_is_written_again(Weak::ExchangeRelease(Role::Claim));
    });
    finds_fault_within("claim: settled without acquire", Some(3), race, || {
        a_slot_is_written_again(Weak::Acquire(Role::Claim));
    });
    finds_fault_within("claim: floor without release", Some(3), race, || {
        a_slot_is_written_again(Weak::ExchangeRelease(Role::Cursor));
    });
}

/// The shard takes a message over while its member copies it, and the slot is written again.
fn a_lease_ends_while_its_member_copies<M: LoomMemory>() {
    let queue = Queue::new(Weak::Nothing, &[Role::Claim], Bodies::Racing, 2);
    let mut member = queue.member::<M>(ONE);
    let copying = thread::spawn(move || claim_intact_or_lose(&mut member));
    // The shard's own fence would do the producer's work here, where one thread is both.
    let claims = queue.claims::<NoFullFence>();
    let mut moved = false;
    for leased in claims.leased(0, 1).collect::<Vec<_>>() {
        if claims.begin_move(leased.position, leased.member) {
            claims.end_move(leased.position, leased.member);
            moved = true;
        }
    }
    if queue.floor().raise(&claims) {
        // As a producer that marks what it writes: its readers may look at a slot meanwhile.
        let mut producer = queue.world.shared::<M>(9, 2, 1);
        producer.publish(&outgoing(&message(2))).unwrap();
    }
    // What the member does not return, because the shard took it over, it knows of.
    let position = copying.join().unwrap().unwrap_or_else(|taken_over| {
        assert!(moved);
        taken_over
    });
    assert_eq!(position, 0);
}

#[test]
fn what_a_member_copied_while_its_lease_was_taken_away_is_not_returned() {
    explore("claim: second look", a_lease_ends_while_its_member_copies::<Sound>);
    let torn = &["torn or foreign"];
    finds_fault("claim: second look not behind the copy", torn, || {
        a_lease_ends_while_its_member_copies::<NoAcquireFence>();
    });
    finds_fault("claim: overwriting not behind the floor", torn, || {
        a_lease_ends_while_its_member_copies::<NoReleaseFence>();
    });
}

/// Two members settle one message each, and each raises the floor.
fn two_members_raise_the_floor<M: LoomMemory>() {
    let queue = Queue::new(Weak::Nothing, &[], Bodies::Checked, 2);
    let settle = |number| {
        let mut member = queue.member::<M>(number);
        let position = claim(&mut member).unwrap().received.position;
        let (floor, claims) = (queue.floor::<M>(), queue.claims::<M>());
        thread::spawn(move || {
            assert!(member.ack(position));
            floor.raise(&claims);
        })
    };
    let (one, two) = (settle(ONE), settle(TWO));
    one.join().unwrap();
    two.join().unwrap();
    assert_eq!(queue.floor_position(), 2, "a settled message holds the floor");
}

#[test]
fn the_floor_is_where_it_can_be_when_all_have_raised_it() {
    explore("claim: two raise the floor", two_members_raise_the_floor::<Sound>);
    finds_fault(
        "claim: floor without a fence",
        &["holds the floor"],
        two_members_raise_the_floor::<NoFullFence>,
    );
}

/// The shard takes a message of the feed back while its member copies it, and writes another one into its slot.
fn a_feed_slot_is_used_again<M: LoomMemory>() {
    let world = World::with_bodies(2, Weak::Nothing, &[Role::Claim], Bodies::Racing);
    let words = LoomWords::new(2, Role::Claim, Weak::Nothing, &[Role::Claim]);
    let records = LoomWords::new(4, Role::Record, Weak::Nothing, &[]);
    let claims = || Claims::<M>::new(world.slots.clone(), words.clone());
    let mut feed = Feed::<M>::new(claims(), world.slots.clone(), records.clone());
    let record = |position| FeedRecord { position, acquired: position as u32, failed: 7 };
    for position in 0..2 {
        assert_eq!(feed.write(record(position), &outgoing(&message(position))), position);
    }
    let mut member = Claimer::<M>::new(claims(), Some(records), ONE, 0);
    let copying = thread::spawn(move || {
        let (claimed, payload) = claim_bytes(&mut member)?;
        let record = FeedRecord::unpack(claimed.record);
        let position = claimed.received.position;
        assert_eq!((payload, record.position), (message(position), position), "torn or foreign message");
        Some(())
    });
    if feed.claims().begin_move(0, ONE) {
        feed.claims().end_move(0, ONE);
        feed.reuse();
        assert_eq!(feed.write(record(2), &outgoing(&message(2))), 2);
    }
    copying.join().unwrap();
}

#[test]
fn a_feed_slot_is_used_again_only_when_nobody_returns_what_was_there() {
    explore("claim: feed", a_feed_slot_is_used_again::<Sound>);
    let torn = &["torn or foreign"];
    finds_fault("claim: feed, second look not behind the copy", torn, || {
        a_feed_slot_is_used_again::<NoAcquireFence>();
    });
    finds_fault("claim: feed, writing not behind the harvest", torn, || {
        a_feed_slot_is_used_again::<NoReleaseFence>();
    });
}

fn settlement_words(weak: Weak) -> SettlementWords<Sound> {
    let turns = [Role::Called, Role::Count];
    let word = |role| Arc::new(LoomWord::new(role, weak, &turns));
    SettlementWords {
        called: word(Role::Called),
        written: word(Role::Count),
        judged: word(Role::Count),
        late: word(Role::Record),
        entries: LoomWords::new(8, Role::Record, weak, &[]),
    }
}

fn copy_of(words: &SettlementWords<Sound>) -> SettlementWords<Sound> {
    SettlementWords {
        called: words.called.clone(),
        written: words.written.clone(),
        judged: words.judged.clone(),
        late: words.late.clone(),
        entries: words.entries.clone(),
    }
}

/// A member leaves two settlements and calls; the shard looks as often as it is called.
fn two_settlements(weak: Weak) {
    let words = settlement_words(weak);
    let mut member = Settlements::new(copy_of(&words));
    let calls = Arc::new(AtomicU32::new(0));
    let rung = calls.clone();
    let settlement = |position| Settlement { position, attempt: 1, verdict: Verdict::Reject };
    let settling = thread::spawn(move || {
        for position in [5, 6] {
            member.write(settlement(position)).unwrap();
            if member.call() {
                // The eventfd: a system call each way orders all of both sides.
                rung.fetch_add(1, Ordering::AcqRel);
            }
        }
    });
    let mut judge = Judge::new(words);
    let mut judged = Vec::new();
    let mut look = |judged: &mut Vec<u64>| {
        if calls.swap(0, Ordering::AcqRel) > 0 {
            judge.answer_call();
            while let Some(found) = judge.next_settlement() {
                assert_eq!(found, settlement(found.position), "a torn settlement");
                judged.push(found.position);
            }
            judge.confirm();
        }
    };
    look(&mut judged);
    look(&mut judged);
    settling.join().unwrap();
    look(&mut judged);
    assert_eq!(judged, [5, 6], "overheard");
}

#[test]
fn every_settlement_is_judged_by_a_shard_that_looks_when_called() {
    explore("claim: settlements", || two_settlements(Weak::Nothing));
    finds_fault("claim: calls without release", &["overheard"], || {
        two_settlements(Weak::Release(Role::Called));
    });
    finds_fault("claim: looks without acquire", &["overheard"], || {
        two_settlements(Weak::Acquire(Role::Called));
    });
    finds_fault("claim: settlements without release", &["torn", "overheard"], || {
        two_settlements(Weak::Release(Role::Count));
    });
}

/// The shard stops watching while a member claims.
fn the_shard_stops_watching<M: LoomMemory>() {
    let queue = Queue::new(Weak::Nothing, &[Role::Claim, Role::Watch], Bodies::Checked, 1);
    let word = Arc::new(LoomWord::new(Role::Watch, Weak::Nothing, &[Role::Watch]));
    let (of_member, of_shard) = (Watch::<M>::new(word.clone()), Watch::<M>::new(word));
    assert!(of_shard.begin());
    let mut member = queue.member::<M>(ONE);
    let claiming = thread::spawn(move || {
        claim(&mut member).unwrap();
        of_member.must_call()
    });
    let claims = queue.claims::<M>();
    let stopped = of_shard.end(|| claims.leased(0, 1).next().is_some());
    let called = claiming.join().unwrap();
    assert!(!stopped || called, "a lease that nobody watches");
    assert_eq!(claims.word(0).state, ClaimState::Leased);
}

#[test]
fn no_lease_goes_unwatched() {
    explore("claim: watch", the_shard_stops_watching::<Sound>);
    finds_fault("claim: watch without a fence", &["nobody watches"], the_shard_stops_watching::<NoFullFence>);
}
