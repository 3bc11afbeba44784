//! What was said to clients, message by message, and whether a delivery agrees with it.
//!
//! 1. What a client was told is *sure* while the broker or its rings live; what was confirmed is *durable*, and sure after a loss of
//!    power, too. What was neither may be or not.
//! 2. A message that is surely there and not settled is delivered again, once: by its stream or, if it may have died, by the dead
//!    letters. One that is surely settled is never delivered again.
//! 3. An attempt that was journaled is never counted again, and no delay ends early.
//! 4. What a subscription of visibility `durable` has shown is as sure as what was confirmed.
//! 5. A producer that comes back by its name is told its last message that is there: all before it are there, none behind it is.

use std::collections::BTreeMap;

use ringway_shm_protocol::control::message::{Sent, SharedSettings, SubscriptionChanges, Visibility};
use ringway_shm_protocol::name::Name;

use super::{DEAD, NEWS, OTHER, WORK};
use crate::core::lot::Nanos;

/// Something that is sure now, and something that is sure after a loss of power.
#[derive(Clone, Copy, Debug, Default)]
struct Sure<T> {
    now: T,
    durable: T,
}

/// Of which stream, as which of its subscriptions sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Work,
    /// What is published where the dead letters go.
    Dead,
    /// Where they go else, and nothing is published.
    Other,
    /// The topic's reader, and those who share another subscription of it.
    News,
    Crew,
    /// A topic of which a reader may be far behind.
    Late,
}

impl Of {
    pub(super) fn stream(self) -> &'static str {
        match self {
            Self::Work => WORK,
            Self::Dead => DEAD,
            Self::Other => OTHER,
            Self::News | Self::Crew => NEWS,
            Self::Late => "clicks",
        }
    }

    pub(super) fn subscription(self) -> Name {
        let name = match self {
            Self::News => "reader",
            Self::Crew => "crew",
            Self::Late => "late",
            // A queue's has the name of the queue.
            Self::Work | Self::Dead | Self::Other => self.stream(),
        };
        Name::parse(name).expect("a name")
    }
}

/// A message as a subscription sees it, by its number.
pub(super) type Message = (Of, u64);

/// How far a message has come that will be delivered again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failed {
    /// Deliveries so far, and those of them that have failed.
    pub(super) acquired: u32,
    pub(super) failed: u32,
    /// Not before this time: nanoseconds since 1970.
    pub(super) not_before: Nanos,
}

/// What is known of a message.
#[derive(Clone, Debug)]
struct Fate {
    position: u64,
    /// Its producer has a name.
    is_named: bool,
    /// Which life of the host it was published in.
    life: u64,
    is_there: Sure<bool>,
    settled: Sure<bool>,
    rejected: Sure<bool>,
    buried: Sure<bool>,
    failed: Sure<Failed>,
    /// It may be settled, or gone from the dead letters.
    may_be_settled: bool,
    may_be_buried: bool,
    may_be_rejected: bool,
    deliveries: u32,
    /// It was delivered since the last balance was begun.
    is_seen: bool,
}

/// What somebody was told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fact {
    Settled(Message),
    Rejected(Message),
    Failed(Message, Failed),
    /// Its letter was settled.
    Buried(Message),
}

/// What a consumer was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    pub(super) message: Message,
    pub(super) position: u64,
    pub(super) attempt: u32,
    pub(super) failed: u32,
    pub(super) visibility: Visibility,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    fates: BTreeMap<Message, Fate>,
    at: BTreeMap<(Of, u64), u64>,
    life: u64,
    attempts_max: u32,
    /// How the queue may be, if it is altered.
    altered: Vec<SharedSettings>,
}

impl Ledger {
    /// Of a queue in which no message is dead that has not been delivered so often.
    pub(super) fn new(attempts_max: u32) -> Self {
        let (fates, at) = (BTreeMap::new(), BTreeMap::new());
        Self { fates, at, life: 0, attempts_max, altered: Vec::new() }
    }

    /// The queue is to be altered: from now on it may be so.
    pub(super) fn may_be_altered(&mut self, changes: &SubscriptionChanges) {
        self.altered.extend(self.altered.last().map(|settings| changes.applied(settings)));
    }

    /// The queue is altered now and then, and is so now, durably.
    pub(super) fn is_altered(&mut self, settings: SharedSettings) {
        self.altered = vec![settings];
    }

    /// Whether the queue is altered now and then; then it is as it may be.
    pub(super) fn check_altered(&self, found: impl FnOnce() -> SharedSettings) -> Result<bool, String> {
        if self.altered.is_empty() {
            return Ok(false);
        }
        let found = found();
        if self.altered.contains(&found) {
            Ok(true)
        } else {
            Err(format!("the queue has {found:?}, and was altered to {:?}", self.altered))
        }
    }

