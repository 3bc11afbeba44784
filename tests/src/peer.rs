//! A process for tests to start, stop and kill: a broker, or a client that holds something.
//!
//! It prints one line when it is ready and then waits until it is killed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use ringway_broker::Broker;
use ringway_broker::config::{Config, RuntimeChoice};
use ringway_broker::holdings::Holdings;
use ringway_broker::keeper::{self, BROKER_COMMAND, KEEPER_COMMAND, Notice};
use ringway_client::{Connection, Producer, SharedConsumer};
use ringway_shm_protocol::name::Name;
use ringway_tests::connect;
use ringway_tests::deaths::worker;
use ringway_tests::durable::SMALL_SEGMENTS;
use ringway_tests::failing_disk::{self, fail_segments};
use ringway_tests::small_disk::{SEGMENT_BYTES, SMALL_DISK, mount_read_only, mount_small_disk};
use ringway_tests::without_io_uring::{WITHOUT_IO_URING, without_io_uring};
use rustix::process::{Resource, Rlimit, setrlimit};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["broker", directory] => broker(directory),
        ["broker", directory, descriptors] => {
            let limit = Some(descriptors.parse()?);
            setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
            broker(directory)
        }
        ["two-shards", directory, runtime] => two_shards(directory, runtime),
        ["read-only", directory, data] => {
            mount_read_only(data.as_ref())?;
            let config = Config { data: data.into(), ..Config::load(None, Some(directory.into()))? };
            match Broker::start(config) {
                Ok(broker) => {
                    println!("serving");
                    Ok(broker.wait()?)
                }
                Err(error) => ready(&error.to_string()),
            }
        }
        ["serve", directory] => {
            if std::env::var_os(WITHOUT_IO_URING).is_some() {
                without_io_uring()?;
            }
            let mut config = Config::load(None, Some(directory.into()))?;
            if let Ok(bytes) = std::env::var(SMALL_SEGMENTS) {
                config.segment_bytes = bytes.parse()?;
            }
            if let Ok(bytes) = std::env::var(SMALL_DISK) {
                mount_small_disk(&config.data, &bytes)?;
                config.segment_bytes = SEGMENT_BYTES;
            }
            Ok(keeper::serve(&config, &never()?, |notice| say(&notice))?)
        }
        [BROKER_COMMAND] => {
            Ok(Broker::succeed(standard_input()?, &std::sync::Arc::default(), |_| ())?.wait()?)
        }
        [KEEPER_COMMAND] => {
            println!("keeper {}", std::process::id());
            Ok(keeper::guard(standard_input()?, &never()?, |notice| say(&notice))?)
        }
        ["dump", directory, stream, place, bytes] => {
            mount_small_disk(place.as_ref(), bytes)?;
            let path = std::path::Path::new(place).join("dump");
            let dumped = Holdings::of_keeper(directory.as_ref())?.dump(&Name::parse(stream)?, &[0], &path);
            let left = std::fs::read_dir(place)?.count();
            ready(
                &dumped
                    .map_or_else(|error| format!("{left} left, {error}"), |bytes| format!("{bytes} bytes")),
            )
        }
        ["producer", directory, stream] => {
            let connection = connect(directory)?;
            let _producer = connection.producer(stream).open()?;
            ready("holding")
        }
        ["publisher", directory, stream] => publisher(directory, stream),
        ["large-publisher", directory, stream, count] => large_publisher(directory, stream, count.parse()?),
        ["consumer", directory, stream, subscription, count] => {
            consumer(directory, stream, subscription, count.parse()?)
        }
        ["execs", directory, count] => execs(directory, count.parse()?),
        ["forks", directory, count] => forks(directory, count.parse()?),
        ["large-victim", directory, count, mebibytes] => {
            large_victim(directory, count.parse()?, mebibytes.parse()?)
        }
        ["work-produce", directory, first, count] => {
            worker::produce(directory, first.parse()?, count.parse()?)
        }
        ["work-consume", directory, seed] => worker::consume(directory, seed.parse()?),
        ["work-read", directory] => worker::read(directory),
        ["work-churn", directory, rounds] => worker::churn(directory, rounds.parse()?),
        ["shared-consumer", directory, stream, subscription, count] => {
            shared_consumer(directory, stream, subscription, count.parse()?)
        }
        _ => Err(format!("no such role: {arguments:?}").into()),
    }
}

/// What tells a keeper to stop: nothing does.
fn never() -> Result<OwnedFd, Failure> {
    Ok(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?)
}

fn standard_input() -> Result<OwnedFd, Failure> {
    Ok(std::io::stdin().as_fd().try_clone_to_owned()?)
}

