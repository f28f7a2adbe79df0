//! Whom a request is about.

use std::collections::BTreeMap;

use analytics_spec::{Kind, Value};

use super::Base;
use crate::conformance::{
    fixtures,
    places::{leaves, text},
    report::Check,
    trial::{Run, accepting, brief},
};

pub(crate) async fn all(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        told_apart(run, base).await;
        if base.kind == Kind::Delete && !run.suite.delete_has_traits {
            says_little(run, base);
        }
        ids_of_their_own(run, base);
    }
}

/// The same event of somebody else.
async fn told_apart(run: &Run<'_>, base: &Base) {
    let Some(other) = fixtures::of_another_person(&base.input) else {
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
        "another request for another person",
        || match &outcome {
            Ok(_) => "the same one".to_owned(),
            failed => brief(failed),
        },
    );
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
