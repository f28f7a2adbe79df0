//! Time-outs and retries of requests: what may be configured, and the
//! decision whether and when to try again, as pure functions.

use std::time::Duration;

use jiff::{
    SignedDuration,
    fmt::friendly::{Designator, Spacing, SpanParser, SpanPrinter},
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::{
    AnyInput, Attempt, Error, ErrorKind, Progress,
    decode::{Decode, Inherit, Reader, members, unknown_message},
    validation::Code,
};

/// Policies of the steps that a workflow takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Policies {
    /// Of the request to the vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<ActivityPolicy>,
}

/// Time-out and retries of one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ActivityPolicy {
    /// How long one attempt may take.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration")]
    pub single_attempt_timeout: Option<Duration>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
}

/// When to try again, and how often.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The pause after the first failure.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration")]
    pub initial_interval: Option<Duration>,
    /// By what each pause is longer than the one before; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_coefficient: Option<f64>,
    /// The longest pause.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration")]
    pub maximum_interval: Option<Duration>,
    /// How many attempts in all; 0 is without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_attempts: Option<u32>,
    /// Types of errors ([`ErrorKind::as_str`]) after which there is no other
    /// attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub non_retryable_error_types: Option<Vec<String>>,
}

impl Policies {
    /// Policies that say nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the request's policy.
    #[must_use]
    pub fn request(mut self, policy: ActivityPolicy) -> Self {
        self.request = Some(policy);
        self
    }

    /// Completes these policies from `base`: what is set here wins.
    pub fn inherit(&mut self, base: &Self) {
        Inherit::inherit(self, base);
    }

    /// Reads policies from JSON, such as a configuration's.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them, with paths below `policies`.
    pub fn from_value(value: Value) -> Result<Self, crate::ValidationError> {
        let mut reader = Reader::default();
        let policies = reader
            .at("policies", |r| Self::decode(value, r))
            .unwrap_or_default();
        policies.check(&mut reader);
        crate::ValidationError::check(reader.finish()).map(|()| policies)
    }

    /// Adds what cannot be obeyed.
    pub(crate) fn check(&self, reader: &mut Reader) {
        let Some(request) = &self.request else { return };
        let retry = request.retry_policy.as_ref();
        let durations = [
            ("single_attempt_timeout", request.single_attempt_timeout),
            (
                "retry_policy.initial_interval",
                retry.and_then(|r| r.initial_interval),
            ),
            (
                "retry_policy.maximum_interval",
                retry.and_then(|r| r.maximum_interval),
            ),
        ];
        reader.at("policies.request", |reader| {
            for (field, duration) in durations {
                if duration.is_some_and(|d| d.is_zero() || d > LONGEST) {
                    reader.at(field, |r| {
                        r.violation(
                            Code::OutOfRange,
                            "must be longer than zero and at most a year",
                        );
                    });
                }
            }
            let coefficient = retry.and_then(|r| r.backoff_coefficient);
            if coefficient.is_some_and(|c| !c.is_finite() || c < 1.0) {
                reader.at("retry_policy.backoff_coefficient", |r| {
                    r.violation(Code::OutOfRange, "must be at least 1");
                });
            }
            let excluded = retry.and_then(|r| r.non_retryable_error_types.as_ref());
            let known = ErrorKind::ALL.map(ErrorKind::as_str);
            for name in excluded.into_iter().flatten() {
                if !known.contains(&name.as_str()) {
                    reader.at("retry_policy.non_retryable_error_types", |r| {
                        r.violation(Code::Format, unknown_message(name, &known));
                    });
                }
            }
        });
    }

    /// The request's policy with every gap filled. The longest pause, if it is
    /// not given, is never shorter than the first.
    #[must_use]
    pub fn resolve(&self) -> RequestPolicy {
        let default = RequestPolicy::default();
        let request = self.request.clone().unwrap_or_default();
        let retry = request.retry_policy.unwrap_or_default();
        let initial_interval = retry.initial_interval.unwrap_or(default.initial_interval);
        RequestPolicy {
            single_attempt_timeout: request
                .single_attempt_timeout
                .unwrap_or(default.single_attempt_timeout),
            initial_interval,
            backoff_coefficient: retry
                .backoff_coefficient
                .unwrap_or(default.backoff_coefficient),
            maximum_interval: retry
                .maximum_interval
                .unwrap_or_else(|| default.maximum_interval.max(initial_interval)),
            maximum_attempts: retry.maximum_attempts.unwrap_or(default.maximum_attempts),
            non_retryable_error_types: retry.non_retryable_error_types.unwrap_or_default(),
        }
    }
}