fn say(notice: &Notice) {
    match notice {
        Notice::Ready { broker } | Notice::Succeeded { broker, .. } => println!("broker {broker}"),
        _ => {}
    }
}

fn broker(directory: &str) -> Result<(), Failure> {
    let broker = Broker::start(Config::load(None, Some(directory.into()))?)?;
    println!("serving");
    Ok(broker.wait()?)
}

/// A broker of two shards. For each line of input, a system call and the directory of a shard, that call fails on its segments from
/// then on.
fn two_shards(directory: &str, runtime: &str) -> Result<(), Failure> {
    let mut config = Config::load(None, Some(directory.into()))?;
    // On the same core, where there is only one.
    config.cores.push(config.cores[0]);
    config.segment_bytes = failing_disk::SEGMENT_BYTES;
    config.runtime = match runtime {
        "threads" => RuntimeChoice::Threads,
        "io_uring" => RuntimeChoice::IoUring,
        _ => return Err(format!("no such runtime: {runtime}").into()),
    };
    let broker = Broker::start(config)?;
    println!("serving");
    std::thread::spawn(|| {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let failing = line.split_once(' ').ok_or_else(|| io::Error::other("a call and a directory"));
            match failing.and_then(|(call, shard)| fail_segments(call, shard)) {
                Ok(()) => println!("failing"),
                Err(error) => println!("{error}"),
            }
        }
    });
    Ok(broker.wait()?)
}

/// Publishes numbers as fast as it can, until killed.
fn publisher(directory: &str, stream: &str) -> Result<(), Failure> {
    let connection = connect(directory)?;
    let mut producer = connection.producer(stream).open()?;
    println!("publishing");
    loop {
        let number = producer.positions()[0].position;
        producer.send(&number.to_le_bytes())?;
    }
}

/// Publishes `count` messages of 100,000 bytes, each of its number, and goes on holding the stream.
fn large_publisher(directory: &str, stream: &str, count: u8) -> Result<(), Failure> {
    let connection = connect(directory)?;
    let mut producer = connection.producer(stream).open()?;
    for number in 0..count {
        producer.send(&[number; 100_000])?;
    }
    ready(&format!("published {count}"))
}

/// Reads `count` messages, prints the last position and goes on holding the subscription.
fn consumer(directory: &str, stream: &str, subscription: &str, count: u64) -> Result<(), Failure> {
    let connection = connect(directory)?;
    let mut consumer = connection.consumer(stream, subscription).open()?;
    for _ in 0..count {
        consumer.recv()?;
    }
    consumer.commit()?;
    ready(&format!("read up to {}", consumer.positions()[0].position))
}

/// Takes `count` messages, settles none, and goes on holding them.
fn shared_consumer(directory: &str, stream: &str, subscription: &str, count: u64) -> Result<(), Failure> {
    let connection = connect(directory)?;
    let mut consumer = connection.shared_consumer(stream, subscription).open()?;
    for _ in 0..count {
        std::mem::forget(consumer.recv()?);
    }
    ready(&format!("has {count}"))
}

/// Takes `count` messages of queue "q", settles none, and holds stream "s".
fn take(directory: &str, count: u64) -> Result<(Connection, Producer, SharedConsumer), Failure> {
    let connection = connect(directory)?;
    let producer = connection.producer("s").open()?;
    let mut consumer = connection.queue_consumer("q").open()?;
    for _ in 0..count {
        std::mem::forget(consumer.recv()?);
    }
    Ok((connection, producer, consumer))
}

/// Takes messages, and when it is told to (a line of input) runs another program in this process.
fn execs(directory: &str, count: u64) -> Result<(), Failure> {
    let _taken = take(directory, count)?;
    println!("has {count}");
    std::io::stdin().read_line(&mut String::new())?;
    Err(Command::new("sleep").arg("3600").exec().into())
}

/// Takes messages, and forks a child that has copies of everything; prints the child's process id.
fn forks(directory: &str, count: u64) -> Result<(), Failure> {
    let taken = take(directory, count)?;
    // SAFETY: the child does nothing but sleep until it is killed.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error().into()),
        0 => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        child => {
            let _taken = taken;
            ready(&child.to_string())
        }
    }
}

/// Takes messages, and has so much memory that the kernel needs a while to take it back.
fn large_victim(directory: &str, count: u64, mebibytes: usize) -> Result<(), Failure> {
    let _taken = take(directory, count)?;
    let _memory = vec![1_u8; mebibytes << 20];
    ready(&format!("has {count}"))
}

fn ready(line: &str) -> ! {
    println!("{line}");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
