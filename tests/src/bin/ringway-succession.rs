//! How long it takes after the broker's death until its successor confirms something.
//!
//! `ringway-succession [STREAMS] [ROUNDS]` starts a keeper with its broker, makes STREAMS streams (100 when nothing is said), each
//! with a producer and a consumer, and a queue. In each round it kills the broker and at once leaves a settlement: it prints
//! the time from the kill until that is confirmed, and until a request is answered that is made then; in the end the medians.
//! All the while messages go through one of the streams: it also prints the longest time between two of them around a kill,
//! and in as long without one. `ringway-test-peer` must lie beside this program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringway_client::{Connection, SharedSettings, StartAt, StreamSettings};
use ringway_tests::kept::KeptBroker;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long the traffic is watched around a kill, and without one.
const WATCHED: Duration = Duration::from_millis(200);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, usual| arguments.get(index).map_or(Ok(usual), |text| text.parse::<u64>());
    let (streams, rounds) = (number(0, 100)?, number(1, 25)?);
    let broker = KeptBroker::start(&std::env::current_exe()?.with_file_name("ringway-test-peer"));
    let connection = broker.connect();
    let settings = StreamSettings { slots: 1024, ..StreamSettings::DEFAULT };
    let mut open = Vec::new();
    for stream in 0..streams {
        let name = format!("s{stream}");
        connection.declare_stream(&name, settings)?;
        connection.declare_subscription(&name, "a", StartAt::First)?;
        open.push((connection.producer(&name).open()?, connection.consumer(&name, "a").open()?));
    }
    let traffic = Traffic::start(&connection)?;
    connection.declare_queue("q", settings, SharedSettings::default())?;
    let (mut producer, mut consumer) =
        (connection.producer("q").open()?, connection.queue_consumer("q").open()?);
    let (mut confirmed, mut answered, mut gaps, mut usual_gaps) = (vec![], vec![], vec![], vec![]);
    for round in 1..=rounds {
        producer.send(b"x")?;
        let delivery = consumer.recv()?;
        usual_gaps.push(traffic.longest_gap(|| ())?);
        let mut times = (Duration::ZERO, Duration::ZERO);
        let leased = delivery.keep();
        gaps.push(traffic.longest_gap(|| {
            let killed = Instant::now();
            broker.kill();
            let settled = consumer.release(&leased).map(|()| consumer.confirm());
            times.0 = killed.elapsed();
            let shown = connection.stream("q");
            times.1 = killed.elapsed();
            assert!(settled.is_ok_and(|confirmed| confirmed.is_ok()) && shown.is_ok());
        })?);
        println!(
            "round {round}: confirmed after {:?}, answered after {:?}; longest gap in the traffic {:?}, without a kill {:?}",
            times.0,
            times.1,
            gaps[gaps.len() - 1],
            usual_gaps[usual_gaps.len() - 1]
        );
        confirmed.push(times.0);
        answered.push(times.1);
        // It comes again: so the next round begins with nothing.
        consumer.recv()?.ack()?;
    }
    for (what, times) in [
        ("confirmed after", &mut confirmed),
        ("answered after", &mut answered),
        ("longest gap in the traffic", &mut gaps),
        ("longest gap without a kill", &mut usual_gaps),
    ] {
        times.sort_unstable();
        println!("{what}: median {:?}, longest {:?}", times[times.len() / 2], times[times.len() - 1]);
    }
    traffic.stop()
}

/// Messages through one stream, as fast as they go.
struct Traffic {
    stop: Arc<AtomicBool>,
    longest_ns: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Result<(), Failure>>>,
}

impl Traffic {
    fn start(connection: &Connection) -> Result<Self, Failure> {
        let settings = StreamSettings { slots: 1024, ..StreamSettings::DEFAULT };
        connection.declare_stream("traffic", settings)?;
        connection.declare_subscription("traffic", "a", StartAt::First)?;
        let mut producer = connection.producer("traffic").open()?;
        let mut consumer = connection.consumer("traffic", "a").open()?;
        let (stop, longest_ns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, longest) = (Arc::clone(&stop), Arc::clone(&longest_ns));
        let sending = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                producer.send(b"x")?;
            }
            Ok(())
        });
        let receiving = std::thread::spawn(move || {
            let mut last = Instant::now();
            while consumer.recv_timeout(Duration::from_secs(1))?.is_some() {
                let now = Instant::now();
                longest.fetch_max((now - last).as_nanos() as u64, Ordering::Relaxed);
                last = now;
            }
            Ok(())
        });
        Ok(Self { stop, longest_ns, threads: vec![sending, receiving] })
    }

    /// The longest time between two messages while this is done, and for at least [`WATCHED`].
    fn longest_gap(&self, what: impl FnOnce()) -> Result<Duration, Failure> {
        let began = Instant::now();
        self.longest_ns.store(0, Ordering::Relaxed);
        what();
        std::thread::sleep(WATCHED.saturating_sub(began.elapsed()));
        Ok(Duration::from_nanos(self.longest_ns.load(Ordering::Relaxed)))
    }

    fn stop(self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a thread of the traffic panicked")??;
        }
        Ok(())
    }
}
