//! The report again and again, with what has happened in between.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringway_broker::holdings::Holdings;
use ringway_shm_protocol::name::Name;

use super::report::Report;
use super::text::{Style, of_all};
use crate::cli::InspectArgs;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Until Ctrl-C, which ends it without a word, or until nobody reads any more.
pub(super) fn run(
    args: &InspectArgs,
    stream: &Name,
    mut holdings: Holdings,
    directory: Option<PathBuf>,
    interval: Duration,
) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    let mut output = Output::stdout(interrupt.clone())?;
    let mut before: Option<(Instant, Vec<Report>)> = None;
    loop {
        let began = Instant::now();
        let mut reports = match super::reports(&mut holdings, stream, args.partition) {
            // A keeper that was killed has a successor at once.
            Err(_) => {
                holdings = super::open(None, directory.clone())?;
                super::reports(&mut holdings, stream, args.partition)?
            }
            reports => reports?,
        };
        if let Some((at, before)) = &before {
            let seconds = (began - *at).as_secs_f64();
            for report in &mut reports {
                if let Some(before) = before.iter().find(|before| before.partition == report.partition) {
                    report.compare(before, seconds);
                }
            }
        }
        let text = if args.json {
            let text = serde_json::to_string(&reports);
            text.map_err(|error| Failure::new(format!("no JSON: {error}")))? + "\n"
        } else {
            // The terminal may have another size by now.
            let style = Style::of_stdout();
            style.screen(&of_all(&reports, style))
        };
        output.buffer().extend_from_slice(text.as_bytes());
        output.flush()?;
        before = Some((began, reports));
        if !interrupt.sleep_until(began + interval) {
            return Err(Failure::Interrupted);
        }
        if output.is_closed() {
            return Err(Failure::OutputClosed);
        }
    }
}
