//! Processes that die while others depend on them, and what may not come of it.
//!
//! | file | what it does |
//! |---|---|
//! | [`worker`] | processes under load: they publish, consume, settle, open and close, and say what they do, line by line |
//! | [`ledger`] | the auditor: keeps its own books from these lines, and holds the broker to its contract |
//! | [`round`] | one run of all of them, in which a process is stopped at a place that its environment names, or is killed |
//! | [`campaign`] | many runs: every place that there is, or many random kills |

pub mod campaign;
pub mod ledger;
pub mod round;
pub mod worker;