impl ActivityPolicy {
    /// A policy that says nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long one attempt may take.
    #[must_use]
    pub fn single_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.single_attempt_timeout = Some(timeout);
        self
    }

    /// Sets when to try again.
    #[must_use]
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.retry_policy = Some(policy);
        self
    }
}

impl RetryPolicy {
    /// A policy that says nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the pause after the first failure.
    #[must_use]
    pub fn initial_interval(mut self, interval: Duration) -> Self {
        self.initial_interval = Some(interval);
        self
    }

    /// Sets by what each pause is longer than the one before.
    #[must_use]
    pub fn backoff_coefficient(mut self, coefficient: f64) -> Self {
        self.backoff_coefficient = Some(coefficient);
        self
    }

    /// Sets the longest pause.
    #[must_use]
    pub fn maximum_interval(mut self, interval: Duration) -> Self {
        self.maximum_interval = Some(interval);
        self
    }

    /// Sets how many attempts there are in all; 0 is without end.
    #[must_use]
    pub fn maximum_attempts(mut self, attempts: u32) -> Self {
        self.maximum_attempts = Some(attempts);
        self
    }

    /// Sets the types of errors after which there is no other attempt.
    #[must_use]
    pub fn non_retryable_error_types<S: Into<String>>(
        mut self,
        types: impl IntoIterator<Item = S>,
    ) -> Self {
        self.non_retryable_error_types = Some(types.into_iter().map(Into::into).collect());
        self
    }
}

/// A request's policy with every gap filled: what drivers of retries obey.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RequestPolicy {
    /// How long one attempt may take: 10 s.
    pub single_attempt_timeout: Duration,
    /// The pause after the first failure: 500 ms.
    pub initial_interval: Duration,
    /// By what each pause is longer than the one before: 2.
    pub backoff_coefficient: f64,
    /// The longest pause: 60 s.
    pub maximum_interval: Duration,
    /// How many attempts in all, 0 being without end: 10.
    pub maximum_attempts: u32,
    /// Types of errors after which there is no other attempt: none.
    pub non_retryable_error_types: Vec<String>,
}

impl Default for RequestPolicy {
    fn default() -> Self {
        Self {
            single_attempt_timeout: Duration::from_secs(10),
            initial_interval: Duration::from_millis(500),
            backoff_coefficient: 2.0,
            maximum_interval: Duration::from_secs(60),
            maximum_attempts: 10,
            non_retryable_error_types: Vec::new(),
        }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Another attempt.
    Retry {
        /// After this pause.
        after: Duration,
        /// Whether the failed attempt counts towards the maximum. One that the
        /// vendor answered with its own delay does not, nor one that was never
        /// made.
        counted: bool,
    },
    /// No other attempt: the failure is final.
    GiveUp,
}

impl RequestPolicy {
    /// What follows the failure of an attempt, `counted` attempts having
    /// counted before it. `jitter` is from `0.0` to below `1.0`.
    ///
    /// A pause is between half of the interval and the whole of it. What the
    /// vendor asked for is waited in full. A maximum of one attempt is one
    /// attempt, whatever the vendor asks for.
    #[must_use]
    pub fn next(&self, counted: u32, error: &Error, jitter: f64) -> Next {
        let error_type = error.kind().as_str();
        let is_excluded = self
            .non_retryable_error_types
            .iter()
            .any(|t| t == error_type);
        if !error.is_retryable() || is_excluded {
            return Next::GiveUp;
        }
        if error.kind() == ErrorKind::Deferred {
            return Next::Retry {
                after: Duration::ZERO,
                counted: false,
            };
        }
        if self.maximum_attempts == 1 {
            return Next::GiveUp;
        }
        match error.retry_after() {
            Some(asked) if !asked.is_zero() => Next::Retry {
                after: error.wait().map_or(asked, |wait| wait.max(asked)),
                counted: false,
            },
            _ => {
                let attempts = counted.saturating_add(1);
                if self.maximum_attempts != 0 && attempts >= self.maximum_attempts {
                    return Next::GiveUp;
                }
                // A vendor that says "retry after 0" means: soon, not: flood me.
                let nth = if error.retry_after().is_some() {
                    1
                } else {
                    attempts
                };
                let pause = self.pause(nth, jitter);
                Next::Retry {
                    after: error.wait().map_or(pause, |wait| wait.max(pause)),
                    counted: true,
                }
            }
        }
    }

