//! `ringway doctor`: whether this machine, this process and this directory are as Ringway wants them.
//!
//! 1. It changes nothing, and leaves nothing behind.
//! 2. Every check is judged by a pure function of what was seen; every finding that is not fine names its fix.
//! 3. Its exit code is 1 when something does not work; a warning is none of that.

mod finding;
mod kernel;
mod machine;
mod places;

use std::path::{Path, PathBuf};

use ringway_broker::config::DATA_NAME;
use ringway_client::directory::{default_data_directory, default_directory};

use self::finding::{Finding, Level};
use crate::cli::DoctorArgs;
use crate::exit::Failure;
use crate::output::{count, print, print_json};

/// Runs the command.
pub(crate) fn run(args: &DoctorArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    // As `ringway serve` chooses them.
    let data = args.data.clone().or_else(|| directory.as_ref().map(|directory| directory.join(DATA_NAME)));
    let (directory, data) =
        (directory.unwrap_or_else(default_directory), data.unwrap_or_else(default_data_directory));
    let findings: Vec<Finding> = [kernel::checks(), machine::checks(), places::checks(&directory, &data)]
        .into_iter()
        .flatten()
        .collect();
    if args.json {
        print_json(&findings)?
    } else {
        print(&finding::text(&findings))?
    }
    match findings.iter().filter(|finding| finding.level == Level::Problem).count() as u64 {
        0 => Ok(()),
        problems => Err(Failure::new(count(problems, "problem"))),
    }
}

/// What a file of the kernel says; `None` if it is not there, or empty.
fn setting(path: impl AsRef<Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
