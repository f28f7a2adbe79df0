//! What is to be freed by those who made it.

use std::collections::VecDeque;

use smallvec::SmallVec;

/// Events that are done with, for those who append to free: an allocator takes
/// back memory best in the thread that it came from, where it is needed next.
/// In another one, both wait for each other.
#[derive(Debug)]
pub(super) struct Retired<T>(VecDeque<T>);

/// At most so many wait to be freed; half of them without a hurry, so that
/// whoever else has them has let them go before.
const MAX_RETIRED: usize = 8192;

impl<T> Retired<T> {
    /// Keeps what there is room for; the rest.
    #[must_use]
    pub(super) fn put(&mut self, mut events: Vec<T>) -> Vec<T> {
        let room = MAX_RETIRED.saturating_sub(self.0.len());
        let rest = events.split_off(room.min(events.len()));
        self.0.extend(events);
        rest
    }

    /// Two for each that comes: so they go faster than they come.
    #[must_use]
    pub(super) fn take(&mut self, coming: usize) -> SmallVec<[T; 2]> {
        let without_hurry = self.0.len().saturating_sub(MAX_RETIRED / 2);
        let most = coming.saturating_mul(2).min(without_hurry);
        self.0.drain(..most).collect()
    }

    /// All of them.
    #[must_use]
    pub(super) fn clear(&mut self) -> VecDeque<T> {
        std::mem::take(&mut self.0)
    }
}

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_go_faster_than_they_come_and_never_are_many() {
        let mut retired = Retired::default();
        assert!(retired.put((0..MAX_RETIRED).collect()).is_empty());
        assert_eq!(retired.put(vec![1, 2]), [1, 2]);
        for n in 0..MAX_RETIRED / 4 {
            assert_eq!(retired.take(1)[..], [2 * n, 2 * n + 1]);
        }
        assert!(retired.take(1).is_empty());
        assert_eq!(retired.clear().len(), MAX_RETIRED / 2);
        assert_eq!(retired.clear().len(), 0);
    }
}
