//! Sizes. Temporal takes payloads of 2 MiB, and a result that is larger makes
//! it call the activity, and so the vendor, again: what is too large is cut, and
//! says so.

use analytics_spec::{Failure, HttpResponse, Value, batch::Outcome};

/// The largest input of a workflow or an activity, as JSON: 1 MiB. Its output
/// repeats the event, and has room for the vendor's answer.
pub const MAX_INPUT_BYTES: usize = 1024 * 1024;

/// The most events in one batch: 2,000.
pub const MAX_BATCH_EVENTS: usize = 2_000;

/// What the events of a batch may have together when they are written again,
/// with what they share: an input of the largest size, and the message ids and
/// timestamps that its events lacked.
pub(crate) const MAX_BATCH_BYTES: usize = MAX_INPUT_BYTES + MAX_BATCH_EVENTS * 112;

/// After so many bytes of calls in its history, a batch goes on in a new run.
pub(crate) const MAX_SENT_BYTES: usize = 4 * MAX_INPUT_BYTES;

/// All outcomes of a batch together, beside the message ids. A batch that goes
/// on in a new run takes them along with its events: `MAX_BATCH_BYTES` and these
/// are less than Temporal's 2 MiB.
const MAX_OUTCOMES_BYTES: usize = 704 * 1024;

/// How deep arrays and objects may lie in one another in an event of a batch.
/// Readers of JSON take 128 levels, and the workflow hands an event on with up
/// to five around it.
pub(crate) const MAX_EVENT_DEPTH: usize = 120;

/// The same in a vendor's answer, which is read again by those who wait for the
/// workflow, in whatever they put it.
const MAX_BODY_DEPTH: usize = 100;

/// The largest answer of a vendor that is kept of one event.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The same, in a failure: the server keeps no larger ones between attempts.
const MAX_FAILURE_RESPONSE_BYTES: usize = 1024;

/// The largest failure, beside that answer. One that Temporal does not take
/// would fail the workflow's task, which is tried again for ever.
const MAX_FAILURE_BYTES: usize = 12 * 1024;

/// The largest message of a failure.
const MAX_MESSAGE_BYTES: usize = 2 * 1024;

/// How many events one request activity of a batch is given, in bytes.
pub(crate) const MAX_CALL_BYTES: usize = 512 * 1024;

/// How large one outcome in a batch of so many events may be.
pub(crate) fn outcome_bytes(events: usize) -> usize {
    (MAX_OUTCOMES_BYTES / events.max(1)).min(MAX_RESPONSE_BYTES)
}

/// Cuts what is kept of a vendor's answer.
pub(crate) fn cut_response(response: &mut HttpResponse) {
    flatten(response);
    cut(response, MAX_RESPONSE_BYTES);
}

/// Keeps a body as its text that lies so deep that a reader of JSON might not
/// take what it is in.
fn flatten(response: &mut HttpResponse) {
    if let Some(body) = &mut response.body
        && depth(body) > MAX_BODY_DEPTH
    {
        *body = Value::String(body.to_string());
    }
}

/// Cuts a failure's details.
pub(crate) fn cut_failure(failure: &mut Failure) {
    if let Some(response) = &mut failure.response {
        flatten(response);
        cut(response, MAX_FAILURE_RESPONSE_BYTES);
    }
    let response = failure.response.take();
    cut_error(failure, MAX_FAILURE_BYTES);
    failure.response = response;
}

/// Cuts a failure's sentence, which Temporal keeps beside the details.
pub(crate) fn cut_message(message: &mut String) {
    cut_to(message, MAX_MESSAGE_BYTES);
}

/// Cuts an outcome to about so many bytes: first the answer's body, then its
/// headers, then the error's words.
pub(crate) fn cut_outcome(outcome: &mut Outcome, bytes: usize) {
    if let Some(response) = &mut outcome.response {
        flatten(response);
    }
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
        let beside = size - json_bytes(error);
        cut_error(error, bytes.saturating_sub(beside));
    }
}

/// Cuts an error without its answer to about so many bytes: each violation's
/// words, then the last violations, then the message. It says of how many
/// violations there is nothing.
fn cut_error(error: &mut Failure, bytes: usize) {
    if json_bytes(error) <= bytes {
        return;
    }
    let total = error.violations.len();
    let (mut fit, mut room) = (0, bytes / 2);
    for violation in &mut error.violations {
        cut_to(&mut violation.path, (bytes / 8).max(32));
        cut_to(&mut violation.message, (bytes / 8).max(32));
        let size = json_bytes(violation) + 1;
        if size > room {
            break;
        }
        room -= size;
        fit += 1;
    }
    error.violations.truncate(fit);
    let more = match total - fit {
        0 => String::new(),
        more => format!(" ({more} more)"),
    };
    let mut message = std::mem::take(&mut error.message);
    let room = bytes.saturating_sub(json_bytes(error) + more.len());
    cut_to(&mut message, room.min(MAX_MESSAGE_BYTES));
    error.message = message + &more;
}

