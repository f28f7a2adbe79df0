//! What statuses mean to an endpoint.

use std::{collections::BTreeMap, fmt, str::FromStr};

use analytics_http::{Refusal, Verdict};
use analytics_spec::{Error, ErrorKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What an endpoint says with a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Meaning {
    /// It has taken the events.
    Success,
    /// It may take them another time.
    Retry,
    /// It takes nothing so large: several events are sent in halves, one is
    /// refused for good.
    TooLarge,
    /// It does not accept the credentials.
    Unauthorized,
    /// It will never take them.
    Reject,
}

/// A status, or all that begin with a digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatusPattern {
    /// This status: 200 to 599.
    Exactly(u16),
    /// The hundred statuses that begin with a digit: 2 to 5.
    Class(u8),
}

impl StatusPattern {
    fn is_possible(self) -> bool {
        match self {
            Self::Exactly(status) => (200..=599).contains(&status),
            Self::Class(digit) => (2..=5).contains(&digit),
        }
    }
}

impl From<u16> for StatusPattern {
    fn from(status: u16) -> Self {
        Self::Exactly(status)
    }
}

impl fmt::Display for StatusPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(status) => write!(f, "{status}"),
            Self::Class(digit) => write!(f, "{digit}xx"),
        }
    }
}

impl FromStr for StatusPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = match text.strip_suffix("xx") {
            Some(digit) => digit.parse().ok().map(Self::Class),
            None => text.parse().ok().map(Self::Exactly),
        };
        read.filter(|pattern| pattern.is_possible()).ok_or_else(|| {
            Error::configuration(format!(
                "{text:?} is neither a status from 200 to 599 nor `2xx`, `3xx`, `4xx` or `5xx`"
            ))
        })
    }
}

impl Serialize for StatusPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StatusPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error: Error| de::Error::custom(error.message()))
    }
}

/// The meanings that were given, before those that statuses have anyway.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Statuses(BTreeMap<StatusPattern, Meaning>);

impl Statuses {
    pub(crate) fn new(given: BTreeMap<StatusPattern, Meaning>) -> Result<Self, Error> {
        match given.keys().find(|pattern| !pattern.is_possible()) {
            Some(wrong) => Err(Error::configuration(format!(
                "`statuses`: {wrong} is no status of an answer"
            ))),
            None => Ok(Self(given)),
        }
    }

    /// What is given of the status itself, then what is given of its class,
    /// then what it means everywhere. 410 is for good, as in Standard
    /// Webhooks:
    /// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#delivery-success-and-failure>
    fn meaning(&self, status: u16) -> Meaning {
        let class = u8::try_from(status / 100).unwrap_or_default();
        let given = self.0.get(&StatusPattern::Exactly(status));
        if let Some(given) = given.or_else(|| self.0.get(&StatusPattern::Class(class))) {
            return *given;
        }
        match status {
            200..=299 => Meaning::Success,
            401 | 403 => Meaning::Unauthorized,
            408 | 425 | 429 | 500..=599 => Meaning::Retry,
            413 => Meaning::TooLarge,
            _ => Meaning::Reject,
        }
    }

    /// The verdict of a status, with the endpoint's words.
    pub(crate) fn verdict(&self, status: u16, words: impl FnOnce() -> String) -> Verdict {
        Err(match self.meaning(status) {
            Meaning::Success => return Ok(()),
            Meaning::Retry => {
                let kind = match status {
                    408 => ErrorKind::Timeout,
                    429 => ErrorKind::RateLimited,
                    _ => ErrorKind::Unavailable,
                };
                Refusal::transient(kind, words())
            }
            Meaning::TooLarge => Refusal::permanent(ErrorKind::TooLarge, words()),
            Meaning::Unauthorized => Refusal::permanent(ErrorKind::Unauthorized, words()),
            Meaning::Reject => {
                let refusal = Refusal::permanent(ErrorKind::RequestRejected, words());
                match status {
                    // They are about a body, of which one event may be wrong.
                    400 | 422 => refusal.split(),
                    _ => refusal,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &str) -> Statuses {
        Statuses::new(serde_json::from_str(given).unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_given_means_what_it_means_everywhere() {
        let default = Statuses::default();
        for (status, expected) in [
            (200, None),
            (204, None),
            (207, None),
            (301, Some((ErrorKind::RequestRejected, false, false))),
            (400, Some((ErrorKind::RequestRejected, false, true))),
            (401, Some((ErrorKind::Unauthorized, false, false))),
            (403, Some((ErrorKind::Unauthorized, false, false))),
            (404, Some((ErrorKind::RequestRejected, false, false))),
            (408, Some((ErrorKind::Timeout, true, false))),
            (409, Some((ErrorKind::RequestRejected, false, false))),
            (410, Some((ErrorKind::RequestRejected, false, false))),
            (413, Some((ErrorKind::TooLarge, false, true))),
            (422, Some((ErrorKind::RequestRejected, false, true))),
            (425, Some((ErrorKind::Unavailable, true, false))),
            (429, Some((ErrorKind::RateLimited, true, false))),
            (500, Some((ErrorKind::Unavailable, true, false))),
            (501, Some((ErrorKind::Unavailable, true, false))),
            (599, Some((ErrorKind::Unavailable, true, false))),
            (999, Some((ErrorKind::RequestRejected, false, false))),
        ] {
            let verdict = default.verdict(status, || "words".to_owned());
            let seen = verdict.err().map(|r| (r.kind, r.retryable, r.split));
            assert_eq!(seen, expected, "{status}");
        }
    }

    #[test]
    fn the_more_particular_wins() {
        let statuses = of(r#"{"2xx": "reject", "202": "success", "404": "success",
            "409": "retry", "5xx": "too_large", "501": "unauthorized"}"#);
        for (status, meaning) in [
            (200, Meaning::Reject),
            (202, Meaning::Success),
            (404, Meaning::Success),
            (405, Meaning::Reject),
            (409, Meaning::Retry),
            (429, Meaning::Retry),
            (500, Meaning::TooLarge),
            (501, Meaning::Unauthorized),
        ] {
            assert_eq!(statuses.meaning(status), meaning, "{status}");
        }
    }

    #[test]
    fn what_is_no_status_is_said() {
        for wrong in [
            "", "xx", "1xx", "6xx", "20x", "99", "199", "600", "ok", "-1",
        ] {
            let error = wrong.parse::<StatusPattern>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
        for right in ["200", "599", "2xx", "5xx"] {
            let pattern: StatusPattern = right.parse().unwrap();
            assert_eq!(pattern.to_string(), right);
        }
        let given = BTreeMap::from_iter([(StatusPattern::Class(7), Meaning::Retry)]);
        let error = Statuses::new(given).unwrap_err().to_string();
        assert!(error.contains("7xx"), "{error}");
    }
}
