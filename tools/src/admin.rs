//! `ringway stop`, `ringway stream …` and `ringway subscription …`.

use std::collections::BTreeSet;
use std::time::Duration;

use ringway_client::{
    AdminError, Backoff, Connection, CursorInfo, Durability, Lag, PartitionInfo, Producers, RefusalCode,
    SharedInfo, SharedSettings, StreamInfo, StreamKind, StreamSettings, SubscriptionInfo, SubscriptionMode,
    Watermarks,
};
use ringway_shm_protocol::name::Name;
use serde_json::json;

use crate::cli::{Kind, Mode, SharedArgs, StopArgs, StreamCommand, SubscriptionCommand};
use crate::exit::{Exit, Failure};
use crate::output::{count, lines, print, print_json, table, thousands};
use crate::{altering, moving};

/// Ends the broker.
pub(crate) fn stop(args: &StopArgs, connection: &Connection) -> Result<(), Failure> {
    let pid = connection.broker_pid();
    connection.stop_broker(args.timeout)?;
    print(&format!("ringway: the broker in {} has ended (pid {pid})\n", connection.directory().display()))
}

/// Makes, shows, alters and deletes streams.
pub(crate) fn stream(command: StreamCommand, connection: &Connection) -> Result<(), Failure> {
    match command {
        StreamCommand::Create {
            name,
            kind,
            partitions,
            slots,
            slot_size,
            max_payload,
            producers,
            overflow,
            durability,
            shared,
        } => {
            let settings = StreamSettings {
                kind: kind.into(),
                partitions,
                slots,
                slot_bytes: slot_size,
                payload_bytes_max: max_payload,
                producers: producers.into(),
                overflow,
                durability: durability.map_or_else(|| durability_of(kind), Durability::from),
            };
            let stream = match settings.kind {
                StreamKind::Topic => {
                    check_not_given(&shared, "--kind queue")?;
                    connection.declare_stream(name.as_str(), settings)?
                }
                StreamKind::Queue => create_queue(&name, settings, &shared, connection)?,
            };
            print(&format!("stream {}: {}\n", stream.name, settings_text(&stream.settings)))
        }
        StreamCommand::List { json } => {
            let streams = connection.streams()?;
            if json { print_json(&streams) } else { print(&stream_table(&streams)) }
        }
        StreamCommand::Show { name, json } => {
            let stream = connection.stream(name.as_str())?;
            if json { print_json(&stream) } else { print(&stream_text(&stream)) }
        }
        StreamCommand::Alter(args) => altering::stream(&args, connection),
        StreamCommand::Purge { name, json } => {
            let messages = connection.purge_stream(name.as_str())?;
            if json {
                print_json(&json!({"stream": name.as_str(), "purged": messages}))
            } else {
                print(&format!("stream {name}: {} purged\n", count(messages, "message")))
            }
        }
        StreamCommand::Move(args) => moving::run(&args, connection),
        StreamCommand::Redrive(args) => moving::redrive(&args, connection),
        StreamCommand::Delete { name } => {
            connection.delete_stream(name.as_str())?;
            print(&format!("stream {name}: deleted\n"))
        }
    }
}

