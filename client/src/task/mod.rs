//! The face for tasks and event loops: futures, streams and descriptors over the same producers and consumers, of no runtime.
//!
//! ```text
//! poll: look · look … ── for the time to spin, giving the executor back in between ──▶ announce · look ─▶ asleep
//!   ▲                                                                                                      │
//!   └───────────────────────────────────── woken by the one helper thread ◀── a bell rings, or a second is over
//! ```
//!
//! 1. A task that waits does what a thread does in the same place, with the same [`Waiter`](crate::wait::Waiter): it looks for a
//!    while, rests (what producers could wait for is given free), announces, looks again, sleeps.
//! 2. A future that is dropped has taken nothing: what is found is returned by the poll that finds it.
//! 3. Nothing is polled by itself: a task that sleeps costs one look a second, whether the broker is still there.

mod reactor;
mod readiness;
mod streams;
mod waiting;
mod watch;

pub(crate) use reactor::{Await, Interest};
pub(crate) use readiness::Armed;
pub use readiness::Readiness;
pub use streams::{Deliveries, DeliveryStream, MessageStream, Messages};
pub(crate) use waiting::Waiting;
pub(crate) use watch::Watch;
