//! Values of arguments that are no plain text or number.

use std::time::{Duration, SystemTime};

use clap::builder::{OsStringValueParser, TypedValueParser};
use ringway_client::Overflow;
use ringway_shm_protocol::name::Name;

/// A name is checked here, so that one that cannot be is a usage error that says what is wrong with it.
pub(super) fn name_parser() -> impl TypedValueParser<Value = Name> {
    OsStringValueParser::new().try_map(|text| Name::parse(text.as_encoded_bytes()))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 500ms, 2s or 1m30s"))
}

pub(super) fn milliseconds(text: &str) -> Result<u32, String> {
    let time = duration(text)?;
    if !time.is_zero() && time.as_millis() == 0 {
        return Err("the time must be 1ms at the least, or 0s".to_owned());
    }
    time.as_millis().try_into().map_err(|_| "the time must be below 49 days".to_owned())
}

/// How long it is from one look to the next.
pub(super) fn interval(text: &str, least: Duration) -> Result<Duration, String> {
    match duration(text)? {
        interval if interval < least => Err(format!("the interval is {least:?} at the least")),
        interval if interval > Duration::from_secs(3600) => Err("the interval is 1h at the most".to_owned()),
        interval => Ok(interval),
    }
}

/// A whole number, as large as its type allows.
pub(super) fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let most = u64::MAX >> (u64::BITS - 8 * size_of::<T>() as u32);
    let number = text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("it must be a whole number from 0 to {most}"))
}

/// In percent.
pub(super) fn factor(text: &str) -> Result<u32, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=100.0).contains(&factor) => Ok((factor * 100.0).round() as u32),
        _ => Err("the factor must be a number from 1 to 100".into()),
    }
}

pub(super) fn overflow(text: &str) -> Result<Overflow, String> {
    match text.split_once('=') {
        None if text == "block" => Ok(Overflow::Block),
        None if text == "reject" => Ok(Overflow::Reject),
        None if text == "drop-oldest" => Ok(Overflow::DropOldest),
        Some(("detach", time)) => Ok(Overflow::Detach { after_ms: milliseconds(time)? }),
        _ => Err("it must be block, reject, drop-oldest or detach=TIME (detach=2s)".into()),
    }
}

pub(super) fn positions(text: &str) -> Result<std::ops::Range<u64>, String> {
    match text.split_once("..") {
        None => number(text).map(|position: u64| position..position.saturating_add(1)),
        Some((first, "")) => number(first).map(|first| first..u64::MAX),
        Some((first, end)) => Ok(number(first)?..number(end)?),
    }
}

/// In nanoseconds since 1970.
pub(super) fn moment(text: &str) -> Result<u64, String> {
    let ago = || duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    let time = humantime::parse_rfc3339_weak(text).ok().or_else(ago);
    let since_1970 = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let since_1970 = since_1970.and_then(|since| u64::try_from(since.as_nanos()).ok());
    since_1970.ok_or_else(|| "write a time like 2026-01-31T12:00:00Z, or how long ago: 90s, 10m".to_owned())
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        _ => Err("the rate must be a number above 0".into()),
    }
}
