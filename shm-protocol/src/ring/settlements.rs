//! A member's verdicts on messages, beyond what one exchange on a claim word says.
//!
//! ```text
//! member    entry, then WRITTEN += 1 (release) ──────▶ shard: JUDGED … WRITTEN (acquire), judges, JUDGED (release)
//! call      CALLED: 0 → 1? then ring its eventfd ────▶ shard: CALLED = 0, then looks
//! ```
//!
//! 1. One member writes, the shard reads: a ring of [`SETTLEMENTS`] entries, used again when judged.
//! 2. A settlement is confirmed when JUDGED has passed it.
//! 3. The shard reads each word once into a local and believes none of them: the lot knows who has what.

use std::sync::atomic::Ordering;

use crate::layout::{SETTLEMENT_WORDS, SETTLEMENTS};
use crate::memory::{Memory, Word, Words};
use crate::stops;

/// What a member says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done with: an ack whose claim the shard had taken over.
    Ack,
    /// Failed: deliver it again, after the subscription's backoff, or after so many milliseconds.
    Nack {
        /// `None`: as the subscription says.
        delay_ms: Option<u64>,
    },
    /// Never deliver it again: to the dead letters.
    Reject,
    /// Given back untouched: deliver it again at once; it does not count as failed.
    Release,
    /// The lease lasts so many milliseconds from when the shard reads this.
    Extend {
        /// At most twelve hours.
        lease_ms: u64,
    },
}

/// A verdict and what it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The message's position in its partition.
    pub position: u64,
    /// Which delivery of it: 1 for the first.
    pub attempt: u32,
    /// What is said.
    pub verdict: Verdict,
}

const ACK: u32 = 1;
const NACK: u32 = 2;
const NACK_AFTER: u32 = 3;
const REJECT: u32 = 4;
const RELEASE: u32 = 5;
const EXTEND: u32 = 6;

impl Settlement {
    fn pack(self) -> [u64; 3] {
        let (verdict, argument) = match self.verdict {
            Verdict::Ack => (ACK, 0),
            Verdict::Nack { delay_ms: None } => (NACK, 0),
            Verdict::Nack { delay_ms: Some(delay_ms) } => (NACK_AFTER, delay_ms),
            Verdict::Reject => (REJECT, 0),
            Verdict::Release => (RELEASE, 0),
            Verdict::Extend { lease_ms } => (EXTEND, lease_ms),
        };
        [self.position, u64::from(self.attempt) << 32 | u64::from(verdict), argument]
    }

    fn unpack([position, what, argument]: [u64; 3]) -> Option<Self> {
        let verdict = match what as u32 {
            ACK => Verdict::Ack,
            NACK => Verdict::Nack { delay_ms: None },
            NACK_AFTER => Verdict::Nack { delay_ms: Some(argument) },
            REJECT => Verdict::Reject,
            RELEASE => Verdict::Release,
            EXTEND => Verdict::Extend { lease_ms: argument },
            _ => return None,
        };
        Some(Self { position, attempt: (what >> 32) as u32, verdict })
    }
}

/// The words of a settlement ring.
pub struct SettlementWords<M: Memory> {
    /// CALLED.
    pub called: M::WordHandle,
    /// WRITTEN.
    pub written: M::WordHandle,
    /// JUDGED.
    pub judged: M::WordHandle,
    /// LATE.
    pub late: M::WordHandle,
    /// The entries.
    pub entries: M::Words,
}

/// The ring is full: the shard has not judged the oldest yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettlementsFull;

/// The member's end.
pub struct Settlements<M: Memory> {
    words: SettlementWords<M>,
    written: u64,
}

impl<M: Memory> Settlements<M> {
    /// An end of an empty ring.
    pub fn new(words: SettlementWords<M>) -> Self {
        Self { words, written: 0 }
    }

