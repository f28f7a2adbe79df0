//! What people write arrives as they wrote it, or is refused.

use analytics_spec::Value;
use serde_json::json;

use super::{
    Base,
    hostile::{ORDINARY, with_entries},
    limits::{PAIR, largest},
};
use crate::conformance::{
    fixtures::{IDS, NAMES},
    places::{Leaf, leaves, text},
    report::Check,
    trial::{Run, accepting},
    wire::Sent,
    with,
};

/// More than most vendors take of one text.
const MOST_PAIRS: usize = 20_000;

/// The key of what is added.
const KEY: &str = "counted";

pub(crate) async fn all(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        for leaf in arriving(base) {
            for text in ORDINARY {
                unbent(run, base, &leaf, text).await;
            }
            let is_name = NAMES.contains(&leaf.key.as_str());
            let is_id = IDS.contains(&leaf.key.as_str());
            let may_be_cut = is_id || (is_name && run.suite.cuts_names);
            if !may_be_cut {
                whole(run, base, &leaf).await;
            }
        }
        values(run, base).await;
    }
}

/// Which texts of the fixture are tried: the ids and names, and the first entry,
/// of those that arrive as they are.
fn arriving(base: &Base) -> Vec<Leaf> {
    let arrives = |leaf: &Leaf| carries(&base.sent, &text(&leaf.value));
    let is_of = |leaf: &Leaf, parts: &[&str]| {
        let inside = leaf.pointer.strip_prefix(&format!("/{}", base.kind));
        inside.is_some_and(|inside| parts.iter().any(|part| inside.starts_with(part)))
    };
    let all = serde_json::to_value(&base.input).map_or_else(|_| Vec::new(), |json| leaves(&json));
    let mut found: Vec<_> = all
        .iter()
        .filter(|leaf| !is_of(leaf, &["/traits/", "/properties/"]))
        .filter(|leaf| IDS.contains(&leaf.key.as_str()) || NAMES.contains(&leaf.key.as_str()))
        .filter(|leaf| is_of(leaf, &["/"]) && arrives(leaf))
        .cloned()
        .collect();
    let mut entries = all.into_iter().filter(|leaf| {
        is_of(leaf, &["/traits/", "/properties/"])
            && leaf.value.is_string()
            && !leaf.pointer.ends_with("email")
    });
    found.extend(entries.find(|leaf| arrives(leaf)));
    found
}

fn carries(sent: &[Sent], wanted: &str) -> bool {
    places(sent, wanted) > 0
}

/// In how many places of the bodies a text stands.
fn places(sent: &[Sent], wanted: &str) -> usize {
    let bodies = sent.iter().flat_map(|sent| leaves(&sent.body()));
    bodies.filter(|leaf| text(&leaf.value) == wanted).count()
}

/// Where a text of the fixture arrives as it is, this one does too.
async fn unbent(run: &Run<'_>, base: &Base, leaf: &Leaf, text: &str) {
    let Some(input) = with(&base.input, &leaf.pointer, Value::from(text)) else {
        return;
    };
    let Some(trial) = run.trial_of(base.kind, accepting()) else {
        return;
    };
    if !trial.accepts(&input) {
        return;
    }
    let _ = trial.attempt(&input).await;
    let sent = trial.wire.sent();
    run.expect(
        sent.iter().any(|sent| sent.tokens().contains(text)),
        Check::Verbatim,
        base.kind,
        format!(
            "{text:?} arrives as it is, as {} of the fixture does",
            leaf.value
        ),
        || "it does not".to_owned(),
    );
}

/// Of what validation accepts, nothing is cut.
async fn whole(run: &Run<'_>, base: &Base, leaf: &Leaf) {
    let Some(trial) = run.trial_of(base.kind, accepting()) else {
        return;
    };
    let long = |pairs| with(&base.input, &leaf.pointer, Value::from(PAIR.repeat(pairs)));
    let fits = |pairs| long(pairs).is_some_and(|input| trial.accepts(&input));
    let pairs = largest(MOST_PAIRS, fits).unwrap_or(MOST_PAIRS);
    let Some(input) = long(pairs).filter(|_| pairs > 0) else {
        return;
    };
    let _ = trial.attempt(&input).await;
    run.expect(
        carries(&trial.wire.sent(), &PAIR.repeat(pairs)),
        Check::Verbatim,
        base.kind,
        format!(
            "the longest text that `validate` accepts arrives whole, as {} of the fixture does: \
             {} characters, which are {} bytes",
            leaf.value,
            2 * pairs,
            PAIR.len() * pairs
        ),
        || "it does not".to_owned(),
    );
}

/// A number of a few digits that the input's requests do not have.
fn unused(base: &Base) -> i64 {
    let taken = |number: &i64| {
        let forms = forms(*number);
        forms.iter().any(|form| carries(&base.sent, form))
    };
    (7_001..).find(|number| !taken(number)).unwrap_or_default()
}

/// How a number of a few digits may be written.
fn forms(number: i64) -> [String; 2] {
    [number.to_string(), format!("{number}.0")]
}

/// Numbers of 64 bits stay those, and nothing stays nothing.
async fn values(run: &Run<'_>, base: &Base) {
    let ordinary = unused(base);
    let counted = sent_with(run, base, &json!(ordinary)).await;
    let places = counted.map_or(0, |sent| {
        let forms = forms(ordinary);
        forms.iter().map(|form| places(&sent, form)).sum()
    });
    for number in [
        json!(9_007_199_254_740_993_i64),
        json!(u64::MAX),
        json!(i64::MIN),
    ] {
        if let Some(sent) = sent_with(run, base, &number).await {
            run.expect(
                self::places(&sent, &number.to_string()) >= places,
                Check::Verbatim,
                base.kind,
                format!("the number {number} arrives wherever {ordinary} does"),
                || "it does not: an f64 has 53 bits".to_owned(),
            );
        }
    }
    if let Some(sent) = sent_with(run, base, &Value::Null).await {
        let mut all = sent.iter().flat_map(|sent| leaves(&sent.body()));
        let is_text = |leaf: Leaf| leaf.key == KEY && leaf.value == "null";
        run.expect(
            !all.any(is_text),
            Check::Verbatim,
            base.kind,
            "null is null, or left out",
            || "the text \"null\"".to_owned(),
        );
    }
}

/// What is sent with one more entry; nothing, if validation does not accept it.
async fn sent_with(run: &Run<'_>, base: &Base, value: &Value) -> Option<Vec<Sent>> {
    let input = with_entries(&base.input, KEY, value)?;
    let trial = run.trial_of(base.kind, accepting())?;
    if !trial.accepts(&input) {
        return None;
    }
    let _ = trial.attempt(&input).await;
    Some(trial.wire.sent())
}
