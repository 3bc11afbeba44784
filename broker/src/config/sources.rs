//! Where settings are said: the file, the environment, the options; the last that names a key counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, KEYS, Key, Problem, Setting, Value};

/// What all our variables begin with.
const PREFIX: &str = "RINGWAY_";
/// What belongs to tests: they arm places to stop at, and tell their processes what to be.
const OF_TESTS: [&str; 2] = ["RINGWAY_TEST_", "RINGWAY_STOP"];
/// What is found is shown up to so many characters.
const SHOWN_MAX: usize = 60;

/// What there is to read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The environment. What does not begin with `RINGWAY_` is another program's.
    pub variables: Vec<(OsString, OsString)>,
    /// Options: names of keys, and values.
    pub flags: Vec<(&'static str, OsString)>,
    /// The broker's directory when nothing is said.
    pub directory_default: Option<PathBuf>,
    /// Where the journals are when neither the file nor an option names a directory.
    pub data_default: Option<PathBuf>,
}

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// In a variable of this name.
    Variable(String),
    /// By this option.
    Flag(String),
}

impl Origin {
    /// What kind of place it is, in one word.
    pub fn source(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File { .. } => "file",
            Self::Variable(_) => "environment",
            Self::Flag(_) => "flag",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(&shown(name)),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// Settings by the names of their keys.
type Said = BTreeMap<&'static str, Setting>;

impl Sources {
    /// All that is said and can be, and what is wrong.
    pub(super) fn read(&self) -> Result<(Said, Vec<Problem>), ConfigError> {
        let mut reader = Reader { said: Said::new(), problems: Vec::new() };
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
            reader.read_file(path, &text);
        }
        for (name, value) in &self.variables {
            let name = name.to_string_lossy();
            if name.starts_with(PREFIX) && !OF_TESTS.iter().any(|prefix| name.starts_with(prefix)) {
                reader.read_variable(&name, value);
            }
        }
        for (name, value) in &self.flags {
            let key = KEYS.iter().find(|key| key.name == *name).expect("options are made of the keys");
            reader.read_text(key, value, Origin::Flag(key.flag()));
        }
        Ok((reader.said, reader.problems))
    }
}

struct Reader {
    said: Said,
    problems: Vec<Problem>,
}

impl Reader {
    fn read_file(&mut self, path: &Path, text: &str) {
        let at = |offset: usize| {
            let line = 1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count();
            Origin::File { path: path.to_owned(), line }
        };
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let origin = at(error.span().map_or(0, |span| span.start));
                return self.wrong(origin, error.message().to_owned());
            }
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let origin = at(name.span().start);
            match KEYS.iter().find(|key| key.name == name.get_ref()) {
                Some(key) => self.read_toml(key, value, origin),
                None => {
                    let names = KEYS.iter().map(|key| key.name.to_owned());
                    let message = format!(
                        "unknown key {}: {}",
                        shown(name.get_ref()),
                        suggestion(name.get_ref(), names)
                    );
                    self.wrong(origin, message);
                }
            }
        }
    }

    fn read_toml(&mut self, key: &'static Key, value: &Spanned<DeValue<'_>>, origin: Origin) {
        match from_toml(value.get_ref()).filter(|value| key.kind.admits(value)) {
            Some(value) => self.set(key, value, origin),
            None => self.must_be(key, origin, &describe(value.get_ref())),
        }
    }

    fn read_variable(&mut self, name: &str, value: &OsString) {
        let origin = Origin::Variable(name.to_owned());
        match KEYS.iter().find(|key| key.variable() == name) {
            _ if value.is_empty() => {}
            Some(key) => self.read_text(key, value, origin),
            None => {
                let names = KEYS.iter().map(Key::variable);
                let suggestion = suggestion(name, names);
                let message =
                    format!("unknown variable: {suggestion} Unset it if it is not meant for the broker.");
                self.wrong(origin, message);
            }
        }
    }

    fn read_text(&mut self, key: &'static Key, value: &OsString, origin: Origin) {
        match value.to_str().and_then(|text| key.kind.read(text)) {
            Some(value) => self.set(key, value, origin),
            None => self.must_be(key, origin, &format!("\"{}\"", shown(&value.to_string_lossy()))),
        }
    }

    fn set(&mut self, key: &'static Key, value: Value, origin: Origin) {
        self.said.insert(key.name, Setting { key, value, origin });
    }

    fn must_be(&mut self, key: &Key, origin: Origin, found: &str) {
        self.wrong(origin, format!("{} must be {}, not {found}", key.name, key.kind));
    }

    fn wrong(&mut self, origin: Origin, message: String) {
        self.problems.push(Problem { origin, message });
    }
}

fn from_toml(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::Text(text.to_string())),
        DeValue::Integer(_) => number(value).map(Value::Number),
        DeValue::Array(items) => {
            items.iter().map(|item| number(item.get_ref())).collect::<Option<_>>().map(Value::Numbers)
        }
        _ => None,
    }
}

fn number(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// What a value of the file is, for an error.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{}\"", shown(text)),
        DeValue::Integer(number) => shown(&number.to_string()),
        DeValue::Float(number) => shown(&number.to_string()),
        DeValue::Boolean(is_true) => is_true.to_string(),
        DeValue::Array(items) => {
            let wrong = items.iter().map(toml::Spanned::get_ref).find(|item| !item.is_integer());
            match wrong {
                Some(item) => format!("a list with {}", describe(item)),
                None => {
                    let items = items.iter().map(|item| describe(item.get_ref())).collect::<Vec<_>>();
                    format!("[{}]", shown(&items.join(", ")))
                }
            }
        }
        other => format!("a {}", other.type_str()),
    }
}

/// What somebody has written, such that it fits a line and does nothing to a terminal.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The name that was probably meant instead of one that is not known, if any is near; else all.
fn suggestion(name: &str, known: impl Iterator<Item = String>) -> String {
    let known: Vec<String> = known.collect();
    let distance = |other: &String| strsim::osa_distance(&name.to_lowercase(), &other.to_lowercase());
    let near = known.iter().map(|other| (distance(other), other)).min();
    match near {
        // What all of them begin with makes none more alike.
        Some((distance, other)) if distance <= (other.trim_start_matches(PREFIX).len() / 3).max(2) => {
            format!("did you mean {other}?")
        }
        _ => format!("there are {}.", known.join(", ")),
    }
}
