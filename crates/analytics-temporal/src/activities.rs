//! What the activities of one event do.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use analytics_spec::{
    AnyInput, AnyOutput, Attempt, Delivery, Error, ErrorKind, Handler, Kind, Output, RequestPolicy,
    Retries, Status, handler::workflow_name,
};
use temporalio_common::{ActivityError, data_converters::RawValue};
use temporalio_sdk::activities::ActivityInfo;

use crate::{
    attempting::{Attempting, panicked},
    failures, ids, limits, options, payload,
};

/// Is the input right? What is wrong with it is a failure.
pub(crate) async fn validate(
    handler: Handler,
    kind: Kind,
    ctx: Attempting,
    input: RawValue,
) -> Result<RawValue, ActivityError> {
    let input = read(&handler, kind, ctx.info(), input)?;
    check(&handler, &input).map_err(permanent)?;
    output(input, Delivery::default())
}

/// The validation step for one event: that it makes the integration panic is
/// its own failure.
pub(crate) fn check(handler: &Handler, input: &AnyInput) -> Result<(), Error> {
    let checked = AssertUnwindSafe(|| handler.validate(input));
    catch_unwind(checked).unwrap_or_else(|_| Err(panicked().with_integration(handler.name())))
}

/// One attempt at the request.
pub(crate) async fn request(
    handler: Handler,
    kind: Kind,
    ctx: Attempting,
    input: RawValue,
) -> Result<RawValue, ActivityError> {
    let input = read(&handler, kind, ctx.info(), input)?;
    let policy = handler.request_policy(&input);
    let (mut retries, lost) = carried(&ctx);
    // In somebody else's workflow, the options are somebody else's.
    let is_ours = ctx.info().workflow_type == Some(workflow_name(handler.name(), kind));
    if is_ours && is_used_up(&policy, &retries) {
        let error = if lost > 0 {
            self::lost()
        } else {
            // They were more when the last one was made.
            let message = "as many attempts were made as the policy allows now";
            Error::new(ErrorKind::Unavailable, message).with_retryable(false)
        };
        return Err(permanent(error.with_integration(handler.name())));
    }
    // Who executes it alone says how long it takes.
    let limit = if is_ours {
        options::attempt_timeout(policy.single_attempt_timeout)
    } else {
        Duration::MAX
    };
    let error = loop {
        let request = async |limit: Duration| {
            let attempt = retries.attempt(&input, &policy);
            let timeout = attempt.timeout.min(limit);
            // What has been got through by then is said, and not lost with the
            // attempt's time.
            let deadline = Instant::now().checked_add(limit / 2);
            let attempt = Attempt {
                timeout,
                deadline,
                ..attempt
            };
            handler.request(&attempt).await
        };
        let attempted = ctx.within(limit, retries, request).await;
        let attempted = attempted.map_err(|error| if is_ours { given_up() } else { error })?;
        let error = match attempted {
            Ok(delivery) => return output(input, delivery),
            Err(error) => error,
        };
        let is_under_way =
            error.kind() == ErrorKind::Deferred && error.progress() > retries.progress;
        if !is_under_way {
            break error.with_integration(handler.name());
        }
        retries.progress = error.progress();
        ctx.carry(&retries).await;
    };
    let asked = error.retry_after().max(error.wait());
    let next = retries.failed(&error, &policy, fastrand::f64());
    // The next attempt begins where this one stopped.
    ctx.carry(&retries).await;
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

/// A request on the workflows' task queue, which nothing limits to what the
/// vendor takes at once: where it belongs. Unknown there, it would be tried
/// again for ever. Our own workflows ask in the right place: theirs comes here
/// only if a worker polls a queue that is not its own, and another worker of it
/// takes the next attempt.
pub(crate) async fn elsewhere(
    handler: Handler,
    ctx: Attempting,
) -> Result<RawValue, ActivityError> {
    let info = ctx.info();
    let message = format!(
        "{} is executed on the task queue {}, not on {}",
        info.activity_type,
        options::queue(&info.task_queue, handler.name()),
        info.task_queue
    );
    let error = Error::configuration(message).with_integration(handler.name());
    Err(if is_of_ours(&handler, info.workflow_type.as_deref()) {
        failures::transient(&error.with_retryable(true), None).into()
    } else {
        permanent(error)
    })
}

/// Whether an activity is that of one of the integration's own workflows.
fn is_of_ours(handler: &Handler, workflow_type: Option<&str>) -> bool {
    let ours = handler.list_workflows();
    workflow_type.is_some_and(|asks| ours.iter().any(|name| name == asks))
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
        // The output repeats it: one that Temporal does not take has the vendor
        // called again.
        payload::write_input(&input)?;
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
/// report, and how many these are.
fn carried(ctx: &Attempting) -> (Retries, u32) {
    let mut retries = ctx.carried().unwrap_or_default();
    let before = ctx.info().attempt.saturating_sub(1);
    let lost = before.saturating_sub(retries.made);
    retries.made = retries.made.saturating_add(lost);
    retries.counted = retries.counted.saturating_add(lost);
    (retries, lost)
}

fn is_used_up(policy: &RequestPolicy, retries: &Retries) -> bool {
    policy.maximum_attempts != 0 && retries.counted >= policy.maximum_attempts
}

/// How an attempt that our workflow asked for ends when it is given up. The SDK
/// does not tell a cancellation from a pause or a reset, and the server hears of
/// these only by a failure: it would wait for the answer. Our workflows do not
/// wait for an activity that they have cancelled, so they can have the same.
pub(crate) fn given_up() -> ActivityError {
    failures::transient(&lost(), None).into()
}

/// Of attempts that no worker lived to report.
pub(crate) fn lost() -> Error {
    let message = "no worker lived to finish the last attempt";
    Error::new(ErrorKind::Timeout, message)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn permanent(error: Error) -> ActivityError {
    failures::permanent(&error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_worker_may_take_what_our_own_workflows_ask_for() {
        let handler = crate::tests::mixpanel(0);
        for ours in ["mixpanel(analytics).Track", "mixpanel(analytics).Batch"] {
            assert!(is_of_ours(&handler, Some(ours)), "{ours}");
        }
        for other in [None, Some("Order"), Some("shop(analytics).Track")] {
            assert!(!is_of_ours(&handler, other), "{other:?}");
        }
    }
}
