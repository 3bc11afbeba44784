//! The auditor's books: what every process said, and what must hold of it whoever died.

use std::collections::{BTreeMap, BTreeSet};

use super::worker::{QUEUE, TOPIC};

/// Number of a process in one round.
pub type Worker = usize;

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    /// What somebody was about to publish: stream, id.
    begun: BTreeSet<(String, u64)>,
    /// What was published: stream, id, position.
    published: BTreeMap<(String, u64), u64>,
    /// Deliveries of the queue: id, attempt, to whom.
    delivered: BTreeMap<u64, BTreeMap<u32, Worker>>,
    /// Successful acks: id, attempt.
    settled: BTreeMap<u64, Vec<u32>>,
    /// What was read of the topic: position, id.
    read: BTreeMap<u64, u64>,
    /// How far each has read.
    reading: BTreeMap<Worker, u64>,
    /// Dead letters: id, how many.
    dead: BTreeMap<u64, u32>,
    /// Who was killed: it may have done what it did not say.
    killed: BTreeSet<Worker>,
    faults: Vec<String>,
}

impl Ledger {
    /// Takes note of a line: see [`worker`](super::worker).
    pub fn hear(&mut self, worker: Worker, line: &str) {
        let parts: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<u64>().ok();
        let understood = match parts[..] {
            ["P", stream, id] => number(id).map(|id| {
                self.begun.insert((stream.to_owned(), id));
            }),
            ["C", stream, id, position] => number(id).zip(number(position)).map(|(id, position)| {
                self.published.insert((stream.to_owned(), id), position);
            }),
            ["D", id, attempt] => number(id).zip(number(attempt)).map(|(id, attempt)| {
                if let Some(other) = self.delivered.entry(id).or_default().insert(attempt as u32, worker) {
                    self.fault(format!("attempt {attempt} at {id} was given to {other} and to {worker}"));
                }
            }),
            ["S", id, attempt] => number(id).zip(number(attempt)).map(|(id, attempt)| {
                self.settled.entry(id).or_default().push(attempt as u32);
            }),
            ["O", id, position] => number(id).zip(number(position)).map(|(id, position)| {
                self.read(worker, id, position);
            }),
            _ => None,
        };
        if understood.is_none() {
            self.fault(format!("process {worker} said {line:?}"));
        }
    }

    fn read(&mut self, worker: Worker, id: u64, position: u64) {
        if let Some(before) = self.reading.insert(worker, position)
            && before >= position
        {
            self.fault(format!("process {worker} has read position {position} after {before}"));
        }
        if let Some(other) = self.read.insert(position, id)
            && other != id
        {
            self.fault(format!("position {position} was read as {other} and as {id}"));
        }
    }

    /// A message was found among the dead letters.
    pub fn found_dead(&mut self, id: Option<u64>) {
        match id {
            Some(id) => *self.dead.entry(id).or_default() += 1,
            None => self.fault("a dead letter is torn".to_owned()),
        }
    }

    /// This one was killed.
    pub fn killed(&mut self, worker: Worker) {
        self.killed.insert(worker);
    }

    /// Something is wrong.
    pub fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// How many messages were published, delivered, settled and read, and how many are dead.
    pub fn counts(&self) -> [usize; 5] {
        [
            self.published.len(),
            self.delivered.values().map(BTreeMap::len).sum(),
            self.settled.len(),
            self.read.len(),
            self.dead.len(),
        ]
    }

