//! Errors as Temporal's failures, and back. The type is the error's kind, and
//! the first detail a [`Failure`] as JSON, for clients in any language.

use std::time::Duration;

use analytics_spec::{Error, ErrorKind, Failure};
use temporalio_common::{
    data_converters::RawValue,
    error::{ActivityExecutionError, ApplicationFailure, IncomingError},
};

use crate::{limits, payload};

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
    ApplicationFailure::builder(error.to_string())
        .type_name(error.kind().as_str().to_owned())
        .non_retryable(is_permanent)
        .maybe_next_retry_delay(delay)
        .details(RawValue::new(details.into_iter().collect()))
        .build()
}

/// Why an activity failed.
pub(crate) fn of_activity(error: &ActivityExecutionError) -> Error {
    match error.reason() {
        Some(reason) => of(reason),
        None => Error::new(ErrorKind::Internal, error.to_string()),
    }
}

/// Why a workflow or an activity failed.
pub(crate) fn of(error: &IncomingError) -> Error {
    match error {
        IncomingError::Application(failure) => {
            let details = failure.raw_details().and_then(<[_]>::first);
            match details.and_then(payload::parse::<Failure>) {
                Some(failure) => failure.into(),
                None => {
                    let kind = failure.type_name().and_then(ErrorKind::from_name);
                    let kind = kind.unwrap_or(ErrorKind::Internal);
                    Error::new(kind, failure.to_string())
                        .with_retryable(!failure.is_non_retryable())
                }
            }
        }
        IncomingError::Timeout(timeout) => Error::new(
            ErrorKind::Timeout,
            format!(
                "no worker finished the attempt in time ({:?})",
                timeout.timeout_type()
            ),
        ),
        IncomingError::Cancelled(_) => cancelled(),
        IncomingError::Terminated(_) => Error::new(ErrorKind::Closed, "it was terminated"),
        other => match other.cause() {
            Some(cause) => of(cause),
            None => Error::new(ErrorKind::Internal, other.to_string()),
        },
    }
}

pub(crate) fn cancelled() -> Error {
    Error::new(ErrorKind::Closed, "it was cancelled")
}
