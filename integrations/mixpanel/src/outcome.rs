//! What Mixpanel's answers mean.

use std::collections::BTreeMap;

use analytics_http::{Reading, Refusal, classify, classify::said};
use analytics_spec::{ErrorKind, HttpResponse, Value};

/// The answer of `/import`, `/engage` and `/groups`.
///
/// - A refusal of some records names each by its index; the others were taken:
///   <https://docs.mixpanel.com/troubleshooting/errors/400-bad-request>
/// - `/engage` and `/groups` answer 200 to what they refuse, with `0` or
///   `"status": 0`: <https://docs.mixpanel.com/reference/profile-set>
pub(crate) fn records(response: &HttpResponse, items: usize) -> Reading {
    let verdict = classify(response);
    if let Some(failed) = failed(response)
        && (verdict.is_ok() || response.status_code == 400)
    {
        return each(response, &failed, items);
    }
    match (verdict, acceptance(response)) {
        (Ok(()), Acceptance::Accepted) => Reading::All(Ok(())),
        (Ok(()), Acceptance::Refused) => Reading::All(Err(refusal(response))),
        (Ok(()), Acceptance::Unclear) => Reading::All(Err(unclear())),
        (Err(refusal), _) => Reading::All(Err(refusal)),
    }
}

/// The data-deletion API's answer: the task that will delete. One id that it does
/// not take, and it deletes nobody of the request.
///
/// <https://docs.mixpanel.com/reference/create-deletion>
pub(crate) fn deletion(response: &HttpResponse) -> Reading {
    let verdict = classify(response).and_then(|()| {
        let is_ok = response
            .field("status")
            .and_then(Value::as_str)
            .is_some_and(|status| status.eq_ignore_ascii_case("ok"));
        let has_task = match response.field("results") {
            Some(Value::Object(task)) => !task.is_empty(),
            Some(Value::Array(tasks)) => !tasks.is_empty(),
            _ => false,
        };
        let is_its_own = ["status", "results", "error"]
            .iter()
            .any(|field| response.field(field).is_some());
        if is_ok && has_task {
            Ok(())
        } else if !is_its_own {
            // Of something else on the way: nobody has been asked to delete.
            Err(Refusal::foreign("Mixpanel", response))
        } else {
            let said = said(response).unwrap_or_else(|| "the answer names no task".to_owned());
            let refused =
                |kind| Refusal::permanent(kind, format!("Mixpanel refused the deletion: {said}"));
            Err(if is_about_the_project(&said) {
                refused(ErrorKind::Unauthorized).whole()
            } else {
                refused(ErrorKind::RequestRejected).split()
            })
        }
    });
    Reading::All(verdict)
}

/// Whether words begin by saying that the project or its token is wrong, so
/// that no id of the request is the reason. Mixpanel does not document them:
/// anything else, or an id that has these words in it, is looked for in halves.
fn is_about_the_project(said: &str) -> bool {
    let said = said.to_lowercase();
    let phrases = [
        "no such project",
        "invalid project",
        "project not found",
        "invalid token",
    ];
    phrases.iter().any(|phrase| said.starts_with(phrase))
}

/// Mixpanel's words on each record that it names, by its index; `None` if it
/// names none.
fn failed(response: &HttpResponse) -> Option<Vec<(Option<usize>, String)>> {
    let records = response.field("failed_records")?.as_array()?;
    let failed = records.iter().map(|record| {
        let index = record.get("index").and_then(Value::as_u64);
        let text = |key| record.get(key).and_then(Value::as_str).unwrap_or_default();
        let message = match (text("field"), text("message")) {
            ("", "") => "no reason given".to_owned(),
            (field, "") => format!("{field} is invalid"),
            (field, message) if message.contains(field) => message.to_owned(),
            (field, message) => format!("{field}: {message}"),
        };
        let message = format!("Mixpanel refused the record: {message}");
        (index.and_then(|index| usize::try_from(index).ok()), message)
    });
    (!records.is_empty()).then(|| failed.collect())
}

