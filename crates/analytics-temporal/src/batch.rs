//! The workflow of a batch, and its activities: one call for the events that
//! go together, again for those only that have not succeeded.

use std::time::{Duration, SystemTime};

use analytics_spec::{
    AnyInput, BatchInput, BatchOutput, Code, Error, Failure, Handler, Retries, ValidationError,
    Value,
    batch::{Deliveries, Next, Outcome, attempt},
    handler::{Step, Takes, activity_name},
    integration::Batching,
};
use serde::{Deserialize, Serialize};
use temporalio_common::{
    ActivityError, UntypedActivity, data_converters::RawValue, error::ActivityExecutionError,
};
use temporalio_sdk::{
    ContinueAsNewOptions, TimerResult, WorkflowContext, WorkflowTermination,
    activities::ActivityContext, workflows::join_all,
};

use crate::{
    activities::{self, permanent, time_left, unbroken, within},
    dynamic::{DynWorkflow, Ended},
    failures, ids,
    ids::Origin,
    limits::{self, MAX_BATCH_EVENTS, MAX_CALL_BYTES, MAX_INPUT_BYTES},
    options, payload,
    workflow::{fail, tell},
};

/// A batch on its way: what a run hands to the next one.
#[derive(Debug, Serialize, Deserialize)]
struct Continued {
    continued: Deliveries,
    /// What holds for all events; without inputs.
    batch: BatchInput<Value>,
    plan: Plan,
}

/// What decides how a batch is split into calls and runs, as it was when the
/// batch was validated. It is read from the history alone: a batch on its way
/// goes on as it began, also if the integration's next version has other limits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Plan {
    limits: Batching,
    /// A run whose history has this many events goes on in a new one.
    max_history: u32,
}

impl Plan {
    /// The plan for events that share `extra` bytes.
    fn new(handler: &Handler, max_history: u32, extra: usize) -> Self {
        let mut limits = handler.integration().batching();
        limits.max_bytes = limits.max_bytes.min(MAX_CALL_BYTES.max(extra * 2));
        // What is shared is sent along with each call.
        let room = MAX_INPUT_BYTES / extra.max(1);
        limits.max_in_flight = limits.max_in_flight.min(room);
        Self {
            limits,
            max_history,
        }
    }
}

/// What the validation activity tells the workflow.
#[derive(Debug, Serialize, Deserialize)]
struct Validated {
    /// What is wrong with each event.
    failures: Vec<Option<Failure>>,
    plan: Plan,
}

/// What the activities are given by the workflow.
#[derive(Debug, Serialize, Deserialize)]
struct Call {
    call: Vec<(AnyInput, Retries)>,
    batch: BatchInput<Value>,
    /// How large one outcome may be.
    outcome_bytes: usize,
}

