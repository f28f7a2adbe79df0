use std::{
    collections::HashSet,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{BatchOutput, Outcome, Round, Waiting, round};
use crate::{
    AnyInput, Attempt, Delivery, Error, ErrorKind, Failure, Handler, Retries,
    integration::{Batching, deferred},
    policies,
};

/// What follows an attempt at an event of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Nothing: this is how it ended.
    Settled(Box<Outcome>),
    /// Another attempt.
    Again {
        /// How far the attempts have come.
        retries: Retries,
        /// After this pause.
        after: Duration,
        /// Why the last one failed.
        error: Box<Failure>,
        /// In a call of at most so many events, if not in one as large as the
        /// integration takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_most: Option<usize>,
    },
}

/// In how large a call an event is attempted: smaller and smaller, and alone the
/// last time, so that an event that the vendor cannot take takes no other with
/// it.
#[must_use]
pub fn share(max_items: usize, maximum_attempts: u32, retries: &Retries) -> usize {
    let is_last = maximum_attempts != 0 && retries.counted.saturating_add(1) >= maximum_attempts;
    if is_last && retries.counted > 0 {
        return 1;
    }
    let halvings = retries.counted.saturating_sub(1);
    max_items.checked_shr(halvings).unwrap_or_default().max(1)
}

/// How much smaller the next call is after one whose time was over before
/// anything came of it: within it, requests were halved several times, and all
/// refused.
const IDLE: usize = 16;

/// Makes one attempt at several events that go together in one call, and says
/// what follows for each. `jitter` spreads the pauses: from `0.0` to below
/// `1.0`. Only the first request begins after `deadline`, if there is one: what
/// was not attempted is due again at once, and it does not count. If nothing at
/// all has come of a call, the next ones are much smaller. If the integration
/// panics, so they are as well: see [`failed_together`].
pub async fn attempt(
    handler: &Handler,
    events: &[(AnyInput, Retries)],
    deadline: Option<Instant>,
    jitter: f64,
) -> Vec<Next> {
    let policies: Vec<_> = events
        .iter()
        .map(|(input, _)| handler.request_policy(input))
        .collect();
    let attempts: Vec<_> = events
        .iter()
        .zip(&policies)
        .map(|((input, retries), policy)| Attempt {
            deadline,
            ..retries.attempt(input, policy)
        })
        .collect();
    let Some(outcomes) = unbroken(handler.request_batch(&attempts)).await else {
        return after_panic(handler, events, jitter);
    };
    let is_over = attempts.iter().any(Attempt::is_over);
    let is_idle = is_over && attempts.iter().zip(&outcomes).all(is_as_before);
    let mut waiting = HashSet::new();
    let mut nexts = Vec::with_capacity(events.len());
    for (((input, retries), policy), outcome) in events.iter().zip(&policies).zip(outcomes) {
        let mut retries = *retries;
        let error = match outcome {
            Ok(delivery) => {
                let outcome = Outcome::success(input.message_id(), delivery.into_response());
                nexts.push(Next::Settled(Box::new(outcome)));
                continue;
            }
            // It would be the same again, for ever.
            Err(_) if is_idle && events.len() == 1 => {
                let message = "the time of the attempt was over before anything came of it";
                Error::new(ErrorKind::Timeout, message).with_integration(handler.name())
            }
            Err(error) => error,
        };
        // Without an earlier event that fails, and with time, it would wait for
        // ever.
        let waits_for_nothing = error.kind() == ErrorKind::Deferred
            && !is_over
            && !input.event.people().any(|person| waiting.contains(&person));
        nexts.push(match retries.failed(&error, policy, jitter) {
            Some(after) if !waits_for_nothing => {
                waiting.extend(input.event.people());
                let at_most = is_idle.then(|| (events.len() / IDLE).max(1));
                again(retries, after, &error, at_most)
            }
            _ => settled(input, &error),
        });
    }
    nexts
}