    /// The pause after the `nth` counted failure, from 1.
    #[must_use]
    pub fn pause(&self, nth: u32, jitter: f64) -> Duration {
        let doublings = i32::try_from(nth.saturating_sub(1)).unwrap_or(i32::MAX);
        let longest = self.maximum_interval.as_secs_f64();
        let interval = (self.initial_interval.as_secs_f64()
            * self.backoff_coefficient.powi(doublings))
        .min(longest);
        Duration::try_from_secs_f64(interval * (0.5 + jitter.clamp(0.0, 1.0) / 2.0))
            .map_or(self.maximum_interval, |pause| {
                pause.min(self.maximum_interval)
            })
    }
}

/// How far the attempts at one event have come: a state machine that every
/// driver of retries steps through, and a durable one stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Retries {
    /// Attempts that were made.
    pub made: u32,
    /// Those of them that count towards the maximum.
    pub counted: u32,
    /// Those of them that say nothing about the event, because the vendor was
    /// down for everybody.
    pub outage: u32,
    /// What they got through.
    pub progress: Progress,
    /// For how long the vendor asked to wait, in all.
    pub asked: Duration,
}

/// The longest that one event waits in all for delays that the vendor asked
/// for, unless its attempts are without end.
pub const MAX_ASKED: Duration = Duration::from_secs(12 * 60 * 60);

/// The most attempts at one event that do not count because the vendor
/// answered them with its own delay, unless attempts are without end.
pub const MAX_ASKED_ATTEMPTS: u32 = 100;

impl Retries {
    /// Before the first attempt.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next attempt.
    #[must_use]
    pub fn attempt<'a>(&self, input: &'a AnyInput, policy: &RequestPolicy) -> Attempt<'a> {
        Attempt {
            input,
            number: self.made.saturating_add(1),
            progress: self.progress,
            timeout: policy.single_attempt_timeout,
            deadline: None,
        }
    }

    /// Takes an attempt's failure: the pause before the next attempt, or
    /// `None` if the failure is final.
    #[must_use]
    pub fn failed(
        &mut self,
        error: &Error,
        policy: &RequestPolicy,
        jitter: f64,
    ) -> Option<Duration> {
        self.progress = self.progress.max(error.progress());
        let next = policy.next(self.counted, error, jitter);
        if error.kind() != ErrorKind::Deferred {
            self.made = self.made.saturating_add(1);
        }
        match next {
            Next::GiveUp => None,
            Next::Retry { after, counted } => {
                if counted {
                    self.counted = self.counted.saturating_add(1);
                } else {
                    self.asked = self.asked.saturating_add(after);
                }
                let uncounted = self
                    .made
                    .saturating_sub(self.counted)
                    .saturating_sub(self.outage);
                let is_patient = self.asked <= MAX_ASKED && uncounted <= MAX_ASKED_ATTEMPTS;
                let is_endless = policy.maximum_attempts == 0;
                (is_patient || is_endless).then_some(after)
            }
        }
    }

    /// Takes the failure of an attempt that found the vendor still down, for
    /// this event as for every other: it does not count, and is final only if
    /// there is to be no other attempt at all. The pause before the next one.
    #[must_use]
    pub fn postponed(
        &mut self,
        error: &Error,
        policy: &RequestPolicy,
        jitter: f64,
    ) -> Option<Duration> {
        self.progress = self.progress.max(error.progress());
        self.made = self.made.saturating_add(1);
        self.outage = self.outage.saturating_add(1);
        match policy.next(0, error, jitter) {
            Next::GiveUp => None,
            Next::Retry { after, .. } => Some(after),
        }
    }
}

/// Longer pauses are a mistake in the unit.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Reads `2s`, `1m30s`, `1.5h`, `250ms`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let signed = SpanParser::new().parse_duration(text).ok()?;
    Duration::try_from(signed).ok()
}

/// Writes what [`parse_duration`] reads, without loss.
fn format_duration(duration: Duration) -> String {
    match SignedDuration::try_from(duration) {
        Ok(signed) => SpanPrinter::new()
            .designator(Designator::Compact)
            .spacing(Spacing::None)
            .duration_to_string(&signed),
        // 292 billion years.
        Err(_) => format!("{}s", i64::MAX),
    }
}

#[expect(clippy::ref_option, reason = "serde asks for this signature")]
fn duration<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(duration) => serializer.serialize_str(&format_duration(*duration)),
        None => serializer.serialize_none(),
    }
}

/// Reads the listed fields of a struct, none of which may be unknown.
macro_rules! decode_fields {
    ($Name:ident { $($field:ident),* }) => {
        impl Decode for $Name {
            fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
                let mut decoded = Self::default();
                for (key, value) in members(value, reader)? {
                    match key.as_str() {
                        $( stringify!($field) => {
                            decoded.$field = reader.at(stringify!($field), |r| Decode::decode(value, r));
                        } )*
                        _ => reader.unknown(key, &[$(stringify!($field)),*]),
                    }
                }
                Some(decoded)
            }
        }

        impl Inherit for $Name {
            fn inherit(&mut self, base: &Self) {
                $( self.$field.inherit(&base.$field); )*
            }
        }
    };
}

