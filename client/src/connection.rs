//! The connection to the broker: administration, and the way to producers and consumers.
//!
//! 1. A call asks the broker one thing and waits at most ten seconds for the answer (and for the calls of other threads that
//!    came before it), and while there is no broker, as long as it may be looked for. Nothing here is on the way of a message.
//! 2. Every producer and consumer keeps the session that it was opened in. A new session is made when the last one has ended,
//!    by the first who needs it: see [`outage`](crate::outage).
//! 3. A new session declares what was declared through the connection, before anybody opens something in it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ringway_shm_protocol::control::message::{
    Reply, Request, SharedSettings, StartAt, StreamChanges, StreamInfo, StreamKind, StreamSettings,
    SubscriptionChanges, SubscriptionInfo, SubscriptionMode,
};
use rustix::event::PollFlags;

use crate::consumer::ConsumerBuilder;
use crate::error::{AdminError, ConnectError, ProtocolError};
use crate::outage::patiently;
use crate::producer::ProducerBuilder;
use crate::session::{ANSWER_MAX, Answer, Session, wait_for};
use crate::shared_consumer::SharedConsumerBuilder;
use crate::wait::Deadline;

/// How long a broker that has just come may take to welcome a session: it is asked again.
const RENEWAL_ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long another broker is looked for, when nothing else is said.
const RECONNECT_WITHIN: Duration = Duration::from_secs(30);

/// The way to the broker. Clones share it, and any thread may use it; one request is under way at a time.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// use ringway_client::{Connection, StartAt, StreamSettings, directory::default_directory};
///
/// let connection = Connection::open(default_directory())?;
/// connection.declare_stream("orders", StreamSettings::DEFAULT)?;
/// connection.declare_subscription("orders", "billing", StartAt::First)?;
/// println!("{} streams", connection.streams()?.len());
/// # Ok(())
/// # }
/// ```
///
/// Its session ends when the last clone is dropped, and with it the last producer and consumer opened through it.
///
/// # When the broker ends
///
/// A broker that was killed while it had a keeper (as `ringway serve` has) is succeeded within milliseconds, and the session goes
/// on by itself; messages between processes that are awake do not even pause.
///
/// One that was stopped, or lost with its keeper, is looked for again, for 30 seconds or as long as
/// [`reconnect_within`](ConnectionBuilder::reconnect_within) says. Producers and consumers go on at the next one by themselves:
/// what was declared through this connection is declared again, consumers go on where they were last committed, and a call that
/// waits goes on waiting. What differs then:
///
/// - Messages of streams of durability `memory` flow on as long as there is no broker and the ring has room. What of them nobody
///   had read when the next one came goes to those who had the stream open, and is lost to all others. Producers of durable
///   streams wait.
/// - What was sent and not confirmed may be lost, and what was received and not committed, or not acked, comes again.
/// - [`confirm`](crate::Producer::confirm) and its like say once that it is not known
///   ([`Disconnected`](crate::ConfirmError::Disconnected)), and positions from before count no more. A producer with a
///   [name](ProducerBuilder::name) finds in [`sent`](crate::Producer::sent) what is there.
/// - A message that was [kept](crate::Delivery::keep) is settled too late; a [held](crate::Message::hold) one stays readable.
///
/// Only when there is no broker in time do calls fail that need one, as disconnected.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    reconnect_within: Duration,
    session: RwLock<Arc<Session>>,
    /// What was declared, in order. Whoever has it locked may make a new session.
    declared: Mutex<Vec<Request>>,
}

/// What a [`Connection`] will be like; made by [`Connection::builder`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use ringway_client::Connection;
///
/// let connection = Connection::builder("/run/ringway").reconnect_within(Duration::from_secs(300)).open()?;
/// # let _ = connection;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct ConnectionBuilder {
    directory: PathBuf,
    reconnect_within: Duration,
}

