//! A received message: borrowed from its consumer, or held.
//!
//! 1. What fits a slot was copied into the consumer's private buffer. What does not is read where its producer wrote it,
//!    or copied on request.
//! 2. While a message is borrowed its consumer cannot go on, so its position is not committed, and its memory stays.
//! 3. A message that is held has a hazard that names its position, set while it was borrowed: its memory stays until it
//!    is dropped, for hours if need be, and holds up nothing else.

use std::cell::OnceCell;
use std::fmt;
use std::sync::{Arc, OnceLock};

use ringway_shm_protocol::attributes::AttributesView;
use ringway_shm_protocol::layout::HAZARDS_MAX;
use ringway_shm_protocol::memory::arena::ArenaView;
use ringway_shm_protocol::memory::mapped::Mapped;
use ringway_shm_protocol::ring::Hazards;

use crate::endpoint::Endpoint;
use crate::error::HoldError;
use crate::reading::Reading;

/// What a message that is held keeps: the hazards of its subscription, and the endpoint, so that the subscription is
/// given back only after it.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) hazards: Arc<Hazards<Mapped>>,
    pub(crate) endpoint: Arc<Endpoint>,
}

/// Where a payload is.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    /// In the consumer's buffer.
    Copied(&'a [u8]),
    /// Where its producer wrote it.
    InPlace(&'a ArenaView),
}

/// Where a message is in its stream.
///
/// ```
/// use ringway_client::Position;
///
/// let position = Position { partition: 3, position: 17 };
/// assert_eq!(position.to_string(), "3:17");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition's number.
    pub partition: u32,
    /// The message's number in the partition.
    pub position: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.partition, self.position)
    }
}

/// A message, as it is until the consumer is used again.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut consumer = connection.consumer("orders", "billing").open()?;
/// let message = consumer.recv()?;
/// println!("{}:{} {:?} {:?}", message.partition(), message.position(), message.key(), message.payload());
/// # Ok(())
/// # }
/// ```
pub struct Message<'a> {
    /// It is what this has found last.
    reading: &'a Reading,
    attributes: Option<AttributesView<'a>>,
    copied: OnceCell<Box<[u8]>>,
}

impl<'a> Message<'a> {
    /// What `reading` has found last.
    #[inline]
    pub(crate) fn new(reading: &'a Reading, attributes: Option<AttributesView<'a>>) -> Self {
        Self { reading, attributes, copied: OnceCell::new() }
    }

    /// The partition that it came from.
    #[inline]
    pub fn partition(&self) -> u32 {
        self.reading.partition()
    }

