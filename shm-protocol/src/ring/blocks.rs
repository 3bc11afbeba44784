//! Which blocks of a producer's arenas are free: private to the producer, and gone with it.
//!
//! ```text
//!          take                    publish                     reclaim
//! free ──────────▶ taken (a loan) ──────────▶ in flight (p) ──────────▶ free
//!   ▲                  │ dropped                    │ passed by every gate, and a hazard names p
//!   └──────────────────┘                            ▼
//!                                                  held ── no hazard names p any more ──▶ free
//! ```
//!
//! 1. A block is given out again only when nobody can read its message any more: every gate has passed it, no gate
//!    will join at it, and no hazard names its position. Which store makes that sure: see [`Room`] for the
//!    gates; a hazard is stored before the cursor that passes its message, so whoever sees the one sees the other.
//! 2. Where readers validate instead (a stream that drops its oldest), a block is given out again only when its
//!    message's slot says so: it is taken by a later message, or a tombstone.
//! 3. Blocks come in classes of sizes, four to each power of two, so that at most a fifth of one is unused. The last
//!    one freed is the first one taken: it is the one most likely in a cache.
//! 4. An arena of which every block is free is used anew from its start, or retired if a larger one is there.

use std::collections::VecDeque;

use super::message::ArenaBlock;
use super::room::Room;
use crate::layout::{BLOCK_ALIGN_BYTES, arena};
use crate::memory::Memory;

/// An empty arena larger than this is retired even if it is the largest, in bytes.
pub const KEPT_BYTES_MAX: u64 = 64 << 20;
/// Classes of block sizes: four to each power of two from 128 bytes.
const CLASSES: usize = 4 * 57;

/// What may be given up to free blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// Nothing that anybody could still ask for.
    Passed,
    /// Also the oldest messages that no subscription holds: one that joins later does not get them.
    Unheld,
}

/// A block that was taken: of a loan, or of a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    arena: u32,
    offset: u64,
    class: usize,
}

impl Taken {
    /// The block with `bytes` of a message in it. Panics when it is not so large.
    pub fn with(&self, bytes: usize) -> ArenaBlock {
        assert!(bytes as u64 <= class_bytes(self.class), "a block is too small for {bytes} bytes");
        ArenaBlock { arena: self.arena, offset: self.offset, bytes }
    }
}

/// One arena, as its producer sees it.
#[derive(Debug)]
struct Arena {
    id: u32,
    bytes: u64,
    /// Where the part begins that was never given out.
    unused_from: u64,
    /// Blocks that are not free.
    out: usize,
}

/// The blocks of a message that was published.
#[derive(Debug)]
struct Flight {
    position: u64,
    block: Taken,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Blocks {
    /// In the order of their sizes: the last is the largest.
    arenas: Vec<Arena>,
    free: Vec<Vec<Taken>>,
    in_flight: VecDeque<Flight>,
    held: Vec<Flight>,
    hazards: Vec<u64>,
}

impl Blocks {
    /// A producer's blocks before it has an arena.
    pub fn new() -> Self {
        Self { free: (0..CLASSES).map(|_| Vec::new()).collect(), ..Self::default() }
    }

    /// Adds an arena whose region has `bytes`.
    pub fn add_arena(&mut self, id: u32, bytes: u64) {
        let at = self.arenas.partition_point(|arena| arena.bytes <= bytes);
        self.arenas.insert(at, Arena { id, bytes, unused_from: arena::FIRST as u64, out: 0 });
    }

    /// Bytes of all arenas' regions.
    pub fn arenas_bytes(&self) -> u64 {
        self.arenas.iter().map(|arena| arena.bytes).sum()
    }

    /// Bytes that a region needs to hold one block of `bytes`.
    pub fn region_bytes(bytes: usize) -> u64 {
        arena::FIRST as u64 + class_bytes(class_of(bytes))
    }

    /// Bytes of the largest arena's region.
    pub fn largest_arena_bytes(&self) -> u64 {
        self.arenas.last().map_or(0, |arena| arena.bytes)
    }

    /// Parts of messages that are on their way: not known to be passed by every gate.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Takes a block of at least `bytes`; `None`: there is none free.
    pub fn take(&mut self, bytes: usize) -> Option<Taken> {
        let class = class_of(bytes);
        let block = self.free[class].pop().or_else(|| {
            let size = class_bytes(class);
            let arena = self.arenas.iter_mut().find(|arena| arena.bytes - arena.unused_from >= size)?;
            let offset = arena.unused_from;
            arena.unused_from += size;
            Some(Taken { arena: arena.id, offset, class })
        })?;
        self.arena(block.arena).out += 1;
        Some(block)
    }

    /// Gives back a block that was not published.
    pub fn give_back(&mut self, block: Taken) {
        self.arena(block.arena).out -= 1;
        self.free[block.class].push(block);
    }

    /// The block holds a part of the message that was published at `position`.
    pub fn published(&mut self, position: u64, block: Taken) {
        self.in_flight.push_back(Flight { position, block });
    }

