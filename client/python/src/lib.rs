//! Ringway's client for Python: `ringway-client` under the same names.
//!
//! | module | what it holds |
//! |---|---|
//! | code | what sort of thing went wrong, as in C |
//! | errors | exceptions, one class for each operation |
//! | locked | handles that any thread of Python may use |
//! | outgoing | bytes and messages to be sent |
//! | connection | administration |
//! | info | what streams and subscriptions are, and declared with |
//! | producer | sending, loans, confirms |
//! | message | what an ordered consumer returns |
//! | consumer | receiving in order |
//! | delivery | consuming with others, and settling |
//!
//! What always holds:
//!
//! 1. Whoever waits has let go of the interpreter lock, and looks for signals ten times a second: so Ctrl-C ends every wait.
//! 2. A handle's own lock is taken in two ways only: with the interpreter lock, if it is free at once, for a step that
//!    does not let go of the interpreter; or without the interpreter lock, and given back before that is asked for. So the
//!    two never wait for each other.
//! 3. Rust never has a reference to memory that Python may write to while the interpreter lock is not held.
//! 4. `unsafe` occurs where memory is lent to Python or by Python (the buffer protocol), nowhere else.

// The vocabulary is one for all bindings.
#[allow(
    unreachable_pub,
    dead_code,
    reason = "C has codes for what is no error, too, and all of it is public there"
)]
#[path = "../../c/src/code.rs"]
mod code;
mod connection;
mod consumer;
mod delivery;
mod errors;
mod info;
mod locked;
mod message;
mod outgoing;
mod producer;

use pyo3::prelude::*;

#[pymodule]
fn _ringway(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<connection::Connection>()?;
    module.add_class::<consumer::Consumer>()?;
    module.add_class::<delivery::Delivery>()?;
    module.add_class::<delivery::SharedConsumer>()?;
    module.add_class::<info::StreamInfo>()?;
    module.add_class::<info::SubscriptionInfo>()?;
    module.add_class::<message::Message>()?;
    module.add_class::<message::Position>()?;
    module.add_class::<outgoing::Outgoing>()?;
    module.add_class::<producer::Confirmation>()?;
    module.add_class::<producer::Loan>()?;
    module.add_class::<producer::Producer>()?;
    errors::add_to(module)
}
