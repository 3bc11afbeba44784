//! Who holds a full stream: seeing how far its readers are, and naming the slowest in an error.
//!
//! What always holds: the broker is asked for a limited time and not again and again, so that a producer that
//! polls a full stream neither floods a busy broker nor hangs with a broker that hangs.

use std::time::{Duration, Instant};

use ringway_shm_protocol::control::message::{
    Overflow, Refusal, RefusalCode, Reply, Request, StreamSettings,
};
use ringway_shm_protocol::memory::mapped::Mapped;
use ringway_shm_protocol::partition::{RingIdentity, open_gate};
use ringway_shm_protocol::ring::{Full, Gates, Lowest};

use crate::connection::unexpected;
use crate::endpoint::{Endpoint, exactly};
use crate::error::{AdminError, OpenError, SendError};
use crate::session::Answer;

/// How long the broker may take to hand over a gate.
const GATE_ANSWER_MAX: Duration = Duration::from_secs(1);
/// How soon the broker is asked again for a gate that it did not hand over, or to help against one.
pub(crate) const GATE_RETRY: Duration = Duration::from_millis(100);
/// How long a `shared` subscription may hold a stream up before the broker is asked to take over what its consumers have.
const RELIEVE_AFTER: Duration = Duration::from_millis(100);
/// How long the broker may take to name a subscription.
const NAME_ANSWER_MAX: Duration = Duration::from_millis(100);
/// How long a name is good for.
const NAME_AGE_MAX: Duration = Duration::from_secs(1);

/// Tells the users of one gate apart.
type GateKey = (u8, u16);

fn key(holder: Lowest) -> GateKey {
    (holder.gate, holder.generation)
}

/// The subscription that holds a stream, and its consumer's process.
type Holder = (Option<String>, Option<u32>);

/// What a producer knows about who holds its stream.
#[derive(Debug)]
pub(crate) struct Space {
    /// The stream's name.
    name: String,
    partition: u32,
    /// The stream, and the partition if it has several: for errors.
    stream: String,
    ring: RingIdentity,
    settings: StreamSettings,
    /// The gate that the broker last did not hand over, and when.
    missed: Option<(GateKey, Instant)>,
    /// Who was found to hold the stream up, at which position, and since when.
    held: Option<(Lowest, Instant)>,
    /// The gate that the broker was last asked to help against, and when.
    asked: Option<(GateKey, Instant)>,
    /// The gate against which the broker cannot help.
    helpless: Option<GateKey>,
    /// Who was last found to hold the stream, and when.
    named: Option<(GateKey, Instant, Holder)>,
}

impl Space {
    pub(crate) fn new(name: &str, partition: u32, ring: RingIdentity, settings: StreamSettings) -> Self {
        let name = name.to_owned();
        let stream =
            if settings.partitions > 1 { format!("{name} (partition {partition})") } else { name.clone() };
        Self {
            name,
            partition,
            stream,
            ring,
            settings,
            missed: None,
            held: None,
            asked: None,
            helpless: None,
            named: None,
        }
    }

    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// The stream's name and the partition's number.
    pub(crate) fn place(&self) -> (&str, u32) {
        (&self.name, self.partition)
    }

    pub(crate) fn settings(&self) -> &StreamSettings {
        &self.settings
    }

    pub(crate) fn ring(&self) -> RingIdentity {
        self.ring
    }

    /// Maps the region behind a gate whose mirror is all that is known. `false`: not now, look again later.
    pub(crate) fn map_gate(
        &mut self,
        endpoint: &Endpoint,
        gates: &mut Gates<Mapped>,
        holder: Lowest,
    ) -> Result<bool, SendError> {
        if is_recent(self.missed, holder) {
            return Ok(false);
        }
        match self.open_gate(endpoint, gates, holder) {
            Ok(()) => {
                self.missed = None;
                Ok(true)
            }
            Err(error) if may_pass(&error) => {
                self.missed = Some((key(holder), Instant::now()));
                Ok(false)
            }
            Err(source) => Err(SendError::Gate { stream: self.stream.clone(), source }),
        }
    }

