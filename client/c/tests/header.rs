//! Is the header what the sources say?

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

/// Names the file to write instead of comparing.
const WRITE: &str = "RINGWAY_WRITE_HEADER";
/// In the order in which a reader of the header wants them.
const SOURCES: [&str; 10] = [
    "code",
    "boundary",
    "settings",
    "connection",
    "altering",
    "outgoing",
    "producer",
    "message",
    "consumer",
    "delivery",
];

/// What stands in front of everything.
const OPENING: &str = "\
/* Ringway's client for C and C++.
 *
 * Generated from client/c/src: do not edit. README.md beside it says how to link, and has a table of all functions.
 *
 * 1. A function that can fail returns a ringway_code: RINGWAY_OK, RINGWAY_EMPTY (there is nothing; not an error), or a negative
 *    one, of which ringway_error_message() and ringway_error_is_retryable() say more, in the same thread.
 * 2. Out-parameters that are handles are null after an error. Handles are freed by the _close or _free of their sort.
 * 3. Each handle says which threads may use it. None may be used in a signal handler, or by a forked child
 *    (RINGWAY_FORKED).
 * 4. Structures that you make are made by their _default or _none function, or all zero where they have none.
 */
";

fn generated() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(folder.join("src").join(source).with_extension("rs"));
    }
    let version = format!("\n#define RINGWAY_VERSION \"{}\"", env!("CARGO_PKG_VERSION"));
    let mut text = Vec::new();
    builder.with_header(OPENING).with_after_include(version).generate().unwrap().write(&mut text);
    let text = String::from_utf8(text).unwrap();
    text.replace(" * # Safety\n *\n * ", " * What must hold: ").replace("RINGWAY_CODE_", "RINGWAY_")
}

#[test]
fn the_header_is_what_the_sources_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/ringway.h");
    let (generated, found) = (generated(), std::fs::read_to_string(&path).unwrap_or_default());
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(&path, generated).unwrap();
    }
    let line = generated.lines().zip(found.lines()).position(|(a, b)| a != b).map_or(0, |line| line + 1);
    assert!(
        generated == found,
        "include/ringway.h is stale from line {line} on: {WRITE}=1 cargo test -p ringway-c --test header"
    );
}
