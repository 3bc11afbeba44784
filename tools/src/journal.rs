//! `ringway journal`: what is in the journals of a data directory, whether or not a broker is at work there. Nothing is changed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ringway_broker::RecoveryError;
use ringway_broker::config::DATA_NAME;
use ringway_broker::inspection::{FileInfo, FileKind, Journal, JournaledStream, LogMessage, Verified};
use ringway_broker::salvage::{SalvageError, Salvaged, salvage};
use ringway_client::directory::default_data_directory;
use ringway_client::{Durability, Position};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{JournalArgs, JournalCommand, JournalFormat, JournalShowArgs};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{self, Output, ProgressLine, count, table, thousands};
use crate::subscribe::writer::{Line, Printed};

/// Output is written when so much has gathered, in bytes.
const FLUSH_BYTES: usize = 64 << 10;
/// A payload is shown up to so many bytes where it is not asked for as a whole.
const SHOWN_BYTES: usize = 60;

/// Runs the command. `directory`: the broker's, if it was given.
pub(crate) fn run(args: JournalArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    let own = directory.map(|directory| directory.join(DATA_NAME));
    let data = args.data.or(own).unwrap_or_else(default_data_directory);
    let journals = match Journal::all(&data) {
        Err(RecoveryError::Io { source, .. })
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            Vec::new()
        }
        found => found?,
    };
    if journals.is_empty() {
        let message = format!("there is no journal in {}: name the data directory by --data", data.display());
        return Err(Failure::with(Exit::NotFound, message));
    }
    match args.command {
        JournalCommand::Ls { json } => list(&journals, json),
        JournalCommand::Show(args) => show(&journals, &args),
        JournalCommand::Salvage { into, json } => run_salvage(&data, &into, json),
        JournalCommand::Verify { json } => verify(&journals, json),
    }
}

impl From<SalvageError> for Failure {
    fn from(error: SalvageError) -> Self {
        match error {
            SalvageError::Unreadable(error) => error.into(),
            SalvageError::InUse(_) | SalvageError::NotEmpty(_) => Self::with(Exit::Refused, error),
            error => Self::new(error),
        }
    }
}

impl From<RecoveryError> for Failure {
    fn from(error: RecoveryError) -> Self {
        let RecoveryError::Io { source, .. } = &error else { return Self::new(error) };
        match source.kind() {
            ErrorKind::NotFound => Self::with(Exit::NotFound, error),
            ErrorKind::PermissionDenied => {
                let message = format!("{error}; run it as the user of the broker, or as root");
                Self::with(Exit::Refused, message)
            }
            _ => Self::new(error),
        }
    }
}

fn level(durability: Durability) -> &'static str {
    match durability {
        Durability::Written => "written",
        Durability::Synced => "synced",
        _ => "memory",
    }
}

fn list(journals: &[Journal], json: bool) -> Result<(), Failure> {
    let mut text = String::new();
    let mut values = Vec::new();
    for (index, journal) in journals.iter().enumerate() {
        let files = journal.files()?;
        // What cannot be read is said by verify, and does not hide the files.
        let streams = journal.streams();
        if json {
            values.push(json!({
                "shard": journal.shard(),
                "directory": journal.directory(),
                "in_use": journal.is_live(),
                "files": files.iter().map(file_value).collect::<Vec<_>>(),
                "streams": streams.as_ref().map(|streams| streams.iter().map(stream_value).collect::<Vec<_>>()).ok(),
                "error": streams.as_ref().err().map(ToString::to_string),
            }));
            continue;
        }
        let bytes = files.iter().map(|file| file.bytes).sum();
        let in_use = if journal.is_live() { ", in use" } else { "" };
        text += if index == 0 { "" } else { "\n" };
        text += &format!(
            "shard {}: {}, {} bytes{in_use}\n",
            journal.shard(),
            journal.directory().display(),
            thousands(bytes)
        );
        let rows: Vec<_> = files.iter().map(file_row).collect();
        text += &table(&["FILE", ">BYTES", ">EPOCH", ">RECORDS FROM"], &rows);
        match streams {
            Ok(streams) => {
                let rows: Vec<_> = streams.iter().map(stream_row).collect();
                text += "\n";
                text += &table(&["STREAM", ">PARTITION", "DURABILITY", ">MESSAGES", ">FIRST", ">END"], &rows);
            }
            Err(error) => text += &format!("\n{error}\n"),
        }
    }
    if json { output::print_json(&values) } else { output::print(&text) }
}

