//! A queue: each job goes to one worker, who says what became of it: done, failed (again, after the backoff), or hopeless (to the
//! dead letters, which say why).
//!
//! `cargo run -p ringway-client --example queue_worker [DIRECTORY]`

use std::error::Error;
use std::time::Duration;

use ringway_client::{Backoff, Connection, SharedSettings, StreamSettings, directory::default_directory};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let dead = SharedSettings::default();
    connection.declare_queue("example.jobs.dead", StreamSettings::DEFAULT, dead)?;
    let settings = SharedSettings {
        attempts_max: 2,
        backoff: Backoff { initial_ms: 20, ..Backoff::default() },
        dead_letter: Some("example.jobs.dead".into()),
        ..SharedSettings::default()
    };
    connection.declare_queue("example.jobs", StreamSettings::DEFAULT, settings)?;

    let mut producer = connection.producer("example.jobs").open()?;
    for job in ["resize 7.png", "fail once", "fail always", "no such job"] {
        producer.send(job)?;
    }

    let mut worker = connection.queue_consumer("example.jobs").open()?;
    while connection.subscription("example.jobs", "example.jobs")?.shared().unsettled() > 0 {
        let Some(job) = worker.recv_timeout(Duration::from_millis(100))? else { continue };
        let text = String::from_utf8_lossy(job.payload()).into_owned();
        let attempt = job.attempt();
        let outcome = match (&*text, attempt) {
            ("no such job", _) => job.reject().map(|()| "rejected")?,
            ("fail once", 1) | ("fail always", _) => job.nack().map(|()| "nacked")?,
            _ => job.ack().map(|()| "acked")?,
        };
        println!("{text}, attempt {attempt}: {outcome}");
        // The broker judges what was said within a moment; here we want to see it in order.
        worker.confirm()?;
    }

    let mut dead = connection.queue_consumer("example.jobs.dead").open()?;
    while let Some(letter) = dead.recv_timeout(Duration::from_millis(500))? {
        let (text, said) = (String::from_utf8_lossy(letter.payload()), letter.attributes());
        println!("dead: {text}, {:?} after {:?}", said.get("dead.reason"), said.get("dead.attempts"));
        letter.ack()?;
    }

    worker.close()?;
    dead.close()?;
    producer.close()?;
    connection.delete_stream("example.jobs")?;
    connection.delete_stream("example.jobs.dead")?;
    Ok(())
}
