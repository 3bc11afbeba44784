//! Visibility: a subscription may see messages as soon as they are written (the fastest), or only when they are on the device, so
//! that what its consumers act upon is never taken back by a crash.
//!
//! `cargo run -p ringway-client --example durable_visibility [DIRECTORY]`

use std::error::Error;
use std::time::{Duration, Instant};

use ringway_client::{
    Connection, CursorSettings, Durability, StartAt, StreamSettings, SubscriptionMode, Visibility,
    directory::default_directory,
};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let settings = StreamSettings { durability: Durability::Synced, ..StreamSettings::DEFAULT };
    connection.declare_stream("example.transfers", settings)?;
    for visibility in [Visibility::Committed, Visibility::Durable] {
        let mode = SubscriptionMode::Cursor(CursorSettings { visibility });
        let name = visibility.name();
        connection.declare_subscription_as("example.transfers", name, StartAt::First, mode)?;
    }

    let mut producer = connection.producer("example.transfers").open()?;
    let mut quick = connection.consumer("example.transfers", "committed").open()?;
    let mut safe = connection.consumer("example.transfers", "durable").open()?;
    let began = Instant::now();
    let position = producer.send(b"42 EUR from Anna to Bert")?;

    quick.recv()?;
    println!("the quick reader has it; nobody knows yet whether it survives a crash of the host");
    safe.recv()?;
    println!("the safe reader has it, and it is confirmed: {}", producer.is_confirmed(position));
    println!("both within 10 s: {}", began.elapsed() < Duration::from_secs(10));

    quick.close()?;
    safe.close()?;
    producer.close()?;
    connection.delete_stream("example.transfers")?;
    Ok(())
}
