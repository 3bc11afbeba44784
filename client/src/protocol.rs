//! What of the protocol is the client's, too: settings, descriptions, attributes, and what goes wrong below. Each with an example.

pub use ringway_shm_protocol::attributes::{CORRELATION_BYTES_MAX, KEY_BYTES_MAX, MAP_BYTES_MAX};
pub use ringway_shm_protocol::control::message::{
    LEASE_MS_MAX, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX_DEFAULT, RETRY_MS_MAX,
};
pub use ringway_shm_protocol::layout::{
    CAPACITY_DEFAULT, CAPACITY_MAX, CAPACITY_MIN, PARTITIONS_MAX, SLOT_BYTES_DEFAULT, SLOT_BYTES_MAX,
    SLOT_BYTES_MIN,
};

/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ringway_client::{AttributeMap, Value};
///
/// let mut map = AttributeMap::new();
/// map.insert("urgent", true)?;
/// map.insert("table", 12)?;
/// assert_eq!(map.iter().last(), Some(("table", Value::Integer(12))));
/// assert!(map.insert("table", 13).is_err());
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::attributes::AttributeMap;

/// ```
/// use ringway_client::{Attributes, Outgoing};
///
/// let attributes = Attributes::new().key(b"customer 7").correlation(b"request 1");
/// assert_eq!(attributes.key_bytes(), Some(&b"customer 7"[..]));
/// let message = Outgoing::new(b"one pizza").attributes(attributes);
/// # let _ = message;
/// ```
pub use ringway_shm_protocol::attributes::Attributes;

/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ringway_client::{AttributeMap, AttributesError};
///
/// let mut map = AttributeMap::new();
/// map.insert("table", 12)?;
/// assert!(matches!(map.insert("table", 13), Err(AttributesError::Twice { .. })));
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::attributes::AttributesError;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut consumer = connection.consumer("orders", "billing").open()?;
/// let message = consumer.recv()?;
/// let said = message.attributes();
/// println!("{:?} {:?} {:?}", said.key(), said.timestamp_ns(), said.get("urgent"));
/// for (name, value) in said.iter() {
///     println!("{name} = {value:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::attributes::AttributesView;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::RecvError;
///
/// let mut consumer = connection.consumer("orders", "billing").open()?;
/// match consumer.recv() {
///     Err(RecvError::Attributes { position, source }) => eprintln!("{position}: {} at byte {}", source.what, source.at),
///     received => println!("{received:?}"),
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::attributes::CorruptAttributes;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut consumer = connection.consumer("orders", "billing").open()?;
/// // Of messages of a producer with a name.
/// if let Some(stamp) = consumer.recv()?.attributes().stamp() {
///     println!("message {}", stamp.sequence);
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::attributes::Stamp;

/// ```
/// use ringway_client::Value;
///
/// assert_eq!(Value::from("text"), Value::Text("text".into()));
/// assert_eq!(Value::from(12), Value::Integer(12));
/// assert_eq!(Value::from(0.5), Value::Float(0.5));
/// ```
pub use ringway_shm_protocol::attributes::Value;

/// ```
/// use ringway_client::{AdminError, ProtocolError};
///
/// /// Whether what answers is no broker of Ringway's.
/// fn is_strange(error: &AdminError) -> bool {
///     matches!(error, AdminError::Protocol(ProtocolError::Frame(_)))
/// }
/// # let _ = is_strange;
/// ```
pub use ringway_shm_protocol::control::frame::FrameError;

/// ```
/// use ringway_client::{Backoff, SharedSettings};
///
/// // 1 s, 2 s, 4 s … at most a minute, each shortened by up to a fifth.
/// let backoff = Backoff { initial_ms: 1000, multiplier_percent: 200, max_ms: 60_000, jitter_percent: 20 };
/// let settings = SharedSettings { backoff, ..SharedSettings::default() };
/// # let _ = settings;
/// ```
pub use ringway_shm_protocol::control::message::Backoff;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// for partition in connection.subscription("orders", "billing")?.partitions {
///     println!("{}: at {}, {} behind", partition.partition, partition.position, partition.lag);
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::CursorInfo;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::{CursorSettings, StartAt, SubscriptionMode, Visibility};
///
/// let mode = SubscriptionMode::Cursor(CursorSettings { visibility: Visibility::Durable });
/// connection.declare_subscription_as("payments", "ledger", StartAt::First, mode)?;
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::CursorSettings;

