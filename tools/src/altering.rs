//! `ringway stream alter` and `ringway subscription alter`: settings of what is there.

use ringway_client::{Connection, StreamChanges, SubscriptionChanges, SubscriptionInfo, SubscriptionMode};

use crate::admin::{settings_text, shared_text};
use crate::cli::{AlterStreamArgs, AlterSubscriptionArgs};
use crate::exit::{Exit, Failure};
use crate::output::{print, print_json};

/// Alters a stream, and of a queue its subscription.
pub(crate) fn stream(args: &AlterStreamArgs, connection: &Connection) -> Result<(), Failure> {
    let (name, changes, shared) = (args.name.as_str(), args.changes(), args.shared.changes());
    let of_queue = shared != SubscriptionChanges::new();
    let stream = match (changes == StreamChanges::new(), of_queue) {
        (true, false) => return Err(nothing("stream")),
        (_, false) => connection.alter_stream(name, changes)?,
        (_, true) => connection.alter_queue(name, changes, shared)?,
    };
    if args.json {
        return print_json(&stream);
    }
    print(&format!("stream {name}: {}\n", settings_text(&stream.settings)))?;
    if of_queue { print(&text(&connection.subscription(name, name)?)) } else { Ok(()) }
}

/// Alters a subscription.
pub(crate) fn subscription(args: &AlterSubscriptionArgs, connection: &Connection) -> Result<(), Failure> {
    let changes = args.shared.changes();
    if changes == SubscriptionChanges::new() {
        return Err(nothing("subscription"));
    }
    let subscription = connection.alter_subscription(args.stream.as_str(), args.name.as_str(), changes)?;
    if args.json { print_json(&subscription) } else { print(&text(&subscription)) }
}

fn nothing(what: &str) -> Failure {
    let message = format!(
        "nothing is to be altered: say what, for example --lease 1m; all that can be: ringway {what} alter --help"
    );
    Failure::with(Exit::Usage, message)
}

fn text(subscription: &SubscriptionInfo) -> String {
    let settings = match &subscription.mode {
        SubscriptionMode::Shared(settings) => shared_text(settings),
        SubscriptionMode::Cursor(_) => "in order".to_owned(),
    };
    format!("subscription {} of stream {}: {settings}\n", subscription.name, subscription.stream)
}