/// Carries the events of a batch to their ends.
pub(crate) async fn run(
    handler: Handler,
    ctx: WorkflowContext<DynWorkflow>,
    input: RawValue,
) -> Ended {
    let named = |error: Error| fail(error.with_integration(handler.name()));
    let Continued {
        continued: mut deliveries,
        batch,
        plan,
    } = match read(&ctx, input).map_err(named)? {
        Input::Continued(continued) => continued,
        Input::New(new) => validated(&handler, &ctx, new).await?,
    };
    let extra = limits::json_bytes(&batch);
    let outcome_bytes = limits::outcome_bytes(deliveries.len());
    let mut sent = 0_usize;
    while !deliveries.is_done() {
        if ctx.continue_as_new_suggested()
            || ctx.history_length() >= plan.max_history
            || sent >= 4 * MAX_INPUT_BYTES
        {
            let continued = Continued {
                continued: deliveries,
                batch,
                plan,
            };
            let next = payload::write(&continued).map_err(fail)?;
            let options = ContinueAsNewOptions::default();
            return match ctx.continue_as_new(next, options) {
                Ok(never) => match never {},
                Err(termination) => Err(termination),
            };
        }
        let round = deliveries.round(now(&ctx), &plan.limits, extra);
        if round.calls.is_empty() {
            let pause = round.due.unwrap_or_default().saturating_sub(now(&ctx));
            let pause = pause.max(Duration::from_millis(1));
            if ctx.timer(pause).await == TimerResult::Cancelled {
                return Err(WorkflowTermination::cancelled());
            }
            continue;
        }
        let mut calls = Vec::with_capacity(round.calls.len());
        for positions in round.calls {
            let call = Call {
                call: deliveries.call(&positions),
                batch: batch.clone(),
                outcome_bytes,
            };
            let own = call.call.iter().map(|(input, _)| {
                let policy = handler.request_policy(&batch.complete(input.clone()));
                policy.single_attempt_timeout
            });
            let timeout = own.max().unwrap_or_default();
            let argument = payload::write(&call).map_err(fail)?;
            sent = sent.saturating_add(argument.payloads.iter().map(|p| p.data.len()).sum());
            let name = activity_name(handler.name(), Takes::Batch, Step::Request);
            let running =
                ctx.execute_activity(UntypedActivity::new(name), argument, options::call(timeout));
            calls.push(async move { (positions, running.await) });
        }
        let mut nexts = Vec::with_capacity(calls.len());
        for (positions, result) in join_all(calls).await {
            let output = result.map_err(|error| ended(&handler, &error))?;
            let next: Vec<Next> = payload::parse_output(&output).map_err(named)?;
            nexts.push((positions, next));
        }
        for failed in deliveries.apply(nexts, now(&ctx)) {
            tell(&handler, &ctx, &failed.event, &failed.error);
        }
    }
    payload::write(&deliveries.into_output()).map_err(fail)
}

enum Input {
    New(BatchInput<Value>),
    Continued(Continued),
}

fn read(ctx: &WorkflowContext<DynWorkflow>, input: RawValue) -> Result<Input, Error> {
    if ctx.info().continued_from_run_id().is_some()
        && let Ok(continued) = payload::parse_output(&input)
    {
        return Ok(Input::Continued(continued));
    }
    let batch = BatchInput::<Value>::from_value(payload::read(input)?)?;
    check_count(batch.inputs.len())?;
    Ok(Input::New(batch))
}

/// Refuses a batch of more events than one workflow takes.
pub(crate) fn check_count(events: usize) -> Result<(), Error> {
    if events <= MAX_BATCH_EVENTS {
        return Ok(());
    }
    let message = format!("has {events} events; a batch has at most {MAX_BATCH_EVENTS}");
    Err(ValidationError::new("inputs", Code::TooLarge, message).into())
}

/// Fixes the events' identities, and has all of them validated at once.
async fn validated(
    handler: &Handler,
    ctx: &WorkflowContext<DynWorkflow>,
    mut batch: BatchInput<Value>,
) -> Result<Continued, WorkflowTermination> {
    let origin = Origin::of(&ctx.info());
    let values = std::mem::take(&mut batch.inputs);
    let outcome_bytes = limits::outcome_bytes(values.len());
    let inputs = values.into_iter().enumerate().map(|(index, value)| {
        let mut input = accept(handler, value, outcome_bytes)?;
        origin.stamp_at(index, &mut input);
        Ok(input)
    });
    let mut deliveries = Deliveries::new(inputs);
    let indices: Vec<_> = deliveries.pending().map(|(index, _)| index).collect();
    let all: Vec<_> = (0..indices.len()).collect();
    let argument = Call {
        call: deliveries.call(&all),
        batch: batch.clone(),
        outcome_bytes,
    };
    let argument = payload::write(&argument).map_err(fail)?;
    let name = activity_name(handler.name(), Takes::Batch, Step::Validation);
    let output = ctx
        .execute_local_activity(UntypedActivity::new(name), argument, options::validation())
        .await
        .map_err(|error| ended(handler, &error))?;
    let Validated { failures, plan } = payload::parse_output(&output).map_err(fail)?;
    for (index, failure) in indices.into_iter().zip(failures) {
        let Some(failure) = failure else { continue };
        let error = Error::from(failure);
        let input = deliveries.pending().find(|(pending, _)| *pending == index);
        let Some((_, input)) = input else { continue };
        tell(handler, ctx, &input.event, &error);
        let outcome = Outcome::failure(input.message_id(), &error);
        deliveries.settle(index, outcome);
    }
    Ok(Continued {
        continued: deliveries,
        batch,
        plan,
    })
}

