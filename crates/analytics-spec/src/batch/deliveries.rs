use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{BatchOutput, Outcome, Round, Waiting, round};
use crate::{
    AnyInput, Attempt, Error, ErrorKind, Failure, Handler, Retries,
    integration::{Batching, deferred},
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
    },
}

/// Makes one attempt at several events that go together in one call, and says
/// what follows for each. `jitter` spreads the pauses: from `0.0` to below
/// `1.0`. No request begins after `deadline`, if there is one: what was not
/// attempted is due again at once, and it does not count.
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
    let outcomes = handler.request_batch(&attempts).await;
    let is_over = attempts.iter().any(Attempt::is_over);
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
            Err(error) => error,
        };
        // Without an earlier event that fails, and with time, it would wait for
        // ever.
        let is_idle = error.kind() == ErrorKind::Deferred
            && !is_over
            && !input.event.people().any(|person| waiting.contains(&person));
        nexts.push(match retries.failed(&error, policy, jitter) {
            Some(after) if !is_idle => {
                waiting.extend(input.event.people());
                Next::Again {
                    retries,
                    after,
                    error: Box::new(Failure::from(&error)),
                }
            }
            _ => Next::Settled(Box::new(Outcome::failure(input.message_id(), &error))),
        });
    }
    nexts
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
        });
        round(&waiting.collect::<Vec<_>>(), now, limits)
    }

    /// The events of a call, as [`round`](Self::round) numbers them.
    #[must_use]
    pub fn call(&self, positions: &[usize]) -> Vec<(AnyInput, Retries)> {
        let pending = positions.iter().filter_map(|&at| self.pending.get(at));
        pending.map(|p| (p.input.clone(), p.retries)).collect()
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
                    } => {
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
