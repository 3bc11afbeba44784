//! What a broker said at two times, and what follows from that: rates, sums, who is behind.
//!
//! 1. Pure: it is given what was said, and when.
//! 2. A rate is known only of what was there both times and has counted on: what was deleted and made again has none.

use std::collections::BTreeMap;
use std::time::Duration;

use ringway_client::{PartitionInfo, SharedInfo, StreamInfo, SubscriptionInfo, SubscriptionMode};

/// What a broker said.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Since any fixed time.
    pub(crate) at: Duration,
    pub(crate) broker_pid: u32,
    pub(crate) shards: u16,
    /// By their names.
    pub(crate) streams: BTreeMap<String, StreamInfo>,
    /// Of the streams that it was asked about.
    pub(crate) subscriptions: BTreeMap<String, Vec<SubscriptionInfo>>,
}

/// The last two looks.
#[derive(Debug, Default)]
pub(crate) struct Model {
    before: Option<Look>,
    now: Option<Look>,
}

/// A stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StreamRow {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) durability: &'static str,
    /// Messages per second that are published.
    pub(crate) published: Option<f64>,
    /// Messages per second that its subscriptions consume, all together.
    pub(crate) consumed: Option<f64>,
    pub(crate) held: u64,
    /// How far the slowest subscription is behind.
    pub(crate) behind: u64,
    pub(crate) slowest: String,
    pub(crate) subscriptions: u64,
    pub(crate) producers: u64,
    /// `None` if its subscriptions were not asked for.
    pub(crate) consumers: Option<u64>,
    /// Why it cannot be journaled.
    pub(crate) trouble: Option<String>,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SubscriptionRow {
    pub(crate) name: String,
    pub(crate) mode: &'static str,
    pub(crate) consumed: Option<f64>,
    pub(crate) behind: u64,
    /// Of a `shared` one.
    pub(crate) shared: Option<SharedInfo>,
    pub(crate) consumers: u64,
    pub(crate) is_detached: bool,
}

/// A partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PartitionRow {
    pub(crate) partition: u32,
    pub(crate) shard: u32,
    pub(crate) published: Option<f64>,
    pub(crate) first_position: u64,
    pub(crate) next_position: u64,
    /// How far it is written and synced, if it is journaled.
    pub(crate) durable: Option<(u64, u64)>,
}

/// A shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ShardRow {
    pub(crate) shard: u32,
    pub(crate) partitions: u64,
    pub(crate) published: Option<f64>,
    pub(crate) held: u64,
    /// Partitions that are journaled, and their messages that are not written, and not synced, yet.
    pub(crate) journaled: u64,
    pub(crate) unwritten: u64,
    pub(crate) unsynced: u64,
    pub(crate) trouble: Option<String>,
}

impl Model {
    /// Takes a new look; what was the last becomes the one before.
    pub(crate) fn update(&mut self, look: Look) {
        self.before = self.now.replace(look);
    }

    pub(crate) fn now(&self) -> Option<&Look> {
        self.now.as_ref()
    }

    /// All streams, in order of their names.
    pub(crate) fn streams(&self) -> Vec<StreamRow> {
        let streams = self.now.iter().flat_map(|look| look.streams.values());
        streams.map(|stream| self.stream_row(stream)).collect()
    }

    fn stream_row(&self, stream: &StreamInfo) -> StreamRow {
        let subscriptions = self.now.as_ref().and_then(|look| look.subscriptions.get(&stream.name));
        let consumed = subscriptions.and_then(|all| sum(all.iter().map(|one| self.consumed(one))));
        let slowest = stream.slowest();
        StreamRow {
            name: stream.name.clone(),
            kind: stream.settings.kind.name(),
            durability: stream.settings.durability.name(),
            published: sum(stream.partitions.iter().map(|partition| self.published(stream, partition))),
            consumed: if stream.subscriptions == 0 { Some(0.0) } else { consumed },
            held: stream.partitions.iter().map(held).sum(),
            behind: slowest.map_or(0, |lag| lag.messages),
            slowest: slowest.map_or("-".to_owned(), |lag| lag.subscription.clone()),
            subscriptions: stream.subscriptions.into(),
            producers: stream.producers().into(),
            consumers: match subscriptions {
                Some(all) => Some(all.iter().map(consumers).sum()),
                None => (stream.subscriptions == 0).then_some(0),
            },
            trouble: stream.partitions.iter().find_map(|partition| partition.journal.clone()),
        }
    }

    /// The subscriptions of a stream, in order of their names.
    pub(crate) fn subscriptions(&self, stream: &str) -> Vec<SubscriptionRow> {
        let all = self.now.iter().filter_map(|look| look.subscriptions.get(stream)).flatten();
        let row = |one: &SubscriptionInfo| {
            let is_shared = matches!(one.mode, SubscriptionMode::Shared(_));
            SubscriptionRow {
                name: one.name.clone(),
                mode: if is_shared { "shared" } else { "cursor" },
                consumed: self.consumed(one),
                behind: left(one),
                shared: is_shared.then(|| one.shared()),
                consumers: consumers(one),
                is_detached: one.is_detached(),
            }
        };
        all.map(row).collect()
    }

