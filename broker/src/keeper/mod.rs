//! What outlives the broker: a process that holds its descriptors, and starts its successor.
//!
//! ```text
//!   ringway serve = keeper ──────starts──────▶ broker          SIGKILL of the broker: the keeper starts a successor, and
//!       │  the descriptors of all regions,      │  serves       hands it all that it holds
//!       │  sessions and processes               │
//!       ◀──────── Keep, Forget ─────────────────┘              SIGKILL of the keeper: the broker starts another, and hands
//!        a socket pair, the broker's standard input             it all that it holds
//! ```
//!
//! 1. The keeper understands nothing of what it holds: a descriptor and a note under a key. It never maps a region.
//! 2. A region is kept before anybody is told of it. So what a catalogue names that is not kept was being given up, and what
//!    is kept that no catalogue names was never given out.
//! 3. A successor is started only when the kernel has reported the broker gone (pidfd), and all that it said was heard.
//! 4. Connections are kept, too: a client's session goes on with the successor, which says so
//!    ([`Resumed`](ringway_shm_protocol::control::frame::Kind::Resumed)); a request that was under way is sent again.
//! 5. It shows regions and memory logs, for reading only, to whoever of its user asks at a socket of its own (`visits`): also
//!    when the broker hangs. Nobody who visits can make it wait.
//! 6. While there is no broker, connections wait in the queue of the listening socket.

mod guard;
mod keeping;
mod link;
mod pauses;
mod visits;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

pub use guard::{GuardError, Notice, guard, serve};
pub(crate) use keeping::{Entry, Estate, Keeping, Kept};
pub(crate) use link::{Link, Message};
pub(crate) use pauses::Pauses;

/// The command of the executable that becomes a broker, with its keeper at its standard input.
pub const BROKER_COMMAND: &str = "kept-broker";
/// The command of the executable that becomes a keeper, with its broker at its standard input.
pub const KEEPER_COMMAND: &str = "keeper";

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Key {
    /// The configuration: a note.
    Config,
    /// The directory: its lock, the listening socket, and the keeper's.
    Directory,
    /// A session: the pidfd of its process, and the socket while it is open.
    Session(u64),
    /// The eventfd of a session.
    Call(u64),
    /// What a shard has decided.
    Catalogue(u32),
    /// The regions of a ring: shard, stream.
    Ring(u32, u64),
    /// The regions of a subscription: shard, stream, gate.
    Subscription(u32, u64, u8),
    /// The lot of a `shared` subscription.
    Lot(u32, u64, u8),
    /// The region of a consumer of a `shared` subscription: shard, stream, gate, member.
    Member(u32, u64, u8, u32),
    /// The dead letters that a ring has got: shard, stream.
    Letters(u32, u64),
    /// An arena: shard, stream, number.
    Arena(u32, u64, u32),
}

/// Uses all the descriptors that the hard limit allows: every session costs two, every ring five, in the broker and in the
/// keeper, and whoever looks at a ring needs as many.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Without it fewer are served, and told so when they are too many.
    let _ = setrlimit(Resource::Nofile, raised);
}

impl Key {
    /// The number of the shard that it is of.
    pub(crate) fn shard(self) -> Option<u32> {
        match self {
            Self::Config | Self::Directory | Self::Session(_) | Self::Call(_) => None,
            Self::Catalogue(shard)
            | Self::Ring(shard, ..)
            | Self::Subscription(shard, ..)
            | Self::Lot(shard, ..)
            | Self::Member(shard, ..)
            | Self::Letters(shard, ..)
            | Self::Arena(shard, ..) => Some(shard),
        }
    }

    /// The number of a session.
    pub(crate) fn session(self) -> Option<u64> {
        match self {
            Self::Session(session) => Some(session),
            _ => None,
        }
    }

    /// The id of a member.
    pub(crate) fn member(self) -> Option<u32> {
        match self {
            Self::Member(_, _, _, member) => Some(member),
            _ => None,
        }
    }

    /// The number of an arena.
    pub(crate) fn arena(self) -> Option<u32> {
        match self {
            Self::Arena(_, _, arena) => Some(arena),
            _ => None,
        }
    }
}
