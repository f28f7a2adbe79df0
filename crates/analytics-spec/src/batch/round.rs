use std::{collections::HashSet, time::Duration};

use crate::{AnyEvent, event::Person, integration::Batching};

/// An event that is still to be delivered, as [`round`] looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// The event.
    pub event: &'a AnyEvent,
    /// About how many bytes it has as JSON.
    pub bytes: usize,
    /// When it may be attempted, on the clock of whoever delivers the batch.
    pub due: Duration,
    /// How many events a call with it may have.
    pub at_most: usize,
}

/// What to attempt now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Calls that may be under way side by side: the positions of their
    /// events, in order.
    pub calls: Vec<Vec<usize>>,
    /// Without a call: when the next event is due.
    pub due: Option<Duration>,
}

/// Which of the events to attempt at the time `now`.
///
/// No call is larger than the integration takes, or one of its events allows,
/// and there are no more calls side by side. Events that share a [`Person`] are
/// never under way in two calls, and none overtakes an earlier one.
#[must_use]
pub fn round(events: &[Waiting<'_>], now: Duration, limits: &Batching) -> Round {
    let mut round = Round::default();
    let mut held: HashSet<Person<'_>> = HashSet::new();
    let (mut call, mut bytes) = (Vec::new(), 0_usize);
    let mut max_items = limits.max_items;
    for (position, event) in events.iter().enumerate() {
        let people = || event.event.people();
        if event.due > now {
            let due = round.due.map_or(event.due, |due| due.min(event.due));
            round.due = Some(due);
        }
        if event.due > now || people().any(|person| held.contains(&person)) {
            held.extend(people());
            continue;
        }
        let is_full = call.len() >= max_items.min(event.at_most).max(1)
            || bytes.saturating_add(event.bytes) > limits.max_bytes;
        if is_full && !call.is_empty() {
            for sent in call
                .iter()
                .filter_map(|&position: &usize| events.get(position))
            {
                held.extend(sent.event.people());
            }
            round.calls.push(std::mem::take(&mut call));
            bytes = 0;
            max_items = limits.max_items;
            if round.calls.len() >= limits.max_in_flight.max(1) {
                break;
            }
            if people().any(|person| held.contains(&person)) {
                held.extend(people());
                continue;
            }
        }
        bytes = bytes.saturating_add(event.bytes);
        max_items = max_items.min(event.at_most);
        call.push(position);
    }
    if !call.is_empty() {
        round.calls.push(call);
    }
    round
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Track;

    fn calls(users: &[&str], dues: &[u64], limits: &Batching) -> (Vec<Vec<usize>>, Option<u64>) {
        let events: Vec<AnyEvent> = users
            .iter()
            .map(|user| Track::new("e").user_id(*user).into())
            .collect();
        let events: Vec<_> = events
            .iter()
            .zip(dues)
            .map(|(event, due)| Waiting {
                event,
                bytes: 10,
                due: Duration::from_secs(*due),
                at_most: usize::MAX,
            })
            .collect();
        let round = round(&events, Duration::from_secs(5), limits);
        (round.calls, round.due.map(|due| due.as_secs()))
    }

    #[test]
    fn nobody_is_in_two_calls_or_overtakes() {
        let pairs = Batching {
            max_items: 2,
            max_bytes: 100,
            max_in_flight: 2,
        };
        // The second `a` goes with the first; the third would be in another call.
        let (sent, due) = calls(&["a", "a", "a", "b", "c", "d"], &[0; 6], &pairs);
        assert_eq!((sent, due), (vec![vec![0, 1], vec![3, 4]], None));
        // The first `a` is not due, so no other `a` is sent.
        let (sent, due) = calls(&["a", "b", "a"], &[9, 0, 0], &pairs);
        assert_eq!((sent, due), (vec![vec![1]], Some(9)));
        let (sent, due) = calls(&["a", "b"], &[9, 7], &pairs);
        assert_eq!((sent, due), (vec![], Some(7)));
    }

    #[test]
    fn calls_are_no_larger_than_allowed_and_everything_is_sent() {
        let small = Batching {
            max_items: 9,
            max_bytes: 25,
            max_in_flight: 9,
        };
        let (sent, _) = calls(&["a", "b", "c"], &[0; 3], &small);
        assert_eq!(sent, [vec![0, 1], vec![2]]);
        // What is larger than a call may be goes alone.
        let tiny = Batching {
            max_bytes: 1,
            ..small
        };
        let (sent, _) = calls(&["a", "b"], &[0; 2], &tiny);
        assert_eq!(sent, [[0], [1]]);
    }

    #[test]
    fn an_event_that_is_to_be_in_a_small_call_is() {
        let limits = Batching {
            max_items: 4,
            max_bytes: 100,
            max_in_flight: 9,
        };
        for (at_most, calls) in [
            ([9, 9, 9, 9, 9], vec![vec![0, 1, 2, 3], vec![4]]),
            ([2, 2, 2, 9, 9], vec![vec![0, 1], vec![2, 3], vec![4]]),
            ([9, 9, 9, 2, 9], vec![vec![0, 1, 2], vec![3, 4]]),
            (
                [9, 1, 9, 0, 9],
                vec![vec![0], vec![1], vec![2], vec![3], vec![4]],
            ),
        ] {
            let events: Vec<AnyEvent> = (0..5)
                .map(|n| Track::new("e").user_id(n.to_string()).into())
                .collect();
            let waiting = events.iter().zip(at_most).map(|(event, at_most)| Waiting {
                event,
                bytes: 1,
                due: Duration::ZERO,
                at_most,
            });
            let round = round(&waiting.collect::<Vec<_>>(), Duration::ZERO, &limits);
            assert_eq!(round.calls, calls, "{at_most:?}");
        }
    }
}
