//! What follows from the vendor's answers, and from their absence.

use std::{collections::BTreeSet, time::Duration};

use analytics_http::Failure;
use analytics_spec::{Clock as _, Error, ErrorKind, IntegrationExt as _, Kind};
use jiff::SignedDuration;
use serde_json::json;

use super::Base;
use crate::{
    conformance::{
        places::shorten,
        report::Check,
        trial::{Outcome, Run, Trial, brief, failing_from, failing_once},
        wire::{FakeClock, Reply, Sent},
    },
    server::Answer,
};

/// What no vendor says, and no message has by chance.
pub(super) const WORDS: &str = "quartz heron forbids it";

/// What something else on the way answers.
fn page(status: u16) -> Answer {
    const PAGE: &str = "<html><body>Sign in to this network</body></html>";
    Answer::text(status, PAGE).header("content-type", "text/html")
}

/// 401, 413 and redirects: final, with one request.
pub(crate) async fn permanent(run: &Run<'_>, base: &Base) {
    for nth in 0..base.sent.len() {
        let errors = &run.suite.errors;
        let redirect = |status| {
            Answer::empty(status).header("location", "https://elsewhere.example.net/taken")
        };
        for (check, kind, answer) in [
            (
                Check::Unauthorized,
                Some(ErrorKind::Unauthorized),
                errors(401, WORDS),
            ),
            (
                Check::TooLarge,
                Some(ErrorKind::TooLarge),
                errors(413, WORDS),
            ),
            (Check::Redirect, None, redirect(302)),
            (Check::Redirect, None, redirect(307)),
        ] {
            let status = answer.status;
            let plan = failing_from(nth, Reply::Answer(answer));
            let Some(trial) = run.trial_of(base.kind, plan) else {
                continue;
            };
            let outcome = trial.send(&mut base.input.clone()).await;
            let is_final = outcome.as_ref().is_err_and(|error| {
                !error.is_retryable() && kind.is_none_or(|kind| error.kind() == kind)
            });
            let expected = match kind {
                Some(kind) => format!("{status} is permanent, and {kind}"),
                None => format!("{status} is a permanent failure"),
            };
            run.expect(is_final, check, base.kind, expected, || brief(&outcome));
            sent_once(run, base, check, &trial, nth);
            if check == Check::Redirect {
                continue;
            }
            let Err(error) = &outcome else { continue };
            run.expect(
                error.to_string().contains(WORDS),
                check,
                base.kind,
                format!("the vendor's own words in the error: {WORDS:?}"),
                || error.to_string(),
            );
            run.expect(
                error.response().is_some_and(|r| r.status_code == status),
                check,
                base.kind,
                "the vendor's answer in the error",
                || format!("{:?}", error.response().map(|r| r.status_code)),
            );
        }
    }
}

/// What 4xx there are, but for those of other checks.
const REJECTED: [u16; 10] = [400, 402, 404, 405, 409, 410, 422, 425, 451, 460];

/// The statuses with which a request is refused for now, as the suite was told.
pub(super) fn retried(run: &Run<'_>, sent: &Sent) -> impl Iterator<Item = u16> {
    let others = (400..500).filter(|status| ![401, 403, 408, 413, 429].contains(status));
    others.filter(|status| run.suite.is_retried(&sent.request, *status))
}

/// Any other 4xx: final, unless the suite says that it is for now.
pub(crate) async fn rejected(run: &Run<'_>, base: &Base) {
    for (nth, sent) in base.sent.iter().enumerate() {
        let statuses: BTreeSet<_> = REJECTED.into_iter().chain(retried(run, sent)).collect();
        for status in statuses {
            if says_gone(run, base, sent).is_some_and(|gone| gone.status == status) {
                continue;
            }
            let answer = (run.suite.errors)(status, WORDS);
            let Some(trial) = run.trial_of(base.kind, failing_from(nth, Reply::Answer(answer)))
            else {
                continue;
            };
            let outcome = trial.attempt(&base.input).await;
            let error = outcome.as_ref().err();
            if run.suite.is_retried(&sent.request, status) {
                run.expect(
                    error.is_some_and(Error::is_retryable),
                    Check::Rejected,
                    base.kind,
                    format!("retryable: {status}, of which the suite says so with `retries`"),
                    || brief(&outcome),
                );
                continue;
            }
            run.expect(
                error.is_some_and(|error| !error.is_retryable()),
                Check::Rejected,
                base.kind,
                format!("{status} is a permanent failure"),
                || brief(&outcome),
            );
            if let Some(error) = error {
                run.expect(
                    error.to_string().contains(WORDS),
                    Check::Rejected,
                    base.kind,
                    format!("the vendor's own words in the error of a {status}: {WORDS:?}"),
                    || error.to_string(),
                );
            }
        }
    }
}

