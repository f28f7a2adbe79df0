use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, HttpResponse, ValidationError, Violation};

/// Why an event was not delivered, as JSON that any language can read.
///
/// ```
/// # use analytics_spec::{Error, Failure, Identify, Input};
/// let wrong = Input::new(Identify::new()).validate().unwrap_err();
/// let failure = Failure::from(&Error::from(wrong));
/// assert_eq!(failure.error_type, "ValidationError");
/// assert_eq!(failure.violations[0].path, "identify");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// What went wrong: see [`ErrorKind::as_str`].
    #[serde(rename = "type")]
    pub error_type: String,
    /// The sentence, for people.
    pub message: String,
    /// Whether another attempt may succeed.
    #[serde(default)]
    pub retryable: bool,
    /// The integration at which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integration: Option<String>,
    /// What is wrong with the input, if that is the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
    /// What the vendor answered, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<HttpResponse>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let violations = error.violations().map(ValidationError::violations);
        Self {
            error_type: error.kind().as_str().to_owned(),
            message: error.message().to_owned(),
            retryable: error.is_retryable(),
            integration: error.integration().map(str::to_owned),
            violations: violations.unwrap_or_default().to_vec(),
            response: error.response().cloned(),
        }
    }
}

/// The error again. A type that is not known here is
/// [`Internal`](ErrorKind::Internal).
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = ErrorKind::from_name(&failure.error_type).unwrap_or(ErrorKind::Internal);
        let mut error = Self::new(kind, failure.message).with_retryable(failure.retryable);
        if kind == ErrorKind::Validation
            && let Err(violations) = ValidationError::check(failure.violations)
        {
            error = error.with_violations(violations);
        }
        if let Some(integration) = &failure.integration {
            error = error.with_integration(integration);
        }
        match failure.response {
            Some(response) => error.with_response(response),
            None => error,
        }
    }
}
