//! A producer that comes back: it has a name, numbers its messages, and asks where it was. What is there is not sent twice.
//!
//! `cargo run -p ringway-client --example named_producer [DIRECTORY]`

use std::error::Error;

use ringway_client::{
    Connection, Durability, Outgoing, SendError, StartAt, StreamSettings, directory::default_directory,
};

const LINES: [&str; 5] = ["one", "two", "three", "four", "five"];

/// Imports all lines, or dies in the middle.
fn import(connection: &Connection, dies_before: Option<usize>) -> Result<(), Box<dyn Error>> {
    let mut producer = connection.producer("example.import").name("importer").open()?;
    let next = producer.next_sequence().ok_or("it has a name")?;
    println!("the importer begins with line {next}");
    for (number, line) in LINES.iter().enumerate().skip(next as usize) {
        if Some(number) == dies_before {
            return Ok(()); // The producer is dropped without a confirm: it does not know what is there.
        }
        producer.send(Outgoing::new(line.as_bytes()).sequence(number as u64))?;
    }
    producer.confirm_all()?;
    // Whoever sends again what is there is told so, and nothing is stored.
    match producer.send(Outgoing::new(b"two").sequence(1)) {
        Err(SendError::AlreadySent { sequence, last, .. }) => {
            println!("{sequence} is there, {last} is the last")
        }
        other => println!("unexpected: {other:?}"),
    }
    Ok(producer.close()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let settings = StreamSettings { durability: Durability::Written, ..StreamSettings::DEFAULT };
    connection.declare_stream("example.import", settings)?;
    connection.declare_subscription("example.import", "reader", StartAt::First)?;

    import(&connection, Some(3))?;
    import(&connection, None)?;

    let mut reader = connection.consumer("example.import", "reader").open()?;
    let mut lines = Vec::new();
    while let Some(message) = reader.try_recv()? {
        lines.push(String::from_utf8_lossy(message.payload()).into_owned());
    }
    println!("{}", lines.join(" "));

    reader.close()?;
    connection.delete_stream("example.import")?;
    Ok(())
}
