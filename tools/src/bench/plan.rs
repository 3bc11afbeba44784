//! What a bench does: from its arguments, checked, and as its roles are told.

use std::num::NonZero;
use std::time::Duration;

use ringway_client::{
    CursorSettings, Durability, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX_DEFAULT, SLOT_BYTES_DEFAULT,
    SLOT_BYTES_MAX, SLOT_BYTES_MIN, SharedSettings, StreamSettings, Visibility,
};
use serde::{Deserialize, Serialize};

use super::stamp::STAMP_BYTES;
use crate::cli::{BenchCommand, BenchWait, Common, Paced};
use crate::exit::{Exit, Failure};
use crate::output::thousands;

/// Bytes of a slot that are no payload.
const SLOT_HEADER_BYTES: usize = 16;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Case {
    Latency,
    Throughput,
    Wake,
    Fanout,
    Queue,
}

impl Case {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Wake => "wake",
            Self::Fanout => "fanout",
            Self::Queue => "queue",
        }
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Amount {
    /// Messages of all producers.
    Messages(u64),
    TimeNs(u64),
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) case: Case,
    pub(crate) stream: String,
    pub(crate) payload_bytes: usize,
    /// Messages per second of all producers; `None`: as fast as it goes.
    pub(crate) rate: Option<f64>,
    pub(crate) amount: Amount,
    pub(crate) warm_up_ns: u64,
    pub(crate) producers: u32,
    pub(crate) consumers: u32,
    pub(crate) wait: BenchWait,
    pub(crate) durability: Durability,
}

impl Plan {
    /// Checks what was asked for.
    pub(crate) fn of(command: &BenchCommand) -> Result<Self, Failure> {
        let of_paced = |paced: &Paced| (Some(paced.rate), paced.wait);
        let (case, common, (rate, wait), consumers) = match command {
            BenchCommand::Latency { paced, consumers } => {
                (Case::Latency, &paced.common, of_paced(paced), *consumers)
            }
            BenchCommand::Throughput { common, wait, consumers } => {
                (Case::Throughput, common, (None, *wait), *consumers)
            }
            BenchCommand::Wake { common, rate, consumers } => {
                (Case::Wake, common, (Some(*rate), BenchWait::Sleep), *consumers)
            }
            BenchCommand::Fanout { paced, consumers } => {
                (Case::Fanout, &paced.common, of_paced(paced), *consumers)
            }
            BenchCommand::Queue { paced, consumers } => {
                (Case::Queue, &paced.common, of_paced(paced), *consumers)
            }
        };
        check_size(common)?;
        if case == Case::Throughput && common.hdr.is_some() {
            return Err(usage(
                "--hdr: throughput has no latencies; they are measured at a rate: ringway bench latency",
            ));
        }
        Ok(Self {
            case,
            stream: format!("bench-{}-{}", case.name(), std::process::id()),
            payload_bytes: common.size,
            rate,
            amount: common.count.map_or(Amount::TimeNs(nanoseconds(common.time)), Amount::Messages),
            warm_up_ns: nanoseconds(common.warm_up),
            producers: common.producers,
            consumers,
            wait,
            durability: common.durability.into(),
        })
    }

    /// The stream: with the smallest slots that take a message whole, where some do.
    pub(crate) fn settings(&self) -> StreamSettings {
        let slot = (self.payload_bytes + SLOT_HEADER_BYTES).next_power_of_two().max(SLOT_BYTES_MIN as usize);
        StreamSettings {
            slot_bytes: u32::try_from(slot)
                .ok()
                .filter(|slot| *slot <= SLOT_BYTES_MAX)
                .unwrap_or(SLOT_BYTES_DEFAULT),
            payload_bytes_max: PAYLOAD_BYTES_MAX_DEFAULT.max(self.payload_bytes as u32),
            durability: self.durability,
            ..StreamSettings::default()
        }
    }

    fn visibility(&self) -> Visibility {
        if self.durability == Durability::Synced { Visibility::Durable } else { Visibility::Committed }
    }

    /// Its consumers' subscriptions, of a topic.
    pub(crate) fn cursor(&self) -> CursorSettings {
        CursorSettings { visibility: self.visibility() }
    }

