//! What is sent, and that it is the same each time.

use std::{collections::BTreeSet, time::Duration};

use analytics_spec::{AnyInput, Kind, Secret, Value, config::Instance};
use jiff::SignedDuration;

use super::{Base, also::Other};
use crate::conformance::{
    places::{Difference, differences, leaves, listed},
    report::Check,
    secrets::Needles,
    snapshot,
    trial::{Run, accepting, brief, documents, failing_once},
    wire::{Reply, Sent},
};

/// Longer than any cache of an instance lives.
const LATER: Duration = Duration::from_secs(26 * 60 * 60);

/// What each kind causes when all is well; a kind that fails here is not
/// checked further.
pub(crate) async fn baselines(run: &Run<'_>) -> Vec<Base> {
    let mut bases = Vec::new();
    for kind in run.suite.kinds().iter() {
        let Some(trial) = run.trial_of(kind, accepting()) else {
            continue;
        };
        let mut input = run.suite.fixture_of(kind);
        let outcome = trial.send(&mut input).await;
        let sent = trial.wire.sent();
        let delivered = run.expect(
            outcome.is_ok(),
            Check::Delivers,
            kind,
            "the fixture is delivered",
            || brief(&outcome),
        );
        if run.suite.wired {
            // What failed says why by itself.
            let asked = !sent.is_empty() || !delivered;
            run.expect(asked, Check::Delivers, kind, "a request", || {
                "none".to_owned()
            });
            let pauses = trial.clock.pauses();
            run.expect(pauses.is_empty(), Check::Delivers, kind, "no pause", || {
                format!("{pauses:?}")
            });
            let kept = outcome
                .as_ref()
                .is_ok_and(|delivery| delivery.response.is_some());
            run.expect(
                kept || !delivered || !asked,
                Check::Delivers,
                kind,
                "the vendor's answer in the delivery",
                || "none".to_owned(),
            );
            if sent.is_empty() {
                continue;
            }
        }
        if delivered {
            let documents = documents(&sent, &run.suite.volatile);
            bases.push(Base {
                kind,
                input,
                sent,
                documents,
            });
        }
    }
    bases
}

pub(crate) fn requests(run: &Run<'_>, bases: &[Base], others: &[Other<'_>]) {
    let all = bases.iter().chain(others.iter().map(|other| &other.base));
    for base in all.clone() {
        sound(run, base.kind, &base.sent);
    }
    let sent: Vec<_> = all.flat_map(|base| &base.sent).collect();
    credentials_in_urls(run, &sent);
    // What is not delivered yet may be what they are for.
    if bases.len() == run.suite.kinds().iter().count() {
        used_credentials(run, &sent);
    }
}

/// Each of a kind's requests is one that may be sent.
fn sound(run: &Run<'_>, kind: Kind, sent: &[Sent]) {
    for sent in sent {
        let line = sent.line();
        let wrong = |holds: bool, expected: &str, seen: &str| {
            let seen = format!("{seen} in {line}");
            run.expect(holds, Check::Requests, kind, expected, || seen);
        };
        let authority = sent.url.split('/').nth(2).unwrap_or_default();
        wrong(sent.url.starts_with("https://"), "https", "another scheme");
        wrong(
            !authority.contains('@'),
            "no credentials before the host",
            "some",
        );
        wrong(
            sent.request
                .header_value("user-agent")
                .is_some_and(|v| !v.is_empty()),
            "a user agent",
            "none",
        );
        let found = run.needles.borrow().found_in(&sent.url);
        run.expect(
            found.is_none() || run.suite.credentials_in_url,
            Check::Secrets,
            kind,
            "no credential in a URL, which proxies and logs keep: put it in a header, or say \
             `credentials_in_url()` in the test if the vendor documents no other way",
            || {
                let place = sent.url.split('?').next().unwrap_or_default();
                let is_query = run.needles.borrow().found_in(place).is_none();
                let place = if is_query { "the query" } else { "the path" };
                format!("{} in {place}", found.unwrap_or_default())
            },
        );
        if let Some(problem) = &sent.unreadable {
            wrong(false, "a body that is what the headers say", problem);
        }
        let body = String::from_utf8_lossy(&sent.request.body);
        let headers = sent.request.headers.values();
        let mut all = headers.map(|v| String::from_utf8_lossy(v.as_bytes()));
        wrong(
            !sent.url.contains(Secret::REDACTED)
                && !body.contains(Secret::REDACTED)
                && !all.any(|value| value.contains(Secret::REDACTED)),
            "nothing redacted",
            "something redacted",
        );
        for (name, value) in &sent.request.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            let is_secret = run.needles.borrow().is_in_header(&value);
            run.expect(
                !is_secret || sent.sensitive.contains(name),
                Check::Secrets,
                kind,
                "headers with credentials are marked as sensitive",
                || format!("`{name}` is not"),
            );
        }
    }
}

