//! Writing to standard output, where a reader that has gone (`ringway sub … | head`) is no error.
//!
//! Output is buffered until [`Output::flush`]. Up to [`WHOLE_BYTES`] go to a pipe either whole or not at all, so that
//! a subscriber knows what it has printed and may commit.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

pub(crate) use ringway_shm_protocol::text::{count, thousands};

use crate::exit::Failure;
use crate::interrupt::{self, Interrupt};

/// What a pipe takes whole, and without blocking once `poll` says that it is writable.
pub(crate) const WHOLE_BYTES: usize = 4096;

/// How often a line of progress is written at the most.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Buffered standard output.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    buffer: Vec<u8>,
    interrupt: Interrupt,
}

impl Output {
    /// Standard output, whose waits end when `interrupt` is set.
    pub(crate) fn stdout(interrupt: Interrupt) -> Result<Self, Failure> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned().map_err(cannot_write)?;
        Ok(Self::new(descriptor.into(), interrupt))
    }

    fn new(file: File, interrupt: Interrupt) -> Self {
        Self { file, buffer: Vec::new(), interrupt }
    }

    /// Where the next output goes: into memory, until [`flush`](Self::flush).
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Bytes that wait for the next flush.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nobody reads this output any more.
    pub(crate) fn is_closed(&self) -> bool {
        interrupt::reader_is_gone(&self.file)
    }

    /// Writes the buffer. Whatever happens, it is empty afterwards.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let mut written_bytes = 0;
        let mut result = Ok(());
        while written_bytes < self.buffer.len() && result.is_ok() {
            result = self.write_some(&self.buffer[written_bytes..]).map(|bytes| written_bytes += bytes);
        }
        self.buffer.clear();
        result
    }

    fn write_some(&self, bytes: &[u8]) -> Result<usize, Failure> {
        if !self.interrupt.wait_writable(&self.file).map_err(cannot_write)? {
            return Err(Failure::Interrupted);
        }
        match (&self.file).write(&bytes[..bytes.len().min(WHOLE_BYTES)]) {
            Ok(0) => Err(cannot_write(io::ErrorKind::WriteZero.into())),
            Ok(written) => Ok(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
            Err(error) => Err(cannot_write(error)),
        }
    }
}

fn cannot_write(error: io::Error) -> Failure {
    Failure::new(format!("cannot write to standard output: {error}"))
}

/// Writes `text` to standard output, all at once.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    // Nothing is lost when a signal ends this command here, so it is left to do so.
    let mut output = Output::stdout(Interrupt::default())?;
    output.buffer().extend_from_slice(text.as_bytes());
    output.flush()
}

/// Writes `value` as one line of JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::new(format!("no JSON: {error}")))?;
    print(&format!("{text}\n"))
}

/// Says something to the user beside the output proper.
pub(crate) fn say(text: &str) {
    // A closed standard error is no reason to fail: there is nobody to tell.
    let _ = writeln!(io::stderr(), "ringway: {text}");
}

/// Lays `rows` out under `heads` in columns; those marked by `>` in front of their head are set flush right.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let titles: Vec<&str> = heads.iter().map(|head| head.trim_start_matches('>')).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for ((cell, head), width) in cells.zip(heads).zip(&widths) {
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) =
                if head.starts_with('>') { (padding, String::new()) } else { (String::new(), padding) };
            text.push_str(&format!("{before}{cell}{after}  "));
        }
        format!("{}\n", text.trim_end())
    };
    let mut text = line(&mut titles.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// One field a line: its name, and its value beside it.
pub(crate) fn lines(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Whether it is a terminal where the cursor can be moved.
pub(crate) fn is_screen(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A line of progress on a terminal, at the bottom of standard error; elsewhere nothing.
#[derive(Debug, Default)]
pub(crate) struct ProgressLine {
    shown_at: Option<Instant>,
}

impl ProgressLine {
    /// Shows this in place of what it has shown, unless that was a moment ago.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        let mut error = io::stderr();
        if is_screen(&error) && self.shown_at.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY) {
            self.shown_at = Some(Instant::now());
            // Who cannot see it does without.
            let _ = write!(error, "\rringway: {}\x1b[K", text());
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if self.shown_at.is_some() {
            Self::end_of_another();
        }
    }

    /// Takes a line away that another process may have shown on the same terminal.
    pub(crate) fn end_of_another() {
        let mut error = io::stderr();
        if is_screen(&error) {
            let _ = write!(error, "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    fn pipe() -> (io::PipeReader, Output) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, Output::new(OwnedFd::from(writer).into(), Interrupt::default()))
    }

    #[test]
    fn output_larger_than_a_pipe_arrives_whole() {
        let (mut reader, mut output) = pipe();
        let bytes: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        output.buffer().extend_from_slice(&bytes);
        let writer = std::thread::spawn(move || output.flush().is_ok());
        let mut arrived = Vec::new();
        reader.read_to_end(&mut arrived).unwrap();
        assert!(writer.join().unwrap());
        assert!(arrived == bytes);
    }

    #[test]
    fn a_closed_pipe_is_told_apart_from_other_failures() {
        let (reader, mut output) = pipe();
        output.buffer().extend_from_slice(b"one\n");
        output.flush().unwrap();
        assert!(!output.is_closed());
        drop(reader);
        assert!(output.is_closed());
        output.buffer().extend_from_slice(b"two\n");
        assert_eq!(output.flush(), Err(Failure::OutputClosed));
        assert_eq!(output.buffered_bytes(), 0);
    }

    #[test]
    fn a_full_disk_is_a_failure_that_says_so() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut output = Output::new(full, Interrupt::default());
        output.buffer().push(b'x');
        let failure = output.flush().unwrap_err();
        assert!(matches!(&failure, Failure::Failed { message, .. } if message.contains("space")));
    }

    #[test]
    fn columns_are_aligned_and_end_without_blanks() {
        let rows =
            vec![vec!["a".into(), "7".into(), "x".into()], vec!["Aufträge".into(), "1000".into(), "".into()]];
        assert_eq!(
            table(&["NAME", ">SLOTS", "WHO"], &rows),
            "NAME      SLOTS  WHO\na             7  x\nAufträge   1000\n"
        );
    }
}
