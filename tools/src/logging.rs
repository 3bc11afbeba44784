//! What the broker and its keeper log: to standard error, a line for each event, for people or as JSON.
//!
//! What a client controls stands in fields, where control characters are escaped; messages are of this program alone.

use std::io;

use ringway_broker::config::{Config, LogFormat};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// From here on this process logs what its settings say. Only the first call counts.
pub(crate) fn begin(config: &Config) {
    let targets: Targets = config.log.parse().expect("levels are checked with the other settings");
    // Who has closed standard error wants to hear nothing, of that neither.
    let lines =
        tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false).log_internal_errors(false);
    let layer = match config.log_format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Fails only where one is there already.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(layer.with_filter(targets)));
}
