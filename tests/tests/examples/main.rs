//! Does every example of the client do what it says, again and again, and leave nothing behind?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod expected;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ringway_tests::kept::KeptBroker;
use ringway_tests::{PATIENCE, eventually};

const PEER: &str = env!("CARGO_BIN_EXE_ringway-test-peer");
/// Waits for somebody to kill the broker: it has tests of its own.
const RESTART: &str = "broker_restart";

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Has cargo build the examples, as this test was built: their executables by name.
fn build() -> BTreeMap<String, PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let built = Command::new(cargo)
        .args(["build", "--examples", "--locked", "--message-format", "json-render-diagnostics"])
        .args(["-p", "ringway-client", "-p", "ringway-tests", "--features", "ringway-client/serde"])
        .args(["--profile", profile])
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(built.status.success(), "the examples cannot be built");
    let messages = built.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let messages = messages.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
    let examples = messages.filter(|message| message["target"]["kind"][0] == "example");
    let name_of = |message: &serde_json::Value| message["target"]["name"].as_str().unwrap().to_owned();
    examples.map(|message| (name_of(&message), message["executable"].as_str().unwrap().into())).collect()
}

/// The examples that there are, by the names of their files.
fn names() -> Vec<String> {
    let files = std::fs::read_dir(workspace().join("client/examples")).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A running example; killed if the test ends before it.
struct Example(Child);

impl Example {
    fn start(executable: &Path, directory: &Path) -> Self {
        let mut command = Command::new(executable);
        Self(command.arg(directory).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// The first line that it prints.
    fn first_line(&mut self) -> String {
        // Without a buffer that would read more than this line.
        let mut stdout = BufReader::with_capacity(1, self.0.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        self.0.stdout = Some(stdout.into_inner());
        line
    }

    /// Waits until it has ended, and returns what it has printed.
    fn end(mut self, name: &str) -> String {
        let mut output = String::new();
        // It prints less than a pipe holds.
        eventually(&format!("{name} ends by itself"), || self.0.try_wait().unwrap().is_some());
        self.0.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{name} has ended with {status}: it has printed\n{output}");
        output
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Checks that it has printed these texts, one behind the other.
fn check(name: &str, output: &str, texts: &[&str]) {
    let mut rest = output;
    for text in texts {
        let Some(at) = rest.find(text) else {
            panic!("{name} has not printed {text:?} where it belongs, but\n{output}")
        };
        rest = &rest[at + text.len()..];
    }
}

#[test]
fn every_example_does_what_it_says_and_leaves_nothing_behind() {
    let executables = build();
    let broker = KeptBroker::start(PEER.as_ref());
    let connection = broker.connect();
    for name in names().iter().filter(|name| *name != RESTART) {
        let texts = expected::texts(name)
            .unwrap_or_else(|| panic!("say in tests/tests/examples/expected.rs what {name} prints"));
        // Twice: what the first run leaves would be in the way of the second.
        for _ in 0..2 {
            let output = Example::start(&executables[name], &broker.path()).end(name);
            check(name, &output, texts);
            let left: Vec<_> = connection.streams().unwrap().into_iter().map(|stream| stream.name).collect();
            assert!(left.is_empty(), "{name} has left {left:?}");
        }
    }
}

#[test]
fn the_example_of_a_restart_survives_a_killed_broker_and_the_loss_of_everything() {
    let executable = &build()[RESTART];
    let mut broker = KeptBroker::start(PEER.as_ref());
    let started = |broker: &KeptBroker| {
        let mut example = Example::start(executable, &broker.path());
        check(RESTART, &example.first_line(), &[&format!("broker {}: kill it", broker.pid())]);
        // It is at work, not only about to be.
        let connection = broker.connect();
        eventually("it sends", || {
            connection.stream("example.steady").unwrap().partitions[0].next_position > 5
        });
        example
    };

    let example = started(&broker);
    broker.succeed();
    let output = example.end(RESTART);
    check(RESTART, &output, &["none missing, none twice; another broker: true"]);
    assert!(!output.contains("sending it again"), "the session goes on by itself: {output}");

    let example = started(&broker);
    broker.lose_everything();
    let broker = broker.start_again(PEER.as_ref());
    let output = example.end(RESTART);
    check(RESTART, &output, &["none missing, none twice; another broker: true"]);
    assert!(broker.connect().streams().unwrap().is_empty());
}

#[test]
fn every_example_says_how_it_is_run_and_is_short() {
    for name in names() {
        let text = std::fs::read_to_string(workspace().join(format!("client/examples/{name}.rs"))).unwrap();
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(head.contains("`cargo run -p ringway-client"), "{name} does not say how it is run");
        assert!(head.contains(&format!("--example {name} [DIRECTORY]`")), "{name} names another example");
        let lines = text.lines().count();
        assert!(lines <= 75, "{name} has {lines} lines: an example shows one idea");
    }
    assert!(PATIENCE.as_secs() >= 20, "the example of a restart waits for 20 s");
}