/// What was said of URLs holds.
fn credentials_in_urls(run: &Run<'_>, sent: &[&Sent]) {
    let needles = run.needles.borrow();
    run.expect(
        !run.suite.credentials_in_url
            || sent
                .iter()
                .any(|sent| needles.found_in(&sent.url).is_some()),
        Check::Setup,
        None,
        "a credential in some URL, as `credentials_in_url` says",
        || "in none: take it away".to_owned(),
    );
}

/// A credential that authenticates nothing is missing where it belongs.
fn used_credentials(run: &Run<'_>, sent: &[&Sent]) {
    let is_in_some = |secret| {
        let needles = Needles::new([secret]);
        sent.iter().any(|sent| needles.are_in(sent))
    };
    for (index, secret) in run.suite.secrets.iter().flatten().enumerate() {
        run.expect(
            is_in_some(secret),
            Check::Requests,
            None,
            format!("the {}. credential in some request", index + 1),
            || "in none".to_owned(),
        );
    }
    for (index, secret) in run.suite.signing.iter().enumerate() {
        run.expect(
            !is_in_some(secret),
            Check::Requests,
            None,
            format!("the {}. credential that signs, in no request", index + 1),
            || "in one".to_owned(),
        );
    }
}

pub(crate) async fn reviewed(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        snapshot::names(run, base.kind, &base.input, &base.documents);
        snapshot::check(run, base.kind, &base.input, &base.documents).await;
    }
    snapshot::no_others(run);
    snapshot::meanings(run, bases);
}

/// A screen that is sent as a page is one, to whoever looks at the vendor's.
pub(crate) async fn screens(run: &Run<'_>, bases: &[Base]) {
    let of = |kind| bases.iter().find(|base| base.kind == kind);
    let (Some(page), Some(_)) = (of(Kind::Page), of(Kind::Screen)) else {
        return;
    };
    let as_screen = || {
        let mut json = serde_json::to_value(&page.input).ok()?;
        let fields = json.as_object_mut()?;
        let event = fields.remove(Kind::Page.as_str())?;
        fields.insert(Kind::Screen.as_str().to_owned(), event);
        AnyInput::from_value(json).ok()
    };
    let (Some(screen), Some(trial)) = (as_screen(), run.trial_of(Kind::Screen, accepting())) else {
        return;
    };
    let _ = trial.attempt(&screen).await;
    run.expect(
        (trial.documents() == page.documents) == run.suite.screens_are_pages,
        Check::Screens,
        Kind::Screen,
        "another request than for a page of the same name, unless the test says \
         `screens_are_pages()`",
        || match run.suite.screens_are_pages {
            true => "another one: take `screens_are_pages` away".to_owned(),
            false => "the same one".to_owned(),
        },
    );
}

/// What an entry says that has no business to say it.
const INTRUDER: &str = "intruder-e2f0";

