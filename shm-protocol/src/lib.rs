//! The shared-memory protocol of Ringway: what broker and clients agree on, and nothing else.
//!
//! | module | what it holds |
//! |---|---|
//! | [`layout`] | the bytes of every region, drawn in `LAYOUT.md` |
//! | [`words`] | the packed 64-bit words that the state machines run on |
//! | [`memory`] | the traits that the algorithms are generic over, and their mapped implementation |
//! | [`ring`] | the algorithms: publish, read, gates, joining, waking, repair |
//! | [`partition`] | one partition's regions: making, handing over, mapping |
//! | [`view`] | the same for who only looks |
//! | [`control`] | the messages on the control socket and the descriptors that travel with them |
//! | [`attributes`] | what a message says about itself beside its payload |
//! | [`key`] | which partition the messages of a key go to |
//! | [`name`] | what a stream or subscription may be called |
//! | [`stops`] | where tests may stop a process |
//! | [`text`] | numbers in texts for people |
//! | [`fork`] | noticing that a handle was inherited by a forked child |
//!
//! What always holds:
//!
//! 1. Nothing here knows about an async runtime, a broker or a client library.
//! 2. The ring algorithms name no concrete atomic: production runs them on mapped memory, the model
//!    checker runs the same code on its own.
//! 3. `unsafe` occurs in [`memory`] and around two system calls, nowhere else.

pub mod attributes;
pub mod control;
pub mod fork;
pub mod key;
pub mod layout;
pub mod memory;
pub mod name;
pub mod partition;
pub mod ring;
pub mod stops;
pub mod text;
pub mod view;
pub mod words;
