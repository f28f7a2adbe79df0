//! What an endpoint's answers mean.

use analytics_http::{Reading, Refusal, Verdict, classify::message};
use analytics_spec::{ErrorKind, HttpResponse, Value};

use crate::statuses::Statuses;

/// The same of all events of a request, by its status.
pub(crate) fn whole(statuses: &Statuses, response: &HttpResponse) -> Verdict {
    statuses.verdict(response.status_code, || message(response))
}

/// A result for each event, where the status says that the request was taken:
/// `{"results":[{"status":200},{"status":422,"message":"no such plan"}]}`.
pub(crate) fn each(statuses: &Statuses, response: &HttpResponse, items: usize) -> Reading {
    if let Err(refusal) = whole(statuses, response) {
        return Reading::All(Err(refusal));
    }
    let results = response.field("results").and_then(Value::as_array);
    match results.filter(|results| results.len() == items) {
        Some(results) => Reading::Each(results.iter().map(|r| one(statuses, r)).collect()),
        None => Reading::All(Err(unread(
            "the answer does not have one result for each event",
        ))),
    }
}

fn one(statuses: &Statuses, result: &Value) -> Verdict {
    let status = result.get("status").and_then(Value::as_u64);
    let status = status.and_then(|status| u16::try_from(status).ok());
    let Some(status) = status else {
        return Err(unread("a result of the answer has no status"));
    };
    let words = || message(&HttpResponse::new(status).body(result.clone()));
    statuses.verdict(status, words).map_err(|mut refusal| {
        if refusal.kind == ErrorKind::Unauthorized {
            // Whoever sent the others may send: it is this event that may not.
            refusal.kind = ErrorKind::RequestRejected;
        }
        // Which event it is about is known.
        refusal.whole()
    })
}

/// What became of the events is not known: they are sent again, with the ids
/// by which the endpoint recognises them.
fn unread(why: &str) -> Refusal {
    Refusal::transient(ErrorKind::Unavailable, why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(status: u16, body: Value, items: usize) -> Reading {
        let response = HttpResponse::new(status).body(body);
        each(&Statuses::default(), &response, items)
    }

    #[test]
    fn each_event_has_a_result() {
        let body = json!({"results": [
            {"status": 200},
            {"status": 422, "message": "no such plan"},
            {"status": 503, "error": "try later"},
            {"status": 403},
            {"status": 413},
            {"state": "ok"},
        ]});
        for status in [200, 207] {
            let Reading::Each(verdicts) = read(status, body.clone(), 6) else {
                panic!("one verdict for all");
            };
            let seen: Vec<_> = verdicts
                .into_iter()
                .map(|verdict| verdict.map_err(|r| (r.kind, r.retryable, r.split, r.message)))
                .collect();
            let refused =
                |kind, retryable, message: &str| Err((kind, retryable, false, message.to_owned()));
            assert_eq!(
                seen,
                [
                    Ok(()),
                    refused(
                        ErrorKind::RequestRejected,
                        false,
                        "422 Unprocessable Entity: no such plan"
                    ),
                    refused(
                        ErrorKind::Unavailable,
                        true,
                        "503 Service Unavailable: try later"
                    ),
                    refused(ErrorKind::RequestRejected, false, "403 Forbidden"),
                    refused(ErrorKind::TooLarge, false, "413 Payload Too Large"),
                    refused(
                        ErrorKind::Unavailable,
                        true,
                        "a result of the answer has no status"
                    ),
                ]
            );
        }
    }

    #[test]
    fn an_answer_without_results_says_nothing() {
        for body in [
            json!({}),
            json!("<html>welcome</html>"),
            json!([{"status": 200}]),
            json!({"results": {"status": 200}}),
            json!({"results": []}),
            json!({"results": [{"status": 200}, {"status": 200}]}),
        ] {
            let Reading::All(Err(refusal)) = read(200, body.clone(), 1) else {
                panic!("taken for an answer: {body}");
            };
            assert!(refusal.retryable, "{body}");
        }
    }

    #[test]
    fn a_refused_request_is_refused_whole() {
        let body = json!({"results": [{"status": 200}]});
        let Reading::All(Err(refusal)) = read(401, body, 1) else {
            panic!("a 401 with results");
        };
        assert_eq!(refusal.kind, ErrorKind::Unauthorized);
    }
}