/// Makes, shows, alters and deletes subscriptions.
pub(crate) fn subscription(command: SubscriptionCommand, connection: &Connection) -> Result<(), Failure> {
    match command {
        SubscriptionCommand::Create { stream, name, from, mode, shared } => {
            let (on, new, from) = (stream.as_str(), name.as_str(), from.into());
            let subscription = match mode {
                Mode::Cursor => {
                    let (settings, rest) = shared.of_cursor();
                    check_not_given(&rest, "--mode shared")?;
                    connection.declare_subscription_as(on, new, from, SubscriptionMode::Cursor(settings))?
                }
                Mode::Shared => {
                    connection.declare_shared_subscription(on, new, from, shared.settings(None))?
                }
            };
            let positions: Vec<_> =
                subscription.partitions.iter().map(|cursor| cursor.position.to_string()).collect();
            let positions = positions.join(", ");
            print(&format!("subscription {name} of stream {stream}: at position {positions}\n"))
        }
        SubscriptionCommand::List { stream, json } => {
            let subscriptions = connection.subscriptions(stream.as_str())?;
            if json { print_json(&subscriptions) } else { print(&subscription_table(&subscriptions)) }
        }
        SubscriptionCommand::Show { stream, name, json } => {
            let subscription = connection.subscription(stream.as_str(), name.as_str())?;
            if json { print_json(&subscription) } else { print(&subscription_text(&subscription)) }
        }
        SubscriptionCommand::Alter(args) => altering::subscription(&args, connection),
        SubscriptionCommand::Purge { stream, name, json } => {
            let messages = connection.purge_subscription(stream.as_str(), name.as_str())?;
            if json {
                print_json(
                    &json!({"stream": stream.as_str(), "subscription": name.as_str(), "purged": messages}),
                )
            } else {
                let messages = count(messages, "message");
                print(&format!("subscription {name} of stream {stream}: {messages} purged\n"))
            }
        }
        SubscriptionCommand::Delete { stream, name } => {
            connection.delete_subscription(stream.as_str(), name.as_str())?;
            print(&format!("subscription {name} of stream {stream}: deleted\n"))
        }
    }
}

/// Options of a queue are wrong elsewhere.
fn check_not_given(shared: &SharedArgs, with: &str) -> Result<(), Failure> {
    match shared.given() {
        Some(option) => Err(Failure::with(Exit::Usage, format!("{option} goes with {with}"))),
        None => Ok(()),
    }
}

/// Makes a queue, and the queue for its dead letters if no other stream was named.
fn create_queue(
    name: &Name,
    settings: StreamSettings,
    shared: &SharedArgs,
    connection: &Connection,
) -> Result<StreamInfo, Failure> {
    if shared.dead_letter.is_some() || shared.no_dead_letter {
        return Ok(connection.declare_queue(name.as_str(), settings, shared.settings(None))?);
    }
    let dead = Name::parse(format!("{name}.dead")).map_err(|error| {
        let message = format!("the queue for its dead letters: {error}; name one with --dead-letter STREAM");
        Failure::with(Exit::Usage, message)
    })?;
    // First, so that nothing is made where it cannot be; what dies before there is a queue for it waits.
    let queue = connection.declare_queue(name.as_str(), settings, shared.settings(Some(&dead)))?;
    // As it is, if it is there.
    match connection.stream(dead.as_str()) {
        Err(AdminError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {
            let producers = Producers::Shared;
            let for_ever = SharedSettings { attempts_max: 0, ..SharedSettings::default() };
            connection.declare_queue(dead.as_str(), StreamSettings { producers, ..settings }, for_ever)?;
        }
        found => {
            found?;
        }
    }
    Ok(queue)
}

/// What confirmed messages survive when nothing is said.
fn durability_of(kind: Kind) -> Durability {
    match kind {
        Kind::Topic => Durability::Memory,
        Kind::Queue => Durability::Synced,
    }
}

pub(crate) fn settings_text(settings: &StreamSettings) -> String {
    let partitions = match settings.partitions {
        1 => String::new(),
        partitions => format!("{partitions} partitions, "),
    };
    format!(
        "{}, {partitions}{} slots of {} bytes, payloads to {}, {} producers, overflow {}, durability {}",
        settings.kind.name(),
        thousands(settings.slots),
        settings.slot_bytes,
        count(settings.payload_bytes_max.into(), "byte"),
        settings.producers.name(),
        settings.overflow,
        settings.durability.name(),
    )
}

/// `-` stands for what is not there.
fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}

