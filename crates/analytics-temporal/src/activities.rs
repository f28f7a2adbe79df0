//! What the activities of one event do.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime},
};

use analytics_spec::{
    AnyInput, AnyOutput, Delivery, Error, ErrorKind, Handler, Kind, Output, RequestPolicy, Retries,
    Status, handler::workflow_name,
};
use futures::FutureExt as _;
use temporalio_common::{ActivityError, data_converters::RawValue};
use temporalio_sdk::activities::{ActivityContext, ActivityInfo};

use crate::{failures, ids, limits, options, payload};

/// Is the input right? What is wrong with it is a failure.
pub(crate) async fn validate(
    handler: Handler,
    kind: Kind,
    ctx: ActivityContext,
    input: RawValue,
) -> Result<RawValue, ActivityError> {
    let input = read(&handler, kind, ctx.info(), input)?;
    unbroken(async { handler.validate(&input) })
        .await
        .map_err(permanent)?;
    output(input, Delivery::default())
}

/// One attempt at the request.
pub(crate) async fn request(
    handler: Handler,
    kind: Kind,
    ctx: ActivityContext,
    input: RawValue,
) -> Result<RawValue, ActivityError> {
    let input = read(&handler, kind, ctx.info(), input)?;
    let policy = handler.request_policy(&input);
    let mut retries = carried(&ctx);
    // In somebody else's workflow, the options are somebody else's.
    let is_ours = ctx.info().workflow_type == Some(workflow_name(handler.name(), kind));
    if is_ours && is_used_up(&policy, &retries) {
        return Err(permanent(lost().with_integration(handler.name())));
    }
    let mut attempt = retries.attempt(&input, &policy);
    let limit = time_left(ctx.info());
    attempt.timeout = attempt.timeout.min(limit);
    let error = match within(&ctx, limit, retries, handler.request(&attempt)).await {
        Ok(delivery) => return output(input, delivery),
        Err(error) => error,
    };
    let asked = error.retry_after().max(error.wait());
    let next = retries.failed(&error, &policy, fastrand::f64());
    // The next attempt begins where this one stopped.
    ctx.record_heartbeat(payload::write(&retries).map_err(permanent)?)
        .await?;
    // There is no earlier event here that a deferred one could wait for.
    let next = next.filter(|_| error.kind() != ErrorKind::Deferred);
    Err(if is_ours {
        match next {
            Some(after) => failures::transient(&error, Some(after)),
            None => failures::permanent(&error),
        }
    } else if error.is_retryable() {
        failures::transient(&error, asked.filter(|asked| !asked.is_zero()))
    } else {
        failures::permanent(&error)
    }
    .into())
}

fn read(
    handler: &Handler,
    kind: Kind,
    info: &ActivityInfo,
    input: RawValue,
) -> Result<AnyInput, ActivityError> {
    let read = || {
        let mut input = AnyInput::accept(payload::read(input)?, Some(kind))?;
        ids::stamp_activity(info, &mut input);
        Ok(handler.complete(&input).into_owned())
    };
    read().map_err(|error: Error| permanent(error.with_integration(handler.name())))
}

fn output(input: AnyInput, delivery: Delivery) -> Result<RawValue, ActivityError> {
    let mut response = delivery.into_response();
    if let Some(response) = &mut response {
        limits::cut_response(response);
    }
    let output: AnyOutput = Output::new(Status::Success, input.event, response);
    payload::write(&output).map_err(permanent)
}

/// How far earlier attempts have come, those included that no worker lived to
/// report.
fn carried(ctx: &ActivityContext) -> Retries {
    let details = ctx.heartbeat_details().raw().first();
    let mut retries: Retries = details.and_then(payload::parse).unwrap_or_default();
    let before = ctx.info().attempt.saturating_sub(1);
    let lost = before.saturating_sub(retries.made);
    retries.made = retries.made.saturating_add(lost);
    retries.counted = retries.counted.saturating_add(lost);
    retries
}

fn is_used_up(policy: &RequestPolicy, retries: &Retries) -> bool {
    policy.maximum_attempts != 0 && retries.counted >= policy.maximum_attempts
}

/// The time until the server takes the attempt for failed, less what it takes
/// to say how it ended.
pub(crate) fn time_left(info: &ActivityInfo) -> Duration {
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    let Some(deadline) = info.deadline else {
        return LONGEST;
    };
    let left = deadline.duration_since(SystemTime::now());
    let left = left.unwrap_or_default().min(LONGEST);
    left.saturating_sub(Duration::from_millis(500))
        .max(left / 2)
}

/// An attempt that ends in time, even if the integration hangs or panics, and
/// during which the server hears that the worker lives.
pub(crate) async fn within<T>(
    ctx: &ActivityContext,
    limit: Duration,
    retries: Retries,
    attempt: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        outcome = unbroken(attempt) => outcome,
        () = tokio::time::sleep(limit) => Err(Error::new(
            ErrorKind::Timeout,
            format!("the integration did not finish the attempt within {limit:?}"),
        )),
        never = pulses(ctx, retries) => match never {},
    }
}

/// Says that the worker lives, for ever. What it carries is what the next
/// attempt would go on from.
async fn pulses(ctx: &ActivityContext, retries: Retries) -> Infallible {
    loop {
        tokio::time::sleep(options::PULSE).await;
        if let Ok(state) = payload::write(&retries) {
            let _ = ctx.record_heartbeat(state).await;
        }
    }
}

/// A panic of an integration or a hook is an error, and for good: the same
/// event would panic again.
pub(crate) async fn unbroken<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(panicked()))
}

/// Of attempts that no worker lived to report.
pub(crate) fn lost() -> Error {
    let message = "no worker lived to finish the last attempt";
    Error::new(ErrorKind::Timeout, message)
}

pub(crate) fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "the integration or a hook panicked")
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn permanent(error: Error) -> ActivityError {
    failures::permanent(&error).into()
}
