//! From a status to a verdict: delivered, to be retried, or refused for good.

use std::time::Duration;

use analytics_spec::{Clock, ErrorKind, HttpResponse, Timestamp};
use jiff::SignedDuration;

/// What a vendor says of one step.
pub type Verdict = Result<(), Refusal>;

/// A step that the vendor did not accept.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// The vendor's own words, or what went wrong on the way.
    pub message: String,
    /// How long to send the vendor nothing. The answer's `Retry-After` sets
    /// it: a reading leaves it alone.
    pub retry_after: Option<Duration>,
    /// How long this event, and no other, has to wait at least.
    pub wait: Option<Duration>,
    /// Whether one of several steps may be the reason: if all of a request are
    /// refused so, it is sent again in halves, down to one step alone.
    ///
    /// That takes few requests more where one step is the reason, and at most
    /// about twice as many as there are steps where it is another for each. They
    /// follow one another.
    pub split: bool,
}

impl Refusal {
    /// For good. [`TooLarge`](ErrorKind::TooLarge) is to be
    /// [split](Self::split).
    pub fn permanent(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            retryable: false,
            message: message.into(),
            retry_after: None,
            wait: None,
            split: kind == ErrorKind::TooLarge,
        }
    }

    /// For now.
    pub fn transient(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            retryable: true,
            ..Self::permanent(kind, message)
        }
    }

    /// For now: a 2xx of something else on the way, such as a proxy's page. What
    /// it took did not reach the vendor.
    pub fn foreign(vendor: &str, response: &HttpResponse) -> Self {
        let said = message(response);
        Self::transient(
            ErrorKind::Unavailable,
            format!("{said}: this is not {vendor}'s answer"),
        )
    }

    /// Sets how long this event, and no other, has to wait at least.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Says that one of several steps may be the reason.
    #[must_use]
    pub fn split(mut self) -> Self {
        self.split = true;
        self
    }

    /// Says that no step is the reason by itself: the request as a whole is, and
    /// is not sent again in halves.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.split = false;
        self
    }
}

/// What a status means where a vendor's documentation says nothing else:
///
/// | status | verdict |
/// |---|---|
/// | 2xx | accepted |
/// | 400, 422 | `RequestRejected`: a batch is halved, a single event is permanent |
/// | 401, 403 | `Unauthorized`, permanent |
/// | 408 | `Timeout`, transient |
/// | 413 | `TooLarge`: a batch is halved, a single event is permanent |
/// | 429 | `RateLimited`, transient |
/// | 5xx | `Unavailable`, transient |
/// | anything else | `RequestRejected`, permanent; redirects are not followed |
///
/// The message is the status and what [`said`] finds in the body.
///
/// A 400 or 422 says of all what may be wrong with one. Where a vendor's is never
/// about one event, its reading says so, with [`Refusal::whole`].
///
/// # Errors
///
/// The refusal.
pub fn classify(response: &HttpResponse) -> Verdict {
    let status = response.status_code;
    let (kind, retryable) = match status {
        200..=299 => return Ok(()),
        401 | 403 => (ErrorKind::Unauthorized, false),
        408 => (ErrorKind::Timeout, true),
        413 => (ErrorKind::TooLarge, false),
        429 => (ErrorKind::RateLimited, true),
        500..=599 => (ErrorKind::Unavailable, true),
        _ => (ErrorKind::RequestRejected, false),
    };
    let refusal = Refusal::permanent(kind, message(response));
    Err(Refusal {
        retryable,
        split: refusal.split || matches!(status, 400 | 422),
        ..refusal
    })
}

/// The status and the vendor's own words: `401 Unauthorized: invalid key`.
#[must_use]
pub fn message(response: &HttpResponse) -> String {
    let status = response.status_code;
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let status = match reason {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    };
    let status = if (300..400).contains(&response.status_code) {
        format!("{status}, and redirects are not followed")
    } else {
        status
    };
    match said(response) {
        Some(said) => format!("{status}: {said}"),
        None => status,
    }
}

/// The most characters of an answer that a message repeats.
const MAX_SAID_CHARS: usize = 300;

/// What an answer's body says in words: its `message`, its `error`, its `title`
/// and `detail` (RFC 9457), or its `errors`; else its text.
#[must_use]
pub fn said(response: &HttpResponse) -> Option<String> {
    use serde_json::Value;

    fn words(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Array(values) => {
                let all: Vec<_> = values.iter().filter_map(words).collect();
                (!all.is_empty()).then(|| all.join("; "))
            }
            Value::Object(map) => {
                let said = |key| map.get(key).and_then(words);
                let problem = match (said("title"), said("detail")) {
                    (Some(title), Some(detail)) => Some(format!("{title}: {detail}")),
                    (title, detail) => detail.or(title),
                };
                said("message")
                    .or_else(|| said("error"))
                    .or(problem)
                    .or_else(|| said("errors"))
            }
            _ => None,
        }
    }
    let said = words(response.body.as_ref()?)?;
    // One line, whatever an HTML page has.
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = said.chars().take(MAX_SAID_CHARS).collect();
    let cut = if short.len() < said.len() { "..." } else { "" };
    (!short.is_empty()).then(|| format!("{short}{cut}"))
}

