//! What if the broker answers wrongly, or not at all? Every case is a clear error, and what was granted is given
//! back.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod fake;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use fake::Broker;
use fake::partition::{Partition, refusal, serve, serve_with};
use ringway_client::{
    AdminError, ConnectError, Connection, OpenError, ProtocolError, RefusalCode, RegionError, SendError,
    StartAt,
};
use ringway_shm_protocol::control::frame::{self, Kind};
use ringway_shm_protocol::control::message::{ConsumerGrant, ProducerGrant, Reply, Request, Visibility};
use ringway_shm_protocol::layout::{self, RegionKind};
use ringway_shm_protocol::memory::mapped::{Access, Identity, OwnedRegion};
use rustix::fs::{MemfdFlags, memfd_create};

#[test]
fn a_path_that_no_socket_can_have_is_refused_with_its_length() {
    let error = Connection::open("/".repeat(2) + &"d".repeat(120)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ConnectError::PathTooLong { bytes: 135, bytes_max: 107, .. }), "{error:?}");
    assert!(text.contains("has 135 bytes, a socket's may have 107: choose a directory"), "{text}");
}

#[test]
fn where_no_broker_is_the_error_says_how_to_start_one() {
    let empty = tempfile::tempdir().unwrap();
    let missing = empty.path().join("missing");
    for directory in [empty.path(), &missing] {
        let error = Connection::open(directory).unwrap_err();
        let shown = directory.display();
        assert_eq!(
            error.to_string(),
            format!("no broker answers in {shown}: start one with `ringway serve --dir {shown}`")
        );
        assert!(error.is_retryable());
    }
}

#[test]
fn a_socket_that_a_dead_broker_left_behind_counts_as_no_broker() {
    let broker = Broker::start(drop);
    let directory = broker.directory().to_owned();
    let _ = Connection::open(&directory);
    // The listener ends with the script, the file stays.
    let error = loop {
        match Connection::open(&directory) {
            Err(ConnectError::Disconnected { .. }) => {}
            other => break other.unwrap_err(),
        }
    };
    assert!(matches!(error, ConnectError::NoBroker { .. }), "{error:?}");
}

#[test]
fn a_broker_of_another_version_is_shown_in_its_own_words() {
    // Refuses before it has read anything, and hangs up.
    let broker = Broker::start(|client| {
        let mut packet = frame::packet(Kind::Refused, 0, "this broker speaks version 7: update".as_bytes());
        packet[4] = 7;
        client.say(&packet);
    });
    let error = Connection::open(broker.directory()).unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert_eq!(error.to_string(), "this broker speaks version 7: update");
}

#[test]
fn a_welcome_of_another_version_is_no_welcome() {
    let broker = Broker::start(|client| {
        let mut welcome = [0; 24];
        welcome[0] = 2;
        client.say(&frame::packet(Kind::Welcome, 0, &welcome));
        client.hear();
    });
    let error = Connection::open(broker.directory()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.ends_with(
            "the broker speaks protocol version 2, this client version 1: use the broker's version"
        )
    );
}

