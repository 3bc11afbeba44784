//! The algorithms on a ring, generic over [`Memory`](crate::memory::Memory).
//!
//! | file | who runs it | what it does |
//! |---|---|---|
//! | [`producer`] | a producer | takes slots below the limit, writes, commits: as the only one, or as one of several |
//! | [`message`] | both | how a message lies in a slot and in arenas |
//! | [`reader`] | a consumer | reads committed slots in order, moves its cursor |
//! | [`gates`] | producers | where the subscriptions stand |
//! | [`room`] | producers | how far the limit may rise |
//! | [`blocks`] | a producer | which blocks of its arenas are free |
//! | [`hazards`] | a consumer | holds messages in place that its cursor has passed |
//! | [`claims`] | consumers and shard | who has which position of a `shared` subscription |
//! | [`floor`] | consumers and shard | the gate of a `shared` subscription: how far all is settled |
//! | [`feed`] | the shard | messages that it has taken over and delivers again |
//! | [`settlements`] | a consumer, the shard | verdicts on messages, beyond a plain ack |
//! | [`watch`] | consumers, the shard | whether the shard watches leases, or sleeps |
//! | [`shard`] | the shard | lets gates join and leave, finds the true end, repairs after a death |
//! | [`doorbell`] | everybody | sleeps without losing a wake-up, wakes without a system call when nobody sleeps |
//!
//! What always holds of a ring, and which store pairs with which load:
//!
//! 1. **A committed slot is readable whole.** The producer stores its word with release after header and body;
//!    the reader loads it with acquire before them.
//! 2. **No producer takes a position at or above the limit**, and limit ≤ lowest gate + capacity. Gates only rise.
//!    So a slot is overwritten only when every gate has passed it: the reader moves its cursor with release after its
//!    last load of the slot; the producer loads cursors with acquire before it raises the limit, and raises it
//!    with release; another producer loads the limit with acquire before it writes.
//! 3. **A gate that joins is never overtaken.** The shard puts the gate at limit − capacity or later, sets its bit, and only
//!    then advances the epoch in the limit word (release). A producer loads the limit word (acquire) before the
//!    gates; if it missed the gate, its compare-and-exchange finds another epoch and fails.
//! 4. **Taken slots are a prefix**: position p is taken before p + 1, and everything below limit − capacity is taken: a
//!    gate counts for no more than the log's end. So the true end is found by bisection.
//! 5. **No slot that anybody may look at is without an owner** from the store that takes it; only the shard, and only after
//!    the owner's death is proven, turns reserved into tombstone. An exclusive producer whose readers wait for it takes its
//!    slots by committing them: nobody looks there before, and its successor writes an unfinished one anew.
//!
//! The epoch has 14 bits: a producer would have to be stopped between its load and its
//! compare-and-exchange for exactly a multiple of 16,384 joinings, with the limit unmoved, to be fooled.

pub mod blocks;
pub mod claims;
pub mod doorbell;
pub mod exclusive;
pub mod feed;
pub mod floor;
pub mod gates;
pub mod hazards;
pub mod message;
pub mod producer;
pub mod reader;
pub mod room;
pub mod rounds;
pub mod settlements;
pub mod shard;
pub mod shared;
pub mod watch;
pub mod watermarks;

pub use blocks::{Blocks, Reclaim, Taken};
pub use claims::{ClaimError, Claimed, Claimer, Claims, Leased};
pub use doorbell::{Doorbell, Ringer};
pub use exclusive::ExclusiveProducer;
pub use feed::{Feed, FeedRecord};
pub use floor::Floor;
pub use gates::{Gates, Lowest};
pub use hazards::Hazards;
pub use message::{ArenaBlock, Outgoing, Part, Received};
pub use producer::{Full, Producer, PublishError};
pub use reader::{CursorLost, CursorReader, ReadError};
pub use room::Room;
pub use rounds::Rounds;
pub use settlements::{Judge, Settlement, SettlementWords, Settlements, SettlementsFull, Verdict};
pub use shared::SharedProducer;
pub use watch::Watch;
pub use watermarks::{JournalState, Watermarks};
