//! What if a client talks nonsense to the control socket? It is told why and hung up on, and a canary session
//! on the same broker notices nothing.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::os::fd::{AsFd, OwnedFd};

use ringway_client::{Connection, SharedSettings};
use ringway_shm_protocol::control::frame::{self, Kind, PACKET_BYTES_MAX};
use ringway_shm_protocol::control::message::{Reply, Request, StartAt, StreamSettings};
use ringway_shm_protocol::control::socket;
use ringway_tests::{Heard, Peer, RawSession, TestBroker, hello};

const SETTINGS: StreamSettings = StreamSettings { slots: 64, slot_bytes: 64, ..StreamSettings::DEFAULT };

fn declare(name: impl AsRef<[u8]>) -> Request {
    Request::DeclareStream { name: name.as_ref().to_vec(), settings: SETTINGS, queue: None }
}

/// A session that works before, and must work after.
struct Canary(RawSession);

impl Canary {
    fn on(broker: &TestBroker) -> Self {
        let mut session = RawSession::open(&broker.path());
        assert!(matches!(session.ask(&declare("canary")), Reply::Stream(_)));
        Self(session)
    }

    fn still_sings(mut self) {
        let reply = self.0.ask(&Request::DescribeStream { name: b"canary".to_vec() });
        assert!(matches!(reply, Reply::Stream(stream) if stream.name == "canary"));
        let Reply::Streams { page, .. } = self.0.ask(&Request::ListStreams { after: Vec::new() }) else {
            panic!("a list was asked for")
        };
        assert_eq!(page.len(), 1, "nobody else made a stream");
    }
}

/// What a fresh session hears when it sends `packet` first.
fn refusal_of_first(broker: &TestBroker, packet: &[u8]) -> String {
    let session = RawSession::connect(&broker.path());
    session.send(packet);
    session.hear_refusal()
}

/// What a proper session hears when it sends `packet`.
fn refusal_of_later(broker: &TestBroker, packet: &[u8]) -> String {
    let session = RawSession::open(&broker.path());
    session.send(packet);
    session.hear_refusal()
}

#[test]
fn garbage_is_refused_with_what_was_wrong() {
    let broker = TestBroker::start();
    let canary = Canary::on(&broker);
    assert!(
        refusal_of_first(&broker, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").contains("must begin with \"RWC1\"")
    );
    assert!(refusal_of_first(&broker, b"x").contains("too short"));
    assert!(refusal_of_first(&broker, &[0; 16]).contains("must begin with"));
    let mut unknown = hello(1, 1);
    unknown[6] = 99;
    assert!(refusal_of_first(&broker, &unknown).contains("kind 99 are not known"));
    let noise = frame::packet(Kind::Request, 1, &[0xff; 40]);
    assert!(refusal_of_later(&broker, &noise).contains("is no request"));
    let reply = frame::encode(Kind::Reply, 1, &Reply::Done).unwrap();
    assert!(refusal_of_later(&broker, &reply).contains("does not send Reply"));
    canary.still_sings();
}

#[test]
fn truncated_and_overlong_messages_are_refused() {
    let broker = TestBroker::start();
    let canary = Canary::on(&broker);
    let whole = frame::encode(Kind::Request, 1, &declare("some-stream")).unwrap();
    for length in 1..whole.len() {
        let reason = refusal_of_later(&broker, &whole[..length]);
        assert!(reason.contains("too short") || reason.contains("announces a body"), "{length}: {reason}");
    }
    // A header that fits a body that ends too early, or too late.
    for (cut, expected) in [(whole.len() - 1, "is no request"), (18, "is no request")] {
        let reason = refusal_of_later(&broker, &frame::packet(Kind::Request, 1, &whole[16..cut]));
        assert!(reason.contains(expected), "{reason}");
    }
    let longer = frame::packet(Kind::Request, 1, &[&whole[16..], b"more"].concat());
    assert!(refusal_of_later(&broker, &longer).contains("it goes on for 4 bytes"));
    canary.still_sings();
}