    /// A message was published, by a producer that has a name perhaps.
    pub(super) fn published(
        &mut self,
        message @ (of, id): Message,
        position: u64,
        is_named: bool,
    ) -> Result<(), String> {
        if let Some(before) = self.at.insert((of, position), id).map(|id| &self.fates[&(of, id)])
            && before.is_there.now
            && before.position == position
        {
            return Err(format!("{of:?}: position {position} is given again, and was confirmed"));
        }
        let fate = Fate {
            position,
            is_named,
            life: self.life,
            is_there: Sure { now: true, durable: false },
            settled: Sure::default(),
            rejected: Sure::default(),
            buried: Sure::default(),
            failed: Sure::default(),
            may_be_settled: false,
            may_be_buried: false,
            may_be_rejected: false,
            deliveries: 0,
            is_seen: false,
        };
        self.fates.insert(message, fate);
        Ok(())
    }

    /// Everything below a position is confirmed, and on the device.
    pub(super) fn confirmed(&mut self, of: Of, end: u64) {
        for (_, id) in self.at.range((of, 0)..(of, end)) {
            let fate = self.fates.get_mut(&(of, *id)).expect("every position has a message");
            fate.is_there.durable |= fate.life == self.life;
        }
    }

    /// A stream has come back, and ends here.
    pub(super) fn came_back(&self, of: Of, end: u64) -> Result<(), String> {
        let mut missing = self.of(of).filter(|(_, fate)| fate.is_there.now && fate.position >= end);
        missing.next().map_or(Ok(()), |(id, Fate { position, .. })| {
            Err(format!(
                "message {id} at {position} of {of:?}: the stream ends at {end}, and it was there for sure"
            ))
        })
    }

    /// The producer that has a name has come back, and was told its last message. Returns what it has to publish again.
    pub(super) fn producer_came_back(&mut self, of: Of, sent: Option<Sent>) -> Result<Vec<u64>, String> {
        if let Some(Sent { sequence, position }) = sent {
            let last = self.fates.get(&(of, sequence)).filter(|fate| fate.is_named);
            if last.is_none_or(|last| last.position != position) {
                return Err(format!("a producer of {of:?} has not sent message {sequence} at {position}"));
            }
        }
        let (mut again, life) = (Vec::new(), self.life);
        let named = self.fates.range_mut((of, 0)..=(of, u64::MAX)).filter(|(_, fate)| fate.is_named);
        for ((_, id), fate) in named {
            if sent.is_some_and(|sent| *id <= sent.sequence) {
                fate.is_there.now = true;
                fate.is_there.durable |= fate.life < life;
            } else if fate.is_there.now {
                return Err(format!("message {id} of {of:?}: its producer was told that it is not there"));
            } else {
                again.push(*id);
            }
        }
        Ok(again)
    }

    fn of(&self, of: Of) -> impl Iterator<Item = (u64, &Fate)> {
        self.fates.range((of, 0)..=(of, u64::MAX)).map(|((_, id), fate)| (*id, fate))
    }

    /// Whether this is a message that was published, and not a letter.
    pub(super) fn knows(&self, message: Message) -> bool {
        self.fates.contains_key(&message)
    }

    /// Something was said of a message, and may have an effect from now on.
    pub(super) fn said(&mut self, fact: Fact) {
        match fact {
            Fact::Settled(of) => self.fate(of).may_be_settled = true,
            Fact::Rejected(of) => self.fate(of).may_be_rejected = true,
            Fact::Buried(of) => self.fate(of).may_be_buried = true,
            Fact::Failed(..) => {}
        }
    }

    /// It has had that effect.
    pub(super) fn is(&mut self, fact: Fact) {
        self.said(fact);
        match fact {
            Fact::Settled(of) => self.fate(of).settled.now = true,
            Fact::Rejected(of) => self.fate(of).rejected.now = true,
            Fact::Buried(of) => self.fate(of).buried.now = true,
            Fact::Failed(of, failed) => self.fate(of).failed.now = failed,
        }
    }

    /// That effect is confirmed to be durable.
    pub(super) fn is_durable(&mut self, fact: Fact) {
        match fact {
            Fact::Settled(of) => self.fate(of).settled.durable = true,
            Fact::Rejected(of) => self.fate(of).rejected.durable = true,
            Fact::Buried(of) => self.fate(of).buried.durable = true,
            Fact::Failed(of, failed) => {
                let durable = &mut self.fate(of).failed.durable;
                if durable.acquired < failed.acquired {
                    *durable = failed;
                }
            }
        }
    }

    /// Messages of this stream that are on the device and that nobody has ever been given: what a purge surely gives up.
    pub(super) fn untouched(&self, of: Of) -> Vec<Message> {
        let is_untouched = |fate: &Fate| {
            let is_over = fate.settled.now || fate.rejected.now || fate.may_be_settled;
            fate.is_there.durable && fate.is_there.now && fate.deliveries == 0 && !is_over
        };
        self.of(of).filter(|(_, fate)| is_untouched(fate)).map(|(id, _)| (of, id)).collect()
    }

