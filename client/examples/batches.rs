//! Batches: one call publishes many messages, and looks once for consumers that sleep; a worker claims ahead, and a consumer
//! commits when it likes.
//!
//! `cargo run -p ringway-client --example batches [DIRECTORY]`

use std::error::Error;

use ringway_client::{Connection, SharedSettings, StreamSettings, directory::default_directory};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    connection.declare_queue("example.batches", StreamSettings::DEFAULT, SharedSettings::default())?;

    let mut producer = connection.producer("example.batches").open()?;
    let numbers: Vec<[u8; 4]> = (0..1000_u32).map(u32::to_le_bytes).collect();
    let last = producer.send_batch(&numbers)?.ok_or("the batch has messages")?;
    println!("the last of {} is at {last}", numbers.len());

    // 64 at a time are this worker's: cheaper where many compete, but nobody else gets them meanwhile.
    let mut worker = connection.queue_consumer("example.batches").prefetch(64).open()?;
    let (mut jobs, mut sum) = (Vec::new(), 0);
    loop {
        let Some(job) = worker.try_recv()? else { break };
        sum += u32::from_le_bytes(job.payload().try_into()?);
        jobs.push(job.keep());
        if jobs.len() == 100 {
            // All of them are done at once: ack them together.
            for job in jobs.drain(..) {
                worker.ack(&job)?;
            }
        }
    }
    println!("sum {sum}, {} not acked", jobs.len());

    worker.close()?;
    producer.close()?;
    let left = connection.subscription("example.batches", "example.batches")?.shared().unsettled();
    println!("{left} unsettled");
    connection.delete_stream("example.batches")?;
    Ok(())
}
