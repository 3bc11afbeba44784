//! Keys and partitions: messages of one key go to one partition and stay in order; partitions may be shared out between consumers.
//!
//! `cargo run -p ringway-client --example keys_and_partitions [DIRECTORY]`

use std::error::Error;

use ringway_client::{
    Connection, Consumer, Outgoing, StartAt, StreamSettings, directory::default_directory, partition_of,
};

fn print_all(name: &str, consumer: &mut Consumer) -> Result<(), Box<dyn Error>> {
    while let Some(message) = consumer.try_recv()? {
        let key = String::from_utf8_lossy(message.key().unwrap_or_default());
        let text = String::from_utf8_lossy(message.payload());
        println!("{name} {}:{} {key}: {text}", message.partition(), message.position());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let settings = StreamSettings { partitions: 4, ..StreamSettings::DEFAULT };
    connection.declare_stream("example.accounts", settings)?;
    connection.declare_subscription("example.accounts", "ledger", StartAt::First)?;

    let mut producer = connection.producer("example.accounts").open()?;
    for change in ["open", "+5", "-3", "close"] {
        for account in ["anna", "bert", "carl"] {
            producer.send(Outgoing::new(change.as_bytes()).key(account.as_bytes()))?;
        }
    }
    for account in ["anna", "bert", "carl"] {
        println!("{account} belongs to partition {}", partition_of(account.as_bytes(), 4));
    }

    // Two consumers of one subscription, each with half of the partitions: they could be in two processes.
    let mut low = connection.consumer("example.accounts", "ledger").partitions([0, 1]).open()?;
    let mut high = connection.consumer("example.accounts", "ledger").partitions([2, 3]).open()?;
    print_all("low", &mut low)?;
    print_all("high", &mut high)?;

    low.close()?;
    high.close()?;
    producer.close()?;
    connection.delete_stream("example.accounts")?;
    Ok(())
}
