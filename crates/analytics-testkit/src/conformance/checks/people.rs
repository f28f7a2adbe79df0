//! Whom a request is about.

use std::collections::BTreeMap;

use analytics_spec::{AnyInput, Kind, Value};

use super::Base;
use crate::conformance::{
    fixtures,
    places::{leaves, text},
    report::Check,
    trial::{Run, accepting, brief},
    with,
};

pub(crate) async fn all(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        told_apart(run, base).await;
        anonymous(run, base).await;
        long(run, base).await;
        if base.kind == Kind::Delete && !run.suite.delete_has_traits {
            says_little(run, base);
        }
        ids_of_their_own(run, base);
    }
}

/// The same event of somebody else: each of its people changed, and all of them.
async fn told_apart(run: &Run<'_>, base: &Base) {
    compare(
        run,
        base,
        fixtures::of_another_person(&base.input),
        "another request for another person",
    )
    .await;
    // Two people are one from now on: each of them is said.
    let apart: &[&[&str]] = match base.kind {
        // Some vendors know a group by its name.
        Kind::Group => &[&["user_id", "anonymous_id"], &["group_id", "traits/name"]],
        Kind::Alias => &[&["user_id"], &["previous_user_id"]],
        _ => &[],
    };
    for ids in apart {
        let changed = ids.iter().try_fold(base.input.clone(), |input, id| {
            renamed(&input, base.kind, id)
        });
        let expected = format!("another request for another {}", ids.join(" and "));
        compare(run, base, changed, &expected).await;
    }
}

/// The input with another id in one place, if there is one.
fn renamed(input: &AnyInput, kind: Kind, id: &str) -> Option<AnyInput> {
    let pointer = format!("/{kind}/{id}");
    let json = serde_json::to_value(input).ok()?;
    match json.pointer(&pointer).and_then(Value::as_str) {
        Some(text) => with(input, &pointer, Value::from(format!("another-{text}"))),
        None => Some(input.clone()),
    }
}

async fn compare(run: &Run<'_>, base: &Base, other: Option<AnyInput>, expected: &str) {
    let Some(other) = other else {
        return;
    };
    let Some(trial) = run.trial_of(base.kind, accepting()) else {
        return;
    };
    let outcome = trial.attempt(&other).await;
    run.expect(
        outcome.is_ok() && trial.documents() != base.documents,
        Check::Person,
        base.kind,
        expected,
        || match &outcome {
            Ok(_) => "the same one".to_owned(),
            failed => brief(failed),
        },
    );
}

/// What is delivered of two inputs that validation accepts is not the same.
async fn differ(run: &Run<'_>, base: &Base, inputs: [AnyInput; 2]) -> Option<bool> {
    let mut documents = Vec::new();
    for input in inputs {
        let trial = run.trial_of(base.kind, accepting())?;
        if !trial.accepts(&input) {
            return None;
        }
        let _ = trial.attempt(&input).await;
        documents.push(trial.documents());
    }
    Some(documents.first() != documents.last())
}

/// Visitors who have not said who they are: an anonymous id, and nothing else by
/// which a vendor could know them.
async fn anonymous(run: &Run<'_>, base: &Base) {
    let visitor = |id: &str| {
        let mut json = serde_json::to_value(&base.input).ok()?;
        let event = json.get_mut(base.kind.as_str())?.as_object_mut()?;
        event.remove("user_id");
        *event.get_mut("anonymous_id")? = Value::from(id);
        for dictionary in ["traits", "properties"] {
            if let Some(Value::Object(entries)) = event.get_mut(dictionary) {
                entries.retain(|_, value| !text(value).contains('@'));
            }
        }
        AnyInput::from_value(json).ok()
    };
    let (Some(one), Some(other)) = (visitor("anon-7d02aa"), visitor("anon-c41f9e")) else {
        return;
    };
    let Some(differ) = differ(run, base, [one, other]).await else {
        return;
    };
    run.expect(
        differ,
        Check::Person,
        base.kind,
        "another request for another anonymous_id where there is no user_id: send it as the id of \
         the person, or refuse such an event in `validate`",
        || "the same one: all visitors are one person".to_owned(),
    );
}

/// As long as an id may be.
const LONGEST: usize = 255;

/// Ids and names that differ where they end.
async fn long(run: &Run<'_>, base: &Base) {
    let ids = ["user_id", "anonymous_id", "group_id", "previous_user_id"];
    let names = ["event", "name"];
    let names = names.into_iter().filter(|_| !run.suite.cuts_names);
    for key in ids.into_iter().chain(names) {
        let pointer = format!("/{}/{key}", base.kind);
        let ending = |end: &str, chars: usize| {
            let text = "n".repeat(chars - end.len()) + end;
            with(&base.input, &pointer, Value::from(text))
        };
        let pair = |chars| Some([ending("x", chars)?, ending("y", chars)?]);
        let (Some(short), Some(long)) = (pair(8), pair(LONGEST)) else {
            continue;
        };
        // What is not sent at all is not cut either.
        if differ(run, base, short).await != Some(true) {
            continue;
        }
        let Some(differ) = differ(run, base, long).await else {
            continue;
        };
        run.expect(
            differ,
            Check::Cut,
            base.kind,
            format!(
                "two requests for two of {key} that differ in the last of {LONGEST} characters"
            ),
            || "the same one twice: it is cut".to_owned(),
        );
    }
}

/// A vendor is not told once more what it is to forget.
fn says_little(run: &Run<'_>, base: &Base) {
    let Ok(Value::Object(traits)) = serde_json::to_value(base.input.event.traits()) else {
        return;
    };
    let tokens: Vec<_> = base.sent.iter().map(|sent| sent.tokens()).collect();
    for leaf in leaves(&Value::Object(traits)) {
        // By an address a vendor may know them; a short value is there by
        // chance.
        let value = text(&leaf.value);
        if leaf.key == "email" || !leaf.value.is_string() || value.len() < 4 {
            continue;
        }
        run.expect(
            !tokens.iter().any(|tokens| tokens.contains(&value)),
            Check::Delete,
            base.kind,
            "whom it is about, and nothing else of them",
            || format!("traits{}", leaf.pointer.replace('/', ".")),
        );
    }
}

/// Items of one event with one message id: a vendor that tells repetitions by
/// it keeps one of them.
fn ids_of_their_own(run: &Run<'_>, base: &Base) {
    let id = base.input.message_id();
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for sent in &base.sent {
        for leaf in leaves(&sent.body()) {
            if !text(&leaf.value).contains(id) {
                continue;
            }
            let keys = leaf.pointer.split('/');
            let place: Vec<_> = keys.filter(|key| key.parse::<usize>().is_err()).collect();
            let place = format!("{} {}", sent.line(), place.join("/"));
            *seen.entry((place, text(&leaf.value))).or_default() += 1;
        }
    }
    for ((place, _), count) in seen {
        run.expect(
            count == 1,
            Check::MessageId,
            base.kind,
            "an id of its own for each item that an event becomes",
            || format!("the same one {count} times at {place}"),
        );
    }
}
