//! Work that takes longer than the lease: the worker extends it while it is at work. One that forgets has the job taken away: it
//! comes again, and what the worker says later is late.
//!
//! `cargo run -p ringway-client --example long_work [DIRECTORY]`

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use ringway_client::{Connection, SettleError, SharedSettings, StreamSettings, directory::default_directory};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let settings = SharedSettings { lease_ms: 300, ..SharedSettings::default() };
    connection.declare_queue("example.films", StreamSettings::DEFAULT, settings)?;
    let mut producer = connection.producer("example.films").open()?;
    producer.send(b"cut the film")?;

    // Forgotten: nobody extends, so the lease ends and the job counts as failed.
    let mut careless = connection.queue_consumer("example.films").open()?;
    let job = careless.recv()?.keep();
    let mut careful = connection.queue_consumer("example.films").open()?;
    let mut again = careful.recv()?;
    println!("delivery {} after {} failed", again.attempt(), again.failed());
    match careless.ack(&job) {
        Err(SettleError::Late { position, attempt }) => println!("late: delivery {attempt} of {position}"),
        other => println!("unexpected: {other:?}"),
    }

    // Extended as long as the work goes on: four times 200 ms with a lease of 300.
    for _ in 0..4 {
        again.extend(Duration::from_millis(300))?;
        sleep(Duration::from_millis(200));
    }
    again.ack()?;
    println!("acked in time after 800 ms");

    let left = connection.subscription("example.films", "example.films")?.shared().unsettled();
    println!("{left} unsettled");
    careless.close()?;
    careful.close()?;
    producer.close()?;
    connection.delete_stream("example.films")?;
    Ok(())
}
