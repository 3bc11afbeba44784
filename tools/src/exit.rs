//! How the command ends: exit codes that scripts can rely on, and the one line that says why.

use std::process::ExitCode;

use ringway_client::{AdminError, ConnectError, OpenError};
use ringway_shm_protocol::control::message::RefusalCode;

use crate::output;

/// The exit codes, as `ringway --help` shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  done (also when the reader of the output has gone)
    1  failed
    2  the arguments are wrong
    3  not found: no such stream or subscription, or no broker
    4  timed out, or the stream stayed full
    5  refused: conflict, in use, over a limit, or not permitted
  130  ended by Ctrl-C or SIGTERM";

/// Why the process ends, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something else failed.
    Failure = 1,
    /// The arguments are wrong.
    Usage = 2,
    /// No such stream or subscription, or no broker.
    NotFound = 3,
    /// Timed out, or the stream stayed full.
    TimedOut = 4,
    /// Conflict, in use, over a limit, or not permitted.
    Refused = 5,
    /// SIGINT or SIGTERM.
    Interrupted = 130,
}

impl Exit {
    /// The number itself.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

impl From<RefusalCode> for Exit {
    fn from(code: RefusalCode) -> Self {
        match code {
            RefusalCode::Invalid => Self::Usage,
            RefusalCode::NotFound | RefusalCode::Stopping => Self::NotFound,
            _ => Self::Refused,
        }
    }
}

/// Why a command did not go on to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It failed.
    Failed {
        /// How to end.
        exit: Exit,
        /// What happened and what to do, for the user.
        message: String,
    },
    /// Whoever read the output has gone: nobody is interested any more, which is no failure.
    OutputClosed,
    /// A signal ended it.
    Interrupted,
}

impl Failure {
    /// A failure without an exit code of its own.
    pub(crate) fn new(message: impl ToString) -> Self {
        Self::with(Exit::Failure, message)
    }

    /// A failure that ends with `exit`.
    pub(crate) fn with(exit: Exit, message: impl ToString) -> Self {
        Self::Failed { exit, message: message.to_string() }
    }

    /// Tells the user, and gives the process its exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Failed { exit, message } => {
                output::say(&message);
                exit.code().into()
            }
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Interrupted => Exit::Interrupted.code().into(),
        }
    }
}
