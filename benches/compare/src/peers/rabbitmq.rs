//! RabbitMQ: a queue per direction, between two processes that sleep, with a server of the trial's own; in `durable` one
//! queue and one process.
//!
//! What always holds:
//!
//! 1. The queues are transient classic queues of one node without plugins, and no message is persistent: nothing waits
//!    for a disk. In `durable` the queue is a durable classic one and all messages are persistent: RabbitMQ confirms such a
//!    message when it has written and synced it. The server has the settings that RabbitMQ comes with.
//! 2. Each message is published by itself, with up to [`WINDOW`] publishes whose confirm is still to come; a message
//!    that is refused ends the run. The consumer is sent up to [`WINDOW`] messages ahead and acks each by itself. A
//!    larger window makes it no faster. In `durable` the window is the trial's, and confirms are counted.
//! 3. Each end of each direction has a connection of its own, as RabbitMQ advises, and a thread for its traffic on its
//!    end's CPU.
//! 4. A trial has its own server, with its own name server.
//! 5. In `durable` the queue keeps the last 65,536 messages.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
    ConfirmSelectArguments, ConsumerMessage, QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{
    Ack, BasicProperties, Cancel, CloseChannel, DELIVERY_MODE_PERSISTENT, DELIVERY_MODE_TRANSIENT,
    FieldTable, FieldValue, Nack, Return,
};
use async_trait::async_trait;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;

use super::server::{self, Program, Server};
use crate::backoff::STALL_LIMIT;
use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::{Attachment, FarProcess, FarSide};
use crate::measure::durable::{self, Confirmed, KEPT_MESSAGES};
use crate::measure::{self, Receiver, Sender};
use crate::payload::{Payload, Verifier};
use crate::trial::{Measured, Trial};

/// The server where Debian has it: the program itself, not the wrapper on the path that wants to be another user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Erlang's name server, which every node needs; on the path.
const NAME_SERVER: &str = "epmd";
/// The queue of each direction.
const THERE: &str = "there";
const BACK: &str = "back";
/// Most messages published and not confirmed, and most delivered and not acked.
const WINDOW: u16 = 1000;
/// The argument of a queue that keeps so many messages.
const KEPT: &str = "x-max-length";
/// How long a look at an empty queue takes.
const LOOK: Duration = Duration::from_micros(200);
/// In the server's directory: its AMQP port.
const PORT_FILE: &str = "port";

/// What is to be done if there is no RabbitMQ here.
pub(super) fn missing() -> Option<&'static str> {
    let advice = "its server is not installed (Debian: apt-get install rabbitmq-server; the service that comes with it is \
                  not used)";
    (!Path::new(SERVER).exists()).then_some(advice)
}

/// Runs one trial.
pub(super) fn measure(trial: &Trial) -> Result<Measured, CompareError> {
    let server = PrivateServer::start(trial)?;
    let directory = server.node.directory().to_owned();
    let sender = open_sender(&directory, THERE)?;
    let receiver = open_receiver(&directory, BACK)?;
    let attachment = Attachment { descriptors: Vec::new(), directory: Some(directory) };
    let (_far_process, mut control) = FarProcess::start(trial, attachment)?;
    measure::near_end(trial, sender, receiver, &mut control)
}

/// Runs one trial of `durable`.
pub(super) fn measure_durable(trial: &Trial) -> Result<Measured, CompareError> {
    let server = PrivateServer::start(trial)?;
    let mut kept = FieldTable::new();
    kept.insert(KEPT.try_into().map_err(failed("name a setting"))?, FieldValue::l(KEPT_MESSAGES.into()));
    let queue = QueueDeclareArguments::new(THERE).durable(true).arguments(kept).finish();
    let client = Client::open(server.node.directory(), queue)?;
    let window = trial.parties.window();
    durable::near_end(trial, window, RabbitSender::new(client, THERE, DELIVERY_MODE_PERSISTENT, window)?)
}