fn slowest(lag: Option<&Lag>) -> String {
    lag.map_or_else(
        || "-".to_owned(),
        |lag| {
            let consumer = lag.consumer_pid.map_or("no consumer".to_owned(), |pid| format!("process {pid}"));
            format!("{} ({} behind, {consumer})", lag.subscription, thousands(lag.messages))
        },
    )
}

/// The processes that have a stream open to publish, those that are listed.
fn producers(stream: &StreamInfo) -> String {
    if stream.producers() == 0 {
        return "-".to_owned();
    }
    let pids: BTreeSet<u32> =
        stream.partitions.iter().flat_map(|partition| partition.producer_pids.iter().copied()).collect();
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    format!("{} (process {})", stream.producers(), pids.join(", "))
}

fn stream_table(streams: &[StreamInfo]) -> String {
    let row = |stream: &StreamInfo| {
        let held = |partition: &PartitionInfo| partition.next_position - partition.first_position;
        let published = |partition: &PartitionInfo| partition.next_position;
        vec![
            stream.name.clone(),
            stream.settings.kind.name().to_owned(),
            stream.settings.partitions.to_string(),
            stream.settings.slots.to_string(),
            stream.settings.slot_bytes.to_string(),
            stream.partitions.iter().map(held).sum::<u64>().to_string(),
            stream.partitions.iter().map(published).sum::<u64>().to_string(),
            stream.producers().to_string(),
            stream.subscriptions.to_string(),
            slowest(stream.slowest()),
        ]
    };
    let heads = [
        "NAME",
        "KIND",
        ">PARTITIONS",
        ">SLOTS",
        ">SLOT-SIZE",
        ">HELD",
        ">PUBLISHED",
        ">PRODUCERS",
        ">SUBSCRIPTIONS",
        "SLOWEST",
    ];
    table(&heads, &streams.iter().map(row).collect::<Vec<_>>())
}

fn stream_text(stream: &StreamInfo) -> String {
    let mut fields = vec![("stream", stream.name.clone()), ("settings", settings_text(&stream.settings))];
    if let [partition] = &stream.partitions[..] {
        fields.push(("shard", partition.shard.to_string()));
        fields.push(("memory", memory(partition).to_owned()));
        fields.push(("positions held", positions(partition)));
        if let Some(Watermarks { first, written, .. }) = partition.durable {
            let kept =
                if written > first { format!("{first} to {}", written - 1) } else { "none".to_owned() };
            fields.push(("in the journal", kept));
        }
    }
    fields.extend([
        ("producers", producers(stream)),
        ("arenas", count(stream.arenas_bytes(), "byte")),
        ("subscriptions", stream.subscriptions.to_string()),
        ("slowest", slowest(stream.slowest())),
    ]);
    let mut text = lines(&fields);
    if stream.partitions.len() > 1 {
        let row = |partition: &PartitionInfo| {
            let slowest = slowest(partition.slowest.as_ref());
            let (number, shard) = (partition.partition.to_string(), partition.shard.to_string());
            vec![number, shard, positions(partition), slowest]
        };
        let rows: Vec<_> = stream.partitions.iter().map(row).collect();
        text = format!("{text}\n{}", table(&[">PARTITION", ">SHARD", "POSITIONS-HELD", "SLOWEST"], &rows));
    }
    text
}

fn memory(partition: &PartitionInfo) -> &'static str {
    if partition.opened { "made" } else { "not yet made: it is when the stream is first opened" }
}

fn positions(partition: &PartitionInfo) -> String {
    let PartitionInfo { first_position, next_position, .. } = partition;
    if next_position > first_position {
        format!("{first_position} to {}", next_position - 1)
    } else {
        format!("none (the next is {next_position})")
    }
}

