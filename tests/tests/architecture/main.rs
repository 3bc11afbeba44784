//! Do the arrows between crates, and inside the broker, point the way that is drawn?

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// Every workspace package with the workspace packages that it depends on, by kind of dependency.
fn arrows() -> BTreeMap<String, BTreeSet<(String, bool)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo tells its metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a package lists dependencies");
            let inner = dependencies
                .iter()
                .filter(|dependency| text(&dependency["name"]).starts_with("ringway-"))
                .map(|dependency| (text(&dependency["name"]), text(&dependency["kind"]) == "dev"));
            (text(&package["name"]), inner.collect())
        })
        .collect()
}

#[test]
fn crates_depend_only_as_drawn() {
    const PROTOCOL: &str = "ringway-shm-protocol";
    const CLIENT: &str = "ringway-client";
    const BROKER: &str = "ringway-broker";
    const BENCHES: &str = "ringway-benches";
    const TESTS: &str = "ringway-tests";
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        (PROTOCOL, &[][..]),
        (CLIENT, &[PROTOCOL]),
        // The harness runs brokers for its programs.
        ("ringway-c", &[CLIENT, TESTS]),
        ("ringway-python", &[CLIENT]),
        (BROKER, &[PROTOCOL]),
        ("ringway-tools", &[PROTOCOL, CLIENT, BROKER]),
        (BENCHES, &[PROTOCOL, CLIENT, BROKER]),
        // The raw device is measured by the same code in both.
        ("ringway-compare", &[PROTOCOL, CLIENT, BROKER, BENCHES]),
        (TESTS, &[PROTOCOL, CLIENT, BROKER]),
    ]);
    let found = arrows();
    let names: BTreeSet<_> = found.keys().map(String::as_str).collect();
    assert_eq!(names, allowed.keys().copied().collect(), "the workspace's packages are the drawn ones");
    for (package, dependencies) in &found {
        for (dependency, _) in dependencies {
            let drawn = allowed[package.as_str()].contains(&dependency.as_str());
            assert!(drawn, "{package} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_root_holds_what_is_drawn_and_nothing_else() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "broker",
        "client",
        "shm-protocol",
        "benches",
        "tests",
        "tools",
        "target",
    ];
    for entry in std::fs::read_dir(root()).expect("the root can be read") {
        let name = entry.expect("an entry can be read").file_name().into_string().expect("names are text");
        assert!(name.starts_with('.') || allowed.contains(&name.as_str()), "{name} has no place at the root");
    }
}

/// The Rust files below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Lines of code: without comments, so that words in them do not count.
fn code(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a source file is text");
    text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned()).collect()
}

/// The modules of the broker that a line names by `crate::`.
fn named_modules(line: &str) -> Vec<&str> {
    line.match_indices("crate::")
        .map(|(at, found)| {
            let rest = &line[at + found.len()..];
            rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
        })
        .collect()
}

#[test]
fn inside_the_broker_modules_use_only_what_is_drawn() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("core", &[][..]),
        ("runtime", &[]),
        ("admission", &[]),
        ("config", &[]),
        ("directory", &["admission"]),
        ("clock", &[]),
        ("keeper", &["admission", "config", "directory"]),
        ("embedded", &["config"]),
        ("memory_log", &["keeper"]),
        ("holdings", &["clock", "core", "keeper", "memory_log", "shard"]),
        ("journal", &["clock", "core"]),
        ("inspection", &["core", "journal"]),
        ("salvage", &["clock", "config", "core", "inspection", "journal"]),
        ("shard", &["clock", "core", "journal", "keeper", "memory_log", "runtime"]),
        // Only the mailbox of a shard: see the next test.
        ("control", &["admission", "clock", "core", "keeper", "shard"]),
    ]);
    let source = root().join("broker/src");
    for path in sources(&source) {
        let inside = path.strip_prefix(&source).expect("it lies inside").to_owned();
        let first = inside.iter().next().and_then(|part| part.to_str()).expect("names are text");
        let module = first.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let allowed = allowed.get(module).unwrap_or_else(|| panic!("module {module} is not drawn"));
        for line in code(&path) {
            for named in named_modules(&line) {
                let fine = named == module || allowed.contains(&named);
                assert!(fine, "{}: {module} must not use {named}: {line}", inside.display());
            }
        }
    }
}

#[test]
fn the_control_plane_reaches_shards_by_their_mailboxes_only() {
    const MAILBOX: [&str; 7] =
        ["Answer", "AnswerInbox", "Command", "FromShard", "Letter", "Mailbox", "Answers"];
    for path in sources(&root().join("broker/src/control")) {
        for line in code(&path) {
            let Some((_, used)) = line.split_once("crate::shard::") else { continue };
            for word in used.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
                assert!(MAILBOX.contains(&word), "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn the_core_does_no_input_or_output_and_reads_no_clock() {
    for path in sources(&root().join("broker/src/core")) {
        for line in code(&path) {
            for word in
                ["std::io", "std::time", "std::fs", "std::thread", "rustix", "glommio", "libc", "Instant"]
            {
                assert!(!line.contains(word), "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn glommio_and_io_uring_are_named_in_one_module_each_and_unsafe_in_few() {
    let root = root();
    let may_be_unsafe = [
        "shm-protocol/src/memory/mapped.rs",
        "shm-protocol/src/memory/arena.rs",
        "shm-protocol/src/memory/bell.rs",
        "shm-protocol/src/memory/copy.rs",
        "shm-protocol/src/fork.rs",
        "shm-protocol/src/control/socket.rs",
        "broker/src/runtime/glommio.rs",
        "broker/src/journal/disk/uring.rs",
    ];
    for package in ["shm-protocol", "client", "broker", "tools"] {
        for path in sources(&root.join(package).join("src")) {
            let name = path
                .strip_prefix(&root)
                .expect("it lies inside")
                .to_str()
                .expect("names are text")
                .to_owned();
            for line in code(&path) {
                if line.contains("glommio") {
                    assert!(name.starts_with("broker/src/runtime/"), "{name}: {line}");
                }
                if line.contains("io_uring::") {
                    assert_eq!(name, "broker/src/journal/disk/uring.rs", "{line}");
                }
                let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
                if words.into_iter().any(|word| word == "unsafe") {
                    assert!(may_be_unsafe.contains(&name.as_str()), "{name}: {line}");
                }
            }
        }
    }
}
