//! The litmus test of the waking protocol in full length: `ringway-litmus [SLEEPS [SEED [without-fence]]]`.
//!
//! Exit code 0: as many sleeps as asked for (10 million when nothing is said), and none was missed by its waker.

use std::process::ExitCode;

use ringway_tests::litmus::{self, Found};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| match arguments.get(at) {
        None => Some(default),
        Some(text) => text.parse().ok(),
    };
    let fenceless = arguments.get(2).map(String::as_str);
    let (Some(sleeps), Some(seed), None | Some("without-fence")) =
        (number(0, 10_000_000), number(1, 1), fenceless)
    else {
        eprintln!("usage: ringway-litmus [SLEEPS [SEED [without-fence]]]");
        return ExitCode::from(2);
    };
    let Found { sleeps, lost } = litmus::run(sleeps, seed, fenceless.is_some());
    println!("{sleeps} sleeps, {lost} lost");
    if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
