//! Ringway's client for C: the functions of `include/ringway.h`, under the names and with the semantics of `ringway-client`.
//!
//! | module | what it holds |
//! |---|---|
//! | code | what sort of thing went wrong |
//! | boundary | the way in and out: arguments, errors, panics |
//! | handle | what a program holds by a pointer |
//! | lent | a value together with what it has lent out |
//! | settings | what streams and subscriptions are declared with |
//! | connection | administration |
//! | altering | altering what is declared, and purging |
//! | outgoing | messages to be sent, and attributes |
//! | producer | sending, loans, confirms |
//! | message | what a consumer returns |
//! | consumer | receiving in order |
//! | delivery | consuming with others, and settling |
//!
//! What always holds:
//!
//! 1. No panic leaves the library: [`boundary::enter`] is around every function, and makes a code of it.
//! 2. Every pointer is checked for null, every handle for its sort, every number for its range, before anything is done.
//!    What cannot be checked, that memory is there and as long as is said, each function states.
//! 3. Out-parameters are written when the call succeeds, and set to null or zero when it does not.
//! 4. Structures that a program makes have a fixed size: what is added takes the place of reserved words, for which zero
//!    means what was before. Structures that the library makes may grow at their end.
//! 5. The client's locks and system calls are the library's: nothing is added on the way of a message but the copy of
//!    its description.
//!
//! The header is generated from these sources; a test compares the two.

mod altering;
mod boundary;
mod code;
mod connection;
mod consumer;
mod delivery;
mod handle;
mod lent;
mod message;
mod outgoing;
mod producer;
mod settings;

pub use altering::*;
pub use boundary::*;
pub use code::Code;
pub use connection::*;
pub use consumer::*;
pub use delivery::*;
pub use message::*;
pub use outgoing::*;
pub use producer::*;
pub use settings::*;
