//! Which of an integration's events may be sent now. No I/O, no clock.
//!
//! Everybody stands in a line: an event of two people (an alias, or an event
//! with both ids) stands in two. Invariants:
//!
//! - An event is *ready* when it is the first in all of its lines, none of
//!   them has an event under way, and its pause is over.
//! - A batch takes ready events by their order of acceptance, and, behind
//!   them, those that stand next in their lines: one person's events travel
//!   together, in their order, and never in two batches at once.
//! - Whoever waits (for a pause, or for an event under way) makes only those
//!   wait who stand behind in the same line.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use analytics_spec::{AnyInput, Retries, Timestamp};

use crate::store::{Seq, Stored};

/// A person by hash: should two share one, they wait for each other, no more.
type Person = u64;

#[derive(Debug)]
struct Entry {
    input: Arc<AnyInput>,
    bytes: usize,
    people: Vec<Person>,
    retries: Retries,
    not_before: Option<Timestamp>,
    claimed: bool,
}

/// A person's events. The first `claimed` are under way, in one batch.
#[derive(Debug, Default)]
struct Line {
    events: VecDeque<Seq>,
    claimed: usize,
    batch: u64,
}

/// An event that a batch took.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) seq: Seq,
    pub(crate) input: Arc<AnyInput>,
    pub(crate) retries: Retries,
}

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    hasher: RandomState,
    entries: BTreeMap<Seq, Entry>,
    lines: HashMap<Person, Line>,
    ready: BTreeSet<Seq>,
    /// First in their lines, but for their pause.
    paused: BTreeSet<(Timestamp, Seq)>,
    batches: u64,
    bytes: usize,
    claimed: usize,
    claimed_bytes: usize,
}

impl Schedule {
    /// Takes an event; they come by their order of acceptance.
    pub(crate) fn push(&mut self, event: Stored) {
        let mut people: Vec<Person> = event
            .input
            .event
            .people()
            .map(|person| self.hasher.hash_one(person))
            .collect();
        people.sort_unstable();
        people.dedup();
        for person in &people {
            self.lines
                .entry(*person)
                .or_default()
                .events
                .push_back(event.seq);
        }
        self.bytes += event.bytes;
        let entry = Entry {
            input: event.input,
            bytes: event.bytes,
            people,
            retries: event.retries,
            not_before: event.not_before,
            claimed: false,
        };
        self.entries.insert(event.seq, entry);
        self.refresh(event.seq);
    }

    /// Whether nothing is left, also not under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The oldest event that is not settled.
    pub(crate) fn oldest(&self) -> Option<Seq> {
        self.entries.keys().next().copied()
    }

