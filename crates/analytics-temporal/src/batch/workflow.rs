//! The workflow of a batch.

use std::time::{Duration, SystemTime};

use analytics_spec::{
    AnyInput, BatchInput, Error, ErrorKind, Handler, Retries, Value,
    batch::{Deliveries, Next, Outcome},
    handler::{Step, Takes, activity_name},
};
use serde::{Deserialize, Serialize};
use temporalio_common::{
    UntypedActivity, data_converters::RawValue, error::ActivityExecutionError,
};
use temporalio_sdk::{
    ContinueAsNewOptions, TimerResult, WorkflowContext, WorkflowTermination, workflows::join_all,
};

use super::{Call, Plan, Validated, failed, longest, one_each, reading::Batch};
use crate::{
    dynamic::{DynWorkflow, Ended},
    failures,
    ids::Origin,
    limits, options, payload,
    workflow::{fail, log_unread, queue, tell},
};

/// A batch on its way: what a run hands to the next one.
#[derive(Debug, Serialize, Deserialize)]
struct Continued {
    continued: Deliveries,
    /// What holds for all events; without inputs.
    batch: BatchInput<Value>,
    plan: Plan,
}

impl Continued {
    /// Why the last attempts failed stays in this run's history: with it, the
    /// whole could be more than Temporal takes.
    fn new(mut deliveries: Deliveries, batch: BatchInput<Value>, plan: Plan) -> Self {
        deliveries.forget_errors();
        Self {
            continued: deliveries,
            batch,
            plan,
        }
    }
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
    } = match read(&ctx, input) {
        Ok(Input::Continued(continued)) => continued,
        Ok(Input::New(new)) => validated(&handler, &ctx, new).await?,
        Err(error) => {
            log_unread(&handler, &ctx, None, &error);
            return Err(named(error));
        }
    };
    let (mut sent, mut received) = (0_usize, 0_usize);
    while !deliveries.is_done() {
        // A new run would know nothing of it.
        if ctx.cancellation_token().is_cancelled() {
            return Err(WorkflowTermination::cancelled());
        }
        let history = ctx.history_length();
        if ctx.info().cron_schedule().is_some() {
            // With it, the schedule would end: the SDK gives a new run none.
            if plan.is_over(history, sent.saturating_add(received)) {
                return Err(ended(&handler, &ctx, &deliveries, Some(full())));
            }
        } else if ctx.continue_as_new_suggested() || plan.is_full(history, sent) {
            let continued = Continued::new(deliveries, batch, plan);
            let next = payload::write(&continued).map_err(fail)?;
            let options = ContinueAsNewOptions::default();
            return match ctx.continue_as_new(next, options) {
                Ok(never) => match never {},
                Err(termination) => Err(termination),
            };
        }
        let round = deliveries.round(now(&ctx), &plan.limits, plan.extra);
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
                outcome_bytes: plan.outcome_bytes,
            };
            let timeout = longest(&handler, &call);
            let argument = payload::write(&call).map_err(fail)?;
            let bytes = deliveries.bytes(&positions).saturating_add(plan.extra);
            sent = sent.saturating_add(bytes);
            let name = activity_name(handler.name(), Takes::Batch, Step::Request);
            let options = options::call(timeout, queue(&handler, &ctx));
            let running = ctx.execute_activity(UntypedActivity::new(name), argument, options);
            calls.push(async move { (positions, running.await) });
        }
        let mut nexts = Vec::with_capacity(calls.len());
        let mut unsaid = None;
        for (positions, result) in join_all(calls).await {
            let next = result.map_err(|error| why(&error)).and_then(|output| {
                received = received.saturating_add(payload::bytes(&output));
                let next = payload::parse_output::<Vec<Next>>(&output);
                let next = next.and_then(|next| one_each(&next, positions.len()).map(|()| next));
                next.map_err(Some)
            });
            match next {
                Ok(next) => nexts.push((positions, next)),
                Err(why) => unsaid = unsaid.or(Some(why)),
            }
        }
        for failed in deliveries.apply(nexts, now(&ctx)) {
            tell(&handler, &ctx, &failed.input, &failed.error);
        }
        // After what the other calls say: of their events, it is not true.
        if let Some(why) = unsaid {
            return Err(ended(&handler, &ctx, &deliveries, why));
        }
    }
    payload::write(&deliveries.into_output()).map_err(fail)
}

fn full() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the history of this run is full, and on a cron schedule it goes on in no other: a \
         Temporal schedule starts batches that do",
    )
    .with_retryable(false)
}

enum Input {
    New(Batch),
    Continued(Continued),
}

fn read(ctx: &WorkflowContext<DynWorkflow>, input: RawValue) -> Result<Input, Error> {
    if ctx.info().continued_from_run_id().is_some()
        && let Ok(continued) = payload::parse_output(&input)
    {
        return Ok(Input::Continued(continued));
    }
    Batch::read(input).map(Input::New)
}