/// How the vendor says of a delete that nobody is there.
fn says_gone(run: &Run<'_>, base: &Base, sent: &Sent) -> Option<Answer> {
    let says = run.suite.already_gone.as_ref();
    says.filter(|_| base.kind == Kind::Delete)?(&sent.request)
}

/// A delete of somebody who is not there succeeds by the vendor's own words, and
/// by no other 404.
pub(crate) async fn gone(run: &Run<'_>, base: &Base) {
    if base.kind != Kind::Delete {
        return;
    }
    for (nth, sent) in base.sent.iter().enumerate() {
        let own = says_gone(run, base, sent);
        let foreign = [("a web page", page(404)), ("no body", Answer::empty(404))];
        for (what, answer) in foreign {
            let is_own = |own: &Answer| own.status == answer.status && own.body == answer.body;
            if own.as_ref().is_some_and(is_own) {
                continue;
            }
            let Some(trial) = run.trial_of(base.kind, failing_from(nth, Reply::Answer(answer)))
            else {
                continue;
            };
            let outcome = trial.attempt(&base.input).await;
            run.expect(
                outcome.is_err(),
                Check::AlreadyGone,
                base.kind,
                format!("a failure for a 404 with {what}, which is not the vendor's word"),
                || brief(&outcome),
            );
        }
        let Some(own) = own else { continue };
        let status = own.status;
        let Some(trial) = run.trial_of(base.kind, failing_once(nth, Reply::Answer(own))) else {
            continue;
        };
        let outcome = trial.attempt(&base.input).await;
        run.expect(
            outcome.is_ok(),
            Check::AlreadyGone,
            base.kind,
            format!("success for the {status} of `already_gone`: nobody is left to delete"),
            || brief(&outcome),
        );
    }
}

/// No other request after the `nth`, and no pause.
fn sent_once(run: &Run<'_>, base: &Base, check: Check, trial: &Trial<'_>, nth: usize) {
    let pauses = trial.clock.pauses();
    run.expect(
        trial.wire.count() == nth + 1 && pauses.is_empty(),
        check,
        base.kind,
        "no request after the one that was refused, and no pause",
        || {
            let sent = trial.wire.sent();
            let after: Vec<_> = sent.iter().skip(nth + 1).map(|s| s.line()).collect();
            format!("[{}] after it, pauses {pauses:?}", after.join(", "))
        },
    );
}

/// A 2xx whose body says failure.
pub(crate) async fn refusal(run: &Run<'_>, base: &Base) {
    let Some(refusal) = &run.suite.refusal else {
        return;
    };
    for nth in 0..base.sent.len() {
        let Some(answer) = base.sent.get(nth).and_then(|sent| refusal(&sent.request)) else {
            continue;
        };
        run.expect(
            (200..300).contains(&answer.status),
            Check::Setup,
            base.kind,
            "a 2xx from `refusal`",
            || answer.status.to_string(),
        );
        let plan = failing_from(nth, Reply::Answer(answer.clone()));
        let Some(trial) = run.trial_of(base.kind, plan) else {
            continue;
        };
        let outcome = trial.attempt(&base.input).await;
        run.expect(
            outcome.is_err(),
            Check::RefusalIn2xx,
            base.kind,
            "a failure, for the body says so",
            || brief(&outcome),
        );
        run.expect(
            trial.wire.count() == nth + 1,
            Check::RefusalIn2xx,
            base.kind,
            "no request after the one that was refused",
            || format!("{} more", trial.wire.count().saturating_sub(nth + 1)),
        );
        if let Err(error) = &outcome {
            run.expect(
                error
                    .response()
                    .is_some_and(|r| r.status_code == answer.status),
                Check::RefusalIn2xx,
                base.kind,
                "the vendor's answer in the error",
                || "none".to_owned(),
            );
        }
    }
}