impl ConnectionBuilder {
    /// How long another broker is looked for when this one is gone: 30 seconds when nothing is said, never for
    /// [`Duration::ZERO`]. Each call that needs one waits so long at the most.
    pub fn reconnect_within(self, reconnect_within: Duration) -> Self {
        Self { reconnect_within, ..self }
    }

    /// Opens the connection. Waits at most ten seconds for the broker's welcome; there must be one.
    pub fn open(self) -> Result<Connection, ConnectError> {
        let Self { directory, reconnect_within } = self;
        let session = RwLock::new(Arc::new(Session::open(&directory, ANSWER_MAX)?));
        let declared = Mutex::default();
        Ok(Connection { inner: Arc::new(Inner { directory, reconnect_within, session, declared }) })
    }
}

impl Connection {
    /// Connects to the broker in `directory` (see [`default_directory`](crate::directory::default_directory)), as
    /// [`builder`](Self::builder) does with nothing more said.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Self::builder(directory).open()
    }

    /// Prepares to connect to the broker in `directory`.
    pub fn builder(directory: impl AsRef<Path>) -> ConnectionBuilder {
        ConnectionBuilder { directory: directory.as_ref().to_owned(), reconnect_within: RECONNECT_WITHIN }
    }

    /// The last session; it may have ended.
    pub(crate) fn session_now(&self) -> Arc<Session> {
        Arc::clone(&self.inner.session.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long another broker is looked for when this one is gone.
    pub fn reconnect_within(&self) -> Duration {
        self.inner.reconnect_within
    }

    pub(crate) fn reconnects(&self) -> bool {
        !self.inner.reconnect_within.is_zero()
    }

    /// The session after the one that was `lost`: that of whoever was here first, or a new one, if there is a broker.
    pub(crate) fn renewed(&self, lost: &Arc<Session>) -> Result<Arc<Session>, ConnectError> {
        let declared = self.inner.declared.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.session_now();
        if !Arc::ptr_eq(&last, lost) && last.is_open() {
            return Ok(last);
        }
        let session = Arc::new(Session::open(&self.inner.directory, RENEWAL_ANSWER_MAX)?);
        for request in declared.iter() {
            // What cannot be declared any more shows when it is opened.
            let _ = session.request(request, ANSWER_MAX);
        }
        *self.inner.session.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&session);
        Ok(session)
    }

    /// The broker's directory, as it was given.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// The broker's process id, as the broker sees it: that of its successor from the first answer of that one on.
    pub fn broker_pid(&self) -> u32 {
        self.session_now().broker_pid()
    }

    /// How many shards the broker has.
    pub fn shards(&self) -> u16 {
        self.session_now().welcome().shards
    }

    /// The number of the session, by which the broker names it; another one when the broker was replaced.
    pub fn session(&self) -> u64 {
        self.session_now().welcome().session
    }

    /// Whether the broker is there: one system call, and it does not block. `false` while there is none, and in a forked child,
    /// which may not use the session.
    pub fn is_open(&self) -> bool {
        self.session_now().is_open()
    }

    /// Makes a stream, or confirms that it exists with these settings. Refused as
    /// [`Conflict`](crate::RefusalCode::Conflict) when it exists with others.
    pub fn declare_stream(&self, name: &str, settings: StreamSettings) -> Result<StreamInfo, AdminError> {
        self.ask_stream(Request::DeclareStream { name: name.into(), settings, queue: None })
    }

    /// Makes a queue: a stream that keeps every message until it is acked, with one `shared` subscription that has the
    /// stream's name; or confirms that it exists with these settings. Refused as
    /// [`Conflict`](crate::RefusalCode::Conflict) when it exists with others, and as
    /// [`Invalid`](crate::RefusalCode::Invalid) when they cannot be. The kind that `settings` name does not count.
    ///
    /// **The usual settings are those of a queue in memory, whose dead messages are dropped**: what `ringway stream create --kind queue`
    /// makes is `synced`, and has a queue for its dead letters. The same from here:
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let connection = ringway_client::Connection::open("/run/ringway")?;
    /// use ringway_client::{Durability, SharedSettings, StreamSettings};
    ///
    /// let synced = StreamSettings { durability: Durability::Synced, ..StreamSettings::DEFAULT };
    /// let for_ever = SharedSettings { attempts_max: 0, ..SharedSettings::default() };
    /// connection.declare_queue("jobs.dead", synced, for_ever)?;
    /// let to_the_dead = SharedSettings { dead_letter: Some("jobs.dead".into()), ..SharedSettings::default() };
    /// connection.declare_queue("jobs", synced, to_the_dead)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn declare_queue(
        &self,
        name: &str,
        settings: StreamSettings,
        shared: SharedSettings,
    ) -> Result<StreamInfo, AdminError> {
        let settings = StreamSettings { kind: StreamKind::Queue, ..settings };
        self.ask_stream(Request::DeclareStream { name: name.into(), settings, queue: Some(shared) })
    }

    /// Describes one stream. Refused as [`NotFound`](crate::RefusalCode::NotFound) when there is none.
    pub fn stream(&self, name: &str) -> Result<StreamInfo, AdminError> {
        self.ask_stream(Request::DescribeStream { name: name.into() })
    }

    /// Describes all streams, in order of their names. With very many streams this takes several requests, and
    /// what changes between them may be seen or not.
    pub fn streams(&self) -> Result<Vec<StreamInfo>, AdminError> {
        let mut streams: Vec<StreamInfo> = Vec::new();
        loop {
            let last = streams.last().map_or("", |stream| &stream.name);
            let Reply::Streams { page, more } = self.ask(&Request::ListStreams { after: last.into() })?
            else {
                return Err(unexpected("a page of streams"));
            };
            let goes_on = page.first().is_some_and(|first| last < first.name.as_str());
            if more && !goes_on {
                let (found, expected) = ("a page of streams that does not go on", "the next page");
                return Err(ProtocolError::Unexpected { found, expected }.into());
            }
            streams.extend(page);
            if !more {
                return Ok(streams);
            }
        }
    }

    /// Removes a stream with its subscriptions. Refused as [`InUse`](crate::RefusalCode::InUse) while somebody
    /// has it open.
    pub fn delete_stream(&self, name: &str) -> Result<(), AdminError> {
        self.ask_done(Request::DeleteStream { name: name.into() })
    }

    /// Gives up, for all subscriptions of a stream, the messages that are there and that nobody has; returns how many, each as often
    /// as it was given up. What a consumer has leased stays its own, and comes again if it fails; what is dead goes to the dead
    /// letters. As durable as the stream when this returns; what is published meanwhile may stay. Refused as
    /// [`InUse`](crate::RefusalCode::InUse) while an ordered subscription is read: its reader would not notice.
    pub fn purge_stream(&self, name: &str) -> Result<u64, AdminError> {
        self.purge(Request::Purge { stream: name.into(), subscription: None })
    }

    /// The same for one subscription.
    pub fn purge_subscription(&self, stream: &str, name: &str) -> Result<u64, AdminError> {
        self.purge(Request::Purge { stream: stream.into(), subscription: Some(name.into()) })
    }

    fn purge(&self, request: Request) -> Result<u64, AdminError> {
        match self.ask(&request)? {
            Reply::Purged { messages } => Ok(messages),
            _ => Err(unexpected("how many messages were purged")),
        }
    }

    /// Alters a stream that is there; returns how it is then. Producers and consumers may have it open, but for what they go by
    /// themselves: see [`StreamChanges`]. As durable as the stream when this returns; from then on it is declared with the settings
    /// it has now. What does not differ is confirmed. Refused, as a whole, as [`Invalid`](crate::RefusalCode::Invalid) when
    /// something is to change that never does, or that cannot be; and as [`InUse`](crate::RefusalCode::InUse) when it changes only
    /// while nobody publishes.
    pub fn alter_stream(&self, name: &str, changes: StreamChanges) -> Result<StreamInfo, AdminError> {
        self.ask_stream(Request::AlterStream { name: name.into(), changes, queue: None })
    }

    /// The same for a queue and its subscription, in one: all of it or nothing.
    pub fn alter_queue(
        &self,
        name: &str,
        changes: StreamChanges,
        shared: SubscriptionChanges,
    ) -> Result<StreamInfo, AdminError> {
        self.ask_stream(Request::AlterStream { name: name.into(), changes, queue: Some(shared) })
    }

    /// The same for a `shared` subscription; of a queue, the one of its name. What consumers have leased keeps the lease it has, what
    /// waits comes when it was to come, what is dead stays dead; everything else goes by the new settings from then on. Where dead
    /// messages go elsewhere, this waits until none is on its way, so that each comes to one stream: refused as
    /// [`Limit`](crate::RefusalCode::Limit) when they have not come for five seconds.
    pub fn alter_subscription(
        &self,
        stream: &str,
        name: &str,
        changes: SubscriptionChanges,
    ) -> Result<SubscriptionInfo, AdminError> {
        self.ask_subscription(Request::AlterSubscription {
            stream: stream.into(),
            name: name.into(),
            changes,
        })
    }

    /// Makes a `cursor` subscription that starts at `start`, or confirms that it exists, wherever it stands then. Refused as
    /// [`Conflict`](crate::RefusalCode::Conflict) when it exists as a `shared` one.
    pub fn declare_subscription(
        &self,
        stream: &str,
        name: &str,
        start: StartAt,
    ) -> Result<SubscriptionInfo, AdminError> {
        self.declare_subscription_as(stream, name, start, SubscriptionMode::default())
    }

    /// Makes a `shared` subscription that starts at `start`, or confirms that it exists with these settings. Refused as
    /// [`Conflict`](crate::RefusalCode::Conflict) when it exists with others, and as
    /// [`Invalid`](crate::RefusalCode::Invalid) when they cannot be, or the stream is a queue.
    pub fn declare_shared_subscription(
        &self,
        stream: &str,
        name: &str,
        start: StartAt,
        settings: SharedSettings,
    ) -> Result<SubscriptionInfo, AdminError> {
        self.declare_subscription_as(stream, name, start, SubscriptionMode::Shared(settings))
    }

    /// Makes a subscription of any mode, or confirms that it exists so. Refused as the two above are, and as
    /// [`Invalid`](crate::RefusalCode::Invalid) when its [visibility](crate::Visibility) is `durable` and the stream's
    /// durability is `memory`.
    pub fn declare_subscription_as(
        &self,
        stream: &str,
        name: &str,
        start: StartAt,
        mode: SubscriptionMode,
    ) -> Result<SubscriptionInfo, AdminError> {
        self.ask_subscription(Request::DeclareSubscription {
            stream: stream.into(),
            name: name.into(),
            start,
            mode: Some(mode),
        })
    }

    /// Describes one subscription. Refused as [`NotFound`](crate::RefusalCode::NotFound) when there is none.
    pub fn subscription(&self, stream: &str, name: &str) -> Result<SubscriptionInfo, AdminError> {
        self.ask_subscription(Request::DescribeSubscription { stream: stream.into(), name: name.into() })
    }

    /// Describes all subscriptions of a stream, in order of their names.
    pub fn subscriptions(&self, stream: &str) -> Result<Vec<SubscriptionInfo>, AdminError> {
        match self.ask(&Request::ListSubscriptions { stream: stream.into() })? {
            Reply::Subscriptions(subscriptions) => Ok(subscriptions),
            _ => Err(unexpected("the subscriptions")),
        }
    }

    /// Removes a subscription. Refused as [`InUse`](crate::RefusalCode::InUse) while a consumer has it open.
    pub fn delete_subscription(&self, stream: &str, name: &str) -> Result<(), AdminError> {
        self.ask_done(Request::DeleteSubscription { stream: stream.into(), name: name.into() })
    }

    /// Tells the broker to end and waits until its process and its keeper's are gone, at most `timeout`; then the error is
    /// [`StillRunning`](AdminError::StillRunning), and it may still end later.
    pub fn stop_broker(&self, timeout: Duration) -> Result<(), AdminError> {
        let control = self.session_now();
        if !control.fork().is_here() {
            return Err(AdminError::Forked);
        }
        let deadline = Deadline::after(timeout);
        // Before the request: afterwards the process may be gone already.
        let listener = control.listener();
        match control.request(&Request::Stop, timeout.min(ANSWER_MAX)) {
            Ok(_) | Err(AdminError::Disconnected | AdminError::Ended { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut gone = control.wait_for_end(deadline).map_err(AdminError::System)?;
        if let (true, Ok(listener)) = (gone, listener) {
            gone = wait_for(&listener.pidfd, PollFlags::IN, deadline).map_err(AdminError::System)?;
        }
        if gone { Ok(()) } else { Err(AdminError::StillRunning { pid: self.broker_pid(), waited: timeout }) }
    }

    /// Prepares to open `stream` as its one producer.
    pub fn producer(&self, stream: &str) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), stream)
    }

    /// Prepares to open `subscription` of `stream`, a `cursor` one, as its one consumer.
    pub fn consumer(&self, stream: &str, subscription: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), stream, subscription)
    }

    /// Prepares to open `subscription` of `stream`, a `shared` one, as one of its consumers.
    pub fn shared_consumer(&self, stream: &str, subscription: &str) -> SharedConsumerBuilder {
        SharedConsumerBuilder::new(self.clone(), stream, subscription)
    }

    /// Prepares to open a queue as one of its consumers.
    pub fn queue_consumer(&self, queue: &str) -> SharedConsumerBuilder {
        self.shared_consumer(queue, queue)
    }

    fn ask(&self, request: &Request) -> Result<Reply, AdminError> {
        let Answer { reply, .. } = patiently(self, |session| session.request(request, ANSWER_MAX))?;
        self.remember(request);
        Ok(reply)
    }

    /// Notes what a new session has to declare and to alter, in order, or has no longer to.
    fn remember(&self, request: &Request) {
        use Request::{
            AlterStream, AlterSubscription, DeclareStream, DeclareSubscription, DeleteStream,
            DeleteSubscription,
        };
        let mut declared = self.inner.declared.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            DeclareStream { .. } | DeclareSubscription { .. } if !declared.contains(request) => {
                declared.push(request.clone());
            }
            // The last one counts.
            AlterStream { .. } | AlterSubscription { .. } => {
                declared.retain(|earlier| earlier != request);
                declared.push(request.clone());
            }
            DeleteStream { name: gone } => declared.retain(|earlier| match earlier {
                DeclareStream { name, .. } | AlterStream { name, .. } => name != gone,
                DeclareSubscription { stream, .. } | AlterSubscription { stream, .. } => stream != gone,
                _ => true,
            }),
            DeleteSubscription { stream: of, name: gone } => declared.retain(|earlier| match earlier {
                DeclareSubscription { stream, name, .. } | AlterSubscription { stream, name, .. } => {
                    stream != of || name != gone
                }
                _ => true,
            }),
            _ => {}
        }
    }

    fn ask_done(&self, request: Request) -> Result<(), AdminError> {
        match self.ask(&request)? {
            Reply::Done => Ok(()),
            _ => Err(unexpected("a confirmation")),
        }
    }

    fn ask_stream(&self, request: Request) -> Result<StreamInfo, AdminError> {
        match self.ask(&request)? {
            Reply::Stream(stream) => Ok(stream),
            _ => Err(unexpected("a stream")),
        }
    }

    fn ask_subscription(&self, request: Request) -> Result<SubscriptionInfo, AdminError> {
        match self.ask(&request)? {
            Reply::Subscription(subscription) => Ok(subscription),
            _ => Err(unexpected("a subscription")),
        }
    }
}

/// An answer of the wrong sort.
pub(crate) fn unexpected(expected: &'static str) -> AdminError {
    ProtocolError::Unexpected { found: "another reply", expected }.into()
}