/// Runs the far end.
pub(super) fn far_end<W: Write>(side: &mut FarSide, reporter: &mut Reporter<W>) -> Result<(), CompareError> {
    let directory = side.directory()?;
    let (sender, receiver) = (open_sender(directory, BACK)?, open_receiver(directory, THERE)?);
    measure::far_end(&side.trial, sender, receiver, reporter)
}

/// A server of this trial's own; ends when dropped.
struct PrivateServer {
    // In this order: a node that loses its name server complains.
    node: Server,
    _name_server: Program,
}

impl PrivateServer {
    fn start(trial: &Trial) -> Result<Self, CompareError> {
        let directory = trial.private_directory()?;
        let path = directory.path().to_owned();
        let [port, nodes_port, names_port] = server::free_ports()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let [port, nodes_port, names_port] = [port, nodes_port, names_port].map(|port| port.to_string());
        // Files of its own in place of those that the machine's server has below /etc.
        let files = [
            (PORT_FILE, port.as_str()),
            ("rabbitmq.conf", ""),
            ("advanced.config", "[]."),
            ("rabbitmq-env.conf", ""),
            ("enabled_plugins", "[]."),
        ];
        for (name, content) in files {
            std::fs::write(path.join(name), content)
                .map_err(CompareError::system("prepare RabbitMQ's directory"))?;
        }
        let mut command = Command::new(NAME_SERVER);
        command.args(["-port", &names_port, "-address", "127.0.0.1"]);
        let name_server = Program::start(trial, command.stdout(Stdio::null()).stderr(Stdio::null()))?;

        let mut command = Command::new(SERVER);
        command.env_clear().envs(std::env::var_os("PATH").map(|programs| ("PATH", programs)));
        let texts = [
            ("LANG", "C.UTF-8"),
            ("ERL_EPMD_ADDRESS", "127.0.0.1"),
            ("ERL_EPMD_PORT", &names_port),
            ("RABBITMQ_DIST_PORT", &nodes_port),
            ("RABBITMQ_NODENAME", "ringway-compare@localhost"),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1"),
            ("RABBITMQ_NODE_PORT", &port),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}"),
            // The script then becomes the server rather than start it, so that the child's id is the server's.
            ("RUNNING_UNDER_SYSTEMD", "true"),
        ];
        let paths = [
            ("HOME", ""),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_CONF_ENV_FILE", "rabbitmq-env.conf"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
        ];
        command.envs(texts).envs(paths.map(|(name, file)| (name, path.join(file))));
        let node = Server::start(trial, directory, &mut command)?;
        let mut server = Self { node, _name_server: name_server };
        // The last thing that it prepares.
        server.node.wait_until_ready("rabbitmq", || TcpStream::connect(address))?;
        Ok(server)
    }
}

/// Where the server with this directory listens.
fn address(directory: &Path) -> Result<SocketAddr, CompareError> {
    let action = "read RabbitMQ's port";
    let port = std::fs::read_to_string(directory.join(PORT_FILE)).map_err(CompareError::system(action))?;
    let port = port.parse::<u16>().map_err(failed("say its port"))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// A connection with one channel, and the thread that moves their traffic.
struct Client {
    runtime: Runtime,
    connection: Connection,
    channel: Channel,
}

impl Client {
    /// Connects and declares the queue.
    fn open(directory: &Path, queue: QueueDeclareArguments) -> Result<Self, CompareError> {
        let port = address(directory)?.port();
        // The new thread is bound to this one's CPU.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(CompareError::system("start a thread for RabbitMQ's traffic"))?;
        let (connection, channel) = runtime.block_on(async {
            let login = OpenConnectionArguments::new("127.0.0.1", port, "guest", "guest");
            let connection = Connection::open(&login).await.map_err(failed("connect"))?;
            let channel = connection.open_channel(None).await.map_err(failed("open a channel"))?;
            channel.queue_declare(queue).await.map_err(failed("declare a queue"))?;
            Ok::<_, CompareError>((connection, channel))
        })?;
        Ok(Self { runtime, connection, channel })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The trial is over: what it measured does not depend on how the connection ended.
        let _ = self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(1), self.connection.clone().close()).await
        });
    }
}