fn subscription_table(subscriptions: &[SubscriptionInfo]) -> String {
    let rows = subscriptions.iter().flat_map(|subscription| {
        subscription.partitions.iter().map(|cursor| {
            let mode = mode_name(&subscription.mode).to_owned();
            let mut row = vec![subscription.name.clone(), mode, cursor.partition.to_string()];
            row.extend(cursor_cells(cursor));
            row
        })
    });
    let heads: Vec<&str> = ["NAME", "MODE", ">PARTITION"].into_iter().chain(CURSOR_HEADS).collect();
    table(&heads, &rows.collect::<Vec<_>>())
}

const CURSOR_HEADS: [&str; 8] =
    [">POSITION", ">BEHIND", ">READY", ">LEASED", ">DELAYED", ">DEAD", ">CONSUMER", "STATE"];

fn cursor_cells(cursor: &CursorInfo) -> [String; 8] {
    let state = if cursor.detached { "detached" } else { "attached" }.to_owned();
    let of_shared = |count: fn(&SharedInfo) -> u64| {
        cursor.shared.as_ref().map_or_else(|| "-".to_owned(), |shared| count(shared).to_string())
    };
    let consumer = match cursor.shared {
        Some(SharedInfo { consumers, .. }) if consumers != 1 => consumers.to_string(),
        _ => process(cursor.consumer_pid),
    };
    [
        cursor.position.to_string(),
        cursor.lag.to_string(),
        of_shared(|shared| shared.ready),
        of_shared(|shared| shared.leased),
        of_shared(|shared| shared.delayed),
        of_shared(|shared| shared.dead_total),
        consumer,
        state,
    ]
}

fn mode_name(mode: &SubscriptionMode) -> &'static str {
    match mode {
        SubscriptionMode::Cursor(_) => "cursor",
        SubscriptionMode::Shared(_) => "shared",
    }
}

pub(crate) fn shared_text(settings: &SharedSettings) -> String {
    let time = |ms: u32| format!("{:?}", Duration::from_millis(ms.into()));
    let Backoff { initial_ms, multiplier_percent, max_ms, jitter_percent } = settings.backoff;
    let backoff = match initial_ms {
        0 => "no backoff".to_owned(),
        _ => format!(
            "backoff {} × {} to {}{}",
            time(initial_ms),
            f64::from(multiplier_percent) / 100.0,
            time(max_ms),
            if jitter_percent > 0 { format!(" less up to {jitter_percent} %") } else { String::new() }
        ),
    };
    let attempts = match settings.attempts_max {
        0 => "any number of attempts".to_owned(),
        attempts => count(attempts.into(), "attempt"),
    };
    let dead = settings.dead_letter.as_ref().map_or_else(
        || "dead messages are dropped".to_owned(),
        |stream| format!("dead messages to {stream}"),
    );
    let active = if settings.single_active { ", single active consumer" } else { "" };
    format!("lease {}, {attempts}, {backoff}, {dead}{active}", time(settings.lease_ms))
}

