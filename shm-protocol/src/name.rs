//! What a stream or a subscription may be called.
//!
//! A name is 1 to [`NAME_BYTES_MAX`] bytes of UTF-8 without `/` and without control characters (NUL and
//! newline among them), so that it fits a file name, one line of output and one argument of a command.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 200;

/// A checked name of a stream or subscription.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Checks `bytes` and makes a name of them.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, NameError> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong { bytes: bytes.len() });
        }
        let text =
            std::str::from_utf8(bytes).map_err(|error| NameError::NotUtf8 { at: error.valid_up_to() })?;
        if let Some((at, character)) = text.char_indices().find(|(_, c)| *c == '/' || c.is_control()) {
            return Err(NameError::Character { character, at });
        }
        if text == "." || text == ".." {
            return Err(NameError::Dots);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why something is no name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// No bytes at all.
    #[error("a name may not be empty: give it 1 to {NAME_BYTES_MAX} bytes")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("a name of {bytes} bytes is too long: {NAME_BYTES_MAX} bytes of UTF-8 at the most")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("a name must be UTF-8: byte {at} begins no character")]
    NotUtf8 {
        /// Offset of the first wrong byte.
        at: usize,
    },
    /// `/` or a control character.
    #[error("a name may not hold {character:?} (byte {at}): no '/' and no control characters")]
    Character {
        /// The character.
        character: char,
        /// Its offset in bytes.
        at: usize,
    },
    /// `.` or `..`.
    #[error("a name may not be '.' or '..'")]
    Dots,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_pass_and_print_as_given() {
        for text in ["orders", "a", "orders.eu-1", "Aufträge 7", &"x".repeat(NAME_BYTES_MAX)] {
            assert_eq!(Name::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_place() {
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(Name::parse("x".repeat(201)), Err(NameError::TooLong { bytes: 201 }));
        assert_eq!(Name::parse("a/b"), Err(NameError::Character { character: '/', at: 1 }));
        assert_eq!(Name::parse("a\0"), Err(NameError::Character { character: '\0', at: 1 }));
        assert_eq!(Name::parse("ab\nc"), Err(NameError::Character { character: '\n', at: 2 }));
        assert_eq!(Name::parse(b"ab\xff"), Err(NameError::NotUtf8 { at: 2 }));
        assert_eq!(Name::parse(".."), Err(NameError::Dots));
    }
}