/// Entries under every name that the fixture's requests have: what stood in the requests before still does.
pub(crate) async fn reserved(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        let names: BTreeSet<String> = base
            .documents
            .iter()
            .filter_map(|document| document.get("body"))
            .flat_map(leaves)
            .flat_map(|leaf| {
                let keys = leaf
                    .pointer
                    .split('/')
                    .filter(|key| key.parse::<usize>().is_err());
                keys.map(|key| key.replace("~1", "/").replace("~0", "~"))
                    .collect::<Vec<_>>()
            })
            .filter(|name| !name.is_empty())
            .collect();
        let Some(trial) = run.trial_of(base.kind, accepting()) else {
            continue;
        };
        let Ok(json) = serde_json::to_value(&base.input) else {
            continue;
        };
        let traits = format!("/{}/traits", base.kind);
        let properties = format!("/{}/properties", base.kind);
        let context = [
            "",
            "/app",
            "/device",
            "/cloud",
            "/subscription",
            "/os",
            "/location",
        ]
        .map(|object| format!("/context{object}"));
        for dictionary in [traits, properties].iter().chain(&context) {
            let place = dictionary.trim_start_matches('/').replace('/', ".");
            let with = |names: &[&String]| {
                let mut json = json.clone();
                let Some(Value::Object(map)) = json.pointer_mut(dictionary) else {
                    return None;
                };
                for name in names {
                    map.entry(*name).or_insert_with(|| Value::from(INTRUDER));
                }
                let input = AnyInput::from_value(json).ok()?;
                trial.accepts(&input).then_some(input)
            };
            let all: Vec<_> = names.iter().collect();
            let mut inputs = vec![(format!("names of the request in {place}"), with(&all))];
            if inputs.iter().any(|(_, input)| input.is_none()) {
                // Validation refuses some of them: the others, one at a time.
                inputs = names
                    .iter()
                    .map(|name| (format!("`{name}` in {place}"), with(&[name])))
                    .collect();
            }
            for (what, input) in inputs {
                let Some(input) = input else { continue };
                trial.wire.restart(accepting());
                let _ = trial.attempt(&input).await;
                intruded(run, base, &what, &trial.wire.sent());
            }
        }
    }
}

fn intruded(run: &Run<'_>, base: &Base, what: &str, sent: &[Sent]) {
    let expected = format!("{what} replace nothing there");
    if let Some(problem) = sent.iter().find_map(|sent| sent.unreadable.clone()) {
        run.fail(Check::ReservedNames, base.kind, expected, problem);
        return;
    }
    let now = documents(sent, &run.suite.volatile);
    let replaced: Vec<_> = differences(&Value::from(base.documents.clone()), &Value::from(now))
        .into_iter()
        .filter(|difference| difference.before.is_some())
        .collect();
    run.expect(
        replaced.is_empty(),
        Check::ReservedNames,
        base.kind,
        expected,
        || listed(&replaced),
    );
}

/// Whether requests depend on the message id and on the timestamp.
pub(crate) async fn identity(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        let mut other_id = base.input.clone();
        other_id.context.message_id = Some("019c9d2a-0000-7abc-8def-123456789abc".to_owned());
        let mut other_time = base.input.clone();
        other_time.context.timestamp = other_time
            .context
            .timestamp
            .and_then(|t| t.saturating_sub(SignedDuration::from_hours(1)).ok());
        for (check, what, changed, declared) in [
            (
                Check::MessageId,
                "message id",
                other_id,
                run.suite.message_id_in,
            ),
            (
                Check::Timestamp,
                "timestamp",
                other_time,
                run.suite.timestamp_in,
            ),
        ] {
            let Some(trial) = run.trial_of(base.kind, accepting()) else {
                continue;
            };
            let outcome = trial.attempt(&changed).await;
            let depends = trial.documents() != base.documents;
            let expected = declared.is_none_or(|kinds| kinds.contains(base.kind));
            run.expect(
                outcome.is_ok() && depends == expected,
                check,
                base.kind,
                if expected {
                    format!("another request for another {what}")
                } else {
                    format!("the same request for another {what}")
                },
                || match &outcome {
                    Ok(_) if depends => "another one".to_owned(),
                    Ok(_) => "the same one".to_owned(),
                    failed => brief(failed),
                },
            );
        }
    }
}

