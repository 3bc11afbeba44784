//! What can go wrong in a comparison, with what to do about it.
//!
//! Always: a message names what was tried and, where there is one, the figure that was wrong. A failed trial ends
//! the run: a table with a peer silently missing would be read as a complete one.

use std::io;

/// Why a comparison ended without its table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CompareError {
    /// A system call or file operation failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as it reads after "cannot".
        action: String,
        /// What the system answered.
        source: io::Error,
    },
    /// The CPUs asked for cannot be used.
    #[error("{0}; name two different CPUs of this process's affinity mask with --cpus")]
    Cpus(String),
    /// A spinning end saw nothing happen for too long.
    #[error("no progress for {seconds} s: the other end is stuck or a message was lost")]
    Stalled {
        /// How long nothing happened.
        seconds: u64,
    },
    /// A message did not carry what was sent.
    #[error("message {sequence} arrived wrong: {detail}; its peer lost, repeated, or tore a message")]
    Corrupt {
        /// The position of the message that was expected, from 1.
        sequence: u64,
        /// What differed.
        detail: String,
    },
    /// A peer's own library refused.
    #[error("{peer} failed to {action}: {detail}")]
    Peer {
        /// The peer's stable name.
        peer: &'static str,
        /// What was asked of it.
        action: &'static str,
        /// Its own words.
        detail: String,
    },
    /// The far end reported an error of its own.
    #[error("the far end failed: {0}")]
    FarEnd(String),
    /// The far end ended without saying why, or said something out of turn.
    #[error("the far end said {got} where {wanted} was due; if it was killed, run again")]
    Control {
        /// What was due.
        wanted: &'static str,
        /// What came instead.
        got: String,
    },
    /// The trial that failed, around the reason.
    #[error("trial {trial}: {source}")]
    Trial {
        /// Peer, case, and size.
        trial: String,
        /// The reason.
        source: Box<CompareError>,
    },
    /// The results could not be turned into JSON or back.
    #[error("cannot convert {what} to or from JSON: {source}")]
    Json {
        /// What was converted.
        what: &'static str,
        /// The converter's reason.
        source: serde_json::Error,
    },
    /// A plot of the page of results could not be drawn.
    #[error("cannot draw the plot {plot}: {detail}; run without --results, or report this")]
    Plot {
        /// The plot's file name.
        plot: &'static str,
        /// The drawing library's reason.
        detail: String,
    },
    /// Nothing is left to run after the selection.
    #[error("the selection leaves nothing to run: no selected peer takes part in a selected case")]
    NothingSelected,
    /// The user ended the run.
    #[error("interrupted: nothing was left behind, no results are shown")]
    Interrupted,
}

impl CompareError {
    /// Makes the closure that wraps a system's answer, for `map_err`.
    pub(crate) fn system<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        let action = action.into();
        move |source| Self::System { action, source: source.into() }
    }
}