/// A verdict for each record: those that are named are refused for good.
fn each(response: &HttpResponse, failed: &[(Option<usize>, String)], items: usize) -> Reading {
    let refused = |message: &String| Refusal::permanent(ErrorKind::RequestRejected, message);
    let mut named = BTreeMap::new();
    for (index, message) in failed {
        match index {
            Some(index) if *index < items => named.insert(*index, message),
            // Which one it is shows when it is alone.
            _ => return Reading::All(Err(refused(message).split())),
        };
    }
    // Mixpanel says that it imported fewer than it did not name: the rest is
    // sent again, which does not repeat what it has.
    let imported = response
        .field("num_records_imported")
        .and_then(Value::as_u64);
    let is_short = imported
        .and_then(|imported| usize::try_from(imported).ok())
        .is_some_and(|imported| imported.saturating_add(named.len()) < items);
    let verdicts = (0..items).map(|index| match named.get(&index) {
        Some(message) => Err(refused(message)),
        None if is_short => Err(unclear()),
        None => Ok(()),
    });
    Reading::Each(verdicts.collect())
}

/// What a body says, whatever the status.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Acceptance {
    Accepted,
    Refused,
    /// It is not one of Mixpanel's answers.
    Unclear,
}

fn acceptance(response: &HttpResponse) -> Acceptance {
    use Acceptance::{Accepted, Refused, Unclear};
    let from_flag = |flag: &Value| match flag {
        Value::Number(n) if n.as_u64() == Some(1) => Accepted,
        Value::Number(n) if n.as_u64() == Some(0) => Refused,
        Value::String(text) if text.eq_ignore_ascii_case("ok") || text.trim() == "1" => Accepted,
        Value::String(text) if text.trim() == "0" => Refused,
        _ => Unclear,
    };
    match &response.body {
        Some(Value::Object(body)) => {
            let has_error = match body.get("error") {
                Some(Value::String(error)) => !error.is_empty(),
                Some(Value::Null) | None => false,
                Some(_) => true,
            };
            if has_error {
                Refused
            } else {
                body.get("status").map_or(Unclear, from_flag)
            }
        }
        Some(flag) => from_flag(flag),
        None => Unclear,
    }
}

/// A refusal that may mean any of the records.
fn refusal(response: &HttpResponse) -> Refusal {
    // The number that is the whole body is not a reason.
    let said = match &response.body {
        Some(Value::Object(_)) => said(response),
        _ => None,
    };
    let said = said.unwrap_or_else(|| "no reason given".to_owned());
    Refusal::permanent(
        ErrorKind::RequestRejected,
        format!("Mixpanel refused the record: {said}"),
    )
    .split()
}

