//! What sort of thing went wrong: one vocabulary for all operations and all bindings.
//!
//! 1. Every error of the client has one code; what no code fits is [`Code::System`] or [`Code::Protocol`].
//! 2. Numbers are never given anew: programs compiled with an older header read newer codes.
//! 3. Errors are negative; what is no error is not.

use ringway_client::{
    AdminError, AttributesError, CloseError, ConfirmError, ConnectError, HoldError, OpenError, RecvError,
    RefusalCode, SendBatchError, SendError, SendLoanError, SettleError,
};

/// How a call has ended. Negative: an error, of which `ringway_error_message` says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// There is no message now, or none has come in time. Not an error.
    Empty = 1,
    /// An argument that cannot be: null, a handle of another sort or one that is over, text that is not UTF-8, a number
    /// out of its range.
    Argument = -1,
    /// A defect in this library. The handle may be in no state to be used: close it.
    Defect = -2,
    /// Nobody answers there: start a broker.
    NoBroker = -3,
    /// This user may not do this.
    Denied = -4,
    /// The broker is there and says nothing: it hangs or is stopped.
    NoAnswer = -5,
    /// The broker is gone, and there was no other one for as long as the connection may look for one; or it was replaced, and it is not
    /// known what was confirmed or settled before: send that again.
    Disconnected = -6,
    /// Another version, or no Ringway broker.
    Protocol = -7,
    /// The kernel refused.
    System = -8,
    /// The handle was opened before `fork`: open a new connection in the child.
    Forked = -9,
    /// A name, a number or settings that cannot be.
    Invalid = -10,
    /// No such stream or subscription.
    NotFound = -11,
    /// It exists with other settings.
    Conflict = -12,
    /// Somebody has it open.
    InUse = -13,
    /// A limit was reached: subscriptions, descriptors, memory.
    Limit = -14,
    /// The broker is ending.
    Stopping = -15,
    /// The subscription gives its messages out in another way than this call expects.
    OtherMode = -16,
    /// The stream is full: a subscription holds it.
    Full = -17,
    /// Another producer is stopped in the middle of a message.
    Stalled = -18,
    /// The payload is larger than the stream allows.
    TooLarge = -19,
    /// Attributes that cannot be sent.
    Attributes = -20,
    /// The journal has no room.
    NoRoom = -21,
    /// The journal has stopped: restart the broker when the disk is in order.
    JournalFailed = -22,
    /// A message says which one it is, and its producer has no name.
    NoName = -23,
    /// The stream has this message of the producer's already.
    AlreadySent = -24,
    /// A durability that the stream does not have.
    Durability = -25,
    /// The stream has used up its positions.
    Exhausted = -26,
    /// All memory that this producer may have for payloads beyond a slot is in use.
    NoMemory = -27,
    /// The loan is another producer's, or another partition's.
    Loan = -28,
    /// It takes longer than was to be waited.
    Timeout = -29,
    /// The subscription was given to another consumer.
    Lost = -30,
    /// What came cannot be: its producer is broken.
    Corrupt = -31,
    /// Settled when the lease was over: the message is delivered again.
    Late = -32,
    /// The message is another consumer's.
    Foreign = -33,
    /// The consumer holds as many messages as it may.
    Held = -34,
    /// The broker refused, and says why.
    Refused = -35,
}

/// An error of the client's.
pub(crate) trait Coded: std::fmt::Display {
    /// What sort of thing went wrong.
    fn sort(&self) -> Code;
    /// Whether the same call may succeed later.
    fn is_retryable(&self) -> bool;
}

fn of_refusal(refusal: RefusalCode) -> Code {
    match refusal {
        RefusalCode::Invalid => Code::Invalid,
        RefusalCode::NotFound => Code::NotFound,
        RefusalCode::Conflict => Code::Conflict,
        RefusalCode::InUse => Code::InUse,
        RefusalCode::Limit => Code::Limit,
        RefusalCode::Denied => Code::Denied,
        RefusalCode::Stopping => Code::Stopping,
        _ => Code::Refused,
    }
}

