//! The workflow of a batch, and its activities: one call for the events that
//! go together, again for those only that have not succeeded.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant, SystemTime},
};

use analytics_spec::{
    AnyInput, BatchInput, BatchOutput, Code, Error, ErrorKind, Failure, Handler, Retries,
    ValidationError, Value, Violation,
    batch::{Deliveries, Next, Outcome, attempt, attempt_each, failed_together, share},
    handler::{Step, Takes, activity_name},
    integration::Batching,
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use temporalio_common::{
    ActivityError, UntypedActivity, data_converters::RawValue, error::ActivityExecutionError,
};
use temporalio_sdk::{
    ContinueAsNewOptions, TimerResult, WorkflowContext, WorkflowTermination, workflows::join_all,
};

use crate::{
    activities::{self, check, permanent},
    attempting::Attempting,
    dynamic::{DynWorkflow, Ended},
    failures, ids,
    ids::Origin,
    limits::{
        self, MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_CALL_BYTES, MAX_EVENT_DEPTH, MAX_INPUT_BYTES,
        MAX_SENT_BYTES,
    },
    options, payload,
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

/// What decides how a batch is split into calls and runs, as it was when the
/// batch was validated. It is read from the history alone, as the events' sizes
/// are, and how small a call an event goes in: a batch on its way goes on as it
/// began, also if the next version has other limits or writes events in another
/// way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Plan {
    limits: Batching,
    /// The bytes of what the events share, which each call carries.
    extra: usize,
    /// How large one outcome may be.
    outcome_bytes: usize,
    /// A run whose history has this many events goes on in a new one.
    max_history: u32,
    /// A run whose calls have events of so many bytes goes on in a new one.
    max_sent: usize,
}

impl Plan {
    /// The plan for a validated batch.
    fn new(handler: &Handler, max_history: u32, call: &Call) -> Self {
        let extra = limits::json_bytes(&call.batch);
        let mut limits = handler.integration().batching();
        limits.max_bytes = limits.max_bytes.min(MAX_CALL_BYTES.max(extra * 2));
        // What is shared is sent along with each call.
        let room = MAX_INPUT_BYTES / extra.max(1);
        limits.max_in_flight = limits.max_in_flight.min(room);
        Self {
            limits,
            extra,
            outcome_bytes: call.outcome_bytes,
            max_history,
            max_sent: MAX_SENT_BYTES,
        }
    }
}

/// What the validation activity tells the workflow.
#[derive(Debug, Serialize, Deserialize)]
struct Validated {
    /// What is wrong with each event.
    failures: Vec<Option<Failure>>,
    /// How many bytes each event has as JSON.
    sizes: Vec<usize>,
    plan: Plan,
}

impl Validated {
    fn read(output: &RawValue, events: usize) -> Result<Self, Error> {
        let this: Self = payload::parse_output(output)?;
        one_each(&this.failures, events)?;
        one_each(&this.sizes, events)?;
        Ok(this)
    }
}

/// What an activity says is whose place it stands at: with fewer or more, nobody
/// could tell.
fn one_each<T>(said: &[T], events: usize) -> Result<(), Error> {
    if said.len() == events {
        return Ok(());
    }
    let message = format!(
        "the activity was given {events} events and speaks of {}: are there workers of another \
         version?",
        said.len()
    );
    Err(Error::new(ErrorKind::Internal, message))
}

/// What the activities are given by the workflow. Nobody else's input has the
/// key `call`.
#[derive(Debug, Serialize, Deserialize)]
struct Call {
    call: Vec<(AnyInput, Retries)>,
    batch: BatchInput<Value>,
    /// How large one outcome may be.
    outcome_bytes: usize,
}

/// What an activity is given.
enum Given {
    Call(Box<Call>),
    /// By whoever executes it alone.
    Alone(RawValue),
}

impl Given {
    fn read(input: RawValue) -> Result<Self, Error> {
        // As a map: a struct is read from an array as well.
        let keys: Result<BTreeMap<String, IgnoredAny>, _> = payload::parse_output(&input);
        if keys.is_ok_and(|keys| keys.contains_key("call")) {
            return payload::parse_output(&input).map(Box::new).map(Self::Call);
        }
        Ok(Self::Alone(input))
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
    let mut sent = 0_usize;
    while !deliveries.is_done() {
        if ctx.continue_as_new_suggested()
            || ctx.history_length() >= plan.max_history
            || sent >= plan.max_sent
        {
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

/// The longest time-out of a request among a call's events.
fn longest(handler: &Handler, call: &Call) -> Duration {
    let own = call.call.iter().map(|(input, _)| {
        let policy = handler.request_policy(&call.batch.complete(input.clone()));
        policy.single_attempt_timeout
    });
    own.max().unwrap_or_default()
}

enum Input {
    New(Batch),
    Continued(Continued),
}

/// A batch as it was given, its inputs unread.
struct Batch {
    batch: BatchInput<Value>,
    /// What stands twice in an input, by its place.
    duplicates: HashMap<usize, Vec<Violation>>,
}

impl Batch {
    fn read(input: RawValue) -> Result<Self, Error> {
        let (value, duplicates) = payload::read_batch(input)?;
        let batch = BatchInput::<Value>::from_value(value)?;
        check_count(batch.inputs.len())?;
        Ok(Self { batch, duplicates })
    }

    /// Takes the inputs out: each read, or how its event ended. A workflow does so
    /// again when it is replayed, and has to come to the same: events are read, and
    /// their levels counted, alike by all versions between which a batch may be
    /// on its way. How large an event is when it is written is for an activity to
    /// say.
    fn take_inputs(
        &mut self,
        handler: &Handler,
        mut stamp: impl FnMut(usize, &mut AnyInput),
    ) -> Vec<Result<AnyInput, Box<Outcome>>> {
        let values = std::mem::take(&mut self.batch.inputs);
        let bytes = limits::outcome_bytes(values.len());
        let mut accept = |(index, value): (usize, Value)| -> Result<AnyInput, Error> {
            ValidationError::check(self.duplicates.remove(&index).unwrap_or_default())?;
            let levels = limits::depth(&value);
            if levels > MAX_EVENT_DEPTH {
                let message = format!(
                    "has {levels} levels of arrays and objects; at most {MAX_EVENT_DEPTH} can be \
                     handed on"
                );
                return Err(ValidationError::new("$", Code::TooLarge, message).into());
            }
            let mut input = AnyInput::accept(value, None)?;
            stamp(index, &mut input);
            Ok(input)
        };
        let accepted = values.into_iter().enumerate().map(|input| {
            accept(input).map_err(|error: Error| {
                let error = error.with_integration(handler.name());
                Box::new(failed("", &error, bytes))
            })
        });
        accepted.collect()
    }
}

fn read(ctx: &WorkflowContext<DynWorkflow>, input: RawValue) -> Result<Input, Error> {
    if ctx.info().continued_from_run_id().is_some()
        && let Ok(continued) = payload::parse_output(&input)
    {
        return Ok(Input::Continued(continued));
    }
    Batch::read(input).map(Input::New)
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

/// An outcome that leaves room for the others.
fn failed(message_id: &str, error: &Error, bytes: usize) -> Outcome {
    let mut outcome = Outcome::failure(message_id, error);
    limits::cut_outcome(&mut outcome, bytes);
    outcome
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
    use temporalio_common::protos::temporal::api::common::v1::Payload;

    use super::*;

    fn raw(json: &str) -> RawValue {
        RawValue::new(vec![Payload {
            data: json.into(),
            ..Payload::default()
        }])
    }

    #[test]
    fn only_an_object_can_be_a_call_of_the_workflow() {
        for alone in [
            r#"[{"call":[]}]"#,
            r#"["call"]"#,
            r#"{"inputs":[]}"#,
            "1",
            "",
        ] {
            let given = Given::read(raw(alone));
            assert!(matches!(given, Ok(Given::Alone(_))), "{alone}");
        }
    }

    #[test]
    fn too_many_events_are_said() {
        assert!(check_count(MAX_BATCH_EVENTS).is_ok());
        let error = check_count(MAX_BATCH_EVENTS + 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation);
    }

    /// With one too few, each would be somebody else's.
    #[test]
    fn what_is_not_one_for_each_event_is_refused() {
        let plan = Plan {
            limits: Batching::single(1),
            extra: 0,
            outcome_bytes: 0,
            max_history: 0,
            max_sent: 0,
        };
        let read = |failures: usize, sizes: usize| {
            let validated = Validated {
                failures: vec![None; failures],
                sizes: vec![1; sizes],
                plan,
            };
            let output = payload::write(&validated).unwrap();
            Validated::read(&output, 2).map(|_| ())
        };
        assert!(read(2, 2).is_ok());
        for (failures, sizes) in [(1, 2), (3, 2), (2, 1), (2, 3)] {
            let error = read(failures, sizes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
            assert!(error.message().contains("was given 2 events"), "{error}");
        }
    }

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
