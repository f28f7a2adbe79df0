//! What Amplitude's answers mean.

use std::{collections::BTreeSet, time::Duration};

use analytics_http::{
    Reading, Refusal, classify,
    classify::{Verdict, message},
};
use analytics_spec::{ErrorKind, HttpResponse, Value};

/// How long a user or device is left alone that sends more in a second than
/// Amplitude takes.
///
/// <https://amplitude.com/docs/apis/analytics/http-v2#429-too-many-requests>
const THROTTLED: Duration = Duration::from_secs(30);

/// The same for more in a day: the day rolls on hour by hour.
///
/// <https://amplitude.com/docs/apis/analytics/batch-event-upload#daily-limit>
const EXCEEDED: Duration = Duration::from_secs(60 * 60);

/// How long a deletion waits whose user Amplitude does not know: it may have the
/// user's first events, and not have processed them yet.
const NOT_KNOWN_YET: Duration = Duration::from_secs(10 * 60);

/// The answer of `/2/httpapi` and `/batch`. One event that Amplitude refuses,
/// and it takes none of the request.
///
/// - <https://amplitude.com/docs/apis/analytics/http-v2#response>
/// - <https://amplitude.com/docs/apis/analytics/batch-event-upload#responses>
/// - <https://amplitude.com/docs/apis/analytics/http-api-batching-retries>
pub(crate) fn upload(response: &HttpResponse, items: usize) -> Reading {
    let named = Named::of(response, items);
    match response.status_code {
        200..=299 => Reading::All(ingested(response, items)),
        400 | 429 if !named.is_empty() => Reading::Each(named.verdicts(response, items)),
        400 => Reading::All(Err(bad_request(response))),
        // The firewall has read something in the events, or does not let this
        // sender in: https://amplitude.com/docs/apis/analytics/http-v2#403-forbidden
        403 => Reading::All(Err(rejected(message(response)).split())),
        _ => Reading::All(classify(response)),
    }
}

/// A 2xx says how many events it is about.
fn ingested(response: &HttpResponse, items: usize) -> Verdict {
    let number = |key| response.field(key).and_then(Value::as_u64);
    let took = number("events_ingested").and_then(|took| usize::try_from(took).ok());
    match (number("code"), took) {
        (Some(200), Some(took)) if took == items => Ok(()),
        // Which ones is not said. Amplitude drops what it has already.
        (Some(200), Some(took)) => Err(Refusal::transient(
            ErrorKind::Unavailable,
            format!("Amplitude took {took} of {items} events"),
        )),
        _ if response.field("error").is_some() => Err(rejected(message(response)).split()),
        _ => Err(Refusal::foreign("Amplitude", response)),
    }
}

/// Events that an answer names by their index.
struct Named {
    /// Of devices that Amplitude takes nothing from any more.
    silenced: BTreeSet<usize>,
    /// Of users and devices that have sent too much.
    throttled: BTreeSet<usize>,
}

impl Named {
    fn of(response: &HttpResponse, items: usize) -> Self {
        let indices = |key| {
            let list = response.field(key).and_then(Value::as_array);
            let indices = list.into_iter().flatten().filter_map(Value::as_u64);
            let indices = indices.filter_map(|index| usize::try_from(index).ok());
            indices.filter(|index| *index < items).collect()
        };
        Self {
            silenced: indices("silenced_events"),
            throttled: indices("throttled_events"),
        }
    }

    fn is_empty(&self) -> bool {
        self.silenced.is_empty() && self.throttled.is_empty()
    }

    /// A verdict for each event. What is not named was not taken either, and
    /// nothing is wrong with it.
    fn verdicts(&self, response: &HttpResponse, items: usize) -> Vec<Verdict> {
        let said = message(response);
        let wait = pause(response);
        let verdict = |index| {
            if self.silenced.contains(&index) {
                rejected(format!("{said}: the device is silenced"))
            } else if self.throttled.contains(&index) {
                Refusal::transient(ErrorKind::RateLimited, said.as_str()).wait(wait)
            } else {
                Refusal::transient(
                    ErrorKind::Unavailable,
                    format!("not taken, for others of its request were refused: {said}"),
                )
            }
        };
        (0..items).map(|index| Err(verdict(index))).collect()
    }
}