impl Coded for ConnectError {
    fn sort(&self) -> Code {
        match self {
            Self::PathTooLong { .. } => Code::Invalid,
            Self::NoBroker { .. } => Code::NoBroker,
            Self::Refused { .. } => Code::Refused,
            Self::Denied { .. } => Code::Denied,
            Self::NoAnswer { .. } => Code::NoAnswer,
            Self::Disconnected { .. } => Code::Disconnected,
            Self::Protocol { .. } => Code::Protocol,
            _ => Code::System,
        }
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}

impl Coded for AdminError {
    fn sort(&self) -> Code {
        match self {
            Self::Refused(refusal) => of_refusal(refusal.code),
            Self::Ended { .. } | Self::Disconnected => Code::Disconnected,
            Self::NoAnswer { .. } | Self::StillRunning { .. } => Code::NoAnswer,
            Self::Protocol(_) => Code::Protocol,
            Self::Forked => Code::Forked,
            _ => Code::System,
        }
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}

impl Coded for OpenError {
    fn sort(&self) -> Code {
        match self {
            Self::NoPartition => Code::Invalid,
            Self::OtherMode { .. } => Code::OtherMode,
            Self::OtherPartitions { .. } => Code::Conflict,
            Self::Refused(refusal) => of_refusal(refusal.code),
            Self::Ended { .. } | Self::Disconnected => Code::Disconnected,
            Self::NoAnswer { .. } => Code::NoAnswer,
            Self::Protocol(_) | Self::Region(_) => Code::Protocol,
            Self::Forked => Code::Forked,
            _ => Code::System,
        }
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}

impl Coded for SendError {
    fn sort(&self) -> Code {
        match self {
            Self::Full { .. } => Code::Full,
            Self::Stalled { .. } => Code::Stalled,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Attributes { .. } => Code::Attributes,
            Self::NoRoom { .. } => Code::NoRoom,
            Self::JournalFailed { .. } => Code::JournalFailed,
            Self::NoName { .. } => Code::NoName,
            Self::AlreadySent { .. } => Code::AlreadySent,
            Self::Durability { .. } => Code::Durability,
            Self::Exhausted { .. } => Code::Exhausted,
            Self::Disconnected { .. } => Code::Disconnected,
            Self::Gate { source, .. } | Self::Memory { source, .. } | Self::Reopen { source, .. } => {
                source.sort()
            }
            Self::NoBlock { .. } => Code::NoMemory,
            Self::ForeignLoan { .. } | Self::LoanPartition { .. } => Code::Loan,
            Self::Forked => Code::Forked,
            _ => Code::System,
        }
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}

impl Coded for SendLoanError {
    fn sort(&self) -> Code {
        self.source.sort()
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}

impl Coded for SendBatchError {
    fn sort(&self) -> Code {
        self.source.sort()
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}

impl Coded for AttributesError {
    fn sort(&self) -> Code {
        Code::Attributes
    }

    fn is_retryable(&self) -> bool {
        false
    }
}

impl Coded for ConfirmError {
    fn sort(&self) -> Code {
        match self {
            Self::Timeout { .. } | Self::Unsettled { .. } => Code::Timeout,
            Self::Commit(source) => source.sort(),
            Self::Settle(source) => source.sort(),
            Self::NoRoom { .. } => Code::NoRoom,
            Self::JournalFailed { .. } => Code::JournalFailed,
            Self::Disconnected { .. } => Code::Disconnected,
            Self::Partition { .. } => Code::NotFound,
            Self::Forked => Code::Forked,
            _ => Code::System,
        }
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}

impl Coded for RecvError {
    fn sort(&self) -> Code {
        match self {
            Self::Lost(_) => Code::Lost,
            Self::Read(_) | Self::Reference { .. } | Self::Attributes { .. } => Code::Corrupt,
            Self::Arena { source, .. } => source.sort(),
            Self::Attach { source } => source.sort(),
            Self::Reopen { source } => source.sort(),
            Self::Disconnected => Code::Disconnected,
            Self::Forked => Code::Forked,
            _ => Code::System,
        }
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}

impl Coded for SettleError {
    fn sort(&self) -> Code {
        match self {
            Self::Late { .. } => Code::Late,
            Self::Foreign => Code::Foreign,
            Self::NoAnswer { .. } => Code::NoAnswer,
            Self::Disconnected => Code::Disconnected,
            Self::Forked => Code::Forked,
            _ => Code::System,
        }
    }

    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}

impl Coded for HoldError {
    fn sort(&self) -> Code {
        Code::Held
    }

    fn is_retryable(&self) -> bool {
        // When one of those that are held has been dropped.
        true
    }
}

impl Coded for CloseError {
    fn sort(&self) -> Code {
        match self {
            Self::Commit(source) => source.sort(),
            Self::Admin(source) => source.sort(),
            _ => Code::System,
        }
    }

    fn is_retryable(&self) -> bool {
        // It is closed all the same.
        false
    }
}
