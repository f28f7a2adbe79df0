//! What the activities of a batch do.

use std::time::{Duration, Instant};

use analytics_spec::{
    AnyInput, BatchOutput, Error, Failure, Handler, Retries,
    batch::{Deliveries, Next, Outcome, attempt, attempt_each, failed_together, share},
    handler::Step,
};
use temporalio_common::{ActivityError, data_converters::RawValue};

use super::{Call, Given, Plan, Validated, failed, longest, reading::Batch};
use crate::{
    activities::{self, check, permanent},
    attempting::Attempting,
    failures, ids,
    limits::{self, MAX_BATCH_BYTES, MAX_INPUT_BYTES},
    options, payload,
};

/// Which inputs are wrong. For the workflow, what is wrong with each, and the
/// plan; executed alone, an outcome for each.
pub(crate) async fn validate(
    handler: Handler,
    max_history: u32,
    ctx: Attempting,
    input: RawValue,
) -> Result<RawValue, ActivityError> {
    let call = match Given::read(input).map_err(permanent)? {
        Given::Call(call) => call,
        Given::Alone(input) => {
            let output = alone(&handler, &ctx, input, Step::Validation).await?;
            return payload::write(&output).map_err(permanent);
        }
    };
    let plan = Plan::new(&handler, max_history, &call);
    let sizes = call.call.iter().map(|(input, _)| limits::json_bytes(input));
    let sizes: Vec<_> = sizes.collect();
    // What is too large by itself is not among those that are handed on.
    let together = sizes.iter().filter(|bytes| **bytes <= MAX_INPUT_BYTES);
    let together = together.sum::<usize>().saturating_add(plan.extra);
    if together > MAX_BATCH_BYTES {
        let error = payload::too_large(together);
        return Err(permanent(error.with_integration(handler.name())));
    }
    let failures = call
        .call
        .into_iter()
        .zip(&sizes)
        .map(|((input, _), bytes)| {
            let input = call.batch.complete(input);
            let error = accept(&handler, &input, *bytes).err()?;
            failed("", &error, call.outcome_bytes).error
        });
    let validated = Validated {
        failures: failures.collect(),
        sizes,
        plan,
    };
    payload::write(&validated).map_err(permanent)
}

/// The validation step for an event of a batch that has so many bytes: it with
/// its context, if it is right.
fn accept(handler: &Handler, input: &AnyInput, bytes: usize) -> Result<AnyInput, Error> {
    if bytes > MAX_INPUT_BYTES {
        return Err(payload::too_large(bytes).with_integration(handler.name()));
    }
    let input = handler.complete(input).into_owned();
    check(handler, &input).map(|()| input)
}

