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
    duration(text)?.as_millis().try_into().map_err(|_| "the time must be below 49 days".to_owned())
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
        Some(("detach", time)) => {
            let after_ms = duration(time)?.as_millis().try_into();
            let after_ms = after_ms.map_err(|_| "the time must be below 49 days".to_owned())?;
            Ok(Overflow::Detach { after_ms })
        }
        _ => Err("it must be block, reject, drop-oldest or detach=TIME (detach=2s)".into()),
    }
}

pub(super) fn positions(text: &str) -> Result<std::ops::Range<u64>, String> {
    let number =
        |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?} is no position: {error}"));
    match text.split_once("..") {
        None => number(text).map(|position| position..position.saturating_add(1)),
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
