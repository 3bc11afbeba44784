//! `ringway serve` and `ringway stop`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use ringway_broker::config::{KEYS, Key, Kind};

use super::values::duration;

pub(super) const SERVE_AFTER: &str = "\
When it is ready it prints one line to standard output: \"ringway: serving DIR (pid N, shards on cores …)\". It ends
with exit code 0 and leaves nothing behind.

The broker is a child of this process, which keeps what it holds: a broker that is killed is succeeded at once, and nothing is
lost. If this process is killed, the broker starts another such keeper; end both with: ringway stop

Every setting can stand in the file (sessions_max = 100), in the environment (RINGWAY_SESSIONS_MAX=100), and here
(--sessions-max 100); what comes later in this list counts. What is not known, or cannot be, is an error that says where it stands.

Examples:
  ringway serve
  ringway serve --dir /tmp/mine --config ringway.toml
  ringway serve --data /srv/ringway --cores 2,3 --log info
  ringway serve --config ringway.toml --check
  ringway serve --dir /run/ringway --allowed-uids 1000,1001";

/// Arguments of `ringway serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Settings of the broker, a TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print each setting that counts and where it was said, and exit without starting
    #[arg(long)]
    pub(crate) check: bool,
    /// With --check: print one JSON array
    #[arg(long, requires = "check")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
    /// End when this process, the parent, ends
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) end_with_parent: Option<u32>,
}

/// One option for each key of the configuration; `--dir` is one of all commands. Their values are judged where those of the file are.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingFlags(pub(crate) Vec<(&'static str, OsString)>);

fn keys_with_flags() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| key.name != "directory")
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &'static Key| Some((key.name, matches.get_one::<OsString>(key.name)?.clone()));
        Ok(Self(keys_with_flags().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let flag = |key: &'static Key| {
            let value_name = match &key.kind {
                Kind::Path => "DIR",
                Kind::Number(..) => "N",
                Kind::Numbers(_) => "N,N",
                Kind::Levels => "LEVEL",
                _ => "CHOICE",
            };
            let help = format!("{} [${}]", key.help, key.variable());
            Arg::new(key.name)
                .long(key.flag())
                .value_name(value_name)
                .help(help)
                .help_heading("Settings")
                .value_parser(clap::value_parser!(OsString))
        };
        command.args(keys_with_flags().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
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
