//! What Segment's answers mean.

use analytics_http::{Reading, Refusal, classify, classify::message};
use analytics_spec::{ErrorKind, HttpResponse, Value};

/// The tracking API's answer. Statuses as Segment's own libraries treat them:
/// <https://github.com/segmentio/analytics-node>, `publisher.ts`.
pub(crate) fn tracking(response: &HttpResponse) -> Reading {
    let verdict = match response.status_code {
        200..=299 if response.field("success") == Some(&Value::Bool(false)) => Err(
            Refusal::permanent(ErrorKind::RequestRejected, message(response)),
        ),
        410 | 460 => Err(Refusal::transient(
            ErrorKind::Unavailable,
            message(response),
        )),
        501 | 505 | 511 => Err(Refusal::permanent(
            ErrorKind::RequestRejected,
            message(response),
        )),
        _ => classify(response),
    };
    Reading::All(verdict)
}

/// The Public API's answer: a regulation's id, or errors.
///
/// <https://docs.segmentapis.com/tag/Deletion-and-Suppression>
pub(crate) fn regulation(response: &HttpResponse) -> Reading {
    let verdict = classify(response).and_then(|()| {
        let id = response
            .field("data")
            .and_then(|data| data.get("regulateId"));
        match id {
            Some(_) => Ok(()),
            None => Err(Refusal::permanent(
                ErrorKind::RequestRejected,
                format!("{}: the answer names no regulation", message(response)),
            )),
        }
    });
    Reading::All(verdict)
}