/// What is 2xx and not the vendor's: a page of a proxy, the answer of a cache or
/// a health check.
pub(crate) async fn foreign(run: &Run<'_>, base: &Base) {
    for (nth, sent) in base.sent.iter().enumerate() {
        let own = (run.suite.answering())(&sent.request);
        let says_nothing = run.suite.says_nothing_to(&sent.request);
        let mut answers = Vec::new();
        let configuration = run.suite.configuration_of(base.kind);
        if !says_nothing || configuration.is_some_and(|with| !with.answers_with_pages) {
            answers.push(("a web page", page(200)));
        }
        // Where the status alone is the vendor's answer, these are too.
        if !says_nothing {
            answers.push(("no body", Answer::empty(200)));
            answers.push(("no body", Answer::empty(204)));
            answers.push(("{}", Answer::json(200, &json!({}))));
            if own.body_json().get("status").is_none() {
                let body = json!({"status": "ok"});
                answers.push((r#"{"status":"ok"}"#, Answer::json(200, &body)));
            }
        }
        for (what, answer) in answers {
            let status = answer.status;
            let Some(trial) = run.trial_of(base.kind, failing_from(nth, Reply::Answer(answer)))
            else {
                continue;
            };
            let outcome = trial.attempt(&base.input).await;
            run.expect(
                outcome.as_ref().is_err_and(Error::is_retryable),
                Check::ForeignAnswer,
                base.kind,
                format!(
                    "a retryable failure for a {status} with {what}: that is something else on \
                     the way, for the vendor answers {}",
                    shorten(&String::from_utf8_lossy(&own.body))
                ),
                || brief(&outcome),
            );
        }
    }
}

/// What a gateway answers while the vendor is away, in the vendor's form and in
/// its own: for now.
pub(crate) async fn passing(run: &Run<'_>, base: &Base) {
    for nth in 0..base.sent.len() {
        for status in [408, 500, 502, 503, 504, 520, 529] {
            for (what, answer) in [
                ("the vendor's error", (run.suite.errors)(status, WORDS)),
                ("a web page", page(status)),
            ] {
                let Some(trial) = run.trial_of(base.kind, failing_from(nth, Reply::Answer(answer)))
                else {
                    continue;
                };
                let outcome = trial.attempt(&base.input).await;
                run.expect(
                    outcome.as_ref().is_err_and(Error::is_retryable),
                    Check::ServerError,
                    base.kind,
                    format!("retryable: {status} with {what}, whatever its body is"),
                    || brief(&outcome),
                );
            }
        }
    }
}

/// 429 and 5xx: how long until the next attempt.
pub(crate) async fn waits(run: &Run<'_>, base: &Base) {
    for nth in 0..base.sent.len() {
        limited(run, base, nth).await;
        for status in [500, 503] {
            let twice = move |_: &Sent, before: usize| {
                if before == nth || before == nth + 1 {
                    Reply::status(status)
                } else {
                    Reply::Accept
                }
            };
            let Some(trial) = run.trial_of(base.kind, Box::new(twice)) else {
                continue;
            };
            let outcome = trial.send(&mut base.input.clone()).await;
            let policy = trial.subject.request_policy(&base.input);
            let pauses = trial.clock.pauses();
            // Half of the interval is the least that a policy pauses.
            let grows = pauses.len() == 2
                && pauses
                    .iter()
                    .zip(1..)
                    .all(|(p, nth)| *p >= policy.pause(nth, 0.0));
            run.expect(
                outcome.is_ok() && grows && trial.wire.count() == base.sent.len() + 2,
                Check::ServerError,
                base.kind,
                format!("{status} twice, two pauses by the policy, then delivered"),
                || {
                    let requests = trial.wire.count();
                    format!(
                        "{}, pauses {pauses:?}, {requests} requests",
                        brief(&outcome)
                    )
                },
            );
        }
    }
}

async fn limited(run: &Run<'_>, base: &Base, nth: usize) {
    let clock = FakeClock::after(Duration::ZERO);
    let date = clock
        .now()
        .saturating_add(SignedDuration::from_secs(42))
        .map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .unwrap_or_default();
    for (status, value, seconds) in [(429, "17", 17), (429, date.as_str(), 42), (503, "23", 23)] {
        let answer = (run.suite.errors)(status, WORDS).header("retry-after", value);
        let plan = failing_once(nth, Reply::Answer(answer));
        let Some(trial) = run.trial_of(base.kind, plan) else {
            continue;
        };
        let outcome = trial.send(&mut base.input.clone()).await;
        let pauses = trial.clock.pauses();
        run.expect(
            outcome.is_ok()
                && pauses == [Duration::from_secs(seconds)]
                && trial.wire.count() == base.sent.len() + 1,
            Check::RateLimited,
            base.kind,
            format!("{status} with `Retry-After: {value}`: {seconds} s later, delivered"),
            || format!("{}, pauses {pauses:?}", brief(&outcome)),
        );
    }
    let plan = failing_from(nth, Reply::Answer((run.suite.errors)(429, WORDS)));
    if let Some(trial) = run.trial_of(base.kind, plan) {
        let outcome = trial.attempt(&base.input).await;
        run.expect(
            outcome
                .as_ref()
                .is_err_and(|e| e.is_retryable() && e.kind() == ErrorKind::RateLimited),
            Check::RateLimited,
            base.kind,
            "429 is retryable, and RateLimited",
            || brief(&outcome),
        );
        one_attempt(run, base, &trial, nth, "429");
    }
}

/// No connection, a broken one, no answer in time.
pub(crate) async fn network(run: &Run<'_>, base: &Base) {
    for nth in 0..base.sent.len() {
        for (error, kind) in [
            (Failure::Connect, ErrorKind::Unavailable),
            (Failure::Interrupted, ErrorKind::Unavailable),
            (Failure::Timeout, ErrorKind::Timeout),
        ] {
            let plan = failing_once(nth, Reply::Lost(error));
            let Some(trial) = run.trial_of(base.kind, plan) else {
                continue;
            };
            let outcome = trial.send(&mut base.input.clone()).await;
            let pauses = trial.clock.pauses();
            run.expect(
                outcome.is_ok() && pauses.len() == 1,
                Check::Network,
                base.kind,
                format!("after `{error}`: one pause, then delivered"),
                || format!("{}, pauses {pauses:?}", brief(&outcome)),
            );
            let plan = failing_from(nth, Reply::Lost(error));
            let Some(trial) = run.trial_of(base.kind, plan) else {
                continue;
            };
            let outcome = trial.attempt(&base.input).await;
            run.expect(
                outcome
                    .as_ref()
                    .is_err_and(|e| e.is_retryable() && e.kind() == kind),
                Check::Network,
                base.kind,
                format!("`{error}` is retryable, and {kind}"),
                || brief(&outcome),
            );
            one_attempt(run, base, &trial, nth, &error.to_string());
        }
    }
}

/// An attempt does not retry.
fn one_attempt(run: &Run<'_>, base: &Base, trial: &Trial<'_>, nth: usize, after: &str) {
    let pauses = trial.clock.pauses();
    run.expect(
        trial.wire.count() == nth + 1 && pauses.is_empty(),
        Check::OneAttempt,
        base.kind,
        format!("one request in one attempt, after `{after}`"),
        || {
            let requests = trial.wire.count().saturating_sub(nth);
            format!("{requests} requests, pauses {pauses:?}")
        },
    );
}

/// A failure that stays ends the retries, and keeps its kind.
pub(crate) async fn ends(run: &Run<'_>, base: &Base) {
    let plan = failing_from(0, Reply::Answer((run.suite.errors)(500, WORDS)));
    let Some(trial) = run.trial_of(base.kind, plan) else {
        return;
    };
    let attempts = trial.subject.request_policy(&base.input).maximum_attempts;
    let once: Outcome = trial.attempt(&base.input).await;
    one_attempt(run, base, &trial, 0, "500");
    if attempts == 0 {
        return;
    }
    trial.wire.restart(failing_from(
        0,
        Reply::Answer((run.suite.errors)(500, WORDS)),
    ));
    let outcome = trial.send(&mut base.input.clone()).await;
    let lasting = |outcome: &Outcome| {
        outcome
            .as_ref()
            .is_err_and(|e| e.is_retryable() && e.kind() == ErrorKind::Unavailable)
    };
    run.expect(
        lasting(&once) && lasting(&outcome) && trial.wire.count() == attempts as usize,
        Check::GivesUp,
        base.kind,
        format!("Unavailable and retryable after {attempts} attempts that got a 500"),
        || format!("{} after {} requests", brief(&outcome), trial.wire.count()),
    );
}
