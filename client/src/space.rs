//! Who holds a full stream: seeing how far its readers are, and naming the slowest in an error.
//!
//! What always holds: the broker is asked for a limited time and not again and again, so that a producer that
//! polls a full stream neither floods a busy broker nor hangs with a broker that hangs.

use std::time::{Duration, Instant};

use ringway_shm_protocol::control::message::{RefusalCode, Reply, Request};
use ringway_shm_protocol::memory::mapped::{Mapped, MappedWord};
use ringway_shm_protocol::partition::{RingIdentity, open_gate};
use ringway_shm_protocol::ring::{Full, Gates, Lowest};

use crate::connection::unexpected;
use crate::endpoint::{Endpoint, exactly};
use crate::error::{OpenError, SendError};
use crate::session::Answer;

/// How long the broker may take to hand over a gate.
const GATE_ANSWER_MAX: Duration = Duration::from_secs(1);
/// How soon the broker is asked again for a gate that it did not hand over.
pub(crate) const GATE_RETRY: Duration = Duration::from_millis(100);
/// How long the broker may take to name a subscription.
const NAME_ANSWER_MAX: Duration = Duration::from_millis(100);
/// How long a name is good for.
const NAME_AGE_MAX: Duration = Duration::from_secs(1);

/// Tells the users of one gate apart.
type GateKey = (u8, u16);

/// What a producer knows about who holds its stream.
#[derive(Debug)]
pub(crate) struct Space {
    stream: String,
    ring: RingIdentity,
    /// The gate that the broker last did not hand over, and when.
    missed: Option<(GateKey, Instant)>,
    /// Who was last found to hold the stream, and when.
    named: Option<(GateKey, Instant, Option<String>)>,
}

impl Space {
    pub(crate) fn new(stream: String, ring: RingIdentity) -> Self {
        Self { stream, ring, missed: None, named: None }
    }

    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// Maps the cursor behind a gate whose mirror is all that is known. `false`: not now, look again later.
    pub(crate) fn map_gate(
        &mut self,
        endpoint: &Endpoint,
        gates: &mut Gates<Mapped>,
        holder: Lowest,
    ) -> Result<bool, SendError> {
        let key = (holder.gate, holder.generation);
        if self.missed.is_some_and(|(missed, at)| missed == key && at.elapsed() < GATE_RETRY) {
            return Ok(false);
        }
        match self.open_gate(endpoint, holder) {
            Ok(cursor) => {
                gates.map(holder.gate, holder.generation, cursor);
                self.missed = None;
                Ok(true)
            }
            Err(error) if may_pass(&error) => {
                self.missed = Some((key, Instant::now()));
                Ok(false)
            }
            Err(source) => Err(SendError::Gate { stream: self.stream.clone(), source }),
        }
    }

    fn open_gate(&self, endpoint: &Endpoint, holder: Lowest) -> Result<MappedWord, OpenError> {
        let request = Request::OpenGate {
            endpoint: endpoint.number(),
            gate: holder.gate,
            generation: holder.generation,
        };
        let control = endpoint.connection().control();
        let Answer { reply: Reply::Gate, descriptors } = control.request(&request, GATE_ANSWER_MAX)? else {
            return Err(unexpected("a gate").into());
        };
        let [descriptor] = exactly("a gate", descriptors)?;
        Ok(open_gate(self.ring, &descriptor)?)
    }

    /// The error that says who holds the stream.
    pub(crate) fn full(&mut self, endpoint: &Endpoint, full: Full, waited: Option<Duration>) -> SendError {
        SendError::Full {
            stream: self.stream.clone(),
            subscription: self.name(endpoint, full.holder),
            lag: full.position.saturating_sub(full.holder.position),
            capacity: self.ring.geometry.capacity(),
            waited,
        }
    }

    /// The subscription behind a gate is the one that the broker finds to be the slowest.
    fn name(&mut self, endpoint: &Endpoint, holder: Lowest) -> Option<String> {
        let key = (holder.gate, holder.generation);
        if let Some((known, at, name)) = &self.named
            && *known == key
            && at.elapsed() < NAME_AGE_MAX
        {
            return name.clone();
        }
        let request = Request::DescribeStream { name: self.stream.as_str().into() };
        let answer = endpoint.connection().control().request_unless_busy(&request, NAME_ANSWER_MAX);
        let name = match answer {
            Ok(Answer { reply: Reply::Stream(stream), .. }) => {
                stream.slowest.map(|slowest| slowest.subscription)
            }
            _ => None,
        };
        self.named = Some((key, Instant::now(), name.clone()));
        name
    }
}

/// Whether a gate that was not handed over may be mapped, or no longer be there, a while later.
fn may_pass(error: &OpenError) -> bool {
    match error {
        OpenError::Refused(refusal) => matches!(refusal.code, RefusalCode::NotFound | RefusalCode::Stopping),
        OpenError::Ended { .. } | OpenError::Disconnected | OpenError::NoAnswer { .. } => true,
        _ => false,
    }
}