/// Records may be sent again: Mixpanel recognises events, and profiles come to
/// the same.
fn unclear() -> Refusal {
    Refusal::transient(
        ErrorKind::Unavailable,
        "the answer does not say that Mixpanel took the record",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: Value) -> HttpResponse {
        HttpResponse::new(status).body(body)
    }

    fn rejected(message: &str) -> Refusal {
        Refusal::permanent(ErrorKind::RequestRejected, message)
    }

    #[test]
    fn acceptance_is_what_the_body_says() {
        for body in [
            json!(1),
            json!("1"),
            json!({"status": 1, "error": null}),
            json!({"status": 1, "error": ""}),
            json!({"code": 200, "num_records_imported": 3, "status": "OK"}),
            json!({"code": 200, "num_records_imported": 3, "status": "OK", "failed_records": []}),
        ] {
            assert_eq!(
                records(&answer(200, body.clone()), 3),
                Reading::All(Ok(())),
                "{body}"
            );
        }
        for (body, said) in [
            (json!(0), "no reason given"),
            (json!("0"), "no reason given"),
            (json!({"status": 0}), "no reason given"),
            (
                json!({"status": 0, "error": "$token, missing"}),
                "$token, missing",
            ),
            (json!({"status": "OK", "error": "quota"}), "quota"),
        ] {
            let refusal = rejected(&format!("Mixpanel refused the record: {said}")).split();
            assert_eq!(
                records(&answer(200, body.clone()), 1),
                Reading::All(Err(refusal)),
                "{body}"
            );
        }
        for body in [
            json!("<html>"),
            json!({}),
            json!([]),
            json!({"code": 200}),
            json!(2),
        ] {
            assert_eq!(records(&answer(200, body), 2), Reading::All(Err(unclear())));
        }
        assert_eq!(
            records(&HttpResponse::new(200), 1),
            Reading::All(Err(unclear()))
        );
    }

    #[test]
    fn a_refusal_that_names_no_record_may_mean_any() {
        let unknown = json!({"failed_records": [{"insert_id": "m1", "message": "bad"}]});
        let outside = json!({"failed_records": [{"index": 2, "message": "bad"}]});
        for body in [unknown, outside] {
            assert_eq!(
                records(&answer(400, body), 2),
                Reading::All(Err(rejected("Mixpanel refused the record: bad").split()))
            );
        }
    }

    #[test]
    fn named_records_are_refused_and_the_others_taken() {
        for status in [200, 400] {
            let partial = answer(
                status,
                json!({
                    "code": status,
                    "error": "some data points in the request failed validation",
                    "status": "Bad Request",
                    "num_records_imported": 2,
                    "failed_records": [
                        {"index": 3, "insert_id": "m3", "field": "properties.time",
                         "message": "'properties.time' is invalid"},
                        {"index": 0, "$insert_id": "m0", "field": "event", "message": "is bad"},
                    ],
                }),
            );
            assert_eq!(
                records(&partial, 4),
                Reading::Each(vec![
                    Err(rejected("Mixpanel refused the record: event: is bad")),
                    Ok(()),
                    Ok(()),
                    Err(rejected(
                        "Mixpanel refused the record: 'properties.time' is invalid"
                    )),
                ])
            );
        }
    }

    #[test]
    fn records_that_mixpanel_did_not_count_are_sent_again() {
        let short = answer(
            400,
            json!({"num_records_imported": 0, "failed_records": [{"index": 1, "message": "bad"}]}),
        );
        assert_eq!(
            records(&short, 3),
            Reading::Each(vec![
                Err(unclear()),
                Err(rejected("Mixpanel refused the record: bad")),
                Err(unclear()),
            ])
        );
    }

    #[test]
    fn other_statuses_mean_what_they_always_mean() {
        for (status, body, kind, retryable) in [
            (
                400,
                json!({"code": 400, "error": "empty"}),
                ErrorKind::RequestRejected,
                false,
            ),
            (
                401,
                json!({"code": 401, "error": "Invalid"}),
                ErrorKind::Unauthorized,
                false,
            ),
            (
                413,
                json!({"code": 413, "error": "limit"}),
                ErrorKind::TooLarge,
                false,
            ),
            (
                429,
                json!({"code": 429, "error": "slower"}),
                ErrorKind::RateLimited,
                true,
            ),
            (
                503,
                json!({"failed_records": [{"index": 0}]}),
                ErrorKind::Unavailable,
                true,
            ),
        ] {
            let Reading::All(Err(refusal)) = records(&answer(status, body), 2) else {
                panic!("{status} is not refused as a whole");
            };
            assert_eq!(
                (refusal.kind, refusal.retryable),
                (kind, retryable),
                "{status}"
            );
        }
    }

    #[test]
    fn a_deletion_is_accepted_when_there_is_a_task() {
        for (status, results) in [
            (200, json!({"task_id": "t1"})),
            (201, json!([{"status": "PENDING", "tracking_id": "t1"}])),
        ] {
            let response = answer(status, json!({"status": "ok", "results": results}));
            assert_eq!(deletion(&response), Reading::All(Ok(())));
        }
        for (body, said) in [
            (
                json!({"status": "error", "error": "no such user"}),
                "no such user",
            ),
            (json!({"status": "ok"}), "the answer names no task"),
            (
                json!({"status": "ok", "results": []}),
                "the answer names no task",
            ),
            (
                json!({"results": {"task_id": "t1"}}),
                "the answer names no task",
            ),
        ] {
            let refusal = rejected(&format!("Mixpanel refused the deletion: {said}")).split();
            assert_eq!(deletion(&answer(200, body)), Reading::All(Err(refusal)));
        }
        // No half of the request has another project.
        let body = json!({"status": "error", "error": "No such project"});
        let words = "Mixpanel refused the deletion: No such project";
        let refusal = Refusal::permanent(ErrorKind::Unauthorized, words).whole();
        assert_eq!(deletion(&answer(200, body)), Reading::All(Err(refusal)));
        // An id may have any words in it.
        let said = "unknown id: invalid token";
        let body = json!({"status": "error", "error": said});
        let refusal = rejected(&format!("Mixpanel refused the deletion: {said}")).split();
        assert_eq!(deletion(&answer(200, body)), Reading::All(Err(refusal)));
        let Reading::All(Err(refusal)) = deletion(&answer(403, json!({"status": "error"}))) else {
            panic!("not refused");
        };
        assert_eq!(refusal.kind, ErrorKind::Unauthorized);
    }
}
