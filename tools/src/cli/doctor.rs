//! `ringway doctor`.

use std::path::PathBuf;

use clap::Args;

pub(super) const DOCTOR_AFTER: &str = "\
Each line says ok, warning or problem, what was found, and why it matters; the line below it, how to make it better. A
warning: Ringway works, and not as well as it could. Exit code 0 means that there is no problem.

Examples:
  ringway doctor
  ringway doctor --dir /run/ringway --data /srv/ringway
  ringway doctor --json | jq '.[] | select(.level != \"ok\")'";

/// Arguments of `ringway doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Directory of the journals of durable streams, whose disk is looked at [default: as `ringway serve` chooses it]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    pub(crate) json: bool,
}
