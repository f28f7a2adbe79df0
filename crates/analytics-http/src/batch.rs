//! One attempt to deliver several events: which of them share a request, in
//! which order, and what each comes to.
//!
//! Invariants:
//!
//! - A step is sent when the event's step before it has been accepted, and no
//!   earlier event of the same person is still under way, unless that one's
//!   last step stands before it in the same request.
//! - After a failure that may pass, the person's later events are deferred;
//!   those that were in the same request are what the vendor says they are.
//! - Where a vendor may take a later event of a request and an earlier one only
//!   when it is sent again, a request has [one event of a
//!   person](Limits::one_per_person): the next goes when that one is accepted.
//! - A request never exceeds its route's limits, except for one step alone.
//! - A request that is refused as a whole and may be [split](Refusal::split)
//!   is sent again in halves, down to one step. What one route refuses does
//!   not make another's requests smaller.
//! - Every event gets exactly one outcome.

use std::{collections::HashSet, sync::Arc, time::Duration};

use analytics_spec::{
    Delivery, Error, ErrorKind, HttpResponse, Kind, Progress,
    integration::{deferred, unattempted},
};
use bytes::Bytes;

use crate::{
    classify::{Refusal, Verdict},
    vendor::{HttpVendor, Limits, Reading, Step},
};

/// The outcomes of a batch, in the order of its attempts.
pub(crate) type Outcomes = Vec<Result<Delivery, Error>>;

/// What came of one request: the vendor's answer, if there is one, and what it
/// says.
pub(crate) struct Answer {
    pub(crate) reading: Reading,
    pub(crate) response: Option<Arc<HttpResponse>>,
}

/// An event of a batch, and one attempt at it.
#[derive(Clone, Copy)]
pub(crate) struct Lead<'a> {
    pub(crate) kind: Kind,
    pub(crate) message_id: &'a str,
    /// Whose it is, each person by a number.
    pub(crate) people: &'a [u64],
    pub(crate) number: u32,
    pub(crate) progress: Progress,
    pub(crate) timeout: Duration,
}

/// An event on its way.
pub(crate) struct Item<'a, R> {
    lead: Lead<'a>,
    steps: &'a [Step<R>],
    taken: usize,
    response: Option<Arc<HttpResponse>>,
    failure: Option<Error>,
}

impl<'a, R> Item<'a, R> {
    /// An event with its steps, or why it has none.
    pub(crate) fn new(lead: Lead<'a>, mapped: Result<&'a [Step<R>], Error>) -> Self {
        let (steps, failure) = match mapped {
            Ok(steps) => (steps, None),
            Err(error) => (&[][..], Some(error.with_progress(lead.progress))),
        };
        Self {
            lead,
            steps,
            taken: lead.progress.0 as usize,
            response: None,
            failure,
        }
    }

    fn people(&self) -> impl Iterator<Item = u64> + use<'a, R> {
        self.lead.people.iter().copied()
    }

    fn step(&self) -> Option<&'a Step<R>> {
        if self.failure.is_some() {
            return None;
        }
        self.steps.get(self.taken)
    }

    /// Whether it may yet be delivered. Credentials may be put right.
    fn may_pass(&self) -> bool {
        self.failure
            .as_ref()
            .is_some_and(|error| error.is_retryable() || error.kind() == ErrorKind::Unauthorized)
    }
}

/// How many steps a route takes at once, after it has refused more.
struct Cap<R> {
    route: R,
    items: usize,
    /// The step that was too much has been found: the rest may be more again.
    grows: bool,
}

/// A batch under way.
pub(crate) struct Batch<'a, V: HttpVendor> {
    vendor: &'a V,
    items: Vec<Item<'a, V::Route>>,
    /// Every item before this one has its outcome.
    first: usize,
    /// Whose events have to wait: an item before `first` failed for now.
    waiting: HashSet<u64>,
    caps: Vec<Cap<V::Route>>,
}

/// A request to make, and the events that it carries a step of.
pub(crate) struct Group<'a, R> {
    pub(crate) route: R,
    pub(crate) limits: Limits,
    /// Not clones: each would be counted, and on another core than those
    /// that made them.
    pub(crate) bodies: Vec<&'a Bytes>,
    pub(crate) members: Vec<usize>,
}

impl<'a, V: HttpVendor> Batch<'a, V> {
    pub(crate) fn new(vendor: &'a V, items: Vec<Item<'a, V::Route>>) -> Self {
        Self {
            vendor,
            items,
            first: 0,
            waiting: HashSet::new(),
            caps: Vec::new(),
        }
    }

