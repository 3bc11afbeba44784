//! An event loop over epoll: each consumer has a descriptor that is readable when there may be something to receive, beside timers,
//! sockets, and whatever else the loop waits for.
//!
//! `cargo run -p ringway-client --example epoll [DIRECTORY]`

use std::error::Error;
use std::time::Duration;

use ringway_client::{Connection, SharedSettings, StartAt, StreamSettings, directory::default_directory};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

const ORDERS: u64 = 1;
const JOBS: u64 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    connection.declare_stream("example.loop", StreamSettings::DEFAULT)?;
    connection.declare_subscription("example.loop", "reader", StartAt::First)?;
    connection.declare_queue("example.loop.jobs", StreamSettings::DEFAULT, SharedSettings::default())?;
    let mut orders = connection.consumer("example.loop", "reader").open()?;
    let mut jobs = connection.queue_consumer("example.loop.jobs").open()?;

    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let (orders_ready, jobs_ready) = (orders.readiness()?, jobs.readiness()?);
    epoll::add(&epoll, &orders_ready, EventData::new_u64(ORDERS), EventFlags::IN)?;
    epoll::add(&epoll, &jobs_ready, EventData::new_u64(JOBS), EventFlags::IN)?;

    let mut order_producer = connection.producer("example.loop").open()?;
    let mut job_producer = connection.producer("example.loop.jobs").open()?;
    let sending = std::thread::spawn(move || {
        for number in 0..20_u8 {
            std::thread::sleep(Duration::from_millis(1));
            order_producer.send(&[number])?;
            job_producer.send(&[number])?;
        }
        Ok::<(), ringway_client::SendError>(())
    });

    let (mut received, mut acked) = (0, 0);
    while received < 20 || acked < 20 {
        let mut events = Vec::with_capacity(8);
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in events {
            // Receive until there is nothing: that makes the descriptor wait for what comes next.
            if event.data.u64() == ORDERS {
                while orders.try_recv()?.is_some() {
                    received += 1;
                }
            } else {
                while let Some(job) = jobs.try_recv()? {
                    job.ack()?;
                    acked += 1;
                }
            }
        }
    }
    sending.join().expect("the producer does not panic")?;
    println!("{received} orders received and {acked} jobs acked by one loop");

    orders.close()?;
    jobs.close()?;
    connection.delete_stream("example.loop")?;
    connection.delete_stream("example.loop.jobs")?;
    Ok(())
}
