//! What is known of the messages of a stream, each of which is a number from 0 on.

/// Its producer was told that it is confirmed.
pub(super) const CONFIRMED: u8 = 1;
/// Somebody has got it.
pub(super) const DELIVERED: u8 = 2;
/// Who settled it was told that this is confirmed.
pub(super) const SETTLED: u8 = 4;

/// See the module.
#[derive(Default)]
pub(super) struct Books {
    /// By number: what of the above.
    known: Vec<u8>,
    /// Deliveries of what had been settled.
    pub(super) back: u64,
    /// Deliveries of what nobody has published.
    pub(super) torn: u64,
}

impl Books {
    /// This is so of these.
    pub(super) fn note(&mut self, numbers: impl IntoIterator<Item = u64>, what: u8) {
        for number in numbers {
            let index = number as usize;
            if index >= self.known.len() {
                self.known.resize(index + 1, 0);
            }
            self.known[index] |= what;
        }
    }

    /// A message was delivered; `None`: none that was published.
    pub(super) fn deliver(&mut self, number: Option<u64>) {
        let Some(number) = number else {
            self.torn += 1;
            return;
        };
        self.back += u64::from(self.known.get(number as usize).is_some_and(|known| known & SETTLED != 0));
        self.note([number], DELIVERED);
    }

    /// How many there are of which this is so.
    pub(super) fn count(&self, is_so: impl Fn(u8) -> bool) -> u64 {
        self.known.iter().filter(|known| is_so(**known)).count() as u64
    }
}