fn file_row(file: &FileInfo) -> Vec<String> {
    let (epoch, from) = match file.kind {
        FileKind::Segment { epoch, first_lsn, .. } => {
            (epoch.to_string(), first_lsn.map_or("empty".to_owned(), thousands))
        }
        FileKind::Snapshot { lsn, is_whole: true } => (String::new(), format!("below {}", thousands(lsn))),
        FileKind::Snapshot { .. } => (String::new(), "damaged".to_owned()),
        FileKind::Spare => (String::new(), String::new()),
        FileKind::Unreadable => (String::new(), "damaged".to_owned()),
    };
    vec![file.name.clone(), thousands(file.bytes), epoch, from]
}

fn file_value(file: &FileInfo) -> Value {
    match file.kind {
        FileKind::Segment { segment, epoch, first_lsn } => json!({
            "name": file.name, "bytes": file.bytes, "kind": "segment", "segment": segment, "epoch": epoch, "first_lsn": first_lsn
        }),
        FileKind::Snapshot { lsn, is_whole } => json!({
            "name": file.name, "bytes": file.bytes, "kind": "snapshot", "lsn": lsn, "whole": is_whole
        }),
        FileKind::Spare => json!({ "name": file.name, "bytes": file.bytes, "kind": "spare" }),
        FileKind::Unreadable => json!({ "name": file.name, "bytes": file.bytes, "kind": "unreadable" }),
    }
}

fn stream_row(stream: &JournaledStream) -> Vec<String> {
    vec![
        stream.stream.clone(),
        stream.partition.to_string(),
        level(stream.durability).to_owned(),
        thousands(stream.messages),
        thousands(stream.first),
        thousands(stream.end),
    ]
}

fn stream_value(stream: &JournaledStream) -> Value {
    json!({
        "stream": stream.stream, "partition": stream.partition, "durability": level(stream.durability),
        "messages": stream.messages, "first": stream.first, "end": stream.end,
    })
}

fn show(journals: &[Journal], args: &JournalShowArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    let mut output = Output::stdout(interrupt)?;
    let (mut left, mut failure, mut missing) = (args.count.unwrap_or(u64::MAX), None, 0_u64);
    for journal in journals.iter().filter(|journal| args.shard.is_none_or(|shard| shard == journal.shard())) {
        let mut each = |message: LogMessage<'_>| {
            if left > 0 && is_wanted(&message, args) {
                left -= 1;
                write(output.buffer(), &message, args.format);
                if output.buffered_bytes() >= FLUSH_BYTES
                    && let Err(error) = output.flush()
                {
                    failure = Some(error);
                }
            }
            left > 0 && failure.is_none()
        };
        journal.messages(&mut each, &mut |error| {
            missing += 1;
            output::say(&error.to_string());
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
    output.flush()?;
    match missing {
        0 => Ok(()),
        _ => Err(Failure::new("not all that was confirmed could be read: see above")),
    }
}

/// A message as `--format json` prints it.
#[derive(Serialize)]
struct Logged<'a> {
    lsn: u64,
    time: String,
    stream: Option<&'a str>,
    #[serde(flatten)]
    message: Line<'a>,
}

fn is_wanted(message: &LogMessage<'_>, args: &JournalShowArgs) -> bool {
    let stream = args.stream.as_ref();
    stream.is_none_or(|stream| message.stream == Some(stream.as_str()))
        && args.partition.is_none_or(|partition| partition == message.partition)
        && args.position.as_ref().is_none_or(|positions| positions.contains(&message.position))
        && args.since.is_none_or(|since| message.time_ns >= since)
        && args.until.is_none_or(|until| message.time_ns < until)
}

fn write(buffer: &mut Vec<u8>, message: &LogMessage<'_>, format: JournalFormat) {
    let LogMessage { lsn, time_ns, stream, partition, position, attributes, payload } = *message;
    let time = humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_nanos(time_ns));
    match format {
        JournalFormat::Raw => buffer.extend_from_slice(payload),
        JournalFormat::Json => {
            let at = Position { partition, position };
            let message = Printed { at, attempt: None, attributes, payload }.line();
            let logged = Logged { lsn, time: time.to_string(), stream, message };
            serde_json::to_writer(&mut *buffer, &logged).expect("numbers and strings always are JSON");
        }
        JournalFormat::Line => {
            let shown = &payload[..payload.len().min(SHOWN_BYTES)];
            let more = if shown.len() < payload.len() { "…" } else { "" };
            let (stream, bytes) = (stream.unwrap_or("(gone)"), payload.len());
            let shown = shown.escape_ascii();
            let line = format!("{time} {lsn} {stream} {partition}:{position} {bytes} {shown}{more}");
            buffer.extend_from_slice(line.as_bytes());
        }
    }
    buffer.push(b'\n');
}

