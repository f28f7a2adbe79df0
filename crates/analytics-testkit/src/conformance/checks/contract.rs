//! What every integration owes, whatever it maps.

use std::{sync::Arc, time::Duration};

use analytics_http::redact::Redactor;
use analytics_spec::{
    ActivityPolicy, AnyInput, ErrorKind, IntegrationExt as _, Kind, Policies, Secret, Value,
    config::Instance, integration::Support,
};
use tokio::task::JoinSet;

use super::Base;
use crate::{
    conformance::{
        configuration::Configuration,
        places::{differences, listed},
        report::Check,
        trial::{NAME, Run, accepting, brief, failing_from},
        wire::Reply,
        with,
    },
    server::Answer,
};

pub(crate) async fn builds(run: &Run<'_>) {
    for configuration in &run.suite.configurations {
        let Some(trial) = run.trial(configuration, NAME, Duration::ZERO, accepting()) else {
            continue;
        };
        let subject = &trial.subject;
        let label = configuration.label();
        let expected = format!("the {label} makes {:?} of {NAME:?}", run.suite.vendor);
        let seen = || format!("{:?} of {:?}", subject.vendor(), subject.name());
        run.expect(
            subject.vendor() == run.suite.vendor && subject.name() == NAME,
            Check::Builds,
            None,
            expected,
            seen,
        );
        run.expect(
            !subject.supports().is_empty(),
            Check::Builds,
            None,
            format!("the {label} supports something"),
            || "no kind".to_owned(),
        );
        for (what, done) in [
            ("init", subject.init().await),
            ("close", subject.close().await),
        ] {
            if let Err(error) = done {
                run.fail(
                    Check::Builds,
                    None,
                    format!("{what} succeeds"),
                    error.to_string(),
                );
            }
        }
        run.expect(
            trial.wire.count() == 0,
            Check::Builds,
            None,
            "no request before the first event and after the last",
            || format!("{} requests", trial.wire.count()),
        );
        let batching = subject.batching();
        run.expect(
            batching.max_items > 0 && batching.max_bytes > 0 && batching.max_in_flight > 0,
            Check::Batching,
            None,
            "at least one event, one byte, one delivery",
            || format!("{batching:?}"),
        );
    }
    let has_secrets = run.suite.credentials().next().is_some();
    if let Some(blank) = &run.suite.blank
        && has_secrets
    {
        let built = blank();
        run.expect(
            built == Err(ErrorKind::Configuration),
            Check::MissingCredentials,
            None,
            "a Configuration error for a configuration without any key",
            || format!("{built:?}"),
        );
    }
}

pub(crate) fn support(run: &Run<'_>) {
    let Some(support) = run.suite.support else {
        return;
    };
    for kind in Kind::ALL {
        let declare = |declares: bool| {
            let mut all = run.suite.configurations.iter();
            all.find(|c| c.supports().contains(kind) == declares)
                .map(Configuration::label)
        };
        let (with, without) = (declare(true), declare(false));
        let seen = match (support(kind), with, without) {
            (Support::Yes, _, Some(label)) => format!("the {label} does not declare it"),
            (Support::No, Some(label), _) => format!("the {label} declares it"),
            (Support::When(_), None, _) => "no configuration declares it".to_owned(),
            (Support::When(_), _, None) => "every configuration declares it".to_owned(),
            _ => continue,
        };
        let expected = match support(kind) {
            Support::Yes => "declared by every instance".to_owned(),
            Support::No => "declared by no instance".to_owned(),
            Support::When(condition) => {
                format!("declared if {condition}, and not declared by another configuration")
            }
        };
        run.fail(Check::Support, kind, expected, seen);
    }
}

pub(crate) async fn unsupported(run: &Run<'_>) {
    for configuration in &run.suite.configurations {
        for kind in Kind::ALL {
            if configuration.supports().contains(kind) {
                continue;
            }
            let Some(trial) = run.trial(configuration, NAME, Duration::ZERO, accepting()) else {
                return;
            };
            let mut input = run.suite.fixture_of(kind);
            let mut outcomes = vec![("sent", trial.send(&mut input).await)];
            if run.suite.wired {
                // Whoever asks without a check first must not get through.
                outcomes.push(("delivered", trial.attempt(&input).await));
            }
            for (what, outcome) in &outcomes {
                let refused = outcome
                    .as_ref()
                    .is_err_and(|e| e.kind() == ErrorKind::Unsupported && !e.is_retryable());
                run.expect(
                    refused,
                    Check::Unsupported,
                    kind,
                    format!("Unsupported, when it is {what}"),
                    || brief(outcome),
                );
            }
            run.expect(
                trial.wire.count() == 0,
                Check::Unsupported,
                kind,
                "no request for a kind that is not declared",
                || format!("{} requests", trial.wire.count()),
            );
        }
    }
}

