//! The lines that the demo sends.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ringway_client::{SLOT_BYTES_DEFAULT, SLOT_BYTES_MAX};
use ringway_shm_protocol::layout::slot;

use crate::exit::Failure;
use crate::output::{count, thousands};

const README: &[u8] = include_bytes!("../../../README.md");
/// At least so many messages are sent.
const MESSAGES_MIN: u64 = 10_000;
/// The longest file, which is kept in memory.
const FILE_BYTES_MAX: u64 = 64 << 20;
const LINE_BYTES_MAX: usize = SLOT_BYTES_MAX as usize - slot::BODY;

/// A file, and how often its lines are sent.
#[derive(Debug)]
pub(crate) struct Input {
    /// What to call it.
    pub(crate) name: String,
    /// The whole file.
    pub(crate) bytes: Vec<u8>,
    /// Lines in it; at least one.
    pub(crate) lines: u64,
    /// Bytes of its longest line.
    pub(crate) longest_bytes: usize,
}

impl Input {
    /// Reads the file, or takes the README.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Self::new("Ringway's README.md".to_owned(), README.to_vec());
        };
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let most = count(FILE_BYTES_MAX, "byte");
            return Err(Failure::new(format!("{name} has more than {most}: take a smaller file")));
        }
        Self::new(name, bytes)
    }

    fn new(name: String, bytes: Vec<u8>) -> Result<Self, Failure> {
        let (mut lines, mut longest_bytes) = (0, 0);
        for line in split(&bytes) {
            lines += 1;
            longest_bytes = longest_bytes.max(line.len());
            if line.len() > LINE_BYTES_MAX {
                return Err(Failure::new(format!(
                    "line {lines} of {name} has {} bytes: a message holds {} at the most; take another file",
                    thousands(line.len() as u64),
                    thousands(LINE_BYTES_MAX as u64)
                )));
            }
        }
        if lines == 0 {
            return Err(Failure::new(format!("{name} is empty: the demo needs at least one line to send")));
        }
        Ok(Self { name, bytes, lines, longest_bytes })
    }

    /// How often the file is sent.
    pub(crate) fn rounds(&self) -> u64 {
        MESSAGES_MIN.div_ceil(self.lines)
    }

    /// Messages in all.
    pub(crate) fn messages(&self) -> u64 {
        self.rounds() * self.lines
    }

    /// Slots that hold the longest line.
    pub(crate) fn slot_bytes(&self) -> u32 {
        let needed = (self.longest_bytes + slot::BODY).next_power_of_two();
        u32::try_from(needed).unwrap_or(SLOT_BYTES_MAX).max(SLOT_BYTES_DEFAULT)
    }
}

/// The lines of `bytes`, without their newlines; what follows the last newline is a line if it is not empty.
pub(crate) fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &[u8]) -> Result<Input, Failure> {
        Input::new("F".to_owned(), bytes.to_vec())
    }

    #[test]
    fn a_file_is_sent_as_often_as_ten_thousand_messages_take() {
        let three = input(b"a\n\n\xff").unwrap();
        assert_eq!((three.lines, three.rounds(), three.messages()), (3, 3334, 10_002));
        let many = input("x\n".repeat(10_001).as_bytes()).unwrap();
        assert_eq!((many.rounds(), many.messages()), (1, 10_001));
    }

    #[test]
    fn slots_are_as_large_as_the_longest_line_needs() {
        let of = |bytes: usize| input(&vec![b'x'; bytes]).map(|input| input.slot_bytes());
        assert_eq!(of(1), Ok(128));
        assert_eq!(of(112), Ok(128));
        assert_eq!(of(113), Ok(256));
        assert_eq!(of(4080), Ok(4096));
        assert!(of(4081).is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        let message = |bytes: &[u8]| match input(bytes) {
            Err(Failure::Failed { message, .. }) => message,
            other => panic!("{other:?}"),
        };
        assert!(message(b"").contains("F is empty"));
        let long = [b"a\nb\n".as_slice(), &[b'x'; 5000]].concat();
        assert!(message(&long).starts_with("line 3 of F has 5,000 bytes"));
    }

    #[test]
    fn the_built_in_file_can_be_sent() {
        assert!(Input::read(None).unwrap().messages() >= MESSAGES_MIN);
    }
}