#[test]
fn oversized_packets_are_refused_not_cut() {
    let broker = TestBroker::start();
    let canary = Canary::on(&broker);
    let large = frame::packet(Kind::Request, 1, &vec![0; PACKET_BYTES_MAX]);
    assert!(refusal_of_later(&broker, &large).contains("too large"));
    canary.still_sings();
}

#[test]
fn messages_out_of_order_are_refused() {
    let broker = TestBroker::start();
    let canary = Canary::on(&broker);
    let request = frame::encode(Kind::Request, 1, &declare("early")).unwrap();
    assert!(refusal_of_first(&broker, &request).contains("begins with a hello"));
    assert!(refusal_of_later(&broker, &hello(1, 1)).contains("said hello already"));
    canary.still_sings();
}

#[test]
fn another_protocol_version_is_refused_with_both_versions() {
    let broker = TestBroker::start();
    let canary = Canary::on(&broker);
    let reason = refusal_of_first(&broker, &hello(7, 9));
    assert!(reason.contains("speaks protocol version 1, the client versions 7 to 9"), "{reason}");
    let mut request = frame::encode(Kind::Request, 1, &declare("x")).unwrap();
    request[4] = 7;
    assert!(
        refusal_of_later(&broker, &request).contains("speaks protocol version 7, this session version 1")
    );
    canary.still_sings();
}

#[test]
fn a_required_feature_that_is_not_known_is_refused() {
    let broker = TestBroker::start();
    let hello = frame::Hello {
        version_min: 1,
        version_max: 1,
        reserved: 0,
        features_required: 1 << 40,
        features_optional: u64::MAX,
    };
    let reason = refusal_of_first(&broker, &frame::encode_fixed(Kind::Hello, 0, &hello));
    assert!(reason.contains("0x10000000000"), "{reason}");
}

#[test]
fn descriptors_that_nobody_asked_for_are_refused_and_closed() {
    let broker = TestBroker::start();
    let canary = Canary::on(&broker);
    let (reader, writer) = std::io::pipe().unwrap();
    let session = RawSession::open(&broker.path());
    let packet = frame::encode(Kind::Request, 1, &declare("x")).unwrap();
    socket::send(&session.socket, &packet, &[writer.as_fd(), writer.as_fd()]).unwrap();
    assert!(session.hear_refusal().contains("2 descriptors came with a packet"));
    drop(writer);
    // Reads the end of the pipe only when the broker has closed its copies.
    assert_eq!(std::io::read_to_string(reader).unwrap(), "");
    canary.still_sings();
}