    fn open_gate(
        &self,
        endpoint: &Endpoint,
        gates: &mut Gates<Mapped>,
        holder: Lowest,
    ) -> Result<(), OpenError> {
        let Lowest { gate, generation, .. } = holder;
        let request = Request::OpenGate { endpoint: endpoint.number(), gate, generation };
        let control = endpoint.session();
        let Answer { reply: Reply::Gate, descriptors, .. } = control.request(&request, GATE_ANSWER_MAX)?
        else {
            return Err(unexpected("a gate").into());
        };
        let [descriptor] = exactly("a gate", descriptors)?;
        let (cursor, hazards) = open_gate(self.ring, &descriptor)?;
        gates.map(gate, generation, cursor, hazards);
        Ok(())
    }

    /// Asks the broker to help against who holds the stream up for long, be it over several calls: to detach it after the
    /// time that the stream's settings say; else, if it is a `shared` subscription, to take over what its consumers
    /// have. What that has come to shows at the next attempt to publish.
    pub(crate) fn ask_for_help(&mut self, endpoint: &Endpoint, holder: Lowest) {
        let (held, since) = *self.held.get_or_insert_with(|| (holder, Instant::now()));
        if held != holder {
            self.held = None;
            return;
        }
        let (endpoint_number, Lowest { gate, generation, .. }) = (endpoint.number(), holder);
        let (after, request) = match self.settings.overflow {
            Overflow::Detach { after_ms } => {
                let request = Request::DetachGate { endpoint: endpoint_number, gate, generation };
                (Duration::from_millis(after_ms.into()), request)
            }
            _ => (RELIEVE_AFTER, Request::RelieveGate { endpoint: endpoint_number, gate, generation }),
        };
        if since.elapsed() < after || is_recent(self.asked, holder) || !self.may_help(holder) {
            return;
        }
        self.asked = Some((key(holder), Instant::now()));
        if let Err(AdminError::Refused(Refusal { code: RefusalCode::Invalid, .. })) =
            endpoint.session().request(&request, GATE_ANSWER_MAX)
        {
            self.helpless = Some(key(holder));
        }
    }

    /// Whether the broker can help against this gate, as far as is known: nothing helps against a `cursor` that blocks.
    pub(crate) fn may_help(&self, holder: Lowest) -> bool {
        self.helpless != Some(key(holder))
    }

    /// The error that says who holds the stream.
    pub(crate) fn full(&mut self, endpoint: &Endpoint, full: Full, waited: Option<Duration>) -> SendError {
        let holder = self.name(endpoint, full.holder);
        self.full_of(full, holder, waited)
    }

    /// The same, of who is known to hold it.
    pub(crate) fn full_of(
        &self,
        full: Full,
        (subscription, consumer_pid): Holder,
        waited: Option<Duration>,
    ) -> SendError {
        SendError::Full {
            stream: self.stream.clone(),
            subscription,
            consumer_pid,
            lag: full.position.saturating_sub(full.holder.position),
            capacity: self.ring.geometry.capacity(),
            waited,
        }
    }

    /// The subscription behind a gate is the one that the broker finds to be the slowest.
    fn name(&mut self, endpoint: &Endpoint, holder: Lowest) -> Holder {
        if let Some((known, at, name)) = &self.named
            && *known == key(holder)
            && at.elapsed() < NAME_AGE_MAX
        {
            return name.clone();
        }
        let request = Request::DescribeStream { name: self.name.as_str().into() };
        let answer = endpoint.session().request_unless_busy(&request, NAME_ANSWER_MAX);
        let name = match answer {
            Ok(Answer { reply: Reply::Stream(stream), .. }) => {
                let mut partitions = stream.partitions.into_iter();
                let partition = partitions.find(|found| found.partition == self.partition);
                partition
                    .and_then(|partition| partition.slowest)
                    .map_or((None, None), |slowest| (Some(slowest.subscription), slowest.consumer_pid))
            }
            _ => (None, None),
        };
        self.named = Some((key(holder), Instant::now(), name.clone()));
        name
    }
}

fn is_recent(asked: Option<(GateKey, Instant)>, holder: Lowest) -> bool {
    asked.is_some_and(|(gate, at)| gate == key(holder) && at.elapsed() < GATE_RETRY)
}

/// Whether a gate that was not handed over may be mapped, or no longer be there, a while later.
fn may_pass(error: &OpenError) -> bool {
    match error {
        OpenError::Refused(refusal) => matches!(refusal.code, RefusalCode::NotFound | RefusalCode::Stopping),
        OpenError::Ended { .. } | OpenError::Disconnected | OpenError::NoAnswer { .. } => true,
        _ => false,
    }
}
