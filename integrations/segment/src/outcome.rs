//! What Segment's answers mean.

use analytics_http::{Reading, Refusal, classify, classify::message};
use analytics_spec::{ErrorKind, HttpResponse, Value};

/// The tracking API's answer. Statuses as Segment's own libraries treat them:
/// <https://github.com/segmentio/analytics-node>, `publisher.ts`.
pub(crate) fn tracking(response: &HttpResponse) -> Reading {
    let verdict = match response.status_code {
        200..=299 => match response.field("success") {
            Some(Value::Bool(true)) => Ok(()),
            Some(_) => Err(Refusal::permanent(
                ErrorKind::RequestRejected,
                message(response),
            )),
            None => Err(Refusal::foreign("Segment", response)),
        },
        // One message may be the reason for what is said of all.
        400 => Err(Refusal::permanent(ErrorKind::RequestRejected, message(response)).split()),
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
/// A regulation with one id that it does not take is refused as a whole: the
/// other people's are sent without it.
///
/// <https://docs.segmentapis.com/tag/Deletion-and-Suppression>
pub(crate) fn regulation(response: &HttpResponse) -> Reading {
    let verdict = classify(response)
        .map_err(|refusal| match response.status_code {
            400 | 422 => refusal.split(),
            _ => refusal,
        })
        .and_then(|()| {
            let data = response.field("data");
            match data.and_then(|data| data.get("regulateId")?.as_str()) {
                Some(id) if !id.is_empty() => Ok(()),
                _ if data.is_none() && response.field("errors").is_none() => {
                    Err(Refusal::foreign("Segment", response))
                }
                _ => Err(Refusal::permanent(
                    ErrorKind::RequestRejected,
                    format!("{}: the answer names no regulation", message(response)),
                )),
            }
        });
    Reading::All(verdict)
}
