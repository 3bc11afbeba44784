//! Administration: declaring says what shall be there, and may be said again; everything can be listed, described and deleted.
//!
//! `cargo run -p ringway-client --example administration [DIRECTORY]`

use std::error::Error;

use ringway_client::{
    Connection, RefusalCode, SharedSettings, StartAt, StreamSettings, directory::default_directory,
};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    println!("the broker has {} shard(s)", connection.shards());

    let settings = StreamSettings { slots: 1024, ..StreamSettings::DEFAULT };
    connection.declare_stream("example.admin", settings)?;
    connection.declare_stream("example.admin", settings)?; // Said again: fine.
    let other = StreamSettings { slots: 2048, ..settings };
    let refused = connection.declare_stream("example.admin", other).err().ok_or("it is there already")?;
    println!("declared otherwise: {refused}");

    connection.declare_subscription("example.admin", "audit", StartAt::First)?;
    let shared = SharedSettings { lease_ms: 5000, ..SharedSettings::default() };
    connection.declare_shared_subscription("example.admin", "workers", StartAt::Next, shared)?;
    let mut producer = connection.producer("example.admin").open()?;
    producer.send_batch(["one", "two", "three"])?;

    for stream in connection.streams()?.iter().filter(|stream| stream.name.starts_with("example.")) {
        let next = stream.partitions[0].next_position;
        println!("{}: {} slots, next position {next}", stream.name, stream.settings.slots);
    }
    for subscription in connection.subscriptions("example.admin")? {
        println!("  {}: {} behind, {:?}", subscription.name, subscription.lag(), subscription.mode);
    }

    // What somebody has open is not deleted.
    let refused = connection.delete_stream("example.admin").err().ok_or("it is in use")?;
    println!("not yet: {refused} (retryable: {})", refused.is_retryable());
    producer.close()?;
    connection.delete_subscription("example.admin", "audit")?;
    connection.delete_stream("example.admin")?;
    let gone = connection.stream("example.admin").err().and_then(|error| error.code());
    println!("gone: {}", gone == Some(RefusalCode::NotFound));
    Ok(())
}