/// Fixes the events' identities, and has all of them validated at once.
async fn validated(
    handler: &Handler,
    ctx: &WorkflowContext<DynWorkflow>,
    mut new: Batch,
) -> Result<Continued, WorkflowTermination> {
    let origin = Origin::of(&ctx.info());
    let inputs = new.take_inputs(handler, |index, input| origin.stamp_at(index, input));
    let Batch { batch, .. } = new;
    tell_unread(handler, ctx, &inputs);
    let outcome_bytes = limits::outcome_bytes(inputs.len());
    let accepted = inputs.iter().filter_map(|input| input.as_ref().ok());
    let argument = Call {
        call: accepted
            .map(|input| (input.clone(), Retries::new()))
            .collect(),
        batch: batch.clone(),
        outcome_bytes,
    };
    let events = argument.call.len();
    let argument = payload::write(&argument).map_err(fail)?;
    let name = activity_name(handler.name(), Takes::Batch, Step::Validation);
    let output = ctx
        .execute_local_activity(UntypedActivity::new(name), argument, options::validation())
        .await;
    let validated = match &output {
        Ok(output) => Validated::read(output, events).map_err(Some),
        Err(error) => Err(why(error)),
    };
    let Validated {
        failures,
        sizes,
        plan,
    } = validated.map_err(|why| ended(handler, ctx, &unmeasured(&inputs), why))?;
    let mut validations = failures.into_iter().zip(sizes);
    let measured = inputs.into_iter().map(|input| {
        let input = input?;
        match validations.next() {
            Some((Some(failure), _)) => {
                let error = Error::from(failure);
                tell(handler, ctx, &input, &error);
                Err(Box::new(failed(input.message_id(), &error, outcome_bytes)))
            }
            validation => Ok((input, validation.map_or(0, |(_, bytes)| bytes))),
        }
    });
    let deliveries = Deliveries::measured(measured);
    Ok(Continued::new(deliveries, batch, plan))
}

/// The inputs of a batch that does not get beyond its validation.
fn unmeasured(inputs: &[Result<AnyInput, Box<Outcome>>]) -> Deliveries {
    let inputs = inputs.iter().cloned();
    Deliveries::measured(inputs.map(|input| Ok((input?, 0))))
}

/// Events of which nothing could be read: there is nothing that hooks could see.
fn tell_unread(
    handler: &Handler,
    ctx: &WorkflowContext<DynWorkflow>,
    inputs: &[Result<AnyInput, Box<Outcome>>],
) {
    let mut errors = inputs.iter().filter_map(|input| {
        let outcome = input.as_ref().err()?;
        outcome.to_error()
    });
    if let Some(first) = errors.next() {
        log_unread(handler, ctx, Some(1 + errors.count()), &first);
    }
}

/// Why an activity says nothing of the single events: nothing, if it was
/// cancelled.
fn why(error: &ActivityExecutionError) -> Option<Error> {
    let is_cancelled = error.as_cancelled().is_some();
    (!is_cancelled).then(|| failures::of_activity(error))
}

/// How that ends the workflow, and with it those events that have not ended.
fn ended(
    handler: &Handler,
    ctx: &WorkflowContext<DynWorkflow>,
    deliveries: &Deliveries,
    why: Option<Error>,
) -> WorkflowTermination {
    let Some(error) = why else {
        return WorkflowTermination::cancelled();
    };
    let error = error.with_integration(handler.name());
    for (_, input) in deliveries.pending() {
        tell(handler, ctx, input, &error);
    }
    fail(error)
}

/// The workflow's time, which a replay sees again.
fn now(ctx: &WorkflowContext<DynWorkflow>) -> Duration {
    let now = ctx.workflow_time().unwrap_or(SystemTime::UNIX_EPOCH);
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use analytics_spec::{Input as One, Track, integration::Batching};

    use super::*;
    use crate::limits::{MAX_BATCH_BYTES, MAX_BATCH_EVENTS};

    /// Whatever has failed for good and whatever will be tried again: what a run
    /// hands to the next is below what Temporal takes.
    #[test]
    fn the_largest_batch_fits_between_runs() {
        let bytes = limits::outcome_bytes(MAX_BATCH_EVENTS);
        let error = Error::new(ErrorKind::Unavailable, "m".repeat(5000)).with_integration("puppet");
        for failed_first in [0, MAX_BATCH_EVENTS / 2, MAX_BATCH_EVENTS - 1] {
            // The last one is as large as the others leave room for.
            let mut room = MAX_BATCH_BYTES;
            let inputs = (0..MAX_BATCH_EVENTS).map(|n| {
                let event = |filler: usize| {
                    let mut input =
                        One::new(Track::new("x".repeat(filler)).user_id("u")).into_any();
                    input.context.message_id = Some(uuid::Uuid::nil().to_string());
                    input
                };
                let least = limits::json_bytes(&event(1));
                let filler = if n + 1 == MAX_BATCH_EVENTS {
                    room - least
                } else {
                    1
                };
                room -= least;
                Ok(event(filler))
            });
            let mut deliveries = Deliveries::new(inputs);
            let positions: Vec<_> = (0..MAX_BATCH_EVENTS).collect();
            let nexts = deliveries.call(&positions).into_iter().enumerate();
            let nexts = nexts.map(|(n, (input, mut retries))| {
                (retries.made, retries.counted, retries.outage) = (u32::MAX, u32::MAX, u32::MAX);
                retries.asked = Duration::new(u32::MAX.into(), 999_999_999);
                let error = failed(input.message_id(), &error, bytes);
                if n < failed_first {
                    return Next::Settled(Box::new(error));
                }
                Next::Again {
                    retries,
                    after: Duration::new(u32::MAX.into(), 999_999_999),
                    error: Box::new(error.error.unwrap()),
                    at_most: Some(MAX_BATCH_EVENTS),
                }
            });
            let nexts = vec![(positions.clone(), nexts.collect())];
            let _ = deliveries.apply(nexts, Duration::from_secs(u32::MAX.into()));
            let plan = Plan {
                limits: Batching::single(usize::MAX),
                extra: usize::MAX,
                outcome_bytes: usize::MAX,
                max_history: u32::MAX,
                max_sent: usize::MAX,
            };
            let continued = Continued::new(deliveries, BatchInput::new([]), plan);
            let size = limits::json_bytes(&continued);
            assert!(size < 2 * 1024 * 1024 - 16 * 1024, "{failed_first}: {size}");
        }
    }
}
