//! Sizes. Temporal takes payloads of 2 MiB, and a result that is larger makes
//! it call the activity, and so the vendor, again: what is too large is cut, and
//! says so.

use analytics_spec::{Failure, HttpResponse, Value, batch::Outcome};

/// The largest input of a workflow or an activity, as JSON: 1 MiB. Its output
/// repeats the event, and has room for the vendor's answer.
pub const MAX_INPUT_BYTES: usize = 1024 * 1024;

/// The most events in one batch: 2,000.
pub const MAX_BATCH_EVENTS: usize = 2_000;

/// All outcomes of a batch together.
const MAX_OUTCOMES_BYTES: usize = 768 * 1024;

/// The largest answer of a vendor that is kept of one event.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The same, in a failure: the server keeps no larger ones between attempts.
const MAX_FAILURE_RESPONSE_BYTES: usize = 1024;

/// How many events one request activity of a batch is given, in bytes.
pub(crate) const MAX_CALL_BYTES: usize = 512 * 1024;

/// How large one outcome in a batch of so many events may be.
pub(crate) fn outcome_bytes(events: usize) -> usize {
    (MAX_OUTCOMES_BYTES / events.max(1)).min(MAX_RESPONSE_BYTES)
}

/// Cuts what is kept of a vendor's answer.
pub(crate) fn cut_response(response: &mut HttpResponse) {
    cut(response, MAX_RESPONSE_BYTES);
}

/// Cuts a failure's details.
pub(crate) fn cut_failure(failure: &mut Failure) {
    if let Some(response) = &mut failure.response {
        cut(response, MAX_FAILURE_RESPONSE_BYTES);
    }
}

/// Cuts an outcome to about so many bytes: first the answer's body, then its
/// headers, then the error's words.
pub(crate) fn cut_outcome(outcome: &mut Outcome, bytes: usize) {
    let size = json_bytes(outcome);
    if size <= bytes {
        return;
    }
    let room = bytes.saturating_sub(size - outcome.response.as_ref().map_or(0, json_bytes));
    if let Some(response) = &mut outcome.response {
        cut(response, room);
    }
    let size = json_bytes(outcome);
    if size > bytes
        && let Some(error) = &mut outcome.error
    {
        error.violations.truncate(1);
        let excess = json_bytes(error).saturating_sub(bytes.saturating_sub(128));
        cut_text(&mut error.message, excess);
        if let Some(violation) = error.violations.first_mut() {
            cut_text(&mut violation.message, excess);
        }
    }
}

fn cut(response: &mut HttpResponse, bytes: usize) {
    if json_bytes(response) <= bytes {
        return;
    }
    if let Some(body) = response.body.take() {
        let mut text = match body {
            Value::String(text) => text,
            other => other.to_string(),
        };
        // Quotes and control characters are longer as JSON.
        let room = bytes.saturating_sub(json_bytes(response)) / 2;
        let excess = text.len().saturating_sub(room);
        cut_text(&mut text, excess);
        response.truncated = true;
        response.body = Some(text)
            .filter(|text| !text.is_empty())
            .map(Value::String);
    }
    if json_bytes(response) > bytes {
        response.headers.clear();
        response.body = None;
        response.truncated = true;
    }
}

/// Takes so many bytes from a text's end, and a little more where that would
/// split a character.
fn cut_text(text: &mut String, bytes: usize) {
    let mut end = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
}

pub(crate) fn json_bytes(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

#[cfg(test)]
mod tests {
    use analytics_spec::{Error, ErrorKind, batch::Outcome};

    use super::*;

    #[test]
    fn what_is_cut_says_so_and_fits() {
        for filler in ["x", "\"", "\u{1f600}", "\u{1}"] {
            let mut response = HttpResponse::new(200)
                .header("a", "b")
                .body(filler.repeat(200_000));
            cut_response(&mut response);
            assert!(response.truncated);
            assert!(json_bytes(&response) <= MAX_RESPONSE_BYTES * 3);
            assert!(response.body.is_some());
        }
        let mut small = HttpResponse::new(200).body("ok");
        cut_response(&mut small);
        assert_eq!(small, HttpResponse::new(200).body("ok"));
    }

    #[test]
    fn a_whole_batch_of_long_outcomes_fits() {
        let bytes = outcome_bytes(MAX_BATCH_EVENTS);
        let response = HttpResponse::new(400)
            .header("x", "y".repeat(5000))
            .body("z".repeat(5000));
        let error = Error::new(ErrorKind::RequestRejected, "m".repeat(5000));
        let mut outcome = Outcome::failure("id", &error.with_response(response));
        cut_outcome(&mut outcome, bytes);
        assert!(json_bytes(&outcome) <= bytes, "{}", json_bytes(&outcome));
        assert!(outcome.response.is_some_and(|r| r.truncated));
    }
}