/// A queue that ends with its server.
fn transient(queue: &str) -> QueueDeclareArguments {
    QueueDeclareArguments::new(queue).durable(false).finish()
}

fn open_sender(directory: &Path, queue: &str) -> Result<RabbitSender, CompareError> {
    let client = Client::open(directory, transient(queue))?;
    RabbitSender::new(client, queue, DELIVERY_MODE_TRANSIENT, WINDOW.into())
}

struct RabbitSender {
    client: Client,
    /// The room for messages that are not confirmed; all of it at first.
    window: Arc<Semaphore>,
    window_max: u32,
    published: u64,
    route: BasicPublishArguments,
    properties: BasicProperties,
}

impl RabbitSender {
    fn new(client: Client, queue: &str, delivery_mode: u8, window_max: u32) -> Result<Self, CompareError> {
        let window = Arc::new(Semaphore::new(window_max as usize));
        let confirms = Confirms { window: Arc::clone(&window), confirmed: Confirmations::default() };
        client.runtime.block_on(async {
            client.channel.register_callback(confirms).await.map_err(failed("listen for confirms"))?;
            let confirmed = ConfirmSelectArguments::default();
            client.channel.confirm_select(confirmed).await.map_err(failed("ask for confirms"))
        })?;
        Ok(Self {
            client,
            window,
            window_max,
            published: 0,
            // The exchange without a name has a route to every queue.
            route: BasicPublishArguments::new("", queue),
            properties: BasicProperties::default().with_delivery_mode(delivery_mode).finish(),
        })
    }

    /// Waits for what is to come from the server, not for ever.
    fn wait<T>(&self, coming: impl Future<Output = Result<T, CompareError>>) -> Result<T, CompareError> {
        let limited = async { tokio::time::timeout(STALL_LIMIT, coming).await };
        let stalled = CompareError::Stalled { seconds: STALL_LIMIT.as_secs() };
        self.client.runtime.block_on(limited).unwrap_or(Err(stalled))
    }
}

impl Sender for RabbitSender {
    fn send(&mut self, payload: &Payload) -> Result<(), CompareError> {
        self.wait(async {
            self.window.acquire().await.map_err(failed("confirm a message"))?.forget();
            let content = payload.bytes().to_vec();
            let published =
                self.client.channel.basic_publish(self.properties.clone(), content, self.route.clone());
            published.await.map_err(failed("publish a message"))
        })?;
        self.published += 1;
        Ok(())
    }
}

impl Confirmed for RabbitSender {
    fn confirm(&mut self, messages: u64) -> Result<(), CompareError> {
        let unconfirmed = u32::try_from(self.published - messages).expect("no more than the window");
        // There is so much room when no more than that is unconfirmed; it is given back at once.
        let room = self.window_max - unconfirmed;
        self.wait(async {
            self.window.acquire_many(room).await.map(drop).map_err(failed("confirm a message"))
        })
    }
}

/// What comes back to a publisher.
struct Confirms {
    /// Its room; closed when a message was lost.
    window: Arc<Semaphore>,
    confirmed: Confirmations,
}

/// Which messages are confirmed: the server may confirm one out of order, and all up to one at once.
#[derive(Debug, Default)]
struct Confirmations {
    /// All up to this number.
    floor: u64,
    /// And these, all above.
    above: BTreeSet<u64>,
}

impl Confirmations {
    /// Notes a confirm; returns how many messages it confirms for the first time.
    fn note(&mut self, number: u64, all_up_to: bool) -> usize {
        let before = self.count();
        if all_up_to {
            self.floor = self.floor.max(number);
            self.above = self.above.split_off(&(self.floor + 1));
        } else if number > self.floor {
            self.above.insert(number);
        }
        while self.above.remove(&(self.floor + 1)) {
            self.floor += 1;
        }
        usize::try_from(self.count() - before).unwrap_or_default()
    }

