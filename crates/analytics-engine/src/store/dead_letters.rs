//! What integrations will never accept, kept with the reason.

use std::{fmt, ptr, sync::Arc};

use analytics_spec::{Error, HttpResponse, Kind, Timestamp, Value};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Seq;

/// A sentence, an answer's headers, and its body are kept up to here, each.
const MAX_BYTES: usize = 16 * 1024;

/// Why an integration will never accept an event: an [`Error`] that can be
/// stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reason {
    /// The kind of the error, by its [name](analytics_spec::ErrorKind::as_str).
    pub error: String,
    /// The sentence.
    pub message: String,
    /// What the vendor answered, without secrets; long answers are cut. The
    /// events of a request share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Arc<HttpResponse>>,
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

    /// As [`From`] says, for one of several errors: those of one request share
    /// what is kept of its answer.
    pub(crate) fn sharing<'a>(error: &'a Error, answers: &mut Answers<'a>) -> Self {
        Self {
            error: error.kind().as_str().to_owned(),
            message: cut_text(error.message()).to_owned(),
            response: error.response().map(|answer| answers.cut(answer)),
        }
    }

    /// The same, cut: it may have been made by hand.
    #[cfg(feature = "sqlite")]
    pub(crate) fn cut(&self) -> Self {
        let cut = |answer: &Arc<HttpResponse>| match cut_answer(answer) {
            Some(cut) => Arc::new(cut),
            None => Arc::clone(answer),
        };
        Self {
            error: self.error.clone(),
            message: cut_text(&self.message).to_owned(),
            response: self.response.as_ref().map(cut),
        }
    }
}

impl From<&Error> for Reason {
    /// The sentence, and the answer's headers and body, are cut to 16 KiB each.
    fn from(error: &Error) -> Self {
        Self::sharing(error, &mut Answers::default())
    }
}

/// Cuts the answers of errors, each once: events of a request come one after
/// the other, and have one answer, which may be of some MiB.
#[derive(Default)]
pub(crate) struct Answers<'a> {
    last: Option<(&'a HttpResponse, Arc<HttpResponse>)>,
}

impl<'a> Answers<'a> {
    pub(crate) fn cut(&mut self, answer: &'a HttpResponse) -> Arc<HttpResponse> {
        match &self.last {
            Some((last, cut)) if ptr::eq(*last, answer) => Arc::clone(cut),
            _ => {
                let cut = cut_answer(answer).unwrap_or_else(|| answer.clone());
                let (_, cut) = self.last.insert((answer, Arc::new(cut)));
                Arc::clone(cut)
            }
        }
    }
}

/// An answer that is not too long; `None`, if it is not. Nothing of what is too
/// long is copied.
fn cut_answer(answer: &HttpResponse) -> Option<HttpResponse> {
    let has_long_headers = cut_json(&answer.headers).is_some();
    let short = answer.body.as_ref().and_then(|body| match body {
        Value::String(text) => (text.len() > MAX_BYTES).then(|| cut_text(text).to_owned()),
        body => cut_json(body),
    });
    if short.is_none() && !has_long_headers {
        return None;
    }
    let mut cut = HttpResponse::new(answer.status_code);
    cut.truncated = answer.truncated || short.is_some();
    if !has_long_headers {
        cut.headers.clone_from(&answer.headers);
    }
    cut.body = match short {
        Some(text) => Some(Value::String(text)),
        None => answer.body.clone(),
    };
    Some(cut)
}

/// How a value's JSON begins, if it is too long.
fn cut_json(value: &impl Serialize) -> Option<String> {
    let mut json = vec![0; MAX_BYTES];
    if serde_json::to_writer(json.as_mut_slice(), value).is_ok() {
        return None;
    }
    // A character may have been cut in two.
    let whole = json.utf8_chunks().next();
    Some(
        whole
            .map(|whole| whole.valid().to_owned())
            .unwrap_or_default(),
    )
}

fn cut_text(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(MAX_BYTES)).0
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
    /// Only of this user, also as an alias's previous one.
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
    /// - Where they are many, some at a time. Each is either a dead letter or
    ///   accepted, whatever happens meanwhile.
    ///
    /// # Errors
    ///
    /// The store failed, or is full. Some may be accepted; the others are dead
    /// letters as before: ask again.
    async fn replay(&self, filter: &Filter) -> Result<Replayed, Error>;

    /// Forgets them, some at a time where they are many: how many.
    ///
    /// # Errors
    ///
    /// The store failed; some may be forgotten: ask again.
    async fn purge(&self, filter: &Filter) -> Result<u64, Error>;
}

#[cfg(test)]
mod tests {
    use analytics_spec::ErrorKind;

    use super::*;

    #[test]
    fn two_thousand_refusals_share_what_is_kept_of_one_answer() {
        let long = "ä".repeat(512 * 1024);
        for body in [Value::from(long.as_str()), Value::from(vec![long.as_str()])] {
            let answer = Arc::new(HttpResponse::new(400).header("x", "y").body(body));
            let error = |_| {
                let error = Error::new(ErrorKind::RequestRejected, "no");
                error.with_response(Arc::clone(&answer))
            };
            let errors: Vec<_> = (0..2000).map(error).collect();
            let mut answers = Answers::default();
            let reasons: Vec<_> = errors
                .iter()
                .map(|error| Reason::sharing(error, &mut answers))
                .collect();
            drop(answers);
            let kept = reasons[0].response.as_ref().unwrap();
            assert_eq!(Arc::strong_count(kept), 2000);
            assert!(kept.truncated && kept.headers.len() == 1);
            let text = kept.body.as_ref().unwrap().as_str().unwrap();
            assert!(
                (MAX_BYTES - 2..=MAX_BYTES).contains(&text.len()),
                "{}",
                text.len()
            );
            assert!(
                text.trim_start_matches(['[', '"'])
                    .chars()
                    .all(|c| c == 'ä')
            );
        }
    }

    #[test]
    fn what_is_short_is_kept_as_it_is() {
        let answer = HttpResponse::new(400).header("x", "y").body("bad");
        let error = Error::new(ErrorKind::RequestRejected, "m".repeat(MAX_BYTES + 1));
        let reason = Reason::from(&error.with_response(answer.clone()));
        assert_eq!(reason.message.len(), MAX_BYTES);
        assert_eq!(reason.response.as_deref(), Some(&answer));
        let headers = answer.header("long", "h".repeat(MAX_BYTES));
        let cut = cut_answer(&headers).unwrap();
        assert!(cut.headers.is_empty() && !cut.truncated);
        assert_eq!(cut.body, headers.body);
    }
}