/// Whether an attempt has brought its event no further.
fn is_as_before((attempt, outcome): (&Attempt<'_>, &Result<Delivery, Error>)) -> bool {
    outcome.as_ref().is_err_and(|error| {
        error.kind() == ErrorKind::Deferred && error.progress() <= attempt.progress
    })
}

/// What follows for each event of a call of which nothing is known but that it
/// failed: the integration panicked, or did not end in time. Whether the vendor
/// has some of the events nobody knows. So each has been attempted, and the next
/// calls are half as large, or smaller: what one event does to a call, it does
/// in the end alone. An attempt with others is not the last one, even if it has
/// the last number, unless there is to be only one.
#[must_use]
pub fn failed_together(
    handler: &Handler,
    events: &[(AnyInput, Retries)],
    error: &Error,
    jitter: f64,
) -> Vec<Next> {
    let max_items = handler.integration().batching().max_items;
    let next = |(input, retries): &(AnyInput, Retries)| {
        let policy = handler.request_policy(input);
        let mut retries = *retries;
        let (after, share) = match retries.failed(error, &policy, jitter) {
            Some(after) => (after, share(max_items, policy.maximum_attempts, &retries)),
            // As after the first attempt: whether there may be another at all.
            None => match policy.next(0, error, jitter) {
                policies::Next::Retry { after, .. } if events.len() > 1 => (after, max_items),
                _ => return settled(input, error),
            },
        };
        let at_most = share.min(events.len() / 2).max(1);
        again(retries, after, error, Some(at_most))
    };
    events.iter().map(next).collect()
}

/// What one event has done to the others of its call, there is no pause for.
fn after_panic(handler: &Handler, events: &[(AnyInput, Retries)], jitter: f64) -> Vec<Next> {
    let error = Error::new(ErrorKind::Internal, "the integration panicked")
        .with_retryable(true)
        .with_integration(handler.name());
    let mut nexts = failed_together(handler, events, &error, jitter);
    for next in &mut nexts {
        if let Next::Again { after, .. } = next
            && events.len() > 1
        {
            *after = Duration::ZERO;
        }
    }
    nexts
}

/// Attempts each event of a batch once: the request step, executed alone. Only
/// the events of a call that panicked are attempted again, in smaller ones. Only
/// the first call begins after `deadline`, if there is one. What was not
/// attempted, or failed in a way that may pass, is
/// [pending](Deliveries::pending) then.
pub async fn attempt_each(
    handler: &Handler,
    deliveries: &mut Deliveries,
    deadline: Option<Instant>,
) {
    let limits = handler.integration().batching();
    let is_over = || deadline.is_some_and(|at| Instant::now() >= at);
    loop {
        // What is due again at once was not attempted, or in a call that panicked.
        let round = deliveries.round(Duration::ZERO, &limits, 0);
        let mut called = Vec::new();
        for positions in round.calls {
            if is_over() && !called.is_empty() {
                break;
            }
            let events = deliveries.call(&positions);
            let nexts = attempt(handler, &events, deadline, 0.0).await;
            called.push((positions, nexts));
        }
        let is_done = called.is_empty() || is_over();
        // The hooks of the step have been told where it failed.
        let _ = deliveries.apply(called, Duration::ZERO);
        if is_done {
            return;
        }
    }
}

/// What comes of it, unless it panics.
async fn unbroken<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let polled = AssertUnwindSafe(|| work.as_mut().poll(context));
        match catch_unwind(polled) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

fn settled(input: &AnyInput, error: &Error) -> Next {
    Next::Settled(Box::new(Outcome::failure(input.message_id(), error)))
}

fn again(retries: Retries, after: Duration, error: &Error, at_most: Option<usize>) -> Next {
    Next::Again {
        retries,
        after,
        error: Box::new(Failure::from(error)),
        at_most,
    }
}

/// An event of a batch that failed for good.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed {
    /// The event.
    pub input: AnyInput,
    /// Why.
    pub error: Error,
}

/// The deliveries of one batch: what is still to be done, and how the rest
/// ended. It has no clock and sends nothing, so an engine may store it between
/// any two steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Deliveries {
    pending: Vec<Pending>,
    outcomes: Vec<Option<Outcome>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pending {
    index: usize,
    input: AnyInput,
    bytes: usize,
    retries: Retries,
    due: Duration,
    error: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_most: Option<usize>,
}

impl Deliveries {
    /// Deliveries of these inputs, some of which may have failed already.
    #[must_use]
    pub fn new(inputs: impl IntoIterator<Item = Result<AnyInput, Box<Outcome>>>) -> Self {
        let measured = inputs.into_iter().map(|input| {
            let input = input?;
            let bytes = serde_json::to_vec(&input).map_or(0, |json| json.len());
            Ok((input, bytes))
        });
        Self::measured(measured)
    }

