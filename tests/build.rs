//! Makes tests of the Rust snippets in the documents: each is a function that runs against a broker.
//!
//! A snippet is what stands between a line of "```rust" and one of "```". Nothing is added to the documents for that: what the
//! snippets take for granted is made by `fixture` in `tests/documents/main.rs`.

use std::fmt::Write as _;
use std::path::Path;

/// The documents, and the names of their tests' modules.
const DOCUMENTS: [(&str, &str); 2] = [("README.md", "readme"), ("client/GUIDE.md", "guide")];

fn main() {
    // Asked for when it runs: a build directory may serve several checkouts.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where this crate is");
    let workspace = Path::new(&own).parent().expect("this crate is in a workspace");
    let mut tests = String::new();
    for (document, module) in DOCUMENTS {
        let path = workspace.join(document);
        println!("cargo::rerun-if-changed={}", path.display());
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        writeln!(tests, "mod {module} {{\n    use super::*;").expect(FITS);
        snippets(&text).for_each(|(line, snippet)| test(&mut tests, line, &snippet));
        writeln!(tests, "}}").expect(FITS);
    }
    let out = std::env::var("OUT_DIR").expect("cargo says where to write");
    std::fs::write(Path::new(&out).join("documents.rs"), tests).expect("cargo has made the directory");
}

const FITS: &str = "a string takes everything";

/// Its snippets, each with the number of its first line.
fn snippets(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut lines = text.lines().enumerate();
    std::iter::from_fn(move || {
        let (fence, _) = lines.find(|(_, line)| *line == "```rust")?;
        let snippet = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        Some((fence + 2, snippet.collect::<Vec<_>>().join("\n")))
    })
}

fn test(tests: &mut String, line: usize, snippet: &str) {
    // A whole program finds the broker of its test where it looks for one.
    let program = snippet.contains("fn main()");
    let snippet = snippet.replace("default_directory())", "super::served())");
    let (before, after) = match (program, snippet.contains(".await")) {
        (true, _) => ("", "main()"),
        (false, true) => ("block_on(async {", "Ok::<(), Box<dyn std::error::Error>>(()) })"),
        (false, false) => ("", "Ok(())"),
    };
    writeln!(
        tests,
        "    #[test]
    #[allow(unused, clippy::all)]
    fn the_snippet_in_line_{line}_does_what_it_says() -> Result<(), Box<dyn std::error::Error>> {{
        let (_broker, directory, connection) = fixture();
        {before}
{snippet}
        {after}
    }}"
    )
    .expect(FITS);
}
