//! A full stream: its policy says whether the producer waits, is refused, or overwrites the oldest; and who holds it is said in the
//! error, and by the broker.
//!
//! `cargo run -p ringway-client --example overflow [DIRECTORY]`

use std::error::Error;
use std::time::Duration;

use ringway_client::{
    Connection, Overflow, SendError, StartAt, StreamSettings, directory::default_directory,
};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let policies = [
        ("block", Overflow::Block),
        ("reject", Overflow::Reject),
        ("drop-oldest", Overflow::DropOldest),
        ("detach", Overflow::Detach { after_ms: 50 }),
    ];
    for (name, overflow) in policies {
        let settings = StreamSettings { slots: 4, overflow, ..StreamSettings::DEFAULT };
        connection.declare_stream("example.small", settings)?;
        connection.declare_subscription("example.small", "slow", StartAt::First)?;
        let mut producer = connection.producer("example.small").open()?;
        let mut slow = connection.consumer("example.small", "slow").open()?;

        // Six messages into four slots.
        let mut sent = 0;
        let outcome = (0..6_u8).try_for_each(|number| {
            producer.send_timeout(&[number], Duration::from_millis(500))?;
            sent += 1;
            Ok::<(), SendError>(())
        });
        match outcome {
            Ok(()) => println!("{name}: {sent} sent"),
            Err(error) => {
                println!("{name}: {sent} sent, then: {error} (retryable: {})", error.is_retryable())
            }
        }
        if let Some(lag) = connection.stream("example.small")?.slowest() {
            println!("  held by {}, {} behind", lag.subscription, lag.messages);
        }
        let mut received = 0;
        while slow.recv_timeout(Duration::from_millis(50))?.is_some() {
            received += 1;
        }
        println!("  received {received}, missed {}", slow.missed());

        slow.close()?;
        producer.close()?;
        connection.delete_stream("example.small")?;
    }
    Ok(())
}
