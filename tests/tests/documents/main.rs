//! Do the snippets of the documents compile, and do what is said of them? Are the limits in the guide those of the code?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use ringway_client::{
    CAPACITY_MAX, CAPACITY_MIN, CORRELATION_BYTES_MAX, Connection, Durability, KEY_BYTES_MAX, LEASE_MS_MAX,
    MAP_BYTES_MAX, PARTITIONS_MAX, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX_DEFAULT, RETRY_MS_MAX,
    SLOT_BYTES_MAX, SLOT_BYTES_MIN, SharedSettings, StartAt, StreamSettings,
};
use ringway_shm_protocol::control::message::NAMED_PRODUCERS_MAX;
use ringway_shm_protocol::control::socket::PATH_BYTES_MAX;
use ringway_shm_protocol::layout::{GATES_MAX, HAZARDS_MAX, RING_BYTES_MAX, slot};
use ringway_shm_protocol::memory::bell::WAIT_ANY_MAX;
use ringway_shm_protocol::name::NAME_BYTES_MAX;
use ringway_tests::TestBroker;
use ringway_tests::tasks::block_on;

include!(concat!(env!("OUT_DIR"), "/documents.rs"));

thread_local! {
    static SERVED: RefCell<PathBuf> = RefCell::default();
}

/// Where the broker of this test is.
fn served() -> PathBuf {
    SERVED.with_borrow(PathBuf::clone)
}

/// What the guide says that there is.
fn fixture() -> (TestBroker, PathBuf, Connection) {
    let broker = TestBroker::start();
    let connection = Connection::open(broker.path()).unwrap();
    let durable = StreamSettings { durability: Durability::Synced, ..StreamSettings::DEFAULT };
    let partitioned = StreamSettings { partitions: 4, ..StreamSettings::DEFAULT };
    for (stream, settings, subscription) in [
        ("orders", StreamSettings::DEFAULT, "billing"),
        ("payments", durable, "ledger"),
        ("accounts", partitioned, "ledger"),
    ] {
        connection.declare_stream(stream, settings).unwrap();
        connection.declare_subscription(stream, subscription, StartAt::First).unwrap();
    }
    connection.declare_queue("jobs.dead", StreamSettings::DEFAULT, SharedSettings::default()).unwrap();
    let jobs = SharedSettings { dead_letter: Some("jobs.dead".into()), ..SharedSettings::default() };
    connection.declare_queue("jobs", StreamSettings::DEFAULT, jobs).unwrap();
    connection.producer("jobs").open().unwrap().send("a job").unwrap();
    SERVED.set(broker.path());
    (broker, connection.directory().to_owned(), connection)
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(document: &str) -> String {
    std::fs::read_to_string(workspace().join(document)).unwrap()
}

/// What a heading is called in links to it.
fn anchors(text: &str) -> Vec<String> {
    let headings =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
    headings
        .map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn links_lead_somewhere_and_the_guide_names_every_example() {
    for document in ["README.md", "client/GUIDE.md", "client/COMING_FROM.md"] {
        let text = read(document);
        let folder = workspace().join(document).parent().unwrap().to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        for (link, _) in links.filter(|(link, _)| !link.starts_with("http")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { workspace().join(document) } else { folder.join(path) };
            assert!(target.exists(), "{document} links to {link}, which is not there");
            let found = anchor.is_empty()
                || anchors(&std::fs::read_to_string(target).unwrap()).contains(&anchor.to_owned());
            assert!(found, "{document} links to {link}, where there is no such heading");
        }
    }
    let guide = read("client/GUIDE.md");
    for example in std::fs::read_dir(workspace().join("client/examples")).unwrap() {
        let name = example.unwrap().file_name().into_string().unwrap();
        assert!(guide.contains(&format!("(examples/{name})")), "the guide does not name {name}");
    }
}

/// The row of the guide's table of limits that begins so.
fn limit(guide: &str, what: &str) -> String {
    let start = format!("| {what} | ");
    let mut rows = guide.lines().filter_map(|line| line.strip_prefix(&start));
    rows.next().unwrap_or_else(|| panic!("the guide has no limit of {what:?}")).replace(',', "")
}

#[test]
fn the_limits_in_the_guide_are_those_of_the_code() {
    let guide = read("client/GUIDE.md");
    let check = |what: &str, numbers: &[u64]| {
        let row = limit(&guide, what);
        let words: Vec<_> = row.split(|character: char| !character.is_ascii_digit()).collect();
        for number in numbers {
            assert!(words.contains(&&*number.to_string()), "{what}: the code says {number}, the guide {row}");
        }
    };
    check("partitions of a stream", &[PARTITIONS_MAX.into()]);
    check("subscriptions of a stream", &[GATES_MAX as u64, GATES_MAX as u64 - 1]);
    check("slots of a partition", &[CAPACITY_MIN, CAPACITY_MAX, RING_BYTES_MAX >> 30]);
    check("bytes of a slot", &[SLOT_BYTES_MIN.into(), SLOT_BYTES_MAX.into(), slot::BODY as u64]);
    check("bytes of a payload", &[PAYLOAD_BYTES_MAX_DEFAULT.into(), PAYLOAD_BYTES_MAX.into()]);
    check("bytes of a name", &[NAME_BYTES_MAX as u64]);
    check("bytes of a key", &[KEY_BYTES_MAX as u64]);
    check("bytes of a correlation", &[CORRELATION_BYTES_MAX as u64]);
    check("bytes of an attribute map", &[MAP_BYTES_MAX as u64]);
    assert_eq!(LEASE_MS_MAX, RETRY_MS_MAX);
    check("lease, retry delay", &[LEASE_MS_MAX.into()]);
    check("messages that a consumer holds in place", &[HAZARDS_MAX as u64]);
    check("names of producers that a partition remembers", &[NAMED_PRODUCERS_MAX as u64]);
    check("sessions of a broker", &[ringway_broker::config::SESSIONS_MAX_DEFAULT.into()]);
    check("bells that one sleep waits for", &[WAIT_ANY_MAX as u64]);
    check("bytes of the socket's path", &[PATH_BYTES_MAX as u64]);
}
