//! `ringway-journal-stops [SEED]`: stops a broker under load behind every step of its journal, by SIGKILL and by SIGSTOP, starts
//! another, and prints what the auditor found; exit code 0: every step was come to, and nothing that was confirmed is missing, and
//! nothing that was settled came back. Builds a `ringway-test-peer` of its own.

use std::process::ExitCode;

use ringway_tests::deaths::campaign::armed_peer;
use ringway_tests::durable;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?;
    let faults = durable::stops(&armed_peer(), seed);
    faults.iter().for_each(|fault| println!("FAULT  {fault}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