    /// What is there of this stream may be given up from now on.
    pub(super) fn may_be_purged(&mut self, of: Of) {
        self.fates.range_mut((of, 0)..=(of, u64::MAX)).for_each(|(_, fate)| fate.may_be_settled = true);
    }

    fn fate(&mut self, message: Message) -> &mut Fate {
        self.fates.get_mut(&message).expect("what is delivered was published")
    }

    /// A message of its own stream was delivered.
    pub(super) fn delivered(&mut self, delivery: Delivery, now: Nanos) -> Result<(), String> {
        let Delivery { message, position, attempt, failed, visibility } = delivery;
        let (life, (of, id)) = (self.life, message);
        let wrong =
            |what: &str| Err(format!("message {id} at {position} of {of:?}, attempt {attempt}: {what}"));
        let Some(fate) = self.fates.get_mut(&message) else { return wrong("it was never published") };
        let before = fate.failed.now;
        match () {
            () if fate.position != position => return wrong("it was published elsewhere"),
            () if fate.settled.now => return wrong("it was settled"),
            () if fate.rejected.now => return wrong("it was rejected"),
            () if fate.buried.now => return wrong("it was dead"),
            () if attempt <= before.acquired => return wrong("that attempt has been"),
            () if failed < before.failed => return wrong("a failure is forgotten"),
            () if failed >= attempt => return wrong("it has failed more often than it was delivered"),
            () if now < before.not_before => return wrong("it comes too early"),
            () => {}
        }
        fate.failed.now = Failed { acquired: attempt, failed, not_before: 0 };
        fate.deliveries += 1;
        (fate.is_seen, fate.may_be_settled) = (true, false);
        // What has outlived the host is on the device.
        fate.is_there.now = true;
        fate.is_there.durable |= fate.life < life || visibility == Visibility::Durable;
        Ok(())
    }

    /// The letter of a message was delivered.
    pub(super) fn letter_delivered(&mut self, id: u64) -> Result<(), String> {
        let attempts_max = self.attempts_max;
        let Some(fate) = self.fates.get_mut(&(Of::Work, id)) else {
            return Err(format!("the letter of message {id}: it was never published"));
        };
        let wrong = |what: &str| Err(format!("the letter of message {id}: {what}"));
        match () {
            () if fate.buried.now => return wrong("it was settled"),
            () if fate.settled.now => return wrong("its message was settled"),
            () if !fate.may_be_rejected && fate.deliveries < attempts_max => {
                return wrong("it cannot be dead");
            }
            () => {}
        }
        fate.is_seen = true;
        (fate.may_be_settled, fate.may_be_buried) = (false, false);
        Ok(())
    }

    /// Since this was what is known, something more may have had its effect: what another ledger knows.
    pub(super) fn may_be_as(&mut self, later: &Self) {
        for (message, later) in &later.fates {
            let new = || Fate { is_there: Sure::default(), ..later.clone() };
            let fate = self.fates.entry(*message).or_insert_with(new);
            if fate.life < later.life {
                *fate = new();
            }
            fate.may_be_settled |= later.may_be_settled || later.settled.now;
            fate.may_be_buried |= later.may_be_buried || later.buried.now;
            fate.may_be_rejected |= later.may_be_rejected;
            fate.deliveries = later.deliveries;
        }
        self.altered.extend_from_slice(&later.altered);
    }

    /// The host has lost its power: what is durable is sure.
    pub(super) fn lose_power(&mut self) {
        self.life += 1;
        for fate in self.fates.values_mut() {
            fate.is_there.now = fate.is_there.durable;
            fate.settled.now = fate.settled.durable;
            fate.rejected.now = fate.rejected.durable;
            fate.buried.now = fate.buried.durable;
            fate.failed.now = fate.failed.durable;
        }
    }

    /// What is delivered from now on counts for the [`balance`](Self::balance).
    pub(super) fn begin_balance(&mut self) {
        self.fates.values_mut().for_each(|fate| fate.is_seen = false);
    }

    /// Everything was delivered that there is: is something missing?
    pub(super) fn balance(&self) -> Result<(), String> {
        let is_over = |fate: &Fate| {
            fate.is_seen || fate.settled.now || fate.buried.now || fate.may_be_settled || fate.may_be_buried
        };
        match self.fates.iter().find(|(_, fate)| fate.is_there.now && !is_over(fate)) {
            Some(((of, id), Fate { position, .. })) => {
                Err(format!("message {id} at {position} of {of:?}: it was confirmed, and is lost"))
            }
            None => Ok(()),
        }
    }
}
