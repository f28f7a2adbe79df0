//! One attempt for each event of a batch.

use std::borrow::Cow;

use analytics_spec::{
    AnyInput, Delivery, Error, ErrorKind, Handler, Prepared, PreparedAttempt, RequestPolicy,
};

use super::Carried;

type Outcomes = Vec<Result<Delivery, Error>>;

/// Delivers a batch; `is_checked`, if this engine has accepted all of it, and
/// checked it then.
pub(super) async fn deliver(
    handler: &Handler,
    default: &RequestPolicy,
    batch: &[Carried],
    is_checked: bool,
) -> Outcomes {
    if handler.integration().as_prepare().is_some() {
        prepared(handler, default, batch).await
    } else {
        inputs(handler, default, batch, is_checked).await
    }
}

/// What was not prepared when it was accepted is so now.
async fn prepared(handler: &Handler, default: &RequestPolicy, batch: &[Carried]) -> Outcomes {
    let prepared: Vec<_> = batch.iter().map(|event| prepare(handler, event)).collect();
    let mut attempts = Vec::with_capacity(batch.len());
    for (event, prepared) in batch.iter().zip(&prepared) {
        let Ok(prepared) = prepared else { continue };
        let input = event.loaded.input();
        let policy = policy(handler, default, input.map(|input| &**input));
        attempts.push(PreparedAttempt {
            prepared,
            kind: event.loaded.kind(),
            message_id: event.loaded.message_id(),
            people: &event.people,
            input: input.map(|input| &**input),
            number: event.retries.made.saturating_add(1),
            progress: event.retries.progress,
            timeout: policy.single_attempt_timeout,
        });
    }
    let mut delivered = handler.request_prepared(&attempts).await.into_iter();
    drop(attempts);
    let outcomes = prepared.into_iter().map(|prepared| {
        // As many as there are events that could be prepared.
        prepared.and_then(|_| delivered.next().unwrap_or_else(|| Err(unseen())))
    });
    outcomes.collect()
}

fn prepare<'a>(handler: &Handler, event: &'a Carried) -> Result<Cow<'a, Prepared>, Error> {
    if let Some(prepared) = event.loaded.prepared(handler.name()) {
        return Ok(Cow::Borrowed(prepared));
    }
    let input = event.loaded.input().ok_or_else(unseen)?;
    let prepared = handler.prepare(&handler.complete(input))?;
    prepared.map(Cow::Owned).ok_or_else(unseen)
}

async fn inputs(
    handler: &Handler,
    default: &RequestPolicy,
    batch: &[Carried],
    is_checked: bool,
) -> Outcomes {
    let inputs = batch.iter().filter_map(|event| event.loaded.input());
    let inputs: Vec<_> = inputs.map(|input| handler.complete(input)).collect();
    if inputs.len() < batch.len() {
        return batch.iter().map(|_| Err(unseen())).collect();
    }
    let attempts = batch.iter().zip(&inputs).map(|(event, input)| {
        let policy = policy(handler, default, Some(input));
        event.retries.attempt(input, &policy)
    });
    let attempts: Vec<_> = attempts.collect();
    if is_checked {
        handler.request_checked(&attempts).await
    } else {
        handler.request_batch(&attempts).await
    }
}

fn policy<'a>(
    handler: &Handler,
    default: &'a RequestPolicy,
    input: Option<&AnyInput>,
) -> Cow<'a, RequestPolicy> {
    match input {
        Some(input) if input.policies.is_some() => Cow::Owned(handler.request_policy(input)),
        _ => Cow::Borrowed(default),
    }
}

/// An engine keeps every event that is not prepared.
fn unseen() -> Error {
    Error::new(ErrorKind::Internal, "the event was not kept in memory")
}
