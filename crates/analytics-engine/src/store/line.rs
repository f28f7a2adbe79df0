//! Those who wait for room.

use std::collections::VecDeque;

use tokio::sync::oneshot;

/// Those who wait for room in a store, in the order in which they came, each
/// with what it brings. All of it stands here, and the store lets them in: so
/// nobody has to be polled to make way for those behind, and nobody comes in
/// before who came first.
#[derive(Debug)]
pub(super) struct Line<T, R> {
    places: VecDeque<Place<T, R>>,
    next: u64,
}

#[derive(Debug)]
struct Place<T, R> {
    number: u64,
    brings: T,
    admitted: oneshot::Sender<R>,
}

impl<T, R> Line<T, R> {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Takes the last place: its number, and what will say that it came in.
    /// Whoever goes before that has to [`leave`](Self::leave).
    pub(super) fn join(&mut self, brings: T) -> (u64, oneshot::Receiver<R>) {
        let (admitted, told) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.places.push_back(Place {
            number,
            brings,
            admitted,
        });
        (number, told)
    }

    /// Lets in who is first, and so on, until somebody has to wait.
    pub(super) fn admit(&mut self, mut enter: impl FnMut(&mut T) -> Option<R>) {
        while let Some(first) = self.places.front_mut()
            && let Some(entered) = enter(&mut first.brings)
        {
            if let Some(place) = self.places.pop_front() {
                // It may be going just now.
                let _ = place.admitted.send(entered);
            }
        }
    }

    /// Gives a place up; what it brought, unless it was let in.
    pub(super) fn leave(&mut self, number: u64) -> Option<T> {
        let place = self.places.binary_search_by_key(&number, |one| one.number);
        Some(self.places.remove(place.ok()?)?.brings)
    }
}

impl<T, R> Default for Line<T, R> {
    fn default() -> Self {
        Self {
            places: VecDeque::new(),
            next: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_first_comes_in_first() {
        let mut line = Line::default();
        let mut joined: Vec<_> = (0..4).map(|n| line.join(n)).collect();
        assert_eq!(line.leave(joined[1].0), Some(1));
        assert_eq!(line.leave(joined[1].0), None);
        let mut seen = Vec::new();
        line.admit(|n| {
            seen.push(*n);
            (*n != 3).then_some(*n * 10)
        });
        assert_eq!(seen, [0, 2, 3]);
        assert_eq!(joined[0].1.try_recv(), Ok(0));
        assert_eq!(joined[2].1.try_recv(), Ok(20));
        assert!(joined[3].1.try_recv().is_err());
        assert_eq!(line.leave(joined[0].0), None);
        line.admit(|n| Some(*n));
        assert_eq!(joined[3].1.try_recv(), Ok(3));
        assert!(line.is_empty());
    }
}
