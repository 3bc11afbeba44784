//! A producer that goes on whatever happens to the broker. One that is killed is succeeded by its keeper: the program notices a pause.
//! One that was ended, or that was lost with its keeper, ends the connection: the program opens another, and asks where it was.
//!
//! `cargo run -p ringway-client --example broker_restart [DIRECTORY]`, and `kill -9` the process that it names meanwhile.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ringway_client::{
    Connection, Durability, Producer, StartAt, StreamSettings, directory::default_directory,
};

/// Opens the producer; waits for a broker until `end`.
fn open(directory: &Path, end: Instant) -> Result<(Connection, Producer), Box<dyn Error>> {
    loop {
        let opened = Connection::open(directory).map_err(Box::<dyn Error>::from).and_then(|connection| {
            let producer = connection.producer("example.steady").name("steady").open()?;
            Ok((connection, producer))
        });
        if opened.is_ok() || Instant::now() > end {
            return opened;
        }
        sleep(Duration::from_millis(20));
    }
}

/// Sends the next number, and waits until it is on the device. An error leaves open whether it is there.
fn send_one(connection: &Connection, producer: &mut Producer) -> Result<u32, Box<dyn Error>> {
    let number = producer.next_sequence().ok_or("the producer has a name")?;
    let position = producer.send(&number.to_le_bytes())?;
    producer.confirm_timeout(position, Duration::from_secs(10))?;
    connection.stream("example.steady")?; // Any request: with its answer comes the broker's process id.
    Ok(connection.broker_pid())
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory: PathBuf = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let first = Connection::open(&directory)?;
    let settings = StreamSettings { durability: Durability::Synced, ..StreamSettings::DEFAULT };
    first.declare_stream("example.steady", settings)?;
    first.declare_subscription("example.steady", "reader", StartAt::First)?;
    println!("broker {}: kill it within 20 s", first.broker_pid());

    let (end, mut after) = (Instant::now() + Duration::from_secs(20), 0);
    let (mut connection, mut producer) = open(&directory, end)?;
    while after < 20 && Instant::now() < end {
        match send_one(&connection, &mut producer) {
            Ok(pid) => after += u32::from(pid != first.broker_pid()),
            Err(error) => {
                println!("connecting again: {error}");
                drop(producer);
                (connection, producer) = open(&directory, end)?;
                println!("the stream has everything below {:?}", producer.next_sequence());
            }
        }
        sleep(Duration::from_millis(5));
    }

    let (mut reader, mut expected) = (connection.consumer("example.steady", "reader").open()?, 0_u64);
    while let Some(message) = reader.try_recv()? {
        assert_eq!(message.payload(), expected.to_le_bytes(), "each number is there once, in order");
        expected += 1;
    }
    println!("{expected} numbers, none missing, none twice; another broker: {}", after > 0);
    reader.close()?;
    producer.close()?;
    connection.delete_stream("example.steady")?;
    Ok(())
}