    /// Its position in its partition.
    #[inline]
    pub fn position(&self) -> u64 {
        self.reading.received().position
    }

    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        self.attributes.and_then(|attributes| attributes.key())
    }

    /// All that it says about itself.
    #[inline]
    pub fn attributes(&self) -> AttributesView<'_> {
        self.attributes.unwrap_or_default()
    }

    /// Its payload. One that is in place is copied by the first call: see [`view`](Self::view) for doing without.
    #[inline(always)]
    pub fn payload(&self) -> &[u8] {
        match self.reading.body() {
            Body::Copied(payload) => payload,
            Body::InPlace(view) => self.copied.get_or_init(|| copy(view)),
        }
    }

    /// Bytes of its payload.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        self.reading.received().payload_bytes()
    }

    /// Whether all of it was in its slot. One that was not is consumed for certain by the next call of its consumer,
    /// because its producer wants the memory back; others may be some calls later.
    #[inline]
    pub fn is_inline(&self) -> bool {
        !self.reading.received().is_in_arena()
    }

    /// Its payload where its producer wrote it; `None` when it was copied out already, as all that fit a slot are.
    #[inline]
    pub fn view(&self) -> Option<&ArenaView> {
        match self.reading.body() {
            Body::Copied(_) => None,
            Body::InPlace(view) => Some(view),
        }
    }

    /// Keeps the message beyond the next call of its consumer, on any thread, for any time. A payload that is in place
    /// stays there: a consumer holds at most 64 such messages. While one is held, the consumer's subscription
    /// is not given back.
    pub fn hold(&self) -> Result<HeldMessage, HoldError> {
        let body = match self.reading.body() {
            Body::Copied(payload) => HeldBody::Copied(payload.into()),
            Body::InPlace(view) => {
                let (view, keeper) = (view.clone(), self.reading.keeper().clone());
                let hazard = keeper.hazards.set(self.position()).ok_or(HoldError { held: HAZARDS_MAX })?;
                HeldBody::InPlace { view, copied: OnceLock::new(), hazard, keeper }
            }
        };
        Ok(self.held(body))
    }

    /// Keeps it in any case, for who cannot go on without: a payload that is in place is copied when its consumer holds
    /// as many as it can.
    pub(crate) fn into_held(self) -> HeldMessage {
        self.hold().unwrap_or_else(|_| self.held(HeldBody::Copied(self.payload().into())))
    }

    fn held(&self, body: HeldBody) -> HeldMessage {
        let attributes = self.attributes.map(|attributes| {
            let (flags, section) = attributes.parts();
            (flags, section.into())
        });
        HeldMessage { partition: self.partition(), position: self.position(), attributes, body }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (position, bytes) = (self.position(), self.payload_bytes());
        formatter.debug_struct("Message").field("position", &position).field("payload_bytes", &bytes).finish()
    }
}

/// A message that was kept by [`Message::hold`]. Its memory is given back when it is dropped.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connection = ringway_client::Connection::open("/run/ringway")?;
/// let mut consumer = connection.consumer("frames", "viewer").open()?;
/// let held = consumer.recv()?.hold()?;
/// consumer.recv()?; // The consumer goes on, and so may the message, on another thread.
/// std::thread::spawn(move || println!("{} bytes", held.payload().len()));
/// # Ok(())
/// # }
/// ```
pub struct HeldMessage {
    partition: u32,
    position: u64,
    /// Flags and section.
    attributes: Option<(u16, Box<[u8]>)>,
    body: HeldBody,
}

enum HeldBody {
    Copied(Box<[u8]>),
    InPlace { view: ArenaView, copied: OnceLock<Box<[u8]>>, hazard: usize, keeper: Keeper },
}

impl HeldMessage {
    /// The partition that it came from.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Its position in its partition.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        self.attributes().key()
    }

    /// All that it says about itself.
    pub fn attributes(&self) -> AttributesView<'_> {
        match &self.attributes {
            Some((flags, section)) => {
                AttributesView::parse(*flags, section).expect("they were parsed before")
            }
            None => AttributesView::default(),
        }
    }

    /// Its payload. One that is in place is copied by the first call: see [`view`](Self::view) for doing without.
    pub fn payload(&self) -> &[u8] {
        match &self.body {
            HeldBody::Copied(payload) => payload,
            HeldBody::InPlace { view, copied, .. } => copied.get_or_init(|| copy(view)),
        }
    }

    /// Its payload where its producer wrote it; `None` when it was copied.
    pub fn view(&self) -> Option<&ArenaView> {
        match &self.body {
            HeldBody::Copied(_) => None,
            HeldBody::InPlace { view, .. } => Some(view),
        }
    }
}

impl Drop for HeldMessage {
    fn drop(&mut self) {
        // In a forked child the hazard is the parent's, and its memory is not mapped.
        if let HeldBody::InPlace { hazard, keeper, .. } = &self.body
            && keeper.endpoint.session().fork().is_here()
        {
            keeper.hazards.clear(*hazard);
        }
    }
}

impl fmt::Debug for HeldMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HeldMessage").field("position", &self.position).finish_non_exhaustive()
    }
}

fn copy(view: &ArenaView) -> Box<[u8]> {
    let mut payload = vec![0; view.len()].into_boxed_slice();
    view.read(0, &mut payload);
    payload
}
