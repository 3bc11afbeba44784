//! Numbers in texts for people.

/// A number with its thousands apart.
///
/// ```
/// assert_eq!(ringway_shm_protocol::text::thousands(10_080), "10,080");
/// ```
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, whose name is given as that of one.
///
/// ```
/// use ringway_shm_protocol::text::count;
///
/// assert_eq!(count(1, "message"), "1 message");
/// assert_eq!(count(10_080, "batch"), "10,080 batches");
/// ```
pub fn count(number: u64, thing: &str) -> String {
    let plural = match number {
        1 => "",
        _ if thing.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {thing}{plural}", thousands(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let grouped: Vec<_> = [0, 999, 1000, 10_080, 1_234_567].map(thousands).into();
        assert_eq!(grouped, ["0", "999", "1,000", "10,080", "1,234,567"]);
    }

    #[test]
    fn one_thing_is_not_many() {
        let counted: Vec<_> = [0, 1, 2].map(|number| count(number, "message")).into();
        assert_eq!(counted, ["0 messages", "1 message", "2 messages"]);
    }
}
