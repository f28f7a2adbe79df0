//! Whatever people write: no panic, one outcome, no other URL.

use analytics_spec::{AnyInput, ErrorKind, Map, Value};
use serde_json::json;

use super::Base;
use crate::conformance::{
    fixtures::{IDS, NAMES},
    places::{leaves, shorten},
    report::Check,
    trial::{Run, accepting, brief},
    with,
};

/// Texts that people have, and that software has stumbled over. Those of the
/// first list are to arrive as they are.
pub(super) const ORDINARY: [&str; 10] = [
    "\u{1f469}\u{200d}\u{1f680}\u{1f3fd} astronaut",
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{202b}\u{639}\u{631}\u{628}\u{64a}\u{202c}",
    "e\u{301}\u{323}\u{302} Z\u{351}a\u{36b}lgo",
    "\u{65e5}\u{672c}\u{8a9e}\u{ff0c}\u{1f1ef}\u{1f1f5}",
    "\u{df}\u{130}\u{131}\u{fb01}\u{1e9e}",
    "\"quoted\" 'twice' \\ back\\slash",
    "<script>alert('1')</script> & {{it}} ${it} %s %n",
    "=cmd|' /C calc'!A1",
    "a/../../b?c=d&e#f;g%2F%00",
    "  spaces around ",
];
const ODD: [&str; 5] = [
    "line\nbreak\r\nheader: injected\ttab",
    "\u{1}\u{1b}[31m\u{7f}\u{85}\u{2028}",
    "\u{feff}\u{fffe}\u{ffff}\u{10ffff}",
    ".",
    "..",
];

pub(crate) async fn all(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        for hostile in ORDINARY.into_iter().chain(ODD) {
            ids(run, base, hostile).await;
            texts(run, base, hostile).await;
        }
        let long = "\u{1f409}a".repeat(20_000);
        ids(run, base, &"\u{1f409}".repeat(255)).await;
        ids(run, base, &format!("a{}", "\u{e9}".repeat(254))).await;
        texts(run, base, &long).await;
        for value in [
            json!(u64::MAX),
            json!(i64::MIN),
            json!(f64::MAX),
            json!(f64::MIN_POSITIVE),
            json!(9_007_199_254_740_993_i64),
            json!({}),
            json!([]),
            json!([[], {}, null, [null]]),
            Value::Null,
            deep(40),
        ] {
            values(run, base, &value).await;
        }
        bare(run, base).await;
    }
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!("bottom"), |inner, level| {
        if level % 2 == 0 {
            json!([inner])
        } else {
            json!({"down": inner})
        }
    })
}

/// A text in each id and name: in all of them, or, where validation refuses
/// that, in one after the other.
async fn ids(run: &Run<'_>, base: &Base, hostile: &str) {
    let cut: String = hostile.chars().take(255).collect();
    let (mut all, mut single) = (base.input.clone(), Vec::new());
    for key in IDS.into_iter().chain(NAMES) {
        let pointer = format!("/{}/{key}", base.kind);
        single.extend(with(&base.input, &pointer, Value::from(cut.clone())));
        // The two ids of an alias differ.
        if let Some(changed) = with(&all, &pointer, Value::from(cut.clone())) {
            all = changed;
        }
    }
    let Some(trial) = run.trial_of(base.kind, accepting()) else {
        return;
    };
    if trial.accepts(&all) {
        single = vec![all];
    }
    for input in single {
        outcome(run, base, input, hostile).await;
    }
}

/// A text among the traits or properties, as key and value, and around the
/// event.
async fn texts(run: &Run<'_>, base: &Base, hostile: &str) {
    if let Some(input) = with_entries(&base.input, hostile, &json!(hostile)) {
        outcome(run, base, input, hostile).await;
    }
    let Ok(json) = serde_json::to_value(&base.input) else {
        return;
    };
    let mut around = json.clone();
    let is_long = hostile.chars().count() > 255;
    for leaf in leaves(&json) {
        // What has a form of its own stays. A long text in each place would be
        // as many megabytes as there are places.
        let is_free = leaf.value.is_string()
            && leaf.pointer.starts_with("/context")
            && !["message_id", "timestamp", "ip"].contains(&leaf.key.as_str())
            && (!is_long || leaf.key == "user_agent");
        if is_free && let Some(place) = around.pointer_mut(&leaf.pointer) {
            *place = Value::from(hostile);
        }
    }
    match AnyInput::from_value(around) {
        Ok(around) => outcome(run, base, around, hostile).await,
        Err(error) => run.fail(
            Check::Hostile,
            base.kind,
            "any text in a context without a form",
            error.to_string(),
        ),
    }
}

