//! One attempt for each event of a batch.

use std::{borrow::Cow, sync::Arc};

use analytics_spec::{
    AnyInput, Attempt, Delivery, Error, ErrorKind, Handler, PreparedAttempt, RequestPolicy,
    ValidationError,
};

use super::{Carried, outcome::no_outcome};
use crate::{
    schedule::Claimed,
    store::{Answers, Body, Loaded},
};

/// How a lane's events are sent.
#[derive(Clone)]
pub(super) struct Sender {
    /// The very text by which the engine marks what it has prepared.
    pub(super) name: Arc<str>,
    pub(super) handler: Handler,
    /// The policy of inputs that bring none.
    pub(super) policy: Arc<RequestPolicy>,
    /// Somebody wants to see events that have come to their end.
    pub(super) is_shown: bool,
}

/// What came of a batch: of each event that could be read, in their order, and
/// of those that nobody can read.
#[derive(Default)]
pub(super) struct Came {
    pub(super) events: Vec<(Carried, Result<Delivery, Error>)>,
    pub(super) unreadable: Vec<(Claimed, ValidationError)>,
}

impl Came {
    /// Lets go of answers that nobody is shown, each of which may be of some
    /// MiB: until the outcomes are written, there may be many.
    fn forget_answers(&mut self) {
        let mut answers = Answers::default();
        let events = self.events.iter();
        let cut = events.map(|(_, outcome)| {
            let answer = outcome.as_ref().err().and_then(Error::response);
            answer.map(|answer| answers.cut(answer))
        });
        let cut: Vec<_> = cut.collect();
        for ((_, outcome), cut) in self.events.iter_mut().zip(cut) {
            let kept = std::mem::replace(outcome, Ok(Delivery::default()));
            if let Err(error) = kept {
                *outcome = Err(match cut {
                    Some(cut) => error.with_response(cut),
                    None => error,
                });
            }
        }
    }
}

impl Sender {
    /// About how many bytes an event takes in memory until the store knows what
    /// came of it.
    pub(super) fn weight(&self, body: &Body) -> usize {
        match body {
            Body::Loaded(loaded) => loaded.weight(),
            Body::Json(json) => Loaded::weight_mapped(json.len(), self.is_shown || !self.maps()),
        }
    }

    /// Whether the integration maps events ahead of their delivery.
    fn maps(&self) -> bool {
        self.handler.integration().as_prepare().is_some()
    }

    /// Delivers a batch.
    pub(super) async fn deliver(&self, batch: &[Claimed]) -> Came {
        let mut came = if self.maps() {
            self.mapped(batch).await
        } else {
            self.inputs(batch).await
        };
        if !self.is_shown {
            came.forget_answers();
        }
        came
    }

    /// What it is if nothing came of any event but this.
    pub(super) fn all(&self, batch: &[Claimed], error: impl Fn() -> Error) -> Came {
        let mut came = Came::default();
        let events = self.load(batch, &mut came.unreadable);
        came.events = events.map(|event| (event, Err(error()))).collect();
        came
    }

