//! `ringway completions` and `ringway man`.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use std::process::Command;

use support::{Ended, ringway};

#[test]
fn completions_are_scripts_that_their_shell_can_read() {
    let place = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = Ended::from(ringway().args(["completions", shell]).output().unwrap()).ok();
        assert!(script.contains("--subscription") || script.contains("-l subscription"), "{shell}");
        let file = place.path().join(shell);
        std::fs::write(&file, script).unwrap();
        // Where the shell is.
        if let Ok(checked) = Command::new(shell).arg("-n").arg(&file).output() {
            assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
    let unknown = Ended::from(ringway().args(["completions", "cmd"]).output().unwrap());
    unknown.expect(2, &["possible values: bash, elvish, fish, powershell, zsh"]);
}

#[test]
fn pages_are_written_to_a_directory_that_is_made() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("deep/man1");
    let said = Ended::from(ringway().args(["man", "--out"]).arg(&out).output().unwrap()).ok();
    let pages = std::fs::read_dir(&out).unwrap().count();
    assert!(said.contains(&format!("wrote {pages} pages to ")), "{said}");
    let page = std::fs::read_to_string(out.join("ringway-stream-create.1")).unwrap();
    assert!(page.contains("ringway stream create jobs"), "{page}");
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = Ended::from(ringway().args(["man", "--out"]).arg(&file).output().unwrap());
    refused.expect(1, &["cannot write", "file"]);
    Ended::from(ringway().arg("man").output().unwrap()).expect(2, &["--out <DIR>"]);
}