    /// Everything that is wrong, when nothing is left in the queue and all of the topic was read.
    pub fn close(mut self) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.faults);
        for stream in [QUEUE, TOPIC] {
            let mut by_position = BTreeMap::new();
            for ((of, id), position) in &self.published {
                if of == stream
                    && let Some(other) = by_position.insert(position, id)
                {
                    faults
                        .push(format!("{id} and {other} were published at position {position} of {stream}"));
                }
            }
        }
        self.audit_queue(&mut faults);
        self.audit_topic(&mut faults);
        faults
    }

    fn audit_queue(&self, faults: &mut Vec<String>) {
        let known = |id: &u64| self.begun.contains(&(QUEUE.to_owned(), *id));
        let none = BTreeMap::new();
        let attempts = |id: &u64| self.delivered.get(id).unwrap_or(&none);
        for id in self.delivered.keys().chain(self.dead.keys()).filter(|id| !known(id)) {
            faults.push(format!("{id} came out of the queue, and nobody has published it"));
        }
        for (id, settled) in &self.settled {
            let later =
                attempts(id).keys().filter(|attempt| settled.iter().any(|settled| *attempt > settled));
            if settled.len() > 1 {
                faults.push(format!("{id} was settled more than once: attempts {settled:?}"));
            }
            for attempt in later {
                faults.push(format!(
                    "{id} was settled at attempt {settled:?} and came again: attempt {attempt}"
                ));
            }
            if self.dead.contains_key(id) {
                faults.push(format!("{id} was settled at attempt {settled:?} and is dead"));
            }
        }
        for (id, times) in self.dead.iter().filter(|(_, times)| **times > 1) {
            faults.push(format!("{id} is {times} times among the dead letters"));
        }
        for (_, id) in self.published.keys().filter(|(stream, _)| stream == QUEUE) {
            let last = attempts(id).last_key_value();
            // Whoever was killed may have settled it before it could say so.
            let perhaps = last.is_some_and(|(_, worker)| self.killed.contains(worker));
            if !self.settled.contains_key(id) && !self.dead.contains_key(id) && !perhaps {
                faults.push(format!("{id} is lost: its deliveries were {:?}", attempts(id)));
            }
        }
    }

    fn audit_topic(&self, faults: &mut Vec<String>) {
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for (position, id) in &self.read {
            if !self.begun.contains(&(TOPIC.to_owned(), *id)) {
                faults.push(format!("{id} was read, and nobody has published it"));
            }
            // The upper half of an id is its producer's.
            if let Some(before) = last.insert(id >> 32, *id)
                && before >= *id
            {
                faults.push(format!("{id} follows {before} at position {position}"));
            }
        }
        for ((_, id), position) in self.published.iter().filter(|((stream, _), _)| stream == TOPIC) {
            match self.read.get(position) {
                Some(read) if read == id => {}
                Some(read) => faults.push(format!("{read} was read at position {position}, not {id}")),
                None => faults.push(format!("{id} at position {position} was not read")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(lines: &[(Worker, &str)], killed: &[Worker], dead: &[u64]) -> Vec<String> {
        let mut ledger = Ledger::default();
        lines.iter().for_each(|(worker, line)| ledger.hear(*worker, line));
        killed.iter().for_each(|worker| ledger.killed(*worker));
        dead.iter().for_each(|id| ledger.found_dead(Some(*id)));
        ledger.close()
    }

    const PUBLISHED: [(Worker, &str); 2] = [(0, "P q 1"), (0, "C q 1 0")];

    fn with(lines: &[(Worker, &str)], killed: &[Worker], dead: &[u64]) -> Vec<String> {
        faults(&[&PUBLISHED[..], lines].concat(), killed, dead)
    }

    #[test]
    fn what_is_settled_once_or_dead_once_is_right() {
        assert_eq!(with(&[(1, "D 1 1"), (1, "S 1 1")], &[], &[]), Vec::<String>::new());
        assert_eq!(with(&[(1, "D 1 1"), (2, "D 1 2"), (2, "S 1 2")], &[1], &[]), Vec::<String>::new());
        assert_eq!(with(&[(1, "D 1 1")], &[], &[1]), Vec::<String>::new());
        assert_eq!(with(&[(1, "D 1 1")], &[1], &[]), Vec::<String>::new(), "it may have settled it");
    }

    #[test]
    fn every_sort_of_fault_is_found() {
        for (lines, killed, dead, expected) in [
            (&[][..], &[][..], &[][..], "is lost"),
            (&[(1, "D 1 1"), (2, "D 1 2")], &[1], &[], "is lost"),
            (&[(1, "D 1 1"), (2, "D 1 1"), (2, "S 1 1")], &[], &[], "was given to 1 and to 2"),
            (&[(1, "D 1 1"), (1, "S 1 1"), (2, "D 1 2")], &[], &[], "came again"),
            (&[(1, "D 1 1"), (1, "S 1 1")], &[], &[1], "is dead"),
            (&[], &[], &[1, 1], "2 times among the dead"),
            (&[(1, "D 7 1"), (1, "S 7 1")], &[], &[1], "nobody has published it"),
            (&[(1, "D torn 1")], &[], &[1], "said"),
            (&[(0, "P q 2"), (0, "C q 2 0")], &[], &[1, 2], "were published at position 0"),
            (&[(0, "P t 2"), (0, "C t 2 0")], &[], &[1], "was not read"),
            (&[(0, "P t 2"), (0, "C t 2 0"), (1, "O 3 0")], &[], &[1], "3 was read at position 0, not 2"),
            (&[(0, "P t 2"), (0, "P t 3"), (1, "O 3 0"), (1, "O 2 1")], &[], &[1], "2 follows 3"),
            (&[(0, "P t 2"), (1, "O 2 4"), (1, "O 2 4")], &[], &[1], "after 4"),
        ] {
            let found = with(lines, killed, dead);
            assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:?}");
        }
    }
}
