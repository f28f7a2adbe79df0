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
//! - Who pauses for long can be sent *away*, with everything behind: what is
//!   known of them is from which event on, through which one, and until when.
//!   What comes of them meanwhile is not taken either. When their time has
//!   come, all of it has to be taken again, in its order.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    ops::{AddAssign, SubAssign},
    time::Duration,
};

use analytics_spec::{Retries, Timestamp};

use crate::{
    by_seq::BySeq,
    store::{Body, People, Seq, Stored},
};

/// A person by hash: should two share one, they wait for each other, no more.
type Person = u64;

/// Hashes what is a hash already, but for those of nobody.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }
}

/// By person.
type ByPerson<T> = HashMap<Person, T, BuildHasherDefault<Hashed>>;

#[derive(Debug)]
struct Entry {
    body: Body,
    bytes: usize,
    weight: usize,
    accepted_at: Timestamp,
    people: People,
    retries: Retries,
    not_before: Option<Timestamp>,
    is_claimed: bool,
    is_ready: bool,
}

/// A person's events. The first `claimed` are under way, in one batch.
#[derive(Debug, Default)]
struct Line {
    events: VecDeque<Seq>,
    claimed: usize,
    batch: u64,
    /// The first event is ready.
    is_open: bool,
    /// How much the line holds, without events that are counted in another.
    load: Load,
}

/// What an event takes in memory, about.
fn weight(body: &Body, bytes: usize) -> usize {
    const ENTRY: usize = 256;
    let body = match body {
        Body::Loaded(loaded) => loaded.weight(),
        Body::Json(_) => bytes,
    };
    body.saturating_add(ENTRY)
}

/// A number of events, and their size together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

impl Load {
    fn of(entry: &Entry) -> Self {
        Self {
            items: 1,
            bytes: entry.bytes,
        }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.items += other.items;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.items -= other.items;
        self.bytes -= other.bytes;
    }
}

/// An event that a batch took.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) seq: Seq,
    pub(crate) body: Body,
    pub(crate) people: People,
    pub(crate) accepted_at: Timestamp,
    pub(crate) retries: Retries,
}

/// So many empty lines are kept, of room for so many events: most lines come and
/// go with one.
const SPARE: usize = 256;
const SPARE_ROOM: usize = 8;

/// Among so many people, those who are away with somebody are looked for.
const RECALLED_BESIDE: usize = 1000;

/// Somebody whose events are left to the store.
#[derive(Clone, Copy, Debug)]
struct Away {
    from: Seq,
    /// The last that is known of.
    through: Seq,
    until: Timestamp,
}

/// How much a batch may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<F> {
    pub(crate) max_items: usize,
    pub(crate) max_bytes: usize,
    /// In how large a batch an event may be, by what came of it so far.
    pub(crate) share: F,
}

#[derive(Debug, Default)]
pub(crate) struct Schedule {
    entries: BySeq<Entry>,
    lines: ByPerson<Line>,
    /// Room of lines that are no more, for the next ones.
    spare: Vec<VecDeque<Seq>>,
    /// Every ready event, and some that are so no more.
    ready: BinaryHeap<Reverse<Seq>>,
    /// How many are.
    ready_now: usize,
    /// First in their lines, but for their pause.
    paused: BTreeSet<(Timestamp, Seq)>,
    batches: u64,
    bytes: usize,
    /// What it takes in memory, about.
    weight: usize,
    /// What stands in open lines.
    open: Load,
    away: ByPerson<Away>,
    away_from: BTreeSet<(Seq, Person)>,
    away_until: BTreeSet<(Timestamp, Person)>,
    /// How many events and lines were looked at.
    #[cfg(test)]
    looks: std::cell::Cell<u64>,
}