    /// Its consumers' subscription, of a queue.
    pub(crate) fn shared(&self) -> SharedSettings {
        SharedSettings { visibility: self.visibility(), ..SharedSettings::default() }
    }

    /// The subscription of a consumer.
    pub(crate) fn subscription(&self, consumer: u32) -> String {
        if self.case == Case::Queue { self.stream.clone() } else { format!("consumer-{}", consumer + 1) }
    }

    /// How long it takes, if it goes as planned and that is known.
    pub(crate) fn duration_ns(&self) -> Option<u64> {
        let measured = match (self.amount, self.rate) {
            (Amount::TimeNs(time), _) => Some(time),
            (Amount::Messages(messages), Some(rate)) => Some((messages as f64 / rate * 1e9) as u64),
            (Amount::Messages(_), None) => None,
        };
        measured.map(|measured| measured.saturating_add(self.warm_up_ns))
    }

    /// What is to be said when there are too few cores for this.
    pub(crate) fn too_few_cores(&self, cores: usize) -> Option<String> {
        let awake = if self.wait == BenchWait::Sleep { 0 } else { self.consumers };
        let shard = u32::from(self.durability != Durability::Memory);
        let wanted = self.producers + awake + shard;
        (wanted as usize > cores).then(|| {
            format!(
                "{wanted} of these processes want a core for themselves, and there {}: they take turns, and that is in the figures",
                if cores == 1 { "is 1".to_owned() } else { format!("are {cores}") }
            )
        })
    }
}

/// Processors that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn check_size(common: &Common) -> Result<(), Failure> {
    let (size, most) = (common.size, PAYLOAD_BYTES_MAX as usize);
    if size < STAMP_BYTES {
        return Err(usage(&format!(
            "--size {size}: a message carries its time and number, which are {STAMP_BYTES} bytes"
        )));
    }
    if size > most {
        let most = thousands(most as u64);
        return Err(usage(&format!("--size {size}: a message has {most} bytes at the most")));
    }
    Ok(())
}

fn usage(message: &str) -> Failure {
    Failure::with(Exit::Usage, message)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn plan(case: Case) -> Plan {
        Plan {
            case,
            stream: "bench".to_owned(),
            payload_bytes: 64,
            rate: Some(1000.0),
            amount: Amount::Messages(10),
            warm_up_ns: 0,
            producers: 1,
            consumers: 1,
            wait: BenchWait::Spin,
            durability: Durability::Memory,
        }
    }

    #[test]
    fn slots_take_a_message_whole_where_they_can() {
        let slot = |payload_bytes| Plan { payload_bytes, ..plan(Case::Latency) }.settings().slot_bytes;
        assert_eq!([16, 48, 49, 64, 4080, 4081].map(slot), [64, 64, 128, 128, 4096, SLOT_BYTES_DEFAULT]);
        let large = Plan { payload_bytes: 20 << 20, ..plan(Case::Latency) }.settings();
        assert_eq!(large.payload_bytes_max, 20 << 20);
    }

    #[test]
    fn too_few_cores_are_said_with_figures() {
        let topic = plan(Case::Latency);
        assert_eq!(topic.too_few_cores(2), None);
        assert!(
            topic
                .too_few_cores(1)
                .unwrap()
                .starts_with("2 of these processes want a core for themselves, and there is 1")
        );
        let durable = Plan { durability: Durability::Synced, ..topic.clone() };
        assert!(durable.too_few_cores(2).unwrap().contains("there are 2"));
        assert_eq!(Plan { wait: BenchWait::Sleep, consumers: 30, ..topic }.too_few_cores(1), None);
    }

    #[test]
    fn how_long_it_takes_is_known_but_for_a_count_without_a_rate() {
        let topic = Plan { warm_up_ns: 1_000_000, ..plan(Case::Latency) };
        assert_eq!(topic.duration_ns(), Some(11_000_000));
        assert_eq!(Plan { rate: None, ..topic.clone() }.duration_ns(), None);
        assert_eq!(Plan { amount: Amount::TimeNs(5), rate: None, ..topic }.duration_ns(), Some(1_000_005));
    }
}
