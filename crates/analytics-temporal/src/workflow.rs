//! The workflow of one event: validation, then the request.

use analytics_spec::{
    AnyInput, Error, ErrorKind, Handler, Kind,
    handler::{Step, activity_name},
};
use temporalio_common::{UntypedActivity, data_converters::RawValue};
use temporalio_sdk::{WorkflowContext, WorkflowTermination};

use crate::{
    dynamic::{DynWorkflow, Ended},
    failures,
    ids::Origin,
    options, payload,
};

/// Carries one event to its end.
pub(crate) async fn run(
    handler: Handler,
    kind: Kind,
    ctx: WorkflowContext<DynWorkflow>,
    input: RawValue,
) -> Ended {
    let read = || {
        let mut input = AnyInput::accept(payload::read(input)?, Some(kind))?;
        Origin::of(&ctx.info()).stamp(&mut input);
        // Whether it is too large is for the validation to say: another version
        // may write it in another way.
        let argument = payload::write(&input)?;
        Ok((input, argument))
    };
    let (input, argument) = read().map_err(|error: Error| {
        let error = error.with_integration(handler.name());
        log_unread(&handler, &ctx, Some(1), &error);
        fail(error)
    })?;

    let validation = UntypedActivity::new(activity_name(handler.name(), kind, Step::Validation));
    ctx.execute_local_activity(validation, argument.clone(), options::validation())
        .await
        .map_err(|error| ended(&handler, &ctx, &input, &error))?;

    let policy = handler.request_policy(&handler.complete(&input));
    let request = UntypedActivity::new(activity_name(handler.name(), kind, Step::Request));
    let queue = queue(&handler, &ctx);
    ctx.execute_activity(request, argument, options::request(&policy, queue))
        .await
        .map_err(|error| ended(&handler, &ctx, &input, &error))
}

/// Where the workflow's requests are executed.
pub(crate) fn queue(handler: &Handler, ctx: &WorkflowContext<DynWorkflow>) -> String {
    options::queue(ctx.task_queue(), handler.name())
}

/// How a failed activity ends the workflow. That somebody cancelled it is no
/// failure.
fn ended(
    handler: &Handler,
    ctx: &WorkflowContext<DynWorkflow>,
    input: &AnyInput,
    error: &temporalio_sdk::ActivityExecutionError,
) -> WorkflowTermination {
    if error.as_cancelled().is_some() {
        return WorkflowTermination::cancelled();
    }
    let error = failures::of_activity(error).with_integration(handler.name());
    tell(handler, ctx, input, &error);
    fail(error)
}

/// Says that an event failed for good, and calls the hook, once: a replay tells
/// nobody again. The log has nothing of what is in the event, which a vendor's
/// words may repeat.
pub(crate) fn tell(
    handler: &Handler,
    ctx: &WorkflowContext<DynWorkflow>,
    input: &AnyInput,
    error: &Error,
) {
    if ctx.is_replaying() {
        return;
    }
    // What a vendor has no call for is nothing to wake anybody for.
    if error.kind() != ErrorKind::Unsupported {
        tracing::warn!(
            target: "analytics_temporal::failed",
            integration = handler.name(),
            kind = %input.kind(),
            message_id = input.message_id(),
            workflow_id = ctx.workflow_id(),
            error = %error.kind(),
            "an event failed"
        );
    }
    if !handler.workflow_failed(&input.event, error) {
        tracing::error!(integration = handler.name(), "a hook panicked");
    }
}

/// Says that events failed of which nothing could be read, and so no hook told.
pub(crate) fn log_unread(
    handler: &Handler,
    ctx: &WorkflowContext<DynWorkflow>,
    events: Option<usize>,
    error: &Error,
) {
    if !ctx.is_replaying() {
        tracing::warn!(
            target: "analytics_temporal::failed",
            integration = handler.name(),
            events,
            workflow_id = ctx.workflow_id(),
            error = %error.kind(),
            "events failed that could not be read"
        );
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn fail(error: Error) -> WorkflowTermination {
    WorkflowTermination::failed_application(failures::permanent(&error))
}