/// How an activity that says nothing of the single events ends the workflow.
fn ended(handler: &Handler, error: &ActivityExecutionError) -> WorkflowTermination {
    match error.as_cancelled() {
        Some(_) => WorkflowTermination::cancelled(),
        None => fail(failures::of_activity(error).with_integration(handler.name())),
    }
}

fn accept(handler: &Handler, value: Value, outcome_bytes: usize) -> Result<AnyInput, Box<Outcome>> {
    AnyInput::accept(value, None).map_err(|error| {
        let error = Error::from(error).with_integration(handler.name());
        let mut outcome = Outcome::failure("", &error);
        limits::cut_outcome(&mut outcome, outcome_bytes);
        Box::new(outcome)
    })
}

/// The workflow's time, which a replay sees again.
fn now(ctx: &WorkflowContext<DynWorkflow>) -> Duration {
    let now = ctx.workflow_time().unwrap_or(SystemTime::UNIX_EPOCH);
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Which inputs are wrong. For the workflow, what is wrong with each, and the
/// plan; executed alone, an outcome for each.
pub(crate) async fn validate(
    handler: Handler,
    max_history: u32,
    ctx: ActivityContext,
    input: RawValue,
) -> Result<RawValue, ActivityError> {
    let Some(call) = of_workflow(&input) else {
        let output = alone(&handler, &ctx, input, Step::Validation).await?;
        return payload::write(&output).map_err(permanent);
    };
    let validated = unbroken(async {
        let plan = Plan::new(&handler, max_history, limits::json_bytes(&call.batch));
        let failures = call.call.into_iter().map(|(input, _)| {
            let input = call.batch.complete(input);
            let error = handler.validate(&handler.complete(&input)).err()?;
            let mut outcome = Outcome::failure("", &error);
            limits::cut_outcome(&mut outcome, call.outcome_bytes);
            outcome.error
        });
        Ok(Validated {
            failures: failures.collect(),
            plan,
        })
    });
    let validated = validated.await.map_err(permanent)?;
    payload::write(&validated).map_err(permanent)
}

/// One attempt at the events of a call. For the workflow, what follows for
/// each; executed alone, an outcome for each.
pub(crate) async fn request(
    handler: Handler,
    ctx: ActivityContext,
    input: RawValue,
) -> Result<RawValue, ActivityError> {
    let Some(call) = of_workflow(&input) else {
        let output = alone(&handler, &ctx, input, Step::Request).await?;
        return payload::write(&output).map_err(permanent);
    };
    let outcome_bytes = call.outcome_bytes;
    let mut nexts = unbroken(requested(&handler, &ctx, call))
        .await
        .map_err(permanent)?;
    for next in &mut nexts {
        match next {
            Next::Settled(outcome) => limits::cut_outcome(outcome, outcome_bytes),
            Next::Again { error, .. } => {
                error.response = None;
                let mut outcome = Outcome::failure("", &Error::from(Failure::clone(error)));
                limits::cut_outcome(&mut outcome, outcome_bytes);
                if let Some(cut) = outcome.error {
                    **error = cut;
                }
            }
        }
    }
    payload::write(&nexts).map_err(permanent)
}

/// What follows for each event of a call. Policies have a say here and not in
/// the workflow, which they would lead elsewhere when it is replayed.
async fn requested(
    handler: &Handler,
    ctx: &ActivityContext,
    call: Call,
) -> Result<Vec<Next>, Error> {
    let lost = ctx.info().attempt.saturating_sub(1);
    let mut events = Vec::with_capacity(call.call.len());
    let mut ended = Vec::with_capacity(call.call.len());
    for (input, retries) in call.call {
        let input = handler.complete(&call.batch.complete(input)).into_owned();
        match after_lost(handler, lost, input, retries) {
            Ok(event) => {
                events.push(event);
                ended.push(None);
            }
            Err(next) => ended.push(Some(next)),
        }
    }
    let limit = time_left(ctx.info());
    let attempted = async { Ok(attempt(handler, &events, limit, fastrand::f64()).await) };
    let nexts = within(ctx, limit, Retries::new(), attempted).await;
    let nexts = nexts.unwrap_or_else(|error| {
        let error = error.with_integration(handler.name());
        let events = events.into_iter();
        events
            .map(|(input, retries)| after_failure(handler, &error, &input, retries))
            .collect()
    });
    let mut nexts = nexts.into_iter();
    let next = |ended: Option<Next>| ended.or_else(|| nexts.next());
    Ok(ended.into_iter().filter_map(next).collect())
}

/// An event after the attempts that no worker lived to report; they count, and
/// may have been the last.
fn after_lost(
    handler: &Handler,
    lost: u32,
    input: AnyInput,
    mut retries: Retries,
) -> Result<(AnyInput, Retries), Next> {
    let error = activities::lost().with_integration(handler.name());
    for _ in 0..lost {
        match after_failure(handler, &error, &input, retries) {
            Next::Again { retries: next, .. } => retries = next,
            settled @ Next::Settled(_) => return Err(settled),
        }
    }
    Ok((input, retries))
}

/// What follows an attempt that failed for all events of its call.
fn after_failure(handler: &Handler, error: &Error, input: &AnyInput, mut retries: Retries) -> Next {
    match retries.failed(error, &handler.request_policy(input), fastrand::f64()) {
        Some(after) => Next::Again {
            retries,
            after,
            error: Box::new(Failure::from(error)),
        },
        None => Next::Settled(Box::new(Outcome::failure(input.message_id(), error))),
    }
}

fn of_workflow(input: &RawValue) -> Option<Call> {
    payload::parse_output(input).ok()
}

/// One step of a batch, once, for whoever executes the activity alone.
async fn alone(
    handler: &Handler,
    ctx: &ActivityContext,
    input: RawValue,
    step: Step,
) -> Result<BatchOutput, ActivityError> {
    let read = || {
        let batch = BatchInput::<Value>::from_value(payload::read(input)?)?;
        check_count(batch.inputs.len()).map(|()| batch)
    };
    let mut batch = read().map_err(|e: Error| permanent(e.with_integration(handler.name())))?;
    let values = std::mem::take(&mut batch.inputs);
    let bytes = limits::outcome_bytes(values.len());
    let limit = time_left(ctx.info());
    let steps = async {
        let inputs = values.into_iter().enumerate().map(|(index, value)| {
            let input = accept(handler, value, bytes)?;
            let mut input = handler.complete(&batch.complete(input)).into_owned();
            ids::stamp_activity_at(ctx.info(), index, &mut input);
            match handler.validate(&input) {
                Err(error) => Err(Box::new(Outcome::failure(input.message_id(), &error))),
                Ok(()) if step == Step::Validation => {
                    Err(Box::new(Outcome::success(input.message_id(), None)))
                }
                Ok(()) => Ok(input),
            }
        });
        let mut deliveries = Deliveries::new(inputs);
        let limits = Batching {
            max_in_flight: usize::MAX,
            ..handler.integration().batching()
        };
        let mut nexts = Vec::new();
        for positions in deliveries.round(Duration::MAX, &limits, 0).calls {
            let events = deliveries.call(&positions);
            let next = attempt(handler, &events, limit, fastrand::f64()).await;
            nexts.push((positions, next));
        }
        // Their attempts' failures have been told where they happened.
        let _ = deliveries.apply(nexts, Duration::ZERO);
        Ok(deliveries.into_output())
    };
    let mut output = within(ctx, limit, Retries::new(), steps)
        .await
        .map_err(permanent)?;
    for outcome in &mut output.outcomes {
        limits::cut_outcome(outcome, bytes);
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use analytics_spec::ErrorKind;

    use super::*;

    #[test]
    fn too_many_events_are_said() {
        assert!(check_count(MAX_BATCH_EVENTS).is_ok());
        let error = check_count(MAX_BATCH_EVENTS + 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation);
    }
}