async fn values(run: &Run<'_>, base: &Base, value: &Value) {
    if let Some(input) = with_entries(&base.input, "hostile", value) {
        outcome(run, base, input, &shorten(&value.to_string())).await;
    }
}

/// One more entry in each dictionary of the event.
pub(super) fn with_entries(input: &AnyInput, key: &str, value: &Value) -> Option<AnyInput> {
    let mut json = serde_json::to_value(input).ok()?;
    let event = json.get_mut(input.kind().as_str())?;
    for dictionary in ["traits", "properties"] {
        if let Some(Value::Object(map)) = event.get_mut(dictionary) {
            map.insert(key.to_owned(), value.clone());
            map.insert("nested".to_owned(), json!({key: [value]}));
        }
    }
    AnyInput::from_value(json).ok()
}

/// Nothing but what the specification requires; and empty dictionaries.
async fn bare(run: &Run<'_>, base: &Base) {
    let mut bare = base.input.clone();
    bare.context = analytics_spec::Context::new();
    bare.stamp(base.input.context.timestamp.unwrap_or_default());
    outcome(run, base, bare.clone(), "(no context)").await;
    for dictionary in ["traits", "properties"] {
        let pointer = format!("/{}/{dictionary}", base.kind);
        if let Some(input) = with(&bare, &pointer, Value::Object(Map::new())) {
            outcome(run, base, input, "(nothing but ids)").await;
        }
    }
    for key in IDS {
        let pointer = format!("/{}/{key}", base.kind);
        if let Some(input) = with(&base.input, &pointer, Value::Null) {
            outcome(run, base, input, &format!("(no {key})")).await;
        }
    }
}

/// One outcome; nothing is sent for what is refused as invalid, and what is
/// accepted has sound requests.
async fn outcome(run: &Run<'_>, base: &Base, mut input: AnyInput, what: &str) {
    let what = shorten(&format!("{what:?}"));
    let Some(trial) = run.trial_of(base.kind, accepting()) else {
        return;
    };
    let valid = trial.accepts(&input);
    let outcome = trial.send(&mut input).await;
    let sent = trial.wire.sent();
    if !valid {
        run.expect(
            !trial.prepares(&input),
            Check::Prepared,
            base.kind,
            format!("what validation refuses is not prepared: {what}"),
            || "it is".to_owned(),
        );
        run.expect(
            sent.is_empty()
                && outcome
                    .as_ref()
                    .is_err_and(|e| e.kind() == ErrorKind::Validation),
            Check::Invalid,
            base.kind,
            format!("a validation error and no request for {what}"),
            || format!("{}, {} requests", brief(&outcome), sent.len()),
        );
        return;
    }
    run.expect(
        outcome.is_ok(),
        Check::Hostile,
        base.kind,
        format!("what validation accepts is delivered: {what}"),
        || brief(&outcome),
    );
    run.expect(
        trial.prepares(&input),
        Check::Prepared,
        base.kind,
        format!("what validation accepts can be prepared: {what}"),
        || "it cannot".to_owned(),
    );
    let shapes: Vec<_> = base.sent.iter().map(|sent| sent.url_shape()).collect();
    for sent in &sent {
        let problem = sent.unreadable.clone();
        run.expect(
            problem.is_none(),
            Check::Hostile,
            base.kind,
            format!("a readable body for {what}"),
            || problem.unwrap_or_default(),
        );
        // An event with less in it may take other requests than the fixture.
        let is_less = what.starts_with("\"(");
        run.expect(
            is_less || shapes.contains(&sent.url_shape()),
            Check::Hostile,
            base.kind,
            format!(
                "a URL of the fixture's shape for {what}: {}",
                shapes.join("; ")
            ),
            || sent.url_shape(),
        );
    }
}
