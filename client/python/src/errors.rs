//! Exceptions: one class for each operation, below `RingwayError`. Each has `code`, a word for the sort of error, and
//! `retryable`: whether the same call may succeed later; its text is the crate's.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use ringway_client as client;

use crate::code::Coded;

create_exception!(ringway, RingwayError, PyException, "What has gone wrong, in any operation.");
create_exception!(ringway, ConnectError, RingwayError, "No session with a broker could be opened.");
create_exception!(ringway, AdminError, RingwayError, "A request to the broker failed.");
create_exception!(ringway, OpenError, RingwayError, "A producer or consumer could not be opened.");
create_exception!(ringway, SendError, RingwayError, "A message was not sent. It is not in the stream.");
create_exception!(
    ringway,
    SendBatchError,
    SendError,
    "A batch was sent in part: `sent` messages of it are in the stream."
);
create_exception!(ringway, ConfirmError, RingwayError, "Messages, or settlements, are not confirmed (yet).");
create_exception!(ringway, RecvError, RingwayError, "Nothing was received or committed.");
create_exception!(ringway, SettleError, RingwayError, "A message was not settled as it was said.");
create_exception!(
    ringway,
    CloseError,
    RingwayError,
    "A consumer was not closed as it should be. It is closed all the same."
);

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("RingwayError", py.get_type::<RingwayError>())?;
    module.add("ConnectError", py.get_type::<ConnectError>())?;
    module.add("AdminError", py.get_type::<AdminError>())?;
    module.add("OpenError", py.get_type::<OpenError>())?;
    module.add("SendError", py.get_type::<SendError>())?;
    module.add("SendBatchError", py.get_type::<SendBatchError>())?;
    module.add("ConfirmError", py.get_type::<ConfirmError>())?;
    module.add("RecvError", py.get_type::<RecvError>())?;
    module.add("SettleError", py.get_type::<SettleError>())?;
    module.add("CloseError", py.get_type::<CloseError>())
}

/// An error of the client's that is an exception in Python.
pub(crate) trait Raise {
    /// The exception.
    fn raise(self, py: Python<'_>) -> PyErr;
}

/// The word for a sort of error: `no_broker`.
fn word(error: &impl Coded) -> String {
    let mut word = String::new();
    for letter in format!("{:?}", error.sort()).chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

fn describe(py: Python<'_>, raised: &PyErr, error: &impl Coded) -> PyResult<()> {
    let value = raised.value(py);
    value.setattr("code", word(error))?;
    value.setattr("retryable", error.is_retryable())
}

macro_rules! raise {
    ($($error:ident as $exception:ident),* $(,)?) => {$(
        impl Raise for client::$error {
            fn raise(self, py: Python<'_>) -> PyErr {
                let raised = $exception::new_err(self.to_string());
                match describe(py, &raised, &self) {
                    Ok(()) => raised,
                    Err(error) => error,
                }
            }
        }
    )*};
}

raise! {
    ConnectError as ConnectError, AdminError as AdminError, OpenError as OpenError, SendError as SendError,
    SendLoanError as SendError, AttributesError as SendError, ConfirmError as ConfirmError, RecvError as RecvError,
    SettleError as SettleError, CloseError as CloseError,
}

impl Raise for client::SendBatchError {
    fn raise(self, py: Python<'_>) -> PyErr {
        let raised = SendBatchError::new_err(self.to_string());
        let described =
            describe(py, &raised, &self).and_then(|()| raised.value(py).setattr("sent", self.sent));
        described.map_or_else(|error| error, |()| raised)
    }
}

/// An error becomes an exception.
pub(crate) trait OrRaise<T> {
    /// See the trait.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T, E: Raise> OrRaise<T> for Result<T, E> {
    #[inline]
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| error.raise(py))
    }
}
