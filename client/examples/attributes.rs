//! What a message says beside its payload: a key, the time, a correlation and a stream to reply to, and a map of typed values. Here
//! they make a request and its reply.
//!
//! `cargo run -p ringway-client --example attributes [DIRECTORY]`

use std::error::Error;

use ringway_client::{
    AttributeMap, Connection, Outgoing, StartAt, StreamSettings, directory::default_directory,
};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    for stream in ["example.requests", "example.replies"] {
        connection.declare_stream(stream, StreamSettings::DEFAULT)?;
        connection.declare_subscription(stream, "reader", StartAt::First)?;
    }

    // A map is encoded once, and may be sent with many messages.
    let mut map = AttributeMap::new();
    map.insert("urgent", true)?;
    map.insert("retries", 3)?;
    map.insert("content-type", "text/plain")?;
    let request = Outgoing::new(b"what is the answer?")
        .key(b"customer 7")
        .correlation(b"request 1")
        .reply_to("example.replies")
        .map(&map);
    let mut asker = connection.producer("example.requests").timestamps(true).open()?;
    asker.send(request)?;

    let mut server = connection.consumer("example.requests", "reader").open()?;
    let message = server.recv()?;
    let said = message.attributes();
    let key = String::from_utf8_lossy(said.key().unwrap_or_default()).into_owned();
    println!("key {key}, sent at a known time: {}", said.timestamp_ns().is_some());
    for (name, value) in said.iter() {
        println!("{name} = {value:?}");
    }
    let reply_to = said.reply_to().ok_or("the request says where to reply to")?;
    let mut replier = connection.producer(reply_to).open()?;
    replier.send(Outgoing::new(b"42").correlation(said.correlation().unwrap_or_default()))?;

    let mut replies = connection.consumer("example.replies", "reader").open()?;
    let reply = replies.recv()?;
    let request = String::from_utf8_lossy(reply.attributes().correlation().unwrap_or_default()).into_owned();
    println!("reply to {request}: {}", String::from_utf8_lossy(reply.payload()));

    server.close()?;
    replies.close()?;
    asker.close()?;
    replier.close()?;
    connection.delete_stream("example.requests")?;
    connection.delete_stream("example.replies")?;
    Ok(())
}