    /// Frees the blocks of messages that nobody can read any more. The log has reached `end`. Without an error there
    /// may still be none: [`take`](Self::take) tells. Fails when a gate holds the oldest that is wanted, or when
    /// a gate's hazards are not known because it is not mapped.
    pub(super) fn reclaim<M: Memory>(
        &mut self,
        room: &mut Room<M>,
        end: u64,
        how: Reclaim,
    ) -> Result<(), super::PublishError> {
        if how == Reclaim::Unheld
            && !room.drops()
            && let Some(oldest) = self.in_flight.front()
        {
            room.give_up(end, oldest.position)?;
        }
        let retained_from = room.retained_from(end)?;
        if self.held.is_empty()
            && self.in_flight.front().is_none_or(|oldest| oldest.position >= retained_from)
        {
            return Ok(());
        }
        // After the gates: see invariant 1.
        self.hazards.clear();
        room.hazards(&mut self.hazards)?;
        while let Some(oldest) = self.in_flight.pop_front_if(|oldest| oldest.position < retained_from) {
            self.held.push(oldest);
        }
        let hazards = std::mem::take(&mut self.hazards);
        let free = self.held.extract_if(.., |flight| !hazards.contains(&flight.position)).collect::<Vec<_>>();
        self.hazards = hazards;
        for flight in free {
            self.give_back(flight.block);
        }
        Ok(())
    }

    /// Frees the blocks of the oldest message on its way, after `withdraw` has taken it back.
    pub(super) fn forget_oldest(&mut self, withdraw: impl FnOnce(u64)) {
        let Some(position) = self.in_flight.front().map(|oldest| oldest.position) else { return };
        withdraw(position);
        while let Some(flight) = self.in_flight.pop_front_if(|flight| flight.position == position) {
            self.give_back(flight.block);
        }
    }

    /// Uses empty arenas anew; returns the numbers of those to be retired.
    pub fn tidy(&mut self) -> Vec<u32> {
        let largest = self.largest_arena_bytes();
        let (mut empty, mut retired) = (Vec::new(), Vec::new());
        self.arenas.retain_mut(|arena| {
            if arena.out > 0 || arena.unused_from == self::arena::FIRST as u64 {
                return true;
            }
            empty.push(arena.id);
            arena.unused_from = self::arena::FIRST as u64;
            let retire = arena.bytes < largest || arena.bytes > KEPT_BYTES_MAX;
            if retire {
                retired.push(arena.id);
            }
            !retire
        });
        if !empty.is_empty() {
            for class in &mut self.free {
                class.retain(|block| !empty.contains(&block.arena));
            }
        }
        retired
    }

    fn arena(&mut self, id: u32) -> &mut Arena {
        self.arenas
            .iter_mut()
            .find(|arena| arena.id == id)
            .expect("an arena with blocks out is never retired")
    }
}

/// The smallest class whose blocks hold `bytes`.
fn class_of(bytes: usize) -> usize {
    let units = (bytes as u64).div_ceil(BLOCK_ALIGN_BYTES).max(1);
    let quarters = (units - 1).checked_ilog2().map_or(0, |top| top as usize);
    // Four classes between 2^quarters and twice that many units.
    let first = 4 * quarters;
    (first..).find(|class| class_bytes(*class) >= bytes as u64).expect("classes grow without end")
}

/// Bytes of a block of `class`, a multiple of [`BLOCK_ALIGN_BYTES`] from class 8 on, and below it at least what the
/// class before has.
const fn class_bytes(class: usize) -> u64 {
    let whole = BLOCK_ALIGN_BYTES << (class / 4);
    let bytes = whole + whole / 4 * (class % 4) as u64;
    bytes.next_multiple_of(BLOCK_ALIGN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_wastes_at_most_a_fifth_beyond_the_smallest_blocks() {
        for bytes in (1..100_000).chain([1 << 20, (1 << 20) + 1, 1 << 30]) {
            let size = class_bytes(class_of(bytes));
            assert!(size >= bytes as u64 && size.is_multiple_of(BLOCK_ALIGN_BYTES));
            assert!(bytes < 1024 || size as f64 <= 1.25 * bytes as f64 + 128.0, "{bytes} in {size}");
        }
        assert!(class_of(u32::MAX as usize) < CLASSES);
        assert_eq!(class_bytes(class_of(65_536)), 65_536);
        assert_eq!(class_bytes(class_of(1 << 20)), 1 << 20);
    }

    #[test]
    fn blocks_of_one_arena_never_overlap_and_come_back_last_in_first_out() {
        let mut blocks = Blocks::new();
        assert_eq!(blocks.take(100), None, "no arena yet");
        blocks.add_arena(7, Blocks::region_bytes(1000) + 512);
        let (one, two) = (blocks.take(1000).unwrap(), blocks.take(500).unwrap());
        assert_eq!((one.offset, two.offset), (4096, 4096 + 1024));
        assert_eq!(blocks.take(500), None, "the arena is full");
        blocks.give_back(one);
        blocks.give_back(two);
        assert_eq!(blocks.take(500).unwrap().offset, 4096 + 1024);
    }

    #[test]
    fn an_empty_arena_is_used_anew_and_a_small_one_is_retired() {
        let mut blocks = Blocks::new();
        blocks.add_arena(1, 8192);
        let first = blocks.take(4096).unwrap();
        blocks.add_arena(2, 16_384);
        let second = blocks.take(8192).unwrap();
        assert_eq!((first.arena, second.arena), (1, 2));
        assert_eq!(blocks.tidy(), [0; 0], "both are in use");
        blocks.give_back(second);
        assert_eq!(blocks.tidy(), [0; 0], "the largest stays");
        assert_eq!(blocks.take(12_288).unwrap(), Taken { arena: 2, offset: 4096, class: class_of(12_288) });
        blocks.give_back(first);
        assert_eq!(blocks.tidy(), [1]);
        assert_eq!(blocks.arenas_bytes(), 16_384);
    }

    #[test]
    fn a_huge_arena_is_retired_when_it_is_empty() {
        let mut blocks = Blocks::new();
        blocks.add_arena(1, KEPT_BYTES_MAX + 1);
        let block = blocks.take(5).unwrap();
        blocks.give_back(block);
        assert_eq!(blocks.tidy(), [1]);
        assert_eq!(blocks.arenas_bytes(), 0);
    }
}