    fn count(&self) -> u64 {
        self.floor + self.above.len() as u64
    }
}

#[async_trait]
impl ChannelCallback for Confirms {
    async fn publish_ack(&mut self, _channel: &Channel, ack: Ack) {
        self.window.add_permits(self.confirmed.note(ack.delivery_tag(), ack.mutiple()));
    }

    async fn publish_nack(&mut self, _channel: &Channel, _nack: Nack) {
        self.window.close();
    }

    async fn publish_return(
        &mut self,
        _channel: &Channel,
        _returned: Return,
        _properties: BasicProperties,
        _content: Vec<u8>,
    ) {
        self.window.close();
    }

    async fn close(&mut self, _channel: &Channel, _close: CloseChannel) -> Result<(), amqprs::error::Error> {
        self.window.close();
        Ok(())
    }

    async fn cancel(&mut self, _channel: &Channel, _cancel: Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn flow(&mut self, _channel: &Channel, active: bool) -> Result<bool, amqprs::error::Error> {
        Ok(active)
    }
}

fn open_receiver(directory: &Path, queue: &str) -> Result<RabbitReceiver, CompareError> {
    let client = Client::open(directory, transient(queue))?;
    let messages = client.runtime.block_on(async {
        let ahead = BasicQosArguments::new(0, WINDOW, false);
        client.channel.basic_qos(ahead).await.map_err(failed("say how many messages it takes ahead"))?;
        let consume = BasicConsumeArguments::new(queue, "").manual_ack(true).finish();
        let (_tag, messages) = client.channel.basic_consume_rx(consume).await.map_err(failed("consume"))?;
        Ok::<_, CompareError>(messages)
    })?;
    let waker = Arc::new(ThreadWaker(std::thread::current())).into();
    Ok(RabbitReceiver { client, messages, waker })
}

struct RabbitReceiver {
    client: Client,
    messages: UnboundedReceiver<ConsumerMessage>,
    /// Wakes this thread.
    waker: Waker,
}

impl RabbitReceiver {
    /// The next message; sleeps for [`LOOK`] if it is not there yet.
    fn next(&mut self) -> Poll<Option<ConsumerMessage>> {
        let mut context = Context::from_waker(&self.waker);
        let message = self.messages.poll_recv(&mut context);
        if message.is_ready() {
            return message;
        }
        std::thread::park_timeout(LOOK);
        self.messages.poll_recv(&mut context)
    }
}

impl Receiver for RabbitReceiver {
    fn try_receive(&mut self, verifier: &mut Verifier) -> Result<bool, CompareError> {
        let message = match self.next() {
            Poll::Pending => return Ok(false),
            Poll::Ready(message) => message,
        };
        let Some(ConsumerMessage { deliver: Some(delivery), content: Some(content), .. }) = message else {
            return Err(failed("deliver a message")("the connection was closed"));
        };
        verifier.read(&content);
        let ack = BasicAckArguments::new(delivery.delivery_tag(), false);
        self.client.channel.basic_ack_blocking(ack).map_err(failed("ack a message"))?;
        Ok(true)
    }
}

struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn failed<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> CompareError {
    move |error| CompareError::Peer { peer: "rabbitmq", action, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_confirmed_once_in_whatever_order() {
        let mut confirmed = Confirmations::default();
        let confirms =
            [(1, false), (4, false), (2, true), (6, false), (3, false), (4, true), (4, false), (7, true)];
        let counts = confirms.map(|(number, all_up_to)| confirmed.note(number, all_up_to));
        assert_eq!(counts, [1, 1, 1, 1, 1, 0, 0, 2]);
        assert_eq!((confirmed.floor, confirmed.above.len()), (7, 0));
    }
}
