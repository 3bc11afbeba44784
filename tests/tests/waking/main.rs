//! What of those who sleep: is everybody woken by everything that concerns them, also one who waits for a thousand
//! subscriptions at once?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ringway_client::{
    Connection, Consumer, Producer, RecvError, StartAt, StreamSettings, WaitSet, WaitStrategy,
};
use ringway_tests::{PATIENCE, TestBroker, connect, litmus};

const AT_ONCE: WaitStrategy = WaitStrategy::Adaptive { spin: Duration::ZERO };

/// So many streams with a subscription each.
fn streams(connection: &Connection, count: usize) -> (Vec<Producer>, Vec<Consumer>) {
    let settings = StreamSettings { slots: 16, slot_bytes: 64, ..StreamSettings::DEFAULT };
    (0..count)
        .map(|number| {
            let name = format!("s{number}");
            connection.declare_stream(&name, settings).unwrap();
            connection.declare_subscription(&name, "a", StartAt::First).unwrap();
            let producer = connection.producer(&name).wait(AT_ONCE).open().unwrap();
            (producer, connection.consumer(&name, "a").open().unwrap())
        })
        .unzip()
}

/// A generator of numbers below `below`.
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

#[test]
fn one_wait_covers_a_thousand_subscriptions_and_misses_no_message() {
    let broker = TestBroker::start();
    let connection = connect(broker.path()).unwrap();
    let (mut producers, consumers) = streams(&connection, 1000);
    let mut set = WaitSet::new().with_wait(AT_ONCE);
    let keys: Vec<_> = consumers.into_iter().map(|consumer| set.add(consumer)).collect();
    assert_eq!(set.len(), 1000);
    const MESSAGES: u64 = 3000;
    let (all_received, go_on) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut number = numbers(7);
            for message in 0..MESSAGES {
                // Each third message only when all before were received, so that the set sleeps.
                if message % 3 == 0 && go_on.recv().is_err() {
                    return;
                }
                producers[number(1000)].send(&message.to_le_bytes()).unwrap();
            }
        });
        // Dropped in a panic, too: then the producer ends.
        let all_received = all_received;
        let mut seen = vec![false; MESSAGES as usize];
        for message in 0..MESSAGES {
            if message % 3 == 0 {
                all_received.send(()).unwrap();
            }
            while !seen[message as usize] {
                let ready = set.wait(PATIENCE).unwrap().to_vec();
                assert!(!ready.is_empty(), "message {message} was slept through");
                assert_eq!(set.found_late(), 0, "no bell rang for message {message}");
                for key in ready {
                    assert!(keys.contains(&key));
                    let consumer = set.get_mut(key).unwrap();
                    while let Some(found) = consumer.try_recv().unwrap() {
                        let found = u64::from_le_bytes(found.payload().try_into().unwrap());
                        assert!(!std::mem::replace(&mut seen[found as usize], true), "{found} came twice");
                    }
                }
            }
        }
    });
}

#[test]
fn producers_at_full_speed_wake_a_set_that_sleeps_and_are_woken_by_it() {
    let broker = TestBroker::start();
    let connection = connect(broker.path()).unwrap();
    let (mut producers, consumers) = streams(&connection, 300);
    let mut set = WaitSet::new().with_wait(AT_ONCE);
    consumers.into_iter().for_each(|consumer| {
        set.add(consumer);
    });
    const EACH: u64 = 100;
    thread::scope(|scope| {
        for (at, producers) in producers.chunks_mut(100).enumerate() {
            scope.spawn(move || {
                let mut number = numbers(at as u64 + 1);
                let mut next = vec![0_u64; producers.len()];
                for _ in 0..EACH * producers.len() as u64 {
                    let who = number(producers.len());
                    if next[who] < EACH {
                        producers[who].send_timeout(&next[who].to_le_bytes(), PATIENCE).unwrap();
                        next[who] += 1;
                    }
                }
                for (producer, next) in producers.iter_mut().zip(next) {
                    for number in next..EACH {
                        producer.send_timeout(&number.to_le_bytes(), PATIENCE).unwrap();
                    }
                }
            });
        }
        let mut left = 300 * EACH;
        while left > 0 {
            let ready = set.wait(PATIENCE).unwrap().to_vec();
            assert!(!ready.is_empty(), "{left} messages were slept through");
            assert_eq!(set.found_late(), 0, "a bell did not ring");
            for key in ready {
                let consumer = set.get_mut(key).unwrap();
                while let Some(message) = consumer.try_recv().unwrap() {
                    assert_eq!(message.payload(), message.position().to_le_bytes());
                    left -= 1;
                }
            }
        }
    });
}

#[test]
fn a_consumer_that_fails_is_named_and_the_others_go_on_without_it() {
    let (first, second) = (TestBroker::start(), TestBroker::start());
    let (one, other) = (connect(first.path()).unwrap(), connect(second.path()).unwrap());
    let (_producers, consumers) = streams(&one, 2);
    let (mut producers, others) = streams(&other, 140);
    let mut set = WaitSet::new().with_wait(AT_ONCE);
    assert!(set.is_empty() && set.wait(Duration::from_millis(1)).unwrap().is_empty());
    let keys: Vec<_> = consumers.into_iter().map(|consumer| set.add(consumer)).collect();
    let others: Vec<_> = others.into_iter().map(|consumer| set.add(consumer)).collect();
    first.stop();
    for _ in 0..2 {
        let error = set.wait(PATIENCE).unwrap_err();
        assert!(matches!(error.source, RecvError::Disconnected) && keys.contains(&error.key), "{error:?}");
        assert!(set.remove(error.key).is_some() && set.remove(error.key).is_none());
    }
    for (producer, key) in producers.iter_mut().zip(&others) {
        producer.send(b"x").unwrap();
        let ready = set.wait(PATIENCE).unwrap().to_vec();
        assert_eq!(ready, [*key]);
        assert_eq!(set.get_mut(*key).unwrap().try_recv().unwrap().unwrap().payload(), b"x");
    }
    let taken = set.remove(others[7]).unwrap();
    assert_eq!(set.len(), 139);
    drop(set);
    assert_eq!(taken.positions()[0].position, 1);
}

/// That every sleep is announced and answered. That it takes the fence, the models show, and the litmus test in full length
/// on optimized code (VERIFY.md): between two instructions of a debug build a store has long arrived.
#[test]
fn no_wake_up_is_lost_on_this_machine() {
    let found = litmus::run(20_000, 1, false);
    assert_eq!(found.lost, 0, "{found:?}");
    assert!(found.sleeps >= 20_000);
}
