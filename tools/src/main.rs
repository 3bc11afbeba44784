//! `ringway`: the broker and everything that people do with it from a shell.
//!
//! One file per concept: `cli` (arguments and help), `exit` (exit codes), `output` (standard output), `interrupt`
//! (Ctrl-C), `logging`, `pace` (messages per second), `processes` (what a command starts), `plot`, and one for each command or family of
//! commands. Every command is a function that ends with a [`exit::Failure`] or without; nothing panics for what a user or a broker did.

#![forbid(unsafe_code)]

mod admin;
mod altering;
mod bench;
mod cli;
mod demo;
mod doctor;
mod exit;
mod inspect;
mod interrupt;
mod journal;
mod logging;
mod manual;
mod moving;
mod output;
mod pace;
mod peek;
mod plot;
mod processes;
mod publish;
mod serve;
mod subscribe;
mod top;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use ringway_client::{ConnectError, Connection, directory};

use crate::cli::{Cli, Command};
use crate::exit::Failure;

fn main() -> ExitCode {
    let given = with_negative_numbers(Cli::command()).get_matches();
    match run(Cli::from_arg_matches(&given).unwrap_or_else(|error| error.exit())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What is below zero is refused, or taken, as the value that it is, and not as an option that is not known.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let allowed = |arg: clap::Arg| {
        let takes_values = arg.get_action().takes_values();
        arg.allow_negative_numbers(takes_values)
    };
    command.mut_args(allowed).mut_subcommands(with_negative_numbers)
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { dir, command } = cli;
    match command {
        Command::Serve(args) => serve::run(&args, dir),
        Command::Broker => serve::run_broker(),
        Command::Keeper => serve::run_keeper(),
        Command::Stop(args) => admin::stop(&args, &connect(dir)?),
        Command::Stream(command) => admin::stream(command, &connect(dir)?),
        Command::Subscription(command) => admin::subscription(command, &connect(dir)?),
        Command::Pub(args) => publish::run(&args, &connect(dir)?),
        Command::Journal(args) => journal::run(args, dir),
        Command::Inspect(args) => inspect::run(&args, dir),
        Command::Peek(args) => peek::run(&args, dir),
        Command::Sub(args) => subscribe::run(&args, &connect(dir)?),
        Command::Bench(args) => bench::run(&args, dir),
        Command::BenchRole(args) => bench::run_role(&args, || connect(dir)),
        Command::BenchSweeper(args) => bench::sweep(&args, dir),
        Command::Top(args) => top::run(&args, dir),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Doctor(args) => doctor::run(&args, dir),
        Command::Demo(args) => demo::run(&args, dir),
        Command::DemoProducer(args) => demo::roles::produce(&args, || connect(dir)),
        Command::DemoConsumer(args) => demo::roles::consume(&args, || connect(dir)),
        Command::DemoWorker(args) => demo::roles::work(&args, || connect(dir)),
    }
}

fn connect(directory: Option<PathBuf>) -> Result<Connection, Failure> {
    Ok(connect_to(directory.unwrap_or_else(directory::default_directory))?)
}

/// Connects to a broker, and to no other one when it is gone: a command that loses its broker says so.
fn connect_to(directory: impl AsRef<Path>) -> Result<Connection, ConnectError> {
    Connection::builder(directory).reconnect_within(Duration::ZERO).open()
}
