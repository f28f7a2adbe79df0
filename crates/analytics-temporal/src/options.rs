//! From the specification's policies to the options of activities. What
//! Temporal cannot obey makes it refuse the workflow's task for ever, so
//! everything is brought into its bounds.

use std::time::Duration;

use analytics_spec::{RequestPolicy, policies::MAX_ASKED_ATTEMPTS};
use temporalio_common::RetryPolicy;
use temporalio_sdk::{ActivityOptions, LocalActivityOptions};

/// An attempt may take several requests, one after the other, each of which has
/// the policy's time-out.
const REQUESTS: u32 = 4;

/// What an attempt needs beside its requests.
const MARGIN: Duration = Duration::from_secs(5);

/// What it takes to hand an attempt to a worker and to report how it ended: the
/// worker ends it by itself, and says why, before the server takes it for lost.
const HANDING: Duration = Duration::from_secs(5);

/// After how long a worker that says nothing is taken for dead: its attempt is
/// made again by another one.
const SILENCE: Duration = Duration::from_secs(10);

/// How often a worker says that it still lives, and hears of a cancellation. An
/// attempt that is shorter costs no such message.
pub(crate) const PULSE: Duration = Duration::from_secs(3);

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The task queue of an integration's activities: each worker takes as many of
/// them as the vendor has at once, and the others wait on the server, where they
/// hold nothing and do not count as attempts.
pub(crate) fn queue(task_queue: &str, integration: &str) -> String {
    format!("{task_queue}/{integration}")
}

/// Of the request of one event. Its activity decides when the attempts end, by
/// the policy, and stops them with a failure that is not retryable; what it
/// does not live to decide, the server retries within the same number.
pub(crate) fn request(policy: &RequestPolicy, queue: String) -> ActivityOptions {
    let attempts = match policy.maximum_attempts {
        attempts @ (0 | 1) => attempts,
        // Those that the vendor answers with its own delay do not count.
        attempts => attempts.saturating_add(MAX_ASKED_ATTEMPTS),
    };
    let initial = policy.initial_interval.clamp(SHORTEST, LONGEST);
    let retry = RetryPolicy::builder()
        .initial_interval(initial)
        .backoff_coefficient(coefficient(policy.backoff_coefficient))
        .maximum_interval(policy.maximum_interval.clamp(initial, LONGEST))
        .maximum_attempts(attempts)
        .non_retryable_error_types(policy.non_retryable_error_types.clone())
        .build();
    requested(attempt_timeout(policy.single_attempt_timeout), retry, queue)
}

/// Of one call for several events. Its activity says what follows for each, and
/// fails for none of them: another attempt is that of a call which no worker
/// lived to report. It counts those, and so ends them.
pub(crate) fn call(timeout: Duration, queue: String) -> ActivityOptions {
    requested(call_timeout(timeout), RetryPolicy::default(), queue)
}

/// An attempt may wait for a worker for as long as it takes: there is no limit
/// from when it is scheduled.
fn requested(timeout: Duration, retry: RetryPolicy, queue: String) -> ActivityOptions {
    ActivityOptions::with_start_to_close_timeout((timeout + HANDING).min(LONGEST))
        .heartbeat_timeout(SILENCE)
        .retry_policy(retry)
        .task_queue(queue)
        .build()
}

/// Of the validation, which sends nothing and gives the same answer each time:
/// there is another attempt only after one that a busy machine did not finish.
pub(crate) fn validation() -> LocalActivityOptions {
    LocalActivityOptions::builder()
        .start_to_close_timeout(Duration::from_secs(30))
        .retry_policy(RetryPolicy::builder().maximum_attempts(3).build())
        .build()
}

/// How long one attempt at a call may take whose longest request takes `timeout`.
pub(crate) fn call_timeout(timeout: Duration) -> Duration {
    (call_deadline(timeout) + attempt_timeout(timeout)).min(LONGEST)
}

/// After how long a call attempts no further event: those that are under way
/// then have the time of an attempt.
pub(crate) fn call_deadline(timeout: Duration) -> Duration {
    timeout.min(LONGEST) * REQUESTS
}

/// How long one attempt at an event may take whose requests take `timeout`.
pub(crate) fn attempt_timeout(timeout: Duration) -> Duration {
    (timeout.min(LONGEST) * REQUESTS + MARGIN).min(LONGEST)
}

fn coefficient(coefficient: f64) -> f64 {
    if coefficient.is_finite() {
        coefficient.clamp(1.0, 1000.0)
    } else {
        1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_policy_gives_options_that_the_server_refuses() {
        let policy = analytics_spec::Policies::new().resolve();
        for (timeout, initial, longest, coefficient) in [
            (Duration::ZERO, Duration::ZERO, Duration::ZERO, 0.0),
            (Duration::MAX, Duration::MAX, Duration::ZERO, f64::NAN),
            (SHORTEST, Duration::from_secs(9), SHORTEST, f64::INFINITY),
        ] {
            let mut policy = policy.clone();
            policy.single_attempt_timeout = timeout;
            policy.initial_interval = initial;
            policy.maximum_interval = longest;
            policy.backoff_coefficient = coefficient;
            let options = request(&policy, "q/i".to_owned());
            let retry = options.retry_policy.unwrap_or_default();
            assert!(retry.initial_interval() >= SHORTEST);
            assert!(retry.maximum_interval() >= Some(retry.initial_interval()));
            assert!(retry.backoff_coefficient() >= 1.0);
            assert!(options.close_timeouts.start_to_close() >= Some(MARGIN));
            assert!(options.close_timeouts.start_to_close() <= Some(LONGEST));
        }
    }

    #[test]
    fn one_attempt_stays_one_and_others_leave_room_for_the_vendors_delays() {
        let attempts = |maximum| {
            let mut policy = RequestPolicy::default();
            policy.maximum_attempts = maximum;
            let retry = request(&policy, "q/i".to_owned())
                .retry_policy
                .unwrap_or_default();
            retry.maximum_attempts()
        };
        assert_eq!((attempts(0), attempts(1)), (0, 1));
        assert_eq!(attempts(10), 10 + MAX_ASKED_ATTEMPTS);
    }
}