/// ```
/// use ringway_client::DeathReason;
///
/// // As the attribute `dead.reason` has it.
/// assert_eq!(DeathReason::Expired.name(), "expired");
/// ```
pub use ringway_shm_protocol::control::message::DeathReason;

/// ```
/// use ringway_client::{Durability, Outgoing};
///
/// assert!(Durability::Synced > Durability::Written);
/// // A message that matters more than its stream.
/// let message = Outgoing::new(b"42 EUR").durability(Durability::Synced);
/// # let _ = message;
/// ```
pub use ringway_shm_protocol::control::message::Durability;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// if let Some(lag) = connection.stream("orders")?.slowest() {
///     println!("{} is {} behind, in process {:?}", lag.subscription, lag.messages, lag.consumer_pid);
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::Lag;

/// ```
/// use ringway_client::{Overflow, StreamSettings};
///
/// let frames = StreamSettings { slots: 64, overflow: Overflow::DropOldest, ..StreamSettings::DEFAULT };
/// let events = StreamSettings { overflow: Overflow::Detach { after_ms: 2000 }, ..StreamSettings::DEFAULT };
/// # let _ = (frames, events);
/// ```
pub use ringway_shm_protocol::control::message::Overflow;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// for partition in connection.stream("orders")?.partitions {
///     println!("{}: {} to {}", partition.partition, partition.first_position, partition.next_position);
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::PartitionInfo;

/// ```
/// use ringway_client::{Producers, StreamSettings};
///
/// let ticks = StreamSettings { producers: Producers::Exclusive, ..StreamSettings::DEFAULT };
/// # let _ = ticks;
/// ```
pub use ringway_shm_protocol::control::message::Producers;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::AdminError;
///
/// if let Err(AdminError::Refused(refusal)) = connection.delete_stream("orders") {
///     println!("{:?}: {}", refusal.code, refusal.message);
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::Refusal;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::RefusalCode;
///
/// match connection.stream("orders") {
///     Ok(stream) => println!("{} subscriptions", stream.subscriptions),
///     Err(error) if error.code() == Some(RefusalCode::NotFound) => println!("there is none"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::RefusalCode;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let producer = connection.producer("payments").name("importer").open()?;
/// for sent in producer.sent().into_iter().flatten() {
///     println!("message {} is at position {}", sent.sequence, sent.position);
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::Sent;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let jobs = connection.subscription("jobs", "jobs")?.shared();
/// println!("{} ready, {} leased, {} delayed, {} unsettled", jobs.ready, jobs.leased, jobs.delayed, jobs.unsettled());
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::SharedInfo;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::{SharedSettings, StreamSettings};
///
/// let settings = SharedSettings {
///     lease_ms: 60_000,
///     attempts_max: 5,
///     dead_letter: Some("jobs.dead".into()),
///     ..SharedSettings::default()
/// };
/// connection.declare_queue("jobs", StreamSettings::DEFAULT, settings)?;
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::SharedSettings;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::StartAt;
///
/// connection.declare_subscription("orders", "audit", StartAt::First)?; // all that is still there
/// connection.declare_subscription("orders", "screen", StartAt::Next)?; // what comes from now on
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::StartAt;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::{Overflow, StreamChanges};
///
/// connection.alter_stream("orders", StreamChanges::new().overflow(Overflow::Reject))?;
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::StreamChanges;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// for stream in connection.streams()? {
///     println!("{}: {} producers, {} slots", stream.name, stream.producers(), stream.settings.slots);
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::StreamInfo;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::StreamKind;
///
/// let queues = connection.streams()?.into_iter().filter(|stream| stream.settings.kind == StreamKind::Queue);
/// println!("{} queues", queues.count());
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::StreamKind;

