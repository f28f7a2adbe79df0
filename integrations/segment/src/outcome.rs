//! What Segment's answers mean.

use analytics_http::{Reading, Refusal, classify, classify::message};
use analytics_spec::{ErrorKind, HttpResponse, Value};

/// The tracking API's answer. Statuses as Segment's own libraries treat them:
/// <https://github.com/segmentio/analytics-node>, `publisher.ts`.
pub(crate) fn tracking(response: &HttpResponse) -> Reading {
    let verdict = match response.status_code {
        200..=299 => match response.field("success") {
            Some(Value::Bool(true)) => Ok(()),
            // As in a 400, one message may be the reason.
            Some(_) => Err(rejected(message(response)).split()),
            None => Err(Refusal::foreign("Segment", response)),
        },
        410 | 460 => Err(Refusal::transient(
            ErrorKind::Unavailable,
            message(response),
        )),
        501 | 505 | 511 => Err(rejected(message(response))),
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
    let verdict = classify(response).and_then(|()| {
        let data = response.field("data");
        match data.and_then(|data| data.get("regulateId")?.as_str()) {
            Some(id) if !id.is_empty() => Ok(()),
            _ if data.is_none() && response.field("errors").is_none() => {
                Err(Refusal::foreign("Segment", response))
            }
            _ => {
                let said = message(response);
                Err(rejected(format!("{said}: the answer names no regulation")).split())
            }
        }
    });
    Reading::All(verdict)
}

fn rejected(message: String) -> Refusal {
    Refusal::permanent(ErrorKind::RequestRejected, message)
}
