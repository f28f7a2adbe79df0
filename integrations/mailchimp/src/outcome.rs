//! What Mailchimp's answers mean.
//!
//! <https://mailchimp.com/developer/marketing/docs/errors/>

use std::time::Duration;

use analytics_http::{Refusal, Verdict, classify, classify::message};
use analytics_spec::{ErrorKind, HttpResponse, Value};

use crate::vendor::Action;

/// How long to leave an address alone that signs up too often. Mailchimp says
/// "for now", and no time.
const SIGN_UP_PAUSE: Duration = Duration::from_secs(10 * 60);

/// What Mailchimp says of such an address, under the title `Invalid Resource`.
const TOO_MANY_SIGN_UPS: &str = "has signed up to a lot of lists very recently";

/// What an answer says of the one step that its request carried.
pub(crate) fn verdict(action: Action, response: &HttpResponse) -> Verdict {
    let problem = problem(response);
    let problem = problem.as_deref();
    let said = match problem {
        Some(words) => message(&HttpResponse::new(response.status_code).body(words)),
        None => message(response),
    };
    let rejected = |message| Err(Refusal::permanent(ErrorKind::RequestRejected, message));
    match (response.status_code, action) {
        (200..=299, _) if problem.is_some() => rejected(said),
        (200..=299, _) if !is_mailchimps(action, response) => {
            Err(Refusal::foreign("Mailchimp", response))
        }
        // A member who is to be deleted is not there. What is not described so,
        // something else on the way has said.
        (404, Action::Archive | Action::Erase) if problem.is_some() => Ok(()),
        (404, Action::Event | Action::Tag) => rejected(format!(
            "{said}; the person is not a member of the audience: identify them first"
        )),
        (404, Action::Upsert) => rejected(format!("{said}; is there such an audience_id?")),
        (405, Action::Archive) => rejected(format!(
            "{said}; the member cannot be archived: they are already archived, \
             have not confirmed yet, or were cleaned"
        )),
        (400, _) if problem.is_some_and(|words| words.contains(TOO_MANY_SIGN_UPS)) => {
            Err(Refusal::transient(ErrorKind::RateLimited, said).wait(SIGN_UP_PAUSE))
        }
        // Mailchimp describes what it refuses; this is the gate before it,
        // which closes at a high volume.
        (403, _) if problem.is_none() => Err(Refusal::transient(ErrorKind::RateLimited, said)),
        _ => classify(response).map_err(|mut refusal| {
            refusal.message = said;
            refusal
        }),
    }
}

/// Whether a 2xx is Mailchimp's: an upsert's is the member, and the others' are
/// 204 without a body. What something else on the way answers is not: nobody
/// would have been deleted.
///
/// - <https://mailchimp.com/developer/marketing/api/list-members/>
/// - <https://mailchimp.com/developer/marketing/api/list-member-events/add-event/>
/// - <https://mailchimp.com/developer/marketing/api/list-member-tags/add-or-remove-member-tags/>
fn is_mailchimps(action: Action, response: &HttpResponse) -> bool {
    match action {
        Action::Upsert => response.field("id").is_some_and(Value::is_string),
        Action::Event | Action::Tag | Action::Archive | Action::Erase => {
            response.status_code == 204 && response.body.is_none()
        }
    }
}

