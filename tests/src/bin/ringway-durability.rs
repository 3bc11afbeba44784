//! `ringway-durability [KILLS] [LOSS_EVERY] [SEED]`: a durable queue under load while its broker is killed KILLS times (1,000 when
//! nothing is said), with everything else every LOSS_EVERY-th time (10). Prints what the auditor found; exit code 0: nothing that was
//! confirmed is missing, and nothing that was settled came back. `ringway-test-peer` must lie beside this program.

use std::process::ExitCode;

use ringway_tests::durable;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, usual| arguments.get(index).map_or(Ok(usual), |text| text.parse::<u64>());
    let (kills, loss_every, seed) = (number(0, 1000)?, number(1, 10)?, number(2, 1)?);
    let peer = std::env::current_exe()?.with_file_name("ringway-test-peer");
    let report = durable::campaign(&peer, &[], kills, loss_every.max(1), seed);
    println!(
        "seed {seed}: {} brokers killed, {} times everything; {} messages confirmed, {} of them missing; {} settlements \
         confirmed, {} of them back",
        report.kills, report.losses, report.confirmed, report.missing, report.settled, report.back
    );
    let is_whole = (report.missing, report.back) == (0, 0) && report.confirmed > 0 && report.settled > 0;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
