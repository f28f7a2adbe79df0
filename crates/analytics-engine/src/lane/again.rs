//! What a lane has to take from the store once more.

use std::collections::BTreeMap;

use crate::store::Seq;

/// Parts that are so near to each other are read as one: to read over what is
/// between them is cheaper than to ask once more.
const NEAR: u64 = 64;

/// Parts of the order of acceptance that are to be read again, apart from each
/// other.
#[derive(Debug, Default)]
pub(super) struct Again(BTreeMap<Seq, Seq>);

impl Again {
    /// Adds a part, from its first place through its last.
    pub(super) fn add(&mut self, mut from: Seq, mut through: Seq) {
        loop {
            let near = through.saturating_add(NEAR);
            let before = self.0.range(..=near).next_back();
            let Some((first, last)) = before.map(|(first, last)| (*first, *last)) else {
                break;
            };
            if last.saturating_add(NEAR) < from {
                break;
            }
            self.0.remove(&first);
            (from, through) = (from.min(first), through.max(last));
        }
        self.0.insert(from, through);
    }

    /// How many places there are.
    pub(super) fn places(&self) -> u64 {
        let parts = self.0.iter();
        parts.fold(0, |sum, (from, last)| sum.saturating_add(last - from + 1))
    }

    /// The part to be read next.
    pub(super) fn first(&self) -> Option<(Seq, Seq)> {
        self.0.first_key_value().map(|(from, last)| (*from, *last))
    }

    /// Everything from the first part's begin to here was read.
    pub(super) fn read(&mut self, through: Seq) {
        while let Some((from, last)) = self.first().filter(|(from, _)| *from <= through) {
            self.0.remove(&from);
            if last > through {
                self.0.insert(through + 1, last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn covered(again: &Again) -> BTreeSet<Seq> {
        again.0.iter().flat_map(|(f, l)| *f..=*l).collect()
    }

    proptest! {
        /// Everything that was added and not read is covered, and nothing that
        /// is far from it.
        #[test]
        fn nothing_is_left_out(
            steps in prop::collection::vec((1_u64..2000, 0_u64..100, any::<bool>()), 1..50),
        ) {
            let (mut again, mut expected) = (Again::default(), BTreeSet::new());
            for (from, length, reads) in steps {
                if reads {
                    again.read(from);
                    expected = expected.split_off(&(from + 1));
                } else {
                    again.add(from, from + length);
                    expected.extend(from..=from + length);
                }
                let covered = covered(&again);
                prop_assert!(covered.is_superset(&expected));
                for place in covered {
                    let near = place.saturating_sub(NEAR)..=place + NEAR;
                    prop_assert!(reads || expected.range(near).next().is_some());
                }
                let parts: Vec<_> = again.0.iter().collect();
                prop_assert!(parts.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }
}