    /// Loads what can be.
    fn load<'a>(
        &'a self,
        batch: &'a [Claimed],
        unreadable: &'a mut Vec<(Claimed, ValidationError)>,
    ) -> impl Iterator<Item = Carried> + 'a {
        batch.iter().filter_map(|event| match event.body.load() {
            Ok(loaded) => {
                let weight = self.weight(&event.body);
                Some(Carried::new(event.clone(), loaded, weight))
            }
            Err(error) => {
                unreadable.push((event.clone(), error));
                None
            }
        })
    }

    /// What this engine did not map when it accepted it is mapped now.
    async fn mapped(&self, batch: &[Claimed]) -> Came {
        let mut came = Came::default();
        let events = self.load(batch, &mut came.unreadable);
        // One by one: what it takes to map an event goes before the next one.
        let mapped = events.map(|mut event| {
            let mapped = self.map(&mut event);
            (event, mapped)
        });
        let mapped: Vec<_> = mapped.collect();
        let mut attempts = Vec::with_capacity(mapped.len());
        for (event, mapped) in &mapped {
            let (Ok(()), Some(prepared)) = (mapped, event.loaded.prepared(&self.name)) else {
                continue;
            };
            let input = event.loaded.input();
            attempts.push(PreparedAttempt {
                prepared,
                kind: event.loaded.kind(),
                message_id: event.loaded.message_id(),
                people: &event.people,
                event: input.map(|input| &input.event),
                number: event.retries.made.saturating_add(1),
                progress: event.retries.progress,
                timeout: self.policy(input.map(|i| &**i)).single_attempt_timeout,
            });
        }
        let delivered = self.handler.request_prepared(&attempts).await;
        drop(attempts);
        came.events = self.merged(mapped, delivered);
        came
    }

    /// Maps an event, unless that is done; the event itself goes then, if nobody
    /// has to see it again.
    fn map(&self, event: &mut Carried) -> Result<(), Error> {
        if event.loaded.prepared(&self.name).is_some() {
            return Ok(());
        }
        let input = event.loaded.input().ok_or_else(unseen)?;
        let prepared = self.handler.prepare(input)?.ok_or_else(unseen)?;
        let is_seen = self.is_shown || input.policies.is_some();
        let mapped = event.loaded.mapped(&self.name, prepared, is_seen);
        event.loaded = Arc::new(mapped);
        Ok(())
    }

    async fn inputs(&self, batch: &[Claimed]) -> Came {
        let mut came = Came::default();
        let events = self.load(batch, &mut came.unreadable);
        let completed = events.map(|event| {
            let input = event.loaded.input().ok_or_else(unseen);
            let input = input.map(|input| self.handler.complete(input).into_owned());
            (event, input)
        });
        let completed: Vec<(Carried, Result<AnyInput, Error>)> = completed.collect();
        let mut attempts: Vec<Attempt<'_>> = Vec::with_capacity(completed.len());
        for (event, input) in &completed {
            let Ok(input) = input else { continue };
            attempts.push(event.retries.attempt(input, &self.policy(Some(input))));
        }
        let delivered = self.handler.request_batch(&attempts).await;
        drop(attempts);
        came.events = self.merged(completed, delivered);
        came
    }

    /// The outcomes of those who were sent, and why others were not.
    fn merged<T>(
        &self,
        all: Vec<(Carried, Result<T, Error>)>,
        delivered: Vec<Result<Delivery, Error>>,
    ) -> Vec<(Carried, Result<Delivery, Error>)> {
        let mut delivered = delivered.into_iter();
        let mut next = |_| {
            delivered
                .next()
                .unwrap_or_else(|| Err(no_outcome(&self.name)))
        };
        let all = all.into_iter();
        all.map(|(event, sent)| (event, sent.and_then(&mut next)))
            .collect()
    }

    fn policy(&self, input: Option<&AnyInput>) -> Cow<'_, RequestPolicy> {
        match input {
            Some(input) if input.policies.is_some() => {
                Cow::Owned(self.handler.request_policy(input))
            }
            _ => Cow::Borrowed(&self.policy),
        }
    }
}

/// An engine keeps every event in memory that somebody may yet have to see.
fn unseen() -> Error {
    Error::new(ErrorKind::Internal, "the event was not kept in memory")
}

#[cfg(test)]
mod tests {
    use analytics_spec::{HttpResponse, Input, Retries, Timestamp, Track};

    use super::*;
    use crate::store::People;

    #[test]
    fn an_answer_that_nobody_is_shown_is_let_go() {
        let answer = Arc::new(HttpResponse::new(400).body("x".repeat(1024 * 1024)));
        let carried = |seq| {
            let loaded = Arc::new(Loaded::new(Input::from(Track::new("e")).into_any()));
            let claimed = Claimed {
                seq,
                body: Body::Loaded(Arc::clone(&loaded)),
                people: People::new(),
                accepted_at: Timestamp::now(),
                retries: Retries::new(),
            };
            Carried::new(claimed, loaded, 0)
        };
        let refused = || {
            let error = Error::new(ErrorKind::RequestRejected, "no");
            Err(error.with_response(Arc::clone(&answer)))
        };
        let delivered = Ok(Delivery::new(Some(Arc::clone(&answer))));
        let mut came = Came {
            events: vec![
                (carried(1), refused()),
                (carried(2), delivered),
                (carried(3), refused()),
            ],
            unreadable: Vec::new(),
        };
        came.forget_answers();
        assert_eq!(Arc::strong_count(&answer), 1);
        let kept: Vec<_> = came
            .events
            .iter()
            .map(|(_, outcome)| outcome.as_ref().err().and_then(Error::response))
            .collect();
        let [Some(first), None, Some(last)] = kept[..] else {
            panic!("{kept:?}");
        };
        assert!(std::ptr::eq(first, last));
        assert!(first.truncated && first.status_code == 400);
    }
}
