//! Futures without a runtime: they need nothing but a waker. This executor is one function that parks its thread.
//!
//! `cargo run -p ringway-client --example bare_executor [DIRECTORY]`

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;

use ringway_client::{Connection, StartAt, StreamSettings, directory::default_directory};

/// Runs a future on this thread, which sleeps while there is nothing to do.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let settings = StreamSettings { slots: 8, ..StreamSettings::DEFAULT };
    connection.declare_stream("example.pings", settings)?;
    connection.declare_subscription("example.pings", "reader", StartAt::First)?;
    let mut producer = connection.producer("example.pings").open()?;
    let mut consumer = connection.consumer("example.pings", "reader").open()?;

    let sending = std::thread::spawn(move || {
        block_on(async {
            for number in 0..100_u8 {
                producer.send_async(&[number]).await?;
            }
            Ok::<(), ringway_client::SendError>(())
        })
    });
    let sum = block_on(async {
        let mut sum = 0;
        for _ in 0..100 {
            sum += u32::from(consumer.recv_async().await?.payload()[0]);
        }
        Ok::<u32, ringway_client::RecvError>(sum)
    })?;
    sending.join().expect("the producer does not panic")?;
    println!("100 messages through 8 slots, sum {sum}");

    consumer.close()?;
    connection.delete_stream("example.pings")?;
    Ok(())
}
