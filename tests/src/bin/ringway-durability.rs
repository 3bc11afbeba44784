//! `ringway-durability [KILLS] [LOSS_EVERY] [SEED]`: a durable queue and a durable topic under heavy load while their broker is
//! killed KILLS times (1,000 when nothing is said), with everything else every LOSS_EVERY-th time (10). Prints what the auditor found;
//! exit code 0: nothing that was confirmed is missing, nothing that was settled came back, and everything is whole.
//! `ringway-test-peer` must lie beside this program.

use std::process::ExitCode;

use ringway_tests::durable::{self, HEAVY};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, usual| arguments.get(index).map_or(Ok(usual), |text| text.parse::<u64>());
    let (kills, loss_every, seed) = (number(0, 1000)?, number(1, 10)?, number(2, 1)?);
    let peer = std::env::current_exe()?.with_file_name("ringway-test-peer");
    let report = durable::campaign(&peer, &HEAVY, &[], kills, loss_every.max(1), seed);
    println!(
        "seed {seed}: {} brokers killed, {} times everything, {} messages in flight each time; {} messages confirmed, {} of them \
         missing; {} settlements confirmed, {} of them back; {} torn; {} workers ended",
        report.kills,
        report.losses,
        report.in_flight,
        report.confirmed,
        report.missing,
        report.settled,
        report.back,
        report.torn,
        report.ended
    );
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
