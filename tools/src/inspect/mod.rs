//! `ringway inspect`: a stream's memory as it stands, for reading only.
//!
//! | file | what it does |
//! |---|---|
//! | `report` | what there is to say of a partition, as `--json` prints it |
//! | `claims` | the same of a `shared` subscription |
//! | `text` | the report as tables |
//! | `slot` | one slot, in hexadecimal |
//! | `watch` | the report again and again |

mod claims;
mod report;
mod slot;
mod text;
mod watch;

use std::path::{Path, PathBuf};

use ringway_broker::holdings::{DumpError, Holdings, HoldingsError};
use ringway_client::directory;
use ringway_shm_protocol::name::Name;

use crate::cli::InspectArgs;
use crate::exit::{Exit, Failure};
use crate::output::{count, print, print_json, say};
use report::Report;
use text::Style;

/// Runs the command.
pub(crate) fn run(args: &InspectArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    let mut holdings = open(args.from_dump.as_deref(), directory.clone())?;
    let stream = match (&args.stream, holdings.dumped()) {
        (Some(stream), _) => stream.clone(),
        (None, Some(dumped)) => dumped.stream.clone(),
        (None, None) => return Err(Failure::with(Exit::Usage, "name a stream")),
    };
    if let (Some(_), Some(position)) = (args.part, args.position) {
        let partition = holdings.partition(&stream, args.partition.unwrap_or(0))?;
        return slot::show(&partition, position, args.json);
    }
    if let Some(path) = &args.dump {
        return dump(&mut holdings, &stream, args.partition, path);
    }
    if let Some(interval) = args.watch {
        return watch::run(args, &stream, holdings, directory, interval);
    }
    let reports = reports(&mut holdings, &stream, args.partition)?;
    if args.json {
        return print_json(&reports);
    }
    let style = Style::of_stdout();
    let taken = holdings.dumped().map(|dumped| text::taken(dumped.taken_ns)).unwrap_or_default();
    print(&format!("{taken}{}", text::of_all(&reports, style)))
}

/// What is held: in a dump, or by the keeper of the broker in a directory.
pub(crate) fn open(dump: Option<&Path>, directory: Option<PathBuf>) -> Result<Holdings, Failure> {
    Ok(match dump {
        Some(path) => Holdings::of_dump(path)?,
        None => Holdings::of_keeper(&directory.unwrap_or_else(directory::default_directory))?,
    })
}

/// The partitions of a stream that are asked for.
pub(crate) fn partitions(
    holdings: &mut Holdings,
    stream: &Name,
    only: Option<u32>,
) -> Result<Vec<u32>, Failure> {
    match only {
        Some(number) => Ok(vec![number]),
        None => Ok(holdings.partitions(stream)?),
    }
}

fn reports(holdings: &mut Holdings, stream: &Name, only: Option<u32>) -> Result<Vec<Report>, Failure> {
    let mut reports = Vec::new();
    for number in partitions(holdings, stream, only)? {
        let partition = holdings.partition(stream, number)?;
        reports.push(Report::of(&partition, holdings.now()));
    }
    Ok(reports)
}

fn dump(holdings: &mut Holdings, stream: &Name, only: Option<u32>, path: &Path) -> Result<(), Failure> {
    let partitions = partitions(holdings, stream, only)?;
    let bytes = holdings.dump(stream, &partitions, path)?;
    say(&format!(
        "{} with {} of stream {stream}; look at it: ringway inspect --from-dump {}",
        count(bytes, "byte"),
        count(partitions.len() as u64, "partition"),
        path.display()
    ));
    Ok(())
}

impl From<HoldingsError> for Failure {
    fn from(error: HoldingsError) -> Self {
        let exit = match &error {
            HoldingsError::NoBroker(_) | HoldingsError::NoStream { .. } => Exit::NotFound,
            HoldingsError::NoPartition { .. } | HoldingsError::PathTooLong { .. } => Exit::Usage,
            HoldingsError::NoAnswer { .. } => Exit::TimedOut,
            HoldingsError::NoKeeper(_)
            | HoldingsError::Refused { .. }
            | HoldingsError::Denied { .. }
            | HoldingsError::Dump(DumpError::Exists(_)) => Exit::Refused,
            _ => Exit::Failure,
        };
        Self::with(exit, error)
    }
}
