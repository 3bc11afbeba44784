//! One partition with its subscriptions, served to one client as a shard would.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use ringway_client::{
    Connection, Lag, PartitionInfo, Refusal, RefusalCode, StartAt, StreamInfo, StreamSettings,
    SubscriptionInfo,
};
use ringway_shm_protocol::control::message::{
    ConsumerGrant, CursorInfo, ProducerGrant, Reply, Request, SubscriptionMode, Visibility,
};
use ringway_shm_protocol::layout::Geometry;
use ringway_shm_protocol::partition::{PartitionRegions, RingIdentity, SubscriptionRegion};
use ringway_shm_protocol::ring::shard::Start;
use ringway_shm_protocol::words::CursorWord;

use super::{Broker, Client};

/// What the broker was asked, in the test's hands.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Request>>>);

impl Log {
    pub(crate) fn count(&self, wanted: impl Fn(&Request) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|request| wanted(request)).count()
    }

    pub(crate) fn closes(&self) -> usize {
        self.count(|request| matches!(request, Request::Close { .. }))
    }

    pub(crate) fn gates(&self) -> usize {
        self.count(|request| matches!(request, Request::OpenGate { .. }))
    }
}

/// A broker with the stream "s" of `slots` slots of 64 bytes, a connection to it, and what it is asked. `Stop` makes
/// it hang up.
pub(crate) fn serve(slots: u64) -> (Broker, Connection, Log) {
    serve_with(slots, |_, _| None)
}

/// As [`serve`]; a request that `first` answers goes no further.
pub(crate) fn serve_with(
    slots: u64,
    mut first: impl FnMut(&Request, &Partition) -> Option<(Reply, Vec<OwnedFd>)> + Send + 'static,
) -> (Broker, Connection, Log) {
    let log = Log::default();
    let kept = log.clone();
    let broker = Broker::welcoming(move |client: Client| {
        let mut partition = Partition::new(slots);
        while let Some((number, request)) = client.request() {
            kept.0.lock().unwrap().push(request.clone());
            if request == Request::Stop {
                break;
            }
            let (reply, descriptors) =
                first(&request, &partition).unwrap_or_else(|| partition.answer(request));
            client.reply_with(number, &reply, &descriptors);
        }
    });
    let connection = broker.connect();
    (broker, connection, log)
}

struct Subscription {
    gate: u8,
    region: SubscriptionRegion,
}

pub(crate) struct Partition {
    pub(crate) regions: PartitionRegions,
    pub(crate) settings: StreamSettings,
    identity: RingIdentity,
    subscriptions: BTreeMap<String, Subscription>,
    endpoints: u64,
}

impl Partition {
    pub(crate) fn new(slots: u64) -> Self {
        let identity = RingIdentity { incarnation: 5, geometry: Geometry::new(slots, 64).unwrap() };
        let regions = PartitionRegions::create(identity, 0).unwrap();
        let settings =
            StreamSettings { slots, slot_bytes: 64, payload_bytes_max: 1000, ..StreamSettings::default() };
        Self { regions, settings, identity, subscriptions: BTreeMap::new(), endpoints: 0 }
    }

    fn answer(&mut self, request: Request) -> (Reply, Vec<OwnedFd>) {
        match request {
            Request::DescribeStream { .. } => (Reply::Stream(self.describe()), vec![]),
            Request::DeclareSubscription { name, start, .. } => {
                let name = String::from_utf8(name).unwrap();
                (Reply::Subscription(self.declare(name, start)), vec![])
            }
            Request::OpenProducer { .. } => {
                self.endpoints += 1;
                (Reply::Producer(self.producer_grant()), self.regions.for_producer().unwrap())
            }
            Request::OpenConsumer { subscription, .. } => {
                self.open_consumer(&String::from_utf8(subscription).unwrap())
            }
            Request::OpenGate { gate, .. } => {
                match self.subscriptions.values().find(|subscription| subscription.gate == gate) {
                    Some(subscription) => (Reply::Gate, vec![subscription.region.for_gate().unwrap()]),
                    None => (refusal(RefusalCode::NotFound), vec![]),
                }
            }
            Request::DeleteSubscription { name, .. } => {
                let name = String::from_utf8(name).unwrap();
                let subscription = self.subscriptions.remove(&name).unwrap();
                self.regions.ring.leave(subscription.gate);
                self.regions.space.ring_always();
                (Reply::Done, vec![])
            }
            _ => (Reply::Done, vec![]),
        }
    }

    pub(crate) fn producer_grant(&self) -> ProducerGrant {
        ProducerGrant {
            endpoint: self.endpoints,
            incarnation: self.identity.incarnation,
            owner: 1,
            position: self.regions.ring.end(),
            number: 0,
            sent: None,
            settings: self.settings,
        }
    }

    fn declare(&mut self, name: String, start: StartAt) -> SubscriptionInfo {
        let gate = self.subscriptions.len() as u8;
        let region = SubscriptionRegion::create(self.identity).unwrap();
        let start = match start {
            StartAt::First => Start::First,
            StartAt::Next => Start::Next,
        };
        let position = self.regions.ring.join(gate, 1, &region.cursor, start);
        self.subscriptions.insert(name.clone(), Subscription { gate, region });
        let lag = self.regions.ring.end() - position;
        let cursor =
            CursorInfo { partition: 0, position, lag, consumer_pid: None, detached: false, shared: None };
        SubscriptionInfo {
            stream: "s".to_owned(),
            name,
            mode: SubscriptionMode::default(),
            partitions: vec![cursor],
        }
    }

    /// Hands the subscription out, also while somebody has it: a takeover.
    fn open_consumer(&mut self, name: &str) -> (Reply, Vec<OwnedFd>) {
        self.endpoints += 1;
        let subscription = &self.subscriptions[name];
        let found = CursorWord::unpack(subscription.region.cursor.load(Ordering::Acquire));
        let given = CursorWord { generation: found.next_generation(), ..found };
        subscription.region.cursor.store(given.pack(), Ordering::Release);
        let grant = ConsumerGrant {
            endpoint: self.endpoints,
            incarnation: self.identity.incarnation,
            cursor: given.pack(),
            visibility: Visibility::Committed,
            settings: self.settings,
        };
        (Reply::Consumer(grant), self.regions.for_consumer(&subscription.region).unwrap())
    }

    fn cursor(subscription: &Subscription) -> u64 {
        CursorWord::unpack(subscription.region.cursor.load(Ordering::Acquire)).position
    }

    /// The stream; its slowest subscription tells a test where the cursor stands.
    fn describe(&self) -> StreamInfo {
        let end = self.regions.ring.end();
        let slowest = self.subscriptions.iter().min_by_key(|(_, subscription)| Self::cursor(subscription));
        let partition = PartitionInfo {
            partition: 0,
            shard: 0,
            opened: true,
            first_position: 0,
            next_position: end,
            producers: 0,
            producer_pids: vec![],
            arenas_bytes: 0,
            slowest: slowest.map(|(name, subscription)| Lag {
                subscription: name.clone(),
                messages: end - Self::cursor(subscription),
                consumer_pid: None,
            }),
            journal: None,
            durable: None,
        };
        StreamInfo {
            name: "s".to_owned(),
            settings: self.settings,
            subscriptions: self.subscriptions.len() as u32,
            partitions: vec![partition],
        }
    }
}

pub(crate) fn refusal(code: RefusalCode) -> Reply {
    Reply::Refused(Refusal { code, message: format!("refused as {code:?}: do something else") })
}
