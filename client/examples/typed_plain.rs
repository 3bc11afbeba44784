//! A typed channel of plain values: what lies in memory is what is sent. `zerocopy` checks that the type has no padding and no
//! pointers. A message that is no such value is an error that names its position, and the next call goes on behind it.
//!
//! `cargo run -p ringway-client --example typed_plain [DIRECTORY]`

use std::error::Error;

use ringway_client::{Connection, StartAt, StreamSettings, TypedRecvError, directory::default_directory};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Tick {
    price: f64,
    volume: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    connection.declare_stream("example.quotes", StreamSettings::DEFAULT)?;
    connection.declare_subscription("example.quotes", "chart", StartAt::First)?;

    let mut ticks = connection.producer("example.quotes").open()?.typed::<Tick>();
    ticks.send(&Tick { price: 99.5, volume: 300 })?;
    ticks.producer().send(b"no tick")?;
    ticks.send(&Tick { price: 99.75, volume: 20 })?;

    let mut chart = connection.consumer("example.quotes", "chart").open()?.typed::<Tick>();
    for _ in 0..3 {
        match chart.recv() {
            Ok(tick) => println!("{}: {} at {}", tick.message().position(), tick.volume, tick.price),
            Err(TypedRecvError::Value { position, source }) => println!("{position}: {source}"),
            Err(error) => return Err(error.into()),
        }
    }

    chart.into_consumer().close()?;
    ticks.into_producer().close()?;
    connection.delete_stream("example.quotes")?;
    Ok(())
}
