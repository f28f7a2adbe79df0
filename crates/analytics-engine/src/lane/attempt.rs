//! One attempt for each event of a batch.

use std::{borrow::Cow, sync::Arc};

use analytics_spec::{
    AnyInput, Attempt, Delivery, Error, ErrorKind, Handler, Prepared, PreparedAttempt,
    RequestPolicy,
};

use super::Carried;

type Outcomes = Vec<Result<Delivery, Error>>;

/// Delivers a batch.
pub(super) async fn deliver(
    handler: &Handler,
    name: &Arc<str>,
    default: &RequestPolicy,
    batch: &[Carried],
) -> Outcomes {
    if handler.integration().as_prepare().is_some() {
        prepared(handler, name, default, batch).await
    } else {
        inputs(handler, default, batch).await
    }
}

/// What this engine did not prepare when it accepted it is prepared now.
async fn prepared(
    handler: &Handler,
    name: &Arc<str>,
    default: &RequestPolicy,
    batch: &[Carried],
) -> Outcomes {
    let prepare = |event| prepare(handler, name, event);
    let prepared: Vec<_> = batch.iter().map(prepare).collect();
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
            event: input.map(|input| &input.event),
            number: event.retries.made.saturating_add(1),
            progress: event.retries.progress,
            timeout: policy.single_attempt_timeout,
        });
    }
    let delivered = handler.request_prepared(&attempts).await;
    drop(attempts);
    merged(prepared, delivered)
}

fn prepare<'a>(
    handler: &Handler,
    name: &Arc<str>,
    event: &'a Carried,
) -> Result<Cow<'a, Prepared>, Error> {
    if let Some(prepared) = event.loaded.prepared(name) {
        return Ok(Cow::Borrowed(prepared));
    }
    let input = event.loaded.input().ok_or_else(unseen)?;
    let prepared = handler.prepare(input)?;
    prepared.map(Cow::Owned).ok_or_else(unseen)
}

async fn inputs(handler: &Handler, default: &RequestPolicy, batch: &[Carried]) -> Outcomes {
    let complete = |event: &'_ Carried| match event.loaded.input() {
        Some(input) => Ok(handler.complete(input).into_owned()),
        None => Err(unseen()),
    };
    let inputs: Vec<Result<AnyInput, _>> = batch.iter().map(complete).collect();
    let mut attempts: Vec<Attempt<'_>> = Vec::with_capacity(batch.len());
    for (event, input) in batch.iter().zip(&inputs) {
        let Ok(input) = input else { continue };
        let policy = policy(handler, default, Some(input));
        attempts.push(event.retries.attempt(input, &policy));
    }
    let delivered = handler.request_batch(&attempts).await;
    drop(attempts);
    merged(inputs, delivered)
}

/// The outcomes of those who were delivered, and why others were not.
fn merged<T>(all: Vec<Result<T, Error>>, delivered: Outcomes) -> Outcomes {
    let mut delivered = delivered.into_iter();
    // There is one for each that could be.
    let mut outcome = |_| delivered.next().unwrap_or_else(|| Err(unseen()));
    let all = all.into_iter();
    all.map(|one| one.and_then(&mut outcome)).collect()
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

/// An engine keeps every event in memory that somebody may yet have to see.
fn unseen() -> Error {
    Error::new(ErrorKind::Internal, "the event was not kept in memory")
}