#[test]
fn garbage_instead_of_a_welcome_is_a_protocol_error() {
    let cases: [(&[u8], &str); 4] = [
        (b"short", "too short"),
        (b"HTTP/1.1 400 Bad Request", "must begin with \"RWC1\""),
        (&frame::packet(Kind::Welcome, 0, &[1; 5]), "is no welcome"),
        (&frame::packet(Kind::Reply, 0, &[]), "a reply instead of a welcome"),
    ];
    for (packet, expected) in cases {
        let packet = packet.to_vec();
        let broker = Broker::start(move |client| {
            client.say(&packet);
            client.hear();
        });
        let error = Connection::open(broker.directory()).unwrap_err();
        assert!(matches!(error, ConnectError::Protocol { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_broker_that_hangs_up_is_gone_and_stays_gone() {
    let broker = Broker::start(drop);
    let error = Connection::open(broker.directory()).unwrap_err();
    assert!(matches!(error, ConnectError::Disconnected { .. }), "{error:?}");

    let broker = Broker::welcoming(|client| {
        client.request().unwrap();
    });
    let connection = broker.connect();
    assert!(connection.is_open());
    assert!(matches!(connection.streams(), Err(AdminError::Disconnected)));
    assert!(!connection.is_open());
    assert!(matches!(connection.producer("s").open(), Err(OpenError::Disconnected)));
}

#[test]
fn the_last_words_of_a_broker_that_ends_are_shown() {
    let broker = Broker::welcoming(|client| {
        client.say(&frame::packet(Kind::Refused, 0, b"shutting down"));
    });
    let connection = broker.connect();
    broker.join();
    assert!(!connection.is_open());
    let error = connection.stream("s").unwrap_err();
    assert_eq!(error.to_string(), "the broker ended the session: shutting down");
}

/// What a client says when the reply to its first request is `reply`.
fn first_error(reply: impl Fn(u32) -> Vec<u8> + Send + 'static) -> AdminError {
    let broker = Broker::welcoming(move |client| {
        let (number, _) = client.request().unwrap();
        client.say(&reply(number));
        client.hear();
    });
    let error = broker.connect().stream("s").unwrap_err();
    broker.join();
    error
}

#[test]
fn a_reply_to_another_request_is_a_protocol_error() {
    let error = first_error(|number| frame::encode(Kind::Reply, number + 1, &Reply::Done).unwrap());
    assert!(
        matches!(error, AdminError::Protocol(ProtocolError::OtherRequest { found: 2, expected: 1 })),
        "{error:?}"
    );
}

#[test]
fn replies_that_are_none_are_protocol_errors() {
    let other_version = |number| {
        let mut packet = frame::encode(Kind::Reply, number, &Reply::Done).unwrap();
        packet[4] = 9;
        packet
    };
    let errors = [
        (first_error(|_| b"nonsense and more of it".to_vec()), "must begin with"),
        (first_error(|number| frame::packet(Kind::Reply, number, &[200, 1])), "is no reply"),
        (first_error(|number| frame::packet(Kind::Request, number, &[])), "a request instead of a reply"),
        (first_error(other_version), "speaks protocol version 9"),
        (
            first_error(|number| frame::encode(Kind::Reply, number, &Reply::Done).unwrap()),
            "instead of a stream",
        ),
        (first_error(|_| vec![0; 65_537]), "larger than allowed"),
    ];
    for (error, expected) in errors {
        assert!(matches!(error, AdminError::Protocol(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_refusal_is_shown_as_the_broker_said_it() {
    let error =
        first_error(|number| frame::encode(Kind::Reply, number, &refusal(RefusalCode::InUse)).unwrap());
    assert_eq!(error.to_string(), "refused as InUse: do something else");
    assert_eq!(error.code(), Some(RefusalCode::InUse));
    assert!(error.is_retryable());
}

#[test]
fn a_list_that_does_not_go_on_is_a_protocol_error() {
    let broker = Broker::welcoming(|client| {
        while let Some((number, _)) = client.request() {
            client.reply(number, &Reply::Streams { page: Vec::new(), more: true });
        }
    });
    let error = broker.connect().streams().unwrap_err();
    assert!(error.to_string().contains("a page of streams that does not go on"), "{error}");
}

#[test]
fn a_broker_that_does_not_end_is_reported_after_the_timeout() {
    let broker = Broker::welcoming(|client| {
        client.request().unwrap();
    });
    // The fake's process is this one, which does not end.
    let error = broker.connect().stop_broker(Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, AdminError::StillRunning { pid, .. } if pid == std::process::id()), "{error:?}");
}

/// Opens a producer that is granted with descriptors that `change` has made wrong; checks that it was given back.
fn open_producer_with(change: impl Fn(&mut Vec<OwnedFd>) + Send + 'static) -> OpenError {
    open_producer(move |partition| {
        let mut descriptors = partition.regions.for_producer().unwrap();
        change(&mut descriptors);
        (Reply::Producer(partition.producer_grant()), descriptors)
    })
}

fn open_producer(grant: impl Fn(&Partition) -> (Reply, Vec<OwnedFd>) + Send + 'static) -> OpenError {
    let (broker, connection, log) = serve_with(64, move |request, partition| {
        matches!(request, Request::OpenProducer { .. }).then(|| grant(partition))
    });
    let error = connection.producer("s").open().unwrap_err();
    assert_eq!(log.closes(), 1, "{error}");
    drop(connection);
    broker.join();
    error
}

#[test]
fn a_wrong_number_of_descriptors_is_a_protocol_error() {
    for (kept, added) in [(3, 0), (0, 0), (4, 1)] {
        let error = open_producer_with(move |descriptors| {
            descriptors.truncate(kept);
            descriptors.extend((0..added).map(|_| File::open("/dev/null").unwrap().into()));
        });
        let count = kept + added;
        assert_eq!(
            error.to_string(),
            format!(
                "the broker's answer cannot be used: the broker sent {count} descriptors with a producer instead of 4"
            )
        );
    }
}

#[test]
fn impossible_numbers_in_a_grant_are_protocol_errors() {
    let with = |change: fn(&mut ProducerGrant)| {
        open_producer(move |partition| {
            let mut grant = partition.producer_grant();
            change(&mut grant);
            (Reply::Producer(grant), partition.regions.for_producer().unwrap())
        })
    };
    let errors = [
        (with(|grant| grant.settings.slots = 63), "a ring of 63 slots cannot be made"),
        (with(|grant| grant.owner = u32::MAX), "the broker gave owner 4294967295: 4194303 at the most"),
        (with(|grant| grant.position = u64::MAX), "the broker gave position 18446744073709551615"),
    ];
    for (error, expected) in errors {
        assert!(matches!(error, OpenError::Protocol(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn memory_that_could_shrink_under_the_mapping_is_refused() {
    let unsealed = open_producer_with(|descriptors| {
        let memory = memfd_create("unsealed", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&memory, layout::doorbell::BYTES as u64).unwrap();
        descriptors[3] = memory;
    });
    assert!(
        matches!(unsealed, OpenError::Region(RegionError::Seals { kind: RegionKind::Doorbell, .. })),
        "{unsealed:?}"
    );
    let regular = open_producer_with(|descriptors| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(layout::producers::BYTES as u64).unwrap();
        descriptors[1] = file.into();
    });
    assert!(
        matches!(regular, OpenError::Region(RegionError::Seals { kind: RegionKind::Producers, found: None })),
        "{regular:?}"
    );
}

#[test]
fn memory_of_the_wrong_size_or_sort_is_refused() {
    let small = open_producer_with(|descriptors| {
        let identity = Identity { kind: RegionKind::Slots, incarnation: 5, bytes: 4096 };
        descriptors[2] = OwnedRegion::create(identity).unwrap().hand_over(Access::Write).unwrap();
    });
    let expected = 4096 + 64 * 64;
    assert!(
        matches!(
            small,
            OpenError::Region(RegionError::Size { kind: RegionKind::Slots, found: 4096, expected: e }) if e == expected
        ),
        "{small:?}"
    );
    let swapped = open_producer_with(|descriptors| descriptors.swap(1, 3));
    assert!(matches!(swapped, OpenError::Region(RegionError::Header { field: "kind", .. })), "{swapped:?}");
    let foreign = open_producer_with(|descriptors| {
        let identity =
            Identity { kind: RegionKind::Doorbell, incarnation: 6, bytes: layout::doorbell::BYTES };
        descriptors[3] = OwnedRegion::create(identity).unwrap().hand_over(Access::Write).unwrap();
    });
    assert!(
        matches!(foreign, OpenError::Region(RegionError::Header { field: "incarnation", .. })),
        "{foreign:?}"
    );
    let pipe = open_producer_with(|descriptors| {
        let (reader, _writer) = std::io::pipe().unwrap();
        descriptors[0] = reader.into();
    });
    assert!(matches!(pipe, OpenError::Region(_)), "{pipe:?}");
}

#[test]
fn a_consumer_that_is_granted_wrongly_is_given_back_too() {
    let (_broker, connection, log) = serve_with(64, |request, partition| {
        matches!(request, Request::OpenConsumer { .. }).then(|| {
            let (visibility, settings) = (Visibility::Committed, partition.settings);
            let grant = ConsumerGrant { endpoint: 3, incarnation: 5, cursor: 0, visibility, settings };
            let mut descriptors = partition.regions.for_producer().unwrap();
            descriptors.pop();
            (Reply::Consumer(grant), descriptors)
        })
    });
    let error = connection.consumer("s", "c").open().unwrap_err();
    assert!(
        error.to_string().ends_with("the broker sent 3 descriptors with a consumer instead of 4"),
        "{error}"
    );
    assert_eq!(log.closes(), 1);
}

#[test]
fn a_gate_that_the_broker_hands_over_wrongly_is_an_error_and_one_that_is_gone_is_not() {
    let (_broker, connection, _log) = serve_with(2, |request, _| {
        matches!(request, Request::OpenGate { .. })
            .then(|| (Reply::Gate, vec![File::open("/dev/null").unwrap().into()]))
    });
    connection.declare_subscription("s", "slow", StartAt::Next).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    producer.send_batch([b"1", b"2"]).unwrap();
    let error = producer.send(b"3").unwrap_err();
    assert!(matches!(error, SendError::Gate { source: OpenError::Region(_), .. }), "{error:?}");

    let (_broker, connection, log) = serve_with(2, |request, _| {
        matches!(request, Request::OpenGate { .. }).then(|| (refusal(RefusalCode::NotFound), vec![]))
    });
    connection.declare_subscription("s", "slow", StartAt::Next).unwrap();
    let mut producer = connection.producer("s").open().unwrap();
    producer.send_batch([b"1", b"2"]).unwrap();
    for _ in 0..3 {
        let error = producer.try_send(b"3").unwrap_err();
        assert!(matches!(error, SendError::Full { lag: 2, .. }), "{error:?}");
    }
    assert_eq!(log.gates(), 1, "not asked again and again");
}

#[test]
fn who_connected_learns_about_the_broker() {
    let (broker, connection, _log) = serve(64);
    assert_eq!(connection.directory(), broker.directory());
    assert_eq!(connection.broker_pid(), std::process::id());
    assert_eq!((connection.shards(), connection.session()), (3, 9));
    assert_eq!(connection.stream("s").unwrap().settings.slots, 64);
}
