//! The journal: a shard's write-ahead log. What is confirmed is in it.
//!
//! ```text
//!  shard ──append──▶ log ──batches──▶ segments ◀──prepares, recycles── helper
//!                     │ state                                           │
//!                     └──────────── snapshots ──────────────────────────┘
//!  start ◀── state ── recovery ◀── newest snapshot, and the log behind it
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`format`] | the bytes of segments and batches: checksums, and the chain from one to the next |
//! | [`records`] | the bytes of what is in a batch |
//! | [`state`] | what all records say together |
//! | [`log`] | fills batches, has them written, says what is durable |
//! | [`segments`], [`snapshot`] | files that come and go |
//! | [`recovery`], [`reading`] | read all that again; and single messages |
//! | [`helper`], [`pages`] | do what takes long, each in a thread of its own |
//! | [`disk`] | the I/O itself, as traits; `disk::uring` alone names io_uring |
//!
//! `FORMAT.md` draws the files byte by byte.

pub(crate) mod disk;
pub(crate) mod format;
pub(crate) mod helper;
pub(crate) mod log;
pub(crate) mod mutations;
pub(crate) mod pages;
pub(crate) mod reading;
pub(crate) mod records;
pub(crate) mod recovery;
pub(crate) mod segments;
pub(crate) mod snapshot;
pub(crate) mod state;

/// The file whose lock says that somebody writes the journal.
pub(crate) const LOCK: &str = "lock";
/// The file, beside the shards' directories, that says how many shards have written the journals.
pub(crate) const SHARDS: &str = "shards";

#[cfg(test)]
mod document;
#[cfg(test)]
mod tests;