fn run_salvage(data: &Path, into: &Path, json: bool) -> Result<(), Failure> {
    let salvaged = salvage(data, into)?;
    if json {
        let value = |salvaged: &Salvaged| {
            let Salvaged { shard, streams, messages, lost, damage } = salvaged;
            json!({
                "shard": shard, "streams": streams, "messages": messages, "messages_lost": lost, "damage": damage
            })
        };
        return output::print_json(&salvaged.iter().map(value).collect::<Vec<_>>());
    }
    for Salvaged { shard, streams, messages, lost, damage } in &salvaged {
        let streams = match streams {
            1 => "1 partition of a stream".to_owned(),
            streams => format!("{} partitions of streams", thousands(*streams)),
        };
        let mut text = format!(
            "shard {shard}: {}, {streams}; known to be lost: {}\n",
            count(*messages, "message"),
            count(*lost, "message")
        );
        damage.iter().for_each(|damage| text += &format!("  {damage}\n"));
        output::print(&text)?;
    }
    output::say(&format!("the new journals are in {}: ringway serve --data {0}", into.display()));
    Ok(())
}

fn verify(journals: &[Journal], json: bool) -> Result<(), Failure> {
    let mut damaged = 0;
    let mut values = Vec::new();
    for journal in journals {
        let began = Instant::now();
        let mut line = ProgressLine::default();
        let shard = journal.shard();
        let verified = journal.verify(&mut |bytes, of| {
            line.show(|| {
                let percent = bytes * 100 / of.max(1);
                let (bytes, of) = (thousands(bytes >> 20), thousands(of >> 20));
                format!("shard {shard}: {bytes} of {of} MiB read ({percent} %)")
            });
        });
        line.clear();
        let verified = verified?;
        damaged += verified.damage.len();
        if json {
            values.push(verified_value(journal, &verified));
        } else {
            output::print(&report(journal, &verified, began.elapsed()))?;
        }
    }
    if json {
        output::print_json(&values)?;
    }
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::new("not all that was confirmed is there")),
    }
}

fn report(journal: &Journal, verified: &Verified, took: Duration) -> String {
    let Verified { bytes, batches, records, messages, snapshots, torn, damage } = verified;
    let mut text = format!(
        "shard {}: {} in {} ({}), {} read in {:.2} s ({:.2} GB/s); {}; {}\n",
        journal.shard(),
        count(*messages, "message"),
        count(*records, "record"),
        count(*batches, "batch"),
        count(*bytes, "byte"),
        took.as_secs_f64(),
        *bytes as f64 / took.as_secs_f64() / 1e9,
        count(snapshots.0 as u64, "snapshot"),
        if damage.is_empty() { "whole" } else { "DAMAGED" },
    );
    if let Some((file, offset)) = torn {
        text += &format!(
            "  behind the end, at byte {} of {file}: a tail that was never confirmed\n",
            thousands(*offset)
        );
    }
    damage.iter().for_each(|damage| text += &format!("  {damage}\n"));
    text
}

fn verified_value(journal: &Journal, verified: &Verified) -> Value {
    json!({
        "shard": journal.shard(),
        "directory": journal.directory(),
        "bytes": verified.bytes,
        "batches": verified.batches,
        "records": verified.records,
        "messages": verified.messages,
        "snapshots_whole": verified.snapshots.0,
        "snapshots_damaged": verified.snapshots.1,
        "torn_tail": verified.torn.as_ref().map(|(file, offset)| json!({ "file": file, "offset": offset })),
        "damage": verified.damage,
    })
}
