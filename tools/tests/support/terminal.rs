//! A pseudo-terminal for commands that want one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, LocalModes, Termios, Winsize, tcflow, tcgetattr, tcsetwinsize};

use super::until;

/// A terminal that a command runs on, and all that it has written to it.
pub(crate) struct Terminal {
    ours: File,
    theirs: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(crate) fn new(columns: u16, rows: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs: OwnedFd = File::options().read(true).write(true).open(path).unwrap().into();
        let ours = File::from(ours);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, written) = (ours.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut some) {
                written.lock().unwrap().extend_from_slice(&some[..read]);
            }
        });
        let terminal = Self { ours, theirs, shown };
        terminal.resize(columns, rows);
        terminal
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.theirs, size).unwrap();
    }

    /// Starts a command whose standard error the test reads.
    pub(crate) fn start(&self, command: Command) -> Child {
        self.spawn(command, Stdio::piped())
    }

    /// Starts a command whose standard error is the terminal too.
    pub(crate) fn start_whole(&self, command: Command) -> Child {
        self.spawn(command, self.theirs.try_clone().unwrap().into())
    }

    fn spawn(&self, mut command: Command, error: Stdio) -> Child {
        let end = || Stdio::from(self.theirs.try_clone().unwrap());
        let tty = self.theirs.try_clone().unwrap();
        let own_session = move || {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(&tty)?;
            Ok(())
        };
        // SAFETY: it makes two system calls.
        unsafe { command.pre_exec(own_session) };
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm");
        }
        command.stdin(end()).stdout(end()).stderr(error).spawn().unwrap()
    }

    /// It takes nothing more from whoever writes to it, until it is freed.
    pub(crate) fn block(&self) {
        tcflow(&self.theirs, Action::OOff).unwrap();
    }

    pub(crate) fn free(&self) {
        tcflow(&self.theirs, Action::OOn).unwrap();
    }

    fn settings(&self) -> Termios {
        tcgetattr(&self.theirs).unwrap()
    }

    pub(crate) fn is_raw(&self) -> bool {
        !self.settings().local_modes.contains(LocalModes::ICANON)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until it has shown this. Blanks may be moves of the cursor, and anything else between two escapes is in pieces.
    #[track_caller]
    pub(crate) fn shows(&self, what: &str) {
        let words = |text: &str| {
            let mut pieces = text.split('\x1b');
            let mut words = pieces.next().unwrap_or_default().to_owned();
            for piece in pieces {
                let end = piece.find(|c: char| c.is_ascii_alphabetic()).map_or(piece.len(), |end| end + 1);
                words.push_str(if piece[..end].ends_with('H') { " " } else { "" });
                words.push_str(&piece[end..]);
            }
            words
        };
        until(what, || words(&self.text()).contains(what));
    }

    pub(crate) fn press(&mut self, keys: &[u8]) {
        self.ours.write_all(keys).unwrap();
    }

    /// As it was before, with the screen from before.
    #[track_caller]
    pub(crate) fn is_restored(&self) {
        assert!(!self.is_raw());
        until("the other screen is left", || {
            self.text().ends_with("\x1b[?25h") || self.text().contains("\x1b[?1049l")
        });
    }
}