fn subscription_text(subscription: &SubscriptionInfo) -> String {
    let mut fields = vec![
        ("subscription", subscription.name.clone()),
        ("stream", subscription.stream.clone()),
        ("mode", mode_name(&subscription.mode).to_owned()),
        ("visibility", subscription.mode.visibility().name().to_owned()),
    ];
    if let SubscriptionMode::Shared(settings) = &subscription.mode {
        let shared = subscription.shared();
        let consumers = match subscription.partitions.iter().find_map(|cursor| cursor.consumer_pid) {
            Some(pid) if shared.consumers > 1 => format!("{} (process {pid}, …)", shared.consumers),
            Some(pid) => format!("1 (process {pid})"),
            None => "-".to_owned(),
        };
        fields.extend([
            ("settings", shared_text(settings)),
            ("consumers", consumers),
            ("ready", count(shared.ready, "message")),
            ("leased", count(shared.leased, "message")),
            ("delayed", count(shared.delayed, "message")),
            ("dead", format!("{}, {} waiting", count(shared.dead_total, "message"), thousands(shared.dead))),
        ]);
    }
    if let [cursor] = &subscription.partitions[..] {
        fields.extend([("position", cursor.position.to_string()), ("behind", count(cursor.lag, "message"))]);
        if matches!(subscription.mode, SubscriptionMode::Cursor(_)) {
            fields.push(("consumer", process(cursor.consumer_pid)));
        }
        let state = if cursor.detached { "detached: it lagged" } else { "attached" };
        fields.push(("state", state.to_owned()));
        return lines(&fields);
    }
    fields.push(("behind", count(subscription.lag(), "message")));
    let row = |cursor: &CursorInfo| {
        let mut row = vec![cursor.partition.to_string()];
        row.extend(cursor_cells(cursor));
        row
    };
    let rows: Vec<_> = subscription.partitions.iter().map(row).collect();
    let heads: Vec<&str> = [">PARTITION"].into_iter().chain(CURSOR_HEADS).collect();
    format!("{}\n{}", lines(&fields), table(&heads, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: u32) -> PartitionInfo {
        PartitionInfo {
            partition,
            shard: 0,
            opened: true,
            first_position: 5,
            next_position: 9,
            producers: 2,
            producer_pids: vec![42, 43],
            arenas_bytes: 0,
            slowest: Some(Lag { subscription: "billing".into(), messages: 3, consumer_pid: Some(7) }),
            journal: None,
            durable: None,
        }
    }

    fn stream() -> StreamInfo {
        StreamInfo {
            name: "orders".into(),
            settings: StreamSettings::default(),
            subscriptions: 1,
            partitions: vec![partition(0)],
        }
    }

    #[test]
    fn a_stream_is_one_row_or_one_field_a_line() {
        let rows = stream_table(&[stream()]);
        assert_eq!(rows.lines().count(), 2);
        assert!(rows.contains("billing (3 behind, process 7)"));
        let text = stream_text(&stream());
        let settings = "settings        topic, 16,384 slots of 128 bytes, payloads to 16,777,216 bytes, shared producers, \
                        overflow block, durability memory\n";
        assert!(text.contains(settings), "{text}");
        assert!(text.contains("producers       2 (process 42, 43)\n"), "{text}");
        assert!(text.contains("positions held  5 to 8\n"), "{text}");
        let partition = PartitionInfo { first_position: 9, producers: 0, ..partition(0) };
        let empty = StreamInfo { partitions: vec![partition.clone()], ..stream() };
        assert!(stream_text(&empty).contains("none (the next is 9)"));
        assert!(stream_text(&empty).contains("producers       -\n"));
        let durable = Some(Watermarks { first: 2, written: 8, synced: 7 });
        let kept = StreamInfo { partitions: vec![PartitionInfo { durable, ..partition }], ..stream() };
        assert!(stream_text(&kept).contains("in the journal  2 to 7\n"), "{}", stream_text(&kept));
    }

    #[test]
    fn a_stream_of_several_partitions_shows_each() {
        let settings = StreamSettings { partitions: 3, ..StreamSettings::default() };
        let stream = StreamInfo { settings, partitions: (0..3).map(partition).collect(), ..stream() };
        assert!(stream_table(std::slice::from_ref(&stream)).lines().nth(1).unwrap().contains(" 12 "));
        let text = stream_text(&stream);
        assert!(text.contains("topic, 3 partitions, 16,384 slots"), "{text}");
        assert!(text.contains("producers      2 (process 42, 43)\n"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("5 to 8")).count(), 3, "{text}");
    }

    #[test]
    fn the_json_of_a_stream_keeps_its_field_names() {
        let json = serde_json::to_value(stream()).unwrap();
        assert_eq!(json["settings"]["kind"], "topic");
        assert_eq!(json["settings"]["slot_bytes"], 128);
        assert_eq!(json["partitions"][0]["slowest"]["messages"], 3);
        assert_eq!(
            (&json["settings"]["producers"], &json["settings"]["overflow"]),
            (&"shared".into(), &"block".into())
        );
    }
}