/// ```
/// use ringway_client::{Durability, StreamSettings};
///
/// let settings = StreamSettings { partitions: 8, durability: Durability::Synced, ..StreamSettings::DEFAULT };
/// assert_eq!((settings.slots, settings.slot_bytes), (16_384, 128));
/// ```
pub use ringway_shm_protocol::control::message::StreamSettings;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::{StreamChanges, SubscriptionChanges};
///
/// let patient = SubscriptionChanges::new().lease_ms(60_000).attempts_max(5);
/// connection.alter_subscription("orders", "packing", patient.clone())?;
/// connection.alter_queue("jobs", StreamChanges::new(), patient.dead_letter("jobs.dead"))?;
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::SubscriptionChanges;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// for subscription in connection.subscriptions("orders")? {
///     println!("{}: {} behind", subscription.name, subscription.lag());
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::SubscriptionInfo;

/// ```
/// use ringway_client::{SharedSettings, SubscriptionMode, Visibility};
///
/// let mode = SubscriptionMode::Shared(SharedSettings { single_active: true, ..SharedSettings::default() });
/// assert_eq!(mode.visibility(), Visibility::Committed);
/// ```
pub use ringway_shm_protocol::control::message::SubscriptionMode;

/// ```
/// use ringway_client::{SharedSettings, Visibility};
///
/// let settings = SharedSettings { visibility: Visibility::Durable, ..SharedSettings::default() };
/// # let _ = settings;
/// ```
pub use ringway_shm_protocol::control::message::Visibility;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// for partition in connection.stream("payments")?.partitions {
///     if let Some(watermarks) = partition.durable {
///         println!("{} messages are on the device", watermarks.synced);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::control::message::Watermarks;

/// ```
/// use ringway_client::partition_of;
///
/// assert_eq!(partition_of(b"customer 7", 8), partition_of(b"customer 7", 8));
/// assert!(partition_of(b"customer 7", 8) < 8);
/// ```
pub use ringway_shm_protocol::key::partition_of;

/// ```
/// use ringway_client::ProtocolError;
///
/// /// Whether the broker has announced a ring that cannot be.
/// fn is_impossible(error: &ProtocolError) -> bool {
///     matches!(error, ProtocolError::Geometry(_))
/// }
/// # let _ = is_impossible;
/// ```
pub use ringway_shm_protocol::layout::GeometryError;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut consumer = connection.consumer("frames", "viewer").open()?;
/// let message = consumer.recv()?;
/// if let Some(view) = message.view() {
///     let mut head = [0; 16];
///     view.read(0, &mut head);
///     println!("{} bytes, {head:?} …", view.len());
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::memory::arena::ArenaView;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::OpenError;
///
/// match connection.producer("orders").open() {
///     Err(OpenError::Region(error)) => eprintln!("the broker handed over something strange: {error}"),
///     opened => drop(opened?),
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::memory::mapped::RegionError;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::RecvError;
///
/// let mut consumer = connection.consumer("orders", "billing").open()?;
/// if let Err(RecvError::Lost(lost)) = consumer.commit() {
///     eprintln!("{lost}: another consumer has it, and gets what was not committed");
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::ring::CursorLost;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::SendError;
///
/// let mut producer = connection.producer("orders").open()?;
/// if let Err(SendError::Publish { source, .. }) = producer.send("one pizza") {
///     eprintln!("the ring has refused: {source}");
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::ring::PublishError;

/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::RecvError;
///
/// let mut consumer = connection.consumer("orders", "billing").open()?;
/// if let Err(RecvError::Read(error)) = consumer.recv() {
///     eprintln!("the ring holds what cannot be: {error}");
/// }
/// # Ok(())
/// # }
/// ```
pub use ringway_shm_protocol::ring::ReadError;