/// The title, the detail and the fields of a problem; `None` if the body is
/// none (RFC 9457).
fn problem(response: &HttpResponse) -> Option<String> {
    let text = |value: &Value, key: &str| {
        let text = value.get(key)?.as_str()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let body = response.body.as_ref()?;
    let described: Vec<_> = ["title", "detail"]
        .into_iter()
        .filter_map(|key| text(body, key))
        .collect();
    if described.is_empty() {
        return None;
    }
    let errors = body.get("errors").and_then(Value::as_array);
    let fields: Vec<_> = errors
        .into_iter()
        .flatten()
        .filter_map(|error| {
            let message = text(error, "message")?;
            Some(match text(error, "field") {
                Some(field) => format!("{field}: {message}"),
                None => message,
            })
        })
        .collect();
    let described = described.join(": ");
    Some(if fields.is_empty() {
        described
    } else {
        format!("{described} ({})", fields.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALL: [Action; 5] = [
        Action::Upsert,
        Action::Event,
        Action::Tag,
        Action::Archive,
        Action::Erase,
    ];

    fn problem(status: u16, title: &str, detail: &str) -> HttpResponse {
        HttpResponse::new(status).body(json!({
            "type": "https://mailchimp.com/developer/marketing/docs/errors/",
            "title": title,
            "status": status,
            "detail": detail,
            "instance": "0ae4a1b2",
        }))
    }

    fn refusal(action: Action, response: &HttpResponse) -> Refusal {
        verdict(action, response).unwrap_err()
    }

    #[test]
    fn success_is_what_mailchimp_answers_to_that_request() {
        let member = HttpResponse::new(200).body(json!({"id": "9e26", "status": "unsubscribed"}));
        for action in ALL {
            let (own, others) = (HttpResponse::new(204), member.clone());
            let (own, others) = match action {
                Action::Upsert => (others, own),
                _ => (own, others),
            };
            assert_eq!(verdict(action, &own), Ok(()));
            for other in [
                others,
                HttpResponse::new(200),
                HttpResponse::new(202),
                HttpResponse::new(200).body(json!({"status": "healthy"})),
                HttpResponse::new(200).body("<html>Log in</html>"),
                HttpResponse::new(204).body("OK"),
            ] {
                let refusal = refusal(action, &other);
                assert!(refusal.retryable, "{action:?} {other:?}");
                assert!(refusal.message.contains("not Mailchimp's"));
            }
            let refusal = refusal(action, &problem(200, "Invalid Resource", "no"));
            assert_eq!(
                (refusal.kind, refusal.retryable),
                (ErrorKind::RequestRejected, false)
            );
        }
    }

    #[test]
    fn what_mailchimp_refuses_is_final_with_its_words() {
        for (status, title, kind) in [
            (
                400,
                "Member In Compliance State",
                ErrorKind::RequestRejected,
            ),
            (
                400,
                "Forgotten Email Not Subscribed",
                ErrorKind::RequestRejected,
            ),
            (400, "Invalid Resource", ErrorKind::RequestRejected),
            (401, "API Key Invalid", ErrorKind::Unauthorized),
            (403, "User Action Not Permitted", ErrorKind::Unauthorized),
        ] {
            for action in ALL {
                let refusal = refusal(action, &problem(status, title, "the detail"));
                assert_eq!((refusal.kind, refusal.retryable), (kind, false), "{title}");
                let words = format!("{title}: the detail");
                assert!(refusal.message.contains(&words), "{}", refusal.message);
                assert!(
                    refusal.message.starts_with(&status.to_string()),
                    "{}",
                    refusal.message
                );
            }
        }
    }

    #[test]
    fn the_fields_of_a_problem_are_named() {
        let response = HttpResponse::new(400).body(json!({
            "title": "Invalid Resource",
            "detail": "Your merge fields were invalid.",
            "errors": [
                {"field": "BDAY", "message": "Please enter a birthday"},
                {"field": "", "message": "And a name"},
            ],
        }));
        assert_eq!(
            refusal(Action::Upsert, &response).message,
            "400 Bad Request: Invalid Resource: Your merge fields were invalid. \
             (BDAY: Please enter a birthday; And a name)"
        );
    }

    #[test]
    fn an_address_that_signs_up_too_often_waits() {
        let detail = "ada@example.com has signed up to a lot of lists very recently; \
                      we're not allowing more signups for now";
        let refusal = refusal(Action::Upsert, &problem(400, "Invalid Resource", detail));
        assert_eq!(
            (refusal.kind, refusal.retryable),
            (ErrorKind::RateLimited, true)
        );
        assert!(refusal.wait.unwrap() >= Duration::from_secs(600));
        assert!(refusal.message.contains(detail), "{}", refusal.message);
    }

    #[test]
    fn a_403_without_a_problem_passes() {
        for response in [
            HttpResponse::new(403),
            HttpResponse::new(403).body("<html>Access Denied</html>"),
            HttpResponse::new(403).body(json!({})),
        ] {
            for action in ALL {
                let refusal = refusal(action, &response);
                assert_eq!(
                    (refusal.kind, refusal.retryable, refusal.wait),
                    (ErrorKind::RateLimited, true, None)
                );
            }
        }
    }

    #[test]
    fn overload_passes() {
        for (status, kind) in [
            (408, ErrorKind::Timeout),
            (429, ErrorKind::RateLimited),
            (500, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
        ] {
            for action in ALL {
                let refusal = refusal(action, &problem(status, "Sorry", "later"));
                assert_eq!((refusal.kind, refusal.retryable), (kind, true), "{status}");
                assert!(refusal.message.contains("Sorry: later"));
            }
        }
    }

    #[test]
    fn a_404_depends_on_what_was_asked() {
        let response = problem(404, "Resource Not Found", "could not be found");
        for action in [Action::Archive, Action::Erase] {
            assert_eq!(verdict(action, &response), Ok(()));
            for others in [
                HttpResponse::new(404),
                HttpResponse::new(404).body("<html>no such host</html>"),
                HttpResponse::new(404).body(json!({"status": 404})),
            ] {
                assert!(!refusal(action, &others).retryable, "{others:?}");
            }
        }
        for (action, words) in [
            (Action::Event, "not a member"),
            (Action::Tag, "not a member"),
            (Action::Upsert, "audience_id"),
        ] {
            let refusal = refusal(action, &response);
            assert_eq!(
                (refusal.kind, refusal.retryable),
                (ErrorKind::RequestRejected, false)
            );
            assert!(refusal.message.contains(words), "{}", refusal.message);
            assert!(refusal.message.contains("could not be found"));
        }
    }

    #[test]
    fn a_405_says_why_a_member_cannot_be_archived() {
        let response = problem(405, "Method Not Allowed", "cannot be removed");
        let archive = refusal(Action::Archive, &response);
        assert_eq!(
            (archive.kind, archive.retryable),
            (ErrorKind::RequestRejected, false)
        );
        assert!(archive.message.contains("already archived"));
        assert!(archive.message.contains("cannot be removed"));
        let erase = refusal(Action::Erase, &response);
        assert!(!erase.retryable && !erase.message.contains("already archived"));
    }
}
