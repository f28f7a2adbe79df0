//! One attempt to deliver several events: which of them share a request, in
//! which order, and what each comes to.
//!
//! Invariants:
//!
//! - A step is sent when the event's step before it has been accepted, and no
//!   earlier event of the same person is still under way.
//! - After a failure that may pass, the person's later events are deferred.
//! - A request never exceeds its route's limits, except for one step alone.
//! - Every event gets exactly one outcome.

use std::{collections::HashSet, sync::Arc};

use analytics_spec::{
    Attempt, Delivery, Error, HttpResponse, Progress, event::Person, integration::deferred,
};
use bytes::Bytes;

use crate::{
    classify::{Refusal, Verdict},
    vendor::{HttpVendor, Limits, Reading, Step},
};

/// The outcomes of a batch, in the order of its attempts.
pub(crate) type Outcomes = Vec<Result<Delivery, Error>>;

/// What sends one request: the vendor's reading of the answer, and the answer.
pub(crate) struct Answer {
    pub(crate) reading: Reading,
    pub(crate) response: Option<Arc<HttpResponse>>,
}

/// An event on its way.
struct Item<'a, R> {
    attempt: &'a Attempt<'a>,
    steps: Vec<Step<R>>,
    taken: usize,
    response: Option<Arc<HttpResponse>>,
    failure: Option<Error>,
}

impl<R> Item<'_, R> {
    fn step(&self) -> Option<&Step<R>> {
        if self.failure.is_some() {
            return None;
        }
        self.steps.get(self.taken)
    }

    fn may_pass(&self) -> bool {
        self.failure.as_ref().is_some_and(Error::is_retryable)
    }
}

/// A batch under way.
pub(crate) struct Batch<'a, V: HttpVendor> {
    vendor: &'a V,
    items: Vec<Item<'a, V::Route>>,
    /// What a route took no more than, once it has answered 413.
    cap: usize,
}

/// A request to make, and the events that it carries a step of.
pub(crate) struct Group<R> {
    pub(crate) route: R,
    pub(crate) limits: Limits,
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) members: Vec<usize>,
}

impl<'a, V: HttpVendor> Batch<'a, V> {
    pub(crate) fn new(vendor: &'a V, attempts: &'a [Attempt<'a>]) -> Self {
        let items = attempts
            .iter()
            .map(|attempt| {
                let (steps, failure) = match vendor.steps(attempt.input) {
                    Ok(steps) => (steps, None),
                    Err(error) => (Vec::new(), Some(error)),
                };
                Item {
                    attempt,
                    steps,
                    taken: attempt.progress.0 as usize,
                    response: None,
                    failure,
                }
            })
            .collect();
        Self {
            vendor,
            items,
            cap: usize::MAX,
        }
    }

    pub(crate) fn attempt(&self, member: usize) -> Option<&'a Attempt<'a>> {
        self.items.get(member).map(|item| item.attempt)
    }

    /// The next request: the first step that may be sent, and every other one
    /// on its route that may go with it.
    pub(crate) fn next(&self) -> Option<Group<V::Route>> {
        let mut group: Option<Group<V::Route>> = None;
        let mut bytes = 0;
        let mut blocked: HashSet<Person<'a>> = HashSet::new();
        for (index, item) in self.items.iter().enumerate() {
            let people = || item.attempt.input.event.people();
            let Some(step) = item.step() else {
                if item.may_pass() {
                    blocked.extend(people());
                }
                continue;
            };
            if people().any(|person| blocked.contains(&person)) {
                blocked.extend(people());
                continue;
            }
            let group = group.get_or_insert_with(|| {
                let limits = self.vendor.limits(&step.route);
                bytes = limits.envelope_bytes;
                Group {
                    route: step.route.clone(),
                    limits,
                    bodies: Vec::new(),
                    members: Vec::new(),
                }
            });
            if step.route != group.route {
                blocked.extend(people());
                continue;
            }
            let max_items = group.limits.max_items.min(self.cap).max(1);
            let size = step.body.len() + 1;
            let is_full = group.members.len() >= max_items
                || bytes.saturating_add(size) > group.limits.max_bytes;
            if is_full && !group.members.is_empty() {
                break;
            }
            bytes += size;
            group.bodies.push(step.body.clone());
            group.members.push(index);
            if item.taken + 1 < item.steps.len() {
                // Its own next step comes before the person's next event.
                blocked.extend(people());
            }
        }
        group
    }

    /// Takes the answer to a group's request.
    pub(crate) fn answered(&mut self, group: &Group<V::Route>, answer: &Answer) {
        let verdict = |index: usize| match &answer.reading {
            Reading::All(verdict) => verdict.clone(),
            Reading::Each(verdicts) => verdicts.get(index).cloned().unwrap_or_else(unread),
        };
        if group.members.len() > 1
            && let Reading::All(Err(refusal)) = &answer.reading
            && refusal.kind == analytics_spec::ErrorKind::TooLarge
        {
            self.cap = group.members.len() / 2;
            return;
        }
        for (index, member) in group.members.iter().enumerate() {
            let Some(item) = self.items.get_mut(*member) else {
                continue;
            };
            match verdict(index) {
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

    pub(crate) fn finish(self) -> Outcomes {
        self.items
            .into_iter()
            .map(|item| match item.failure {
                Some(error) => Err(error),
                None if item.taken < item.steps.len() => {
                    Err(deferred().with_progress(progress(item.taken)))
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
        analytics_spec::ErrorKind::Unavailable,
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
    if let Some(response) = response {
        error = error.with_response(response);
    }
    error
}
