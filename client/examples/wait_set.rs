//! One thread that waits for many consumers: a `WaitSet`, here of 200 streams, which may be thousands.
//!
//! `cargo run -p ringway-client --example wait_set [DIRECTORY]`

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use ringway_client::{Connection, StartAt, StreamSettings, WaitSet, directory::default_directory};

const STREAMS: usize = 200;

fn name(number: usize) -> String {
    format!("example.sensor.{number}")
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let settings = StreamSettings { slots: 16, slot_bytes: 64, ..StreamSettings::DEFAULT };
    let mut set = WaitSet::new();
    for number in 0..STREAMS {
        connection.declare_stream(&name(number), settings)?;
        connection.declare_subscription(&name(number), "reader", StartAt::First)?;
        set.add(connection.consumer(&name(number), "reader").open()?);
    }
    println!("{} consumers in one set", set.len());

    // Every tenth sensor says something, while the set sleeps.
    let sender = connection.clone();
    let sending = std::thread::spawn(move || {
        for number in (0..STREAMS).step_by(10) {
            let mut producer = sender.producer(&name(number)).open().expect("the stream is there");
            producer.send(&name(number)).expect("the ring is empty");
        }
    });
    let mut seen = BTreeSet::new();
    while seen.len() < STREAMS / 10 {
        let ready = set.wait(Duration::from_secs(10))?.to_vec();
        for key in ready {
            let consumer = set.get_mut(key).ok_or("it was not removed")?;
            while let Some(message) = consumer.try_recv()? {
                seen.insert(String::from_utf8_lossy(message.payload()).into_owned());
            }
        }
    }
    sending.join().expect("the sender does not panic");
    println!("{} of them had something, {:?} first", seen.len(), seen.first());

    drop(set);
    for number in 0..STREAMS {
        connection.delete_stream(&name(number))?;
    }
    Ok(())
}
