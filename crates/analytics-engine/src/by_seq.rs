//! Values by their place in the order of acceptance.

use std::collections::{BTreeMap, VecDeque};

use crate::store::Seq;

/// A map for what comes by rising places and goes in about the same order:
/// nearly all of it stands in one row, and is found by its distance from the
/// first. What stays behind for long is moved aside, so that the row does not
/// grow by what has gone since.
#[derive(Debug)]
pub(crate) struct BySeq<T> {
    /// Everything before `first`.
    behind: BTreeMap<Seq, T>,
    first: Seq,
    row: VecDeque<Option<T>>,
    /// How many there are in the row.
    filled: usize,
}

/// The row may have as many empty places as others, and so many more.
const EMPTY: u64 = 64;

/// An empty row keeps room for so many.
const KEPT: usize = 1024;

impl<T> BySeq<T> {
    pub(crate) fn len(&self) -> usize {
        self.behind.len() + self.filled
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn place(&self, seq: Seq) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.first)?).ok()
    }

    pub(crate) fn get(&self, seq: Seq) -> Option<&T> {
        match self.place(seq) {
            Some(place) => self.row.get(place)?.as_ref(),
            None => self.behind.get(&seq),
        }
    }

    pub(crate) fn get_mut(&mut self, seq: Seq) -> Option<&mut T> {
        match self.place(seq) {
            Some(place) => self.row.get_mut(place)?.as_mut(),
            None => self.behind.get_mut(&seq),
        }
    }

    pub(crate) fn contains(&self, seq: Seq) -> bool {
        self.get(seq).is_some()
    }

    /// Puts a value at a place, and gives out what was there.
    pub(crate) fn insert(&mut self, seq: Seq, value: T) -> Option<T> {
        if self.row.is_empty()
            && self
                .behind
                .last_key_value()
                .is_none_or(|(last, _)| *last < seq)
        {
            self.first = seq;
        }
        if seq < self.first {
            return self.behind.insert(seq, value);
        }
        let most = 2 * self.filled as u64 + EMPTY;
        while seq - self.first > most
            && let Some(value) = self.row.pop_front()
        {
            if let Some(value) = value {
                self.filled -= 1;
                self.behind.insert(self.first, value);
            }
            self.first += 1;
        }
        self.trim();
        if self.row.is_empty() {
            self.first = seq;
        }
        // The row may begin later now.
        let Some(place) = self.place(seq) else {
            return self.behind.insert(seq, value);
        };
        while self.row.len() <= place {
            self.row.push_back(None);
        }
        let old = self.row.get_mut(place)?.replace(value);
        self.filled += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, seq: Seq) -> Option<T> {
        let Some(place) = self.place(seq) else {
            return self.behind.remove(&seq);
        };
        let value = self.row.get_mut(place)?.take()?;
        self.filled -= 1;
        if self.filled == 0 {
            self.row.clear();
            self.row.shrink_to(KEPT);
        }
        self.trim();
        Some(value)
    }

    /// The row begins with a value, so that the first is found at once.
    fn trim(&mut self) {
        while let Some(None) = self.row.front() {
            self.row.pop_front();
            self.first += 1;
        }
    }

    /// Everything from a place on, by its place.
    pub(crate) fn from(&self, seq: Seq) -> impl Iterator<Item = (Seq, &T)> {
        let behind = self.behind.range(seq..).map(|(seq, value)| (*seq, value));
        let skipped = self.place(seq).unwrap_or_default().min(self.row.len());
        // Not `skip`, which walks over what it leaves out.
        let row = (self.first + skipped as u64..).zip(self.row.range(skipped..));
        behind.chain(row.filter_map(|(seq, value)| Some((seq, value.as_ref()?))))
    }

    /// Everything, by its place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Seq, &T)> {
        self.from(0)
    }

    /// Every value, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let row = self.row.iter_mut().flatten();
        self.behind.values_mut().chain(row)
    }

    pub(crate) fn first(&self) -> Option<(Seq, &T)> {
        self.iter().next()
    }
}

impl<T> Default for BySeq<T> {
    fn default() -> Self {
        Self {
            behind: BTreeMap::new(),
            first: 0,
            row: VecDeque::new(),
            filled: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// So far behind the last one.
        Append(u64),
        Insert(u64),
        /// The one that so many precede.
        Remove(usize),
        RemoveAt(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1_u64..3).prop_map(Step::Append),
            1 => (1_u64..500).prop_map(Step::Append),
            1 => (0_u64..1000).prop_map(Step::Insert),
            4 => (0_usize..4).prop_map(Step::Remove),
            1 => (0_u64..1000).prop_map(Step::RemoveAt),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec(step(), 1..300)) {
            let (mut map, mut by_seq) = (BTreeMap::new(), BySeq::default());
            let mut last = 0;
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Append(distance) => {
                        last += distance;
                        prop_assert_eq!(by_seq.insert(last, value), map.insert(last, value));
                    }
                    Step::Insert(seq) => {
                        last = last.max(seq);
                        prop_assert_eq!(by_seq.insert(seq, value), map.insert(seq, value));
                    }
                    Step::Remove(nth) => {
                        if let Some(seq) = map.keys().nth(nth).copied() {
                            prop_assert_eq!(by_seq.remove(seq), map.remove(&seq));
                        }
                    }
                    Step::RemoveAt(seq) => {
                        prop_assert_eq!(by_seq.remove(seq), map.remove(&seq));
                    }
                }
                prop_assert_eq!(by_seq.len(), map.len());
                prop_assert_eq!(by_seq.first(), map.iter().next().map(|(s, v)| (*s, v)));
                for from in [0, last / 2, last, last + 1] {
                    let found: Vec<_> = by_seq.from(from).collect();
                    let expected: Vec<_> = map.range(from..).map(|(s, v)| (*s, v)).collect();
                    prop_assert_eq!(found, expected);
                    prop_assert_eq!(by_seq.get(from), map.get(&from));
                    prop_assert_eq!(by_seq.get_mut(from), map.get_mut(&from));
                }
            }
        }
    }

    /// A store is asked for what comes behind a place for every few events.
    /// Whoever walks there from the first does not come to the end of this.
    #[test]
    fn what_comes_behind_a_place_is_found_at_once() {
        const MANY: u64 = 300_000;
        let mut by_seq = BySeq::default();
        for seq in 1..=MANY {
            by_seq.insert(seq, ());
        }
        for seq in 1..=MANY {
            assert_eq!(by_seq.from(seq).next(), Some((seq, &())));
        }
    }

    #[test]
    fn what_comes_where_the_row_began_before_is_not_lost() {
        let mut by_seq = BySeq::default();
        for seq in (1..=10).chain([80]) {
            by_seq.insert(seq, ());
        }
        for seq in 2..=10 {
            by_seq.remove(seq);
        }
        by_seq.insert(70, ());
        assert_eq!(by_seq.len(), 3);
        assert!(by_seq.contains(70));
    }

    #[test]
    fn what_stays_behind_does_not_make_the_row_grow() {
        let mut by_seq = BySeq::default();
        by_seq.insert(1, ());
        for seq in 2..100_000 {
            by_seq.insert(seq, ());
            if seq > 10 {
                by_seq.remove(seq - 5);
            }
            assert!(by_seq.row.len() < 200);
        }
        assert!(by_seq.contains(1));
        by_seq.insert(u64::MAX, ());
        assert!(by_seq.row.len() < 200);
    }
}
