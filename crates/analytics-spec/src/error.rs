//! One error, from which engines decide: what kind, worth another attempt or
//! final, and when.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::{HttpResponse, Kind, Progress, ValidationError};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input breaks rules; see [`Error::violations`].
    Validation,
    /// The integration does not support this kind of event.
    Unsupported,
    /// The configuration is wrong or incomplete.
    Configuration,
    /// The vendor does not accept the credentials.
    Unauthorized,
    /// The vendor asks for fewer requests.
    RateLimited,
    /// The vendor refuses the request for good.
    RequestRejected,
    /// The vendor refuses the request as too large.
    TooLarge,
    /// The vendor did not answer in time. It may have accepted the request.
    Timeout,
    /// The vendor or the way to it is down.
    Unavailable,
    /// The attempt was not made: an earlier event of the same person has to
    /// arrive first.
    Deferred,
    /// The user was erased before the event could be delivered.
    Erased,
    /// The queue or the store has no room.
    Full,
    /// What should do the work is closed, or not open yet.
    Closed,
    /// There was not enough time.
    DeadlineExceeded,
    /// A mistake on this side.
    Internal,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Validation,
        Self::Unsupported,
        Self::Configuration,
        Self::Unauthorized,
        Self::RateLimited,
        Self::RequestRejected,
        Self::TooLarge,
        Self::Timeout,
        Self::Unavailable,
        Self::Deferred,
        Self::Erased,
        Self::Full,
        Self::Closed,
        Self::DeadlineExceeded,
        Self::Internal,
    ];

    /// The name under which policies and other languages know the kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "ValidationError",
            Self::Unsupported => "Unsupported",
            Self::Configuration => "Configuration",
            Self::Unauthorized => "Unauthorized",
            Self::RateLimited => "RateLimited",
            Self::RequestRejected => "RequestRejected",
            Self::TooLarge => "TooLarge",
            Self::Timeout => "Timeout",
            Self::Unavailable => "Unavailable",
            Self::Deferred => "Deferred",
            Self::Erased => "Erased",
            Self::Full => "Full",
            Self::Closed => "Closed",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Internal => "Internal",
        }
    }

    /// The kind of this [name](Self::as_str).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether errors of this kind usually pass.
    const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::Timeout | Self::Unavailable | Self::Deferred
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What went wrong with an event, a configuration or an engine.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    retryable: bool,
    retry_after: Option<Duration>,
    wait: Option<Duration>,
    integration: Option<String>,
    response: Option<Arc<HttpResponse>>,
    violations: Option<ValidationError>,
    progress: Progress,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that is retryable if errors of its kind usually pass.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            retryable: kind.is_transient(),
            retry_after: None,
            wait: None,
            integration: None,
            response: None,
            violations: None,
            progress: Progress::NONE,
            source: None,
        }))
    }

    /// The configuration is wrong or incomplete.
    #[must_use]
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// The integration does not support this kind of event.
    #[must_use]
    pub fn unsupported(kind: Kind, integration: &str) -> Self {
        Self::new(
            ErrorKind::Unsupported,
            format!("{kind} is not supported by this integration"),
        )
        .with_integration(integration)
    }

    /// Says whether another attempt may succeed.
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// What the message says of an input, one by one.
    pub(crate) fn with_violations(mut self, violations: ValidationError) -> Self {
        self.0.violations = Some(violations);
        self
    }

    /// Sets how long the vendor asked to send it nothing.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Sets how long this event, and no other, has to wait at least.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.0.wait = Some(wait);
        self
    }

    /// Names the integration at which it happened.
    #[must_use]
    pub fn with_integration(mut self, name: &str) -> Self {
        self.0.integration = Some(name.to_owned());
        self
    }

    /// Keeps what the vendor answered.
    #[must_use]
    pub fn with_response(mut self, response: impl Into<Arc<HttpResponse>>) -> Self {
        self.0.response = Some(response.into());
        self
    }

    /// Keeps how far the event got.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.0.progress = progress;
        self
    }

    /// Keeps what caused it. The cause must not show secrets.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence, without kind and integration.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether another attempt may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// How long this event, and no other, has to wait at least.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.0.wait
    }

    /// How long the vendor asked to send it nothing: engines pause the whole
    /// integration.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The integration at which it happened.
    #[must_use]
    pub fn integration(&self) -> Option<&str> {
        self.0.integration.as_deref()
    }

    /// What the vendor answered.
    #[must_use]
    pub fn response(&self) -> Option<&HttpResponse> {
        self.0.response.as_deref()
    }

    /// What is wrong with the input, if that is the reason.
    #[must_use]
    pub fn violations(&self) -> Option<&ValidationError> {
        self.0.violations.as_ref()
    }

    /// How far the event got: what the next attempt need not do again.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.0.progress
    }
}

impl From<ValidationError> for Error {
    fn from(error: ValidationError) -> Self {
        let mut this = Self::new(ErrorKind::Validation, error.to_string());
        this.0.violations = Some(error);
        this
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(integration) = &self.0.integration {
            write!(f, "{integration}: ")?;
        }
        write!(f, "{}: {}", self.0.kind, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("retryable", &self.0.retryable);
        if let Some(delay) = self.0.retry_after {
            debug.field("retry_after", &delay);
        }
        if let Some(integration) = &self.0.integration {
            debug.field("integration", integration);
        }
        if let Some(response) = &self.0.response {
            debug.field("status_code", &response.status_code);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
