//! A typed channel of whatever serde knows, over a queue. A job that is no value of the type goes to the dead letters by itself.
//!
//! `cargo run -p ringway-client --features serde --example typed_serde [DIRECTORY]`

use std::error::Error;

use ringway_client::{
    Connection, Postcard, SharedSettings, StreamSettings, TypedRecvError, directory::default_directory,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    New { items: Vec<(String, u32)>, note: Option<String> },
    Cancelled(u64),
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    connection.declare_queue("example.kitchen", StreamSettings::DEFAULT, SharedSettings::default())?;

    let mut orders = connection.producer("example.kitchen").open()?.typed_by::<Order, Postcard>();
    orders.send(&Order::New { items: vec![("espresso".into(), 2)], note: None })?;
    orders.send(&Order::Cancelled(7))?;
    orders.producer().send(b"\xff\xff\xff")?;

    let mut kitchen = connection.queue_consumer("example.kitchen").open()?.typed_by::<Order, Postcard>();
    for _ in 0..3 {
        match kitchen.recv() {
            Ok(order) => {
                println!("{:?}", *order);
                order.ack()?;
            }
            Err(TypedRecvError::Value { position, .. }) => println!("{position} is no order"),
            Err(error) => return Err(error.into()),
        }
    }
    kitchen.consumer().confirm()?;
    let info = connection.subscription("example.kitchen", "example.kitchen")?.shared();
    println!("{} unsettled, {} dead", info.unsettled(), info.dead_total);

    kitchen.into_consumer().close()?;
    orders.into_producer().close()?;
    connection.delete_stream("example.kitchen")?;
    Ok(())
}
