//! Confirms: send as fast as you like, and wait once until all of it is on the device. A confirm is a watermark: it stands for
//! everything before it.
//!
//! `cargo run -p ringway-client --example confirms [DIRECTORY]`

use std::error::Error;
use std::time::Duration;

use ringway_client::{
    Connection, Durability, Outgoing, StartAt, StreamSettings, directory::default_directory,
};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let settings = StreamSettings { durability: Durability::Synced, ..StreamSettings::DEFAULT };
    connection.declare_stream("example.payments", settings)?;
    connection.declare_subscription("example.payments", "ledger", StartAt::First)?;

    let mut producer = connection.producer("example.payments").open()?;
    let mut last = None;
    for cents in 0..1000_u32 {
        last = Some(producer.send(&cents.to_le_bytes())?);
    }
    let last = last.ok_or("something was sent")?;
    let level = producer.confirm(last)?;
    println!("1000 messages are {}, by one wait", level.name());
    println!("the first of them, too: {}", producer.confirmed()[0].position > last.position);

    // The ledger's progress is confirmed in the same way: what it has consumed never comes again.
    let mut ledger = connection.consumer("example.payments", "ledger").open()?;
    let mut received = 0;
    while ledger.try_recv()?.is_some() {
        received += 1;
    }
    ledger.confirm_commit(Duration::from_secs(10))?;
    println!("{received} consumed, and that is synced");

    // A stream that is only `written`, and one message on it that matters more.
    let settings = StreamSettings { durability: Durability::Written, ..StreamSettings::DEFAULT };
    connection.declare_stream("example.notes", settings)?;
    let mut notes = connection.producer("example.notes").open()?;
    notes.send(b"nothing special")?;
    let level = notes.confirm_all_timeout(Duration::from_secs(10))?;
    println!("a note is at least written: {}", level >= Durability::Written); // It may be synced by now.
    let important = notes.send(Outgoing::new(b"read this").durability(Durability::Synced))?;
    println!("an important note is {}", notes.confirm(important)?.name());

    ledger.close()?;
    producer.close()?;
    notes.close()?;
    connection.delete_stream("example.payments")?;
    connection.delete_stream("example.notes")?;
    Ok(())
}
