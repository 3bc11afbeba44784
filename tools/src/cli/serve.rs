//! `ringway serve` and `ringway stop`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::duration;

pub(super) const SERVE_AFTER: &str = "\
When it is ready it prints one line to standard output: \"ringway: serving DIR (pid N, shards on cores …)\". It ends
with exit code 0 and leaves nothing behind.

The broker is a child of this process, which keeps what it holds: a broker that is killed is succeeded at once, and nothing is
lost. If this process is killed, the broker starts another such keeper; end both with: ringway stop

Examples:
  ringway serve
  ringway serve --dir /tmp/mine --config ringway.toml
  ringway serve --data /srv/ringway";

/// Arguments of `ringway serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Settings of the broker, a TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the journals of durable streams [default: DIR/data with --dir or a configured directory; else
    /// /var/lib/ringway for root, else $XDG_STATE_HOME/ringway, else ~/.local/state/ringway]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// End when this process, the parent, ends
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) end_with_parent: Option<u32>,
}

pub(super) const STOP_AFTER: &str = "\
Examples:
  ringway stop
  ringway stop --dir /tmp/mine --timeout 30s";

/// Arguments of `ringway stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// How long to wait for the broker's end: 500ms, 2s, 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}
