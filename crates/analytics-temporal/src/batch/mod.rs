//! The workflow of a batch, and its activities: one call for the events that
//! go together, again for those only that have not succeeded.

mod activities;
mod reading;
mod workflow;

use std::{collections::BTreeMap, time::Duration};

use analytics_spec::{
    AnyInput, BatchInput, Code, Error, ErrorKind, Failure, Handler, Retries, ValidationError,
    Value, batch::Outcome, integration::Batching,
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use temporalio_common::data_converters::RawValue;

pub(crate) use self::{
    activities::{request, validate},
    workflow::run,
};
use crate::{
    limits::{self, MAX_BATCH_EVENTS, MAX_CALL_BYTES, MAX_INPUT_BYTES, MAX_SENT_BYTES},
    payload,
};

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

    /// Whether a run goes on in a new one, with so many events in its history and so
    /// many bytes in its calls.
    fn is_full(&self, history: u32, sent: usize) -> bool {
        history >= self.max_history || sent >= self.max_sent
    }

    /// Whether a run that goes on in no other has to end: the server ends one with
    /// 51,200 events or 50 MiB.
    fn is_over(&self, history: u32, bytes: usize) -> bool {
        history >= self.max_history.saturating_mul(10).min(40_000)
            || bytes >= self.max_sent.saturating_mul(10).min(40 * 1024 * 1024)
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

/// What the activities are given by the workflow. Nobody else's input has these
/// keys.
const CALL: [&str; 3] = ["call", "batch", "outcome_bytes"];

/// See [`CALL`].
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
        let is_call = |keys: BTreeMap<_, _>| CALL.iter().all(|key| keys.contains_key(*key));
        if keys.is_ok_and(is_call) {
            return payload::parse_output(&input).map(Box::new).map(Self::Call);
        }
        Ok(Self::Alone(input))
    }
}

/// The longest time-out of a request among a call's events.
fn longest(handler: &Handler, call: &Call) -> Duration {
    let own = call.call.iter().map(|(input, _)| {
        let policy = handler.request_policy(&call.batch.complete(input.clone()));
        policy.single_attempt_timeout
    });
    own.max().unwrap_or_default()
}

/// An outcome that leaves room for the others.
fn failed(message_id: &str, error: &Error, bytes: usize) -> Outcome {
    let mut outcome = Outcome::failure(message_id, error);
    limits::cut_outcome(&mut outcome, bytes);
    outcome
}

/// Refuses a batch of more events than one workflow takes.
pub(crate) fn check_count(events: usize) -> Result<(), Error> {
    if events <= MAX_BATCH_EVENTS {
        return Ok(());
    }
    let message = format!("has {events} events; a batch has at most {MAX_BATCH_EVENTS}");
    Err(ValidationError::new("inputs", Code::TooLarge, message).into())
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_run_ends_before_the_server_ends_it() {
        let plan = |max_history, max_sent| Plan {
            limits: Batching::single(1),
            extra: 0,
            outcome_bytes: 0,
            max_history,
            max_sent,
        };
        let small = plan(8, 100);
        assert!(!small.is_full(7, 99) && small.is_full(8, 0) && small.is_full(0, 100));
        assert!(!small.is_over(79, 999) && small.is_over(80, 0) && small.is_over(0, 1000));
        let large = plan(u32::MAX, usize::MAX);
        assert!(!large.is_over(39_999, (40 << 20) - 1));
        assert!(large.is_over(40_000, 0) && large.is_over(0, 40 << 20));
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
}
