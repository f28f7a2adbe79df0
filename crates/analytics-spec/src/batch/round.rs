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
/// No call is larger than the integration takes, and there are no more calls
/// side by side. Events that share a [`Person`] are never under way in two
/// calls, and none overtakes an earlier one.
#[must_use]
pub fn round(events: &[Waiting<'_>], now: Duration, limits: &Batching) -> Round {
    let mut round = Round::default();
    let mut held: HashSet<Person<'_>> = HashSet::new();
    let (mut call, mut bytes) = (Vec::new(), 0_usize);
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
        let is_full = call.len() >= limits.max_items.max(1)
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
            if round.calls.len() >= limits.max_in_flight.max(1) {
                break;
            }
            if people().any(|person| held.contains(&person)) {
                held.extend(people());
                continue;
            }
        }
        bytes = bytes.saturating_add(event.bytes);
        call.push(position);
    }
    if !call.is_empty() {
        round.calls.push(call);
    }
    round
}