/// One attempt at the events of a call. For the workflow, what follows for
/// each; executed alone, an outcome for each.
pub(crate) async fn request(
    handler: Handler,
    ctx: Attempting,
    input: RawValue,
) -> Result<RawValue, ActivityError> {
    let call = match Given::read(input).map_err(permanent)? {
        Given::Call(call) => call,
        Given::Alone(input) => {
            let output = alone(&handler, &ctx, input, Step::Request).await?;
            return payload::write(&output).map_err(permanent);
        }
    };
    let outcome_bytes = call.outcome_bytes;
    let mut nexts = requested(&handler, &ctx, *call).await?;
    for next in &mut nexts {
        match next {
            Next::Settled(outcome) => limits::cut_outcome(outcome, outcome_bytes),
            Next::Again { error, .. } => {
                error.response = None;
                let error_again = Error::from(Failure::clone(error));
                if let Some(cut) = failed("", &error_again, outcome_bytes).error {
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
    ctx: &Attempting,
    call: Call,
) -> Result<Vec<Next>, ActivityError> {
    let lost = ctx.info().attempt.saturating_sub(1);
    let timeout = longest(handler, &call);
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
    let nexts = if is_to_part(handler, lost, &events) {
        parted(handler, &events)
    } else {
        attempted(handler, ctx, timeout, &events).await?
    };
    let mut nexts = nexts.into_iter();
    let next = |ended: Option<Next>| ended.or_else(|| nexts.next());
    Ok(ended.into_iter().filter_map(next).collect())
}

/// One attempt at the events of a call whose longest request takes `timeout`.
async fn attempted(
    handler: &Handler,
    ctx: &Attempting,
    timeout: Duration,
    events: &[(AnyInput, Retries)],
) -> Result<Vec<Next>, ActivityError> {
    let attempted = async |limit: Duration| {
        let time = options::call_deadline(timeout).min(limit / 2);
        let deadline = Instant::now().checked_add(time);
        Ok(attempt(handler, events, deadline, fastrand::f64()).await)
    };
    let limit = options::call_timeout(timeout);
    let nexts = ctx.within(limit, Retries::new(), attempted).await;
    let nexts = nexts.map_err(|_| activities::given_up())?;
    Ok(nexts.unwrap_or_else(|error| {
        let error = error.with_integration(handler.name());
        failed_together(handler, events, &error, fastrand::f64())
    }))
}

/// Whether a call that no worker lived to report is not made again as it is: one
/// of its events may be why, by ending the process or holding its thread. Once,
/// it may be that the worker was replaced, unless the events are to be attempted
/// in smaller calls by now.
fn is_to_part(handler: &Handler, lost: u32, events: &[(AnyInput, Retries)]) -> bool {
    let count = events.len();
    let mut shares = events.iter().map(|event| lost_share(handler, event));
    count > 1 && (lost > 1 || lost == 1 && shares.any(|share| share < count))
}

/// What follows for each event of such a call, of which this attempt makes none:
/// one in a call half as large, or smaller, so that the event is in the end alone
/// with what it does.
fn parted(handler: &Handler, events: &[(AnyInput, Retries)]) -> Vec<Next> {
    let error = activities::lost().with_integration(handler.name());
    let next = |event: &(AnyInput, Retries)| Next::Again {
        retries: event.1,
        after: Duration::ZERO,
        error: Box::new(Failure::from(&error)),
        at_most: Some(lost_share(handler, event).min(events.len() / 2).max(1)),
    };
    events.iter().map(next).collect()
}

/// In how large a call an event goes after those attempts.
fn lost_share(handler: &Handler, (input, retries): &(AnyInput, Retries)) -> usize {
    let max_items = handler.integration().batching().max_items;
    let maximum_attempts = handler.request_policy(input).maximum_attempts;
    share(max_items, maximum_attempts, retries)
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
    let policy = handler.request_policy(&input);
    for _ in 0..lost {
        if retries.failed(&error, &policy, 0.0).is_none() {
            let outcome = Outcome::failure(input.message_id(), &error);
            return Err(Next::Settled(Box::new(outcome)));
        }
    }
    Ok((input, retries))
}

/// One step of a batch, once, for whoever executes the activity alone, who says
/// how often that is.
async fn alone(
    handler: &Handler,
    ctx: &Attempting,
    input: RawValue,
    step: Step,
) -> Result<BatchOutput, ActivityError> {
    let mut batch =
        Batch::read(input).map_err(|e| permanent(e.with_integration(handler.name())))?;
    let bytes = limits::outcome_bytes(batch.batch.inputs.len());
    let inputs = batch.take_inputs(handler, |index, input| {
        ids::stamp_activity_at(ctx.info(), index, input);
    });
    let inputs = inputs.into_iter().map(|input| {
        let input = input?;
        let size = limits::json_bytes(&input);
        let id = input.message_id().to_owned();
        match accept(handler, &batch.batch.complete(input), size) {
            Err(error) => Err(Box::new(failed(&id, &error, bytes))),
            Ok(_) if step == Step::Validation => Err(Box::new(Outcome::success(&id, None))),
            Ok(input) => Ok(input),
        }
    });
    let mut deliveries = Deliveries::new(inputs);
    if !deliveries.is_done() {
        let requests = async |limit: Duration| {
            let deadline = Instant::now().checked_add(limit / 2);
            attempt_each(handler, &mut deliveries, deadline).await;
            Ok(())
        };
        let requested = ctx.within(Duration::MAX, Retries::new(), requests).await?;
        requested.map_err(|error| {
            let error = error.with_integration(handler.name());
            if error.is_retryable() {
                failures::transient(&error, None)
            } else {
                failures::permanent(&error)
            }
        })?;
    }
    let mut output = deliveries.into_output();
    for outcome in &mut output.outcomes {
        limits::cut_outcome(outcome, bytes);
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use analytics_spec::{Input as One, Track};

    use super::*;

    /// After so many attempts that nobody lived to report, in how large calls the
    /// events go on; with nothing, this one is made.
    #[test]
    fn a_call_that_is_lost_again_is_parted() {
        let parts = |maximum_attempts: u32, counted: u32, lost: u32, count: usize| {
            let handler = crate::tests::mixpanel(maximum_attempts);
            let events = (0..count).filter_map(|_| {
                let input = One::new(Track::new("e").user_id("u")).into_any();
                let mut retries = Retries::new();
                (retries.made, retries.counted) = (counted, counted);
                after_lost(&handler, lost, input, retries).ok()
            });
            let events: Vec<_> = events.collect();
            assert_eq!(events.len(), count);
            is_to_part(&handler, lost, &events).then(|| {
                let mut sizes = parted(&handler, &events)
                    .into_iter()
                    .map(|next| match next {
                        Next::Again {
                            retries, at_most, ..
                        } => {
                            assert_eq!(retries.counted, counted + lost);
                            at_most.unwrap()
                        }
                        Next::Settled(outcome) => panic!("{outcome:?}"),
                    });
                let first = sizes.next().unwrap();
                assert!(sizes.all(|size| size == first));
                first
            })
        };
        assert_eq!(parts(0, 0, 0, 9), None);
        // A worker that is replaced.
        assert_eq!(parts(0, 0, 1, 9), None);
        assert_eq!(parts(0, 0, 2, 9), Some(4));
        assert_eq!(parts(0, 2, 2, 4), Some(2));
        assert_eq!(parts(0, 90, 2, 1), None);
        // The last attempt is made alone.
        assert_eq!(parts(10, 0, 2, 9), Some(4));
        assert_eq!(parts(10, 8, 1, 2), Some(1));
        assert_eq!(parts(2, 0, 1, 9), Some(1));
        assert_eq!(parts(2, 0, 1, 1), None);
    }
}
