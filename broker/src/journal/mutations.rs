//! Deliberate bugs, for the tests that must notice them: what is left out here must turn a test red.

pub(crate) use active::is;
#[cfg(test)]
pub(crate) use active::with;

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A batch counts as synced when it is written.
    #[cfg(test)]
    NoSync,
    /// A new name counts as durable without a sync of the directory.
    #[cfg(test)]
    NoDirectorySync,
    /// Messages are confirmed when their batch is submitted.
    ConfirmBeforeSync,
    /// An epoch is read as far as there is something, whatever the next one says.
    NoEpoch,
    /// A batch need not follow the one before.
    NoChain,
    /// A later sync makes everything before it durable, also what is not yet written.
    NoPrefix,
    /// A dead letter is sent before its message is durably dead.
    LetterFirst,
    /// The stream of a dead letter does not note where it comes from.
    NoLetterNoted,
    /// The note of a dead letter stays where the letter is missing.
    NoteWithoutLetter,
    /// A subscription that is shared begins without a record.
    NoFirstRecord,
    /// A snapshot does not say what is in the lots.
    NoLotInSnapshot,
    /// A snapshot does not say what producers have sent.
    NoSentInSnapshot,
    /// A subscription whose visibility is `durable` delivers everything.
    ShownBeforeSync,
    /// What was acked in the feed is not looked for before a round.
    NoHarvest,
    /// Where a message is is forgotten when the ring has passed it.
    ForgottenEarly,
    /// The same, whoever is behind the ring and served from the log.
    BacklogForgotten,
    /// A page has what is written, also for a subscription whose visibility is `durable`.
    PageBeforeSync,
    /// Letters that wait for a round when the journal fails are not given back.
    LettersForgotten,
    /// Messages take the room that is for what makes room.
    NoReserve,
    /// What is appended and not written yet is no less room.
    AppendedUncounted,
    /// A round passes over streams that are parked, whoever waits for it.
    ParkedUnheard,
    /// A round is done also where something is settled that is not read yet.
    RoundOverUnread,
    /// A purge is answered before the journal knows of it.
    PurgeAnsweredEarly,
    /// Dead messages go elsewhere while some are on their way to where they went.
    RedirectedEarly,
    /// The same while one before may have sent some.
    LettersUnsuspected,
    /// The same before the journal knows that they have come.
    BurialsUnjournaled,
}

#[cfg(not(test))]
mod active {
    /// Nothing is left out.
    #[inline(always)]
    pub(crate) const fn is(_: super::Mutation) -> bool {
        false
    }
}

#[cfg(test)]
mod active {
    use std::cell::Cell;

    use super::Mutation;

    thread_local!(static ACTIVE: Cell<Option<Mutation>> = const { Cell::new(None) });

    /// Whether this is left out in this thread.
    pub(crate) fn is(mutation: Mutation) -> bool {
        ACTIVE.get() == Some(mutation)
    }

    /// Leaves something out in this thread while `act` runs.
    pub(crate) fn with<T>(mutation: Option<Mutation>, act: impl FnOnce() -> T) -> T {
        ACTIVE.set(mutation);
        let result = act();
        ACTIVE.set(None);
        result
    }
}
