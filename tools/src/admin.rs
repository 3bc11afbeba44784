//! `ringway stop`, `ringway stream …` and `ringway subscription …`.

use ringway_client::{Connection, Lag, StreamInfo, StreamKind, StreamSettings, SubscriptionInfo};

use crate::cli::{StopArgs, StreamCommand, SubscriptionCommand};
use crate::exit::Failure;
use crate::output::{count, print, print_json, table, thousands};

/// Ends the broker.
pub(crate) fn stop(args: &StopArgs, connection: &Connection) -> Result<(), Failure> {
    let pid = connection.broker_pid();
    connection.stop_broker(args.timeout)?;
    print(&format!("ringway: the broker in {} has ended (pid {pid})\n", connection.directory().display()))
}

/// Makes, shows and deletes streams.
pub(crate) fn stream(command: StreamCommand, connection: &Connection) -> Result<(), Failure> {
    match command {
        StreamCommand::Create { name, kind, slots, slot_size } => {
            let settings = StreamSettings { kind: kind.into(), slots, slot_bytes: slot_size };
            let stream = connection.declare_stream(name.as_str(), settings)?;
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
        StreamCommand::Delete { name } => {
            connection.delete_stream(name.as_str())?;
            print(&format!("stream {name}: deleted\n"))
        }
    }
}

/// Makes, shows and deletes subscriptions.
pub(crate) fn subscription(command: SubscriptionCommand, connection: &Connection) -> Result<(), Failure> {
    match command {
        SubscriptionCommand::Create { stream, name, from } => {
            let subscription =
                connection.declare_subscription(stream.as_str(), name.as_str(), from.into())?;
            print(&format!("subscription {name} of stream {stream}: at position {}\n", subscription.position))
        }
        SubscriptionCommand::List { stream, json } => {
            let subscriptions = connection.subscriptions(stream.as_str())?;
            if json { print_json(&subscriptions) } else { print(&subscription_table(&subscriptions)) }
        }
        SubscriptionCommand::Show { stream, name, json } => {
            let subscription = connection.subscription(stream.as_str(), name.as_str())?;
            if json { print_json(&subscription) } else { print(&subscription_text(&subscription)) }
        }
        SubscriptionCommand::Delete { stream, name } => {
            connection.delete_subscription(stream.as_str(), name.as_str())?;
            print(&format!("subscription {name} of stream {stream}: deleted\n"))
        }
    }
}

fn kind_text(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Topic => "topic",
    }
}

fn settings_text(settings: &StreamSettings) -> String {
    let slots = thousands(settings.slots);
    format!("{}, {slots} slots of {} bytes", kind_text(settings.kind), settings.slot_bytes)
}

/// `-` stands for what is not there.
fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}

fn slowest(lag: Option<&Lag>) -> String {
    lag.map_or_else(
        || "-".to_owned(),
        |lag| format!("{} ({} behind)", lag.subscription, thousands(lag.messages)),
    )
}

fn stream_table(streams: &[StreamInfo]) -> String {
    let row = |stream: &StreamInfo| {
        vec![
            stream.name.clone(),
            kind_text(stream.settings.kind).to_owned(),
            stream.settings.slots.to_string(),
            stream.settings.slot_bytes.to_string(),
            stream.first_position.to_string(),
            stream.next_position.to_string(),
            process(stream.producer_pid),
            stream.subscriptions.to_string(),
            slowest(stream.slowest.as_ref()),
        ]
    };
    let heads =
        ["NAME", "KIND", ">SLOTS", ">SLOT-SIZE", ">FIRST", ">NEXT", ">PRODUCER", ">SUBSCRIPTIONS", "SLOWEST"];
    table(&heads, &streams.iter().map(row).collect::<Vec<_>>())
}

fn stream_text(stream: &StreamInfo) -> String {
    let positions = if stream.next_position > stream.first_position {
        format!("{} to {}", stream.first_position, stream.next_position - 1)
    } else {
        format!("none (the next is {})", stream.next_position)
    };
    let memory = if stream.opened { "made" } else { "not yet made: it is when the stream is first opened" };
    lines(&[
        ("stream", stream.name.clone()),
        ("settings", settings_text(&stream.settings)),
        ("shard", stream.shard.to_string()),
        ("memory", memory.to_owned()),
        ("positions held", positions),
        ("producer", process(stream.producer_pid)),
        ("subscriptions", stream.subscriptions.to_string()),
        ("slowest", slowest(stream.slowest.as_ref())),
    ])
}

fn subscription_table(subscriptions: &[SubscriptionInfo]) -> String {
    let row = |subscription: &SubscriptionInfo| {
        vec![
            subscription.name.clone(),
            subscription.position.to_string(),
            subscription.lag.to_string(),
            process(subscription.consumer_pid),
        ]
    };
    table(&["NAME", ">POSITION", ">BEHIND", ">CONSUMER"], &subscriptions.iter().map(row).collect::<Vec<_>>())
}

fn subscription_text(subscription: &SubscriptionInfo) -> String {
    lines(&[
        ("subscription", subscription.name.clone()),
        ("stream", subscription.stream.clone()),
        ("position", subscription.position.to_string()),
        ("behind", count(subscription.lag, "message")),
        ("consumer", process(subscription.consumer_pid)),
    ])
}

fn lines(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamInfo {
        StreamInfo {
            name: "orders".into(),
            settings: StreamSettings { kind: StreamKind::Topic, slots: 16_384, slot_bytes: 128 },
            shard: 0,
            opened: true,
            first_position: 5,
            next_position: 9,
            producer_pid: Some(42),
            subscriptions: 1,
            slowest: Some(Lag { subscription: "billing".into(), messages: 3 }),
        }
    }

    #[test]
    fn a_stream_is_one_row_or_one_field_a_line() {
        let rows = stream_table(&[stream()]);
        assert_eq!(rows.lines().count(), 2);
        assert!(rows.contains("billing (3 behind)"));
        let text = stream_text(&stream());
        assert!(text.contains("settings        topic, 16,384 slots of 128 bytes\n"), "{text}");
        assert!(text.contains("positions held  5 to 8\n"), "{text}");
        let empty = StreamInfo { first_position: 9, producer_pid: None, ..stream() };
        assert!(stream_text(&empty).contains("none (the next is 9)"));
        assert!(stream_text(&empty).contains("producer        -\n"));
    }

    #[test]
    fn the_json_of_a_stream_keeps_its_field_names() {
        let json = serde_json::to_value(stream()).unwrap();
        assert_eq!(json["settings"]["kind"], "topic");
        assert_eq!(json["settings"]["slot_bytes"], 128);
        assert_eq!(json["slowest"]["messages"], 3);
    }
}
