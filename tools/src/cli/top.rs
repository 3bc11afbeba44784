//! `ringway top`.

use std::time::Duration;

use clap::Args;

use super::values;

pub(super) const TOP_AFTER: &str = "\
Keys: ↑ ↓ choose a stream, Enter looks into it and Esc goes back, < > choose the column to sort by, r turns the order around,
/ filters by text, Tab shows the shards, ? helps, q ends it. With NO_COLOR set there are no colours. Without a terminal, or
with TERM=dumb, it prints one table, as with --once. Once per interval the broker is asked what there is; the messages on their way do not notice.

Examples:
  ringway top
  ringway top --interval 200ms --dir /run/ringway
  ringway top --once";

/// Arguments of `ringway top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// How often the broker is asked, 100ms at the least
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Print one table, of rates over one interval, and end
    #[arg(long)]
    pub(crate) once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    values::interval(text, Duration::from_millis(100))
}
