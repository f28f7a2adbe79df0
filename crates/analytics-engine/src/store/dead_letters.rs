//! What integrations will never accept, kept with the reason.

use std::fmt;

use analytics_spec::{Error, HttpResponse, Kind, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Seq;

/// Why an integration will never accept an event: an [`Error`] that can be
/// stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reason {
    /// The kind of the error, by its [name](analytics_spec::ErrorKind::as_str).
    pub error: String,
    /// The sentence.
    pub message: String,
    /// What the vendor answered, without secrets; long answers are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<HttpResponse>,
}

impl Reason {
    /// An error's kind, by its name, and its sentence.
    #[must_use]
    pub fn new(error: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            message: message.into(),
            response: None,
        }
    }
}

impl From<&Error> for Reason {
    fn from(error: &Error) -> Self {
        Self {
            error: error.kind().as_str().to_owned(),
            message: error.message().to_owned(),
            response: error.response().cloned(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.message)
    }
}

/// A dead letter's number, unique in its store for ever.
pub type DeadLetterId = u64;

/// An event that an integration will never accept.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its number.
    pub id: DeadLetterId,
    /// The integration's name.
    pub integration: String,
    /// The event's place in the order of acceptance.
    pub seq: Seq,
    /// The event's message id.
    pub message_id: String,
    /// The event's kind; `None` if it cannot be read.
    pub kind: Option<Kind>,
    /// The user's id, if the event has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// How many attempts were made; 0 if the integration's own rules refused
    /// it.
    pub attempts: u32,
    /// When the event was accepted.
    pub accepted_at: Timestamp,
    /// When it was refused.
    pub refused_at: Timestamp,
    /// Why.
    pub reason: Reason,
    /// The event as it was accepted, in the form of the wire contract. What is
    /// no JSON at all, because somebody changed it, is a JSON string.
    pub input: Box<RawValue>,
}

impl DeadLetter {
    /// An event that an integration has refused for a reason. What is not
    /// among this is set afterwards.
    #[must_use]
    pub fn new(
        id: DeadLetterId,
        integration: impl Into<String>,
        seq: Seq,
        accepted_at: Timestamp,
        refused_at: Timestamp,
        reason: Reason,
        input: Box<RawValue>,
    ) -> Self {
        Self {
            id,
            integration: integration.into(),
            seq,
            message_id: String::new(),
            kind: None,
            user_id: None,
            attempts: 0,
            accepted_at,
            refused_at,
            reason,
            input,
        }
    }
}

/// What was accepted once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Replayed {
    /// How many events.
    pub events: u64,
    /// Those of them whose integration no engine delivers to now: they wait
    /// until it is attached again.
    pub detached: u64,
}

impl Replayed {
    /// So many were accepted once more, and so many of them wait.
    #[must_use]
    pub fn new(events: u64, detached: u64) -> Self {
        Self { events, detached }
    }
}

/// Which dead letters: those for which everything holds that is set.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Filter {
    /// Only these; all, if empty.
    pub ids: Vec<DeadLetterId>,
    /// Only of this integration.
    pub integration: Option<String>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only of this user.
    pub user_id: Option<String>,
    /// Only those refused at this time or later.
    pub since: Option<Timestamp>,
}

impl Filter {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }
}

/// What integrations will never accept.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Those with a number above `after`, by their number, at most so many.
    ///
    /// # Errors
    ///
    /// The store failed.
    async fn list(
        &self,
        filter: &Filter,
        after: DeadLetterId,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error>;

    /// Accepts them once more, each for its own integration, under the same
    /// message id and timestamp.
    ///
    /// - Those of an integration that is not attached wait until it is.
    /// - A `delete` erases up to the place that it had first: what came
    ///   afterwards is of a user who came back.
    ///
    /// # Errors
    ///
    /// The store failed, or is full; then all of them are where they were.
    async fn replay(&self, filter: &Filter) -> Result<Replayed, Error>;

    /// Forgets them: how many.
    ///
    /// # Errors
    ///
    /// The store failed.
    async fn purge(&self, filter: &Filter) -> Result<u64, Error>;
}