/// For how long whoever has sent too much is to be left alone.
fn pause(response: &HttpResponse) -> Duration {
    let names_any = |keys: [&str; 2]| {
        let mut maps = keys.into_iter().filter_map(|key| response.field(key));
        maps.any(|map| map.as_object().is_some_and(|map| !map.is_empty()))
    };
    let in_a_second = names_any(["throttled_users", "throttled_devices"]);
    let in_a_day = names_any(["exceeded_daily_quota_users", "exceeded_daily_quota_devices"]);
    // Of whom which is meant is not said: whoever waits too short is told again.
    if in_a_day && !in_a_second {
        EXCEEDED
    } else {
        THROTTLED
    }
}

/// What is wrong with one event is said of the first that has it, at least by
/// `/2/httpapi`: in halves, each of several is found, and nothing of the rest
/// is lost.
fn bad_request(response: &HttpResponse) -> Refusal {
    let error = response.field("error").and_then(Value::as_str);
    let error = error.unwrap_or_default();
    // Other APIs have 401 for it.
    if error.starts_with("Invalid API key") {
        return Refusal::permanent(ErrorKind::Unauthorized, message(response));
    }
    let mut said = message(response);
    let missing = response.field("missing_field").and_then(Value::as_str);
    let fields = [
        "events_with_missing_fields",
        "events_with_invalid_fields",
        "events_with_invalid_id_lengths",
    ]
    .into_iter()
    .filter_map(|key| response.field(key)?.as_object())
    .flat_map(|map| map.keys().map(String::as_str));
    let fields: Vec<&str> = fields.collect();
    let of_the_request = missing.filter(|field| !field.is_empty() && fields.is_empty());
    for field in fields.iter().copied().chain(of_the_request) {
        said.push_str(&format!(", {field}"));
    }
    let is_about_no_event = of_the_request.is_some()
        || [
            "Invalid request path",
            "Missing request body",
            "Invalid JSON request body",
        ]
        .contains(&error);
    if is_about_no_event {
        rejected(said)
    } else {
        rejected(said).split()
    }
}

/// The answer of `/usermap`, of which the documentation says nothing: whatever
/// is no error. A web page is not handed on to here.
///
/// <https://amplitude.com/docs/apis/analytics/user-mapping>
pub(crate) fn user_map(response: &HttpResponse) -> Reading {
    Reading::All(whole(response).and_then(|()| {
        let is_taken = match &response.body {
            None | Some(Value::String(_)) => true,
            Some(body @ Value::Object(_)) => {
                let code = body.get("code");
                if body.get("error").is_some() {
                    return Err(rejected(message(response)).split());
                }
                code.is_none_or(|code| code.as_u64() == Some(200))
            }
            Some(_) => false,
        };
        if is_taken {
            Ok(())
        } else {
            Err(Refusal::foreign("Amplitude", response))
        }
    }))
}

/// The answer of the User Privacy API: the job that will delete, and its day.
///
/// An id that it does not know is a 400, and then nobody is deleted. Whether that
/// is somebody who has been deleted, or whose events it is about to process, it
/// does not say: only the second would be a loss, so it is asked again.
///
/// <https://amplitude.com/docs/apis/analytics/user-privacy#delete-users>
pub(crate) fn deletions(response: &HttpResponse) -> Reading {
    let verdict = whole(response).map_err(|refusal| {
        let is_about_users = response.status_code == 400 && refusal.split;
        if is_about_users {
            Refusal::transient(refusal.kind, refusal.message)
                .wait(NOT_KNOWN_YET)
                .split()
        } else {
            refusal
        }
    });
    Reading::All(verdict.and_then(|()| {
        let has_day = |job: &Value| job.get("day").is_some_and(|day| !day.is_null());
        let has_job = match &response.body {
            Some(Value::Array(jobs)) => !jobs.is_empty() && jobs.iter().all(has_day),
            Some(job) => has_day(job),
            None => false,
        };
        if has_job {
            Ok(())
        } else if response.field("error").is_some() {
            Err(rejected(message(response)).split())
        } else {
            Err(Refusal::foreign("Amplitude", response))
        }
    }))
}