decode_fields!(Policies { request });
decode_fields!(ActivityPolicy {
    single_attempt_timeout,
    retry_policy
});
decode_fields!(RetryPolicy {
    initial_interval,
    backoff_coefficient,
    maximum_interval,
    maximum_attempts,
    non_retryable_error_types
});

#[cfg(test)]
mod tests {
    use super::*;

    fn transient() -> Error {
        Error::new(ErrorKind::Unavailable, "503")
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = RequestPolicy::default();
        let pauses: Vec<_> = (1..=9).map(|n| policy.pause(n, 1.0).as_millis()).collect();
        assert_eq!(
            pauses,
            [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]
        );
        assert_eq!(policy.pause(1, 0.0).as_millis(), 250);
        assert_eq!(policy.pause(u32::MAX, 0.999).as_secs(), 59);
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        let policy = RequestPolicy {
            maximum_attempts: 3,
            ..RequestPolicy::default()
        };
        assert!(matches!(
            policy.next(0, &transient(), 0.0),
            Next::Retry { counted: true, .. }
        ));
        assert!(matches!(
            policy.next(1, &transient(), 0.0),
            Next::Retry { counted: true, .. }
        ));
        assert_eq!(policy.next(2, &transient(), 0.0), Next::GiveUp);
        let endless = RequestPolicy {
            maximum_attempts: 0,
            ..policy
        };
        assert!(matches!(
            endless.next(u32::MAX, &transient(), 0.0),
            Next::Retry { .. }
        ));
    }

    #[test]
    fn what_the_vendor_asks_is_waited_in_full_and_not_counted() {
        let policy = RequestPolicy::default();
        let asked = transient().with_retry_after(Duration::from_secs(90));
        let next = Next::Retry {
            after: Duration::from_secs(90),
            counted: false,
        };
        assert_eq!(policy.next(500, &asked, 0.0), next);
        let at_once = transient().with_retry_after(Duration::ZERO);
        assert_eq!(
            policy.next(5, &at_once, 1.0),
            Next::Retry {
                after: Duration::from_millis(500),
                counted: true
            }
        );
    }

    #[test]
    fn one_attempt_is_one_attempt_and_patience_ends() {
        let asked = transient().with_retry_after(Duration::from_secs(1));
        let once = RequestPolicy {
            maximum_attempts: 1,
            ..RequestPolicy::default()
        };
        assert_eq!(once.next(0, &asked, 0.0), Next::GiveUp);
        let mut retries = Retries::new();
        let policy = RequestPolicy::default();
        let waits = std::iter::from_fn(|| retries.failed(&asked, &policy, 0.0));
        assert_eq!(waits.take(1000).count(), 100);
    }

    #[test]
    fn without_end_is_without_end_whatever_the_vendor_asks_for() {
        let policy = RequestPolicy {
            maximum_attempts: 0,
            ..RequestPolicy::default()
        };
        for seconds in [1, 3600] {
            let asked = transient().with_retry_after(Duration::from_secs(seconds));
            let mut retries = Retries::new();
            for _ in 0..1000 {
                let pause = retries.failed(&asked, &policy, 0.0);
                assert_eq!(pause, asked.retry_after());
            }
            assert!(retries.asked > Duration::from_secs(900) && retries.counted == 0);
        }
    }

    #[test]
    fn what_one_event_has_to_wait_counts() {
        let waits = transient().with_wait(Duration::from_secs(600));
        let next = RequestPolicy::default().next(0, &waits, 0.0);
        assert_eq!(
            next,
            Next::Retry {
                after: Duration::from_secs(600),
                counted: true
            }
        );
    }

    #[test]
    fn permanent_and_excluded_errors_are_final() {
        let mut policy = RequestPolicy::default();
        let permanent = Error::new(ErrorKind::RequestRejected, "400");
        assert_eq!(policy.next(0, &permanent, 0.0), Next::GiveUp);
        policy.non_retryable_error_types = vec!["Unavailable".to_owned()];
        assert_eq!(policy.next(0, &transient(), 0.0), Next::GiveUp);
    }

    #[test]
    fn durations_read_as_go_and_people_write_them() {
        for (text, millis) in [
            ("2s", 2000),
            ("1m30s", 90_000),
            ("1.5s", 1500),
            ("250ms", 250),
            ("1h", 3_600_000),
            ("1h0m0s", 3_600_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "2", "s", "-1s", "2 parsecs", "1s ago"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        let odd = Duration::new(3723, 4_005_006);
        assert_eq!(parse_duration(&format_duration(odd)), Some(odd));
        assert_eq!(format_duration(Duration::from_secs(90)), "1m30s");
    }
}
