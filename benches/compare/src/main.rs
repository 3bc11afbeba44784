//! `ringway-compare`: Ringway's peers side by side, in one run on one machine.
//!
//! Figures from different runs, and still more from different machines, cannot be compared: clocks, neighbours,
//! and cache placement move them by more than the peers differ. So this program runs all peers in turn, round
//! after round, with the same payload, the same work per message, and the same two CPUs, and probes the machine
//! around every round.
//!
//! What always holds:
//!
//! 1. The table goes to the standard output, progress to the standard error; the exit code is 0 only for a run in
//!    which every message of every trial arrived and was right, or in `durable` was confirmed.
//! 2. Nothing outlives the run: no process, no file, no shared memory, also after an error or Ctrl-C.
//! 3. All cases but `durable` are of messages in memory; what that measures is on a device when it is confirmed, unless the
//!    peer's name says otherwise.

mod backoff;
mod cli;
mod control;
mod error;
mod far_process;
mod gauge;
mod measure;
mod page;
mod payload;
mod peers;
mod pinning;
mod probe;
mod results;
mod rounds;
mod statistics;
mod storage;
mod table;
mod trial;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{Cli, Options, Role};
use crate::error::CompareError;
use crate::results::Results;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.role {
        Some(Role::FarEnd { brief }) => far_process::run(&brief),
        None => compare(&cli.options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringway-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<(), CompareError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(CompareError::system("watch for signals"))?;
    }
    let results = rounds::run(options, &interrupted)?;
    match options.json.as_deref() {
        None => print(&table::render(&results))?,
        Some(path) if path == Path::new("-") => print(&json(&results)?)?,
        Some(path) => {
            print(&table::render(&results))?;
            std::fs::write(path, json(&results)?)
                .map_err(CompareError::system(format!("write {}", path.display())))?;
        }
    }
    match options.results.as_deref() {
        None => Ok(()),
        Some(directory) => page::write(&results, page::Conditions::of(options), directory),
    }
}

fn json(results: &Results) -> Result<String, CompareError> {
    let mut text = serde_json::to_string_pretty(&results.document())
        .map_err(|source| CompareError::Json { what: "the results", source })?;
    text.push('\n');
    Ok(text)
}

fn print(text: &str) -> Result<(), CompareError> {
    std::io::stdout().write_all(text.as_bytes()).map_err(CompareError::system("print the results"))
}
