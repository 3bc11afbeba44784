//! Stops processes at every place that there is, and kills them at random, while an auditor watches: see VERIFY.md.
//!
//! `ringway-deaths [TIMES] [KILLS] [SEED] [ONLY]`: each place TIMES times by SIGKILL and by SIGSTOP (20 when nothing is said), each role
//! KILLS times at random (500). ONLY: what has this in its name, as "Broker claim.moved". Exit code 0: no fault, and every place was hit.

use std::process::ExitCode;

use ringway_tests::deaths::campaign::{self, Campaign};

fn main() -> Result<ExitCode, std::num::ParseIntError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, usual| arguments.get(index).map_or(Ok(usual), |text| text.parse::<u64>());
    let (times, kills, seed) = (number(0, 20)?, number(1, 500)?, number(2, 1)?);
    let only = arguments.get(3).cloned().unwrap_or_default();
    let stops = campaign::stops(&Campaign { times, seed, only: only.clone() });
    println!("Stopped at every place:\n{stops}");
    let kills = campaign::kills(&Campaign { times: kills, seed, only });
    println!("Killed at random:\n{kills}");
    let held = [&stops, &kills].iter().all(|report| report.faults.is_empty() && report.never_hit.is_empty());
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
