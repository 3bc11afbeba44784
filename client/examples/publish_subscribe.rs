//! Publish and subscribe: each subscription of a topic gets every message, in order, at its own pace, and its place is kept
//! when its consumer ends.
//!
//! `cargo run -p ringway-client --example publish_subscribe [DIRECTORY]`

use std::error::Error;

use ringway_client::{Connection, StartAt, StreamSettings, directory::default_directory};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    connection.declare_stream("example.orders", StreamSettings::DEFAULT)?;
    for name in ["billing", "kitchen"] {
        connection.declare_subscription("example.orders", name, StartAt::First)?;
    }

    let mut producer = connection.producer("example.orders").open()?;
    for order in ["one espresso", "two teas", "three cakes"] {
        producer.send(order)?;
    }

    let mut kitchen = connection.consumer("example.orders", "kitchen").open()?;
    while let Some(message) = kitchen.try_recv()? {
        println!("kitchen {}: {}", message.position(), String::from_utf8_lossy(message.payload()));
    }

    // The first consumer of billing reads one message and ends; the next goes on behind it.
    for _ in 0..2 {
        let mut billing = connection.consumer("example.orders", "billing").open()?;
        let message = billing.recv()?;
        println!("billing {}: {}", message.position(), String::from_utf8_lossy(message.payload()));
        billing.close()?;
    }
    println!("billing is {} behind", connection.subscription("example.orders", "billing")?.lag());

    kitchen.close()?;
    producer.close()?;
    connection.delete_stream("example.orders")?;
    Ok(())
}
