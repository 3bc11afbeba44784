//! A producer that goes on whatever happens to the broker. One that is killed is succeeded by its keeper: the program notices a pause.
//! For one that was ended, or lost with its keeper, the client finds the next one; all that is left to do is to send again what was
//! not confirmed.
//!
//! `cargo run -p ringway-client --example broker_restart [DIRECTORY]`, and `kill -9` the process that it names meanwhile.

use std::error::Error;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ringway_client::{
    ConfirmError, Connection, Durability, Outgoing, Producer, SendError, StartAt, StreamSettings,
    directory::default_directory,
};

/// Sends a number until it is certain that it is on the device. What is there already is not sent twice.
fn send_for_certain(producer: &mut Producer, number: u64) -> Result<(), Box<dyn Error>> {
    loop {
        let position = match producer.send(Outgoing::new(&number.to_le_bytes()).sequence(number)) {
            Err(SendError::AlreadySent { .. }) => return Ok(()),
            sent => sent?,
        };
        match producer.confirm(position) {
            Err(ConfirmError::Disconnected { .. }) => println!("is {number} there? sending it again"),
            confirmed => return Ok(confirmed.map(drop)?),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory: PathBuf = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::builder(&directory).reconnect_within(Duration::from_secs(60)).open()?;
    let settings = StreamSettings { durability: Durability::Synced, ..StreamSettings::DEFAULT };
    connection.declare_stream("example.steady", settings)?;
    connection.declare_subscription("example.steady", "reader", StartAt::First)?;
    let mut producer = connection.producer("example.steady").name("steady").open()?;
    let first = connection.broker_pid();
    println!("broker {first}: kill it within 20 s");

    let (end, mut sent, mut after) = (Instant::now() + Duration::from_secs(20), 0, 0);
    while after < 20 && Instant::now() < end {
        send_for_certain(&mut producer, sent)?;
        sent += 1;
        connection.stream("example.steady")?; // Any request: with its answer comes the broker's process id.
        after += u32::from(connection.broker_pid() != first);
        sleep(Duration::from_millis(5));
    }

    let mut reader = connection.consumer("example.steady", "reader").open()?;
    for number in 0..sent {
        let message = reader.try_recv()?.ok_or("each number is there")?;
        assert_eq!(message.payload(), number.to_le_bytes(), "once, and in order");
    }
    println!("{sent} numbers, none missing, none twice; another broker: {}", after > 0);
    reader.close()?;
    producer.close()?;
    connection.delete_stream("example.steady")?;
    Ok(())
}