    /// The partitions of a stream.
    pub(crate) fn partitions(&self, stream: &str) -> Vec<PartitionRow> {
        let Some(stream) = self.stream(stream) else { return Vec::new() };
        let row = |partition: &PartitionInfo| PartitionRow {
            partition: partition.partition,
            shard: partition.shard,
            published: self.published(stream, partition),
            first_position: partition.first_position,
            next_position: partition.next_position,
            durable: partition.durable.as_ref().map(|durable| (durable.written, durable.synced)),
        };
        stream.partitions.iter().map(row).collect()
    }

    /// The stream as the broker described it.
    pub(crate) fn stream(&self, name: &str) -> Option<&StreamInfo> {
        self.now.as_ref()?.streams.get(name)
    }

    /// All shards, those without a partition too.
    pub(crate) fn shards(&self) -> Vec<ShardRow> {
        let Some(now) = &self.now else { return Vec::new() };
        let empty = |shard| ShardRow { shard, published: Some(0.0), ..ShardRow::default() };
        let mut rows: BTreeMap<u32, ShardRow> =
            (0..u32::from(now.shards)).map(|shard| (shard, empty(shard))).collect();
        let partitions =
            now.streams.values().flat_map(|stream| stream.partitions.iter().map(move |part| (stream, part)));
        for (stream, partition) in partitions {
            let row = rows.entry(partition.shard).or_insert_with(|| empty(partition.shard));
            row.partitions += 1;
            row.published =
                row.published.zip(self.published(stream, partition)).map(|(sum, more)| sum + more);
            row.held += held(partition);
            if let Some(durable) = &partition.durable {
                row.journaled += 1;
                row.unwritten += partition.next_position.saturating_sub(durable.written);
                row.unsynced += partition.next_position.saturating_sub(durable.synced);
            }
            if row.trouble.is_none() {
                row.trouble.clone_from(&partition.journal);
            }
        }
        rows.into_values().collect()
    }

    fn published(&self, stream: &StreamInfo, partition: &PartitionInfo) -> Option<f64> {
        let before = self.before.as_ref()?.streams.get(&stream.name)?;
        let before = before.partitions.iter().find(|before| before.partition == partition.partition)?;
        self.rate(before.next_position, partition.next_position)
    }

    fn consumed(&self, subscription: &SubscriptionInfo) -> Option<f64> {
        let before = self.before.as_ref()?.subscriptions.get(&subscription.stream)?;
        let before = before.iter().find(|before| before.name == subscription.name)?;
        self.rate(done(before), done(subscription))
    }

    fn rate(&self, before: u64, now: u64) -> Option<f64> {
        let time = self.now.as_ref()?.at.checked_sub(self.before.as_ref()?.at)?.as_secs_f64();
        let counted = now.checked_sub(before)?;
        (time > 0.0).then(|| counted as f64 / time)
    }
}

/// Messages that a subscription has done with, for ever.
fn done(subscription: &SubscriptionInfo) -> u64 {
    let ends: u64 = subscription.partitions.iter().map(|cursor| cursor.position + cursor.lag).sum();
    ends.saturating_sub(left(subscription))
}

/// Messages that it has not done with.
fn left(subscription: &SubscriptionInfo) -> u64 {
    match subscription.mode {
        SubscriptionMode::Cursor(_) => subscription.lag(),
        SubscriptionMode::Shared(_) => subscription.shared().unsettled(),
    }
}

fn consumers(subscription: &SubscriptionInfo) -> u64 {
    match subscription.mode {
        SubscriptionMode::Cursor(_) => {
            subscription.partitions.iter().any(|cursor| cursor.consumer_pid.is_some()).into()
        }
        SubscriptionMode::Shared(_) => subscription.shared().consumers.into(),
    }
}

fn held(partition: &PartitionInfo) -> u64 {
    partition.next_position.saturating_sub(partition.first_position)
}

/// `None` if one is not known.
pub(crate) fn sum(rates: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    rates.sum()
}

#[cfg(test)]
pub(super) mod tests {
    use ringway_client::{
        CursorInfo, CursorSettings, Durability, Lag, SharedSettings, StreamKind, StreamSettings, Watermarks,
    };

    use super::*;

    /// A stream of one partition that has got so many messages and holds the last 100 of them.
    pub(in super::super) fn stream(name: &str, published: u64, behind: Option<(&str, u64)>) -> StreamInfo {
        let slowest = behind.map(|(subscription, messages)| Lag {
            subscription: subscription.to_owned(),
            messages,
            consumer_pid: Some(7),
        });
        let partition = PartitionInfo {
            partition: 0,
            shard: 0,
            opened: true,
            first_position: published.saturating_sub(100),
            next_position: published,
            producers: 1,
            producer_pids: vec![6],
            arenas_bytes: 0,
            slowest,
            journal: None,
            durable: None,
        };
        let (name, subscriptions) = (name.to_owned(), behind.is_some().into());
        StreamInfo { name, settings: StreamSettings::default(), subscriptions, partitions: vec![partition] }
    }

