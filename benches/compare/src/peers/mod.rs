//! The peers: one module each, behind one enum.
//!
//! What always holds: every peer's two ends are a [`Sender`](crate::measure::Sender) and a
//! [`Receiver`](crate::measure::Receiver) per direction, driven by the same loops; a peer's module only opens and
//! closes its transport.
//!
//! A peer is added with a module of its own and one line in each function here:
//!
//! - `measure` opens what the near end needs, starts the far end (a thread, or a
//!   [`FarProcess`](crate::far_process::FarProcess)), and runs [`near_end`](crate::measure::near_end).
//! - `far_end` opens the far end in its process and runs [`far_end`](crate::measure::far_end).

mod byte_stream;
mod iceoryx2;
mod ping_pong;
mod pipe;
mod rtrb;
mod unix_stream;

use std::io::Write;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::control::Reporter;
use crate::error::CompareError;
use crate::far_process::FarSide;
use crate::trial::{Case, Measured, Trial};

/// Who takes part. The order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(crate) enum Peer {
    /// Bare shared memory, payload and flag lines, two processes spinning; the floor, one_way only
    PingPong,
    /// The rtrb ring between two threads of one process, both spinning
    Rtrb,
    /// iceoryx2 publish/subscribe between two processes, both spinning
    #[value(name = "iceoryx2")]
    #[serde(rename = "iceoryx2")]
    Iceoryx2,
    /// A Unix stream socket between two processes, blocking
    UnixStream,
    /// A pipe between two processes, blocking
    Pipe,
}

/// Whom the table compares with: the first of these that took part in a case.
pub(crate) const REFERENCES: &[Peer] = &[Peer::PingPong];

impl Peer {
    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PingPong => "ping_pong",
            Self::Rtrb => "rtrb",
            Self::Iceoryx2 => "iceoryx2",
            Self::UnixStream => "unix_stream",
            Self::Pipe => "pipe",
        }
    }

    /// Whether the peer takes part in a case. The bare ping-pong has no queue to fill.
    pub(crate) fn takes_part_in(self, case: Case) -> bool {
        !(self == Self::PingPong && case == Case::Throughput)
    }

    /// Whether its ends sleep in the kernel rather than spin. Such a peer gets fewer messages in the same time.
    pub(crate) fn is_blocking(self) -> bool {
        matches!(self, Self::UnixStream | Self::Pipe)
    }

    /// Runs one trial with the near end in this thread, which is bound to the near CPU.
    pub(crate) fn measure(self, trial: &Trial) -> Result<Measured, CompareError> {
        match self {
            Self::PingPong => ping_pong::measure(trial),
            Self::Rtrb => rtrb::measure(trial),
            Self::Iceoryx2 => iceoryx2::measure(trial),
            Self::UnixStream => unix_stream::measure(trial),
            Self::Pipe => pipe::measure(trial),
        }
    }

    /// Runs the far end in its own process.
    pub(crate) fn far_end<W: Write>(
        self,
        side: &mut FarSide,
        reporter: &mut Reporter<W>,
    ) -> Result<(), CompareError> {
        match self {
            Self::PingPong => ping_pong::far_end(side, reporter),
            Self::Rtrb => Err(CompareError::Control { wanted: "a thread", got: "a process".to_owned() }),
            Self::Iceoryx2 => iceoryx2::far_end(side, reporter),
            Self::UnixStream => unix_stream::far_end(side, reporter),
            Self::Pipe => pipe::far_end(side, reporter),
        }
    }
}