#[test]
fn names_that_cannot_be_are_refused_and_the_session_goes_on() {
    let broker = TestBroker::start();
    let mut session = RawSession::open(&broker.path());
    let long = "x".repeat(201);
    let cases: [(&[u8], &str); 7] = [
        (b"", "may not be empty"),
        (long.as_bytes(), "201 bytes is too long"),
        (b"a/b", "may not hold '/'"),
        (b"a\0b", "may not hold '\\0'"),
        (b"a\nb", "may not hold '\\n'"),
        (b"a\xff", "must be UTF-8: byte 1"),
        (b"..", "may not be '.' or '..'"),
    ];
    for (name, expected) in cases {
        let message = session.ask_in_vain(&declare(name));
        assert!(message.contains(expected), "{name:?}: {message}");
    }
    assert!(matches!(session.ask(&declare("good")), Reply::Stream(_)));
    for (name, expected) in cases {
        let (stream, name, start) = (b"good".to_vec(), name.to_vec(), StartAt::Next);
        let message = session.ask_in_vain(&Request::DeclareSubscription { stream, name, start, mode: None });
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn sizes_that_cannot_be_are_refused_with_the_next_that_can() {
    let broker = TestBroker::start();
    let mut session = RawSession::open(&broker.path());
    let mut refused = |slots, slot_bytes| {
        let settings = StreamSettings { slots, slot_bytes, ..StreamSettings::DEFAULT };
        session.ask_in_vain(&Request::DeclareStream { name: b"s".to_vec(), settings, queue: None })
    };
    assert!(refused(1000, 64).contains("the nearest is 1024"));
    assert!(refused(0, 64).contains("power of two"));
    assert!(refused(u64::MAX, 64).contains("power of two"));
    assert!(refused(1024, 65).contains("the nearest is 128"));
    assert!(refused(1 << 30, 4096).contains("at the most"));
}

#[test]
fn endpoints_of_others_and_of_nobody_are_not_found() {
    let broker = TestBroker::start();
    let canary = Canary::on(&broker);
    let mut one = RawSession::open(&broker.path());
    let Reply::Producer(grant) =
        one.ask(&Request::OpenProducer { stream: b"canary".to_vec(), partition: 0, name: None })
    else {
        panic!("a producer was asked for")
    };
    let mut other = RawSession::open(&broker.path());
    for endpoint in [grant.endpoint, 0, u64::MAX] {
        assert!(other.ask_in_vain(&Request::Close { endpoint }).contains("no endpoint"), "{endpoint}");
        let gate = Request::OpenGate { endpoint, gate: 200, generation: u16::MAX };
        assert!(other.ask_in_vain(&gate).contains("no endpoint"), "{endpoint}");
    }
    let gate = Request::OpenGate { endpoint: grant.endpoint, gate: 0, generation: 1 };
    assert!(one.ask_in_vain(&gate).contains("look again"));
    assert_eq!(one.ask(&Request::Close { endpoint: grant.endpoint }), Reply::Done);
    canary.still_sings();
}

#[test]
fn a_client_that_says_nothing_is_hung_up_on_and_holds_nobody_up() {
    let broker = TestBroker::start_with(|config| config.hello_timeout_ms = 200);
    let canary = Canary::on(&broker);
    let silent: Vec<_> = (0..20).map(|_| RawSession::connect(&broker.path())).collect();
    let mut busy = RawSession::open(&broker.path());
    assert!(matches!(busy.ask(&declare("canary")), Reply::Stream(_)));
    for session in silent {
        assert!(session.hear_refusal().contains("no hello came within 200 ms"));
    }
    canary.still_sings();
}

#[test]
fn a_client_that_floods_without_reading_is_slowed_down_and_loses_only_itself() {
    let broker = TestBroker::start();
    let canary = Canary::on(&broker);
    let flood = RawSession::open(&broker.path());
    rustix::io::ioctl_fionbio(&flood.socket, true).unwrap();
    let request = frame::encode(Kind::Request, 1, &Request::ListStreams { after: Vec::new() }).unwrap();
    let mut sent = 0;
    while socket::send(&flood.socket, &request, &[]).is_ok() && sent < 1_000_000 {
        sent += 1;
    }
    assert!(sent < 1_000_000, "the flood was never slowed down");
    canary.still_sings();
}

#[test]
fn sessions_above_the_limit_are_refused_with_the_limit() {
    let broker = TestBroker::start_with(|config| config.sessions_max = 3);
    let sessions: Vec<_> = (0..3).map(|_| RawSession::open(&broker.path())).collect();
    let one_more = RawSession::connect(&broker.path());
    assert!(one_more.hear_refusal().contains("has 3 sessions, its limit"));
    drop(sessions);
    ringway_tests::eventually("a place is free again", || {
        let session = RawSession::connect(&broker.path());
        session.send(&hello(1, 1));
        matches!(session.hear(), Heard::Welcome)
    });
}

#[test]
fn at_the_descriptor_limit_the_broker_says_so_and_recovers() {
    // A session takes two descriptors: once they run out before a session, once in the middle of one.
    for limit in [64, 65] {
        at_the_descriptor_limit(limit);
    }
}

fn at_the_descriptor_limit(limit: u32) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker");
    let program = env!("CARGO_BIN_EXE_ringway-test-peer");
    let mut broker = Peer::start(program, &["broker", path.to_str().unwrap(), &limit.to_string()]);
    assert_eq!(broker.line(), "serving");
    let mut canary = RawSession::open(&path);
    assert!(matches!(canary.ask(&declare("canary")), Reply::Stream(_)));

    // Sessions until no more can be had; each refusal names the limit.
    let mut sessions = Vec::new();
    let reason = loop {
        let session = RawSession::connect(&path);
        // One that is refused may be hung up already.
        let _ = socket::send(&session.socket, &hello(1, 1), &[]);
        match session.hear() {
            Heard::Welcome => sessions.push(session),
            Heard::Refused(reason) => break reason,
            other => panic!("{other:?}"),
        }
        assert!(sessions.len() < 64);
    };
    assert!(reason.contains(&format!("no file descriptor left (limit {limit})")), "{reason}");

    // A ring needs descriptors too: refused clearly, and the session goes on.
    let message =
        canary.ask_in_vain(&Request::OpenProducer { stream: b"canary".to_vec(), partition: 0, name: None });
    assert!(message.contains("Too many open files"), "{message}");
    drop(sessions);
    ringway_tests::eventually("descriptors are free again", || {
        matches!(
            canary.ask(&Request::OpenProducer { stream: b"canary".to_vec(), partition: 0, name: None }),
            Reply::Producer(_)
        )
    });
}

/// Opens queue "q" as a consumer and keeps the descriptors as they came: six regions, and the session's eventfd.
fn open_member(session: &RawSession, request: u32) -> Vec<OwnedFd> {
    let open = Request::OpenConsumer { stream: b"q".to_vec(), partition: 0, subscription: b"q".to_vec() };
    session.send(&frame::encode(Kind::Request, request, &open).unwrap());
    let packet = socket::receive(&session.socket).unwrap();
    let reply = frame::Frame::parse(&packet.bytes).unwrap().message("reply").unwrap();
    assert!(matches!(reply, Reply::Member(_)), "{reply:?}");
    packet.descriptors
}

#[test]
fn a_consumer_that_scribbles_over_all_that_it_may_write_harms_its_own_queue_alone() {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    let settings = StreamSettings { slots: 64, slot_bytes: 64, ..StreamSettings::DEFAULT };
    let dead_letter = Some("safe".to_owned());
    let usual = SharedSettings { lease_ms: 40, ..SharedSettings::default() };
    connection.declare_queue("safe", settings, usual.clone()).unwrap();
    connection.declare_queue("q", settings, SharedSettings { dead_letter, ..usual }).unwrap();
    let mut producer = connection.producer("q").open().unwrap();
    let mut safe =
        (connection.producer("safe").open().unwrap(), connection.queue_consumer("safe").open().unwrap());

    let session = RawSession::open(&broker.path());
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..60_u64 {
        let descriptors = open_member(&session, round as u32 + 1);
        let [_meta, _slots, doorbell, subscription, claims, _feed, member, eventfd] = &descriptors[..] else {
            panic!("{descriptors:?}")
        };
        for _ in 0..2000 {
            let (region, words) = match random() % 4 {
                0 => (doorbell, 512),
                1 => (subscription, 512),
                2 => (claims, 640),
                _ => (member, 4608),
            };
            // Words that could be, as well as any: laps and members are small.
            let word = match random() % 3 {
                0 => random(),
                1 => ((random() % 4) << 24) | ((random() % 8) << 21) | (random() % 4),
                _ => random() % 70,
            };
            let at = 64 + random() % (words - 8) * 8;
            rustix::io::pwrite(region, &word.to_le_bytes(), at).unwrap();
        }
        rustix::io::write(eventfd, &1_u64.to_ne_bytes()).unwrap();
        let _ = producer.try_send(&round.to_le_bytes());
        // What dies of it goes to a stream where all is well.
        safe.0.send(b"song").unwrap();
        loop {
            let delivery = safe.1.recv_timeout(ringway_tests::PATIENCE).unwrap().expect("it comes");
            let is_song = delivery.payload() == b"song";
            delivery.ack().unwrap();
            if is_song {
                break;
            }
        }
    }
    assert!(connection.subscription("q", "q").unwrap().shared().consumers > 0);
    drop(session);
    assert_eq!(connection.subscription("safe", "safe").unwrap().shared().consumers, 1);
}