/// What a status says where one of several may be the reason of a 400.
fn whole(response: &HttpResponse) -> Verdict {
    match response.status_code {
        400 => Err(bad_request(response)),
        _ => classify(response),
    }
}

fn rejected(message: String) -> Refusal {
    Refusal::permanent(ErrorKind::RequestRejected, message)
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
            other => panic!("not refused as a whole: {other:?}"),
        }
    }

    /// Kind, whether it may pass, whether it is sent again in halves.
    fn verdict(reading: Reading) -> (ErrorKind, bool, bool) {
        let refusal = refusal(reading);
        (refusal.kind, refusal.retryable, refusal.split)
    }

    const UNAVAILABLE: (ErrorKind, bool, bool) = (ErrorKind::Unavailable, true, false);
    const HALVED: (ErrorKind, bool, bool) = (ErrorKind::RequestRejected, false, true);
    const REJECTED: (ErrorKind, bool, bool) = (ErrorKind::RequestRejected, false, false);

    #[test]
    fn an_upload_is_accepted_when_every_event_is_counted() {
        let success = json!({
            "code": 200, "events_ingested": 3,
            "payload_size_bytes": 50, "server_upload_time": 1_396_381_378_123_i64,
        });
        assert_eq!(upload(&answer(200, success), 3), Reading::All(Ok(())));
        for body in [
            json!({"code": 200, "events_ingested": 2}),
            json!({"code": 200, "events_ingested": 0}),
            json!({"code": 200, "events_ingested": 4}),
            json!({"code": 200}),
            json!({"events_ingested": 3}),
            json!({"code": 400, "events_ingested": 3}),
            json!({}),
            json!("success"),
            json!("<html>Sign in</html>"),
        ] {
            assert_eq!(
                verdict(upload(&answer(200, body.clone()), 3)),
                UNAVAILABLE,
                "{body}"
            );
        }
        assert_eq!(verdict(upload(&HttpResponse::new(204), 1)), UNAVAILABLE);
        let error = answer(200, json!({"error": "no"}));
        assert_eq!(verdict(upload(&error, 1)), HALVED);
    }

    #[test]
    fn a_bad_event_is_looked_for_in_halves_and_its_fields_are_named() {
        for (body, words) in [
            (
                json!({
                    "code": 400, "error": "Request missing required field", "missing_field": null,
                    "events_with_missing_fields": {"event_type": [3]},
                }),
                "400 Bad Request: Request missing required field, event_type",
            ),
            (
                json!({
                    "error": "Invalid field values on some events",
                    "events_with_invalid_fields": {"price": [0], "time": [1]},
                }),
                "400 Bad Request: Invalid field values on some events, price, time",
            ),
            (
                json!({
                    "error": "Invalid id length for user_id or device_id",
                    "events_with_invalid_id_lengths": {"user_id": [2]},
                }),
                "400 Bad Request: Invalid id length for user_id or device_id, user_id",
            ),
            (
                json!({"error": "Invalid event JSON"}),
                "400 Bad Request: Invalid event JSON",
            ),
        ] {
            let refusal = refusal(upload(&answer(400, body), 4));
            assert_eq!(refusal, rejected(words.to_owned()).split());
        }
        let blocked = answer(403, json!({"code": 403, "error": "Forbidden"}));
        assert_eq!(verdict(upload(&blocked, 2)), HALVED);
    }

    #[test]
    fn what_is_wrong_with_the_request_is_not_looked_for_among_its_events() {
        for body in [
            json!({"error": "Request missing required field", "missing_field": "events"}),
            json!({"error": "Invalid request path"}),
            json!({"error": "Invalid JSON request body"}),
        ] {
            assert_eq!(verdict(upload(&answer(400, body), 2)), REJECTED);
        }
        let key = answer(400, json!({"error": "Invalid API key: 123"}));
        for reading in [upload(&key, 2), user_map(&key), deletions(&key)] {
            assert_eq!(verdict(reading), (ErrorKind::Unauthorized, false, false));
        }
    }

    #[test]
    fn throttled_events_wait_and_silenced_ones_are_refused() {
        let body = json!({
            "code": 400, "error": "Events silenced for device_id",
            "silenced_devices": ["d1"], "silenced_events": [3],
            "throttled_devices": {"d2": 100}, "throttled_events": [0, 9],
        });
        let Reading::Each(verdicts) = upload(&answer(400, body), 4) else {
            panic!("all the same");
        };
        let seen: Vec<_> = verdicts
            .iter()
            .map(|verdict| verdict.as_ref().unwrap_err())
            .map(|refusal| (refusal.kind, refusal.retryable, refusal.wait))
            .collect();
        let untouched = (ErrorKind::Unavailable, true, None);
        assert_eq!(
            seen,
            [
                (ErrorKind::RateLimited, true, Some(THROTTLED)),
                untouched,
                untouched,
                (ErrorKind::RequestRejected, false, None),
            ]
        );
    }

    #[test]
    fn a_day_is_waited_for_longer_than_a_second() {
        for (named, wait) in [
            (json!({"throttled_users": {"u": 31}}), THROTTLED),
            (
                json!({"exceeded_daily_quota_users": {"u": 500_200}}),
                EXCEEDED,
            ),
            (
                json!({
                    "exceeded_daily_quota_devices": {"d": 500_200}, "throttled_devices": {"e": 31},
                    "exceeded_daily_quota_users": {}, "throttled_users": {},
                }),
                THROTTLED,
            ),
            (json!({}), THROTTLED),
        ] {
            let mut body = named;
            body["error"] = json!("Too many requests for some devices and users");
            body["throttled_events"] = json!([1]);
            let Reading::Each(verdicts) = upload(&answer(429, body), 2) else {
                panic!("all the same");
            };
            assert_eq!(verdicts[1].as_ref().unwrap_err().wait, Some(wait));
        }
    }

    #[test]
    fn other_statuses_mean_what_they_always_mean() {
        for (status, kind, retryable) in [
            (401, ErrorKind::Unauthorized, false),
            (404, ErrorKind::RequestRejected, false),
            (413, ErrorKind::TooLarge, false),
            (429, ErrorKind::RateLimited, true),
            (500, ErrorKind::Unavailable, true),
            (502, ErrorKind::Unavailable, true),
            (503, ErrorKind::Unavailable, true),
            (504, ErrorKind::Unavailable, true),
        ] {
            let response = answer(status, json!({"code": status, "error": "no"}));
            for reading in [
                upload(&response, 2),
                user_map(&response),
                deletions(&response),
            ] {
                let refusal = refusal(reading);
                assert_eq!((refusal.kind, refusal.retryable), (kind, retryable));
                assert_eq!(refusal.wait, None);
            }
        }
    }

    #[test]
    fn a_mapping_is_accepted_unless_something_else_is_said() {
        assert_eq!(user_map(&HttpResponse::new(200)), Reading::All(Ok(())));
        for body in [json!("success"), json!({}), json!({"code": 200})] {
            assert_eq!(user_map(&answer(200, body)), Reading::All(Ok(())));
        }
        for body in [json!({"code": 202}), json!([]), json!(1)] {
            assert_eq!(verdict(user_map(&answer(200, body))), UNAVAILABLE);
        }
        for (status, body) in [(200, json!({"error": "no"})), (400, json!("bad mapping"))] {
            assert_eq!(verdict(user_map(&answer(status, body))), HALVED);
        }
    }

    #[test]
    fn a_deletion_is_accepted_when_there_is_a_job() {
        let job = json!({"day": "2026-03-20", "status": "staging", "amplitude_ids": []});
        for body in [job.clone(), json!([job])] {
            assert_eq!(deletions(&answer(200, body)), Reading::All(Ok(())));
        }
        for body in [json!({}), json!([]), json!("ok"), json!({"day": null})] {
            assert_eq!(verdict(deletions(&answer(200, body))), UNAVAILABLE);
        }
        let unknown = answer(400, json!({"error": "Invalid user ids"}));
        let unknown = refusal(deletions(&unknown));
        assert!(unknown.retryable && unknown.split, "{unknown:?}");
        assert_eq!(unknown.wait, Some(NOT_KNOWN_YET));
        let request = answer(400, json!({"error": "Invalid JSON request body"}));
        assert_eq!(verdict(deletions(&request)), REJECTED);
        let refused = answer(200, json!({"error": "no"}));
        assert_eq!(verdict(deletions(&refused)), HALVED);
    }
}
