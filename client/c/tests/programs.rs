//! Do C and C++ programs get what Rust programs get?
//!
//! Every program is compiled with all warnings as errors, linked with the static library that cargo has built beside this
//! test, and run against a broker; where the compiler has them, once more under its address and undefined-behaviour sanitizers.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ringway_tests::TestBroker;

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
const SANITIZERS: [&str; 3] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"];
/// What the Rust parts need of the system.
const SYSTEM: [&str; 4] = ["-lpthread", "-ldl", "-lm", "-lgcc_s"];

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles a program; what the compiler says when it does not.
fn compile(compiler: &str, source: &Path, options: &[&str], into: &Path) -> Result<PathBuf, String> {
    // Beside the library: cargo links no hard links to it for the tests of its own package.
    let library = std::env::current_exe().unwrap().with_file_name("libringway.a");
    let program = into.join("program");
    let output = Command::new(compiler)
        .args(WARNINGS)
        .args(options)
        .arg("-I")
        .arg(folder().join("include"))
        .arg(source)
        .arg("-x")
        .arg("none")
        .arg(library)
        .args(SYSTEM)
        .arg("-o")
        .arg(&program)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(program)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn compiler() -> String {
    std::env::var("CC").unwrap_or_else(|_| "cc".to_owned())
}

/// Whether this compiler has the sanitizers: they come in a package of their own on some systems.
fn has_sanitizers() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("nothing.c");
    std::fs::write(&source, "int main(void) { return 0; }").unwrap();
    compile(&compiler(), &source, &SANITIZERS, folder.path()).is_ok()
}

fn run(program: &Path, broker: &TestBroker) -> String {
    let Output { status, stdout, stderr } = Command::new(program).arg(broker.path()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{}: {status}\n{stdout}{stderr}", program.display());
    stdout.into_owned()
}

/// Compiles and runs a program plainly, and under the sanitizers; what it has printed each time.
fn run_everyhow(source: &str) -> Vec<String> {
    let mut printed = Vec::new();
    let mut everyhow = vec![vec!["-std=c11", "-O2"]];
    if has_sanitizers() {
        everyhow.push([&["-std=c11"], &SANITIZERS[..]].concat());
    } else {
        eprintln!("{} has no sanitizers: {source} runs without", compiler());
    }
    for options in everyhow {
        // POSIX beside C11.
        let options = [&options[..], &["-D_POSIX_C_SOURCE=200809L"]].concat();
        let folder_of_program = tempfile::tempdir().unwrap();
        let program =
            compile(&compiler(), &folder().join(source), &options, folder_of_program.path()).unwrap();
        printed.push(run(&program, &TestBroker::start()));
    }
    printed
}

#[test]
fn a_program_publishes_and_subscribes() {
    for printed in run_everyhow("examples/publish_subscribe.c") {
        let mut lines: Vec<_> =
            printed.lines().filter_map(|line| line.split_once(' ')).map(|line| line.1).collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            ["one espresso", "three cakes, for customer 7", "two teas, for customer 7, urgent"]
        );
    }
}

#[test]
fn a_program_works_on_a_queue() {
    for printed in run_everyhow("examples/queue_worker.c") {
        let expected = [
            "resize, attempt 1",
            "nonsense, attempt 1",
            "later, attempt 1",
            "later, attempt 2",
            "later, attempt 3",
            "0 left, 1 dead",
        ];
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_program_writes_and_reads_large_payloads_in_place() {
    for printed in run_everyhow("examples/loan.c") {
        assert_eq!(printed, "3145728 bytes, in place\n3145728 sevens\n");
    }
}

#[test]
fn a_program_waits_in_an_event_loop() {
    for printed in run_everyhow("examples/event_loop.c") {
        let mut lines: Vec<_> = printed.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "job: resize",
                "job: resize",
                "job: resize",
                "order: espresso",
                "order: espresso",
                "order: espresso"
            ]
        );
    }
}

#[test]
fn what_a_program_does_wrong_is_told() {
    run_everyhow("tests/abi.c");
}

#[test]
fn the_header_is_for_cpp_too() {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    if Command::new(&compiler).arg("--version").output().is_err() {
        eprintln!("there is no {compiler}: the header is not looked at by it");
        return;
    }
    let folder_of_program = tempfile::tempdir().unwrap();
    let options = ["-std=c++17", "-x", "c++"];
    let program =
        compile(&compiler, &folder().join("tests/abi.c"), &options, folder_of_program.path()).unwrap();
    run(&program, &TestBroker::start());
}
