//! What takes long: preparing segments, writing snapshots, giving files up; reading [pages](super::pages). In a thread of its own, or at
//! once where the caller wants it so (tests).

use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::disk::Disk;
use super::format::SegmentHeader;
use super::segments::{self, Needed, OpenSegment, RESERVE};
use super::snapshot;

/// Something that takes long.
pub(crate) trait Job<D: Disk>: Send + 'static {
    /// What comes of it.
    type Outcome: Send + 'static;

    /// Does it.
    fn carry_out(self, disk: &D) -> Self::Outcome;
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Task {
    /// Make a segment with this header.
    Prepare(SegmentHeader),
    /// See to it that the next start has something to make a segment of so many bytes of.
    Reserve(u64),
    /// Write a snapshot of the log up to this LSN. When it is there, give up what nobody needs.
    Snapshot { lsn: u64, bytes: Vec<u8>, needed: Needed },
}

/// What has come of it.
pub(crate) enum Outcome<File> {
    Prepared(io::Result<OpenSegment<File>>),
    /// The next start has something to make a segment of.
    Reserved(io::Result<()>),
    /// The snapshot is there.
    Snapshot(io::Result<u64>),
}

/// See the module.
pub(crate) struct Helper<D: Disk, J: Job<D> = Task> {
    tasks: Option<Sender<J>>,
    outcomes: Receiver<J::Outcome>,
    thread: Option<JoinHandle<()>>,
    /// Without a thread: what does it when it is asked for, and what is to be done.
    #[cfg(test)]
    at_once: Option<(D, Receiver<J>)>,
    _disk: PhantomData<D>,
}

impl<D: Disk, J: Job<D>> Helper<D, J> {
    /// A thread that writes to `wake`, an eventfd, when something has come to an end.
    pub(crate) fn start(disk: Arc<D>, wake: OwnedFd) -> io::Result<Self> {
        let (tasks, to_do) = channel::<J>();
        let (done, outcomes) = channel();
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            for task in to_do {
                if done.send(task.carry_out(&disk)).is_err() {
                    break;
                }
                // Fails only when the count is about to overflow: then the shard is being woken anyway.
                let _ = rustix::io::write(&wake, &1_u64.to_ne_bytes());
            }
        })?;
        Ok(Self {
            tasks: Some(tasks),
            outcomes,
            thread: Some(thread),
            #[cfg(test)]
            at_once: None,
            _disk: PhantomData,
        })
    }

    /// One without a thread: what it is asked for is done when the outcome is.
    #[cfg(test)]
    pub(crate) fn at_once(disk: D) -> Self {
        let ((tasks, to_do), (_, outcomes)) = (channel(), channel());
        Self { tasks: Some(tasks), outcomes, thread: None, at_once: Some((disk, to_do)), _disk: PhantomData }
    }

    /// Has something done.
    pub(crate) fn ask(&self, task: J) {
        if let Some(tasks) = &self.tasks {
            // Without a thread there is no outcome; it does not end before this.
            let _ = tasks.send(task);
        }
    }

    /// The next outcome, if there is one.
    pub(crate) fn next(&self) -> Option<J::Outcome> {
        #[cfg(test)]
        if let Some((disk, to_do)) = &self.at_once {
            return to_do.try_recv().ok().map(|task| task.carry_out(disk));
        }
        self.outcomes.try_recv().ok()
    }
}

impl<D: Disk, J: Job<D>> Drop for Helper<D, J> {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<D: Disk> Job<D> for Task {
    type Outcome = Outcome<D::File>;

    fn carry_out(self, disk: &D) -> Outcome<D::File> {
        match self {
            // The reserve is for it.
            Self::Prepare(header) if header.begins_epoch() => {
                Outcome::Prepared(segments::prepare(disk, header, 0))
            }
            Self::Prepare(header) => {
                let reserved = segments::keep_reserve(disk, header.bytes);
                Outcome::Prepared(reserved.and_then(|()| segments::prepare(disk, header, RESERVE)))
            }
            Self::Reserve(bytes) => Outcome::Reserved(segments::keep_reserve(disk, bytes)),
            Self::Snapshot { lsn, bytes, needed } => {
                let mut written = snapshot::write(disk, lsn, &bytes);
                if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
                    && segments::remove_spare(disk).unwrap_or(false)
                {
                    // What is given up behind it is a spare again.
                    written = snapshot::write(disk, lsn, &bytes);
                }
                let written = written.and_then(|()| segments::give_up(disk, &needed));
                Outcome::Snapshot(written.map(|()| lsn))
            }
        }
    }
}
