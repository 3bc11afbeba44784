//! How the command ends: exit codes that scripts can rely on, and the one line that says why.

use std::process::ExitCode;

use ringway_client::{
    AdminError, CloseError, ConnectError, OpenError, RecvError, RefusalCode, SendError, SettleError,
};

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
    /// It failed in another process, which has told the user.
    Told {
        /// How that has ended.
        code: u8,
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
            Self::Told { code } => code.into(),
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Interrupted => Exit::Interrupted.code().into(),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let exit = match &error {
            ConnectError::PathTooLong { .. } => Exit::Usage,
            ConnectError::NoBroker { .. } | ConnectError::Disconnected { .. } => Exit::NotFound,
            ConnectError::NoAnswer { .. } => Exit::TimedOut,
            ConnectError::Refused { .. } | ConnectError::Denied { .. } => Exit::Refused,
            _ => Exit::Failure,
        };
        Self::with(exit, error)
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let exit = match &error {
            AdminError::Refused(refusal) => refusal.code.into(),
            AdminError::Ended { .. } | AdminError::Disconnected => Exit::NotFound,
            AdminError::NoAnswer { .. } | AdminError::StillRunning { .. } => Exit::TimedOut,
            _ => Exit::Failure,
        };
        Self::with(exit, error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let exit = match &error {
            OpenError::Refused(refusal) => refusal.code.into(),
            OpenError::Ended { .. } | OpenError::Disconnected => Exit::NotFound,
            OpenError::NoAnswer { .. } => Exit::TimedOut,
            _ => Exit::Failure,
        };
        Self::with(exit, error)
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let exit = match &error {
            SendError::Attributes { .. } | SendError::Durability { .. } => Exit::Usage,
            SendError::Full { .. } => Exit::TimedOut,
            SendError::Disconnected { .. } => Exit::NotFound,
            _ => Exit::Failure,
        };
        Self::with(exit, error)
    }
}

impl From<RecvError> for Failure {
    fn from(error: RecvError) -> Self {
        let exit = match &error {
            RecvError::Disconnected => Exit::NotFound,
            RecvError::Lost(_) => Exit::Refused,
            _ => Exit::Failure,
        };
        Self::with(exit, error)
    }
}

impl From<SettleError> for Failure {
    fn from(error: SettleError) -> Self {
        let exit = match &error {
            SettleError::NoAnswer { .. } => Exit::TimedOut,
            SettleError::Disconnected => Exit::NotFound,
            _ => Exit::Failure,
        };
        Self::with(exit, error)
    }
}

impl From<CloseError> for Failure {
    fn from(error: CloseError) -> Self {
        let message = error.to_string();
        let inner = match error {
            CloseError::Commit(error) => error.into(),
            CloseError::Admin(error) => error.into(),
            _ => Self::new(&message),
        };
        match inner {
            Self::Failed { exit, .. } => Self::Failed { exit, message },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_client::Refusal;

    fn exit_of(failure: impl Into<Failure>) -> Option<Exit> {
        match failure.into() {
            Failure::Failed { exit, .. } => Some(exit),
            _ => None,
        }
    }

    #[test]
    fn what_the_broker_refuses_ends_by_the_sort_of_refusal_and_in_its_words() {
        let refused = |code| AdminError::Refused(Refusal { code, message: "so it is".into() });
        assert_eq!(exit_of(refused(RefusalCode::NotFound)), Some(Exit::NotFound));
        assert_eq!(exit_of(refused(RefusalCode::Conflict)), Some(Exit::Refused));
        assert_eq!(exit_of(refused(RefusalCode::InUse)), Some(Exit::Refused));
        assert_eq!(exit_of(refused(RefusalCode::Invalid)), Some(Exit::Usage));
        let failure = Failure::from(refused(RefusalCode::Limit));
        assert_eq!(failure, Failure::with(Exit::Refused, "so it is"));
        let closed = CloseError::Admin(AdminError::Disconnected);
        assert_eq!(exit_of(closed), Some(Exit::NotFound));
    }

    #[test]
    fn the_help_names_every_code() {
        let codes =
            [Exit::Failure, Exit::Usage, Exit::NotFound, Exit::TimedOut, Exit::Refused, Exit::Interrupted];
        for code in codes {
            let start = format!("{:>5}  ", code.code());
            assert!(EXIT_CODES.lines().any(|line| line.starts_with(&start)), "{start}");
        }
    }
}