/// Cuts a text to so many bytes as JSON, with an ellipsis in place of the rest.
fn cut_to(text: &mut String, bytes: usize) {
    let size = |text: &str| json_bytes(&text) - 2;
    if size(text) <= bytes {
        return;
    }
    let room = bytes.saturating_sub('…'.len_utf8());
    let excess = text.len().saturating_sub(room);
    cut_text(text, excess);
    // Quotes and control characters are longer as JSON.
    while size(text) > room {
        let excess = (size(text) - room).div_ceil(6);
        cut_text(text, excess);
    }
    if bytes >= '…'.len_utf8() {
        text.push('…');
    }
}

/// How deep arrays and objects lie in one another.
pub(crate) fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => return 0,
    };
    below.unwrap_or_default() + 1
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
        response.truncated = true;
        let room = bytes.saturating_sub(json_bytes(response) + r#","body":"#.len());
        let excess = text.len().saturating_sub(room);
        cut_text(&mut text, excess);
        // Quotes and control characters are longer as JSON.
        while json_bytes(&text) > room && !text.is_empty() {
            let half = text.len() - text.len() / 2;
            cut_text(&mut text, half);
        }
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
    use analytics_spec::{Code, Error, ErrorKind, ValidationError, Violation, batch::Outcome};

    use super::*;

    #[test]
    fn what_is_cut_says_so_and_fits() {
        for filler in ["x", "\"", "\u{1f600}", "\u{1}"] {
            let mut response = HttpResponse::new(200)
                .header("a", "b")
                .body(filler.repeat(200_000));
            cut_response(&mut response);
            assert!(response.truncated);
            assert!(json_bytes(&response) <= MAX_RESPONSE_BYTES);
            assert!(response.body.is_some());
        }
        let mut small = HttpResponse::new(200).body("ok");
        cut_response(&mut small);
        assert_eq!(small, HttpResponse::new(200).body("ok"));
    }

    #[test]
    fn a_body_that_lies_deep_is_kept_as_its_text() {
        let nested = |levels: usize| {
            let nest = |value, _| Value::Array(vec![value]);
            (0..levels).fold(Value::from(1), nest)
        };
        for (levels, is_kept) in [(100, true), (101, false), (127, false), (500, false)] {
            let response = || HttpResponse::new(200).body(nested(levels));
            let mut cut = response();
            cut_response(&mut cut);
            let text = Value::from(nested(levels).to_string());
            let expected = if is_kept { nested(levels) } else { text };
            assert_eq!(cut.body, Some(expected), "{levels}");
            assert!(!cut.truncated);

            let mut outcome = Outcome::success("m", Some(response()));
            cut_outcome(&mut outcome, 64 * 1024);
            assert_eq!(outcome.response, Some(cut));

            let error = Error::new(ErrorKind::RequestRejected, "no").with_response(response());
            let mut failure = Failure::from(&error);
            cut_failure(&mut failure);
            let json = serde_json::to_vec(&[[[[[failure]]]]]).unwrap();
            assert!(serde_json::from_slice::<Value>(&json).is_ok(), "{levels}");
        }
    }

    #[test]
    fn an_outcome_of_the_largest_batch_fits_and_says_the_reason() {
        let bytes = outcome_bytes(MAX_BATCH_EVENTS);
        let response = HttpResponse::new(400)
            .header("x", "y".repeat(5000))
            .body("z".repeat(5000));
        let rejected = Error::new(ErrorKind::RequestRejected, "m".repeat(5000));
        let violations = |count: usize| {
            let violation = Violation::new("p".repeat(500), Code::UnknownField, "\"".repeat(500));
            Error::from(ValidationError::check(vec![violation; count]).unwrap_err())
        };
        for error in [
            rejected.with_response(response),
            violations(1),
            violations(500),
        ] {
            let error = error.with_integration("an-integration-with-a-name");
            let id = uuid::Uuid::nil().to_string();
            let mut outcome = Outcome::failure(&id, &error);
            let is_answered = outcome.response.is_some();
            cut_outcome(&mut outcome, bytes);
            assert!(json_bytes(&outcome) <= bytes, "{}", json_bytes(&outcome));
            let said = outcome.error.as_ref().unwrap();
            assert!(said.message.contains('…'), "{outcome:?}");
            assert_eq!(outcome.response.is_some_and(|r| r.truncated), is_answered);
            let mut failure = Failure::from(&error);
            cut_failure(&mut failure);
            assert!(json_bytes(&failure) <= MAX_FAILURE_BYTES + MAX_FAILURE_RESPONSE_BYTES);
            assert_eq!(failure.violations.is_empty(), is_answered);
        }
    }

    #[test]
    fn what_is_cut_to_fits_as_json() {
        for filler in ["x", "\"", "\u{1f600}", "\u{1}"] {
            for bytes in [0, 1, 2, 3, 4, 50, 1000] {
                let mut text = filler.repeat(5000);
                cut_to(&mut text, bytes);
                assert!(json_bytes(&text) - 2 <= bytes, "{filler} {bytes} {text}");
            }
        }
    }
}