    /// The same, journaled so far.
    pub(in super::super) fn durable(stream: StreamInfo, written: u64, synced: u64) -> StreamInfo {
        let mut stream = stream;
        stream.settings.durability = Durability::Synced;
        stream.settings.kind = StreamKind::Queue;
        stream.partitions[0].shard = 1;
        stream.partitions[0].durable = Some(Watermarks { first: 0, written, synced });
        stream
    }

    pub(in super::super) fn subscription(
        stream: &str,
        name: &str,
        (position, lag): (u64, u64),
        shared: Option<SharedInfo>,
    ) -> SubscriptionInfo {
        let mode = match shared {
            None => SubscriptionMode::Cursor(CursorSettings::default()),
            Some(_) => SubscriptionMode::Shared(SharedSettings::default()),
        };
        let cursor =
            CursorInfo { partition: 0, position, lag, consumer_pid: Some(7), detached: false, shared };
        SubscriptionInfo { stream: stream.to_owned(), name: name.to_owned(), mode, partitions: vec![cursor] }
    }

    pub(in super::super) fn look(at_ms: u64, streams: Vec<StreamInfo>, all: Vec<SubscriptionInfo>) -> Look {
        let mut subscriptions: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for one in all {
            subscriptions.entry(one.stream.clone()).or_default().push(one);
        }
        let streams = streams.into_iter().map(|stream| (stream.name.clone(), stream)).collect();
        Look { at: Duration::from_millis(at_ms), broker_pid: 1234, shards: 2, streams, subscriptions }
    }

    const JOBS: SharedInfo =
        SharedInfo { consumers: 2, ready: 5, leased: 3, delayed: 1, dead: 0, dead_total: 4 };

    #[test]
    fn rates_are_what_was_counted_in_the_time_between_two_looks() {
        let mut model = Model::default();
        assert_eq!(model.streams(), []);
        let orders = |published, position| {
            let lag = published - position;
            (
                stream("orders", published, Some(("a", lag))),
                subscription("orders", "a", (position, lag), None),
            )
        };
        let (first, then) = (orders(1000, 900), orders(3000, 2400));
        model.update(look(0, vec![first.0], vec![first.1]));
        assert_eq!((model.streams()[0].published, model.streams()[0].consumed), (None, None));
        model.update(look(500, vec![then.0], vec![then.1]));
        let row = &model.streams()[0];
        assert_eq!((row.published, row.consumed), (Some(4000.0), Some(3000.0)));
        assert_eq!((row.held, row.behind, row.slowest.as_str(), row.consumers), (100, 600, "a", Some(1)));
    }

    #[test]
    fn a_stream_that_was_made_again_has_no_rate_and_one_that_is_new_has_none_yet() {
        let mut model = Model::default();
        model.update(look(0, vec![stream("s", 1000, None)], vec![]));
        model.update(look(1000, vec![stream("new", 5, None), stream("s", 3, None)], vec![]));
        assert_eq!(model.streams().iter().map(|row| row.published).collect::<Vec<_>>(), [None, None]);
        assert_eq!(model.streams()[0].consumed, Some(0.0), "nobody can");
        model.update(look(1000, vec![stream("s", 3, None)], vec![]));
        assert_eq!(model.streams()[0].published, None, "no time has passed");
    }

    #[test]
    fn a_shared_subscription_has_consumed_what_is_settled() {
        let mut model = Model::default();
        let at = |ready| subscription("jobs", "jobs", (0, 100), Some(SharedInfo { ready, ..JOBS }));
        model.update(look(0, vec![stream("jobs", 100, Some(("jobs", 100)))], vec![at(55)]));
        model.update(look(1000, vec![stream("jobs", 100, Some(("jobs", 100)))], vec![at(5)]));
        let rows = model.subscriptions("jobs");
        assert_eq!(
            (rows[0].consumed, rows[0].behind, rows[0].consumers, rows[0].mode),
            (Some(50.0), 9, 2, "shared")
        );
        assert_eq!(model.subscriptions("other"), []);
    }

    #[test]
    fn shards_add_up_their_partitions_and_say_what_is_not_durable_yet() {
        let mut model = Model::default();
        let pay = || durable(stream("pay", 100, None), 90, 70);
        model.update(look(0, vec![stream("a", 0, None), pay(), stream("b", 0, None)], vec![]));
        model.update(look(1000, vec![stream("a", 10, None), pay(), stream("b", 5, None)], vec![]));
        let rows = model.shards();
        assert_eq!(
            (rows[0].partitions, rows[0].published, rows[0].held, rows[0].journaled),
            (2, Some(15.0), 15, 0)
        );
        assert_eq!((rows[1].journaled, rows[1].unwritten, rows[1].unsynced), (1, 10, 30));
        assert_eq!(model.partitions("pay")[0].durable, Some((90, 70)));
    }
}
