//! What PostHog's answers mean.

use analytics_http::{Reading, Refusal, classify};
use analytics_spec::{ErrorKind, HttpResponse, Value};

/// The answer of `/batch/`: `{"status": "Ok"}`, or 1 for `Ok` from older
/// instances.
///
/// - Events are checked together, and refused together, with 400:
///   <https://posthog.com/docs/data/ingestion-warnings#validation-warnings>
/// - What is over the quota of events is lost behind a 200 that names it. Other
///   quotas are of what is not sent here: recordings, exceptions, surveys.
pub(crate) fn captured(response: &HttpResponse) -> Reading {
    let verdict = match response.status_code {
        200..=299 if is_over_quota(response) => Err(Refusal::transient(
            ErrorKind::RateLimited,
            "PostHog lost what is over the project's quota of events",
        )),
        200..=299 if is_ok(response) => Ok(()),
        200..=299 => Err(Refusal::foreign("PostHog", response)),
        _ => classify(response),
    };
    Reading::All(verdict)
}

fn is_ok(response: &HttpResponse) -> bool {
    match response.field("status") {
        Some(Value::String(status)) => status.eq_ignore_ascii_case("ok"),
        Some(status) => status.as_u64() == Some(1),
        None => false,
    }
}

fn is_over_quota(response: &HttpResponse) -> bool {
    let quotas = response.field("quota_limited").and_then(Value::as_array);
    quotas.is_some_and(|quotas| quotas.iter().any(|quota| quota == "events"))
}

/// The answer to a deletion: how many persons there were, and whom PostHog
/// could not delete. Older instances answer 202 without a body.
///
/// <https://posthog.com/docs/api/persons>
pub(crate) fn deleted(response: &HttpResponse) -> Reading {
    let verdict = match response.status_code {
        202 if response.body.is_none() => Ok(()),
        200..=299 => match response.field("persons_found").and_then(Value::as_u64) {
            Some(_) if has_errors(response) => Err(Refusal::transient(
                ErrorKind::Unavailable,
                "PostHog could not delete every person",
            )
            .split()),
            Some(_) => Ok(()),
            None => Err(Refusal::foreign("PostHog", response)),
        },
        _ => classify(response),
    };
    Reading::All(verdict)
}

fn has_errors(response: &HttpResponse) -> bool {
    let errors = response.field("deletion_errors").and_then(Value::as_array);
    errors.is_some_and(|errors| !errors.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: Value) -> HttpResponse {
        HttpResponse::new(status).body(body)
    }

    fn refusal(reading: Reading) -> Refusal {
        match reading {
            Reading::All(Err(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_are_taken_when_posthog_says_so() {
        for body in [
            json!({"status": "Ok"}),
            json!({"status": 1}),
            json!({"status": "Ok", "quota_limited": []}),
            json!({"status": "Ok", "quota_limited": ["recordings", "exceptions"]}),
        ] {
            assert_eq!(captured(&answer(200, body)), Reading::All(Ok(())));
        }
    }

    #[test]
    fn a_2xx_of_somebody_else_is_sent_again() {
        for response in [
            HttpResponse::new(200),
            HttpResponse::new(204),
            answer(200, json!("<html>Log in</html>")),
            answer(200, json!({})),
            answer(200, json!({"status": 0})),
            answer(202, json!({"status": "accepted"})),
            answer(200, json!(1)),
        ] {
            for reading in [captured(&response), deleted(&response)] {
                let refusal = refusal(reading);
                assert_eq!(refusal.kind, ErrorKind::Unavailable, "{response:?}");
                assert!(refusal.retryable);
                assert!(refusal.message.contains("not PostHog's answer"));
            }
        }
    }

    #[test]
    fn what_is_over_a_quota_is_not_delivered() {
        let body = json!({"status": "Ok", "quota_limited": ["events", "exceptions"]});
        let refusal = refusal(captured(&answer(200, body)));
        assert_eq!(
            (refusal.kind, refusal.retryable),
            (ErrorKind::RateLimited, true)
        );
        assert!(refusal.message.ends_with("quota of events"));
    }

    #[test]
    fn one_event_may_be_the_reason_why_all_are_refused() {
        let words = "event submitted with an empty event name";
        let refusal = refusal(captured(&answer(400, json!(words))));
        assert_eq!(refusal.kind, ErrorKind::RequestRejected);
        assert!(refusal.split && !refusal.retryable);
        assert!(refusal.message.ends_with(words), "{}", refusal.message);
    }

    #[test]
    fn other_statuses_mean_what_they_always_mean() {
        for (status, words, kind, retryable) in [
            (401, "API key is not valid", ErrorKind::Unauthorized, false),
            (403, "permission denied", ErrorKind::Unauthorized, false),
            (404, "not found", ErrorKind::RequestRejected, false),
            (413, "event size exceeded", ErrorKind::TooLarge, false),
            (429, "billing limit reached", ErrorKind::RateLimited, true),
            (503, "please retry", ErrorKind::Unavailable, true),
        ] {
            for read in [captured, deleted] {
                let refusal = refusal(read(&answer(status, json!(words))));
                assert_eq!((refusal.kind, refusal.retryable), (kind, retryable));
                assert!(refusal.message.ends_with(words));
            }
        }
    }

    #[test]
    fn a_deletion_is_done_when_nobody_is_left() {
        for (status, body) in [
            (
                202,
                json!({"persons_found": 2, "persons_deleted": 2, "deletion_errors": []}),
            ),
            (
                202,
                json!({"persons_found": 1, "persons_queued_for_deletion": 1}),
            ),
            (200, json!({"persons_found": 0})),
        ] {
            assert_eq!(deleted(&answer(status, body)), Reading::All(Ok(())));
        }
        assert_eq!(deleted(&HttpResponse::new(202)), Reading::All(Ok(())));

        let errors = json!([{"person_uuid": "01890a5d-ac96-774b-bcce-b302099a8057"}]);
        let left = json!({"persons_found": 2, "deletion_errors": errors});
        let kept = refusal(deleted(&answer(202, left)));
        assert!(kept.retryable && kept.split, "{kept:?}");

        let wrong = refusal(deleted(&answer(400, json!({"detail": "no ids"}))));
        assert!(wrong.split && !wrong.retryable, "{wrong:?}");
    }
}
