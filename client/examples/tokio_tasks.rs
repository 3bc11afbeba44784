//! Tasks under tokio: sending, receiving and confirming wait without blocking the runtime's threads; messages come as a stream, too.
//!
//! `cargo run -p ringway-client --example tokio_tasks [DIRECTORY]`

use std::error::Error;

use ringway_client::{
    Connection, Durability, SharedSettings, StartAt, StreamSettings, directory::default_directory,
};
use tokio_stream::StreamExt;

async fn run(connection: Connection) -> Result<(), Box<dyn Error>> {
    let mut producer = connection.producer("example.ticks").open()?;
    let mut consumer = connection.consumer("example.ticks", "chart").open()?;

    // The ring has 16 slots: the task that sends waits again and again for the one that receives.
    let sending = tokio::spawn(async move {
        for tick in 0..1000_u32 {
            producer.send_async(&tick.to_le_bytes()).await?;
        }
        producer.confirmation_of_all()?.await?;
        Ok::<_, Box<dyn Error + Send + Sync>>(producer)
    });
    let mut sum = 0;
    for _ in 0..500 {
        let message = consumer.recv_async().await?;
        sum += u32::from_le_bytes(message.payload().try_into()?);
    }
    // The other half as a stream, with all that its extensions can do.
    let mut ticks = consumer.into_stream().take(500);
    while let Some(message) = ticks.next().await.transpose()? {
        sum += u32::from_le_bytes(message.payload().try_into()?);
    }
    let producer = sending.await?.map_err(|error| error as Box<dyn Error>)?;
    println!("1000 ticks, sum {sum}, all confirmed");

    // Two workers of a queue, as tasks of one thread.
    let mut jobs = connection.producer("example.tasks").open()?;
    jobs.send_batch_async((0..10).map(|_| b"job")).await?;
    let workers = [(); 2].map(|()| connection.queue_consumer("example.tasks").open());
    for worker in workers {
        let mut worker = worker?;
        tokio::spawn(async move {
            for _ in 0..5 {
                worker.recv_async().await?.ack().expect("the lease is long enough");
            }
            worker.confirm_settled_async().await.expect("the broker is there");
            Ok::<(), ringway_client::RecvError>(())
        })
        .await??;
    }
    println!("10 jobs done");
    producer.close()?;
    jobs.close()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let settings = StreamSettings { slots: 16, durability: Durability::Written, ..StreamSettings::DEFAULT };
    connection.declare_stream("example.ticks", settings)?;
    connection.declare_subscription("example.ticks", "chart", StartAt::First)?;
    connection.declare_queue("example.tasks", StreamSettings::DEFAULT, SharedSettings::default())?;
    tokio::runtime::Builder::new_current_thread().build()?.block_on(run(connection.clone()))?;
    connection.delete_stream("example.ticks")?;
    connection.delete_stream("example.tasks")?;
    Ok(())
}
