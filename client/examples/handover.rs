//! Two processes: the first reads some messages and dies; the second takes the subscription over as soon as the kernel has reported
//! the death, behind the last message that was committed.
//!
//! `cargo run -p ringway-client --example handover [DIRECTORY]`

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ringway_client::{Connection, Consumer, StartAt, StreamSettings, directory::default_directory};

/// Tells a process that this program has started which one it is.
const ROLE: &str = "RINGWAY_EXAMPLE_ROLE";

/// A subscription has one consumer: while the broker has not heard of the death of the last one, the next is refused.
fn open(connection: &Connection) -> Result<Consumer, Box<dyn Error>> {
    loop {
        match connection.consumer("example.relay", "runner").open() {
            Err(error) if error.is_retryable() => std::thread::sleep(Duration::from_millis(1)),
            opened => return Ok(opened?),
        }
    }
}

/// What each of the two processes does.
fn run(connection: &Connection, role: &str) -> Result<(), Box<dyn Error>> {
    let mut consumer = open(connection)?;
    for number in 1.. {
        let Some(message) = consumer.try_recv()? else { return Ok(consumer.close()?) };
        println!("the {role} has {}", String::from_utf8_lossy(message.payload()));
        if role == "first" && number == 3 {
            consumer.commit()?;
        }
        if role == "first" && number == 5 {
            std::process::exit(1); // Without a word: what was not committed comes again.
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory: PathBuf = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(&directory)?;
    if let Ok(role) = std::env::var(ROLE) {
        return run(&connection, &role);
    }
    connection.declare_stream("example.relay", StreamSettings::DEFAULT)?;
    connection.declare_subscription("example.relay", "runner", StartAt::First)?;
    let mut producer = connection.producer("example.relay").open()?;
    producer.send_batch(["a", "b", "c", "d", "e", "f", "g"])?;
    for role in ["first", "second"] {
        let process = Command::new(std::env::current_exe()?).arg(&directory).env(ROLE, role).status()?;
        println!("the {role} has ended: {process}");
    }

    producer.close()?;
    connection.delete_stream("example.relay")?;
    Ok(())
}