    /// The same, where it is known how many bytes each input has as JSON.
    #[must_use]
    pub fn measured(
        inputs: impl IntoIterator<Item = Result<(AnyInput, usize), Box<Outcome>>>,
    ) -> Self {
        let mut this = Self::default();
        for (index, input) in inputs.into_iter().enumerate() {
            match input {
                Ok((input, bytes)) => {
                    this.pending.push(Pending {
                        index,
                        input,
                        bytes,
                        retries: Retries::new(),
                        due: Duration::ZERO,
                        error: None,
                        at_most: None,
                    });
                    this.outcomes.push(None);
                }
                Err(outcome) => this.outcomes.push(Some(*outcome)),
            }
        }
        this
    }

    /// How many inputs the batch has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "`is_done` is what is asked")]
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether every event has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.pending.is_empty()
    }

    /// The inputs that have not ended, with their places in the batch.
    pub fn pending(&self) -> impl Iterator<Item = (usize, &AnyInput)> {
        self.pending.iter().map(|p| (p.index, &p.input))
    }

    /// Forgets what the last attempts at those that have not ended failed for:
    /// an engine that stores them need not keep it.
    pub fn forget_errors(&mut self) {
        for pending in &mut self.pending {
            pending.error = None;
        }
    }

    /// What to attempt at the time `now`. Each event has about `extra` bytes
    /// beside its own: what it shares with the batch.
    #[must_use]
    pub fn round(&self, now: Duration, limits: &Batching, extra: usize) -> Round {
        let waiting = self.pending.iter().map(|pending| Waiting {
            event: &pending.input.event,
            bytes: pending.bytes.saturating_add(extra),
            due: pending.due,
            at_most: pending.at_most.unwrap_or(usize::MAX),
        });
        round(&waiting.collect::<Vec<_>>(), now, limits)
    }

    /// The events of a call, as [`round`](Self::round) numbers them.
    #[must_use]
    pub fn call(&self, positions: &[usize]) -> Vec<(AnyInput, Retries)> {
        let pending = positions.iter().filter_map(|&at| self.pending.get(at));
        pending.map(|p| (p.input.clone(), p.retries)).collect()
    }

    /// How many bytes the events of a call have together as JSON.
    #[must_use]
    pub fn bytes(&self, positions: &[usize]) -> usize {
        let pending = positions.iter().filter_map(|&at| self.pending.get(at));
        pending.fold(0, |sum, p| sum.saturating_add(p.bytes))
    }

    /// Takes what follows for the events of a round's calls, at the time `now`.
    /// Those that failed for good.
    #[must_use]
    pub fn apply(&mut self, calls: Vec<(Vec<usize>, Vec<Next>)>, now: Duration) -> Vec<Failed> {
        let mut failed = Vec::new();
        let mut settled = HashSet::new();
        for (positions, nexts) in calls {
            for (position, next) in positions.into_iter().zip(nexts) {
                let Some(pending) = self.pending.get_mut(position) else {
                    continue;
                };
                match next {
                    Next::Again {
                        retries,
                        after,
                        error,
                        at_most,
                    } => {
                        let shares = [pending.at_most, at_most].into_iter().flatten();
                        pending.at_most = shares.min();
                        pending.retries = retries;
                        pending.error = Some(*error);
                        pending.due = now.saturating_add(after);
                    }
                    Next::Settled(outcome) => {
                        if let Some(error) = outcome.to_error() {
                            let input = pending.input.clone();
                            failed.push(Failed { input, error });
                        }
                        if let Some(place) = self.outcomes.get_mut(pending.index) {
                            *place = Some(*outcome);
                        }
                        settled.insert(pending.index);
                    }
                }
            }
        }
        self.pending.retain(|p| !settled.contains(&p.index));
        failed
    }

    /// How the events ended. Those that have not are failures, with what their
    /// last attempt failed for.
    #[must_use]
    pub fn into_output(mut self) -> BatchOutput {
        for pending in self.pending {
            let error = pending.error.map_or_else(deferred, Error::from);
            let outcome = Outcome::failure(pending.input.message_id(), &error);
            if let Some(place) = self.outcomes.get_mut(pending.index) {
                *place = Some(outcome);
            }
        }
        BatchOutput::new(self.outcomes.into_iter().flatten().collect())
    }
}
