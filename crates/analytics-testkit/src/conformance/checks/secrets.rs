//! Credentials and events are nowhere but in requests.

use std::time::Duration;

use analytics_spec::Kind;
use serde_json::{Value, json};

use super::Base;
use crate::{
    conformance::{
        fixtures,
        places::{leaves, normal, shorten},
        report::Check,
        secrets::Needles,
        trial::{NAME, Run, accepting},
        wire::{Plan, Reply, Sent},
    },
    server::Answer,
};

/// What configurations and instances show of themselves.
pub(crate) fn shown(run: &Run<'_>, bases: &[Base]) {
    for sent in bases.iter().flat_map(|base| &base.sent) {
        run.needles.borrow_mut().learn(sent);
    }
    for configuration in &run.suite.configurations {
        if let Some(debug) = &configuration.debug {
            run.shown(None, "a configuration's Debug", &debug());
        }
        let Some(trial) = run.trial(configuration, NAME, Duration::ZERO, accepting()) else {
            continue;
        };
        let subject = &trial.subject;
        run.shown(
            None,
            "an instance's Debug",
            &format!("{subject:?} {subject:#?}"),
        );
        let configuration = Value::Object(subject.configuration()).to_string();
        run.shown(None, "`configuration`", &configuration);
    }
    for base in bases {
        let Some(trial) = run.trial_of(base.kind, accepting()) else {
            continue;
        };
        if let Ok(previews) = trial.subject.preview(&base.input) {
            let json = serde_json::to_string(&previews).unwrap_or_default();
            run.shown(Some(base.kind), "a preview", &json);
            run.shown(
                Some(base.kind),
                "a preview's Debug",
                &format!("{previews:?}"),
            );
        }
    }
}

/// A vendor that repeats all that it was told, in every kind of answer. What
/// comes of it is looked at wherever an outcome is.
pub(crate) async fn echoed(run: &Run<'_>, base: &Base, bases: &[Base]) {
    let secrets = told(run, base, bases);
    for nth in 0..base.sent.len() {
        for status in [200, 400, 401, 404, 422, 429, 500] {
            for as_json in [true, false] {
                let Some(trial) =
                    run.trial_of(base.kind, echo(run, &secrets, nth, status, as_json))
                else {
                    continue;
                };
                let _ = trial.attempt(&base.input).await;
            }
        }
    }
}

/// The credentials that a vendor is told by the configuration that delivers a kind:
/// it cannot repeat those of another one.
fn told(run: &Run<'_>, base: &Base, bases: &[Base]) -> Vec<String> {
    let configuration = |base: &Base| {
        run.suite
            .configuration_of(base.kind)
            .map(std::ptr::from_ref)
    };
    let same = |other: &&Base| configuration(other) == configuration(base);
    let sent: Vec<_> = bases
        .iter()
        .filter(same)
        .flat_map(|base| &base.sent)
        .collect();
    let is_told = |secret: &&String| {
        let needles = Needles::new([*secret]);
        sent.iter().any(|sent| needles.are_in(sent))
    };
    let secrets = run.suite.secrets.iter().flatten();
    secrets.filter(is_told).cloned().collect()
}

fn echo(run: &Run<'_>, secrets: &[String], nth: usize, status: u16, as_json: bool) -> Plan {
    let secrets = secrets.to_vec();
    let accept = run.suite.answering();
    Box::new(move |sent: &Sent, before| {
        if before < nth {
            return Reply::Accept;
        }
        let headers: Vec<_> = sent
            .request
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        let body = String::from_utf8_lossy(&sent.request.body);
        // Credentials first: messages are cut.
        let all = format!(
            "{} {} {} {body}",
            secrets.join(" "),
            headers.join(" "),
            sent.url
        );
        let mut answer = if as_json {
            let mut said = match accept(&sent.request).body_json() {
                Value::Object(map) => map,
                _ => serde_json::Map::new(),
            };
            for key in ["message", "error", "detail", "title"] {
                said.insert(key.to_owned(), Value::from(all.clone()));
            }
            said.insert("errors".to_owned(), json!([{"message": all.clone()}]));
            said.insert(format!("about {}", secrets.join(" ")), sent.body());
            said.insert("headers".to_owned(), json!(headers));
            Answer::json(status, &Value::Object(said))
        } else {
            Answer::text(status, all)
        };
        for (index, value) in secrets.iter().chain(&headers).enumerate() {
            answer = answer.header(format!("x-echo-{index}"), value);
        }
        Reply::Answer(answer)
    })
}

/// Names of fields whose values say who somebody is.
const PERSONAL: [&str; 4] = ["userid", "anonymousid", "email", "previoususerid"];

/// Nothing of credentials and people in what was traced.
pub(crate) fn traces(run: &Run<'_>, lines: &[String]) {
    let mut personal: Vec<String> = Kind::ALL
        .into_iter()
        .map(|kind| run.suite.fixture_of(kind))
        .filter_map(|input| serde_json::to_value(input).ok())
        .flat_map(|input| leaves(&input))
        .filter(|leaf| PERSONAL.contains(&normal(&leaf.key).as_str()))
        .filter_map(|leaf| leaf.value.as_str().map(str::to_owned))
        .collect();
    personal.push(fixtures::EMAIL.to_owned());
    for line in lines {
        if let Some(form) = run.needles.borrow().found_in(line) {
            let what = line.split(' ').next().unwrap_or_default();
            run.fail(
                Check::Traces,
                None,
                "no credential in a trace",
                format!("{form} in a line of `{what}`"),
            );
        } else if personal.iter().any(|value| line.contains(value.as_str())) {
            run.fail(
                Check::Traces,
                None,
                "nothing of an event but its message id in a trace",
                shorten(line),
            );
        }
    }
}
