//! Ctrl-C and SIGTERM for commands that have something to finish before they end.
//!
//! The first signal sets a flag, which every wait of these commands looks at; a second one ends the process at
//! once. Reads and writes that a signal would only restart are preceded by a `poll`, which it does end.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::{Exit, Failure};

/// Longest time between two looks at the flag.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);
const LOOK_EVERY_TIMESPEC: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Set once SIGINT or SIGTERM has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches the signals from here on.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let interrupt = Self::default();
        interrupt.register().map_err(|error| Failure::new(format!("cannot catch signals: {error}")))?;
        Ok(interrupt)
    }

    fn register(&self) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM] {
            // In this order: the signal that sets the flag does not yet see it set.
            flag::register_conditional_shutdown(signal, Exit::Interrupted.code().into(), self.0.clone())?;
            flag::register(signal, self.0.clone())?;
        }
        Ok(())
    }

    /// Whether a signal has come.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps until `until`; false if a signal ended it.
    pub(crate) fn sleep_until(&self, until: Instant) -> bool {
        while !self.is_set() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        false
    }

    /// Waits until `descriptor` has something to read; false if a signal ended it.
    pub(crate) fn wait_readable(&self, descriptor: impl AsFd) -> io::Result<bool> {
        self.wait(descriptor, PollFlags::IN)
    }

    /// Waits until `descriptor` takes at least a page; false if a signal ended it.
    pub(crate) fn wait_writable(&self, descriptor: impl AsFd) -> io::Result<bool> {
        self.wait(descriptor, PollFlags::OUT)
    }

    fn wait(&self, descriptor: impl AsFd, events: PollFlags) -> io::Result<bool> {
        while !self.is_set() {
            let mut polled = [PollFd::new(&descriptor, events)];
            match poll(&mut polled, Some(&LOOK_EVERY_TIMESPEC)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // An error or a hang-up is for the read or write that follows to report.
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

/// Whether nobody will ever read what is written to `descriptor`, a pipe or a socket.
pub(crate) fn reader_is_gone(descriptor: impl AsFd) -> bool {
    is_now(descriptor, PollFlags::ERR)
}

/// Whether `descriptor` takes something without a wait.
pub(crate) fn is_writable(descriptor: impl AsFd) -> bool {
    is_now(descriptor, PollFlags::OUT)
}

fn is_now(descriptor: impl AsFd, event: PollFlags) -> bool {
    let mut polled = [PollFd::new(&descriptor, event)];
    poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().contains(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Interrupt {
        let interrupt = Interrupt::default();
        interrupt.0.store(true, Ordering::Relaxed);
        interrupt
    }

    #[test]
    fn a_set_flag_ends_every_wait() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(!set().wait_readable(&reader).unwrap());
        assert!(!set().wait_writable(&writer).unwrap());
        assert!(!set().sleep_until(Instant::now() + Duration::from_secs(60)));
    }

    #[test]
    fn waits_end_when_there_is_something_to_do() {
        let (reader, writer) = std::io::pipe().unwrap();
        let clear = Interrupt::default();
        assert!(clear.wait_writable(&writer).unwrap());
        drop(writer);
        assert!(clear.wait_readable(&reader).unwrap());
        assert!(clear.sleep_until(Instant::now()));
    }

    #[test]
    fn a_pipe_without_a_reader_is_noticed_without_writing() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(!reader_is_gone(&writer));
        drop(reader);
        assert!(reader_is_gone(&writer));
    }
}