pub(crate) async fn policies(run: &Run<'_>, bases: &[Base]) {
    let Some(base) = bases.first() else { return };
    let Some(trial) = run.trial_of(base.kind, accepting()) else {
        return;
    };
    let policies = trial.subject.policies();
    if let Err(error) = Instance::new(NAME).policies(policies.clone()).check() {
        run.fail(
            Check::Policies,
            None,
            "policies that can be obeyed",
            error.to_string(),
        );
    }
    let policy = policies.resolve();
    run.expect(
        !policy.single_attempt_timeout.is_zero()
            && !policy.initial_interval.is_zero()
            && policy.maximum_interval >= policy.initial_interval
            && policy.backoff_coefficient >= 1.0
            && policy.maximum_attempts != 1,
        Check::Policies,
        None,
        "time-outs and pauses longer than zero, and more than one attempt",
        || format!("{policy:?}"),
    );
    let timeout = |seconds| {
        Policies::new()
            .request(ActivityPolicy::new().single_attempt_timeout(Duration::from_secs(seconds)))
    };
    let mut instance = Instance::new(NAME).policies(timeout(7));
    let Some(configuration) = run.suite.configuration_of(base.kind) else {
        return;
    };
    for (allow, expected, seconds) in [
        (false, "the instance's time-out of 7 s for the request", 7),
        (
            true,
            "the input's time-out of 3 s for the request, where it is allowed",
            3,
        ),
    ] {
        instance = instance.allow_policies_override(allow);
        let trial = run.trial_as(configuration, instance.clone(), Duration::ZERO, accepting());
        let Some(trial) = trial else { return };
        let mut input = base.input.clone();
        if allow {
            input = input.policies(timeout(3));
        }
        let resolved = trial.subject.request_policy(&input).single_attempt_timeout;
        run.expect(
            resolved == Duration::from_secs(seconds),
            Check::Policies,
            None,
            expected,
            || format!("{resolved:?}"),
        );
        let outcome = trial.send(&mut input).await;
        for sent in trial.wire.sent() {
            run.expect(
                sent.timeout == Duration::from_secs(seconds),
                Check::Policies,
                None,
                expected,
                || format!("{:?}; {}", sent.timeout, brief(&outcome)),
            );
        }
        if !allow {
            let mut input = base.input.clone().policies(timeout(3));
            let outcome = trial.send(&mut input).await;
            run.expect(
                outcome
                    .as_ref()
                    .is_err_and(|e| e.kind() == ErrorKind::Validation),
                Check::Policies,
                None,
                "a validation error for an input with policies, where they are not allowed",
                || brief(&outcome),
            );
        }
    }
}

pub(crate) fn validation(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        let Some(trial) = run.trial_of(base.kind, accepting()) else {
            continue;
        };
        let answers: Vec<_> = (0..3)
            .map(|_| trial.subject.validate(&base.input))
            .collect();
        run.expect(
            answers.windows(2).all(|pair| pair.first() == pair.last()),
            Check::Validation,
            base.kind,
            "the same answer for the same input",
            || format!("{answers:?}"),
        );
        if run.suite.wired {
            match trial.subject.preview(&base.input) {
                Ok(previews) => compare_previews(run, base, &previews),
                Err(error) => {
                    run.fail(Check::Preview, base.kind, "a preview", error.to_string());
                }
            }
        }
        run.expect(
            trial.wire.count() == 0,
            if run.suite.wired {
                Check::Preview
            } else {
                Check::Validation
            },
            base.kind,
            "no request to validate or preview",
            || format!("{} requests", trial.wire.count()),
        );
    }
}

/// What is mapped when it is accepted, is delivered as it is otherwise.
pub(crate) async fn prepared(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        let Some(trial) = run.trial_of(base.kind, accepting()) else {
            continue;
        };
        let parcel = match trial.subject.prepare_own(&base.input) {
            Ok(Some(parcel)) => parcel,
            Ok(None) => continue,
            Err(error) => {
                run.fail(
                    Check::Prepared,
                    base.kind,
                    "what validation accepts can be prepared",
                    error.to_string(),
                );
                continue;
            }
        };
        let outcomes = trial.prepared(&base.input, &parcel).await;
        let sent = trial.documents();
        let found = differences(&Value::from(base.documents.clone()), &Value::from(sent));
        run.expect(
            found.is_empty() && outcomes.iter().all(Result::is_ok) && outcomes.len() == 1,
            Check::Prepared,
            base.kind,
            "the requests of an event that was not prepared",
            || match outcomes.first() {
                Some(Ok(_)) => listed(&found),
                Some(failed) => brief(failed),
                None => "no outcome".to_owned(),
            },
        );
    }
}

