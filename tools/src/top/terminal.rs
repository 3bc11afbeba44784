//! The terminal that `ringway top` has for itself while it runs.

use std::io::{self, Write};

use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use crate::exit::Failure;
use crate::interrupt::{Interrupt, is_writable};
use crate::output::Output;

/// A terminal in raw mode with a screen of its own; as it was when this is dropped, and before the words of a panic.
pub(super) struct Terminal {
    drawn: ratatui::Terminal<CrosstermBackend<Written>>,
}

impl Terminal {
    /// Takes the terminal at standard output.
    pub(super) fn take(interrupt: Interrupt) -> io::Result<Self> {
        let mut written = Written(Output::stdout(interrupt).map_err(other)?);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        enable_raw_mode()?;
        let drawn = execute!(written, EnterAlternateScreen)
            .and_then(|()| ratatui::Terminal::new(CrosstermBackend::new(written)))
            .inspect_err(|_| restore())?;
        Ok(Self { drawn })
    }

    /// Shows what `draw` draws, unless a signal comes first.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.drawn.draw(draw).map(drop)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // There is nobody to tell.
    let _ = disable_raw_mode();
    // What takes nothing would hold up the end.
    if is_writable(io::stdout()) {
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    }
}

/// What is written to the terminal; all that comes after a signal is left out.
struct Written(Output);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.buffer().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            // Whoever draws looks for signals behind it.
            Err(Failure::Interrupted) => Ok(()),
            flushed => flushed.map_err(other),
        }
    }
}

fn other(failure: Failure) -> io::Error {
    match failure {
        Failure::Failed { message, .. } => io::Error::other(message),
        _ => io::ErrorKind::BrokenPipe.into(),
    }
}
