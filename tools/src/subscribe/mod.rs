//! `ringway sub`: prints the messages of a stream as one of its subscriptions, or those of a queue.
//!
//! | file | of |
//! |---|---|
//! | [`cursor`] | a `cursor` subscription: a message is committed when it was printed |
//! | [`shared`] | a `shared` subscription, or a queue: a message is acked when it was printed |
//! | [`writer`] | how a message is printed |

mod cursor;
mod shared;
pub(crate) mod writer;

use std::time::{Duration, Instant};

use ringway_client::{AdminError, Connection, RefusalCode, StreamKind, SubscriptionMode, WaitStrategy};

use crate::cli::SubArgs;
use crate::exit::{Exit, Failure};
use crate::interrupt::{Interrupt, LOOK_EVERY};
use crate::output::{Output, count};

/// It sleeps as soon as there is nothing: nobody who reads text notices the microseconds that looking on would save.
const AT_ONCE: WaitStrategy = WaitStrategy::Adaptive { spin: Duration::ZERO };

/// Runs the command.
pub(crate) fn run(args: &SubArgs, connection: &Connection) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let patience = Patience { interrupt, deadline };
    let stream = args.stream.as_str();
    let settings = connection.stream(stream)?.settings;
    let subscription = match (&args.subscription, settings.kind) {
        (Some(subscription), _) => subscription.as_str(),
        (None, StreamKind::Queue) => stream,
        (None, StreamKind::Topic) => {
            let message = format!("stream {stream} is a topic: name a subscription with --subscription NAME");
            return Err(Failure::with(Exit::Usage, message));
        }
    };
    let mode = match connection.subscription(stream, subscription) {
        Err(AdminError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {
            connection.declare_subscription(stream, subscription, args.from.into())?.mode
        }
        found => found?.mode,
    };
    match mode {
        SubscriptionMode::Shared(_) => shared::run(args, connection, subscription, &settings, patience),
        SubscriptionMode::Cursor(_) if args.no_ack => {
            let message =
                format!("subscription {subscription} is a cursor: it has no acks that could be left out");
            Err(Failure::with(Exit::Usage, message))
        }
        SubscriptionMode::Cursor(_) => cursor::run(args, connection, subscription, &settings, patience),
    }
}

/// How long the command goes on.
struct Patience {
    interrupt: Interrupt,
    deadline: Option<Instant>,
}

impl Patience {
    /// Standard output, whose waits end when a signal comes.
    fn output(&self) -> Result<Output, Failure> {
        Output::stdout(self.interrupt.clone())
    }

    /// How long to wait for a message before this is asked again; `None`: the time is over. Fails when a signal has come or
    /// nobody reads the output any more.
    fn next_wait(&self, output: &Output) -> Result<Option<Duration>, Failure> {
        if self.interrupt.is_set() {
            return Err(Failure::Interrupted);
        }
        if output.is_closed() {
            return Err(Failure::OutputClosed);
        }
        let left = self.left().unwrap_or(LOOK_EVERY);
        Ok((!left.is_zero()).then(|| left.min(LOOK_EVERY)))
    }

    fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// Whether as many messages came as were wanted.
fn check_count(args: &SubArgs, printed: u64) -> Result<(), Failure> {
    if let (Some(wanted), Some(timeout)) = (args.count, args.timeout)
        && printed < wanted
    {
        let message = format!("{} of {} came within {timeout:?}", printed, count(wanted, "message"));
        return Err(Failure::with(Exit::TimedOut, message));
    }
    Ok(())
}