    /// Leaves a settlement; call the shard afterwards.
    pub fn write(&mut self, settlement: Settlement) -> Result<(), SettlementsFull> {
        // Acquire: the shard has read what stood there.
        let judged = self.words.judged.load(Ordering::Acquire);
        if self.written.saturating_sub(judged) >= SETTLEMENTS {
            return Err(SettlementsFull);
        }
        let first = self.written % SETTLEMENTS * SETTLEMENT_WORDS as u64;
        for (index, word) in settlement.pack().into_iter().enumerate() {
            self.words.entries.at(first + index as u64).store(word, Ordering::Relaxed);
        }
        stops::at("settlement.written");
        self.written += 1;
        // Release: pairs with the acquire in Judge::next_settlement.
        self.words.written.store(self.written, Ordering::Release);
        stops::at("settlement.counted");
        Ok(())
    }

    /// Whether the shard must be woken: it has not been called since it last looked.
    pub fn call(&self) -> bool {
        // AcqRel: what was written before is there when the shard, which clears it, looks; both change one word, this one
        // also where it is set already, so either the shard's look is behind this, or it is called.
        let called = self.words.called.fetch_or(1, Ordering::AcqRel) == 0;
        stops::at("settlement.called");
        called
    }

    /// How many settlements were left, and how many of them the shard has judged.
    pub fn progress(&self) -> (u64, u64) {
        (self.written, self.words.judged.load(Ordering::Acquire))
    }

    /// How many settlements so far came too late: somebody else had, or has, the message.
    pub fn late(&self) -> u64 {
        self.words.late.load(Ordering::Acquire)
    }
}

/// The shard's end.
pub struct Judge<M: Memory> {
    words: SettlementWords<M>,
    judged: u64,
    confirmed: u64,
    late: u64,
}

impl<M: Memory> Judge<M> {
    /// An end of an empty ring.
    pub fn new(words: SettlementWords<M>) -> Self {
        Self { words, judged: 0, confirmed: 0, late: 0 }
    }

    /// Goes on where a shard that is gone has stopped: `judged` settlements were acted upon, `late` of them came too late, as
    /// that shard has noted; the words say so from now on.
    pub fn resume(&mut self, (judged, late): (u64, u64)) {
        (self.judged, self.late) = (judged, late);
        self.confirm();
    }

    /// How many settlements were read, and how many of them came too late.
    pub fn progress(&self) -> (u64, u64) {
        (self.judged, self.late)
    }

    /// The member may call again: to be said before looking.
    pub fn answer_call(&self) {
        // AcqRel: see Settlements::call.
        self.words.called.fetch_and(0, Ordering::AcqRel);
        stops::at("call.answered");
    }

    /// The next settlement that was not judged; `None`: no more, or as many as the ring holds were judged since the last were
    /// confirmed. One that makes no sense is passed over.
    pub fn next_settlement(&mut self) -> Option<Settlement> {
        // Acquire: pairs with the release of the count.
        let written = self.words.written.load(Ordering::Acquire);
        // Who waits for confirmation has written no more; who counts wrongly is read at most once round.
        let written = written.min(self.confirmed.saturating_add(SETTLEMENTS));
        while self.judged < written {
            let first = self.judged % SETTLEMENTS * SETTLEMENT_WORDS as u64;
            let entry = [0, 1, 2].map(|word| self.words.entries.at(first + word).load(Ordering::Relaxed));
            self.judged += 1;
            match Settlement::unpack(entry) {
                Some(settlement) => return Some(settlement),
                None => self.late += 1,
            }
        }
        None
    }

    /// The settlement that was read last came too late.
    pub fn was_late(&mut self) {
        self.late += 1;
    }

    /// Confirms everything that was read.
    pub fn confirm(&mut self) {
        self.confirmed = self.judged;
        self.words.late.store(self.late, Ordering::Release);
        stops::at("judged.late");
        // Release: behind the judgements, and the count of the late.
        self.words.judged.store(self.judged, Ordering::Release);
        stops::at("judged.confirmed");
    }
}
