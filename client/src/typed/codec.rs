//! Codecs: what the bytes of a value are.

use ringway_shm_protocol::text::count;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What the bytes of a value of type `T` are. Both ends must agree on it, and on the type.
///
/// ```
/// use ringway_client::{Codec, CodecError};
///
/// /// Text as UTF-8.
/// struct Text;
///
/// impl Codec<String> for Text {
///     fn encode<'a>(value: &'a String, _: &'a mut Vec<u8>) -> Result<&'a [u8], CodecError> {
///         Ok(value.as_bytes())
///     }
///
///     fn decode(payload: &[u8]) -> Result<String, CodecError> {
///         String::from_utf8(payload.to_vec()).map_err(CodecError::other)
///     }
/// }
/// ```
pub trait Codec<T> {
    /// The payload of a value: its own bytes, or what was written into `buffer`, which is empty and keeps its memory from call
    /// to call.
    fn encode<'a>(value: &'a T, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], CodecError>;

    /// The value of a payload.
    fn decode(payload: &[u8]) -> Result<T, CodecError>;
}

/// The bytes of a value as they lie in memory: nothing is encoded. For types without padding and pointers, which `zerocopy`'s
/// derives check.
///
/// ```
/// use ringway_client::{Codec, Plain};
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
/// #[repr(C)]
/// struct Tick {
///     price: f64,
///     volume: u64,
/// }
///
/// let tick = Tick { price: 99.5, volume: 300 };
/// let payload = Plain::encode(&tick, &mut Vec::new())?.to_vec();
/// assert_eq!(<Plain as Codec<Tick>>::decode(&payload)?, tick);
/// assert!(<Plain as Codec<Tick>>::decode(&payload[1..]).is_err());
/// # Ok::<(), ringway_client::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl<T: FromBytes + IntoBytes + Immutable> Codec<T> for Plain {
    fn encode<'a>(value: &'a T, _: &'a mut Vec<u8>) -> Result<&'a [u8], CodecError> {
        Ok(value.as_bytes())
    }

    fn decode(payload: &[u8]) -> Result<T, CodecError> {
        T::read_from_bytes(payload).map_err(|_| CodecError::Size {
            of: std::any::type_name::<T>(),
            found: payload.len(),
            expected: size_of::<T>(),
        })
    }
}

/// Values of any type that `serde` knows, in the compact format of the `postcard` crate.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ringway_client::{Codec, Postcard};
///
/// let mut buffer = Vec::new();
/// let payload = <Postcard as Codec<(u32, String)>>::encode(&(7, "espresso".into()), &mut buffer)?.to_vec();
/// assert_eq!(<Postcard as Codec<(u32, String)>>::decode(&payload)?, (7, "espresso".to_owned()));
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "serde")]
#[derive(Clone, Copy, Debug)]
pub struct Postcard;

#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Postcard {
    fn encode<'a>(value: &'a T, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], CodecError> {
        let flavor = postcard::ser_flavors::io::WriteFlavor::new(&mut *buffer);
        postcard::serialize_with_flavor(value, flavor).map_err(CodecError::other)?;
        Ok(buffer)
    }

    fn decode(payload: &[u8]) -> Result<T, CodecError> {
        match postcard::take_from_bytes(payload).map_err(CodecError::other)? {
            (value, []) => Ok(value),
            (_, rest) => Err(CodecError::Rest { of: std::any::type_name::<T>(), bytes: rest.len() }),
        }
    }
}

/// Why a value has no payload, or a payload is no value.
///
/// ```
/// use ringway_client::{Codec, CodecError, Plain};
///
/// let decoded = <Plain as Codec<u64>>::decode(b"short");
/// assert!(matches!(decoded, Err(CodecError::Size { found: 5, expected: 8, .. })));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The payload has another size than the type.
    #[error(
        "the payload has {} instead of {expected}, the size of {of}: it was sent as another type",
        count(*.found as u64, "byte")
    )]
    Size {
        /// The type.
        of: &'static str,
        /// Bytes of the payload.
        found: usize,
        /// Bytes of the type.
        expected: usize,
    },
    /// The payload goes on behind the value.
    #[error("the payload has {} behind a {of}: it was sent as another type", count(*.bytes as u64, "byte"))]
    Rest {
        /// The type.
        of: &'static str,
        /// Bytes that are too many.
        bytes: usize,
    },
    /// What the codec says.
    #[error("{0}")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CodecError {
    /// The error of a codec.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}
