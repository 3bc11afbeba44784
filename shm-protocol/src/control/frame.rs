//! The frame of every control message, and the messages that open a session.
//!
//! ```text
//! 0        4       6    8         12          16
//! │ "RWC1" │ version │ kind │ request │ body bytes │ body …
//! ```
//!
//! All integers are little-endian. `Hello`, `Welcome`, `Refused` and `Resumed` never change, in no version: they are how two
//! versions find out about each other. Every other body is [postcard] of [`message`](super::message).

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::PROTOCOL_VERSION;
use crate::text::count;

/// First bytes of every packet.
pub const MAGIC: [u8; 4] = *b"RWC1";
/// Largest packet, in bytes.
pub const PACKET_BYTES_MAX: usize = 64 * 1024;

/// What a packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Client's first packet: [`Hello`].
    Hello = 1,
    /// Broker's answer: [`Welcome`].
    Welcome = 2,
    /// Broker's last packet: why it ends the session, in UTF-8.
    Refused = 3,
    /// A request.
    Request = 4,
    /// The reply to a request.
    Reply = 5,
    /// From the broker's successor: a [`Welcome`] to the same session. What was not answered is to be asked again, under the
    /// same number.
    Resumed = 6,
}

/// The first 16 bytes of a packet.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// The sender's protocol version.
    pub version: u16,
    /// A [`Kind`].
    pub kind: u16,
    /// Number of the request; a reply bears the same.
    pub request: u32,
    /// Bytes of the body: all the rest of the packet.
    pub body_bytes: u32,
}

/// Opens a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Hello {
    /// Oldest protocol version that the client speaks.
    pub version_min: u16,
    /// Newest protocol version that the client speaks.
    pub version_max: u16,
    /// Zero.
    pub reserved: u32,
    /// Feature bits that the client must have.
    pub features_required: u64,
    /// Feature bits that the client can use.
    pub features_optional: u64,
}

/// Accepts a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Welcome {
    /// The protocol version that both will speak.
    pub version: u16,
    /// Number of shards.
    pub shards: u16,
    /// The broker's process id.
    pub broker_pid: u32,
    /// The session's number.
    pub session: u64,
    /// Feature bits in force.
    pub features: u64,
}

/// Why a packet is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Shorter than a header.
    #[error("a control packet of {bytes} bytes is too short: its header alone has 16")]
    Short {
        /// Bytes received.
        bytes: usize,
    },
    /// Larger than any packet may be.
    #[error("a control packet of more than {PACKET_BYTES_MAX} bytes is too large")]
    Large,
    /// Wrong first bytes.
    #[error(
        "a control packet must begin with \"RWC1\", this one begins with {found:02x?}: not a Ringway client?"
    )]
    Magic {
        /// First bytes received.
        found: [u8; 4],
    },
    /// A kind that this version does not know.
    #[error("control packets of kind {kind} are not known")]
    Kind {
        /// Kind received.
        kind: u16,
    },
    /// Another protocol version than agreed.
    #[error("this control packet speaks protocol version {found}, this session version {PROTOCOL_VERSION}")]
    Version {
        /// Version received.
        found: u16,
    },
    /// Truncated or with something behind its end.
    #[error("a control packet announces a body of {announced} bytes and has {found}")]
    Length {
        /// Bytes announced.
        announced: u32,
        /// Bytes there.
        found: usize,
    },
    /// The body is no message of its kind.
    #[error("the body of this control packet ({bytes} bytes) is no {what}: {detail}")]
    Body {
        /// What it should have been.
        what: &'static str,
        /// Bytes of the body.
        bytes: usize,
        /// What the decoder said.
        detail: String,
    },
}

/// A packet taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Number of the request.
    pub request: u32,
    /// The sender's protocol version.
    pub version: u16,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes a packet apart, checking everything but the version and the body.
    pub fn parse(packet: &'a [u8]) -> Result<Self, FrameError> {
        let Ok((header, body)) = Header::read_from_prefix(packet) else {
            return Err(FrameError::Short { bytes: packet.len() });
        };
        if header.magic != MAGIC {
            return Err(FrameError::Magic { found: header.magic });
        }
        if header.body_bytes as usize != body.len() {
            return Err(FrameError::Length { announced: header.body_bytes, found: body.len() });
        }
        let kind = match header.kind {
            1 => Kind::Hello,
            2 => Kind::Welcome,
            3 => Kind::Refused,
            4 => Kind::Request,
            5 => Kind::Reply,
            6 => Kind::Resumed,
            kind => return Err(FrameError::Kind { kind }),
        };
        Ok(Self { kind, request: header.request, version: header.version, body })
    }

    /// Reads the body as one of the fixed messages.
    pub fn fixed<T: FromBytes>(&self, what: &'static str) -> Result<T, FrameError> {
        let size = size_of::<T>();
        T::read_from_bytes(self.body).map_err(|_| FrameError::Body {
            what,
            bytes: self.body.len(),
            detail: format!("it must have {size} bytes"),
        })
    }

    /// Reads the body as a request or reply of this version.
    pub fn message<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, FrameError> {
        if self.version != PROTOCOL_VERSION {
            return Err(FrameError::Version { found: self.version });
        }
        let wrong = |detail: String| FrameError::Body { what, bytes: self.body.len(), detail };
        match postcard::take_from_bytes(self.body) {
            Ok((message, [])) => Ok(message),
            Ok((_, rest)) => {
                Err(wrong(format!("it goes on for {} behind its end", count(rest.len() as u64, "byte"))))
            }
            Err(error) => Err(wrong(error.to_string())),
        }
    }
}

/// Puts a packet together from a body.
pub fn packet(kind: Kind, request: u32, body: &[u8]) -> Vec<u8> {
    let header = Header {
        magic: MAGIC,
        version: PROTOCOL_VERSION,
        kind: kind as u16,
        request,
        body_bytes: body.len() as u32,
    };
    [header.as_bytes(), body].concat()
}

/// Puts a packet together from one of the fixed messages.
pub fn encode_fixed<T: IntoBytes + Immutable>(kind: Kind, request: u32, message: &T) -> Vec<u8> {
    packet(kind, request, message.as_bytes())
}

/// Puts a packet together from a message.
pub fn encode<T: Serialize>(kind: Kind, request: u32, message: &T) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_stdvec(message).map_err(|error| FrameError::Body {
        what: "message",
        bytes: 0,
        detail: error.to_string(),
    })?;
    let packet = packet(kind, request, &body);
    if packet.len() > PACKET_BYTES_MAX { Err(FrameError::Large) } else { Ok(packet) }
}