    /// The events whose steps a group carries.
    pub(crate) fn leads(&self, group: &Group<'a, V::Route>) -> impl Iterator<Item = &Lead<'a>> {
        let items = group.members.iter().filter_map(|at| self.items.get(*at));
        items.map(|item| &item.lead)
    }

    /// The next request: the first step that may be sent, and every other one
    /// on its route that may go with it.
    pub(crate) fn next(&mut self) -> Option<Group<'a, V::Route>> {
        self.settle();
        let opening = self.items.get(self.first)?.step()?;
        let limits = self.vendor.limits(&opening.route);
        let max_items = limits.max_items.min(self.cap(&opening.route)).max(1);
        let mut group = Group {
            route: opening.route.clone(),
            limits,
            bodies: Vec::new(),
            members: Vec::new(),
        };
        let mut bytes = limits.envelope_bytes;
        let mut blocked: HashSet<u64> = HashSet::new();
        for (index, item) in self.items.iter().enumerate().skip(self.first) {
            let Some(step) = item.step() else {
                if item.may_pass() {
                    blocked.extend(item.people());
                }
                continue;
            };
            let is_blocked = |person| blocked.contains(&person) || self.waiting.contains(&person);
            if step.route != group.route || item.people().any(is_blocked) {
                blocked.extend(item.people());
                continue;
            }
            let comma = usize::from(!group.members.is_empty());
            bytes = bytes.saturating_add(step.body.len()).saturating_add(comma);
            if bytes > limits.max_bytes && !group.members.is_empty() {
                break;
            }
            group.bodies.push(&step.body);
            group.members.push(index);
            if group.members.len() == max_items {
                break;
            }
            if limits.one_per_person || item.taken + 1 < item.steps.len() {
                // The person's next event waits for the answer, or for this
                // one's own next step.
                blocked.extend(item.people());
            }
        }
        Some(group)
    }

    /// Moves `first` to the first item that may be sent. What a failure before
    /// it makes wait, waits until another attempt.
    fn settle(&mut self) {
        while let Some(item) = self.items.get_mut(self.first) {
            if item.step().is_some() {
                if !item.people().any(|person| self.waiting.contains(&person)) {
                    break;
                }
                item.failure = Some(deferred().with_progress(progress(item.taken)));
            }
            if item.may_pass() {
                self.waiting.extend(item.people());
            }
            self.first += 1;
        }
    }

    fn cap(&self, route: &V::Route) -> usize {
        let cap = self.caps.iter().find(|cap| cap.route == *route);
        cap.map_or(usize::MAX, |cap| cap.items)
    }

    /// Takes the answer to a group's request.
    pub(crate) fn answered(&mut self, group: &Group<'a, V::Route>, answer: &Answer) {
        if self.adapt(group, &answer.reading) {
            return;
        }
        for (index, member) in group.members.iter().enumerate() {
            let Some(item) = self.items.get_mut(*member) else {
                continue;
            };
            let verdict = match &answer.reading {
                Reading::All(verdict) => verdict.clone(),
                Reading::Each(verdicts) => verdicts.get(index).cloned().unwrap_or_else(unread),
            };
            match verdict {
                Ok(()) => {
                    item.taken += 1;
                    item.response.clone_from(&answer.response);
                }
                Err(refusal) => {
                    item.failure = Some(error(refusal, answer.response.clone(), item.taken));
                }
            }
        }
    }

    /// Learns from an answer how many steps the route takes at once; `true` if
    /// the group is to be sent again in smaller ones.
    fn adapt(&mut self, group: &Group<'a, V::Route>, reading: &Reading) -> bool {
        let sent = group.members.len();
        let is_split = matches!(reading, Reading::All(Err(refusal)) if refusal.split);
        let cap = self.caps.iter_mut().find(|cap| cap.route == group.route);
        match (cap, is_split, sent) {
            (Some(cap), true, 2..) => {
                cap.items = sent / 2;
                cap.grows = false;
            }
            (None, true, 2..) => self.caps.push(Cap {
                route: group.route.clone(),
                items: sent / 2,
                grows: false,
            }),
            (Some(cap), true, _) => cap.grows = true,
            (Some(cap), false, _) if cap.grows => cap.items = cap.items.saturating_mul(2),
            _ => {}
        }
        is_split && sent > 1
    }

    pub(crate) fn finish(self) -> Outcomes {
        self.items
            .into_iter()
            .map(|item| match item.failure {
                Some(error) => Err(error),
                None if item.taken < item.steps.len() => {
                    Err(unattempted().with_progress(progress(item.taken)))
                }
                None => Ok(Delivery::new(item.response)),
            })
            .collect()
    }
}

fn progress(taken: usize) -> Progress {
    Progress(u32::try_from(taken).unwrap_or(u32::MAX))
}

/// The vendor's answer has fewer verdicts than the request had events: whether
/// this one arrived is not known, so it is sent again.
fn unread() -> Verdict {
    Err(Refusal::transient(
        ErrorKind::Unavailable,
        "the vendor's answer says nothing about this event",
    ))
}

fn error(refusal: Refusal, response: Option<Arc<HttpResponse>>, taken: usize) -> Error {
    let mut error = Error::new(refusal.kind, refusal.message)
        .with_retryable(refusal.retryable)
        .with_progress(progress(taken));
    if let Some(delay) = refusal.retry_after {
        error = error.with_retry_after(delay);
    }
    if let Some(wait) = refusal.wait {
        error = error.with_wait(wait);
    }
    if let Some(response) = response {
        error = error.with_response(response);
    }
    error
}

#[cfg(test)]
mod tests;