/// The same input again: at the same instance, and later at another one.
pub(crate) async fn replayed(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        let Some(configuration) = run.suite.configuration_of(base.kind) else {
            continue;
        };
        let other = Instance::new("another-instance");
        let (Some(one), Some(other)) = (
            run.trial_of(base.kind, accepting()),
            run.trial_as(configuration, other, LATER, accepting()),
        ) else {
            continue;
        };
        let _ = one.send(&mut base.input.clone()).await;
        one.wire.restart(accepting());
        let _ = one.send(&mut base.input.clone()).await;
        let _ = other.send(&mut base.input.clone()).await;
        for (where_, seen) in [
            ("at the same instance", one.documents()),
            ("a day later at another instance", other.documents()),
        ] {
            let found = differences(&Value::from(base.documents.clone()), &Value::from(seen));
            run.expect(
                found.is_empty(),
                Check::StableReplay,
                base.kind,
                format!("the same requests for the same input {where_}"),
                || listed(&found),
            );
        }
    }
}

/// After a failure of each request in turn: the same request again, and none
/// that had been accepted.
pub(crate) async fn retried(run: &Run<'_>, bases: &[Base]) {
    let mut varied = BTreeSet::new();
    for base in bases {
        let mut fresh = base.input.clone();
        fresh.context.message_id = None;
        fresh.context.timestamp = None;
        for input in [&base.input, &fresh] {
            for nth in 0..base.sent.len() {
                varied.extend(retry(run, base, input, nth).await);
            }
        }
    }
    for key in &run.suite.volatile {
        run.expect(
            bases.is_empty() || varied.contains(key),
            Check::Setup,
            None,
            format!("{key:?} is volatile: it differs between attempts"),
            || "it does not".to_owned(),
        );
    }
}

/// The keys that differed between the attempts.
async fn retry(run: &Run<'_>, base: &Base, input: &AnyInput, nth: usize) -> BTreeSet<String> {
    let mut varied = BTreeSet::new();
    let plan = failing_once(nth, Reply::status(503));
    let Some(trial) = run.trial_of(base.kind, plan) else {
        return varied;
    };
    let outcome = trial.send(&mut input.clone()).await;
    let sent = trial.wire.sent();
    if outcome.as_ref().is_err_and(|error| !error.is_retryable()) {
        // The reading gives it up: that is for the checks of answers to say.
        return varied;
    }
    if !run.expect(
        outcome.is_ok(),
        Check::Resumes,
        base.kind,
        "delivered in the second attempt, after a 503",
        || brief(&outcome),
    ) {
        return varied;
    }
    let lines: Vec<_> = sent.iter().map(Sent::line).collect();
    let (Some(first), Some(second)) = (sent.get(nth), sent.get(nth + 1)) else {
        run.fail(
            Check::Resumes,
            base.kind,
            "a second attempt",
            lines.join("; "),
        );
        return varied;
    };
    let resumed = run.expect(
        sent.len() == base.sent.len() + 1 && first.line() == second.line(),
        Check::Resumes,
        base.kind,
        format!("request {} again, then those after it", nth + 1),
        || lines.join("; "),
    );
    if !resumed {
        return varied;
    }
    let found: Vec<Difference> = differences(
        &first.document(&run.suite.volatile),
        &second.document(&run.suite.volatile),
    );
    run.expect(
        found.is_empty(),
        Check::StableRetries,
        base.kind,
        "the same request in the second attempt",
        || listed(&found),
    );
    for (name, value) in &first.request.headers {
        if second.request.headers.get(name) != Some(value) {
            varied.insert(name.as_str().to_owned());
        }
    }
    let (first, second) = (leaves(&first.body()), leaves(&second.body()));
    for (first, second) in first.iter().zip(&second) {
        if first.value != second.value {
            varied.insert(first.key.clone());
        }
    }
    varied
}
