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
use temporalio_common::{ActivityError, UntypedActivity, data_converters::RawValue};
use temporalio_sdk::{
    ContinueAsNewOptions, TimerResult, WorkflowContext, WorkflowTermination,
    activities::ActivityContext, workflows::join_all,
};

use crate::{
    activities::{permanent, time_left, unbroken, within},
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
}

/// What a request activity is given by the workflow.
#[derive(Debug, Serialize, Deserialize)]
struct Call {
    call: Vec<(AnyInput, Retries)>,
    batch: BatchInput<Value>,
    /// How large one outcome may be.
    outcome_bytes: usize,
}

/// Carries the events of a batch to their ends. A run whose history has this
/// many events goes on in a new one.
pub(crate) async fn run(
    handler: Handler,
    max_history: u32,
    ctx: WorkflowContext<DynWorkflow>,
    input: RawValue,
) -> Ended {
    let named = |error: Error| fail(error.with_integration(handler.name()));
    let Continued {
        continued: mut deliveries,
        batch,
    } = match read(&ctx, input).map_err(named)? {
        Input::Continued(continued) => continued,
        Input::New(new) => validated(&handler, &ctx, new).await?,
    };
    let (extra, timeout, limits) = unbroken(async {
        let extra = limits::json_bytes(&batch);
        let mut limits = handler.integration().batching();
        limits.max_bytes = limits.max_bytes.min(MAX_CALL_BYTES.max(extra * 2));
        // What is shared is sent along with each call.
        let room = MAX_INPUT_BYTES / extra.max(1);
        limits.max_in_flight = limits.max_in_flight.min(room);
        Ok((
            extra,
            handler.policies().resolve().single_attempt_timeout,
            limits,
        ))
    })
    .await
    .map_err(fail)?;
    let outcome_bytes = limits::outcome_bytes(deliveries.len());
    let mut sent = 0_usize;
    while !deliveries.is_done() {
        if ctx.continue_as_new_suggested()
            || ctx.history_length() >= max_history
            || sent >= 4 * MAX_INPUT_BYTES
        {
            let continued = Continued {
                continued: deliveries,
                batch,
            };
            let next = payload::write(&continued).map_err(fail)?;
            let options = ContinueAsNewOptions::default();
            return match ctx.continue_as_new(next, options) {
                Ok(never) => match never {},
                Err(termination) => Err(termination),
            };
        }
        let round = deliveries.round(now(&ctx), &limits, extra);
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
            let timeout = own.max().unwrap_or(timeout);
            let argument = payload::write(&call).map_err(fail)?;
            sent = sent.saturating_add(argument.payloads.iter().map(|p| p.data.len()).sum());
            let name = activity_name(handler.name(), Takes::Batch, Step::Request);
            let running =
                ctx.execute_activity(UntypedActivity::new(name), argument, options::call(timeout));
            calls.push(async move { (positions, call.call, running.await) });
        }
        let mut nexts = Vec::with_capacity(calls.len());
        for (positions, events, result) in join_all(calls).await {
            let next = match result {
                Ok(output) => payload::parse_output::<Vec<Next>>(&output).map_err(fail)?,
                Err(error) if error.as_cancelled().is_some() => {
                    return Err(WorkflowTermination::cancelled());
                }
                Err(error) => {
                    let error = failures::of_activity(&error).with_integration(handler.name());
                    unfinished(&handler, &batch, &events, &error)
                }
            };
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
    if !deliveries.is_done() {
        let indices: Vec<_> = deliveries.pending().map(|(index, _)| index).collect();
        let all: Vec<_> = (0..indices.len()).collect();
        let argument = Call {
            call: deliveries.call(&all),
            batch: batch.clone(),
            outcome_bytes,
        };
        let argument = payload::write(&argument).map_err(fail)?;
        let name = activity_name(handler.name(), Takes::Batch, Step::Validation);
        let validation = UntypedActivity::new(name);
        let output = ctx
            .execute_local_activity(validation, argument, options::validation())
            .await
            .map_err(|error| match error.as_cancelled() {
                Some(_) => WorkflowTermination::cancelled(),
                None => fail(failures::of_activity(&error)),
            })?;
        let failures: Vec<Option<Failure>> = payload::parse_output(&output).map_err(fail)?;
        for (index, failure) in indices.into_iter().zip(failures) {
            let Some(failure) = failure else { continue };
            let error = Error::from(failure);
            let input = deliveries.pending().find(|(pending, _)| *pending == index);
            let Some((_, input)) = input else { continue };
            tell(handler, ctx, &input.event, &error);
            let outcome = Outcome::failure(input.message_id(), &error);
            deliveries.settle(index, outcome);
        }
    }
    Ok(Continued {
        continued: deliveries,
        batch,
    })
}

fn accept(handler: &Handler, value: Value, outcome_bytes: usize) -> Result<AnyInput, Box<Outcome>> {
    AnyInput::accept(value, None).map_err(|error| {
        let error = Error::from(error).with_integration(handler.name());
        let mut outcome = Outcome::failure("", &error);
        limits::cut_outcome(&mut outcome, outcome_bytes);
        Box::new(outcome)
    })
}

/// What follows an attempt that no worker lived to report.
fn unfinished(
    handler: &Handler,
    batch: &BatchInput<Value>,
    events: &[(AnyInput, Retries)],
    error: &Error,
) -> Vec<Next> {
    let next = |(input, retries): &(AnyInput, Retries)| {
        let mut retries = *retries;
        let policy = handler.request_policy(&batch.complete(input.clone()));
        match retries.failed(error, &policy, 1.0) {
            Some(after) => Next::Again {
                retries,
                after,
                error: Box::new(Failure::from(error)),
            },
            None => Next::Settled(Box::new(Outcome::failure(input.message_id(), error))),
        }
    };
    events.iter().map(next).collect()
}

/// The workflow's time, which a replay sees again.
fn now(ctx: &WorkflowContext<DynWorkflow>) -> Duration {
    let now = ctx.workflow_time().unwrap_or(SystemTime::UNIX_EPOCH);
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Which inputs are wrong. For the workflow, what is wrong with each; executed
/// alone, an outcome for each.
pub(crate) async fn validate(
    handler: Handler,
    ctx: ActivityContext,
    input: RawValue,
) -> Result<RawValue, ActivityError> {
    let Some(call) = of_workflow(&input) else {
        let output = alone(&handler, &ctx, input, Step::Validation).await?;
        return payload::write(&output).map_err(permanent);
    };
    let wrong = unbroken(async {
        let wrong = call.call.into_iter().map(|(input, _)| {
            let input = call.batch.complete(input);
            let error = handler.validate(&handler.complete(&input)).err()?;
            let mut outcome = Outcome::failure("", &error);
            limits::cut_outcome(&mut outcome, call.outcome_bytes);
            outcome.error
        });
        Ok(wrong.collect::<Vec<Option<Failure>>>())
    });
    let wrong = wrong.await.map_err(permanent)?;
    payload::write(&wrong).map_err(permanent)
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
    let events: Vec<_> = call
        .call
        .into_iter()
        .map(|(input, retries)| {
            let input = call.batch.complete(input);
            (handler.complete(&input).into_owned(), retries)
        })
        .collect();
    let limit = time_left(ctx.info());
    let attempted = async { Ok(attempt(&handler, &events, limit, fastrand::f64()).await) };
    let mut nexts = within(&ctx, limit, Retries::new(), attempted)
        .await
        .map_err(permanent)?;
    for next in &mut nexts {
        match next {
            Next::Settled(outcome) => limits::cut_outcome(outcome, call.outcome_bytes),
            Next::Again { error, .. } => {
                error.response = None;
                let mut outcome = Outcome::failure("", &Error::from(Failure::clone(error)));
                limits::cut_outcome(&mut outcome, call.outcome_bytes);
                if let Some(cut) = outcome.error {
                    **error = cut;
                }
            }
        }
    }
    payload::write(&nexts).map_err(permanent)
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
