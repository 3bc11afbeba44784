//! The columns of the table of streams: what they show, how they sort, and which of them a narrow terminal does without.

use std::cmp::Ordering;

use super::app::most_first;
use super::model::StreamRow;
use crate::output::thousands;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Name,
    Kind,
    Durability,
    Published,
    Consumed,
    Held,
    Behind,
    Slowest,
    Producers,
    Consumers,
    Subscriptions,
}

impl Column {
    /// As they are shown.
    pub(crate) const ALL: [Self; 11] = [
        Self::Name,
        Self::Kind,
        Self::Durability,
        Self::Published,
        Self::Consumed,
        Self::Held,
        Self::Behind,
        Self::Slowest,
        Self::Producers,
        Self::Consumers,
        Self::Subscriptions,
    ];

    /// The most important first: a narrow terminal shows as many of these as there is room for.
    const BY_IMPORTANCE: [Self; 11] = [
        Self::Name,
        Self::Published,
        Self::Consumed,
        Self::Behind,
        Self::Held,
        Self::Slowest,
        Self::Consumers,
        Self::Producers,
        Self::Kind,
        Self::Durability,
        Self::Subscriptions,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Name => "STREAM",
            Self::Kind => "KIND",
            Self::Durability => "DURABLE",
            Self::Published => "IN/S",
            Self::Consumed => "OUT/S",
            Self::Held => "HELD",
            Self::Behind => "BEHIND",
            Self::Slowest => "SLOWEST",
            Self::Producers => "PRODUCERS",
            Self::Consumers => "CONSUMERS",
            Self::Subscriptions => "SUBS",
        }
    }

    /// Columns of the terminal.
    pub(crate) fn width(self) -> u16 {
        match self {
            Self::Name => 16,
            Self::Slowest => 14,
            Self::Published | Self::Consumed | Self::Held | Self::Behind => 11,
            Self::Producers | Self::Consumers => 9,
            Self::Durability => 7,
            Self::Kind => 5,
            Self::Subscriptions => 4,
        }
    }

    /// Flush right.
    pub(crate) fn is_number(self) -> bool {
        !matches!(self, Self::Name | Self::Kind | Self::Durability | Self::Slowest)
    }

    pub(crate) fn cell(self, row: &StreamRow) -> String {
        match self {
            Self::Name => row.name.clone(),
            Self::Kind => row.kind.to_owned(),
            Self::Durability => row.durability.to_owned(),
            Self::Published => per_second(row.published),
            Self::Consumed => per_second(row.consumed),
            Self::Held => thousands(row.held),
            Self::Behind => thousands(row.behind),
            Self::Slowest => row.slowest.clone(),
            Self::Producers => thousands(row.producers),
            Self::Consumers => row.consumers.map_or("-".to_owned(), thousands),
            Self::Subscriptions => thousands(row.subscriptions),
        }
    }

    /// Words in order, numbers from the most to the least.
    pub(crate) fn compare(self, one: &StreamRow, other: &StreamRow) -> Ordering {
        let number = |value: fn(&StreamRow) -> u64| value(other).cmp(&value(one));
        match self {
            Self::Name => one.name.to_lowercase().cmp(&other.name.to_lowercase()),
            Self::Kind => one.kind.cmp(other.kind),
            Self::Durability => one.durability.cmp(other.durability),
            Self::Slowest => one.slowest.cmp(&other.slowest),
            Self::Published => most_first(one.published, other.published),
            Self::Consumed => most_first(one.consumed, other.consumed),
            Self::Held => number(|row| row.held),
            Self::Behind => number(|row| row.behind),
            Self::Producers => number(|row| row.producers),
            Self::Consumers => number(|row| row.consumers.unwrap_or(0)),
            Self::Subscriptions => number(|row| row.subscriptions),
        }
    }

    /// The one so many to the right, around the end.
    pub(crate) fn neighbour(self, further: isize) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0) as isize;
        Self::ALL[(at + further).rem_euclid(Self::ALL.len() as isize) as usize]
    }

    /// Those that fit, as they are shown, one blank apart.
    pub(crate) fn fitting(width: u16) -> Vec<Self> {
        let mut left = width + 1;
        let fitting: Vec<Self> = Self::BY_IMPORTANCE
            .into_iter()
            .take_while(|column| {
                let rest = left.checked_sub(column.width() + 1);
                left = rest.unwrap_or(0);
                rest.is_some()
            })
            .collect();
        Self::ALL.into_iter().filter(|column| *column == Self::Name || fitting.contains(column)).collect()
    }
}

/// `-` stands for what is not known.
pub(crate) fn per_second(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), |rate| thousands(rate.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_shows_what_matters_most() {
        assert_eq!(Column::fitting(5), [Column::Name]);
        assert_eq!(Column::fitting(40), [Column::Name, Column::Published, Column::Consumed]);
        assert_eq!(Column::fitting(80).len(), 6);
        assert_eq!(Column::fitting(300), Column::ALL);
        for width in 0..300 {
            let columns = Column::fitting(width);
            let taken: u16 = columns.iter().map(|column| column.width() + 1).sum();
            assert!(columns.len() == 1 || taken <= width + 1, "{width}");
        }
    }
}