impl Schedule {
    /// Counts what grows with the schedule, if anything does.
    #[cfg(test)]
    fn look(&self, times: usize) {
        self.looks.set(self.looks.get() + times as u64);
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "only tests count")]
    fn look(&self, _: usize) {}

    /// Takes an event; they come by their order of acceptance. One that is
    /// here, or whose people are away, is left.
    pub(crate) fn push(&mut self, event: Stored) {
        if self.entries.contains(event.seq) {
            return;
        }
        let mut people = event.people;
        if people.is_empty() {
            // Of nobody: a line of its own.
            people.push(!event.seq);
        }
        people.sort_unstable();
        people.dedup();
        self.look(1);
        if self.stays_away(event.seq, &people) {
            return;
        }
        let entry = Entry {
            weight: weight(&event.body, event.bytes),
            body: event.body,
            bytes: event.bytes,
            accepted_at: event.accepted_at,
            people,
            retries: event.retries,
            not_before: event.not_before,
            is_claimed: false,
            is_ready: false,
        };
        self.bytes += entry.bytes;
        self.weight += entry.weight;
        for (place, person) in entry.people.iter().enumerate() {
            let line = self.lines.entry(*person).or_insert_with(|| Line {
                events: self.spare.pop().unwrap_or_default(),
                ..Line::default()
            });
            line.events.push_back(event.seq);
            if place == 0 {
                line.load += Load::of(&entry);
                if line.is_open {
                    self.open += Load::of(&entry);
                }
            }
        }
        self.entries.insert(event.seq, entry);
        self.refresh(event.seq);
    }

    /// Whether an event has to wait until somebody is back; then so do all of
    /// its people, from here on.
    fn stays_away(&mut self, seq: Seq, people: &[Person]) -> bool {
        let until = people.iter().filter_map(|person| self.away.get(person));
        let Some(until) = until.map(|away| away.until).max() else {
            return false;
        };
        for person in people {
            self.send_away(*person, seq, seq, until);
        }
        true
    }

    /// Leaves somebody's events to the store, from one on. The first of them
    /// says until when.
    fn send_away(&mut self, person: Person, from: Seq, mut through: Seq, until: Timestamp) {
        if let Some(away) = self.away.get_mut(&person) {
            away.through = away.through.max(through);
            if away.from <= from {
                return;
            }
            through = away.through;
            self.away_from.remove(&(away.from, person));
            self.away_until.remove(&(away.until, person));
        }
        self.away_from.insert((from, person));
        self.away_until.insert((until, person));
        let away = Away {
            from,
            through,
            until,
        };
        self.away.insert(person, away);
    }

    /// Sends those away who pause longest, until no more than `weight` is
    /// here. By the end of a pause, `back_at` says when they are to be back;
    /// none, if whoever pauses no longer than that stays.
    pub(crate) fn evict(
        &mut self,
        weight: usize,
        back_at: impl Fn(Timestamp) -> Option<Timestamp>,
    ) {
        while self.weight > weight {
            let Some((until, seq)) = self.paused.last().copied() else {
                return;
            };
            let Some(until) = back_at(until) else {
                return;
            };
            let Some(entry) = self.entries.get(seq) else {
                return;
            };
            let mut from: Vec<_> = entry.people.iter().map(|person| (*person, seq)).collect();
            while let Some((person, seq)) = from.pop() {
                let behind: Vec<_> = self.lines.get(&person).map_or_else(Vec::new, |line| {
                    let place = line.events.partition_point(|other| *other < seq);
                    line.events.range(place..).copied().collect()
                });
                let through = behind.last().copied().unwrap_or(seq);
                self.send_away(person, seq, through, until);
                self.look(behind.len());
                for seq in behind {
                    if let Some(entry) = self.remove(seq) {
                        // Its other people's next events come after it.
                        from.extend(entry.people.into_iter().map(|person| (person, seq)));
                    }
                }
            }
        }
    }

    /// One of those whose time has come is back: from which event through which
    /// one everything has to be taken again, before what comes behind.
    pub(crate) fn back(&mut self, now: Timestamp) -> Option<(Seq, Seq)> {
        let (until, person) = self.away_until.first().copied()?;
        if until > now {
            return None;
        }
        self.call_back(person)
    }

    /// Events of somebody were erased, up to one: they are back before their
    /// time, and so are those who went with them, for nothing may be left to
    /// wait for. What has to be taken again, as by [`back`](Self::back).
    pub(crate) fn recall(&mut self, person: Person, through: Seq) -> Vec<(Seq, Seq)> {
        let first = self.away.get(&person).filter(|away| away.from <= through);
        let Some(first) = first.copied() else {
            return Vec::new();
        };
        let range = (first.from, 0)..=(first.through, Person::MAX);
        // Most who went with them did so at the same event.
        let beside = self.away_from.range(range).take(RECALLED_BESIDE);
        let beside = beside.filter(|(_, person)| {
            let away = self.away.get(person);
            away.is_some_and(|away| away.until == first.until)
        });
        let beside: Vec<_> = beside.map(|(_, person)| *person).collect();
        let back = [person].into_iter().chain(beside);
        back.filter_map(|person| self.call_back(person)).collect()
    }

    /// Somebody is back, as by [`back`](Self::back), before the time has come.
    fn call_back(&mut self, person: Person) -> Option<(Seq, Seq)> {
        self.look(1);
        let away = self.away.remove(&person)?;
        self.away_until.remove(&(away.until, person));
        self.away_from.remove(&(away.from, person));
        Some((away.from, away.through))
    }

    /// The clock was set back: every pause ends earlier by as much.
    pub(crate) fn set_back(&mut self, step: Duration) {
        let earlier = |until: Timestamp| until.checked_sub(step).unwrap_or(Timestamp::MIN);
        for entry in self.entries.values_mut() {
            entry.not_before = entry.not_before.map(earlier);
        }
        for away in self.away.values_mut() {
            away.until = earlier(away.until);
        }
        let paused = std::mem::take(&mut self.paused).into_iter();
        self.paused = paused.map(|(until, seq)| (earlier(until), seq)).collect();
        let away = std::mem::take(&mut self.away_until).into_iter();
        self.away_until = away.map(|(until, who)| (earlier(until), who)).collect();
    }

    /// How many people are away.
    pub(crate) fn away(&self) -> usize {
        self.away.len()
    }

    /// Forgets events that are not under way, and gives them out; tells those
    /// that are.
    pub(crate) fn erase(
        &mut self,
        is_erased: impl Fn(Seq, &[Person], &Body) -> bool,
    ) -> (Vec<Claimed>, Vec<Seq>) {
        let of_user =
            |(seq, entry): (Seq, &Entry)| is_erased(seq, &entry.people, &entry.body).then_some(seq);
        let seqs: Vec<_> = self.entries.iter().filter_map(of_user).collect();
        let mut erased = Vec::new();
        let mut under_way = Vec::new();
        for seq in seqs {
            if self.entries.get(seq).is_some_and(|entry| entry.is_claimed) {
                under_way.push(seq);
                continue;
            }
            self.take_ready(seq);
            if let Some(entry) = self.remove(seq) {
                self.release(&entry.people);
                erased.push(Claimed {
                    seq,
                    body: entry.body,
                    people: entry.people,
                    accepted_at: entry.accepted_at,
                    retries: entry.retries,
                });
            }
        }
        (erased, under_way)
    }

    /// Takes out an event that is neither ready nor under way.
    fn remove(&mut self, seq: Seq) -> Option<Entry> {
        let entry = self.entries.remove(seq)?;
        self.bytes -= entry.bytes;
        self.weight -= entry.weight;
        if let Some(until) = entry.not_before {
            self.paused.remove(&(until, seq));
        }
        for (place, person) in entry.people.iter().enumerate() {
            let Some(line) = self.lines.get_mut(person) else {
                continue;
            };
            if place == 0 {
                line.load -= Load::of(&entry);
                if line.is_open {
                    self.open -= Load::of(&entry);
                }
            }
            if let Ok(place) = line.events.binary_search(&seq) {
                line.events.remove(place);
            }
            if line.events.is_empty() {
                self.end_line(*person);
            }
        }
        Some(entry)
    }

    /// Nobody stands in a line any more.
    fn end_line(&mut self, person: Person) {
        if let Some(line) = self.lines.remove(&person)
            && self.spare.len() < SPARE
            && line.events.capacity() <= SPARE_ROOM
        {
            self.spare.push(line.events);
        }
    }

    /// Whether nothing is left, also not under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.away.is_empty()
    }

    /// Whether an event is here, also under way.
    pub(crate) fn contains(&self, seq: Seq) -> bool {
        self.entries.contains(seq)
    }

    /// Whose an event is that is here.
    pub(crate) fn people(&self, seq: Seq) -> People {
        let entry = self.entries.get(seq);
        entry.map_or_else(People::new, |entry| entry.people.clone())
    }

    /// How many events are here, also those under way.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The oldest event that is not settled.
    pub(crate) fn oldest(&self) -> Option<Seq> {
        let here = self.entries.first().map(|(seq, _)| seq);
        let away = self.away_from.first().map(|(from, _)| *from);
        here.into_iter().chain(away).min()
    }

    /// What everything here takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// The size of everything here.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// About how much could be sent now. An event of two people is counted
    /// with one of them.
    pub(crate) fn open(&self) -> Load {
        self.open
    }

    /// Ends the pauses that are over.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        while let Some((until, seq)) = self.paused.first().copied() {
            if until > now {
                break;
            }
            self.look(1);
            self.paused.pop_first();
            self.make_ready(seq);
        }
    }

    /// Whether something may be sent.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready_now > 0
    }

    fn first_ready(&mut self) -> Option<Seq> {
        while let Some(Reverse(seq)) = self.ready.peek().copied() {
            if self.entries.get(seq).is_some_and(|entry| entry.is_ready) {
                return Some(seq);
            }
            self.ready.pop();
        }
        None
    }

    /// When the next pause is over.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        let paused = self.paused.first().map(|(until, _)| *until);
        let away = self.away_until.first().map(|(until, _)| *until);
        paused.into_iter().chain(away).min()
    }

    /// Takes a batch: up to `max_items` events of together up to `max_bytes`,
    /// and at least one if any is ready.
    pub(crate) fn claim(
        &mut self,
        limits: &Limits<impl Fn(&Retries) -> usize>,
        now: Timestamp,
    ) -> Vec<Claimed> {
        let mut max_items = limits.max_items;
        self.batches += 1;
        let batch = self.batches;
        let mut followers = BinaryHeap::new();
        let mut taken = Vec::with_capacity(max_items.min(self.entries.len()));
        let mut bytes = 0_usize;
        while taken.len() < max_items {
            let follower = followers.peek().map(|Reverse(seq)| *seq);
            let Some(seq) = self.first_ready().into_iter().chain(follower).min() else {
                break;
            };
            let Some(entry) = self.entries.get_mut(seq) else {
                break;
            };
            let share = (limits.share)(&entry.retries).max(1);
            let is_too_much = bytes.saturating_add(entry.bytes) > limits.max_bytes;
            if !taken.is_empty() && (is_too_much || taken.len() >= share) {
                break;
            }
            max_items = max_items.min(share);
            bytes = bytes.saturating_add(entry.bytes);
            entry.is_claimed = true;
            taken.push(Claimed {
                seq,
                body: entry.body.clone(),
                people: entry.people.clone(),
                accepted_at: entry.accepted_at,
                retries: entry.retries,
            });
            let people = entry.people.clone();
            self.look(1 + people.len());
            self.take_ready(seq);
            // An event of two people may follow in both of their lines.
            while followers.peek() == Some(&Reverse(seq)) {
                followers.pop();
            }
            for person in &people {
                if let Some(line) = self.lines.get_mut(person) {
                    line.claimed += 1;
                    line.batch = batch;
                }
            }
            for person in &people {
                let next = self
                    .lines
                    .get(person)
                    .and_then(|line| line.events.get(line.claimed).copied());
                let next = next.filter(|next| self.may_follow(*next, batch, now));
                followers.extend(next.map(Reverse));
            }
        }
        taken
    }

    /// Whether an event is the next in all of its lines, behind what this
    /// batch has taken.
    fn may_follow(&self, seq: Seq, batch: u64, now: Timestamp) -> bool {
        self.entries.get(seq).is_some_and(|entry| {
            !entry.is_claimed
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
        let Some(entry) = self.entries.remove(seq) else {
            return;
        };
        self.bytes -= entry.bytes;
        self.weight -= entry.weight;
        let mut looks = 0;
        for (place, person) in entry.people.iter().enumerate() {
            if let Some(line) = self.lines.get_mut(person) {
                if place == 0 {
                    line.load -= Load::of(&entry);
                }
                // It stands among the first few: those of its batch.
                if let Some(place) = line.events.iter().position(|other| *other == seq) {
                    looks += place + 1;
                    line.events.remove(place);
                }
                line.claimed -= 1;
            }
        }
        self.look(looks);
        self.release(&entry.people);
    }

    /// An event under way is to be tried again.
    pub(crate) fn retry(&mut self, seq: Seq, not_before: Timestamp, retries: Retries) {
        let Some(entry) = self.entries.get_mut(seq) else {
            return;
        };
        entry.is_claimed = false;
        entry.not_before = Some(not_before);
        entry.retries = retries;
        let people = entry.people.clone();
        for person in &people {
            if let Some(line) = self.lines.get_mut(person) {
                line.claimed -= 1;
            }
        }
        self.release(&people);
    }

    /// The lines' first events may be ready now.
    fn release(&mut self, people: &[Person]) {
        for person in people {
            self.look(1);
            match self
                .lines
                .get(person)
                .map(|line| line.events.front().copied())
            {
                Some(Some(first)) => self.refresh(first),
                Some(None) => self.end_line(*person),
                None => {}
            }
        }
    }

    /// Puts an event among the ready or the paused ones, if it is the first in
    /// all of its lines.
    fn refresh(&mut self, seq: Seq) {
        let Some(entry) = self.entries.get(seq) else {
            return;
        };
        self.look(1 + entry.people.len());
        if entry.is_ready {
            return;
        }
        let is_first = !entry.is_claimed
            && entry.people.iter().all(|person| {
                self.lines
                    .get(person)
                    .is_some_and(|line| line.claimed == 0 && line.events.front() == Some(&seq))
            });
        if is_first {
            match entry.not_before {
                Some(until) => {
                    self.paused.insert((until, seq));
                }
                None => self.make_ready(seq),
            }
        }
    }

    /// Puts an event among the ready ones: its lines are open now.
    fn make_ready(&mut self, seq: Seq) {
        self.look(1);
        let Some(entry) = self.entries.get_mut(seq).filter(|entry| !entry.is_ready) else {
            return;
        };
        entry.is_ready = true;
        self.ready_now += 1;
        self.ready.push(Reverse(seq));
        for person in &entry.people {
            if let Some(line) = self.lines.get_mut(person) {
                line.is_open = true;
                self.open += line.load;
            }
        }
    }

    /// Takes an event from among the ready ones, if it is one: nobody else is
    /// ready in its lines.
    fn take_ready(&mut self, seq: Seq) {
        let Some(entry) = self.entries.get_mut(seq).filter(|entry| entry.is_ready) else {
            return;
        };
        entry.is_ready = false;
        self.ready_now -= 1;
        for person in &entry.people {
            if let Some(line) = self.lines.get_mut(person) {
                line.is_open = false;
                self.open -= line.load;
            }
        }
    }

    /// Everything that is here, with how often it was tried and whether
    /// it is under way.
    pub(crate) fn rest(&self) -> impl Iterator<Item = (Seq, &Body, u32, bool)> {
        self.entries
            .iter()
            .map(|(seq, entry)| (seq, &entry.body, entry.retries.made, entry.is_claimed))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
        sync::Arc,
    };

    use analytics_spec::{Alias, AnyEvent, Event as _, Identify, Input, Track};
    use proptest::prelude::*;

    use super::*;
    use crate::store::Loaded;

    const NO_LIMIT: usize = usize::MAX;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn tried(made: u32) -> Retries {
        let mut retries = Retries::new();
        retries.made = made;
        retries
    }

    fn stored(seq: Seq, event: AnyEvent) -> Stored {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let people = event.people().map(|p| hasher.hash_one(p)).collect();
        Stored::new(
            seq,
            people,
            Body::Loaded(Arc::new(Loaded::new(Input::new(event)))),
            10,
            at(0),
        )
    }

    fn of(user: &str) -> AnyEvent {
        Track::new("e").user_id(user).into_any()
    }

    fn schedule(events: impl IntoIterator<Item = AnyEvent>) -> Schedule {
        let mut schedule = Schedule::default();
        for (seq, event) in (1..).zip(events) {
            schedule.push(stored(seq, event));
        }
        schedule
    }

    /// What was tried three times goes alone.
    fn share(retries: &Retries) -> usize {
        if retries.made >= 3 { 1 } else { NO_LIMIT }
    }

    fn limits(max_items: usize, max_bytes: usize) -> Limits<impl Fn(&Retries) -> usize> {
        Limits {
            max_items,
            max_bytes,
            share,
        }
    }

    fn claim(schedule: &mut Schedule, max_items: usize) -> Vec<Seq> {
        claim_at(schedule, max_items, 0)
    }

    fn claim_at(schedule: &mut Schedule, max_items: usize, now: i64) -> Vec<Seq> {
        schedule.wake(at(now));
        let batch = schedule.claim(&limits(max_items, NO_LIMIT), at(now));
        batch.into_iter().map(|claimed| claimed.seq).collect()
    }

    #[test]
    fn one_persons_events_travel_together_and_never_in_two_batches() {
        let mut schedule = schedule([of("a"), of("a"), of("a"), of("b")]);
        assert_eq!(claim(&mut schedule, 2), [1, 2]);
        assert_eq!(claim(&mut schedule, 9), [4], "3 is behind 1 and 2");
        assert!(!schedule.is_ready());
        schedule.settle(1);
        assert!(!schedule.is_ready(), "2 is still under way");
        schedule.settle(2);
        assert_eq!(claim(&mut schedule, 9), [3]);
        assert_eq!(schedule.oldest(), Some(3));
        schedule.settle(3);
        schedule.settle(4);
        assert!(schedule.is_empty());
        assert_eq!((schedule.bytes(), schedule.open()), (0, Load::default()));
        assert!(schedule.lines.is_empty(), "nobody is remembered for ever");
    }

    #[test]
    fn an_alias_waits_for_both_and_both_wait_for_it() {
        let alias = Alias::new("a", "b").into_any();
        let mut schedule = schedule([of("a"), of("b"), alias, of("a"), of("b"), of("c")]);
        assert_eq!(claim(&mut schedule, 1), [1]);
        assert_eq!(claim(&mut schedule, 9), [2, 6]);
        schedule.settle(1);
        assert!(!schedule.is_ready(), "b is under way");
        schedule.settle(2);
        assert_eq!(claim(&mut schedule, 9), [3, 4, 5]);
    }

    #[test]
    fn who_pauses_makes_only_the_own_line_wait() {
        let mut schedule = schedule([of("a"), of("a"), of("b")]);
        assert_eq!(claim(&mut schedule, 1), [1]);
        schedule.retry(1, at(1000), tried(1));
        assert_eq!(claim_at(&mut schedule, 9, 999), [3]);
        assert_eq!(schedule.next_wake(), Some(at(1000)));
        schedule.wake(at(1000));
        let batch = schedule.claim(&limits(9, NO_LIMIT), at(1000));
        let made: Vec<_> = batch.iter().map(|c| (c.seq, c.retries.made)).collect();
        assert_eq!(made, [(1, 1), (2, 0)]);
    }

    #[test]
    fn a_batch_keeps_to_its_limits_but_takes_one_event_in_any_case() {
        let mut schedule = schedule([of("a"), of("b"), of("c"), of("d")]);
        assert_eq!(schedule.claim(&limits(9, 1), at(0)).len(), 1);
        assert_eq!(schedule.claim(&limits(9, 20), at(0)).len(), 2);
        assert_eq!(schedule.claim(&limits(9, 9), at(0)).len(), 1);
        assert_eq!(schedule.claim(&limits(9, 9), at(0)).len(), 0);
    }

    #[test]
    fn what_waits_behind_somebody_does_not_fill_a_batch() {
        let mut schedule = schedule([of("a"), of("a"), of("a"), of("b")]);
        let open = |schedule: &Schedule| schedule.open().items;
        assert_eq!(open(&schedule), 4);
        assert_eq!(claim(&mut schedule, 1), [1]);
        assert_eq!(open(&schedule), 1);
        schedule.push(stored(5, of("a")));
        schedule.push(stored(6, of("b")));
        assert_eq!(open(&schedule), 2);
        schedule.retry(1, at(1000), tried(1));
        assert_eq!(open(&schedule), 2);
        schedule.wake(at(1000));
        assert_eq!(open(&schedule), 6);
    }

    /// What happens to a schedule.
    #[derive(Clone, Debug)]
    enum Step {
        Push {
            event: AnyEvent,
            bytes: usize,
            pause: Option<i64>,
        },
        Claim {
            max_items: usize,
            max_bytes: usize,
        },
        /// The outcomes of one of the batches under way: tried again after so
        /// many milliseconds, or settled.
        Finish {
            batch: usize,
            retries: Vec<Option<i64>>,
        },
        Wait(i64),
        SetBack(i64),
        /// Send people away until no more than so many events are here.
        Evict(usize),
        Erase(&'static str),
    }

    fn event() -> impl Strategy<Value = AnyEvent> {
        let name = || prop::sample::select(vec!["a", "b", "c", "d"]);
        prop_oneof![
            1 => Just(Identify::new().trait_("k", 1).into_any()),
            4 => name().prop_map(of),
            1 => name().prop_map(|a| Track::new("e").anonymous_id(a).into_any()),
            2 => (name(), name()).prop_map(|(u, a)| {
                Track::new("e").user_id(u).anonymous_id(a).into_any()
            }),
            // One person twice is one line.
            1 => (name(), name()).prop_map(|(a, b)| Alias::new(a, b).into_any()),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        let pause = || prop::option::of(0_i64..30);
        prop_oneof![
            4 => (event(), 1_usize..20, prop::option::weighted(0.1, 0_i64..30))
                .prop_map(|(event, bytes, pause)| Step::Push { event, bytes, pause }),
            3 => (1_usize..6, 1_usize..60)
                .prop_map(|(max_items, max_bytes)| Step::Claim { max_items, max_bytes }),
            3 => (0_usize..10, prop::collection::vec(pause(), 6))
                .prop_map(|(batch, retries)| Step::Finish { batch, retries }),
            1 => (0_i64..20).prop_map(Step::Wait),
            1 => (0_i64..20).prop_map(Step::SetBack),
            1 => (0_usize..10).prop_map(Step::Evict),
            1 => prop::sample::select(vec!["a", "b"]).prop_map(Step::Erase),
        ]
    }

    /// The module's invariants, said directly: a list of events, in which
    /// everything is looked for.
    #[derive(Default)]
    struct Model {
        events: Vec<Known>,
        under_way: Vec<Vec<Seq>>,
        now: i64,
    }

    #[derive(Clone)]
    struct Known {
        seq: Seq,
        event: AnyEvent,
        people: HashSet<String>,
        bytes: usize,
        not_before: Option<i64>,
        made: u32,
        is_under_way: bool,
    }

    impl Known {
        fn stored(&self) -> Stored {
            Stored {
                bytes: self.bytes,
                not_before: self.not_before.map(at),
                retries: tried(self.made),
                ..stored(self.seq, self.event.clone())
            }
        }

        fn shares_a_person(&self, other: &Self) -> bool {
            !self.people.is_disjoint(&other.people)
        }
    }

    impl Model {
        fn find(&mut self, seq: Seq) -> &mut Known {
            self.events.iter_mut().find(|e| e.seq == seq).unwrap()
        }

        /// Those who must arrive before an event.
        fn before<'a>(&'a self, event: &'a Known) -> impl Iterator<Item = &'a Known> {
            self.events
                .iter()
                .filter(|e| e.seq < event.seq && e.shares_a_person(event))
        }

        /// What may be sent in one batch: all that is not under way and not
        /// paused, whose predecessors are gone or in the batch.
        fn sendable(&self, max_items: usize, max_bytes: usize) -> Vec<Seq> {
            let mut batch = Vec::new();
            let mut bytes = 0;
            let mut max_items = max_items;
            while batch.len() < max_items {
                let next = self.events.iter().find(|e| {
                    !e.is_under_way
                        && !batch.contains(&e.seq)
                        && e.not_before.is_none_or(|until| until <= self.now)
                        && self.before(e).all(|b| batch.contains(&b.seq))
                });
                let Some(next) = next else { break };
                let share = share(&tried(next.made));
                let is_too_much = bytes + next.bytes > max_bytes || batch.len() >= share;
                if !batch.is_empty() && is_too_much {
                    break;
                }
                max_items = max_items.min(share);
                bytes += next.bytes;
                batch.push(next.seq);
            }
            batch
        }

        fn next_wake(&self) -> Option<i64> {
            let first = |e: &&Known| !e.is_under_way && self.before(e).next().is_none();
            let waiting = self.events.iter().filter(first);
            waiting
                .filter_map(|e| e.not_before)
                .filter(|until| *until > self.now)
                .min()
        }
    }

    fn check(model: &Model, schedule: &mut Schedule) {
        schedule.wake(at(model.now));
        let mut parts = Vec::new();
        while let Some(part) = schedule.back(at(model.now)) {
            parts.push(part);
        }
        again(&parts, model, schedule);
        schedule.wake(at(model.now));
        let sendable = model.sendable(NO_LIMIT, NO_LIMIT);
        assert_eq!(schedule.is_ready(), !sendable.is_empty());
        assert_eq!(schedule.is_empty(), model.events.is_empty());
        assert_eq!(schedule.oldest(), model.events.first().map(|e| e.seq));
        assert_eq!(schedule.next_wake(), model.next_wake().map(at));
        let weight: usize = schedule.entries.iter().map(|(_, e)| e.weight).sum();
        assert_eq!(schedule.weight(), weight);
        if schedule.away() > 0 {
            return;
        }
        assert_eq!(
            schedule.bytes(),
            model.events.iter().map(|e| e.bytes).sum::<usize>()
        );
        let rest: Vec<_> = schedule
            .rest()
            .map(|(seq, _, made, under_way)| (seq, made, under_way))
            .collect();
        let expected: Vec<_> = model
            .events
            .iter()
            .map(|e| (e.seq, e.made, e.is_under_way))
            .collect();
        assert_eq!(rest, expected);
        if model.events.iter().all(|e| e.people.len() < 2)
            && model.events.iter().all(|e| e.not_before.is_none())
        {
            assert_eq!(schedule.open().items, sendable.len());
        }
    }

    /// Takes parts of the events once more.
    fn again(parts: &[(Seq, Seq)], model: &Model, schedule: &mut Schedule) {
        let is_part = |e: &&Known| {
            parts
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&e.seq))
        };
        for known in model.events.iter().filter(is_part) {
            schedule.push(known.stored());
        }
    }

    fn take(step: Step, seq: Seq, model: &mut Model, schedule: &mut Schedule) {
        match step {
            Step::Push {
                event,
                bytes,
                pause,
            } => {
                let not_before = pause.map(|pause| model.now + pause);
                model.events.push(Known {
                    seq,
                    event: event.clone(),
                    people: event.people().map(|p| format!("{p:?}")).collect(),
                    bytes,
                    not_before,
                    made: 0,
                    is_under_way: false,
                });
                schedule.push(model.find(seq).stored());
            }
            Step::Claim {
                max_items,
                max_bytes,
            } => {
                let expected = model.sendable(max_items, max_bytes);
                let claimed = schedule.claim(&limits(max_items, max_bytes), at(model.now));
                let seqs: Vec<_> = claimed.iter().map(|c| c.seq).collect();
                assert_eq!(seqs, expected);
                for claimed in &claimed {
                    let known = model.find(claimed.seq);
                    assert_eq!(claimed.retries.made, known.made);
                    known.is_under_way = true;
                }
                if !seqs.is_empty() {
                    model.under_way.push(seqs);
                }
            }
            Step::Finish { batch, retries } => {
                if model.under_way.is_empty() {
                    return;
                }
                let batch = batch % model.under_way.len();
                let batch = model.under_way.swap_remove(batch);
                let retries = retries.into_iter().chain(std::iter::repeat(None));
                for (seq, retry) in batch.into_iter().zip(retries) {
                    let now = model.now;
                    if let Some(pause) = retry {
                        let known = model.find(seq);
                        known.is_under_way = false;
                        known.made += 1;
                        known.not_before = Some(now + pause);
                        let made = known.made;
                        schedule.retry(seq, at(now + pause), tried(made));
                    } else {
                        model.events.retain(|e| e.seq != seq);
                        schedule.settle(seq);
                    }
                }
            }
            Step::Wait(millis) => model.now += millis,
            Step::SetBack(millis) => {
                model.now -= millis;
                for event in &mut model.events {
                    event.not_before = event.not_before.map(|until| until - millis);
                }
                schedule.set_back(Duration::from_millis(millis.unsigned_abs()));
            }
            Step::Evict(events) => {
                let now = at(model.now);
                schedule.evict(events * 300, |until| (until > now).then_some(until));
                let pauses = |e: &Known| e.not_before.is_some_and(|until| until > model.now);
                let is_away = |e: &Known| !schedule.entries.contains(e.seq);
                let first = |e: &&Known| !e.is_under_way && model.before(e).next().is_none();
                for known in model.events.iter().filter(first).filter(|e| is_away(e)) {
                    assert!(pauses(known), "who is away pauses");
                }
                if schedule.weight() > events * 300 {
                    let last = schedule.paused.last().map(|(until, _)| *until);
                    assert!(last <= Some(at(model.now)), "somebody could go");
                }
            }
            Step::Erase(user) => {
                if schedule.away() > 0 {
                    let hasher = BuildHasherDefault::<DefaultHasher>::default();
                    let user = analytics_spec::event::Person::User(user);
                    let back = schedule.recall(hasher.hash_one(user), seq);
                    again(&back, model, schedule);
                    return;
                }
                let is_of = |_: Seq, _: &[Person], body: &Body| {
                    body.load().unwrap().is_forgotten_with(user)
                };
                let (erased, under_way) = schedule.erase(is_of);
                let person = format!("{:?}", analytics_spec::event::Person::User(user));
                let (mut of_user, mut carried) = (Vec::new(), Vec::new());
                model.events.retain(|e| {
                    let is_erased = e.people.contains(&person);
                    if is_erased && e.is_under_way {
                        carried.push(e.seq);
                    } else if is_erased {
                        of_user.push(e.seq);
                    }
                    !is_erased || e.is_under_way
                });
                let erased: Vec<_> = erased.iter().map(|claimed| claimed.seq).collect();
                assert_eq!((erased, under_way), (of_user, carried));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn behaves_like_the_model(steps in prop::collection::vec(step(), 1..80)) {
            let (mut model, mut schedule) = (Model::default(), Schedule::default());
            for (seq, step) in (1..).zip(steps) {
                take(step, seq, &mut model, &mut schedule);
                check(&model, &mut schedule);
            }
            // Nothing is forgotten: with every pause over, everything goes out.
            model.now += 1000;
            check(&model, &mut schedule);
            while !model.events.is_empty() {
                check(&model, &mut schedule);
                let claim = Step::Claim { max_items: 3, max_bytes: NO_LIMIT };
                take(claim, 0, &mut model, &mut schedule);
                prop_assert!(!model.under_way.is_empty(), "nothing moves");
                take(Step::Finish { batch: 0, retries: vec![] }, 0, &mut model, &mut schedule);
            }
            check(&model, &mut schedule);
            prop_assert!(schedule.lines.is_empty());
            prop_assert_eq!(schedule.open(), Load::default());
        }
    }

    /// What a schedule of so many events looks at, each tried twice.
    fn drain(events: u64, event: fn(u64) -> AnyEvent, max_items: usize) -> u64 {
        let events: Vec<_> = (0..events).map(event).collect();
        let mut schedule = schedule(events);
        let mut now = 0;
        while !schedule.is_empty() {
            schedule.wake(at(now));
            let batch = schedule.claim(&limits(max_items, NO_LIMIT), at(now));
            assert!(!batch.is_empty());
            for (claimed, pause) in batch.iter().zip((0..7).cycle()) {
                if claimed.retries.made == 0 {
                    schedule.retry(claimed.seq, at(now + pause), tried(1));
                } else {
                    schedule.settle(claimed.seq);
                }
            }
            now += 10;
        }
        schedule.looks.get()
    }

    /// Everybody tried once, and pausing for long.
    fn pause_all(events: u64, event: fn(u64) -> AnyEvent, max_items: usize) -> u64 {
        let events: Vec<_> = (0..events).map(event).collect();
        let mut schedule = schedule(events);
        while schedule.is_ready() {
            for claimed in schedule.claim(&limits(max_items, NO_LIMIT), at(0)) {
                schedule.retry(claimed.seq, at(1000), tried(1));
            }
            schedule.wake(at(999));
            assert_eq!(schedule.next_wake(), Some(at(1000)));
        }
        schedule.looks.get()
    }

    #[test]
    fn large_schedules_do_not_degrade() {
        type Shape = (&'static str, fn(u64) -> AnyEvent);
        let shapes: [Shape; 5] = [
            ("one person", |_| of("a")),
            ("everybody else", |n| of(&n.to_string())),
            ("100 people", |n| of(&(n % 100).to_string())),
            ("nobody", |_| Identify::new().trait_("k", 1).into_any()),
            ("a chain", |n| {
                Alias::new(n.to_string(), (n + 1).to_string()).into_any()
            }),
        ];
        for (name, event) in shapes {
            for max_items in [1, 100] {
                for measure in [drain, pause_all] {
                    let few = measure(500, event, max_items);
                    let many = measure(10_000, event, max_items);
                    // Twenty times as many; what is quadratic looks 400 times
                    // as often.
                    assert!(many < few * 40, "{name}: {few}, {many}");
                }
            }
        }
    }
}
