//! What the demo shows: as text, or as one JSON object with the same in it.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cli::Wait;
use crate::output::{count, thousands};
use crate::plot::{self, Bar, Style};

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether everything held.
    pub(crate) held: bool,
    pub(crate) input: Source,
    pub(crate) broker: Place,
    pub(crate) topic: Topic,
    pub(crate) subscribers: Vec<Subscriber>,
    /// Absent where the topic has failed.
    pub(crate) queue: Option<Queue>,
    pub(crate) proofs: Vec<Proof>,
}

/// What was sent.
#[derive(Debug, Serialize)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) lines: u64,
    pub(crate) longest_bytes: usize,
}

/// Where the broker ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Place {
    pub(crate) directory: String,
    pub(crate) pid: u32,
}

/// How the lines were sent.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Topic {
    pub(crate) stream: String,
    pub(crate) slots: u64,
    pub(crate) slot_bytes: u32,
    /// How often the file was sent.
    pub(crate) rounds: u64,
    /// Messages in all.
    pub(crate) messages: u64,
    /// Time between two messages.
    pub(crate) pace_ns: u64,
    /// How the consumers waited.
    pub(crate) wait: Wait,
    /// Processors that this process may use.
    pub(crate) cores: usize,
}

/// What came of the queue.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Queue {
    pub(crate) stream: String,
    pub(crate) messages: u64,
    /// By the consumer that was killed, and by the other.
    pub(crate) acked: [u64; 2],
    /// Messages that were delivered more than once.
    pub(crate) again: u64,
    /// The broker's process that was killed, and that of its successor.
    pub(crate) killed_broker: u32,
    pub(crate) successor: u32,
    /// From the kill until the successor had answered.
    pub(crate) answered_ns: u64,
}

/// What one subscriber measured.
#[derive(Debug, Serialize)]
pub(crate) struct Subscriber {
    pub(crate) name: String,
    pub(crate) latency: Latency,
    pub(crate) bars: Vec<Bar>,
}

/// Latencies from about to be sent to received, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Latency {
    pub(crate) messages: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
}

impl Latency {
    /// The figures of `latencies`.
    pub(crate) fn of(latencies: &Histogram<u64>) -> Self {
        Self {
            messages: latencies.len(),
            p50_ns: latencies.value_at_quantile(0.5),
            p90_ns: latencies.value_at_quantile(0.9),
            p99_ns: latencies.value_at_quantile(0.99),
            max_ns: latencies.max(),
        }
    }
}

/// Something that the demo checked.
#[derive(Debug, Serialize)]
pub(crate) struct Proof {
    pub(crate) held: bool,
    pub(crate) text: String,
}

impl Proof {
    /// It was so.
    pub(crate) fn held(text: impl Into<String>) -> Self {
        Self { held: true, text: text.into() }
    }

    /// It was not so: says what was missing.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { held: false, text: text.into() }
    }
}

/// What is known before the first message.
pub(crate) fn opening(input: &Source, broker: &Place, topic: &Topic, style: Style) -> String {
    let waiting = match topic.wait {
        Wait::Spin => "one for each process: nobody sleeps",
        Wait::Sleep => "too few for one each: all sleep in between",
    };
    format!(
        "broker  in {} (pid {})\n\
         input   {}: {}, the longest {}, sent {}: {}\n\
         stream  {}: topic, {} slots of {} bytes\n\
         pace    a message each {} or a little more; {}, {waiting}\n",
        broker.directory,
        broker.pid,
        input.name,
        count(input.lines, "line"),
        count(input.longest_bytes as u64, "byte"),
        if topic.rounds == 1 { "once".to_owned() } else { format!("{} times", thousands(topic.rounds)) },
        count(topic.messages, "message"),
        topic.stream,
        thousands(topic.slots),
        topic.slot_bytes,
        style.time(topic.pace_ns),
        count(topic.cores as u64, "processor"),
    )
}

/// What was measured and proved.
pub(crate) fn closing(report: &Report, style: Style) -> String {
    let mut text = String::from("\nLatency, from before the send to after the receive\n");
    for subscriber in &report.subscribers {
        let Latency { p50_ns, p90_ns, p99_ns, max_ns, .. } = subscriber.latency;
        let [p50, p90, p99, max] = [p50_ns, p90_ns, p99_ns, max_ns].map(|ns| style.time(ns));
        text.push_str(&format!("\n{}  p50 {p50}  p90 {p90}\n", subscriber.name));
        let indent = " ".repeat(subscriber.name.chars().count());
        text.push_str(&format!("{indent}  p99 {p99}  max {max}\n"));
        text.push_str(&plot::draw(&subscriber.bars, style));
    }
    text.push_str("\nProved\n\n");
    for proof in &report.proofs {
        text.push_str(&format!("  {:6}  {}\n", if proof.held { "ok" } else { "FAILED" }, proof.text));
    }
    let broken = report.proofs.iter().filter(|proof| !proof.held).count();
    if broken > 0 {
        text.push_str(&format!("\n{} of {} did not hold\n", broken, report.proofs.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(held: bool) -> Report {
        let latency = Latency { messages: 2, p50_ns: 300, p90_ns: 1_500, p99_ns: 2_000, max_ns: 80_000 };
        let bars = vec![Bar { up_to_ns: 500, messages: 2 }];
        let proof = if held { Proof::held("all came") } else { Proof::failed("1 of 2 came") };
        Report {
            held,
            input: Source { name: "F".into(), lines: 2, longest_bytes: 7 },
            broker: Place { directory: "/tmp/d".into(), pid: 42 },
            topic: Topic {
                stream: "demo".into(),
                slots: 4,
                slot_bytes: 128,
                messages: 2,
                rounds: 1,
                pace_ns: 20_000,
                ..Topic::default()
            },
            subscribers: vec![Subscriber { name: "audit".into(), latency, bars }],
            queue: None,
            proofs: vec![proof],
        }
    }

    #[test]
    fn the_text_shows_figures_plot_and_proofs_in_forty_columns() {
        let text = closing(&report(true), Style { width: 40, unicode: true });
        assert!(text.contains("audit  p50 300 ns  p90 1.50 µs\n       p99 2.00 µs  max 80.0 µs\n"), "{text}");
        assert!(text.contains("≤ 500 ns 2 █"), "{text}");
        assert!(text.ends_with("Proved\n\n  ok      all came\n"), "{text}");
    }

    #[test]
    fn what_failed_is_marked_and_counted() {
        let text = closing(&report(false), Style { width: 80, unicode: false });
        assert!(text.ends_with("  FAILED  1 of 2 came\n\n1 of 1 did not hold\n"), "{text}");
    }

    #[test]
    fn the_opening_says_where_what_and_how() {
        let Report { input, broker, topic, .. } = report(true);
        let text = opening(&input, &broker, &topic, Style { width: 40, unicode: false });
        assert!(text.contains("in /tmp/d (pid 42)"), "{text}");
        assert!(text.contains("F: 2 lines, the longest 7 bytes, sent once: 2 messages"), "{text}");
        assert!(text.contains("a message each 20.0 us or a little more; "), "{text}");
    }

    #[test]
    fn the_json_holds_the_same() {
        let json = serde_json::to_value(report(true)).unwrap();
        assert_eq!(json["subscribers"][0]["latency"]["p99_ns"], 2_000);
        assert_eq!(json["subscribers"][0]["bars"][0]["up_to_ns"], 500);
        assert_eq!((&json["held"], &json["proofs"][0]["text"]), (&true.into(), &"all came".into()));
        assert_eq!(json["topic"]["wait"], "sleep");
    }
}