/// The longest that a `Retry-After` header is obeyed.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What an answer's `Retry-After` asks for, in seconds or as a date (RFC 9110,
/// section 10.2.3), at most [`MAX_RETRY_AFTER`]. Where there is none, the date
/// in `X-RateLimit-Reset`, which some vendors send instead.
#[must_use]
pub fn retry_after(response: &HttpResponse, clock: &dyn Clock) -> Option<Duration> {
    let asked = match response.header_value("retry-after") {
        Some(value) => seconds(value).or_else(|| until(value, clock)),
        None => until(response.header_value("x-ratelimit-reset")?, clock),
    };
    asked.map(|asked| asked.min(MAX_RETRY_AFTER))
}

fn seconds(value: &str) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    // More digits than a number holds are longer than any pause.
    is_number.then(|| value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs))
}

/// How long until a date, as HTTP or RFC 3339 writes it; zero if it is past.
fn until(value: &str, clock: &dyn Clock) -> Option<Duration> {
    let value = value.trim();
    let date = match httpdate::parse_http_date(value) {
        Ok(date) => Timestamp::try_from(date).ok()?,
        Err(_) => value.parse().ok()?,
    };
    let wait = date.duration_since(clock.now()).max(SignedDuration::ZERO);
    Duration::try_from(wait).ok()
}

#[cfg(test)]
mod tests {
    use analytics_spec::clock::Sleep;
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct At(&'static str);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0.parse().unwrap()
        }
        fn sleep(&self, _: Duration) -> Sleep<'_> {
            Box::pin(async {})
        }
        fn jitter(&self) -> f64 {
            0.0
        }
    }

    #[test]
    fn statuses_mean_what_the_table_says() {
        for (status, kind, retryable, split) in [
            (302, ErrorKind::RequestRejected, false, false),
            (400, ErrorKind::RequestRejected, false, true),
            (401, ErrorKind::Unauthorized, false, false),
            (403, ErrorKind::Unauthorized, false, false),
            (404, ErrorKind::RequestRejected, false, false),
            (408, ErrorKind::Timeout, true, false),
            (413, ErrorKind::TooLarge, false, true),
            (422, ErrorKind::RequestRejected, false, true),
            (429, ErrorKind::RateLimited, true, false),
            (500, ErrorKind::Unavailable, true, false),
            (503, ErrorKind::Unavailable, true, false),
        ] {
            let refusal = classify(&HttpResponse::new(status)).unwrap_err();
            assert_eq!(
                (refusal.kind, refusal.retryable, refusal.split),
                (kind, retryable, split),
                "{status}"
            );
            assert!(!refusal.whole().split);
        }
        assert_eq!(classify(&HttpResponse::new(204)), Ok(()));
    }

    #[test]
    fn the_vendors_words_are_kept() {
        let cases = [
            (json!("no  such\nthing"), "400 Bad Request: no such thing"),
            (
                json!({"error": {"message": "bad key"}}),
                "400 Bad Request: bad key",
            ),
            (
                json!({"errors": [{"message": "a"}, {"message": "b"}]}),
                "400 Bad Request: a; b",
            ),
            (
                json!({"title": "Invalid Resource", "detail": "no such list", "status": 400}),
                "400 Bad Request: Invalid Resource: no such list",
            ),
            (json!({"code": 400}), "400 Bad Request"),
        ];
        for (body, expected) in cases {
            assert_eq!(message(&HttpResponse::new(400).body(body)), expected);
        }
        let long = message(&HttpResponse::new(400).body("x".repeat(5000)));
        assert_eq!(
            long.chars().count(),
            "400 Bad Request: ".len() + MAX_SAID_CHARS + 3
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_capped() {
        let clock = At("2026-03-01T12:00:00Z");
        for (value, seconds) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("100000", Some(300)),
            ("99999999999999999999999", Some(300)),
            ("Sun, 01 Mar 2026 12:00:42 GMT", Some(42)),
            ("Sun, 01 Mar 2026 11:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ] {
            let response = HttpResponse::new(429).header("Retry-After", value);
            assert_eq!(
                retry_after(&response, &clock),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
        assert_eq!(retry_after(&HttpResponse::new(429), &clock), None);
        let reset = HttpResponse::new(429).header("X-RateLimit-Reset", "2026-03-01T12:00:09Z");
        assert_eq!(retry_after(&reset, &clock), Some(Duration::from_secs(9)));
        let count = HttpResponse::new(429).header("X-RateLimit-Reset", "1772366409");
        assert_eq!(retry_after(&count, &clock), None);
    }
}
