//! Errors as Temporal's failures, and back. The type is the error's kind, and
//! the first detail a [`Failure`] as JSON, for clients in any language.

use std::time::Duration;

use analytics_spec::{Error, ErrorKind, Failure};
use temporalio_common::{
    data_converters::RawValue,
    error::{ActivityExecutionError, ApplicationFailure},
    protos::temporal::api::failure::v1::{Failure as Proto, failure::FailureInfo},
};

use crate::{activities, limits, payload};

/// What the SDK says of an attempt for which a worker had no time left.
const WORKER_SHUTDOWN: &str = "WorkerShutdown";

/// A failure for good.
pub(crate) fn permanent(error: &Error) -> ApplicationFailure {
    failure(error, true, None)
}

/// A failure after which there is another attempt: when the policy says, or
/// after this delay.
pub(crate) fn transient(error: &Error, delay: Option<Duration>) -> ApplicationFailure {
    failure(error, false, delay)
}

fn failure(error: &Error, is_permanent: bool, delay: Option<Duration>) -> ApplicationFailure {
    let mut details = Failure::from(error);
    limits::cut_failure(&mut details);
    let details = payload::payload(&details).ok();
    let mut message = error.to_string();
    limits::cut_message(&mut message);
    ApplicationFailure::builder(message)
        .type_name(error.kind().as_str().to_owned())
        .non_retryable(is_permanent)
        .maybe_next_retry_delay(delay)
        .details(RawValue::new(details.into_iter().collect()))
        .build()
}

/// Why an activity failed.
pub(crate) fn of_activity(error: &ActivityExecutionError) -> Error {
    match error.failure() {
        Some(failure) => of(failure),
        None => Error::new(ErrorKind::Internal, error.to_string()),
    }
}

/// Why a workflow or an activity failed: the innermost failure says it. That of
/// a local activity comes bare, others within what Temporal says of the
/// activity.
pub(crate) fn of(failure: &Proto) -> Error {
    match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            let details = info.details.as_ref().and_then(|d| d.payloads.first());
            match details.and_then(payload::parse::<Failure>) {
                Some(failure) => failure.into(),
                None if info.r#type == WORKER_SHUTDOWN => activities::lost(),
                None => {
                    let kind = ErrorKind::from_name(&info.r#type).unwrap_or(ErrorKind::Internal);
                    Error::new(kind, &failure.message).with_retryable(!info.non_retryable)
                }
            }
        }
        Some(FailureInfo::TimeoutFailureInfo(_)) => Error::new(
            ErrorKind::Timeout,
            format!(
                "no worker finished the attempt in time: {}",
                failure.message
            ),
        ),
        Some(FailureInfo::CanceledFailureInfo(_)) => cancelled(),
        Some(FailureInfo::TerminatedFailureInfo(_)) => {
            Error::new(ErrorKind::Closed, "it was terminated")
        }
        _ => match &failure.cause {
            Some(cause) => of(cause),
            None => Error::new(ErrorKind::Internal, &failure.message),
        },
    }
}

pub(crate) fn cancelled() -> Error {
    Error::new(ErrorKind::Closed, "it was cancelled")
}
