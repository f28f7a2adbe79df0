//! Whom a request is about.

use std::collections::BTreeMap;

use analytics_spec::{AnyInput, Kind, Value};

use super::{Base, limits::largest};
use crate::conformance::{
    fixtures::{self, IDS, NAMES},
    places::{Leaf, leaves, text},
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

/// What no vendor cuts, and as long as an id may be.
const SHORT: usize = 8;
const LONGEST: usize = 255;

/// Whether of two texts of so many characters that differ in the last one, the
/// same is delivered; nothing, if that is so of short ones too, for what is not sent
/// at all is not cut either, or if validation refuses them.
async fn is_cut(run: &Run<'_>, base: &Base, key: &str, chars: usize) -> Option<bool> {
    let pair = |chars| {
        Some([
            ending(base, key, "x", chars)?,
            ending(base, key, "y", chars)?,
        ])
    };
    if !differ(run, base, pair(SHORT)?).await? {
        return None;
    }
    Some(!differ(run, base, pair(chars)?).await?)
}

/// The input with a text of so many characters in an id or name, if there is such a
/// one.
fn ending(base: &Base, key: &str, end: &str, chars: usize) -> Option<AnyInput> {
    let text = "n".repeat(chars.saturating_sub(end.len())) + end;
    with(&base.input, &format!("/{}/{key}", base.kind), text.into())
}

/// Ids and names that differ where they end.
async fn long(run: &Run<'_>, base: &Base) {
    let names = NAMES.into_iter().filter(|_| !run.suite.cuts_names);
    for key in IDS.into_iter().chain(names) {
        let Some(is_cut) = is_cut(run, base, key, LONGEST).await else {
            continue;
        };
        run.expect(
            !is_cut,
            Check::Cut,
            base.kind,
            format!(
                "two requests for two of {key} that differ in the last of {LONGEST} characters"
            ),
            || "the same one twice: it is cut".to_owned(),
        );
    }
}

/// More than most vendors take of a name.
const MOST_CHARS: usize = 40_000;

/// Whether the longest of some name that validation accepts is cut.
pub(super) async fn some_name_is_cut(run: &Run<'_>, bases: &[Base]) -> bool {
    for base in bases {
        let Some(trial) = run.trial_of(base.kind, accepting()) else {
            continue;
        };
        for key in NAMES {
            let fits = |more| {
                let input = ending(base, key, "x", SHORT + more);
                input.is_some_and(|input| trial.accepts(&input))
            };
            let more = largest(MOST_CHARS, fits).unwrap_or(MOST_CHARS);
            if is_cut(run, base, key, SHORT + more).await == Some(true) {
                return true;
            }
        }
    }
    false
}

/// The traits of a delete, but for addresses, that its requests have.
pub(super) fn traits_told(base: &Base) -> Vec<String> {
    let Ok(Value::Object(traits)) = serde_json::to_value(base.input.event.traits()) else {
        return Vec::new();
    };
    let tokens: Vec<_> = base.sent.iter().map(|sent| sent.tokens()).collect();
    let is_told = |leaf: &Leaf| {
        // By an address a vendor may know them; a short value is there by
        // chance.
        let value = text(&leaf.value);
        let counts = leaf.key != "email" && leaf.value.is_string() && value.len() >= 4;
        counts && tokens.iter().any(|tokens| tokens.contains(&value))
    };
    let told = leaves(&Value::Object(traits)).into_iter().filter(is_told);
    told.map(|leaf| format!("traits{}", leaf.pointer.replace('/', ".")))
        .collect()
}

/// A vendor is not told once more what it is to forget.
fn says_little(run: &Run<'_>, base: &Base) {
    for told in traits_told(base) {
        run.fail(
            Check::Delete,
            base.kind,
            "whom it is about, and nothing else of them",
            told,
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