    /// The size of everything here.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events are not under way, and their size.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (
            self.entries.len() - self.claimed,
            self.bytes - self.claimed_bytes,
        )
    }

    /// Ends the pauses that are over.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        while let Some((until, seq)) = self.paused.first().copied() {
            if until > now {
                break;
            }
            self.paused.pop_first();
            self.ready.insert(seq);
        }
    }

    /// Whether something may be sent.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the next pause is over.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        self.paused.first().map(|(until, _)| *until)
    }

    /// Takes a batch: up to `max_items` events of together up to `max_bytes`,
    /// and at least one if any is ready.
    pub(crate) fn claim(
        &mut self,
        max_items: usize,
        max_bytes: usize,
        now: Timestamp,
    ) -> Vec<Claimed> {
        self.batches += 1;
        let batch = self.batches;
        let mut next: BinaryHeap<Reverse<Seq>> = BinaryHeap::new();
        let mut taken = Vec::new();
        let mut bytes = 0_usize;
        while taken.len() < max_items {
            let follower = next.peek().map(|Reverse(seq)| *seq);
            let seq = match (self.ready.first().copied(), follower) {
                (Some(ready), Some(follower)) => ready.min(follower),
                (Some(seq), None) | (None, Some(seq)) => seq,
                (None, None) => break,
            };
            let Some(entry) = self.entries.get_mut(&seq) else {
                break;
            };
            if !taken.is_empty() && bytes.saturating_add(entry.bytes) > max_bytes {
                break;
            }
            bytes += entry.bytes;
            entry.claimed = true;
            self.claimed += 1;
            self.claimed_bytes += entry.bytes;
            taken.push(Claimed {
                seq,
                input: Arc::clone(&entry.input),
                retries: entry.retries,
            });
            let people = entry.people.clone();
            if follower == Some(seq) {
                next.pop();
            } else {
                self.ready.remove(&seq);
            }
            for person in &people {
                if let Some(line) = self.lines.get_mut(person) {
                    line.claimed += 1;
                    line.batch = batch;
                }
            }
            for person in &people {
                let follower = self
                    .lines
                    .get(person)
                    .and_then(|line| line.events.get(line.claimed).copied());
                if let Some(follower) = follower
                    && self.may_follow(follower, batch, now)
                    && !next.iter().any(|Reverse(seq)| *seq == follower)
                {
                    next.push(Reverse(follower));
                }
            }
        }
        taken
    }

    /// Whether an event is the next in all of its lines, behind what this
    /// batch has taken.
    fn may_follow(&self, seq: Seq, batch: u64, now: Timestamp) -> bool {
        self.entries.get(&seq).is_some_and(|entry| {
            !entry.claimed
                && entry.not_before.is_none_or(|until| until <= now)
                && entry.people.iter().all(|person| {
                    self.lines.get(person).is_some_and(|line| {
                        line.events.get(line.claimed) == Some(&seq)
                            && (line.claimed == 0 || line.batch == batch)
                    })
                })
        })
    }

    /// An event under way has come to its end.
    pub(crate) fn settle(&mut self, seq: Seq) {
        let Some(entry) = self.entries.remove(&seq) else {
            return;
        };
        self.bytes -= entry.bytes;
        self.claimed -= 1;
        self.claimed_bytes -= entry.bytes;
        for person in &entry.people {
            if let Some(line) = self.lines.get_mut(person) {
                // It stands among the first few: those of its batch.
                if let Some(place) = line.events.iter().position(|other| *other == seq) {
                    line.events.remove(place);
                }
                line.claimed -= 1;
            }
        }
        self.release(&entry.people);
    }

    /// An event under way is to be tried again.
    pub(crate) fn retry(&mut self, seq: Seq, not_before: Timestamp, retries: Retries) {
        let Some(entry) = self.entries.get_mut(&seq) else {
            return;
        };
        entry.claimed = false;
        entry.not_before = Some(not_before);
        entry.retries = retries;
        self.claimed -= 1;
        self.claimed_bytes -= entry.bytes;
        let people = entry.people.clone();
        for person in &people {
            if let Some(line) = self.lines.get_mut(person) {
                line.claimed -= 1;
            }
        }
        if people.is_empty() {
            self.refresh(seq);
        }
        self.release(&people);
    }

    /// The lines' first events may be ready now.
    fn release(&mut self, people: &[Person]) {
        for person in people {
            match self
                .lines
                .get(person)
                .map(|line| line.events.front().copied())
            {
                Some(Some(first)) => self.refresh(first),
                Some(None) => {
                    self.lines.remove(person);
                }
                None => {}
            }
        }
    }

    /// Puts an event among the ready or the paused ones, if it is the first in
    /// all of its lines.
    fn refresh(&mut self, seq: Seq) {
        let Some(entry) = self.entries.get(&seq) else {
            return;
        };
        let is_first = !entry.claimed
            && entry.people.iter().all(|person| {
                self.lines
                    .get(person)
                    .is_some_and(|line| line.claimed == 0 && line.events.front() == Some(&seq))
            });
        if is_first {
            match entry.not_before {
                Some(until) => self.paused.insert((until, seq)),
                None => self.ready.insert(seq),
            };
        }
    }

    /// Everything that is not settled, with how often it was tried and whether
    /// it is under way.
    pub(crate) fn rest(&self) -> impl Iterator<Item = (&AnyInput, u32, bool)> {
        self.entries
            .values()
            .map(|entry| (&*entry.input, entry.retries.made, entry.claimed))
    }
}
