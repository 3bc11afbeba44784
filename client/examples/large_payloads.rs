//! Large payloads without copies: the producer writes into a loan, the consumer reads the same memory by a view, and may hold the
//! message for as long as it likes without holding anybody up.
//!
//! `cargo run -p ringway-client --example large_payloads [DIRECTORY]`

use std::error::Error;

use ringway_client::{ArenaView, Connection, StartAt, StreamSettings, directory::default_directory};

const FRAME_BYTES: usize = 4 << 20;

/// Adds up a payload where it lies, through a buffer of a few kilobytes.
fn sum(view: &ArenaView) -> u64 {
    let mut part = [0; 4096];
    (0..view.len()).step_by(part.len()).fold(0, |sum, at| {
        let part = &mut part[..4096.min(view.len() - at)];
        view.read(at, part);
        sum + part.iter().map(|byte| u64::from(*byte)).sum::<u64>()
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(default_directory, Into::into);
    let connection = Connection::open(directory)?;
    let settings = StreamSettings { slots: 64, payload_bytes_max: 8 << 20, ..StreamSettings::DEFAULT };
    connection.declare_stream("example.frames", settings)?;
    connection.declare_subscription("example.frames", "viewer", StartAt::First)?;
    let mut camera = connection.producer("example.frames").open()?;
    let mut viewer = connection.consumer("example.frames", "viewer").open()?;

    // The first frame is held, the others come and go meanwhile: more of them than the ring has slots.
    let mut first = None;
    for number in 0..100_u8 {
        let mut frame = camera.loan(FRAME_BYTES)?;
        frame.fill(number + 1);
        frame.truncate(FRAME_BYTES / 2);
        camera.send_loan(frame)?;

        let message = viewer.recv()?;
        match number {
            0 => first = Some(message.hold()?),
            99 => {
                println!("last frame: {} bytes, sum {:?}", message.payload_bytes(), message.view().map(sum))
            }
            _ => {}
        }
    }
    let first = first.ok_or("there was a first frame")?;
    println!("first frame, still in place: sum {:?}", first.view().map(sum));
    let bytes = connection.stream("example.frames")?.arenas_bytes();
    println!("100 frames of 2 MiB went through {} MiB of memory", bytes >> 20);

    drop(first);
    viewer.close()?;
    camera.close()?;
    connection.delete_stream("example.frames")?;
    Ok(())
}
