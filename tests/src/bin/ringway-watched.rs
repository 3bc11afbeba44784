//! What `ringway inspect --watch` costs a ring at full rate.
//!
//! `ringway-watched [SECONDS [ROUNDS [INTERVAL]]]` (2 s, 15 rounds and 1s when nothing is said): a broker in a process of its own; here
//! a producer and a consumer, both spinning, with messages of 64 B as fast as they go. In each round once with nothing beside and
//! once while `ringway inspect --watch INTERVAL` runs; which comes first changes from round to round.
//!
//! Prints messages per second of each, and at the end both medians, their spreads, and the difference in percent within a round: its
//! median and quartiles, because machines have faster and slower spells. The mark is −2. Run it with `--release` on a machine that does nothing else. `ringway-test-peer` and `ringway` must lie beside this program: `cargo
//! build --release -p ringway-tests -p ringway-tools`.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringway_client::{Connection, Producers, StartAt, StreamSettings, WaitStrategy};
use ringway_tests::kept::KeptBroker;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let time = Duration::try_from_secs_f64(arguments.next().map_or(Ok(2.0), |text| text.parse())?)?;
    let rounds: usize = arguments.next().map_or(Ok(15), |text| text.parse())?;
    let interval = arguments.next().unwrap_or_else(|| "1s".to_owned());
    let beside = |name| std::env::current_exe().map(|own| own.with_file_name(name));
    let broker = KeptBroker::start(&beside("ringway-test-peer")?);
    let connection = broker.connect();
    let settings = StreamSettings { producers: Producers::Exclusive, ..StreamSettings::DEFAULT };
    connection.declare_stream("s", settings)?;
    connection.declare_subscription("s", "reader", StartAt::First)?;
    let watch = || {
        let mut command = Command::new(beside("ringway")?);
        command.arg("--dir").arg(broker.path()).args(["inspect", "s", "--watch", &interval]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()
    };
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for is_watched in [round % 2 == 1, round % 2 == 0] {
            let watcher = is_watched.then(watch).transpose()?.map(Watcher);
            rates[usize::from(is_watched)].push(measure(&connection, time)?);
            drop(watcher);
        }
        let [alone, watched] = rates.each_ref().map(|rates| rates[round]);
        println!("round {}: alone {alone:.0}, watched {watched:.0} messages/s", round + 1);
    }
    let [alone, watched] = &rates;
    let mut differences: Vec<f64> =
        alone.iter().zip(watched).map(|(alone, watched)| (watched / alone - 1.0) * 100.0).collect();
    let medians = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        (rates[rates.len() / 2], rates[0], rates[rates.len() - 1])
    });
    for (what, (median, low, high)) in ["alone", "watched"].into_iter().zip(medians) {
        println!("{what}: median {median:.0} messages/s ({low:.0} to {high:.0})");
    }
    differences.sort_by(f64::total_cmp);
    let part = |quarters: usize| differences[(differences.len() - 1) * quarters / 4];
    println!("watched beside alone: median {:+.2} % ({:+.2} to {:+.2})", part(2), part(1), part(3));
    Ok(())
}

/// Ends with its drop.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Messages per second, as the consumer gets them.
fn measure(connection: &Connection, time: Duration) -> Result<f64, Failure> {
    let mut producer = connection.producer("s").wait(WaitStrategy::Spin).open()?;
    let mut consumer = connection.consumer("s", "reader").wait(WaitStrategy::Spin).open()?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| -> Result<(), Failure> {
            while !is_over.load(Ordering::Relaxed) {
                producer.send(&[7; 64])?;
            }
            // The last one says so.
            producer.send(&[])?;
            Ok(())
        });
        let (began, mut received) = (Instant::now(), 0_u64);
        let mut took = None;
        loop {
            if consumer.recv()?.payload().is_empty() {
                break;
            }
            received += u64::from(took.is_none());
            if received.is_multiple_of(1024) && took.is_none() && began.elapsed() >= time {
                took = Some(began.elapsed());
                is_over.store(true, Ordering::Relaxed);
            }
        }
        publishing.join().map_err(|_| "the producer has panicked")??;
        consumer.close()?;
        Ok(received as f64 / took.unwrap_or(time).as_secs_f64())
    })
}