fn compare_previews(run: &Run<'_>, base: &Base, previews: &[analytics_spec::integration::Preview]) {
    let seen: Vec<_> = previews.iter().map(|p| p.method.clone()).collect();
    let real: Vec<_> = base.sent.iter().map(|s| s.request.method.clone()).collect();
    run.expect(
        seen == real && !real.is_empty(),
        Check::Preview,
        base.kind,
        format!("a preview of each request: {}", real.join(", ")),
        || seen.join(", "),
    );
    // Where the URL has a credential in it, the preview does not.
    let secrets: Vec<_> = run.suite.credentials().map(Secret::new).collect();
    let redactor = Redactor::new(&secrets);
    for (preview, sent) in previews.iter().zip(&base.sent) {
        let pointers = |value: &Value| -> Vec<String> {
            let leaves = crate::conformance::places::leaves(value);
            leaves.into_iter().map(|leaf| leaf.pointer).collect()
        };
        let path = |url: &str| url.split('?').next().map(str::to_owned);
        let mut url = sent.url.clone();
        redactor.text(&mut url);
        let media = sent.request.media_type();
        let body = match &preview.body {
            Value::String(text) => crate::conformance::places::readable(text, media.as_deref()),
            body => body.clone(),
        };
        run.expect(
            path(&preview.url) == path(&url) && pointers(&body) == pointers(&sent.body()),
            Check::Preview,
            base.kind,
            format!("the same URL and body as in the request {}", sent.line()),
            || format!("{} {}", preview.method, preview.url),
        );
    }
}

pub(crate) async fn invalid(run: &Run<'_>) {
    let too_long = "m".repeat(analytics_spec::context::MAX_MESSAGE_ID_CHARS + 1);
    let mut inputs: Vec<_> = run.suite.invalid.clone();
    for input in &run.suite.invalid {
        refused_by_the_vendor(run, input);
    }
    for kind in run.suite.kinds().iter() {
        let mut input = run.suite.fixture_of(kind);
        input.context.message_id = Some(too_long.clone());
        inputs.push(input);
        let pointer = format!("/{kind}/user_id");
        run.expect(
            with(&run.suite.fixture_of(kind), &pointer, Value::from("  ")).is_none(),
            Check::Invalid,
            kind,
            "a blank user_id is refused",
            || "accepted".to_owned(),
        );
    }
    for mut input in inputs {
        let kind = input.kind();
        let Some(trial) = run.trial_of(kind, accepting()) else {
            continue;
        };
        let outcome = trial.send(&mut input).await;
        run.expect(
            outcome.as_ref().is_err_and(|error| {
                error.kind() == ErrorKind::Validation
                    && !error.is_retryable()
                    && error.violations().is_some()
            }),
            Check::Invalid,
            kind,
            "a validation error with its violations",
            || brief(&outcome),
        );
        run.expect(
            trial.wire.count() == 0,
            Check::Invalid,
            kind,
            "no request for an invalid input",
            || format!("{} requests", trial.wire.count()),
        );
    }
}

/// What is given with `invalid` is refused by the vendor's own rules: what the
/// specification refuses says nothing of them.
fn refused_by_the_vendor(run: &Run<'_>, input: &AnyInput) {
    let kind = input.kind();
    run.expect(
        run.suite.kinds().contains(kind),
        Check::Setup,
        kind,
        "`invalid` has events of kinds that some configuration delivers",
        || "none delivers this kind".to_owned(),
    );
    if let Err(error) = input.validate() {
        run.fail(
            Check::Setup,
            kind,
            "`invalid` has events that only the vendor's own rules refuse",
            format!("one that is none: {error}"),
        );
    }
}

pub(crate) async fn isolation(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        let limited = Answer::empty(429).header("retry-after", "120");
        let plan = failing_from(0, Reply::Answer(limited));
        let (Some(one), Some(other)) = (
            run.trial_of(base.kind, plan),
            run.trial_of(base.kind, accepting()),
        ) else {
            continue;
        };
        let _ = one.attempt(&base.input).await;
        let before = one.wire.count();
        let outcome = other.send(&mut base.input.clone()).await;
        run.expect(
            outcome.is_ok()
                && other.clock.pauses().is_empty()
                && other.documents() == base.documents
                && one.wire.count() == before,
            Check::Isolation,
            base.kind,
            "an instance that delivers while another one has to wait",
            || {
                format!(
                    "{}; {} requests; pauses {:?}",
                    brief(&outcome),
                    other.wire.count(),
                    other.clock.pauses()
                )
            },
        );
    }
}

/// More than one machine would ever have under way for one vendor.
const MOST_IN_FLIGHT: usize = 64;

pub(crate) async fn in_flight(run: &Run<'_>, bases: &[Base]) {
    let Some(base) = bases.first() else { return };
    let Some(trial) = run.trial_of(base.kind, accepting()) else {
        return;
    };
    let allowed = trial.subject.batching().max_in_flight;
    if allowed > MOST_IN_FLIGHT {
        return;
    }
    let mut tasks = JoinSet::new();
    for _ in 0..allowed * 2 + 2 {
        let (subject, clock) = (Arc::clone(&trial.subject), Arc::clone(&trial.clock));
        let mut input = base.input.clone();
        tasks.spawn(async move { subject.send_with(clock.as_ref(), &mut input).await });
    }
    let mut delivered = true;
    while let Some(ended) = tasks.join_next().await {
        delivered &= matches!(ended, Ok(Ok(_)));
    }
    run.expect(
        delivered && trial.wire.peak() <= allowed,
        Check::InFlight,
        None,
        format!("at most {allowed} requests under way, and all delivered"),
        || {
            format!(
                "{} under way; all delivered: {delivered}",
                trial.wire.peak()
            )
        },
    );
}
