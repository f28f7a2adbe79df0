//! What is to be freed by those who made it.

use std::collections::VecDeque;

use smallvec::SmallVec;

/// Events that are done with, for those who append to free: an allocator takes
/// back memory best in the thread that it came from, where it is needed next.
/// In another one, both wait for each other.
#[derive(Debug)]
pub(super) struct Retired<T> {
    /// Each with what it takes.
    events: VecDeque<(T, usize)>,
    weight: usize,
}

/// At most so much waits to be freed; half of it without a hurry, so that
/// whoever else has it has let it go before.
const MAX_WEIGHT: usize = 4 * 1024 * 1024;

impl<T> Retired<T> {
    /// Keeps what there is room for; the rest.
    #[must_use]
    pub(super) fn put(&mut self, events: impl IntoIterator<Item = (T, usize)>) -> Vec<T> {
        let mut rest = Vec::new();
        for (event, weight) in events {
            let whole = self.weight.saturating_add(weight);
            if whole > MAX_WEIGHT {
                rest.push(event);
                continue;
            }
            self.weight = whole;
            self.events.push_back((event, weight));
        }
        rest
    }

    /// Two for each that comes: so they go faster than they come.
    #[must_use]
    pub(super) fn take(&mut self, coming: usize) -> SmallVec<[T; 2]> {
        let mut taken = SmallVec::new();
        if self.weight <= MAX_WEIGHT / 2 {
            return taken;
        }
        let most = coming.saturating_mul(2).min(self.events.len());
        taken.reserve(most);
        while self.weight > MAX_WEIGHT / 2
            && taken.len() < most
            && let Some((event, weight)) = self.events.pop_front()
        {
            self.weight -= weight;
            taken.push(event);
        }
        taken
    }

    /// All of them.
    #[must_use]
    pub(super) fn clear(&mut self) -> VecDeque<(T, usize)> {
        self.weight = 0;
        std::mem::take(&mut self.events)
    }
}

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            weight: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_go_faster_than_they_come_and_never_are_much() {
        const WEIGHT: usize = 1024;
        const MOST: usize = MAX_WEIGHT / WEIGHT;
        let mut retired = Retired::default();
        let all = (0..MOST).map(|n| (n, WEIGHT));
        assert!(retired.put(all).is_empty());
        assert_eq!(retired.put([(1, WEIGHT), (2, 1)]), [1, 2]);
        for n in 0..MOST / 4 {
            assert_eq!(retired.take(1)[..], [2 * n, 2 * n + 1]);
        }
        assert!(retired.take(1).is_empty());
        assert_eq!(retired.put([(1, MAX_WEIGHT), (2, WEIGHT)]), [1]);
        assert_eq!(retired.clear().len(), MOST / 2 + 1);
        assert_eq!(retired.clear().len(), 0);
        assert!(retired.put([(1, MAX_WEIGHT)]).is_empty());
    }
}
